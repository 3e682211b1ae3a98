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

#ifndef VIRTQ_PACKED_H
#define VIRTQ_PACKED_H 1

/* Packed virtqueues, device side
 * ==============================
 *
 * The functions of virtq.h for this format; for virtq.c only.
 *
 *
 * Where a virtqueue starts
 * ------------------------
 *
 * A packed ring has no index in memory that tells where a device left off.
 * The front-end says it with SET_VRING_BASE, but after a back-end died what it
 * says is old, and some front-ends fill in half of it.  So we keep a record,
 * in memory that outlives us, and without one we read the descriptors.
 *
 *
 * The record
 * ----------
 *
 * The descriptors of a burst are made used in this order:
 *
 *    1. All but the first.  The driver does not look at them, because it waits
 *       for the first, and so cannot reuse a buffer ID of this burst either.
 *
 *    2. The record is replaced by another one, in one store: from where to
 *       where the burst goes.
 *
 *    3. The first, in one store.
 *
 * Whoever takes over looks at the descriptor where the burst of the record
 * begins.  If that is still available, the position is there; if it has been
 * used, and whatever happened to it in the next lap, it is where the burst
 * ends.
 * There, another burst may have been begun: the first descriptor is as the
 * driver wrote it, and there are used ones behind its chain.  That burst can
 * neither be taken back nor completed, as parts of a packet may be missing: it
 * is published as far as it got, with length 0.
 *
 * The record must fit what is before that position, the last used chain, or
 * it is not believed: a guest that rebooted meanwhile may have its ring in the
 * same place.  For that it says how many descriptors this chain has.  All of
 * the chain must be there, in the right lap, unless the driver has come round
 * and written other available descriptors over it.
 *
 *
 * Without a record
 * ----------------
 *
 *    - Each descriptor's AVAIL flag is the wrap counter of the lap in which it
 *      was last written.  It changes where the driver is going to write next.
 *
 *    - Backward from there are descriptors that are available, then the last
 *      used one.  The device is right behind that, unless a chain of several
 *      descriptors was used there, of which only the first was written.  Then
 *      it is behind the last of them, which has the same buffer ID; but so may
 *      have the next chain, if the driver has used the ID again.
 *
 * So: the position that the front-end says, if it is one of these two;
 * otherwise the one behind the used descriptor.  As we use buffers in order
 * and at once, none is in flight: both positions are the same.
 *
 * A device that died while it published a burst has written all of it but the
 * flags of its first descriptor, which is what the driver waits for.  It gets
 * them from us. */

#include "virtq-pos.h"
#include "virtq.h"

/* What the record says.  Zero says nothing. */
struct virtq_record {
    struct virtq_pos old;       /* Where the last burst begins, */
    struct virtq_pos new;       /* and where the next one. */
    uint16_t old_descs;         /* Descriptors of the chains before these */
    uint16_t new_descs;         /* positions, 0 if that is not known. */
};

static inline void
virtq_record_store(virtio_le64 *p, const struct virtq_record *record)
{
    virtio_store_le64(p, (virtq_pos_to_event(record->old)
                          | (uint32_t) virtq_pos_to_event(record->new) << 16
                          | (uint64_t) record->old_descs << 32
                          | (uint64_t) record->new_descs << 48));
}

/* Loads '*record' from 'p'.  Returns false if it says nothing, or no record of
 * a ring of 'size' can say that. */
static inline bool
virtq_record_load(const virtio_le64 *p, uint32_t size,
                  struct virtq_record *record)
{
    uint64_t x = virtio_load_le64(p);

    record->old = virtq_pos_from_event(x);
    record->new = virtq_pos_from_event(x >> 16);
    record->old_descs = x >> 32;
    record->new_descs = x >> 48;
    return (x
            && record->old.idx < size && record->new.idx < size
            && record->old_descs <= size && record->new_descs <= size
            && virtq_pos_distance(record->old, record->new, size) <= size);
}

/* Decides where 'vq', of which only the ring is set up yet, starts, and
 * publishes what a predecessor has left unpublished.  virtq-packed-start.c. */
void virtq_packed_start(struct virtq *, const struct virtq_config *);

int virtq_packed_init(struct virtq *, const struct virtq_config *,
                      char **error);
size_t virtq_packed_take_avail(struct virtq *, struct virtq_chain chains[],
                               size_t max);
void virtq_packed_put_back(struct virtq *, const struct virtq_chain chains[],
                           size_t n);
void virtq_packed_add_used(struct virtq *, const struct virtq_chain chains[],
                           const uint32_t lens[], size_t n);
void virtq_packed_publish_used(struct virtq *);
bool virtq_packed_wants_call(struct virtq *);
void virtq_packed_prefetch_next(struct virtq *);
uint32_t virtq_packed_n_avail(const struct virtq *);
uint32_t virtq_packed_n_avail_descs(const struct virtq *);
void virtq_packed_enable_kicks(struct virtq *);

#endif /* virtq-packed.h */
