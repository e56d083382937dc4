/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A port on a TAP device, against this host's own TCP and UDP behind it: in a user and network
 * namespace, so that anybody may run it. As root also a macvtap, whose device nodes an ordinary
 * user cannot open. Frames are made as the adapter makes them: sums and segments left to the host.
 */
#include "core/net/port.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "frames.h"

#define HOST "192.0.2.1"
#define GUEST "192.0.2.2"
enum { SKIP = 77, PATIENCE_S = 60, UDP_PORT = 5000, TCP_PORT = 7000, LARGE = 20000, MSS = 1448 };
enum { SYN = 2, PSH = 8, ACK = 16 };

struct guest {
    struct loop *loop;
    struct net_port *port;
    unsigned frames, large;
    struct net_packet last;
    uint8_t data[NET_FRAME_MAX];
    uint16_t want; /* only frames to this port count */
};

static uint8_t host_mac[6], frame[NET_FRAME_MAX], pattern[LARGE];

static bool deliver(void *ctx, const struct net_packet *p)
{
    struct guest *g = ctx;
    struct net_headers h;
    if (!net_parse(p->data, p->len, &h) || !(h.tcp || h.udp) || h.family != 4 ||
        get_be16(p->data + h.l4 + 2) != g->want)
        return true;
    g->frames++;
    g->large += p->mss > 0;
    g->last = *p;
    memcpy(g->data, p->data, p->len);
    return true;
}
static void nothing(void *ctx)
{
}
static void link_is(void *ctx, bool up)
{
}
static const struct net_adapter_ops ops = {deliver, nothing, link_is};

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return ok;
}

/* A network of its own, of which this process is root. */
static bool leave_home(void)
{
    char map[64];
    unsigned uid = getuid(), gid = getgid();
    if (uid == 0)
        return unshare(CLONE_NEWNET) == 0;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
        return false;
    snprintf(map, sizeof map, "0 %u 1", uid);
    bool ok = write_file("/proc/self/setgroups", "deny") && write_file("/proc/self/uid_map", map);
    snprintf(map, sizeof map, "0 %u 1", gid);
    return ok && write_file("/proc/self/gid_map", map);
}

static int make_tap(const char *name, int flags)
{
    struct ifreq r = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | flags)};
    strcpy(r.ifr_name, name);
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &r) != 0) {
        printf("no TAP device: %s\n", strerror(errno));
        exit(SKIP);
    }
    return fd;
}

static void set_address(struct ifreq *r, const char *address)
{
    struct sockaddr_in *a = (struct sockaddr_in *)(void *)&r->ifr_addr;
    *a = (struct sockaddr_in){.sin_family = AF_INET};
    inet_pton(AF_INET, address, &a->sin_addr);
}

/* The host's end of vt0: up, with an address, and knowing the guest's. */
static void set_up_host(void)
{
    struct ifreq r = {.ifr_name = "vt0"};
    struct arpreq arp = {.arp_flags = ATF_COM | ATF_PERM, .arp_dev = "vt0"};
    struct ifreq peer = {0};
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    set_address(&r, HOST);
    CHECK_EQ(ioctl(s, SIOCSIFADDR, &r), 0);
    set_address(&r, "255.255.255.0");
    CHECK_EQ(ioctl(s, SIOCSIFNETMASK, &r), 0);
    r.ifr_flags = IFF_UP | IFF_RUNNING;
    CHECK_EQ(ioctl(s, SIOCSIFFLAGS, &r), 0);
    CHECK_EQ(ioctl(s, SIOCGIFHWADDR, &r), 0);
    memcpy(host_mac, r.ifr_hwaddr.sa_data, 6);
    set_address(&peer, GUEST);
    arp.arp_pa = peer.ifr_addr;
    arp.arp_ha.sa_family = ARPHRD_ETHER;
    memcpy(arp.arp_ha.sa_data, guest_mac, 6);
    CHECK_EQ(ioctl(s, SIOCSARP, &arp), 0);
    close(s);
}

static void plug(struct guest *g, int fd)
{
    err e = ERR_INIT;
    memset(g, 0, sizeof *g);
    g->loop = loop_new(&e);
    struct net_port_params p = {.loop = g->loop, .ops = &ops, .ctx = g};
    memcpy(p.mac, guest_mac, 6);
    g->port = net_port_new(&p, &e);
    CHECK(net_port_plug_tap(g->port, fd, &e));
    net_port_set_limits(g->port, NET_MTU_DEFAULT, true);
    net_port_start(g->port);
    CHECK(net_port_link(g->port));
}
static void unplug(struct guest *g)
{
    net_port_free(g->port);
    loop_free(g->loop);
}

/* Until the guest has that many frames. */
static bool wait_frames(struct guest *g, unsigned n)
{
    uint64_t end = clock_ns() + PATIENCE_S * UINT64_C(1000000000);
    while (g->frames < n && clock_ns() < end)
        loop_turn(g->loop, 50);
    return g->frames >= n;
}

static int host_socket(int type, uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    int s = socket(AF_INET, type | SOCK_CLOEXEC, 0), one = 1;
    inet_pton(AF_INET, HOST, &a.sin_addr);
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    CHECK_EQ(bind(s, (struct sockaddr *)&a, sizeof a), 0);
    return s;
}

static bool readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, PATIENCE_S * 1000) == 1;
}

static void datagrams(struct guest *g)
{
    char text[64];
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    int s = host_socket(SOCK_DGRAM, UDP_PORT);
    put_eth(frame, host_mac, guest_mac, 0x0800);
    size_t at = put_ipv4(frame, 17, GUEST, HOST, 8 + 5);
    size_t n = put_udp(frame, at, 6000, UDP_PORT, "hello", 5);
    struct net_packet p = {.data = frame, .len = (uint32_t)n, .flags = NET_FILL_IP | NET_FILL_L4};
    CHECK_EQ(net_port_send(g->port, &p), NET_SENT);
    CHECK(readable(s));
    CHECK_EQ(recvfrom(s, text, sizeof text, 0, (struct sockaddr *)&from, &len), 5);
    CHECK(memcmp(text, "hello", 5) == 0);
    g->want = 6000;
    CHECK_EQ(sendto(s, "and back", 8, 0, (struct sockaddr *)&from, len), 8);
    CHECK(wait_frames(g, 1));
    CHECK_EQ(g->last.len, 42 + 8);
    CHECK(memcmp(g->data + 42, "and back", 8) == 0);
    CHECK(memcmp(g->data, guest_mac, 6) == 0);
    close(s);
}

static void send_tcp(struct guest *g, uint32_t seq, uint32_t ack, uint8_t flags, size_t len)
{
    put_eth(frame, host_mac, guest_mac, 0x0800);
    size_t at = put_ipv4(frame, 6, GUEST, HOST, 20 + len);
    size_t n = put_tcp(frame, at, g->want, TCP_PORT, seq, flags, pattern, len);
    put_be32(frame + at + 8, ack);
    struct net_packet p = {.data = frame,
                           .len = (uint32_t)n,
                           .mss = len > MSS ? MSS : 0,
                           .flags = NET_FILL_IP | NET_FILL_L4};
    CHECK_EQ(net_port_send(g->port, &p), NET_SENT);
}

/* One large packet out and, where the device has the virtio header (vnet), whole ones back. */
static void large_packets(struct guest *g, bool vnet, uint16_t from)
{
    static uint8_t got[LARGE];
    size_t have = 0;
    int s = host_socket(SOCK_STREAM, TCP_PORT);
    CHECK_EQ(listen(s, 1), 0);
    g->want = from;
    g->frames = g->large = 0;
    send_tcp(g, 1000, 0, SYN, 0);
    CHECK(wait_frames(g, 1));
    CHECK_EQ(g->data[34 + 13], SYN | ACK);
    uint32_t theirs = get_be32(g->data + 34 + 4) + 1;
    send_tcp(g, 1001, theirs, ACK, 0);
    CHECK(readable(s));
    int fd = accept4(s, NULL, NULL, SOCK_CLOEXEC);
    CHECK(fd >= 0);
    send_tcp(g, 1001, theirs, ACK | PSH, LARGE);
    while (have < LARGE && readable(fd)) {
        ssize_t n = read(fd, got + have, LARGE - have);
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    CHECK_EQ(have, LARGE);
    CHECK(memcmp(got, pattern, LARGE) == 0);
    g->frames = g->large = 0;
    CHECK_EQ(write(fd, pattern, 5000), 5000); /* within the first window */
    uint32_t seen = 0;
    while (seen < 5000 && wait_frames(g, g->frames + 1)) {
        uint32_t at = get_be32(g->data + 34 + 4) - theirs, off = 34 + (g->data[34 + 12] >> 4) * 4u;
        if (g->last.len > off && at < 5000 && at + g->last.len - off <= 5000) {
            CHECK(memcmp(g->data + off, pattern + at, g->last.len - off) == 0);
            seen = MAX(seen, at + g->last.len - off);
        }
    }
    CHECK_EQ(seen, 5000);
    CHECK_EQ(g->large > 0, vnet);
    close(fd);
    close(s);
}

static void through_the_hosts_stack(int flags)
{
    struct guest g;
    int fd = make_tap("vt0", flags);
    set_up_host();
    plug(&g, fd);
    datagrams(&g);
    large_packets(&g, flags, (uint16_t)(flags ? 6100 : 6101));
    unplug(&g);
}
static void with_the_virtio_header(void)
{
    through_the_hosts_stack(IFF_VNET_HDR);
}
static void without_the_virtio_header(void)
{
    through_the_hosts_stack(0);
}

static void refuses_what_is_no_tap(void)
{
    err e = ERR_INIT;
    struct loop *loop = loop_new(&e);
    struct net_port *port = net_port_new(&(struct net_port_params){.loop = loop, .ops = &ops}, &e);
    CHECK(!net_port_plug_tap(port, open("/dev/null", O_RDWR | O_CLOEXEC), &e));
    struct ifreq r = {.ifr_name = "vtun0", .ifr_flags = IFF_TUN | IFF_NO_PI};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    CHECK_EQ(ioctl(fd, TUNSETIFF, &r), 0);
    e = (err)ERR_INIT;
    CHECK(!net_port_plug_tap(port, fd, &e));
    CHECK(strstr(e.text, "no Ethernet frames") != NULL);
    net_port_free(port);
    loop_free(loop);
}

/* The wire of the macvtap is a TAP device whose other end the test holds. */
static void a_macvtap_too(void)
{
    struct guest g;
    char path[64];
    int wire = make_tap("vt0", 0);
    set_up_host();
    if (system("ip link add link vt0 name vm0 address 00:15:5d:01:02:03 type macvtap mode bridge "
               "2>/dev/null && ip link set vm0 up") != 0) {
        printf("no macvtap on this host\n");
        close(wire);
        return;
    }
    snprintf(path, sizeof path, "/dev/tap%u", if_nametoindex("vm0"));
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    struct ifreq r = {0};
    /* An ordinary user may not open it; of another namespace there may be one of the same name. */
    if (fd < 0 || ioctl(fd, TUNGETIFF, &r) != 0 || strcmp(r.ifr_name, "vm0") != 0) {
        printf("%s: %s\n", path, fd < 0 ? strerror(errno) : "somebody else's");
        if (fd >= 0)
            close(fd);
        close(wire);
        return;
    }
    plug(&g, fd);
    g.want = 6000;
    put_eth(frame, other_mac, guest_mac, 0x0800);
    size_t at = put_ipv4(frame, 17, GUEST, "192.0.2.9", 8 + 5);
    size_t n = put_udp(frame, at, 6000, 7, "hello", 5);
    struct net_packet p = {.data = frame, .len = (uint32_t)n, .flags = NET_FILL_IP | NET_FILL_L4};
    CHECK_EQ(net_port_send(g.port, &p), NET_SENT);
    bool heard = false;
    uint8_t buf[2048];
    while (!heard && readable(wire)) {
        ssize_t m = read(wire, buf, sizeof buf);
        heard = m == (ssize_t)n && memcmp(buf, frame, 14) == 0 && memcmp(buf + 42, "hello", 5) == 0;
    }
    CHECK(heard);
    put_eth(frame, guest_mac, other_mac, 0x0800);
    at = put_ipv4(frame, 17, "192.0.2.9", GUEST, 8 + 5);
    n = put_udp(frame, at, 7, 6000, "world", 5);
    net_fill_sums(frame, n, NET_FILL_IP | NET_FILL_L4);
    CHECK_EQ(write(wire, frame, n), (ssize_t)n);
    CHECK(wait_frames(&g, 1));
    CHECK(memcmp(g.data + 42, "world", 5) == 0);
    printf("a macvtap carries frames\n");
    unplug(&g);
    close(wire);
}

static const struct check_test tests[] = {
    CHECK_TEST(with_the_virtio_header),
    CHECK_TEST(without_the_virtio_header),
    CHECK_TEST(refuses_what_is_no_tap),
    CHECK_TEST(a_macvtap_too),
};

int main(int argc, char **argv)
{
    for (unsigned i = 0; i < LARGE; i++)
        pattern[i] = (uint8_t)(i * 7 + (i >> 8));
    if (!leave_home()) {
        printf("no network namespace: %s\n", strerror(errno));
        return SKIP;
    }
    return check_run(tests, ARRAY_LEN(tests), argc, argv);
}
