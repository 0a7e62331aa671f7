/* An interpreter whose 256 instructions are called through a table of functions, n times over: indirect calls. */
#include "kernel.h"

struct machine {
    uint64_t a, b;
    uint32_t taken;
};

typedef void operation(struct machine *, uint32_t);

static void add(struct machine *m, uint32_t x) { m->a += x + m->b; }
static void mix(struct machine *m, uint32_t x) { m->a ^= m->a >> 7 ^ x; }
static void swap(struct machine *m, uint32_t x) { uint64_t old = m->a; m->a = m->b + x; m->b = old; }
static void turn(struct machine *m, uint32_t x) { m->b = m->b << (x & 31) | m->b >> (64 - (x & 31) & 63); }
static void scale(struct machine *m, uint32_t x) { m->a *= 2 * (uint64_t)x + 1; }
static void test(struct machine *m, uint32_t x) { if ((m->a & 255) < x) m->taken++; }
static void take(struct machine *m, uint32_t x) { m->b -= m->a & x; }
static void step(struct machine *m, uint32_t x) { m->a += m->taken ^ x; }

static operation *volatile table[8] = {add, mix, swap, turn, scale, test, take, step};

uint64_t kernel(uint64_t n)
{
    static uint8_t program[256];
    struct machine m;
    uint32_t state = 1;
    m.a = 1, m.b = 2, m.taken = 0;
    for (int i = 0; i < 256; i++) {
        state = state * 1664525u + 1013904223u;
        program[i] = (uint8_t)(state >> 24);
    }
    for (uint64_t round = 0; round < n; round++)
        for (int i = 0; i < 256; i++)
            table[program[i] & 7](&m, program[i] >> 3);
    return m.a ^ m.b ^ m.taken;
}
