/* Packed SSE2: n times over 1,024 floats and as many integers, four at a time; a checksum of both. */
#include "kernel.h"
#include <emmintrin.h>

#define COUNT 1024

static float values[COUNT] __attribute__((aligned(16)));
static uint32_t numbers[COUNT] __attribute__((aligned(16)));

uint64_t kernel(uint64_t n)
{
    uint64_t sum = 0;
    __m128 half = _mm_set1_ps(0.5f), one = _mm_set1_ps(1.0f);
    for (int i = 0; i < COUNT; i++) {
        values[i] = (float)i;
        numbers[i] = (uint32_t)i * 2654435761u + 1;
    }
    for (uint64_t round = 0; round < n; round++) {
        for (int i = 0; i < COUNT; i += 4) {
            __m128i x = _mm_load_si128((__m128i *)(numbers + i));
            __m128 v = _mm_load_ps(values + i), fresh;
            x = _mm_xor_si128(x, _mm_slli_epi32(x, 13));
            x = _mm_xor_si128(x, _mm_srli_epi32(x, 17));
            x = _mm_xor_si128(x, _mm_slli_epi32(x, 5));
            _mm_store_si128((__m128i *)(numbers + i), x);
            fresh = _mm_cvtepi32_ps(_mm_srli_epi32(x, 20));
            v = _mm_add_ps(_mm_mul_ps(v, half), _mm_min_ps(fresh, _mm_add_ps(v, one)));
            _mm_store_ps(values + i, v);
        }
    }
    for (int i = 0; i < COUNT; i++)
        sum += numbers[i] ^ (uint64_t)(int64_t)(values[i] * 16.0f);
    return sum;
}
