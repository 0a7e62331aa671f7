/* What CPUID, XGETBV and RDRAND tell a program, and far returns within its own code segment. */
#include <stdio.h>
#include <string.h>

static void cpuid(unsigned leaf, unsigned subleaf, unsigned r[4])
{
    __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(subleaf));
}

int main(void)
{
    unsigned r[4], leaf1[4], leaf7[4], low = 0, high = 0;
    unsigned long long number = 0, target = 0;
    unsigned char carry = 0;
    char vendor[13] = {0};

    cpuid(0, 0, r);
    memcpy(vendor, &r[1], 4);
    memcpy(vendor + 4, &r[3], 4);
    memcpy(vendor + 8, &r[2], 4);
    cpuid(1, 0, leaf1);
    cpuid(7, 0, leaf7);
    printf("vendor: %s\n", vendor);
    printf("sse4.2: %u avx: %u avx2: %u sha: %u\n", leaf1[2] >> 20 & 1, leaf1[2] >> 28 & 1, leaf7[1] >> 5 & 1,
           leaf7[1] >> 29 & 1);
    if (leaf1[2] >> 27 & 1)
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    printf("xcr0: %x\n", low);
    if (leaf1[2] >> 30 & 1)
        __asm__ volatile("rdrand %0\n\tsetc %1" : "=r"(number), "=qm"(carry));
    printf("random: %u %llx\n", carry, number);
    __asm__ volatile("mov %%cs, %0\n\tpush %0\n\tlea 1f(%%rip), %0\n\tpush %0\n\tlretq\n1:\tmov $1, %0"
                     : "=&r"(target));
    printf("far return: %llu\n", target);
    return 0;
}
