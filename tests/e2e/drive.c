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
#include "tests/e2e/drive.h"

void die(const struct drive *d, const char *fmt, ...)
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

void must(struct drive *d, bool ok, const err *e)
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

void answer(void *ctx, uint32_t status)
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

void on_io(struct drive *d, void (*fn)(void *ctx), void *ctx)
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

void do_expect(struct drive *d, const char *text)
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

void do_send(struct drive *d, const char *text)
{
    size_t len = strlen(text), done = 0;
    while (done < len) {
        size_t n = machine_serial_input(d->m, 0, (const uint8_t *)text + done, len - done);
        done += n;
        if (!n)
            usleep(5000);
    }
}

uint32_t wait_answer(struct drive *d)
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
