/* SPDX-License-Identifier: GPL-3.0-or-later */
/* CPUID, synthetic MSRs, reference time and the life of a partition, on the fake backend. */
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "fake.h"

static const struct hv_cpuid *leaf(uint32_t n, uint32_t sub)
{
    static const struct hv_cpuid none;
    for (size_t i = 0; i < fake.p.ncpuid; i++)
        if (fake.p.cpuid[i].leaf == n &&
            (!fake.p.cpuid[i].per_subleaf || fake.p.cpuid[i].subleaf == sub))
            return &fake.p.cpuid[i];
    return &none;
}

static void cpuid_is_hyperv_on_a_portable_processor(void)
{
    struct hv_partition *p = fake_partition(4, 0);
    char vendor[13] = {0}, hv[13] = {0};
    put_le32(vendor, leaf(0, 0)->ebx);
    put_le32(vendor + 4, leaf(0, 0)->edx);
    put_le32(vendor + 8, leaf(0, 0)->ecx);
    CHECK_STR(vendor, "AuthenticAMD");
    put_le32(hv, leaf(0x40000000, 0)->ebx);
    put_le32(hv + 4, leaf(0x40000000, 0)->ecx);
    put_le32(hv + 8, leaf(0x40000000, 0)->edx);
    CHECK_STR(hv, "Microsoft Hv");
    CHECK(leaf(0x40000000, 0)->eax >= 0x40000005);
    CHECK_EQ(leaf(0x40000001, 0)->eax, 0x31237648);
    CHECK(leaf(1, 0)->ecx >> 31);
    CHECK_EQ(leaf(1, 0)->ecx & (1u << 24 | 1u << 27 | 1u << 28 | 1u << 3),
             0); /* deadline, AVX... */
    CHECK_EQ(leaf(1, 0)->ebx >> 16 & 0xff, 4);
    CHECK_EQ(leaf(0x80000008, 0)->eax & 0xff, 39);
    CHECK_EQ(leaf(0x80000007, 0)->edx, 0);
    CHECK_EQ(leaf(0xb, 1)->ebx, 4);
    CHECK_EQ(leaf(0xb, 1)->eax, 2);
    const struct hv_cpuid *f = leaf(0x40000003, 0);
    CHECK_EQ(f->eax, 0xaff);
    CHECK_EQ(f->ebx, 0x30 | 1 << 20);                      /* page reporting */
    CHECK_EQ(f->ebx & (1u << 1 | 1u << 12 | 1u << 22), 0); /* never */
    CHECK_EQ(f->edx, 0x80510);
    CHECK_EQ(leaf(0x40000004, 0)->eax, 0xe24);
    fake_free(p);
}

static void flush_hypercalls_are_not_recommended_where_asked(void)
{
    const struct hv_partition_params pp = {
        .vp_count = 2, .no_flush_hint = true, .backend = &fake_ops, .ops = &fake_owner};
    struct hv_partition *p = hv_partition_new(&pp, NULL);
    CHECK(p != NULL);
    CHECK_EQ(leaf(0x40000004, 0)->eax, 0xe20);
    hv_partition_free(p);
}

static void os_id_gates_the_hypercall_page(void)
{
    struct hv_partition *p = fake_partition(1, MIB(2));
    uint8_t page[4];
    CHECK(fake_wrmsr(0, HV_MSR_HYPERCALL, 0x6001)); /* ignored: no OS id */
    CHECK_EQ(fake_msr(HV_MSR_HYPERCALL), 0);
    struct hv_hypercall h = {.control = 0x1005d, .input = 5, .long_mode = true};
    uint64_t result;
    CHECK(!fake.p.up.hypercall(fake.p.up.ctx, 0, &h, &result)); /* #UD */
    CHECK(fake_wrmsr(0, HV_MSR_GUEST_OS_ID, 0x8100000000000000));
    CHECK(fake_wrmsr(0, HV_MSR_HYPERCALL, 0x6001));
    CHECK(hv_memory_read(hv_partition_memory(p), 0x6000, page, 4));
    CHECK(memcmp(page, "\x0f\x01\xd9\xc3", 4) == 0); /* vmmcall; ret: an AMD machine */
    CHECK(!fake_wrmsr(0, HV_MSR_HYPERCALL, GIB(8) | 1));
    CHECK_EQ(fake_msr(HV_MSR_HYPERCALL), 0x6001);
    CHECK(fake.p.up.hypercall(fake.p.up.ctx, 0, &h, &result));
    CHECK_EQ(fake.signal_id, 5);
    CHECK(fake_wrmsr(0, HV_MSR_HYPERCALL, 0x7003)); /* locked */
    CHECK(fake_wrmsr(0, HV_MSR_HYPERCALL, 0x8001));
    CHECK_EQ(fake_msr(HV_MSR_HYPERCALL), 0x7003);
    CHECK(fake_wrmsr(0, HV_MSR_GUEST_OS_ID, 0));
    CHECK_EQ(fake_msr(HV_MSR_HYPERCALL) & 1, 0);
    fake_free(p);
}

static void registers_that_do_not_exist_fault(void)
{
    static const uint32_t none[] = {0x40000004, 0x40000011, 0x400000f0, 0x40000106, 0x40000118,
                                    0x400000b8, 0x400000a0, 0x40000085, 0x1b,       0x40000200};
    static const uint32_t read_only[] = {0x40000002, 0x40000010, 0x40000020,
                                         0x40000022, 0x40000023, 0x40000081};
    struct hv_partition *p = fake_partition(2, MIB(2));
    uint64_t v;
    for (unsigned i = 0; i < ARRAY_LEN(none); i++) {
        CHECK(!fake_rdmsr(0, none[i], &v));
        CHECK(!fake_wrmsr(0, none[i], 0));
    }
    for (unsigned i = 0; i < ARRAY_LEN(read_only); i++) {
        CHECK(fake_rdmsr(0, read_only[i], &v));
        CHECK(!fake_wrmsr(0, read_only[i], 0));
    }
    CHECK(fake_rdmsr(1, HV_MSR_VP_INDEX, &v) && v == 1);
    CHECK_EQ(fake_msr(HV_MSR_TSC_FREQUENCY), 1000000000);
    CHECK_EQ(fake_msr(HV_MSR_APIC_FREQUENCY), 1000000000);
    CHECK_EQ(fake_msr(HV_MSR_TPR), 0x80);
    CHECK(fake_wrmsr(0, HV_MSR_EOI, 0) && !fake_wrmsr(0, HV_MSR_ICR, 0xbad));
    CHECK(!fake_wrmsr(0, 0x40000092, 0x0f));   /* SINT vector below 16 */
    CHECK(fake_wrmsr(0, 0x40000092, 0x1000f)); /* but masked */
    CHECK_EQ(fake_msr(HV_MSR_CRASH_CTL), 0xc000000000000000);
    fake_free(p);
}

static uint64_t by_page(struct hv_partition *p, uint64_t gpa, uint64_t tsc, uint32_t *sequence)
{
    struct hv_ref_tsc_page page;
    CHECK(hv_memory_read(hv_partition_memory(p), gpa, &page, sizeof page));
    *sequence = page.sequence;
    return (uint64_t)((unsigned __int128)tsc * page.scale >> 64) + (uint64_t)page.offset;
}

static void counter_and_page_agree_to_the_tick(void)
{
    struct hv_partition *p = fake_partition(1, MIB(2));
    uint32_t s1, s2;
    CHECK(fake_wrmsr(0, HV_MSR_REF_TSC, 0x7001));
    hv_partition_pause(p); /* time stands still */
    uint64_t now = hv_partition_reference_time(p);
    usleep(2000);
    CHECK_EQ(hv_partition_reference_time(p), now);
    CHECK_EQ(by_page(p, 0x7000, hv_clock_now(hv_partition_clock(p)), &s1), now);
    CHECK(s1 != 0 && s1 != UINT32_MAX);
    hv_partition_pass_time(p, 5000000); /* ns: the guest is to see that so much went by */
    CHECK(hv_partition_reference_time(p) - now >= 49990 &&
          hv_partition_reference_time(p) - now <= 50010);
    hv_partition_resume(p);
    usleep(2000);
    CHECK(fake_msr(HV_MSR_REF_COUNT) >= now + 10000);
    CHECK(fake_wrmsr(0, HV_MSR_REF_TSC, 0x8001)); /* elsewhere */
    by_page(p, 0x8000, 0, &s2);
    CHECK(s2 != s1 && s2 != 0);
    CHECK(fake_wrmsr(0, HV_MSR_REF_TSC, GIB(64) | 1)); /* outside: no page, no harm */
    fake_free(p);
}

static void a_state_comes_back_with_time_and_messages(void)
{
    struct hv_partition *p = fake_partition(2, MIB(2));
    uint32_t seq;
    fake_wrmsr(0, HV_MSR_GUEST_OS_ID, 77);
    fake_wrmsr(0, HV_MSR_HYPERCALL, 0x6001);
    fake_wrmsr(0, HV_MSR_REF_TSC, 0x7001);
    fake_wrmsr(1, HV_MSR_SCONTROL, 1);
    fake_wrmsr(1, 0x40000092, 0xf3);
    fake_wrmsr(0, HV_MSR_CRASH_P0 + 2, 0x1234);
    fake_wrmsr(0, HV_MSR_STIMER0_CONFIG, 0x1ed8);
    fake_wrmsr(0, HV_MSR_STIMER0_CONFIG + 1, 10000000ull * 3600);
    for (uint32_t i = 1; i <= 3; i++)
        CHECK(hv_synic_post(p, 1, 2, i, &i, 4)); /* no page yet: they wait */
    usleep(1000);
    hv_partition_pause(p);
    uint64_t ref = hv_partition_reference_time(p);
    uint64_t clock = hv_clock_now(hv_partition_clock(p));
    struct state_writer *w = state_writer_new();
    CHECK(hv_partition_save(p, w, NULL));
    hv_partition_free(p);

    size_t len;
    const uint8_t *bytes = state_writer_data(w, &len, NULL);
    struct state_reader r = {.data = bytes, .len = len};
    p = fake_partition(2, MIB(2));
    hv_partition_pause(p);
    err e = ERR_INIT;
    CHECK(hv_partition_restore(p, &r, &e));
    CHECK_STR(e.text, "");
    CHECK_EQ(hv_partition_reference_time(p), ref);
    CHECK_EQ(hv_clock_now(hv_partition_clock(p)), clock);
    CHECK_EQ(by_page(p, 0x7000, clock + 5000, &seq), ref); /* by VP 0's TSC */
    CHECK(seq != 0);
    CHECK_EQ(fake_msr(HV_MSR_GUEST_OS_ID), 77);
    CHECK_EQ(fake_msr(HV_MSR_HYPERCALL), 0x6001);
    CHECK_EQ(fake_msr(HV_MSR_CRASH_P0 + 2), 0x1234);
    CHECK_EQ(fake_msr(HV_MSR_STIMER0_CONFIG), 0x1ed9);
    uint8_t page[4];
    CHECK(hv_memory_read(hv_partition_memory(p), 0x6000, page, 4) && page[2] == 0xd9);
    hv_partition_resume(p);
    struct hv_slot slot;
    for (uint32_t i = 1; i <= 3; i++) {
        fake_wrmsr(1, i == 1 ? HV_MSR_SIMP : HV_MSR_EOM, i == 1 ? 0xa001 : 0);
        CHECK(hv_memory_read(hv_partition_memory(p), 0xa200, &slot, sizeof slot));
        CHECK_EQ(slot.type, i);
        CHECK_EQ(slot.flags, i < 3);
        CHECK(hv_memory_write(hv_partition_memory(p), 0xa200, "\0\0\0\0", 4));
    }
    CHECK_EQ(fake.interrupts, 3);
    fake_free(p);

    /* Another machine refuses it, and damage is found. */
    p = fake_partition(3, MIB(2));
    hv_partition_pause(p);
    CHECK(!hv_partition_restore(p, &r, &e));
    CHECK_EQ(e.code, ERR_CORRUPT);
    hv_partition_free(p);
    p = fake_partition(2, MIB(2));
    hv_partition_pause(p);
    for (size_t cut = 0; cut < len; cut += 97) {
        struct state_reader short_r = {.data = bytes, .len = cut};
        CHECK(!hv_partition_restore(p, &short_r, NULL));
    }
    hv_partition_free(p);
    state_writer_free(w);
}

static void reset_is_power_on(void)
{
    struct hv_partition *p = fake_partition(1, MIB(2));
    uint32_t word = 1;
    fake_wrmsr(0, HV_MSR_GUEST_OS_ID, 77);
    fake_wrmsr(0, HV_MSR_SIMP, 0xa001);
    fake_wrmsr(0, 0x40000092, 0x200f3);
    CHECK_EQ(fake.auto_eoi[0][3], 1ull << (0xf3 - 192));
    hv_synic_post(p, 0, 2, 1, &word, 4);
    hv_partition_pause(p);
    hv_partition_reset(p);
    CHECK_EQ(fake_msr(HV_MSR_GUEST_OS_ID), 0);
    CHECK_EQ(fake_msr(HV_MSR_SIMP), 0);
    CHECK_EQ(fake_msr(0x40000092), 0x10000);
    CHECK_EQ(fake.auto_eoi[0][3], 0);
    hv_partition_resume(p);
    fake_wrmsr(0, HV_MSR_SCONTROL, 1);
    fake_wrmsr(0, HV_MSR_SIMP, 0xa001);
    struct hv_slot slot;
    CHECK(hv_memory_read(hv_partition_memory(p), 0xa200, &slot, sizeof slot));
    CHECK_EQ(slot.type, 0); /* the old message is gone */
    fake_free(p);
}

static void crashes_and_resets_are_reported(void)
{
    struct hv_partition *p = fake_partition(1, MIB(2));
    CHECK(fake_wrmsr(0, HV_MSR_CRASH_P0, 7));
    CHECK(fake_wrmsr(0, HV_MSR_CRASH_CTL, 0)); /* no notification asked for */
    CHECK_EQ(fake.ended, 0);
    CHECK(fake_wrmsr(0, HV_MSR_CRASH_CTL, 1ull << 63));
    CHECK_EQ(fake.end.kind, HV_END_CRASH);
    CHECK_EQ(fake.end.crash_param[0], 7);
    CHECK_STR(fake.end.text, "");
    fake_wrmsr(0, HV_MSR_CRASH_P0 + 3, MIB(2) - 8);
    fake_wrmsr(0, HV_MSR_CRASH_P0 + 4, UINT64_MAX); /* lies about its length */
    CHECK(fake_wrmsr(0, HV_MSR_CRASH_CTL, 3ull << 62));
    CHECK_STR(fake.end.text, "");
    CHECK(fake_wrmsr(0, HV_MSR_RESET, 0));
    unsigned before = fake.ended;
    CHECK(fake_wrmsr(0, HV_MSR_RESET, 1));
    CHECK(fake_wrmsr(0, HV_MSR_RESET, 1));
    CHECK_EQ(fake.ended, before + 1); /* once */
    CHECK_EQ(fake.end.kind, HV_END_RESET);
    fake_free(p);
}

static void impossible_partitions_are_refused(void)
{
    err e = ERR_INIT;
    struct hv_partition_params pp = {.backend = &fake_ops, .ops = &fake_owner};
    CHECK(!hv_partition_new(&pp, &e));
    CHECK_EQ(e.code, ERR_INVALID);
    pp.vp_count = 1000;
    CHECK(!hv_partition_new(&pp, &e));
    pp.vp_count = HV_MAX_VPS;
    struct hv_partition *p = hv_partition_new(&pp, NULL);
    CHECK(p != NULL);
    static struct hv_vp_state s;
    CHECK(!hv_partition_get_vp(p, HV_MAX_VPS, &s, &e));
    CHECK(hv_partition_get_vp(p, HV_MAX_VPS - 1, &s, &e));
    CHECK_EQ(s.activity, HV_VP_WAIT_FOR_SIPI);
    hv_partition_free(p);
}

static const struct check_test tests[] = {
    CHECK_TEST(cpuid_is_hyperv_on_a_portable_processor),
    CHECK_TEST(flush_hypercalls_are_not_recommended_where_asked),
    CHECK_TEST(os_id_gates_the_hypercall_page),
    CHECK_TEST(registers_that_do_not_exist_fault),
    CHECK_TEST(counter_and_page_agree_to_the_tick),
    CHECK_TEST(a_state_comes_back_with_time_and_messages),
    CHECK_TEST(reset_is_power_on),
    CHECK_TEST(crashes_and_resets_are_reported),
    CHECK_TEST(impossible_partitions_are_refused),
};
CHECK_MAIN(tests)
