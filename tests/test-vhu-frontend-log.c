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

#include "vhu-frontend.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "be-script.h"
#include "util.h"
#include "vhu-dev.h"
#include "vhu-shm.h"
#include "vhutest.h"

/* The dirty log and the inflight region: what the back-end leaves behind. */

/* What the back-end does when it writes to 'page'. */
static void
dirty(struct be *be, uint64_t page)
{
    assert(page / 8 < be->dirty_size);
    __atomic_fetch_or(&be->dirty[page / 8], 1 << page % 8, __ATOMIC_RELEASE);
}

static void
print_page(uint64_t guest_addr, void *aux OVS_UNUSED)
{
    assert(guest_addr % VHOST_LOG_PAGE == 0);
    printf(" %"PRIu64, guest_addr / VHOST_LOG_PAGE);
}

static void
harvest(struct be *be, const char *what)
{
    size_t n;

    printf("%s:", what);
    n = vhu_frontend_log_harvest(be->fe, print_page, NULL);
    printf(" (%"PRIuSIZE")\n", n);
}

/* P-02: the order is QEMU's, and the log is on when the last reply is
 * there. */
static void
test_log(struct be *be)
{
    const struct vhu_shm *shm;
    uint64_t end;

    be_up(be);
    be_forget_log(be);
    shm = vhu_frontend_get_shm(be->fe);
    end = shm->guest_addr + shm->size;
    assert(!vhu_frontend_log_size(be->fe));
    harvest(be, "no log");

    assert(!vhu_frontend_log_start(be->fe, 0));
    be_turn(be);
    be_print_log(be);
    be_print_done(be, VHU_FE_OP_LOG_START);

    /* P-09, P-08: it covers memory, and the used rings are in it. */
    assert(be->dirty_size * 8 * VHOST_LOG_PAGE >= end);
    assert(vhu_frontend_log_size(be->fe) >= end);
    for (int i = 0; i < 2; i++) {
        const struct vhost_user_vring_addr *addr = &be->vrings[i].addr;

        assert(addr->log - shm->guest_addr == addr->used - shm->user_addr);
    }

    dirty(be, 0);
    dirty(be, 7);
    dirty(be, 8);
    dirty(be, 63);
    dirty(be, 64);
    dirty(be, end / VHOST_LOG_PAGE - 1);
    printf("last page is %"PRIu64"\n", end / VHOST_LOG_PAGE - 1);
    harvest(be, "first");
    harvest(be, "nothing new");
    dirty(be, 7);
    harvest(be, "second");

    vhu_frontend_log_stop(be->fe);
    dirty(be, 9);
    be_turn(be);
    be_print_log(be);
    be_print_done(be, VHU_FE_OP_LOG_STOP);
    assert(!(be->acked & VIRTIO_BIT(VHOST_F_LOG_ALL)));
    harvest(be, "stopped");

    /* A new log is a clean one. */
    dirty(be, 10);
    assert(!vhu_frontend_log_start(be->fe, 0));
    be_turn(be);
    assert(be->acked & VIRTIO_BIT(VHOST_F_LOG_ALL));
    harvest(be, "again");
}

/* P-03: a larger log takes over what the old one says. */
static void
test_log_resize(struct be *be)
{
    uint64_t size;

    assert(!vhu_frontend_log_start(be->fe, 0));
    be_up(be);
    assert(be->acked & VIRTIO_BIT(VHOST_F_LOG_ALL));
    assert(be->vrings[0].addr.flags == VHOST_VRING_F_LOG);
    be_forget_log(be);
    size = vhu_frontend_log_size(be->fe);
    dirty(be, 5);
    dirty(be, 100);

    assert(!vhu_frontend_log_start(be->fe, size + 1));
    be_turn(be);
    printf("SET_LOG_BASE only: %s\n",
           (ds_cstr(&be->log) == strstr(ds_cstr(&be->log), "SET_LOG_BASE")
            && !strstr(ds_cstr(&be->log), "SET_VRING") ? "yes" : "no"));
    be_print_done(be, VHU_FE_OP_LOG_RESIZE);
    assert(vhu_frontend_log_size(be->fe) > size);
    dirty(be, 6);
    dirty(be, size / VHOST_LOG_PAGE);
    printf("new page is %"PRIu64"\n", size / VHOST_LOG_PAGE);
    harvest(be, "resized");

    /* Not smaller, and not again. */
    be_forget_log(be);
    assert(!vhu_frontend_log_start(be->fe, 1));
    be_turn(be);
    be_print_log(be);

    /* Refused: the old one stays. */
    be->log_payload = true;
    be->request = VHOST_USER_SET_LOG_BASE;
    be->fault = BE_NACK;
    dirty(be, 11);
    size = vhu_frontend_log_size(be->fe);
    assert(!vhu_frontend_log_start(be->fe, size + 1));
    be_turn(be);
    be_print_done(be, VHU_FE_OP_LOG_RESIZE);
    assert(vhu_frontend_log_size(be->fe) == size);
    harvest(be, "refused");
}

/* P-14, L-10: what the back-end writes before it answers GET_VRING_BASE is in
 * the last harvest. */
static void
test_log_final(struct be *be)
{
    assert(!vhu_frontend_log_start(be->fe, 0));
    be_up(be);
    dirty(be, 1);
    harvest(be, "while it runs");

    be_forget_log(be);
    vhu_frontend_stop(be->fe);
    vhu_frontend_run(be->fe);
    dirty(be, 2);
    assert(!be->n_done[VHU_FE_OP_STOP]);
    be_turn(be);
    assert(be->n_done[VHU_FE_OP_STOP] == 1);
    be_print_log(be);
    harvest(be, "stopped");

    /* It is still on after a restart, and on a new connection, where nothing
     * is forgotten. */
    be_up(be);
    dirty(be, 3);
    be_connect(be);
    be_up(be);
    assert(be->acked & VIRTIO_BIT(VHOST_F_LOG_ALL));
    dirty(be, 4);
    harvest(be, "two connections");
}

static void
test_log_missing(struct be *be)
{
    be->features &= ~VIRTIO_BIT(VHOST_F_LOG_ALL);
    be_up(be);
    assert(vhu_frontend_log_start(be->fe, 0) == EOPNOTSUPP);
    be->features |= VIRTIO_BIT(VHOST_F_LOG_ALL);
    be->protocol_features &= ~VIRTIO_BIT(VHOST_USER_PROTOCOL_F_LOG_SHMFD);
    be_connect(be);
    assert(!vhu_frontend_log_start(be->fe, 0));
    be_up(be);
    be_print_done(be, VHU_FE_OP_LOG_START);
    assert(!(be->acked & VIRTIO_BIT(VHOST_F_LOG_ALL)));
    assert(vhu_frontend_log_start(be->fe, 0) == EOPNOTSUPP);
}

static void
test_log_refused(struct be *be)
{
    static const uint32_t requests[] = { VHOST_USER_SET_FEATURES,
                                         VHOST_USER_SET_VRING_ADDR };

    be_up(be);
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        be->request = requests[i];
        be->fault = BE_NACK;
        be->nth = 0;
        assert(!vhu_frontend_log_start(be->fe, 0));
        be_turn(be);
        be_print_done(be, VHU_FE_OP_LOG_START);
        assert(vhu_frontend_is_up(be->fe) && vhu_frontend_is_idle(be->fe));
        assert(!(be->acked & VIRTIO_BIT(VHOST_F_LOG_ALL)));
        assert(!be->vrings[0].addr.flags && !be->vrings[1].addr.flags);
    }
    be->fault = BE_NONE;
    be->log_payload = true;
    assert(!vhu_frontend_log_start(be->fe, 0));
    be_turn(be);
    be_print_done(be, VHU_FE_OP_LOG_START);
}

/* The back-end uses the first 'n' packets of vring 1, and we take note. */
static void
use(struct be *be, uint16_t n)
{
    struct vhu_fe_vring *vring = vhu_frontend_get_vring(be->fe, 1);
    const struct vhost_user_vring_addr *addr = &be->vrings[1].addr;
    struct virtq_avail *avail
        = (void *) (be->mem + (addr->avail - be->region.user_addr));
    struct virtq_used *used
        = (void *) (be->mem + (addr->used - be->region.user_addr));

    for (uint16_t i = 0; i < n; i++) {
        used->ring[i].id = virtio_cpu_to_le32(
            virtio_le16_to_cpu(avail->ring[i]));
    }
    __atomic_store_n(&used->idx, virtio_cpu_to_le16(n), __ATOMIC_RELEASE);

    vhu_fe_vring_lock(vring);
    assert(virtq_drv_reclaim(vring->drv) == n);
    vhu_fe_vring_unlock(vring);
}

/* I-01: the region of the first connection comes back on the next one, and the
 * rings go on as they are. */
static void
test_inflight(struct be *be)
{
    const struct vhu_fe_vring *vring = vhu_frontend_get_vring(be->fe, 1);
    static const char note[] = "in flight";
    char buf[sizeof note];

    be->protocol_features |= VIRTIO_BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD);
    be_up(be);
    be_print_log(be);
    be_transmit(be, 0, 5);
    use(be, 2);
    assert(vhu_frontend_reset_vring(be->fe, 1) == EOPNOTSUPP);
    assert(pwrite(be->inflight_fd, note, sizeof note, 0) == sizeof note);

    /* This one does not know it any more. */
    close(be->inflight_fd);
    be->inflight_fd = -1;
    be_connect(be);
    be_up(be);
    printf("%s GET_INFLIGHT_FD, %s SET_INFLIGHT_FD\n",
           strstr(ds_cstr(&be->log), "GET_INFLIGHT_FD") ? "with" : "no",
           strstr(ds_cstr(&be->log), "SET_INFLIGHT_FD +fd") ? "with" : "no");
    assert(be->inflight_fd >= 0);
    assert(pread(be->inflight_fd, buf, sizeof buf, 0) == sizeof buf);
    printf("%s, %"PRIu32" in flight, base %"PRIu32"\n", buf,
           virtq_drv_n_in_flight(vring->drv), be->vrings[1].base);

    /* A reset forgets it. */
    be_forget_log(be);
    assert(!vhu_frontend_reset_device(be->fe));
    be_turn(be);
    printf("%s GET_INFLIGHT_FD\n",
           strstr(ds_cstr(&be->log), "GET_INFLIGHT_FD") ? "with" : "no");

    /* Without it packets are transmitted again, on a fresh ring. */
    be->protocol_features &= ~VIRTIO_BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD);
    be_connect(be);
    be_up(be);
    use(be, 2);
    be_connect(be);
    be_up(be);
    printf("%"PRIu32" in flight, base %"PRIu32"\n",
           virtq_drv_n_in_flight(vring->drv), be->vrings[1].base);
}

/* I-02: a region is of use only for as many vrings as it was made for. */
static void
test_inflight_queues(struct be *be)
{
    struct vhu_frontend_config config = be_config(2);

    vhu_frontend_set_config(be->fe, &config, "test");
    be->protocol_features |= VIRTIO_BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD);
    for (unsigned int n = 2; n; n--) {
        const char *request;

        be->queue_num = n;
        be_connect(be);
        be_forget_log(be);
        be_up(be);
        request = strstr(ds_cstr(&be->log), "GET_INFLIGHT_FD");
        printf("%u pairs: %.23s\n", n, request ? request : "no request");
    }
}

static const struct {
    const char *name;
    void (*run)(struct be *);
} tests[] = {
    { "log", test_log },
    { "log-resize", test_log_resize },
    { "log-final", test_log_final },
    { "log-missing", test_log_missing },
    { "log-refused", test_log_refused },
    { "inflight", test_inflight },
    { "inflight-queues", test_inflight_queues },
};

static void
test_vhu_frontend_log_main(int argc, char *argv[])
{
    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc == 2 && !strcmp(argv[1], tests[i].name)) {
            struct vhu_frontend_config config = be_config(1);
            struct be be;

            be_init(&be, &config);
            tests[i].run(&be);
            be_uninit(&be);
            return;
        }
    }
    ovs_fatal(0, "no such test");
}

VHUTEST_REGISTER("frontend-log", test_vhu_frontend_log_main);
