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

#ifndef VIRTQ_MOCK_DEVICE_H
#define VIRTQ_MOCK_DEVICE_H 1

/* The device side of a virtqueue, for tests
 * =========================================
 *
 * The counterpart of the driver in virtq-mock.h, and like that written from
 * the text of the specification, without anything of lib/.  It is strict: a
 * driver that does what the specification forbids makes the test fail. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtq-mock.h"

struct mock_device {
    const struct mock_mem *mem;
    uint32_t size;
    bool packed;
    bool event_idx;
    bool in_order;
    bool indirect;
    bool writable;              /* Buffers must be device-writable. */
    uint64_t desc, driver, device; /* Guest addresses. */

    /* In the packed format, bit 15 is the wrap counter. */
    uint16_t next_avail;        /* Next chain to take. */
    uint16_t next_used;         /* Next place for a used one. */
    uint16_t published;         /* What the driver may see. */
    uint16_t call_checked;      /* 'published' at the last decision. */
    uint16_t next_desc;         /* In order, split: where a chain starts. */
    uint16_t first_flags;       /* Packed: of the descriptor at
                                 * 'published'. */

    bool *outstanding;          /* By head or buffer ID. */
    uint32_t n_outstanding;
    uint32_t n_tables;          /* Indirect ones seen so far. */
};

/* A descriptor chain. */
struct mock_avail {
    uint16_t id;                /* Head or buffer ID. */
    uint16_t n_slots;           /* Descriptors in a packed ring. */
    uint32_t n_bufs;
    uint32_t size;              /* Bytes in all of them. */
    struct mock_buf *bufs;      /* The caller frees it. */
};

/* Initializes '*d' as a device that takes buffers from a ring of 'size' in
 * 'mem'.  The indices start at 'start'; in the packed format, bit 15 is the
 * wrap counter.  What 'd' has to know of features is 0 then; set it. */
void mock_device_init(struct mock_device *d, const struct mock_mem *mem,
                      uint32_t size, bool packed, uint64_t desc,
                      uint64_t driver, uint64_t device, uint16_t start);
void mock_device_uninit(struct mock_device *d);

/* Takes the next available chain.  Returns false if there is none. */
bool mock_device_take(struct mock_device *d, struct mock_avail *avail);

/* Makes a chain used, of which 'len' bytes were written, at the next
 * mock_device_publish(). */
void mock_device_use(struct mock_device *d, const struct mock_avail *avail,
                     uint32_t len);

/* The same, in order, for a batch of the 'n' chains in 'avails', of the last
 * of which 'len' bytes were written. */
void mock_device_use_batch(struct mock_device *d,
                           const struct mock_avail avails[], size_t n,
                           uint32_t len);
void mock_device_publish(struct mock_device *d);

/* Returns true if the driver wants to be called for what was published since
 * the last time. */
bool mock_device_must_call(struct mock_device *d);

/* Asks for no kick, or for each; with event index, for the one for the chain
 * that the driver makes available at 'event' (its index; packed: bit 15 is the
 * wrap counter). */
void mock_device_set_no_notify(struct mock_device *d, bool);
void mock_device_set_avail_event(struct mock_device *d, uint16_t event);

/* Copies all of 'avail' into 'data', or the first 'len' bytes of 'data' to
 * 'avail'. */
void mock_device_read(const struct mock_device *d,
                      const struct mock_avail *avail, uint8_t *data);
void mock_device_write(const struct mock_device *d,
                       const struct mock_avail *avail, const uint8_t *data,
                       uint32_t len);

#endif /* virtq-mock-device.h */
