/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is said to the guest's agents: the clipboard, and the screen's size. */
#include <string.h>

#include "session/agent-proto.h"
#include "session/clipboard/clipboard-int.h"

enum { SIZE_MS = 150 /* a window that is being resized settles */ };

gboolean vireo_peer_can(const struct peer *p, guint cap)
{
    return p->stream && p->announced && (p->caps & 1u << cap);
}

static void put(void *ctx, const void *bytes, size_t len)
{
    vireo_stream_write(ctx, bytes, len);
}

void vireo_peer_send(struct peer *p, guint32 type, gconstpointer head, gsize nhead,
                     gconstpointer data, gsize len)
{
    if (p->stream)
        vdagent_wire_pack(type, head, nhead, data, len, put, p->stream);
}

/* Who has the guest's clipboard. */
struct peer *vireo_clipboard_active(struct vireo_clipboard *c)
{
    struct peer *own = &c->peers[VIREO_AGENT_OWN];
    return own->announced ? own : &c->peers[VIREO_AGENT_SPICE];
}

/* An agent that is told no clipboard's capability keeps its own to itself. A request makes it begin
 * anew. */
void vireo_peer_send_caps(struct peer *p, gboolean request, gboolean clipboard)
{
    guint32 caps = 1u << VD_AGENT_CAP_MONITORS_CONFIG | 1u << VD_AGENT_CAP_REPLY |
                   1u << VD_AGENT_CAP_SPARSE_MONITORS_CONFIG |
                   1u << VD_AGENT_CAP_FILE_XFER_DETAILED_ERRORS;
    if (clipboard)
        caps |= 1u << VD_AGENT_CAP_CLIPBOARD_BY_DEMAND | 1u << VD_AGENT_CAP_CLIPBOARD_SELECTION |
                1u << VD_AGENT_CAP_MAX_CLIPBOARD |
                1u << VD_AGENT_CAP_CLIPBOARD_NO_RELEASE_ON_REGRAB |
                1u << VD_AGENT_CAP_CLIPBOARD_GRAB_SERIAL;
    guint32 message[2] = {GUINT32_TO_LE(request ? 1u : 0u), GUINT32_TO_LE(caps)};
    vireo_peer_send(p, VD_AGENT_ANNOUNCE_CAPABILITIES, message, sizeof message, NULL, 0);
}

gboolean vireo_peer_selections(const struct peer *p)
{
    return vireo_peer_can(p, VD_AGENT_CAP_CLIPBOARD_SELECTION);
}

/* Selection, if the agent knows them, and then `n` words. */
static gsize put_head(const struct peer *p, guint8 *out, guint selection, const guint32 *words,
                      guint n)
{
    gsize len = 0;
    if (vireo_peer_selections(p)) {
        memset(out, 0, 4);
        out[0] = (guint8)selection;
        len = 4;
    }
    for (guint i = 0; i < n; i++, len += 4) {
        guint32 v = GUINT32_TO_LE(words[i]);
        memcpy(out + len, &v, 4);
    }
    return len;
}

void vireo_clipboard_tell_guest(struct vireo_clipboard *c, guint32 type, guint selection,
                                const guint32 *words, guint n)
{
    guint8 message[4 + 4 * 40];
    struct peer *p = vireo_clipboard_active(c);
    if (!vireo_peer_can(p, VD_AGENT_CAP_CLIPBOARD_BY_DEMAND) ||
        (selection && !vireo_peer_selections(p)))
        return;
    gsize len = put_head(p, message, selection, words, MIN(n, 40u));
    vireo_peer_send(p, type, message, len, NULL, 0);
}

/* The guest hears that a viewer owns the selection. */
void vireo_clipboard_grab_guest(struct vireo_clipboard *c, guint selection)
{
    struct selection *s = &c->selections[selection];
    guint32 words[32], n = 0;
    struct peer *p = vireo_clipboard_active(c);
    gboolean serials = vireo_peer_can(p, VD_AGENT_CAP_CLIPBOARD_GRAB_SERIAL);
    if (serials)
        words[n++] = s->serial;
    guint first = n;
    for (guint i = 0; s->mimes[i] && n < G_N_ELEMENTS(words); i++) {
        guint32 type = vireo_type_of(s->mimes[i]);
        gboolean known = type == VD_AGENT_CLIPBOARD_NONE ||
                         (p == &c->peers[VIREO_AGENT_SPICE] && !vireo_type_is_spice(type));
        for (guint k = first; k < n; k++)
            known |= words[k] == type;
        if (!known)
            words[n++] = type;
    }
    if (n == first || !p->announced)
        return;
    s->serial++;
    vireo_clipboard_tell_guest(c, VD_AGENT_CLIPBOARD_GRAB, selection, words, n);
}

void vireo_clipboard_answer_guest(struct vireo_clipboard *c, guint selection, guint32 type,
                                  const void *data, gsize len)
{
    guint8 head[8];
    struct peer *p = vireo_clipboard_active(c);
    if (!vireo_peer_can(p, VD_AGENT_CAP_CLIPBOARD_BY_DEMAND))
        return;
    gsize n = put_head(p, head, selection, &type, 1);
    vireo_peer_send(p, VD_AGENT_CLIPBOARD, head, n, data, len);
}

/* ---- the screen ---- */

/* Who makes the guest's screen larger and smaller; NULL: nobody. */
static struct peer *sizes(struct vireo_clipboard *c)
{
    for (guint i = VIREO_AGENTS; i-- > 0;)
        if (vireo_peer_can(&c->peers[i], VD_AGENT_CAP_MONITORS_CONFIG))
            return &c->peers[i];
    return NULL;
}

gboolean vireo_clipboard_takes_size(struct vireo_clipboard *c)
{
    return sizes(c) != NULL;
}

/* Without the size in millimetres: vdagentd 0.22 takes a message of one length only. */
void vireo_clipboard_send_size(struct vireo_clipboard *c)
{
    struct {
        VDAgentMonitorsConfig head;
        VDAgentMonConfig monitor;
    } __attribute__((packed)) m = {0};
    struct peer *p = sizes(c);
    if (!c->width || !c->height || !p)
        return;
    m.head.num_of_monitors = GUINT32_TO_LE(1u);
    m.monitor.width = GUINT32_TO_LE(c->width);
    m.monitor.height = GUINT32_TO_LE(c->height);
    m.monitor.depth = GUINT32_TO_LE(32u);
    vireo_peer_send(p, VD_AGENT_MONITORS_CONFIG, &m, sizeof m, NULL, 0);
}

static gboolean on_size_time(gpointer data)
{
    struct vireo_clipboard *c = data;
    c->size_id = 0;
    vireo_clipboard_send_size(c);
    return G_SOURCE_REMOVE;
}

void vireo_clipboard_set_size(struct vireo_clipboard *c, guint width, guint height)
{
    c->width = width;
    c->height = height;
    g_clear_handle_id(&c->size_id, g_source_remove);
    c->size_id = g_timeout_add(SIZE_MS, on_size_time, c);
}
