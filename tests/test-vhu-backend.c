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
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "ovs-atomic.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "timeval.h"
#include "util.h"
#include "vhu-conn.h"
#include "vhu-mem.h"
#include "vhu-msg.h"
#include "vhu-notify.h"
#include "vhutest.h"
#include "virtio-barrier.h"

/* A front-end with a script, and the back-end, in one thread.
 *
 * The guest's memory is one region, in which vring 'i' has a slot with its
 * three areas and one buffer. */

#define GPA UINT64_C(0x40000000)
#define UVA UINT64_C(0x7f0000000000)
#define SLOT 0x4000
#define MEM_SIZE (VHOST_USER_MAX_VRINGS * SLOT)
#define DESC_OFS 0x0
#define AVAIL_OFS 0x1000
#define USED_OFS 0x2000
#define BUF_OFS 0x3000
#define RING_SIZE 16

#define BACKEND_PF(NAME) VIRTIO_BIT(VHOST_USER_PROTOCOL_F_##NAME)

struct fe {
    struct vhu_backend *backend;
    struct vhu_dev *dev;
    unsigned int n_pairs;
    int sock;
    int memfd;
    uint8_t *mem;
    int kick[VHOST_USER_MAX_VRINGS], call[VHOST_USER_MAX_VRINGS];
    uint16_t avail_idx[VHOST_USER_MAX_VRINGS];

    /* What the back-end told its user. */
    int n_changed;
    int mtu_error;
    uint16_t mtu;
    int n_rarps;
    uint8_t mac[6];
};

enum { NO_REPLY = -1, CLOSED = -2 };

static void
fe_changed(void *fe_)
{
    struct fe *fe = fe_;

    fe->n_changed++;
}

static int
fe_set_mtu(uint16_t mtu, void *fe_)
{
    struct fe *fe = fe_;

    if (!fe->mtu_error) {
        fe->mtu = mtu;
    }
    return fe->mtu_error;
}

static void
fe_send_rarp(const uint8_t mac[6], void *fe_)
{
    struct fe *fe = fe_;

    fe->n_rarps++;
    memcpy(fe->mac, mac, sizeof fe->mac);
}

static const struct vhu_dev_ops fe_ops = {
    .changed = fe_changed,
    .set_mtu = fe_set_mtu,
    .send_rarp = fe_send_rarp,
};

static struct vhu_conn *
fe_connect(struct fe *fe)
{
    int fds[2];

    assert(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
    fe->sock = fds[0];
    return vhu_conn_create_fd("vhu0", fds[1]);
}

static void
fe_init(struct fe *fe, unsigned int n_pairs)
{
    memset(fe, 0, sizeof *fe);
    fe->n_pairs = n_pairs;
    fe->memfd = memfd_create("guest", MFD_CLOEXEC);
    assert(fe->memfd >= 0 && !ftruncate(fe->memfd, MEM_SIZE));
    fe->mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
                   fe->memfd, 0);
    assert(fe->mem != MAP_FAILED);
    for (int i = 0; i < 2 * n_pairs; i++) {
        fe->kick[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        fe->call[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    }
    fe->backend = vhu_backend_create("vhu0", fe_connect(fe), n_pairs, &fe_ops,
                                     fe);
    fe->dev = vhu_backend_get_dev(fe->backend);
}

static void
fe_uninit(struct fe *fe)
{
    vhu_backend_destroy(fe->backend);
    for (int i = 0; i < 2 * fe->n_pairs; i++) {
        close(fe->kick[i]);
        close(fe->call[i]);
    }
    munmap(fe->mem, MEM_SIZE);
    close(fe->memfd);
    close(fe->sock);
}

/* Lets the back-end do what it has to do. */
static void
fe_turn(struct fe *fe)
{
    vhu_mem_clear_dead();
    for (int i = 0; i < 3; i++) {
        vhu_backend_run(fe->backend);
    }
    ovsrcu_quiesce();
}

/* Lets the back-end run its loop for 'ms' milliseconds, and returns how often
 * it woke up. */
static int
fe_loop(struct fe *fe, int ms)
{
    long long int end = time_msec() + ms;
    int n = 0;

    while (time_msec() < end) {
        vhu_mem_clear_dead();
        vhu_backend_run(fe->backend);
        vhu_backend_wait(fe->backend);
        vhu_mem_wait_dead();
        poll_timer_wait_until(end);
        poll_block();
        n++;
    }
    return n;
}

/* Sends a message, without looking at what the back-end does. */
static void
fe_send(struct fe *fe, uint32_t request, uint32_t flags, const void *payload,
        size_t size, const int *fds, int n_fds)
{
    struct vhost_user_hdr hdr = { request, VHOST_USER_VERSION | flags, size };
    struct iovec iov[2];
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(8 * sizeof(int))];
    } control;
    struct msghdr msg;

    memset(&msg, 0, sizeof msg);
    iov[0].iov_base = &hdr;
    iov[0].iov_len = sizeof hdr;
    iov[1].iov_base = CONST_CAST(void *, payload);
    iov[1].iov_len = size;
    msg.msg_iov = iov;
    msg.msg_iovlen = 2;
    if (n_fds) {
        struct cmsghdr *cmsg;

        memset(&control, 0, sizeof control);
        msg.msg_control = control.buf;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
    }
    assert(sendmsg(fe->sock, &msg, MSG_NOSIGNAL) == sizeof hdr + size);
}

/* Returns the size of the payload of the reply to 'request', which it puts
 * into 'payload', or NO_REPLY or CLOSED. */
static int
fe_recv(struct fe *fe, uint32_t request, void *payload, size_t max)
{
    struct vhost_user_hdr hdr;
    ssize_t n = recv(fe->sock, &hdr, sizeof hdr, MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN) {
        return NO_REPLY;
    } else if (n <= 0) {
        return CLOSED;
    }
    assert(n == sizeof hdr);
    assert(hdr.request == request);
    assert(hdr.flags == (VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY));
    assert(hdr.size <= max);
    assert(!hdr.size
           || recv(fe->sock, payload, hdr.size, MSG_DONTWAIT) == hdr.size);
    return hdr.size;
}

/* The same, but gives the back-end the time that a flood of messages costs. */
static int
fe_wait(struct fe *fe, uint32_t request, void *payload, size_t max)
{
    for (int i = 0; ; i++) {
        int n;

        fe_turn(fe);
        n = fe_recv(fe, request, payload, max);
        if (n != NO_REPLY || i >= 2000) {
            return n;
        }
        usleep(1000);
    }
}

/* Sends a request that asks for an acknowledgement and returns that, or
 * CLOSED. */
static int
fe_ask(struct fe *fe, uint32_t request, const void *payload, size_t size,
       const int *fds, int n_fds)
{
    uint64_t ack = 99;
    int n;

    fe_send(fe, request, VHOST_USER_FLAG_NEED_REPLY, payload, size,
            fds, n_fds);
    n = fe_wait(fe, request, &ack, sizeof ack);
    assert(n == sizeof ack || n == CLOSED);
    return n == CLOSED ? CLOSED : ack;
}

/* Sends a request that must be accepted. */
static void
fe_do(struct fe *fe, uint32_t request, const void *payload, size_t size,
      const int *fds, int n_fds)
{
    int ack = fe_ask(fe, request, payload, size, fds, n_fds);

    if (ack) {
        ovs_fatal(0, "%s: %d: %s", vhu_msg_name(request), ack,
                  vhu_backend_get_reason(fe->backend));
    }
}

static void
fe_do_u64(struct fe *fe, uint32_t request, uint64_t x)
{
    fe_do(fe, request, &x, sizeof x, NULL, 0);
}

static int
fe_ask_u64(struct fe *fe, uint32_t request, uint64_t x)
{
    return fe_ask(fe, request, &x, sizeof x, NULL, 0);
}

static int
fe_ask_state(struct fe *fe, uint32_t request, uint32_t index, uint32_t num)
{
    struct vhost_user_vring_state state = { index, num };

    return fe_ask(fe, request, &state, sizeof state, NULL, 0);
}

static void
fe_do_state(struct fe *fe, uint32_t request, uint32_t index, uint32_t num)
{
    assert(!fe_ask_state(fe, request, index, num));
}

/* Sends a request with a reply of 8 bytes, and returns that. */
static uint64_t
fe_get_u64(struct fe *fe, uint32_t request)
{
    uint64_t x;

    fe_send(fe, request, 0, NULL, 0, NULL, 0);
    assert(fe_wait(fe, request, &x, sizeof x) == sizeof x);
    return x;
}

static uint32_t
fe_get_base(struct fe *fe, uint32_t index)
{
    struct vhost_user_vring_state state = { index, 0 };

    fe_send(fe, VHOST_USER_GET_VRING_BASE, 0, &state, sizeof state, NULL, 0);
    assert(fe_wait(fe, VHOST_USER_GET_VRING_BASE, &state, sizeof state)
           == sizeof state);
    assert(state.index == index);
    return state.num;
}

static struct vhost_user_mem_table
mem_table(void)
{
    struct vhost_user_mem_table table;

    memset(&table, 0, sizeof table);
    table.n_regions = 1;
    table.regions[0].guest_addr = GPA;
    table.regions[0].user_addr = UVA;
    table.regions[0].size = MEM_SIZE;
    return table;
}

#define MEM_TABLE_SIZE(N) offsetof(struct vhost_user_mem_table, regions[N])

static void
fe_do_mem_table(struct fe *fe)
{
    struct vhost_user_mem_table table = mem_table();

    fe_do(fe, VHOST_USER_SET_MEM_TABLE, &table, MEM_TABLE_SIZE(1),
          &fe->memfd, 1);
}

static struct vhost_user_vring_addr
vring_addr(uint32_t index)
{
    uint64_t slot = UVA + (uint64_t) index * SLOT;
    struct vhost_user_vring_addr addr;

    memset(&addr, 0, sizeof addr);
    addr.index = index;
    addr.desc = slot + DESC_OFS;
    addr.avail = slot + AVAIL_OFS;
    addr.used = slot + USED_OFS;
    return addr;
}

static void
fe_do_addr(struct fe *fe, uint32_t index)
{
    struct vhost_user_vring_addr addr = vring_addr(index);

    fe_do(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof addr, NULL, 0);
}

static void
fe_do_fd(struct fe *fe, uint32_t request, uint64_t index, int fd)
{
    fe_do(fe, request, &index, sizeof index, &fd, fd >= 0);
}

/* Negotiates 'features' and all protocol features. */
static void
fe_negotiate(struct fe *fe, uint64_t features)
{
    uint64_t pf = VHU_BACKEND_PROTOCOL_FEATURES;

    fe_send(fe, VHOST_USER_SET_OWNER, 0, NULL, 0, NULL, 0);
    fe_send(fe, VHOST_USER_SET_PROTOCOL_FEATURES, 0, &pf, sizeof pf, NULL, 0);
    fe_send(fe, VHOST_USER_SET_FEATURES, 0, &features, sizeof features,
            NULL, 0);
    fe_get_u64(fe, VHOST_USER_GET_FEATURES);
    assert(fe->dev->features == features && fe->dev->features_set);
}

#define FEATURES (VHU_BACKEND_FEATURES                                  \
                  & ~(VIRTIO_BIT(VIRTIO_F_EVENT_IDX)                    \
                      | VIRTIO_BIT(VIRTIO_F_RING_PACKED)))

/* Starts again with a new connection. */
static void
fe_reconnect(struct fe *fe)
{
    close(fe->sock);
    vhu_backend_set_conn(fe->backend, fe_connect(fe));
    fe_turn(fe);
}

/* Goes away and waits until the back-end has noticed. */
static void
fe_disconnect(struct fe *fe)
{
    const struct vhu_conn *conn = vhu_backend_get_conn(fe->backend);

    shutdown(fe->sock, SHUT_RDWR);
    for (int i = 0; vhu_conn_is_connected(conn); i++) {
        assert(i < 2000);
        fe_turn(fe);
        usleep(i ? 1000 : 0);
    }
}

/* What the guest does. */

static uint16_t *
guest_u16(struct fe *fe, uint32_t index, size_t ofs)
{
    return (uint16_t *) (void *) (fe->mem + index * SLOT + ofs);
}

static uint16_t
guest_used_idx(struct fe *fe, uint32_t index)
{
    return __atomic_load_n(guest_u16(fe, index, USED_OFS + 2),
                           __ATOMIC_ACQUIRE);
}

/* Makes 'n' buffers available. */
static void
guest_add(struct fe *fe, uint32_t index, int n)
{
    for (int i = 0; i < n; i++) {
        uint16_t slot = fe->avail_idx[index]++ % RING_SIZE;
        struct virtq_desc *desc = ALIGNED_CAST(
            struct virtq_desc *, fe->mem + index * SLOT + DESC_OFS) + slot;
        uint64_t gpa = GPA + index * SLOT + BUF_OFS;
        uint32_t len = 64;
        uint16_t flags = index & 1 ? 0 : VIRTQ_DESC_F_WRITE;

        memcpy(&desc->addr, &gpa, sizeof gpa);
        memcpy(&desc->len, &len, sizeof len);
        memcpy(&desc->flags, &flags, sizeof flags);
        *guest_u16(fe, index, AVAIL_OFS + 4 + 2 * slot) = slot;
    }
    __atomic_store_n(guest_u16(fe, index, AVAIL_OFS + 2),
                     fe->avail_idx[index], __ATOMIC_RELEASE);
}

static void
guest_reset_ring(struct fe *fe, uint32_t index)
{
    memset(fe->mem + index * SLOT, 0, SLOT);
    fe->avail_idx[index] = 0;
}

static void
guest_kick(struct fe *fe, uint32_t index)
{
    assert(!eventfd_write(fe->kick[index], 1));
}

/* Returns true if the guest has been notified since the last call. */
static bool
guest_was_called(struct fe *fe, uint32_t index)
{
    eventfd_t n;

    return !eventfd_read(fe->call[index], &n);
}

/* Sends all that starts a vring. */
static void
fe_start(struct fe *fe, uint32_t index, uint32_t base)
{
    fe_do_state(fe, VHOST_USER_SET_VRING_NUM, index, RING_SIZE);
    fe_do_state(fe, VHOST_USER_SET_VRING_BASE, index, base);
    fe_do_addr(fe, index);
    fe_do_fd(fe, VHOST_USER_SET_VRING_KICK, index, fe->kick[index]);
    fe_do_fd(fe, VHOST_USER_SET_VRING_CALL, index, fe->call[index]);
}

static void
fe_enable(struct fe *fe, uint32_t index, bool enable)
{
    fe_do_state(fe, VHOST_USER_SET_VRING_ENABLE, index, enable);
}

/* Brings up all vrings. */
static void
fe_up(struct fe *fe)
{
    fe_negotiate(fe, FEATURES);
    fe_do_mem_table(fe);
    for (int i = 0; i < 2 * fe->n_pairs; i++) {
        fe_start(fe, i, fe->avail_idx[i]);
        fe_enable(fe, i, true);
    }
    assert(vhu_backend_is_up(fe->backend));
}

/* What a PMD thread does with one vring. */
static size_t
poll_vring(struct vhu_vring *vring, bool wait)
{
    struct virtq *vq = ovsrcu_get(struct virtq *, &vring->vq);
    struct virtq_chain chains[VIRTQ_MAX_BURST];
    size_t n;

    if (!vq || !virtq_has_avail(vq)) {
        return 0;
    }
    vq = wait ? vhu_vring_lock(vring) : vhu_vring_trylock(vring);
    if (!vq) {
        return 0;
    }
    n = virtq_take_avail(vq, chains, VIRTQ_MAX_BURST);
    for (size_t i = 0; i < n; i++) {
        if (chains[i].n_segs && vhu_vring_is_transmitq(vring->index)) {
            volatile uint8_t x = chains[i].segs[0].va[0];
            (void) x;
        } else if (chains[i].n_segs) {
            chains[i].segs[0].va[0] = 1;
        }
        virtq_add_used(vq, &chains[i], 0);
    }
    virtq_publish_used(vq);
    virtq_call(vq);
    vhu_vring_unlock(vring);
    return n;
}

/* Says in which state a vring is. */
static const char *
vring_state(const struct fe *fe, uint32_t index)
{
    const struct vhu_vring *vring = fe->dev->vrings[index];

    return (vring->error ? "broken"
            : vring->running && vring->published ? "running"
            : vring->running ? "running, disabled"
            : vring->started ? "started"
            : vring->enabled ? "stopped, enabled"
            : "stopped");
}

/* Resources. */

static int
count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = -1;

    assert(dir);
    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n;
}

/* Counts mappings of the guest's memory. */
static int
count_maps(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    char line[512];
    int n = 0;

    assert(file);
    while (fgets(line, sizeof line, file)) {
        n += strstr(line, "memfd:guest") != NULL;
    }
    fclose(file);
    return n;
}

/* A request that must be refused: with a negative acknowledgement, after which
 * the connection is still there, and without one by closing it. */
static void
check_bad(struct fe *fe, const char *what, uint32_t request,
          const void *payload, size_t size, const int *fds, int n_fds)
{
    int n_open = count_fds();
    uint64_t features = fe->dev->features;
    uint64_t unused;

    if (fe_ask(fe, request, payload, size, fds, n_fds) != 1) {
        ovs_fatal(0, "%s: no negative acknowledgement", what);
    }
    assert(fe_get_u64(fe, VHOST_USER_GET_FEATURES) == VHU_BACKEND_FEATURES);
    assert(count_fds() == n_open);

    fe_send(fe, request, 0, payload, size, fds, n_fds);
    if (fe_wait(fe, request, &unused, sizeof unused) != CLOSED) {
        ovs_fatal(0, "%s: connection not closed", what);
    }
    printf("%s: %s\n", what, vhu_backend_get_reason(fe->backend));
    fe_reconnect(fe);
    fe_negotiate(fe, features);
    fe_do_mem_table(fe);
}

static void
check_bad_u64(struct fe *fe, const char *what, uint32_t request, uint64_t x)
{
    check_bad(fe, what, request, &x, sizeof x, NULL, 0);
}

static void
check_bad_state(struct fe *fe, const char *what, uint32_t request,
                uint32_t index, uint32_t num)
{
    struct vhost_user_vring_state state = { index, num };

    check_bad(fe, what, request, &state, sizeof state, NULL, 0);
}

/* M-02: an index that does not fit is not cut off. */
static void
check_bad_indices(struct fe *fe, uint32_t request, uint32_t num)
{
    static const uint32_t indices[] = {
        4, 5, 0xff, 0x100, 0x10000, 0x10001, 0x80000000, UINT32_MAX
    };

    for (size_t i = 0; i < ARRAY_SIZE(indices); i++) {
        check_bad_state(fe, "bad index", request, indices[i], num);
    }
}

/* Tests: one request each. */

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

    /* */
    assert(!fe->dev->vrings[3]->enabled);
    fe_do_u64(fe, VHOST_USER_SET_FEATURES,
              FEATURES & ~VIRTIO_BIT(VHOST_USER_F_PROTOCOL_FEATURES));
    for (int i = 0; i < 4; i++) {
        assert(fe->dev->vrings[i]->enabled);
    }
}

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

static void
test_set_vring_addr(struct fe *fe)
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
    struct vhost_user_vring_addr addr = vring_addr(1);

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

    /* Each area may end where memory does. */
    fe_do_state(fe, VHOST_USER_SET_VRING_NUM, 1, RING_SIZE);
    addr = vring_addr(1);
    addr.desc = UVA + MEM_SIZE - 16 * RING_SIZE;
    fe_do(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof addr, NULL, 0);
    addr.avail = UVA + MEM_SIZE - (6 + 2 * RING_SIZE);
    fe_do(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof addr, NULL, 0);
    addr.used = UVA + MEM_SIZE - (8 + 8 * RING_SIZE);
    fe_do(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof addr, NULL, 0);

    addr = vring_addr(1);
    addr.flags = VHOST_VRING_F_LOG;
    check_bad(fe, "log", VHOST_USER_SET_VRING_ADDR, &addr, sizeof addr,
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
    {
        struct vhost_user_mem_table table = mem_table();

        assert(fe_ask(fe, VHOST_USER_SET_MEM_TABLE, &table, MEM_TABLE_SIZE(1),
                      &fe->memfd, 1) == 1);
    }
    printf("%s, %s\n", vring_state(fe, 0), vring_state(fe, 1));
    printf("%s\n", vhu_backend_get_reason(fe->backend));

    /* On a running vring they move it. */
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

    /* M-13: of a vring of which nobody has spoken. */
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

    /* Without a descriptor, and again with one while it is running. */
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

    /* M-17: another one on a running vring is a plain swap. */
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
    check_bad_u64(fe, "log", VHOST_USER_SET_PROTOCOL_FEATURES,
                  VHU_BACKEND_PROTOCOL_FEATURES | BACKEND_PF(LOG_SHMFD));

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

static void
test_reset_device(struct fe *fe)
{
    fe_up(fe);
    fe_do(fe, VHOST_USER_RESET_DEVICE, NULL, 0, NULL, 0);
    for (int i = 0; i < 4; i++) {
        printf("%d: %s\n", i, vring_state(fe, i));
    }
    assert(fe->dev->mem);
    fe_do_u64(fe, VHOST_USER_SET_FEATURES, VHU_BACKEND_FEATURES);
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
    fe_do_u64(fe, VHOST_USER_SET_STATUS, 0);
    printf("%s, %s\n", vring_state(fe, 0), vring_state(fe, 3));
    check_bad_u64(fe, "9 bits", VHOST_USER_SET_STATUS, 256);
}

/* M-01, HZ-28. */
static void
test_unknown(struct fe *fe)
{
    static const uint32_t ids[] = {
        0, 6, 22, 23, 24, 25, 31, 32, 33, 35, 41, 44, 45, 64, 0x7fffffff,
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

/* Tests: sequences. */

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

/* A front-end that never sends a base: the first kick starts the vring. */
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

/* "Ring states": started or not, enabled or not, for both directions. */
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
            fe_loop(fe, 30);
            printf("%s %s %s: data path %"PRIuSIZE", used %d, discarded %d\n",
                   dir ? "transmitq" : "receiveq",
                   started ? "started" : "stopped",
                   enabled ? "enabled" : "disabled",
                   n, guest_used_idx(fe, dir), (int) vring->discarded);
        }
    }
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

/* A front-end that goes away in the middle of something: whatever it was, the
 * vrings stop and nothing is left behind (HZ-14). */
static void
test_cut(struct fe *fe)
{
    uint8_t msgs[4096];
    size_t n = 0;
    int n_fds, n_maps;

    /* A session, as bytes; the descriptors go with the first byte of their
     * message. */
    struct {
        size_t ofs;
        int fd;
    } fds[16];
    int n_session_fds = 0;

#define PUT(REQUEST, PAYLOAD, SIZE, FD)                                     \
    do {                                                                    \
        struct vhost_user_hdr hdr = {                                       \
            VHOST_USER_##REQUEST,                                           \
            VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY, SIZE };        \
        if ((FD) >= 0) {                                                    \
            fds[n_session_fds].ofs = n;                                     \
            fds[n_session_fds++].fd = FD;                                   \
        }                                                                   \
        memcpy(msgs + n, &hdr, sizeof hdr);                                 \
        memcpy(msgs + n + sizeof hdr, PAYLOAD, SIZE);                       \
        n += sizeof hdr + (SIZE);                                           \
    } while (0)

    struct vhost_user_mem_table table = mem_table();
    uint64_t features = FEATURES;
    uint64_t pf = VHU_BACKEND_PROTOCOL_FEATURES;

    PUT(GET_FEATURES, "", 0, -1);
    PUT(GET_PROTOCOL_FEATURES, "", 0, -1);
    PUT(SET_PROTOCOL_FEATURES, &pf, 8, -1);
    PUT(SET_BACKEND_REQ_FD, "", 0, fe->call[3]);
    PUT(SET_OWNER, "", 0, -1);
    PUT(SET_FEATURES, &features, 8, -1);
    PUT(SET_MEM_TABLE, &table, MEM_TABLE_SIZE(1), fe->memfd);
    for (uint64_t i = 0; i < 2; i++) {
        struct vhost_user_vring_state num = { i, RING_SIZE };
        struct vhost_user_vring_state state = { i, 0 };
        struct vhost_user_vring_addr addr = vring_addr(i);

        PUT(SET_VRING_NUM, &num, 8, -1);
        PUT(SET_VRING_BASE, &state, 8, -1);
        PUT(SET_VRING_ADDR, &addr, 40, -1);
        PUT(SET_VRING_KICK, &i, 8, fe->kick[i]);
        PUT(SET_VRING_CALL, &i, 8, fe->call[i]);
        PUT(SET_VRING_ERR, &i, 8, fe->call[i]);
        state.num = 1;
        PUT(SET_VRING_ENABLE, &state, 8, -1);
    }
    PUT(GET_STATUS, "", 0, -1);
    for (uint64_t i = 0; i < 2; i++) {
        struct vhost_user_vring_state state = { i, 0 };

        PUT(GET_VRING_BASE, &state, 8, -1);
    }

    fe_up(fe);
    fe_reconnect(fe);
    ovsrcu_barrier();
    n_fds = count_fds();
    n_maps = count_maps();
    for (size_t cut = 0; cut <= n; cut++) {
        size_t pos = 0;
        int next_fd = 0;

        while (pos < cut) {
            bool has_fd = next_fd < n_session_fds && fds[next_fd].ofs == pos;
            int fd = has_fd ? fds[next_fd++].fd : -1;
            size_t end = (next_fd < n_session_fds ? fds[next_fd].ofs : n);
            struct iovec iov = { msgs + pos, MIN(end, cut) - pos };
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
    printf("%"PRIuSIZE" bytes\n", n);
}

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
            if ((uint16_t) (fe->avail_idx[q] - guest_used_idx(fe, q))
                < RING_SIZE) {
                guest_add(fe, q, 1);
            }
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

/* H-01: the file is truncated under a thread that uses it. */
static void
test_vanish(struct fe *fe)
{
    struct poller poller;

    fe_up(fe);
    poller_start(&poller, fe);
    for (int i = 0; i < 100; i++) {
        guest_add(fe, i % 4, 1);
        fe_turn(fe);
    }
    assert(!ftruncate(fe->memfd, 0));
    fe_loop(fe, 100);
    poller_stop(&poller);
    printf("%s\n", vhu_backend_get_reason(fe->backend));
    for (int i = 0; i < 4; i++) {
        assert(!fe->dev->vrings[i]->running);
    }

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
        assert(time_msec() - start < 300);
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
    long long int longest = 0;

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
    for (int i = 0; i < 10; i++) {
        long long int start = time_msec();

        vhu_backend_run(fe->backend);
        longest = MAX(longest, time_msec() - start);
        usleep(10000);
    }
    assert(fe->dev->vrings[1]->discarded > 0);
    assert(longest < 100);
    printf("ok\n");
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
    atomic_bool stop = ATOMIC_VAR_INIT(false);
    struct vhost_user_mem_table table = mem_table();
    long long int end;
    pthread_t busy;
    int n_maps;

    fe_up(fe);
    ovsrcu_barrier();
    n_maps = count_maps();
    busy = ovs_thread_create("busy", busy_main, &stop);
    for (end = time_msec() + 1000; time_msec() < end; ) {
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
    assert(time_msec() - start < 5000);
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
    assert(worst < 100);
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

/* A front-end that goes and comes back, and a guest that does not notice. */
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

static void test_mem_swap_10k(struct fe *fe) { test_mem_swap(fe, 10000); }
static void test_mem_swap_1k(struct fe *fe) { test_mem_swap(fe, 1000); }
static void test_repeat_1k(struct fe *fe) { test_repeat(fe, 1000); }
static void test_repeat_100k(struct fe *fe) { test_repeat(fe, 100000); }

static void
test_vhu_backend_main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*function)(struct fe *);
        unsigned int n_pairs;
    } tests[] = {
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
        { "order", test_order, 1 },
        { "kick-start", test_kick_start, 1 },
        { "states", test_states, 1 },
        { "discard", test_discard, 1 },
        { "cut", test_cut, 2 },
        { "repeat", test_repeat_1k, 2 },
        { "repeat-long", test_repeat_100k, 2 },
        { "mem-swap", test_mem_swap_10k, 2 },
        { "mem-swap-short", test_mem_swap_1k, 2 },
        { "mem-fault", test_mem_fault, 2 },
        { "vanish", test_vanish, 2 },
        { "blocked", test_blocked, 128 },
        { "discard-long", test_discard_long, 128 },
        { "garbage", test_garbage, 2 },
        { "many", test_many, 128 },
        { "flood", test_flood, 2 },
        { "kick-flood", test_kick_flood, 1 },
        { "not-shared", test_not_shared, 2 },
        { "reconnect", test_reconnect, 1 },
    };
    struct fe fe;

    if (argc < 2) {
        ovs_fatal(0, "usage: %s TEST [-v]", argv[0]);
    }
    if (argc < 3) {
        vlog_set_levels(NULL, VLF_CONSOLE, VLL_OFF);
    }
    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (!strcmp(argv[1], tests[i].name)) {
            fe_init(&fe, tests[i].n_pairs);
            tests[i].function(&fe);
            fe_uninit(&fe);
            ovsrcu_barrier();
            return;
        }
    }
    ovs_fatal(0, "%s: no such test", argv[1]);
}

VHUTEST_REGISTER("backend", test_vhu_backend_main);
