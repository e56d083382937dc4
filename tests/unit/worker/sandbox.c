/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a process in the worker's sandbox can and cannot do; each in a process of its own. */
#include "app/worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static char folder[64];

/* Runs fn inside; true if it returned true. */
static bool inside(bool (*fn)(void), bool inet)
{
    pid_t pid = fork();
    if (pid == 0) {
        const char *own[] = {folder, NULL};
        err e = ERR_INIT;
        if (!sandbox_files(own, &e) || !sandbox_calls(inet, &e)) {
            fprintf(stderr, "%s\n", e.text);
            _exit(2);
        }
        _exit(fn() ? 0 : 1);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool open_fails(const char *path, int flags)
{
    int fd = open(path, flags, 0600);
    if (fd >= 0)
        close(fd);
    return fd < 0 && (errno == EACCES || errno == EPERM);
}

static bool in_folder(const char *name, char *out)
{
    return snprintf(out, 128, "%s/%s", folder, name) < 128;
}

static bool own_folder_works(void)
{
    char a[128], b[128];
    in_folder("a", a);
    in_folder("b", b);
    int fd = open(a, O_RDWR | O_CREAT, 0600);
    bool ok = fd >= 0 && write(fd, "x", 1) == 1 && ftruncate(fd, 0) == 0 && rename(a, b) == 0 &&
              unlink(b) == 0;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    strcpy(un.sun_path, a);
    int s = socket(AF_UNIX, SOCK_DGRAM, 0);
    return ok && s >= 0 && bind(s, (struct sockaddr *)&un, sizeof un) == 0 && unlink(a) == 0;
}

static bool other_files_are_out_of_reach(void)
{
    return open_fails("/etc/passwd", O_RDONLY) && open_fails("/tmp", O_RDONLY | O_DIRECTORY) &&
           open_fails("/tmp/vireo-sandbox-test", O_RDWR | O_CREAT) && open_fails("/", O_RDONLY) &&
           open_fails("/proc/1/status", O_RDONLY);
}

static bool nothing_is_executed(void)
{
    char *argv[] = {(char *)"true", NULL};
    execv("/bin/true", argv);
    return errno == EPERM || errno == EACCES;
}

static bool no_other_process_is_touched(void)
{
    return kill(getppid(), 0) != 0 && ptrace(PTRACE_ATTACH, getppid(), 0, 0) != 0 &&
           syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0) != 0 &&
           syscall(SYS_unshare, 0) != 0 && syscall(SYS_mount, "a", "/", "b", 0, NULL) != 0 &&
           syscall(SYS_bpf, 0, NULL, 0) != 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
}

static bool no_inet(void)
{
    return socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EPERM &&
           socket(AF_INET6, SOCK_DGRAM, 0) < 0 && socket(AF_NETLINK, SOCK_RAW, 0) < 0 &&
           socket(AF_PACKET, SOCK_RAW, 0) < 0;
}

/* What libslirp needs of a datagram: bytes waiting are asked for before they are read. */
static bool inet_works(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int s = socket(AF_INET, SOCK_DGRAM, 0), n = 0;
    return s >= 0 && bind(s, (struct sockaddr *)&a, len) == 0 &&
           getsockname(s, (struct sockaddr *)&a, &len) == 0 &&
           sendto(s, "abc", 3, 0, (struct sockaddr *)&a, len) == 3 && ioctl(s, FIONREAD, &n) == 0 &&
           n == 3 && open("/etc/resolv.conf", O_RDONLY) >= 0;
}

static bool keys_stay_out_of_terminals(void)
{
    char c = 'x';
    return ioctl(0, TIOCSTI, &c) != 0 && errno == EPERM;
}

static void *in_thread(void *ctx)
{
    return (void *)(intptr_t)(memfd_create("x", 0) >= 0 && socket(AF_INET, SOCK_STREAM, 0) < 0);
}

static bool threads_are_in_it_too(void)
{
    pthread_t t;
    void *ok = NULL;
    return pthread_create(&t, NULL, in_thread, NULL) == 0 && pthread_join(t, &ok) == 0 && ok;
}

static void the_sandbox_holds(void)
{
    strcpy(folder, "/tmp/vireo-sandbox-XXXXXX");
    CHECK(mkdtemp(folder));
    CHECK(inside(own_folder_works, false));
    CHECK(inside(other_files_are_out_of_reach, false));
    CHECK(inside(nothing_is_executed, false));
    CHECK(inside(no_other_process_is_touched, false));
    CHECK(inside(no_inet, false));
    CHECK(inside(inet_works, true));
    CHECK(inside(keys_stay_out_of_terminals, true));
    CHECK(inside(threads_are_in_it_too, false));
    CHECK(!inside(no_inet, true)); /* the test itself can fail */
    rmdir(folder);
}

static const struct check_test tests[] = {CHECK_TEST(the_sandbox_holds)};
CHECK_MAIN(tests)
