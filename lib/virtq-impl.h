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

#ifndef VIRTQ_IMPL_H
#define VIRTQ_IMPL_H 1

/* What the two formats of a virtqueue have in common
 * ==================================================
 *
 * For virtq.c and virtq-<format>.c only.
 *
 * A format has its own way to find and read descriptors; everything that
 * happens to a descriptor once it has been read is here: the walk along a
 * chain collects its buffers as segments in our address space. */

#include <string.h>

#include "compiler.h"
#include "openvswitch/util.h"
#include "util.h"
#include "vhu-log.h"
#include "vhu-mem.h"
#include "virtio-barrier.h"
#include "virtio-spec.h"
#include "virtq.h"

/* Most bytes that a device can have a use for in one chain: the largest packet
 * and its header, with some reserve for future headers. */
#define VIRTQ_MAX_CHAIN_BYTES (65536 + 64)

/* Descriptors after which a burst ends early, so that a driver with absurd
 * chains takes the time of one of them and not of a whole burst of them. */
#define VIRTQ_MAX_BURST_DESCS 4096

/* The three areas of a virtqueue in our address space. */
struct virtq_areas {
    void *desc, *driver, *device;
};

/* Where the parts of a split virtqueue are in our address space. */
struct virtq_split_ring {
    const struct virtq_desc *desc;
    const struct virtq_avail *avail;
    const virtio_le16 *used_event;
    struct virtq_used *used;
    virtio_le16 *avail_event;
};

/* The same of a packed one. */
struct virtq_packed_ring {
    struct pvirtq_desc *desc;
    const struct pvirtq_event_suppress *driver_event;
    struct pvirtq_event_suppress *device_event;
    virtio_le64 *record;        /* See virtq-packed.h.  Never null. */
};

struct virtq {
    /* Under the lock of the vring, but for the loads of virtq_has_avail().
     * Written in every burst, hence on cache lines of their own. */
    PADDED_MEMBERS(CACHE_LINE_SIZE,
        struct virtq_poll poll;
        struct virtq_pos next_avail; /* Next available buffer to take. */
        struct virtq_pos next_used;  /* Next place to write a used one. */
        struct virtq_pos published;  /* 'next_used' as the driver sees it. */
        uint16_t driver_idx;    /* Split: available index, as last read. */
        uint16_t n_taken;       /* Chains in the last burst. */
        uint16_t signalled;     /* Split: 'published.idx' at the last decision
                                 * whether to notify. */
        uint16_t published_descs; /* Packed: descriptors of the chain before
                                   * 'published', 0 if not known. */
        uint16_t next_used_descs; /* The same of 'next_used'. */
        uint64_t first_used;    /* Packed: what makes the descriptor at
                                 * 'published' used, but for its address. */
        uint32_t n_unpublished; /* Packed: slots from 'published' on that are
                                 * used. */
        uint32_t n_unsignalled; /* Packed: slots published since the last
                                 * decision whether to notify. */
        uint16_t event_base;    /* 'next_avail.idx' when the kick suppression
                                 * was last renewed. */
        bool usable;            /* Not broken, memory not dead. */
        bool force_call;        /* Notify regardless of the event index. */
        bool kicks_enabled;
        bool from_record;       /* Packed: started where the record says. */
        int call_fd;            /* -1 for none. */
        virtio_le64 own_record; /* Packed: if there is no other. */

        /* The memory region that was hit last.  Constant apart from that, so
         * a copy is as good as the original and nearer. */
        uint64_t region_gpa;
        uint64_t region_size;
        uint8_t *region_va;

        enum virtq_error error;
        uint64_t error_value;
        uint64_t error_limit;
    );

    /* Constant. */
    PADDED_MEMBERS(CACHE_LINE_SIZE,
        enum virtq_format format;
        enum virtq_access access;
        uint32_t size;          /* Descriptors. */
        uint64_t features;      /* Negotiated. */
        bool event_idx;         /* VIRTIO_F_EVENT_IDX. */
        bool indirect;          /* VIRTIO_F_INDIRECT_DESC. */
        bool notify_on_empty;   /* VIRTIO_F_NOTIFY_ON_EMPTY. */
        bool logged;            /* There is a log.  Here, with what each burst
                                 * needs. */
        union {
            struct virtq_split_ring split;
            struct virtq_packed_ring packed;
        };
        const struct vhu_mem *mem;
        struct virtq_counters *counters;
        struct virtq_seg *segs; /* Space for the segments of a burst. */
        size_t max_segs;
        void *table;            /* Copy of an indirect table. */

        /* But for virtq_set_log(). */
        struct virtq_log log;
        uint64_t desc_gpa;      /* Packed: where the descriptor ring */
        uint64_t event_gpa;     /* and the device area are logged. */
    );
};

/* virtq.c. */
void virtq_break(struct virtq *, enum virtq_error, uint64_t value,
                 uint64_t limit);
int virtq_map_areas(const struct virtq_config *, struct virtq_areas *,
                    char **error);
uint8_t *virtq_translate_slow(struct virtq *, uint64_t gpa, uint64_t len);
bool virtq_copy_table(struct virtq *, uint64_t gpa, uint32_t n);

/* virtq-log.c. */
void virtq_log_add_used(struct virtq *, const struct virtq_chain[],
                        const uint32_t lens[], size_t n);
void virtq_log_publish_used(struct virtq *);
void virtq_log_enable_kicks(struct virtq *);
void virtq_log_desc(const struct virtq *, uint16_t idx);

/* The format is looked at once for each function of virtq.h, which means once
 * for a burst. */
static ALWAYS_INLINE inline bool
virtq_is_packed(const struct virtq *vq)
{
    return vq->format == VIRTQ_PACKED;
}

/* Adds 'n' to '*counter', which other threads may be reading. */
static inline void
virtq_count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* What virtq_has_avail() looks at if the answer is known. */
extern const virtio_le16 virtq_zero;

/* Makes virtq_has_avail() look at '*where', see struct virtq_poll.  Threads
 * that do not have the lock may see a mixture of old and new, which is no
 * worse than a look a moment earlier or later.  A virtqueue that is unusable
 * stays empty. */
static inline void
virtq_set_poll(struct virtq *vq, const virtio_le16 *where, uint16_t mask,
               uint16_t value, bool equal)
{
    if (OVS_UNLIKELY(!vq->usable)) {
        return;
    }
    __atomic_store_n(&vq->poll.where, where, __ATOMIC_RELAXED);
    __atomic_store_n(&vq->poll.mask, mask, __ATOMIC_RELAXED);
    __atomic_store_n(&vq->poll.value, value, __ATOMIC_RELAXED);
    __atomic_store_n(&vq->poll.equal, equal, __ATOMIC_RELAXED);
}

/* Makes 'vq' look empty for ever. */
static inline void
virtq_set_unusable(struct virtq *vq)
{
    virtq_set_poll(vq, &virtq_zero, 0, 0, false);
    __atomic_store_n(&vq->usable, false, __ATOMIC_RELAXED);
}

/* Returns false if 'vq' must not be touched: it is broken or its memory has
 * vanished.  Once a burst. */
static inline bool
virtq_check_usable(struct virtq *vq)
{
    if (OVS_UNLIKELY(vq->usable && vhu_mem_is_dead(vq->mem))) {
        virtq_set_unusable(vq);
    }
    return vq->usable;
}

/* Returns our address of the 'len' bytes at guest address 'gpa', or NULL if
 * they are not all inside one region. */
static ALWAYS_INLINE inline uint8_t *
virtq_translate(struct virtq *vq, uint64_t gpa, uint64_t len)
{
    uint64_t ofs = gpa - vq->region_gpa;

    if (OVS_LIKELY(ofs < vq->region_size && len <= vq->region_size - ofs)) {
        return vq->region_va + ofs;
    }
    return virtq_translate_slow(vq, gpa, len);
}

/* A descriptor, read once, in our byte order. */
struct virtq_desc_copy {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    union {
        uint16_t next;          /* Split. */
        uint16_t id;            /* Packed. */
    };
};

/* A chain that is being walked.
 *
 * A chain that turns out unusable is walked to its end all the same: only
 * there is its length known, and a loop is a loop whatever else is wrong. */
struct virtq_walk {
    struct virtq_seg *segs;     /* What has been collected, */
    size_t n_segs;              /* how much of it, */
    size_t max_segs;            /* and how much there is space for. */
    uint32_t bytes;             /* In all the segments. */
    uint32_t n_descs;           /* So far. */
    bool unusable;
    bool full;                  /* Unusable for lack of space. */
};

bool virtq_walk_add_parts(struct virtq *, struct virtq_walk *, uint64_t gpa,
                          uint32_t len);

/* Adds the buffer of 'desc' to 'walk'.  Returns false, with 'vq' broken, if it
 * is outside memory.
 *
 * A buffer of length 0 is none: its address does not matter. */
static ALWAYS_INLINE inline bool
virtq_walk_add(struct virtq *vq, struct virtq_walk *walk,
               const struct virtq_desc_copy *desc)
{
    bool device_writes = desc->flags & VIRTQ_DESC_F_WRITE;
    uint32_t space = VIRTQ_MAX_CHAIN_BYTES - walk->bytes;
    uint32_t len = desc->len;
    uint8_t *va;

    if (OVS_UNLIKELY(!len || walk->unusable)) {
        return true;
    }
    if (OVS_UNLIKELY(device_writes != (vq->access == VIRTQ_DEVICE_WRITES))) {
        walk->unusable = true;
        return true;
    }
    if (OVS_UNLIKELY(len > space)) {
        /* What is too long to be a packet is no packet.  But a buffer for
         * packets may be of any size; we need only so much of it. */
        if (!device_writes) {
            walk->unusable = true;
            return true;
        }
        len = space;
        if (!len) {
            return true;
        }
    }

    va = virtq_translate(vq, desc->addr, len);
    if (OVS_UNLIKELY(!va || walk->n_segs >= walk->max_segs)) {
        return virtq_walk_add_parts(vq, walk, desc->addr, len);
    }
    walk->segs[walk->n_segs].va = va;
    walk->segs[walk->n_segs].len = len;
    walk->n_segs++;
    walk->bytes += len;
    return true;
}

/* Makes 'walk' at its end into '*chain' number 'id'. */
static ALWAYS_INLINE inline void
virtq_walk_finish(struct virtq *vq, const struct virtq_walk *walk,
                  uint16_t id, struct virtq_chain *chain)
{
    chain->segs = walk->segs;
    chain->id = id;
    chain->n_descs = walk->n_descs;
    if (OVS_LIKELY(!walk->unusable && walk->n_segs)) {
        chain->n_segs = walk->n_segs;
        chain->size = walk->bytes;
    } else {
        chain->n_segs = 0;
        chain->size = 0;
        virtq_count(&vq->counters->bad_chains, 1);
    }
}

/* What has been taken of a burst so far. */
struct virtq_burst {
    size_t n;                   /* Chains. */
    size_t n_segs;              /* Of the segments of the virtqueue. */
    uint32_t n_descs;           /* Descriptors, also those in tables. */
};

/* Makes '*chain', but for its ID, of 'desc', if that is all of the chain, is
 * what 'access' demands, and is in the region that was hit last, and adds it
 * to 'burst'.  Otherwise returns false.
 *
 * This is what nearly all chains are like. */
static ALWAYS_INLINE inline bool
virtq_take_simple(const struct virtq *vq, const struct virtq_desc_copy *desc,
                  enum virtq_access access, struct virtq_burst *burst,
                  struct virtq_chain *chain)
{
    uint16_t direction = (access == VIRTQ_DEVICE_WRITES
                          ? VIRTQ_DESC_F_WRITE : 0);
    uint64_t ofs = desc->addr - vq->region_gpa;
    struct virtq_seg *seg = &vq->segs[burst->n_segs];

    if (OVS_UNLIKELY((desc->flags & (VIRTQ_DESC_F_NEXT
                                     | VIRTQ_DESC_F_INDIRECT
                                     | VIRTQ_DESC_F_WRITE)) != direction
                     || desc->len - 1 >= VIRTQ_MAX_CHAIN_BYTES
                     || ofs >= vq->region_size
                     || desc->len > vq->region_size - ofs
                     || burst->n_segs >= vq->max_segs)) {
        return false;
    }
    seg->va = vq->region_va + ofs;
    seg->len = desc->len;
    chain->segs = seg;
    chain->size = desc->len;
    chain->n_segs = 1;
    chain->n_descs = 1;
    burst->n_segs++;
    burst->n_descs++;
    return true;
}

/* Starts loading what the user of 'chain' will touch first.  Where we read,
 * that is the beginning of the packet behind the header, which nobody reads;
 * where we write, it is both.  The header may be in a buffer of its own. */
static ALWAYS_INLINE inline void
virtq_prefetch_chain(const struct virtq_chain *chain, enum virtq_access access)
{
    const struct virtq_seg *segs = chain->segs;

    if (OVS_UNLIKELY(!chain->n_segs)) {
        return;
    }
    if (access == VIRTQ_DEVICE_READS) {
        if (OVS_LIKELY(segs[0].len > VIRTIO_NET_HDR_LEN)) {
            OVS_PREFETCH(segs[0].va + VIRTIO_NET_HDR_LEN);
        } else if (chain->n_segs > 1) {
            OVS_PREFETCH(segs[1].va);
        }
    } else {
        virtq_prefetch_write(segs[0].va);
        if (OVS_LIKELY(segs[0].len > 64)) {
            virtq_prefetch_write(segs[0].va + 64);
        } else if (chain->n_segs > 1) {
            virtq_prefetch_write(segs[1].va);
        }
    }
}

/* Starts loading what the user of a chain whose first buffer is at guest
 * address 'gpa' will touch first, a burst ahead of virtq_prefetch_chain().
 * This is but a hint: 'gpa' has not been checked and may change. */
static ALWAYS_INLINE inline void
virtq_prefetch_desc(const struct virtq *vq, uint64_t gpa)
{
    uint64_t ofs = gpa - vq->region_gpa;

    if (OVS_UNLIKELY(ofs >= vq->region_size)) {
        return;
    }
    if (vq->access == VIRTQ_DEVICE_READS) {
        OVS_PREFETCH(vq->region_va + ofs + VIRTIO_NET_HDR_LEN);
    } else {
        virtq_prefetch_write(vq->region_va + ofs);
    }
}

/* Returns true if the other side, which asked to be notified at 'event', must
 * be when an index moves from 'old' to 'new'.
 *
 * virtio, "Used Buffer Notification Suppression", and its mirror image. */
static inline bool
virtq_need_event(uint16_t event, uint16_t new, uint16_t old)
{
    return (uint16_t) (new - event - 1) < (uint16_t) (new - old);
}

#endif /* virtq-impl.h */
