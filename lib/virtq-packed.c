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

#include "virtq-packed.h"

#include <errno.h>
#include <inttypes.h>

#include "openvswitch/util.h"
#include "util.h"
#include "virtq-impl.h"
#include "virtq-pos.h"

static void set_next_avail(struct virtq *, struct virtq_pos);
static bool read_chain(struct virtq *, struct virtq_pos, struct virtq_walk *,
                       struct virtq_desc_copy *, uint32_t *n_slots);
static bool read_table(struct virtq *, struct virtq_walk *,
                       const struct virtq_desc_copy *);

/* Sets up what is particular to this format.  Returns 0 or a positive errno
 * with a text in '*error'. */
int
virtq_packed_init(struct virtq *vq, const struct virtq_config *config,
                  char **error)
{
    struct virtq_packed_ring *ring = &vq->packed;
    struct virtq_areas areas;
    int retval = virtq_map_areas(config, &areas, error);

    if (retval) {
        return retval;
    }
    ring->desc = areas.desc;
    ring->driver_event = areas.driver;
    ring->device_event = areas.device;
    ring->record = config->record ? config->record : &vq->own_record;

    virtq_set_log(vq, &config->log);
    virtq_packed_start(vq, config);
    set_next_avail(vq, vq->published);
    virtq_packed_enable_kicks(vq);
    return 0;
}

/* Positions: see also virtq-pos.h. */

/* Moves 'vq' on to take the buffer at 'pos' next.  virtq_n_avail() reads it
 * without a lock; it may see half of it, which is as good as a little earlier
 * or later. */
static ALWAYS_INLINE inline void
set_next_avail(struct virtq *vq, struct virtq_pos pos)
{
    __atomic_store_n(&vq->next_avail.idx, pos.idx, __ATOMIC_RELAXED);
    __atomic_store_n(&vq->next_avail.wrap, pos.wrap, __ATOMIC_RELAXED);
    virtq_set_poll(vq, &vq->packed.desc[pos.idx].flags, PVIRTQ_OWNER_FLAGS,
                   pvirtq_avail_flags(pos.wrap), true);
}

static uint16_t
load_flags(const struct virtq *vq, uint32_t idx)
{
    return virtio_load_le16(&vq->packed.desc[idx].flags);
}

/* Taking available buffers. */

/* Reads 'desc'.  The second half, with the flags in it, is read in one access:
 * see virtio-spec.h for the places, little-endian. */
static ALWAYS_INLINE inline struct virtq_desc_copy
read_desc(const struct pvirtq_desc *desc)
{
    /* Pairs with the release, or write barrier, with which the driver writes
     * the flags of the first descriptor of a chain last: if we see these, we
     * see all of the chain. */
    uint64_t rest = virtio_load_acquire_le64(
        ALIGNED_CAST(const virtio_le64 *, &desc->len));
    struct virtq_desc_copy copy = {
        .addr = virtio_load_le64(&desc->addr),
        .len = rest,
        .id = rest >> 32,
        .flags = rest >> 48,
    };

    return copy;
}

/* Takes the chain at 'pos', whose first descriptor is 'desc', into '*chain',
 * whatever its layout, and adds it to 'burst'.  Returns false if it is not to
 * be taken: because 'vq' is broken or because it must wait for the next
 * burst. */
static bool
take_chain(struct virtq *vq, struct virtq_pos pos,
           struct virtq_desc_copy desc, struct virtq_burst *burst,
           struct virtq_chain *chain)
{
    struct virtq_walk walk = {
        .segs = &vq->segs[burst->n_segs],
        .max_segs = vq->max_segs - burst->n_segs,
        .n_descs = 1,
    };
    uint32_t n_slots = 1;

    if (!read_chain(vq, pos, &walk, &desc, &n_slots)
        || (walk.full && burst->n)) {
        return false;
    }
    virtq_walk_finish(vq, &walk, desc.id, chain);
    chain->n_descs = n_slots;
    burst->n_segs += chain->n_segs;
    burst->n_descs += walk.n_descs;
    return true;
}

static ALWAYS_INLINE inline size_t
take_avail(struct virtq *vq, struct virtq_chain chains[], size_t max,
           enum virtq_access access)
{
    struct pvirtq_desc *descs = vq->packed.desc;
    struct virtq_burst burst = { .n = 0 };
    struct virtq_pos pos = vq->next_avail;
    uint32_t n_slots = 0;

    if (OVS_UNLIKELY(!virtq_check_usable(vq))) {
        return 0;
    }
    max = MIN(max, VIRTQ_MAX_BURST);
    while (burst.n < max && burst.n_descs < VIRTQ_MAX_BURST_DESCS) {
        struct virtq_chain *chain = &chains[burst.n];
        struct virtq_desc_copy desc;

        if (VIRTIO_TSAN
            && ((virtio_load_acquire_le16(&descs[pos.idx].flags)
                 & PVIRTQ_OWNER_FLAGS) != pvirtq_avail_flags(pos.wrap))) {
            break;
        }
        desc = read_desc(&descs[pos.idx]);
        if ((desc.flags & PVIRTQ_OWNER_FLAGS)
            != pvirtq_avail_flags(pos.wrap)) {
            break;
        }
        if (OVS_LIKELY(virtq_take_simple(vq, &desc, access, &burst, chain))) {
            chain->id = desc.id;
        } else if (!take_chain(vq, pos, desc, &burst, chain)) {
            break;
        }
        n_slots += chain->n_descs;
        if (OVS_UNLIKELY(n_slots > vq->size)) {
            /* It will be the first of the next burst. */
            break;
        }
        virtq_prefetch_chain(chain, access);
        pos = virtq_pos_add(pos, chain->n_descs, vq->size);
        burst.n++;
    }
    if (OVS_UNLIKELY(!vq->usable)) {
        return 0;
    }
    set_next_avail(vq, pos);
    vq->n_taken = burst.n;
    return burst.n;
}

size_t
virtq_packed_take_avail(struct virtq *vq, struct virtq_chain chains[],
                        size_t max)
{
    return (vq->access == VIRTQ_DEVICE_WRITES
            ? take_avail(vq, chains, max, VIRTQ_DEVICE_WRITES)
            : take_avail(vq, chains, max, VIRTQ_DEVICE_READS));
}

/* Walks the chain whose first descriptor is '*desc', at 'pos'.  Returns true
 * with '*desc', which has the buffer ID, being the last one and the number of
 * descriptors in '*n_slots', or false, with 'vq' broken, if it makes no
 * sense. */
static bool
read_chain(struct virtq *vq, struct virtq_pos pos, struct virtq_walk *walk,
           struct virtq_desc_copy *desc, uint32_t *n_slots)
{
    uint16_t head = pos.idx;

    for (;;) {
        if (desc->flags & VIRTQ_DESC_F_INDIRECT) {
            return read_table(vq, walk, desc);
        }
        if (!virtq_walk_add(vq, walk, desc)) {
            return false;
        }
        if (!(desc->flags & VIRTQ_DESC_F_NEXT)) {
            return true;
        }
        if (*n_slots >= vq->size) {
            virtq_break(vq, VIRTQ_ERROR_CHAIN_LENGTH, head, vq->size);
            return false;
        }
        *n_slots = *n_slots + 1;
        walk->n_descs++;
        pos = virtq_pos_add(pos, 1, vq->size);
        *desc = read_desc(&vq->packed.desc[pos.idx]);
    }
}

/* Adds the buffers of the indirect table that 'indirect' refers to.  Returns
 * false, with 'vq' broken, if it makes no sense.
 *
 * virtio, "Indirect Flag: Scatter-Gather Support": all of the table is the
 * chain, in order; of the flags in it the device ignores all but "write".
 *
 * DPDK's driver leaves "write" set in the tables of its transmitqs.  That is
 * not right but does no harm, as we are only going to read. */
static bool
read_table(struct virtq *vq, struct virtq_walk *walk,
           const struct virtq_desc_copy *indirect)
{
    const struct pvirtq_desc *table = vq->table;
    uint32_t n = indirect->len / sizeof *table;

    if (!vq->indirect || indirect->flags & VIRTQ_DESC_F_NEXT
        || !n || n > vq->size || indirect->len % sizeof *table) {
        virtq_break(vq, VIRTQ_ERROR_INDIRECT, indirect->len, vq->size);
        return false;
    }
    if (!virtq_copy_table(vq, indirect->addr, n)) {
        return false;
    }

    for (uint32_t i = 0; i < n; i++) {
        struct virtq_desc_copy desc = {
            .addr = virtio_le64_to_cpu(table[i].addr),
            .len = virtio_le32_to_cpu(table[i].len),
            .flags = virtio_le16_to_cpu(table[i].flags),
        };

        walk->n_descs++;
        if (desc.flags & VIRTQ_DESC_F_INDIRECT) {
            virtq_break(vq, VIRTQ_ERROR_INDIRECT, indirect->len, vq->size);
            return false;
        }
        if (vq->access == VIRTQ_DEVICE_READS) {
            desc.flags &= ~VIRTQ_DESC_F_WRITE;
        }
        if (!virtq_walk_add(vq, walk, &desc)) {
            return false;
        }
    }
    return true;
}

void
virtq_packed_put_back(struct virtq *vq, const struct virtq_chain chains[],
                      size_t n)
{
    struct virtq_pos pos = vq->next_avail;

    for (size_t i = 0; i < n; i++) {
        pos = virtq_pos_sub(pos, chains[i].n_descs, vq->size);
    }
    set_next_avail(vq, pos);
}

/* Returns 1 if there is a buffer: to know how many there are one would have to
 * read all of them. */
uint32_t
virtq_packed_n_avail(const struct virtq *vq)
{
    uint16_t idx = __atomic_load_n(&vq->next_avail.idx, __ATOMIC_RELAXED);
    bool wrap = __atomic_load_n(&vq->next_avail.wrap, __ATOMIC_RELAXED);

    return ((load_flags(vq, idx) & PVIRTQ_OWNER_FLAGS)
            == pvirtq_avail_flags(wrap));
}

/* Returns how many descriptors are available, by reading all of them.  Under
 * the lock of the vring. */
uint32_t
virtq_packed_n_avail_descs(const struct virtq *vq)
{
    struct virtq_pos pos = vq->next_avail;
    uint32_t n = 0;

    while (n < vq->size && (load_flags(vq, pos.idx) & PVIRTQ_OWNER_FLAGS)
           == pvirtq_avail_flags(pos.wrap)) {
        pos = virtq_pos_add(pos, 1, vq->size);
        n++;
    }
    return n;
}

void
virtq_packed_prefetch_next(struct virtq *vq)
{
    struct pvirtq_desc *descs = vq->packed.desc;
    struct virtq_pos pos = vq->next_avail;
    uint16_t n = vq->n_taken;
    uint16_t i;

    if (OVS_UNLIKELY(!vq->usable)) {
        return;
    }

    /* All this is a hint only; it is read again, and checked, when it is
     * taken. */
    for (i = 0; i < n; i++) {
        const struct pvirtq_desc *desc = &descs[pos.idx];

        if ((virtio_load_le16(&desc->flags) & PVIRTQ_OWNER_FLAGS)
            != pvirtq_avail_flags(pos.wrap)) {
            break;
        }
        virtq_prefetch_desc(vq, virtio_load_le64(&desc->addr));
        pos = virtq_pos_add(pos, 1, vq->size);
    }
    if (i < n) {
        OVS_PREFETCH(&descs[pos.idx]);
        return;
    }
    for (; i < 2 * n; i += 4) {
        virtq_prefetch_write(&descs[pos.idx]);
        pos = virtq_pos_add(pos, MIN(4, vq->size), vq->size);
    }
}

/* Using buffers. */

void
virtq_packed_add_used(struct virtq *vq, const struct virtq_chain chains[],
                      const uint32_t lens[], size_t n)
{
    struct virtq_pos pos = vq->next_used;

    if (OVS_UNLIKELY(!vq->usable || !n)) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct pvirtq_desc *desc = &vq->packed.desc[pos.idx];
        uint32_t len = lens ? lens[i] : 0;
        uint16_t flags = (pvirtq_used_flags(pos.wrap)
                          | (len ? VIRTQ_DESC_F_WRITE : 0));
        uint64_t rest = (len | (uint64_t) chains[i].id << 32
                         | (uint64_t) flags << 48);

        /* The driver looks at no descriptor of the burst before it has seen
         * that the first is used, which is written when all is there.  Until
         * then the first is as the driver wrote it. */
        if (OVS_LIKELY(vq->n_unpublished)) {
            virtio_store_le64(ALIGNED_CAST(virtio_le64 *, &desc->len), rest);
        } else {
            vq->first_used = rest;
        }
        vq->n_unpublished += chains[i].n_descs;
        pos = virtq_pos_add(pos, chains[i].n_descs, vq->size);
    }
    vq->next_used = pos;
    vq->next_used_descs = chains[n - 1].n_descs;
}

/* Makes 'desc' used, with length, buffer ID and flags as in 'rest', for
 * whoever reads its flags first. */
static ALWAYS_INLINE inline void
publish_desc(struct pvirtq_desc *desc, uint64_t rest)
{
    /* Pairs with the acquire, or read barrier, with which the driver reads the
     * flags before the rest, and before the descriptors behind. */
    if (VIRTIO_TSAN) {
        virtio_store_le32(&desc->len, rest);
        virtio_store_le16(&desc->id, rest >> 32);
        virtio_store_release_le16(&desc->flags, rest >> 48);
    } else {
        virtio_store_release_le64(ALIGNED_CAST(virtio_le64 *, &desc->len),
                                  rest);
    }
}

void
virtq_packed_publish_used(struct virtq *vq)
{
    struct virtq_record record = {
        .old = vq->published,
        .new = vq->next_used,
        .old_descs = vq->published_descs,
        .new_descs = vq->next_used_descs,
    };

    if (!vq->n_unpublished || OVS_UNLIKELY(!vq->usable)) {
        return;
    }

    /* In this order, and both after all that was written before and before all
     * that comes next: if we die in between, the CPU has executed the one and
     * not the other.  Only the compiler could change that. */
    virtio_order_stores();
    virtq_record_store(vq->packed.record, &record);
    virtio_order_stores();
    publish_desc(&vq->packed.desc[vq->published.idx], vq->first_used);
    virtio_order_stores();

    vq->published = vq->next_used;
    vq->published_descs = vq->next_used_descs;
    vq->n_unsignalled += vq->n_unpublished;
    vq->n_unpublished = 0;
}

/* Returns true if the driver wants to be notified of what has been published
 * since the last time. */
bool
virtq_packed_wants_call(struct virtq *vq)
{
    return virtq_pos_need_event(vq->packed.driver_event,
                                vq->event_idx && !vq->force_call,
                                vq->published, vq->n_unsignalled, vq->size);
}

void
virtq_packed_enable_kicks(struct virtq *vq)
{
    enum pvirtq_event_flags flags = RING_EVENT_FLAGS_ENABLE;
    uint16_t desc = 0;

    if (!vq->kicks_enabled) {
        flags = RING_EVENT_FLAGS_DISABLE;
    } else if (vq->event_idx) {
        flags = RING_EVENT_FLAGS_DESC;
        desc = virtq_pos_to_event(vq->next_avail);
    }

    /* Both fields at once, as the driver may read them. */
    virtio_store_le32(ALIGNED_CAST(virtio_le32 *, vq->packed.device_event),
                      desc | (uint32_t) flags << 16);

    /* Before the caller looks whether something is available: the driver does
     * the same two things the other way round. */
    virtio_fence_full();
}
