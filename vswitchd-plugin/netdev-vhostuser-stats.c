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

#include <inttypes.h>

#include "openvswitch/dynamic-string.h"
#include "smap.h"
#include "timeval.h"
#include "util.h"
#include "vhu-backend.h"
#include "vhu-conn.h"
#include "vhu-dev.h"
#include "vhu-frontend.h"
#include "virtio-spec.h"

/* Statistics, and the status of a port in the database
 * ====================================================
 *
 * Keys and names are those of DPDK's vhost-user ports where one exists, so
 * that what reads those can read ours; what only we have comes after.
 *
 * Unlike those ports, ours keep counting while guests come and go. */

/* Adds all counters of 'src' to 'dst'. */
static void
add_queue_stats(struct vhu_queue_stats *dst,
                const struct vhu_queue_stats *src)
{
    const uint64_t *s = (const uint64_t *) src;
    uint64_t *d = (uint64_t *) dst;

    BUILD_ASSERT_DECL(!(sizeof *src % sizeof *s));
    for (size_t i = 0; i < sizeof *src / sizeof *s; i++) {
        d[i] += vhu_counter_read(&s[i]);
    }
}

enum direction { RX, TX };

/* Returns the vring of rxq or txq 'i', in the back-end role. */
static unsigned int
queue_vring(enum direction direction, unsigned int i)
{
    return direction == RX ? vhu_transmitq_vring(i) : vhu_receiveq_vring(i);
}

/* Stores in '*sum' the sum over all queues of one direction. */
static void
sum_stats(const struct netdev_vhostuser *netdev, enum direction direction,
          struct vhu_queue_stats *sum)
    OVS_REQUIRES(netdev->mutex)
{
    memset(sum, 0, sizeof *sum);
    for (unsigned int i = 0; i < VHOST_USER_MAX_QUEUE_PAIRS; i++) {
        const struct vhu_queue_stats *stats
            = netdev->stats[queue_vring(direction, i)];

        if (stats) {
            add_queue_stats(sum, stats);
        }
    }
    if (direction == TX) {
        add_queue_stats(sum, &netdev->no_queue);
    }
}

int
netdev_vhostuser_get_stats(const struct netdev *netdev_,
                           struct netdev_stats *stats)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);
    struct vhu_queue_stats rx, tx;

    ovs_mutex_lock(&netdev->mutex);
    sum_stats(netdev, RX, &rx);
    sum_stats(netdev, TX, &tx);
    ovs_mutex_unlock(&netdev->mutex);

    stats->rx_packets = rx.packets;
    stats->rx_bytes = rx.bytes;
    stats->rx_errors = rx.drops[VHU_DROP_rx_malformed];
    stats->rx_dropped = rx.drops[VHU_DROP_rx_qos];
    stats->multicast = rx.multicast;
    stats->rx_broadcast_packets = rx.broadcast;
    stats->rx_1_to_64_packets = (rx.sizes[VHU_BIN_undersize]
                                 + rx.sizes[VHU_BIN_size_64]);
    stats->rx_65_to_127_packets = rx.sizes[VHU_BIN_size_65_127];
    stats->rx_128_to_255_packets = rx.sizes[VHU_BIN_size_128_255];
    stats->rx_256_to_511_packets = rx.sizes[VHU_BIN_size_256_511];
    stats->rx_512_to_1023_packets = rx.sizes[VHU_BIN_size_512_1023];
    stats->rx_1024_to_1522_packets = rx.sizes[VHU_BIN_size_1024_1518];
    stats->rx_1523_to_max_packets = rx.sizes[VHU_BIN_size_1519_max];

    stats->tx_packets = tx.packets;
    stats->tx_bytes = tx.bytes;
    stats->tx_dropped = (tx.drops[VHU_DROP_tx_failure]
                         + tx.drops[VHU_DROP_tx_mtu_exceeded]
                         + tx.drops[VHU_DROP_tx_not_ready]
                         + tx.drops[VHU_DROP_tx_qos]);
    stats->tx_multicast_packets = tx.multicast;
    stats->tx_broadcast_packets = tx.broadcast;
    stats->tx_1_to_64_packets = (tx.sizes[VHU_BIN_undersize]
                                 + tx.sizes[VHU_BIN_size_64]);
    stats->tx_65_to_127_packets = tx.sizes[VHU_BIN_size_65_127];
    stats->tx_128_to_255_packets = tx.sizes[VHU_BIN_size_128_255];
    stats->tx_256_to_511_packets = tx.sizes[VHU_BIN_size_256_511];
    stats->tx_512_to_1023_packets = tx.sizes[VHU_BIN_size_512_1023];
    stats->tx_1024_to_1522_packets = tx.sizes[VHU_BIN_size_1024_1518];
    stats->tx_1523_to_max_packets = tx.sizes[VHU_BIN_size_1519_max];
    return 0;
}

/* Custom statistics. */

static void OVS_PRINTF_FORMAT(3, 4)
add_counter(struct netdev_custom_stats *custom, uint64_t value,
            const char *format, ...)
{
    struct netdev_custom_counter *counter;
    va_list args;

    /* Grows by powers of 2. */
    if (!(custom->size & (custom->size - 1))) {
        custom->counters = xrealloc(custom->counters,
                                    (custom->size ? 2 * custom->size : 1)
                                    * sizeof *custom->counters);
    }
    counter = &custom->counters[custom->size++];
    counter->value = value;
    va_start(args, format);
    vsnprintf(counter->name, sizeof counter->name, format, args);
    va_end(args);
}

static void
add_port_counters(const struct netdev_vhostuser *netdev,
                  struct netdev_custom_stats *custom)
    OVS_REQUIRES(netdev->mutex)
{
    struct vhu_queue_stats rx, tx;

    sum_stats(netdev, RX, &rx);
    sum_stats(netdev, TX, &tx);
    add_counter(custom, tx.retries, "ovs_tx_retries");
    add_counter(custom, tx.drops[VHU_DROP_tx_failure],
                "ovs_tx_failure_drops");
    add_counter(custom, tx.drops[VHU_DROP_tx_mtu_exceeded],
                "ovs_tx_mtu_exceeded_drops");
    add_counter(custom, tx.drops[VHU_DROP_tx_qos], "ovs_tx_qos_drops");
    add_counter(custom, rx.drops[VHU_DROP_rx_qos], "ovs_rx_qos_drops");
    add_counter(custom, 0, "ovs_tx_invalid_hwol_drops");

    /* Ours. */
    add_counter(custom, tx.drops[VHU_DROP_tx_not_ready],
                "ovs_tx_not_ready_drops");
    add_counter(custom, rx.drops[VHU_DROP_rx_malformed],
                "ovs_rx_malformed_drops");
}

/* Adds the counters of the queue with 'stats', whose names start with
 * 'prefix'. */
static void
add_queue_counters(const struct vhu_queue_stats *stats, const char *prefix,
                   struct netdev_custom_stats *custom)
{
    add_counter(custom, vhu_counter_read(&stats->packets),
                "%s_good_packets", prefix);
    add_counter(custom, vhu_counter_read(&stats->bytes),
                "%s_good_bytes", prefix);
    add_counter(custom, vhu_counter_read(&stats->multicast),
                "%s_multicast_packets", prefix);
    add_counter(custom, vhu_counter_read(&stats->broadcast),
                "%s_broadcast_packets", prefix);
#define VHU_SIZE_BIN(NAME, MAX)                                             \
    add_counter(custom, vhu_counter_read(&stats->sizes[VHU_BIN_##NAME]),    \
                "%s_" #NAME "_packets", prefix);
    VHU_SIZE_BINS
#undef VHU_SIZE_BIN
}

/* The same for what only one of the roles counts, in 'vring'. */
static void
add_backend_counters(const struct vhu_vring *vring, const char *prefix,
                     struct netdev_custom_stats *custom)
{
    const struct virtq_counters *c = &vring->counters;

    add_counter(custom, vhu_counter_read(&c->calls),
                "%s_guest_notifications", prefix);
    add_counter(custom, vhu_counter_read(&c->calls_suppressed),
                "%s_guest_notifications_suppressed", prefix);

    /* Ours. */
    add_counter(custom, vhu_counter_read(&c->bad_chains),
                "%s_bad_chains", prefix);
    add_counter(custom, vhu_counter_read(&c->broken), "%s_broken", prefix);
    add_counter(custom, vhu_counter_read(&vring->kicks), "%s_kicks", prefix);
    add_counter(custom, vhu_counter_read(&vring->discarded),
                "%s_discarded", prefix);
}

static void
add_frontend_counters(const struct vhu_fe_vring *vring, const char *prefix,
                      struct netdev_custom_stats *custom)
{
    const struct virtq_drv_counters *c = &vring->counters;

    add_counter(custom, vhu_counter_read(&c->kicks),
                "%s_backend_notifications", prefix);
    add_counter(custom, vhu_counter_read(&c->kicks_suppressed),
                "%s_backend_notifications_suppressed", prefix);
    add_counter(custom, vhu_counter_read(&c->bad_packets),
                "%s_bad_packets", prefix);
    add_counter(custom, vhu_counter_read(&c->broken), "%s_broken", prefix);
}

int
netdev_vhostuser_get_custom_stats(const struct netdev *netdev_,
                                  struct netdev_custom_stats *custom)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);
    static const char *const names[] = { [RX] = "rx", [TX] = "tx" };
    struct vhu_frontend *frontend;

    ovs_mutex_lock(&netdev->mutex);
    frontend = netdev_vhostuser_frontend(netdev);
    add_port_counters(netdev, custom);
    for (enum direction d = RX; d <= TX; d++) {
        int n = d == RX ? netdev_->n_rxq : netdev_->n_txq;

        for (int i = 0; i < n; i++) {
            unsigned int vring = queue_vring(d, i);
            char prefix[16];

            snprintf(prefix, sizeof prefix, "%s_q%d", names[d], i);
            add_queue_counters(netdev->stats[vring], prefix, custom);
            if (frontend) {
                vring = netdev_vhostuser_driver_vring(vring);
                add_frontend_counters(vhu_frontend_get_vring(frontend, vring),
                                      prefix, custom);
            } else {
                add_backend_counters(netdev->dev->vrings[vring], prefix,
                                     custom);
            }
        }
    }
    ovs_mutex_unlock(&netdev->mutex);
    return 0;
}

/* Status. */

/* Adds what there is to say while a front-end is connected. */
static void
add_backend_status(const struct netdev_vhostuser *netdev, struct smap *args)
    OVS_REQUIRES(netdev->mutex)
{
    const struct vhu_dev *dev = netdev->dev;
    unsigned int n_vrings = netdev_vhostuser_n_vrings(netdev);

    smap_add_format(args, "features", "0x%016"PRIx64, dev->features);
    smap_add_format(args, "protocol_features", "0x%016"PRIx64,
                    dev->protocol_features);
    if (dev->features & VIRTIO_BIT(VIRTIO_NET_F_MTU) && dev->mtu) {
        smap_add_format(args, "mtu", "%"PRIu16, dev->mtu);
    }
    smap_add_format(args, "numa", "%d", netdev->numa_id);
    if (n_vrings) {
        smap_add_format(args, "num_of_vrings", "%u", n_vrings);
    }
    for (unsigned int i = 0; i < n_vrings; i++) {
        char key[32];

        snprintf(key, sizeof key, "vring_%u_size", i);
        smap_add_format(args, key, "%"PRIu32, dev->vrings[i]->size);
    }
}

/* Adds what there is to say while 'frontend' is connected to a back-end. */
static void
add_frontend_status(const struct netdev_vhostuser *netdev,
                    struct vhu_frontend *frontend, struct smap *args)
    OVS_REQUIRES(netdev->mutex)
{
    const struct vhu_frontend_info *info = vhu_frontend_get_info(frontend);
    unsigned int n_wanted = vhu_options_n_pairs(&netdev->options);
    const char *mtu_error = netdev_vhostuser_mtu_error(netdev);

    smap_add_format(args, "features", "0x%016"PRIx64, info->features);
    smap_add_format(args, "protocol_features", "0x%016"PRIx64,
                    info->protocol_features);
    if (info->mtu) {
        smap_add_format(args, "mtu", "%"PRIu16, info->mtu);
    }
    if (mtu_error) {
        smap_add(args, "mtu_error", mtu_error);
    }
    smap_add_format(args, "numa", "%d", netdev->numa_id);
    if (!vhu_frontend_is_negotiated(frontend)) {
        return;
    }
    if (info->n_pairs < n_wanted) {
        smap_add_format(args, "queues", "%u of %u: the back-end has no more "
                        "queue pairs", info->n_pairs, n_wanted);
    } else {
        smap_add_format(args, "queues", "%u", info->n_pairs);
    }
    smap_add(args, "ring_format", (info->features
                                   & VIRTIO_BIT(VIRTIO_F_RING_PACKED)
                                   ? "packed" : "split"));
    smap_add_format(args, "queue_size", "%"PRIu32,
                    netdev->options.queue_size);
}

int
netdev_vhostuser_get_status(const struct netdev *netdev_, struct smap *args)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);
    struct vhu_frontend *frontend;
    const struct vhu_conn *conn;
    const char *reason;
    bool connected;

    ovs_mutex_lock(&netdev->mutex);
    frontend = netdev_vhostuser_frontend(netdev);
    conn = netdev_vhostuser_conn(netdev);
    connected = conn && vhu_conn_is_connected(conn);
    reason = netdev_vhostuser_reason(netdev);

    smap_add(args, "role", vhu_role_to_string(netdev->options.role));
    smap_add(args, "mode", netdev_vhostuser_mode(netdev));
    smap_add(args, "status", connected ? "connected" : "disconnected");
    if (conn) {
        smap_add(args, "socket", netdev->options.path);
        smap_add_nocopy(args, xstrdup("since"),
                        netdev_vhostuser_since(netdev));
    }
    if (reason) {
        smap_add(args, "reason", reason);
    }
    smap_add_format(args, "n_rxq", "%d", netdev_->n_rxq);
    smap_add_format(args, "n_txq", "%d", netdev_->n_txq);
    if (connected && frontend) {
        add_frontend_status(netdev, frontend, args);
    } else if (connected) {
        add_backend_status(netdev, args);
    }
    ovs_mutex_unlock(&netdev->mutex);
    return 0;
}

const char *
netdev_vhostuser_mode(const struct netdev_vhostuser *netdev)
{
    return netdev->options.mode == VHU_CONN_CLIENT ? "client" : "server";
}

char *
netdev_vhostuser_since(const struct netdev_vhostuser *netdev)
{
    const struct vhu_conn *conn = netdev_vhostuser_conn(netdev);
    long long int age = time_msec() - vhu_conn_get_since(conn);

    return xastrftime_msec("%Y-%m-%dT%H:%M:%SZ", time_wall_msec() - age,
                           true);
}

unsigned int
netdev_vhostuser_n_vrings(const struct netdev_vhostuser *netdev)
{
    unsigned int n = 2 * netdev->dev->n_pairs;

    while (n && !netdev->dev->vrings[n - 1]->size) {
        n--;
    }
    return n;
}
