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

#include "virtq-mock-device.h"

#include <stdlib.h>
#include <string.h>

#include "util.h"

/* "struct virtq_desc" is 64-bit addr, 32-bit len, 16-bit flags, 16-bit next.
 * "struct pvirtq_desc" is 64-bit addr, 32-bit len, 16-bit id, 16-bit flags.
 * The available ring is 16-bit flags, 16-bit idx, 16-bit ring[size], 16-bit
 * used_event; the used ring is 16-bit flags, 16-bit idx, ring[size] of 32-bit
 * id and 32-bit len, 16-bit avail_event. */

#define NEXT 1
#define WRITE 2
#define INDIRECT 4
#define AVAIL (1 << 7)
#define USED (1 << 15)

#define MUST(CONDITION)                                                 \
    do {                                                                \
        if (!(CONDITION)) {                                             \
            ovs_fatal(0, "%s:%d: driver violates: %s", __FILE__,        \
                      __LINE__, #CONDITION);                            \
        }                                                               \
    } while (0)

static uint64_t
get64(const struct mock_mem *mem, uint64_t gpa)
{
    return mock_get32(mem, gpa) | (uint64_t) mock_get32(mem, gpa + 4) << 32;
}

void
mock_device_init(struct mock_device *d, const struct mock_mem *mem,
                 uint32_t size, bool packed, uint64_t desc, uint64_t driver,
                 uint64_t device, uint16_t start)
{
    *d = (struct mock_device) {
        .mem = mem,
        .size = size,
        .packed = packed,
        .desc = desc,
        .driver = driver,
        .device = device,
        .next_avail = start,
        .next_used = start,
        .published = start,
        .call_checked = start,
    };
    d->outstanding = xcalloc(size, sizeof *d->outstanding);

    /* "Alignment of virtqueue areas". */
    MUST(desc % 16 == 0);
    MUST(driver % (packed ? 4 : 2) == 0);
    MUST(device % 4 == 0);
}

void
mock_device_uninit(struct mock_device *d)
{
    free(d->outstanding);
}

/* Taking available chains. */

/* Adds the buffer that the descriptor at 'gpa' describes to 'avail'.  Returns
 * its flags. */
static uint16_t
add_buf(const struct mock_device *d, struct mock_avail *avail, uint64_t gpa)
{
    uint16_t flags = mock_get16(d->mem, gpa + (d->packed ? 14 : 12));
    struct mock_buf *buf;

    if (flags & INDIRECT) {
        return flags;
    }
    avail->bufs = xrealloc(avail->bufs,
                           (avail->n_bufs + 1) * sizeof *avail->bufs);
    buf = &avail->bufs[avail->n_bufs++];
    buf->gpa = get64(d->mem, gpa);
    buf->len = mock_get32(d->mem, gpa + 8);
    MUST(buf->len > 0);
    MUST(!(flags & WRITE) == !d->writable);

    /* All of it is inside memory: or else mock_at() aborts. */
    mock_at(d->mem, buf->gpa);
    mock_at(d->mem, buf->gpa + buf->len - 1);
    avail->size += buf->len;
    return flags;
}

/* Adds the buffers of the indirect table that the descriptor at 'gpa'
 * describes. */
static void
add_table(struct mock_device *d, struct mock_avail *avail, uint64_t gpa)
{
    uint64_t table = get64(d->mem, gpa);
    uint32_t len = mock_get32(d->mem, gpa + 8);
    uint32_t n = len / 16;

    MUST(d->indirect);
    MUST(len % 16 == 0);
    MUST(n > 0);
    MUST(n <= d->size);
    for (uint32_t i = 0; i < n; i++) {
        uint16_t flags = add_buf(d, avail, table + 16 * i);

        /* "A driver MUST NOT set the VIRTQ_DESC_F_INDIRECT flag within an
         * indirect descriptor." */
        MUST(!(flags & INDIRECT));
        if (!d->packed) {
            MUST(!(flags & NEXT) == (i == n - 1));
            MUST(i == n - 1
                 || mock_get16(d->mem, table + 16 * i + 14) == i + 1);
        } else {
            MUST(!(flags & NEXT));
        }
    }
    d->n_tables++;
}

static bool
take_split(struct mock_device *d, struct mock_avail *avail)
{
    uint16_t ofs = d->next_avail % d->size;
    uint16_t desc;

    MUST((uint16_t) (mock_get16(d->mem, d->driver + 2) - d->next_avail)
         <= d->size);
    if (mock_get16(d->mem, d->driver + 2) == d->next_avail) {
        return false;
    }
    avail->id = desc = mock_get16(d->mem, d->driver + 4 + 2 * ofs);
    for (;;) {
        uint64_t gpa = d->desc + 16 * desc;
        uint16_t flags;

        MUST(desc < d->size);
        if (d->in_order) {
            /* "...the driver MUST use descriptors in ring order: starting from
             * offset 0 in the table, and wrapping around at the end." */
            MUST(desc == d->next_desc);
            d->next_desc = (desc + 1) % d->size;
        }
        flags = add_buf(d, avail, gpa);
        if (flags & INDIRECT) {
            MUST(!(flags & NEXT));
            add_table(d, avail, gpa);
        }
        if (!(flags & NEXT)) {
            break;
        }
        MUST(++avail->n_slots < d->size);
        desc = mock_get16(d->mem, gpa + 14);
    }
    d->next_avail++;
    return true;
}

static bool
take_packed(struct mock_device *d, struct mock_avail *avail)
{
    for (;;) {
        uint64_t gpa = d->desc + 16 * (d->next_avail & 0x7fff);
        uint16_t flags = mock_get16(d->mem, gpa + 14);
        bool wrap = d->next_avail >> 15;

        if (!(flags & AVAIL) != !wrap || !(flags & USED) != wrap) {
            MUST(!avail->n_slots);
            return false;
        }
        MUST(++avail->n_slots <= d->size);
        flags = add_buf(d, avail, gpa);
        d->next_avail = mock_packed_advance(d->size, d->next_avail, 1);
        if (flags & INDIRECT) {
            MUST(!(flags & NEXT));
            add_table(d, avail, gpa);
        }
        if (!(flags & NEXT)) {
            /* "Buffer ID is included in the last descriptor in the list." */
            avail->id = mock_get16(d->mem, gpa + 12);
            return true;
        }
    }
}

bool
mock_device_take(struct mock_device *d, struct mock_avail *avail)
{
    *avail = (struct mock_avail) { .bufs = NULL };
    if (!(d->packed ? take_packed(d, avail) : take_split(d, avail))) {
        return false;
    }

    /* We identify chains by an array, so IDs must be below the size.  They
     * must not be in use. */
    MUST(avail->id < d->size);
    MUST(!d->outstanding[avail->id]);
    d->outstanding[avail->id] = true;
    d->n_outstanding++;
    return true;
}

/* Using them. */

void
mock_device_use(struct mock_device *d, const struct mock_avail *avail,
                uint32_t len)
{
    mock_device_use_batch(d, avail, 1, len);
}

void
mock_device_use_batch(struct mock_device *d, const struct mock_avail avails[],
                      size_t n, uint32_t len)
{
    uint16_t id = avails[n - 1].id;
    uint32_t n_slots = 0;

    for (size_t i = 0; i < n; i++) {
        ovs_assert(d->outstanding[avails[i].id]);
        d->outstanding[avails[i].id] = false;
        d->n_outstanding--;
        n_slots += avails[i].n_slots;
    }

    if (!d->packed) {
        uint64_t elem = d->device + 4 + 8 * (d->next_used % d->size);

        mock_put32(d->mem, elem, id);
        mock_put32(d->mem, elem + 4, len);
        d->next_used += n;
    } else {
        uint64_t gpa = d->desc + 16 * (d->next_used & 0x7fff);
        uint16_t flags = d->next_used >> 15 ? AVAIL | USED : 0;

        flags |= len ? WRITE : 0;
        mock_put32(d->mem, gpa + 8, len);
        mock_put16(d->mem, gpa + 12, id);
        if (d->next_used == d->published) {
            d->first_flags = flags;
        } else {
            mock_put16(d->mem, gpa + 14, flags);
        }
        d->next_used = mock_packed_advance(d->size, d->next_used, n_slots);
    }
}

void
mock_device_publish(struct mock_device *d)
{
    if (d->next_used == d->published) {
        return;
    }
    if (!d->packed) {
        mock_put16(d->mem, d->device + 2, d->next_used);
    } else {
        mock_put16(d->mem, d->desc + 16 * (d->published & 0x7fff) + 14,
                   d->first_flags);
    }
    d->published = d->next_used;
}

/* Notifications. */

/* Returns true if the driver's event index says that it wants to be called
 * when the device gets from 'call_checked' to 'published': step by step. */
static bool
passes_event(const struct mock_device *d, uint16_t event)
{
    uint16_t pos = d->call_checked;

    while (pos != d->published) {
        if (pos == event) {
            return true;
        }
        pos = d->packed ? mock_packed_advance(d->size, pos, 1) : pos + 1;
    }
    return false;
}

bool
mock_device_must_call(struct mock_device *d)
{
    bool call;

    if (!d->packed) {
        uint16_t flags = mock_get16(d->mem, d->driver);

        /* "If VIRTIO_F_EVENT_IDX has been negotiated, the driver MUST set
         * flags to 0." */
        MUST(flags <= 1);
        MUST(!d->event_idx || !flags);
        call = (d->event_idx
                ? passes_event(d, mock_get16(d->mem, (d->driver + 4
                                                      + 2 * d->size)))
                : d->published != d->call_checked && !flags);
    } else {
        uint16_t desc = mock_get16(d->mem, d->driver);
        uint16_t flags = mock_get16(d->mem, d->driver + 2);

        MUST(flags <= (d->event_idx ? 2 : 1));
        call = (flags == 2 ? passes_event(d, desc)
                : d->published != d->call_checked && !flags);
    }
    d->call_checked = d->published;
    return call;
}

void
mock_device_set_no_notify(struct mock_device *d, bool no_notify)
{
    if (!d->packed) {
        mock_put16(d->mem, d->device, no_notify);
    } else {
        mock_put16(d->mem, d->device + 2, no_notify);
    }
}

void
mock_device_set_avail_event(struct mock_device *d, uint16_t event)
{
    if (!d->packed) {
        mock_put16(d->mem, d->device + 4 + 8 * d->size, event);
    } else {
        mock_put16(d->mem, d->device, event);
        mock_put16(d->mem, d->device + 2, 2);
    }
}

/* What is in the buffers. */

void
mock_device_read(const struct mock_device *d, const struct mock_avail *avail,
                 uint8_t *data)
{
    for (uint32_t i = 0; i < avail->n_bufs; i++) {
        memcpy(data, mock_at(d->mem, avail->bufs[i].gpa), avail->bufs[i].len);
        data += avail->bufs[i].len;
    }
}

void
mock_device_write(const struct mock_device *d, const struct mock_avail *avail,
                  const uint8_t *data, uint32_t len)
{
    MUST(len <= avail->size);
    for (uint32_t i = 0; len; i++) {
        uint32_t n = MIN(len, avail->bufs[i].len);

        memcpy(mock_at(d->mem, avail->bufs[i].gpa), data, n);
        data += n;
        len -= n;
    }
}
