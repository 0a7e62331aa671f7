/* A program that starts itself: handles, exit codes, jobs. Each case prints "name: values". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

static PROCESS_INFORMATION start(const char *program, const char *arguments, BOOL inherit, STARTUPINFOA *startup)
{
    char line[600];
    PROCESS_INFORMATION process = {0};
    snprintf(line, sizeof line, "\"%s\" %s", program, arguments);
    if (!CreateProcessA(NULL, line, NULL, NULL, inherit, 0, NULL, NULL, startup, &process))
        printf("CreateProcess: error %lu\n", GetLastError());
    return process;
}

static DWORD finish(PROCESS_INFORMATION process)
{
    DWORD code = 0;
    WaitForSingleObject(process.hProcess, INFINITE);
    GetExitCodeProcess(process.hProcess, &code);
    CloseHandle(process.hThread);
    CloseHandle(process.hProcess);
    return code;
}

static DWORD enabled_privileges(void)
{
    HANDLE token;
    DWORD size, count = 0;
    char buffer[2000];
    TOKEN_PRIVILEGES *all = (TOKEN_PRIVILEGES *)buffer;
    OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &token);
    if (!GetTokenInformation(token, TokenPrivileges, all, sizeof buffer, &size)) return 99;
    for (DWORD i = 0; i < all->PrivilegeCount; i++)
        count += !!(all->Privileges[i].Attributes & SE_PRIVILEGE_ENABLED);
    return count;
}

int main(int argc, char **argv)
{
    STARTUPINFOA startup = {.cb = sizeof startup};
    DWORD count;
    if (argc > 2 && !strcmp(argv[1], "exit")) return atoi(argv[2]);
    if (argc > 2 && !strcmp(argv[1], "write")) {
        HANDLE pipe = (HANDLE)(ULONG_PTR)strtoull(argv[2], NULL, 16);
        WriteFile(pipe, "through the pipe", 16, &count, NULL);
        return 0;
    }
    if (argc > 2 && !strcmp(argv[1], "event")) {
        HANDLE event = OpenEventA(EVENT_MODIFY_STATE, FALSE, argv[2]);
        return SetEvent(event) ? 4 : 5;
    }
    if (argc > 1 && !strcmp(argv[1], "say")) {
        printf("child says %s\n", getenv("NEXUS_CASE"));
        return 0;
    }
    if (argc > 1 && !strcmp(argv[1], "privileges")) return enabled_privileges();
    if (argc > 1 && !strcmp(argv[1], "sleep")) Sleep(INFINITE);
    if (argc > 1 && !strcmp(argv[1], "crash")) *(volatile int *)8 = 1;

    printf("exit-code: %lu\n", finish(start(argv[0], "exit 37", FALSE, &startup)));

    SECURITY_ATTRIBUTES inheritable = {sizeof inheritable, NULL, TRUE};
    HANDLE reading, writing;
    CreatePipe(&reading, &writing, &inheritable, 0);
    char arguments[100], text[64] = "";
    snprintf(arguments, sizeof arguments, "write %llx", (unsigned long long)(ULONG_PTR)writing);
    PROCESS_INFORMATION child = start(argv[0], arguments, TRUE, &startup);
    CloseHandle(writing);
    ReadFile(reading, text, sizeof text - 1, &count, NULL);
    BOOL more = ReadFile(reading, text + count, 1, &count, NULL);
    printf("inherited: %s, more %d error %lu\n", text, more, GetLastError());
    finish(child);

    HANDLE event = CreateEventA(NULL, TRUE, FALSE, "Local\\nexus-spawn");
    DWORD code = finish(start(argv[0], "event Local\\nexus-spawn", FALSE, &startup));
    printf("named-event: %lu %lx\n", code, WaitForSingleObject(event, 0));

    SetEnvironmentVariableA("NEXUS_CASE", "hello");
    fflush(stdout);
    finish(start(argv[0], "say", TRUE, &startup));

    child = start(argv[0], "sleep", FALSE, &startup);
    printf("running: %lx", WaitForSingleObject(child.hProcess, 20));
    GetExitCodeProcess(child.hProcess, &code);
    printf(" %lu", code);
    TerminateProcess(child.hProcess, 55);
    printf(" terminated %lu\n", finish(child));

    SetErrorMode(SEM_NOGPFAULTERRORBOX);
    printf("crashed: %lx\n", finish(start(argv[0], "crash", FALSE, &startup)));

    HANDLE job = CreateJobObjectA(NULL, NULL);
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {0};
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits);
    child = start(argv[0], "sleep", FALSE, &startup);
    printf("job: %d", AssignProcessToJobObject(job, child.hProcess));
    CloseHandle(job);
    printf(" ended %lx\n", WaitForSingleObject(child.hProcess, 5000));

    STARTUPINFOEXA extended = {{sizeof extended}};
    char attributes[256];
    SIZE_T size = sizeof attributes;
    extended.lpAttributeList = (LPPROC_THREAD_ATTRIBUTE_LIST)attributes;
    job = CreateJobObjectA(NULL, NULL);
    InitializeProcThreadAttributeList(extended.lpAttributeList, 1, 0, &size);
    UpdateProcThreadAttribute(extended.lpAttributeList, 0, 0x2000d /* JOB_LIST */, &job, sizeof job, NULL, NULL);
    char line[MAX_PATH + 16];
    BOOL inside = FALSE;
    snprintf(line, sizeof line, "\"%s\" sleep", argv[0]);
    BOOL started = CreateProcessA(NULL, line, NULL, NULL, FALSE, EXTENDED_STARTUPINFO_PRESENT, NULL, NULL,
                                  &extended.StartupInfo, &child);
    IsProcessInJob(child.hProcess, job, &inside);
    printf("job-list: %d %d", started, inside);
    TerminateJobObject(job, 66);
    printf(" ended %lu\n", finish(child));
    HANDLE own, token;
    PROCESS_INFORMATION restricted = {0};
    OpenProcessToken(GetCurrentProcess(), TOKEN_ALL_ACCESS, &own);
    DuplicateTokenEx(own, TOKEN_ALL_ACCESS, NULL, SecurityImpersonation, TokenPrimary, &token);
    AdjustTokenPrivileges(token, TRUE, NULL, 0, NULL, NULL);
    char named[600];
    snprintf(named, sizeof named, "\"%s\" privileges", argv[0]);
    CreateProcessAsUserA(token, NULL, named, NULL, NULL, FALSE, 0, NULL, NULL, &startup, &restricted);
    DWORD here = enabled_privileges();
    printf("token: here %s, there %lu\n", here ? "some" : "none", finish(restricted));

    PROCESS_INFORMATION missing = {0};
    BOOL ok = CreateProcessA("Z:\\no\\such\\program.exe", NULL, NULL, NULL, FALSE, 0, NULL, NULL, &startup, &missing);
    printf("missing: %d %lu\n", ok, GetLastError());
    return 0;
}
