/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/aml.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"

enum {
    OP_ZERO = 0x00,
    OP_ONE = 0x01,
    OP_NAME = 0x08,
    OP_BYTE = 0x0a,
    OP_WORD = 0x0b,
    OP_DWORD = 0x0c,
    OP_STRING = 0x0d,
    OP_QWORD = 0x0e,
    OP_SCOPE = 0x10,
    OP_BUFFER = 0x11,
    OP_PACKAGE = 0x12,
    OP_METHOD = 0x14,
    OP_DUAL = 0x2e,
    OP_MULTI = 0x2f,
    OP_EXT = 0x5b,
    OP_EXT_DEVICE = 0x82,
    OP_AND = 0x7b,
    OP_OR = 0x7d,
    OP_NOTIFY = 0x86,
    OP_RETURN = 0xa4,
};
enum { LENGTH_BYTES = 3, LENGTH_MAX = 0xfffff };
enum {
    TAG_IRQ = 0x22,
    TAG_DMA = 0x2a,
    TAG_IO = 0x47,
    TAG_END = 0x79,
    TAG_MEMORY32 = 0x86,
    TAG_DWORD_SPACE = 0x87,
    TAG_WORD_SPACE = 0x88,
    TAG_QWORD = 0x8a
};

void aml_init(struct aml *a)
{
    *a = (struct aml){0};
}

void aml_free(struct aml *a)
{
    free(a->data);
    a->data = NULL;
}

void aml_bytes(struct aml *a, const void *p, size_t len)
{
    if (a->failed)
        return;
    if (a->cap - a->len < len) {
        size_t cap = MAX(a->cap * 2, a->len + len + 1024);
        uint8_t *data = realloc(a->data, cap);
        if (!data) {
            a->failed = true;
            return;
        }
        a->data = data;
        a->cap = cap;
    }
    memcpy(a->data + a->len, p, len);
    a->len += len;
}

static void byte(struct aml *a, unsigned v)
{
    aml_bytes(a, &(uint8_t){(uint8_t)v}, 1);
}
static void word(struct aml *a, uint16_t v)
{
    aml_bytes(a, &v, 2);
}
static void dword(struct aml *a, uint32_t v)
{
    aml_bytes(a, &v, 4);
}
static void qword(struct aml *a, uint64_t v)
{
    aml_bytes(a, &v, 8);
}

/* ---- names ---- */

static void segment(struct aml *a, const char *s, size_t len)
{
    char seg[4] = {'_', '_', '_', '_'};
    memcpy(seg, s, MIN(len, sizeof seg));
    aml_bytes(a, seg, sizeof seg);
}

void aml_path(struct aml *a, const char *path)
{
    if (*path == '\\') {
        byte(a, '\\');
        path++;
    }
    unsigned n = 1;
    for (const char *p = path; *p; p++)
        n += *p == '.';
    if (n == 2)
        byte(a, OP_DUAL);
    if (n > 2) {
        byte(a, OP_MULTI);
        byte(a, n);
    }
    for (;;) {
        size_t len = strcspn(path, ".");
        segment(a, path, len);
        if (!path[len])
            break;
        path += len + 1;
    }
}

/* ---- objects that contain others ---- */

static void open_package(struct aml *a)
{
    if (a->depth == AML_DEPTH) {
        a->failed = true;
        return;
    }
    a->open[a->depth].length_at = a->len;
    a->open[a->depth++].size_at = 0;
    aml_bytes(a, "\0\0\0", LENGTH_BYTES);
}

void aml_scope(struct aml *a, const char *path)
{
    byte(a, OP_SCOPE);
    open_package(a);
    aml_path(a, path);
}

void aml_device(struct aml *a, const char *name)
{
    byte(a, OP_EXT);
    byte(a, OP_EXT_DEVICE);
    open_package(a);
    aml_path(a, name);
}

void aml_method(struct aml *a, const char *name, unsigned args)
{
    byte(a, OP_METHOD);
    open_package(a);
    aml_path(a, name);
    byte(a, args & 7);
}

void aml_package(struct aml *a, uint8_t elements)
{
    byte(a, OP_PACKAGE);
    open_package(a);
    byte(a, elements);
}

void aml_resources(struct aml *a)
{
    byte(a, OP_BUFFER);
    open_package(a);
    if (a->failed)
        return;
    byte(a, OP_WORD);
    a->open[a->depth - 1].size_at = a->len;
    word(a, 0);
}

void aml_end(struct aml *a)
{
    if (a->failed || !a->depth) {
        a->failed = true;
        return;
    }
    size_t at = a->open[a->depth - 1].length_at, size_at = a->open[a->depth - 1].size_at;
    a->depth--;
    if (size_at) {
        byte(a, TAG_END);
        byte(a, 0); /* checksum not given */
        if (!a->failed)
            put_le16(a->data + size_at, (uint16_t)(a->len - size_at - 2));
    }
    size_t len = a->len - at;
    if (a->failed || len > LENGTH_MAX) {
        a->failed = true;
        return;
    }
    a->data[at] = (uint8_t)(0x80 | (len & 15));
    put_le16(a->data + at + 1, (uint16_t)(len >> 4));
}

bool aml_finish(struct aml *a, err *e)
{
    if (a->failed || a->depth)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory for the ACPI tables");
    return true;
}

/* ---- values and statements ---- */

void aml_name(struct aml *a, const char *name)
{
    byte(a, OP_NAME);
    aml_path(a, name);
}

void aml_int(struct aml *a, uint64_t v)
{
    if (v <= 1) {
        byte(a, v ? OP_ONE : OP_ZERO);
    } else if (v <= UINT8_MAX) {
        byte(a, OP_BYTE);
        byte(a, (unsigned)v);
    } else if (v <= UINT16_MAX) {
        byte(a, OP_WORD);
        word(a, (uint16_t)v);
    } else if (v <= UINT32_MAX) {
        byte(a, OP_DWORD);
        dword(a, (uint32_t)v);
    } else {
        byte(a, OP_QWORD);
        qword(a, v);
    }
}

void aml_string(struct aml *a, const char *s)
{
    byte(a, OP_STRING);
    aml_bytes(a, s, strlen(s) + 1);
}

static unsigned hex(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10) & 15;
}

void aml_eisa_id(struct aml *a, const char *id)
{
    uint32_t v = (uint32_t)(id[0] - '@') << 26 | (uint32_t)(id[1] - '@') << 21 |
                 (uint32_t)(id[2] - '@') << 16 | hex(id[3]) << 12 | hex(id[4]) << 8 |
                 hex(id[5]) << 4 | hex(id[6]);
    byte(a, OP_DWORD);
    dword(a, __builtin_bswap32(v));
}

void aml_return(struct aml *a)
{
    byte(a, OP_RETURN);
}

void aml_notify(struct aml *a, const char *path, uint8_t value)
{
    byte(a, OP_NOTIFY);
    aml_path(a, path);
    aml_int(a, value);
}

static void combine(struct aml *a, unsigned op, const char *path, uint8_t v)
{
    byte(a, op);
    aml_path(a, path);
    aml_int(a, v);
    aml_path(a, path);
}

void aml_and_into(struct aml *a, const char *path, uint8_t v)
{
    combine(a, OP_AND, path, v);
}

void aml_or_into(struct aml *a, const char *path, uint8_t v)
{
    combine(a, OP_OR, path, v);
}

/* ---- resource descriptors ---- */

void aml_io(struct aml *a, uint16_t base, uint8_t len)
{
    byte(a, TAG_IO);
    byte(a, 1); /* decodes 16 bits */
    word(a, base);
    word(a, base);
    byte(a, 1);
    byte(a, len);
}

void aml_irq(struct aml *a, unsigned irq)
{
    byte(a, TAG_IRQ);
    word(a, (uint16_t)(1u << irq));
}

/* Compatibility timing, 8-bit transfers. */
void aml_dma(struct aml *a, unsigned channel)
{
    byte(a, TAG_DMA);
    byte(a, (uint8_t)(1u << channel));
    byte(a, 0);
}

void aml_memory32(struct aml *a, uint32_t base, uint32_t len)
{
    byte(a, TAG_MEMORY32);
    word(a, 9);
    byte(a, 0); /* read only */
    dword(a, base);
    dword(a, len);
}

static void word_space(struct aml *a, unsigned kind, unsigned flags, uint16_t first, uint16_t last)
{
    byte(a, TAG_WORD_SPACE);
    word(a, 0x0d);
    byte(a, kind);
    byte(a, 0x0c); /* produced, both ends fixed */
    byte(a, flags);
    word(a, 0);
    word(a, first);
    word(a, last);
    word(a, 0);
    word(a, (uint16_t)(last - first + 1));
}

void aml_bus_numbers(struct aml *a, uint16_t first, uint16_t last)
{
    word_space(a, 2, 0, first, last);
}

void aml_port_window(struct aml *a, uint16_t first, uint16_t last)
{
    word_space(a, 1, 3, first, last); /* ISA and other ports */
}

void aml_memory_window(struct aml *a, uint32_t first, uint32_t last)
{
    byte(a, TAG_DWORD_SPACE);
    word(a, 0x17);
    byte(a, 0);
    byte(a, 0x0c);
    byte(a, 0x01); /* read and write, not cacheable */
    dword(a, 0);
    dword(a, first);
    dword(a, last);
    dword(a, 0);
    dword(a, last - first + 1);
}

void aml_window(struct aml *a, uint64_t base, uint64_t len)
{
    byte(a, TAG_QWORD);
    word(a, 0x2b);
    byte(a, 0);    /* memory */
    byte(a, 0x0c); /* produced, both ends fixed */
    byte(a, 0x01); /* read and write */
    qword(a, 0);
    qword(a, base);
    qword(a, base + len - 1);
    qword(a, 0);
    qword(a, len);
}
