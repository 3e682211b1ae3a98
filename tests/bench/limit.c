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

#include <stdlib.h>
#include <string.h>

#include "openvswitch/vlog.h"
#include "util.h"
#include "vhost-loop.h"
#include "vhu-dev.h"
#include "vhu-mem.h"
#include "virtio-barrier.h"
#include "virtq.h"

/* The limit: a bare ring loop
 * ===========================
 *
 * Does the least that a back-end between two guests can do: takes a burst,
 * copies it, gives it to the other guest, and prefetches what the next burst
 * will read.  It trusts both guests blindly, manages no buffers, never
 * notifies and takes no lock.  It is a yardstick for the virtqueue engine and
 * must never be anything else.
 *
 * The connections are brought up by the library, whose virtqueues are then
 * left alone.  A guest must have all its memory in one region, and buffers
 * that a whole packet fits into, as dpdk-testpmd has with
 * --single-file-segments. */

#define MAX_BURST VIRTQ_MAX_BURST

/* Packed format, which needs no more than this here. */
struct packed_desc {
    virtio_le64 addr;
    virtio_le32 len;
    virtio_le16 id;
    virtio_le16 flags;
};
BUILD_ASSERT_DECL(sizeof(struct packed_desc) == 16);

/* Memory of a guest. */
struct region {
    uint64_t gpa;
    uint8_t *va;
};

/* One ring.  It uses buffers in the order in which they were made available,
 * so one position is enough. */
struct ring {
    const struct virtq *vq;     /* Its virtqueue, as long as that is there. */
    struct region region;
    uint16_t size;
    uint16_t next;              /* Split: free running. */
    uint16_t driver_idx;        /* Split: available index, as last read. */
    bool packed;
    bool wrap;                  /* Packed. */
    bool receives;              /* Its buffers are for us to write. */

    struct virtq_desc *desc;    /* Split. */
    struct virtq_avail *avail;
    struct virtq_used *used;

    struct packed_desc *pdesc;  /* Packed. */
};

/* A buffer: where the packet is, or will be. */
struct buffer {
    uint8_t *va;
    uint32_t len;               /* Without the header. */
    const uint8_t *more;        /* The rest of a packet in two segments. */
    uint32_t more_len;
    uint16_t id;
    uint16_t slot;              /* Packed: of the first descriptor. */
    uint16_t n_slots;
    bool wrap;
};

/* State of a path. */
struct bare {
    struct ring src;
    struct ring dst;
};

static void *
area(const struct vhu_dev *dev, uint64_t uva)
{
    return vhu_mem_uva_to_va(dev->mem, uva, 1);
}

static void
ring_init(struct ring *ring, const struct vhu_dev *dev,
          const struct vhu_vring *vring, const struct virtq *vq)
{
    const struct vhost_user_vring_addr *addr = &vring->addr;

    ring->vq = vq;
    ring->receives = !vhu_vring_is_transmitq(vring->index);
    ring->size = vring->size;
    ring->region.gpa = dev->mem->regions[0].guest_addr;
    ring->region.va = dev->mem->regions[0].va;
    ring->packed = virtq_get_features(vq) & VIRTIO_BIT(VIRTIO_F_RING_PACKED);
    if (ring->packed) {
        struct virtq_pos avail, used;

        virtq_get_base(vq, &avail, &used);
        ring->pdesc = area(dev, addr->desc);
        ring->next = avail.idx;
        ring->wrap = avail.wrap;
    } else {
        ring->desc = area(dev, addr->desc);
        ring->avail = area(dev, addr->avail);
        ring->used = area(dev, addr->used);
        ring->next = virtio_load_le16(&ring->used->idx);
        ring->driver_idx = ring->next;
    }
}

/* Makes 'ring' that of 'vring', unless it is already.  Returns false if that
 * does not run. */
static ALWAYS_INLINE inline bool
ring_update(struct ring *ring, const struct vhu_dev *dev,
            const struct vhu_vring *vring)
{
    const struct virtq *vq = ovsrcu_get(struct virtq *, &vring->vq);

    if (OVS_UNLIKELY(vq != ring->vq)) {
        ring->vq = NULL;
        if (vq) {
            ring_init(ring, dev, vring, vq);
        }
    }
    return vq != NULL;
}

/* Loads what will be touched of 'b' first. */
static ALWAYS_INLINE inline void
prefetch_buffer(const struct ring *ring, const struct buffer *b)
{
    if (ring->receives) {
        virtq_prefetch_write(b->va - VIRTIO_NET_HDR_LEN);
        virtq_prefetch_write(b->va);
    } else {
        OVS_PREFETCH(b->va);
    }
}

static ALWAYS_INLINE inline uint8_t *
translate(const struct ring *ring, virtio_le64 gpa)
{
    return ring->region.va + (virtio_le64_to_cpu(gpa) - ring->region.gpa);
}

/* Sets 'b' to what 'addr' and 'len' describe, header and packet. */
static ALWAYS_INLINE inline void
set_whole(const struct ring *ring, struct buffer *b, virtio_le64 addr,
          virtio_le32 len)
{
    b->va = translate(ring, addr) + VIRTIO_NET_HDR_LEN;
    b->len = virtio_le32_to_cpu(len) - VIRTIO_NET_HDR_LEN;
    b->more_len = 0;
}

/* Sets 'b' to what 'addr' and 'len' describe, just the packet. */
static ALWAYS_INLINE inline void
set_packet(const struct ring *ring, struct buffer *b, virtio_le64 addr,
           virtio_le32 len)
{
    b->va = translate(ring, addr);
    b->len = virtio_le32_to_cpu(len);
    b->more_len = 0;
}

/* Adds what 'addr' and 'len' describe to 'b'. */
static ALWAYS_INLINE inline void
add_packet(const struct ring *ring, struct buffer *b, virtio_le64 addr,
           virtio_le32 len)
{
    b->more = translate(ring, addr);
    b->more_len = virtio_le32_to_cpu(len);
}

/* Split. */

static ALWAYS_INLINE inline bool
is_chained(const struct virtq_desc *desc)
{
    return virtio_le16_to_cpu(desc->flags) & VIRTQ_DESC_F_NEXT;
}

static ALWAYS_INLINE inline void
read_split(const struct ring *ring, uint16_t head, struct buffer *b)
{
    const struct virtq_desc *desc = &ring->desc[head];
    uint16_t flags = virtio_le16_to_cpu(desc->flags);

    b->id = head;
    if (OVS_LIKELY(!(flags & (VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_INDIRECT)))) {
        set_whole(ring, b, desc->addr, desc->len);
    } else {
        const struct virtq_desc *table = ring->desc;

        if (flags & VIRTQ_DESC_F_INDIRECT) {
            table = ALIGNED_CAST(const struct virtq_desc *,
                                 translate(ring, desc->addr));
            desc = table;
        }
        if (!is_chained(desc)) {
            set_whole(ring, b, desc->addr, desc->len);
            return;
        }
        desc = &table[virtio_le16_to_cpu(desc->next)];
        set_packet(ring, b, desc->addr, desc->len);
        if (is_chained(desc)) {
            desc = &table[virtio_le16_to_cpu(desc->next)];
            add_packet(ring, b, desc->addr, desc->len);
        }
    }
}

static ALWAYS_INLINE inline size_t
take_split(struct ring *ring, struct buffer bufs[], size_t max)
{
    uint16_t n = ring->driver_idx - ring->next;

    if (n < max) {
        ring->driver_idx = virtio_load_acquire_le16(&ring->avail->idx);
        n = ring->driver_idx - ring->next;
    }
    n = MIN(n, max);
    for (uint16_t i = 0; i < n; i++) {
        uint16_t slot = (uint16_t) (ring->next + i) & (ring->size - 1);

        read_split(ring, virtio_le16_to_cpu(ring->avail->ring[slot]),
                   &bufs[i]);
        prefetch_buffer(ring, &bufs[i]);
    }
    return n;
}

static ALWAYS_INLINE inline void
use_split(struct ring *ring, const struct buffer bufs[],
          const uint32_t lens[], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t slot = (uint16_t) (ring->next + i) & (ring->size - 1);

        ring->used->ring[slot] = (struct virtq_used_elem) {
            .id = virtio_cpu_to_le32(bufs[i].id),
            .len = virtio_cpu_to_le32(lens ? lens[i] : 0),
        };
    }
    ring->next += n;
    virtio_store_release_le16(&ring->used->idx, ring->next);

    /* As many as are known to be there: to look for more would be to wait. */
    uint16_t n_next = MIN((uint16_t) (ring->driver_idx - ring->next), n);
    for (uint16_t i = 0; i < n_next; i++) {
        uint16_t slot = (uint16_t) (ring->next + i) & (ring->size - 1);

        OVS_PREFETCH(&ring->desc[virtio_le16_to_cpu(
                         ring->avail->ring[slot])]);
    }
    OVS_PREFETCH(&ring->avail->idx);
    OVS_PREFETCH(&ring->avail->ring[(uint16_t) (ring->next + n)
                                    & (ring->size - 1)]);
    virtq_prefetch_write(&ring->used->ring[ring->next & (ring->size - 1)]);
}

/* Packed. */

static ALWAYS_INLINE inline bool
packed_is_avail(const struct packed_desc *desc, bool wrap)
{
    uint16_t flags = virtio_load_acquire_le16(&desc->flags);

    return (!!(flags & VIRTQ_DESC_F_AVAIL) == wrap
            && !!(flags & VIRTQ_DESC_F_USED) != wrap);
}

static ALWAYS_INLINE inline uint32_t
wrapped(const struct ring *ring, uint32_t slot)
{
    return slot < ring->size ? slot : slot - ring->size;
}

static ALWAYS_INLINE inline void
read_packed_table(const struct ring *ring, const struct packed_desc *desc,
                  struct buffer *b)
{
    uint32_t n = virtio_le32_to_cpu(desc->len) / sizeof *desc;
    const struct packed_desc *table
        = ALIGNED_CAST(const struct packed_desc *,
                       translate(ring, desc->addr));

    if (n == 1) {
        set_whole(ring, b, table->addr, table->len);
    } else {
        set_packet(ring, b, table[1].addr, table[1].len);
        if (n > 2) {
            add_packet(ring, b, table[2].addr, table[2].len);
        }
    }
}

static ALWAYS_INLINE inline size_t
take_packed(struct ring *ring, struct buffer bufs[], size_t max)
{
    uint16_t next = ring->next;
    bool wrap = ring->wrap;
    size_t n = 0;

    while (n < max && packed_is_avail(&ring->pdesc[next], wrap)) {
        const struct packed_desc *desc = &ring->pdesc[next];
        uint16_t flags = virtio_le16_to_cpu(desc->flags);
        struct buffer *b = &bufs[n++];

        b->slot = next;
        b->wrap = wrap;
        b->n_slots = 1;
        if (flags & VIRTQ_DESC_F_NEXT) {
            desc = &ring->pdesc[wrapped(ring, next + 1)];
            b->n_slots = 2;
            set_packet(ring, b, desc->addr, desc->len);
            if (virtio_le16_to_cpu(desc->flags) & VIRTQ_DESC_F_NEXT) {
                desc = &ring->pdesc[wrapped(ring, next + 2)];
                b->n_slots = 3;
                add_packet(ring, b, desc->addr, desc->len);
            }
        } else if (flags & VIRTQ_DESC_F_INDIRECT) {
            read_packed_table(ring, desc, b);
        } else {
            set_whole(ring, b, desc->addr, desc->len);
        }
        b->id = virtio_le16_to_cpu(desc->id);
        prefetch_buffer(ring, b);

        next += b->n_slots;
        if (next >= ring->size) {
            next -= ring->size;
            wrap = !wrap;
        }
    }
    return n;
}

static ALWAYS_INLINE inline void
use_packed(struct ring *ring, const struct buffer bufs[],
           const uint32_t lens[], size_t n)
{
    uint16_t type = lens ? VIRTQ_DESC_F_WRITE : 0;

    /* The first one last: up to that, the driver sees nothing. */
    for (size_t k = n; k > 0; k--) {
        size_t i = k - 1;
        const struct buffer *b = &bufs[i];
        struct packed_desc *desc = &ring->pdesc[b->slot];
        uint16_t flags = type | (b->wrap ? (VIRTQ_DESC_F_AVAIL
                                            | VIRTQ_DESC_F_USED) : 0);

        desc->id = virtio_cpu_to_le16(b->id);
        desc->len = virtio_cpu_to_le32(lens ? lens[i] : 0);
        if (i) {
            desc->flags = virtio_cpu_to_le16(flags);
        } else {
            virtio_store_release_le16(&desc->flags, flags);
        }
    }
    if (n) {
        const struct buffer *last = &bufs[n - 1];

        ring->next = last->slot + last->n_slots;
        ring->wrap = last->wrap;
        if (ring->next >= ring->size) {
            ring->next -= ring->size;
            ring->wrap = !ring->wrap;
        }
    }
    for (size_t i = 0; i < MAX_BURST; i += 4) {
        OVS_PREFETCH(&ring->pdesc[wrapped(ring, ring->next + i)]);
    }
}

/* Both formats. */

static ALWAYS_INLINE inline size_t
take(struct ring *ring, struct buffer bufs[], size_t max)
{
    return (ring->packed ? take_packed(ring, bufs, max)
            : take_split(ring, bufs, max));
}

static ALWAYS_INLINE inline void
use(struct ring *ring, const struct buffer bufs[], const uint32_t lens[],
    size_t n)
{
    if (ring->packed) {
        use_packed(ring, bufs, lens, n);
    } else {
        use_split(ring, bufs, lens, n);
    }
}

/* Copies 'len' bytes, or some more if they are few. */
static ALWAYS_INLINE inline void
copy(uint8_t *dst, const uint8_t *src, uint32_t len)
{
    if (len <= 128) {
        for (uint32_t i = 0; i < len; i += 16) {
            memcpy(dst + i, src + i, 16);
        }
    } else {
        memcpy(dst, src, len);
    }
}

static size_t
limit_move(const struct vhost_path *path, size_t burst,
           struct vhost_counters *counters, void **aux)
{
    struct buffer in[MAX_BURST], out[MAX_BURST];
    uint32_t lens[MAX_BURST];
    struct bare *bare = *aux;
    uint64_t n_bytes = 0;
    size_t n, n_out;

    if (OVS_UNLIKELY(!bare)) {
        bare = *aux = xzalloc(sizeof *bare);
    }
    if (!ring_update(&bare->src, path->src_dev, path->src)
        || !ring_update(&bare->dst, path->dst_dev, path->dst)) {
        return 0;
    }

    n = take(&bare->src, in, burst);
    if (!n) {
        return 0;
    }
    n_out = take(&bare->dst, out, n);
    for (size_t i = 0; i < n_out; i++) {
        struct virtio_net_hdr hdr = { .num_buffers = virtio_cpu_to_le16(1) };
        uint32_t len = MIN(in[i].len, out[i].len);
        uint32_t more = MIN(in[i].more_len, out[i].len - len);

        memcpy(out[i].va - sizeof hdr, &hdr, sizeof hdr);
        copy(out[i].va, in[i].va, len);
        if (OVS_UNLIKELY(more)) {
            copy(out[i].va + len, in[i].more, more);
            len += more;
        }
        lens[i] = sizeof hdr + len;
        n_bytes += len;
    }
    use(&bare->dst, out, lens, n_out);
    use(&bare->src, in, NULL, n);

    vhost_count(&counters->packets, n_out);
    vhost_count(&counters->bytes, n_bytes);
    vhost_count(&counters->bursts, 1);
    vhost_count(&counters->drops, n - n_out);
    return n;
}

int
main(int argc, char *argv[])
{
    struct vhost_loop_config config = { .move = limit_move };

    set_program_name(argv[0]);
    vlog_set_levels(NULL, VLF_ANY_DESTINATION, VLL_WARN);
    vlog_set_levels(NULL, VLF_SYSLOG, VLL_OFF);
    vhost_loop_parse_options(argc, argv, "limit",
                             "what a back-end costs that does nothing but "
                             "copy", &config);
    return vhost_loop_run(&config) ? EXIT_FAILURE : EXIT_SUCCESS;
}
