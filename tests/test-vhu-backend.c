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
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fe-script.h"
#include "openvswitch/vlog.h"
#include "ovs-rcu.h"
#include "util.h"
#include "vhu-conn.h"
#include "vhu-mem.h"
#include "vhu-peer.h"
#include "vhutest.h"

/* The back-end: one request each.  The other tests of the back-end are in
 * test-vhu-backend-rings.c and test-vhu-backend-load.c. */

#define BACKEND_PF(NAME) VIRTIO_BIT(VHOST_USER_PROTOCOL_F_##NAME)

/* Tests. */

static void
test_get_features(struct fe *fe)
{
    uint64_t x = 0;

    printf("features 0x%"PRIx64"\n",
           fe_get_u64(fe, VHOST_USER_GET_FEATURES));

    /* An acknowledgement is not due, even if it was asked for. */
    fe_negotiate(fe, FEATURES);
    fe_send(fe, VHOST_USER_GET_FEATURES, VHOST_USER_FLAG_NEED_REPLY,
            NULL, 0, NULL, 0);
    fe_turn(fe);
    assert(fe_recv(fe, VHOST_USER_GET_FEATURES, &x, 8) == 8);
    assert(fe_recv(fe, VHOST_USER_GET_FEATURES, &x, 8) == NO_REPLY);

    /* A bad one cannot be answered. */
    fe_send(fe, VHOST_USER_GET_FEATURES, VHOST_USER_FLAG_NEED_REPLY,
            &x, 8, NULL, 0);
    fe_turn(fe);
    assert(fe_recv(fe, VHOST_USER_GET_FEATURES, &x, 8) == CLOSED);
    printf("%s\n", vhu_backend_get_reason(fe->backend));
}

static void
test_set_features(struct fe *fe)
{
    fe_negotiate(fe, FEATURES);
    fe_do_mem_table(fe);

    for (int i = 0; i < 64; i++) {
        uint64_t bit = VIRTIO_BIT(i);

        assert(fe_ask_u64(fe, VHOST_USER_SET_FEATURES, FEATURES | bit)
               == !(VHU_BACKEND_FEATURES & bit));
    }
    check_bad_u64(fe, "not offered", VHOST_USER_SET_FEATURES,
                  VIRTIO_BIT(VIRTIO_F_ACCESS_PLATFORM));

    /* M-15: only the same again while a vring is running. */
    fe_start(fe, 1, 0);
    fe_do_u64(fe, VHOST_USER_SET_FEATURES, FEATURES);
    check_bad_u64(fe, "while running", VHOST_USER_SET_FEATURES,
                  FEATURES & ~VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF));

    /* M-16: other features after a stop. */
    fe_start(fe, 1, 0);
    fe_get_base(fe, 1);
    fe_do_u64(fe, VHOST_USER_SET_FEATURES,
              FEATURES & ~VIRTIO_BIT(VIRTIO_NET_F_MQ));

    /* without protocol features all vrings are enabled. */
    assert(!fe->dev->vrings[3]->enabled);
    fe_do_u64(fe, VHOST_USER_SET_FEATURES,
              FEATURES & ~VIRTIO_BIT(VHOST_USER_F_PROTOCOL_FEATURES));
    for (int i = 0; i < 4; i++) {
        assert(fe->dev->vrings[i]->enabled);
    }
}

/* neither changes anything. */
static void
test_owner(struct fe *fe)
{
    fe_up(fe);
    fe_do(fe, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0);
    fe_do(fe, VHOST_USER_RESET_OWNER, NULL, 0, NULL, 0);
    assert(vhu_backend_is_up(fe->backend));
}

static void
test_set_mem_table(struct fe *fe)
{
    struct vhost_user_mem_table table = mem_table();
    int fds[8];

    for (int i = 0; i < 8; i++) {
        fds[i] = fe->memfd;
    }
    fe_negotiate(fe, FEATURES);
    printf("%s\n", vhu_backend_get_reason(fe->backend));
    fe_do_mem_table(fe);
    printf("%s\n", vhu_backend_get_reason(fe->backend));

    check_bad(fe, "no descriptor", VHOST_USER_SET_MEM_TABLE, &table,
              MEM_TABLE_SIZE(1), NULL, 0);
    check_bad(fe, "two descriptors", VHOST_USER_SET_MEM_TABLE, &table,
              MEM_TABLE_SIZE(1), fds, 2);
    check_bad(fe, "short", VHOST_USER_SET_MEM_TABLE, &table,
              MEM_TABLE_SIZE(1) - 1, fds, 1);
    table.n_regions = 0;
    check_bad(fe, "no region", VHOST_USER_SET_MEM_TABLE, &table,
              MEM_TABLE_SIZE(0), NULL, 0);
    table.n_regions = 9;
    check_bad(fe, "9 regions", VHOST_USER_SET_MEM_TABLE, &table,
              MEM_TABLE_SIZE(8), fds, 8);
    table.n_regions = UINT32_MAX;
    check_bad(fe, "many regions", VHOST_USER_SET_MEM_TABLE, &table,
              MEM_TABLE_SIZE(1), fds, 1);

    /* Without memory a vring does not start, with it it does. */
    fe_reconnect(fe);
    fe_negotiate(fe, FEATURES);
    fe_start(fe, 0, 0);
    printf("%s\n", vring_state(fe, 0));
    fe_do_mem_table(fe);
    printf("%s\n", vring_state(fe, 0));

    /* Not shared at all. */
    table = mem_table();
    fe_reconnect(fe);
    fe_negotiate(fe, FEATURES);
    assert(fe_ask(fe, VHOST_USER_SET_MEM_TABLE, &table, MEM_TABLE_SIZE(1),
                  NULL, 0) == 1);
    printf("%s\n", vhu_backend_get_reason(fe->backend));
}

/* P-11: it is accepted, closed, and never written to. */
static void
test_set_log_fd(struct fe *fe)
{
    int n_open;

    fe_negotiate(fe, FEATURES);
    n_open = count_fds();
    fe_do(fe, VHOST_USER_SET_LOG_FD, NULL, 0, fe->call, 1);
    assert(count_fds() == n_open);
}

static void
test_set_vring_num(struct fe *fe)
{
    static const uint32_t bad[] = { 0, 3, 255, 65536, 32769, UINT32_MAX };

    fe_negotiate(fe, FEATURES);
    fe_do_mem_table(fe);
    for (int i = 0; i <= 15; i++) {
        fe_do_state(fe, VHOST_USER_SET_VRING_NUM, 3, 1 << i);
        assert(fe->dev->vrings[3]->size == 1 << i);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        check_bad_state(fe, "bad size", VHOST_USER_SET_VRING_NUM, 3, bad[i]);
    }
    check_bad_indices(fe, VHOST_USER_SET_VRING_NUM, 16);

    fe_start(fe, 0, 0);
    fe_do_state(fe, VHOST_USER_SET_VRING_NUM, 0, RING_SIZE);
    check_bad_state(fe, "while running", VHOST_USER_SET_VRING_NUM, 0, 32);
}

/* An area that is outside memory, or not aligned. */
static void
test_bad_addr(struct fe *fe)
{
    const struct {
        const char *what;
        size_t field;
        uint64_t uva;
    } bad[] = {
#define FIELD(NAME) offsetof(struct vhost_user_vring_addr, NAME)
        { "desc below", FIELD(desc), UVA - 16 },
        { "desc one past", FIELD(desc), UVA + MEM_SIZE - 15 * 16 },
        { "desc alignment", FIELD(desc), UVA + 8 },
        { "desc wraps", FIELD(desc), UINT64_MAX - 15 },
        { "avail one past", FIELD(avail),
          UVA + MEM_SIZE - (6 + 2 * RING_SIZE) + 2 },
        { "avail alignment", FIELD(avail), UVA + 1 },
        { "used one past", FIELD(used),
          UVA + MEM_SIZE - (6 + 8 * RING_SIZE) + 2 },
        { "used alignment", FIELD(used), UVA + 2 },
        { "used null", FIELD(used), 0 },
    };
    struct vhost_user_vring_addr addr;

    fe_negotiate(fe, FEATURES);
    fe_do_mem_table(fe);
    fe_do_state(fe, VHOST_USER_SET_VRING_NUM, 1, RING_SIZE);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        fe_do_state(fe, VHOST_USER_SET_VRING_NUM, 1, RING_SIZE);
        addr = vring_addr(1);
        memcpy((uint8_t *) &addr + bad[i].field, &bad[i].uva, 8);
        check_bad(fe, bad[i].what, VHOST_USER_SET_VRING_ADDR, &addr,
                  sizeof addr, NULL, 0);
    }
}

/* Each area may end where memory does. */
static void
test_addr_at_end(struct fe *fe)
{
    struct vhost_user_vring_addr addr = vring_addr(1);

    fe_do_state(fe, VHOST_USER_SET_VRING_NUM, 1, RING_SIZE);
    addr.desc = UVA + MEM_SIZE - 16 * RING_SIZE;
    fe_do(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof addr, NULL, 0);
    addr.avail = UVA + MEM_SIZE - (6 + 2 * RING_SIZE);
    fe_do(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof addr, NULL, 0);
    addr.used = UVA + MEM_SIZE - (8 + 8 * RING_SIZE);
    fe_do(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof addr, NULL, 0);
}

static void
test_set_vring_addr(struct fe *fe)
{
    struct vhost_user_mem_table table = mem_table();
    struct vhost_user_vring_addr addr;

    test_bad_addr(fe);
    test_addr_at_end(fe);

    addr = vring_addr(1);
    addr.flags = VHOST_VRING_F_LOG << 1;
    check_bad(fe, "flag", VHOST_USER_SET_VRING_ADDR, &addr, sizeof addr,
              NULL, 0);
    addr = vring_addr(1);
    addr.index = 4;
    check_bad(fe, "bad index", VHOST_USER_SET_VRING_ADDR, &addr, sizeof addr,
              NULL, 0);
    addr.index = 0x10000;
    check_bad(fe, "bad index", VHOST_USER_SET_VRING_ADDR, &addr, sizeof addr,
              NULL, 0);

    /* M-14: before the memory table they are kept, and checked when it
     * comes. */
    fe_reconnect(fe);
    fe_negotiate(fe, FEATURES);
    fe_start(fe, 0, 0);
    addr = vring_addr(1);
    addr.used = UVA + MEM_SIZE;
    fe_do_state(fe, VHOST_USER_SET_VRING_NUM, 1, RING_SIZE);
    fe_do_state(fe, VHOST_USER_SET_VRING_BASE, 1, 0);
    fe_do(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof addr, NULL, 0);
    fe_do_fd(fe, VHOST_USER_SET_VRING_KICK, 1, fe->kick[1]);
    assert(fe_ask(fe, VHOST_USER_SET_MEM_TABLE, &table, MEM_TABLE_SIZE(1),
                  &fe->memfd, 1) == 1);
    printf("%s, %s\n", vring_state(fe, 0), vring_state(fe, 1));
    printf("%s\n", vhu_backend_get_reason(fe->backend));

    /* on a running vring they move it. */
    fe_do_addr(fe, 1);
    printf("%s\n", vring_state(fe, 1));
    guest_add(fe, 1, 3);
    fe_enable(fe, 1, true);
    assert(poll_vring(fe->dev->vrings[1], true) == 3);
    memcpy(fe->mem + 5 * SLOT, fe->mem + SLOT, SLOT);
    addr = vring_addr(5);
    addr.index = 1;
    fe_do(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof addr, NULL, 0);
    assert(!poll_vring(fe->dev->vrings[1], true));
    fe->avail_idx[5] = fe->avail_idx[1];
    guest_add(fe, 5, 2);
    assert(poll_vring(fe->dev->vrings[1], true) == 2);
    assert(guest_used_idx(fe, 5) == 5 && guest_used_idx(fe, 1) == 3);
}

static void
test_set_vring_base(struct fe *fe)
{
    static const uint32_t bases[] = { 0, 1, 0x7fff, 0x8000, 0xffff };

    fe_negotiate(fe, FEATURES);
    fe_do_mem_table(fe);
    for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
        fe_do_state(fe, VHOST_USER_SET_VRING_BASE, 2, bases[i]);
        assert(fe_get_base(fe, 2) == bases[i]);
    }
    check_bad_state(fe, "17 bits", VHOST_USER_SET_VRING_BASE, 0, 0x10000);
    check_bad_indices(fe, VHOST_USER_SET_VRING_BASE, 0);
    fe_start(fe, 0, 0);
    check_bad_state(fe, "while running", VHOST_USER_SET_VRING_BASE, 0, 1);
}

static void
test_get_vring_base(struct fe *fe)
{
    static const uint32_t indices[] = { 4, 256, 0x10000, UINT32_MAX };
    struct vhost_user_vring_state state = { 0, 0 };

    /* L-11: the next index to take.  M-13: of a vring of which nobody has
     * spoken. */
    for (int i = 0; i < 4; i++) {
        assert(fe_get_base(fe, i) == 0);
    }

    fe_up(fe);
    guest_add(fe, 1, 5);
    assert(poll_vring(fe->dev->vrings[1], true) == 5);

    /* exactly that vring stops, and nothing happens there any more. */
    assert(fe_get_base(fe, 1) == 5);
    printf("%s, %s\n", vring_state(fe, 0), vring_state(fe, 1));
    guest_was_called(fe, 1);
    guest_add(fe, 1, 5);
    guest_kick(fe, 1);
    fe_loop(fe, 30);
    assert(!poll_vring(fe->dev->vrings[1], true));
    assert(guest_used_idx(fe, 1) == 5 && !guest_was_called(fe, 1));

    /* again, the same, and what must come again. */
    assert(fe_get_base(fe, 1) == 5);
    fe_do_fd(fe, VHOST_USER_SET_VRING_KICK, 1, fe->kick[1]);
    printf("%s\n", vring_state(fe, 1));
    fe_do_addr(fe, 1);
    fe_do_state(fe, VHOST_USER_SET_VRING_BASE, 1, 5);
    printf("%s\n", vring_state(fe, 1));
    assert(poll_vring(fe->dev->vrings[1], true) == 5);
    assert(fe_get_base(fe, 1) == 10);

    for (size_t i = 0; i < ARRAY_SIZE(indices); i++) {
        state.index = indices[i];
        fe_send(fe, VHOST_USER_GET_VRING_BASE, VHOST_USER_FLAG_NEED_REPLY,
                &state, sizeof state, NULL, 0);
        fe_turn(fe);
        assert(fe_recv(fe, VHOST_USER_GET_VRING_BASE, &state, sizeof state)
               == CLOSED);
        printf("%s\n", vhu_backend_get_reason(fe->backend));
        fe_reconnect(fe);
        fe_negotiate(fe, FEATURES);
    }
}

/* What SET_VRING_KICK, SET_VRING_CALL and SET_VRING_ERR have in common. */
static void
test_vring_fd(struct fe *fe, uint32_t request)
{
    int pipe_fds[2];
    uint64_t x = 1;

    assert(!pipe(pipe_fds));
    fe_negotiate(fe, FEATURES);
    fe_do_mem_table(fe);
    fe_do_fd(fe, request, 3, fe->call[0]);
    fe_do_fd(fe, request, 3 | VHOST_USER_VRING_NOFD, -1);
    check_bad(fe, "no descriptor", request, &x, sizeof x, NULL, 0);
    check_bad(fe, "two descriptors", request, &x, sizeof x, fe->call, 2);
    check_bad(fe, "pipe", request, &x, sizeof x, &pipe_fds[1], 1);
    check_bad(fe, "memory", request, &x, sizeof x, &fe->memfd, 1);
    x = 1 | VHOST_USER_VRING_NOFD;
    check_bad(fe, "stray descriptor", request, &x, sizeof x, fe->call, 1);
    for (int shift = 9; shift < 64; shift += 9) {
        x = 1 | UINT64_C(1) << shift;
        check_bad(fe, "bad index", request, &x, sizeof x, fe->call, 1);
    }
    for (int i = 4; i < 256; i += 251) {
        x = i;
        check_bad(fe, "bad index", request, &x, sizeof x, fe->call, 1);
    }
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void
test_set_vring_kick(struct fe *fe)
{
    test_vring_fd(fe, VHOST_USER_SET_VRING_KICK);

    /* without a descriptor.  Q-11: again with one while it is
     * running. */
    fe_do_state(fe, VHOST_USER_SET_VRING_NUM, 1, RING_SIZE);
    fe_do_state(fe, VHOST_USER_SET_VRING_BASE, 1, 0);
    fe_do_addr(fe, 1);
    printf("%s\n", vring_state(fe, 1));
    fe_do_fd(fe, VHOST_USER_SET_VRING_KICK, 1 | VHOST_USER_VRING_NOFD, -1);
    printf("%s\n", vring_state(fe, 1));
    fe_do_fd(fe, VHOST_USER_SET_VRING_KICK, 1, fe->kick[1]);
    printf("%s\n", vring_state(fe, 1));
}

static void
test_set_vring_call(struct fe *fe)
{
    int other = eventfd(0, EFD_NONBLOCK);
    eventfd_t n;

    test_vring_fd(fe, VHOST_USER_SET_VRING_CALL);

    /* M-17, Q-11: another one on a running vring is a plain swap. */
    fe_up(fe);
    guest_add(fe, 1, 1);
    poll_vring(fe->dev->vrings[1], true);
    assert(guest_was_called(fe, 1));
    fe_do_fd(fe, VHOST_USER_SET_VRING_CALL, 1, other);
    printf("%s\n", vring_state(fe, 1));
    eventfd_read(other, &n);
    guest_add(fe, 1, 1);
    poll_vring(fe->dev->vrings[1], true);
    assert(!guest_was_called(fe, 1) && !eventfd_read(other, &n));
    fe_do_fd(fe, VHOST_USER_SET_VRING_CALL, 1 | VHOST_USER_VRING_NOFD, -1);
    guest_add(fe, 1, 1);
    assert(poll_vring(fe->dev->vrings[1], true) == 1);
    assert(eventfd_read(other, &n));
    close(other);
}

/* A ring that makes no sense is said to be broken, to everybody. */
static void
test_set_vring_err(struct fe *fe)
{
    int err = eventfd(0, EFD_NONBLOCK);
    eventfd_t n;

    test_vring_fd(fe, VHOST_USER_SET_VRING_ERR);
    fe_up(fe);
    fe_do_fd(fe, VHOST_USER_SET_VRING_ERR, 1, err);
    fe->avail_idx[1] += 300;
    guest_add(fe, 1, 1);
    poll_vring(fe->dev->vrings[1], true);
    vhu_dev_kick_control(fe->dev);
    fe_turn(fe);
    printf("%s, %s\n", vring_state(fe, 0), vring_state(fe, 1));
    printf("%s\n", vhu_backend_get_reason(fe->backend));
    assert(!eventfd_read(err, &n));
    printf("status 0x%"PRIx64"\n", fe_get_u64(fe, VHOST_USER_GET_STATUS));

    /* It stays so whatever comes, until it is stopped and started. */
    fe_enable(fe, 1, false);
    fe_enable(fe, 1, true);
    fe_do_addr(fe, 1);
    fe_do_fd(fe, VHOST_USER_SET_VRING_KICK, 1, fe->kick[1]);
    fe_do_mem_table(fe);
    fe_turn(fe);
    printf("%s\n", vring_state(fe, 1));
    assert(!poll_vring(fe->dev->vrings[1], true));
    fe_get_base(fe, 1);
    guest_reset_ring(fe, 1);
    fe_start(fe, 1, 0);
    printf("%s\n", vring_state(fe, 1));
    printf("status 0x%"PRIx64"\n", fe_get_u64(fe, VHOST_USER_GET_STATUS));
    guest_add(fe, 1, 2);
    assert(poll_vring(fe->dev->vrings[1], true) == 2);
    assert(vhu_backend_is_up(fe->backend));
    close(err);
}

static void
test_protocol_features(struct fe *fe)
{
    uint64_t x;

    printf("protocol features 0x%"PRIx64"\n",
           fe_get_u64(fe, VHOST_USER_GET_PROTOCOL_FEATURES));
    fe_negotiate(fe, FEATURES);
    for (int i = 0; i < 64; i++) {
        x = VIRTIO_BIT(i) | BACKEND_PF(REPLY_ACK);
        assert(fe_ask_u64(fe, VHOST_USER_SET_PROTOCOL_FEATURES, x)
               == !(VHU_BACKEND_PROTOCOL_FEATURES & VIRTIO_BIT(i)));
    }
    fe_reconnect(fe);
    fe_negotiate(fe, FEATURES);
    check_bad_u64(fe, "config", VHOST_USER_SET_PROTOCOL_FEATURES,
                  VHU_BACKEND_PROTOCOL_FEATURES | BACKEND_PF(CONFIG));

    /* Without REPLY_ACK nobody is answered. */
    x = 0;
    fe_reconnect(fe);
    fe_send(fe, VHOST_USER_SET_FEATURES, VHOST_USER_FLAG_NEED_REPLY, &x, 8,
            NULL, 0);
    fe_turn(fe);
    assert(fe_recv(fe, VHOST_USER_SET_FEATURES, &x, 8) == NO_REPLY);
}

static void
test_get_queue_num(struct fe *fe)
{
    uint64_t x;

    fe_send(fe, VHOST_USER_GET_QUEUE_NUM, 0, NULL, 0, NULL, 0);
    fe_turn(fe);
    assert(fe_recv(fe, VHOST_USER_GET_QUEUE_NUM, &x, 8) == CLOSED);
    printf("%s\n", vhu_backend_get_reason(fe->backend));
    fe_reconnect(fe);
    fe_negotiate(fe, FEATURES);
    printf("%"PRIu64"\n", fe_get_u64(fe, VHOST_USER_GET_QUEUE_NUM));
}

static void
test_set_vring_enable(struct fe *fe)
{
    struct vhost_user_vring_state state = { 2, 1 };

    /* QEMU sends this before everything else, and it counts. */
    fe_send(fe, VHOST_USER_SET_VRING_ENABLE, 0, &state, sizeof state, NULL, 0);
    fe_negotiate(fe, FEATURES);
    fe_do_mem_table(fe);
    for (int i = 0; i < 4; i++) {
        fe_start(fe, i, 0);
        printf("%d: %s\n", i, vring_state(fe, i));
    }
    fe_enable(fe, 2, false);
    printf("2: %s\n", vring_state(fe, 2));
    assert(!ovsrcu_get(struct virtq *, &fe->dev->vrings[2]->vq));
    fe_enable(fe, 2, true);
    printf("2: %s\n", vring_state(fe, 2));
    check_bad_state(fe, "state 2", VHOST_USER_SET_VRING_ENABLE, 0, 2);
    check_bad_indices(fe, VHOST_USER_SET_VRING_ENABLE, 1);
}

static void
test_send_rarp(struct fe *fe)
{
    static const uint8_t mac[8] = { 2, 3, 4, 5, 6, 7, 8, 9 };

    fe_send(fe, VHOST_USER_SEND_RARP, 0, mac, sizeof mac, NULL, 0);
    fe_turn(fe);
    assert(!fe->n_rarps && !vhu_conn_is_connected(
                               vhu_backend_get_conn(fe->backend)));
    fe_reconnect(fe);
    fe_negotiate(fe, FEATURES);
    for (int i = 1; i <= 3; i++) {
        fe_do(fe, VHOST_USER_SEND_RARP, mac, sizeof mac, NULL, 0);
        assert(fe->n_rarps == i && !memcmp(fe->mac, mac, 6));
    }
}

/* any MTU that makes sense, also another one than before. */
static void
test_net_set_mtu(struct fe *fe)
{
    fe_negotiate(fe, FEATURES);
    fe_do_u64(fe, VHOST_USER_NET_SET_MTU, 68);
    fe_do_u64(fe, VHOST_USER_NET_SET_MTU, 65535);
    assert(fe->mtu == 65535 && fe->dev->mtu == 65535);
    check_bad_u64(fe, "small", VHOST_USER_NET_SET_MTU, 67);
    check_bad_u64(fe, "large", VHOST_USER_NET_SET_MTU, 65536);
    check_bad_u64(fe, "huge", VHOST_USER_NET_SET_MTU, UINT64_C(1500) << 32);
    fe->mtu_error = EINVAL;
    check_bad_u64(fe, "refused", VHOST_USER_NET_SET_MTU, 9000);
    assert(fe->mtu == 65535 && fe->dev->mtu == 0);
}

static void
test_set_backend_req_fd(struct fe *fe)
{
    int n_open;

    fe_negotiate(fe, FEATURES);
    n_open = count_fds();
    for (int i = 0; i < 3; i++) {
        fe_do(fe, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, fe->call, 1);
        assert(count_fds() == n_open + 1);
    }
    fe_reconnect(fe);
    assert(count_fds() == n_open);
    fe_negotiate(fe, FEATURES);
    check_bad(fe, "no descriptor", VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0,
              NULL, 0);
}

/* all vrings are stopped and disabled; the connection stays. */
static void
test_reset_device(struct fe *fe)
{
    fe_up(fe);
    fe_do(fe, VHOST_USER_RESET_DEVICE, NULL, 0, NULL, 0);
    for (int i = 0; i < 4; i++) {
        printf("%d: %s\n", i, vring_state(fe, i));
    }
    assert(fe->dev->mem);
    fe_do_u64(fe, VHOST_USER_SET_FEATURES,
              VHU_BACKEND_FEATURES & ~VIRTIO_BIT(VHOST_F_LOG_ALL));
    fe_start(fe, 0, 0);
    fe_start(fe, 1, 0);
    assert(vhu_backend_is_up(fe->backend));
}

static void
test_mem_slots(struct fe *fe)
{
    struct vhost_user_single_mem_region msg[3];
    int n_maps = count_maps();

    memset(msg, 0, sizeof msg);
    for (int i = 0; i < 3; i++) {
        msg[i].region.guest_addr = GPA + i * MEM_SIZE;
        msg[i].region.user_addr = UVA + i * MEM_SIZE;
        msg[i].region.size = MEM_SIZE;
    }
    fe_negotiate(fe, FEATURES);
    printf("%"PRIu64" slots\n",
           fe_get_u64(fe, VHOST_USER_GET_MAX_MEM_SLOTS));

#define REGION(I) &msg[I], sizeof msg[I]
    /* QEMU up to 7.2 does each of it once per queue pair. */
    for (int i = 0; i < 3; i++) {
        fe_do(fe, VHOST_USER_ADD_MEM_REG, REGION(0), &fe->memfd, 1);
        fe_do(fe, VHOST_USER_ADD_MEM_REG, REGION(1), &fe->memfd, 1);
    }
    assert(fe->dev->mem->n_regions == 2);
    fe_start(fe, 0, 0);
    fe_start(fe, 1, 0);
    assert(vhu_backend_is_up(fe->backend));
    for (int i = 0; i < 3; i++) {
        fe_do(fe, VHOST_USER_REM_MEM_REG, REGION(1), NULL, 0);
    }
    fe_do(fe, VHOST_USER_REM_MEM_REG, REGION(1), &fe->memfd, 1);
    assert(fe->dev->mem->n_regions == 1);
    assert(vhu_backend_is_up(fe->backend));

    /* The region of the rings. */
    assert(fe_ask(fe, VHOST_USER_REM_MEM_REG, REGION(0), NULL, 0) == 1);
    printf("%s\n", vring_state(fe, 0));
    printf("%s\n", vhu_backend_get_reason(fe->backend));
    fe_do(fe, VHOST_USER_ADD_MEM_REG, REGION(0), &fe->memfd, 1);
    printf("%s\n", vring_state(fe, 0));
    fe_do(fe, VHOST_USER_REM_MEM_REG, REGION(2), NULL, 0); /* Never there. */
    check_bad(fe, "no descriptor", VHOST_USER_ADD_MEM_REG, REGION(2), NULL, 0);
    msg[2].region.guest_addr -= 4096;
    fe_do(fe, VHOST_USER_ADD_MEM_REG, REGION(1), &fe->memfd, 1);
    check_bad(fe, "overlap", VHOST_USER_ADD_MEM_REG, REGION(2),
              &fe->memfd, 1);
    fe_reconnect(fe);
    ovsrcu_barrier();
    assert(count_maps() == n_maps);
}

static void
test_status(struct fe *fe)
{
    fe_up(fe);
    for (int i = 0; i < 256; i += 15) {
        if (i) {
            fe_do_u64(fe, VHOST_USER_SET_STATUS, i);
            assert(fe_get_u64(fe, VHOST_USER_GET_STATUS) == i);
        }
    }
    assert(vhu_backend_is_up(fe->backend));

    /* a reset of the device. */
    fe_do_u64(fe, VHOST_USER_SET_STATUS, 0);
    printf("%s, %s\n", vring_state(fe, 0), vring_state(fe, 3));
    check_bad_u64(fe, "9 bits", VHOST_USER_SET_STATUS, 256);
}

/* M-01, HZ-28. */
static void
test_unknown(struct fe *fe)
{
    static const uint32_t ids[] = {
        0, 22, 23, 24, 25, 31, 32, 33, 35, 41, 44, 45, 64, 0x7fffffff,
        0x80000000, 0x80000005, UINT32_MAX
    };
    static const uint32_t flags[] = {
        0x4, 0x2, 0x3, 0x10, 0x80000000
    };
    static const uint8_t bytes[300];

    fe_negotiate(fe, FEATURES);
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        check_bad(fe, "unknown", ids[i], bytes, i * 7, fe->call, i % 9);
    }
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
        uint64_t x;

        fe_send(fe, VHOST_USER_GET_FEATURES, flags[i], NULL, 0, NULL, 0);
        fe_turn(fe);
        assert(fe_recv(fe, VHOST_USER_GET_FEATURES, &x, 8) == CLOSED);
        fe_reconnect(fe);
    }
    printf("ok\n");
}

static const struct fe_test message_tests[] = {
    { "get-features", test_get_features, 2 },
    { "set-features", test_set_features, 2 },
    { "owner", test_owner, 2 },
    { "set-mem-table", test_set_mem_table, 2 },
    { "set-log-fd", test_set_log_fd, 2 },
    { "set-vring-num", test_set_vring_num, 2 },
    { "set-vring-addr", test_set_vring_addr, 2 },
    { "set-vring-base", test_set_vring_base, 2 },
    { "get-vring-base", test_get_vring_base, 2 },
    { "set-vring-kick", test_set_vring_kick, 2 },
    { "set-vring-call", test_set_vring_call, 2 },
    { "set-vring-err", test_set_vring_err, 2 },
    { "protocol-features", test_protocol_features, 2 },
    { "get-queue-num", test_get_queue_num, 128 },
    { "set-vring-enable", test_set_vring_enable, 2 },
    { "send-rarp", test_send_rarp, 2 },
    { "net-set-mtu", test_net_set_mtu, 2 },
    { "set-backend-req-fd", test_set_backend_req_fd, 2 },
    { "reset-device", test_reset_device, 2 },
    { "mem-slots", test_mem_slots, 2 },
    { "status", test_status, 2 },
    { "unknown", test_unknown, 2 },
    { NULL, NULL, 0 },
};

static const struct fe_test *
find_test(const char *name)
{
    static const struct fe_test *const arrays[] = {
        message_tests, backend_ring_tests, backend_load_tests,
        backend_log_tests
    };

    for (size_t i = 0; i < ARRAY_SIZE(arrays); i++) {
        for (const struct fe_test *test = arrays[i]; test->name; test++) {
            if (!strcmp(name, test->name)) {
                return test;
            }
        }
    }
    ovs_fatal(0, "%s: no such test", name);
}

static void
test_vhu_backend_main(int argc, char *argv[])
{
    const struct fe_test *test;
    struct fe fe;

    if (argc < 2) {
        ovs_fatal(0, "usage: %s TEST [-v]", argv[0]);
    }
    if (argc < 3) {
        vlog_set_levels(NULL, VLF_CONSOLE, VLL_OFF);
    }
    test = find_test(argv[1]);
    fe_init(&fe, test->n_pairs);
    test->function(&fe);
    fe_uninit(&fe);
    ovsrcu_barrier();
}

VHUTEST_REGISTER("backend", test_vhu_backend_main);
