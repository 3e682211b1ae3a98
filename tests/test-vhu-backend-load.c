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
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fe-script.h"
#include "openvswitch/poll-loop.h"
#include "ovs-atomic.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "timeval.h"
#include "util.h"
#include "vhu-notify.h"
#include "vhu-peer.h"

/* The back-end under load: repetition, floods, threads, and front-ends that
 * vanish. */

/* A front-end that goes away in the middle of something. */

/* A session, as bytes; the descriptors go with the first byte of their
 * message. */
struct session {
    uint8_t bytes[4096];
    size_t n;
    struct {
        size_t ofs;
        int fd;
    } fds[16];
    int n_fds;
};

/* Adds a message to 's', with 'fd' unless that is negative. */
static void
session_put(struct session *s, uint32_t request, const void *payload,
            size_t size, int fd)
{
    struct vhost_user_hdr hdr = {
        request, VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY, size
    };

    assert(s->n + sizeof hdr + size <= sizeof s->bytes);
    if (fd >= 0) {
        assert(s->n_fds < ARRAY_SIZE(s->fds));
        s->fds[s->n_fds].ofs = s->n;
        s->fds[s->n_fds++].fd = fd;
    }
    memcpy(s->bytes + s->n, &hdr, sizeof hdr);
    memcpy(s->bytes + s->n + sizeof hdr, payload, size);
    s->n += sizeof hdr + size;
}

static void
session_init(struct session *s, const struct fe *fe)
{
    struct vhost_user_mem_table table = mem_table();
    uint64_t features = FEATURES;
    uint64_t pf = VHU_BACKEND_PROTOCOL_FEATURES;

    memset(s, 0, sizeof *s);
    session_put(s, VHOST_USER_GET_FEATURES, "", 0, -1);
    session_put(s, VHOST_USER_GET_PROTOCOL_FEATURES, "", 0, -1);
    session_put(s, VHOST_USER_SET_PROTOCOL_FEATURES, &pf, 8, -1);
    session_put(s, VHOST_USER_SET_BACKEND_REQ_FD, "", 0, fe->call[3]);
    session_put(s, VHOST_USER_SET_OWNER, "", 0, -1);
    session_put(s, VHOST_USER_SET_FEATURES, &features, 8, -1);
    session_put(s, VHOST_USER_SET_MEM_TABLE, &table, MEM_TABLE_SIZE(1),
                fe->memfd);
    for (uint64_t i = 0; i < 2; i++) {
        struct vhost_user_vring_state num = { i, RING_SIZE };
        struct vhost_user_vring_state state = { i, 0 };
        struct vhost_user_vring_addr addr = vring_addr(i);

        session_put(s, VHOST_USER_SET_VRING_NUM, &num, 8, -1);
        session_put(s, VHOST_USER_SET_VRING_BASE, &state, 8, -1);
        session_put(s, VHOST_USER_SET_VRING_ADDR, &addr, 40, -1);
        session_put(s, VHOST_USER_SET_VRING_KICK, &i, 8, fe->kick[i]);
        session_put(s, VHOST_USER_SET_VRING_CALL, &i, 8, fe->call[i]);
        session_put(s, VHOST_USER_SET_VRING_ERR, &i, 8, fe->call[i]);
        state.num = 1;
        session_put(s, VHOST_USER_SET_VRING_ENABLE, &state, 8, -1);
    }
    session_put(s, VHOST_USER_GET_STATUS, "", 0, -1);
    for (uint64_t i = 0; i < 2; i++) {
        struct vhost_user_vring_state state = { i, 0 };

        session_put(s, VHOST_USER_GET_VRING_BASE, &state, 8, -1);
    }
}

/* Sends the first 'cut' bytes of 's', in one piece per descriptor. */
static void
session_send(struct session *s, struct fe *fe, size_t cut)
{
    size_t pos = 0;
    int next_fd = 0;

    while (pos < cut) {
        bool has_fd = next_fd < s->n_fds && s->fds[next_fd].ofs == pos;
        int fd = has_fd ? s->fds[next_fd++].fd : -1;
        size_t end = next_fd < s->n_fds ? s->fds[next_fd].ofs : s->n;
        struct iovec iov = { s->bytes + pos, MIN(end, cut) - pos };
        char control[CMSG_SPACE(sizeof(int))]
            __attribute__((aligned(__alignof__(struct cmsghdr))));
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (has_fd) {
            memset(control, 0, sizeof control);
            msg.msg_control = control;
            msg.msg_controllen = sizeof control;
            CMSG_FIRSTHDR(&msg)->cmsg_level = SOL_SOCKET;
            CMSG_FIRSTHDR(&msg)->cmsg_type = SCM_RIGHTS;
            CMSG_FIRSTHDR(&msg)->cmsg_len = CMSG_LEN(sizeof(int));
            memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &fd, sizeof fd);
        }
        assert(sendmsg(fe->sock, &msg, MSG_NOSIGNAL) == iov.iov_len);
        pos += iov.iov_len;
    }
}

/* HZ-14: whatever it was, the vrings stop and nothing is left behind. */
static void
test_cut(struct fe *fe)
{
    struct session session;
    int n_fds, n_maps;

    session_init(&session, fe);
    fe_up(fe);
    fe_reconnect(fe);
    ovsrcu_barrier();
    n_fds = count_fds();
    n_maps = count_maps();
    for (size_t cut = 0; cut <= session.n; cut++) {
        session_send(&session, fe, cut);
        fe_turn(fe);
        fe_disconnect(fe);
        for (int i = 0; i < 4; i++) {
            assert(!fe->dev->vrings[i]->running);
            assert(!fe->dev->vrings[i]->enabled);
        }
        fe_reconnect(fe);
        ovsrcu_barrier();
        assert(count_fds() == n_fds && count_maps() == n_maps);
    }
    printf("%"PRIuSIZE" bytes\n", session.n);
}

/* Repetition. */

/* M-08, M-10: each message that can be repeated, many times. */
static void
test_repeat(struct fe *fe, int times)
{
    struct vhost_user_mem_table table = mem_table();
    uint64_t features = FEATURES;
    int n_fds, n_maps;

    fe_up(fe);
    fe_do(fe, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, fe->call, 1);
    for (int i = 0; i < 2; i++) {
        fe_do_fd(fe, VHOST_USER_SET_VRING_ERR, i, fe->call[i]);
    }
    ovsrcu_barrier();
    n_fds = count_fds();
    n_maps = count_maps();

    for (int i = 0; i < times; i++) {
        struct vhost_user_vring_state num = { 0, RING_SIZE };
        struct vhost_user_vring_state enable = { 1, i & 1 };
        struct vhost_user_vring_state base = { 2, i & 0xffff };
        struct vhost_user_vring_addr addr = vring_addr(i & 1);
        uint64_t x = 1;
        uint64_t good = 1500, bad = 10;
        uint64_t pf = VHU_BACKEND_PROTOCOL_FEATURES;

        fe_send(fe, VHOST_USER_SET_FEATURES, 0, &features, 8, NULL, 0);
        fe_send(fe, VHOST_USER_SET_PROTOCOL_FEATURES, 0, &pf, 8, NULL, 0);
        fe_send(fe, VHOST_USER_SET_VRING_NUM, 0, &num, 8, NULL, 0);
        fe_send(fe, VHOST_USER_SET_VRING_ADDR, 0, &addr, 40, NULL, 0);
        fe_send(fe, VHOST_USER_SET_VRING_KICK, 0, &x, 8, fe->kick, 1);
        fe_send(fe, VHOST_USER_SET_VRING_CALL, 0, &x, 8, fe->call, 1);
        fe_send(fe, VHOST_USER_SET_VRING_ERR, 0, &x, 8, fe->call, 1);
        fe_send(fe, VHOST_USER_SET_VRING_ENABLE, 0, &enable, 8, NULL, 0);
        fe_send(fe, VHOST_USER_SET_BACKEND_REQ_FD, 0, NULL, 0, fe->call, 1);
        fe_send(fe, VHOST_USER_SET_LOG_FD, 0, NULL, 0, fe->call, 1);
        fe_do(fe, VHOST_USER_NET_SET_MTU, &good, 8, NULL, 0);
        if (i % 16 == 0) {
            fe_do(fe, VHOST_USER_SET_MEM_TABLE, &table, MEM_TABLE_SIZE(1),
                  &fe->memfd, 1);
            assert(fe_ask(fe, VHOST_USER_NET_SET_MTU, &bad, 8, NULL, 0));
            fe_get_base(fe, 2);
            fe_do(fe, VHOST_USER_SET_VRING_BASE, &base, 8, NULL, 0);
            fe_start(fe, 2, 0);
        }
    }
    ovsrcu_barrier();
    assert(count_fds() == n_fds);
    assert(count_maps() == n_maps);
    printf("%d times\n", times);
}

/* a front-end that goes and comes back, and a guest that does not
 * notice. */
static void
test_reconnect(struct fe *fe)
{
    for (int i = 0; i < 20; i++) {
        fe_up(fe);
        guest_add(fe, 0, 3);
        guest_add(fe, 1, 3);
        assert(poll_vring(fe->dev->vrings[0], true) == 3);
        assert(poll_vring(fe->dev->vrings[1], true) == 3);
        fe_disconnect(fe);
        assert(!vhu_backend_is_up(fe->backend));
        fe_reconnect(fe);
    }
    printf("%d\n", guest_used_idx(fe, 1));
}

/* Threads. */

struct poller {
    struct fe *fe;
    pthread_t thread;
    atomic_bool exit;
    unsigned long long int n;
};

static void *
poller_main(void *poller_)
{
    struct poller *poller = poller_;
    bool stop = false;

    while (!stop) {
        for (int i = 0; i < 2 * poller->fe->n_pairs; i++) {
            poller->n += poll_vring(poller->fe->dev->vrings[i], i & 1);
        }
        ovsrcu_quiesce();
        atomic_read_relaxed(&poller->exit, &stop);
    }
    return NULL;
}

static void
poller_start(struct poller *poller, struct fe *fe)
{
    poller->fe = fe;
    poller->n = 0;
    atomic_init(&poller->exit, false);
    poller->thread = ovs_thread_create("poller", poller_main, poller);
}

static void
poller_stop(struct poller *poller)
{
    atomic_store_relaxed(&poller->exit, true);
    xpthread_join(poller->thread, NULL);
}

/* The guest does not overrun its ring, however busy the machine is. */
static void
guest_add_if_room(struct fe *fe, int q)
{
    if ((uint16_t) (fe->avail_idx[q] - guest_used_idx(fe, q)) < RING_SIZE) {
        guest_add(fe, q, 1);
    }
}

/* T-06: the table changes under a thread that uses it.  Positions survive. */
static void
test_mem_swap(struct fe *fe, int times)
{
    struct vhost_user_mem_table table = mem_table();
    struct poller poller;
    uint16_t total = 0;
    int n_maps;

    fe_up(fe);
    ovsrcu_barrier();
    n_maps = count_maps();
    poller_start(&poller, fe);
    for (int i = 0; i < times; i++) {
        for (int q = 0; q < 4; q++) {
            guest_add_if_room(fe, q);
        }
        fe_do(fe, VHOST_USER_SET_MEM_TABLE, &table, MEM_TABLE_SIZE(1),
              &fe->memfd, 1);
    }
    for (int i = 0; i < 1000; i++) {
        total = 0;
        for (int q = 0; q < 4; q++) {
            total += fe->avail_idx[q] - guest_used_idx(fe, q);
        }
        if (!total) {
            break;
        }
        fe_loop(fe, 5);
    }
    poller_stop(&poller);
    assert(!total && poller.n > 0);
    for (int q = 0; q < 4; q++) {
        assert(fe->dev->vrings[q]->published);
    }
    ovsrcu_barrier();
    assert(count_maps() == n_maps);
    printf("%d times\n", times);
}

static int
n_running(const struct vhu_dev *dev)
{
    int n = 0;

    for (int i = 0; i < 4; i++) {
        n += dev->vrings[i]->running != NULL;
    }
    return n;
}

/* H-01: the file is truncated under a thread that uses it. */
static void
test_vanish(struct fe *fe)
{
    struct poller poller;

    fe_up(fe);
    poller_start(&poller, fe);
    for (int i = 0; i < 100; i++) {
        guest_add_if_room(fe, i % 4);
        fe_turn(fe);
    }
    assert(!ftruncate(fe->memfd, 0));
    for (int i = 0; i < 1000 && n_running(fe->dev); i++) {
        fe_loop(fe, 10);
    }
    poller_stop(&poller);
    printf("%s\n", vhu_backend_get_reason(fe->backend));
    assert(!n_running(fe->dev));

    /* The port works again. */
    assert(!ftruncate(fe->memfd, MEM_SIZE));
    memset(fe->avail_idx, 0, sizeof fe->avail_idx);
    fe_reconnect(fe);
    fe_up(fe);
    guest_add(fe, 1, 3);
    assert(poll_vring(fe->dev->vrings[1], true) == 3);
}

static void *
watchdog_main(void *aux OVS_UNUSED)
{
    while (vhu_notify_watch()) {
        continue;
    }
    return NULL;
}

/* HZ-04: all the eventfds block, as the front-end can arrange after we have
 * looked at them.  Each of 256 would hold us up for 8 ms. */
static void
test_blocked(struct fe *fe)
{
    pthread_t watchdog = ovs_thread_create("watchdog", watchdog_main, NULL);
    struct vhost_user_mem_table table = mem_table();
    int full = eventfd(UINT_MAX, EFD_CLOEXEC);
    long long int start;

    assert(!eventfd_write(full, UINT64_MAX - 1 - UINT_MAX));
    for (int err = 0; err < 2; err++) {
        fe_up(fe);
        for (uint64_t i = 0; i < 256; i++) {
            fe_do_fd(fe, (err ? VHOST_USER_SET_VRING_ERR
                          : VHOST_USER_SET_VRING_CALL), i, full);
        }
        for (int i = 0; err && i < 256; i++) {
            fe->avail_idx[i] += 300;
            guest_add(fe, i, 1);
            poll_vring(fe->dev->vrings[i], true);
        }
        assert(!fcntl(full, F_SETFL, 0));
        start = time_msec();
        if (!err) {
            fe_send(fe, VHOST_USER_SET_MEM_TABLE, 0, &table, MEM_TABLE_SIZE(1),
                    &fe->memfd, 1);
        }
        fe_turn(fe);
        /* One by one all 256 would take two seconds, or one at least. */
        assert(time_msec() - start < 1000);
        printf("%s\n", vhu_backend_get_reason(fe->backend));

        /* The port works again. */
        memset(fe->avail_idx, 0, sizeof fe->avail_idx);
        memset(fe->mem, 0, MEM_SIZE);
        fe_reconnect(fe);
    }
    close(full);
    vhu_notify_watch_stop();
    xpthread_join(watchdog, NULL);
}

/* A thread that is away for long, as the main thread can be. */
static void *
busy_main(void *stop_)
{
    atomic_bool *stop = stop_;
    bool stopped;

    do {
        usleep(1000);
        atomic_read(stop, &stopped);
    } while (!stopped);
    return NULL;
}

/* HZ-15: memory tables that are replaced faster than the old ones can be
 * freed, while no grace period ends. */
static void
test_garbage(struct fe *fe)
{
    atomic_bool stop = false;
    struct vhost_user_mem_table table = mem_table();
    long long int end;
    pthread_t busy;
    int n_maps;

    fe_up(fe);
    ovsrcu_barrier();
    n_maps = count_maps();
    busy = ovs_thread_create("busy", busy_main, &stop);
    end = time_msec() + 1000;
    while (time_msec() < end) {
        for (int i = 0; i < 16; i++) {
            struct pollfd pfd = { .fd = fe->sock, .events = POLLOUT };

            if (poll(&pfd, 1, 0) == 1) {
                fe_send(fe, VHOST_USER_SET_MEM_TABLE, 0, &table,
                        MEM_TABLE_SIZE(1), &fe->memfd, 1);
            }
        }
        vhu_backend_run(fe->backend);
    }
    assert(count_maps() - n_maps < 1000);
    atomic_store(&stop, true);
    xpthread_join(busy, NULL);

    /* The rest of them. */
    fe_get_u64(fe, VHOST_USER_GET_FEATURES);
    assert(vhu_backend_is_up(fe->backend));
    ovsrcu_barrier();
    assert(count_maps() == n_maps);
    printf("ok\n");
}

/* Load. */

/* 256 vrings. */
static void
test_many(struct fe *fe)
{
    long long int start = time_msec();

    fe_up(fe);
    for (int i = 0; i < 256; i++) {
        guest_add(fe, i, 2);
        assert(poll_vring(fe->dev->vrings[i], true) == 2);
    }
    printf("%u pairs\n", vhu_dev_n_started_pairs(fe->dev));
    assert(time_msec() - start < 30000);
    for (int i = 255; i >= 0; i--) {
        assert(fe_get_base(fe, i) == 2);
    }
    printf("%u pairs\n", vhu_dev_n_started_pairs(fe->dev));
}

/* HZ-15: a front-end that floods us, in the same loop as one that does not. */
static void
test_flood(struct fe *fe)
{
    struct vhost_user_vring_state enable = { 0, 1 };
    struct vhost_user_mem_table table = mem_table();
    unsigned long long int n = 0;
    struct pollfd pfd;
    struct fe other;
    long long int worst = 0;
    long long int end;

    fe_init(&other, 1);
    fe_up(fe);
    fe_up(&other);
    pfd = (struct pollfd) { .fd = fe->sock, .events = POLLOUT };
    end = time_msec() + 1000;
    while (time_msec() < end) {
        long long int start = time_msec();

        for (int i = 0; i < 100; i++) {
            struct vhost_user_hdr hdr = {
                VHOST_USER_SET_VRING_ENABLE, VHOST_USER_VERSION, 8
            };
            uint8_t buf[sizeof hdr + 8];

            enable.num = i & 1;
            memcpy(buf, &hdr, sizeof hdr);
            memcpy(buf + sizeof hdr, &enable, 8);
            if (send(fe->sock, buf, sizeof buf, MSG_DONTWAIT) < 0) {
                break;
            }
            n++;
        }
        if (n % 1000 < 100 && poll(&pfd, 1, 0) == 1) {
            fe_send(fe, VHOST_USER_SET_MEM_TABLE, 0, &table, MEM_TABLE_SIZE(1),
                    &fe->memfd, 1);
        }
        vhu_backend_run(fe->backend);
        fe_get_u64(&other, VHOST_USER_GET_FEATURES);
        worst = MAX(worst, time_msec() - start);
    }
    assert(worst < 1000);
    assert(n < 60000);
    fe_uninit(&other);
    printf("ok\n");
}

/* A flood of kicks does not wake us up often, whatever state the vring is
 * in. */
static void
test_kick_flood(struct fe *fe)
{
    fe_up(fe);
    for (int state = 0; state < 3; state++) {
        long long int end = time_msec() + 300;
        int n = 0;

        if (state == 1) {
            fe_enable(fe, 1, false);
        } else if (state == 2) {
            fe_enable(fe, 1, true);
            guest_add(fe, 1, 1);
            assert(poll_vring(fe->dev->vrings[1], true) == 1);
        }
        fe_turn(fe);
        while (time_msec() < end) {
            vhu_backend_run(fe->backend);
            vhu_backend_wait(fe->backend);
            guest_kick(fe, 1);
            poll_timer_wait_until(end);
            poll_block();
            n++;
        }
        printf("%s: %s\n", vring_state(fe, 1), n < 200 ? "ok" : "too often");
    }
}

static void test_mem_swap_10k(struct fe *fe) { test_mem_swap(fe, 10000); }
static void test_mem_swap_1k(struct fe *fe) { test_mem_swap(fe, 1000); }
static void test_repeat_1k(struct fe *fe) { test_repeat(fe, 1000); }
static void test_repeat_100k(struct fe *fe) { test_repeat(fe, 100000); }

const struct fe_test backend_load_tests[] = {
    { "cut", test_cut, 2 },
    { "repeat", test_repeat_1k, 2 },
    { "repeat-long", test_repeat_100k, 2 },
    { "mem-swap", test_mem_swap_10k, 2 },
    { "mem-swap-short", test_mem_swap_1k, 2 },
    { "vanish", test_vanish, 2 },
    { "blocked", test_blocked, 128 },
    { "garbage", test_garbage, 2 },
    { "many", test_many, 128 },
    { "flood", test_flood, 2 },
    { "kick-flood", test_kick_flood, 1 },
    { "reconnect", test_reconnect, 1 },
    { NULL, NULL, 0 },
};
