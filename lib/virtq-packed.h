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
 * says is old, and some front-ends fill in half of it.  The descriptors know
 * better:
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
 *    - For that case, the offset in the device event suppression structure,
 *      which means nothing to the driver as long as we do not ask for
 *      notifications, says where we were after the last chain of several
 *      descriptors, or a lap ago at most.
 *
 * So: what follows from our note, if there is one; otherwise the position that
 * the front-end says, if it is one of these two; otherwise the one behind the
 * used descriptor.  As we use buffers in order and at once, none is in flight:
 * both positions are the same.
 *
 * A device that died while it published a burst has written all of it but the
 * flags of its first descriptor, which is what the driver waits for.  It gets
 * them from us. */

#include "virtq.h"

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
