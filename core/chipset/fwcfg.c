/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/fwcfg.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/chipset/layout.h"

enum key {
    KEY_SIGNATURE = 0,
    KEY_ID = 1,
    KEY_RAM_SIZE = 3,
    KEY_NB_CPUS = 5,
    KEY_MAX_CPUS = 0x0f,
    KEY_FILES = 0x19,
};
enum { ID_TRADITIONAL = 1 };

struct fwcfg {
    const struct chip_env *env;
    struct hv_io_range *range;
    uint64_t ram_bytes;
    unsigned vps;

    pthread_mutex_t lock; /* all below */
    uint16_t key;
    uint32_t pos;
};

/* The bytes of the selected key; reading past them gives zeroes. */
static size_t item(const struct fwcfg *f, uint8_t out[8])
{
    memset(out, 0, 8);
    switch (f->key) {
    case KEY_SIGNATURE: memcpy(out, "QEMU", 4); return 4;
    case KEY_ID: put_le32(out, ID_TRADITIONAL); return 4;
    case KEY_RAM_SIZE: put_le64(out, f->ram_bytes); return 8;
    case KEY_NB_CPUS:
    case KEY_MAX_CPUS: put_le16(out, (uint16_t)f->vps); return 2;
    case KEY_FILES: return 4; /* a count of 0, big-endian */
    default: return 0;
    }
}

static uint64_t port_read(void *ctx, uint64_t offset, unsigned size)
{
    struct fwcfg *f = ctx;
    uint8_t bytes[8];
    if (offset != 1)
        return UINT64_MAX;
    pthread_mutex_lock(&f->lock);
    size_t len = item(f, bytes);
    uint8_t v = f->pos < len ? bytes[f->pos] : 0;
    if (f->pos < len)
        f->pos++;
    pthread_mutex_unlock(&f->lock);
    return v;
}

static void port_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct fwcfg *f = ctx;
    if (offset != 0 || size < 2)
        return;
    pthread_mutex_lock(&f->lock);
    f->key = (uint16_t)value;
    f->pos = 0;
    pthread_mutex_unlock(&f->lock);
}

static const struct hv_io_ops port_ops = {
    .name = "firmware configuration", .read = port_read, .write = port_write};

static void start(void *self)
{
}
static void stop(void *self, void (*done)(void *ctx), void *ctx)
{
    done(ctx);
}

static void reset(void *self)
{
    struct fwcfg *f = self;
    f->key = 0;
    f->pos = 0;
}

static const struct state_field fields[] = {
    STATE_FIELD(1, STATE_U16, struct fwcfg, key),
    STATE_FIELD_MAX(2, STATE_U32, struct fwcfg, pos, 8),
};
static const struct state_table table = {.name = "firmware configuration",
                                         .section = STATE_ID('F', 'W', 'C', 'F'),
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
    return state_restore(r, &table, 0, self, e);
}

static void destroy(void *self)
{
    struct fwcfg *f = self;
    if (f->range)
        hv_io_release(f->env->io, f->range);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

struct fwcfg *fwcfg_new(const struct chip_env *env, uint64_t ram_bytes, unsigned vps, err *e)
{
    struct fwcfg *f = calloc(1, sizeof *f);
    if (!f) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for firmware configuration");
        return NULL;
    }
    f->env = env;
    f->ram_bytes = ram_bytes;
    f->vps = vps;
    pthread_mutex_init(&f->lock, NULL);
    f->range = hv_io_claim(env->io, HV_IO_PORT, LAYOUT_PORT_FW_CFG, 2, &port_ops, f, e);
    if (!f->range) {
        destroy(f);
        return NULL;
    }
    return f;
}

struct device fwcfg_device(struct fwcfg *f)
{
    static const struct device_ops ops = {.name = "firmware configuration",
                                          .start = start,
                                          .stop = stop,
                                          .reset = reset,
                                          .save = save,
                                          .restore = restore,
                                          .destroy = destroy};
    return (struct device){.ops = &ops, .self = f};
}
