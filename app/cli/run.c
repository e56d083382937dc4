/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * vireoctl run: a machine without a place in the store, in this process, its first serial port on
 * the terminal. Exit status: 0 the guest powered off, 10 it reset (--no-reboot), 11 it crashed,
 * (code << 1) | 1 by the debug exit port, 2 wrong input, 1 anything else.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/cli/cli.h"
#include "app/cli/run-int.h"
#include "app/cli/terminal.h"
#include "core/base/bytes.h"
#include "core/base/cleanup.h"

static const char help[] =
    "Usage: vireoctl run --kernel FILE [--initrd FILE] [--append STRING] [OPTION...]\n"
    "       vireoctl run --multiboot FILE [--initrd FILE] [--append STRING] [OPTION...]\n"
    "\n"
    "Runs a kernel in a machine that is gone when it ends.\n"
    "  --kernel FILE        Linux: bzImage, or an ELF file\n"
    "  --initrd FILE        initial RAM disk; with --multiboot the first module\n"
    "  --append STRING      the kernel's command line\n"
    "  --multiboot FILE     a Multiboot 1 kernel, on a bare PC (with PIC and PIT)\n"
    "  --memory SIZE        512M by default\n"
    "  --cpus N             virtual processors, 1 by default\n"
    "  --cpu MODEL          baseline (default) or host\n"
    "  --accel ACCEL        auto (default), kvm or soft\n"
    "  --serial WHERE       the first serial port: stdio (default), a file, or none\n"
    "  --machine KIND       gen2, or pc (with PIC and PIT; the default with --multiboot and for\n"
    "                       32-bit Linux)\n"
    "  --debug-exit         a write to port 0xf4 ends the run with status (value << 1) | 1\n"
    "  --test-devices       the devices that kvm-unit-tests use (and no VMBus)\n"
    "  --vendor NAME        the processor's vendor: intel (default) or amd\n"
    "  --no-reboot          end with status 10 when the guest resets\n"
    "  --stats FILE         write what the run took as JSON\n"
    "  --self-restore S     for tests: every S seconds save, reset and restore the devices' and\n"
    "                       processors' state in place\n"
    "\n"
    "On the terminal: Ctrl-A X leaves, Ctrl-A R resets, Ctrl-A P presses the power button,\n"
    "Ctrl-A B sends a break, Ctrl-A A sends Ctrl-A.\n";

enum { ESCAPE = 1, INPUT = 4096, RETRY_MS = 10, STATUS_RESET = 10, STATUS_CRASH = 11 };

struct options {
    const char *kernel, *initrd, *append, *multiboot, *memory, *cpus, *cpu, *accel, *serial,
        *machine, *stats, *self_restore;
    const char *vendor;
    bool debug_exit, no_reboot, test_devices;
};

struct run {
    struct machine *machine;
    struct loop *loop; /* the main thread's */
    struct loop_source *in_source;
    struct loop_timer retry, restore;
    unsigned restore_s; /* 0: never */
    int in_fd, signal_fd, out_fd;
    struct loop_source *out_source; /* on the machine's loop: waits until out_fd takes more */
    bool escape;                    /* Ctrl-A was typed */
    bool tty;
    uint8_t input[INPUT];
    size_t input_len;
    struct loop_post ended;
    struct machine_report report;
    bool quit; /* by the person, a signal, or because nobody reads our output */
    int signal;
};

/* ---- output; the machine's I/O thread ---- */

static void on_writable(void *ctx, uint32_t events)
{
    struct run *r = ctx;
    loop_source_remove(r->out_source);
    r->out_source = NULL;
    machine_serial_ready(r->machine, 0);
}

static void quit_run(void *ctx)
{
    struct run *r = ctx;
    r->quit = true;
    loop_quit(r->loop);
}

static size_t on_serial(void *ctx, unsigned port, const uint8_t *data, size_t len)
{
    struct run *r = ctx;
    size_t done = 0;
    if (port != 0 || r->out_fd < 0)
        return len;
    while (done < len && !r->out_source) {
        ssize_t n = write(r->out_fd, data + done, len - done);
        if (n > 0) {
            done += (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            r->out_source =
                loop_add_fd(machine_loop(r->machine), r->out_fd, EPOLLOUT, on_writable, r, NULL);
            if (!r->out_source)
                return len;
        } else if (errno != EINTR) {
            r->out_fd = -1; /* nobody reads any more */
            loop_call(r->loop, quit_run, r);
            return len;
        }
    }
    return done;
}

static void on_ended(void *ctx, const struct machine_report *report)
{
    struct run *r = ctx;
    r->report = *report;
    loop_post(r->loop, &r->ended);
}

static void take_end(void *ctx)
{
    loop_quit(((struct run *)ctx)->loop);
}

/* ---- input; the main thread ---- */

static void command(struct run *r, uint8_t key)
{
    static const uint8_t ctrl_a = ESCAPE;
    switch (key | 0x20) {
    case 'x': quit_run(r); break;
    case 'r': machine_reset(r->machine, NULL); break;
    case 'p': machine_press_power_button(r->machine); break;
    case 'b': machine_serial_break(r->machine, 0); break;
    case 'a':
    case ESCAPE | 0x20: machine_serial_input(r->machine, 0, &ctrl_a, 1); break;
    default: break;
    }
}

/* Takes the escape sequences of a terminal out of the input. */
static size_t filter(struct run *r, uint8_t *data, size_t len)
{
    size_t out = 0;
    for (size_t i = 0; i < len; i++) {
        if (r->escape) {
            r->escape = false;
            command(r, data[i]);
        } else if (data[i] == ESCAPE && r->tty) {
            r->escape = true;
        } else {
            data[out++] = data[i];
        }
    }
    return out;
}

static void pass_input(struct run *r)
{
    size_t n = machine_serial_input(r->machine, 0, r->input, r->input_len);
    r->input_len -= n;
    memmove(r->input, r->input + n, r->input_len);
}

static void stop_input(struct run *r)
{
    loop_source_remove(r->in_source);
    r->in_source = NULL;
    r->in_fd = -1;
}

static void on_input(void *ctx, uint32_t events)
{
    struct run *r = ctx;
    if (r->in_fd >= 0 && !r->input_len) {
        ssize_t n = read(r->in_fd, r->input, sizeof r->input);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            stop_input(r);
            return;
        }
        r->input_len = n > 0 ? filter(r, r->input, (size_t)n) : 0;
    }
    pass_input(r);
    /* Full, or a file (which cannot be waited for): look again in a while. */
    bool again = r->input_len || (!r->in_source && r->in_fd >= 0);
    if (r->in_source)
        loop_source_set_events(r->in_source, r->input_len ? 0 : EPOLLIN);
    if (again)
        loop_timer_arm_in(&r->retry, RETRY_MS * 1000000u);
}

static void on_retry(void *ctx)
{
    on_input(ctx, 0);
}

static void on_signal(void *ctx, uint32_t events)
{
    struct run *r = ctx;
    struct signalfd_siginfo si;
    if (read(r->signal_fd, &si, sizeof si) != (ssize_t)sizeof si)
        return;
    if (si.ssi_signo == SIGTSTP) {
        terminal_suspend();
        return;
    }
    r->signal = (int)si.ssi_signo;
    quit_run(r);
}

static bool watch_signals(struct run *r, err *e)
{
    sigset_t set;
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
    sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        sigaddset(&set, signals[i]);
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* before threads: all inherit it */
    r->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (r->signal_fd < 0)
        return err_errno(e, errno, "Watching signals");
    return loop_add_fd(r->loop, r->signal_fd, EPOLLIN, on_signal, r, e) != NULL;
}

/* ---- saving and restoring in place ---- */

static bool save_and_restore(struct run *r, err *e)
{
    struct state_writer *w = state_writer_new();
    struct state_reader in = {0};
    bool ok = w && machine_save(r->machine, w, e);
    if (ok)
        in.data = state_writer_data(w, &in.len, e);
    ok = ok && in.data && machine_restore(r->machine, &in, e);
    state_writer_free(w);
    return ok;
}

static void on_restore(void *ctx)
{
    struct run *r = ctx;
    err e = ERR_INIT;
    if (!machine_pause(r->machine))
        return; /* it ended meanwhile */
    if (save_and_restore(r, &e)) {
        machine_resume(r->machine);
        loop_timer_arm_in(&r->restore, r->restore_s * 1000000000ull);
        return;
    }
    r->report.end = MACHINE_FAILED;
    snprintf(r->report.text, sizeof r->report.text, "%s", e.text);
    loop_quit(r->loop);
}

/* ---- arguments ---- */

static bool word(const char *option, const char *value, const char *const *words, size_t n,
                 unsigned *out, err *e)
{
    char list[100] = "";
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(value, words[i])) {
            *out = (unsigned)i;
            return true;
        }
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", words[i]);
    }
    return err_set(e, ERR_INVALID, "run: %s cannot be \"%.40s\" (it is one of %s)", option, value,
                   list);
}

static bool number(const char *option, const char *value, unsigned long max, unsigned *out, err *e)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(value, &end, 10);
    if (*value < '0' || *value > '9' || *end || errno || v < 1 || v > max)
        return err_set(e, ERR_INVALID, "run: %s takes a number from 1 to %lu, not \"%.40s\"",
                       option, max, value);
    *out = (unsigned)v;
    return true;
}

static bool open_image(struct boot_file *f, const char *path, int *fd, err *e)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return err_errno(e, errno, "%s", path);
    return boot_file_open(f, path, *fd, e);
}

static bool to_params(const struct options *o, struct machine_params *p, err *e)
{
    static const char *const cpus[] = {"baseline", "host"};
    static const char *const accels[] = {"auto", "kvm", "soft"};
    static const char *const kinds[] = {"gen2", "pc"};
    static const char *const vendors[] = {"intel", "amd"};
    unsigned cpu = HV_CPU_BASELINE, accel = HV_ACCEL_AUTO, vendor = HV_VENDOR_INTEL;
    bool pc = o->multiboot || (p->boot.kernel.size && boot_is_linux32(&p->boot.kernel));
    unsigned kind = pc ? MACHINE_PC : MACHINE_GEN2;
    if (!o->kernel == !o->multiboot)
        return err_set(e, ERR_INVALID,
                       "run: give either --kernel or --multiboot (try vireoctl run --help)");
    if ((o->cpu && !word("--cpu", o->cpu, cpus, ARRAY_LEN(cpus), &cpu, e)) ||
        (o->accel && !word("--accel", o->accel, accels, ARRAY_LEN(accels), &accel, e)) ||
        (o->machine && !word("--machine", o->machine, kinds, ARRAY_LEN(kinds), &kind, e)) ||
        (o->vendor && !word("--vendor", o->vendor, vendors, ARRAY_LEN(vendors), &vendor, e)) ||
        (o->cpus && !number("--cpus", o->cpus, HV_MAX_VPS, &p->vps, e)) ||
        (o->memory && !cli_size(o->memory, &p->memory, e)))
        return false;
    p->cpu = (enum hv_cpu_model)cpu;
    p->accel = (enum hv_accel)accel;
    p->vendor = (enum hv_vendor)vendor;
    p->test_devices = o->test_devices;
    p->kind = (enum machine_kind)kind;
    p->boot.protocol = o->multiboot ? BOOT_MULTIBOOT : BOOT_LINUX;
    p->boot.cmdline = o->append ? o->append : "";
    p->debug_exit = o->debug_exit;
    p->stop_on_reset = o->no_reboot;
    return true;
}

/* ---- running ---- */

/* Where the serial port's output goes. Standard output is opened anew where that is possible, so
 * that not blocking on it is our matter alone and not the shell's. */
static bool open_output(struct run *r, const struct options *o, err *e)
{
    const char *where = o->serial ? o->serial : "stdio";
    r->out_fd = -1;
    if (!strcmp(where, "none"))
        return true;
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

static bool open_input(struct run *r, const struct options *o, err *e)
{
    loop_timer_init(&r->retry, r->loop, on_retry, r);
    r->in_fd = -1;
    if (o->serial && strcmp(o->serial, "stdio"))
        return true;
    r->in_fd = STDIN_FILENO;
    r->tty = isatty(STDIN_FILENO);
    if (r->tty && !terminal_raw(e))
        return false;
    r->in_source = loop_add_fd(r->loop, STDIN_FILENO, EPOLLIN, on_input, r, NULL);
    if (!r->in_source)
        loop_timer_arm_in(&r->retry, 0);
    return true;
}

static int exit_status(const struct run *r)
{
    if (r->signal)
        return 128 + r->signal;
    if (r->quit)
        return CLI_OK;
    switch (r->report.end) {
    case MACHINE_POWERED_OFF:
    case MACHINE_HIBERNATED: return CLI_OK;
    case MACHINE_RESET: return STATUS_RESET;
    case MACHINE_TRIPLE_FAULT:
    case MACHINE_CRASHED: return STATUS_CRASH;
    case MACHINE_DEBUG_EXIT: return (int)(r->report.code << 1 | 1) & 0xff;
    case MACHINE_FAILED: break;
    }
    return CLI_FAILED;
}

static void tell_end(const struct run *r)
{
    if (r->quit)
        return;
    if (r->report.end == MACHINE_TRIPLE_FAULT || r->report.end == MACHINE_CRASHED ||
        r->report.end == MACHINE_FAILED)
        run_report(stderr, &r->report);
}

static int run_machine(struct run *r, const struct options *o, err *e)
{
    if (!machine_start(r->machine, e))
        return CLI_USAGE;
    if (!open_input(r, o, e))
        return CLI_FAILED;
    loop_timer_init(&r->restore, r->loop, on_restore, r);
    if (r->restore_s)
        loop_timer_arm_in(&r->restore, r->restore_s * 1000000000ull);
    loop_run(r->loop);
    machine_power_off(r->machine);
    terminal_restore();
    tell_end(r);
    if (o->stats && !run_write_stats(o->stats, r->machine, &r->report, r->quit, e))
        return CLI_FAILED;
    return exit_status(r);
}

static int prepare_and_run(struct run *r, const struct options *o, struct machine_params *p, err *e)
{
    if (o->self_restore && !number("--self-restore", o->self_restore, 3600, &r->restore_s, e))
        return CLI_USAGE;
    if (!to_params(o, p, e) || !open_output(r, o, e) || !watch_signals(r, e))
        return CLI_USAGE;
    r->machine = machine_new(p, e);
    if (!r->machine)
        return CLI_USAGE;
    const char *note = hv_partition_note(machine_partition(r->machine));
    if (*note)
        fprintf(stderr, "vireoctl: %s\n", note);
    return run_machine(r, o, e);
}

static int run(const struct options *o)
{
    static const struct machine_ops ops = {.ended = on_ended, .serial_out = on_serial};
    struct run *r = calloc(1, sizeof *r);
    err e = ERR_INIT;
    AUTO(fd) kernel = -1;
    AUTO(fd) initrd = -1;
    struct machine_params p = {.memory = MIB(512),
                               .vps = 1,
                               .vendor = hv_host_vendor(),
                               .serials = 2,
                               .vmbus = true,
                               .stop_on_crash = true,
                               .ops = &ops,
                               .ctx = r};
    if (!r)
        return CLI_FAILED;
    r->signal_fd = r->out_fd = -1;
    guid_random(&p.uuid);
    loop_post_init(&r->ended, take_end, r);
    r->loop = loop_new(&e);
    int status = CLI_USAGE;
    const char *kernel_path = o->kernel ? o->kernel : o->multiboot;
    if (r->loop && (!kernel_path || open_image(&p.boot.kernel, kernel_path, &kernel, &e)) &&
        (!o->initrd || open_image(&p.boot.initrd, o->initrd, &initrd, &e)))
        status = prepare_and_run(r, o, &p, &e);
    terminal_restore();
    if (e.text[0])
        fprintf(stderr, "vireoctl: %s\n", e.text);
    machine_free(r->machine);
    loop_free(r->loop);
    auto_close(r->signal_fd);
    auto_close(r->out_fd);
    free(r);
    return status;
}

int cli_run(int argc, char **argv)
{
    struct options o = {0};
    int operands;
    const struct cli_option table[] = {
        {"--kernel", NULL, &o.kernel},
        {"--initrd", NULL, &o.initrd},
        {"--append", NULL, &o.append},
        {"--multiboot", NULL, &o.multiboot},
        {"--memory", NULL, &o.memory},
        {"--cpus", NULL, &o.cpus},
        {"--cpu", NULL, &o.cpu},
        {"--accel", NULL, &o.accel},
        {"--serial", NULL, &o.serial},
        {"--machine", NULL, &o.machine},
        {"--stats", NULL, &o.stats},
        {"--debug-exit", &o.debug_exit, NULL},
        {"--test-devices", &o.test_devices, NULL},
        {"--vendor", NULL, &o.vendor},
        {"--no-reboot", &o.no_reboot, NULL},
        {"--self-restore", NULL, &o.self_restore},
    };
    if (!cli_parse(argc, argv, table, ARRAY_LEN(table), &operands, help))
        return CLI_USAGE;
    if (operands)
        return cli_usage("run: unexpected argument \"%s\"", argv[1]);
    return run(&o);
}
