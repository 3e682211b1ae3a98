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

#ifndef VIRTIO_ENDIAN_H
#define VIRTIO_ENDIAN_H 1

/* Little-endian types
 * ===================
 *
 * Everything that a driver and a device share is little-endian (virtio,
 * "Structure Specifications").  A legacy driver uses the byte order of its
 * guest instead; we serve legacy drivers only where that is little-endian,
 * too, which is every guest on the hosts that we support.
 *
 * These types keep "sparse" able to tell a field in shared memory from a
 * number, as ovs_be16 does for network byte order. */

#include <stdint.h>

#include "openvswitch/types.h"

typedef uint16_t OVS_BITWISE virtio_le16;
typedef uint32_t OVS_BITWISE virtio_le32;
typedef uint64_t OVS_BITWISE virtio_le64;

#ifdef WORDS_BIGENDIAN
#define VIRTIO_SWAP(BITS, X) __builtin_bswap##BITS(X)
#else
#define VIRTIO_SWAP(BITS, X) (X)
#endif

static inline uint16_t
virtio_le16_to_cpu(virtio_le16 x)
{
    return VIRTIO_SWAP(16, (OVS_FORCE uint16_t) x);
}

static inline uint32_t
virtio_le32_to_cpu(virtio_le32 x)
{
    return VIRTIO_SWAP(32, (OVS_FORCE uint32_t) x);
}

static inline uint64_t
virtio_le64_to_cpu(virtio_le64 x)
{
    return VIRTIO_SWAP(64, (OVS_FORCE uint64_t) x);
}

static inline virtio_le16
virtio_cpu_to_le16(uint16_t x)
{
    return (OVS_FORCE virtio_le16) VIRTIO_SWAP(16, x);
}

static inline virtio_le32
virtio_cpu_to_le32(uint32_t x)
{
    return (OVS_FORCE virtio_le32) VIRTIO_SWAP(32, x);
}

static inline virtio_le64
virtio_cpu_to_le64(uint64_t x)
{
    return (OVS_FORCE virtio_le64) VIRTIO_SWAP(64, x);
}

#endif /* virtio-endian.h */
