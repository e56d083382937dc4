/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A processor backend, whichever, under the partition: small guests (guest.S) whose reports must be
 * the same on all. Usage: backend kvm|soft [TEST...]. Exit status 77 (skipped) where the backend
 * cannot be used.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "core/base/bytes.h"
#include "core/base/loop.h"
#include "core/hv/partition.h"

enum { RAM = 2 << 20, IDT = 0x4000, CODE = 0x10000, ISR = 0x11000, STACK = 0x18000, REPORTS = 256 };
enum { LIMIT_MS = 20000 };

#define GUEST(name) extern const uint8_t name[], name##_end[];
GUEST(guest_plain)
GUEST(guest_hyperv)
GUEST(guest_synic)
GUEST(guest_synic_isr)
GUEST(guest_stimer)
GUEST(guest_stimer_isr)
GUEST(guest_level)
GUEST(guest_level_isr)
GUEST(guest_extint)
GUEST(guest_extint_isr)
GUEST(guest_busy)
GUEST(guest_busy_isr)
GUEST(guest_masking_isr)
GUEST(guest_telling)
GUEST(guest_count)
GUEST(guest_smp)
GUEST(guest_smp_ap)
GUEST(guest_crash)
GUEST(guest_triple)
#define BYTES(name) name, (size_t)(name##_end - name)

    static enum hv_accel accel;

struct machine {
    struct hv_partition *p;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t report[REPORTS];
    unsigned reports;
    bool done;
    /* what came by other ways */
    uint32_t message_id, message_type, message_len;
    uint8_t message[HV_MAX_MESSAGE];
    uint32_t event_id;
    uint64_t mmio_offset, mmio_value;
    unsigned eois, acks;
    bool acks_slowly, acks_all;
    uint8_t eoi_vector;
    unsigned ended;
    struct hv_end_report crash, end;
};

/* ---- what guests do to the host ---- */

static void on_report(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct machine *m = ctx;
    pthread_mutex_lock(&m->lock);
    if (offset == 4)
        m->done = true;
    else if (m->reports < REPORTS)
        m->report[m->reports++] = (uint32_t)value;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}
static const struct hv_io_ops report_ops = {"reports", NULL, on_report};

static uint64_t mmio_read(void *ctx, uint64_t offset, unsigned size)
{
    return 0x5ca1ab1e;
}
static void mmio_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct machine *m = ctx;
    m->mmio_offset = offset;
    m->mmio_value = value;
}
static const struct hv_io_ops mmio_ops = {"mmio", mmio_read, mmio_write};

static enum hv_status on_message(void *ctx, unsigned vp, uint32_t id, uint32_t type,
                                 const void *payload, uint32_t len)
{
    struct machine *m = ctx;
    m->message_id = id;
    m->message_type = type;
    m->message_len = len;
    memcpy(m->message, payload, len);
    return HV_STATUS_INSUFFICIENT_BUFFERS;
}
static enum hv_status on_event(void *ctx, unsigned vp, uint32_t id, uint16_t flag)
{
    ((struct machine *)ctx)->event_id = id;
    return HV_STATUS_INVALID_CONNECTION_ID;
}
static void on_end(void *ctx, const struct hv_end_report *r)
{
    struct machine *m = ctx;
    pthread_mutex_lock(&m->lock);
    if (r->kind == HV_END_CRASH) {
        m->crash = *r;
    } else {
        m->ended++;
        m->end = *r;
    }
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}
static void on_ioapic_eoi(void *ctx, uint8_t vector)
{
    struct machine *m = ctx;
    pthread_mutex_lock(&m->lock);
    m->eois++;
    m->eoi_vector = vector;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}
static int on_pic_ack(void *ctx)
{
    struct machine *m = ctx;
    hv_partition_extint(m->p, false);
    pthread_mutex_lock(&m->lock);
    bool first = m->acks++ == 0;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    if (first && m->acks_slowly)
        usleep(50000); /* so that a pause comes between the vector and the guest */
    return first || m->acks_all ? 0x30 : -1;
}
static const struct hv_partition_ops ops = {.post_message = on_message,
                                            .signal_event = on_event,
                                            .ended = on_end,
                                            .ioapic_eoi = on_ioapic_eoi,
                                            .pic_ack = on_pic_ack};

/* ---- making one ---- */

static void put_gate(struct machine *m, unsigned vector, uint64_t to)
{
    uint8_t gate[16] = {0};
    put_le16(gate, (uint16_t)to);
    put_le16(gate + 2, 8);
    gate[5] = 0x8e;
    put_le16(gate + 6, (uint16_t)(to >> 16));
    CHECK(hv_memory_write(hv_partition_memory(m->p), IDT + 16 * vector, gate, 16));
}

/* Long mode: the first 2 MiB identity-mapped, and the 2 MiB at 0xfec00000 and 0xfee00000, not
 * cached. */
static void put_tables(struct hv_memory *mem)
{
    static const uint64_t entry[][2] = {{0xc1000, 0xc2003},    {0xc2000, 0xc3003},
                                        {0xc2018, 0xc5003},    {0xc3000, 0x83},
                                        {0xc5fb0, 0xfec0009b}, {0xc5fb8, 0xfee0009b}};
    static const uint64_t gdt[] = {0, 0x00af9b000000ffff, 0x00cf93000000ffff};
    for (unsigned i = 0; i < ARRAY_LEN(entry); i++)
        CHECK(hv_memory_write(mem, entry[i][0], &entry[i][1], 8));
    CHECK(hv_memory_write(mem, 0xc6000, gdt, sizeof gdt));
}

static void enter_long_mode(struct hv_partition *p)
{
    static struct hv_vp_state s;
    hv_vp_state_reset(&s, 0);
    s.cr0 = 0x80000033;
    s.cr3 = 0xc1000;
    s.cr4 = 0x620;
    s.efer = 0x500;
    s.gdtr = (struct hv_table){0xc6000, 23};
    s.idtr = (struct hv_table){IDT, 0xfff};
    for (unsigned i = 0; i < HV_LDTR; i++)
        s.seg[i] = (struct hv_segment){0, 0xffffffff, 16, 0xc093};
    s.seg[HV_CS] = (struct hv_segment){0, 0xffffffff, 8, 0xa09b};
    s.seg[HV_TR] = (struct hv_segment){0, 0x67, 0, 0x8b};
    s.rip = CODE;
    s.gpr[HV_RSP] = STACK;
    s.gpr[HV_R12] = 3; /* guest_hyperv's slack: KVM's page and counter round apart */
    err e = ERR_INIT;
    if (!hv_partition_set_vp(p, 0, &s, &e))
        fprintf(stderr, "set_vp: %s\n", e.text), exit(1);
}

static bool make(struct machine *m, unsigned vps)
{
    memset(m, 0, sizeof *m);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->changed, NULL);
    err e = ERR_INIT;
    const struct hv_partition_params pp = {
        .accel = accel, .vendor = HV_VENDOR_AMD, .vp_count = vps, .ops = &ops, .ctx = m};
    m->p = hv_partition_new(&pp, &e);
    if (!m->p) {
        fprintf(stderr, "%s\n", e.text);
        exit(77);
    }
    struct hv_io *io = hv_partition_io(m->p);
    CHECK(hv_io_claim(io, HV_IO_PORT, 0xe0, 8, &report_ops, m, NULL));
    CHECK(hv_io_claim(io, HV_IO_MMIO, 0xfec00000, 0x1000, &mmio_ops, m, NULL));
    return true;
}

static bool start(struct machine *m, const uint8_t *code, size_t len, unsigned vps)
{
    make(m, vps);
    struct hv_memory *mem = hv_partition_memory(m->p);
    CHECK(hv_memory_add_ram(mem, 0, RAM, NULL));
    put_tables(mem);
    CHECK(hv_memory_write(mem, CODE, code, len));
    enter_long_mode(m->p);
    return true;
}

static void put_isr(struct machine *m, unsigned vector, const uint8_t *code, size_t len)
{
    CHECK(hv_memory_write(hv_partition_memory(m->p), ISR, code, len));
    put_gate(m, vector, ISR);
}

static bool wait_until(struct machine *m, bool (*ready)(struct machine *m, unsigned n), unsigned n)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_sec += LIMIT_MS / 1000;
    pthread_mutex_lock(&m->lock);
    int rc = 0;
    while (!ready(m, n) && rc == 0)
        rc = pthread_cond_timedwait(&m->changed, &m->lock, &ts);
    bool ok = ready(m, n);
    pthread_mutex_unlock(&m->lock);
    return ok;
}
static bool is_done(struct machine *m, unsigned n)
{
    return m->done;
}
static bool has_reports(struct machine *m, unsigned n)
{
    return m->reports >= n;
}
static bool has_eois(struct machine *m, unsigned n)
{
    return m->eois >= n;
}
static bool has_acks(struct machine *m, unsigned n)
{
    return m->acks >= n;
}
static bool has_ended(struct machine *m, unsigned n)
{
    return m->ended >= n;
}

static void stop(struct machine *m)
{
    hv_partition_pause(m->p);
    hv_partition_free(m->p);
}

/* ---- tests ---- */

static void registers_memory_and_mmio(void)
{
    struct machine m;
    start(&m, BYTES(guest_plain), 1);
    hv_partition_resume(m.p);
    CHECK(wait_until(&m, is_done, 0));
    hv_partition_pause(m.p);
    CHECK_EQ(m.report[0], 0x11223344);
    CHECK_EQ(m.report[1], 0x5ca1ab1e);
    CHECK_EQ(m.report[2], 0xffffffff);
    CHECK_EQ(m.mmio_offset, 0x10);
    CHECK_EQ(m.mmio_value, 0xabcd);
    static struct hv_vp_state s;
    CHECK(hv_partition_get_vp(m.p, 0, &s, NULL));
    CHECK_EQ(s.gpr[HV_RBX], 0x1122334455667788);
    CHECK_EQ(s.gpr[HV_R12], 3);
    CHECK_EQ(s.cr3, 0xc1000);
    CHECK_EQ(s.seg[HV_CS].attrib, 0xa09b);
    CHECK_EQ(s.seg[HV_CS].selector, 8);
    CHECK(s.rip > CODE && s.rip <= CODE + 0x100);
    hv_partition_free(m.p);
}

static void the_hypervisor_is_hyperv(void)
{
    struct machine m;
    uint8_t post[256] = {0};
    start(&m, BYTES(guest_hyperv), 1);
    int fd = eventfd(0, EFD_NONBLOCK);
    uint64_t n = 0;
    CHECK(hv_partition_bind_event(m.p, 0x2001, fd, NULL));
    CHECK(!hv_partition_bind_event(m.p, 0x2001, fd, NULL));
    put_le32(post, 4);
    put_le32(post + 8, 1);
    put_le32(post + 12, 5);
    memcpy(post + 16, "hello", 5);
    CHECK(hv_memory_write(hv_partition_memory(m.p), 0x9000, post, sizeof post));
    /* Post and signal need an active SynIC on KVM. */
    hv_partition_resume(m.p);
    CHECK(wait_until(&m, is_done, 0));
    hv_partition_pause(m.p);
    CHECK_EQ(m.report[0], 0x7263694d);
    CHECK_EQ(m.report[1] & 0xa6f, 0xa6f);
    CHECK_EQ(m.report[2], 0);
    CHECK_EQ(m.report[3], HV_STATUS_INSUFFICIENT_BUFFERS);
    CHECK_EQ(m.message_id, 4);
    CHECK(m.message_len == 5 && memcmp(m.message, "hello", 5) == 0);
    CHECK_EQ(m.report[4], HV_STATUS_INVALID_CONNECTION_ID);
    CHECK_EQ(m.event_id, 0x777);
    CHECK_EQ(m.report[5], 0);
    CHECK(read(fd, &n, 8) == 8 && n == 1);
    CHECK_EQ(m.report[6], HV_STATUS_INVALID_HYPERCALL_CODE);
    CHECK_EQ(m.report[7], 0xc0000000);
    CHECK_EQ(m.report[8], 1);
    CHECK_EQ(m.report[9], 0);
    uint8_t page[4];
    CHECK(hv_memory_read(hv_partition_memory(m.p), 0x6000, page, 4));
    CHECK(page[0] == 0x0f && page[1] == 0x01 && (page[2] == 0xd9 || page[2] == 0xc1) &&
          page[3] == 0xc3);
    hv_partition_unbind_event(m.p, 0x2001);
    hv_partition_free(m.p);
    close(fd);
}

static void messages_queue_and_events_merge(void)
{
    struct machine m;
    enum { N = 20 };
    start(&m, BYTES(guest_synic), 1);
    put_isr(&m, 0xf3, BYTES(guest_synic_isr));
    CHECK(!hv_synic_signal(m.p, 0, 2, 5)); /* not enabled yet */
    CHECK(!hv_synic_signal(m.p, 1, 2, 5));
    hv_partition_resume(m.p);
    CHECK(wait_until(&m, has_reports, 1));
    for (uint32_t i = 0; i < N; i++) {
        uint32_t word = 0x100 + i;
        CHECK(hv_synic_post(m.p, 0, 2, 1, &word, 4));
    }
    CHECK(wait_until(&m, has_reports, 1 + N));
    for (uint32_t i = 0; i < N; i++)
        CHECK_EQ(m.report[1 + i], 0x100 + i);
    CHECK(hv_synic_signal(m.p, 0, 2, 5));
    CHECK(wait_until(&m, has_reports, 2 + N));
    CHECK_EQ(m.report[1 + N], 1u << 5);
    CHECK(!hv_synic_post(m.p, 0, 16, 1, "", 0));
    CHECK(!hv_synic_post(m.p, 1, 2, 1, "", 0));
    uint32_t last = 0xdead;
    CHECK(hv_synic_post(m.p, 0, 2, 1, &last, 4));
    CHECK(wait_until(&m, is_done, 0));
    stop(&m);
}

static void synthetic_timers_fire_on_time(void)
{
    struct machine m;
    start(&m, BYTES(guest_stimer), 1);
    put_isr(&m, 0xed, BYTES(guest_stimer_isr));
    hv_partition_resume(m.p);
    CHECK(wait_until(&m, is_done, 0));
    stop(&m);
    CHECK_EQ(m.reports, 3);
    /* KVM sets its timer by one clock and is read by another. */
    const int32_t early = accel == HV_ACCEL_KVM ? -1000 : 0;
    for (unsigned i = 0; i < 3; i++) {
        CHECK((int32_t)m.report[i] >= early);
        CHECK((int32_t)m.report[i] < 50000000);
    }
}

static void level_interrupts_report_their_end(void)
{
    struct machine m;
    const struct hv_msi msi = {0xfee00000, 0xc040};
    start(&m, BYTES(guest_level), 1);
    put_isr(&m, 0x40, BYTES(guest_level_isr));
    /* The pin has been sent elsewhere while its interrupt is in service. */
    const struct hv_msi elsewhere = {0xfee01000, 0xc041};
    hv_partition_ioapic_route(m.p, 3, &elsewhere, &msi);
    hv_partition_resume(m.p);
    CHECK(wait_until(&m, has_reports, 1));
    hv_partition_msi(m.p, &msi);
    CHECK(wait_until(&m, has_eois, 1));
    CHECK_EQ(m.eoi_vector, 0x40);
    hv_partition_ioapic_route(m.p, 3, NULL, NULL);
    hv_partition_msi(m.p, &msi);
    CHECK(wait_until(&m, is_done, 0));
    CHECK_EQ(m.report[1], 1);
    CHECK_EQ(m.report[2], 2);
    stop(&m);
}

static void the_pic_reaches_the_processor(void)
{
    struct machine m;
    start(&m, BYTES(guest_extint), 1);
    put_isr(&m, 0x30, BYTES(guest_extint_isr));
    hv_partition_resume(m.p);
    CHECK(wait_until(&m, has_reports, 1));
    usleep(20000); /* halted by now */
    hv_partition_extint(m.p, true);
    CHECK(wait_until(&m, is_done, 0));
    CHECK_EQ(m.report[1], 1);
    CHECK_EQ(m.acks, 1);
    stop(&m);
}

/* Another machine, with the same memory, takes what a paused one was. */
static void move(struct machine *from, struct machine *to, const uint8_t *code, size_t len)
{
    err e = ERR_INIT;
    struct state_writer *w = state_writer_new();
    CHECK(hv_partition_save(from->p, w, NULL));
    struct state_reader r;
    r.data = state_writer_data(w, &r.len, &e);
    start(to, code, len, 1);
    uint8_t *copy = malloc(RAM);
    CHECK(hv_memory_read(hv_partition_memory(from->p), 0, copy, RAM));
    CHECK(hv_memory_write(hv_partition_memory(to->p), 0, copy, RAM));
    CHECK(hv_partition_restore(to->p, &r, &e));
    CHECK_STR(e.text, "");
    state_writer_free(w);
    free(copy);
}

/* The processor has been given the PIC's vector, and the guest has not run since: it comes once,
 * there or here. */
static void a_vector_that_is_held_is_saved(void)
{
    for (unsigned i = 0; i < 4; i++) {
        struct machine m, m2;
        start(&m, BYTES(guest_busy), 1);
        put_isr(&m, 0x30, BYTES(guest_busy_isr));
        m.acks_slowly = true;
        hv_partition_resume(m.p);
        CHECK(wait_until(&m, has_reports, 1));
        hv_partition_extint(m.p, true);
        CHECK(wait_until(&m, has_acks, 1));
        hv_partition_pause(m.p);
        unsigned before = m.reports - 1;
        move(&m, &m2, BYTES(guest_busy));
        m2.acks_all = true;
        hv_partition_resume(m2.p);
        CHECK(wait_until(&m2, has_reports, 1 - before));
        hv_partition_extint(m2.p, true);
        CHECK(wait_until(&m2, has_reports, 2 - before));
        CHECK_EQ(m2.report[1 - before], 2);
        CHECK_EQ(m2.acks, 1);
        stop(&m2);
        hv_partition_free(m.p);
    }
}

/* What has been delivered is not held any more, even if the processor could take no other since. */
static void a_vector_that_came_is_not_saved(void)
{
    struct machine m, m2;
    start(&m, BYTES(guest_busy), 1);
    put_isr(&m, 0x30, BYTES(guest_masking_isr));
    hv_partition_resume(m.p);
    CHECK(wait_until(&m, has_reports, 1));
    hv_partition_extint(m.p, true);
    CHECK(wait_until(&m, has_reports, 2));
    usleep(20000); /* back from the handler */
    hv_partition_pause(m.p);
    move(&m, &m2, BYTES(guest_busy));
    static struct hv_vp_state s;
    err e = ERR_INIT;
    CHECK(hv_partition_get_vp(m2.p, 0, &s, &e));
    CHECK(!s.interrupt_pending);
    hv_partition_resume(m2.p);
    hv_partition_msi(m2.p, &(struct hv_msi){0xfee00000, 0x30});
    CHECK(wait_until(&m2, has_reports, 1));
    CHECK_EQ(m2.report[0], 2);
    CHECK_EQ(m.acks, 1);
    stop(&m2);
    hv_partition_free(m.p);
}

/* What a state has in delivery, the local APIC has in service already, or knows nothing of. */
static void an_interrupt_in_delivery_goes_first(void)
{
    static struct hv_vp_state s;
    static const uint8_t vectors[] = {0x30, 8};
    for (unsigned i = 0; i < ARRAY_LEN(vectors); i++) {
        struct machine m;
        err e = ERR_INIT;
        start(&m, BYTES(guest_busy), 1);
        put_isr(&m, vectors[i], BYTES(guest_busy_isr));
        hv_partition_resume(m.p);
        CHECK(wait_until(&m, has_reports, 1));
        usleep(20000); /* interrupts are on by now */
        hv_partition_pause(m.p);
        CHECK(hv_partition_get_vp(m.p, 0, &s, &e));
        s.interrupt_pending = true;
        s.interrupt_vector = vectors[i];
        if (vectors[i] >= 16)
            s.lapic[0x100 + 16 * (vectors[i] / 32) + vectors[i] % 32 / 8] |= 1 << vectors[i] % 8;
        CHECK(hv_partition_set_vp(m.p, 0, &s, &e));
        CHECK(hv_partition_get_vp(m.p, 0, &s, &e));
        CHECK(s.interrupt_pending && s.interrupt_vector == vectors[i]);
        hv_partition_resume(m.p);
        CHECK(wait_until(&m, has_reports, 2));
        CHECK_EQ(m.report[1], 1);
        stop(&m);
    }
}

static void pauses_saves_and_restores(void)
{
    struct machine m, m2;
    start(&m, BYTES(guest_count), 1);
    hv_partition_resume(m.p);
    CHECK(wait_until(&m, has_reports, 2));
    hv_partition_pause(m.p);
    uint64_t a = 0, b = 0, ref = hv_partition_reference_time(m.p);
    struct hv_memory *mem = hv_partition_memory(m.p);
    hv_memory_read(mem, 0x8000, &a, 8);
    usleep(20000);
    hv_memory_read(mem, 0x8000, &b, 8);
    CHECK_EQ(a, b);
    struct state_writer *w = state_writer_new();
    CHECK(hv_partition_save(m.p, w, NULL));
    size_t len;
    err e = ERR_INIT;
    const uint8_t *bytes = state_writer_data(w, &len, &e);
    CHECK(bytes);
    move(&m, &m2, BYTES(guest_count));
    CHECK(hv_partition_reference_time(m2.p) >= ref);
    hv_partition_resume(m2.p);
    CHECK(wait_until(&m2, has_reports, 1));
    CHECK_EQ(m2.report[0], (uint32_t)((a & ~0xffffull) + 0x10000));
    stop(&m2);
    CHECK(!hv_partition_restore(m.p, &(struct state_reader){.data = bytes, .len = len - 1}, &e));
    hv_partition_reset(m.p);
    CHECK_EQ(hv_partition_reference_time(m.p) > 0, 1);
    state_writer_free(w);
    hv_partition_free(m.p);
}

static void pausing_is_quick_and_repeatable(void)
{
    struct machine m;
    start(&m, BYTES(guest_count), 2); /* VP 1 waits for its start-up */
    for (unsigned i = 0; i < 100; i++) {
        hv_partition_resume(m.p);
        hv_partition_pause(m.p);
    }
    hv_partition_resume(m.p);
    CHECK(wait_until(&m, has_reports, 1));
    stop(&m);
}

/* Whoever changes the mappings waits for a processor that goes in and out all the time. */
static void mappings_change_while_it_runs(void)
{
    struct machine m;
    start(&m, BYTES(guest_telling), 1);
    struct hv_memory *mem = hv_partition_memory(m.p);
    hv_partition_resume(m.p);
    for (unsigned i = 0; i < (accel == HV_ACCEL_KVM ? 200 : 5000); i++) {
        struct hv_region *r = hv_memory_add_ram(mem, 64 << 20, 4096, NULL);
        CHECK(r != NULL);
        hv_memory_remove(mem, r);
    }
    CHECK(wait_until(&m, has_reports, 1));
    stop(&m);
}

static void processors_start_each_other(void)
{
    struct machine m;
    start(&m, BYTES(guest_smp), 2);
    CHECK(hv_memory_write(hv_partition_memory(m.p), 0x3000, BYTES(guest_smp_ap)));
    hv_partition_resume(m.p);
    CHECK(wait_until(&m, is_done, 0));
    CHECK_EQ(m.report[0], 0x1ab1);
    stop(&m);
}

static void crashes_resets_and_triple_faults_are_told(void)
{
    struct machine m;
    start(&m, BYTES(guest_crash), 1);
    CHECK(hv_memory_write(hv_partition_memory(m.p), 0x8100, "oops!", 5));
    hv_partition_resume(m.p);
    CHECK(wait_until(&m, has_ended, 1));
    CHECK_EQ(m.end.kind, HV_END_RESET);
    CHECK_STR(m.crash.text, "oops!");
    CHECK_EQ(m.crash.crash_param[4], 5);
    CHECK_EQ(m.report[0], 0xa11e); /* went on after the crash report */
    hv_partition_pause(m.p);
    hv_partition_reset(m.p);
    CHECK(hv_memory_write(hv_partition_memory(m.p), CODE, BYTES(guest_triple)));
    enter_long_mode(m.p);
    hv_partition_resume(m.p);
    CHECK(wait_until(&m, has_ended, 2));
    CHECK_EQ(m.end.kind, HV_END_TRIPLE_FAULT);
    stop(&m);
}

static const struct check_test tests[] = {
    CHECK_TEST(registers_memory_and_mmio),
    CHECK_TEST(the_hypervisor_is_hyperv),
    CHECK_TEST(messages_queue_and_events_merge),
    CHECK_TEST(synthetic_timers_fire_on_time),
    CHECK_TEST(level_interrupts_report_their_end),
    CHECK_TEST(the_pic_reaches_the_processor),
    CHECK_TEST(a_vector_that_is_held_is_saved),
    CHECK_TEST(a_vector_that_came_is_not_saved),
    CHECK_TEST(an_interrupt_in_delivery_goes_first),
    CHECK_TEST(pauses_saves_and_restores),
    CHECK_TEST(pausing_is_quick_and_repeatable),
    CHECK_TEST(mappings_change_while_it_runs),
    CHECK_TEST(processors_start_each_other),
    CHECK_TEST(crashes_resets_and_triple_faults_are_told),
};

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 2)
        return 2;
    accel = strcmp(argv[1], "kvm") == 0 ? HV_ACCEL_KVM : HV_ACCEL_SOFT;
    return check_run(tests, ARRAY_LEN(tests), argc - 1, argv + 1);
}
