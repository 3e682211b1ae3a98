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

#ifndef VIRTQ_FIXTURE_H
#define VIRTQ_FIXTURE_H 1

/* A virtqueue of ours in the memory of a mock driver, for tests. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "openvswitch/util.h"
#include "util.h"
#include "vhu-mem.h"
#include "virtio-spec.h"
#include "virtq.h"
#include "virtq-mock.h"

/* What the failed check of a table is about. */
static const char *check_name OVS_UNUSED = "";

#define CHECK(CONDITION)                                            \
    do {                                                            \
        if (!(CONDITION)) {                                         \
            ovs_fatal(0, "%s:%d: %s: failed: %s", __FILE__, __LINE__, \
                      check_name, #CONDITION);                      \
        }                                                           \
    } while (0)

#define CHECK_EQ(A, B)                                              \
    do {                                                            \
        long long int a__ = (A), b__ = (B);                         \
        if (a__ != b__) {                                           \
            ovs_fatal(0, "%s:%d: %s: %s is %lld, not %lld", __FILE__, \
                      __LINE__, check_name, #A, a__, b__);          \
        }                                                           \
    } while (0)

struct fixture {
    struct mock_mem mock_mem;
    struct vhu_mem *mem;
    struct mock_driver driver;
    struct virtq_counters counters;
    struct virtq_config config;
    struct virtq *vq;
    int call_fd;
};

/* Returns the position that the driver of 'f' writes as 'pos'. */
static inline struct virtq_pos
fixture_pos(const struct fixture *f, uint16_t pos)
{
    return (f->driver.packed
            ? (struct virtq_pos) { (pos & 0x7fff) % f->driver.size, pos >> 15 }
            : (struct virtq_pos) { pos, false });
}

/* Sets up memory, a driver whose indices start at 'start', and, in
 * 'f->config', what a virtqueue needs.  Does not create it. */
static inline void
fixture_init(struct fixture *f, uint32_t size, uint16_t start,
             uint64_t features, enum virtq_access access)
{
    memset(f, 0, sizeof *f);
    mock_mem_init(&f->mock_mem);
    mock_driver_init(&f->driver, &f->mock_mem, size, start,
                     features & VIRTIO_BIT(VIRTIO_F_RING_PACKED),
                     features & VIRTIO_BIT(VIRTIO_F_EVENT_IDX),
                     access == VIRTQ_DEVICE_WRITES);

    f->mem = xzalloc(sizeof *f->mem
                     + MOCK_N_REGIONS * sizeof f->mem->regions[0]);
    f->mem->health = xzalloc(sizeof *f->mem->health);
    atomic_init(&f->mem->health->dead, false);
    for (int i = 0; i < MOCK_N_REGIONS; i++) {
        const struct mock_region *r = &f->mock_mem.regions[i];

        f->mem->regions[f->mem->n_regions++] = (struct vhu_mem_region) {
            .guest_addr = r->gpa,
            .user_addr = r->gpa + MOCK_UVA_OFFSET,
            .size = r->size,
            .va = r->va,
        };
    }

    f->call_fd = eventfd(0, EFD_NONBLOCK);
    f->config = (struct virtq_config) {
        .format = (features & VIRTIO_BIT(VIRTIO_F_RING_PACKED)
                   ? VIRTQ_PACKED : VIRTQ_SPLIT),
        .access = access,
        .size = size,
        .features = features,
        .mem = f->mem,
        .desc_uva = f->driver.desc + MOCK_UVA_OFFSET,
        .driver_uva = f->driver.avail + MOCK_UVA_OFFSET,
        .device_uva = f->driver.used + MOCK_UVA_OFFSET,
        .avail = fixture_pos(f, start),
        .used = fixture_pos(f, start),
        .call_fd = f->call_fd,
        .counters = &f->counters,
    };
}

/* Returns how many notifications there were since the last call. */
static inline uint64_t
fixture_calls(struct fixture *f)
{
    uint64_t n;

    return read(f->call_fd, &n, sizeof n) == sizeof n ? n : 0;
}

/* (Re)creates the virtqueue. */
static inline void
fixture_start(struct fixture *f)
{
    char *error;

    virtq_destroy(f->vq);
    if (virtq_create(&f->config, &f->vq, &error)) {
        ovs_fatal(0, "%s: %s", check_name, error);
    }
    fixture_calls(f);
}

/* Makes 'n' buffers available and used.  Returns how often that notified. */
static inline uint64_t
fixture_use(struct fixture *f, int n)
{
    const struct mock_buf buf = { MOCK_A_GPA + 0x100000, 10 };
    struct virtq_chain chains[VIRTQ_MAX_BURST];
    uint64_t token;
    uint16_t id;
    uint32_t len;

    for (int i = 0; i < n; i++) {
        CHECK(mock_driver_add(&f->driver, &buf, 1, 0, 0, 0) >= 0);
    }
    mock_driver_publish(&f->driver);
    CHECK_EQ(virtq_take_avail(f->vq, chains, n), n);
    virtq_add_used_burst(f->vq, chains, NULL, n);
    virtq_publish_used(f->vq);
    virtq_call(f->vq);
    for (int i = 0; i < n; i++) {
        CHECK(mock_driver_get_used(&f->driver, &id, &len, &token));
    }
    return fixture_calls(f);
}

static inline void
fixture_uninit(struct fixture *f)
{
    virtq_destroy(f->vq);
    mock_driver_uninit(&f->driver);
    mock_mem_uninit(&f->mock_mem);
    free(f->mem->health);
    free(f->mem);
    close(f->call_fd);
}

/* Checks that all of 'chain' is inside memory. */
static inline void
fixture_check_chain(const struct fixture *f, const struct virtq_chain *chain)
{
    uint64_t size = 0;

    for (int i = 0; i < chain->n_segs; i++) {
        const struct virtq_seg *seg = &chain->segs[i];
        bool inside = false;

        for (int j = 0; j < MOCK_N_REGIONS; j++) {
            const struct mock_region *r = &f->mock_mem.regions[j];

            inside |= (seg->va >= r->va && seg->va < r->va + r->size
                       && seg->len <= r->va + r->size - seg->va);
        }
        CHECK(inside);
        CHECK(seg->len > 0);
        size += seg->len;
    }
    CHECK_EQ(chain->size, size);
}

#endif /* virtq-fixture.h */
