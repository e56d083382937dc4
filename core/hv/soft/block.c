/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <stdlib.h>
#include <sys/mman.h>

#include "core/base/bytes.h"
#include "core/hv/soft/block.h"
#include "core/hv/soft/jit.h"
#include "core/hv/soft/ops.h"
#include "core/hv/soft/reread.h"
#include "core/hv/soft/soft.h"

enum { HASH_BITS = 16, PAGE_HASH_BITS = 12, EMPTIED = 64, EMPTY_WRITES = 16 };
enum { FRESH_BYTES = 8 << 20, KEPT_BYTES = 20 << 20 }; /* see soft_share */

/* A page whose code was overwritten, and how often it has been written to since; 0: it has code. */
struct emptied {
    uint64_t page;
    unsigned writes;
};

/* Decoded blocks, one behind the other. */
struct arena {
    uint8_t *at;
    size_t size, used, most; /* most: that was used, up to the last time it was emptied */
};

/*
 * Every block is decoded into `fresh`, which is emptied by itself: much code runs a few times and
 * never again. What becomes hot is decoded once more into `kept`, where its instructions stay as
 * long as its translation, which may go on in them.
 */
struct soft_cache {
    struct block *hash[1 << HASH_BITS];
    struct block *page[1 << PAGE_HASH_BITS];
    struct soft_jump jump[SOFT_JUMP_SIZE];
    struct emptied emptied[EMPTIED];
    struct arena fresh, kept;
    uint64_t flushes;
    uint64_t generation; /* of jump slots and fetch entries */
    /* An instruction that crosses into another page, or lies where no memory is: decoded each time.
     */
    alignas(struct block) uint8_t once[sizeof(struct block) + 2 * sizeof(struct insn)];
};

static bool arena_init(struct arena *a, size_t size)
{
    a->size = size;
    a->at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                 -1, 0);
    if (a->at == MAP_FAILED)
        a->at = NULL;
    return a->at != NULL;
}

static size_t block_size(unsigned insns)
{
    return sizeof(struct block) + (insns + 1) * sizeof(struct insn);
}

static bool arena_has_room(const struct arena *a)
{
    return a->used + block_size(BLOCK_MAX_INSNS) <= a->size;
}

static void arena_take(struct arena *a, size_t bytes)
{
    __atomic_store_n(&a->used, a->used + bytes, __ATOMIC_RELAXED);
}

static void arena_empty(struct arena *a)
{
    if (a->used > a->most)
        __atomic_store_n(&a->most, a->used, __ATOMIC_RELAXED);
    __atomic_store_n(&a->used, 0, __ATOMIC_RELAXED);
}

static size_t arena_memory(const struct arena *a)
{
    size_t used = __atomic_load_n(&a->used, __ATOMIC_RELAXED);
    size_t most = __atomic_load_n(&a->most, __ATOMIC_RELAXED);
    return used > most ? used : most;
}

static bool is_fresh(const struct soft_cache *c, const struct block *b)
{
    return (uintptr_t)b - (uintptr_t)c->fresh.at < c->fresh.size;
}

struct soft_cache *soft_cache_new(unsigned vp_count)
{
    struct soft_cache *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    if (!arena_init(&c->fresh, soft_share(FRESH_BYTES, vp_count)) ||
        !arena_init(&c->kept, soft_share(KEPT_BYTES, vp_count))) {
        soft_cache_free(c);
        return NULL;
    }
    return c;
}

void soft_cache_free(struct soft_cache *c)
{
    if (!c)
        return;
    if (c->fresh.at)
        munmap(c->fresh.at, c->fresh.size);
    if (c->kept.at)
        munmap(c->kept.at, c->kept.size);
    free(c);
}

uint64_t soft_cache_memory(const struct soft_cache *c)
{
    return sizeof *c + arena_memory(&c->fresh) + arena_memory(&c->kept);
}

uint64_t soft_cache_flushes(const struct soft_cache *c)
{
    return __atomic_load_n(&c->flushes, __ATOMIC_RELAXED);
}

void soft_jump_flush(struct soft_vp *vp, unsigned halves)
{
    uint64_t next = ++vp->cache->generation << 8;
    vp->jump = vp->cache->jump;
    for (unsigned half = 0; half < 2; half++)
        if (halves >> half & 1)
            vp->jump_key[half] = next | (vp->jump_key[half] & 0xff);
    soft_jit_forget_calls(vp);
}

static unsigned hash_of(uint64_t phys, unsigned mode)
{
    uint64_t h = (phys ^ (uint64_t)mode << 7) * 0x9e3779b97f4a7c15ull;
    return (unsigned)(h >> (64 - HASH_BITS));
}

static struct block **page_list(struct soft_cache *c, uint64_t phys)
{
    return &c->page[((phys >> 12) * 0x9e3779b97f4a7c15ull) >> (64 - PAGE_HASH_BITS)];
}

/* In place of the first handler of a dropped block. */
static void op_dropped(struct soft_vp *vp, const struct insn *i)
{
    vp->rip = soft_insn_rip(vp, i);
    soft_count_insns(
        vp, -(int64_t)((const struct block *)((const char *)i - offsetof(struct block, insn)))->n);
}

/* In place of the instruction after the one that overwrote its own block. */
static void op_resync(struct soft_vp *vp, const struct insn *i)
{
    vp->rip = soft_insn_rip(vp, i);
}

void soft_op_end(struct soft_vp *vp, const struct insn *i)
{
    vp->rip = soft_insn_rip(vp, i);
    soft_chain(vp);
}

static void unhash(struct soft_cache *c, struct block *b)
{
    struct block **p = &c->hash[hash_of(b->phys, b->mode)];
    while (*p && *p != b)
        p = &(*p)->hash_next;
    if (*p)
        *p = b->hash_next;
}

static void drop(struct soft_vp *vp, struct block *b)
{
    unhash(vp->cache, b);
    b->phys = SOFT_TLB_NONE; /* no jump slot leads here again */
    soft_jit_drop(vp, b);
    const struct insn *cur = vp->cur;
    if (cur && cur >= b->insn && cur < b->insn + b->n)
        b->insn[cur - b->insn + 1].fn = op_resync;
    b->insn[0].fn = op_dropped;
}

static void clear_code_bit(struct soft_vp *vp, uint64_t page)
{
    const struct soft_region *r = soft_region_at(vp->soft, page);
    if (r)
        atomic_fetch_and(&r->code[(page - r->gpa) >> 12], ~(1ull << vp->index));
}

/*
 * Protecting a page costs far more than a write that is looked at: one that has lost its code stays
 * protected for a while, for it is likely to get new code, where programs write code and run it.
 */
static void page_emptied(struct soft_vp *vp, uint64_t page)
{
    struct emptied *e = &vp->cache->emptied[page >> 12 & (EMPTIED - 1)];
    if (e->page != page) {
        if (e->writes)
            clear_code_bit(vp, e->page);
        *e = (struct emptied){.page = page};
    }
    if (++e->writes < EMPTY_WRITES)
        return;
    *e = (struct emptied){.page = SOFT_TLB_NONE};
    clear_code_bit(vp, page);
}

static void drop_in_page(struct soft_vp *vp, uint64_t page, uint64_t lo, uint64_t hi)
{
    struct block **p = page_list(vp->cache, page);
    bool left = false;
    while (*p) {
        struct block *b = *p;
        bool here = (b->phys & ~0xfffull) == page;
        if (here && b->phys - b->before < hi && lo < b->phys + b->bytes) {
            *p = b->page_next;
            drop(vp, b);
            continue;
        }
        left |= here;
        p = &b->page_next;
    }
    if (!left)
        page_emptied(vp, page);
}

void soft_block_drop(struct soft_vp *vp, uint64_t gpa, uint64_t len)
{
    for (uint64_t at = gpa; at < gpa + len;) {
        uint64_t end = (at | 0xfff) + 1;
        end = end < gpa + len ? end : gpa + len;
        drop_in_page(vp, at & ~0xfffull, at, end);
        at = end;
    }
}

static void clear_code_bits(struct soft_vp *vp, const struct arena *a)
{
    for (size_t at = 0; at < a->used;) {
        const struct block *b = (const struct block *)(const void *)(a->at + at);
        clear_code_bit(vp, b->phys & ~0xfffull);
        at += (size_t)b->size16 * 16;
    }
}

void soft_block_drop_all(struct soft_vp *vp)
{
    struct soft_cache *c = vp->cache;
    clear_code_bits(vp, &c->fresh);
    clear_code_bits(vp, &c->kept);
    soft_jit_drop_all(vp);
    arena_empty(&c->fresh);
    arena_empty(&c->kept);
    __atomic_store_n(&c->flushes, c->flushes + 1, __ATOMIC_RELAXED);
    memset(c->hash, 0, sizeof c->hash);
    memset(c->page, 0, sizeof c->page);
    vp->cur = NULL;
    memset(c->jump, 0, sizeof c->jump);
    soft_jump_flush(vp, 3);
}

/* Forgets the blocks that are not kept. Their pages stay marked as having code, which is no more
 * than a write that is looked at in vain. */
static void drop_fresh(struct soft_vp *vp)
{
    struct soft_cache *c = vp->cache;
    for (size_t n = 0; n < ARRAY_LEN(c->hash); n++)
        for (struct block **p = &c->hash[n]; *p;)
            if (is_fresh(c, *p))
                *p = (*p)->hash_next;
            else
                p = &(*p)->hash_next;
    for (size_t n = 0; n < ARRAY_LEN(c->page); n++)
        for (struct block **p = &c->page[n]; *p;)
            if (is_fresh(c, *p))
                *p = (*p)->page_next;
            else
                p = &(*p)->page_next;
    for (size_t n = 0; n < ARRAY_LEN(c->jump); n++)
        if (c->jump[n].b && is_fresh(c, c->jump[n].b))
            c->jump[n] = (struct soft_jump){0};
    vp->cur = NULL;
    arena_empty(&c->fresh);
}

static void mark_code(struct soft_vp *vp, uint64_t page)
{
    const struct soft_region *r = soft_region_at(vp->soft, page);
    if (!r)
        return;
    _Atomic uint64_t *word = &r->code[(page - r->gpa) >> 12];
    uint64_t bit = 1ull << vp->index;
    struct emptied *e = &vp->cache->emptied[page >> 12 & (EMPTIED - 1)];
    if (e->page == page)
        e->writes = 0;
    if (atomic_load_explicit(word, memory_order_relaxed) & bit)
        return;
    atomic_fetch_or(word, bit);
    soft_code_protect(vp->soft, vp, page);
}

/* See soft_op_sti. */
static void end_in_shadow(struct insn *last)
{
    if (last->fn == soft_op_sti)
        last->fn = soft_op_sti_last;
}

static void close_block(struct insn *i, int off)
{
    *i = (struct insn){.fn = soft_op_end, .off = (int16_t)off};
}

/* One instruction by itself, gathering its bytes over the page boundary. */
static struct block *decode_once(struct soft_vp *vp, uint64_t lin, unsigned mode)
{
    struct block *b = (struct block *)(void *)vp->cache->once;
    uint8_t bytes[16];
    unsigned have = 0;
    uint64_t phys;
    enum decode_result res = DECODE_SHORT;
    while (res == DECODE_SHORT && have < 15) {
        uint64_t at = lin + have;
        if (vp->code != SOFT_MODE64) {
            at = (uint32_t)at;
            if (vp->rip + have > vp->seg[HV_CS].limit)
                soft_raise_error(vp, NULL, EXC_GP, 0);
        }
        const uint8_t *host = soft_fetch_page(vp, at, &phys);
        unsigned n = 0x1000 - (at & 0xfff);
        if (vp->code != SOFT_MODE64 && vp->rip + have + n - 1 > vp->seg[HV_CS].limit)
            n = (unsigned)(vp->seg[HV_CS].limit - (vp->rip + have) + 1);
        n = n < 15 - have ? n : 15 - have;
        memcpy(bytes + have, host + (at & 0xfff), n);
        have += n;
        res = soft_decode(&b->insn[0], bytes, have, mode, 0);
    }
    if (res == DECODE_SHORT || res == DECODE_LONG)
        soft_raise_error(vp, NULL, EXC_GP, 0);
    end_in_shadow(&b->insn[0]);
    close_block(&b->insn[1], b->insn[0].len);
    b->code = (void *)(uintptr_t)SOFT_JIT_NEVER;
    b->n = 1;
    b->before = 0;
    b->bytes = b->insn[0].len;
    return b;
}

/* A block being decoded: the last instruction's end and all that was read, from its first byte on.
 */
struct decoding {
    struct arena *arena;
    struct block *b;
    const uint8_t *page;
    int in_page, off, low, high;
    bool ended; /* by a branch or the like */
};

/* One more instruction; false: it does not end in this page. */
static bool decode_one(struct decoding *d, unsigned mode)
{
    struct block *b = d->b;
    int at = d->in_page + d->off;
    if (at >= 0x1000)
        return false;
    struct insn *i = &b->insn[b->n];
    enum decode_result res = soft_decode(i, d->page + at, (unsigned)(0x1000 - at), mode, d->off);
    if (res == DECODE_SHORT || res == DECODE_LONG)
        return false;
    d->low = d->off < d->low ? d->off : d->low;
    d->off += i->len;
    d->high = d->off > d->high ? d->off : d->high;
    bool after_sti = b->n && i[-1].fn == soft_op_sti;
    d->ended = res == DECODE_END || after_sti;
    b->n++;
    return true;
}

/* Takes the room in the arena. */
static struct block *finish_block(struct soft_vp *vp, struct decoding *d, uint64_t phys,
                                  unsigned mode)
{
    struct block *b = d->b;
    end_in_shadow(&b->insn[b->n - 1]);
    close_block(&b->insn[b->n], d->off);
    b->phys = phys;
    b->mode = (uint16_t)mode;
    b->before = (uint16_t)-d->low;
    b->bytes = (uint16_t)d->high;
    b->size16 = (uint16_t)((block_size(b->n) + 15) / 16);
    arena_take(d->arena, (size_t)b->size16 * 16);
    return b;
}

static struct decoding begin_block(struct arena *a, const uint8_t *page, uint64_t phys)
{
    struct block *b = (struct block *)(void *)(a->at + a->used);
    *b = (struct block){.n = 0};
    return (struct decoding){.arena = a, .b = b, .page = page, .in_page = phys & 0xfff};
}

/* NULL if the first instruction does not end in this page. */
static struct block *decode_block(struct soft_vp *vp, const uint8_t *page, uint64_t phys,
                                  unsigned mode)
{
    struct soft_cache *c = vp->cache;
    if (!arena_has_room(&c->fresh))
        drop_fresh(vp);
    struct decoding d = begin_block(&c->fresh, page, phys);
    unsigned limit = mode & SOFT_MODE_SINGLE ? 1 : BLOCK_MAX_INSNS;
    mark_code(vp, phys & ~0xfffull); /* before reading: later writes are seen */
    while (!d.ended && d.b->n < limit && decode_one(&d, mode))
        ;
    return d.b->n ? finish_block(vp, &d, phys, mode) : NULL;
}

static struct block *find(struct soft_cache *c, uint64_t phys, unsigned mode)
{
    for (struct block *b = c->hash[hash_of(phys, mode)]; b; b = b->hash_next)
        if (b->phys == phys && b->mode == mode)
            return b;
    return NULL;
}

static void enlist(struct soft_cache *c, struct block *b)
{
    struct block **h = &c->hash[hash_of(b->phys, b->mode)], **p = page_list(c, b->phys);
    b->hash_next = *h;
    *h = b;
    b->page_next = *p;
    *p = b;
}

static struct block *find_or_decode(struct soft_vp *vp, const uint8_t *page, uint64_t phys,
                                    unsigned mode)
{
    struct block *b = find(vp->cache, phys, mode);
    if (b)
        return b;
    b = decode_block(vp, page, phys, mode);
    if (b)
        enlist(vp->cache, b);
    return b;
}

/* ---- blocks that go on beyond jumps ---- */

static bool is_decoded(const struct block *b, int off)
{
    for (unsigned k = 0; k < b->n; k++)
        if (b->insn[k].off == off)
            return true;
    return false;
}

static int condition(const struct insn *i)
{
    for (int cc = 0; cc < 16; cc++)
        if (i->fn == soft_jcc[cc] || i->fn == soft_jcc_legacy[cc])
            return cc;
    return -1;
}

/* Whether the block of these came here often, too, as blocks go that are about to be translated. */
static bool often(struct soft_vp *vp, const struct decoding *d, int off, uint64_t phys,
                  unsigned mode)
{
    const struct block *b = find(vp->cache, phys + (uint64_t)(int64_t)off, mode);
    return b && (soft_jit_ready(b) || b->runs * 2 >= vp->jit_after);
}

/* Handlers of jumps in the middle are not called from translated code, and leave it to bail out. */
static bool translated_as_jump(const struct decoding *d, const struct insn *i, unsigned mode)
{
    struct reread r;
    unsigned at = (unsigned)(d->in_page + i->off);
    return soft_reread(d->page + at, 0x1000 - at, (mode & SOFT_MODE_SIZE) == SOFT_MODE32, &r) &&
           r.len == i->len && (r.kind == RR_JCC || r.kind == RR_JMP);
}

/* The block ends with a jump: makes it one in the middle, if it may be. */
static bool go_beyond(struct soft_vp *vp, struct decoding *d, uint64_t phys, unsigned mode,
                      bool all)
{
    struct insn *i = &d->b->insn[d->b->n - 1];
    int64_t by = (int64_t)i->imm;
    if (!translated_as_jump(d, i, mode) || by > INT32_MAX / 2 || by < INT32_MIN / 2 ||
        (d->b->n > 1 && i[-1].fn == soft_op_sti)) /* in STI's shadow */
        return false;
    if (i->fn == soft_op_jmp || i->fn == soft_op_jmp_legacy) {
        if (d->in_page + by < 0 || d->in_page + by >= 0x1000 || is_decoded(d->b, (int)by))
            return false;
        i->fn = soft_op_jmp_mid;
        d->off = (int)by;
        return true;
    }
    int cc = condition(i);
    if (cc < 0 || d->in_page + d->off >= 0x1000 || is_decoded(d->b, d->off) ||
        !(all || often(vp, d, d->off, phys, mode)))
        return false;
    i->fn = soft_jcc_mid[cc];
    return true;
}

/* Tells conditional jumps in the middle how many instructions are not run when they are taken. */
static void count_rest(struct block *b)
{
    for (unsigned k = 0; k < b->n; k++)
        for (unsigned cc = 0; cc < 16; cc++)
            if (b->insn[k].fn == soft_jcc_mid[cc])
                b->insn[k].disp = (int32_t)(b->n - 1 - k);
}

static void replace(struct soft_vp *vp, struct block *old, struct block *b)
{
    struct block **p = page_list(vp->cache, old->phys);
    while (*p && *p != old)
        p = &(*p)->page_next;
    if (*p)
        *p = old->page_next;
    drop(vp, old);
    enlist(vp->cache, b);
}

struct block *soft_block_keep(struct soft_vp *vp, struct block *b, bool all)
{
    struct soft_cache *c = vp->cache;
    unsigned size = b->mode & SOFT_MODE_SIZE;
    bool flat = size == SOFT_MODE64 || (size == SOFT_MODE32 && (b->mode & SOFT_MODE_FLAT));
    const struct soft_region *r = soft_region_at(vp->soft, b->phys);
    if (b->kept)
        return b;
    if (!flat || (b->mode & SOFT_MODE_SINGLE) || !r) {
        b->code = (void *)(uintptr_t)SOFT_JIT_NEVER;
        return NULL;
    }
    if (!arena_has_room(&c->kept)) {
        vp->jit_full = true;
        return NULL;
    }
    uint64_t phys = b->phys;
    struct decoding d = begin_block(&c->kept, r->host + ((phys & ~0xfffull) - r->gpa), phys);
    while (d.b->n < BLOCK_MAX_INSNS && decode_one(&d, b->mode))
        if (d.ended && !go_beyond(vp, &d, phys, b->mode, all))
            break;
    if (!d.b->n) /* overwritten meanwhile */
        return NULL;
    struct block *kept = finish_block(vp, &d, phys, b->mode);
    kept->kept = true;
    kept->runs = b->runs;
    kept->own_windows = b->own_windows;
    count_rest(kept);
    replace(vp, b, kept);
    return kept;
}

struct block *soft_block(struct soft_vp *vp)
{
    uint64_t lin = soft_linear_rip(vp), phys;
    uint64_t key = soft_jump_key(vp, lin);
    unsigned mode = key & SOFT_MODE_BLOCK;
    if (vp->code != SOFT_MODE64 && vp->rip > vp->seg[HV_CS].limit)
        soft_raise_error(vp, NULL, EXC_GP, 0);
    const uint8_t *page = soft_fetch_page(vp, lin, &phys);
    if (phys == SOFT_TLB_NONE)
        return decode_once(vp, lin, mode);
    phys |= lin & 0xfff;
    struct soft_jump *j = soft_jump_slot(vp, lin);
    bool same = j->lin == lin && j->b && j->b->phys == phys && j->b->mode == mode;
    struct block *b = same ? j->b : find_or_decode(vp, page, phys, mode);
    if (!b)
        return decode_once(vp, lin, mode);
    if (vp->code != SOFT_MODE64 && vp->rip + b->bytes - 1 > vp->seg[HV_CS].limit)
        return decode_once(vp, lin, mode);
    j->lin = lin;
    j->key = key;
    j->b = b;
    j->code = soft_jit_ready(b) ? b->code : vp->jit_cold;
    return b;
}
