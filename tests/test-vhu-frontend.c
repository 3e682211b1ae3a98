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
#include "timeval.h"
#include "util.h"
#include "vhu-dev.h"
#include "vhu-shm.h"
#include "vhutest.h"

/* The operations of the front-end role against a back-end with a script. */

static void
drop(struct be *be, uint64_t feature, uint64_t protocol_feature)
{
    be->features &= ~feature;
    be->protocol_features &= ~protocol_feature;
}

/* Start. */

static void
test_start(struct be *be)
{
    be_up(be);
    be_print_log(be);
    printf("%d published\n", be_n_published(be));
    assert(vhu_frontend_is_idle(be->fe));
    assert(be->acked == vhu_frontend_get_info(be->fe)->features);
    assert(be->acked & VIRTIO_BIT(VIRTIO_F_VERSION_1));
    assert(!(be->acked & VIRTIO_BIT(VIRTIO_NET_F_CSUM)));
    for (int i = 0; i < 2; i++) {
        uint64_t kicks = 0;

        assert(be->vrings[i].size == 16);
        assert(read(be->vrings[i].kick, &kicks, sizeof kicks) == 8 && kicks);
    }
}

/* Without acknowledgements a last request finds out that the back-end has read
 * everything. */
static void
test_start_plain(struct be *be)
{
    drop(be, 0, VIRTIO_BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK)
                | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_STATUS)
                | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS));
    be_up(be);
    be_print_log(be);

    printf("no protocol features\n");
    be_hang_up(be);
    be_turn(be);
    be_uninit(be);
    {
        struct vhu_frontend_config config = be_config(1);

        be_init(be, &config);
    }
    be->features &= ~VIRTIO_BIT(VHOST_USER_F_PROTOCOL_FEATURES);
    be_up(be);
    be_print_log(be);
    printf("%d published\n", be_n_published(be));
}

static void
test_features(struct be *be)
{
    uint64_t acked;

    be->features = BE_FEATURES & ~VIRTIO_BIT(VIRTIO_F_VERSION_1);
    be_start(be);
    be_print_reason(be, "legacy");
    assert(!be_n_published(be));

    be->features = BE_FEATURES & ~VIRTIO_BIT(VIRTIO_F_EVENT_IDX);
    be_connect(be);
    be_start(be);
    be_print_reason(be, "without event index");
    acked = be->acked;
    assert(!(acked & VIRTIO_BIT(VIRTIO_F_EVENT_IDX)));

    /* What is offered later is not taken. */
    be->features = BE_FEATURES;
    be_connect(be);
    be_start(be);
    assert(be->acked == acked);
    be_print_reason(be, "with event index");

    be->features = BE_FEATURES & ~VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF);
    be_connect(be);
    be_start(be);
    be_print_reason(be, "less than before");
    assert(!be->acked);

    be->features = BE_FEATURES;
    be_connect(be);
    be_start(be);
    assert(be->acked == acked);
    be_print_reason(be, "as before");

    /* Another configuration is another device. */
    {
        struct vhu_frontend_config config = be_config(1);

        config.needed_features = VIRTIO_BIT(VIRTIO_NET_F_STATUS);
        vhu_frontend_set_config(be->fe, &config, "test");
        be_connect(be);
        be_start(be);
        be_print_reason(be, "needed");
        config.needed_features = VIRTIO_BIT(VIRTIO_NET_F_CSUM);
        vhu_frontend_set_config(be->fe, &config, "test");
        be_connect(be);
        be_start(be);
        be_print_reason(be, "configured");
        assert(be->acked & VIRTIO_BIT(VIRTIO_NET_F_CSUM));
        assert(be->acked & VIRTIO_BIT(VIRTIO_F_EVENT_IDX));
    }
}

/* A start that failed does not decide in which format the rings of the next
 * one are. */
static void
test_other_features(struct be *be)
{
    struct vhu_frontend_config config = be_config(1);
    const struct vhu_fe_vring *vring = vhu_frontend_get_vring(be->fe, 1);

    config.features |= VIRTIO_BIT(VIRTIO_F_RING_PACKED);
    vhu_frontend_set_config(be->fe, &config, "test");
    be->request = VHOST_USER_ADD_MEM_REG;
    be->fault = BE_NACK;
    be_start(be);
    be_print_reason(be, "packed");

    be->fault = BE_NONE;
    be->features &= ~VIRTIO_BIT(VIRTIO_F_RING_PACKED);
    be_connect(be);
    be_up(be);
    assert(!(be->acked & VIRTIO_BIT(VIRTIO_F_RING_PACKED)));
    assert(virtq_drv_get_features(vring->drv) == be->acked);
    printf("split: base 0x%"PRIx32"\n", be->vrings[1].base);
}

/* F-05. */
static void
test_queues(struct be *be)
{
    static const uint64_t nums[] = { 0, 1, 3, 4, 5, 129, UINT64_C(1) << 63,
                                     UINT64_MAX };
    const struct vhu_frontend_info *info = vhu_frontend_get_info(be->fe);

    for (size_t i = 0; i < ARRAY_SIZE(nums); i++) {
        char s[64];

        be->queue_num = nums[i];
        be_connect(be);
        be_start(be);
        snprintf(s, sizeof s, "%"PRIu64" offered, %u used, %d published",
                 nums[i], info->n_pairs, be_n_published(be));
        be_print_reason(be, s);
    }

    be->protocol_features &= ~VIRTIO_BIT(VHOST_USER_PROTOCOL_F_MQ);
    be_connect(be);
    be_start(be);
    assert(info->n_pairs == 1);
    be_print_reason(be, "no MQ");

    /* The feature of virtio is another thing. */
    {
        struct vhu_frontend_config config = be_config(4);

        be->protocol_features |= VIRTIO_BIT(VHOST_USER_PROTOCOL_F_MQ);
        be->features &= ~VIRTIO_BIT(VIRTIO_NET_F_MQ);
        config.buf_size++;
        vhu_frontend_set_config(be->fe, &config, "test");
        be_connect(be);
        be_start(be);
        assert(info->n_pairs == 1);
        be_print_reason(be, "no VIRTIO_NET_F_MQ");
    }
}

static void
test_memory(struct be *be)
{
    static const uint64_t slots[] = { 0, 1, UINT64_MAX };
    const struct vhu_shm *shm;
    uint64_t end;

    for (size_t i = 0; i < ARRAY_SIZE(slots); i++) {
        char s[64];

        be->mem_slots = slots[i];
        be_connect(be);
        be_start(be);
        snprintf(s, sizeof s, "%"PRIu64" slots", slots[i]);
        be_print_reason(be, s);
    }

    /* F-07: addresses are made up, and nothing but the memory is shared. */
    shm = vhu_frontend_get_shm(be->fe);
    end = be->region.user_addr + be->region.size;
    assert(be->region.size == shm->size);
    assert((uintptr_t) shm->va < be->region.user_addr
           || (uintptr_t) shm->va >= end);
    assert((uintptr_t) be < be->region.user_addr || (uintptr_t) be >= end);
    for (int i = 0; i < 2; i++) {
        const struct vhost_user_vring_addr *addr = &be->vrings[i].addr;

        assert(addr->desc >= be->region.user_addr && addr->desc < end);
        assert(addr->avail >= be->region.user_addr && addr->avail < end);
        assert(addr->used >= be->region.user_addr && addr->used < end);
    }
    assert(ftruncate(be->mem_fd, 0) && errno == EPERM);

    /* A region is added once on a connection, but a table is sent again. */
    for (int table = 0; table < 2; table++) {
        if (table) {
            be->protocol_features
                &= ~VIRTIO_BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS);
        }
        be_connect(be);
        be_forget_log(be);
        be_start(be);
        vhu_frontend_stop(be->fe);
        be_turn(be);
        be_start(be);
        printf("%s: %d and %d times\n", table ? "table" : "region",
               strstr(ds_cstr(&be->log), "ADD_MEM_REG") != NULL,
               strstr(ds_cstr(&be->log), "SET_MEM_TABLE") != NULL);
    }
}

/* Stop. */

static void
test_stop(struct be *be)
{
    be_up(be);
    be_forget_log(be);
    be_transmit(be, 0, 5);
    be->vrings[1].base = 3;     /* Three of them are taken, and not used. */

    vhu_frontend_stop(be->fe);
    be_turn(be);
    be_print_log(be);
    be_print_reason(be, "stopped");
    be_print_done(be, VHU_FE_OP_STOP);
    assert(!be_n_published(be) && vhu_frontend_is_idle(be->fe));

    be_up(be);
    assert(be->vrings[1].base == 3);
    be_print_log(be);

    /* Where it cannot have been. */
    be->vrings[1].base = 6;
    vhu_frontend_stop(be->fe);
    be_turn(be);
    be_up(be);
    printf("vring 1 continues at %"PRIu32"\n", be->vrings[1].base);

    be->vrings[1].base = 0x10003;
    vhu_frontend_stop(be->fe);
    be_turn(be);
    be_up(be);
    printf("vring 1 continues at %"PRIu32"\n", be->vrings[1].base);
}

static void
test_stop_packed(struct be *be)
{
    struct vhu_frontend_config config = be_config(1);

    config.features |= VIRTIO_BIT(VIRTIO_F_RING_PACKED);
    vhu_frontend_set_config(be->fe, &config, "test");
    be_up(be);
    printf("begins at 0x%"PRIx32"\n", be->vrings[1].base);
    be_transmit(be, 0, 5);

    be->vrings[1].base = 0x80008003;
    vhu_frontend_stop(be->fe);
    be_turn(be);
    be_up(be);
    printf("whole base: continues at 0x%"PRIx32"\n", be->vrings[1].base);

    be->half_base = true;
    be->vrings[1].base = 0x8004;
    vhu_frontend_stop(be->fe);
    be_turn(be);
    be_up(be);
    printf("half a base: continues at 0x%"PRIx32"\n", be->vrings[1].base);

    be->half_base = false;
    be->vrings[1].base = 0x80070007;
    vhu_frontend_stop(be->fe);
    be_turn(be);
    be_up(be);
    printf("bad base: continues at 0x%"PRIx32"\n", be->vrings[1].base);
}

/* each request of a start is refused in turn.  Whatever was done is
 * undone, last thing first, and the connection is closed. */
static void
test_unwind(struct be *be)
{
    static const uint32_t requests[] = {
        VHOST_USER_SET_FEATURES, VHOST_USER_ADD_MEM_REG,
        VHOST_USER_SET_VRING_NUM, VHOST_USER_SET_VRING_ADDR,
        VHOST_USER_SET_VRING_CALL, VHOST_USER_SET_VRING_ENABLE,
        VHOST_USER_SET_VRING_KICK,
    };

    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        be->request = requests[i];
        be->nth = requests[i] >= VHOST_USER_SET_VRING_NUM
                  && requests[i] != VHOST_USER_ADD_MEM_REG ? 2 : 0;
        be->fault = BE_NACK;
        be_connect(be);
        be->quiet = true;
        vhu_frontend_start(be->fe);
        while (!be->n_done[VHU_FE_OP_START]) {
            be_loop(be, 1);
        }
        be_print_done(be, VHU_FE_OP_START);
        be->n_done[VHU_FE_OP_START] = 0;
        assert(!be_n_published(be));
    }
    be->fault = BE_NONE;
    be_connect(be);
    be_up(be);
}

static void
test_unwind_order(struct be *be)
{
    const char *log;

    be->request = VHOST_USER_SET_VRING_KICK;
    be->nth = 1;
    be->fault = BE_NACK;
    be_start(be);
    log = strstr(ds_cstr(&be->log), "GET_VRING_BASE");
    assert(log);
    fputs(log, stdout);
    be_print_reason(be, "after that");
}

/* While it runs. */

static void
test_enable(struct be *be)
{
    be_up(be);
    be_forget_log(be);
    vhu_frontend_enable(be->fe, 1, false);
    be_turn(be);
    printf("%d published\n", be_n_published(be));
    be_print_done(be, VHU_FE_OP_ENABLE);
    vhu_frontend_enable(be->fe, 1, false);
    be_turn(be);
    vhu_frontend_enable(be->fe, 1, true);
    be_turn(be);
    be_print_log(be);
    printf("%d published\n", be_n_published(be));

    /* Not published before the back-end has said yes. */
    vhu_frontend_enable(be->fe, 0, false);
    be_turn(be);
    vhu_frontend_enable(be->fe, 0, true);
    vhu_frontend_run(be->fe);
    assert(be_n_published(be) == 2);
    be_turn(be);
    assert(be_n_published(be) == 4);

    /* It is remembered on the next connection. */
    vhu_frontend_enable(be->fe, 0, false);
    be_connect(be);
    be_up(be);
    printf("%"PRIu32" %"PRIu32" %"PRIu32" %"PRIu32", %d published\n",
           be->vrings[0].enabled, be->vrings[1].enabled,
           be->vrings[2].enabled, be->vrings[3].enabled, be_n_published(be));
}

static void
test_reset_vring(struct be *be)
{
    const struct vhu_fe_vring *other = vhu_frontend_get_vring(be->fe, 3);

    assert(vhu_frontend_reset_vring(be->fe, 1) == ENOTCONN);
    be_up(be);
    be_forget_log(be);
    be_transmit(be, 0, 5);
    be_transmit(be, 1, 5);
    be->vrings[1].base = 2;
    assert(!vhu_frontend_reset_vring(be->fe, 1));
    assert(vhu_frontend_reset_vring(be->fe, 4) == ENOTCONN);
    vhu_frontend_run(be->fe);
    assert(be_n_published(be) == 3);
    be_turn(be);
    be_print_log(be);
    be_print_done(be, VHU_FE_OP_RESET_VRING);
    printf("%d published, base %"PRIu32", other vring has %"PRIu32
           " in flight\n", be_n_published(be), be->vrings[1].base,
           virtq_drv_n_in_flight(other->drv));
}

static uint64_t
read_fd(int fd)
{
    uint64_t n = 0;

    return read(fd, &n, sizeof n) == sizeof n ? n : 0;
}

static void
call(struct be *be, unsigned int index)
{
    uint64_t one = 1;

    assert(write(be->vrings[index].call, &one, sizeof one) == sizeof one);
}

static void
test_call(struct be *be)
{
    int fd;

    be_up(be);
    assert(be->vrings[0].nofd_call && be->vrings[0].call < 0);
    be_forget_log(be);

    vhu_frontend_set_call(be->fe, 0, VHU_FE_CALL_UNMASKED);
    be_turn(be);
    fd = vhu_frontend_get_call_fd(be->fe, 0);
    call(be, 0);
    printf("unmasked: %"PRIu64" calls\n", read_fd(fd));

    vhu_frontend_set_call(be->fe, 0, VHU_FE_CALL_MASKED);
    be_turn(be);
    printf("masked: pending %d\n", vhu_frontend_is_pending(be->fe, 0));
    call(be, 0);
    call(be, 0);
    printf("masked: pending %d, %"PRIu64" calls\n",
           vhu_frontend_is_pending(be->fe, 0), read_fd(fd));

    vhu_frontend_set_call(be->fe, 0, VHU_FE_CALL_UNMASKED);
    be_turn(be);
    printf("unmasked: pending %d, %"PRIu64" calls\n",
           vhu_frontend_is_pending(be->fe, 0), read_fd(fd));
    vhu_frontend_set_call(be->fe, 0, VHU_FE_CALL_MASKED);
    be_turn(be);
    vhu_frontend_set_call(be->fe, 0, VHU_FE_CALL_UNMASKED);
    be_turn(be);
    printf("nothing came: %"PRIu64" calls\n", read_fd(fd));

    vhu_frontend_set_call(be->fe, 0, VHU_FE_CALL_POLL);
    be_turn(be);
    be_print_log(be);
    be_print_done(be, VHU_FE_OP_SET_CALL);
    assert(be->vrings[0].nofd_call && be->vrings[0].call < 0);

    /* Also without kicks. */
    {
        struct vhu_frontend_config config = be_config(1);

        config.poll_kick = true;
        vhu_frontend_set_config(be->fe, &config, "test");
        be_connect(be);
        be_up(be);
        assert(be->vrings[0].nofd_kick && be->vrings[0].kick < 0);
    }
}

static void
test_mtu(struct be *be)
{
    vhu_frontend_set_mtu(be->fe, 9000);
    be_up(be);
    printf("%"PRIu64", %"PRIu16"\n", be->mtu,
           vhu_frontend_get_info(be->fe)->mtu);
    assert(!vhu_frontend_get_mtu_error(be->fe));

    vhu_frontend_set_mtu(be->fe, 1500);
    be_turn(be);
    printf("%"PRIu64", %"PRIu16"\n", be->mtu,
           vhu_frontend_get_info(be->fe)->mtu);
    be_print_done(be, VHU_FE_OP_SET_MTU);

    be->request = VHOST_USER_NET_SET_MTU;
    be->fault = BE_NACK;
    be->nth = 0;
    vhu_frontend_set_mtu(be->fe, 9001);
    be_turn(be);
    be_print_done(be, VHU_FE_OP_SET_MTU);
    printf("%s\n", vhu_frontend_get_mtu_error(be->fe));
    be_print_reason(be, "still");

    /* At the start, too. */
    be->nth = 0;
    be_connect(be);
    be_up(be);
    be_print_done(be, VHU_FE_OP_SET_MTU);
    printf("%s\n", vhu_frontend_get_mtu_error(be->fe));
    assert(!vhu_frontend_get_info(be->fe)->mtu);

    vhu_frontend_set_mtu(be->fe, 0);
    be_turn(be);
    assert(!vhu_frontend_get_mtu_error(be->fe));

    be->protocol_features &= ~VIRTIO_BIT(VHOST_USER_PROTOCOL_F_NET_MTU);
    vhu_frontend_set_mtu(be->fe, 1500);
    be->mtu = 0;
    be_connect(be);
    be_up(be);
    be_print_done(be, VHU_FE_OP_SET_MTU);
    assert(!be->mtu);
    vhu_frontend_set_mtu(be->fe, 1501);
    be_turn(be);
    be_print_done(be, VHU_FE_OP_SET_MTU);
}

static void
test_status(struct be *be)
{
    const struct vhu_frontend_info *info = vhu_frontend_get_info(be->fe);

    assert(vhu_frontend_read_status(be->fe) == ENOTCONN);
    be_up(be);
    be->status |= VIRTIO_STATUS_NEEDS_RESET;
    assert(!vhu_frontend_read_status(be->fe));
    be_turn(be);
    be_print_done(be, VHU_FE_OP_GET_STATUS);
    printf("status 0x%02x\n", info->status);

    be->status_mask = ~(uint64_t) VIRTIO_STATUS_FEATURES_OK;
    be_connect(be);
    be_start(be);
    be_print_done(be, VHU_FE_OP_START);
    be->status_mask = UINT64_MAX;
    be_connect(be);
    be_up(be);
    be->status = 0x100;
    assert(!vhu_frontend_read_status(be->fe));
    be_turn(be);
    be_print_done(be, VHU_FE_OP_GET_STATUS);

    be->protocol_features &= ~VIRTIO_BIT(VHOST_USER_PROTOCOL_F_STATUS);
    be_connect(be);
    be_up(be);
    assert(vhu_frontend_read_status(be->fe) == EOPNOTSUPP);
    assert(!info->has_status);
}

static void
test_config(struct be *be)
{
    static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 1 };
    const struct vhu_frontend_info *info = vhu_frontend_get_info(be->fe);

    be->config[0] = 0x52;
    be->config[8] = 4;
    be_up(be);
    printf("MAC %02x, %u pairs\n", info->config.mac[0],
           virtio_le16_to_cpu(info->config.max_virtqueue_pairs));

    be->config[0] = 0x56;
    assert(!vhu_frontend_read_config(be->fe));
    be_turn(be);
    be_print_done(be, VHU_FE_OP_GET_CONFIG);
    printf("MAC %02x\n", info->config.mac[0]);

    assert(vhu_frontend_write_config(be->fe, 251, 6, 0, mac) == EINVAL);
    assert(vhu_frontend_write_config(be->fe, 257, 0, 0, mac) == EINVAL);
    assert(vhu_frontend_write_config(be->fe, UINT32_MAX, 2, 0, mac)
           == EINVAL);
    assert(!vhu_frontend_write_config(be->fe, 250, 6,
                                      VHOST_USER_CONFIG_MIGRATION, mac));
    assert(vhu_frontend_write_config(be->fe, 0, 6, 0, mac) == EBUSY);
    be_turn(be);
    be_print_done(be, VHU_FE_OP_SET_CONFIG);
    assert(!memcmp(&be->config[250], mac, 6)
           && be->config_flags == VHOST_USER_CONFIG_MIGRATION);

    be->request = VHOST_USER_SET_CONFIG;
    be->fault = BE_NACK;
    assert(!vhu_frontend_write_config(be->fe, 0, 6, 0, mac));
    be_turn(be);
    be_print_done(be, VHU_FE_OP_SET_CONFIG);
    be_print_reason(be, "still");

    be->config_size = 0;
    assert(!vhu_frontend_read_config(be->fe));
    be_turn(be);
    be_print_done(be, VHU_FE_OP_GET_CONFIG);
    be_connect(be);
    be_up(be);
    assert(!info->has_config);

    /* F-05: not what was asked for. */
    be->config_size = 8;
    be_connect(be);
    be_start(be);
    be_print_done(be, VHU_FE_OP_CONNECT);

    be->protocol_features &= ~VIRTIO_BIT(VHOST_USER_PROTOCOL_F_CONFIG);
    be_connect(be);
    be_up(be);
    assert(vhu_frontend_read_config(be->fe) == EOPNOTSUPP);
}

static void
test_reset_device(struct be *be)
{
    assert(vhu_frontend_reset_device(be->fe) == ENOTCONN);
    be_up(be);
    be_transmit(be, 0, 5);
    be_forget_log(be);
    be->vrings[1].base = 5;
    assert(!vhu_frontend_reset_device(be->fe));
    vhu_frontend_run(be->fe);
    assert(!be_n_published(be));
    be_turn(be);
    be_print_log(be);
    be_print_done(be, VHU_FE_OP_RESET_DEVICE);
    be_print_reason(be, "then");
    assert(!be->vrings[1].base && be_n_published(be) == 2);

    /* Afterwards no vring is started that would have to be stopped. */
    be->request = VHOST_USER_SET_VRING_NUM;
    be->fault = BE_NACK;
    be_forget_log(be);
    assert(!vhu_frontend_reset_device(be->fe));
    be_turn(be);
    be_print_reason(be, "refused");
    assert(!strstr(ds_cstr(&be->log), "GET_VRING_BASE"));
    be->fault = BE_NONE;

    be->protocol_features &= ~VIRTIO_BIT(VHOST_USER_PROTOCOL_F_RESET_DEVICE);
    be_connect(be);
    be_up(be);
    assert(vhu_frontend_reset_device(be->fe) == EOPNOTSUPP);
}

static void
test_announce(struct be *be)
{
    static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 9 };
    struct vhu_frontend_config config = be_config(1);

    assert(vhu_frontend_announce(be->fe, mac) == ENOTCONN);
    be_up(be);
    assert(!vhu_frontend_announce(be->fe, mac));
    be_turn(be);
    be_print_done(be, VHU_FE_OP_ANNOUNCE);
    assert(!memcmp(be->mac, mac, sizeof mac));

    be->request = VHOST_USER_SEND_RARP;
    be->fault = BE_NACK;
    assert(!vhu_frontend_announce(be->fe, mac));
    be_turn(be);
    be_print_done(be, VHU_FE_OP_ANNOUNCE);
    be_print_reason(be, "still");

    be->protocol_features &= ~VIRTIO_BIT(VHOST_USER_PROTOCOL_F_RARP);
    be_connect(be);
    be_up(be);
    assert(vhu_frontend_announce(be->fe, mac) == EOPNOTSUPP);

    /* The driver announces itself. */
    be->features |= VIRTIO_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE);
    config.features |= VIRTIO_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE);
    vhu_frontend_set_config(be->fe, &config, "test");
    be_connect(be);
    be_up(be);
    assert(!vhu_frontend_announce(be->fe, mac));
    assert(vhu_frontend_is_idle(be->fe));
}

static const struct {
    const char *name;
    void (*run)(struct be *);
    unsigned int n_pairs;
} tests[] = {
    { "start", test_start, 1 },
    { "start-plain", test_start_plain, 1 },
    { "features", test_features, 1 },
    { "other-features", test_other_features, 1 },
    { "queues", test_queues, 4 },
    { "memory", test_memory, 1 },
    { "stop", test_stop, 1 },
    { "stop-packed", test_stop_packed, 1 },
    { "unwind", test_unwind, 2 },
    { "unwind-order", test_unwind_order, 2 },
    { "enable", test_enable, 2 },
    { "reset-vring", test_reset_vring, 2 },
    { "call", test_call, 1 },
    { "mtu", test_mtu, 1 },
    { "status", test_status, 1 },
    { "config", test_config, 1 },
    { "reset-device", test_reset_device, 1 },
    { "announce", test_announce, 1 },
};

static void
test_vhu_frontend_main(int argc, char *argv[])
{
    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc == 2 && !strcmp(argv[1], tests[i].name)) {
            struct vhu_frontend_config config = be_config(tests[i].n_pairs);
            struct be be;

            be_init(&be, &config);
            tests[i].run(&be);
            be_uninit(&be);
            return;
        }
    }
    ovs_fatal(0, "no such test");
}

VHUTEST_REGISTER("frontend", test_vhu_frontend_main);
