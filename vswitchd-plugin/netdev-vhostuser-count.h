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

#ifndef NETDEV_VHOSTUSER_COUNT_H
#define NETDEV_VHOSTUSER_COUNT_H 1

/* Counting packets
 * ================
 *
 * What the hot paths of both roles have in common.  For PMD threads that have
 * the lock of the vring of the statistics, unless it says otherwise. */

#include "dp-packet.h"
#include "netdev-vhostuser.h"
#include "packets.h"
#include "util.h"

/* Counts 'n' packets that were dropped for 'reason' in 'stats'.  No other
 * thread may count that in the same 'stats' at the same time. */
static inline ALWAYS_INLINE void
count_drops(struct vhu_queue_stats *stats, enum vhu_drop reason, size_t n)
{
    if (OVS_UNLIKELY(n)) {
        vhu_counter_add(&stats->drops[reason], n);
    }
}

/* The same where there is no queue.  Any thread. */
static inline void
count_drops_without_queue(struct netdev_vhostuser *netdev,
                          enum vhu_drop reason, size_t n)
{
    if (n) {
        __atomic_fetch_add(&netdev->no_queue.drops[reason], n,
                           __ATOMIC_RELAXED);
    }
}

/* Returns the bin that a packet of 'size' bytes is counted in. */
static inline ALWAYS_INLINE enum vhu_size_bin
size_to_bin(uint32_t size)
{
    if (OVS_LIKELY(size >= 65 && size <= 1023)) {
        /* Bins for 2^n to 2^(n + 1) - 1 bytes, from 2^6 on. */
        return VHU_BIN_size_65_127 + log_2_floor(size) - 6;
    } else if (size < 65) {
        return size < 64 ? VHU_BIN_undersize : VHU_BIN_size_64;
    } else {
        return (size <= 1518 ? VHU_BIN_size_1024_1518
                : VHU_BIN_size_1519_max);
    }
}

/* Counts 'packet' in 'stats', but for 'packets' and 'bytes'. */
static inline ALWAYS_INLINE void
count_packet(struct vhu_queue_stats *stats, const struct dp_packet *packet)
{
    const struct eth_addr *dst = dp_packet_data(packet);
    uint32_t size = dp_packet_size(packet);

    vhu_counter_add(&stats->sizes[size_to_bin(size)], 1);
    if (OVS_UNLIKELY(size >= ETH_ADDR_LEN && eth_addr_is_multicast(*dst))) {
        vhu_counter_add(eth_addr_is_broadcast(*dst)
                        ? &stats->broadcast : &stats->multicast, 1);
    }
}

/* Counts the 'n' 'packets' but for those that 'skip' has a bit for. */
static inline ALWAYS_INLINE void
count_packets(struct vhu_queue_stats *stats, struct dp_packet *const packets[],
              size_t n, uint64_t skip)
{
    uint64_t n_packets = 0;
    uint64_t n_bytes = 0;

    for (size_t i = 0; i < n; i++) {
        if (OVS_LIKELY(!(skip >> i & 1))) {
            n_packets++;
            n_bytes += dp_packet_size(packets[i]);
            count_packet(stats, packets[i]);
        }
    }
    vhu_counter_add(&stats->packets, n_packets);
    vhu_counter_add(&stats->bytes, n_bytes);
    vhu_counter_add(&stats->bursts, n_packets != 0);
}

/* Deletes the packets from 'batch' that are longer than the port permits.
 * Returns how many these are. */
static inline ALWAYS_INLINE size_t
filter_long_packets(struct netdev_vhostuser *netdev,
                    struct dp_packet_batch *batch)
{
    size_t n = dp_packet_batch_size(batch);
    unsigned int max_len;
    size_t n_kept = 0;

    atomic_read_relaxed(&netdev->max_packet_len, &max_len);
    for (size_t i = 0; i < n; i++) {
        struct dp_packet *packet = batch->packets[i];

        if (OVS_LIKELY(dp_packet_size(packet) <= max_len)) {
            batch->packets[n_kept++] = packet;
        } else {
            dp_packet_delete(packet);
        }
    }
    batch->count = n_kept;
    return n - n_kept;
}

#endif /* netdev-vhostuser-count.h */
