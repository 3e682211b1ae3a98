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

#include "vhu-frontend-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "openvswitch/vlog.h"
#include "util.h"
#include "vhu-dev.h"
#include "vhu-notify.h"
#include "vhu-shm.h"

VLOG_DEFINE_THIS_MODULE(vhu_frontend_vring);

/* Virtqueues, the memory that they are in, and the descriptors that go with
 * them. */

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(20, 60);

/* What waits for the end of a grace period. */
struct vhu_fe_garbage {
    struct vhu_shm *shm;
    struct virtq_drv *drvs[VHOST_USER_MAX_VRINGS];
    size_t n;
};

static struct virtq_drv_config make_config(const struct vhu_frontend *,
                                           unsigned int index);
static int make_memory(struct vhu_frontend *, char **error);
static int make_eventfds(struct vhu_frontend *, struct vhu_fe_vring *);
static void publish(struct vhu_fe_vring *, bool publish);
static uint32_t get_base(const struct vhu_fe_vring *);
static uint32_t pos_to_base(bool packed, struct virtq_pos avail,
                            struct virtq_pos used);
static bool is_packed(const struct virtq_drv *);
static bool memory_fits(const struct vhu_frontend *);

struct vhu_fe_vring *
vhu_fe_vring_create(unsigned int index)
{
    struct vhu_fe_vring *vring = xzalloc_cacheline(sizeof *vring);

    ovsrcu_init(&vring->vq, NULL);
    ovs_spin_init(&vring->lock);
    vring->index = index;
    vring->kick_fd = vring->call_fd = vring->masked_fd = -1;
    return vring;
}

/* Frees 'vring', which has no virtqueue any more. */
void
vhu_fe_vring_destroy(struct vhu_fe_vring *vring)
{
    const int fds[] = { vring->kick_fd, vring->call_fd, vring->masked_fd };

    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    ovs_spin_destroy(&vring->lock);
    free_cacheline(vring);
}

/* Gets all vrings that are in use ready for a start: memory, virtqueues and
 * the place where each begins.  Returns 0, or a positive errno with a phrase
 * in '*error'. */
int
vhu_fe_vrings_prepare(struct vhu_frontend *fe, char **error)
{
    int retval;

    if (fe->shm && !memory_fits(fe)) {
        vhu_fe_vrings_forget(fe);
    }
    if (!fe->shm) {
        retval = make_memory(fe, error);
        if (retval) {
            vhu_fe_vrings_forget(fe);
            return retval;
        }
    }
    if (!vhu_fe_has_protocol(fe, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD)
        || fe->inflight.desc.num_queues != vhu_fe_n_vrings(fe)) {
        vhu_fe_inflight_forget(fe);
    }
    retval = vhu_fe_make_eventfd(&fe->err_fd);
    for (unsigned int i = 0; !retval && i < vhu_fe_n_vrings(fe); i++) {
        struct vhu_fe_vring *vring = fe->vrings[i];

        retval = make_eventfds(fe, vring);
        ovs_spin_lock(&vring->lock);
        vring->resume = (vring->resume
                         && (!vring->lost || fe->config.keep_rings
                             || fe->inflight.fd >= 0)
                         && virtq_drv_resume(vring->drv));
        virtq_drv_set_kick_fd(vring->drv, (fe->config.poll_kick ? -1
                                           : vring->kick_fd));
        ovs_spin_unlock(&vring->lock);
        if (!vring->resume) {
            vhu_fe_vring_fresh(fe, vring);
        }
    }
    if (retval) {
        *error = xasprintf("cannot create an eventfd: %s",
                           ovs_strerror(retval));
    }
    return retval;
}

/* Publishes each virtqueue that packets can flow through, and takes the others
 * away from the PMD threads. */
void
vhu_fe_vrings_update(struct vhu_frontend *fe)
{
    for (unsigned int i = 0; i < VHOST_USER_MAX_VRINGS; i++) {
        struct vhu_fe_vring *vring = fe->vrings[i];
        bool wanted = (fe->started
                       && vring->started
                       && !vring->reset
                       && i < vhu_fe_n_vrings(fe)
                       && fe->told_enabled[i / 2]);

        if (wanted != vring->published) {
            publish(vring, wanted);
            fe->changed = true;
        }
    }
}

static void
free_garbage(struct vhu_fe_garbage *garbage)
{
    for (size_t i = 0; i < garbage->n; i++) {
        virtq_drv_destroy(garbage->drvs[i]);
    }
    vhu_shm_destroy(garbage->shm);
    free(garbage);
}

/* Frees virtqueues, memory and what the back-end remembers of them, after a
 * grace period. */
void
vhu_fe_vrings_forget(struct vhu_frontend *fe)
{
    struct vhu_fe_garbage *garbage = xzalloc(sizeof *garbage);

    for (unsigned int i = 0; i < VHOST_USER_MAX_VRINGS; i++) {
        struct vhu_fe_vring *vring = fe->vrings[i];

        if (vring->published) {
            publish(vring, false);
        }
        if (vring->drv) {
            garbage->drvs[garbage->n++] = vring->drv;
            vring->drv = NULL;
        }
        vring->resume = false;
    }
    garbage->shm = fe->shm;
    ovsrcu_postpone(free_garbage, garbage);

    fe->shm = NULL;
    fe->mem_pairs = 0;
    fe->mem_told = false;
    vhu_fe_inflight_forget(fe);
}

/* Forgets what the back-end remembers of the buffers that it has. */
void
vhu_fe_inflight_forget(struct vhu_frontend *fe)
{
    if (fe->inflight.fd >= 0) {
        close(fe->inflight.fd);
        fe->inflight.fd = -1;
    }
}

/* The connection was lost.  What the back-end was about to do with the buffers
 * that it had is known only from the inflight region, if there is one. */
void
vhu_fe_vrings_lost(struct vhu_frontend *fe)
{
    vhu_fe_vrings_update(fe);
    for (unsigned int i = 0; i < VHOST_USER_MAX_VRINGS; i++) {
        struct vhu_fe_vring *vring = fe->vrings[i];

        if (vring->started && vring->drv) {
            vring->resume = vring->lost = true;
            if (!fe->config.keep_rings || !is_packed(vring->drv)) {
                vring->base = get_base(vring);
            }
        }
        vring->started = false;
        vring->want_reset = false;
        vring->reset = false;
    }
}

/* Sends the kick that starts 'vring', and one for what it holds already. */
void
vhu_fe_vring_kick(struct vhu_fe_vring *vring)
{
    ovs_spin_lock(&vring->lock);
    virtq_drv_kick(vring->drv);
    ovs_spin_unlock(&vring->lock);
}

/* Has 'vring', which the back-end does not use, begin from the beginning. */
void
vhu_fe_vring_fresh(struct vhu_frontend *fe OVS_UNUSED,
                   struct vhu_fe_vring *vring)
{
    ovs_spin_lock(&vring->lock);
    virtq_drv_restart(vring->drv);
    vring->base = get_base(vring);
    ovs_spin_unlock(&vring->lock);
    vring->resume = false;
    vring->lost = false;
}

/* The back-end has stopped 'vring' at 'base', which is where it continues, if
 * that makes sense.
 *
 * Of a packed virtqueue some back-ends say only the lower half, which is where
 * they take the next buffer; they mean that all before that is used. */
void
vhu_fe_vring_stopped(struct vhu_frontend *fe, struct vhu_fe_vring *vring,
                     uint32_t base)
{
    bool packed = is_packed(vring->drv);
    struct virtq_pos avail = { base & (packed ? 0x7fff : UINT16_MAX),
                               packed && base & 0x8000 };
    struct virtq_pos used = { base >> 16 & 0x7fff, base & 0x80000000 };
    bool ok;

    if (!packed) {
        used = avail;
    }
    ovs_spin_lock(&vring->lock);
    ok = ((packed || base <= UINT16_MAX)
          && virtq_drv_check_base(vring->drv, avail, used));
    if (!ok && packed && virtq_drv_check_base(vring->drv, avail, avail)) {
        used = avail;
        ok = true;
    }
    ovs_spin_unlock(&vring->lock);

    vring->started = false;
    vring->resume = ok;
    vring->base = pos_to_base(packed, avail, used);
    if (!ok) {
        VLOG_WARN_RL(&rl, "%s: vring %u: back-end stopped at %"PRIu32", where "
                     "it cannot have been; starting afresh", fe->name,
                     vring->index, base);
    }
}

/* Looks for what has gone wrong with a virtqueue or the memory, and returns
 * it, newly allocated, or null. */
char *
vhu_fe_vrings_check(struct vhu_frontend *fe)
{
    if (fe->shm && vhu_shm_is_dead(fe->shm)) {
        return xstrdup("shared memory has vanished");
    }
    for (unsigned int i = 0; i < vhu_fe_n_vrings(fe); i++) {
        struct vhu_fe_vring *vring = fe->vrings[i];
        uint64_t n = __atomic_load_n(&vring->counters.broken,
                                     __ATOMIC_RELAXED);
        enum virtq_drv_error error;
        uint64_t value, limit;

        if (OVS_LIKELY(n == vring->n_broken) || !vring->started) {
            continue;
        }
        vring->n_broken = n;
        ovs_spin_lock(&vring->lock);
        error = virtq_drv_get_error(vring->drv, &value, &limit);
        ovs_spin_unlock(&vring->lock);
        if (error != VIRTQ_DRV_ERROR_NONE) {
            return xasprintf("vring %u is broken: %s (%"PRIu64", limit "
                             "%"PRIu64")", i,
                             virtq_drv_error_to_string(error), value, limit);
        }
    }
    return NULL;
}

/* Makes an eventfd and stores it in '*fdp', unless there is one.  Returns 0 or
 * a positive errno. */
int
vhu_fe_make_eventfd(int *fdp)
{
    if (*fdp < 0) {
        *fdp = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    }
    return *fdp < 0 ? errno : 0;
}

/* Returns the counter of eventfd 'fd' and resets it to 0.  Does not block,
 * whatever the back-end, which has the same file description, does. */
uint64_t
vhu_fe_read_eventfd(int fd)
{
    uint64_t n = 0;
    struct iovec iov = { .iov_base = &n, .iov_len = sizeof n };

    return (fd >= 0 && preadv2(fd, &iov, 1, -1, RWF_NOWAIT) == sizeof n
            ? n : 0);
}

/* Memory. */

static struct virtq_drv_config
make_config(const struct vhu_frontend *fe, unsigned int index)
{
    bool packed = fe->info.features & VIRTIO_BIT(VIRTIO_F_RING_PACKED);
    struct vhu_fe_vring *vring = fe->vrings[index];

    return (struct virtq_drv_config) {
        .format = packed ? VIRTQ_PACKED : VIRTQ_SPLIT,
        .access = (vhu_vring_is_transmitq(index) ? VIRTQ_DEVICE_READS
                   : VIRTQ_DEVICE_WRITES),
        .size = fe->config.queue_size,
        .buf_size = fe->config.buf_size,
        .features = fe->info.features,
        .shm = fe->shm,
        .kick_fd = -1,
        .counters = &vring->counters,
    };
}

/* Returns true if the memory of 'fe' is good for what was negotiated.  A start
 * that failed leaves memory behind, and the next back-end may have other
 * features. */
static bool
memory_fits(const struct vhu_frontend *fe)
{
    return (!vhu_shm_is_dead(fe->shm)
            && fe->mem_pairs >= fe->info.n_pairs
            && (virtq_drv_get_features(fe->vrings[0]->drv)
                == fe->info.features));
}

/* Makes memory for all vrings that are in use, and virtqueues in it. */
static int
make_memory(struct vhu_frontend *fe, char **error)
{
    struct vhu_shm_config shm_config = {
        .name = fe->name,
        .hugepages = fe->config.hugepages,
    };
    struct virtq_drv_config config;
    int retval;

    for (unsigned int i = 0; i < vhu_fe_n_vrings(fe); i++) {
        config = make_config(fe, i);
        shm_config.size += ROUND_UP(virtq_drv_shm_size(&config),
                                    VIRTQ_DRV_ALIGN);
    }
    retval = vhu_shm_create(&shm_config, &fe->shm, error);
    if (retval) {
        return retval;
    }
    fe->mem_pairs = fe->info.n_pairs;
    for (unsigned int i = 0; i < vhu_fe_n_vrings(fe); i++) {
        struct vhu_fe_vring *vring = fe->vrings[i];

        config = make_config(fe, i);
        if (!vhu_shm_carve(fe->shm, virtq_drv_shm_size(&config),
                           VIRTQ_DRV_ALIGN, &config.ofs)) {
            *error = xasprintf("no memory left for vring %u", i);
            return ENOMEM;
        }
        retval = virtq_drv_create(&config, &vring->drv, error);
        if (retval) {
            return retval;
        }
        vring->n_broken = vring->counters.broken;
    }
    return 0;
}

/* The kick eventfd is a new one, since an earlier back-end may still have the
 * last one. */
static int
make_eventfds(struct vhu_frontend *fe, struct vhu_fe_vring *vring)
{
    int retval;

    if (vring->kick_fd >= 0) {
        close(vring->kick_fd);
        vring->kick_fd = -1;
    }
    retval = (fe->config.poll_kick ? 0
              : vhu_fe_make_eventfd(&vring->kick_fd));
    if (!retval && vring->call == VHU_FE_CALL_UNMASKED) {
        retval = vhu_fe_make_eventfd(&vring->call_fd);
    } else if (!retval && vring->call == VHU_FE_CALL_MASKED) {
        retval = vhu_fe_make_eventfd(&vring->masked_fd);
    }
    return retval;
}

/* Positions. */

static void
publish(struct vhu_fe_vring *vring, bool publish)
{
    ovs_spin_lock(&vring->lock);
    ovsrcu_set(&vring->vq, publish ? vring->drv : NULL);
    ovs_spin_unlock(&vring->lock);
    vring->published = publish;
}

static bool
is_packed(const struct virtq_drv *drv)
{
    return virtq_drv_get_features(drv) & VIRTIO_BIT(VIRTIO_F_RING_PACKED);
}

/* Returns where a back-end that knows nothing begins. */
static uint32_t
get_base(const struct vhu_fe_vring *vring)
{
    struct virtq_pos avail, used;

    virtq_drv_get_base(vring->drv, &avail, &used);
    return pos_to_base(is_packed(vring->drv), avail, used);
}

/* vhost-user, "Vring descriptor indices for split virtqueues" and "... for
 * packed virtqueues". */
static uint32_t
pos_to_base(bool packed, struct virtq_pos avail, struct virtq_pos used)
{
    return (!packed ? avail.idx
            : (avail.idx
               | (uint32_t) avail.wrap << 15
               | (uint32_t) used.idx << 16
               | (uint32_t) used.wrap << 31));
}
