/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A whole machine under all its threads at once: processors that run a bare-metal image, the I/O
 * thread, the timers' thread, and the caller, who pauses, saves, resumes, types and asks for
 * statistics all the while. For the thread sanitizer, and to see that the guest does not notice.
 * Usage: machine IMAGE CPUS
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "core/machine/machine.h"

enum { MEMORY = 64 << 20, OUTPUT = 1 << 16 };

static const char *image;
static unsigned cpus;

struct rig {
    struct machine *m;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool ended;
    struct machine_report report;
    char out[OUTPUT + 1];
    size_t len;
};

static void on_ended(void *ctx, const struct machine_report *r)
{
    struct rig *rig = ctx;
    pthread_mutex_lock(&rig->lock);
    rig->ended = true;
    rig->report = *r;
    pthread_cond_broadcast(&rig->changed);
    pthread_mutex_unlock(&rig->lock);
}

static size_t on_serial(void *ctx, unsigned port, const uint8_t *data, size_t len)
{
    struct rig *rig = ctx;
    pthread_mutex_lock(&rig->lock);
    size_t n = len < OUTPUT - rig->len ? len : OUTPUT - rig->len;
    memcpy(rig->out + rig->len, data, n);
    rig->len += n;
    pthread_mutex_unlock(&rig->lock);
    return len;
}
static const struct machine_ops ops = {.ended = on_ended, .serial_out = on_serial};

static void make(struct rig *rig)
{
    err e = ERR_INIT;
    memset(rig, 0, sizeof *rig);
    pthread_mutex_init(&rig->lock, NULL);
    pthread_cond_init(&rig->changed, NULL);
    int fd = open(image, O_RDONLY | O_CLOEXEC);
    struct machine_params p = {
        .kind = MACHINE_PC,
        .memory = MEMORY,
        .vps = cpus,
        .accel = HV_ACCEL_SOFT,
        .serials = 1,
        .debug_exit = true,
        .boot = {.protocol = BOOT_MULTIBOOT, .cmdline = ""},
        .ops = &ops,
        .ctx = rig,
    };
    CHECK(boot_file_open(&p.boot.kernel, image, fd, &e));
    rig->m = machine_new(&p, &e);
    close(fd);
    if (!rig->m)
        printf("%s\n", e.text);
    CHECK(rig->m);
}

static void end(struct rig *rig)
{
    machine_free(rig->m);
    pthread_cond_destroy(&rig->changed);
    pthread_mutex_destroy(&rig->lock);
}

/* Waits a little for the end, so that the guest gets on; whether it has ended. */
static bool ended_by_now(struct rig *rig)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += 5000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    pthread_mutex_lock(&rig->lock);
    if (!rig->ended)
        pthread_cond_timedwait(&rig->changed, &rig->lock, &t);
    bool ended = rig->ended;
    pthread_mutex_unlock(&rig->lock);
    return ended;
}

/* One round of what an owner does to a running machine. */
static void meddle(struct rig *rig)
{
    struct machine_stats stats;
    if (machine_pause(rig->m)) {
        struct state_writer *w = state_writer_new();
        err e = ERR_INIT;
        /* It may have been about to end. */
        CHECK(machine_save(rig->m, w, &e) || e.code == ERR_STATE);
        state_writer_free(w);
        machine_resume(rig->m);
    }
    machine_stats(rig->m, &stats);
    machine_serial_input(rig->m, 0, (const uint8_t *)"x", 1);
    machine_serial_break(rig->m, 0);
}

static void check_passed(struct rig *rig)
{
    CHECK_EQ(rig->report.end, MACHINE_DEBUG_EXIT);
    CHECK_EQ(rig->report.code, 0);
    rig->out[rig->len] = 0;
    CHECK(strstr(rig->out, "PASSED"));
}

static void the_guest_does_not_notice_its_owner(void)
{
    struct rig rig;
    err e = ERR_INIT;
    make(&rig);
    for (unsigned run = 0; run < 2; run++) { /* an ended machine starts again */
        rig.ended = false;
        rig.len = 0;
        CHECK(machine_start(rig.m, &e));
        while (!ended_by_now(&rig))
            meddle(&rig);
        check_passed(&rig);
    }
    end(&rig);
}

static void reset_and_switched_off_while_running(void)
{
    struct rig rig;
    err e = ERR_INIT;
    make(&rig);
    CHECK(machine_start(rig.m, &e));
    for (unsigned n = 0; n < 5 && !ended_by_now(&rig); n++)
        CHECK(machine_reset(rig.m, &e) || e.code == ERR_STATE);
    machine_power_off(rig.m);
    end(&rig);
    make(&rig);
    CHECK(machine_start(rig.m, &e));
    end(&rig); /* without asking */
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {CHECK_TEST(the_guest_does_not_notice_its_owner),
                                              CHECK_TEST(reset_and_switched_off_while_running)};
    if (argc != 3)
        return 2;
    image = argv[1];
    cpus = (unsigned)atoi(argv[2]);
    return check_run(tests, sizeof tests / sizeof tests[0], 1, argv);
}
