/* SPDX-License-Identifier: GPL-3.0-or-later */
/* An adapter's saved state: what was agreed on, and which parts of the receive buffer the guest
 * still has. */
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/vsp/netvsp-priv.h"

enum { SECTION = STATE_ID('N', 'E', 'T', ' '), TAG_TRANSFER = 100, TAG_COMPLETION = 101 };

static const struct state_field rss_fields[] = {
    STATE_FIELD(1, STATE_BOOL, struct netvsp_rss, on),
    STATE_FIELD(2, STATE_U32, struct netvsp_rss, hash_info),
    STATE_FIELD_MAX(3, STATE_U32, struct netvsp_rss, table_len, NETVSP_RSS_TABLE),
    STATE_FIELD(4, STATE_BYTES, struct netvsp_rss, key),
    STATE_FIELD(5, STATE_BYTES, struct netvsp_rss, table),
};
static const struct state_table rss_table = {
    .name = "receive side scaling", .fields = rss_fields, .nfields = ARRAY_LEN(rss_fields)};
static const struct state_field fields[] = {
    STATE_FIELD(1, STATE_U32, struct netvsp, version),
    STATE_FIELD_MAX(2, STATE_U32, struct netvsp, mtu, NET_MTU_MAX),
    STATE_FIELD_MAX(3, STATE_U32, struct netvsp, subchannels, NETVSP_QUEUES - 1),
    STATE_FIELD(4, STATE_U32, struct netvsp, recv_id),
    STATE_FIELD(5, STATE_U32, struct netvsp, send_id),
    STATE_FIELD_MAX(6, STATE_U32, struct netvsp, sub_size, NET_MTU_MAX + 512),
    STATE_FIELD_MAX(7, STATE_U32, struct netvsp, subs, NETVSP_SUBS),
    STATE_FIELD(8, STATE_BOOL, struct netvsp, rndis_up),
    STATE_FIELD(9, STATE_U32, struct netvsp, filter),
    STATE_FIELD(10, STATE_BOOL, struct netvsp, rx_csum4),
    STATE_FIELD(11, STATE_BOOL, struct netvsp, rx_csum6),
    STATE_FIELD(12, STATE_BOOL, struct netvsp, rsc4),
    STATE_FIELD(13, STATE_BOOL, struct netvsp, rsc6),
    STATE_SUB(14, struct netvsp, rss, &rss_table, 1),
    STATE_FIELD(15, STATE_BOOL, struct netvsp, link_told),
    STATE_FIELD(16, STATE_BOOL, struct netvsp, link_due),
    STATE_VARBYTES(17, struct netvsp, control, control_len),
};
static const struct state_table table = {
    .name = "network adapter",
    .section = SECTION,
    .version = 1,
    .least_reader = 1,
    .fields = fields,
    .nfields = ARRAY_LEN(fields),
};

/* Which sub-allocations each open transfer holds: {u32 transfer, u8 queue, u8 0, u16 first...}. */
static void save_transfers(struct netvsp *n, struct state_writer *w)
{
    for (unsigned t = 0; t < NETVSP_TRANSFERS; t++) {
        uint8_t b[8 + 2 * NETVSP_BATCH] = {0};
        size_t len = 6;
        if (!n->transfers[t].used)
            continue;
        put_le32(b, t);
        b[4] = n->transfers[t].queue;
        for (uint16_t s = n->transfers[t].first; s && len + 2 <= sizeof b; s = n->next[s - 1]) {
            put_le16(b + len, s);
            len += 2;
        }
        state_put(w, TAG_TRANSFER, b, len);
    }
}

/* ---- connections by the NAT: gone after a restore ---- */

enum { TAG_FLOWS = 1 };
#define SECTION_FLOWS STATE_ID('N', 'T', 'F', 'L')

static void save_flows(struct netvsp *n, struct state_writer *w)
{
    AUTO(buf) flows = malloc(NET_PORT_FLOWS_MAX);
    size_t len = flows ? net_port_save_flows(n->port, flows, NET_PORT_FLOWS_MAX) : 0;
    if (!len)
        return;
    state_begin(w, SECTION_FLOWS, n->state_instance, 1, 1);
    state_put(w, TAG_FLOWS, flows, len);
    state_end(w);
}

static void restore_flows(struct netvsp *n, const struct state_reader *r)
{
    struct state_section s;
    struct state_field_view f;
    size_t pos = 0;
    if (state_find(r, SECTION_FLOWS, n->state_instance, &s, NULL) &&
        state_field_next(&s, &pos, &f, NULL) && f.tag == TAG_FLOWS)
        net_port_lost_flows(n->port, f.data, f.len);
}

void netvsp_save(struct netvsp *n, struct state_writer *w)
{
    state_save(w, &table, n->state_instance, n);
    state_begin(w, STATE_ID('N', 'T', 'R', 'X'), n->state_instance, 1, 1);
    save_transfers(n, w);
    for (unsigned i = 0; i < NETVSP_QUEUES; i++) {
        uint8_t b[12];
        if (!n->queues[i].completion_due)
            continue;
        put_le32(b, i);
        put_le64(b + 4, n->queues[i].completion_id);
        state_put(w, TAG_COMPLETION, b, sizeof b);
    }
    state_end(w);
    save_flows(n, w);
}

static bool is_free(const struct netvsp *n, uint16_t s, const bool *taken)
{
    return s && s <= n->subs && !taken[s - 1];
}

static bool load_transfer(struct netvsp *n, const struct state_field_view *f, bool *taken)
{
    if (f->len < 8 || f->len % 2 || f->len > 6 + 2 * NETVSP_BATCH)
        return false;
    uint32_t t = get_le32(f->data);
    if (t >= NETVSP_TRANSFERS || n->transfers[t].used || f->data[4] >= NETVSP_QUEUES)
        return false;
    n->transfers[t] =
        (struct netvsp_transfer){.first = get_le16(f->data + 6), .used = 1, .queue = f->data[4]};
    for (uint32_t at = 6; at < f->len; at += 2) {
        uint16_t s = get_le16(f->data + at);
        if (!is_free(n, s, taken))
            return false;
        taken[s - 1] = true;
        n->next[s - 1] = at + 2 < f->len ? get_le16(f->data + at + 2) : 0;
    }
    return true;
}

static bool load_completion(struct netvsp *n, const struct state_field_view *f)
{
    if (f->len != 12 || get_le32(f->data) >= NETVSP_QUEUES)
        return false;
    struct netvsp_queue *q = &n->queues[get_le32(f->data)];
    q->completion_due = true;
    q->completion_id = get_le64(f->data + 4);
    return true;
}

/* What no transfer holds is free. */
static void rebuild_free(struct netvsp *n, const bool *taken)
{
    n->free_head = 0;
    n->nfree = 0;
    for (uint32_t i = n->subs; i-- > 0;) {
        if (taken[i])
            continue;
        n->next[i] = n->free_head;
        n->free_head = (uint16_t)(i + 1);
        n->nfree++;
    }
}

static bool load_lists(struct netvsp *n, const struct state_reader *r, err *e)
{
    static const char damaged[] = "the saved network adapter has a damaged receive list";
    bool taken[NETVSP_SUBS] = {false};
    struct state_section s;
    struct state_field_view f;
    size_t pos = 0;
    if (!state_find(r, STATE_ID('N', 'T', 'R', 'X'), n->state_instance, &s, e))
        return false;
    while (state_field_next(&s, &pos, &f, e))
        if ((f.tag == TAG_TRANSFER && !load_transfer(n, &f, taken)) ||
            (f.tag == TAG_COMPLETION && !load_completion(n, &f)))
            return err_set(e, ERR_CORRUPT, damaged);
    if (e->code != ERR_NONE)
        return false;
    rebuild_free(n, taken);
    return true;
}

static struct vmbus_gpadl *find_buffer(struct netvsp *n, uint32_t id, uint64_t least)
{
    struct vmbus_gpadl *g = NULL;
    if (id && n->queues[0].channel)
        g = vmbus_gpadl_find(n->queues[0].channel, id);
    return g && vmbus_gpadl_bytes(g) >= least && vmbus_gpadl_pin(g) ? g : NULL;
}

static bool find_buffers(struct netvsp *n, err *e)
{
    n->recv = find_buffer(n, n->recv_id, MAX((uint64_t)n->subs * n->sub_size, (uint64_t)1));
    n->send = find_buffer(n, n->send_id, NETVSP_SECTION);
    if ((n->recv_id && (!n->recv || n->sub_size < NETVSP_SUB_SIZE)) || (n->send_id && !n->send))
        return err_set(e, ERR_CORRUPT, "the saved network adapter's buffers are not there");
    if (!n->recv)
        n->subs = 0;
    n->sections = n->send ? (uint32_t)MIN(vmbus_gpadl_bytes(n->send) / NETVSP_SECTION,
                                          (uint64_t)UINT32_MAX - 1)
                          : 0;
    return true;
}

bool netvsp_restore(struct netvsp *n, const struct state_reader *r, err *e)
{
    err own = ERR_INIT;
    e = e ? e : &own;
    for (unsigned i = 0; i < n->max_queues; i++)
        n->queues[i].channel = vmbus_device_channel(n->device, i);
    if (!state_restore(r, &table, n->state_instance, n, e) || !find_buffers(n, e))
        return false;
    for (uint32_t i = 0; i < n->rss.table_len; i++)
        if (n->rss.table[i] >= n->max_queues)
            return err_set(e, ERR_CORRUPT, "the saved network adapter names a queue too many");
    if (n->mtu < NET_MTU_MIN)
        return err_set(e, ERR_CORRUPT, "the saved network adapter's MTU is impossible");
    size_t control_len = n->control_len;
    netvsp_rx_reset(n);
    n->control_len = control_len;
    if (!load_lists(n, r, e))
        return false;
    netvsp_rx_limits(n);
    n->link_due = true;
    restore_flows(n, r);
    return true;
}
