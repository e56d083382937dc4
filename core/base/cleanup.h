/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * AUTO(type): a variable whose clean-up runs when it leaves its scope. A type joins by
 * AUTO_DEFINE(type, T, fn), where fn takes the value (not a pointer to it).
 *     AUTO(buf) p = malloc(n);      AUTO(fd) f = open(...);
 * TAKE(p) hands the value on and leaves NULL behind; TAKE_FD does the same with -1.
 */
#ifndef VIREO_BASE_CLEANUP_H
#define VIREO_BASE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

#define AUTO(name) __attribute__((cleanup(auto_free_##name))) auto_type_##name
#define AUTO_DEFINE(name, type, fn)              \
    typedef type auto_type_##name;               \
    static inline void auto_free_##name(type *p) \
    {                                            \
        fn(*p);                                  \
    }

static inline void auto_close(int fd)
{
    if (fd >= 0)
        close(fd);
}

AUTO_DEFINE(buf, void *, free)
AUTO_DEFINE(str, char *, free)
AUTO_DEFINE(fd, int, auto_close)

#define TAKE(p)                    \
    __extension__({                \
        __typeof__(p) take_ = (p); \
        (p) = NULL;                \
        take_;                     \
    })
#define TAKE_FD(f)       \
    __extension__({      \
        int take_ = (f); \
        (f) = -1;        \
        take_;           \
    })

#endif
