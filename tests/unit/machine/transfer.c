/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Exports, imports, moves and clones of machines that are off; cut off at any point. */
#include "core/machine/transfer.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/machine/archive.h"
#include "core/machine/storefs.h"
#include "core/storage/disk-tool.h"
#include "tests/lib/check.h"

static char top[64], other[64]; /* on two file systems, where there are */
static struct store *store;

static bool good(bool ok, const err *e)
{
    if (!ok)
        fprintf(stderr, "   %s\n", e->text);
    return ok;
}

/* ---- archives ---- */

static int temporary(void)
{
    char path[100];
    snprintf(path, sizeof path, "%s/fileXXXXXX", top);
    int fd = mkstemp(path);
    unlink(path);
    return fd;
}

static int write_archive(uint64_t hole)
{
    err e = ERR_INIT;
    int fd = temporary(), file = temporary();
    CHECK(pwrite(file, "begin", 5, 0) == 5 && pwrite(file, "end", 3, (off_t)hole) == 3);
    AUTO(archive_writer) a = archive_writer_new(fd, &e);
    CHECK(good(archive_add_bytes(a, "export.ini", "text", 4, &e), &e));
    CHECK(good(archive_add_file(a, "states/a file", file, NULL, &e), &e));
    CHECK(!archive_add_bytes(a, "../x", "", 0, &e) && !archive_add_bytes(a, "/x", "", 0, &e) &&
          !archive_add_bytes(a, ".x", "", 0, &e) && !archive_add_bytes(a, "a//b", "", 0, &e));
    CHECK(good(archive_end(a, &e), &e));
    close(file);
    return fd;
}

static bool read_archive(int fd, uint64_t hole)
{
    err e = ERR_INIT;
    struct archive_entry entry;
    struct stat st;
    size_t len;
    bool end = false;
    char buf[8] = "";
    lseek(fd, 0, SEEK_SET);
    AUTO(archive_reader) a = archive_reader_new(fd, &e);
    AUTO(fd) out = temporary();
    if (!archive_next(a, &entry, &end, &e) || strcmp(entry.name, "export.ini"))
        return false;
    AUTO(str) text = archive_read(a, 100, &len, &e);
    if (!text || strcmp(text, "text") || !archive_next(a, &entry, &end, &e) ||
        strcmp(entry.name, "states/a file") || entry.size != hole + 3 ||
        !archive_extract(a, out, NULL, &e))
        return false;
    CHECK(fstat(out, &st) == 0 && (uint64_t)st.st_size == hole + 3);
    CHECK((uint64_t)st.st_blocks * 512 < 1 << 20);
    CHECK(pread(out, buf, 3, (off_t)hole) == 3 && !strcmp(buf, "end"));
    return !archive_next(a, &entry, &end, &e) && end && e.code == ERR_NONE;
}

static void test_archive(void)
{
    const uint64_t hole = MIB(40) + 17;
    AUTO(fd) fd = write_archive(hole);
    CHECK(read_archive(fd, hole));
    unsigned unnoticed = 0;
    off_t size = lseek(fd, 0, SEEK_END);
    for (off_t at = 0; at < size; at += MAX(size / 40, 1)) {
        uint8_t b;
        CHECK(pread(fd, &b, 1, at) == 1);
        b ^= 0x20;
        CHECK(pwrite(fd, &b, 1, at) == 1);
        unnoticed += read_archive(fd, hole); /* what was read was right even so */
        b ^= 0x20;
        CHECK(pwrite(fd, &b, 1, at) == 1);
    }
    CHECK(unnoticed <= 2); /* bits that no decoder looks at */
    CHECK(ftruncate(fd, size - 4) == 0);
    CHECK(!read_archive(fd, hole));
}

/* ---- a machine with a disk elsewhere, two checkpoints on it ---- */

static void disk_io(const char *path, uint32_t *value, bool write)
{
    err e = ERR_INIT;
    uint32_t block[128] = {*value};
    struct loop *l = loop_new(&e);
    struct disk_open_params p = {.path = path,
                                 .opener = &disk_opener_paths,
                                 .loop = l,
                                 .flags = write ? 0 : DISK_OPEN_READ_ONLY};
    struct disk *d = disk_open(&p, &e);
    CHECK(good(d != NULL, &e));
    if (d) {
        CHECK((write ? disk_write_sync(d, 0, block, 512) : disk_read_sync(d, 0, block, 512)) == 0);
        CHECK(!write || disk_flush_sync(d) == 0);
        disk_close(d);
    }
    *value = block[0];
    loop_free(l);
}

static char *disk_of(const struct guid *id, const struct guid *checkpoint)
{
    err e = ERR_INIT;
    char *path = NULL;
    AUTO(str) folder = store_path(store, id, NULL, &e);
    AUTO(vm_config)
    c = checkpoint ? checkpoint_config(folder, checkpoint, &e) : store_load(store, id, &e);
    CHECK(good(c != NULL, &e));
    const char *name = c ? c->disks[0].path : "/none";
    CHECK(asprintf(&path, "%s%s%s", *name == '/' ? "" : folder, *name == '/' ? "" : "/", name) > 0);
    return path;
}

static uint32_t value_of(const struct guid *id, const struct guid *checkpoint)
{
    uint32_t v = 0;
    AUTO(str) path = disk_of(id, checkpoint);
    disk_io(path, &v, false);
    return v;
}

static void set_value(const struct guid *id, uint32_t v)
{
    AUTO(str) path = disk_of(id, NULL);
    disk_io(path, &v, true);
}

static struct guid checkpoint(const struct guid *id, const char *name)
{
    err e = ERR_INIT;
    AUTO(str) folder = store_path(store, id, NULL, &e);
    struct checkpoint c = {.name = strdup(name)};
    CHECK(good(checkpoint_create_off(folder, &c, &e), &e));
    struct guid made = c.id;
    checkpoint_clear(&c);
    return made;
}

/* Values 1 and 2 in the checkpoints, 3 in the present. */
static struct guid make_vm(const char *disk_folder, struct guid made[2])
{
    err e = ERR_INIT;
    char path[400], dvd[400];
    snprintf(path, sizeof path, "%s/disk.vhdx", disk_folder);
    snprintf(dvd, sizeof dvd, "%s/x.iso", top);
    AUTO(vm_config) c = vm_config_new(&e);
    CHECK(vm_config_set(c, "machine.name", "m", &e) && vm_config_set(c, "boot.from", "linux", &e) &&
          vm_config_set(c, "disk0.path", path, &e) && vm_config_set(c, "disk1.media", "dvd", &e) &&
          vm_config_set(c, "disk1.slot", "1", &e) && vm_config_set(c, "disk1.path", dvd, &e) &&
          vm_config_set(c, "port0.kind", "file", &e) &&
          vm_config_set(c, "port0.path", "/tmp/never", &e) &&
          vm_config_set(c, "adapter0.host-access", "true", &e));
    snprintf(dvd, sizeof dvd, "%s/kernel", top);
    int fd = open(dvd, O_WRONLY | O_CREAT, 0600);
    CHECK(write(fd, "k", 1) == 1);
    close(fd);
    CHECK(vm_config_set(c, "boot.kernel", dvd, &e));
    CHECK(good(store_create(store, c, NULL, &e), &e));
    struct loop *l = loop_new(&e);
    struct disk_create_params p = {
        .path = path, .size = MIB(16), .type = DISK_DYNAMIC, .force = true};
    CHECK(good(disk_create(&p, l, &e), &e));
    loop_free(l);
    set_value(&c->id, 1);
    made[0] = checkpoint(&c->id, "one");
    set_value(&c->id, 2);
    made[1] = checkpoint(&c->id, "two");
    set_value(&c->id, 3);
    return c->id;
}

static void drop(const struct guid *id)
{
    err e = ERR_INIT;
    char text[GUID_STR_LEN + 1];
    guid_format(id, text);
    CHECK(good(store_delete(store, text, 0, &e), &e));
}

static bool is_whole(const struct guid *id, const struct guid made[2])
{
    return value_of(id, NULL) == 3 && value_of(id, &made[0]) == 1 && value_of(id, &made[1]) == 2;
}

static void check_safe(const struct guid *id)
{
    err e = ERR_INIT;
    AUTO(vm_config) c = store_load(store, id, &e);
    CHECK(good(c != NULL, &e));
    CHECK(!c->disks[1].path && c->ports[0].kind == VM_PORT_NONE && !c->ports[0].path);
    CHECK(!c->adapters[0].host_access && strcmp(c->kernel, "kernel") == 0);
    CHECK_STR(c->name, "copy");
}

static void test_export(void)
{
    err e = ERR_INIT;
    char file[100], place[100];
    struct guid made[2], copy, one;
    struct guid id = make_vm(top, made);
    AUTO(str) folder = store_path(store, &id, NULL, &e);
    snprintf(file, sizeof file, "%s/x.vireo", top);
    snprintf(place, sizeof place, "%s/place", top);
    mkdir(place, 0700);
    CHECK(good(transfer_export(folder, NULL, file, false, NULL, &e), &e));
    CHECK(!transfer_export(folder, NULL, file, false, NULL, &e) && e.code == ERR_EXISTS);
    const struct transfer_import in = {.path = file, .name = "copy", .place = place};
    CHECK(good(transfer_import(store, &in, &copy, NULL, &e), &e));
    CHECK(!guid_equal(&copy, &id) && is_whole(&copy, made));
    check_safe(&copy);
    set_value(&copy, 9);
    CHECK(is_whole(&id, made));
    const struct transfer_import twice = {.path = file, .keep_id = true};
    struct guid same;
    CHECK(!transfer_import(store, &twice, &same, NULL, &e) && e.code == ERR_EXISTS);
    CHECK(good(transfer_export(folder, &made[0], file, true, NULL, &e), &e));
    drop(&id);
    const struct transfer_import of_one = {.path = file, .keep_id = true};
    CHECK(good(transfer_import(store, &of_one, &one, NULL, &e), &e));
    CHECK(guid_equal(&one, &id));
    CHECK_EQ(value_of(&one, NULL), 1);
    /* A folder, too; the copy stays. */
    AUTO(str) from = store_path(store, &copy, NULL, &e);
    const struct transfer_import of_folder = {.path = from, .name = "copy"};
    struct guid third;
    CHECK(good(transfer_import(store, &of_folder, &third, NULL, &e), &e));
    CHECK_EQ(value_of(&third, NULL), 9);
    CHECK_EQ(value_of(&third, &made[1]), 2);
    check_safe(&third);
    drop(&one);
    drop(&copy);
    drop(&third);
}

/* What a hostile export may not do. */
static void test_refused(void)
{
    static const struct {
        const char *config, *more;
    } cases[] = {
        {"[disk 0]\npath = /etc/passwd\n", NULL},
        {"[disk 0]\npath = ../other/disk.vhdx\n", NULL},
        {"[disk 0]\npath = missing.vhdx\n", NULL},
        {"[boot]\nkernel = /etc/passwd\n", NULL},
        {"", "lock"},
        {"", "checkpoints/x/machine.ini"},
        {"", "states/a/b"},
        {"[state]\nsaved = 11111111-1111-4111-8111-111111111111\n", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        err e = ERR_INIT;
        char file[100], text[1000];
        struct guid id;
        snprintf(file, sizeof file, "%s/bad.vireo", top);
        snprintf(text, sizeof text,
                 "[machine]\nversion = 1\nid = 11111111-1111-4111-8111-111111111111\nname = m\n%s",
                 cases[i].config);
        AUTO(fd) fd = open(file, O_RDWR | O_CREAT | O_TRUNC, 0600);
        AUTO(archive_writer) a = archive_writer_new(fd, &e);
        const char ini[] = "[export]\nversion = 1\n";
        CHECK(archive_add_bytes(a, "export.ini", ini, strlen(ini), &e) &&
              archive_add_bytes(a, "machine.ini", text, strlen(text), &e) &&
              (!cases[i].more || archive_add_bytes(a, cases[i].more, "", 0, &e)) &&
              archive_end(a, &e));
        const struct transfer_import in = {.path = file};
        CHECK(!transfer_import(store, &in, &id, NULL, &e));
        CHECK(e.code == ERR_CORRUPT || e.code == ERR_INVALID);
        struct store_list l;
        CHECK(store_list(store, &l, &e));
        CHECK_EQ(l.n, 0);
        store_list_clear(&l);
    }
}

static void test_clone(void)
{
    err e = ERR_INIT;
    struct guid made[2], clone;
    char text[GUID_STR_LEN + 1];
    struct guid id = make_vm(top, made);
    CHECK(good(transfer_clone(store, &id, &made[0], &clone, &e), &e));
    CHECK_EQ(value_of(&clone, NULL), 1);
    set_value(&clone, 7);
    CHECK(is_whole(&id, made));
    AUTO(vm_config) c = store_load(store, &clone, &e);
    CHECK(c && c->adapters[0].kind == VM_SWITCH_NONE);
    AUTO(str) path = store_path(store, &clone, STORE_DISPOSABLE_NAME, &e);
    const struct timespec old[2] = {{1, 0}, {1, 0}};
    store_sweep(store);
    CHECK(storefs_is_there(path)); /* its worker may be about to come */
    CHECK(utimensat(AT_FDCWD, path, old, 0) == 0);
    int lock = store_lock(store, &clone, &e);
    store_sweep(store);
    CHECK(storefs_is_there(path));
    close(lock);
    store_sweep(store);
    CHECK(!storefs_is_there(path));
    guid_format(&clone, text);
    CHECK(is_whole(&id, made));
    drop(&id);
}

/* ---- moving ---- */

static unsigned hidden_in(const char *folder)
{
    unsigned n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *de; d && (de = readdir(d));)
        n += de->d_name[0] == '.' && strcmp(de->d_name, ".") && strcmp(de->d_name, "..");
    if (d)
        closedir(d);
    return n;
}

static void test_move(void)
{
    err e = ERR_INIT;
    struct guid made[2];
    struct guid id = make_vm(top, made);
    char near[100], far[100], *const places[] = {near, far, near, NULL, far, NULL};
    snprintf(near, sizeof near, "%s/near", top);
    snprintf(far, sizeof far, "%s/far", other);
    mkdir(near, 0700);
    mkdir(far, 0700);
    CHECK(!transfer_move(store, &id, NULL, NULL, &e) && e.code == ERR_EXISTS);
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        char real[PATH_MAX];
        CHECK(good(transfer_move(store, &id, places[i], NULL, &e), &e));
        AUTO(str) path = store_path(store, &id, NULL, &e);
        CHECK(realpath(path, real) != NULL);
        CHECK(!places[i] || !strncmp(real, places[i], strlen(places[i])));
        CHECK(places[i] || !storefs_is_link(path));
        CHECK(is_whole(&id, made));
        CHECK_EQ(hidden_in(store_root(store)) + hidden_in(near) + hidden_in(far), 0);
    }
    drop(&id);
}

/* ---- killed ---- */

static void work(unsigned what, const struct guid *id, const struct guid *one, const char *file)
{
    err e = ERR_INIT;
    struct guid out;
    char far[100];
    AUTO(str) folder = store_path(store, id, NULL, &e);
    const struct transfer_import in = {.path = file, .name = "copy"};
    snprintf(far, sizeof far, "%s/far", what % 2 ? other : top);
    if (what < 2)
        transfer_export(folder, what ? one : NULL, file, true, NULL, &e);
    else if (what == 2)
        transfer_import(store, &in, &out, NULL, &e);
    else if (what == 3)
        transfer_clone(store, id, one, &out, &e);
    else if (!transfer_move(store, id, far, NULL, &e))
        transfer_move(store, id, NULL, NULL, &e);
    _exit(0);
}

/* Copies are whole, or not there. */
static void drop_copies(const struct guid *id, const struct guid made[2])
{
    err e = ERR_INIT;
    struct store_list l;
    unsigned found = 0;
    CHECK(store_list(store, &l, &e));
    for (size_t i = 0; i < l.n; i++) {
        if (guid_equal(&l.entries[i].id, id)) {
            found++;
            continue;
        }
        CHECK(l.entries[i].config != NULL);
        if (l.entries[i].config && !strcmp(l.entries[i].config->name, "copy"))
            CHECK(is_whole(&l.entries[i].id, made));
        drop(&l.entries[i].id);
    }
    CHECK_EQ(found, 1);
    store_list_clear(&l);
}

static void age_disposables(void)
{
    const struct timespec old[2] = {{1, 0}, {1, 0}};
    DIR *d = opendir(store_root(store));
    for (struct dirent *de; d && (de = readdir(d));) {
        char path[400];
        snprintf(path, sizeof path, "%s/%s/" STORE_DISPOSABLE_NAME, store_root(store), de->d_name);
        utimensat(AT_FDCWD, path, old, 0);
    }
    closedir(d);
}

static void test_kills(void)
{
    const char *s = getenv("VIREO_KILLS");
    unsigned kills = s ? (unsigned)atoi(s) : 25;
    err e = ERR_INIT;
    struct guid made[2], out;
    struct guid id = make_vm(top, made);
    char file[100], far[2][100];
    snprintf(file, sizeof file, "%s/k.vireo", top);
    snprintf(far[0], sizeof far[0], "%s/far", top);
    snprintf(far[1], sizeof far[1], "%s/far", other);
    mkdir(far[0], 0700);
    mkdir(far[1], 0700);
    AUTO(str) folder = store_path(store, &id, NULL, &e);
    CHECK(good(transfer_export(folder, NULL, file, true, NULL, &e), &e));
    srand(s ? (unsigned)time(NULL) : 1);
    for (unsigned i = 0; i < kills && !check_failures; i++) {
        unsigned what = (unsigned)rand() % 6;
        pid_t pid = fork();
        if (pid == 0)
            work(what, &id, &made[0], file);
        struct timespec t = {0, rand() % 40000000};
        nanosleep(&t, NULL);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        age_disposables();
        store_sweep(store);
        CHECK_EQ(hidden_in(store_root(store)) + hidden_in(far[0]) + hidden_in(far[1]), 0);
        CHECK(is_whole(&id, made));
        drop_copies(&id, made);
        if (what < 2) { /* the file is one of the two, whole */
            const struct transfer_import in = {.path = file, .name = "copy"};
            CHECK(good(transfer_import(store, &in, &out, NULL, &e), &e));
            uint32_t v = value_of(&out, NULL);
            CHECK(v == 3 || v == 1);
            drop(&out);
            CHECK(good(transfer_export(folder, NULL, file, true, NULL, &e), &e));
        }
    }
    drop(&id);
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {CHECK_TEST(test_archive), CHECK_TEST(test_export),
                                              CHECK_TEST(test_refused), CHECK_TEST(test_clone),
                                              CHECK_TEST(test_move),    CHECK_TEST(test_kills)};
    err e = ERR_INIT;
    char root[100];
    strcpy(top, "/tmp/vireo-transfer-XXXXXX");
    strcpy(other, "/dev/shm/vireo-transfer-XXXXXX");
    if (!mkdtemp(top))
        return 1;
    if (!mkdtemp(other))
        strcpy(other, top);
    snprintf(root, sizeof root, "%s/store", top);
    store = store_open(root, &e);
    int status = store ? check_run(tests, ARRAY_LEN(tests), argc, argv) : 1;
    store_close(store);
    storefs_remove(AT_FDCWD, top, NULL);
    storefs_remove(AT_FDCWD, other, NULL);
    return status;
}
