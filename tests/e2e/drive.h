/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the parts of drive share: the machine being driven, waiting for it, and asking its services.
 */
#ifndef VIREO_TESTS_E2E_DRIVE_H
#define VIREO_TESTS_E2E_DRIVE_H

#include <pthread.h>
#include <setjmp.h>

#include "core/machine/vm-int.h"

enum { OUTPUT_MAX = 8 << 20, WORDS = 12, MAX_FAILED = 20 };

struct drive {
    struct vm *v;
    struct machine *m;
    struct vm_config *config;
    struct hvsock_bridge *bridge;
    const char *vsock, *switches;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    char *out;
    size_t len, seen; /* of the serial output; what expect has passed */
    char said[16384]; /* lines of the log; the first that have room */
    bool ended;
    struct machine_report report;

    /* answers of services, by the lock */
    bool answered;
    uint32_t status;
    const char *key;
    char value[1024];
    unsigned timeout_s;
    unsigned line, failed, commands;
    jmp_buf next_line;
};

/* A question to a service, put on the I/O thread. */
struct ask {
    struct drive *d;
    char **w;
    unsigned n;
    bool ok;
    err e;
    int fd;
    struct balloon_status balloon;
    enum heartbeat_state heartbeat;
    const char *want;
};

/* drive.c */
void must(struct drive *d, bool ok, const err *e);
void do_expect(struct drive *d, const char *text);
uint32_t wait_answer(struct drive *d);
void answer(void *ctx, uint32_t status);
void die(struct drive *d, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));
void do_send(struct drive *d, const char *text);
void on_io(struct drive *d, void (*fn)(void *ctx), void *ctx);

/* drive-services.c */
void ask_freeze(void *ctx);
void ask_kvp_set(void *ctx);
void ask_copy(void *ctx);
void need_status(struct drive *d, const char *want);
void ask_assigned(void *ctx);
void ask_shutdown(void *ctx);
void ask_thaw(void *ctx);
void ask_sync(void *ctx);
void ask_until(struct drive *d, struct ask *a, void (*fn)(void *ctx));
void ask_memory(void *ctx);
void ask_kvp_get(void *ctx);
void ask_fact(void *ctx);
void ask_heartbeat(void *ctx);

/* drive-sock.c */
void run_echo(struct drive *d, uint32_t port, unsigned streams, uint64_t bytes);
void ask_serve(void *ctx);
void expect_reset(struct drive *d, uint32_t port);
void drop_stream(struct drive *d, uint32_t port);

#endif
