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

/* A second copy of the virtqueue engine, in which the memory changes right
 * before each load from it: whatever is read twice is different the second
 * time. */

#include <config.h>

#include <stddef.h>
#include <stdint.h>

static void change_memory(const void *p, size_t size);
#define VIRTIO_LOAD_HOOK(P, SIZE) change_memory(P, SIZE)

#define VIRTQ_COPY(NAME) race_##NAME
#include "virtq-copy.h"

#include "virtq-fixture.h"
#include "vhutest.h"

#define SIZE 16

static uint32_t seed = 1;
static const struct virtq *running; /* Null before it is created. */
static const uint8_t *avail_idx; /* Where it is. */
static const uint8_t *ring;     /* All three areas, */
static size_t ring_size;        /* up to their end. */
static const uint8_t *border;   /* Between two regions. */
static uint16_t right_flags;    /* Of a buffer of the right direction. */
static bool packed;

static uint64_t
any_address(void)
{
    static const uint64_t addresses[] = {
        MOCK_A_GPA,             /* Of the ring. */
        MOCK_A_GPA + 16, MOCK_A_GPA + 0x100, MOCK_A_GPA + 0x100000,
        MOCK_A_GPA + 0x100001, MOCK_B_GPA - 40, MOCK_B_GPA - 1, MOCK_B_GPA,
        MOCK_HOLE_GPA - 1, MOCK_HOLE_GPA - 100, MOCK_C_GPA,
        MOCK_C_GPA + MOCK_C_SIZE - 64,
        0, MOCK_HOLE_GPA, MOCK_C_GPA - 1, UINT64_MAX - 15, /* Bad ones. */
    };

    /* Mostly good ones, or the ring breaks before it gets interesting. */
    return addresses[mock_random(&seed, (mock_random(&seed, 20)
                                         ? ARRAY_SIZE(addresses) - 4
                                         : ARRAY_SIZE(addresses)))];
}

static uint32_t
any_length(void)
{
    static const uint32_t lengths[] = {
        0, 1, 10, 12, 16, 32, 64, 128, 1500, 65536, UINT32_MAX,
    };

    return lengths[mock_random(&seed, (mock_random(&seed, 10)
                                       ? ARRAY_SIZE(lengths) - 2
                                       : ARRAY_SIZE(lengths)))];
}

/* Random flags that say whose a packed descriptor is: in most cases the
 * driver's, in this lap or the next. */
static uint16_t
any_owner(void)
{
    static const uint16_t owners[] = {
        VIRTQ_DESC_F_AVAIL, VIRTQ_DESC_F_USED, PVIRTQ_OWNER_FLAGS, 0,
    };

    return owners[mock_random(&seed, mock_random(&seed, 8) ? 2 : 4)];
}

static void
put_any_desc(uint8_t *p)
{
    uint16_t next = mock_random(&seed, mock_random(&seed, 30) ? SIZE : 65536);
    uint16_t flags = (mock_random(&seed, 20) ? right_flags
                      : VIRTQ_DESC_F_WRITE - right_flags);
    uint64_t addr = any_address();
    uint32_t len = any_length();

    flags |= mock_random(&seed, 3) ? 0 : VIRTQ_DESC_F_NEXT;
    flags |= mock_random(&seed, 10) ? 0 : VIRTQ_DESC_F_INDIRECT;
    if (packed) {
        flags |= any_owner();
    }
    memcpy(p, &addr, sizeof addr);
    memcpy(p + 8, &len, sizeof len);
    memcpy(p + (packed ? 14 : 12), &flags, sizeof flags);
    memcpy(p + (packed ? 12 : 14), &next, sizeof next);
}

/* The hook.  Which field is read shows in its size. */
static void
change_memory(const void *p_, size_t size)
{
    uint8_t *p = CONST_CAST(void *, p_);
    uint8_t desc[16];

    /* Not even hints are loaded from a virtqueue that is broken, or from
     * elsewhere, unless this is a table, or a piece of one that crosses a
     * border. */
    CHECK(!running || running->usable);
    CHECK(size > 8 || size == 1 || p == border
          || (p >= ring && p + size <= ring + ring_size));
    if (mock_random(&seed, 3)) {
        return;
    }
    put_any_desc(desc);
    if (size == 2) {
        /* A head, an index, flags.  */
        uint16_t x;

        memcpy(&x, p, sizeof x);
        if (packed) {
            x ^= any_owner();
        } else if (!mock_random(&seed, 100)) {
            x = mock_random(&seed, 65536);
        } else if (p == avail_idx) {
            x += mock_random(&seed, 2);
        } else {
            x = mock_random(&seed, SIZE);
        }
        memcpy(p, &x, sizeof x);
    } else if (size == 8) {
        /* Of a packed one, the flags have to be flags. */
        memcpy(p, &desc[packed && (uintptr_t) p % 16
                        ? 8 : mock_random(&seed, 2) * 8], 8);
    } else if (size == 4) {
        /* The driver's event suppression. */
        memcpy(p, &desc[mock_random(&seed, 3) * 4], 4);
    } else {
        for (size_t i = 0; i + 16 <= size; i += 16) {
            put_any_desc(p + i);
        }
    }
}

/* Uses each segment as the data path would. */
static void
touch(struct fixture *f, const struct virtq_chain *chain)
{
    fixture_check_chain(f, chain);
    CHECK(chain->size <= VIRTQ_MAX_CHAIN_BYTES);
    CHECK(packed || chain->id < SIZE);
    CHECK(chain->n_descs > 0);
    CHECK(!packed || chain->n_descs <= SIZE);
    for (int i = 0; i < chain->n_segs; i++) {
        const struct virtq_seg *seg = &chain->segs[i];

        if (f->config.access == VIRTQ_DEVICE_WRITES) {
            seg->va[0] = 0xaa;
            seg->va[seg->len - 1] = 0xaa;
        } else {
            CHECK(seg->va[0] + seg->va[seg->len - 1] >= 0);
        }
    }
}

/* Makes some buffers available. */
static void
make_avail(struct fixture *f)
{
    bool loop;

    if (!packed) {
        mock_put16(&f->mock_mem, f->driver.avail + 2,
                   f->vq->next_avail.idx + mock_random(&seed, SIZE));
        return;
    }
    loop = !mock_random(&seed, 20);
    for (int i = loop ? SIZE - 1 : mock_random(&seed, SIZE); i >= 0; i--) {
        struct virtq_pos pos = virtq_pos_add(f->vq->next_avail, i, SIZE);
        uint8_t *p = mock_at(&f->mock_mem, f->driver.desc + 16 * pos.idx);
        uint16_t flags;

        put_any_desc(p);
        memcpy(&flags, p + 14, sizeof flags);
        flags |= loop ? VIRTQ_DESC_F_NEXT : 0;
        flags = (flags & ~PVIRTQ_OWNER_FLAGS) | pvirtq_avail_flags(pos.wrap);
        memcpy(p + 14, &flags, sizeof flags);
    }
}

static void
race(enum virtq_access access, int n_rounds)
{
    unsigned int n_broken[VIRTQ_ERROR_CALL_BLOCKED + 1] = { 0 };
    uint64_t n_taken = 0, n_unusable = 0;
    struct fixture f;

    fixture_init(&f, SIZE, 0,
                 (VIRTIO_BIT(VIRTIO_F_INDIRECT_DESC)
                  | VIRTIO_BIT(VIRTIO_F_EVENT_IDX)
                  | (packed ? VIRTIO_BIT(VIRTIO_F_RING_PACKED) : 0)), access);
    right_flags = access == VIRTQ_DEVICE_WRITES ? VIRTQ_DESC_F_WRITE : 0;
    avail_idx = mock_at(&f.mock_mem, f.driver.avail + 2);
    ring = mock_at(&f.mock_mem, f.driver.desc);
    border = mock_at(&f.mock_mem, MOCK_B_GPA);
    ring_size = f.driver.end - f.driver.desc;
    fixture_start(&f);
    running = f.vq;
    for (int i = 0; i < n_rounds; i++) {
        struct virtq_chain chains[VIRTQ_MAX_BURST];
        struct virtq_pos avail, used, before;
        uint16_t n_descs = 0;
        const struct virtq_seg *segs = f.vq->segs;
        size_t n;

        make_avail(&f);
        before = f.vq->next_used;
        n = virtq_take_avail(f.vq, chains, 8);
        for (size_t j = 0; j < n; j++) {
            touch(&f, &chains[j]);
            CHECK(chains[j].segs >= segs);
            segs = chains[j].segs + chains[j].n_segs;
            CHECK(segs <= f.vq->segs + f.vq->max_segs);
            n_unusable += !chains[j].n_segs;
            n_descs += packed ? chains[j].n_descs : 1;
            virtq_add_used(f.vq, &chains[j], chains[j].size);
        }
        virtq_publish_used(f.vq);
        virtq_call(f.vq);
        virtq_prefetch_next(f.vq);
        CHECK(virtq_n_avail(f.vq) <= SIZE);
        n_taken += n;

        /* What came in went out again. */
        virtq_get_base(f.vq, &avail, &used);
        if (packed) {
            CHECK_EQ(virtq_pos_distance(before, used, SIZE), n_descs);
            CHECK_EQ(virtq_pos_distance(used, avail, SIZE), 0);
        } else {
            CHECK_EQ((uint16_t) (used.idx - before.idx), n_descs);
        }

        n_broken[f.vq->error]++;
        if (f.vq->error) {
            CHECK_EQ(n, 0);
            running = NULL;
            fixture_start(&f);
            running = f.vq;
        }
    }

    /* Were all of the cases there? */
    CHECK(n_taken > n_rounds / 10);
    CHECK(n_unusable > 0 && n_unusable < n_taken);
    for (int i = 0; i < VIRTQ_ERROR_CALL_BLOCKED; i++) {
        check_name = virtq_error_to_string(i);
        if (!packed || (i != VIRTQ_ERROR_AVAIL_INDEX
                        && i != VIRTQ_ERROR_DESC_INDEX)) {
            CHECK(n_broken[i] > 0);
        }
    }
    running = NULL;
    fixture_uninit(&f);
}

static void
test_virtq_race_main(int argc, char *argv[])
{
    int n_rounds = argc > 1 ? atoi(argv[1]) : 200000;

    race(VIRTQ_DEVICE_READS, n_rounds);
    race(VIRTQ_DEVICE_WRITES, n_rounds);
    packed = true;
    race(VIRTQ_DEVICE_READS, n_rounds);
    race(VIRTQ_DEVICE_WRITES, n_rounds);
}

VHUTEST_REGISTER("virtq-race", test_virtq_race_main);
