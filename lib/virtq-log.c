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

#include "virtq.h"

#include "util.h"
#include "vhu-log.h"
#include "virtq-impl.h"
#include "virtq-packed.h"
#include "virtq-pos.h"
#include "virtq-split.h"

/* Virtqueues with a dirty log
 * ===========================
 *
 * virtq.c comes here for each function that writes to guest memory, if there
 * is a log: the function of the format does its work, and what it has written
 * is logged.
 *
 *    - virtq_add_used(): the buffers, which the caller has written, and the
 *      used elements or descriptors.  None of it has been shown to the driver.
 *
 *    - virtq_publish_used(): the used index, or the first descriptor, and what
 *      else it may write.
 *
 *    - virtq_enable_kicks(): the flags, the event index or the device event
 *      suppression.
 *
 *    - virtq_create(): what a packed virtqueue repairs in the ring, and the
 *      same as virtq_enable_kicks(). */

static uint64_t va_to_gpa(const struct virtq *, const void *);

void
virtq_set_log(struct virtq *vq, const struct virtq_log *log)
{
    vq->log = *log;
    vq->logged = log->log != NULL;
    if (virtq_is_packed(vq)) {
        vq->desc_gpa = va_to_gpa(vq, vq->packed.desc);
        vq->event_gpa = va_to_gpa(vq, vq->packed.device_event);
    }
}

bool
virtq_check_log(const struct virtq_config *config)
{
    const struct virtq_log *log = &config->log;
    uint64_t used_size = (sizeof(struct virtq_used)
                          + config->size * sizeof(struct virtq_used_elem)
                          + sizeof(virtio_le16));

    /* The areas of a packed virtqueue are inside memory, and memory in the
     * log. */
    return (!log->log || !log->areas || config->format == VIRTQ_PACKED
            || vhu_log_covers(log->log, log->used_gpa, used_size));
}

/* Returns the guest address of 'va', which is inside memory. */
static uint64_t
va_to_gpa(const struct virtq *vq, const void *va)
{
    uint64_t ofs = (const uint8_t *) va - vq->region_va;

    if (OVS_LIKELY(ofs < vq->region_size)) {
        return vq->region_gpa + ofs;
    }
    for (int i = 0; i < vq->mem->n_regions; i++) {
        const struct vhu_mem_region *r = &vq->mem->regions[i];

        ofs = (const uint8_t *) va - r->va;
        if (ofs < r->size) {
            return r->guest_addr + ofs;
        }
    }
    OVS_NOT_REACHED();
}

/* Logs the first 'len' bytes of 'chain'. */
static void
log_chain(const struct virtq *vq, const struct virtq_chain *chain,
          uint32_t len)
{
    for (uint16_t i = 0; len && i < chain->n_segs; i++) {
        const struct virtq_seg *seg = &chain->segs[i];
        uint32_t part = MIN(len, seg->len);

        vhu_log_write(vq->log.log, va_to_gpa(vq, seg->va), part);
        len -= part;
    }
}

/* Logs 'size' bytes at 'ofs' in the used ring. */
static void
log_used_ring(const struct virtq *vq, size_t ofs, size_t size)
{
    vhu_log_write(vq->log.log, vq->log.used_gpa + ofs, size);
}

/* Logs the 'n' used elements from 'idx' on. */
static void
log_elems(const struct virtq *vq, uint16_t idx, size_t n)
{
    size_t elem_size = sizeof(struct virtq_used_elem);

    while (n) {
        size_t first = idx & (vq->size - 1);
        size_t part = MIN(n, vq->size - first);

        log_used_ring(vq, (offsetof(struct virtq_used, ring)
                           + first * elem_size), part * elem_size);
        idx += part;
        n -= part;
    }
}

static void
log_avail_event(const struct virtq *vq)
{
    log_used_ring(vq, (offsetof(struct virtq_used, ring)
                       + vq->size * sizeof(struct virtq_used_elem)),
                  sizeof(virtio_le16));
}

static void
log_desc(const struct virtq *vq, uint16_t idx)
{
    vhu_log_write(vq->log.log, vq->desc_gpa + idx * sizeof(struct pvirtq_desc),
                  sizeof(struct pvirtq_desc));
}

static void
log_device_event(const struct virtq *vq)
{
    vhu_log_write(vq->log.log, vq->event_gpa,
                  sizeof(struct pvirtq_event_suppress));
}

/* Logs the descriptor at 'idx', just written, of a packed virtqueue. */
void
virtq_log_desc(const struct virtq *vq, uint16_t idx)
{
    if (vq->log.log && vq->log.areas) {
        virtio_fence_full();
        log_desc(vq, idx);
    }
}

void
virtq_log_add_used(struct virtq *vq, const struct virtq_chain chains[],
                   const uint32_t lens[], size_t n)
{
    struct virtq_pos pos = vq->next_used;
    bool packed = virtq_is_packed(vq);

    if (packed) {
        virtq_packed_add_used(vq, chains, lens, n);
    } else {
        virtq_split_add_used(vq, chains, lens, n);
    }

    /* Pairs with the front-end's exchange, see vhu-log.h. */
    virtio_fence_full();

    /* The caller has written the buffers whatever became of the virtqueue. */
    for (size_t i = 0; vq->log.buffers && lens && i < n; i++) {
        log_chain(vq, &chains[i], lens[i]);
    }
    if (vq->log.areas && vq->usable) {
        if (!packed) {
            log_elems(vq, pos.idx, n);
        }
        for (size_t i = 0; packed && i < n; i++) {
            log_desc(vq, pos.idx);
            pos = virtq_pos_add(pos, chains[i].n_descs, vq->size);
        }
    }

    /* What is not logged must not be published. */
    if (OVS_UNLIKELY(vhu_log_is_dead(vq->log.log))) {
        virtq_set_unusable(vq);
    }
}

void
virtq_log_publish_used(struct virtq *vq)
{
    struct virtq_pos old = vq->published;

    if (virtq_is_packed(vq)) {
        virtq_packed_publish_used(vq);
        virtio_fence_full();
        if (vq->log.areas && !virtq_pos_equals(old, vq->published)) {
            log_desc(vq, old.idx);
        }
    } else {
        uint16_t old_base = vq->event_base;

        virtq_split_publish_used(vq);
        virtio_fence_full();
        if (vq->log.areas) {
            if (old.idx != vq->published.idx) {
                log_used_ring(vq, offsetof(struct virtq_used, idx),
                              sizeof(virtio_le16));
            }
            if (old_base != vq->event_base) {
                log_avail_event(vq);
            }
        }
    }
}

/* Logs what virtq_enable_kicks() has written, with a full fence at its end. */
void
virtq_log_enable_kicks(struct virtq *vq)
{
    if (!vq->log.log || !vq->log.areas) {
        return;
    }
    if (virtq_is_packed(vq)) {
        log_device_event(vq);
    } else {
        log_used_ring(vq, offsetof(struct virtq_used, flags),
                      sizeof(virtio_le16));
        if (vq->event_idx) {
            log_avail_event(vq);
        }
    }
}
