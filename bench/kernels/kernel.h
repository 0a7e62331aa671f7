/* What every kernel has: `kernel(n)`, which does n units of work and returns a number that depends on all of
   them, and a start that runs it for the n of its argument and prints the number and the nanoseconds of
   processor time that it took.

   `kernel` is exported, and calls nothing from outside its file, so that a harness can map the .exe and call
   it. There is no C library in these programs: to build one for Windows takes a cold compiler two minutes. */

#include <stddef.h>
#include <stdint.h>

#define __MM_MALLOC_H /* or the headers of intrinsics would ask for the C library's */

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT
#endif

EXPORT uint64_t kernel(uint64_t n);

static uint64_t nanoseconds(void);
static void print(const char *text, size_t length);
static _Noreturn void leave(int code);

/* The number at the end of the command line, which is the only argument. */
static uint64_t number(const char *text)
{
    uint64_t n = 0;
    while (*text)
        text++;
    while (text[-1] == ' ' || text[-1] == '"')
        text--;
    for (uint64_t digit = 1; text[-1] >= '0' && text[-1] <= '9'; digit *= 10)
        n += digit * (uint64_t)(*--text - '0');
    return n;
}

static char *digits(char *end, uint64_t n)
{
    do
        *--end = (char)('0' + n % 10);
    while (n /= 10);
    return end;
}

static _Noreturn void run(const char *argument)
{
    char line[48], *end = line + sizeof line, *text = end;
    uint64_t n = number(argument), start = nanoseconds(), result = kernel(n);
    *--text = '\n';
    text = digits(text, nanoseconds() - start);
    *--text = ' ';
    text = digits(text, result);
    print(text, (size_t)(end - text));
    leave(0);
}

#ifdef _WIN32
#define SYSTEM __declspec(dllimport)
SYSTEM int GetProcessTimes(void *, uint64_t *, uint64_t *, uint64_t *, uint64_t *);
SYSTEM int WriteFile(void *, const void *, uint32_t, uint32_t *, void *);
SYSTEM void *GetStdHandle(uint32_t);
SYSTEM const char *GetCommandLineA(void);
SYSTEM _Noreturn void ExitProcess(uint32_t);

static uint64_t nanoseconds(void)
{
    uint64_t created, ended, kernel, user;
    GetProcessTimes((void *)-1 /* this process */, &created, &ended, &kernel, &user);
    return 100 * (kernel + user);
}

static void print(const char *text, size_t length)
{
    uint32_t written;
    WriteFile(GetStdHandle((uint32_t)-11 /* STD_OUTPUT_HANDLE */), text, (uint32_t)length, &written, 0);
}

static _Noreturn void leave(int code)
{
    ExitProcess((uint32_t)code);
}

_Noreturn void start(void)
{
    run(GetCommandLineA());
}
#else
static long ask(long call, long a, long b, long c)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "0"(call), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

static uint64_t nanoseconds(void)
{
    struct { int64_t seconds, nanoseconds; } now;
    ask(228 /* clock_gettime */, 2 /* CLOCK_PROCESS_CPUTIME_ID */, (long)&now, 0);
    return (uint64_t)(now.seconds * 1000000000 + now.nanoseconds);
}

static void print(const char *text, size_t length)
{
    ask(1 /* write */, 1, (long)text, (long)length);
}

static _Noreturn void leave(int code)
{
    for (;;)
        ask(231 /* exit_group */, code, 0, 0);
}

__asm__(".globl start\nstart: mov 16(%rsp), %rdi\n and $-16, %rsp\n call begin");

_Noreturn void begin(const char *argument)
{
    run(argument);
}
#endif
