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

#ifndef VHU_PACKET_H
#define VHU_PACKET_H 1

/* Packets and descriptor chains
 * =============================
 *
 * What a chain of a virtio-net virtqueue holds is a header, "struct
 * virtio_net_hdr", and a packet.  The functions here copy packets out of
 * chains and into chains, a burst at a time.  They know nothing of rings and
 * locks: the caller takes the chains, and gives them back.
 *
 * No offload is negotiated, so all fields of the header are ignored on the way
 * in, and 0 on the way out, but for 'num_buffers'.
 *
 *
 * Where packets come from
 * -----------------------
 *
 * The allocator keeps too few blocks at hand for bursts of 32.  So a packet is
 * one block, where that is possible (ovs_packet_create()), and not two as from
 * dp_packet_new(), and a thread that receives packets also keeps those that it
 * has sent, and receives into them again.  Whatever happens in between, anyone
 * may free or reallocate each of them as any other packet.
 *
 * In a switch with DPDK packets come from a pool, see vhu-pool.h, if the
 * caller has one. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dp-packet.h"
#include "virtio-spec.h"
#include "virtq.h"

struct vhu_pool;

/* Least bytes of headroom in a packet from a guest, as in one from DPDK: the
 * switch may put an outer header in front of it without moving it. */
#define VHU_PACKET_HEADROOM 128

/* Longest packet that a port carries, in either direction: what fits into a
 * dp_packet, whose buffer has a size of 16 bits, behind the headroom. */
#define VHU_MAX_PACKET_LEN (UINT16_MAX - VHU_PACKET_HEADROOM)

/* Layout of the header in all the buffers of a device. */
struct vhu_net_hdr {
    size_t len;                 /* VIRTIO_NET_HDR_LEN[_LEGACY]. */
    bool mergeable;             /* A packet may take more than one chain. */
};

/* Returns the layout under the negotiated 'features' ("Network Device: Device
 * Operation": the header has no 'num_buffers' for a legacy driver that did not
 * negotiate VIRTIO_NET_F_MRG_RXBUF). */
static inline struct vhu_net_hdr
vhu_net_hdr_from_features(uint64_t features)
{
    struct vhu_net_hdr hdr;

    hdr.mergeable = features & VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF);
    hdr.len = (hdr.mergeable
               || features & (VIRTIO_BIT(VIRTIO_F_VERSION_1)
                              | VIRTIO_BIT(VIRTIO_F_RING_PACKED))
               ? VIRTIO_NET_HDR_LEN : VIRTIO_NET_HDR_LEN_LEGACY);
    return hdr;
}

/* What became of a burst of packets: see vhu_packets_to_chains(). */
struct vhu_fill {
    size_t n_packets;           /* Packets dealt with: in chains, or... */
    uint64_t unfit;             /* ...for no chain that the guest has; bit 'i'
                                 * stands for 'packets[i]'. */
    size_t n_chains;            /* Chains to make used, */
    uint32_t used_len[VIRTQ_MAX_BURST]; /* with these lengths. */
};

size_t vhu_packets_from_chains(const struct virtq_chain chains[], size_t n,
                               size_t hdr_len, struct vhu_pool *pool,
                               struct dp_packet_batch *batch);
void vhu_packets_to_chains(struct dp_packet *const packets[], size_t n_packets,
                           const struct virtq_chain chains[], size_t n_chains,
                           const struct vhu_net_hdr *hdr,
                           struct vhu_fill *fill);

struct dp_packet *vhu_packet_new(size_t size);
void vhu_packets_recycle(struct dp_packet_batch *batch);

/* Returns true if 'packet' is in several pieces, as one that a DPDK port has
 * received may be.  OVS forwards it, but does not know. */
static inline bool
vhu_packet_is_split(const struct dp_packet *packet OVS_UNUSED)
{
#ifdef DPDK_NETDEV
    return packet->mbuf.nb_segs > 1;
#else
    return false;
#endif
}

/* For packets in several pieces.  The first makes the lengths of the pieces
 * right, or returns false if that is impossible; the second copies 'n' bytes
 * of such a packet, from byte 'ofs' on, to 'dst'. */
bool vhu_packet_mend(struct dp_packet *packet);
void vhu_packet_copy(const struct dp_packet *packet, size_t ofs, void *dst,
                     size_t n);

#endif /* vhu-packet.h */
