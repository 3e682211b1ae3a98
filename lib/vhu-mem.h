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

#ifndef VHU_MEM_H
#define VHU_MEM_H 1

/* Memory table
 * ============
 *
 * The memory that a front-end shares with us: regions of files that we map,
 * with the guest address and the user address (the address in the front-end's
 * process) of each.
 *
 * A "struct vhu_mem" is immutable.  To change the table means to make another
 * one, publish it, and free the old one after a grace period; the two share
 * the mappings of the regions that stay.
 *
 *
 * Trust
 * -----
 *
 * Addresses and sizes come from a peer: every comparison below is arranged so
 * that no sum can overflow.  Keep it that way.
 *
 * The file behind a region belongs to the peer, too, which may truncate it
 * at any time.  An access past its end raises SIGBUS; a process-wide handler
 * recognizes the address, puts zero pages over the whole region and marks the
 * table dead (vhu_mem_is_dead()).  The access that faulted, and all later
 * ones, read zeros.  The control thread is woken by vhu_mem_wait_dead().
 * Faults at other addresses go to the handler that was there before.
 *
 * Mapping does not allocate the peer's memory, not even under
 * mlockall(MCL_FUTURE), and keeps it out of core dumps.
 *
 *
 * Threads
 * -------
 *
 * Translation may be used by any thread that holds the table (RCU).  All else
 * belongs to the thread that owns the device. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "openvswitch/compiler.h"
#include "util.h"
#include "vhu-map.h"

/* Regions in one table: what GET_MAX_MEM_SLOTS answers.  A front-end refuses
 * a back-end that has fewer than before it reconnected, so this number must
 * never get smaller. */
#define VHU_MEM_MAX_REGIONS 128

struct vhost_user_mem_region;

struct vhu_mem_region {
    uint64_t guest_addr;
    uint64_t size;              /* Bytes, not 0. */
    uint64_t user_addr;
    uint8_t *va;                /* Our address of 'guest_addr'. */
    struct vhu_mapping *mapping;
};

struct vhu_mem {
    struct vhu_map_health *health; /* Of all regions. */
    int n_regions;
    struct vhu_mem_region regions[]; /* Sorted by 'guest_addr'. */
};

/* Maps 'n' regions described by 'specs' from the files 'fds' and stores a new
 * table of them in '*memp'.  'n' may be 0.  The caller keeps 'fds' and may
 * close them afterwards.  All or nothing.
 *
 * Returns 0, or a positive errno with a newly allocated phrase that says which
 * region is wrong and why in '*error'.  EINVAL: the regions wrap around,
 * overlap in guest or user addresses, or are larger than their file; EBADF: a
 * file is not one that can be mapped. */
int vhu_mem_create(const struct vhost_user_mem_region *specs,
                   const int fds[], int n, struct vhu_mem **memp,
                   char **error);

/* Like vhu_mem_create(), but the new table has the regions of 'old' (NULL for
 * none) and one more.  A region that is in 'old' already, with the same guest
 * address, user address and size, is not an error: QEMU up to 7.2 adds each
 * region once per queue pair.  '*memp' then equals 'old'. */
int vhu_mem_add_region(const struct vhu_mem *old,
                       const struct vhost_user_mem_region *spec, int fd,
                       struct vhu_mem **memp, char **error);

/* Like vhu_mem_create(), but the new table has the regions of 'old' without
 * the one with the guest address, user address and size of 'spec'.  Returns
 * ENOENT if there is none. */
int vhu_mem_remove_region(const struct vhu_mem *old,
                          const struct vhost_user_mem_region *spec,
                          struct vhu_mem **memp, char **error);

/* Frees 'mem', and unmaps those of its regions that no other table has.
 * 'mem' may be NULL.  No thread may be using it: see
 * vhu_mem_destroy_postponed(). */
void vhu_mem_destroy(struct vhu_mem *mem);

/* Frees 'mem' after a grace period. */
void vhu_mem_destroy_postponed(struct vhu_mem *mem);

/* Returns true if memory of 'mem' has vanished: whatever it holds is zeros
 * from now on. */
static inline bool
vhu_mem_is_dead(const struct vhu_mem *mem)
{
    return vhu_map_is_dead(mem->health);
}

/* Arranges for poll_block() to wake up if any memory in the process has
 * vanished since the last call of vhu_mem_clear_dead().  One thread only. */
void vhu_mem_wait_dead(void);
void vhu_mem_clear_dead(void);

/* Returns our address of the 'size' bytes at guest address 'gpa', or NULL if
 * they are not all inside one region of 'mem'.  'size' must not be zero.
 *
 * virtio, "Basic Facilities": addresses in descriptors are guest addresses. */
static inline void *
vhu_mem_gpa_to_va(const struct vhu_mem *mem, uint64_t gpa, uint64_t size)
{
    for (int i = 0; i < mem->n_regions; i++) {
        const struct vhu_mem_region *r = &mem->regions[i];

        if (OVS_LIKELY(gpa - r->guest_addr < r->size
                       && size <= r->size - (gpa - r->guest_addr))) {
            return r->va + (gpa - r->guest_addr);
        }
    }
    return NULL;
}

/* Returns our address of guest address 'gpa' and stores in '*len' how many
 * bytes from there on are contiguous in our address space; NULL if 'gpa' is
 * in no region.  For buffers that cross from one region into the next. */
void *vhu_mem_gpa_to_va_part(const struct vhu_mem *mem, uint64_t gpa,
                             uint64_t *len);

/* Returns our address of the 'size' bytes at user address 'uva', or NULL if
 * they are not all inside one region.  'size' must not be zero.
 *
 * vhost-user, "A vring address description": ring addresses are user
 * addresses. */
void *vhu_mem_uva_to_va(const struct vhu_mem *mem, uint64_t uva,
                        uint64_t size);

/* Returns a hash of 'basis', of user address 'uva', and of the region that the
 * 'size' bytes there are in: its addresses, its size, and what part of what
 * file is behind it.  Other memory has another hash, even at the same
 * addresses, and so has that of a guest that was started again; the same
 * memory, mapped by another process of ours, has the same. */
uint64_t vhu_mem_hash(const struct vhu_mem *mem, uint64_t uva, uint64_t size,
                      uint64_t basis);

/* Returns the number of bytes in all the regions. */
uint64_t vhu_mem_size(const struct vhu_mem *mem);

#endif /* vhu-mem.h */
