/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Calls of org.vireo.Machine1: what their handlers share. Main thread, but for what says otherwise.
 */
#ifndef VIREO_WORKER_CALL_H
#define VIREO_WORKER_CALL_H

#include "app/worker/worker.h"

/* A call that is worked on in a thread. */
struct call {
    struct worker *w;
    GDBusMethodInvocation *call;
    bool (*run)(struct call *j, err *e); /* in the thread */
    void (*done)(struct call *j);        /* on the main thread: answers; NULL: an empty answer */
    /* arguments and results */
    char *text, *text2; /* g_free'd */
    int fd, kind;       /* fd: closed; -1: none */
    uint32_t number;
    uint64_t size;
    bool flag, flag2, ends; /* ends: the worker is of no use if it fails */
    struct vm_disk_request disk;
    struct vm_adapter_settings adapter;
    uint8_t mac[6];
    char id[VM_ID_LEN];
};

/* One that is not started is freed. */
struct call *call_new(struct worker *w, GDBusMethodInvocation *call);
void call_free(struct call *j);
/* Takes `j`. Always TRUE: the call is handled. */
gboolean call_start(struct call *j, bool (*run)(struct call *j, err *e));

/* Answers with an error. Always TRUE. */
gboolean call_fail(GDBusMethodInvocation *call, enum err_code code, const char *text);
/* Answers with an error unless the machine runs or is paused. */
gboolean call_need_live(struct worker *w, GDBusMethodInvocation *call);
/* Only these keys may be there; answers with an error otherwise. */
gboolean call_keys_known(GVariant *dict, const char *const *keys, GDBusMethodInvocation *call);
/* A boolean option; false where there is none. */
bool call_option(GVariant *options, const char *key);
/* The machine cannot be made or started: the worker goes. Always TRUE. */
gboolean call_start_failed(struct worker *w, GDBusMethodInvocation *call, const err *e);

#endif
