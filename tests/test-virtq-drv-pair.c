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

/* Both sides of a virtqueue, ours and ours, in two threads: numbered packets,
 * of which none may be lost, changed or seen twice.  Both sleep when there is
 * nothing to do, so that a notification that is lost is noticed. */

#include <config.h>

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>

#include "hash.h"
#include "ovs-thread.h"
#include "virtq-drv-fixture.h"
#include "vhutest.h"

static const struct variant {
    const char *name;
    uint64_t features;
    uint32_t size;
    uint32_t buf_size;
} variants[] = {
    { "split", V1, 64, 256 },
    { "split 1", V1, 1, 2000 },
    { "split 2", V1 | EVENT_IDX | MERGEABLE, 2, 1000 },
    { "split event index", V1 | EVENT_IDX, 256, 128 },
    { "split all", V1 | EVENT_IDX | INDIRECT | MERGEABLE, 128, 100 },
    { "split in order", V1 | IN_ORDER | EVENT_IDX | MERGEABLE, 32, 100 },
    { "packed", PACKED, 64, 256 },
    { "packed 1", PACKED, 1, 2000 },
    { "packed 3", PACKED | EVENT_IDX | MERGEABLE, 3, 1000 },
    { "packed event index", PACKED | EVENT_IDX, 250, 128 },
    { "packed all", PACKED | EVENT_IDX | INDIRECT | MERGEABLE, 99, 100 },
    { "packed in order", PACKED | IN_ORDER | EVENT_IDX | MERGEABLE, 31, 100 },
};

/* How long a notification may take to arrive. */
#define MAX_WAIT_MS 20000

#define BURST 32

/* A virtqueue with both of its ends. */
struct pair {
    struct drv_fixture f;       /* Of the driver. */
    struct vhu_mem *mem;        /* The rest is the device's. */
    struct virtq_counters counters;
    struct virtq *vq;
    int call_fd;
    uint32_t n_packets;
    uint32_t max_size;          /* Bytes in a packet. */
    bool sleeps;
};

static void
pair_init(struct pair *p, const struct variant *v, enum virtq_access access)
{
    struct virtq_drv_areas areas;
    struct virtq_config config;
    char *error;

    memset(p, 0, sizeof *p);
    drv_fixture_init(&p->f, v->size, v->features, access, v->buf_size);
    p->max_size = MIN(virtq_drv_get_max_packet(p->f.vq), 2000);
    p->call_fd = eventfd(0, EFD_NONBLOCK);

    /* At our own address, so that ThreadSanitizer sees that it is the same
     * memory. */
    p->mem = xzalloc(sizeof *p->mem + sizeof p->mem->regions[0]);
    p->mem->health = xzalloc(sizeof *p->mem->health);
    atomic_init(&p->mem->health->dead, false);
    p->mem->n_regions = 1;
    p->mem->regions[0] = (struct vhu_mem_region) {
        .guest_addr = p->f.shm->guest_addr,
        .user_addr = p->f.shm->user_addr,
        .size = p->f.shm->size,
        .va = p->f.shm->va,
    };

    virtq_drv_get_areas(p->f.vq, &areas);
    config = (struct virtq_config) {
        .format = p->f.config.format,
        .access = access,
        .size = v->size,
        .features = v->features,
        .mem = p->mem,
        .desc_uva = areas.desc_uva,
        .driver_uva = areas.driver_uva,
        .device_uva = areas.device_uva,
        .call_fd = p->call_fd,
        .counters = &p->counters,
    };
    virtq_drv_get_base(p->f.vq, &config.avail, &config.used);
    if (virtq_create(&config, &p->vq, &error)) {
        ovs_fatal(0, "%s: %s", check_name, error);
    }
}

static void
pair_uninit(struct pair *p)
{
    CHECK_EQ(virtq_get_error(p->vq, NULL, NULL), VIRTQ_ERROR_NONE);
    CHECK_EQ(virtq_drv_get_error(p->f.vq, NULL, NULL),
             VIRTQ_DRV_ERROR_NONE);
    CHECK_EQ(p->counters.bad_chains, 0);
    CHECK_EQ(p->f.counters.bad_packets, 0);
    virtq_destroy(p->vq);
    free(p->mem->health);
    free(p->mem);
    close(p->call_fd);
    drv_fixture_uninit(&p->f);
}

static void
wait_for(int fd)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN };
    eventfd_t n;

    if (poll(&pfd, 1, MAX_WAIT_MS) != 1) {
        ovs_fatal(0, "%s: a notification was lost", check_name);
    }
    eventfd_read(fd, &n);
}

/* The driver waits until something is used, */
static void
driver_wait(struct pair *p)
{
    if (p->sleeps) {
        virtq_drv_enable_calls(p->f.vq, true);
        if (!virtq_drv_has_used(p->f.vq)) {
            wait_for(p->call_fd);
        }
        virtq_drv_enable_calls(p->f.vq, false);
    } else {
        sched_yield();
    }
}

/* and the device until something is available. */
static void
device_wait(struct pair *p)
{
    if (p->sleeps) {
        virtq_enable_kicks(p->vq, true);
        if (!virtq_has_avail(p->vq)) {
            wait_for(p->f.kick_fd);
        }
        virtq_enable_kicks(p->vq, false);
    } else {
        sched_yield();
    }
}

static uint32_t
size_of(const struct pair *p, uint32_t seq)
{
    uint32_t min = virtq_drv_get_hdr_len(p->f.vq) + 1;

    return min + hash_int(seq, 0) % (p->max_size - min + 1);
}

/* Writes packet number 'seq' from its byte 'ofs' on to 'seg', without the
 * header.  Returns the offset behind it. */
static uint32_t
fill(const struct virtq_seg *seg, uint32_t seq, uint32_t ofs, uint32_t size)
{
    for (uint32_t i = 0; i < seg->len && ofs < size; i++, ofs++) {
        if (ofs >= VIRTIO_NET_HDR_LEN) {
            seg->va[i] = drv_fixture_byte(seq, ofs);
        } else {
            seg->va[i] = 0;
        }
    }
    return ofs;
}

/* Checks that packet number 'seq' has come. */
static void
check(const struct pair *p, const struct virtq_chain *packet, uint32_t seq)
{
    uint32_t ofs = 0;

    CHECK_EQ(packet->size, size_of(p, seq));
    for (int i = 0; i < packet->n_segs; i++) {
        for (uint32_t j = 0; j < packet->segs[i].len; j++, ofs++) {
            if (ofs >= VIRTIO_NET_HDR_LEN
                && packet->segs[i].va[j] != drv_fixture_byte(seq, ofs)) {
                CHECK_EQ(ofs, -1);
            }
        }
    }
}

/* Transmitq. */

static void *
driver_transmits(void *p_)
{
    struct pair *p = p_;
    uint32_t seq = 0;

    while (seq < p->n_packets) {
        struct virtq_chain packets[BURST];
        uint32_t sizes[BURST];
        size_t n = MIN(p->n_packets - seq, 1 + seq % BURST);

        for (size_t i = 0; i < n; i++) {
            sizes[i] = size_of(p, seq + i);
        }
        n = virtq_drv_reserve(p->f.vq, sizes, packets, n);
        for (size_t i = 0; i < n; i++, seq++) {
            uint32_t ofs = 0;

            for (int j = 0; j < packets[i].n_segs; j++) {
                ofs = fill(&packets[i].segs[j], seq, ofs, sizes[i]);
            }
        }
        virtq_drv_publish_avail(p->f.vq);
        virtq_drv_kick(p->f.vq);
        virtq_drv_prefetch_next(p->f.vq);
        if (!n) {
            driver_wait(p);
        }
    }
    while (virtq_drv_n_in_flight(p->f.vq)) {
        if (!virtq_drv_reclaim(p->f.vq)) {
            driver_wait(p);
        }
    }
    return NULL;
}

static void *
device_transmits(void *p_)
{
    struct pair *p = p_;
    uint32_t seq = 0;

    while (seq < p->n_packets) {
        struct virtq_chain chains[BURST];
        size_t n = virtq_take_avail(p->vq, chains, BURST);

        for (size_t i = 0; i < n; i++) {
            check(p, &chains[i], seq++);
        }
        virtq_add_used_burst(p->vq, chains, NULL, n);
        virtq_publish_used(p->vq);
        virtq_call(p->vq);
        virtq_prefetch_next(p->vq);
        if (!n) {
            device_wait(p);
        }
    }
    return NULL;
}

/* Receiveq. */

static void *
driver_receives(void *p_)
{
    struct pair *p = p_;
    uint32_t seq = 0;

    virtq_drv_kick(p->f.vq);
    while (seq < p->n_packets) {
        struct virtq_chain packets[BURST];
        size_t n = virtq_drv_take_used(p->f.vq, packets, 1 + seq % BURST);

        for (size_t i = 0; i < n; i++) {
            check(p, &packets[i], seq++);
        }
        virtq_drv_refill(p->f.vq);
        virtq_drv_publish_avail(p->f.vq);
        virtq_drv_kick(p->f.vq);
        virtq_drv_prefetch_next(p->f.vq);
        if (!n) {
            driver_wait(p);
        }
    }
    return NULL;
}

/* Makes packet number 'seq' of the chains in 'chains', 'n' of them.  Returns
 * how many of them that took, 0 if there are not enough. */
static size_t
device_fills(struct pair *p, const struct virtq_chain chains[], size_t n,
             uint32_t seq)
{
    uint32_t size = size_of(p, seq);
    size_t n_chains = DIV_ROUND_UP(size, p->f.config.buf_size);
    uint32_t ofs = 0;

    if (n_chains > n) {
        return 0;
    }
    for (size_t i = 0; i < n_chains; i++) {
        uint32_t before = ofs;

        CHECK_EQ(chains[i].n_segs, 1);
        ofs = fill(&chains[i].segs[0], seq, ofs, size);
        if (!i && p->f.config.features & MERGEABLE) {
            chains[0].segs[0].va[10] = n_chains;
        }
        virtq_add_used(p->vq, &chains[i], ofs - before);
    }
    return n_chains;
}

static void *
device_receives(void *p_)
{
    struct pair *p = p_;
    uint32_t seq = 0;

    while (seq < p->n_packets) {
        struct virtq_chain chains[BURST];
        size_t n = virtq_take_avail(p->vq, chains, BURST);
        size_t i = 0;

        while (i < n && seq < p->n_packets) {
            size_t n_chains = device_fills(p, &chains[i], n - i, seq);

            if (!n_chains) {
                break;
            }
            seq++;
            i += n_chains;
        }
        virtq_put_back(p->vq, &chains[i], n - i);
        virtq_publish_used(p->vq);
        virtq_call(p->vq);
        if (!n) {
            device_wait(p);
        } else if (!i) {
            sched_yield();
        }
    }
    return NULL;
}

static void
run(enum virtq_access access, bool sleeps, uint32_t n_packets)
{
    uint64_t n_notified = 0;

    for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
        bool transmit = access == VIRTQ_DEVICE_READS;
        pthread_t driver, device;
        struct pair p;

        check_name = variants[i].name;
        pair_init(&p, &variants[i], access);
        p.n_packets = n_packets;
        p.sleeps = sleeps;
        device = ovs_thread_create("device", (transmit
                                              ? device_transmits
                                              : device_receives), &p);
        driver = ovs_thread_create("driver", (transmit
                                              ? driver_transmits
                                              : driver_receives), &p);
        xpthread_join(driver, NULL);
        xpthread_join(device, NULL);
        if (!sleeps) {
            /* Nobody wanted more than the first one. */
            CHECK(p.f.counters.kicks <= 2);
            CHECK(p.counters.calls <= 3);
        } else {
            n_notified += p.f.counters.kicks + p.counters.calls;
        }
        pair_uninit(&p);
    }

    /* They did sleep. */
    CHECK(!sleeps || n_notified > 10 * ARRAY_SIZE(variants));
}

static void
test_virtq_drv_pair_main(int argc, char *argv[])
{
    const char *name = argc > 1 ? argv[1] : "";
    uint32_t n = argc > 2 ? atoi(argv[2]) : 5000;
    bool sleeps = !strncmp(name, "sleep", 5);

    if (!strcmp(name, "sleep-transmit") || !strcmp(name, "poll-transmit")) {
        run(VIRTQ_DEVICE_READS, sleeps, n);
    } else if (!strcmp(name, "sleep-receive")
               || !strcmp(name, "poll-receive")) {
        run(VIRTQ_DEVICE_WRITES, sleeps, n);
    } else {
        ovs_fatal(0, "no such test");
    }
}

VHUTEST_REGISTER("virtq-drv-pair", test_virtq_drv_pair_main);
