/* The sieve of Eratosthenes over the numbers below 2^18, n times; the primes found, in all. */
#include "kernel.h"

#define LIMIT (1u << 18)

static uint8_t composite[LIMIT];

static uint64_t sieve(void)
{
    uint64_t found = 0;
    for (uint32_t i = 0; i < LIMIT; i++)
        composite[i] = 0;
    for (uint32_t i = 2; i < LIMIT; i++) {
        if (composite[i])
            continue;
        found++;
        for (uint64_t j = (uint64_t)i * i; j < LIMIT; j += i)
            composite[j] = 1;
    }
    return found;
}

uint64_t kernel(uint64_t n)
{
    uint64_t sum = 0;
    for (uint64_t round = 0; round < n; round++)
        sum += sieve();
    return sum;
}
