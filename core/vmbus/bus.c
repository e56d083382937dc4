/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The bus: construction, mailbox from the VP threads, turns, devices, life cycle, live view. */
#include <stdatomic.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/hv/partition.h"
#include "core/vmbus/bus.h"

static void turn(void *ctx);

struct vmbus *vmbus_new(const struct vmbus_params *p, err *e)
{
    struct vmbus *b = calloc(1, sizeof *b);
    struct inbox_message *inbox = malloc(INBOX_MESSAGES * sizeof *inbox);
    if (!b || !inbox) {
        free(b);
        free(inbox);
        err_set(e, ERR_NO_MEMORY, "There is no memory for the virtual machine bus");
        return NULL;
    }
    b->loop = p->loop;
    b->memory = p->memory;
    b->t = *p->transport;
    b->max_version = p->max_version ? p->max_version : VMBUS_VERSION(5, 3);
    b->inbox = inbox;
    pthread_mutex_init(&b->inbox_lock, NULL);
    loop_post_init(&b->turn_post, turn, b);
    return b;
}

void vmbus_free(struct vmbus *b)
{
    if (!b)
        return;
    b->started = false;
    vmbus_disconnect(b);
    while (b->devices)
        vmbus_device_remove(b->devices);
    while (atomic_load(&b->turn_post.pending))
        loop_turn(b->loop, 0);
    pthread_mutex_destroy(&b->inbox_lock);
    free(b->inbox);
    free(b);
}

struct loop *vmbus_loop(struct vmbus *b)
{
    return b->loop;
}

struct hv_memory *vmbus_memory(struct vmbus *b)
{
    return b->memory;
}

unsigned vmbus_vp_count(const struct vmbus *b)
{
    return b->t.vp_count;
}

uint32_t vmbus_version(const struct vmbus *b)
{
    return b->version;
}

/* ---- from VP threads ---- */

int vmbus_post_message(struct vmbus *b, uint32_t connection, uint32_t type, const void *payload,
                       size_t len)
{
    if (connection != VMBUS_CONNECTION_MESSAGES && connection != VMBUS_CONNECTION_MESSAGES_5)
        return HV_STATUS_INVALID_CONNECTION_ID;
    if (type != VMBUS_MESSAGE_TYPE || len > VMBUS_MESSAGE_MAX)
        return HV_STATUS_INVALID_PARAMETER;
    pthread_mutex_lock(&b->inbox_lock);
    bool room = b->inbox_count < INBOX_MESSAGES;
    if (room) {
        struct inbox_message *m = &b->inbox[(b->inbox_head + b->inbox_count++) % INBOX_MESSAGES];
        m->connection = connection;
        m->len = (uint32_t)len;
        memcpy(m->payload, payload, len);
    }
    pthread_mutex_unlock(&b->inbox_lock);
    loop_post(b->loop, &b->turn_post);
    return room ? HV_STATUS_SUCCESS : HV_STATUS_INSUFFICIENT_BUFFERS;
}

bool vmbus_signal_event(struct vmbus *b, uint32_t connection)
{
    uint32_t relid = connection & 0xfff;
    if (connection != (VMBUS_SINT << 12 | relid) || !relid || relid > VMBUS_MAX_RELID)
        return false;
    atomic_fetch_or(&b->signalled[relid / 64], UINT64_C(1) << relid % 64);
    loop_post(b->loop, &b->turn_post);
    return true;
}

/* ---- turns ---- */

void vmbus_schedule(struct vmbus_channel *ch)
{
    struct vmbus *b = ch->bus;
    if (ch->scheduled || ch->state != VMBUS_CHANNEL_OPEN || !b->started)
        return;
    ch->scheduled = true;
    ch->prev = b->ready_last;
    ch->next = NULL;
    *(b->ready_last ? &b->ready_last->next : &b->ready_first) = ch;
    b->ready_last = ch;
    loop_post(b->loop, &b->turn_post);
}

void vmbus_unschedule(struct vmbus_channel *ch)
{
    struct vmbus *b = ch->bus;
    if (!ch->scheduled)
        return;
    ch->scheduled = false;
    *(ch->prev ? &ch->prev->next : &b->ready_first) = ch->next;
    *(ch->next ? &ch->next->prev : &b->ready_last) = ch->prev;
}

static bool take_message(struct vmbus *b, struct inbox_message *out)
{
    pthread_mutex_lock(&b->inbox_lock);
    bool any = b->inbox_count > 0;
    if (any) {
        *out = b->inbox[b->inbox_head];
        b->inbox_head = (b->inbox_head + 1) % INBOX_MESSAGES;
        b->inbox_count--;
    }
    pthread_mutex_unlock(&b->inbox_lock);
    return any;
}

static bool handle_messages(struct vmbus *b, unsigned budget)
{
    struct inbox_message m;
    for (; budget; budget--) {
        if (!take_message(b, &m))
            return false;
        vmbus_control(b, &m);
    }
    return true;
}

static void collect_signals(struct vmbus *b)
{
    for (unsigned i = 0; i < ARRAY_LEN(b->signalled); i++) {
        if (!atomic_load_explicit(&b->signalled[i], memory_order_relaxed))
            continue;
        uint64_t bits = atomic_exchange(&b->signalled[i], 0);
        for (; bits; bits &= bits - 1) {
            struct vmbus_channel *ch = b->by_relid[i * 64 + (unsigned)__builtin_ctzll(bits)];
            if (!ch)
                continue;
            ch->stats.signals_in++;
            vmbus_schedule(ch);
        }
    }
}

/* Every channel that is ready now has one turn; those that become ready meanwhile wait for the next
 * call, behind the loop's other work. */
static void turn(void *ctx)
{
    struct vmbus *b = ctx;
    if (!b->started)
        return;
    bool more = handle_messages(b, MESSAGES_PER_TURN);
    collect_signals(b);
    struct vmbus_channel *last = b->ready_last;
    for (bool go = last != NULL; go && b->ready_first;) {
        struct vmbus_channel *ch = b->ready_first;
        go = ch != last;
        vmbus_unschedule(ch);
        vmbus_channel_turn(ch);
    }
    if (more || b->ready_first)
        loop_post(b->loop, &b->turn_post);
}

void vmbus_post(struct vmbus *b, const void *msg, size_t len)
{
    if (!b->t.post_message(b->t.ctx, b->target_vp, msg, (uint8_t)len))
        LOG_GUEST("vmbus", "the guest takes no messages; one of type %u is lost", get_le32(msg));
}

/* ---- watches ---- */

void vmbus_watch_add(struct vmbus *b, struct vmbus_watch *w)
{
    w->next = b->watches;
    b->watches = w;
}

void vmbus_watch_remove(struct vmbus *b, struct vmbus_watch *w)
{
    for (struct vmbus_watch **at = &b->watches; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            return;
        }
}

void vmbus_watch_tell(struct vmbus *b)
{
    for (struct vmbus_watch *w = b->watches, *next; w; w = next) {
        next = w->next;
        w->changed(w->ctx, b->version);
    }
}

void vmbus_set_tl_connect(struct vmbus *b,
                          void (*fn)(void *ctx, const struct guid *endpoint,
                                     const struct guid *service),
                          void *ctx)
{
    b->tl_connect = fn;
    b->tl_ctx = ctx;
}

/* ---- life ---- */

static void bus_start(void *self)
{
    struct vmbus *b = self;
    b->started = true;
    for (unsigned i = 1; i <= VMBUS_MAX_RELID; i++) {
        struct vmbus_channel *ch = b->by_relid[i];
        if (!ch)
            continue;
        if (ch->rescind_at_start) {
            ch->rescind_at_start = false;
            vmbus_channel_rescind(ch);
        } else if (ch->state == VMBUS_CHANNEL_OPEN) {
            vmbus_schedule(ch);
            vmbus_channel_signal(ch);
        }
    }
    if (b->offers_requested)
        vmbus_offer_all(b); /* devices that the saved machine did not have */
    loop_post(b->loop, &b->turn_post);
}

static void bus_stop(void *self, void (*done)(void *ctx), void *ctx)
{
    struct vmbus *b = self;
    handle_messages(b, INBOX_MESSAGES);
    b->started = false;
    while (b->ready_first)
        vmbus_unschedule(b->ready_first);
    done(ctx);
}

static void bus_reset(void *self)
{
    struct vmbus *b = self;
    vmbus_disconnect(b);
    b->t.drop_messages(b->t.ctx);
    pthread_mutex_lock(&b->inbox_lock);
    b->inbox_count = 0;
    pthread_mutex_unlock(&b->inbox_lock);
    for (unsigned i = 0; i < ARRAY_LEN(b->signalled); i++)
        atomic_store(&b->signalled[i], 0);
}

static void bus_destroy(void *self)
{
    vmbus_free(self);
}

static const struct device_ops bus_ops = {
    .name = "virtual machine bus",
    .start = bus_start,
    .stop = bus_stop,
    .reset = bus_reset,
    .save = vmbus_save,
    .restore = vmbus_restore,
    .destroy = bus_destroy,
};

struct device vmbus_as_device(struct vmbus *b)
{
    return (struct device){.ops = &bus_ops, .self = b};
}

/* ---- live view ---- */

const char *vmbus_channel_state_name(enum vmbus_channel_state s)
{
    static const char *const names[] = {"free", "not-offered", "offered", "open", "rescinded"};
    return (unsigned)s < ARRAY_LEN(names) ? names[s] : "?";
}

static void describe(const struct vmbus_channel *ch, struct vmbus_channel_info *i)
{
    bool open = ch->state == VMBUS_CHANNEL_OPEN;
    *i = (struct vmbus_channel_info){
        .provider = ch->dev->p.ops->name,
        .class_id = ch->dev->p.class_id,
        .instance = ch->dev->p.instance,
        .index = ch->index,
        .relid = ch->relid,
        .target_vp = ch->target_vp,
        .connection = ch->connection,
        .state = ch->state,
        .broken = ch->broken,
        .paused = ch->paused,
        .busy = ch->busy,
        .in_size = ch->in.size,
        .in_used = open ? vmbus_ring_used(&ch->in) : 0,
        .out_size = ch->out.size,
        .out_used = open ? vmbus_ring_used(&ch->out) : 0,
        .stats = ch->stats,
    };
}

void vmbus_each_channel(struct vmbus *b, bool (*fn)(void *ctx, const struct vmbus_channel_info *i),
                        void *ctx)
{
    struct vmbus_channel_info info;
    for (unsigned i = 1; i <= VMBUS_MAX_RELID; i++) {
        if (!b->by_relid[i])
            continue;
        vmbus_channel_count_signals(b->by_relid[i]);
        describe(b->by_relid[i], &info);
        if (!fn(ctx, &info))
            return;
    }
}
