/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * vireo-agent-clipboard: runs in a user's session of a Linux guest and shares its clipboard with
 * the host, with what the SPICE agent cannot: HTML, and Wayland. Gets its stream, an
 * AGENT_CLIPBOARD one, from vireo-agent. clip.c speaks with the host; one of the backends,
 * clip-x11.c or clip-wayland.c, with the desktop. One thread, loop.c. Content moves only when
 * somebody pastes; one owner a selection, the host or a program here. What either side says is
 * hostile and bounded.
 */
#ifndef VIREO_GUEST_CLIP_H
#define VIREO_GUEST_CLIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CLIP_SELECTIONS = 2, CLIP_MAX_BYTES = 64 << 20 };

/* ---- types: bits 1 << enum clip_type ---- */

enum clip_type {
    CLIP_TEXT,
    CLIP_HTML,
    CLIP_PNG,
    CLIP_BMP,
    CLIP_TIFF,
    CLIP_JPEG,
    CLIP_FILES,
    CLIP_TYPES
};
/* Names of a type for other programs, best first; ended by NULL. X11 has more for text. */
extern const char *const clip_names[CLIP_TYPES][4];
/* CLIP_TYPES: not known. */
enum clip_type clip_type_of(const char *name);

/* ---- what a desktop does ---- */

struct clip_backend {
    /* NULL where there is no such desktop. It calls clip_lost when that ends. */
    bool (*begin)(void);
    void (*end)(void);
    /* The host has something of these types now; 0: what it had it has no more. */
    void (*own)(unsigned selection, uint32_t types);
    /* The host pastes. Answered by one clip_give, perhaps from within. */
    void (*want)(unsigned selection, enum clip_type type);
    /* Answers clip_ask; data NULL: there is nothing. */
    void (*got)(unsigned selection, enum clip_type type, const uint8_t *data, size_t len);
    /* The screen as large as the host's window, as near as it can be. NULL: not by us. */
    bool (*can_resize)(void);
    void (*resize)(unsigned width, unsigned height);
};
extern const struct clip_backend clip_x11, clip_wayland;

/* ---- clip.c ---- */

/* A program here copied something of these types; 0: nothing is to be had any more. */
void clip_copied(unsigned selection, uint32_t types);
void clip_give(unsigned selection, enum clip_type type, const uint8_t *data, size_t len);
/* A program here pastes what the host has; answered by got, once for all who ask meanwhile. */
void clip_ask(unsigned selection, enum clip_type type);
/* The desktop is gone. */
void clip_lost(void);

/* A message of the SPICE agent's other than the clipboard's. */
void clip_tell(uint32_t type, const void *data, size_t len);

/* ---- clip-files.c: VD_AGENT_FILE_XFER_... ---- */

void files_message(uint32_t type, const uint8_t *data, size_t len);
void files_end(void); /* the host is gone: what is not whole is removed */

/* ---- clip-copied.c ---- */

/* Files by their text/uri-list, as AGENT_CLIPBOARD_FILES has them, for free(). NULL: they cannot be
 * read, are no regular files, or too large. */
uint8_t *copied_pack(const uint8_t *list, size_t len, size_t *out);

/* ---- the stream ---- */

/* The host's stream (taken), and its end. */
void clip_open(int fd);
void clip_close(void);
bool clip_is_open(void);
/* The desktop that content comes from and goes to; NULL: none now. */
void clip_use(const struct clip_backend *b);

#endif
