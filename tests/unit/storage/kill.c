/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Processes that write are killed with SIGKILL, 200 times over, at any moment; and a file system
 * becomes full. What was flushed is there afterwards, and the disk is whole.
 *     kill [TIMES]
 * The child writes versions of sectors and, after each flush that succeeded, says so in shared
 * memory. The full file system is a tmpfs in a user and mount namespace of its own; where those are
 * not allowed that test is skipped.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/storage/disk-tool.h"

enum { SIZE = 64 << 20, SECTOR = 4096, SECTORS = SIZE / SECTOR };

struct shared {
    uint32_t flushed[SECTORS];   /* version that is durable */
    uint32_t submitted[SECTORS]; /* newest version that may be there */
};

static struct shared *sh;
static char dir[] = "storage-kill-XXXXXX";
static unsigned times = 200;

static bool make(struct loop *l, const char *path, enum disk_format f, err *e)
{
    return disk_create(&(struct disk_create_params){.path = path,
                                                    .format = f,
                                                    .type = DISK_DYNAMIC,
                                                    .size = SIZE,
                                                    .block_size = 1 << 20,
                                                    .force = true},
                       l, e);
}

static struct disk *open_it(struct loop *l, const char *path, err *e)
{
    return disk_open(
        &(struct disk_open_params){.path = path, .opener = &disk_opener_paths, .loop = l}, e);
}

static void fill(uint8_t *p, uint32_t sector, uint32_t version)
{
    for (int i = 0; i < SECTOR; i += 8)
        put_le64(p + i, (uint64_t)version << 32 | (version ? sector : 0));
}

static void child(const char *path, unsigned seed)
{
    struct loop *l = loop_new(NULL);
    struct disk *d = open_it(l, path, NULL);
    uint8_t buf[SECTOR];
    srandom(seed);
    if (!d)
        _exit(3);
    for (;;) {
        uint32_t some[16];
        for (int i = 0; i < 16; i++) {
            uint32_t s = some[i] = (uint32_t)random() % SECTORS;
            fill(buf, s, ++sh->submitted[s]);
            if (disk_write_sync(d, (uint64_t)s * SECTOR, buf, SECTOR) != 0)
                _exit(4);
        }
        if (disk_flush_sync(d) != 0)
            _exit(5);
        for (int i = 0; i < 16; i++)
            sh->flushed[some[i]] = sh->submitted[some[i]];
    }
}

static void say(void *ctx, enum disk_finding kind, const char *text)
{
    if (kind == DISK_DEFECT || kind == DISK_DAMAGE)
        fprintf(stderr, "%s\n", text);
}

static void verify(const char *path)
{
    struct loop *l = loop_new(NULL);
    err e = ERR_INIT;
    struct disk *d = open_it(l, path, &e);
    uint8_t buf[SECTOR];
    if (!d)
        fprintf(stderr, "%s\n", e.text);
    CHECK(d != NULL);
    for (uint32_t s = 0; d && s < SECTORS; s++) {
        if (!sh->submitted[s])
            continue;
        CHECK_EQ(disk_read_sync(d, (uint64_t)s * SECTOR, buf, SECTOR), 0);
        /* What was not flushed may be there in part, by sectors of 512. */
        uint32_t least = UINT32_MAX, most = 0;
        for (int i = 0; i < SECTOR; i += 512) {
            uint32_t version = (uint32_t)(get_le64(buf + i) >> 32);
            CHECK(get_le64(buf + i + 504) == get_le64(buf + i));
            least = MIN(least, version);
            most = MAX(most, version);
        }
        CHECK(least >= sh->flushed[s] && most <= sh->submitted[s]);
        sh->flushed[s] = least;
        sh->submitted[s] = most;
    }
    disk_close(d);
    struct disk_check_result r;
    CHECK(disk_check(path, false, l, say, NULL, NULL, &r, &e));
    CHECK_EQ(r.defects + r.damages, 0);
    loop_free(l);
}

static void killing(enum disk_format f, const char *name)
{
    char path[256];
    err e = ERR_INIT;
    struct loop *l = loop_new(NULL);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    memset(sh, 0, sizeof *sh);
    CHECK(make(l, path, f, &e));
    loop_free(l);
    for (unsigned i = 0; i < times / 2 && !check_failures; i++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid < 0)
            break; /* kill(-1) would end everything of this user */
        if (pid == 0)
            child(path, i);
        struct timespec t = {.tv_nsec = (long)(5 + random() % 60) * 1000000};
        nanosleep(&t, NULL);
        kill(pid, SIGKILL);
        int status;
        waitpid(pid, &status, 0);
        CHECK(WIFSIGNALED(status));
        verify(path);
    }
}

static void killed_writing_vhdx(void)
{
    killing(DISK_FORMAT_VHDX, "k.vhdx");
}
static void killed_writing_vhd(void)
{
    killing(DISK_FORMAT_VHD, "k.vhd");
}

/* ---- no space ---- */

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return ok;
}

/* 0: done, 77: not allowed here. In a child, which then has a small file system at `dir`. */
static int small_file_system(void)
{
    char map[64];
    uid_t uid = getuid();
    gid_t gid = getgid();
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return 77;
    write_file("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "0 %u 1", uid);
    if (!write_file("/proc/self/uid_map", map))
        return 77;
    snprintf(map, sizeof map, "0 %u 1", gid);
    if (!write_file("/proc/self/gid_map", map))
        return 77;
    return mount("none", dir, "tmpfs", 0, "size=20m") == 0 ? 0 : 77;
}

static void fill_up(struct loop *l, const char *path)
{
    err e = ERR_INIT;
    struct disk *d = open_it(l, path, &e);
    uint8_t buf[SECTOR];
    unsigned failed = 0;
    CHECK(d != NULL);
    for (uint32_t s = 0; d && s < SECTORS; s += 3) {
        fill(buf, s, 1);
        int rc = disk_write_sync(d, (uint64_t)s * SECTOR, buf, SECTOR);
        CHECK(rc == 0 || rc == ENOSPC);
        failed += rc != 0;
        sh->submitted[s] = rc == 0;
        if (s % 64 == 0 && disk_flush_sync(d) == 0)
            for (uint32_t k = 0; k <= s; k++)
                sh->flushed[k] = sh->submitted[k];
    }
    CHECK(failed > 0);
    disk_flush_sync(d);
    /* It still takes what it has room for. */
    fill(buf, 0, 2);
    CHECK_EQ(disk_write_sync(d, 0, buf, SECTOR), 0);
    sh->submitted[0] = 2;
    disk_close(d);
}

static void full_in_child(enum disk_format f, const char *name)
{
    char path[256];
    err e = ERR_INIT;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int rc = small_file_system();
    if (rc)
        exit(rc);
    struct loop *l = loop_new(NULL);
    CHECK(make(l, path, f, &e));
    fill_up(l, path);
    loop_free(l);
    verify(path);
    exit(check_failures != 0);
}

static void full(enum disk_format f, const char *name)
{
    int status;
    memset(sh, 0, sizeof *sh);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        full_in_child(f, name);
    waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        puts("skipped: no user namespaces here");
    else
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void a_full_file_system_vhdx(void)
{
    full(DISK_FORMAT_VHDX, "f.vhdx");
}
static void a_full_file_system_vhd(void)
{
    full(DISK_FORMAT_VHD, "f.vhd");
}
static void a_full_file_system_raw(void)
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        uint8_t buf[SECTOR] = {1};
        char path[256];
        int rc = small_file_system();
        if (rc)
            exit(rc);
        snprintf(path, sizeof path, "%s/f.raw", dir);
        struct loop *l = loop_new(NULL);
        err e = ERR_INIT;
        CHECK(disk_create(&(struct disk_create_params){.path = path, .size = SIZE}, l, &e) ||
              fprintf(stderr, "%s\n", e.text) < 0);
        struct disk *d = open_it(l, path, &e);
        bool refused = false;
        for (uint32_t s = 0; d && s < SECTORS && !refused; s++)
            refused = disk_write_sync(d, (uint64_t)s * SECTOR, buf, SECTOR) == ENOSPC;
        CHECK(refused);
        disk_close(d);
        exit(check_failures != 0);
    }
    waitpid(pid, &status, 0);
    CHECK(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77));
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        CHECK_TEST(a_full_file_system_vhdx), CHECK_TEST(a_full_file_system_vhd),
        CHECK_TEST(a_full_file_system_raw),  CHECK_TEST(killed_writing_vhdx),
        CHECK_TEST(killed_writing_vhd),
    };
    if (argc > 1)
        times = (unsigned)strtoul(argv[1], NULL, 0);
    log_set_level(LOG_ERROR);
    sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sh == MAP_FAILED || !mkdtemp(dir))
        return 1;
    int rc = check_run(tests, ARRAY_LEN(tests), 0, NULL);
    char cmd[64];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd) || rc;
}
