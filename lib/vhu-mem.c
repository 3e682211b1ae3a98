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

#include "vhu-mem.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "hash.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/util.h"
#include "ovs-rcu.h"
#include "vhost-user-spec.h"
#include "vhu-map.h"
#include "vhu-sigbus.h"

/* Most bytes in all the regions of a table: what a peer may make us spend of
 * our address space. */
#define MAX_TOTAL_SIZE (UINT64_C(64) << 40)

static int mapping_create(const struct vhost_user_mem_region *, int fd,
                          struct vhu_map_health *, struct vhu_mem_region *,
                          char **error);
static int check_spec(const struct vhu_mem *,
                      const struct vhost_user_mem_region *, char **error);
static struct vhu_mem *mem_alloc(int n_regions, struct vhu_map_health *);
static void mem_insert(struct vhu_mem *, const struct vhu_mem_region *);
static const struct vhu_mem_region *mem_find(
    const struct vhu_mem *, const struct vhost_user_mem_region *);

int
vhu_mem_create(const struct vhost_user_mem_region specs[], const int fds[],
               int n, struct vhu_mem **memp, char **error)
{
    struct vhu_map_health *health = vhu_map_health_create();
    struct vhu_mem *mem = mem_alloc(n, health);
    int retval = 0;

    vhu_map_health_unref(health);
    *memp = NULL;
    *error = NULL;
    if (n < 0 || n > VHU_MEM_MAX_REGIONS) {
        *error = xasprintf("%d regions are more than %d", n,
                           VHU_MEM_MAX_REGIONS);
        retval = EINVAL;
    }
    for (int i = 0; i < n && !retval; i++) {
        struct vhu_mem_region region;

        retval = check_spec(mem, &specs[i], error);
        if (!retval) {
            retval = mapping_create(&specs[i], fds[i], health, &region, error);
        }
        if (!retval) {
            mem_insert(mem, &region);
        }
    }

    if (retval) {
        vhu_mem_destroy(mem);
        return retval;
    }
    *memp = mem;
    return 0;
}

int
vhu_mem_add_region(const struct vhu_mem *old,
                   const struct vhost_user_mem_region *spec, int fd,
                   struct vhu_mem **memp, char **error)
{
    struct vhu_mem_region region;
    struct vhu_mem *mem;
    int retval;

    if (!old) {
        return vhu_mem_create(spec, &fd, 1, memp, error);
    }

    *memp = NULL;
    *error = NULL;
    if (mem_find(old, spec)) {
        *memp = CONST_CAST(struct vhu_mem *, old);
        return 0;
    }
    retval = check_spec(old, spec, error);
    if (!retval) {
        retval = mapping_create(spec, fd, old->health, &region, error);
    }
    if (retval) {
        return retval;
    }

    mem = mem_alloc(old->n_regions + 1, old->health);
    for (int i = 0; i < old->n_regions; i++) {
        vhu_map_ref(old->regions[i].mapping);
        mem_insert(mem, &old->regions[i]);
    }
    mem_insert(mem, &region);
    *memp = mem;
    return 0;
}

int
vhu_mem_remove_region(const struct vhu_mem *old,
                      const struct vhost_user_mem_region *spec,
                      struct vhu_mem **memp, char **error)
{
    const struct vhu_mem_region *victim = old ? mem_find(old, spec) : NULL;
    struct vhu_mem *mem;

    *memp = NULL;
    *error = NULL;
    if (!victim) {
        *error = xasprintf("no region at guest address 0x%"PRIx64", user "
                           "address 0x%"PRIx64" of size 0x%"PRIx64,
                           spec->guest_addr, spec->user_addr, spec->size);
        return ENOENT;
    }

    mem = mem_alloc(old->n_regions - 1, old->health);
    for (int i = 0; i < old->n_regions; i++) {
        if (&old->regions[i] != victim) {
            vhu_map_ref(old->regions[i].mapping);
            mem_insert(mem, &old->regions[i]);
        }
    }
    *memp = mem;
    return 0;
}

void
vhu_mem_destroy(struct vhu_mem *mem)
{
    if (mem) {
        for (int i = 0; i < mem->n_regions; i++) {
            vhu_map_unref(mem->regions[i].mapping);
        }
        vhu_map_health_unref(mem->health);
        free(mem);
    }
}

void
vhu_mem_destroy_postponed(struct vhu_mem *mem)
{
    if (mem) {
        ovsrcu_postpone(vhu_mem_destroy, mem);
    }
}

void
vhu_mem_wait_dead(void)
{
    vhu_sigbus_wait();
}

void
vhu_mem_clear_dead(void)
{
    vhu_sigbus_clear();
}

void *
vhu_mem_gpa_to_va_part(const struct vhu_mem *mem, uint64_t gpa, uint64_t *len)
{
    for (int i = 0; i < mem->n_regions; i++) {
        const struct vhu_mem_region *r = &mem->regions[i];
        uint64_t ofs = gpa - r->guest_addr;

        if (ofs < r->size) {
            *len = r->size - ofs;
            return r->va + ofs;
        }
    }
    *len = 0;
    return NULL;
}

void *
vhu_mem_uva_to_va(const struct vhu_mem *mem, uint64_t uva, uint64_t size)
{
    for (int i = 0; i < mem->n_regions; i++) {
        const struct vhu_mem_region *r = &mem->regions[i];
        uint64_t ofs = uva - r->user_addr;

        if (ofs < r->size && size <= r->size - ofs) {
            return r->va + ofs;
        }
    }
    return NULL;
}

uint64_t
vhu_mem_hash(const struct vhu_mem *mem, uint64_t uva, uint64_t size,
             uint64_t basis)
{
    uint64_t words[5] = { basis, uva };
    ovs_u128 hash;

    for (int i = 0; i < mem->n_regions; i++) {
        const struct vhu_mem_region *r = &mem->regions[i];
        uint64_t ofs = uva - r->user_addr;

        if (ofs < r->size && size <= r->size - ofs) {
            words[0] = vhu_map_hash(r->mapping, basis);
            words[2] = r->guest_addr;
            words[3] = r->user_addr;
            words[4] = r->size;
        }
    }
    hash_bytes128(words, sizeof words, 0, &hash);
    return hash.u64.lo;
}

uint64_t
vhu_mem_size(const struct vhu_mem *mem)
{
    uint64_t total = 0;

    for (int i = 0; i < mem->n_regions; i++) {
        total += mem->regions[i].size;
    }
    return total;
}

/* Tables. */

/* Returns an empty table with space for 'n_regions' (none if negative). */
static struct vhu_mem *
mem_alloc(int n_regions, struct vhu_map_health *health)
{
    size_t n = MAX(0, MIN(n_regions, VHU_MEM_MAX_REGIONS));
    struct vhu_mem *mem = xmalloc(sizeof *mem + n * sizeof mem->regions[0]);

    mem->health = vhu_map_health_ref(health);
    mem->n_regions = 0;
    return mem;
}

/* Adds 'region', which has been checked, to 'mem', which has space for it. */
static void
mem_insert(struct vhu_mem *mem, const struct vhu_mem_region *region)
{
    int i = mem->n_regions++;

    for (; i > 0 && mem->regions[i - 1].guest_addr > region->guest_addr; i--) {
        mem->regions[i] = mem->regions[i - 1];
    }
    mem->regions[i] = *region;
}

/* Returns the region of 'mem' that 'spec' describes, or NULL.  The offset in
 * the file does not count: QEMU sends none with REM_MEM_REG. */
static const struct vhu_mem_region *
mem_find(const struct vhu_mem *mem, const struct vhost_user_mem_region *spec)
{
    for (int i = 0; i < mem->n_regions; i++) {
        const struct vhu_mem_region *r = &mem->regions[i];

        if (r->guest_addr == spec->guest_addr
            && r->user_addr == spec->user_addr && r->size == spec->size) {
            return r;
        }
    }
    return NULL;
}

/* Returns true if the 'a_size' bytes at 'a' and the 'b_size' bytes at 'b'
 * overlap.  Neither wraps around, neither is empty. */
static bool
ranges_overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a < b ? b - a < a_size : a - b < b_size;
}

/* Stores in '*error' what is wrong with region 'spec'.  Returns EINVAL. */
static int OVS_PRINTF_FORMAT(3, 4)
refuse(const struct vhost_user_mem_region *spec, char **error,
       const char *format, ...)
{
    struct ds ds = DS_EMPTY_INITIALIZER;
    va_list args;

    ds_put_format(&ds, "memory region at guest address 0x%"PRIx64", user "
                  "address 0x%"PRIx64", size 0x%"PRIx64", offset 0x%"PRIx64
                  ": ", spec->guest_addr, spec->user_addr, spec->size,
                  spec->mmap_offset);
    va_start(args, format);
    ds_put_format_valist(&ds, format, args);
    va_end(args);
    *error = ds_steal_cstr(&ds);
    return EINVAL;
}

/* Checks whether a table could hold the regions of 'mem' and 'spec' as far as
 * the numbers go.  Returns 0 or a positive errno with a text in '*error'.
 *
 * Two regions of one file may be the same part of it. */
static int
check_spec(const struct vhu_mem *mem, const struct vhost_user_mem_region *spec,
           char **error)
{
    if (!spec->size) {
        return refuse(spec, error, "the size is 0");
    }
    if (spec->size - 1 > UINT64_MAX - spec->guest_addr) {
        return refuse(spec, error, "guest addresses wrap around");
    }
    if (spec->size - 1 > UINT64_MAX - spec->user_addr) {
        return refuse(spec, error, "user addresses wrap around");
    }
    if (spec->size > MAX_TOTAL_SIZE - vhu_mem_size(mem)) {
        return refuse(spec, error, "more than 64 TiB in all");
    }
    if (mem->n_regions >= VHU_MEM_MAX_REGIONS) {
        return refuse(spec, error, "more than %d regions",
                      VHU_MEM_MAX_REGIONS);
    }
    for (int i = 0; i < mem->n_regions; i++) {
        const struct vhu_mem_region *r = &mem->regions[i];

        if (ranges_overlap(spec->guest_addr, spec->size,
                           r->guest_addr, r->size)) {
            return refuse(spec, error, "guest addresses overlap with those "
                          "from 0x%"PRIx64" on", r->guest_addr);
        }
        if (ranges_overlap(spec->user_addr, spec->size,
                           r->user_addr, r->size)) {
            return refuse(spec, error, "user addresses overlap with those "
                          "from 0x%"PRIx64" on", r->user_addr);
        }
    }
    return 0;
}

/* Maps 'spec', which has been checked, from 'fd' and fills in '*region'.
 * Returns 0 or a positive errno with a text in '*error'. */
static int
mapping_create(const struct vhost_user_mem_region *spec, int fd,
               struct vhu_map_health *health, struct vhu_mem_region *region,
               char **error)
{
    char *phrase;
    int retval = vhu_map_create(fd, spec->mmap_offset, spec->size, health,
                                &region->mapping, &phrase);

    if (retval) {
        refuse(spec, error, "%s", phrase);
        free(phrase);
        return retval;
    }
    region->guest_addr = spec->guest_addr;
    region->size = spec->size;
    region->user_addr = spec->user_addr;
    region->va = vhu_map_va(region->mapping);
    return 0;
}
