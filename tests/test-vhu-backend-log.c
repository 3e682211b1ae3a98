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
#include <sys/mman.h>
#include <unistd.h>

#include "fe-script.h"
#include "util.h"
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

const struct fe_test backend_log_tests[] = {
    { "log", test_log, 1 },
    { NULL, NULL, 0 },
};
