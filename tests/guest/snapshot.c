/* What a snapshot has to put back. Every function says in its result what it met; the state between calls is
   in the globals, the heap, handles, mappings and threads that `prepare` makes. */
#include <windows.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>

#define OWN __declspec(dllexport) __attribute__((noinline))

BOOLEAN NTAPI SystemFunction036(void *buffer, ULONG size);

static int counter = 5;
static char *heap, *pages, *shared;
static HANDLE event, file, section, worker, key;
static unsigned char *code;
static volatile LONG done;

static DWORD WINAPI work(void *argument)
{
    for (;;) {
        WaitForSingleObject(event, INFINITE);
        if (InterlockedIncrement(&done) == 3) return 77;
    }
}

OWN int prepare(void)
{
    static const unsigned char one[] = {0xb8, 1, 0, 0, 0, 0xc3}; /* mov eax, 1; ret */
    heap = malloc(100000);
    memset(heap, 'h', 100000);
    pages = VirtualAlloc(0, 0x4000, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    memset(pages, 'p', 0x4000);
    event = CreateEventA(0, FALSE, FALSE, 0);
    file = CreateFileA("numbers.txt", GENERIC_READ, FILE_SHARE_READ, 0, OPEN_EXISTING, 0, 0);
    section = CreateFileMappingA(INVALID_HANDLE_VALUE, 0, PAGE_READWRITE, 0, 0x10000, 0);
    shared = MapViewOfFile(section, FILE_MAP_WRITE, 0, 0, 0);
    strcpy(shared, "shared");
    code = VirtualAlloc(0, 0x1000, MEM_RESERVE | MEM_COMMIT, PAGE_EXECUTE_READWRITE);
    memcpy(code, one, sizeof one);
    worker = CreateThread(0, 0, work, 0, 0, 0);
    RegCreateKeyA(HKEY_CURRENT_USER, "Software\\Snapshot", (HKEY *)&key);
    Sleep(1); /* the worker waits now */
    return file != INVALID_HANDLE_VALUE && pages && shared && code && worker && key;
}

OWN int count(void) { return ++counter; }

OWN int heap_sum(int change)
{
    int sum = 0;
    for (int at = 0; at < 100000; at += 1000) {
        sum += heap[at] == 'h';
        if (change) heap[at] = 'x';
    }
    return sum;
}

OWN int protection(int change)
{
    MEMORY_BASIC_INFORMATION info;
    VirtualQuery(pages + 0x1000, &info, sizeof info);
    DWORD old;
    if (change) VirtualProtect(pages + 0x1000, 0x1000, PAGE_READONLY, &old);
    return info.Protect;
}

OWN int state_of(void *address)
{
    MEMORY_BASIC_INFORMATION info;
    VirtualQuery(address, &info, sizeof info);
    return info.State;
}

OWN int pages_state(void) { return state_of(pages); }
OWN int page_content(void) { return pages[0x3fff]; }
OWN int free_pages(void) { pages[0x3fff] = 'x'; return VirtualFree(pages, 0, MEM_RELEASE); }

OWN void *allocate(void)
{
    char *there = VirtualAlloc(0, 0x10000, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    memset(there, 1, 0x10000);
    return there;
}

OWN int event_handle(void) { return (int)(INT_PTR)CreateEventA(0, TRUE, FALSE, 0); }
OWN int close_event(void) { return CloseHandle(event); }

OWN int wake(void)
{
    int is_there = SetEvent(event);
    DWORD code = 0;
    Sleep(1);
    GetExitCodeThread(worker, &code);
    return is_there ? done * 1000 + (code == STILL_ACTIVE ? 0 : code) : -1;
}

OWN int read_digit(void)
{
    char digit = 0;
    DWORD got = 0;
    return ReadFile(file, &digit, 1, &got, 0) && got ? digit - '0' : -1;
}

OWN int close_file(void) { return CloseHandle(file); }

OWN int share(int change)
{
    if (!change) return state_of(shared) == MEM_COMMIT ? shared[0] : -1;
    shared[0] = 'X';
    shared[0x8000] = 'Y';
    return UnmapViewOfFile(shared);
}

OWN int share_far(void) { return shared[0x8000]; }
OWN int run_code(void) { return ((int (*)(void))code)(); }
OWN int patch_code(void) { code[1] = 2; return run_code(); }

OWN int registry(int change)
{
    DWORD value = 0, size = sizeof value;
    if (change) {
        value = 42;
        return RegSetValueExA((HKEY)key, "value", 0, REG_DWORD, (BYTE *)&value, size);
    }
    return RegQueryValueExA((HKEY)key, "value", 0, 0, (BYTE *)&value, &size) ? -1 : (int)value;
}

OWN unsigned number(void)
{
    unsigned value;
    SystemFunction036(&value, sizeof value);
    return value ^ (unsigned)GetTickCount();
}

OWN int start_child(void)
{
    STARTUPINFOA start = {sizeof start};
    PROCESS_INFORMATION made;
    char line[600];
    GetModuleFileNameA(0, line, sizeof line);
    return CreateProcessA(line, 0, 0, 0, FALSE, CREATE_SUSPENDED, 0, 0, &start, &made);
}

OWN int watch_folder(void)
{
    static char changes[1000];
    static OVERLAPPED later;
    HANDLE folder = CreateFileA(".", FILE_LIST_DIRECTORY, 7, 0, OPEN_EXISTING,
                                FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OVERLAPPED, 0);
    return ReadDirectoryChangesW(folder, changes, sizeof changes, FALSE, 1, 0, &later, 0);
}

OWN void leave(int code) { ExitProcess(code); }
OWN void ready(void) { __asm__ volatile(""); }

int main(int argc, char **argv)
{
    printf("before\n");
    fflush(stdout);
    prepare();
    ready();
    printf("after %d %d\n", count(), read_digit());
    return 3;
}
