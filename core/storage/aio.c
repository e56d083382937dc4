/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/storage/aio.h"

#include <stddef.h>

static bool before_waiting(void *ctx)
{
    struct aio *a = ctx;
    a->ops->kick(a);
    return a->ops->reap && a->ops->reap(a);
}

struct aio *aio_new(struct loop *l, bool threads_only, err *e)
{
    struct aio *a = threads_only ? NULL : aio_uring_new(l, NULL);
    if (!a)
        a = aio_pool_new(l, e);
    if (!a)
        return NULL;
    a->prepare = (struct loop_prepare){before_waiting, a, NULL};
    loop_prepare_add(l, &a->prepare);
    return a;
}

void aio_free(struct aio *a)
{
    if (!a)
        return;
    loop_prepare_remove(a->loop, &a->prepare);
    a->ops->free(a);
}

void aio_unplug(struct aio *a)
{
    if (--a->plugged == 0)
        a->ops->kick(a);
}

void aio_submit(struct aio *a, struct aio_req *r)
{
    a->ops->submit(a, r);
    if (!a->plugged)
        a->ops->kick(a);
}
