/* What the command line promises, one case per first argument. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

static volatile LONG events;

static BOOL WINAPI count(DWORD event) {
    InterlockedIncrement(&events);
    printf("event %lu\n", (unsigned long)event);
    fflush(stdout);
    return TRUE;
}

static BOOL WINAPI leave(DWORD event) {
    printf("leaving after %lu\n", (unsigned long)event);
    fflush(stdout);
    ExitProcess(7);
}

static int wait_for_signal(PHANDLER_ROUTINE handler) {
    if (handler) SetConsoleCtrlHandler(handler, TRUE);
    printf("ready\n");
    fflush(stdout);
    for (;;) Sleep(50);
}

static int copy_input(void) {
    char buffer[4096];
    DWORD got, put;
    HANDLE in = GetStdHandle(STD_INPUT_HANDLE), out = GetStdHandle(STD_OUTPUT_HANDLE);
    while (ReadFile(in, buffer, sizeof buffer, &got, NULL) && got)
        if (!WriteFile(out, buffer, got, &put, NULL)) return 9;
    return 0;
}

static void print_wide(const WCHAR *text) {
    char utf8[4096];
    DWORD put;
    int size = WideCharToMultiByte(CP_UTF8, 0, text, -1, utf8, sizeof utf8, NULL, NULL);
    WriteFile(GetStdHandle(STD_OUTPUT_HANDLE), utf8, size - 1, &put, NULL);
    WriteFile(GetStdHandle(STD_OUTPUT_HANDLE), "\n", 1, &put, NULL);
}

static int write_file(const WCHAR *name) {
    DWORD put;
    HANDLE file = CreateFileW(name, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, 0, NULL);
    if (file == INVALID_HANDLE_VALUE) {
        printf("error %lu\n", GetLastError());
        return 1;
    }
    WriteFile(file, "written\n", 8, &put, NULL);
    return 0;
}

int main(void) {
    int count_arguments;
    WCHAR **(WINAPI * split)(const WCHAR *, int *) =
        (void *)GetProcAddress(LoadLibraryW(L"shell32.dll"), "CommandLineToArgvW");
    WCHAR **argv = split(GetCommandLineW(), &count_arguments);
    const WCHAR *what = count_arguments > 1 ? argv[1] : L"";
    if (!wcscmp(what, L"exit")) ExitProcess(wcstoul(argv[2], NULL, 0));
    if (!wcscmp(what, L"crash")) *(volatile int *)0x10 = 1;
    if (!wcscmp(what, L"cat")) return copy_input();
    if (!wcscmp(what, L"write")) return write_file(argv[2]);
    if (!wcscmp(what, L"args"))
        for (int n = 2; n < count_arguments; n++) print_wide(argv[n]);
    if (!wcscmp(what, L"line")) print_wide(GetCommandLineW());
    if (!wcscmp(what, L"cwd")) {
        WCHAR folder[1024];
        GetCurrentDirectoryW(1024, folder);
        print_wide(folder);
    }
    if (!wcscmp(what, L"env")) {
        WCHAR value[1024] = L"(unset)";
        GetEnvironmentVariableW(argv[2], value, 1024);
        print_wide(value);
    }
    if (!wcscmp(what, L"sleep")) Sleep(INFINITE);
    if (!wcscmp(what, L"spin"))
        for (;;) InterlockedIncrement(&events);
    if (!wcscmp(what, L"flood"))
        for (;;) puts("flood flood flood flood flood flood flood flood");
    if (!wcscmp(what, L"handles")) return wait_for_signal(leave);
    if (!wcscmp(what, L"ignores")) return wait_for_signal(count);
    if (!wcscmp(what, L"plain")) return wait_for_signal(NULL);
    return 0;
}
