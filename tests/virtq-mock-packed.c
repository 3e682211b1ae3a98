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

#include "virtq-mock.h"

#include <stdlib.h>
#include <string.h>

#include "util.h"

/* "struct pvirtq_desc" is 64-bit addr, 32-bit len, 16-bit id, 16-bit flags.
 * The event suppression structures are 16-bit desc, 16-bit flags. */

#define NEXT 1
#define WRITE 2
#define INDIRECT 4
#define AVAIL (1 << 7)
#define USED (1 << 15)

static bool
wrap_counter(uint16_t pos)
{
    return pos >> 15;
}

static uint64_t
desc_gpa(const struct mock_driver *d, uint16_t pos)
{
    return d->desc + 16 * (pos & 0x7fff);
}

uint16_t
mock_packed_advance(uint32_t size, uint16_t pos, uint32_t n)
{
    /* One by one: "incremented ... and the wrap counter is changed each time
     * that it comes to the end". */
    while (n--) {
        uint16_t ofs = (pos & 0x7fff) + 1;

        if (ofs == size) {
            pos = wrap_counter(pos) ? 0 : 0x8000;
        } else {
            pos = (pos & 0x8000) | ofs;
        }
    }
    return pos;
}

void
mock_packed_init(struct mock_driver *d, uint16_t start)
{
    start = (start & 0x8000) | (start & 0x7fff) % d->size;

    /* The addresses have just the alignment that is demanded. */
    d->desc = MOCK_A_GPA + 16;
    d->avail = d->desc + 16 * d->size + 4;
    d->used = d->avail + 8;
    d->end = d->used + 4;
    memset(mock_at(d->mem, d->desc), 0, d->end - d->desc);

    d->next_avail = d->published = d->kick_checked = d->next_used = start;
    d->free_ids = xcalloc(d->size, sizeof *d->free_ids);
    d->chains = xcalloc(d->size, sizeof *d->chains);
    for (uint32_t i = 0; i < d->size; i++) {
        bool wrap = wrap_counter(start) == (i < (start & 0x7fff));

        /* All used, this lap or the last. */
        mock_put16(d->mem, d->desc + 16 * i + 14, wrap ? AVAIL | USED : 0);
        d->free_ids[i] = i;
    }
    d->n_free = d->n_free_ids = d->size;
}

/* Writes a descriptor at 'd->next_avail'.  That at 'd->published' gets its
 * flags later. */
static void
put_desc(struct mock_driver *d, uint64_t addr, uint32_t len, uint16_t id,
         uint16_t flags)
{
    uint64_t gpa = desc_gpa(d, d->next_avail);

    flags |= wrap_counter(d->next_avail) ? AVAIL : USED;
    mock_put64(d->mem, gpa, addr);
    mock_put32(d->mem, gpa + 8, len);
    mock_put16(d->mem, gpa + 12, id);
    if (d->next_avail == d->published) {
        d->first_flags = flags;
    } else {
        mock_put16(d->mem, gpa + 14, flags);
    }
    d->next_avail = mock_packed_advance(d->size, d->next_avail, 1);
    d->n_free--;
}

int
mock_packed_add(struct mock_driver *d, const struct mock_buf bufs[], size_t n,
                bool indirect, uint64_t table, uint64_t token)
{
    const uint16_t write = d->writable ? WRITE : 0;
    uint32_t n_descs = indirect ? 1 : n;
    struct mock_chain *chain;
    uint32_t i;
    uint16_t id;

    /* The one at 'published' must not be reached again. */
    if (n_descs > d->n_free || !d->n_free_ids) {
        return -1;
    }
    i = mock_random(&d->seed, d->n_free_ids);
    id = d->free_ids[i];
    d->free_ids[i] = d->free_ids[--d->n_free_ids];

    if (indirect) {
        for (size_t j = 0; j < n; j++) {
            /* What is reserved there is not looked at. */
            mock_put_desc(d->mem, table + 16 * j, bufs[j].gpa, bufs[j].len,
                          0xabcd, write | (j & 1 ? NEXT | AVAIL : USED));
        }
        put_desc(d, table, 16 * n, id, INDIRECT);
    } else {
        for (size_t j = 0; j < n; j++) {
            bool last = j == n - 1;

            /* The ID of all but the last does not matter. */
            put_desc(d, bufs[j].gpa, bufs[j].len, last ? id : 0xabcd,
                     write | (last ? 0 : NEXT));
        }
    }

    chain = &d->chains[id];
    chain->outstanding = true;
    chain->n_descs = n_descs;
    chain->token = token;
    d->n_outstanding++;
    return id;
}

void
mock_packed_publish(struct mock_driver *d)
{
    if (d->first_flags) {
        mock_put16(d->mem, desc_gpa(d, d->published) + 14, d->first_flags);
        d->first_flags = 0;
        d->published = d->next_avail;
    }
}

bool
mock_packed_must_kick(struct mock_driver *d)
{
    uint16_t old = d->kick_checked;
    bool must_kick = false;

    d->kick_checked = d->published;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    switch (mock_get16(d->mem, d->used + 2)) {
    case 0:
        return true;

    case 1:
        return false;

    case 2:
        for (uint16_t event = mock_get16(d->mem, d->used);
             old != d->published;
             old = mock_packed_advance(d->size, old, 1)) {
            must_kick |= old == event;
        }
        return must_kick && d->event_idx;

    default:
        ovs_fatal(0, "device sets reserved flags");
    }
}

bool
mock_packed_has_used(const struct mock_driver *d)
{
    uint16_t flags = mock_get16(d->mem, desc_gpa(d, d->next_used) + 14);
    bool wrap = wrap_counter(d->next_used);

    return !!(flags & AVAIL) == wrap && !!(flags & USED) == wrap;
}

bool
mock_packed_get_used(struct mock_driver *d, uint16_t *idp, uint32_t *len,
                     uint64_t *token)
{
    uint64_t gpa = desc_gpa(d, d->next_used);
    uint16_t flags = mock_get16(d->mem, gpa + 14);
    uint16_t id = mock_get16(d->mem, gpa + 12);
    struct mock_chain *chain;

    if (id >= d->size || !d->chains[id].outstanding) {
        ovs_fatal(0, "used buffer ID %u is not outstanding", id);
    }
    chain = &d->chains[id];
    *idp = id;
    *len = flags & WRITE ? mock_get32(d->mem, gpa + 8) : 0;
    *token = chain->token;

    chain->outstanding = false;
    d->n_outstanding--;
    d->n_free += chain->n_descs;
    d->free_ids[d->n_free_ids++] = id;
    d->next_used = mock_packed_advance(d->size, d->next_used, chain->n_descs);
    return true;
}

void
mock_packed_set_event(struct mock_driver *d, uint16_t desc, uint16_t flags)
{
    mock_put16(d->mem, d->avail, desc);
    mock_put16(d->mem, d->avail + 2, flags);
}
