/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The arguments of `vireoctl run` as a configuration. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/cli/run-int.h"
#include "core/base/cleanup.h"
#include "core/hv/partition.h"
#include "core/machine/boot.h"

enum { DEFAULT_MEMORY_MIB = 512, MIN_MEMORY_MIB = 8, PARTS = 8 };

static bool set(struct vm_config *c, const char *option, const char *key, const char *value, err *e)
{
    if (!value || vm_config_set(c, key, value, e))
        return true;
    return err_prefix(e, "run: %s", option);
}

static bool set_cpus(struct vm_config *c, const char *value, err *e)
{
    char *end = NULL;
    errno = 0;
    unsigned long v = value ? strtoul(value, &end, 10) : 1;
    if (value && (*value < '0' || *value > '9' || *end || errno || v < 1 || v > VM_MAX_CPUS))
        return err_set(e, ERR_INVALID, "run: --cpus takes a number from 1 to %d, not \"%.40s\"",
                       VM_MAX_CPUS, value);
    c->cpus = (uint32_t)v;
    return true;
}

static bool set_memory(struct vm_config *c, const char *value, err *e)
{
    uint64_t bytes = (uint64_t)DEFAULT_MEMORY_MIB << 20;
    if (value && !cli_size(value, &bytes, e))
        return false;
    if (bytes >> 20 < MIN_MEMORY_MIB || bytes >> 20 > VM_MAX_MEMORY_MIB)
        return err_set(e, ERR_INVALID, "run: --memory is from %d MiB to %d GiB", MIN_MEMORY_MIB,
                       VM_MAX_MEMORY_MIB >> 10);
    c->memory = (uint32_t)(bytes >> 20);
    return true;
}

/* ---- disks and adapters: "FIRST,WORD,WORD=VALUE..." ---- */

struct parts {
    char copy[4200];
    char *first, *word[PARTS], *value[PARTS]; /* value NULL: none */
    unsigned n;
};

static bool split(const char *option, const char *text, struct parts *p, err *e)
{
    if (strlen(text) >= sizeof p->copy)
        return err_set(e, ERR_INVALID, "run: %s has too long a value", option);
    strcpy(p->copy, text);
    p->n = 0;
    char *rest = strchr(p->copy, ',');
    p->first = p->copy;
    while (rest) {
        *rest++ = 0;
        char *next = strchr(rest, ',');
        if (next)
            *next = 0;
        if (p->n == PARTS)
            return err_set(e, ERR_INVALID, "run: %s has too many words", option);
        char *eq = strchr(rest, '=');
        if (eq)
            *eq++ = 0;
        p->word[p->n] = rest;
        p->value[p->n++] = eq;
        rest = next;
    }
    return p->first[0] || err_set(e, ERR_INVALID, "run: %s needs a value", option);
}

static bool unknown(const char *option, const char *word, err *e)
{
    return err_set(e, ERR_INVALID, "run: %s does not know \"%.40s\"", option, word);
}

static bool add_disk(struct vm_config *c, const char *option, const char *text, enum vm_media media,
                     err *e)
{
    struct parts p;
    if (!split(option, text, &p, e))
        return false;
    char *full = realpath(p.first, NULL);
    enum vm_bus bus = media == VM_MEDIA_FLOPPY ? VM_BUS_FLOPPY
                      : c->generation == 1     ? VM_BUS_IDE
                                               : VM_BUS_SCSI;
    struct vm_disk *d = vm_config_add_disk(c, bus, media, full ? full : p.first, e);
    free(full);
    for (unsigned i = 0; d && i < p.n; i++) {
        char key[32];
        if (!strcmp(p.word[i], "ro") && !p.value[i]) {
            d->read_only = true;
        } else if (!strcmp(p.word[i], "lun") && p.value[i]) {
            snprintf(key, sizeof key, "disk%u.slot", c->n_disks - 1);
            if (!set(c, option, key, p.value[i], e))
                return false;
        } else {
            return unknown(option, p.word[i], e);
        }
    }
    return d != NULL;
}

static bool set_switch(struct vm_config *c, struct vm_adapter *a, const char *where, err *e)
{
    if (!strcmp(where, "nat"))
        a->kind = VM_SWITCH_NAT;
    else if (!strcmp(where, "none"))
        a->kind = VM_SWITCH_NONE;
    else if (!strncmp(where, "private:", 8) && where[8])
        a->kind = VM_SWITCH_PRIVATE;
    else if (!strncmp(where, "tap:", 4) && where[4])
        a->kind = VM_SWITCH_DEVICE;
    else
        return err_set(e, ERR_INVALID,
                       "run: --net is nat, private:NAME, tap:DEVICE or none, not \"%.40s\"", where);
    const char *colon = strchr(where, ':');
    return !colon || vm_config_string(&a->name, colon + 1, e);
}

static bool add_forward(struct vm_adapter *a, const char *forward, err *e)
{
    g_autofree char *all =
        a->forwards ? g_strdup_printf("%s %s", a->forwards, forward) : g_strdup(forward);
    return vm_config_string(&a->forwards, all, e);
}

static bool add_net(struct vm_config *c, const char *text, err *e)
{
    struct parts p;
    struct vm_adapter *a =
        split("--net", text, &p, e) ? vm_config_add_adapter(c, VM_SWITCH_NAT, e) : NULL;
    if (!a || !set_switch(c, a, p.first, e))
        return false;
    vm_mac_random(&a->mac);
    for (unsigned i = 0; i < p.n; i++) {
        char key[32];
        const char *word = p.word[i], *value = p.value[i];
        snprintf(key, sizeof key, "adapter%u.%s", c->n_adapters - 1, word);
        bool known = !strcmp(word, "mac") || !strcmp(word, "vlan") || !strcmp(word, "bandwidth");
        if (!strcmp(word, "host-access") && !value)
            a->host_access = true;
        else if (!strcmp(word, "legacy") && !value)
            a->legacy = true;
        else if (!strcmp(word, "forward") && value) {
            if (!add_forward(a, value, e))
                return false;
        } else if (!known || !value)
            return unknown("--net", word, e);
        else if (!set(c, "--net", key, value, e))
            return false;
    }
    return true;
}

/* ---- all of it ---- */

static bool set_pairs(struct vm_config *c, const struct cli_list *pairs, err *e)
{
    for (unsigned i = 0; i < pairs->n; i++) {
        const char *eq = strchr(pairs->v[i], '=');
        if (!eq)
            return err_set(e, ERR_INVALID, "run: --set takes KEY=VALUE");
        g_autofree char *key = g_strndup(pairs->v[i], (gsize)(eq - pairs->v[i]));
        if (!set(c, "--set", key, eq + 1, e))
            return false;
    }
    return true;
}

static bool fill(struct vm_config *c, const struct run_options *o, err *e)
{
    char name[32];
    snprintf(name, sizeof name, "run-%d", (int)getpid());
    bool bios = o->machine && !strcmp(o->machine, "bios");
    if ((o->kernel != NULL) + (o->multiboot != NULL) + bios != 1)
        return err_set(e, ERR_INVALID,
                       "run: give one of --kernel, --multiboot and --machine bios (try vireoctl "
                       "run --help)");
    guid_random(&c->id);
    c->boot = bios ? VM_BOOT_FIRMWARE : VM_BOOT_LINUX;
    c->generation = bios ? 1 : 2;
    c->vendor = hv_host_vendor() == HV_VENDOR_AMD ? VM_VENDOR_AMD : VM_VENDOR_INTEL;
    if (!vm_config_string(&c->name, o->name ? o->name : name, e) || !set_cpus(c, o->cpus, e) ||
        !set_memory(c, o->memory, e) || !set(c, "--accel", "processor.accel", o->accel, e) ||
        !set(c, "--cpu", "processor.model", o->cpu, e) ||
        !set(c, "--vendor", "processor.vendor", o->vendor, e) ||
        !set(c, "--append", "boot.cmdline", o->append, e) ||
        !vm_config_string(&c->kernel, o->kernel ? o->kernel : o->multiboot, e) ||
        !vm_config_string(&c->initrd, o->initrd, e))
        return false;
    for (unsigned i = 0; i < o->disks.n; i++)
        if (!add_disk(c, "--disk", o->disks.v[i], VM_MEDIA_DISK, e))
            return false;
    for (unsigned i = 0; i < o->isos.n; i++)
        if (!add_disk(c, "--iso", o->isos.v[i], VM_MEDIA_DVD, e))
            return false;
    if (o->floppy && !add_disk(c, "--floppy", o->floppy, VM_MEDIA_FLOPPY, e))
        return false;
    for (unsigned i = 0; i < o->nets.n; i++)
        if (!add_net(c, o->nets.v[i], e))
            return false;
    return set_pairs(c, &o->sets, e) && vm_config_check(c, e);
}

struct vm_config *run_config(const struct run_options *o, err *e)
{
    struct vm_config *c = vm_config_new(e);
    if (c && fill(c, o, e))
        return c;
    vm_config_free(c);
    return NULL;
}

/* 32-bit Linux expects a PC with a PIT. */
static bool wants_pc(const struct run_options *o, bool *pc, err *e)
{
    struct boot_file f = {.name = o->kernel};
    *pc = o->multiboot != NULL;
    if (o->machine && strcmp(o->machine, "gen2") && strcmp(o->machine, "pc") &&
        strcmp(o->machine, "bios"))
        return err_set(e, ERR_INVALID, "run: --machine is gen2, pc or bios, not \"%.40s\"",
                       o->machine);
    if (o->machine) {
        *pc = !strcmp(o->machine, "pc");
        return true;
    }
    if (*pc)
        return true;
    AUTO(fd) fd = open(o->kernel, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_errno(e, errno, "%s", o->kernel);
    if (!boot_file_open(&f, o->kernel, fd, e))
        return false;
    *pc = boot_is_linux32(&f);
    return true;
}

GVariant *run_extra(const struct run_options *o, err *e)
{
    bool pc;
    char *end = NULL;
    unsigned long restore = o->self_restore ? strtoul(o->self_restore, &end, 10) : 0;
    if (o->self_restore && (*end || restore < 1 || restore > 3600)) {
        err_set(e, ERR_INVALID, "run: --self-restore takes seconds from 1 to 3600");
        return NULL;
    }
    if (!wants_pc(o, &pc, e))
        return NULL;
    const struct {
        const char *key;
        bool on;
    } flags[] = {{"pc", pc},
                 {"multiboot", o->multiboot != NULL},
                 {"debug-exit", o->debug_exit},
                 {"test-devices", o->test_devices},
                 {"stop-on-reset", o->no_reboot},
                 {"stop-on-crash", true},
                 {"owned", true}};
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a{sv}"));
    for (size_t i = 0; i < G_N_ELEMENTS(flags); i++)
        if (flags[i].on)
            g_variant_builder_add(&b, "{sv}", flags[i].key, g_variant_new_boolean(TRUE));
    if (restore)
        g_variant_builder_add(&b, "{sv}", "self-restore", g_variant_new_uint32((guint32)restore));
    return g_variant_builder_end(&b);
}

bool run_parse_shot(const char *text, unsigned *ms, const char **path, err *e)
{
    char *end;
    double s = strtod(text, &end);
    if (end == text || *end != ',' || !end[1] || !(s >= 0 && s <= 1e6))
        return err_set(e, ERR_INVALID, "run: --screenshot-at takes SECONDS,FILE, not \"%.40s\"",
                       text);
    *ms = (unsigned)(s * 1000);
    *path = end + 1;
    return true;
}
