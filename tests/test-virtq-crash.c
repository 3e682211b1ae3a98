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

/* a device that dies after any of its stores, and the next one.
 *
 * The device is a copy of the engine that counts its stores to memory that
 * outlives it: the ring and the record.  At a certain one it stops for good,
 * with longjmp(); another one takes over with what is left there, and with a
 * base from before anything happened.  Each scenario is run again and again,
 * until the device survives it. */

#include <config.h>

#include <setjmp.h>

static void crash_count_store(void);
#define VIRTIO_STORE_HOOK() crash_count_store()

#define VIRTQ_COPY(NAME) crash_##NAME
#include "virtq-copy.h"

#include "virtq-fixture.h"
#include "vhutest.h"

#define PACKED (VIRTIO_BIT(VIRTIO_F_RING_PACKED)        \
                | VIRTIO_BIT(VIRTIO_F_INDIRECT_DESC))

enum {
    STEPS = 12,                 /* Bursts in one scenario. */
    MAX_TOKENS = 200,
};

/* Chains that the driver makes. */
enum shape { SINGLE, CHAINED, INDIRECTED, MIXED, N_SHAPES };

static jmp_buf death;
static unsigned int n_stores;   /* Since the device was started, */
static unsigned int die_at;     /* and at which of them it dies. */

static struct fixture f;
static virtio_le64 record;
static uint32_t seed;           /* Of what both sides do. */
static unsigned int n_added, n_used, n_empty;
static unsigned int n_published; /* Chains that the driver must have seen. */
static unsigned int taken[MAX_TOKENS]; /* How often. */
static uint32_t sizes[MAX_TOKENS];

static void
crash_count_store(void)
{
    if (++n_stores == die_at) {
        longjmp(death, 1);
    }
}

/* The driver. */

static void
add_chain(enum shape shape)
{
    uint64_t table = MOCK_C_GPA + n_added * 64;
    struct mock_buf bufs[3];
    uint32_t size = 0;
    size_t n;

    if (shape == MIXED) {
        shape = mock_random(&seed, MIXED);
    }
    n = shape == SINGLE ? 1 : 1 + mock_random(&seed, 3);
    n = shape == CHAINED ? MIN(n, f.driver.size) : n;
    for (size_t i = 0; i < n; i++) {
        bufs[i].gpa = MOCK_B_GPA + 1024 * i;
        bufs[i].len = 1 + mock_random(&seed, 1000);
        size += bufs[i].len;
    }
    if (n_added < MAX_TOKENS
        && mock_driver_add(&f.driver, bufs, n,
                           shape == INDIRECTED && n <= f.driver.size ? n : 0,
                           table, n_added) >= 0) {
        sizes[n_added++] = size;
    }
}

/* Each chain comes back, in order, and once.  What was written into it is
 * there, unless it is empty. */
static bool
get_used(void)
{
    uint64_t token;
    uint32_t len;
    uint16_t id;

    if (!mock_driver_has_used(&f.driver)) {
        return false;
    }
    CHECK(mock_driver_get_used(&f.driver, &id, &len, &token));
    CHECK_EQ(token, n_used);
    if (len) {
        CHECK_EQ(len, sizes[token]);
    } else {
        n_empty++;
    }
    n_used++;
    return true;
}

/* The device. */

static void
use_burst(size_t max)
{
    struct virtq_chain chains[VIRTQ_MAX_BURST];
    uint32_t lens[VIRTQ_MAX_BURST];
    size_t n = virtq_take_avail(f.vq, chains, max), split;

    for (size_t i = 0; i < n; i++) {
        uint64_t token = f.driver.chains[chains[i].id].token;

        /* As the driver wrote it. */
        CHECK_EQ(chains[i].size, sizes[token]);
        CHECK(token >= n_published);
        taken[token]++;
        lens[i] = chains[i].size;
    }
    split = n ? mock_random(&seed, n) : 0;
    virtq_add_used_burst(f.vq, chains, lens, split);
    virtq_add_used_burst(f.vq, chains + split, lens + split, n - split);
    virtq_publish_used(f.vq);
    n_published += n;
}

/* Starts a device, which dies at its 'nth' store, if that is not 0. */
static void
start_device(unsigned int nth)
{
    bool recorded = record;

    n_stores = 0;
    die_at = nth;
    f.config.recorded = true;
    fixture_start(&f);
    CHECK_EQ(virtq_is_from_record(f.vq), recorded);
}

static void
run_step(enum shape shape)
{
    for (int i = mock_random(&seed, 9); i > 0; i--) {
        add_chain(shape);
    }
    mock_driver_publish(&f.driver);
    use_burst(1 + mock_random(&seed, 8));
    for (int i = mock_random(&seed, 16); i > 0 && get_used(); i--) {
        continue;
    }
}

/* Runs a scenario with a device that dies at its 'nth' store, if it comes so
 * far, and one that takes over and dies at its 'nth2'.  Returns true if any of
 * them died. */
static bool
run_scenario(uint32_t size, uint16_t start, enum shape shape,
             unsigned int nth, unsigned int nth2)
{
    volatile int step = 0;
    volatile int n_deaths = 0;

    fixture_init(&f, size, start, PACKED, VIRTQ_DEVICE_WRITES);
    for (uint32_t i = 0; i < size; i++) {
        /* It was used before. */
        mock_put64(&f.mock_mem, f.driver.desc + 16 * i, MOCK_B_GPA);
    }
    f.config.record = &record;
    record = 0;
    seed = size + start + shape;
    n_added = n_used = n_empty = n_published = 0;
    memset(taken, 0, sizeof taken);

    if (setjmp(death)) {
        virtq_destroy(f.vq);
        f.vq = NULL;
        n_deaths++;
    }
    start_device(n_deaths == 0 ? nth : n_deaths == 1 ? nth2 : 0);
    while (step < STEPS) {
        step++;
        run_step(shape);
    }

    die_at = 0;
    while (get_used() || n_used < n_added) {
        use_burst(8);
    }
    CHECK_EQ(f.driver.n_outstanding, 0);
    CHECK(n_empty <= 8 * n_deaths);
    for (unsigned int i = 0; i < n_added; i++) {
        CHECK(taken[i] <= 1 + n_deaths);
    }
    fixture_uninit(&f);
    return n_deaths > 0;
}

static void
sweep(uint32_t size, bool twice)
{
    const uint16_t starts[] = { 0x8000, 0x8000 | (size - 1), size / 2 };

    for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
        for (enum shape shape = 0; shape < N_SHAPES; shape++) {
            unsigned int nth = 1;

            while (run_scenario(size, starts[i], shape, nth, 0)) {
                for (unsigned int nth2 = 1; twice && nth2 < 16; nth2++) {
                    run_scenario(size, starts[i], shape, nth, nth2);
                }
                nth++;
            }
            CHECK(nth > STEPS);
        }
    }
}

static void
test_small(void)
{
    for (uint32_t size = 1; size <= 8; size++) {
        sweep(size, false);
    }
}

static void
test_large(void)
{
    sweep(256, false);
    sweep(32768, false);
}

static void
test_twice(void)
{
    sweep(3, true);
    sweep(8, true);
}

/* A guest that rebooted, or a driver that made its rings anew, has the same
 * ring in the same place.  Whatever a record says, the device starts at the
 * beginning of a ring that has just been filled with 'n' chains of one
 * descriptor, and takes nothing from the driver that is not there.
 *
 * If the ring is full, not even the specification could tell it from one in
 * which a chain of several descriptors is used up that the driver has partly
 * written over, so there we only look at records of other chains. */
static void
check_new_ring(uint32_t size, uint32_t n)
{
    const struct mock_buf buf = { MOCK_B_GPA, 100 };
    uint32_t n_pos = 2 * size;
    uint32_t n_descs = n < size ? size + 1 : 2;
    uint32_t n_words = n_pos * n_pos * n_descs * n_descs;

    fixture_init(&f, size, 0x8000, PACKED, VIRTQ_DEVICE_WRITES);
    for (uint32_t i = 0; i < n; i++) {
        CHECK(mock_driver_add(&f.driver, &buf, 1, 0, 0, i) >= 0);
    }
    mock_driver_publish(&f.driver);
    f.config.record = &record;
    f.config.recorded = true;
    for (uint32_t i = 0; i < n_words; i++) {
        uint32_t old = i % n_pos, new = i / n_pos % n_pos;
        uint32_t old_descs = i / n_pos / n_pos % n_descs;
        uint32_t new_descs = i / n_pos / n_pos / n_descs;
        struct virtq_pos avail, used;

        record = (old / 2 | (old & 1) << 15 | new / 2 << 16
                  | (new & 1) << 31 | (uint64_t) old_descs << 32
                  | (uint64_t) new_descs << 48);
        fixture_start(&f);
        virtq_get_base(f.vq, &avail, &used);
        CHECK_EQ(avail.idx, 0);
        CHECK_EQ(avail.wrap, true);
        CHECK_EQ(used.idx, 0);
        CHECK_EQ(used.wrap, true);
        CHECK(!mock_driver_has_used(&f.driver));
    }
    fixture_uninit(&f);
}

static void
test_new_ring(void)
{
    die_at = 0;
    for (uint32_t size = 1; size <= 6; size++) {
        for (uint32_t n = 0; n <= size; n++) {
            check_new_ring(size, n);
        }
    }
}

static void
test_virtq_crash_main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*function)(void);
    } tests[] = {
        { "small", test_small },
        { "large", test_large },
        { "twice", test_twice },
        { "new-ring", test_new_ring },
    };

    if (VIRTIO_TSAN) {
        exit(77);               /* One thread, and minutes of it. */
    }
    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc < 2 || !strcmp(argv[1], tests[i].name)) {
            check_name = tests[i].name;
            tests[i].function();
        }
    }
}

VHUTEST_REGISTER("virtq-crash", test_virtq_crash_main);
