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

/* Driver side of virtqueues: what is accepted, notifications, and what happens
 * when a device stops and the next one starts. */

#include <config.h>

#include <inttypes.h>
#include <pthread.h>

#include "ovs-thread.h"
#include "vhost-user-spec.h"
#include "vhu-notify.h"
#include "virtq-drv-fixture.h"
#include "vhutest.h"

static uint32_t seed = 1;

static const struct variant {
    const char *name;
    uint64_t features;
} variants[] = {
    { "split", V1 },
    { "split in order", V1 | IN_ORDER | EVENT_IDX },
    { "split indirect", V1 | INDIRECT | EVENT_IDX },
    { "packed", PACKED },
    { "packed in order", PACKED | IN_ORDER | EVENT_IDX },
    { "packed indirect", PACKED | INDIRECT | EVENT_IDX },
};

/* What virtq_drv_create() accepts. */
static void
test_create(void)
{
    static const struct {
        const char *name;
        enum virtq_format format;
        uint32_t size, buf_size;
        uint64_t ofs;           /* Relative to the end of the memory, minus
                                 * what the virtqueue needs. */
    } cases[] = {
        { "split", VIRTQ_SPLIT, 8, 100, 0 },
        { "split 0", VIRTQ_SPLIT, 0, 100, 0 },
        { "split 7", VIRTQ_SPLIT, 7, 100, 0 },
        { "split 65536", VIRTQ_SPLIT, 65536, 16, 0 },
        { "packed 7", VIRTQ_PACKED, 7, 100, 0 },
        { "packed 0", VIRTQ_PACKED, 0, 100, 0 },
        { "packed 32769", VIRTQ_PACKED, 32769, 16, 0 },
        { "tiny buffers", VIRTQ_SPLIT, 8, 15, 0 },
        { "huge buffers", VIRTQ_SPLIT, 8, 65601, 0 },
        { "not aligned", VIRTQ_SPLIT, 8, 100, -2048 },
        { "too far", VIRTQ_SPLIT, 8, 100, 4096 },
        { "much too far", VIRTQ_SPLIT, 8, 100, UINT64_C(1) << 63 },
    };
    struct vhu_shm_config shm_config = { .name = "vhutest", .size = 1 << 20 };
    struct vhu_shm *shm;
    char *error;

    CHECK(!vhu_shm_create(&shm_config, &shm, &error));
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct virtq_drv_counters counters = { .kicks = 0 };
        struct virtq_drv_config config = {
            .format = cases[i].format,
            .access = VIRTQ_DEVICE_READS,
            .size = cases[i].size,
            .buf_size = cases[i].buf_size,
            .features = V1,
            .shm = shm,
            .kick_fd = -1,
            .counters = &counters,
        };
        struct virtq_drv *vq;
        int retval;

        config.ofs = (shm->size - virtq_drv_shm_size(&config)
                      + cases[i].ofs);
        retval = virtq_drv_create(&config, &vq, &error);
        CHECK(retval == (error ? EINVAL : 0));
        CHECK(!vq == !!error);
        printf("%s: %s\n", cases[i].name, error ? error : "ok");
        free(error);
        virtq_drv_destroy(vq);
    }
    vhu_shm_destroy(shm);
}

/* What a back-end is told: areas that are aligned, apart and inside the
 * memory, in addresses that are not each other's. */
static void
test_areas(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
        struct vhost_user_mem_region region;
        struct virtq_drv_areas a;
        struct virtq_pos avail, used;
        struct drv_fixture f;
        bool packed;

        check_name = variants[i].name;
        drv_fixture_init(&f, 8, variants[i].features, VIRTQ_DEVICE_READS, 99);
        packed = f.config.format == VIRTQ_PACKED;
        virtq_drv_get_areas(f.vq, &a);
        vhu_shm_get_region(f.shm, &region);
        CHECK_EQ(a.desc_uva - region.user_addr, f.config.ofs);
        CHECK_EQ(a.desc_gpa - region.guest_addr, f.config.ofs);
        CHECK_EQ(a.driver_uva - a.driver_gpa, a.desc_uva - a.desc_gpa);
        CHECK_EQ(a.device_uva - a.device_gpa, a.desc_uva - a.desc_gpa);
        CHECK(a.desc_gpa % VIRTQ_DESC_ALIGN == 0);
        CHECK(a.driver_gpa >= a.desc_gpa + 8 * 16);
        CHECK(a.device_gpa >= a.driver_gpa + (packed ? 4 : 6 + 2 * 8));
        CHECK(region.size >= (f.config.ofs + virtq_drv_shm_size(&f.config)));

        virtq_drv_get_base(f.vq, &avail, &used);
        CHECK_EQ(avail.idx, 0);
        CHECK_EQ(avail.wrap, packed);
        CHECK(used.idx == avail.idx && used.wrap == avail.wrap);
        CHECK_EQ(virtq_drv_get_hdr_len(f.vq), 12);
        CHECK_EQ(virtq_drv_get_max_packet(f.vq), 8 * 99);
        CHECK_EQ(virtq_drv_get_features(f.vq), variants[i].features);
        drv_fixture_uninit(&f);
    }

    check_name = "lengths";
    for (int i = 0; i < 4; i++) {
        uint64_t features = (i & 1 ? V1 : 0) | (i & 2 ? MERGEABLE : 0);
        struct drv_fixture f;

        drv_fixture_init(&f, 8, features, VIRTQ_DEVICE_WRITES, 99);
        CHECK_EQ(virtq_drv_get_hdr_len(f.vq), i ? 12 : 10);
        CHECK_EQ(virtq_drv_get_max_packet(f.vq), i & 2 ? 8 * 99 : 99);
        drv_fixture_uninit(&f);
    }
}

/* Notifications. */

/* Publishes 'n' packets.  Returns how many kicks that took. */
static uint64_t
publish(struct drv_fixture *f, int n)
{
    for (int i = 0; i < n; i++) {
        CHECK(drv_fixture_add(f, 0, 20));
    }
    virtq_drv_publish_avail(f->vq);
    virtq_drv_kick(f->vq);
    return drv_fixture_kicks(f);
}

/* The device takes and uses all that there is.  Returns how many. */
static int
use_all(struct drv_fixture *f)
{
    struct mock_avail avail;
    int n = 0;

    while (mock_device_take(&f->dev, &avail)) {
        mock_device_use(&f->dev, &avail, 0);
        free(avail.bufs);
        n++;
    }
    mock_device_publish(&f->dev);
    return n;
}

static void
test_kick_flags(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
        int other_fd = eventfd(0, EFD_NONBLOCK);
        struct drv_fixture f;
        uint64_t n;

        check_name = variants[i].name;
        if (variants[i].features & EVENT_IDX) {
            continue;
        }
        drv_fixture_init(&f, 64, variants[i].features, VIRTQ_DEVICE_READS, 64);

        /* The first one is due in any case, even if there is nothing. */
        mock_device_set_no_notify(&f.dev, true);
        CHECK_EQ(publish(&f, 0), 1);
        CHECK_EQ(publish(&f, 0), 0);
        CHECK_EQ(f.counters.kicks, 1);

        CHECK_EQ(publish(&f, 3), 0);
        CHECK_EQ(f.counters.kicks_suppressed, 1);
        mock_device_set_no_notify(&f.dev, false);
        CHECK_EQ(publish(&f, 0), 0);
        CHECK_EQ(publish(&f, 5), 1);
        CHECK_EQ(publish(&f, 1), 1);
        CHECK_EQ(f.counters.kicks, 3);

        /* Another one begins with a notification, too. */
        mock_device_set_no_notify(&f.dev, true);
        virtq_drv_set_kick_fd(f.vq, -1);
        CHECK_EQ(publish(&f, 1), 0);
        virtq_drv_set_kick_fd(f.vq, other_fd);
        CHECK_EQ(publish(&f, 0), 0);
        CHECK(read(other_fd, &n, sizeof n) == sizeof n && n == 1);
        CHECK_EQ(publish(&f, 1), 0);
        CHECK(read(other_fd, &n, sizeof n) < 0);

        virtq_drv_set_kick_fd(f.vq, f.kick_fd);
        CHECK_EQ(publish(&f, 0), 1);
        CHECK_EQ(publish(&f, 1), 0);
        CHECK(virtq_drv_resume(f.vq));
        CHECK_EQ(publish(&f, 0), 1);
        close(other_fd);
        drv_fixture_uninit(&f);
    }
}

/* A device that asks for a notification at a random place near where the
 * driver is. */
static void
test_kick_event(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
        uint32_t size = 16;
        struct drv_fixture f;
        uint16_t pos;
        int n_kicks = 0;

        check_name = variants[i].name;
        if (!(variants[i].features & EVENT_IDX)) {
            continue;
        }
        drv_fixture_init(&f, size, variants[i].features, VIRTQ_DEVICE_READS,
                         64);
        publish(&f, 0);
        pos = f.dev.next_avail;
        for (int j = 0; j < 30000; j++) {
            uint16_t n = mock_random(&seed, size + 1);
            uint16_t event = pos - mock_random(&seed, 3);
            bool due = false;

            if (f.dev.packed) {
                event = mock_packed_advance(size, pos,
                                            mock_random(&seed, 2 * size));
            } else {
                event += mock_random(&seed, size + 3);
            }
            mock_device_set_avail_event(&f.dev, event);
            for (uint16_t k = 0; k < n; k++) {
                due |= pos == event;
                pos = (f.dev.packed ? mock_packed_advance(size, pos, 1)
                       : pos + 1);
            }
            CHECK_EQ(publish(&f, n), due);
            CHECK_EQ(use_all(&f), n);
            n_kicks += due;
        }
        CHECK(n_kicks > 5000 && n_kicks < 25000);
        CHECK_EQ(f.counters.kicks, n_kicks + 1);

        if (f.dev.packed) {
            /* The other flags work all the same; nonsense asks for kicks. */
            mock_device_set_no_notify(&f.dev, true);
            CHECK_EQ(publish(&f, 1), 0);
            mock_device_set_no_notify(&f.dev, false);
            CHECK_EQ(publish(&f, 1), 1);
            mock_device_set_avail_event(&f.dev, size);
            CHECK_EQ(publish(&f, 1), 1);
            mock_put16(&f.mem, f.dev.device + 2, 3);
            CHECK_EQ(publish(&f, 1), 1);
        } else {
            /* The flags mean nothing. */
            mock_device_set_avail_event(&f.dev, pos - 1);
            mock_device_set_no_notify(&f.dev, false);
            CHECK_EQ(publish(&f, 1), 0);
            mock_device_set_no_notify(&f.dev, true);
            mock_device_set_avail_event(&f.dev, pos + 1);
            CHECK_EQ(publish(&f, 1), 1);
        }
        drv_fixture_uninit(&f);
    }
}

static void *
watchdog_main(void *aux OVS_UNUSED)
{
    while (vhu_notify_watch()) {
        /* Nothing. */
    }
    return NULL;
}

/* A back-end can make the kick eventfd block, but not us. */
static void
test_kick_blocks(void)
{
    pthread_t watchdog = ovs_thread_create("watchdog", watchdog_main, NULL);
    uint64_t max = UINT64_MAX - 1;
    int full_fd = eventfd(0, 0);
    struct drv_fixture f;

    drv_fixture_init(&f, 16, V1, VIRTQ_DEVICE_READS, 64);
    CHECK(write(full_fd, &max, sizeof max) == sizeof max);
    CHECK_EQ(publish(&f, 1), 1);
    virtq_drv_set_kick_fd(f.vq, full_fd);
    publish(&f, 1);
    CHECK_EQ(virtq_drv_get_error(f.vq, NULL, NULL),
             VIRTQ_DRV_ERROR_KICK_BLOCKED);
    CHECK_EQ(f.counters.kicks, 1);

    /* With another one, and a device that notices nothing. */
    virtq_drv_restart(f.vq);
    virtq_drv_set_kick_fd(f.vq, f.kick_fd);
    drv_fixture_start_device(&f);
    CHECK_EQ(publish(&f, 1), 1);
    CHECK_EQ(use_all(&f), 3);

    vhu_notify_watch_stop();
    xpthread_join(watchdog, NULL);
    close(full_fd);
    drv_fixture_uninit(&f);
}

/* Used buffer notifications: none when polling, however long; one, or each,
 * when asked for. */
static void
test_calls(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
        bool event_idx = variants[i].features & EVENT_IDX;
        struct drv_fixture f;

        check_name = variants[i].name;
        drv_fixture_init(&f, 8, variants[i].features, VIRTQ_DEVICE_READS, 64);
        for (int j = 0; j < 40000; j++) {
            publish(&f, 1 + j % 8);
            use_all(&f);
            if (mock_device_must_call(&f.dev)) {
                CHECK_EQ(j, -1);
            }
            CHECK(virtq_drv_has_used(f.vq));
            virtq_drv_reclaim(f.vq);
        }

        /* As someone does who is going to sleep. */
        for (int j = 0; j < 1000; j++) {
            virtq_drv_enable_calls(f.vq, true);
            CHECK(!virtq_drv_has_used(f.vq));
            publish(&f, 3);
            CHECK(!mock_device_must_call(&f.dev));
            CHECK_EQ(use_all(&f), 3);
            CHECK(mock_device_must_call(&f.dev));
            publish(&f, 1);
            use_all(&f);
            CHECK_EQ(mock_device_must_call(&f.dev), !event_idx);
            CHECK_EQ(virtq_drv_reclaim(f.vq), 4);
        }

        virtq_drv_enable_calls(f.vq, false);
        publish(&f, 3);
        use_all(&f);
        CHECK(!mock_device_must_call(&f.dev));
        drv_fixture_uninit(&f);
    }
}

/* One device after the other. */

#define SIZE 32
#define MAX_SENT 100000

struct history {
    struct drv_fixture f;
    struct mock_avail held[SIZE]; /* By the device, not used. */
    uint32_t held_seqs[SIZE];
    uint32_t n_held;
    uint32_t sizes[MAX_SENT];   /* By number. */
    uint32_t fifo[MAX_SENT];    /* Numbers, as the device must see them. */
    uint32_t head, tail;        /* Of 'fifo'. */
    uint32_t n_sent;
};

static void
send_some(struct history *h)
{
    uint32_t n = mock_random(&seed, 6);

    for (uint32_t i = 0; i < n; i++) {
        uint32_t size = 1 + mock_random(&seed, 200);

        if (!drv_fixture_add(&h->f, h->n_sent, size)) {
            break;
        }
        h->sizes[h->n_sent] = size;
        h->fifo[h->tail++] = h->n_sent++;
    }
    virtq_drv_publish_avail(h->f.vq);
}

/* The device takes some packets and uses some of those that it has. */
static void
device_step(struct history *h, bool use)
{
    uint32_t n = mock_random(&seed, 6);

    while (n-- && mock_device_take(&h->f.dev, &h->held[h->n_held])) {
        uint32_t seq = h->fifo[h->head++];

        CHECK(h->head <= h->tail);
        drv_fixture_check_avail(&h->f, &h->held[h->n_held], seq,
                                h->sizes[seq]);
        h->held_seqs[h->n_held++] = seq;
    }
    n = use ? mock_random(&seed, h->n_held + 1) : 0;
    while (n--) {
        uint32_t i = h->f.dev.in_order ? 0 : mock_random(&seed, h->n_held);

        mock_device_use(&h->f.dev, &h->held[i], 0);
        free(h->held[i].bufs);
        h->n_held--;
        memmove(&h->held[i], &h->held[i + 1],
                (h->n_held - i) * sizeof *h->held);
        memmove(&h->held_seqs[i], &h->held_seqs[i + 1],
                (h->n_held - i) * sizeof *h->held_seqs);
    }
    mock_device_publish(&h->f.dev);
}

static int
compare_uint32s(const void *a_, const void *b_)
{
    const uint32_t *a = a_;
    const uint32_t *b = b_;

    return *a < *b ? -1 : *a > *b;
}

/* The device forgets what it holds.  The next one is going to see that once
 * more, in its order and before all else. */
static void
forget_held(struct history *h)
{
    qsort(h->held_seqs, h->n_held, sizeof *h->held_seqs, compare_uint32s);
    h->head -= h->n_held;
    memcpy(&h->fifo[h->head], h->held_seqs,
           h->n_held * sizeof *h->held_seqs);
    while (h->n_held) {
        free(h->held[--h->n_held].bufs);
    }
}

/* A ring that is made fresh has all that was not transmitted, in order. */
static void
test_restart(void)
{
    struct history *h = xmalloc(sizeof *h);

    for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
        uint64_t n_pending = 0;

        check_name = variants[i].name;
        memset(h, 0, sizeof *h);
        drv_fixture_init(&h->f, SIZE, variants[i].features,
                         VIRTQ_DEVICE_READS, 64);
        for (int j = 0; j < 3000; j++) {
            send_some(h);
            device_step(h, true);
            if (!mock_random(&seed, 10)) {
                /* Once in a while the ring is broken, too. */
                if (!mock_random(&seed, 3)) {
                    virtq_drv_reclaim(h->f.vq);
                    if (h->f.dev.packed) {
                        uint16_t pos = h->f.dev.next_used;

                        mock_put32(&h->f.mem,
                                   h->f.dev.desc + 16 * (pos & 0x7fff) + 12,
                                   (pos >> 15 ? 0x80800000 : 0) | 999);
                    } else {
                        mock_put16(&h->f.mem, h->f.dev.device + 2,
                                   h->f.dev.next_used + SIZE + 1);
                    }
                    virtq_drv_reclaim(h->f.vq);
                    CHECK(virtq_drv_get_error(h->f.vq, NULL, NULL));
                    CHECK(!virtq_drv_resume(h->f.vq));
                    CHECK(!drv_fixture_add(&h->f, 0, 1));
                }

                /* A packet that is not published is not seen. */
                drv_fixture_add(&h->f, 0, 1);
                forget_held(h);
                virtq_drv_restart(h->f.vq);
                CHECK(!virtq_drv_get_error(h->f.vq, NULL, NULL));
                CHECK_EQ(virtq_drv_n_in_flight(h->f.vq), h->tail - h->head);
                n_pending += h->tail - h->head;
                drv_fixture_start_device(&h->f);
            }
        }
        CHECK(n_pending > 1000);
        while (h->head < h->tail || h->n_held) {
            device_step(h, true);
        }
        drv_fixture_uninit(&h->f);
    }
    free(h);
}

/* A device that goes on where the one before stopped.  It had used all that it
 * took. */
static void
test_resume(void)
{
    struct history *h = xmalloc(sizeof *h);

    for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
        check_name = variants[i].name;
        memset(h, 0, sizeof *h);
        drv_fixture_init(&h->f, SIZE, variants[i].features,
                         VIRTQ_DEVICE_READS, 64);
        for (int j = 0; j < 10000; j++) {
            send_some(h);
            device_step(h, true);
            if (!mock_random(&seed, 10)) {
                uint16_t base, next_desc;

                while (h->n_held) {
                    device_step(h, true);
                }
                base = h->f.dev.next_avail;
                next_desc = h->f.dev.next_desc;
                CHECK_EQ(h->f.dev.next_used, base);
                CHECK(virtq_drv_resume(h->f.vq));

                /* This finds out by itself. */
                drv_fixture_start_device(&h->f);
                CHECK_EQ(h->f.dev.next_avail, base);
                h->f.dev.next_desc = next_desc;
            }
        }
        while (h->head < h->tail || h->n_held) {
            device_step(h, true);
        }
        virtq_drv_reclaim(h->f.vq);
        CHECK_EQ(virtq_drv_n_in_flight(h->f.vq), 0);
        drv_fixture_uninit(&h->f);
    }
    free(h);
}

static bool
check_base(const struct drv_fixture *f, uint16_t pos)
{
    struct virtq_pos p = drv_fixture_pos(f, pos);

    return virtq_drv_check_base(f->vq, p, p);
}

/* Which answers to GET_VRING_BASE make sense. */
static void
test_base(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
        struct drv_fixture f;
        uint16_t pos;

        check_name = variants[i].name;
        drv_fixture_init(&f, 8, variants[i].features, VIRTQ_DEVICE_READS, 64);
        for (int j = 0; j < 100; j++) {
            int n = j % 9;

            pos = f.dev.next_avail;
            CHECK(check_base(&f, pos));
            publish(&f, n);
            for (int k = 0; k < 16; k++) {
                uint16_t there = (f.dev.packed
                                  ? mock_packed_advance(8, pos, k)
                                  : pos + k);

                CHECK_EQ(check_base(&f, there), k <= n);
            }
            CHECK_EQ(use_all(&f), n);
            virtq_drv_reclaim(f.vq);
        }
        if (f.dev.packed) {
            CHECK(!check_base(&f, 8));
            CHECK(!check_base(&f, 0x8000 | 8));
            CHECK(!check_base(&f, 0x7fff));
            CHECK(!check_base(&f, 0xffff));
        } else {
            CHECK(!check_base(&f, f.dev.next_avail - 1));
            CHECK(!check_base(&f, f.dev.next_avail + 0x8000));
        }
        drv_fixture_uninit(&f);
    }
}

/* A receiveq has all of its buffers available again. */
static void
test_restart_receive(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
        struct virtq_chain packets[VIRTQ_MAX_BURST];
        struct drv_fixture f;

        check_name = variants[i].name;
        drv_fixture_init(&f, 8, variants[i].features, VIRTQ_DEVICE_WRITES, 64);
        for (int j = 0; j < 50; j++) {
            struct mock_avail avail;
            uint8_t data[64];
            int n;

            memset(data, j, sizeof data);
            for (n = 0; mock_device_take(&f.dev, &avail); n++) {
                if (n < j % 9) {
                    mock_device_write(&f.dev, &avail, data, sizeof data);
                    mock_device_use(&f.dev, &avail, sizeof data);
                }
                free(avail.bufs);
            }
            CHECK_EQ(n, 8);
            mock_device_publish(&f.dev);
            n = virtq_drv_take_used(f.vq, packets, j % 4);
            CHECK_EQ(n, MIN(j % 9, j % 4));
            for (int k = 0; k < n; k++) {
                CHECK(!memcmp(packets[k].segs[0].va, data, sizeof data));
            }
            virtq_drv_restart(f.vq);
            CHECK_EQ(virtq_drv_take_used(f.vq, packets, 8), 0);
            CHECK_EQ(virtq_drv_n_in_flight(f.vq), 8);
            drv_fixture_start_device(&f);
        }
        drv_fixture_uninit(&f);
    }
}

/* What is shown to people. */
static void
test_state(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
        struct virtq_drv_state s;
        struct drv_fixture f;

        check_name = variants[i].name;
        drv_fixture_init(&f, 8, variants[i].features, VIRTQ_DEVICE_READS, 64);
        publish(&f, 5);
        virtq_drv_enable_calls(f.vq, true);
        virtq_drv_get_state(f.vq, &s);
        CHECK_EQ(s.format, f.config.format);
        CHECK_EQ(s.size, 8);
        CHECK_EQ(s.avail.idx, 5);
        CHECK_EQ(s.used.idx, 0);
        CHECK_EQ(s.n_in_flight, 5);
        CHECK_EQ(s.n_free_bufs, 3);
        CHECK(s.calls_enabled);
        use_all(&f);
        CHECK_EQ(virtq_drv_n_used(f.vq), f.dev.packed ? 1 : 5);
        CHECK_EQ(virtq_drv_reclaim(f.vq), 5);
        virtq_drv_get_state(f.vq, &s);
        CHECK_EQ(s.used.idx, 5);
        CHECK_EQ(s.n_in_flight, 0);
        CHECK_EQ(s.n_free_bufs, 8);
        drv_fixture_uninit(&f);
    }
}

static void
test_virtq_drv_life_main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*function)(void);
    } tests[] = {
        { "create", test_create },
        { "areas", test_areas },
        { "kick-flags", test_kick_flags },
        { "kick-event", test_kick_event },
        { "kick-blocks", test_kick_blocks },
        { "calls", test_calls },
        { "restart", test_restart },
        { "restart-receive", test_restart_receive },
        { "resume", test_resume },
        { "base", test_base },
        { "state", test_state },
    };

    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc > 1 && !strcmp(argv[1], tests[i].name)) {
            tests[i].function();
            return;
        }
    }
    ovs_fatal(0, "no such test");
}

VHUTEST_REGISTER("virtq-drv-life", test_virtq_drv_life_main);
