/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/usb/usb-list.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* Gives this account the right to a node while its standard input stays open, if the person
 * (polkit) agrees. Asked "bus device\n", it says "SUCCESS\n", "CANCELED\n" or what went wrong. */
#define HELPER "spice-client-glib-usb-acl-helper"

struct opening {
    char *node;
    GSubprocess *helper;
    GDataInputStream *output;
};

static void opening_free(gpointer data)
{
    struct opening *o = data;
    g_free(o->node);
    g_clear_object(&o->helper); /* closes its input: it takes the right back; the open node stays */
    g_clear_object(&o->output);
    g_free(o);
}

static int open_node(struct opening *o)
{
    return open(o->node, O_RDWR | O_CLOEXEC);
}

static void fail_errno(GTask *task, int error)
{
    if (error == ENOENT || error == ENODEV || error == ENXIO)
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "the device was unplugged");
    else if (error == EACCES || error == EPERM)
        g_task_return_new_error(
            task, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
            "This account may not use the device. Installing the package " HELPER
            " lets you allow it.");
    else
        g_task_return_new_error(task, G_IO_ERROR, g_io_error_from_errno(error),
                                "the device cannot be opened: %s", g_strerror(error));
}

static void try_again(GTask *task)
{
    int fd = open_node(g_task_get_task_data(task));
    if (fd < 0)
        fail_errno(task, errno);
    else
        g_task_return_int(task, fd);
}

static void on_answer(GObject *stream, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    g_autoptr(GError) error = NULL;
    g_autofree char *line =
        g_data_input_stream_read_line_finish(G_DATA_INPUT_STREAM(stream), result, NULL, &error);
    if (error)
        g_task_return_error(task, g_steal_pointer(&error));
    else if (line && strcmp(line, "SUCCESS") == 0)
        try_again(task);
    else if (line && strcmp(line, "CANCELED") == 0)
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_CANCELLED,
                                "the permission was not given");
    else
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
                                "This account may not use the device%s%s",
                                line && line[0] ? ": " : "", line ? line : "");
}

static char *find_helper(void)
{
    static const char *const places[] = {"/usr/libexec/" HELPER,
                                         "/usr/lib/x86_64-linux-gnu/" HELPER, "/usr/lib64/" HELPER,
                                         "/usr/bin/" HELPER};
    for (guint i = 0; i < G_N_ELEMENTS(places); i++)
        if (g_file_test(places[i], G_FILE_TEST_IS_EXECUTABLE))
            return g_strdup(places[i]);
    return NULL;
}

/* FALSE: there is no helper. */
static gboolean ask_helper(GTask *task, const char *order)
{
    struct opening *o = g_task_get_task_data(task);
    g_autofree char *path = find_helper();
    if (path)
        o->helper = g_subprocess_new(G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE,
                                     NULL, path, NULL);
    if (!o->helper)
        return FALSE;
    if (!g_output_stream_write_all(g_subprocess_get_stdin_pipe(o->helper), order, strlen(order),
                                   NULL, NULL, NULL))
        return FALSE;
    o->output = g_data_input_stream_new(g_subprocess_get_stdout_pipe(o->helper));
    g_data_input_stream_read_line_async(o->output, G_PRIORITY_DEFAULT, g_task_get_cancellable(task),
                                        on_answer, g_object_ref(task));
    return TRUE;
}

void vireo_usb_open_async(const VireoUsbInfo *info, GCancellable *cancellable,
                          GAsyncReadyCallback done, gpointer data)
{
    g_autoptr(GTask) task = g_task_new(NULL, cancellable, done, data);
    g_autofree char *order = g_strdup_printf("%u %u\n", info->bus, info->device);
    struct opening *o = g_new0(struct opening, 1);
    o->node = g_strdup_printf("/dev/bus/usb/%03u/%03u", info->bus, info->device);
    g_task_set_source_tag(task, vireo_usb_open_async);
    g_task_set_task_data(task, o, opening_free);
    int fd = open_node(o), error = errno;
    if (fd >= 0)
        g_task_return_int(task, fd);
    else if (error != EACCES || !ask_helper(task, order))
        fail_errno(task, error);
}

int vireo_usb_open_finish(GAsyncResult *result, GError **error)
{
    g_return_val_if_fail(g_task_is_valid(result, NULL), -1);
    return (int)g_task_propagate_int(G_TASK(result), error);
}
