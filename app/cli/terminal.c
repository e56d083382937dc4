/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/cli/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "core/base/bytes.h"

static struct termios saved, raw;
static volatile sig_atomic_t is_raw;
static int guard_fd = -1; /* closing it ends the guard */
static pid_t guard;

static void set_saved(void)
{
    /* From the background (we were moved there, or are the guard) this would stop us. */
    sigset_t ttou, before;
    sigemptyset(&ttou);
    sigaddset(&ttou, SIGTTOU);
    sigprocmask(SIG_BLOCK, &ttou, &before);
    tcsetattr(STDIN_FILENO, TCSANOW, &saved);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

static void on_fatal(int signum)
{
    if (is_raw)
        set_saved();
    signal(signum, SIG_DFL);
    raise(signum);
}

/* The guard: waits until its parent is gone; a byte means that all is restored. */
static void guard_main(int fd)
{
    char c;
    ssize_t n;
    for (int i = 1; i < 1024; i++)
        if (i != fd)
            close(i);
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGTTOU, SIGTTIN};
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
        signal(ignored[i], SIG_IGN);
    do
        n = read(fd, &c, 1);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        set_saved();
    _exit(0);
}

static bool start_guard(err *e)
{
    int p[2];
    if (pipe(p) < 0)
        return err_errno(e, errno, "Starting the terminal's guard");
    guard = fork();
    if (guard == 0) {
        close(p[1]);
        prctl(PR_SET_NAME, "vireo-tty", 0, 0, 0);
        guard_main(p[0]);
    }
    close(p[0]);
    if (guard < 0) {
        close(p[1]);
        return err_errno(e, errno, "Starting the terminal's guard");
    }
    guard_fd = p[1];
    return true;
}

static bool set_raw(void)
{
    is_raw = 1;
    return tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

bool terminal_raw(err *e)
{
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS};
    if (tcgetattr(STDIN_FILENO, &saved) < 0)
        return err_errno(e, errno, "The terminal's modes");
    raw = saved;
    cfmakeraw(&raw);
    raw.c_oflag = saved.c_oflag; /* our own messages end their lines as always */
    if (!start_guard(e))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(fatal); i++)
        signal(fatal[i], on_fatal);
    atexit(terminal_restore);
    return set_raw() || err_errno(e, errno, "The terminal's modes");
}

void terminal_restore(void)
{
    if (!is_raw)
        return;
    set_saved();
    is_raw = 0;
    if (guard_fd >= 0) {
        ssize_t n = write(guard_fd, "", 1);
        (void)n;
        close(guard_fd);
        guard_fd = -1;
        waitpid(guard, NULL, 0);
    }
}

void terminal_suspend(void)
{
    if (is_raw)
        set_saved();
    raise(SIGSTOP);
    if (is_raw)
        set_raw();
}
