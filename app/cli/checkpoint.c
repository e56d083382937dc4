/* SPDX-License-Identifier: GPL-3.0-or-later */
/* vireoctl save, stop, status, checkpoint: what is kept of a machine's past. A machine that runs is
 * asked over D-Bus; one that is off is changed here, under its lock. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "app/cli/target.h"
#include "core/base/cleanup.h"
#include "core/machine/checkpoint.h"
#include "core/machine/memfile.h"

enum { STOP_STEP_US = 100000 };

/* ---- save, stop, status ---- */

int cli_save(int argc, char **argv)
{
    int operands;
    if (!cli_parse(argc, argv, NULL, 0, &operands,
                   "Usage: vireoctl save NAME\n\nWrites memory and devices to disk and turns the "
                   "machine off; its next start goes on from here.\n"))
        return CLI_USAGE;
    if (operands != 1)
        return cli_usage("save takes a machine");
    AUTO(client) c = client_connect(argv[1]);
    if (!c)
        return CLI_FAILED;
    g_autoptr(GVariant) r = client_call(c, "Save", NULL);
    return r ? CLI_OK : CLI_FAILED;
}

/* Until its folder may be changed and it may be started again. */
static bool wait_gone(const struct target *t, long seconds)
{
    for (long i = 0; i < seconds * (1000000 / STOP_STEP_US); i++) {
        if (!store_is_locked(t->store, &t->id))
            return true;
        g_usleep(STOP_STEP_US);
    }
    return false;
}

int cli_stop(int argc, char **argv)
{
    bool save = false, off = false;
    const char *timeout = "120";
    const struct cli_option options[] = {
        {"--save", &save, NULL}, {"--turn-off", &off, NULL}, {"--timeout", NULL, &timeout}};
    int operands;
    err e = ERR_INIT;
    if (!cli_parse(argc, argv, options, G_N_ELEMENTS(options), &operands,
                   "Usage: vireoctl stop NAME [--save|--turn-off] [--timeout SECONDS]\n\nAsks the "
                   "guest to shut down and waits until it is off; or saves it, or turns it off.\n"))
        return CLI_USAGE;
    if (operands != 1)
        return cli_usage("stop takes a machine");
    AUTO(target) t = target_open(argv[1], false);
    if (!t)
        return CLI_FAILED;
    if (!t->worker)
        return CLI_OK;
    g_autoptr(GVariant) r =
        client_call(t->worker,
                    save  ? "Save"
                    : off ? "TurnOff"
                          : "Shutdown",
                    save || off ? NULL : g_variant_new("(sb)", "shutdown", FALSE));
    if (!r)
        return CLI_FAILED;
    client_close(TAKE(t->worker));
    if (wait_gone(t, strtol(timeout, NULL, 10)))
        return CLI_OK;
    err_set(&e, ERR_TIMEOUT, "the machine is not off yet");
    return cli_fail(&e);
}

int cli_status(int argc, char **argv)
{
    bool json = false;
    const struct cli_option options[] = {{"--json", &json, NULL}};
    int operands;
    err e = ERR_INIT;
    if (!cli_parse(argc, argv, options, 1, &operands,
                   "Usage: vireoctl status NAME [--json]\n\nPrints off, saved, running, paused, "
                   "...\n"))
        return CLI_USAGE;
    if (operands != 1)
        return cli_usage("status takes a machine");
    AUTO(target) t = target_open(argv[1], false);
    AUTO(vm_config) c = t ? store_load(t->store, &t->id, &e) : NULL;
    if (!c)
        return t ? cli_fail(&e) : CLI_FAILED;
    const char *state = t->worker                 ? vireo_machine1_get_state(t->worker->machine)
                        : guid_is_zero(&c->saved) ? "off"
                                                  : "saved";
    if (!json)
        return puts(state) < 0 ? CLI_FAILED : CLI_OK;
    struct cli_json j = {.f = stdout};
    cli_json_open(&j, '{');
    cli_json_key(&j, "name");
    cli_json_string(&j, c->name);
    cli_json_key(&j, "state");
    cli_json_string(&j, state);
    if (t->worker) {
        cli_json_key(&j, "backend");
        cli_json_string(&j, vireo_machine1_get_backend(t->worker->machine));
        cli_json_key(&j, "worker");
        cli_json_number(&j, vireo_machine1_get_process_id(t->worker->machine));
    }
    cli_json_close(&j, '}');
    return ferror(stdout) ? CLI_FAILED : CLI_OK;
}

/* ---- checkpoint: looking ---- */

static void format_id(const struct guid *id, char out[GUID_STR_LEN + 1])
{
    out[0] = 0;
    if (!guid_is_zero(id))
        guid_format(id, out);
}

static uint64_t file_bytes(const char *path)
{
    struct stat st;
    return path && stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static uint64_t state_bytes(const char *folder, const struct guid *id)
{
    static const char *const endings[] = {".state", ".ram", ".map", ".png"};
    uint64_t sum = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(endings); i++) {
        AUTO(str) path = checkpoint_state_path(folder, id, endings[i], NULL);
        sum += file_bytes(path);
    }
    return sum;
}

static void json_checkpoint(struct cli_json *j, const struct target *t, const struct checkpoint *c,
                            const struct guid *current)
{
    char id[GUID_STR_LEN + 1], parent[GUID_STR_LEN + 1];
    format_id(&c->id, id);
    format_id(&c->parent, parent);
    AUTO(str) png = checkpoint_state_path(t->folder, &c->id, ".png", NULL);
    const struct {
        const char *key, *text;
    } texts[] = {{"id", id},
                 {"parent", parent[0] ? parent : NULL},
                 {"name", c->name},
                 {"notes", c->notes},
                 {"kind", checkpoint_kind_name(c->kind)},
                 {"thumbnail", png && access(png, R_OK) == 0 ? png : NULL}};
    cli_json_open(j, '{');
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        cli_json_key(j, texts[i].key);
        cli_json_string(j, texts[i].text);
    }
    cli_json_key(j, "created");
    cli_json_number(j, c->created / 1000000);
    cli_json_key(j, "memory");
    cli_json_bool(j, c->memory);
    cli_json_key(j, "complete");
    cli_json_bool(j, c->complete);
    cli_json_key(j, "current");
    cli_json_bool(j, guid_equal(&c->id, current));
    cli_json_key(j, "bytes");
    cli_json_number(j, (int64_t)state_bytes(t->folder, &c->id));
    cli_json_close(j, '}');
}

static unsigned depth_of(const struct checkpoint_tree *tree, const struct checkpoint *c)
{
    unsigned depth = 0;
    for (size_t i = tree->n; i-- > 0;)
        if (guid_equal(&tree->list[i].id, &c->parent)) {
            c = &tree->list[i];
            depth++;
        }
    return depth;
}

static void print_tree(const struct target *t, const struct checkpoint_tree *tree)
{
    for (size_t i = 0; i < tree->n; i++) {
        const struct checkpoint *c = &tree->list[i];
        char id[GUID_STR_LEN + 1], when[32];
        struct tm tm;
        time_t at = (time_t)(c->created / 1000000);
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", localtime_r(&at, &tm));
        guid_format(&c->id, id);
        printf("%*s%s  %s  %s%s, %" PRIu64 " MiB%s%s\n", (int)depth_of(tree, c) * 2, "", c->name,
               id, when, c->memory ? "" : ", disks only", state_bytes(t->folder, &c->id) >> 20,
               c->complete ? "" : ", being made",
               guid_equal(&c->id, &tree->current) ? "  <- the present goes on from here" : "");
    }
}

static int list(struct target *t, const struct checkpoint *one, const struct checkpoint_tree *tree,
                bool json)
{
    struct cli_json j = {.f = stdout};
    if (!json) {
        print_tree(t, tree);
        return ferror(stdout) ? CLI_FAILED : CLI_OK;
    }
    if (!one)
        cli_json_open(&j, '[');
    for (size_t i = 0; i < tree->n; i++)
        if (!one || one == &tree->list[i])
            json_checkpoint(&j, t, &tree->list[i], &tree->current);
    if (!one)
        cli_json_close(&j, ']');
    return ferror(stdout) ? CLI_FAILED : CLI_OK;
}

static int show(struct target *t, const struct checkpoint *c, const struct checkpoint_tree *tree,
                bool json)
{
    err e = ERR_INIT;
    if (json)
        return list(t, c, tree, true);
    AUTO(vm_config) then = checkpoint_config(t->folder, &c->id, &e);
    if (!then)
        return cli_fail(&e);
    struct checkpoint_tree one = {.list = (struct checkpoint *)(uintptr_t)c, .n = 1};
    one.current = tree->current;
    print_tree(t, &one);
    if (c->notes)
        printf("%s\n", c->notes);
    printf("%" PRIu32 " processors, %" PRIu32 " MiB\n", then->cpus, then->memory);
    for (uint32_t i = 0; i < then->n_disks; i++)
        if (then->disks[i].path)
            printf("disk %" PRIu32 ": %s\n", i, then->disks[i].path);
    return ferror(stdout) ? CLI_FAILED : CLI_OK;
}

/* ---- checkpoint: changing ---- */

struct options {
    bool json, no_memory, subtree, no_start, replace;
    const char *notes, *kind;
};

static bool off_progress(void *ctx, const char *file, double fraction)
{
    const char *slash = strrchr(file, '/');
    if (isatty(2))
        fprintf(stderr, "\rMerging %s: %3.0f %%", slash ? slash + 1 : file, fraction * 100);
    return true;
}

static int tidy(struct target *t)
{
    err e = ERR_INIT;
    bool ok = checkpoint_merge_off(t->folder, off_progress, NULL, &e);
    if (isatty(2))
        fputc('\n', stderr);
    return ok ? CLI_OK : cli_fail(&e);
}

static void print_id(const struct guid *id, bool json)
{
    char text[GUID_STR_LEN + 1];
    guid_format(id, text);
    if (json)
        printf("{\"id\":\"%s\"}\n", text);
    else
        puts(text);
}

static int create_off(struct target *t, const char *name, const struct options *o)
{
    err e = ERR_INIT;
    struct checkpoint c = {.name = name ? strdup(name) : NULL,
                           .notes = o->notes ? strdup(o->notes) : NULL};
    bool ok = checkpoint_recover(t->folder, &e) && checkpoint_create_off(t->folder, &c, &e);
    if (ok)
        print_id(&c.id, o->json);
    checkpoint_clear(&c);
    return ok ? CLI_OK : cli_fail(&e);
}

static int create(struct target *t, const char *name, const struct options *o)
{
    GVariantBuilder b;
    struct guid id;
    const char *text;
    if (!t->worker)
        return create_off(t, name, o);
    g_variant_builder_init(&b, G_VARIANT_TYPE("a{sv}"));
    if (name)
        g_variant_builder_add(&b, "{sv}", "name", g_variant_new_string(name));
    if (o->notes)
        g_variant_builder_add(&b, "{sv}", "notes", g_variant_new_string(o->notes));
    if (o->kind)
        g_variant_builder_add(&b, "{sv}", "kind", g_variant_new_string(o->kind));
    if (o->no_memory)
        g_variant_builder_add(&b, "{sv}", "memory", g_variant_new_boolean(FALSE));
    g_variant_builder_add(&b, "{sv}", "wait", g_variant_new_boolean(TRUE));
    g_autoptr(GVariant) r = client_call(
        t->worker, "CreateCheckpoint",
        g_variant_new("(@a{sv}@a(sh))", g_variant_builder_end(&b), g_variant_new("a(sh)", NULL)));
    if (!r)
        return CLI_FAILED;
    g_variant_get(r, "(&s)", &text);
    if (guid_parse(text, &id))
        print_id(&id, o->json);
    return CLI_OK;
}

static int apply(struct target *t, const struct guid *id, const struct options *o)
{
    err e = ERR_INIT;
    char text[GUID_STR_LEN + 1];
    guid_format(id, text);
    if (t->worker) {
        struct checkpoint_layers l;
        GVariantBuilder b;
        if (!checkpoint_make_layers(t->folder, id, &l, &e))
            return cli_fail(&e);
        g_variant_builder_init(&b, G_VARIANT_TYPE("a(uus)"));
        for (unsigned i = 0; i < l.n; i++)
            g_variant_builder_add(&b, "(uus)", l.leaf[i].bus, l.leaf[i].slot, l.leaf[i].path);
        checkpoint_layers_clear(&l);
        g_autoptr(GVariant) r =
            client_call(t->worker, "ApplyCheckpoint", g_variant_new("(sa(uus))", text, &b));
        if (!r)
            return CLI_FAILED;
        client_close(TAKE(t->worker));
        return o->no_start ? CLI_OK : target_start(t);
    }
    if (!checkpoint_recover(t->folder, &e) || !checkpoint_apply(t->folder, id, &e))
        return cli_fail(&e);
    return tidy(t);
}

static int delete_one(struct target *t, const struct guid *id, const struct options *o)
{
    err e = ERR_INIT;
    char text[GUID_STR_LEN + 1];
    guid_format(id, text);
    if (t->worker) {
        g_autoptr(GVariant) r =
            client_call(t->worker, "DeleteCheckpoint", g_variant_new("(sb)", text, o->subtree));
        return r ? CLI_OK : CLI_FAILED;
    }
    if (!checkpoint_recover(t->folder, &e) || !checkpoint_delete(t->folder, id, o->subtree, &e))
        return cli_fail(&e);
    return tidy(t);
}

static int set_text(struct target *t, const struct guid *id, const char *text, bool notes)
{
    err e = ERR_INIT;
    char name[GUID_STR_LEN + 1];
    guid_format(id, name);
    if (t->worker) {
        g_autoptr(GVariant) r =
            client_call(t->worker, notes ? "SetCheckpointNotes" : "RenameCheckpoint",
                        g_variant_new("(ss)", name, text));
        return r ? CLI_OK : CLI_FAILED;
    }
    bool ok = notes ? checkpoint_set_notes(t->folder, id, text, &e)
                    : checkpoint_rename(t->folder, id, text, &e);
    return ok ? CLI_OK : cli_fail(&e);
}

static bool check_progress(void *ctx, uint64_t done, uint64_t total)
{
    if (isatty(2))
        fprintf(stderr, "\r%s: %3.0f %%", (const char *)ctx, (double)done * 100 / (double)total);
    return true;
}

static bool check_one(struct target *t, const struct checkpoint *c, err *e)
{
    AUTO(str) states = checkpoint_states(t->folder, e);
    AUTO(vm_config) then = states ? checkpoint_config(t->folder, &c->id, e) : NULL;
    if (!then || !c->memory)
        return then != NULL;
    AUTO(memfile) m = memfile_open(states, &c->id, e);
    return m && memfile_check(m, check_progress, c->name, e);
}

static int check(struct target *t, const struct checkpoint_tree *tree, const struct checkpoint *one)
{
    int status = CLI_OK;
    for (size_t i = 0; i < tree->n; i++) {
        err e = ERR_INIT;
        const struct checkpoint *c = &tree->list[i];
        if (one && one != c)
            continue;
        if (!c->complete) {
            printf("%s: being made\n", c->name);
            continue;
        }
        bool ok = check_one(t, c, &e);
        printf("%s%s: %s\n", isatty(2) ? "\r" : "", c->name, ok ? "good" : e.text);
        status = ok ? status : CLI_FAILED;
    }
    return status;
}

static const char checkpoint_help[] =
    "Usage: vireoctl checkpoint create VM [NAME] [--notes TEXT] [--kind standard|production]\n"
    "                                  [--no-memory] [--json]\n"
    "       vireoctl checkpoint list VM [--json]\n"
    "       vireoctl checkpoint show VM CHECKPOINT [--json]\n"
    "       vireoctl checkpoint apply VM CHECKPOINT [--no-start]\n"
    "       vireoctl checkpoint revert VM [--no-start]\n"
    "       vireoctl checkpoint rename VM CHECKPOINT NAME\n"
    "       vireoctl checkpoint notes VM CHECKPOINT TEXT\n"
    "       vireoctl checkpoint delete VM CHECKPOINT [--subtree]\n"
    "       vireoctl checkpoint check VM [CHECKPOINT]\n"
    "       vireoctl checkpoint export VM CHECKPOINT FILE [--replace]\n"
    "       vireoctl checkpoint try VM CHECKPOINT [--json]\n"
    "\n"
    "CHECKPOINT is a name or an id. A machine that runs goes on while a checkpoint is made; apply\n"
    "and revert (to the checkpoint that the present goes on from) give up its present state.\n"
    "export makes a file that `vireoctl import` makes a machine of; try starts a machine without\n"
    "network that goes on from the checkpoint, prints its id, and is gone when it is turned off.\n";

static int dispatch(struct target *t, const char *verb, int n, char **args, const struct options *o)
{
    err e = ERR_INIT;
    struct checkpoint_tree tree;
    if (!strcmp(verb, "create"))
        return create(t, n > 0 ? args[0] : NULL, o);
    if (!checkpoint_tree_load(t->folder, &tree, &e))
        return cli_fail(&e);
    const struct checkpoint *c = n > 0 ? checkpoint_find(&tree, args[0], &e) : NULL;
    struct guid id;
    err why = ERR_INIT;
    if (n > 0 && !c && guid_parse(args[0], &id) && !checkpoint_readable(t->folder, &id, &why))
        e = why;
    int status = CLI_FAILED;
    if (n > 0 && !c)
        status = cli_fail(&e);
    else if (!strcmp(verb, "list"))
        status = list(t, NULL, &tree, o->json);
    else if (!strcmp(verb, "check"))
        status = check(t, &tree, c);
    else if (!strcmp(verb, "revert"))
        status = guid_is_zero(&tree.current)
                     ? cli_fail(&(err){ERR_NOT_FOUND, 0, "the machine has no checkpoint"})
                     : apply(t, &tree.current, o);
    else if (!c)
        status = cli_usage("checkpoint %s: which checkpoint?", verb);
    else if (!strcmp(verb, "show"))
        status = show(t, c, &tree, o->json);
    else if (!strcmp(verb, "apply"))
        status = apply(t, &c->id, o);
    else if (!strcmp(verb, "delete"))
        status = delete_one(t, &c->id, o);
    else if (!strcmp(verb, "try"))
        status = target_try(t, &c->id, o->json);
    else if (n == 2 && !strcmp(verb, "export"))
        status = target_export(t, &c->id, args[1], o->replace);
    else if (n == 2 && (!strcmp(verb, "rename") || !strcmp(verb, "notes")))
        status = set_text(t, &c->id, args[1], verb[0] == 'n');
    else
        status = cli_usage("checkpoint cannot \"%s\"", verb);
    checkpoint_tree_clear(&tree);
    return status;
}

int cli_checkpoint(int argc, char **argv)
{
    struct options o = {0};
    const struct cli_option options[] = {
        {"--json", &o.json, NULL},       {"--no-memory", &o.no_memory, NULL},
        {"--subtree", &o.subtree, NULL}, {"--no-start", &o.no_start, NULL},
        {"--notes", NULL, &o.notes},     {"--kind", NULL, &o.kind},
        {"--replace", &o.replace, NULL}};
    int n;
    if (!cli_parse(argc, argv, options, G_N_ELEMENTS(options), &n, checkpoint_help))
        return CLI_USAGE;
    if (n < 2)
        return cli_usage("checkpoint takes a verb and a machine");
    static const char *const reads[] = {"list", "show", "check", "export", "try", NULL};
    AUTO(target) t = target_open(argv[2], !g_strv_contains(reads, argv[1]));
    return t ? dispatch(t, argv[1], n - 2, argv + 3, &o) : CLI_FAILED;
}
