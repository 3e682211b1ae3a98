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

#ifndef VHU_SHM_H
#define VHU_SHM_H 1

/* Memory that we share
 * ====================
 *
 * In the front-end role the memory of the device is ours: a file that lives in
 * memory only, whose descriptor we send to the back-end.  Nothing but rings
 * and packets is in it, as the back-end may read and write all of it.
 *
 *
 * Addresses
 * ---------
 *
 * The back-end is told a guest address and a user address of the memory.  Both
 * are made up (the specification asks of them only that they agree with what
 * we write into descriptors and messages): the back-end does not learn where
 * anything is in our process.  They differ from each other, and neither is an
 * offset into the file, so that a back-end that mixes them up is noticed at
 * once.
 *
 *
 * Trust
 * -----
 *
 * The file is sealed: the back-end can neither truncate nor extend it, nor add
 * a seal of its own.  It can still punch holes into it.  We then read zeros
 * there, or, if there is no memory to fill the hole again, get SIGBUS, which
 * vhu-sigbus.h turns into zeros and vhu_shm_is_dead() reports.  In our address
 * space there is an inaccessible page before the memory and one behind it.
 *
 * The memory is allocated at once: if there is too little of it, that is found
 * out here and not by a PMD thread.
 *
 *
 * Threads
 * -------
 *
 * Translation and vhu_shm_is_dead() may be used by any thread for as long as
 * the memory exists.  All else belongs to the thread that created it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ovs-atomic.h"
#include "util.h"

struct vhost_user_mem_region;
struct vhu_sigbus_slot;

/* Most bytes in one piece of memory, and most pieces: what the made-up
 * addresses leave space for. */
#define VHU_SHM_MAX_SIZE (UINT64_C(1) << 36)
#define VHU_SHM_MAX_INDEX 128

struct vhu_shm_config {
    const char *name;           /* Of the file, for /proc. */
    uint64_t size;              /* Bytes; rounded up to whole pages. */
    int index;                  /* Pieces of the same device need different
                                 * ones, from 0 to VHU_SHM_MAX_INDEX - 1. */
    bool hugepages;             /* Pages of the system's default huge size. */
};

/* Constant after vhu_shm_create(), but for 'used' and 'dead'. */
struct vhu_shm {
    uint8_t *va;                /* Our address. */
    uint64_t size;              /* Bytes. */
    uint64_t guest_addr;
    uint64_t user_addr;
    uint64_t page_size;
    int fd;                     /* To send to the back-end.  Stays ours. */

    uint64_t used;              /* Bytes carved out so far. */
    atomic_bool dead;           /* Has vanished: see vhu_shm_is_dead(). */
    struct vhu_sigbus_slot *sigbus_slot;
    void *reserved;             /* 'va' and what is around it. */
    uint64_t reserved_size;
};

/* Allocates memory, all zero, as 'config' says.  Returns 0 with the memory in
 * '*shmp', or a positive errno with NULL there and a newly allocated phrase in
 * '*error'.  ENOMEM: not enough memory, or not enough free huge pages, as the
 * phrase says. */
int vhu_shm_create(const struct vhu_shm_config *config, struct vhu_shm **shmp,
                   char **error);

/* Frees 'shm', which may be NULL, and closes its file.  No thread may be using
 * it.  The back-end may keep the memory for as long as it likes. */
void vhu_shm_destroy(struct vhu_shm *shm);

/* Carves out 'size' bytes, aligned to 'align', a power of 2 of at most the
 * page size.  Returns true with the offset in '*ofs', or false if not enough
 * is left.  There is no way to give an area back. */
bool vhu_shm_carve(struct vhu_shm *shm, uint64_t size, uint64_t align,
                   uint64_t *ofs);

/* Stores the description of 'shm' for SET_MEM_TABLE or ADD_MEM_REG in
 * '*region' (vhost-user, "Memory region description"), to be sent along with
 * 'shm->fd'. */
void vhu_shm_get_region(const struct vhu_shm *shm,
                        struct vhost_user_mem_region *region);

/* Returns true if memory of 'shm' has vanished: the back-end does not see any
 * more what we write.  All that helps is new memory. */
static inline bool
vhu_shm_is_dead(const struct vhu_shm *shm)
{
    bool dead;

    atomic_read_relaxed(&CONST_CAST(struct vhu_shm *, shm)->dead, &dead);
    return dead;
}

#endif /* vhu-shm.h */
