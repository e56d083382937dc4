/* SPDX-License-Identifier: GPL-3.0-or-later */
/* RNDIS as network VSPs carry it (MS-RNDIS; drivers/net/hyperv/hyperv_net.h). Offsets inside
 * messages count from behind type and length. Little-endian. */
#ifndef VIREO_VSP_RNDIS_PROTO_H
#define VIREO_VSP_RNDIS_PROTO_H

#include <stdint.h>

enum {
    RNDIS_PACKET = 1,
    RNDIS_INIT = 2,
    RNDIS_HALT = 3,
    RNDIS_QUERY = 4,
    RNDIS_SET = 5,
    RNDIS_RESET = 6,
    RNDIS_INDICATE = 7,
    RNDIS_KEEPALIVE = 8,
};
#define RNDIS_COMPLETE 0x80000000u

#define RNDIS_STATUS_SUCCESS 0u
#define RNDIS_STATUS_FAILURE 0xC0000001u
#define RNDIS_STATUS_NOT_SUPPORTED 0xC00000BBu
#define RNDIS_STATUS_INVALID_DATA 0xC0010015u
#define RNDIS_STATUS_CONNECT 0x4001000Bu
#define RNDIS_STATUS_DISCONNECT 0x4001000Cu
#define RNDIS_STATUS_SPEED_CHANGE 0x40010013u
#define RNDIS_STATUS_NETWORK_CHANGE 0x40010018u

struct rndis_header {
    uint32_t type, length; /* of the whole message */
};

struct rndis_packet {
    struct rndis_header head;
    uint32_t data_offset, data_len;
    uint32_t oob_offset, oob_len, oob_count;
    uint32_t ppi_offset, ppi_len;
    uint32_t vc, reserved;
};
_Static_assert(sizeof(struct rndis_packet) == 44, "wire size");

struct rndis_ppi {
    uint32_t size, type; /* type: bit 31 for internal ones */
    uint32_t offset;     /* of the data, from here */
};
_Static_assert(sizeof(struct rndis_ppi) == 12, "wire size");
enum {
    PPI_CHECKSUM = 0,
    PPI_LSO = 2,
    PPI_VLAN = 6,
    PPI_HASH = 8,
};
#define PPI_PACKET_ID (1u | 1u << 31)

/* Bits of PPI_CHECKSUM from the guest, and toward it. */
enum { CSUM_TX_IPV4 = 1, CSUM_TX_IPV6 = 2, CSUM_TX_TCP = 4, CSUM_TX_UDP = 8, CSUM_TX_IP = 16 };
enum { CSUM_RX_TCP_OK = 8, CSUM_RX_UDP_OK = 16, CSUM_RX_IP_OK = 32 };
/* PPI_PACKET_ID: {u8 version 1, u8 flags, u16 id} */
enum { PACKET_ID_SUBALLOC = 1, PACKET_ID_FIRST = 2, PACKET_ID_LAST = 4 };

struct rndis_init_complete {
    struct rndis_header head;
    uint32_t id, status, major, minor, flags, medium, max_packets, max_bytes, alignment;
    uint32_t af_offset, af_size;
};
_Static_assert(sizeof(struct rndis_init_complete) == 52, "wire size");

struct rndis_query { /* also SET */
    struct rndis_header head;
    uint32_t id, oid, length, offset, vc;
};
_Static_assert(sizeof(struct rndis_query) == 28, "wire size");

struct rndis_query_complete {
    struct rndis_header head;
    uint32_t id, status, length, offset;
};
_Static_assert(sizeof(struct rndis_query_complete) == 24, "wire size");

struct rndis_complete { /* SET, KEEPALIVE; RESET has a flag in place of the id */
    struct rndis_header head;
    uint32_t id, status;
};
_Static_assert(sizeof(struct rndis_complete) == 16, "wire size");

struct rndis_indicate {
    struct rndis_header head;
    uint32_t status, length, offset;
};
_Static_assert(sizeof(struct rndis_indicate) == 20, "wire size");

enum rndis_oid {
    OID_SUPPORTED_LIST = 0x00010101,
    OID_HARDWARE_STATUS = 0x00010102,
    OID_MEDIA_SUPPORTED = 0x00010103,
    OID_MEDIA_IN_USE = 0x00010104,
    OID_MAXIMUM_LOOKAHEAD = 0x00010105,
    OID_MAXIMUM_FRAME_SIZE = 0x00010106,
    OID_LINK_SPEED = 0x00010107,
    OID_TRANSMIT_BUFFER_SPACE = 0x00010108,
    OID_RECEIVE_BUFFER_SPACE = 0x00010109,
    OID_TRANSMIT_BLOCK_SIZE = 0x0001010A,
    OID_RECEIVE_BLOCK_SIZE = 0x0001010B,
    OID_VENDOR_ID = 0x0001010C,
    OID_VENDOR_DESCRIPTION = 0x0001010D,
    OID_CURRENT_PACKET_FILTER = 0x0001010E,
    OID_CURRENT_LOOKAHEAD = 0x0001010F,
    OID_DRIVER_VERSION = 0x00010110,
    OID_MAXIMUM_TOTAL_SIZE = 0x00010111,
    OID_MAC_OPTIONS = 0x00010113,
    OID_MEDIA_CONNECT_STATUS = 0x00010114,
    OID_MAXIMUM_SEND_PACKETS = 0x00010115,
    OID_VENDOR_DRIVER_VERSION = 0x00010116,
    OID_PHYSICAL_MEDIUM = 0x00010202,
    OID_RECEIVE_SCALE_CAPABILITIES = 0x00010203,
    OID_RECEIVE_SCALE_PARAMETERS = 0x00010204,
    OID_CONFIG_PARAMETER = 0x0001021B,
    OID_XMIT_OK = 0x00020101,
    OID_RCV_OK = 0x00020102,
    OID_XMIT_ERROR = 0x00020103,
    OID_RCV_ERROR = 0x00020104,
    OID_RCV_NO_BUFFER = 0x00020105,
    OID_FRIENDLY_NAME = 0x00020216,
    OID_PERMANENT_ADDRESS = 0x01010101,
    OID_CURRENT_ADDRESS = 0x01010102,
    OID_MULTICAST_LIST = 0x01010103,
    OID_MAXIMUM_LIST_SIZE = 0x01010104,
};
#define OID_OFFLOAD_PARAMETERS 0xFC01020Cu
#define OID_OFFLOAD_CAPABILITIES 0xFC01020Du

enum {
    FILTER_DIRECTED = 1,
    FILTER_MULTICAST = 2,
    FILTER_ALL_MULTICAST = 4,
    FILTER_BROADCAST = 8,
    FILTER_PROMISCUOUS = 0x20
};

/* NDIS_OFFLOAD (MS-NDIS): object header {type, revision, size}. */
struct ndis_header {
    uint8_t type, revision;
    uint16_t size;
};
enum {
    NDIS_TYPE_DEFAULT = 0x80,
    NDIS_TYPE_RSS_CAPABILITIES = 0x88,
    NDIS_TYPE_RSS_PARAMETERS = 0x89,
    NDIS_TYPE_OFFLOAD = 0xA7,
};
enum { NDIS_ENCAP_8023 = 2 };
enum {
    NDIS_CSUM4_IP_OPTIONS = 1,
    NDIS_CSUM4_TCP_OPTIONS = 4,
    NDIS_CSUM4_TCP = 0x10,
    NDIS_CSUM4_UDP = 0x40,
    NDIS_CSUM4_IP = 0x100,
    NDIS_CSUM6_EXTENSIONS = 1,
    NDIS_CSUM6_TCP_OPTIONS = 4,
    NDIS_CSUM6_TCP = 0x10,
    NDIS_CSUM6_UDP = 0x40,
    NDIS_LSO6_EXTENSIONS = 1,
    NDIS_LSO6_TCP_OPTIONS = 4,
};
struct ndis_offload {
    struct ndis_header head;
    struct {
        uint32_t ip4_tx_encap, ip4_tx, ip4_rx_encap, ip4_rx;
        uint32_t ip6_tx_encap, ip6_tx, ip6_rx_encap, ip6_rx;
    } csum;
    uint32_t lso1[4];
    uint32_t ipsec1[7];
    struct {
        uint32_t ip4_encap, ip4_max, ip4_min_segments;
        uint32_t ip6_encap, ip6_max, ip6_min_segments, ip6_options;
    } lso2;
    uint32_t flags;
    uint32_t ipsec2[8];
    uint8_t rsc4, rsc6, reserved[2];
    uint32_t gre_flags, gre_max_header;
};
_Static_assert(sizeof(struct ndis_offload) == 156, "wire size");

struct ndis_offload_parameters {
    struct ndis_header head;
    uint8_t ip4_csum, tcp4_csum, udp4_csum, tcp6_csum, udp6_csum; /* enum ndis_set_csum */
    uint8_t lso1, ipsec1, lso2_4, lso2_6;                         /* 1 off, 2 on */
    uint8_t tcp4_offload, tcp6_offload, reserved;
    uint32_t flags;
    uint8_t ipsec2, ipsec2_4, rsc4, rsc6; /* rsc: 1 off, 2 on */
    uint8_t encapsulated, encapsulation, reserved2[2];
};
_Static_assert(sizeof(struct ndis_offload_parameters) == 28, "wire size");
enum ndis_set_csum { NDIS_NO_CHANGE, NDIS_OFF, NDIS_TX, NDIS_RX, NDIS_TX_RX };
enum { NDIS_LSO_OFF = 1, NDIS_LSO_ON = 2 };

struct ndis_rss_capabilities {
    struct ndis_header head;
    uint32_t flags, messages, queues;
    uint16_t table_entries;
} __attribute__((packed));
_Static_assert(sizeof(struct ndis_rss_capabilities) == 18, "wire size");

struct ndis_rss_parameters {
    struct ndis_header head;
    uint16_t flags, base_cpu;
    uint32_t hash_info;
    uint16_t table_bytes, reserved;
    uint32_t table_offset;
    uint16_t key_bytes, reserved2;
    uint32_t key_offset;
    uint32_t processor_masks_offset, masks, mask_size;
};
_Static_assert(sizeof(struct ndis_rss_parameters) == 40, "wire size");
enum {
    NDIS_RSS_HASH_UNCHANGED = 2,
    NDIS_RSS_TABLE_UNCHANGED = 4,
    NDIS_RSS_KEY_UNCHANGED = 8,
    NDIS_RSS_DISABLE = 0x10,
};
enum {
    NDIS_HASH_TOEPLITZ = 1,
    NDIS_HASH_IPV4 = 0x100,
    NDIS_HASH_TCP_IPV4 = 0x200,
    NDIS_HASH_IPV6 = 0x400,
    NDIS_HASH_TCP_IPV6 = 0x1000,
};

/* OID_CONFIG_PARAMETER: offsets from its start. */
struct rndis_config_parameter {
    uint32_t name_offset, name_len, type, value_offset, value_len;
};
_Static_assert(sizeof(struct rndis_config_parameter) == 20, "wire size");

#endif
