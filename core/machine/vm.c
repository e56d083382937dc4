/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/machine/vm.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/chipset/layout.h"
#include "core/chipset/vga.h"
#include "core/machine/vm-int.h"
#include "core/vmbus/transport.h"
#include "core/vsp/ic-proto.h"
#include "core/vsp/keyboard.h"
#include "core/vsp/mouse.h"
#include "core/vsp/video.h"

enum { BOOT_WIDTH = 1024, BOOT_HEIGHT = 768, SHUTDOWN_WAIT_S = 10, COPY_WAIT_S = 24 * 3600 };

/* ---- over to the I/O thread ---- */

struct hop {
    struct vm_call call;
    void (*fn)(struct vm_call *c);
};

static void make_hop(void *ctx)
{
    struct hop *h = ctx;
    h->fn(&h->call);
}

bool vm_call(struct vm *v, void (*fn)(struct vm_call *c), void *arg, err *e)
{
    struct hop h = {.call = {.v = v, .arg = arg, .e = e, .ok = true}, .fn = fn};
    loop_call_wait(machine_loop(v->machine), make_hop, &h);
    return h.call.ok;
}

void vm_changed(struct vm *v, unsigned what)
{
    if (v->ops->changed)
        v->ops->changed(v->ctx, what);
}

/* ---- the bus and its providers, as one device ---- */

static void bus_start(void *self)
{
    struct vm *v = self;
    struct device b = vmbus_as_device(v->bus);
    v->running = true;
    b.ops->start(b.self);
    for (unsigned i = 0; i < v->nproviders; i++)
        v->providers[i].ops->start(v->providers[i].self);
}

static void one_stopped(void *ctx)
{
    struct vm *v = ctx;
    if (--v->stopping == 0)
        v->stopped(v->stopped_ctx);
}

static void bus_stopped(void *ctx)
{
    struct vm *v = ctx;
    for (unsigned i = v->nproviders; i-- > 0;)
        v->providers[i].ops->stop(v->providers[i].self, one_stopped, v);
    one_stopped(v);
}

/* The bus first (no more packets), then the providers, the last added first. */
static void bus_stop(void *self, void (*done)(void *ctx), void *ctx)
{
    struct vm *v = self;
    struct device b = vmbus_as_device(v->bus);
    v->running = false;
    v->stopped = done;
    v->stopped_ctx = ctx;
    v->stopping = v->nproviders + 1;
    b.ops->stop(b.self, bus_stopped, v);
}

static void is_quiet(void *ctx)
{
    *(bool *)ctx = true;
}

void vm_quiet(struct vm *v)
{
    bool quiet = false;
    bus_stop(v, is_quiet, &quiet);
    while (!quiet)
        loop_turn(machine_loop(v->machine), -1);
}

static void bus_reset(void *self)
{
    struct vm *v = self;
    struct device b = vmbus_as_device(v->bus);
    b.ops->reset(b.self);
    for (unsigned i = 0; i < v->nproviders; i++)
        v->providers[i].ops->reset(v->providers[i].self);
}

static void bus_save(void *self, struct state_writer *w)
{
    struct vm *v = self;
    struct device b = vmbus_as_device(v->bus);
    b.ops->save(b.self, w);
    for (unsigned i = 0; i < v->nproviders; i++)
        v->providers[i].ops->save(v->providers[i].self, w);
}

static bool bus_restore(void *self, const struct state_reader *r, err *e)
{
    struct vm *v = self;
    struct device b = vmbus_as_device(v->bus);
    bool ok = b.ops->restore(b.self, r, e);
    for (unsigned i = 0; ok && i < v->nproviders; i++)
        ok = v->providers[i].ops->restore(v->providers[i].self, r, e);
    return ok;
}

static void bus_destroy(void *self)
{
    struct vm *v = self;
    v->vga = NULL; /* made after the bus, and so gone before it */
    v->ide = NULL;
    v->floppy = NULL;
    while (v->nproviders) {
        struct device d = v->providers[--v->nproviders];
        d.ops->destroy(d.self);
    }
    vm_disks_close(v);
    vmbus_free(v->bus);
    console_free(v->console);
    v->bus = NULL;
    v->console = NULL;
}

static const struct device_ops bus_ops = {
    .name = "VMBus",
    .start = bus_start,
    .stop = bus_stop,
    .reset = bus_reset,
    .save = bus_save,
    .restore = bus_restore,
    .destroy = bus_destroy,
};

bool vm_provider_add(struct vm *v, struct device d, err *e)
{
    if (v->nproviders == VM_PROVIDERS) {
        d.ops->destroy(d.self);
        return err_set(e, ERR_NO_SPACE, "the machine has no place for another device");
    }
    v->providers[v->nproviders++] = d;
    if (v->running)
        d.ops->start(d.self);
    return true;
}

void vm_provider_forget(struct vm *v, const void *self)
{
    for (unsigned i = 0; i < v->nproviders; i++)
        if (v->providers[i].self == self) {
            memmove(&v->providers[i], &v->providers[i + 1],
                    (v->nproviders - i - 1) * sizeof v->providers[0]);
            v->nproviders--;
            return;
        }
}

/* ---- upcalls ---- */

static enum hv_status on_post(void *ctx, unsigned vp, uint32_t id, uint32_t type,
                              const void *payload, uint32_t len)
{
    struct vm *v = ctx;
    return (enum hv_status)vmbus_post_message(v->bus, id, type, payload, len);
}

static enum hv_status on_signal(void *ctx, unsigned vp, uint32_t id, uint16_t flag)
{
    struct vm *v = ctx;
    return vmbus_signal_event(v->bus, id) ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_CONNECTION_ID;
}

static const struct machine_bus_ops machine_bus = {on_post, on_signal};

static void on_ended(void *ctx, const struct machine_report *r)
{
    struct vm *v = ctx;
    v->ops->ended(v->ctx, r);
}

static size_t on_serial(void *ctx, unsigned port, const uint8_t *data, size_t len)
{
    struct vm *v = ctx;
    return v->ops->serial_out ? v->ops->serial_out(v->ctx, port, data, len) : len;
}

static const struct machine_ops machine_upcalls = {on_ended, on_serial};

static uint64_t reference_time(void *ctx)
{
    struct vm *v = ctx;
    return hv_partition_reference_time(machine_partition(v->machine));
}

static void on_heartbeat(void *ctx, enum heartbeat_state s)
{
    vm_changed(ctx, VM_CHANGED_HEARTBEAT);
}

static void on_facts(void *ctx)
{
    vm_changed(ctx, VM_CHANGED_FACTS);
}

/* ---- making ---- */

/* The descriptor stays the caller's to close: the machine duplicates it. */
static bool open_boot_file(struct vm *v, const char *name, struct boot_file *f, int *fd, err *e)
{
    char *resolved = NULL;
    if (!name)
        return true;
    *fd = v->opener.open(v->opener.ctx, name, NULL, DISK_OPEN_READ_ONLY | DISK_OPEN_NO_LOCK,
                         &resolved, e);
    free(resolved);
    return *fd >= 0 && boot_file_open(f, name, *fd, e);
}

static void common_params(struct vm *v, const struct vm_config *c, const struct vm_extra *x,
                          struct machine_params *p)
{
    *p = (struct machine_params){
        .memory = MIB(c->memory),
        .vps = c->cpus,
        .accel = (enum hv_accel)c->accel,
        .cpu = (enum hv_cpu_model)c->cpu,
        .vendor = (enum hv_vendor)c->vendor,
        .uuid = c->id,
        .serials = MACHINE_SERIALS,
        .vmbus = true,
        .s4 = c->hibernation,
        .debug_exit = x->debug_exit,
        .test_devices = x->test_devices,
        .stop_on_reset = x->stop_on_reset,
        .stop_on_crash = x->stop_on_crash,
        .ops = &machine_upcalls,
        .ctx = v,
    };
}

static bool make_pc(struct vm *v, const struct vm_config *c, const struct vm_extra *x, err *e)
{
    struct machine_params p;
    struct vm_firmware bios;
    if (!vm_read_bios(v, &bios, e))
        return false;
    common_params(v, c, x, &p);
    p.kind = MACHINE_GEN1;
    p.floppy = vm_has_floppy(c);
    p.boot.protocol = BOOT_FIRMWARE;
    p.bios = bios.bios;
    p.bios_len = bios.len;
    v->machine = machine_new(&p, e);
    free(bios.bios);
    return v->machine != NULL;
}

static bool make_machine(struct vm *v, const struct vm_config *c, const struct vm_extra *x, err *e)
{
    AUTO(fd) kernel = -1;
    AUTO(fd) initrd = -1;
    struct machine_params p;
    if (vm_is_pc(c))
        return make_pc(v, c, x, e);
    common_params(v, c, x, &p);
    p.kind = x->pc ? MACHINE_PC : MACHINE_GEN2;
    p.boot =
        (struct boot_params){.protocol = x->multiboot ? BOOT_MULTIBOOT : BOOT_LINUX,
                             .cmdline = c->cmdline ? c->cmdline : "",
                             .fb = {LAYOUT_FRAMEBUFFER, BOOT_WIDTH, BOOT_HEIGHT, BOOT_WIDTH * 4}};
    if (c->boot != VM_BOOT_LINUX || !c->kernel)
        return err_set(
            e, ERR_UNSUPPORTED,
            "this machine is of generation 2, whose firmware is not there yet: give it a "
            "kernel to start, or make it one of generation 1");
    if (!open_boot_file(v, c->kernel, &p.boot.kernel, &kernel, e) ||
        !open_boot_file(v, c->initrd, &p.boot.initrd, &initrd, e))
        return false;
    v->machine = machine_new(&p, e);
    return v->machine != NULL;
}

static void video_taken(void *ctx, bool taken)
{
    struct vm *v = ctx;
    if (v->vga)
        vga_yield(v->vga, taken);
}

static bool add(struct vm *v, struct device d, bool made, err *e)
{
    return made && vm_provider_add(v, d, e);
}

static bool make_screen(struct vm *v, const struct vm_config *c, err *e)
{
    struct video_params p = {
        .bus = v->bus,
        .memory = hv_partition_memory(machine_partition(v->machine)),
        .console = v->console,
        .memory_mib = c->video_memory,
        .width = c->width,
        .height = c->height,
        .boot_gpa = v->vga ? 0 : LAYOUT_FRAMEBUFFER,
        .boot_width = BOOT_WIDTH,
        .boot_height = BOOT_HEIGHT,
        .taken = v->vga ? video_taken : NULL,
        .ctx = v,
    };
    struct video *video = video_new(&p, e);
    if (!add(v, video ? video_as_device(video) : (struct device){0}, video != NULL, e))
        return false;
    struct keyboard *k = keyboard_new(v->bus, v->console, e);
    if (!add(v, k ? keyboard_as_device(k) : (struct device){0}, k != NULL, e))
        return false;
    struct mouse *m = mouse_new(v->bus, v->console, e);
    return add(v, m ? mouse_as_device(m) : (struct device){0}, m != NULL, e);
}

static bool make_services(struct vm *v, const struct vm_config *c, err *e)
{
    struct integration_params p = {
        .bus = v->bus,
        .services = (c->ic_shutdown ? INTEGRATION_SHUTDOWN : 0u) |
                    (c->ic_time ? INTEGRATION_TIMESYNC : 0u) |
                    (c->ic_heartbeat ? INTEGRATION_HEARTBEAT : 0u) |
                    (c->ic_kvp ? INTEGRATION_KVP : 0u) | (c->ic_vss ? INTEGRATION_VSS : 0u) |
                    (c->ic_fcopy ? INTEGRATION_FCOPY : 0u),
        .reference_time = reference_time,
        .heartbeat_changed = on_heartbeat,
        .facts_changed = on_facts,
        .ctx = v,
    };
    v->service_bits = p.services;
    v->services = integration_new(&p, e);
    return v->services && vm_provider_add(v, integration_as_device(v->services), e);
}

static bool make_bus(struct vm *v, bool test_devices, err *e)
{
    vmbus_transport_partition(machine_partition(v->machine), &v->transport);
    struct vmbus_params p = {.loop = machine_loop(v->machine),
                             .memory = hv_partition_memory(machine_partition(v->machine)),
                             .transport = &v->transport};
    v->bus = vmbus_new(&p, e);
    if (!v->bus)
        return false;
    if (!test_devices) /* they have taken the bus's place */
        machine_set_bus(v->machine, &machine_bus, v);
    v->console = console_new(machine_loop(v->machine), e);
    return v->console != NULL;
}

static void make_devices(struct vm_call *call)
{
    struct vm *v = call->v;
    const struct vm_config *c = call->arg;
    call->ok = (!vm_is_pc(c) || vm_pc_make(v, c, call->e)) && make_screen(v, c, call->e) &&
               vm_disks_make(v, c, call->e) && vm_nets_make(v, c, call->e) &&
               make_services(v, c, call->e) && vm_guest_make(v, c, call->e);
}

static bool vm_build(struct vm *v, const struct vm_params *p, err *e)
{
    const struct vm_config *c = p->config;
    v->opener = *p->opener;
    v->switch_folder = strdup(p->switch_folder);
    v->id = c->id;
    v->ops = p->ops;
    v->ctx = p->ctx;
    v->ram = MIB(c->memory);
    v->vps = c->cpus;
    if (!v->switch_folder)
        return err_set(e, ERR_NO_MEMORY, "there is no memory for the machine");
    if (!make_machine(v, c, &p->extra, e))
        return false;
    if (!make_bus(v, p->extra.test_devices, e)) {
        if (v->bus)
            vmbus_free(v->bus);
        return false;
    }
    /* From here on the machine's end is the bus's and the providers' end. */
    return machine_add_device(v->machine, (struct device){&bus_ops, v}, e) &&
           vm_call(v, make_devices, (void *)(uintptr_t)c, e);
}

struct vm *vm_new(const struct vm_params *p, err *e)
{
    struct vm *v = calloc(1, sizeof *v);
    if (!v) {
        err_set(e, ERR_NO_MEMORY, "there is no memory for the machine");
        return NULL;
    }
    if (!vm_build(v, p, e)) {
        vm_free(v);
        return NULL;
    }
    return v;
}

void vm_free(struct vm *v)
{
    if (!v)
        return;
    vm_unbridge(v);
    if (v->machine)
        machine_free(v->machine);
    free(v->switch_folder);
    free(v);
}

/* ---- life ---- */

bool vm_start(struct vm *v, err *e)
{
    return machine_start(v->machine, e);
}

void vm_pause(struct vm *v)
{
    machine_pause(v->machine);
}

static void sync_time(struct vm_call *c)
{
    integration_sync_time(c->v->services);
}

void vm_resume(struct vm *v)
{
    machine_resume(v->machine);
    vm_call(v, sync_time, NULL, NULL);
}

bool vm_reset(struct vm *v, err *e)
{
    return machine_reset(v->machine, e);
}

void vm_power_off(struct vm *v)
{
    machine_power_off(v->machine);
}

bool vm_save(struct vm *v, struct state_writer *w, err *e)
{
    return machine_save(v->machine, w, e);
}

bool vm_restore(struct vm *v, const struct state_reader *r, err *e)
{
    return machine_restore(v->machine, r, e);
}

/* ---- integration services: ask, and wait for the answer on the caller's thread ---- */

struct answer {
    pthread_mutex_t lock;
    pthread_cond_t come;
    bool done, abandoned;
    uint32_t status;
    /* what was asked */
    struct vm *v;
    enum shutdown_kind kind;
    bool force;
    const char *key, *value;
    struct integration_copy copy;
};

static struct answer *answer_new(struct vm *v)
{
    struct answer *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->come, NULL);
    a->v = v;
    return a;
}

static void answer_free(struct answer *a)
{
    pthread_mutex_destroy(&a->lock);
    pthread_cond_destroy(&a->come);
    free(a);
}

static void answered(void *ctx, uint32_t status)
{
    struct answer *a = ctx;
    pthread_mutex_lock(&a->lock);
    a->done = true;
    a->status = status;
    bool abandoned = a->abandoned;
    pthread_cond_signal(&a->come);
    pthread_mutex_unlock(&a->lock);
    if (abandoned)
        answer_free(a);
}

/* Takes the answer's struct. */
static bool answer_wait(struct answer *a, unsigned seconds, const char *what, err *e)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += seconds;
    pthread_mutex_lock(&a->lock);
    while (!a->done && pthread_cond_timedwait(&a->come, &a->lock, &until) == 0)
        ;
    bool done = a->done;
    uint32_t status = a->status;
    a->abandoned = !done;
    pthread_mutex_unlock(&a->lock);
    if (!done)
        return err_set(e, ERR_TIMEOUT, "the guest did not answer when asked to %s", what);
    answer_free(a);
    if (status)
        return err_set(e, ERR_DENIED, "the guest refused to %s (code 0x%08x)", what, status);
    return true;
}

static bool ask(struct vm *v, struct answer *a, void (*fn)(struct vm_call *c), unsigned seconds,
                const char *what, err *e)
{
    if (!a)
        return err_set(e, ERR_NO_MEMORY, "there is no memory for the request");
    if (!vm_call(v, fn, a, e)) {
        answer_free(a);
        return false;
    }
    return answer_wait(a, seconds, what, e);
}

static void do_shutdown(struct vm_call *c)
{
    struct answer *a = c->arg;
    c->ok = integration_shutdown(c->v->services, a->kind, a->force, answered, a, c->e);
}

bool vm_shutdown(struct vm *v, enum shutdown_kind kind, bool force, err *e)
{
    static const char *const what[] = {"shut down", "restart", "hibernate"};
    struct answer *a = answer_new(v);
    if (a) {
        a->kind = kind;
        a->force = force;
    }
    return ask(v, a, do_shutdown, SHUTDOWN_WAIT_S, what[kind], e);
}

static void do_set_data(struct vm_call *c)
{
    struct answer *a = c->arg;
    if (a->value[0])
        c->ok =
            integration_kvp_set(c->v->services, KVP_EXTERNAL, a->key, a->value, answered, a, c->e);
    else
        c->ok = integration_kvp_delete(c->v->services, KVP_EXTERNAL, a->key, answered, a, c->e);
}

bool vm_set_guest_data(struct vm *v, const char *key, const char *value, err *e)
{
    struct answer *a = answer_new(v);
    if (a) {
        a->key = key;
        a->value = value;
    }
    return ask(v, a, do_set_data, SHUTDOWN_WAIT_S, "store a value", e);
}

enum { FREEZE_LIMIT_S = 60, FREEZE_WAIT_S = 70, THAW_WAIT_S = 30 };

static void do_freeze(struct vm_call *c)
{
    c->ok = integration_freeze(c->v->services, FREEZE_LIMIT_S, answered, c->arg, c->e);
}

bool vm_freeze(struct vm *v, err *e)
{
    return ask(v, answer_new(v), do_freeze, FREEZE_WAIT_S, "freeze its file systems", e);
}

static void do_thaw(struct vm_call *c)
{
    c->ok = integration_thaw(c->v->services, answered, c->arg, c->e);
}

bool vm_thaw(struct vm *v, err *e)
{
    return ask(v, answer_new(v), do_thaw, THAW_WAIT_S, "thaw its file systems", e);
}

static void do_copy(struct vm_call *c)
{
    struct answer *a = c->arg;
    c->ok = integration_copy_file(c->v->services, &a->copy, c->e);
}

bool vm_copy_file(struct vm *v, int fd, const char *path, bool overwrite, bool create_path, err *e)
{
    const char *slash = strrchr(path, '/');
    off_t size = lseek(fd, 0, SEEK_END);
    if (path[0] != '/' || !slash[1])
        return err_set(e, ERR_INVALID, "\"%s\" is no full path of a file in the guest", path);
    if (size < 0)
        return err_set(e, ERR_INVALID, "what is to be copied is no file");
    AUTO(str) folder = strndup(path, (size_t)(slash - path) + (slash == path));
    struct answer *a = folder ? answer_new(v) : NULL;
    if (a)
        a->copy = (struct integration_copy){.fd = fd,
                                            .size = (uint64_t)size,
                                            .name = slash + 1,
                                            .folder = folder,
                                            .overwrite = overwrite,
                                            .create_path = create_path,
                                            .done = answered,
                                            .ctx = a};
    return ask(v, a, do_copy, COPY_WAIT_S, "take the file", e);
}

struct facts {
    kvp_item_fn *fn;
    void *ctx;
};

static void do_facts(struct vm_call *c)
{
    struct facts *f = c->arg;
    integration_each_fact(c->v->services, f->fn, f->ctx);
}

void vm_each_fact(struct vm *v, kvp_item_fn *fn, void *ctx)
{
    struct facts f = {fn, ctx};
    vm_call(v, do_facts, &f, NULL);
}

static void do_heartbeat(struct vm_call *c)
{
    *(enum heartbeat_state *)c->arg = integration_heartbeat(c->v->services);
}

enum heartbeat_state vm_heartbeat(struct vm *v)
{
    enum heartbeat_state s = HEARTBEAT_NONE;
    vm_call(v, do_heartbeat, &s, NULL);
    return s;
}

struct service_bits {
    unsigned offered, ready;
};

static void do_services(struct vm_call *c)
{
    struct service_bits *b = c->arg;
    for (unsigned bit = 1; bit <= INTEGRATION_ALL; bit <<= 1) {
        b->offered |= c->v->service_bits & bit;
        b->ready |= integration_ready(c->v->services, bit) ? bit : 0;
    }
}

void vm_services(struct vm *v, unsigned *offered, unsigned *ready)
{
    struct service_bits b = {0};
    vm_call(v, do_services, &b, NULL);
    *offered = b.offered;
    *ready = b.ready;
}

/* ---- parts ---- */

struct machine *vm_machine(struct vm *v)
{
    return v->machine;
}

struct console *vm_console(struct vm *v)
{
    return v->console;
}

struct vmbus *vm_bus(struct vm *v)
{
    return v->bus;
}

struct loop *vm_loop(struct vm *v)
{
    return machine_loop(v->machine);
}

uint64_t vm_ram(struct vm *v)
{
    return v->ram;
}
