/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/vsp/balloon.h"

#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/vsp/balloon-proto.h"

enum {
    MAX_MESSAGE = 4096,
    BLOCK = 128 << 20,              /* Linux adds memory in these */
    STEP_PAGES = (64 << 20) / 4096, /* asked for at once */
    RETRY_S = 5,
};
#define NS UINT64_C(1000000000)

enum phase { DM_CLOSED, DM_OPENED, DM_VERSIONED, DM_READY };
enum doing { DOING_NOTHING, DOING_BALLOON, DOING_UNBALLOON, DOING_HOT_ADD };

struct balloon {
    struct balloon_params p;
    struct vmbus_device *dev;
    struct vmbus_channel *ch;
    struct loop_timer retry;
    bool running;

    /* saved */
    uint8_t phase, doing;
    uint32_t version, transaction;
    uint64_t caps;
    uint64_t target;    /* bytes; 0: none set */
    uint64_t base;      /* bytes of RAM without what was added */
    uint64_t added;     /* bytes that this guest has taken */
    uint64_t present;   /* bytes that are in place: a guest before this one may have had more */
    uint32_t asked;     /* BALLOON: pages not yet given */
    uint64_t *map;      /* a bit for each ballooned page */
    uint64_t map_pages; /* that the map has room for */
    uint64_t ballooned; /* pages */

    /* pressure */
    struct dm_status status;
    uint64_t status_at;
};

static void act(struct balloon *b);

static void changed(struct balloon *b)
{
    if (b->p.changed)
        b->p.changed(b->p.ctx);
}

/* ---- the set of ballooned pages ---- */

static bool get_bit(const struct balloon *b, uint64_t page)
{
    return b->map[page / 64] >> page % 64 & 1;
}

static void flip_bit(struct balloon *b, uint64_t page)
{
    b->map[page / 64] ^= UINT64_C(1) << page % 64;
}

static bool in_ram(void *ctx, struct hv_region *r)
{
    uint64_t *end = ctx;
    if (hv_region_kind(r) == HV_REGION_RAM)
        *end = MAX(*end, hv_region_gpa(r) + hv_region_size(r));
    return true;
}

/* Room for every page of RAM there is; false: no memory. */
static bool grow_map(struct balloon *b)
{
    uint64_t end = 0;
    hv_memory_each(vmbus_memory(b->p.bus), in_ram, &end);
    uint64_t pages = align_up(end / HV_PAGE_SIZE, 64);
    if (pages <= b->map_pages)
        return true;
    uint64_t *more = realloc(b->map, pages / 8);
    if (!more)
        return false;
    memset(more + b->map_pages / 64, 0, (pages - b->map_pages) / 8);
    b->map = more;
    b->map_pages = pages;
    return true;
}

/* The next run of ballooned pages from `at` on, at most `limit` long; 0: none. */
static uint64_t next_run(const struct balloon *b, uint64_t *at, uint64_t limit)
{
    uint64_t page = *at, n = 0;
    while (page < b->map_pages && !get_bit(b, page))
        page += b->map[page / 64] ? 1 : 64 - page % 64;
    *at = page;
    while (page + n < b->map_pages && n < limit && get_bit(b, page + n))
        n++;
    return n;
}

/* Pages that the guest let go. Those it names twice, or that are not memory, do not count. */
static void take_range(struct balloon *b, uint64_t first, uint64_t count)
{
    if (first >= b->map_pages || count > b->map_pages - first || count > b->asked) {
        LOG_GUEST("balloon", "the guest gives pages that it was not asked for, or has not");
        return;
    }
    if (!hv_memory_discard(vmbus_memory(b->p.bus), first * HV_PAGE_SIZE, count * HV_PAGE_SIZE))
        return;
    for (uint64_t i = 0; i < count; i++) {
        if (get_bit(b, first + i))
            continue;
        flip_bit(b, first + i);
        b->ballooned++;
    }
    b->asked -= (uint32_t)count;
}

/* ---- messages out ---- */

static bool send(struct balloon *b, void *msg, uint16_t type, size_t size)
{
    struct dm_header *h = msg;
    *h = (struct dm_header){.type = type, .size = (uint16_t)size, .transaction = ++b->transaction};
    return b->ch && vmbus_send(b->ch, b->transaction, false, msg, size);
}

static void ask_balloon(struct balloon *b, uint64_t pages)
{
    struct dm_balloon m = {.pages = (uint32_t)MIN(pages, (uint64_t)STEP_PAGES)};
    if (!grow_map(b) || !send(b, &m, DM_BALLOON_REQUEST, sizeof m))
        return;
    b->asked = m.pages;
    b->doing = DOING_BALLOON;
}

/* Gives back up to `pages`: as many runs as one message holds. The pages are the guest's again when
 * it answers, and it may use them from the request on. */
static void give_back(struct balloon *b, uint64_t pages)
{
    enum { MAX_RANGES = (MAX_MESSAGE - sizeof(struct dm_unballoon)) / 8, LONGEST = 0xFFFFFF };
    struct {
        struct dm_unballoon m;
        uint64_t ranges[MAX_RANGES];
    } u = {.m.more = 0};
    uint64_t at = 0, n, left = pages;
    while (left && u.m.count < MAX_RANGES && (n = next_run(b, &at, MIN(left, (uint64_t)LONGEST)))) {
        u.ranges[u.m.count++] = DM_RANGE(at, n);
        at += n;
        left -= n;
    }
    if (!u.m.count || !send(b, &u, DM_UNBALLOON_REQUEST, sizeof u.m + u.m.count * 8))
        return;
    for (uint32_t i = 0; i < u.m.count; i++)
        for (uint64_t k = 0; k < DM_RANGE_COUNT(u.ranges[i]); k++)
            flip_bit(b, DM_RANGE_FIRST(u.ranges[i]) + k);
    b->ballooned -= pages - left;
    b->doing = DOING_UNBALLOON;
}

static void hot_add(struct balloon *b)
{
    uint64_t gpa = b->p.hot_add_base + b->added;
    struct dm_hot_add m = {.range = DM_RANGE(gpa / HV_PAGE_SIZE, BLOCK / HV_PAGE_SIZE)};
    err e = ERR_INIT;
    m.region = m.range;
    if (b->present == b->added) {
        if (!b->p.add_ram(b->p.ctx, gpa, BLOCK, &e)) {
            log_line(LOG_WARNING, "balloon", "no memory can be added: %s", e.text);
            b->target = 0;
            return;
        }
        b->present += BLOCK;
    }
    if (send(b, &m, DM_HOT_ADD_REQUEST, sizeof m))
        b->doing = DOING_HOT_ADD;
}

static uint64_t assigned(const struct balloon *b)
{
    return b->base + b->added - b->ballooned * HV_PAGE_SIZE;
}

/* One step nearer to the target. */
static void act(struct balloon *b)
{
    if (!b->running || b->phase != DM_READY || b->doing != DOING_NOTHING || !b->target)
        return;
    uint64_t have = assigned(b), want = b->target;
    if (want + HV_PAGE_SIZE <= have && (b->caps & DM_CAP_BALLOON))
        ask_balloon(b, (have - want) / HV_PAGE_SIZE);
    else if (want >= have + HV_PAGE_SIZE && b->ballooned)
        give_back(b, (want - have) / HV_PAGE_SIZE);
    else if (want >= have + BLOCK && (b->caps & DM_CAP_HOT_ADD) && b->p.add_ram)
        hot_add(b);
}

static void on_retry(void *ctx)
{
    act(ctx);
}

/* ---- messages in ---- */

static void on_version(struct balloon *b, const uint8_t *p)
{
    struct dm_version m;
    memcpy(&m, p, sizeof m);
    bool ok = m.version == DM_VERSION_2 || m.version == DM_VERSION_1 || m.version == DM_VERSION_0_3;
    struct dm_accepted r = {.accepted = ok};
    b->transaction = m.h.transaction - 1; /* the answer carries the request's number */
    if (send(b, &r, DM_VERSION_RESPONSE, sizeof r) && ok) {
        b->version = m.version;
        b->phase = DM_VERSIONED;
    }
}

static void tell_most(struct balloon *b)
{
    struct dm_info_max m = {
        .info_size = 16, .type = 0, .size = 8, .pages = b->p.max_bytes / HV_PAGE_SIZE};
    if (b->p.max_bytes)
        send(b, &m, DM_INFO, sizeof m);
}

static void on_capabilities(struct balloon *b, const uint8_t *p)
{
    struct dm_capabilities m;
    struct dm_accepted r = {.accepted = 1};
    memcpy(&m, p, sizeof m);
    if (b->phase != DM_VERSIONED)
        return;
    b->caps = m.caps;
    b->transaction = m.h.transaction - 1;
    if (!send(b, &r, DM_CAPABILITIES_RESPONSE, sizeof r))
        return;
    b->phase = DM_READY;
    b->doing = DOING_NOTHING;
    tell_most(b);
    changed(b);
    act(b);
}

static void on_status(struct balloon *b, const uint8_t *p)
{
    memcpy(&b->status, p, sizeof b->status);
    b->status_at = clock_ns();
    changed(b);
}

static void on_balloon_response(struct balloon *b, const uint8_t *p, size_t len)
{
    struct dm_balloon_response m;
    memcpy(&m, p, sizeof m);
    if (b->doing != DOING_BALLOON)
        return;
    size_t count = MIN((size_t)(m.more_and_count >> 1), (len - sizeof m) / 8);
    uint32_t before = b->asked;
    for (size_t i = 0; i < count; i++) {
        uint64_t r = get_le64(p + sizeof m + i * 8);
        take_range(b, DM_RANGE_FIRST(r), DM_RANGE_COUNT(r));
    }
    if (m.more_and_count & 1)
        return;
    b->doing = DOING_NOTHING;
    changed(b);
    if (b->asked && b->asked == before)
        loop_timer_arm_in(&b->retry, RETRY_S * NS); /* it can spare none now */
    else
        act(b);
}

static void on_unballoon_response(struct balloon *b)
{
    if (b->doing != DOING_UNBALLOON)
        return;
    b->doing = DOING_NOTHING;
    changed(b);
    act(b);
}

static void on_hot_add_response(struct balloon *b, const uint8_t *p)
{
    struct dm_hot_add_response m;
    memcpy(&m, p, sizeof m);
    if (b->doing != DOING_HOT_ADD)
        return;
    b->doing = DOING_NOTHING;
    if (m.result && m.pages) {
        b->added += BLOCK;
        changed(b);
        act(b);
    } else if (m.result) {
        log_line(LOG_WARNING, "balloon", "the guest does not take more memory");
        b->caps &= ~(uint64_t)DM_CAP_HOT_ADD;
    } else {
        loop_timer_arm_in(&b->retry, RETRY_S * NS);
    }
}

static void handle(struct balloon *b, const struct vmbus_packet *p)
{
    static const uint8_t least[] = {[DM_VERSION_REQUEST] = sizeof(struct dm_version),
                                    [DM_CAPABILITIES_REPORT] = sizeof(struct dm_capabilities),
                                    [DM_STATUS] = sizeof(struct dm_status),
                                    [DM_BALLOON_RESPONSE] = sizeof(struct dm_balloon_response),
                                    [DM_UNBALLOON_RESPONSE] = sizeof(struct dm_header),
                                    [DM_HOT_ADD_RESPONSE] = sizeof(struct dm_hot_add_response)};
    uint16_t type = p->len >= 2 ? get_le16(p->payload) : 0;
    if (p->type != VMBUS_PACKET_INBAND || type >= sizeof least || !least[type] ||
        p->len < least[type]) {
        LOG_GUEST("balloon", "message of type %u and %u bytes ignored", type, p->len);
        return;
    }
    switch (type) {
    case DM_VERSION_REQUEST: on_version(b, p->payload); break;
    case DM_CAPABILITIES_REPORT: on_capabilities(b, p->payload); break;
    case DM_STATUS: on_status(b, p->payload); break;
    case DM_BALLOON_RESPONSE: on_balloon_response(b, p->payload, p->len); break;
    case DM_UNBALLOON_RESPONSE: on_unballoon_response(b); break;
    default: on_hot_add_response(b, p->payload);
    }
}

/* ---- the bus's callbacks ---- */

/* The driver is gone: its kernel may be another one soon, which uses all of memory. */
static void forget_guest(struct balloon *b)
{
    if (b->map)
        memset(b->map, 0, b->map_pages / 8);
    b->ballooned = b->added = 0;
    b->phase = DM_CLOSED;
    b->doing = DOING_NOTHING;
    b->status_at = 0;
    b->caps = 0;
    loop_timer_disarm(&b->retry);
}

static bool on_opened(void *ctx, struct vmbus_channel *ch, const uint8_t *user)
{
    struct balloon *b = ctx;
    forget_guest(b);
    b->ch = ch;
    b->phase = DM_OPENED;
    return true;
}

static void on_closed(void *ctx, struct vmbus_channel *ch)
{
    struct balloon *b = ctx;
    b->ch = NULL;
    forget_guest(b);
    changed(b);
}

static void on_readable(void *ctx, struct vmbus_channel *ch)
{
    struct vmbus_packet p;
    while (vmbus_channel_next(ch, &p))
        handle(ctx, &p);
}

static void on_writable(void *ctx, struct vmbus_channel *ch)
{
    act(ctx);
}

static const struct vmbus_provider_ops provider_ops = {
    .name = "balloon",
    .opened = on_opened,
    .closed = on_closed,
    .readable = on_readable,
    .writable = on_writable,
};

/* ---- for the machine ---- */

bool balloon_set_target(struct balloon *b, uint64_t bytes, err *e)
{
    uint64_t most = MAX(b->p.max_bytes, b->base + b->added);
    if (!bytes || bytes > most)
        return err_set(e, ERR_INVALID,
                       "The machine's memory can be from 1 byte to %llu MiB, not %llu MiB",
                       (unsigned long long)(most >> 20), (unsigned long long)(bytes >> 20));
    b->target = bytes;
    loop_timer_disarm(&b->retry);
    act(b);
    return true;
}

void balloon_status(const struct balloon *b, struct balloon_status *out)
{
    bool ready = b->phase == DM_READY;
    *out = (struct balloon_status){.connected = ready,
                                   .can_balloon = ready && (b->caps & DM_CAP_BALLOON),
                                   .can_hot_add = ready && (b->caps & DM_CAP_HOT_ADD),
                                   .pressure_known = ready && b->status_at,
                                   .assigned = assigned(b),
                                   .ballooned = b->ballooned * HV_PAGE_SIZE,
                                   .target = b->target ? b->target : b->base + b->added,
                                   .added = b->added};
    if (!out->pressure_known)
        return;
    out->available = b->status.available * HV_PAGE_SIZE;
    out->committed = b->status.committed * HV_PAGE_SIZE;
    out->status_age_ns = clock_ns() - b->status_at;
}

struct balloon *balloon_new(const struct balloon_params *p, err *e)
{
    struct balloon *b = calloc(1, sizeof *b);
    if (!b) {
        err_set(e, ERR_NO_MEMORY, "There is no memory for dynamic memory");
        return NULL;
    }
    b->p = *p;
    b->base = hv_memory_ram_bytes(vmbus_memory(p->bus));
    loop_timer_init(&b->retry, vmbus_loop(p->bus), on_retry, b);
    struct vmbus_device_params d = {
        .class_id = GUID(0x525074dc, 0x8985, 0x46e2, 0x8057, 0xa307dc18a502),
        .instance = GUID(0x1eccfd72, 0x4b41, 0x45ef, 0xb73a, 0x4a6e44c12924),
        .max_packet = 2 * MAX_MESSAGE,
        .ops = &provider_ops,
        .ctx = b};
    b->dev = vmbus_device_add(p->bus, &d, e);
    if (b->dev)
        return b;
    free(b);
    return NULL;
}

/* ---- life ---- */

static void balloon_start(void *self)
{
    struct balloon *b = self;
    b->running = true;
    act(b);
    if (b->doing == DOING_NOTHING && b->target)
        loop_timer_arm_in(&b->retry, RETRY_S * NS);
}

static void balloon_stop(void *self, void (*done)(void *ctx), void *ctx)
{
    struct balloon *b = self;
    b->running = false;
    loop_timer_disarm(&b->retry);
    done(ctx);
}

static void balloon_reset(void *self)
{
    struct balloon *b = self;
    b->ch = NULL;
    forget_guest(b);
}

static void balloon_destroy(void *self)
{
    struct balloon *b = self;
    vmbus_device_remove(b->dev);
    loop_timer_disarm(&b->retry);
    free(b->map);
    free(b);
}

/* ---- state: the table, then the ballooned pages as ranges ---- */

#define SECTION STATE_ID('B', 'L', 'L', 'N')
#define SECTION_PAGES STATE_ID('B', 'L', 'L', 'P')
enum { TAG_PRESENT = 9, TAG_RANGE = 1 };

static const struct state_field fields[] = {
    STATE_FIELD_MAX(1, STATE_U8, struct balloon, phase, DM_READY),
    STATE_FIELD_MAX(2, STATE_U8, struct balloon, doing, DOING_HOT_ADD),
    STATE_FIELD(3, STATE_U32, struct balloon, version),
    STATE_FIELD(4, STATE_U32, struct balloon, transaction),
    STATE_FIELD(5, STATE_U64, struct balloon, caps),
    STATE_FIELD(6, STATE_U64, struct balloon, target),
    STATE_FIELD(7, STATE_U64, struct balloon, added),
    STATE_FIELD(8, STATE_U32, struct balloon, asked),
    STATE_FIELD(TAG_PRESENT, STATE_U64, struct balloon, present),
};
static const struct state_table table = {.name = "dynamic memory",
                                         .section = SECTION,
                                         .version = 1,
                                         .least_reader = 1,
                                         .fields = fields,
                                         .nfields = ARRAY_LEN(fields)};

static void balloon_save(void *self, struct state_writer *w)
{
    struct balloon *b = self;
    state_save(w, &table, 0, b);
    state_begin(w, SECTION_PAGES, 0, 1, 1);
    uint64_t n;
    for (uint64_t at = 0; (n = next_run(b, &at, 0xFFFFFF)); at += n)
        state_put_u64(w, TAG_RANGE, DM_RANGE(at, n));
    state_end(w);
}

uint64_t balloon_saved_added(const struct state_reader *r)
{
    struct state_section s;
    struct state_field_view f;
    size_t pos = 0;
    uint64_t present = 0;
    if (!state_find(r, SECTION, 0, &s, NULL))
        return 0;
    while (state_field_next(&s, &pos, &f, NULL)) {
        if (f.tag == TAG_PRESENT && f.len == 8)
            present = get_le64(f.data);
    }
    return present;
}

static bool restore_range(struct balloon *b, uint64_t range, err *e)
{
    uint64_t first = DM_RANGE_FIRST(range), count = DM_RANGE_COUNT(range);
    if (first >= b->map_pages || count > b->map_pages - first)
        return err_set(e, ERR_CORRUPT, "The saved state of dynamic memory is damaged");
    for (uint64_t i = first; i < first + count; i++)
        if (!get_bit(b, i)) {
            flip_bit(b, i);
            b->ballooned++;
        }
    return true;
}

static bool balloon_restore(void *self, const struct state_reader *r, err *e)
{
    struct balloon *b = self;
    struct state_section s;
    struct state_field_view f;
    err mine = ERR_INIT;
    size_t pos = 0;
    bool ok = state_restore(r, &table, 0, b, &mine) && state_find(r, SECTION_PAGES, 0, &s, &mine);
    if (ok && !grow_map(b))
        ok = err_set(&mine, ERR_NO_MEMORY, "There is no memory for dynamic memory");
    while (ok && state_field_next(&s, &pos, &f, &mine))
        if (f.tag == TAG_RANGE && f.len == 8)
            ok = restore_range(b, get_le64(f.data), &mine);
    uint64_t ram = hv_memory_ram_bytes(vmbus_memory(b->p.bus));
    if (ok && mine.code == ERR_NONE &&
        (b->present > ram || b->added > b->present || b->present % BLOCK))
        ok = err_set(&mine, ERR_CORRUPT, "The saved state of dynamic memory is damaged");
    ok = ok && mine.code == ERR_NONE;
    b->base = ram - MIN(b->present, ram);
    b->ch = vmbus_device_channel(b->dev, 0);
    if (!b->ch)
        forget_guest(b);
    if (!ok && e)
        *e = mine;
    return ok;
}

static const struct device_ops ops = {
    .name = "dynamic memory",
    .start = balloon_start,
    .stop = balloon_stop,
    .reset = balloon_reset,
    .save = balloon_save,
    .restore = balloon_restore,
    .destroy = balloon_destroy,
};

struct device balloon_as_device(struct balloon *b)
{
    return (struct device){.ops = &ops, .self = b};
}
