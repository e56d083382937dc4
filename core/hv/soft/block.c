/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <stdlib.h>
#include <sys/mman.h>

#include "core/hv/soft/block.h"
#include "core/hv/soft/jit.h"
#include "core/hv/soft/ops.h"
#include "core/hv/soft/soft.h"

enum { HASH_BITS = 16, PAGE_HASH_BITS = 12 };

struct soft_cache {
    struct block *hash[1 << HASH_BITS];
    struct block *page[1 << PAGE_HASH_BITS];
    struct soft_jump jump[SOFT_JUMP_SIZE];
    uint8_t *arena;
    size_t size, used;
    uint64_t generation; /* of jump slots and fetch entries */
    /* An instruction that crosses into another page, or lies where no memory is: decoded each time.
     */
    alignas(struct block) uint8_t once[sizeof(struct block) + 2 * sizeof(struct insn)];
};

struct soft_cache *soft_cache_new(unsigned vp_count)
{
    struct soft_cache *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->size = vp_count <= 1 ? 16u << 20 : vp_count <= 4 ? (24u << 20) / vp_count : 4u << 20;
    c->arena = mmap(NULL, c->size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (c->arena == MAP_FAILED) {
        free(c);
        return NULL;
    }
    return c;
}

void soft_cache_free(struct soft_cache *c)
{
    if (!c)
        return;
    munmap(c->arena, c->size);
    free(c);
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

static void drop_in_page(struct soft_vp *vp, uint64_t page, uint64_t lo, uint64_t hi)
{
    struct block **p = page_list(vp->cache, page);
    bool left = false;
    while (*p) {
        struct block *b = *p;
        bool here = (b->phys & ~0xfffull) == page;
        if (here && b->phys < hi && lo < b->phys + b->bytes) {
            *p = b->page_next;
            drop(vp, b);
            continue;
        }
        left |= here;
        p = &b->page_next;
    }
    if (!left)
        clear_code_bit(vp, page);
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

void soft_block_drop_all(struct soft_vp *vp)
{
    struct soft_cache *c = vp->cache;
    for (size_t at = 0; at < c->used;) {
        struct block *b = (struct block *)(void *)(c->arena + at);
        clear_code_bit(vp, b->phys & ~0xfffull);
        at += (size_t)b->size16 * 16;
    }
    soft_jit_drop_all(vp);
    c->used = 0;
    memset(c->hash, 0, sizeof c->hash);
    memset(c->page, 0, sizeof c->page);
    vp->cur = NULL;
    memset(c->jump, 0, sizeof c->jump);
    soft_jump_flush(vp, 3);
}

static void mark_code(struct soft_vp *vp, uint64_t page)
{
    const struct soft_region *r = soft_region_at(vp->soft, page);
    if (!r)
        return;
    _Atomic uint64_t *word = &r->code[(page - r->gpa) >> 12];
    uint64_t bit = 1ull << vp->index;
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

static void close_block(struct insn *i, unsigned off)
{
    *i = (struct insn){.fn = soft_op_end, .off = (uint16_t)off};
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
    b->bytes = b->insn[0].len;
    return b;
}

/* Decodes into the arena; NULL if the first instruction does not end in this page. */
static struct block *decode_block(struct soft_vp *vp, const uint8_t *page, uint64_t phys,
                                  unsigned mode)
{
    struct soft_cache *c = vp->cache;
    size_t most = sizeof(struct block) + (BLOCK_MAX_INSNS + 1) * sizeof(struct insn);
    if (c->used + most > c->size)
        soft_block_drop_all(vp);
    struct block *b = (struct block *)(void *)(c->arena + c->used);
    unsigned n = 0, off = 0, in_page = phys & 0xfff;
    unsigned limit = mode & SOFT_MODE_SINGLE ? 1 : BLOCK_MAX_INSNS;
    bool open = true;
    mark_code(vp, phys & ~0xfffull); /* before reading: later writes are seen */
    while (open && n < limit && in_page + off < 0x1000) {
        enum decode_result res =
            soft_decode(&b->insn[n], page + in_page + off, 0x1000 - in_page - off, mode, off);
        if (res == DECODE_SHORT || res == DECODE_LONG)
            break;
        off += b->insn[n++].len;
        bool after_sti = n > 1 && b->insn[n - 2].fn == soft_op_sti;
        open = res == DECODE_OK && !after_sti;
    }
    if (!n)
        return NULL;
    end_in_shadow(&b->insn[n - 1]);
    close_block(&b->insn[n], off);
    b->phys = phys;
    b->mode = (uint16_t)mode;
    b->code = NULL;
    b->runs = 0;
    b->no_window = 0;
    b->n = (uint16_t)n;
    b->bytes = (uint16_t)off;
    size_t size = sizeof *b + (n + 1) * sizeof(struct insn);
    b->size16 = (uint16_t)((size + 15) / 16);
    c->used += (size_t)b->size16 * 16;
    return b;
}

static struct block *find_or_decode(struct soft_vp *vp, const uint8_t *page, uint64_t phys,
                                    unsigned mode)
{
    struct soft_cache *c = vp->cache;
    for (struct block *b = c->hash[hash_of(phys, mode)]; b; b = b->hash_next)
        if (b->phys == phys && b->mode == mode)
            return b;
    struct block *b = decode_block(vp, page, phys, mode);
    if (!b)
        return NULL;
    struct block **h = &c->hash[hash_of(phys, mode)], **p = page_list(c, phys);
    b->hash_next = *h;
    *h = b;
    b->page_next = *p;
    *p = b;
    return b;
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
