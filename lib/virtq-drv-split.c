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

#include "virtq-drv-split.h"

#include "openvswitch/util.h"
#include "util.h"
#include "virtq-drv-impl.h"

/* Progress of 'next_used' after which the suppression of calls with event
 * index is renewed.  See suppress_calls(). */
#define RENEW_EVENT 8192

static void suppress_calls(struct virtq_drv *);

/* Writes the descriptor 'desc'. */
static ALWAYS_INLINE inline void
write_desc(struct virtq_desc *desc, uint64_t addr, uint32_t len,
           uint16_t flags, uint16_t next)
{
    virtio_store_le64(&desc->addr, addr);
    virtio_store_le64(ALIGNED_CAST(virtio_le64 *, &desc->len),
                      len | (uint64_t) flags << 32 | (uint64_t) next << 48);
}

/* Sets up what is particular to this format, in memory that is zero. */
void
virtq_drv_split_init(struct virtq_drv *vq)
{
    struct virtq_drv_split_ring *ring = &vq->split;
    uint8_t *base = vq->shm->va + vq->ofs;

    ring->desc = ALIGNED_CAST(struct virtq_desc *, base + vq->layout.desc);
    ring->avail = ALIGNED_CAST(struct virtq_avail *, base + vq->layout.driver);
    ring->used = ALIGNED_CAST(const struct virtq_used *,
                              base + vq->layout.device);
    ring->used_event = &ring->avail->ring[vq->size];
    ring->avail_event = (const virtio_le16 *) &ring->used->ring[vq->size];

    vq->next_avail = vq->published = (struct virtq_pos) { .idx = 0 };
    virtq_drv_set_next_used(vq, vq->published);
    vq->device_idx = 0;
    vq->kicked = 0;

    /* Those of a receiveq stay the same for ever. */
    if (vq->access == VIRTQ_DEVICE_WRITES) {
        for (uint32_t i = 0; i < vq->size; i++) {
            write_desc(&ring->desc[i], virtq_drv_buf_gpa(vq, i), vq->buf_size,
                       VIRTQ_DESC_F_WRITE, 0);
        }
    }
    virtq_drv_split_enable_calls(vq);
}

/* Taking used buffers. */

/* Returns how many chains have been used, but looks at what the device keeps
 * writing only if what it wrote before is less than 'max'.  If it makes no
 * sense, returns 0 with 'vq' broken. */
static ALWAYS_INLINE inline uint16_t
load_n_used(struct virtq_drv *vq, size_t max)
{
    uint16_t next = vq->next_used.idx;
    uint16_t n = vq->device_idx - next;
    uint16_t in_flight = vq->published.idx - next;

    if (n < max) {
        /* Pairs with the release, or write barrier, with which the device
         * makes buffers used: we see the elements, and what is in the buffers,
         * up to this index. */
        vq->device_idx = virtio_load_acquire_le16(&vq->split.used->idx);
        n = vq->device_idx - next;
        if (OVS_UNLIKELY(n > in_flight)) {
            virtq_drv_break(vq, VIRTQ_DRV_ERROR_USED_INDEX, n, in_flight);
            return 0;
        }
    }
    return n;
}

/* Takes up to 'max' used chains, in the order in which they were used, and
 * returns their number.  Not for VIRTIO_F_IN_ORDER. */
size_t
virtq_drv_split_gather(struct virtq_drv *vq, struct virtq_drv_used *used,
                       size_t max)
{
    const struct virtq_used *ring = vq->split.used;
    uint16_t next = vq->next_used.idx;
    uint16_t mask = vq->size - 1;
    size_t n = load_n_used(vq, max);

    n = MIN(n, max);
    for (size_t i = 0; i < n; i++) {
        const struct virtq_used_elem *elem = &ring->ring[(next + i) & mask];
        uint32_t id = virtio_load_le32(&elem->id);
        struct virtq_drv_shadow *s = virtq_drv_find_chain(vq, id);

        if (OVS_UNLIKELY(!s)) {
            return 0;
        }
        if (vq->access == VIRTQ_DEVICE_WRITES) {
            OVS_PREFETCH(virtq_drv_buf_va(vq, id));
            OVS_PREFETCH(virtq_drv_buf_va(vq, id) + CACHE_LINE_SIZE);
        }
        used[i].head = id;
        used[i].len = virtio_load_le32(&elem->len);
        virtq_drv_retire(vq, s, id);
    }
    virtq_drv_set_next_used(vq, (struct virtq_pos) { .idx = next + n });
    return n;
}

/* Finds out what the next batch of chains is that was used in order.  Returns
 * false if there is none.
 *
 * virtio, "In-order use of descriptors" of the split format: one element, for
 * the last of the batch, stands for all of it, and the index moves on by
 * all. */
bool
virtq_drv_split_next_batch(struct virtq_drv *vq)
{
    uint16_t mask = vq->size - 1;
    const struct virtq_used_elem *elem
        = &vq->split.used->ring[vq->next_used.idx & mask];
    uint32_t n_used = load_n_used(vq, 1);
    uint32_t id, n, n_slots;

    if (!n_used) {
        return false;
    }
    id = virtio_load_le32(&elem->id);
    if (!virtq_drv_find_chain(vq, id)) {
        return false;
    }
    n = virtq_drv_find_in_order(vq, vq->next_head, id, &n_slots);
    if (OVS_UNLIKELY(!n || n > n_used)) {
        virtq_drv_break(vq, VIRTQ_DRV_ERROR_BATCH, n, n_used);
        return false;
    }
    vq->batch_left = n;
    vq->batch_step = n;
    vq->batch_len = virtio_load_le32(&elem->len);
    return true;
}

void
virtq_drv_split_end_batch(struct virtq_drv *vq)
{
    uint16_t idx = vq->next_used.idx + vq->batch_step;

    virtq_drv_set_next_used(vq, (struct virtq_pos) { .idx = idx });
}

uint32_t
virtq_drv_split_n_used(const struct virtq_drv *vq)
{
    uint16_t next = __atomic_load_n(&vq->next_used.idx, __ATOMIC_RELAXED);
    uint16_t n = virtio_load_le16(&vq->split.used->idx) - next;

    return MIN(n, vq->size);
}

void
virtq_drv_split_prefetch_next(struct virtq_drv *vq)
{
    const struct virtq_drv_split_ring *ring = &vq->split;
    uint16_t mask = vq->size - 1;

    OVS_PREFETCH(&ring->used->idx);
    OVS_PREFETCH(&ring->used->ring[vq->next_used.idx & mask]);
    OVS_PREFETCH_WRITE(&ring->avail->ring[vq->next_avail.idx & mask]);
}

struct virtq_pos
virtq_drv_split_get_base(const struct virtq_drv *vq)
{
    uint16_t next = vq->next_used.idx;
    uint16_t idx = virtio_load_le16(&vq->split.used->idx);
    uint16_t in_flight = vq->published.idx - next;
    uint16_t n = idx - next;

    return (struct virtq_pos) { .idx = n <= in_flight ? idx : next };
}

bool
virtq_drv_split_check_base(const struct virtq_drv *vq, struct virtq_pos avail)
{
    uint16_t in_flight = vq->published.idx - vq->next_used.idx;
    uint16_t n = avail.idx - vq->next_used.idx;

    return n <= in_flight;
}

/* Making buffers available. */

/* Puts the chain at 'head' into the available ring. */
static ALWAYS_INLINE inline void
add_head(struct virtq_drv *vq, uint16_t head)
{
    uint16_t mask = vq->size - 1;

    /* Nobody reads it before the index says that it is there. */
    virtio_store_le16(&vq->split.avail->ring[vq->next_avail.idx & mask],
                      head);
    vq->next_avail.idx++;
}

/* Writes the descriptors of the chain of several buffers at 'head': in the
 * indirect table of 'head', or else in the descriptors of its buffers.
 *
 * virtio, "Indirect Descriptors": within a table, indices are those of the
 * table. */
static void
write_chain(struct virtq_drv *vq, uint16_t head)
{
    const struct virtq_drv_shadow *s = &vq->shadows[head];
    uint16_t flags = virtq_drv_write_flag(vq);
    uint32_t left = s->size;
    uint16_t buf = head;
    struct virtq_desc *table = NULL;

    if (vq->table_len) {
        size_t ofs = (size_t) head * vq->table_len * sizeof *table;

        table = ALIGNED_CAST(struct virtq_desc *, vq->tables + ofs);
        write_desc(&vq->split.desc[head], vq->tables_gpa + ofs,
                   s->n_bufs * sizeof *table, VIRTQ_DESC_F_INDIRECT, 0);
    }
    for (uint16_t i = 0; i < s->n_bufs; i++) {
        bool last = i == s->n_bufs - 1;
        uint16_t next = vq->shadows[buf].next;
        uint32_t len = MIN(left, vq->buf_size);

        write_desc(table ? &table[i] : &vq->split.desc[buf],
                   virtq_drv_buf_gpa(vq, buf), len,
                   flags | (last ? 0 : VIRTQ_DESC_F_NEXT),
                   last ? 0 : table ? i + 1 : next);
        left -= len;
        buf = next;
    }
}

/* Makes the chain at 'head', which is in 'shadows', available at the next
 * virtq_drv_split_publish_avail(). */
static ALWAYS_INLINE inline void
add_chain(struct virtq_drv *vq, uint16_t head)
{
    struct virtq_drv_shadow *s = &vq->shadows[head];

    if (OVS_LIKELY(s->n_bufs == 1)) {
        write_desc(&vq->split.desc[head], virtq_drv_buf_gpa(vq, head),
                   s->size, virtq_drv_write_flag(vq), 0);
    } else {
        write_chain(vq, head);
    }
    add_head(vq, head);
}

size_t
virtq_drv_split_reserve(struct virtq_drv *vq, const uint32_t sizes[],
                        struct virtq_chain packets[], size_t n)
{
    return virtq_drv_reserve__(vq, sizes, packets, n, add_chain);
}

/* Makes 'n' idle buffers of a receiveq available. */
void
virtq_drv_split_add_bufs(struct virtq_drv *vq, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t buf = virtq_drv_get_idle(vq);
        struct virtq_drv_shadow *s = &vq->shadows[buf];

        s->n_bufs = 1;
        s->seq = vq->next_seq++;
        add_head(vq, buf);
    }
    vq->n_chains += n;
}

void
virtq_drv_split_publish_avail(struct virtq_drv *vq)
{
    if (vq->next_avail.idx == vq->published.idx) {
        return;
    }
    vq->published = vq->next_avail;

    /* Pairs with the acquire, or read barrier, with which the device reads the
     * index before the entries up to it, and what they refer to. */
    virtio_store_release_le16(&vq->split.avail->idx, vq->published.idx);

    if (vq->event_idx && !vq->calls_enabled
        && (uint16_t) (vq->next_used.idx - vq->event_base) >= RENEW_EVENT) {
        suppress_calls(vq);
    }
}

/* Returns true if the device wants to be notified of what has been published
 * since the last time.
 *
 * virtio, "Available Buffer Notification Suppression". */
bool
virtq_drv_split_wants_kick(struct virtq_drv *vq)
{
    /* Between the store of the available index and the loads below: otherwise
     * the device, which first says that it wants to be notified and then looks
     * at the available index, could see the old index while we see its old
     * wish. */
    virtio_fence_full();

    if (vq->event_idx) {
        return virtq_need_event(virtio_load_le16(vq->split.avail_event),
                                vq->published.idx, vq->kicked);
    }
    return !(virtio_load_le16(&vq->split.used->flags)
             & VIRTQ_USED_F_NO_NOTIFY);
}

/* Asks the device not to call, by an event index that its own index does not
 * reach.
 *
 * From 'next_used' on, the device's index moves on by 'size' at most, and by
 * RENEW_EVENT more until we come here again.  So the event index goes into the
 * middle of the 65536 minus 'size' numbers that are behind 'next_used'. */
static void
suppress_calls(struct virtq_drv *vq)
{
    uint16_t behind = (65536 - vq->size) / 2;

    virtio_store_le16(vq->split.used_event, vq->next_used.idx - 1 - behind);
    vq->event_base = vq->next_used.idx;
}

void
virtq_drv_split_enable_calls(struct virtq_drv *vq)
{
    struct virtq_avail *avail = vq->split.avail;

    /* virtio, "Used Buffer Notification Suppression": with event index, the
     * flags must be 0. */
    if (!vq->event_idx) {
        virtio_store_le16(&avail->flags, (vq->calls_enabled
                                          ? 0
                                          : VIRTQ_AVAIL_F_NO_INTERRUPT));
    } else {
        virtio_store_le16(&avail->flags, 0);
        if (vq->calls_enabled) {
            virtio_store_le16(vq->split.used_event, vq->next_used.idx);
        } else {
            suppress_calls(vq);
        }
    }

    /* Before the caller looks whether something is used: the device does the
     * same two things the other way round. */
    virtio_fence_full();
}
