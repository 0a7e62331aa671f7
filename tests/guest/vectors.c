/* The upper halves of the YMM registers over exceptions and in the contexts of threads; run by
   test_vectors.py. */
#include <stdint.h>
#include <stdio.h>
#include <windows.h>

static uint64_t before[4] __attribute__((aligned(32))) = {1, 2, 0x1111222233334444, 0x5555666677778888};
static uint64_t spun[4] __attribute__((aligned(32))) = {5, 6, 7, 8};
static uint64_t after[8] __attribute__((aligned(32)));
static volatile LONG spinning, stop;
static void *volatile resume_at;

static LONG CALLBACK handler(EXCEPTION_POINTERS *p)
{
    DWORD64 mask = 0;
    DWORD length = 0;
    M128A *ymm;
    if (p->ExceptionRecord->ExceptionCode != EXCEPTION_ACCESS_VIOLATION) return EXCEPTION_CONTINUE_SEARCH;
    GetXStateFeaturesMask(p->ContextRecord, &mask);
    ymm = LocateXStateFeature(p->ContextRecord, XSTATE_AVX, &length);
    printf("seen: %llx %lu %llx %llx\n", mask, length, ymm[0].Low, ymm[0].High);
    ymm[1].Low = 0xabcd;
    asm volatile("vzeroall" ::: "memory");
    p->ContextRecord->Rip = (ULONG_PTR)resume_at;
    return EXCEPTION_CONTINUE_EXECUTION;
}

static DWORD CALLBACK spin(void *unused)
{
    asm volatile("vmovups %2, %%ymm7\n\tmovl $1, %0\n1:\n\tpause\n\tcmpl $0, %1\n\tje 1b\n\tvmovups %%ymm7, %3"
                 : "=m"(spinning) : "m"(stop), "m"(spun), "m"(after) : "xmm7", "memory", "cc");
    printf("went on with: %llx %llx %llx %llx\n", after[0], after[1], after[2], after[3]);
    return 0;
}

int main(void)
{
    char buffer[4096];
    DWORD size = sizeof buffer, length;
    DWORD64 mask;
    CONTEXT *context;
    HANDLE thread;
    M128A *ymm;

    printf("features: %llx %d %d\n", GetEnabledXStateFeatures(), IsProcessorFeaturePresent(39),
           IsProcessorFeaturePresent(40));
    if (!GetEnabledXStateFeatures()) return 0;
    AddVectoredExceptionHandler(1, handler);
    asm volatile("lea 1f(%%rip), %%rax\n\tmov %%rax, %0\n\tvmovups %2, %%ymm0\n\tvmovups %2, %%ymm1\n\t"
                 "xor %%ecx, %%ecx\n\tmov (%%rcx), %%rdx\n1:\n\tvmovups %%ymm0, %1\n\tvmovups %%ymm1, 32+%1"
                 : "=m"(resume_at), "=m"(after) : "m"(before) : "rax", "rcx", "rdx", "xmm0", "xmm1", "memory", "cc");
    printf("kept: %llx %llx %llx %llx\n", after[0], after[1], after[2], after[3]);
    printf("changed: %llx %llx %llx %llx\n", after[4], after[5], after[6], after[7]);

    thread = CreateThread(0, 0, spin, 0, 0, 0);
    while (!spinning) Sleep(0);
    SuspendThread(thread);
    printf("context: %d\n", InitializeContext(buffer, CONTEXT_ALL | CONTEXT_XSTATE, &context, &size));
    SetXStateFeaturesMask(context, XSTATE_MASK_AVX);
    printf("got: %d", GetThreadContext(thread, context));
    GetXStateFeaturesMask(context, &mask);
    ymm = LocateXStateFeature(context, XSTATE_AVX, &length);
    printf(" %llx %lu %llx %llx\n", mask, length, ymm[7].Low, ymm[7].High);
    ymm[7].High = 0xfeed;
    printf("set: %d\n", SetThreadContext(thread, context));
    stop = 1;
    fflush(stdout);
    ResumeThread(thread);
    WaitForSingleObject(thread, INFINITE);
    return 0;
}
