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

#include "vhu-stream.h"

#undef NDEBUG

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "openvswitch/poll-loop.h"
#include "timeval.h"
#include "util.h"
#include "vhu-conn.h"
#include "vhu-msg.h"
#include "vhu-peer.h"
#include "vhutest.h"

/* Streams are tested through connections, as their user sees them. */

/* Messages. */

/* Messages of every size and number of file descriptors, whole. */
static void
test_whole(void)
{
    int peer;
    struct vhu_conn *conn = make_pair(NULL, &peer);

    assert(vhu_conn_get_seqno(conn) == 1);
    assert(!strcmp(vhu_conn_get_path(conn), ""));
    expect_error(conn, EAGAIN);
    for (uint32_t size = 0; size <= VHU_MSG_MAX_PAYLOAD; size++) {
        int n_fds = size % (VHOST_USER_MAX_FDS + 1);

        peer_send_msg(peer, size, size, n_fds);
        expect_msg(conn, size, size, n_fds);
    }
    expect_error(conn, EAGAIN);

    close(peer);
    expect_error(conn, ENOTCONN);
    assert(vhu_conn_get_seqno(conn) == 2);
    print_reason(conn);
    vhu_conn_destroy(conn);
}

/* A recorded session: three messages with file descriptors. */
static const struct {
    uint32_t request, size;
    int n_fds;
} session[] = {
    { VHOST_USER_SET_MEM_TABLE, 72, 2 },
    { VHOST_USER_GET_FEATURES, 0, 0 },
    { VHOST_USER_SET_VRING_KICK, 8, 1 },
};
#define SESSION_LEN (12 + 72 + 12 + 12 + 8)

/* Sends bytes 'start' to 'end', excluding, of the session. */
static void
peer_send_session(int peer, size_t start, size_t end)
{
    size_t ofs = 0;

    for (size_t i = 0; i < ARRAY_SIZE(session); i++) {
        struct wire wire;
        size_t len = make_wire(&wire, session[i].request, session[i].size);
        size_t from = MIN(MAX(start, ofs) - ofs, len);
        size_t to = MIN(MAX(end, ofs) - ofs, len);

        if (from < to) {
            peer_send(peer, (uint8_t *) &wire + from, to - from,
                      from ? 0 : session[i].n_fds);
        }
        ofs += len;
    }
}

static void
check_session_msg(const struct vhu_msg *msg, size_t i)
{
    assert(i < ARRAY_SIZE(session));
    check_msg(msg, session[i].request, session[i].size, session[i].n_fds);
}

/* Takes all messages that are there and checks that they are those of the
 * session from '*n' on.  Returns the error that ended that. */
static int
recv_session(struct vhu_conn *conn, size_t *n)
{
    for (;;) {
        struct vhu_msg msg;
        int error;

        vhu_conn_run(conn);
        error = vhu_conn_recv(conn, &msg);
        if (error) {
            return error;
        }
        check_session_msg(&msg, (*n)++);
        vhu_msg_uninit(&msg);
    }
}

/* H-05, HZ-14: cut at every byte, by a pause and by the end. */
static void
test_cut(void)
{
    int n_fds = -1;

    for (size_t cut = 0; cut <= SESSION_LEN; cut++) {
        int peer;
        struct vhu_conn *conn = make_pair(NULL, &peer);
        size_t n = 0;

        peer_send_session(peer, 0, cut);
        assert(recv_session(conn, &n) == EAGAIN);
        assert((n == 3) == (cut == SESSION_LEN));
        peer_send_session(peer, cut, SESSION_LEN);
        assert(recv_session(conn, &n) == EAGAIN);
        assert(n == 3);
        vhu_conn_destroy(conn);
        close(peer);

        conn = make_pair(NULL, &peer);
        n = 0;
        peer_send_session(peer, 0, cut);
        close(peer);
        assert(recv_session(conn, &n) == ENOTCONN);
        assert(n == (cut >= SESSION_LEN) + (cut >= 96) + (cut >= 84));
        vhu_conn_destroy(conn);

        if (n_fds < 0 && cut) {
            n_fds = count_fds();
        }
        assert(n_fds < 0 || count_fds() == n_fds);
    }

    /* Every byte on its own. */
    int peer;
    struct vhu_conn *conn = make_pair(NULL, &peer);
    size_t n = 0;
    for (size_t ofs = 0; ofs < SESSION_LEN; ofs++) {
        peer_send_session(peer, ofs, ofs + 1);
        assert(recv_session(conn, &n) == EAGAIN);
    }
    assert(n == 3);
    vhu_conn_destroy(conn);
    close(peer);
    printf("%d bytes\n", SESSION_LEN);
}

/* H-04, HZ-05: begins and does not go on, or goes on slowly. */
static void
test_silence(void)
{
    static const size_t lens[] = { 1, 11, 12, 14 };
    struct wire wire;
    size_t len = make_wire(&wire, VHOST_USER_SET_FEATURES, 8);
    long long int start;
    struct tally tally;
    int peer;
    struct vhu_conn *conn;

    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        conn = make_pair(NULL, &peer);
        peer_send(peer, &wire, lens[i], 1);
        tally = drive(conn, 3000, is_down);
        assert(tally.elapsed >= 950 && tally.elapsed < 1500);
        assert(tally.n_wakeups < 5);
        print_reason(conn);
        vhu_conn_destroy(conn);
        close(peer);
    }

    conn = make_pair(NULL, &peer);
    start = time_msec();
    for (size_t i = 0; vhu_conn_is_connected(conn) && i < len; i++) {
        peer_send(peer, (uint8_t *) &wire + i, 1, 0);
        drive(conn, 150, is_down);
    }
    assert(time_msec() - start < 1500);
    print_reason(conn);
    vhu_conn_destroy(conn);
    close(peer);

    /* But if we were away, that is no fault of the peer. */
    conn = make_pair(NULL, &peer);
    peer_send(peer, &wire, 6, 0);
    expect_error(conn, EAGAIN);
    xsleep(1);
    xsleep(1);
    peer_send(peer, (uint8_t *) &wire + 6, len - 6, 0);
    expect_msg(conn, VHOST_USER_SET_FEATURES, 8, 0);
    vhu_conn_destroy(conn);
    close(peer);
    printf("ok\n");
}

/* Payloads that are too large are skipped, or end the connection. */
static void
test_large(void)
{
    static const uint32_t ok[] = { 265, 512, 513, 1024, 2056, 4095, 4096 };
    static const uint32_t bad[] = { 4097, 0x7fffffff, 0x80000000, 0xffffffff };
    int peer;
    struct vhu_conn *conn = make_pair(NULL, &peer);

    for (size_t i = 0; i < ARRAY_SIZE(ok); i++) {
        peer_send_msg(peer, 77, ok[i], 3);
        peer_send_msg(peer, 1, 8, 1);
        expect_msg(conn, 77, ok[i], 3);
        expect_msg(conn, 1, 8, 1);
    }
    vhu_conn_destroy(conn);
    close(peer);

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct vhost_user_hdr hdr = { 5, VHOST_USER_VERSION, bad[i] };

        conn = make_pair(NULL, &peer);
        peer_send(peer, &hdr, sizeof hdr, 1);
        expect_error(conn, ENOTCONN);
        print_reason(conn);
        vhu_conn_destroy(conn);
        close(peer);
    }
}

/* M-05, M-06: whatever comes with whatever number of descriptors, none stays
 * open. */
static void
test_fds(void)
{
    struct wire wire;
    int n_before, n_closed = 0;
    int peer;
    struct vhu_conn *conn = make_pair(NULL, &peer);

    peer_send_msg(peer, 1, 0, 1);
    expect_msg(conn, 1, 0, 1);
    n_before = count_fds();

    /* 100000 requests that make no sense. */
    for (int i = 0; i < 100000; i++) {
        uint32_t request = i % 4 ? i % 50 : UINT32_MAX - i;
        uint32_t size = i % 300;
        struct vhu_msg msg;

        peer_send_msg(peer, request, size, i % 9);
        vhu_conn_run(conn);
        assert(!vhu_conn_recv(conn, &msg));
        vhu_msg_check(&msg, 0, "vm0");
        vhu_msg_uninit(&msg);
    }
    assert(count_fds() == n_before);

    /* Descriptors in the middle of the header and with the payload. */
    size_t len = make_wire(&wire, VHOST_USER_SET_MEM_TABLE, 264);
    peer_send(peer, &wire, 3, 2);
    peer_send(peer, (uint8_t *) &wire + 3, 9, 3);
    peer_send(peer, (uint8_t *) &wire + 12, 100, 8);
    peer_send(peer, (uint8_t *) &wire + 112, len - 112, 8);
    expect_msg(conn, VHOST_USER_SET_MEM_TABLE, 264, 5);
    vhu_conn_destroy(conn);
    close(peer);

    /* Too many, at once or in pieces. */
    for (int n_fds = 9; n_fds <= 253; n_fds += n_fds < 20 ? 1 : 29) {
        conn = make_pair(NULL, &peer);
        peer_send_msg(peer, 1, 0, n_fds);
        expect_error(conn, ENOTCONN);
        if (n_fds == 9) {
            print_reason(conn);
        }
        n_closed++;
        vhu_conn_destroy(conn);
        close(peer);
    }
    conn = make_pair(NULL, &peer);
    peer_send(peer, &wire, 1, 8);
    peer_send(peer, &wire, 1, 1);
    expect_error(conn, ENOTCONN);
    print_reason(conn);
    vhu_conn_destroy(conn);
    close(peer);

    /* HZ-03: the table of open files is full. */
    conn = make_pair(NULL, &peer);
    peer_send_msg(peer, 1, 0, 8);
    limit_fds(3);
    expect_error(conn, ENOTCONN);
    unlimit_fds();
    print_reason(conn);
    vhu_conn_destroy(conn);
    close(peer);

    assert(count_fds() == n_before - 2);
    printf("%d closed\n", n_closed);
}

/* HZ-15: a flood gets its share and no more. */
static void
test_flood(void)
{
    int peer;
    struct vhu_conn *conn = make_pair(NULL, &peer);
    struct vhu_msg msg;
    int n = 0;

    for (int i = 0; i < 150; i++) {
        peer_send_msg(peer, VHOST_USER_SET_VRING_ENABLE, 8, 0);
    }
    for (int i = 0; i < 4; i++) {
        long long int start;

        vhu_conn_run(conn);
        while (!vhu_conn_recv(conn, &msg)) {
            vhu_msg_uninit(&msg);
            n++;
        }
        printf("%d\n", n);

        start = time_msec();
        vhu_conn_wait(conn);
        poll_timer_wait(50);
        poll_block();
        assert((time_msec() - start < 40) == (i < 2));
    }
    vhu_conn_destroy(conn);
    close(peer);
}

/* Replies. */

/* Replies arrive in order, whole, with their descriptors, even if the peer
 * takes them in small bites and the queue is in use. */
static void
test_send(void)
{
    int file_fd = open_file();
    int our_fd, peer;
    struct vhu_conn *conn = make_pair(&our_fd, &peer);
    int n_before = count_fds();
    uint8_t buf[64 * (12 + 264)];
    size_t len = 0;
    int n_sent = 0, n_fds = 0;
    int size = 4096;

    assert(!setsockopt(our_fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
    while (n_sent < 60) {
        struct vhu_msg msg;

        vhu_msg_init(&msg, n_sent);
        msg.hdr.size = 4 * n_sent;
        memset(&msg.payload, n_sent, msg.hdr.size);
        msg.fds[0] = file_fd;
        msg.n_fds = n_sent % 2;
        assert(!vhu_conn_send(conn, &msg));
        n_sent++;
    }

    /* The socket has not taken them all. */
    assert(!ioctl(peer, FIONREAD, &size));
    assert(size < 60 * 12 + 4 * 60 * 59 / 2);

    while (len < 60 * 12 + 4 * 60 * 59 / 2) {
        char control[CMSG_SPACE(8 * sizeof(int))];
        struct iovec iov = { buf + len, 7 };
        struct msghdr mh = {
            .msg_iov = &iov,
            .msg_iovlen = 1,
            .msg_control = control,
            .msg_controllen = sizeof control,
        };
        ssize_t n = recvmsg(peer, &mh, MSG_DONTWAIT);
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&mh);

        if (n < 0) {
            assert(errno == EAGAIN);
        } else {
            len += n;
            if (cmsg) {
                close(*ALIGNED_CAST(int *, CMSG_DATA(cmsg)));
                n_fds++;
            }
        }
        vhu_conn_run(conn);
    }
    assert(n_fds == 30);

    const uint8_t *p = buf;
    for (int i = 0; i < 60; i++) {
        struct vhost_user_hdr hdr;

        memcpy(&hdr, p, sizeof hdr);
        p += sizeof hdr;
        assert(hdr.request == i && hdr.size == 4 * i);
        for (int j = 0; j < 4 * i; j++) {
            assert(*p++ == i);
        }
    }
    assert(count_fds() == n_before);
    vhu_conn_destroy(conn);
    close(peer);
    close(file_fd);
    printf("ok\n");
}

/* HZ-05: a peer that reads nothing back. */
static void
test_unread(void)
{
    int our_fd, peer;
    struct vhu_conn *conn = make_pair(NULL, &peer);
    int file_fd = open_file();
    struct vhu_msg msg;
    struct tally tally;
    int n_before = count_fds();
    int n = 0;

    vhu_msg_init(&msg, VHOST_USER_GET_FEATURES);
    msg.hdr.size = VHU_MSG_MAX_PAYLOAD;
    msg.fds[0] = file_fd;
    msg.n_fds = 1;
    while (!vhu_conn_send(conn, &msg)) {
        vhu_conn_run(conn);
        assert(n++ < 5000);
    }
    assert(n > VHU_STREAM_MAX_QUEUE);
    print_reason(conn);
    assert(count_fds() == n_before - 1);
    vhu_conn_destroy(conn);
    close(peer);

    conn = make_pair(&our_fd, &peer);
    while (send(our_fd, &msg, 100, MSG_DONTWAIT) > 0) {
        continue;
    }
    assert(!vhu_conn_send(conn, &msg));
    tally = drive(conn, 3000, is_down);
    assert(tally.elapsed >= 950 && tally.elapsed < 1500);
    assert(tally.n_wakeups < 5);
    print_reason(conn);
    vhu_conn_destroy(conn);
    close(peer);

    /* The peer has gone. */
    conn = make_pair(NULL, &peer);
    close(peer);
    assert(vhu_conn_send(conn, &msg) == ENOTCONN);
    print_reason(conn);
    vhu_conn_destroy(conn);
    close(file_fd);
}

static const struct vhu_test tests[] = {
    { "whole", test_whole },
    { "cut", test_cut },
    { "silence", test_silence },
    { "large", test_large },
    { "fds", test_fds },
    { "flood", test_flood },
    { "send", test_send },
    { "unread", test_unread },
};

static void
test_vhu_stream(int argc, char *argv[])
{
    run_vhu_test(tests, ARRAY_SIZE(tests), argc, argv);
}

VHUTEST_REGISTER("stream", test_vhu_stream);
