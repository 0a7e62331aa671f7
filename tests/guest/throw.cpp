// C++ exceptions through frames, destructors and threads. Each case prints "name: values".
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <vector>
#include <windows.h>

static int destroyed;
struct Guard {
    ~Guard() { destroyed++; }
};

static int __attribute__((noinline)) thrower(int depth)
{
    Guard guard;
    if (depth == 0) throw std::runtime_error("from the depth");
    return thrower(depth - 1) + 1;
}

static DWORD WINAPI carry(void *place)
{
    try {
        throw std::out_of_range("in a thread");
    } catch (...) {
        *static_cast<std::exception_ptr *>(place) = std::current_exception();
    }
    return 0;
}

int main()
{
    try {
        thrower(10);
    } catch (const std::exception &error) {
        std::printf("caught: %s %d\n", error.what(), destroyed);
    }
    try {
        try {
            throw 42;
        } catch (...) {
            throw;
        }
    } catch (int value) {
        std::printf("rethrown: %d\n", value);
    }
    int count = 0;
    for (int i = 0; i < 200; i++) {
        try {
            if (i % 2) throw std::vector<int>(3);
            throw i;
        } catch (const std::vector<int> &) {
            count += 1000;
        } catch (int number) {
            count += number;
        }
    }
    std::printf("many: %d\n", count);
    std::exception_ptr carried;
    HANDLE worker = CreateThread(nullptr, 0, carry, &carried, 0, nullptr);
    WaitForSingleObject(worker, INFINITE);
    try {
        std::rethrow_exception(carried);
    } catch (const std::out_of_range &error) {
        std::printf("carried: %s\n", error.what());
    }
    return 0;
}
