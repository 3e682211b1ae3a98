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

#include "vhu-dev.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/uio.h>
#include <unistd.h>

#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "seq.h"
#include "timeval.h"
#include "util.h"
#include "vhu-mem.h"
#include "vhu-notify.h"

VLOG_DEFINE_THIS_MODULE(vhu_dev);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(20, 60);

/* State changes: a device can have 256 vrings, which start together. */
static struct vlog_rate_limit state_rl = VLOG_RATE_LIMIT_INIT(600, 600);

/* How often we look at most, in ms. */
enum {
    DISCARD_INTERVAL = 10,      /* What comes in on a disabled vring. */
    KICK_INTERVAL = 100,        /* Kicks of an idle vring. */
    SUSPECT_INTERVAL = 1000,    /* Buffers on an idle vring that is kicked. */
};

/* Most bursts that are discarded in one go, from all vrings of a device.  One
 * can take a millisecond, if the guest makes its chains as long as it can. */
#define DISCARD_MAX 32

/* Virtqueues and memory regions that wait to be freed, more than which are
 * "much garbage". */
#define GARBAGE_MAX 4096

/* What the virtqueues and tables that a device has given up still hold.  Each
 * of them has a reference, and so may outlive the device. */
struct vhu_garbage {
    struct ovs_refcount ref_cnt;
    atomic_uint n;
};

/* A virtqueue or a table, the other one is null, after a grace period. */
struct vhu_garbage_item {
    struct vhu_garbage *garbage;
    struct virtq *vq;
    struct vhu_mem *mem;
    unsigned int n;             /* What it counts for in 'garbage'. */
};

static const char no_mem_reason[] =
    "no memory table yet: the guest's driver has not started, or its memory "
    "is not shared (share=on)";

static bool vhu_dev_looks_unshared(const struct vhu_dev *);
static void vhu_dev_discard(struct vhu_dev *, struct virtq *,
                            struct vhu_mem *);
static void vhu_garbage_unref(struct vhu_garbage *);
static struct vhu_vring *vhu_vring_create(unsigned int index);
static void vhu_vring_destroy(struct vhu_vring *);
static void vhu_vring_reset(struct vhu_dev *, struct vhu_vring *);
static bool vhu_vring_is_complete(const struct vhu_dev *,
                                  const struct vhu_vring *);
static int vhu_vring_update(struct vhu_dev *, struct vhu_vring *,
                            bool mem_changed);
static int vhu_vring_launch(struct vhu_dev *, struct vhu_vring *);
static void vhu_vring_halt(struct vhu_dev *, struct vhu_vring *);
static void vhu_vring_publish(struct vhu_dev *, struct vhu_vring *,
                              bool publish);
static void vhu_vring_check_blocked(struct vhu_dev *,
                                    const struct vhu_vring *);
static void vhu_vring_set_problem(struct vhu_vring *, char *problem);
static void vhu_vring_run(struct vhu_dev *, struct vhu_vring *,
                          long long int now, unsigned int *budget);
static void vhu_vring_wait(const struct vhu_dev *, const struct vhu_vring *,
                           long long int now);

struct vhu_dev *
vhu_dev_create(const char *name, uint64_t features, unsigned int n_pairs,
               const struct vhu_dev_ops *ops, void *aux)
{
    struct vhu_dev *dev = xzalloc(sizeof *dev);

    ovs_assert(n_pairs >= 1 && n_pairs <= VHOST_USER_MAX_QUEUE_PAIRS);

    dev->name = xstrdup(name);
    dev->ops = ops;
    dev->aux = aux;
    dev->offered = features;
    dev->n_pairs = n_pairs;
    for (unsigned int i = 0; i < 2 * n_pairs; i++) {
        dev->vrings[i] = vhu_vring_create(i);
    }
    dev->garbage = xmalloc(sizeof *dev->garbage);
    ovs_refcount_init(&dev->garbage->ref_cnt);
    atomic_init(&dev->garbage->n, 0);
    dev->wakeup = seq_create();
    dev->wakeup_seqno = seq_read(dev->wakeup);
    return dev;
}

void
vhu_dev_destroy(struct vhu_dev *dev)
{
    if (!dev) {
        return;
    }

    vhu_dev_reset(dev);
    for (unsigned int i = 0; i < 2 * dev->n_pairs; i++) {
        vhu_vring_destroy(dev->vrings[i]);
    }
    vhu_garbage_unref(dev->garbage);
    seq_destroy(dev->wakeup);
    free(dev->name);
    free(dev);
}

void
vhu_dev_reset(struct vhu_dev *dev)
{
    for (unsigned int i = 0; i < 2 * dev->n_pairs; i++) {
        vhu_vring_reset(dev, dev->vrings[i]);
    }
    dev->n_known = 0;
    dev->blocked = false;
    dev->features = 0;
    dev->features_set = false;
    dev->protocol_features = 0;
    dev->mtu = 0;
    dev->status = 0;
    vhu_dev_set_mem(dev, NULL);
    dev->changed = true;
}

int
vhu_dev_update(struct vhu_dev *dev, bool mem_changed)
{
    int error = 0;

    for (unsigned int i = 0; i < dev->n_known; i++) {
        int retval = vhu_vring_update(dev, dev->vrings[i], mem_changed);

        if (retval) {
            error = retval;
        }
    }
    return error;
}

void
vhu_dev_set_mem(struct vhu_dev *dev, struct vhu_mem *mem)
{
    if (dev->mem) {
        vhu_dev_discard(dev, NULL, dev->mem);
    }
    dev->mem = mem;
    dev->mem_dead = false;
    free(dev->mem_error);
    dev->mem_error = NULL;
    dev->changed = true;
}

void
vhu_dev_run(struct vhu_dev *dev)
{
    unsigned int budget = DISCARD_MAX;
    long long int now = time_msec();

    dev->wakeup_seqno = seq_read(dev->wakeup);

    if (dev->mem && !dev->mem_dead && vhu_mem_is_dead(dev->mem)) {
        VLOG_WARN_RL(&rl, "%s: guest memory vanished, all vrings stop",
                     dev->name);
        dev->mem_dead = true;
        dev->changed = true;
        vhu_dev_update(dev, false);
    }

    for (unsigned int i = 0; i < dev->n_known; i++) {
        vhu_vring_run(dev, dev->vrings[i], now, &budget);
    }
}

void
vhu_dev_wait(struct vhu_dev *dev)
{
    long long int now = time_msec();

    seq_wait(dev->wakeup, dev->wakeup_seqno);
    for (unsigned int i = 0; i < dev->n_known; i++) {
        vhu_vring_wait(dev, dev->vrings[i], now);
    }
    if (dev->changed) {
        poll_immediate_wake();
    }
}

void
vhu_dev_report_changes(struct vhu_dev *dev)
{
    if (dev->changed) {
        dev->changed = false;
        dev->ops->changed(dev->aux);
    }
}

bool
vhu_dev_is_up(const struct vhu_dev *dev)
{
    return dev->vrings[0]->running && dev->vrings[1]->running
           && !vhu_dev_looks_unshared(dev);
}

unsigned int
vhu_dev_n_started_pairs(const struct vhu_dev *dev)
{
    unsigned int i = dev->n_known;

    while (i > 0 && !dev->vrings[i - 1]->started) {
        i--;
    }
    return DIV_ROUND_UP(i, 2);
}

bool
vhu_dev_is_broken(const struct vhu_dev *dev)
{
    for (unsigned int i = 0; i < dev->n_known; i++) {
        if (dev->vrings[i]->error != VIRTQ_ERROR_NONE) {
            return true;
        }
    }
    return false;
}

const char *
vhu_dev_get_reason(const struct vhu_dev *dev)
{
    if (vhu_dev_is_up(dev)) {
        return NULL;
    } else if (dev->mem_dead) {
        return "guest memory vanished (file truncated?)";
    } else if (!dev->mem) {
        return dev->mem_error ? dev->mem_error : no_mem_reason;
    } else if (vhu_dev_looks_unshared(dev)) {
        return "guest memory is not shared: the guest kicks but its rings "
               "stay empty (share=on)";
    }

    for (unsigned int i = 0; i < 2; i++) {
        const struct vhu_vring *vring = dev->vrings[i];

        if (vring->problem) {
            return vring->problem;
        } else if (!vring->started) {
            return "the guest's driver has not started its first queue pair";
        } else if (!vring->running) {
            return "the front-end has not finished the configuration of the "
                   "first queue pair";
        }
    }
    OVS_NOT_REACHED();
}

void
vhu_dev_kick_control(struct vhu_dev *dev)
{
    seq_change(dev->wakeup);
}

bool
vhu_dev_has_much_garbage(const struct vhu_dev *dev)
{
    unsigned int n;

    atomic_read_relaxed(&dev->garbage->n, &n);
    return n > GARBAGE_MAX;
}

static void
vhu_garbage_unref(struct vhu_garbage *garbage)
{
    if (ovs_refcount_unref(&garbage->ref_cnt) == 1) {
        free(garbage);
    }
}

static void
vhu_garbage_item_free(struct vhu_garbage_item *item)
{
    unsigned int n;

    virtq_destroy(item->vq);
    vhu_mem_destroy(item->mem);
    atomic_sub(&item->garbage->n, item->n, &n);
    vhu_garbage_unref(item->garbage);
    free(item);
}

/* Frees 'vq' and 'mem', of which one may be null, after a grace period. */
static void
vhu_dev_discard(struct vhu_dev *dev, struct virtq *vq, struct vhu_mem *mem)
{
    struct vhu_garbage_item *item = xmalloc(sizeof *item);
    unsigned int n;

    item->garbage = dev->garbage;
    item->vq = vq;
    item->mem = mem;
    item->n = 1 + (mem ? mem->n_regions : 0);
    ovs_refcount_ref(&dev->garbage->ref_cnt);
    atomic_add(&dev->garbage->n, item->n, &n);
    ovsrcu_postpone(vhu_garbage_item_free, item);
}

/* Returns true if a vring was kicked without ever having a buffer, and no
 * other vring has had one. */
static bool
vhu_dev_looks_unshared(const struct vhu_dev *dev)
{
    bool suspect = false;

    for (unsigned int i = 0; i < dev->n_known; i++) {
        const struct vhu_vring *vring = dev->vrings[i];

        if (vring->running && vring->active) {
            return false;
        }
        suspect |= vring->running && vring->suspect;
    }
    return suspect;
}

/* Vrings: what the peer wants. */

void
vhu_vring_stop(struct vhu_dev *dev, struct vhu_vring *vring)
{
    if (vring->running) {
        vhu_vring_halt(dev, vring);
        VLOG_INFO_RL(&state_rl, "%s: vring %u: stopped, base %"PRIu32,
                     dev->name, vring->index, vhu_vring_get_base(dev, vring));
    }
    if (vring->started) {
        vring->started = false;
        dev->changed = true;
    }
    vhu_vring_set_kick_fd(vring, -1);
    vhu_vring_set_call_fd(dev, vring, -1);
    vring->has_addr = false;
    vring->has_base = false;
    vring->rebuild = false;
    vring->refused = false;
    vring->error = VIRTQ_ERROR_NONE;
    vhu_vring_set_problem(vring, NULL);
}

void
vhu_vring_set_kick_fd(struct vhu_vring *vring, int fd)
{
    if (vring->kick_fd >= 0) {
        close(vring->kick_fd);
    }
    vring->kick_fd = fd;
    vring->next_kick = 0;
    vring->kicked = false;
}

void
vhu_vring_set_call_fd(struct vhu_dev *dev, struct vhu_vring *vring, int fd)
{
    int old_fd = vring->call_fd;

    vring->call_fd = fd;
    if (vring->running) {
        ovs_spin_lock(&vring->lock);
        virtq_set_call_fd(vring->running, dev->blocked ? -1 : fd);
        vhu_vring_check_blocked(dev, vring);
        ovs_spin_unlock(&vring->lock);
    }
    if (old_fd >= 0) {
        close(old_fd);
    }
}

void
vhu_vring_set_err_fd(struct vhu_vring *vring, int fd)
{
    if (vring->err_fd >= 0) {
        close(vring->err_fd);
    }
    vring->err_fd = fd;
}

int
vhu_vring_set_base(const struct vhu_dev *dev, struct vhu_vring *vring,
                   uint32_t num)
{
    if (dev->features & VIRTIO_BIT(VIRTIO_F_RING_PACKED)) {
        vring->avail.idx = num & 0x7fff;
        vring->avail.wrap = num & 0x8000;
        vring->used.idx = (num >> 16) & 0x7fff;
        vring->used.wrap = num & 0x80000000;
    } else {
        if (num > UINT16_MAX) {
            return EINVAL;
        }
        vring->avail.idx = vring->used.idx = num;
        vring->avail.wrap = vring->used.wrap = false;
    }
    vring->has_base = true;
    return 0;
}

uint32_t
vhu_vring_get_base(const struct vhu_dev *dev, const struct vhu_vring *vring)
{
    if (dev->features & VIRTIO_BIT(VIRTIO_F_RING_PACKED)) {
        return (vring->avail.idx
                | (uint32_t) vring->avail.wrap << 15
                | (uint32_t) vring->used.idx << 16
                | (uint32_t) vring->used.wrap << 31);
    }
    return vring->avail.idx;
}

static struct vhu_vring *
vhu_vring_create(unsigned int index)
{
    struct vhu_vring *vring = xzalloc_cacheline(sizeof *vring);

    ovsrcu_init(&vring->vq, NULL);
    ovs_spin_init(&vring->lock);
    vring->index = index;
    vring->kick_fd = vring->call_fd = vring->err_fd = -1;
    return vring;
}

static void
vhu_vring_destroy(struct vhu_vring *vring)
{
    ovs_spin_destroy(&vring->lock);
    free_cacheline(vring);
}

/* Back to the state of a new vring, except for what counts. */
static void
vhu_vring_reset(struct vhu_dev *dev, struct vhu_vring *vring)
{
    vhu_vring_stop(dev, vring);
    vhu_vring_set_err_fd(vring, -1);
    vring->enabled = false;
    vring->size = 0;
    memset(&vring->addr, 0, sizeof vring->addr);
    memset(&vring->avail, 0, sizeof vring->avail);
    memset(&vring->used, 0, sizeof vring->used);
}

/* Vrings: what is. */

/* Returns true if 'vring' lacks nothing to run but perhaps its base. */
static bool
vhu_vring_is_complete(const struct vhu_dev *dev, const struct vhu_vring *vring)
{
    return (vring->started
            && vring->error == VIRTQ_ERROR_NONE
            && vring->size
            && vring->has_addr
            && dev->features_set
            && dev->mem
            && !dev->mem_dead);
}

/* Returns true if the first kick is what makes 'vring' run. */
static bool
vhu_vring_needs_kick(const struct vhu_dev *dev, const struct vhu_vring *vring)
{
    return (!vring->has_base
            && !vring->kicked
            && vring->kick_fd >= 0
            && vhu_vring_is_complete(dev, vring));
}

static int
vhu_vring_update(struct vhu_dev *dev, struct vhu_vring *vring,
                 bool mem_changed)
{
    bool runnable = (vhu_vring_is_complete(dev, vring)
                     && (vring->has_base || vring->kicked));
    int error = 0;

    if (vring->running && (!runnable || mem_changed || vring->rebuild)) {
        vhu_vring_halt(dev, vring);
    }
    vring->rebuild = false;
    if (mem_changed) {
        vring->refused = false;
    }

    if (runnable && !vring->running && !vring->refused) {
        error = vhu_vring_launch(dev, vring);
    }
    if (vring->running && vring->enabled != vring->published) {
        vhu_vring_publish(dev, vring, vring->enabled);
    }

    /* Give what is still under way the time to arrive: a kick may have been
     * there from the start. */
    if (!vring->next_kick && vhu_vring_needs_kick(dev, vring)) {
        vring->next_kick = time_msec() + KICK_INTERVAL;
    }
    return error;
}

/* Makes 'vring', which is runnable, run, but does not publish it. */
static int
vhu_vring_launch(struct vhu_dev *dev, struct vhu_vring *vring)
{
    bool transmitq = vhu_vring_is_transmitq(vring->index);
    bool packed = dev->features & VIRTIO_BIT(VIRTIO_F_RING_PACKED);
    struct virtq_config config = {
        .format = packed ? VIRTQ_PACKED : VIRTQ_SPLIT,
        .access = transmitq ? VIRTQ_DEVICE_READS : VIRTQ_DEVICE_WRITES,
        .size = vring->size,
        .features = dev->features,
        .mem = dev->mem,
        .desc_uva = vring->addr.desc,
        .driver_uva = vring->addr.avail,
        .device_uva = vring->addr.used,
        .avail = vring->avail,
        .used = vring->used,
        .call_fd = dev->blocked ? -1 : vring->call_fd,
        .counters = &vring->counters,
    };
    char *phrase;
    int error;

    error = virtq_create(&config, &vring->running, &phrase);
    if (error) {
        VLOG_WARN_RL(&rl, "%s: vring %u: cannot start: %s",
                     dev->name, vring->index, phrase);
        vhu_vring_set_problem(vring, xasprintf("vring %u cannot start: %s",
                                               vring->index, phrase));
        free(phrase);
        vring->running = NULL;
        vring->refused = true;
        dev->changed = true;
        return error;
    }

    vhu_vring_set_problem(vring, NULL);
    vhu_vring_check_blocked(dev, vring);
    virtq_get_base(vring->running, &vring->avail, &vring->used);
    vring->first = vring->avail;
    vring->n_kick_reads = 0;
    vring->next_kick = 0;
    vring->active = false;
    vring->suspect = false;
    dev->changed = true;
    if (transmitq) {
        virtq_enable_kicks(vring->running, true); /* Until published. */
    }
    VLOG_INFO_RL(&state_rl, "%s: vring %u (%s %u): started, %s, %"PRIu32
                 " descriptors, base %"PRIu32, dev->name, vring->index,
                 transmitq ? "transmitq" : "receiveq", vring->index / 2 + 1,
                 packed ? "packed" : "split", vring->size,
                 vhu_vring_get_base(dev, vring));
    return 0;
}

/* Makes 'vring', which runs, not run, and leaves in it where it was. */
static void
vhu_vring_halt(struct vhu_dev *dev, struct vhu_vring *vring)
{
    struct virtq *vq = vring->running;

    ovs_spin_lock(&vring->lock);
    ovsrcu_set(&vring->vq, NULL);
    virtq_get_base(vq, &vring->avail, &vring->used);
    ovs_spin_unlock(&vring->lock);

    vring->running = NULL;
    vring->published = false;
    dev->changed = true;
    vhu_dev_discard(dev, vq, NULL);
}

/* Gives the virtqueue of 'vring' to the data path, or takes it away. */
static void
vhu_vring_publish(struct vhu_dev *dev, struct vhu_vring *vring, bool publish)
{
    bool discards = !publish && vhu_vring_is_transmitq(vring->index);

    ovs_spin_lock(&vring->lock);
    virtq_enable_kicks(vring->running, discards);
    ovsrcu_set(&vring->vq, publish ? vring->running : NULL);
    ovs_spin_unlock(&vring->lock);

    vring->published = publish;
    vring->n_kick_reads = 0;
    vring->next_kick = 0;
    dev->changed = true;
}

/* Takes note if it is the call eventfd that broke 'vring', which runs. */
static void
vhu_vring_check_blocked(struct vhu_dev *dev, const struct vhu_vring *vring)
{
    dev->blocked |= (virtq_get_error(vring->running, NULL, NULL)
                     == VIRTQ_ERROR_CALL_BLOCKED);
}

static void
vhu_vring_set_problem(struct vhu_vring *vring, char *problem)
{
    free(vring->problem);
    vring->problem = problem;
}

/* Vrings: what is due. */

/* Returns true if 'vring' was kicked since the last call.
 *
 * An eventfd is not enough to know that read() does not block: the peer, who
 * shares the file description, can clear O_NONBLOCK and take the count that
 * poll() has shown us. */
static bool
vhu_vring_read_kicks(struct vhu_vring *vring)
{
    struct iovec iov;
    uint64_t n = 0;

    iov.iov_base = &n;
    iov.iov_len = sizeof n;
    if (vring->kick_fd < 0) {
        return false;
    } else if (preadv2(vring->kick_fd, &iov, 1, -1, RWF_NOWAIT) == sizeof n) {
        vring->kicks += n;
        return true;
    } else if (errno != EAGAIN && errno != EINTR) {
        /* A kernel older than Linux 5.8 cannot do that: poll instead. */
        VLOG_INFO_ONCE("cannot read kicks (%s), will poll",
                       ovs_strerror(errno));
        vhu_vring_set_kick_fd(vring, -1);
    }
    return false;
}

/* Returns a time after 'now', at which other vrings wake up, too. */
static long long int
vhu_vring_next_tick(long long int now, long long int interval)
{
    return (now / interval + 1) * interval;
}

/* Reports that 'vring' is broken, if it is. */
static void
vhu_vring_check_broken(struct vhu_dev *dev, struct vhu_vring *vring)
{
    uint64_t n = __atomic_load_n(&vring->counters.broken, __ATOMIC_RELAXED);
    enum virtq_error error;
    uint64_t value, limit;

    if (OVS_LIKELY(n == vring->n_broken) || vhu_mem_is_dead(dev->mem)) {
        /* What a ring made of zeros looks like is of no interest: the next
         * vhu_dev_run() finds the memory gone. */
        return;
    }
    vring->n_broken = n;

    ovs_spin_lock(&vring->lock);
    error = virtq_get_error(vring->running, &value, &limit);
    vhu_vring_check_blocked(dev, vring);
    ovs_spin_unlock(&vring->lock);
    if (error == VIRTQ_ERROR_NONE) {
        return;
    }

    vring->error = error;
    vhu_vring_set_problem(
        vring, xasprintf("vring %u is broken: %s (%"PRIu64", limit %"PRIu64")",
                         vring->index, virtq_error_to_string(error),
                         value, limit));
    VLOG_WARN_RL(&rl, "%s: %s", dev->name, vring->problem);
    vhu_vring_halt(dev, vring);
    if (vring->err_fd >= 0 && !dev->blocked && vhu_notify(vring->err_fd)) {
        dev->blocked = true;
    }
}

/* Takes what is transmitted on 'vring', which runs but is disabled, and throws
 * it away ("Ring states").  '*budget' is how many bursts may be taken. */
static void
vhu_vring_discard(struct vhu_vring *vring, unsigned int *budget)
{
    struct virtq_chain chains[VIRTQ_MAX_BURST];
    struct virtq *vq = vring->running;
    size_t n;

    ovs_spin_lock(&vring->lock);
    do {
        n = virtq_take_avail(vq, chains, VIRTQ_MAX_BURST);
        for (size_t i = 0; i < n; i++) {
            virtq_add_used(vq, &chains[i], 0);
        }
        virtq_publish_used(vq);
        virtq_call(vq);
        vring->discarded += n;
        if (n) {
            (*budget)--;
        }
    } while (n && *budget);
    virtq_enable_kicks(vq, true);
    ovs_spin_unlock(&vring->lock);
}

static void
vhu_vring_run_disabled(struct vhu_vring *vring, long long int now,
                       unsigned int *budget)
{
    bool due;

    if (now < vring->next_kick) {
        return;
    }

    due = vhu_vring_read_kicks(vring);
    if (*budget && virtq_has_avail(vring->running)) {
        vring->active = true;
        vhu_vring_discard(vring, budget);
        due = true;
    }
    if (due || vring->kick_fd < 0) {
        vring->next_kick = vhu_vring_next_tick(now, DISCARD_INTERVAL);
    }
}

/* Returns true if 'vring', which runs, has had a buffer. */
static bool
vhu_vring_has_moved(struct vhu_vring *vring)
{
    struct virtq_pos avail, used;

    if (virtq_has_avail(vring->running)) {
        return true;
    }
    ovs_spin_lock(&vring->lock);
    virtq_get_base(vring->running, &avail, &used);
    ovs_spin_unlock(&vring->lock);
    return (avail.idx != vring->first.idx || avail.wrap != vring->first.wrap);
}

/* Looks for kicks on 'vring', which runs and has not had a buffer. */
static void
vhu_vring_run_idle(struct vhu_dev *dev, struct vhu_vring *vring,
                   long long int now)
{
    if (vhu_vring_has_moved(vring)) {
        vring->active = true;
        vring->suspect = false;
        dev->changed = true;
    } else if (now < vring->next_kick) {
        /* Later. */
    } else if (vring->n_kick_reads >= 2) {
        if (!vring->suspect) {
            VLOG_WARN_RL(&rl, "%s: vring %u is kicked but stays empty: guest "
                         "memory is probably not shared", dev->name,
                         vring->index);
            vring->suspect = true;
            dev->changed = true;
        }
        vring->next_kick = vhu_vring_next_tick(now, SUSPECT_INTERVAL);
    } else if (vhu_vring_read_kicks(vring)) {
        vring->next_kick = (++vring->n_kick_reads < 2
                            ? vhu_vring_next_tick(now, KICK_INTERVAL)
                            : now + SUSPECT_INTERVAL);
    }
}

static void
vhu_vring_run(struct vhu_dev *dev, struct vhu_vring *vring, long long int now,
              unsigned int *budget)
{
    if (vring->running) {
        vhu_vring_check_broken(dev, vring);
    }

    if (vring->running) {
        if (!vring->published && vhu_vring_is_transmitq(vring->index)) {
            vhu_vring_run_disabled(vring, now, budget);
        } else if (!vring->active) {
            vhu_vring_run_idle(dev, vring, now);
        }
    } else if (vhu_vring_needs_kick(dev, vring)
               && now >= vring->next_kick
               && vhu_vring_read_kicks(vring)) {
        vring->kicked = true;
        vhu_vring_update(dev, vring, false);
    }
}

static void
vhu_vring_wait(const struct vhu_dev *dev, const struct vhu_vring *vring,
               long long int now)
{
    if (vring->running) {
        if (!vring->published && vhu_vring_is_transmitq(vring->index)) {
            if (vring->kick_fd < 0 || virtq_has_avail(vring->running)) {
                poll_timer_wait_until(vring->next_kick);
                return;
            }
        } else if (vring->active) {
            return;
        } else if (vring->n_kick_reads >= 2) {
            poll_timer_wait_until(vring->next_kick);
            return;
        }
    } else if (!vhu_vring_needs_kick(dev, vring)) {
        return;
    }

    if (now < vring->next_kick) {
        poll_timer_wait_until(vring->next_kick);
    } else if (vring->kick_fd >= 0) {
        poll_fd_wait(vring->kick_fd, POLLIN);
    }
}
