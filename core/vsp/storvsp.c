/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/vsp/storvsp.h"

#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/vsp/storvsp-proto.h"

enum {
    MAX_TRANSFER = 512 * 1024,
    MAX_IN_FLIGHT = 1024, /* on one channel; the ring holds fewer of Linux's */
    MAX_PACKET = 16384,
};

enum phase { PHASE_NEW, PHASE_BEGUN, PHASE_VERSION, PHASE_PROPERTIES, PHASE_READY };

struct request {
    struct scsi_task task;
    struct vmbus_map map;
    struct storvsp *s;
    struct vmbus_channel *ch;
    uint64_t id;
    unsigned lun;
    struct vstor_packet packet;
    struct request *next; /* in the free list, or in those that wait for room */
};

/* One open channel's. */
struct queue {
    struct vmbus_channel *ch; /* NULL: closed */
    unsigned in_flight;
    struct request *waiting, **waiting_end; /* completed, for want of room not sent */
};

struct unit {
    struct scsi_lun *scsi;
    /* detaching, or changing medium: when nothing is in flight */
    bool leaving, changing;
    struct disk *medium;
    void (*done)(void *ctx);
    void *ctx;
};

struct storvsp {
    struct vmbus *bus;
    struct vmbus_device *dev;
    uint32_t number;
    unsigned max_subchannels;
    bool ide;

    /* guest-visible protocol state */
    uint8_t phase;
    uint16_t version;
    bool tell_enumerate, tell_remove; /* waits for room, or for the guest to be ready */
    bool reset_pending;
    uint64_t reset_id;

    struct queue queues[64];
    struct unit units[STORVSP_LUNS];
    unsigned in_flight;
    struct request *free;
    uint64_t plugged; /* units plugged in this turn */

    void (*stopped)(void *ctx);
    void *stopped_ctx;
};

static const struct guid class_scsi = GUID(0xba6163d9, 0x04a1, 0x4d29, 0xb605, 0x72e2ffb1dc7f);
static const struct guid class_ide = GUID(0x32412632, 0x86cb, 0x44a2, 0x9b5c, 0x50d1417354f5);

static struct queue *queue_of(struct storvsp *s, const struct vmbus_channel *ch)
{
    return &s->queues[vmbus_channel_index(ch)];
}

static uint64_t luns_present(const struct storvsp *s)
{
    uint64_t luns = 0;
    for (unsigned i = 0; i < STORVSP_LUNS; i++)
        if (s->units[i].scsi && !s->units[i].leaving)
            luns |= UINT64_C(1) << i;
    return luns;
}

/* ---- telling the guest to look again ---- */

static void tell(struct storvsp *s)
{
    struct vmbus_channel *ch = s->queues[0].ch;
    struct vstor_packet p = {0};
    if (!ch || s->phase != PHASE_READY)
        return;
    if (s->tell_remove) {
        p.op = VSTOR_REMOVE_DEVICE;
        s->tell_remove = !vmbus_send(ch, 0, false, &p, sizeof p);
    }
    if (s->tell_enumerate) {
        p.op = VSTOR_ENUMERATE_BUS;
        s->tell_enumerate = !vmbus_send(ch, 0, false, &p, sizeof p);
    }
}

/* ---- requests ---- */

static struct request *request_get(struct storvsp *s)
{
    struct request *r = s->free;
    if (r)
        s->free = r->next;
    else
        r = calloc(1, sizeof *r);
    return r;
}

static void request_put(struct request *r)
{
    struct storvsp *s = r->s;
    vmbus_map_clear(&r->map);
    r->ch = NULL;
    r->next = s->free;
    s->free = r;
}

static void free_requests(struct storvsp *s)
{
    while (s->free) {
        struct request *r = s->free;
        s->free = r->next;
        vmbus_map_free(&r->map);
        free(r);
    }
}

static void wait_for_room(struct queue *q, struct request *r)
{
    r->next = NULL;
    if (!q->waiting)
        q->waiting_end = &q->waiting;
    *q->waiting_end = r;
    q->waiting_end = &r->next;
}

/* Sends the answer, or keeps it until there is room. The channel may be closed: then nobody waits.
 */
static void respond(struct request *r)
{
    struct queue *q = queue_of(r->s, r->ch);
    if (q->ch == r->ch && q->waiting) {
        wait_for_room(q, r);
        return;
    }
    bool sent = vmbus_send_completion(r->ch, r->id, &r->packet, sizeof r->packet);
    if (!sent && q->ch == r->ch && vmbus_channel_is_open(r->ch))
        wait_for_room(q, r);
    else
        request_put(r);
}

static void send_waiting(struct queue *q)
{
    while (q->waiting) {
        struct request *r = q->waiting;
        if (!vmbus_send_completion(r->ch, r->id, &r->packet, sizeof r->packet))
            return;
        q->waiting = r->next;
        request_put(r);
    }
}

static void drop_waiting(struct queue *q)
{
    while (q->waiting) {
        struct request *r = q->waiting;
        q->waiting = r->next;
        request_put(r);
    }
}

/* ---- gathering a turn's submissions ---- */

static void plug(struct storvsp *s, unsigned lun)
{
    struct disk *d = scsi_lun_disk(s->units[lun].scsi);
    if (d && !(s->plugged >> lun & 1)) {
        s->plugged |= UINT64_C(1) << lun;
        disk_plug(d);
    }
}

static void unplug(struct storvsp *s, uint64_t which)
{
    uint64_t luns = s->plugged & which;
    s->plugged &= ~which;
    for (; luns; luns &= luns - 1)
        disk_unplug(scsi_lun_disk(s->units[__builtin_ctzll(luns)].scsi));
}

static void unit_settled(struct storvsp *s, unsigned lun)
{
    struct unit *u = &s->units[lun];
    if ((!u->leaving && !u->changing) || scsi_in_flight(u->scsi))
        return;
    unplug(s, UINT64_C(1) << lun);
    void (*done)(void *ctx) = u->done;
    void *ctx = u->ctx;
    if (u->leaving) {
        scsi_lun_free(u->scsi);
        *u = (struct unit){0};
        s->tell_remove = true;
        tell(s);
    } else {
        scsi_set_medium(u->scsi, u->medium);
        u->changing = false;
        u->medium = NULL;
    }
    if (done)
        done(ctx);
}

static void everything_settled(struct storvsp *s)
{
    if (s->in_flight)
        return;
    if (s->reset_pending && s->queues[0].ch) {
        struct vstor_packet p = {.op = VSTOR_COMPLETE_IO};
        s->reset_pending = !vmbus_send_completion(s->queues[0].ch, s->reset_id, &p, sizeof p);
    }
    if (s->stopped) {
        void (*stopped)(void *ctx) = TAKE(s->stopped);
        stopped(s->stopped_ctx);
    }
}

static void set_result(struct request *r)
{
    struct scsi_task *t = &r->task;
    struct vstor_srb *srb = &r->packet.srb;
    r->packet.op = VSTOR_COMPLETE_IO;
    r->packet.flags = 0;
    r->packet.status = VSTOR_STATUS_OK;
    srb->scsi_status = t->status;
    srb->srb_status = t->status == SCSI_GOOD ? SRB_SUCCESS : SRB_ERROR;
    srb->transfer_length = (uint32_t)t->transferred;
    if (t->status == SCSI_CHECK_CONDITION) {
        uint8_t room = MIN(srb->sense_length, (uint8_t)sizeof srb->cdb_or_sense);
        memset(srb->cdb_or_sense, 0, sizeof srb->cdb_or_sense);
        memcpy(srb->cdb_or_sense, t->sense, MIN(room, (uint8_t)SCSI_SENSE_BYTES));
        srb->srb_status = SRB_ERROR | SRB_AUTOSENSE_VALID;
        srb->sense_length = MIN(room, (uint8_t)SCSI_SENSE_BYTES);
    } else {
        srb->sense_length = 0;
    }
}

static void on_task_done(struct scsi_task *t)
{
    struct request *r = t->owner;
    struct storvsp *s = r->s;
    struct vmbus_channel *ch = r->ch;
    struct queue *q = queue_of(s, ch);
    unsigned lun = r->lun;
    vmbus_map_clear(&r->map); /* before the guest knows that its pages are its own again */
    set_result(r);
    respond(r);
    s->in_flight--;
    if (q->ch == ch && q->in_flight-- == MAX_IN_FLIGHT)
        vmbus_channel_pause(ch, false);
    unit_settled(s, lun);
    everything_settled(s);
    vmbus_channel_release_busy(ch);
}

/* Answers without any unit. */
static void refuse(struct request *r, uint8_t srb_status)
{
    vmbus_map_clear(&r->map);
    r->packet.op = VSTOR_COMPLETE_IO;
    r->packet.status = VSTOR_STATUS_OK;
    r->packet.srb.srb_status = srb_status;
    r->packet.srb.scsi_status = SCSI_GOOD;
    r->packet.srb.sense_length = 0;
    r->packet.srb.transfer_length = 0;
    respond(r);
}

static void on_absent_done(struct request *r)
{
    if (scsi_execute_absent(&r->task)) {
        vmbus_map_clear(&r->map);
        set_result(r);
        respond(r);
    } else {
        refuse(r, SRB_INVALID_LUN);
    }
}

static bool map_data(struct request *r, const struct vmbus_packet *p)
{
    const struct vstor_srb *srb = &r->packet.srb;
    struct scsi_task *t = &r->task;
    t->direction = srb->data_in == SRB_DIRECTION_READ    ? SCSI_DATA_IN
                   : srb->data_in == SRB_DIRECTION_WRITE ? SCSI_DATA_OUT
                                                         : SCSI_DATA_NONE;
    if (!srb->transfer_length || p->type != VMBUS_PACKET_GPA_DIRECT)
        t->direction = SCSI_DATA_NONE;
    if (t->direction == SCSI_DATA_NONE)
        return true;
    if (srb->transfer_length > MAX_TRANSFER || srb->transfer_length > p->range_bytes)
        return false;
    return vmbus_map_ranges(r->s->bus, &r->map, p->ranges, p->nranges, 0, srb->transfer_length,
                            t->direction == SCSI_DATA_IN);
}

static void run(struct request *r, unsigned lun)
{
    struct storvsp *s = r->s;
    struct queue *q = queue_of(s, r->ch);
    r->lun = lun;
    s->in_flight++;
    vmbus_channel_hold_busy(r->ch);
    if (++q->in_flight == MAX_IN_FLIGHT)
        vmbus_channel_pause(r->ch, true);
    plug(s, lun);
    scsi_execute(s->units[lun].scsi, &r->task);
}

static void execute_srb(struct storvsp *s, struct vmbus_channel *ch, const struct vmbus_packet *p,
                        const struct vstor_packet *v)
{
    struct request *r = request_get(s);
    if (!r) {
        struct vstor_packet busy = *v;
        busy.op = VSTOR_COMPLETE_IO;
        busy.srb.srb_status = SRB_ERROR;
        busy.srb.scsi_status = SCSI_BUSY;
        vmbus_send_completion(ch, p->transaction_id, &busy, sizeof busy);
        return;
    }
    r->s = s;
    r->ch = ch;
    r->id = p->transaction_id;
    r->packet = *v;
    r->task = (struct scsi_task){.done = on_task_done, .owner = r, .luns = luns_present(s)};
    memcpy(r->task.cdb, v->srb.cdb_or_sense, MIN(v->srb.cdb_length, (uint8_t)SCSI_CDB_BYTES));
    if (v->srb.cdb_length > SCSI_CDB_BYTES || !map_data(r, p)) {
        LOG_GUEST("storvsp", "request with bad length or memory refused");
        refuse(r, SRB_INVALID_REQUEST);
        return;
    }
    r->task.iov = r->map.iov;
    r->task.iovcnt = (int)r->map.count;
    r->task.bytes = r->map.bytes;
    unsigned lun = v->srb.lun;
    bool target = s->ide || (!v->srb.path && !v->srb.target);
    if (!target)
        r->task.luns = 0;
    if (target && lun < STORVSP_LUNS && s->units[lun].scsi && !s->units[lun].leaving)
        run(r, lun);
    else
        on_absent_done(r);
}

/* ---- control ---- */

static bool version_known(uint16_t v)
{
    return v == 0x0602 || v == 0x0600 || v == 0x0501 || v == 0x0402;
}

static uint32_t query_version(struct storvsp *s, const struct vstor_packet *v)
{
    if (s->phase != PHASE_BEGUN)
        return VSTOR_STATUS_INVALID_DEVICE_STATE;
    if (!version_known(v->version))
        return VSTOR_STATUS_REVISION_MISMATCH;
    s->version = v->version;
    s->phase = PHASE_VERSION;
    return VSTOR_STATUS_OK;
}

static void fill_properties(const struct storvsp *s, struct vstor_packet *v, unsigned subchannels)
{
    memset(v->body, 0, sizeof v->body);
    v->properties.max_subchannels = (uint16_t)subchannels;
    v->properties.flags = subchannels ? VSTOR_MULTI_CHANNEL : 0;
    v->properties.max_transfer = MAX_TRANSFER;
}

static unsigned subchannel_limit(const struct storvsp *s)
{
    return MIN(vmbus_vp_count(s->bus) - 1, s->max_subchannels);
}

static uint32_t advance(struct storvsp *s, uint8_t from, uint8_t to)
{
    if (s->phase != from)
        return VSTOR_STATUS_INVALID_DEVICE_STATE;
    s->phase = to;
    return VSTOR_STATUS_OK;
}

static void reset_units(struct storvsp *s)
{
    for (unsigned i = 0; i < STORVSP_LUNS; i++)
        if (s->units[i].scsi)
            scsi_lun_reset(s->units[i].scsi);
}

static void start_reset(struct storvsp *s, uint64_t id)
{
    reset_units(s);
    s->reset_pending = true;
    s->reset_id = id;
    everything_settled(s);
}

/* A control request on the primary channel: answered at once, but for resets. */
static void control(struct storvsp *s, struct vmbus_channel *ch, const struct vmbus_packet *p,
                    struct vstor_packet *v)
{
    uint32_t status = VSTOR_STATUS_OK;
    unsigned offer = 0;
    switch (v->op) {
    case VSTOR_BEGIN_INITIALIZATION:
        s->phase = PHASE_BEGUN; /* drivers may begin again */
        break;
    case VSTOR_QUERY_VERSION: status = query_version(s, v); break;
    case VSTOR_QUERY_PROPERTIES:
        status = advance(s, PHASE_VERSION, PHASE_PROPERTIES);
        fill_properties(s, v, subchannel_limit(s));
        break;
    case VSTOR_END_INITIALIZATION: status = advance(s, PHASE_PROPERTIES, PHASE_READY); break;
    case VSTOR_CREATE_SUB_CHANNELS:
        offer = v->subchannels;
        if (s->phase != PHASE_READY || offer > subchannel_limit(s))
            status = VSTOR_STATUS_INVALID_PARAMETER;
        break;
    case VSTOR_RESET_BUS:
    case VSTOR_RESET_ADAPTER:
    case VSTOR_RESET_LUN: start_reset(s, p->transaction_id); return;
    default: status = VSTOR_STATUS_INVALID_PARAMETER;
    }
    v->op = VSTOR_COMPLETE_IO;
    v->status = status;
    vmbus_send_completion(ch, p->transaction_id, v, sizeof *v);
    if (offer && status == VSTOR_STATUS_OK)
        vmbus_device_offer_subchannels(s->dev, offer);
    tell(s);
}

static void handle(struct storvsp *s, struct vmbus_channel *ch, const struct vmbus_packet *p)
{
    struct vstor_packet v = {0};
    if (p->len < offsetof(struct vstor_packet, body) ||
        (p->type != VMBUS_PACKET_INBAND && p->type != VMBUS_PACKET_GPA_DIRECT)) {
        LOG_GUEST("storvsp", "packet of type %u and %u bytes ignored", p->type, p->len);
        return;
    }
    memcpy(&v, p->payload, MIN(p->len, sizeof v));
    if (v.op == VSTOR_EXECUTE_SRB && s->phase == PHASE_READY)
        execute_srb(s, ch, p, &v);
    else if (vmbus_channel_index(ch) == 0 && v.op != VSTOR_EXECUTE_SRB)
        control(s, ch, p, &v);
    else
        LOG_GUEST("storvsp", "request %u has no place here", v.op);
}

/* ---- the bus's callbacks ---- */

static bool on_opened(void *ctx, struct vmbus_channel *ch, const uint8_t *user)
{
    struct storvsp *s = ctx;
    *queue_of(s, ch) = (struct queue){.ch = ch};
    if (vmbus_channel_index(ch) == 0) {
        s->phase = PHASE_NEW;
        s->version = 0;
        s->tell_enumerate = s->tell_remove = s->reset_pending = false;
    }
    return true;
}

static void on_closed(void *ctx, struct vmbus_channel *ch)
{
    struct storvsp *s = ctx;
    struct queue *q = queue_of(s, ch);
    drop_waiting(q);
    *q = (struct queue){0};
    if (vmbus_channel_index(ch) == 0) {
        s->phase = PHASE_NEW;
        s->reset_pending = false;
        reset_units(s);
    }
}

static void on_readable(void *ctx, struct vmbus_channel *ch)
{
    struct storvsp *s = ctx;
    struct vmbus_packet p;
    /* Answers that the guest does not take hold back its requests. */
    while (!queue_of(s, ch)->waiting && vmbus_channel_next(ch, &p))
        handle(s, ch, &p);
    unplug(s, UINT64_MAX);
    if (queue_of(s, ch)->waiting)
        vmbus_channel_pause(ch, true);
}

static void on_writable(void *ctx, struct vmbus_channel *ch)
{
    struct storvsp *s = ctx;
    struct queue *q = queue_of(s, ch);
    send_waiting(q);
    if (!q->waiting && q->in_flight < MAX_IN_FLIGHT)
        vmbus_channel_pause(ch, false);
    if (vmbus_channel_index(ch) == 0) {
        everything_settled(s);
        tell(s);
    }
}

static const struct vmbus_provider_ops provider_ops = {
    .name = "storvsp",
    .opened = on_opened,
    .closed = on_closed,
    .readable = on_readable,
    .writable = on_writable,
};

/* ---- units ---- */

bool storvsp_attach(struct storvsp *s, unsigned lun, struct scsi_lun *unit, err *e)
{
    if (lun >= STORVSP_LUNS)
        return err_set(e, ERR_INVALID, "A SCSI controller has the places 0 to %u, not %u",
                       STORVSP_LUNS - 1, lun);
    if (s->units[lun].scsi)
        return err_set(e, ERR_EXISTS, "The place %u of the SCSI controller is taken", lun);
    s->units[lun] = (struct unit){.scsi = unit};
    s->tell_enumerate = true;
    tell(s);
    return true;
}

static struct unit *find(struct storvsp *s, unsigned lun, err *e)
{
    struct unit *u = lun < STORVSP_LUNS ? &s->units[lun] : NULL;
    if (!u || !u->scsi) {
        err_set(e, ERR_NOT_FOUND, "There is nothing at the place %u of the SCSI controller", lun);
        return NULL;
    }
    if (u->leaving || u->changing) {
        err_set(e, ERR_BUSY, "The drive at the place %u is being changed already", lun);
        return NULL;
    }
    return u;
}

bool storvsp_detach(struct storvsp *s, unsigned lun, void (*done)(void *ctx), void *ctx, err *e)
{
    struct unit *u = find(s, lun, e);
    if (!u)
        return false;
    u->leaving = true;
    u->done = done;
    u->ctx = ctx;
    unit_settled(s, lun);
    return true;
}

bool storvsp_set_medium(struct storvsp *s, unsigned lun, struct disk *medium,
                        void (*done)(void *ctx), void *ctx, err *e)
{
    struct unit *u = find(s, lun, e);
    if (!u)
        return false;
    if (scsi_lun_kind(u->scsi) != SCSI_DVD)
        return err_set(e, ERR_INVALID, "The drive at the place %u takes no other media", lun);
    u->changing = true;
    u->medium = medium;
    u->done = done;
    u->ctx = ctx;
    unit_settled(s, lun);
    return true;
}

struct scsi_lun *storvsp_unit(struct storvsp *s, unsigned lun)
{
    return lun < STORVSP_LUNS ? s->units[lun].scsi : NULL;
}

/* ---- life ---- */

struct storvsp *storvsp_new(const struct storvsp_params *p, err *e)
{
    struct storvsp *s = calloc(1, sizeof *s);
    if (!s) {
        err_set(e, ERR_NO_MEMORY, "There is no memory for the SCSI controller");
        return NULL;
    }
    s->bus = p->bus;
    s->number = p->number;
    s->max_subchannels = MIN(p->max_subchannels, (unsigned)ARRAY_LEN(s->queues) - 1);
    struct vmbus_device_params d = {.class_id = p->ide ? class_ide : class_scsi,
                                    .instance = p->instance,
                                    .max_subchannels = s->max_subchannels,
                                    .max_packet = MAX_PACKET,
                                    .ops = &provider_ops,
                                    .ctx = s};
    s->ide = p->ide;
    if (p->ide) {
        enum { USER_PATH = 62, USER_TARGET = 63, USER_FLAGS = 68, EMULATED = 2 };
        d.user[USER_PATH] = (uint8_t)(p->ide_place / 2);
        d.user[USER_TARGET] = (uint8_t)(p->ide_place % 2);
        d.user[USER_FLAGS] = EMULATED;
    }
    s->dev = vmbus_device_add(p->bus, &d, e);
    if (!s->dev) {
        free(s);
        return NULL;
    }
    return s;
}

static void storvsp_start(void *self)
{
    struct storvsp *s = self;
    tell(s);
    everything_settled(s);
}

static void storvsp_stop(void *self, void (*done)(void *ctx), void *ctx)
{
    struct storvsp *s = self;
    s->stopped = done;
    s->stopped_ctx = ctx;
    everything_settled(s);
}

static void storvsp_reset(void *self)
{
    struct storvsp *s = self;
    reset_units(s); /* the bus has closed the channels */
}

static void storvsp_destroy(void *self)
{
    struct storvsp *s = self;
    vmbus_device_remove(s->dev);
    for (unsigned i = 0; i < STORVSP_LUNS; i++)
        scsi_lun_free(s->units[i].scsi);
    free_requests(s);
    free(s);
}

/* ---- state ---- */

enum { TAG_WAITING = 20 };
struct saved_answer {
    uint64_t id;
    uint32_t channel, zero;
    struct vstor_packet packet;
};

static const struct state_field fields[] = {
    STATE_FIELD_MAX(1, STATE_U8, struct storvsp, phase, PHASE_READY),
    STATE_FIELD(2, STATE_U16, struct storvsp, version),
    STATE_FIELD(3, STATE_BOOL, struct storvsp, tell_enumerate),
    STATE_FIELD(4, STATE_BOOL, struct storvsp, tell_remove),
    STATE_FIELD(5, STATE_BOOL, struct storvsp, reset_pending),
    STATE_FIELD(6, STATE_U64, struct storvsp, reset_id),
};
static const struct state_table table = {.name = "SCSI controller",
                                         .section = STATE_ID('S', 'T', 'O', 'R'),
                                         .version = 1,
                                         .least_reader = 1,
                                         .fields = fields,
                                         .nfields = ARRAY_LEN(fields)};
#define ANSWERS STATE_ID('S', 'T', 'O', 'A')

static uint32_t unit_instance(const struct storvsp *s, unsigned lun)
{
    return s->number * STORVSP_LUNS + lun;
}

static void storvsp_save(void *self, struct state_writer *w)
{
    struct storvsp *s = self;
    state_save(w, &table, s->number, s);
    state_begin(w, ANSWERS, s->number, 1, 1);
    for (unsigned i = 0; i < ARRAY_LEN(s->queues); i++)
        for (const struct request *r = s->queues[i].waiting; r; r = r->next) {
            struct saved_answer a = {.id = r->id, .channel = i, .packet = r->packet};
            state_put(w, TAG_WAITING, &a, sizeof a);
        }
    state_end(w);
    for (unsigned i = 0; i < STORVSP_LUNS; i++)
        if (s->units[i].scsi)
            scsi_lun_save(s->units[i].scsi, w, unit_instance(s, i));
}

static bool restore_answer(struct storvsp *s, const struct state_field_view *f, err *e)
{
    struct saved_answer a;
    struct queue *q = NULL;
    if (f->len == sizeof a) {
        memcpy(&a, f->data, sizeof a);
        q = a.channel < ARRAY_LEN(s->queues) ? &s->queues[a.channel] : NULL;
    }
    if (!q || !q->ch)
        return err_set(e, ERR_CORRUPT, "The saved state of the SCSI controller is damaged");
    struct request *r = request_get(s);
    if (!r)
        return err_set(e, ERR_NO_MEMORY, "There is no memory for the SCSI controller's answers");
    r->s = s;
    r->ch = q->ch;
    r->id = a.id;
    r->packet = a.packet;
    wait_for_room(q, r);
    return true;
}

static bool restore_answers(struct storvsp *s, const struct state_reader *r, err *e)
{
    struct state_section section;
    struct state_field_view f;
    err mine = ERR_INIT;
    size_t pos = 0;
    bool ok = state_find(r, ANSWERS, s->number, &section, &mine);
    while (ok && state_field_next(&section, &pos, &f, &mine))
        if (f.tag == TAG_WAITING)
            ok = restore_answer(s, &f, &mine);
    ok = ok && mine.code == ERR_NONE;
    if (!ok && e)
        *e = mine;
    return ok;
}

static bool storvsp_restore(void *self, const struct state_reader *r, err *e)
{
    struct storvsp *s = self;
    for (unsigned i = 0; i < ARRAY_LEN(s->queues); i++)
        s->queues[i] = (struct queue){.ch = vmbus_device_channel(s->dev, i)};
    if (!state_restore(r, &table, s->number, s, e) || !restore_answers(s, r, e))
        return false;
    for (unsigned i = 0; i < STORVSP_LUNS; i++) {
        struct state_section found;
        if (s->units[i].scsi &&
            state_find(r, STATE_ID('S', 'L', 'U', 'N'), unit_instance(s, i), &found, NULL) &&
            !scsi_lun_restore(s->units[i].scsi, r, unit_instance(s, i), e))
            return false;
    }
    return true;
}

static const struct device_ops device_ops = {
    .name = "SCSI controller",
    .start = storvsp_start,
    .stop = storvsp_stop,
    .reset = storvsp_reset,
    .save = storvsp_save,
    .restore = storvsp_restore,
    .destroy = storvsp_destroy,
};

struct device storvsp_as_device(struct storvsp *s)
{
    return (struct device){.ops = &device_ops, .self = s};
}
