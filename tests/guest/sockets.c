/* TCP and UDP over the loopback address, blocking, non-blocking, overlapped. Each case prints "name: values". */
#include <winsock2.h>
#include <ws2tcpip.h>
#include <mswsock.h>
#include <stdio.h>
#include <windows.h>

static struct sockaddr_in loopback(unsigned short port)
{
    struct sockaddr_in address = {0};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static unsigned short local_port(SOCKET s)
{
    struct sockaddr_in address;
    int length = sizeof(address);
    getsockname(s, (struct sockaddr *)&address, &length);
    return ntohs(address.sin_port);
}

static SOCKET listener(void)
{
    struct sockaddr_in address = loopback(0);
    SOCKET s = socket(AF_INET, SOCK_STREAM, 0);
    bind(s, (struct sockaddr *)&address, sizeof(address));
    listen(s, 4);
    return s;
}

static DWORD WINAPI client(void *port)
{
    struct sockaddr_in address = loopback((unsigned short)(INT_PTR)port);
    SOCKET s = socket(AF_INET, SOCK_STREAM, 0);
    char buffer[64];
    int got;
    if (connect(s, (struct sockaddr *)&address, sizeof(address))) return 1;
    send(s, "question", 8, 0);
    got = recv(s, buffer, sizeof(buffer), 0);
    shutdown(s, SD_SEND);
    closesocket(s);
    return got;
}

static void echo(void)
{
    SOCKET l = listener(), s;
    struct sockaddr_in peer;
    int length = sizeof(peer), got, end;
    char buffer[64];
    DWORD code;
    HANDLE thread = CreateThread(NULL, 0, client, (void *)(INT_PTR)local_port(l), 0, NULL);
    s = accept(l, (struct sockaddr *)&peer, &length);
    got = recv(s, buffer, sizeof(buffer), 0);
    send(s, "answer", 6, 0);
    end = recv(s, buffer + got, 1, 0);
    WaitForSingleObject(thread, INFINITE);
    GetExitCodeThread(thread, &code);
    printf("echo: %.*s %d %lu family %d length %d\n", got, buffer, end, code, peer.sin_family, length);
    closesocket(s);
    closesocket(l);
}

static void nonblocking(void)
{
    SOCKET l = listener(), c = socket(AF_INET, SOCK_STREAM, 0), s;
    struct sockaddr_in address = loopback(local_port(l));
    u_long one = 1;
    fd_set set;
    struct timeval second = {5, 0}, none = {0, 0};
    char buffer[8];
    int result, error, ready;
    ioctlsocket(c, FIONBIO, &one);
    result = connect(c, (struct sockaddr *)&address, sizeof(address));
    error = result ? WSAGetLastError() : 0;
    FD_ZERO(&set);
    FD_SET(c, &set);
    ready = select(0, NULL, &set, NULL, &second);
    s = accept(l, NULL, NULL);
    result = recv(c, buffer, sizeof(buffer), 0);
    printf("nonblocking: connect %d ready %d recv %d %d", error, ready, result, WSAGetLastError());
    FD_ZERO(&set);
    FD_SET(c, &set);
    printf(" idle %d", select(0, &set, NULL, NULL, &none));
    send(s, "x", 1, 0);
    FD_ZERO(&set);
    FD_SET(c, &set);
    printf(" data %d", select(0, &set, NULL, NULL, &second));
    closesocket(s);
    recv(c, buffer, 1, 0);
    FD_ZERO(&set);
    FD_SET(c, &set);
    printf(" closed %d", select(0, &set, NULL, NULL, &second));
    printf(" end %d\n", recv(c, buffer, 1, 0));
    closesocket(c);
    closesocket(l);
}

static void datagrams(void)
{
    SOCKET a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in address = loopback(0), from;
    int length = sizeof(from), got, small;
    char buffer[32];
    bind(a, (struct sockaddr *)&address, sizeof(address));
    address = loopback(local_port(a));
    sendto(b, "datagram", 8, 0, (struct sockaddr *)&address, sizeof(address));
    got = recvfrom(a, buffer, sizeof(buffer), 0, (struct sockaddr *)&from, &length);
    printf("datagrams: %.*s port %d", got, buffer, ntohs(from.sin_port) == local_port(b));
    sendto(b, "too long", 8, 0, (struct sockaddr *)&address, sizeof(address));
    small = recvfrom(a, buffer, 3, 0, NULL, NULL);
    printf(" small %d %d\n", small, WSAGetLastError());
    closesocket(a);
    closesocket(b);
}

static void events(void)
{
    SOCKET l = listener(), c = socket(AF_INET, SOCK_STREAM, 0), s;
    struct sockaddr_in address = loopback(local_port(l));
    WSAEVENT event = WSACreateEvent();
    WSANETWORKEVENTS found;
    char buffer[8];
    WSAEventSelect(c, event, FD_CONNECT | FD_READ | FD_CLOSE | FD_WRITE);
    connect(c, (struct sockaddr *)&address, sizeof(address));
    s = accept(l, NULL, NULL);
    WSAWaitForMultipleEvents(1, &event, TRUE, 5000, FALSE);
    WSAEnumNetworkEvents(c, event, &found);
    printf("events: connect %d", (found.lNetworkEvents & FD_CONNECT) != 0);
    send(s, "hi", 2, 0);
    do {
        WSAWaitForMultipleEvents(1, &event, TRUE, 5000, FALSE);
        WSAEnumNetworkEvents(c, event, &found);
    } while (!(found.lNetworkEvents & FD_READ));
    printf(" read %d", recv(c, buffer, 8, 0));
    closesocket(s);
    do {
        WSAWaitForMultipleEvents(1, &event, TRUE, 5000, FALSE);
        WSAEnumNetworkEvents(c, event, &found);
    } while (!(found.lNetworkEvents & FD_CLOSE));
    printf(" close %d\n", found.iErrorCode[FD_CLOSE_BIT]);
    closesocket(c);
    closesocket(l);
}

static void overlapped(void)
{
    SOCKET l = listener(), c = socket(AF_INET, SOCK_STREAM, 0);
    SOCKET s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback(local_port(l));
    HANDLE port = CreateIoCompletionPort((HANDLE)l, NULL, 1, 0);
    char room[2 * (sizeof(struct sockaddr_in) + 16)], buffer[16];
    OVERLAPPED accepting = {0}, reading = {0}, *done;
    DWORD bytes, flags = 0;
    ULONG_PTR key;
    WSABUF part = {sizeof(buffer), buffer};
    BOOL now = AcceptEx(l, s, room, 0, sizeof(struct sockaddr_in) + 16, sizeof(struct sockaddr_in) + 16, &bytes, &accepting);
    int error = now ? 0 : WSAGetLastError();
    CreateIoCompletionPort((HANDLE)s, port, 2, 0);
    connect(c, (struct sockaddr *)&address, sizeof(address));
    GetQueuedCompletionStatus(port, &bytes, &key, &done, 5000);
    printf("overlapped: accept %d key %d %d", error, (int)key, done == &accepting);
    error = WSARecv(s, &part, 1, &bytes, &flags, &reading, NULL) ? WSAGetLastError() : 0;
    send(c, "overlap", 7, 0);
    GetQueuedCompletionStatus(port, &bytes, &key, &done, 5000);
    printf(" read %d key %d %d %.*s\n", error, (int)key, done == &reading, (int)bytes, buffer);
    closesocket(s);
    closesocket(c);
    closesocket(l);
}

static void refused(void)
{
    SOCKET l = listener(), c = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback(local_port(l));
    int result;
    closesocket(l);
    result = connect(c, (struct sockaddr *)&address, sizeof(address));
    printf("refused: %d %d\n", result, WSAGetLastError());
    closesocket(c);
}

static void names(void)
{
    struct addrinfo hints = {0}, *found = NULL;
    char name[64];
    int result;
    hints.ai_family = AF_INET;
    hints.ai_socktype = SOCK_STREAM;
    result = getaddrinfo("127.0.0.1", "80", &hints, &found);
    printf("names: %d", result);
    if (!result) {
        struct sockaddr_in *address = (struct sockaddr_in *)found->ai_addr;
        printf(" %s:%d", inet_ntoa(address->sin_addr), ntohs(address->sin_port));
        freeaddrinfo(found);
    }
    printf(" host %d", gethostname(name, sizeof(name)));
    printf(" localhost %d\n", gethostbyname("localhost") != NULL);
}

static void options(void)
{
    SOCKET s = socket(AF_INET, SOCK_STREAM, 0);
    int value = 1, length = sizeof(value), kind = 0;
    struct linger linger = {1, 7};
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, (char *)&value, sizeof(value));
    value = 0;
    getsockopt(s, IPPROTO_TCP, TCP_NODELAY, (char *)&value, &length);
    length = sizeof(kind);
    getsockopt(s, SOL_SOCKET, SO_TYPE, (char *)&kind, &length);
    setsockopt(s, SOL_SOCKET, SO_LINGER, (char *)&linger, sizeof(linger));
    linger.l_linger = 0;
    length = sizeof(linger);
    getsockopt(s, SOL_SOCKET, SO_LINGER, (char *)&linger, &length);
    printf("options: nodelay %d type %d linger %d %d\n", value, kind, linger.l_onoff, linger.l_linger);
    value = 200;
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, (char *)&value, sizeof(value));
    closesocket(s);
}

static void timeout(void)
{
    SOCKET a = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in address = loopback(0);
    int value = 50, result;
    char buffer[4];
    bind(a, (struct sockaddr *)&address, sizeof(address));
    setsockopt(a, SOL_SOCKET, SO_RCVTIMEO, (char *)&value, sizeof(value));
    result = recv(a, buffer, sizeof(buffer), 0);
    printf("timeout: %d %d\n", result, WSAGetLastError());
    closesocket(a);
}

int main(void)
{
    WSADATA data;
    printf("startup: %d\n", WSAStartup(MAKEWORD(2, 2), &data));
    options();
    names();
    echo();
    nonblocking();
    datagrams();
    events();
    overlapped();
    refused();
    timeout();
    return 0;
}
