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
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "be-script.h"
#include "fe-script.h"
#include "openvswitch/poll-loop.h"
#include "ovs-rcu.h"
#include "timeval.h"
#include "util.h"
#include "vhu-conn.h"
#include "vhu-peer.h"
#include "vhutest.h"

/* The front-end role against back-ends that do what they should not, or that
 * are not there. */

/* Descriptors and mappings, when all that was postponed is done. */
struct usage {
    int fds, maps;
};

static struct usage
get_usage(struct be *be)
{
    struct usage usage;

    be_hang_up(be);
    be_turn(be);
    ovsrcu_barrier();
    usage.fds = count_fds();
    usage.maps = count_maps();
    return usage;
}

static void
check_usage(struct be *be, const struct usage *before)
{
    struct usage now = get_usage(be);

    if (now.fds != before->fds || now.maps > before->maps) {
        ovs_fatal(0, "%d descriptors and %d mappings, before %d and %d",
                  now.fds, now.maps, before->fds, before->maps);
    }
}

/* Runs until the connection is closed or everything is done. */
static void
run_to_end(struct be *be)
{
    for (int i = 0; i < 1000; i++) {
        be_turn(be);
        if (vhu_frontend_is_idle(be->fe)
            || !vhu_conn_is_connected(vhu_frontend_get_conn(be->fe))) {
            return;
        }
        be_loop(be, 1);
    }
    OVS_NOT_REACHED();
}

/* F-04. */

static const uint32_t replies[] = {
    VHOST_USER_GET_FEATURES, VHOST_USER_GET_PROTOCOL_FEATURES,
    VHOST_USER_GET_QUEUE_NUM, VHOST_USER_GET_MAX_MEM_SLOTS,
    VHOST_USER_GET_CONFIG, VHOST_USER_SET_BACKEND_REQ_FD,
    VHOST_USER_SET_FEATURES, VHOST_USER_GET_STATUS, VHOST_USER_ADD_MEM_REG,
    VHOST_USER_GET_INFLIGHT_FD, VHOST_USER_SET_INFLIGHT_FD,
    VHOST_USER_SET_LOG_BASE, VHOST_USER_SET_VRING_NUM,
    VHOST_USER_SET_VRING_BASE, VHOST_USER_SET_VRING_ADDR,
    VHOST_USER_SET_VRING_KICK, VHOST_USER_SET_VRING_CALL,
    VHOST_USER_SET_VRING_ERR, VHOST_USER_SET_VRING_ENABLE,
    VHOST_USER_GET_VRING_BASE,
};

static void
test_replies(struct be *be)
{
    struct usage usage;

    be->quiet = true;
    be->log_payload = true;
    be->protocol_features |= VIRTIO_BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD);
    assert(!vhu_frontend_log_start(be->fe, 0));
    be_up(be);
    usage = get_usage(be);

    for (enum be_fault fault = BE_SILENT; fault <= BE_CLOSE; fault++) {
        int n = 0;

        for (size_t i = 0; i < ARRAY_SIZE(replies); i++) {
            struct vhu_frontend_config config = be_config(1);

            config.timeout = 20;
            config.buf_size += n; /* A new device. */
            vhu_frontend_set_config(be->fe, &config, "test");
            be->request = replies[i];
            be->nth = 0;
            be->fault = fault;
            be_connect(be);
            vhu_frontend_start(be->fe);
            run_to_end(be);
            if (replies[i] == VHOST_USER_GET_VRING_BASE) {
                assert(vhu_frontend_is_up(be->fe));
                vhu_frontend_stop(be->fe);
                run_to_end(be);
            }
            assert(!vhu_frontend_is_up(be->fe));
            if (vhu_conn_is_connected(vhu_frontend_get_conn(be->fe))) {
                ovs_fatal(0, "%s %"PRIu32": nothing happened",
                          be_fault_name(fault), replies[i]);
            }
            if (!i) {
                be_print_reason(be, be_fault_name(fault));
            }
            be->fault = BE_NONE;
            be_connect(be);
            be_up(be);
            n++;
        }
        printf("  %d requests\n", n);
    }
    check_usage(be, &usage);
}

/* A reply about another vring, another part of the configuration space or a
 * region of another shape. */
static void
test_payloads(struct be *be)
{
    static const uint32_t requests[] = {
        VHOST_USER_GET_CONFIG, VHOST_USER_GET_INFLIGHT_FD,
        VHOST_USER_GET_VRING_BASE,
    };

    be->quiet = true;
    be->protocol_features |= VIRTIO_BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD);
    be->fault = BE_PAYLOAD;
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        be->request = requests[i];
        be->nth = 0;
        be_connect(be);
        vhu_frontend_start(be->fe);
        run_to_end(be);
        if (vhu_frontend_is_up(be->fe)) {
            vhu_frontend_stop(be->fe);
            run_to_end(be);
        }
        be_print_reason(be, "wrong");
    }
}

/* Nobody asked. */
static void
test_unasked(struct be *be)
{
    struct vhost_user_hdr hdr = { VHOST_USER_GET_FEATURES,
                                  VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY,
                                  0 };

    be_up(be);
    assert(send(be->sock, &hdr, sizeof hdr, 0) == sizeof hdr);
    be_turn(be);
    be_print_reason(be, "unasked");
}

/* A back-end that does not read gets no more than a few requests, whatever
 * there is to say. */
static void
test_window(struct be *be)
{
    int before;

    be->quiet = true;
    be->queue_num = VHOST_USER_MAX_QUEUE_PAIRS;
    be->protocol_features &= ~VIRTIO_BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK);
    be_connect(be);
    be_turn(be);
    assert(vhu_frontend_is_negotiated(be->fe));
    before = be->n_msgs;
    vhu_frontend_start(be->fe);
    for (int i = 0; i < 10; i++) {
        vhu_frontend_run(be->fe);
    }
    be->die_after = before + 33; /* All of those, and the question. */
    be_turn(be);
    assert(be->sock < 0);

    be->die_after = -1;
    be_connect(be);
    vhu_frontend_start(be->fe);
    for (int i = 0; i < 10; i++) {
        vhu_frontend_run(be->fe);
    }
    be_loop(be, 10);
    be_turn(be);
    printf("%u pairs, %d messages\n", vhu_frontend_get_info(be->fe)->n_pairs,
           be->n_msgs);
    be_print_reason(be, "then");
}

/* F-08, R-10. */
static void
test_death(struct be *be)
{
    struct usage usage;
    int n, n_up = 0;

    be->quiet = true;
    be_up(be);
    n = be->n_msgs;
    usage = get_usage(be);
    for (int i = 1; i <= n; i++) {
        be->die_after = i;
        be_connect(be);
        be_start(be);
        n_up += vhu_frontend_is_up(be->fe);
        be_turn(be);
        assert(!vhu_frontend_is_up(be->fe) && !be_n_published(be));
        check_usage(be, &usage);
    }
    printf("%d of %d were enough\n", n_up, n);
    be->die_after = -1;
    be_connect(be);
    be_up(be);
    vhu_frontend_stop(be->fe);
    n = be->n_msgs;
    be_turn(be);
    for (int i = n + 1, end = be->n_msgs; i <= end; i++) {
        be->die_after = -1;
        be_connect(be);
        be_up(be);
        be->die_after = i;
        vhu_frontend_stop(be->fe);
        be_turn(be);
        assert(!vhu_frontend_is_up(be->fe));
        check_usage(be, &usage);
    }
}

/* F-06. */

static void
test_channel(struct be *be)
{
    static const uint32_t requests[] = { 0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11,
                                         12, 0x7fffffff, 0x80000000,
                                         0xffffffff };
    uint8_t payload[64] = { 0 };
    int n_fds;

    be_up(be);
    be_loop(be, 1);
    be_forget_log(be);
    n_fds = count_fds();
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        be_channel_send(be, requests[i], VHOST_USER_FLAG_NEED_REPLY, payload,
                        32, 3);
        be_turn(be);
        if (be_channel_recv(be, requests[i]) != 1) {
            ovs_fatal(0, "request %"PRIu32" was not refused", requests[i]);
        }
        be_channel_send(be, requests[i], 0, payload, 0, 0);
        be_turn(be);
        assert(be_channel_recv(be, requests[i]) == BE_NO_REPLY);
    }
    assert(count_fds() == n_fds);
    assert(!be->n_config_changed);

    /* Of the wrong form. */
    be_loop(be, 500);
    be_channel_send(be, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
                    VHOST_USER_FLAG_NEED_REPLY, payload, 8, 0);
    be_turn(be);
    assert(be_channel_recv(be, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG) == 1);
    be_channel_send(be, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
                    VHOST_USER_FLAG_NEED_REPLY, payload, 0, 1);
    be_turn(be);
    assert(be_channel_recv(be, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG) == 1);
    be_channel_send(be, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
                    VHOST_USER_FLAG_NEED_REPLY | VHOST_USER_FLAG_REPLY,
                    payload, 0, 0);
    be_turn(be);
    assert(be_channel_recv(be, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG) == 1);
    assert(!be->n_config_changed && count_fds() == n_fds);

    be->config[0] = 0x5a;
    be_channel_send(be, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
                    VHOST_USER_FLAG_NEED_REPLY, payload, 0, 0);
    be_turn(be);
    assert(!be_channel_recv(be, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG));
    printf("%d change, MAC %02x\n", be->n_config_changed,
           vhu_frontend_get_info(be->fe)->config.mac[0]);
    be_print_log(be);
}

/* The channel ends, and the device goes on; and the other way round. */
static void
test_channel_end(struct be *be)
{
    uint8_t payload[64] = { 0 };
    int channel;

    be_up(be);
    be_channel_send(be, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, 0, payload, 64,
                    0);
    be_turn(be);
    assert(be_channel_recv(be, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG)
           == BE_NO_REPLY);
    {
        struct vhost_user_hdr hdr = { 2, VHOST_USER_VERSION, UINT32_MAX };

        assert(send(be->channel, &hdr, sizeof hdr, 0) == sizeof hdr);
    }
    be_turn(be);
    assert(be_channel_recv(be, 0) == BE_CLOSED);
    be_print_reason(be, "channel closed");

    be_connect(be);
    be_up(be);
    close(be->channel);
    be->channel = -1;
    be_turn(be);
    be_print_reason(be, "channel closed");
    assert(vhu_frontend_is_idle(be->fe));

    /* It goes when the connection goes. */
    be_connect(be);
    be_up(be);
    channel = dup(be->channel);
    assert(recv(channel, payload, 1, MSG_DONTWAIT) < 0);
    be_hang_up(be);
    be_turn(be);
    assert(recv(channel, payload, 1, MSG_DONTWAIT) == 0);
    close(channel);
}

/* Not negotiated. */
static void
test_channel_config(struct be *be)
{
    be->protocol_features &= ~VIRTIO_BIT(VHOST_USER_PROTOCOL_F_CONFIG);
    be_up(be);
    be_channel_send(be, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
                    VHOST_USER_FLAG_NEED_REPLY, NULL, 0, 0);
    be_turn(be);
    assert(be_channel_recv(be, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG) == 1);
    assert(!be->n_config_changed);
}

static void
test_channel_flood(struct be *be)
{
    long long int start = time_msec();
    int n_replies = 0;
    int n_max;

    be->quiet = true;
    be_up(be);
    for (int i = 0; i < 150; i++) {
        be_channel_send(be, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
                        VHOST_USER_FLAG_NEED_REPLY, NULL, 0, 0);
    }
    be_loop(be, 100);
    while (!be_channel_recv(be, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG)) {
        n_replies++;
    }
    n_max = 33 + (time_msec() - start) / 20;
    printf("at least the burst: %s\n", n_replies >= 32 ? "yes" : "no");
    printf("no more than its share: %s\n", n_replies <= n_max ? "yes" : "no");
    printf("read again as often at most: %s\n",
           be->n_config_changed <= n_replies ? "yes" : "no");
    be_print_reason(be, "then");
}

/* Connections. */

static int listening_fd;

/* Takes a connection, if somebody wants one. */
static bool
be_accept(struct be *be)
{
    int fd = accept4(listening_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0) {
        return false;
    }
    be_hang_up(be);
    be->sock = fd;
    be->n_msgs = 0;
    return true;
}

/* Returns how long it takes, in ms, until somebody wants a connection. */
static long long int
wait_for_client(struct be *be)
{
    long long int start = time_msec();

    while (!be_accept(be)) {
        be_loop(be, 1);
        assert(time_msec() < start + 10000);
    }
    return time_msec() - start;
}

static void
wait_until_up(struct be *be)
{
    for (int i = 0; i < 100 && !vhu_frontend_is_up(be->fe); i++) {
        be_loop(be, 50);
    }
}

/* whatever fails, there is another attempt. */
static void
test_retry(struct be *be)
{
    const struct vhu_conn_config config = {
        .mode = VHU_CONN_CLIENT,
        .path = SOCK,
        .peer = "back-end",
    };
    long long int ms;

    be->quiet = true;
    vhu_frontend_set_conn(be->fe, vhu_conn_create("vhu0", &config));
    vhu_frontend_start(be->fe);
    be_turn(be);
    be_print_reason(be, "nobody");
    listening_fd = peer_listen(SOCK);
    assert(!fcntl(listening_fd, F_SETFL, O_NONBLOCK));
    wait_for_client(be);
    wait_until_up(be);
    be_print_reason(be, "somebody");

    /* It hangs up, at once or in the middle: soon again, from the start. */
    be_hang_up(be);
    assert(wait_for_client(be) < 900 && !be_n_published(be));
    be->die_after = 5;
    be_loop(be, 50);
    assert(be->sock < 0);
    be->die_after = -1;
    assert(wait_for_client(be) < 900);
    wait_until_up(be);
    be_print_reason(be, "again");

    /* It refuses: later, and then later still. */
    be->request = VHOST_USER_SET_FEATURES;
    be->fault = BE_NACK;
    be_hang_up(be);
    be->nth = 0;
    wait_for_client(be);
    ms = wait_for_client(be);
    assert(ms >= 900);
    be->nth = 0;
    ms = wait_for_client(be);
    assert(ms >= 1900);
    wait_until_up(be);
    be_print_reason(be, "in the end");
    close(listening_fd);
}

static void
test_listen(struct be *be)
{
    const struct vhu_conn_config config = {
        .mode = VHU_CONN_SERVER,
        .path = SOCK,
        .peer = "back-end",
        .uid = -1,
        .gid = -1,
    };

    be->quiet = true;
    vhu_frontend_set_conn(be->fe, vhu_conn_create("vhu0", &config));
    vhu_frontend_start(be->fe);
    be_turn(be);
    be_print_reason(be, "nobody");
    for (int i = 0; i < 3; i++) {
        be_hang_up(be);
        be->sock = peer_connect(SOCK);
        for (int j = 0; j < 500 && !vhu_frontend_is_up(be->fe); j++) {
            be_loop(be, 1);
        }
        be_print_reason(be, "somebody");
    }
}

/* A back-end that is gone may still have the kick eventfd: it can take the
 * kicks of the next one, or block ours. */
static void
test_old_kick(struct be *be)
{
    uint64_t n;
    int old;

    be_up(be);
    old = dup(be->vrings[1].kick);
    assert(read(old, &n, sizeof n) == sizeof n);
    assert(!fcntl(old, F_SETFL, 0));

    be_connect(be);
    be_up(be);
    n = 0;
    assert(fcntl(be->vrings[1].kick, F_GETFL) & O_NONBLOCK);
    assert(read(be->vrings[1].kick, &n, sizeof n) == sizeof n);
    printf("%"PRIu64" new kick\n", n);
    assert(!fcntl(old, F_SETFL, O_NONBLOCK));
    printf("%d bytes at the old one\n", (int) read(old, &n, sizeof n));
    close(old);
}

/* Reports errors without end.  That must not keep our thread from sleeping. */
static void
test_errors(struct be *be)
{
    long long int end = time_msec() + 500;
    const uint64_t one = 1;
    int n_runs = 0;

    be_up(be);
    while (time_msec() < end) {
        vhu_frontend_run(be->fe);
        assert(write(be->vrings[1].err, &one, sizeof one) == sizeof one);
        vhu_frontend_wait(be->fe);
        poll_timer_wait_until(end);
        poll_block();
        n_runs++;
    }
    printf("%s\n", n_runs <= 50 ? "few runs" : "many runs");
    assert(vhu_frontend_get_n_errors(be->fe));
    assert(vhu_frontend_is_up(be->fe));
}

static const struct {
    const char *name;
    void (*run)(struct be *);
    unsigned int n_pairs;
} tests[] = {
    { "replies", test_replies, 1 },
    { "payloads", test_payloads, 1 },
    { "unasked", test_unasked, 1 },
    { "window", test_window, VHOST_USER_MAX_QUEUE_PAIRS },
    { "death", test_death, 2 },
    { "channel", test_channel, 1 },
    { "channel-end", test_channel_end, 1 },
    { "channel-config", test_channel_config, 1 },
    { "channel-flood", test_channel_flood, 1 },
    { "old-kick", test_old_kick, 1 },
    { "errors", test_errors, 1 },
    { "retry", test_retry, 1 },
    { "listen", test_listen, 1 },
};

static void
test_vhu_frontend_hostile_main(int argc, char *argv[])
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

VHUTEST_REGISTER("frontend-hostile", test_vhu_frontend_hostile_main);
