/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/pci.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/chipset/layout.h"

enum { PORT_CONFIG = 0xcf8, CONFIG_PORTS = 8, RESET_CONTROL = 1, DATA = 4, RANGES = 3 };
#define ADDRESS_ENABLE 0x80000000u
#define ADDRESS_BITS 0x80fffffcu

struct pci {
    const struct chip_env *env;
    struct pci_params p;
    struct hv_io_range *ranges[RANGES];

    pthread_mutex_t lock; /* all below, and the functions' configuration */
    struct pci_function *functions[PCI_FUNCTIONS];
    unsigned nfunctions;
    uint32_t address;
    unsigned asserted[PCI_PIRQS]; /* functions that assert each line */
};

/* ---- functions ---- */

void pci_function_init(struct pci_function *f, const char *name, uint8_t devfn,
                       const struct pci_ids *ids)
{
    *f = (struct pci_function){.name = name, .devfn = devfn};
    pci_put16(f, PCI_VENDOR, ids->vendor);
    pci_put16(f, PCI_DEVICE, ids->device);
    pci_put16(f, PCI_SUBSYSTEM, ids->subsystem_vendor);
    pci_put16(f, PCI_SUBSYSTEM + 2, ids->subsystem);
    f->config[PCI_REVISION] = ids->revision;
    f->config[PCI_CLASS] = (uint8_t)ids->class_code;
    pci_put16(f, PCI_CLASS + 1, (uint16_t)(ids->class_code >> 8));
    f->config[PCI_IRQ_PIN] = ids->pin;
    f->writable[PCI_COMMAND] = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | 0x50;
    f->writable[PCI_COMMAND + 1] = 0x05; /* SERR, interrupt disable */
    f->writable[0x0c] = 0xff;            /* cache line size */
    f->writable[0x0d] = 0xf8;            /* latency timer */
    f->writable[PCI_IRQ_LINE] = 0xff;
}

static void init_bars(struct pci_function *f)
{
    for (unsigned i = 0; i < PCI_BARS; i++) {
        const struct pci_bar *b = &f->bar[i];
        if (!b->size)
            continue;
        uint32_t mask = ~(b->size - 1);
        for (unsigned k = 0; k < 4; k++)
            f->writable[PCI_BAR + i * 4 + k] = (uint8_t)(mask >> k * 8);
        f->config[PCI_BAR + i * 4] |= b->port ? 1 : 0;
    }
}

void pci_function_reset(struct pci_function *f)
{
    memcpy(f->config, f->initial, sizeof f->config);
    f->intx = false;
}

/* Read-only bits stay this machine's own, whatever a saved state says. */
static bool function_loaded(void *obj, uint16_t version, err *e)
{
    struct pci_function *f = obj;
    for (unsigned i = 0; i < sizeof f->config; i++) {
        uint8_t own = (uint8_t) ~(f->writable[i] | f->clears[i]);
        f->config[i] = (uint8_t)((f->config[i] & ~own) | (f->initial[i] & own));
    }
    return true;
}

static const struct state_field function_fields[] = {
    STATE_FIELD(1, STATE_BYTES, struct pci_function, config),
    STATE_FIELD(2, STATE_BOOL, struct pci_function, intx),
};
const struct state_table pci_function_table = {.name = "PCI function",
                                               .fields = function_fields,
                                               .nfields = ARRAY_LEN(function_fields),
                                               .post_load = function_loaded};

static uint64_t bar_base(const struct pci_function *f, unsigned i)
{
    const struct pci_bar *b = &f->bar[i];
    unsigned bit = b->port ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
    if (!b->size || !(f->config[PCI_COMMAND] & bit))
        return 0;
    return get_le32(f->config + PCI_BAR + i * 4) & ~(b->size - 1);
}

uint64_t pci_bar_address(struct pci_function *f, unsigned bar)
{
    pthread_mutex_lock(&f->bus->lock);
    uint64_t at = bar_base(f, bar);
    pthread_mutex_unlock(&f->bus->lock);
    return at;
}

bool pci_is_master(struct pci_function *f)
{
    pthread_mutex_lock(&f->bus->lock);
    bool master = f->config[PCI_COMMAND] & PCI_COMMAND_MASTER;
    pthread_mutex_unlock(&f->bus->lock);
    return master;
}

/* ---- interrupts ---- */

static unsigned pirq_of(const struct pci_function *f)
{
    return ((f->devfn >> 3) + f->config[PCI_IRQ_PIN] + 2u) % PCI_PIRQS; /* slot - 1 + pin - 1 */
}

/* Lock held. */
static void count_pirqs(struct pci *b)
{
    unsigned now[PCI_PIRQS] = {0};
    for (unsigned i = 0; i < b->nfunctions; i++)
        if (b->functions[i]->intx && b->functions[i]->config[PCI_IRQ_PIN])
            now[pirq_of(b->functions[i])]++;
    for (unsigned n = 0; n < PCI_PIRQS; n++) {
        bool was = b->asserted[n];
        b->asserted[n] = now[n];
        if (was != (now[n] != 0))
            b->p.pirq(b->p.ctx, n, now[n] != 0);
    }
}

void pci_set_intx(struct pci_function *f, bool asserted)
{
    pthread_mutex_lock(&f->bus->lock);
    if (f->intx != asserted) {
        f->intx = asserted;
        count_pirqs(f->bus);
    }
    pthread_mutex_unlock(&f->bus->lock);
}

/* ---- configuration ---- */

static struct pci_function *selected(const struct pci *b)
{
    if (!(b->address & ADDRESS_ENABLE) || (b->address >> 16 & 0xff))
        return NULL;
    for (unsigned i = 0; i < b->nfunctions; i++)
        if (b->functions[i]->devfn == (uint8_t)(b->address >> 8))
            return b->functions[i];
    return NULL;
}

static uint64_t config_read(struct pci *b, unsigned at, unsigned size)
{
    const struct pci_function *f = selected(b);
    uint64_t v = 0;
    unsigned reg = (b->address & 0xfc) + at;
    if (!f)
        return UINT64_MAX;
    for (unsigned i = 0; i < size && reg + i < sizeof f->config; i++)
        v |= (uint64_t)f->config[reg + i] << i * 8;
    return v;
}

static void config_write(struct pci *b, unsigned at, unsigned size, uint64_t v)
{
    struct pci_function *f = selected(b);
    unsigned reg = (b->address & 0xfc) + at;
    if (!f)
        return;
    for (unsigned i = 0; i < size && reg + i < sizeof f->config; i++) {
        uint8_t *c = &f->config[reg + i], byte = (uint8_t)(v >> i * 8), w = f->writable[reg + i];
        *c = (uint8_t)((*c & ~w) | (byte & w));
        *c &= (uint8_t) ~(byte & f->clears[reg + i]);
    }
    if (f->written)
        f->written(f->ctx, reg, size);
}

static uint64_t port_read(void *ctx, uint64_t offset, unsigned size)
{
    struct pci *b = ctx;
    uint64_t v = UINT64_MAX;
    pthread_mutex_lock(&b->lock);
    if (offset == 0 && size == 4)
        v = b->address;
    else if (offset == RESET_CONTROL && size == 1)
        v = 0;
    else if (offset >= DATA)
        v = config_read(b, (unsigned)offset - DATA, size);
    pthread_mutex_unlock(&b->lock);
    return v;
}

static void port_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci *b = ctx;
    if (offset == RESET_CONTROL && size == 1) {
        b->p.reset_control(b->p.ctx, (uint8_t)value);
        return;
    }
    pthread_mutex_lock(&b->lock);
    if (offset == 0 && size == 4)
        b->address = (uint32_t)value & ADDRESS_BITS;
    else if (offset >= DATA)
        config_write(b, (unsigned)offset - DATA, size, value);
    pthread_mutex_unlock(&b->lock);
}

static const struct hv_io_ops port_ops = {
    .name = "PCI configuration", .read = port_read, .write = port_write};

/* ---- the windows ---- */

/* Who decodes the address; *offset within its base address. */
static const struct pci_bar *decode(struct pci *b, bool port, uint64_t addr, uint64_t *offset)
{
    const struct pci_bar *found = NULL;
    pthread_mutex_lock(&b->lock);
    for (unsigned i = 0; i < b->nfunctions && !found; i++)
        for (unsigned k = 0; k < PCI_BARS && !found; k++) {
            const struct pci_bar *bar = &b->functions[i]->bar[k];
            uint64_t base = bar->port == port && bar->ops ? bar_base(b->functions[i], k) : 0;
            if (base && addr - base < bar->size) {
                *offset = addr - base;
                found = bar;
            }
        }
    pthread_mutex_unlock(&b->lock);
    return found;
}

static uint64_t window_read(struct pci *b, bool port, uint64_t addr, unsigned size)
{
    uint64_t offset;
    const struct pci_bar *bar = decode(b, port, addr, &offset);
    if (!bar || offset + size > bar->size)
        return UINT64_MAX;
    return bar->ops->read(bar->ctx, offset, size);
}

static void window_write(struct pci *b, bool port, uint64_t addr, unsigned size, uint64_t value)
{
    uint64_t offset;
    const struct pci_bar *bar = decode(b, port, addr, &offset);
    if (bar && offset + size <= bar->size)
        bar->ops->write(bar->ctx, offset, size, value);
}

static uint64_t ports_read(void *ctx, uint64_t offset, unsigned size)
{
    return window_read(ctx, true, LAYOUT_PCI_PORTS + offset, size);
}
static void ports_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    window_write(ctx, true, LAYOUT_PCI_PORTS + offset, size, value);
}
static uint64_t memory_read(void *ctx, uint64_t offset, unsigned size)
{
    return window_read(ctx, false, LAYOUT_MMIO_LOW_BASE + offset, size);
}
static void memory_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    window_write(ctx, false, LAYOUT_MMIO_LOW_BASE + offset, size, value);
}

static const struct hv_io_ops ports_ops = {
    .name = "PCI ports", .read = ports_read, .write = ports_write};
static const struct hv_io_ops memory_ops = {
    .name = "PCI memory", .read = memory_read, .write = memory_write};

/* ---- life ---- */

bool pci_add(struct pci *b, struct pci_function *f, err *e)
{
    if (b->nfunctions == PCI_FUNCTIONS)
        return err_set(e, ERR_NO_SPACE, "The machine has no place for another PCI device");
    f->bus = b;
    init_bars(f);
    memcpy(f->initial, f->config, sizeof f->initial);
    pthread_mutex_lock(&b->lock);
    b->functions[b->nfunctions++] = f;
    pthread_mutex_unlock(&b->lock);
    return true;
}

void pci_remove(struct pci *b, struct pci_function *f)
{
    pthread_mutex_lock(&b->lock);
    for (unsigned i = 0; i < b->nfunctions; i++)
        if (b->functions[i] == f) {
            b->functions[i] = b->functions[--b->nfunctions];
            break;
        }
    pthread_mutex_unlock(&b->lock);
}

/* Functions were restored or reset meanwhile: tell the lines again. */
static void start(void *self)
{
    struct pci *b = self;
    pthread_mutex_lock(&b->lock);
    count_pirqs(b);
    pthread_mutex_unlock(&b->lock);
}

static void stop(void *self, void (*done)(void *ctx), void *ctx)
{
    done(ctx);
}

static void reset(void *self)
{
    struct pci *b = self;
    b->address = 0;
    for (unsigned n = 0; n < PCI_PIRQS; n++)
        if (b->asserted[n])
            b->p.pirq(b->p.ctx, n, false);
    memset(b->asserted, 0, sizeof b->asserted);
}

static const struct state_field fields[] = {
    STATE_FIELD(1, STATE_U32, struct pci, address),
};
static const struct state_table table = {.name = "PCI bus",
                                         .section = STATE_ID('P', 'C', 'I', ' '),
                                         .version = 1,
                                         .least_reader = 1,
                                         .fields = fields,
                                         .nfields = ARRAY_LEN(fields)};

static void save(void *self, struct state_writer *w)
{
    state_save(w, &table, 0, self);
}
static bool restore(void *self, const struct state_reader *r, err *e)
{
    struct pci *b = self;
    bool ok = state_restore(r, &table, 0, b, e);
    b->address &= ADDRESS_BITS;
    return ok;
}

static void destroy(void *self)
{
    struct pci *b = self;
    for (unsigned i = 0; i < RANGES; i++)
        if (b->ranges[i])
            hv_io_release(b->env->io, b->ranges[i]);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

static bool claim(struct pci *b, err *e)
{
    struct hv_io *io = b->env->io;
    b->ranges[0] = hv_io_claim(io, HV_IO_PORT, PORT_CONFIG, CONFIG_PORTS, &port_ops, b, e);
    if (!b->ranges[0])
        return false;
    b->ranges[1] =
        hv_io_claim(io, HV_IO_PORT, LAYOUT_PCI_PORTS, 0x10000 - LAYOUT_PCI_PORTS, &ports_ops, b, e);
    if (!b->ranges[1])
        return false;
    b->ranges[2] =
        hv_io_claim(io, HV_IO_MMIO, LAYOUT_MMIO_LOW_BASE, LAYOUT_PCI_MMIO_SIZE, &memory_ops, b, e);
    return b->ranges[2] != NULL;
}

struct pci *pci_new(const struct pci_params *p, err *e)
{
    struct pci *b = calloc(1, sizeof *b);
    if (!b) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for the PCI bus");
        return NULL;
    }
    b->p = *p;
    b->env = p->env;
    pthread_mutex_init(&b->lock, NULL);
    if (!claim(b, e)) {
        destroy(b);
        return NULL;
    }
    return b;
}

struct device pci_device(struct pci *b)
{
    static const struct device_ops ops = {.name = "PCI bus",
                                          .start = start,
                                          .stop = stop,
                                          .reset = reset,
                                          .save = save,
                                          .restore = restore,
                                          .destroy = destroy};
    return (struct device){.ops = &ops, .self = b};
}
