/* Ends by the exception that its argument names. */
#include <stdlib.h>
#include <string.h>
#include <windows.h>

static int __attribute__((noinline)) fall(int *where) { return *where + 1; }

static int overflow(int depth)
{
    volatile char frame[1000];
    frame[depth % 1000] = 1;
    return overflow(depth + 1) + frame[5];
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    if (!strcmp(how, "read")) return fall((int *)0x1230);
    if (!strcmp(how, "divide")) return argc / (argc - 2);
    if (!strcmp(how, "fastfail")) asm volatile("mov $7, %ecx; int $0x29");
    if (!strcmp(how, "raise")) RaiseException(0xe0001234, EXCEPTION_NONCONTINUABLE, 0, NULL);
    if (!strcmp(how, "overflow")) return overflow(0);
    if (!strcmp(how, "exit")) ExitProcess(0x12345678);
    if (!strcmp(how, "kill")) TerminateProcess(GetCurrentProcess(), 0xC0000005);
    if (!strcmp(how, "deadlock")) WaitForSingleObject(CreateEventW(NULL, 0, 0, NULL), INFINITE);
    return 1;
}
