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
#include <poll.h>
#include <sched.h>

#include "ovs-thread.h"
#include "timeval.h"
#include "util.h"
#include "vhu-notify.h"
#include "vhutest.h"
#include "virtio-barrier.h"
#include "virtq-fixture.h"

#define FEATURES (VIRTIO_BIT(VIRTIO_F_VERSION_1) \
                  | VIRTIO_BIT(VIRTIO_F_INDIRECT_DESC))
#define PACKED VIRTIO_BIT(VIRTIO_F_RING_PACKED)
#define EVENT_IDX VIRTIO_BIT(VIRTIO_F_EVENT_IDX)

/* A slot is the memory of one chain: its buffers, then its indirect table. */
#define N_SLOTS 300
#define SLOT_SIZE 3072
#define TABLE_OFS 2800
#define MAX_BUFS 6
#define MAX_LEN 400

/* What the driver remembers of the chain in a slot. */
struct record {
    struct mock_buf bufs[MAX_BUFS];
    size_t n;
    uint32_t size;
    uint32_t used_len;
    uint16_t head;
    uint8_t pattern;
};

struct run {
    struct fixture f;
    uint32_t seed;
    bool device_writes;

    struct record records[N_SLOTS];
    uint16_t free_slots[N_SLOTS];
    int n_free;

    /* Slots in the order in which their chains were made available; the first
     * of them that the device has not used and that the driver has not seen
     * used. */
    uint16_t *order;
    int n_order, next_device, next_driver;

    int n_empty;                /* Chains without any byte. */
};

static uint64_t
slot_gpa(uint16_t slot)
{
    if (slot == 0) {
        return MOCK_B_GPA - SLOT_SIZE / 3;
    } else if (slot == 1) {
        return MOCK_B_GPA + MOCK_B_SIZE - SLOT_SIZE;
    } else if (slot < 150) {
        return MOCK_A_GPA + 0x100000 + slot * SLOT_SIZE;
    } else if (slot < 220) {
        return MOCK_B_GPA + (slot - 148) * SLOT_SIZE;
    } else {
        return MOCK_C_GPA + (slot - 220) * SLOT_SIZE;
    }
}

static uint8_t
pattern(uint8_t p, uint32_t i)
{
    return p + i * 7 + (i >> 5);
}

/* Stores in '*rec' random buffers in 'slot'. */
static void
make_record(struct run *run, uint16_t slot, struct record *rec)
{
    static const uint16_t lens[] = { 0, 1, 2, 10, 12, 60, 64 };
    uint64_t gpa = slot_gpa(slot);

    rec->n = 1 + mock_random(&run->seed, MIN(MAX_BUFS, run->f.driver.size));
    rec->size = 0;
    rec->pattern = mock_random(&run->seed, 256);
    for (size_t i = 0; i < rec->n; i++) {
        struct mock_buf *buf = &rec->bufs[i];

        buf->len = (mock_random(&run->seed, 2)
                    ? lens[mock_random(&run->seed, ARRAY_SIZE(lens))]
                    : mock_random(&run->seed, MAX_LEN));
        buf->gpa = gpa;
        gpa += buf->len + mock_random(&run->seed, 3);
        for (uint32_t j = 0; j < buf->len; j++) {
            *mock_at(&run->f.mock_mem, buf->gpa + j)
                = run->device_writes ? 0 : pattern(rec->pattern,
                                                   rec->size + j);
        }
        rec->size += buf->len;
    }
}

/* The driver makes a few chains available. */
static void
driver_add(struct run *run, int max_order)
{
    for (int n = mock_random(&run->seed, 40); n > 0; n--) {
        uint16_t slot;
        struct record *rec;
        size_t n_indirect;
        int head;

        if (!run->n_free || run->n_order >= max_order) {
            break;
        }
        slot = run->free_slots[run->n_free - 1];
        rec = &run->records[slot];
        make_record(run, slot, rec);
        n_indirect = (mock_random(&run->seed, 2)
                      ? 0
                      : mock_random(&run->seed, rec->n + 1));
        if (n_indirect && run->f.driver.packed) {
            n_indirect = rec->n;
        }
        head = mock_driver_add(&run->f.driver, rec->bufs, rec->n, n_indirect,
                               slot_gpa(slot) + TABLE_OFS
                               + mock_random(&run->seed, 3), slot);
        if (head < 0) {
            break;
        }
        rec->head = head;
        run->n_free--;
        run->order[run->n_order++] = slot;
        run->n_empty += !rec->size;
    }
    mock_driver_publish(&run->f.driver);
}

/* The device reads or writes 'chain'. */
static void
device_touch(struct run *run, const struct virtq_chain *chain,
             struct record *rec)
{
    uint32_t pos = 0;

    fixture_check_chain(&run->f, chain);
    CHECK_EQ(chain->id, rec->head);
    CHECK_EQ(chain->size, rec->size);
    CHECK_EQ(!chain->n_segs, !rec->size);
    rec->used_len = (run->device_writes
                     ? mock_random(&run->seed, rec->size + 1)
                     : 0);
    for (int i = 0; i < chain->n_segs; i++) {
        const struct virtq_seg *seg = &chain->segs[i];

        for (uint32_t j = 0; j < seg->len; j++, pos++) {
            uint8_t byte = pattern(rec->pattern, pos);

            if (!run->device_writes) {
                CHECK_EQ(seg->va[j], byte);
            } else if (pos < rec->used_len) {
                seg->va[j] = byte;
            }
        }
    }
}

/* The device uses a few chains. */
static void
device_use(struct run *run)
{
    struct virtq_chain chains[VIRTQ_MAX_BURST];
    size_t max = 1 + mock_random(&run->seed, VIRTQ_MAX_BURST);
    size_t n = virtq_take_avail(run->f.vq, chains, max);

    /* Put a few back. */
    if (n && !mock_random(&run->seed, 4)) {
        size_t back = 1 + mock_random(&run->seed, n);

        n -= back;
        virtq_put_back(run->f.vq, &chains[n], back);
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t slot = run->order[run->next_device++];

        CHECK(run->next_device <= run->n_order);
        device_touch(run, &chains[i], &run->records[slot]);
        virtq_add_used(run->f.vq, &chains[i], run->records[slot].used_len);
    }
    CHECK_EQ(virtq_get_error(run->f.vq, NULL, NULL), VIRTQ_ERROR_NONE);

    /* Sometimes several bursts are published at once. */
    if (mock_random(&run->seed, 8)) {
        virtq_publish_used(run->f.vq);
        virtq_call(run->f.vq);
        virtq_prefetch_next(run->f.vq);
    }
}

/* The driver takes all used chains, then asks for a notification. */
static void
driver_get_used(struct run *run)
{
    uint64_t slot;
    uint16_t head;
    uint32_t len;

    while (mock_driver_get_used(&run->f.driver, &head, &len, &slot)) {
        struct record *rec = &run->records[slot];
        uint32_t pos = 0;

        CHECK(run->next_driver < run->next_device);
        CHECK_EQ(slot, run->order[run->next_driver]);
        CHECK_EQ(len, rec->used_len);
        run->next_driver++;
        for (size_t i = 0; run->device_writes && i < rec->n; i++) {
            for (uint32_t j = 0; j < rec->bufs[i].len; j++, pos++) {
                CHECK_EQ(*mock_at(&run->f.mock_mem, rec->bufs[i].gpa + j),
                         pos < len ? pattern(rec->pattern, pos) : 0);
            }
        }
        run->free_slots[run->n_free++] = slot;
    }
    fixture_calls(&run->f);
    if (run->f.driver.event_idx) {
        mock_driver_notify_next(&run->f.driver);
    }
}

/* The driver and we, in turn, with all that is legal. */
static void
run_one(uint32_t size, uint16_t start, uint64_t features,
        enum virtq_access access, int n_chains)
{
    char *name = xasprintf("size %"PRIu32", start %"PRIu16", features 0x%"
                           PRIx64", access %d", size, start, features, access);
    struct run *run = xzalloc(sizeof *run);

    check_name = name;
    fixture_init(&run->f, size, start, features, access);
    fixture_start(&run->f);
    run->seed = size + start;
    run->device_writes = access == VIRTQ_DEVICE_WRITES;
    run->order = xcalloc(n_chains, sizeof *run->order);
    for (uint16_t i = 0; i < N_SLOTS; i++) {
        run->free_slots[run->n_free++] = i;
    }

    while (run->next_driver < n_chains) {
        bool asleep = run->next_driver == run->next_device;

        driver_add(run, n_chains);
        device_use(run);
        if (asleep && run->next_device > run->next_driver
            && mock_driver_has_used(&run->f.driver)) {
            CHECK_EQ(fixture_calls(&run->f), 1);
        }
        if (run->n_order == n_chains || mock_random(&run->seed, 2)) {
            driver_get_used(run);
        }

        /* As after SET_MEM_TABLE. */
        if (!mock_random(&run->seed, 100)) {
            virtq_publish_used(run->f.vq);
            virtq_get_base(run->f.vq, &run->f.config.avail,
                           &run->f.config.used);
            fixture_start(&run->f);
            driver_get_used(run);
        }
    }
    CHECK_EQ(run->f.driver.n_outstanding, 0);
    CHECK(run->f.counters.bad_chains >= run->n_empty);
    CHECK_EQ(run->f.counters.broken, 0);
    CHECK_EQ(run->f.driver.n_free, size);

    fixture_uninit(&run->f);
    free(run->order);
    free(run);
    free(name);
}

static void
run_random(const uint32_t sizes[], size_t n_sizes, uint64_t features)
{
    static const uint16_t starts[] = { 0, 65530 };

    for (size_t i = 0; i < n_sizes; i++) {
        for (size_t j = 0; j < ARRAY_SIZE(starts); j++) {
            for (int k = 0; k < 4; k++) {
                run_one(sizes[i], starts[j],
                        features | (k & 1 ? EVENT_IDX : 0),
                        k & 2 ? VIRTQ_DEVICE_READS : VIRTQ_DEVICE_WRITES,
                        2000);
            }
        }
    }
}

static void
test_random(void)
{
    static const uint32_t sizes[] = { 1, 2, 4, 256, 32768 };

    run_random(sizes, ARRAY_SIZE(sizes), FEATURES);
}

static void
test_packed_random(void)
{
    static const uint32_t sizes[] = {
        1, 2, 3, 5, 255, 256, 1000, 32767, 32768
    };

    run_random(sizes, ARRAY_SIZE(sizes), FEATURES | PACKED);
}

/* Long enough for the indices to come round twice. */
static void
test_wrap(void)
{
    run_one(256, 0, FEATURES | EVENT_IDX, VIRTQ_DEVICE_READS, 140000);
}

/* Driver and device in a thread each, both of which sleep when there is
 * nothing to do: a lost notification stops them. */

#define N_THREAD_BUFS 100000

struct threads {
    struct fixture f;
    int kick_fd;
};

static void
notify(int fd)
{
    uint64_t one = 1;

    CHECK_EQ(write(fd, &one, sizeof one), sizeof one);
}

static void
wait_for(int fd)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN };
    uint64_t n;

    if (poll(&pfd, 1, 10000) <= 0) {
        ovs_fatal(0, "%s: lost a notification", check_name);
    }
    CHECK_EQ(read(fd, &n, sizeof n), sizeof n);
}

static void *
device_main(void *t_)
{
    struct threads *t = t_;
    uint32_t next = 0;

    while (next < N_THREAD_BUFS) {
        struct virtq_chain chains[VIRTQ_MAX_BURST];
        size_t n = virtq_take_avail(t->f.vq, chains, 32);

        for (size_t i = 0; i < n; i++) {
            uint32_t number;

            CHECK_EQ(chains[i].size, sizeof number);
            memcpy(&number, chains[i].segs[0].va, sizeof number);
            CHECK_EQ(number, next);
            next++;
        }
        virtq_add_used_burst(t->f.vq, chains, NULL, n);
        virtq_publish_used(t->f.vq);
        virtq_call(t->f.vq);
        if (!n && next < N_THREAD_BUFS) {
            virtq_enable_kicks(t->f.vq, true);
            if (!virtq_has_avail(t->f.vq)) {
                wait_for(t->kick_fd);
            }
            virtq_enable_kicks(t->f.vq, false);
        }
    }
    return NULL;
}

static void
driver_main(struct threads *t)
{
    struct mock_driver *d = &t->f.driver;
    uint32_t next = 0, n_used = 0;

    while (n_used < N_THREAD_BUFS) {
        uint32_t n_old = n_used;
        uint64_t number;
        uint16_t head;
        uint32_t len;

        while (next < N_THREAD_BUFS && d->n_free) {
            struct mock_buf buf = { MOCK_C_GPA + 64 * (next % d->size), 4 };

            memcpy(mock_at(d->mem, buf.gpa), &next, sizeof next);
            mock_driver_add(d, &buf, 1, 0, 0, next++);
        }
        if (d->published != d->next_avail) {
            mock_driver_publish(d);
            if (mock_driver_must_kick(d)) {
                notify(t->kick_fd);
            }
        }

        while (mock_driver_get_used(d, &head, &len, &number)) {
            CHECK_EQ(number, n_used);
            n_used++;
        }
        if (n_used == n_old) {
            mock_driver_notify_next(d);
            if (!mock_driver_has_used(d)) {
                wait_for(t->f.call_fd);
            }
            mock_driver_set_no_interrupt(d, true);
        }
    }
}

static void
run_threads(uint64_t features)
{
    static const uint32_t sizes[] = { 1, 8, 256 };

    for (size_t i = 0; i < ARRAY_SIZE(sizes) * 2; i++) {
        struct threads t;
        pthread_t device;

        check_name = i & 1 ? "event index" : "flags";
        fixture_init(&t.f, sizes[i / 2], 0,
                     features | (i & 1 ? EVENT_IDX : 0), VIRTQ_DEVICE_READS);
        fixture_start(&t.f);
        t.kick_fd = eventfd(0, EFD_NONBLOCK);
        device = ovs_thread_create("device", device_main, &t);
        driver_main(&t);
        xpthread_join(device, NULL);
        close(t.kick_fd);
        fixture_uninit(&t.f);
    }
}

static void
test_threads(void)
{
    run_threads(FEATURES);
}

static void
test_packed_threads(void)
{
    run_threads(FEATURES | PACKED);
}

/* A guest that clears or scribbles over its memory while we use it. */

static atomic_bool scribbling;

static void *
scribble_main(void *f_)
{
    struct fixture *f = f_;
    uint32_t seed = 1;
    bool go_on;

    do {
        uint8_t *ring = mock_at(&f->mock_mem, f->driver.desc);
        uint32_t size = f->driver.end - f->driver.desc;

        memset(ring, mock_random(&seed, 3), size);
        for (int i = 0; i < 1000; i++) {
            ring[mock_random(&seed, size)]
                = mock_random(&seed, f->driver.packed ? 256 : 16);
        }
        atomic_read(&scribbling, &go_on);
    } while (go_on);
    return NULL;
}

static void
run_scribble(uint64_t features)
{
    struct fixture f;
    pthread_t thread;
    long long int deadline;
    int n_broken = 0;

    if (VIRTIO_TSAN) {
        exit(77);               /* A data race is what this is about. */
    }

    fixture_init(&f, 16, 0, features, VIRTQ_DEVICE_WRITES);
    atomic_store(&scribbling, true);
    thread = ovs_thread_create("scribble", scribble_main, &f);
    fixture_start(&f);
    deadline = time_msec() + 10000;
    while (n_broken < 1000 && time_msec() < deadline) {
        struct virtq_chain chains[VIRTQ_MAX_BURST];
        size_t n = virtq_take_avail(f.vq, chains, 32);

        for (size_t j = 0; j < n; j++) {
            fixture_check_chain(&f, &chains[j]);
            virtq_add_used(f.vq, &chains[j], 1);
        }
        virtq_publish_used(f.vq);
        virtq_call(f.vq);
        virtq_prefetch_next(f.vq);
        if (virtq_get_error(f.vq, NULL, NULL)) {
            CHECK_EQ(virtq_take_avail(f.vq, chains, 1), 0);
            f.config.avail.idx = f.config.used.idx = n_broken;
            fixture_start(&f);
            n_broken++;
        }
    }
    atomic_store(&scribbling, false);
    xpthread_join(thread, NULL);
    CHECK(n_broken > 0);
    fixture_uninit(&f);
}

static void
test_scribble(void)
{
    run_scribble(FEATURES);
}

static void
test_packed_scribble(void)
{
    run_scribble(FEATURES | PACKED);
}

/* A driver that writes where only we should. */
static void
test_used_idx(void)
{
    struct virtq_chain chains[1];
    struct fixture f;
    uint16_t expected = 65530;

    fixture_init(&f, 4, expected, FEATURES, VIRTQ_DEVICE_READS);
    fixture_start(&f);
    for (int i = 0; i < 20; i++) {
        const struct mock_buf buf = { MOCK_C_GPA, 4 };
        uint64_t token;
        uint16_t head;
        uint32_t len;

        mock_driver_add(&f.driver, &buf, 1, 0, 0, 0);
        mock_driver_publish(&f.driver);
        mock_put16(&f.mock_mem, f.driver.used + 2, 1000 * i);
        CHECK_EQ(virtq_take_avail(f.vq, chains, 1), 1);
        virtq_add_used(f.vq, &chains[0], 0);
        virtq_publish_used(f.vq);
        CHECK_EQ(mock_get16(&f.mock_mem, f.driver.used + 2), ++expected);
        CHECK(mock_driver_get_used(&f.driver, &head, &len, &token));
    }
    fixture_uninit(&f);
}

/* A call eventfd that blocks breaks its virtqueue, and that only. */

static void *
watchdog_main(void *aux OVS_UNUSED)
{
    while (vhu_notify_watch()) {
        /* Nothing. */
    }
    return NULL;
}

static void
test_call_blocked(void)
{
    pthread_t watchdog = ovs_thread_create("watchdog", watchdog_main, NULL);
    const struct mock_buf buf = { MOCK_C_GPA, 4 };
    struct virtq_chain chains[1];
    uint64_t max = UINT64_MAX - 1;
    int full = eventfd(0, 0);
    struct fixture f[2];

    CHECK_EQ(write(full, &max, sizeof max), sizeof max);
    for (int i = 0; i < 2; i++) {
        fixture_init(&f[i], 4, 0, FEATURES, VIRTQ_DEVICE_READS);
        fixture_start(&f[i]);
    }
    virtq_set_call_fd(f[0].vq, full);
    CHECK_EQ(virtq_get_error(f[0].vq, NULL, NULL), VIRTQ_ERROR_CALL_BLOCKED);
    CHECK_EQ(f[0].counters.broken, 1);

    mock_driver_add(&f[1].driver, &buf, 1, 0, 0, 0);
    mock_driver_publish(&f[1].driver);
    CHECK_EQ(virtq_take_avail(f[1].vq, chains, 1), 1);
    virtq_add_used(f[1].vq, &chains[0], 0);
    virtq_publish_used(f[1].vq);
    virtq_call(f[1].vq);
    CHECK_EQ(fixture_calls(&f[1]), 1);

    for (int i = 0; i < 2; i++) {
        fixture_uninit(&f[i]);
    }
    close(full);
    vhu_notify_watch_stop();
    xpthread_join(watchdog, NULL);
}

static void
test_virtq_run_main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*function)(void);
    } tests[] = {
        { "random", test_random },
        { "wrap", test_wrap },
        { "threads", test_threads },
        { "scribble", test_scribble },
        { "used-idx", test_used_idx },
        { "call-blocked", test_call_blocked },
        { "packed-random", test_packed_random },
        { "packed-threads", test_packed_threads },
        { "packed-scribble", test_packed_scribble },
    };

    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc < 2 || !strcmp(argv[1], tests[i].name)) {
            check_name = tests[i].name;
            tests[i].function();
        }
    }
}

VHUTEST_REGISTER("virtq-run", test_virtq_run_main);
