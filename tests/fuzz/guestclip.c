/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The clipboard's helper in the guest against a hostile host, and a desktop that copies and pastes
 * between: the input is a script of both. A first byte below 200 says how many bytes come from the
 * host next, others what the desktop does. */
#include <stdlib.h>

/* the helper's own file, with the desktop and the loop left out */
#include "session/guest/clip-copied.c"
#include "session/guest/clip.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t owned[CLIP_SELECTIONS], asked[CLIP_SELECTIONS];

struct watch *watch_add(int fd, short events, void (*fn)(void *ctx, short revents), void *ctx)
{
    static int one;
    return (struct watch *)&one;
}
void watch_events(struct watch *w, short events)
{
}
void watch_remove(struct watch *w)
{
}

void files_message(uint32_t type, const uint8_t *data, size_t len)
{
    clip_tell(VD_AGENT_FILE_XFER_STATUS, data, len < 8 ? len : 8);
}
void files_end(void)
{
}

static bool begin(void)
{
    return true;
}
static void end(void)
{
}
static void own(unsigned selection, uint32_t types)
{
    if (selection >= CLIP_SELECTIONS || types >> CLIP_TYPES)
        abort();
    owned[selection] = types;
}
static void want(unsigned selection, enum clip_type type)
{
    if (selection >= CLIP_SELECTIONS || type >= CLIP_TYPES)
        abort();
    clip_give(selection, type, (const uint8_t *)"given", 5);
}
static void got(unsigned selection, enum clip_type type, const uint8_t *data, size_t len)
{
    if (!(asked[selection] & 1u << type) || len > VDAGENT_MAX_DATA)
        abort(); /* answered, and not asked for */
    asked[selection] &= ~(1u << type);
    if (data && len && data[len - 1] == 0 && data[0] == 255) /* reads what it was given */
        owned[selection] += 0;
}
static bool can_resize(void)
{
    return true;
}
static void resize(unsigned width, unsigned height)
{
    if (!width || !height || width > MAX_SIDE || height > MAX_SIDE)
        abort();
}
static const struct clip_backend desktop = {begin, end, own, want, got, can_resize, resize};

static void desktop_does(uint8_t what, uint8_t with)
{
    unsigned selection = with & 1;
    enum clip_type type = (enum clip_type)((with >> 1) % CLIP_TYPES);
    switch (what % 4) {
    case 0: clip_copied(selection, with >> 1 & ((1u << CLIP_TYPES) - 1)); break;
    case 1:
        asked[selection] |= 1u << type;
        clip_ask(selection, type);
        break;
    case 2: clip_copied(selection, 0); break;
    default: clip_use(with & 2 ? &desktop : NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        abort();
    memset(asked, 0, sizeof asked);
    clip_open(pair[0]);
    clip_use(&desktop);
    for (size_t at = 0; at + 1 < size && clip_is_open();) {
        uint8_t what = data[at++];
        if (what >= 200) {
            desktop_does(what, data[at++]);
            continue;
        }
        size_t n = what < size - at ? what : size - at;
        if (!vdagent_wire_feed(s.wire, data + at, n))
            clip_close();
        at += n;
    }
    clip_close();
    clip_use(NULL);
    close(pair[1]);
    return 0;
}
