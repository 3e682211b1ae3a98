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

#include "vhu-map.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "hash.h"
#include "openvswitch/util.h"
#include "util.h"
#include "vhu-refcount.h"
#include "vhu-sigbus.h"

/* A part of a file that is mapped. */
struct vhu_mapping {
    struct ovs_refcount ref_cnt;
    void *base;                 /* What munmap() needs. */
    size_t size;
    uint8_t *va;                /* Of the first byte that was asked for. */
    struct vhu_map_health *health;
    struct vhu_sigbus_slot *slot;
    struct {                    /* No padding: for vhu_map_hash(). */
        uint64_t dev_major, dev_minor, ino;
        uint64_t btime_sec, btime_nsec; /* When it was created, or 0. */
        uint64_t offset;
    } file;
};

/* Stores in '*page_size' the size of the pages of the file 'fd' if its 'size'
 * bytes from 'offset' on are there to be mapped.  Returns 0 or a positive
 * errno with a text in '*error'. */
static int
check_file(int fd, uint64_t offset, uint64_t size, uint64_t *page_size,
           char **error)
{
    struct statfs fs;
    struct stat s;

    /* With this seal, the file cannot lose memory any more, whatever its size
     * is just now.  Only some files can be sealed. */
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);

    if (fstat(fd, &s) || !S_ISREG(s.st_mode)) {
        *error = xstrdup("not a file that can be mapped");
        return EBADF;
    }
    if (s.st_size < 0 || offset > s.st_size || size > s.st_size - offset) {
        *error = xasprintf("its file has only %"PRIdMAX" bytes",
                           (intmax_t) s.st_size);
        return EINVAL;
    }

    *page_size = sysconf(_SC_PAGESIZE);
    if (!fstatfs(fd, &fs) && fs.f_type == HUGETLBFS_MAGIC) {
        *page_size = fs.f_bsize;
    }
    return 0;
}

/* Takes note of what part of what file 'mapping' maps.  The number of a file
 * can be given to another one after it is gone; not every file system knows
 * when it was created. */
static void
identify_file(struct vhu_mapping *mapping, int fd, uint64_t offset)
{
    struct statx s;

    memset(&mapping->file, 0, sizeof mapping->file);
    mapping->file.offset = offset;
    if (!statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &s)) {
        mapping->file.dev_major = s.stx_dev_major;
        mapping->file.dev_minor = s.stx_dev_minor;
        mapping->file.ino = s.stx_ino;
        if (s.stx_mask & STATX_BTIME) {
            mapping->file.btime_sec = s.stx_btime.tv_sec;
            mapping->file.btime_nsec = s.stx_btime.tv_nsec;
        }
    }
}

int
vhu_map_create(int fd, uint64_t offset, uint64_t size,
               struct vhu_map_health *health, struct vhu_mapping **mappingp,
               char **error)
{
    struct vhu_mapping *mapping;
    uint64_t page_size = 0;
    uint64_t skip, map_size;
    void *base;
    int retval;

    *mappingp = NULL;
    *error = NULL;
    retval = check_file(fd, offset, size, &page_size, error);
    if (retval) {
        return retval;
    }
    retval = vhu_sigbus_init();
    if (retval) {
        *error = xasprintf("cannot be guarded (%s)", ovs_strerror(retval));
        return retval;
    }

    /* Neither sum overflows: the file is large enough. */
    skip = offset % page_size;
    map_size = ROUND_UP(size + skip, page_size);
    base = vhu_mmap_unlocked(map_size, MAP_SHARED, fd, offset - skip);
    if (base == MAP_FAILED) {
        retval = errno;
        *error = xasprintf("cannot be mapped (%s)", ovs_strerror(retval));
        return retval;
    }
    /* Keeps what guests send out of our core dumps. */
    madvise(base, map_size, MADV_DONTDUMP);

    mapping = xmalloc(sizeof *mapping);
    ovs_refcount_init(&mapping->ref_cnt);
    mapping->base = base;
    mapping->size = map_size;
    mapping->va = (uint8_t *) base + skip;
    mapping->health = vhu_map_health_ref(health);
    mapping->slot = vhu_sigbus_add(base, map_size, page_size, &health->dead);
    identify_file(mapping, fd, offset);
    *mappingp = mapping;
    return 0;
}

uint8_t *
vhu_map_va(const struct vhu_mapping *mapping)
{
    return mapping->va;
}

uint64_t
vhu_map_hash(const struct vhu_mapping *mapping, uint64_t basis)
{
    uint64_t words[sizeof mapping->file / sizeof(uint64_t) + 1] = { basis };
    ovs_u128 hash;

    memcpy(&words[1], &mapping->file, sizeof mapping->file);
    hash_bytes128(words, sizeof words, 0, &hash);
    return hash.u64.lo;
}

void
vhu_map_ref(struct vhu_mapping *mapping)
{
    ovs_refcount_ref(&mapping->ref_cnt);
}

void
vhu_map_unref(struct vhu_mapping *mapping)
{
    if (mapping && vhu_refcount_unref(&mapping->ref_cnt)) {
        vhu_sigbus_remove(mapping->slot);
        munmap(mapping->base, mapping->size);
        vhu_map_health_unref(mapping->health);
        free(mapping);
    }
}

/* Health. */

struct vhu_map_health *
vhu_map_health_create(void)
{
    struct vhu_map_health *health = xmalloc(sizeof *health);

    atomic_init(&health->dead, false);
    ovs_refcount_init(&health->ref_cnt);
    return health;
}

struct vhu_map_health *
vhu_map_health_ref(struct vhu_map_health *health)
{
    ovs_refcount_ref(&health->ref_cnt);
    return health;
}

void
vhu_map_health_unref(struct vhu_map_health *health)
{
    if (vhu_refcount_unref(&health->ref_cnt)) {
        free(health);
    }
}
