/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Errors of core/: a function that can fail returns bool (or a pointer, or a descriptor) and takes
 * an `err *` last. The struct lives on the caller's stack, owns nothing and needs no clean-up.
 * Passing NULL is allowed: the reason is then dropped. Texts are for people: they say what failed,
 * on which object and why, and name no function. They are English unless err_translate was given.
 * Thread: any; one err belongs to one thread.
 */
#ifndef VIREO_BASE_ERR_H
#define VIREO_BASE_ERR_H

#include <stdbool.h>
#include <stdint.h>

enum err_code {
    ERR_NONE = 0,
    ERR_INVALID,     /* an argument or a configuration is wrong */
    ERR_CORRUPT,     /* bytes from a file, a state or a guest break their format */
    ERR_UNSUPPORTED, /* well formed, but asks for what Vireo or this host cannot do */
    ERR_NOT_FOUND,
    ERR_EXISTS,
    ERR_BUSY,      /* held by another process or operation */
    ERR_DENIED,    /* permission or policy */
    ERR_NO_SPACE,  /* file system full or quota */
    ERR_NO_MEMORY, /* allocation refused */
    ERR_READ_ONLY,
    ERR_IO, /* the host's I/O failed */
    ERR_CANCELLED,
    ERR_TIMEOUT,
    ERR_STATE, /* not possible in the object's present state */
};

typedef struct err {
    enum err_code code;
    int sys; /* the errno behind it, or 0 */
    char text[496];
    bool local; /* all of the text is in the person's language */
} err;

#define ERR_INIT         \
    {                    \
        .code = ERR_NONE \
    }

/*
 * From now on every format below is looked up by `lookup`, which returns the same format in the
 * person's language, or its argument. Once, before there are threads.
 */
void err_translate(const char *(*lookup)(const char *fmt));

/* Sets code and text; always returns false, so that callers can `return err_set(...)`. */
bool err_set(err *e, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Sets the code that fits `sys` (an errno) and appends its text: "<fmt>: No such file". */
bool err_errno(err *e, int sys, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "<fmt>: " before the text that is there; keeps the code. Always returns false. */
bool err_prefix(err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The errno that stands for a code, for request completions (never 0 but for ERR_NONE). */
int err_to_errno(const err *e);

/* The short permanent name of a code ("not-found"), for logs and JSON. */
const char *err_code_name(enum err_code code);

#endif
