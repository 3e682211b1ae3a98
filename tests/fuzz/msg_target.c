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

#undef NDEBUG

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "openvswitch/vlog.h"
#include "ovs-rcu.h"
#include "util.h"
#include "vhost-user-spec.h"
#include "vhu-backend.h"
#include "vhu-conn.h"
#include "vhu-mem.h"
#include "vhu-msg.h"
#include "virtio-endian.h"
#include "virtio-spec.h"

/* Fuzz target: messages to a back-end
 * ===================================
 *
 * The input is a list of actions of four bytes:
 *
 *     action, argument, offset, value
 *
 * An action below N_REQUESTS is a request of this number, filled in as a good
 * front-end would for vring 'argument', whose byte 'offset' is then replaced
 * by 'value'.  The others are in "enum action".  After each of them the
 * back-end runs.
 *
 * Built by "make fuzz" for libFuzzer.  Without it, main() below takes the
 * names of inputs, or how many random ones to try. */

enum { N_PAIRS = 2, N_VRINGS = 2 * N_PAIRS, N_REQUESTS = 48 };
enum { MEM_SIZE = 0x10000, SLOT = MEM_SIZE / N_VRINGS, RING_SIZE = 16 };
#define GPA UINT64_C(0x40000000)
#define UVA UINT64_C(0x7f0000000000)
#define LOG_SIZE ((GPA + MEM_SIZE) / VHOST_LOG_PAGE / 8)

enum action {
    BRING_UP = N_REQUESTS,      /* All that a good front-end sends. */
    POLL,                       /* A PMD thread takes and uses buffers. */
    SCRIBBLE,                   /* The guest writes into its memory. */
    RECONNECT,
    TRUNCATE,                   /* The memory of the guest vanishes, or the
                                 * log. */
    LOG,                        /* A migration begins. */
    N_ACTIONS
};

struct target {
    struct vhu_backend *backend;
    int sock;
    int memfd, eventfd, pipefd, logfd;
    uint8_t *mem;
};

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
ops_changed(void *aux OVS_UNUSED)
{
}

static int
ops_set_mtu(uint16_t mtu OVS_UNUSED, void *aux OVS_UNUSED)
{
    return 0;
}

static void
ops_send_rarp(const uint8_t mac[6] OVS_UNUSED, void *aux OVS_UNUSED)
{
}

static const struct vhu_dev_ops ops = {
    .changed = ops_changed,
    .set_mtu = ops_set_mtu,
    .send_rarp = ops_send_rarp,
};

static struct vhu_conn *
new_conn(struct target *t)
{
    int fds[2];

    assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    t->sock = fds[0];
    return vhu_conn_create_fd("fuzz", fds[1]);
}

/* Puts the payload of a good 'request' for vring 'index', of a packed
 * virtqueue if bit 3 is set, into 'payload'.  Returns its size. */
static size_t
good_payload(uint32_t request, uint32_t index, union vhu_payload *payload)
{
    bool packed = index & 8;
    uint64_t slot = (uint64_t) (index & 7) * SLOT;
    struct vhost_user_mem_region region = { GPA, MEM_SIZE, UVA, 0 };

    index &= 7;
    switch (request) {
    case VHOST_USER_SET_FEATURES:
        /* For vring 4 and above, which there are none of, with the log. */
        payload->u64 = VHU_BACKEND_FEATURES;
        if (!(index & 4)) {
            payload->u64 &= ~VIRTIO_BIT(VHOST_F_LOG_ALL);
        }
        if (!packed) {
            payload->u64 &= ~VIRTIO_BIT(VIRTIO_F_RING_PACKED);
        }
        return sizeof payload->u64;
    case VHOST_USER_SET_PROTOCOL_FEATURES:
        payload->u64 = VHU_BACKEND_PROTOCOL_FEATURES;
        return sizeof payload->u64;
    case VHOST_USER_SET_MEM_TABLE:
        payload->mem_table.n_regions = 1;
        payload->mem_table.regions[0] = region;
        return offsetof(struct vhost_user_mem_table, regions) + sizeof region;
    case VHOST_USER_ADD_MEM_REG:
    case VHOST_USER_REM_MEM_REG:
        payload->mem_region.region = region;
        return sizeof payload->mem_region;
    case VHOST_USER_SET_LOG_BASE:
        payload->log.size = LOG_SIZE;
        payload->log.offset = slot / SLOT;
        return sizeof payload->log;
    case VHOST_USER_SET_VRING_NUM:
    case VHOST_USER_SET_VRING_BASE:
    case VHOST_USER_GET_VRING_BASE:
    case VHOST_USER_SET_VRING_ENABLE:
        payload->vring_state.index = index;
        payload->vring_state.num
            = (request == VHOST_USER_SET_VRING_NUM ? RING_SIZE
               : request == VHOST_USER_SET_VRING_ENABLE);
        return sizeof payload->vring_state;
    case VHOST_USER_SET_VRING_ADDR:
        payload->vring_addr.index = index;
        payload->vring_addr.desc = UVA + slot;
        payload->vring_addr.avail = UVA + slot + 0x400;
        payload->vring_addr.used = UVA + slot + 0x800;
        payload->vring_addr.log = GPA + slot + 0x800;
        return sizeof payload->vring_addr;
    case VHOST_USER_SET_VRING_KICK:
    case VHOST_USER_SET_VRING_CALL:
    case VHOST_USER_SET_VRING_ERR:
    case VHOST_USER_SEND_RARP:
    case VHOST_USER_NET_SET_MTU:
    case VHOST_USER_SET_STATUS:
        payload->u64 = request == VHOST_USER_NET_SET_MTU ? 1500 : index;
        return sizeof payload->u64;
    default:
        return 0;
    }
}

/* Returns a file descriptor that a good 'request' comes with, or -1. */
static int
good_fd(const struct target *t, uint32_t request)
{
    switch (request) {
    case VHOST_USER_SET_MEM_TABLE:
    case VHOST_USER_ADD_MEM_REG:
        return t->memfd;
    case VHOST_USER_SET_VRING_KICK:
    case VHOST_USER_SET_VRING_CALL:
    case VHOST_USER_SET_VRING_ERR:
        return t->eventfd;
    case VHOST_USER_SET_LOG_BASE:
        return t->logfd;
    case VHOST_USER_SET_LOG_FD:
    case VHOST_USER_SET_BACKEND_REQ_FD:
        return t->pipefd;
    default:
        return -1;
    }
}

/* Sends 'request'.  'argument' is the vring, and in the upper bits: whether to
 * ask for an acknowledgement, and which descriptors to send: good ones, none,
 * a wrong one, or eight. */
static void
send_request(const struct target *t, uint32_t request, uint8_t argument,
             uint8_t ofs, uint8_t value)
{
    struct vhost_user_hdr hdr = { .request = request };
    union vhu_payload payload;
    uint8_t msg[sizeof hdr + sizeof payload];
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(8 * sizeof(int))];
    } control;
    int fds[8];
    int n_fds;
    struct iovec iov = { .iov_base = msg };
    struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

    memset(&payload, 0, sizeof payload);
    hdr.flags = (VHOST_USER_VERSION
                 | (argument & 0x10 ? VHOST_USER_FLAG_NEED_REPLY : 0));
    hdr.size = good_payload(request, argument & 15, &payload);
    memcpy(msg, &hdr, sizeof hdr);
    memcpy(&msg[sizeof hdr], &payload, hdr.size);
    iov.iov_len = sizeof hdr + hdr.size;
    if (ofs < iov.iov_len) {
        msg[ofs] = value;
    }

    for (int i = 0; i < 8; i++) {
        fds[i] = argument & 0x40 ? t->pipefd : good_fd(t, request);
    }
    n_fds = (fds[0] < 0 || (argument & 0x60) == 0x20 ? 0
             : (argument & 0x60) == 0x60 ? 8 : 1);
    if (n_fds) {
        struct cmsghdr *cmsg = &control.align;

        memset(&control, 0, sizeof control);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof fds[0]);
        memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof fds[0]);
        mh.msg_control = &control;
        mh.msg_controllen = CMSG_SPACE(n_fds * sizeof fds[0]);
    }
    sendmsg(t->sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* What PMD threads do with all the vrings. */
static void
poll_vrings(const struct target *t)
{
    struct vhu_dev *dev = vhu_backend_get_dev(t->backend);

    for (int i = 0; i < N_VRINGS; i++) {
        struct virtq_chain chains[VIRTQ_MAX_BURST];
        struct virtq *vq = vhu_vring_lock(dev->vrings[i]);
        uint8_t sum = 0;

        if (!vq) {
            continue;
        }
        for (size_t j = 0, n = virtq_take_avail(vq, chains, VIRTQ_MAX_BURST);
             j < n; j++) {
            for (int k = 0; k < chains[j].n_segs; k++) {
                const struct virtq_seg *seg = &chains[j].segs[k];

                /* In bounds of the memory that is mapped. */
                sum += seg->va[0] + seg->va[seg->len - 1];
            }
            virtq_add_used(vq, &chains[j], sum & 1 ? chains[j].size : 0);
        }
        virtq_publish_used(vq);
        virtq_call(vq);
        vhu_vring_unlock(dev->vrings[i]);
    }
}

static void
run(struct target *t)
{
    uint8_t replies[4096];

    vhu_mem_clear_dead();
    vhu_backend_run(t->backend);
    vhu_backend_run(t->backend);
    while (recv(t->sock, replies, sizeof replies, MSG_DONTWAIT) > 0) {
        continue;
    }
    vhu_backend_get_reason(t->backend);
}

/* Starts vring 'argument', and makes a few buffers available in it. */
static void
bring_up(struct target *t, uint8_t argument)
{
    int index = argument % N_VRINGS;
    static const uint32_t requests[] = {
        VHOST_USER_SET_PROTOCOL_FEATURES, VHOST_USER_SET_FEATURES,
        VHOST_USER_SET_MEM_TABLE, VHOST_USER_SET_VRING_NUM,
        VHOST_USER_SET_VRING_BASE, VHOST_USER_SET_VRING_ADDR,
        VHOST_USER_SET_VRING_CALL, VHOST_USER_SET_VRING_KICK,
        VHOST_USER_SET_VRING_ENABLE,
    };
    struct virtq_desc *desc
        = ALIGNED_CAST(struct virtq_desc *, &t->mem[index * SLOT]);

    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        send_request(t, requests[i], index | (argument & 8), UINT8_MAX, 0);
    }
    run(t);
    for (int i = 0; i < RING_SIZE; i++) {
        uint16_t flags = ((index & 1 ? 0 : VIRTQ_DESC_F_WRITE)
                          | (i % 3 ? VIRTQ_DESC_F_NEXT : 0));
        uint16_t next = (i + 1) % RING_SIZE;

        desc[i].addr = virtio_cpu_to_le64(GPA + index * SLOT + 0x1000);
        desc[i].len = virtio_cpu_to_le32(100 + i);
        if (argument & 8) {
            /* The packed format has the number first, then the flags, here
             * with the one that makes it available. */
            next = flags | 0x80;
            flags = i;
        }
        desc[i].flags = virtio_cpu_to_le16(flags);
        desc[i].next = virtio_cpu_to_le16(next);
    }
    t->mem[index * SLOT + 0x400 + 2] += 4;
}

/* What QEMU sends when a migration begins. */
static void
begin_logging(struct target *t, uint8_t argument)
{
    uint8_t index = argument % N_VRINGS;
    uint8_t packed = argument & 8;

    send_request(t, VHOST_USER_SET_LOG_BASE, index, UINT8_MAX, 0);
    send_request(t, VHOST_USER_SET_FEATURES, 4 | packed, UINT8_MAX, 0);
    send_request(t, VHOST_USER_SET_VRING_ADDR, index,
                 sizeof(struct vhost_user_hdr)
                 + offsetof(struct vhost_user_vring_addr, flags),
                 VHOST_VRING_F_LOG);
}

static void
act(struct target *t, const uint8_t in[4])
{
    uint8_t action = in[0] % N_ACTIONS;

    switch (action) {
    case BRING_UP:
        bring_up(t, in[1]);
        break;
    case POLL:
        poll_vrings(t);
        break;
    case SCRIBBLE:
        /* Near the beginning of one of the three areas of a vring. */
        t->mem[(in[1] & 3) * SLOT + (in[1] >> 2 & 3) * 0x400 + in[2]] = in[3];
        break;
    case RECONNECT:
        close(t->sock);
        vhu_backend_set_conn(t->backend, new_conn(t));
        break;
    case TRUNCATE:
        if (in[1] & 2) {
            assert(!ftruncate(t->logfd, in[1] & 1 ? 0 : 2 * LOG_SIZE));
            break;
        }
        assert(!ftruncate(t->memfd, in[1] & 1 ? 0 : MEM_SIZE));
        if (in[1] & 1) {
            run(t);
            poll_vrings(t);
            assert(!ftruncate(t->memfd, MEM_SIZE));
        }
        break;
    case LOG:
        begin_logging(t, in[1]);
        break;
    default:
        send_request(t, action, in[1], in[2], in[3]);
        break;
    }
    run(t);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct target t;
    int fds[2];

    vlog_set_levels(NULL, VLF_ANY_DESTINATION, VLL_OFF);
    memset(&t, 0, sizeof t);
    assert(!pipe2(fds, O_CLOEXEC | O_NONBLOCK));
    t.pipefd = fds[1];
    t.eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    t.memfd = memfd_create("fuzz", MFD_CLOEXEC);
    t.logfd = memfd_create("log", MFD_CLOEXEC);
    assert(t.eventfd >= 0 && t.memfd >= 0 && !ftruncate(t.memfd, MEM_SIZE));
    assert(t.logfd >= 0 && !ftruncate(t.logfd, 2 * LOG_SIZE));
    t.mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, t.memfd,
                 0);
    assert(t.mem != MAP_FAILED);
    t.backend = vhu_backend_create("fuzz", new_conn(&t), N_PAIRS, &ops, NULL);

    for (size_t i = 0; i + 4 <= size && i < 4 * 256; i += 4) {
        act(&t, &data[i]);
    }

    vhu_backend_destroy(t.backend);
    munmap(t.mem, MEM_SIZE);
    close(t.sock);
    close(t.memfd);
    close(t.logfd);
    close(t.eventfd);
    close(fds[0]);
    close(fds[1]);
    ovsrcu_quiesce();
    return 0;
}

#ifndef VHU_LIBFUZZER
/* Makes a random input that begins like a good front-end. */
static size_t
random_input(uint8_t data[], size_t max)
{
    size_t n = 4 * (1 + rand() % (max / 4 - 1));

    for (size_t i = 0; i < n; i++) {
        data[i] = rand();
    }
    for (size_t i = 0; i < n; i += 4) {
        if (i < 4 * N_VRINGS) {
            data[i] = BRING_UP;
            data[i + 1] = i / 4 | (data[n - 1] & 8);
        } else if (rand() % 2) {
            data[i] = rand() % 2 ? SCRIBBLE : POLL;
        }
    }
    return n;
}

int
main(int argc, char *argv[])
{
    static uint8_t data[1024];
    size_t n;

    for (int i = 1; i < argc; i++) {
        FILE *stream = fopen(argv[i], "r");

        if (stream) {
            n = fread(data, 1, sizeof data, stream);
            fclose(stream);
            LLVMFuzzerTestOneInput(data, n);
            continue;
        }
        for (int seed = 0; seed < atoi(argv[i]); seed++) {
            srand(seed);
            n = random_input(data, sizeof data);
            LLVMFuzzerTestOneInput(data, n);
        }
    }
    return 0;
}
#endif
