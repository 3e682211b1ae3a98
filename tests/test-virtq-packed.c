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

#include <errno.h>

#include "util.h"
#include "virtq-fixture.h"
#include "vhutest.h"

#define PACKED VIRTIO_BIT(VIRTIO_F_RING_PACKED)
#define INDIRECT VIRTIO_BIT(VIRTIO_F_INDIRECT_DESC)
#define EVENT_IDX VIRTIO_BIT(VIRTIO_F_EVENT_IDX)

#define N VIRTQ_DESC_F_NEXT
#define W VIRTQ_DESC_F_WRITE
#define I VIRTQ_DESC_F_INDIRECT
#define OWNERS (VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED)

#define DISABLE RING_EVENT_FLAGS_DISABLE
#define DESC RING_EVENT_FLAGS_DESC

/* Guest addresses. */
#define BUF (MOCK_A_GPA + 0x100000)     /* Of ordinary buffers. */
#define TABLE (MOCK_A_GPA + 0x80000)    /* Of an indirect table. */
#define BORDER MOCK_B_GPA               /* Of region B, right behind A. */
#define HOLE MOCK_HOLE_GPA              /* Of nothing, right behind B. */

/* One row, one chain in a ring of 7.  The chain begins at each descriptor in
 * turn. */

#define SIZE 7
#define READS VIRTQ_DEVICE_READS
#define WRITES VIRTQ_DEVICE_WRITES
#define USABLE(N_SLOTS, N_SEGS, BYTES)                              \
    .error = VIRTQ_ERROR_NONE, .n_slots = N_SLOTS, .n_segs = N_SEGS, \
    .bytes = BYTES
#define UNUSABLE(N_SLOTS) USABLE(N_SLOTS, 0, 0)
#define BROKEN(ERROR) .error = VIRTQ_ERROR_##ERROR, .n_segs = 0, .bytes = 0

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, id;
};

static const struct {
    const char *name;
    enum virtq_access access;
    struct desc descs[SIZE];
    enum virtq_error error;
    uint32_t n_slots, n_segs, bytes;
    uint64_t table_at;          /* TABLE if 0. */
    struct desc table[SIZE];
} rows[] = {
    /* "Buffer ID is included in the last descriptor in the list." */
    { "one buffer", READS, { { BUF, 100, 0, 3 } }, USABLE(1, 1, 100) },
    { "two buffers", READS, { { BUF, 100, N, 9 }, { BUF + 200, 50, 0, 3 } },
      USABLE(2, 2, 150) },
    { "as many as the ring has", READS,
      { { BUF, 1, N, 0 }, { BUF, 1, N, 0 }, { BUF, 1, N, 0 },
        { BUF, 1, N, 0 }, { BUF, 1, N, 0 }, { BUF, 1, N, 0 },
        { BUF, 1, 0, 3 } },
      USABLE(7, 7, 7) },
    { "one buffer, device writes", WRITES, { { BUF, 100, W, 3 } },
      USABLE(1, 1, 100) },

    /* The ID is the driver's business. */
    { "ID is the size", READS, { { BUF, 1, 0, SIZE } }, USABLE(1, 1, 1) },
    { "ID 0x7fff", READS, { { BUF, 1, 0, 0x7fff } }, USABLE(1, 1, 1) },
    { "ID 0xffff", WRITES, { { BUF, 1, W, 0xffff } }, USABLE(1, 1, 1) },

    /* Chains without an end, whatever their lengths add up to. */
    { "no end, 0 bytes", READS,
      { { BUF, 0, N, 0 }, { BUF, 0, N, 0 }, { BUF, 0, N, 0 },
        { BUF, 0, N, 0 }, { BUF, 0, N, 0 }, { BUF, 0, N, 0 },
        { BUF, 0, N, 0 } },
      BROKEN(CHAIN_LENGTH) },
    { "no end, 64 kB", READS,
      { { BUF, 65536, N, 0 }, { BUF, 65536, N, 0 }, { BUF, 65536, N, 0 },
        { BUF, 65536, N, 0 }, { BUF, 65536, N, 0 }, { BUF, 65536, N, 0 },
        { BUF, 65536, N, 0 } },
      BROKEN(CHAIN_LENGTH) },

    /* Length 0. */
    { "empty first", READS, { { BUF, 0, N, 0 }, { BUF, 10, 0, 3 } },
      USABLE(2, 1, 10) },
    { "empty last", READS, { { BUF, 10, N, 0 }, { BUF, 0, 0, 3 } },
      USABLE(2, 1, 10) },
    { "nothing but empty", READS, { { BUF, 0, N, 0 }, { BUF, 0, 0, 3 } },
      UNUSABLE(2) },
    { "empty, outside memory", READS, { { HOLE, 0, N, 0 }, { BUF, 1, 0, 3 } },
      USABLE(2, 1, 1) },

    /* Addresses. */
    { "into the next region", READS, { { BORDER - 9, 10, 0, 3 } },
      USABLE(1, 2, 10) },
    { "up to the end of memory", READS, { { HOLE - 10, 10, 0, 3 } },
      USABLE(1, 1, 10) },
    { "beyond the end of memory", READS, { { HOLE - 9, 10, 0, 3 } },
      BROKEN(ADDRESS) },
    { "address wraps around", READS,
      { { UINT64_C(0xffffffffffffff00), 512, 0, 3 } }, BROKEN(ADDRESS) },
    { "bad second buffer", READS, { { BUF, 10, N, 0 }, { HOLE, 10, 0, 3 } },
      BROKEN(ADDRESS) },

    /* Sums of lengths. */
    { "64 kB and 64", READS, { { BUF, 65536, N, 0 }, { BUF, 64, 0, 3 } },
      USABLE(2, 2, 65600) },
    { "64 kB and 65", READS, { { BUF, 65536, N, 0 }, { BUF, 65, 0, 3 } },
      UNUSABLE(2) },
    { "4 GB", READS, { { BUF, UINT32_MAX, N, 0 }, { BUF, 1, 0, 3 } },
      UNUSABLE(2) },
    { "4 GB to write to", WRITES,
      { { BUF, 65600, W | N, 0 }, { BUF, UINT32_MAX, W, 3 } },
      USABLE(2, 1, 65600) },

    /* Directions. */
    { "wrong direction", READS, { { BUF, 10, W, 3 } }, UNUSABLE(1) },
    { "other wrong direction", WRITES, { { BUF, 10, 0, 3 } }, UNUSABLE(1) },
    { "mixed directions", READS, { { BUF, 10, N, 0 }, { BUF, 10, W, 3 } },
      UNUSABLE(2) },

    /* Indirect tables: all of the table, in order.  NEXT and the flags that
     * say whose it is are reserved there, and so is the ID. */
    { "table", READS, { { TABLE, 32, I, 3 } }, USABLE(1, 2, 30), 0,
      { { BUF, 10, 0, 9 }, { BUF, 20, 0, 9 } } },
    { "table with reserved flags", READS, { { TABLE, 32, I, 3 } },
      USABLE(1, 2, 30), 0,
      { { BUF, 10, OWNERS, 9 }, { BUF, 20, N, 9 } } },
    { "table as large as the ring", READS, { { TABLE, 112, I, 3 } },
      USABLE(1, 7, 7), 0,
      { { BUF, 1, 0, 0 }, { BUF, 1, 0, 0 }, { BUF, 1, 0, 0 },
        { BUF, 1, 0, 0 }, { BUF, 1, 0, 0 }, { BUF, 1, 0, 0 },
        { BUF, 1, 0, 0 } } },
    { "larger table", READS, { { TABLE, 128, I, 3 } }, BROKEN(INDIRECT), 0,
      { { BUF, 10, 0, 0 } } },
    { "huge table", READS, { { TABLE, 0xfffffff0, I, 3 } }, BROKEN(INDIRECT),
      0, { { BUF, 10, 0, 0 } } },
    { "empty table", READS, { { TABLE, 0, I, 3 } }, BROKEN(INDIRECT), 0,
      { { BUF, 10, 0, 0 } } },
    { "one and a half", READS, { { TABLE, 24, I, 3 } }, BROKEN(INDIRECT), 0,
      { { BUF, 10, 0, 0 } } },
    { "table with WRITE", READS, { { TABLE, 16, I | W, 3 } },
      USABLE(1, 1, 10), 0, { { BUF, 10, 0, 0 } } },
    { "table with NEXT", READS,
      { { TABLE, 16, I | N, 0 }, { BUF, 10, 0, 3 } }, BROKEN(INDIRECT), 0,
      { { BUF, 10, 0, 0 } } },
    { "table behind a buffer", READS,
      { { BUF, 5, N, 0 }, { TABLE, 16, I, 3 } }, USABLE(2, 2, 15), 0,
      { { BUF, 10, 0, 0 } } },
    { "table in a table", READS, { { TABLE, 16, I, 3 } }, BROKEN(INDIRECT), 0,
      { { TABLE, 16, I, 0 } } },
    { "unaligned table", READS, { { TABLE + 3, 32, I, 3 } },
      USABLE(1, 2, 30), TABLE + 3, { { BUF, 10, 0, 0 }, { BUF, 20, 0, 0 } } },
    { "table crosses regions", READS, { { BORDER - 23, 32, I, 3 } },
      USABLE(1, 2, 30), BORDER - 23,
      { { BUF, 10, 0, 0 }, { BUF, 20, 0, 0 } } },
    { "table crosses into nothing", READS, { { HOLE - 16, 32, I, 3 } },
      BROKEN(ADDRESS) },
    { "table outside memory", READS, { { HOLE, 16, I, 3 } },
      BROKEN(ADDRESS) },
    { "bad address in a table", READS, { { TABLE, 16, I, 3 } },
      BROKEN(ADDRESS), 0, { { HOLE, 10, 0, 0 } } },
    { "table to write to", WRITES, { { TABLE, 16, I, 3 } }, USABLE(1, 1, 10),
      0, { { BUF, 10, W, 0 } } },
    { "table to write to, wrong direction", WRITES, { { TABLE, 16, I, 3 } },
      UNUSABLE(1), 0, { { BUF, 10, 0, 0 } } },
    { "table of DPDK's driver", READS, { { TABLE, 32, I, 3 } },
      USABLE(1, 2, 22), 0, { { BUF, 12, W, 0 }, { BUF, 10, 0, 0 } } },
};

/* Writes 'descs' into the ring from 'pos' on, as available.  Returns the
 * number of descriptors up to the end of the chain. */
static uint32_t
put_chain(const struct mock_driver *d, uint16_t pos,
          const struct desc descs[SIZE])
{
    uint32_t n = 0;

    for (bool more = true; more && n < SIZE; n++) {
        const struct desc *desc = &descs[n];
        uint16_t owner = (pos & 0x8000
                          ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED);

        mock_put_desc(d->mem, d->desc + 16 * (pos & 0x7fff), desc->addr,
                      desc->len, desc->id, desc->flags | owner);
        pos = mock_packed_advance(SIZE, pos, 1);
        more = desc->flags & N;
    }
    return n;
}

/* Takes a good buffer from 'pos' and puts it back.  After that, the memory
 * region is known, and the driver may still change what it wrote. */
static void
take_and_put_back(struct fixture *f, uint16_t pos)
{
    const struct desc descs[SIZE] = {
        { BUF, 10, f->config.access == WRITES ? W : 0, 0 },
    };
    struct virtq_chain chains[1];

    put_chain(&f->driver, pos, descs);
    CHECK_EQ(virtq_take_avail(f->vq, chains, 1), 1);
    CHECK(!virtq_has_avail(f->vq));
    CHECK_EQ(chains[0].n_segs, 1);
    virtq_put_back(f->vq, chains, 1);
}

/* Checks the chain of 'row' at 'start', as the first that its virtqueue sees
 * or, if 'warm', not as the first. */
static void
test_chain(size_t row, uint16_t start, bool warm)
{
    struct virtq_chain chains[VIRTQ_MAX_BURST];
    bool broken = rows[row].error;
    struct virtq_pos avail, used;
    struct fixture f;
    uint16_t id;

    fixture_init(&f, SIZE, start, PACKED | INDIRECT, rows[row].access);
    fixture_start(&f);
    for (int i = 0; i < SIZE; i++) {
        const struct desc *d = &rows[row].table[i];
        uint64_t table = rows[row].table_at ? rows[row].table_at : TABLE;

        if (d->addr || d->len || d->flags) {
            mock_put_desc(&f.mock_mem, table + 16 * i, d->addr, d->len, d->id,
                          d->flags);
        }
    }

    CHECK(!virtq_has_avail(f.vq));
    if (warm) {
        take_and_put_back(&f, start);
    }
    id = rows[row].descs[put_chain(&f.driver, start, rows[row].descs) - 1].id;
    CHECK(virtq_has_avail(f.vq));
    CHECK_EQ(virtq_take_avail(f.vq, chains, VIRTQ_MAX_BURST), !broken);
    CHECK_EQ(virtq_get_error(f.vq, NULL, NULL), rows[row].error);
    if (broken) {
        memset(&chains[0], 0, sizeof chains[0]);
    } else {
        CHECK_EQ(chains[0].id, id);
        CHECK_EQ(chains[0].n_descs, rows[row].n_slots);
        CHECK_EQ(chains[0].n_segs, rows[row].n_segs);
        CHECK_EQ(chains[0].size, rows[row].bytes);
        CHECK_EQ(f.counters.bad_chains, !rows[row].n_segs);
        fixture_check_chain(&f, &chains[0]);
    }

    /* A good chain goes back, a bad one as well, a broken ring stays as it
     * is, whatever we are asked to do. */
    virtq_add_used(f.vq, &chains[0], chains[0].size);
    CHECK(!mock_driver_has_used(&f.driver));
    virtq_publish_used(f.vq);
    virtq_call(f.vq);
    virtq_prefetch_next(f.vq);
    virtq_enable_kicks(f.vq, true);
    CHECK(!virtq_has_avail(f.vq));
    CHECK_EQ(fixture_calls(&f), !broken);
    CHECK_EQ(mock_driver_has_used(&f.driver), !broken);
    CHECK_EQ(virtq_take_avail(f.vq, chains, VIRTQ_MAX_BURST), 0);
    if (!broken) {
        uint64_t gpa = f.driver.desc + 16 * (start & 0x7fff);
        uint16_t pos = mock_packed_advance(SIZE, start, rows[row].n_slots);
        uint16_t flags = mock_get16(&f.mock_mem, gpa + 14);

        CHECK_EQ(mock_get16(&f.mock_mem, gpa + 12), id);
        CHECK_EQ(mock_get32(&f.mock_mem, gpa + 8), rows[row].bytes);
        CHECK_EQ(flags & ~OWNERS, rows[row].bytes ? W : 0);
        virtq_get_base(f.vq, &avail, &used);
        CHECK_EQ(used.idx, pos & 0x7fff);
        CHECK_EQ(used.wrap, pos >> 15);
        CHECK_EQ(avail.idx, used.idx);
        CHECK_EQ(avail.wrap, used.wrap);
    }
    fixture_uninit(&f);
}

static void
test_chains(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        check_name = rows[i].name;
        for (uint16_t j = 0; j < SIZE; j++) {
            for (int k = 0; k < 4; k++) {
                test_chain(i, j | (k & 1) << 15, k & 2);
            }
        }
    }
}

/* An indirect descriptor without the feature. */
static void
test_no_indirect(void)
{
    const struct desc descs[SIZE] = { { TABLE, 16, I, 0 } };
    struct virtq_chain chains[1];
    struct fixture f;

    fixture_init(&f, SIZE, 0x8000, PACKED, READS);
    fixture_start(&f);
    put_chain(&f.driver, 0x8000, descs);
    CHECK_EQ(virtq_take_avail(f.vq, chains, 1), 0);
    CHECK_EQ(virtq_get_error(f.vq, NULL, NULL), VIRTQ_ERROR_INDIRECT);
    fixture_uninit(&f);
}

/* Whose a descriptor is, at every combination of its flags and our wrap
 * counter. */
static void
test_flags(void)
{
    static const struct {
        uint16_t wrap, flags;
        bool avail;
    } cases[] = {
        { 1, 0, false },
        { 1, VIRTQ_DESC_F_AVAIL, true },
        { 1, VIRTQ_DESC_F_USED, false },
        { 1, OWNERS, false },
        { 0, 0, false },
        { 0, VIRTQ_DESC_F_AVAIL, false },
        { 0, VIRTQ_DESC_F_USED, true },
        { 0, OWNERS, false },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct virtq_chain chains[1];
        struct fixture f;

        fixture_init(&f, SIZE, cases[i].wrap << 15 | 3, PACKED, READS);
        fixture_start(&f);
        mock_put_desc(&f.mock_mem, f.driver.desc + 16 * 3, BUF, 10, 0,
                      cases[i].flags);
        CHECK_EQ(virtq_has_avail(f.vq), cases[i].avail);
        CHECK_EQ(virtq_n_avail(f.vq), cases[i].avail);
        CHECK_EQ(virtq_take_avail(f.vq, chains, 1), cases[i].avail);
        fixture_uninit(&f);
    }
}

/* A driver whose descriptors are always available, whatever we do: a burst is
 * one lap at most. */
static void
test_one_lap(void)
{
    static const uint32_t sizes[] = { 1, 2, 3, 5, 64, 65 };

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct virtq_chain chains[VIRTQ_MAX_BURST];
        const struct mock_buf buf = { BUF, 10 };
        struct fixture f;

        fixture_init(&f, sizes[i], 0x8000, PACKED, READS);
        fixture_start(&f);
        while (mock_driver_add(&f.driver, &buf, 1, 0, 0, 0) >= 0) {
            /* Nothing. */
        }
        mock_driver_publish(&f.driver);
        CHECK_EQ(virtq_take_avail(f.vq, chains, VIRTQ_MAX_BURST),
                 MIN(sizes[i], VIRTQ_MAX_BURST));
        fixture_uninit(&f);
    }
}

/* What virtq_create() refuses. */
static void
test_create(void)
{
    static const struct {
        const char *name;
        uint32_t size;
        uint64_t desc, driver, device; /* Guest addresses. */
        int error;
    } cases[] = {
        { "size 0", 0, BUF, BUF, BUF, EINVAL },
        { "size 1", 1, BUF, BUF, BUF, 0 },
        { "size 3", 3, BUF, BUF, BUF, 0 },
        { "size 255", 255, BUF, BUF, BUF, 0 },
        { "size 32767", 32767, BUF, BUF, BUF, 0 },
        { "size 32768", 32768, BUF, BUF, BUF, 0 },
        { "size 32769", 32769, BUF, BUF, BUF, EINVAL },
        { "size 2^31", UINT32_C(1) << 31, BUF, BUF, BUF, EINVAL },
        { "alignment", 8, BUF + 16, BUF + 4, BUF + 12, 0 },
        { "descriptors not aligned", 8, BUF + 8, BUF, BUF, EINVAL },
        { "driver area not aligned", 8, BUF, BUF + 2, BUF, EINVAL },
        { "device area not aligned", 8, BUF, BUF, BUF + 6, EINVAL },
        { "descriptors up to the end", 8, BORDER - 128, BUF, BUF, 0 },
        { "descriptors past the end", 8, BORDER - 112, BUF, BUF, EINVAL },
        { "driver area at the end", 8, BUF, HOLE - 4, BUF, 0 },
        { "driver area outside", 8, BUF, HOLE, BUF, EINVAL },
        { "device area at the end", 8, BUF, BUF, HOLE - 4, 0 },
        { "device area outside", 8, BUF, BUF,
          UINT64_MAX - 3 - MOCK_UVA_OFFSET, EINVAL },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct virtq *vq;
        struct fixture f;
        char *error;

        check_name = cases[i].name;
        fixture_init(&f, 8, 0, PACKED, READS);
        f.config.size = cases[i].size;
        f.config.desc_uva = cases[i].desc + MOCK_UVA_OFFSET;
        f.config.driver_uva = cases[i].driver + MOCK_UVA_OFFSET;
        f.config.device_uva = cases[i].device + MOCK_UVA_OFFSET;
        CHECK_EQ(virtq_create(&f.config, &vq, &error), cases[i].error);
        CHECK_EQ(!!vq, !cases[i].error);
        CHECK_EQ(!!error, !!cases[i].error);
        if (error) {
            printf("%s: %s\n", cases[i].name, error);
        }
        free(error);
        virtq_destroy(vq);
        fixture_uninit(&f);
    }
}

/* Where a virtqueue starts.
 *
 * A ring of 8 is written as 8 letters: available (A) or used (U), with wrap
 * counter 1 or, in lower case, 0. */

static void
put_ring(const struct mock_driver *d, const char *ring, int chain)
{
    for (int i = 0; i < 8; i++) {
        /* The first 'chain' descriptors are a chain. */
        mock_put16(d->mem, d->desc + 16 * i + 12, i == chain - 1 ? 0 : i);
        mock_put16(d->mem, d->desc + 16 * i + 14,
                   (ring[i] == 'A' ? VIRTQ_DESC_F_AVAIL
                    : ring[i] == 'a' ? VIRTQ_DESC_F_USED
                    : ring[i] == 'U' ? OWNERS : 0)
                   | (i && i < chain - 1 ? N : 0));
    }
}

static const struct {
    const char *name;
    const char *ring;
    uint16_t avail, used;   /* What the front-end says. */
    uint16_t avail_start, used_start;
} starts[] = {
    { "new", "uuuuuuuu", 0x8000, 0x8000, 0x8000, 0x8000 },
    { "new, half", "uuuuuuuu", 0x8000, 0, 0x8000, 0x8000 },
    { "new, filled", "AAAAAuuu", 0x8000, 0, 0x8000, 0x8000 },
    { "new, full", "AAAAAAAA", 0x8000, 0, 0x8000, 0x8000 },
    { "goes on", "UUUAAuuu", 0x8003, 0x8003, 0x8003, 0x8003 },
    { "goes on, half", "UUUAAuuu", 0x8003, 0, 0x8003, 0x8003 },
    { "goes on, empty", "UUUUUuuu", 0x8005, 0x8005, 0x8005, 0x8005 },
    { "second lap", "uuaaaUUU", 2, 2, 2, 2 },
    { "second lap, empty", "UUUUUUUU", 0, 0, 0, 0 },
    { "over the wrap", "aaUUUUAA", 0x8006, 0x8006, 0x8006, 0x8006 },
    { "over the other wrap", "AAuuuuaa", 6, 6, 6, 6 },
    { "in flight", "UUUAAuuu", 0x8004, 0x8003, 0x8003, 0x8003 },
    { "used behind", "UUUAAuuu", 0x8003, 0x8002, 0x8003, 0x8003 },
    { "used too large", "UUUAAuuu", 0x8003, 0x8008, 0x8003, 0x8003 },

    /* From a back-end that died. */
    { "old", "UUUAAuuu", 0x8000, 0x8000, 0x8003, 0x8003 },
    { "old, empty", "UUUUUuuu", 0x8000, 0x8000, 0x8005, 0x8005 },
    { "old, full", "AAAAAAAA", 3, 3, 0x8000, 0x8000 },
    { "old, second lap", "uuaaaUUU", 0x8000, 0x8000, 2, 2 },
    { "old, over the wrap", "aaUUUUAA", 0x8000, 0x8000, 0x8006, 0x8006 },
    { "old, at the wrap", "aaUUUUUU", 0x8000, 0x8000, 0, 0 },
    { "too large", "UUUAAuuu", 0x8009, 0x8009, 0x8003, 0x8003 },
    { "ahead", "UUUAAuuu", 0x8006, 0x8006, 0x8003, 0x8003 },
    { "old, in the middle", "uuaaaaaa", 0x8000, 0x8000, 2, 2 },
    { "wrong lap", "UUUAAuuu", 3, 3, 0x8003, 0x8003 },

    /* A chain of three was used last. */
    { "chain", "UAAAAuuu", 0x8003, 0x8003, 0x8003, 0x8003 },
    { "chain, old", "UAAAAuuu", 0x8000, 0x8000, 0x8001, 0x8001 },
    { "chain, half", "UAAAAuuu", 0x8003, 0, 0x8003, 0x8003 },
    { "chain, in the middle", "UAAAAuuu", 0x8002, 0x8002, 0x8001, 0x8001 },

    /* A burst whose first chain was not published. */
    { "burst", "UUAUUuuu", 0x8000, 0x8000, 0x8005, 0x8005 },
    { "burst over the wrap", "uuaaUUUA", 0x8000, 0x8000, 2, 2 },
};

static void
test_start(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
        struct virtq_pos start, avail, used;
        struct fixture f;

        check_name = starts[i].name;
        fixture_init(&f, 8, 0, PACKED, READS);
        put_ring(&f.driver, starts[i].ring,
                 strncmp(check_name, "chain", 5) ? 0 : 3);
        f.config.avail.idx = starts[i].avail & 0x7fff;
        f.config.avail.wrap = starts[i].avail >> 15;
        f.config.used.idx = starts[i].used & 0x7fff;
        f.config.used.wrap = starts[i].used >> 15;
        fixture_start(&f);
        virtq_get_base(f.vq, &avail, &used);
        start = fixture_pos(&f, starts[i].avail_start);
        CHECK_EQ(avail.idx, start.idx);
        CHECK_EQ(avail.wrap, start.wrap);
        start = fixture_pos(&f, starts[i].used_start);
        CHECK_EQ(used.idx, start.idx);
        CHECK_EQ(used.wrap, start.wrap);
        if (!strcmp(starts[i].name, "burst")) {
            CHECK_EQ(mock_get16(&f.mock_mem, f.driver.desc + 16 * 2 + 14),
                     OWNERS);
        }
        fixture_uninit(&f);
    }
}

/* Devices that die, over and over, while a driver goes on: each chain comes
 * back once.  Without a record, chains have one descriptor; with one, what was
 * not published is given back empty. */
static void
run_killed(uint32_t size, uint16_t start, bool recorded)
{
    const struct mock_buf bufs[3] = { { BUF, 1 }, { BUF, 2 }, { BUF, 3 } };
    uint64_t n_added = 0, n_used = 0;
    uint32_t seed = size;
    virtio_le64 record;
    struct fixture f;

    fixture_init(&f, size, start, PACKED, WRITES);
    f.config.record = recorded ? &record : NULL;
    fixture_start(&f);
    f.config.recorded = recorded;
    while (n_used < 5000) {
        struct virtq_chain chains[VIRTQ_MAX_BURST];
        uint32_t lens[VIRTQ_MAX_BURST];
        unsigned int how = mock_random(&seed, 5);
        uint64_t token;
        uint16_t id;
        uint32_t len;
        size_t n;

        for (int i = mock_random(&seed, 9); i > 0; i--) {
            n = 1 + mock_random(&seed, recorded ? MIN(size, 3) : 1);
            n_added += mock_driver_add(&f.driver, bufs, n, 0, 0, n_added) >= 0;
        }
        mock_driver_publish(&f.driver);

        n = virtq_take_avail(f.vq, chains, 1 + mock_random(&seed, 9));
        for (size_t i = 0; i < n; i++) {
            lens[i] = chains[i].size;
        }
        if (how != 3) {
            virtq_add_used_burst(f.vq, chains, lens, n);
            if (how != 4) {
                virtq_publish_used(f.vq);
            }
        }
        if (how >= 2) {
            fixture_start(&f);  /* At the old base. */
            CHECK_EQ(virtq_is_from_record(f.vq), recorded);
        }
        while (mock_random(&seed, 8)
               && mock_driver_get_used(&f.driver, &id, &len, &token)) {
            CHECK_EQ(token, n_used);
            CHECK(len > 0 || recorded);
            n_used++;
        }
    }
    fixture_uninit(&f);
}

static void
test_killed(void)
{
    static const uint32_t sizes[] = { 1, 2, 3, 5, 8, 100 };

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        char *name = xasprintf("killed, size %"PRIu32, sizes[i]);

        check_name = name;
        run_killed(sizes[i], 0x8000, false);
        run_killed(sizes[i], 0x8000, true);
        run_killed(sizes[i], 2, true);
        free(name);
    }
}

/* Memory that has vanished looks empty. */
static void
test_dead(void)
{
    const struct desc descs[SIZE] = { { BUF, 10, 0, 0 } };
    struct virtq_chain chains[1];
    struct fixture f;

    fixture_init(&f, SIZE, 0x8000, PACKED, READS);
    fixture_start(&f);
    put_chain(&f.driver, 0x8000, descs);
    CHECK_EQ(virtq_take_avail(f.vq, chains, 1), 1);
    virtq_put_back(f.vq, chains, 1);
    atomic_store(&f.mem->health->dead, true);
    CHECK_EQ(virtq_take_avail(f.vq, chains, 1), 0);
    CHECK(!virtq_has_avail(f.vq));
    CHECK_EQ(virtq_get_error(f.vq, NULL, NULL), VIRTQ_ERROR_NONE);
    fixture_uninit(&f);
}

/* Notifications. */

static void
test_call_flags(void)
{
    static const uint32_t sizes[] = { 1, 5, 64 };

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct fixture f;

        fixture_init(&f, sizes[i], 0x8000, PACKED, READS);
        fixture_start(&f);
        CHECK_EQ(f.counters.calls, 1);      /* From virtq_create(). */
        CHECK_EQ(fixture_use(&f, 1), 1);
        CHECK_EQ(fixture_use(&f, sizes[i]), 1);     /* All of the ring. */
        virtq_call(f.vq);
        CHECK_EQ(fixture_calls(&f), 0);     /* None for nothing. */
        mock_driver_set_no_interrupt(&f.driver, true);
        CHECK_EQ(fixture_use(&f, sizes[i]), 0);
        CHECK_EQ(f.counters.calls, 3);
        CHECK_EQ(f.counters.calls_suppressed, 1);
        mock_driver_set_no_interrupt(&f.driver, false);
        CHECK_EQ(fixture_use(&f, 1), 1);

        /* Not negotiated, so it means nothing. */
        mock_driver_set_used_event(&f.driver, 0x8003);
        CHECK_EQ(fixture_use(&f, 1), 1);
        CHECK_EQ(fixture_use(&f, 1), 1);

        /* Without an eventfd, none.  Then the new one gets one at once. */
        virtq_set_call_fd(f.vq, -1);
        CHECK_EQ(fixture_use(&f, 1), 0);
        virtq_set_call_fd(f.vq, f.call_fd);
        CHECK_EQ(fixture_calls(&f), 1);
        fixture_uninit(&f);
    }
}

/* A descriptor event, at every place relative to what gets used: a
 * notification is due if that descriptor was among it. */
static void
test_call_event(void)
{
    static const uint32_t sizes[] = { 1, 2, 5, 64 };

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        uint32_t size = sizes[i];
        struct fixture f;

        fixture_init(&f, size, 0x8000, PACKED | EVENT_IDX, READS);
        fixture_start(&f);
        mock_driver_set_used_event(&f.driver, 0x8000);
        CHECK_EQ(fixture_use(&f, 1), 1);     /* The first, in any case. */
        for (uint32_t n = 1; n <= size; n += 1 + n / 3) {
            for (uint32_t ofs = 0; ofs < size; ofs++) {
                mock_driver_set_used_event(
                    &f.driver, mock_packed_advance(
                        size, f.driver.next_used, ofs));
                CHECK_EQ(fixture_use(&f, n), ofs < n);
            }
        }

        /* Behind, by up to one lap less what is used. */
        for (uint32_t ofs = size; ofs < 2 * size - 1; ofs++) {
            mock_driver_set_used_event(
                &f.driver, mock_packed_advance(
                    size, f.driver.next_used, ofs + 1));
            CHECK_EQ(fixture_use(&f, 1), 0);
        }

        /* Flags count, too; nonsense is taken for "enable". */
        mock_packed_set_event(&f.driver, f.driver.next_used, DISABLE);
        CHECK_EQ(fixture_use(&f, 1), 0);
        mock_packed_set_event(&f.driver, f.driver.next_used ^ 0x8000, 0);
        CHECK_EQ(fixture_use(&f, 1), 1);
        mock_packed_set_event(&f.driver, f.driver.next_used ^ 0x8000, 3);
        CHECK_EQ(fixture_use(&f, 1), 1);
        mock_packed_set_event(&f.driver, 0x7fff, DESC);
        CHECK_EQ(fixture_use(&f, 1), 1);

        /* A new virtqueue on the same ring does not know what the driver
         * saw. */
        mock_driver_set_used_event(
            &f.driver, mock_packed_advance(size, f.driver.next_used,
                                           2 * size - 1));
        fixture_start(&f);
        CHECK_EQ(fixture_use(&f, 1), 1);
        fixture_uninit(&f);
    }
}

/* The other way: we poll and do not want to be kicked. */
static void
test_kicks(void)
{
    static const uint32_t sizes[] = { 1, 5, 64 };

    for (size_t i = 0; i < 2 * ARRAY_SIZE(sizes); i++) {
        uint64_t features = i & 1 ? PACKED | EVENT_IDX : PACKED;
        const struct mock_buf buf = { BUF, 10 };
        struct fixture f;

        fixture_init(&f, sizes[i / 2], 0x8000, features, READS);
        fixture_start(&f);
        for (int j = 0; j < 100; j++) {
            fixture_use(&f, 1);
            CHECK(!mock_driver_must_kick(&f.driver));
        }
        for (int j = 0; j < 100; j++) {
            virtq_enable_kicks(f.vq, true);
            CHECK(!mock_driver_must_kick(&f.driver) || !(i & 1));
            mock_driver_add(&f.driver, &buf, 1, 0, 0, 0);
            mock_driver_publish(&f.driver);
            CHECK(mock_driver_must_kick(&f.driver));
            if (f.driver.n_free) {
                mock_driver_add(&f.driver, &buf, 1, 0, 0, 0);
                mock_driver_publish(&f.driver);
                CHECK_EQ(mock_driver_must_kick(&f.driver), !(i & 1));
            }
            while (f.driver.n_outstanding) {
                struct virtq_chain chains[1];
                uint64_t token;
                uint32_t len;
                uint16_t id;

                CHECK_EQ(virtq_take_avail(f.vq, chains, 1), 1);
                virtq_add_used(f.vq, &chains[0], 0);
                virtq_publish_used(f.vq);
                CHECK(mock_driver_get_used(&f.driver, &id, &len, &token));
            }
        }
        virtq_enable_kicks(f.vq, false);
        fixture_use(&f, 1);
        CHECK(!mock_driver_must_kick(&f.driver));
        fixture_uninit(&f);
    }
}

static void
test_virtq_packed_main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*function)(void);
    } tests[] = {
        { "chains", test_chains },
        { "no-indirect", test_no_indirect },
        { "flags", test_flags },
        { "one-lap", test_one_lap },
        { "create", test_create },
        { "start", test_start },
        { "killed", test_killed },
        { "dead", test_dead },
        { "call-flags", test_call_flags },
        { "call-event", test_call_event },
        { "kicks", test_kicks },
    };

    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc < 2 || !strcmp(argv[1], tests[i].name)) {
            check_name = tests[i].name;
            tests[i].function();
        }
    }
}

VHUTEST_REGISTER("virtq-packed", test_virtq_packed_main);
