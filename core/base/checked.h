/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Checked arithmetic for numbers that come from guests, images, states and agents: each returns
 * true and stores the result, or returns false on overflow and stores nothing useful.
 */
#ifndef VIREO_BASE_CHECKED_H
#define VIREO_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define checked_add(a, b, out) (!__builtin_add_overflow((a), (b), (out)))
#define checked_sub(a, b, out) (!__builtin_sub_overflow((a), (b), (out)))
#define checked_mul(a, b, out) (!__builtin_mul_overflow((a), (b), (out)))

/* Whether [off, off + len) lies within [0, size); len 0 is within if off <= size. */
static inline bool range_within(uint64_t off, uint64_t len, uint64_t size)
{
    return off <= size && len <= size - off;
}

#endif
