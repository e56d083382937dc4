/* SPDX-License-Identifier: GPL-3.0-or-later */
/* vireoctl start, shutdown, turn-off, pause, resume, reset, status, info, disk, nic: machines and
 * their workers. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "app/cli/client.h"
#include "core/base/cleanup.h"

/* ---- life ---- */

int cli_start(int argc, char **argv)
{
    int operands;
    err e = ERR_INIT;
    struct guid id;
    char text[GUID_STR_LEN + 1];
    if (!cli_parse(argc, argv, NULL, 0, &operands,
                   "Usage: vireoctl start NAME\n\nStarts a machine; it runs until it is shut "
                   "down or turned off.\n"))
        return CLI_USAGE;
    if (operands != 1)
        return cli_usage("start takes a machine");
    AUTO(store) s = cli_store();
    if (!s || !cli_find(s, argv[1], &id))
        return CLI_FAILED;
    guid_format(&id, text);
    AUTO(vm_config) c = store_load(s, &id, &e);
    if (c && store_is_locked(s, &id)) {
        err_set(&e, ERR_STATE,
                "\"%s\" runs already, or is just being changed (vireoctl status tells).", c->name);
        return cli_fail(&e);
    }
    AUTO(str) folder = c ? store_path(s, &id, NULL, &e) : NULL;
    if (!folder)
        return cli_fail(&e);
    AUTO(client) worker = client_launch(text, folder, false);
    if (!worker || !client_start(worker, c, folder, NULL))
        return CLI_FAILED;
    if (c->spice || c->vnc)
        client_apply_remote(worker, c, folder); /* the machine runs, whether or not they can */
    return CLI_OK;
}

static int simple(int argc, char **argv, const char *help, const char *method)
{
    int operands;
    g_autoptr(GError) error = NULL;
    if (!cli_parse(argc, argv, NULL, 0, &operands, help))
        return CLI_USAGE;
    if (operands != 1)
        return cli_usage("%s takes a machine", argv[0]);
    AUTO(client) c = client_connect(argv[1]);
    if (!c)
        return CLI_FAILED;
    g_autoptr(GVariant) r = g_dbus_proxy_call_sync(G_DBUS_PROXY(c->machine), method, NULL,
                                                   G_DBUS_CALL_FLAGS_NONE, -1, NULL, &error);
    return r ? CLI_OK : client_fail(error);
}

int cli_turn_off(int argc, char **argv)
{
    return simple(argc, argv, "Usage: vireoctl turn-off NAME\n\nAs pulling the plug.\n", "TurnOff");
}
int cli_pause(int argc, char **argv)
{
    return simple(argc, argv, "Usage: vireoctl pause NAME\n", "Pause");
}
int cli_resume(int argc, char **argv)
{
    return simple(argc, argv, "Usage: vireoctl resume NAME\n", "Resume");
}
int cli_reset(int argc, char **argv)
{
    return simple(argc, argv, "Usage: vireoctl reset NAME\n\nAs the reset button.\n", "Reset");
}

int cli_shutdown(int argc, char **argv)
{
    bool force = false, reboot = false, hibernate = false;
    const struct cli_option options[] = {
        {"--force", &force, NULL}, {"--reboot", &reboot, NULL}, {"--hibernate", &hibernate, NULL}};
    int operands;
    g_autoptr(GError) error = NULL;
    if (!cli_parse(argc, argv, options, G_N_ELEMENTS(options), &operands,
                   "Usage: vireoctl shutdown NAME [--reboot|--hibernate] [--force]\n\nAsks the "
                   "guest; returns when it said that it will.\n"))
        return CLI_USAGE;
    if (operands != 1)
        return cli_usage("shutdown takes a machine");
    AUTO(client) c = client_connect(argv[1]);
    if (!c)
        return CLI_FAILED;
    const char *action = reboot ? "reboot" : hibernate ? "hibernate" : "shutdown";
    if (!vireo_machine1_call_shutdown_sync(c->machine, action, force, NULL, &error))
        return client_fail(error);
    return CLI_OK;
}

/* ---- looking ---- */

static void print_value(FILE *f, GVariant *v)
{
    if (g_variant_is_of_type(v, G_VARIANT_TYPE_STRING)) {
        fputs(g_variant_get_string(v, NULL), f);
        return;
    }
    g_autofree char *text = g_variant_print(v, FALSE);
    fputs(text, f);
}

static void json_value(struct cli_json *j, GVariant *v)
{
    if (g_variant_is_of_type(v, G_VARIANT_TYPE_STRING))
        cli_json_string(j, g_variant_get_string(v, NULL));
    else if (g_variant_is_of_type(v, G_VARIANT_TYPE_BOOLEAN))
        cli_json_bool(j, g_variant_get_boolean(v));
    else if (g_variant_is_of_type(v, G_VARIANT_TYPE_UINT64))
        cli_json_number(j, (int64_t)g_variant_get_uint64(v));
    else if (g_variant_is_of_type(v, G_VARIANT_TYPE_UINT32))
        cli_json_number(j, g_variant_get_uint32(v));
    else if (g_variant_is_of_type(v, G_VARIANT_TYPE_INT64))
        cli_json_number(j, g_variant_get_int64(v));
    else {
        g_autofree char *text = g_variant_print(v, FALSE);
        cli_json_string(j, text);
    }
}

static void show_row(GVariant *row, struct cli_json *j)
{
    GVariantIter iter;
    const char *key;
    GVariant *v;
    bool first = true;
    g_variant_iter_init(&iter, row);
    if (j)
        cli_json_open(j, '{');
    while (g_variant_iter_next(&iter, "{&sv}", &key, &v)) {
        if (j) {
            cli_json_key(j, key);
            json_value(j, v);
        } else {
            printf("%s%s=", first ? "" : " ", key);
            print_value(stdout, v);
        }
        first = false;
        g_variant_unref(v);
    }
    if (j)
        cli_json_close(j, '}');
    else
        putchar('\n');
}

static int show_rows(GVariant *rows, bool json)
{
    struct cli_json j = {.f = stdout};
    if (json)
        cli_json_open(&j, '[');
    for (gsize i = 0; i < g_variant_n_children(rows); i++) {
        g_autoptr(GVariant) row = g_variant_get_child_value(rows, i);
        show_row(row, json ? &j : NULL);
    }
    if (json)
        cli_json_close(&j, ']');
    return ferror(stdout) ? CLI_FAILED : CLI_OK;
}

/* All properties as one row. */
static GVariant *properties(struct client *c)
{
    g_auto(GStrv) names = g_dbus_proxy_get_cached_property_names(G_DBUS_PROXY(c->machine));
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("aa{sv}"));
    g_variant_builder_open(&b, G_VARIANT_TYPE("a{sv}"));
    for (guint i = 0; names && names[i]; i++) {
        g_autoptr(GVariant) v =
            g_dbus_proxy_get_cached_property(G_DBUS_PROXY(c->machine), names[i]);
        g_variant_builder_add(&b, "{sv}", names[i], v);
    }
    g_variant_builder_close(&b);
    return g_variant_ref_sink(g_variant_builder_end(&b));
}

int cli_info(int argc, char **argv)
{
    bool json = false;
    const struct cli_option options[] = {{"--json", &json, NULL}};
    int operands;
    g_autoptr(GError) error = NULL;
    if (!cli_parse(argc, argv, options, 1, &operands,
                   "Usage: vireoctl info NAME [TOPIC] [--json]\n\nWhat a running machine does now. "
                   "Topics: vmbus, processors, adapters, disks,\nmemory, worker; without one its "
                   "state.\n"))
        return CLI_USAGE;
    if (operands < 1 || operands > 2)
        return cli_usage("info takes a machine and perhaps a topic");
    AUTO(client) c = client_connect(argv[1]);
    if (!c)
        return CLI_FAILED;
    g_autoptr(GVariant) rows = NULL;
    if (operands == 1)
        rows = properties(c);
    else if (!vireo_machine1_call_info_sync(c->machine, argv[2], &rows, NULL, &error))
        return client_fail(error);
    return show_rows(rows, json);
}

/* ---- disks ---- */

static int disk_add(struct client *c, const char *path, bool read_only, bool dvd, const char *lun)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    g_autofree char *full = g_canonicalize_filename(path, NULL);
    g_autofree char *id = NULL;
    GVariant *files = client_disk(full, read_only, dvd ? VM_MEDIA_DVD : VM_MEDIA_DISK, fds);
    GVariantBuilder b;
    if (!files)
        return CLI_FAILED;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a{sv}"));
    g_variant_builder_add(&b, "{sv}", "path", g_variant_new_string(full));
    g_variant_builder_add(&b, "{sv}", "kind", g_variant_new_string(dvd ? "dvd" : "disk"));
    g_variant_builder_add(&b, "{sv}", "read-only", g_variant_new_boolean(read_only));
    if (lun)
        g_variant_builder_add(&b, "{sv}", "lun",
                              g_variant_new_uint32((guint32)strtoul(lun, NULL, 10)));
    if (!vireo_machine1_call_add_disk_sync(c->machine, g_variant_builder_end(&b), files, fds, &id,
                                           NULL, NULL, &error))
        return client_fail(error);
    puts(id);
    return CLI_OK;
}

int cli_live_disk(int argc, char **argv)
{
    bool read_only = false, dvd = false;
    const char *lun = NULL;
    const struct cli_option options[] = {
        {"--ro", &read_only, NULL}, {"--dvd", &dvd, NULL}, {"--lun", NULL, &lun}};
    int operands;
    g_autoptr(GError) error = NULL;
    if (!cli_parse(argc, argv, options, G_N_ELEMENTS(options), &operands,
                   "Usage: vireoctl disk add NAME FILE [--ro] [--dvd] [--lun N]\n"
                   "       vireoctl disk remove NAME ID\n\nAdds a disk to a running machine, or "
                   "takes one away.\n"))
        return CLI_USAGE;
    bool adding = operands == 3 && strcmp(argv[1], "add") == 0;
    if (!adding && (operands != 3 || strcmp(argv[1], "remove") != 0))
        return cli_usage("disk takes add or remove, a machine, and a file or an id");
    AUTO(client) c = client_connect(argv[2]);
    if (!c)
        return CLI_FAILED;
    if (adding)
        return disk_add(c, argv[3], read_only, dvd, lun);
    if (!vireo_machine1_call_remove_disk_sync(c->machine, argv[3], NULL, &error))
        return client_fail(error);
    return CLI_OK;
}

bool cli_resize_live(const char *path, uint64_t size, int *rc)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *id = NULL;
    AUTO(client) c = client_find_disk(path, &id);
    if (!c)
        return false;
    *rc = vireo_machine1_call_resize_disk_sync(c->machine, id, size, NULL, &error)
              ? CLI_OK
              : client_fail(error);
    return true;
}

/* ---- adapters ---- */

struct adapter_words {
    const char *mac, *forward, *vlan, *bandwidth, *cable; /* NULL: not said */
    bool host_access;
};

static GVariant *adapter_options(const char *where, const struct adapter_words *w)
{
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a{sv}"));
    g_variant_builder_add(&b, "{sv}", "switch", g_variant_new_string(where));
    if (w->mac)
        g_variant_builder_add(&b, "{sv}", "mac", g_variant_new_string(w->mac));
    if (w->forward)
        g_variant_builder_add(&b, "{sv}", "forwards", g_variant_new_strv(&w->forward, 1));
    if (w->host_access)
        g_variant_builder_add(&b, "{sv}", "loopback", g_variant_new_boolean(TRUE));
    if (w->vlan)
        g_variant_builder_add(&b, "{sv}", "vlan",
                              g_variant_new_uint32((guint)strtoul(w->vlan, NULL, 10)));
    if (w->bandwidth)
        g_variant_builder_add(
            &b, "{sv}", "bandwidth",
            g_variant_new_uint64(g_ascii_strtoull(w->bandwidth, NULL, 10) * 1000000));
    if (w->cable)
        g_variant_builder_add(&b, "{sv}", "connected",
                              g_variant_new_boolean(strcmp(w->cable, "in") == 0));
    return g_variant_builder_end(&b);
}

static bool adapter_words_ok(const struct adapter_words *w)
{
    const char *const numbers[] = {w->vlan, w->bandwidth};
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++)
        if (numbers[i] &&
            !g_ascii_string_to_unsigned(numbers[i], 10, 0, i ? 1000000 : 4094, NULL, NULL))
            return false;
    return !w->cable || !strcmp(w->cable, "in") || !strcmp(w->cable, "out");
}

int cli_nic(int argc, char **argv)
{
    struct adapter_words w = {0};
    const struct cli_option options[] = {
        {"--mac", NULL, &w.mac},     {"--forward", NULL, &w.forward},
        {"--vlan", NULL, &w.vlan},   {"--bandwidth", NULL, &w.bandwidth},
        {"--cable", NULL, &w.cable}, {"--host-access", &w.host_access, NULL}};
    int operands;
    g_autoptr(GError) error = NULL;
    g_autofree char *id = NULL;
    if (!cli_parse(argc, argv, options, G_N_ELEMENTS(options), &operands,
                   "Usage: vireoctl nic add NAME SWITCH [--mac MAC] [OPTION...]\n"
                   "       vireoctl nic set NAME ID SWITCH [OPTION...]\n"
                   "       vireoctl nic remove NAME ID\n\nSWITCH: nat, private:NAME, tap:DEVICE or "
                   "none.\n"
                   "  --forward tcp:HOST:GUEST  a port of this host leads into the guest\n"
                   "  --host-access             10.203.0.2 is this host's own loopback\n"
                   "  --vlan ID                 0: none\n"
                   "  --bandwidth MBIT          a limit each way, 0: none\n"
                   "  --cable in|out\n"))
        return CLI_USAGE;
    if (!adapter_words_ok(&w))
        return cli_usage("nic: --vlan is 0 to 4094, --bandwidth Mbit/s, --cable in or out");
    if (operands < 3)
        return cli_usage("nic takes add, set or remove, a machine, and a switch or an id");
    AUTO(client) c = client_connect(argv[2]);
    if (!c)
        return CLI_FAILED;
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    bool ok;
    bool adds = strcmp(argv[1], "add") == 0, sets = strcmp(argv[1], "set") == 0 && operands == 4;
    const char *where = adds ? argv[3] : sets ? argv[4] : "none";
    GVariant *files = client_switch(where, fds);
    if (!files)
        return CLI_FAILED;
    if (adds) {
        ok = vireo_machine1_call_add_adapter_sync(c->machine, adapter_options(where, &w), files,
                                                  fds, &id, NULL, NULL, &error);
        if (ok)
            puts(id);
    } else if (sets) {
        w.mac = NULL;
        ok = vireo_machine1_call_set_adapter_sync(c->machine, argv[3], adapter_options(where, &w),
                                                  files, fds, NULL, NULL, &error);
    } else {
        g_variant_unref(g_variant_ref_sink(files));
        ok = vireo_machine1_call_remove_adapter_sync(c->machine, argv[3], NULL, &error);
    }
    return ok ? CLI_OK : client_fail(error);
}

/* ---- memory ---- */

int cli_memory(int argc, char **argv)
{
    int operands;
    uint64_t bytes;
    err e = ERR_INIT;
    g_autoptr(GError) error = NULL;
    if (!cli_parse(argc, argv, NULL, 0, &operands,
                   "Usage: vireoctl memory NAME SIZE\n\nAsks a running guest to make do with, or "
                   "to take, SIZE (512M, 2G) of memory.\n"))
        return CLI_USAGE;
    if (operands != 2)
        return cli_usage("memory takes a machine and a size");
    if (!cli_size(argv[2], &bytes, &e))
        return cli_fail(&e);
    AUTO(client) c = client_connect(argv[1]);
    if (!c)
        return CLI_FAILED;
    if (!vireo_machine1_call_set_memory_sync(c->machine, bytes, NULL, &error))
        return client_fail(error);
    return CLI_OK;
}

/* ---- serial port and streams ---- */

/* One way; false at the end. */
static bool pump(int from, int to)
{
    char buf[4096];
    ssize_t n = read(from, buf, sizeof buf);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    for (ssize_t at = 0; at < n;) {
        ssize_t k = write(to, buf + at, (size_t)(n - at));
        if (k < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (k < 0)
            g_usleep(5000);
        at += k > 0 ? k : 0;
    }
    return n > 0;
}

/* What was read of standard input and is on its way to the port. */
struct outgoing {
    char bytes[16384];
    size_t at, end;
    bool over; /* nothing more comes */
};

static void take_input(struct outgoing *o, int fd, bool tell_end)
{
    ssize_t n = read(0, o->bytes, sizeof o->bytes);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    o->at = 0;
    o->end = n > 0 ? (size_t)n : 0;
    o->over = n <= 0;
    if (o->over && tell_end)
        shutdown(fd, SHUT_WR);
}

/* A port that takes nothing any more may still have something to say. */
static void give(struct outgoing *o, int fd)
{
    ssize_t n = send(fd, o->bytes + o->at, o->end - o->at, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) {
        o->at += (size_t)n;
    } else if (errno != EAGAIN && errno != EINTR) {
        o->over = true;
        o->at = o->end = 0;
    }
}

/* Standard input to the port, the port to standard output, until the port ends. `tell_end`: of the
 * input, too. */
static void join(int fd, bool tell_end)
{
    struct outgoing o = {.at = 0};
    for (;;) {
        bool more = o.at < o.end;
        GPollFD p[2] = {{.fd = fd, .events = G_IO_IN | (more ? G_IO_OUT : 0)},
                        {.fd = 0, .events = G_IO_IN}};
        if (g_poll(p, more || o.over ? 1 : 2, -1) < 0 && errno != EINTR)
            return;
        if (p[1].revents)
            take_input(&o, fd, tell_end);
        else if (more && p[0].revents & (G_IO_OUT | G_IO_ERR | G_IO_HUP))
            give(&o, fd);
        if (p[0].revents & (G_IO_IN | G_IO_HUP | G_IO_ERR) && !pump(fd, 1))
            return;
    }
}

int cli_serial(int argc, char **argv)
{
    const char *port = "1";
    bool history_only = false;
    const struct cli_option options[] = {{"--port", NULL, &port},
                                         {"--history", &history_only, NULL}};
    int operands;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) history = NULL, handle = NULL;
    g_autoptr(GUnixFDList) fds = NULL;
    gsize len;
    if (!cli_parse(argc, argv, options, G_N_ELEMENTS(options), &operands,
                   "Usage: vireoctl serial NAME [--port N] [--history]\n\nPrints what the machine "
                   "wrote to its serial port and, without --history, joins it to the terminal "
                   "until the end of the input and of the machine.\n"))
        return CLI_USAGE;
    if (operands != 1)
        return cli_usage("serial takes a machine");
    AUTO(client) c = client_connect(argv[1]);
    if (!c)
        return CLI_FAILED;
    if (!vireo_machine1_call_open_serial_sync(c->machine, (guint)strtoul(port, NULL, 10), NULL,
                                              &history, &handle, &fds, NULL, &error))
        return client_fail(error);
    const void *bytes = g_variant_get_fixed_array(history, &len, 1);
    fwrite(bytes, 1, len, stdout);
    fflush(stdout);
    AUTO(fd) fd = g_unix_fd_list_get(fds, 0, NULL);
    if (!history_only)
        join(fd, false);
    return ferror(stdout) ? CLI_FAILED : CLI_OK;
}

int cli_vsock(int argc, char **argv)
{
    int operands;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) handle = NULL;
    g_autoptr(GUnixFDList) fds = NULL;
    if (!cli_parse(argc, argv, NULL, 0, &operands,
                   "Usage: vireoctl vsock NAME PORT\n\nJoins standard input and output to a "
                   "program that listens on the guest's vsock port, until both have ended.\n"))
        return CLI_USAGE;
    if (operands != 2)
        return cli_usage("vsock takes a machine and a port");
    AUTO(client) c = client_connect(argv[1]);
    if (!c)
        return CLI_FAILED;
    if (!vireo_machine1_call_connect_vsock_sync(c->machine, (guint)strtoul(argv[2], NULL, 10), NULL,
                                                &handle, &fds, NULL, &error))
        return client_fail(error);
    AUTO(fd) fd = g_unix_fd_list_get(fds, 0, NULL);
    join(fd, true);
    return CLI_OK;
}
