/*
 * Copyright (c) 2026 The ovs-vhostuser Authors.
 *
 * Licensed under the Apache License, Version 2.0 (the "License");
 * you may not use this file except in compliance with the License.
 * You may obtain a copy of the License at:
 *
 *     http://www.apache.org/licenses/LICENSE-2.0
 *
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS,
 * WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
 * See the License for the specific language governing permissions and
 * limitations under the License.
 */

#ifndef VIRTIO_SPEC_H
#define VIRTIO_SPEC_H 1

/* Constants and structs of the virtio specification
 * =================================================
 *
 * Names are those of the specification (OASIS virtio 1.3), which gives a
 * section by its title where one is cited here.  This header is the only
 * source of these names: <linux/virtio_*.h> defines some of them as macros
 * and must not be included anywhere. */

#include <stddef.h>

#include "virtio-endian.h"
#include "openvswitch/compiler.h"

/* Feature bits of the device and of the virtqueues ("Reserved Feature Bits",
 * "Legacy Interface: Reserved Feature Bits", "Network Device: Feature bits").
 * NAME, bit number. */
#define VIRTIO_FEATURES                         \
    VIRTIO_FEATURE(NET_F_CSUM, 0)               \
    VIRTIO_FEATURE(NET_F_GUEST_CSUM, 1)         \
    VIRTIO_FEATURE(NET_F_CTRL_GUEST_OFFLOADS, 2) \
    VIRTIO_FEATURE(NET_F_MTU, 3)                \
    VIRTIO_FEATURE(NET_F_MAC, 5)                \
    VIRTIO_FEATURE(NET_F_GSO, 6)                \
    VIRTIO_FEATURE(NET_F_GUEST_TSO4, 7)         \
    VIRTIO_FEATURE(NET_F_GUEST_TSO6, 8)         \
    VIRTIO_FEATURE(NET_F_GUEST_ECN, 9)          \
    VIRTIO_FEATURE(NET_F_GUEST_UFO, 10)         \
    VIRTIO_FEATURE(NET_F_HOST_TSO4, 11)         \
    VIRTIO_FEATURE(NET_F_HOST_TSO6, 12)         \
    VIRTIO_FEATURE(NET_F_HOST_ECN, 13)          \
    VIRTIO_FEATURE(NET_F_HOST_UFO, 14)          \
    VIRTIO_FEATURE(NET_F_MRG_RXBUF, 15)         \
    VIRTIO_FEATURE(NET_F_STATUS, 16)            \
    VIRTIO_FEATURE(NET_F_CTRL_VQ, 17)           \
    VIRTIO_FEATURE(NET_F_CTRL_RX, 18)           \
    VIRTIO_FEATURE(NET_F_CTRL_VLAN, 19)         \
    VIRTIO_FEATURE(NET_F_CTRL_RX_EXTRA, 20)     \
    VIRTIO_FEATURE(NET_F_GUEST_ANNOUNCE, 21)    \
    VIRTIO_FEATURE(NET_F_MQ, 22)                \
    VIRTIO_FEATURE(NET_F_CTRL_MAC_ADDR, 23)     \
    VIRTIO_FEATURE(F_NOTIFY_ON_EMPTY, 24)       \
    VIRTIO_FEATURE(VHOST_F_LOG_ALL, 26)         \
    VIRTIO_FEATURE(F_ANY_LAYOUT, 27)            \
    VIRTIO_FEATURE(F_INDIRECT_DESC, 28)         \
    VIRTIO_FEATURE(F_EVENT_IDX, 29)             \
    VIRTIO_FEATURE(VHOST_USER_F_PROTOCOL_FEATURES, 30) \
    VIRTIO_FEATURE(F_VERSION_1, 32)             \
    VIRTIO_FEATURE(F_ACCESS_PLATFORM, 33)       \
    VIRTIO_FEATURE(F_RING_PACKED, 34)           \
    VIRTIO_FEATURE(F_IN_ORDER, 35)              \
    VIRTIO_FEATURE(F_ORDER_PLATFORM, 36)        \
    VIRTIO_FEATURE(F_SR_IOV, 37)                \
    VIRTIO_FEATURE(F_NOTIFICATION_DATA, 38)     \
    VIRTIO_FEATURE(F_RING_RESET, 40)            \
    VIRTIO_FEATURE(NET_F_HASH_REPORT, 57)       \
    VIRTIO_FEATURE(NET_F_RSS, 60)               \
    VIRTIO_FEATURE(NET_F_RSC_EXT, 61)           \
    VIRTIO_FEATURE(NET_F_STANDBY, 62)           \
    VIRTIO_FEATURE(NET_F_SPEED_DUPLEX, 63)

enum virtio_feature {
#define VIRTIO_FEATURE(NAME, BIT) VIRTIO_##NAME = BIT,
    VIRTIO_FEATURES
#undef VIRTIO_FEATURE
};

/* The two bits that the vhost-user specification puts among them have names
 * of their own there. */
#define VHOST_F_LOG_ALL VIRTIO_VHOST_F_LOG_ALL
#define VHOST_USER_F_PROTOCOL_FEATURES VIRTIO_VHOST_USER_F_PROTOCOL_FEATURES

/* The feature word with just one bit, for any of the enums of feature bits. */
#define VIRTIO_BIT(BIT) (UINT64_C(1) << (BIT))

/* "Device Status Field". */
enum virtio_status {
    VIRTIO_STATUS_ACKNOWLEDGE = 1,
    VIRTIO_STATUS_DRIVER = 2,
    VIRTIO_STATUS_DRIVER_OK = 4,
    VIRTIO_STATUS_FEATURES_OK = 8,
    VIRTIO_STATUS_NEEDS_RESET = 64,
    VIRTIO_STATUS_FAILED = 128,
};

/* "Split Virtqueues".  Largest size of a virtqueue of either format. */
#define VIRTQ_MAX_SIZE 32768

/* Flags of a descriptor, either format. */
enum {
    VIRTQ_DESC_F_NEXT = 1,
    VIRTQ_DESC_F_WRITE = 2,
    VIRTQ_DESC_F_INDIRECT = 4,
    VIRTQ_DESC_F_AVAIL = 1 << 7,    /* Packed format only. */
    VIRTQ_DESC_F_USED = 1 << 15,    /* Packed format only. */
};

enum { VIRTQ_AVAIL_F_NO_INTERRUPT = 1 };
enum { VIRTQ_USED_F_NO_NOTIFY = 1 };

/* "The Virtqueue Descriptor Table". */
struct virtq_desc {
    virtio_le64 addr;           /* Guest address. */
    virtio_le32 len;
    virtio_le16 flags;          /* VIRTQ_DESC_F_*. */
    virtio_le16 next;
};
BUILD_ASSERT_DECL(sizeof(struct virtq_desc) == 16);

/* "The Virtqueue Available Ring".  'used_event' follows ring[size - 1]. */
struct virtq_avail {
    virtio_le16 flags;          /* VIRTQ_AVAIL_F_*. */
    virtio_le16 idx;
    virtio_le16 ring[];
};
BUILD_ASSERT_DECL(sizeof(struct virtq_avail) == 4);

struct virtq_used_elem {
    virtio_le32 id;             /* Head of the chain. */
    virtio_le32 len;            /* Bytes that the device wrote. */
};
BUILD_ASSERT_DECL(sizeof(struct virtq_used_elem) == 8);

/* "The Virtqueue Used Ring".  'avail_event' follows ring[size - 1]. */
struct virtq_used {
    virtio_le16 flags;          /* VIRTQ_USED_F_*. */
    virtio_le16 idx;
    struct virtq_used_elem ring[];
};
BUILD_ASSERT_DECL(sizeof(struct virtq_used) == 4);

/* Alignment that the specification demands of the three areas of a split
 * virtqueue ("Split Virtqueues"). */
#define VIRTQ_DESC_ALIGN 16
#define VIRTQ_AVAIL_ALIGN 2
#define VIRTQ_USED_ALIGN 4

/* "Packed Virtqueues", "Descriptor Ring". */
struct pvirtq_desc {
    virtio_le64 addr;           /* Guest address. */
    virtio_le32 len;
    virtio_le16 id;             /* Buffer ID. */
    virtio_le16 flags;          /* VIRTQ_DESC_F_*. */
};
BUILD_ASSERT_DECL(sizeof(struct pvirtq_desc) == 16);
BUILD_ASSERT_DECL(offsetof(struct pvirtq_desc, len) == 8);
BUILD_ASSERT_DECL(offsetof(struct pvirtq_desc, id) == 12);
BUILD_ASSERT_DECL(offsetof(struct pvirtq_desc, flags) == 14);

/* "Event Suppression Structure Format". */
enum pvirtq_event_flags {
    RING_EVENT_FLAGS_ENABLE = 0,
    RING_EVENT_FLAGS_DISABLE = 1,
    RING_EVENT_FLAGS_DESC = 2,  /* VIRTIO_F_EVENT_IDX only. */
};

struct pvirtq_event_suppress {
    virtio_le16 desc;           /* Bits 0 to 14 are the offset of a descriptor,
                                 * bit 15 is the wrap counter. */
    virtio_le16 flags;          /* RING_EVENT_FLAGS_*, in bits 0 and 1. */
};
BUILD_ASSERT_DECL(sizeof(struct pvirtq_event_suppress) == 4);
BUILD_ASSERT_DECL(offsetof(struct pvirtq_event_suppress, flags) == 2);

/* Alignment of the descriptor ring and the event suppression structures
 * ("Packed Virtqueues"). */
#define PVIRTQ_DESC_ALIGN 16
#define PVIRTQ_EVENT_ALIGN 4

/* "Network Device: Device Operation", struct virtio_net_hdr.  A legacy driver
 * without VIRTIO_NET_F_MRG_RXBUF leaves 'num_buffers' out. */
struct virtio_net_hdr {
    uint8_t flags;
    uint8_t gso_type;
    virtio_le16 hdr_len;
    virtio_le16 gso_size;
    virtio_le16 csum_start;
    virtio_le16 csum_offset;
    virtio_le16 num_buffers;
};
BUILD_ASSERT_DECL(sizeof(struct virtio_net_hdr) == 12);

#define VIRTIO_NET_HDR_LEN 12
#define VIRTIO_NET_HDR_LEN_LEGACY 10

/* "Network Device: Device configuration layout", up to what we use. */
struct virtio_net_config {
    uint8_t mac[6];
    virtio_le16 status;
    virtio_le16 max_virtqueue_pairs;
    virtio_le16 mtu;
};
BUILD_ASSERT_DECL(sizeof(struct virtio_net_config) == 12);

/* The same: limits of 'mtu'. */
#define VIRTIO_NET_MIN_MTU 68
#define VIRTIO_NET_MAX_MTU 65535

#endif /* virtio-spec.h */
