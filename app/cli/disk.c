/* SPDX-License-Identifier: GPL-3.0-or-later */
/* vireoctl disk: virtual disks as files. Tables for people, --json for programs, progress on
 * standard error where it is a terminal. */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "app/cli/cli.h"
#include "core/base/bytes.h"
#include "core/base/loop.h"
#include "core/storage/disk-tool.h"

static struct loop *loop;
static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
    interrupted = 1;
}

/* ---- progress ---- */

static bool show_progress(void *ctx, uint64_t done, uint64_t total)
{
    static time_t last;
    time_t now = time(NULL);
    if (isatty(STDERR_FILENO) && now != last && total) {
        last = now;
        fprintf(stderr, "\r%s %3u%%", (const char *)ctx,
                (unsigned)(100.0 * (double)done / (double)total));
        fflush(stderr);
    }
    return !interrupted;
}

static struct disk_progress begin_progress(const char *verb)
{
    struct sigaction sa = {.sa_handler = on_signal};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    return (struct disk_progress){.fn = show_progress, .ctx = (void *)verb};
}

static void end_progress(void)
{
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

/* ---- words ---- */

static void human(uint64_t bytes, char out[32])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    int u = 0;
    while (v >= 1024 && u < 4) {
        v /= 1024;
        u++;
    }
    snprintf(out, 32, u && v < 100 && v != (double)(uint64_t)v ? "%.1f %s" : "%.0f %s", v,
             units[u]);
}

static bool parse_format(const char *text, enum disk_format *out)
{
    static const enum disk_format all[] = {DISK_FORMAT_RAW, DISK_FORMAT_VHD, DISK_FORMAT_VHDX};
    for (size_t i = 0; text && i < ARRAY_LEN(all); i++)
        if (!strcmp(text, disk_format_name(all[i]))) {
            *out = all[i];
            return true;
        }
    return !text || (cli_usage("\"%s\" is not a format: raw, vhd or vhdx", text), false);
}

static bool parse_type(const char *text, enum disk_type *out)
{
    static const enum disk_type all[] = {DISK_FIXED, DISK_DYNAMIC, DISK_DIFFERENCING};
    for (size_t i = 0; text && i < ARRAY_LEN(all); i++)
        if (!strcmp(text, disk_type_name(all[i]))) {
            *out = all[i];
            return true;
        }
    return !text ||
           (cli_usage("\"%s\" is not a type: fixed, dynamic or differencing", text), false);
}

static bool parse_small(const char *text, uint32_t *out)
{
    err e = ERR_INIT;
    uint64_t v = 0;
    if (text && (!cli_size(text, &v, &e) || v > UINT32_MAX)) {
        cli_usage("\"%s\" is not a size", text);
        return false;
    }
    *out = (uint32_t)v;
    return true;
}

/* Exactly `want` operands, or a usage error. */
static bool operands(int n, int want, const char *what)
{
    return n == want || (cli_usage("%s", what), false);
}

/* ---- create ---- */

static const char create_help[] =
    "Usage: vireoctl disk create FILE --size 64G [OPTION...]\n\n"
    "  --size SIZE         the disk's size (a differencing disk's is its parent's)\n"
    "  --type TYPE         dynamic (the default), fixed or differencing\n"
    "  --parent FILE       of a differencing disk\n"
    "  --format FORMAT     vhdx, vhd or raw; else by FILE's ending, else vhdx\n"
    "  --block-size SIZE   VHDX: 1M to 256M; VHD: 4K to 256M\n"
    "  --sector-size SIZE  what the guest sees: 512 or 4K\n"
    "  --physical-sector-size SIZE\n"
    "  --force             replace FILE if it is there\n";

static int disk_create_cmd(int argc, char **argv)
{
    const char *size = NULL, *type = NULL, *parent = NULL, *format = NULL, *block = NULL,
               *sector = NULL, *physical = NULL;
    bool force = false;
    const struct cli_option options[] = {
        {"--size", .value = &size},
        {"--type", .value = &type},
        {"--parent", .value = &parent},
        {"--format", .value = &format},
        {"--block-size", .value = &block},
        {"--sector-size", .value = &sector},
        {"--physical-sector-size", .value = &physical},
        {"--force", .flag = &force},
    };
    struct disk_create_params p = {0};
    err e = ERR_INIT;
    int n;
    if (!cli_parse(argc, argv, options, ARRAY_LEN(options), &n, create_help) ||
        !operands(n, 1, "one file, please: vireoctl disk create FILE --size 64G"))
        return CLI_USAGE;
    p.path = argv[1];
    p.parent = parent;
    p.force = force;
    p.type = parent ? DISK_DIFFERENCING : DISK_DYNAMIC;
    if (!parse_format(format, &p.format) || !parse_type(type, &p.type) ||
        !parse_small(block, &p.block_size) || !parse_small(sector, &p.logical_sector) ||
        !parse_small(physical, &p.physical_sector))
        return CLI_USAGE;
    if (size && !cli_size(size, &p.size, &e))
        return cli_fail(&e), CLI_USAGE;
    if (!size && p.type != DISK_DIFFERENCING)
        return cli_usage("how large? Say --size 64G");
    const char *dot = strrchr(p.path, '.');
    bool raw_name = dot && (!strcmp(dot, ".raw") || !strcmp(dot, ".img"));
    if (!type && !parent && (p.format == DISK_FORMAT_RAW || (!format && raw_name)))
        p.type = DISK_FIXED;
    return disk_create(&p, loop, &e) ? CLI_OK : cli_fail(&e);
}

/* ---- info ---- */

static const char info_help[] = "Usage: vireoctl disk info FILE [--json]\n";

static void info_json(const char *path, const struct disk_description *d)
{
    struct cli_json j = {.f = stdout};
    char id[GUID_STR_LEN + 1];
    const struct disk_info *i = &d->info;
    cli_json_open(&j, '{');
    cli_json_key(&j, "file"), cli_json_string(&j, path);
    cli_json_key(&j, "format"), cli_json_string(&j, disk_format_name(i->format));
    cli_json_key(&j, "type"), cli_json_string(&j, disk_type_name(i->type));
    cli_json_key(&j, "size"), cli_json_number(&j, (int64_t)i->size);
    cli_json_key(&j, "file_length"), cli_json_number(&j, (int64_t)d->file_length);
    cli_json_key(&j, "space_used"), cli_json_number(&j, (int64_t)i->file_size);
    cli_json_key(&j, "block_size"), cli_json_number(&j, i->block_size);
    cli_json_key(&j, "logical_sector_size"), cli_json_number(&j, i->logical_sector);
    cli_json_key(&j, "physical_sector_size"), cli_json_number(&j, i->physical_sector);
    cli_json_key(&j, "depth"), cli_json_number(&j, i->depth);
    guid_format(&i->disk_id, id);
    cli_json_key(&j, "disk_id"), cli_json_string(&j, guid_is_zero(&i->disk_id) ? NULL : id);
    guid_format(&d->identity, id);
    cli_json_key(&j, "identity"), cli_json_string(&j, guid_is_zero(&d->identity) ? NULL : id);
    cli_json_key(&j, "creator"), cli_json_string(&j, d->creator);
    cli_json_key(&j, "log_pending"), cli_json_bool(&j, d->log_pending);
    cli_json_key(&j, "parent"), cli_json_string(&j, d->parent);
    cli_json_key(&j, "parent_path"), cli_json_string(&j, d->parent_path);
    cli_json_key(&j, "parent_changed_later"), cli_json_bool(&j, d->parent_later);
    cli_json_key(&j, "problem"), cli_json_string(&j, d->chain_broken ? d->problem : NULL);
    cli_json_close(&j, '}');
}

static void info_text(const char *path, const struct disk_description *d)
{
    const struct disk_info *i = &d->info;
    char size[32], used[32], block[32], id[GUID_STR_LEN + 1];
    human(i->size, size);
    human(i->file_size, used);
    human(i->block_size, block);
    guid_format(&i->disk_id, id);
    printf("File:         %s\nFormat:       %s, %s\nSize:         %s (%" PRIu64 " bytes)\n", path,
           disk_format_name(i->format), disk_type_name(i->type), size, i->size);
    printf("Space used:   %s\nSectors:      %u bytes (physical %u)\n", used, i->logical_sector,
           i->physical_sector);
    if (i->block_size)
        printf("Block size:   %s\n", block);
    if (!guid_is_zero(&i->disk_id))
        printf("Disk id:      %s\n", id);
    if (d->creator[0])
        printf("Made by:      %s\n", d->creator);
    if (d->parent)
        printf("Parent:       %s\n", d->parent_path ? d->parent_path : d->parent);
    if (i->depth)
        printf("Layers below: %u\n", i->depth);
    if (d->log_pending)
        puts("Log:          changes wait to be applied (or the disk is in use)");
    if (d->parent_later)
        puts("Note:         the parent's file was changed after this disk was made on it");
    if (d->chain_broken)
        printf("Problem:      %s\n", d->problem);
}

static int disk_info_cmd(int argc, char **argv)
{
    bool json = false;
    const struct cli_option options[] = {{"--json", .flag = &json}};
    struct disk_description d;
    err e = ERR_INIT;
    int n;
    if (!cli_parse(argc, argv, options, ARRAY_LEN(options), &n, info_help) ||
        !operands(n, 1, "one file, please: vireoctl disk info FILE"))
        return CLI_USAGE;
    if (!disk_describe(argv[1], loop, &d, &e))
        return cli_fail(&e);
    if (json)
        info_json(argv[1], &d);
    else
        info_text(argv[1], &d);
    disk_description_clear(&d);
    return CLI_OK;
}

/* ---- check ---- */

static const char check_help[] =
    "Usage: vireoctl disk check FILE [--repair] [--json]\n\n"
    "Looks for defects. --repair sets right what can be; what is beyond that is given up.\n"
    "Exit status: 0 the disk is sound (or is now), 1 it is not.\n";

struct findings {
    struct cli_json json;
    bool as_json;
};

static const char *finding_name(enum disk_finding k)
{
    static const char *const names[] = {"note", "defect", "damage", "repaired"};
    return names[k];
}

static void show_finding(void *ctx, enum disk_finding kind, const char *text)
{
    struct findings *f = ctx;
    if (!f->as_json) {
        end_progress();
        printf("%s: %s\n", finding_name(kind), text);
        return;
    }
    cli_json_open(&f->json, '{');
    cli_json_key(&f->json, "kind"), cli_json_string(&f->json, finding_name(kind));
    cli_json_key(&f->json, "text"), cli_json_string(&f->json, text);
    cli_json_close(&f->json, '}');
}

static int disk_check_cmd(int argc, char **argv)
{
    bool json = false, repair = false;
    const struct cli_option options[] = {{"--json", .flag = &json}, {"--repair", .flag = &repair}};
    struct disk_check_result r;
    err e = ERR_INIT;
    int n;
    if (!cli_parse(argc, argv, options, ARRAY_LEN(options), &n, check_help) ||
        !operands(n, 1, "one file, please: vireoctl disk check FILE"))
        return CLI_USAGE;
    struct findings f = {.json = {.f = stdout}, .as_json = json};
    struct disk_progress pr = begin_progress("Checking");
    if (json) {
        cli_json_open(&f.json, '{');
        cli_json_key(&f.json, "findings"), cli_json_open(&f.json, '[');
    }
    bool ok = disk_check(argv[1], repair, loop, show_finding, &f, &pr, &r, &e);
    end_progress();
    bool sound = ok && r.defects + r.damages <= (repair ? r.repaired : 0);
    if (json) {
        cli_json_close(&f.json, ']');
        cli_json_key(&f.json, "sound"), cli_json_bool(&f.json, sound);
        cli_json_key(&f.json, "unused_bytes"), cli_json_number(&f.json, (int64_t)r.leaked);
        cli_json_close(&f.json, '}');
    }
    if (!ok)
        return cli_fail(&e);
    if (!json)
        puts(sound ? "The disk is sound." : "The disk is not sound.");
    return sound ? CLI_OK : CLI_FAILED;
}

/* ---- convert ---- */

static const char convert_help[] =
    "Usage: vireoctl disk convert SOURCE TARGET [OPTION...]\n\n"
    "Writes what SOURCE (with its parents) reads as into a new disk. SOURCE may also be qcow2,\n"
    "VMDK or VDI where the program qemu-img is installed.\n\n"
    "  --to FORMAT         vhdx, vhd or raw; else by TARGET's ending, else vhdx\n"
    "  --type TYPE         dynamic (the default) or fixed\n"
    "  --from FORMAT       what SOURCE is, if its content should not decide\n"
    "  --block-size SIZE\n"
    "  --force             replace TARGET if it is there\n";

static int disk_convert_cmd(int argc, char **argv)
{
    const char *to = NULL, *from = NULL, *type = NULL, *block = NULL;
    bool force = false;
    const struct cli_option options[] = {
        {"--to", .value = &to},      {"--from", .value = &from},        {"--type", .value = &type},
        {"--force", .flag = &force}, {"--block-size", .value = &block},
    };
    struct disk_convert_params p = {.type = DISK_DYNAMIC};
    err e = ERR_INIT;
    int n;
    if (!cli_parse(argc, argv, options, ARRAY_LEN(options), &n, convert_help) ||
        !operands(n, 2, "two files, please: vireoctl disk convert SOURCE TARGET") ||
        !parse_format(to, &p.format) || !parse_format(from, &p.source_format) ||
        !parse_type(type, &p.type) || !parse_small(block, &p.block_size))
        return CLI_USAGE;
    p.source = argv[1];
    p.target = argv[2];
    p.force = force;
    struct disk_progress pr = begin_progress("Converting");
    bool ok = disk_convert(&p, loop, &pr, &e);
    end_progress();
    return ok ? CLI_OK : cli_fail(&e);
}

/* ---- resize ---- */

static const char resize_help[] = "Usage: vireoctl disk resize FILE SIZE|minimum [--force]\n\n"
                                  "\"minimum\" is the end of the last byte that is not zero. A "
                                  "smaller size would lose data: that\n"
                                  "needs --force. Partitions are the guest's to resize.\n"
                                  "The disk of a running machine is resized there, never at the "
                                  "cost of data; the guest sees it\nwith its next request.\n";

static int resize_to(struct disk *d, const char *path, const char *want, bool force)
{
    err e = ERR_INIT;
    struct disk_info info;
    uint64_t size, end = 0;
    disk_get_info(d, &info);
    bool minimum = !strcmp(want, "minimum");
    if (!minimum && !cli_size(want, &size, &e))
        return cli_fail(&e), CLI_USAGE;
    if (minimum || (size < info.size && !force)) {
        if (!disk_data_end(d, &end, &e))
            return cli_fail(&e);
        if (minimum)
            size = MAX(end, (uint64_t)info.logical_sector);
        if (size < end) {
            char least[32];
            human(end, least);
            err_set(&e, ERR_STATE,
                    "%s holds data up to %s (%" PRIu64
                    " bytes): a smaller size loses it. Shrink the "
                    "partitions in the guest first, or say --force",
                    path, least, end);
            return cli_fail(&e);
        }
    }
    return disk_resize(d, size, true, &e) ? CLI_OK : cli_fail(&e);
}

/* False: no machine of ours has it. */
static bool resize_in_use(const char *path, const char *want, int *rc)
{
    err e = ERR_INIT;
    uint64_t size;
    if (!strcmp(want, "minimum")) {
        *rc = cli_usage("the smallest size of a disk in use is not known: say which");
        return true;
    }
    if (!cli_size(want, &size, &e)) {
        cli_fail(&e);
        *rc = CLI_USAGE;
        return true;
    }
    return cli_resize_live(path, size, rc);
}

static int disk_resize_cmd(int argc, char **argv)
{
    bool force = false;
    const struct cli_option options[] = {{"--force", .flag = &force}};
    err e = ERR_INIT;
    int n;
    if (!cli_parse(argc, argv, options, ARRAY_LEN(options), &n, resize_help) ||
        !operands(n, 2, "a file and a size, please: vireoctl disk resize FILE SIZE"))
        return CLI_USAGE;
    struct disk_open_params op = {.path = argv[1], .opener = &disk_opener_paths, .loop = loop};
    struct disk *d = disk_open(&op, &e);
    int rc;
    if (!d)
        return e.code == ERR_BUSY && resize_in_use(argv[1], argv[2], &rc) ? rc : cli_fail(&e);
    rc = resize_to(d, argv[1], argv[2], force);
    disk_close(d);
    return rc;
}

/* ---- compact, merge, reparent ---- */

static const char compact_help[] =
    "Usage: vireoctl disk compact FILE\n\n"
    "Gives up blocks that hold only zeroes and makes the file as short as it can be.\n";

static int disk_compact_cmd(int argc, char **argv)
{
    err e = ERR_INIT;
    int n;
    if (!cli_parse(argc, argv, NULL, 0, &n, compact_help) ||
        !operands(n, 1, "one file, please: vireoctl disk compact FILE"))
        return CLI_USAGE;
    struct disk_progress pr = begin_progress("Compacting");
    bool ok = disk_compact(argv[1], loop, &pr, &e);
    end_progress();
    return ok ? CLI_OK : cli_fail(&e);
}

static const char merge_help[] =
    "Usage: vireoctl disk merge FILE [--keep]\n\n"
    "Writes what a differencing disk holds into its parent and deletes FILE. Other children of "
    "the\n"
    "parent no longer fit it afterwards. Interrupted, it may be begun again.\n\n"
    "  --keep   do not delete FILE\n";

static int disk_merge_cmd(int argc, char **argv)
{
    bool keep = false;
    const struct cli_option options[] = {{"--keep", .flag = &keep}};
    err e = ERR_INIT;
    int n;
    if (!cli_parse(argc, argv, options, ARRAY_LEN(options), &n, merge_help) ||
        !operands(n, 1, "one file, please: vireoctl disk merge FILE"))
        return CLI_USAGE;
    struct disk_progress pr = begin_progress("Merging");
    bool ok = disk_merge_into_parent(argv[1], keep, loop, &pr, &e);
    end_progress();
    return ok ? CLI_OK : cli_fail(&e);
}

static const char reparent_help[] = "Usage: vireoctl disk reparent FILE PARENT [--force]\n\n"
                                    "Tells a differencing disk where its parent is. Unless "
                                    "--force, only the disk that it was made\n"
                                    "on will do.\n";

static int disk_reparent_cmd(int argc, char **argv)
{
    bool force = false;
    const struct cli_option options[] = {{"--force", .flag = &force}};
    err e = ERR_INIT;
    int n;
    if (!cli_parse(argc, argv, options, ARRAY_LEN(options), &n, reparent_help) ||
        !operands(n, 2, "two files, please: vireoctl disk reparent FILE PARENT"))
        return CLI_USAGE;
    return disk_reparent(argv[1], argv[2], force, loop, &e) ? CLI_OK : cli_fail(&e);
}

/* ---- map ---- */

static const char map_help[] = "Usage: vireoctl disk map FILE [--json]\n\n"
                               "Lists which parts of the disk are data, zeroes, or in no file.\n";

static void map_row(struct cli_json *j, bool json, const struct disk_extent *x, struct disk *d)
{
    static const char *const kinds[] = {"data", "zero", "hole"};
    const char *layer = x->kind == DISK_EXTENT_HOLE ? NULL : disk_layer_name(d, x->depth);
    if (!json) {
        printf("%16" PRIu64 " %16" PRIu64 "  %s  ", x->offset, x->length, kinds[x->kind]);
        if (x->kind == DISK_EXTENT_DATA)
            printf("%16" PRIu64 "  %s\n", x->file_offset, layer);
        else
            printf("%16s  %s\n", "-", layer ? layer : "-");
        return;
    }
    cli_json_open(j, '{');
    cli_json_key(j, "offset"), cli_json_number(j, (int64_t)x->offset);
    cli_json_key(j, "length"), cli_json_number(j, (int64_t)x->length);
    cli_json_key(j, "kind"), cli_json_string(j, kinds[x->kind]);
    cli_json_key(j, "depth"), cli_json_number(j, x->depth);
    if (x->kind == DISK_EXTENT_DATA)
        cli_json_key(j, "file_offset"), cli_json_number(j, (int64_t)x->file_offset);
    cli_json_key(j, "file"), cli_json_string(j, layer);
    cli_json_close(j, '}');
}

static int disk_map_cmd(int argc, char **argv)
{
    bool json = false;
    const struct cli_option options[] = {{"--json", .flag = &json}};
    err e = ERR_INIT;
    int n;
    if (!cli_parse(argc, argv, options, ARRAY_LEN(options), &n, map_help) ||
        !operands(n, 1, "one file, please: vireoctl disk map FILE"))
        return CLI_USAGE;
    struct disk_open_params op = {
        .path = argv[1], .flags = DISK_OPEN_READ_ONLY, .opener = &disk_opener_paths, .loop = loop};
    struct disk *d = disk_open(&op, &e);
    if (!d)
        return cli_fail(&e);
    struct disk_info info;
    struct cli_json j = {.f = stdout};
    disk_get_info(d, &info);
    if (json)
        cli_json_open(&j, '[');
    else
        printf("%16s %16s  %s  %16s  %s\n", "offset", "length", "kind", "in file at", "file");
    bool ok = true;
    struct disk_extent x;
    for (uint64_t off = 0; ok && off < info.size; off += x.length) {
        ok = disk_map(d, off, &x, &e);
        if (ok)
            map_row(&j, json, &x, d);
    }
    if (json)
        cli_json_close(&j, ']');
    disk_close(d);
    return ok ? CLI_OK : cli_fail(&e);
}

/* ---- which ---- */

static const struct cli_command commands[] = {
    {"create", disk_create_cmd, "create a disk"},
    {"info", disk_info_cmd, "say what a disk is"},
    {"check", disk_check_cmd, "look for defects, and repair them"},
    {"convert", disk_convert_cmd, "write a disk's content into a new one of another kind"},
    {"resize", disk_resize_cmd, "change a disk's size"},
    {"compact", disk_compact_cmd, "make a disk's file as short as it can be"},
    {"merge", disk_merge_cmd, "merge a differencing disk into its parent"},
    {"reparent", disk_reparent_cmd, "tell a differencing disk where its parent is"},
    {"map", disk_map_cmd, "list what is where"},
};

static int help(FILE *f)
{
    fputs("Usage: vireoctl disk COMMAND [ARGUMENT...]\n\n"
          "Commands (vireoctl disk COMMAND --help tells more):\n",
          f);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        fprintf(f, "  %-9s %s\n", commands[i].name, commands[i].help);
    fputs("  add       add a disk to a running machine\n"
          "  remove    take a disk from a running machine\n",
          f);
    return ferror(f) ? CLI_FAILED : CLI_OK;
}

int cli_disk(int argc, char **argv)
{
    err e = ERR_INIT;
    if (argc < 2) {
        help(stderr);
        return CLI_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "help"))
        return help(stdout);
    if (!strcmp(argv[1], "add") || !strcmp(argv[1], "remove"))
        return cli_live_disk(argc, argv);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(argv[1], commands[i].name))
            continue;
        loop = loop_new(&e);
        if (!loop)
            return cli_fail(&e);
        int rc = commands[i].fn(argc - 1, argv + 1);
        loop_free(loop);
        return rc;
    }
    return cli_usage("there is no command \"disk %s\"", argv[1]);
}
