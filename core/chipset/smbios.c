/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/smbios.h"

#include <stdio.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/chipset/layout.h"

enum { ENTRY = 24, TABLE_AT = 32, MAJOR = 3, MINOR = 1 };
enum { HANDLE_CHASSIS = 3, HANDLE_ARRAY = 16 };

/* A structure is a fixed part, then its strings, then an empty one. Strings are named by number. */
struct table {
    uint8_t *out;
    size_t size, len;
    size_t start; /* of the structure being written */
    uint8_t strings;
    char text[256];
    size_t text_len;
    bool failed;
};

static void put(struct table *t, const void *p, size_t n)
{
    if (t->failed || t->size - t->len < n) {
        t->failed = true;
        return;
    }
    memcpy(t->out + t->len, p, n);
    t->len += n;
}
static void put8(struct table *t, unsigned v)
{
    put(t, &(uint8_t){(uint8_t)v}, 1);
}
static void put16(struct table *t, unsigned v)
{
    put(t, &(uint16_t){(uint16_t)v}, 2);
}
static void put32(struct table *t, uint32_t v)
{
    put(t, &v, 4);
}
static void put64(struct table *t, uint64_t v)
{
    put(t, &v, 8);
}

static void string(struct table *t, const char *s)
{
    size_t n = strlen(s) + 1;
    if (t->text_len + n > sizeof t->text) {
        t->failed = true;
        return;
    }
    memcpy(t->text + t->text_len, s, n);
    t->text_len += n;
    put8(t, ++t->strings);
}

static void begin(struct table *t, unsigned type, unsigned handle)
{
    t->start = t->len;
    t->strings = 0;
    t->text_len = 0;
    put8(t, type);
    put8(t, 0); /* length, by end */
    put16(t, handle);
}

static void end(struct table *t)
{
    if (t->failed)
        return;
    t->out[t->start + 1] = (uint8_t)(t->len - t->start);
    put(t, t->text, t->text_len);
    put8(t, 0);
    if (!t->strings)
        put8(t, 0);
}

static void firmware(struct table *t, const struct smbios_params *p)
{
    begin(t, 0, 0);
    string(t, "Microsoft Corporation");
    string(t, p->version);
    put16(t, 0xe000); /* segment */
    string(t, "01/01/2024");
    put8(t, 0);        /* 64 KiB */
    put64(t, 1u << 3); /* characteristics not given */
    put8(t, 1);        /* ACPI */
    put8(t, 0x14);     /* virtual machine, targeted content */
    put8(t, 4);
    put8(t, 1);
    put8(t, 0xff);
    put8(t, 0xff);
    put16(t, 0);
    end(t);
}

static void system_table(struct table *t, const struct smbios_params *p)
{
    char serial[GUID_STR_LEN + 1];
    guid_format(&p->uuid, serial);
    begin(t, 1, 1);
    string(t, "Microsoft Corporation");
    string(t, "Virtual Machine");
    string(t, "Hyper-V UEFI Release v4.1");
    string(t, serial);
    put(t, p->uuid.b, sizeof p->uuid.b);
    put8(t, 6); /* woken by the power switch */
    string(t, "None");
    string(t, "Virtual Machine");
    end(t);
}

static void board(struct table *t)
{
    begin(t, 2, 2);
    string(t, "Microsoft Corporation");
    string(t, "Virtual Machine");
    string(t, "Hyper-V UEFI Release v4.1");
    string(t, "None");
    string(t, "None");
    put8(t, 9); /* hosting, replaceable */
    string(t, "Virtual Machine");
    put16(t, HANDLE_CHASSIS);
    put8(t, 10); /* motherboard */
    put8(t, 0);
    end(t);
}

static void chassis(struct table *t)
{
    begin(t, 3, HANDLE_CHASSIS);
    string(t, "Microsoft Corporation");
    put8(t, 3); /* desktop */
    string(t, "Hyper-V UEFI Release v4.1");
    string(t, "None");
    string(t, "7783-7084-3265-9085-8269-3286-77"); /* by which guests and tools know Hyper-V */
    for (int i = 0; i < 4; i++)
        put8(t, 2); /* states and security: unknown */
    put32(t, 0);
    put8(t, 0);
    put8(t, 0);
    put8(t, 0);
    put8(t, 0);
    string(t, "Virtual Machine");
    end(t);
}

static void processor(struct table *t, unsigned n)
{
    char socket[24];
    snprintf(socket, sizeof socket, "CPU %u", n);
    begin(t, 4, 0x400 + n);
    string(t, socket);
    put8(t, 3); /* central processor */
    put8(t, 2); /* family unknown */
    string(t, "Virtual");
    put64(t, 0);
    string(t, "None");
    put8(t, 0);
    put16(t, 0);
    put16(t, 0);
    put16(t, 0);
    put8(t, 0x41); /* populated, enabled */
    put8(t, 6);    /* no socket */
    for (int i = 0; i < 3; i++)
        put16(t, 0xffff); /* caches are not described */
    string(t, "None");
    string(t, "None");
    string(t, "None");
    put8(t, 1);
    put8(t, 1);
    put8(t, 1);
    put16(t, 0x04); /* 64 bits */
    put16(t, 2);
    put16(t, 1);
    put16(t, 1);
    put16(t, 1);
    end(t);
}

static void memory(struct table *t, uint64_t bytes)
{
    uint64_t mib = bytes >> 20;
    begin(t, 16, HANDLE_ARRAY);
    put8(t, 1); /* other location */
    put8(t, 3); /* system memory */
    put8(t, 2); /* error correction unknown */
    put32(t, 0x80000000);
    put16(t, 0xfffe);
    put16(t, 1);
    put64(t, bytes);
    end(t);
    begin(t, 17, 0x1100);
    put16(t, HANDLE_ARRAY);
    put16(t, 0xfffe);
    put16(t, 64);
    put16(t, 64);
    put16(t, mib < 0x7fff ? (unsigned)mib : 0x7fff);
    put8(t, 2);
    put8(t, 0);
    string(t, "M0001");
    string(t, "None");
    put8(t, 2);
    put16(t, 4);
    put16(t, 0);
    string(t, "Microsoft Corporation");
    string(t, "None");
    string(t, "None");
    string(t, "None");
    put8(t, 0);
    put32(t, mib < 0x7fff ? 0 : (uint32_t)mib);
    end(t);
    begin(t, 19, 0x1300);
    put32(t, 0xffffffff);
    put32(t, 0xffffffff);
    put16(t, HANDLE_ARRAY);
    put8(t, 1);
    put64(t, 0);
    put64(t, bytes - 1);
    end(t);
}

static void boot_status(struct table *t)
{
    begin(t, 32, 0x2000);
    put(t, "\0\0\0\0\0\0\0", 7);
    end(t);
    begin(t, 127, 0x7f00);
    end(t);
}

static void entry_point(uint8_t *out, size_t table_len)
{
    memset(out, 0, TABLE_AT);
    memcpy(out, "_SM3_", 5);
    out[6] = ENTRY;
    out[7] = MAJOR;
    out[8] = MINOR;
    out[10] = 1;
    put_le32(out + 12, (uint32_t)table_len);
    put_le64(out + 16, LAYOUT_SMBIOS_BASE + TABLE_AT);
    uint8_t sum = 0;
    for (unsigned i = 0; i < ENTRY; i++)
        sum = (uint8_t)(sum + out[i]);
    out[5] = (uint8_t)-sum;
}

size_t smbios_build(const struct smbios_params *p, uint8_t *out, size_t size)
{
    struct table t = {.out = out, .size = size, .len = TABLE_AT, .failed = size < TABLE_AT};
    firmware(&t, p);
    system_table(&t, p);
    board(&t);
    chassis(&t);
    for (unsigned i = 0; i < p->vps; i++)
        processor(&t, i);
    memory(&t, p->ram_bytes);
    boot_status(&t);
    if (t.failed)
        return 0;
    entry_point(out, t.len - TABLE_AT);
    return t.len;
}
