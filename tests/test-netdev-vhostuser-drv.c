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
#include "ovs-thread.h"
#include "packets.h"
#include "seq.h"
#include "util.h"
#include "vhu-dev.h"
#include "vhu-frontend-impl.h"
#include "vhu-frontend.h"
#include "vhu-packet.h"
#include "vhutest.h"
#include "virtq-drv-fixture.h"

/* The hot path of the front-end role between a mock device and batches of
 * packets, without a switch and without the protocol. */

enum { BUF_SIZE = 2048, HDR_LEN = VIRTIO_NET_HDR_LEN };

/* One queue of a port. */
struct port {
    struct netdev_vhostuser netdev;
    struct netdev_rxq rxq;
    struct netdev_vhostuser_driver driver;
    struct vhu_txq_map map;
    struct vhu_fe_vring *vring;
    struct vhu_queue_stats *stats;
    struct drv_fixture f;
};

/* Both ring formats, for tests that concern both. */
static const uint64_t formats[] = { V1, PACKED, V1 | IN_ORDER,
                                    PACKED | IN_ORDER };

/* Sets up the transmitq (VIRTQ_DEVICE_READS) or receiveq of 'port', with a
 * ring of 'size'. */
static void
port_init(struct port *port, enum virtq_access access, uint32_t size,
          uint64_t features)
{
    static const struct vhu_frontend_config config = { .n_pairs = 1 };
    static const struct vhu_frontend_ops ops = { .changed = NULL };
    struct netdev_vhostuser *netdev = &port->netdev;
    bool transmit = access == VIRTQ_DEVICE_READS;
    char *error;

    memset(port, 0, sizeof *port);
    port->driver.frontend = vhu_frontend_create("fe0", NULL, &config, &ops,
                                                NULL);
    for (unsigned int i = 0; i < VHOST_USER_MAX_VRINGS; i++) {
        port->driver.vrings[i] = vhu_frontend_get_vring(port->driver.frontend,
                                                        i);
    }
    port->vring = port->driver.vrings[transmit ? vhu_transmitq_vring(0)
                                      : vhu_receiveq_vring(0)];

    drv_fixture_init(&port->f, size, features, access, BUF_SIZE);
    virtq_drv_destroy(port->f.vq);
    port->f.config.counters = &port->vring->counters;
    CHECK_EQ(virtq_drv_create(&port->f.config, &port->f.vq, &error), 0);
    drv_fixture_start_device(&port->f);

    ovs_mutex_init(&netdev->mutex);
    for (int i = 0; i < 2; i++) {
        netdev->stats[i] = xzalloc(sizeof *netdev->stats[i]);
    }
    atomic_init(&netdev->up_flag, true);
    atomic_init(&netdev->rx_flag, true);
    atomic_init(&netdev->max_packet_len, 9018);
    atomic_init(&netdev->tx_retries_max, 8);
    ovsrcu_init(&netdev->policer, NULL);
    ovsrcu_init(&netdev->qos, NULL);
    ovsrcu_init(&netdev->driver, &port->driver);
    ovsrcu_init(&netdev->txq_map, &port->map);
    port->map.n = 1;
    port->map.vrings[0] = vhu_receiveq_vring(0);
    port->rxq.netdev = &netdev->up;
    netdev->dev = vhu_dev_create("fe0", features, 1, NULL, NULL);

    /* What the switch sends is in the statistics of the vring of the back-end
     * role that it would have sent to. */
    port->stats = netdev->stats[transmit ? vhu_receiveq_vring(0)
                                : vhu_transmitq_vring(0)];
    ovsrcu_set_hidden(&port->vring->vq, port->f.vq);
}

static void
port_uninit(struct port *port)
{
    netdev_vhostuser_qos_destroy(&port->netdev);
    ovsrcu_set_hidden(&port->vring->vq, NULL);
    drv_fixture_uninit(&port->f);
    vhu_frontend_destroy(port->driver.frontend);
    vhu_dev_destroy(port->netdev.dev);
    for (int i = 0; i < 2; i++) {
        free(port->netdev.stats[i]);
    }
    ovs_mutex_destroy(&port->netdev.mutex);
}

/* The device uses 'n' buffers of a receiveq with 'len' bytes each: a header
 * that is nonsense but for 'num_buffers', and the rest filled with 'first' and
 * up. */
static void
device_use(struct port *port, size_t n, size_t len, int num_buffers,
           uint8_t first)
{
    uint8_t data[BUF_SIZE];

    for (size_t i = 0; i < n; i++) {
        struct mock_avail avail;

        CHECK(mock_device_take(&port->f.dev, &avail));
        CHECK(avail.size == BUF_SIZE);
        memset(data, first + i, sizeof data);
        memset(data, 0xff, 10);
        data[10] = num_buffers;
        data[11] = num_buffers >> 8;
        mock_device_write(&port->f.dev, &avail, data, len);
        mock_device_use(&port->f.dev, &avail, len);
        free(avail.bufs);
    }
    mock_device_publish(&port->f.dev);
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
    n = -netdev_vhostuser_rxq_recv(&port->rxq, &batch, qfill);
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

/* Bursts, of which each makes its buffers available again with one kick. */
static void
test_recv(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        struct port port;
        int qfill = 77;

        port_init(&port, VIRTQ_DEVICE_WRITES, 64, formats[i]);
        CHECK_EQ(recv_and_check(&port, 0, &qfill), -EAGAIN);
        CHECK_EQ(drv_fixture_kicks(&port.f), 0);

        device_use(&port, 40, HDR_LEN + 60, 1, 0);
        CHECK_EQ(recv_and_check(&port, 0, &qfill), 32);
        CHECK(qfill > 0 && qfill <= 8);
        CHECK_EQ(drv_fixture_kicks(&port.f), 1);
        CHECK_EQ(recv_and_check(&port, 32, &qfill), 8);
        CHECK_EQ(qfill, 0);
        CHECK_EQ(drv_fixture_kicks(&port.f), 1);
        CHECK_EQ(recv_and_check(&port, 0, NULL), -EAGAIN);

        /* All 64 are available again. */
        device_use(&port, 64, HDR_LEN + 100, 1, 0);
        CHECK_EQ(recv_and_check(&port, 0, NULL), 32);
        CHECK_EQ(recv_and_check(&port, 32, NULL), 32);
        CHECK_EQ(port.stats->packets, 104);
        CHECK_EQ(port.stats->bytes, 40 * 60 + 64 * 100);
        CHECK_EQ(port.stats->sizes[VHU_BIN_undersize], 40);
        CHECK_EQ(port.stats->sizes[VHU_BIN_size_65_127], 64);
        CHECK_EQ(port.stats->multicast, 20 + 32);
        CHECK_EQ(port.stats->bursts, 4);
        CHECK_EQ(port.stats->drops[VHU_DROP_rx_malformed], 0);
        port_uninit(&port);
    }
    printf("ok\n");
}

/* Packets that take several buffers. */
static void
test_recv_mergeable(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        struct dp_packet_batch batch;
        struct port port;

        port_init(&port, VIRTQ_DEVICE_WRITES, 64, formats[i] | MERGEABLE);
        for (int j = 0; j < 30; j++) {
            device_use(&port, 1, BUF_SIZE, 3, j);
            device_use(&port, 1, BUF_SIZE, 0, j);
            device_use(&port, 1, 904, 0, j);

            dp_packet_batch_init(&batch);
            CHECK_EQ(netdev_vhostuser_rxq_recv(&port.rxq, &batch, NULL), 0);
            CHECK_EQ(dp_packet_batch_size(&batch), 1);
            CHECK_EQ(dp_packet_size(batch.packets[0]),
                     2 * BUF_SIZE + 904 - HDR_LEN);
            vhu_packets_recycle(&batch);
        }
        CHECK_EQ(port.stats->packets, 30);
        CHECK_EQ(port.stats->sizes[VHU_BIN_size_1519_max], 30);
        port_uninit(&port);
    }
    printf("ok\n");
}

/* What is no packet is counted, does not end the batch, and its buffer is
 * available again. */
static void
test_recv_malformed(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        struct port port;

        port_init(&port, VIRTQ_DEVICE_WRITES, 64, formats[i]);
        device_use(&port, 3, HDR_LEN + 60, 1, 0);
        device_use(&port, 2, HDR_LEN + 13, 1, 100);
        device_use(&port, 2, HDR_LEN, 1, 100);
        device_use(&port, 2, 0, 1, 100);
        device_use(&port, 3, HDR_LEN + 14, 1, 3);
        CHECK_EQ(recv_and_check(&port, 0, NULL), 6);
        CHECK_EQ(port.stats->packets, 6);
        CHECK_EQ(port.stats->drops[VHU_DROP_rx_malformed], 6);

        device_use(&port, 64, HDR_LEN + 1, 1, 0);
        CHECK_EQ(recv_and_check(&port, 0, NULL), -EAGAIN);
        CHECK_EQ(recv_and_check(&port, 0, NULL), -EAGAIN);
        CHECK_EQ(port.stats->drops[VHU_DROP_rx_malformed], 70);
        device_use(&port, 64, HDR_LEN + 60, 1, 0);
        CHECK_EQ(recv_and_check(&port, 0, NULL), 32);
        port_uninit(&port);
    }
    printf("ok\n");
}

/* Without a virtqueue, with one that another thread has locked, or with the
 * port down, nothing is received and nothing lost. */
static void
test_recv_not_ready(void)
{
    struct port port;

    port_init(&port, VIRTQ_DEVICE_WRITES, 64, V1);
    device_use(&port, 5, HDR_LEN + 60, 1, 0);
    CHECK(netdev_vhostuser_driver_rxq_enabled(&port.driver, &port.rxq));

    ovsrcu_set_hidden(&port.vring->vq, NULL);
    CHECK_EQ(recv_and_check(&port, 0, NULL), -EAGAIN);
    CHECK(!netdev_vhostuser_driver_rxq_enabled(&port.driver, &port.rxq));
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

static void
test_recv_policing(void)
{
    struct port port;

    port_init(&port, VIRTQ_DEVICE_WRITES, 64, V1);
    netdev_vhostuser_set_policing(&port.netdev.up, 8, 8, 0, 0);
    device_use(&port, 32, HDR_LEN + 114, 1, 0);
    CHECK_EQ(recv_and_check(&port, 0, NULL), 10);
    CHECK_EQ(port.stats->drops[VHU_DROP_rx_qos], 22);
    device_use(&port, 32, HDR_LEN + 1014, 1, 0);
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

/* The device takes a packet, which must have 'size' bytes filled with 'fill'
 * behind a header of zeros, and uses its buffers. */
static void
device_check(struct port *port, size_t size, uint8_t fill)
{
    uint8_t *data = xmalloc(HDR_LEN + size);
    struct mock_avail avail;

    CHECK(mock_device_take(&port->f.dev, &avail));
    CHECK_EQ(avail.size, HDR_LEN + size);
    mock_device_read(&port->f.dev, &avail, data);
    CHECK(is_all_zeros(data, HDR_LEN));
    for (size_t i = 0; i < size; i++) {
        CHECK_EQ(data[HDR_LEN + i], fill);
    }
    mock_device_use(&port->f.dev, &avail, 0);
    mock_device_publish(&port->f.dev);
    free(avail.bufs);
    free(data);
}

/* Takes all packets; returns how many. */
static size_t
device_take_all(struct port *port)
{
    struct mock_avail avail;
    size_t n = 0;

    while (mock_device_take(&port->f.dev, &avail)) {
        mock_device_use(&port->f.dev, &avail, 0);
        free(avail.bufs);
        n++;
    }
    mock_device_publish(&port->f.dev);
    return n;
}

static void
test_send(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        struct port port;

        port_init(&port, VIRTQ_DEVICE_READS, 64, formats[i]);
        for (int round = 0; round < 4; round++) {
            send_packets(&port, 32, 60, 0xff);
            CHECK_EQ(drv_fixture_kicks(&port.f), 1);
            send_packets(&port, 1, 1500, 42);
            for (size_t j = 0; j < 32; j++) {
                device_check(&port, 60, 0xff + j);
            }
            device_check(&port, 1500, 42);
            CHECK_EQ(device_take_all(&port), 0);
            CHECK_EQ(drv_fixture_kicks(&port.f), 1);
        }
        CHECK_EQ(port.stats->packets, 4 * 33);
        CHECK_EQ(port.stats->bytes, 4 * (32 * 60 + 1500));
        CHECK_EQ(port.stats->broadcast, 4);
        CHECK_EQ(port.stats->multicast, 4 * 15);
        CHECK_EQ(port.stats->sizes[VHU_BIN_undersize], 4 * 32);
        CHECK_EQ(port.stats->sizes[VHU_BIN_size_1024_1518], 4);
        for (int j = 0; j < VHU_N_DROPS; j++) {
            CHECK_EQ(port.stats->drops[j], 0);
        }
        port_uninit(&port);
    }
    printf("ok\n");
}

/* Packets longer than a buffer: with a header that fills the first of them
 * only in part, and with indirect tables. */
static void
test_send_several_buffers(void)
{
    for (size_t i = 0; i < 2 * ARRAY_SIZE(formats); i++) {
        uint64_t features = formats[i / 2] | (i % 2 ? INDIRECT : 0);
        struct port port;

        port_init(&port, VIRTQ_DEVICE_READS, 64, features);
        for (int round = 0; round < 20; round++) {
            send_packets(&port, 5, 9000, round);
            for (int j = 0; j < 5; j++) {
                device_check(&port, 9000, round + j);
            }
            send_packets(&port, 1, 2 * BUF_SIZE - HDR_LEN + 1, round);
            device_check(&port, 2 * BUF_SIZE - HDR_LEN + 1, round);
        }
        CHECK_EQ(port.stats->packets, 120);
        CHECK_EQ(port.stats->drops[VHU_DROP_tx_failure], 0);
        port_uninit(&port);
    }
    printf("ok\n");
}

/* Reasons for which packets are dropped. */
static void
test_send_drops(void)
{
    uint64_t *no_queue;
    struct port port;

    port_init(&port, VIRTQ_DEVICE_READS, 16, V1);
    no_queue = port.netdev.no_queue.drops;

    /* The ring is full: one attempt that makes progress, one retry. */
    send_packets(&port, 32, 60, 0);
    CHECK_EQ(port.stats->packets, 16);
    CHECK_EQ(port.stats->drops[VHU_DROP_tx_failure], 16);
    CHECK_EQ(port.stats->retries, 1);
    send_packets(&port, 32, 60, 0);
    CHECK_EQ(port.stats->drops[VHU_DROP_tx_failure], 48);
    CHECK_EQ(port.stats->retries, 1);
    CHECK_EQ(device_take_all(&port), 16);

    /* Too long for the port, and for the ring. */
    send_packets(&port, 1, 9019, 0);
    CHECK_EQ(port.stats->drops[VHU_DROP_tx_mtu_exceeded], 1);
    atomic_store_relaxed(&port.netdev.max_packet_len, 65000);
    send_packets(&port, 3, 16 * BUF_SIZE - HDR_LEN + 1, 0);
    CHECK_EQ(port.stats->drops[VHU_DROP_tx_failure], 51);
    send_packets(&port, 1, 16 * BUF_SIZE - HDR_LEN, 0);
    device_check(&port, 16 * BUF_SIZE - HDR_LEN, 0);
    CHECK_EQ(port.stats->drops[VHU_DROP_tx_failure], 51);

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
    CHECK_EQ(device_take_all(&port), 0);
    send_packets(&port, 1, 60, 7);
    device_check(&port, 60, 7);
    port_uninit(&port);
    printf("ok\n");
}

/* A back-end that breaks its ring is reported to the control thread, once; one
 * that uses nothing, or without end, does not hold us up. */
static void
test_hostile(void)
{
    struct port port;
    uint64_t seqno;
    struct seq *seq;

    port_init(&port, VIRTQ_DEVICE_READS, 64, V1);
    seq = port.driver.frontend->wakeup;
    seqno = seq_read(seq);
    send_packets(&port, 32, 60, 0);
    CHECK_EQ(seq_read(seq), seqno);
    mock_put16(&port.f.mem, port.f.dev.device + 2, 4000);
    send_packets(&port, 32, 60, 0);
    send_packets(&port, 32, 60, 0);
    CHECK(seq_read(seq) != seqno);
    seqno = seq_read(seq);
    send_packets(&port, 1, 60, 0);
    CHECK_EQ(seq_read(seq), seqno);
    CHECK(port.stats->drops[VHU_DROP_tx_failure] > 0);
    port_uninit(&port);

    port_init(&port, VIRTQ_DEVICE_WRITES, 64, V1);
    seq = port.driver.frontend->wakeup;
    seqno = seq_read(seq);
    mock_put16(&port.f.mem, port.f.dev.device + 2, 65);
    CHECK_EQ(recv_and_check(&port, 0, NULL), -EAGAIN);
    CHECK(seq_read(seq) != seqno);
    CHECK_EQ(recv_and_check(&port, 0, NULL), -EAGAIN);
    port_uninit(&port);
    printf("ok\n");
}

/* Several threads that send to one transmitq, a device that empties it, and a
 * control thread that takes the virtqueue away and puts it back.  It ends when
 * the ring has been full several times. */

enum { N_SENDERS = 3, N_BATCHES = 1000, N_ENOUGH = 1000 };

static atomic_uint n_senders_left;
static atomic_bool enough;
static atomic_uint64_t n_sent;

static void *
sender_main(void *port_)
{
    struct port *port = port_;
    bool end = false;
    unsigned int orig;
    uint64_t orig64;

    for (int i = 0; i < N_BATCHES || !end; i++) {
        send_packets(port, 1 + i % 32, 60 + i % 1400, 1);
        atomic_add(&n_sent, 1 + i % 32, &orig64);
        atomic_read(&enough, &end);
    }
    atomic_sub(&n_senders_left, 1, &orig);
    return NULL;
}

static void
test_threads(void)
{
    pthread_t threads[N_SENDERS];
    uint64_t n_used = 0, n_dropped, n_all;
    unsigned int n_left;
    struct port port;

    port_init(&port, VIRTQ_DEVICE_READS, 128, V1);
    atomic_init(&n_senders_left, N_SENDERS);
    atomic_init(&enough, false);
    atomic_init(&n_sent, 0);
    for (int i = 0; i < N_SENDERS; i++) {
        threads[i] = ovs_thread_create("sender", sender_main, &port);
    }
    do {
        n_used += device_take_all(&port);
        ovs_spin_lock(&port.vring->lock);
        ovsrcu_set_hidden(&port.vring->vq, NULL);
        ovs_spin_unlock(&port.vring->lock);
        ovsrcu_set(&port.vring->vq, port.f.vq);
        atomic_store(&enough, n_used >= N_ENOUGH);
        atomic_read(&n_senders_left, &n_left);
    } while (n_left);
    for (int i = 0; i < N_SENDERS; i++) {
        xpthread_join(threads[i], NULL);
    }
    n_used += device_take_all(&port);
    n_dropped = port.stats->drops[VHU_DROP_tx_failure]
                + port.netdev.no_queue.drops[VHU_DROP_tx_not_ready];
    atomic_read(&n_sent, &n_all);
    CHECK_EQ(port.stats->packets, n_used);
    CHECK_EQ(n_used + n_dropped, n_all);
    port_uninit(&port);
    printf("ok\n");
}

static void
test_netdev_vhostuser_drv_main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {
        { "recv", test_recv },
        { "recv-mergeable", test_recv_mergeable },
        { "recv-malformed", test_recv_malformed },
        { "recv-not-ready", test_recv_not_ready },
        { "recv-policing", test_recv_policing },
        { "send", test_send },
        { "send-several-buffers", test_send_several_buffers },
        { "send-drops", test_send_drops },
        { "hostile", test_hostile },
        { "threads", test_threads },
    };

    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc == 2 && !strcmp(argv[1], tests[i].name)) {
            check_name = tests[i].name;
            tests[i].run();
            return;
        }
    }
    ovs_fatal(0, "usage: vhutest io-drv TEST");
}

VHUTEST_REGISTER("io-drv", test_netdev_vhostuser_drv_main);
