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
    KEY_BOOT_MENU = 0x0e,
    KEY_MAX_CPUS = 0x0f,
    KEY_FILES = 0x19,
    KEY_FIRST_FILE = 0x20,
};
enum { ID_TRADITIONAL = 1, ENTRY = 64 /* of the directory */ };

struct file {
    char name[FWCFG_NAME];
    uint8_t *data;
    uint32_t len;
};

struct fwcfg {
    const struct chip_env *env;
    struct hv_io_range *range;
    uint64_t ram_bytes;
    unsigned vps;
    struct file files[FWCFG_FILES];
    unsigned nfiles;
    uint8_t directory[4 + ENTRY * FWCFG_FILES];

    pthread_mutex_t lock; /* all below */
    uint16_t key;
    uint32_t pos;
};

/* The bytes of the selected key; reading past them gives zeroes. */
static size_t small_item(const struct fwcfg *f, uint8_t out[8])
{
    memset(out, 0, 8);
    switch (f->key) {
    case KEY_SIGNATURE: memcpy(out, "QEMU", 4); return 4;
    case KEY_ID: put_le32(out, ID_TRADITIONAL); return 4;
    case KEY_RAM_SIZE: put_le64(out, f->ram_bytes); return 8;
    case KEY_NB_CPUS:
    case KEY_MAX_CPUS: put_le16(out, (uint16_t)f->vps); return 2;
    case KEY_BOOT_MENU: put_le16(out, 1); return 2;
    default: return 0;
    }
}

static const uint8_t *item(const struct fwcfg *f, uint8_t room[8], size_t *len)
{
    if (f->key == KEY_FILES) {
        *len = 4 + (size_t)ENTRY * f->nfiles;
        return f->directory;
    }
    if (f->key >= KEY_FIRST_FILE && f->key - (unsigned)KEY_FIRST_FILE < f->nfiles) {
        const struct file *file = &f->files[f->key - KEY_FIRST_FILE];
        *len = file->len;
        return file->data;
    }
    *len = small_item(f, room);
    return room;
}

static void write_directory(struct fwcfg *f)
{
    memset(f->directory, 0, sizeof f->directory);
    put_be32(f->directory, f->nfiles);
    for (unsigned i = 0; i < f->nfiles; i++) {
        uint8_t *entry = f->directory + 4 + i * ENTRY;
        put_be32(entry, f->files[i].len);
        put_be16(entry + 4, (uint16_t)(KEY_FIRST_FILE + i));
        memcpy(entry + 8, f->files[i].name, FWCFG_NAME);
    }
}

bool fwcfg_set_file(struct fwcfg *f, const char *name, const void *data, size_t len, err *e)
{
    unsigned i = 0;
    while (i < f->nfiles && strcmp(f->files[i].name, name) != 0)
        i++;
    if (i == FWCFG_FILES || len > FWCFG_MAX_FILE || strlen(name) >= FWCFG_NAME)
        return err_set(e, ERR_NO_SPACE, "There is no place for \"%.60s\" beside the firmware",
                       name);
    uint8_t *copy = malloc(len ? len : 1);
    if (!copy)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory for firmware configuration");
    memcpy(copy, data, len);
    free(f->files[i].data);
    f->files[i].data = copy;
    f->files[i].len = (uint32_t)len;
    memcpy(f->files[i].name, name, strlen(name) + 1);
    if (i == f->nfiles)
        f->nfiles++;
    write_directory(f);
    return true;
}

static uint64_t port_read(void *ctx, uint64_t offset, unsigned size)
{
    struct fwcfg *f = ctx;
    uint8_t bytes[8];
    if (offset != 1)
        return UINT64_MAX;
    pthread_mutex_lock(&f->lock);
    size_t len;
    const uint8_t *data = item(f, bytes, &len);
    uint8_t v = f->pos < len ? data[f->pos] : 0;
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
    STATE_FIELD_MAX(2, STATE_U32, struct fwcfg, pos, FWCFG_MAX_FILE),
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
    for (unsigned i = 0; i < f->nfiles; i++)
        free(f->files[i].data);
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
