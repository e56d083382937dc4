/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A machine's state to disk and back. */
#include "core/machine/vmsave.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/machine/memfile.h"
#include "core/machine/store.h"
#include "core/machine/storefs.h"
#include "core/machine/thumbnail.h"
#include "core/machine/vm-int.h"

enum { POLL_MS = 10, STATE_MAX = 512 << 20, MAX_DEPTH = 62 };

/* ---- the configuration as it is now ---- */

static enum vm_bus bus_of(const struct vm_disk_info *d)
{
    return strncmp(d->id, "ide", 3) == 0 ? VM_BUS_IDE : VM_BUS_SCSI;
}

static bool now_disk(struct vm_config *c, const struct vm_disk_info *d, err *e)
{
    struct vm_disk *to = NULL;
    for (uint32_t i = 0; i < c->n_disks && !to; i++)
        if (c->disks[i].bus == bus_of(d) && c->disks[i].slot == d->lun)
            to = &c->disks[i];
    if (!to &&
        !(to = vm_config_add_disk(c, bus_of(d), d->dvd ? VM_MEDIA_DVD : VM_MEDIA_DISK, NULL, e)))
        return false;
    to->slot = d->lun;
    to->media = d->dvd ? VM_MEDIA_DVD : VM_MEDIA_DISK;
    to->read_only = d->read_only && !d->dvd;
    return vm_config_string(&to->path, d->path, e);
}

static bool now_disks(struct vm *v, struct vm_config *c, err *e)
{
    struct vm_disk_info *list = calloc(VM_PLACES, sizeof *list);
    if (!list)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory");
    unsigned n = vm_list_disks(v, list, VM_PLACES);
    bool ok = true;
    for (uint32_t i = c->n_disks; i-- > 0;) {
        bool there = false;
        for (unsigned k = 0; k < n; k++)
            there |= c->disks[i].bus == bus_of(&list[k]) && c->disks[i].slot == list[k].lun;
        if (!there)
            vm_config_remove_disk(c, i);
    }
    for (unsigned k = 0; ok && k < n; k++)
        ok = now_disk(c, &list[k], e);
    free(list);
    return ok;
}

static bool now_adapter(struct vm_config *c, const struct vm_adapter_info *a, err *e)
{
    struct vm_adapter *to = NULL;
    const struct vm_adapter_settings *s = &a->settings;
    char forwards[VM_FORWARDS * 48] = "";
    for (uint32_t i = 0; i < c->n_adapters && !to; i++)
        if (!memcmp(c->adapters[i].mac.b, a->mac, 6))
            to = &c->adapters[i];
    if (!to && !(to = vm_config_add_adapter(c, VM_SWITCH_NONE, e)))
        return false;
    memcpy(to->mac.b, a->mac, 6);
    const char *colon = strchr(s->where, ':');
    to->kind = !strcmp(s->where, "nat")            ? VM_SWITCH_NAT
               : !strncmp(s->where, "private:", 8) ? VM_SWITCH_PRIVATE
               : !strncmp(s->where, "tap:", 4)     ? VM_SWITCH_DEVICE
                                                   : VM_SWITCH_NONE;
    for (unsigned i = 0; i < s->nforwards; i++) {
        size_t n = strlen(forwards);
        char one[48];
        net_forward_format(&s->forwards[i], one, sizeof one);
        snprintf(forwards + n, sizeof forwards - n, "%s%s", n ? " " : "", one);
    }
    to->mac_spoofing = s->spoofing;
    to->host_access = s->host_loopback;
    to->vlan = s->vlan;
    to->bandwidth = (uint32_t)(s->bandwidth / 1000000);
    return vm_config_string(&to->name, colon ? colon + 1 : NULL, e) &&
           vm_config_string(&to->forwards, forwards, e);
}

static bool now_adapters(struct vm *v, struct vm_config *c, err *e)
{
    struct vm_adapter_info list[VM_NETS];
    unsigned n = vm_list_adapters(v, list, VM_NETS);
    for (uint32_t i = c->n_adapters; i-- > 0;) {
        bool there = c->adapters[i].legacy;
        for (unsigned k = 0; k < n; k++)
            there |= !memcmp(c->adapters[i].mac.b, list[k].mac, 6);
        if (!there)
            vm_config_remove_adapter(c, i);
    }
    for (unsigned k = 0; k < n; k++)
        if (!now_adapter(c, &list[k], e))
            return false;
    return true;
}

struct vm_config *vm_config_now(struct vm *v, const struct vm_config *base, err *e)
{
    AUTO(vm_config) c = vm_config_copy(base, e);
    return c && now_disks(v, c, e) && now_adapters(v, c, e) ? TAKE(c) : NULL;
}

/* ---- the state file: what it is, then the sections of the devices ---- */

enum { TAG_VERSION = 1, TAG_RAM = 2, TAG_VPS = 3, TAG_SAVED_AT = 4, HEAD_VERSION = 1 };
#define SECTION_HEAD STATE_ID('V', 'M', 'H', 'D')

static void put_head(struct vm *v, struct state_writer *w)
{
    state_begin(w, SECTION_HEAD, 0, HEAD_VERSION, 1);
    state_put_u64(w, TAG_RAM, v->ram);
    state_put_u64(w, TAG_VPS, v->vps);
    state_put_u64(w, TAG_SAVED_AT, (uint64_t)time(NULL));
    state_end(w);
}

static bool check_head(struct vm *v, const struct state_reader *r, err *e)
{
    struct state_section s;
    struct state_field_view f;
    size_t pos = 0;
    uint64_t ram = 0, vps = 0;
    err why = ERR_INIT;
    if (!state_find(r, SECTION_HEAD, 0, &s, e))
        return false;
    if (s.least_reader > HEAD_VERSION)
        return err_set(e, ERR_UNSUPPORTED, "The state was saved by a newer Vireo");
    while (state_field_next(&s, &pos, &f, &why)) {
        if (f.tag == TAG_RAM && f.len == 8)
            ram = get_le64(f.data);
        else if (f.tag == TAG_VPS && f.len == 8)
            vps = get_le64(f.data);
    }
    if (ram == v->ram && vps == v->vps)
        return true;
    return err_set(e, ERR_CORRUPT,
                   "The state is that of a machine with %llu MiB and %llu processors",
                   (unsigned long long)(ram >> 20), (unsigned long long)vps);
}

static int open_states(const char *folder, err *e)
{
    AUTO(str) path = checkpoint_states(folder, e);
    int fd =
        path && storefs_make_folders(path, e) ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (path && fd < 0)
        err_errno(e, errno, "The folder of saved states cannot be opened");
    return fd;
}

static bool write_state(const char *folder, const struct guid *id, const char *ending,
                        const void *data, size_t len, err *e)
{
    char name[GUID_STR_LEN + 8];
    AUTO(fd) fd = open_states(folder, e);
    guid_format(id, name);
    strcat(name, ending);
    return fd >= 0 && storefs_write(fd, name, data, len, e);
}

/* The sections and, where something is shown, a picture. */
static bool write_files(struct vm *v, const char *folder, const struct guid *id,
                        struct state_writer *w, err *e)
{
    size_t len = 0, png_len = 0;
    AUTO(buf) png = thumbnail_png(v->console, &png_len, NULL);
    const uint8_t *data = w ? state_writer_data(w, &len, e) : NULL;
    if (w && (!data || !write_state(folder, id, ".state", data, len, e)))
        return false;
    return !png || write_state(folder, id, ".png", png, png_len, e);
}

/* ---- memory, frozen by fork ---- */

/* Only what is safe in the child of a threaded program; PR_SET_PDEATHSIG goes by the thread that
 * forked, which is the I/O thread: it lives as long as the machine. */
static void child(struct memfile_writer *mem, pid_t parent)
{
    sigset_t all;
    int keep = memfile_writer_fd(mem);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0}); /* the guest goes first */
    if (getppid() != parent)
        _exit(ECANCELED);
    if (keep > 0)
        close_range(0, (unsigned)keep - 1, 0);
    close_range((unsigned)keep + 1, ~0u, 0);
    _exit(memfile_writer_run(mem));
}

static pid_t start_child(struct memfile_writer *mem, err *e)
{
    pid_t parent = getpid(), pid = _Fork();
    if (pid == 0)
        child(mem, parent);
    if (pid < 0)
        err_errno(e, errno, "The machine's memory cannot be frozen");
    return pid;
}

static bool wait_child(pid_t pid, struct memfile_writer *mem, const struct vm_progress *p, err *e)
{
    int status = 0;
    for (;;) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid)
            break;
        if (got < 0 && errno != EINTR)
            return err_errno(e, errno, "Waiting for the memory to be written");
        if (p && p->fn && !p->fn(p->ctx, memfile_writer_progress(mem)))
            memfile_writer_cancel(mem);
        nanosleep(&(struct timespec){0, POLL_MS * 1000000}, NULL);
    }
    if (!WIFEXITED(status))
        return err_set(e, ERR_IO, "What wrote the machine's memory was ended (signal %d)",
                       WTERMSIG(status));
    if (WEXITSTATUS(status) == ECANCELED)
        return err_set(e, ERR_CANCELLED, "It was cancelled");
    return WEXITSTATUS(status) == 0 ||
           err_errno(e, WEXITSTATUS(status), "The machine's memory was not written");
}

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif
enum { HUGE_PAGE = 2 << 20 };

struct ram {
    uint8_t *host[MEMFILE_REGIONS];
    uint64_t size[MEMFILE_REGIONS];
    unsigned n;
};

static bool note_ram(void *ctx, struct hv_region *r)
{
    struct ram *m = ctx;
    if (hv_region_kind(r) == HV_REGION_RAM && m->n < MEMFILE_REGIONS) {
        m->host[m->n] = hv_region_host(r);
        m->size[m->n++] = hv_region_size(r);
    }
    return true;
}

/* What the guest wrote while the child lived lies in small pages now, and the next fork would copy
 * an entry for each: they are made huge again, where all of a huge page is there (what the guest
 * gave back stays given back). Without effect where the kernel cannot. RAM stays as long as the
 * machine. */
static void make_huge(struct vm *v)
{
    unsigned char there[HUGE_PAGE / MEMFILE_PAGE];
    struct ram m = {.n = 0};
    hv_memory_each(hv_partition_memory(machine_partition(v->machine)), note_ram, &m);
    for (unsigned i = 0; i < m.n; i++)
        for (uint64_t at = -(uintptr_t)m.host[i] & (HUGE_PAGE - 1); at + HUGE_PAGE <= m.size[i];
             at += HUGE_PAGE)
            if (mincore(m.host[i] + at, HUGE_PAGE, there) == 0 && !memchr(there, 0, sizeof there))
                madvise(m.host[i] + at, HUGE_PAGE, MADV_COLLAPSE);
}

/* The memory of the checkpoint that the machine goes on from: what is the same is not written. */
static struct memfile *memory_below(const char *folder, const struct guid *parent)
{
    struct checkpoint_tree t;
    struct memfile *m = NULL;
    AUTO(str) states = checkpoint_states(folder, NULL);
    if (guid_is_zero(parent) || !states || !checkpoint_tree_load(folder, &t, NULL))
        return NULL;
    for (size_t i = 0; i < t.n; i++)
        if (guid_equal(&t.list[i].id, parent) && t.list[i].memory && t.list[i].complete)
            m = memfile_open(states, parent, NULL);
    checkpoint_tree_clear(&t);
    return m;
}

/* ---- save ---- */

struct save_call {
    struct state_writer *w;
    struct memfile_writer *mem;
    pid_t pid;
    bool was_running;
};

static void do_save(struct vm_call *c)
{
    struct save_call *s = c->arg;
    struct vm *v = c->v;
    s->was_running = machine_pause(v->machine);
    put_head(v, s->w);
    c->ok = machine_save(v->machine, s->w, c->e);
    if (c->ok)
        c->ok = (s->pid = start_child(s->mem, c->e)) > 0;
    for (unsigned i = 0; c->ok && i < VM_PLACES; i++) {
        const struct vm_lun *l = &v->luns[i];
        int rc = l->disk && !l->read_only ? disk_flush_sync(l->disk) : 0;
        if (rc)
            c->ok = err_errno(c->e, rc, "%s cannot be written", l->path);
    }
}

static bool save_parts(struct vm *v, const char *folder, const struct guid *id,
                       const struct vm_config *settings, struct save_call *s,
                       const struct vm_progress *progress, err *e)
{
    bool ok = vm_call(v, do_save, s, e);
    if (s->pid > 0 && !ok)
        memfile_writer_cancel(s->mem);
    if (s->pid > 0 && !wait_child(s->pid, s->mem, progress, ok ? e : NULL))
        ok = false;
    return ok && write_files(v, folder, id, s->w, e) && memfile_writer_commit(s->mem, e) &&
           checkpoint_set_saved(folder, settings, id, e);
}

static void remove_state(const char *folder, const struct guid *id)
{
    static const char *const endings[] = {".state", ".png", ".map", ".ram"};
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        AUTO(str) path = checkpoint_state_path(folder, id, endings[i], NULL);
        if (path)
            unlink(path);
    }
}

bool vm_save_to_disk(struct vm *v, const char *folder, const struct vm_config *base,
                     const struct vm_progress *progress, err *e)
{
    struct guid id;
    struct save_call s = {.w = state_writer_new()};
    guid_random(&id);
    AUTO(str) states = checkpoint_states(folder, e);
    AUTO(vm_config) settings = vm_config_now(v, base, e);
    AUTO(vm_config) stored = settings ? store_load_at(folder, e) : NULL;
    AUTO(memfile) below = stored ? memory_below(folder, &stored->checkpoint) : NULL;
    bool ok = stored && s.w && storefs_make_folders(states, e);
    s.mem = ok ? memfile_writer_new(states, &id, hv_partition_memory(machine_partition(v->machine)),
                                    below, e)
               : NULL;
    ok = s.mem && save_parts(v, folder, &id, settings, &s, progress, e);
    memfile_writer_free(s.mem);
    state_writer_free(s.w);
    if (ok)
        return true;
    remove_state(folder, &id);
    if (s.was_running)
        vm_resume(v);
    return err_prefix(e, "The machine was not saved");
}

/* ---- load ---- */

static uint8_t *read_state(const char *folder, const struct guid *id, size_t *len, err *e)
{
    char name[GUID_STR_LEN + 8];
    AUTO(fd) fd = open_states(folder, e);
    guid_format(id, name);
    strcat(name, ".state");
    return fd < 0 ? NULL : (uint8_t *)storefs_read(fd, name, STATE_MAX, len, e);
}

static bool is_there(void *ctx, struct hv_region *r)
{
    struct memfile_region *want = ctx;
    if (hv_region_kind(r) == HV_REGION_RAM && hv_region_gpa(r) == want->gpa &&
        hv_region_size(r) == want->size)
        want->size = 0;
    return true;
}

/* Memory that was added while it ran: above all that the machine is made with. */
static bool add_regions(struct vm *v, const struct memfile *m, err *e)
{
    struct memfile_region list[MEMFILE_REGIONS];
    struct hv_memory *mem = hv_partition_memory(machine_partition(v->machine));
    unsigned n = memfile_regions(m, list);
    uint64_t total = 0;
    for (unsigned i = 0; i < n; i++) {
        struct memfile_region want = list[i];
        total += want.size;
        hv_memory_each(mem, is_there, &want);
        if (!want.size)
            continue;
        if (want.gpa < v->hot_add_base || total > MIB((uint64_t)VM_MAX_MEMORY_MIB))
            return err_set(e, ERR_CORRUPT, "The saved memory does not fit the machine");
        if (!hv_memory_add_ram(mem, want.gpa, want.size, e))
            return false;
    }
    return true;
}

bool vm_load_from_disk(struct vm *v, const char *folder, const struct guid *id, bool fresh, err *e)
{
    struct state_reader r = {0};
    AUTO(buf) data = read_state(folder, id, &r.len, e);
    AUTO(str) states = data ? checkpoint_states(folder, e) : NULL;
    AUTO(memfile) m = states ? memfile_open(states, id, e) : NULL;
    r.data = data;
    bool ok = m && check_head(v, &r, e) && add_regions(v, m, e) &&
              memfile_map(m, hv_partition_memory(machine_partition(v->machine)), e) &&
              vm_restore(v, &r, e) && (!fresh || machine_new_generation(v->machine, e));
    return ok || err_prefix(e, "The saved state cannot be resumed");
}

/* ---- checkpoints ---- */

struct vm_checkpointing {
    struct vm *v;
    char *folder;
    struct checkpoint c; /* id and memory; the strings are the caller's */
    struct checkpoint_leaf leaf[VM_PLACES];
    struct disk_layer *layer[VM_PLACES]; /* by leaf */
    unsigned nleaves;
    struct state_writer *w;
    struct memfile *below;
    struct memfile_writer *mem;
    pid_t pid;
    bool swapped;
    struct vm_checkpoint_times times;
};

static struct vm_lun *place_of(struct vm_checkpointing *k, unsigned leaf)
{
    const struct checkpoint_leaf *l = &k->leaf[leaf];
    return &k->v->luns[l->bus == VM_BUS_IDE ? VM_LUNS + l->slot : l->slot];
}

static char *leaf_path(const struct vm_checkpointing *k, unsigned i, err *e)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", k->folder, k->leaf[i].path) >= 0)
        return path;
    err_set(e, ERR_NO_MEMORY, "Not enough memory");
    return NULL;
}

static bool make_leaf(struct vm_checkpointing *k, unsigned lun, struct vm_lun *l, err *e)
{
    unsigned i = k->nleaves;
    if (disk_layer_name(l->disk, MAX_DEPTH))
        return err_set(e, ERR_UNSUPPORTED, "%s has too many layers: delete some checkpoints",
                       l->path);
    bool ide = lun >= VM_LUNS;
    k->leaf[i] = (struct checkpoint_leaf){ide ? VM_BUS_IDE : VM_BUS_SCSI, ide ? lun - VM_LUNS : lun,
                                          checkpoint_leaf_name(l->path, &k->c.id, lun, e)};
    if (!k->leaf[i].path)
        return false;
    k->nleaves++;
    AUTO(str) path = leaf_path(k, i, e);
    if (!path || !disk_create_leaf(l->disk, path, e))
        return false;
    k->layer[i] = disk_layer_open(l->disk, path, e);
    return k->layer[i] != NULL;
}

static void make_leaves(struct vm_call *c)
{
    struct vm_checkpointing *k = c->arg;
    for (unsigned i = 0; c->ok && i < VM_PLACES; i++) {
        struct vm_lun *l = &c->v->luns[i];
        if (l->used && l->disk && !l->dvd && !l->read_only)
            c->ok = make_leaf(k, i, l, c->e);
    }
}

static void drained(void *ctx)
{
    *(bool *)ctx = true;
}

/* The devices are stopped: nothing is in flight. */
static bool push_layers(struct vm_checkpointing *k, err *e)
{
    for (unsigned i = 0; i < k->nleaves; i++) {
        struct vm_lun *l = place_of(k, i);
        bool quiet = false;
        AUTO(str) name = strdup(k->leaf[i].path);
        disk_pause(l->disk, drained, &quiet);
        bool ok = name && quiet && disk_push_layer(l->disk, k->layer[i], true, e);
        disk_resume(l->disk);
        if (!ok)
            return false;
        k->layer[i] = NULL;
        k->swapped = true;
        free(l->path);
        l->path = TAKE(name);
    }
    return true;
}

/* All that the guest waits for; its requests in flight end before. */
static void stall(struct vm_call *c)
{
    struct vm_checkpointing *k = c->arg;
    struct machine *m = c->v->machine;
    uint64_t begin = clock_ns();
    if (c->v->running)
        vm_quiet(c->v);
    uint64_t t0 = clock_ns();
    bool was_running = machine_pause(m);
    uint64_t t1 = clock_ns();
    if (k->c.memory) {
        put_head(c->v, k->w);
        c->ok = machine_save(m, k->w, c->e);
    } else if (!was_running) {
        c->ok =
            machine_is_paused(m) || err_set(c->e, ERR_STATE, "The machine does not run any more");
    }
    uint64_t t2 = clock_ns();
    if (c->ok && k->c.memory)
        c->ok = (k->pid = start_child(k->mem, c->e)) > 0;
    uint64_t t3 = clock_ns();
    c->ok = c->ok && push_layers(k, c->e);
    if (c->ok || !k->swapped) {
        if (was_running)
            hv_partition_pass_time(machine_partition(m), clock_ns() - t1);
        if (was_running)
            machine_resume(m);
    } else { /* half of the disks have new layers: as after a power cut, but not as a lie */
        machine_power_off(m);
    }
    k->times = (struct vm_checkpoint_times){.drain_ns = t0 - begin,
                                            .stall_ns = clock_ns() - t0,
                                            .pause_ns = t1 - t0,
                                            .save_ns = t2 - t1,
                                            .fork_ns = t3 - t2};
}

static void settle(struct vm_call *c)
{
    struct vm_checkpointing *k = c->arg;
    for (unsigned i = 0; i < k->nleaves; i++)
        disk_release_flushes(place_of(k, i)->disk);
    for (unsigned i = 0; c->ok && i < k->nleaves; i++)
        c->ok = disk_settle_layers(place_of(k, i)->disk, c->e);
    vm_changed(k->v, VM_CHANGED_DISKS);
}

static void drop_layers(struct vm_call *c)
{
    struct vm_checkpointing *k = c->arg;
    for (unsigned i = 0; i < k->nleaves; i++) {
        disk_layer_close(k->layer[i]);
        k->layer[i] = NULL;
    }
}

static void checkpointing_free(struct vm_checkpointing *k)
{
    for (unsigned i = 0; i < k->nleaves; i++)
        free(k->leaf[i].path);
    memfile_writer_free(k->mem);
    memfile_close(k->below);
    state_writer_free(k->w);
    free(k->folder);
    free(k);
}

static void undo(struct vm_checkpointing *k)
{
    vm_call(k->v, drop_layers, k, NULL);
    if (k->pid > 0) {
        memfile_writer_cancel(k->mem);
        wait_child(k->pid, k->mem, NULL, NULL);
    }
    for (unsigned i = 0; i < k->nleaves && !k->swapped; i++) {
        AUTO(str) path = leaf_path(k, i, NULL);
        if (path)
            unlink(path);
    }
    checkpoint_abandon(k->folder, &k->c.id);
    checkpointing_free(k);
}

static bool prepare_memory(struct vm_checkpointing *k, err *e)
{
    if (!k->c.memory)
        return true;
    AUTO(str) states = checkpoint_states(k->folder, e);
    k->w = state_writer_new();
    if (!states || !k->w)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory for a checkpoint");
    k->below = memory_below(k->folder, &k->c.parent);
    k->mem = memfile_writer_new(states, &k->c.id,
                                hv_partition_memory(machine_partition(k->v->machine)), k->below, e);
    return k->mem != NULL;
}

/* From here on it is made, or the machine is off. */
static bool commit(struct vm_checkpointing *k, struct store_change *change, err *e)
{
    if (!store_change_commit(change, e)) {
        vm_power_off(k->v); /* what is flushed from now on would be lost: it must not be said */
        return err_prefix(e, "The machine was turned off, because its folder cannot be written");
    }
    return vm_call(k->v, settle, k, e);
}

struct vm_checkpointing *vm_checkpoint_begin(struct vm *v, const char *folder,
                                             const struct vm_config *base, struct checkpoint *c,
                                             err *e)
{
    struct store_change *change = NULL;
    AUTO(vm_config) settings = vm_config_now(v, base, e);
    if (!settings || !checkpoint_begin(folder, c, settings, e))
        return NULL;
    struct vm_checkpointing *k = calloc(1, sizeof *k);
    if (!k || !(k->folder = strdup(folder))) {
        free(k);
        checkpoint_abandon(folder, &c->id);
        err_set(e, ERR_NO_MEMORY, "Not enough memory for a checkpoint");
        return NULL;
    }
    k->v = v;
    k->c = *c;
    bool ok = vm_call(v, make_leaves, k, e) && prepare_memory(k, e) &&
              (change = checkpoint_change_begin(folder, c, settings, k->leaf, k->nleaves, e)) &&
              vm_call(v, stall, k, e);
    if (!ok)
        store_change_abort(change);
    if (ok && commit(k, change, e))
        return k;
    undo(k);
    return NULL;
}

void vm_checkpoint_get_times(const struct vm_checkpointing *k, struct vm_checkpoint_times *out)
{
    *out = k->times;
}

bool vm_checkpoint_finish(struct vm_checkpointing *k, const struct vm_progress *progress, err *e)
{
    bool ok = write_files(k->v, k->folder, &k->c.id, k->w, e);
    if (!ok && k->mem)
        memfile_writer_cancel(k->mem);
    if (k->mem && !wait_child(k->pid, k->mem, progress, ok ? e : NULL))
        ok = false;
    if (k->mem)
        make_huge(k->v);
    ok = ok && (!k->mem || memfile_writer_commit(k->mem, e)) &&
         checkpoint_complete(k->folder, &k->c, e);
    if (!ok) {
        checkpoint_abandon(k->folder, &k->c.id);
        err_prefix(e, "The checkpoint was not made");
    }
    checkpointing_free(k);
    return ok;
}

/* ---- merging ---- */

struct merging {
    pthread_mutex_t lock;
    pthread_cond_t come;
    const struct checkpoint_merge *m;
    struct disk_merge *merge;
    uint64_t done, total;
    bool ready, ended;
    err e;
};

static void merge_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct merging *g = ctx;
    pthread_mutex_lock(&g->lock);
    g->done = done;
    g->total = total;
    pthread_mutex_unlock(&g->lock);
}

static void merge_ready(void *ctx)
{
    struct merging *g = ctx;
    pthread_mutex_lock(&g->lock);
    g->ready = true;
    pthread_cond_signal(&g->come);
    pthread_mutex_unlock(&g->lock);
}

static void merge_done(void *ctx, const err *e)
{
    struct merging *g = ctx;
    pthread_mutex_lock(&g->lock);
    g->e = *e;
    g->ended = true;
    pthread_cond_signal(&g->come);
    pthread_mutex_unlock(&g->lock);
}

static bool is_file(const char *name, const char *path)
{
    char real[PATH_MAX];
    return name && realpath(name, real) && !strcmp(real, path);
}

static void start_merge(struct vm_call *c)
{
    struct merging *g = c->arg;
    for (unsigned i = 0; i < VM_PLACES; i++) {
        struct disk *d = c->v->luns[i].disk;
        const char *name;
        for (unsigned depth = 0; d && (name = disk_layer_name(d, depth)); depth++) {
            if (!is_file(name, g->m->upper) || !is_file(disk_layer_name(d, depth + 1), g->m->lower))
                continue;
            struct disk_merge_params p = {.depth = depth,
                                          .progress = merge_progress,
                                          .ready = merge_ready,
                                          .done = merge_done,
                                          .ctx = g};
            g->merge = disk_merge_start(d, &p, c->e);
            c->ok = g->merge != NULL;
            return;
        }
    }
    c->ok = err_set(c->e, ERR_NOT_FOUND, "No disk of the machine has these layers");
}

static void cancel_merge(struct vm_call *c)
{
    struct merging *g = c->arg;
    pthread_mutex_lock(&g->lock);
    bool ended = g->ended;
    pthread_mutex_unlock(&g->lock);
    if (!ended)
        disk_merge_cancel(g->merge);
}

static void conclude_merge(struct vm_call *c)
{
    struct merging *g = c->arg;
    disk_merge_conclude(g->merge);
}

/* The layer in use has gone: the disk is known by the lower one's name. */
static void rename_disk(struct vm_call *c)
{
    const struct checkpoint_merge *m = c->arg;
    for (unsigned i = 0; i < VM_PLACES; i++) {
        struct vm_lun *l = &c->v->luns[i];
        const char *name = l->disk ? disk_layer_name(l->disk, 0) : NULL;
        char *copy = is_file(name, m->lower) ? strdup(name) : NULL;
        if (!copy)
            continue;
        free(l->path);
        l->path = copy;
        vm_changed(c->v, VM_CHANGED_DISKS);
    }
}

/* What is to be done while it goes on; without the lock. */
static void attend_merge(struct vm *v, const char *folder, struct merging *g, bool ready,
                         const struct vm_progress *progress, double part)
{
    err why = ERR_INIT;
    if (ready && checkpoint_retarget(folder, g->m, &why)) {
        vm_call(v, conclude_merge, g, NULL);
    } else if (ready) {
        log_line(LOG_WARNING, "checkpoint", "merging: %s", why.text);
        vm_call(v, cancel_merge, g, NULL);
    } else if (progress && progress->fn && !progress->fn(progress->ctx, part)) {
        vm_call(v, cancel_merge, g, NULL);
    }
}

bool vm_merge_layers(struct vm *v, const char *folder, const struct checkpoint_merge *m,
                     const struct vm_progress *progress, err *e)
{
    struct merging g = {
        .lock = PTHREAD_MUTEX_INITIALIZER, .come = PTHREAD_COND_INITIALIZER, .m = m};
    if (!vm_call(v, start_merge, &g, e))
        return false;
    pthread_mutex_lock(&g.lock);
    while (!g.ended) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 1;
        if (!g.ready)
            pthread_cond_timedwait(&g.come, &g.lock, &until);
        double part = g.total ? (double)g.done / (double)g.total : 0;
        bool ended = g.ended, ready = g.ready;
        g.ready = false;
        pthread_mutex_unlock(&g.lock);
        if (!ended)
            attend_merge(v, folder, &g, ready, progress, part);
        pthread_mutex_lock(&g.lock);
    }
    pthread_mutex_unlock(&g.lock);
    if (g.e.code == ERR_NONE)
        vm_call(v, rename_disk, (void *)(uintptr_t)m, NULL);
    else if (e)
        *e = g.e;
    return g.e.code == ERR_NONE;
}
