/* SPDX-License-Identifier: GPL-3.0-or-later */
/* create, list, show, set, delete: what needs the store alone. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "app/cli/cli.h"
#include "core/storage/disk-tool.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- create ---- */

static const char create_help[] =
    "Usage: vireoctl create NAME [KEY=VALUE...] [OPTION...]\n\n"
    "Creates a virtual machine and prints its id. KEY=VALUE as for `vireoctl set`.\n"
    "  --memory SIZE        memory, such as 2G\n"
    "  --cpus N             virtual processors\n"
    "  --generation N       1 or 2\n"
    "  --disk FILE          an existing disk image\n"
    "  --new-disk SIZE      a new, empty disk in the machine's folder, such as 64G\n"
    "  --iso FILE           an ISO image for the DVD drive\n"
    "  --floppy FILE        generation 1: an image for the floppy drive\n"
    "  --kernel FILE        Linux to start directly, with\n"
    "  --initrd FILE        its initial RAM disk and\n"
    "  --append TEXT        its command line\n"
    "  --switch KIND        nat (the default) or none\n"
    "  --place FOLDER       where the machine's folder is made\n"
    "  --json               print a JSON object\n";

struct create_args {
    const char *memory, *cpus, *generation, *disk, *new_disk, *iso, *floppy, *kernel, *initrd,
        *append, *net, *place;
    bool json;
};

#define NEW_DISK "disk.vhdx"

static bool make_disk(const struct store *s, const struct vm_config *c, uint64_t size, err *e)
{
    AUTO(str) path = store_path(s, &c->id, NEW_DISK, e);
    struct loop *loop = path ? loop_new(e) : NULL;
    const struct disk_create_params p = {
        .path = path, .format = DISK_FORMAT_VHDX, .type = DISK_DYNAMIC, .size = size};
    bool ok = loop && disk_create(&p, loop, e);
    char id[GUID_STR_LEN + 1];
    guid_format(&c->id, id);
    if (loop)
        loop_free(loop);
    if (!ok)
        store_delete(s, id, 0, NULL);
    return ok;
}

/* A file given on the command line, as an absolute path; it must exist. */
static char *existing_file(const char *path, err *e)
{
    char *full = realpath(path, NULL);
    if (!full)
        err_set(e, ERR_INVALID, "%s: there is no such file", path);
    return full;
}

static bool set_file(struct vm_config *c, const char *key, const char *path, err *e)
{
    AUTO(str) full = path ? existing_file(path, e) : NULL;
    return !path || (full && vm_config_set(c, key, full, e));
}

static bool set_pair(struct vm_config *c, const char *pair, err *e)
{
    const char *eq = strchr(pair, '=');
    char key[160];
    if (!eq || (size_t)(eq - pair) >= sizeof key)
        return err_set(e, ERR_INVALID, "\"%.60s\" is not KEY=VALUE", pair);
    snprintf(key, sizeof key, "%.*s", (int)(eq - pair), pair);
    return vm_config_set(c, key, eq + 1, e);
}

static bool set_memory(struct vm_config *c, const char *size, err *e)
{
    uint64_t bytes = 0;
    char mib[32];
    if (!size)
        return true;
    if (!cli_size(size, &bytes, e))
        return false;
    if (bytes % (1 << 20))
        return err_set(e, ERR_INVALID, "Memory is a multiple of 1M");
    snprintf(mib, sizeof mib, "%llu", (unsigned long long)(bytes >> 20));
    return vm_config_set(c, "memory.startup", mib, e);
}

static bool add_media(struct vm_config *c, const struct create_args *a, err *e)
{
    enum vm_bus bus = c->generation == 1 ? VM_BUS_IDE : VM_BUS_SCSI;
    AUTO(str) disk = a->disk ? existing_file(a->disk, e) : NULL;
    if (a->disk && (!disk || !vm_config_add_disk(c, bus, VM_MEDIA_DISK, disk, e)))
        return false;
    if (a->new_disk && !vm_config_add_disk(c, bus, VM_MEDIA_DISK, NEW_DISK, e))
        return false;
    AUTO(str) iso = a->iso ? existing_file(a->iso, e) : NULL;
    if (a->iso && (!iso || !vm_config_add_disk(c, bus, VM_MEDIA_DVD, iso, e)))
        return false;
    AUTO(str) floppy = a->floppy ? existing_file(a->floppy, e) : NULL;
    return !a->floppy ||
           (floppy && vm_config_add_disk(c, VM_BUS_FLOPPY, VM_MEDIA_FLOPPY, floppy, e));
}

static bool fill(struct vm_config *c, const struct create_args *a, int n, char **operands, err *e)
{
    if (!vm_config_set(c, "machine.name", operands[0], e) || !set_memory(c, a->memory, e) ||
        (a->cpus && !vm_config_set(c, "processor.count", a->cpus, e)) ||
        (a->generation && !vm_config_set(c, "machine.generation", a->generation, e)) ||
        (a->kernel && !vm_config_set(c, "boot.from", "linux", e)) ||
        !set_file(c, "boot.kernel", a->kernel, e) || !set_file(c, "boot.initrd", a->initrd, e) ||
        (a->append && !vm_config_set(c, "boot.cmdline", a->append, e)) ||
        !vm_config_set(c, "adapter0.switch", a->net ? a->net : "nat", e) || !add_media(c, a, e))
        return false;
    for (int i = 1; i < n; i++)
        if (!set_pair(c, operands[i], e))
            return false;
    return true;
}

static void print_created(const struct vm_config *c, bool json)
{
    char id[GUID_STR_LEN + 1];
    guid_format(&c->id, id);
    if (!json) {
        puts(id);
        return;
    }
    struct cli_json j = {.f = stdout};
    cli_json_open(&j, '{');
    cli_json_key(&j, "id");
    cli_json_string(&j, id);
    cli_json_key(&j, "name");
    cli_json_string(&j, c->name);
    cli_json_close(&j, '}');
}

int cli_create(int argc, char **argv)
{
    struct create_args a = {0};
    const struct cli_option options[] = {
        {"--memory", NULL, &a.memory},
        {"--cpus", NULL, &a.cpus},
        {"--generation", NULL, &a.generation},
        {"--disk", NULL, &a.disk},
        {"--new-disk", NULL, &a.new_disk},
        {"--iso", NULL, &a.iso},
        {"--floppy", NULL, &a.floppy},
        {"--kernel", NULL, &a.kernel},
        {"--initrd", NULL, &a.initrd},
        {"--append", NULL, &a.append},
        {"--switch", NULL, &a.net},
        {"--place", NULL, &a.place},
        {"--json", &a.json, NULL},
    };
    int n = 0;
    if (!cli_parse(argc, argv, options, COUNT(options), &n, create_help))
        return CLI_USAGE;
    if (n < 1)
        return cli_usage("create: a name is missing");
    err e = ERR_INIT;
    AUTO(store) s = cli_store();
    AUTO(vm_config) c = s ? vm_config_new(&e) : NULL;
    if (!s)
        return CLI_FAILED;
    uint64_t size = 0;
    if (!c || (a.new_disk && !cli_size(a.new_disk, &size, &e)) || !fill(c, &a, n, argv + 1, &e))
        return cli_fail(&e);
    AUTO(str) place = a.place ? existing_file(a.place, &e) : NULL;
    if ((a.place && !place) || !store_create(s, c, place, &e) ||
        (size && !make_disk(s, c, size, &e)))
        return cli_fail(&e);
    print_created(c, a.json);
    return CLI_OK;
}

/* ---- list ---- */

static void list_json(const struct store *s, const struct store_list *l)
{
    struct cli_json j = {.f = stdout};
    cli_json_open(&j, '[');
    for (size_t i = 0; i < l->n; i++) {
        const struct store_entry *en = &l->entries[i];
        cli_json_open(&j, '{');
        cli_json_key(&j, "id");
        cli_json_string(&j, en->folder);
        cli_json_key(&j, "name");
        cli_json_string(&j, en->config ? en->config->name : NULL);
        cli_json_key(&j, "running");
        cli_json_bool(&j, en->config && store_is_locked(s, &en->id));
        cli_json_key(&j, "problem");
        cli_json_string(&j, en->problem);
        if (en->config) {
            cli_json_key(&j, "generation");
            cli_json_number(&j, en->config->generation);
            cli_json_key(&j, "processors");
            cli_json_number(&j, en->config->cpus);
            cli_json_key(&j, "memory");
            cli_json_number(&j, (int64_t)en->config->memory << 20);
        }
        cli_json_close(&j, '}');
    }
    cli_json_close(&j, ']');
}

static void list_table(const struct store *s, const struct store_list *l)
{
    if (l->n)
        printf("%-36s  %-8s  %4s  %7s  %s\n", "ID", "STATE", "CPUS", "MEMORY", "NAME");
    for (size_t i = 0; i < l->n; i++) {
        const struct store_entry *en = &l->entries[i];
        if (!en->config)
            printf("%-36s  %-8s  %4s  %7s  %s\n", en->folder, "damaged", "-", "-", en->problem);
        else
            printf("%-36s  %-8s  %4u  %6uM  %s\n", en->folder,
                   store_is_locked(s, &en->id) ? "running" : "off", en->config->cpus,
                   en->config->memory, en->config->name);
    }
}

int cli_list(int argc, char **argv)
{
    bool json = false;
    const struct cli_option options[] = {{"--json", &json, NULL}};
    int n = 0;
    if (!cli_parse(argc, argv, options, COUNT(options), &n,
                   "Usage: vireoctl list [--json]\n\nLists the virtual machines, damaged ones "
                   "with the reason.\n"))
        return CLI_USAGE;
    if (n)
        return cli_usage("list takes no names");
    err e = ERR_INIT;
    AUTO(store) s = cli_store();
    struct store_list l;
    if (!s)
        return CLI_FAILED;
    if (!store_list(s, &l, &e))
        return cli_fail(&e);
    (json ? list_json : list_table)(s, &l);
    store_list_clear(&l);
    return CLI_OK;
}

/* ---- show ---- */

static void show_line(void *ctx, const char *key, const char *value, const char *help)
{
    printf("%-26s %-30s # %s\n", key, value, help);
}

static void show_member(void *ctx, const char *key, const char *value, const char *help)
{
    cli_json_key(ctx, key);
    cli_json_string(ctx, value);
}

int cli_show(int argc, char **argv)
{
    bool json = false;
    const struct cli_option options[] = {{"--json", &json, NULL}};
    int n = 0;
    if (!cli_parse(argc, argv, options, COUNT(options), &n,
                   "Usage: vireoctl show VM [KEY...] [--json]\n\nShows the settings of a machine "
                   "(by name or id), or the values of some.\n"))
        return CLI_USAGE;
    if (n < 1)
        return cli_usage("show: which machine?");
    err e = ERR_INIT;
    struct guid id;
    AUTO(store) s = cli_store();
    if (!s || !cli_find(s, argv[1], &id))
        return CLI_FAILED;
    AUTO(vm_config) c = store_load(s, &id, &e);
    if (!c)
        return cli_fail(&e);
    struct cli_json j = {.f = stdout};
    if (json)
        cli_json_open(&j, '{');
    for (int i = 2; i <= n; i++) {
        AUTO(str) v = vm_config_get(c, argv[i], &e);
        if (!v)
            return cli_fail(&e);
        if (json)
            show_member(&j, argv[i], v, NULL);
        else
            puts(v);
    }
    if (n == 1)
        vm_config_each(c, json ? show_member : show_line, &j);
    if (json)
        cli_json_close(&j, '}');
    return CLI_OK;
}

/* ---- set ---- */

struct changes {
    int n;
    char **pairs;
    bool running;
};

static bool may_change(const char *pair, err *e)
{
    char key[160];
    snprintf(key, sizeof key, "%.*s", (int)strcspn(pair, "="), pair);
    return vm_config_is_live(key) ||
           err_set(e, ERR_BUSY, "The machine is running; %s can be changed only when it is off",
                   key);
}

static bool apply_changes(void *ctx, struct vm_config *c, err *e)
{
    const struct changes *ch = ctx;
    for (int i = 0; i < ch->n; i++)
        if (!set_pair(c, ch->pairs[i], e) || (ch->running && !may_change(ch->pairs[i], e)))
            return false;
    return true;
}

int cli_set(int argc, char **argv)
{
    int n = 0;
    if (!cli_parse(argc, argv, NULL, 0, &n,
                   "Usage: vireoctl set VM KEY=VALUE...\n\nChanges settings; all of them or, "
                   "where one is wrong, none. `vireoctl show VM` lists them.\n"))
        return CLI_USAGE;
    if (n < 2)
        return cli_usage("set: a machine and KEY=VALUE are needed");
    err e = ERR_INIT;
    struct guid id;
    AUTO(store) s = cli_store();
    if (!s || !cli_find(s, argv[1], &id))
        return CLI_FAILED;
    struct changes ch = {n - 1, argv + 2, store_is_locked(s, &id)};
    return store_update(s, &id, apply_changes, &ch, &e) ? CLI_OK : cli_fail(&e);
}

/* ---- delete ---- */

static bool confirmed(const char *name)
{
    char answer[16] = "";
    fprintf(stderr, "Delete \"%s\" with the disks and checkpoints in its folder? [y/N] ", name);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

int cli_delete(int argc, char **argv)
{
    bool yes = false, bin = false;
    const struct cli_option options[] = {{"--yes", &yes, NULL}, {"--bin", &bin, NULL}};
    int n = 0;
    if (!cli_parse(argc, argv, options, COUNT(options), &n,
                   "Usage: vireoctl delete VM [--yes] [--bin]\n\nDeletes a machine: its settings, "
                   "checkpoints and the disks in its own folder.\n"
                   "  --yes   do not ask\n  --bin   into the desktop's bin\n"))
        return CLI_USAGE;
    if (n != 1)
        return cli_usage("delete: which machine?");
    err e = ERR_INIT;
    struct guid id;
    char folder[GUID_STR_LEN + 1];
    AUTO(store) s = cli_store();
    if (!s || !cli_find(s, argv[1], &id))
        return CLI_FAILED;
    if (!yes && !confirmed(argv[1]))
        return cli_fail(&(err){ERR_CANCELLED, 0, "nothing was deleted"});
    guid_format(&id, folder);
    return store_delete(s, folder, bin ? STORE_DELETE_TO_BIN : 0, &e) ? CLI_OK : cli_fail(&e);
}
