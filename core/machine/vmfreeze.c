/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A machine's memory, frozen by fork: the child writes it while the guest runs. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/machine/vm-int.h"
#include "core/machine/vmsave-int.h"

enum { POLL_MS = 10 };

/* Only what is safe in the child of a threaded program; PR_SET_PDEATHSIG goes by the thread that
 * forked, which is the I/O thread: it lives as long as the machine. */
static void child(struct memfile_writer *mem, pid_t parent)
{
    sigset_t all;
    int keep = memfile_writer_fd(mem);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0}); /* the guest goes first */
    if (getppid() != parent)
        _exit(ECANCELED);
    if (keep > 0)
        close_range(0, (unsigned)keep - 1, 0);
    close_range((unsigned)keep + 1, ~0u, 0);
    _exit(memfile_writer_run(mem));
}

pid_t vmsave_freeze(struct memfile_writer *mem, err *e)
{
    pid_t parent = getpid(), pid = _Fork();
    if (pid == 0)
        child(mem, parent);
    if (pid < 0)
        err_errno(e, errno, "The machine's memory cannot be frozen");
    return pid;
}

bool vmsave_wait(pid_t pid, struct memfile_writer *mem, const struct vm_progress *p, err *e)
{
    int status = 0;
    for (;;) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid)
            break;
        if (got < 0 && errno != EINTR)
            return err_errno(e, errno, "Waiting for the memory to be written");
        if (p && p->fn && !p->fn(p->ctx, memfile_writer_progress(mem)))
            memfile_writer_cancel(mem);
        nanosleep(&(struct timespec){0, POLL_MS * 1000000}, NULL);
    }
    if (!WIFEXITED(status))
        return err_set(e, ERR_IO, "What wrote the machine's memory was ended (signal %d)",
                       WTERMSIG(status));
    if (WEXITSTATUS(status) == ECANCELED)
        return err_set(e, ERR_CANCELLED, "It was cancelled");
    return WEXITSTATUS(status) == 0 ||
           err_errno(e, WEXITSTATUS(status), "The machine's memory was not written");
}

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif
enum { HUGE_PAGE = 2 << 20 };

struct ram {
    uint8_t *host[MEMFILE_REGIONS];
    uint64_t size[MEMFILE_REGIONS];
    unsigned n;
};

static bool note_ram(void *ctx, struct hv_region *r)
{
    struct ram *m = ctx;
    if (hv_region_kind(r) == HV_REGION_RAM && m->n < MEMFILE_REGIONS) {
        m->host[m->n] = hv_region_host(r);
        m->size[m->n++] = hv_region_size(r);
    }
    return true;
}

/* What the guest wrote while the child lived lies in small pages now, and the next fork would copy
 * an entry for each: they are made huge again, where all of a huge page is there (what the guest
 * gave back stays given back). Without effect where the kernel cannot. RAM stays as long as the
 * machine. */
void vmsave_make_huge(struct vm *v)
{
    unsigned char there[HUGE_PAGE / MEMFILE_PAGE];
    struct ram m = {.n = 0};
    hv_memory_each(hv_partition_memory(machine_partition(v->machine)), note_ram, &m);
    for (unsigned i = 0; i < m.n; i++)
        for (uint64_t at = -(uintptr_t)m.host[i] & (HUGE_PAGE - 1); at + HUGE_PAGE <= m.size[i];
             at += HUGE_PAGE)
            if (mincore(m.host[i] + at, HUGE_PAGE, there) == 0 && !memchr(there, 0, sizeof there))
                madvise(m.host[i] + at, HUGE_PAGE, MADV_COLLAPSE);
}

/* The memory of the checkpoint that the machine goes on from: what is the same is not written. */
struct memfile *vmsave_memory_below(const char *folder, const struct guid *parent)
{
    struct checkpoint_tree t;
    struct memfile *m = NULL;
    AUTO(str) states = checkpoint_states(folder, NULL);
    if (guid_is_zero(parent) || !states || !checkpoint_tree_load(folder, &t, NULL))
        return NULL;
    for (size_t i = 0; i < t.n; i++)
        if (guid_equal(&t.list[i].id, parent) && t.list[i].memory && t.list[i].complete)
            m = memfile_open(states, parent, NULL);
    checkpoint_tree_clear(&t);
    return m;
}
