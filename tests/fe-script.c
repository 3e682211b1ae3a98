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

#include "fe-script.h"

#undef NDEBUG

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "openvswitch/poll-loop.h"
#include "ovs-rcu.h"
#include "timeval.h"
#include "util.h"
#include "vhu-conn.h"
#include "vhu-mem.h"
#include "vhu-msg.h"
#include "vhu-peer.h"

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

void
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

void
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
void
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
int
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
void
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
int
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
int
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
int
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
void
fe_do(struct fe *fe, uint32_t request, const void *payload, size_t size,
      const int *fds, int n_fds)
{
    int ack = fe_ask(fe, request, payload, size, fds, n_fds);

    if (ack) {
        ovs_fatal(0, "%s: %d: %s", vhu_msg_name(request), ack,
                  vhu_backend_get_reason(fe->backend));
    }
}

void
fe_do_u64(struct fe *fe, uint32_t request, uint64_t x)
{
    fe_do(fe, request, &x, sizeof x, NULL, 0);
}

int
fe_ask_u64(struct fe *fe, uint32_t request, uint64_t x)
{
    return fe_ask(fe, request, &x, sizeof x, NULL, 0);
}

int
fe_ask_state(struct fe *fe, uint32_t request, uint32_t index, uint32_t num)
{
    struct vhost_user_vring_state state = { index, num };

    return fe_ask(fe, request, &state, sizeof state, NULL, 0);
}

void
fe_do_state(struct fe *fe, uint32_t request, uint32_t index, uint32_t num)
{
    assert(!fe_ask_state(fe, request, index, num));
}

/* Sends a request with a reply of 8 bytes, and returns that. */
uint64_t
fe_get_u64(struct fe *fe, uint32_t request)
{
    uint64_t x;

    fe_send(fe, request, 0, NULL, 0, NULL, 0);
    assert(fe_wait(fe, request, &x, sizeof x) == sizeof x);
    return x;
}

uint32_t
fe_get_base(struct fe *fe, uint32_t index)
{
    struct vhost_user_vring_state state = { index, 0 };

    fe_send(fe, VHOST_USER_GET_VRING_BASE, 0, &state, sizeof state, NULL, 0);
    assert(fe_wait(fe, VHOST_USER_GET_VRING_BASE, &state, sizeof state)
           == sizeof state);
    assert(state.index == index);
    return state.num;
}

struct vhost_user_mem_table
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

void
fe_do_mem_table(struct fe *fe)
{
    struct vhost_user_mem_table table = mem_table();

    fe_do(fe, VHOST_USER_SET_MEM_TABLE, &table, MEM_TABLE_SIZE(1),
          &fe->memfd, 1);
}

struct vhost_user_vring_addr
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

void
fe_do_addr(struct fe *fe, uint32_t index)
{
    struct vhost_user_vring_addr addr = vring_addr(index);

    fe_do(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof addr, NULL, 0);
}

void
fe_do_fd(struct fe *fe, uint32_t request, uint64_t index, int fd)
{
    fe_do(fe, request, &index, sizeof index, &fd, fd >= 0);
}

/* Negotiates 'features' and all protocol features. */
void
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

/* Starts again with a new connection. */
void
fe_reconnect(struct fe *fe)
{
    close(fe->sock);
    vhu_backend_set_conn(fe->backend, fe_connect(fe));
    fe_turn(fe);
}

/* Goes away and waits until the back-end has noticed. */
void
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

uint16_t *
guest_u16(struct fe *fe, uint32_t index, size_t ofs)
{
    return (uint16_t *) (void *) (fe->mem + index * SLOT + ofs);
}

uint16_t
guest_used_idx(struct fe *fe, uint32_t index)
{
    return __atomic_load_n(guest_u16(fe, index, USED_OFS + 2),
                           __ATOMIC_ACQUIRE);
}

/* Makes 'n' buffers available. */
void
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

void
guest_reset_ring(struct fe *fe, uint32_t index)
{
    memset(fe->mem + index * SLOT, 0, SLOT);
    fe->avail_idx[index] = 0;
}

void
guest_kick(struct fe *fe, uint32_t index)
{
    assert(!eventfd_write(fe->kick[index], 1));
}

/* Returns true if the guest has been notified since the last call. */
bool
guest_was_called(struct fe *fe, uint32_t index)
{
    eventfd_t n;

    return !eventfd_read(fe->call[index], &n);
}

/* Sends all that starts a vring. */
void
fe_start(struct fe *fe, uint32_t index, uint32_t base)
{
    fe_do_state(fe, VHOST_USER_SET_VRING_NUM, index, RING_SIZE);
    fe_do_state(fe, VHOST_USER_SET_VRING_BASE, index, base);
    fe_do_addr(fe, index);
    fe_do_fd(fe, VHOST_USER_SET_VRING_KICK, index, fe->kick[index]);
    fe_do_fd(fe, VHOST_USER_SET_VRING_CALL, index, fe->call[index]);
}

void
fe_enable(struct fe *fe, uint32_t index, bool enable)
{
    fe_do_state(fe, VHOST_USER_SET_VRING_ENABLE, index, enable);
}

/* Brings up all vrings. */
void
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
size_t
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
const char *
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

/* Counts mappings of the guest's memory. */
int
count_maps(void)
{
    static const char name[] = "/proc/self/maps";
    FILE *file = fopen(name, "r");
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
void
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

void
check_bad_u64(struct fe *fe, const char *what, uint32_t request, uint64_t x)
{
    check_bad(fe, what, request, &x, sizeof x, NULL, 0);
}

void
check_bad_state(struct fe *fe, const char *what, uint32_t request,
                uint32_t index, uint32_t num)
{
    struct vhost_user_vring_state state = { index, num };

    check_bad(fe, what, request, &state, sizeof state, NULL, 0);
}

/* M-02: an index that does not fit is not cut off. */
void
check_bad_indices(struct fe *fe, uint32_t request, uint32_t num)
{
    static const uint32_t indices[] = {
        4, 5, 0xff, 0x100, 0x10000, 0x10001, 0x80000000, UINT32_MAX
    };

    for (size_t i = 0; i < ARRAY_SIZE(indices); i++) {
        check_bad_state(fe, "bad index", request, indices[i], num);
    }
}
