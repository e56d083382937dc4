/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Key-value exchange: a queue of jobs for the guest's daemon, one in its hands at a time; and the
 * facts that the guest publishes about itself, read by an enumeration of ours.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/vsp/integration-internal.h"
#include "core/vsp/utf16.h"

enum { REFRESH_S = 30, MAX_ITEMS = 1024 };
#define REFRESH_NS (REFRESH_S * UINT64_C(1000000000))

static void next_job(struct integration *i);

/* ---- facts ---- */

const char *integration_fact(const struct integration *i, const char *key)
{
    for (unsigned n = 0; n < i->fact_count; n++)
        if (strcmp(i->facts[n].key, key) == 0)
            return i->facts[n].value;
    return NULL;
}

void integration_each_fact(const struct integration *i, kvp_item_fn *fn, void *ctx)
{
    for (unsigned n = 0; n < i->fact_count; n++)
        fn(ctx, i->facts[n].key, i->facts[n].value);
}

static void fact_read(void *ctx, const char *key, const char *value)
{
    struct integration *i = ctx;
    if (i->fact_new_count == KVP_MAX_FACTS)
        return;
    struct kvp_fact *f = &i->facts_new[i->fact_new_count++];
    memset(f, 0, sizeof *f);
    snprintf(f->key, sizeof f->key, "%s", key);
    snprintf(f->value, sizeof f->value, "%s", value);
}

static void facts_done(void *ctx, uint32_t status)
{
    struct integration *i = ctx;
    loop_timer_arm_in(&i->kvp_timer, REFRESH_NS);
    if (status != IC_STATUS_OK)
        return;
    bool same = i->fact_count == i->fact_new_count &&
                memcmp(i->facts, i->facts_new, i->fact_count * sizeof *i->facts) == 0;
    struct kvp_fact *old = i->facts;
    i->facts = i->facts_new;
    i->facts_new = old;
    i->fact_count = i->fact_new_count;
    if (!same && i->p.facts_changed)
        i->p.facts_changed(i->p.ctx);
}

/* ---- jobs ---- */

static void end_job(struct integration *i, uint32_t status)
{
    struct kvp_job *j = i->jobs;
    i->jobs = j->next;
    if (!i->jobs)
        i->jobs_end = &i->jobs;
    i->job_count--;
    i->kvp_busy = false;
    if (j->done)
        j->done(j->ctx, status);
    free(j->value);
    free(j);
}

static bool send_job(struct integration *i, const struct kvp_job *j)
{
    struct kvp_head head = {.op = j->op, .pool = j->pool};
    struct kvp_enumerate e = {.h = head, .index = j->index};
    struct kvp_delete d = {.h = head};
    struct kvp_exchange x = {.h = head, .v.type = KVP_REG_SZ};
    if (j->op == KVP_ENUMERATE)
        return ic_request(&i->kvp, &e, sizeof e, KVP_TIMEOUT_S);
    if (j->op == KVP_DELETE) {
        /* the guest's answer is as long as the request: the size of an exchange is safe */
        d.key_bytes = (uint32_t)utf16_encode(j->key, d.key, sizeof d.key);
        memcpy(&x, &d, sizeof d);
        return ic_request(&i->kvp, &x, sizeof x, KVP_TIMEOUT_S);
    }
    x.v.key_bytes = (uint32_t)utf16_encode(j->key, x.v.key, sizeof x.v.key);
    if (j->value)
        x.v.value_bytes = (uint32_t)utf16_encode(j->value, x.v.value, sizeof x.v.value);
    return ic_request(&i->kvp, &x, sizeof x, KVP_TIMEOUT_S);
}

static void next_job(struct integration *i)
{
    if (!i->kvp_busy && i->jobs && ic_is_free(&i->kvp))
        i->kvp_busy = send_job(i, i->jobs);
}

static void give_item(const struct kvp_job *j, const struct kvp_value *v)
{
    char key[KVP_KEY_TEXT * 3], value[KVP_VALUE_TEXT * 3 + 1];
    utf16_decode(v->key, MIN(v->key_bytes, sizeof v->key), key, sizeof key);
    utf16_decode(v->value, MIN(v->value_bytes, sizeof v->value), value, sizeof value);
    if (j->item)
        j->item(j->ctx, key, value);
}

static void enumerated(struct integration *i, struct kvp_job *j, uint32_t status, const void *body,
                       size_t len)
{
    struct kvp_enumerate e;
    if (status == IC_STATUS_NO_MORE || j->index == MAX_ITEMS) {
        end_job(i, IC_STATUS_OK);
    } else if (status || len < sizeof e) {
        end_job(i, status ? status : (uint32_t)IC_STATUS_FAIL);
    } else {
        memcpy(&e, body, sizeof e);
        give_item(j, &e.v);
        j->index++;
        i->kvp_busy = false;
    }
}

static void on_answer(void *ctx, uint32_t status, const void *body, size_t len)
{
    struct integration *i = ctx;
    struct kvp_job *j = i->jobs;
    struct kvp_exchange x;
    if (status == IC_STATUS_GONE)
        return; /* and closed follows */
    if (j && j->op == KVP_ENUMERATE) {
        enumerated(i, j, status, body, len);
    } else if (j) {
        if (j->op == KVP_GET && !status && len >= sizeof x) {
            memcpy(&x, body, sizeof x);
            give_item(j, &x.v);
        }
        end_job(i, status);
    }
    next_job(i);
}

static void on_closed(void *ctx)
{
    struct integration *i = ctx;
    while (i->jobs)
        end_job(i, IC_STATUS_GONE);
    loop_timer_disarm(&i->kvp_timer);
}

static bool usable(const struct integration *i, err *e)
{
    if (!(i->p.services & INTEGRATION_KVP) || i->kvp.phase != IC_READY)
        return err_set(e, ERR_STATE, "The guest's key-value daemon is not there");
    if (i->job_count >= KVP_MAX_JOBS)
        return err_set(e, ERR_BUSY, "The guest has too many key-value requests to answer");
    return true;
}

static bool add_job(struct integration *i, const struct kvp_job *from, const char *value, err *e)
{
    struct kvp_job *j = usable(i, e) ? malloc(sizeof *j) : NULL;
    if (!j)
        return false;
    *j = *from;
    if (value && !(j->value = strdup(value))) {
        free(j);
        return err_set(e, ERR_NO_MEMORY, "There is no memory for the request");
    }
    *i->jobs_end = j;
    i->jobs_end = &j->next;
    i->job_count++;
    next_job(i);
    return true;
}

/* Room for any text is a matter of the wire's sizes. */
static bool add_keyed(struct integration *i, struct kvp_job *j, const char *key, const char *value,
                      err *e)
{
    uint8_t wire[KVP_VALUE_BYTES];
    if (!*key || strlen(key) >= sizeof j->key || !utf16_encode(key, wire, KVP_KEY_BYTES))
        return err_set(e, ERR_INVALID, "\"%.40s\" is no key that a guest takes", key);
    if (value && !utf16_encode(value, wire, sizeof wire))
        return err_set(e, ERR_INVALID, "The value of \"%.40s\" is too long for a guest", key);
    snprintf(j->key, sizeof j->key, "%s", key);
    return add_job(i, j, value, e);
}

bool integration_kvp_get(struct integration *i, enum kvp_pool pool, const char *key,
                         kvp_item_fn *item, integration_done_fn *done, void *ctx, err *e)
{
    struct kvp_job j = {
        .op = KVP_GET, .pool = (uint8_t)pool, .item = item, .done = done, .ctx = ctx};
    return add_keyed(i, &j, key, NULL, e);
}

bool integration_kvp_set(struct integration *i, enum kvp_pool pool, const char *key,
                         const char *value, integration_done_fn *done, void *ctx, err *e)
{
    struct kvp_job j = {.op = KVP_SET, .pool = (uint8_t)pool, .done = done, .ctx = ctx};
    return add_keyed(i, &j, key, value, e);
}

bool integration_kvp_delete(struct integration *i, enum kvp_pool pool, const char *key,
                            integration_done_fn *done, void *ctx, err *e)
{
    struct kvp_job j = {.op = KVP_DELETE, .pool = (uint8_t)pool, .done = done, .ctx = ctx};
    return add_keyed(i, &j, key, NULL, e);
}

bool integration_kvp_enumerate(struct integration *i, enum kvp_pool pool, kvp_item_fn *item,
                               integration_done_fn *done, void *ctx, err *e)
{
    struct kvp_job j = {
        .op = KVP_ENUMERATE, .pool = (uint8_t)pool, .item = item, .done = done, .ctx = ctx};
    return add_job(i, &j, NULL, e);
}

static void read_facts(void *ctx)
{
    struct integration *i = ctx;
    i->fact_new_count = 0;
    if (!integration_kvp_enumerate(i, KVP_AUTO, fact_read, facts_done, i, NULL))
        loop_timer_arm_in(&i->kvp_timer, REFRESH_NS);
}

static void on_ready(void *ctx, struct ic_version v)
{
    struct integration *i = ctx;
    if (!i->jobs)
        read_facts(i);
    next_job(i);
}

static bool init(struct integration *i, err *e)
{
    static const struct ic_version versions[] = {{1, 0}, {3, 0}, {4, 0}};
    static const struct ic_ops ops = {.ready = on_ready, .answer = on_answer, .closed = on_closed};
    i->jobs_end = &i->jobs;
    loop_timer_init(&i->kvp_timer, i->loop, read_facts, i);
    return ic_init(
        &i->kvp,
        &(struct ic_params){.bus = i->p.bus,
                            .name = "kvp",
                            .class_id = GUID(0xa9a0f4e7, 0x5a45, 0x4d96, 0xb827, 0x8a841e8c03e6),
                            .instance = GUID(0x242ff919, 0x07db, 0x4180, 0x9c2e, 0xb86cb68c8c55),
                            .type = IC_KVP,
                            .versions = versions,
                            .nversions = ARRAY_LEN(versions),
                            .max_packet = 16384,
                            .ops = &ops,
                            .ctx = i},
        e);
}

static void finish(struct integration *i)
{
    ic_finish(&i->kvp);
    on_closed(i);
}

static void start(struct integration *i)
{
    ic_start(&i->kvp);
    if (i->kvp.phase == IC_READY)
        loop_timer_arm_in(&i->kvp_timer, REFRESH_NS);
}

static void stop(struct integration *i)
{
    ic_stop(&i->kvp);
    loop_timer_disarm(&i->kvp_timer);
}

static void restored(struct integration *i)
{
    ic_restored(&i->kvp);
}

const struct integration_service integration_kvp_service = {INTEGRATION_KVP, init, finish,
                                                            start,           stop, restored};
