/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The integration services and dynamic memory, as a script asks them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "tests/e2e/drive.h"

/* Until the guest is ready for it, or the time-out. */
void ask_until(struct drive *d, struct ask *a, void (*fn)(void *ctx))
{
    uint64_t end = clock_ns() + d->timeout_s * UINT64_C(1000000000);
    a->d = d;
    do {
        a->e = (err)ERR_INIT;
        on_io(d, fn, a);
        if (a->ok)
            return;
        usleep(200000);
    } while (clock_ns() < end);
    die(d, "%s", a->e.text[0] ? a->e.text : "did not come about");
}

void ask_shutdown(void *ctx)
{
    struct ask *a = ctx;
    enum shutdown_kind k = !strcmp(a->w[1], "reboot")      ? SHUTDOWN_REBOOT
                           : !strcmp(a->w[1], "hibernate") ? SHUTDOWN_HIBERNATE
                                                           : SHUTDOWN_POWER_OFF;
    a->ok = integration_shutdown(a->d->v->services, k, false, answer, a->d, &a->e);
}
void ask_fact(void *ctx)
{
    struct ask *a = ctx;
    const char *v = integration_fact(a->d->v->services, a->w[1]);
    a->ok = v && (a->n < 3 || strstr(v, a->w[2]));
    err_set(&a->e, ERR_STATE, "%s is \"%s\"", a->w[1], v ? v : "(not known)");
    if (a->ok)
        printf("drive: %s = %s\n", a->w[1], v);
}
void ask_heartbeat(void *ctx)
{
    static const char *const names[] = {"none", "ok", "lost"};
    struct ask *a = ctx;
    a->ok = !strcmp(names[integration_heartbeat(a->d->v->services)], a->w[1]);
    err_set(&a->e, ERR_STATE, "heartbeat is %s", names[integration_heartbeat(a->d->v->services)]);
}
static void on_item(void *ctx, const char *key, const char *value)
{
    struct drive *d = ctx;
    if (!strcmp(key, d->key))
        snprintf(d->value, sizeof d->value, "%s", value);
}
void ask_kvp_set(void *ctx)
{
    struct ask *a = ctx;
    a->ok =
        integration_kvp_set(a->d->v->services, KVP_EXTERNAL, a->w[1], a->w[2], answer, a->d, &a->e);
}
void ask_kvp_get(void *ctx)
{
    struct ask *a = ctx;
    a->d->key = a->w[2];
    a->d->value[0] = 0;
    a->ok = integration_kvp_enumerate(a->d->v->services, (enum kvp_pool)atoi(a->w[1]), on_item,
                                      answer, a->d, &a->e);
}
void ask_freeze(void *ctx)
{
    struct ask *a = ctx;
    a->ok = integration_can_freeze(a->d->v->services) &&
            integration_freeze(a->d->v->services, 60, answer, a->d, &a->e);
}
void ask_thaw(void *ctx)
{
    struct ask *a = ctx;
    a->ok = integration_thaw(a->d->v->services, answer, a->d, &a->e);
}
void ask_copy(void *ctx)
{
    struct ask *a = ctx;
    struct stat st;
    if (a->fd < 0)
        a->fd = open(a->w[1], O_RDONLY | O_CLOEXEC);
    if (fstat(a->fd, &st) != 0)
        die(a->d, "%s: %s", a->w[1], strerror(errno));
    a->ok = integration_copy_file(a->d->v->services,
                                  &(struct integration_copy){.fd = a->fd,
                                                             .size = (uint64_t)st.st_size,
                                                             .folder = a->w[2],
                                                             .name = a->w[3],
                                                             .overwrite = true,
                                                             .create_path = true,
                                                             .done = answer,
                                                             .ctx = a->d},
                                  &a->e);
}
void ask_memory(void *ctx)
{
    struct ask *a = ctx;
    struct balloon_status s;
    a->ok = balloon_set_target(a->d->v->balloon, MIB(strtoull(a->w[1], NULL, 10)), &a->e);
    balloon_status(a->d->v->balloon, &s);
    a->ok = a->ok && s.connected;
}
void ask_assigned(void *ctx)
{
    struct ask *a = ctx;
    struct balloon_status s;
    balloon_status(a->d->v->balloon, &s);
    a->ok = s.assigned == MIB(strtoull(a->w[1], NULL, 10));
    err_set(&a->e, ERR_STATE, "the guest has %llu KiB", (unsigned long long)(s.assigned >> 10));
}
void ask_sync(void *ctx)
{
    struct ask *a = ctx;
    integration_sync_time(a->d->v->services);
    a->ok = true;
}

void need_status(struct drive *d, const char *want)
{
    uint32_t status = wait_answer(d);
    if (status != (want ? (uint32_t)strtoul(want, NULL, 16) : 0))
        die(d, "the guest answered 0x%x", status);
}
