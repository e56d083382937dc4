/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/storage/aio.h"

#include <stddef.h>

struct aio *aio_new(struct loop *l, bool threads_only, err *e)
{
    struct aio *a = threads_only ? NULL : aio_uring_new(l, NULL);
    return a ? a : aio_pool_new(l, e);
}

void aio_free(struct aio *a)
{
    if (a)
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
