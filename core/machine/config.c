/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/machine/config.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/machine/config-field.h"
#include "core/machine/keyfile.h"

static const char *const cpu_names[] = {"baseline", "host", NULL};
static const char *const vendor_names[] = {"intel", "amd", NULL};
static const char *const accel_names[] = {"auto", "kvm", "soft", NULL};
static const char *const boot_names[] = {"firmware", "linux", NULL};
static const char *const bus_names[] = {"scsi", "ide", "floppy", NULL};
static const char *const media_names[] = {"disk", "dvd", "floppy", NULL};
static const char *const switch_names[] = {"none", "nat", "private", "device", NULL};
static const char *const port_names[] = {"none", "file", "pty", "socket", NULL};
static const char *const checkpoint_names[] = {"off", "standard", "production", NULL};
static const char *const autostart_names[] = {"never", "if-running", "always", NULL};
static const char *const autostop_names[] = {"save", "shut-down", "turn-off", NULL};

enum { PATH_LEN = 4096, CMDLINE_LEN = 2047 };

#define AT(m) offsetof(struct vm_config, m)
#define NUM(s, k, m, lo, hi, def, fl, h)                 \
    {                                                    \
        s, k, FIELD_U32, AT(m), lo, hi, def, NULL, fl, h \
    }
#define FLAG(s, k, m, def, fl, h)                       \
    {                                                   \
        s, k, FIELD_BOOL, AT(m), 0, 1, def, NULL, fl, h \
    }
#define PICK(s, k, m, names, def, fl, h)                   \
    {                                                      \
        s, k, FIELD_CHOICE, AT(m), 0, 0, def, names, fl, h \
    }
#define TEXT(s, k, m, len, fl, h)                      \
    {                                                  \
        s, k, FIELD_STR, AT(m), 0, len, 0, NULL, fl, h \
    }

static const struct field fields[] = {
    {"machine", "id", FIELD_GUID, AT(id), 0, 0, 0, NULL, FIELD_ALWAYS,
     "identity; the folder's name"},
    TEXT("machine", "name", name, VM_MAX_NAME, FIELD_ALWAYS | FIELD_LIVE, "name"),
    TEXT("machine", "notes", notes, VM_MAX_NOTES, FIELD_LIVE, "notes"),
    {"machine", "created", FIELD_U64, AT(created), 0, INT64_MAX, 0, NULL, 0,
     "time of creation, seconds since 1970"},
    NUM("machine", "generation", generation, 1, 2, 2, FIELD_ALWAYS,
        "generation, fixed at creation"),
    TEXT("machine", "os", os, 64, FIELD_LIVE, "system inside"),
    FLAG("machine", "hibernation", hibernation, 0, 0,
         "the guest may hibernate; dynamic memory is then off"),

    PICK("processor", "accel", accel, accel_names, VM_ACCEL_AUTO, 0, "what runs it"),
    NUM("processor", "count", cpus, 1, VM_MAX_CPUS, 1, FIELD_ALWAYS, "virtual processors"),
    PICK("processor", "model", cpu, cpu_names, VM_CPU_BASELINE, 0,
         "baseline moves between hosts, host does not"),
    PICK("processor", "vendor", vendor, vendor_names, VM_VENDOR_INTEL, FIELD_ALWAYS,
         "vendor that the guest sees, fixed at creation"),

    NUM("memory", "startup", memory, 8, VM_MAX_MEMORY_MIB, 1024, FIELD_ALWAYS,
        "memory at start, MiB"),
    FLAG("memory", "dynamic", memory_dynamic, 0, 0, "dynamic memory"),
    NUM("memory", "minimum", memory_min, 16, VM_MAX_MEMORY_MIB, 512, FIELD_LIVE,
        "least memory with dynamic memory, MiB"),
    NUM("memory", "maximum", memory_max, 16, VM_MAX_MEMORY_MIB, 4096, FIELD_LIVE,
        "most memory with dynamic memory, MiB"),
    NUM("memory", "buffer", memory_buffer, 5, 200, 20, FIELD_LIVE, "memory kept free, per cent"),

    PICK("boot", "from", boot, boot_names, VM_BOOT_FIRMWARE, 0, "what starts the guest"),
    TEXT("boot", "kernel", kernel, PATH_LEN, 0, "Linux kernel"),
    TEXT("boot", "initrd", initrd, PATH_LEN, 0, "initial RAM disk"),
    TEXT("boot", "cmdline", cmdline, CMDLINE_LEN, 0, "kernel command line"),
    TEXT("boot", "order", boot_order, 64, 0,
         "generation 1: what is tried in turn, of: disk dvd network floppy"),
    FLAG("boot", "num-lock", num_lock, 0, 0, "Num Lock on at start"),

    NUM("video", "memory", video_memory, 4, 128, 8, 0, "video memory, MiB"),
    NUM("video", "width", width, 640, 7680, 1024, 0, "width at start, pixels"),
    NUM("video", "height", height, 480, 4320, 768, 0, "height at start, pixels"),

    FLAG("integration", "shutdown", ic_shutdown, 1, FIELD_LIVE, "guest shutdown"),
    FLAG("integration", "time", ic_time, 1, FIELD_LIVE, "time synchronisation"),
    FLAG("integration", "heartbeat", ic_heartbeat, 1, FIELD_LIVE, "heartbeat"),
    FLAG("integration", "data-exchange", ic_kvp, 1, FIELD_LIVE, "data exchange"),
    FLAG("integration", "backup", ic_vss, 1, FIELD_LIVE, "backup (volume checkpoint)"),
    FLAG("integration", "guest-files", ic_fcopy, 0, FIELD_LIVE, "copying files into the guest"),

    PICK("checkpoints", "type", checkpoints, checkpoint_names, VM_CHECKPOINTS_STANDARD, FIELD_LIVE,
         "kind of checkpoints"),
    FLAG("checkpoints", "fallback", checkpoint_fallback, 1, FIELD_LIVE,
         "standard where production is not possible"),
    FLAG("checkpoints", "automatic", checkpoint_automatic, 0, FIELD_LIVE,
         "checkpoint at every start"),

    PICK("automatic", "start", autostart, autostart_names, VM_AUTOSTART_NEVER, FIELD_LIVE,
         "start with the session"),
    NUM("automatic", "start-delay", autostart_delay, 0, 3600, 0, FIELD_LIVE, "delay, seconds"),
    PICK("automatic", "stop", autostop, autostop_names, VM_AUTOSTOP_SAVE, FIELD_LIVE,
         "what happens when the session ends"),

    FLAG("session", "enhanced", enhanced, 1, FIELD_LIVE, "enhanced session"),
    FLAG("session", "clipboard-to-guest", clipboard_to, 1, FIELD_LIVE,
         "what is copied on the host can be pasted in the guest"),
    FLAG("session", "clipboard-from-guest", clipboard_from, 1, FIELD_LIVE,
         "what is copied in the guest can be pasted on the host"),
    FLAG("session", "files", files, 1, FIELD_LIVE, "files can be sent into the guest"),
    FLAG("session", "sound", sound, 1, FIELD_LIVE, "play the guest's sound"),
    FLAG("session", "microphone", microphone, 0, FIELD_LIVE, "let the guest record"),
    FLAG("session", "usb", usb, 1, FIELD_LIVE, "hand USB devices over"),

    FLAG("remote", "spice", spice, 0, FIELD_LIVE, "SPICE server"),
    NUM("remote", "spice-port", spice_port, 0, 65535, 0, FIELD_LIVE, "TCP port, 0: a Unix socket"),
    FLAG("remote", "vnc", vnc, 0, FIELD_LIVE, "VNC server"),
    NUM("remote", "vnc-port", vnc_port, 0, 65535, 0, FIELD_LIVE, "TCP port, 0: a Unix socket"),
    TEXT("remote", "listen", remote_listen, 255, FIELD_LIVE, "address; none: this computer alone"),

    {"state", "saved", FIELD_GUID, AT(saved), 0, 0, 0, NULL, 0, "the saved state that is resumed"},
    {"state", "checkpoint", FIELD_GUID, AT(checkpoint), 0, 0, 0, NULL, 0,
     "the present's checkpoint"},
    {"state", "pending", FIELD_GUID, AT(pending), 0, 0, 0, NULL, 0, "the checkpoint being made"},
};

#undef AT
#define AT(m) offsetof(struct vm_disk, m)
static const struct field disk_fields[] = {
    PICK("disk", "bus", bus, bus_names, VM_BUS_SCSI, FIELD_ALWAYS, "controller"),
    NUM("disk", "slot", slot, 0, 63, 0, FIELD_ALWAYS, "place on the controller"),
    PICK("disk", "media", media, media_names, VM_MEDIA_DISK, FIELD_ALWAYS,
         "disk, DVD drive or floppy drive"),
    TEXT("disk", "path", path, PATH_LEN, FIELD_ALWAYS | FIELD_LIVE, "image file"),
    FLAG("disk", "read-only", read_only, 0, 0, "never written"),
    NUM("disk", "iops", iops, 0, 1000000, 0, FIELD_LIVE, "limit of operations a second, 0: none"),
};
#undef AT
#define AT(m) offsetof(struct vm_adapter, m)
static const struct field adapter_fields[] = {
    PICK("adapter", "switch", kind, switch_names, VM_SWITCH_NAT, FIELD_ALWAYS | FIELD_LIVE,
         "kind of switch"),
    TEXT("adapter", "name", name, 64, FIELD_LIVE, "name of the switch or device"),
    {"adapter", "mac", FIELD_MAC, AT(mac), 0, 0, 0, NULL, FIELD_ALWAYS, "hardware address"},
    FLAG("adapter", "mac-spoofing", mac_spoofing, 0, FIELD_LIVE, "may send as another address"),
    NUM("adapter", "vlan", vlan, 0, 4094, 0, FIELD_LIVE, "VLAN, 0: none"),
    NUM("adapter", "bandwidth", bandwidth, 0, 1000000, 0, FIELD_LIVE, "limit, Mbit/s, 0: none"),
    FLAG("adapter", "host-access", host_access, 0, FIELD_LIVE, "NAT: may reach this computer"),
    FLAG("adapter", "legacy", legacy, 0, 0, "generation 1: the emulated adapter"),
    TEXT("adapter", "forwards", forwards, 1024, FIELD_LIVE, "NAT: forwarded ports"),
};
#undef AT
#define AT(m) offsetof(struct vm_port_config, m)
static const struct field port_fields[] = {
    PICK("port", "kind", kind, port_names, VM_PORT_NONE, 0, "where the serial port leads"),
    TEXT("port", "path", path, PATH_LEN, 0, "file of the serial port"),
};
#undef AT

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* The repeated sections: "[disk 0]" in the file, "disk0" on the command line. */
struct group {
    const char *name;
    const struct field *fields;
    size_t n_fields, offset, size;
    uint32_t max;
    size_t count_offset; /* SIZE_MAX: always `max` */
};

static const struct group groups[] = {
    {"disk", disk_fields, COUNT(disk_fields), offsetof(struct vm_config, disks),
     sizeof(struct vm_disk), VM_MAX_DISKS, offsetof(struct vm_config, n_disks)},
    {"adapter", adapter_fields, COUNT(adapter_fields), offsetof(struct vm_config, adapters),
     sizeof(struct vm_adapter), VM_MAX_ADAPTERS, offsetof(struct vm_config, n_adapters)},
    {"port", port_fields, COUNT(port_fields), offsetof(struct vm_config, ports),
     sizeof(struct vm_port_config), VM_MAX_PORTS, SIZE_MAX},
};

static uint32_t group_count(const struct vm_config *c, const struct group *g)
{
    return g->count_offset == SIZE_MAX ? g->max
                                       : *(const uint32_t *)((const char *)c + g->count_offset);
}

static void *group_item(const struct vm_config *c, const struct group *g, uint32_t i)
{
    return (char *)(uintptr_t)c + g->offset + i * g->size;
}

static bool no_memory(err *e)
{
    return err_set(e, ERR_NO_MEMORY, "Not enough memory for a configuration");
}

/* ---- the whole ---- */

struct vm_config *vm_config_new(err *e)
{
    struct vm_config *c = calloc(1, sizeof *c);
    if (!c) {
        no_memory(e);
        return NULL;
    }
    fields_default(fields, COUNT(fields), c);
    __builtin_cpu_init();
    if (__builtin_cpu_is("amd")) /* a guest does best with what is nearest to the host */
        c->vendor = VM_VENDOR_AMD;
    return c;
}

void vm_config_free(struct vm_config *c)
{
    if (!c)
        return;
    fields_clear(fields, COUNT(fields), c);
    for (size_t g = 0; g < COUNT(groups); g++)
        for (uint32_t i = 0; i < groups[g].max; i++)
            fields_clear(groups[g].fields, groups[g].n_fields, group_item(c, &groups[g], i));
    keyfile_free(c->file);
    free(c);
}

struct vm_config *vm_config_copy(const struct vm_config *c, err *e)
{
    /* Through the text; the checks of a whole do not apply to a configuration in the making. */
    AUTO(str) text = vm_config_format(c, e);
    AUTO(vm_config) copy = text ? vm_config_new(e) : NULL;
    if (!copy)
        return NULL;
    copy->file = keyfile_parse(text, strlen(text), e);
    if (!copy->file)
        return NULL;
    for (size_t i = 0; i < COUNT(fields); i++) {
        const char *v = keyfile_get(copy->file, fields[i].section, fields[i].key);
        if (v && !field_is_default(&fields[i], c) && !field_parse(&fields[i], copy, v, e))
            return NULL;
    }
    for (size_t g = 0; g < COUNT(groups); g++) {
        const struct group *gr = &groups[g];
        if (gr->count_offset != SIZE_MAX)
            *(uint32_t *)((char *)copy + gr->count_offset) = group_count(c, gr);
        for (uint32_t i = 0; i < group_count(c, gr); i++) {
            const char *from = group_item(c, gr, i);
            char *to = group_item(copy, gr, i);
            memcpy(to, from, gr->size);
            for (size_t k = 0; k < gr->n_fields; k++)
                if (gr->fields[k].type == FIELD_STR)
                    *(char **)(to + gr->fields[k].offset) = NULL;
            for (size_t k = 0; k < gr->n_fields; k++)
                if (gr->fields[k].type == FIELD_STR &&
                    !vm_config_string((char **)(to + gr->fields[k].offset),
                                      *(char *const *)(from + gr->fields[k].offset), e))
                    return NULL;
        }
    }
    return TAKE(copy);
}

static bool parse_fields(const struct keyfile *k, const char *section, const struct field *f,
                         size_t n, void *base, err *e)
{
    for (size_t i = 0; i < n; i++) {
        const char *v = keyfile_get(k, section ? section : f[i].section, f[i].key);
        if (v && !(f[i].type == FIELD_MAC && !*v) && !field_parse(&f[i], base, v, e))
            return section ? err_prefix(e, "[%s]", section) : false;
    }
    return true;
}

static bool parse_group(struct vm_config *c, const struct group *g, err *e)
{
    char name[KEYFILE_MAX_NAME];
    uint32_t n = 0;
    for (; n < g->max; n++) {
        snprintf(name, sizeof name, "%s %" PRIu32, g->name, n);
        bool counted = g->count_offset != SIZE_MAX;
        if (counted && !keyfile_has_section(c->file, name))
            break;
        void *item = group_item(c, g, n);
        fields_default(g->fields, g->n_fields, item);
        if (counted)
            *(uint32_t *)((char *)c + g->count_offset) = n + 1;
        if (!parse_fields(c->file, name, g->fields, g->n_fields, item, e))
            return false;
    }
    /* A gap in the numbers would lose the rest without a word. */
    for (size_t i = 0; i < keyfile_sections(c->file); i++) {
        const char *s = keyfile_section_name(c->file, i);
        size_t len = strlen(g->name);
        if (strncmp(s, g->name, len) || s[len] != ' ')
            continue;
        char *end = NULL;
        unsigned long v = strtoul(s + len + 1, &end, 10);
        if (*end || end == s + len + 1 || v >= n)
            return err_set(e, ERR_CORRUPT, "[%s] is not numbered from 0 on without a gap", s);
    }
    return true;
}

static bool check_version(const struct keyfile *k, err *e)
{
    static const struct field version = {"machine", "version", FIELD_U64, 0, 1, UINT32_MAX};
    const char *v = keyfile_get(k, "machine", "version");
    uint64_t n = 0;
    if (!v)
        return err_set(e, ERR_CORRUPT, "machine.version is missing");
    if (!field_parse(&version, &n, v, e))
        return false;
    if (n > VM_CONFIG_VERSION)
        return err_set(e, ERR_UNSUPPORTED,
                       "written by a newer Vireo (version %" PRIu64 ", this one knows %d)", n,
                       VM_CONFIG_VERSION);
    return true;
}

struct vm_config *vm_config_parse(const char *text, size_t len, err *e)
{
    AUTO(vm_config) c = vm_config_new(e);
    if (!c)
        return NULL;
    c->file = keyfile_parse(text, len, e);
    if (!c->file || !check_version(c->file, e) ||
        !parse_fields(c->file, NULL, fields, COUNT(fields), c, e))
        return NULL;
    for (size_t g = 0; g < COUNT(groups); g++)
        if (!parse_group(c, &groups[g], e))
            return NULL;
    if (!vm_config_check(c, e))
        return NULL;
    return TAKE(c);
}

static bool format_fields(struct keyfile *k, const char *section, const struct field *f, size_t n,
                          const void *base, err *e)
{
    for (size_t i = 0; i < n; i++) {
        const char *sec = section ? section : f[i].section;
        bool is_default = field_is_default(&f[i], base);
        if (is_default &&
            (f[i].type == FIELD_GUID || f[i].type == FIELD_MAC || !(f[i].flags & FIELD_ALWAYS))) {
            keyfile_unset(k, sec, f[i].key);
            continue;
        }
        AUTO(str) v = field_format(&f[i], base, e);
        if (!v || !keyfile_set(k, sec, f[i].key, v, e))
            return false;
    }
    return true;
}

static bool format_group(struct keyfile *k, const struct vm_config *c, const struct group *g,
                         err *e)
{
    char name[KEYFILE_MAX_NAME];
    for (uint32_t i = 0; i < g->max; i++) {
        snprintf(name, sizeof name, "%s %" PRIu32, g->name, i);
        if (i >= group_count(c, g))
            keyfile_drop_section(k, name);
        else if (!format_fields(k, name, g->fields, g->n_fields, group_item(c, g, i), e))
            return false;
    }
    return true;
}

char *vm_config_format(const struct vm_config *c, err *e)
{
    AUTO(str)
    before = c->file ? keyfile_format(c->file, e)
                     : strdup("# A virtual machine of Vireo. May be edited while it is "
                              "off.\n");
    AUTO(keyfile) k = before ? keyfile_parse(before, strlen(before), e) : NULL;
    char version[16];
    snprintf(version, sizeof version, "%d", VM_CONFIG_VERSION);
    if (!k || !keyfile_set(k, "machine", "version", version, e) ||
        !format_fields(k, NULL, fields, COUNT(fields), c, e))
        return NULL;
    for (size_t g = 0; g < COUNT(groups); g++)
        if (!format_group(k, c, &groups[g], e))
            return NULL;
    return keyfile_format(k, e);
}

/* ---- what must hold together ---- */

static bool check_disks(const struct vm_config *c, err *e)
{
    bool taken[3][64] = {{false}};
    for (uint32_t i = 0; i < c->n_disks; i++) {
        const struct vm_disk *d = &c->disks[i];
        if (d->bus == VM_BUS_IDE && (c->generation == 2 || d->slot > 3))
            return err_set(e, ERR_INVALID,
                           "disk%" PRIu32 ": generation 2 has no IDE, generation 1 four places", i);
        if ((d->bus == VM_BUS_FLOPPY) != (d->media == VM_MEDIA_FLOPPY))
            return err_set(e, ERR_INVALID,
                           "disk%" PRIu32 ": bus and media are floppy both or neither", i);
        if (d->bus == VM_BUS_FLOPPY && (c->generation == 2 || d->slot))
            return err_set(e, ERR_INVALID,
                           "disk%" PRIu32 ": generation 2 has no floppy drive, generation 1 one",
                           i);
        if (taken[d->bus][d->slot])
            return err_set(e, ERR_INVALID, "disk%" PRIu32 ": its place is taken by another disk",
                           i);
        taken[d->bus][d->slot] = true;
        if (d->media == VM_MEDIA_DISK && !d->path)
            return err_set(e, ERR_INVALID, "disk%" PRIu32 ": a disk needs an image file", i);
    }
    return true;
}

static bool check_adapters(const struct vm_config *c, err *e)
{
    for (uint32_t i = 0; i < c->n_adapters; i++) {
        const struct vm_adapter *a = &c->adapters[i];
        if ((a->kind == VM_SWITCH_PRIVATE || a->kind == VM_SWITCH_DEVICE) && !a->name)
            return err_set(e, ERR_INVALID, "adapter%" PRIu32 ": the switch has no name", i);
        if (a->name && (strchr(a->name, '/') || a->name[0] == '.'))
            return err_set(e, ERR_INVALID,
                           "adapter%" PRIu32 ": a switch's name has no slash and no dot first", i);
        if (a->legacy && c->generation == 2)
            return err_set(e, ERR_INVALID,
                           "adapter%" PRIu32 ": generation 2 has no emulated adapter", i);
        for (uint32_t k = 0; k < i; k++)
            if (!memcmp(&a->mac, &c->adapters[k].mac, sizeof a->mac) &&
                memcmp(&a->mac, &(struct vm_mac){{0}}, sizeof a->mac))
                return err_set(e, ERR_INVALID,
                               "adapter%" PRIu32 ": adapter%" PRIu32 " has the same address", i, k);
    }
    return true;
}

static bool check_boot_order(const struct vm_config *c, err *e)
{
    static const char *const words[] = {"disk", "dvd", "network", "floppy"};
    const char *p = c->boot_order ? c->boot_order : "";
    for (p += strspn(p, " "); *p; p += strspn(p, " ")) {
        size_t n = strcspn(p, " "), i = 0;
        while (i < COUNT(words) && (strlen(words[i]) != n || strncmp(p, words[i], n) != 0))
            i++;
        if (i == COUNT(words))
            return err_set(e, ERR_INVALID,
                           "boot.order: \"%.*s\" is none of disk, dvd, network and floppy", (int)n,
                           p);
        p += n;
    }
    return true;
}

static bool name_is_blank(const char *s)
{
    return !s || !s[strspn(s, " \t\n")];
}

bool vm_config_check(const struct vm_config *c, err *e)
{
    if (guid_is_zero(&c->id))
        return err_set(e, ERR_INVALID, "machine.id is missing");
    if (!check_boot_order(c, e))
        return false;
    if (name_is_blank(c->name))
        return err_set(e, ERR_INVALID, "The machine has no name");
    if (strchr(c->name, '\n') || strchr(c->name, '\t'))
        return err_set(e, ERR_INVALID, "A machine's name is one line without tabulators");
    if (c->memory_dynamic && (c->memory_min > c->memory || c->memory > c->memory_max))
        return err_set(e, ERR_INVALID,
                       "Memory at start (%" PRIu32 " MiB) must lie between the minimum (%" PRIu32
                       ") and the maximum (%" PRIu32 ")",
                       c->memory, c->memory_min, c->memory_max);
    if (c->boot == VM_BOOT_LINUX && !c->kernel)
        return err_set(e, ERR_INVALID, "Starting Linux directly needs boot.kernel");
    if ((uint64_t)c->width * c->height * 4 > (uint64_t)c->video_memory << 20)
        return err_set(e, ERR_INVALID,
                       "%" PRIu32 " MiB of video memory do not hold %" PRIu32 " x %" PRIu32
                       " pixels",
                       c->video_memory, c->width, c->height);
    return check_disks(c, e) && check_adapters(c, e);
}

static uint32_t places_of(enum vm_bus bus)
{
    return bus == VM_BUS_IDE ? 4 : bus == VM_BUS_FLOPPY ? 1 : 64;
}

/* The first free place of a bus, or how many there are. */
static uint32_t free_slot(const struct vm_config *c, enum vm_bus bus)
{
    bool taken[64] = {false};
    uint32_t places = places_of(bus), slot = 0;
    for (uint32_t i = 0; i < c->n_disks; i++)
        if (c->disks[i].bus == bus)
            taken[c->disks[i].slot] = true;
    while (slot < places && taken[slot])
        slot++;
    return slot;
}

/* ---- by name ---- */

struct place {
    const struct field *field;
    void *base;
};

static const struct field *find_field(const struct field *f, size_t n, const char *section,
                                      size_t len, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(f[i].key, key) && strlen(f[i].section) == len &&
            !strncmp(f[i].section, section, len))
            return &f[i];
    return NULL;
}

static bool find_in_group(struct vm_config *c, const char *key, bool add, struct place *out, err *e)
{
    size_t letters = strcspn(key, "0123456789");
    char *end = NULL;
    unsigned long index =
        isdigit((unsigned char)key[letters]) ? strtoul(key + letters, &end, 10) : 0;
    for (size_t g = 0; end && *end == '.' && g < COUNT(groups); g++) {
        const struct group *gr = &groups[g];
        out->field = find_field(gr->fields, gr->n_fields, key, letters, end + 1);
        if (!out->field)
            continue;
        uint32_t n = group_count(c, gr);
        if (index > n || index >= gr->max || (index == n && !add))
            return err_set(e, ERR_NOT_FOUND, "The machine has no %s %lu", gr->name, index);
        out->base = group_item(c, gr, (uint32_t)index);
        if (index == n) {
            fields_default(gr->fields, gr->n_fields, out->base);
            if (gr->fields == disk_fields)
                c->disks[index].slot = free_slot(c, c->disks[index].bus);
            *(uint32_t *)((char *)c + gr->count_offset) = n + 1;
        }
        return true;
    }
    return err_set(e, ERR_NOT_FOUND, "There is no setting \"%.60s\"", key);
}

static bool find_place(struct vm_config *c, const char *key, bool add, struct place *out, err *e)
{
    const char *dot = strchr(key, '.');
    out->field = dot ? find_field(fields, COUNT(fields), key, (size_t)(dot - key), dot + 1) : NULL;
    out->base = c;
    return out->field || find_in_group(c, key, add, out, e);
}

bool vm_config_set(struct vm_config *c, const char *key, const char *value, err *e)
{
    struct place p;
    if (!strcmp(key, "machine.id") || !strcmp(key, "machine.created") || !strncmp(key, "state.", 6))
        return err_set(e, ERR_DENIED, "%s is not for changing", key);
    return find_place(c, key, true, &p, e) && field_parse(p.field, p.base, value, e);
}

char *vm_config_get(const struct vm_config *c, const char *key, err *e)
{
    struct place p;
    if (!find_place((struct vm_config *)(uintptr_t)c, key, false, &p, e))
        return NULL;
    return field_format(p.field, p.base, e);
}

static void each_field(const struct field *f, size_t n, const char *section, const void *base,
                       vm_config_each_fn *fn, void *ctx)
{
    for (size_t i = 0; i < n; i++) {
        char key[2 * KEYFILE_MAX_NAME];
        snprintf(key, sizeof key, "%s.%s", section ? section : f[i].section, f[i].key);
        AUTO(str) v = field_format(&f[i], base, NULL);
        fn(ctx, key, v ? v : "", f[i].help);
    }
}

void vm_config_each(const struct vm_config *c, vm_config_each_fn *fn, void *ctx)
{
    each_field(fields, COUNT(fields), NULL, c, fn, ctx);
    for (size_t g = 0; g < COUNT(groups); g++)
        for (uint32_t i = 0; i < group_count(c, &groups[g]); i++) {
            char name[KEYFILE_MAX_NAME];
            snprintf(name, sizeof name, "%s%" PRIu32, groups[g].name, i);
            each_field(groups[g].fields, groups[g].n_fields, name, group_item(c, &groups[g], i), fn,
                       ctx);
        }
}

static const struct field *field_by_name(const char *key)
{
    size_t len = strcspn(key, ".0123456789");
    const char *dot = strchr(key, '.');
    if (!dot)
        return NULL;
    const struct field *f = find_field(fields, COUNT(fields), key, len, dot + 1);
    for (size_t g = 0; !f && g < COUNT(groups); g++)
        f = find_field(groups[g].fields, groups[g].n_fields, key, len, dot + 1);
    return f;
}

bool vm_config_is_live(const char *key)
{
    const struct field *f = field_by_name(key);
    return f && (f->flags & FIELD_LIVE);
}

const char *vm_config_choice(const char *key, uint32_t value)
{
    const struct field *f = field_by_name(key);
    for (uint32_t i = 0; f && f->choices && f->choices[i]; i++)
        if (i == value)
            return f->choices[i];
    return NULL;
}

/* ---- disks and adapters ---- */

struct vm_disk *vm_config_add_disk(struct vm_config *c, enum vm_bus bus, enum vm_media media,
                                   const char *path, err *e)
{
    uint32_t slot = free_slot(c, bus);
    if (slot == places_of(bus) || c->n_disks == VM_MAX_DISKS) {
        err_set(e, ERR_NO_SPACE, "No place is free for another disk");
        return NULL;
    }
    struct vm_disk *d = &c->disks[c->n_disks];
    *d = (struct vm_disk){
        .bus = bus, .slot = slot, .media = media, .read_only = media == VM_MEDIA_DVD};
    if (!vm_config_string(&d->path, path, e))
        return NULL;
    c->n_disks++;
    return d;
}

void vm_config_remove_disk(struct vm_config *c, uint32_t index)
{
    if (index >= c->n_disks)
        return;
    free(c->disks[index].path);
    memmove(&c->disks[index], &c->disks[index + 1], (c->n_disks - index - 1) * sizeof c->disks[0]);
    c->disks[--c->n_disks] = (struct vm_disk){0};
}

struct vm_adapter *vm_config_add_adapter(struct vm_config *c, enum vm_switch kind, err *e)
{
    if (c->n_adapters == VM_MAX_ADAPTERS) {
        err_set(e, ERR_NO_SPACE, "A machine has at most %d adapters", VM_MAX_ADAPTERS);
        return NULL;
    }
    struct vm_adapter *a = &c->adapters[c->n_adapters++];
    *a = (struct vm_adapter){.kind = kind};
    vm_mac_random(&a->mac);
    return a;
}

void vm_config_remove_adapter(struct vm_config *c, uint32_t index)
{
    if (index >= c->n_adapters)
        return;
    free(c->adapters[index].name);
    free(c->adapters[index].forwards);
    memmove(&c->adapters[index], &c->adapters[index + 1],
            (c->n_adapters - index - 1) * sizeof c->adapters[0]);
    c->adapters[--c->n_adapters] = (struct vm_adapter){0};
}

void vm_mac_random(struct vm_mac *out)
{
    struct guid g; /* never fails and is random beyond its version bits */
    guid_random(&g);
    *out = (struct vm_mac){{0x00, 0x15, 0x5d, g.b[0], g.b[1], g.b[2]}};
}
