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

#ifndef VIRTQ_DRV_FIXTURE_H
#define VIRTQ_DRV_FIXTURE_H 1

/* A virtqueue of ours, driver side, and a mock device that has mapped its
 * memory, for tests. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "openvswitch/util.h"
#include "util.h"
#include "vhu-shm.h"
#include "virtio-spec.h"
#include "virtq-drv.h"
#include "virtq-fixture.h"
#include "virtq-mock-device.h"

struct drv_fixture {
    struct vhu_shm *shm;
    struct mock_mem mem;        /* The same memory, mapped by the device. */
    struct virtq_drv_counters counters;
    struct virtq_drv_config config;
    struct virtq_drv *vq;
    struct mock_device dev;
    int kick_fd;
};

/* Negotiated unless a test says otherwise. */
#define V1 VIRTIO_BIT(VIRTIO_F_VERSION_1)
#define PACKED (V1 | VIRTIO_BIT(VIRTIO_F_RING_PACKED))
#define EVENT_IDX VIRTIO_BIT(VIRTIO_F_EVENT_IDX)
#define INDIRECT VIRTIO_BIT(VIRTIO_F_INDIRECT_DESC)
#define IN_ORDER VIRTIO_BIT(VIRTIO_F_IN_ORDER)
#define MERGEABLE VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF)

/* A device begins with the ring as it is. */
static inline void
drv_fixture_start_device(struct drv_fixture *f)
{
    bool packed = f->config.format == VIRTQ_PACKED;
    struct virtq_drv_areas areas;
    struct virtq_pos avail, used;

    virtq_drv_get_areas(f->vq, &areas);
    virtq_drv_get_base(f->vq, &avail, &used);
    mock_device_uninit(&f->dev);
    mock_device_init(&f->dev, &f->mem, f->config.size, packed, areas.desc_gpa,
                     areas.driver_gpa, areas.device_gpa,
                     avail.idx | (packed && avail.wrap ? 0x8000 : 0));
    f->dev.event_idx = f->config.features & EVENT_IDX;
    f->dev.in_order = f->config.features & IN_ORDER;
    f->dev.indirect = f->config.features & INDIRECT;
    f->dev.writable = f->config.access == VIRTQ_DEVICE_WRITES;
}

/* Returns the position that the device of 'f' writes as 'pos'. */
static inline struct virtq_pos
drv_fixture_pos(const struct drv_fixture *f, uint16_t pos)
{
    return (f->dev.packed
            ? (struct virtq_pos) { pos & 0x7fff, pos >> 15 }
            : (struct virtq_pos) { pos, false });
}

/* Returns how many kicks there were since the last call. */
static inline uint64_t
drv_fixture_kicks(struct drv_fixture *f)
{
    uint64_t n;

    return read(f->kick_fd, &n, sizeof n) == sizeof n ? n : 0;
}

static inline void
drv_fixture_init(struct drv_fixture *f, uint32_t size, uint64_t features,
                 enum virtq_access access, uint32_t buf_size)
{
    struct vhu_shm_config shm_config = { .name = "vhutest" };
    char *error;
    void *p;

    memset(f, 0, sizeof *f);
    f->kick_fd = eventfd(0, EFD_NONBLOCK);
    f->config = (struct virtq_drv_config) {
        .format = (features & VIRTIO_BIT(VIRTIO_F_RING_PACKED)
                   ? VIRTQ_PACKED : VIRTQ_SPLIT),
        .access = access,
        .size = size,
        .buf_size = buf_size,
        .features = features,
        .kick_fd = f->kick_fd,
        .counters = &f->counters,
    };

    /* Not at the beginning of the memory. */
    shm_config.size = VIRTQ_DRV_ALIGN + virtq_drv_shm_size(&f->config);
    if (vhu_shm_create(&shm_config, &f->shm, &error)) {
        ovs_fatal(0, "%s", error);
    }
    f->config.shm = f->shm;
    CHECK(vhu_shm_carve(f->shm, 1, 1, &f->config.ofs));
    CHECK(vhu_shm_carve(f->shm, virtq_drv_shm_size(&f->config),
                        VIRTQ_DRV_ALIGN, &f->config.ofs));
    CHECK_EQ(f->config.ofs, VIRTQ_DRV_ALIGN);

    p = mmap(NULL, f->shm->size, PROT_READ | PROT_WRITE, MAP_SHARED,
             f->shm->fd, 0);
    CHECK(p != MAP_FAILED);
    f->mem.regions[0].gpa = f->shm->guest_addr;
    f->mem.regions[0].size = f->shm->size;
    f->mem.regions[0].va = p;

    if (virtq_drv_create(&f->config, &f->vq, &error)) {
        ovs_fatal(0, "%s: %s", check_name, error);
    }
    drv_fixture_start_device(f);
}

static inline void
drv_fixture_uninit(struct drv_fixture *f)
{
    virtq_drv_destroy(f->vq);
    mock_device_uninit(&f->dev);
    munmap(f->mem.regions[0].va, f->mem.regions[0].size);
    vhu_shm_destroy(f->shm);
    close(f->kick_fd);
}

/* Checks that 'packet' is a packet of 'f' and is inside its buffers, each
 * segment in one that no other has.  (Where these are in the memory follows
 * from the size of all.) */
static inline void
drv_fixture_check_packet(const struct drv_fixture *f,
                         const struct virtq_chain *packet)
{
    const uint8_t *begin = f->shm->va + f->config.ofs;
    const uint8_t *end = begin + virtq_drv_shm_size(&f->config);
    uint32_t size = 0;

    CHECK(packet->n_segs > 0);
    for (int i = 0; i < packet->n_segs; i++) {
        const struct virtq_seg *seg = &packet->segs[i];

        CHECK(seg->len > 0);
        CHECK(seg->len <= f->config.buf_size);
        CHECK(seg->va >= begin + 16 * f->config.size);
        CHECK(seg->va < end && seg->len <= end - seg->va);
        size += seg->len;
    }
    CHECK_EQ(packet->size, size);
}

/* Byte 'i' of packet number 'seq'. */
static inline uint8_t
drv_fixture_byte(uint32_t seq, uint32_t i)
{
    return seq * 31 + (seq >> 8) * 7 + i + (i >> 8);
}

/* Reserves buffers for packet number 'seq', of 'size' bytes, and fills them.
 * Returns false if that is not possible. */
static inline bool
drv_fixture_add(struct drv_fixture *f, uint32_t seq, uint32_t size)
{
    struct virtq_chain packet;
    uint32_t ofs = 0;

    if (!virtq_drv_reserve(f->vq, &size, &packet, 1)) {
        return false;
    }
    drv_fixture_check_packet(f, &packet);
    CHECK_EQ(packet.size, size);
    for (int i = 0; i < packet.n_segs; i++) {
        for (uint32_t j = 0; j < packet.segs[i].len; j++) {
            packet.segs[i].va[j] = drv_fixture_byte(seq, ofs++);
        }
    }
    return true;
}

/* Checks that the device has got packet number 'seq', of 'size' bytes, in
 * 'avail'. */
static inline void
drv_fixture_check_avail(const struct drv_fixture *f,
                        const struct mock_avail *avail, uint32_t seq,
                        uint32_t size)
{
    uint8_t *data = xmalloc(size);

    CHECK_EQ(avail->size, size);
    mock_device_read(&f->dev, avail, data);
    for (uint32_t i = 0; i < size; i++) {
        if (data[i] != drv_fixture_byte(seq, i)) {
            CHECK_EQ(data[i], drv_fixture_byte(seq, i));
        }
    }
    free(data);
}

#endif /* virtq-drv-fixture.h */
