// Calls that hooks watch and change; run by test_hooks.py. "child" as the argument: one call, then the end.
#include <windows.h>
#include <stdio.h>
#include <string.h>

__declspec(dllexport) int add_six(int a, short b, int c, int d, int e, long long f) {
    return a + b + c + d + e + (int)f;
}
static unsigned (*volatile deeper)(unsigned);
__declspec(dllexport) unsigned depth(unsigned n) {
    return n ? deeper(n - 1) + 1 : 0;
}
static void *leave[5];
__declspec(dllexport) __attribute__((noinline)) void jump_out(int value) {
    __builtin_longjmp(leave, 1);
}
static __attribute__((noinline)) void jump(int value) {
    if (!__builtin_setjmp(leave)) jump_out(value);
}
__declspec(dllexport) int counter = 5;

static DWORD WINAPI end_here(void *code) {
    ExitThread((DWORD)(size_t)code);
}

int main(int count, char **arguments) {
    setvbuf(stdout, NULL, _IONBF, 0);
    if (count > 1) {
        printf("child: %x\n", GetFileAttributesW(L"C:\\from-the-child"));
        return 0;
    }
    for (int i = 0; i < 3; i++)
        printf("attributes: %x %lu\n", GetFileAttributesW(L"C:\\no-such-file"), GetLastError());
    printf("windows: %x\n", GetFileAttributesW(L"C:\\elsewhere"));
    int (*volatile sum)(int, short, int, int, int, long long) = add_six;
    printf("sum: %d\n", sum(1, -2, 3, 4, 5, 0x100000000LL + 6));
    deeper = depth;
    printf("depth: %u\n", deeper(5));
    jump(1);
    jump(2);
    printf("jumped\n");
    HANDLE thread = CreateThread(NULL, 0, end_here, (void *)7, 0, NULL);
    WaitForSingleObject(thread, INFINITE);
    void *memory = HeapAlloc(GetProcessHeap(), 0, 1234);
    printf("heap: %d\n", memory != NULL);
    char self[MAX_PATH], line[MAX_PATH + 20];
    GetModuleFileNameA(NULL, self, sizeof self);
    sprintf(line, "\"%s\" child", self);
    STARTUPINFOA startup = {sizeof startup};
    PROCESS_INFORMATION child;
    if (CreateProcessA(self, line, NULL, NULL, FALSE, 0, NULL, NULL, &startup, &child))
        WaitForSingleObject(child.hProcess, INFINITE);
    return 0;
}
