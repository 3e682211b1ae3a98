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

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util.h"

/* Guest memory. */

/* Returns 'size' bytes between two inaccessible pages, the second of which
 * follows at once. */
static uint8_t *
guarded_alloc(size_t size)
{
    size_t page = sysconf(_SC_PAGESIZE);
    size_t rounded = (size + page - 1) / page * page;
    uint8_t *p = mmap(NULL, rounded + 2 * page, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED
        || mprotect(p + page, rounded, PROT_READ | PROT_WRITE)) {
        ovs_fatal(errno, "no memory");
    }
    return p + page + rounded - size;
}

static void
guarded_free(uint8_t *va, size_t size)
{
    size_t page = sysconf(_SC_PAGESIZE);
    size_t rounded = (size + page - 1) / page * page;

    munmap(va + size - rounded - page, rounded + 2 * page);
}

void
mock_mem_init(struct mock_mem *mem)
{
    *mem = (struct mock_mem) {
        .regions = {
            { .gpa = MOCK_A_GPA, .size = MOCK_A_SIZE },
            { .gpa = MOCK_B_GPA, .size = MOCK_B_SIZE },
            { .gpa = MOCK_C_GPA, .size = MOCK_C_SIZE },
        },
    };
    for (int i = 0; i < MOCK_N_REGIONS; i++) {
        mem->regions[i].va = guarded_alloc(mem->regions[i].size);
    }
}

void
mock_mem_uninit(struct mock_mem *mem)
{
    for (int i = 0; i < MOCK_N_REGIONS; i++) {
        guarded_free(mem->regions[i].va, mem->regions[i].size);
    }
}

uint8_t *
mock_at(const struct mock_mem *mem, uint64_t gpa)
{
    for (int i = 0; i < MOCK_N_REGIONS; i++) {
        const struct mock_region *r = &mem->regions[i];

        if (gpa >= r->gpa && gpa < r->gpa + r->size) {
            return r->va + (gpa - r->gpa);
        }
    }
    ovs_fatal(0, "guest address %#llx is outside memory",
              (unsigned long long) gpa);
}

/* All numbers are little-endian.  16-bit numbers are read and written at once,
 * the others byte by byte, since buffers and tables need not be aligned. */

static uint16_t
swap16_if_big(uint16_t x)
{
    const uint8_t bytes[2] = { x & 0xff, x >> 8 };

    memcpy(&x, bytes, 2);
    return x;
}

uint16_t
mock_get16(const struct mock_mem *mem, uint64_t gpa)
{
    uint16_t *p = ALIGNED_CAST(uint16_t *, mock_at(mem, gpa));

    return swap16_if_big(__atomic_load_n(p, __ATOMIC_ACQUIRE));
}

uint32_t
mock_get32(const struct mock_mem *mem, uint64_t gpa)
{
    const uint8_t *p = mock_at(mem, gpa);

    return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t) p[3] << 24;
}

void
mock_put16(const struct mock_mem *mem, uint64_t gpa, uint16_t x)
{
    uint16_t *p = ALIGNED_CAST(uint16_t *, mock_at(mem, gpa));

    __atomic_store_n(p, swap16_if_big(x), __ATOMIC_RELEASE);
}

static void
put_bytes(const struct mock_mem *mem, uint64_t gpa, uint64_t x, int n)
{
    for (int i = 0; i < n; i++) {
        *mock_at(mem, gpa + i) = x >> (8 * i);
    }
}

void
mock_put32(const struct mock_mem *mem, uint64_t gpa, uint32_t x)
{
    put_bytes(mem, gpa, x, 4);
}

void
mock_put64(const struct mock_mem *mem, uint64_t gpa, uint64_t x)
{
    put_bytes(mem, gpa, x, 8);
}

void
mock_put_desc(const struct mock_mem *mem, uint64_t gpa, uint64_t addr,
              uint32_t len, uint16_t flags, uint16_t next)
{
    put_bytes(mem, gpa, addr, 8);
    put_bytes(mem, gpa + 8, len, 4);
    put_bytes(mem, gpa + 12, flags, 2);
    put_bytes(mem, gpa + 14, next, 2);
}

uint32_t
mock_random(uint32_t *seed, uint32_t n)
{
    /* The generator of Numerical Recipes; its high bits are the good ones. */
    *seed = *seed * UINT32_C(1664525) + UINT32_C(1013904223);
    return ((uint64_t) (*seed >> 8) * n) >> 24;
}

/* The driver. */

/* "struct virtq_avail" is flags, idx, ring[size], used_event, of 16 bits each.
 * "struct virtq_used" is flags, idx, then ring[size] of (32-bit id, 32-bit
 * len), then avail_event. */
static uint64_t
avail_flags(const struct mock_driver *d)
{
    return d->avail;
}

static uint64_t
avail_idx(const struct mock_driver *d)
{
    return d->avail + 2;
}

static uint64_t
avail_ring(const struct mock_driver *d, uint32_t i)
{
    return d->avail + 4 + 2 * i;
}

static uint64_t
used_event(const struct mock_driver *d)
{
    return d->avail + 4 + 2 * d->size;
}

static uint64_t
used_ring(const struct mock_driver *d, uint32_t i)
{
    return d->used + 4 + 8 * i;
}

static uint64_t
avail_event(const struct mock_driver *d)
{
    return d->used + 4 + 8 * d->size;
}

void
mock_driver_init(struct mock_driver *d, const struct mock_mem *mem,
                 uint32_t size, uint16_t start, bool packed, bool event_idx,
                 bool writable)
{
    memset(d, 0, sizeof *d);
    d->mem = mem;
    d->size = size;
    d->packed = packed;
    d->event_idx = event_idx;
    d->writable = writable;
    d->seed = 1;
    if (packed) {
        mock_packed_init(d, start);
        return;
    }

    /* The addresses have just the alignment that is demanded. */
    d->desc = MOCK_A_GPA + 16;
    d->avail = d->desc + 16 * size + 2;
    d->used = (d->avail + 6 + 2 * size + 3) / 4 * 4;
    if (d->used % 8 == 0) {
        d->used += 4;
    }
    d->end = d->used + 6 + 8 * size;
    memset(mock_at(mem, d->desc), 0, d->end - d->desc);

    d->next_avail = d->published = d->kick_checked = d->next_used = start;
    mock_put16(mem, avail_idx(d), start);
    mock_put16(mem, d->used + 2, start);

    d->free = xcalloc(size, sizeof *d->free);
    d->chains = xcalloc(size, sizeof *d->chains);
    for (uint32_t i = 0; i < size; i++) {
        d->free[d->n_free++] = i;
    }
}

void
mock_driver_uninit(struct mock_driver *d)
{
    for (uint32_t i = 0; i < d->size; i++) {
        free(d->chains[i].descs);
    }
    free(d->chains);
    free(d->free);
    free(d->free_ids);
}

/* Takes a free descriptor, any. */
static uint16_t
take_free(struct mock_driver *d)
{
    uint32_t i = mock_random(&d->seed, d->n_free);
    uint16_t desc = d->free[i];

    d->free[i] = d->free[--d->n_free];
    return desc;
}

int
mock_driver_add(struct mock_driver *d, const struct mock_buf bufs[],
                size_t n, size_t n_indirect, uint64_t table, uint64_t token)
{
    const uint16_t write = d->writable ? 2 : 0;
    size_t n_direct = n - n_indirect;
    uint32_t n_descs = n_direct + (n_indirect > 0);
    struct mock_chain *chain;
    uint16_t *descs;

    if (d->packed) {
        return mock_packed_add(d, bufs, n, n_indirect > 0, table, token);
    }
    if (n_descs > d->n_free) {
        return -1;
    }
    descs = xcalloc(n_descs, sizeof *descs);
    for (uint32_t i = 0; i < n_descs; i++) {
        descs[i] = take_free(d);
    }

    for (size_t i = 0; i < n_indirect; i++) {
        const struct mock_buf *b = &bufs[n_direct + i];
        bool last = i == n_indirect - 1;

        mock_put_desc(d->mem, table + 16 * i, b->gpa, b->len,
                      write | (last ? 0 : 1), last ? 0xabcd : i + 1);
    }
    for (uint32_t i = 0; i < n_descs; i++) {
        bool last = i == n_descs - 1;
        uint16_t next = last ? 0xabcd : descs[i + 1];
        uint64_t at = d->desc + 16 * descs[i];

        if (i < n_direct) {
            mock_put_desc(d->mem, at, bufs[i].gpa, bufs[i].len,
                          write | (last ? 0 : 1), next);
        } else {
            mock_put_desc(d->mem, at, table, 16 * n_indirect, 4, next);
        }
    }

    chain = &d->chains[descs[0]];
    chain->outstanding = true;
    chain->n_descs = n_descs;
    free(chain->descs);
    chain->descs = descs;
    chain->token = token;
    d->n_outstanding++;

    mock_put16(d->mem, avail_ring(d, d->next_avail % d->size), descs[0]);
    d->next_avail++;
    return descs[0];
}

void
mock_driver_publish(struct mock_driver *d)
{
    if (d->packed) {
        mock_packed_publish(d);
    } else {
        d->published = d->next_avail;
        mock_put16(d->mem, avail_idx(d), d->published);
    }
}

bool
mock_driver_must_kick(struct mock_driver *d)
{
    uint16_t old = d->kick_checked;

    if (d->packed) {
        return mock_packed_must_kick(d);
    }
    d->kick_checked = d->published;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!d->event_idx) {
        return !(mock_get16(d->mem, d->used) & 1);
    }

    /* "if the next index value (which determines where in the available ring
     * the next descriptor would be placed) is equal to avail_event": for each
     * buffer in turn. */
    for (uint16_t event = mock_get16(d->mem, avail_event(d));
         old != d->published; old++) {
        if (old == event) {
            return true;
        }
    }
    return false;
}

bool
mock_driver_has_used(const struct mock_driver *d)
{
    return (d->packed
            ? mock_packed_has_used(d)
            : mock_get16(d->mem, d->used + 2) != d->next_used);
}

bool
mock_driver_get_used(struct mock_driver *d, uint16_t *head, uint32_t *len,
                     uint64_t *token)
{
    uint64_t elem = used_ring(d, d->next_used % d->size);
    struct mock_chain *chain;
    uint32_t id;

    if (!mock_driver_has_used(d)) {
        return false;
    }
    if (d->packed) {
        return mock_packed_get_used(d, head, len, token);
    }
    id = mock_get32(d->mem, elem);
    *len = mock_get32(d->mem, elem + 4);
    if (id >= d->size || !d->chains[id].outstanding) {
        ovs_fatal(0, "used id %u is not outstanding", id);
    }
    chain = &d->chains[id];
    *head = id;
    *token = chain->token;

    chain->outstanding = false;
    d->n_outstanding--;
    for (uint32_t i = 0; i < chain->n_descs; i++) {
        d->free[d->n_free++] = chain->descs[i];
    }
    d->next_used++;
    return true;
}

void
mock_driver_set_used_event(struct mock_driver *d, uint16_t event)
{
    if (d->packed) {
        mock_packed_set_event(d, event, 2);
    } else {
        mock_put16(d->mem, used_event(d), event);
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void
mock_driver_set_no_interrupt(struct mock_driver *d, bool no_interrupt)
{
    if (d->packed) {
        mock_packed_set_event(d, 0xabcd, no_interrupt ? 1 : 0);
    } else {
        mock_put16(d->mem, avail_flags(d), no_interrupt ? 1 : 0);
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void
mock_driver_notify_next(struct mock_driver *d)
{
    if (!d->packed || !d->event_idx) {
        mock_driver_set_no_interrupt(d, false);
    }
    if (d->event_idx) {
        mock_driver_set_used_event(d, d->next_used);
    }
}
