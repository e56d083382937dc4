/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/vsp/video.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/vsp/resolutions.h"

enum {
    SHAPE_BYTES = CONSOLE_MAX_POINTER * CONSOLE_MAX_POINTER * 4,
    ONE_MIB = 1 << 20,
    DEFAULT_WIDTH = 1024,
    DEFAULT_HEIGHT = 768,
    BODY = sizeof(struct pipe_header) + sizeof(struct pipe_message),
};

/* A memfd with a mapping of our own, and where the guest has it. */
struct buffer {
    int fd;
    uint8_t *host;
    uint64_t size;
    uint64_t gpa;
    struct hv_region *region; /* NULL: not mapped for the guest */
};

enum due {
    DUE_VERSION = 1,
    DUE_RESOLUTIONS = 2,
    DUE_VRAM = 4,
    DUE_SITUATION = 8,
    DUE_FEATURES = 16
};

struct video {
    struct vmbus_device *device;
    struct hv_memory *memory;
    struct console *console;
    struct vmbus_channel *channel;
    struct buffer vram, boot;
    uint32_t width, height; /* preferred */
    uint32_t boot_width, boot_height;
    bool looked_at;
    void (*taken)(void *ctx, bool taken);
    void *ctx;

    /* what the guest and we agreed on */
    uint32_t version; /* 0: none */
    uint32_t due;     /* enum due: answers that had no room yet */
    uint32_t asked_version;
    uint64_t vram_ctx, situation_ctx;
    bool vram_known;
    bool active;
    uint32_t offset, depth, now_width, now_height, pitch;
    bool dirt_on; /* as the guest was last told */

    struct console_pointer pointer;
    uint32_t shape_width, shape_height, hot_x, hot_y;
    uint32_t shape_at; /* bytes of a shape in parts that have come */
    bool shape_set;
    uint8_t shape[SHAPE_BYTES];
};

/* ---- memory ---- */

static bool buffer_make(struct buffer *b, const char *name, uint64_t size, err *e)
{
    b->size = size;
    b->fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (b->fd < 0 || ftruncate(b->fd, (off_t)size) != 0)
        return err_errno(e, errno, "video memory could not be had");
    if (fcntl(b->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        return err_errno(e, errno, "video memory could not be sealed");
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, 0);
    if (p == MAP_FAILED)
        return err_errno(e, errno, "video memory could not be mapped");
    b->host = p;
    return true;
}

static void buffer_unmap(struct video *v, struct buffer *b)
{
    if (b->region)
        hv_memory_remove(v->memory, b->region);
    b->region = NULL;
}

static bool buffer_map(struct video *v, struct buffer *b, uint64_t gpa, err *e)
{
    if (b->region && b->gpa == gpa)
        return true;
    buffer_unmap(v, b);
    b->region = hv_memory_add_video(v->memory, gpa, b->size, b->fd, e);
    b->gpa = gpa;
    return b->region != NULL;
}

static void buffer_free(struct video *v, struct buffer *b)
{
    buffer_unmap(v, b);
    if (b->host)
        munmap(b->host, b->size);
    auto_close(b->fd);
}

/* Gives its pages back and makes it black. */
static void buffer_clear(struct buffer *b)
{
    if (b->host && madvise(b->host, b->size, MADV_REMOVE) != 0)
        memset(b->host, 0, b->size);
}

/* ---- what is shown ---- */

static void show_boot(struct video *v)
{
    struct console_surface s = {.fd = v->boot.fd,
                                .width = v->boot_width,
                                .height = v->boot_height,
                                .stride = v->boot_width * 4};
    console_source_show(v->console, &s, v->boot.host);
}

static void show(struct video *v)
{
    struct console_surface s = {.fd = -1};
    if (!v->vram_known && v->boot.host) {
        show_boot(v);
        return;
    }
    if (!v->vram_known && v->taken)
        return; /* the screen is another's */
    if (v->vram_known && v->active) {
        s = (struct console_surface){.fd = v->vram.fd,
                                     .offset = v->offset,
                                     .width = v->now_width,
                                     .height = v->now_height,
                                     .stride = v->pitch,
                                     .format = v->depth == 16 ? CONSOLE_RGB565 : CONSOLE_XRGB8888};
    }
    console_source_show(v->console, &s, NULL);
}

static void show_pointer(struct video *v)
{
    struct console_shape s = {v->shape_width, v->shape_height, v->hot_x, v->hot_y, v->shape};
    if (v->shape_set)
        console_source_shape(v->console, &s);
    console_source_pointer(v->console, &v->pointer);
}

/* The guest's driver is not (or no longer) there: as at power-on. */
static void forget(struct video *v)
{
    err e = ERR_INIT;
    v->version = v->due = 0;
    v->vram_known = v->active = v->dirt_on = false;
    v->pointer = (struct console_pointer){0};
    v->shape_at = 0;
    v->shape_set = false;
    v->shape_width = v->shape_height = 0;
    buffer_unmap(v, &v->vram);
    if (v->boot.host && !buffer_map(v, &v->boot, v->boot.gpa, &e))
        log_line(LOG_WARNING, "video", "the boot framebuffer is not there: %s", e.text);
    if (v->taken)
        v->taken(v->ctx, false);
    show(v);
    console_source_pointer(v->console, &v->pointer);
}

/* ---- to the guest ---- */

static bool send_message(struct video *v, uint32_t type, const void *body, uint32_t len)
{
    struct {
        struct pipe_header pipe;
        struct pipe_message message;
    } head = {{PIPE_DATA, sizeof(struct pipe_message) + len}, {type, len}};
    struct iovec iov[2] = {{&head, sizeof head}, {(void *)(uintptr_t)body, len}};
    return vmbus_sendv(v->channel, 0, false, iov, 2);
}

static bool send_version(struct video *v)
{
    struct synthvid_version_response r = {
        .version = v->asked_version, .accepted = v->version == v->asked_version, .max_outputs = 1};
    return send_message(v, SYNTHVID_VERSION_RESPONSE, &r, sizeof r);
}

static bool send_resolutions(struct video *v)
{
    struct {
        struct synthvid_resolutions head;
        struct resolution list[SYNTHVID_MAX_RESOLUTIONS];
    } __attribute__((packed)) r = {0};
    struct resolution list[SYNTHVID_MAX_RESOLUTIONS];
    unsigned preferred, n;
    n = resolutions_list(v->vram.size, v->width, v->height, list, &preferred);
    resolutions_edid(&list[preferred], r.head.edid);
    r.head.count = (uint8_t)n;
    r.head.preferred = (uint8_t)preferred;
    memcpy(r.list, list, n * sizeof list[0]);
    return send_message(v, SYNTHVID_RESOLUTIONS, &r,
                        (uint32_t)(sizeof r.head + n * sizeof list[0]));
}

static bool send_ack(struct video *v, uint32_t type, uint64_t user_ctx)
{
    struct synthvid_ack a = {user_ctx};
    return send_message(v, type, &a, sizeof a);
}

static bool send_features(struct video *v)
{
    bool dirt = v->looked_at && v->active;
    struct synthvid_features f = {.dirt = dirt, .pointer_position = 1, .pointer_shape = 1};
    if (!send_message(v, SYNTHVID_FEATURES, &f, sizeof f))
        return false;
    v->dirt_on = dirt;
    return true;
}

static void flush(struct video *v)
{
    static const uint32_t order[] = {DUE_VERSION, DUE_RESOLUTIONS, DUE_VRAM, DUE_SITUATION,
                                     DUE_FEATURES};
    for (unsigned i = 0; i < ARRAY_LEN(order) && v->channel; i++) {
        bool ok = true;
        if (!(v->due & order[i]))
            continue;
        switch (order[i]) {
        case DUE_VERSION: ok = send_version(v); break;
        case DUE_RESOLUTIONS: ok = send_resolutions(v); break;
        case DUE_VRAM: ok = send_ack(v, SYNTHVID_VRAM_LOCATION_ACK, v->vram_ctx); break;
        case DUE_SITUATION: ok = send_ack(v, SYNTHVID_SITUATION_ACK, v->situation_ctx); break;
        default: ok = send_features(v); break;
        }
        if (!ok)
            return;
        v->due &= ~order[i];
    }
}

static void watched(void *ctx, bool looked_at)
{
    struct video *v = ctx;
    v->looked_at = looked_at;
    if (!v->channel || !v->active || v->dirt_on == looked_at)
        return;
    v->due |= DUE_FEATURES;
    flush(v);
    if (looked_at) /* what happened before was not reported */
        console_source_dirty(v->console, 0, 0, v->now_width, v->now_height);
}

/* ---- from the guest ---- */

static void on_version(struct video *v, const uint8_t *body, uint32_t len)
{
    if (len < 4)
        return;
    v->asked_version = get_le32(body);
    bool known = v->asked_version == SYNTHVID_3_0 || v->asked_version == SYNTHVID_3_2 ||
                 v->asked_version == SYNTHVID_3_5;
    v->version = known ? v->asked_version : 0;
    v->due |= DUE_VERSION;
}

static void on_vram(struct video *v, const uint8_t *body, uint32_t len)
{
    struct synthvid_vram_location m;
    err e = ERR_INIT;
    if (!v->version || len < sizeof m)
        return;
    memcpy(&m, body, sizeof m);
    buffer_unmap(v, &v->boot); /* the guest may have put its memory at the same place */
    if (v->taken)
        v->taken(v->ctx, m.specified);
    if (m.specified && (m.gpa % HV_PAGE_SIZE || !buffer_map(v, &v->vram, m.gpa, &e))) {
        LOG_GUEST("video", "the guest's place for video memory is refused: %s", e.text);
        return; /* no acknowledgement: the guest gives up after a while */
    }
    v->vram_known = m.specified;
    v->vram_ctx = m.user_ctx;
    v->due |= DUE_VRAM;
    show(v);
}

static bool situation_ok(const struct video *v, const struct synthvid_situation *m)
{
    if (m->depth != 32 && m->depth != 16)
        return false;
    if (!m->width || !m->height || m->width > CONSOLE_MAX_WIDTH || m->height > CONSOLE_MAX_HEIGHT)
        return false;
    uint32_t row = m->width * (m->depth / 8u);
    if (m->pitch < row || m->pitch > 4 * CONSOLE_MAX_WIDTH * 4 || m->pitch % (m->depth / 8u) ||
        m->offset % HV_PAGE_SIZE)
        return false;
    return range_within(m->offset, (uint64_t)m->pitch * m->height, v->vram.size);
}

static void on_situation(struct video *v, const uint8_t *body, uint32_t len)
{
    struct synthvid_situation m;
    if (!v->version || len < sizeof m)
        return;
    memcpy(&m, body, sizeof m);
    v->situation_ctx = m.user_ctx;
    v->due |= DUE_SITUATION | DUE_FEATURES;
    bool active = m.count && m.active;
    if (active && !situation_ok(v, &m)) {
        LOG_GUEST("video", "the guest set a mode that its video memory cannot hold (%u x %u)",
                  m.width, m.height);
        return;
    }
    v->active = active;
    if (active) {
        v->offset = m.offset;
        v->depth = m.depth;
        v->now_width = m.width;
        v->now_height = m.height;
        v->pitch = m.pitch;
    }
    show(v);
}

static void on_pointer(struct video *v, const uint8_t *body, uint32_t len)
{
    struct synthvid_pointer_position m;
    if (len < sizeof m)
        return;
    memcpy(&m, body, sizeof m);
    v->pointer = (struct console_pointer){m.visible, m.x, m.y};
    console_source_pointer(v->console, &v->pointer);
}

/* A shape comes whole or in parts, as 32 bits a pixel with alpha, or 24 without. */
static void shape_complete(struct video *v, bool argb)
{
    uint32_t pixels = v->shape_width * v->shape_height;
    if (!argb)
        for (uint32_t i = pixels; i-- > 0;) {
            uint8_t b = v->shape[i * 3], g = v->shape[i * 3 + 1], r = v->shape[i * 3 + 2];
            v->shape[i * 4] = b;
            v->shape[i * 4 + 1] = g;
            v->shape[i * 4 + 2] = r;
            v->shape[i * 4 + 3] = 0xff;
        }
    v->shape_set = true;
    v->shape_at = 0;
    show_pointer(v);
}

static void on_shape(struct video *v, const uint8_t *body, uint32_t len)
{
    struct synthvid_pointer_shape m;
    if (len < sizeof m)
        return;
    memcpy(&m, body, sizeof m);
    if (m.width > CONSOLE_MAX_POINTER || m.height > CONSOLE_MAX_POINTER || m.hot_x > m.width ||
        m.hot_y > m.height) {
        LOG_GUEST("video", "the guest sent a pointer shape that is too large");
        return;
    }
    bool first = m.part == 0 || (m.part == SYNTHVID_SHAPE_COMPLETE && !v->shape_at);
    if (first || m.width != v->shape_width || m.height != v->shape_height) {
        v->shape_at = 0;
        v->shape_set = false;
        v->shape_width = m.width;
        v->shape_height = m.height;
        v->hot_x = m.hot_x;
        v->hot_y = m.hot_y;
    }
    uint32_t total = m.width * m.height * (m.argb ? 4 : 3);
    uint32_t n = MIN(len - (uint32_t)sizeof m, total - MIN(total, v->shape_at));
    memcpy(v->shape + v->shape_at, body + sizeof m, n);
    v->shape_at += n;
    if (v->shape_at >= total)
        shape_complete(v, m.argb);
}

static void on_dirt(struct video *v, const uint8_t *body, uint32_t len)
{
    if (len < sizeof(struct synthvid_dirt))
        return;
    uint32_t count = MIN((uint32_t)body[1], (len - 2) / (uint32_t)sizeof(struct synthvid_rect));
    for (uint32_t i = 0; i < count; i++) {
        struct synthvid_rect r;
        memcpy(&r, body + sizeof(struct synthvid_dirt) + i * sizeof r, sizeof r);
        console_source_dirty(v->console, r.x1, r.y1, r.x2, r.y2);
    }
}

static void on_message(struct video *v, uint32_t type, const uint8_t *body, uint32_t len)
{
    switch (type) {
    case SYNTHVID_VERSION_REQUEST: on_version(v, body, len); break;
    case SYNTHVID_RESOLUTIONS_REQUEST:
        if (v->version)
            v->due |= DUE_RESOLUTIONS;
        break;
    case SYNTHVID_VRAM_LOCATION: on_vram(v, body, len); break;
    case SYNTHVID_SITUATION: on_situation(v, body, len); break;
    case SYNTHVID_POINTER_POSITION: on_pointer(v, body, len); break;
    case SYNTHVID_POINTER_SHAPE: on_shape(v, body, len); break;
    case SYNTHVID_DIRT: on_dirt(v, body, len); break;
    default: LOG_GUEST("video", "the guest sent a message of unknown type %u", type); break;
    }
    flush(v);
}

static void readable(void *ctx, struct vmbus_channel *ch)
{
    struct vmbus_packet p;
    while (vmbus_channel_next(ch, &p)) {
        struct pipe_header pipe;
        struct pipe_message m;
        if (p.type != VMBUS_PACKET_INBAND || p.len < BODY) {
            LOG_GUEST("video", "the guest sent a message that is too short");
            continue;
        }
        memcpy(&pipe, p.payload, sizeof pipe);
        memcpy(&m, p.payload + sizeof pipe, sizeof m);
        /* The packet's length is rounded up; the pipe's is not. */
        uint32_t said = pipe.size < sizeof m ? 0 : pipe.size - (uint32_t)sizeof m;
        on_message(ctx, m.type, p.payload + BODY, MIN(said, p.len - BODY));
    }
}

static bool opened(void *ctx, struct vmbus_channel *ch, const uint8_t *user)
{
    struct video *v = ctx;
    v->channel = ch;
    v->version = v->due = 0;
    return true;
}

static void closed(void *ctx, struct vmbus_channel *ch)
{
    struct video *v = ctx;
    v->channel = NULL;
    forget(v);
}

static void writable(void *ctx, struct vmbus_channel *ch)
{
    flush(ctx);
}

static const struct vmbus_provider_ops provider = {
    .name = "video",
    .opened = opened,
    .closed = closed,
    .readable = readable,
    .writable = writable,
};

/* ---- life ---- */

static void video_free(struct video *v)
{
    console_source_watch(v->console, NULL, NULL);
    console_source_show(v->console, &(struct console_surface){.fd = -1}, NULL);
    buffer_free(v, &v->vram);
    buffer_free(v, &v->boot);
    free(v);
}

static bool make_boot(struct video *v, const struct video_params *p, err *e)
{
    v->boot_width = p->boot_width ? p->boot_width : DEFAULT_WIDTH;
    v->boot_height = p->boot_height ? p->boot_height : DEFAULT_HEIGHT;
    if (v->boot_width > CONSOLE_MAX_WIDTH || v->boot_height > CONSOLE_MAX_HEIGHT)
        return err_set(e, ERR_INVALID, "the boot framebuffer is larger than any screen");
    uint64_t size = align_up((uint64_t)v->boot_width * 4 * v->boot_height, HV_PAGE_SIZE);
    if (!buffer_make(&v->boot, "boot-framebuffer", size, e))
        return false;
    v->boot.gpa = p->boot_gpa;
    return buffer_map(v, &v->boot, p->boot_gpa, e);
}

static bool video_build(struct video *v, const struct video_params *p, err *e)
{
    if (p->memory_mib < VIDEO_MIN_MIB || p->memory_mib > VIDEO_MAX_MIB)
        return err_set(e, ERR_INVALID, "video memory must be between %d and %d MiB", VIDEO_MIN_MIB,
                       VIDEO_MAX_MIB);
    if (!buffer_make(&v->vram, "video-memory", (uint64_t)p->memory_mib * ONE_MIB, e))
        return false;
    if (p->boot_gpa && !make_boot(v, p, e))
        return false;
    struct vmbus_device_params d = {.class_id = SYNTHVID_CLASS,
                                    .instance = SYNTHVID_INSTANCE,
                                    .flags = VMBUS_OFFER_NAMED_PIPE,
                                    .mmio_mib = (uint16_t)p->memory_mib,
                                    .user = {VMBUS_PIPE_MESSAGE},
                                    .max_packet = 64 * 1024,
                                    .ops = &provider,
                                    .ctx = v};
    v->device = vmbus_device_add(p->bus, &d, e);
    return v->device != NULL;
}

struct video *video_new(const struct video_params *p, err *e)
{
    struct video *v = calloc(1, sizeof *v);
    if (!v) {
        err_set(e, ERR_NO_MEMORY, "there is no memory for the video device");
        return NULL;
    }
    v->vram.fd = v->boot.fd = -1;
    v->memory = p->memory;
    v->console = p->console;
    v->taken = p->taken;
    v->ctx = p->ctx;
    v->width = p->width ? p->width : DEFAULT_WIDTH;
    v->height = p->height ? p->height : DEFAULT_HEIGHT;
    if (!video_build(v, p, e)) {
        video_free(v);
        return NULL;
    }
    console_source_watch(v->console, watched, v);
    show(v);
    return v;
}

void video_boot_framebuffer(const struct video *v, struct video_boot *out)
{
    *out = (struct video_boot){.gpa = v->boot.gpa,
                               .size = v->boot.host ? v->boot.size : 0,
                               .width = v->boot_width,
                               .height = v->boot_height,
                               .stride = v->boot_width * 4};
}

static void video_start(void *self)
{
    flush(self);
}

static void video_stop(void *self, void (*done)(void *ctx), void *ctx)
{
    done(ctx);
}

static void video_reset(void *self)
{
    struct video *v = self;
    buffer_clear(&v->vram);
    buffer_clear(&v->boot);
    forget(v);
}

static const struct state_field pointer_fields[] = {
    STATE_FIELD(1, STATE_BOOL, struct console_pointer, visible),
    STATE_FIELD(2, STATE_U32, struct console_pointer, x),
    STATE_FIELD(3, STATE_U32, struct console_pointer, y),
};
static const struct state_table pointer_table = {
    .name = "pointer", .fields = pointer_fields, .nfields = ARRAY_LEN(pointer_fields)};
static const struct state_field fields[] = {
    STATE_FIELD(1, STATE_U32, struct video, version),
    STATE_FIELD_MAX(2, STATE_U32, struct video, due, 31),
    STATE_FIELD(3, STATE_U32, struct video, asked_version),
    STATE_FIELD(4, STATE_U64, struct video, vram_ctx),
    STATE_FIELD(5, STATE_U64, struct video, situation_ctx),
    STATE_FIELD(6, STATE_BOOL, struct video, vram_known),
    STATE_FIELD(7, STATE_U64, struct video, vram.gpa),
    STATE_FIELD(8, STATE_BOOL, struct video, active),
    STATE_FIELD(9, STATE_U32, struct video, offset),
    STATE_FIELD(10, STATE_U32, struct video, depth),
    STATE_FIELD(11, STATE_U32, struct video, now_width),
    STATE_FIELD(12, STATE_U32, struct video, now_height),
    STATE_FIELD(13, STATE_U32, struct video, pitch),
    STATE_FIELD(14, STATE_BOOL, struct video, dirt_on),
    STATE_SUB(15, struct video, pointer, &pointer_table, 1),
    STATE_FIELD_MAX(16, STATE_U32, struct video, shape_width, CONSOLE_MAX_POINTER),
    STATE_FIELD_MAX(17, STATE_U32, struct video, shape_height, CONSOLE_MAX_POINTER),
    STATE_FIELD_MAX(18, STATE_U32, struct video, hot_x, CONSOLE_MAX_POINTER),
    STATE_FIELD_MAX(19, STATE_U32, struct video, hot_y, CONSOLE_MAX_POINTER),
    STATE_FIELD_MAX(20, STATE_U32, struct video, shape_at, SHAPE_BYTES),
    STATE_FIELD(21, STATE_BOOL, struct video, shape_set),
    STATE_FIELD(22, STATE_BYTES, struct video, shape),
};

static bool check_loaded(void *obj, uint16_t version, err *e)
{
    struct video *v = obj;
    struct synthvid_situation m = {.depth = (uint8_t)v->depth,
                                   .offset = v->offset,
                                   .width = v->now_width,
                                   .height = v->now_height,
                                   .pitch = v->pitch};
    if (v->active && (v->depth > 32 || !situation_ok(v, &m)))
        return err_set(e, ERR_CORRUPT, "the saved screen does not fit the video memory");
    if (v->vram_known && v->vram.gpa % HV_PAGE_SIZE)
        return err_set(e, ERR_CORRUPT, "the saved video memory lies at an impossible place");
    return true;
}

static const struct state_table table = {
    .name = "video",
    .section = STATE_ID('V', 'I', 'D', ' '),
    .version = 1,
    .least_reader = 1,
    .fields = fields,
    .nfields = ARRAY_LEN(fields),
    .post_load = check_loaded,
};

/* ---- contents: pages that are not zero, as fields of {u32 page, page} in sections of their own
 * ---- */

enum { SECTION_PIXELS = STATE_ID('V', 'P', 'I', 'X'), TAG_SIZE = 1, TAG_PAGE = 2 };

static void save_pixels(struct state_writer *w, uint32_t instance, const struct buffer *b)
{
    static const uint8_t zero[HV_PAGE_SIZE];
    state_begin(w, SECTION_PIXELS, instance, 1, 1);
    state_put_u64(w, TAG_SIZE, b->size);
    for (uint64_t at = 0; b->host && at < b->size; at += HV_PAGE_SIZE) {
        uint8_t page[4 + HV_PAGE_SIZE];
        if (memcmp(b->host + at, zero, HV_PAGE_SIZE) == 0)
            continue;
        put_le32(page, (uint32_t)(at / HV_PAGE_SIZE));
        memcpy(page + 4, b->host + at, HV_PAGE_SIZE);
        state_put(w, TAG_PAGE, page, sizeof page);
    }
    state_end(w);
}

static bool load_pixels(const struct state_reader *r, uint32_t instance, struct buffer *b, err *e)
{
    struct state_section s;
    struct state_field_view f;
    size_t pos = 0;
    if (!b->host)
        return true;
    if (!state_find(r, SECTION_PIXELS, instance, &s, e))
        return false;
    buffer_clear(b);
    while (state_field_next(&s, &pos, &f, e)) {
        if (f.tag != TAG_PAGE)
            continue;
        uint64_t at = f.len == 4 + HV_PAGE_SIZE ? (uint64_t)get_le32(f.data) * HV_PAGE_SIZE : ~0ull;
        if (!range_within(at, HV_PAGE_SIZE, b->size))
            return err_set(e, ERR_CORRUPT, "the saved screen has a page outside of it");
        memcpy(b->host + at, f.data + 4, HV_PAGE_SIZE);
    }
    return !e || e->code == ERR_NONE;
}

static void video_save(void *self, struct state_writer *w)
{
    struct video *v = self;
    state_save(w, &table, 0, v);
    save_pixels(w, 0, &v->vram);
    save_pixels(w, 1, &v->boot);
}

static bool video_restore(void *self, const struct state_reader *r, err *e)
{
    struct video *v = self;
    err own = ERR_INIT;
    if (!e)
        e = &own;
    v->channel = vmbus_device_channel(v->device, 0);
    if (!state_restore(r, &table, 0, v, e) || !load_pixels(r, 0, &v->vram, e) ||
        !load_pixels(r, 1, &v->boot, e))
        return false;
    if (v->vram_known) {
        uint64_t gpa = v->vram.gpa;
        buffer_unmap(v, &v->boot);
        if (v->taken)
            v->taken(v->ctx, true);
        v->vram.gpa = 0;
        if (!buffer_map(v, &v->vram, gpa, e))
            return err_prefix(e, "the saved video memory cannot be placed");
    }
    show(v);
    show_pointer(v);
    if (v->active)
        v->due |= DUE_FEATURES; /* whoever looks now is not who looked then */
    return true;
}

static void video_destroy(void *self)
{
    struct video *v = self;
    vmbus_device_remove(v->device);
    video_free(v);
}

static const struct device_ops ops = {
    .name = "video",
    .start = video_start,
    .stop = video_stop,
    .reset = video_reset,
    .save = video_save,
    .restore = video_restore,
    .destroy = video_destroy,
};

struct device video_as_device(struct video *v)
{
    return (struct device){&ops, v};
}
