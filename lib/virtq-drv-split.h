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

#ifndef VIRTQ_DRV_SPLIT_H
#define VIRTQ_DRV_SPLIT_H 1

/* Split virtqueues, driver side
 * =============================
 *
 * The functions of virtq-drv.h for this format; for virtq-drv.c only. */

#include "virtq-drv.h"

struct virtq_drv_used;

void virtq_drv_split_init(struct virtq_drv *);
size_t virtq_drv_split_gather(struct virtq_drv *, struct virtq_drv_used *used,
                              size_t max);
bool virtq_drv_split_next_batch(struct virtq_drv *);
void virtq_drv_split_end_batch(struct virtq_drv *);
size_t virtq_drv_split_reserve(struct virtq_drv *, const uint32_t sizes[],
                               struct virtq_chain packets[], size_t n);
void virtq_drv_split_add_bufs(struct virtq_drv *, size_t n);
void virtq_drv_split_publish_avail(struct virtq_drv *);
bool virtq_drv_split_wants_kick(struct virtq_drv *);
void virtq_drv_split_prefetch_next(struct virtq_drv *);
uint32_t virtq_drv_split_n_used(const struct virtq_drv *);
void virtq_drv_split_enable_calls(struct virtq_drv *);
struct virtq_pos virtq_drv_split_get_base(const struct virtq_drv *);
bool virtq_drv_split_check_base(const struct virtq_drv *, struct virtq_pos);

#endif /* virtq-drv-split.h */
