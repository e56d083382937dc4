/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/machine/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/chipset/layout.h"
#include "core/machine/machine-int.h"

const char *machine_end_name(enum machine_end end)
{
    static const char *const names[] = {"power-off", "hibernation", "reset",  "triple-fault",
                                        "crash",     "debug-exit",  "failure"};
    return names[end];
}

/* ---- devices, all at once; I/O thread ---- */

static void one_stopped(void *ctx)
{
    ((struct machine *)ctx)->stopping--;
}

static void stop_devices(struct machine *m)
{
    m->stopping = m->ndevices;
    for (unsigned i = m->ndevices; i-- > 0;)
        m->device[i].ops->stop(m->device[i].self, one_stopped, m);
    while (m->stopping)
        loop_turn(m->loop, -1);
}

static void start_devices(struct machine *m)
{
    for (unsigned i = 0; i < m->ndevices; i++)
        m->device[i].ops->start(m->device[i].self);
}

static void halt(struct machine *m)
{
    hv_partition_pause(m->partition);
    stop_devices(m);
}

static void go(struct machine *m)
{
    start_devices(m);
    m->state = MACHINE_RUNNING;
    hv_partition_resume(m->partition);
}

static bool discard_region(void *ctx, struct hv_region *r)
{
    struct hv_memory *mem = ctx;
    if (hv_region_kind(r) == HV_REGION_RAM)
        hv_memory_discard(mem, hv_region_gpa(r), hv_region_size(r));
    return true;
}

static void reset_all(struct machine *m)
{
    hv_partition_reset(m->partition); /* and its clock, which devices then read */
    for (unsigned i = 0; i < m->ndevices; i++)
        m->device[i].ops->reset(m->device[i].self);
}

static bool put_vps(struct machine *m, const struct hv_vp_state *first, err *e)
{
    struct hv_vp_state s;
    for (unsigned vp = 1; vp < m->p.vps; vp++) {
        if (!hv_partition_get_vp(m->partition, vp, &s, e))
            return false;
        boot_other_vp(&m->p.boot, &s);
        if (!hv_partition_set_vp(m->partition, vp, &s, e))
            return false;
    }
    return hv_partition_set_vp(m->partition, 0, first, e);
}

/* Power-on state everywhere, and the boot image in memory. Halted. */
static bool boot(struct machine *m, err *e)
{
    struct hv_memory *mem = hv_partition_memory(m->partition);
    struct hv_vp_state s;
    reset_all(m);
    hv_memory_each(mem, discard_region, mem);
    pthread_mutex_lock(&m->lock);
    m->asked = false;
    pthread_mutex_unlock(&m->lock);
    return machine_put_tables(m, e) && machine_leave_post(m, e) &&
           boot_load(&m->p.boot, mem, &s, e) && put_vps(m, &s, e);
}

/* ---- the guest ends itself ---- */

void machine_ask_end(struct machine *m, enum machine_end end, unsigned vp, uint32_t code)
{
    pthread_mutex_lock(&m->lock);
    bool first = !m->asked;
    if (first) {
        m->asked = true;
        memset(&m->report, 0, sizeof m->report);
        m->report.end = end;
        m->report.vp = vp;
        m->report.code = code;
    }
    pthread_mutex_unlock(&m->lock);
    if (first)
        loop_post(m->loop, &m->post);
}

static void on_partition_end(void *ctx, const struct hv_end_report *r)
{
    static const enum machine_end ends[] = {[HV_END_TRIPLE_FAULT] = MACHINE_TRIPLE_FAULT,
                                            [HV_END_RESET] = MACHINE_RESET,
                                            [HV_END_CRASH] = MACHINE_CRASHED,
                                            [HV_END_FAILED] = MACHINE_FAILED};
    struct machine *m = ctx;
    if (r->kind == HV_END_CRASH)
        log_line(LOG_WARNING, "machine", "The guest system crashed%s%s", r->text[0] ? ": " : "",
                 r->text);
    if (r->kind == HV_END_CRASH && !m->p.stop_on_crash)
        return;
    pthread_mutex_lock(&m->lock);
    bool first = !m->asked;
    if (first) {
        m->asked = true;
        memset(&m->report, 0, sizeof m->report);
        m->report.end = ends[r->kind];
        m->report.vp = r->vp;
        memcpy(m->report.crash_param, r->crash_param, sizeof r->crash_param);
        memcpy(m->report.text, r->text, sizeof r->text);
    }
    pthread_mutex_unlock(&m->lock);
    if (first)
        loop_post(m->loop, &m->post);
}

static void fail(struct machine *m, const err *e)
{
    m->report.end = MACHINE_FAILED;
    memcpy(m->report.text, e->text, sizeof e->text);
}

/* A guest that resets the processor may have left in CMOS how the BIOS is to go on: old systems
 * come back from protected mode so. Then that alone is reset, and all else stays as it is. */
static bool is_processor_reset(struct machine *m)
{
    if (m->p.kind != MACHINE_GEN1 ||
        (m->report.end != MACHINE_RESET && m->report.end != MACHINE_TRIPLE_FAULT))
        return false;
    enum { EOI_JUMP = 5, BLOCK_MOVE = 9, JUMP = 0x0a, RETURN = 0x0b, FAR_RETURN = 0x0c };
    uint8_t how = rtc_cmos(m->rtc, RTC_SHUTDOWN);
    return how == EOI_JUMP || (how >= BLOCK_MOVE && how <= FAR_RETURN);
}

static bool reset_processor(struct machine *m, err *e)
{
    pthread_mutex_lock(&m->lock);
    m->asked = false;
    pthread_mutex_unlock(&m->lock);
    return hv_partition_init(m->partition, e);
}

/* I/O thread: what was asked for by machine_ask_end. */
static void on_asked(void *ctx)
{
    struct machine *m = ctx;
    err e = ERR_INIT;
    if (m->state != MACHINE_RUNNING && m->state != MACHINE_PAUSED)
        return;
    bool paused = m->state == MACHINE_PAUSED;
    if (!paused)
        halt(m);
    if (is_processor_reset(m)) {
        if (reset_processor(m, &e)) {
            if (!paused)
                go(m);
            return;
        }
        fail(m, &e);
    } else if (m->report.end == MACHINE_RESET && !m->p.stop_on_reset) {
        m->resets++;
        if (boot(m, &e)) {
            if (!paused)
                go(m);
            return;
        }
        fail(m, &e);
    }
    m->state = MACHINE_ENDED;
    m->report.has_state = hv_partition_get_vp(m->partition, m->report.vp, &m->report.state, NULL);
    m->p.ops->ended(m->p.ctx, &m->report);
}

/* ---- calls from other threads: run on the I/O thread ---- */

struct call {
    struct machine *m;
    struct state_writer *w;
    const struct state_reader *r;
    struct device device;
    err *e;
    bool ok;
};

static void do_start(void *ctx)
{
    struct call *c = ctx;
    struct machine *m = c->m;
    if (m->state != MACHINE_NEW && m->state != MACHINE_ENDED) {
        c->ok = err_set(c->e, ERR_STATE, "The machine is running already");
        return;
    }
    c->ok = boot(m, c->e);
    if (c->ok)
        go(m);
}

static void do_pause(void *ctx)
{
    struct call *c = ctx;
    c->ok = c->m->state == MACHINE_RUNNING;
    if (!c->ok)
        return;
    halt(c->m);
    c->m->state = MACHINE_PAUSED;
}

static void do_resume(void *ctx)
{
    struct machine *m = ((struct call *)ctx)->m;
    if (m->state == MACHINE_PAUSED)
        go(m);
}

static void do_reset(void *ctx)
{
    struct call *c = ctx;
    struct machine *m = c->m;
    if (m->state != MACHINE_RUNNING && m->state != MACHINE_PAUSED) {
        c->ok = err_set(c->e, ERR_STATE, "The machine is not running");
        return;
    }
    if (m->state == MACHINE_RUNNING)
        halt(m);
    m->resets++;
    c->ok = boot(m, c->e);
    if (c->ok)
        go(m);
    else
        m->state = MACHINE_ENDED;
}

static void do_power_off(void *ctx)
{
    struct machine *m = ((struct call *)ctx)->m;
    if (m->state == MACHINE_RUNNING)
        halt(m);
    m->state = MACHINE_ENDED;
}

static void do_save(void *ctx)
{
    struct call *c = ctx;
    struct machine *m = c->m;
    if (m->state != MACHINE_PAUSED) {
        c->ok = err_set(c->e, ERR_STATE, "The machine is not paused");
        return;
    }
    c->ok = hv_partition_save(m->partition, c->w, c->e);
    for (unsigned i = 0; c->ok && i < m->ndevices; i++)
        m->device[i].ops->save(m->device[i].self, c->w);
    size_t len;
    c->ok = c->ok && state_writer_data(c->w, &len, c->e);
}

static void do_restore(void *ctx)
{
    struct call *c = ctx;
    struct machine *m = c->m;
    if (m->state == MACHINE_RUNNING) {
        c->ok = err_set(c->e, ERR_STATE, "The machine is running");
        return;
    }
    reset_all(m);
    c->ok = hv_partition_restore(m->partition, c->r, c->e);
    for (unsigned i = 0; c->ok && i < m->ndevices; i++)
        c->ok = m->device[i].ops->restore(m->device[i].self, c->r, c->e);
    if (c->ok)
        m->state = MACHINE_PAUSED;
}

static void do_add(void *ctx)
{
    struct call *c = ctx;
    struct machine *m = c->m;
    c->ok = m->state != MACHINE_RUNNING && m->ndevices < MACHINE_DEVICES;
    if (c->ok)
        m->device[m->ndevices++] = c->device;
    else
        err_set(c->e, ERR_STATE, "The %s cannot be added to the machine now", c->device.ops->name);
}

static bool call(struct call *c, void (*fn)(void *ctx))
{
    if (!c->m->has_thread) /* while it is made */
        fn(c);
    else
        loop_call_wait(c->m->loop, fn, c);
    return c->ok;
}

bool machine_start(struct machine *m, err *e)
{
    return call(&(struct call){.m = m, .e = e}, do_start);
}
bool machine_pause(struct machine *m)
{
    return call(&(struct call){.m = m}, do_pause);
}
void machine_resume(struct machine *m)
{
    call(&(struct call){.m = m}, do_resume);
}
bool machine_reset(struct machine *m, err *e)
{
    return call(&(struct call){.m = m, .e = e}, do_reset);
}
void machine_power_off(struct machine *m)
{
    call(&(struct call){.m = m}, do_power_off);
}
bool machine_save(struct machine *m, struct state_writer *w, err *e)
{
    return call(&(struct call){.m = m, .w = w, .e = e}, do_save);
}
bool machine_restore(struct machine *m, const struct state_reader *r, err *e)
{
    return call(&(struct call){.m = m, .r = r, .e = e}, do_restore);
}

static void do_is_paused(void *ctx)
{
    struct call *c = ctx;
    c->ok = c->m->state == MACHINE_PAUSED;
}
bool machine_is_paused(struct machine *m)
{
    return call(&(struct call){.m = m}, do_is_paused);
}

static void do_generation(void *ctx)
{
    struct call *c = ctx;
    struct guid g;
    guid_random(&g);
    c->ok = hv_memory_write(hv_partition_memory(c->m->partition), machine_generation(c->m), g.b,
                            sizeof g.b) ||
            err_set(c->e, ERR_INVALID, "The machine has too little memory");
    if (c->ok)
        pm_raise_gpe(c->m->pm, PM_GPE_GENERATION);
}
bool machine_new_generation(struct machine *m, err *e)
{
    return call(&(struct call){.m = m, .e = e}, do_generation);
}

bool machine_add_device(struct machine *m, struct device d, err *e)
{
    bool ok = call(&(struct call){.m = m, .device = d, .e = e}, do_add);
    if (!ok)
        d.ops->destroy(d.self);
    return ok;
}

/* ---- small ones ---- */

void machine_press_power_button(struct machine *m)
{
    pm_press_power_button(m->pm);
}

size_t machine_serial_input(struct machine *m, unsigned port, const uint8_t *data, size_t len)
{
    return port < m->p.serials ? uart_input(m->serial[port].uart, data, len) : len;
}

void machine_serial_break(struct machine *m, unsigned port)
{
    if (port < m->p.serials)
        uart_break(m->serial[port].uart);
}

static void do_ready(void *ctx)
{
    uart_sink_ready(ctx);
}

void machine_serial_ready(struct machine *m, unsigned port)
{
    if (port < m->p.serials)
        loop_call_wait(m->loop, do_ready, m->serial[port].uart);
}

void machine_stats(struct machine *m, struct machine_stats *out)
{
    *out = (struct machine_stats){.resets = m->resets};
    for (unsigned i = 0; i < m->p.vps; i++) {
        struct hv_vp_stats s;
        hv_partition_stats(m->partition, i, &s);
        for (unsigned k = 0; k < HV_COUNT_KINDS; k++)
            out->vp.exits[k] += s.exits[k];
        out->vp.instructions += s.instructions;
        out->vp.code_memory += s.code_memory;
        out->vp.code_flushes += s.code_flushes;
    }
    out->guest_seconds = (double)hv_partition_reference_time(m->partition) / 1e7;
}

struct fwcfg *machine_fwcfg(struct machine *m)
{
    return m->fwcfg;
}
void machine_ask_reset(struct machine *m)
{
    machine_ask_end(m, MACHINE_RESET, 0, 0);
}
struct hv_partition *machine_partition(struct machine *m)
{
    return m->partition;
}
struct loop *machine_loop(struct machine *m)
{
    return m->loop;
}
const struct chip_env *machine_env(struct machine *m)
{
    return &m->env;
}
void machine_set_bus(struct machine *m, const struct machine_bus_ops *ops, void *ctx)
{
    m->bus = *ops;
    m->bus_ctx = ctx;
}

/* ---- upcalls of the partition, on VP threads ---- */

static enum hv_status on_message(void *ctx, unsigned vp, uint32_t id, uint32_t type,
                                 const void *payload, uint32_t len)
{
    struct machine *m = ctx;
    if (!m->bus.post_message)
        return HV_STATUS_INVALID_CONNECTION_ID;
    return m->bus.post_message(m->bus_ctx, vp, id, type, payload, len);
}

static enum hv_status on_signal(void *ctx, unsigned vp, uint32_t id, uint16_t flag)
{
    struct machine *m = ctx;
    if (!m->bus.signal_event)
        return HV_STATUS_INVALID_CONNECTION_ID;
    return m->bus.signal_event(m->bus_ctx, vp, id, flag);
}

static void on_eoi(void *ctx, uint8_t vector)
{
    ioapic_eoi(((struct machine *)ctx)->ioapic, vector);
}

static int on_pic_ack(void *ctx)
{
    struct machine *m = ctx;
    return m->pic ? pic_acknowledge(m->pic) : -1;
}

/* ---- making and freeing ---- */

static uint64_t guest_ns(void *ctx)
{
    return hv_partition_reference_time(((struct machine *)ctx)->partition) * 100;
}

static void *io_thread(void *arg)
{
    struct machine *m = arg;
    prctl(PR_SET_NAME, "vireo-io", 0, 0, 0);
    loop_run(m->loop);
    return NULL;
}

/* A copy with a name and a descriptor of its own; bytes in memory stay the caller's. */
static bool own_file(struct boot_file *f, const struct boot_file *given, char **name, err *e)
{
    if (!given->size)
        return true;
    *name = strdup(given->name);
    if (!*name)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory");
    int fd = given->fd >= 0 ? fcntl(given->fd, F_DUPFD_CLOEXEC, 3) : -1;
    if (given->fd >= 0 && fd < 0)
        return err_errno(e, errno, "%s", given->name);
    *f = (struct boot_file){.name = *name, .fd = fd, .data = given->data, .size = given->size};
    return true;
}

static bool own_boot(struct machine *m, const struct boot_params *given, err *e)
{
    struct boot_params *b = &m->p.boot;
    b->map = &m->map;
    b->legacy_apic = machine_has_legacy(m);
    m->cmdline = strdup(b->cmdline ? b->cmdline : "");
    b->cmdline = m->cmdline;
    if (!m->cmdline)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory");
    return own_file(&b->kernel, &given->kernel, &m->kernel_name, e) &&
           own_file(&b->initrd, &given->initrd, &m->initrd_name, e);
}

static bool make_partition(struct machine *m, err *e)
{
    m->partition_ops = (struct hv_partition_ops){.post_message = on_message,
                                                 .signal_event = on_signal,
                                                 .ended = on_partition_end,
                                                 .ioapic_eoi = on_eoi,
                                                 .pic_ack = on_pic_ack};
    const struct hv_partition_params pp = {.accel = m->p.accel,
                                           .cpu = m->p.cpu,
                                           .vendor = m->p.vendor,
                                           .vp_count = m->p.vps,
                                           .no_flush_hint = machine_has_legacy(m),
                                           .page_reporting = !machine_has_legacy(m),
                                           .backend = m->p.backend,
                                           .ops = &m->partition_ops,
                                           .ctx = m};
    m->partition = hv_partition_new(&pp, e);
    return m->partition && memmap_add_ram(&m->map, hv_partition_memory(m->partition), e);
}

static bool make(struct machine *m, const struct boot_params *boot_image, err *e)
{
    if (m->p.vps < 1 || m->p.vps > HV_MAX_VPS)
        return err_set(e, ERR_INVALID, "A machine has 1 to %d processors", HV_MAX_VPS);
    if (m->p.serials > MACHINE_SERIALS)
        return err_set(e, ERR_INVALID, "A machine has at most %d serial ports", MACHINE_SERIALS);
    bool pc = m->p.kind == MACHINE_GEN1;
    bool mapped =
        pc ? memmap_init_pc(&m->map, m->p.memory, e) : memmap_init(&m->map, m->p.memory, e);
    if (!mapped || !own_boot(m, boot_image, e))
        return false;
    m->loop = loop_new(e);
    if (!m->loop || !make_partition(m, e))
        return false;
    m->env = (struct chip_env){
        .io = hv_partition_io(m->partition), .loop = m->loop, .guest_ns = guest_ns, .ctx = m};
    loop_post_init(&m->post, on_asked, m);
    if (!machine_make_board(m, e))
        return false;
    int rc = pthread_create(&m->thread, NULL, io_thread, m);
    if (rc)
        return err_errno(e, rc, "Starting the machine's I/O thread");
    m->has_thread = true;
    return true;
}

struct machine *machine_new(const struct machine_params *p, err *e)
{
    struct machine *m = calloc(1, sizeof *m);
    if (!m) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for a machine");
        return NULL;
    }
    m->p = *p;
    m->p.boot.kernel = m->p.boot.initrd = (struct boot_file){.name = "", .fd = -1};
    pthread_mutex_init(&m->lock, NULL);
    if (make(m, &p->boot, e))
        return m;
    machine_free(m);
    return NULL;
}

static void close_file(struct boot_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
}

void machine_free(struct machine *m)
{
    if (!m)
        return;
    if (m->has_thread) {
        machine_power_off(m);
        loop_quit(m->loop);
        pthread_join(m->thread, NULL);
        m->has_thread = false;
    }
    while (m->loop && loop_turn(m->loop, 0)) /* posts that name devices */
        ;
    for (unsigned i = m->ndevices; i-- > 0;)
        m->device[i].ops->destroy(m->device[i].self);
    if (m->partition)
        hv_partition_free(m->partition);
    loop_free(m->loop);
    close_file(&m->p.boot.kernel);
    close_file(&m->p.boot.initrd);
    free(m->cmdline);
    free(m->kernel_name);
    free(m->initrd_name);
    free(m->bios);
    pthread_mutex_destroy(&m->lock);
    free(m);
}
