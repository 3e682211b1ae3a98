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

#define INDIRECT VIRTIO_BIT(VIRTIO_F_INDIRECT_DESC)
#define EVENT_IDX VIRTIO_BIT(VIRTIO_F_EVENT_IDX)
#define ON_EMPTY VIRTIO_BIT(VIRTIO_F_NOTIFY_ON_EMPTY)

#define N VIRTQ_DESC_F_NEXT
#define W VIRTQ_DESC_F_WRITE
#define I VIRTQ_DESC_F_INDIRECT

/* Guest addresses. */
#define BUF (MOCK_A_GPA + 0x100000)     /* Of ordinary buffers. */
#define TABLE (MOCK_A_GPA + 0x80000)    /* Of an indirect table. */
#define BORDER MOCK_B_GPA               /* Of region B, right behind A. */
#define HOLE MOCK_HOLE_GPA              /* Of nothing, right behind B. */

/* One row, one chain in a ring of 8.  The chain begins at descriptor 0. */

#define READS VIRTQ_DEVICE_READS
#define WRITES VIRTQ_DEVICE_WRITES
#define USABLE(N_SEGS, SIZE)                                        \
    .error = VIRTQ_ERROR_NONE, .n_segs = N_SEGS, .size = SIZE
#define UNUSABLE USABLE(0, 0)
#define BROKEN(ERROR) .error = VIRTQ_ERROR_##ERROR, .n_segs = 0, .size = 0

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

static const struct {
    const char *name;
    enum virtq_access access;
    struct desc descs[8];
    enum virtq_error error;
    unsigned int n_segs;
    uint32_t size;
    uint64_t table_at;          /* TABLE if 0. */
    struct desc table[8];
} rows[] = {
    { "one buffer", READS, { { BUF, 100, 0, 0 } }, USABLE(1, 100) },
    { "two buffers", READS,
      { { BUF, 100, N, 7 }, [7] = { BUF + 200, 50, 0, 0 } }, USABLE(2, 150) },
    { "one buffer, device writes", WRITES, { { BUF, 100, W, 0 } },
      USABLE(1, 100) },
    { "'next' without NEXT", READS, { { BUF, 100, 0, 0xffff } },
      USABLE(1, 100) },
    { "flags of the other format", READS,
      { { BUF, 100, VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED, 0 } },
      USABLE(1, 100) },
    { "as many as the ring has", READS,
      { { BUF, 1, N, 1 }, { BUF, 1, N, 2 }, { BUF, 1, N, 3 }, { BUF, 1, N, 4 },
        { BUF, 1, N, 5 }, { BUF, 1, N, 6 }, { BUF, 1, N, 7 },
        { BUF, 1, 0, 0 } },
      USABLE(8, 8) },
    { "the ring itself", READS, { { MOCK_A_GPA, 100, 0, 0 } },
      USABLE(1, 100) },

    /* Loops, whatever their lengths add up to. */
    { "loop of one, 0 bytes", READS, { { BUF, 0, N, 0 } },
      BROKEN(CHAIN_LENGTH) },
    { "loop of one, 1 byte", READS, { { BUF, 1, N, 0 } },
      BROKEN(CHAIN_LENGTH) },
    { "loop of one, 64 kB", READS, { { BUF, 65536, N, 0 } },
      BROKEN(CHAIN_LENGTH) },
    { "loop of two", READS, { { BUF, 4096, N, 1 }, { BUF, 1, N, 0 } },
      BROKEN(CHAIN_LENGTH) },
    { "loop without the head", READS,
      { { BUF, 1, N, 1 }, { BUF, 0, N, 2 }, { BUF, 0, N, 1 } },
      BROKEN(CHAIN_LENGTH) },
    { "loop of all", READS,
      { { BUF, 1, N, 1 }, { BUF, 1, N, 2 }, { BUF, 1, N, 3 }, { BUF, 1, N, 4 },
        { BUF, 1, N, 5 }, { BUF, 1, N, 6 }, { BUF, 1, N, 7 },
        { BUF, 1, N, 0 } },
      BROKEN(CHAIN_LENGTH) },
    { "'next' is the size", READS, { { BUF, 1, N, 8 } }, BROKEN(DESC_INDEX) },
    { "'next' is 65535", READS, { { BUF, 1, N, 0xffff } },
      BROKEN(DESC_INDEX) },

    /* Length 0. */
    { "empty first", READS, { { BUF, 0, N, 1 }, { BUF, 10, 0, 0 } },
      USABLE(1, 10) },
    { "empty last", READS, { { BUF, 10, N, 1 }, { BUF, 0, 0, 0 } },
      USABLE(1, 10) },
    { "nothing but empty", READS, { { BUF, 0, N, 1 }, { BUF, 0, 0, 0 } },
      UNUSABLE },
    { "empty, outside memory", READS, { { HOLE, 0, N, 1 }, { BUF, 10, 0, 0 } },
      USABLE(1, 10) },

    /* Addresses. */
    { "up to the end of a region", READS, { { BORDER - 10, 10, 0, 0 } },
      USABLE(1, 10) },
    { "into the next region", READS, { { BORDER - 9, 10, 0, 0 } },
      USABLE(2, 10) },
    { "second one into the next region", READS,
      { { BUF, 5, N, 1 }, { BORDER - 9, 10, 0, 0 } }, USABLE(3, 15) },
    { "second one beyond the end of memory", READS,
      { { HOLE - 20, 5, N, 1 }, { HOLE - 9, 10, 0, 0 } }, BROKEN(ADDRESS) },
    { "up to the end of memory", READS, { { HOLE - 10, 10, 0, 0 } },
      USABLE(1, 10) },
    { "beyond the end of memory", READS, { { HOLE - 9, 10, 0, 0 } },
      BROKEN(ADDRESS) },
    { "far beyond the end of memory", READS, { { HOLE - 9, 65000, 0, 0 } },
      BROKEN(ADDRESS) },
    { "before the first region", READS, { { MOCK_A_GPA - 1, 2, 0, 0 } },
      BROKEN(ADDRESS) },
    { "in the hole", READS, { { HOLE, 1, 0, 0 } }, BROKEN(ADDRESS) },
    { "behind the last region", READS,
      { { MOCK_C_GPA + MOCK_C_SIZE, 1, 0, 0 } }, BROKEN(ADDRESS) },
    { "address 0", READS, { { 0, 1, 0, 0 } }, BROKEN(ADDRESS) },
    { "address wraps around", READS,
      { { UINT64_C(0xffffffffffffff00), 512, 0, 0 } }, BROKEN(ADDRESS) },
    { "last byte of all", READS, { { UINT64_MAX, 1, 0, 0 } },
      BROKEN(ADDRESS) },
    { "bad second buffer", READS, { { BUF, 10, N, 1 }, { HOLE, 10, 0, 0 } },
      BROKEN(ADDRESS) },

    /* Sums of lengths. */
    { "64 kB - 1", READS, { { BUF, 65534, N, 1 }, { BUF, 1, 0, 0 } },
      USABLE(2, 65535) },
    { "64 kB", READS, { { BUF, 65535, N, 1 }, { BUF, 1, 0, 0 } },
      USABLE(2, 65536) },
    { "64 kB and 64", READS, { { BUF, 65536, N, 1 }, { BUF, 64, 0, 0 } },
      USABLE(2, 65600) },
    { "64 kB and 65", READS, { { BUF, 65536, N, 1 }, { BUF, 65, 0, 0 } },
      UNUSABLE },
    { "4 GB - 1", READS, { { BUF, UINT32_MAX, 0, 0 } }, UNUSABLE },
    { "4 GB", READS, { { BUF, UINT32_MAX, N, 1 }, { BUF, 1, 0, 0 } },
      UNUSABLE },
    { "4 GB and 60", READS, { { BUF, 60, N, 1 }, { BUF, UINT32_MAX, N, 2 },
                              { BUF, 1, 0, 0 } },
      UNUSABLE },
    { "1 MB to write to", WRITES, { { BUF, 1 << 20, W, 0 } },
      USABLE(1, 65600) },
    { "18 pages to write to", WRITES,
      { { BUF, 12, W | N, 1 }, { BUF, 36864, W | N, 2 },
        { BUF, 36864, W, 0 } },
      USABLE(3, 65600) },
    { "4 GB to write to", WRITES,
      { { BUF, 65600, W | N, 1 }, { BUF, UINT32_MAX, W, 0 } },
      USABLE(1, 65600) },

    /* Directions. */
    { "wrong direction", READS, { { BUF, 10, W, 0 } }, UNUSABLE },
    { "other wrong direction", WRITES, { { BUF, 10, 0, 0 } }, UNUSABLE },
    { "mixed directions", READS, { { BUF, 10, N, 1 }, { BUF, 10, W, 0 } },
      UNUSABLE },
    { "other mixed directions", WRITES,
      { { BUF, 10, N, 1 }, { BUF, 10, W, 0 } }, UNUSABLE },
    { "wrong direction and a loop", READS, { { BUF, 10, W | N, 0 } },
      BROKEN(CHAIN_LENGTH) },

    /* Indirect tables. */
    { "table", READS, { { TABLE, 32, I, 0 } }, USABLE(2, 30), 0,
      { { BUF, 10, N, 1 }, { BUF, 20, 0, 0 } } },
    { "table, not in order", READS, { { TABLE, 48, I, 0 } }, USABLE(3, 60), 0,
      { { BUF, 10, N, 2 }, { BUF, 20, 0, 0 }, { BUF, 30, N, 1 } } },
    { "table as large as the ring", READS, { { TABLE, 128, I, 0 } },
      USABLE(8, 8), 0,
      { { BUF, 1, N, 1 }, { BUF, 1, N, 2 }, { BUF, 1, N, 3 }, { BUF, 1, N, 4 },
        { BUF, 1, N, 5 }, { BUF, 1, N, 6 }, { BUF, 1, N, 7 },
        { BUF, 1, 0, 0 } } },
    { "larger table", READS, { { TABLE, 144, I, 0 } }, BROKEN(INDIRECT), 0,
      { { BUF, 10, 0, 0 } } },
    { "huge table", READS, { { TABLE, 0xfffffff0, I, 0 } }, BROKEN(INDIRECT),
      0, { { BUF, 10, 0, 0 } } },
    { "empty table", READS, { { TABLE, 0, I, 0 } }, BROKEN(INDIRECT), 0,
      { { BUF, 10, 0, 0 } } },
    { "half a descriptor", READS, { { TABLE, 8, I, 0 } }, BROKEN(INDIRECT), 0,
      { { BUF, 10, 0, 0 } } },
    { "one and a half", READS, { { TABLE, 24, I, 0 } }, BROKEN(INDIRECT), 0,
      { { BUF, 10, 0, 0 } } },
    { "table with WRITE", READS, { { TABLE, 16, I | W, 0 } }, USABLE(1, 10), 0,
      { { BUF, 10, 0, 0 } } },
    { "table with NEXT", READS, { { TABLE, 16, I | N, 1 }, { BUF, 10, 0, 0 } },
      BROKEN(INDIRECT), 0, { { BUF, 10, 0, 0 } } },
    { "table behind a buffer", READS,
      { { BUF, 5, N, 1 }, { TABLE, 16, I, 0 } },
      USABLE(2, 15), 0, { { BUF, 10, 0, 0 } } },
    { "table in a table", READS, { { TABLE, 32, I, 0 } }, BROKEN(INDIRECT), 0,
      { { BUF, 10, N, 1 }, { TABLE, 16, I, 0 } } },
    { "unaligned table", READS, { { TABLE + 3, 32, I, 0 } }, USABLE(2, 30),
      TABLE + 3, { { BUF, 10, N, 1 }, { BUF, 20, 0, 0 } } },
    { "table crosses regions", READS, { { BORDER - 23, 32, I, 0 } },
      USABLE(2, 30), BORDER - 23, { { BUF, 10, N, 1 }, { BUF, 20, 0, 0 } } },
    { "table crosses into nothing", READS, { { HOLE - 16, 32, I, 0 } },
      BROKEN(ADDRESS) },
    { "table outside memory", READS, { { HOLE, 16, I, 0 } },
      BROKEN(ADDRESS) },
    { "table wraps around", READS, { { UINT64_MAX - 15, 32, I, 0 } },
      BROKEN(ADDRESS) },
    { "loop in a table", READS, { { TABLE, 32, I, 0 } },
      BROKEN(CHAIN_LENGTH), 0, { { BUF, 10, N, 1 }, { BUF, 0, N, 0 } } },
    { "'next' is the size of the table", READS, { { TABLE, 48, I, 0 } },
      BROKEN(DESC_INDEX), 0, { { BUF, 10, N, 3 } } },
    { "table of the wrong direction", READS, { { TABLE, 16, I, 0 } },
      UNUSABLE, 0, { { BUF, 10, W, 0 } } },
    { "table to write to", WRITES, { { TABLE, 16, I, 0 } }, USABLE(1, 10), 0,
      { { BUF, 10, W, 0 } } },
    { "bad address in a table", READS, { { TABLE, 16, I, 0 } },
      BROKEN(ADDRESS), 0, { { HOLE, 10, 0, 0 } } },
};

static void
put_descs(const struct mock_mem *mem, uint64_t gpa, const struct desc descs[8])
{
    for (int i = 0; i < 8; i++) {
        const struct desc *d = &descs[i];

        if (d->addr || d->len || d->flags) {
            mock_put_desc(mem, gpa + 16 * i, d->addr, d->len, d->flags,
                          d->next);
        }
    }
}

/* Makes the chain at descriptor 'head' available without more ado. */
static void
make_avail(struct mock_driver *d, uint16_t head)
{
    mock_put16(d->mem, d->avail + 4 + 2 * (d->next_avail++ % d->size), head);
    mock_driver_publish(d);
    d->chains[head % d->size].outstanding = true;
}

/* Makes a buffer available that is just as it should be, has 'vq' take it, and
 * puts it back.  After that, the memory region and the driver's index are
 * known, and the driver may still change what it wrote. */
static void
take_and_put_back(struct fixture *f)
{
    struct virtq_chain chains[1];

    mock_put_desc(&f->mock_mem, f->driver.desc, BUF, 10,
                  f->config.access == WRITES ? W : 0, 0);
    make_avail(&f->driver, 0);
    CHECK_EQ(virtq_take_avail(f->vq, chains, 1), 1);
    CHECK(!virtq_has_avail(f->vq));
    CHECK_EQ(chains[0].n_segs, 1);
    virtq_put_back(f->vq, chains, 1);
    mock_put_desc(&f->mock_mem, f->driver.desc, 0, 0, 0, 0);
}

/* Checks the chain of row 'i', as the first that its virtqueue sees or, if
 * 'warm', not as the first. */
static void
test_chain(size_t i, bool warm)
{
    struct virtq_chain chains[VIRTQ_MAX_BURST];
    bool broken = rows[i].error;
    uint64_t token;
    struct fixture f;
    uint16_t head;
    uint32_t len;

    check_name = rows[i].name;
    fixture_init(&f, 8, 0, INDIRECT, rows[i].access);
    fixture_start(&f);
    CHECK(!virtq_has_avail(f.vq));
    if (warm) {
        take_and_put_back(&f);
    }
    put_descs(&f.mock_mem, f.driver.desc, rows[i].descs);
    put_descs(&f.mock_mem,
              rows[i].table_at ? rows[i].table_at : TABLE, rows[i].table);

    if (!warm) {
        make_avail(&f.driver, 0);
    }
    CHECK(virtq_has_avail(f.vq));
    CHECK_EQ(virtq_take_avail(f.vq, chains, VIRTQ_MAX_BURST), !broken);
    CHECK_EQ(virtq_get_error(f.vq, NULL, NULL), rows[i].error);
    CHECK_EQ(f.counters.broken, broken);
    if (!broken) {
        CHECK_EQ(chains[0].id, 0);
        CHECK_EQ(chains[0].n_segs, rows[i].n_segs);
        CHECK_EQ(chains[0].size, rows[i].size);
        CHECK_EQ(f.counters.bad_chains, !rows[i].n_segs);
        fixture_check_chain(&f, &chains[0]);
    }

    /* A good chain goes back, a bad one as well, a broken ring stays
     * as it is, whatever we are asked to do. */
    if (broken) {
        memset(&chains[0], 0, sizeof chains[0]);
    }
    virtq_add_used(f.vq, &chains[0], chains[0].size);
    virtq_publish_used(f.vq);
    virtq_call(f.vq);
    virtq_prefetch_next(f.vq);
    virtq_enable_kicks(f.vq, true);
    CHECK(!virtq_has_avail(f.vq));
    CHECK_EQ(fixture_calls(&f), !broken);
    CHECK_EQ(mock_driver_get_used(&f.driver, &head, &len, &token),
             !broken);
    CHECK_EQ(virtq_take_avail(f.vq, chains, VIRTQ_MAX_BURST), 0);
    if (!broken) {
        CHECK_EQ(len, rows[i].size);
    }
    fixture_uninit(&f);
}

static void
test_chains(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        test_chain(i, false);
        test_chain(i, true);
    }
}

/* An indirect descriptor without the feature. */
static void
test_no_indirect(void)
{
    struct virtq_chain chains[1];
    struct fixture f;

    fixture_init(&f, 8, 0, 0, READS);
    fixture_start(&f);
    mock_put_desc(&f.mock_mem, f.driver.desc, TABLE, 16, I, 0);
    make_avail(&f.driver, 0);
    CHECK_EQ(virtq_take_avail(f.vq, chains, 1), 0);
    CHECK_EQ(virtq_get_error(f.vq, NULL, NULL), VIRTQ_ERROR_INDIRECT);
    fixture_uninit(&f);
}

/* Chains of many tiny pieces. */
static void
test_pieces(void)
{
    static const struct {
        uint32_t size, n, len, n_segs;
    } cases[] = {
        { 1024, 1024, 1, 1024 },
        { 1024, 1024, 0, 0 },
        { 32768, 32768, 2, 32768 },
        { 32768, 32768, 3, 0 },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct virtq_chain chains[2];
        struct fixture f;
        size_t n_taken;

        fixture_init(&f, cases[i].size, 0, 0, READS);
        fixture_start(&f);
        for (uint32_t j = 0; j < cases[i].n; j++) {
            mock_put_desc(&f.mock_mem, f.driver.desc + 16 * j, BUF + j,
                          cases[i].len, j < cases[i].n - 1 ? N : 0, j + 1);
        }

        /* The second one may have to wait for lack of space. */
        make_avail(&f.driver, 0);
        make_avail(&f.driver, 0);
        n_taken = 0;
        while (n_taken < 2) {
            size_t taken = virtq_take_avail(f.vq, chains, 2);

            CHECK(taken > 0);
            for (size_t k = 0; k < taken; k++) {
                CHECK_EQ(chains[k].n_segs, cases[i].n_segs);
                fixture_check_chain(&f, &chains[k]);
            }
            n_taken += taken;
        }
        CHECK_EQ(f.counters.bad_chains, cases[i].n_segs ? 0 : 2);
        fixture_uninit(&f);
    }
}

/* Heads and the available index. */
static void
test_index(void)
{
    static const struct {
        const char *name;
        uint16_t distance;      /* Of the driver from us. */
        uint16_t head;          /* In all the elements. */
        uint16_t n;             /* Chains taken. */
        enum virtq_error error;
    } cases[] = {
        { "nothing", 0, 0, 0, VIRTQ_ERROR_NONE },
        { "one", 1, 7, 1, VIRTQ_ERROR_NONE },
        { "full", 8, 7, 8, VIRTQ_ERROR_NONE },
        { "more than full", 9, 7, 0, VIRTQ_ERROR_AVAIL_INDEX },
        { "0x8000", 0x8000, 7, 0, VIRTQ_ERROR_AVAIL_INDEX },
        { "backward", 0xffff, 7, 0, VIRTQ_ERROR_AVAIL_INDEX },
        { "head is the size", 1, 8, 0, VIRTQ_ERROR_DESC_INDEX },
        { "head is 65535", 1, 0xffff, 0, VIRTQ_ERROR_DESC_INDEX },
    };
    static const uint16_t starts[] = { 0, 3, 0x7fff, 0xfffc, 0xffff };

    for (size_t i = 0; i < ARRAY_SIZE(cases) * ARRAY_SIZE(starts); i++) {
        size_t row = i / ARRAY_SIZE(starts);
        uint16_t start = starts[i % ARRAY_SIZE(starts)];
        struct virtq_chain chains[VIRTQ_MAX_BURST];
        uint64_t value, limit;
        struct fixture f;

        check_name = cases[row].name;
        fixture_init(&f, 8, start, 0, READS);
        fixture_start(&f);
        for (int j = 0; j < 8; j++) {
            mock_put_desc(&f.mock_mem, f.driver.desc + 16 * j, BUF, 10, 0, 0);
            mock_put16(&f.mock_mem, f.driver.avail + 4 + 2 * j,
                       cases[row].head);
        }
        mock_put16(&f.mock_mem, f.driver.avail + 2,
                   start + cases[row].distance);
        CHECK_EQ(virtq_n_avail(f.vq), MIN(cases[row].distance, 8));
        CHECK_EQ(virtq_take_avail(f.vq, chains, VIRTQ_MAX_BURST),
                 cases[row].n);
        CHECK_EQ(virtq_get_error(f.vq, &value, &limit), cases[row].error);
        if (cases[row].error) {
            CHECK_EQ(limit, 8);
            CHECK_EQ(value, cases[row].error == VIRTQ_ERROR_AVAIL_INDEX
                            ? cases[row].distance : cases[row].head);
            CHECK_EQ(virtq_n_avail(f.vq), 0);
        }
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
        uint64_t desc, avail, used; /* Guest addresses. */
        int error;
    } cases[] = {
        { "size 0", 0, BUF, BUF, BUF, EINVAL },
        { "size 1", 1, BUF, BUF, BUF, 0 },
        { "size 2", 2, BUF, BUF, BUF, 0 },
        { "size 3", 3, BUF, BUF, BUF, EINVAL },
        { "size 255", 255, BUF, BUF, BUF, EINVAL },
        { "size 32768", 32768, BUF, BUF, BUF, 0 },
        { "size 65536", 65536, BUF, BUF, BUF, EINVAL },
        { "size 2^31", UINT32_C(1) << 31, BUF, BUF, BUF, EINVAL },
        { "alignment", 8, BUF + 16, BUF + 2, BUF + 4, 0 },
        { "descriptors not aligned", 8, BUF + 8, BUF, BUF, EINVAL },
        { "available ring not aligned", 8, BUF, BUF + 1, BUF, EINVAL },
        { "used ring not aligned", 8, BUF, BUF, BUF + 2, EINVAL },
        { "descriptors up to the end", 8, BORDER - 128, BUF, BUF, 0 },
        { "descriptors past the end", 8, BORDER - 112, BUF, BUF, EINVAL },
        { "used_event up to the end", 8, BUF, BORDER - 22, BUF, 0 },
        { "used_event past the end", 8, BUF, BORDER - 20, BUF, EINVAL },
        { "avail_event up to the end", 8, BUF, BUF, BORDER - 72, 0 },
        { "avail_event past the end", 8, BUF, BUF, BORDER - 68, EINVAL },
        { "descriptors outside", 8, HOLE + 8, BUF, BUF, EINVAL },
        { "available ring outside", 8, BUF, 0, BUF, EINVAL },
        { "used ring outside", 8, BUF, BUF, UINT64_MAX - 3 - MOCK_UVA_OFFSET,
          EINVAL },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct virtq *vq;
        struct fixture f;
        char *error;

        check_name = cases[i].name;
        fixture_init(&f, 8, 0, 0, READS);
        f.config.size = cases[i].size;
        f.config.desc_uva = cases[i].desc + MOCK_UVA_OFFSET;
        f.config.driver_uva = cases[i].avail + MOCK_UVA_OFFSET;
        f.config.device_uva = cases[i].used + MOCK_UVA_OFFSET;
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

/* Where a virtqueue starts.  After a crash, QEMU says the used index, and what
 * was taken and not used is taken again; a base that differs counts if
 * it can be. */
static void
test_start(void)
{
    static const struct {
        const char *name;
        uint16_t base, used, driver, start;
    } cases[] = {
        { "new", 0, 0, 0, 0 },
        { "new, filled", 0, 0, 8, 0 },
        { "goes on", 100, 100, 105, 100 },
        { "goes on at the wrap", 0xffff, 0xffff, 3, 0xffff },
        { "base ahead of used", 102, 100, 105, 102 },
        { "base ahead of used by the size", 108, 100, 108, 108 },
        { "base too far ahead", 109, 100, 108, 100 },
        { "base ahead of the driver", 106, 100, 105, 100 },
        { "base behind", 0, 100, 105, 100 },
        { "base a little behind", 98, 100, 105, 100 },
        { "base behind, over the wrap", 0xfffe, 2, 4, 2 },
        { "driver too far", 100, 100, 109, 100 },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct virtq_pos avail, used;
        struct virtq_state state;
        struct fixture f;

        check_name = cases[i].name;
        fixture_init(&f, 8, 0, 0, READS);
        mock_put16(&f.mock_mem, f.driver.avail + 2, cases[i].driver);
        mock_put16(&f.mock_mem, f.driver.used + 2, cases[i].used);
        f.config.avail.idx = cases[i].base;
        fixture_start(&f);
        virtq_get_base(f.vq, &avail, &used);
        CHECK_EQ(avail.idx, cases[i].start);
        CHECK_EQ(used.idx, cases[i].used);
        virtq_get_state(f.vq, &state);
        CHECK_EQ(state.avail.idx, cases[i].start);
        CHECK_EQ(state.used.idx, cases[i].used);
        fixture_uninit(&f);
    }
}

/* Memory that has vanished looks empty. */
static void
test_dead(void)
{
    struct virtq_chain chains[1];
    struct fixture f;

    fixture_init(&f, 8, 0, 0, READS);
    fixture_start(&f);
    mock_put_desc(&f.mock_mem, f.driver.desc, BUF, 10, 0, 0);
    make_avail(&f.driver, 0);
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
    struct fixture f;

    fixture_init(&f, 64, 0, 0, READS);
    fixture_start(&f);
    CHECK_EQ(f.counters.calls, 1);      /* From virtq_create(). */
    CHECK_EQ(fixture_use(&f, 1), 1);
    CHECK_EQ(fixture_use(&f, 64), 1);           /* One for a burst. */
    virtq_call(f.vq);
    CHECK_EQ(fixture_calls(&f), 0);     /* None for nothing. */
    mock_driver_set_no_interrupt(&f.driver, true);
    CHECK_EQ(fixture_use(&f, 5), 0);
    CHECK_EQ(f.counters.calls, 3);
    CHECK_EQ(f.counters.calls_suppressed, 1);
    mock_driver_set_no_interrupt(&f.driver, false);
    CHECK_EQ(fixture_use(&f, 5), 1);

    /* Without an eventfd, none.  Then the new one gets one at once. */
    virtq_set_call_fd(f.vq, -1);
    CHECK_EQ(fixture_use(&f, 5), 0);
    virtq_set_call_fd(f.vq, f.call_fd);
    CHECK_EQ(fixture_calls(&f), 1);
    fixture_uninit(&f);

    /* Already the first is suppressed if the driver says so. */
    fixture_init(&f, 64, 0, 0, READS);
    fixture_start(&f);
    mock_driver_set_no_interrupt(&f.driver, true);
    CHECK_EQ(fixture_use(&f, 1), 0);
    fixture_uninit(&f);

    /* But not when nothing is left, if that was agreed. */
    fixture_init(&f, 64, 0, ON_EMPTY, READS);
    fixture_start(&f);
    mock_driver_set_no_interrupt(&f.driver, true);
    CHECK_EQ(fixture_use(&f, 1), 1);
    fixture_uninit(&f);
}

/* The event index, at every place relative to what gets used: a notification
 * is due if the element at the event index was among it. */
static void
test_call_event(void)
{
    struct fixture f;

    fixture_init(&f, 64, 65000, EVENT_IDX, READS);
    mock_driver_set_used_event(&f.driver, 0);
    fixture_start(&f);
    mock_driver_set_no_interrupt(&f.driver, true); /* To be ignored. */
    CHECK_EQ(fixture_use(&f, 1), 1);            /* The first, in any case. */
    CHECK_EQ(fixture_use(&f, 1), 0);
    for (int n = 1; n <= 64; n *= 4) {
        for (int ofs = -70; ofs < 140; ofs++) {
            mock_driver_set_used_event(&f.driver, f.driver.next_used + ofs);
            CHECK_EQ(fixture_use(&f, n), ofs >= 0 && ofs < n);
        }
    }

    /* A new virtqueue on the same ring does not know what the driver saw. */
    mock_driver_set_used_event(&f.driver, f.driver.next_used - 1);
    f.config.avail.idx = f.driver.next_avail;
    fixture_start(&f);
    CHECK_EQ(fixture_use(&f, 1), 1);
    CHECK_EQ(fixture_use(&f, 1), 0);
    virtq_set_call_fd(f.vq, f.call_fd);
    CHECK_EQ(fixture_calls(&f), 1);
    CHECK_EQ(fixture_use(&f, 1), 1);
    CHECK_EQ(fixture_use(&f, 1), 0);
    fixture_uninit(&f);
}

/* Makes up to 'n' buffers available and returns their number. */
static int
add_some(struct fixture *f, int n)
{
    const struct mock_buf buf = { BUF, 10 };
    int i;

    for (i = 0; i < n; i++) {
        if (mock_driver_add(&f->driver, &buf, 1, 0, 0, 0) < 0) {
            break;
        }
    }
    mock_driver_publish(&f->driver);
    return i;
}

/* Uses up to 'n' buffers and returns their number. */
static int
use_some(struct fixture *f, int n)
{
    struct virtq_chain chains[VIRTQ_MAX_BURST];
    uint64_t token;
    uint16_t head;
    uint32_t len;

    n = virtq_take_avail(f->vq, chains, n);
    virtq_add_used_burst(f->vq, chains, NULL, n);
    virtq_publish_used(f->vq);
    while (mock_driver_get_used(&f->driver, &head, &len, &token)) {
        /* Nothing. */
    }
    return n;
}

/* The other way: we poll and do not want to be kicked. */
static void
test_kicks(void)
{
    static const uint32_t sizes[] = { 1, 4, 256, 1024, 16384, 32768 };
    struct fixture f;

    fixture_init(&f, 64, 0, 0, READS);
    fixture_start(&f);
    fixture_use(&f, 1);
    CHECK(!mock_driver_must_kick(&f.driver));
    virtq_enable_kicks(f.vq, true);
    fixture_use(&f, 1);
    CHECK(mock_driver_must_kick(&f.driver));
    virtq_enable_kicks(f.vq, false);
    CHECK(!mock_driver_must_kick(&f.driver));
    fixture_uninit(&f);

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        uint32_t max_add = MIN(sizes[i], 16384);
        uint32_t seed = i;
        int n = 0;

        check_name = "kicks suppressed by event index";
        fixture_init(&f, sizes[i], 12345, EVENT_IDX, READS);
        fixture_start(&f);
        while (n < 200000) {
            n += add_some(&f, 1 + mock_random(&seed, max_add));
            if (mock_random(&seed, 2)) {
                CHECK(!mock_driver_must_kick(&f.driver));
            }
            while (use_some(&f, 1 + mock_random(&seed, VIRTQ_MAX_BURST))
                   && mock_random(&seed, 16)) {
                CHECK(mock_random(&seed, 2)
                      || !mock_driver_must_kick(&f.driver));
            }
        }
        while (use_some(&f, VIRTQ_MAX_BURST)) {
            /* Nothing. */
        }
        CHECK(!mock_driver_must_kick(&f.driver));

        check_name = "kicks asked for by event index";
        virtq_enable_kicks(f.vq, true);
        CHECK(!mock_driver_must_kick(&f.driver));
        add_some(&f, 1);
        CHECK(mock_driver_must_kick(&f.driver));
        add_some(&f, 1);
        CHECK(!mock_driver_must_kick(&f.driver));
        fixture_uninit(&f);
    }
}

static void
test_virtq_split_main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*function)(void);
    } tests[] = {
        { "chains", test_chains },
        { "no-indirect", test_no_indirect },
        { "pieces", test_pieces },
        { "index", test_index },
        { "create", test_create },
        { "start", test_start },
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

VHUTEST_REGISTER("virtq-split", test_virtq_split_main);
