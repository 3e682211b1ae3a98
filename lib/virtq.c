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

#include "virtq.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "openvswitch/util.h"
#include "util.h"
#include "vhu-notify.h"
#include "virtq-impl.h"
#include "virtq-packed.h"
#include "virtq-split.h"

const virtio_le16 virtq_zero;

/* virtq_has_avail() relies on it. */
BUILD_ASSERT_DECL(!offsetof(struct virtq, poll));

static void virtq_notify(struct virtq *);

const char *
virtq_error_to_string(enum virtq_error error)
{
    switch (error) {
#define VIRTQ_ERROR(NAME, TEXT) case VIRTQ_ERROR_##NAME: return TEXT;
    VIRTQ_ERRORS
#undef VIRTQ_ERROR
    }
    return "unknown error";
}

int
virtq_create(const struct virtq_config *config, struct virtq **vqp,
             char **error)
{
    struct virtq *vq;
    int retval;

    *vqp = NULL;
    *error = NULL;
    if (!config->size || config->size > VIRTQ_MAX_SIZE) {
        *error = xasprintf("size %"PRIu32" is not in the range 1 to %d",
                           config->size, VIRTQ_MAX_SIZE);
        return EINVAL;
    }
    if (!virtq_check_log(config)) {
        *error = xstrdup("the dirty log is too small for it");
        return EINVAL;
    }

    vq = xzalloc_cacheline(sizeof *vq);
    vq->format = config->format;
    vq->access = config->access;
    vq->size = config->size;
    vq->features = config->features;
    vq->event_idx = config->features & VIRTIO_BIT(VIRTIO_F_EVENT_IDX);
    vq->indirect = config->features & VIRTIO_BIT(VIRTIO_F_INDIRECT_DESC);
    vq->notify_on_empty
        = config->features & VIRTIO_BIT(VIRTIO_F_NOTIFY_ON_EMPTY);
    vq->mem = config->mem;
    vq->counters = config->counters;
    vq->call_fd = config->call_fd;
    vq->usable = true;
    vq->force_call = true;
    retval = (virtq_is_packed(vq)
              ? virtq_packed_init(vq, config, error)
              : virtq_split_init(vq, config, error));
    if (retval) {
        free_cacheline(vq);
        return retval;
    }
    virtq_log_enable_kicks(vq);

    /* Enough for any chain whose buffers do not overlap: as many descriptors
     * in the ring as in an indirect table, and each border between two regions
     * crossed once.  (The largest ring has chains of more segments than can be
     * counted, of one byte each.  They are unusable.) */
    vq->max_segs = MIN(2 * vq->size + VHU_MEM_MAX_REGIONS, UINT16_MAX);
    vq->segs = xmalloc(vq->max_segs * sizeof *vq->segs);
    BUILD_ASSERT(sizeof(struct virtq_desc) == sizeof(struct pvirtq_desc));
    vq->table = (vq->indirect
                 ? xmalloc(vq->size * sizeof(struct virtq_desc))
                 : NULL);

    /* Our predecessor may have died between publishing and notifying. */
    virtq_notify(vq);
    *vqp = vq;
    return 0;
}

void
virtq_destroy(struct virtq *vq)
{
    if (vq) {
        free(vq->segs);
        free(vq->table);
        free_cacheline(vq);
    }
}

void
virtq_get_base(const struct virtq *vq, struct virtq_pos *avail,
               struct virtq_pos *used)
{
    *avail = vq->next_avail;
    *used = vq->published;
}

bool
virtq_is_from_record(const struct virtq *vq)
{
    return vq->from_record;
}

uint64_t
virtq_get_features(const struct virtq *vq)
{
    return vq->features;
}

size_t
virtq_take_avail(struct virtq *vq, struct virtq_chain chains[], size_t max)
{
    return (virtq_is_packed(vq)
            ? virtq_packed_take_avail(vq, chains, max)
            : virtq_split_take_avail(vq, chains, max));
}

void
virtq_put_back(struct virtq *vq, const struct virtq_chain chains[], size_t n)
{
    if (virtq_is_packed(vq)) {
        virtq_packed_put_back(vq, chains, n);
    } else {
        virtq_split_put_back(vq, chains, n);
    }
}

void
virtq_add_used(struct virtq *vq, const struct virtq_chain *chain, uint32_t len)
{
    virtq_add_used_burst(vq, chain, &len, 1);
}

void
virtq_add_used_burst(struct virtq *vq, const struct virtq_chain chains[],
                     const uint32_t lens[], size_t n)
{
    if (OVS_UNLIKELY(vq->logged)) {
        virtq_log_add_used(vq, chains, lens, n);
    } else if (virtq_is_packed(vq)) {
        virtq_packed_add_used(vq, chains, lens, n);
    } else {
        virtq_split_add_used(vq, chains, lens, n);
    }
}

void
virtq_publish_used(struct virtq *vq)
{
    if (OVS_UNLIKELY(vq->logged)) {
        virtq_log_publish_used(vq);
    } else if (virtq_is_packed(vq)) {
        virtq_packed_publish_used(vq);
    } else {
        virtq_split_publish_used(vq);
    }
}

/* Returns true if anything was published since the last virtq_call().  A
 * packed ring may have been gone round just once. */
static bool
virtq_has_news(const struct virtq *vq)
{
    return (virtq_is_packed(vq)
            ? vq->n_unsignalled > 0
            : vq->signalled != vq->published.idx);
}

void
virtq_call(struct virtq *vq)
{
    if (!virtq_has_news(vq) || !vq->usable) {
        return;
    }
    if (vq->call_fd < 0) {
        /* Nobody to tell.  Whoever comes will be told. */
        vq->force_call = true;
    } else if (virtq_is_packed(vq)
               ? virtq_packed_wants_call(vq)
               : virtq_split_wants_call(vq)) {
        vq->force_call = false;
        virtq_notify(vq);
    } else {
        virtq_count(&vq->counters->calls_suppressed, 1);
    }
    vq->signalled = vq->published.idx;
    vq->n_unsignalled = 0;
}

void
virtq_prefetch_next(struct virtq *vq)
{
    if (virtq_is_packed(vq)) {
        virtq_packed_prefetch_next(vq);
    } else {
        virtq_split_prefetch_next(vq);
    }
}

uint32_t
virtq_n_avail(const struct virtq *vq)
{
    if (OVS_UNLIKELY(!__atomic_load_n(&vq->usable, __ATOMIC_RELAXED))) {
        return 0;
    }
    return (virtq_is_packed(vq)
            ? virtq_packed_n_avail(vq)
            : virtq_split_n_avail(vq));
}

void
virtq_enable_kicks(struct virtq *vq, bool enable)
{
    vq->kicks_enabled = enable;
    if (!virtq_check_usable(vq)) {
        return;
    }
    if (virtq_is_packed(vq)) {
        virtq_packed_enable_kicks(vq);
    } else {
        virtq_split_enable_kicks(vq);
    }
    virtq_log_enable_kicks(vq);
}

void
virtq_set_call_fd(struct virtq *vq, int call_fd)
{
    vq->call_fd = call_fd;
    vq->force_call = true;

    /* Whoever listens to this one may have missed the other. */
    virtq_notify(vq);
}

enum virtq_error
virtq_get_error(const struct virtq *vq, uint64_t *value, uint64_t *limit)
{
    if (value) {
        *value = vq->error_value;
    }
    if (limit) {
        *limit = vq->error_limit;
    }
    return vq->error;
}

void
virtq_get_state(const struct virtq *vq, struct virtq_state *state)
{
    state->format = vq->format;
    state->size = vq->size;
    state->avail = vq->next_avail;
    state->used = vq->published;
    state->driver_idx = vq->next_avail.idx + virtq_n_avail(vq);
    state->fill = (virtq_is_packed(vq) && vq->usable
                   ? virtq_packed_n_avail_descs(vq) : virtq_n_avail(vq));
    state->kicks_enabled = vq->kicks_enabled;
}

/* Sends a used buffer notification, if there is a call eventfd. */
static void
virtq_notify(struct virtq *vq)
{
    int error;

    if (vq->call_fd < 0 || !vq->usable) {
        return;
    }
    error = vhu_notify(vq->call_fd);
    if (!error) {
        virtq_count(&vq->counters->calls, 1);
    } else {
        vq->call_fd = -1;
        virtq_break(vq, VIRTQ_ERROR_CALL_BLOCKED, error, 0);
    }
}

/* Marks 'vq' broken because of 'error'; see enum virtq_error for the numbers.
 * From now on, nobody touches the memory of the ring. */
void
virtq_break(struct virtq *vq, enum virtq_error error, uint64_t value,
            uint64_t limit)
{
    if (!vq->error) {
        vq->error = error;
        vq->error_value = value;
        vq->error_limit = limit;
        virtq_set_unusable(vq);
        virtq_count(&vq->counters->broken, 1);
    }
}

/* Returns our address of the 'size' bytes at user address 'uva', which are the
 * area 'name' of a virtqueue.  If they are not aligned to 'align', or not
 * inside one region of 'mem', returns NULL with a text in '*error'.
 *
 * Our own address must be aligned, too, or else the machine would not read an
 * index at once. */
static void *
map_area(const struct vhu_mem *mem, const char *name, uint64_t uva,
         uint64_t size, uint64_t align, char **error)
{
    void *va = vhu_mem_uva_to_va(mem, uva, size);

    if (!va) {
        *error = xasprintf("%s at user address 0x%"PRIx64": its %"PRIu64" "
                           "bytes are not inside one memory region",
                           name, uva, size);
        return NULL;
    }
    if (uva % align || (uintptr_t) va % align) {
        *error = xasprintf("%s at user address 0x%"PRIx64" is not aligned to "
                           "%"PRIu64" bytes", name, uva, align);
        return NULL;
    }
    return va;
}

/* Stores where the areas of 'config' are in our address space in '*areas'.
 * Returns 0, or EINVAL with a text in '*error' if one is not aligned or not
 * inside one region.
 *
 * virtio, "Split Virtqueues", where each ring is followed by the event index
 * of the other side, whether that is in use or not, and "Packed
 * Virtqueues". */
int
virtq_map_areas(const struct virtq_config *config, struct virtq_areas *areas,
                char **error)
{
    bool packed = config->format == VIRTQ_PACKED;
    uint64_t n = config->size;
    uint64_t avail_size = (sizeof(struct virtq_avail)
                           + (n + 1) * sizeof(virtio_le16));
    uint64_t used_size = (sizeof(struct virtq_used)
                          + n * sizeof(struct virtq_used_elem)
                          + sizeof(virtio_le16));
    uint64_t event_size = sizeof(struct pvirtq_event_suppress);
    const struct {
        void **area;
        const char *name;
        uint64_t uva, size, align;
    } a[] = {
        { &areas->desc, packed ? "descriptor ring" : "descriptor table",
          config->desc_uva, n * sizeof(struct virtq_desc), VIRTQ_DESC_ALIGN },
        { &areas->driver,
          packed ? "driver event suppression" : "available ring",
          config->driver_uva, packed ? event_size : avail_size,
          packed ? PVIRTQ_EVENT_ALIGN : VIRTQ_AVAIL_ALIGN },
        { &areas->device, packed ? "device event suppression" : "used ring",
          config->device_uva, packed ? event_size : used_size,
          packed ? PVIRTQ_EVENT_ALIGN : VIRTQ_USED_ALIGN },
    };

    for (size_t i = 0; i < ARRAY_SIZE(a); i++) {
        *a[i].area = map_area(config->mem, a[i].name, a[i].uva, a[i].size,
                              a[i].align, error);
        if (!*a[i].area) {
            return EINVAL;
        }
    }
    return 0;
}

int
virtq_check_areas(const struct virtq_config *config, char **error)
{
    struct virtq_areas areas;

    return virtq_map_areas(config, &areas, error);
}

/* virtq_translate() for an address outside the region that was hit last. */
uint8_t *
virtq_translate_slow(struct virtq *vq, uint64_t gpa, uint64_t len)
{
    for (int i = 0; i < vq->mem->n_regions; i++) {
        const struct vhu_mem_region *r = &vq->mem->regions[i];
        uint64_t ofs = gpa - r->guest_addr;

        if (ofs < r->size && len <= r->size - ofs) {
            vq->region_gpa = r->guest_addr;
            vq->region_size = r->size;
            vq->region_va = r->va;
            return r->va + ofs;
        }
    }
    return NULL;
}

/* Copies the indirect table at 'gpa', of 'n' descriptors, to 'vq->table'.
 * Returns false, with 'vq' broken, if it is outside memory.  The table need
 * not be aligned, and may cross from one region into the next. */
bool
virtq_copy_table(struct virtq *vq, uint64_t gpa, uint32_t n)
{
    size_t left = n * sizeof(struct virtq_desc);
    uint8_t *dst = vq->table;
    const void *src = virtq_translate(vq, gpa, left);

    if (OVS_LIKELY(src)) {
        virtio_load_copy(dst, src, left);
        return true;
    }
    while (left) {
        uint64_t part;

        src = vhu_mem_gpa_to_va_part(vq->mem, gpa, &part);
        if (!src) {
            virtq_break(vq, VIRTQ_ERROR_ADDRESS, gpa, 0);
            return false;
        }
        part = MIN(part, left);
        virtio_load_copy(dst, src, part);
        dst += part;
        gpa += part;
        left -= part;
    }
    return true;
}

/* Adds the 'len' bytes at guest address 'gpa', which may cross from one region
 * into the next, to 'walk'.  Returns false, with 'vq' broken, if they are not
 * all inside memory. */
bool
virtq_walk_add_parts(struct virtq *vq, struct virtq_walk *walk, uint64_t gpa,
                     uint32_t len)
{
    while (len) {
        uint64_t part;
        uint8_t *va = vhu_mem_gpa_to_va_part(vq->mem, gpa, &part);

        if (!va) {
            virtq_break(vq, VIRTQ_ERROR_ADDRESS, gpa, 0);
            return false;
        }
        if (walk->n_segs >= walk->max_segs) {
            walk->full = true;
            walk->unusable = true;
            return true;
        }
        part = MIN(part, len);
        walk->segs[walk->n_segs].va = va;
        walk->segs[walk->n_segs].len = part;
        walk->n_segs++;
        walk->bytes += part;
        len -= part;

        /* If this wraps around, the next round finds address 0, which is as
         * good as any other: all that counts is that it is in memory. */
        gpa += part;
    }
    return true;
}
