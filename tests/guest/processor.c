// What the processor and the system say about time and number of processors; run by test_processor.py.
#include <cpuid.h>
#include <stdio.h>
#include <windows.h>
#include <x86intrin.h>

int main(void) {
    unsigned a, b, c, d;
    SYSTEM_INFO system;
    LARGE_INTEGER frequency, before, after;
    GetSystemInfo(&system);
    __cpuid(1, a, b, c, d);
    printf("processors: %lu %u\n", system.dwNumberOfProcessors, b >> 16 & 255);
    QueryPerformanceFrequency(&frequency);
    QueryPerformanceCounter(&before);
    unsigned long long first = __rdtsc(), second = __rdtsc(), earlier = first;
    printf("rising: %d\n", second > first);
    first = __rdtsc();
    Sleep(100);
    unsigned long long cycles = __rdtsc() - first;
    QueryPerformanceCounter(&after);
    double seconds = (double)(after.QuadPart - before.QuadPart) / frequency.QuadPart;
    printf("slept: %d\n", cycles >= 190000000 && cycles / 2e9 <= seconds);
    printf("stamps: %llu %llu\n", earlier, second + cycles);
}
