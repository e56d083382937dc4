/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Hypercalls (TLFS 3). Input is copied whole into a block of our own, from guest memory or, for
 * fast calls, from registers; then validated; then used.
 */
#include <sched.h>
#include <stddef.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/hv/partition-int.h"

enum { INPUT_MAX = HV_PAGE_SIZE, FAST_BYTES = 16, XMM_BYTES = 112 };

struct call {
    struct hv_vp *vp;
    uint16_t code;
    bool fast, rep;
    unsigned var_words, rep_count, rep_start;
    uint64_t output; /* GPA, or the second register of a fast call */
    size_t len;      /* bytes of input */
    union {
        uint8_t bytes[INPUT_MAX];
        uint64_t words[INPUT_MAX / 8];
    } in;
};

struct call_type {
    uint16_t code;
    uint16_t fixed; /* bytes of input before the variable header and the list */
    bool rep, var;
    enum hv_status (*run)(struct call *c);
};

/* ---- processor sets ---- */

static uint64_t all_vps(const struct hv_partition *p)
{
    return p->params.vp_count == 64 ? UINT64_MAX : (1ull << p->params.vp_count) - 1;
}

/* A VP set at in.words[at]: format, bank mask, then var_words banks. Only bank 0 can name our VPs.
 */
static enum hv_status read_set(const struct call *c, unsigned at, uint64_t *mask)
{
    uint64_t format = c->in.words[at], banks = c->in.words[at + 1];
    if (format == 1) {
        *mask = all_vps(c->vp->p);
        return HV_STATUS_SUCCESS;
    }
    if (format != 0 || (unsigned)__builtin_popcountll(banks) != c->var_words)
        return HV_STATUS_INVALID_HYPERCALL_INPUT;
    *mask = banks & 1 ? c->in.words[at + 2] : 0;
    *mask &= all_vps(c->vp->p);
    return HV_STATUS_SUCCESS;
}

/* ---- translation flushes: whole VPs, whatever the list says, which is always allowed ---- */

static enum hv_status flush(struct call *c, uint64_t mask)
{
    struct hv_partition *p = c->vp->p;
    if (c->in.words[1] & HV_FLUSH_ALL_PROCESSORS)
        mask = all_vps(p);
    if (!p->ops->flush_tlb)
        return HV_STATUS_INVALID_HYPERCALL_CODE;
    if (mask)
        p->ops->flush_tlb(p->backend, c->vp->index, mask);
    return HV_STATUS_SUCCESS;
}

static enum hv_status flush_masked(struct call *c)
{
    return flush(c, c->in.words[2] & all_vps(c->vp->p));
}

static enum hv_status flush_set(struct call *c)
{
    uint64_t mask;
    enum hv_status status = read_set(c, 2, &mask);
    return status ? status : flush(c, mask);
}

/* ---- interrupts ---- */

static enum hv_status send_ipi(struct call *c, uint64_t mask)
{
    struct hv_partition *p = c->vp->p;
    uint32_t vector = get_le32(c->in.bytes);
    if (vector < 16 || vector > 255 || c->in.bytes[4] != 0) /* VTL 0 alone exists */
        return HV_STATUS_INVALID_PARAMETER;
    for (; mask; mask &= mask - 1)
        p->ops->interrupt(p->backend, (unsigned)__builtin_ctzll(mask), (uint8_t)vector);
    return HV_STATUS_SUCCESS;
}

static enum hv_status ipi_masked(struct call *c)
{
    uint64_t mask = c->in.words[1];
    if (mask & ~all_vps(c->vp->p))
        return HV_STATUS_INVALID_PARAMETER;
    return send_ipi(c, mask);
}

static enum hv_status ipi_set(struct call *c)
{
    uint64_t mask;
    enum hv_status status = read_set(c, 1, &mask);
    return status ? status : send_ipi(c, mask);
}

static enum hv_status long_spin(struct call *c)
{
    sched_yield();
    return HV_STATUS_SUCCESS;
}

/* ---- messages and events ---- */

static enum hv_status post_message(struct call *c)
{
    const struct hv_partition_params *pp = &c->vp->p->params;
    struct hv_post_message_input m;
    memcpy(&m, c->in.bytes, sizeof m);
    if (m.size > HV_MAX_MESSAGE || m.type == 0 || m.type >> 31)
        return HV_STATUS_INVALID_PARAMETER;
    if (!pp->ops->post_message)
        return HV_STATUS_INVALID_CONNECTION_ID;
    return pp->ops->post_message(pp->ctx, c->vp->index, m.connection, m.type, m.payload, m.size);
}

static enum hv_status signal_event(struct call *c)
{
    struct hv_partition *p = c->vp->p;
    uint32_t id = get_le32(c->in.bytes);
    uint16_t flag = get_le16(c->in.bytes + 4);
    if (flag == 0 && hv_bound_signal(p, id))
        return HV_STATUS_SUCCESS;
    if (!p->params.ops->signal_event)
        return HV_STATUS_INVALID_CONNECTION_ID;
    return p->params.ops->signal_event(p->params.ctx, c->vp->index, id, flag);
}

/* ---- extended calls: free page reporting ---- */

static enum hv_status ext_capabilities(struct call *c)
{
    struct hv_partition *p = c->vp->p;
    uint64_t caps = HV_EXT_CAP_COLD_DISCARD;
    if (!p->params.page_reporting)
        return HV_STATUS_INVALID_HYPERCALL_CODE;
    if (c->fast || c->output % 8)
        return HV_STATUS_INVALID_ALIGNMENT;
    return hv_memory_write(p->memory, c->output, &caps, sizeof caps) ? HV_STATUS_SUCCESS
                                                                     : HV_STATUS_INVALID_PARAMETER;
}

/* One range: bit 11 large pages, [10:0] additional pages, bit 12 the size, [63:21] the frame. */
static bool discard(struct hv_partition *p, uint64_t range)
{
    uint64_t size = range >> 12 & 1 ? GIB(1) : MIB(2);
    uint64_t gpa = range & ~(size - 1), len = ((range & 0x7ff) + 1) * size;
    if (!(range >> 11 & 1) || !hv_memory_discard(p->memory, gpa, len))
        return false;
    if (p->params.ops->pages_reported)
        p->params.ops->pages_reported(p->params.ctx, gpa, len);
    return true;
}

static enum hv_status heat_hint(struct call *c)
{
    struct hv_partition *p = c->vp->p;
    if (!p->params.page_reporting)
        return HV_STATUS_INVALID_HYPERCALL_CODE;
    if ((c->in.words[0] & 3) != HV_HEAT_COLD_DISCARD)
        return HV_STATUS_INVALID_PARAMETER;
    for (unsigned i = c->rep_start; i < c->rep_count; i++)
        if (!discard(p, c->in.words[1 + i]))
            return HV_STATUS_INVALID_PARAMETER;
    return HV_STATUS_SUCCESS;
}

/* ---- decoding ---- */

static const struct call_type types[] = {
    {HV_CALL_FLUSH_SPACE, 24, false, false, flush_masked},
    {HV_CALL_FLUSH_LIST, 24, true, false, flush_masked},
    {HV_CALL_LONG_SPIN, 8, false, false, long_spin},
    {HV_CALL_SEND_IPI, 16, false, false, ipi_masked},
    {HV_CALL_FLUSH_SPACE_EX, 32, false, true, flush_set},
    {HV_CALL_FLUSH_LIST_EX, 32, true, true, flush_set},
    {HV_CALL_SEND_IPI_EX, 24, false, true, ipi_set},
    {HV_CALL_POST_MESSAGE, 256, false, false, post_message},
    {HV_CALL_SIGNAL_EVENT, 8, false, false, signal_event},
    {HV_CALL_EXT_CAPABILITIES, 0, false, false, ext_capabilities},
    {HV_CALL_EXT_HEAT_HINT, 8, true, false, heat_hint},
};

static const struct call_type *find_type(uint16_t code)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (types[i].code == code)
            return &types[i];
    return NULL;
}

#define RESERVED_BITS 0xf000f00078000000ull /* [63:60], [47:44], [30:27] */

static void decode(struct call *c, const struct hv_hypercall *h)
{
    c->code = (uint16_t)h->control;
    c->fast = h->control >> 16 & 1;
    c->var_words = (unsigned)(h->control >> 17 & 0x3ff);
    c->rep_count = (unsigned)(h->control >> 32 & 0xfff);
    c->rep_start = (unsigned)(h->control >> 48 & 0xfff);
    c->output = h->output;
}

static enum hv_status check_form(struct call *c, const struct call_type *t, uint64_t control)
{
    if (control & RESERVED_BITS)
        return HV_STATUS_INVALID_HYPERCALL_INPUT;
    if (t->rep ? !c->rep_count || c->rep_start >= c->rep_count : c->rep_count || c->rep_start)
        return HV_STATUS_INVALID_HYPERCALL_INPUT;
    if (!t->var && c->var_words)
        return HV_STATUS_INVALID_HYPERCALL_INPUT;
    c->len = t->fixed + 8 * (size_t)c->var_words + 8 * (size_t)c->rep_count;
    return c->len <= INPUT_MAX ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_HYPERCALL_INPUT;
}

static enum hv_status read_fast(struct call *c, const struct hv_hypercall *h)
{
    if (c->len > (h->has_xmm ? XMM_BYTES : FAST_BYTES))
        return HV_STATUS_INVALID_HYPERCALL_INPUT;
    c->in.words[0] = h->input;
    c->in.words[1] = h->output;
    if (h->has_xmm)
        memcpy(c->in.bytes + FAST_BYTES, h->xmm, sizeof h->xmm);
    return HV_STATUS_SUCCESS;
}

static enum hv_status read_memory(struct call *c, uint64_t gpa)
{
    if (!c->len)
        return HV_STATUS_SUCCESS;
    if (gpa % 8 || gpa % HV_PAGE_SIZE + c->len > HV_PAGE_SIZE)
        return HV_STATUS_INVALID_ALIGNMENT;
    return hv_memory_read(c->vp->p->memory, gpa, c->in.bytes, c->len)
               ? HV_STATUS_SUCCESS
               : HV_STATUS_INVALID_HYPERCALL_INPUT;
}

static enum hv_status run(struct call *c, const struct hv_hypercall *h)
{
    const struct call_type *t = find_type(c->code);
    if (!t)
        return HV_STATUS_INVALID_HYPERCALL_CODE;
    enum hv_status status = check_form(c, t, h->control);
    if (!status)
        status = c->fast ? read_fast(c, h) : read_memory(c, h->input);
    return status ? status : t->run(c);
}

bool hv_hypercall(void *ctx, unsigned vp, const struct hv_hypercall *h, uint64_t *result)
{
    struct hv_partition *p = ctx;
    if (!hv_has_synic(p) && !__atomic_load_n(&p->guest_os_id, __ATOMIC_RELAXED))
        return false;
    struct call c; /* not cleared: only what was read in is looked at, but for short fast calls */
    c.vp = &p->vp[vp];
    memset(c.in.bytes, 0, XMM_BYTES);
    decode(&c, h);
    enum hv_status status = run(&c, h);
    if (status && status != HV_STATUS_INSUFFICIENT_BUFFERS)
        LOG_GUEST("hv", "processor %u: hypercall 0x%llx fails with status %d", vp,
                  (unsigned long long)h->control, status);
    *result = status;
    if (!status)
        *result |= (uint64_t)c.rep_count << 32;
    return true;
}
