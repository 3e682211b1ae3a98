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
#include "util.h"
#include "vhu-dev.h"
#include "vhu-frontend.h"
#include "vhu-packet.h"
#include "virtq-drv.h"

/* The hot path of the front-end role
 * ==================================
 *
 * As netdev-vhostuser-io.c, but here we are the driver of the virtqueues: what
 * the switch receives is in used buffers of the receiveqs, what it sends goes
 * into free buffers of the transmitqs.
 *
 * The back-end may change at any time what is in the buffers.  So packets are
 * copied first, and nothing of them is looked at before. */

/* A thread had to wait for another one to send to the same transmitq. */
COVERAGE_DEFINE(vhostuser_driver_tx_contention);

/* What follows each burst: the buffers that were filled, or are free again,
 * become visible to the back-end.  'error' is that of 'vq' before the burst:
 * if the burst has broken it, the control thread has to know, once. */
static inline ALWAYS_INLINE void
finish_burst(const struct netdev_vhostuser_driver *driver,
             struct virtq_drv *vq, enum virtq_drv_error error)
{
    virtq_drv_publish_avail(vq);
    virtq_drv_kick(vq);
    if (OVS_UNLIKELY(virtq_drv_get_error(vq, NULL, NULL) != error)) {
        vhu_frontend_kick_control(driver->frontend);
    }
}

/* Receiving. */

/* Appends packets that were used in the receiveq 'vring' to 'batch'.  Unless
 * 'qfill' is null, stores the number of buffers in '*qfill' that are used but
 * not yet taken, if 'batch' is full. */
static inline ALWAYS_INLINE void
recv_burst(const struct netdev_vhostuser_driver *driver,
           struct vhu_fe_vring *vring, struct vhu_queue_stats *stats,
           struct vhu_pool *pool, struct dp_packet_batch *batch, int *qfill)
{
    struct virtq_chain packets[NETDEV_MAX_BURST];
    struct virtq_drv *vq = vhu_fe_vring_trylock(vring);
    enum virtq_drv_error error;
    uint64_t n_dropped;
    size_t n, n_bad;

    if (OVS_UNLIKELY(!vq)) {
        return;
    }

    error = virtq_drv_get_error(vq, NULL, NULL);
    n_dropped = vring->counters.bad_packets;
    n = virtq_drv_take_used(vq, packets, NETDEV_MAX_BURST);
    n_dropped = vring->counters.bad_packets - n_dropped;
    n_bad = vhu_packets_from_chains(packets, n, virtq_drv_get_hdr_len(vq),
                                    pool, batch);
    virtq_drv_refill(vq);
    finish_burst(driver, vq, error);
    virtq_drv_prefetch_next(vq);
    if (OVS_UNLIKELY(qfill) && n == NETDEV_MAX_BURST) {
        *qfill = virtq_drv_n_used(vq);
    }

    count_packets(stats, batch->packets, n - n_bad, 0);
    count_drops(stats, VHU_DROP_rx_malformed, n_bad + n_dropped);
    vhu_fe_vring_unlock(vring);
}

/* Returns true if rxq 'rxq' may have anything to receive. */
bool
netdev_vhostuser_driver_rxq_enabled(
    const struct netdev_vhostuser_driver *driver, struct netdev_rxq *rxq)
{
    struct vhu_fe_vring *vring
        = driver->vrings[vhu_receiveq_vring(rxq->queue_id)];

    return ovsrcu_get(struct virtq_drv *, &vring->vq) != NULL;
}

/* Moves up to one batch of packets from the back-end into 'batch'.  Returns 0
 * if there is any packet, otherwise EAGAIN. */
int
netdev_vhostuser_driver_rxq_recv(const struct netdev_vhostuser_driver *driver,
                                 struct netdev_rxq *rxq,
                                 struct dp_packet_batch *batch, int *qfill)
{
    struct vhu_fe_vring *vring
        = driver->vrings[vhu_receiveq_vring(rxq->queue_id)];
    struct virtq_drv *vq = ovsrcu_get(struct virtq_drv *, &vring->vq);
    struct netdev_vhostuser_policer *policer;
    struct netdev_vhostuser *netdev;
    struct vhu_queue_stats *stats;
    bool up;

    /* The idle case: no lock, no write. */
    if (!vq || !virtq_drv_has_used(vq)) {
        return EAGAIN;
    }

    netdev = netdev_vhostuser_cast(rxq->netdev);
    atomic_read_relaxed(&netdev->rx_flag, &up);
    if (OVS_UNLIKELY(!up)) {
        return EAGAIN;
    }

    if (OVS_UNLIKELY(qfill)) {
        *qfill = 0;
    }
    stats = netdev->stats[netdev_vhostuser_driver_vring(vring->index)];
    recv_burst(driver, vring, stats, netdev->pool, batch, qfill);

    policer = ovsrcu_get(struct netdev_vhostuser_policer *, &netdev->policer);
    if (OVS_UNLIKELY(policer)) {
        /* Only the thread that polls this rxq counts these. */
        count_drops(stats, VHU_DROP_rx_qos,
                    netdev_vhostuser_policer_run(policer, batch));
    }
    return OVS_LIKELY(dp_packet_batch_size(batch)) ? 0 : EAGAIN;
}

/* Sending. */

/* Copies 'packet' behind a header of 'hdr_len' bytes into 'chain', which has
 * exactly as much room.
 *
 * "Device Operation: Packet Transmission": without offloads 'flags' and
 * 'gso_type' are 0, and so is 'num_buffers' in any case. */
static inline ALWAYS_INLINE void
put_packet(const struct virtq_chain *chain, uint32_t hdr_len,
           const struct dp_packet *packet)
{
    const struct virtq_seg *segs = chain->segs;
    size_t ofs = 0;

    if (OVS_LIKELY(chain->n_segs == 1 && !vhu_packet_is_split(packet))) {
        memset(segs[0].va, 0, hdr_len);
        memcpy(segs[0].va + hdr_len, dp_packet_data(packet),
               segs[0].len - hdr_len);
        return;
    }
    for (size_t i = 0; i < chain->n_segs; i++) {
        size_t n_hdr = MIN(hdr_len, segs[i].len);
        size_t n = segs[i].len - n_hdr;

        memset(segs[i].va, 0, n_hdr);
        vhu_packet_copy(packet, ofs, segs[i].va + n_hdr, n);
        hdr_len -= n_hdr;
        ofs += n;
    }
}

/* Puts as many of the 'n' 'packets' into 'vq' as it has room for, up to a
 * burst of these.  Returns the number of packets dealt with, of which
 * '*n_unfit' increases by those that will never fit. */
static inline ALWAYS_INLINE size_t
send_some(struct virtq_drv *vq, struct vhu_queue_stats *stats,
          struct dp_packet *const packets[], size_t n, size_t *n_unfit)
{
    struct virtq_chain chains[NETDEV_MAX_BURST];
    uint32_t sizes[NETDEV_MAX_BURST];
    uint32_t hdr_len = virtq_drv_get_hdr_len(vq);
    uint32_t max_size = virtq_drv_get_max_packet(vq);
    size_t n_fit;

    BUILD_ASSERT_DECL(NETDEV_MAX_BURST <= VIRTQ_MAX_BURST);
    n = MIN(n, NETDEV_MAX_BURST);
    for (n_fit = 0; n_fit < n; n_fit++) {
        sizes[n_fit] = hdr_len + dp_packet_size(packets[n_fit]);
        if (OVS_UNLIKELY(sizes[n_fit] > max_size
                         || (vhu_packet_is_split(packets[n_fit])
                             && !vhu_packet_mend(packets[n_fit])))) {
            break;
        }
    }
    if (OVS_UNLIKELY(!n_fit && n)) {
        (*n_unfit)++;
        return 1;
    }

    n = virtq_drv_reserve(vq, sizes, chains, n_fit);
    for (size_t i = 0; i < n; i++) {
        put_packet(&chains[i], hdr_len, packets[i]);
    }
    count_packets(stats, packets, n, 0);
    return n;
}

/* Puts as many of the 'n' 'packets' as possible into 'vq', notifies the
 * back-end at most once, and returns the number of packets dealt with. */
static inline ALWAYS_INLINE size_t
send_burst(const struct netdev_vhostuser_driver *driver, struct virtq_drv *vq,
           struct vhu_queue_stats *stats, struct dp_packet *const packets[],
           size_t n, size_t *n_unfit)
{
    enum virtq_drv_error error = virtq_drv_get_error(vq, NULL, NULL);
    size_t n_done = 0;
    size_t n_new;

    do {
        n_new = send_some(vq, stats, &packets[n_done], n - n_done, n_unfit);
        n_done += n_new;
    } while (OVS_UNLIKELY(n_new && n_done < n));
    finish_burst(driver, vq, error);
    return n_done;
}

/* Sends the 'n' 'packets' to 'vq', of the vring that 'stats' belongs to.  If
 * the ring gets full, tries again while the back-end makes room. */
static inline ALWAYS_INLINE void
send_packets(const struct netdev_vhostuser_driver *driver,
             struct netdev_vhostuser *netdev, struct virtq_drv *vq,
             struct vhu_queue_stats *stats, struct dp_packet *const packets[],
             size_t n)
{
    unsigned int retries_max = 0;
    unsigned int retries = 0;
    size_t n_unfit = 0;
    size_t n_done;

    n_done = send_burst(driver, vq, stats, packets, n, &n_unfit);
    if (OVS_UNLIKELY(n_done < n)) {
        size_t n_new = n_done;

        atomic_read_relaxed(&netdev->tx_retries_max, &retries_max);
        while (n_new && n_done < n && retries < retries_max) {
            retries++;
            n_new = send_burst(driver, vq, stats, &packets[n_done],
                               n - n_done, &n_unfit);
            n_done += n_new;
        }
        vhu_counter_add(&stats->retries, retries);
    }
    virtq_drv_prefetch_next(vq);

    count_drops(stats, VHU_DROP_tx_failure, n - n_done + n_unfit);
}

/* Returns the vring that 'qid' sends to, or null if there is none. */
static inline ALWAYS_INLINE struct vhu_fe_vring *
txq_to_vring(const struct netdev_vhostuser_driver *driver,
             struct netdev_vhostuser *netdev, int qid)
{
    struct vhu_txq_map *map = ovsrcu_get(struct vhu_txq_map *,
                                         &netdev->txq_map);
    unsigned int index;
    bool up;

    atomic_read_relaxed(&netdev->up_flag, &up);
    if (OVS_UNLIKELY(!up || !map || !map->n)) {
        return NULL;
    }
    index = map->vrings[(unsigned int) qid % map->n];
    return driver->vrings[netdev_vhostuser_driver_vring(index)];
}

/* Takes the lock of 'vring' for a thread that sends, and returns the
 * virtqueue, or null, without the lock, if there is none. */
static inline ALWAYS_INLINE struct virtq_drv *
lock_for_send(struct vhu_fe_vring *vring)
{
    struct virtq_drv *vq = vhu_fe_vring_trylock(vring);

    if (OVS_UNLIKELY(!vq) && ovsrcu_get(struct virtq_drv *, &vring->vq)) {
        COVERAGE_INC(vhostuser_driver_tx_contention);
        vq = vhu_fe_vring_lock(vring);
    }
    return vq;
}

/* Moves the packets in 'batch' to the back-end, as netdev_vhostuser_send()
 * does.  Always returns 0: packets for which there is no room are dropped. */
int
netdev_vhostuser_driver_send(const struct netdev_vhostuser_driver *driver,
                             struct netdev_vhostuser *netdev, int qid,
                             struct dp_packet_batch *batch)
{
    struct vhu_fe_vring *vring = txq_to_vring(driver, netdev, qid);
    struct virtq_drv *vq = NULL;
    size_t n_policed = 0;
    size_t n_long = 0;

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
        struct vhu_queue_stats *stats
            = netdev->stats[netdev_vhostuser_driver_vring(vring->index)];

        send_packets(driver, netdev, vq, stats, batch->packets,
                     dp_packet_batch_size(batch));
        count_drops(stats, VHU_DROP_tx_mtu_exceeded, n_long);
        count_drops(stats, VHU_DROP_tx_qos, n_policed);
        vhu_fe_vring_unlock(vring);
    } else {
        count_drops_without_queue(netdev, VHU_DROP_tx_not_ready,
                                  dp_packet_batch_size(batch)
                                  + n_long + n_policed);
    }
    vhu_packets_recycle(batch);
    return 0;
}
