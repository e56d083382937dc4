/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The software processor's machine-wide part: guest memory as the VPs see it, the VPs themselves,
 * and what they ask of each other. Handlers see cpu.h and access.h; this is for the files that run
 * them.
 */
#ifndef VIREO_HV_SOFT_SOFT_H
#define VIREO_HV_SOFT_SOFT_H

#include <pthread.h>

#include "core/hv/soft/access.h"
#include "core/hv/soft/lapic.h"

enum {
    SOFT_MAX_REGIONS = 64,
    SOFT_MAX_VPS = 64,
    SOFT_MAIL = 1024, /* as much as a processor decodes or writes while another has no host's */
    SOFT_PHYS_BITS = 39,
};

struct soft_region {
    uint64_t gpa, size;
    /* What is seen there, and whether it may be written: these two change in place. */
    uint8_t *_Atomic host;
    _Atomic bool writable;
    const struct hv_region *region;
    _Atomic uint64_t *code;  /* a word a page: the VPs that hold code decoded from it */
    _Atomic uint64_t *dirty; /* a bit a page, while the dirty log is on */
};

/* An immutable list; adding and removing makes a new one. Old ones live until the backend is
 * destroyed. */
struct soft_map {
    struct soft_map *older;
    unsigned n;
    struct soft_region r[SOFT_MAX_REGIONS];
};

struct soft_range {
    uint64_t gpa;
    uint32_t len;
};

/* What other threads ask of a VP; under `lock`. */
struct soft_mail {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    unsigned nwritten, nprotect;
    bool all_code, all_tlb;
    struct soft_range written[SOFT_MAIL]; /* bytes that were overwritten */
    uint64_t protect[SOFT_MAIL];          /* pages that now hold code: drop write rights */
    _Atomic uint8_t sipi;
    _Atomic unsigned nmis; /* arrived, not yet taken */
    _Atomic bool asleep;
    _Atomic bool inside; /* may hold host pointers into guest memory */
    pthread_cond_t left;
};

struct soft {
    struct hv_memory *memory;
    struct hv_io *io;
    struct hv_timers *timers;
    struct hv_backend_upcalls up;
    struct hv_cpuid *cpuid;
    size_t ncpuid;
    const struct hv_clock *clock;
    uint64_t apic_hz;
    unsigned vp_count;
    bool amd, has_1g, has_smap;
    struct soft_vp **vp;
    struct soft_mail *mail;
    _Atomic(struct soft_map *) map;
    pthread_mutex_t map_lock, split_lock;
    _Atomic bool extint, dirty_log;
    _Atomic uint64_t a20_mask; /* for physical addresses: all ones, or without bit 20 */
};

/* mmu.c */
struct soft_mmu_state *soft_mmu_new(struct soft_vp *vp);
void soft_mmu_free(struct soft_mmu_state *m);
uint64_t soft_mmu_memory(void); /* bytes */
const struct soft_region *soft_region_at(struct soft *s, uint64_t gpa);
void soft_mmu_update(struct soft_vp *vp); /* CPL, CR0, CR4, EFLAGS.AC changed */
void soft_flush_tlb(struct soft_vp *vp, bool global);
void soft_flush_page(struct soft_vp *vp, uint64_t lin);
/* Takes write rights to a page away; whether there were any. */
bool soft_drop_write(struct soft_vp *vp, uint64_t gpa_page);
bool soft_load_pdptes(struct soft_vp *vp, uint64_t cr3); /* false: #GP */
/* Implicit supervisor accesses (descriptor tables, TSS). */
void soft_sys_read(struct soft_vp *vp, const struct insn *i, uint64_t lin, void *buf,
                   unsigned size);
void soft_sys_write(struct soft_vp *vp, const struct insn *i, uint64_t lin, const void *buf,
                    unsigned size);
/* Stack of another privilege level, before CPL changes. */
void soft_write_as(struct soft_vp *vp, const struct insn *i, unsigned cpl, uint64_t lin,
                   const void *buf, unsigned size);
/* Instruction bytes: the host address of the page and its physical address; raises #PF. NULL: no
 * memory. */
const uint8_t *soft_fetch_page(struct soft_vp *vp, uint64_t lin, uint64_t *phys);

/* mail.c: code and translations that other threads changed. */
void soft_code_written(struct soft *s, struct soft_vp *self, uint64_t gpa, uint64_t len);
void soft_code_protect(struct soft *s, struct soft_vp *self, uint64_t page);
void soft_mail_take(struct soft_vp *vp);
/* The VPs in the mask drop their translations before this returns. Not from inside. */
void soft_flush_others(struct soft *s, uint64_t mask);
void soft_send_nmi(struct soft *s, unsigned vp);
void soft_attention(struct soft *s, unsigned vp, uint32_t what);
/* The host wrote to memory. */
void soft_host_wrote(struct soft *s, uint64_t gpa, uint64_t len);
bool soft_map_dirty(struct soft *s, const struct hv_region *r, uint64_t *bitmap, err *e);
bool soft_map_add(struct soft *s, const struct hv_region *r, err *e);
void soft_map_remove(struct soft *s, const struct hv_region *r);
/* Not from inside, as the next. */
void soft_map_change(struct soft *s, const struct hv_region *r);
void soft_set_a20_mask(struct soft *s, uint64_t mask);

/* Around upcalls and I/O: the VP holds no host pointer meanwhile. */
void soft_leave_guest(struct soft_vp *vp);
void soft_enter_guest(struct soft_vp *vp);
/* Port I/O: the permission check (IOPL, TSS bitmap), the access. */
void soft_io_check(struct soft_vp *vp, const struct insn *i, unsigned port, unsigned size);
uint32_t soft_port_in(struct soft_vp *vp, unsigned port, unsigned size);
void soft_port_out(struct soft_vp *vp, unsigned port, unsigned size, uint32_t v);
uint64_t soft_io_read(struct soft_vp *vp, enum hv_io_space space, uint64_t addr, unsigned size);
void soft_io_write(struct soft_vp *vp, enum hv_io_space space, uint64_t addr, unsigned size,
                   uint64_t value);

/* One processor's part of a cache, as many as there are; of many, more than its part. */
static inline uint32_t soft_share(uint32_t bytes, unsigned vp_count)
{
    return (bytes / (!vp_count ? 1 : vp_count < 6 ? vp_count : 6)) & ~4095u;
}

/* block.c */
struct soft_cache *soft_cache_new(unsigned vp_count);
void soft_cache_free(struct soft_cache *c);
/* The bytes it has used at once, at most, and how often it was emptied; any thread. */
uint64_t soft_cache_memory(const struct soft_cache *c);
uint64_t soft_cache_flushes(const struct soft_cache *c);
struct block *soft_block(struct soft_vp *vp); /* for vp->rip in the present mode; may raise */
void soft_block_drop(struct soft_vp *vp, uint64_t gpa, uint64_t len);
void soft_block_drop_all(struct soft_vp *vp);
/* Look-ups of the halves of the address space (1 lower, 2 upper) are made anew. */
void soft_jump_flush(struct soft_vp *vp, unsigned halves);

/* state.c */
bool soft_flat(const struct soft_vp *vp); /* what SOFT_MODE_FLAT says */
void soft_update_mode(
    struct soft_vp *vp); /* after any change of CS, EFLAGS, CR0, EFER, DR7, shadow, CPL */
bool soft_get_state(struct soft_vp *vp, struct hv_vp_state *s);
bool soft_set_state(struct soft_vp *vp, const struct hv_vp_state *s, err *e);
void soft_reset_vp(struct soft_vp *vp, bool init);

/* event.c */
void soft_deliver_pending(struct soft_vp *vp);
void soft_deliver_interrupt(struct soft_vp *vp, unsigned vector);
enum soft_event { EVENT_FAULT, EVENT_HARDWARE, EVENT_INT, EVENT_INT3 /* and INTO, INT1 */ };
/* Enters the handler; `back` is the rip that it returns to. May raise. */
void soft_deliver(struct soft_vp *vp, enum soft_event kind, unsigned vector, bool has_error,
                  uint32_t error, uint64_t back);
/* INT n, INT3, INTO, INT1: ends the block. */
void soft_software_interrupt(struct soft_vp *vp, const struct insn *i, unsigned vector,
                             enum soft_event kind);
_Noreturn void soft_stop(struct soft_vp *vp, enum hv_exit_kind kind, const char *text);

/* run.c */
void soft_yield(struct soft_vp *vp); /* lets other threads run while the guest spins */
void soft_run(struct soft_vp *vp, struct hv_exit *exit);

/* msr.c, cpuid.c */
bool soft_rdmsr(struct soft_vp *vp, uint32_t msr, uint64_t *v);
bool soft_wrmsr(struct soft_vp *vp, uint32_t msr, uint64_t v);
void soft_cpuid(struct soft_vp *vp, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
bool soft_random(uint64_t *v);
uint64_t soft_tsc(const struct soft_vp *vp);

#endif
