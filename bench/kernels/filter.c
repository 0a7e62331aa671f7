/* An image filter for AVX2: n times over 256 by 64 bytes, every one becomes a quarter of the sum of the four
   around it and a constant, saturated; a checksum of the image. */
#include "kernel.h"
#include <immintrin.h>

#define WIDTH 256
#define HEIGHT 64
#define AVX2 __attribute__((target("avx2")))

static uint8_t image[HEIGHT + 2][WIDTH + 64] __attribute__((aligned(32)));
static uint8_t other[HEIGHT + 2][WIDTH + 64] __attribute__((aligned(32)));

AVX2 static void filter(uint8_t to[][WIDTH + 64], uint8_t from[][WIDTH + 64], __m256i constant)
{
    for (int y = 1; y <= HEIGHT; y++)
        for (int x = 32; x < WIDTH + 32; x += 32) {
            __m256i up = _mm256_load_si256((__m256i *)&from[y - 1][x]);
            __m256i down = _mm256_load_si256((__m256i *)&from[y + 1][x]);
            __m256i left = _mm256_loadu_si256((__m256i *)&from[y][x - 1]);
            __m256i right = _mm256_loadu_si256((__m256i *)&from[y][x + 1]);
            __m256i zero = _mm256_setzero_si256();
            __m256i low = _mm256_add_epi16(
                _mm256_add_epi16(_mm256_unpacklo_epi8(up, zero), _mm256_unpacklo_epi8(down, zero)),
                _mm256_add_epi16(_mm256_unpacklo_epi8(left, zero), _mm256_unpacklo_epi8(right, zero)));
            __m256i high = _mm256_add_epi16(
                _mm256_add_epi16(_mm256_unpackhi_epi8(up, zero), _mm256_unpackhi_epi8(down, zero)),
                _mm256_add_epi16(_mm256_unpackhi_epi8(left, zero), _mm256_unpackhi_epi8(right, zero)));
            __m256i sum = _mm256_packus_epi16(_mm256_srli_epi16(low, 2), _mm256_srli_epi16(high, 2));
            sum = _mm256_adds_epu8(sum, constant);
            sum = _mm256_blendv_epi8(sum, _mm256_xor_si256(up, down), _mm256_cmpeq_epi8(left, right));
            _mm256_store_si256((__m256i *)&to[y][x], sum);
        }
}

AVX2 uint64_t kernel(uint64_t n)
{
    uint64_t sum = 0;
    for (int y = 0; y < HEIGHT + 2; y++)
        for (int x = 0; x < WIDTH + 64; x++)
            image[y][x] = other[y][x] = (uint8_t)(x * 7 + y * 13);
    for (uint64_t round = 0; round < n; round++) {
        filter(other, image, _mm256_set1_epi8((char)round));
        filter(image, other, _mm256_set1_epi8(3));
    }
    for (int y = 1; y <= HEIGHT; y++)
        for (int x = 32; x < WIDTH + 32; x++)
            sum = sum * 31 + image[y][x];
    return sum;
}
