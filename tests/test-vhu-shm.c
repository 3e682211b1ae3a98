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

/* Memory that we share. */

#include <config.h>

#include "vhu-shm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "openvswitch/util.h"
#include "util.h"
#include "vhost-user-spec.h"
#include "vhu-peer.h"
#include "vhutest.h"

#define MB (UINT64_C(1) << 20)

static struct vhu_shm *
must_create(uint64_t size, int index)
{
    const struct vhu_shm_config config = {
        .name = "vhutest", .size = size, .index = index,
    };
    struct vhu_shm *shm;
    char *error;

    if (vhu_shm_create(&config, &shm, &error)) {
        ovs_fatal(0, "%s", error);
    }
    return shm;
}

/* Returns true if the byte at 'p' can be read. */
static bool
can_read(const uint8_t *p)
{
    bool ok;
    int fds[2];

    ovs_assert(!pipe(fds));
    ok = write(fds[1], p, 1) == 1;
    ovs_assert(ok || errno == EFAULT);
    close(fds[0]);
    close(fds[1]);
    return ok;
}

/* The memory is there, is zero, and has nothing around it. */
static void
test_create(void)
{
    static const uint64_t sizes[] = { 1, 4096, 4097, 3 * MB };

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct vhu_shm *shm = must_create(sizes[i], 0);

        ovs_assert(shm->size >= sizes[i]);
        ovs_assert(shm->size < sizes[i] + shm->page_size);
        ovs_assert(shm->size % shm->page_size == 0);
        for (uint64_t j = 0; j < shm->size; j++) {
            ovs_assert(!shm->va[j]);
        }
        memset(shm->va, 0xaa, shm->size);
        ovs_assert(can_read(shm->va));
        ovs_assert(can_read(shm->va + shm->size - 1));
        ovs_assert(!can_read(shm->va - 1));
        ovs_assert(!can_read(shm->va - shm->page_size));
        ovs_assert(!can_read(shm->va + shm->size));
        ovs_assert(!can_read(shm->va + shm->size + shm->page_size - 1));
        ovs_assert(!vhu_shm_is_dead(shm));
        vhu_shm_destroy(shm);
    }
    vhu_shm_destroy(NULL);
}

static void
test_errors(void)
{
    static const struct vhu_shm_config configs[] = {
        { .name = "vhutest", .size = 0 },
        { .name = "vhutest", .size = VHU_SHM_MAX_SIZE + 1 },
        { .name = "vhutest", .size = 1, .index = -1 },
        { .name = "vhutest", .size = 1, .index = VHU_SHM_MAX_INDEX },
    };

    for (size_t i = 0; i < ARRAY_SIZE(configs); i++) {
        struct vhu_shm *shm;
        char *error;

        ovs_assert(vhu_shm_create(&configs[i], &shm, &error) == EINVAL);
        ovs_assert(!shm);
        printf("%s\n", error);
        free(error);
    }
}

/* One descriptor is needed for the file, and one the first time. */
static void
test_no_fds(void)
{
    const struct vhu_shm_config config = { .name = "vhutest", .size = 1 };

    for (int n = 0; n < 2; n++) {
        struct vhu_shm *shm;
        char *error;

        limit_fds(n);
        ovs_assert(vhu_shm_create(&config, &shm, &error) == EMFILE);
        ovs_assert(!shm);
        printf("%d left: %s\n", n, error);
        free(error);
        unlimit_fds();
    }
    limit_fds(2);
    vhu_shm_destroy(must_create(1, 0));
    unlimit_fds();
}

/* Huge pages, or a clear word that there are none. */
static void
test_hugepages(void)
{
    static const uint64_t sizes[] = { 1, VHU_SHM_MAX_SIZE };

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        const struct vhu_shm_config config = {
            .name = "vhutest", .size = sizes[i], .hugepages = true,
        };
        struct vhu_shm *shm;
        char *error;
        int retval = vhu_shm_create(&config, &shm, &error);

        if (!retval) {
            ovs_assert(shm->page_size > 65536);
            ovs_assert(shm->size % shm->page_size == 0);
            ovs_assert((uintptr_t) shm->va % shm->page_size == 0);
            shm->va[shm->size - 1] = 1;
            ovs_assert(!can_read(shm->va - 1));
            ovs_assert(!can_read(shm->va + shm->size));
            vhu_shm_destroy(shm);
        } else {
            ovs_assert(!shm);
            ovs_assert(strstr(error, "huge pages"));
            ovs_assert(retval != ENOMEM
                       || strstr(error, ovs_strerror(ENOMEM)));
            free(error);
        }
    }
}

/* Addresses that the back-end is told have nothing to do with ours, nor with
 * each other, and those of different pieces do not overlap. */
static void
test_addresses(void)
{
    struct vhost_user_mem_region regions[4];
    const int indexes[] = { 0, 1, 2, VHU_SHM_MAX_INDEX - 1 };

    for (size_t i = 0; i < ARRAY_SIZE(regions); i++) {
        struct vhu_shm *shm = must_create(MB, indexes[i]);
        struct vhost_user_mem_region *r = &regions[i];

        vhu_shm_get_region(shm, r);
        ovs_assert(r->size == shm->size);
        ovs_assert(r->mmap_offset == 0);
        ovs_assert(r->guest_addr % shm->page_size == 0);
        ovs_assert(r->user_addr % shm->page_size == 0);
        ovs_assert(r->guest_addr && r->guest_addr != r->user_addr);
        ovs_assert(r->user_addr + VHU_SHM_MAX_SIZE <= UINT64_C(1) << 47);
        ovs_assert(r->user_addr != (uintptr_t) shm->va);
        vhu_shm_destroy(shm);
        for (size_t j = 0; j < i; j++) {
            ovs_assert(r->guest_addr - regions[j].guest_addr
                       >= VHU_SHM_MAX_SIZE);
            ovs_assert(r->user_addr - regions[j].user_addr
                       >= VHU_SHM_MAX_SIZE);
        }
    }

    /* None of one kind is one of the other kind. */
    for (size_t i = 0; i < ARRAY_SIZE(regions); i++) {
        for (size_t j = 0; j < ARRAY_SIZE(regions); j++) {
            ovs_assert(regions[i].guest_addr - regions[j].user_addr
                       >= VHU_SHM_MAX_SIZE);
            ovs_assert(regions[j].user_addr - regions[i].guest_addr
                       >= VHU_SHM_MAX_SIZE);
        }
    }
}

/* What a back-end that has the file can do to us. */
static void
test_seals(void)
{
    struct vhu_shm *shm = must_create(MB, 0);
    int fd = dup(shm->fd);
    uint8_t *p;

    ovs_assert(ftruncate(fd, 0) && errno == EPERM);
    ovs_assert(ftruncate(fd, 2 * MB) && errno == EPERM);
    ovs_assert(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) && errno == EPERM);
    ovs_assert(fallocate(fd, 0, MB, 4096) && errno == EPERM);

    /* It is shared, and a hole is no more than zeros. */
    p = mmap(NULL, MB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ovs_assert(p != MAP_FAILED);
    p[0] = 1;
    p[8192] = 2;
    ovs_assert(shm->va[0] == 1 && shm->va[8192] == 2);
    ovs_assert(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                          4096));
    ovs_assert(shm->va[0] == 0 && shm->va[8192] == 2);
    shm->va[0] = 3;
    ovs_assert(p[0] == 3);
    ovs_assert(!vhu_shm_is_dead(shm));

    /* It may keep the memory. */
    vhu_shm_destroy(shm);
    p[0] = 4;
    munmap(p, MB);
    close(fd);
}

static void
test_carve(void)
{
    static const struct {
        uint64_t size, align;
        bool ok;
        uint64_t ofs;
    } rows[] = {
        { 1, 1, true, 0 },
        { 1, 1, true, 1 },
        { 3, 64, true, 64 },
        { 4096, 4096, true, 4096 },
        { 10, 4, true, 8192 },
        { UINT64_MAX, 1, false, 0 },
        { UINT64_MAX - 8192, 4096, false, 0 },
        { MB - 3 * 4096, 4096, true, 3 * 4096 },
        { 1, 1, false, 0 },
        { 0, 4096, true, MB },
    };
    struct vhu_shm *shm = must_create(MB, 0);

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        uint64_t ofs;

        if (vhu_shm_carve(shm, rows[i].size, rows[i].align, &ofs)
            != rows[i].ok || (rows[i].ok && ofs != rows[i].ofs)) {
            ovs_fatal(0, "row %"PRIuSIZE": got %"PRIu64, i, ofs);
        }
    }
    vhu_shm_destroy(shm);
}

static void
test_vhu_shm_main(int argc OVS_UNUSED, char *argv[] OVS_UNUSED)
{
    test_no_fds();              /* First, while it has none. */
    test_create();
    test_errors();
    test_hugepages();
    test_addresses();
    test_seals();
    test_carve();
}

VHUTEST_REGISTER("vhu-shm", test_vhu_shm_main);
