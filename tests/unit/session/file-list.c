/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Files that were copied in the guest: as its helper packs them, and as a viewer unpacks what may
 * be hostile. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "session/agent-proto.h"
#include "session/clipboard/file-list.h"
#include "session/guest/clip.h"

static char *top;

static char *in(const char *name)
{
    return g_build_filename(top, name, NULL);
}

static void make(const char *name, const char *content)
{
    g_autofree char *path = in(name);
    CHECK(g_file_set_contents(path, content, -1, NULL));
}

static guint count(const char *folder)
{
    guint n = 0;
    g_autoptr(GDir) d = g_dir_open(folder, 0, NULL);
    while (g_dir_read_name(d))
        n++;
    return n;
}

/* ---- packing ---- */

/* The list's names are below `top`. */
static gboolean packs(const char *format, GBytes **out)
{
    g_auto(GStrv) parts = g_strsplit(format, "TOP", -1);
    g_autofree char *list = g_strjoinv(top, parts);
    size_t len = 0;
    uint8_t *data = copied_pack((const uint8_t *)list, strlen(list), &len);
    if (data && out)
        *out = g_bytes_new(data, len);
    free(data);
    return data != NULL;
}

static void there_and_back(void)
{
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *folder = in("back"), *content = NULL;
    gsize len;
    make("a file.txt", "one");
    make("\xc3\xa9", "");
    CHECK(mkdir(folder, 0700) == 0);
    CHECK(packs("# copied\r\nfile://TOP/a%20file.txt\r\nfile://localhostTOP/%c3%A9", &bytes));
    g_auto(GStrv) paths = vireo_file_list_unpack(g_bytes_get_data(bytes, NULL),
                                                 g_bytes_get_size(bytes), folder, &error);
    CHECK(paths && g_strv_length(paths) == 2);
    CHECK(g_str_has_suffix(paths[0], "/back/a file.txt"));
    CHECK(g_file_get_contents(paths[0], &content, &len, NULL) && len == 3);
    CHECK_STR(content, "one");
    CHECK(g_str_has_suffix(paths[1], "/back/\xc3\xa9"));
    /* what is there stays */
    g_auto(GStrv) more = vireo_file_list_unpack(g_bytes_get_data(bytes, NULL),
                                                g_bytes_get_size(bytes), folder, &error);
    CHECK(more && g_str_has_suffix(more[0], "/back/a file (1).txt"));
    CHECK_EQ(count(folder), 4);
}

static void what_is_not_packed(void)
{
    g_autofree char *fifo = in("fifo"), *large = in("large"), *folder = in("folder");
    make("small", "1");
    CHECK(mkfifo(fifo, 0600) == 0 && mkdir(folder, 0700) == 0);
    int fd = open(large, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, CLIP_MAX_BYTES) == 0);
    close(fd);
    CHECK(packs("file://TOP/small", NULL));
    const char *const refused[] = {
        "",
        "# nothing",
        "file://TOP/small\r\nfile://TOP/missing",
        "file://TOP/fifo",
        "file://TOP/folder",
        "file://TOP/folder/",
        "file://TOP/large",
        "https://example.org/small",
        "file://elsewhereTOP/small",
        "file:/",
        "file://",
        "file://TOP/small%00",
        "file://TOP/small%4",
        "file://TOP/small%zz",
        "TOP/small",
    };
    for (gsize i = 0; i < G_N_ELEMENTS(refused); i++)
        if (packs(refused[i], NULL)) {
            fprintf(stderr, "packed: %s\n", refused[i]);
            CHECK(FALSE);
        }
}

/* ---- unpacking ---- */

static void append(GByteArray *a, const char *name, guint32 n, const char *content, guint64 size)
{
    struct agent_file head = {.name = GUINT32_TO_LE(n), .size = GUINT64_TO_LE(size)};
    g_byte_array_append(a, (const guint8 *)&head, sizeof head);
    g_byte_array_append(a, (const guint8 *)name, (guint)strlen(name));
    g_byte_array_append(a, (const guint8 *)content, (guint)strlen(content));
}

static gboolean unpacks(const GByteArray *a, gsize len, const char *folder)
{
    g_autoptr(GError) error = NULL;
    /* of its very length, so that a sanitizer sees what is read beyond */
    g_autofree guint8 *data = g_memdup2(a->data, len);
    g_auto(GStrv) paths = vireo_file_list_unpack(data, len, folder, &error);
    CHECK(!paths == !!error);
    return paths != NULL;
}

static void hostile(void)
{
    g_autofree char *folder = in("hostile"), *long_name = g_strnfill(AGENT_MAX_NAME + 1, 'a');
    CHECK(mkdir(folder, 0700) == 0);
    const struct {
        const char *name;
        gint64 n, size; /* -1: as they are */
    } bad[] = {{"", 0, -1},          {"a/b", -1, -1},     {"../a", -1, -1}, {"/tmp/a", -1, -1},
               {"a", 1, 5},          {"a", 1, INT64_MAX}, {"a", 200, -1},   {"a", UINT32_MAX, -1},
               {"\xff\xfe", -1, -1}, {long_name, -1, -1}};
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GByteArray) a = g_byte_array_new();
        append(a, "good", 4, "1234", 4);
        append(a, bad[i].name, (guint32)(bad[i].n < 0 ? (gint64)strlen(bad[i].name) : bad[i].n),
               "1234", bad[i].size < 0 ? 4 : (guint64)bad[i].size);
        if (unpacks(a, a->len, folder)) {
            fprintf(stderr, "unpacked: %s\n", bad[i].name);
            CHECK(FALSE);
        }
        CHECK_EQ(count(folder), 0); /* nor is what came before it left */
    }
    g_autoptr(GByteArray) none = g_byte_array_new();
    g_byte_array_append(none, (const guint8 *)"", 1);
    CHECK(!unpacks(none, 0, folder));
}

static void every_cut(void)
{
    g_autofree char *folder = in("cut");
    g_autoptr(GByteArray) a = g_byte_array_new();
    CHECK(mkdir(folder, 0700) == 0);
    append(a, "one", 3, "1234", 4);
    append(a, "two", 3, "", 0);
    for (gsize len = 0; len < a->len; len++) {
        CHECK_EQ(unpacks(a, len, folder), len == sizeof(struct agent_file) + 3 + 4);
        if (len != sizeof(struct agent_file) + 3 + 4)
            CHECK(count(folder) <= 1);
    }
    CHECK_EQ(count(folder), 1);
}

/* Not hidden, not a folder's own, not what a terminal would do something with. */
static void odd_names(void)
{
    g_autofree char *folder = in("odd");
    g_autoptr(GError) error = NULL;
    g_autoptr(GByteArray) a = g_byte_array_new();
    CHECK(mkdir(folder, 0700) == 0);
    append(a, ".profile", 8, "", 0);
    append(a, "..", 2, "", 0);
    append(a, ".", 1, "", 0);
    append(a, "a\x1b[2J\n", 6, "", 0);
    append(a, "gpj\xe2\x80\xae.exe", 10, "", 0);
    g_auto(GStrv) paths = vireo_file_list_unpack(a->data, a->len, folder, &error);
    CHECK(paths && g_strv_length(paths) == 5);
    const char *const wanted[] = {"_profile", "_.", "_", "a_[2J_", "gpj_.exe"};
    for (gsize i = 0; paths && i < G_N_ELEMENTS(wanted); i++) {
        g_autofree char *name = g_path_get_basename(paths[i]);
        CHECK_STR(name, wanted[i]);
    }
}

int main(int argc, char **argv)
{
    const struct check_test tests[] = {CHECK_TEST(there_and_back), CHECK_TEST(what_is_not_packed),
                                       CHECK_TEST(hostile), CHECK_TEST(every_cut),
                                       CHECK_TEST(odd_names)};
    top = g_dir_make_tmp("vireo-file-list.XXXXXX", NULL);
    int result = check_run(tests, G_N_ELEMENTS(tests), argc, argv);
    g_autofree char *command = g_strdup_printf("rm -rf '%s'", top);
    if (system(command) != 0)
        result = 1;
    g_free(top);
    return result;
}
