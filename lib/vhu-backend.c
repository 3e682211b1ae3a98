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

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "util.h"
#include "vhu-backend-impl.h"
#include "vhu-conn.h"
#include "vhu-notify.h"
#include "vhu-trace.h"

VLOG_DEFINE_THIS_MODULE(vhu_backend);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(20, 60);

/* Messages of one port: tokens a millisecond, and how many may come at once.
 * QEMU sends about 30 messages to start a queue pair, so 128 of them pass
 * without delay. */
#define TOKEN_RATE 20
#define TOKEN_BURST 4096
#define MSG_COST 1              /* Of any message. */

/* How often we look whether garbage has been collected, in ms. */
#define GARBAGE_INTERVAL 10

static const char blocked_reason[] =
    "an eventfd of the front-end blocks whoever writes to it";

/* Where a request has the index of the vring that it names. */
enum vhu_vring_ref {
    NO_VRING,
    VRING_STATE,                /* struct vhost_user_vring_state. */
    VRING_ADDR,                 /* struct vhost_user_vring_addr. */
    VRING_FD,                   /* 8 bits, with VHOST_USER_VRING_NOFD. */
};

static const struct {
    vhu_backend_handler *function;
    enum vhu_vring_ref ref;
} handlers[VHOST_USER_FE_REQ_MAX] = {
#define HANDLER(NAME, FUNCTION, REF) \
    [VHOST_USER_##NAME] = { vhu_backend_##FUNCTION, REF },
    VHU_BACKEND_HANDLERS
#undef HANDLER
};

static void vhu_backend_close(struct vhu_backend *, const char *fault);
static void vhu_backend_forget_fault(struct vhu_backend *);
static void vhu_backend_reset(struct vhu_backend *);
static void vhu_backend_sync(struct vhu_backend *);
static void vhu_backend_receive(struct vhu_backend *);
static void vhu_backend_handle(struct vhu_backend *, struct vhu_msg *);
static int vhu_backend_find_vring(struct vhu_request *);
static void vhu_backend_reply(struct vhu_request *, int error);

struct vhu_backend *
vhu_backend_create(const char *name, struct vhu_conn *conn,
                   unsigned int n_pairs, const struct vhu_dev_ops *ops,
                   void *aux)
{
    struct vhu_backend *backend = xzalloc(sizeof *backend);

    backend->dev = vhu_dev_create(name, VHU_BACKEND_FEATURES, n_pairs,
                                  ops, aux);
    backend->conn = conn;
    token_bucket_init(&backend->tokens, TOKEN_RATE, TOKEN_BURST);
    backend->trace = vhu_trace_create();
    backend->channel_fd = -1;
    return backend;
}

void
vhu_backend_destroy(struct vhu_backend *backend)
{
    if (!backend) {
        return;
    }

    vhu_conn_destroy(backend->conn);
    vhu_backend_reset(backend);
    vhu_dev_destroy(backend->dev);
    vhu_trace_destroy(backend->trace);
    vhu_backend_forget_fault(backend);
    free(backend->reason);
    free(backend);
}

void
vhu_backend_set_conn(struct vhu_backend *backend, struct vhu_conn *conn)
{
    vhu_conn_destroy(backend->conn);
    vhu_backend_reset(backend);
    vhu_backend_forget_fault(backend);
    backend->conn = conn;
    backend->seqno = 0;
}

void
vhu_backend_run(struct vhu_backend *backend)
{
    struct vhu_dev *dev = backend->dev;

    if (backend->conn) {
        vhu_conn_run(backend->conn);
        vhu_backend_sync(backend);
        vhu_backend_receive(backend);
        vhu_backend_sync(backend);
    }

    vhu_dev_run(dev);
    if (backend->conn
        && (dev->mem_dead || dev->log_dead || dev->blocked)) {
        vhu_backend_close(backend, (dev->blocked
                                    ? blocked_reason
                                    : vhu_dev_get_reason(dev)));
        vhu_backend_sync(backend);
    }
    if (backend->conn && vhu_dev_is_up(dev)) {
        vhu_backend_forget_fault(backend);
        vhu_conn_set_works(backend->conn);
    }
    vhu_dev_report_changes(dev);
}

void
vhu_backend_wait(struct vhu_backend *backend)
{
    if (vhu_dev_has_much_garbage(backend->dev)) {
        poll_timer_wait(GARBAGE_INTERVAL);
    } else if (backend->debt) {
        token_bucket_wait(&backend->tokens, backend->debt);
    } else if (backend->conn) {
        vhu_conn_wait(backend->conn);
    }
    vhu_dev_wait(backend->dev);
}

struct vhu_dev *
vhu_backend_get_dev(const struct vhu_backend *backend)
{
    return backend->dev;
}

struct vhu_conn *
vhu_backend_get_conn(const struct vhu_backend *backend)
{
    return backend->conn;
}

const struct vhu_trace *
vhu_backend_get_trace(const struct vhu_backend *backend)
{
    return backend->trace;
}

bool
vhu_backend_is_up(const struct vhu_backend *backend)
{
    return (backend->conn
            && vhu_conn_is_connected(backend->conn)
            && vhu_dev_is_up(backend->dev));
}

const char *
vhu_backend_get_reason(struct vhu_backend *backend)
{
    bool connected = backend->conn && vhu_conn_is_connected(backend->conn);
    const char *reason = (!backend->conn ? "no socket is configured"
                          : connected ? vhu_dev_get_reason(backend->dev)
                          : vhu_conn_get_reason(backend->conn));

    /* A client connects again at once, and then waits for the same fault. */
    if (reason && connected && backend->fault) {
        free(backend->reason);
        backend->reason = xasprintf("%s; last connection: %s",
                                    reason, backend->fault);
        return backend->reason;
    }
    return reason;
}

void
vhu_backend_disconnect(struct vhu_backend *backend, const char *reason)
{
    if (backend->conn) {
        vhu_conn_disconnect(backend->conn, reason);
        vhu_backend_sync(backend);
    }
}

/* Closes the connection because of 'fault' of the peer, and remembers it. */
static void
vhu_backend_close(struct vhu_backend *backend, const char *fault)
{
    vhu_backend_forget_fault(backend);
    backend->fault = xstrdup(fault);
    vhu_conn_disconnect(backend->conn, fault);
}

static void
vhu_backend_forget_fault(struct vhu_backend *backend)
{
    free(backend->fault);
    backend->fault = NULL;
}

/* Forgets all that belongs to one connection. */
static void
vhu_backend_reset(struct vhu_backend *backend)
{
    vhu_dev_reset(backend->dev);
    if (backend->channel_fd >= 0) {
        close(backend->channel_fd);
        backend->channel_fd = -1;
    }
}

/* Starts from a blank state if the connection came up or went down. */
static void
vhu_backend_sync(struct vhu_backend *backend)
{
    unsigned int seqno = vhu_conn_get_seqno(backend->conn);

    if (seqno != backend->seqno) {
        vhu_trace_connection(backend->trace, seqno & 1,
                             vhu_conn_get_reason(backend->conn));
        backend->seqno = seqno;
        vhu_backend_reset(backend);
    }
}

/* Messages in and out. */

static void
vhu_backend_receive(struct vhu_backend *backend)
{
    for (int i = 0; i < VHU_BACKEND_BURST; i++) {
        struct vhu_msg msg;

        if (backend->debt
            && !token_bucket_withdraw(&backend->tokens, backend->debt)) {
            return;
        }
        if (vhu_dev_has_much_garbage(backend->dev)) {
            return;
        }
        backend->debt = 0;

        if (vhu_conn_recv(backend->conn, &msg)) {
            return;
        }
        backend->debt = MSG_COST;
        vhu_backend_handle(backend, &msg);
        vhu_msg_uninit(&msg);
    }
}

static void
vhu_backend_handle(struct vhu_backend *backend, struct vhu_msg *msg)
{
    struct vhu_dev *dev = backend->dev;
    struct vhu_request req;
    int error, update_error;

    memset(&req, 0, sizeof req);
    req.backend = backend;
    req.msg = msg;
    req.name = vhu_msg_name(msg->hdr.request);
    vhu_msg_init_reply(&req.reply, msg);

    error = vhu_msg_check(msg, dev->protocol_features, dev->name);
    if (!error) {
        VLOG_DBG("%s: %s", dev->name, req.name);
        error = vhu_backend_find_vring(&req);
    }
    if (!error) {
        error = handlers[msg->hdr.request].function(dev, &req);
    }
    update_error = error ? 0 : vhu_dev_update(dev, req.mem_changed);
    error = error ? error : update_error;
    vhu_trace_msg(backend->trace, VHU_TRACE_IN, msg, error,
                  (req.problem || !req.vring ? req.problem
                   : req.vring->problem));

    /* Whoever did not ask whether the vring starts finds out from the error
     * descriptor, or from the operator. */
    if (update_error && !vhu_msg_needs_ack(msg, dev->protocol_features)) {
        error = 0;
    }
    vhu_backend_reply(&req, error);
    free(req.problem);
}

/* Sets 'req->vring', if the request names one.
 *
 * A descriptor that comes with it must be an eventfd, for the kicks too: all
 * front-ends for Linux have them, and of another file we could not say what
 * reading and writing it does. */
static int
vhu_backend_find_vring(struct vhu_request *req)
{
    struct vhu_dev *dev = req->backend->dev;
    const union vhu_payload *payload = &req->msg->payload;
    enum vhu_vring_ref ref = handlers[req->msg->hdr.request].ref;
    uint64_t index = payload->u64 & ~(uint64_t) VHOST_USER_VRING_NOFD;
    unsigned int n = 2 * dev->n_pairs;

    if (ref == NO_VRING) {
        return 0;
    } else if (ref == VRING_STATE) {
        index = payload->vring_state.index;
    } else if (ref == VRING_ADDR) {
        index = payload->vring_addr.index;
    }
    if (index >= n) {
        return vhu_refuse(req, EINVAL, "bad vring index %"PRIu64" (we have %u "
                          "vrings)", index, n);
    }

    if (ref == VRING_FD) {
        bool nofd = payload->u64 & VHOST_USER_VRING_NOFD;

        if (nofd != !req->msg->n_fds) {
            return vhu_refuse(req, EINVAL, "%s file descriptor for vring "
                              "%"PRIu64, nofd ? "unexpected" : "no", index);
        } else if (!nofd && vhu_notify_check_fd(req->msg->fds[0])) {
            return vhu_refuse(req, EBADF, "file descriptor for vring %"PRIu64
                              " is no eventfd", index);
        }
    }

    req->vring = dev->vrings[index];
    req->vring->refused = false;
    dev->n_known = MAX(dev->n_known, index + 1);
    return 0;
}

/* Answers request 'req', which was refused if 'error' is not 0, with the
 * reply that its handler has filled in, an acknowledgement or nothing.  Closes
 * the connection if the front-end cannot learn otherwise that its request was
 * refused. */
static void
vhu_backend_reply(struct vhu_request *req, int error)
{
    struct vhu_backend *backend = req->backend;

    if (vhu_msg_needs_ack(req->msg, backend->dev->protocol_features)) {
        vhu_msg_put_u64(&req->reply, error != 0);
    } else if (error) {
        char *reason = (req->problem
                        ? xasprintf("protocol error: %s: %s", req->name,
                                    req->problem)
                        : xasprintf("protocol error: %s %s",
                                    error == EOPNOTSUPP ? "unsupported"
                                    : "malformed", req->name));

        vhu_backend_close(backend, reason);
        free(reason);
        return;
    } else if (vhu_msg_policy(req->msg->hdr.request)->reply
               != VHU_MSG_REPLY_PAYLOAD) {
        return;
    }
    vhu_trace_msg(backend->trace, VHU_TRACE_OUT, &req->reply, 0, NULL);
    vhu_conn_send(backend->conn, &req->reply);
}

/* Logs why 'req' is refused, with the phrase that 'format' makes, and keeps
 * that for vhu_backend_reply().  Returns 'error'. */
int
vhu_refuse(struct vhu_request *req, int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    req->problem = xvasprintf(format, args);
    va_end(args);

    VLOG_WARN_RL(&rl, "%s: %s: %s", req->backend->dev->name, req->name,
                 req->problem);
    return error;
}

/* Features and the like. */

/* SET_OWNER begins a connection, which has begun already.  RESET_OWNER is
 * deprecated and may be ignored, which is wise, as front-ends have used it for
 * different things.  The dirty log does not need the descriptor of SET_LOG_FD,
 * which is closed with the message. */
int
vhu_backend_ignore(struct vhu_dev *dev OVS_UNUSED,
                   struct vhu_request *req OVS_UNUSED)
{
    return 0;
}

int
vhu_backend_get_features(struct vhu_dev *dev, struct vhu_request *req)
{
    vhu_msg_put_u64(&req->reply, dev->offered);
    return 0;
}

/* While a vring is running nothing may change but VHOST_F_LOG_ALL.  A
 * front-end sends the same again for each queue pair. */
int
vhu_backend_set_features(struct vhu_dev *dev, struct vhu_request *req)
{
    uint64_t features = req->msg->payload.u64;
    uint64_t changed = features ^ dev->features;
    uint64_t fixed = changed & ~VIRTIO_BIT(VHOST_F_LOG_ALL);
    const struct vhu_vring *running = vhu_dev_find_running(dev);

    if (features & ~dev->offered) {
        return vhu_refuse(req, EINVAL, "features 0x%"PRIx64" were not offered",
                          features & ~dev->offered);
    }
    if (fixed && running) {
        return vhu_refuse(req, EBUSY, "features 0x%"PRIx64" change while "
                          "vring %u is running", fixed, running->index);
    }
    if (features & changed & VIRTIO_BIT(VHOST_F_LOG_ALL)) {
        int error = vhu_backend_check_log(req, dev->mem);

        if (error) {
            return error;
        }
    }

    if (changed && !fixed && dev->features_set) {
        VLOG_INFO_RL(&rl, "%s: back-end: dirty logging %s", dev->name,
                     (features & VIRTIO_BIT(VHOST_F_LOG_ALL)
                      ? "starts" : "ends"));
        dev->features = features;
        dev->changed = true;
    } else if (changed || !dev->features_set) {
        VLOG_INFO_RL(&rl, "%s: back-end: connected, features 0x%"PRIx64
                     ", protocol features 0x%"PRIx64,
                     dev->name, features, dev->protocol_features);
        dev->features = features;
        dev->features_set = true;
        dev->changed = true;
    }
    for (unsigned int i = 0; i < 2 * dev->n_pairs; i++) {
        /* "Ring states": without this feature nobody sends
         * SET_VRING_ENABLE. */
        if (!(features & VIRTIO_BIT(VHOST_USER_F_PROTOCOL_FEATURES))) {
            dev->vrings[i]->enabled = true;
        }
        dev->vrings[i]->refused &= !changed;
    }
    return 0;
}

int
vhu_backend_get_protocol_features(struct vhu_dev *dev OVS_UNUSED,
                                  struct vhu_request *req)
{
    vhu_msg_put_u64(&req->reply, VHU_BACKEND_PROTOCOL_FEATURES);
    return 0;
}

int
vhu_backend_set_protocol_features(struct vhu_dev *dev, struct vhu_request *req)
{
    uint64_t features = req->msg->payload.u64;
    uint64_t unknown = features & ~VHU_BACKEND_PROTOCOL_FEATURES;

    if (unknown) {
        return vhu_refuse(req, EINVAL, "protocol features 0x%"PRIx64" were "
                          "not offered", unknown);
    }
    dev->protocol_features = features;
    dev->changed = true;
    return 0;
}

int
vhu_backend_get_queue_num(struct vhu_dev *dev, struct vhu_request *req)
{
    vhu_msg_put_u64(&req->reply, dev->n_pairs);
    return 0;
}

/* Vrings. */

int
vhu_backend_set_vring_num(struct vhu_dev *dev, struct vhu_request *req)
{
    uint64_t features = dev->features_set ? dev->features : dev->offered;
    bool packed = features & VIRTIO_BIT(VIRTIO_F_RING_PACKED);
    uint32_t size = req->msg->payload.vring_state.num;

    if (!size || size > VIRTQ_MAX_SIZE || (!packed && !is_pow2(size))) {
        return vhu_refuse(req, EINVAL, "bad size %"PRIu32" of vring %u "
                          "(expected %s up to %d)", size, req->vring->index,
                          packed ? "a number" : "a power of 2",
                          VIRTQ_MAX_SIZE);
    }
    if (req->vring->running && size != req->vring->size) {
        return vhu_refuse(req, EBUSY, "vring %u is running",
                          req->vring->index);
    }
    req->vring->size = size;
    return 0;
}

/* Checks the addresses in 'req', for a virtqueue of the smallest size if the
 * size is not known yet.  virtq_create() will check them again, but then the
 * front-end has gone on. */
static int
vhu_backend_check_addr(const struct vhu_dev *dev, struct vhu_request *req)
{
    const struct vhost_user_vring_addr *addr = &req->msg->payload.vring_addr;
    struct virtq_config config = vhu_vring_get_config(dev, req->vring, addr);
    char *phrase;
    int error;

    config.size = MAX(config.size, 1);
    if (!virtq_check_log(&config)) {
        return vhu_refuse(req, EINVAL, "vring %u: dirty log does not cover "
                          "the used ring at guest address 0x%"PRIx64,
                          req->vring->index, addr->log);
    }
    error = dev->mem ? virtq_check_areas(&config, &phrase) : 0;
    if (error) {
        vhu_refuse(req, error, "vring %u: %s", req->vring->index, phrase);
        free(phrase);
    }
    return error;
}

int
vhu_backend_set_vring_addr(struct vhu_dev *dev, struct vhu_request *req)
{
    const struct vhost_user_vring_addr *addr = &req->msg->payload.vring_addr;
    struct vhu_vring *vring = req->vring;
    bool log_shmfd = (dev->protocol_features
                      & VIRTIO_BIT(VHOST_USER_PROTOCOL_F_LOG_SHMFD));
    int error;

    if (addr->flags & ~(log_shmfd ? VHOST_VRING_F_LOG : 0)) {
        return vhu_refuse(req, EINVAL, "flags 0x%"PRIx32" for vring %u "
                          "(expected 0%s)", addr->flags, vring->index,
                          (log_shmfd ? " or 1"
                           : ": a dirty log was not negotiated"));
    }
    error = vhu_backend_check_addr(dev, req);
    if (!error && addr->flags) {
        error = vhu_backend_check_log(req, dev->mem);
    }
    if (error) {
        return error;
    }

    vring->rebuild = (vring->running
                      && (vring->addr.desc != addr->desc
                          || vring->addr.avail != addr->avail
                          || vring->addr.used != addr->used));
    vring->addr = *addr;
    vring->has_addr = true;
    return 0;
}

int
vhu_backend_set_vring_base(struct vhu_dev *dev, struct vhu_request *req)
{
    uint32_t base = req->msg->payload.vring_state.num;

    if (req->vring->running) {
        return vhu_refuse(req, EBUSY, "vring %u is running",
                          req->vring->index);
    }
    if (vhu_vring_set_base(dev, req->vring, base)) {
        return vhu_refuse(req, EINVAL, "bad base %"PRIu32" of vring %u "
                          "(expected 16 bits)", base, req->vring->index);
    }
    return 0;
}

int
vhu_backend_get_vring_base(struct vhu_dev *dev, struct vhu_request *req)
{
    struct vhost_user_vring_state *state = &req->reply.payload.vring_state;

    vhu_vring_stop(dev, req->vring);
    state->index = req->vring->index;
    state->num = vhu_vring_get_base(dev, req->vring);
    req->reply.hdr.size = sizeof *state;
    return 0;
}

int
vhu_backend_set_vring_kick(struct vhu_dev *dev, struct vhu_request *req)
{
    vhu_vring_set_kick_fd(req->vring, vhu_msg_take_fd(req->msg, 0));
    req->vring->started = true;
    dev->changed = true;
    return 0;
}

int
vhu_backend_set_vring_call(struct vhu_dev *dev, struct vhu_request *req)
{
    vhu_vring_set_call_fd(dev, req->vring, vhu_msg_take_fd(req->msg, 0));
    return 0;
}

int
vhu_backend_set_vring_err(struct vhu_dev *dev OVS_UNUSED,
                          struct vhu_request *req)
{
    vhu_vring_set_err_fd(req->vring, vhu_msg_take_fd(req->msg, 0));
    return 0;
}

/* QEMU sends this before SET_FEATURES, too. */
int
vhu_backend_set_vring_enable(struct vhu_dev *dev, struct vhu_request *req)
{
    uint32_t enable = req->msg->payload.vring_state.num;

    if (enable > 1) {
        return vhu_refuse(req, EINVAL, "bad state %"PRIu32" of vring %u "
                          "(expected 0 or 1)", enable, req->vring->index);
    }
    dev->changed |= req->vring->enabled != enable;
    req->vring->enabled = enable;
    return 0;
}

/* Network device. */

int
vhu_backend_send_rarp(struct vhu_dev *dev, struct vhu_request *req)
{
    dev->ops->send_rarp(req->msg->payload.bytes, dev->aux);
    return 0;
}

/* QEMU sends this before SET_FEATURES, so it cannot depend on
 * VIRTIO_NET_F_MTU. */
int
vhu_backend_net_set_mtu(struct vhu_dev *dev, struct vhu_request *req)
{
    uint64_t mtu = req->msg->payload.u64;
    int error;

    if (mtu < VIRTIO_NET_MIN_MTU || mtu > VIRTIO_NET_MAX_MTU) {
        return vhu_refuse(req, EINVAL, "bad MTU %"PRIu64" (expected %d to %d)",
                          mtu, VIRTIO_NET_MIN_MTU, VIRTIO_NET_MAX_MTU);
    }
    error = dev->ops->set_mtu(mtu, dev->aux);
    if (error) {
        return vhu_refuse(req, error, "MTU %"PRIu64" is not possible here "
                          "(%s)", mtu, ovs_strerror(error));
    }
    dev->mtu = mtu;
    dev->changed = true;
    return 0;
}

/* Device. */

int
vhu_backend_set_backend_req_fd(struct vhu_dev *dev OVS_UNUSED,
                               struct vhu_request *req)
{
    struct vhu_backend *backend = req->backend;

    if (backend->channel_fd >= 0) {
        close(backend->channel_fd);
    }
    backend->channel_fd = vhu_msg_take_fd(req->msg, 0);
    return 0;
}

/* Stops and disables all vrings.  The memory table stays, since a front-end
 * that sends only what changes in it does not send it again, and so do the
 * error descriptors, which QEMU sends only once. */
int
vhu_backend_reset_device(struct vhu_dev *dev,
                         struct vhu_request *req OVS_UNUSED)
{
    for (unsigned int i = 0; i < 2 * dev->n_pairs; i++) {
        vhu_vring_stop(dev, dev->vrings[i]);
        dev->vrings[i]->enabled = false;
    }
    dev->status = 0;
    dev->changed = true;
    return 0;
}

/* Status 0 is a reset of the device.  QEMU sends it after the last vring has
 * stopped, and does not enable the vrings again that it had enabled. */
int
vhu_backend_set_status(struct vhu_dev *dev, struct vhu_request *req)
{
    uint64_t status = req->msg->payload.u64;

    if (status > UINT8_MAX) {
        return vhu_refuse(req, EINVAL, "bad status 0x%"PRIx64" (expected 8 "
                          "bits)", status);
    }
    dev->status = status;
    for (unsigned int i = 0; !status && i < 2 * dev->n_pairs; i++) {
        vhu_vring_stop(dev, dev->vrings[i]);
    }
    return 0;
}

int
vhu_backend_get_status(struct vhu_dev *dev, struct vhu_request *req)
{
    bool broken = vhu_dev_is_broken(dev);

    vhu_msg_put_u64(&req->reply, (dev->status
                                  | (broken ? VIRTIO_STATUS_NEEDS_RESET : 0)));
    return 0;
}
