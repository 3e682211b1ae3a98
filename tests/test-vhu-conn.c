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

#include "vhu-conn.h"

#undef NDEBUG

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fatal-signal.h"
#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "seq.h"
#include "timeval.h"
#include "util.h"
#include "vhu-msg.h"
#include "vhutest.h"

/* All tests run in a directory of their own, so paths are relative and the
 * reasons that are printed are always the same. */
#define SOCK "vm0.sock"

/* Helpers: file descriptors. */

/* Returns the number of open file descriptors. */
static int
count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = -3;                 /* ".", ".." and 'dir' itself. */

    assert(dir);
    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n;
}

static int
open_null(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    assert(fd >= 0);
    return fd;
}

/* Limits open files so that at most 'n' more can be opened. */
static void
limit_fds(int n)
{
    struct rlimit limit;
    int lowest = open_null();

    close(lowest);
    assert(!getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = lowest + n;
    assert(!setrlimit(RLIMIT_NOFILE, &limit));
}

static void
unlimit_fds(void)
{
    struct rlimit limit;

    assert(!getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = limit.rlim_max;
    assert(!setrlimit(RLIMIT_NOFILE, &limit));
}

/* Helpers: the peer, with plain system calls. */

static struct sockaddr_un
make_addr(const char *path)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };

    assert(strlen(path) < sizeof un.sun_path);
    strcpy(un.sun_path, path);
    return un;
}

/* Returns a socket that is bound to 'path' but does not listen. */
static int
peer_bind(int type, const char *path)
{
    struct sockaddr_un un = make_addr(path);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert(fd >= 0);
    assert(!bind(fd, (struct sockaddr *) &un, sizeof un));
    return fd;
}

static int
peer_listen(const char *path)
{
    int fd = peer_bind(SOCK_STREAM, path);

    assert(!listen(fd, 64));
    return fd;
}

/* Returns a socket connected to 'path', or a negative errno. */
static int
peer_connect(const char *path)
{
    struct sockaddr_un un = make_addr(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd >= 0 && connect(fd, (struct sockaddr *) &un, sizeof un)) {
        int error = errno;

        close(fd);
        return -error;
    }
    return fd;
}

/* Sends 'len' bytes from 'p' with 'n_fds' times /dev/null. */
static void
peer_send(int fd, const void *p, size_t len, int n_fds)
{
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(253 * sizeof(int))];
    } control;
    struct iovec iov = { CONST_CAST(void *, p), len };
    struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (n_fds) {
        static int null_fd = -1;
        struct cmsghdr *cmsg = &control.align;

        if (null_fd < 0) {
            null_fd = open_null();
        }
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        for (int i = 0; i < n_fds; i++) {
            memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &null_fd, sizeof(int));
        }
        mh.msg_control = &control;
        mh.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
    }
    assert(sendmsg(fd, &mh, MSG_NOSIGNAL) == len);
}

/* A message as it is on the wire. */
struct wire {
    struct vhost_user_hdr hdr;
    uint8_t payload[8192];
};

static size_t
make_wire(struct wire *wire, uint32_t request, uint32_t size)
{
    wire->hdr.request = request;
    wire->hdr.flags = VHOST_USER_VERSION;
    wire->hdr.size = size;
    for (uint32_t i = 0; i < MIN(size, sizeof wire->payload); i++) {
        wire->payload[i] = i + request;
    }
    return sizeof wire->hdr + size;
}

static void
peer_send_msg(int fd, uint32_t request, uint32_t size, int n_fds)
{
    struct wire wire;
    size_t len = make_wire(&wire, request, size);

    peer_send(fd, &wire, len, n_fds);
}

/* Returns true if the other side has closed 'fd'. */
static bool
peer_is_closed(int fd)
{
    struct pollfd pfd = { .fd = fd, .events = POLLRDHUP };

    return poll(&pfd, 1, 0) == 1 && pfd.revents & (POLLRDHUP | POLLHUP);
}

/* Checks that 'msg' is what make_wire() made. */
static void
check_msg(const struct vhu_msg *msg, uint32_t request, uint32_t size,
          int n_fds)
{
    assert(msg->hdr.request == request);
    assert(msg->hdr.size == size);
    assert(msg->n_fds == n_fds);
    for (int i = 0; i < n_fds; i++) {
        assert(fcntl(msg->fds[i], F_GETFD) == FD_CLOEXEC);
    }
    for (uint32_t i = 0; i < VHU_MSG_MAX_PAYLOAD; i++) {
        uint8_t expected = i < size ? i + request : 0;

        assert(size > VHU_MSG_MAX_PAYLOAD
               || msg->payload.bytes[i] == expected);
    }
}

/* Helpers: our side. */

/* What happened while a connection was driven. */
struct tally {
    int n_msgs;
    int n_wakeups;
    long long int elapsed;
};

/* Does what the control thread does, for at most 'ms' milliseconds, until
 * 'until', if nonnull, returns true.  Messages are counted and dropped. */
static struct tally
drive(struct vhu_conn *conn, int ms, bool (*until)(struct vhu_conn *))
{
    long long int start = time_msec();
    struct tally tally = { 0, 0, 0 };

    for (;;) {
        struct vhu_msg msg;

        vhu_conn_run(conn);
        while (!vhu_conn_recv(conn, &msg)) {
            tally.n_msgs++;
            vhu_msg_uninit(&msg);
        }
        tally.elapsed = time_msec() - start;
        if (tally.elapsed >= ms || (until && until(conn))) {
            return tally;
        }
        vhu_conn_wait(conn);
        poll_timer_wait_until(start + ms);
        poll_block();
        tally.n_wakeups++;
    }
}

static bool
is_up(struct vhu_conn *conn)
{
    return vhu_conn_is_connected(conn);
}

static bool
is_down(struct vhu_conn *conn)
{
    return !vhu_conn_is_connected(conn);
}

static struct vhu_conn *
make_client(const char *path)
{
    struct vhu_conn_config config = { .mode = VHU_CONN_CLIENT, .path = path };

    return vhu_conn_create("vm0", &config);
}

static struct vhu_conn *
make_server(const char *path)
{
    struct vhu_conn_config config = {
        .mode = VHU_CONN_SERVER,
        .path = path,
        .uid = -1,
        .gid = -1,
    };

    return vhu_conn_create("vm0", &config);
}

/* Our end of the last make_pair(). */
static int our_fd;

/* Returns a connection on one end of a new pair of sockets, and the other end
 * in '*peer'. */
static struct vhu_conn *
make_pair(int *peer)
{
    int fds[2];

    assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    our_fd = fds[0];
    *peer = fds[1];
    return vhu_conn_create_fd("vm0", fds[0]);
}

static void
print_reason(const struct vhu_conn *conn)
{
    const char *reason = vhu_conn_get_reason(conn);

    printf("%s\n", reason ? reason : "connected");
    fflush(stdout);
}

static void
expect_msg(struct vhu_conn *conn, uint32_t request, uint32_t size, int n_fds)
{
    struct vhu_msg msg;
    int error;

    vhu_conn_run(conn);
    error = vhu_conn_recv(conn, &msg);
    assert(!error);
    check_msg(&msg, request, size, n_fds);
    vhu_msg_uninit(&msg);
}

static void
expect_error(struct vhu_conn *conn, int error)
{
    struct vhu_msg msg;

    vhu_conn_run(conn);
    assert(vhu_conn_recv(conn, &msg) == error);
}

/* Messages. */

/* Messages of every size and number of file descriptors, whole. */
static void
test_whole(void)
{
    int peer;
    struct vhu_conn *conn = make_pair(&peer);

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
        assert(*n < ARRAY_SIZE(session));
        check_msg(&msg, session[*n].request, session[*n].size,
                  session[*n].n_fds);
        vhu_msg_uninit(&msg);
        ++*n;
    }
}

/* H-05, HZ-14: cut at every byte, by a pause and by the end. */
static void
test_cut(void)
{
    int n_fds = -1;

    for (size_t cut = 0; cut <= SESSION_LEN; cut++) {
        int peer;
        struct vhu_conn *conn = make_pair(&peer);
        size_t n = 0;

        peer_send_session(peer, 0, cut);
        assert(recv_session(conn, &n) == EAGAIN);
        assert((n == 3) == (cut == SESSION_LEN));
        peer_send_session(peer, cut, SESSION_LEN);
        assert(recv_session(conn, &n) == EAGAIN);
        assert(n == 3);
        vhu_conn_destroy(conn);
        close(peer);

        conn = make_pair(&peer);
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
    struct vhu_conn *conn = make_pair(&peer);
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
        conn = make_pair(&peer);
        peer_send(peer, &wire, lens[i], 1);
        tally = drive(conn, 3000, is_down);
        assert(tally.elapsed >= 950 && tally.elapsed < 1500);
        assert(tally.n_wakeups < 5);
        print_reason(conn);
        vhu_conn_destroy(conn);
        close(peer);
    }

    conn = make_pair(&peer);
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
    conn = make_pair(&peer);
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
    struct vhu_conn *conn = make_pair(&peer);

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

        conn = make_pair(&peer);
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
    struct vhu_conn *conn = make_pair(&peer);

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
        conn = make_pair(&peer);
        peer_send_msg(peer, 1, 0, n_fds);
        expect_error(conn, ENOTCONN);
        if (n_fds == 9) {
            print_reason(conn);
        }
        n_closed++;
        vhu_conn_destroy(conn);
        close(peer);
    }
    conn = make_pair(&peer);
    peer_send(peer, &wire, 1, 8);
    peer_send(peer, &wire, 1, 1);
    expect_error(conn, ENOTCONN);
    print_reason(conn);
    vhu_conn_destroy(conn);
    close(peer);

    /* HZ-03: the table of open files is full. */
    conn = make_pair(&peer);
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
    struct vhu_conn *conn = make_pair(&peer);
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
    int null_fd = open_null();
    int peer;
    struct vhu_conn *conn = make_pair(&peer);
    int n_before = count_fds();
    uint8_t buf[64 * (12 + 264)];
    size_t len = 0;
    int n_sent = 0, n_fds = 0;
    int size = 2048;

    assert(!setsockopt(peer, SOL_SOCKET, SO_RCVBUF, &size, sizeof size));
    while (n_sent < 60) {
        struct vhu_msg msg;

        vhu_msg_init(&msg, n_sent);
        msg.hdr.size = 4 * n_sent;
        memset(&msg.payload, n_sent, msg.hdr.size);
        msg.fds[0] = null_fd;
        msg.n_fds = n_sent % 2;
        assert(!vhu_conn_send(conn, &msg));
        n_sent++;
    }
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
    close(null_fd);
    printf("ok\n");
}

/* HZ-05: a peer that reads nothing back. */
static void
test_unread(void)
{
    int peer;
    struct vhu_conn *conn = make_pair(&peer);
    int null_fd = open_null();
    struct vhu_msg msg;
    struct tally tally;
    int n_before = count_fds();
    int n = 0;

    vhu_msg_init(&msg, VHOST_USER_GET_FEATURES);
    msg.hdr.size = VHU_MSG_MAX_PAYLOAD;
    msg.fds[0] = null_fd;
    msg.n_fds = 1;
    while (!vhu_conn_send(conn, &msg)) {
        vhu_conn_run(conn);
        assert(n++ < 5000);
    }
    assert(n > VHU_CONN_MAX_QUEUE);
    print_reason(conn);
    assert(count_fds() == n_before - 1);
    vhu_conn_destroy(conn);
    close(peer);

    conn = make_pair(&peer);
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
    conn = make_pair(&peer);
    close(peer);
    assert(vhu_conn_send(conn, &msg) == ENOTCONN);
    print_reason(conn);
    vhu_conn_destroy(conn);
    close(null_fd);
}

/* What the role closes itself. */
static void
test_disconnect(void)
{
    int peer;
    struct vhu_conn *conn = make_pair(&peer);

    assert(vhu_conn_get_n_connects(conn) == 1);
    vhu_conn_disconnect(conn, "protocol error: bad SET_VRING_NUM");
    vhu_conn_disconnect(conn, "something else");
    print_reason(conn);
    assert(peer_is_closed(peer));
    assert(vhu_conn_get_seqno(conn) == 2);
    expect_error(conn, ENOTCONN);
    drive(conn, 100, is_up);
    assert(!vhu_conn_is_connected(conn));
    vhu_conn_destroy(conn);
    vhu_conn_destroy(NULL);
    close(peer);
}

/* Client. */

/* Lets a new client for 'path' make its first attempt and prints how that
 * went. */
static void
try_client(const char *path)
{
    struct vhu_conn *conn = make_client(path);

    vhu_conn_run(conn);
    print_reason(conn);
    vhu_conn_destroy(conn);
}

/* Each reason in words. */
static void
test_client_reasons(void)
{
    struct vhu_conn *conn;
    int fd, queued[80];
    size_t n = 0;

    conn = make_client(SOCK);
    print_reason(conn);
    vhu_conn_destroy(conn);
    try_client(SOCK);
    try_client("dir/" SOCK);

    fd = peer_listen(SOCK);
    try_client(SOCK);
    for (;;) {
        queued[n] = peer_connect(SOCK);
        if (queued[n] == -EAGAIN) {
            break;
        }
        assert(queued[n] >= 0);
        n++;
    }
    try_client(SOCK);
    while (n > 0) {
        close(queued[--n]);
    }
    close(fd);
    try_client(SOCK);
    unlink(SOCK);

    fd = open(SOCK, O_CREAT | O_RDWR, 0644);
    try_client(SOCK);
    close(fd);
    try_client(SOCK "/x");
    unlink(SOCK);

    assert(!mkdir(SOCK, 0755));
    try_client(SOCK);
    rmdir(SOCK);

    fd = peer_bind(SOCK_DGRAM, SOCK);
    try_client(SOCK);
    close(fd);
    unlink(SOCK);

    assert(!symlink(SOCK, SOCK));
    try_client(SOCK);
    unlink(SOCK);

    limit_fds(0);
    try_client(SOCK);
    unlimit_fds();
}

/* Permission refused by the socket and by directories.  Needs root, to be
 * somebody else. */
static void
test_permissions(void)
{
    int fd;

    assert(!mkdir("a", 0755) && !mkdir("a/b", 0755));
    fd = peer_listen("a/b/" SOCK);
    assert(!chmod("a/b/" SOCK, 0755));
    assert(!chown("a/b/" SOCK, 0, 54321));

    assert(!seteuid(65534));
    try_client("a/b/" SOCK);
    assert(!seteuid(0));

    assert(!chmod("a/b/" SOCK, 0777));
    assert(!seteuid(65534));
    try_client("a/b/" SOCK);
    assert(!seteuid(0));

    assert(!chmod("a", 0700));
    assert(!seteuid(65534));
    try_client("a/b/" SOCK);
    try_client("a/b/nothing");
    assert(!seteuid(0));

    /* A server that may not make its socket. */
    struct vhu_conn *conn = make_server("a/" SOCK);
    assert(!chmod("a", 0755));
    assert(!seteuid(65534));
    vhu_conn_run(conn);
    print_reason(conn);
    assert(!chdir("a"));
    vhu_conn_destroy(conn);

    conn = make_server("b/" SOCK);
    vhu_conn_run(conn);
    print_reason(conn);
    vhu_conn_destroy(conn);

    assert(!seteuid(0));
    assert(!chmod("b", 0700));
    assert(!seteuid(65534));
    conn = make_server("b/" SOCK);
    vhu_conn_run(conn);
    print_reason(conn);
    vhu_conn_destroy(conn);
    assert(!seteuid(0));
    close(fd);
}

/* A child process that serves 'path' after 'ms' milliseconds, after it has
 * made the directory 'dir' if that is nonnull.  The socket listens some time
 * after it has appeared. */
static pid_t
serve_later(const char *path, const char *dir, int ms)
{
    pid_t pid = fork();

    assert(pid >= 0);
    if (!pid) {
        int fd;

        usleep(ms * 1000);
        if (dir) {
            char *command = xasprintf("mkdir -p %s", dir);
            assert(!system(command));
        }
        fd = peer_bind(SOCK_STREAM, path);
        usleep(5000);
        assert(!listen(fd, 5));
        pause();
        _exit(0);
    }
    return pid;
}

static void
stop(pid_t pid)
{
    kill(pid, SIGKILL);
    assert(waitpid(pid, NULL, 0) == pid);
}

/* The socket appears, with its directories or without, when the back-off has
 * reached its maximum.  HZ-22, R-01. */
static void
test_client_appears(void)
{
    struct vhu_conn *conn = make_client("x/y/z/" SOCK);
    struct tally tally;
    pid_t pid;

    /* While nothing happens, one attempt a second, and no more wakeups. */
    drive(conn, 2500, NULL);
    tally = drive(conn, 2000, is_up);
    assert(tally.n_wakeups <= 4);

    pid = serve_later("x/y/z/" SOCK, "x/y/z", 10);
    tally = drive(conn, 5000, is_up);
    assert(vhu_conn_is_connected(conn));
    printf("appears with directories: %s\n",
           tally.elapsed < 10 + 300 ? "at once" : "late");
    stop(pid);
    drive(conn, 2500, is_down);
    assert(!vhu_conn_is_connected(conn));

    /* The same again, by removing the stale socket, also within a directory
     * that has files come and go. */
    drive(conn, 2500, is_up);
    print_reason(conn);
    assert(!unlink("x/y/z/" SOCK));
    drive(conn, 2500, is_up);
    pid = serve_later("x/y/z/" SOCK, NULL, 10);
    tally = drive(conn, 5000, is_up);
    assert(vhu_conn_is_connected(conn));
    printf("appears: %s\n", tally.elapsed < 10 + 300 ? "at once" : "late");
    assert(vhu_conn_get_n_connects(conn) == 2);
    assert(vhu_conn_get_seqno(conn) == 3);
    stop(pid);
    vhu_conn_destroy(conn);
}

/* a peer that closes every connection is not asked often, even if its
 * socket comes and goes, and is logged as one. */
static void
test_client_refused(void)
{
    struct vhu_conn *conn = make_client(SOCK);
    int fd = peer_listen(SOCK);
    long long int end = time_msec() + 2000;
    int n = 0;

    while (time_msec() < end) {
        int peer;

        drive(conn, 10, NULL);
        peer = accept(fd, NULL, NULL);
        if (peer >= 0) {
            n++;
            close(peer);
            close(fd);
            assert(!unlink(SOCK));
            fd = peer_listen(SOCK);
        }
    }
    printf("%s\n", n >= 5 && n <= 10 ? "ok" : "bad");
    vhu_conn_destroy(conn);
    close(fd);
    unlink(SOCK);
}

/* Attempts that fail are logged once per reason.  (The output is the log.) */
static void
test_client_log(void)
{
    struct vhu_conn *conn = make_client(SOCK);
    int fd;

    drive(conn, 200, NULL);
    close(peer_bind(SOCK_STREAM, SOCK));
    drive(conn, 200, NULL);
    unlink(SOCK);
    fd = peer_listen(SOCK);
    drive(conn, 1000, is_up);
    assert(vhu_conn_is_connected(conn));
    vhu_conn_disconnect(conn, "protocol error: bad SET_VRING_NUM");
    drive(conn, 1000, is_up);
    assert(vhu_conn_is_connected(conn));
    vhu_conn_destroy(conn);
    close(fd);
    unlink(SOCK);
}

/* Returns a path of 'len' bytes whose directory has been made. */
static char *
make_long_path(size_t len)
{
    char *path = xmalloc(len + 1);
    size_t ofs = 0;

    while (len - ofs > 100) {
        memset(path + ofs, 'd', 50);
        ofs += 50;
        path[ofs] = '\0';
        assert(!mkdir(path, 0755) || errno == EEXIST);
        path[ofs++] = '/';
    }
    memset(path + ofs, 's', len - ofs);
    path[len] = '\0';
    return path;
}

/* Paths longer than sun_path, for both modes at once. */
static void
test_long_path(void)
{
    static const size_t lens[] = { 107, 108, 109, 250, 1000, 3500 };

    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        char *path = make_long_path(lens[i]);
        struct vhu_conn *server = make_server(path);
        struct vhu_conn *client = make_client(path);
        int n_before = -1;

        for (int j = 0; j < 2; j++) {
            vhu_conn_run(server);
            vhu_conn_run(client);
            vhu_conn_run(server);
            assert(vhu_conn_is_connected(client));
            assert(vhu_conn_is_connected(server));
            assert(n_before < 0 || n_before == count_fds());
            n_before = count_fds();

            vhu_conn_destroy(client);
            client = make_client(path);
        }
        vhu_conn_destroy(client);
        vhu_conn_destroy(server);
        assert(access(path, F_OK) && errno == ENOENT);
        free(path);
    }
    printf("ok\n");
}

/* Server. */

static void
try_server(const char *path)
{
    struct vhu_conn *conn = make_server(path);

    vhu_conn_run(conn);
    print_reason(conn);
    vhu_conn_destroy(conn);
}

/* HZ-22: what is at the path already. */
static void
test_server_path(void)
{
    struct vhu_conn *conn;
    struct stat st;
    int fd, peer;

    try_server(SOCK);
    assert(access(SOCK, F_OK));
    try_server("dir/" SOCK);

    fd = open(SOCK, O_CREAT | O_RDWR, 0644);
    try_server(SOCK);
    try_server(SOCK "/x");
    assert(!stat(SOCK, &st) && S_ISREG(st.st_mode));
    close(fd);
    unlink(SOCK);

    assert(!mkdir(SOCK, 0755));
    try_server(SOCK);
    assert(!stat(SOCK, &st) && S_ISDIR(st.st_mode));
    rmdir(SOCK);

    assert(!symlink("nothing", SOCK));
    try_server(SOCK);
    assert(!lstat(SOCK, &st) && S_ISLNK(st.st_mode));
    unlink(SOCK);

    /* In use.  Its owner must not notice. */
    fd = peer_listen(SOCK);
    try_server(SOCK);
    assert(accept(fd, NULL, NULL) < 0 && errno == EAGAIN);
    assert(!stat(SOCK, &st) && S_ISSOCK(st.st_mode));

    /* The same one, stale. */
    close(fd);
    conn = make_server(SOCK);
    vhu_conn_run(conn);
    print_reason(conn);
    peer = peer_connect(SOCK);
    assert(peer >= 0);
    vhu_conn_run(conn);
    print_reason(conn);
    close(peer);

    /* A second port with the same path. */
    try_server(SOCK);
    assert(!access(SOCK, F_OK));
    vhu_conn_destroy(conn);
    assert(access(SOCK, F_OK));

    /* A datagram socket in use. */
    fd = peer_bind(SOCK_DGRAM, SOCK);
    try_server(SOCK);
    close(fd);
    try_server(SOCK);
    assert(access(SOCK, F_OK));

    limit_fds(0);
    try_server(SOCK);
    unlimit_fds();
}

/* Returns the number of entries in the current directory. */
static int
count_files(void)
{
    DIR *dir = opendir(".");
    int n = -2;

    assert(dir);
    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n;
}

/* Only our own socket is removed, and nothing else stays. */
static void
test_server_remove(void)
{
    int n_files = count_files();
    struct vhu_conn *conn;
    struct stat st;
    int fd;

    /* Another file in its place. */
    conn = make_server(SOCK);
    vhu_conn_run(conn);
    assert(count_files() == n_files + 1);
    unlink(SOCK);
    fd = peer_listen(SOCK);
    vhu_conn_destroy(conn);
    assert(!stat(SOCK, &st));
    close(fd);
    unlink(SOCK);

    /* Moved, as some container plugins do.  It is still in use. */
    conn = make_server(SOCK);
    vhu_conn_run(conn);
    assert(!rename(SOCK, "elsewhere"));
    drive(conn, 1200, NULL);
    assert(access(SOCK, F_OK));
    fd = peer_connect("elsewhere");
    assert(fd >= 0);
    vhu_conn_run(conn);
    assert(vhu_conn_is_connected(conn));
    vhu_conn_destroy(conn);
    close(fd);
    assert(!unlink("elsewhere"));

    /* Removed, and its directory with it: comes back, and a connection is not
     * disturbed. */
    assert(!mkdir("d", 0755));
    conn = make_server("d/" SOCK);
    vhu_conn_run(conn);
    fd = peer_connect("d/" SOCK);
    assert(fd >= 0);
    vhu_conn_run(conn);
    assert(vhu_conn_is_connected(conn));
    assert(!unlink("d/" SOCK));
    drive(conn, 100, NULL);
    assert(!access("d/" SOCK, F_OK));
    assert(!unlink("d/" SOCK) && !rmdir("d"));
    drive(conn, 500, NULL);
    assert(!mkdir("d", 0755));
    drive(conn, 100, NULL);
    assert(!access("d/" SOCK, F_OK));
    assert(vhu_conn_is_connected(conn));
    close(fd);
    drive(conn, 100, is_down);
    fd = peer_connect("d/" SOCK);
    assert(fd >= 0);
    drive(conn, 100, is_up);
    assert(vhu_conn_is_connected(conn));
    vhu_conn_destroy(conn);
    close(fd);
    assert(!rmdir("d"));
    assert(count_files() == n_files);
    printf("ok\n");
}

/* Mode and owner are those that were asked for. */
static void
test_server_mode(void)
{
    struct vhu_conn_config config = {
        .mode = VHU_CONN_SERVER,
        .path = SOCK,
        .socket_mode = 0660,
        .uid = getuid() ? -1 : 12345,
        .gid = getuid() ? -1 : 23456,
    };
    struct vhu_conn *conn;
    struct stat st;

    umask(027);
    conn = vhu_conn_create("vm0", &config);
    vhu_conn_run(conn);
    assert(!stat(SOCK, &st));
    printf("%04o\n", st.st_mode & 07777);
    assert(getuid() || (st.st_uid == 12345 && st.st_gid == 23456));
    vhu_conn_destroy(conn);

    config.socket_mode = 0;
    config.uid = config.gid = -1;
    conn = vhu_conn_create("vm0", &config);
    vhu_conn_run(conn);
    assert(!stat(SOCK, &st));
    printf("%04o\n", st.st_mode & 07777);
    assert(st.st_uid == getuid());
    vhu_conn_destroy(conn);
}

/* C-06, H-06, HZ-21: one connection, whatever comes. */
static void
test_server_many(void)
{
    struct vhu_conn *conn = make_server(SOCK);
    int n_open = 0, n_before;
    int first, next;

    vhu_conn_run(conn);
    first = peer_connect(SOCK);
    vhu_conn_run(conn);
    assert(vhu_conn_is_connected(conn));
    peer_send_msg(first, 1, 0, 0);
    expect_msg(conn, 1, 0, 0);
    n_before = count_fds();

    for (int i = 0; i < 1500; i++) {
        next = peer_connect(SOCK);

        if (next >= 0) {
            struct tally tally = drive(conn, 0, NULL);

            assert(!tally.n_msgs);
            n_open += !peer_is_closed(next);
            close(next);
        } else {
            assert(next == -EAGAIN);
        }
        assert(count_fds() <= n_before);
    }
    drive(conn, 50, NULL);
    printf("%d more connections open\n", n_open);
    assert(vhu_conn_get_n_connects(conn) == 1);
    assert(count_fds() == n_before);
    assert(!peer_is_closed(first));
    peer_send_msg(first, 1, 0, 0);
    expect_msg(conn, 1, 0, 0);

    /* The peer dies and comes back before we notice. */
    close(first);
    next = peer_connect(SOCK);
    assert(next >= 0);
    vhu_conn_run(conn);
    assert(vhu_conn_is_connected(conn));
    assert(vhu_conn_get_n_connects(conn) == 2);
    assert(vhu_conn_get_seqno(conn) == 3);
    peer_send_msg(next, 2, 8, 0);
    expect_msg(conn, 2, 8, 0);
    close(next);
    drive(conn, 100, is_down);
    vhu_conn_destroy(conn);

    /* Somebody connects and says nothing. */
    conn = make_server(SOCK);
    vhu_conn_run(conn);
    first = peer_connect(SOCK);
    vhu_conn_run(conn);
    drive(conn, 1050, is_down);
    assert(!peer_is_closed(first));
    next = peer_connect(SOCK);
    drive(conn, 100, NULL);
    assert(peer_is_closed(first) && !peer_is_closed(next));
    close(first);
    close(next);
    vhu_conn_destroy(conn);
    printf("ok\n");
}

/* HZ-03: no file descriptor left for a connection.  The listener pauses and
 * comes back. */
static void
test_server_emfile(void)
{
    struct vhu_conn *conn = make_server(SOCK);
    struct tally tally;
    int peer;

    vhu_conn_run(conn);
    peer = peer_connect(SOCK);
    assert(peer >= 0);
    limit_fds(0);
    tally = drive(conn, 1000, is_up);
    unlimit_fds();
    assert(!vhu_conn_is_connected(conn));
    print_reason(conn);
    assert(tally.n_wakeups < 20);

    drive(conn, 1500, is_up);
    assert(vhu_conn_is_connected(conn));
    close(peer);
    drive(conn, 1500, is_down);
    printf("%.46s\n", vhu_conn_get_reason(conn));
    vhu_conn_destroy(conn);
}

/* A server whose peers do not last is slow to take the next. */
static void
test_server_refusing(void)
{
    struct vhu_conn *conn = make_server(SOCK);
    long long int end = time_msec() + 2000;

    vhu_conn_run(conn);
    while (time_msec() < end) {
        int peer = peer_connect(SOCK);

        assert(peer >= 0);
        drive(conn, 2000, is_up);
        assert(vhu_conn_is_connected(conn));
        vhu_conn_disconnect(conn, "protocol error: bad SET_VRING_NUM");
        close(peer);
    }
    print_reason(conn);
    printf("%s\n", (vhu_conn_get_n_connects(conn) >= 5
                    && vhu_conn_get_n_connects(conn) <= 10 ? "ok" : "bad"));
    vhu_conn_destroy(conn);
}

/* The process exits or dies of a signal: only our socket goes. */
static void
test_server_exit(void)
{
    struct stat st;

    for (int i = 0; i < 4; i++) {
        pid_t pid = fork();
        int status;

        assert(pid >= 0);
        if (!pid) {
            struct vhu_conn *conn = make_server(SOCK);

            vhu_conn_run(conn);
            assert(!stat(SOCK, &st) && S_ISSOCK(st.st_mode));
            if (i & 2) {
                assert(!unlink(SOCK));
                assert(!mkdir(SOCK, 0755));
            }
            if (i & 1) {
                exit(0);
            }
            raise(SIGTERM);
            drive(conn, 1000, NULL);
            abort();
        }
        assert(waitpid(pid, &status, 0) == pid);
        assert(i & 1 ? WIFEXITED(status)
               : WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
        if (i & 2) {
            assert(!rmdir(SOCK));
        }
        assert(stat(SOCK, &st));
    }
    printf("ok\n");
}

/* Makes OVS open the file descriptors that it opens once. */
static void
warm_up(void)
{
    struct seq *seq = seq_create();

    fatal_signal_init();
    seq_wait(seq, seq_read(seq));
    poll_immediate_wake();
    poll_block();
    seq_destroy(seq);
}

static void
test_vhu_conn(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {
        { "whole", test_whole },
        { "cut", test_cut },
        { "silence", test_silence },
        { "large", test_large },
        { "fds", test_fds },
        { "flood", test_flood },
        { "send", test_send },
        { "unread", test_unread },
        { "disconnect", test_disconnect },
        { "client-reasons", test_client_reasons },
        { "permissions", test_permissions },
        { "client-appears", test_client_appears },
        { "client-refused", test_client_refused },
        { "client-log", test_client_log },
        { "long-path", test_long_path },
        { "server-path", test_server_path },
        { "server-remove", test_server_remove },
        { "server-mode", test_server_mode },
        { "server-many", test_server_many },
        { "server-emfile", test_server_emfile },
        { "server-refusing", test_server_refusing },
        { "server-exit", test_server_exit },
    };

    vlog_set_levels_from_string_assert("console:off");
    vlog_set_pattern(VLF_CONSOLE, "%p %m");
    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc > 1 && !strcmp(argv[1], tests[i].name)) {
            if (argc > 2 && !strcmp(argv[2], "--log")) {
                vlog_set_levels_from_string_assert("console:info");
            }
            umask(022);
            warm_up();
            tests[i].run();
            return;
        }
    }
    ovs_fatal(0, "usage: vhutest conn TEST [--log]");
}

VHUTEST_REGISTER("conn", test_vhu_conn);
