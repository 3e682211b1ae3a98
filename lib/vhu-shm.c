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

#include <config.h>

#include "vhu-shm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "openvswitch/util.h"
#include "util.h"
#include "vhost-user-spec.h"
#include "vhu-sigbus.h"

/* Made-up addresses of the piece with index 0.  The others follow at distances
 * of VHU_SHM_MAX_SIZE.  The top bit that any of them uses is one that
 * addresses of a process or a guest may have on every machine. */
#define GUEST_ADDR UINT64_C(0x100000000)
#define USER_ADDR UINT64_C(0x500000000000)

static int create_file(const struct vhu_shm_config *, struct vhu_shm *,
                       char **error);
static int map_file(struct vhu_shm *, char **error);

int
vhu_shm_create(const struct vhu_shm_config *config, struct vhu_shm **shmp,
               char **error)
{
    struct vhu_shm *shm;
    int retval;

    *shmp = NULL;
    *error = NULL;
    if (!config->size || config->size > VHU_SHM_MAX_SIZE
        || config->index < 0 || config->index >= VHU_SHM_MAX_INDEX) {
        *error = xasprintf("%"PRIu64" bytes as piece %d are not possible",
                           config->size, config->index);
        return EINVAL;
    }

    shm = xzalloc(sizeof *shm);
    shm->guest_addr = GUEST_ADDR + config->index * VHU_SHM_MAX_SIZE;
    shm->user_addr = USER_ADDR + config->index * VHU_SHM_MAX_SIZE;
    shm->fd = -1;
    atomic_init(&shm->dead, false);
    retval = create_file(config, shm, error);
    if (!retval) {
        retval = map_file(shm, error);
    }
    if (retval) {
        vhu_shm_destroy(shm);
        return retval;
    }
    *shmp = shm;
    return 0;
}

void
vhu_shm_destroy(struct vhu_shm *shm)
{
    if (!shm) {
        return;
    }
    if (shm->sigbus_slot) {
        vhu_sigbus_remove(shm->sigbus_slot);
    }
    if (shm->reserved) {
        munmap(shm->reserved, shm->reserved_size);
    }
    if (shm->fd >= 0) {
        close(shm->fd);
    }
    free(shm);
}

bool
vhu_shm_carve(struct vhu_shm *shm, uint64_t size, uint64_t align,
              uint64_t *ofs)
{
    uint64_t start = ROUND_UP(shm->used, align);

    if (start > shm->size || size > shm->size - start) {
        return false;
    }
    shm->used = start + size;
    *ofs = start;
    return true;
}

void
vhu_shm_get_region(const struct vhu_shm *shm,
                   struct vhost_user_mem_region *region)
{
    *region = (struct vhost_user_mem_region) {
        .guest_addr = shm->guest_addr,
        .size = shm->size,
        .user_addr = shm->user_addr,
        .mmap_offset = 0,
    };
}

/* Creates the file of 'shm', with all of its memory.  Returns 0, or a positive
 * errno with a phrase in '*error'. */
static int
create_file(const struct vhu_shm_config *config, struct vhu_shm *shm,
            char **error)
{
    const char *pages = config->hugepages ? "huge pages" : "memory";
    struct stat s;
    int save_errno;

    shm->fd = memfd_create(config->name, (MFD_CLOEXEC | MFD_ALLOW_SEALING
                                          | (config->hugepages
                                             ? MFD_HUGETLB : 0)));
    if (shm->fd < 0 || fstat(shm->fd, &s)) {
        save_errno = errno;
        *error = xasprintf("failed to create a file in %s (%s)", pages,
                           ovs_strerror(save_errno));
        return save_errno;
    }
    shm->page_size = config->hugepages ? s.st_blksize : get_page_size();
    shm->size = ROUND_UP(config->size, shm->page_size);

    if (ftruncate(shm->fd, shm->size)
        || fallocate(shm->fd, 0, 0, shm->size)) {
        save_errno = errno == ENOSPC ? ENOMEM : errno;
        *error = xasprintf("failed to allocate %"PRIu64" %s of %"PRIu64
                           " kB (%s)", shm->size / shm->page_size,
                           config->hugepages ? "huge pages" : "pages",
                           shm->page_size / 1024, ovs_strerror(save_errno));
        return save_errno;
    }
    if (fcntl(shm->fd, F_ADD_SEALS,
              F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
        save_errno = errno;
        *error = xasprintf("failed to seal a file in %s (%s)", pages,
                           ovs_strerror(save_errno));
        return save_errno;
    }
    return 0;
}

/* Maps the file of 'shm' between two inaccessible pages.  Returns 0, or a
 * positive errno with a phrase in '*error'. */
static int
map_file(struct vhu_shm *shm, char **error)
{
    int save_errno = vhu_sigbus_init();
    void *p;

    if (save_errno) {
        *error = xasprintf("failed to guard memory (%s)",
                           ovs_strerror(save_errno));
        return save_errno;
    }

    /* One page before, one behind, and one to be able to align it. */
    shm->reserved_size = shm->size + 3 * shm->page_size;
    p = mmap(NULL, shm->reserved_size, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p != MAP_FAILED) {
        shm->reserved = p;
        shm->va = (uint8_t *) ROUND_UP((uintptr_t) p + shm->page_size,
                                       shm->page_size);
        p = mmap(shm->va, shm->size, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_FIXED | MAP_POPULATE, shm->fd, 0);
    }
    if (p == MAP_FAILED) {
        save_errno = errno;
        *error = xasprintf("failed to map %"PRIu64" bytes of memory (%s)",
                           shm->size, ovs_strerror(save_errno));
        return save_errno;
    }
    madvise(shm->va, shm->size, MADV_DONTDUMP);
    shm->sigbus_slot = vhu_sigbus_add(shm->va, shm->size, shm->page_size,
                                      &shm->dead);
    return 0;
}
