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

#ifndef VIRTQ_MOCK_H
#define VIRTQ_MOCK_H 1

/* The driver side of a virtqueue, for tests
 * =========================================
 *
 * Written from the text of the specification, slow and simple.  It shares no
 * helper with lib/, so that a misunderstanding there does not find its twin
 * here: byte order, layout of the rings and arithmetic of the event index are
 * done once more.
 *
 * The guest's memory has three regions.  The second follows the first in guest
 * addresses, but not in ours; the third is far away.  In our address space,
 * each is between two inaccessible pages and ends right at the second. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Guest memory. */

#define MOCK_A_GPA UINT64_C(0x100000)
#define MOCK_A_SIZE UINT64_C(0x200000)
#define MOCK_B_GPA (MOCK_A_GPA + MOCK_A_SIZE)
#define MOCK_B_SIZE UINT64_C(0xfffe8)
#define MOCK_C_GPA UINT64_C(0x100000000)
#define MOCK_C_SIZE UINT64_C(0x100000)
#define MOCK_HOLE_GPA (MOCK_B_GPA + MOCK_B_SIZE)

/* User addresses are guest addresses plus this. */
#define MOCK_UVA_OFFSET UINT64_C(0x7e0000000000)

#define MOCK_N_REGIONS 3

struct mock_region {
    uint64_t gpa;
    uint64_t size;
    uint8_t *va;
};

struct mock_mem {
    struct mock_region regions[MOCK_N_REGIONS];
};

void mock_mem_init(struct mock_mem *);
void mock_mem_uninit(struct mock_mem *);

/* Our address of guest address 'gpa'; aborts if it is outside memory. */
uint8_t *mock_at(const struct mock_mem *, uint64_t gpa);

uint16_t mock_get16(const struct mock_mem *, uint64_t gpa);
uint32_t mock_get32(const struct mock_mem *, uint64_t gpa);
void mock_put16(const struct mock_mem *, uint64_t gpa, uint16_t);
void mock_put32(const struct mock_mem *, uint64_t gpa, uint32_t);
void mock_put64(const struct mock_mem *, uint64_t gpa, uint64_t);

/* Writes one descriptor. */
void mock_put_desc(const struct mock_mem *, uint64_t gpa, uint64_t addr,
                   uint32_t len, uint16_t flags, uint16_t next);

/* The driver. */

struct mock_buf {
    uint64_t gpa;
    uint32_t len;
};

struct mock_driver {
    const struct mock_mem *mem;
    uint32_t size;
    bool packed;
    bool event_idx;
    bool writable;              /* Buffers are device-writable. */

    /* Guest addresses of the three parts, and of what is behind them.  In the
     * packed format, 'avail' is the driver area and 'used' the device area. */
    uint64_t desc, avail, used, end;

    /* In the packed format, bit 15 is the wrap counter. */
    uint16_t next_avail;        /* Where the next chain goes. */
    uint16_t published;         /* What the device may see. */
    uint16_t kick_checked;      /* 'published' at the last decision. */
    uint16_t next_used;         /* Next used element to read. */
    uint16_t first_flags;       /* Packed: of the descriptor at 'published'. */

    /* The driver's private knowledge. */
    uint16_t *free;             /* Free descriptors, in no order. */
    uint32_t n_free;
    uint16_t *free_ids;         /* Packed: free buffer IDs, in no order. */
    uint32_t n_free_ids;
    struct mock_chain {
        bool outstanding;
        uint32_t n_descs;       /* In the descriptor table. */
        uint16_t *descs;        /* Split. */
        uint64_t token;         /* Of the test. */
    } *chains;                  /* By head or buffer ID. */
    uint32_t n_outstanding;
    uint32_t seed;
};

/* Initializes '*d' as a driver with an empty ring of 'size' in 'mem', whose
 * indices all start at 'start'.  In the packed format, bit 15 of 'start' is
 * the wrap counter, and the rest is taken modulo 'size'. */
void mock_driver_init(struct mock_driver *d, const struct mock_mem *mem,
                      uint32_t size, uint16_t start, bool packed,
                      bool event_idx, bool writable);
void mock_driver_uninit(struct mock_driver *d);

/* Adds a chain of the 'n' buffers in 'bufs', the last 'n_indirect' of which
 * are in an indirect table at guest address 'table'.  The device does not see
 * it before mock_driver_publish().  Returns the head, or -1 if there are too
 * few free descriptors.
 *
 * In the packed format, a chain has no direct and indirect buffers, and what
 * is returned is the buffer ID. */
int mock_driver_add(struct mock_driver *d, const struct mock_buf bufs[],
                    size_t n, size_t n_indirect, uint64_t table,
                    uint64_t token);
void mock_driver_publish(struct mock_driver *d);

/* Returns true if the device wants to be kicked for what was published since
 * the last call. */
bool mock_driver_must_kick(struct mock_driver *d);

/* Returns true if there is a used chain. */
bool mock_driver_has_used(const struct mock_driver *d);

/* Takes one used chain.  Returns false if there is none.  Aborts if its id is
 * not the head of an outstanding chain. */
bool mock_driver_get_used(struct mock_driver *d, uint16_t *head, uint32_t *len,
                          uint64_t *token);

/* Asks to be notified when the used index moves on from 'event' (with event
 * index), or of everything or nothing (without).  In the packed format, the
 * first is about the descriptor at 'event', and each replaces the other. */
void mock_driver_set_used_event(struct mock_driver *d, uint16_t event);
void mock_driver_set_no_interrupt(struct mock_driver *d, bool);

/* Asks to be notified when something is used that is not used yet. */
void mock_driver_notify_next(struct mock_driver *d);

/* The packed format; called by the functions above. */
void mock_packed_init(struct mock_driver *d, uint16_t start);
int mock_packed_add(struct mock_driver *d, const struct mock_buf bufs[],
                    size_t n, bool indirect, uint64_t table, uint64_t token);
void mock_packed_publish(struct mock_driver *d);
bool mock_packed_must_kick(struct mock_driver *d);
bool mock_packed_has_used(const struct mock_driver *d);
bool mock_packed_get_used(struct mock_driver *d, uint16_t *idp, uint32_t *len,
                          uint64_t *token);
void mock_packed_set_event(struct mock_driver *d, uint16_t desc,
                           uint16_t flags);

/* The position 'n' descriptors behind 'pos' in a packed ring of 'size'. */
uint16_t mock_packed_advance(uint32_t size, uint16_t pos, uint32_t n);

/* Returns a random number below 'n'. */
uint32_t mock_random(uint32_t *seed, uint32_t n);

#endif /* virtq-mock.h */
