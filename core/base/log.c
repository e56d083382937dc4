/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { LINES_PER_SECOND = 5 };

static log_sink_fn *sink;
static void *sink_ctx;
static _Atomic int least_level = -1;

void log_set_sink(log_sink_fn *fn, void *ctx)
{
    sink = fn;
    sink_ctx = ctx;
}

void log_set_level(enum log_level least)
{
    atomic_store(&least_level, (int)least);
}

static int level_now(void)
{
    int level = atomic_load_explicit(&least_level, memory_order_relaxed);
    if (level < 0) {
        level = getenv("VIREO_DEBUG") ? LOG_DEBUG : LOG_INFO;
        atomic_store(&least_level, level);
    }
    return level;
}

void log_line(enum log_level level, const char *subsystem, const char *fmt, ...)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    if ((int)level > level_now())
        return;
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (sink)
        sink(sink_ctx, level, subsystem, text);
    else
        fprintf(stderr, "vireo: %s: %s: %s\n", names[level], subsystem, text);
}

bool log_allowed(struct log_limit *limit)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    uint64_t second = (uint64_t)now.tv_sec + 1;
    if (atomic_exchange_explicit(&limit->window, second, memory_order_relaxed) != second)
        atomic_store_explicit(&limit->count, 0, memory_order_relaxed);
    return atomic_fetch_add_explicit(&limit->count, 1, memory_order_relaxed) < LINES_PER_SECOND;
}
