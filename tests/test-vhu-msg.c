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

#include "vhu-msg.h"

#undef NDEBUG

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "openvswitch/vlog.h"
#include "util.h"
#include "vhu-peer.h"
#include "vhutest.h"
#include "virtio-spec.h"

#define PF(NAME) VIRTIO_BIT(VHOST_USER_PROTOCOL_F_##NAME)
#define ALL_PF UINT64_MAX

/* What the tests expect of every request that we implement, read from the
 * specification once more, independently of the policy. */
struct row {
    uint32_t request;
    size_t min_size, max_size, step;
    int min_fds, max_fds;
    uint64_t protocol_feature;
    bool vring_stopped;
    bool has_reply;
};
static const struct row rows[] = {
    /* request, size: min, max, step, fds: min, max, gate, stopped, reply. */
    {  1,  0,   0,  1, 0, 0, 0,                       false, true },
    {  2,  8,   8,  1, 0, 0, 0,                       false, false },
    {  3,  0,   0,  1, 0, 0, 0,                       false, false },
    {  4,  0,   0,  1, 0, 0, 0,                       false, false },
    {  5,  8, 264, 32, 0, 8, 0,                       false, false },
    {  6, 16,  16,  1, 1, 1, PF(LOG_SHMFD),           false, true },
    {  7,  0,   0,  1, 1, 1, 0,                       false, false },
    {  8,  8,   8,  1, 0, 0, 0,                       true,  false },
    {  9, 40,  40,  1, 0, 0, 0,                       false, false },
    { 10,  8,   8,  1, 0, 0, 0,                       true,  false },
    { 11,  8,   8,  1, 0, 0, 0,                       false, true },
    { 12,  8,   8,  1, 0, 1, 0,                       false, false },
    { 13,  8,   8,  1, 0, 1, 0,                       false, false },
    { 14,  8,   8,  1, 0, 1, 0,                       false, false },
    { 15,  0,   0,  1, 0, 0, 0,                       false, true },
    { 16,  8,   8,  1, 0, 0, 0,                       false, false },
    { 17,  0,   0,  1, 0, 0, PF(MQ),                  false, true },
    { 18,  8,   8,  1, 0, 0, 0,                       false, false },
    { 19,  8,   8,  1, 0, 0, PF(RARP),                false, false },
    { 20,  8,   8,  1, 0, 0, PF(NET_MTU),             false, false },
    { 21,  0,   0,  1, 1, 1, PF(BACKEND_REQ),         false, false },
    { 34,  0,   0,  1, 0, 0, PF(RESET_DEVICE),        false, false },
    { 36,  0,   0,  1, 0, 0, PF(CONFIGURE_MEM_SLOTS), false, true },
    { 37, 40,  40,  1, 0, 1, PF(CONFIGURE_MEM_SLOTS), false, false },
    { 38, 40,  40,  1, 0, 1, PF(CONFIGURE_MEM_SLOTS), false, false },
    { 39,  8,   8,  1, 0, 0, PF(STATUS),              false, false },
    { 40,  0,   0,  1, 0, 0, PF(STATUS),              false, true },
};

static const struct row *
find_row(uint32_t request)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if (rows[i].request == request) {
            return &rows[i];
        }
    }
    return NULL;
}

/* Calls vhu_msg_check() for a message with the given properties.  Its file
 * descriptors are not real. */
static int
check(uint32_t request, uint32_t flags, uint32_t size, int n_fds, uint64_t pf)
{
    struct vhu_msg msg;

    vhu_msg_init(&msg, request);
    msg.hdr.flags = flags;
    msg.hdr.size = size;
    msg.n_fds = n_fds;
    return vhu_msg_check(&msg, pf, "vm0");
}

/* Every row against every size, number of file descriptors and protocol
 * feature. */
static void
test_policy(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct row *r = &rows[i];
        const struct vhu_msg_policy *policy = vhu_msg_policy(r->request);

        assert(policy);
        assert(!strcmp(policy->name, vhu_msg_name(r->request)));
        assert(policy->vring_stopped == r->vring_stopped);
        assert((policy->reply == VHU_MSG_REPLY_PAYLOAD) == r->has_reply);

        for (uint32_t size = 0; size < 400; size++) {
            bool size_ok = (size >= r->min_size && size <= r->max_size
                            && (size - r->min_size) % r->step == 0);

            assert(check(r->request, 1, size, r->min_fds, ALL_PF)
                   == (size_ok ? 0 : EPROTO));
        }
        assert(check(r->request, 1, UINT32_MAX, r->min_fds, ALL_PF) == EPROTO);

        for (int n_fds = 0; n_fds <= VHOST_USER_MAX_FDS; n_fds++) {
            bool fds_ok = n_fds >= r->min_fds && n_fds <= r->max_fds;

            assert(check(r->request, 1, r->min_size, n_fds, ALL_PF)
                   == (fds_ok ? 0 : EPROTO));
        }

        for (int bit = 0; bit < 64; bit++) {
            uint64_t mask = UINT64_C(1) << bit;

            assert(check(r->request, 1, r->min_size, r->min_fds, ~mask)
                   == (r->protocol_feature == mask ? EOPNOTSUPP : 0));
        }
        assert(check(r->request, 1, r->min_size, r->min_fds, 0)
               == (r->protocol_feature ? EOPNOTSUPP : 0));
    }
    printf("%"PRIuSIZE" requests\n", ARRAY_SIZE(rows));
}

/* The top bit of a request must not make it small (M-01). */
static void
test_unknown(void)
{
    static const uint32_t big[] = {
        0x7fffffff, 0x80000000, 0x80000001, 0x80000005, 0xffffffff,
    };
    int n = 0;

    for (uint32_t request = 0; request < 300; request++) {
        if (!find_row(request)) {
            assert(!vhu_msg_policy(request));
            assert(check(request, 1, 0, 0, ALL_PF) == EOPNOTSUPP);
            n += request <= 44;
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(big); i++) {
        assert(!vhu_msg_policy(big[i]));
        assert(check(big[i], 1, 8, 0, ALL_PF) == EOPNOTSUPP);
        printf("%s\n", vhu_msg_name(big[i]));
    }
    printf("%s, %s, %s, %s\n", vhu_msg_name(6), vhu_msg_name(33),
           vhu_msg_name(44), vhu_msg_name(45));
    printf("%d not implemented\n", n);
}

/* A handful of cases worth reading, one sentence of the specification each,
 * and the line in the log that each leaves. */
static void
test_cases(void)
{
    static const struct {
        const char *what;
        uint32_t request, flags, size;
        int n_fds;
        uint64_t pf;
        int error;
    } cases[] = {
        { "no payload",     VHOST_USER_GET_FEATURES,    1, 0, 0, 0, 0 },
        { "stray payload",  VHOST_USER_GET_FEATURES,    1, 8, 0, 0, EPROTO },
        { "stray fd",       VHOST_USER_GET_FEATURES,    1, 0, 1, 0, EPROTO },
        { "short",          VHOST_USER_SET_VRING_ADDR,  1, 39, 0, 0, EPROTO },
        { "exact",          VHOST_USER_SET_VRING_ADDR,  1, 40, 0, 0, 0 },
        { "long",           VHOST_USER_SET_VRING_ADDR,  1, 41, 0, 0, EPROTO },
        { "kick, no fd",    VHOST_USER_SET_VRING_KICK,  1, 8, 0, 0, 0 },
        { "kick, two fds",  VHOST_USER_SET_VRING_KICK,  1, 8, 2, 0, EPROTO },
        { "half a region",  VHOST_USER_SET_MEM_TABLE,   1, 56, 1, 0, EPROTO },
        { "two regions",    VHOST_USER_SET_MEM_TABLE,   1, 72, 2, 0, 0 },
        { "memory without fd", VHOST_USER_SET_MEM_TABLE, 1, 72, 0, 0, 0 },
        { "nine regions",   VHOST_USER_SET_MEM_TABLE,   1, 296, 8, 0, EPROTO },
        { "old REM_MEM_REG", VHOST_USER_REM_MEM_REG,    1, 40, 1, ALL_PF, 0 },
        { "MQ missing",     VHOST_USER_GET_QUEUE_NUM,   1, 0, 0,
          ~PF(MQ), EOPNOTSUPP },
        { "a reply",        VHOST_USER_GET_FEATURES,    5, 0, 0, 0, EPROTO },
        { "version 0",      VHOST_USER_GET_FEATURES,    0, 0, 0, 0, EPROTO },
        { "version 2",      VHOST_USER_GET_FEATURES,    2, 0, 0, 0, EPROTO },
        { "version 3",      VHOST_USER_GET_FEATURES,    3, 0, 0, 0, EPROTO },
        { "need reply",     VHOST_USER_GET_FEATURES,    9, 0, 0, 0, 0 },
        { "unknown flag",   VHOST_USER_GET_FEATURES, 0x11, 0, 0, 0, EPROTO },
        { "top flag", VHOST_USER_GET_FEATURES, 0x80000001, 0, 0, 0, EPROTO },
        { "inflight, never offered", VHOST_USER_GET_INFLIGHT_FD, 1, 24, 0,
          ALL_PF, EOPNOTSUPP },
        { "request 2^32-1", UINT32_MAX,                 1, 0, 0, 0,
          EOPNOTSUPP },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int error = check(cases[i].request, cases[i].flags, cases[i].size,
                          cases[i].n_fds, cases[i].pf);

        printf("%s: %s\n", cases[i].what,
               error == EPROTO ? "EPROTO"
               : error == EOPNOTSUPP ? "EOPNOTSUPP"
               : error ? "other" : "ok");
        fflush(stdout);
        assert(error == cases[i].error);
    }
}

/* Only requests without a reply of their own are acknowledged, and only if
 * REPLY_ACK was negotiated. */
static void
test_ack(void)
{
    for (uint32_t request = 0; request < 50; request++) {
        const struct row *r = find_row(request);
        bool has_reply = (r && r->has_reply
                          && request != VHOST_USER_SET_LOG_BASE);
        struct vhu_msg msg;

        vhu_msg_init(&msg, request);
        assert(!vhu_msg_needs_ack(&msg, ALL_PF));
        msg.hdr.flags |= VHOST_USER_FLAG_NEED_REPLY;
        assert(vhu_msg_needs_ack(&msg, ALL_PF) == !has_reply);
        assert(vhu_msg_needs_ack(&msg, PF(REPLY_ACK)) == !has_reply);
        assert(!vhu_msg_needs_ack(&msg, ~PF(REPLY_ACK)));
    }
    printf("ok\n");
}

static bool
fd_is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* File descriptors leave a message once; the others are closed with it. */
static void
test_fds(void)
{
    struct vhu_msg msg;
    int fds[VHOST_USER_MAX_FDS];

    vhu_msg_init(&msg, VHOST_USER_SET_MEM_TABLE);
    assert(vhu_msg_take_fd(&msg, 0) == -1);
    for (int i = 0; i < VHOST_USER_MAX_FDS; i++) {
        assert(msg.fds[i] == -1);
        fds[i] = msg.fds[i] = open_file();
    }
    msg.n_fds = VHOST_USER_MAX_FDS;

    assert(vhu_msg_take_fd(&msg, 3) == fds[3]);
    assert(vhu_msg_take_fd(&msg, 3) == -1);
    assert(vhu_msg_take_fd(&msg, -1) == -1);
    assert(vhu_msg_take_fd(&msg, VHOST_USER_MAX_FDS) == -1);
    vhu_msg_uninit(&msg);
    for (int i = 0; i < VHOST_USER_MAX_FDS; i++) {
        assert(fd_is_open(fds[i]) == (i == 3));
    }
    close(fds[3]);
    vhu_msg_uninit(&msg);
    printf("ok\n");
}

/* No byte of a message that we build is left over from elsewhere (M-25), and
 * a reply has exactly the flags that front-ends demand. */
static void
test_build(void)
{
    struct vhu_msg request, reply;
    const uint8_t *bytes = reply.payload.bytes;

    memset(&reply, 0xa5, sizeof reply);
    vhu_msg_init(&request, VHOST_USER_GET_FEATURES);
    request.hdr.flags |= VHOST_USER_FLAG_NEED_REPLY;
    vhu_msg_init_reply(&reply, &request);
    assert(reply.hdr.request == VHOST_USER_GET_FEATURES);
    assert(reply.hdr.flags == 0x5);
    assert(reply.hdr.size == 0);
    assert(reply.n_fds == 0);
    for (size_t i = 0; i < sizeof reply.payload; i++) {
        assert(!bytes[i]);
    }

    vhu_msg_put_u64(&reply, UINT64_C(0x123456789abcdef0));
    assert(reply.hdr.size == 8);
    assert(reply.payload.u64 == UINT64_C(0x123456789abcdef0));
    printf("ok\n");
}

static void
test_vhu_msg(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {
        { "policy", test_policy },
        { "unknown", test_unknown },
        { "cases", test_cases },
        { "ack", test_ack },
        { "fds", test_fds },
        { "build", test_build },
    };

    vlog_set_levels_from_string_assert("console:off");
    vlog_set_pattern(VLF_CONSOLE, "%p %m");
    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc > 1 && !strcmp(argv[1], tests[i].name)) {
            if (argc > 2 && !strcmp(argv[2], "--log")) {
                vlog_set_levels_from_string_assert("console:warn");
            }
            tests[i].run();
            return;
        }
    }
    ovs_fatal(0, "usage: vhutest msg TEST [--log]");
}

VHUTEST_REGISTER("msg", test_vhu_msg);
