/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * vireoctl run: a machine without a place in the store, run by a worker that goes with this
 * process; its first serial port on the terminal. Exit status: 0 the guest powered off, 10 it reset
 * (--no-reboot), 11 it crashed, (code << 1) | 1 by the debug exit port, 2 wrong input, 1 anything
 * else.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/cli/run-int.h"
#include "app/cli/terminal.h"
#include "core/base/cleanup.h"
#include "core/machine/storefs.h"

static const char help[] =
    "Usage: vireoctl run --kernel FILE [--initrd FILE] [--append STRING] [OPTION...]\n"
    "       vireoctl run --multiboot FILE [--initrd FILE] [--append STRING] [OPTION...]\n"
    "       vireoctl run --machine bios [--disk FILE] [--iso FILE] [OPTION...]\n"
    "\n"
    "Runs a kernel, or what a disk or an ISO image has, in a machine that is gone when it\n"
    "ends.\n"
    "  --kernel FILE        Linux: bzImage, or an ELF file\n"
    "  --initrd FILE        initial RAM disk; with --multiboot the first module\n"
    "  --append STRING      the kernel's command line\n"
    "  --multiboot FILE     a Multiboot 1 kernel, on a bare PC (with PIC and PIT)\n"
    "  --memory SIZE        512M by default\n"
    "  --cpus N             virtual processors, 1 by default\n"
    "  --cpu MODEL          baseline (default) or host\n"
    "  --accel ACCEL        auto (default), kvm or soft\n"
    "  --disk FILE[,ro][,lun=N]\n"
    "                       a disk (raw, VHD or VHDX), /dev/sda and so on; may be repeated\n"
    "  --iso FILE[,lun=N]   a DVD drive with that image; may be repeated\n"
    "  --floppy FILE[,ro]   with --machine bios: a floppy drive with that image\n"
    "  --net nat|private:NAME|tap:DEVICE|none[,mac=MAC][,forward=tcp:HOST:GUEST][,host-access]\n"
    "                       [,legacy]: a network adapter; may be repeated. legacy: the emulated\n"
    "                       one of generation 1, for systems without Hyper-V's drivers\n"
    "  --name NAME          what other commands of vireoctl call it\n"
    "  --screenshot-at SECONDS,FILE\n"
    "                       writes the screen after that time; may be repeated\n"
    "  --set KEY=VALUE      any setting of `vireoctl show`; may be repeated\n"
    "  --serial WHERE       the first serial port: stdio (default), a file, or none\n"
    "  --machine KIND       gen2, or pc (with PIC and PIT; the default with --multiboot and for\n"
    "                       32-bit Linux), or bios (generation 1: SeaBIOS starts a disk or an\n"
    "                       ISO image)\n"
    "  --debug-exit         a write to port 0xf4 ends the run with status (value << 1) | 1\n"
    "  --test-devices       the devices that kvm-unit-tests use (and no VMBus)\n"
    "  --vendor NAME        the processor's vendor: intel or amd (default: the host's)\n"
    "  --no-reboot          end with status 10 when the guest resets\n"
    "  --stats FILE         write what the run took as JSON\n"
    "  --restore-when TEXT  for tests: when the guest has written TEXT, save it and go on in "
    "another\n"
    "                       process\n"
    "  --self-restore S     for tests: every S seconds save, reset and restore the devices' and\n"
    "                       processors' state in place\n"
    "\n"
    "On the terminal: Ctrl-A X leaves, Ctrl-A R resets, Ctrl-A P presses the power button,\n"
    "Ctrl-A B sends a break, Ctrl-A A sends Ctrl-A.\n";

enum { ESCAPE = 1, CHUNK = 16384, DRAIN_MS = 3000, STATUS_RESET = 10, STATUS_CRASH = 11 };
enum { SOCKET_PATH_MAX = 107, SOCKET_TAIL = 50 }; /* "/vireo/<id>/bus" */

struct shot {
    struct run *run;
    const char *path;
};

struct run {
    GMainLoop *loop;
    struct client *client;
    const struct run_options *o;
    struct vm_config *config;
    char *folder;    /* --restore-when: where the machine is saved; NULL: it has none */
    char *tail;      /* the end of what was written, for finding it */
    gboolean moving; /* from one worker to the next */
    int port;        /* our end of the serial port's stream */
    int out_fd;      /* -1: nobody reads */
    guint port_in, port_out, out_ready, in_source;
    guint8 out[CHUNK], in[CHUNK];
    gsize out_len, in_len;
    gboolean escape; /* Ctrl-A was typed */
    gboolean tty, gone, quit, started, noted;
    int signal_fd, signal;
    char id[GUID_STR_LEN + 1]; /* the worker's, once there is one */
    struct shot shots[CLI_LIST];
};

static void quit_run(struct run *r)
{
    r->quit = TRUE;
    g_main_loop_quit(r->loop);
}

/* ---- output ---- */

static gboolean on_port(int fd, GIOCondition condition, gpointer data);

static gboolean on_out_ready(int fd, GIOCondition condition, gpointer data);

static void look_for(struct run *r);

/* Writes what is held; false: it waits for the reader. */
static gboolean write_out(struct run *r)
{
    gsize done = 0;
    while (r->out_fd >= 0 && done < r->out_len) {
        gssize n = write(r->out_fd, r->out + done, r->out_len - done);
        if (n > 0)
            done += (gsize)n;
        else if (n < 0 && errno == EAGAIN)
            break;
        else if (errno != EINTR) {
            r->out_fd = -1; /* nobody reads any more */
            quit_run(r);
        }
    }
    if (r->out_fd < 0)
        done = r->out_len;
    r->out_len -= done;
    memmove(r->out, r->out + done, r->out_len);
    return r->out_len == 0;
}

static gboolean on_out_ready(int fd, GIOCondition condition, gpointer data)
{
    struct run *r = data;
    if (!write_out(r))
        return G_SOURCE_CONTINUE;
    r->out_ready = 0;
    r->port_in = g_unix_fd_add(r->port, G_IO_IN | G_IO_HUP, on_port, r);
    return G_SOURCE_REMOVE;
}

static gboolean on_port(int fd, GIOCondition condition, gpointer data)
{
    struct run *r = data;
    gssize n = read(fd, r->out, sizeof r->out);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return G_SOURCE_CONTINUE;
    r->out_len = n > 0 ? (gsize)n : 0;
    look_for(r);
    if (n > 0 && write_out(r))
        return G_SOURCE_CONTINUE;
    r->port_in = 0;
    if (n > 0)
        r->out_ready = g_unix_fd_add(r->out_fd, G_IO_OUT, on_out_ready, r);
    return G_SOURCE_REMOVE;
}

/* The machine has ended: the rest of what it wrote, waiting for the reader as long as it takes. */
static void drain(struct run *r)
{
    struct pollfd p = {.fd = r->port, .events = POLLIN};
    for (;;) {
        while (!write_out(r)) {
            struct pollfd o = {.fd = r->out_fd, .events = POLLOUT};
            poll(&o, 1, -1);
        }
        if (poll(&p, 1, DRAIN_MS) != 1)
            return;
        gssize n = read(r->port, r->out, sizeof r->out);
        if (n <= 0)
            return;
        r->out_len = (gsize)n;
    }
}

/* ---- input ---- */

static gboolean on_input(int fd, GIOCondition condition, gpointer data);

static void ask(struct run *r, const char *method, GVariant *args)
{
    g_dbus_proxy_call(G_DBUS_PROXY(r->client->machine), method, args, G_DBUS_CALL_FLAGS_NONE, -1,
                      NULL, NULL, NULL);
}

static gboolean command(struct run *r, guint8 key)
{
    switch (key | 0x20) {
    case 'x': quit_run(r); break;
    case 'r': ask(r, "Reset", NULL); break;
    case 'p': ask(r, "PressPowerButton", NULL); break;
    case 'b': ask(r, "SerialBreak", g_variant_new("(u)", 1)); break;
    case 'a':
    case ESCAPE | 0x20: return TRUE; /* to be sent */
    default: break;
    }
    return FALSE;
}

/* Takes the escape sequences of a terminal out of the input. */
static gsize filter(struct run *r, guint8 *data, gsize len)
{
    gsize out = 0;
    for (gsize i = 0; i < len; i++) {
        if (r->escape) {
            r->escape = FALSE;
            if (command(r, data[i]))
                data[out++] = ESCAPE;
        } else if (data[i] == ESCAPE && r->tty) {
            r->escape = TRUE;
        } else {
            data[out++] = data[i];
        }
    }
    return out;
}

static gboolean on_port_room(int fd, GIOCondition condition, gpointer data);

/* Sends what was typed; what has no room waits. */
static void pass_input(struct run *r)
{
    gssize n = r->in_len ? send(r->port, r->in, r->in_len, MSG_NOSIGNAL) : 0;
    if (n < 0 && errno != EAGAIN)
        n = (gssize)r->in_len;
    r->in_len -= (gsize)MAX(n, 0);
    memmove(r->in, r->in + MAX(n, 0), r->in_len);
    if (r->in_len && !r->port_out)
        r->port_out = g_unix_fd_add(r->port, G_IO_OUT, on_port_room, r);
    else if (!r->in_len && !r->in_source && !r->gone)
        r->in_source = g_unix_fd_add(STDIN_FILENO, G_IO_IN | G_IO_HUP, on_input, r);
}

static gboolean on_port_room(int fd, GIOCondition condition, gpointer data)
{
    struct run *r = data;
    r->port_out = 0;
    pass_input(r);
    return G_SOURCE_REMOVE;
}

static gboolean on_input(int fd, GIOCondition condition, gpointer data)
{
    struct run *r = data;
    gssize n = read(fd, r->in, sizeof r->in);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return G_SOURCE_CONTINUE;
    r->in_source = 0;
    r->gone = n <= 0; /* no more input; the machine goes on */
    r->in_len = n > 0 ? filter(r, r->in, (gsize)n) : 0;
    pass_input(r);
    return G_SOURCE_REMOVE;
}

/* ---- signals ---- */

static gboolean on_signal(int fd, GIOCondition condition, gpointer data)
{
    struct run *r = data;
    struct signalfd_siginfo si;
    if (read(fd, &si, sizeof si) != (ssize_t)sizeof si)
        return G_SOURCE_CONTINUE;
    if (si.ssi_signo == SIGTSTP) {
        terminal_suspend();
        return G_SOURCE_CONTINUE;
    }
    r->signal = (int)si.ssi_signo;
    quit_run(r);
    return G_SOURCE_CONTINUE;
}

static bool watch_signals(struct run *r, err *e)
{
    sigset_t set;
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
    sigemptyset(&set);
    for (size_t i = 0; i < G_N_ELEMENTS(signals); i++)
        sigaddset(&set, signals[i]);
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* before threads: all inherit it */
    r->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (r->signal_fd < 0)
        return err_errno(e, errno, "Watching signals");
    g_unix_fd_add(r->signal_fd, G_IO_IN, on_signal, r);
    return true;
}

/* ---- the machine ---- */

/* "off" comes twice: before it starts, too. Changes are told in their order. */
static void on_changed(GDBusProxy *proxy, GVariant *changed, const char *const *gone, struct run *r)
{
    const char *state, *note;
    if (!r->noted && g_variant_lookup(changed, "BackendNote", "&s", &note) && *note) {
        fprintf(stderr, "vireoctl: %s%s\n", note, r->tty ? "\r" : "");
        r->noted = TRUE;
    }
    if (!g_variant_lookup(changed, "State", "&s", &state))
        return;
    gboolean over = strcmp(state, "off") == 0 || strcmp(state, "crashed") == 0;
    if (over && r->started && !r->moving)
        g_main_loop_quit(r->loop);
    r->started = !over;
}

static void on_closed(GDBusConnection *bus, gboolean remote, GError *error, struct run *r)
{
    if (!r->moving)
        g_main_loop_quit(r->loop);
}

static gboolean on_shot(gpointer data)
{
    struct shot *s = data;
    client_screenshot(s->run->client, s->path);
    return G_SOURCE_REMOVE;
}

static bool plan_shots(struct run *r, const struct cli_list *list, bool plan, err *e)
{
    for (unsigned i = 0; i < list->n; i++) {
        unsigned ms;
        r->shots[i].run = r;
        if (!run_parse_shot(list->v[i], &ms, &r->shots[i].path, e))
            return false;
        if (plan)
            g_timeout_add(ms, on_shot, &r->shots[i]);
    }
    return true;
}

/* Where the serial port's output goes. Standard output is opened anew where that is possible, so
 * that not blocking on it is our matter alone and not the shell's. */
static bool open_output(struct run *r, const struct run_options *o, err *e)
{
    const char *where = o->serial ? o->serial : "stdio";
    r->out_fd = -1;
    if (!strcmp(where, "none"))
        where = "/dev/null";
    if (strcmp(where, "stdio")) {
        r->out_fd = open(where, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
        return r->out_fd >= 0 || err_errno(e, errno, "%s", where);
    }
    struct stat st;
    bool file = fstat(STDOUT_FILENO, &st) == 0 && S_ISREG(st.st_mode);
    if (!file) /* a file must keep its offset */
        r->out_fd = open("/proc/self/fd/1", O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (r->out_fd < 0)
        r->out_fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    return r->out_fd >= 0 || err_errno(e, errno, "standard output");
}

static bool open_input(struct run *r, const struct run_options *o, err *e)
{
    if (o->serial && strcmp(o->serial, "stdio"))
        return true;
    r->tty = isatty(STDIN_FILENO);
    if (r->tty && !terminal_raw(e))
        return false;
    r->in_source = g_unix_fd_add(STDIN_FILENO, G_IO_IN | G_IO_HUP, on_input, r);
    return true;
}

/* Without a runtime folder (no session), or with one whose name is too long for a socket: one in
 * /tmp, ours alone. */
static void choose_runtime(void)
{
    if (strlen(g_get_user_runtime_dir()) + SOCKET_TAIL <= SOCKET_PATH_MAX &&
        (g_getenv("XDG_RUNTIME_DIR") && *g_getenv("XDG_RUNTIME_DIR")))
        return;
    g_autofree char *path = g_strdup_printf("/tmp/vireo-%u", (unsigned)getuid());
    struct stat st;
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return;
    if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == getuid() &&
        !(st.st_mode & 077))
        client_set_runtime(path);
}

/* A worker, with the serial port on r->port. */
static bool launch(struct run *r, err *e)
{
    int pair[2];
    g_autoptr(GVariant) extra = NULL;
    GVariant *more = run_extra(r->o, e);
    if (!more)
        return false;
    extra = g_variant_ref_sink(more);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return err_errno(e, errno, "The serial port");
    auto_close(r->port);
    r->port = pair[0];
    AUTO(fd) theirs = pair[1];
    fcntl(r->port, F_SETFL, O_NONBLOCK);
    guid_format(&r->config->id, r->id);
    r->client = client_launch_own(r->id, r->folder, !g_getenv("VIREO_DEBUG"));
    if (!r->client)
        return false;
    g_signal_connect(r->client->machine, "g-properties-changed", G_CALLBACK(on_changed), r);
    g_signal_connect(r->client->bus, "closed", G_CALLBACK(on_closed), r);
    return client_start(r->client, r->config, NULL, &(struct client_more){extra, theirs});
}

/* ---- --restore-when ---- */

enum { TAIL = 256 };

static bool make_folder(struct run *r, err *e)
{
    r->folder = g_dir_make_tmp("vireo-run-XXXXXX", NULL);
    r->tail = g_strdup("");
    AUTO(str) text = r->folder ? vm_config_format(r->config, e) : NULL;
    g_autofree char *ini = text ? g_build_filename(r->folder, STORE_CONFIG_NAME, NULL) : NULL;
    return (ini && g_file_set_contents(ini, text, -1, NULL)) ||
           err_set(e, ERR_IO, "There is no folder to save the machine in");
}

/* The old worker has let go of everything; what it wrote last is still in the stream. */
static void on_saved(GObject *source, GAsyncResult *result, gpointer data)
{
    struct run *r = data;
    err e = ERR_INIT;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) v = g_dbus_proxy_call_finish(G_DBUS_PROXY(source), result, &error);
    if (!v) { /* it ended just before: then the end is seen as ever */
        r->moving = FALSE;
        fprintf(stderr, "vireoctl: not saved: %s\n", error->message);
        if (!g_str_equal(vireo_machine1_get_state(r->client->machine), "running"))
            g_main_loop_quit(r->loop);
        return;
    }
    g_clear_handle_id(&r->port_in, g_source_remove);
    g_clear_handle_id(&r->port_out, g_source_remove);
    g_clear_handle_id(&r->out_ready, g_source_remove);
    g_signal_handlers_disconnect_by_data(r->client->bus, r);
    g_signal_handlers_disconnect_by_data(r->client->machine, r);
    client_close(TAKE(r->client));
    drain(r);
    r->started = FALSE;
    if (!launch(r, &e)) {
        fprintf(stderr, "vireoctl: %s\n", e.text);
        exit(CLI_FAILED);
    }
    r->moving = FALSE;
    r->port_in = g_unix_fd_add(r->port, G_IO_IN | G_IO_HUP, on_port, r);
    fprintf(stderr, "vireoctl: the machine goes on in another process\n");
}

/* The guest has written what was waited for. */
static void look_for(struct run *r)
{
    if (!r->tail || r->moving || !r->out_len)
        return;
    g_autofree char *all = g_strdup_printf("%s%.*s", r->tail, (int)r->out_len, (char *)r->out);
    gsize len = strlen(all);
    g_free(r->tail);
    r->tail = g_strdup(len > TAIL ? all + len - TAIL : all);
    if (!strstr(all, r->o->restore_when))
        return;
    g_clear_pointer(&r->tail, g_free);
    r->moving = TRUE;
    g_dbus_proxy_call(G_DBUS_PROXY(r->client->machine), "Save", NULL, G_DBUS_CALL_FLAGS_NONE,
                      G_MAXINT, NULL, on_saved, r);
}

static bool start(struct run *r, const struct run_options *o, err *e)
{
    r->o = o;
    r->config = run_config(o, e);
    if (!r->config || (o->restore_when && !make_folder(r, e)))
        return false;
    choose_runtime();
    return launch(r, e);
}

/* The exit status; how it ended for --stats. */
static int tell_end(struct run *r, const char **how)
{
    static const struct {
        const char *end;
        int status;
    } ends[] = {{"power-off", CLI_OK},          {"hibernation", CLI_OK}, {"reset", STATUS_RESET},
                {"triple-fault", STATUS_CRASH}, {"crash", STATUS_CRASH}, {"quit", CLI_OK}};
    GVariant *ending = vireo_machine1_get_ending(r->client->machine);
    const char *report = "";
    guint32 code = 0;
    *how = "quit";
    if (!r->quit && (!ending || !g_variant_lookup(ending, "end", "&s", how))) {
        fputs("vireoctl: the program that ran the machine has ended unexpectedly\n", stderr);
        *how = "lost";
        return CLI_FAILED;
    }
    if (!r->quit && g_variant_lookup(ending, "report", "&s", &report) && *report)
        fprintf(stderr, "vireoctl: %s", report);
    if (r->signal)
        return 128 + r->signal;
    if (!strcmp(*how, "debug-exit") && g_variant_lookup(ending, "code", "u", &code))
        return (int)(code << 1 | 1) & 0xff;
    for (size_t i = 0; i < G_N_ELEMENTS(ends); i++)
        if (!strcmp(ends[i].end, *how))
            return ends[i].status;
    return CLI_FAILED;
}

static int run_machine(struct run *r, const struct run_options *o, err *e)
{
    const char *how;
    if (!open_input(r, o, e) || !plan_shots(r, &o->shots, true, e))
        return CLI_FAILED;
    r->port_in = g_unix_fd_add(r->port, G_IO_IN | G_IO_HUP, on_port, r);
    g_main_loop_run(r->loop);
    bool told = true;
    if (r->quit) { /* of a machine that is off, what it took is not known any more */
        told = !o->stats || run_write_stats(o->stats, r->client, "quit", e);
        vireo_machine1_call_turn_off_sync(r->client->machine, NULL, NULL);
    }
    drain(r);
    terminal_restore();
    int status = tell_end(r, &how);
    if (o->stats && !r->quit)
        told = run_write_stats(o->stats, r->client, how, e);
    return told ? status : CLI_FAILED;
}

/* Before a long run, not after it. */
static bool can_write(const char *path, err *e)
{
    g_autofree char *folder = g_path_get_dirname(path);
    if (access(access(path, F_OK) ? folder : path, W_OK))
        return err_errno(e, errno, "%s", path);
    return true;
}

static int run(const struct run_options *o)
{
    struct run *r = g_new0(struct run, 1);
    err e = ERR_INIT;
    int status = CLI_USAGE;
    r->signal_fd = r->out_fd = r->port = -1;
    r->loop = g_main_loop_new(NULL, FALSE);
    if ((!o->stats || can_write(o->stats, &e)) && plan_shots(r, &o->shots, false, &e) &&
        open_output(r, o, &e) && watch_signals(r, &e) && start(r, o, &e))
        status = run_machine(r, o, &e);
    terminal_restore();
    if (e.text[0])
        fprintf(stderr, "vireoctl: %s\n", e.text);
    client_close(r->client);
    if (r->id[0])
        client_forget(r->id);
    vm_config_free(r->config);
    if (r->folder)
        storefs_remove(AT_FDCWD, r->folder, NULL);
    g_free(r->folder);
    g_free(r->tail);
    auto_close(r->signal_fd);
    auto_close(r->out_fd);
    auto_close(r->port);
    g_main_loop_unref(r->loop);
    g_free(r);
    return status;
}

int cli_run(int argc, char **argv)
{
    struct run_options o = {0};
    int operands;
    const struct cli_option table[] = {
        {"--kernel", NULL, &o.kernel, NULL},
        {"--initrd", NULL, &o.initrd, NULL},
        {"--append", NULL, &o.append, NULL},
        {"--multiboot", NULL, &o.multiboot, NULL},
        {"--memory", NULL, &o.memory, NULL},
        {"--cpus", NULL, &o.cpus, NULL},
        {"--cpu", NULL, &o.cpu, NULL},
        {"--accel", NULL, &o.accel, NULL},
        {"--serial", NULL, &o.serial, NULL},
        {"--machine", NULL, &o.machine, NULL},
        {"--stats", NULL, &o.stats, NULL},
        {"--debug-exit", &o.debug_exit, NULL, NULL},
        {"--test-devices", &o.test_devices, NULL, NULL},
        {"--vendor", NULL, &o.vendor, NULL},
        {"--name", NULL, &o.name, NULL},
        {"--no-reboot", &o.no_reboot, NULL, NULL},
        {"--self-restore", NULL, &o.self_restore, NULL},
        {"--restore-when", NULL, &o.restore_when, NULL},
        {"--disk", NULL, NULL, &o.disks},
        {"--iso", NULL, NULL, &o.isos},
        {"--floppy", NULL, &o.floppy},
        {"--net", NULL, NULL, &o.nets},
        {"--screenshot-at", NULL, NULL, &o.shots},
        {"--set", NULL, NULL, &o.sets},
    };
    if (!cli_parse(argc, argv, table, G_N_ELEMENTS(table), &operands, help))
        return CLI_USAGE;
    if (operands)
        return cli_usage("run: unexpected argument \"%s\"", argv[1]);
    return run(&o);
}
