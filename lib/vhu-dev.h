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
 * A vring is runnable when it is started, and features, size, addresses, base
 * and memory are set and valid, in whatever order they came.  We take
 * SET_VRING_KICK as the start, with or without a file descriptor in it, and do
 * not wait for the first kick: the PMD threads poll, QEMU accepts that, and a
 * kick that got lost in a restart loses nothing.  (The specification starts a
 * vring at the first kick.)  GET_VRING_BASE stops it; the addresses and the
 * base must then come again, since what they were may not hold any more.
 * For a front-end that never sends SET_VRING_BASE the first kick counts
 * instead.  Whether the vring is enabled is independent of all that.
 *
 * A virtqueue that is broken stops, too, and stays stopped until the peer has
 * stopped the vring with GET_VRING_BASE and started it again.
 *
 *
 * Data path
 * ---------
 *
 * A PMD thread reads 'vq' of a vring by RCU; it is null unless the vring is
 * running and enabled.  To touch the ring it must take 'lock' and compare 'vq'
 * once more; vhu_vring_trylock() and vhu_vring_lock() do that.  Once the
 * control thread has taken the lock and cleared 'vq', nobody is inside or gets
 * inside, so the answer to GET_VRING_BASE is the truth.  The virtqueue and
 * memory that it used are freed after a grace period.
 *
 * A vring that is running but disabled has no 'vq', only 'running': what the
 * guest transmits there is discarded by the control thread
 * (vhu_dev_run()), and nothing is put into its receiveq (vhost-user, "Ring
 * states").
 *
 * Only there, and to find out about memory that is not shared (below), do we
 * look at 'kick_fd', and never often, so that a flood of kicks costs us
 * nothing.  It is read in a way that cannot block, whatever the peer does to
 * the file description.
 *
 *
 * Memory that is not shared
 * -------------------------
 *
 * A guest whose memory is a private copy of the file that we map starts its
 * virtqueues, but we never see a buffer.  It does not see that we asked for no
 * kicks either, so it kicks.  A ring that was kicked at least twice (the first
 * may be QEMU's own) and that is still empty a second later is taken as a sign
 * of that, until any ring has a buffer.
 *
 *
 * Dirty log
 * ---------
 *
 * While the guest migrates, what the virtqueues write is logged.  Three things
 * make that so: a log (SET_LOG_BASE), VHOST_F_LOG_ALL among the features for
 * the buffers, and VHOST_VRING_F_LOG in the flags of SET_VRING_ADDR for the
 * areas of one vring.  Each may come or go while the virtqueues run:
 * vhu_dev_update() changes what they log, each under its lock, so that when it
 * returns, and the message is answered, every PMD thread goes by the new
 * state.
 *
 * A vring that is to log but has nothing to log to does not run: when QEMU
 * starts a device in the middle of a migration, because the guest reboots, it
 * starts the vrings first and sends the log then.  The log from before the
 * reboot is not read any more, so we give it a moment for that.
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

struct seq;
struct vhu_dev;
struct vhu_garbage;
struct vhu_log;
struct vhu_mem;
struct vhu_positions;

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
    bool has_addr;              /* SET_VRING_ADDR since the last stop. */
    bool has_base;              /* SET_VRING_BASE since the last stop. */
    struct virtq_pos avail;     /* SET_VRING_BASE, or where the last */
    struct virtq_pos used;      /* virtqueue stopped. */
    int kick_fd, call_fd, err_fd; /* -1 for none. */
    bool started;               /* SET_VRING_KICK .. GET_VRING_BASE. */
    bool enabled;               /* SET_VRING_ENABLE. */
    bool rebuild;               /* SET_VRING_ADDR while running. */

    /* Control thread only: what is. */
    struct virtq *running;      /* Null unless running. */
    struct virtq_log log;       /* What it logs. */
    bool published;             /* 'running' is in 'vq'. */
    bool refused;               /* virtq_create() failed; do not try the same
                                 * again before something changes. */
    enum virtq_error error;     /* Broken, and reported, unless
                                 * VIRTQ_ERROR_NONE. */
    char *problem;              /* Why it does not run although it should, for
                                 * an operator, or null. */
    uint64_t n_broken;          /* 'counters.broken' when last looked at. */
    uint64_t discarded;         /* Buffers discarded while disabled. */

    /* Control thread only: kicks. */
    uint64_t kicks;             /* Kicks read from 'kick_fd'. */
    unsigned int n_kick_reads;  /* Since the virtqueue was started, enabled or
                                 * disabled; at 2 we know enough. */
    long long int next_kick;    /* Do not look at 'kick_fd' before (ms). */
    bool kicked;                /* Kicked while only the base was missing. */
    struct virtq_pos first;     /* Where it was started. */
    bool active;                /* Had a buffer since it was started. */
    bool suspect;               /* Kicked, but without a buffer for long. */
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
    bool mem_dead;              /* Memory has vanished; all vrings stopped. */
    struct vhu_log *log;        /* SET_LOG_BASE, null before it. */
    bool log_dead;              /* It has vanished; all vrings stopped. */
    bool log_old;               /* All vrings have been stopped since it came:
                                 * there may be a newer one, */
    long long int log_deadline; /* which we wait for until then (ms), or 0. */
    bool blocked;               /* An eventfd of the peer has blocked us, and
                                 * from now on we write to none in this
                                 * thread: 256 of them would take seconds.
                                 * Only an ill-meaning peer does that. */
    struct vhu_vring *vrings[VHOST_USER_MAX_VRINGS]; /* All there for the life
                                 * of the device: 2 * n_pairs of them. */
    unsigned int n_known;       /* Of these, how many the peer may have named:
                                 * the others have nothing to do. */

    char *positions_path;       /* Where packed virtqueues keep their
                                 * positions, or null. */
    struct vhu_positions *positions; /* That file, null before it is needed. */
    bool positions_failed;      /* It could not be opened, and will not be
                                 * tried again before the next reset. */

    struct vhu_garbage *garbage; /* What waits for the end of a grace
                                 * period. */

    bool changed;               /* Call ops->changed() at the next chance. */
    struct seq *wakeup;         /* Changed by vhu_dev_kick_control(). */
    uint64_t wakeup_seqno;      /* Value of 'wakeup' that was seen. */
};

/* Returns a new device for port 'name' that offers 'features' and 'n_pairs'
 * (1 to 128) queue pairs. */
struct vhu_dev *vhu_dev_create(const char *name, uint64_t features,
                               unsigned int n_pairs,
                               const struct vhu_dev_ops *ops, void *aux);

/* Has the packed virtqueues of 'dev' keep their positions in the file at
 * 'path', see vhu-positions.h, so that those of our successor go on there if
 * we die.  Before the first vring runs. */
void vhu_dev_keep_positions(struct vhu_dev *dev, const char *path);

/* Three steps of that, for vhu-dev.c.  The first gives the virtqueue of vring
 * 'index', which 'config' describes, a record; what is in it counts if it is
 * about the same ring of the same guest. */
void vhu_dev_claim_record(struct vhu_dev *dev, unsigned int index,
                          struct virtq_config *config);
void vhu_dev_forget_record(struct vhu_dev *dev, unsigned int index);
void vhu_dev_close_positions(struct vhu_dev *dev);

/* Stops everything and frees 'dev', which may be null.  No PMD thread may
 * know the device any more. */
void vhu_dev_destroy(struct vhu_dev *dev);

/* Back to the state of a new device: all vrings stopped and disabled, no
 * memory, no features, all descriptors closed.  Only counters stay, and what
 * is recorded of the positions: the same guest may come back. */
void vhu_dev_reset(struct vhu_dev *dev);

/* Compares what is wanted with what is running and acts.  'mem_changed' says
 * that the memory table was replaced: every running virtqueue is
 * rebuilt on the new one or, if its areas are not in it any more, stopped with
 * a warning.  Call after every message.
 *
 * Returns 0, or a positive errno if a virtqueue could not be created, which
 * has been logged and is kept in the 'problem' of its vring. */
int vhu_dev_update(struct vhu_dev *dev, bool mem_changed);

/* Replaces the memory table by 'mem', which it takes over, and forgets
 * 'mem_error'.  The old table is freed after a grace period; until the caller
 * has called vhu_dev_update(), which it must do before it quiesces, the
 * running virtqueues still use it. */
void vhu_dev_set_mem(struct vhu_dev *dev, struct vhu_mem *mem);

/* Replaces the dirty log by 'log', which it takes over.  The same holds for
 * the old one as for the old memory table. */
void vhu_dev_set_log(struct vhu_dev *dev, struct vhu_log *log);

/* Returns true if anything of 'dev' is logged, or would be if it had a log. */
bool vhu_dev_wants_log(const struct vhu_dev *dev);

/* Returns a vring that runs, or null if there is none. */
const struct vhu_vring *vhu_dev_find_running(const struct vhu_dev *dev);

/* Checks whether 'log' has a bit for each page of 'mem', which may be null,
 * and of all used rings of 'dev' that are to be logged.  Returns 0, or EINVAL
 * with a newly allocated phrase in '*error'. */
int vhu_dev_check_log(const struct vhu_dev *dev, const struct vhu_log *log,
                      const struct vhu_mem *mem, char **error);

/* Returns what virtq_create() needs to know of 'vring', as it is wanted, with
 * the addresses 'addr'. */
struct virtq_config vhu_vring_get_config(
    const struct vhu_dev *dev, const struct vhu_vring *vring,
    const struct vhost_user_vring_addr *addr);

/* Stops vring 'vring' and leaves in it where it stopped ('avail', 'used').
 * When it returns no thread uses the virtqueue, writes to guest memory or
 * notifies.  Closes the kick and call descriptors and forgets the addresses;
 * 'enabled' stays.  From here on the front-end knows the position, and the
 * record of it is erased. */
void vhu_vring_stop(struct vhu_dev *dev, struct vhu_vring *vring);

/* Replaces the kick, call or error descriptor (-1 for none) by 'fd', which
 * these functions take over, also while the virtqueue runs. */
void vhu_vring_set_kick_fd(struct vhu_vring *vring, int fd);
void vhu_vring_set_call_fd(struct vhu_dev *dev, struct vhu_vring *vring,
                           int fd);
void vhu_vring_set_err_fd(struct vhu_vring *vring, int fd);

/* The positions 'avail' and 'used' as SET_VRING_BASE and GET_VRING_BASE carry
 * them ("Vring descriptor indices for split virtqueues", "... for packed
 * virtqueues").  vhu_vring_set_base() returns 0, or EINVAL if 'num' is no
 * position in the negotiated format.
 *
 * Of a packed virtqueue, DPDK fills in only the lower half, which is 'avail'.
 * virtq_create() sorts that out when it looks at the ring. */
int vhu_vring_set_base(const struct vhu_dev *dev, struct vhu_vring *vring,
                       uint32_t num);
uint32_t vhu_vring_get_base(const struct vhu_dev *dev,
                            const struct vhu_vring *vring);

/* Does what is due: discards what is transmitted on disabled vrings, reports
 * broken virtqueues (log, err descriptor), notices memory that has vanished,
 * looks for guests whose memory is not shared.  The caller should afterwards
 * look at 'changed', see vhu_dev_report_changes(), and disconnect if
 * 'mem_dead', 'log_dead' or 'blocked'.
 *
 * Whoever runs the loop calls vhu_mem_clear_dead() before the devices run and
 * vhu_mem_wait_dead() before it blocks, once for all devices. */
void vhu_dev_run(struct vhu_dev *dev);
void vhu_dev_wait(struct vhu_dev *dev);

/* Calls ops->changed() if there is anything to report. */
void vhu_dev_report_changes(struct vhu_dev *dev);

/* Returns true if at least the first receiveq and transmitq are running, and
 * memory is there and looks shared. */
bool vhu_dev_is_up(const struct vhu_dev *dev);

/* Returns the number of queue pairs that have a started vring: the highest
 * such pair, plus 1. */
unsigned int vhu_dev_n_started_pairs(const struct vhu_dev *dev);

/* Returns true if so many virtqueues and tables of 'dev' wait for the end of a
 * grace period that the peer must wait, too: what it sends can make several
 * hundred mappings outdated at a time, and as long as any thread of the switch
 * is busy none of them goes away. */
bool vhu_dev_has_much_garbage(const struct vhu_dev *dev);

/* Returns true if any vring is broken: DEVICE_NEEDS_RESET. */
bool vhu_dev_is_broken(const struct vhu_dev *dev);

/* Returns why the device is connected but not up, in words for an operator,
 * or null if it is up: "no memory table yet: ...", "guest memory is not
 * shared: ...", "vring 1 is broken: available index moved too far (300, limit
 * 256)", "guest memory vanished (file truncated?)".  Valid until the next call
 * of any function for 'dev'. */
const char *vhu_dev_get_reason(const struct vhu_dev *dev);

/* Takes the lock of 'vring' if it has a virtqueue for the data path, and
 * returns that; returns null, without the lock, if it has none.  PMD threads.
 *
 * vhu_vring_trylock() also returns null if another thread has the lock. */
static inline struct virtq *
vhu_vring_locked_virtq__(struct vhu_vring *vring)
    OVS_NO_THREAD_SAFETY_ANALYSIS
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
