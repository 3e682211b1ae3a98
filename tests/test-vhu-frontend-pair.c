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
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ovs-atomic.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "timeval.h"
#include "util.h"
#include "vhu-backend.h"
#include "vhu-conn.h"
#include "vhu-peer.h"
#include "vhu-shm.h"
#include "vhutest.h"
#include "virtio-barrier.h"

/* The front-end role against our back-end role, in one thread. */

struct pair {
    struct vhu_frontend *fe;
    struct vhu_backend *be;
};

static void
be_changed(void *aux OVS_UNUSED)
{
}

static int
be_set_mtu(uint16_t mtu, void *aux OVS_UNUSED)
{
    return mtu > 9000 ? ERANGE : 0;
}

static void
be_send_rarp(const uint8_t mac[6], void *aux OVS_UNUSED)
{
    printf("RARP %02x\n", mac[5]);
}

static const struct vhu_dev_ops be_ops = {
    .changed = be_changed,
    .set_mtu = be_set_mtu,
    .send_rarp = be_send_rarp,
};

static void
on_done(enum vhu_fe_op op, int error, const char *reason,
        void *aux OVS_UNUSED)
{
    if (error) {
        printf("%s: %s\n", vhu_fe_op_to_string(op), reason);
    }
}

static const struct vhu_frontend_ops fe_ops = { .done = on_done };

/* Lets both sides do what they have to do.  The back-end may have to wait for
 * other threads. */
static void
turn(struct pair *p)
{
    long long int end = time_msec() + 5000;

    do {
        for (int i = 0; i < 5; i++) {
            vhu_frontend_run(p->fe);
            vhu_backend_run(p->be);
        }
        ovsrcu_quiesce();
    } while (!vhu_frontend_is_idle(p->fe)
             && vhu_conn_is_connected(vhu_frontend_get_conn(p->fe))
             && time_msec() < end);
}

static void
join(struct pair *p)
{
    int fds[2];

    assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    vhu_backend_set_conn(p->be, vhu_conn_create_fd("be", fds[0]));
    vhu_frontend_set_conn(p->fe, vhu_conn_create_fd("fe", fds[1]));
}

static void
init(struct pair *p, unsigned int n_pairs, bool packed)
{
    const struct vhu_frontend_config config = {
        .features = (VHU_FRONTEND_FEATURES
                     & ~(packed ? 0 : VIRTIO_BIT(VIRTIO_F_RING_PACKED))),
        .protocol_features = VHU_FRONTEND_PROTOCOL_FEATURES,
        .n_pairs = n_pairs,
        .queue_size = 64,
        .buf_size = 2048,
    };

    memset(p, 0, sizeof *p);
    p->be = vhu_backend_create("be", NULL, n_pairs, &be_ops, NULL);
    p->fe = vhu_frontend_create("fe", NULL, &config, &fe_ops, NULL);
    join(p);
}

static void
uninit(struct pair *p)
{
    vhu_frontend_destroy(p->fe);
    vhu_backend_destroy(p->be);
}

static void
up(struct pair *p)
{
    vhu_frontend_start(p->fe);
    turn(p);
    if (!vhu_frontend_is_up(p->fe) || !vhu_backend_is_up(p->be)) {
        ovs_fatal(0, "front-end: %s; back-end: %s",
                  vhu_frontend_get_reason(p->fe),
                  vhu_backend_get_reason(p->be));
    }
}

/* Packets, which carry their number. */

struct packet {
    struct virtio_net_hdr hdr;
    uint32_t number;
};

static void
fill(const struct virtq_chain *chain, uint32_t number)
{
    const struct packet packet = { .hdr.num_buffers = virtio_cpu_to_le16(1),
                                   .number = number };

    assert(chain->n_segs && chain->segs[0].len >= sizeof packet);
    memcpy(chain->segs[0].va, &packet, sizeof packet);
}

static uint32_t
get_number(const struct virtq_chain *chain)
{
    struct packet packet;

    assert(chain->n_segs && chain->segs[0].len >= sizeof packet);
    memcpy(&packet, chain->segs[0].va, sizeof packet);
    return packet.number;
}

/* The front-end transmits packets 'first' to 'first + n - 1'.  Returns how
 * many of them fit. */
static size_t
fe_send(struct pair *p, unsigned int pair, uint32_t first, size_t n)
{
    struct vhu_fe_vring *vring
        = vhu_frontend_get_vring(p->fe, vhu_transmitq_vring(pair));
    struct virtq_drv *vq = vhu_fe_vring_lock(vring);
    struct virtq_chain packets[VIRTQ_MAX_BURST];
    uint32_t sizes[VIRTQ_MAX_BURST];

    if (!vq) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        sizes[i] = sizeof(struct packet);
    }
    n = virtq_drv_reserve(vq, sizes, packets, n);
    for (size_t i = 0; i < n; i++) {
        fill(&packets[i], first + i);
    }
    virtq_drv_publish_avail(vq);
    virtq_drv_kick(vq);
    vhu_fe_vring_unlock(vring);
    return n;
}

/* The front-end receives up to 'max' packets, and returns how many came, with
 * their numbers in 'numbers'. */
static size_t
fe_recv(struct pair *p, unsigned int pair, uint32_t numbers[], size_t max)
{
    struct vhu_fe_vring *vring
        = vhu_frontend_get_vring(p->fe, vhu_receiveq_vring(pair));
    struct virtq_drv *vq = vhu_fe_vring_lock(vring);
    struct virtq_chain packets[VIRTQ_MAX_BURST];
    size_t n;

    if (!vq) {
        return 0;
    }
    n = virtq_drv_take_used(vq, packets, max);
    for (size_t i = 0; i < n; i++) {
        numbers[i] = get_number(&packets[i]);
    }
    virtq_drv_refill(vq);
    virtq_drv_publish_avail(vq);
    virtq_drv_kick(vq);
    vhu_fe_vring_unlock(vring);
    return n;
}

/* The same for the back-end. */
static size_t
be_poll(struct pair *p, unsigned int index, uint32_t numbers[],
        const uint32_t *first, size_t n)
{
    struct vhu_vring *vring = vhu_backend_get_dev(p->be)->vrings[index];
    struct virtq *vq = vhu_vring_lock(vring);
    struct virtq_chain chains[VIRTQ_MAX_BURST];

    if (!vq) {
        return 0;
    }
    n = virtq_take_avail(vq, chains, n);
    for (size_t i = 0; i < n; i++) {
        if (first) {
            fill(&chains[i], *first + i);
        } else {
            numbers[i] = get_number(&chains[i]);
        }
        virtq_add_used(vq, &chains[i], first ? sizeof(struct packet) : 0);
    }
    virtq_publish_used(vq);
    virtq_call(vq);
    vhu_vring_unlock(vring);
    return n;
}

static size_t
be_recv(struct pair *p, unsigned int pair, uint32_t numbers[], size_t max)
{
    return be_poll(p, vhu_transmitq_vring(pair), numbers, NULL, max);
}

static size_t
be_send(struct pair *p, unsigned int pair, uint32_t first, size_t n)
{
    return be_poll(p, vhu_receiveq_vring(pair), NULL, &first, n);
}

static void
check_numbers(const uint32_t numbers[], size_t n, uint32_t first)
{
    for (size_t i = 0; i < n; i++) {
        if (numbers[i] != first + i) {
            ovs_fatal(0, "packet %"PRIuSIZE" is %"PRIu32" (expected %"PRIuSIZE
                      ")", i, numbers[i], first + i);
        }
    }
}

/* Sends 'n' packets both ways through 'pair'. */
static void
exchange(struct pair *p, unsigned int pair, size_t n)
{
    uint32_t numbers[VIRTQ_MAX_BURST];

    for (uint32_t first = 0; first < n; first += 7) {
        assert(fe_send(p, pair, first, 7) == 7);
        assert(be_recv(p, pair, numbers, VIRTQ_MAX_BURST) == 7);
        check_numbers(numbers, 7, first);
        assert(be_send(p, pair, first, 7) == 7);
        assert(fe_recv(p, pair, numbers, VIRTQ_MAX_BURST) == 7);
        check_numbers(numbers, 7, first);
    }
}

static void
test_start(struct pair *p)
{
    const struct vhu_dev *dev = vhu_backend_get_dev(p->be);

    up(p);
    printf("%u pairs, features 0x%"PRIx64"\n",
           vhu_dev_n_started_pairs(dev),
           vhu_frontend_get_info(p->fe)->features);
    for (unsigned int i = 0; i < 4; i++) {
        exchange(p, i, 1000);
    }
}

/* What is under way in both directions when the device stops arrives after it
 * has started again, once and in order. */
static void
test_stop(struct pair *p)
{
    uint32_t numbers[VIRTQ_MAX_BURST];
    uint32_t sent = 0, received = 0;

    up(p);
    for (int i = 0; i < 200; i++) {
        int n = i % 9;

        assert(fe_send(p, 0, sent, n) == n);
        assert(be_send(p, 0, sent, n) == n);
        sent += n;
        if (i % 3 == 1) {
            n = be_recv(p, 0, numbers, 3);
            check_numbers(numbers, n, received);
            assert(fe_recv(p, 0, numbers, n) == n);
            check_numbers(numbers, n, received);
            received += n;
        }

        vhu_frontend_stop(p->fe);
        turn(p);
        assert(!vhu_frontend_is_up(p->fe));
        assert(!vhu_backend_is_up(p->be));
        assert(!fe_send(p, 0, 0, 1) && !fe_recv(p, 0, numbers, 1));
        up(p);

        n = be_recv(p, 0, numbers, sent - received);
        assert(n == sent - received);
        check_numbers(numbers, n, received);
        n = fe_recv(p, 0, numbers, sent - received);
        assert(n == sent - received);
        check_numbers(numbers, n, received);
        received = sent;
    }
    printf("%"PRIu32" packets\n", received);
}

/* One virtqueue is reset while others run. */
static void
test_reset_vring(struct pair *p)
{
    uint32_t numbers[VIRTQ_MAX_BURST];

    up(p);
    exchange(p, 0, 100);
    for (int i = 0; i < 20; i++) {
        assert(fe_send(p, 0, 0, 5) == 5);
        assert(fe_send(p, 1, 0, 5) == 5);
        assert(!vhu_frontend_reset_vring(p->fe, vhu_transmitq_vring(0)));
        assert(!vhu_frontend_reset_vring(p->fe, vhu_receiveq_vring(0)));
        while (!vhu_frontend_is_idle(p->fe)) {
            vhu_frontend_run(p->fe);
            vhu_backend_run(p->be);
            exchange(p, 2, 7);
        }
        assert(be_recv(p, 0, numbers, VIRTQ_MAX_BURST) == 5);
        check_numbers(numbers, 5, 0);
        assert(be_recv(p, 1, numbers, VIRTQ_MAX_BURST) == 5);
        check_numbers(numbers, 5, 0);
        exchange(p, 0, 100);
        exchange(p, 1, 100);
    }
}

/* packets that the back-end had not taken arrive on the next
 * connection. */
static void
test_reconnect(struct pair *p)
{
    uint32_t numbers[VIRTQ_MAX_BURST];
    int n_fds = 0;

    up(p);
    for (int i = 0; i < 100; i++) {
        int n;

        exchange(p, 0, 7 * (i % 10));
        assert(fe_send(p, 0, 1000, i % 20) == i % 20);
        join(p);
        turn(p);
        up(p);
        n = be_recv(p, 0, numbers, VIRTQ_MAX_BURST);
        if (n != i % 20) {
            ovs_fatal(0, "%d: %d packets (expected %d)", i, n, i % 20);
        }
        check_numbers(numbers, n, 1000);
        exchange(p, 1, 7);
        ovsrcu_barrier();
        if (!i) {
            n_fds = count_fds();
        }
        assert(count_fds() == n_fds);
    }
}

static void
test_enable(struct pair *p)
{
    uint32_t numbers[VIRTQ_MAX_BURST];

    vhu_frontend_enable(p->fe, 1, false);
    up(p);
    exchange(p, 0, 7);
    assert(!fe_send(p, 1, 0, 1) && !be_send(p, 1, 0, 1));
    vhu_frontend_enable(p->fe, 1, true);
    turn(p);
    exchange(p, 0, 7);
    exchange(p, 1, 7);
    vhu_frontend_enable(p->fe, 0, false);
    turn(p);
    assert(!fe_recv(p, 0, numbers, 1) && !be_recv(p, 0, numbers, 1));
    exchange(p, 1, 7);
}

static void
test_call(struct pair *p)
{
    struct vhu_fe_vring *vring = vhu_frontend_get_vring(p->fe, 0);
    uint32_t numbers[VIRTQ_MAX_BURST];
    uint64_t n = 0;
    int fd;

    vhu_frontend_set_call(p->fe, 0, VHU_FE_CALL_UNMASKED);
    up(p);
    fd = vhu_frontend_get_call_fd(p->fe, 0);
    exchange(p, 0, 70);
    eventfd_read(fd, &n); /* One may come at the start. */
    exchange(p, 0, 70);
    assert(read(fd, &n, sizeof n) < 0);

    vhu_fe_vring_lock(vring);
    virtq_drv_enable_calls(vring->drv, true);
    vhu_fe_vring_unlock(vring);
    assert(be_send(p, 0, 0, 3) == 3);
    assert(read(fd, &n, sizeof n) == sizeof n);
    assert(fe_recv(p, 0, numbers, 3) == 3);
}

static void
test_mtu(struct pair *p)
{
    vhu_frontend_set_mtu(p->fe, 9000);
    up(p);
    printf("%"PRIu16"\n", vhu_frontend_get_info(p->fe)->mtu);
    vhu_frontend_set_mtu(p->fe, 9001);
    turn(p);
    printf("%s\n", vhu_frontend_get_mtu_error(p->fe));
    exchange(p, 0, 7);
}

static void
test_device(struct pair *p)
{
    static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 7 };

    up(p);
    exchange(p, 0, 70);
    assert(!vhu_frontend_reset_device(p->fe));
    turn(p);
    up(p);
    exchange(p, 0, 70);

    assert(!vhu_frontend_announce(p->fe, mac));
    assert(!vhu_frontend_read_status(p->fe));
    turn(p);
    printf("status 0x%02x\n", vhu_frontend_get_info(p->fe)->status);
    assert(vhu_frontend_read_config(p->fe) == EOPNOTSUPP);
}

/* A virtqueue that the back-end breaks ends the connection; the next one is
 * fine. */
static void
test_broken(struct pair *p)
{
    struct vhu_fe_vring *vring = vhu_frontend_get_vring(p->fe, 1);
    const struct vhu_shm *shm;
    struct virtq_drv_areas areas;
    uint32_t numbers[VIRTQ_MAX_BURST];
    uint8_t *used;

    up(p);
    exchange(p, 0, 70);
    shm = vhu_frontend_get_shm(p->fe);
    virtq_drv_get_areas(vring->drv, &areas);
    assert(fe_send(p, 0, 0, 5) == 5);
    if (vhu_frontend_get_info(p->fe)->features
        & VIRTIO_BIT(VIRTIO_F_RING_PACKED)) {
        struct pvirtq_desc *desc;
        struct virtq_drv_state state;

        virtq_drv_get_state(vring->drv, &state);
        used = shm->va + (areas.desc_gpa - shm->guest_addr);
        desc = (struct pvirtq_desc *) (void *) used + state.used.idx;
        desc->id = virtio_cpu_to_le16(999);
        desc->flags = virtio_cpu_to_le16(state.used.wrap
                                         ? (VIRTQ_DESC_F_AVAIL
                                            | VIRTQ_DESC_F_USED)
                                         : 0);
    } else {
        used = shm->va + (areas.device_gpa - shm->guest_addr);
        used[2] += 100;
    }
    fe_send(p, 0, 5, 64);
    vhu_frontend_kick_control(p->fe);
    vhu_frontend_run(p->fe);
    printf("%s\n", vhu_frontend_get_reason(p->fe));
    assert(!vhu_frontend_is_up(p->fe) && !fe_send(p, 0, 0, 1));

    join(p);
    turn(p);
    up(p);
    while (be_recv(p, 0, numbers, VIRTQ_MAX_BURST)) {
        continue;
    }
    exchange(p, 0, 70);
}

/* A thread sends and receives while the device comes and goes. */

static atomic_bool stop_pmd;

static void *
pmd_main(void *p_)
{
    struct pair *p = p_;
    bool stop;

    do {
        for (unsigned int i = 0; i < 2; i++) {
            uint32_t numbers[VIRTQ_MAX_BURST];
            struct virtq_drv *vq = ovsrcu_get(
                struct virtq_drv *,
                &vhu_frontend_get_vring(p->fe, vhu_receiveq_vring(i))->vq);

            /* While a ring is made anew the answer may be wrong, which does no
             * harm, but TSan cannot know that. */
            if (vq && (VIRTIO_TSAN || virtq_drv_has_used(vq))) {
                fe_recv(p, i, numbers, 32);
            }
            fe_send(p, i, 0, 32);
            be_recv(p, i, numbers, 32);
            be_send(p, i, 0, 32);
        }
        ovsrcu_quiesce();
        atomic_read_relaxed(&stop_pmd, &stop);
    } while (!stop);
    return NULL;
}

static void
test_race(struct pair *p)
{
    pthread_t thread;

    atomic_store_relaxed(&stop_pmd, false);
    up(p);
    thread = ovs_thread_create("pmd", pmd_main, p);
    for (int i = 0; i < 50; i++) {
        switch (i % 5) {
        case 0:
            vhu_frontend_stop(p->fe);
            turn(p);
            break;
        case 1:
            vhu_frontend_reset_vring(p->fe, i / 5 % 4);
            break;
        case 2:
            vhu_frontend_enable(p->fe, 1, false);
            turn(p);
            vhu_frontend_enable(p->fe, 1, true);
            break;
        case 3:
            join(p);
            break;
        case 4:
            vhu_frontend_reset_device(p->fe);
            break;
        }
        turn(p);
        up(p);
    }
    atomic_store_relaxed(&stop_pmd, true);
    xpthread_join(thread, NULL);
}

/* The largest device. */
static void
test_many(struct pair *p)
{
    for (int i = 0; i < 100 && !vhu_frontend_is_up(p->fe); i++) {
        vhu_frontend_start(p->fe);
        turn(p);
    }
    up(p);
    exchange(p, 0, 70);
    exchange(p, 127, 70);
    printf("%u pairs\n", vhu_frontend_get_info(p->fe)->n_pairs);
}

static const struct {
    const char *name;
    void (*run)(struct pair *);
    unsigned int n_pairs;
} tests[] = {
    { "start", test_start, 4 },
    { "stop", test_stop, 1 },
    { "reset-vring", test_reset_vring, 3 },
    { "reconnect", test_reconnect, 2 },
    { "enable", test_enable, 2 },
    { "call", test_call, 1 },
    { "mtu", test_mtu, 1 },
    { "device", test_device, 1 },
    { "broken", test_broken, 1 },
    { "race", test_race, 2 },
    { "many", test_many, 128 },
};

static void
test_vhu_frontend_pair_main(int argc, char *argv[])
{
    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc == 2 && !strcmp(argv[1], tests[i].name)) {
            for (int packed = 0; packed < 2; packed++) {
                struct pair p;

                init(&p, tests[i].n_pairs, packed);
                tests[i].run(&p);
                uninit(&p);
            }
            return;
        }
    }
    ovs_fatal(0, "no such test");
}

VHUTEST_REGISTER("frontend-pair", test_vhu_frontend_pair_main);
