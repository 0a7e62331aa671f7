/* Four threads without any lock: each writes its letter into a common log whenever it has spun for a while, so the
   log shows where threads were interrupted. Prints the log's changes of letter and a checksum of it. */
#include <stdio.h>
#include <windows.h>

#define THREADS 4
#define ROUNDS 3000

static char text[THREADS * ROUNDS];
static volatile int used;
static volatile unsigned mixed;

static DWORD WINAPI writer(void *arg)
{
    int self = (int)(INT_PTR)arg;
    unsigned value = self + 1;
    for (int round = 0; round < ROUNDS; round++) {
        int spins = (round * 7 + self * 13) % 61;
        for (int i = 0; i < spins; i++) value = value * 1664525u + (value >> 7) + round;
        mixed ^= value;
        int at = used;
        text[at] = 'a' + self;
        used = at + 1;
    }
    return 0;
}

int main(void)
{
    HANDLE threads[THREADS];
    for (int i = 0; i < THREADS; i++) threads[i] = CreateThread(NULL, 0, writer, (void *)(INT_PTR)i, 0, NULL);
    WaitForMultipleObjects(THREADS, threads, TRUE, INFINITE);
    unsigned sum = 0, changes = 0;
    for (int i = 0; i < used; i++) {
        sum = sum * 31 + (unsigned char)text[i];
        changes += i && text[i] != text[i - 1];
    }
    printf("used %d changes %u sum %08x mixed %08x\n", used, changes, sum, (unsigned)mixed);
    return 0;
}
