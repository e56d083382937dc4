/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Hypercalls on the fake backend: forms, statuses, effects. */
#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "fake.h"

#define FAST (1ull << 16)
#define VAR(n) ((uint64_t)(n) << 17)
#define REP(n) ((uint64_t)(n) << 32)
#define START(n) ((uint64_t)(n) << 48)
enum { IN = 0x9000, OUT = 0xc000 };

static struct hv_partition *with_os(unsigned vps, uint64_t ram)
{
    struct hv_partition *p = fake_partition(vps, ram);
    fake_wrmsr(0, HV_MSR_GUEST_OS_ID, 1);
    return p;
}
static uint64_t call(uint64_t control, uint64_t in, uint64_t out)
{
    struct hv_hypercall h = {.control = control, .input = in, .output = out, .long_mode = true};
    uint64_t result = 0xdead;
    CHECK(fake.p.up.hypercall(fake.p.up.ctx, 0, &h, &result));
    return result;
}
static uint64_t mem_call(struct hv_partition *p, uint64_t control, const uint64_t *words,
                         unsigned n)
{
    CHECK(hv_memory_write(hv_partition_memory(p), IN, words, n * 8));
    return call(control, IN, OUT);
}

static void wrong_forms_are_refused(void)
{
    struct hv_partition *p = with_os(1, MIB(2));
    CHECK_EQ(call(0x7777, IN, 0), HV_STATUS_INVALID_HYPERCALL_CODE);
    CHECK_EQ(call(0, IN, 0), HV_STATUS_INVALID_HYPERCALL_CODE);
    CHECK_EQ(call(0x5d | FAST | 1ull << 27, 5, 0),
             HV_STATUS_INVALID_HYPERCALL_INPUT); /* reserved */
    CHECK_EQ(call(0x5d | FAST | 1ull << 63, 5, 0), HV_STATUS_INVALID_HYPERCALL_INPUT);
    CHECK_EQ(call(0x5d | FAST | REP(1), 5, 0), HV_STATUS_INVALID_HYPERCALL_INPUT);
    CHECK_EQ(call(0x5d | FAST | VAR(1), 5, 0), HV_STATUS_INVALID_HYPERCALL_INPUT);
    CHECK_EQ(call(0x03, IN, 0), HV_STATUS_INVALID_HYPERCALL_INPUT); /* no reps */
    CHECK_EQ(call(0x03 | REP(2) | START(2), IN, 0), HV_STATUS_INVALID_HYPERCALL_INPUT);
    CHECK_EQ(call(0x03 | REP(4095), IN, 0), HV_STATUS_INVALID_HYPERCALL_INPUT); /* over a page */
    CHECK_EQ(call(0x5c, IN + 4, 0), HV_STATUS_INVALID_ALIGNMENT);
    CHECK_EQ(call(0x5c, 0x9f08, 0), HV_STATUS_INVALID_ALIGNMENT); /* crosses */
    CHECK_EQ(call(0x5c, 0x9f00, 0), HV_STATUS_INVALID_PARAMETER); /* fits; type 0 */
    CHECK_EQ(call(0x5c, GIB(1), 0), HV_STATUS_INVALID_HYPERCALL_INPUT);
    CHECK_EQ(call(0x5c, 0xfffffffffffff000, 0), HV_STATUS_INVALID_HYPERCALL_INPUT);
    CHECK_EQ(call(0x5c | FAST, 0, 0), HV_STATUS_INVALID_HYPERCALL_INPUT); /* too long */
    CHECK_EQ(call(0x02 | FAST, 0, 0), HV_STATUS_INVALID_HYPERCALL_INPUT); /* no XMM here */
    CHECK_EQ(fake.flushes, 0);
    fake_free(p);
}

static void flushes_reach_the_named_processors(void)
{
    struct hv_partition *p = with_os(4, MIB(2));
    uint64_t masked[] = {0x1000, 0, 0x15, 0x7000, 0x8003};
    CHECK_EQ(mem_call(p, 0x02, masked, 3), 0);
    CHECK_EQ(fake.flushed[0], 5); /* of four processors */
    CHECK_EQ(mem_call(p, 0x03 | REP(2), masked, 5), REP(2));
    masked[1] = 1; /* all processors */
    CHECK_EQ(mem_call(p, 0x02, masked, 3), 0);
    CHECK_EQ(fake.flushed[2], 15);
    uint64_t sparse[] = {0x1000, 0, 0, 1, 0xa, 0x7000};
    CHECK_EQ(mem_call(p, 0x13 | VAR(1), sparse, 5), 0);
    CHECK_EQ(fake.flushed[3], 10);
    CHECK_EQ(mem_call(p, 0x14 | VAR(1) | REP(1), sparse, 6), REP(1));
    CHECK_EQ(mem_call(p, 0x13, sparse, 4), HV_STATUS_INVALID_HYPERCALL_INPUT); /* bank missing */
    sparse[3] = 2;                                                             /* bank 1: nobody */
    CHECK_EQ(mem_call(p, 0x13 | VAR(1), sparse, 5), 0);
    CHECK_EQ(fake.flushes, 5);
    sparse[2] = 1; /* all */
    CHECK_EQ(mem_call(p, 0x13, sparse, 4), 0);
    CHECK_EQ(fake.flushed[5], 15);
    sparse[2] = 2;
    CHECK_EQ(mem_call(p, 0x13, sparse, 4), HV_STATUS_INVALID_HYPERCALL_INPUT);
    /* By XMM registers: the mask is the first half of XMM0. */
    struct hv_hypercall h = {.control = 0x02 | FAST, .input = 0x1000, .has_xmm = true};
    uint64_t result;
    put_le64(h.xmm[0], 6);
    CHECK(fake.p.up.hypercall(fake.p.up.ctx, 0, &h, &result));
    CHECK_EQ(result, 0);
    CHECK_EQ(fake.flushed[6], 6);
    fake_free(p);
}

static void interprocessor_interrupts(void)
{
    struct hv_partition *p = with_os(4, MIB(2));
    CHECK_EQ(call(0x0b | FAST, 0xfb, 0xa), 0);
    CHECK_EQ(fake.interrupts, 2);
    CHECK(fake.interrupt[0].vp == 1 && fake.interrupt[1].vp == 3);
    CHECK_EQ(fake.interrupt[0].vector, 0xfb);
    CHECK_EQ(call(0x0b | FAST, 0x0f, 1), HV_STATUS_INVALID_PARAMETER);
    CHECK_EQ(call(0x0b | FAST, 0x100, 1), HV_STATUS_INVALID_PARAMETER);
    CHECK_EQ(call(0x0b | FAST, 1ull << 32 | 0x40, 1), HV_STATUS_INVALID_PARAMETER); /* VTL 1 */
    CHECK_EQ(call(0x0b | FAST, 0x40, 0x10), HV_STATUS_INVALID_PARAMETER);           /* no such VP */
    uint64_t ex[] = {0x40, 0, 1, 5};
    CHECK_EQ(mem_call(p, 0x15 | VAR(1), ex, 4), 0);
    CHECK_EQ(fake.interrupts, 4);
    CHECK_EQ(call(0x08 | FAST, 100, 0), 0); /* long spin wait */
    fake_free(p);
}

static void messages_and_signals(void)
{
    struct hv_partition *p = with_os(1, MIB(2));
    struct hv_post_message_input m = {.connection = 1, .type = 1, .size = 5, .payload = "hello"};
    CHECK_EQ(mem_call(p, 0x5c, (uint64_t *)&m, 32), 0);
    CHECK(fake.post_id == 1 && fake.post_len == 5 && memcmp(fake.post, "hello", 5) == 0);
    m.connection = 9;
    CHECK_EQ(mem_call(p, 0x5c, (uint64_t *)&m, 32), HV_STATUS_INVALID_CONNECTION_ID);
    m.size = 241;
    CHECK_EQ(mem_call(p, 0x5c, (uint64_t *)&m, 32), HV_STATUS_INVALID_PARAMETER);
    m.size = 240;
    m.type = 0x80000010; /* the hypervisor's own */
    CHECK_EQ(mem_call(p, 0x5c, (uint64_t *)&m, 32), HV_STATUS_INVALID_PARAMETER);
    CHECK_EQ(call(0x5d | FAST, 0x2001 | 3ull << 32, 0), 0);
    CHECK(fake.signal_id == 0x2001 && fake.signal_flag == 3);
    int fd = eventfd(0, EFD_NONBLOCK);
    uint64_t n = 0;
    err e = ERR_INIT;
    CHECK(hv_partition_bind_event(p, 0x2001, fd, &e));
    CHECK(!hv_partition_bind_event(p, 0x2001, fd, &e));
    CHECK(!hv_partition_bind_event(p, 1 << 24, fd, &e));
    fake.signal_id = 0;
    CHECK_EQ(call(0x5d | FAST, 0x2001, 0), 0);
    uint64_t in_memory = 0x2001;
    CHECK_EQ(mem_call(p, 0x5d, &in_memory, 1), 0);
    CHECK(read(fd, &n, 8) == 8 && n == 2);
    CHECK_EQ(fake.signal_id, 0);
    hv_partition_unbind_event(p, 0x2001);
    hv_partition_unbind_event(p, 0x2001);
    CHECK_EQ(call(0x5d | FAST, 0x2001, 0), 0);
    CHECK_EQ(fake.signal_id, 0x2001);
    close(fd);
    fake_free(p);
}

static void free_pages_are_given_back(void)
{
    struct hv_partition *p = with_os(1, MIB(8));
    struct hv_memory *m = hv_partition_memory(p);
    uint64_t caps = 0, word = 0x1122334455667788;
    CHECK_EQ(call(0x8001, 0, OUT), 0);
    CHECK(hv_memory_read(m, OUT, &caps, 8) && caps == 0x100);
    CHECK_EQ(call(0x8001, 0, OUT + 4), HV_STATUS_INVALID_ALIGNMENT);
    CHECK_EQ(call(0x8001, 0, GIB(2)), HV_STATUS_INVALID_PARAMETER);
    CHECK(hv_memory_write(m, MIB(4) + 64, &word, 8));
    CHECK(hv_memory_write(m, MIB(8) - 64, &word, 8));
    uint64_t hint[] = {2, MIB(4) | 1 << 11 | 1}; /* two pages of 2 MiB */
    CHECK_EQ(mem_call(p, 0x8003 | REP(1), hint, 2), REP(1));
    CHECK(hv_memory_read(m, MIB(4) + 64, &word, 8) && word == 0);
    CHECK(hv_memory_read(m, MIB(8) - 64, &word, 8) && word == 0);
    CHECK(fake.reported_gpa == MIB(4) && fake.reported_len == MIB(4));
    hint[1] = MIB(8) | 1 << 11; /* outside */
    CHECK_EQ(mem_call(p, 0x8003 | REP(1), hint, 2), HV_STATUS_INVALID_PARAMETER);
    hint[1] = MIB(4); /* small pages are not taken */
    CHECK_EQ(mem_call(p, 0x8003 | REP(1), hint, 2), HV_STATUS_INVALID_PARAMETER);
    hint[0] = 1;
    CHECK_EQ(mem_call(p, 0x8003 | REP(1), hint, 2), HV_STATUS_INVALID_PARAMETER);
    fake_free(p);
}

static const struct check_test tests[] = {
    CHECK_TEST(wrong_forms_are_refused),   CHECK_TEST(flushes_reach_the_named_processors),
    CHECK_TEST(interprocessor_interrupts), CHECK_TEST(messages_and_signals),
    CHECK_TEST(free_pages_are_given_back),
};
CHECK_MAIN(tests)
