/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Dynamic memory and guest sockets of a whole machine. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/machine/vm-int.h"

enum { HOT_ADD_BLOCK = 128 << 20 };

/* ---- making; I/O thread ---- */

static bool add_ram(void *ctx, uint64_t gpa, uint64_t size, err *e)
{
    struct vm *v = ctx;
    return hv_memory_add_ram(hv_partition_memory(machine_partition(v->machine)), gpa, size, e) !=
           NULL;
}

static bool highest(void *ctx, struct hv_region *r)
{
    uint64_t *end = ctx;
    if (hv_region_kind(r) == HV_REGION_RAM)
        *end = MAX(*end, hv_region_gpa(r) + hv_region_size(r));
    return true;
}

static void on_memory(void *ctx)
{
    vm_changed(ctx, VM_CHANGED_MEMORY);
}

bool vm_guest_make(struct vm *v, const struct vm_config *c, err *e)
{
    uint64_t end = GIB(4); /* added memory lies above the holes */
    hv_memory_each(hv_partition_memory(machine_partition(v->machine)), highest, &end);
    v->hot_add_base = align_up(end, HOT_ADD_BLOCK);
    struct balloon_params p = {
        .bus = v->bus,
        .max_bytes = c->memory_dynamic && !c->hibernation ? MIB(MAX(c->memory_max, c->memory)) : 0,
        .hot_add_base = v->hot_add_base,
        .add_ram = add_ram,
        .changed = on_memory,
        .ctx = v,
    };
    v->balloon = balloon_new(&p, e);
    if (!v->balloon || !vm_provider_add(v, balloon_as_device(v->balloon), e))
        return false;
    v->sockets = hvsock_new(v->bus, e);
    return v->sockets && vm_provider_add(v, hvsock_as_device(v->sockets), e);
}

/* ---- memory ---- */

static void set_memory(struct vm_call *c)
{
    c->ok = balloon_set_target(c->v->balloon, *(uint64_t *)c->arg, c->e);
}

bool vm_set_memory(struct vm *v, uint64_t bytes, err *e)
{
    return vm_call(v, set_memory, &bytes, e);
}

static void get_memory(struct vm_call *c)
{
    balloon_status(c->v->balloon, c->arg);
}

void vm_memory(struct vm *v, struct balloon_status *out)
{
    vm_call(v, get_memory, out, NULL);
}

/* ---- sockets ---- */

/* The asker waits for `fd` on a pipe: whoever comes first, the answer or its end, is fine. */
struct connect {
    uint32_t port;
    unsigned timeout_ms;
    int pipe; /* the end to write the descriptor's number to */
};

static void connected(void *ctx, int fd)
{
    struct connect *c = ctx;
    if (write(c->pipe, &fd, sizeof fd) != (ssize_t)sizeof fd)
        auto_close(fd);
    close(c->pipe);
    free(c);
}

static void start_connect(struct vm_call *call)
{
    struct connect *c = call->arg;
    call->ok = hvsock_connect_fd(call->v->sockets, c->port, c->timeout_ms, connected, c, call->e);
}

int vm_connect_guest(struct vm *v, uint32_t port, unsigned timeout_ms, err *e)
{
    int ends[2], fd = -1;
    struct connect *c = malloc(sizeof *c);
    if (!c || pipe2(ends, O_CLOEXEC) != 0) {
        free(c);
        err_errno(e, errno, "A connection to the guest cannot be made");
        return -1;
    }
    *c = (struct connect){port, timeout_ms, ends[1]};
    if (!vm_call(v, start_connect, c, e)) {
        close(ends[1]);
        close(ends[0]);
        free(c);
        return -1;
    }
    ssize_t n = read(ends[0], &fd, sizeof fd); /* ends at the latest by the time-out */
    close(ends[0]);
    if (n != (ssize_t)sizeof fd || fd < 0) {
        err_set(e, ERR_TIMEOUT, "No program in the guest took the connection to port %u", port);
        return -1;
    }
    return fd;
}

/* A listening socket of a client: the guest's connections become connections to it. */
struct guest_listener {
    struct sockaddr_un address;
    socklen_t len;
};

static bool accept_guest(void *ctx, struct hvsock_stream *s, uint32_t host_port,
                         uint32_t guest_port)
{
    struct guest_listener *l = ctx;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&l->address, l->len) != 0) {
        auto_close(fd);
        return false;
    }
    return hvsock_join_accepted(s, fd, NULL);
}

struct listen_call {
    uint32_t port;
    struct guest_listener *listener;
};

static void start_listen(struct vm_call *call)
{
    struct listen_call *l = call->arg;
    if (l->listener) {
        hvsock_unlisten(call->v->sockets, l->port);
        call->ok =
            hvsock_listen_owned(call->v->sockets, l->port, accept_guest, l->listener, call->e);
    } else {
        hvsock_unlisten(call->v->sockets, l->port);
    }
}

bool vm_listen_guest(struct vm *v, uint32_t port, int listener, err *e)
{
    struct listen_call l = {.port = port};
    if (listener >= 0) {
        l.listener = calloc(1, sizeof *l.listener);
        if (!l.listener)
            return err_set(e, ERR_NO_MEMORY, "There is no memory to listen for the guest");
        l.listener->len = sizeof l.listener->address;
        if (getsockname(listener, (struct sockaddr *)&l.listener->address, &l.listener->len) != 0 ||
            l.listener->address.sun_family != AF_UNIX) {
            free(l.listener);
            return err_set(e, ERR_INVALID, "What the guest's connections go to is no Unix socket");
        }
    }
    bool ok = vm_call(v, start_listen, &l, e);
    if (!ok)
        free(l.listener);
    return ok;
}

struct accept_call {
    uint32_t port;
    vm_guest_accept_fn *accept;
    void *ctx;
};

static void start_accept(struct vm_call *call)
{
    struct accept_call *a = call->arg;
    hvsock_unlisten(call->v->sockets, a->port);
    call->ok =
        !a->accept || hvsock_listen_fd(call->v->sockets, a->port, a->accept, a->ctx, call->e);
}

bool vm_accept_guest(struct vm *v, uint32_t port, vm_guest_accept_fn *accept, void *ctx, err *e)
{
    struct accept_call a = {port, accept, ctx};
    return vm_call(v, start_accept, &a, e);
}

static void start_bridge(struct vm_call *call)
{
    call->v->bridge = hvsock_bridge_new(call->v->sockets, call->arg, call->e);
    call->ok = call->v->bridge != NULL;
}

bool vm_bridge_guest(struct vm *v, const char *path, err *e)
{
    return vm_call(v, start_bridge, (void *)(uintptr_t)path, e);
}

static void end_bridge(struct vm_call *call)
{
    hvsock_bridge_free(TAKE(call->v->bridge));
}

void vm_unbridge(struct vm *v)
{
    if (v->bridge)
        vm_call(v, end_bridge, NULL, NULL);
}
