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

#include "vhu-backend.h"

#undef NDEBUG

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "openvswitch/vlog.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "timeval.h"
#include "util.h"
#include "vhu-conn.h"
#include "vhu-dev.h"
#include "vhu-frontend.h"
#include "vhu-log.h"
#include "vhu-shm.h"
#include "vhutest.h"
#include "virtq-drv.h"
#include "virtq.h"

VLOG_DEFINE_THIS_MODULE(test_vhu_log);

/* The dirty log: bits of single writes, and a migration of everything that a
 * device writes, while it writes. */

#define CHECK(CONDITION)                                            \
    do {                                                            \
        if (!(CONDITION)) {                                         \
            ovs_fatal(0, "%s:%d: failed: %s", __FILE__, __LINE__,   \
                      #CONDITION);                                  \
        }                                                           \
    } while (0)

/* Bits of single writes. */

enum { N_BITS = 256 };

static struct vhu_log *
open_log(uint64_t size, uint64_t offset, uint8_t **bits)
{
    int fd = memfd_create("log", MFD_CLOEXEC);
    struct vhu_log *log;
    char *error;

    CHECK(!ftruncate(fd, offset + size));
    *bits = mmap(NULL, offset + size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                 0);
    CHECK(*bits != MAP_FAILED);
    CHECK(!vhu_log_create(fd, offset, size, &log, &error));
    close(fd);
    return log;
}

/* P-04, P-05: which bits a write sets, as the specification has it: that of
 * page 'address / 0x1000' is bit 'page % 8' of byte 'page / 8'.  Each write is
 * compared with that, and so is a second one over bits that are set. */
static void
test_write(void)
{
    static const uint64_t lens[] = { 0, 1, 2, 4095, 4096, 4097, 8192, 300000,
                                     N_BITS * 4096 };
    static const uint64_t offsets[] = { 0, 1, 4, 8, 9 };
    static const uint8_t before[] = { 0, 0x55, 0xff };
    int n = 0;

    for (size_t o = 0; o < ARRAY_SIZE(offsets); o++) {
        uint8_t *bits;
        struct vhu_log *log = open_log(N_BITS / 8, offsets[o], &bits);

        for (uint64_t gpa = 0; gpa < (N_BITS + 3) * UINT64_C(4096);
             gpa += 1365) {
            for (size_t l = 0; l < ARRAY_SIZE(lens); l++) {
                uint8_t expected[N_BITS / 8];
                uint8_t init = before[n++ % ARRAY_SIZE(before)];
                uint64_t len = lens[l];

                memset(expected, init, sizeof expected);
                memcpy(bits + offsets[o], expected, sizeof expected);
                for (uint64_t page = 0; page < N_BITS && len; page++) {
                    if (page >= gpa / 4096 && gpa + len - 1 >= gpa
                        && page <= (gpa + len - 1) / 4096) {
                        expected[page / 8] |= 1 << page % 8;
                    }
                }
                vhu_log_write(log, gpa, len);
                CHECK(!memcmp(bits + offsets[o], expected, sizeof expected));
                CHECK(is_all_zeros(bits, offsets[o]));
                vhu_log_write(log, gpa, len);
                CHECK(!memcmp(bits + offsets[o], expected, sizeof expected));
            }
        }
        vhu_log_destroy(log);
        munmap(bits, offsets[o] + N_BITS / 8);
    }
    printf("ok\n");
}

/* HZ-18. */
static void
test_covers(void)
{
    static const struct {
        uint64_t gpa, size;
        bool covered;
    } rows[] = {
        { 0, 1, true },
        { 0, 8 * 4096, true },
        { 0, 8 * 4096 + 1, false },
        { 8 * 4096 - 1, 1, true },
        { 8 * 4096 - 1, 2, false },
        { 8 * 4096, 1, false },
        { 1, UINT64_MAX, false },
        { UINT64_MAX, 1, false },
        { UINT64_MAX, UINT64_MAX, false },
    };
    uint8_t *bits;
    struct vhu_log *log = open_log(1, 0, &bits);

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        CHECK(vhu_log_covers(log, rows[i].gpa, rows[i].size)
              == rows[i].covered);
    }
    vhu_log_destroy(log);
    printf("ok\n");
}

/* A migration under load.
 *
 * One thread is the PMD thread of the device and, on the other side of the
 * rings, the guest's driver.  The main thread is the control thread of the
 * device and the front-end: it harvests the log and copies the pages to a
 * "destination" over and over, as QEMU does, and in the end stops the vrings,
 * harvests once more, and compares.
 *
 * What the driver writes would be logged by its hypervisor.  We have none, and
 * compare what the device has written last. */

enum { QUEUE_SIZE = 256 };

struct pair {
    struct vhu_frontend *fe;
    struct vhu_backend *be;
    atomic_bool stop;
    atomic_ullong n_received, n_transmitted;

    /* How much was ever received in the buffer that begins at each 64 bytes of
     * memory.  The PMD thread's while the vring runs. */
    const struct vhu_shm *shm;
    uint32_t *written;
    size_t n_slots;
};

static void
be_changed(void *aux OVS_UNUSED)
{
}

static int
be_set_mtu(uint16_t mtu OVS_UNUSED, void *aux OVS_UNUSED)
{
    return 0;
}

static void
be_send_rarp(const uint8_t mac[6] OVS_UNUSED, void *aux OVS_UNUSED)
{
}

static const struct vhu_dev_ops be_ops = {
    .changed = be_changed,
    .set_mtu = be_set_mtu,
    .send_rarp = be_send_rarp,
};

static int n_failed;

static void
on_done(enum vhu_fe_op op, int error, const char *reason,
        void *aux OVS_UNUSED)
{
    if (error) {
        printf("%s: %s\n", vhu_fe_op_to_string(op), reason);
        n_failed++;
    }
}

static const struct vhu_frontend_ops fe_ops = { .done = on_done };

static void
turn(struct pair *p)
{
    long long int end = time_msec() + 20000;

    do {
        for (int i = 0; i < 5; i++) {
            vhu_frontend_run(p->fe);
            vhu_backend_run(p->be);
        }
        ovsrcu_quiesce();
    } while (!vhu_frontend_is_idle(p->fe)
             && vhu_conn_is_connected(vhu_frontend_get_conn(p->fe))
             && time_msec() < end);
}

static void
pair_init(struct pair *p, bool packed)
{
    const struct vhu_frontend_config config = {
        .features = (VHU_FRONTEND_FEATURES
                     & ~(packed ? 0 : VIRTIO_BIT(VIRTIO_F_RING_PACKED))),
        .protocol_features = VHU_FRONTEND_PROTOCOL_FEATURES,
        .n_pairs = 1,
        .queue_size = QUEUE_SIZE,
        .buf_size = 2048,
    };
    int fds[2];

    memset(p, 0, sizeof *p);
    atomic_init(&p->stop, false);
    p->be = vhu_backend_create("be", NULL, 1, &be_ops, NULL);
    p->fe = vhu_frontend_create("fe", NULL, &config, &fe_ops, NULL);
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    vhu_backend_set_conn(p->be, vhu_conn_create_fd("be", fds[0]));
    vhu_frontend_set_conn(p->fe, vhu_conn_create_fd("fe", fds[1]));
    vhu_frontend_start(p->fe);
    turn(p);
    CHECK(vhu_frontend_is_up(p->fe) && vhu_backend_is_up(p->be));
}

/* The device puts packets, of a length and with bytes that change, into the
 * receiveq. */
static void
device_receives(struct pair *p, uint32_t *seed)
{
    struct vhu_vring *vring = vhu_backend_get_dev(p->be)->vrings[0];
    struct virtq *vq = vhu_vring_lock(vring);
    const struct virtio_net_hdr hdr = {
        .num_buffers = virtio_cpu_to_le16(1)
    };
    struct virtq_chain chains[VIRTQ_MAX_BURST];
    uint32_t lens[VIRTQ_MAX_BURST];
    unsigned long long int unused;
    size_t n;

    if (!vq) {
        return;
    }
    n = virtq_take_avail(vq, chains, 1 + *seed % 32);
    for (size_t i = 0; i < n; i++) {
        *seed = *seed * 1103515245 + 12345;
        lens[i] = MIN(12 + (*seed >> 8) % 1500, chains[i].segs[0].len);
        memset(chains[i].segs[0].va, *seed >> 24, lens[i]);
        memcpy(chains[i].segs[0].va, &hdr, sizeof hdr);
    }
    virtq_add_used_burst(vq, chains, lens, n);
    virtq_publish_used(vq);
    virtq_call(vq);
    vhu_vring_unlock(vring);
    atomic_add(&p->n_received, n, &unused);
}

static void
device_transmits(struct pair *p)
{
    struct vhu_vring *vring = vhu_backend_get_dev(p->be)->vrings[1];
    struct virtq *vq = vhu_vring_lock(vring);
    struct virtq_chain chains[VIRTQ_MAX_BURST];
    unsigned long long int unused;
    size_t n;

    if (!vq) {
        return;
    }
    n = virtq_take_avail(vq, chains, VIRTQ_MAX_BURST);
    virtq_add_used_burst(vq, chains, NULL, n);
    virtq_publish_used(vq);
    virtq_call(vq);
    vhu_vring_unlock(vring);
    atomic_add(&p->n_transmitted, n, &unused);
}

static void
driver_runs(struct pair *p)
{
    struct vhu_fe_vring *vring = vhu_frontend_get_vring(p->fe, 0);
    struct virtq_drv *vq = vhu_fe_vring_lock(vring);
    struct virtq_chain packets[VIRTQ_MAX_BURST];
    uint32_t sizes[16];

    if (vq) {
        size_t n = virtq_drv_take_used(vq, packets, VIRTQ_MAX_BURST);

        for (size_t i = 0; i < n; i++) {
            const struct virtq_seg *seg = &packets[i].segs[0];
            uint32_t *written = &p->written[(seg->va - p->shm->va) / 64];

            *written = MAX(*written, seg->len);
        }
        virtq_drv_refill(vq);
        virtq_drv_publish_avail(vq);
        vhu_fe_vring_unlock(vring);
    }
    vring = vhu_frontend_get_vring(p->fe, 1);
    vq = vhu_fe_vring_lock(vring);
    if (vq) {
        virtq_drv_reclaim(vq);
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
            sizes[i] = 60;
        }
        virtq_drv_reserve(vq, sizes, packets, ARRAY_SIZE(sizes));
        virtq_drv_publish_avail(vq);
        vhu_fe_vring_unlock(vring);
    }
}

static void *
pmd_main(void *p_)
{
    struct pair *p = p_;
    uint32_t seed = 1;
    bool stop;

    do {
        driver_runs(p);
        device_receives(p, &seed);
        device_transmits(p);
        ovsrcu_quiesce();
        atomic_read_relaxed(&p->stop, &stop);
    } while (!stop);
    return NULL;
}

/* The destination. */
struct copy {
    const struct vhu_shm *shm;
    uint8_t *mem;
    uint64_t n_pages;
};

/* The device writes the page at the same time, and will say so.
 * ThreadSanitizer must not look, neither here nor into memcpy(). */
__attribute__((no_sanitize("thread"), noinline))
static void
copy_page(uint64_t guest_addr, void *copy_)
{
    struct copy *copy = copy_;
    uint64_t ofs = guest_addr - copy->shm->guest_addr;

    if (ofs < copy->shm->size) {
        const volatile uint64_t *src
            = ALIGNED_CAST(uint64_t *, copy->shm->va + ofs);
        volatile uint64_t *dst = ALIGNED_CAST(uint64_t *, copy->mem + ofs);

        for (size_t i = 0; i < VHOST_LOG_PAGE / sizeof *src; i++) {
            dst[i] = src[i];
        }
        copy->n_pages++;
    } else {
        ovs_fatal(0, "page 0x%"PRIx64" is outside memory", guest_addr);
    }
}

/* Compares the 'len' bytes at 'va' in memory with the destination. */
static void
check_same(const struct copy *copy, const void *va, size_t len,
           const char *what)
{
    uint64_t ofs = (const uint8_t *) va - copy->shm->va;

    CHECK(ofs < copy->shm->size && len <= copy->shm->size - ofs);
    if (memcmp(va, copy->mem + ofs, len)) {
        ovs_fatal(0, "%s at offset 0x%"PRIx64" differs", what, ofs);
    }
}

/* Compares what the device has written last of the areas of vring 'index'.
 * Returns how many descriptors or elements these were. */
static int
check_areas(struct pair *p, const struct copy *copy, unsigned int index,
            bool packed)
{
    const struct vhu_fe_vring *vring = vhu_frontend_get_vring(p->fe, index);
    struct virtq_drv_areas a;
    uint8_t *desc, *device;
    int n = 0;

    virtq_drv_get_areas(vring->drv, &a);
    desc = copy->shm->va + (a.desc_uva - copy->shm->user_addr);
    device = copy->shm->va + (a.device_uva - copy->shm->user_addr);
    if (!packed) {
        check_same(copy, device, 4 + 8 * QUEUE_SIZE + 2, "used ring");
        return QUEUE_SIZE;
    }
    check_same(copy, device, 4, "device event suppression");
    for (int i = 0; i < QUEUE_SIZE; i++) {
        /* A descriptor is used if both flags are the same.  The rest of it is
         * the driver's. */
        if (!((desc[16 * i + 14] ^ desc[16 * i + 15]) & 0x80)) {
            check_same(copy, &desc[16 * i + 8], 8, "used descriptor");
            n++;
        }
    }
    return n;
}

static void
start_copy(struct pair *p, struct copy *copy, uint64_t log_size)
{
    CHECK(!vhu_frontend_log_start(p->fe, log_size));
    turn(p);
    CHECK(vhu_dev_wants_log(vhu_backend_get_dev(p->be)));

    /* A migration begins with all of memory. */
    for (uint64_t ofs = 0; ofs < copy->shm->size; ofs += VHOST_LOG_PAGE) {
        copy_page(copy->shm->guest_addr + ofs, copy);
    }
}

static void
harvest_for(struct pair *p, struct copy *copy, int ms)
{
    long long int end = time_msec() + ms;

    do {
        vhu_frontend_log_harvest(p->fe, copy_page, copy);
        turn(p);
    } while (time_msec() < end);
}

/* The device stops, the last bits are taken, and all must be there. */
static int
finish_copy(struct pair *p, struct copy *copy, bool packed)
{
    int n, n_bufs = 0;

    vhu_frontend_stop(p->fe);
    turn(p);
    CHECK(!vhu_backend_is_up(p->be));
    vhu_frontend_log_harvest(p->fe, copy_page, copy);

    n = check_areas(p, copy, 0, packed) + check_areas(p, copy, 1, packed);
    for (size_t i = 0; i < p->n_slots; i++) {
        if (p->written[i]) {
            check_same(copy, copy->shm->va + i * 64, p->written[i],
                       "receive buffer");
            n_bufs++;
        }
    }
    CHECK(n_bufs >= QUEUE_SIZE / 2);
    CHECK(!vhu_frontend_log_harvest(p->fe, copy_page, copy));
    return n;
}

/* One migration: with the log switched off and on again in the middle of it,
 * as if it had been cancelled, and made larger. */
static int
migrate(struct pair *p, struct copy *copy, bool packed, int i)
{
    int n;

    for (int j = 0; j < 3; j++) {
        start_copy(p, copy, 0);
        harvest_for(p, copy, 10);
        vhu_frontend_log_stop(p->fe);
        turn(p);
        CHECK(!vhu_dev_wants_log(vhu_backend_get_dev(p->be)));
    }
    start_copy(p, copy, 0);
    harvest_for(p, copy, i % 10);
    CHECK(!vhu_frontend_log_start(p->fe,
                                  vhu_frontend_log_size(p->fe) + 4096 * 8));
    harvest_for(p, copy, i % 7);
    n = finish_copy(p, copy, packed);

    vhu_frontend_log_stop(p->fe);
    vhu_frontend_start(p->fe);
    turn(p);
    CHECK(vhu_frontend_is_up(p->fe) && vhu_backend_is_up(p->be));
    return n;
}

/* P-05, P-06, P-10, P-14, HZ-11. */
static void
test_migrate(int n_migrations)
{
    for (int packed = 0; packed < 2; packed++) {
        unsigned long long int n_received, n_transmitted;
        struct copy copy;
        struct pair p;
        pthread_t pmd;
        int n = 0;

        pair_init(&p, packed);
        copy.shm = vhu_frontend_get_shm(p.fe);
        copy.mem = xzalloc_cacheline(copy.shm->size);
        copy.n_pages = 0;
        p.shm = copy.shm;
        p.n_slots = copy.shm->size / 64;
        p.written = xzalloc(p.n_slots * sizeof *p.written);

        pmd = ovs_thread_create("pmd", pmd_main, &p);
        for (int i = 0; i < n_migrations; i++) {
            n += migrate(&p, &copy, packed, i);
        }
        atomic_store(&p.stop, true);
        xpthread_join(pmd, NULL);
        CHECK(!n_failed);
        CHECK(n > n_migrations * QUEUE_SIZE);
        atomic_read(&p.n_received, &n_received);
        atomic_read(&p.n_transmitted, &n_transmitted);
        CHECK(n_received > 1000 && n_transmitted > 1000);
        VLOG_INFO("%llu received, %llu transmitted, %"PRIu64" pages copied",
                  n_received, n_transmitted, copy.n_pages);

        vhu_frontend_destroy(p.fe);
        vhu_backend_destroy(p.be);
        free_cacheline(copy.mem);
        free(p.written);
    }
    printf("%d migrations of each format\n", n_migrations);
}

static void
test_vhu_log_main(int argc, char *argv[])
{
    const char *name = argc > 1 ? argv[1] : "";

    vlog_set_levels(NULL, VLF_CONSOLE, argc > 3 ? VLL_INFO : VLL_OFF);
    if (!strcmp(name, "write")) {
        test_write();
    } else if (!strcmp(name, "covers")) {
        test_covers();
    } else if (!strcmp(name, "migrate") && argc > 2) {
        test_migrate(atoi(argv[2]));
    } else {
        ovs_fatal(0, "usage: vhutest vhu-log write|covers|migrate N");
    }
}

VHUTEST_REGISTER("vhu-log", test_vhu_log_main);
