/* Copies 16 KiB word by word, n times, changing the first word each time; a checksum of the copy. */
#include "kernel.h"

#define WORDS 2048

static uint64_t from[WORDS], to[WORDS];

static __attribute__((noinline)) void copy(uint64_t *out, const uint64_t *in, uint64_t count)
{
#pragma clang loop vectorize(disable) interleave(disable) unroll(disable)
    for (uint64_t i = 0; i < count; i++)
        out[i] = in[i];
}

uint64_t kernel(uint64_t n)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < WORDS; i++)
        from[i] = i * 0x9e3779b97f4a7c15u;
    for (uint64_t round = 0; round < n; round++) {
        from[0] = round;
        copy(to, from, WORDS);
        sum += to[0] ^ to[round % WORDS];
    }
    return sum;
}
