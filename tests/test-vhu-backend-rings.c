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

#include "vhu-backend.h"

#undef NDEBUG

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fe-script.h"
#include "ovs-rcu.h"
#include "timeval.h"
#include "util.h"
#include "vhu-peer.h"
#include "virtio-barrier.h"

/* The back-end: states of vrings, and the memory that they are in. */

/* Sends the 'i'th of the messages that make vring 0 run. */
static void
send_step(struct fe *fe, int i, int round)
{
    switch (i) {
    case 0:
        fe_do_state(fe, VHOST_USER_SET_VRING_NUM, 0,
                    round ? 2 * RING_SIZE : RING_SIZE);
        break;
    case 1:
        fe_do_state(fe, VHOST_USER_SET_VRING_BASE, 0, 7 * round);
        break;
    case 2:
        fe_do_addr(fe, 0);
        break;
    case 3:
        fe_do_fd(fe, VHOST_USER_SET_VRING_CALL, 0, fe->call[0]);
        break;
    case 4:
        fe_do_fd(fe, VHOST_USER_SET_VRING_KICK, 0, fe->kick[0]);
        break;
    case 5:
        fe_enable(fe, 0, true);
        break;
    }
}

/* Makes 'p' the next permutation.  Returns false after the last one. */
static bool
next_permutation(int p[], int n)
{
    int i = n - 1, j = n - 1;

    while (i > 0 && p[i - 1] > p[i]) {
        i--;
    }
    if (!i) {
        return false;
    }
    while (p[j] < p[i - 1]) {
        j--;
    }
    int tmp = p[j];
    p[j] = p[i - 1];
    p[i - 1] = tmp;
    for (j = n - 1; i < j; i++, j--) {
        tmp = p[j];
        p[j] = p[i];
        p[i] = tmp;
    }
    return true;
}

/* M-17, M-18: all orders end in the same state, which does not depend on the
 * call descriptor.  The kick may be there from the beginning, as with QEMU. */
static void
test_order(struct fe *fe)
{
    int p[6] = { 0, 1, 2, 3, 4, 5 };
    int n = 0;

    do {
        guest_reset_ring(fe, 0);
        guest_kick(fe, 0);
        fe_reconnect(fe);
        fe_negotiate(fe, FEATURES);
        fe_do_mem_table(fe);
        for (int i = 0, sent = 0; i < 6; i++) {
            send_step(fe, p[i], 0);
            sent |= 1 << p[i];
            assert(fe->dev->vrings[0]->published == ((sent | 8) == 0x3f));
        }
        guest_add(fe, 0, 7);
        assert(poll_vring(fe->dev->vrings[0], true) == 7);
        assert(guest_was_called(fe, 0));
        assert(fe_get_base(fe, 0) == 7);

        /* Once more; here the size is known and may only be repeated. */
        fe_do_state(fe, VHOST_USER_SET_VRING_NUM, 0, 2 * RING_SIZE);
        for (int i = 0; i < 6; i++) {
            send_step(fe, p[i], 1);
        }
        assert(fe->dev->vrings[0]->published);
        assert(fe_get_base(fe, 0) == 7);
        n++;
    } while (next_permutation(p, 6));
    printf("%d orders\n", n);
}

/* a front-end that never sends a base: the first kick starts the
 * vring. */
static void
test_kick_start(struct fe *fe)
{
    fe_negotiate(fe, FEATURES);
    fe_do_mem_table(fe);
    fe_do_state(fe, VHOST_USER_SET_VRING_NUM, 1, RING_SIZE);
    fe_do_addr(fe, 1);
    fe_do_fd(fe, VHOST_USER_SET_VRING_KICK, 1, fe->kick[1]);
    fe_loop(fe, 150);
    printf("%s\n", vring_state(fe, 1));
    guest_kick(fe, 1);
    fe_loop(fe, 150);
    printf("%s\n", vring_state(fe, 1));
}

/* Q-01, "Ring states": started or not, enabled or not, for both directions. */
static void
test_states(struct fe *fe)
{
    for (int dir = 0; dir < 2; dir++) {
        struct vhu_vring *vring = fe->dev->vrings[dir];

        for (int state = 0; state < 4; state++) {
            bool started = state & 1;
            bool enabled = state & 2;
            size_t n;

            guest_reset_ring(fe, dir);
            fe_reconnect(fe);
            fe_negotiate(fe, FEATURES);
            fe_do_mem_table(fe);
            if (started) {
                fe_start(fe, dir, 0);
            }
            fe_enable(fe, dir, enabled);
            guest_add(fe, dir, 5);
            guest_kick(fe, dir);
            n = poll_vring(vring, true);
            fe_loop(fe, started && !enabled ? 150 : 30);
            printf("%s %s %s: data path %"PRIuSIZE", used %d, discarded %d\n",
                   dir ? "transmitq" : "receiveq",
                   started ? "started" : "stopped",
                   enabled ? "enabled" : "disabled",
                   n, guest_used_idx(fe, dir), (int) vring->discarded);
        }
    }

    /* The front-end enables the vring only after it has started it. */
    guest_reset_ring(fe, 1);
    fe_reconnect(fe);
    fe_negotiate(fe, FEATURES);
    fe_do_mem_table(fe);
    guest_add(fe, 1, 5);
    fe_start(fe, 1, 0);
    guest_kick(fe, 1);
    fe_loop(fe, 20);
    fe_enable(fe, 1, true);
    printf("transmitq enabled late: data path %"PRIuSIZE"\n",
           poll_vring(fe->dev->vrings[1], true));
}

/* what is transmitted on a started but disabled vring is thrown away,
 * the guest is asked to kick and told that the buffers are used. */
static void
test_discard(struct fe *fe)
{
    struct vhu_vring *vring = fe->dev->vrings[1];

    fe_up(fe);
    guest_add(fe, 1, 3);
    assert(poll_vring(vring, true) == 3);
    fe_enable(fe, 1, false);
    fe_loop(fe, 20);
    assert(!(*guest_u16(fe, 1, USED_OFS) & VIRTQ_USED_F_NO_NOTIFY));
    guest_was_called(fe, 1);
    for (int i = 1; i <= 20; i++) {
        guest_add(fe, 1, RING_SIZE);
        guest_kick(fe, 1);
        fe_loop(fe, 25);
        assert(guest_used_idx(fe, 1) == 3 + RING_SIZE * i);
        assert(guest_was_called(fe, 1));
    }

    /* Back to the data path, at the right place. */
    fe_enable(fe, 1, true);
    assert(*guest_u16(fe, 1, USED_OFS) & VIRTQ_USED_F_NO_NOTIFY);
    guest_add(fe, 1, 2);
    guest_kick(fe, 1);
    fe_loop(fe, 20);
    assert(guest_used_idx(fe, 1) == (uint16_t) (fe->avail_idx[1] - 2));
    assert(poll_vring(vring, true) == 2);

    /* Without kicks. */
    fe_do_fd(fe, VHOST_USER_SET_VRING_KICK, 1 | VHOST_USER_VRING_NOFD, -1);
    fe_enable(fe, 1, false);
    fe_loop(fe, 20);
    guest_add(fe, 1, 4);
    fe_loop(fe, 30);
    assert(guest_used_idx(fe, 1) == fe->avail_idx[1]);
    printf("discarded %"PRIu64"\n", vring->discarded);
}

/* when all vrings are stopped, nothing is written, nobody is notified,
 * and nothing is said; but who asks is answered. */
static void
test_suspended(struct fe *fe)
{
    uint8_t *before;
    int channel[2];
    char byte;

    assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, channel));
    fe_up(fe);
    fe_do(fe, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &channel[1], 1);
    for (int i = 0; i < 4; i++) {
        guest_add(fe, i, 5);
        assert(poll_vring(fe->dev->vrings[i], true) == 5);
        assert(fe_get_base(fe, i) == 5);
        guest_was_called(fe, i);
        guest_add(fe, i, 5);
        guest_kick(fe, i);
    }

    before = xmemdup(fe->mem, MEM_SIZE);
    for (int i = 0; i < 4; i++) {
        assert(!poll_vring(fe->dev->vrings[i], true));
    }
    fe_loop(fe, 150);
    assert(!memcmp(fe->mem, before, MEM_SIZE));
    for (int i = 0; i < 4; i++) {
        assert(!guest_was_called(fe, i));
    }
    assert(recv(fe->sock, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    assert(recv(channel[0], &byte, 1, 0) == -1 && errno == EAGAIN);
    assert(fe_get_u64(fe, VHOST_USER_GET_FEATURES) == VHU_BACKEND_FEATURES);
    assert(fe_get_base(fe, 0) == 5);
    free(before);
    close(channel[0]);
    close(channel[1]);
}

/* HZ-06: 128 disabled transmitqs share one ring, in which each available chain
 * is as long as can be.  What is discarded at once is limited in descriptors,
 * for the whole device. */
static void
test_discard_long(struct fe *fe)
{
    enum { SIZE = 32768, AVAIL = 0x80000, USED = 0x100000, BUF = 0x200000 };
    struct virtq_desc *desc = ALIGNED_CAST(struct virtq_desc *, fe->mem);
    struct virtq_avail *avail = ALIGNED_CAST(struct virtq_avail *,
                                             &fe->mem[AVAIL]);
    uint64_t n_before = 0;

    for (int i = 0; i < SIZE; i++) {
        desc[i].addr = virtio_cpu_to_le64(GPA + BUF);
        desc[i].len = virtio_cpu_to_le32(1);
        desc[i].flags = virtio_cpu_to_le16(i < SIZE - 1
                                           ? VIRTQ_DESC_F_NEXT : 0);
        desc[i].next = virtio_cpu_to_le16(i + 1);
        avail->ring[i] = virtio_cpu_to_le16(0);
    }
    fe_negotiate(fe, FEATURES);
    fe_do_mem_table(fe);
    for (int i = 1; i < 256; i += 2) {
        struct vhost_user_vring_addr addr = { .index = i, .desc = UVA,
            .avail = UVA + AVAIL, .used = UVA + USED };

        fe_do_state(fe, VHOST_USER_SET_VRING_NUM, i, SIZE);
        fe_do_state(fe, VHOST_USER_SET_VRING_BASE, i, 0);
        fe_do(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof addr, NULL, 0);
        fe_do_fd(fe, VHOST_USER_SET_VRING_KICK, i, fe->kick[i]);
    }
    virtio_store_release_le16(&avail->idx, SIZE);
    /* Discarding begins a while after the start. */
    for (int i = 0; i < 10 || (!n_before && i < 1000); i++) {
        uint64_t n = 0;

        vhu_backend_run(fe->backend);
        for (int j = 1; j < 256; j += 2) {
            n += fe->dev->vrings[j]->discarded;
        }
        /* A chain is more than a burst may have. */
        assert(n - n_before <= 32);
        n_before = n;
        usleep(10000);
    }
    assert(n_before > 0);
    printf("ok\n");
}

/* T-07: a table that is bad half-way changes nothing. */
static void
test_mem_fault(struct fe *fe)
{
    struct vhost_user_mem_table table = mem_table();
    struct vhu_mem *mem;
    int fds[8];

    fe_up(fe);
    mem = fe->dev->mem;
    ovsrcu_barrier();
    table.n_regions = 8;
    for (int i = 0; i < 8; i++) {
        table.regions[i] = table.regions[0];
        table.regions[i].guest_addr += i * UINT64_C(0x100000000);
        table.regions[i].user_addr += i * UINT64_C(0x100000000);
    }
    for (int bad = 0; bad < 8; bad++) {
        int n_maps = count_maps();
        int n_fds = count_fds();

        for (int i = 0; i < 8; i++) {
            fds[i] = i == bad ? fe->call[0] : fe->memfd;
        }
        assert(fe_ask(fe, VHOST_USER_SET_MEM_TABLE, &table,
                      MEM_TABLE_SIZE(8), fds, 8) == 1);
        assert(fe->dev->mem == mem && vhu_backend_is_up(fe->backend));
        assert(count_maps() == n_maps && count_fds() == n_fds);
        guest_add(fe, 0, 1);
        assert(poll_vring(fe->dev->vrings[0], true) == 1);
    }
    printf("ok\n");
}

/* A guest that works on a copy of the memory that we see. */
static void
test_not_shared(struct fe *fe)
{
    /* QEMU kicks once by itself; an idle guest stays at that. */
    fe_up(fe);
    for (int i = 0; i < 4; i++) {
        guest_kick(fe, i);
    }
    fe_loop(fe, 2500);
    assert(vhu_backend_is_up(fe->backend));

    /* The guest's driver goes on kicking. */
    guest_kick(fe, 0);
    fe_loop(fe, 500);
    assert(vhu_backend_is_up(fe->backend));
    fe_loop(fe, 1500);
    printf("%s\n", vhu_backend_get_reason(fe->backend));

    /* It was just slow. */
    guest_add(fe, 0, 1);
    fe_loop(fe, 2500);
    assert(vhu_backend_is_up(fe->backend));

    /* A healthy guest that kicks all the time. */
    fe_reconnect(fe);
    for (int i = 0; i < 4; i++) {
        guest_reset_ring(fe, i);
    }
    fe_up(fe);
    for (int i = 0; i < 20; i++) {
        guest_add(fe, 1, 1);
        guest_kick(fe, 1);
        poll_vring(fe->dev->vrings[1], true);
        fe_loop(fe, 110);
        assert(vhu_backend_is_up(fe->backend));
    }
}

const struct fe_test backend_ring_tests[] = {
    { "order", test_order, 1 },
    { "kick-start", test_kick_start, 1 },
    { "states", test_states, 1 },
    { "discard", test_discard, 1 },
    { "suspended", test_suspended, 2 },
    { "discard-long", test_discard_long, 128 },
    { "mem-fault", test_mem_fault, 2 },
    { "not-shared", test_not_shared, 2 },
    { NULL, NULL, 0 },
};
