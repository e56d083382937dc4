/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a worker may still do, in two steps. Files, before there is any thread: no new privileges,
 * no capabilities, and by Landlock nothing by path but the machine's folder, the runtime folders,
 * /dev/kvm and what libslirp and the clock read. Calls, when the machine is known: a list of system
 * calls for all threads; inet sockets only where an adapter is on the NAT; no exec.
 * Source: Linux Documentation/userspace-api/landlock.rst; must hold at ABI 2 (Debian 12).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "app/worker/sandbox.h"
#include "core/base/cleanup.h"

/* ---- files ---- */

enum {
    FS_READ = LANDLOCK_ACCESS_FS_READ_FILE,
    FS_LIST = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
    FS_OWN = FS_LIST | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
             LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR |
             LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK,
    FS_DEVICE = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE,
    FS_ABI_1 = (1 << 13) - 1, /* EXECUTE .. MAKE_SYM */
    FS_ABI_2 = 1 << 13,       /* REFER: renaming from folder to folder */
    FS_ABI_3 = 1 << 14,       /* TRUNCATE */
};

static bool allow(int rules, const char *path, uint64_t access, uint64_t handled, err *e)
{
    AUTO(fd) fd = path ? open(path, O_PATH | O_CLOEXEC) : -1;
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return true; /* what is not there needs no permission */
    if (!S_ISDIR(st.st_mode))
        access &= LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | FS_ABI_3;
    struct landlock_path_beneath_attr a = {.allowed_access = access & handled, .parent_fd = fd};
    if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &a, 0) != 0)
        return err_errno(e, errno, "the sandbox refused \"%s\"", path);
    return true;
}

static bool allow_system(int rules, uint64_t handled, err *e)
{
    static const char *const read[] = {"/etc/resolv.conf",
                                       "/etc/localtime",
                                       "/run/systemd/resolve",
                                       "/run/NetworkManager",
                                       "/run/resolvconf",
                                       "/usr/share/zoneinfo",
                                       "/usr/share/locale",
                                       "/proc/self",
                                       "/sys/devices/system/cpu",
                                       "/sys/kernel/mm/transparent_hugepage",
                                       "/sys/module/kvm_amd",
                                       "/sys/module/kvm_intel",
                                       "/proc/meminfo"};
    static const char *const devices[] = {"/dev/kvm", "/dev/null", "/dev/urandom"};
    for (size_t i = 0; i < sizeof read / sizeof read[0]; i++)
        if (!allow(rules, read[i], FS_LIST, handled, e))
            return false;
    for (size_t i = 0; i < sizeof devices / sizeof devices[0]; i++)
        if (!allow(rules, devices[i], FS_DEVICE, handled, e))
            return false;
    return true;
}

static bool drop_capabilities(err *e)
{
    struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    if (syscall(SYS_capset, &h, none) != 0)
        return err_errno(e, errno, "capabilities could not be given up");
    return true;
}

bool sandbox_files(const char *const *own, err *e)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return err_errno(e, errno, "privileges could not be given up");
    if (!drop_capabilities(e))
        return false;
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 1)
        return err_set(e, ERR_UNSUPPORTED, "this kernel has no Landlock");
    uint64_t handled = FS_ABI_1 | (abi >= 2 ? FS_ABI_2 : 0) | (abi >= 3 ? FS_ABI_3 : 0);
    struct landlock_ruleset_attr attr = {.handled_access_fs = handled};
    /* The structure of ABI 1: later members are not used. */
    AUTO(fd)
    rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr.handled_access_fs, 0);
    if (rules < 0)
        return err_errno(e, errno, "the sandbox could not be made");
    for (size_t i = 0; own[i]; i++)
        if (!allow(rules, own[i], FS_OWN | FS_ABI_2 | FS_ABI_3, handled, e))
            return false;
    if (!allow_system(rules, handled, e))
        return false;
    if (syscall(SYS_landlock_restrict_self, rules, 0) != 0)
        return err_errno(e, errno, "the sandbox could not be entered");
    return true;
}

/* ---- calls ---- */

static const int calls[] = {
    /* memory and threads */
    SCMP_SYS(brk),
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mprotect),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(mincore),
    SCMP_SYS(msync),
    SCMP_SYS(mlock),
    SCMP_SYS(munlock),
    SCMP_SYS(memfd_create),
    SCMP_SYS(membarrier),
    SCMP_SYS(futex),
    SCMP_SYS(futex_waitv),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(get_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(clone),
    SCMP_SYS(clone3),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(wait4),
    SCMP_SYS(waitid),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_setaffinity),
    SCMP_SYS(sched_setattr),
    SCMP_SYS(sched_getattr),
    SCMP_SYS(sched_getparam),
    SCMP_SYS(sched_getscheduler),
    SCMP_SYS(sched_setscheduler),
    SCMP_SYS(sched_get_priority_max),
    SCMP_SYS(sched_get_priority_min),
    SCMP_SYS(getpriority),
    SCMP_SYS(set_tid_address),
    SCMP_SYS(arch_prctl),
    SCMP_SYS(prctl),
    SCMP_SYS(restart_syscall),
    /* signals and time */
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigsuspend),
    SCMP_SYS(rt_sigtimedwait),
    SCMP_SYS(rt_sigpending),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(tgkill),
    SCMP_SYS(pause),
    SCMP_SYS(nanosleep),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(timerfd_gettime),
    SCMP_SYS(timer_create),
    SCMP_SYS(timer_settime),
    SCMP_SYS(timer_gettime),
    SCMP_SYS(timer_getoverrun),
    SCMP_SYS(timer_delete),
    SCMP_SYS(alarm),
    SCMP_SYS(setitimer),
    /* about oneself */
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(getppid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(getresuid),
    SCMP_SYS(getresgid),
    SCMP_SYS(getrusage),
    SCMP_SYS(getrlimit),
    SCMP_SYS(times),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
    SCMP_SYS(getcpu),
    SCMP_SYS(umask),
    SCMP_SYS(getcwd),
    SCMP_SYS(getrandom),
    /* descriptors */
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(preadv),
    SCMP_SYS(pwritev),
    SCMP_SYS(preadv2),
    SCMP_SYS(pwritev2),
    SCMP_SYS(lseek),
    SCMP_SYS(close),
    SCMP_SYS(close_range),
    SCMP_SYS(dup),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(fcntl),
    SCMP_SYS(flock),
    SCMP_SYS(pipe2),
    SCMP_SYS(eventfd2),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(select),
    SCMP_SYS(pselect6),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    SCMP_SYS(sync_file_range),
    SCMP_SYS(fallocate),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fstat),
    SCMP_SYS(fstatfs),
    SCMP_SYS(getdents64),
    SCMP_SYS(copy_file_range),
    SCMP_SYS(sendfile),
    SCMP_SYS(fadvise64),
    SCMP_SYS(readahead),
    SCMP_SYS(fchmod),
    SCMP_SYS(signalfd4),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register),
    SCMP_SYS(pidfd_open),
    SCMP_SYS(pidfd_send_signal),
    SCMP_SYS(userfaultfd),
    /* paths: Landlock says which */
    SCMP_SYS(open),
    SCMP_SYS(openat),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(statx),
    SCMP_SYS(statfs),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(mkdir),
    SCMP_SYS(mkdirat),
    SCMP_SYS(rmdir),
    SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),
    SCMP_SYS(rename),
    SCMP_SYS(renameat),
    SCMP_SYS(renameat2),
    SCMP_SYS(linkat), /* what was written without a name gets one */
    SCMP_SYS(inotify_init1),
    SCMP_SYS(inotify_add_watch),
    SCMP_SYS(inotify_rm_watch),
    /* sockets: which kinds, below */
    SCMP_SYS(socketpair),
    SCMP_SYS(bind),
    SCMP_SYS(listen),
    SCMP_SYS(accept),
    SCMP_SYS(accept4),
    SCMP_SYS(connect),
    SCMP_SYS(sendto),
    SCMP_SYS(recvfrom),
    SCMP_SYS(sendmsg),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendmmsg),
    SCMP_SYS(recvmmsg),
    SCMP_SYS(shutdown),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
};

static bool add_socket(scmp_filter_ctx f, int family)
{
    return seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                            SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)family)) == 0;
}

/* Every ioctl but those that put keys into a terminal: TIOCSTI, TIOCLINUX and, for that the filter
 * cannot say "between", most of what lies between them. */
static bool add_ioctl(scmp_filter_ctx f)
{
    enum { LINUX_TIOCLINUX = 0x541c };
    return seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_LT, TIOCSTI)) ==
               0 &&
           seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                            SCMP_A1(SCMP_CMP_EQ, FIONREAD)) == 0 &&
           seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                            SCMP_A1(SCMP_CMP_GT, LINUX_TIOCLINUX)) == 0;
}

/* Limits may be read, not changed. */
static bool add_limits(scmp_filter_ctx f)
{
    return seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1, SCMP_A2(SCMP_CMP_EQ, 0)) ==
           0;
}

static bool build(scmp_filter_ctx f, bool inet)
{
    if (seccomp_attr_set(f, SCMP_FLTATR_CTL_TSYNC, 1) != 0)
        return false;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        if (seccomp_rule_add(f, SCMP_ACT_ALLOW, calls[i], 0) != 0)
            return false;
    return add_socket(f, AF_UNIX) && add_ioctl(f) && add_limits(f) &&
           (!inet || (add_socket(f, AF_INET) && add_socket(f, AF_INET6)));
}

bool sandbox_calls(bool inet, err *e)
{
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!f)
        return err_set(e, ERR_NO_MEMORY, "the sandbox could not be made");
    bool ok = build(f, inet);
    int rc = ok ? seccomp_load(f) : 0;
    seccomp_release(f);
    if (!ok)
        return err_set(e, ERR_IO, "the sandbox could not be made");
    return rc == 0 || err_errno(e, -rc, "the sandbox could not be entered");
}
