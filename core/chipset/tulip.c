/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Registers, interrupts, timer, life and state of the 21140. */
#include "core/chipset/tulip.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/chipset/tulip-int.h"

enum { DEC = 0x1011, DC21140 = 0x0009, REVISION = 0x20, MICROSOFT = 0x1414, SUBSYSTEM = 1 };
enum { WINDOW = 128, CSR_STRIDE = 8, SLEEP_MODE = 0x43 };
enum { CSR0_RESET = 1 };
#define CSR0_FIXED 0xfe000000u
#define CSR5_FIXED 0xfc000000u
#define CSR6_AT_RESET 0x32000040u
#define CSR8_FIXED 0xe0000000u
#define CSR9_FIXED 0xfff00000u
#define CSR11_FIXED 0xfffe0000u
#define CSR12_FIXED 0xfffffe00u
#define EV_NORMAL (EV_TI | EV_TU | EV_RI)
enum { SUM_ABNORMAL = 1u << 15, SUM_NORMAL = 1u << 16 };
enum { RX_SHIFT = 17, TX_SHIFT = 20, ERROR_SHIFT = 23, MASTER_ABORT = 2 };
/* States of the processes: stopped is 0. */
enum { RX_WAITS_FOR_FRAME = 3, RX_SUSPENDED = 4, TX_FETCHES = 1, TX_SUSPENDED = 6 };
enum { TIMER_COUNT = 0xffff, TIMER_AGAIN = 0x10000, GP_DIRECTION = 0x100 };
#define TIMER_TICK_NS 81920u

/* ---- events and the interrupt; lock held ---- */

static uint32_t summaries(const struct tulip *t)
{
    uint32_t on = t->csr[5] & t->csr[7];
    return (on & EV_NORMAL ? SUM_NORMAL : 0) | (on & (EV_ALL & ~EV_NORMAL) ? SUM_ABNORMAL : 0);
}

static void update_line(struct tulip *t)
{
    pci_set_intx(&t->function, summaries(t) & t->csr[7]);
}

void tulip_event(struct tulip *t, uint32_t events)
{
    t->csr[5] |= events & EV_ALL;
    update_line(t);
}

void tulip_bus_error(struct tulip *t)
{
    LOG_GUEST("network", "the legacy adapter was told to use memory that is not there");
    t->csr[6] &= ~(uint32_t)(OM_SR | OM_ST);
    tulip_event(t, EV_FBE);
}

static uint32_t status(const struct tulip *t)
{
    uint32_t v = CSR5_FIXED | t->csr[5] | summaries(t);
    if (t->csr[6] & OM_SR)
        v |= (uint32_t)(t->rx_waits ? RX_SUSPENDED : RX_WAITS_FOR_FRAME) << RX_SHIFT;
    if (t->csr[6] & OM_ST)
        v |= (uint32_t)(t->tx_waits ? TX_SUSPENDED : TX_FETCHES) << TX_SHIFT;
    return v | (t->csr[5] & EV_FBE ? (uint32_t)MASTER_ABORT << ERROR_SHIFT : 0);
}

/* ---- timers ---- */

void tulip_arm(struct tulip *t)
{
    uint64_t due = t->timer_due;
    if (t->retry_due && (!due || t->retry_due < due))
        due = t->retry_due;
    chip_timer_set(&t->timer, due);
}

static void timer_set(struct tulip *t, uint32_t v)
{
    uint64_t ticks = v & TIMER_COUNT;
    t->csr[11] = v & (TIMER_COUNT | TIMER_AGAIN);
    t->timer_due = ticks ? chip_now(t->p.env) + ticks * TIMER_TICK_NS : 0;
    tulip_arm(t);
}

static uint32_t timer_left(const struct tulip *t)
{
    uint64_t now = chip_now(t->p.env);
    uint64_t left = t->timer_due > now ? (t->timer_due - now) / TIMER_TICK_NS : 0;
    return (uint32_t)MIN(left, (uint64_t)TIMER_COUNT) | (t->csr[11] & TIMER_AGAIN);
}

/* I/O thread. */
static void on_timer(void *ctx)
{
    struct tulip *t = ctx;
    pthread_mutex_lock(&t->lock);
    uint64_t now = chip_now(t->p.env);
    bool retry = t->retry_due && now >= t->retry_due;
    if (retry)
        t->retry_due = 0;
    if (t->timer_due && now >= t->timer_due) {
        if (t->csr[11] & TIMER_AGAIN)
            timer_set(t, t->csr[11]);
        else
            t->timer_due = 0;
        tulip_event(t, EV_GTE);
    }
    tulip_arm(t);
    pthread_mutex_unlock(&t->lock);
    if (retry)
        net_port_room(t->p.port);
}

/* ---- resets; lock held ---- */

static void reset_registers(struct tulip *t)
{
    memset(t->csr, 0, sizeof t->csr);
    t->csr[6] = CSR6_AT_RESET;
    t->tx_at = t->rx_at = 0;
    t->tx_waits = t->rx_waits = t->filter_set = false;
    t->filter = 0;
    memset(t->setup, 0, sizeof t->setup);
    tulip_serial_reset(t);
    t->missed = 0;
    t->timer_due = t->retry_due = 0;
    t->retries = 0;
    t->resets++;
    tulip_arm(t);
}

/* ---- registers; lock held ---- */

static uint32_t csr_read(struct tulip *t, unsigned n)
{
    switch (n) {
    case 0: return CSR0_FIXED | t->csr[0];
    case 3:
    case 4:
    case 6:
    case 7:
    case 15: return t->csr[n];
    case 5: return status(t);
    case 8: {
        uint32_t v = CSR8_FIXED | MIN(t->missed, 0xffffu);
        t->missed = 0;
        return v;
    }
    case 9: return CSR9_FIXED | tulip_serial_read(t);
    case 11: return CSR11_FIXED | timer_left(t);
    case 12: return CSR12_FIXED | t->csr[12];
    default: return UINT32_MAX;
    }
}

static void mode_write(struct tulip *t, uint32_t v)
{
    uint32_t was = t->csr[6];
    t->csr[6] = v;
    if ((was ^ v) & OM_SR) {
        t->rx_waits = false;
        if (!(v & OM_SR))
            t->csr[5] |= EV_RPS;
    }
    if ((was ^ v) & OM_ST) {
        t->tx_waits = false;
        if (!(v & OM_ST))
            t->csr[5] |= EV_TPS;
    }
    update_line(t);
}

static void csr_write(struct tulip *t, unsigned n, uint32_t v)
{
    switch (n) {
    case 0:
        if (v & CSR0_RESET)
            reset_registers(t);
        t->csr[0] = v & ~(CSR0_FIXED | CSR0_RESET);
        update_line(t);
        break;
    case 1: t->tx_waits = false; break;
    case 2: t->rx_waits = false; break;
    case 3: t->csr[3] = t->rx_at = v & ~3u; break;
    case 4: t->csr[4] = t->tx_at = v & ~3u; break;
    case 5:
        t->csr[5] &= ~v;
        update_line(t);
        break;
    case 6: mode_write(t, v); break;
    case 7:
        t->csr[7] = v & 0x1ffff;
        update_line(t);
        break;
    case 9: tulip_serial_write(t, v & 0xfffff); break;
    case 11: timer_set(t, v); break;
    case 12:
        if (!(v & GP_DIRECTION))
            t->csr[12] = v & 0xff;
        break;
    case 15: t->csr[15] = v; break;
    default: break;
    }
}

static uint64_t read_window(void *ctx, uint64_t offset, unsigned size)
{
    struct tulip *t = ctx;
    unsigned within = offset % CSR_STRIDE;
    if (within >= 4)
        return 0;
    pthread_mutex_lock(&t->lock);
    uint32_t v = csr_read(t, (unsigned)offset / CSR_STRIDE);
    pthread_mutex_unlock(&t->lock);
    return v >> within * 8;
}

/* Drivers write whole registers; what is shorter than one is none. */
static void write_window(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct tulip *t = ctx;
    if (offset % CSR_STRIDE || size < 4)
        return;
    unsigned n = (unsigned)offset / CSR_STRIDE;
    pthread_mutex_lock(&t->lock);
    csr_write(t, n, (uint32_t)value);
    pthread_mutex_unlock(&t->lock);
    if (n == 1 || n == 2 || n == 6)
        loop_post(t->p.env->loop, &t->post);
}

static const struct hv_io_ops window_ops = {
    .name = "legacy network adapter", .read = read_window, .write = write_window};

/* ---- the I/O thread's side ---- */

static void act(void *ctx)
{
    struct tulip *t = ctx;
    tulip_send_frames(t);
    if (t->running)
        net_port_room(t->p.port);
}

static void send_again(void *ctx)
{
    struct tulip *t = ctx;
    pthread_mutex_lock(&t->lock);
    t->blocked = false;
    pthread_mutex_unlock(&t->lock);
    loop_post(t->p.env->loop, &t->post);
}

static void link_changed(void *ctx, bool up)
{
    struct tulip *t = ctx;
    pthread_mutex_lock(&t->lock);
    if (!up)
        t->link_was_down = true;
    pthread_mutex_unlock(&t->lock);
}

void tulip_network_changed(struct tulip *t)
{
    link_changed(t, false);
}

static const struct net_adapter_ops adapter_ops = {
    .deliver = tulip_deliver, .send_again = send_again, .link = link_changed};

struct net_port *tulip_port(struct tulip *t)
{
    return t->p.port;
}

bool tulip_in_use(struct tulip *t)
{
    pthread_mutex_lock(&t->lock);
    bool on = t->csr[6] & OM_SR;
    pthread_mutex_unlock(&t->lock);
    return on;
}

/* ---- life ---- */

static void start(void *self)
{
    struct tulip *t = self;
    pthread_mutex_lock(&t->lock);
    t->running = true;
    t->blocked = false;
    update_line(t);
    tulip_arm(t);
    pthread_mutex_unlock(&t->lock);
    chip_timer_start(&t->timer);
    net_port_start(t->p.port);
    loop_post(t->p.env->loop, &t->post);
}

static void stop(void *self, void (*done)(void *ctx), void *ctx)
{
    struct tulip *t = self;
    chip_timer_stop(&t->timer);
    net_port_stop(t->p.port);
    pthread_mutex_lock(&t->lock);
    t->running = false;
    pthread_mutex_unlock(&t->lock);
    done(ctx);
}

static void reset(void *self)
{
    struct tulip *t = self;
    pci_function_reset(&t->function);
    pthread_mutex_lock(&t->lock);
    reset_registers(t);
    tulip_mii_reset(t);
    t->link_was_down = false;
    pthread_mutex_unlock(&t->lock);
}

static const struct state_field serial_fields[] = {
    STATE_FIELD_MAX(1, STATE_U8, struct tulip_serial, bits, 31),
    STATE_FIELD(2, STATE_U32, struct tulip_serial, in),
    STATE_FIELD(3, STATE_U16, struct tulip_serial, out),
    STATE_FIELD(4, STATE_BOOL, struct tulip_serial, clock),
    STATE_FIELD(5, STATE_BOOL, struct tulip_serial, data),
};
static const struct state_table serial_table = {
    .name = "serial ROM", .fields = serial_fields, .nfields = ARRAY_LEN(serial_fields)};

static const struct state_field fields[] = {
    STATE_SUB(1, struct tulip, function, &pci_function_table, 1),
    STATE_ARRAY(2, STATE_U32, struct tulip, csr),
    STATE_FIELD(3, STATE_U32, struct tulip, tx_at),
    STATE_FIELD(4, STATE_U32, struct tulip, rx_at),
    STATE_FIELD(5, STATE_BOOL, struct tulip, tx_waits),
    STATE_FIELD(6, STATE_BOOL, struct tulip, rx_waits),
    STATE_FIELD(7, STATE_BYTES, struct tulip, setup),
    STATE_FIELD_MAX(8, STATE_U8, struct tulip, filter, 3),
    STATE_FIELD(9, STATE_BOOL, struct tulip, filter_set),
    STATE_SUB(10, struct tulip, rom, &serial_table, 1),
    STATE_SUB(11, struct tulip, mii, &serial_table, 1),
    STATE_FIELD(12, STATE_U16, struct tulip, bmcr),
    STATE_FIELD(13, STATE_U16, struct tulip, advertise),
    STATE_FIELD(14, STATE_U32, struct tulip, missed),
    STATE_FIELD(15, STATE_BOOL, struct tulip, link_was_down),
    STATE_FIELD(16, STATE_U64, struct tulip, timer_due),
};

/* Bits that no write could have set are not believed. */
static bool loaded(void *obj, uint16_t version, err *e)
{
    struct tulip *t = obj;
    t->csr[0] &= ~(CSR0_FIXED | CSR0_RESET);
    t->csr[5] &= EV_ALL;
    t->csr[7] &= 0x1ffff;
    t->csr[9] &= 0xfffff;
    t->csr[11] &= TIMER_COUNT | TIMER_AGAIN;
    t->csr[12] &= 0xff;
    t->rom.bits = MIN(t->rom.bits, 9);
    return true;
}

static const struct state_table table = {.name = "legacy network adapter",
                                         .section = STATE_ID('T', 'U', 'L', 'P'),
                                         .version = 1,
                                         .least_reader = 1,
                                         .fields = fields,
                                         .nfields = ARRAY_LEN(fields),
                                         .post_load = loaded};

static void save(void *self, struct state_writer *w)
{
    struct tulip *t = self;
    state_save(w, &table, t->p.instance, t);
}

static bool restore(void *self, const struct state_reader *r, err *e)
{
    struct tulip *t = self;
    return state_restore(r, &table, t->p.instance, t, e);
}

static void destroy(void *self)
{
    struct tulip *t = self;
    if (t->function.bus)
        pci_remove(t->function.bus, &t->function);
    net_port_free(t->p.port);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static void make_function(struct tulip *t)
{
    pci_function_init(&t->function, "legacy network adapter", (uint8_t)(t->p.slot << 3),
                      &(struct pci_ids){.vendor = DEC,
                                        .device = DC21140,
                                        .subsystem_vendor = MICROSOFT,
                                        .subsystem = SUBSYSTEM,
                                        .class_code = 0x020000,
                                        .revision = REVISION,
                                        .pin = 1});
    for (unsigned i = 0; i < 2; i++)
        t->function.bar[i] =
            (struct pci_bar){.size = WINDOW, .port = i == 0, .ops = &window_ops, .ctx = t};
    t->function.writable[SLEEP_MODE] = 0xc0; /* kept; the adapter never sleeps */
    t->function.config[0x3e] = 0x14;         /* least grant, greatest latency */
    t->function.config[0x3f] = 0x28;
}

struct tulip *tulip_new(const struct tulip_params *p, err *e)
{
    struct tulip *t = calloc(1, sizeof *t);
    if (!t) {
        net_port_free(p->port);
        err_set(e, ERR_NO_MEMORY, "Not enough memory for a network adapter");
        return NULL;
    }
    t->p = *p;
    pthread_mutex_init(&t->lock, NULL);
    chip_timer_init(&t->timer, p->env, on_timer, t);
    loop_post_init(&t->post, act, t);
    tulip_srom_init(t, net_port_mac(p->port));
    reset_registers(t);
    tulip_mii_reset(t);
    make_function(t);
    if (!pci_add(p->bus, &t->function, e)) {
        destroy(t);
        return NULL;
    }
    net_port_attach(p->port, &adapter_ops, t);
    net_port_set_limits(p->port, NET_MTU_DEFAULT, false);
    return t;
}

struct device tulip_device(struct tulip *t)
{
    static const struct device_ops ops = {.name = "legacy network adapter",
                                          .start = start,
                                          .stop = stop,
                                          .reset = reset,
                                          .save = save,
                                          .restore = restore,
                                          .destroy = destroy};
    return (struct device){.ops = &ops, .self = t};
}
