/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The run loop of a VP: blocks one after another, and between them whatever asks for attention. */
#include <sched.h>

#include "core/hv/soft/block.h"
#include "core/hv/soft/check.h"
#include "core/hv/soft/jit.h"
#include "core/hv/soft/seg.h"
#include "core/hv/soft/soft.h"

void soft_yield(struct soft_vp *vp)
{
    soft_leave_guest(vp);
    sched_yield();
    soft_enter_guest(vp);
}

/* Sleeps until something other than its own recheck is asked. */
static void wait_attention(struct soft_vp *vp)
{
    struct soft_mail *m = &vp->soft->mail[vp->index];
    soft_leave_guest(vp);
    pthread_mutex_lock(&m->lock);
    atomic_store(&m->asleep, true);
    while (!(atomic_load(&vp->attn) & ~(uint32_t)ATTN_SELF))
        pthread_cond_wait(&m->wake, &m->lock);
    atomic_store(&m->asleep, false);
    pthread_mutex_unlock(&m->lock);
    soft_enter_guest(vp);
}

static void take_sipi(struct soft_vp *vp)
{
    if (vp->activity != HV_VP_WAIT_FOR_SIPI && vp->activity != HV_VP_INIT_RECEIVED)
        return;
    uint8_t vector = atomic_load(&vp->soft->mail[vp->index].sipi);
    struct hv_segment cs = vp->seg[HV_CS];
    cs.selector = (uint16_t)(vector << 8);
    cs.base = (uint64_t)vector << 12;
    cs.limit = 0xffff;
    vp->rip = 0;
    vp->activity = HV_VP_RUNNING;
    soft_set_cs(vp, &cs, 0);
}

/* One NMI may wait while another is served; two that came since the last look are one each. */
static void take_nmis(struct soft_vp *vp)
{
    unsigned n = atomic_exchange(&vp->soft->mail[vp->index].nmis, 0) + vp->nmi_pending;
    unsigned most = vp->nmi_blocked ? 1 : 2;
    vp->nmi_pending = (uint8_t)(n < most ? n : most);
}

static int external_vector(struct soft_vp *vp)
{
    int v = soft_lapic_base(vp->lapic) & 0x800 ? soft_lapic_ack(vp->lapic) : -1;
    struct soft *s = vp->soft;
    if (v < 0 && atomic_load(&s->extint) && soft_lapic_takes_extint(vp->lapic) &&
        s->up.extint_ack) {
        soft_leave_guest(vp);
        v = s->up.extint_ack(s->up.ctx);
        soft_enter_guest(vp);
    }
    return v;
}

/* vp->held stays set until a look finds nothing more. */
static void deliver_events(struct soft_vp *vp)
{
    vp->held = true;
    bool open = (vp->eflags & FL_IF) && !vp->shadow;
    if (vp->taken && open) {
        vp->taken = false;
        vp->activity = HV_VP_RUNNING;
        soft_deliver_interrupt(vp, vp->taken_vector);
        return;
    }
    if (vp->nmi_pending && !vp->nmi_blocked && !vp->shadow) {
        vp->nmi_pending--;
        vp->nmi_blocked = true;
        vp->activity = HV_VP_RUNNING;
        soft_deliver_interrupt(vp, EXC_NMI);
        return;
    }
    if (!open)
        return;
    int v = external_vector(vp);
    if (v < 0) {
        vp->held = vp->nmi_pending != 0;
        return;
    }
    vp->activity = HV_VP_RUNNING;
    soft_deliver_interrupt(vp, (unsigned)v);
}

/* What others asked for; false: the run ends. */
static bool attend(struct soft_vp *vp)
{
    uint32_t what = atomic_load(&vp->attn);
    if (what & (ATTN_CODE | ATTN_TLB))
        soft_mail_take(vp);
    uint32_t mine =
        ATTN_INTR | ATTN_EXTINT | ATTN_SELF | ATTN_NMI | ATTN_INIT | ATTN_SIPI | ATTN_KICK;
    what = atomic_fetch_and(&vp->attn, ~mine);
    if (what & ATTN_NMI)
        take_nmis(vp);
    if (what & ATTN_INIT)
        soft_reset_vp(vp, true);
    if (what & ATTN_SIPI)
        take_sipi(vp);
    if (what & ATTN_KICK) {
        atomic_fetch_or(&vp->attn, ATTN_SELF);
        vp->exit->kind = HV_EXIT_KICKED;
        return false;
    }
    if (vp->activity <= HV_VP_HALTED)
        deliver_events(vp);
    if (vp->activity != HV_VP_RUNNING && !atomic_load(&vp->attn)) {
        wait_attention(vp);
        atomic_fetch_or(&vp->attn, ATTN_SELF);
    }
    return true;
}

/* Instruction breakpoints (SDM vol. 3, 17.3.1.1). */
static void code_breakpoints(struct soft_vp *vp)
{
    uint64_t lin = soft_linear_rip(vp), hit = 0;
    if (!(vp->dr7 & 0xff) || (vp->eflags & FL_RF))
        return;
    for (unsigned n = 0; n < 4; n++)
        if ((vp->dr7 >> (2 * n) & 3) && !(vp->dr7 >> (16 + 4 * n) & 3) && vp->dr[n] == lin)
            hit |= 1u << n;
    if (!hit)
        return;
    vp->dr6 = (vp->dr6 & ~15ull) | hit;
    soft_raise(vp, NULL, EXC_DB);
}

/* What is run instead of b from now on. */
static struct block *translate(struct soft_vp *vp, struct block *b)
{
    struct soft_jump *j = soft_jump_slot(vp, vp->rip);
    bool known = j->b == b;
    struct block *kept = soft_block_keep(vp, b, vp->jit_beyond);
    if (!kept)
        return b;
    soft_jit_translate(vp, kept);
    if (known) {
        j->b = kept;
        j->code = soft_jit_ready(kept) ? kept->code : vp->jit_cold;
    }
    return kept;
}

static void enter(struct soft_vp *vp, struct block *b)
{
    if (soft_jit_wanted(vp, b))
        b = translate(vp, b);
    vp->block_rip = vp->rip;
    if (soft_jit_ready(b)) {
        soft_jit_link(vp, b);
        if (SOFT_UNLIKELY(soft_check_on(vp)))
            soft_check_block(vp, b);
        else
            vp->jit_enter(vp, b->code); /* counts for itself */
        return;
    }
    soft_count_insns(vp, b->n);
    b->insn[0].fn(vp, b->insn);
}

/* One instruction with trace flag, interrupt shadow, RF or breakpoints in force. */
static void step(struct soft_vp *vp)
{
    bool trace = vp->eflags & FL_TF;
    uint8_t shadow = vp->shadow;
    if (shadow != 2 || vp->soft->amd) /* MOV SS holds instruction breakpoints off on Intel's */
        code_breakpoints(vp);
    struct block *b = soft_block(vp);
    bool resume = vp->eflags & FL_RF;
    vp->eflags &= ~(uint32_t)FL_RF;
    vp->shadow = 0;
    vp->db_saved = shadow ? vp->db_saved : 0;
    if (resume || shadow)
        soft_update_mode(vp);
    vp->jump_key[0] |= SOFT_MODE_SINGLE; /* string instructions do one step */
    vp->jump_key[1] |= SOFT_MODE_SINGLE;
    atomic_fetch_or(&vp->attn, ATTN_SELF);
    vp->db_pending = vp->db_saved;
    vp->db_saved = 0;
    vp->entered = false;
    enter(vp, b);
    uint64_t hits = vp->db_pending;
    vp->db_pending = 0;
    soft_update_mode(vp);
    if (trace && !vp->entered) /* INT n and SYSCALL leave no single step behind */
        hits |= 0x4000;
    if (!hits)
        return;
    if (vp->shadow == 2) { /* MOV SS holds debug traps off; a single step is lost */
        vp->db_saved = hits & 15;
        return;
    }
    vp->dr6 = (vp->dr6 & ~15ull) | hits;
    soft_raise(vp, NULL, EXC_DB);
}

void soft_run(struct soft_vp *vp, struct hv_exit *exit)
{
    vp->exit = exit;
    vp->stopped = false;
    soft_enter_guest(vp);
    if (_setjmp(vp->fault)) /* exceptions come back here, with exc_pending, or stopped */
        soft_check_faulted(vp);
    while (!vp->stopped) {
        vp->cur = NULL;
        if (vp->exc_pending)
            soft_deliver_pending(vp);
        if (atomic_load_explicit(&vp->attn, memory_order_relaxed) && !attend(vp))
            break;
        if (vp->activity != HV_VP_RUNNING)
            continue;
        if (vp->jit_full)
            soft_block_drop_all(vp);
        if (vp->jit_hot)
            soft_jit_cool(vp);
        if (vp->jit && vp->stack_misses >= 0)
            soft_jit_cool_stack(vp);
        if (vp->jump_key[0] & SOFT_MODE_SINGLE)
            step(vp);
        else
            enter(vp, soft_block(vp));
    }
    soft_leave_guest(vp);
}
