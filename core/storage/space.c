/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Space in the file: taken at its end, or where a TRIM of this session has left some. */
#include <errno.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/storage/space.h"

/* Freed ranges remembered at most; beyond, they are left to compact. */
enum { MAX_REMEMBERED = 65536 };

static const uint64_t MAX_AHEAD = 512ull << 20, GROWTH_UNIT = 1 << 20;

static bool take_free(struct space *s, uint64_t len, uint64_t *off)
{
    for (uint32_t i = 0; i < s->nfrees; i++) {
        struct space_range *f = &s->frees[i];
        if (f->stage != FREE_READY || f->len < len)
            continue;
        *off = f->off;
        f->off += len;
        f->len -= len;
        if (!f->len)
            *f = s->frees[--s->nfrees];
        s->reused = true;
        return true;
    }
    return false;
}

/* How much more than asked for the file is grown by, where it may be: holes cost nothing. */
static uint64_t growth_ahead(const struct space *s, uint64_t end)
{
    return s->ahead ? align_down(MIN(end / 4, MAX_AHEAD), GROWTH_UNIT) : 0;
}

static int grow_to(struct space *s, uint64_t end)
{
    uint64_t size = end + growth_ahead(s, end);
    int rc = sfile_set_size(s->img->file, size);
    if (rc && size > end) {
        size = end;
        rc = sfile_set_size(s->img->file, size);
    }
    if (rc == 0)
        s->file_size = size;
    return rc;
}

int space_alloc(struct space *s, uint64_t len, uint64_t *off)
{
    if (s->nfrees)
        space_recycle(s);
    if (take_free(s, len, off))
        return 0;
    uint64_t end;
    if (!checked_add(s->end, len, &end) || end > (uint64_t)INT64_MAX - s->tail)
        return EFBIG;
    if (end + s->tail > s->file_size) {
        int rc = grow_to(s, end + s->tail);
        if (rc)
            return rc;
    }
    *off = s->end;
    s->end = end;
    return 0;
}

static bool room_for_one(struct space *s)
{
    if (s->nfrees < s->cap_frees)
        return true;
    uint32_t cap = s->cap_frees ? s->cap_frees * 2 : 64;
    struct space_range *p = cap <= MAX_REMEMBERED ? realloc(s->frees, cap * sizeof *p) : NULL;
    if (!p)
        return false;
    s->frees = p;
    s->cap_frees = cap;
    return true;
}

void space_free(struct space *s, uint64_t off, uint64_t len)
{
    struct space_range *last = s->nfrees ? &s->frees[s->nfrees - 1] : NULL;
    if (last && last->stage == FREE_NEW && last->off + last->len == off &&
        last->epoch == s->img->epoch) {
        last->len += len;
        return;
    }
    if (!room_for_one(s))
        return;
    s->frees[s->nfrees++] =
        (struct space_range){.off = off, .len = len, .epoch = s->img->epoch, .stage = FREE_NEW};
    s->nnew++;
}

void space_commit(struct space *s)
{
    for (uint32_t i = 0; i < s->nfrees; i++)
        if (s->frees[i].stage == FREE_NEW)
            s->frees[i].stage = FREE_COMMITTING;
    s->nnew = 0;
}

void space_durable(struct space *s, bool ok)
{
    for (uint32_t i = 0; i < s->nfrees; i++)
        if (s->frees[i].stage == FREE_COMMITTING) {
            s->frees[i].stage = ok ? FREE_DURABLE : FREE_NEW;
            s->nnew += !ok;
        }
}

static void punched(struct sfile_req *r, int status)
{
    struct space *s = CONTAINER_OF(r, struct space, punch);
    s->punching = 0;
    s->img->unflushed = true;
    for (uint32_t i = 0; i < s->nfrees; i++)
        if (s->frees[i].stage == FREE_PUNCHING) {
            if (status) /* cannot be made to read as zeroes: left to compact */
                s->frees[i] = s->frees[--s->nfrees];
            else
                s->frees[i].stage = FREE_READY;
            break;
        }
    space_recycle(s);
}

/* Starts to make the next range ready whose time has come. */
void space_recycle(struct space *s)
{
    if (s->punching)
        return;
    for (uint32_t i = 0; i < s->nfrees; i++) {
        struct space_range *f = &s->frees[i];
        if (f->stage != FREE_DURABLE || !image_epoch_passed(s->img, f->epoch))
            continue;
        f->stage = FREE_PUNCHING;
        s->punching = 1;
        s->punch = (struct sfile_req){
            .op = SFILE_PUNCH, .offset = f->off, .length = f->len, .done = punched};
        sfile_submit(s->img->file, &s->punch);
        return;
    }
}

void space_fini(struct space *s)
{
    free(s->frees);
}
