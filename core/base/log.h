/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Lines for people and engineers. A line has a level, the subsystem that speaks ("storvsp") and a
 * text. The process installs one sink (the worker: the VM's event log; tools: standard error).
 * LOG_GUEST is for what a guest, an image or a client did wrong: it is rate-limited per call site,
 * so that a hostile guest fills no disk.
 * Thread: log_line from any; log_set_sink before threads start. The sink must not block for long.
 */
#ifndef VIREO_BASE_LOG_H
#define VIREO_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

typedef void log_sink_fn(void *ctx, enum log_level level, const char *subsystem, const char *text);

struct log_limit {
    _Atomic uint64_t window; /* second in which `count` lines were written */
    _Atomic uint32_t count;
};

void log_set_sink(log_sink_fn *fn, void *ctx); /* NULL: standard error */
void log_set_level(enum log_level least);      /* default LOG_INFO; VIREO_DEBUG=1 sets LOG_DEBUG */
void log_line(enum log_level level, const char *subsystem, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* True at most 5 times a second for one limit; the rest is dropped. */
bool log_allowed(struct log_limit *limit);

#define LOG_GUEST(subsystem, ...)                          \
    do {                                                   \
        static struct log_limit limit_;                    \
        if (log_allowed(&limit_))                          \
            log_line(LOG_WARNING, subsystem, __VA_ARGS__); \
    } while (0)

#endif
