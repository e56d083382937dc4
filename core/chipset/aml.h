/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A writer of ACPI machine language: as much of it as the machine's own tables need. Objects that
 * contain others are opened and closed by aml_end; a failed allocation or too deep nesting is
 * remembered and reported by aml_finish.
 * Source: ACPI 6.5 chapter 20 (AML), 6.4 (resource descriptors).
 */
#ifndef VIREO_CHIPSET_AML_H
#define VIREO_CHIPSET_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

enum { AML_DEPTH = 8 };

struct aml {
    uint8_t *data;
    size_t len, cap;
    bool failed;
    unsigned depth;
    struct {
        size_t length_at; /* where the package length stands */
        size_t size_at;   /* a resource template's size; 0: not one */
    } open[AML_DEPTH];
};

void aml_init(struct aml *a);
void aml_free(struct aml *a);
/* False if anything failed; else data and len hold the code, which stays the builder's. */
bool aml_finish(struct aml *a, err *e);

/* Raw bytes and numbers, little-endian. */
void aml_bytes(struct aml *a, const void *p, size_t len);

/* Paths are as in ASL ("\\_SB.VMOD", "_CRS"); short segments are padded. */
void aml_scope(struct aml *a, const char *path);
void aml_device(struct aml *a, const char *name);
void aml_method(struct aml *a, const char *name, unsigned args);
void aml_package(struct aml *a, uint8_t elements);
void aml_resources(struct aml *a); /* Buffer of descriptors; the end tag is written by aml_end */
void aml_end(struct aml *a);

void aml_name(struct aml *a, const char *name); /* Name (name, ...): one value follows */
void aml_int(struct aml *a, uint64_t v);
void aml_string(struct aml *a, const char *s);
void aml_eisa_id(struct aml *a, const char *id); /* "PNP0501" */
void aml_path(struct aml *a, const char *path);  /* a reference */
void aml_return(struct aml *a);                  /* one value follows */
/* Notify (path, value) */
void aml_notify(struct aml *a, const char *path, uint8_t value);
/* path = path op constant */
void aml_and_into(struct aml *a, const char *path, uint8_t v);
void aml_or_into(struct aml *a, const char *path, uint8_t v);

/* Resource descriptors. */
void aml_io(struct aml *a, uint16_t base, uint8_t len);
void aml_irq(struct aml *a, unsigned irq);
void aml_dma(struct aml *a, unsigned channel);
void aml_memory32(struct aml *a, uint32_t base, uint32_t len);
/* What a PCI host bridge produces: bus numbers, ports and 32-bit memory, ends inclusive. */
void aml_bus_numbers(struct aml *a, uint16_t first, uint16_t last);
void aml_port_window(struct aml *a, uint16_t first, uint16_t last);
void aml_memory_window(struct aml *a, uint32_t first, uint32_t last);
/* A window that a bus produces; writable, not cacheable. */
void aml_window(struct aml *a, uint64_t base, uint64_t len);

#endif
