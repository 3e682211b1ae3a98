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

/* The life cycle of a virtqueue, driver side: all that happens while no device
 * uses its ring. */

#include <config.h>

#include "virtq-drv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "openvswitch/util.h"
#include "util.h"
#include "virtq-drv-impl.h"
#include "virtq-drv-packed.h"
#include "virtq-drv-split.h"

/* Alignment of the parts of a virtqueue: two cache lines, since some machines
 * fetch them in pairs. */
#define PART_ALIGN (2 * CACHE_LINE_SIZE)

static void make_fresh(struct virtq_drv *);

/* Returns the size of the largest packet of a virtqueue with 'config'. */
static uint32_t
max_packet(const struct virtq_drv_config *config)
{
    bool one_buf = (config->access == VIRTQ_DEVICE_WRITES
                    && !(config->features
                         & VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF)));
    uint64_t n = one_buf ? 1 : config->size;

    return MIN(n * config->buf_size, VIRTQ_DRV_MAX_BUF_SIZE);
}

/* Returns 'ofs' rounded up, as the offset of the next part. */
static uint64_t
next_part(uint64_t ofs)
{
    return ROUND_UP(ofs, PART_ALIGN);
}

/* Decides where the parts of a virtqueue with 'config' go. */
static void
get_layout(const struct virtq_drv_config *config,
           struct virtq_drv_layout *layout)
{
    bool packed = config->format == VIRTQ_PACKED;
    uint64_t n = config->size;
    uint64_t driver_size = (packed
                            ? sizeof(struct pvirtq_event_suppress)
                            : sizeof(struct virtq_avail)
                              + (n + 1) * sizeof(virtio_le16));
    uint64_t device_size = (packed
                            ? sizeof(struct pvirtq_event_suppress)
                            : sizeof(struct virtq_used)
                              + n * sizeof(struct virtq_used_elem)
                              + sizeof(virtio_le16));

    /* A descriptor that refers to a table saves nothing if all packets fit
     * into one buffer.  For VIRTIO_F_IN_ORDER see virtq-drv-impl.h. */
    bool indirect = (config->access == VIRTQ_DEVICE_READS
                     && config->features & VIRTIO_BIT(VIRTIO_F_INDIRECT_DESC)
                     && !(config->features & VIRTIO_BIT(VIRTIO_F_IN_ORDER))
                     && max_packet(config) > config->buf_size);

    layout->table_len = (indirect
                         ? DIV_ROUND_UP(max_packet(config), config->buf_size)
                         : 0);

    /* An odd number of cache lines, so that the headers of all packets do not
     * share a few sets of the cache. */
    layout->stride = ROUND_UP(config->buf_size, CACHE_LINE_SIZE);
    if (!(layout->stride / CACHE_LINE_SIZE % 2)) {
        layout->stride += CACHE_LINE_SIZE;
    }

    layout->desc = 0;
    layout->driver = next_part(n * sizeof(struct virtq_desc));
    layout->device = next_part(layout->driver + driver_size);
    layout->tables = next_part(layout->device + device_size);
    layout->bufs = next_part(layout->tables + (n * layout->table_len
                                               * sizeof(struct virtq_desc)));
    layout->end = ROUND_UP(layout->bufs + n * layout->stride,
                           VIRTQ_DRV_ALIGN);
}

uint64_t
virtq_drv_shm_size(const struct virtq_drv_config *config)
{
    struct virtq_drv_layout layout;

    get_layout(config, &layout);
    return layout.end;
}

/* Returns a phrase if 'config' makes no sense, else NULL. */
static char *
check_config(const struct virtq_drv_config *config)
{
    uint64_t size;

    if (!config->size || config->size > VIRTQ_MAX_SIZE) {
        return xasprintf("size %"PRIu32" is not in the range 1 to %d",
                         config->size, VIRTQ_MAX_SIZE);
    }
    if (config->format == VIRTQ_SPLIT && !is_pow2(config->size)) {
        return xasprintf("size %"PRIu32" is not a power of 2", config->size);
    }
    if (config->buf_size < VIRTQ_DRV_MIN_BUF_SIZE
        || config->buf_size > VIRTQ_DRV_MAX_BUF_SIZE) {
        return xasprintf("buffer size %"PRIu32" is not in the range %d to %d",
                         config->buf_size, VIRTQ_DRV_MIN_BUF_SIZE,
                         VIRTQ_DRV_MAX_BUF_SIZE);
    }

    if (config->ofs % VIRTQ_DRV_ALIGN) {
        return xasprintf("offset %"PRIu64" is not aligned to %d", config->ofs,
                         VIRTQ_DRV_ALIGN);
    }
    size = virtq_drv_shm_size(config);
    if (config->ofs > config->shm->size
        || size > config->shm->size - config->ofs) {
        return xasprintf("no space for %"PRIu64" bytes at offset %"PRIu64" in "
                         "%"PRIu64" bytes of shared memory", size, config->ofs,
                         config->shm->size);
    }
    return NULL;
}

int
virtq_drv_create(const struct virtq_drv_config *config,
                 struct virtq_drv **vqp, char **error)
{
    struct virtq_drv *vq;

    *vqp = NULL;
    *error = check_config(config);
    if (*error) {
        return EINVAL;
    }

    vq = xzalloc_cacheline(sizeof *vq);
    vq->format = config->format;
    vq->access = config->access;
    vq->size = config->size;
    vq->buf_size = config->buf_size;
    vq->features = config->features;
    vq->mergeable = config->features & VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF);
    vq->hdr_len = (vq->mergeable
                   || config->features & VIRTIO_BIT(VIRTIO_F_VERSION_1)
                   ? VIRTIO_NET_HDR_LEN
                   : VIRTIO_NET_HDR_LEN_LEGACY);
    vq->event_idx = config->features & VIRTIO_BIT(VIRTIO_F_EVENT_IDX);
    vq->in_order = config->features & VIRTIO_BIT(VIRTIO_F_IN_ORDER);
    vq->max_packet = max_packet(config);
    vq->shm = config->shm;
    vq->ofs = config->ofs;
    vq->counters = config->counters;
    vq->kick_fd = config->kick_fd;

    get_layout(config, &vq->layout);
    vq->stride = vq->layout.stride;
    vq->table_len = vq->layout.table_len;
    vq->bufs = vq->shm->va + vq->ofs + vq->layout.bufs;
    vq->bufs_gpa = vq->shm->guest_addr + vq->ofs + vq->layout.bufs;
    vq->tables = vq->shm->va + vq->ofs + vq->layout.tables;
    vq->tables_gpa = vq->shm->guest_addr + vq->ofs + vq->layout.tables;

    vq->shadows = xcalloc(vq->size, sizeof *vq->shadows);
    vq->idle = xcalloc(vq->size, sizeof *vq->idle);
    vq->segs = xcalloc(vq->size, sizeof *vq->segs);
    make_fresh(vq);
    *vqp = vq;
    return 0;
}

void
virtq_drv_destroy(struct virtq_drv *vq)
{
    if (vq) {
        free(vq->shadows);
        free(vq->idle);
        free(vq->segs);
        free_cacheline(vq);
    }
}

/* Gives 'vq' a fresh ring: nothing is available, unless it is a receiveq, all
 * buffers of which are then. */
static void
make_fresh(struct virtq_drv *vq)
{
    vq->usable = true;
    vq->error = VIRTQ_DRV_ERROR_NONE;
    vq->force_kick = true;
    vq->n_unpublished = vq->n_unkicked = 0;
    vq->next_seq = vq->published_seq = 0;
    vq->n_segs = 0;
    vq->next_head = 0;
    vq->batch_left = 0;

    memset(vq->shadows, 0, vq->size * sizeof *vq->shadows);
    for (uint32_t i = 0; i < vq->size; i++) {
        vq->shadows[i].size = vq->buf_size;
        vq->idle[i] = i;
    }
    vq->n_chains = 0;
    vq->n_idle = vq->size;
    vq->idle_first = 0;

    if (!virtq_drv_check_usable(vq)) {
        return;
    }
    memset(vq->shm->va + vq->ofs, 0, vq->layout.tables);
    if (virtq_drv_is_packed(vq)) {
        virtq_drv_packed_init(vq);
    } else {
        virtq_drv_split_init(vq);
    }
    if (vq->access == VIRTQ_DEVICE_WRITES) {
        virtq_drv_refill(vq);
        virtq_drv_publish_avail(vq);
    }
}

/* A packet that has not been transmitted. */
struct pending {
    uint64_t seq;
    uint32_t size;
    uint8_t *data;
};

static int
compare_pending(const void *a_, const void *b_)
{
    const struct pending *a = a_;
    const struct pending *b = b_;

    return a->seq < b->seq ? -1 : a->seq > b->seq;
}

/* Returns a copy of the packet in the chain at 'head'. */
static uint8_t *
copy_out(const struct virtq_drv *vq, uint16_t head)
{
    uint32_t size = vq->shadows[head].size;
    uint8_t *data = xmalloc(size);

    for (uint32_t ofs = 0; ofs < size; ofs += vq->buf_size) {
        memcpy(data + ofs, virtq_drv_buf_va(vq, head),
               MIN(size - ofs, vq->buf_size));
        head = vq->shadows[head].next;
    }
    return data;
}

/* Returns the packets that have been published but not transmitted, in their
 * order, and stores their number in '*n'. */
static struct pending *
save_pending(const struct virtq_drv *vq, size_t *n)
{
    struct pending *pending = xmalloc(vq->size * sizeof *pending);

    *n = 0;
    for (uint32_t i = 0; i < vq->size; i++) {
        const struct virtq_drv_shadow *s = &vq->shadows[i];

        if (s->n_bufs && s->seq < vq->published_seq) {
            struct pending *p = &pending[(*n)++];

            p->seq = s->seq;
            p->size = s->size;
            p->data = copy_out(vq, i);
        }
    }
    qsort(pending, *n, sizeof *pending, compare_pending);
    return pending;
}

/* Makes the 'n' packets in 'pending' available in a fresh ring, and frees
 * them. */
static void
restore_pending(struct virtq_drv *vq, struct pending *pending, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct virtq_chain packet;
        uint8_t *data = pending[i].data;

        if (virtq_drv_reserve(vq, &pending[i].size, &packet, 1)) {
            for (uint16_t j = 0; j < packet.n_segs; j++) {
                memcpy(packet.segs[j].va, data, packet.segs[j].len);
                data += packet.segs[j].len;
            }
        }
        free(pending[i].data);
    }
    virtq_drv_publish_avail(vq);
    free(pending);
}

void
virtq_drv_restart(struct virtq_drv *vq)
{
    struct pending *pending;
    size_t n;

    if (vq->access == VIRTQ_DEVICE_WRITES) {
        make_fresh(vq);
        return;
    }

    /* The packets move to other buffers, because with VIRTIO_F_IN_ORDER a
     * fresh ring begins with the first buffer. */
    virtq_drv_reclaim(vq);
    pending = save_pending(vq, &n);
    make_fresh(vq);
    restore_pending(vq, pending, n);
}

bool
virtq_drv_resume(struct virtq_drv *vq)
{
    vq->force_kick = true;
    return virtq_drv_check_usable(vq);
}

void
virtq_drv_get_base(const struct virtq_drv *vq, struct virtq_pos *avail,
                   struct virtq_pos *used)
{
    *avail = (!vq->usable ? vq->next_used
              : virtq_drv_is_packed(vq) ? virtq_drv_packed_get_base(vq)
              : virtq_drv_split_get_base(vq));
    *used = *avail;
}

bool
virtq_drv_check_base(const struct virtq_drv *vq, struct virtq_pos avail,
                     struct virtq_pos used)
{
    return (virtq_drv_is_packed(vq)
            ? (virtq_drv_packed_check_base(vq, avail)
               && virtq_drv_packed_check_base(vq, used))
            : virtq_drv_split_check_base(vq, avail));
}

void
virtq_drv_get_areas(const struct virtq_drv *vq, struct virtq_drv_areas *areas)
{
    uint64_t uva = vq->shm->user_addr + vq->ofs;
    uint64_t gpa = vq->shm->guest_addr + vq->ofs;

    areas->desc_uva = uva + vq->layout.desc;
    areas->driver_uva = uva + vq->layout.driver;
    areas->device_uva = uva + vq->layout.device;
    areas->desc_gpa = gpa + vq->layout.desc;
    areas->driver_gpa = gpa + vq->layout.driver;
    areas->device_gpa = gpa + vq->layout.device;
}
