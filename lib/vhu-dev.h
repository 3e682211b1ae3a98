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

#ifndef VHU_DEV_H
#define VHU_DEV_H 1

/* vhost-user device
 * =================
 *
 * What both roles of the protocol know of a device: negotiated features, the
 * memory table, and the vrings with their running virtqueues.
 *
 *
 * Wanted and running
 * ------------------
 *
 * The protocol code only records what the peer wants in the members of "struct
 * vhu_dev" and "struct vhu_vring".  vhu_dev_update() then compares that with
 * what is running, vring by vring, and acts: it creates virtqueues, stops
 * them, or rebuilds them on a new memory table.  It is the only place that
 * does.
 *
 * A vring is runnable when it is started, and size, addresses and memory are
 * set and valid.  We take SET_VRING_KICK as the start, with or without a file
 * descriptor in it, and do not wait for the first kick: the PMD threads poll,
 * QEMU accepts that, and a kick that got lost in a restart loses nothing.  (The
 * specification starts a vring at the first kick.)  GET_VRING_BASE stops it.
 * Whether it is enabled is independent of that.
 *
 *
 * Data path
 * ---------
 *
 * A PMD thread reads 'vq' of a vring by RCU; it is null unless the vring is
 * running and enabled.  To touch the ring it must take 'lock' and compare 'vq'
 * once more; vhu_vring_trylock() and vhu_vring_lock() do that.  Once
 * the control thread has taken the lock and cleared 'vq', nobody is inside or
 * gets inside, so the answer to GET_VRING_BASE is the truth.  The virtqueue and
 * memory that it used are freed after a grace period.
 *
 * A vring that is running but disabled has no 'vq', only 'running': what the
 * guest transmits there is discarded by the control thread
 * (vhu_dev_run()), and nothing is put into its receiveq (vhost-user, "Ring
 * states").
 *
 *
 * Threads
 * -------
 *
 * Everything belongs to the control thread but the members of "struct
 * vhu_vring" that say otherwise.  In the switch "control thread" means "under
 * the mutex of the port", so that the main thread may read, too. */

#include <stdbool.h>
#include <stdint.h>

#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "vhost-user-spec.h"
#include "virtq.h"

struct vhu_dev;
struct vhu_mem;

/* How vring indices map to the queues of a network device ("Network Device:
 * Virtqueues"): vring 2 n is receiveq n + 1, vring 2 n + 1 is transmitq n + 1.
 * The guest's names: it receives on receiveqs. */
static inline unsigned int
vhu_receiveq_vring(unsigned int pair)
{
    return 2 * pair;
}

static inline unsigned int
vhu_transmitq_vring(unsigned int pair)
{
    return 2 * pair + 1;
}

static inline bool
vhu_vring_is_transmitq(unsigned int index)
{
    return index & 1;
}

struct vhu_vring {
    /* Shared with the PMD threads. */
    OVSRCU_TYPE(struct virtq *) vq; /* Null unless running and enabled. */
    struct ovs_spin lock;       /* For every access to a virtqueue but the
                                 * lockless ones. */
    struct virtq_counters counters; /* Written under 'lock'. */

    /* Control thread only: what the peer wants. */
    unsigned int index;
    uint32_t size;              /* SET_VRING_NUM, 0 before it. */
    struct vhost_user_vring_addr addr; /* SET_VRING_ADDR. */
    bool has_addr;
    struct virtq_pos avail;     /* SET_VRING_BASE, or where the last virtqueue */
    struct virtq_pos used;      /* stopped. */
    int kick_fd, call_fd, err_fd; /* -1 for none. */
    bool started;               /* SET_VRING_KICK .. GET_VRING_BASE. */
    bool enabled;               /* SET_VRING_ENABLE. */

    /* Control thread only: what is. */
    struct virtq *running;      /* Null unless running. */
    bool published;             /* 'running' is in 'vq'. */
    bool refused;               /* virtq_create() failed; do not try the same
                                 * again before something changes. */
    enum virtq_error error;     /* Already reported. */
    uint64_t kicks;             /* Kicks read from 'kick_fd'. */
    uint64_t discarded;         /* Buffers discarded while disabled. */
    long long int next_kick;    /* Do not look at 'kick_fd' before (ms). */
};

/* Calls from the device to its user, in the control thread, without the lock
 * of any vring. */
struct vhu_dev_ops {
    /* Which vrings run or are enabled, or whether the device is connected, or
     * its features, may have changed since the last call.  State, not events:
     * called once after any number of changes. */
    void (*changed)(void *aux);

    /* NET_SET_MTU: returns 0 to accept 'mtu' (68 to 65535), or an errno. */
    int (*set_mtu)(uint16_t mtu, void *aux);

    /* SEND_RARP: put a broadcast RARP from 'mac' into the switch. */
    void (*send_rarp)(const uint8_t mac[6], void *aux);
};

struct vhu_dev {
    char *name;                 /* Of the port, for the log. */
    const struct vhu_dev_ops *ops;
    void *aux;

    uint64_t offered;           /* Virtio features that we offer. */
    uint64_t features;          /* Negotiated ones. */
    bool features_set;          /* SET_FEATURES was seen. */
    uint64_t protocol_features; /* Negotiated ones. */
    unsigned int n_pairs;       /* Queue pairs that we offer. */
    uint16_t mtu;               /* NET_SET_MTU, 0 before it. */
    uint8_t status;             /* SET_STATUS. */

    struct vhu_mem *mem;        /* Wanted table, null before the first. */
    char *mem_error;            /* Why there is none, for an operator, or
                                 * null. */
    struct vhu_vring *vrings[VHOST_USER_MAX_VRINGS]; /* All there for the life
                                 * of the device: 2 * n_pairs of them. */

    bool changed;               /* Call ops->changed() at the next chance. */
};

/* Returns a new device for port 'name' that offers 'features' and 'n_pairs'
 * (1 to 128) queue pairs. */
struct vhu_dev *vhu_dev_create(const char *name, uint64_t features,
                               unsigned int n_pairs,
                               const struct vhu_dev_ops *ops, void *aux);

/* Stops everything and frees 'dev', which may be null.  No PMD thread may
 * know the device any more. */
void vhu_dev_destroy(struct vhu_dev *dev);

/* Back to the state of a new device: all vrings stopped and disabled, no
 * memory, no features, all descriptors closed. */
void vhu_dev_reset(struct vhu_dev *dev);

/* Compares what is wanted with what is running and acts.  'mem_changed' says
 * that the memory table was replaced: every running virtqueue is
 * rebuilt on the new one or, if its areas are not in it any more, stopped with
 * a warning.  Call after every message. */
void vhu_dev_update(struct vhu_dev *dev, bool mem_changed);

/* Replaces the memory table by 'mem', which it takes over.  The old table is
 * freed after a grace period, when vhu_dev_update() has replaced what used
 * it. */
void vhu_dev_set_mem(struct vhu_dev *dev, struct vhu_mem *mem);

/* Stops vring 'vring' and leaves in it where it stopped ('avail', 'used'). When
 * it returns no thread uses the virtqueue, writes to guest memory or notifies.
 * Closes the kick and call descriptors. */
void vhu_vring_stop(struct vhu_dev *dev, struct vhu_vring *vring);

/* Replaces the call descriptor (-1 for none) by 'fd', which it takes over,
 * also while the virtqueue runs. */
void vhu_vring_set_call_fd(struct vhu_vring *vring, int fd);

/* Does what is due: discards what is transmitted on disabled vrings, reports
 * broken virtqueues (log, err descriptor), notices memory that has vanished,
 * looks for guests whose memory is not shared. */
void vhu_dev_run(struct vhu_dev *dev);
void vhu_dev_wait(struct vhu_dev *dev);

/* Returns true if at least the first receiveq and transmitq are running. */
bool vhu_dev_is_up(const struct vhu_dev *dev);

/* Returns the number of queue pairs that have a started vring: the highest
 * such pair, plus 1. */
unsigned int vhu_dev_n_started_pairs(const struct vhu_dev *dev);

/* Returns why the device is connected but not up, in words for an operator,
 * or null if it is up: "no memory table yet (has the guest's driver
 * started?)", "guest memory is not shared: ...", "vring 1 is broken:
 * available index moved too far (300, limit 256)", "guest memory vanished". */
const char *vhu_dev_get_reason(const struct vhu_dev *dev);

/* Takes the lock of 'vring' if it has a virtqueue for the data path, and
 * returns that; returns null, without the lock, if it has none.  PMD threads.
 *
 * vhu_vring_trylock() also returns null if another thread has the lock. */
static inline struct virtq *
vhu_vring_locked_virtq__(struct vhu_vring *vring)
{
    /* The vring may have been stopped while we took the lock. */
    struct virtq *vq = ovsrcu_get(struct virtq *, &vring->vq);

    if (OVS_UNLIKELY(!vq)) {
        ovs_spin_unlock(&vring->lock);
    }
    return vq;
}

static inline struct virtq *
vhu_vring_trylock(struct vhu_vring *vring)
    OVS_NO_THREAD_SAFETY_ANALYSIS
{
    if (ovs_spin_trylock(&vring->lock)) {
        return NULL;
    }
    return vhu_vring_locked_virtq__(vring);
}

static inline struct virtq *
vhu_vring_lock(struct vhu_vring *vring)
    OVS_NO_THREAD_SAFETY_ANALYSIS
{
    ovs_spin_lock(&vring->lock);
    return vhu_vring_locked_virtq__(vring);
}

static inline void
vhu_vring_unlock(struct vhu_vring *vring)
    OVS_NO_THREAD_SAFETY_ANALYSIS
{
    ovs_spin_unlock(&vring->lock);
}

/* Wakes the control thread to call vhu_dev_run(): a PMD thread calls this when
 * a virtqueue has become broken under its hands. */
void vhu_dev_kick_control(struct vhu_dev *dev);

#endif /* vhu-dev.h */
