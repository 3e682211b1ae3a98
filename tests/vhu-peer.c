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

#include "vhu-peer.h"

#undef NDEBUG

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fatal-signal.h"
#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "seq.h"
#include "timeval.h"
#include "util.h"
#include "vhu-conn.h"
#include "vhu-msg.h"

/* File descriptors. */

/* Returns the number of open file descriptors. */
int
count_fds(void)
{
    static const char name[] = "/proc/self/fd";
    DIR *dir = opendir(name);
    int n = -3;                 /* ".", ".." and 'dir' itself. */

    assert(dir);
    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n;
}

int
open_file(void)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    assert(fd >= 0);
    return fd;
}

/* Limits open files so that at most 'n' more can be opened. */
void
limit_fds(int n)
{
    struct rlimit limit;
    int lowest = open_file();

    close(lowest);
    assert(!getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = lowest + n;
    assert(!setrlimit(RLIMIT_NOFILE, &limit));
}

void
unlimit_fds(void)
{
    struct rlimit limit;

    assert(!getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = limit.rlim_max;
    assert(!setrlimit(RLIMIT_NOFILE, &limit));
}

/* The peer. */

static struct sockaddr_un
make_addr(const char *path)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };

    assert(strlen(path) < sizeof un.sun_path);
    ovs_strlcpy(un.sun_path, path, sizeof un.sun_path);
    return un;
}

/* Returns a socket that is bound to 'path' but does not listen. */
int
peer_bind(int type, const char *path)
{
    struct sockaddr_un un = make_addr(path);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert(fd >= 0);
    assert(!bind(fd, (struct sockaddr *) &un, sizeof un));
    return fd;
}

int
peer_listen(const char *path)
{
    int fd = peer_bind(SOCK_STREAM, path);

    assert(!listen(fd, 64));
    return fd;
}

/* Returns a socket connected to 'path', or a negative errno. */
int
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

/* File descriptors that the peer keeps open. */
static int n_peer_fds;

/* Sends 'len' bytes from 'p' with 'n_fds' times the same file descriptor. */
void
peer_send(int fd, const void *p, size_t len, int n_fds)
{
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(253 * sizeof(int))];
    } control;
    struct iovec iov = { CONST_CAST(void *, p), len };
    struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (n_fds) {
        struct cmsghdr *cmsg = &control.align;
        static int file_fd = -1;

        if (file_fd < 0) {
            file_fd = open_file();
            n_peer_fds++;
        }
        memset(control.buf, 0, CMSG_SPACE(n_fds * sizeof(int)));
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        for (int i = 0; i < n_fds; i++) {
            memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &file_fd, sizeof(int));
        }
        mh.msg_control = &control;
        mh.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
    }
    assert(sendmsg(fd, &mh, MSG_NOSIGNAL) == len);
}

size_t
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

void
peer_send_msg(int fd, uint32_t request, uint32_t size, int n_fds)
{
    struct wire wire;
    size_t len = make_wire(&wire, request, size);

    peer_send(fd, &wire, len, n_fds);
}

/* Returns true if the other side has closed 'fd'. */
bool
peer_is_closed(int fd)
{
    struct pollfd pfd = { .fd = fd, .events = POLLRDHUP };

    return poll(&pfd, 1, 0) == 1 && pfd.revents & (POLLRDHUP | POLLHUP);
}

/* Checks that 'msg' is what make_wire() made. */
void
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

/* Our side. */

/* Does what the control thread does, for at most 'ms' milliseconds, until
 * 'until', if nonnull, returns true.  Messages are counted and dropped. */
struct tally
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

bool
is_up(struct vhu_conn *conn)
{
    return vhu_conn_is_connected(conn);
}

bool
is_down(struct vhu_conn *conn)
{
    return !vhu_conn_is_connected(conn);
}

struct vhu_conn *
make_client(const char *path)
{
    struct vhu_conn_config config = { .mode = VHU_CONN_CLIENT, .path = path };

    return vhu_conn_create("vm0", &config);
}

struct vhu_conn *
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

/* Returns a connection on one end of a new pair of sockets.  Stores that end
 * in '*our_fd', if that is nonnull, and the other one in '*peer'. */
struct vhu_conn *
make_pair(int *our_fd, int *peer)
{
    int fds[2];

    assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    if (our_fd) {
        *our_fd = fds[0];
    }
    *peer = fds[1];
    return vhu_conn_create_fd("vm0", fds[0]);
}

void
print_reason(const struct vhu_conn *conn)
{
    const char *reason = vhu_conn_get_reason(conn);

    printf("%s\n", reason ? reason : "connected");
    fflush(stdout);
}

void
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

void
expect_error(struct vhu_conn *conn, int error)
{
    struct vhu_msg msg;

    vhu_conn_run(conn);
    assert(vhu_conn_recv(conn, &msg) == error);
}

/* A program of tests. */

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

/* Runs the one of 'tests' that the command line names: "TEST [--log]".  After
 * it, no file descriptor must be open that was not open before. */
void
run_vhu_test(const struct vhu_test tests[], size_t n, int argc, char *argv[])
{
    int n_fds;

    vlog_set_levels_from_string_assert("console:off");
    vlog_set_pattern(VLF_CONSOLE, "%p %m");
    for (size_t i = 0; i < n; i++) {
        if (argc > 1 && !strcmp(argv[1], tests[i].name)) {
            if (argc > 2 && !strcmp(argv[2], "--log")) {
                vlog_set_levels_from_string_assert("console:info");
            }
            umask(022);
            warm_up();
            n_fds = count_fds();
            tests[i].run();
            assert(count_fds() == n_fds + n_peer_fds);
            return;
        }
    }
    ovs_fatal(0, "usage: vhutest %s TEST [--log]", argv[0]);
}
