/* Creates, writes, renames and deletes files in dir\ while somebody outside swaps that folder for a link. */
#include <stdio.h>
#include <windows.h>

int main(void)
{
    int written = 0, refused = 0;
    for (int round = 0; round < 1500; round++) {
        char name[40];
        snprintf(name, sizeof name, "dir\\f%d.txt", round % 50);
        HANDLE file = CreateFileA(name, GENERIC_WRITE, 7, NULL, OPEN_ALWAYS, 0, NULL);
        if (file == INVALID_HANDLE_VALUE) {
            refused++;
        } else {
            DWORD count;
            WriteFile(file, "guest", 5, &count, NULL);
            CloseHandle(file);
            written++;
        }
        if (round % 7 == 0) DeleteFileA(name);
        if (round % 11 == 0) MoveFileExA(name, "dir\\moved.txt", MOVEFILE_REPLACE_EXISTING);
        if (round % 13 == 0) CreateDirectoryA("dir\\made", NULL);
    }
    printf("rounds %d\n", written + refused);
    return 0;
}
