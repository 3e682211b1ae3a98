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

#include "openvswitch/util.h"
#include "util.h"
#include "virtq-impl.h"
#include "virtq-pos.h"

/* Where a packed virtqueue starts: see virtq-packed.h. */

static bool start_from_record(struct virtq *);
static void start_from_ring(struct virtq *, const struct virtq_config *);

void
virtq_packed_start(struct virtq *vq, const struct virtq_config *config)
{
    struct virtq_record record;

    vq->from_record = config->recorded && start_from_record(vq);
    if (!vq->from_record) {
        start_from_ring(vq, config);
    }

    record.old = record.new = vq->published;
    record.old_descs = record.new_descs = vq->published_descs;
    virtq_record_store(vq->packed.record, &record);
}

/* Descriptors. */

static uint16_t
flags_at(const struct virtq *vq, struct virtq_pos pos)
{
    return virtio_load_le16(&vq->packed.desc[pos.idx].flags);
}

static uint16_t
id_at(const struct virtq *vq, struct virtq_pos pos)
{
    return virtio_load_le16(&vq->packed.desc[pos.idx].id);
}

/* The second half of a descriptor, which has all but the address. */
static virtio_le64 *
second_half(const struct virtq *vq, struct virtq_pos pos)
{
    return ALIGNED_CAST(virtio_le64 *, &vq->packed.desc[pos.idx].len);
}

/* Return true if the descriptor at 'pos' was made available, or used, in the
 * lap of 'pos'. */
static bool
is_avail(const struct virtq *vq, struct virtq_pos pos)
{
    return ((flags_at(vq, pos) & PVIRTQ_OWNER_FLAGS)
            == pvirtq_avail_flags(pos.wrap));
}

static bool
is_used(const struct virtq *vq, struct virtq_pos pos)
{
    return ((flags_at(vq, pos) & PVIRTQ_OWNER_FLAGS)
            == pvirtq_used_flags(pos.wrap));
}

/* Returns true if no driver has ever written the descriptor at 'pos'. */
static bool
is_blank(const struct virtq *vq, struct virtq_pos pos)
{
    return (!virtio_load_le64(&vq->packed.desc[pos.idx].addr)
            && !virtio_load_le64(second_half(vq, pos)));
}

/* Returns the position behind the chain of available descriptors at 'pos',
 * which is 'pos' if there is none, and its buffer ID in '*id'. */
static struct virtq_pos
skip_chain(const struct virtq *vq, struct virtq_pos pos, uint16_t *id)
{
    for (uint32_t i = 0; i < vq->size && is_avail(vq, pos); i++) {
        bool last = !(flags_at(vq, pos) & VIRTQ_DESC_F_NEXT);

        *id = id_at(vq, pos);
        pos = virtq_pos_add(pos, 1, vq->size);
        if (last) {
            break;
        }
    }
    return pos;
}

/* With a record. */

/* Returns the end of a burst that was begun at 'start' and not published;
 * 'start' itself if there is none.  If there is one, stores in '*descs' of how
 * many descriptors its last chain is.
 *
 * Of a chain, only the first descriptor was written.  Where it ends the buffer
 * ID tells, which no other chain of the burst has. */
static struct virtq_pos
find_burst_end(const struct virtq *vq, struct virtq_pos start,
               uint16_t *descs)
{
    uint16_t id = 0;
    struct virtq_pos pos = skip_chain(vq, start, &id);
    uint32_t size = vq->size;

    if (virtq_pos_equals(pos, start) || !is_used(vq, pos)) {
        return start;
    }
    while (virtq_pos_distance(start, pos, size) < size && is_used(vq, pos)) {
        uint16_t used_id = id_at(vq, pos);
        struct virtq_pos head = pos, end;

        pos = virtq_pos_add(pos, 1, size);
        end = skip_chain(vq, pos, &id);
        if (!virtq_pos_equals(end, pos) && id == used_id) {
            pos = end;
        }
        *descs = virtq_pos_distance(head, pos, size);
    }
    return pos;
}

/* Returns how far the driver has come from 'start', given that all descriptors
 * from there to 'end' are available, or written by us and not published. */
static uint32_t
count_ahead(const struct virtq *vq, struct virtq_pos start,
            struct virtq_pos end)
{
    while (virtq_pos_distance(start, end, vq->size) < vq->size
           && is_avail(vq, end)) {
        end = virtq_pos_add(end, 1, vq->size);
    }
    return virtq_pos_distance(start, end, vq->size);
}

/* Returns true if the chain of 'n' descriptors before 'pos' may be the last
 * one that was used, given that the driver is 'n_ahead' ahead of 'pos'. */
static bool
fits_chain(const struct virtq *vq, struct virtq_pos pos, uint32_t n,
           uint32_t n_ahead)
{
    struct virtq_pos head = virtq_pos_sub(pos, n, vq->size);
    bool head_is_there = n_ahead + n <= vq->size;

    if (head_is_there && (!is_used(vq, head) || is_blank(vq, head))) {
        return false;
    }
    for (uint32_t i = 1; i < n; i++) {
        struct virtq_pos p = virtq_pos_add(head, i, vq->size);
        bool last = i == n - 1;

        if (n_ahead + (n - i) > vq->size) {
            continue;           /* The driver has written it once more. */
        }
        if (!is_avail(vq, p)
            || last != !(flags_at(vq, p) & VIRTQ_DESC_F_NEXT)
            || (last && head_is_there
                && id_at(vq, p) != id_at(vq, head))) {
            return false;
        }
    }
    return true;
}

/* The same if it is not known how long the chain is: it must be one
 * descriptor, unless the ring begins here. */
static bool
fits_anything(const struct virtq *vq, struct virtq_pos pos, uint32_t n_ahead)
{
    struct virtq_pos last = virtq_pos_sub(pos, 1, vq->size);
    bool first_lap = pos.wrap && !pos.idx;

    return (n_ahead >= vq->size
            || (is_used(vq, last) && (first_lap || !is_blank(vq, last))));
}

/* Publishes the burst from 'start' to 'end', with length 0 throughout. */
static void
publish_burst(struct virtq *vq, struct virtq_pos start, struct virtq_pos end,
              uint16_t end_descs)
{
    uint16_t id = 0;
    struct virtq_pos pos = skip_chain(vq, start, &id);

    while (!virtq_pos_equals(pos, end)) {
        if (is_used(vq, pos)) {
            virtio_store_le32(&vq->packed.desc[pos.idx].len, 0);
            virtq_log_desc(vq, pos.idx);
        }
        pos = virtq_pos_add(pos, 1, vq->size);
    }
    vq->first_used = ((uint64_t) id << 32
                      | (uint64_t) pvirtq_used_flags(start.wrap) << 48);
    vq->n_unpublished = virtq_pos_distance(start, end, vq->size);
    vq->next_used = end;
    vq->next_used_descs = end_descs;
    virtq_packed_publish_used(vq);
    virtq_log_desc(vq, start.idx);
}

/* Starts 'vq' where the record says.  Returns false, without having written
 * anything, if it says nothing or does not fit the ring. */
static bool
start_from_record(struct virtq *vq)
{
    struct virtq_pos start, end;
    struct virtq_record record;
    uint16_t descs, end_descs;
    uint32_t n_ahead;
    bool published;

    if (!virtq_record_load(vq->packed.record, vq->size, &record)) {
        return false;
    }

    published = !is_avail(vq, record.old);
    start = published ? record.new : record.old;
    descs = end_descs = published ? record.new_descs : record.old_descs;
    end = find_burst_end(vq, start, &end_descs);
    if (is_used(vq, start)
        || (!published && !virtq_pos_equals(record.old, record.new)
            && !virtq_pos_equals(end, record.old)
            && !virtq_pos_equals(end, record.new))) {
        return false;
    }
    n_ahead = count_ahead(vq, start, end);
    if (!(descs
          ? fits_chain(vq, start, descs, n_ahead)
          : fits_anything(vq, start, n_ahead))) {
        return false;
    }

    vq->published = vq->next_used = start;
    vq->published_descs = vq->next_used_descs = descs;
    if (!virtq_pos_equals(start, end)) {
        publish_burst(vq, start, end, end_descs);
    }
    return true;
}

/* Without a record. */

/* Returns true if a descriptor with 'flags' is used, rather than available, in
 * whatever lap that was. */
static bool
looks_used(uint16_t flags)
{
    return !(flags & VIRTQ_DESC_F_AVAIL) == !(flags & VIRTQ_DESC_F_USED);
}

/* Returns the position where the driver makes its next buffer available. */
static struct virtq_pos
find_driver(const struct virtq *vq)
{
    struct virtq_pos pos = { .idx = 0, .wrap = false };
    uint16_t first = flags_at(vq, pos) & VIRTQ_DESC_F_AVAIL;

    for (uint32_t i = 1; i < vq->size; i++) {
        pos.idx = i;
        if ((flags_at(vq, pos) & VIRTQ_DESC_F_AVAIL) != first) {
            pos.wrap = first;
            return pos;
        }
    }
    return (struct virtq_pos) { .idx = 0, .wrap = !first };
}

/* Returns the number of descriptors right behind 'driver' that are not
 * used. */
static uint32_t
count_unused(const struct virtq *vq, struct virtq_pos driver)
{
    uint32_t n;

    for (n = 0; n < vq->size; n++) {
        if (looks_used(flags_at(vq, virtq_pos_sub(driver, n + 1,
                                                    vq->size)))) {
            break;
        }
    }
    return n;
}

/* Returns true if a device may be at 'pos', given that none of the 'n'
 * descriptors from 'low' on is used, but, unless 'n' is the size of the ring,
 * the one before 'low' is.
 *
 * That is 'low', or where the chain ends that was used there: its last
 * descriptor has the same buffer ID. */
static bool
is_plausible(const struct virtq *vq, struct virtq_pos low, uint32_t n,
             struct virtq_pos pos)
{
    uint32_t size = vq->size;
    struct virtq_pos last;
    uint32_t n_tail;

    if (pos.idx >= size) {
        return false;
    }
    n_tail = virtq_pos_distance(low, pos, size);
    if (!n_tail) {
        return true;
    }
    last = virtq_pos_sub(pos, 1, size);
    if (n_tail > n || n_tail >= size
        || flags_at(vq, last) & VIRTQ_DESC_F_NEXT) {
        return false;
    }
    if (n < size) {
        return id_at(vq, virtq_pos_sub(low, 1, size)) == id_at(vq, last);
    }
    while (--n_tail) {
        if (!(flags_at(vq, low) & VIRTQ_DESC_F_NEXT)) {
            return false;
        }
        low = virtq_pos_add(low, 1, size);
    }
    return true;
}

/* Marks those of the 'n' descriptors before 'pos' as used that are not.  One
 * of them may be the first of a burst that was not quite published.  If so,
 * the driver is stuck there and does not reuse any of them; and it does not
 * look at what belongs to a used chain that it has seen, or has replaced it
 * before we do. */
static void
finish_burst(struct virtq *vq, struct virtq_pos pos, uint32_t n)
{
    uint64_t write = (vq->access == VIRTQ_DEVICE_WRITES
                      ? VIRTQ_DESC_F_WRITE
                      : 0);
    uint16_t id = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint64_t rest;
        uint16_t flags;

        pos = virtq_pos_sub(pos, 1, vq->size);
        rest = virtio_load_le64(second_half(vq, pos));
        flags = rest >> 48;
        if (!(flags & VIRTQ_DESC_F_NEXT)) {
            id = rest >> 32;
        }
        if ((flags & PVIRTQ_OWNER_FLAGS) == pvirtq_avail_flags(pos.wrap)) {
            virtio_replace_le64(second_half(vq, pos), rest,
                                ((uint32_t) rest | (uint64_t) id << 32
                                 | (pvirtq_used_flags(pos.wrap) | write)
                                   << 48));
            virtq_log_desc(vq, pos.idx);
        }
    }
}

static void
start_from_ring(struct virtq *vq, const struct virtq_config *config)
{
    struct virtq_pos driver = find_driver(vq);
    uint32_t n = count_unused(vq, driver);
    struct virtq_pos low = virtq_pos_sub(driver, n, vq->size);
    struct virtq_pos used
        = (is_plausible(vq, low, n, config->used) ? config->used
           : is_plausible(vq, low, n, config->avail) ? config->avail
           : low);

    /* The flags that a device may have left out do no harm otherwise. */
    finish_burst(vq, used,
                 vq->size - virtq_pos_distance(used, driver, vq->size));
    vq->next_used = used;
    vq->published = used;
}
