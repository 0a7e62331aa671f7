/* What every kernel has: `kernel(n)`, which does n units of work and returns a number that depends on all of
   them, and a main that runs it for the n of its argument and prints the number and the nanoseconds of
   processor time that it took.

   `kernel` is exported, and calls nothing from outside its file, so that a harness can map the .exe and call
   it. Functions of the C library are for main alone. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef _WIN32
#include <windows.h>
#define EXPORT __declspec(dllexport)
static uint64_t nanoseconds(void)
{
    FILETIME created, ended, kernel, user;
    GetProcessTimes(GetCurrentProcess(), &created, &ended, &kernel, &user);
    return 100 * (((uint64_t)user.dwHighDateTime << 32) + user.dwLowDateTime +
                  ((uint64_t)kernel.dwHighDateTime << 32) + kernel.dwLowDateTime);
}
#else
#include <time.h>
#define EXPORT
static uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
#endif

EXPORT uint64_t kernel(uint64_t n);

int main(int argc, char **argv)
{
    uint64_t n, start, result;
    if (argc != 2) {
        fprintf(stderr, "usage: %s N\n", argv[0]);
        return 2;
    }
    n = strtoull(argv[1], 0, 10);
    start = nanoseconds();
    result = kernel(n);
    printf("%llu %llu\n", (unsigned long long)result, (unsigned long long)(nanoseconds() - start));
    return 0;
}
