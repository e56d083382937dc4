/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/machine/store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "check.h"
#include "core/machine/storefs.h"

static char top[] = "/tmp/vireo-store-XXXXXX";

static struct store *fresh(err *e)
{
    static unsigned n;
    char root[200];
    snprintf(root, sizeof root, "%s/%u/data/vireo", top, n++);
    return store_open(root, e);
}

static struct guid add(struct store *s, const char *name)
{
    err e = ERR_INIT;
    AUTO(vm_config) c = vm_config_new(&e);
    vm_config_string(&c->name, name, &e);
    vm_config_add_adapter(c, VM_SWITCH_NAT, &e);
    CHECK(store_create(s, c, NULL, &e));
    return c->id;
}

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void creates_and_lists(void)
{
    err e = ERR_INIT;
    AUTO(store) s = fresh(&e);
    struct guid b = add(s, "beta"), found;
    add(s, "Alpha");
    struct store_list l;
    CHECK(store_list(s, &l, &e));
    CHECK_EQ(l.n, 2);
    CHECK_STR(l.entries[0].config->name, "Alpha");
    CHECK_STR(l.entries[1].config->name, "beta");
    CHECK(l.entries[1].config->created > 0);
    store_list_clear(&l);
    CHECK(store_find(s, "beta", &found, &e) && guid_equal(&found, &b));
    CHECK(!store_find(s, "gamma", &found, &e) && e.code == ERR_NOT_FOUND);
    add(s, "beta");
    CHECK(!store_find(s, "beta", &found, &e) && e.code == ERR_EXISTS);
}

static void damage_loses_only_itself(void)
{
    err e = ERR_INIT;
    AUTO(store) s = fresh(&e);
    struct guid bad = add(s, "bad"), copy = add(s, "copied");
    add(s, "good");
    AUTO(str) folder = store_path(s, &bad, NULL, &e);
    write_file(folder, STORE_CONFIG_NAME, "[machine]\nversion = 1\n\xff\xfe");
    AUTO(str) from = store_path(s, &copy, NULL, &e);
    char to[4200], link[4200];
    snprintf(to, sizeof to, "%s/a copy", store_root(s));
    CHECK(rename(from, to) == 0);
    snprintf(link, sizeof link, "%s/6f9b1c1e-0f2a-4c3d-8b8a-3d1f0c9a7e55", store_root(s));
    CHECK(symlink("/nowhere/at/all", link) == 0);
    struct store_list l;
    CHECK(store_list(s, &l, &e));
    CHECK_EQ(l.n, 4);
    CHECK(l.entries[0].config && !l.entries[1].config && !l.entries[3].config);
    unsigned seen = 0;
    for (size_t i = 1; i < l.n; i++)
        seen |= strstr(l.entries[i].problem, "line 3")          ? 1u
                : strstr(l.entries[i].problem, "it is a copy")  ? 2u
                : strstr(l.entries[i].problem, "not connected") ? 4u
                                                                : 0u;
    CHECK_EQ(seen, 7);
    /* And each can be removed. */
    for (size_t i = 1; i < l.n; i++)
        CHECK(store_delete(s, l.entries[i].folder, 0, &e));
    store_list_clear(&l);
    CHECK(store_list(s, &l, &e) && l.n == 1);
    store_list_clear(&l);
}

static bool give_memory(void *ctx, struct vm_config *c, err *e)
{
    return vm_config_set(c, "memory.startup", ctx, e);
}

static void updates_are_whole(void)
{
    err e = ERR_INIT;
    AUTO(store) s = fresh(&e);
    struct guid id = add(s, "m");
    char good[] = "2048", wrong[] = "1";
    CHECK(store_update(s, &id, give_memory, good, &e));
    CHECK(!store_update(s, &id, give_memory, wrong, &e));
    CHECK(store_rename(s, &id, "renamed", &e));
    CHECK(!store_rename(s, &id, "  ", &e));
    AUTO(vm_config) c = store_load(s, &id, &e);
    CHECK(c && c->memory == 2048);
    CHECK_STR(c ? c->name : NULL, "renamed");
}

/* Several processes change one file at a time: no change is lost. */
static bool count_up(void *ctx, struct vm_config *c, err *e)
{
    c->autostart_delay++;
    return true;
}

static void changes_from_processes_add_up(void)
{
    err e = ERR_INIT;
    AUTO(store) s = fresh(&e);
    struct guid id = add(s, "m");
    for (int i = 0; i < 4; i++)
        if (fork() == 0) {
            bool ok = true;
            for (int k = 0; k < 25; k++)
                ok &= store_update(s, &id, count_up, NULL, &e);
            _exit(!ok);
        }
    for (int i = 0, st; i < 4; i++)
        CHECK(wait(&st) > 0 && st == 0);
    AUTO(vm_config) c = store_load(s, &id, &e);
    CHECK_EQ(c ? c->autostart_delay : 0, 100);
}

static void running_machines_are_kept(void)
{
    err e = ERR_INIT;
    AUTO(store) s = fresh(&e);
    struct guid id = add(s, "m");
    char name[GUID_STR_LEN + 1];
    guid_format(&id, name);
    int lock = store_lock(s, &id, &e);
    CHECK(lock >= 0 && store_is_locked(s, &id));
    CHECK(store_lock(s, &id, &e) < 0 && e.code == ERR_BUSY);
    CHECK(!store_delete(s, name, 0, &e) && e.code == ERR_BUSY);
    CHECK(store_rename(s, &id, "still changes", &e));
    close(lock);
    CHECK(!store_is_locked(s, &id));
    CHECK(store_delete(s, name, 0, &e));
    CHECK(!store_delete(s, name, 0, &e));
    CHECK(!store_delete(s, "..", 0, &e) && !store_delete(s, "a/b", 0, &e));
}

static void lives_elsewhere(void)
{
    err e = ERR_INIT;
    AUTO(store) s = fresh(&e);
    AUTO(store) other = fresh(&e);
    AUTO(vm_config) c = vm_config_new(&e);
    vm_config_string(&c->name, "far/away", &e);
    CHECK(store_create(s, c, store_root(other), &e));
    char path[4200];
    snprintf(path, sizeof path, "%s/far-away", store_root(other));
    CHECK(storefs_is_there(path));
    AUTO(vm_config) again = store_load(s, &c->id, &e);
    CHECK(again);
    AUTO(store) third = fresh(&e);
    struct guid id;
    CHECK(store_register(third, path, &id, &e) && guid_equal(&id, &c->id));
    CHECK(!store_register(third, path, &id, &e) && e.code == ERR_EXISTS);
    char name[GUID_STR_LEN + 1];
    guid_format(&c->id, name);
    CHECK(store_delete(s, name, 0, &e) && !storefs_is_there(path));
}

static void fails_clearly(void)
{
    err e = ERR_INIT;
    CHECK(!store_open("/proc/nowhere/vireo", &e) && strstr(e.text, "/proc/nowhere"));
    AUTO(store) s = fresh(&e);
    AUTO(vm_config) c = vm_config_new(&e);
    CHECK(!store_create(s, c, NULL, &e) && strstr(e.text, "no name"));
    vm_config_string(&c->name, "x", &e);
    CHECK(!store_create(s, c, "/proc", &e) && strstr(e.text, "was not created"));
    struct store_list l;
    CHECK(store_list(s, &l, &e) && l.n == 0);
}

static void goes_to_the_bin(void)
{
    err e = ERR_INIT;
    char data[200], file[400];
    snprintf(data, sizeof data, "%s/bin-home", top);
    setenv("XDG_DATA_HOME", data, 1);
    AUTO(store) s = store_open(NULL, &e);
    struct guid id = add(s, "m");
    char name[GUID_STR_LEN + 1];
    guid_format(&id, name);
    CHECK(store_delete(s, name, STORE_DELETE_TO_BIN, &e));
    snprintf(file, sizeof file, "%s/Trash/files/%s/" STORE_CONFIG_NAME, data, name);
    CHECK(storefs_is_there(file));
    snprintf(file, sizeof file, "%s/Trash/info/%s.trashinfo", data, name);
    CHECK(storefs_is_there(file));
}

static const struct check_test tests[] = {
    CHECK_TEST(creates_and_lists),
    CHECK_TEST(damage_loses_only_itself),
    CHECK_TEST(updates_are_whole),
    CHECK_TEST(changes_from_processes_add_up),
    CHECK_TEST(running_machines_are_kept),
    CHECK_TEST(lives_elsewhere),
    CHECK_TEST(fails_clearly),
    CHECK_TEST(goes_to_the_bin),
};

int main(int argc, char **argv)
{
    if (!mkdtemp(top))
        return 1;
    int r = check_run(tests, sizeof tests / sizeof tests[0], argc, argv);
    storefs_remove(AT_FDCWD, top, NULL);
    return r;
}
