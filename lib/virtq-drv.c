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

#include "virtq-drv.h"

#include "openvswitch/util.h"
#include "util.h"
#include "vhu-notify.h"
#include "virtq-drv-impl.h"
#include "virtq-drv-packed.h"
#include "virtq-drv-split.h"

const char *
virtq_drv_error_to_string(enum virtq_drv_error error)
{
    switch (error) {
#define VIRTQ_DRV_ERROR(NAME, TEXT) case VIRTQ_DRV_ERROR_##NAME: return TEXT;
    VIRTQ_DRV_ERRORS
#undef VIRTQ_DRV_ERROR
    }
    return "unknown error";
}

/* Looking at a virtqueue. */

uint64_t
virtq_drv_get_features(const struct virtq_drv *vq)
{
    return vq->features;
}

uint32_t
virtq_drv_get_hdr_len(const struct virtq_drv *vq)
{
    return vq->hdr_len;
}

uint32_t
virtq_drv_get_max_packet(const struct virtq_drv *vq)
{
    return vq->max_packet;
}

bool
virtq_drv_has_used(const struct virtq_drv *vq)
{
    return virtq_drv_n_used(vq) > 0;
}

uint32_t
virtq_drv_n_used(const struct virtq_drv *vq)
{
    if (OVS_UNLIKELY(!__atomic_load_n(&vq->usable, __ATOMIC_RELAXED))) {
        return 0;
    }
    return (virtq_drv_is_packed(vq)
            ? virtq_drv_packed_n_used(vq)
            : virtq_drv_split_n_used(vq));
}

uint32_t
virtq_drv_n_in_flight(const struct virtq_drv *vq)
{
    return vq->n_chains;
}

void
virtq_drv_get_state(const struct virtq_drv *vq, struct virtq_drv_state *state)
{
    state->format = vq->format;
    state->size = vq->size;
    state->avail = vq->published;
    state->used = vq->next_used;
    state->n_in_flight = vq->n_chains;
    state->n_free_bufs = vq->n_idle;
    state->calls_enabled = vq->calls_enabled;
}

enum virtq_drv_error
virtq_drv_get_error(const struct virtq_drv *vq, uint64_t *value,
                    uint64_t *limit)
{
    if (value) {
        *value = vq->error_value;
    }
    if (limit) {
        *limit = vq->error_limit;
    }
    return vq->error;
}

/* Marks 'vq' broken because of 'error'; see enum virtq_drv_error for the
 * numbers.  From now on, nobody touches the memory of the ring. */
void
virtq_drv_break(struct virtq_drv *vq, enum virtq_drv_error error,
                uint64_t value, uint64_t limit)
{
    if (!vq->error) {
        vq->error = error;
        vq->error_value = value;
        vq->error_limit = limit;
        __atomic_store_n(&vq->usable, false, __ATOMIC_RELAXED);
        virtq_count(&vq->counters->broken, 1);
    }
}

/* Taking used buffers. */

/* Returns how many chains there are from 'head' up to the one at 'id', if
 * chains are in order, and stores their slots in '*n_slots'.  Returns 0 if
 * none of those that the device has is at 'id'. */
uint32_t
virtq_drv_find_in_order(const struct virtq_drv *vq, uint16_t head, uint32_t id,
                        uint32_t *n_slots)
{
    *n_slots = 0;
    for (uint32_t n = 1; n <= vq->n_chains; n++) {
        const struct virtq_drv_shadow *s = &vq->shadows[head];

        if (!s->n_bufs || s->seq >= vq->published_seq) {
            break;
        }
        *n_slots += virtq_drv_n_slots(vq, s);
        if (head == id) {
            return n;
        }
        head = virtq_drv_next_head(vq, head);
    }
    return 0;
}

/* Takes up to 'max' chains that were used in order, and returns their number.
 *
 * virtio, "In-order use of descriptors": all but the last of a batch are
 * assumed to have been used completely. */
static size_t
gather_in_order(struct virtq_drv *vq, struct virtq_drv_used used[], size_t max)
{
    size_t n = 0;

    while (n < max) {
        uint16_t head = vq->next_head;
        struct virtq_drv_shadow *s = &vq->shadows[head];

        if (!vq->batch_left && !(virtq_drv_is_packed(vq)
                                 ? virtq_drv_packed_next_batch(vq)
                                 : virtq_drv_split_next_batch(vq))) {
            break;
        }
        vq->next_head = virtq_drv_next_head(vq, head);
        used[n].head = head;
        used[n].len = --vq->batch_left ? s->size : vq->batch_len;
        virtq_drv_retire(vq, s, head);
        n++;
        if (!vq->batch_left) {
            if (virtq_drv_is_packed(vq)) {
                virtq_drv_packed_end_batch(vq);
            } else {
                virtq_drv_split_end_batch(vq);
            }
        }
    }
    return n;
}

/* Takes up to 'max' used chains and returns their number.  Their buffers are
 * idle. */
static ALWAYS_INLINE inline size_t
gather(struct virtq_drv *vq, struct virtq_drv_used used[], size_t max)
{
    if (OVS_UNLIKELY(!virtq_drv_check_usable(vq))) {
        return 0;
    }
    return (OVS_UNLIKELY(vq->in_order) ? gather_in_order(vq, used, max)
            : virtq_drv_is_packed(vq) ? virtq_drv_packed_gather(vq, used, max)
            : virtq_drv_split_gather(vq, used, max));
}

/* Counts a packet that is dropped.  Its buffers are idle already. */
static void
count_bad(struct virtq_drv *vq)
{
    virtq_count(&vq->counters->bad_packets, 1);
}

/* Without VIRTIO_NET_F_MRG_RXBUF, each buffer is a packet. */
static size_t
take_single(struct virtq_drv *vq, struct virtq_chain packets[], size_t max)
{
    struct virtq_drv_used used[VIRTQ_MAX_BURST];
    size_t n_used = gather(vq, used, max);
    size_t n = 0;

    for (size_t i = 0; i < n_used; i++) {
        uint32_t len = used[i].len;

        virtq_drv_start_packet(vq, &packets[n]);
        if (OVS_LIKELY(len > vq->hdr_len && len <= vq->buf_size)) {
            virtq_drv_add_seg(vq, &packets[n++], used[i].head, len);
        } else {
            count_bad(vq);
        }
    }
    return n;
}

/* A packet in several buffers. */
struct merge {
    uint32_t n_left;            /* Buffers that are missing. */
    bool bad;                   /* To be dropped. */
};

/* Returns how many buffers the packet takes that begins in 'used': 0 if it
 * makes no sense.
 *
 * virtio, "Network Device: Processing of Incoming Packets". */
static ALWAYS_INLINE inline uint32_t
load_num_buffers(const struct virtq_drv *vq, const struct virtq_drv_used *used)
{
    const struct virtio_net_hdr *hdr
        = ALIGNED_CAST(const struct virtio_net_hdr *,
                       virtq_drv_buf_va(vq, used->head));
    uint32_t n;

    if (OVS_UNLIKELY(used->len < vq->hdr_len)) {
        return 0;
    }
    n = virtio_load_le16(&hdr->num_buffers);
    return OVS_LIKELY(n <= vq->size) ? n : 0;
}

/* Adds the buffer 'used' to 'packet', which it may be the first one of.
 * Returns true if that completes it. */
static ALWAYS_INLINE inline bool
merge_buffer(struct virtq_drv *vq, struct merge *merge,
             struct virtq_chain *packet, const struct virtq_drv_used *used)
{
    if (!merge->n_left) {
        virtq_drv_start_packet(vq, packet);
        merge->n_left = load_num_buffers(vq, used);
        merge->bad = false;
        if (OVS_UNLIKELY(!merge->n_left)) {
            count_bad(vq);
            return false;
        }
    }

    merge->n_left--;
    if (OVS_UNLIKELY(!used->len || used->len > vq->buf_size
                     || used->len > vq->max_packet - packet->size)) {
        merge->bad = true;
    } else {
        virtq_drv_add_seg(vq, packet, used->head, used->len);
    }
    if (merge->n_left) {
        return false;
    }
    if (OVS_UNLIKELY(merge->bad || packet->size <= vq->hdr_len)) {
        count_bad(vq);
        return false;
    }
    return true;
}

/* With VIRTIO_NET_F_MRG_RXBUF, the header says how many buffers a packet has.
 *
 * virtio, "Network Device: Processing of Incoming Packets": all of them are
 * used when the first one is.  If not, the packet is never completed. */
static size_t
take_mergeable(struct virtq_drv *vq, struct virtq_chain packets[], size_t max)
{
    struct virtq_drv_used used[VIRTQ_MAX_BURST];
    struct merge merge = { .n_left = 0 };
    size_t n_used, n_wanted, n = 0;

    do {
        n_wanted = MIN(merge.n_left ? merge.n_left : max - n,
                       ARRAY_SIZE(used));
        n_used = gather(vq, used, n_wanted);
        for (size_t i = 0; i < n_used; i++) {
            n += merge_buffer(vq, &merge, &packets[n], &used[i]);
        }
    } while (n_used && (merge.n_left || (n_used == n_wanted && n < max)));

    if (OVS_UNLIKELY(merge.n_left)) {
        count_bad(vq);
    }
    return n;
}

size_t
virtq_drv_take_used(struct virtq_drv *vq, struct virtq_chain packets[],
                    size_t max)
{
    ovs_assert(vq->access == VIRTQ_DEVICE_WRITES);
    vq->n_segs = 0;
    max = MIN(max, VIRTQ_MAX_BURST);
    return (vq->mergeable
            ? take_mergeable(vq, packets, max)
            : take_single(vq, packets, max));
}

size_t
virtq_drv_reclaim(struct virtq_drv *vq)
{
    struct virtq_drv_used used[VIRTQ_MAX_BURST];
    size_t n, total = 0;

    ovs_assert(vq->access == VIRTQ_DEVICE_READS);
    do {
        n = gather(vq, used, ARRAY_SIZE(used));
        total += n;
    } while (n == ARRAY_SIZE(used));
    return total;
}

void
virtq_drv_prefetch_next(struct virtq_drv *vq)
{
    if (OVS_UNLIKELY(!vq->usable)) {
        return;
    }
    if (virtq_drv_is_packed(vq)) {
        virtq_drv_packed_prefetch_next(vq);
    } else {
        virtq_drv_split_prefetch_next(vq);
    }
}

/* Making buffers available. */

void
virtq_drv_refill(struct virtq_drv *vq)
{
    ovs_assert(vq->access == VIRTQ_DEVICE_WRITES);
    if (OVS_UNLIKELY(!virtq_drv_check_usable(vq))) {
        return;
    }
    if (virtq_drv_is_packed(vq)) {
        virtq_drv_packed_add_bufs(vq, vq->n_idle);
    } else {
        virtq_drv_split_add_bufs(vq, vq->n_idle);
    }
}

size_t
virtq_drv_reserve(struct virtq_drv *vq, const uint32_t sizes[],
                  struct virtq_chain packets[], size_t n)
{
    ovs_assert(vq->access == VIRTQ_DEVICE_READS);
    if (OVS_UNLIKELY(!virtq_drv_check_usable(vq))) {
        return 0;
    }
    return (virtq_drv_is_packed(vq)
            ? virtq_drv_packed_reserve(vq, sizes, packets, n)
            : virtq_drv_split_reserve(vq, sizes, packets, n));
}

void
virtq_drv_publish_avail(struct virtq_drv *vq)
{
    if (OVS_UNLIKELY(!vq->usable)) {
        return;
    }
    if (virtq_drv_is_packed(vq)) {
        virtq_drv_packed_publish_avail(vq);
    } else {
        virtq_drv_split_publish_avail(vq);
    }
    vq->published_seq = vq->next_seq;
    if (vq->access == VIRTQ_DEVICE_READS) {
        vq->n_segs = 0;
    }
}

/* Notifications. */

/* Returns true if anything was published since the last virtq_drv_kick().  A
 * packed ring may have been gone round just once. */
static bool
has_news(const struct virtq_drv *vq)
{
    return (virtq_drv_is_packed(vq)
            ? vq->n_unkicked > 0
            : vq->kicked != vq->published.idx);
}

void
virtq_drv_kick(struct virtq_drv *vq)
{
    if ((!vq->force_kick && !has_news(vq)) || !vq->usable) {
        return;
    }
    if (vq->kick_fd < 0) {
        /* Nobody to tell.  Whoever comes will be told. */
        vq->force_kick = true;
    } else if (vq->force_kick || (virtq_drv_is_packed(vq)
                                  ? virtq_drv_packed_wants_kick(vq)
                                  : virtq_drv_split_wants_kick(vq))) {
        int error = vhu_notify(vq->kick_fd);

        vq->force_kick = false;
        if (!error) {
            virtq_count(&vq->counters->kicks, 1);
        } else {
            vq->kick_fd = -1;
            virtq_drv_break(vq, VIRTQ_DRV_ERROR_KICK_BLOCKED, error, 0);
        }
    } else {
        virtq_count(&vq->counters->kicks_suppressed, 1);
    }
    vq->kicked = vq->published.idx;
    vq->n_unkicked = 0;
}

void
virtq_drv_set_kick_fd(struct virtq_drv *vq, int kick_fd)
{
    vq->kick_fd = kick_fd;
    vq->force_kick = true;
}

void
virtq_drv_enable_calls(struct virtq_drv *vq, bool enable)
{
    vq->calls_enabled = enable;
    if (!virtq_drv_check_usable(vq)) {
        return;
    }
    if (virtq_drv_is_packed(vq)) {
        virtq_drv_packed_enable_calls(vq);
    } else {
        virtq_drv_split_enable_calls(vq);
    }
}
