/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static enum err_code code_of_errno(int sys)
{
    switch (sys) {
    case ENOENT:
    case ENODEV:
    case ENXIO: return ERR_NOT_FOUND;
    case EEXIST: return ERR_EXISTS;
    case EBUSY:
    case EAGAIN:
    case ETXTBSY: return ERR_BUSY;
    case EPERM:
    case EACCES: return ERR_DENIED;
    case ENOSPC:
    case EDQUOT: return ERR_NO_SPACE;
    case ENOMEM: return ERR_NO_MEMORY;
    case EROFS: return ERR_READ_ONLY;
    case EINVAL: return ERR_INVALID;
    case EOPNOTSUPP:
    case ENOSYS: return ERR_UNSUPPORTED;
    case ECANCELED:
    case EINTR: return ERR_CANCELLED;
    case ETIMEDOUT: return ERR_TIMEOUT;
    default: return ERR_IO;
    }
}

static const char *(*translation)(const char *fmt);

void err_translate(const char *(*lookup)(const char *fmt))
{
    translation = lookup;
}

__attribute__((format_arg(1))) static const char *look_up(const char *fmt)
{
    return translation ? translation(fmt) : fmt;
}

bool err_set(err *e, enum err_code code, const char *fmt, ...)
{
    if (!e)
        return false;
    va_list ap;
    e->code = code;
    e->sys = 0;
    e->local = look_up(fmt) != fmt;
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, look_up(fmt), ap);
    va_end(ap);
    return false;
}

bool err_errno(err *e, int sys, const char *fmt, ...)
{
    if (!e)
        return false;
    va_list ap;
    e->code = code_of_errno(sys);
    e->sys = sys;
    e->local = look_up(fmt) != fmt;
    va_start(ap, fmt);
    int n = vsnprintf(e->text, sizeof e->text, look_up(fmt), ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof e->text)
        snprintf(e->text + n, sizeof e->text - (size_t)n, ": %s", strerror(sys));
    return false;
}

bool err_prefix(err *e, const char *fmt, ...)
{
    if (!e)
        return false;
    char old[sizeof e->text];
    va_list ap;
    memcpy(old, e->text, sizeof old);
    e->local = e->local && look_up(fmt) != fmt;
    va_start(ap, fmt);
    int n = vsnprintf(e->text, sizeof e->text, look_up(fmt), ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof e->text)
        snprintf(e->text + n, sizeof e->text - (size_t)n, ": %.400s", old);
    return false;
}

int err_to_errno(const err *e)
{
    if (e->sys)
        return e->sys;
    switch (e->code) {
    case ERR_NONE: return 0;
    case ERR_INVALID: return EINVAL;
    case ERR_UNSUPPORTED: return EOPNOTSUPP;
    case ERR_NOT_FOUND: return ENOENT;
    case ERR_EXISTS: return EEXIST;
    case ERR_BUSY:
    case ERR_STATE: return EBUSY;
    case ERR_DENIED: return EACCES;
    case ERR_NO_SPACE: return ENOSPC;
    case ERR_NO_MEMORY: return ENOMEM;
    case ERR_READ_ONLY: return EROFS;
    case ERR_CANCELLED: return ECANCELED;
    case ERR_TIMEOUT: return ETIMEDOUT;
    case ERR_CORRUPT:
    case ERR_IO: return EIO;
    }
    return EIO;
}

const char *err_code_name(enum err_code code)
{
    static const char *const names[] = {
        [ERR_NONE] = "none",           [ERR_INVALID] = "invalid",
        [ERR_CORRUPT] = "corrupt",     [ERR_UNSUPPORTED] = "unsupported",
        [ERR_NOT_FOUND] = "not-found", [ERR_EXISTS] = "exists",
        [ERR_BUSY] = "busy",           [ERR_DENIED] = "denied",
        [ERR_NO_SPACE] = "no-space",   [ERR_NO_MEMORY] = "no-memory",
        [ERR_READ_ONLY] = "read-only", [ERR_IO] = "io",
        [ERR_CANCELLED] = "cancelled", [ERR_TIMEOUT] = "timeout",
        [ERR_STATE] = "state",
    };
    return (unsigned)code < sizeof names / sizeof names[0] ? names[code] : "unknown";
}
