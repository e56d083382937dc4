/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Runs a whole machine (core/machine/vm.h) and drives it by a script: what is typed on its serial
 * port, what has to appear there, and what the host does meanwhile (disks, adapters, keys,
 * integration services, memory, sockets).
 *
 *     drive [--accel soft|kvm] [--cpus N] [--memory MIB] [--max-memory MIB] --kernel F --initrd F
 *           [--append S] [--disk FILE[,ro]]... [--dvd FILE]... [--net
 * WHERE[,host-access][,FORWARD]...]...
 *           [--switches FOLDER] [--vsock PATH] [--set KEY=VALUE]... [--s4] SCRIPT
 *
 * A script is lines of words; '#' starts a comment, "soft:" a line for the software processor
 * alone. Every line has to succeed within its time-out (set by `timeout S`, 60 at first), else the
 * program says which failed, goes on with the next, and in the end exits 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "app/cli/keys.h"
#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "tests/e2e/drive.h"

/* A line of the script failed: says so and, once it runs, goes on with the next. */
void die(struct drive *d, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "\ndrive: FAILED: line %u: ", d->line);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    pthread_mutex_unlock(&d->lock); /* EPERM if it is not ours */
    d->failed++;
    if (!d->line || d->failed > MAX_FAILED)
        _exit(1);
    longjmp(d->next_line, 1);
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

static void on_log(void *ctx, enum log_level level, const char *subsystem, const char *text)
{
    struct drive *d = ctx;
    printf("\nvireo: %s: %s\n", subsystem, text);
    pthread_mutex_lock(&d->lock);
    size_t len = strlen(d->said);
    snprintf(d->said + len, sizeof d->said - len, "%s\n", text);
    pthread_cond_broadcast(&d->cond);
    pthread_mutex_unlock(&d->lock);
}

static const struct vm_ops vm_upcalls = {.ended = on_ended, .serial_out = on_serial};

void must(struct drive *d, bool ok, const err *e)
{
    if (!ok)
        die(d, "%s", e->text);
}

static void compose(void *ctx)
{
    struct drive *d = ctx;
    err e = ERR_INIT;
    if (d->vsock)
        must(d, (d->bridge = hvsock_bridge_new(d->v->sockets, d->vsock, &e)) != NULL, &e);
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

/* Until a line of the log holds text, since the machine was made. */
static void wait_said(struct drive *d, const char *text)
{
    struct timespec t;
    deadline(d, &t);
    pthread_mutex_lock(&d->lock);
    while (!strstr(d->said, text))
        if (!wait_more(d, &t))
            die(d, "nobody said \"%s\" in %u s", text, d->timeout_s);
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
    must(d, vm_save(d->v, w, &e), &e);
    r.data = state_writer_data(w, &r.len, &e);
    must(d, r.data && vm_restore(d->v, &r, &e), &e);
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
    vmbus_each_channel(d->v->bus, print_channel, NULL);
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
    err e = ERR_INIT;
    char id[VM_ID_LEN];
    struct vm_disk_request r = {
        .path = n > 2 ? w[2] : NULL, .read_only = n > 3, .lun = n > 1 ? atoi(w[1]) : -1};
    snprintf(id, sizeof id, "scsi0:%s", n > 1 ? w[1] : "");
    if (!strcmp(w[0], "disk-add"))
        must(d, vm_add_disk(d->v, &r, id, &e), &e);
    else if (!strcmp(w[0], "disk-remove"))
        must(d, vm_remove_disk(d->v, id, &e), &e);
    else
        must(d, vm_set_medium(d->v, id, r.path, false, &e), &e);
}

/* "nat", then words: host-access, or forwards. */
static void net_settings(struct drive *d, char **w, unsigned n, struct vm_adapter_settings *s)
{
    char forwards[1024] = "";
    err e = ERR_INIT;
    *s = (struct vm_adapter_settings){.connected = true};
    snprintf(s->where, sizeof s->where, "%s", w[0]);
    for (unsigned i = 1; i < n; i++)
        if (!strcmp(w[i], "host-access"))
            s->host_loopback = true;
        else if (!strcmp(w[i], "unplugged"))
            s->connected = false;
        else
            snprintf(forwards + strlen(forwards), sizeof forwards - strlen(forwards), " %s", w[i]);
    must(d, vm_parse_forwards(forwards, s, &e), &e);
}

static void nic_command(struct drive *d, char **w, unsigned n)
{
    err e = ERR_INIT;
    char id[VM_ID_LEN];
    struct vm_adapter_settings s;
    if (!strcmp(w[0], "nic-add")) {
        net_settings(d, w + 1, n - 1, &s);
        must(d, vm_add_adapter(d->v, &s, NULL, id, &e), &e);
    } else if (!strcmp(w[0], "nic-set")) {
        net_settings(d, w + 2, n - 2, &s);
        must(d, vm_set_adapter(d->v, w[1], &s, &e), &e);
    } else {
        must(d, vm_remove_adapter(d->v, w[1], &e), &e);
    }
}

/* ---- the screen, keys, the mouse ---- */

static void write_ppm(struct drive *d, const char *path, const uint8_t *p,
                      const struct console_surface *s)
{
    FILE *f = fopen(path, "we");
    if (!f)
        die(d, "%s: %s", path, strerror(errno));
    fprintf(f, "P6 %u %u 255\n", s->width, s->height);
    for (uint32_t y = 0; y < s->height; y++)
        for (uint32_t x = 0; x < s->width; x++) {
            const uint8_t *c = p + (size_t)y * s->stride + x * 4ul;
            fputc(c[2], f);
            fputc(c[1], f);
            fputc(c[0], f);
        }
    fclose(f);
}

/* Pixels that are not black; the size goes to *s. */
static unsigned look(struct drive *d, struct console_surface *s, const char *path)
{
    unsigned lit = 0;
    console_surface_now(vm_console(d->v), s);
    if (s->fd < 0)
        return 0;
    size_t len = (size_t)s->stride * s->height;
    const uint8_t *p = mmap(NULL, len, PROT_READ, MAP_SHARED, s->fd, (off_t)s->offset);
    if (p == MAP_FAILED)
        die(d, "the screen cannot be read: %s", strerror(errno));
    for (uint32_t y = 0; y < s->height; y++)
        for (uint32_t x = 0; x < s->width; x++) {
            const uint8_t *c = p + (size_t)y * s->stride + x * 4ul;
            lit += (c[0] | c[1] | c[2]) != 0;
        }
    if (path)
        write_ppm(d, path, p, s);
    munmap((void *)(uintptr_t)p, len);
    close(s->fd);
    return lit;
}

/* "screen W H MIN [FILE]": until the size is that and so many pixels are lit. */
static void wait_screen(struct drive *d, char **w, unsigned n)
{
    uint64_t end = clock_ns() + d->timeout_s * UINT64_C(1000000000);
    for (;;) {
        struct console_surface s = {0};
        unsigned lit = look(d, &s, n > 4 ? w[4] : NULL);
        if (s.width == (unsigned)atoi(w[1]) && s.height == (unsigned)atoi(w[2]) &&
            lit >= (unsigned)atoi(w[3])) {
            printf("drive: screen %ux%u, %u pixels lit\n", s.width, s.height, lit);
            return;
        }
        if (clock_ns() > end)
            die(d, "the screen is %ux%u with %u pixels lit", s.width, s.height, lit);
        usleep(200000);
    }
}

enum { KEY_GAP_US = 10000 };

static void press(struct drive *d, uint8_t key)
{
    console_key(vm_console(d->v), key, true);
    usleep(KEY_GAP_US);
    console_key(vm_console(d->v), key, false);
    usleep(KEY_GAP_US);
}

static void type_text(struct drive *d, const char *text)
{
    for (; *text; text++) {
        uint8_t key;
        bool shift;
        if (!keys_for_char(*text, &key, &shift))
            die(d, "no key types '%c'", *text);
        if (shift)
            console_key(vm_console(d->v), KEYS_SHIFT, true);
        press(d, key);
        if (shift)
            console_key(vm_console(d->v), KEYS_SHIFT, false);
    }
}

/* Every key of a 105-key keyboard, but for those that would do something to the guest's console. */
static void press_all(struct drive *d)
{
    static const uint8_t extended[] = {0x9c, 0x9d, 0xb5, 0xb7, 0xb8, 0xc6, 0xc7, 0xc8, 0xc9, 0xcb,
                                       0xcd, 0xcf, 0xd0, 0xd1, 0xd2, 0xd3, 0xdb, 0xdc, 0xdd};
    for (uint8_t k = 0x01; k <= 0x58; k++)
        if (k != 0x54 && k != 0x55) /* 0x56: the 102nd key */
            press(d, k);
    for (size_t i = 0; i < ARRAY_LEN(extended); i++)
        press(d, extended[i]);
}

static void mouse_command(struct drive *d, char **w, unsigned n)
{
    struct console *c = vm_console(d->v);
    if (!strcmp(w[1], "to") && n > 3)
        console_move(c, (uint32_t)atoi(w[2]), (uint32_t)atoi(w[3]));
    else if (!strcmp(w[1], "wheel") && n > 2)
        console_wheel(c, atoi(w[2]));
    else if (!strcmp(w[1], "click") && n > 2) {
        console_button(c, (unsigned)atoi(w[2]), true);
        usleep(KEY_GAP_US);
        console_button(c, (unsigned)atoi(w[2]), false);
    } else
        die(d, "mouse does not know %s", w[1]);
}

/* "clock S": the guest's is within so many seconds of ours. */
static void check_clock(struct drive *d, long within)
{
    do_send(d, "echo NOW $(date +%s) NOW\n");
    do_expect(d, "NOW ");
    pthread_mutex_lock(&d->lock);
    long guest = 0;
    struct timespec t;
    deadline(d, &t);
    while (!strstr(d->out + d->seen, " NOW"))
        if (!wait_more(d, &t))
            die(d, "the guest does not tell the time");
    guest = atol(d->out + d->seen);
    pthread_mutex_unlock(&d->lock);
    long off = guest - (long)time(NULL);
    if (off > within || off < -within)
        die(d, "the guest's clock is off by %ld s", off);
}

/* "processors stop": the devices go on, as if the host gave the guest no time; "processors go". */
static void processors_command(struct drive *d, const char *what)
{
    if (!strcmp(what, "stop"))
        hv_partition_pause(machine_partition(d->m));
    else
        hv_partition_resume(machine_partition(d->m));
}

/* "resident above|below MIB": until this process has that much memory. */
static void wait_resident(struct drive *d, const char *how, long mib)
{
    uint64_t end = clock_ns() + d->timeout_s * UINT64_C(1000000000);
    for (;;) {
        long pages = 0;
        FILE *f = fopen("/proc/self/statm", "re");
        if (!f || fscanf(f, "%*d %ld", &pages) != 1)
            die(d, "/proc/self/statm cannot be read");
        fclose(f);
        long now = pages >> 8;
        if (!strcmp(how, "above") ? now > mib : now < mib) {
            printf("drive: %ld MiB resident\n", now);
            return;
        }
        if (clock_ns() > end)
            die(d, "%ld MiB are resident", now);
        usleep(200000);
    }
}

static void host_command(struct drive *d, const char *command)
{
    int status = system(command);
    if (status != 0)
        die(d, "on the host: %s: status %d", command, WEXITSTATUS(status));
}

/* A line for a shell that does not echo. */
static void do_command(struct drive *d, const char *command)
{
    char line[4200], token[32];
    size_t len = strlen(command);
    bool background = len && command[len - 1] == '&';
    snprintf(token, sizeof token, "DONE-%u ", ++d->commands);
    snprintf(line, sizeof line, "%s%s echo %s$?.\n", command, background ? "" : ";", token);
    do_send(d, line);
    do_expect(d, token);
    struct timespec t;
    deadline(d, &t);
    pthread_mutex_lock(&d->lock);
    while (!strchr(d->out + d->seen, '.'))
        if (!wait_more(d, &t))
            die(d, "no status");
    int status = atoi(d->out + d->seen);
    pthread_mutex_unlock(&d->lock);
    if (status)
        die(d, "the guest: %s: status %d", command, status);
}

static void run_line(struct drive *d, char *rest, char **w, unsigned n)
{
    struct ask a = {.w = w, .n = n, .fd = -1};
    if (!strcmp(w[0], "expect"))
        do_expect(d, rest);
    else if (!strcmp(w[0], "said"))
        wait_said(d, rest);
    else if (!strcmp(w[0], "send")) {
        unescape(rest);
        do_send(d, rest);
        do_send(d, "\n");
    } else if (!strcmp(w[0], "do"))
        do_command(d, rest);
    else if (!strcmp(w[0], "clock") && n > 1)
        check_clock(d, atol(w[1]));
    else if (!strcmp(w[0], "resident") && n > 2)
        wait_resident(d, w[1], atol(w[2]));
    else if (!strcmp(w[0], "processors") && n > 1)
        processors_command(d, w[1]);
    else if (!strcmp(w[0], "host"))
        host_command(d, rest);
    else if (!strncmp(w[0], "nic-", 4))
        nic_command(d, w, n);
    else if (!strcmp(w[0], "screen") && n > 3)
        wait_screen(d, w, n);
    else if (!strcmp(w[0], "type")) {
        unescape(rest);
        type_text(d, rest);
    } else if (!strcmp(w[0], "keys"))
        press_all(d);
    else if (!strcmp(w[0], "mouse") && n > 1)
        mouse_command(d, w, n);
    else if (!strcmp(w[0], "start")) {
        err e = ERR_INIT;
        d->ended = false;
        must(d, vm_start(d->v, &e), &e);
    } else if (!strcmp(w[0], "reset")) {
        err e = ERR_INIT;
        must(d, vm_reset(d->v, &e), &e);
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
        vm_pause(d->v);
        usleep((useconds_t)(atof(w[1]) * 1e6));
        vm_resume(d->v);
    } else if (!strcmp(w[0], "echo"))
        run_echo(d, (uint32_t)atoi(w[1]), (unsigned)atoi(w[2]), strtoull(w[3], NULL, 10));
    else if (!strcmp(w[0], "serve"))
        ask_until(d, &a, ask_serve);
    else if (!strcmp(w[0], "killed"))
        expect_reset(d, (uint32_t)atoi(w[1]));
    else if (!strcmp(w[0], "drop"))
        drop_stream(d, (uint32_t)atoi(w[1]));
    else if (!strcmp(w[0], "save-restore"))
        save_restore(d);
    else if (!strcmp(w[0], "info"))
        on_io(d, print_info, d);
    else if (!strncmp(w[0], "disk-", 5) || !strcmp(w[0], "medium"))
        disk_command(d, w, n);
    else
        die(d, "unknown command %s", w[0]);
}

static void try_line(struct drive *d, char *rest, char **w, unsigned n)
{
    if (!setjmp(d->next_line))
        run_line(d, rest, w, n);
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
        bool soft_only = !strcmp(w[0], "soft:");
        char **v = w + soft_only; /* the command */
        n -= soft_only;
        if (soft_only && (d->config->accel != VM_ACCEL_SOFT || !n))
            continue;
        char *rest = line + (v[0] - copy) + strlen(v[0]);
        printf("\ndrive: %llu: line %u: %s\n", (unsigned long long)(clock_ns() / 1000000000),
               d->line, line);
        try_line(d, *rest ? rest + 1 : rest, v, n);
    }
    fclose(f);
}

/* ---- arguments ---- */

static void set(struct drive *d, const char *key, const char *value)
{
    err e = ERR_INIT;
    must(d, vm_config_set(d->config, key, value, &e), &e);
}

static void add_disk(struct drive *d, char *value, bool dvd)
{
    err e = ERR_INIT;
    char *ro = strstr(value, ",ro");
    if (ro)
        *ro = 0;
    struct vm_disk *k = vm_config_add_disk(
        d->config, VM_BUS_SCSI, dvd ? VM_MEDIA_DVD : VM_MEDIA_DISK, *value ? value : NULL, &e);
    must(d, k != NULL, &e);
    k->read_only = ro || dvd;
}

static void add_net(struct drive *d, char *value)
{
    err e = ERR_INIT;
    struct vm_adapter *a = vm_config_add_adapter(d->config, VM_SWITCH_NAT, &e);
    must(d, a != NULL, &e);
    vm_mac_random(&a->mac);
    char *save, *where = strtok_r(value, ",", &save), forwards[1024] = "";
    if (!strncmp(where, "private:", 8)) {
        a->kind = VM_SWITCH_PRIVATE;
        must(d, vm_config_string(&a->name, where + 8, &e), &e);
    }
    for (char *t = strtok_r(NULL, ",", &save); t; t = strtok_r(NULL, ",", &save))
        if (!strcmp(t, "host-access"))
            a->host_access = true;
        else
            snprintf(forwards + strlen(forwards), sizeof forwards - strlen(forwards), " %s", t);
    must(d, vm_config_string(&a->forwards, forwards, &e), &e);
}

static bool take_option(struct drive *d, const char *o, char *v)
{
    char *eq;
    if (!strcmp(o, "--accel"))
        set(d, "processor.accel", v);
    else if (!strcmp(o, "--cpus"))
        set(d, "processor.count", v);
    else if (!strcmp(o, "--memory"))
        set(d, "memory.startup", v);
    else if (!strcmp(o, "--max-memory")) {
        set(d, "memory.dynamic", "true");
        set(d, "memory.maximum", v);
    } else if (!strcmp(o, "--kernel"))
        set(d, "boot.kernel", v);
    else if (!strcmp(o, "--initrd"))
        set(d, "boot.initrd", v);
    else if (!strcmp(o, "--append"))
        set(d, "boot.cmdline", v);
    else if (!strcmp(o, "--disk") || !strcmp(o, "--dvd"))
        add_disk(d, v, o[3] == 'v');
    else if (!strcmp(o, "--net"))
        add_net(d, v);
    else if (!strcmp(o, "--vsock"))
        d->vsock = v;
    else if (!strcmp(o, "--switches"))
        d->switches = v;
    else if (!strcmp(o, "--set") && (eq = strchr(v, '='))) {
        *eq = 0;
        set(d, v, eq + 1);
    } else
        return false;
    return true;
}

static void make(struct drive *d)
{
    err e = ERR_INIT;
    struct vm_params p = {.config = d->config,
                          .opener = &disk_opener_paths,
                          .switch_folder = d->switches ? d->switches : "/tmp/vireo-drive-switches",
                          .ops = &vm_upcalls,
                          .ctx = d};
    must(d, vm_config_check(d->config, &e), &e);
    d->v = vm_new(&p, &e);
    must(d, d->v != NULL, &e);
    d->m = vm_machine(d->v);
    on_io(d, compose, d);
    must(d, vm_start(d->v, &e), &e);
}

int main(int argc, char **argv)
{
    static struct drive d = {.timeout_s = 60,
                             .lock = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP,
                             .cond = PTHREAD_COND_INITIALIZER};
    int i = 1;
    err e = ERR_INIT;
    d.out = calloc(1, OUTPUT_MAX + 1);
    log_set_sink(on_log, &d);
    d.config = vm_config_new(&e);
    must(&d, d.config != NULL, &e);
    guid_random(&d.config->id);
    set(&d, "machine.name", "drive");
    set(&d, "boot.from", "linux");
    set(&d, "processor.accel", "soft");
    set(&d, "memory.startup", "512");
    set(&d, "integration.guest-files", "true");
    d.config->vendor = hv_host_vendor() == HV_VENDOR_AMD ? VM_VENDOR_AMD : VM_VENDOR_INTEL;
    setvbuf(stdout, NULL, _IONBF, 0);
    signal(SIGPIPE, SIG_IGN);
    for (; i + 1 < argc; i++)
        if (!strcmp(argv[i], "--s4"))
            set(&d, "machine.hibernation", "true");
        else if (!take_option(&d, argv[i], argv[i + 1]))
            die(&d, "unknown option %s", argv[i]);
        else
            i++;
    if (i >= argc)
        die(&d, "a script is missing");
    make(&d);
    run_script(&d, argv[i]);
    vm_power_off(d.v);
    if (d.bridge)
        hvsock_bridge_free(d.bridge);
    vm_free(d.v);
    vm_config_free(d.config);
    free(d.out);
    printf("\ndrive: %u lines failed\n", d.failed);
    return d.failed != 0;
}
