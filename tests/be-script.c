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

#include "be-script.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "openvswitch/poll-loop.h"
#include "ovs-rcu.h"
#include "timeval.h"
#include "util.h"
#include "vhu-conn.h"
#include "vhu-dev.h"
#include "vhu-mem.h"

static void serve(struct be *, struct be_msg *);
static void reply(struct be *, const struct be_msg *, enum be_fault);

const char *
be_fault_name(enum be_fault fault)
{
    static const char *const names[] = {
#define BE_FAULT(NAME) #NAME,
        BE_FAULTS
#undef BE_FAULT
    };

    return names[fault];
}

/* The front-end's user. */

static void
on_changed(void *be_)
{
    struct be *be = be_;

    be->n_changed++;
}

static void
on_config_changed(void *be_)
{
    struct be *be = be_;

    be->n_config_changed++;
}

static void
on_done(enum vhu_fe_op op, int error, const char *reason, void *be_)
{
    struct be *be = be_;

    be->n_done[op]++;
    be->done_error[op] = error;
    free(be->done_reason[op]);
    be->done_reason[op] = nullable_xstrdup(reason);
}

static const struct vhu_frontend_ops be_ops = {
    .changed = on_changed,
    .config_changed = on_config_changed,
    .done = on_done,
};

/* Life. */

struct vhu_frontend_config
be_config(unsigned int n_pairs)
{
    return (struct vhu_frontend_config) {
        .features = VHU_FRONTEND_FEATURES & ~VIRTIO_BIT(VIRTIO_F_RING_PACKED),
        .protocol_features = VHU_FRONTEND_PROTOCOL_FEATURES,
        .n_pairs = n_pairs,
        .queue_size = 16,
        .buf_size = 2048,
        .timeout = 200,
    };
}

static void
forget_session(struct be *be)
{
    int *fds[] = { &be->sock, &be->channel, &be->mem_fd };

    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        if (*fds[i] >= 0) {
            close(*fds[i]);
        }
        *fds[i] = -1;
    }
    for (int i = 0; i < VHOST_USER_MAX_VRINGS; i++) {
        struct be_vring *vring = &be->vrings[i];
        int *vring_fds[] = { &vring->kick, &vring->call, &vring->err };

        for (size_t j = 0; j < ARRAY_SIZE(vring_fds); j++) {
            if (*vring_fds[j] >= 0) {
                close(*vring_fds[j]);
            }
        }
        memset(vring, 0, sizeof *vring);
        vring->kick = vring->call = vring->err = -1;
    }
    if (be->mem) {
        munmap(be->mem, be->region.size);
        be->mem = NULL;
    }
    if (be->dirty) {
        munmap(be->dirty, be->dirty_size);
        be->dirty = NULL;
    }
    be->acked = be->protocol_acked = be->status = 0;
}

void
be_init(struct be *be, const struct vhu_frontend_config *config)
{
    memset(be, 0, sizeof *be);
    be->sock = be->channel = be->mem_fd = be->inflight_fd = -1;
    for (int i = 0; i < VHOST_USER_MAX_VRINGS; i++) {
        struct be_vring *vring = &be->vrings[i];

        vring->kick = vring->call = vring->err = -1;
    }
    be->features = BE_FEATURES;
    be->protocol_features = (VHU_FRONTEND_PROTOCOL_FEATURES
                             & ~VIRTIO_BIT(
                                 VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD));
    be->queue_num = 4;
    be->mem_slots = 8;
    be->config_size = sizeof(struct virtio_net_config);
    be->status_mask = UINT64_MAX;
    be->die_after = -1;
    ds_init(&be->log);
    be->fe = vhu_frontend_create("vhu0", NULL, config, &be_ops, be);
}

void
be_uninit(struct be *be)
{
    vhu_frontend_destroy(be->fe);
    forget_session(be);
    if (be->inflight_fd >= 0) {
        close(be->inflight_fd);
    }
    ds_destroy(&be->log);
    for (int i = 0; i < VHU_FE_N_OPS; i++) {
        free(be->done_reason[i]);
    }
}

/* Gives the front-end a new connection. */
void
be_connect(struct be *be)
{
    int fds[2];

    forget_session(be);
    be->n_msgs = 0;
    assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    be->sock = fds[0];
    vhu_frontend_set_conn(be->fe, vhu_conn_create_fd("vhu0", fds[1]));
}

void
be_hang_up(struct be *be)
{
    forget_session(be);
}

/* Messages. */

/* Reads a message, if there is one.  The descriptors come with its first
 * byte. */
static bool
take(int sock, struct be_msg *msg)
{
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(sizeof msg->fds)];
    } control;
    struct iovec iov = { .iov_base = &msg->hdr, .iov_len = sizeof msg->hdr };
    struct msghdr mh = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof control,
    };
    struct cmsghdr *cmsg;

    memset(msg, 0, sizeof *msg);
    if (recvmsg(sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)
        != sizeof msg->hdr) {
        return false;
    }
    cmsg = CMSG_FIRSTHDR(&mh);
    if (cmsg) {
        msg->n_fds = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof msg->fds[0];
        memcpy(msg->fds, CMSG_DATA(cmsg), msg->n_fds * sizeof msg->fds[0]);
    }
    assert(msg->hdr.size <= sizeof msg->bytes);
    assert(!msg->hdr.size
           || (recv(sock, msg->bytes, msg->hdr.size, MSG_DONTWAIT)
               == msg->hdr.size));
    return true;
}

static void
put(int sock, const struct vhost_user_hdr *hdr, const void *payload,
    size_t size, const int *fds, int n_fds)
{
    struct iovec iov[] = {
        { .iov_base = CONST_CAST(void *, hdr), .iov_len = sizeof *hdr },
        { .iov_base = CONST_CAST(void *, payload), .iov_len = size },
    };
    struct msghdr mh = { .msg_iov = iov, .msg_iovlen = 2 };
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(8 * sizeof(int))];
    } control;

    if (n_fds) {
        memset(&control, 0, sizeof control);
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        control.align.cmsg_len = CMSG_LEN(n_fds * sizeof *fds);
        memcpy(CMSG_DATA(&control.align), fds, n_fds * sizeof *fds);
        mh.msg_control = &control;
        mh.msg_controllen = CMSG_SPACE(n_fds * sizeof *fds);
    }
    sendmsg(sock, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Answers all that is there.  Returns how many messages that were. */
static int
be_run(struct be *be)
{
    struct be_msg msg;
    int n = 0;

    while (be->sock >= 0 && take(be->sock, &msg)) {
        n++;
        be->n_msgs++;
        serve(be, &msg);
        for (int i = 0; i < msg.n_fds; i++) {
            if (msg.fds[i] >= 0) {
                close(msg.fds[i]);
            }
        }
        if (be->n_msgs == be->die_after) {
            be_hang_up(be);
        }
    }
    return n;
}

void
be_turn(struct be *be)
{
    for (int quiet = 0; quiet < 3; quiet++) {
        vhu_mem_clear_dead();
        vhu_frontend_run(be->fe);
        if (be_run(be)) {
            quiet = -1;
        }
        ovsrcu_quiesce();
    }
}

void
be_loop(struct be *be, int ms)
{
    long long int end = time_msec() + ms;

    while (time_msec() < end) {
        vhu_mem_clear_dead();
        vhu_frontend_run(be->fe);
        be_run(be);
        vhu_frontend_wait(be->fe);
        vhu_mem_wait_dead();
        if (be->sock >= 0) {
            poll_fd_wait(be->sock, POLLIN);
        }
        poll_timer_wait_until(end);
        poll_block();
    }
}

void
be_start(struct be *be)
{
    if (be->sock < 0) {
        be_connect(be);
    }
    vhu_frontend_start(be->fe);
    be_turn(be);
}

void
be_up(struct be *be)
{
    be_start(be);
    if (!vhu_frontend_is_up(be->fe)) {
        ovs_fatal(0, "not up: %s", vhu_frontend_get_reason(be->fe));
    }
}

void
be_forget_log(struct be *be)
{
    ds_clear(&be->log);
}

void
be_print_reason(struct be *be, const char *what)
{
    const char *reason = vhu_frontend_get_reason(be->fe);

    printf("%s: %s\n", what, reason ? reason : "up");
}

void
be_print_done(struct be *be, enum vhu_fe_op op)
{
    printf("%s: %d, %s\n", vhu_fe_op_to_string(op), be->n_done[op],
           !be->n_done[op] ? "not done"
           : be->done_error[op] ? be->done_reason[op]
           : "ok");
}

void
be_print_log(struct be *be)
{
    fputs(ds_cstr(&be->log), stdout);
    be_forget_log(be);
}

int
be_n_published(const struct be *be)
{
    int n = 0;

    for (unsigned int i = 0; i < VHOST_USER_MAX_VRINGS; i++) {
        const struct vhu_fe_vring *vring = vhu_frontend_get_vring(be->fe, i);

        n += ovsrcu_get(struct virtq_drv *, &vring->vq) != NULL;
    }
    return n;
}

void
be_transmit(struct be *be, unsigned int pair, unsigned int n)
{
    struct vhu_fe_vring *vring
        = vhu_frontend_get_vring(be->fe, vhu_transmitq_vring(pair));
    struct virtq_drv *vq = vhu_fe_vring_lock(vring);
    struct virtq_chain packets[16];
    uint32_t sizes[16];

    assert(vq && n <= 16);
    for (unsigned int i = 0; i < n; i++) {
        sizes[i] = 60;
    }
    assert(virtq_drv_reserve(vq, sizes, packets, n) == n);
    for (unsigned int i = 0; i < n; i++) {
        memset(packets[i].segs[0].va, 0, packets[i].segs[0].len);
    }
    virtq_drv_publish_avail(vq);
    virtq_drv_kick(vq);
    vhu_fe_vring_unlock(vring);
}

/* What the requests mean. */

static const char *
request_name(uint32_t request)
{
    switch (request) {
#define VHOST_USER_FE_REQ(NAME, NUMBER) case NUMBER: return #NAME;
    VHOST_USER_FE_REQS
#undef VHOST_USER_FE_REQ
    default: return "?";
    }
}

/* Writes down 'msg', with 'arg' unless it is null. */
static void
note(struct be *be, const struct be_msg *msg, const char *format, ...)
{
    va_list args;

    if (be->quiet) {
        return;
    }
    ds_put_cstr(&be->log, request_name(msg->hdr.request));
    va_start(args, format);
    ds_put_format_valist(&be->log, format, args);
    va_end(args);
    ds_put_cstr(&be->log, msg->n_fds ? " +fd\n" : "\n");
}

static int
take_fd(struct be_msg *msg, int *fdp)
{
    if (*fdp >= 0) {
        close(*fdp);
    }
    *fdp = msg->n_fds ? msg->fds[0] : -1;
    msg->fds[0] = -1;
    return *fdp;
}

static void
map_memory(struct be *be, struct be_msg *msg,
           const struct vhost_user_mem_region *region)
{
    if (be->mem) {
        munmap(be->mem, be->region.size);
    }
    assert(msg->n_fds == 1);
    be->region = *region;
    be->mem = mmap(NULL, region->size, PROT_READ | PROT_WRITE, MAP_SHARED,
                   msg->fds[0], region->mmap_offset);
    assert(be->mem != MAP_FAILED);
    take_fd(msg, &be->mem_fd);
}

static void
serve_vring(struct be *be, struct be_msg *msg)
{
    unsigned int index = msg->u64 & 0xff;
    struct be_vring *vring = &be->vrings[index];

    switch (msg->hdr.request) {
    case VHOST_USER_SET_VRING_NUM:
        vring->size = msg->state.num;
        break;
    case VHOST_USER_SET_VRING_BASE:
        vring->base = msg->state.num;
        break;
    case VHOST_USER_SET_VRING_ENABLE:
        vring->enabled = msg->state.num;
        break;
    case VHOST_USER_GET_VRING_BASE:
        msg->state.num = vring->base;
        if (be->half_base) {
            msg->state.num &= 0xffff;
        }
        vring->started = false;
        note(be, msg, " %u", index);
        return;
    case VHOST_USER_SET_VRING_ADDR:
        vring->addr = msg->addr;
        note(be, msg, " %u%s", index, (msg->addr.flags ? " log" : ""));
        return;
    case VHOST_USER_SET_VRING_KICK:
        take_fd(msg, &vring->kick);
        vring->nofd_kick = msg->u64 & VHOST_USER_VRING_NOFD;
        vring->started = true;
        note(be, msg, " %u", index);
        return;
    case VHOST_USER_SET_VRING_CALL:
        take_fd(msg, &vring->call);
        vring->nofd_call = msg->u64 & VHOST_USER_VRING_NOFD;
        note(be, msg, " %u%s", index, vring->nofd_call ? " none" : "");
        return;
    case VHOST_USER_SET_VRING_ERR:
        take_fd(msg, &vring->err);
        note(be, msg, " %u", index);
        return;
    }
    note(be, msg, " %u %"PRIu32, index, msg->state.num);
}

static void
serve_config(struct be *be, struct be_msg *msg)
{
    note(be, msg, " %"PRIu32" bytes at %"PRIu32, msg->config.size,
         msg->config.offset);
    if (msg->hdr.request == VHOST_USER_SET_CONFIG) {
        memcpy(&be->config[msg->config.offset], msg->config.payload,
               msg->config.size);
        be->config_offset = msg->config.offset;
        be->config_flags = msg->config.flags;
    } else {
        msg->config.size = be->config_size;
        memcpy(msg->config.payload, be->config, be->config_size);
        msg->hdr.size = (be->config_size
                         ? offsetof(struct vhost_user_config, payload)
                           + be->config_size
                         : 0);
    }
}

/* Puts the answer to a request that has one into 'msg'. */
static bool
serve_get(struct be *be, struct be_msg *msg)
{
    struct stat s;

    switch (msg->hdr.request) {
    case VHOST_USER_GET_FEATURES:
        msg->u64 = be->features;
        break;
    case VHOST_USER_GET_PROTOCOL_FEATURES:
        msg->u64 = be->protocol_features;
        break;
    case VHOST_USER_GET_QUEUE_NUM:
        msg->u64 = be->queue_num;
        break;
    case VHOST_USER_GET_MAX_MEM_SLOTS:
        msg->u64 = be->mem_slots;
        break;
    case VHOST_USER_GET_STATUS:
        msg->u64 = be->status & be->status_mask;
        break;
    case VHOST_USER_GET_CONFIG:
        serve_config(be, msg);
        return true;
    case VHOST_USER_GET_VRING_BASE:
        serve_vring(be, msg);
        return true;
    case VHOST_USER_SET_LOG_BASE:
        note(be, msg, " %"PRIu64, msg->log.size);
        if (be->dirty) {
            munmap(be->dirty, be->dirty_size);
        }
        assert(msg->n_fds == 1 && !fstat(msg->fds[0], &s)
               && s.st_size >= msg->log.size);
        be->dirty_size = msg->log.size;
        be->dirty = mmap(NULL, be->dirty_size, PROT_READ | PROT_WRITE,
                         MAP_SHARED, msg->fds[0], msg->log.offset);
        assert(be->dirty != MAP_FAILED);
        msg->u64 = be->fault == BE_NACK && be->request == msg->hdr.request;
        msg->hdr.size = be->log_payload ? 8 : 0;
        return true;
    case VHOST_USER_GET_INFLIGHT_FD:
        note(be, msg, " %"PRIu16" of %"PRIu16, msg->inflight.num_queues,
             msg->inflight.queue_size);
        if (be->inflight_fd < 0) {
            be->inflight_fd = memfd_create("inflight", MFD_CLOEXEC);
            assert(be->inflight_fd >= 0
                   && !ftruncate(be->inflight_fd, 4096));
        }
        msg->inflight.mmap_size = 4096;
        msg->inflight.mmap_offset = 0;
        msg->hdr.size = sizeof msg->inflight;
        return true;
    default:
        return false;
    }
    note(be, msg, "");
    msg->hdr.size = sizeof msg->u64;
    return true;
}

static void
serve_set(struct be *be, struct be_msg *msg)
{
    switch (msg->hdr.request) {
    case VHOST_USER_SET_FEATURES:
        be->acked = msg->u64;
        note(be, msg, msg->u64 & VIRTIO_BIT(VHOST_F_LOG_ALL) ? " log" : "");
        break;
    case VHOST_USER_SET_PROTOCOL_FEATURES:
        be->protocol_acked = msg->u64;
        note(be, msg, "");
        break;
    case VHOST_USER_SET_STATUS:
        be->status = msg->u64;
        note(be, msg, " 0x%"PRIx64, msg->u64);
        break;
    case VHOST_USER_NET_SET_MTU:
        be->mtu = msg->u64;
        note(be, msg, " %"PRIu64, msg->u64);
        break;
    case VHOST_USER_SEND_RARP:
        memcpy(be->mac, msg->bytes, sizeof be->mac);
        note(be, msg, "");
        break;
    case VHOST_USER_SET_CONFIG:
        serve_config(be, msg);
        break;
    case VHOST_USER_SET_BACKEND_REQ_FD:
        note(be, msg, "");
        take_fd(msg, &be->channel);
        break;
    case VHOST_USER_SET_INFLIGHT_FD:
        note(be, msg, "");
        assert(msg->n_fds == 1 && msg->inflight.mmap_size == 4096);
        take_fd(msg, &be->inflight_fd);
        break;
    case VHOST_USER_SET_MEM_TABLE:
        assert(msg->table.n_regions == 1);
        note(be, msg, "");
        map_memory(be, msg, &msg->table.regions[0]);
        break;
    case VHOST_USER_ADD_MEM_REG:
        note(be, msg, "");
        map_memory(be, msg, &msg->region.region);
        break;
    case VHOST_USER_SET_VRING_NUM:
    case VHOST_USER_SET_VRING_BASE:
    case VHOST_USER_SET_VRING_ADDR:
    case VHOST_USER_SET_VRING_KICK:
    case VHOST_USER_SET_VRING_CALL:
    case VHOST_USER_SET_VRING_ERR:
    case VHOST_USER_SET_VRING_ENABLE:
        serve_vring(be, msg);
        break;
    default:
        note(be, msg, "");
        break;
    }
}

static void
serve(struct be *be, struct be_msg *msg)
{
    enum be_fault fault = BE_NONE;
    uint32_t flags = msg->hdr.flags;
    bool has_reply;

    assert((flags & ~VHOST_USER_FLAG_NEED_REPLY) == VHOST_USER_VERSION);
    if (be->fault && msg->hdr.request == be->request && !be->nth--) {
        fault = be->fault;
    }
    has_reply = serve_get(be, msg);
    if (!has_reply) {
        serve_set(be, msg);
    }
    msg->hdr.flags = VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY;
    if (!has_reply && flags & VHOST_USER_FLAG_NEED_REPLY) {
        assert(be->protocol_acked
               & VIRTIO_BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK));
        msg->u64 = fault == BE_NACK;
        msg->hdr.size = sizeof msg->u64;
        has_reply = true;
    }
    if (fault == BE_PAYLOAD) {
        msg->bytes[msg->hdr.request == VHOST_USER_GET_INFLIGHT_FD ? 16 : 0]++;
    }
    if (fault == BE_CLOSE || (fault && !has_reply)) {
        be_hang_up(be);
    } else if (has_reply) {
        reply(be, msg, fault);
    }
}

/* Sends 'msg', which is a reply, but wrong. */
static void
reply(struct be *be, const struct be_msg *msg, enum be_fault fault)
{
    struct vhost_user_hdr hdr = msg->hdr;
    int fds[] = { be->sock, be->sock, be->sock };
    size_t size = hdr.size;
    int n_fds = 0;

    if (hdr.request == VHOST_USER_GET_INFLIGHT_FD) {
        fds[0] = be->inflight_fd;
        n_fds = 1;
    }
    switch (fault) {
    case BE_NONE:
    case BE_NACK:
    case BE_CLOSE:
    case BE_PAYLOAD:
        break;
    case BE_SILENT:
        return;
    case BE_HALF:
        size /= 2;
        break;
    case BE_WRONG_ID:
        hdr.request = VHOST_USER_SET_OWNER;
        break;
    case BE_WRONG_FLAGS:
        hdr.flags = VHOST_USER_VERSION;
        break;
    case BE_NEED_REPLY:
        hdr.flags |= VHOST_USER_FLAG_NEED_REPLY;
        break;
    case BE_SHORT:
        hdr.size = --size;
        break;
    case BE_LONG:
        hdr.size = ++size;
        break;
    case BE_HUGE_SIZE:
        hdr.size = UINT32_MAX;
        break;
    case BE_FDS:
        n_fds = ARRAY_SIZE(fds);
        break;
    case BE_TWICE:
        put(be->sock, &hdr, msg->bytes, size, fds, n_fds);
        break;
    }
    put(be->sock, &hdr, msg->bytes, size, fds, n_fds);
}

/* The back-end channel. */

void
be_channel_send(struct be *be, uint32_t request, uint32_t flags,
                const void *payload, size_t size, int n_fds)
{
    struct vhost_user_hdr hdr = { request, VHOST_USER_VERSION | flags, size };
    const int fds[] = { be->sock, be->sock, be->sock };

    assert(be->channel >= 0);
    put(be->channel, &hdr, payload, size, fds, n_fds);
}

/* Returns the acknowledgement of 'request', BE_NO_REPLY or BE_CLOSED. */
int
be_channel_recv(struct be *be, uint32_t request)
{
    struct be_msg msg;
    char c;

    if (recv(be->channel, &c, 1, MSG_PEEK | MSG_DONTWAIT) == 0) {
        return BE_CLOSED;
    } else if (!take(be->channel, &msg)) {
        return BE_NO_REPLY;
    }
    assert(msg.hdr.request == request);
    assert(msg.hdr.flags == (VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY));
    assert(msg.hdr.size == sizeof msg.u64);
    return msg.u64;
}
