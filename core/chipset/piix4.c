/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/piix4.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/chipset/layout.h"
#include "core/chipset/pam.h"

enum {
    INTEL = 0x8086,
    HOST_BRIDGE = 0x1237,
    ISA_BRIDGE = 0x7110,
    PM_FUNCTION = 0x7113,
    /* What SeaBIOS takes as the sign that it runs in a virtual machine with fw_cfg. */
    SUBSYSTEM_VENDOR = 0x1af4,
    SUBSYSTEM = 0x1100,
};
enum { PAM = 0x59, PAM_END = 0x60, SMRAM = 0x72 };
enum { PIRQ_ROUTE = 0x60, ROUTE_OFF = 0x80, PM_BASE = 0x40, PM_MISC = 0x80, DEVACTB = 0x58 };
enum { PORT92 = 0x92, PORT92_RESET = 1, PORT92_A20 = 2, RESET_CPU = 4 };
enum { LOG_LINE = 200, DEBUG_READY = 0xe9, RANGES = 2 };

struct piix4 {
    struct piix4_params p;
    struct pci *bus;
    struct device bus_device;
    struct hv_io_range *ranges[RANGES];
    struct pci_function host, isa, pm;
    struct pam *pam;

    /* the bus's lock */
    uint8_t pirqs; /* bit n: PIRQ n is asserted */
    uint16_t irqs; /* the ISA lines that are asserted for it */

    pthread_mutex_t lock; /* all below */
    uint8_t port92;       /* A20 alone */
    char line[LOG_LINE];
    unsigned len;
};

/* ---- interrupt routing; bus lock held ---- */

static void route(struct piix4 *p)
{
    uint16_t now = 0;
    for (unsigned n = 0; n < PCI_PIRQS; n++) {
        uint8_t r = p->isa.config[PIRQ_ROUTE + n];
        if ((p->pirqs >> n & 1) && !(r & ROUTE_OFF) && (r & 15))
            now |= (uint16_t)(1u << (r & 15));
    }
    uint16_t changed = now ^ p->irqs;
    p->irqs = now;
    for (unsigned i = 0; i < 16; i++)
        if (changed >> i & 1)
            chip_line_set(&p->p.irq[i], now >> i & 1);
}

static void on_pirq(void *ctx, unsigned n, bool asserted)
{
    struct piix4 *p = ctx;
    p->pirqs = (uint8_t)(asserted ? p->pirqs | 1u << n : p->pirqs & ~(1u << n));
    route(p);
}

static void isa_written(void *ctx, unsigned reg, unsigned len)
{
    if (reg < PIRQ_ROUTE + PCI_PIRQS && reg + len > PIRQ_ROUTE)
        route(ctx);
}

static void host_written(void *ctx, unsigned reg, unsigned len)
{
    struct piix4 *p = ctx;
    if (p->pam && reg < PAM_END && reg + len > PAM)
        pam_set(p->pam, p->host.config + PAM);
}

static void on_reset_control(void *ctx, uint8_t value)
{
    struct piix4 *p = ctx;
    if (value & RESET_CPU)
        p->p.reset(p->p.ctx);
}

/* ---- A20 ---- */

/* Lock held. */
static void put_a20(struct piix4 *p, uint8_t port92)
{
    if (p->port92 == port92)
        return;
    p->port92 = port92;
    if (p->p.set_a20)
        p->p.set_a20(p->p.ctx, port92 != 0);
}

bool piix4_a20(struct piix4 *p)
{
    pthread_mutex_lock(&p->lock);
    bool on = p->port92 != 0;
    pthread_mutex_unlock(&p->lock);
    return on;
}

void piix4_set_a20(struct piix4 *p, bool on)
{
    pthread_mutex_lock(&p->lock);
    put_a20(p, on ? PORT92_A20 : 0);
    pthread_mutex_unlock(&p->lock);
}

/* ---- ports ---- */

static uint64_t read_port92(void *ctx, uint64_t offset, unsigned size)
{
    struct piix4 *p = ctx;
    pthread_mutex_lock(&p->lock);
    uint8_t v = p->port92;
    pthread_mutex_unlock(&p->lock);
    return v;
}

static void write_port92(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct piix4 *p = ctx;
    pthread_mutex_lock(&p->lock);
    put_a20(p, value & PORT92_A20);
    pthread_mutex_unlock(&p->lock);
    if (value & PORT92_RESET)
        p->p.reset(p->p.ctx);
}

static uint64_t read_debug(void *ctx, uint64_t offset, unsigned size)
{
    return DEBUG_READY;
}

/* A line at a time, rate-limited as everything that a guest makes us say. */
static void write_debug(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct piix4 *p = ctx;
    char c = (char)value;
    pthread_mutex_lock(&p->lock);
    if (c != '\n' && c != '\r')
        p->line[p->len++] = c >= ' ' && c < 127 ? c : '?';
    if (p->len && (c == '\n' || p->len == LOG_LINE - 1)) {
        p->line[p->len] = 0;
        p->len = 0;
        log_line(LOG_DEBUG, "firmware", "%s", p->line);
    }
    pthread_mutex_unlock(&p->lock);
}

static const struct hv_io_ops port92_ops = {
    .name = "system control port A", .read = read_port92, .write = write_port92};
static const struct hv_io_ops debug_ops = {
    .name = "firmware's log", .read = read_debug, .write = write_debug};

/* ---- functions ---- */

static void make_host(struct piix4 *p)
{
    pci_function_init(&p->host, "host bridge", 0,
                      &(struct pci_ids){.vendor = INTEL,
                                        .device = HOST_BRIDGE,
                                        .subsystem_vendor = SUBSYSTEM_VENDOR,
                                        .subsystem = SUBSYSTEM,
                                        .class_code = 0x060000,
                                        .revision = 2});
    for (unsigned r = PAM; r < PAM_END; r++) /* 0: all is ROM, SeaBIOS copies itself */
        p->host.writable[r] = 0x33;
    p->host.writable[PAM] = 0x30;
    p->host.written = host_written;
    p->host.ctx = p;
    p->host.config[SMRAM] = 0x02;
    p->host.writable[SMRAM] = 0x78;
}

static void make_isa(struct piix4 *p)
{
    pci_function_init(&p->isa, "ISA bridge", LAYOUT_PCI_ISA << 3,
                      &(struct pci_ids){.vendor = INTEL,
                                        .device = ISA_BRIDGE,
                                        .subsystem_vendor = SUBSYSTEM_VENDOR,
                                        .subsystem = SUBSYSTEM,
                                        .class_code = 0x060100});
    p->isa.config[PCI_HEADER] = 0x80; /* more functions */
    p->isa.config[0x4e] = 0x03;
    p->isa.writable[0x4c] = p->isa.writable[0x4e] = p->isa.writable[0x4f] = 0xff;
    for (unsigned n = 0; n < PCI_PIRQS; n++) {
        p->isa.config[PIRQ_ROUTE + n] = ROUTE_OFF;
        p->isa.writable[PIRQ_ROUTE + n] = 0x8f;
    }
    p->isa.written = isa_written;
    p->isa.ctx = p;
}

static void make_pm(struct piix4 *p)
{
    pci_function_init(&p->pm, "power management", LAYOUT_PCI_ISA << 3 | 3,
                      &(struct pci_ids){.vendor = INTEL,
                                        .device = PM_FUNCTION,
                                        .subsystem_vendor = SUBSYSTEM_VENDOR,
                                        .subsystem = SUBSYSTEM,
                                        .class_code = 0x068000,
                                        .revision = 3});
    /* The ports are where SeaBIOS would put them, fixed. */
    pci_put16(&p->pm, PM_BASE, LAYOUT_PORT_PM_PIIX4 | 1);
    p->pm.config[PM_MISC] = 1;
    p->pm.config[DEVACTB + 3] = 0x02; /* system management is set up: there is none */
    p->pm.config[PCI_IRQ_LINE] = LAYOUT_IRQ_SCI;
}

/* ---- life ---- */

static void start(void *self)
{
    struct piix4 *p = self;
    p->bus_device.ops->start(p->bus_device.self);
}

static void stop(void *self, void (*done)(void *ctx), void *ctx)
{
    done(ctx);
}

static void reset(void *self)
{
    struct piix4 *p = self;
    pci_function_reset(&p->host);
    p->bus_device.ops->reset(p->bus_device.self); /* lets go of lines that are still routed */
    pci_function_reset(&p->isa);
    pci_function_reset(&p->pm);
    p->pirqs = 0;
    route(p);
    put_a20(p, PORT92_A20);
    host_written(p, PAM, PAM_END - PAM);
    p->len = 0;
}

static const struct state_field fields[] = {
    STATE_SUB(1, struct piix4, host, &pci_function_table, 1),
    STATE_SUB(2, struct piix4, isa, &pci_function_table, 1),
    STATE_SUB(3, struct piix4, pm, &pci_function_table, 1),
    STATE_FIELD_MAX(4, STATE_U8, struct piix4, port92, PORT92_A20),
    /* 5 was the DMA page registers, now core/chipset/dma's */
};
static const struct state_table table = {.name = "PCI board",
                                         .section = STATE_ID('P', 'I', 'I', 'X'),
                                         .version = 1,
                                         .least_reader = 1,
                                         .fields = fields,
                                         .nfields = ARRAY_LEN(fields)};

static void save(void *self, struct state_writer *w)
{
    struct piix4 *p = self;
    state_save(w, &table, 0, p);
    p->bus_device.ops->save(p->bus_device.self, w);
}

static bool restore(void *self, const struct state_reader *r, err *e)
{
    struct piix4 *p = self;
    uint8_t was = p->port92;
    if (!state_restore(r, &table, 0, p, e))
        return false;
    uint8_t now = p->port92 & PORT92_A20;
    p->port92 = was;
    put_a20(p, now);
    host_written(p, PAM, PAM_END - PAM);
    return p->bus_device.ops->restore(p->bus_device.self, r, e);
}

static void destroy(void *self)
{
    struct piix4 *p = self;
    for (unsigned i = 0; i < RANGES; i++)
        if (p->ranges[i])
            hv_io_release(p->p.env->io, p->ranges[i]);
    if (p->bus)
        p->bus_device.ops->destroy(p->bus_device.self);
    pam_free(p->pam);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static bool claim(struct piix4 *p, unsigned i, uint16_t port, unsigned len,
                  const struct hv_io_ops *ops, err *e)
{
    p->ranges[i] = hv_io_claim(p->p.env->io, HV_IO_PORT, port, len, ops, p, e);
    return p->ranges[i] != NULL;
}

static bool build(struct piix4 *p, err *e)
{
    p->bus = pci_new(
        &(struct pci_params){
            .env = p->p.env, .pirq = on_pirq, .reset_control = on_reset_control, .ctx = p},
        e);
    if (!p->bus)
        return false;
    p->bus_device = pci_device(p->bus);
    if (p->p.memory && !(p->pam = pam_new(p->p.env->io, p->p.memory, e)))
        return false;
    make_host(p);
    make_isa(p);
    make_pm(p);
    return pci_add(p->bus, &p->host, e) && pci_add(p->bus, &p->isa, e) &&
           pci_add(p->bus, &p->pm, e) && claim(p, 0, PORT92, 1, &port92_ops, e) &&
           claim(p, 1, LAYOUT_PORT_DEBUG, 1, &debug_ops, e);
}

struct piix4 *piix4_new(const struct piix4_params *params, err *e)
{
    struct piix4 *p = calloc(1, sizeof *p);
    if (!p) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for the PCI board");
        return NULL;
    }
    p->p = *params;
    p->port92 = PORT92_A20;
    pthread_mutex_init(&p->lock, NULL);
    if (!build(p, e)) {
        destroy(p);
        return NULL;
    }
    return p;
}

struct pci *piix4_bus(struct piix4 *p)
{
    return p->bus;
}

struct device piix4_device(struct piix4 *p)
{
    static const struct device_ops ops = {.name = "PCI board",
                                          .start = start,
                                          .stop = stop,
                                          .reset = reset,
                                          .save = save,
                                          .restore = restore,
                                          .destroy = destroy};
    return (struct device){.ops = &ops, .self = p};
}
