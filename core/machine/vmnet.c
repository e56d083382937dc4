/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A machine's network adapters and the switches that they are plugged into. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/chipset/layout.h"
#include "core/chipset/tulip.h"
#include "core/machine/vm-int.h"

enum { LEGACY_ADAPTERS = 4 };

static bool in_use(const struct vm_net *n)
{
    return n->adapter || n->legacy;
}

static struct net_port *port_of(const struct vm_net *n)
{
    return n->legacy ? tulip_port(n->legacy) : netvsp_port(n->adapter);
}

static void net_id(unsigned i, char id[VM_ID_LEN])
{
    snprintf(id, VM_ID_LEN, "net%u", i);
}

/* Stable for an address: the guest names its interface by the instance. */
static struct guid instance_of(const uint8_t mac[6])
{
    struct guid g = GUID(0x6e657400, 0x5672, 0x4e65, 0xa100, 0x000000000000);
    memcpy(g.b + 10, mac, 6);
    return g;
}

/* ---- settings ---- */

bool vm_parse_forwards(const char *text, struct vm_adapter_settings *s, err *e)
{
    char copy[1100];
    s->nforwards = 0;
    if (!text)
        return true;
    if (strlen(text) >= sizeof copy)
        return err_set(e, ERR_INVALID, "there are too many port forwards");
    strcpy(copy, text);
    for (char *save, *t = strtok_r(copy, " ,", &save); t; t = strtok_r(NULL, " ,", &save)) {
        char *dash = strrchr(t, '-');
        if (dash)
            *dash = ':';
        if (s->nforwards == VM_FORWARDS)
            return err_set(e, ERR_INVALID, "an adapter forwards %d ports at most", VM_FORWARDS);
        if (!net_forward_parse(t, &s->forwards[s->nforwards++], e))
            return false;
    }
    return true;
}

static bool settings_of(const struct vm_adapter *a, struct vm_adapter_settings *s, err *e)
{
    *s = (struct vm_adapter_settings){.connected = true,
                                      .spoofing = a->mac_spoofing,
                                      .host_loopback = a->host_access,
                                      .vlan = a->vlan,
                                      .bandwidth = (uint64_t)a->bandwidth * 1000000};
    const char *name = a->name ? a->name : "";
    switch (a->kind) {
    case VM_SWITCH_NAT: strcpy(s->where, "nat"); break;
    case VM_SWITCH_PRIVATE: snprintf(s->where, sizeof s->where, "private:%s", name); break;
    case VM_SWITCH_DEVICE: snprintf(s->where, sizeof s->where, "tap:%s", name); break;
    default: strcpy(s->where, "none"); break;
    }
    return vm_parse_forwards(a->forwards, s, e);
}

static struct net_policy policy_of(const struct vm_adapter_settings *s)
{
    return (struct net_policy){.spoofing = s->spoofing,
                               .vlan_mode = s->vlan ? NET_VLAN_ACCESS : NET_VLAN_UNTAGGED,
                               .vlan = (uint16_t)MIN(s->vlan, 0xffffu),
                               .bandwidth = s->bandwidth};
}

/* ---- plugging ---- */

static bool plug_private(struct vm *v, struct net_port *port, const char *name, err *e)
{
    char path[512];
    if (!name[0] || strchr(name, '/') || name[0] == '.')
        return err_set(e, ERR_INVALID, "\"%s\" is no name for a private switch", name);
    if ((size_t)snprintf(path, sizeof path, "%s/%s", v->switch_folder, name) >= sizeof path)
        return err_set(e, ERR_INVALID, "the name of the private switch is too long");
    mkdir(v->switch_folder, 0700);
    return net_port_plug_private(port, path, e);
}

static bool plug_tap(struct vm *v, struct net_port *port, const char *where, err *e)
{
    char *resolved = NULL;
    int fd = v->opener.open(v->opener.ctx, where, NULL, 0, &resolved, e);
    free(resolved);
    return fd >= 0 && net_port_plug_tap(port, fd, e);
}

static bool plug(struct vm *v, struct vm_net *n, struct net_port *port,
                 const struct vm_adapter_settings *s, err *e)
{
    const char *colon = strchr(s->where, ':');
    if (strcmp(s->where, "none") == 0) {
        net_port_plug_none(port);
        return true;
    }
    if (strcmp(s->where, "nat") == 0) {
        struct net_nat_params p = {.address = n->address,
                                   .host_loopback = s->host_loopback,
                                   .forwards = s->forwards,
                                   .nforwards = s->nforwards};
        return net_port_plug_nat(port, &p, e);
    }
    if (strncmp(s->where, "private:", 8) == 0)
        return plug_private(v, port, colon + 1, e);
    if (strncmp(s->where, "tap:", 4) == 0)
        return plug_tap(v, port, s->where, e);
    return err_set(e, ERR_INVALID,
                   "\"%s\" is no switch: it is nat, private:NAME, tap:DEVICE or none", s->where);
}

static struct in_addr address_of(const struct vm *v, const uint8_t mac[6])
{
    uint8_t key[sizeof v->id + 6];
    memcpy(key, v->id.b, sizeof v->id);
    memcpy(key + sizeof v->id, mac, 6);
    return net_nat_address(key, sizeof key);
}

static struct net_port *make_port(struct vm *v, struct vm_net *n, err *e)
{
    const struct vm_adapter_settings *s = &n->settings;
    struct net_port_params pp = {.loop = machine_loop(v->machine), .policy = policy_of(s)};
    memcpy(pp.mac, n->mac, 6);
    struct net_port *port = net_port_new(&pp, e);
    if (!port)
        return NULL;
    net_port_set_cable(port, s->connected);
    if (plug(v, n, port, s, e))
        return port;
    net_port_free(port);
    return NULL;
}

static bool make_synthetic(struct vm *v, unsigned i, struct net_port *port, err *e)
{
    struct netvsp_params np = {
        .bus = v->bus, .port = port, .instance = instance_of(v->nets[i].mac), .state_instance = i};
    struct netvsp *adapter = netvsp_new(&np, e);
    if (!adapter || !vm_provider_add(v, netvsp_as_device(adapter), e))
        return false;
    v->nets[i].adapter = adapter;
    return true;
}

/* The emulated adapter, as long as the machine lives. */
static bool make_legacy(struct vm *v, unsigned i, struct net_port *port, err *e)
{
    struct tulip_params tp = {.env = machine_env(v->machine),
                              .bus = v->pci,
                              .memory = hv_partition_memory(machine_partition(v->machine)),
                              .port = port,
                              .slot = (uint8_t)(LAYOUT_PCI_TULIP + v->nlegacy),
                              .instance = i};
    struct tulip *t = tulip_new(&tp, e);
    if (!t || !machine_add_device(v->machine, tulip_device(t), e))
        return false;
    v->nets[i].legacy = t;
    v->nlegacy++;
    return true;
}

static bool make_adapter(struct vm *v, unsigned i, const struct vm_adapter_settings *s,
                         const uint8_t mac[6], bool legacy, err *e)
{
    struct vm_net *n = &v->nets[i];
    if (legacy && !v->pci)
        return err_set(e, ERR_INVALID, "a legacy adapter needs a machine that starts by a BIOS");
    if (legacy && v->nlegacy == LEGACY_ADAPTERS)
        return err_set(e, ERR_NO_SPACE, "a machine has %d legacy adapters at most",
                       LEGACY_ADAPTERS);
    *n = (struct vm_net){.settings = *s, .address = address_of(v, mac)};
    memcpy(n->mac, mac, 6);
    struct net_port *port = make_port(v, n, e);
    return port && (legacy ? make_legacy(v, i, port, e) : make_synthetic(v, i, port, e));
}

bool vm_nets_make(struct vm *v, const struct vm_config *c, err *e)
{
    for (uint32_t i = 0; i < c->n_adapters && i < VM_NETS; i++) {
        struct vm_adapter_settings s;
        if (!settings_of(&c->adapters[i], &s, e) ||
            !make_adapter(v, i, &s, c->adapters[i].mac.b, c->adapters[i].legacy, e))
            return err_prefix(e, "network adapter %u", i);
    }
    return true;
}

/* ---- while it runs ---- */

struct change {
    const char *id;
    char *new_id;
    const struct vm_adapter_settings *settings;
    const uint8_t *mac;
    struct vm_adapter_info *out;
    unsigned max, n;
};

static struct vm_net *find_net(struct vm *v, const char *id, err *e)
{
    for (unsigned i = 0; i < VM_NETS; i++) {
        char name[VM_ID_LEN];
        net_id(i, name);
        if (in_use(&v->nets[i]) && strcmp(name, id) == 0)
            return &v->nets[i];
    }
    err_set(e, ERR_NOT_FOUND, "there is no network adapter \"%s\"", id);
    return NULL;
}

static void do_add(struct vm_call *c)
{
    struct change *ch = c->arg;
    struct vm_mac mac;
    if (ch->mac)
        memcpy(mac.b, ch->mac, 6);
    else
        vm_mac_random(&mac);
    for (unsigned i = 0; i < VM_NETS; i++) {
        if (in_use(&c->v->nets[i]))
            continue;
        c->ok = make_adapter(c->v, i, ch->settings, mac.b, false, c->e);
        if (!c->ok)
            return;
        net_id(i, ch->new_id);
        vm_changed(c->v, VM_CHANGED_ADAPTERS);
        return;
    }
    c->ok = err_set(c->e, ERR_NO_SPACE, "a machine has %d network adapters at most", VM_NETS);
}

bool vm_add_adapter(struct vm *v, const struct vm_adapter_settings *s, const uint8_t *mac,
                    char id[VM_ID_LEN], err *e)
{
    struct change c = {.settings = s, .mac = mac, .new_id = id};
    return vm_call(v, do_add, &c, e);
}

static void do_remove(struct vm_call *c)
{
    struct change *ch = c->arg;
    struct vm_net *n = find_net(c->v, ch->id, c->e);
    c->ok = n != NULL;
    if (!n)
        return;
    if (n->legacy) {
        c->ok = err_set(c->e, ERR_UNSUPPORTED,
                        "a legacy adapter is removed only while the machine is off");
        return;
    }
    struct device d = netvsp_as_device(n->adapter);
    vm_provider_forget(c->v, d.self);
    d.ops->destroy(d.self);
    *n = (struct vm_net){0};
    vm_changed(c->v, VM_CHANGED_ADAPTERS);
}

bool vm_remove_adapter(struct vm *v, const char *id, err *e)
{
    struct change c = {.id = id};
    return vm_call(v, do_remove, &c, e);
}

static bool same_plug(const struct vm_adapter_settings *a, const struct vm_adapter_settings *b)
{
    return strcmp(a->where, b->where) == 0 && a->host_loopback == b->host_loopback &&
           a->nforwards == b->nforwards &&
           memcmp(a->forwards, b->forwards, a->nforwards * sizeof a->forwards[0]) == 0;
}

static void do_set(struct vm_call *c)
{
    struct change *ch = c->arg;
    struct vm_net *n = find_net(c->v, ch->id, c->e);
    c->ok = n != NULL;
    if (!n)
        return;
    struct net_port *port = port_of(n);
    struct net_policy policy = policy_of(ch->settings);
    if (!same_plug(&n->settings, ch->settings)) {
        net_port_plug_none(port); /* host ports that stay are to be free again */
        c->ok = plug(c->v, n, port, ch->settings, c->e);
        if (!c->ok) {
            plug(c->v, n, port, &n->settings, NULL);
            return;
        }
        if (n->legacy)
            tulip_network_changed(n->legacy);
        else
            netvsp_network_changed(n->adapter);
    }
    c->ok = net_port_set_policy(port, &policy, c->e);
    if (!c->ok)
        return;
    net_port_set_cable(port, ch->settings->connected);
    n->settings = *ch->settings;
    vm_changed(c->v, VM_CHANGED_ADAPTERS);
}

bool vm_set_adapter(struct vm *v, const char *id, const struct vm_adapter_settings *s, err *e)
{
    struct change c = {.id = id, .settings = s};
    return vm_call(v, do_set, &c, e);
}

static void fill_info(const struct vm *v, unsigned i, struct vm_adapter_info *out)
{
    const struct vm_net *n = &v->nets[i];
    struct netvsp_info info;
    *out = (struct vm_adapter_info){.settings = n->settings, .address = n->address};
    net_id(i, out->id);
    memcpy(out->mac, n->mac, 6);
    net_port_get_stats(port_of(n), &out->stats);
    out->legacy = n->legacy != NULL;
    if (n->legacy) {
        out->version = tulip_in_use(n->legacy);
        out->mtu = NET_MTU_DEFAULT;
        out->queues = 1;
        return;
    }
    netvsp_get_info(n->adapter, &info);
    out->version = info.version;
    out->mtu = info.mtu;
    out->queues = info.queues;
}

static void do_get(struct vm_call *c)
{
    struct change *ch = c->arg;
    struct vm_net *n = find_net(c->v, ch->id, c->e);
    c->ok = n != NULL;
    if (n)
        fill_info(c->v, (unsigned)(n - c->v->nets), ch->out);
}

bool vm_get_adapter(struct vm *v, const char *id, struct vm_adapter_info *out, err *e)
{
    struct change c = {.id = id, .out = out};
    return vm_call(v, do_get, &c, e);
}

static void do_list(struct vm_call *c)
{
    struct change *ch = c->arg;
    for (unsigned i = 0; i < VM_NETS && ch->n < ch->max; i++)
        if (in_use(&c->v->nets[i]))
            fill_info(c->v, i, &ch->out[ch->n++]);
}

unsigned vm_list_adapters(struct vm *v, struct vm_adapter_info *out, unsigned max)
{
    struct change c = {.out = out, .max = max};
    vm_call(v, do_list, &c, NULL);
    return c.n;
}
