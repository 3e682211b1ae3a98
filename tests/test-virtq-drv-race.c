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

/* A second copy of the driver side of virtqueues, in which the memory changes
 * right before each load from it: whatever is read twice is different the
 * second time.  (See test-virtq-race.c for the device side.) */

#include <config.h>

#include <stddef.h>
#include <stdint.h>

static void change_memory(const void *p, size_t size);
#define VIRTIO_LOAD_HOOK(P, SIZE) change_memory(P, SIZE)

#define virtq_drv_break race_virtq_drv_break
#define virtq_drv_check_base race_virtq_drv_check_base
#define virtq_drv_create race_virtq_drv_create
#define virtq_drv_destroy race_virtq_drv_destroy
#define virtq_drv_enable_calls race_virtq_drv_enable_calls
#define virtq_drv_error_to_string race_virtq_drv_error_to_string
#define virtq_drv_find_in_order race_virtq_drv_find_in_order
#define virtq_drv_get_areas race_virtq_drv_get_areas
#define virtq_drv_get_base race_virtq_drv_get_base
#define virtq_drv_get_error race_virtq_drv_get_error
#define virtq_drv_get_features race_virtq_drv_get_features
#define virtq_drv_get_hdr_len race_virtq_drv_get_hdr_len
#define virtq_drv_get_max_packet race_virtq_drv_get_max_packet
#define virtq_drv_get_state race_virtq_drv_get_state
#define virtq_drv_has_used race_virtq_drv_has_used
#define virtq_drv_kick race_virtq_drv_kick
#define virtq_drv_n_in_flight race_virtq_drv_n_in_flight
#define virtq_drv_n_used race_virtq_drv_n_used
#define virtq_drv_packed_add_bufs race_virtq_drv_packed_add_bufs
#define virtq_drv_packed_check_base race_virtq_drv_packed_check_base
#define virtq_drv_packed_enable_calls race_virtq_drv_packed_enable_calls
#define virtq_drv_packed_end_batch race_virtq_drv_packed_end_batch
#define virtq_drv_packed_gather race_virtq_drv_packed_gather
#define virtq_drv_packed_get_base race_virtq_drv_packed_get_base
#define virtq_drv_packed_init race_virtq_drv_packed_init
#define virtq_drv_packed_n_used race_virtq_drv_packed_n_used
#define virtq_drv_packed_next_batch race_virtq_drv_packed_next_batch
#define virtq_drv_packed_prefetch_next race_virtq_drv_packed_prefetch_next
#define virtq_drv_packed_publish_avail race_virtq_drv_packed_publish_avail
#define virtq_drv_packed_reserve race_virtq_drv_packed_reserve
#define virtq_drv_packed_wants_kick race_virtq_drv_packed_wants_kick
#define virtq_drv_prefetch_next race_virtq_drv_prefetch_next
#define virtq_drv_publish_avail race_virtq_drv_publish_avail
#define virtq_drv_reclaim race_virtq_drv_reclaim
#define virtq_drv_refill race_virtq_drv_refill
#define virtq_drv_reserve race_virtq_drv_reserve
#define virtq_drv_restart race_virtq_drv_restart
#define virtq_drv_resume race_virtq_drv_resume
#define virtq_drv_set_kick_fd race_virtq_drv_set_kick_fd
#define virtq_drv_shm_size race_virtq_drv_shm_size
#define virtq_drv_split_add_bufs race_virtq_drv_split_add_bufs
#define virtq_drv_split_check_base race_virtq_drv_split_check_base
#define virtq_drv_split_enable_calls race_virtq_drv_split_enable_calls
#define virtq_drv_split_end_batch race_virtq_drv_split_end_batch
#define virtq_drv_split_gather race_virtq_drv_split_gather
#define virtq_drv_split_get_base race_virtq_drv_split_get_base
#define virtq_drv_split_init race_virtq_drv_split_init
#define virtq_drv_split_n_used race_virtq_drv_split_n_used
#define virtq_drv_split_next_batch race_virtq_drv_split_next_batch
#define virtq_drv_split_prefetch_next race_virtq_drv_split_prefetch_next
#define virtq_drv_split_publish_avail race_virtq_drv_split_publish_avail
#define virtq_drv_split_reserve race_virtq_drv_split_reserve
#define virtq_drv_split_wants_kick race_virtq_drv_split_wants_kick
#define virtq_drv_take_used race_virtq_drv_take_used

#include "virtq-drv.c"
#include "virtq-drv-life.c"

/* Both formats have a function of this name. */
#define add_chain packed_add_chain
#include "virtq-drv-packed.c"
#undef add_chain
#include "virtq-drv-split.c"

#include "virtq-drv-fixture.h"
#include "vhutest.h"

#define SIZE 16
#define BUF_SIZE 64

static uint32_t seed = 1;
static struct drv_fixture fixture;

static uint32_t
any_length(void)
{
    static const uint32_t lengths[] = {
        1, 12, 13, 20, 63, 64, 64, 64, 65, 0, 65536, 0x80000000, UINT32_MAX,
    };

    return lengths[mock_random(&seed, (mock_random(&seed, 10)
                                       ? ARRAY_SIZE(lengths) - 5
                                       : ARRAY_SIZE(lengths)))];
}

/* A chain that the device has, in most cases; the oldest one often. */
static uint32_t
any_id(void)
{
    const struct virtq_drv *vq = fixture.vq;
    uint16_t head = mock_random(&seed, SIZE);

    if (!mock_random(&seed, 100)) {
        return (mock_random(&seed, 2)
                ? mock_random(&seed, SIZE + 2)
                : UINT32_MAX);
    }
    if (vq->in_order && mock_random(&seed, 2)) {
        return vq->next_head;
    }
    for (int i = 0; i < SIZE; i++) {
        const struct virtq_drv_shadow *s = &vq->shadows[head];

        if (s->n_bufs && s->seq < vq->published_seq) {
            break;
        }
        head = (head + 1) % SIZE;
    }
    return head;
}

/* The second half of a packed descriptor: used, in most cases. */
static uint64_t
any_used(void)
{
    uint16_t flags = pvirtq_used_flags(fixture.vq->next_used.wrap);

    if (!mock_random(&seed, 3)) {
        flags = mock_random(&seed, 65536);
    }
    return (any_length() | (uint64_t) (uint16_t) any_id() << 32
            | (uint64_t) flags << 48);
}

/* The hook. */
static void
change_memory(const void *p_, size_t size)
{
    struct virtq_drv *vq = fixture.vq;
    uint8_t *p = CONST_CAST(void *, p_);
    uint64_t x = mock_random(&seed, 65536);

    /* It is not read but in our memory, wherever that is. */
    CHECK(p >= fixture.shm->va + fixture.config.ofs);
    CHECK(p + size <= fixture.shm->va + fixture.shm->size);
    if (!vq) {
        return;
    }

    if (p >= vq->bufs) {
        /* 'num_buffers'. */
        x = mock_random(&seed, 50) ? 1 + mock_random(&seed, 4) : x;
    } else if (vq->format == VIRTQ_PACKED) {
        /* A descriptor, its flags alone, or what the device suppresses. */
        x = (size == 8 ? any_used()
             : size == 2 ? any_used() >> 48
             : x << 16 | (x & 0x7fff));
    } else if (p == (const uint8_t *) &vq->split.used->idx) {
        uint16_t in_flight = vq->published.idx - vq->next_used.idx;

        x = (mock_random(&seed, 200)
             ? (vq->next_used.idx
                + mock_random(&seed, MIN(in_flight, 4) + 1))
             : x);
    } else if (size == 4) {
        bool id = !(((uintptr_t) p - (uintptr_t) &vq->split.used->ring) % 8);

        x = id ? any_id() : any_length();
    }
    memcpy(p, &x, size);
}

/* Each buffer is in one place and only there. */
static void
check_buffers(const struct virtq_drv *vq)
{
    bool seen[SIZE] = { false };
    uint32_t n_chains = 0;

    for (uint32_t i = 0; i < vq->n_idle; i++) {
        uint16_t buf = vq->idle[(vq->idle_first + i) % SIZE];

        CHECK(!seen[buf]);
        seen[buf] = true;
    }
    for (int i = 0; i < SIZE; i++) {
        uint16_t buf = i;

        for (int j = 0; j < vq->shadows[i].n_bufs; j++) {
            CHECK(!seen[buf]);
            seen[buf] = true;
            buf = vq->shadows[buf].next;
        }
        n_chains += vq->shadows[i].n_bufs > 0;
    }
    for (int i = 0; i < SIZE; i++) {
        CHECK(seen[i]);
    }
    CHECK_EQ(vq->n_chains, n_chains);
}

/* Marks the buffers of 'packet', which must not be marked yet. */
static void
mark(const struct virtq_chain *packet, bool marked[SIZE])
{
    drv_fixture_check_packet(&fixture, packet);
    for (int i = 0; i < packet->n_segs; i++) {
        size_t ofs = packet->segs[i].va - fixture.vq->bufs;
        size_t buf = ofs / fixture.vq->stride;

        CHECK_EQ(ofs % fixture.vq->stride, 0);
        CHECK(buf < SIZE);
        CHECK(!marked[buf]);
        CHECK(!fixture.vq->shadows[buf].n_bufs
              || fixture.config.access == VIRTQ_DEVICE_READS);
        marked[buf] = true;
        memset(packet->segs[i].va, 0xaa, packet->segs[i].len);
    }
}

static uint64_t
receive(void)
{
    struct virtq_drv *vq = fixture.vq;
    bool marked[SIZE] = { false };
    struct virtq_chain packets[8];
    size_t n = virtq_drv_take_used(vq, packets, ARRAY_SIZE(packets));

    CHECK(n <= ARRAY_SIZE(packets));
    for (size_t i = 0; i < n; i++) {
        mark(&packets[i], marked);
        CHECK(packets[i].size > vq->hdr_len);
    }
    virtq_drv_refill(vq);
    CHECK(vq->error || !vq->n_idle);
    return n;
}

static uint64_t
transmit(void)
{
    struct virtq_drv *vq = fixture.vq;
    bool marked[SIZE] = { false };
    uint64_t total = 0;

    for (int i = 0; i < 3; i++) {
        struct virtq_chain packets[4];
        uint32_t sizes[4];
        size_t n;

        for (int j = 0; j < 4; j++) {
            sizes[j] = 1 + mock_random(&seed, (mock_random(&seed, 4)
                                               ? BUF_SIZE : 5 * BUF_SIZE));
        }
        n = virtq_drv_reserve(vq, sizes, packets, 1 + i);
        for (size_t j = 0; j < n; j++) {
            CHECK_EQ(packets[j].size, sizes[j]);
            mark(&packets[j], marked);
        }
        if (mock_random(&seed, 2)) {
            virtq_drv_reclaim(vq);
        }
        total += n;
    }
    return total;
}

static void
race(uint64_t features, enum virtq_access access, int n_rounds)
{
    unsigned int n_broken[VIRTQ_DRV_ERROR_MEMORY + 1] = { 0 };
    bool in_order = features & IN_ORDER;
    struct drv_fixture *f = &fixture;
    uint64_t n_packets = 0;
    uint8_t guard[64];

    drv_fixture_init(f, SIZE, features, access, BUF_SIZE);
    memset(f->shm->va, 0x55, f->config.ofs);
    for (int i = 0; i < n_rounds; i++) {
        n_packets += (access == VIRTQ_DEVICE_WRITES ? receive() : transmit());
        virtq_drv_publish_avail(f->vq);
        virtq_drv_kick(f->vq);
        virtq_drv_prefetch_next(f->vq);
        CHECK(virtq_drv_n_used(f->vq) <= SIZE);
        check_buffers(f->vq);
        if (!mock_random(&seed, 10)) {
            struct virtq_pos avail, used;

            virtq_drv_get_base(f->vq, &avail, &used);
            CHECK(virtq_drv_check_base(f->vq, avail, used));
            virtq_drv_enable_calls(f->vq, mock_random(&seed, 2));
        }

        n_broken[f->vq->error]++;
        if (f->vq->error || !mock_random(&seed, 200)) {
            virtq_drv_restart(f->vq);
            check_buffers(f->vq);
            CHECK_EQ(virtq_drv_get_error(f->vq, NULL, NULL),
                     VIRTQ_DRV_ERROR_NONE);
        }
    }

    /* Around it nothing has changed: see vhu-shm.h for what is behind. */
    memset(guard, 0x55, sizeof guard);
    for (size_t i = 0; i < f->config.ofs; i += sizeof guard) {
        CHECK(!memcmp(f->shm->va + i, guard, sizeof guard));
    }

    /* Were all of the cases there? */
    CHECK(n_packets > n_rounds / 10);
    CHECK(n_broken[VIRTQ_DRV_ERROR_NONE] > n_rounds / 10);
    CHECK(n_broken[VIRTQ_DRV_ERROR_ID_RANGE] > 0);
    CHECK(n_broken[VIRTQ_DRV_ERROR_ID_UNKNOWN] > 0);
    if (!f->dev.packed) {
        CHECK(n_broken[VIRTQ_DRV_ERROR_USED_INDEX] > 0);
        CHECK(!in_order || n_broken[VIRTQ_DRV_ERROR_BATCH] > 0);
    }
    CHECK(access == VIRTQ_DEVICE_READS || f->counters.bad_packets > 0);
    drv_fixture_uninit(f);
    f->vq = NULL;
}

static void
test_virtq_drv_race_main(int argc, char *argv[])
{
    int n_rounds = argc > 1 ? atoi(argv[1]) : 100000;
    const uint64_t features[] = {
        V1, V1 | EVENT_IDX | MERGEABLE | INDIRECT, V1 | IN_ORDER | MERGEABLE,
        PACKED, PACKED | EVENT_IDX | MERGEABLE | INDIRECT,
        PACKED | IN_ORDER | MERGEABLE,
    };

    for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
        race(features[i], VIRTQ_DEVICE_READS, n_rounds);
        race(features[i], VIRTQ_DEVICE_WRITES, n_rounds);
    }
}

VHUTEST_REGISTER("virtq-drv-race", test_virtq_drv_race_main);
