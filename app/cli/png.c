/* SPDX-License-Identifier: GPL-3.0-or-later */
/* PNG (ISO 15948): 8-bit RGB, one IDAT, filter 0; deflated by GIO's zlib. */
#include "core/base/bytes.h" /* before GLib, which undefines what it defines */

#include <errno.h>
#include <gio/gio.h>
#include <string.h>

#include "app/cli/png.h"

static uint32_t crc32_of(uint32_t crc, const uint8_t *p, size_t n)
{
    crc = ~crc;
    while (n--) {
        crc ^= *p++;
        for (unsigned k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void chunk(GByteArray *out, const char *type, const uint8_t *data, uint32_t len)
{
    uint8_t word[4];
    put_be32(word, len);
    g_byte_array_append(out, word, 4);
    guint begin = out->len;
    g_byte_array_append(out, (const uint8_t *)type, 4);
    if (len)
        g_byte_array_append(out, data, len);
    put_be32(word, crc32_of(0, out->data + begin, out->len - begin));
    g_byte_array_append(out, word, 4);
}

static void put_row(uint8_t *to, const uint8_t *from, uint32_t width)
{
    for (uint32_t x = 0; x < width; x++) {
        to[x * 3] = from[x * 4 + 2];
        to[x * 3 + 1] = from[x * 4 + 1];
        to[x * 3 + 2] = from[x * 4];
    }
}

static GBytes *deflated(const uint8_t *data, size_t len)
{
    g_autoptr(GZlibCompressor) z = g_zlib_compressor_new(G_ZLIB_COMPRESSOR_FORMAT_ZLIB, 6);
    g_autoptr(GOutputStream) memory = g_memory_output_stream_new_resizable();
    g_autoptr(GOutputStream) out = g_converter_output_stream_new(memory, G_CONVERTER(z));
    if (!g_output_stream_write_all(out, data, len, NULL, NULL, NULL) ||
        !g_output_stream_close(out, NULL, NULL))
        return NULL;
    return g_memory_output_stream_steal_as_bytes(G_MEMORY_OUTPUT_STREAM(memory));
}

static GByteArray *encode_png(const uint8_t *pixels, uint32_t width, uint32_t height, size_t stride)
{
    size_t row = (size_t)width * 3 + 1;
    g_autofree uint8_t *raw = g_malloc0(row * height);
    for (uint32_t y = 0; y < height; y++)
        put_row(raw + y * row + 1, pixels + y * stride, width);
    g_autoptr(GBytes) z = deflated(raw, row * height);
    if (!z)
        return NULL;
    uint8_t head[13] = {[8] = 8, [9] = 2};
    put_be32(head, width);
    put_be32(head + 4, height);
    GByteArray *out = g_byte_array_new();
    g_byte_array_append(out, (const uint8_t *)"\x89PNG\r\n\x1a\n", 8);
    chunk(out, "IHDR", head, sizeof head);
    chunk(out, "IDAT", g_bytes_get_data(z, NULL), (uint32_t)g_bytes_get_size(z));
    chunk(out, "IEND", NULL, 0);
    return out;
}

static GByteArray *encode_ppm(const uint8_t *pixels, uint32_t width, uint32_t height, size_t stride)
{
    g_autofree char *head = g_strdup_printf("P6\n%u %u\n255\n", width, height);
    GByteArray *out = g_byte_array_new();
    g_byte_array_append(out, (const uint8_t *)head, (guint)strlen(head));
    guint at = out->len;
    g_byte_array_set_size(out, at + width * 3 * height);
    for (uint32_t y = 0; y < height; y++)
        put_row(out->data + at + (size_t)y * width * 3, pixels + y * stride, width);
    return out;
}

bool png_write(const char *path, const uint8_t *pixels, uint32_t width, uint32_t height,
               size_t stride, err *e)
{
    g_autoptr(GError) error = NULL;
    GByteArray *out = g_str_has_suffix(path, ".ppm") ? encode_ppm(pixels, width, height, stride)
                                                     : encode_png(pixels, width, height, stride);
    if (!out)
        return err_set(e, ERR_NO_MEMORY, "the picture could not be encoded");
    gboolean ok = g_file_set_contents(path, (const char *)out->data, out->len, &error);
    g_byte_array_unref(out);
    return ok || err_set(e, ERR_IO, "%s", error->message);
}
