/* What a program finds when it starts; run from a saved start it has to be that of this start. */
#include <windows.h>
#include <stdio.h>

BOOLEAN NTAPI SystemFunction036(void *buffer, ULONG size);

/* The loader puts a random number in place of this one. */
ULONG_PTR cookie = 0x2B992DDFA232;
const IMAGE_LOAD_CONFIG_DIRECTORY64 _load_config_used = {
    .Size = sizeof(IMAGE_LOAD_CONFIG_DIRECTORY64), .SecurityCookie = (ULONGLONG)&cookie};

static int callbacks;

static void NTAPI callback(void *module, DWORD reason, void *reserved)
{
    if (reason == DLL_PROCESS_ATTACH) {
        static const char text[] = "callback\r\n";
        DWORD written;
        callbacks++;
        WriteFile(GetStdHandle(STD_OUTPUT_HANDLE), text, sizeof text - 1, &written, 0);
    }
}

__attribute__((section(".CRT$XLB"), used)) static PIMAGE_TLS_CALLBACK tls = callback;

int main(int argc, char **argv)
{
    char text[2000] = "-", folder[2000], file[2000];
    unsigned random;
    FILETIME now, created, unused;
    DWORD size = 0;
    char line[100] = "";
    STARTUPINFOA info;

    GetEnvironmentVariableA("WHO", text, sizeof text);
    GetCurrentDirectoryA(sizeof folder, folder);
    GetModuleFileNameA(0, file, sizeof file);
    GetStartupInfoA(&info);
    printf("line %s\n", GetCommandLineA());
    for (int index = 1; index < argc; index++) printf("argument %s\n", argv[index]);
    for (char *each = GetEnvironmentStringsA(); *each; each += strlen(each) + 1) printf("variable %s\n", each);
    printf("who %s\nfolder %s\nfile %s\ntitle %s\n", text, folder, file, info.lpTitle);
    ReadFile(GetStdHandle(STD_INPUT_HANDLE), line, sizeof line - 1, &size, 0);
    printf("input %s\n", line);
    FILE *here = fopen("here.txt", "r");
    printf("here %d\n", here ? fgetc(here) : -1);
    SetEnvironmentVariableA("WHO", "a much longer value than there was before, so that the block has to grow");
    GetEnvironmentVariableA("WHO", text, sizeof text);
    printf("longer %d\n", (int)strlen(text));
    printf("ids %d %d\n", GetCurrentProcessId() == GetProcessId(GetCurrentProcess()),
           GetCurrentThreadId() == GetThreadId(GetCurrentThread()));
    printf("id %u\n", (unsigned)GetCurrentProcessId());
    printf("callbacks %d\n", callbacks);
    printf("version %d\n", LoadLibraryA("version.dll") != 0);
    fflush(stdout);

    GetSystemTimeAsFileTime(&now);
    GetProcessTimes(GetCurrentProcess(), &created, &unused, &unused, &unused);
    SystemFunction036(&random, sizeof random);
    fprintf(stderr, "time %llx\ncreated %llx\nrandom %x\npointer %p\ncookie %llx\nseed %lx\n",
            *(long long *)&now, *(long long *)&created, random, EncodePointer((void *)1), (long long)cookie,
            *(DWORD *)0x7ffe0330);
    return argc;
}
