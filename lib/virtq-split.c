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

#include "virtq-split.h"

#include <errno.h>
#include <inttypes.h>

#include "openvswitch/util.h"
#include "util.h"
#include "virtq-impl.h"

/* Progress of 'next_avail' after which the kick suppression with event index
 * is renewed.  See suppress_kicks(). */
#define RENEW_EVENT 8192

static void set_start(struct virtq *, uint16_t base);
static size_t gather_heads(struct virtq *, uint16_t heads[], size_t max);
static bool read_chain(struct virtq *, uint16_t head, struct virtq_walk *,
                       const struct virtq_desc_copy *);
static bool read_table(struct virtq *, struct virtq_walk *,
                       const struct virtq_desc_copy *);
static void suppress_kicks(struct virtq *);

/* Sets up what is particular to this format.  Returns 0 or a positive errno
 * with a text in '*error'. */
int
virtq_split_init(struct virtq *vq, const struct virtq_config *config,
                 char **error)
{
    struct virtq_split_ring *ring = &vq->split;
    struct virtq_areas areas;
    int retval;

    if (!is_pow2(config->size)) {
        *error = xasprintf("size %"PRIu32" is not a power of 2",
                           config->size);
        return EINVAL;
    }
    retval = virtq_map_areas(config, &areas, error);
    if (retval) {
        return retval;
    }
    ring->desc = areas.desc;
    ring->avail = areas.driver;
    ring->used = areas.device;
    ring->used_event = &ring->avail->ring[config->size];
    ring->avail_event = (virtio_le16 *) &ring->used->ring[config->size];

    virtq_set_log(vq, &config->log);
    set_start(vq, config->avail.idx);
    virtq_split_enable_kicks(vq);
    return 0;
}

/* Moves 'vq' on to take 'idx' next.  virtq_split_n_avail() reads it without a
 * lock. */
static ALWAYS_INLINE inline void
set_next_avail(struct virtq *vq, uint16_t idx)
{
    __atomic_store_n(&vq->next_avail.idx, idx, __ATOMIC_RELAXED);
    if (idx != vq->driver_idx) {
        /* Something is known of already: do not touch the cache line that the
         * driver keeps writing. */
        virtq_set_poll(vq, &virtq_zero, 0, 0, true);
    } else {
        virtq_set_poll(vq, &vq->split.avail->idx, 0xffff, idx, false);
    }
}

/* Decides where 'vq', of which nothing but the ring is set up yet, starts, if
 * the front-end says at 'base'.
 *
 * The used index in memory is what the driver knows, so we go on from there.
 * A front-end whose back-end stopped in an orderly way says the same number.
 * What if not?
 *
 *    - 'base' is ahead of the used index, but not ahead of the driver: some
 *      other device had buffers in flight.  They are not ours to use, because
 *      we cannot know which ones it was.  We start at 'base'.
 *
 *    - Otherwise 'base' is wrong: DPDK's virtio-user says 0 whenever it
 *      reconnects.  A back-end that used its buffers in order, as all those
 *      of network devices do, left off at the used index.  Packets that it
 *      took but did not get to use are seen twice.
 *
 * If the driver's index is too far from where we start then, so be it: the
 * first virtq_take_avail() finds the virtqueue broken. */
static void
set_start(struct virtq *vq, uint16_t base)
{
    uint16_t used = virtio_load_le16(&vq->split.used->idx);
    uint16_t driver = virtio_load_le16(&vq->split.avail->idx);
    uint16_t in_flight = base - used;
    uint16_t n_avail = driver - base;

    if (in_flight > vq->size || n_avail > vq->size) {
        base = used;
    }
    vq->driver_idx = base;
    set_next_avail(vq, base);
    vq->next_used.idx = used;
    vq->published.idx = used;
    vq->signalled = used;
}

/* Taking available buffers. */

static ALWAYS_INLINE inline struct virtq_desc_copy
read_desc(const struct virtq_desc *desc)
{
    /* The three fields of the second half are read in one access: see
     * virtio-spec.h for their places, little-endian. */
    uint64_t rest = virtio_load_le64(ALIGNED_CAST(const virtio_le64 *,
                                                  &desc->len));
    struct virtq_desc_copy copy = {
        .addr = virtio_load_le64(&desc->addr),
        .len = rest,
        .flags = rest >> 32,
        .next = rest >> 48,
    };

    return copy;
}

/* Takes the chain at 'head', whose first descriptor is 'desc', into '*chain',
 * whatever its layout, and adds it to 'burst'.  Returns false if it is not to
 * be taken: because 'vq' is broken or because it must wait for the next
 * burst. */
static bool
take_chain(struct virtq *vq, uint16_t head, const struct virtq_desc_copy *desc,
           struct virtq_burst *burst, struct virtq_chain *chain)
{
    struct virtq_walk walk = {
        .segs = &vq->segs[burst->n_segs],
        .max_segs = vq->max_segs - burst->n_segs,
        .n_descs = 1,
    };

    if (!read_chain(vq, head, &walk, desc) || (walk.full && burst->n)) {
        return false;
    }
    virtq_walk_finish(vq, &walk, head, chain);
    burst->n_segs += chain->n_segs;
    burst->n_descs += walk.n_descs;
    return true;
}

static ALWAYS_INLINE inline size_t
take_avail(struct virtq *vq, struct virtq_chain chains[], size_t max,
           enum virtq_access access)
{
    struct virtq_burst burst = { .n = 0 };
    uint16_t heads[VIRTQ_MAX_BURST];
    size_t n_heads;

    n_heads = gather_heads(vq, heads, MIN(max, VIRTQ_MAX_BURST));
    while (burst.n < n_heads && burst.n_descs < VIRTQ_MAX_BURST_DESCS) {
        struct virtq_chain *chain = &chains[burst.n];
        uint16_t head = heads[burst.n];
        struct virtq_desc_copy desc = read_desc(&vq->split.desc[head]);

        if (OVS_LIKELY(virtq_take_simple(vq, &desc, access, &burst, chain))) {
            chain->id = head;
        } else if (!take_chain(vq, head, &desc, &burst, chain)) {
            break;
        }
        virtq_prefetch_chain(chain, access);
        burst.n++;
    }
    if (OVS_UNLIKELY(!vq->usable)) {
        return 0;
    }
    set_next_avail(vq, vq->next_avail.idx + burst.n);
    vq->n_taken = burst.n;
    return burst.n;
}

size_t
virtq_split_take_avail(struct virtq *vq, struct virtq_chain chains[],
                       size_t max)
{
    return (vq->access == VIRTQ_DEVICE_WRITES
            ? take_avail(vq, chains, max, VIRTQ_DEVICE_WRITES)
            : take_avail(vq, chains, max, VIRTQ_DEVICE_READS));
}

/* Reads the heads of up to 'max' available chains into 'heads' and returns
 * their number. */
static size_t
gather_heads(struct virtq *vq, uint16_t heads[], size_t max)
{
    const struct virtq_split_ring *ring = &vq->split;
    uint16_t next = vq->next_avail.idx;
    uint16_t mask = vq->size - 1;
    uint16_t n = vq->driver_idx - next;

    if (OVS_UNLIKELY(!virtq_check_usable(vq))) {
        return 0;
    }

    /* Look at what the driver keeps writing only if what it wrote before is
     * not enough. */
    if (n < max) {
        /* Pairs with the release, or write barrier, with which the driver
         * makes buffers available: we see the descriptors and ring entries up
         * to this index. */
        vq->driver_idx = virtio_load_acquire_le16(&ring->avail->idx);
        n = vq->driver_idx - next;
        if (OVS_UNLIKELY(n > vq->size)) {
            virtq_break(vq, VIRTQ_ERROR_AVAIL_INDEX, n, vq->size);
            return 0;
        }
    }

    n = MIN(n, max);
    for (uint16_t i = 0; i < n; i += 8) {
        uint16_t slot = (vq->next_used.idx + i) & mask;

        virtq_prefetch_write(&ring->used->ring[slot]);
    }
    for (uint16_t i = 0; i < n; i++) {
        heads[i] = virtio_load_le16(&ring->avail->ring[(next + i) & mask]);
        if (OVS_UNLIKELY(heads[i] >= vq->size)) {
            virtq_break(vq, VIRTQ_ERROR_DESC_INDEX, heads[i], vq->size);
            return 0;
        }
        OVS_PREFETCH(&ring->desc[heads[i]]);
    }
    return n;
}

/* Walks the chain whose first descriptor is 'first', at 'head'.  Returns
 * false, with 'vq' broken, if it makes no sense.
 *
 * virtio, "Indirect Descriptors": the last descriptor may refer to a table of
 * further ones; its "write" flag has no meaning. */
static bool
read_chain(struct virtq *vq, uint16_t head, struct virtq_walk *walk,
           const struct virtq_desc_copy *first)
{
    struct virtq_desc_copy desc = *first;

    for (;;) {
        if (desc.flags & VIRTQ_DESC_F_INDIRECT) {
            return read_table(vq, walk, &desc);
        }
        if (!virtq_walk_add(vq, walk, &desc)) {
            return false;
        }
        if (!(desc.flags & VIRTQ_DESC_F_NEXT)) {
            return true;
        }
        if (desc.next >= vq->size) {
            virtq_break(vq, VIRTQ_ERROR_DESC_INDEX, desc.next, vq->size);
            return false;
        }
        if (walk->n_descs >= vq->size) {
            virtq_break(vq, VIRTQ_ERROR_CHAIN_LENGTH, head, vq->size);
            return false;
        }
        walk->n_descs++;
        desc = read_desc(&vq->split.desc[desc.next]);
    }
}

/* Walks the indirect table that 'indirect' refers to.  Returns false, with
 * 'vq' broken, if it makes no sense. */
static bool
read_table(struct virtq *vq, struct virtq_walk *walk,
           const struct virtq_desc_copy *indirect)
{
    const struct virtq_desc *table = vq->table;
    uint32_t n = indirect->len / sizeof *table;
    uint32_t n_left = n;
    uint16_t i = 0;

    /* virtio, "The Virtqueue Descriptor Table": a driver must not set both
     * flags, nor use a table without the feature. */
    if (!vq->indirect || indirect->flags & VIRTQ_DESC_F_NEXT
        || !n || n > vq->size || indirect->len % sizeof *table) {
        virtq_break(vq, VIRTQ_ERROR_INDIRECT, indirect->len, vq->size);
        return false;
    }
    if (!virtq_copy_table(vq, indirect->addr, n)) {
        return false;
    }

    for (;;) {
        const struct virtq_desc *d = &table[i];
        struct virtq_desc_copy desc = {
            .addr = virtio_le64_to_cpu(d->addr),
            .len = virtio_le32_to_cpu(d->len),
            .flags = virtio_le16_to_cpu(d->flags),
            .next = virtio_le16_to_cpu(d->next),
        };

        walk->n_descs++;
        if (desc.flags & VIRTQ_DESC_F_INDIRECT) {
            virtq_break(vq, VIRTQ_ERROR_INDIRECT, indirect->len, vq->size);
            return false;
        }
        if (!virtq_walk_add(vq, walk, &desc)) {
            return false;
        }
        if (!(desc.flags & VIRTQ_DESC_F_NEXT)) {
            return true;
        }
        if (desc.next >= n) {
            virtq_break(vq, VIRTQ_ERROR_DESC_INDEX, desc.next, n);
            return false;
        }
        if (!--n_left) {
            virtq_break(vq, VIRTQ_ERROR_CHAIN_LENGTH, n, n);
            return false;
        }
        i = desc.next;
    }
}

void
virtq_split_put_back(struct virtq *vq,
                     const struct virtq_chain chains[] OVS_UNUSED, size_t n)
{
    set_next_avail(vq, vq->next_avail.idx - n);
}

uint32_t
virtq_split_n_avail(const struct virtq *vq)
{
    uint16_t next = __atomic_load_n(&vq->next_avail.idx, __ATOMIC_RELAXED);
    uint16_t n = virtio_load_le16(&vq->split.avail->idx) - next;

    return MIN(n, vq->size);
}

void
virtq_split_prefetch_next(struct virtq *vq)
{
    const struct virtq_split_ring *ring = &vq->split;
    uint16_t mask = vq->size - 1;
    uint16_t next = vq->next_avail.idx;
    uint16_t known = vq->driver_idx - next;
    uint16_t n = MIN(known, vq->n_taken);

    if (OVS_UNLIKELY(!vq->usable)) {
        return;
    }
    if (known < 2 * vq->n_taken) {
        OVS_PREFETCH(&ring->avail->idx);
    }

    /* All this is a hint only; it is read again, and checked, when it is
     * taken. */
    for (uint16_t i = 0; i < n; i++) {
        uint16_t head
            = virtio_load_le16(&ring->avail->ring[(next + i) & mask]);

        virtq_prefetch_desc(vq,
                            virtio_load_le64(&ring->desc[head & mask].addr));
    }
    next += n;
    n = MIN((uint16_t) (known - n), vq->n_taken);
    for (uint16_t i = 0; i < n; i++) {
        uint16_t head
            = virtio_load_le16(&ring->avail->ring[(next + i) & mask]);

        OVS_PREFETCH(&ring->desc[head & mask]);
    }
}

/* Using buffers. */

void
virtq_split_add_used(struct virtq *vq, const struct virtq_chain chains[],
                     const uint32_t lens[], size_t n)
{
    struct virtq_used *used = vq->split.used;
    uint16_t idx = vq->next_used.idx;
    uint16_t mask = vq->size - 1;

    if (OVS_UNLIKELY(!vq->usable)) {
        return;
    }

    /* For virtq_split_publish_used() and virtq_split_wants_call(). */
    virtq_prefetch_write(&used->idx);
    OVS_PREFETCH(&vq->split.avail->flags);
    for (size_t i = 0; i < n; i++) {
        const struct virtq_used_elem elem = {
            .id = virtio_cpu_to_le32(chains[i].id),
            .len = virtio_cpu_to_le32(lens ? lens[i] : 0),
        };

        /* Nobody reads it before the index says that it is there. */
        memcpy(&used->ring[idx++ & mask], &elem, sizeof elem);
    }
    vq->next_used.idx = idx;
}

void
virtq_split_publish_used(struct virtq *vq)
{
    if (vq->next_used.idx == vq->published.idx
        || OVS_UNLIKELY(!vq->usable)) {
        return;
    }
    vq->published = vq->next_used;

    /* Pairs with the acquire, or read barrier, with which the driver reads the
     * index before the elements up to it.
     *
     * This is always our own number: whatever the driver wrote there does not
     * matter. */
    virtio_store_release_le16(&vq->split.used->idx, vq->published.idx);

    if (vq->event_idx && !vq->kicks_enabled
        && (uint16_t) (vq->next_avail.idx - vq->event_base) >= RENEW_EVENT) {
        suppress_kicks(vq);
    }
}

/* Returns true if the driver wants to be notified of what has been published
 * since the last time, or of nothing being left.
 *
 * virtio, "Used Buffer Notification Suppression", "Legacy Interface: Reserved
 * Feature Bits". */
bool
virtq_split_wants_call(struct virtq *vq)
{
    /* Between the store of the used index and the loads below: otherwise the
     * driver, which first says that it wants to be notified and then looks at
     * the used index, could see the old index while we see its old wish. */
    virtio_fence_full();

    if (vq->notify_on_empty && !virtq_split_n_avail(vq)) {
        return true;
    }
    if (vq->event_idx) {
        return (vq->force_call
                || virtq_need_event(virtio_load_le16(vq->split.used_event),
                                    vq->published.idx, vq->signalled));
    }
    return !(virtio_load_le16(&vq->split.avail->flags)
             & VIRTQ_AVAIL_F_NO_INTERRUPT);
}

/* Asks the driver not to kick, by an event index that its own index does not
 * reach.
 *
 * From 'next_avail' on, the driver's index moves on by 'size' at most, and by
 * RENEW_EVENT more until we come here again; it compares after steps of up to
 * 'size' itself.  So the event index goes into the middle of the 65536 minus
 * 'size' numbers that are behind 'next_avail'.  (A driver of the largest size
 * that makes more than half of its buffers available at once may kick.  We
 * survive it.) */
static void
suppress_kicks(struct virtq *vq)
{
    uint16_t behind = (65536 - vq->size) / 2;

    virtio_store_le16(vq->split.avail_event,
                      vq->next_avail.idx - 1 - behind);
    vq->event_base = vq->next_avail.idx;
}

void
virtq_split_enable_kicks(struct virtq *vq)
{
    struct virtq_used *used = vq->split.used;

    /* virtio, "Available Buffer Notification Suppression": with event index,
     * the flags must be 0. */
    if (!vq->event_idx) {
        virtio_store_le16(&used->flags, (vq->kicks_enabled
                                         ? 0
                                         : VIRTQ_USED_F_NO_NOTIFY));
    } else {
        virtio_store_le16(&used->flags, 0);
        if (vq->kicks_enabled) {
            virtio_store_le16(vq->split.avail_event, vq->next_avail.idx);
        } else {
            suppress_kicks(vq);
        }
    }

    /* Before the caller looks whether something is available: the driver does
     * the same two things the other way round. */
    virtio_fence_full();
}
