/* The 20th Fibonacci number by double recursion, n times, summed up: calls and returns. */
#include "kernel.h"

static __attribute__((noinline)) uint64_t fib(uint64_t n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

uint64_t kernel(uint64_t n)
{
    volatile uint64_t which = 20;
    uint64_t sum = 0;
    for (uint64_t round = 0; round < n; round++)
        sum += fib(which);
    return sum;
}
