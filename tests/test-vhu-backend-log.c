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
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fe-script.h"
#include "ovs-rcu.h"
#include "util.h"
#include "vhu-mem.h"
#include "vhu-peer.h"
#include "virtq.h"

/* The back-end: dirty logging. */

#define LOG_ALL VIRTIO_BIT(VHOST_F_LOG_ALL)

/* Bytes of the log that guest memory needs: all up to its end. */
#define LOG_SIZE ((GPA + MEM_SIZE) / VHOST_LOG_PAGE / 8)

/* A log, as a front-end has it. */
struct log {
    int fd;
    uint64_t offset;
    uint8_t *va;
};

static struct log
log_create(uint64_t file_size, uint64_t offset)
{
    struct log log = { .offset = offset };

    log.fd = memfd_create("log", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert(log.fd >= 0 && !ftruncate(log.fd, file_size));
    log.va = mmap(NULL, file_size, PROT_READ | PROT_WRITE, MAP_SHARED, log.fd,
                  0);
    assert(log.va != MAP_FAILED);
    return log;
}

/* Sends SET_LOG_BASE.  Returns the size of the reply, or CLOSED. */
static int
ask_log_base(struct fe *fe, const struct log *log, uint64_t size)
{
    struct vhost_user_log payload = { size, log->offset };
    uint64_t unused;

    fe_send(fe, VHOST_USER_SET_LOG_BASE, 0, &payload, sizeof payload,
            &log->fd, 1);
    return fe_wait(fe, VHOST_USER_SET_LOG_BASE, &unused, sizeof unused);
}

static void
do_addr(struct fe *fe, uint32_t index, bool log)
{
    struct vhost_user_vring_addr addr = vring_addr(index);

    if (log) {
        addr.flags = VHOST_VRING_F_LOG;
        addr.log = addr.used - UVA + GPA;
    }
    fe_do(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof addr, NULL, 0);
}

/* Switches logging on or off, in the order in which QEMU does that: P-02. */
static void
set_logging(struct fe *fe, const struct log *log, bool on)
{
    if (on) {
        assert(!ask_log_base(fe, log, LOG_SIZE));
    }
    fe_do_u64(fe, VHOST_USER_SET_FEATURES,
              (fe->dev->features & ~LOG_ALL) | (on ? LOG_ALL : 0));
    for (int i = 0; i < 2 * fe->n_pairs; i++) {
        do_addr(fe, i, on);
    }
}

/* Prints the pages of guest memory that are in the log, and takes them out. */
static void
print_log(const struct log *log, const char *what)
{
    static const char *const names[] = { "desc", "avail", "used", "buf" };
    uint8_t *bits = log->va + log->offset;

    printf("%s:", what);
    for (uint64_t page = 0; page < 8 * LOG_SIZE; page++) {
        uint64_t ofs = page * VHOST_LOG_PAGE - GPA;

        if (bits[page / 8] & (1 << page % 8)) {
            assert(page * VHOST_LOG_PAGE >= GPA);
            printf(" %d.%s", (int) (ofs / SLOT),
                   names[ofs % SLOT / VHOST_LOG_PAGE]);
            bits[page / 8] &= ~(1 << page % 8);
        }
    }
    printf("\n");
}

/* What a PMD thread does with vring 'index': writes, if it is a receiveq,
 * 'len' bytes into each buffer. */
static size_t
use(struct fe *fe, uint32_t index, uint32_t len)
{
    struct vhu_vring *vring = fe->dev->vrings[index];
    struct virtq *vq = vhu_vring_lock(vring);
    struct virtq_chain chains[VIRTQ_MAX_BURST];
    uint32_t lens[VIRTQ_MAX_BURST];
    size_t n;

    if (!vq) {
        return 0;
    }
    n = virtq_take_avail(vq, chains, VIRTQ_MAX_BURST);
    for (size_t i = 0; i < n; i++) {
        lens[i] = vhu_vring_is_transmitq(index) ? 0 : len;
        memset(chains[i].segs[0].va, 1, lens[i]);
    }
    virtq_add_used_burst(vq, chains, lens, n);
    virtq_publish_used(vq);
    virtq_call(vq);
    vhu_vring_unlock(vring);
    return n;
}

/* P-02, P-07: what is logged, from the last reply on to the first. */
static void
test_log(struct fe *fe)
{
    struct log log = log_create(LOG_SIZE, 0);

    fe_up(fe);
    print_log(&log, "off");
    set_logging(fe, &log, true);
    print_log(&log, "on");

    guest_add(fe, 0, 3);
    assert(use(fe, 0, 60) == 3);
    print_log(&log, "received");
    guest_add(fe, 0, 1);
    assert(use(fe, 0, 0) == 1);
    print_log(&log, "received nothing");
    guest_add(fe, 1, 3);
    assert(use(fe, 1, 0) == 3);
    print_log(&log, "transmitted");
    assert(!use(fe, 0, 60) && !use(fe, 1, 60));
    print_log(&log, "idle");

    fe_enable(fe, 1, false);
    print_log(&log, "disabled");
    guest_add(fe, 1, 3);
    guest_kick(fe, 1);
    fe_loop(fe, 30);
    assert(guest_used_idx(fe, 1) == 6);
    print_log(&log, "discarded");
    fe_enable(fe, 1, true);
    print_log(&log, "enabled");

    set_logging(fe, &log, false);
    guest_add(fe, 0, 1);
    assert(use(fe, 0, 60) == 1);
    print_log(&log, "off");
    set_logging(fe, &log, true);
    guest_add(fe, 0, 1);
    assert(use(fe, 0, 60) == 1);
    print_log(&log, "on");
    printf("base %"PRIu32"\n", fe_get_base(fe, 0));
}

/* Sends SET_LOG_BASE with a log that must be refused, which, as QEMU takes any
 * reply for a success, means that the connection is closed. */
static void
check_bad_log(struct fe *fe, const char *what, int fd, uint64_t size,
              uint64_t offset)
{
    const struct log log = { .fd = fd, .offset = offset };
    int n_open = count_fds();

    fe_negotiate(fe, FEATURES);
    fe_do_mem_table(fe);
    if (ask_log_base(fe, &log, size) != CLOSED) {
        ovs_fatal(0, "%s: not refused", what);
    }
    printf("%s: %s\n", what, vhu_backend_get_reason(fe->backend));
    assert(!fe->dev->log);
    fe_reconnect(fe);
    assert(count_fds() <= n_open);
}

static void
check_good_log(struct fe *fe, const struct log *log, uint64_t size)
{
    fe_negotiate(fe, FEATURES);
    fe_do_mem_table(fe);
    assert(!ask_log_base(fe, log, size));
    assert(fe->dev->log);
    fe_reconnect(fe);
    assert(!fe->dev->log);
}

/* L-01, P-03, P-09, HZ-18. */
static void
test_log_base(struct fe *fe)
{
    struct log log = log_create(2 * LOG_SIZE, 0);
    uint64_t offsets[] = { 0, 1, 7, 8, 4095, 4096, LOG_SIZE };
    int fds[2];

    for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
        log.offset = offsets[i];
        check_good_log(fe, &log, LOG_SIZE);
    }
    log.offset = 0;
    check_good_log(fe, &log, 2 * LOG_SIZE);

    check_bad_log(fe, "empty", log.fd, 0, 0);
    check_bad_log(fe, "huge", log.fd, UINT64_MAX, 0);
    check_bad_log(fe, "larger than any", log.fd,
                  (UINT64_C(1) << 52) / VHOST_LOG_PAGE / 8 + 1, 0);
    check_bad_log(fe, "wraps", log.fd, LOG_SIZE, UINT64_MAX - 100);
    check_bad_log(fe, "offset behind end", log.fd, LOG_SIZE,
                  2 * LOG_SIZE + 1);
    check_bad_log(fe, "one past end", log.fd, LOG_SIZE, LOG_SIZE + 1);
    check_bad_log(fe, "one byte less than memory", log.fd, LOG_SIZE - 1, 0);
    check_bad_log(fe, "eventfd", fe->kick[0], LOG_SIZE, 0);
    assert(!pipe(fds));
    check_bad_log(fe, "pipe", fds[1], LOG_SIZE, 0);

    /* Who asks for an acknowledgement gets one. */
    struct vhost_user_log payload = { LOG_SIZE, 0 };
    fe_negotiate(fe, FEATURES);
    fe_do_mem_table(fe);
    fe_do(fe, VHOST_USER_SET_LOG_BASE, &payload, sizeof payload, &log.fd, 1);
    assert(fe->dev->log);
    payload.offset = 2 * LOG_SIZE;
    assert(fe_ask(fe, VHOST_USER_SET_LOG_BASE, &payload, sizeof payload,
                  &log.fd, 1) == 1);
    fe_reconnect(fe);

    /* Only with the feature. */
    fe_negotiate(fe, FEATURES);
    fe_do_u64(fe, VHOST_USER_SET_PROTOCOL_FEATURES,
              VIRTIO_BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK));
    assert(ask_log_base(fe, &log, LOG_SIZE) == CLOSED);
    printf("no feature: %s\n", vhu_backend_get_reason(fe->backend));
    fe_reconnect(fe);
    fe_negotiate(fe, FEATURES);
    fe_do_mem_table(fe);
    fe_do_u64(fe, VHOST_USER_SET_PROTOCOL_FEATURES,
              VIRTIO_BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK));
    struct vhost_user_vring_addr addr = vring_addr(0);
    addr.flags = VHOST_VRING_F_LOG;
    check_bad(fe, "flag without feature", VHOST_USER_SET_VRING_ADDR, &addr,
              sizeof addr, NULL, 0);
}

/* L-01: bits are where the offset says, and nowhere else. */
static void
test_log_offset(struct fe *fe)
{
    static const uint64_t offsets[] = { 1, 7, 8, 4093, 4096 };

    for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
        struct log log = log_create(4 * LOG_SIZE, offsets[i]);

        guest_reset_ring(fe, 0);
        fe_reconnect(fe);
        fe_up(fe);
        set_logging(fe, &log, true);
        guest_add(fe, 0, 1);
        assert(use(fe, 0, 60) == 1);
        print_log(&log, "offset");
        assert(is_all_zeros(log.va, 4 * LOG_SIZE));
        close(log.fd);
    }
}

/* M-15, P-01, L-06: while a vring runs nothing may change but what is logged,
 * and the virtqueue stays the same; other addresses move it, and it goes on
 * where it was. */
static void
test_log_running(struct fe *fe)
{
    struct log log = log_create(LOG_SIZE, 0);
    struct vhost_user_vring_addr addr;
    struct virtq *vq;

    fe_up(fe);
    vq = fe->dev->vrings[0]->running;
    for (int i = 0; i < 10; i++) {
        guest_add(fe, 0, 3);
        assert(use(fe, 0, 60) == 3);
        set_logging(fe, &log, !(i & 1));
        assert(fe->dev->vrings[0]->running == vq);
    }
    set_logging(fe, &log, true);

    addr = vring_addr(5);
    addr.index = 0;
    addr.flags = VHOST_VRING_F_LOG;
    addr.log = addr.used - UVA + GPA;
    memcpy(fe->mem + 5 * SLOT, fe->mem, SLOT);
    fe->avail_idx[5] = fe->avail_idx[0];
    memset(log.va, 0, LOG_SIZE);
    fe_do(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof addr, NULL, 0);
    print_log(&log, "moved");
    guest_add(fe, 4, 0);
    struct virtq_desc *desc = ALIGNED_CAST(struct virtq_desc *,
                                           fe->mem + 5 * SLOT + DESC_OFS);
    assert(desc->flags == VIRTQ_DESC_F_WRITE);
    __atomic_store_n(guest_u16(fe, 5, AVAIL_OFS + 2), ++fe->avail_idx[5],
                     __ATOMIC_RELEASE);
    assert(use(fe, 0, 60) == 1);
    assert(guest_used_idx(fe, 5) == 31 && guest_used_idx(fe, 0) == 30);
    print_log(&log, "used");

    /* The used ring may be logged anywhere, but not outside the log. */
    addr.log = LOG_SIZE * 8 * VHOST_LOG_PAGE - 6 - 8 * RING_SIZE;
    fe_do(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof addr, NULL, 0);
    addr.log++;
    check_bad(fe, "outside", VHOST_USER_SET_VRING_ADDR, &addr, sizeof addr,
              NULL, 0);

    fe_reconnect(fe);
    fe_up(fe);
    set_logging(fe, &log, true);
    check_bad_u64(fe, "features", VHOST_USER_SET_FEATURES,
                  (FEATURES | LOG_ALL)
                  & ~VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF));
}

/* A vring that is to log, without a log: it waits.  QEMU, when a guest reboots
 * while it migrates, sends the new log last. */
static void
test_log_wait(struct fe *fe)
{
    struct log old = log_create(LOG_SIZE, 0);
    struct log new = log_create(LOG_SIZE, 0);
    long long int elapsed;

    fe_negotiate(fe, FEATURES | LOG_ALL);
    fe_do_mem_table(fe);
    for (int i = 0; i < 2; i++) {
        fe_start(fe, i, 0);
        do_addr(fe, i, true);
        fe_enable(fe, i, true);
    }
    guest_add(fe, 0, 1);
    fe_loop(fe, 30);
    assert(!use(fe, 0, 60));
    printf("%s: %s\n", vring_state(fe, 0),
           vhu_backend_get_reason(fe->backend));
    assert(!ask_log_base(fe, &old, LOG_SIZE));
    assert(use(fe, 0, 60) == 1);
    print_log(&old, "started");

    /* The reboot. */
    for (int round = 0; round < 2; round++) {
        uint32_t bases[2];

        for (int i = 0; i < 2; i++) {
            bases[i] = fe_get_base(fe, i);
        }
        for (int i = 0; i < 2; i++) {
            fe_start(fe, i, bases[i]);
            do_addr(fe, i, true);
        }
        guest_add(fe, 0, 1);
        assert(!use(fe, 0, 60));
        if (!round) {
            assert(!ask_log_base(fe, &new, LOG_SIZE));
        } else {
            /* None comes: on with the one that is there. */
            elapsed = fe_loop(fe, 1200);
            assert(elapsed < 5000);
        }
        assert(use(fe, 0, 60) == 1);
        print_log(&old, "old");
        print_log(&new, "new");
    }

    /* A front-end that cannot send one does not wait for it. */
    fe_reconnect(fe);
    fe_negotiate(fe, FEATURES | LOG_ALL);
    fe_do_u64(fe, VHOST_USER_SET_PROTOCOL_FEATURES,
              VIRTIO_BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK));
    fe_do_mem_table(fe);
    fe_start(fe, 0, 0);
    printf("without feature: %s\n", vring_state(fe, 0));
}

/* HZ-18, P-09: memory is added while it is logged, and a smaller log is not
 * enough any more. */
static void
test_log_memory(struct fe *fe)
{
    struct log small = log_create(LOG_SIZE, 0);
    struct log large = log_create(2 * LOG_SIZE, 0);
    struct vhost_user_single_mem_region msg;
    struct vhost_user_log payload = { LOG_SIZE, 0 };
    uint64_t unused;

    memset(&msg, 0, sizeof msg);
    msg.region.guest_addr = GPA + MEM_SIZE;
    msg.region.user_addr = UVA + MEM_SIZE;
    msg.region.size = MEM_SIZE;

    fe_up(fe);
    set_logging(fe, &small, true);
    assert(fe_ask(fe, VHOST_USER_ADD_MEM_REG, &msg, sizeof msg, &fe->memfd, 1)
           == 1);
    assert(fe->dev->mem->n_regions == 1);
    assert(!ask_log_base(fe, &large, 2 * LOG_SIZE));
    fe_do(fe, VHOST_USER_ADD_MEM_REG, &msg, sizeof msg, &fe->memfd, 1);
    assert(fe->dev->mem->n_regions == 2);
    guest_add(fe, 0, 1);
    assert(use(fe, 0, 60) == 1);
    print_log(&small, "small");
    print_log(&large, "large");

    /* As long as nothing is logged the size does not matter, until then. */
    fe_do(fe, VHOST_USER_REM_MEM_REG, &msg, sizeof msg, NULL, 0);
    set_logging(fe, &small, true);
    set_logging(fe, &small, false);
    fe_do(fe, VHOST_USER_ADD_MEM_REG, &msg, sizeof msg, &fe->memfd, 1);
    assert(fe_ask_u64(fe, VHOST_USER_SET_FEATURES, FEATURES | LOG_ALL) == 1);
    struct vhost_user_vring_addr addr = vring_addr(0);
    addr.flags = VHOST_VRING_F_LOG;
    addr.log = addr.used - UVA + GPA;
    assert(fe_ask(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof addr, NULL, 0)
           == 1);
    fe_send(fe, VHOST_USER_SET_LOG_BASE, 0, &payload, sizeof payload,
            &small.fd, 1);
    assert(fe_wait(fe, VHOST_USER_SET_LOG_BASE, &unused, sizeof unused)
           == CLOSED);
    printf("%s\n", vhu_backend_get_reason(fe->backend));

    /* A log that is too small, from an earlier migration, and nothing runs:
     * there will be another one. */
    fe_reconnect(fe);
    fe_up(fe);
    set_logging(fe, &small, true);
    set_logging(fe, &small, false);
    fe_get_base(fe, 0);
    fe_get_base(fe, 1);
    fe_do(fe, VHOST_USER_ADD_MEM_REG, &msg, sizeof msg, &fe->memfd, 1);
    fe_do_u64(fe, VHOST_USER_SET_FEATURES, FEATURES | LOG_ALL);
    assert(!fe->dev->log);
    fe_start(fe, 0, 0);
    printf("%s\n", vring_state(fe, 0));
    assert(!ask_log_base(fe, &large, 2 * LOG_SIZE));
    printf("%s\n", vring_state(fe, 0));
}

/* P-03, P-13: the log is replaced while the vrings run. */
static void
test_log_resize(struct fe *fe)
{
    struct log logs[2] = { log_create(LOG_SIZE, 0),
                           log_create(4 * LOG_SIZE, LOG_SIZE) };

    fe_up(fe);
    set_logging(fe, &logs[0], true);
    for (int i = 0; i < 4; i++) {
        assert(!ask_log_base(fe, &logs[i & 1],
                             i & 1 ? 3 * LOG_SIZE : LOG_SIZE));
        guest_add(fe, 0, 1);
        assert(use(fe, 0, 60) == 1);
        print_log(&logs[!(i & 1)], "other");
        print_log(&logs[i & 1], "this");
    }
}

/* H-01, HZ-18: the file of the log is truncated while we log. */
static void
test_log_vanish(struct fe *fe)
{
    for (int i = 0; i < 3; i++) {
        struct log log = log_create(LOG_SIZE, 0);

        guest_reset_ring(fe, 0);
        fe_reconnect(fe);
        fe_up(fe);
        /* The front-end's seal is first, so ours is not accepted. */
        assert(!fcntl(log.fd, F_ADD_SEALS, F_SEAL_SEAL));
        set_logging(fe, &log, true);
        guest_add(fe, 0, 1);
        assert(use(fe, 0, 60) == 1);
        assert(!ftruncate(log.fd, 0));
        guest_add(fe, 0, 1);
        assert(use(fe, 0, 60) == 1);
        assert(guest_used_idx(fe, 0) == 1);
        fe_turn(fe);
        assert(!vhu_backend_is_up(fe->backend));
        printf("%s\n", vhu_backend_get_reason(fe->backend));
        close(log.fd);
    }
    fe_reconnect(fe);
    guest_reset_ring(fe, 0);
    fe_up(fe);
    guest_add(fe, 0, 1);
    assert(use(fe, 0, 60) == 1);

    /* A file that can be sealed cannot be truncated any more. */
    struct log log = log_create(LOG_SIZE, 0);
    set_logging(fe, &log, true);
    printf("sealed: %s\n", ftruncate(log.fd, 0) ? "cannot shrink" : "shrinks");
}

static int
count_logs(void)
{
    static const char name[] = "/proc/self/maps";
    FILE *file = fopen(name, "r");
    char line[512];
    int n = 0;

    assert(file);
    while (fgets(line, sizeof line, file)) {
        n += strstr(line, "memfd:log") != NULL;
    }
    fclose(file);
    return n;
}

/* M-10: nothing is left of logs that are replaced or refused. */
static void
test_log_leak(struct fe *fe)
{
    struct log log = log_create(LOG_SIZE, 0);
    int n_logs = count_logs();
    int n_open = count_fds();

    fe_up(fe);
    n_open = count_fds();
    for (int i = 0; i < 3000; i++) {
        assert(!ask_log_base(fe, &log, LOG_SIZE));
    }
    for (int i = 0; i < 50; i++) {
        assert(ask_log_base(fe, &log, LOG_SIZE - 1) == CLOSED);
        fe_reconnect(fe);
        fe_up(fe);
        set_logging(fe, &log, true);
    }
    assert(count_fds() <= n_open);
    fe_reconnect(fe);
    ovsrcu_barrier();
    assert(count_logs() == n_logs);
    printf("ok\n");
}

const struct fe_test backend_log_tests[] = {
    { "log", test_log, 1 },
    { "log-base", test_log_base, 2 },
    { "log-offset", test_log_offset, 1 },
    { "log-running", test_log_running, 1 },
    { "log-wait", test_log_wait, 1 },
    { "log-memory", test_log_memory, 1 },
    { "log-resize", test_log_resize, 1 },
    { "log-vanish", test_log_vanish, 1 },
    { "log-leak", test_log_leak, 1 },
    { NULL, NULL, 0 },
};
