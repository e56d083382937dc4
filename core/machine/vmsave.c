/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A machine's state to disk and back. */
#include "core/machine/vmsave.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/machine/store.h"
#include "core/machine/storefs.h"
#include "core/machine/thumbnail.h"
#include "core/machine/vm-int.h"
#include "core/machine/vmsave-int.h"

enum { STATE_MAX = 512 << 20 };

/* ---- the state file: what it is, then the sections of the devices ---- */

enum { TAG_VERSION = 1, TAG_RAM = 2, TAG_VPS = 3, TAG_SAVED_AT = 4, HEAD_VERSION = 1 };
#define SECTION_HEAD STATE_ID('V', 'M', 'H', 'D')

void vmsave_put_head(struct vm *v, struct state_writer *w)
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
bool vmsave_write_files(struct vm *v, const char *folder, const struct guid *id,
                        struct state_writer *w, err *e)
{
    size_t len = 0, png_len = 0;
    AUTO(buf) png = thumbnail_png(v->console, &png_len, NULL);
    const uint8_t *data = w ? state_writer_data(w, &len, e) : NULL;
    if (w && (!data || !write_state(folder, id, ".state", data, len, e)))
        return false;
    return !png || write_state(folder, id, ".png", png, png_len, e);
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
    vmsave_put_head(v, s->w);
    c->ok = machine_save(v->machine, s->w, c->e);
    if (c->ok)
        c->ok = (s->pid = vmsave_freeze(s->mem, c->e)) > 0;
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
    if (s->pid > 0 && !vmsave_wait(s->pid, s->mem, progress, ok ? e : NULL))
        ok = false;
    return ok && vmsave_write_files(v, folder, id, s->w, e) && memfile_writer_commit(s->mem, e) &&
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
    AUTO(memfile) below = stored ? vmsave_memory_below(folder, &stored->checkpoint) : NULL;
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
    struct memfile_region *want = ctx; /* goes on at what is not there */
    uint64_t at = want->gpa - hv_region_gpa(r);
    if (hv_region_kind(r) == HV_REGION_RAM && at == 0 && hv_region_size(r) <= want->size) {
        uint64_t n = hv_region_size(r);
        want->gpa += n;
        want->size -= n;
    }
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
        if (want.gpa != list[i].gpa || want.gpa < v->hot_add_base ||
            total > MIB((uint64_t)VM_MAX_MEMORY_MIB))
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
