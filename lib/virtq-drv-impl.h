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

#ifndef VIRTQ_DRV_IMPL_H
#define VIRTQ_DRV_IMPL_H 1

/* What the two formats of a virtqueue have in common, driver side
 * ===============================================================
 *
 * For virtq-drv.c and virtq-drv-<format>.c only.
 *
 *
 * Buffers
 * -------
 *
 * There are as many buffers as descriptors, and a chain is known by the number
 * of its first buffer, its head: that is the index of its first descriptor in
 * a split ring and its buffer ID in a packed one.  Nothing else needs to be
 * allocated: buffer 'i' of a direct chain in a split ring is in descriptor
 * 'i', a chain of a packed ring takes no more slots than it has buffers, and
 * each head has an indirect table of its own.
 *
 * A buffer is either idle, in a queue from which the next one is taken, or
 * belongs to a chain, in the one place 'shadows'.  With VIRTIO_F_IN_ORDER the
 * queue keeps the order of the ring, so that buffers are taken from it
 * round-robin, as the specification demands of the descriptors of a split
 * ring; and the chain that follows another is just behind it.  As an indirect
 * chain leaves out descriptors, there are none then. */

#include "vhu-shm.h"
#include "virtq-drv.h"
#include "virtq-impl.h"

/* A chain of buffers that the device has, or is about to get, at its head. */
struct virtq_drv_shadow {
    uint64_t seq;               /* Number in the order of all chains. */
    uint32_t size;              /* Bytes in its buffers. */
    uint16_t n_bufs;            /* 0: no chain here. */
    uint16_t next;              /* At each buffer: the next one. */
};
BUILD_ASSERT_DECL(sizeof(struct virtq_drv_shadow) == 16);

/* A chain that has been used, and is not the device's any more. */
struct virtq_drv_used {
    uint32_t len;               /* What the device says, unchecked. */
    uint16_t head;
};

/* Where the parts of a virtqueue are in our address space. */
struct virtq_drv_split_ring {
    struct virtq_desc *desc;
    struct virtq_avail *avail;
    virtio_le16 *used_event;
    const struct virtq_used *used;
    const virtio_le16 *avail_event;
};

struct virtq_drv_packed_ring {
    struct pvirtq_desc *desc;
    struct pvirtq_event_suppress *driver_event;
    const struct pvirtq_event_suppress *device_event;
};

/* Offsets of the parts from the beginning of a virtqueue, in bytes. */
struct virtq_drv_layout {
    uint64_t desc, driver, device, tables, bufs, end;
    uint32_t stride;            /* From one buffer to the next. */
    uint32_t table_len;         /* Descriptors in each table, 0 if none. */
};

struct virtq_drv {
    /* Constant. */
    PADDED_MEMBERS(CACHE_LINE_SIZE,
        enum virtq_format format;
        enum virtq_access access;
        uint32_t size;          /* Descriptors. */
        uint32_t buf_size;
        uint32_t stride;        /* From one buffer to the next. */
        uint32_t hdr_len;
        uint32_t max_packet;    /* Bytes. */
        uint32_t table_len;     /* Descriptors of an indirect table, 0 if there
                                 * are none. */
        bool event_idx;         /* VIRTIO_F_EVENT_IDX. */
        bool in_order;          /* VIRTIO_F_IN_ORDER. */
        bool mergeable;         /* VIRTIO_NET_F_MRG_RXBUF. */
        union {
            struct virtq_drv_split_ring split;
            struct virtq_drv_packed_ring packed;
        };
        uint8_t *bufs;          /* Our address of the first buffer, */
        uint64_t bufs_gpa;      /* and its guest address. */
        uint8_t *tables;        /* The same of the indirect tables. */
        uint64_t tables_gpa;
        struct virtq_drv_shadow *shadows; /* One a buffer. */
        uint16_t *idle;         /* Ring of 'size' buffers. */
        struct virtq_seg *segs; /* Segments of a burst, 'size' of them. */
        struct virtq_drv_counters *counters;
        struct vhu_shm *shm;
        uint64_t ofs;           /* In 'shm'. */
        uint64_t features;      /* Negotiated. */
        struct virtq_drv_layout layout;
    );

    /* Under the lock of the vring, but for the loads of
     * virtq_drv_has_used(). */
    PADDED_MEMBERS(CACHE_LINE_SIZE,
        struct virtq_pos next_used;  /* Next place to see a used buffer. */
        struct virtq_pos next_avail; /* Next place to make one available. */
        struct virtq_pos published;  /* 'next_avail' as the device sees it. */
        uint16_t device_idx;    /* Split: used index, as last read. */
        uint16_t kicked;        /* Split: 'published.idx' at the last decision
                                 * whether to notify. */
        uint16_t first_flags;   /* Packed: of the descriptor at 'published'. */
        uint16_t event_base;    /* Split: 'next_used.idx' when the suppression
                                 * of calls was last renewed. */
        uint32_t n_unpublished; /* Packed: slots from 'published' on that are
                                 * filled. */
        uint32_t n_unkicked;    /* Packed: slots published since the last
                                 * decision whether to notify. */
        uint32_t idle_first;    /* In 'idle'. */
        uint32_t n_idle;
        uint32_t n_chains;      /* In 'shadows'. */
        uint64_t next_seq;      /* Of the next chain. */
        uint64_t published_seq; /* Chains from here on are not published. */
        uint32_t n_segs;        /* In use in 'segs'. */
        bool usable;            /* Not broken. */
        bool force_kick;        /* Notify whatever the device wants. */
        bool calls_enabled;
        int kick_fd;            /* -1 for none. */

        /* In order: what is left of the batch that begins at 'next_used'. */
        uint16_t next_head;     /* The oldest chain. */
        uint32_t batch_left;    /* Chains. */
        uint32_t batch_len;     /* Used length of the last of them. */
        uint32_t batch_step;    /* To add to 'next_used' at the end. */

        enum virtq_drv_error error;
        uint64_t error_value;
        uint64_t error_limit;
    );
};

/* The format is looked at once for each function of virtq-drv.h, which means
 * once for a burst. */
static ALWAYS_INLINE inline bool
virtq_drv_is_packed(const struct virtq_drv *vq)
{
    return vq->format == VIRTQ_PACKED;
}

/* virtq-drv.c. */
void virtq_drv_break(struct virtq_drv *, enum virtq_drv_error, uint64_t value,
                     uint64_t limit);
uint32_t virtq_drv_find_in_order(const struct virtq_drv *, uint16_t head,
                                 uint32_t id, uint32_t *n_slots);

/* Returns false if 'vq' must not be touched: it is broken or its memory has
 * vanished.  Once a burst. */
static inline bool
virtq_drv_check_usable(struct virtq_drv *vq)
{
    if (OVS_UNLIKELY(vq->usable && vhu_shm_is_dead(vq->shm))) {
        virtq_drv_break(vq, VIRTQ_DRV_ERROR_MEMORY, 0, 0);
    }
    return vq->usable;
}

static ALWAYS_INLINE inline uint8_t *
virtq_drv_buf_va(const struct virtq_drv *vq, uint16_t buf)
{
    return vq->bufs + (size_t) buf * vq->stride;
}

static ALWAYS_INLINE inline uint64_t
virtq_drv_buf_gpa(const struct virtq_drv *vq, uint16_t buf)
{
    return vq->bufs_gpa + (uint64_t) buf * vq->stride;
}

/* Returns the slots of a packed ring that the chain 's' takes. */
static ALWAYS_INLINE inline uint32_t
virtq_drv_n_slots(const struct virtq_drv *vq, const struct virtq_drv_shadow *s)
{
    return vq->table_len ? 1 : s->n_bufs;
}

/* Returns the descriptor flag for the direction of the buffers of 'vq'. */
static ALWAYS_INLINE inline uint16_t
virtq_drv_write_flag(const struct virtq_drv *vq)
{
    return vq->access == VIRTQ_DEVICE_WRITES ? VIRTQ_DESC_F_WRITE : 0;
}

/* Moves 'vq' on to see the next used buffer at 'pos'.  virtq_drv_has_used()
 * reads it without a lock; it may see half of it, which is as good as a little
 * earlier or later. */
static ALWAYS_INLINE inline void
virtq_drv_set_next_used(struct virtq_drv *vq, struct virtq_pos pos)
{
    __atomic_store_n(&vq->next_used.idx, pos.idx, __ATOMIC_RELAXED);
    __atomic_store_n(&vq->next_used.wrap, pos.wrap, __ATOMIC_RELAXED);
}

static ALWAYS_INLINE inline void
virtq_drv_put_idle(struct virtq_drv *vq, uint16_t buf)
{
    uint32_t i = vq->idle_first + vq->n_idle++;

    vq->idle[i >= vq->size ? i - vq->size : i] = buf;
}

static ALWAYS_INLINE inline uint16_t
virtq_drv_get_idle(struct virtq_drv *vq)
{
    uint16_t buf = vq->idle[vq->idle_first++];

    if (vq->idle_first >= vq->size) {
        vq->idle_first = 0;
    }
    vq->n_idle--;
    return buf;
}

/* Returns the chain at 'head' if the device has it, else NULL with 'vq'
 * broken.  'head' is what the device says. */
static ALWAYS_INLINE inline struct virtq_drv_shadow *
virtq_drv_find_chain(struct virtq_drv *vq, uint32_t head)
{
    struct virtq_drv_shadow *s;

    if (OVS_UNLIKELY(head >= vq->size)) {
        virtq_drv_break(vq, VIRTQ_DRV_ERROR_ID_RANGE, head, vq->size);
        return NULL;
    }
    s = &vq->shadows[head];
    if (OVS_UNLIKELY(!s->n_bufs || s->seq >= vq->published_seq)) {
        virtq_drv_break(vq, VIRTQ_DRV_ERROR_ID_UNKNOWN, head, vq->size);
        return NULL;
    }
    return s;
}

/* Takes the chain 's' with its head 'head' from the device: its buffers are
 * idle. */
static ALWAYS_INLINE inline void
virtq_drv_retire(struct virtq_drv *vq, struct virtq_drv_shadow *s,
                 uint16_t head)
{
    uint32_t n = s->n_bufs;

    s->n_bufs = 0;
    vq->n_chains--;
    virtq_drv_put_idle(vq, head);
    while (OVS_UNLIKELY(--n)) {
        head = vq->shadows[head].next;
        virtq_drv_put_idle(vq, head);
    }
}

/* Returns the chain that follows 'head' in order.  VIRTIO_F_IN_ORDER only. */
static ALWAYS_INLINE inline uint16_t
virtq_drv_next_head(const struct virtq_drv *vq, uint16_t head)
{
    uint32_t next = head + vq->shadows[head].n_bufs;

    return next >= vq->size ? next - vq->size : next;
}

/* Makes 'packet' one without segments, which follow. */
static ALWAYS_INLINE inline void
virtq_drv_start_packet(const struct virtq_drv *vq, struct virtq_chain *packet)
{
    packet->segs = &vq->segs[vq->n_segs];
    packet->size = 0;
    packet->n_segs = 0;
    packet->id = 0;
    packet->n_descs = 0;
}

/* Adds 'len' bytes in the buffer 'buf' to 'packet'.  There are as many
 * segments as buffers, and no buffer is in two packets at the same time. */
static ALWAYS_INLINE inline void
virtq_drv_add_seg(struct virtq_drv *vq, struct virtq_chain *packet,
                  uint16_t buf, uint32_t len)
{
    struct virtq_seg *seg = &vq->segs[vq->n_segs++];

    seg->va = virtq_drv_buf_va(vq, buf);
    seg->len = len;
    packet->n_segs++;
    packet->size += len;
}

/* Makes 'n_bufs' idle buffers a chain for 'packet', of 'size' bytes.  Returns
 * its head. */
static ALWAYS_INLINE inline uint16_t
virtq_drv_make_chain(struct virtq_drv *vq, struct virtq_chain *packet,
                     uint32_t size, uint32_t n_bufs)
{
    uint16_t head = virtq_drv_get_idle(vq);
    struct virtq_drv_shadow *s = &vq->shadows[head];
    uint16_t buf = head;

    s->size = size;
    s->seq = vq->next_seq++;
    s->n_bufs = n_bufs;
    vq->n_chains++;

    virtq_drv_start_packet(vq, packet);
    virtq_drv_add_seg(vq, packet, head, MIN(size, vq->buf_size));
    OVS_PREFETCH_WRITE(packet->segs[0].va);
    while (OVS_UNLIKELY(--n_bufs)) {
        uint16_t next = virtq_drv_get_idle(vq);

        vq->shadows[buf].next = next;
        buf = next;
        virtq_drv_add_seg(vq, packet, buf,
                          MIN(size - packet->size, vq->buf_size));
    }
    return head;
}

/* The body of virtq_drv_reserve(), for a format that makes the chain at a head
 * available with 'add_chain'. */
static ALWAYS_INLINE inline size_t
virtq_drv_reserve__(struct virtq_drv *vq, const uint32_t sizes[],
                    struct virtq_chain packets[], size_t n,
                    void (*add_chain)(struct virtq_drv *, uint16_t head))
{
    bool reclaimed = false;
    size_t i;

    for (i = 0; i < n; i++) {
        uint32_t n_bufs = (OVS_LIKELY(sizes[i] <= vq->buf_size)
                           ? 1 : DIV_ROUND_UP(sizes[i], vq->buf_size));

        if (OVS_UNLIKELY(!sizes[i] || sizes[i] > vq->max_packet)) {
            break;
        }
        if (OVS_UNLIKELY(vq->n_idle < n_bufs && !reclaimed)) {
            virtq_drv_reclaim(vq);
            reclaimed = true;
        }
        if (OVS_UNLIKELY(vq->n_idle < n_bufs || !vq->usable)) {
            break;
        }
        add_chain(vq, virtq_drv_make_chain(vq, &packets[i], sizes[i],
                                           n_bufs));
    }
    return i;
}

#endif /* virtq-drv-impl.h */
