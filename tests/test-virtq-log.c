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

#include "virtq.h"

#include <inttypes.h>
#include <sys/mman.h>
#include <time.h>

#include "ovs-thread.h"
#include "vhu-log.h"
#include "vhutest.h"
#include "virtq-fixture.h"

/* Virtqueues with a dirty log
 * ===========================
 *
 * P-15: what is in the log after each step is compared with what changed in
 * memory, byte by byte, and with what the specification lets a device write in
 * this step.  Each page that changed must be in the log, and each page in the
 * log must be explained. */

#define LOG_SIZE ((MOCK_C_GPA + MOCK_C_SIZE) / VHOST_LOG_PAGE / 8)
#define N_PAGES (LOG_SIZE * 8)
#define FEATURES_SPLIT VIRTIO_BIT(VIRTIO_F_INDIRECT_DESC)
#define FEATURES_PACKED (FEATURES_SPLIT | VIRTIO_BIT(VIRTIO_F_RING_PACKED))
#define TABLE (MOCK_C_GPA + 0x80000)

enum { RACE_ROUNDS = 200000 };

struct watch {
    struct fixture f;
    struct vhu_log *log;
    int fd;
    uint8_t *bits;              /* The log, as the front-end has it. */
    uint8_t *old[MOCK_N_REGIONS]; /* Memory before the step. */
    uint8_t explained[N_PAGES]; /* 1: may be written; 2: must be. */
};

static void
watch_log_open(struct watch *w)
{
    char *error;

    w->fd = memfd_create("log", MFD_CLOEXEC);
    CHECK(w->fd >= 0 && !ftruncate(w->fd, LOG_SIZE));
    w->bits = mmap(NULL, LOG_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd,
                   0);
    CHECK(w->bits != MAP_FAILED);
    if (vhu_log_create(w->fd, 0, LOG_SIZE, &w->log, &error)) {
        ovs_fatal(0, "%s", error);
    }
}

static void
watch_init(struct watch *w, uint32_t size, uint16_t start, uint64_t features,
           enum virtq_access access)
{
    fixture_init(&w->f, size, start, features, access);
    watch_log_open(w);
    for (int i = 0; i < MOCK_N_REGIONS; i++) {
        w->old[i] = xmalloc(w->f.mock_mem.regions[i].size);
    }
    memset(w->explained, 0, sizeof w->explained);
}

static void
watch_uninit(struct watch *w)
{
    fixture_uninit(&w->f);
    vhu_log_destroy(w->log);
    munmap(w->bits, LOG_SIZE);
    close(w->fd);
    for (int i = 0; i < MOCK_N_REGIONS; i++) {
        free(w->old[i]);
    }
}

/* What is to be logged, and where the used ring is, as it says. */
static struct virtq_log
watch_config(const struct watch *w, bool buffers, bool areas)
{
    return (struct virtq_log) {
        .log = buffers || areas ? w->log : NULL,
        .buffers = buffers,
        .areas = areas,
        .used_gpa = w->f.driver.used,
    };
}

/* Begins a step: what the driver did before is of no interest. */
static void
watch_begin(struct watch *w)
{
    for (int i = 0; i < MOCK_N_REGIONS; i++) {
        const struct mock_region *r = &w->f.mock_mem.regions[i];

        memcpy(w->old[i], r->va, r->size);
    }
}

static void
watch_explain(struct watch *w, uint64_t gpa, uint64_t len, int how)
{
    for (uint64_t i = 0; i < len; i++) {
        uint64_t page = (gpa + i) / VHOST_LOG_PAGE;

        w->explained[page] = MAX(w->explained[page], how);
    }
}

/* Checks the page at 'gpa', of which 'n' bytes are in memory, at 'va', and
 * were 'old' before the step. */
static void
check_page(struct watch *w, uint64_t gpa, uint64_t n, const uint8_t *va,
           const uint8_t *old, bool all)
{
    uint64_t page = gpa / VHOST_LOG_PAGE;
    uint8_t bit = 1 << page % 8;
    bool logged = w->bits[page / 8] & bit;

    CHECK(!logged || w->explained[page]);
    CHECK(logged || w->explained[page] != 2);
    CHECK(logged || !all || !memcmp(va, old, n));
    w->explained[page] = 0;
    w->bits[page / 8] &= ~bit;
}

/* Ends a step, of which 'buffers' and 'areas' were logged. */
static void
watch_end(struct watch *w, bool buffers, bool areas)
{
    for (int i = 0; i < MOCK_N_REGIONS; i++) {
        const struct mock_region *r = &w->f.mock_mem.regions[i];

        for (uint64_t ofs = 0; ofs < r->size; ofs += VHOST_LOG_PAGE) {
            check_page(w, r->gpa + ofs, MIN(VHOST_LOG_PAGE, r->size - ofs),
                       r->va + ofs, w->old[i] + ofs, buffers && areas);
        }
    }
    CHECK(is_all_zeros(w->bits, LOG_SIZE));
}

/* The bytes of the device area that ask for kicks. */
static uint64_t
event_gpa(const struct watch *w)
{
    const struct mock_driver *d = &w->f.driver;

    return d->packed ? d->used : d->used + 4 + 8 * (uint64_t) d->size;
}

static bool
changed(const struct watch *w, uint64_t gpa, uint64_t len)
{
    for (int i = 0; i < MOCK_N_REGIONS; i++) {
        const struct mock_region *r = &w->f.mock_mem.regions[i];

        if (gpa - r->gpa < r->size) {
            return memcmp(r->va + (gpa - r->gpa), w->old[i] + (gpa - r->gpa),
                          len);
        }
    }
    return false;
}

/* Random chains. */

#define MAX_BUFS 5
struct record {
    struct mock_buf bufs[MAX_BUFS];
    size_t n_bufs;
};

struct run {
    struct watch w;
    struct record records[1024]; /* By token. */
    uint32_t next_token;
    uint32_t seed;
    bool buffers, areas;
};

/* Returns a buffer at a place of its own, so that each page has one writer or
 * two: some cross a border between pages, or between the first two regions. */
static struct mock_buf
random_buf(struct run *r, uint32_t slot)
{
    struct mock_buf buf = {
        .gpa = MOCK_A_GPA + 0x40000 + slot * 3000,
        .len = 1 + mock_random(&r->seed, 2900),
    };

    if (!mock_random(&r->seed, 20)) {
        buf.gpa = MOCK_B_GPA - 10;
        buf.len = 9000;
    } else if (!mock_random(&r->seed, 20)) {
        buf.gpa = MOCK_C_GPA + slot;
        buf.len = 1;
    }
    return buf;
}

static void
add_chains(struct run *r)
{
    struct mock_driver *d = &r->w.f.driver;

    for (int i = mock_random(&r->seed, 12); i; i--) {
        uint32_t token = r->next_token % ARRAY_SIZE(r->records);
        struct record *record = &r->records[token];
        bool indirect = !mock_random(&r->seed, 4);

        record->n_bufs = 1 + mock_random(&r->seed, MAX_BUFS);
        for (size_t j = 0; j < record->n_bufs; j++) {
            record->bufs[j] = random_buf(r, token % 64 * MAX_BUFS + j);
        }
        if (mock_driver_add(d, record->bufs, record->n_bufs,
                            indirect ? record->n_bufs : 0,
                            TABLE + token * 0x100, token) < 0) {
            break;
        }
        r->next_token++;
    }
    mock_driver_publish(d);
}

/* Writes 'len' random bytes into 'chain'. */
static void
write_chain(struct run *r, const struct virtq_chain *chain, uint32_t len)
{
    for (int i = 0; i < chain->n_segs; i++) {
        for (uint32_t j = 0; j < chain->segs[i].len && len; j++, len--) {
            chain->segs[i].va[j] += 1 + mock_random(&r->seed, 255);
        }
    }
}

/* Explains what is written with 'chain', used with length 'len', whose slot in
 * the ring is 'slot'. */
static void
explain_chain(struct run *r, const struct virtq_chain *chain, uint32_t len,
              uint16_t slot)
{
    const struct mock_driver *d = &r->w.f.driver;
    const struct record *record = &r->records[d->chains[chain->id].token];

    for (size_t i = 0; i < record->n_bufs && r->buffers; i++) {
        uint32_t part = MIN(len, record->bufs[i].len);

        watch_explain(&r->w, record->bufs[i].gpa, part, 2);
        len -= part;
    }
    if (r->areas && d->packed) {
        watch_explain(&r->w, d->desc + slot * 16 + 8, 8, 2);
    } else if (r->areas) {
        watch_explain(&r->w, d->used + 4 + slot * 8, 8, 2);
    }
}

static void
use_chains(struct run *r)
{
    const struct mock_driver *d = &r->w.f.driver;
    struct virtq *vq = r->w.f.vq;
    struct virtq_chain chains[VIRTQ_MAX_BURST];
    uint32_t lens[VIRTQ_MAX_BURST];
    struct virtq_pos avail, pos;
    bool writes = d->writable;
    size_t n, n_back;

    n = virtq_take_avail(vq, chains, 1 + mock_random(&r->seed, 20));
    n_back = n ? mock_random(&r->seed, 2) : 0;
    n -= n_back;
    virtq_put_back(vq, &chains[n], n_back);

    virtq_get_base(vq, &avail, &pos);
    for (size_t i = 0; i < n; i++) {
        lens[i] = (!writes || !mock_random(&r->seed, 8) ? 0
                   : 1 + mock_random(&r->seed, chains[i].size));
        write_chain(r, &chains[i], lens[i]);
        explain_chain(r, &chains[i], lens[i], pos.idx % d->size);
        pos.idx = (d->packed ? (pos.idx + chains[i].n_descs) % d->size
                   : pos.idx + 1);
    }
    if (n && r->areas && !d->packed) {
        watch_explain(&r->w, d->used + 2, 2, 2);
    }
    if (writes || mock_random(&r->seed, 2)) {
        virtq_add_used_burst(vq, chains, lens, n);
    } else {
        virtq_add_used_burst(vq, chains, NULL, n);
    }
    virtq_publish_used(vq);
    virtq_call(vq);
    virtq_prefetch_next(vq);
    if (r->areas && changed(&r->w, event_gpa(&r->w), 2)) {
        watch_explain(&r->w, event_gpa(&r->w), 2, 2);
    }
}

static void
explain_kicks(struct run *r)
{
    const struct mock_driver *d = &r->w.f.driver;

    if (r->areas && d->packed) {
        watch_explain(&r->w, d->used, 4, 2);
    } else if (r->areas) {
        watch_explain(&r->w, d->used, 2, 2);
        if (d->event_idx) {
            watch_explain(&r->w, event_gpa(&r->w), 2, 2);
        }
    }
}

static void
step(struct run *r)
{
    uint64_t token;
    uint16_t id;
    uint32_t len;

    while (mock_driver_get_used(&r->w.f.driver, &id, &len, &token)) {
        continue;
    }
    add_chains(r);

    watch_begin(&r->w);
    if (!mock_random(&r->seed, 5)) {
        virtq_enable_kicks(r->w.f.vq, mock_random(&r->seed, 2));
        explain_kicks(r);
    } else if (!mock_random(&r->seed, 10)) {
        struct virtq_log log;

        /* Only what is written while logging is on is logged. */
        r->buffers = mock_random(&r->seed, 3);
        r->areas = mock_random(&r->seed, 3);
        log = watch_config(&r->w, r->buffers, r->areas);
        virtq_set_log(r->w.f.vq, &log);
        virtq_set_call_fd(r->w.f.vq, r->w.f.call_fd);
    } else {
        use_chains(r);
    }
    watch_end(&r->w, r->buffers, r->areas);
}

/* P-04, P-06, P-07, P-08, P-15, L-02, L-03, L-04: all that a virtqueue writes,
 * and nothing else. */
static void
test_random(void)
{
    static const uint32_t sizes[] = { 8, 256, 1024 };
    static struct run r;
    int n = 0;

    for (int variant = 0; variant < 24; variant++) {
        bool packed = variant & 1;
        uint64_t event_idx = (variant & 2
                              ? VIRTIO_BIT(VIRTIO_F_EVENT_IDX) : 0);
        enum virtq_access access = (variant & 4
                                    ? VIRTQ_DEVICE_READS
                                    : VIRTQ_DEVICE_WRITES);
        uint32_t size = sizes[variant / 8];

        r.next_token = 0;
        r.seed = variant;
        r.buffers = r.areas = true;
        watch_init(&r.w, size, packed ? 0x8000 : 65500,
                   (packed ? FEATURES_PACKED : FEATURES_SPLIT) | event_idx,
                   access);
        fixture_start(&r.w.f);
        r.w.f.config.log = watch_config(&r.w, true, true);
        virtq_set_log(r.w.f.vq, &r.w.f.config.log);
        for (int i = 0; i < 100; i++) {
            step(&r);
            n++;
        }
        CHECK_EQ(virtq_get_error(r.w.f.vq, NULL, NULL), VIRTQ_ERROR_NONE);
        watch_uninit(&r.w);
    }
    printf("%d steps\n", n);
}

/* The event index is renewed after many buffers. */
static void
test_renew(void)
{
    struct watch *w = xmalloc(sizeof *w);
    uint64_t gpa;
    int n = 0;

    watch_init(w, 1024, 0, FEATURES_SPLIT | VIRTIO_BIT(VIRTIO_F_EVENT_IDX),
               VIRTQ_DEVICE_READS);
    w->f.config.log = watch_config(w, true, true);
    fixture_start(&w->f);
    gpa = event_gpa(w);
    CHECK(gpa / VHOST_LOG_PAGE != w->f.driver.used / VHOST_LOG_PAGE);
    memset(w->bits, 0, LOG_SIZE);
    for (int i = 0; i < 30000; i += 30) {
        uint64_t page = gpa / VHOST_LOG_PAGE;
        uint16_t before = mock_get16(&w->f.mock_mem, gpa);
        bool logged;

        /* Elements of the ring are in the same page. */
        fixture_use(&w->f, 30);
        logged = w->bits[page / 8] & (1 << page % 8);
        CHECK(mock_get16(&w->f.mock_mem, gpa) == before || logged);
        n += mock_get16(&w->f.mock_mem, gpa) != before;
        memset(w->bits, 0, LOG_SIZE);
    }
    printf("renewed %d times\n", n);
    watch_uninit(w);
    free(w);
}

/* What virtq_create() writes, with and without a log. */
static void
test_start(void)
{
    static const uint64_t features[] = {
        FEATURES_SPLIT,
        FEATURES_SPLIT | VIRTIO_BIT(VIRTIO_F_EVENT_IDX),
        FEATURES_PACKED,
    };
    static struct run r;

    for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
        watch_init(&r.w, 256, 0x8000, features[i], VIRTQ_DEVICE_READS);
        for (int on = 0; on < 2; on++) {
            r.buffers = r.areas = on;
            r.w.f.config.log = watch_config(&r.w, on, on);
            mock_put32(&r.w.f.mock_mem, r.w.f.driver.used, 0xffff);
            watch_begin(&r.w);
            fixture_start(&r.w.f);
            explain_kicks(&r);
            watch_end(&r.w, on, on);
        }
        watch_uninit(&r.w);
    }
    printf("ok\n");
}

/* A predecessor has died before it published a burst: what the new virtqueue
 * repairs in the ring is logged. */
static void
test_repair(void)
{
    const struct mock_buf buf = { MOCK_A_GPA + 0x100000, 10 };
    struct watch *w = xmalloc(sizeof *w);
    struct virtq_chain chains[VIRTQ_MAX_BURST];
    struct mock_driver *d = &w->f.driver;

    watch_init(w, 512, 0x8000, FEATURES_PACKED, VIRTQ_DEVICE_READS);
    fixture_start(&w->f);

    /* 254 descriptors, then two on the first page and two on the second. */
    for (int i = 0; i < 254; i++) {
        fixture_use(&w->f, 1);
    }
    for (int i = 0; i < 4; i++) {
        CHECK(mock_driver_add(d, &buf, 1, 0, 0, 0) >= 0);
    }
    mock_driver_publish(d);
    CHECK_EQ(virtq_take_avail(w->f.vq, chains, 4), 4);
    virtq_add_used_burst(w->f.vq, chains, NULL, 4);

    w->f.config.log = watch_config(w, true, true);
    watch_begin(w);
    fixture_start(&w->f);
    CHECK(changed(w, d->desc + 254 * 16, 16));
    CHECK(!changed(w, d->desc + 255 * 16, 16));
    watch_explain(w, d->desc + 254 * 16, 16, 2);
    watch_explain(w, d->used, 4, 2);
    watch_end(w, true, true);
    CHECK(mock_driver_has_used(d));
    watch_uninit(w);
    free(w);
    printf("ok\n");
}

/* Makes a buffer available, writes into it, and tries to use it. */
static void
use_one(struct watch *w)
{
    const struct mock_buf buf = { MOCK_A_GPA + 0x100000, 10 };
    struct virtq_chain chain;

    CHECK(mock_driver_add(&w->f.driver, &buf, 1, 0, 0, 0) >= 0);
    mock_driver_publish(&w->f.driver);
    CHECK_EQ(virtq_take_avail(w->f.vq, &chain, 1), 1);
    chain.segs[0].va[0]++;
    virtq_add_used(w->f.vq, &chain, 1);
    virtq_publish_used(w->f.vq);
}

/* P-06: nothing is shown to the driver that has no bit.  If the log vanishes
 * the virtqueue goes no further. */
static void
test_vanish(void)
{
    for (int packed = 0; packed < 2; packed++) {
        struct watch *w = xmalloc(sizeof *w);
        struct virtq_chain chain;

        watch_init(w, 256, 0x8000, packed ? FEATURES_PACKED : FEATURES_SPLIT,
                   VIRTQ_DEVICE_WRITES);
        w->f.config.log = watch_config(w, true, true);
        fixture_start(&w->f);
        use_one(w);
        CHECK(mock_driver_has_used(&w->f.driver));
        w->f.driver.next_used = w->f.driver.published;

        CHECK(!ftruncate(w->fd, 0));
        use_one(w);
        CHECK(vhu_log_is_dead(w->log));
        CHECK(!mock_driver_has_used(&w->f.driver));
        CHECK(!virtq_has_avail(w->f.vq));
        CHECK_EQ(virtq_take_avail(w->f.vq, &chain, 1), 0);
        CHECK_EQ(virtq_get_error(w->f.vq, NULL, NULL), VIRTQ_ERROR_NONE);
        CHECK(!ftruncate(w->fd, LOG_SIZE));
        watch_uninit(w);
        free(w);
    }
    printf("ok\n");
}

/* P-06: the bits of the buffers, and of what says that they are used, are
 * there before anything is published; that of the index, or of the first
 * descriptor, which are written then, comes after it, even if the front-end
 * has just taken the others. */
static void
test_order(void)
{
    const struct mock_buf buf = { MOCK_A_GPA + 0x100000, 10 };

    for (int packed = 0; packed < 2; packed++) {
        struct watch *w = xmalloc(sizeof *w);
        struct mock_driver *d = &w->f.driver;
        struct virtq_chain chain;

        watch_init(w, 256, 0x8000, packed ? FEATURES_PACKED : FEATURES_SPLIT,
                   VIRTQ_DEVICE_WRITES);
        fixture_start(&w->f);
        w->f.config.log = watch_config(w, true, true);
        virtq_set_log(w->f.vq, &w->f.config.log);

        CHECK(mock_driver_add(d, &buf, 1, 0, 0, 0) >= 0);
        mock_driver_publish(d);
        CHECK_EQ(virtq_take_avail(w->f.vq, &chain, 1), 1);
        watch_begin(w);
        chain.segs[0].va[0]++;
        virtq_add_used(w->f.vq, &chain, 1);
        watch_explain(w, buf.gpa, 1, 2);
        watch_explain(w, packed ? d->desc : d->used + 4, 8, 2);
        watch_end(w, true, true);

        watch_begin(w);
        virtq_publish_used(w->f.vq);
        watch_explain(w, packed ? d->desc : d->used + 2, 2, 2);
        watch_end(w, true, true);
        CHECK(mock_driver_has_used(d));

        watch_begin(w);
        virtq_publish_used(w->f.vq);
        watch_end(w, true, true);
        watch_uninit(w);
        free(w);
    }
    printf("ok\n");
}

/* The front-end takes a bit and copies the page while we write to it and find
 * the bit set: either it has seen what we wrote, or the bit is there again. */
struct race {
    uint64_t *word;             /* With the bit. */
    uint64_t *data;             /* In the page. */
    uint32_t start, done;       /* Rounds. */
    uint64_t copy;
};

/* What the front-end does, once each round. */
static void *
race_main(void *race_)
{
    struct race *race = race_;
    uint32_t seed = 1;

    for (uint32_t round = 1; round <= RACE_ROUNDS; round++) {
        while (__atomic_load_n(&race->start, __ATOMIC_ACQUIRE) != round) {
            continue;
        }
        for (int i = mock_random(&seed, 60); i; i--) {
            __atomic_signal_fence(__ATOMIC_SEQ_CST);
        }
        if (__atomic_exchange_n(race->word, 0, __ATOMIC_SEQ_CST)) {
            race->copy = __atomic_load_n(race->data, __ATOMIC_RELAXED);
        }
        __atomic_store_n(&race->done, round, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void
test_race(void)
{
    static struct watch w;
    const struct mock_buf buf = { MOCK_A_GPA + 0x100000, 8 };
    uint64_t page = buf.gpa / VHOST_LOG_PAGE;
    struct race race = { .start = 0 };
    pthread_t thread;

    watch_init(&w, 256, 0, FEATURES_SPLIT, VIRTQ_DEVICE_WRITES);
    w.f.config.log = watch_config(&w, true, false);
    fixture_start(&w.f);
    race.word = ALIGNED_CAST(uint64_t *, w.bits + page / 64 * 8);
    race.data = ALIGNED_CAST(uint64_t *, mock_at(&w.f.mock_mem, buf.gpa));
    thread = ovs_thread_create("front-end", race_main, &race);
    for (uint32_t round = 1; round <= RACE_ROUNDS; round++) {
        struct virtq_chain chain;
        uint64_t token;
        uint32_t len;
        uint16_t id;

        CHECK(mock_driver_add(&w.f.driver, &buf, 1, 0, 0, 0) >= 0);
        mock_driver_publish(&w.f.driver);
        CHECK_EQ(virtq_take_avail(w.f.vq, &chain, 1), 1);
        __atomic_store_n(race.word, UINT64_C(1) << page % 64,
                         __ATOMIC_SEQ_CST);

        __atomic_store_n(&race.start, round, __ATOMIC_RELEASE);
        __atomic_store_n(race.data, round, __ATOMIC_RELAXED);
        virtq_add_used(w.f.vq, &chain, 8);

        while (__atomic_load_n(&race.done, __ATOMIC_ACQUIRE) != round) {
            continue;
        }
        CHECK(race.copy == round
              || __atomic_load_n(race.word, __ATOMIC_SEQ_CST));
        virtq_publish_used(w.f.vq);
        CHECK(mock_driver_get_used(&w.f.driver, &id, &len, &token));
    }
    xpthread_join(thread, NULL);
    watch_uninit(&w);
    printf("ok\n");
}

/* P-08, P-09: a log that does not have the used ring is not accepted. */
static void
test_too_small(void)
{
    struct watch *w = xmalloc(sizeof *w);
    uint64_t used_size = 6 + 8 * 256;
    uint64_t end = LOG_SIZE * 8 * VHOST_LOG_PAGE;
    static const struct {
        int64_t ofs;            /* From the end of the log. */
        bool ok;
    } rows[] = {
        { 0, true }, { 1, false }, { 4096, false }, { -4096, true },
        { INT64_MAX, false },
    };

    watch_init(w, 256, 0, FEATURES_SPLIT, VIRTQ_DEVICE_WRITES);
    w->f.config.log = watch_config(w, true, true);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct virtq *vq;
        char *error;

        w->f.config.log.used_gpa = end - used_size + rows[i].ofs;
        CHECK_EQ(virtq_check_log(&w->f.config), rows[i].ok);
        CHECK_EQ(!virtq_create(&w->f.config, &vq, &error), rows[i].ok);
        CHECK_EQ(error != NULL, !rows[i].ok);
        free(error);
        virtq_destroy(vq);

        /* Without the used ring, all the same. */
        w->f.config.log.areas = false;
        CHECK(virtq_check_log(&w->f.config));
        w->f.config.log.areas = true;
    }
    w->f.config.log.used_gpa = UINT64_MAX - 10;
    CHECK(!virtq_check_log(&w->f.config));
    watch_uninit(w);
    free(w);
    printf("ok\n");
}

/* What logging costs.  Not part of the test suite. */

enum { MEASURE_SIZE = 256, MEASURE_BURST = 32, MEASURE_ROUNDS = 200000 };

/* The driver makes the same buffers available again, in the same order. */
static void
refill(struct watch *w, uint32_t round)
{
    struct mock_driver *d = &w->f.driver;
    uint32_t first = round * MEASURE_BURST;

    if (!d->packed) {
        mock_put16(&w->f.mock_mem, d->avail + 2,
                   MEASURE_SIZE + first + MEASURE_BURST);
        return;
    }
    for (uint32_t i = 0; i < MEASURE_BURST; i++) {
        uint32_t slot = (first + i) % MEASURE_SIZE;
        bool wrap = (first + i) / MEASURE_SIZE & 1; /* Of the next lap. */

        mock_put_desc(&w->f.mock_mem, d->desc + slot * 16,
                      MOCK_A_GPA + 0x80000 + slot * 2048, 2048, slot,
                      VIRTQ_DESC_F_WRITE | (wrap ? 0x80 : 0x8000));
    }
}

/* Returns how many nanoseconds a packet of 'len' bytes takes. */
static double
measure(struct watch *w, uint32_t len, bool on, bool clear)
{
    static const uint8_t data[2048];
    struct virtq_log log = watch_config(w, on, on);
    struct virtq_chain chains[MEASURE_BURST];
    uint32_t lens[MEASURE_BURST];
    struct timespec begin, end;

    fixture_start(&w->f);
    virtq_set_log(w->f.vq, &log);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (uint32_t round = 0; round < MEASURE_ROUNDS; round++) {
        size_t n = virtq_take_avail(w->f.vq, chains, MEASURE_BURST);

        CHECK_EQ(n, MEASURE_BURST);
        for (size_t i = 0; i < n; i++) {
            memcpy(chains[i].segs[0].va, data, len);
            lens[i] = len;
        }
        virtq_add_used_burst(w->f.vq, chains, lens, n);
        virtq_publish_used(w->f.vq);
        refill(w, round);
        if (clear && round % 8 == 0) {
            /* Those of the rings and of the buffers. */
            memset(w->bits + MOCK_A_GPA / VHOST_LOG_PAGE / 8, 0,
                   MOCK_A_SIZE / VHOST_LOG_PAGE / 8);
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    return (((end.tv_sec - begin.tv_sec) * 1e9 + end.tv_nsec - begin.tv_nsec)
            / MEASURE_ROUNDS / MEASURE_BURST);
}

static double
best_of_5(bool packed, uint32_t len, bool on, bool clear)
{
    double best = 1e9;

    for (int i = 0; i < 5; i++) {
        struct watch *w = xmalloc(sizeof *w);
        double ns;

        watch_init(w, MEASURE_SIZE, packed ? 0x8000 : 0,
                   packed ? FEATURES_PACKED : FEATURES_SPLIT,
                   VIRTQ_DEVICE_WRITES);
        for (int j = 0; j < MEASURE_SIZE; j++) {
            const struct mock_buf buf = {
                MOCK_A_GPA + 0x80000 + j * 2048, 2048
            };

            CHECK(mock_driver_add(&w->f.driver, &buf, 1, 0, 0, 0) >= 0);
        }
        mock_driver_publish(&w->f.driver);
        ns = measure(w, len, on, clear);
        best = MIN(best, ns);
        watch_uninit(w);
        free(w);
    }
    return best;
}

static void
test_measure(void)
{
    static const uint32_t lens[] = { 76, 1530 };

    for (int packed = 0; packed < 2; packed++) {
        for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
            printf("%s, %"PRIu32" bytes: off %.1f, on %.1f, on and harvested "
                   "all the time %.1f ns a packet\n",
                   packed ? "packed" : "split", lens[i],
                   best_of_5(packed, lens[i], false, false),
                   best_of_5(packed, lens[i], true, false),
                   best_of_5(packed, lens[i], true, true));
        }
    }
}

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
    { "measure", test_measure },
    { "random", test_random },
    { "renew", test_renew },
    { "start", test_start },
    { "repair", test_repair },
    { "vanish", test_vanish },
    { "order", test_order },
    { "race", test_race },
    { "too-small", test_too_small },
};

static void
test_virtq_log_main(int argc, char *argv[])
{
    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc == 2 && !strcmp(argv[1], tests[i].name)) {
            check_name = tests[i].name;
            tests[i].run();
            return;
        }
    }
    ovs_fatal(0, "no such test");
}

VHUTEST_REGISTER("virtq-log", test_virtq_log_main);
