/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is on the machine's board, and its firmware tables. */
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/chipset/acpi.h"
#include "core/chipset/fwcfg.h"
#include "core/chipset/layout.h"
#include "core/chipset/pit.h"
#include "core/chipset/rtc.h"
#include "core/chipset/smbios.h"
#include "core/chipset/testports.h"
#include "core/machine/machine-int.h"

/* ---- interrupts ---- */

static void send_msi(void *ctx, const struct hv_msi *m)
{
    hv_partition_msi(((struct machine *)ctx)->partition, m);
}

static void send_route(void *ctx, unsigned pin, const struct hv_msi *m,
                       const struct hv_msi *in_service)
{
    hv_partition_ioapic_route(((struct machine *)ctx)->partition, pin, m, in_service);
}

static void send_intr(void *ctx, bool asserted)
{
    hv_partition_extint(((struct machine *)ctx)->partition, asserted);
}

static void set_line(void *ctx, unsigned irq, bool asserted)
{
    struct machine *m = ctx;
    chip_line_set(&m->wire[irq].pic, asserted);
    chip_line_set(&m->wire[irq].ioapic, asserted);
}

struct chip_line machine_line(struct machine *m, unsigned irq)
{
    return (struct chip_line){.set = set_line, .ctx = m, .pin = irq};
}

static void wire(struct machine *m)
{
    for (unsigned irq = 0; irq < MACHINE_LINES; irq++) {
        unsigned pin = irq == LAYOUT_IRQ_TIMER ? LAYOUT_GSI_TIMER : irq;
        if (irq == 2) /* the PIC's cascade */
            continue;
        m->wire[irq].ioapic = ioapic_line(m->ioapic, pin);
        if (m->pic)
            m->wire[irq].pic = pic_line(m->pic, irq);
    }
}

/* ---- what devices ask of the machine ---- */

static void on_power_off(void *ctx)
{
    machine_ask_end(ctx, MACHINE_POWERED_OFF, 0, 0);
}
static void on_hibernated(void *ctx)
{
    machine_ask_end(ctx, MACHINE_HIBERNATED, 0, 0);
}
static void on_reset(void *ctx)
{
    machine_ask_end(ctx, MACHINE_RESET, 0, 0);
}
static void on_debug_exit(void *ctx, uint32_t code)
{
    machine_ask_end(ctx, MACHINE_DEBUG_EXIT, 0, code);
}

static size_t on_serial(void *ctx, const uint8_t *data, size_t len)
{
    struct machine_serial *s = ctx;
    return s->m->p.ops->serial_out(s->m->p.ctx, s->port, data, len);
}

/* ---- making ---- */

static bool add_interrupts(struct machine *m, err *e)
{
    const struct ioapic_out out = {.msi = send_msi, .route = send_route, .ctx = m};
    m->ioapic = ioapic_new(&m->env, &out, e);
    if (!m->ioapic || !machine_add_device(m, ioapic_device(m->ioapic), e))
        return false;
    if (!machine_has_legacy(m))
        return true;
    m->pic = pic_new(&m->env, &(struct pic_out){.intr = send_intr, .ctx = m}, e);
    return m->pic && machine_add_device(m, pic_device(m->pic), e);
}

static bool add_serials(struct machine *m, err *e)
{
    static const struct {
        uint16_t port;
        unsigned irq;
    } com[MACHINE_SERIALS] = {{LAYOUT_PORT_COM1, LAYOUT_IRQ_COM1},
                              {LAYOUT_PORT_COM2, LAYOUT_IRQ_COM2}};
    for (unsigned i = 0; i < m->p.serials; i++) {
        struct machine_serial *s = &m->serial[i];
        *s = (struct machine_serial){.m = m, .port = i};
        struct uart_params p = {
            .env = &m->env, .port = com[i].port, .instance = i, .irq = machine_line(m, com[i].irq)};
        if (m->p.ops->serial_out)
            p.sink = (struct uart_sink){.write = on_serial, .ctx = s};
        s->uart = uart_new(&p, e);
        if (!s->uart || !machine_add_device(m, uart_device(s->uart), e))
            return false;
    }
    return true;
}

static bool add_pm(struct machine *m, err *e)
{
    const struct pm_params p = {
        .env = &m->env,
        .sci = machine_line(m, LAYOUT_IRQ_SCI),
        .up = {.power_off = on_power_off, .hibernated = on_hibernated, .reset = on_reset, .ctx = m},
        .s4 = m->p.s4,
        .port = m->p.kind == MACHINE_GEN1 ? LAYOUT_PORT_PM_PIIX4 : LAYOUT_PORT_PM};
    m->pm = pm_new(&p, e);
    return m->pm && machine_add_device(m, pm_device(m->pm), e);
}

static bool add_rtc(struct machine *m, err *e)
{
    const struct rtc_params p = {
        .env = &m->env, .irq = machine_line(m, LAYOUT_IRQ_RTC), .offset_s = m->p.rtc_offset_s};
    struct rtc *r = rtc_new(&p, e);
    m->rtc = r;
    if (!r)
        return false;
    /* Memory sizes where a PC's BIOS leaves them: up to 64 MiB in KiB, then in 64 KiB up to 4 GiB.
     */
    uint64_t above_1m = (m->map.low_end - MIB(1)) >> 10;
    uint64_t above_16m = m->map.low_end > MIB(16) ? (m->map.low_end - MIB(16)) >> 16 : 0;
    unsigned ext = (unsigned)MIN(above_1m, 0xffff), chunks = (unsigned)MIN(above_16m, 0xffff);
    const uint8_t bytes[][2] = {{0x15, 0x80},
                                {0x16, 0x02},
                                {0x17, (uint8_t)ext},
                                {0x18, (uint8_t)(ext >> 8)},
                                {0x30, (uint8_t)ext},
                                {0x31, (uint8_t)(ext >> 8)},
                                {0x34, (uint8_t)chunks},
                                {0x35, (uint8_t)(chunks >> 8)}};
    for (size_t i = 0; i < ARRAY_LEN(bytes); i++)
        rtc_set_cmos(r, bytes[i][0], bytes[i][1]);
    return machine_add_device(m, rtc_device(r), e);
}

void machine_set_floppy(struct machine *m, uint8_t cmos)
{
    rtc_set_cmos(m->rtc, 0x10, cmos);
    rtc_set_cmos(m->rtc, 0x14, 0x01); /* equipment */
}

static bool add_pc(struct machine *m, err *e)
{
    struct pit *pit = pit_new(&m->env, machine_line(m, LAYOUT_IRQ_TIMER), e);
    if (!pit || !machine_add_device(m, pit_device(pit), e))
        return false;
    m->fwcfg = fwcfg_new(&m->env, m->p.memory, m->p.vps, e);
    return m->fwcfg && machine_add_device(m, fwcfg_device(m->fwcfg), e) &&
           (m->p.kind != MACHINE_GEN1 || machine_add_bios(m, e));
}

static bool add_testports(struct machine *m, err *e)
{
    const struct testports_params p = {.env = &m->env,
                                       .debug_exit = m->p.debug_exit ? on_debug_exit : NULL,
                                       .reset = m->p.kind == MACHINE_PC ? on_reset : NULL,
                                       .ctx = m};
    if (!p.debug_exit && !p.reset)
        return true;
    struct testports *t = testports_new(&p, e);
    return t && machine_add_device(m, testports_device(t), e);
}

bool machine_make_board(struct machine *m, err *e)
{
    if (!add_interrupts(m, e))
        return false;
    wire(m);
    return add_pm(m, e) && add_rtc(m, e) && add_serials(m, e) && add_testports(m, e) &&
           (!machine_has_legacy(m) || add_pc(m, e)) &&
           (!m->p.test_devices || machine_add_test_devices(m, e));
}

/* ---- tables ---- */

bool machine_acpi(struct machine *m, struct acpi_tables *out, err *e)
{
    struct acpi_params p = {.vps = m->p.vps,
                            .legacy = machine_has_legacy(m),
                            .serials = m->p.serials,
                            .vmbus = m->p.vmbus,
                            .s4 = m->p.s4,
                            .base = LAYOUT_ACPI_BASE};
    if (m->p.kind == MACHINE_GEN1) {
        p.pci = true;
        p.floppy = m->p.floppy;
        p.base = machine_tables(m);
        p.generation = p.base + LAYOUT_TABLES_SIZE - HV_PAGE_SIZE;
        p.pm_port = LAYOUT_PORT_PM_PIIX4;
    }
    return acpi_build(&p, out, e);
}

static bool put_acpi(struct machine *m, struct hv_memory *mem, err *e)
{
    struct acpi_tables t;
    uint64_t base = m->p.kind == MACHINE_GEN1 ? machine_tables(m) : LAYOUT_ACPI_BASE;
    if (!machine_acpi(m, &t, e))
        return false;
    bool ok = hv_memory_write(mem, base, t.data, t.len);
    acpi_free(&t);
    return ok || err_set(e, ERR_INVALID, "The machine has too little memory for its ACPI tables");
}

static bool put_smbios(struct machine *m, struct hv_memory *mem, err *e)
{
    uint8_t *buf = calloc(1, LAYOUT_SMBIOS_SIZE);
    if (!buf)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory for the SMBIOS tables");
    size_t len = machine_smbios(m, buf);
    bool ok = len && hv_memory_write(mem, LAYOUT_SMBIOS_BASE, buf, len);
    free(buf);
    return ok || err_set(e, ERR_INVALID, "The machine's SMBIOS tables do not fit");
}

size_t machine_smbios(struct machine *m, uint8_t *buf)
{
    const struct smbios_params p = {
        .vps = m->p.vps,
        .ram_bytes = m->p.memory,
        .uuid = m->p.uuid,
        .version = m->p.kind == MACHINE_GEN1 ? "090008" : "Hyper-V UEFI Release v4.1"};
    return smbios_build(&p, buf, LAYOUT_SMBIOS_SIZE);
}

bool machine_put_tables(struct machine *m, err *e)
{
    struct hv_memory *mem = hv_partition_memory(m->partition);
    bool pc = m->p.kind == MACHINE_GEN1;
    struct guid generation;
    guid_random(&generation);
    if (!hv_memory_write(mem, machine_generation(m), generation.b, sizeof generation.b))
        return err_set(e, ERR_INVALID, "The machine has too little memory");
    if (!put_acpi(m, mem, e))
        return false;
    return pc || put_smbios(m, mem, e);
}
