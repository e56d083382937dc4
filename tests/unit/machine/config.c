/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/machine/config.h"

#include "check.h"

#define HEAD "[machine]\nversion = 1\nid = 6f9b1c1e-0f2a-4c3d-8b8a-3d1f0c9a7e55\nname = n\n"

static struct vm_config *parse(const char *s, err *e)
{
    return vm_config_parse(s, strlen(s), e);
}

static void defaults_are_right(void)
{
    err e = ERR_INIT;
    AUTO(vm_config) c = parse(HEAD, &e);
    CHECK(c);
    CHECK_EQ(c->generation, 2);
    CHECK_EQ(c->cpus, 1);
    CHECK_EQ(c->memory, 1024);
    CHECK(!c->memory_dynamic && c->ic_shutdown && c->ic_vss && !c->ic_fcopy && c->enhanced);
    CHECK(!c->microphone && !c->spice && !c->vnc);
    CHECK_EQ(c->checkpoints, VM_CHECKPOINTS_STANDARD);
    CHECK_EQ(c->autostop, VM_AUTOSTOP_SAVE);
}

static void survives_a_round_trip(void)
{
    err e = ERR_INIT;
    AUTO(vm_config) c = parse("# mine\n" HEAD "unknown = kept\n\n[later]\nkey = kept too\n", &e);
    CHECK(c && vm_config_set(c, "disk0.path", "/x/y z.vhdx", &e));
    CHECK(vm_config_set(c, "adapter0.switch", "private", &e));
    CHECK(vm_config_set(c, "adapter0.name", "lab", &e));
    CHECK(vm_config_set(c, "adapter0.mac", "00-15-5D-aa-BB-0c", &e));
    CHECK(vm_config_set(c, "machine.notes", "a\nb", &e));
    CHECK(vm_config_set(c, "port1.kind", "pty", &e));
    AUTO(str) text = vm_config_format(c, &e);
    CHECK(strstr(text, "# mine\n") && strstr(text, "unknown = kept\n") &&
          strstr(text, "key = kept too\n"));
    AUTO(vm_config) d = parse(text, &e);
    CHECK(d && d->n_disks == 1 && d->n_adapters == 1 && d->ports[1].kind == VM_PORT_PTY);
    CHECK_STR(d ? d->disks[0].path : NULL, "/x/y z.vhdx");
    CHECK_STR(d ? d->notes : NULL, "a\nb");
    AUTO(str) mac = d ? vm_config_get(d, "adapter0.mac", &e) : NULL;
    CHECK_STR(mac, "00:15:5d:aa:bb:0c");
    vm_config_remove_disk(d, 0);
    vm_config_remove_adapter(d, 0);
    AUTO(str) less = vm_config_format(d, &e);
    CHECK(!strstr(less, "[disk") && !strstr(less, "[adapter"));
    AUTO(vm_config) copy = vm_config_copy(c, &e);
    AUTO(str) same = copy ? vm_config_format(copy, &e) : NULL;
    CHECK_STR(same, text);
}

static void refuses(const char *text, const char *reason)
{
    err e = ERR_INIT;
    AUTO(vm_config) c = parse(text, &e);
    CHECK(!c);
    CHECK(strstr(e.text, reason));
    if (!strstr(e.text, reason))
        fprintf(stderr, "  \"%s\" gave \"%s\"\n", text, e.text);
}

static void refuses_what_is_wrong(void)
{
    refuses("", "machine.version is missing");
    refuses("[machine]\nversion = 2\n", "newer Vireo");
    refuses("[machine]\nversion = 1\nname = n\n", "machine.id");
    refuses(HEAD "generation = 3\n", "machine.generation: 3 is not between 1 and 2");
    refuses(HEAD "[processor]\ncount = 0\n", "processor.count");
    refuses(HEAD "[processor]\ncount = 99999999999999999999\n", "not a number");
    refuses(HEAD "[processor]\ncount = -1\n", "not a number");
    refuses(HEAD "[memory]\ndynamic = maybe\n", "neither true nor false");
    refuses(HEAD "[memory]\ndynamic = yes\nminimum = 2048\n", "must lie between");
    refuses(HEAD "[checkpoints]\ntype = often\n", "none of: off, standard, production");
    refuses(HEAD "[disk 0]\nbus = ide\npath = x\n", "generation 2 has no IDE");
    refuses(HEAD "[disk 0]\npath = x\n[disk 1]\npath = y\n", "its place is taken");
    refuses(HEAD "[disk 0]\n", "needs an image");
    refuses(HEAD "[disk 1]\npath = x\n", "without a gap");
    refuses(HEAD "[disk 0]\nslot = 64\npath = x\n", "[disk 0]");
    refuses(HEAD "[adapter 0]\nmac = 01:00:00:00:00:00\n", "hardware address");
    refuses(HEAD "[adapter 0]\nswitch = private\n", "no name");
    refuses(HEAD "[adapter 0]\nswitch = private\nname = ../x\n", "no slash");
    refuses(HEAD "[boot]\nfrom = linux\n", "boot.kernel");
    refuses(HEAD "[video]\nwidth = 7680\nheight = 4320\n", "video memory");
}

static void second_disk(void)
{
    err e = ERR_INIT;
    AUTO(vm_config) c = vm_config_new(&e);
    CHECK(vm_config_set(c, "machine.name", "m", &e) &&
          vm_config_set(c, "disk0.path", "/first.vhdx", &e));
    CHECK(vm_config_set(c, "disk1.path", "/second.vhdx", &e));
    CHECK(c->n_disks == 2 && c->disks[1].slot == 1);
    guid_random(&c->id);
    CHECK(vm_config_check(c, &e));
}

static void settings_by_name(void)
{
    err e = ERR_INIT;
    AUTO(vm_config) c = vm_config_new(&e);
    CHECK(!vm_config_set(c, "machine.id", "x", &e) && e.code == ERR_DENIED);
    CHECK(!vm_config_set(c, "memory", "x", &e) && e.code == ERR_NOT_FOUND);
    CHECK(!vm_config_set(c, "disk1.path", "x", &e) && e.code == ERR_NOT_FOUND);
    CHECK(!vm_config_set(c, "disk0.colour", "x", &e) && c->n_disks == 0);
    CHECK(!vm_config_set(c, "disk99999999999999999999.path", "x", &e));
    CHECK(!vm_config_get(c, "adapter0.mac", &e));
    AUTO(str) v = vm_config_get(c, "automatic.stop", &e);
    CHECK_STR(v, "save");
    CHECK(vm_config_is_live("adapter3.vlan") && vm_config_is_live("machine.name"));
    CHECK(!vm_config_is_live("processor.count") && !vm_config_is_live("nonsense"));
    CHECK_STR(vm_config_choice("checkpoints.type", 2), "production");
    CHECK(!vm_config_choice("checkpoints.type", 3));
}

static void places_of_disks(void)
{
    err e = ERR_INIT;
    AUTO(vm_config) c = vm_config_new(&e);
    for (uint32_t i = 0; i < 4; i++)
        CHECK(vm_config_add_disk(c, VM_BUS_IDE, VM_MEDIA_DISK, "x", &e)->slot == i);
    CHECK(!vm_config_add_disk(c, VM_BUS_IDE, VM_MEDIA_DISK, "x", &e));
    vm_config_remove_disk(c, 1);
    CHECK(vm_config_add_disk(c, VM_BUS_IDE, VM_MEDIA_DVD, NULL, &e)->slot == 1);
    while (vm_config_add_disk(c, VM_BUS_SCSI, VM_MEDIA_DISK, "y", &e))
        ;
    CHECK_EQ(c->n_disks, VM_MAX_DISKS);
}

static const struct check_test tests[] = {
    CHECK_TEST(defaults_are_right),    CHECK_TEST(survives_a_round_trip),
    CHECK_TEST(refuses_what_is_wrong), CHECK_TEST(settings_by_name),
    CHECK_TEST(second_disk),           CHECK_TEST(places_of_disks),
};
CHECK_MAIN(tests)
