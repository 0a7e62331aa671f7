/* Files, folders, pipes, completion ports and the registry through Win32. Each case prints "name: values". */
#include <stdio.h>
#include <windows.h>

static void files(void)
{
    char text[32] = {0}, path[MAX_PATH];
    DWORD done;
    HANDLE a = CreateFileA("one.txt", GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ, NULL, CREATE_NEW, 0, NULL), b;
    WriteFile(a, "hello world", 11, &done, NULL);
    SetFilePointer(a, 6, NULL, FILE_BEGIN);
    ReadFile(a, text, sizeof(text), &done, NULL);
    printf("read: %s %lu size %lu\n", text, done, GetFileSize(a, NULL));
    b = CreateFileA("ONE.TXT", GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_EXISTING, 0, NULL);
    printf("sharing: %d %lu\n", b == INVALID_HANDLE_VALUE, GetLastError());
    printf("locked: %d", LockFile(a, 0, 0, 5, 0));
    b = CreateFileA("one.txt", GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_EXISTING, 0, NULL);
    printf(" %d", ReadFile(b, text, 4, &done, NULL));
    printf(" %lu\n", GetLastError());
    CloseHandle(b);
    CloseHandle(a);
    printf("exists: %d", CreateFileA("one.txt", GENERIC_READ, 0, NULL, CREATE_NEW, 0, NULL) == INVALID_HANDLE_VALUE);
    printf(" %lu\n", GetLastError());
    printf("rename: %d", MoveFileA("one.txt", "Two.txt"));
    printf(" %lu", GetFileAttributesA("one.txt"));
    printf(" %lu\n", GetFileAttributesA("TWO.TXT"));
    SetFileAttributesA("two.txt", FILE_ATTRIBUTE_READONLY);
    printf("readonly: %d", DeleteFileA("two.txt"));
    printf(" %lu", GetLastError());
    SetFileAttributesA("two.txt", FILE_ATTRIBUTE_NORMAL);
    printf(" %d\n", DeleteFileA("two.txt"));
    CreateDirectoryA("folder", NULL);
    a = CreateFileA("folder\\x", GENERIC_WRITE | DELETE, 7, NULL, CREATE_ALWAYS, FILE_FLAG_DELETE_ON_CLOSE, NULL);
    printf("folder: %d", RemoveDirectoryA("folder"));
    printf(" %lu", GetLastError());
    CloseHandle(a);
    printf(" %d\n", RemoveDirectoryA("folder"));
    GetFullPathNameA("a\\..\\b. ", sizeof(path), path, NULL);
    printf("full: %s\n", strrchr(path, '\\'));
}

static void finding(void)
{
    static const char *names[] = {"b.txt", "A.txt", "c.c", "d"};
    WIN32_FIND_DATAA found;
    HANDLE find;
    int i;
    for (i = 0; i < 4; i++) CloseHandle(CreateFileA(names[i], GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, 0, NULL));
    find = FindFirstFileA("*.t?t", &found);
    printf("find:");
    do printf(" %s", found.cFileName); while (FindNextFileA(find, &found));
    printf(" %lu\n", GetLastError());
    FindClose(find);
    find = FindFirstFileA("*.", &found);
    printf("no-extension:");
    do printf(" %s", found.cFileName); while (FindNextFileA(find, &found));
    printf("\n");
    FindClose(find);
    printf("none: %d", FindFirstFileA("x*", &found) == INVALID_HANDLE_VALUE);
    printf(" %lu\n", GetLastError());
    for (i = 0; i < 4; i++) DeleteFileA(names[i]);
}

static void completion(void)
{
    HANDLE file = CreateFileA("iocp", GENERIC_READ | GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, FILE_FLAG_OVERLAPPED, NULL);
    HANDLE port = CreateIoCompletionPort(file, NULL, 7, 0);
    OVERLAPPED at = {0}, *which;
    ULONG_PTR key;
    DWORD bytes;
    at.Offset = 100;
    printf("overlapped: %d", WriteFile(file, "12345", 5, NULL, &at));
    printf(" %lu", GetLastError());
    GetQueuedCompletionStatus(port, &bytes, &key, &which, 1000);
    printf(" %lu %d %d size %lu\n", bytes, (int)key, which == &at, GetFileSize(file, NULL));
    printf("empty: %d", GetQueuedCompletionStatus(port, &bytes, &key, &which, 10));
    printf(" %lu\n", GetLastError());
    CloseHandle(file);
    DeleteFileA("iocp");
}

static DWORD WINAPI asker(void *unused)
{
    char answer[16] = {0};
    DWORD got;
    (void)unused;
    CallNamedPipeA("\\\\.\\pipe\\nexus-test", "ask", 3, answer, sizeof(answer), &got, 5000);
    return got;
}

static void pipes(void)
{
    HANDLE server = CreateNamedPipeA("\\\\.\\pipe\\nexus-test", PIPE_ACCESS_DUPLEX,
                                     PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE, 1, 64, 64, 0, NULL);
    HANDLE thread = CreateThread(NULL, 0, asker, NULL, 0, NULL);
    char text[16] = {0};
    DWORD got, code;
    ConnectNamedPipe(server, NULL);
    ReadFile(server, text, sizeof(text), &got, NULL);
    WriteFile(server, "answer", 6, &code, NULL);
    WaitForSingleObject(thread, INFINITE);
    GetExitCodeThread(thread, &code);
    printf("transaction: %s %lu\n", text, code);
    printf("gone: %d", ReadFile(server, text, 1, &got, NULL));
    printf(" %lu\n", GetLastError());
    CloseHandle(server);
}

static void registry(void)
{
    HKEY key;
    DWORD disposition, kind, size = 4, number = 0, value = 77;
    char name[32];
    printf("create: %ld", RegCreateKeyExA(HKEY_CURRENT_USER, "Software\\Nexus\\Test", 0, NULL, 0, KEY_ALL_ACCESS, NULL, &key, &disposition));
    printf(" %lu\n", disposition);
    RegSetValueExA(key, "Number", 0, REG_DWORD, (BYTE *)&value, 4);
    RegQueryValueExA(key, "NUMBER", NULL, &kind, (BYTE *)&number, &size);
    printf("value: %lu %lu %lu\n", kind, number, size);
    size = 2;
    printf("short: %ld", RegQueryValueExA(key, "Number", NULL, &kind, (BYTE *)&number, &size));
    printf(" %lu\n", size);
    size = sizeof(name);
    printf("enum: %ld", RegEnumValueA(key, 0, name, &size, NULL, NULL, NULL, NULL));
    printf(" %s", name);
    size = sizeof(name);
    printf(" %ld\n", RegEnumValueA(key, 1, name, &size, NULL, NULL, NULL, NULL));
    RegCloseKey(key);
    printf("parent: %ld", RegDeleteKeyA(HKEY_CURRENT_USER, "Software\\Nexus"));
    printf(" %ld", RegDeleteTreeA(HKEY_CURRENT_USER, "Software\\Nexus"));
    printf(" %ld\n", RegOpenKeyA(HKEY_CURRENT_USER, "Software\\Nexus", &key));
}

int main(void)
{
    char folder[MAX_PATH];
    GetTempPathA(sizeof(folder), folder);
    strcat(folder, "storage");
    CreateDirectoryA(folder, NULL);
    SetCurrentDirectoryA(folder);
    files();
    finding();
    completion();
    pipes();
    registry();
    return 0;
}
