/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Runs a guest on VMBus alone and drives it by a script: what is typed on its serial port, what has
 * to appear there, and what the host does meanwhile (disks, integration services, memory, sockets).
 *
 *     drive [--accel soft|kvm] [--cpus N] [--memory MIB] [--max-memory MIB] --kernel F --initrd F
 *           [--append S] [--disk FILE[,ro]]... [--dvd FILE]... [--vsock PATH] [--s4] SCRIPT
 *
 * A script is lines of words; '#' starts a comment. Every line has to succeed within its time-out
 * (set by `timeout S`, 60 at first), else the program says which failed and exits 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/machine/machine.h"
#include "core/vmbus/transport.h"
#include "core/vsp/balloon.h"
#include "core/vsp/hvsock.h"
#include "core/vsp/integration.h"
#include "core/vsp/storvsp.h"

enum { MAX_DISKS = 16, OUTPUT_MAX = 8 << 20, WORDS = 12 };

struct drive {
    struct machine *m;
    struct machine_params p;
    struct vmbus_transport transport;
    struct vmbus *bus;
    struct storvsp *scsi;
    struct integration *ic;
    struct balloon *balloon;
    struct hvsock *hvsock;
    struct hvsock_bridge *bridge;
    struct disk *disks[STORVSP_LUNS];
    uint64_t max_memory;
    const char *vsock;

    pthread_mutex_t lock;
    pthread_cond_t cond;
    char *out;
    size_t len, seen; /* of the serial output; what expect has passed */
    bool ended;
    struct machine_report report;

    /* answers of services, by the lock */
    bool answered;
    uint32_t status;
    const char *key;
    char value[1024];
    unsigned timeout_s;
    unsigned line;
};

static void die(const struct drive *d, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 2, 3)));
static void die(const struct drive *d, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "\ndrive: line %u: ", d->line);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    _exit(1);
}

/* ---- the machine's upcalls ---- */

static size_t on_serial(void *ctx, unsigned port, const uint8_t *data, size_t len)
{
    struct drive *d = ctx;
    if (port)
        return len;
    pthread_mutex_lock(&d->lock);
    if (d->len + len < OUTPUT_MAX) {
        memcpy(d->out + d->len, data, len);
        d->len += len;
        d->out[d->len] = 0;
    }
    pthread_cond_broadcast(&d->cond);
    pthread_mutex_unlock(&d->lock);
    if (write(STDOUT_FILENO, data, len) < 0)
        return len;
    return len;
}

static void on_ended(void *ctx, const struct machine_report *r)
{
    struct drive *d = ctx;
    pthread_mutex_lock(&d->lock);
    d->ended = true;
    d->report = *r;
    pthread_cond_broadcast(&d->cond);
    pthread_mutex_unlock(&d->lock);
}

static const struct machine_ops machine_ops = {.ended = on_ended, .serial_out = on_serial};

static enum hv_status on_message(void *ctx, unsigned vp, uint32_t id, uint32_t type,
                                 const void *payload, uint32_t len)
{
    return (enum hv_status)vmbus_post_message(((struct drive *)ctx)->bus, id, type, payload, len);
}
static enum hv_status on_signal(void *ctx, unsigned vp, uint32_t id, uint16_t flag)
{
    return vmbus_signal_event(((struct drive *)ctx)->bus, id) ? HV_STATUS_SUCCESS
                                                              : HV_STATUS_INVALID_CONNECTION_ID;
}
static const struct machine_bus_ops bus_ops = {.post_message = on_message,
                                               .signal_event = on_signal};

/* ---- composing; the I/O thread ---- */

static uint64_t reference_time(void *ctx)
{
    return hv_partition_reference_time(machine_partition(((struct drive *)ctx)->m));
}

static bool add_ram(void *ctx, uint64_t gpa, uint64_t size, err *e)
{
    struct drive *d = ctx;
    return hv_memory_add_ram(hv_partition_memory(machine_partition(d->m)), gpa, size, e) != NULL;
}

static void must(struct drive *d, bool ok, const err *e)
{
    if (!ok)
        die(d, "%s", e->text);
}

static void compose(void *ctx)
{
    struct drive *d = ctx;
    err e = ERR_INIT;
    vmbus_transport_partition(machine_partition(d->m), &d->transport);
    d->bus =
        vmbus_new(&(struct vmbus_params){.loop = machine_loop(d->m),
                                         .memory = hv_partition_memory(machine_partition(d->m)),
                                         .transport = &d->transport},
                  &e);
    must(d, d->bus && machine_add_device(d->m, vmbus_as_device(d->bus), &e), &e);
    d->scsi = storvsp_new(&(struct storvsp_params){.bus = d->bus,
                                                   .instance = GUID(0x7a08391d, 0x6f6e, 0x4d1c,
                                                                    0x9a3b, 0x5d2f4c1e0b01),
                                                   .max_subchannels = 4},
                          &e);
    must(d, d->scsi && machine_add_device(d->m, storvsp_as_device(d->scsi), &e), &e);
    d->ic = integration_new(
        &(struct integration_params){
            .bus = d->bus, .services = INTEGRATION_ALL, .reference_time = reference_time, .ctx = d},
        &e);
    must(d, d->ic && machine_add_device(d->m, integration_as_device(d->ic), &e), &e);
    d->balloon = balloon_new(&(struct balloon_params){.bus = d->bus,
                                                      .max_bytes = d->max_memory,
                                                      .hot_add_base = UINT64_C(0x100000000),
                                                      .add_ram = add_ram,
                                                      .ctx = d},
                             &e);
    must(d, d->balloon && machine_add_device(d->m, balloon_as_device(d->balloon), &e), &e);
    d->hvsock = hvsock_new(d->bus, &e);
    must(d, d->hvsock && machine_add_device(d->m, hvsock_as_device(d->hvsock), &e), &e);
    if (d->vsock)
        must(d, (d->bridge = hvsock_bridge_new(d->hvsock, d->vsock, &e)) != NULL, &e);
}

struct disk_call {
    struct drive *d;
    const char *path;
    unsigned lun;
    bool dvd, ro;
};

static void add_disk(void *ctx)
{
    struct disk_call *c = ctx;
    struct drive *d = c->d;
    err e = ERR_INIT;
    struct disk *disk = NULL;
    if (c->path) {
        disk = disk_open(&(struct disk_open_params){.path = c->path,
                                                    .format = DISK_FORMAT_AUTO,
                                                    .flags = c->ro ? DISK_OPEN_READ_ONLY : 0,
                                                    .opener = &disk_opener_paths,
                                                    .loop = machine_loop(d->m)},
                         &e);
        must(d, disk != NULL, &e);
    }
    struct scsi_lun_params p = {.kind = c->dvd ? SCSI_DVD : SCSI_DISK, .disk = disk};
    guid_random(&p.id);
    struct scsi_lun *unit = scsi_lun_new(&p, &e);
    must(d, unit && storvsp_attach(d->scsi, c->lun, unit, &e), &e);
    d->disks[c->lun] = disk;
}

static void answer(void *ctx, uint32_t status)
{
    struct drive *d = ctx;
    pthread_mutex_lock(&d->lock);
    d->answered = true;
    d->status = status;
    pthread_cond_broadcast(&d->cond);
    pthread_mutex_unlock(&d->lock);
}

static void answer_done(void *ctx)
{
    answer(ctx, 0);
}

static void remove_disk(void *ctx)
{
    struct disk_call *c = ctx;
    err e = ERR_INIT;
    must(c->d, storvsp_detach(c->d->scsi, c->lun, answer_done, c->d, &e), &e);
}

static void change_medium(void *ctx)
{
    struct disk_call *c = ctx;
    struct drive *d = c->d;
    err e = ERR_INIT;
    struct disk *disk = NULL;
    if (c->path)
        disk = disk_open(&(struct disk_open_params){.path = c->path,
                                                    .flags = DISK_OPEN_READ_ONLY,
                                                    .opener = &disk_opener_paths,
                                                    .loop = machine_loop(d->m)},
                         &e);
    must(d, !c->path || disk, &e);
    must(d, storvsp_set_medium(d->scsi, c->lun, disk, answer_done, d, &e), &e);
    if (d->disks[c->lun])
        disk_close(d->disks[c->lun]);
    d->disks[c->lun] = disk;
}

static void close_disk(void *ctx)
{
    struct disk_call *c = ctx;
    disk_close(c->d->disks[c->lun]);
    c->d->disks[c->lun] = NULL;
}

/* ---- waiting; the main thread ---- */

static void on_io(struct drive *d, void (*fn)(void *ctx), void *ctx)
{
    loop_call_wait(machine_loop(d->m), fn, ctx);
}

static void deadline(const struct drive *d, struct timespec *t)
{
    clock_gettime(CLOCK_REALTIME, t);
    t->tv_sec += d->timeout_s;
}

/* With the lock held: false at the time-out. */
static bool wait_more(struct drive *d, const struct timespec *t)
{
    return pthread_cond_timedwait(&d->cond, &d->lock, t) != ETIMEDOUT;
}

static void do_expect(struct drive *d, const char *text)
{
    struct timespec t;
    deadline(d, &t);
    pthread_mutex_lock(&d->lock);
    for (;;) {
        char *at = strstr(d->out + d->seen, text);
        if (at) {
            d->seen = (size_t)(at - d->out) + strlen(text);
            break;
        }
        if (d->ended)
            die(d, "the guest ended (%s) before \"%s\": %.300s", machine_end_name(d->report.end),
                text, d->report.text);
        if (!wait_more(d, &t))
            die(d, "\"%s\" did not appear in %u s", text, d->timeout_s);
    }
    pthread_mutex_unlock(&d->lock);
}

static void do_send(struct drive *d, const char *text)
{
    size_t len = strlen(text), done = 0;
    while (done < len) {
        size_t n = machine_serial_input(d->m, 0, (const uint8_t *)text + done, len - done);
        done += n;
        if (!n)
            usleep(5000);
    }
}

static uint32_t wait_answer(struct drive *d)
{
    struct timespec t;
    deadline(d, &t);
    pthread_mutex_lock(&d->lock);
    while (!d->answered)
        if (!wait_more(d, &t))
            die(d, "no answer in %u s", d->timeout_s);
    d->answered = false;
    uint32_t status = d->status;
    pthread_mutex_unlock(&d->lock);
    return status;
}

static void wait_end(struct drive *d, const char *how)
{
    struct timespec t;
    deadline(d, &t);
    pthread_mutex_lock(&d->lock);
    while (!d->ended)
        if (!wait_more(d, &t))
            die(d, "the guest did not end in %u s", d->timeout_s);
    pthread_mutex_unlock(&d->lock);
    if (strcmp(how, machine_end_name(d->report.end)))
        die(d, "the guest ended by %s, not by %s: %.500s", machine_end_name(d->report.end), how,
            d->report.text);
}

/* ---- services ---- */

struct ask {
    struct drive *d;
    char **w;
    unsigned n;
    bool ok;
    err e;
    int fd;
    struct balloon_status balloon;
    enum heartbeat_state heartbeat;
    const char *want;
};

/* Until the guest is ready for it, or the time-out. */
static void ask_until(struct drive *d, struct ask *a, void (*fn)(void *ctx))
{
    uint64_t end = clock_ns() + d->timeout_s * UINT64_C(1000000000);
    a->d = d;
    do {
        a->e = (err)ERR_INIT;
        on_io(d, fn, a);
        if (a->ok)
            return;
        usleep(200000);
    } while (clock_ns() < end);
    die(d, "%s", a->e.text[0] ? a->e.text : "did not come about");
}

static void ask_shutdown(void *ctx)
{
    struct ask *a = ctx;
    enum shutdown_kind k = !strcmp(a->w[1], "reboot")      ? SHUTDOWN_REBOOT
                           : !strcmp(a->w[1], "hibernate") ? SHUTDOWN_HIBERNATE
                                                           : SHUTDOWN_POWER_OFF;
    a->ok = integration_shutdown(a->d->ic, k, false, answer, a->d, &a->e);
}
static void ask_fact(void *ctx)
{
    struct ask *a = ctx;
    const char *v = integration_fact(a->d->ic, a->w[1]);
    a->ok = v && (a->n < 3 || strstr(v, a->w[2]));
    err_set(&a->e, ERR_STATE, "%s is \"%s\"", a->w[1], v ? v : "(not known)");
    if (a->ok)
        printf("drive: %s = %s\n", a->w[1], v);
}
static void ask_heartbeat(void *ctx)
{
    static const char *const names[] = {"none", "ok", "lost"};
    struct ask *a = ctx;
    a->ok = !strcmp(names[integration_heartbeat(a->d->ic)], a->w[1]);
    err_set(&a->e, ERR_STATE, "heartbeat is %s", names[integration_heartbeat(a->d->ic)]);
}
static void on_item(void *ctx, const char *key, const char *value)
{
    struct drive *d = ctx;
    if (!strcmp(key, d->key))
        snprintf(d->value, sizeof d->value, "%s", value);
}
static void ask_kvp_set(void *ctx)
{
    struct ask *a = ctx;
    a->ok = integration_kvp_set(a->d->ic, KVP_EXTERNAL, a->w[1], a->w[2], answer, a->d, &a->e);
}
static void ask_kvp_get(void *ctx)
{
    struct ask *a = ctx;
    a->d->key = a->w[2];
    a->d->value[0] = 0;
    a->ok = integration_kvp_enumerate(a->d->ic, (enum kvp_pool)atoi(a->w[1]), on_item, answer, a->d,
                                      &a->e);
}
static void ask_freeze(void *ctx)
{
    struct ask *a = ctx;
    a->ok =
        integration_can_freeze(a->d->ic) && integration_freeze(a->d->ic, 60, answer, a->d, &a->e);
}
static void ask_thaw(void *ctx)
{
    struct ask *a = ctx;
    a->ok = integration_thaw(a->d->ic, answer, a->d, &a->e);
}
static void ask_copy(void *ctx)
{
    struct ask *a = ctx;
    struct stat st;
    if (a->fd < 0)
        a->fd = open(a->w[1], O_RDONLY | O_CLOEXEC);
    if (fstat(a->fd, &st) != 0)
        die(a->d, "%s: %s", a->w[1], strerror(errno));
    a->ok = integration_copy_file(a->d->ic,
                                  &(struct integration_copy){.fd = a->fd,
                                                             .size = (uint64_t)st.st_size,
                                                             .folder = a->w[2],
                                                             .name = a->w[3],
                                                             .overwrite = true,
                                                             .create_path = true,
                                                             .done = answer,
                                                             .ctx = a->d},
                                  &a->e);
}
static void ask_memory(void *ctx)
{
    struct ask *a = ctx;
    struct balloon_status s;
    a->ok = balloon_set_target(a->d->balloon, MIB(strtoull(a->w[1], NULL, 10)), &a->e);
    balloon_status(a->d->balloon, &s);
    a->ok = a->ok && s.connected;
}
static void ask_assigned(void *ctx)
{
    struct ask *a = ctx;
    struct balloon_status s;
    balloon_status(a->d->balloon, &s);
    a->ok = s.assigned == MIB(strtoull(a->w[1], NULL, 10));
    err_set(&a->e, ERR_STATE, "the guest has %llu KiB", (unsigned long long)(s.assigned >> 10));
}
static void ask_sync(void *ctx)
{
    struct ask *a = ctx;
    integration_sync_time(a->d->ic);
    a->ok = true;
}

static void need_status(struct drive *d, const char *want)
{
    uint32_t status = wait_answer(d);
    if (status != (want ? (uint32_t)strtoul(want, NULL, 16) : 0))
        die(d, "the guest answered 0x%x", status);
}

/* ---- sockets: so many streams to a port whose program sends back what it gets ---- */

struct echo {
    struct drive *d;
    int fd;
    uint64_t sent, got, total;
    uint32_t port;
    uint8_t seed;
    bool bad;
};

static void got_stream(void *ctx, int fd)
{
    struct echo *s = ctx;
    s->fd = fd;
    answer(s->d, fd < 0);
}
static void ask_stream(void *ctx)
{
    struct echo *s = ctx;
    err e = ERR_INIT;
    must(s->d, hvsock_connect_fd(s->d->hvsock, s->port, 10000, got_stream, s, &e), &e);
}

static uint8_t pattern(const struct echo *s, uint64_t at)
{
    return (uint8_t)(at * 7 + (at >> 11) + s->seed);
}

static void echo_out(struct echo *s)
{
    uint8_t buf[16384];
    size_t n = (size_t)MIN((uint64_t)sizeof buf, s->total - s->sent);
    for (size_t i = 0; i < n; i++)
        buf[i] = pattern(s, s->sent + i);
    ssize_t w = write(s->fd, buf, n);
    s->sent += (uint64_t)MAX(w, 0);
    if (s->sent == s->total)
        shutdown(s->fd, SHUT_WR);
}
static void echo_in(struct echo *s)
{
    uint8_t buf[65536];
    ssize_t n = read(s->fd, buf, sizeof buf);
    for (ssize_t i = 0; i < n; i++)
        s->bad |= buf[i] != pattern(s, s->got + (uint64_t)i);
    if (n > 0) {
        s->got += (uint64_t)n;
    } else if (n == 0) {
        close(s->fd);
        s->fd = -1;
    }
}

static void run_echo(struct drive *d, uint32_t port, unsigned streams, uint64_t bytes)
{
    struct echo *s = calloc(streams, sizeof *s);
    struct pollfd *p = calloc(streams, sizeof *p);
    unsigned open_streams = streams;
    for (unsigned i = 0; i < streams; i++) {
        s[i] = (struct echo){.d = d, .total = bytes, .port = port, .seed = (uint8_t)i, .fd = -1};
        on_io(d, ask_stream, &s[i]);
        if (wait_answer(d))
            die(d, "stream %u was not taken", i);
        fcntl(s[i].fd, F_SETFL, O_NONBLOCK);
    }
    uint64_t end = clock_ns() + d->timeout_s * UINT64_C(1000000000);
    while (open_streams) {
        for (unsigned i = 0; i < streams; i++)
            p[i] = (struct pollfd){.fd = s[i].fd,
                                   .events = POLLIN | (s[i].sent < s[i].total ? POLLOUT : 0)};
        poll(p, streams, 1000);
        open_streams = 0;
        for (unsigned i = 0; i < streams; i++) {
            if (s[i].fd >= 0 && (p[i].revents & POLLOUT) && s[i].sent < s[i].total)
                echo_out(&s[i]);
            if (s[i].fd >= 0 && (p[i].revents & (POLLIN | POLLHUP)))
                echo_in(&s[i]);
            open_streams += s[i].fd >= 0;
        }
        if (clock_ns() > end)
            die(d, "streams still open in %u s: %u", d->timeout_s, open_streams);
    }
    for (unsigned i = 0; i < streams; i++)
        if (s[i].bad || s[i].got != bytes)
            die(d, "stream %u: %llu of %llu bytes came back%s", i, (unsigned long long)s[i].got,
                (unsigned long long)bytes, s[i].bad ? ", and wrong ones" : "");
    free(s);
    free(p);
}

/* A port of the host on which everything is given back: a thread for each connection. */
static void *serve_one(void *arg)
{
    int fd = (int)(intptr_t)arg;
    static _Thread_local uint8_t buf[65536];
    ssize_t n;
    while ((n = read(fd, buf, sizeof buf)) > 0)
        for (ssize_t at = 0, w; at < n; at += w)
            if ((w = write(fd, buf + at, (size_t)(n - at))) <= 0)
                break;
    close(fd);
    return NULL;
}
static void on_guest(void *ctx, int fd, uint32_t guest_port)
{
    pthread_t t;
    if (pthread_create(&t, NULL, serve_one, (void *)(intptr_t)fd) == 0)
        pthread_detach(t);
}
static void ask_serve(void *ctx)
{
    struct ask *a = ctx;
    a->ok = hvsock_listen_fd(a->d->hvsock, (uint32_t)atoi(a->w[1]), on_guest, a->d, &a->e);
}

/* A stream that the guest's program leaves without a word. */
static void expect_reset(struct drive *d, uint32_t port)
{
    struct echo s = {.d = d, .port = port, .fd = -1};
    char c;
    on_io(d, ask_stream, &s);
    if (wait_answer(d))
        die(d, "the stream was not taken");
    do_expect(d, "VSOCK-HANGS");
    do_send(d, "\n");
    struct pollfd p = {.fd = s.fd, .events = POLLIN};
    if (poll(&p, 1, (int)d->timeout_s * 1000) != 1 || read(s.fd, &c, 1) > 0)
        die(d, "the stream did not end");
    close(s.fd);
}

/* ---- saving and restoring in place ---- */

static void save_restore(struct drive *d)
{
    struct state_writer *w = state_writer_new();
    struct state_reader r = {0};
    err e = ERR_INIT;
    if (!machine_pause(d->m))
        die(d, "the machine was not running");
    must(d, machine_save(d->m, w, &e), &e);
    r.data = state_writer_data(w, &r.len, &e);
    must(d, r.data && machine_restore(d->m, &r, &e), &e);
    printf("\ndrive: saved and restored %zu bytes\n", r.len);
    state_writer_free(w);
    machine_resume(d->m);
}

static bool print_channel(void *ctx, const struct vmbus_channel_info *i)
{
    printf("drive: %3u.%u %-10s %-10s vp %u  in %u/%u out %u/%u  packets %llu/%llu  signals "
           "%llu/%llu  full %llu errors %llu\n",
           i->relid, i->index, i->provider, vmbus_channel_state_name(i->state), i->target_vp,
           i->in_used, i->in_size, i->out_used, i->out_size,
           (unsigned long long)i->stats.packets_in, (unsigned long long)i->stats.packets_out,
           (unsigned long long)i->stats.signals_in, (unsigned long long)i->stats.signals_out,
           (unsigned long long)i->stats.full, (unsigned long long)i->stats.errors);
    return true;
}
static void print_info(void *ctx)
{
    struct drive *d = ctx;
    printf("\n");
    vmbus_each_channel(d->bus, print_channel, NULL);
}

/* ---- the script ---- */

static void unescape(char *s)
{
    char *o = s;
    for (; *s; s++)
        *o++ = *s == '\\' && s[1] == 'n' ? (s++, '\n') : *s;
    *o = 0;
}

static void disk_command(struct drive *d, char **w, unsigned n)
{
    struct disk_call c = {
        .d = d, .lun = n > 1 ? (unsigned)atoi(w[1]) : 0, .path = n > 2 ? w[2] : NULL, .ro = n > 3};
    if (!strcmp(w[0], "disk-add")) {
        on_io(d, add_disk, &c);
    } else if (!strcmp(w[0], "disk-remove")) {
        on_io(d, remove_disk, &c);
        wait_answer(d);
        on_io(d, close_disk, &c);
    } else {
        on_io(d, change_medium, &c);
        wait_answer(d);
    }
}

static void run_line(struct drive *d, char *rest, char **w, unsigned n)
{
    struct ask a = {.w = w, .n = n, .fd = -1};
    if (!strcmp(w[0], "expect"))
        do_expect(d, rest);
    else if (!strcmp(w[0], "send")) {
        unescape(rest);
        do_send(d, rest);
        do_send(d, "\n");
    } else if (!strcmp(w[0], "timeout"))
        d->timeout_s = (unsigned)atoi(w[1]);
    else if (!strcmp(w[0], "sleep"))
        usleep((useconds_t)(atof(w[1]) * 1e6));
    else if (!strcmp(w[0], "end"))
        wait_end(d, w[1]);
    else if (!strcmp(w[0], "shutdown")) {
        ask_until(d, &a, ask_shutdown);
        need_status(d, n > 2 ? w[2] : NULL);
    } else if (!strcmp(w[0], "fact"))
        ask_until(d, &a, ask_fact);
    else if (!strcmp(w[0], "heartbeat"))
        ask_until(d, &a, ask_heartbeat);
    else if (!strcmp(w[0], "kvp-set")) {
        ask_until(d, &a, ask_kvp_set);
        need_status(d, NULL);
    } else if (!strcmp(w[0], "kvp-get")) {
        ask_until(d, &a, ask_kvp_get);
        need_status(d, NULL);
        if (strcmp(d->value, w[3]))
            die(d, "%s is \"%s\"", w[2], d->value);
    } else if (!strcmp(w[0], "freeze")) {
        ask_until(d, &a, ask_freeze);
        need_status(d, NULL);
    } else if (!strcmp(w[0], "thaw")) {
        ask_until(d, &a, ask_thaw);
        need_status(d, NULL);
    } else if (!strcmp(w[0], "copy")) {
        ask_until(d, &a, ask_copy);
        need_status(d, NULL);
    } else if (!strcmp(w[0], "memory")) {
        ask_until(d, &a, ask_memory);
        ask_until(d, &a, ask_assigned);
    } else if (!strcmp(w[0], "sync-time"))
        ask_until(d, &a, ask_sync);
    else if (!strcmp(w[0], "pause")) {
        machine_pause(d->m);
        usleep((useconds_t)(atof(w[1]) * 1e6));
        machine_resume(d->m);
    } else if (!strcmp(w[0], "echo"))
        run_echo(d, (uint32_t)atoi(w[1]), (unsigned)atoi(w[2]), strtoull(w[3], NULL, 10));
    else if (!strcmp(w[0], "serve"))
        ask_until(d, &a, ask_serve);
    else if (!strcmp(w[0], "killed"))
        expect_reset(d, (uint32_t)atoi(w[1]));
    else if (!strcmp(w[0], "save-restore"))
        save_restore(d);
    else if (!strcmp(w[0], "info"))
        on_io(d, print_info, d);
    else if (!strncmp(w[0], "disk-", 5) || !strcmp(w[0], "medium"))
        disk_command(d, w, n);
    else
        die(d, "unknown command %s", w[0]);
}

static void run_script(struct drive *d, const char *path)
{
    FILE *f = fopen(path, "re");
    char line[4096], copy[4096], *w[WORDS];
    if (!f)
        die(d, "%s: %s", path, strerror(errno));
    while (fgets(line, sizeof line, f)) {
        d->line++;
        line[strcspn(line, "\n")] = 0;
        strcpy(copy, line);
        unsigned n = 0;
        for (char *save, *t = strtok_r(copy, " ", &save); t && n < WORDS;
             t = strtok_r(NULL, " ", &save))
            w[n++] = t;
        if (!n || w[0][0] == '#')
            continue;
        char *rest = line + (w[0] - copy) + strlen(w[0]);
        run_line(d, *rest ? rest + 1 : rest, w, n);
    }
    fclose(f);
}

/* ---- arguments ---- */

static void open_boot(struct drive *d, struct boot_file *f, const char *path)
{
    err e = ERR_INIT;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        die(d, "%s: %s", path, strerror(errno));
    must(d, boot_file_open(f, path, fd, &e), &e);
}

int main(int argc, char **argv)
{
    static struct drive d = {
        .timeout_s = 60, .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    struct disk_call disks[MAX_DISKS];
    unsigned ndisks = 0;
    int i = 1;
    err e = ERR_INIT;
    d.out = calloc(1, OUTPUT_MAX + 1);
    d.p = (struct machine_params){.memory = MIB(512),
                                  .vps = 1,
                                  .serials = 1,
                                  .vmbus = true,
                                  .stop_on_crash = true,
                                  .accel = HV_ACCEL_SOFT,
                                  .ops = &machine_ops,
                                  .ctx = &d};
    d.p.boot.protocol = BOOT_LINUX;
    d.p.boot.cmdline = "";
    d.p.boot.kernel.fd = d.p.boot.initrd.fd = -1;
    guid_random(&d.p.uuid);
    setvbuf(stdout, NULL, _IONBF, 0);
    for (; i + 1 < argc; i++) {
        const char *o = argv[i];
        if (!strcmp(o, "--s4")) {
            d.p.s4 = true;
            continue;
        }
        char *v = argv[++i];
        if (!strcmp(o, "--accel"))
            d.p.accel = !strcmp(v, "kvm") ? HV_ACCEL_KVM : HV_ACCEL_SOFT;
        else if (!strcmp(o, "--cpus"))
            d.p.vps = (unsigned)atoi(v);
        else if (!strcmp(o, "--memory"))
            d.p.memory = MIB(strtoull(v, NULL, 10));
        else if (!strcmp(o, "--max-memory"))
            d.max_memory = MIB(strtoull(v, NULL, 10));
        else if (!strcmp(o, "--kernel"))
            open_boot(&d, &d.p.boot.kernel, v);
        else if (!strcmp(o, "--initrd"))
            open_boot(&d, &d.p.boot.initrd, v);
        else if (!strcmp(o, "--append"))
            d.p.boot.cmdline = v;
        else if (!strcmp(o, "--vsock"))
            d.vsock = v;
        else if ((!strcmp(o, "--disk") || !strcmp(o, "--dvd")) && ndisks < MAX_DISKS) {
            char *ro = strstr(v, ",ro");
            if (ro)
                *ro = 0;
            disks[ndisks] = (struct disk_call){.d = &d,
                                               .path = *v ? v : NULL,
                                               .lun = ndisks,
                                               .dvd = o[3] == 'v',
                                               .ro = ro || o[3] == 'v'};
            ndisks++;
        } else
            die(&d, "unknown option %s", o);
    }
    if (i >= argc)
        die(&d, "a script is missing");
    d.m = machine_new(&d.p, &e);
    must(&d, d.m != NULL, &e);
    machine_set_bus(d.m, &bus_ops, &d);
    on_io(&d, compose, &d);
    for (unsigned n = 0; n < ndisks; n++)
        on_io(&d, add_disk, &disks[n]);
    must(&d, machine_start(d.m, &e), &e);
    run_script(&d, argv[i]);
    machine_power_off(d.m);
    for (unsigned n = 0; n < STORVSP_LUNS; n++)
        if (d.disks[n]) {
            struct disk_call c = {.d = &d, .lun = n};
            on_io(&d, remove_disk, &c);
            on_io(&d, close_disk, &c);
        }
    if (d.bridge)
        hvsock_bridge_free(d.bridge);
    machine_free(d.m);
    free(d.out);
    printf("\ndrive: all done\n");
    return 0;
}
