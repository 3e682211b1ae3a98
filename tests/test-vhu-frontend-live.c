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

#include "vhu-frontend.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "openvswitch/poll-loop.h"
#include "ovs-rcu.h"
#include "timeval.h"
#include "util.h"
#include "vhu-conn.h"
#include "vhu-dev.h"
#include "vhu-mem.h"
#include "vhu-shm.h"
#include "vhutest.h"

/* All operations of the front-end role against the back-end of somebody else,
 * at a socket, that sends back what it receives. */

#define N_PAIRS 2
#define FRAME 64

struct live {
    struct vhu_frontend *fe;
    uint32_t next;              /* Number in the next packet. */
    int n_rarps;
};

static void
on_done(enum vhu_fe_op op, int error, const char *reason,
        void *aux OVS_UNUSED)
{
    if (error) {
        fprintf(stderr, "%s: %s\n", vhu_fe_op_to_string(op), reason);
    }
}

static const struct vhu_frontend_ops live_ops = { .done = on_done };

static void
run(struct live *live)
{
    vhu_mem_clear_dead();
    vhu_frontend_run(live->fe);
    ovsrcu_quiesce();
}

/* Waits until nothing is to be done and the device is up, or is not. */
static void
settle(struct live *live, bool up)
{
    long long int end = time_msec() + 10000;

    do {
        run(live);
        usleep(1000);
        if (time_msec() >= end) {
            const char *reason = vhu_frontend_get_reason(live->fe);

            ovs_fatal(0, "%s", reason ? reason : "still up");
        }
    } while (!vhu_frontend_is_idle(live->fe)
             || vhu_frontend_is_up(live->fe) != up);
}

/* Sends 'n' <= 32 packets on queue pair 'pair'. */
static void
send_packets(struct live *live, unsigned int pair, size_t n)
{
    struct vhu_fe_vring *vring
        = vhu_frontend_get_vring(live->fe, vhu_transmitq_vring(pair));
    struct virtq_drv *vq = vhu_fe_vring_lock(vring);
    struct virtq_chain packets[VIRTQ_MAX_BURST];
    uint32_t sizes[VIRTQ_MAX_BURST];

    assert(vq);
    for (size_t i = 0; i < n; i++) {
        sizes[i] = virtq_drv_get_hdr_len(vq) + FRAME;
    }
    assert(virtq_drv_reserve(vq, sizes, packets, n) == n);
    for (size_t i = 0; i < n; i++) {
        uint8_t *data = packets[i].segs[0].va;
        uint32_t number = live->next + i;

        assert(packets[i].segs[0].len == sizes[i]);
        memset(data, 0, sizes[i]);
        data += virtq_drv_get_hdr_len(vq);
        memset(data, 2, 12);
        data[12] = 0x88;        /* An experimental Ethertype. */
        data[13] = 0xb5;
        memcpy(data + 14, &number, sizeof number);
    }
    virtq_drv_publish_avail(vq);
    virtq_drv_kick(vq);
    vhu_fe_vring_unlock(vring);
    live->next += n;
}

/* Receives what has come on queue pair 'pair', and returns how many packets
 * of ours, which must have the numbers from 'first' on. */
static size_t
receive_packets(struct live *live, unsigned int pair, uint32_t first)
{
    struct vhu_fe_vring *vring
        = vhu_frontend_get_vring(live->fe, vhu_receiveq_vring(pair));
    struct virtq_drv *vq = vhu_fe_vring_lock(vring);
    struct virtq_chain packets[VIRTQ_MAX_BURST];
    size_t n, n_ours = 0;

    assert(vq);
    n = virtq_drv_take_used(vq, packets, VIRTQ_MAX_BURST);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *data = packets[i].segs[0].va
                              + virtq_drv_get_hdr_len(vq);
        uint32_t number;

        if (data[12] == 0x80 && data[13] == 0x35) {
            live->n_rarps++;
        } else if (data[12] == 0x88 && data[13] == 0xb5) {
            memcpy(&number, data + 14, sizeof number);
            if (number != first + n_ours) {
                ovs_fatal(0, "packet %"PRIu32" (expected %"PRIuSIZE")",
                          number, first + n_ours);
            }
            n_ours++;
        }
    }
    virtq_drv_refill(vq);
    virtq_drv_publish_avail(vq);
    virtq_drv_kick(vq);
    vhu_fe_vring_unlock(vring);
    return n_ours;
}

/* Waits until packets come back at all: a back-end may begin to receive before
 * it begins to transmit. */
static void
warm_up(struct live *live, unsigned int pair, const char *what)
{
    long long int end = time_msec() + 5000;
    bool came = false;

    while (!came) {
        uint32_t first = live->next;

        if (time_msec() >= end) {
            ovs_fatal(0, "%s, pair %u: nothing comes back", what, pair);
        }
        send_packets(live, pair, 1);
        for (int i = 0; i < 100 && !came; i++) {
            usleep(1000);
            run(live);
            came = receive_packets(live, pair, first);
        }
    }
}

/* Sends packets and waits until all of them are back, in order. */
static void
exchange(struct live *live, unsigned int pair, const char *what)
{
    long long int end;

    warm_up(live, pair, what);
    end = time_msec() + 5000;
    for (int i = 0; i < 50; i++) {
        uint32_t first = live->next;

        send_packets(live, pair, 20);
        while (first != live->next) {
            first += receive_packets(live, pair, first);
            run(live);
            if (time_msec() >= end) {
                ovs_fatal(0, "%s, pair %u: %"PRIu32" packets missing", what,
                          pair, live->next - first);
            }
        }
    }
    printf("%s: ok\n", what);
}

/* Checks that a dirty page is in our memory. */
static void
check_page(uint64_t guest_addr, void *live_)
{
    const struct live *live = live_;
    const struct vhu_shm *shm = vhu_frontend_get_shm(live->fe);

    assert(guest_addr >= shm->guest_addr
           && guest_addr < shm->guest_addr + shm->size);
}

static size_t
harvest(struct live *live)
{
    return vhu_frontend_log_harvest(live->fe, check_page, live);
}

static void
test_log(struct live *live)
{
    if (vhu_frontend_log_start(live->fe, 0)) {
        printf("no dirty log\n");
        return;
    }
    settle(live, true);
    exchange(live, 0, "with a dirty log");
    assert(harvest(live) > 2);
    exchange(live, 0, "and again");
    assert(harvest(live) > 2);
    vhu_frontend_log_start(live->fe, 2 * vhu_frontend_log_size(live->fe));
    settle(live, true);
    exchange(live, 0, "with a larger one");
    vhu_frontend_stop(live->fe);
    settle(live, false);
    assert(harvest(live) > 2);
    vhu_frontend_start(live->fe);
    settle(live, true);
    vhu_frontend_log_stop(live->fe);
    settle(live, true);
    harvest(live);
    exchange(live, 0, "without");
    assert(!harvest(live));
}

static void
test_announce(struct live *live)
{
    static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 1 };
    long long int end = time_msec() + 5000;

    if (vhu_frontend_announce(live->fe, mac)) {
        printf("no announcement\n");
        return;
    }
    while (!live->n_rarps && time_msec() < end) {
        run(live);
        receive_packets(live, 0, live->next);
        receive_packets(live, 1, live->next);
    }
    printf("%s\n", live->n_rarps ? "announced" : "no announcement came");
}

static void
test_all(struct live *live)
{
    vhu_frontend_set_mtu(live->fe, 1500);
    vhu_frontend_start(live->fe);
    settle(live, true);
    printf("%u pairs\n", vhu_frontend_get_info(live->fe)->n_pairs);
    assert(!vhu_frontend_get_mtu_error(live->fe));
    exchange(live, 0, "started, first pair");
    exchange(live, 1, "started, second pair");

    vhu_frontend_stop(live->fe);
    settle(live, false);
    vhu_frontend_start(live->fe);
    settle(live, true);
    exchange(live, 0, "restarted");
    exchange(live, 1, "restarted, second pair");

    for (unsigned int i = 0; i < 4; i++) {
        assert(!vhu_frontend_reset_vring(live->fe, i));
        settle(live, true);
    }
    exchange(live, 0, "each vring reset");
    exchange(live, 1, "each vring reset, second pair");

    vhu_frontend_enable(live->fe, 1, false);
    settle(live, true);
    vhu_frontend_enable(live->fe, 1, true);
    settle(live, true);
    exchange(live, 1, "disabled and enabled");

    vhu_frontend_set_call(live->fe, 0, VHU_FE_CALL_MASKED);
    settle(live, true);
    vhu_frontend_set_call(live->fe, 0, VHU_FE_CALL_POLL);
    settle(live, true);
    exchange(live, 0, "other notifications");

    test_log(live);
    test_announce(live);

    for (int i = 0; i < 3; i++) {
        vhu_frontend_disconnect(live->fe, "test");
        settle(live, true);
        exchange(live, 0, "connected again");
        exchange(live, 1, "connected again, second pair");
    }
}

/* usage: vhutest frontend-live SOCKET split|packed */
static void
test_vhu_frontend_live_main(int argc, char *argv[])
{
    struct vhu_frontend_config config = {
        .features = VHU_FRONTEND_FEATURES,
        .protocol_features = VHU_FRONTEND_PROTOCOL_FEATURES,
        .n_pairs = N_PAIRS,
        .queue_size = 256,
        .buf_size = 2048,
    };
    struct vhu_conn_config conn_config = { .mode = VHU_CONN_CLIENT };
    struct live live;

    if (argc != 3) {
        ovs_fatal(0, "usage: %s SOCKET split|packed", argv[0]);
    }
    if (!strcmp(argv[2], "split")) {
        config.features &= ~VIRTIO_BIT(VIRTIO_F_RING_PACKED);
    }
    conn_config.path = argv[1];

    memset(&live, 0, sizeof live);
    live.fe = vhu_frontend_create(
        "live", vhu_conn_create("live", &conn_config), &config, &live_ops,
        &live);
    test_all(&live);
    vhu_frontend_destroy(live.fe);
}

VHUTEST_REGISTER("frontend-live", test_vhu_frontend_live_main);
