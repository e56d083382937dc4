/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The worker's parts. A worker runs one machine: its main thread owns D-Bus (GLib's main loop), the
 * machine's I/O thread owns the devices. What a caller of D-Bus asks for is done on the main thread
 * when it is short, in a thread of GIO's pool when it may wait for the guest or a file.
 * Thread: the main thread, unless said.
 */
#ifndef VIREO_WORKER_WORKER_H
#define VIREO_WORKER_WORKER_H

#include <gio/gio.h>
#include <gio/gunixfdlist.h>

#include "core/machine/vm.h"
#include "session/usb/usb-service.h"
#include "vireo-display1.h"
#include "vireo-machine1.h"

#define WORKER_MACHINE_PATH "/org/vireo/Machine1"
#define WORKER_CONSOLE_PATH "/org/qemu/Display1/Console_0"
#define WORKER_VM_PATH "/org/qemu/Display1/VM"

struct worker_files;
struct worker_serial;
struct worker_log;
struct worker_session;
struct worker_remote;

struct worker {
    char *id, *folder; /* folder: NULL for a machine without one */
    char *runtime;     /* $XDG_RUNTIME_DIR/vireo/<id> */
    char *switches;
    int lock;
    gboolean sandbox, sandboxed; /* asked for; entered (for good) */
    gboolean inet;               /* allowed by it */

    GMainLoop *loop;
    GDBusServer *server;
    GPtrArray *connections;
    VireoMachine1 *machine;
    VireoDisplayVM *display;
    VireoDisplayConsole *console;
    VireoDisplayKeyboard *keyboard;
    VireoDisplayMouse *mouse;
    GPtrArray *viewers; /* struct viewer */

    struct worker_files *files;
    struct worker_serial *serial;
    struct worker_session *session;
    struct worker_remote *remote;
    struct vm_config *config;
    struct vm *vm;
    struct vm_extra extra;
    guint self_restore;     /* seconds; 0: never */
    GDBusConnection *owner; /* the machine goes with this connection; NULL: it outlives all */
    guint busy;             /* calls in other threads */
    gboolean saving;        /* a state, a checkpoint or a merge is under way: one at a time */
    gboolean sweep;         /* look for layers to merge when that is over */
    GDBusMethodInvocation *waiting; /* for a merge to give way, and then: */
    void (*redo)(struct worker *w, GDBusMethodInvocation *call);
    gboolean was_paused;   /* before it was saved */
    gboolean disposable;   /* its folder is emptied at the end */
    gboolean session_over; /* it ends because the session does: it starts with the next one */
    guint check;           /* timer of the next check of saved memory */
    GHashTable *checked;   /* checkpoints' ids: what is wrong with them, or "" */
    gint over;             /* atomic: what goes on in the background stops */
    gboolean leaving;      /* the session ends: save (or what is set) when that is over */
    gint cancel;           /* atomic: Cancel was called for it */
    char *operation;       /* its name in Progress */
    int inhibitor;         /* holds the computer's end back while we save; -1: none */
    guint unwanted;        /* times that nobody was connected before the start */
    gboolean ended, stopping;
    int status;   /* exit */
    gint changes; /* atomic: what the I/O thread said has changed */
};

/* main.c: another worker may take the machine over: nobody finds this one's socket any more, and
 * its lock is free. */
void worker_hide(struct worker *w);

/* worker.c */
void worker_set_state(struct worker *w, const char *state, const char *reason);
gboolean worker_is(struct worker *w, const char *state);
gboolean worker_is_live(struct worker *w); /* it runs or is paused */
/* The machine is off for good: tells so and ends the process a little later. */
void worker_end(struct worker *w, const char *state, const char *reason);
void worker_refresh(struct worker *w, unsigned changes); /* enum vm_changes, and console sizes */
bool worker_make_vm(struct worker *w, err *e);

/* Answers a call with an error of ours, org.vireo.Error.<Code>. */
void worker_fail(GDBusMethodInvocation *call, const err *e);
GQuark worker_error_quark(void);

/* machine.c: org.vireo.Machine1 */
void worker_export_machine(struct worker *w);
GVariant *worker_disks(struct worker *w);
GVariant *worker_adapters(struct worker *w);
GVariant *worker_facts(struct worker *w);

/* devices.c: its disks and adapters */
void worker_export_devices(struct worker *w);

/* checkpoints.c: saved states and checkpoints */
void worker_export_checkpoints(struct worker *w);
void worker_refresh_checkpoints(struct worker *w);
/* In a thread: boots, or resumes what was saved. */
bool worker_begin(struct worker *w, gboolean discard, gboolean paused, gboolean *resumed, err *e);
/* The machine runs: an automatic checkpoint, and merging what an earlier run left. */
void worker_started(struct worker *w, gboolean resumed);
/* The session ends: what the machine's settings say. */
void worker_leave(struct worker *w);
/* The machine is turned off and freed, and its lock let go; then `answer` is called. */
void worker_depart(struct worker *w, const char *state, const char *reason,
                   GDBusMethodInvocation *call,
                   void (*answer)(VireoMachine1 *machine, GDBusMethodInvocation *call));

/* check.c: saved memory is compared with its checksums, slowly, a while after the start and after a
 * checkpoint was made. */
void worker_check_later(struct worker *w);
const char *worker_check_says(struct worker *w, const char *id); /* "" unless it is damaged */
void worker_check_stop(struct worker *w);

/* kept.c: what the machine's folder says of its life. */
void worker_note_running(struct worker *w, gboolean running);
void worker_dispose(struct worker *w);

/* inhibit.c: before the system calls are shut. */
void worker_inhibit(struct worker *w);

/* job.c: `run` in a thread of GIO's pool, then `done` on the main thread. Takes `data`. */
typedef bool worker_run_fn(struct worker *w, gpointer data, err *e);
typedef void worker_done_fn(struct worker *w, gpointer data,
                            const err *e); /* e NULL: it succeeded */
void worker_run(struct worker *w, worker_run_fn *run, worker_done_fn *done, gpointer data);

/* info.c: the live view; NULL with *e: no such topic. Floating. */
GVariant *worker_info(struct worker *w, const char *topic, err *e);

/* usage.c: a row about what the machine has used. */
void worker_usage(struct worker *w, GVariantBuilder *b);

/* console.c: org.qemu.Display1 */
void worker_export_console(struct worker *w);
void worker_console_ready(struct worker *w); /* the VM is there */
void worker_console_gone(struct worker *w);  /* it is about to go */

/* files.c: descriptors by the names that configurations use. Any thread. */
struct worker_files *worker_files_new(void);
/* Opens a file of the system by itself, before the sandbox closes; no error if it is not there. */
void worker_files_add_own(struct worker_files *f, const char *path);
/* The machine's folder, which is the present one: what lies in it is opened by path. */
void worker_files_set_folder(struct worker_files *f, const char *folder);
/* Lets go of all, and with them of the locks on disks. */
void worker_files_close(struct worker_files *f);
void worker_files_free(struct worker_files *f);
/* `files` is a(sh). False: a damaged list. */
gboolean worker_files_add(struct worker_files *f, GVariant *files, GUnixFDList *fds, err *e);
struct disk_opener worker_files_opener(struct worker_files *f);
/* A descriptor that came by this name, now the caller's; -1: none. */
int worker_files_take(struct worker_files *f, const char *name);

/* serial.c: COM ports as streams. */
struct worker_serial *worker_serial_new(void);
void worker_serial_free(struct worker_serial *s); /* the VM is gone */
void worker_serial_attach(struct worker_serial *s, struct vm *vm);
/* Joins a port to what a client handed over: a stream socket that gets every byte (the guest waits
 * for it), a listening one, a terminal or a file. Takes fd. */
bool worker_serial_join(struct worker_serial *s, unsigned port, int fd, err *e);
/* The machine has ended: what the ports still hold goes out, as far as it is taken in 2 s. */
void worker_serial_drain(struct worker_serial *s);
/* I/O thread. */
size_t worker_serial_out(struct worker_serial *s, unsigned port, const uint8_t *data, size_t len);
/* One end of a stream, and what was written before (malloc'ed); -1 on failure. */
int worker_serial_open(struct worker_serial *s, unsigned port, uint8_t **history, size_t *len,
                       err *e);

/* session.c: the enhanced session and USB devices. */
struct worker_session *worker_session_new(void);
void worker_session_attach(struct worker_session *s, struct vm *vm, const struct vm_config *c);
gboolean worker_session_export(struct worker_session *s, GDBusConnection *connection);
/* The connection has ended. */
void worker_session_unexport(struct worker_session *s, GDBusConnection *connection);
/* How USB devices that do not come by org.vireo.Usb1 reach the guest; its context is `s`. */
const VireoUsbServiceOps *worker_session_usb(void);
/* What Console.SetUIInfo says; heeded if `from` is an enhanced console. */
void worker_session_size(struct worker_session *s, GDBusConnection *from, guint width, guint height,
                         guint width_mm, guint height_mm);
void worker_session_gone(struct worker_session *s); /* the VM is about to go */
void worker_session_free(struct worker_session *s); /* the VM is gone */

/* log.c: the VM's event log, and the Event signal. */
void worker_log_start(struct worker *w);
void worker_log_stop(struct worker *w);

/* remote.c: the console for SPICE and VNC clients. `w` has its session. */
struct worker_remote *worker_remote_new(struct worker *w);
void worker_remote_attach(struct worker_remote *r); /* the VM is there */
gboolean worker_remote_export(struct worker_remote *r, GDBusConnection *connection);
void worker_remote_unexport(struct worker_remote *r, GDBusConnection *connection);
void worker_remote_gone(struct worker_remote *r); /* the VM is about to go */
void worker_remote_free(struct worker_remote *r);

#endif
