/* A debugger and the program it debugs, in one. Each case prints "name: values". */
#include <stdio.h>
#include <string.h>
#include <windows.h>

static const char *program;

static DWORD WINAPI thread(void *argument) { return 5; }

static int debuggee(const char *kind)
{
    if (!strcmp(kind, "quiet")) return 9;
    if (!strcmp(kind, "wait")) { Sleep(INFINITE); return 0; }
    if (!strcmp(kind, "crash")) { *(volatile int *)16 = 1; return 0; }
    printf("debugged: %d\n", IsDebuggerPresent());
    fflush(stdout);
    OutputDebugStringA("hello debugger");
    HANDLE other = CreateThread(NULL, 0, thread, NULL, 0, NULL);
    WaitForSingleObject(other, INFINITE);
    RaiseException(0xe0000001, 0, 1, (ULONG_PTR[]){7});
    return 3;
}

static LONG CALLBACK handler(EXCEPTION_POINTERS *info)
{
    if (info->ExceptionRecord->ExceptionCode != 0xe0000001) return EXCEPTION_CONTINUE_SEARCH;
    printf("handler: %llx\n", (unsigned long long)info->ExceptionRecord->ExceptionInformation[0]);
    fflush(stdout);
    return EXCEPTION_CONTINUE_EXECUTION;
}

static PROCESS_INFORMATION start(const char *kind, DWORD flags)
{
    char line[600];
    STARTUPINFOA startup = {.cb = sizeof startup};
    PROCESS_INFORMATION process = {0};
    snprintf(line, sizeof line, "\"%s\" %s", program, kind);
    if (!CreateProcessA(NULL, line, NULL, NULL, FALSE, flags, NULL, NULL, &startup, &process))
        printf("CreateProcess: error %lu\n", GetLastError());
    return process;
}

/* Serve events to the end of the process; `handled` is how the exception e0000001 is continued. */
static void debug(PROCESS_INFORMATION process, DWORD handled)
{
    DEBUG_EVENT event;
    int dlls = 0, first_breakpoint = 0;
    for (;;) {
        DWORD how = DBG_CONTINUE;
        if (!WaitForDebugEvent(&event, INFINITE)) { printf("wait: error %lu\n", GetLastError()); return; }
        switch (event.dwDebugEventCode) {
        case CREATE_PROCESS_DEBUG_EVENT: {
            WORD magic = 0;
            SIZE_T count = 0;
            DWORD read = 0;
            char head[2] = "";
            ReadProcessMemory(process.hProcess, event.u.CreateProcessInfo.lpBaseOfImage, &magic, 2, &count);
            ReadFile(event.u.CreateProcessInfo.hFile, head, 2, &read, NULL);
            printf("process: %d %x %.2s\n", event.dwProcessId == process.dwProcessId, magic, head);
            CloseHandle(event.u.CreateProcessInfo.hFile);
            break;
        }
        case LOAD_DLL_DEBUG_EVENT:
            dlls++;
            CloseHandle(event.u.LoadDll.hFile);
            break;
        case CREATE_THREAD_DEBUG_EVENT:
            if (event.u.CreateThread.lpStartAddress == thread) printf("new thread\n");
            break;
        case EXIT_THREAD_DEBUG_EVENT: printf("thread: %lu\n", event.u.ExitThread.dwExitCode); break;
        case OUTPUT_DEBUG_STRING_EVENT: {
            char text[64] = "";
            SIZE_T count;
            ReadProcessMemory(process.hProcess, event.u.DebugString.lpDebugStringData, text,
                              event.u.DebugString.nDebugStringLength, &count);
            printf("says: %s\n", text);
            break;
        }
        case EXCEPTION_DEBUG_EVENT: {
            DWORD code = event.u.Exception.ExceptionRecord.ExceptionCode;
            if (code == EXCEPTION_BREAKPOINT && !first_breakpoint++) break;
            printf("exception: %lx chance %lu\n", code, event.u.Exception.dwFirstChance);
            how = code == 0xe0000001 ? handled : DBG_EXCEPTION_NOT_HANDLED;
            break;
        }
        case EXIT_PROCESS_DEBUG_EVENT:
            printf("ends: %lx, first breakpoint %d, dlls %s\n", event.u.ExitProcess.dwExitCode,
                   first_breakpoint, dlls > 2 ? "some" : "too few");
            fflush(stdout);
            ContinueDebugEvent(event.dwProcessId, event.dwThreadId, DBG_CONTINUE);
            WaitForSingleObject(process.hProcess, INFINITE);
            return;
        }
        fflush(stdout);
        if (!ContinueDebugEvent(event.dwProcessId, event.dwThreadId, how))
            printf("continue: error %lu\n", GetLastError());
    }
}

int main(int argc, char **argv)
{
    program = argv[0];
    if (argc > 1) {
        AddVectoredExceptionHandler(1, handler);
        return debuggee(argv[1]);
    }
    printf("handled\n");
    debug(start("all", DEBUG_ONLY_THIS_PROCESS), DBG_CONTINUE);
    printf("left to the program\n");
    debug(start("all", DEBUG_PROCESS), DBG_EXCEPTION_NOT_HANDLED);
    printf("crash\n");
    debug(start("crash", DEBUG_PROCESS), DBG_CONTINUE);

    printf("attached\n");
    PROCESS_INFORMATION process = start("wait", 0);
    printf("attach: %d\n", DebugActiveProcess(process.dwProcessId));
    printf("again: %d\n", DebugActiveProcess(process.dwProcessId));
    BOOL present = FALSE;
    CheckRemoteDebuggerPresent(process.hProcess, &present);
    printf("present: %d\n", present);
    printf("detach: %d\n", DebugActiveProcessStop(process.dwProcessId));
    CheckRemoteDebuggerPresent(process.hProcess, &present);
    printf("present: %d\n", present);
    TerminateProcess(process.hProcess, 77);
    WaitForSingleObject(process.hProcess, INFINITE);
    DWORD code = 0;
    GetExitCodeProcess(process.hProcess, &code);
    printf("ended: %lu\n", code);
    printf("done\n");
    return 0;
}
