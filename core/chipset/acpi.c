/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/acpi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/chipset/acpi-format.h"
#include "core/chipset/aml.h"
#include "core/chipset/layout.h"
#include "core/chipset/pm.h"
#include "core/chipset/rtc.h"

enum { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_LAPIC_NMI = 4 };
enum { FLAG_ACTIVE_HIGH = 1, FLAG_LEVEL = 3 << 2 };
enum {
    FADT_WBINVD = 1 << 0,
    FADT_PROC_C1 = 1 << 2,
    FADT_RTC_S4 = 1 << 7,
    FADT_TMR_VAL_EXT = 1 << 8,
    FADT_RESET_REG_SUP = 1 << 10,
    FADT_PLATFORM_CLOCK = 1 << 15,
};
enum { BOOT_LEGACY = 1, BOOT_8042 = 2, BOOT_NO_VGA = 4, BOOT_NO_ASPM = 0x10 };
enum { WAET_RTC_GOOD = 1, WAET_PM_TIMER_GOOD = 2 };
enum { SPACE_IO = 1, ALIGN = 16, MAX_TABLES = 8 };

/* The growing image: tables one after the other. */
struct image {
    uint8_t *data;
    size_t len;
    uint64_t base;
};

static uint8_t checksum(const void *p, size_t len)
{
    const uint8_t *b = p;
    uint8_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + b[i]);
    return (uint8_t)-sum;
}

static struct acpi_header header(const char *signature, uint8_t revision)
{
    struct acpi_header h = {.revision = revision, .oem_revision = 1, .creator_revision = 1};
    memcpy(h.signature, signature, 4);
    memcpy(h.oem_id, "VIREO ", 6);
    memcpy(h.oem_table_id, "VIREO   ", 8);
    memcpy(h.creator_id, "VIRE", 4);
    return h;
}

/* Appends a table (its header's length and checksum are filled in); returns its address, 0 if it
 * does not fit. */
static uint64_t append(struct image *im, void *table, size_t len)
{
    size_t at = (size_t)align_up(im->len, ALIGN);
    if (at > LAYOUT_ACPI_SIZE || len > LAYOUT_ACPI_SIZE - at)
        return 0;
    struct acpi_header *h = table;
    h->length = (uint32_t)len;
    h->checksum = 0;
    h->checksum = checksum(table, len);
    memcpy(im->data + at, table, len);
    im->len = at + len;
    return im->base + at;
}

/* ---- DSDT ---- */

static void sleep_state(struct aml *a, const char *name, unsigned type)
{
    aml_name(a, name);
    aml_package(a, 2);
    aml_int(a, type);
    aml_int(a, type);
    aml_end(a);
}

static void processors(struct aml *a, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        char name[5];
        snprintf(name, sizeof name, "P%03X", i & 0xfff);
        aml_device(a, name);
        aml_name(a, "_HID");
        aml_string(a, "ACPI0007");
        aml_name(a, "_UID");
        aml_int(a, i + 1);
        aml_end(a);
    }
}

static void isa_device(struct aml *a, const char *name, const char *id, unsigned uid, uint16_t port,
                       uint8_t ports, int irq)
{
    aml_device(a, name);
    aml_name(a, "_HID");
    aml_eisa_id(a, id);
    aml_name(a, "_UID");
    aml_int(a, uid);
    aml_name(a, "_CRS");
    aml_resources(a);
    aml_io(a, port, ports);
    if (irq >= 0)
        aml_irq(a, (unsigned)irq);
    aml_end(a);
    aml_end(a);
}

static void status_method(struct aml *a, const char *name, bool set, uint8_t v)
{
    aml_method(a, name, 0);
    if (set)
        aml_or_into(a, "STA", v);
    else
        aml_and_into(a, "STA", v);
    aml_end(a);
}

/* The bus as Hyper-V's generation 2 firmware describes it. */
static void vmbus(struct aml *a)
{
    aml_device(a, "VMOD");
    aml_name(a, "_HID");
    aml_string(a, "ACPI0004");
    aml_name(a, "_UID");
    aml_int(a, 0);
    aml_name(a, "_CRS");
    aml_resources(a);
    aml_window(a, LAYOUT_MMIO_LOW_BASE, LAYOUT_MMIO_LOW_SIZE);
    aml_window(a, LAYOUT_MMIO_HIGH_BASE, LAYOUT_MMIO_HIGH_SIZE);
    aml_end(a);
    aml_device(a, "VMBS");
    aml_name(a, "STA");
    aml_int(a, 0xf);
    aml_name(a, "_DDN");
    aml_string(a, "VMBUS");
    aml_name(a, "_HID");
    aml_string(a, "VMBus");
    aml_name(a, "_UID");
    aml_int(a, 0);
    status_method(a, "_DIS", false, 0xd);
    status_method(a, "_PS0", true, 0xf);
    aml_method(a, "_STA", 0);
    aml_return(a);
    aml_path(a, "STA");
    aml_end(a);
    aml_method(a, "_PS3", 0);
    aml_end(a);
    aml_name(a, "_CRS");
    aml_resources(a);
    aml_irq(a, 5); /* not used on x86; there as on Hyper-V */
    aml_end(a);
    aml_end(a);
    aml_end(a);
}

static void generation_counter(struct aml *a, const struct acpi_params *p)
{
    uint64_t at = p->generation ? p->generation : LAYOUT_GENERATION;
    aml_device(a, "GENC");
    aml_name(a, "_HID");
    aml_string(a, "VIRE0001");
    aml_name(a, "_CID"); /* what drivers match */
    aml_package(a, 2);
    aml_string(a, "VM_Gen_Counter");
    aml_string(a, "VMGENCTR");
    aml_end(a);
    aml_name(a, "_UID");
    aml_int(a, 0);
    aml_name(a, "_DDN");
    aml_string(a, "VM_Gen_Counter");
    aml_name(a, "ADDR");
    aml_package(a, 2);
    aml_int(a, (uint32_t)at);
    aml_int(a, at >> 32);
    aml_end(a);
    aml_end(a);
}

static void ioapic(struct aml *a)
{
    aml_device(a, "APIC");
    aml_name(a, "_HID");
    aml_eisa_id(a, "PNP0003");
    aml_name(a, "_CRS");
    aml_resources(a);
    aml_memory32(a, (uint32_t)LAYOUT_IOAPIC, 0x1000);
    aml_memory32(a, (uint32_t)LAYOUT_LAPIC, 0x1000);
    aml_end(a);
    aml_end(a);
}

/* Interrupt pins of slot 0 to 31, in turn to the lines that SeaBIOS routes PIRQ A to D to. */
static void interrupt_routing(struct aml *a)
{
    enum { SLOTS = 32, PINS = 4 };
    aml_name(a, "_PRT");
    aml_package(a, SLOTS * PINS);
    for (unsigned slot = 0; slot < SLOTS; slot++)
        for (unsigned pin = 0; pin < PINS; pin++) {
            aml_package(a, 4);
            aml_int(a, (uint64_t)slot << 16 | 0xffff);
            aml_int(a, pin);
            aml_int(a, 0);
            aml_int(a, (slot + pin + PINS - 1) % PINS < 2 ? LAYOUT_IRQ_PCI_AB : LAYOUT_IRQ_PCI_CD);
            aml_end(a);
        }
    aml_end(a);
}

static void floppy(struct aml *a)
{
    aml_device(a, "FDC0");
    aml_name(a, "_HID");
    aml_eisa_id(a, "PNP0700");
    aml_name(a, "_CRS");
    aml_resources(a);
    aml_io(a, LAYOUT_PORT_FLOPPY, 6);
    aml_io(a, LAYOUT_PORT_FLOPPY + 7, 1);
    aml_irq(a, LAYOUT_IRQ_FLOPPY);
    aml_dma(a, 2);
    aml_end(a);
    aml_end(a);
}

static void isa_bridge(struct aml *a, bool has_floppy)
{
    aml_device(a, "ISA");
    aml_name(a, "_ADR");
    aml_int(a, (uint64_t)LAYOUT_PCI_ISA << 16);
    isa_device(a, "PS2K", "PNP0303", 0, LAYOUT_PORT_I8042_DATA, 1, LAYOUT_IRQ_KEYBOARD);
    aml_device(a, "PS2M");
    aml_name(a, "_HID");
    aml_eisa_id(a, "PNP0F13");
    aml_name(a, "_CRS");
    aml_resources(a);
    aml_irq(a, LAYOUT_IRQ_MOUSE);
    aml_end(a);
    aml_end(a);
    if (has_floppy)
        floppy(a);
    aml_end(a);
}

static void pci(struct aml *a, bool has_floppy)
{
    aml_device(a, "PCI0");
    aml_name(a, "_HID");
    aml_eisa_id(a, "PNP0A03");
    aml_name(a, "_ADR");
    aml_int(a, 0);
    aml_name(a, "_UID");
    aml_int(a, 0);
    aml_name(a, "_CRS");
    aml_resources(a);
    aml_bus_numbers(a, 0, 0);
    aml_io(a, 0xcf8, 8);
    aml_port_window(a, 0, 0xcf7);
    aml_port_window(a, 0xd00, 0xffff);
    aml_memory_window(a, 0xa0000, 0xbffff);
    aml_memory_window(a, (uint32_t)LAYOUT_MMIO_LOW_BASE,
                      (uint32_t)(LAYOUT_MMIO_LOW_BASE + LAYOUT_PCI_MMIO_SIZE - 1));
    aml_end(a);
    interrupt_routing(a);
    isa_bridge(a, has_floppy);
    aml_end(a);
}

static void system_bus(struct aml *a, const struct acpi_params *p)
{
    aml_scope(a, "\\_SB");
    processors(a, p->vps);
    ioapic(a);
    if (p->pci)
        pci(a, p->floppy);
    if (p->vmbus)
        vmbus(a);
    if (p->serials > 0)
        isa_device(a, "UAR1", "PNP0501", 1, LAYOUT_PORT_COM1, 8, LAYOUT_IRQ_COM1);
    if (p->serials > 1)
        isa_device(a, "UAR2", "PNP0501", 2, LAYOUT_PORT_COM2, 8, LAYOUT_IRQ_COM2);
    isa_device(a, "RTC0", "PNP0B00", 0, LAYOUT_PORT_RTC, 2, LAYOUT_IRQ_RTC);
    if (p->legacy)
        isa_device(a, "TIMR", "PNP0100", 0, LAYOUT_PORT_PIT, 4, LAYOUT_IRQ_TIMER);
    generation_counter(a, p);
    aml_end(a);
}

static void events(struct aml *a)
{
    aml_scope(a, "\\_GPE");
    aml_method(a, "_E00", 0); /* PM_GPE_GENERATION */
    aml_notify(a, "\\_SB.GENC", 0x80);
    aml_end(a);
    aml_end(a);
}

static bool build_dsdt(struct aml *a, const struct acpi_params *p, err *e)
{
    struct acpi_header h = header("DSDT", 2);
    aml_init(a);
    aml_bytes(a, &h, sizeof h);
    sleep_state(a, "\\_S0", 0);
    if (p->s4)
        sleep_state(a, "\\_S4", PM_SLEEP_TYPE_S4);
    sleep_state(a, "\\_S5", PM_SLEEP_TYPE_S5);
    system_bus(a, p);
    events(a);
    return aml_finish(a, e);
}

/* ---- the other tables ---- */

static struct acpi_gas io_register(uint16_t port, uint8_t bytes)
{
    static const uint8_t access[] = {0, 1, 2, 0, 3};
    return (struct acpi_gas){.space = SPACE_IO,
                             .bits = (uint8_t)(bytes * 8),
                             .access = access[bytes <= 4 ? bytes : 0],
                             .address = port};
}

static struct acpi_fadt fadt(const struct acpi_params *p, uint64_t facs, uint64_t dsdt)
{
    const uint16_t pm = p->pm_port ? p->pm_port : LAYOUT_PORT_PM;
    struct acpi_fadt f = {
        .h = header("FACP", 6),
        .firmware_ctrl = (uint32_t)facs,
        .dsdt = (uint32_t)dsdt,
        .sci = LAYOUT_IRQ_SCI,
        .pm1a_evt = pm + PM_OFF_EVENT,
        .pm1a_cnt = pm + PM_OFF_CONTROL,
        .pm_tmr = pm + PM_OFF_TIMER,
        .gpe0 = pm + PM_OFF_GPE0,
        .pm1_evt_len = 4,
        .pm1_cnt_len = 2,
        .pm_tmr_len = 4,
        .gpe0_len = 4,
        .c2_latency = 101,  /* above 100: not supported */
        .c3_latency = 1001, /* above 1000: not supported */
        .century = RTC_CENTURY,
        .boot_arch = (uint16_t)((p->legacy ? BOOT_LEGACY : 0) | (p->pci ? BOOT_8042 : BOOT_NO_VGA) |
                                BOOT_NO_ASPM),
        .flags = FADT_WBINVD | FADT_PROC_C1 | FADT_RTC_S4 | FADT_TMR_VAL_EXT | FADT_RESET_REG_SUP |
                 FADT_PLATFORM_CLOCK,
        .reset_reg = io_register(pm + PM_OFF_RESET, 1),
        .reset_value = PM_RESET_VALUE,
        .minor = 5,
        .x_dsdt = dsdt,
        .x_pm1a_evt = io_register(pm + PM_OFF_EVENT, 4),
        .x_pm1a_cnt = io_register(pm + PM_OFF_CONTROL, 2),
        .x_pm_tmr = io_register(pm + PM_OFF_TIMER, 4),
        .x_gpe0 = io_register(pm + PM_OFF_GPE0, 4),
    };
    memcpy(&f.hypervisor_vendor, "MsHyperV", 8);
    return f;
}

static size_t put(uint8_t *at, const void *entry, size_t len)
{
    memcpy(at, entry, len);
    return len;
}

static size_t madt_overrides(uint8_t *at, const struct acpi_params *p)
{
    struct acpi_madt_override timer = {.type = MADT_OVERRIDE,
                                       .length = sizeof timer,
                                       .irq = LAYOUT_IRQ_TIMER,
                                       .gsi = LAYOUT_GSI_TIMER};
    struct acpi_madt_override sci = {.type = MADT_OVERRIDE,
                                     .length = sizeof sci,
                                     .irq = LAYOUT_IRQ_SCI,
                                     .gsi = LAYOUT_IRQ_SCI,
                                     .flags = FLAG_ACTIVE_HIGH | FLAG_LEVEL};
    size_t n = 0;
    if (p->legacy)
        n += put(at, &timer, sizeof timer);
    return n + put(at + n, &sci, sizeof sci);
}

static size_t madt(uint8_t *out, const struct acpi_params *p)
{
    struct acpi_madt head = {
        .h = header("APIC", 5), .local_apic = (uint32_t)LAYOUT_LAPIC, .flags = p->legacy ? 1 : 0};
    struct acpi_madt_ioapic io = {
        .type = MADT_IOAPIC, .length = sizeof io, .address = (uint32_t)LAYOUT_IOAPIC};
    struct acpi_madt_nmi nmi = {
        .type = MADT_LAPIC_NMI, .length = sizeof nmi, .uid = 0xff, .lint = 1};
    size_t n = put(out, &head, sizeof head);
    for (unsigned i = 0; i < p->vps; i++) {
        struct acpi_madt_lapic cpu = {.type = MADT_LAPIC,
                                      .length = sizeof cpu,
                                      .uid = (uint8_t)(i + 1),
                                      .apic_id = (uint8_t)i,
                                      .flags = 1};
        n += put(out + n, &cpu, sizeof cpu);
    }
    n += put(out + n, &io, sizeof io);
    n += madt_overrides(out + n, p);
    return n + put(out + n, &nmi, sizeof nmi);
}

static void rsdp(struct image *im, uint64_t xsdt)
{
    struct acpi_rsdp r = {.revision = 2, .length = sizeof r, .xsdt = xsdt};
    memcpy(r.signature, "RSD PTR ", 8);
    memcpy(r.oem_id, "VIREO ", 6);
    r.checksum = checksum(&r, 20);
    r.extended_checksum = checksum(&r, sizeof r);
    memcpy(im->data, &r, sizeof r);
}

/* FACS: its own kind of header, 64-byte aligned. */
static uint64_t append_facs(struct image *im)
{
    struct acpi_facs f = {.signature = {'F', 'A', 'C', 'S'}, .length = sizeof f, .version = 2};
    size_t at = (size_t)align_up(im->len, 64);
    memcpy(im->data + at, &f, sizeof f);
    im->len = at + sizeof f;
    return im->base + at;
}

static bool append_all(struct image *im, struct aml *dsdt, const struct acpi_params *p,
                       struct acpi_tables *out)
{
    uint8_t entries[sizeof(struct acpi_header) + 8 * MAX_TABLES], apic[4096];
    uint64_t tables[MAX_TABLES];
    struct acpi_waet waet = {.h = header("WAET", 1), .flags = WAET_RTC_GOOD | WAET_PM_TIMER_GOOD};
    im->len = sizeof(struct acpi_rsdp);
    uint64_t facs = append_facs(im);
    uint64_t dsdt_at = append(im, dsdt->data, dsdt->len);
    struct acpi_fadt f = fadt(p, facs, dsdt_at);
    tables[0] = append(im, &f, sizeof f);
    tables[1] = append(im, apic, madt(apic, p));
    tables[2] = append(im, &waet, sizeof waet);
    struct acpi_header xh = header("XSDT", 1);
    memcpy(entries, &xh, sizeof xh);
    memcpy(entries + sizeof xh, tables, 3 * sizeof tables[0]);
    uint64_t xsdt = append(im, entries, sizeof xh + 3 * sizeof tables[0]);
    rsdp(im, xsdt);
    out->dsdt = (size_t)(dsdt_at - im->base);
    out->dsdt_len = dsdt->len;
    return dsdt_at && tables[0] && tables[1] && tables[2] && xsdt;
}

bool acpi_build(const struct acpi_params *p, struct acpi_tables *out, err *e)
{
    struct aml a;
    struct image im = {.data = calloc(1, LAYOUT_ACPI_SIZE),
                       .base = p->base ? p->base : LAYOUT_ACPI_BASE};
    *out = (struct acpi_tables){0};
    bool ok = build_dsdt(&a, p, e);
    if (ok && !im.data)
        ok = err_set(e, ERR_NO_MEMORY, "Not enough memory for the ACPI tables");
    if (ok && !append_all(&im, &a, p, out))
        ok = err_set(e, ERR_INVALID, "The ACPI tables of %u processors do not fit", p->vps);
    aml_free(&a);
    if (!ok) {
        free(im.data);
        return false;
    }
    out->data = im.data;
    out->len = im.len;
    return true;
}

void acpi_free(struct acpi_tables *t)
{
    free(t->data);
    t->data = NULL;
}
