/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "fake-guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/log.h"

enum { WAIT_MS = 5000 };

/* ---- transport ---- */

static void take_offer(struct fake_guest *g, const uint8_t *msg)
{
    if (g->offer_count < FAKE_MAX_OFFERS)
        memcpy(&g->offers[g->offer_count++], msg, sizeof g->offers[0]);
}

static void drop_offer(struct fake_guest *g, uint32_t relid)
{
    for (unsigned i = 0; i < g->offer_count; i++)
        if (g->offers[i].relid == relid) {
            g->offer_count--;
            memmove(&g->offers[i], &g->offers[i + 1], (g->offer_count - i) * sizeof g->offers[0]);
            g->rescinded[relid] = true;
            return;
        }
}

static bool on_message(void *ctx, unsigned vp, const void *payload, uint8_t len)
{
    struct fake_guest *g = ctx;
    uint32_t type = get_le32(payload);
    if (type == VMBUS_MSG_OFFER)
        take_offer(g, payload);
    else if (type == VMBUS_MSG_RESCIND)
        drop_offer(g, get_le32((const uint8_t *)payload + 8));
    if (g->message_count == FAKE_MAX_MESSAGES) {
        g->messages_lost++;
        return false;
    }
    struct fake_message *m = &g->messages[g->message_count++];
    m->vp = vp;
    m->len = len;
    memcpy(m->bytes, payload, len);
    return true;
}

static void on_signal(void *ctx, unsigned vp, uint16_t relid)
{
    struct fake_guest *g = ctx;
    g->events[relid]++;
    g->event_vp[relid] = vp;
}

static void on_drop(void *ctx)
{
    struct fake_guest *g = ctx;
    g->drops++;
}

static bool bind_event(void *ctx, uint32_t connection, int fd, err *e)
{
    struct fake_guest *g = ctx;
    g->event_fd[connection & 0x7ff] = fd;
    return true;
}

static void unbind_event(void *ctx, uint32_t connection)
{
    struct fake_guest *g = ctx;
    g->event_fd[connection & 0x7ff] = -1;
}

/* ---- construction ---- */

static void *need(void *p)
{
    if (!p) {
        fprintf(stderr, "fake guest: no memory\n");
        abort();
    }
    return p;
}

struct fake_guest *fake_guest_new(const struct fake_params *params)
{
    static const struct fake_params defaults;
    const struct fake_params *p = params ? params : &defaults;
    struct fake_guest *g = need(calloc(1, sizeof *g));
    g->own_loop = !p->loop;
    g->loop = p->loop ? p->loop : need(loop_new(NULL));
    g->memory = need(hv_memory_new(NULL));
    g->ram_size = p->ram ? p->ram : MIB(16);
    g->ram = need(hv_memory_add_ram(g->memory, 0, g->ram_size, NULL));
    g->host = hv_region_host(g->ram);
    g->next_free = MIB(1);
    g->next_gpadl = 0xE1E10;
    memset(g->event_fd, 0xff, sizeof g->event_fd);
    g->transport = (struct vmbus_transport){.post_message = on_message,
                                            .signal = on_signal,
                                            .drop_messages = on_drop,
                                            .bind_event = p->eventfd ? bind_event : NULL,
                                            .unbind_event = p->eventfd ? unbind_event : NULL,
                                            .ctx = g,
                                            .vp_count = p->vps ? p->vps : 2};
    g->bus = need(vmbus_new(&(struct vmbus_params){.loop = g->loop,
                                                   .memory = g->memory,
                                                   .transport = &g->transport,
                                                   .max_version = p->max_version},
                            NULL));
    struct device d = vmbus_as_device(g->bus);
    d.ops->start(d.self);
    return g;
}

void fake_guest_free(struct fake_guest *g)
{
    vmbus_free(g->bus);
    hv_memory_free(g->memory);
    if (g->own_loop)
        loop_free(g->loop);
    free(g);
}

void fake_settle(struct fake_guest *g)
{
    for (unsigned i = 0; i < 10000 && loop_turn(g->loop, 0); i++)
        ;
}

bool fake_wait(struct fake_guest *g, bool (*cond)(void *ctx), void *ctx)
{
    uint64_t end = clock_ns() + WAIT_MS * UINT64_C(1000000);
    while (!cond(ctx)) {
        if (clock_ns() > end)
            return false;
        loop_turn(g->loop, 10);
    }
    return true;
}

/* ---- memory ---- */

uint64_t fake_alloc(struct fake_guest *g, unsigned pages)
{
    uint64_t gpa = g->next_free, bytes = (uint64_t)pages * HV_PAGE_SIZE;
    if (gpa + bytes > g->ram_size) {
        fprintf(stderr, "fake guest: out of guest memory\n");
        abort();
    }
    g->next_free += bytes;
    memset(g->host + gpa, 0, bytes);
    return gpa;
}

void *fake_ptr(struct fake_guest *g, uint64_t gpa)
{
    return g->host + gpa;
}

/* ---- control plane ---- */

int fake_post(struct fake_guest *g, const void *msg, size_t len)
{
    int status =
        vmbus_post_message(g->bus, VMBUS_CONNECTION_MESSAGES, VMBUS_MESSAGE_TYPE, msg, len);
    fake_settle(g);
    return status;
}

bool fake_take(struct fake_guest *g, uint32_t type, void *out, size_t len)
{
    for (unsigned i = 0; i < g->message_count; i++) {
        struct fake_message *m = &g->messages[i];
        if (get_le32(m->bytes) != type)
            continue;
        bool fits = m->len >= len;
        if (fits && out)
            memcpy(out, m->bytes, len);
        g->message_count--;
        memmove(m, m + 1, (g->message_count - i) * sizeof *m);
        return fits;
    }
    return false;
}

bool fake_contact(struct fake_guest *g, uint32_t version, unsigned vp)
{
    struct vmbus_msg_contact m = {.h.type = VMBUS_MSG_INITIATE_CONTACT,
                                  .version = version,
                                  .target_vp = vp,
                                  .sint = version >= VMBUS_VERSION(5, 0) ? VMBUS_SINT : 0};
    struct vmbus_msg_version_response r;
    g->offer_count = 0;
    memset(g->rescinded, 0, sizeof g->rescinded);
    fake_post(g, &m, sizeof m);
    if (!fake_take(g, VMBUS_MSG_VERSION_RESPONSE, &r, sizeof r) || !r.supported)
        return false;
    g->version = version;
    return true;
}

bool fake_guest_connect(struct fake_guest *g, uint32_t version)
{
    struct vmbus_msg_header m = {.type = VMBUS_MSG_REQUEST_OFFERS}, r;
    if (!fake_contact(g, version, 0))
        return false;
    fake_post(g, &m, sizeof m);
    return fake_take(g, VMBUS_MSG_ALL_OFFERS_DELIVERED, &r, sizeof r);
}

bool fake_unload(struct fake_guest *g)
{
    struct vmbus_msg_header m = {.type = VMBUS_MSG_UNLOAD};
    fake_post(g, &m, sizeof m);
    g->offer_count = 0;
    return fake_take(g, VMBUS_MSG_UNLOAD_RESPONSE, NULL, sizeof m);
}

const struct vmbus_msg_offer *fake_offer_of(struct fake_guest *g, const struct guid *class_id,
                                            unsigned sub_index)
{
    for (unsigned i = 0; i < g->offer_count; i++)
        if (guid_equal(&g->offers[i].class_id, class_id) && g->offers[i].sub_index == sub_index)
            return &g->offers[i];
    return NULL;
}

const struct vmbus_msg_offer *fake_offer_instance(struct fake_guest *g, const struct guid *instance,
                                                  unsigned sub_index)
{
    for (unsigned i = 0; i < g->offer_count; i++)
        if (guid_equal(&g->offers[i].instance, instance) && g->offers[i].sub_index == sub_index)
            return &g->offers[i];
    return NULL;
}

void fake_release(struct fake_guest *g, uint32_t relid)
{
    struct vmbus_msg_relid m = {.h.type = VMBUS_MSG_RELID_RELEASED, .relid = relid};
    g->rescinded[relid & 0x7ff] = false;
    fake_post(g, &m, sizeof m);
}

uint32_t fake_gpadl_pages(struct fake_guest *g, uint32_t relid, const uint64_t *pfn, uint32_t npfn,
                          uint32_t bytes)
{
    uint32_t id = g->next_gpadl++;
    uint8_t msg[VMBUS_MESSAGE_MAX];
    struct vmbus_msg_gpadl_header h = {.h.type = VMBUS_MSG_GPADL_HEADER,
                                       .relid = relid,
                                       .gpadl = id,
                                       .range_bytes = (uint16_t)(8 + npfn * 8),
                                       .range_count = 1,
                                       .byte_count = bytes};
    uint32_t n = MIN(npfn, (uint32_t)VMBUS_GPADL_HEADER_PFNS);
    memcpy(msg, &h, sizeof h);
    memcpy(msg + sizeof h, pfn, n * 8);
    fake_post(g, msg, sizeof h + n * 8);
    while (n < npfn) {
        struct vmbus_msg_gpadl_body b = {.h.type = VMBUS_MSG_GPADL_BODY, .gpadl = id};
        uint32_t more = MIN(npfn - n, (uint32_t)VMBUS_GPADL_BODY_PFNS);
        memcpy(msg, &b, sizeof b);
        memcpy(msg + sizeof b, pfn + n, more * 8);
        fake_post(g, msg, sizeof b + more * 8);
        n += more;
    }
    struct vmbus_msg_gpadl_created r;
    if (!fake_take(g, VMBUS_MSG_GPADL_CREATED, &r, sizeof r))
        return 0;
    return r.status == 0 && r.gpadl == id && r.relid == relid ? id : 0;
}

uint32_t fake_gpadl(struct fake_guest *g, uint32_t relid, uint64_t gpa, uint32_t bytes)
{
    uint32_t npfn = (uint32_t)div_round_up(bytes, HV_PAGE_SIZE);
    uint64_t *pfn = need(malloc(npfn * sizeof *pfn));
    for (uint32_t i = 0; i < npfn; i++)
        pfn[i] = gpa / HV_PAGE_SIZE + i;
    uint32_t id = fake_gpadl_pages(g, relid, pfn, npfn, bytes);
    free(pfn);
    return id;
}

bool fake_gpadl_teardown(struct fake_guest *g, uint32_t relid, uint32_t gpadl)
{
    struct vmbus_msg_gpadl_teardown m = {
        .h.type = VMBUS_MSG_GPADL_TEARDOWN, .relid = relid, .gpadl = gpadl};
    struct vmbus_msg_gpadl_torndown r;
    fake_post(g, &m, sizeof m);
    return fake_take(g, VMBUS_MSG_GPADL_TORNDOWN, &r, sizeof r) && r.gpadl == gpadl;
}

/* ---- channels ---- */

/* Neighbours in the ring are not neighbours in memory. */
static void scatter(uint64_t base, uint64_t *pfn, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        pfn[i] = base / HV_PAGE_SIZE + (i % 2 ? i / 2 : n - 1 - i / 2);
}

static void init_ring(struct fake_guest *g, struct fake_ring *r, const uint64_t *pfn,
                      unsigned pages)
{
    r->control = fake_ptr(g, pfn[0] * HV_PAGE_SIZE);
    r->control->feature_bits = VMBUS_RING_FEATURE_PENDING_SEND;
    r->size = (pages - 1) * HV_PAGE_SIZE;
    r->pages = need(calloc(pages, sizeof *r->pages));
    for (unsigned i = 1; i < pages; i++)
        r->pages[i - 1] = fake_ptr(g, pfn[i] * HV_PAGE_SIZE);
}

struct fake_channel *fake_open(struct fake_guest *g, const struct vmbus_msg_offer *offer,
                               unsigned pages, const void *user)
{
    if (!offer)
        return NULL;
    struct fake_channel *ch = need(calloc(1, sizeof *ch));
    uint32_t n = pages * 2;
    uint64_t *pfn = need(malloc(n * sizeof *pfn));
    *ch = (struct fake_channel){.g = g, .relid = offer->relid, .connection = offer->connection};
    scatter(fake_alloc(g, n), pfn, n);
    init_ring(g, &ch->out, pfn, pages);
    init_ring(g, &ch->in, pfn + pages, pages);
    ch->gpadl = fake_gpadl_pages(g, ch->relid, pfn, n, n * HV_PAGE_SIZE);
    free(pfn);
    struct vmbus_msg_open m = {.h.type = VMBUS_MSG_OPEN,
                               .relid = ch->relid,
                               .open_id = ch->relid,
                               .gpadl = ch->gpadl,
                               .out_page = pages};
    struct vmbus_msg_open_result r;
    if (user)
        memcpy(m.user, user, sizeof m.user);
    if (ch->gpadl)
        fake_post(g, &m, sizeof m);
    if (ch->gpadl && fake_take(g, VMBUS_MSG_OPEN_RESULT, &r, sizeof r) && r.status == 0 &&
        r.relid == ch->relid)
        return ch;
    fake_forget(ch);
    return NULL;
}

void fake_forget(struct fake_channel *ch)
{
    free(ch->in.pages);
    free(ch->out.pages);
    free(ch);
}

bool fake_close(struct fake_channel *ch)
{
    struct vmbus_msg_relid m = {.h.type = VMBUS_MSG_CLOSE, .relid = ch->relid};
    fake_post(ch->g, &m, sizeof m);
    bool ok = fake_gpadl_teardown(ch->g, ch->relid, ch->gpadl);
    fake_forget(ch);
    return ok;
}

void fake_signal(struct fake_channel *ch)
{
    struct fake_guest *g = ch->g;
    int fd = g->event_fd[ch->relid];
    uint64_t one = 1;
    ch->signals++;
    if (fd < 0)
        vmbus_signal_event(g->bus, ch->connection);
    else if (write(fd, &one, sizeof one) != sizeof one)
        abort();
}

static uint32_t ring_copy(const struct fake_ring *r, uint32_t at, void *buf, size_t len, bool write)
{
    for (uint8_t *p = buf; len; len--, p++, at = (at + 1) % r->size) {
        uint8_t *q = &r->pages[at / HV_PAGE_SIZE][at % HV_PAGE_SIZE];
        *(write ? q : p) = *(write ? p : q);
    }
    return at;
}

static bool put(struct fake_channel *ch, const void *packet, size_t len)
{
    struct fake_ring *r = &ch->out;
    struct vmbus_ring_control *c = r->control;
    uint32_t write = c->write_index, read = __atomic_load_n(&c->read_index, __ATOMIC_ACQUIRE);
    uint32_t used = write >= read ? write - read : r->size - read + write;
    size_t padded = align_up(len, 8);
    uint64_t trailer = (uint64_t)write << 32, zero = 0;
    if (write >= r->size || read >= r->size) /* a test spoilt them */
        return false;
    if (r->size - used <= padded + 8)
        return false;
    uint32_t at = ring_copy(r, write, (void *)(uintptr_t)packet, len, true);
    at = ring_copy(r, at, &zero, padded - len, true);
    at = ring_copy(r, at, &trailer, 8, true);
    __atomic_store_n(&c->write_index, at, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!c->interrupt_mask && c->read_index == write)
        fake_signal(ch);
    return true;
}

bool fake_send_raw(struct fake_channel *ch, const void *packet, size_t len)
{
    bool ok = put(ch, packet, len);
    fake_settle(ch->g);
    return ok;
}

static bool send_as(struct fake_channel *ch, uint16_t type, uint16_t flags, uint64_t id,
                    const void *extra, size_t extra_len, const void *payload, size_t len)
{
    struct vmbus_descriptor d = {.type = type, .flags = flags, .transaction_id = id};
    size_t total = sizeof d + extra_len + len;
    uint8_t *p = need(malloc(total));
    d.offset8 = (uint16_t)((sizeof d + extra_len) / 8);
    d.len8 = (uint16_t)div_round_up(total, 8);
    memcpy(p, &d, sizeof d);
    if (extra_len)
        memcpy(p + sizeof d, extra, extra_len);
    if (len)
        memcpy(p + sizeof d + extra_len, payload, len);
    bool ok = fake_send_raw(ch, p, total);
    free(p);
    return ok;
}

bool fake_send(struct fake_channel *ch, uint64_t id, bool want_completion, const void *payload,
               size_t len)
{
    return send_as(ch, VMBUS_PACKET_INBAND, want_completion, id, NULL, 0, payload, len);
}

bool fake_complete(struct fake_channel *ch, uint64_t id, const void *payload, size_t len)
{
    return send_as(ch, VMBUS_PACKET_COMPLETION, 0, id, NULL, 0, payload, len);
}

bool fake_send_gpa(struct fake_channel *ch, uint64_t id, const void *payload, size_t len,
                   const struct fake_range *ranges, unsigned nranges)
{
    uint8_t *extra = need(malloc(FAKE_MAX_PACKET));
    size_t n = 8;
    memset(extra, 0, 4);
    put_le32(extra + 4, nranges);
    for (unsigned i = 0; i < nranges; i++) {
        uint32_t offset = ranges[i].gpa % HV_PAGE_SIZE;
        put_le32(extra + n, ranges[i].len);
        put_le32(extra + n + 4, offset);
        n += 8;
        for (uint64_t k = 0; k < div_round_up((uint64_t)offset + ranges[i].len, HV_PAGE_SIZE);
             k++) {
            put_le64(extra + n, ranges[i].gpa / HV_PAGE_SIZE + k);
            n += 8;
        }
    }
    bool ok = send_as(ch, VMBUS_PACKET_GPA_DIRECT, 1, id, extra, n, payload, len);
    free(extra);
    return ok;
}

/* As hv_pkt_iter_close: wakes a host that waits for room. */
static void advance_read(struct fake_channel *ch, uint32_t to)
{
    struct fake_ring *r = &ch->in;
    struct vmbus_ring_control *c = r->control;
    uint32_t from = c->read_index;
    __atomic_store_n(&c->read_index, to, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    uint32_t pending = c->pending_send_size, write = c->write_index;
    uint32_t read_bytes = to >= from ? to - from : r->size - from + to;
    uint32_t used = write >= to ? write - to : r->size - to + write;
    uint32_t free_now = r->size - used;
    if (pending && free_now > pending && free_now - read_bytes <= pending)
        fake_signal(ch);
}

bool fake_poll(struct fake_channel *ch, struct fake_packet *out)
{
    struct fake_ring *r = &ch->in;
    struct vmbus_descriptor d;
    uint32_t read = r->control->read_index;
    uint32_t write = __atomic_load_n(&r->control->write_index, __ATOMIC_ACQUIRE);
    if (read == write || read >= r->size || write >= r->size)
        return false;
    uint32_t used = write >= read ? write - read : r->size - read + write;
    ring_copy(r, read, &d, sizeof d, false);
    uint32_t len = d.len8 * 8u;
    if (len < 16 || len + 8 > used || d.offset8 * 8u > len || d.offset8 < 2 ||
        len > sizeof ch->buf) {
        if (ch->g->lenient)
            return false;
        fprintf(stderr, "fake guest: the host wrote a bad packet (len8 %u, offset8 %u)\n", d.len8,
                d.offset8);
        abort();
    }
    uint64_t trailer;
    uint32_t at = ring_copy(r, read, ch->buf, len, false);
    at = ring_copy(r, at, &trailer, 8, false);
    if (trailer != (uint64_t)read << 32 && !ch->g->lenient) {
        fprintf(stderr, "fake guest: the host wrote a bad trailer\n");
        abort();
    }
    *out = (struct fake_packet){.type = d.type,
                                .flags = d.flags,
                                .id = d.transaction_id,
                                .payload = ch->buf + d.offset8 * 8u,
                                .len = len - d.offset8 * 8u,
                                .extra = ch->buf + sizeof d,
                                .extra_len = d.offset8 * 8u - (uint32_t)sizeof d};
    advance_read(ch, at);
    return true;
}

bool fake_recv(struct fake_channel *ch, struct fake_packet *out)
{
    uint64_t end = clock_ns() + WAIT_MS * UINT64_C(1000000);
    while (!fake_poll(ch, out)) {
        if (clock_ns() > end)
            return false;
        loop_turn(ch->g->loop, 10);
    }
    return true;
}
