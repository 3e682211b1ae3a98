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

#ifndef VHU_DEV_IMPL_H
#define VHU_DEV_IMPL_H 1

/* Inside a device
 * ===============
 *
 * What vhu-dev.c, which compares what is wanted with what runs, and
 * vhu-dev-run.c, which does what is due from time to time, share. */

#include <stdbool.h>

#include "vhu-dev.h"

/* How often we look at most whether an idle vring was kicked, in ms. */
#define VHU_KICK_INTERVAL 100

/* Returns true if the first kick is what makes 'vring' run. */
bool vhu_vring_needs_kick(const struct vhu_dev *, const struct vhu_vring *);

/* Compares what is wanted of 'vring' with what is, and acts: vhu_dev_update()
 * for one vring. */
int vhu_vring_update(struct vhu_dev *, struct vhu_vring *, bool mem_changed);

/* Makes 'vring', which runs, not run, and leaves in it where it was. */
void vhu_vring_halt(struct vhu_dev *, struct vhu_vring *);

/* Takes note if it is the call eventfd that broke 'vring', which runs. */
void vhu_vring_check_blocked(struct vhu_dev *, const struct vhu_vring *);

/* Makes 'problem', which it takes over, why 'vring' does not run, or null. */
void vhu_vring_set_problem(struct vhu_vring *, char *problem);

#endif /* vhu-dev-impl.h */
