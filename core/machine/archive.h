/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The container of exported machines: a tar archive (POSIX.1-1988 ustar; sizes of 8 GiB and more in
 * base 256, as GNU tar has them) of regular files alone, as one zstd stream with its checksum:
 * `tar --zstd -xf` unpacks it. Archives are hostile input: names and headers are checked here, what
 * is in the files by whoever reads them.
 * Thread: any; one archive belongs to one thread.
 */
#ifndef VIREO_MACHINE_ARCHIVE_H
#define VIREO_MACHINE_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/cleanup.h"
#include "core/base/err.h"

enum { ARCHIVE_MAX_NAME = 255 };

/* `n` bytes more were read or written. False cancels. */
struct archive_progress {
    bool (*fn)(void *ctx, uint64_t n);
    void *ctx;
};

/* "NAME", "FOLDER/NAME" or "FOLDER/FOLDER/NAME": no part is empty, begins with a dot or has a
 * control character or backslash in it. */
bool archive_name_ok(const char *name);

/* ---- writing ---- */

struct archive_writer;
/* `fd` is borrowed and written from where it stands. */
struct archive_writer *archive_writer_new(int fd, err *e);
bool archive_add_bytes(struct archive_writer *a, const char *name, const void *data, size_t len,
                       err *e);
/* A file from its beginning, as long as it is now; holes are not read. */
bool archive_add_file(struct archive_writer *a, const char *name, int fd,
                      const struct archive_progress *p, err *e);
bool archive_end(struct archive_writer *a, err *e);
void archive_writer_free(struct archive_writer *a);
AUTO_DEFINE(archive_writer, struct archive_writer *, archive_writer_free)

/* ---- reading ---- */

struct archive_reader;
struct archive_entry {
    char name[ARCHIVE_MAX_NAME + 1];
    uint64_t size;
};
struct archive_reader *archive_reader_new(int fd, err *e);
/* The next file; what was not read of the last is skipped. False: the end (*end), or an error. */
bool archive_next(struct archive_reader *a, struct archive_entry *out, bool *end, err *e);
/* The whole of the present file into a new one, sparse where it is zero, and synced. */
bool archive_extract(struct archive_reader *a, int fd, const struct archive_progress *p, err *e);
/* Its contents, at most `max` bytes, NUL added, malloc'ed. */
char *archive_read(struct archive_reader *a, size_t max, size_t *len, err *e);
void archive_reader_free(struct archive_reader *a);
AUTO_DEFINE(archive_reader, struct archive_reader *, archive_reader_free)

/* Copies a file from its beginning, holes kept, and syncs it: what an archive would do. */
bool archive_copy_file(int from, int to, const struct archive_progress *p, err *e);

#endif
