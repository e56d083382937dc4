/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A guest against the Hyper-V personality: MSR reads and writes, hypercalls with guest-chosen
 * input, messages and signals in between, and saved states. Input: operations { u8 what, u8 place,
 * u64 value, u64 more }; after what 0xff, fields of a saved state { u8 section, u8 instance, u8
 * tag, u8 length, bytes }.
 */
#include <stdlib.h>

#include "core/base/log.h"
#include "tests/unit/hv/fake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { VPS = 3, OP = 18, OPS_MAX = 512 };
#define RAM MIB(4)

/* Values that open doors are near: page MSRs enabled within RAM, SINT vectors, call codes. */
static uint64_t shape(uint8_t place, uint64_t v)
{
    switch (place >> 6) {
    case 0: return v;
    case 1: return (v & (RAM - 1)) | 1;
    case 2: return v & 0xffff;
    default: return v & 0x1fff1fffff;
    }
}

static uint32_t msr_of(uint8_t place)
{
    static const uint32_t base[8] = {0x40000000, 0x40000020, 0x40000070, 0x40000080,
                                     0x40000090, 0x400000b0, 0x40000100, 0x400000f0};
    return base[place >> 5] + (place & 31);
}

static const uint16_t codes[16] = {0x02, 0x03, 0x08, 0x0b, 0x13, 0x14,   0x15,   0x5c,
                                   0x5d, 0x7e, 0x46, 0x50, 0x01, 0x8001, 0x8003, 0x8002};

static void hypercall(unsigned vp, uint8_t place, uint64_t control, uint64_t more)
{
    struct hv_hypercall h = {.control = (control & ~0xffffull) | codes[place & 15],
                             .input = more & (RAM - 1) & ~7ull,
                             .output = more >> 24,
                             .has_xmm = place & 16,
                             .long_mode = true};
    uint64_t result = 0;
    if (place & 32)
        h.input = more;
    memset(h.xmm, place, sizeof h.xmm);
    if (fake.p.up.hypercall(fake.p.up.ctx, vp, &h, &result) && (result & ~0xfff0000ffffull))
        abort();
}

static void operate(struct hv_partition *p, const uint8_t *op)
{
    uint64_t v = get_le64(op + 2), more = get_le64(op + 10), out;
    uint8_t what = op[0], place = op[1];
    unsigned vp = what >> 4 & 3;
    if (vp >= VPS)
        vp = 0;
    switch (what & 7) {
    case 0: fake_rdmsr(vp, msr_of(place), &out); break;
    case 1:
    case 2: fake_wrmsr(vp, msr_of(place), shape((uint8_t)more, v)); break;
    case 3: hypercall(vp, place, v, more); break;
    case 4: hv_memory_write(hv_partition_memory(p), v % (RAM - 16), &more, 8); break;
    case 5: hv_synic_post(p, vp, place & 15, (uint32_t)v, &more, (uint8_t)(more % 9)); break;
    case 6: hv_synic_signal(p, vp, place & 15, (uint16_t)v); break;
    default: fake.p.up.eoi(fake.p.up.ctx, vp, place); break;
    }
}

static void put_fields(struct state_writer *w, const uint8_t *data, size_t size)
{
    static const uint32_t sections[4] = {STATE_ID('H', 'V', 'P', 'T'), STATE_ID('H', 'V', 'V', 'P'),
                                         STATE_ID('H', 'V', 'M', 'Q'),
                                         STATE_ID('X', 'X', 'X', 'X')};
    while (size >= 4) {
        size_t len = data[3];
        uint8_t tag = data[2];
        if (len > size - 4)
            len = size - 4;
        state_begin(w, sections[data[0] & 3], data[1] & 3, 1, 1);
        state_put(w, tag, data + 4, len);
        state_end(w);
        data += 4 + len;
        size -= 4 + len;
    }
}

/* The partition's own state with the input's sections before it, which are found first. */
static void restore(struct hv_partition *p, const uint8_t *data, size_t size)
{
    struct state_writer *w = state_writer_new();
    size_t len;
    if (!w)
        return;
    put_fields(w, data, size);
    hv_partition_save(p, w, NULL);
    const uint8_t *bytes = state_writer_data(w, &len, NULL);
    struct state_reader r = {.data = bytes, .len = len};
    if (bytes)
        hv_partition_restore(p, &r, NULL);
    state_writer_free(w);
}

static void quiet(void *ctx, enum log_level level, const char *subsystem, const char *text)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct hv_partition *p;
    if (!p) {
        log_set_sink(quiet, NULL);
        p = fake_partition(VPS, RAM);
        if (!p)
            abort();
    }
    hv_partition_pause(p);
    hv_partition_reset(p);
    fake.interrupts = fake.flushes = 0;
    fake_wrmsr(0, HV_MSR_GUEST_OS_ID, 1);
    fake_wrmsr(0, HV_MSR_SCONTROL, 1);
    for (unsigned n = 0; n < OPS_MAX && size >= OP && data[0] != 0xff; n++) {
        operate(p, data);
        data += OP;
        size -= OP;
    }
    if (size)
        restore(p, data + 1, size - 1);
    return 0;
}
