/* CRC-32 of n times the same 4,096 bytes, byte by byte with a table. */
#include "kernel.h"

static uint32_t table[256];
static uint8_t data[4096];

uint64_t kernel(uint64_t n)
{
    uint32_t crc = 0xffffffffu;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t entry = i;
        for (int bit = 0; bit < 8; bit++)
            entry = entry & 1 ? entry >> 1 ^ 0xedb88320u : entry >> 1;
        table[i] = entry;
    }
    for (uint32_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + (i >> 8));
    for (uint64_t round = 0; round < n; round++)
        for (uint32_t i = 0; i < sizeof data; i++)
            crc = table[(crc ^ data[i]) & 255] ^ crc >> 8;
    return crc ^ 0xffffffffu;
}
