/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Event descriptors bound to SignalEvent connections. */
#include <stdlib.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/hv/partition-int.h"

enum { CONNECTION_BITS = 24 };

static struct hv_binding **bucket(struct hv_partition *p, uint32_t id)
{
    return &p->bindings[(id ^ id >> 8 ^ id >> 16) % ARRAY_LEN(p->bindings)];
}

static struct hv_binding **find(struct hv_partition *p, uint32_t id)
{
    struct hv_binding **at = bucket(p, id);
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

bool hv_partition_bind_event(struct hv_partition *p, uint32_t id, int fd, err *e)
{
    if (id >> CONNECTION_BITS || fd < 0)
        return err_set(e, ERR_INVALID, "connection 0x%x cannot be bound", id);
    struct hv_binding *b = malloc(sizeof *b);
    if (!b)
        return err_set(e, ERR_NO_MEMORY, "no memory for a connection");
    *b = (struct hv_binding){.id = id, .fd = fd};
    pthread_rwlock_wrlock(&p->bind_lock);
    struct hv_binding **at = find(p, id);
    bool ok = !*at || err_set(e, ERR_EXISTS, "connection 0x%x is bound already", id);
    if (ok && hv_has_synic(p))
        ok = p->ops->synic->bind_event(p->backend, id, fd, e);
    if (ok)
        *at = b;
    pthread_rwlock_unlock(&p->bind_lock);
    if (!ok)
        free(b);
    return ok;
}

void hv_partition_unbind_event(struct hv_partition *p, uint32_t id)
{
    pthread_rwlock_wrlock(&p->bind_lock);
    struct hv_binding **at = find(p, id), *b = *at;
    if (b) {
        *at = b->next;
        if (hv_has_synic(p))
            p->ops->synic->bind_event(p->backend, id, -1, NULL);
        free(b);
    }
    pthread_rwlock_unlock(&p->bind_lock);
}

bool hv_bound_signal(struct hv_partition *p, uint32_t id)
{
    pthread_rwlock_rdlock(&p->bind_lock);
    struct hv_binding *b = *find(p, id);
    if (b) {
        const uint64_t one = 1;
        ssize_t n = write(b->fd, &one, sizeof one);
        (void)n; /* EAGAIN: it is signalled already */
    }
    pthread_rwlock_unlock(&p->bind_lock);
    return b != NULL;
}

void hv_bindings_free(struct hv_partition *p)
{
    for (unsigned i = 0; i < ARRAY_LEN(p->bindings); i++)
        while (p->bindings[i]) {
            struct hv_binding *b = p->bindings[i];
            p->bindings[i] = b->next;
            free(b);
        }
}
