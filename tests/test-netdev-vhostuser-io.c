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
#include <stdio.h>
#include <string.h>

#include "dp-packet.h"
#include "ovs-compat.h"
#include "ovs-thread.h"
#include "packets.h"
#include "seq.h"
#include "test-eal.h"
#include "timeval.h"
#include "util.h"
#include "vhu-dev.h"
#include "vhu-packet.h"
#include "vhu-pool.h"
#include "vhutest.h"
#include "virtq-fixture.h"

/* The hot path between a mock driver and batches of packets, without a switch
 * and without the protocol. */

enum { BUF_SIZE = 2048 };

/* One queue of a port. */
struct port {
    struct netdev_vhostuser netdev;
    struct netdev_vhostuser_rxq rxq;
    struct vhu_txq_map map;
    struct vhu_vring *vring;
    struct vhu_queue_stats *stats;
    struct fixture f;
    uint64_t wakeups;           /* Last value of the 'wakeup' of the device. */
};

/* Sets up the transmitq (VIRTQ_DEVICE_READS) or receiveq of 'port', with a
 * ring of 'size'. */
static void
port_init(struct port *port, enum virtq_access access, uint32_t size,
          uint64_t features)
{
    struct netdev_vhostuser *netdev = &port->netdev;
    unsigned int index = (access == VIRTQ_DEVICE_READS
                          ? vhu_transmitq_vring(0) : vhu_receiveq_vring(0));

    memset(port, 0, sizeof *port);
    fixture_init(&port->f, size, 0, features, access);
    fixture_start(&port->f);

    ovs_mutex_init(&netdev->mutex);
    netdev->dev = vhu_dev_create("vm0", features, 1, NULL, NULL);
    port->wakeups = seq_read(netdev->dev->wakeup);
    for (int i = 0; i < 2; i++) {
        netdev->stats[i] = xzalloc(sizeof *netdev->stats[i]);
    }
    atomic_init(&netdev->up_flag, true);
    atomic_init(&netdev->rx_flag, true);
    atomic_init(&netdev->max_packet_len, 9018);
    atomic_init(&netdev->tx_retries_max, 8);
    atomic_init(&netdev->rarp_pending, false);
    ovsrcu_init(&netdev->policer, NULL);
    ovsrcu_init(&netdev->qos, NULL);
    ovsrcu_init(&netdev->txq_map, &port->map);
    port->map.n = 1;

    port->vring = netdev->dev->vrings[index];
    port->rxq.up.netdev = &netdev->up;
    port->rxq.vring = port->vring;
    port->stats = netdev->stats[index];
    ovsrcu_set_hidden(&port->vring->vq, port->f.vq);
}

static void
port_uninit(struct port *port)
{
    netdev_vhostuser_qos_destroy(&port->netdev);
    ovsrcu_set_hidden(&port->vring->vq, NULL);
    vhu_dev_destroy(port->netdev.dev);
    for (int i = 0; i < 2; i++) {
        free(port->netdev.stats[i]);
    }
    ovs_mutex_destroy(&port->netdev.mutex);
    fixture_uninit(&port->f);
}

/* Guest address of the buffer of token 'token'. */
static uint64_t
buf_gpa(uint64_t token)
{
    return MOCK_C_GPA + token * BUF_SIZE;
}

/* Makes 'n' buffers available whose tokens are 'token' and up: in a receiveq
 * empty ones of 'size' bytes, in a transmitq packets of 'size' bytes behind a
 * header full of nonsense, each filled with the low byte of its token. */
static void
add_bufs(struct port *port, size_t n, size_t size, uint64_t token)
{
    struct mock_driver *d = &port->f.driver;
    bool transmit = port->f.config.access == VIRTQ_DEVICE_READS;

    for (size_t i = 0; i < n; i++, token++) {
        struct mock_buf buf = { buf_gpa(token), size };

        memset(mock_at(d->mem, buf.gpa), transmit ? token : 0xee, BUF_SIZE);
        if (transmit) {
            memset(mock_at(d->mem, buf.gpa), 0xff, VIRTIO_NET_HDR_LEN);
            buf.len += VIRTIO_NET_HDR_LEN;
        }
        CHECK(mock_driver_add(d, &buf, 1, 0, 0, token) >= 0);
    }
    mock_driver_publish(d);
}

/* Takes all used buffers; returns how many.  All must have been used with
 * 'len'. */
static size_t
get_used(struct port *port, uint32_t expected_len)
{
    size_t n = 0;
    uint64_t token;
    uint16_t head;
    uint32_t len;

    while (mock_driver_get_used(&port->f.driver, &head, &len, &token)) {
        CHECK_EQ(len, expected_len);
        n++;
    }
    return n;
}

/* Receives one batch, checks that it consists of packets filled with 'first'
 * and up, and returns how many they are, or -EAGAIN. */
static int
recv_and_check(struct port *port, uint8_t first, int *qfill)
{
    struct dp_packet_batch batch;
    struct dp_packet *packet;
    int n;

    dp_packet_batch_init(&batch);
    n = -netdev_vhostuser_rxq_recv(&port->rxq.up, &batch, qfill);
    if (n) {
        CHECK_EQ(dp_packet_batch_size(&batch), 0);
        return n;
    }
    DP_PACKET_BATCH_FOR_EACH (i, packet, &batch) {
        const uint8_t *p = dp_packet_data(packet);

        for (size_t j = 0; j < dp_packet_size(packet); j++) {
            CHECK_EQ(p[j], (uint8_t) (first + i));
        }
    }
    n = dp_packet_batch_size(&batch);
    vhu_packets_recycle(&batch);
    return n;
}

static void
test_recv(void)
{
    struct port port;
    int qfill = 77;

    port_init(&port, VIRTQ_DEVICE_READS, 64, VIRTIO_BIT(VIRTIO_F_VERSION_1));
    CHECK_EQ(recv_and_check(&port, 0, &qfill), -EAGAIN);

    add_bufs(&port, 40, 60, 0);
    CHECK_EQ(recv_and_check(&port, 0, &qfill), 32);
    CHECK_EQ(qfill, 8);
    CHECK_EQ(get_used(&port, 0), 32);
    CHECK_EQ(fixture_calls(&port.f), 1);
    CHECK_EQ(recv_and_check(&port, 32, &qfill), 8);
    CHECK_EQ(qfill, 0);
    CHECK_EQ(get_used(&port, 0), 8);
    CHECK_EQ(fixture_calls(&port.f), 1);
    CHECK_EQ(recv_and_check(&port, 0, NULL), -EAGAIN);

    add_bufs(&port, 32, 100, 0);
    CHECK_EQ(recv_and_check(&port, 0, NULL), 32);
    CHECK_EQ(port.stats->packets, 72);
    CHECK_EQ(port.stats->bytes, 40 * 60 + 32 * 100);
    CHECK_EQ(port.stats->sizes[VHU_BIN_undersize], 40);
    CHECK_EQ(port.stats->sizes[VHU_BIN_size_65_127], 32);
    CHECK_EQ(port.stats->multicast, 36);
    port_uninit(&port);
    printf("ok\n");
}

/* What is no packet is given back and counted, and does not end the batch.
 * A legacy driver's header has 10 bytes. */
static void
test_recv_malformed(void)
{
    struct port port;

    port_init(&port, VIRTQ_DEVICE_READS, 64, VIRTIO_BIT(VIRTIO_F_VERSION_1));
    add_bufs(&port, 3, 60, 0);
    add_bufs(&port, 3, 13, 100);
    add_bufs(&port, 3, 0, 100);
    add_bufs(&port, 3, 14, 3);
    CHECK_EQ(recv_and_check(&port, 0, NULL), 6);
    CHECK_EQ(get_used(&port, 0), 12);
    CHECK_EQ(port.stats->packets, 6);
    CHECK_EQ(port.stats->drops[VHU_DROP_rx_malformed], 6);

    add_bufs(&port, 32, 1, 0);
    CHECK_EQ(recv_and_check(&port, 0, NULL), -EAGAIN);
    CHECK_EQ(get_used(&port, 0), 32);
    port_uninit(&port);

    port_init(&port, VIRTQ_DEVICE_READS, 64, 0);
    add_bufs(&port, 1, 12, 0xff);
    CHECK_EQ(recv_and_check(&port, 0xff, NULL), 1);
    CHECK_EQ(port.stats->bytes, 14);
    port_uninit(&port);
    printf("ok\n");
}

/* Without a virtqueue, with one that another thread has locked, or with the
 * port down, nothing is received and nothing lost. */
static void
test_recv_not_ready(void)
{
    struct port port;

    port_init(&port, VIRTQ_DEVICE_READS, 64, VIRTIO_BIT(VIRTIO_F_VERSION_1));
    add_bufs(&port, 5, 60, 0);

    ovsrcu_set_hidden(&port.vring->vq, NULL);
    CHECK_EQ(recv_and_check(&port, 0, NULL), -EAGAIN);
    ovsrcu_set_hidden(&port.vring->vq, port.f.vq);

    ovs_spin_lock(&port.vring->lock);
    CHECK_EQ(recv_and_check(&port, 0, NULL), -EAGAIN);
    ovs_spin_unlock(&port.vring->lock);

    atomic_store_relaxed(&port.netdev.up_flag, false);
    atomic_store_relaxed(&port.netdev.rx_flag, false);
    CHECK_EQ(recv_and_check(&port, 0, NULL), -EAGAIN);
    atomic_store_relaxed(&port.netdev.up_flag, true);
    atomic_store_relaxed(&port.netdev.rx_flag, true);
    CHECK_EQ(recv_and_check(&port, 0, NULL), 5);
    port_uninit(&port);
    printf("ok\n");
}

/* Checks that 'packet' is a RARP request of 'mac'. */
static void
check_rarp(const struct dp_packet *packet, const struct eth_addr mac)
{
    const struct eth_header *eth = dp_packet_data(packet);
    static const uint8_t arp[8] = { 0, 1, 8, 0, 6, 4, 0, 3 };
    const uint8_t *p = dp_packet_data(packet);

    CHECK_EQ(dp_packet_size(packet), 60);
    CHECK(eth_addr_is_broadcast(eth->eth_dst));
    CHECK(eth_addr_equals(eth->eth_src, mac));
    CHECK_EQ(ntohs(eth->eth_type), 0x8035);
    CHECK(!memcmp(p + 14, arp, 8));
    CHECK(!memcmp(p + 22, &mac, 6));
    CHECK(!memcmp(p + 32, &mac, 6));
    CHECK(is_all_zeros(p + 28, 4) && is_all_zeros(p + 38, 22));
}

static int
recv_rarp(struct port *port, const struct eth_addr mac)
{
    struct dp_packet_batch batch;
    int n;

    dp_packet_batch_init(&batch);
    CHECK_EQ(netdev_vhostuser_rxq_recv(&port->rxq.up, &batch, NULL), 0);
    check_rarp(batch.packets[0], mac);
    n = dp_packet_batch_size(&batch);
    vhu_packets_recycle(&batch);
    return n;
}

static void
ask_for_rarp(struct port *port, const struct eth_addr mac)
{
    uint64_t x = 0;

    memcpy(&x, &mac, sizeof mac);
    atomic_store_relaxed(&port->netdev.rarp_mac, x);
    atomic_store_explicit(&port->netdev.rarp_pending, true,
                          memory_order_release);
}

/* SEND_RARP: first in the batch of the first rxq, also without a virtqueue,
 * once, and not lost while the port is down. */
static void
test_rarp(void)
{
    const struct eth_addr mac = ETH_ADDR_C(52,54,00,12,34,56);
    struct port port;

    port_init(&port, VIRTQ_DEVICE_READS, 64, VIRTIO_BIT(VIRTIO_F_VERSION_1));
    ask_for_rarp(&port, mac);
    CHECK_EQ(recv_rarp(&port, mac), 1);
    CHECK_EQ(recv_and_check(&port, 0, NULL), -EAGAIN);

    add_bufs(&port, 40, 60, 0);
    ask_for_rarp(&port, mac);
    ask_for_rarp(&port, mac);
    CHECK_EQ(recv_rarp(&port, mac), 32);
    CHECK_EQ(recv_and_check(&port, 31, NULL), 9);

    ask_for_rarp(&port, mac);
    port.rxq.up.queue_id = 0;
    atomic_store_relaxed(&port.netdev.up_flag, false);
    atomic_store_relaxed(&port.netdev.rx_flag, false);
    CHECK_EQ(recv_and_check(&port, 0, NULL), -EAGAIN);
    atomic_store_relaxed(&port.netdev.up_flag, true);
    atomic_store_relaxed(&port.netdev.rx_flag, true);
    ovsrcu_set_hidden(&port.vring->vq, NULL);
    CHECK_EQ(recv_rarp(&port, mac), 1);
    CHECK_EQ(recv_and_check(&port, 0, NULL), -EAGAIN);
    CHECK_EQ(port.stats->packets, 40);
    port_uninit(&port);
    printf("ok\n");
}

#ifdef DPDK_NETDEV
/* Receives one batch and checks that all of its 'n' packets have 'source'. */
static void
recv_source(struct port *port, size_t n, enum dp_packet_source source)
{
    struct dp_packet_batch batch;
    struct dp_packet *packet;

    dp_packet_batch_init(&batch);
    CHECK_EQ(netdev_vhostuser_rxq_recv(&port->rxq.up, &batch, NULL), 0);
    CHECK_EQ(dp_packet_batch_size(&batch), n);
    DP_PACKET_BATCH_FOR_EACH (i, packet, &batch) {
        CHECK_EQ(packet->source, source);
    }
    vhu_packets_recycle(&batch);
}

/* O-12: with a pool, packets come from there, but not those that are in a
 * batch with a RARP packet, which is on the heap. */
static void
test_pool(void)
{
    const struct eth_addr mac = ETH_ADDR_C(52,54,00,12,34,56);
    struct vhu_pool *pool;
    struct port port;

    test_eal_start("256");
    pool = vhu_pool_get("vm0", 1500, 0);
    port_init(&port, VIRTQ_DEVICE_READS, 64, VIRTIO_BIT(VIRTIO_F_VERSION_1));
    port.netdev.pool = pool;

    add_bufs(&port, 40, 60, 0);
    recv_source(&port, 32, DPBUF_DPDK);
    ask_for_rarp(&port, mac);
    recv_source(&port, 9, OVS_PACKET_SOURCE);
    add_bufs(&port, 1, 60, 0);
    recv_source(&port, 1, DPBUF_DPDK);
    test_eal_check_pools(1, 0);
    vhu_pool_put(pool);
    port_uninit(&port);
    printf("ok\n");
}
#endif

static void
test_recv_policing(void)
{
    struct port port;

    port_init(&port, VIRTQ_DEVICE_READS, 64, VIRTIO_BIT(VIRTIO_F_VERSION_1));
    netdev_vhostuser_set_policing(&port.netdev.up, 8, 8, 0, 0);
    add_bufs(&port, 32, 114, 0);
    CHECK_EQ(recv_and_check(&port, 0, NULL), 10);
    CHECK_EQ(get_used(&port, 0), 32);
    CHECK_EQ(port.stats->drops[VHU_DROP_rx_qos], 22);
    add_bufs(&port, 32, 1014, 0);
    CHECK_EQ(recv_and_check(&port, 0, NULL), -EAGAIN);
    CHECK_EQ(port.stats->drops[VHU_DROP_rx_qos], 54);
    port_uninit(&port);
    printf("ok\n");
}

/* Sends a batch of 'n' packets of 'size' bytes, filled with 'first' and up. */
static void
send_packets(struct port *port, size_t n, size_t size, uint8_t first)
{
    struct dp_packet_batch batch;

    dp_packet_batch_init(&batch);
    for (size_t i = 0; i < n; i++) {
        struct dp_packet *packet = vhu_packet_new(size);

        memset(dp_packet_data(packet), first + i, size);
        dp_packet_batch_add(&batch, packet);
    }
    CHECK_EQ(netdev_vhostuser_send(&port->netdev.up, 5, &batch, true), 0);
    CHECK_EQ(dp_packet_batch_size(&batch), 0);
}

/* Takes one used buffer, which must hold a packet, or the beginning of one, of
 * 'len' bytes filled with 'fill' behind a header that says 'num_buffers'. */
static void
check_used(struct port *port, size_t hdr_len, int num_buffers, size_t len,
           uint8_t fill)
{
    static const uint8_t zeros[VIRTIO_NET_HDR_LEN];
    const uint8_t *p;
    uint32_t used_len;
    uint64_t token;
    uint16_t head;

    CHECK(mock_driver_get_used(&port->f.driver, &head, &used_len, &token));
    CHECK_EQ(used_len, hdr_len + len);
    p = mock_at(port->f.driver.mem, buf_gpa(token));
    CHECK(!memcmp(p, zeros, MIN(hdr_len, 10)));
    if (hdr_len == 12) {
        CHECK_EQ(p[10] | p[11] << 8, num_buffers);
    }
    for (size_t i = 0; i < len; i++) {
        CHECK_EQ(p[hdr_len + i], fill);
    }
    for (size_t i = hdr_len + len; i < BUF_SIZE; i++) {
        CHECK_EQ(p[i], 0xee);
    }
}

static void
test_send(void)
{
    static const struct {
        uint64_t features;
        size_t hdr_len;
    } cases[] = {
        { 0, 10 },
        { VIRTIO_BIT(VIRTIO_F_VERSION_1), 12 },
        { VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF), 12 },
        { VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF)
          | VIRTIO_BIT(VIRTIO_F_VERSION_1), 12 },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct port port;

        port_init(&port, VIRTQ_DEVICE_WRITES, 64, cases[i].features);
        add_bufs(&port, 64, 1526, 0);
        send_packets(&port, 32, 60, 0xff);
        CHECK_EQ(fixture_calls(&port.f), 1);
        send_packets(&port, 1, 1500, 42);
        for (size_t j = 0; j < 32; j++) {
            check_used(&port, cases[i].hdr_len, 1, 60, 0xff + j);
        }
        check_used(&port, cases[i].hdr_len, 1, 1500, 42);
        CHECK_EQ(get_used(&port, 0), 0);
        CHECK_EQ(port.stats->packets, 33);
        CHECK_EQ(port.stats->bytes, 32 * 60 + 1500);
        CHECK_EQ(port.stats->broadcast, 1);
        CHECK_EQ(port.stats->multicast, 15);
        CHECK_EQ(port.stats->sizes[VHU_BIN_undersize], 32);
        CHECK_EQ(port.stats->sizes[VHU_BIN_size_1024_1518], 1);
        for (int j = 0; j < VHU_N_DROPS; j++) {
            CHECK_EQ(port.stats->drops[j], 0);
        }
        port_uninit(&port);
    }
    printf("ok\n");
}

/* Sizes at the limits of the bins. */
static void
test_sizes(void)
{
    static const struct {
        size_t size;
        enum vhu_size_bin bin;
    } cases[] = {
        { 14, VHU_BIN_undersize },          { 63, VHU_BIN_undersize },
        { 64, VHU_BIN_size_64 },            { 65, VHU_BIN_size_65_127 },
        { 127, VHU_BIN_size_65_127 },       { 128, VHU_BIN_size_128_255 },
        { 255, VHU_BIN_size_128_255 },      { 256, VHU_BIN_size_256_511 },
        { 511, VHU_BIN_size_256_511 },      { 512, VHU_BIN_size_512_1023 },
        { 1023, VHU_BIN_size_512_1023 },    { 1024, VHU_BIN_size_1024_1518 },
        { 1518, VHU_BIN_size_1024_1518 },   { 1519, VHU_BIN_size_1519_max },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct port port;

        port_init(&port, VIRTQ_DEVICE_WRITES, 2, 0);
        add_bufs(&port, 1, BUF_SIZE, 0);
        send_packets(&port, 1, cases[i].size, 2);
        for (int j = 0; j < VHU_N_SIZE_BINS; j++) {
            CHECK_EQ(port.stats->sizes[j], j == cases[i].bin);
        }
        port_uninit(&port);
    }
    printf("ok\n");
}

/* A packet of 9000 bytes takes 6 buffers, a batch of them more than a take. */
static void
test_send_mergeable(void)
{
    struct port port;

    port_init(&port, VIRTQ_DEVICE_WRITES, 256,
              VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF));
    add_bufs(&port, 196, 1524, 0);
    send_packets(&port, 32, 9000, 1);
    CHECK_EQ(fixture_calls(&port.f), 1);
    for (size_t i = 0; i < 32; i++) {
        check_used(&port, 12, 6, 1512, i + 1);
        for (size_t j = 0; j < 4; j++) {
            check_used(&port, 0, 0, 1524, i + 1);
        }
        check_used(&port, 0, 0, 9000 - 1512 - 4 * 1524, i + 1);
    }
    CHECK_EQ(port.stats->packets, 32);
    CHECK_EQ(port.stats->retries, 0);

    /* Four buffers are left: too few for one, enough for four others. */
    send_packets(&port, 1, 9000, 1);
    CHECK_EQ(port.stats->drops[VHU_DROP_tx_failure], 1);
    send_packets(&port, 5, 1000, 1);
    CHECK_EQ(port.stats->drops[VHU_DROP_tx_failure], 2);
    CHECK_EQ(port.stats->retries, 1);
    for (size_t i = 0; i < 4; i++) {
        check_used(&port, 12, 1, 1000, i + 1);
    }
    port_uninit(&port);
    printf("ok\n");
}

/* Reasons for which packets are dropped. */
static void
test_send_drops(void)
{
    uint64_t *no_queue;
    struct port port;

    port_init(&port, VIRTQ_DEVICE_WRITES, 16, VIRTIO_BIT(VIRTIO_F_VERSION_1));
    no_queue = port.netdev.no_queue.drops;

    /* The ring is full: one attempt that makes progress, one retry. */
    add_bufs(&port, 16, 1526, 0);
    send_packets(&port, 32, 60, 0);
    CHECK_EQ(port.stats->packets, 16);
    CHECK_EQ(port.stats->drops[VHU_DROP_tx_failure], 16);
    CHECK_EQ(port.stats->retries, 1);
    CHECK_EQ(get_used(&port, 72), 16);
    send_packets(&port, 32, 60, 0);
    CHECK_EQ(port.stats->drops[VHU_DROP_tx_failure], 48);
    CHECK_EQ(port.stats->retries, 1);

    /* Too long for the port, and for the buffer. */
    add_bufs(&port, 16, 1526, 0);
    send_packets(&port, 1, 9018, 0);
    CHECK_EQ(port.stats->drops[VHU_DROP_tx_mtu_exceeded], 0);
    CHECK_EQ(port.stats->drops[VHU_DROP_tx_failure], 49);
    send_packets(&port, 1, 9019, 0);
    CHECK_EQ(port.stats->drops[VHU_DROP_tx_mtu_exceeded], 1);
    CHECK_EQ(port.stats->drops[VHU_DROP_tx_failure], 49);

    /* No queue, no virtqueue, port down. */
    port.map.n = 0;
    send_packets(&port, 2, 60, 0);
    CHECK_EQ(no_queue[VHU_DROP_tx_not_ready], 2);
    port.map.n = 1;
    ovsrcu_set_hidden(&port.vring->vq, NULL);
    send_packets(&port, 2, 60, 0);
    CHECK_EQ(no_queue[VHU_DROP_tx_not_ready], 4);
    ovsrcu_set_hidden(&port.vring->vq, port.f.vq);
    atomic_store_relaxed(&port.netdev.up_flag, false);
    atomic_store_relaxed(&port.netdev.rx_flag, false);
    send_packets(&port, 2, 60, 0);
    CHECK_EQ(no_queue[VHU_DROP_tx_not_ready], 6);
    atomic_store_relaxed(&port.netdev.up_flag, true);
    atomic_store_relaxed(&port.netdev.rx_flag, true);
    CHECK_EQ(get_used(&port, 0), 0);
    send_packets(&port, 1, 60, 0);
    CHECK_EQ(get_used(&port, 72), 1);
    port_uninit(&port);
    printf("ok\n");
}

/* A driver that breaks its ring is reported to the control thread, once; one
 * that makes useless buffers available without end does not hold us up. */
static void
test_hostile(void)
{
    struct port port;

    port_init(&port, VIRTQ_DEVICE_WRITES, 64, VIRTIO_BIT(VIRTIO_F_VERSION_1));
    add_bufs(&port, 4, 11, 0);
    CHECK_EQ(seq_read(port.netdev.dev->wakeup), port.wakeups);
    mock_put16(port.f.driver.mem, port.f.driver.avail + 2, 4000);
    send_packets(&port, 1, 60, 0);
    CHECK(seq_read(port.netdev.dev->wakeup) != port.wakeups);
    port.wakeups = seq_read(port.netdev.dev->wakeup);
    send_packets(&port, 1, 60, 0);
    send_packets(&port, 1, 60, 0);
    CHECK_EQ(seq_read(port.netdev.dev->wakeup), port.wakeups);
    CHECK_EQ(port.stats->drops[VHU_DROP_tx_failure], 3);
    port_uninit(&port);

    port_init(&port, VIRTQ_DEVICE_READS, 64, VIRTIO_BIT(VIRTIO_F_VERSION_1));
    mock_put16(port.f.driver.mem, port.f.driver.avail + 2, 65);
    CHECK_EQ(recv_and_check(&port, 0, NULL), -EAGAIN);
    CHECK(seq_read(port.netdev.dev->wakeup) != port.wakeups);
    CHECK_EQ(recv_and_check(&port, 0, NULL), -EAGAIN);
    port_uninit(&port);

    port_init(&port, VIRTQ_DEVICE_WRITES, 256, VIRTIO_BIT(VIRTIO_F_VERSION_1));
    add_bufs(&port, 200, 11, 0);
    send_packets(&port, 1, 60, 0);
    CHECK_EQ(get_used(&port, 0), 65);
    CHECK_EQ(port.stats->drops[VHU_DROP_tx_failure], 1);
    port_uninit(&port);
    printf("ok\n");
}

/* Several threads that send to one receiveq, a driver that empties it, and a
 * control thread that takes the virtqueue away and puts it back. */

enum { N_SENDERS = 3, N_BATCHES = 3000 };

static atomic_uint n_senders_left;
static atomic_bool enough;      /* The ring has been gone round. */

/* Sends at least N_BATCHES, and until that is enough, which depends on who
 * gets the CPU.  Returns how many packets. */
static void *
sender_main(void *port_)
{
    struct port *port = port_;
    uintptr_t n_sent = 0;
    bool done = false;
    unsigned int orig;

    for (int i = 0; i < N_BATCHES || !done; i++) {
        send_packets(port, 1 + i % 32, 60 + i % 1400, 1);
        n_sent += 1 + i % 32;
        atomic_read(&enough, &done);
    }
    atomic_sub(&n_senders_left, 1, &orig);
    return (void *) n_sent;
}

static void
test_threads(void)
{
    pthread_t threads[N_SENDERS];
    uint64_t n_sent = 0, n_used = 0, n_dropped;
    unsigned int n_left;
    struct port port;

    port_init(&port, VIRTQ_DEVICE_WRITES, 128, VIRTIO_BIT(VIRTIO_F_VERSION_1));
    add_bufs(&port, 128, 1526, 0);
    atomic_init(&n_senders_left, N_SENDERS);
    atomic_init(&enough, false);
    for (int i = 0; i < N_SENDERS; i++) {
        threads[i] = ovs_thread_create("sender", sender_main, &port);
    }
    do {
        uint64_t token;
        uint16_t head;
        uint32_t len;

        while (mock_driver_get_used(&port.f.driver, &head, &len, &token)) {
            n_used++;
            add_bufs(&port, 1, 1526, token);
        }
        ovs_spin_lock(&port.vring->lock);
        ovsrcu_set_hidden(&port.vring->vq, NULL);
        ovs_spin_unlock(&port.vring->lock);
        ovsrcu_set(&port.vring->vq, port.f.vq);
        if (n_used > 128) {
            atomic_store(&enough, true);
        }
        atomic_read(&n_senders_left, &n_left);
    } while (n_left);
    for (int i = 0; i < N_SENDERS; i++) {
        void *n;

        xpthread_join(threads[i], &n);
        n_sent += (uintptr_t) n;
    }
    for (uint16_t head; mock_driver_get_used(&port.f.driver, &head,
                                             &(uint32_t) { 0 },
                                             &(uint64_t) { 0 }); ) {
        n_used++;
    }
    n_dropped = port.stats->drops[VHU_DROP_tx_failure]
                + port.netdev.no_queue.drops[VHU_DROP_tx_not_ready];
    CHECK_EQ(port.stats->packets, n_used);
    CHECK_EQ(n_used + n_dropped, n_sent);
    CHECK(n_used > 128);
    port_uninit(&port);
    printf("ok\n");
}

static double
now_in_ns(void)
{
    struct timespec now;

    xclock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e9 + now.tv_nsec;
}

/* Not a test: prints how long an empty poll takes.  For tests/bench. */
static void
measure_polls(void)
{
    enum { MAX_PORTS = 256, N_POLLS = 1 << 22, N_RUNS = 5 };
    struct port *ports = xcalloc(MAX_PORTS, sizeof *ports);
    struct dp_packet_batch batch;

    dp_packet_batch_init(&batch);
    for (size_t i = 0; i < MAX_PORTS; i++) {
        port_init(&ports[i], VIRTQ_DEVICE_READS, 256,
                  VIRTIO_BIT(VIRTIO_F_VERSION_1));
    }
    for (size_t n = 1; n <= MAX_PORTS; n *= 4) {
        double best = 0;

        for (int run = 0; run < N_RUNS; run++) {
            double start = now_in_ns();
            double elapsed;

            for (size_t i = 0; i < N_POLLS; i++) {
                CHECK_EQ(netdev_vhostuser_rxq_recv(&ports[i % n].rxq.up,
                                                   &batch, NULL), EAGAIN);
            }
            elapsed = now_in_ns() - start;
            best = run ? MIN(best, elapsed) : elapsed;
        }
        printf("%"PRIuSIZE" ports: %.1f ns a poll\n", n, best / N_POLLS);
    }
    for (size_t i = 0; i < MAX_PORTS; i++) {
        port_uninit(&ports[i]);
    }
    free(ports);
}

static void
test_netdev_vhostuser_io_main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {
        { "recv", test_recv },
        { "recv-malformed", test_recv_malformed },
        { "recv-not-ready", test_recv_not_ready },
        { "recv-policing", test_recv_policing },
        { "rarp", test_rarp },
#ifdef DPDK_NETDEV
        { "pool", test_pool },
#endif
        { "send", test_send },
        { "sizes", test_sizes },
        { "send-mergeable", test_send_mergeable },
        { "send-drops", test_send_drops },
        { "hostile", test_hostile },
        { "threads", test_threads },
        { "measure-polls", measure_polls },
    };

    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc == 2 && !strcmp(argv[1], tests[i].name)) {
            check_name = tests[i].name;
            tests[i].run();
            return;
        }
    }
    ovs_fatal(0, "usage: vhutest io TEST");
}

VHUTEST_REGISTER("io", test_netdev_vhostuser_io_main);
