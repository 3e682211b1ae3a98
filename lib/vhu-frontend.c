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

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "seq.h"
#include "timeval.h"
#include "util.h"
#include "vhu-conn.h"
#include "vhu-frontend-impl.h"
#include "vhu-trace.h"

VLOG_DEFINE_THIS_MODULE(vhu_frontend);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(20, 60);

/* How often we look whether the back-end reports an error, in ms: it may do so
 * without end. */
#define ERROR_INTERVAL 100

/* For a front-end that is being destroyed. */
static const struct vhu_frontend_ops no_ops;

static void read_errors(struct vhu_frontend *);
static void sync_conn(struct vhu_frontend *);
static void reset(struct vhu_frontend *, int error, const char *reason);
static void forget_fault(struct vhu_frontend *);
static void forget_device(struct vhu_frontend *);

const char *
vhu_fe_op_to_string(enum vhu_fe_op op)
{
    switch (op) {
#define VHU_FE_OP(NAME, TEXT) case VHU_FE_OP_##NAME: return TEXT;
    VHU_FE_OPS
#undef VHU_FE_OP
    case VHU_FE_N_OPS:
        return "unwinding";
    }
    return "unknown operation";
}

/* Life. */

struct vhu_frontend *
vhu_frontend_create(const char *name, struct vhu_conn *conn,
                    const struct vhu_frontend_config *config,
                    const struct vhu_frontend_ops *ops, void *aux)
{
    struct vhu_frontend *fe = xzalloc(sizeof *fe);

    fe->name = xstrdup(name);
    fe->ops = ops;
    fe->aux = aux;
    fe->config = *config;
    fe->conn = conn;
    fe->trace = vhu_trace_create();
    fe->wakeup = seq_create();
    fe->wakeup_seqno = seq_read(fe->wakeup);
    fe->run.op = -1;
    fe->err_fd = -1;
    fe->inflight.fd = -1;
    for (unsigned int i = 0; i < VHOST_USER_MAX_VRINGS; i++) {
        fe->vrings[i] = vhu_fe_vring_create(i);
        fe->want_enabled[i / 2] = true;
    }
    return fe;
}

void
vhu_frontend_destroy(struct vhu_frontend *fe)
{
    if (!fe) {
        return;
    }

    fe->ops = &no_ops;
    vhu_conn_destroy(fe->conn);
    fe->conn = NULL;
    reset(fe, ENOTCONN, "");
    forget_device(fe);
    for (unsigned int i = 0; i < VHOST_USER_MAX_VRINGS; i++) {
        vhu_fe_vring_destroy(fe->vrings[i]);
    }
    if (fe->err_fd >= 0) {
        close(fe->err_fd);
    }
    vhu_trace_destroy(fe->trace);
    seq_destroy(fe->wakeup);
    free(fe->mtu_error);
    free(fe->fault);
    free(fe->reason);
    free(fe->name);
    free(fe);
}

void
vhu_frontend_set_conn(struct vhu_frontend *fe, struct vhu_conn *conn)
{
    vhu_conn_destroy(fe->conn);
    fe->conn = conn;
    fe->seqno = 0;
    reset(fe, ENOTCONN, "connection replaced");
    forget_fault(fe);
    fe->n_failures = 0;
}

void
vhu_frontend_set_config(struct vhu_frontend *fe,
                        const struct vhu_frontend_config *config,
                        const char *reason)
{
    const struct vhu_frontend_config *old = &fe->config;

    if (old->features == config->features
        && old->needed_features == config->needed_features
        && old->look_only == config->look_only
        && old->protocol_features == config->protocol_features
        && old->n_pairs == config->n_pairs
        && old->queue_size == config->queue_size
        && old->buf_size == config->buf_size
        && old->hugepages == config->hugepages
        && old->poll_kick == config->poll_kick
        && old->keep_rings == config->keep_rings
        && old->timeout == config->timeout) {
        return;
    }
    vhu_frontend_disconnect(fe, reason);
    forget_device(fe);
    forget_fault(fe);
    fe->n_failures = 0;
    fe->config = *config;
}

void
vhu_frontend_disconnect(struct vhu_frontend *fe, const char *reason)
{
    if (fe->conn) {
        vhu_conn_disconnect(fe->conn, reason);
        sync_conn(fe);
    }
}

void
vhu_frontend_run(struct vhu_frontend *fe)
{
    fe->wakeup_seqno = seq_read(fe->wakeup);
    if (fe->conn) {
        char *fault;

        vhu_conn_run(fe->conn);
        sync_conn(fe);
        vhu_fe_run_replies(fe);
        sync_conn(fe);
        vhu_fe_channel_run(fe);

        fault = vhu_fe_vrings_check(fe);
        if (fault) {
            vhu_fe_fail(fe, fault);
            free(fault);
        }
        if (fe->started) {
            vhu_conn_set_works(fe->conn);
            if (time_msec() >= fe->next_error) {
                read_errors(fe);
            }
        }
        vhu_fe_run_steps(fe);
        sync_conn(fe);
    }
    if (fe->changed) {
        fe->changed = false;
        if (fe->ops->changed) {
            fe->ops->changed(fe->aux);
        }
    }
}

void
vhu_frontend_wait(struct vhu_frontend *fe)
{
    seq_wait(fe->wakeup, fe->wakeup_seqno);
    if (fe->changed) {
        poll_immediate_wake();
    }
    if (fe->conn) {
        vhu_conn_wait(fe->conn);
        vhu_fe_run_wait(fe);
        vhu_fe_channel_wait(fe);
        if (fe->started && time_msec() < fe->next_error) {
            poll_timer_wait_until(fe->next_error);
        } else if (fe->started) {
            poll_fd_wait(fe->err_fd, POLLIN);
        }
    }
}

static void
read_errors(struct vhu_frontend *fe)
{
    uint64_t n = vhu_fe_read_eventfd(fe->err_fd);

    if (n) {
        VLOG_WARN_RL(&rl, "%s: back-end reports an error in a virtqueue",
                     fe->name);
        fe->n_errors += n;
        fe->next_error = time_msec() + ERROR_INTERVAL;
    }
}

void
vhu_frontend_kick_control(struct vhu_frontend *fe)
{
    seq_change(fe->wakeup);
}

/* For the other parts. */

/* Returns the number of vrings that are in use. */
unsigned int
vhu_fe_n_vrings(const struct vhu_frontend *fe)
{
    return 2 * fe->info.n_pairs;
}

/* Return true if protocol feature or feature 'bit' was negotiated. */
bool
vhu_fe_has_protocol(const struct vhu_frontend *fe, int bit)
{
    return (fe->info.protocol_features & VIRTIO_BIT(bit)) != 0;
}

bool
vhu_fe_has_feature(const struct vhu_frontend *fe, int bit)
{
    return (fe->info.features & VIRTIO_BIT(bit)) != 0;
}

bool
vhu_fe_knows_mtu(const struct vhu_frontend *fe)
{
    return (vhu_fe_has_feature(fe, VIRTIO_NET_F_MTU)
            && vhu_fe_has_protocol(fe, VHOST_USER_PROTOCOL_F_NET_MTU));
}

/* Closes the connection because of 'fault' of the back-end, and leaves it
 * alone for a while. */
void
vhu_fe_fail(struct vhu_frontend *fe, const char *fault)
{
    VLOG_WARN_RL(&rl, "%s: %s", fe->name, fault);
    free(fe->fault);
    fe->fault = xstrdup(fault);
    vhu_fe_run_abort(fe, EPROTO, fault);
    vhu_conn_disconnect(fe->conn, fault);
    vhu_fe_hold(fe);
    sync_conn(fe);
}

/* Backs off after an attempt that failed. */
void
vhu_fe_hold(struct vhu_frontend *fe)
{
    int ms = VHU_FRONTEND_MIN_HOLD;

    for (unsigned int i = 0; i < fe->n_failures; i++) {
        ms = MIN(2 * ms, VHU_FRONTEND_MAX_HOLD);
    }
    fe->n_failures++;
    vhu_conn_hold(fe->conn, ms);
}

void
vhu_fe_done(struct vhu_frontend *fe, int op, int error, const char *reason)
{
    fe->changed = true;
    if (fe->ops->done) {
        fe->ops->done(op, error, reason, fe->aux);
    }
}

/* Notices that the connection came up or went down. */
static void
sync_conn(struct vhu_frontend *fe)
{
    unsigned int seqno = vhu_conn_get_seqno(fe->conn);

    if (seqno != fe->seqno) {
        const char *reason = vhu_conn_get_reason(fe->conn);

        fe->seqno = seqno;
        vhu_trace_connection(fe->trace, seqno & 1, reason);
        reset(fe, ENOTCONN, reason);
    }
}

/* Forgets all that belongs to one connection, which has ended with 'error'
 * because of 'reason'. */
static void
reset(struct vhu_frontend *fe, int error, const char *reason)
{
    vhu_fe_channel_close(fe);
    fe->negotiated = false;
    fe->acks = false;
    fe->started = false;
    fe->mem_told = false;
    fe->log.told = false;
    fe->changed = true;
    vhu_fe_vrings_lost(fe);
    vhu_fe_log_drop_next(fe);
    vhu_fe_run_abort(fe, error, reason ? reason : "connected again");

    for (int op = 0; op < VHU_FE_N_OPS; op++) {
        bool *wanted = (op == VHU_FE_OP_ANNOUNCE ? &fe->want_announce
                        : op == VHU_FE_OP_SET_CONFIG ? &fe->want_config_write
                        : op == VHU_FE_OP_GET_CONFIG ? &fe->want_config
                        : op == VHU_FE_OP_GET_STATUS ? &fe->want_status
                        : op == VHU_FE_OP_RESET_DEVICE ? &fe->want_device_reset
                        : NULL);

        if (wanted && *wanted) {
            *wanted = false;
            vhu_fe_done(fe, op, error, reason);
        }
    }
}

static void
forget_fault(struct vhu_frontend *fe)
{
    free(fe->fault);
    fe->fault = NULL;
}

/* Forgets what survives a connection. */
static void
forget_device(struct vhu_frontend *fe)
{
    vhu_fe_vrings_forget(fe);
    vhu_fe_log_uninit(fe);
    fe->log.want_size = 0;
    fe->acked = 0;
    memset(&fe->info, 0, sizeof fe->info);
}

/* State. */

struct vhu_conn *
vhu_frontend_get_conn(const struct vhu_frontend *fe)
{
    return fe->conn;
}

const struct vhu_trace *
vhu_frontend_get_trace(const struct vhu_frontend *fe)
{
    return fe->trace;
}

const struct vhu_frontend_info *
vhu_frontend_get_info(const struct vhu_frontend *fe)
{
    return &fe->info;
}

const struct vhu_frontend_config *
vhu_frontend_get_config(const struct vhu_frontend *fe)
{
    return &fe->config;
}

struct vhu_fe_vring *
vhu_frontend_get_vring(const struct vhu_frontend *fe, unsigned int index)
{
    return fe->vrings[index];
}

const struct vhu_shm *
vhu_frontend_get_shm(const struct vhu_frontend *fe)
{
    return fe->shm;
}

bool
vhu_frontend_is_negotiated(const struct vhu_frontend *fe)
{
    return fe->negotiated;
}

bool
vhu_frontend_is_up(const struct vhu_frontend *fe)
{
    return fe->started;
}

bool
vhu_frontend_is_idle(const struct vhu_frontend *fe)
{
    unsigned int target;

    return (!fe->conn
            || (vhu_conn_is_connected(fe->conn)
                && fe->run.op < 0
                && vhu_fe_next_op(fe, &target) < 0));
}

const char *
vhu_frontend_get_reason(struct vhu_frontend *fe)
{
    const char *reason;

    if (fe->started) {
        return NULL;
    } else if (!fe->conn) {
        return "no socket is configured";
    } else if (!vhu_conn_is_connected(fe->conn)) {
        return vhu_conn_get_reason(fe->conn);
    }

    reason = (fe->run.op == VHU_FE_OP_UNWIND ? "stopping after a failure"
              : !fe->negotiated ? "waiting for the back-end to answer"
              : fe->want_started ? "starting"
              : "not started");
    if (fe->fault) {
        free(fe->reason);
        fe->reason = xasprintf("%s; last connection: %s", reason, fe->fault);
        return fe->reason;
    }
    return reason;
}

uint64_t
vhu_frontend_get_n_errors(const struct vhu_frontend *fe)
{
    return fe->n_errors;
}

const char *
vhu_frontend_get_mtu_error(const struct vhu_frontend *fe)
{
    return fe->mtu_error;
}

/* What the user wants. */

void
vhu_frontend_start(struct vhu_frontend *fe)
{
    fe->want_started = true;
}

void
vhu_frontend_stop(struct vhu_frontend *fe)
{
    fe->want_started = false;
}

void
vhu_frontend_enable(struct vhu_frontend *fe, unsigned int pair, bool enable)
{
    fe->want_enabled[pair] = enable;
}

int
vhu_frontend_reset_vring(struct vhu_frontend *fe, unsigned int index)
{
    if (!fe->started || index >= vhu_fe_n_vrings(fe)) {
        return ENOTCONN;
    } else if (fe->inflight.fd >= 0) {
        return EOPNOTSUPP;
    }
    fe->vrings[index]->want_reset = true;
    return 0;
}

void
vhu_frontend_set_call(struct vhu_frontend *fe, unsigned int index,
                      enum vhu_fe_call call)
{
    fe->vrings[index]->call = call;
}

bool
vhu_frontend_is_pending(const struct vhu_frontend *fe, unsigned int index)
{
    struct pollfd pfd = {
        .fd = fe->vrings[index]->masked_fd,
        .events = POLLIN,
    };

    return poll(&pfd, 1, 0) == 1 && pfd.revents & POLLIN;
}

int
vhu_frontend_get_call_fd(struct vhu_frontend *fe, unsigned int index)
{
    vhu_fe_make_eventfd(&fe->vrings[index]->call_fd);
    return fe->vrings[index]->call_fd;
}

void
vhu_frontend_set_mtu(struct vhu_frontend *fe, uint16_t mtu)
{
    fe->want_mtu = mtu;
}

/* Returns 0 if the back-end is there and has protocol feature 'bit', or an
 * errno. */
static int
check_protocol(const struct vhu_frontend *fe, int bit)
{
    return (!fe->negotiated ? ENOTCONN
            : !vhu_fe_has_protocol(fe, bit) ? EOPNOTSUPP
            : 0);
}

int
vhu_frontend_read_status(struct vhu_frontend *fe)
{
    int error = check_protocol(fe, VHOST_USER_PROTOCOL_F_STATUS);

    fe->want_status |= !error;
    return error;
}

int
vhu_frontend_read_config(struct vhu_frontend *fe)
{
    int error = check_protocol(fe, VHOST_USER_PROTOCOL_F_CONFIG);

    fe->want_config |= !error;
    return error;
}

int
vhu_frontend_write_config(struct vhu_frontend *fe, uint32_t offset,
                          uint32_t size, uint32_t flags, const void *data)
{
    struct vhost_user_config *config = &fe->config_write;
    int error = check_protocol(fe, VHOST_USER_PROTOCOL_F_CONFIG);

    if (error) {
        return error;
    } else if (offset > VHOST_USER_MAX_CONFIG_SIZE
               || size > VHOST_USER_MAX_CONFIG_SIZE - offset || !size) {
        return EINVAL;
    } else if (fe->want_config_write) {
        return EBUSY;
    }

    memset(config, 0, sizeof *config);
    config->offset = offset;
    config->size = size;
    config->flags = flags;
    memcpy(config->payload, data, size);
    fe->want_config_write = true;
    return 0;
}

int
vhu_frontend_reset_device(struct vhu_frontend *fe)
{
    int error = check_protocol(fe, VHOST_USER_PROTOCOL_F_RESET_DEVICE);

    fe->want_device_reset |= !error;
    return error;
}

int
vhu_frontend_announce(struct vhu_frontend *fe, const uint8_t mac[6])
{
    int error = check_protocol(fe, VHOST_USER_PROTOCOL_F_RARP);

    if (fe->negotiated
        && vhu_fe_has_feature(fe, VIRTIO_NET_F_GUEST_ANNOUNCE)) {
        return 0;
    }
    if (!error) {
        memcpy(fe->announce_mac, mac, 6);
        fe->want_announce = true;
    }
    return error;
}
