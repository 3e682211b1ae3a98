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

/* Driver side of virtqueues: a hostile device.  Each test is about one of the
 * things that a back-end must not be trusted with. */

#include <config.h>

#include <inttypes.h>

#include "virtq-drv-fixture.h"
#include "vhutest.h"

#define SIZE 8
#define BUF_SIZE 64

static const struct variant {
    const char *name;
    uint64_t features;
} variants[] = {
    { "split", V1 },
    { "split in order", V1 | IN_ORDER },
    { "split indirect", V1 | INDIRECT | EVENT_IDX },
    { "packed", PACKED },
    { "packed in order", PACKED | IN_ORDER },
    { "packed indirect", PACKED | INDIRECT | EVENT_IDX },
};

/* Writes a used element, right or not, that says that 'n' chains are used.  In
 * the packed format there is one descriptor. */
static void
put_used(struct drv_fixture *f, uint32_t id, uint32_t len, uint16_t n)
{
    struct mock_device *d = &f->dev;

    if (!d->packed) {
        uint64_t elem = d->device + 4 + 8 * (d->next_used % d->size);

        mock_put32(d->mem, elem, id);
        mock_put32(d->mem, elem + 4, len);
        d->next_used += n;
        mock_put16(d->mem, d->device + 2, d->next_used);
    } else {
        uint64_t gpa = d->desc + 16 * (d->next_used & 0x7fff);

        mock_put32(d->mem, gpa + 8, len);
        mock_put16(d->mem, gpa + 12, id);
        mock_put16(d->mem, gpa + 14, d->next_used >> 15 ? 0x8080 : 0);
        d->next_used = mock_packed_advance(d->size, d->next_used, 1);
    }
}

/* Whatever is done with a broken virtqueue, nothing happens to the memory. */
static void
check_broken(struct drv_fixture *f, enum virtq_drv_error error,
             uint64_t value, uint64_t limit)
{
    uint8_t *copy = xmemdup(f->shm->va, f->shm->size);
    struct virtq_chain packets[VIRTQ_MAX_BURST];
    const uint32_t size = 20;
    struct virtq_pos avail, used;
    uint64_t v, l;

    drv_fixture_kicks(f);
    for (int i = 0; i < 2; i++) {
        if (f->config.access == VIRTQ_DEVICE_WRITES) {
            CHECK_EQ(virtq_drv_take_used(f->vq, packets, 8), 0);
            virtq_drv_refill(f->vq);
        } else {
            CHECK_EQ(virtq_drv_reclaim(f->vq), 0);
            CHECK_EQ(virtq_drv_reserve(f->vq, &size, packets, 1), 0);
        }
        virtq_drv_publish_avail(f->vq);
        virtq_drv_kick(f->vq);
        virtq_drv_enable_calls(f->vq, i);
        virtq_drv_prefetch_next(f->vq);
        virtq_drv_get_base(f->vq, &avail, &used);
        CHECK(!virtq_drv_has_used(f->vq));
        CHECK_EQ(virtq_drv_n_used(f->vq), 0);
        CHECK(!virtq_drv_resume(f->vq));
        CHECK_EQ(virtq_drv_get_error(f->vq, &v, &l), error);
        CHECK_EQ(v, value);
        CHECK_EQ(l, limit);
    }
    CHECK_EQ(f->counters.broken, 1);
    CHECK_EQ(drv_fixture_kicks(f), 0);
    CHECK(!memcmp(copy, f->shm->va, f->shm->size));
    free(copy);
}

/* After a restart, with another device, all is well. */
static void
check_repaired(struct drv_fixture *f)
{
    struct mock_avail avail;
    uint32_t n = 0;

    virtq_drv_restart(f->vq);
    drv_fixture_start_device(f);
    while (mock_device_take(&f->dev, &avail)) {
        mock_device_use(&f->dev, &avail, 0);
        free(avail.bufs);
        n++;
    }
    mock_device_publish(&f->dev);
    CHECK_EQ(n, virtq_drv_n_in_flight(f->vq));
    CHECK(f->config.access == VIRTQ_DEVICE_READS || n == SIZE);
    if (f->config.access == VIRTQ_DEVICE_READS) {
        CHECK_EQ(virtq_drv_reclaim(f->vq), n);
    }
    CHECK_EQ(virtq_drv_get_error(f->vq, NULL, NULL), VIRTQ_DRV_ERROR_NONE);
}

static void
add(struct drv_fixture *f, uint32_t size)
{
    CHECK(drv_fixture_add(f, 0, size));
}

/* F-01: indices and IDs.  Buffers 0, 1 (a chain of three, 1 to 3) and 4 are
 * available; 5 is reserved. */
static void
test_ids(void)
{
    enum { SPLIT = 1, PACKED_ = 2, BOTH = 3, NOT_IN_ORDER = 4 };
    static const struct {
        const char *name;
        int which;
        uint32_t ids[2];
        int n_ids;
        uint16_t n;             /* By how much the index moves for each. */
        enum virtq_drv_error error;
        uint64_t value, limit;
    } cases[] = {
        { "index one too far", SPLIT, { 0 }, 1, 4,
          VIRTQ_DRV_ERROR_USED_INDEX, 4, 3 },
        { "index backward", SPLIT, { 0 }, 1, 65535,
          VIRTQ_DRV_ERROR_USED_INDEX, 65535, 3 },
        { "index far", SPLIT, { 0 }, 1, 0x8000,
          VIRTQ_DRV_ERROR_USED_INDEX, 0x8000, 3 },
        { "first out of range", BOTH, { SIZE }, 1, 1,
          VIRTQ_DRV_ERROR_ID_RANGE, SIZE, SIZE },
        { "16 bits", BOTH, { 0xffff }, 1, 1,
          VIRTQ_DRV_ERROR_ID_RANGE, 0xffff, SIZE },
        { "32 bits", SPLIT, { UINT32_MAX }, 1, 1,
          VIRTQ_DRV_ERROR_ID_RANGE, UINT32_MAX, SIZE },
        { "17 bits", SPLIT, { 0x10000 }, 1, 1,
          VIRTQ_DRV_ERROR_ID_RANGE, 0x10000, SIZE },
        { "never available", BOTH, { 7 }, 1, 1,
          VIRTQ_DRV_ERROR_ID_UNKNOWN, 7, SIZE },
        { "reserved only", BOTH, { 5 }, 1, 1,
          VIRTQ_DRV_ERROR_ID_UNKNOWN, 5, SIZE },
        { "twice", BOTH, { 0, 0 }, 2, 1,
          VIRTQ_DRV_ERROR_ID_UNKNOWN, 0, SIZE },
        { "middle of a chain", BOTH, { 2 }, 1, 1,
          VIRTQ_DRV_ERROR_ID_UNKNOWN, 2, SIZE },
        { "end of a chain", BOTH, { 3 }, 1, 1,
          VIRTQ_DRV_ERROR_ID_UNKNOWN, 3, SIZE },
        { "middle of a chain that is used", BOTH | NOT_IN_ORDER, { 1, 2 }, 2,
          1, VIRTQ_DRV_ERROR_ID_UNKNOWN, 2, SIZE },
    };

    for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
        for (size_t j = 0; j < ARRAY_SIZE(cases); j++) {
            struct drv_fixture f;

            drv_fixture_init(&f, SIZE, variants[i].features,
                             VIRTQ_DEVICE_READS, BUF_SIZE);
            check_name = cases[j].name;
            if (cases[j].which & (f.dev.packed ? PACKED_ : SPLIT)
                && !(cases[j].which & NOT_IN_ORDER && f.dev.in_order)) {
                add(&f, 20);
                add(&f, 3 * BUF_SIZE);
                add(&f, 20);
                virtq_drv_publish_avail(f.vq);
                add(&f, 20);
                for (int k = 0; k < cases[j].n_ids; k++) {
                    /* A chain of three takes three slots. */
                    uint16_t id = cases[j].ids[k];

                    put_used(&f, cases[j].ids[k], 0, cases[j].n);
                    if (id == 1 && f.dev.packed && !f.dev.indirect) {
                        f.dev.next_used += 2;
                    }
                    if (cases[j].n_ids == 2 && !k) {
                        CHECK_EQ(virtq_drv_reclaim(f.vq), 1);
                    }
                }
                CHECK_EQ(virtq_drv_reclaim(f.vq), 0);
                check_broken(&f, cases[j].error, cases[j].value,
                             cases[j].limit);
                check_repaired(&f);
            }
            drv_fixture_uninit(&f);
        }
    }
}

/* F-01, in order: a batch that is larger than what the index says. */
static void
test_batch(void)
{
    struct drv_fixture f;

    drv_fixture_init(&f, SIZE, V1 | IN_ORDER, VIRTQ_DEVICE_READS, BUF_SIZE);
    add(&f, 20);
    add(&f, 2 * BUF_SIZE);
    add(&f, 20);
    add(&f, 20);
    virtq_drv_publish_avail(f.vq);
    put_used(&f, 3, 0, 2);
    CHECK_EQ(virtq_drv_reclaim(f.vq), 0);
    check_broken(&f, VIRTQ_DRV_ERROR_BATCH, 3, 2);
    check_repaired(&f);
    drv_fixture_uninit(&f);
}

/* F-01: used lengths.  Those of a transmitq mean nothing. */
static void
test_lengths(void)
{
    static const uint32_t lens[] = {
        0, 1, 11, 12, 13, 63, 64, 65, 128, 65535, 65536, 0x80000000,
        UINT32_MAX,
    };

    for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
        uint64_t n_bad = 0;
        struct drv_fixture f;

        check_name = variants[i].name;
        drv_fixture_init(&f, SIZE, variants[i].features, VIRTQ_DEVICE_READS,
                         BUF_SIZE);
        for (size_t j = 0; j < ARRAY_SIZE(lens); j++) {
            struct mock_avail avail;

            add(&f, 20);
            virtq_drv_publish_avail(f.vq);
            CHECK(mock_device_take(&f.dev, &avail));
            mock_device_use(&f.dev, &avail, lens[j]);
            mock_device_publish(&f.dev);
            free(avail.bufs);
            CHECK_EQ(virtq_drv_reclaim(f.vq), 1);
        }
        drv_fixture_uninit(&f);

        drv_fixture_init(&f, SIZE, variants[i].features, VIRTQ_DEVICE_WRITES,
                         BUF_SIZE);
        for (size_t j = 0; j < ARRAY_SIZE(lens); j++) {
            bool good = lens[j] > 12 && lens[j] <= BUF_SIZE;
            struct virtq_chain packets[8];

            for (int k = 0; k < 3; k++) {
                struct mock_avail avail;

                CHECK(mock_device_take(&f.dev, &avail));
                mock_device_use(&f.dev, &avail, k == 1 ? lens[j] : 20 + k);
                free(avail.bufs);
            }
            mock_device_publish(&f.dev);
            CHECK_EQ(virtq_drv_take_used(f.vq, packets, 8), 2 + good);
            CHECK_EQ(packets[0].size, 20);
            if (good) {
                drv_fixture_check_packet(&f, &packets[1]);
                CHECK_EQ(packets[1].size, lens[j]);
            }
            CHECK_EQ(packets[1 + good].size, 22);
            n_bad += !good;
            CHECK_EQ(f.counters.bad_packets, n_bad);
            virtq_drv_refill(f.vq);
            virtq_drv_publish_avail(f.vq);
            CHECK_EQ(virtq_drv_n_in_flight(f.vq), SIZE);
        }
        CHECK_EQ(f.counters.broken, 0);
        drv_fixture_uninit(&f);
    }
}

/* F-02: the device rewrites descriptors, indirect tables and the available
 * ring as soon as it has read them. */
static void
test_descriptors(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
        for (uint8_t junk = 0; junk < 3; junk++) {
            const uint8_t bytes[] = { 0, 0xff, 1 };
            struct mock_avail avails[SIZE];
            struct drv_fixture f;

            check_name = variants[i].name;
            drv_fixture_init(&f, SIZE, variants[i].features,
                             VIRTQ_DEVICE_READS, BUF_SIZE);
            for (int j = 0; j < 50; j++) {
                static const uint32_t sizes[] = { 3 * BUF_SIZE, 20,
                                                  2 * BUF_SIZE - 1, 20, 1 };
                uint8_t *va = f.mem.regions[0].va + f.config.ofs;
                bool packed = f.dev.packed;
                size_t n;

                for (n = 0; n < ARRAY_SIZE(sizes); n++) {
                    CHECK(drv_fixture_add(&f, j + n, sizes[n]));
                }
                CHECK(!drv_fixture_add(&f, 0, 1));
                virtq_drv_publish_avail(f.vq);
                for (n = 0; mock_device_take(&f.dev, &avails[n]); n++) {
                    drv_fixture_check_avail(&f, &avails[n], j + n, sizes[n]);
                }
                CHECK_EQ(n, ARRAY_SIZE(sizes));

                /* Not the flags of a packed ring: these are used or not.  Not
                 * the available index of a split one: see the test of the
                 * mock. */
                for (int k = 0; k < 16 * SIZE; k++) {
                    if (!packed || k % 16 < 14) {
                        va[k] = bytes[junk];
                    }
                }
                if (!packed) {
                    memset(mock_at(&f.mem, f.dev.driver + 4), bytes[junk],
                           2 * SIZE);
                }
                for (size_t k = 0; k < n; k++) {
                    mock_device_use(&f.dev, &avails[k], 0);
                    free(avails[k].bufs);
                }
                mock_device_publish(&f.dev);
                CHECK_EQ(virtq_drv_reclaim(f.vq), n);
            }
            drv_fixture_uninit(&f);
        }
    }
}

/* F-02 for a receiveq: packets are in our buffers whatever the descriptors
 * say. */
static void
test_descriptors_receive(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
        struct virtq_chain packets[SIZE];
        struct mock_avail avails[SIZE];
        struct drv_fixture f;
        size_t n;

        check_name = variants[i].name;
        drv_fixture_init(&f, SIZE, variants[i].features, VIRTQ_DEVICE_WRITES,
                         BUF_SIZE);
        for (n = 0; n < SIZE; n++) {
            CHECK(mock_device_take(&f.dev, &avails[n]));
            memset(mock_at(&f.mem, avails[n].bufs[0].gpa), n, BUF_SIZE);
        }
        for (int k = 0; k < 16 * SIZE; k++) {
            if (!f.dev.packed || k % 16 < 14) {
                f.mem.regions[0].va[f.config.ofs + k] = 0xff;
            }
        }
        for (n = 0; n < SIZE; n++) {
            mock_device_use(&f.dev, &avails[n], BUF_SIZE);
            free(avails[n].bufs);
        }
        mock_device_publish(&f.dev);
        CHECK_EQ(virtq_drv_take_used(f.vq, packets, SIZE), SIZE);
        for (n = 0; n < SIZE; n++) {
            drv_fixture_check_packet(&f, &packets[n]);
            CHECK_EQ(packets[n].segs[0].va[0], n);
            CHECK_EQ(packets[n].segs[0].va[BUF_SIZE - 1], n);
        }
        drv_fixture_uninit(&f);
    }
}

/* F-03: 'num_buffers', and merges that make no sense.  One row: what the
 * first buffer says, the used lengths that follow, and how many packets and
 * drops come of it. */
static void
test_merges(void)
{
    static const struct {
        const char *name;
        uint16_t num_buffers;
        uint32_t lens[SIZE];
        size_t n_packets, n_bad;
        uint32_t size;          /* Of the first packet. */
    } cases[] = {
        { "one", 1, { 64 }, 1, 0, 64 },
        { "two", 2, { 64, 1 }, 1, 0, 65 },
        { "all", 8, { 64, 64, 64, 64, 64, 64, 64, 64 }, 1, 0, 512 },
        { "not full", 3, { 13, 1, 64 }, 1, 0, 78 },
        { "header alone", 2, { 12, 1 }, 1, 0, 13 },
        { "nothing but a header", 1, { 12 }, 0, 1, 0 },
        { "half a header", 1, { 11 }, 0, 1, 0 },
        { "half a header of two", 2, { 11 }, 0, 1, 0 },
        { "half a header, then a good one", 2, { 11, 20 }, 1, 1, 20 },
        { "0", 0, { 64 }, 0, 1, 0 },
        { "0, then a good one", 0, { 64, 20 }, 1, 1, 20 },
        { "more than there are", 9, { 64 }, 0, 1, 0 },
        { "65535", 65535, { 64 }, 0, 1, 0 },
        { "65535, then a good one", 65535, { 64, 20 }, 1, 1, 20 },
        { "second one missing", 2, { 64 }, 0, 1, 0 },
        { "last one missing", 8, { 64, 64, 64, 64, 64, 64, 64 }, 0, 1, 0 },
        { "too long", 2, { 64, 65 }, 0, 1, 0 },
        { "too long, then a good one", 2, { 64, 65, 20 }, 1, 1, 20 },
        { "much too long", 2, { 64, UINT32_MAX, 20 }, 1, 1, 20 },
        { "first too long", 2, { 65, 64, 20 }, 1, 1, 20 },
    };

    for (size_t i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
        uint64_t features = i & 1 ? PACKED | MERGEABLE : V1 | MERGEABLE;
        size_t row = i / 2;
        struct drv_fixture f;

        check_name = cases[row].name;
        drv_fixture_init(&f, SIZE, features, VIRTQ_DEVICE_WRITES, BUF_SIZE);
        for (int round = 0; round < 5; round++) {
            struct virtq_chain packets[8];
            size_t n;

            for (int j = 0; j < SIZE && cases[row].lens[j]; j++) {
                uint8_t data[BUF_SIZE] = { 0 };
                struct mock_avail avail;
                uint16_t num = j ? 1 : cases[row].num_buffers;

                data[10] = num & 0xff;
                data[11] = num >> 8;
                CHECK(mock_device_take(&f.dev, &avail));
                mock_device_write(&f.dev, &avail, data, BUF_SIZE);
                mock_device_use(&f.dev, &avail, cases[row].lens[j]);
                free(avail.bufs);
            }
            mock_device_publish(&f.dev);

            n = virtq_drv_take_used(f.vq, packets, 8);
            CHECK_EQ(n, cases[row].n_packets);
            CHECK_EQ(f.counters.bad_packets, (round + 1) * cases[row].n_bad);
            for (size_t j = 0; j < n; j++) {
                drv_fixture_check_packet(&f, &packets[j]);
                CHECK_EQ(packets[j].size, cases[row].size);
            }
            CHECK(!virtq_drv_has_used(f.vq));
            virtq_drv_refill(f.vq);
            virtq_drv_publish_avail(f.vq);
            CHECK_EQ(virtq_drv_n_in_flight(f.vq), SIZE);
        }
        drv_fixture_uninit(&f);
    }
}

/* F-03: a merge of buffers that together are longer than any packet. */
static void
test_merge_too_long(void)
{
    struct virtq_chain packets[8];
    struct drv_fixture f;

    drv_fixture_init(&f, SIZE, V1 | MERGEABLE, VIRTQ_DEVICE_WRITES, 40000);
    for (int i = 0; i < 4; i++) {
        const uint8_t two[] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0 };
        uint32_t lens[] = { 40000, 25601, 40000, 25600 };
        struct mock_avail avail;

        CHECK(mock_device_take(&f.dev, &avail));
        mock_device_write(&f.dev, &avail, two, sizeof two);
        mock_device_use(&f.dev, &avail, lens[i]);
        free(avail.bufs);
    }
    mock_device_publish(&f.dev);
    CHECK_EQ(virtq_drv_take_used(f.vq, packets, 8), 1);
    CHECK_EQ(packets[0].size, VIRTQ_DRV_MAX_BUF_SIZE);
    CHECK_EQ(f.counters.bad_packets, 1);
    drv_fixture_uninit(&f);
}

/* Memory that is gone does not come back. */
static void
test_dead(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
        struct drv_fixture f;

        check_name = variants[i].name;
        drv_fixture_init(&f, SIZE, variants[i].features,
                         i & 1 ? VIRTQ_DEVICE_READS : VIRTQ_DEVICE_WRITES,
                         BUF_SIZE);
        atomic_store_relaxed(&f.shm->dead, true);
        CHECK(!virtq_drv_resume(f.vq));
        check_broken(&f, VIRTQ_DRV_ERROR_MEMORY, 0, 0);
        virtq_drv_restart(f.vq);
        CHECK_EQ(virtq_drv_get_error(f.vq, NULL, NULL),
                 VIRTQ_DRV_ERROR_MEMORY);
        drv_fixture_uninit(&f);
    }
}

static void
test_virtq_drv_hostile_main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*function)(void);
    } tests[] = {
        { "ids", test_ids },
        { "batch", test_batch },
        { "lengths", test_lengths },
        { "descriptors", test_descriptors },
        { "descriptors-receive", test_descriptors_receive },
        { "merges", test_merges },
        { "merge-too-long", test_merge_too_long },
        { "dead", test_dead },
    };

    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc > 1 && !strcmp(argv[1], tests[i].name)) {
            tests[i].function();
            return;
        }
    }
    ovs_fatal(0, "no such test");
}

VHUTEST_REGISTER("virtq-drv-hostile", test_virtq_drv_hostile_main);
