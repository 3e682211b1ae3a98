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

#ifndef VIRTQ_SPLIT_H
#define VIRTQ_SPLIT_H 1

/* Split virtqueues, device side
 * =============================
 *
 * The functions of virtq.h for this format; for virtq.c only. */

#include "virtq.h"

int virtq_split_init(struct virtq *, const struct virtq_config *,
                     char **error);
size_t virtq_split_take_avail(struct virtq *, struct virtq_chain chains[],
                              size_t max);
void virtq_split_put_back(struct virtq *, const struct virtq_chain chains[],
                          size_t n);
void virtq_split_add_used(struct virtq *, const struct virtq_chain chains[],
                          const uint32_t lens[], size_t n);
void virtq_split_publish_used(struct virtq *);
bool virtq_split_wants_call(struct virtq *);
void virtq_split_prefetch_next(struct virtq *);
uint32_t virtq_split_n_avail(const struct virtq *);
void virtq_split_enable_kicks(struct virtq *);

#endif /* virtq-split.h */
