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

/* Virtqueues of both formats: whether there is something to take, and how
 * much is taken at once. */

#include <config.h>

#include "virtq-fixture.h"
#include "vhutest.h"

#define PACKED VIRTIO_BIT(VIRTIO_F_RING_PACKED)
#define INDIRECT VIRTIO_BIT(VIRTIO_F_INDIRECT_DESC)
#define N VIRTQ_DESC_F_NEXT
#define I VIRTQ_DESC_F_INDIRECT

/* Guest addresses. */
#define BUF (MOCK_A_GPA + 0x100000)     /* Of ordinary buffers. */
#define TABLE (MOCK_A_GPA + 0x80000)    /* Of an indirect table. */

/* Uses the 'n' 'chains', and has the driver take them back. */
static void
use(struct fixture *f, const struct virtq_chain chains[], size_t n)
{
    uint64_t token;
    uint32_t len;
    uint16_t id;

    virtq_add_used_burst(f->vq, chains, NULL, n);
    virtq_publish_used(f->vq);
    virtq_call(f->vq);
    virtq_prefetch_next(f->vq);
    for (size_t i = 0; i < n; i++) {
        CHECK(mock_driver_get_used(&f->driver, &id, &len, &token));
    }
    CHECK(!mock_driver_has_used(&f->driver));
}

/* Does anything that a device and its driver may do, and checks after each
 * step whether the virtqueue knows if there is something to take. */
static void
run_poll(uint64_t features, uint32_t size)
{
    const struct mock_buf buf = { BUF, 10 };
    uint32_t n_avail = 0;
    uint32_t seed = size;
    struct fixture f;

    fixture_init(&f, size, 0xfff0, features, VIRTQ_DEVICE_READS);
    fixture_start(&f);
    for (int i = 0; i < 2000; i++) {
        struct virtq_chain chains[VIRTQ_MAX_BURST];
        uint32_t max = mock_random(&seed, VIRTQ_MAX_BURST + 1);
        uint32_t n_back, n_taken;
        struct virtq_state state;

        for (uint32_t n = mock_random(&seed, 100); n > 0; n--) {
            n_avail += mock_driver_add(&f.driver, &buf, 1, 0, 0, 0) >= 0;
        }
        mock_driver_publish(&f.driver);
        CHECK_EQ(virtq_has_avail(f.vq), n_avail > 0);

        n_taken = virtq_take_avail(f.vq, chains, max);
        CHECK_EQ(n_taken, MIN(n_avail, max));
        CHECK_EQ(virtq_has_avail(f.vq), n_avail > n_taken);

        n_back = mock_random(&seed, n_taken + 1);
        n_taken -= n_back;
        virtq_put_back(f.vq, &chains[n_taken], n_back);
        n_avail -= n_taken;
        CHECK_EQ(virtq_has_avail(f.vq), n_avail > 0);

        use(&f, chains, n_taken);
        virtq_enable_kicks(f.vq, i & 1);
        CHECK_EQ(virtq_has_avail(f.vq), n_avail > 0);
        virtq_get_state(f.vq, &state);
        CHECK_EQ(state.fill, n_avail);
    }
    fixture_uninit(&f);
}

static void
test_poll(void)
{
    static const uint32_t sizes[] = { 1, 2, 64, 256, 32768, 3, 65 };

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        if (is_pow2(sizes[i])) {
            run_poll(0, sizes[i]);
        }
        run_poll(PACKED, sizes[i]);
    }
}

/* Makes buffer 'i' of a ring that nobody has used yet available. */
static void
put_avail(const struct fixture *f, uint32_t i, uint64_t gpa, uint32_t len,
          uint16_t flags)
{
    const struct mock_driver *d = &f->driver;

    if (d->packed) {
        mock_put_desc(d->mem, d->desc + 16 * i, gpa, len, i,
                      flags | VIRTQ_DESC_F_AVAIL);
    } else {
        mock_put_desc(d->mem, d->desc + 16 * i, gpa, len, flags, 0);
        mock_put16(d->mem, d->avail + 4 + 2 * i, i);
        mock_put16(d->mem, d->avail + 2, i + 1);
    }
}

/* Makes the 'size' descriptors at TABLE, of which the first 'n' are of 1 byte,
 * the others of none. */
static void
put_table(const struct fixture *f, uint32_t size, uint32_t n)
{
    for (uint32_t i = 0; i < size; i++) {
        bool next = !f->driver.packed && i < size - 1;

        mock_put_desc(&f->mock_mem, TABLE + 16 * i, BUF + i, i < n,
                      next ? N : 0, next ? i + 1 : 0);
    }
}

/* A virtqueue that can be used no longer has nothing to take, and stays as it
 * is, whatever is done with it. */
static void
run_unusable(uint64_t features)
{
    struct virtq_chain chains[VIRTQ_MAX_BURST];
    struct fixture f;
    uint8_t *ring, *copy;
    size_t size;

    fixture_init(&f, 8, features ? 0x8000 : 0, features, VIRTQ_DEVICE_READS);
    fixture_start(&f);
    put_avail(&f, 0, BUF, 10, 0);
    put_avail(&f, 1, BUF, 10, 0);
    CHECK_EQ(virtq_take_avail(f.vq, chains, 1), 1);
    CHECK(virtq_has_avail(f.vq));
    atomic_store(&f.mem->health->dead, true);
    CHECK_EQ(virtq_take_avail(f.vq, &chains[1], 1), 0);
    CHECK(!virtq_has_avail(f.vq));

    ring = mock_at(&f.mock_mem, f.driver.desc);
    size = f.driver.end - f.driver.desc;
    copy = xmemdup(ring, size);
    virtq_add_used(f.vq, chains, 77);
    virtq_publish_used(f.vq);
    virtq_call(f.vq);
    virtq_prefetch_next(f.vq);
    virtq_put_back(f.vq, chains, 1);
    virtq_enable_kicks(f.vq, true);
    CHECK(!virtq_has_avail(f.vq));
    CHECK_EQ(virtq_n_avail(f.vq), 0);
    CHECK(!memcmp(ring, copy, size));
    free(copy);
    fixture_uninit(&f);
}

static void
test_unusable(void)
{
    run_unusable(0);
    run_unusable(PACKED);
}

/* A burst ends early after many descriptors. */
static void
run_budget(uint64_t features)
{
    struct virtq_chain chains[VIRTQ_MAX_BURST];
    struct fixture f;

    fixture_init(&f, 1024, features & PACKED ? 0x8000 : 0, features,
                 VIRTQ_DEVICE_READS);
    fixture_start(&f);
    put_table(&f, 1024, 1);
    for (int i = 0; i < 64; i++) {
        put_avail(&f, i, TABLE, 1024 * 16, I);
    }
    for (int i = 0; i < 16; i++) {
        CHECK_EQ(virtq_take_avail(f.vq, chains, VIRTQ_MAX_BURST), 4);
        CHECK_EQ(chains[3].size, 1);
        CHECK_EQ(virtq_has_avail(f.vq), i < 15);
    }
    fixture_uninit(&f);
}

static void
test_budget(void)
{
    run_budget(INDIRECT);
    run_budget(INDIRECT | PACKED);
}

/* Nothing is lost if there is no space for the segments of a burst: what does
 * not fit, a table or a single buffer, is the first of the next one. */
static void
run_segments(uint64_t features)
{
    enum { SIZE = 1024 };
    struct virtq_chain chains[VIRTQ_MAX_BURST];
    struct fixture f;

    for (int table = 0; table < 2; table++) {
        size_t n = 2;

        fixture_init(&f, SIZE, features & PACKED ? 0x8000 : 0, features,
                     VIRTQ_DEVICE_READS);
        fixture_start(&f);
        put_table(&f, SIZE, SIZE);
        put_avail(&f, 0, TABLE, SIZE * 16, I);
        put_avail(&f, 1, TABLE, SIZE * 16, I);
        if (table) {
            put_avail(&f, 2, TABLE, SIZE * 16, I);
        } else {
            /* As many as there is space for, and one more. */
            for (n = 2; n < 2 + VHU_MEM_MAX_REGIONS / 32; n++) {
                uint64_t gpa = TABLE + 0x10000;

                for (int i = 0; i < 32; i++) {
                    bool next = !f.driver.packed && i < 31;

                    mock_put_desc(&f.mock_mem, gpa + 16 * i, BUF, 1,
                                  next ? N : 0, next ? i + 1 : 0);
                }
                put_avail(&f, n, gpa, 32 * 16, I);
            }
            put_avail(&f, n, BUF, 10, 0);
        }
        CHECK_EQ(virtq_take_avail(f.vq, chains, VIRTQ_MAX_BURST), n);
        for (size_t i = 0; i < n; i++) {
            CHECK_EQ(chains[i].n_segs, i < 2 ? SIZE : 32);
            fixture_check_chain(&f, &chains[i]);
        }
        CHECK(virtq_has_avail(f.vq));
        CHECK_EQ(virtq_take_avail(f.vq, chains, VIRTQ_MAX_BURST), 1);
        CHECK_EQ(chains[0].size, table ? SIZE : 10);
        fixture_check_chain(&f, &chains[0]);
        CHECK_EQ(f.counters.bad_chains, 0);
        CHECK_EQ(virtq_get_error(f.vq, NULL, NULL), VIRTQ_ERROR_NONE);
        fixture_uninit(&f);
    }
}

static void
test_segments(void)
{
    run_segments(INDIRECT);
    run_segments(INDIRECT | PACKED);
}

/* A packed ring whose chains overlap: no slot is taken twice in one burst. */
static void
test_overlap(void)
{
    struct virtq_chain chains[VIRTQ_MAX_BURST];
    struct fixture f;

    fixture_init(&f, 3, 0x8000, PACKED, VIRTQ_DEVICE_READS);
    fixture_start(&f);
    put_avail(&f, 0, BUF, 10, N);
    put_avail(&f, 1, BUF, 10, 0);
    put_avail(&f, 2, BUF, 10, N);
    CHECK_EQ(virtq_take_avail(f.vq, chains, VIRTQ_MAX_BURST), 1);
    CHECK_EQ(chains[0].n_descs, 2);
    CHECK_EQ(chains[0].size, 20);
    fixture_uninit(&f);
}

static void
test_virtq_burst_main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*function)(void);
    } tests[] = {
        { "poll", test_poll },
        { "unusable", test_unusable },
        { "budget", test_budget },
        { "segments", test_segments },
        { "overlap", test_overlap },
    };

    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc < 2 || !strcmp(argv[1], tests[i].name)) {
            check_name = tests[i].name;
            tests[i].function();
        }
    }
}

VHUTEST_REGISTER("virtq-burst", test_virtq_burst_main);
