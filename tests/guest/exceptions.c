/* Processor exceptions as a vectored handler sees them. Each case prints "name: code info0 info1 where". */
#include <stdio.h>
#include <windows.h>

static DWORD code;
static ULONG_PTR info[3];
static DWORD count;
static void *address;
static CONTEXT seen;
static void *volatile resume_at;

/* Note the exception and go on at resume_at. */
static LONG CALLBACK handler(EXCEPTION_POINTERS *p)
{
    EXCEPTION_RECORD *r = p->ExceptionRecord;
    if (r->ExceptionCode == 0x406D1388 || r->ExceptionCode == DBG_PRINTEXCEPTION_C) return EXCEPTION_CONTINUE_SEARCH;
    code = r->ExceptionCode;
    address = r->ExceptionAddress;
    count = r->NumberParameters;
    for (DWORD i = 0; i < 3; i++) info[i] = i < r->NumberParameters ? r->ExceptionInformation[i] : 0;
    seen = *p->ContextRecord;
    if (r->ExceptionCode != 0xe0000001) p->ContextRecord->Rip = (ULONG_PTR)resume_at;
    return EXCEPTION_CONTINUE_EXECUTION;
}

static void show(const char *name, int with_address)
{
    printf("%s: %08lx", name, code);
    for (DWORD i = 0; i < count && i < 2; i++) printf(" %llx", (unsigned long long)info[i]);
    if (with_address) printf(" at %s", address == (void *)seen.Rip ? "rip" : "elsewhere");
    printf("\n");
    code = 0;
    count = 0;
}

#define GUARDED(text, ...) \
    asm volatile("lea 1f(%%rip), %%rax\n\tmov %%rax, %0\n\t" text "\n1:\n" \
                 : "=m"(resume_at) : __VA_ARGS__ : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "xmm0", "memory", "cc")

static int depth_reached;
static int __attribute__((noinline)) recurse(int depth)
{
    volatile char frame[4000];
    frame[0] = (char)depth;
    depth_reached++;
    return depth ? recurse(depth - 1) + frame[0] : 0;
}

int main(void)
{
    AddVectoredExceptionHandler(1, handler);

    GUARDED("xor %%ecx, %%ecx\n\tmov (%%rcx), %%rdx", "m"(code));
    show("read-null", 1);
    GUARDED("xor %%ecx, %%ecx\n\tmov %%rdx, 0x10(%%rcx)", "m"(code));
    show("write-null", 1);
    GUARDED("mov $-1, %%rcx\n\tmov (%%rcx), %%dl", "m"(code));
    show("read-minus-one", 1);
    GUARDED("movabs $0x8000000000010000, %%rcx\n\tmov (%%rcx), %%dl", "m"(code));
    show("read-non-canonical", 1);
    GUARDED("movabs $0xffff800000010000, %%rcx\n\tmov (%%rcx), %%dl", "m"(code));
    show("read-kernel-half", 1);
    GUARDED("movabs $0xffff800000010000, %%rcx\n\tmov %%dl, (%%rcx)", "m"(code));
    show("write-kernel-half", 1);
    GUARDED("movabs $0x400000010000, %%rcx\n\tmov (%%rcx), %%dl", "m"(code));
    show("read-above", 1);

    GUARDED("xor %%ecx, %%ecx\n\tmov $1, %%eax\n\tcltd\n\tidiv %%ecx", "m"(code));
    show("divide-by-zero", 1);
    GUARDED("ud2", "m"(code));
    show("illegal", 1);
    GUARDED("int3", "m"(code));
    show("breakpoint", 1);
    GUARDED("hlt", "m"(code));
    show("privileged", 1);
    GUARDED("pushfq\n\torl $0x100, (%%rsp)\n\tpopfq\n\tnop", "m"(code));
    show("single-step", 1);
    GUARDED("lea 8(%%rsp), %%rcx\n\tand $-16, %%rcx\n\tmovaps 4(%%rcx), %%xmm0", "m"(code));
    show("misaligned-sse", 1);
    static const unsigned divide = 0x1d80, overflow = 0x1b80, masked = 0x1f80;
    static const float zero = 0, largest = 3.402823466e38f;
    GUARDED("ldmxcsr %1\n\tmovss %2, %%xmm0\n\tdivss %3, %%xmm0", "m"(divide), "m"(largest), "m"(zero));
    asm volatile("ldmxcsr %0" : : "m"(masked));
    show("float-divide", 1);
    GUARDED("ldmxcsr %1\n\tmovss %2, %%xmm0\n\tmulss %2, %%xmm0", "m"(overflow), "m"(largest));
    asm volatile("ldmxcsr %0" : : "m"(masked));
    show("float-overflow", 1);

    char *page = VirtualAlloc(NULL, 0x2000, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
    page[0] = (char)0xc3;
    resume_at = 0;
    DWORD old;
    asm volatile("lea 1f(%%rip), %%rax\n\tmov %%rax, %0\n\tmov %%rsp, %%rbx\n\tcall *%1\n1:\tmov %%rbx, %%rsp"
                 : "=m"(resume_at) : "r"(page) : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "memory", "cc");
    printf("execute-data: %08lx %llx %s\n", code, (unsigned long long)info[0],
           info[1] == (ULONG_PTR)page ? "page" : "other");
    VirtualProtect(page, 0x1000, PAGE_READONLY, &old);
    GUARDED("mov %1, %%rcx\n\tmov %%dl, 5(%%rcx)", "r"(page));
    printf("write-readonly: %08lx %llx %llx\n", code, (unsigned long long)info[0],
           (unsigned long long)(info[1] - (ULONG_PTR)page));
    VirtualProtect(page, 0x1000, PAGE_READWRITE | PAGE_GUARD, &old);
    GUARDED("mov %1, %%rcx\n\tmov 7(%%rcx), %%dl", "r"(page));
    printf("guard-page: %08lx %llx %llx\n", code, (unsigned long long)info[0],
           (unsigned long long)(info[1] - (ULONG_PTR)page));
    code = 0;
    GUARDED("mov %1, %%rcx\n\tmov 7(%%rcx), %%dl", "r"(page));
    printf("guard-gone: %08lx\n", code);

    code = 0;
    recurse(120);
    printf("deep-stack: %d %08lx\n", depth_reached, code);

    ULONG_PTR arguments[2] = {0x1234, 0x5678};
    RaiseException(0xe0000001, 0, 2, arguments);
    printf("raised: %08lx %llx %llx\n", code, (unsigned long long)info[0], (unsigned long long)info[1]);
    printf("done\n");
    fflush(stdout);
    ExitProcess(0);
}
