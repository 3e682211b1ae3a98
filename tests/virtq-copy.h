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

#ifndef VIRTQ_COPY_H
#define VIRTQ_COPY_H 1

/* A copy of the device side of virtqueues, for a test that defines hooks
 * ======================================================================
 *
 * See VIRTIO_LOAD_HOOK and VIRTIO_STORE_HOOK in virtio-barrier.h.  Such a test
 * defines VIRTQ_COPY(NAME) as a name of its own for function NAME, and
 * includes this before any other header of ours. */

#define virtq_add_used VIRTQ_COPY(virtq_add_used)
#define virtq_add_used_burst VIRTQ_COPY(virtq_add_used_burst)
#define virtq_break VIRTQ_COPY(virtq_break)
#define virtq_call VIRTQ_COPY(virtq_call)
#define virtq_check_areas VIRTQ_COPY(virtq_check_areas)
#define virtq_copy_table VIRTQ_COPY(virtq_copy_table)
#define virtq_create VIRTQ_COPY(virtq_create)
#define virtq_destroy VIRTQ_COPY(virtq_destroy)
#define virtq_enable_kicks VIRTQ_COPY(virtq_enable_kicks)
#define virtq_error_to_string VIRTQ_COPY(virtq_error_to_string)
#define virtq_get_base VIRTQ_COPY(virtq_get_base)
#define virtq_get_error VIRTQ_COPY(virtq_get_error)
#define virtq_get_features VIRTQ_COPY(virtq_get_features)
#define virtq_get_state VIRTQ_COPY(virtq_get_state)
#define virtq_is_from_record VIRTQ_COPY(virtq_is_from_record)
#define virtq_map_areas VIRTQ_COPY(virtq_map_areas)
#define virtq_n_avail VIRTQ_COPY(virtq_n_avail)
#define virtq_packed_add_used VIRTQ_COPY(virtq_packed_add_used)
#define virtq_packed_enable_kicks VIRTQ_COPY(virtq_packed_enable_kicks)
#define virtq_packed_init VIRTQ_COPY(virtq_packed_init)
#define virtq_packed_n_avail VIRTQ_COPY(virtq_packed_n_avail)
#define virtq_packed_n_avail_descs VIRTQ_COPY(virtq_packed_n_avail_descs)
#define virtq_packed_prefetch_next VIRTQ_COPY(virtq_packed_prefetch_next)
#define virtq_packed_publish_used VIRTQ_COPY(virtq_packed_publish_used)
#define virtq_packed_put_back VIRTQ_COPY(virtq_packed_put_back)
#define virtq_packed_start VIRTQ_COPY(virtq_packed_start)
#define virtq_packed_take_avail VIRTQ_COPY(virtq_packed_take_avail)
#define virtq_packed_wants_call VIRTQ_COPY(virtq_packed_wants_call)
#define virtq_prefetch_next VIRTQ_COPY(virtq_prefetch_next)
#define virtq_publish_used VIRTQ_COPY(virtq_publish_used)
#define virtq_put_back VIRTQ_COPY(virtq_put_back)
#define virtq_set_call_fd VIRTQ_COPY(virtq_set_call_fd)
#define virtq_split_add_used VIRTQ_COPY(virtq_split_add_used)
#define virtq_split_enable_kicks VIRTQ_COPY(virtq_split_enable_kicks)
#define virtq_split_init VIRTQ_COPY(virtq_split_init)
#define virtq_split_n_avail VIRTQ_COPY(virtq_split_n_avail)
#define virtq_split_prefetch_next VIRTQ_COPY(virtq_split_prefetch_next)
#define virtq_split_publish_used VIRTQ_COPY(virtq_split_publish_used)
#define virtq_split_put_back VIRTQ_COPY(virtq_split_put_back)
#define virtq_split_take_avail VIRTQ_COPY(virtq_split_take_avail)
#define virtq_split_wants_call VIRTQ_COPY(virtq_split_wants_call)
#define virtq_take_avail VIRTQ_COPY(virtq_take_avail)
#define virtq_translate_slow VIRTQ_COPY(virtq_translate_slow)
#define virtq_walk_add_parts VIRTQ_COPY(virtq_walk_add_parts)
#define virtq_zero VIRTQ_COPY(virtq_zero)

#include "virtq.c"
#include "virtq-split.c"

/* Both formats have functions of these names. */
#define read_chain packed_read_chain
#define read_desc packed_read_desc
#define read_table packed_read_table
#define set_next_avail packed_set_next_avail
#define take_avail packed_take_avail
#define take_chain packed_take_chain
#include "virtq-packed.c"
#include "virtq-packed-start.c"

#endif /* virtq-copy.h */
