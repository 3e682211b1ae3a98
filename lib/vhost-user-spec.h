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

#ifndef VHOST_USER_SPEC_H
#define VHOST_USER_SPEC_H 1

/* Constants and structs of the vhost-user specification
 * =====================================================
 *
 * Names are those of the specification.  Everything is in the byte order of
 * the host ("Communication"). */

#include <stdint.h>

#include "openvswitch/compiler.h"

/* "Header". */
struct vhost_user_hdr {
    uint32_t request;           /* enum vhost_user_fe_req or _be_req. */
    uint32_t flags;             /* VHOST_USER_FLAG_* and the version. */
    uint32_t size;              /* Bytes of payload that follow. */
};
BUILD_ASSERT_DECL(sizeof(struct vhost_user_hdr) == 12);

#define VHOST_USER_VERSION 1
#define VHOST_USER_VERSION_MASK 0x3
#define VHOST_USER_FLAG_REPLY 0x4
#define VHOST_USER_FLAG_NEED_REPLY 0x8

/* "Protocol features". */
#define VHOST_USER_PROTOCOL_FEATURES                    \
    VHOST_USER_PROTOCOL_FEATURE(MQ, 0)                  \
    VHOST_USER_PROTOCOL_FEATURE(LOG_SHMFD, 1)           \
    VHOST_USER_PROTOCOL_FEATURE(RARP, 2)                \
    VHOST_USER_PROTOCOL_FEATURE(REPLY_ACK, 3)           \
    VHOST_USER_PROTOCOL_FEATURE(NET_MTU, 4)             \
    VHOST_USER_PROTOCOL_FEATURE(BACKEND_REQ, 5)         \
    VHOST_USER_PROTOCOL_FEATURE(CROSS_ENDIAN, 6)        \
    VHOST_USER_PROTOCOL_FEATURE(CRYPTO_SESSION, 7)      \
    VHOST_USER_PROTOCOL_FEATURE(PAGEFAULT, 8)           \
    VHOST_USER_PROTOCOL_FEATURE(CONFIG, 9)              \
    VHOST_USER_PROTOCOL_FEATURE(BACKEND_SEND_FD, 10)    \
    VHOST_USER_PROTOCOL_FEATURE(HOST_NOTIFIER, 11)      \
    VHOST_USER_PROTOCOL_FEATURE(INFLIGHT_SHMFD, 12)     \
    VHOST_USER_PROTOCOL_FEATURE(RESET_DEVICE, 13)       \
    VHOST_USER_PROTOCOL_FEATURE(INBAND_NOTIFICATIONS, 14) \
    VHOST_USER_PROTOCOL_FEATURE(CONFIGURE_MEM_SLOTS, 15) \
    VHOST_USER_PROTOCOL_FEATURE(STATUS, 16)             \
    VHOST_USER_PROTOCOL_FEATURE(XEN_MMAP, 17)           \
    VHOST_USER_PROTOCOL_FEATURE(SHARED_OBJECT, 18)      \
    VHOST_USER_PROTOCOL_FEATURE(DEVICE_STATE, 19)       \
    VHOST_USER_PROTOCOL_FEATURE(GET_VRING_BASE_INFLIGHT, 20)

enum vhost_user_protocol_feature {
#define VHOST_USER_PROTOCOL_FEATURE(NAME, BIT) \
    VHOST_USER_PROTOCOL_F_##NAME = BIT,
    VHOST_USER_PROTOCOL_FEATURES
#undef VHOST_USER_PROTOCOL_FEATURE
};

/* "Front-end message types": requests that the front-end sends. */
#define VHOST_USER_FE_REQS                      \
    VHOST_USER_FE_REQ(GET_FEATURES, 1)          \
    VHOST_USER_FE_REQ(SET_FEATURES, 2)          \
    VHOST_USER_FE_REQ(SET_OWNER, 3)             \
    VHOST_USER_FE_REQ(RESET_OWNER, 4)           \
    VHOST_USER_FE_REQ(SET_MEM_TABLE, 5)         \
    VHOST_USER_FE_REQ(SET_LOG_BASE, 6)          \
    VHOST_USER_FE_REQ(SET_LOG_FD, 7)            \
    VHOST_USER_FE_REQ(SET_VRING_NUM, 8)         \
    VHOST_USER_FE_REQ(SET_VRING_ADDR, 9)        \
    VHOST_USER_FE_REQ(SET_VRING_BASE, 10)       \
    VHOST_USER_FE_REQ(GET_VRING_BASE, 11)       \
    VHOST_USER_FE_REQ(SET_VRING_KICK, 12)       \
    VHOST_USER_FE_REQ(SET_VRING_CALL, 13)       \
    VHOST_USER_FE_REQ(SET_VRING_ERR, 14)        \
    VHOST_USER_FE_REQ(GET_PROTOCOL_FEATURES, 15) \
    VHOST_USER_FE_REQ(SET_PROTOCOL_FEATURES, 16) \
    VHOST_USER_FE_REQ(GET_QUEUE_NUM, 17)        \
    VHOST_USER_FE_REQ(SET_VRING_ENABLE, 18)     \
    VHOST_USER_FE_REQ(SEND_RARP, 19)            \
    VHOST_USER_FE_REQ(NET_SET_MTU, 20)          \
    VHOST_USER_FE_REQ(SET_BACKEND_REQ_FD, 21)   \
    VHOST_USER_FE_REQ(IOTLB_MSG, 22)            \
    VHOST_USER_FE_REQ(SET_VRING_ENDIAN, 23)     \
    VHOST_USER_FE_REQ(GET_CONFIG, 24)           \
    VHOST_USER_FE_REQ(SET_CONFIG, 25)           \
    VHOST_USER_FE_REQ(CREATE_CRYPTO_SESSION, 26) \
    VHOST_USER_FE_REQ(CLOSE_CRYPTO_SESSION, 27) \
    VHOST_USER_FE_REQ(POSTCOPY_ADVISE, 28)      \
    VHOST_USER_FE_REQ(POSTCOPY_LISTEN, 29)      \
    VHOST_USER_FE_REQ(POSTCOPY_END, 30)         \
    VHOST_USER_FE_REQ(GET_INFLIGHT_FD, 31)      \
    VHOST_USER_FE_REQ(SET_INFLIGHT_FD, 32)      \
    VHOST_USER_FE_REQ(GPU_SET_SOCKET, 33)       \
    VHOST_USER_FE_REQ(RESET_DEVICE, 34)         \
    VHOST_USER_FE_REQ(VRING_KICK, 35)           \
    VHOST_USER_FE_REQ(GET_MAX_MEM_SLOTS, 36)    \
    VHOST_USER_FE_REQ(ADD_MEM_REG, 37)          \
    VHOST_USER_FE_REQ(REM_MEM_REG, 38)          \
    VHOST_USER_FE_REQ(SET_STATUS, 39)           \
    VHOST_USER_FE_REQ(GET_STATUS, 40)           \
    VHOST_USER_FE_REQ(GET_SHARED_OBJECT, 41)    \
    VHOST_USER_FE_REQ(SET_DEVICE_STATE_FD, 42)  \
    VHOST_USER_FE_REQ(CHECK_DEVICE_STATE, 43)   \
    VHOST_USER_FE_REQ(GET_SHMEM_CONFIG, 44)

enum vhost_user_fe_req {
#define VHOST_USER_FE_REQ(NAME, NUMBER) VHOST_USER_##NAME = NUMBER,
    VHOST_USER_FE_REQS
#undef VHOST_USER_FE_REQ
    VHOST_USER_FE_REQ_MAX
};

/* "Back-end message types": requests that the back-end sends, over the
 * channel that SET_BACKEND_REQ_FD brought. */
#define VHOST_USER_BE_REQS                      \
    VHOST_USER_BE_REQ(IOTLB_MSG, 1)             \
    VHOST_USER_BE_REQ(CONFIG_CHANGE_MSG, 2)     \
    VHOST_USER_BE_REQ(VRING_HOST_NOTIFIER_MSG, 3) \
    VHOST_USER_BE_REQ(VRING_CALL, 4)            \
    VHOST_USER_BE_REQ(VRING_ERR, 5)             \
    VHOST_USER_BE_REQ(SHARED_OBJECT_ADD, 6)     \
    VHOST_USER_BE_REQ(SHARED_OBJECT_REMOVE, 7)  \
    VHOST_USER_BE_REQ(SHARED_OBJECT_LOOKUP, 8)  \
    VHOST_USER_BE_REQ(SHMEM_MAP, 9)             \
    VHOST_USER_BE_REQ(SHMEM_UNMAP, 10)

enum vhost_user_be_req {
#define VHOST_USER_BE_REQ(NAME, NUMBER) VHOST_USER_BACKEND_##NAME = NUMBER,
    VHOST_USER_BE_REQS
#undef VHOST_USER_BE_REQ
    VHOST_USER_BE_REQ_MAX
};

/* "Vring state description". */
struct vhost_user_vring_state {
    uint32_t index;
    uint32_t num;
};
BUILD_ASSERT_DECL(sizeof(struct vhost_user_vring_state) == 8);

/* "A vring address description". */
struct vhost_user_vring_addr {
    uint32_t index;
    uint32_t flags;             /* Bit 0: VHOST_VRING_F_LOG. */
    uint64_t desc;              /* User addresses, not guest addresses. */
    uint64_t used;
    uint64_t avail;
    uint64_t log;               /* Guest address of the used ring. */
};
BUILD_ASSERT_DECL(sizeof(struct vhost_user_vring_addr) == 40);

#define VHOST_VRING_F_LOG 0x1

/* "Memory region description". */
struct vhost_user_mem_region {
    uint64_t guest_addr;
    uint64_t size;
    uint64_t user_addr;
    uint64_t mmap_offset;
};
BUILD_ASSERT_DECL(sizeof(struct vhost_user_mem_region) == 32);

#define VHOST_USER_MAX_REGIONS 8

/* "Multiple memory regions description". */
struct vhost_user_mem_table {
    uint32_t n_regions;
    uint32_t padding;
    struct vhost_user_mem_region regions[VHOST_USER_MAX_REGIONS];
};
BUILD_ASSERT_DECL(sizeof(struct vhost_user_mem_table) == 264);

/* "Single memory region description". */
struct vhost_user_single_mem_region {
    uint64_t padding;
    struct vhost_user_mem_region region;
};
BUILD_ASSERT_DECL(sizeof(struct vhost_user_single_mem_region) == 40);

/* "Log description". */
struct vhost_user_log {
    uint64_t size;              /* Bytes. */
    uint64_t offset;            /* In the file. */
};
BUILD_ASSERT_DECL(sizeof(struct vhost_user_log) == 16);

/* "Migration": each bit of the log stands for this many bytes of guest
 * memory. */
#define VHOST_LOG_PAGE 4096

/* "Virtio device config space".  'size' bytes follow. */
#define VHOST_USER_MAX_CONFIG_SIZE 256
struct vhost_user_config {
    uint32_t offset;
    uint32_t size;
    uint32_t flags;             /* VHOST_USER_CONFIG_*. */
    uint8_t payload[VHOST_USER_MAX_CONFIG_SIZE];
};
BUILD_ASSERT_DECL(sizeof(struct vhost_user_config) == 268);

#define VHOST_USER_CONFIG_WRITABLE 0x0  /* The driver writes. */
#define VHOST_USER_CONFIG_MIGRATION 0x1 /* Migration writes. */

/* "Inflight description".  The table in the specification ends after
 * 'queue_size' (20 bytes); what most implementations send ends here. */
struct vhost_user_inflight {
    uint64_t mmap_size;
    uint64_t mmap_offset;
    uint16_t num_queues;
    uint16_t queue_size;
    uint32_t padding;
};
BUILD_ASSERT_DECL(sizeof(struct vhost_user_inflight) == 24);
#define VHOST_USER_INFLIGHT_MIN_SIZE 20

/* Payload of SET_VRING_KICK, SET_VRING_CALL and SET_VRING_ERR. */
#define VHOST_USER_VRING_INDEX_MASK 0xff
#define VHOST_USER_VRING_NOFD 0x100

/* The index in those three messages has 8 bits; the network device has two
 * vrings a queue pair. */
#define VHOST_USER_MAX_VRINGS 256
#define VHOST_USER_MAX_QUEUE_PAIRS (VHOST_USER_MAX_VRINGS / 2)

/* Most file descriptors that any message carries. */
#define VHOST_USER_MAX_FDS VHOST_USER_MAX_REGIONS

#endif /* vhost-user-spec.h */
