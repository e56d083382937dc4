/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The Hyper-V interface: time, hypercalls, SynIC messages and event flags, synthetic timers in both
 * modes. run-asm returns messages posted to connection 1 on SINT 2 and signals of connection 2 as
 * event flags on SINT 3.
 */
#include "test.h"

enum {
    M_OS_ID = 0x40000000,
    M_HYPERCALL = 0x40000001,
    M_VP_INDEX = 0x40000002,
    M_REF_COUNT = 0x40000020,
    M_REF_TSC = 0x40000021,
    M_EOI = 0x40000070,
    M_SCONTROL = 0x40000080,
    M_SIEFP = 0x40000082,
    M_SIMP = 0x40000083,
    M_EOM = 0x40000084,
    M_SINT0 = 0x40000090,
    M_STIMER0 = 0x400000b0,
};
enum { CALL_FLUSH = 2, CALL_FLUSH_LIST = 3, CALL_IPI = 0xb, CALL_POST = 0x5c, CALL_SIGNAL = 0x5d };
enum { FAST = 1 << 16 };
enum { V_MESSAGE = 0x62, V_EVENT = 0x63, V_DIRECT = 0x64, V_IPI = 0x65 };

struct slot {
    uint32_t type;
    uint8_t size, flags;
    uint16_t reserved;
    uint64_t sender;
    uint8_t payload[240];
};
static uint8_t call_page[4096] __attribute__((aligned(4096)));
static volatile struct slot messages[16] __attribute__((aligned(4096)));
static volatile uint8_t events[16][256] __attribute__((aligned(4096)));
static volatile uint64_t tsc_page[512] __attribute__((aligned(4096)));
static uint64_t input[512] __attribute__((aligned(4096)));
static volatile unsigned got_message, got_event, got_direct, got_ipi;

static uint64_t hypercall(uint64_t control, uint64_t in, uint64_t out)
{
    uint64_t result;
    register uint64_t r8 __asm__("r8") = out;
    __asm__ volatile("call *%3"
                     : "=a"(result), "+c"(control), "+d"(in)
                     : "r"(call_page), "r"(r8)
                     : "memory", "cc", "r9", "r10", "r11");
    return result;
}

static void end_of_interrupt(void)
{
    apic_write(APIC_EOI, 0);
}
static bool on_message(struct frame *f)
{
    got_message++;
    end_of_interrupt();
    return true;
}
static bool on_event(struct frame *f)
{
    got_event++;
    end_of_interrupt();
    return true;
}
static bool on_direct(struct frame *f)
{
    got_direct++;
    end_of_interrupt();
    return true;
}
static bool on_ipi(struct frame *f)
{
    __atomic_add_fetch(&got_ipi, 1, __ATOMIC_SEQ_CST);
    end_of_interrupt();
    return true;
}

SNIPPET(x_vmcall, ".byte 0x0f, 0x01, 0xc1");

static void pages(void)
{
    CHECK_EQ(rdmsr(M_VP_INDEX), 0);
    /* Without a guest OS id there is no page. */
    wrmsr(M_HYPERCALL, (uint64_t)(uintptr_t)call_page | 1);
    CHECK_EQ(rdmsr(M_HYPERCALL) & 1, 0);
    wrmsr(M_OS_ID, 0x8100000000000001);
    wrmsr(M_HYPERCALL, (uint64_t)(uintptr_t)call_page | 1);
    CHECK_EQ(rdmsr(M_HYPERCALL), (uint64_t)(uintptr_t)call_page | 1);
    CHECK_EQ(call_page[0], 0x0f);
    CHECK_EQ(call_page[3], 0xc3);
}

/* The counter by the page; where that is not valid, which its sequence says, by the register. */
static uint64_t page_time(void)
{
    for (;;) {
        uint32_t sequence = *(volatile uint32_t *)tsc_page;
        if (!sequence)
            return rdmsr(M_REF_COUNT);
        uint64_t t = (uint64_t)((unsigned __int128)rdtsc() * tsc_page[1] >> 64) + tsc_page[2];
        if (sequence == *(volatile uint32_t *)tsc_page)
            return t;
    }
}

static void time_goes_on(void)
{
    uint64_t a = rdmsr(M_REF_COUNT), b = rdmsr(M_REF_COUNT);
    CHECK(b >= a);
    wrmsr(M_REF_TSC, (uint64_t)(uintptr_t)tsc_page | 1);
    for (unsigned i = 0; i < 20; i++) {
        a = rdmsr(M_REF_COUNT);
        uint64_t page = page_time();
        b = rdmsr(M_REF_COUNT);
        CHECK(page + 10 >= a && page <= b + 10); /* a microsecond */
    }
}

static void hypercalls(void)
{
    CHECK_EQ(hypercall(0x7777, 0, 0), 2);                                 /* no such call */
    CHECK_EQ(hypercall(CALL_POST, (uint64_t)(uintptr_t)input + 4, 0), 4); /* alignment */
    CHECK_EQ(hypercall(CALL_POST | 1ull << 32, (uint64_t)(uintptr_t)input, 0), 3); /* no rep call */
    CHECK_EQ(hypercall(CALL_SIGNAL | FAST, 77, 0), 18); /* no such connection */
    input[0] = input[1] = 0;
    input[2] = 1;
    CHECK_EQ(hypercall(CALL_FLUSH, (uint64_t)(uintptr_t)input, 0), 0);
    input[3] = 0x400000;
    CHECK_EQ(hypercall(CALL_FLUSH_LIST | 1ull << 32, (uint64_t)(uintptr_t)input, 0), 1ull << 32);
    CHECK_EQ(try_call(x_vmcall, NULL), -1);
}

static void ipis(void)
{
    on_vector(V_IPI, on_ipi);
    got_ipi = 0;
    __asm__ volatile("sti");
    CHECK_EQ(hypercall(CALL_IPI | FAST, V_IPI, 1), 0);
    CHECK(wait_until(&got_ipi, 1));
    CHECK(hypercall(CALL_IPI | FAST, 3, 1)); /* no vector for an IPI; 5, and KVM says 3 */
    __asm__ volatile("cli");
}

static void enable_synic(void)
{
    wrmsr(M_SIMP, (uint64_t)(uintptr_t)messages | 1);
    wrmsr(M_SIEFP, (uint64_t)(uintptr_t)events | 1);
    wrmsr(M_SCONTROL, 1);
    wrmsr(M_SINT0 + 2, V_MESSAGE);
    wrmsr(M_SINT0 + 3, V_EVENT);
    on_vector(V_MESSAGE, on_message);
    on_vector(V_EVENT, on_event);
    CHECK_EQ(rdmsr(M_SINT0), 0x10000); /* masked */
}

static uint64_t post(uint32_t connection, uint32_t type, uint8_t fill)
{
    uint32_t *w = (uint32_t *)input;
    w[0] = connection;
    w[1] = 0;
    w[2] = type;
    w[3] = 16;
    memset(&w[4], fill, 240);
    return hypercall(CALL_POST, (uint64_t)(uintptr_t)input, 0);
}

static void messages_queue(void)
{
    got_message = 0;
    __asm__ volatile("sti");
    CHECK_EQ(post(99, 1, 0), 18);
    CHECK_EQ(post(1, 0x55, 0xa1), 0);
    CHECK(wait_until(&got_message, 1));
    CHECK_EQ(messages[2].type, 0x55);
    CHECK_EQ(messages[2].size, 16);
    CHECK_EQ(messages[2].payload[15], 0xa1);
    CHECK_EQ(messages[2].flags, 0);
    /* Two more wait behind it; the flag says so, and each EOM brings one. */
    CHECK_EQ(post(1, 0x56, 0xa2), 0);
    CHECK_EQ(post(1, 0x57, 0xa3), 0);
    CHECK_EQ(messages[2].type, 0x55);
    CHECK_EQ(messages[2].flags & 1, 1);
    CHECK_EQ(got_message, 1);
    messages[2].type = 0;
    wrmsr(M_EOM, 0);
    CHECK(wait_until(&got_message, 2));
    CHECK_EQ(messages[2].type, 0x56);
    CHECK_EQ(messages[2].flags & 1, 1);
    messages[2].type = 0;
    wrmsr(M_EOM, 0);
    CHECK(wait_until(&got_message, 3));
    CHECK_EQ(messages[2].type, 0x57);
    CHECK_EQ(messages[2].payload[0], 0xa3);
    CHECK_EQ(messages[2].flags & 1, 0);
    messages[2].type = 0;
    __asm__ volatile("cli");
}

static void event_flags(void)
{
    got_event = 0;
    __asm__ volatile("sti");
    CHECK_EQ(hypercall(CALL_SIGNAL | FAST, 2 | 777ull << 32, 0), 0);
    CHECK(wait_until(&got_event, 1));
    CHECK_EQ(events[3][777 / 8] >> 777 % 8 & 1, 1);
    /* A flag that is set already interrupts no more. */
    CHECK_EQ(hypercall(CALL_SIGNAL | FAST, 2 | 777ull << 32, 0), 0);
    CHECK_EQ(hypercall(CALL_SIGNAL | FAST, 2 | 778ull << 32, 0), 0);
    CHECK(wait_until(&got_event, 2));
    events[3][777 / 8] = 0;
    CHECK_EQ(hypercall(CALL_SIGNAL | FAST, 2 | 777ull << 32, 0), 0);
    CHECK(wait_until(&got_event, 3));
    __asm__ volatile("cli");
}

static void timer_messages(void)
{
    got_message = 0;
    messages[2].type = 0;
    __asm__ volatile("sti");
    uint64_t due = rdmsr(M_REF_COUNT) + 10000; /* a millisecond */
    wrmsr(M_STIMER0, 2 << 16 | 8);             /* SINT 2, enabled by the count */
    wrmsr(M_STIMER0 + 1, due);
    CHECK(wait_until(&got_message, 1));
    CHECK_EQ(messages[2].type, 0x80000010);
    CHECK_EQ(*(volatile uint32_t *)&messages[2].payload[0], 0);
    CHECK(*(volatile uint64_t *)&messages[2].payload[8] >= due);
    CHECK(*(volatile uint64_t *)&messages[2].payload[16] >=
          *(volatile uint64_t *)&messages[2].payload[8]);
    CHECK_EQ(rdmsr(M_STIMER0) & 1, 0); /* one shot */
    messages[2].type = 0;
    wrmsr(M_EOM, 0);
    /* A count in the past is due at once. */
    wrmsr(M_STIMER0 + 1, 1);
    CHECK(wait_until(&got_message, 2));
    messages[2].type = 0;
    wrmsr(M_EOM, 0);
    __asm__ volatile("cli");
}

static void timer_direct(void)
{
    uint32_t r[4];
    cpuid(0x40000003, 0, r);
    CHECK(r[3] >> 19 & 1);
    on_vector(V_DIRECT, on_direct);
    got_direct = 0;
    __asm__ volatile("sti");
    wrmsr(M_STIMER0 + 2, 1 << 12 | V_DIRECT << 4 | 8);
    wrmsr(M_STIMER0 + 3, rdmsr(M_REF_COUNT) + 10000);
    CHECK(wait_until(&got_direct, 1));
    /* Periodic, every half millisecond, until it is stopped. */
    wrmsr(M_STIMER0 + 3, 0);
    wrmsr(M_STIMER0 + 2, 1 << 12 | V_DIRECT << 4 | 8 | 2);
    wrmsr(M_STIMER0 + 3, 5000);
    for (unsigned i = 0; i < 2000000 && got_direct < 5; i++)
        inb(0x3fd);
    CHECK(got_direct >= 5);
    wrmsr(M_STIMER0 + 3, 0);
    CHECK_EQ(rdmsr(M_STIMER0 + 2) & 1, 0);
    unsigned now = got_direct;
    for (unsigned i = 0; i < 10000; i++)
        inb(0x3fd);
    CHECK(got_direct <= now + 1);
    __asm__ volatile("cli");
}

static void end_by_register(void)
{
    __asm__ volatile("sti; nop; cli");
    apic_write(APIC_ICR, 0x40000 | V_IPI);
    got_ipi = 0;
    __asm__ volatile("sti; nop; nop; cli");
    CHECK_EQ(got_ipi, 1);
    wrmsr(M_EOI, 0); /* nothing in service: no harm */
    CHECK_EQ(rdmsr(0x40000072), 0);
}

static volatile unsigned index_of[8], open_now;
static void be_open(unsigned index)
{
    index_of[index & 7] = (unsigned)rdmsr(M_VP_INDEX);
    __asm__ volatile("sti");
    __atomic_add_fetch(&open_now, 1, __ATOMIC_SEQ_CST);
    while (open_now)
        cpu_pause();
    __asm__ volatile("cli");
}

static void others(unsigned n)
{
    for (unsigned i = 1; i < n; i++)
        on_cpu(i, be_open);
    CHECK(wait_until(&open_now, n - 1));
    for (unsigned i = 1; i < n; i++)
        CHECK_EQ(index_of[i & 7], apic_id_of(i));
    uint64_t all = (1ull << n) - 2;
    got_ipi = 0;
    CHECK_EQ(hypercall(CALL_IPI | FAST, V_IPI, all), 0);
    CHECK(wait_until(&got_ipi, n - 1));
    /* A flush of all, by the sparse set in its form for all (1). */
    input[0] = 0;
    input[1] = 0;
    input[2] = 1;
    input[3] = 0;
    CHECK_EQ(hypercall(0x13, (uint64_t)(uintptr_t)input, 0), 0);
    open_now = 0;
    for (unsigned i = 1; i < n; i++)
        wait_for(i);
}

void test_main(void)
{
    apic_write(APIC_SVR, 0x1ff);
    pages();
    time_goes_on();
    hypercalls();
    ipis();
    enable_synic();
    messages_queue();
    event_flags();
    timer_messages();
    timer_direct();
    end_by_register();
    unsigned n = smp_start();
    if (n > 1)
        others(n);
}
