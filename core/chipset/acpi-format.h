/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ACPI table layouts (ACPI 6.5 chapter 5.2). All little-endian, packed. */
#ifndef VIREO_CHIPSET_ACPI_FORMAT_H
#define VIREO_CHIPSET_ACPI_FORMAT_H

#include <stdint.h>

#define ACPI_PACKED __attribute__((packed))

struct acpi_rsdp {
    char signature[8]; /* "RSD PTR " */
    uint8_t checksum;  /* of the first 20 bytes */
    char oem_id[6];
    uint8_t revision; /* 2 */
    uint32_t rsdt;
    uint32_t length;
    uint64_t xsdt;
    uint8_t extended_checksum;
    uint8_t reserved[3];
} ACPI_PACKED;
_Static_assert(sizeof(struct acpi_rsdp) == 36, "RSDP");

struct acpi_header {
    char signature[4];
    uint32_t length;
    uint8_t revision;
    uint8_t checksum; /* all bytes of the table add up to 0 */
    char oem_id[6];
    char oem_table_id[8];
    uint32_t oem_revision;
    char creator_id[4];
    uint32_t creator_revision;
} ACPI_PACKED;
_Static_assert(sizeof(struct acpi_header) == 36, "table header");

struct acpi_gas {  /* generic address */
    uint8_t space; /* 1: I/O ports */
    uint8_t bits, offset, access;
    uint64_t address;
} ACPI_PACKED;

struct acpi_fadt {
    struct acpi_header h;
    uint32_t firmware_ctrl, dsdt;
    uint8_t reserved0, profile;
    uint16_t sci;
    uint32_t smi_cmd;
    uint8_t acpi_enable, acpi_disable, s4bios, pstate;
    uint32_t pm1a_evt, pm1b_evt, pm1a_cnt, pm1b_cnt, pm2_cnt, pm_tmr, gpe0, gpe1;
    uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_len, gpe1_len, gpe1_base, cst;
    uint16_t c2_latency, c3_latency, flush_size, flush_stride;
    uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
    uint16_t boot_arch;
    uint8_t reserved1;
    uint32_t flags;
    struct acpi_gas reset_reg;
    uint8_t reset_value;
    uint16_t arm_boot_arch;
    uint8_t minor;
    uint64_t x_firmware_ctrl, x_dsdt;
    struct acpi_gas x_pm1a_evt, x_pm1b_evt, x_pm1a_cnt, x_pm1b_cnt, x_pm2_cnt, x_pm_tmr, x_gpe0,
        x_gpe1, sleep_control, sleep_status;
    uint64_t hypervisor_vendor;
} ACPI_PACKED;
_Static_assert(sizeof(struct acpi_fadt) == 276, "FADT revision 6");

struct acpi_facs {
    char signature[4];
    uint32_t length, hardware_signature, waking_vector, global_lock, flags;
    uint64_t x_waking_vector;
    uint8_t version, reserved[31];
} ACPI_PACKED;
_Static_assert(sizeof(struct acpi_facs) == 64, "FACS");

struct acpi_madt {
    struct acpi_header h;
    uint32_t local_apic, flags; /* flag 1: a PIC exists */
} ACPI_PACKED;

struct acpi_madt_lapic {
    uint8_t type, length, uid, apic_id;
    uint32_t flags; /* 1: enabled */
} ACPI_PACKED;
struct acpi_madt_ioapic {
    uint8_t type, length, id, reserved;
    uint32_t address, gsi_base;
} ACPI_PACKED;
struct acpi_madt_override {
    uint8_t type, length, bus, irq;
    uint32_t gsi;
    uint16_t flags;
} ACPI_PACKED;
struct acpi_madt_nmi {
    uint8_t type, length, uid;
    uint16_t flags;
    uint8_t lint;
} ACPI_PACKED;

struct acpi_waet {
    struct acpi_header h;
    uint32_t flags;
} ACPI_PACKED;

#endif
