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

#ifndef VHU_MAP_H
#define VHU_MAP_H 1

/* Files of a peer, mapped
 * =======================
 *
 * A part of a file whose descriptor a peer has sent, mapped to be read and
 * written: guest memory or the dirty log.
 *
 * The file belongs to the peer, who may truncate it at any time unless it
 * could be sealed.  See vhu-sigbus.h for what happens at the next access.
 * Mapping does not allocate the peer's memory, not even under
 * mlockall(MCL_FUTURE), and keeps it out of core dumps.
 *
 *
 * Threads
 * -------
 *
 * All but the memory itself and vhu_map_is_dead() belongs to the thread that
 * owns the device. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ovs-atomic.h"
#include "util.h"

struct vhu_mapping;             /* Reference counted. */

/* Whether memory has vanished, of one mapping or of any of several.  Outlives
 * every mapping that refers to it. */
struct vhu_map_health {
    atomic_bool dead;
    struct ovs_refcount ref_cnt;
};

struct vhu_map_health *vhu_map_health_create(void);
struct vhu_map_health *vhu_map_health_ref(struct vhu_map_health *);
void vhu_map_health_unref(struct vhu_map_health *);

/* Returns true if memory that 'health' is about has vanished: it holds zeros
 * from now on. */
static inline bool
vhu_map_is_dead(const struct vhu_map_health *health)
{
    bool dead;

    atomic_read_relaxed(&CONST_CAST(struct vhu_map_health *, health)->dead,
                        &dead);
    return dead;
}

/* Maps the 'size' > 0 bytes at 'offset' of file 'fd', which stays the
 * caller's and may be closed afterwards, and stores the mapping, with one
 * reference, in '*mappingp'.
 *
 * Returns 0, or a positive errno with a newly allocated phrase in '*error'.
 * EINVAL: the file is smaller; EBADF: it is not one that can be mapped. */
int vhu_map_create(int fd, uint64_t offset, uint64_t size,
                   struct vhu_map_health *health,
                   struct vhu_mapping **mappingp, char **error);

/* Returns our address of the byte at 'offset'. */
uint8_t *vhu_map_va(const struct vhu_mapping *);

/* Returns a hash of 'basis' and of what file is mapped, and from which offset
 * on: the same if another process of ours maps the same, and for all practical
 * purposes another one for everything else. */
uint64_t vhu_map_hash(const struct vhu_mapping *, uint64_t basis);

/* Take and drop a reference; with the last one the memory is unmapped, which
 * no thread may be using then.  vhu_map_unref() accepts NULL. */
void vhu_map_ref(struct vhu_mapping *);
void vhu_map_unref(struct vhu_mapping *);

#endif /* vhu-map.h */
