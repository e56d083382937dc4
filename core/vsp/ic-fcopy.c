/* SPDX-License-Identifier: GPL-3.0-or-later */
/* File copy into the guest: START, WRITE after WRITE, COMPLETE (or CANCEL), each answered. */
#include <errno.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/vsp/integration-internal.h"
#include "core/vsp/utf16.h"

static void end(struct integration *i, uint32_t status)
{
    if (!i->copying)
        return;
    i->copying = false;
    i->copy.done(i->copy.ctx, status);
}

static bool send_head(struct integration *i, uint32_t op)
{
    struct fcopy_head h = {.op = op};
    i->copy_op = (uint8_t)op;
    return ic_request(&i->fcopy, &h, sizeof h, FCOPY_TIMEOUT_S);
}

static void cancel(struct integration *i, uint32_t status)
{
    i->copy_status = status;
    if (!send_head(i, FCOPY_CANCEL))
        end(i, status);
}

/* The file may have become shorter: that ends the copy. */
static bool fill(struct integration *i, struct fcopy_write *w)
{
    uint64_t left = i->copy.size - i->copy_offset;
    size_t want = (size_t)MIN(left, (uint64_t)FCOPY_DATA), have = 0;
    while (have < want) {
        ssize_t n = pread(i->copy.fd, w->data + have, want - have, (off_t)(i->copy_offset + have));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        have += (size_t)n;
    }
    w->offset = i->copy_offset;
    w->size = (uint32_t)want;
    return true;
}

static void step(struct integration *i)
{
    struct fcopy_write w = {.h.op = FCOPY_WRITE};
    if (i->copy_cancelled) {
        cancel(i, IC_STATUS_FAIL);
    } else if (i->copy_offset == i->copy.size) {
        if (!send_head(i, FCOPY_COMPLETE))
            end(i, IC_STATUS_FAIL);
    } else if (!fill(i, &w)) {
        log_line(LOG_WARNING, "fcopy", "the file that is being copied cannot be read");
        cancel(i, IC_STATUS_FAIL);
    } else {
        i->copy_op = FCOPY_WRITE;
        i->copy_offset += w.size;
        if (!ic_request(&i->fcopy, &w, sizeof w, FCOPY_TIMEOUT_S))
            end(i, IC_STATUS_FAIL);
    }
}

static void on_answer(void *ctx, uint32_t status, const void *body, size_t len)
{
    struct integration *i = ctx;
    if (!i->copying)
        return;
    if (status == IC_STATUS_GONE || status == IC_STATUS_TIMEOUT)
        end(i, status);
    else if (i->copy_op == FCOPY_CANCEL)
        end(i, i->copy_status);
    else if (i->copy_op == FCOPY_COMPLETE || (status && i->copy_op == FCOPY_START))
        end(i, status);
    else if (status)
        cancel(i, status);
    else {
        if (i->copy.progress && i->copy_op == FCOPY_WRITE)
            i->copy.progress(i->copy.ctx, i->copy_offset);
        step(i);
    }
}

/* Linux's daemon makes only those folders of a path that a '/' follows. */
static bool set_folder(const char *folder, struct fcopy_start *m)
{
    char path[sizeof m->path / 2];
    size_t len = strlen(folder);
    if (folder[0] != '/' || len + 2 > sizeof path)
        return false;
    memcpy(path, folder, len);
    path[len] = folder[len - 1] == '/' ? 0 : '/';
    path[len + 1] = 0;
    return utf16_encode(path, m->path, sizeof m->path);
}

bool integration_copy_file(struct integration *i, const struct integration_copy *c, err *e)
{
    struct fcopy_start m = {.h.op = FCOPY_START, .size = c->size};
    if (!(i->p.services & INTEGRATION_FCOPY) || i->fcopy.phase != IC_READY)
        return err_set(e, ERR_STATE, "The guest's file copy daemon is not there");
    if (i->copying || !ic_is_free(&i->fcopy))
        return err_set(e, ERR_BUSY, "Another file is being copied into the guest");
    if (!*c->name || strchr(c->name, '/') || !utf16_encode(c->name, m.name, sizeof m.name))
        return err_set(e, ERR_INVALID, "\"%.60s\" is no file name that a guest takes", c->name);
    if (!set_folder(c->folder, &m))
        return err_set(e, ERR_INVALID, "\"%.60s\" is no folder that a guest takes", c->folder);
    m.flags = (c->overwrite ? FCOPY_OVERWRITE : 0) | (c->create_path ? FCOPY_CREATE_PATH : 0);
    i->copy = *c;
    i->copy.name = i->copy.folder = NULL;
    i->copy_offset = 0;
    i->copy_cancelled = false;
    i->copy_op = FCOPY_START;
    if (!ic_request(&i->fcopy, &m, sizeof m, FCOPY_TIMEOUT_S))
        return err_set(e, ERR_BUSY, "The guest takes no file at the moment");
    i->copying = true;
    return true;
}

void integration_copy_cancel(struct integration *i)
{
    i->copy_cancelled = true;
}

static bool init(struct integration *i, err *e)
{
    static const struct ic_version versions[] = {{1, 0}, {1, 1}};
    static const struct ic_ops ops = {.answer = on_answer};
    return ic_init(
        &i->fcopy,
        &(struct ic_params){.bus = i->p.bus,
                            .name = "fcopy",
                            .class_id = GUID(0x34d14be3, 0xdee4, 0x41c8, 0x9ae7, 0x6b174977c192),
                            .instance = GUID(0xeb765408, 0x105f, 0x49b6, 0xb4aa, 0xc123b64d17d4),
                            .type = IC_FCOPY,
                            .versions = versions,
                            .nversions = ARRAY_LEN(versions),
                            .max_packet = 8192,
                            .ops = &ops,
                            .ctx = i},
        e);
}

static void finish(struct integration *i)
{
    ic_finish(&i->fcopy);
    end(i, IC_STATUS_GONE);
}

static void start(struct integration *i)
{
    ic_start(&i->fcopy);
}

static void stop(struct integration *i)
{
    ic_stop(&i->fcopy);
}

static void restored(struct integration *i)
{
    ic_restored(&i->fcopy);
}

const struct integration_service integration_fcopy_service = {
    INTEGRATION_FCOPY, init, finish, start, stop, restored};
