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

#include <config.h>

#include "netdev-vhostuser.h"

#include <errno.h>
#include <string.h>

#include "coverage.h"
#include "dp-packet.h"
#include "netdev-vhostuser-count.h"
#include "packets.h"
#include "util.h"
#include "vhu-dev.h"
#include "vhu-packet.h"
#include "virtq.h"

/* The hot path
 * ============
 *
 * What PMD threads do with a port, and nothing else.  Nothing here logs,
 * blocks or takes a mutex.  The lock of a vring is held for one burst; only
 * the control thread, or another thread that sends to the same receiveq,
 * contends for it. */

/* A thread had to wait for another one to send to the same receiveq. */
COVERAGE_DEFINE(vhostuser_tx_contention);

/* What follows each burst: the chains that were used become visible to the
 * driver.  'error' is that of 'vq' before the burst: if the burst has broken
 * it, the control thread has to know, once. */
static inline ALWAYS_INLINE void
finish_burst(struct netdev_vhostuser *netdev, struct virtq *vq,
             enum virtq_error error)
{
    virtq_publish_used(vq);
    virtq_call(vq);
    if (OVS_UNLIKELY(virtq_get_error(vq, NULL, NULL) != error)) {
        vhu_dev_kick_control(netdev->dev);
    }
}

/* Appends up to 'max' packets from the transmitq 'vring' to 'batch'.  Unless
 * 'qfill' is null, stores the number of chains that are left, as far as it is
 * known, in '*qfill' if there were at least 'max', otherwise 0. */
static inline ALWAYS_INLINE void
recv_burst(struct netdev_vhostuser *netdev, struct vhu_vring *vring,
           size_t max, struct dp_packet_batch *batch, int *qfill)
{
    struct virtq_chain chains[NETDEV_MAX_BURST];
    struct vhu_queue_stats *stats = netdev->stats[vring->index];
    struct virtq *vq = vhu_vring_trylock(vring);
    size_t first = dp_packet_batch_size(batch);
    enum virtq_error error;
    struct vhu_net_hdr hdr;
    size_t n, n_bad;

    if (OVS_UNLIKELY(!vq)) {
        return;
    }

    error = virtq_get_error(vq, NULL, NULL);
    hdr = vhu_net_hdr_from_features(virtq_get_features(vq));
    n = virtq_take_avail(vq, chains, max);
    /* A RARP packet is on the heap, then those behind it must be, too. */
    n_bad = vhu_packets_from_chains(chains, n, hdr.len,
                                    first ? NULL : netdev->pool, batch);
    virtq_add_used_burst(vq, chains, NULL, n);
    finish_burst(netdev, vq, error);
    virtq_prefetch_next(vq);
    if (OVS_UNLIKELY(qfill)) {
        *qfill = n == max ? virtq_n_avail(vq) : 0;
    }

    count_packets(stats, &batch->packets[first], n - n_bad, 0);
    count_drops(stats, VHU_DROP_rx_malformed, n_bad);
    vhu_vring_unlock(vring);
}

/* Returns the packet that the front-end asked for with SEND_RARP: a broadcast
 * RARP request from the address of the guest, as a guest that announces itself
 * would send. */
static struct dp_packet *
rarp_packet(const struct eth_addr mac)
{
    struct dp_packet *packet = vhu_packet_new(0);

    compose_rarp(packet, mac);
    dp_packet_put_zeros(packet, ETH_TOTAL_MIN - dp_packet_size(packet));
    return packet;
}

/* If the front-end has asked for a RARP packet since the last call, appends
 * one to 'batch'. */
static void
recv_rarp(struct netdev_vhostuser *netdev, struct dp_packet_batch *batch)
{
    uint64_t mac_and_zeros;
    struct eth_addr mac;
    bool pending = true;

    /* Pairs with the release when the control thread sets 'rarp_pending' after
     * 'rarp_mac'.  The flag is cleared before 'rarp_mac' is read: should
     * there be another request in between, it is served again. */
    if (atomic_compare_exchange_strong(&netdev->rarp_pending, &pending,
                                       false)) {
        atomic_read_relaxed(&netdev->rarp_mac, &mac_and_zeros);
        memcpy(&mac, &mac_and_zeros, sizeof mac);
        dp_packet_batch_add(batch, rarp_packet(mac));
    }
}

/* Takes note of the address of the guest, which sent the last of the packets
 * in 'batch', for those who want to announce it. */
static void
learn_mac(struct netdev_vhostuser *netdev, const struct dp_packet_batch *batch)
{
    size_t n = dp_packet_batch_size(batch);
    const struct eth_header *eth;
    uint64_t mac = 0;

    if (n) {
        eth = dp_packet_data(batch->packets[n - 1]);
        if (!eth_addr_is_multicast(eth->eth_src)
            && !eth_addr_is_zero(eth->eth_src)) {
            memcpy(&mac, &eth->eth_src, sizeof eth->eth_src);
            atomic_store_relaxed(&netdev->guest_mac, mac);
            atomic_store_relaxed(&netdev->learn_mac, false);
        }
    }
}

/* Appends what there is to receive to 'batch': a RARP packet if 'rarp', and
 * whatever the guest has transmitted.  For 'qfill' see recv_burst(). */
static void
recv_all(struct netdev_vhostuser *netdev, struct vhu_vring *vring, bool rarp,
         struct dp_packet_batch *batch, int *qfill)
{
    struct netdev_vhostuser_policer *policer;
    bool learn;

    if (OVS_UNLIKELY(rarp)) {
        recv_rarp(netdev, batch);
    }
    recv_burst(netdev, vring, NETDEV_MAX_BURST - dp_packet_batch_size(batch),
               batch, qfill);
    atomic_read_relaxed(&netdev->learn_mac, &learn);
    if (OVS_UNLIKELY(learn)) {
        learn_mac(netdev, batch);
    }

    policer = ovsrcu_get(struct netdev_vhostuser_policer *, &netdev->policer);
    if (OVS_UNLIKELY(policer)) {
        /* Only the thread that polls this rxq counts these. */
        count_drops(netdev->stats[vring->index], VHU_DROP_rx_qos,
                    netdev_vhostuser_policer_run(policer, batch));
    }
}

/* Moves up to one batch of packets from the guest into 'batch'.  The rxq 'n'
 * of the switch is the transmitq 'n' + 1 of the guest.
 *
 * Returns 0 if there is any packet, otherwise EAGAIN. */
int
netdev_vhostuser_rxq_recv(struct netdev_rxq *rxq,
                          struct dp_packet_batch *batch, int *qfill)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(rxq->netdev);
    const struct netdev_vhostuser_driver *driver
        = ovsrcu_get(struct netdev_vhostuser_driver *, &netdev->driver);
    struct vhu_vring *vring
        = CONTAINER_OF(rxq, struct netdev_vhostuser_rxq, up)->vring;
    struct virtq *vq = ovsrcu_get(struct virtq *, &vring->vq);
    bool rarp = false;
    bool up;

    if (OVS_UNLIKELY(driver)) {
        return netdev_vhostuser_driver_rxq_recv(driver, rxq, batch, qfill);
    }

    /* The idle case, and by far the most frequent one: no lock, no write. */
    if (OVS_UNLIKELY(!rxq->queue_id)) {
        atomic_read_relaxed(&netdev->rarp_pending, &rarp);
    }
    if (!rarp && (!vq || !virtq_has_avail(vq))) {
        return EAGAIN;
    }

    atomic_read_relaxed(&netdev->rx_flag, &up);
    if (OVS_UNLIKELY(!up)) {
        return EAGAIN;
    }

    if (OVS_UNLIKELY(qfill)) {
        *qfill = 0;
    }
    recv_all(netdev, vring, rarp, batch, qfill);
    return OVS_LIKELY(dp_packet_batch_size(batch)) ? 0 : EAGAIN;
}

/* Puts 'packets' into as many chains as 'vq' has now, up to one burst of
 * these.  Returns the number of packets dealt with, of which '*n_unfit'
 * increases by those that fit nowhere; '*more' tells whether it is of any use
 * to call this again for the rest. */
static inline ALWAYS_INLINE size_t
send_chains(struct virtq *vq, const struct vhu_net_hdr *hdr,
            struct vhu_queue_stats *stats, struct dp_packet *const packets[],
            size_t n_packets, size_t n_wanted, size_t *n_unfit, bool *more)
{
    struct virtq_chain chains[VIRTQ_MAX_BURST];
    struct vhu_fill fill;
    size_t n_chains;

    n_chains = virtq_take_avail(vq, chains, n_wanted);
    vhu_packets_to_chains(packets, MIN(n_packets, VIRTQ_MAX_BURST),
                          chains, n_chains, hdr, &fill);
    virtq_add_used_burst(vq, chains, fill.used_len, fill.n_chains);
    if (OVS_UNLIKELY(fill.n_chains < n_chains)) {
        virtq_put_back(vq, &chains[fill.n_chains], n_chains - fill.n_chains);
    }

    count_packets(stats, packets, fill.n_packets, fill.unfit);
    *n_unfit += count_1bits(fill.unfit);
    *more = n_chains == n_wanted && fill.n_packets < n_packets;
    return fill.n_packets;
}

/* Puts as many of the 'n' 'packets' as possible into 'vq', notifies the driver
 * at most once, and returns the number of packets dealt with. */
static inline ALWAYS_INLINE size_t
send_burst(struct netdev_vhostuser *netdev, struct virtq *vq,
           const struct vhu_net_hdr *hdr, struct vhu_queue_stats *stats,
           struct dp_packet *const packets[], size_t n, size_t *n_unfit)
{
    enum virtq_error error = virtq_get_error(vq, NULL, NULL);
    size_t n_done, n_new;
    bool more;

    /* As a rule a packet takes one chain.  If these were not enough, take as
     * many as possible, as long as that helps: a driver must not keep us here
     * by making chains available in which no packet can begin. */
    n_done = send_chains(vq, hdr, stats, packets, n, MIN(n, VIRTQ_MAX_BURST),
                         n_unfit, &more);
    while (OVS_UNLIKELY(more)) {
        n_new = send_chains(vq, hdr, stats, &packets[n_done], n - n_done,
                            VIRTQ_MAX_BURST, n_unfit, &more);
        n_done += n_new;
        more = more && n_new;
    }
    finish_burst(netdev, vq, error);
    return n_done;
}

/* Sends the 'n' 'packets' to 'vq', of the vring that 'stats' belongs to.  If
 * the ring gets full, tries again while the driver makes room, like the vhost
 * ports of netdev-dpdk. */
static inline ALWAYS_INLINE void
send_packets(struct netdev_vhostuser *netdev, struct virtq *vq,
             struct vhu_queue_stats *stats, struct dp_packet *const packets[],
             size_t n)
{
    struct vhu_net_hdr hdr
        = vhu_net_hdr_from_features(virtq_get_features(vq));
    unsigned int retries_max = 0;
    unsigned int retries = 0;
    size_t n_unfit = 0;
    size_t n_done;

    n_done = send_burst(netdev, vq, &hdr, stats, packets, n, &n_unfit);
    if (OVS_UNLIKELY(n_done < n)) {
        size_t n_new = n_done;

        atomic_read_relaxed(&netdev->tx_retries_max, &retries_max);
        while (n_new && n_done < n && retries < retries_max) {
            retries++;
            n_new = send_burst(netdev, vq, &hdr, stats, &packets[n_done],
                               n - n_done, &n_unfit);
            n_done += n_new;
        }
        vhu_counter_add(&stats->retries, retries);
    }
    virtq_prefetch_next(vq);

    count_drops(stats, VHU_DROP_tx_failure, n - n_done + n_unfit);
}

/* Takes the lock of 'vring' for a thread that sends, and returns the
 * virtqueue, or null, without the lock, if there is none. */
static inline ALWAYS_INLINE struct virtq *
lock_for_send(struct vhu_vring *vring)
{
    struct virtq *vq = vhu_vring_trylock(vring);

    if (OVS_UNLIKELY(!vq) && ovsrcu_get(struct virtq *, &vring->vq)) {
        COVERAGE_INC(vhostuser_tx_contention);
        vq = vhu_vring_lock(vring);
    }
    return vq;
}

/* Returns the vring that 'qid' sends to, or null if there is none. */
static inline ALWAYS_INLINE struct vhu_vring *
txq_to_vring(struct netdev_vhostuser *netdev, int qid)
{
    struct vhu_txq_map *map = ovsrcu_get(struct vhu_txq_map *,
                                         &netdev->txq_map);
    bool up;

    atomic_read_relaxed(&netdev->up_flag, &up);
    if (OVS_UNLIKELY(!up || !map || !map->n)) {
        return NULL;
    }
    return netdev->dev->vrings[map->vrings[(unsigned int) qid % map->n]];
}

/* Moves the packets in 'batch' to the guest.  Which of its receiveqs a txq of
 * the switch stands for depends on which are enabled, see "struct
 * vhu_txq_map".  Several txqs may share one, so 'concurrent_txq' makes no
 * difference.
 *
 * Always returns 0: packets for which there is no room are dropped. */
int
netdev_vhostuser_send(struct netdev *netdev_, int qid,
                      struct dp_packet_batch *batch,
                      bool concurrent_txq OVS_UNUSED)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);
    const struct netdev_vhostuser_driver *driver
        = ovsrcu_get(struct netdev_vhostuser_driver *, &netdev->driver);
    struct vhu_vring *vring = txq_to_vring(netdev, qid);
    struct virtq *vq = NULL;
    size_t n_policed = 0;
    size_t n_long = 0;

    if (OVS_UNLIKELY(driver)) {
        return netdev_vhostuser_driver_send(driver, netdev, qid, batch);
    }

    if (OVS_LIKELY(vring)) {
        struct netdev_vhostuser_qos *qos
            = ovsrcu_get(struct netdev_vhostuser_qos *, &netdev->qos);

        n_long = filter_long_packets(netdev, batch);
        if (OVS_UNLIKELY(qos)) {
            n_policed = netdev_vhostuser_qos_run(qos, batch);
        }
        vq = lock_for_send(vring);
    }

    if (OVS_LIKELY(vq)) {
        struct vhu_queue_stats *stats = netdev->stats[vring->index];

        send_packets(netdev, vq, stats, batch->packets,
                     dp_packet_batch_size(batch));
        count_drops(stats, VHU_DROP_tx_mtu_exceeded, n_long);
        count_drops(stats, VHU_DROP_tx_qos, n_policed);
        vhu_vring_unlock(vring);
    } else {
        count_drops_without_queue(netdev, VHU_DROP_tx_not_ready,
                                  dp_packet_batch_size(batch)
                                  + n_long + n_policed);
    }
    vhu_packets_recycle(batch);
    return 0;
}
