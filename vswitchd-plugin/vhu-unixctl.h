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

#ifndef VHU_UNIXCTL_H
#define VHU_UNIXCTL_H 1

/* vhostuser/show, inside
 * ======================
 *
 * For vhu-unixctl*.c only: what describes a port in the front-end role, and
 * what that has in common with the back-end role.  All under the mutex of the
 * port. */

#include <stdint.h>

#include "vhu-names.h"

struct ds;
struct json;
struct netdev_vhostuser;
struct vhu_frontend;
struct vhu_queue_stats;

/* Appends a line with 'word' and the names of its bits, broken where it gets
 * too long. */
void vhu_unixctl_put_bits(struct ds *, const char *title, uint64_t word,
                          vhu_bit_name_func *name);

/* Adds a number to a JSON object. */
void vhu_unixctl_put_number(struct json *object, const char *name,
                            uint64_t value);

/* Copies counters that PMD threads are writing, or zeros if 'src' is null.
 * Returns the sum of all drops. */
uint64_t vhu_unixctl_copy_stats(const struct vhu_queue_stats *src,
                                struct vhu_queue_stats *dst);

/* Adds what such a copy says to a JSON object. */
void vhu_unixctl_put_stats(struct json *object,
                           const struct vhu_queue_stats *stats);

/* Appends what there is to say only of a port that has 'frontend'. */
void vhu_unixctl_put_frontend(struct ds *, const struct netdev_vhostuser *,
                              const struct vhu_frontend *frontend);

/* The same for a JSON object. */
void vhu_unixctl_frontend_to_json(struct json *object,
                                  const struct netdev_vhostuser *,
                                  const struct vhu_frontend *frontend);

#endif /* vhu-unixctl.h */
