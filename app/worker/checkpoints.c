/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Saved states and checkpoints of org.vireo.Machine1. One at a time is made, applied or merged. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/worker/call.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/machine/store.h"
#include "core/machine/storefs.h"
#include "core/machine/vmsave.h"

enum { PROGRESS_MS = 200, IDLE_MS = 10, SHUTDOWN_PATIENCE_S = 60 };

/* ---- small ones ---- */

/* Answers with an error unless the machine runs, has a folder, and nothing of this kind goes on. */
static gboolean ready(struct worker *w, GDBusMethodInvocation *call)
{
    if (!worker_is_live(w))
        call_fail(call, ERR_STATE, "The machine is not running.");
    else if (!w->folder)
        call_fail(call, ERR_UNSUPPORTED, "The machine has no folder to save anything in.");
    else if (w->saving)
        call_fail(call, ERR_BUSY, "The machine's state or a checkpoint is being written already.");
    else
        return TRUE;
    return FALSE;
}

/* The same, but that a merge in the background gives way: it is broken off, and `redo` answers the
 * call when it has ended. The merge goes on afterwards where it was. */
static gboolean ready_after_merge(struct worker *w, GDBusMethodInvocation *call,
                                  void (*redo)(struct worker *w, GDBusMethodInvocation *call))
{
    gboolean merging = w->saving && w->operation && g_str_has_prefix(w->operation, "merge");
    if (!merging || w->waiting || w->leaving || !worker_is_live(w))
        return ready(w, call);
    w->waiting = call;
    w->redo = redo;
    w->sweep = TRUE;
    g_atomic_int_set(&w->cancel, 1);
    return FALSE;
}

static gboolean parse_id(const char *text, struct guid *id, GDBusMethodInvocation *call)
{
    if (guid_parse(text, id))
        return TRUE;
    call_fail(call, ERR_INVALID, "That is not a checkpoint's id.");
    return FALSE;
}

/* ---- progress ---- */

struct step {
    struct worker *w;
    char *operation, *text;
    double fraction;
};

static gboolean emit_step(gpointer data)
{
    struct step *s = data;
    vireo_machine1_emit_progress(s->w->machine, s->operation, s->text, s->fraction, FALSE, "");
    g_free(s->operation);
    g_free(s->text);
    g_free(s);
    return G_SOURCE_REMOVE;
}

struct pace {
    struct worker *w;
    const char *text;
    gint64 last;
};

static bool on_progress(void *ctx, double fraction)
{
    struct pace *p = ctx;
    gint64 now = g_get_monotonic_time();
    if (now - p->last > PROGRESS_MS * 1000) {
        struct step *s = g_new0(struct step, 1);
        *s = (struct step){p->w, g_strdup(p->w->operation), g_strdup(p->text), fraction};
        p->last = now;
        g_idle_add(emit_step, s);
    }
    return !g_atomic_int_get(&p->w->cancel);
}

static void operation_begin(struct worker *w, const char *kind)
{
    static guint number;
    g_free(w->operation);
    w->operation = g_strdup_printf("%s-%u", kind, ++number);
    g_atomic_int_set(&w->cancel, 0);
    w->saving = TRUE;
}

static void sweep(struct worker *w);

static void operation_end(struct worker *w, const char *text, const err *e)
{
    g_autofree char *why = e ? g_utf8_make_valid(e->text, -1) : g_strdup("");
    vireo_machine1_emit_progress(w->machine, w->operation, text, 1, TRUE, why);
    if (e)
        log_line(LOG_WARNING, "checkpoint", "%s", e->text);
    w->saving = FALSE;
    GDBusMethodInvocation *waiting = g_steal_pointer(&w->waiting);
    if (waiting)
        w->redo(w, waiting);
    if (w->saving)
        return;
    if (w->leaving)
        worker_leave(w);
    else if (w->sweep && !w->ended)
        sweep(w);
}

/* ---- the list ---- */

static void add_checkpoint(GVariantBuilder *b, struct worker *w, const struct checkpoint *c,
                           const struct guid *current)
{
    char id[GUID_STR_LEN + 1], parent[GUID_STR_LEN + 1] = "";
    guid_format(&c->id, id);
    if (!guid_is_zero(&c->parent))
        guid_format(&c->parent, parent);
    g_autofree char *name = g_utf8_make_valid(c->name, -1);
    g_autofree char *notes = g_utf8_make_valid(c->notes ? c->notes : "", -1);
    AUTO(str) png = checkpoint_state_path(w->folder, &c->id, ".png", NULL);
    g_autofree char *shown =
        png && access(png, R_OK) == 0 ? g_utf8_make_valid(png, -1) : g_strdup("");
    g_variant_builder_open(b, G_VARIANT_TYPE("a{sv}"));
    g_variant_builder_add(b, "{sv}", "id", g_variant_new_string(id));
    g_variant_builder_add(b, "{sv}", "parent", g_variant_new_string(parent));
    g_variant_builder_add(b, "{sv}", "name", g_variant_new_string(name));
    g_variant_builder_add(b, "{sv}", "notes", g_variant_new_string(notes));
    g_variant_builder_add(b, "{sv}", "created", g_variant_new_int64(c->created));
    g_variant_builder_add(b, "{sv}", "kind", g_variant_new_string(checkpoint_kind_name(c->kind)));
    g_variant_builder_add(b, "{sv}", "memory", g_variant_new_boolean(c->memory));
    g_variant_builder_add(b, "{sv}", "complete", g_variant_new_boolean(c->complete));
    g_variant_builder_add(b, "{sv}", "current", g_variant_new_boolean(guid_equal(&c->id, current)));
    g_variant_builder_add(b, "{sv}", "thumbnail", g_variant_new_string(shown));
    g_variant_builder_add(b, "{sv}", "problem", g_variant_new_string(worker_check_says(w, id)));
    g_variant_builder_close(b);
}

void worker_refresh_checkpoints(struct worker *w)
{
    struct checkpoint_tree t;
    err e = ERR_INIT;
    GVariantBuilder b;
    if (!w->folder)
        return;
    if (!checkpoint_tree_load(w->folder, &t, &e)) {
        log_line(LOG_WARNING, "checkpoint", "%s", e.text);
        return;
    }
    g_variant_builder_init(&b, G_VARIANT_TYPE("aa{sv}"));
    for (size_t i = 0; i < t.n; i++)
        add_checkpoint(&b, w, &t.list[i], &t.current);
    vireo_machine1_set_checkpoints(w->machine, g_variant_builder_end(&b));
    g_dbus_interface_skeleton_flush(G_DBUS_INTERFACE_SKELETON(w->machine));
    checkpoint_tree_clear(&t);
}

/* ---- start ---- */

static bool is_checkpoint(const char *folder, const struct guid *id)
{
    struct checkpoint_tree t;
    bool found = false;
    if (!checkpoint_tree_load(folder, &t, NULL))
        return false;
    for (size_t i = 0; i < t.n; i++)
        found |= guid_equal(&t.list[i].id, id) != 0;
    checkpoint_tree_clear(&t);
    return found;
}

static bool boot(struct worker *w, gboolean paused, err *e)
{
    if (!vm_start(w->vm, e))
        return false;
    if (paused)
        vm_pause(w->vm);
    return true;
}

bool worker_begin(struct worker *w, gboolean discard, gboolean paused, gboolean *resumed, err *e)
{
    if (!w->folder)
        return boot(w, paused, e);
    AUTO(str) ini = g_build_filename(w->folder, STORE_CONFIG_NAME, NULL);
    if (!storefs_is_there(ini)) /* a machine that was never in a store */
        return boot(w, paused, e);
    if (!checkpoint_recover(w->folder, e) || (discard && !checkpoint_clear_saved(w->folder, e)))
        return false;
    AUTO(vm_config) c = store_load_at(w->folder, e);
    if (!c)
        return false;
    if (guid_is_zero(&c->saved))
        return boot(w, paused, e);
    *resumed = TRUE;
    if (!vm_load_from_disk(w->vm, w->folder, &c->saved, is_checkpoint(w->folder, &c->saved), e))
        return false;
    /* From the first instruction on the disks are not those that the state belongs to. */
    if (!checkpoint_clear_saved(w->folder, e))
        return false;
    if (!paused)
        vm_resume(w->vm);
    return true;
}

/* ---- merging in the background ---- */

static bool on_offline_progress(void *ctx, const char *file, double fraction)
{
    return on_progress(ctx, fraction);
}

static bool merge(struct worker *w, const struct checkpoint_merge *m, struct pace *pace, err *e)
{
    const struct vm_progress p = {on_progress, pace};
    if (vm_merge_layers(w->vm, w->folder, m, &p, e))
        return checkpoint_merged(w->folder, m, e);
    if (e->code != ERR_NOT_FOUND)
        return false;
    *e = (err)ERR_INIT;
    return checkpoint_merge_one(w->folder, m, on_offline_progress, pace, e);
}

/* What can be merged while the machine runs; the rest waits until it is off. */
static bool run_sweep(struct worker *w, gpointer data, err *e)
{
    struct pace pace = {.w = w, .text = "Merging checkpoints"};
    bool again = true;
    while (again) {
        struct checkpoint_plan plan;
        again = false;
        if (!checkpoint_sweep(w->folder, true, &plan, e))
            return false;
        for (size_t i = 0; i < plan.n && !again; i++) {
            err why = ERR_INIT;
            again = merge(w, &plan.merges[i], &pace, &why);
            if (!again && why.code != ERR_INVALID && why.code != ERR_UNSUPPORTED)
                log_line(LOG_INFO, "checkpoint", "merging waits: %s", why.text);
        }
        checkpoint_plan_clear(&plan);
        again = again && !g_atomic_int_get(&w->cancel);
    }
    return true;
}

static void sweep_done(struct worker *w, gpointer data, const err *e)
{
    worker_refresh_checkpoints(w);
    worker_refresh(w, VM_CHANGED_DISKS);
    operation_end(w, "Merging checkpoints", e);
}

static void sweep(struct worker *w)
{
    w->sweep = TRUE;
    if (w->saving || !worker_is_live(w) || !w->folder || g_atomic_int_get(&w->over))
        return;
    w->sweep = FALSE;
    operation_begin(w, "merge");
    worker_run(w, run_sweep, sweep_done, NULL);
}

/* ---- creating ---- */

struct making {
    struct checkpoint c;
    GDBusMethodInvocation *call; /* NULL: nobody waits */
    struct vm_config *base;
    gboolean wait, production, fallback;
};

static void making_free(struct making *m)
{
    checkpoint_clear(&m->c);
    vm_config_free(m->base);
    g_free(m);
}

static void answer_made(struct worker *w, struct making *m)
{
    char id[GUID_STR_LEN + 1];
    guid_format(&m->c.id, id);
    if (m->call)
        vireo_machine1_complete_create_checkpoint(w->machine, g_steal_pointer(&m->call), NULL, id);
}

struct begun {
    struct worker *w;
    struct making *m;
};

/* The guest runs on: the caller need not wait for the memory. */
static gboolean on_begun(gpointer data)
{
    struct begun *b = data;
    worker_refresh_checkpoints(b->w);
    worker_refresh(b->w, VM_CHANGED_DISKS);
    if (!b->m->wait)
        answer_made(b->w, b->m);
    g_free(b);
    return G_SOURCE_REMOVE;
}

static struct vm_checkpointing *begin_frozen(struct worker *w, struct making *m, err *e)
{
    err late = ERR_INIT;
    if (!vm_freeze(w->vm, e))
        return NULL;
    m->c.kind = CHECKPOINT_PRODUCTION;
    m->c.memory = false;
    struct vm_checkpointing *k = vm_checkpoint_begin(w->vm, w->folder, m->base, &m->c, e);
    if (!vm_thaw(w->vm, &late))
        log_line(LOG_WARNING, "checkpoint", "%s", late.text);
    return k;
}

static struct vm_checkpointing *begin_making(struct worker *w, struct making *m, err *e)
{
    if (m->production && worker_is(w, "running")) {
        struct vm_checkpointing *k = begin_frozen(w, m, e);
        if (k || !m->fallback)
            return k;
        log_line(LOG_WARNING, "checkpoint", "%s; a standard checkpoint is made instead", e->text);
        *e = (err)ERR_INIT;
        m->c.kind = CHECKPOINT_STANDARD;
        m->c.memory = true;
    }
    return vm_checkpoint_begin(w->vm, w->folder, m->base, &m->c, e);
}

static bool run_making(struct worker *w, gpointer data, err *e)
{
    struct making *m = data;
    struct vm_checkpoint_times t;
    struct pace pace = {.w = w, .text = "Writing memory"};
    const struct vm_progress p = {on_progress, &pace};
    struct vm_checkpointing *k = begin_making(w, m, e);
    if (!k)
        return false;
    vm_checkpoint_get_times(k, &t);
    log_line(LOG_INFO, "checkpoint",
             "\"%s\": the guest stood still for %.1f ms (pause %.1f, state %.1f, fork %.1f), after "
             "%.1f ms for I/O to end",
             m->c.name, (double)t.stall_ns / 1e6, (double)t.pause_ns / 1e6, (double)t.save_ns / 1e6,
             (double)t.fork_ns / 1e6, (double)t.drain_ns / 1e6);
    struct begun *b = g_new0(struct begun, 1);
    *b = (struct begun){w, m};
    g_idle_add(on_begun, b);
    return vm_checkpoint_finish(k, &p, e);
}

static void making_done(struct worker *w, gpointer data, const err *e)
{
    struct making *m = data;
    if (e && m->call)
        worker_fail(g_steal_pointer(&m->call), e);
    else
        answer_made(w, m);
    if (e)
        w->sweep = TRUE;
    else
        worker_check_later(w);
    worker_refresh_checkpoints(w);
    operation_end(w, "Making a checkpoint", e);
    making_free(m);
}

/* `kind` NULL: as the settings say. */
static bool choose_kind(struct worker *w, struct making *m, const char *kind, err *e)
{
    m->fallback = w->config->checkpoint_fallback;
    m->c.memory = true;
    if (kind && !checkpoint_kind_parse(kind, &m->c.kind))
        return err_set(e, ERR_INVALID, "A checkpoint is standard, production or automatic.");
    if (!kind && w->config->checkpoints == VM_CHECKPOINTS_OFF)
        return err_set(e, ERR_DENIED, "Checkpoints are switched off in the machine's settings.");
    m->production = kind ? m->c.kind == CHECKPOINT_PRODUCTION
                         : w->config->checkpoints == VM_CHECKPOINTS_PRODUCTION;
    return true;
}

static struct making *making_new(struct worker *w, err *e)
{
    struct making *m = g_new0(struct making, 1);
    m->base = vm_config_copy(w->config, e);
    if (m->base)
        return m;
    making_free(m);
    return NULL;
}

static gboolean on_create(VireoMachine1 *machine, GDBusMethodInvocation *call, GUnixFDList *fds,
                          GVariant *options, GVariant *files, struct worker *w);

static void create_again(struct worker *w, GDBusMethodInvocation *call)
{
    GVariant *parameters = g_dbus_method_invocation_get_parameters(call);
    g_autoptr(GVariant) options = g_variant_get_child_value(parameters, 0);
    g_autoptr(GVariant) files = g_variant_get_child_value(parameters, 1);
    GDBusMessage *message = g_dbus_method_invocation_get_message(call);
    on_create(w->machine, call, g_dbus_message_get_unix_fd_list(message), options, files, w);
}

static gboolean on_create(VireoMachine1 *machine, GDBusMethodInvocation *call, GUnixFDList *fds,
                          GVariant *options, GVariant *files, struct worker *w)
{
    static const char *const known[] = {"name", "notes", "kind", "memory", "wait", NULL};
    const char *name = NULL, *notes = NULL, *kind = NULL, *key;
    gboolean memory = TRUE, wait = FALSE;
    GVariantIter iter;
    err e = ERR_INIT;
    if (!ready_after_merge(w, call, create_again))
        return TRUE;
    g_variant_iter_init(&iter, options);
    while (g_variant_iter_next(&iter, "{&sv}", &key, NULL))
        if (!g_strv_contains(known, key))
            return call_fail(call, ERR_INVALID, "There is no such option.");
    g_variant_lookup(options, "name", "&s", &name);
    g_variant_lookup(options, "notes", "&s", &notes);
    g_variant_lookup(options, "kind", "&s", &kind);
    g_variant_lookup(options, "memory", "b", &memory);
    g_variant_lookup(options, "wait", "b", &wait);
    struct making *m = making_new(w, &e);
    if (!m || !choose_kind(w, m, kind, &e)) {
        if (m)
            making_free(m);
        worker_fail(call, &e);
        return TRUE;
    }
    m->call = call;
    m->wait = wait;
    m->c.memory = m->c.memory && memory;
    m->c.name = name && *name ? strdup(name) : NULL;
    m->c.notes = notes && *notes ? strdup(notes) : NULL;
    operation_begin(w, "checkpoint");
    worker_run(w, run_making, making_done, m);
    return TRUE;
}

void worker_started(struct worker *w, gboolean resumed)
{
    err e = ERR_INIT;
    worker_refresh_checkpoints(w);
    if (!w->folder || w->ended)
        return;
    worker_note_running(w, TRUE);
    worker_check_later(w);
    struct making *m =
        !resumed && w->config->checkpoint_automatic && w->config->checkpoints != VM_CHECKPOINTS_OFF
            ? making_new(w, &e)
            : NULL;
    if (!m) {
        sweep(w);
        return;
    }
    m->c.kind = CHECKPOINT_AUTOMATIC;
    m->c.memory = true;
    w->sweep = TRUE;
    operation_begin(w, "checkpoint");
    worker_run(w, run_making, making_done, m);
}

/* ---- save ---- */

static bool run_save(struct worker *w, gpointer data, err *e)
{
    struct pace pace = {.w = w, .text = "Saving the machine"};
    const struct vm_progress p = {on_progress, &pace};
    return vm_save_to_disk(w->vm, w->folder, w->config, &p, e);
}

/* The machine is off in every sense but that somebody may still wait for an answer of it. */
struct departure {
    struct worker *w;
    GDBusMethodInvocation *call;
    const char *state, *reason;
    void (*answer)(VireoMachine1 *machine, GDBusMethodInvocation *call);
};

static gboolean depart(gpointer data)
{
    struct departure *d = data;
    struct worker *w = d->w;
    if (w->busy)
        return G_SOURCE_CONTINUE;
    if (w->ended) { /* by itself meanwhile */
        if (d->call)
            d->answer(w->machine, d->call);
        g_free(d);
        return G_SOURCE_REMOVE;
    }
    worker_serial_drain(w->serial);
    worker_serial_attach(w->serial, NULL);
    worker_console_gone(w);
    worker_remote_gone(w->remote);
    worker_session_gone(w->session);
    vm_free(w->vm);
    w->vm = NULL;
    worker_files_close(w->files);
    worker_hide(w);
    worker_end(w, d->state, d->reason);
    if (d->call)
        d->answer(w->machine, d->call);
    if (w->inhibitor >= 0)
        close(w->inhibitor);
    w->inhibitor = -1;
    g_free(d);
    return G_SOURCE_REMOVE;
}

void worker_depart(struct worker *w, const char *state, const char *reason,
                   GDBusMethodInvocation *call,
                   void (*answer)(VireoMachine1 *machine, GDBusMethodInvocation *call))
{
    g_atomic_int_set(&w->over, 1);
    struct departure *d = g_new0(struct departure, 1);
    *d = (struct departure){w, call, state, reason, answer};
    if (depart(d) == G_SOURCE_CONTINUE)
        g_timeout_add(IDLE_MS, depart, d);
}

static void save_done(struct worker *w, gpointer data, const err *e)
{
    GDBusMethodInvocation *call = data;
    if (!e) {
        w->leaving = FALSE;
        operation_end(w, "Saving the machine", NULL);
        worker_depart(w, "saved", "", call, vireo_machine1_complete_save);
        return;
    }
    if (call)
        worker_fail(call, e);
    if (!w->ended) {
        g_autofree char *why = g_utf8_make_valid(e->text, -1);
        worker_set_state(w, w->was_paused ? "paused" : "running", why);
    }
    gboolean leaving = w->leaving;
    w->leaving = FALSE;
    operation_end(w, "Saving the machine", e);
    if (leaving) {
        vm_power_off(w->vm);
        worker_end(w, "off", "The machine could not be saved when its session ended.");
    }
}

static void start_save(struct worker *w, GDBusMethodInvocation *call)
{
    w->was_paused = worker_is(w, "paused");
    operation_begin(w, "save");
    worker_set_state(w, "saving", "");
    worker_run(w, run_save, save_done, call);
}

static void save_again(struct worker *w, GDBusMethodInvocation *call)
{
    if (ready(w, call))
        start_save(w, call);
}

static gboolean on_save(VireoMachine1 *machine, GDBusMethodInvocation *call, struct worker *w)
{
    if (ready_after_merge(w, call, save_again))
        start_save(w, call);
    return TRUE;
}

/* ---- the session ends ---- */

static gboolean shutdown_late(gpointer data)
{
    struct worker *w = data;
    if (!w->ended && w->vm) {
        vm_power_off(w->vm);
        worker_end(w, "off", "The guest did not shut down in time when its session ended.");
    }
    return G_SOURCE_REMOVE;
}

static bool run_guest_off(struct worker *w, gpointer data, err *e)
{
    return vm_shutdown(w->vm, SHUTDOWN_POWER_OFF, true, e);
}

static void guest_off_done(struct worker *w, gpointer data, const err *e)
{
    if (e)
        shutdown_late(w);
    else
        g_timeout_add_seconds(SHUTDOWN_PATIENCE_S, shutdown_late, w);
}

void worker_leave(struct worker *w)
{
    if (w->ended)
        return;
    w->session_over = TRUE;
    if (w->saving && !worker_is(w, "saving")) { /* a merge is begun again, a checkpoint is made */
        w->leaving = TRUE;
        if (w->operation && g_str_has_prefix(w->operation, "merge"))
            g_atomic_int_set(&w->cancel, 1);
        return;
    }
    if (worker_is(w, "saving")) {
        w->leaving = TRUE;
        return;
    }
    gboolean live = worker_is_live(w);
    if (live && w->folder && w->config->autostop == VM_AUTOSTOP_SAVE) {
        w->leaving = TRUE;
        start_save(w, NULL);
    } else if (live && w->config->autostop == VM_AUTOSTOP_SHUTDOWN) {
        worker_run(w, run_guest_off, guest_off_done, NULL);
    } else {
        if (w->vm)
            vm_power_off(w->vm);
        worker_end(w, "off", "The machine was turned off because its session ended.");
    }
}

/* ---- apply ---- */

struct application {
    struct guid id;
    GDBusMethodInvocation *call;
    gboolean memory;
    struct checkpoint_layers layers;
};

static bool run_apply(struct worker *w, gpointer data, err *e)
{
    struct application *a = data;
    struct checkpoint_tree t;
    if (!checkpoint_tree_load(w->folder, &t, e))
        return false;
    for (size_t i = 0; i < t.n; i++)
        if (guid_equal(&t.list[i].id, &a->id))
            a->memory = t.list[i].memory;
    checkpoint_tree_clear(&t);
    return checkpoint_apply_layers(w->folder, &a->id, &a->layers, e);
}

static void apply_done(struct worker *w, gpointer data, const err *e)
{
    struct application *a = data;
    if (e) {
        worker_fail(a->call, e);
        operation_end(w, "Applying a checkpoint", e);
    } else {
        w->leaving = FALSE;
        w->sweep = FALSE;
        if (w->vm)
            vm_power_off(w->vm);
        operation_end(w, "Applying a checkpoint", NULL);
        worker_depart(w, a->memory ? "saved" : "off", "A checkpoint was applied.", a->call,
                      vireo_machine1_complete_apply_checkpoint);
    }
    checkpoint_layers_clear(&a->layers);
    g_free(a);
}

static gboolean on_apply(VireoMachine1 *machine, GDBusMethodInvocation *call, const char *id,
                         GVariant *layers, struct worker *w);

static void apply_again(struct worker *w, GDBusMethodInvocation *call)
{
    const char *id;
    g_autoptr(GVariant) layers = NULL;
    g_variant_get(g_dbus_method_invocation_get_parameters(call), "(&s@a(uus))", &id, &layers);
    on_apply(w->machine, call, id, layers, w);
}

/* A merge that ended meanwhile has put the client's new layers, which lie in the folder, on what is
 * there now. */
static gboolean on_apply(VireoMachine1 *machine, GDBusMethodInvocation *call, const char *id,
                         GVariant *layers, struct worker *w)
{
    struct guid g;
    if (!ready_after_merge(w, call, apply_again) || !parse_id(id, &g, call))
        return TRUE;
    struct application *a = g_new0(struct application, 1);
    GVariantIter iter;
    const char *name;
    guint32 bus, slot;
    a->id = g;
    a->call = call;
    g_variant_iter_init(&iter, layers);
    while (a->layers.n < CHECKPOINT_LAYERS &&
           g_variant_iter_next(&iter, "(uu&s)", &bus, &slot, &name))
        a->layers.leaf[a->layers.n++] = (struct checkpoint_leaf){bus, slot, strdup(name)};
    operation_begin(w, "apply");
    worker_run(w, run_apply, apply_done, a);
    return TRUE;
}

/* ---- names, notes, deleting ---- */

static gboolean answer(struct worker *w, GDBusMethodInvocation *call, bool ok, const err *e)
{
    if (ok)
        g_dbus_method_invocation_return_value(call, NULL);
    else
        worker_fail(call, e);
    worker_refresh_checkpoints(w);
    return TRUE;
}

static gboolean on_rename(VireoMachine1 *machine, GDBusMethodInvocation *call, const char *id,
                          const char *name, struct worker *w)
{
    struct guid g;
    err e = ERR_INIT;
    if (!w->folder || !parse_id(id, &g, call))
        return w->folder ? TRUE : call_fail(call, ERR_NOT_FOUND, "There is no such checkpoint.");
    return answer(w, call, checkpoint_rename(w->folder, &g, name, &e), &e);
}

static gboolean on_notes(VireoMachine1 *machine, GDBusMethodInvocation *call, const char *id,
                         const char *notes, struct worker *w)
{
    struct guid g;
    err e = ERR_INIT;
    if (!w->folder || !parse_id(id, &g, call))
        return w->folder ? TRUE : call_fail(call, ERR_NOT_FOUND, "There is no such checkpoint.");
    return answer(w, call, checkpoint_set_notes(w->folder, &g, notes, &e), &e);
}

static gboolean on_delete(VireoMachine1 *machine, GDBusMethodInvocation *call, const char *id,
                          gboolean subtree, struct worker *w)
{
    struct guid g;
    err e = ERR_INIT;
    if (!w->folder || !parse_id(id, &g, call))
        return w->folder ? TRUE : call_fail(call, ERR_NOT_FOUND, "There is no such checkpoint.");
    bool ok = checkpoint_delete(w->folder, &g, subtree, &e);
    answer(w, call, ok, &e);
    if (ok)
        sweep(w);
    return TRUE;
}

static gboolean on_cancel(VireoMachine1 *machine, GDBusMethodInvocation *call,
                          const char *operation, struct worker *w)
{
    if (!w->saving || g_strcmp0(operation, w->operation) != 0)
        return call_fail(call, ERR_NOT_FOUND, "There is no such operation any more.");
    g_atomic_int_set(&w->cancel, 1);
    vireo_machine1_complete_cancel(machine, call);
    return TRUE;
}

void worker_export_checkpoints(struct worker *w)
{
    static const struct {
        const char *signal;
        GCallback fn;
    } handlers[] = {
        {"handle-save", G_CALLBACK(on_save)},
        {"handle-create-checkpoint", G_CALLBACK(on_create)},
        {"handle-apply-checkpoint", G_CALLBACK(on_apply)},
        {"handle-rename-checkpoint", G_CALLBACK(on_rename)},
        {"handle-set-checkpoint-notes", G_CALLBACK(on_notes)},
        {"handle-delete-checkpoint", G_CALLBACK(on_delete)},
        {"handle-cancel", G_CALLBACK(on_cancel)},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(handlers); i++)
        g_signal_connect(w->machine, handlers[i].signal, handlers[i].fn, w);
}
