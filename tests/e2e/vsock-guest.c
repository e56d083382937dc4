/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The guest's side of the hv_sock tests.
 *     vsock-guest echo PORT                    gives back what each connection says, until its end
 *     vsock-guest talk PORT STREAMS BYTES      connects to the host so often at once, says BYTES,
 *                                              ends its side and checks what comes back
 *     vsock-guest hang PORT                    takes one connection and waits to be killed
 *     vsock-guest pour PORT                    takes one connection and writes until that is
 * refused
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

static int fail(const char *what)
{
    printf("VSOCK-FAILED %s: %s\n", what, strerror(errno));
    return 1;
}

static int server(unsigned port)
{
    struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port};
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 128))
        return -1;
    printf("VSOCK-LISTENS %u\n", port);
    fflush(stdout);
    return fd;
}

static int write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t w = write(fd, p, n);
        if (w <= 0)
            return -1;
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

static int echo(unsigned port)
{
    static char buf[32768];
    int s = server(port);
    for (;;) {
        int fd = s < 0 ? -1 : accept(s, NULL, NULL);
        if (fd < 0)
            return fail("accept");
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        if (fork() == 0) {
            ssize_t n;
            close(s);
            while ((n = read(fd, buf, sizeof buf)) > 0)
                if (write_all(fd, buf, (size_t)n))
                    return fail("write");
            return n < 0 ? fail("read") : 0;
        }
        close(fd);
    }
}

static char pattern(unsigned stream, size_t at)
{
    return (char)(at * 5 + (at >> 9) + stream);
}

/* One process writes, the other reads. */
static int talk_one(unsigned port, unsigned stream, size_t bytes)
{
    static char buf[16384];
    struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    struct timeval patience = {.tv_sec =
                                   60}; /* the host may be busy; it is two seconds otherwise */
    setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof patience);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a))
        return fail("connect");
    if (fork() == 0) {
        for (size_t at = 0; at < bytes;) {
            size_t n = bytes - at < sizeof buf ? bytes - at : sizeof buf;
            for (size_t i = 0; i < n; i++)
                buf[i] = pattern(stream, at + i);
            if (write_all(fd, buf, n))
                exit(fail("write"));
            at += n;
        }
        shutdown(fd, SHUT_WR);
        exit(0);
    }
    size_t got = 0;
    for (ssize_t n; (n = read(fd, buf, sizeof buf)) > 0; got += (size_t)n)
        for (ssize_t i = 0; i < n; i++)
            if (buf[i] != pattern(stream, got + (size_t)i)) {
                errno = 0;
                return fail("wrong byte");
            }
    errno = 0;
    close(fd);
    return got == bytes ? 0 : fail("short");
}

static int talk(unsigned port, unsigned streams, size_t bytes)
{
    int bad = 0, status;
    for (unsigned i = 0; i < streams; i++)
        if (fork() == 0)
            exit(talk_one(port, i, bytes));
    for (unsigned i = 0; i < streams; i++)
        if (wait(&status) < 0 || status)
            bad++;
    printf("VSOCK-TALKED %u bad %d\n", streams, bad);
    return bad != 0;
}

static int hang(unsigned port)
{
    int s = server(port);
    if (s < 0 || accept(s, NULL, NULL) < 0)
        return fail("accept");
    printf("VSOCK-HANGS\n");
    fflush(stdout);
    sleep(3600);
    return 0;
}

static int pour(unsigned port)
{
    static char buf[16384];
    int s = server(port), fd = s < 0 ? -1 : accept(s, NULL, NULL);
    if (fd < 0)
        return fail("accept");
    signal(SIGPIPE, SIG_IGN);
    printf("VSOCK-POURS\n");
    fflush(stdout);
    while (write_all(fd, buf, sizeof buf) == 0)
        ;
    printf("VSOCK-RESET %s\n", strerror(errno));
    return errno != EPIPE && errno != ECONNRESET;
}

int main(int argc, char **argv)
{
    unsigned port = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 2 && !strcmp(argv[1], "echo"))
        return echo(port);
    if (argc > 2 && !strcmp(argv[1], "hang"))
        return hang(port);
    if (argc > 2 && !strcmp(argv[1], "pour"))
        return pour(port);
    if (argc > 4 && !strcmp(argv[1], "talk"))
        return talk(port, (unsigned)atoi(argv[3]), strtoull(argv[4], NULL, 10));
    return 2;
}
