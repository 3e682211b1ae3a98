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

#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "seq.h"
#include "timeval.h"
#include "util.h"
#include "vhu-dev-impl.h"
#include "vhu-log.h"
#include "vhu-mem.h"
#include "vhu-notify.h"

VLOG_DEFINE_THIS_MODULE(vhu_dev_run);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(20, 60);

/* How often we look at most, in ms. */
enum {
    DISCARD_INTERVAL = 10,      /* What comes in on a disabled vring. */
    SUSPECT_INTERVAL = 1000,    /* Buffers on an idle vring that is kicked. */
};

/* Most bursts that are discarded in one go, from all vrings of a device.  One
 * can take a millisecond, if the guest makes its chains as long as it can. */
#define DISCARD_MAX 32

static void vhu_dev_check_dead(struct vhu_dev *);
static void vhu_vring_run(struct vhu_dev *, struct vhu_vring *,
                          long long int now, unsigned int *budget);
static void vhu_vring_wait(const struct vhu_dev *, const struct vhu_vring *,
                           long long int now);

void
vhu_dev_run(struct vhu_dev *dev)
{
    unsigned int budget = DISCARD_MAX;
    long long int now = time_msec();

    dev->wakeup_seqno = seq_read(dev->wakeup);

    vhu_dev_check_dead(dev);
    if (dev->log_old && dev->log_deadline && now >= dev->log_deadline) {
        /* No other comes: go on with this one. */
        dev->log_old = false;
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
    if (dev->log_old && dev->log_deadline) {
        poll_timer_wait_until(dev->log_deadline);
    }
    for (unsigned int i = 0; i < dev->n_known; i++) {
        vhu_vring_wait(dev, dev->vrings[i], now);
    }
    if (dev->changed) {
        poll_immediate_wake();
    }
}

/* Takes note of memory that has vanished. */
static void
vhu_dev_check_dead(struct vhu_dev *dev)
{
    bool mem_dead = dev->mem && vhu_mem_is_dead(dev->mem);
    bool log_dead = dev->log && vhu_log_is_dead(dev->log);

    if (mem_dead != dev->mem_dead || log_dead != dev->log_dead) {
        VLOG_WARN_RL(&rl, "%s: %s vanished, all vrings stop", dev->name,
                     mem_dead ? "guest memory" : "dirty log");
        dev->mem_dead = mem_dead;
        dev->log_dead = log_dead;
        dev->changed = true;
        vhu_dev_update(dev, false);
    }
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
                            ? vhu_vring_next_tick(now, VHU_KICK_INTERVAL)
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
