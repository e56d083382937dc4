/* SPDX-License-Identifier: GPL-3.0-or-later */
/* export, import, move, rename, autostart; checkpoint export, try. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/cli/target.h"

static void print_id(const struct guid *id, bool json)
{
    char text[GUID_STR_LEN + 1];
    guid_format(id, text);
    if (json)
        printf("{\"id\":\"%s\"}\n", text);
    else
        puts(text);
}

/* A folder or file that is there, as a full path. */
static char *full_path(const char *path)
{
    char *full = realpath(path, NULL);
    if (!full) {
        err e = ERR_INIT;
        err_set(&e, ERR_NOT_FOUND, "%s is not there", path);
        cli_fail(&e);
    }
    return full;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* ---- export ---- */

/* Into a folder: under the machine's name. */
static char *target_file(const struct target *t, const char *file)
{
    err e = ERR_INIT;
    if (!is_folder(file))
        return g_strdup(file);
    AUTO(vm_config) c = store_load(t->store, &t->id, &e);
    AUTO(str) full = c ? realpath(file, NULL) : NULL;
    AUTO(str) path = full ? store_place(full, c->name, &e) : NULL;
    if (!path)
        cli_fail(&e);
    return path ? g_strconcat(path, ".vireo", NULL) : NULL;
}

int target_export(struct target *t, const struct guid *checkpoint, const char *file, bool replace)
{
    err e = ERR_INIT;
    struct target_line line = {.text = "Exporting"};
    struct transfer_progress p = target_progress(&line);
    g_autofree char *path = target_file(t, file);
    if (!path)
        return CLI_FAILED;
    bool ok = transfer_export(t->folder, checkpoint, path, replace, &p, &e);
    target_line_end(&line);
    return ok ? CLI_OK : cli_fail(&e);
}

int cli_export(int argc, char **argv)
{
    bool replace = false;
    const struct cli_option options[] = {{"--replace", &replace, NULL}};
    int n;
    err e = ERR_INIT;
    if (!cli_parse(argc, argv, options, 1, &n,
                   "Usage: vireoctl export VM FILE [--replace]\n\nWrites a machine that is off or "
                   "saved to FILE, compressed, with its disks, saved\nstate and checkpoints; into "
                   "a folder, under the machine's name. One that runs:\nsave it before, or make a "
                   "checkpoint and export that (checkpoint export).\n"))
        return CLI_USAGE;
    if (n != 2)
        return cli_usage("export takes a machine and a file");
    AUTO(target) t = target_open(argv[1], true);
    if (!t)
        return CLI_FAILED;
    if (t->worker) {
        err_set(&e, ERR_STATE,
                "the machine is running: save it first, or export one of its checkpoints");
        return cli_fail(&e);
    }
    return checkpoint_recover(t->folder, &e) ? target_export(t, NULL, argv[2], replace)
                                             : cli_fail(&e);
}

/* ---- import ---- */

static const char import_help[] =
    "Usage: vireoctl import FILE|FOLDER [--name NAME] [--place FOLDER] [--keep-id] [--json]\n"
    "       vireoctl import FOLDER --register [--json]\n\n"
    "Makes a new machine of an exported one, or of a copy of a machine's folder, and prints its\n"
    "id. It is a machine of its own: its disks are copied, its id is new.\n"
    "  --name NAME     what it is called; without it as it was\n"
    "  --place FOLDER  where the machine's folder is made\n"
    "  --keep-id       it is the same machine as before: the id stays\n"
    "  --register      nothing is copied: the folder itself is the machine's, where it is\n";

int cli_import(int argc, char **argv)
{
    bool json = false, keep = false, reg = false;
    const char *name = NULL, *place = NULL;
    const struct cli_option options[] = {{"--json", &json, NULL},
                                         {"--keep-id", &keep, NULL},
                                         {"--register", &reg, NULL},
                                         {"--name", NULL, &name},
                                         {"--place", NULL, &place}};
    struct target_line line = {.text = "Importing"};
    struct transfer_progress progress = target_progress(&line);
    struct guid id;
    err e = ERR_INIT;
    int n;
    if (!cli_parse(argc, argv, options, G_N_ELEMENTS(options), &n, import_help))
        return CLI_USAGE;
    if (n != 1 || (reg && (name || place)))
        return cli_usage("import takes an exported machine");
    AUTO(str) path = full_path(argv[1]);
    AUTO(str) where = path && place ? full_path(place) : NULL;
    AUTO(store) s = path && (where || !place) ? cli_store() : NULL;
    if (!s)
        return CLI_FAILED;
    const struct transfer_import p = {path, name, where, keep};
    bool ok = reg ? store_register(s, path, &id, &e) : transfer_import(s, &p, &id, &progress, &e);
    target_line_end(&line);
    if (ok)
        print_id(&id, json);
    return ok ? CLI_OK : cli_fail(&e);
}

/* ---- move, rename ---- */

int cli_move(int argc, char **argv)
{
    struct target_line line = {.text = "Moving"};
    struct transfer_progress progress = target_progress(&line);
    err e = ERR_INIT;
    int n;
    if (!cli_parse(argc, argv, NULL, 0, &n,
                   "Usage: vireoctl move VM [FOLDER]\n\nMoves a machine that is off or saved, "
                   "with the disks and checkpoints in its folder,\ninto FOLDER, under its name; "
                   "without FOLDER, back among the others.\n"))
        return CLI_USAGE;
    if (n < 1 || n > 2)
        return cli_usage("move takes a machine and a folder");
    AUTO(str) place = n == 2 ? full_path(argv[2]) : NULL;
    AUTO(target) t = place || n == 1 ? target_open(argv[1], true) : NULL;
    if (!t)
        return CLI_FAILED;
    if (t->worker) {
        err_set(&e, ERR_BUSY, "the machine is running: save it or turn it off first");
        return cli_fail(&e);
    }
    bool ok =
        checkpoint_recover(t->folder, &e) && transfer_move(t->store, &t->id, place, &progress, &e);
    target_line_end(&line);
    return ok ? CLI_OK : cli_fail(&e);
}

int cli_rename(int argc, char **argv)
{
    err e = ERR_INIT;
    struct guid id;
    int n;
    if (!cli_parse(argc, argv, NULL, 0, &n,
                   "Usage: vireoctl rename VM NAME\n\nGives a machine another name.\n"))
        return CLI_USAGE;
    if (n != 2)
        return cli_usage("rename takes a machine and a name");
    AUTO(store) s = cli_store();
    if (!s || !cli_find(s, argv[1], &id))
        return CLI_FAILED;
    return store_rename(s, &id, argv[2], &e) ? CLI_OK : cli_fail(&e);
}

/* ---- checkpoint try ---- */

int target_try(struct target *t, const struct guid *checkpoint, bool json)
{
    err e = ERR_INIT;
    struct guid id;
    char text[GUID_STR_LEN + 1];
    if (!transfer_clone(t->store, &t->id, checkpoint, &id, &e))
        return cli_fail(&e);
    guid_format(&id, text);
    AUTO(target) clone = target_open(text, false);
    if (!clone || target_start(clone) != CLI_OK) {
        store_delete(t->store, text, 0, NULL);
        return CLI_FAILED;
    }
    print_id(&id, json);
    return CLI_OK;
}

/* ---- with the session ---- */

static bool wanted(const struct store *s, const struct store_entry *en)
{
    AUTO(str) ran = store_path(s, &en->id, STORE_RAN_NAME, NULL);
    if (!en->config || store_is_locked(s, &en->id))
        return false;
    return en->config->autostart == VM_AUTOSTART_ALWAYS ||
           (en->config->autostart == VM_AUTOSTART_IF_RUNNING && ran && access(ran, F_OK) == 0);
}

static int by_delay(const void *a, const void *b)
{
    const struct store_entry *const *x = a, *const *y = b;
    return (int)(*x)->config->autostart_delay - (int)(*y)->config->autostart_delay;
}

static int start_all(const struct store_entry **list, size_t n)
{
    int status = CLI_OK;
    gint64 begin = g_get_monotonic_time();
    qsort(list, n, sizeof *list, by_delay);
    for (size_t i = 0; i < n; i++) {
        gint64 at = begin + (gint64)list[i]->config->autostart_delay * G_USEC_PER_SEC;
        gint64 wait = at - g_get_monotonic_time();
        if (wait > 0)
            g_usleep((gulong)wait);
        AUTO(target) t = target_open(list[i]->folder, false);
        if (!t || (!t->worker && target_start(t) != CLI_OK))
            status = CLI_FAILED;
    }
    return status;
}

int cli_autostart(int argc, char **argv)
{
    err e = ERR_INIT;
    struct store_list l;
    size_t n = 0;
    int operands;
    if (!cli_parse(argc, argv, NULL, 0, &operands,
                   "Usage: vireoctl autostart\n\nStarts the machines that are to start with the "
                   "session (automatic.start), each\nafter its delay. The desktop calls this when "
                   "somebody logs in.\n"))
        return CLI_USAGE;
    if (operands)
        return cli_usage("autostart takes no names");
    AUTO(store) s = cli_store();
    if (!s)
        return CLI_FAILED;
    if (!store_list(s, &l, &e))
        return cli_fail(&e);
    g_autofree const struct store_entry **list = g_new0(const struct store_entry *, l.n + 1);
    for (size_t i = 0; i < l.n; i++)
        if (wanted(s, &l.entries[i]))
            list[n++] = &l.entries[i];
    int status = start_all(list, n);
    store_list_clear(&l);
    return status;
}
