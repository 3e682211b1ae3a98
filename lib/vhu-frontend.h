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

#ifndef VHU_FRONTEND_H
#define VHU_FRONTEND_H 1

/* Front-end role
 * ==============
 *
 * Here we speak first, the memory is ours (vhu-shm.h), and on the virtqueues
 * we are the driver (virtq-drv.h).  The other end, the back-end, may be a
 * switch, a user-mode network stack or a test program.
 *
 *
 * Wanted and told
 * ---------------
 *
 * The user says what it wants (started or not, which queue pairs are enabled,
 * an MTU, ...) and goes on.  Whenever nothing is under way,
 * vhu_frontend_run() compares what is wanted with what the back-end has been
 * told and begins the next operation: a table of steps, each of them one
 * request, that is advanced as replies arrive.  Requests that need no reply
 * are sent without waiting for the ones before.
 *
 * An operation that needs a connection works on the next one if there is none;
 * those that make no sense later (announce, reading and writing the
 * configuration space, resets) fail at once with ENOTCONN.
 *
 *
 * Connection
 * ----------
 *
 * A connection that is lost is made again, for ever, and the whole sequence
 * starts from the beginning, with the features that were negotiated the first
 * time: what the virtqueues hold depends on them.  While there is no
 * connection, no PMD thread has a virtqueue.  Packets that the back-end had
 * not transmitted are made available again on the new connection, in fresh
 * rings.
 *
 * With 'keep_rings' the rings stay as they are, like those of a guest, which
 * does not notice that QEMU has lost its back-end.  Then the base of a split
 * virtqueue is its used index, as QEMU reads it; that of a packed one is what
 * was last said about it, however long ago, since QEMU knows no better.
 *
 *
 * What goes wrong
 * ---------------
 *
 * A transport error is retried soon.  A back-end that refuses a request, sends
 * something that it must not, or does not answer in time has failed the
 * attempt: vrings that were started are stopped again in the reverse order,
 * where it still listens; the connection is closed with a reason for
 * vhu_frontend_get_reason(), and the next attempt is backed off for
 * VHU_FRONTEND_MIN_HOLD to VHU_FRONTEND_MAX_HOLD milliseconds.  Only a request
 * that is not needed for packets to flow (an MTU, the dirty log, an
 * announcement, ...) may be refused without harm: ops->done() says so.
 *
 *
 * Data path
 * ---------
 *
 * As in vhu-dev.h: a PMD thread reads 'vq' of a vring by RCU; it is null
 * unless the vring is started and enabled.  To touch the ring it takes 'lock'
 * and compares 'vq' once more; vhu_fe_vring_trylock() and vhu_fe_vring_lock()
 * do that.  Once the control thread has taken the lock and cleared 'vq',
 * nobody is inside.  Virtqueues and memory are freed after a grace period.
 *
 * A virtqueue that becomes broken under the hands of a PMD thread ends the
 * connection: call vhu_frontend_kick_control().
 *
 *
 * Threads
 * -------
 *
 * Everything belongs to the control thread but the members of
 * "struct vhu_fe_vring" that say otherwise, and vhu_frontend_kick_control().
 * In the switch "control thread" means "under the mutex of the port". */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "vhost-user-spec.h"
#include "virtio-spec.h"
#include "virtq-drv.h"

struct vhu_conn;
struct vhu_frontend;
struct vhu_shm;
struct vhu_trace;

/* Virtio features that the library can do something with as a driver.  What a
 * user wants in vhu_frontend_config should be a subset of it. */
#define VHU_FRONTEND_FEATURES                                   \
    (VIRTIO_BIT(VIRTIO_NET_F_MTU)                               \
     | VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF)                       \
     | VIRTIO_BIT(VIRTIO_NET_F_MQ)                              \
     | VIRTIO_BIT(VIRTIO_F_INDIRECT_DESC)                       \
     | VIRTIO_BIT(VIRTIO_F_EVENT_IDX)                           \
     | VIRTIO_BIT(VHOST_USER_F_PROTOCOL_FEATURES)               \
     | VIRTIO_BIT(VIRTIO_F_VERSION_1)                           \
     | VIRTIO_BIT(VIRTIO_F_RING_PACKED)                         \
     | VIRTIO_BIT(VIRTIO_F_IN_ORDER))

/* Protocol features of this implementation. */
#define VHU_FRONTEND_PROTOCOL_FEATURES                          \
    (VIRTIO_BIT(VHOST_USER_PROTOCOL_F_MQ)                       \
     | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_LOG_SHMFD)              \
     | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_RARP)                   \
     | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK)              \
     | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_NET_MTU)                \
     | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ)            \
     | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_CONFIG)                 \
     | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD)         \
     | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_RESET_DEVICE)           \
     | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)    \
     | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_STATUS))

/* How long the back-end has for a reply, unless configured otherwise. */
#define VHU_FRONTEND_TIMEOUT 5000       /* ms */

/* How long after a failed attempt nothing is tried. */
#define VHU_FRONTEND_MIN_HOLD 1000      /* ms */
#define VHU_FRONTEND_MAX_HOLD 16000     /* ms */

struct vhu_frontend_config {
    uint64_t features;          /* Wanted.  VIRTIO_F_VERSION_1 and
                                 * VHOST_USER_F_PROTOCOL_FEATURES always
                                 * are. */
    uint64_t needed_features;   /* Do not start without them.
                                 * VIRTIO_F_VERSION_1 always is. */
    bool look_only;             /* Never to be started: no feature is needed
                                 * to negotiate. */
    uint64_t protocol_features; /* Wanted: VHU_FRONTEND_PROTOCOL_FEATURES, or
                                 * less in tests. */
    unsigned int n_pairs;       /* Wanted queue pairs, 1 to
                                 * VHOST_USER_MAX_QUEUE_PAIRS. */
    uint32_t queue_size;        /* Descriptors in each vring. */
    uint32_t buf_size;          /* Bytes in a buffer, header included. */
    bool hugepages;             /* Put the memory on huge pages. */
    bool poll_kick;             /* Have the back-end poll: send it no kick
                                 * eventfds. */
    bool keep_rings;            /* Leave the rings as they are when the
                                 * connection is lost, see above. */
    int timeout;                /* For a reply, in ms; 0 for
                                 * VHU_FRONTEND_TIMEOUT. */
};

/* How the back-end notifies us of used buffers of a vring. */
enum vhu_fe_call {
    VHU_FE_CALL_POLL,           /* It does not: we poll (no descriptor in
                                 * SET_VRING_CALL).  The default. */
    VHU_FE_CALL_MASKED,         /* It notifies an eventfd that only
                                 * vhu_frontend_is_pending() looks at. */
    VHU_FE_CALL_UNMASKED,       /* It notifies vhu_frontend_get_call_fd(). */
};

/* Operations: what ops->done() reports. */
#define VHU_FE_OPS                                      \
    VHU_FE_OP(CONNECT, "negotiation")                   \
    VHU_FE_OP(START, "start")                           \
    VHU_FE_OP(STOP, "stop")                             \
    VHU_FE_OP(RESET_VRING, "reset of a virtqueue")      \
    VHU_FE_OP(SET_CALL, "change of notifications")      \
    VHU_FE_OP(ENABLE, "change of enabled queues")       \
    VHU_FE_OP(SET_MTU, "MTU")                           \
    VHU_FE_OP(GET_STATUS, "status")                     \
    VHU_FE_OP(GET_CONFIG, "reading the configuration space") \
    VHU_FE_OP(SET_CONFIG, "writing the configuration space") \
    VHU_FE_OP(RESET_DEVICE, "reset of the device")      \
    VHU_FE_OP(LOG_START, "start of the dirty log")      \
    VHU_FE_OP(LOG_RESIZE, "resizing the dirty log")     \
    VHU_FE_OP(LOG_STOP, "stop of the dirty log")        \
    VHU_FE_OP(ANNOUNCE, "announcement")

enum vhu_fe_op {
#define VHU_FE_OP(NAME, TEXT) VHU_FE_OP_##NAME,
    VHU_FE_OPS
#undef VHU_FE_OP
    VHU_FE_N_OPS
};

/* Returns "reset of a virtqueue" for VHU_FE_OP_RESET_VRING. */
const char *vhu_fe_op_to_string(enum vhu_fe_op);

/* Calls to the user, in the control thread, without the lock of any vring.
 * Each member may be null.  They must not destroy the front-end. */
struct vhu_frontend_ops {
    /* Whether the device is up, its number of queue pairs, its features, or
     * what vhu_frontend_get_reason() says may have changed since the last
     * call.  State, not events: called once after any number of changes. */
    void (*changed)(void *aux);

    /* The back-end said that the configuration space has changed, and it has
     * been read again: vhu_frontend_info. */
    void (*config_changed)(void *aux);

    /* Operation 'op' has ended: 'error' is 0, or a positive errno and 'reason'
     * says why in words for an operator.  EPROTO: the back-end refused it;
     * EOPNOTSUPP: it lacks the feature; ENOTCONN: the connection was lost. */
    void (*done)(enum vhu_fe_op op, int error, const char *reason, void *aux);
};

/* A vring. */
struct vhu_fe_vring {
    /* Shared with the PMD threads. */
    OVSRCU_TYPE(struct virtq_drv *) vq; /* Null unless started and enabled. */
    struct ovs_spin lock;       /* For every access to a virtqueue but the
                                 * lockless ones. */
    struct virtq_drv_counters counters; /* Written under 'lock'. */

    /* Control thread only. */
    unsigned int index;
    struct virtq_drv *drv;      /* The virtqueue; null before the first
                                 * start. */
    bool published;             /* 'drv' is in 'vq'. */
    bool started;               /* SET_VRING_KICK .. GET_VRING_BASE. */
    bool resume;                /* The ring continues as it is. */
    bool lost;                  /* The connection was lost while it was
                                 * started. */
    bool want_reset;            /* vhu_frontend_reset_vring(). */
    bool reset;                 /* That is under way. */
    uint32_t base;              /* For SET_VRING_BASE. */
    enum vhu_fe_call call;      /* Wanted. */
    enum vhu_fe_call told_call; /* Told. */
    int kick_fd;                /* -1 until it is needed, like the others. */
    int call_fd;
    int masked_fd;              /* For VHU_FE_CALL_MASKED. */
    uint64_t n_broken;          /* 'counters.broken' when last looked at. */
};

/* What is known of the back-end; zero where it is not known (yet). */
struct vhu_frontend_info {
    uint64_t offered;           /* GET_FEATURES. */
    uint64_t features;          /* Negotiated. */
    uint64_t offered_protocol;  /* GET_PROTOCOL_FEATURES. */
    uint64_t protocol_features; /* Negotiated. */
    uint64_t queue_num;         /* GET_QUEUE_NUM as it came; 1 without
                                 * VHOST_USER_PROTOCOL_F_MQ. */
    unsigned int n_pairs;       /* What we use: the smaller of that and what is
                                 * wanted. */
    uint64_t mem_slots;         /* GET_MAX_MEM_SLOTS as it came. */
    bool has_config;            /* GET_CONFIG worked. */
    struct virtio_net_config config;
    bool has_status;            /* GET_STATUS worked. */
    uint8_t status;             /* VIRTIO_STATUS_*. */
    uint16_t mtu;               /* That the back-end accepted, or 0. */
};

/* Life. */

/* Returns a new front-end for port 'name' that owns 'conn', which may be null,
 * and calls 'ops' with 'aux'.  It connects and negotiates in
 * vhu_frontend_run(), and does no more before vhu_frontend_start(). */
struct vhu_frontend *vhu_frontend_create(const char *name,
                                         struct vhu_conn *conn,
                                         const struct vhu_frontend_config *,
                                         const struct vhu_frontend_ops *ops,
                                         void *aux);

/* Closes the connection, and frees 'fe', which may be null.  No PMD thread may
 * know its vrings any more. */
void vhu_frontend_destroy(struct vhu_frontend *fe);

/* Replaces the connection by 'conn' (may be null), which it takes over. */
void vhu_frontend_set_conn(struct vhu_frontend *fe, struct vhu_conn *conn);

/* Replaces the configuration.  If it differs, that means a new device: the
 * connection is closed because of 'reason' and made anew, features are
 * negotiated from scratch, and what was in the virtqueues is lost.  What is
 * wanted (start, enable, MTU) stays. */
void vhu_frontend_set_config(struct vhu_frontend *fe,
                             const struct vhu_frontend_config *config,
                             const char *reason);

/* Does what is due.  'wait' arranges for poll_block() to wake up when there is
 * something to do.  Whoever runs the loop also calls vhu_mem_clear_dead() and
 * vhu_mem_wait_dead(), as for the back-end role. */
void vhu_frontend_run(struct vhu_frontend *fe);
void vhu_frontend_wait(struct vhu_frontend *fe);

/* Makes the control thread look for a broken virtqueue.  Any thread. */
void vhu_frontend_kick_control(struct vhu_frontend *fe);

/* Closes the connection; a client connects again. */
void vhu_frontend_disconnect(struct vhu_frontend *fe, const char *reason);

/* State. */

/* Returns the connection, valid until vhu_frontend_set_conn(). */
struct vhu_conn *vhu_frontend_get_conn(const struct vhu_frontend *fe);

/* Returns the trace of the messages, which lives as long as 'fe'. */
const struct vhu_trace *vhu_frontend_get_trace(const struct vhu_frontend *fe);

/* Returns what is known of the back-end.  Valid as long as 'fe'; without a
 * connection it is what was known of the last one. */
const struct vhu_frontend_info *vhu_frontend_get_info(
    const struct vhu_frontend *fe);

/* Returns the configuration. */
const struct vhu_frontend_config *vhu_frontend_get_config(
    const struct vhu_frontend *fe);

/* Returns vring 'index' < VHOST_USER_MAX_VRINGS, which lives as long as 'fe'.
 * vhu_receiveq_vring() and vhu_transmitq_vring() of vhu-dev.h give the index:
 * we receive on receiveqs. */
struct vhu_fe_vring *vhu_frontend_get_vring(const struct vhu_frontend *fe,
                                            unsigned int index);

/* Returns the memory that is shared with the back-end, or null if there is
 * none before the first start. */
const struct vhu_shm *vhu_frontend_get_shm(const struct vhu_frontend *fe);

/* Returns true if features have been negotiated: the back-end is there, and
 * vhu_frontend_info is complete. */
bool vhu_frontend_is_negotiated(const struct vhu_frontend *fe);

/* Returns true if the device is started and packets can flow. */
bool vhu_frontend_is_up(const struct vhu_frontend *fe);

/* Returns true if no operation is under way or due: what was wanted has
 * happened, or cannot. */
bool vhu_frontend_is_idle(const struct vhu_frontend *fe);

/* Returns why the device is not up, in words for an operator, or null if it
 * is up.  Valid until the next call of any function for 'fe'. */
const char *vhu_frontend_get_reason(struct vhu_frontend *fe);

/* What the user wants. */

/* Starts or stops the device: all vrings of all queue pairs.  A start after a
 * stop continues where the back-end stopped.  Initially stopped. */
void vhu_frontend_start(struct vhu_frontend *fe);
void vhu_frontend_stop(struct vhu_frontend *fe);

/* Enables or disables queue pair 'pair' < VHOST_USER_MAX_QUEUE_PAIRS
 * (SET_VRING_ENABLE of both vrings).  Initially all are enabled. */
void vhu_frontend_enable(struct vhu_frontend *fe, unsigned int pair,
                         bool enable);

/* Stops vring 'index', makes its ring fresh and starts it again while the
 * others run.  Packets that it held and that were not transmitted stay
 * available, received ones are lost.  Returns 0, or ENOTCONN if the device is
 * not started. */
int vhu_frontend_reset_vring(struct vhu_frontend *fe, unsigned int index);

/* Sets how the back-end notifies us of used buffers of vring 'index'.  A
 * notification that came while the vring was masked is passed on to the
 * eventfd when it is unmasked. */
void vhu_frontend_set_call(struct vhu_frontend *fe, unsigned int index,
                           enum vhu_fe_call call);

/* Returns true if a notification came for vring 'index' while it was
 * masked. */
bool vhu_frontend_is_pending(const struct vhu_frontend *fe,
                             unsigned int index);

/* Returns the eventfd of vring 'index' for VHU_FE_CALL_UNMASKED, which stays
 * ours, is nonblocking and may be polled and read by any thread. */
int vhu_frontend_get_call_fd(struct vhu_frontend *fe, unsigned int index);

/* Tells the back-end the MTU (NET_SET_MTU), now and on each new connection; 0
 * for none.  It is an error, reported by ops->done() and
 * vhu_frontend_get_mtu_error() and harmless otherwise, if the back-end refuses
 * it or knows no MTU. */
void vhu_frontend_set_mtu(struct vhu_frontend *fe, uint16_t mtu);

/* Returns why the back-end does not have the wanted MTU, or null. */
const char *vhu_frontend_get_mtu_error(const struct vhu_frontend *fe);

/* Returns how many errors in virtqueues the back-end has reported
 * (SET_VRING_ERR), on all connections. */
uint64_t vhu_frontend_get_n_errors(const struct vhu_frontend *fe);

/* Operations that are asked for once.  They return 0 if the operation has
 * begun or will, and ops->done() will be called; or a positive errno:
 * ENOTCONN, or EOPNOTSUPP if the back-end lacks the feature. */

/* Reads the device status (GET_STATUS) into vhu_frontend_info. */
int vhu_frontend_read_status(struct vhu_frontend *fe);

/* Reads the configuration space (GET_CONFIG) into vhu_frontend_info; happens
 * by itself on each connection. */
int vhu_frontend_read_config(struct vhu_frontend *fe);

/* Writes 'size' bytes at 'offset' of the configuration space (SET_CONFIG).
 * 'flags': VHOST_USER_CONFIG_*.  EINVAL: outside of
 * VHOST_USER_MAX_CONFIG_SIZE; EBUSY: the last write is still under way. */
int vhu_frontend_write_config(struct vhu_frontend *fe, uint32_t offset,
                              uint32_t size, uint32_t flags,
                              const void *data);

/* Resets the device (RESET_DEVICE): all vrings are stopped, and their rings
 * made fresh, as by vhu_frontend_reset_vring().  Then it starts again, if that
 * is wanted. */
int vhu_frontend_reset_device(struct vhu_frontend *fe);

/* Migration is done: has the back-end announce 'mac' where it is now
 * (SEND_RARP).  Nothing needs to be done, and 0 is returned without a call of
 * ops->done(), if VIRTIO_NET_F_GUEST_ANNOUNCE was negotiated: then the driver
 * does it.  EOPNOTSUPP: neither has the feature. */
int vhu_frontend_announce(struct vhu_frontend *fe, const uint8_t mac[6]);

/* Dirty log ("Migration"). */

/* Starts logging, or replaces the log by one that covers at least 'size' bytes
 * of guest addresses; 0 for as many as the memory needs, which is the least.
 * Bits that are set stay.  Works on a started device, or with the next start.
 * EOPNOTSUPP: the back-end has no dirty log. */
int vhu_frontend_log_start(struct vhu_frontend *fe, uint64_t size);

/* Stops logging.  What the log says can be harvested until the next start of
 * the log. */
void vhu_frontend_log_stop(struct vhu_frontend *fe);

/* Calls 'cb' with the guest address of each page (VHOST_LOG_PAGE) that is
 * dirty, in rising order, and cleans it, with an atomic exchange of whole
 * words, so that no bit that the back-end sets meanwhile is lost.  Returns the
 * number of pages.  For the last harvest the device must have been stopped
 * before: vhu_frontend_stop() and ops->done(VHU_FE_OP_STOP). */
size_t vhu_frontend_log_harvest(struct vhu_frontend *fe,
                                void (*cb)(uint64_t guest_addr, void *aux),
                                void *aux);

/* Returns how many bytes of guest addresses the log covers, 0 if there is
 * none. */
uint64_t vhu_frontend_log_size(const struct vhu_frontend *fe);

/* Takes the lock of 'vring' if it has a virtqueue for the data path, and
 * returns that; returns null, without the lock, if it has none.  PMD threads.
 *
 * vhu_fe_vring_trylock() also returns null if another thread has the lock. */
static inline struct virtq_drv *
vhu_fe_vring_locked_virtq__(struct vhu_fe_vring *vring)
    OVS_NO_THREAD_SAFETY_ANALYSIS
{
    /* The vring may have been stopped while we took the lock. */
    struct virtq_drv *vq = ovsrcu_get(struct virtq_drv *, &vring->vq);

    if (OVS_UNLIKELY(!vq)) {
        ovs_spin_unlock(&vring->lock);
    }
    return vq;
}

static inline struct virtq_drv *
vhu_fe_vring_trylock(struct vhu_fe_vring *vring)
    OVS_NO_THREAD_SAFETY_ANALYSIS
{
    if (ovs_spin_trylock(&vring->lock)) {
        return NULL;
    }
    return vhu_fe_vring_locked_virtq__(vring);
}

static inline struct virtq_drv *
vhu_fe_vring_lock(struct vhu_fe_vring *vring)
    OVS_NO_THREAD_SAFETY_ANALYSIS
{
    ovs_spin_lock(&vring->lock);
    return vhu_fe_vring_locked_virtq__(vring);
}

static inline void
vhu_fe_vring_unlock(struct vhu_fe_vring *vring)
    OVS_NO_THREAD_SAFETY_ANALYSIS
{
    ovs_spin_unlock(&vring->lock);
}

#endif /* vhu-frontend.h */
