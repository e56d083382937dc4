/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/storage/relief.h"

#include "core/base/bytes.h"

enum { BLOCKS_A_TURN = 1024 };

static void finish(struct relief *r)
{
    if (r->held)
        disk_unhold(r->held);
    r->held = NULL;
    r->done(r->ctx);
}

/* A failure is no harm: what stays in the upper layer is copied again some day. */
static void go_on(struct relief *r, int status)
{
    r->useless |= status != 0;
    loop_post(r->a->loop, &r->again);
}

static void waited(struct waiter *w, int status)
{
    go_on(CONTAINER_OF(w, struct relief, wait), status);
}

static void forget_some(void *ctx)
{
    struct relief *r = ctx;
    for (int n = 0; n < BLOCKS_A_TURN && r->pos < r->end && !r->useless; n++) {
        struct map m = {.len = r->end - r->pos};
        int rc;
        switch (r->a->ops->forget(r->a, r->pos, &m)) {
        case MAP_LOAD:
            rc = meta_wait(&r->a->meta, m.at, &r->wait);
            if (rc)
                go_on(r, rc);
            return;
        case MAP_WAIT: image_wait(r->a, &r->wait); return;
        case MAP_ERROR: r->useless = true; break;
        default: r->pos += m.len;
        }
    }
    if (r->pos < r->end && !r->useless)
        loop_post(r->a->loop, &r->again);
    else
        finish(r);
}

static void flushed(void *ctx, int status)
{
    go_on(ctx, status);
}

static void held(struct hold *h)
{
    struct relief *r = CONTAINER_OF(h, struct relief, hold);
    r->rest.fn = flushed;
    image_rest(r->b, &r->rest);
}

/* Most is durable now, so that the disk needs not be held for long. */
static void flushed_most(void *ctx, int status)
{
    struct relief *r = ctx;
    r->useless |= status != 0;
    r->hold.begin = held;
    disk_hold(r->held, &r->hold);
}

void relief_start(struct relief *r, uint64_t to, struct disk *in_use)
{
    r->end = to == r->a->size ? to : align_down(to, r->a->block_size);
    r->wait.fn = waited;
    loop_post_init(&r->again, forget_some, r);
    if (!r->a->ops->forget || r->end <= r->pos || r->useless) {
        r->end = r->pos;
        loop_post(r->a->loop, &r->again);
        return;
    }
    r->held = in_use;
    r->rest.ctx = r;
    r->rest.fn = in_use ? flushed_most : flushed;
    image_rest(r->b, &r->rest);
}
