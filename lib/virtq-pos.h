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

#ifndef VIRTQ_POS_H
#define VIRTQ_POS_H 1

/* Places in a packed ring
 * =======================
 *
 * Arithmetic of "struct virtq_pos", and what compares such places, for both
 * sides of a virtqueue.  The size of a packed ring need not be a power of
 * 2. */

#include <stdbool.h>
#include <stdint.h>

#include "compiler.h"
#include "openvswitch/util.h"
#include "virtio-barrier.h"
#include "virtio-spec.h"
#include "virtq.h"

/* Moves 'pos' on by 'n', which must not be greater than 'size'. */
static ALWAYS_INLINE inline struct virtq_pos
virtq_pos_add(struct virtq_pos pos, uint32_t n, uint32_t size)
{
    uint32_t idx = pos.idx + n;
    bool wraps = idx >= size;

    pos.idx = wraps ? idx - size : idx;
    pos.wrap ^= wraps;
    return pos;
}

/* Moves 'pos' back by 'n', which must not be greater than 'size'. */
static ALWAYS_INLINE inline struct virtq_pos
virtq_pos_sub(struct virtq_pos pos, uint32_t n, uint32_t size)
{
    bool wraps = pos.idx < n;

    pos.idx = wraps ? pos.idx + size - n : pos.idx - n;
    pos.wrap ^= wraps;
    return pos;
}

static inline bool
virtq_pos_equals(struct virtq_pos a, struct virtq_pos b)
{
    return a.idx == b.idx && a.wrap == b.wrap;
}

/* Returns how far 'b' is ahead of 'a', less than two times 'size'. */
static inline uint32_t
virtq_pos_distance(struct virtq_pos a, struct virtq_pos b, uint32_t size)
{
    uint32_t distance = 2 * size + b.idx - a.idx;

    if (a.wrap != b.wrap) {
        distance += size;
    }
    return distance % (2 * size);
}

/* Both flags that say whose a descriptor is, and these as they are in a lap
 * with wrap counter 'wrap' when the descriptor is available or used: virtio,
 * "Driver and Device Ring Wrap Counters". */
#define PVIRTQ_OWNER_FLAGS (VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED)

static ALWAYS_INLINE inline uint16_t
pvirtq_avail_flags(bool wrap)
{
    return wrap ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
}

static ALWAYS_INLINE inline uint16_t
pvirtq_used_flags(bool wrap)
{
    return wrap ? PVIRTQ_OWNER_FLAGS : 0;
}

/* The form that positions have in the event suppression structures: virtio,
 * "Event Suppression Structure Format". */
static inline uint16_t
virtq_pos_to_event(struct virtq_pos pos)
{
    return pos.idx | (pos.wrap ? 0x8000 : 0);
}

static inline struct virtq_pos
virtq_pos_from_event(uint16_t event)
{
    struct virtq_pos pos = {
        .idx = event & 0x7fff,
        .wrap = event & 0x8000,
    };

    return pos;
}

/* Returns true if the other side, whose event suppression structure is
 * 'suppression', wants to be notified that the descriptors before 'published',
 * 'n_new' of them since the last time, are available or used.  'event_idx'
 * tells whether a descriptor that it names counts.
 *
 * virtio, "Driver and Device Event Suppression". */
static inline bool
virtq_pos_need_event(const struct pvirtq_event_suppress *suppression,
                     bool event_idx, struct virtq_pos published,
                     uint32_t n_new, uint32_t size)
{
    struct virtq_pos event;
    uint32_t behind, both;

    /* Between the store of the flags and the load below: otherwise the other
     * side, which first says that it wants to be notified and then looks at
     * the flags, could see the old ones while we see its old wish. */
    virtio_fence_full();

    /* Both fields at once, or they might not belong together. */
    both = virtio_load_le32(ALIGNED_CAST(const virtio_le32 *, suppression));
    switch ((both >> 16) & 3) {
    case RING_EVENT_FLAGS_DISABLE:
        return false;

    case RING_EVENT_FLAGS_DESC:
        event = virtq_pos_from_event(both);
        if (!event_idx || event.idx >= size) {
            return true;
        }
        behind = virtq_pos_distance(event, published, size);
        return behind && behind <= n_new;

    default:
        return true;
    }
}

#endif /* virtq-pos.h */
