/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Preloaded into the application (test_openings.py): tells how much of the heap is in use. For each
 * byte that comes through the FIFO $HEAP_USE.ask a line with the number of bytes goes into
 * $HEAP_USE.answer. */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int open_fifo(const char *end)
{
    char path[256];
    snprintf(path, sizeof(path), "%s.%s", getenv("HEAP_USE"), end);
    return open(path, O_RDWR | O_CLOEXEC); /* both ways: waits for nobody and never ends */
}

static void *answer(void *unused)
{
    (void)unused;
    int ask = open_fifo("ask"), out = open_fifo("answer");
    for (char c; read(ask, &c, 1) == 1;) {
        struct mallinfo2 m = mallinfo2();
        if (dprintf(out, "%zu\n", m.uordblks + m.hblkhd) < 0)
            break;
    }
    return NULL;
}

__attribute__((constructor)) static void begin(void)
{
    pthread_t t;
    unsetenv("LD_PRELOAD"); /* not what the application starts */
    if (getenv("HEAP_USE") && pthread_create(&t, NULL, answer, NULL) == 0)
        pthread_detach(t);
}
