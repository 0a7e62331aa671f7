/* Threads, thread-local storage, waits, APCs, timers. Each case prints "name: values". */
#include <process.h>
#include <stdio.h>
#include <windows.h>

static _Thread_local int local = 11;
static HANDLE start_event, mutex, semaphore;
static CRITICAL_SECTION section;
static volatile LONG counter, plain;
static DWORD tls_index;
static SRWLOCK lock = SRWLOCK_INIT;
static CONDITION_VARIABLE filled = CONDITION_VARIABLE_INIT;
static int queue[8], queued, consumed;

static DWORD WINAPI adder(void *arg)
{
    local += (int)(INT_PTR)arg;
    TlsSetValue(tls_index, arg);
    WaitForSingleObject(start_event, INFINITE);
    for (int i = 0; i < 2000; i++) {
        EnterCriticalSection(&section);
        int value = plain;
        if (i % 512 == 0) Sleep(0);
        plain = value + 1;
        LeaveCriticalSection(&section);
        InterlockedIncrement(&counter);
    }
    return (DWORD)(local + (int)(INT_PTR)TlsGetValue(tls_index));
}

static DWORD WINAPI abandoner(void *arg)
{
    (void)arg;
    WaitForSingleObject(mutex, INFINITE);
    return 0;
}

static DWORD WINAPI spinner(void *arg)
{
    volatile LONG *cell = arg;
    for (;;) (*cell)++;
    return 0;
}

static void CALLBACK apc(ULONG_PTR value) { printf("apc: %llu\n", (unsigned long long)value); }

static DWORD WINAPI sleeper(void *arg)
{
    SetEvent(arg);
    return SleepEx(INFINITE, TRUE);
}

static void CALLBACK timer_apc(void *context, DWORD low, DWORD high)
{
    printf("timer-apc: %d %d\n", *(int *)context, low != 0 || high != 0);
}

static DWORD WINAPI consumer(void *arg)
{
    (void)arg;
    int sum = 0;
    for (int i = 0; i < 20; i++) {
        AcquireSRWLockExclusive(&lock);
        while (!queued) SleepConditionVariableSRW(&filled, &lock, INFINITE, 0);
        sum += queue[--queued];
        consumed++;
        ReleaseSRWLockExclusive(&lock);
        WakeConditionVariable(&filled);
    }
    return (DWORD)sum;
}

static void CALLBACK pool_work(PTP_CALLBACK_INSTANCE instance, void *context, PTP_WORK work)
{
    (void)instance; (void)work;
    InterlockedIncrement((LONG *)context);
}

static void *main_fiber;
static int fiber_steps;
static void CALLBACK fiber(void *arg)
{
    for (;;) {
        fiber_steps += (int)(INT_PTR)arg;
        SwitchToFiber(main_fiber);
    }
}

static unsigned __stdcall crt_thread(void *arg) { return (unsigned)(INT_PTR)arg + 1; }

static DWORD WINAPI exits(void *arg) { ExitThread((DWORD)(INT_PTR)arg); }

int main(void)
{
    HANDLE threads[4];
    DWORD code, sum = 0;
    LARGE_INTEGER due;

    InitializeCriticalSection(&section);
    tls_index = TlsAlloc();
    start_event = CreateEventW(NULL, TRUE, FALSE, NULL);
    for (int i = 0; i < 4; i++) threads[i] = CreateThread(NULL, 0, adder, (void *)(INT_PTR)i, 0, NULL);
    printf("not-started: %lx\n", WaitForMultipleObjects(4, threads, FALSE, 10));
    SetEvent(start_event);
    printf("all: %lx\n", WaitForMultipleObjects(4, threads, TRUE, INFINITE));
    for (int i = 0; i < 4; i++) {
        GetExitCodeThread(threads[i], &code);
        sum += code;
        CloseHandle(threads[i]);
    }
    printf("counts: %ld %ld\n", counter, plain);
    printf("exit-codes: %lu main %d\n", sum, local);

    mutex = CreateMutexW(NULL, FALSE, NULL);
    threads[0] = CreateThread(NULL, 0, abandoner, NULL, 0, NULL);
    WaitForSingleObject(threads[0], INFINITE);
    printf("abandoned: %lx\n", WaitForSingleObject(mutex, INFINITE));
    printf("owned: %lx\n", WaitForSingleObject(mutex, 0));

    semaphore = CreateSemaphoreW(NULL, 1, 2, NULL);
    LONG previous = -1;
    BOOL ok = ReleaseSemaphore(semaphore, 1, &previous);
    printf("semaphore: %d %ld", ok, previous);
    ok = ReleaseSemaphore(semaphore, 1, &previous);
    printf(" %d %lu\n", ok, GetLastError());

    volatile LONG cell = 0;
    threads[0] = CreateThread(NULL, 0, spinner, (void *)&cell, 0, NULL);
    while (cell < 1000) Sleep(1);
    printf("suspend: %lu\n", SuspendThread(threads[0]));
    CONTEXT context;
    context.ContextFlags = CONTEXT_FULL;
    ok = GetThreadContext(threads[0], &context);
    LONG before = cell;
    Sleep(20);
    printf("suspended: %d %d %d\n", ok, context.Rip != 0 && context.Rsp != 0, cell == before);
    context.Rip = (DWORD64)(ULONG_PTR)ExitThread;
    context.Rcx = 77;
    context.Rsp = (context.Rsp & ~15ull) - 8 - 0x100;
    SetThreadContext(threads[0], &context);
    printf("resume: %lu\n", ResumeThread(threads[0]));
    WaitForSingleObject(threads[0], INFINITE);
    GetExitCodeThread(threads[0], &code);
    printf("redirected: %lu\n", code);

    HANDLE ready = CreateEventW(NULL, FALSE, FALSE, NULL);
    threads[0] = CreateThread(NULL, 0, sleeper, ready, 0, NULL);
    WaitForSingleObject(ready, INFINITE);
    Sleep(1);
    QueueUserAPC(apc, threads[0], 42);
    WaitForSingleObject(threads[0], INFINITE);
    GetExitCodeThread(threads[0], &code);
    printf("sleepex: %lx\n", code);
    QueueUserAPC(apc, GetCurrentThread(), 1);
    QueueUserAPC(apc, GetCurrentThread(), 2);
    printf("own-apcs: %lx\n", SleepEx(0, TRUE));

    int number = 5;
    HANDLE timer = CreateWaitableTimerW(NULL, FALSE, NULL);
    due.QuadPart = -50000;
    SetWaitableTimer(timer, &due, 0, timer_apc, &number, FALSE);
    printf("timer-wait: %lx\n", WaitForSingleObject(timer, INFINITE));
    SleepEx(50, TRUE);
    SetWaitableTimer(timer, &due, 2, NULL, NULL, FALSE);
    int ticks = 0;
    while (ticks < 3 && WaitForSingleObject(timer, 5000) == WAIT_OBJECT_0) ticks++;
    printf("periodic: %d\n", ticks);

    threads[0] = CreateThread(NULL, 0, consumer, NULL, 0, NULL);
    for (int i = 0; i < 20; i++) {
        AcquireSRWLockExclusive(&lock);
        while (queued == 8) SleepConditionVariableSRW(&filled, &lock, INFINITE, 0);
        queue[queued++] = i;
        ReleaseSRWLockExclusive(&lock);
        WakeConditionVariable(&filled);
    }
    WaitForSingleObject(threads[0], INFINITE);
    GetExitCodeThread(threads[0], &code);
    printf("condition: %lu %d\n", code, consumed);

    LONG worked = 0;
    PTP_WORK work = CreateThreadpoolWork(pool_work, &worked, NULL);
    for (int i = 0; i < 30; i++) SubmitThreadpoolWork(work);
    WaitForThreadpoolWorkCallbacks(work, FALSE);
    CloseThreadpoolWork(work);
    printf("threadpool: %ld\n", worked);

    main_fiber = ConvertThreadToFiber(NULL);
    void *other = CreateFiber(0, fiber, (void *)3);
    for (int i = 0; i < 4; i++) SwitchToFiber(other);
    DeleteFiber(other);
    printf("fibers: %d\n", fiber_steps);

    threads[0] = (HANDLE)_beginthreadex(NULL, 0, crt_thread, (void *)8, 0, NULL);
    WaitForSingleObject(threads[0], INFINITE);
    GetExitCodeThread(threads[0], &code);
    printf("beginthreadex: %lu\n", code);
    threads[0] = CreateThread(NULL, 0x40000, exits, (void *)9, CREATE_SUSPENDED, NULL);
    code = WaitForSingleObject(threads[0], 5);
    printf("created-suspended: %lx %lu\n", code, ResumeThread(threads[0]));
    WaitForSingleObject(threads[0], INFINITE);
    GetExitCodeThread(threads[0], &code);
    printf("exit-thread: %lu\n", code);
    threads[0] = CreateThread(NULL, 0, spinner, (void *)&cell, 0, NULL);
    TerminateThread(threads[0], 6);
    WaitForSingleObject(threads[0], INFINITE);
    GetExitCodeThread(threads[0], &code);
    printf("terminated: %lu\n", code);
    code = SignalObjectAndWait(ready, start_event, INFINITE, FALSE);
    printf("signal-and-wait: %lx %lx\n", code, WaitForSingleObject(ready, 0));
    DWORD failed = WaitForSingleObject((HANDLE)0x7777770, 0);
    printf("bad-handle: %lx %lu\n", failed, GetLastError());
    return 3;
}
