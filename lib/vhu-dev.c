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
#include <unistd.h>

#include "openvswitch/vlog.h"
#include "seq.h"
#include "timeval.h"
#include "util.h"
#include "vhu-dev-impl.h"
#include "vhu-log.h"
#include "vhu-mem.h"
#include "vhu-refcount.h"

VLOG_DEFINE_THIS_MODULE(vhu_dev);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(20, 60);

/* State changes: a device can have 256 vrings, which start together. */
static struct vlog_rate_limit state_rl = VLOG_RATE_LIMIT_INIT(600, 600);

/* From the start of a vring to when what is in it is discarded because it is
 * not enabled, in ms.  Some front-ends enable it right after the start, and it
 * may hold what the guest sent while there was no switch. */
#define ENABLE_DELAY 100

/* Virtqueues and memory regions that wait to be freed, more than which are
 * "much garbage". */
#define GARBAGE_MAX 4096

/* What the virtqueues and tables that a device has given up still hold.  Each
 * of them has a reference, and so may outlive the device. */
struct vhu_garbage {
    struct ovs_refcount ref_cnt;
    atomic_uint n;
};

/* A virtqueue, a table or a log, the others are null, after a grace period. */
struct vhu_garbage_item {
    struct vhu_garbage *garbage;
    struct virtq *vq;
    struct vhu_mem *mem;
    struct vhu_log *log;
    unsigned int n;             /* What it counts for in 'garbage'. */
};

/* How long we wait for a new dirty log when vrings start again, in ms. */
#define LOG_INTERVAL 1000

static const char no_mem_reason[] =
    "no memory table yet: the guest's driver has not started, or its memory "
    "is not shared (share=on)";

static bool vhu_dev_looks_unshared(const struct vhu_dev *);
static void vhu_dev_discard(struct vhu_dev *, struct virtq *,
                            struct vhu_mem *, struct vhu_log *);
static void vhu_garbage_unref(struct vhu_garbage *);
static struct vhu_vring *vhu_vring_create(unsigned int index);
static void vhu_vring_destroy(struct vhu_vring *);
static void vhu_vring_stop__(struct vhu_dev *, struct vhu_vring *);
static void vhu_vring_reset(struct vhu_dev *, struct vhu_vring *);
static bool vhu_vring_has_log(const struct vhu_dev *,
                              const struct vhu_vring *);
static bool vhu_vring_is_complete(const struct vhu_dev *,
                                  const struct vhu_vring *);
static void vhu_vring_update_log(const struct vhu_dev *, struct vhu_vring *);
static int vhu_vring_launch(struct vhu_dev *, struct vhu_vring *);
static void vhu_vring_publish(struct vhu_dev *, struct vhu_vring *,
                              bool publish);

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
    vhu_dev_close_positions(dev);
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
    dev->positions_failed = false;
    dev->features = 0;
    dev->features_set = false;
    dev->protocol_features = 0;
    dev->mtu = 0;
    dev->status = 0;
    vhu_dev_set_mem(dev, NULL);
    vhu_dev_set_log(dev, NULL);
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
        vhu_dev_discard(dev, NULL, dev->mem, NULL);
    }
    dev->mem = mem;
    dev->mem_dead = false;
    free(dev->mem_error);
    dev->mem_error = NULL;
    dev->changed = true;
}

void
vhu_dev_set_log(struct vhu_dev *dev, struct vhu_log *log)
{
    if (dev->log) {
        vhu_dev_discard(dev, NULL, NULL, dev->log);
    }
    dev->log = log;
    dev->log_dead = false;
    dev->log_old = false;
}

bool
vhu_dev_wants_log(const struct vhu_dev *dev)
{
    bool wants = dev->features & VIRTIO_BIT(VHOST_F_LOG_ALL);

    for (unsigned int i = 0; i < dev->n_known; i++) {
        const struct vhu_vring *vring = dev->vrings[i];

        wants |= vring->has_addr && vring->addr.flags & VHOST_VRING_F_LOG;
    }
    return wants;
}

const struct vhu_vring *
vhu_dev_find_running(const struct vhu_dev *dev)
{
    for (unsigned int i = 0; i < dev->n_known; i++) {
        if (dev->vrings[i]->running) {
            return dev->vrings[i];
        }
    }
    return NULL;
}

int
vhu_dev_check_log(const struct vhu_dev *dev, const struct vhu_log *log,
                  const struct vhu_mem *mem, char **error)
{
    *error = NULL;
    for (int i = 0; mem && i < mem->n_regions; i++) {
        const struct vhu_mem_region *r = &mem->regions[i];

        if (!vhu_log_covers(log, r->guest_addr, r->size)) {
            *error = xasprintf("a dirty log for guest addresses up to "
                               "0x%"PRIx64" does not cover the memory region "
                               "at 0x%"PRIx64" of size 0x%"PRIx64,
                               vhu_log_extent(log), r->guest_addr, r->size);
            return EINVAL;
        }
    }
    for (unsigned int i = 0; i < dev->n_known; i++) {
        const struct vhu_vring *vring = dev->vrings[i];
        struct virtq_config config = vhu_vring_get_config(dev, vring,
                                                         &vring->addr);

        config.log.log = log;
        if (vring->has_addr && !virtq_check_log(&config)) {
            *error = xasprintf("a dirty log for guest addresses up to "
                               "0x%"PRIx64" does not cover the used ring of "
                               "vring %u at 0x%"PRIx64, vhu_log_extent(log),
                               i, vring->addr.log);
            return EINVAL;
        }
    }
    return 0;
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
    } else if (dev->log_dead) {
        return "dirty log vanished (file truncated?)";
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
        } else if (!vhu_vring_has_log(dev, vring)) {
            return "the front-end wants a dirty log but has not sent it";
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
    if (vhu_refcount_unref(&garbage->ref_cnt)) {
        free(garbage);
    }
}

static void
vhu_garbage_item_free(struct vhu_garbage_item *item)
{
    unsigned int n;

    virtq_destroy(item->vq);
    vhu_mem_destroy(item->mem);
    vhu_log_destroy(item->log);
    atomic_sub(&item->garbage->n, item->n, &n);
    vhu_garbage_unref(item->garbage);
    free(item);
}

/* Frees 'vq', 'mem' and 'log', each of which may be null, after a grace
 * period. */
static void
vhu_dev_discard(struct vhu_dev *dev, struct virtq *vq, struct vhu_mem *mem,
                struct vhu_log *log)
{
    struct vhu_garbage_item *item = xmalloc(sizeof *item);
    unsigned int n;

    item->garbage = dev->garbage;
    item->vq = vq;
    item->mem = mem;
    item->log = log;
    /* Addresses are scarce, too: 64 TiB of them are as much as may wait. */
    item->n = (1 + (mem ? mem->n_regions + (vhu_mem_size(mem) >> 34) : 0)
               + (log ? log->n_pages >> 24 : 0));
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
    bool is_known = vring->running || vring->error != VIRTQ_ERROR_NONE;

    vhu_vring_stop__(dev, vring);
    if (is_known) {
        vhu_dev_forget_record(dev, vring->index);
    }
}

static void
vhu_vring_stop__(struct vhu_dev *dev, struct vhu_vring *vring)
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
    if (!vhu_dev_find_running(dev)) {
        dev->log_old = true;
        dev->log_deadline = 0;
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

struct virtq_config
vhu_vring_get_config(const struct vhu_dev *dev, const struct vhu_vring *vring,
                     const struct vhost_user_vring_addr *addr)
{
    bool packed = dev->features & VIRTIO_BIT(VIRTIO_F_RING_PACKED);
    bool buffers = dev->features & VIRTIO_BIT(VHOST_F_LOG_ALL);
    bool areas = addr->flags & VHOST_VRING_F_LOG;
    struct virtq_config config = {
        .format = packed ? VIRTQ_PACKED : VIRTQ_SPLIT,
        .access = (vhu_vring_is_transmitq(vring->index)
                   ? VIRTQ_DEVICE_READS : VIRTQ_DEVICE_WRITES),
        .size = vring->size,
        .features = dev->features,
        .mem = dev->mem,
        .desc_uva = addr->desc,
        .driver_uva = addr->avail,
        .device_uva = addr->used,
        .avail = vring->avail,
        .used = vring->used,
        .call_fd = dev->blocked ? -1 : vring->call_fd,
        .counters = CONST_CAST(struct virtq_counters *, &vring->counters),
        .log = {
            .log = buffers || areas ? dev->log : NULL,
            .buffers = buffers,
            .areas = areas,
            .used_gpa = addr->log,
        },
    };

    return config;
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
    vhu_vring_stop__(dev, vring);
    vhu_vring_set_err_fd(vring, -1);
    vring->enabled = false;
    vring->size = 0;
    memset(&vring->addr, 0, sizeof vring->addr);
    memset(&vring->avail, 0, sizeof vring->avail);
    memset(&vring->used, 0, sizeof vring->used);
}

/* Vrings: what is. */

/* Returns true if 'vring' has a log, or is not to log anything.  A front-end
 * without VHOST_USER_PROTOCOL_F_LOG_SHMFD has none to send. */
static bool
vhu_vring_has_log(const struct vhu_dev *dev, const struct vhu_vring *vring)
{
    return ((dev->log && !dev->log_old)
            || !(dev->protocol_features
                 & VIRTIO_BIT(VHOST_USER_PROTOCOL_F_LOG_SHMFD))
            || !(dev->features & VIRTIO_BIT(VHOST_F_LOG_ALL)
                 || vring->addr.flags & VHOST_VRING_F_LOG));
}

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
            && !dev->mem_dead
            && vhu_vring_has_log(dev, vring)
            && !dev->log_dead);
}

bool
vhu_vring_needs_kick(const struct vhu_dev *dev, const struct vhu_vring *vring)
{
    return (!vring->has_base
            && !vring->kicked
            && vring->kick_fd >= 0
            && vhu_vring_is_complete(dev, vring));
}

int
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
    if (dev->log && dev->log_old && !dev->log_deadline
        && !vhu_vring_has_log(dev, vring) && vring->started) {
        dev->log_deadline = time_msec() + LOG_INTERVAL;
    }

    if (runnable && !vring->running && !vring->refused) {
        error = vhu_vring_launch(dev, vring);
    }
    if (vring->running) {
        vhu_vring_update_log(dev, vring);
    }
    if (vring->running && vring->enabled != vring->published) {
        vhu_vring_publish(dev, vring, vring->enabled);
    }

    /* Give what is still under way the time to arrive: a kick may have been
     * there from the start. */
    if (!vring->next_kick && vhu_vring_needs_kick(dev, vring)) {
        vring->next_kick = time_msec() + VHU_KICK_INTERVAL;
    }
    return error;
}

/* Makes 'vring', which runs, log what it is to log now. */
static void
vhu_vring_update_log(const struct vhu_dev *dev, struct vhu_vring *vring)
{
    struct virtq_log log = vhu_vring_get_config(dev, vring, &vring->addr).log;

    if (log.log == vring->log.log && log.buffers == vring->log.buffers
        && log.areas == vring->log.areas
        && log.used_gpa == vring->log.used_gpa) {
        return;
    }
    ovs_spin_lock(&vring->lock);
    virtq_set_log(vring->running, &log);
    ovs_spin_unlock(&vring->lock);
    vring->log = log;
}

/* Makes 'vring', which is runnable, run, but does not publish it. */
static int
vhu_vring_launch(struct vhu_dev *dev, struct vhu_vring *vring)
{
    struct virtq_config config = vhu_vring_get_config(dev, vring,
                                                         &vring->addr);
    bool transmitq = config.access == VIRTQ_DEVICE_READS;
    char *phrase;
    int error;

    vhu_dev_claim_record(dev, vring->index, &config);
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
    vring->log = config.log;
    virtq_get_base(vring->running, &vring->avail, &vring->used);
    vring->first = vring->avail;
    vring->n_kick_reads = 0;
    vring->next_kick = (transmitq && !vring->enabled
                        ? time_msec() + ENABLE_DELAY : 0);
    vring->active = false;
    vring->suspect = false;
    dev->changed = true;
    if (transmitq) {
        virtq_enable_kicks(vring->running, true); /* Until published. */
    }
    VLOG_INFO_RL(&state_rl, "%s: vring %u (%s %u): started, %s, %"PRIu32
                 " descriptors, base %"PRIu32"%s", dev->name, vring->index,
                 transmitq ? "transmitq" : "receiveq", vring->index / 2 + 1,
                 config.format == VIRTQ_PACKED ? "packed" : "split",
                 vring->size, vhu_vring_get_base(dev, vring),
                 virtq_is_from_record(vring->running) ? ", as recorded"
                 : config.recorded ? ", record does not fit" : "");
    return 0;
}

void
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
    vhu_dev_discard(dev, vq, NULL, NULL);
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

void
vhu_vring_check_blocked(struct vhu_dev *dev, const struct vhu_vring *vring)
{
    dev->blocked |= (virtq_get_error(vring->running, NULL, NULL)
                     == VIRTQ_ERROR_CALL_BLOCKED);
}

void
vhu_vring_set_problem(struct vhu_vring *vring, char *problem)
{
    free(vring->problem);
    vring->problem = problem;
}
