/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Memory images, and checkpoints of a machine that is off: what they hold, and that being killed at
 * any moment loses nothing. VIREO_KILLS sets how often (60). */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/machine/checkpoint.h"
#include "core/machine/memfile.h"
#include "core/machine/store.h"
#include "core/machine/storefs.h"
#include "core/storage/disk-tool.h"
#include "tests/lib/check.h"

static char top[64];

static bool good(bool ok, const err *e)
{
    if (!ok)
        fprintf(stderr, "   %s\n", e->text);
    return ok;
}

/* ---- memory images ---- */

enum { PAGES = 1500 };

static struct hv_memory *make_ram(void)
{
    err e = ERR_INIT;
    struct hv_memory *m = hv_memory_new(&e);
    CHECK(hv_memory_add_ram(m, 0, 1000 * 4096, &e));
    CHECK(hv_memory_add_ram(m, GIB(4), (PAGES - 1000) * 4096, &e));
    return m;
}

static uint64_t gpa_of(unsigned page)
{
    return page < 1000 ? page * 4096ull : GIB(4) + (page - 1000) * 4096ull;
}

static void fill(struct hv_memory *m, unsigned page, uint8_t value)
{
    uint8_t buf[4096];
    memset(buf, value, sizeof buf);
    CHECK(hv_memory_write(m, gpa_of(page), buf, sizeof buf));
}

static bool write_image(struct hv_memory *m, const struct guid *id, const struct memfile *below,
                        uint64_t *stored)
{
    err e = ERR_INIT;
    AUTO(memfile_writer) w = memfile_writer_new(top, id, m, below, &e);
    bool ok = w && memfile_writer_run(w) == 0 && memfile_writer_commit(w, &e);
    *stored = w ? memfile_writer_stored(w) : 0;
    return good(ok, &e);
}

static void compare(struct hv_memory *a, struct hv_memory *b)
{
    uint8_t x[4096], y[4096];
    unsigned wrong = 0;
    for (unsigned i = 0; i < PAGES; i++) {
        CHECK(hv_memory_read(a, gpa_of(i), x, sizeof x) && hv_memory_read(b, gpa_of(i), y, 4096));
        wrong += memcmp(x, y, sizeof x) != 0;
    }
    CHECK_EQ(wrong, 0);
}

static void flip(const char *ending, const struct guid *id, off_t at)
{
    char text[GUID_STR_LEN + 1], path[200];
    uint8_t b = 0;
    guid_format(id, text);
    snprintf(path, sizeof path, "%s/%s%s", top, text, ending);
    int fd = open(path, O_RDWR);
    CHECK(pread(fd, &b, 1, at) == 1);
    b ^= 0x10;
    CHECK(pwrite(fd, &b, 1, at) == 1);
    close(fd);
}

static void test_memory(void)
{
    err e = ERR_INIT;
    struct guid a, b;
    uint64_t stored = 0;
    struct hv_memory *m = make_ram(), *back = make_ram();
    guid_random(&a);
    guid_random(&b);
    for (unsigned i = 0; i < 700; i += 7)
        fill(m, i, (uint8_t)(i + 1));
    fill(m, 1499, 9);
    CHECK(write_image(m, &a, NULL, &stored));
    CHECK_EQ(stored, 100); /* one of them is zero */
    struct memfile *below = memfile_open(top, &a, &e);
    CHECK(good(below != NULL, &e));
    fill(m, 7, 0xaa); /* changed */
    fill(m, 14, 0);   /* zero now */
    fill(m, 999, 3);  /* new */
    CHECK(write_image(m, &b, below, &stored));
    CHECK_EQ(stored, 2);
    struct memfile *image = memfile_open(top, &b, &e);
    CHECK(good(image != NULL, &e));
    CHECK_EQ(memfile_depth(image), 1);
    CHECK(good(memfile_map(image, back, &e), &e));
    compare(m, back);
    fill(back, 21, 0x55); /* private: the file stays as it is */
    CHECK(good(memfile_check(image, NULL, NULL, &e), &e));
    CHECK(good(memfile_check(below, NULL, NULL, &e), &e));
    flip(".ram", &b, 7 * 4096 + 100);
    CHECK(!memfile_check(image, NULL, NULL, &e));
    memfile_close(image);
    memfile_close(below);
    for (off_t at = 0; at < 540; at += 13) {
        if (at == 13 || at == 117) /* versions: they say how to read what follows, no more */
            continue;
        flip(".map", &b, at);
        image = memfile_open(top, &b, &e);
        CHECK(!image);
        memfile_close(image);
        flip(".map", &b, at);
    }
    hv_memory_free(m);
    hv_memory_free(back);
}

/* ---- a machine with a disk ---- */

static struct store *store;
static struct guid vm;
static char *folder;

static void on_disk(const char *path, uint32_t *value, bool write)
{
    err e = ERR_INIT;
    uint32_t block[128] = {0}, other[128];
    struct loop *l = loop_new(&e);
    struct disk *d = disk_open(&(struct disk_open_params){.path = path,
                                                          .opener = &disk_opener_paths,
                                                          .loop = l,
                                                          .flags = write ? 0 : DISK_OPEN_READ_ONLY},
                               &e);
    CHECK(good(d != NULL, &e));
    if (d && write) {
        block[0] = *value;
        CHECK(disk_write_sync(d, 0, block, 512) == 0);
        CHECK(disk_write_sync(d, MIB(9), block, 512) == 0);
        CHECK(disk_flush_sync(d) == 0);
    } else if (d) {
        CHECK(disk_read_sync(d, 0, block, 512) == 0 && disk_read_sync(d, MIB(9), other, 512) == 0);
        CHECK_EQ(block[0], other[0]);
        *value = block[0];
    }
    if (d)
        disk_close(d);
    loop_free(l);
}

static uint32_t config_value(const struct vm_config *c)
{
    char path[400];
    uint32_t value = 0;
    const char *name = c && c->n_disks ? c->disks[0].path : "?";
    snprintf(path, sizeof path, "%s%s%s", name[0] == '/' ? "" : folder, name[0] == '/' ? "" : "/",
             name);
    on_disk(path, &value, false);
    return value;
}

static uint32_t present(void)
{
    err e = ERR_INIT;
    AUTO(vm_config) c = store_load(store, &vm, &e);
    CHECK(good(c != NULL, &e));
    return config_value(c);
}

static void write_present(uint32_t value)
{
    err e = ERR_INIT;
    char path[400];
    AUTO(vm_config) c = store_load(store, &vm, &e);
    CHECK(good(c != NULL, &e));
    snprintf(path, sizeof path, "%s/%s", folder, c->disks[0].path);
    on_disk(path, &value, true);
}

static void make_vm(void)
{
    err e = ERR_INIT;
    char root[100], path[400];
    snprintf(root, sizeof root, "%s/store", top);
    store = store_open(root, &e);
    AUTO(vm_config) c = vm_config_new(&e);
    CHECK(vm_config_set(c, "machine.name", "m", &e) && vm_config_set(c, "boot.kernel", "/k", &e) &&
          vm_config_set(c, "disk0.path", "disk.vhdx", &e));
    CHECK(good(store_create(store, c, NULL, &e), &e));
    vm = c->id;
    folder = store_path(store, &vm, NULL, &e);
    snprintf(path, sizeof path, "%s/disk.vhdx", folder);
    struct loop *l = loop_new(&e);
    CHECK(
        good(disk_create(
                 &(struct disk_create_params){.path = path, .size = MIB(16), .type = DISK_DYNAMIC},
                 l, &e),
             &e));
    loop_free(l);
}

static void drop_vm(void)
{
    store_delete(store, strrchr(folder, '/') + 1, 0, NULL);
    free(folder);
    store_close(store);
}

static bool create(uint32_t value)
{
    err e = ERR_INIT;
    char name[32];
    snprintf(name, sizeof name, "%u", value);
    struct checkpoint c = {.name = strdup(name)};
    bool ok = good(checkpoint_create_off(folder, &c, &e), &e);
    checkpoint_clear(&c);
    return ok;
}

/* Every checkpoint has what its name says; nothing lies about that nobody needs. */
static unsigned look(bool tidy)
{
    err e = ERR_INIT;
    struct checkpoint_tree t;
    CHECK(good(checkpoint_tree_load(folder, &t, &e), &e));
    for (size_t i = 0; i < t.n; i++) {
        AUTO(vm_config) c = checkpoint_config(folder, &t.list[i].id, &e);
        CHECK(good(c != NULL, &e));
        CHECK(t.list[i].complete);
        CHECK_EQ(config_value(c), (uint32_t)atoi(t.list[i].name));
    }
    unsigned n = (unsigned)t.n, layers = 0;
    checkpoint_tree_clear(&t);
    DIR *d = opendir(folder);
    for (struct dirent *de; (de = readdir(d));)
        layers += strstr(de->d_name, ".avhdx") != NULL;
    closedir(d);
    /* Each layer is somebody's, or a place where the tree branches. */
    if (tidy)
        CHECK(layers <= 2 * (n + 1));
    return n;
}

static struct guid nth(unsigned i)
{
    struct checkpoint_tree t;
    CHECK(checkpoint_tree_load(folder, &t, NULL));
    struct guid id = t.list[i % t.n].id;
    checkpoint_tree_clear(&t);
    return id;
}

static void test_tree(void)
{
    err e = ERR_INIT;
    make_vm();
    for (uint32_t v = 1; v <= 4; v++) {
        write_present(v);
        CHECK(create(v));
    }
    write_present(5);
    CHECK_EQ(look(false), 4);
    CHECK_EQ(present(), 5);
    struct guid second = nth(1);
    CHECK(good(checkpoint_apply(folder, &second, &e), &e));
    CHECK_EQ(present(), 2);
    write_present(6);
    CHECK(create(6)); /* a branch */
    CHECK_EQ(look(false), 5);
    struct checkpoint_tree t;
    CHECK(checkpoint_tree_load(folder, &t, &e));
    CHECK(guid_equal(&t.list[t.n - 1].parent, &second));
    CHECK(guid_equal(&t.current, &t.list[t.n - 1].id));
    checkpoint_tree_clear(&t);
    CHECK(good(checkpoint_rename(folder, &second, "2", &e), &e));
    CHECK(good(checkpoint_delete(folder, &second, false, &e), &e));
    CHECK(good(checkpoint_merge_off(folder, NULL, NULL, &e), &e));
    CHECK_EQ(look(true), 4);
    CHECK_EQ(present(), 6);
    struct guid first = nth(0);
    CHECK(good(checkpoint_delete(folder, &first, true, &e), &e));
    CHECK(good(checkpoint_merge_off(folder, NULL, NULL, &e), &e));
    CHECK_EQ(look(true), 0);
    CHECK_EQ(present(), 6);
    AUTO(vm_config) c = store_load(store, &vm, &e);
    CHECK_STR(c->disks[0].path, "disk.vhdx"); /* all merged into where it began */
    drop_vm();
}

/* Layers made before the disks below were merged, or by somebody who lies about them. */
static void test_layers(void)
{
    err e = ERR_INIT;
    struct checkpoint_layers l, other;
    make_vm();
    write_present(1);
    CHECK(create(1));
    write_present(2);
    CHECK(create(2));
    struct guid first = nth(0), second = nth(1);
    CHECK(good(checkpoint_make_layers(folder, &second, &other, &e), &e));
    CHECK(!checkpoint_apply_layers(folder, &first, &other, &e) && e.code == ERR_INVALID);
    CHECK_EQ(present(), 2);
    CHECK(good(checkpoint_make_layers(folder, &first, &l, &e), &e));
    CHECK(good(checkpoint_apply_layers(folder, &first, &l, &e), &e));
    CHECK_EQ(present(), 1);
    checkpoint_layers_clear(&l);
    checkpoint_layers_clear(&other);
    drop_vm();
}

static void test_refusals(void)
{
    err e = ERR_INIT;
    char path[400], text[GUID_STR_LEN + 1];
    make_vm();
    write_present(1);
    CHECK(create(1));
    struct guid id = nth(0);
    guid_format(&id, text);
    snprintf(path, sizeof path, "%s/checkpoints/%s", folder, text);
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    size_t len = 0;
    char *was = storefs_read(fd, "checkpoint.ini", 65536, &len, &e);
    const char newer[] = "[checkpoint]\nversion = 2\n";
    CHECK(storefs_write(fd, "checkpoint.ini", newer, strlen(newer), &e));
    CHECK(!checkpoint_apply(folder, &id, &e) && strstr(e.text, "newer"));
    CHECK_EQ(present(), 1);
    struct checkpoint_plan plan;
    CHECK(checkpoint_sweep(folder, false, &plan, &e)); /* takes nothing from what it cannot read */
    checkpoint_plan_clear(&plan);
    CHECK(storefs_write(fd, "checkpoint.ini", was, len, &e));
    CHECK_EQ(look(false), 1);
    char base[420], away[420];
    snprintf(base, sizeof base, "%s/disk.vhdx", folder);
    snprintf(away, sizeof away, "%s/away", folder);
    CHECK(rename(base, away) == 0);
    CHECK(!checkpoint_apply(folder, &id, &e));
    CHECK(checkpoint_sweep(folder, false, &plan, &e));
    checkpoint_plan_clear(&plan);
    CHECK(rename(away, base) == 0);
    CHECK_EQ(look(false), 1);
    CHECK_EQ(present(), 1);
    free(was);
    close(fd);
    drop_vm();
}

/* ---- killed ---- */

enum operation { CREATE, APPLY, DELETE, MERGE, OPERATIONS };

/* How many checkpoints there are when it is done. */
static unsigned count_then(enum operation what, unsigned n, const struct guid *id, bool subtree)
{
    struct checkpoint_tree t;
    CHECK(checkpoint_tree_load(folder, &t, NULL));
    bool in[CHECKPOINT_MAX] = {false};
    unsigned gone = 0;
    for (size_t i = 0; i < t.n && what == DELETE; i++) { /* parents come before theirs */
        in[i] = guid_equal(&t.list[i].id, id);
        for (size_t k = 0; k < i && subtree; k++)
            in[i] |= in[k] && guid_equal(&t.list[i].parent, &t.list[k].id);
        gone += in[i];
    }
    checkpoint_tree_clear(&t);
    return what == CREATE ? n + 1 : n - gone;
}

static void work(enum operation what, uint32_t value, const struct guid *id, bool subtree)
{
    err e = ERR_INIT;
    if (what == CREATE)
        create(value);
    else if (what == APPLY)
        checkpoint_apply(folder, id, &e);
    else if (what == DELETE && checkpoint_delete(folder, id, subtree, &e))
        checkpoint_merge_off(folder, NULL, NULL, &e);
    else
        checkpoint_merge_off(folder, NULL, NULL, &e);
    _exit(0);
}

static uint32_t value_of(const struct guid *id)
{
    struct checkpoint_tree t;
    uint32_t v = 0;
    CHECK(checkpoint_tree_load(folder, &t, NULL));
    for (size_t i = 0; i < t.n; i++)
        if (guid_equal(&t.list[i].id, id))
            v = (uint32_t)atoi(t.list[i].name);
    checkpoint_tree_clear(&t);
    return v;
}

/* Does it in a process that is killed: after a time, or, where processes may be traced, at one of
 * its system calls. */
static void cut(enum operation what, uint32_t value, const struct guid *id, bool subtree)
{
    bool by_call = rand() % 2;
    long calls = rand() % (rand() % 4 ? 300 : 3000);
    struct timespec t = {0, rand() % 60000000};
    pid_t pid = fork();
    if (pid == 0) {
        if (by_call && ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0)
            raise(SIGSTOP);
        work(what, value, id, subtree);
    }
    int status = 0;
    if (!by_call)
        nanosleep(&t, NULL);
    while (by_call && waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) && calls--)
        ptrace(PTRACE_SYSCALL, pid, NULL, NULL);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void one_kill(uint32_t value, unsigned *n)
{
    err e = ERR_INIT;
    struct guid id = {{0}};
    enum operation what = *n < 2 ? CREATE : *n > 6 ? DELETE : (enum operation)(rand() % OPERATIONS);
    if (what == APPLY || what == DELETE)
        id = nth((unsigned)rand());
    if (rand() % 2)
        write_present(value);
    uint32_t before = present(), after = what == APPLY ? value_of(&id) : before;
    bool subtree = rand() % 3 == 0;
    unsigned then = count_then(what, *n, &id, subtree);
    cut(what, before, &id, subtree);
    CHECK(good(checkpoint_recover(folder, &e), &e));
    bool tidy = rand() % 3 == 0;
    CHECK(!tidy || good(checkpoint_merge_off(folder, NULL, NULL, &e), &e));
    uint32_t now = present();
    CHECK(now == before || now == after);
    unsigned left = look(tidy);
    CHECK(left == *n || left == then); /* all of it or nothing */
    *n = left;
}

static void test_kills(void)
{
    const char *s = getenv("VIREO_KILLS");
    unsigned kills = s ? (unsigned)atoi(s) : 60, n = 0;
    err e = ERR_INIT;
    make_vm();
    write_present(1);
    srand(s ? (unsigned)time(NULL) : 1);
    for (uint32_t i = 0; i < kills && !check_failures; i++)
        one_kill(i + 2, &n);
    uint32_t now = present();
    while (n) {
        struct guid id = nth(0);
        CHECK(good(checkpoint_delete(folder, &id, true, &e), &e));
        CHECK(good(checkpoint_merge_off(folder, NULL, NULL, &e), &e));
        unsigned left = look(true);
        CHECK(left < n);
        n = left < n ? left : 0;
    }
    CHECK_EQ(present(), now);
    AUTO(vm_config) c = store_load(store, &vm, &e);
    CHECK(c && !strcmp(c->disks[0].path, "disk.vhdx"));
    drop_vm();
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {CHECK_TEST(test_memory), CHECK_TEST(test_tree),
                                              CHECK_TEST(test_layers), CHECK_TEST(test_refusals),
                                              CHECK_TEST(test_kills)};
    strcpy(top, "/tmp/vireo-checkpoint-XXXXXX");
    if (!mkdtemp(top))
        return 1;
    int status = check_run(tests, ARRAY_LEN(tests), argc, argv);
    storefs_remove(AT_FDCWD, top, NULL);
    return status;
}
