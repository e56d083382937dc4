/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SynIC and synthetic timers on the fake backend. */
#include <unistd.h>

#include "check.h"
#include "fake.h"

enum { SIMP = 0xa000, SIEFP = 0xb000, SLOT2 = SIMP + 2 * 256, FLAGS2 = SIEFP + 2 * 256 };

static struct hv_partition *synic_on(unsigned vps)
{
    struct hv_partition *p = fake_partition(vps, MIB(2));
    fake_wrmsr(0, HV_MSR_SIMP, SIMP | 1);
    fake_wrmsr(0, HV_MSR_SIEFP, SIEFP | 1);
    fake_wrmsr(0, HV_MSR_SINT0 + 2, 0xf3);
    fake_wrmsr(0, HV_MSR_SCONTROL, 1);
    return p;
}
static struct hv_slot slot(struct hv_partition *p)
{
    struct hv_slot s;
    CHECK(hv_memory_read(hv_partition_memory(p), SLOT2, &s, sizeof s));
    return s;
}
/* As the guest does: type 0, then EOM if asked for. */
static void take(struct hv_partition *p)
{
    CHECK(hv_memory_write(hv_partition_memory(p), SLOT2, "\0\0\0\0", 4));
    if (slot(p).flags & 1)
        fake_wrmsr(0, HV_MSR_EOM, 0);
}

static void messages_wait_for_their_slot(void)
{
    struct hv_partition *p = synic_on(1);
    for (uint32_t i = 0; i < 3; i++)
        CHECK(hv_synic_post(p, 0, 2, 1, &i, 4));
    CHECK_EQ(fake.interrupts, 1);
    CHECK_EQ(fake.interrupt[0].vector, 0xf3);
    CHECK_EQ(slot(p).type, 1);
    CHECK_EQ(slot(p).size, 4);
    CHECK_EQ(slot(p).flags, 1);
    fake_wrmsr(0, HV_MSR_EOM, 0); /* without having taken it */
    CHECK_EQ(fake.interrupts, 1);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(get_le32(slot(p).payload), i);
        take(p);
    }
    CHECK_EQ(slot(p).type, 0);
    CHECK_EQ(fake.interrupts, 3);
    fake_free(p);
}

static void the_queue_has_an_end(void)
{
    struct hv_partition *p = synic_on(1);
    uint8_t big[HV_MAX_MESSAGE] = {0};
    CHECK(!hv_synic_post(p, 0, 2, 1, big, 241));
    CHECK(!hv_synic_post(p, 0, 2, 0, big, 1)); /* type 0 is "free" */
    CHECK(hv_synic_post(p, 0, 2, 1, big, 240));
    for (unsigned i = 0; i < 1024; i++)
        CHECK(hv_synic_post(p, 0, 2, 1, big, 1));
    CHECK(!hv_synic_post(p, 0, 2, 1, big, 1));
    CHECK(hv_synic_post(p, 0, 3, 1, big, 1)); /* another SINT's queue */
    hv_synic_drop(p, 2);
    take(p);
    CHECK_EQ(slot(p).type, 0);
    CHECK(hv_synic_post(p, 0, 2, 1, big, 1));
    CHECK_EQ(slot(p).type, 1);
    fake_free(p);
}

static void hostile_pages_do_no_harm(void)
{
    struct hv_partition *p = fake_partition(1, MIB(2));
    uint32_t w = 5;
    CHECK(hv_synic_post(p, 0, 2, 1, &w, 4)); /* nothing is enabled: it waits */
    fake_wrmsr(0, HV_MSR_SCONTROL, 1);
    fake_wrmsr(0, HV_MSR_SIMP, 0xfffffffffffff001);
    fake_wrmsr(0, HV_MSR_SIEFP, MIB(2) | 1);
    CHECK(!hv_synic_signal(p, 0, 2, 1));
    fake_wrmsr(0, HV_MSR_SIMP, SIMP | 1); /* now it comes, SINT masked: no interrupt */
    CHECK_EQ(get_le32(slot(p).payload), 5);
    CHECK_EQ(fake.interrupts, 0);
    fake_free(p);
}

static void event_flags_merge(void)
{
    struct hv_partition *p = synic_on(1);
    uint64_t word;
    CHECK(hv_synic_signal(p, 0, 2, 65));
    CHECK(hv_synic_signal(p, 0, 2, 65));
    CHECK_EQ(fake.interrupts, 1);
    CHECK(hv_synic_signal(p, 0, 2, 66));
    CHECK_EQ(fake.interrupts, 2);
    CHECK(hv_memory_read(hv_partition_memory(p), FLAGS2 + 8, &word, 8) && word == 6);
    CHECK(hv_synic_signal(p, 0, 2, 2047));
    CHECK(!hv_synic_signal(p, 0, 2, 2048));
    CHECK(!hv_synic_signal(p, 0, 16, 1) && !hv_synic_signal(p, 1, 2, 1));
    fake_wrmsr(0, HV_MSR_SINT0 + 2, 0x400f3); /* polling: no interrupt */
    unsigned n = fake.interrupts;
    CHECK(hv_synic_signal(p, 0, 2, 3));
    CHECK_EQ(fake.interrupts, n);
    fake_free(p);
}

static unsigned interrupts_now(void)
{
    pthread_mutex_lock(&fake.lock);
    unsigned n = fake.interrupts;
    pthread_mutex_unlock(&fake.lock);
    return n;
}

static bool wait_interrupts(unsigned n)
{
    for (unsigned i = 0; i < 30000; i++) {
        pthread_mutex_lock(&fake.lock);
        bool there = fake.interrupts >= n;
        pthread_mutex_unlock(&fake.lock);
        if (there)
            return true;
        usleep(1000);
    }
    return false;
}
static uint64_t now(void)
{
    return fake_msr(HV_MSR_REF_COUNT);
}

static void direct_timers_fire_once(void)
{
    struct hv_partition *p = synic_on(2);
    CHECK(!fake_wrmsr(1, 0x400000b2, 0x1001 | 8 << 4)); /* vector below 16 */
    fake_wrmsr(1, 0x400000b2, 0x1ed8);                  /* timer 1 of VP 1: direct, auto-enable */
    uint64_t due = now() + 20000, v;
    fake_wrmsr(1, 0x400000b3, due);
    CHECK(fake_rdmsr(1, 0x400000b2, &v) && v == 0x1ed9);
    CHECK(wait_interrupts(1));
    CHECK(now() >= due);
    CHECK_EQ(fake.interrupt[0].vp, 1);
    CHECK_EQ(fake.interrupt[0].vector, 0xed);
    CHECK(fake_rdmsr(1, 0x400000b2, &v) && v == 0x1ed8);
    fake_wrmsr(1, 0x400000b3, 1); /* in the past: at once */
    CHECK_EQ(fake.interrupts, 2);
    fake_wrmsr(1, 0x400000b3, now() + 10000);
    fake_wrmsr(1, 0x400000b3, 0); /* stopped */
    usleep(5000);
    CHECK_EQ(fake.interrupts, 2);
    fake_wrmsr(1, 0x400000b3, UINT64_MAX); /* never, and no overflow */
    usleep(2000);
    CHECK_EQ(fake.interrupts, 2);
    fake_free(p);
}

static void timers_stand_still_in_a_pause(void)
{
    struct hv_partition *p = synic_on(1);
    fake_wrmsr(0, 0x400000b0, 0x1ed8);
    fake_wrmsr(0, 0x400000b1,
               now() + 1000000); /* 100 ms, which a busy host may need to get to the pause */
    hv_partition_pause(p);
    unsigned n = interrupts_now();
    usleep(150000);
    CHECK_EQ(interrupts_now(), n);
    hv_partition_resume(p);
    CHECK(wait_interrupts(1));
    fake_free(p);
}

static void message_timers_share_the_queue(void)
{
    struct hv_partition *p = synic_on(1);
    uint32_t w = 1;
    CHECK(hv_synic_post(p, 0, 2, 1, &w, 4)); /* takes the slot */
    fake_wrmsr(0, 0x400000b0, 2 << 16 | 8);
    uint64_t due = now() - 100;
    fake_wrmsr(0, 0x400000b1, due);
    CHECK_EQ(slot(p).type, 1);
    CHECK_EQ(slot(p).flags, 1);
    take(p);
    struct hv_slot s = slot(p);
    CHECK_EQ(s.type, 0x80000010);
    CHECK_EQ(s.size, 24);
    CHECK_EQ(get_le32(s.payload), 0);
    CHECK_EQ(get_le64(s.payload + 8), due);
    CHECK(get_le64(s.payload + 16) >= due);
    fake_wrmsr(0, 0x400000b0, 8 | 1); /* no SINT, not direct: cannot be enabled */
    CHECK_EQ(fake_msr(0x400000b0), 8);
    fake_free(p);
}

static void periodic_timers_go_on(void)
{
    struct hv_partition *p = synic_on(1);
    uint64_t t0 = now();
    fake_wrmsr(0, 0x400000b0, 0x1eda); /* direct, periodic, auto-enable */
    fake_wrmsr(0, 0x400000b1, 10000);  /* a millisecond */
    CHECK(wait_interrupts(5));
    CHECK(now() - t0 >= 50000);
    CHECK_EQ(fake_msr(0x400000b0) & 1, 1);
    fake_wrmsr(0, 0x400000b1, 1); /* far too fast: limited */
    t0 = now();
    unsigned n = interrupts_now();
    usleep(5000);
    unsigned more = interrupts_now() - n;
    CHECK(more <= (now() - t0) / 1000 + 1);
    fake_wrmsr(0, 0x400000b0, 0);
    fake_free(p);
}

static const struct check_test tests[] = {
    CHECK_TEST(messages_wait_for_their_slot),   CHECK_TEST(the_queue_has_an_end),
    CHECK_TEST(hostile_pages_do_no_harm),       CHECK_TEST(event_flags_merge),
    CHECK_TEST(direct_timers_fire_once),        CHECK_TEST(timers_stand_still_in_a_pause),
    CHECK_TEST(message_timers_share_the_queue), CHECK_TEST(periodic_timers_go_on),
};
CHECK_MAIN(tests)
