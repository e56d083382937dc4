/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/cli/client.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/cleanup.h"

enum { CALL_TIMEOUT_MS = 120000, CONNECT_STEP_US = 20000, CONNECT_TRIES = 500 };

int client_fail(GError *error)
{
    err e = ERR_INIT;
    g_dbus_error_strip_remote_error(error);
    err_set(&e, ERR_IO, "%s", error->message);
    return cli_fail(&e);
}

void client_close(struct client *c)
{
    if (!c)
        return;
    g_clear_object(&c->machine);
    if (c->bus)
        g_dbus_connection_close_sync(c->bus, NULL, NULL);
    g_clear_object(&c->bus);
    g_free(c);
}

static char *runtime; /* NULL: the session's */

void client_set_runtime(const char *path)
{
    g_free(runtime);
    runtime = g_strdup(path);
}

static const char *runtime_dir(void)
{
    return runtime ? runtime : g_get_user_runtime_dir();
}

static char *socket_path(const char *id)
{
    return g_build_filename(runtime_dir(), "vireo", id, "bus", NULL);
}

static struct client *try_connect(const char *id, GError **error)
{
    g_autofree char *path = socket_path(id);
    g_autofree char *escaped = g_dbus_address_escape_value(path);
    g_autofree char *address = g_strconcat("unix:path=", escaped, NULL);
    struct client *c = g_new0(struct client, 1);
    c->bus = g_dbus_connection_new_for_address_sync(
        address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT, NULL, NULL, error);
    if (c->bus)
        c->machine = vireo_machine1_proxy_new_sync(c->bus, G_DBUS_PROXY_FLAGS_NONE, NULL,
                                                   CLIENT_MACHINE, NULL, error);
    if (!c->machine) {
        client_close(c);
        return NULL;
    }
    g_dbus_proxy_set_default_timeout(G_DBUS_PROXY(c->machine), CALL_TIMEOUT_MS);
    return c;
}

/* A machine of no store (vireoctl run), by the name that its worker has. */
static bool find_running(const char *name, char id[GUID_STR_LEN + 1])
{
    g_autofree char *path = g_build_filename(runtime_dir(), "vireo", NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *entry;
    struct guid g;
    while (dir && (entry = g_dir_read_name(dir))) {
        AUTO(client) c = guid_parse(entry, &g) ? try_connect(entry, NULL) : NULL;
        if (c && g_strcmp0(vireo_machine1_get_name(c->machine), name) == 0) {
            guid_format(&g, id);
            return true;
        }
    }
    return false;
}

/* The id of a machine of the store, or one that only runs. */
static bool find_id(const char *name_or_id, char id[GUID_STR_LEN + 1])
{
    struct guid g;
    if (guid_parse(name_or_id, &g)) {
        guid_format(&g, id);
        g_autofree char *path = socket_path(id);
        if (access(path, F_OK) == 0)
            return true;
    }
    AUTO(store) s = cli_store();
    if (s && store_find(s, name_or_id, &g, NULL)) {
        guid_format(&g, id);
        return true;
    }
    if (find_running(name_or_id, id))
        return true;
    if (s)
        cli_find(s, name_or_id, &g); /* says what is wrong */
    return false;
}

struct client *client_connect(const char *name_or_id)
{
    char id[GUID_STR_LEN + 1];
    g_autoptr(GError) error = NULL;
    if (!find_id(name_or_id, id))
        return NULL;
    struct client *c = try_connect(id, &error);
    if (!c) {
        err e = ERR_INIT;
        err_set(&e, ERR_STATE, "the machine \"%s\" is not running", name_or_id);
        cli_fail(&e);
    }
    return c;
}

/* ---- starting ---- */

static char *worker_path(void)
{
    const char *given = g_getenv("VIREO_WORKER");
    if (given)
        return g_strdup(given);
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = self ? g_path_get_dirname(self) : NULL;
    g_autofree char *beside =
        folder ? g_build_filename(folder, "..", "worker", "vireo-vm", NULL) : NULL;
    if (beside && g_file_test(beside, G_FILE_TEST_IS_EXECUTABLE))
        return g_steal_pointer(&beside);
    return g_strdup(VIREO_LIBEXECDIR "/vireo-vm");
}

static void detach(gpointer data)
{
    setsid();
}

static bool spawn(const char *id, const char *folder, int words, GPid *pid, GError **error)
{
    g_autofree char *worker = worker_path();
    const char *argv[] = {worker, "--id", id, folder ? "--folder" : NULL, folder, NULL};
    g_autofree char *log = folder ? g_build_filename(folder, "worker.log", NULL) : NULL;
    AUTO(fd) out = open(log ? log : "/dev/null", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    AUTO(fd) in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    g_auto(GStrv) env = g_environ_setenv(g_get_environ(), "XDG_RUNTIME_DIR", runtime_dir(), TRUE);
    return g_spawn_async_with_fds(NULL, (char **)argv, env, G_SPAWN_DO_NOT_REAP_CHILD, detach, NULL,
                                  pid, in, out, log ? out : words, error);
}

/* The last line that a worker wrote into the file, less the program's name. */
static char *last_words(int fd)
{
    char buf[1024];
    ssize_t n = fd < 0 ? 0 : pread(fd, buf, sizeof buf - 1, 0);
    buf[MAX(n, 0)] = 0;
    g_strchomp(buf);
    char *line = strrchr(buf, '\n');
    line = line ? line + 1 : buf;
    return g_strdup(g_str_has_prefix(line, "vireo-vm: ") ? line + 10 : line);
}

struct client *client_launch(const char *id, const char *folder, bool quiet)
{
    g_autoptr(GError) error = NULL;
    GPid pid = 0;
    AUTO(fd) words = quiet ? memfd_create("words", MFD_CLOEXEC) : -1;
    if (!spawn(id, folder, words < 0 ? 2 : words, &pid, &error)) {
        client_fail(error);
        return NULL;
    }
    for (unsigned i = 0; i < CONNECT_TRIES; i++) {
        struct client *c = try_connect(id, NULL);
        if (c)
            return c;
        if (waitpid(pid, NULL, WNOHANG) == pid)
            break;
        g_usleep(CONNECT_STEP_US);
    }
    err e = ERR_INIT;
    g_autofree char *said = last_words(words);
    err_set(&e, ERR_IO, "the program that runs the machine did not start%s%s",
            folder  ? "; see worker.log in "
            : *said ? ": "
                    : "",
            folder ? folder : said);
    cli_fail(&e);
    return NULL;
}

/* ---- files ---- */

static bool add_file(GVariantBuilder *b, const char *name, const char *path, bool read_only,
                     GUnixFDList *fds)
{
    g_autoptr(GError) error = NULL;
    err e = ERR_INIT;
    AUTO(fd) fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        err_errno(&e, errno, "\"%s\" cannot be opened", path);
        cli_fail(&e);
        return false;
    }
    int index = g_unix_fd_list_append(fds, fd, &error);
    if (index < 0) {
        client_fail(error);
        return false;
    }
    g_variant_builder_add(b, "(sh)", name, index);
    return true;
}

GVariant *client_file(const char *name, const char *path, bool read_only, GUnixFDList *fds)
{
    g_auto(GVariantBuilder) b = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a(sh)"));
    if (name && !add_file(&b, name, path, read_only, fds))
        return NULL;
    return g_variant_builder_end(&b);
}

static bool add_named(GVariantBuilder *b, const char *name, const char *folder, bool read_only,
                      GUnixFDList *fds)
{
    if (!name)
        return true;
    g_autofree char *path =
        g_path_is_absolute(name) || !folder ? g_strdup(name) : g_build_filename(folder, name, NULL);
    return add_file(b, name, path, read_only, fds);
}

static bool add_all(GVariantBuilder *b, const struct vm_config *c, const char *folder,
                    GUnixFDList *fds)
{
    if (!add_named(b, c->kernel, folder, true, fds) || !add_named(b, c->initrd, folder, true, fds))
        return false;
    for (uint32_t i = 0; i < c->n_disks; i++)
        if (!add_named(b, c->disks[i].path, folder,
                       c->disks[i].read_only || c->disks[i].media == VM_MEDIA_DVD, fds))
            return false;
    return true;
}

static bool add_port(GVariantBuilder *b, int fd, GUnixFDList *fds)
{
    int index = g_unix_fd_list_append(fds, fd, NULL);
    if (index >= 0)
        g_variant_builder_add(b, "(sh)", "port0", index);
    return index >= 0;
}

bool client_start(struct client *c, const struct vm_config *config, const char *folder,
                  const struct client_more *more)
{
    GVariant *options = more && more->options ? more->options : g_variant_new("a{sv}", NULL);
    err e = ERR_INIT;
    g_autoptr(GError) error = NULL;
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    g_auto(GVariantBuilder) b = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a(sh)"));
    AUTO(str) text = vm_config_format(config, &e);
    if (!text) {
        cli_fail(&e);
        return false;
    }
    if (!add_all(&b, config, folder, fds))
        return false;
    if (more && more->port0 >= 0 && !add_port(&b, more->port0, fds))
        return false;
    if (vireo_machine1_call_configure_sync(c->machine, text, g_variant_builder_end(&b), options,
                                           fds, NULL, NULL, &error) &&
        vireo_machine1_call_start_sync(c->machine, g_variant_new("a(sh)", NULL),
                                       g_variant_new("a{sv}", NULL), NULL, NULL, NULL, &error))
        return true;
    client_fail(error);
    return false;
}
