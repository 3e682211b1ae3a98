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

#include "virtq-drv-packed.h"

#include "openvswitch/util.h"
#include "util.h"
#include "virtq-drv-impl.h"
#include "virtq-pos.h"

/* Sets up what is particular to this format, in memory that is zero. */
void
virtq_drv_packed_init(struct virtq_drv *vq)
{
    struct virtq_drv_packed_ring *ring = &vq->packed;
    uint8_t *base = vq->shm->va + vq->ofs;

    ring->desc = ALIGNED_CAST(struct pvirtq_desc *, base + vq->layout.desc);
    ring->driver_event = ALIGNED_CAST(struct pvirtq_event_suppress *,
                                      base + vq->layout.driver);
    ring->device_event = ALIGNED_CAST(const struct pvirtq_event_suppress *,
                                      base + vq->layout.device);

    vq->next_avail = (struct virtq_pos) { .idx = 0, .wrap = true };
    vq->published = vq->next_avail;
    virtq_drv_set_next_used(vq, vq->next_avail);
    virtq_drv_packed_enable_calls(vq);
}

/* Taking used buffers. */

/* Reads the buffer ID and the length of the descriptor at 'pos' if it is used;
 * otherwise returns false. */
static ALWAYS_INLINE inline bool
read_used(const struct virtq_drv *vq, struct virtq_pos pos, uint16_t *id,
          uint32_t *len)
{
    const struct pvirtq_desc *desc = &vq->packed.desc[pos.idx];
    uint64_t rest;

    if (VIRTIO_TSAN
        && ((virtio_load_acquire_le16(&desc->flags) & PVIRTQ_OWNER_FLAGS)
            != pvirtq_used_flags(pos.wrap))) {
        return false;
    }

    /* Pairs with the release, or write barrier, with which the device writes
     * the flags: if we see these, we see the length, the ID and what is in
     * the buffer.  See virtio-spec.h for the places, little-endian. */
    rest = virtio_load_acquire_le64(ALIGNED_CAST(const virtio_le64 *,
                                                 &desc->len));
    *len = rest;
    *id = rest >> 32;
    return (rest >> 48 & PVIRTQ_OWNER_FLAGS) == pvirtq_used_flags(pos.wrap);
}

/* Takes up to 'max' used chains, in the order in which they were used, and
 * returns their number.  Not for VIRTIO_F_IN_ORDER. */
size_t
virtq_drv_packed_gather(struct virtq_drv *vq, struct virtq_drv_used *used,
                        size_t max)
{
    struct virtq_pos pos = vq->next_used;
    size_t n;

    for (n = 0; n < max; n++) {
        struct virtq_drv_shadow *s;
        uint32_t n_slots;
        uint16_t id;

        if (!read_used(vq, pos, &id, &used[n].len)) {
            break;
        }
        s = virtq_drv_find_chain(vq, id);
        if (OVS_UNLIKELY(!s)) {
            return 0;
        }
        if (vq->access == VIRTQ_DEVICE_WRITES) {
            OVS_PREFETCH(virtq_drv_buf_va(vq, id));
            OVS_PREFETCH(virtq_drv_buf_va(vq, id) + CACHE_LINE_SIZE);
        }
        used[n].head = id;
        n_slots = virtq_drv_n_slots(vq, s);
        virtq_drv_retire(vq, s, id);
        pos = virtq_pos_add(pos, n_slots, vq->size);
    }
    virtq_drv_set_next_used(vq, pos);
    return n;
}

/* Finds out what the next batch of chains is that was used in order.  Returns
 * false if there is none.
 *
 * virtio, "In-order use of descriptors" of the packed format: one descriptor,
 * in the place of the first of the batch and with the ID of the last, stands
 * for all of it. */
bool
virtq_drv_packed_next_batch(struct virtq_drv *vq)
{
    uint32_t n_slots;
    uint16_t id;

    if (!read_used(vq, vq->next_used, &id, &vq->batch_len)
        || !virtq_drv_find_chain(vq, id)) {
        return false;
    }
    vq->batch_left = virtq_drv_find_in_order(vq, vq->next_head, id, &n_slots);
    vq->batch_step = n_slots;
    if (OVS_UNLIKELY(!vq->batch_left)) {
        virtq_drv_break(vq, VIRTQ_DRV_ERROR_ID_UNKNOWN, id, vq->size);
    }
    return vq->batch_left > 0;
}

void
virtq_drv_packed_end_batch(struct virtq_drv *vq)
{
    virtq_drv_set_next_used(vq, virtq_pos_add(vq->next_used, vq->batch_step,
                                              vq->size));
}

/* Returns 1 if there is a used buffer: to know how many there are one would
 * have to read all of them. */
uint32_t
virtq_drv_packed_n_used(const struct virtq_drv *vq)
{
    uint16_t idx = __atomic_load_n(&vq->next_used.idx, __ATOMIC_RELAXED);
    bool wrap = __atomic_load_n(&vq->next_used.wrap, __ATOMIC_RELAXED);

    return ((virtio_load_le16(&vq->packed.desc[idx].flags)
             & PVIRTQ_OWNER_FLAGS)
            == pvirtq_used_flags(wrap));
}

void
virtq_drv_packed_prefetch_next(struct virtq_drv *vq)
{
    struct virtq_pos pos = vq->next_used;

    for (int i = 0; i < 4; i++) {
        OVS_PREFETCH(&vq->packed.desc[pos.idx]);
        pos = virtq_pos_add(pos, MIN(4, vq->size), vq->size);
    }
}

/* Walks over what has been used and not taken, without taking it.  Stops where
 * it makes no sense; whoever takes it will find out. */
struct virtq_pos
virtq_drv_packed_get_base(const struct virtq_drv *vq)
{
    struct virtq_pos pos = vq->next_used;
    uint32_t left = virtq_pos_distance(pos, vq->published, vq->size);
    uint16_t head = vq->next_head;

    while (left) {
        const struct virtq_drv_shadow *s;
        uint32_t len, n_slots;
        uint16_t id;

        if (!read_used(vq, pos, &id, &len) || id >= vq->size) {
            break;
        }
        s = &vq->shadows[id];
        if (!s->n_bufs) {
            break;
        }
        if (!vq->in_order) {
            n_slots = virtq_drv_n_slots(vq, s);
        } else if (virtq_drv_find_in_order(vq, head, id, &n_slots)) {
            head = virtq_drv_next_head(vq, id);
        } else {
            break;
        }
        if (n_slots > left) {
            break;
        }
        left -= n_slots;
        pos = virtq_pos_add(pos, n_slots, vq->size);
    }
    return pos;
}

bool
virtq_drv_packed_check_base(const struct virtq_drv *vq, struct virtq_pos pos)
{
    return (pos.idx < vq->size
            && (virtq_pos_distance(vq->next_used, pos, vq->size)
                <= virtq_pos_distance(vq->next_used, vq->published,
                                      vq->size)));
}

/* Making buffers available. */

/* Fills the slot at 'next_avail', and moves on by one. */
static ALWAYS_INLINE inline void
add_desc(struct virtq_drv *vq, uint64_t addr, uint32_t len, uint16_t id,
         uint16_t flags)
{
    struct pvirtq_desc *desc = &vq->packed.desc[vq->next_avail.idx];

    flags |= pvirtq_avail_flags(vq->next_avail.wrap);
    virtio_store_le64(&desc->addr, addr);

    /* The device looks at no descriptor of the burst before it has seen the
     * flags of the first, which come when all is there. */
    if (OVS_LIKELY(vq->n_unpublished)) {
        virtio_store_le64(ALIGNED_CAST(virtio_le64 *, &desc->len),
                          len | (uint64_t) id << 32 | (uint64_t) flags << 48);
    } else {
        virtio_store_le32(&desc->len, len);
        virtio_store_le16(&desc->id, id);
        vq->first_flags = flags;
    }
    vq->n_unpublished++;
    vq->next_avail = virtq_pos_add(vq->next_avail, 1, vq->size);
}

/* Fills the indirect table of the chain at 'head' and a slot that refers to
 * it.
 *
 * virtio, "Indirect Flag: Scatter-Gather Support": all of the table is the
 * chain, in order, without a flag that says so. */
static void
add_table(struct virtq_drv *vq, uint16_t head)
{
    const struct virtq_drv_shadow *s = &vq->shadows[head];
    struct pvirtq_desc *table;
    size_t ofs = (size_t) head * vq->table_len * sizeof *table;
    uint32_t left = s->size;
    uint16_t buf = head;

    table = ALIGNED_CAST(struct pvirtq_desc *, vq->tables + ofs);
    for (uint16_t i = 0; i < s->n_bufs; i++) {
        uint32_t len = MIN(left, vq->buf_size);

        virtio_store_le64(&table[i].addr, virtq_drv_buf_gpa(vq, buf));
        virtio_store_le32(&table[i].len, len);
        virtio_store_le16(&table[i].id, head);
        virtio_store_le16(&table[i].flags, virtq_drv_write_flag(vq));
        left -= len;
        buf = vq->shadows[buf].next;
    }
    add_desc(vq, vq->tables_gpa + ofs, s->n_bufs * sizeof *table, head,
             VIRTQ_DESC_F_INDIRECT);
}

/* Makes the chain at 'head', which is in 'shadows', available at the next
 * virtq_drv_packed_publish_avail(). */
static ALWAYS_INLINE inline void
add_chain(struct virtq_drv *vq, uint16_t head)
{
    const struct virtq_drv_shadow *s = &vq->shadows[head];
    uint16_t flags = virtq_drv_write_flag(vq);
    uint32_t left = s->size;
    uint16_t buf = head;

    if (OVS_LIKELY(s->n_bufs == 1)) {
        add_desc(vq, virtq_drv_buf_gpa(vq, head), s->size, head, flags);
        return;
    }
    if (vq->table_len) {
        add_table(vq, head);
        return;
    }
    for (uint16_t i = 0; i < s->n_bufs; i++) {
        uint32_t len = MIN(left, vq->buf_size);

        add_desc(vq, virtq_drv_buf_gpa(vq, buf), len, head,
                 flags | (i < s->n_bufs - 1 ? VIRTQ_DESC_F_NEXT : 0));
        left -= len;
        buf = vq->shadows[buf].next;
    }
}

size_t
virtq_drv_packed_reserve(struct virtq_drv *vq, const uint32_t sizes[],
                         struct virtq_chain packets[], size_t n)
{
    return virtq_drv_reserve__(vq, sizes, packets, n, add_chain);
}

/* Makes 'n' idle buffers of a receiveq available. */
void
virtq_drv_packed_add_bufs(struct virtq_drv *vq, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t buf = virtq_drv_get_idle(vq);
        struct virtq_drv_shadow *s = &vq->shadows[buf];

        s->n_bufs = 1;
        s->seq = vq->next_seq++;
        add_desc(vq, virtq_drv_buf_gpa(vq, buf), vq->buf_size, buf,
                 VIRTQ_DESC_F_WRITE);
    }
    vq->n_chains += n;
}

void
virtq_drv_packed_publish_avail(struct virtq_drv *vq)
{
    if (!vq->n_unpublished) {
        return;
    }

    /* Pairs with the acquire, or read barrier, with which the device reads the
     * flags before the rest, and before the descriptors behind. */
    virtio_store_release_le16(&vq->packed.desc[vq->published.idx].flags,
                              vq->first_flags);
    vq->published = vq->next_avail;
    vq->n_unkicked += vq->n_unpublished;
    vq->n_unpublished = 0;
}

/* Returns true if the device wants to be notified of what has been published
 * since the last time. */
bool
virtq_drv_packed_wants_kick(struct virtq_drv *vq)
{
    return virtq_pos_need_event(vq->packed.device_event, vq->event_idx,
                                vq->published, vq->n_unkicked, vq->size);
}

void
virtq_drv_packed_enable_calls(struct virtq_drv *vq)
{
    enum pvirtq_event_flags flags = RING_EVENT_FLAGS_ENABLE;
    uint16_t desc = 0;

    if (!vq->calls_enabled) {
        flags = RING_EVENT_FLAGS_DISABLE;
    } else if (vq->event_idx) {
        flags = RING_EVENT_FLAGS_DESC;
        desc = virtq_pos_to_event(vq->next_used);
    }

    /* Both fields at once, as the device may read them. */
    virtio_store_le32(ALIGNED_CAST(virtio_le32 *, vq->packed.driver_event),
                      desc | (uint32_t) flags << 16);

    /* Before the caller looks whether something is used: the device does the
     * same two things the other way round. */
    virtio_fence_full();
}
