/* A matrix product for AVX2 and FMA: n times a 96 by 96 product of floats, four rows of eight at a time. */
#include "kernel.h"
#include <immintrin.h>

#define SIZE 96
#define AVX2 __attribute__((target("avx2,fma")))

static float a[SIZE][SIZE] __attribute__((aligned(32)));
static float b[SIZE][SIZE] __attribute__((aligned(32)));
static float c[SIZE][SIZE] __attribute__((aligned(32)));

AVX2 static void multiply(void)
{
    for (int row = 0; row < SIZE; row += 4)
        for (int column = 0; column < SIZE; column += 16) {
            __m256 sums[4][2];
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 2; j++)
                    sums[i][j] = _mm256_load_ps(&c[row + i][column + 8 * j]);
            for (int k = 0; k < SIZE; k++) {
                __m256 left = _mm256_load_ps(&b[k][column]), right = _mm256_load_ps(&b[k][column + 8]);
                for (int i = 0; i < 4; i++) {
                    __m256 factor = _mm256_broadcast_ss(&a[row + i][k]);
                    sums[i][0] = _mm256_fmadd_ps(factor, left, sums[i][0]);
                    sums[i][1] = _mm256_fmadd_ps(factor, right, sums[i][1]);
                }
            }
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 2; j++)
                    _mm256_store_ps(&c[row + i][column + 8 * j], sums[i][j]);
        }
}

uint64_t kernel(uint64_t n)
{
    uint64_t sum = 0;
    for (int i = 0; i < SIZE * SIZE; i++) {
        (&a[0][0])[i] = (float)(i % 17) * 0.125f - 1.0f;
        (&b[0][0])[i] = (float)(i % 13) * 0.0625f - 0.375f;
        (&c[0][0])[i] = 0.0f;
    }
    for (uint64_t round = 0; round < n; round++)
        multiply();
    for (int i = 0; i < SIZE * SIZE; i++)
        sum = sum * 31 + (uint64_t)(int64_t)((&c[0][0])[i] * 16.0f);
    return sum;
}
