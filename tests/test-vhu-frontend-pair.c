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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "openvswitch/poll-loop.h"
#include "ovs-rcu.h"
#include "timeval.h"
#include "util.h"
#include "vhu-backend.h"
#include "vhu-conn.h"
#include "vhu-mem.h"
#include "vhu-peer.h"
#include "vhutest.h"

/* The front-end role against our back-end role, in one thread. */

struct pair {
    struct vhu_frontend *fe;
    struct vhu_backend *be;
    uint32_t next;              /* Number in the next packet. */
};

static void
be_changed(void *aux OVS_UNUSED)
{
}

static int
be_set_mtu(uint16_t mtu, void *aux OVS_UNUSED)
{
    return mtu > 9000 ? ERANGE : 0;
}

static void
be_send_rarp(const uint8_t mac[6], void *aux OVS_UNUSED)
{
    printf("RARP %02x\n", mac[5]);
}

static const struct vhu_dev_ops be_ops = {
    .changed = be_changed,
    .set_mtu = be_set_mtu,
    .send_rarp = be_send_rarp,
};

static void
on_done(enum vhu_fe_op op, int error, const char *reason,
        void *aux OVS_UNUSED)
{
    if (error) {
        printf("%s: %s\n", vhu_fe_op_to_string(op), reason);
    }
}

static const struct vhu_frontend_ops fe_ops = { .done = on_done };

static void
turn(struct pair *p)
{
    for (int i = 0; i < 20; i++) {
        vhu_frontend_run(p->fe);
        vhu_backend_run(p->be);
    }
    ovsrcu_quiesce();
}

static void
join(struct pair *p)
{
    int fds[2];

    assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    vhu_backend_set_conn(p->be, vhu_conn_create_fd("be", fds[0]));
    vhu_frontend_set_conn(p->fe, vhu_conn_create_fd("fe", fds[1]));
}

static void
init(struct pair *p, unsigned int n_pairs, bool packed)
{
    const struct vhu_frontend_config config = {
        .features = (VHU_FRONTEND_FEATURES
                     & ~(packed ? 0 : VIRTIO_BIT(VIRTIO_F_RING_PACKED))),
        .protocol_features = VHU_FRONTEND_PROTOCOL_FEATURES,
        .n_pairs = n_pairs,
        .queue_size = 64,
        .buf_size = 2048,
    };

    memset(p, 0, sizeof *p);
    p->be = vhu_backend_create("be", NULL, n_pairs, &be_ops, NULL);
    p->fe = vhu_frontend_create("fe", NULL, &config, &fe_ops, NULL);
    join(p);
}

static void
uninit(struct pair *p)
{
    vhu_frontend_destroy(p->fe);
    vhu_backend_destroy(p->be);
}

static void
up(struct pair *p)
{
    vhu_frontend_start(p->fe);
    turn(p);
    if (!vhu_frontend_is_up(p->fe) || !vhu_backend_is_up(p->be)) {
        ovs_fatal(0, "front-end: %s; back-end: %s",
                  vhu_frontend_get_reason(p->fe),
                  vhu_backend_get_reason(p->be));
    }
}

static void
test_start(struct pair *p)
{
    const struct vhu_dev *dev = vhu_backend_get_dev(p->be);

    up(p);
    printf("%u pairs, features 0x%"PRIx64"\n",
           vhu_dev_n_started_pairs(dev),
           vhu_frontend_get_info(p->fe)->features);
}

static const struct {
    const char *name;
    void (*run)(struct pair *);
    unsigned int n_pairs;
} tests[] = {
    { "start", test_start, 4 },
};

static void
test_vhu_frontend_pair_main(int argc, char *argv[])
{
    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc == 2 && !strcmp(argv[1], tests[i].name)) {
            for (int packed = 0; packed < 2; packed++) {
                struct pair p;

                init(&p, tests[i].n_pairs, packed);
                tests[i].run(&p);
                uninit(&p);
            }
            return;
        }
    }
    ovs_fatal(0, "no such test");
}

VHUTEST_REGISTER("frontend-pair", test_vhu_frontend_pair_main);
