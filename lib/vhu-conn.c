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

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "openvswitch/dynamic-string.h"
#include "openvswitch/list.h"
#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "random.h"
#include "timeval.h"
#include "util.h"
#include "vhu-msg.h"
#include "vhu-sock.h"
#include "vhu-watch.h"

VLOG_DEFINE_THIS_MODULE(vhu_conn);

/* A connection that ends sooner than this counts as a failed attempt. */
#define VHU_CONN_STABLE 2000            /* ms */

/* How often a server looks whether its socket still exists. */
#define VHU_CONN_CHECK_INTERVAL 1000    /* ms */

/* Connections that a server accepts at most in one run, most of them to be
 * closed at once. */
#define VHU_CONN_MAX_ACCEPTS 16

enum vhu_conn_kind {
    VHU_CONN_KIND_CLIENT,
    VHU_CONN_KIND_SERVER,
    VHU_CONN_KIND_FD,           /* vhu_conn_create_fd(). */
};

/* A message, or the rest of one, that the socket did not take yet. */
struct vhu_conn_out {
    struct ovs_list node;       /* In 'out' of struct vhu_conn. */
    struct vhu_msg msg;         /* Owns copies of the file descriptors. */
    size_t ofs;                 /* Bytes sent. */
};

struct vhu_conn {
    char *name;                 /* Of the port, for the log. */
    enum vhu_conn_kind kind;
    struct vhu_conn_config config; /* With a copy of 'path'. */
    struct vlog_rate_limit rl;  /* One a connection, so that a port that comes
                                 * and goes does not silence the others. */

    /* The connection, if 'fd' is not -1. */
    int fd;
    unsigned int seqno;         /* vhu_conn_get_seqno(). */
    unsigned int run_seqno;     /* Value at the end of vhu_conn_run(). */
    unsigned int n_connects;
    long long int since;        /* vhu_conn_get_since(). */

    /* Input.  'in' owns the file descriptors that have come so far. */
    struct vhu_msg in;
    size_t in_ofs;              /* Bytes of header and payload that have come.
                                 */
    long long int in_deadline;  /* For the rest, if 'in_ofs' is nonzero. */
    uint64_t n_in;              /* Whole messages on this connection. */
    int budget;                 /* Messages to deliver until the next run. */

    /* Output. */
    struct ovs_list out;        /* Contains "struct vhu_conn_out"s. */
    size_t n_out;
    long long int out_deadline; /* For the first one in 'out'. */

    /* How to get a connection. */
    struct vhu_watch *watch;    /* Null for VHU_CONN_KIND_FD. */
    struct vhu_listener *listener; /* Server only.  Null if it failed. */
    long long int next_try;     /* When to connect or listen again. */
    int backoff;                /* Between attempts. */
    long long int last_try;
    long long int not_before;   /* No attempt and no accept() before that,
                                 * whatever appears at the path. */
    int penalty;                /* What a connection that fails soon, or an
                                 * accept() that fails, adds to that. */
    long long int next_check;   /* Server only: of the socket. */
    bool accept_failed;         /* Server only: the last time. */

    /* Why there is no connection. */
    char *status;               /* How the last attempt went, or null. */
    char *last;                 /* How the last connection ended, or null. */
    char *logged;               /* The last status in the log, or null. */
    char *reason;               /* 'status' and 'last' in one string. */
};

static struct vhu_conn *vhu_conn_create__(const char *name,
                                          enum vhu_conn_kind);
static void vhu_conn_run_client(struct vhu_conn *);
static void vhu_conn_run_server(struct vhu_conn *);
static void vhu_conn_listen(struct vhu_conn *);
static void vhu_conn_set_waiting(struct vhu_conn *);
static void vhu_conn_accept(struct vhu_conn *);
static bool vhu_conn_is_abandoned(const struct vhu_conn *);
static void vhu_conn_attempt_failed(struct vhu_conn *, int error,
                                    char *reason);
static void vhu_conn_raise_penalty(struct vhu_conn *);
static long long int vhu_conn_next_attempt(const struct vhu_conn *);

static void vhu_conn_up(struct vhu_conn *, int fd);
static void vhu_conn_down(struct vhu_conn *, char *reason);
static void vhu_conn_lost(struct vhu_conn *, int error);
static void vhu_conn_set_status(struct vhu_conn *, enum vlog_level,
                                char *status);
static void vhu_conn_update_reason(struct vhu_conn *);

static int vhu_conn_read(struct vhu_conn *);
static bool vhu_conn_read_fds(struct vhu_conn *, struct msghdr *);
static bool vhu_conn_in_is_whole(const struct vhu_conn *);
static struct iovec vhu_conn_in_iov(struct vhu_conn *, void *skipped,
                                    size_t size);

static int vhu_conn_write(struct vhu_conn *, const struct vhu_msg *,
                          size_t *ofs);
static void vhu_conn_enqueue(struct vhu_conn *, const struct vhu_msg *,
                             size_t ofs);
static void vhu_conn_flush(struct vhu_conn *);
static void vhu_conn_pop_out(struct vhu_conn *);

struct vhu_conn *
vhu_conn_create(const char *name, const struct vhu_conn_config *config)
{
    bool server = config->mode == VHU_CONN_SERVER;
    struct vhu_conn *conn;

    conn = vhu_conn_create__(name, (server ? VHU_CONN_KIND_SERVER
                                    : VHU_CONN_KIND_CLIENT));
    conn->config = *config;
    conn->config.path = xstrdup(config->path);
    conn->watch = vhu_watch_create(config->path);
    conn->reason = xasprintf("about to %s %s",
                             server ? "listen at" : "connect to",
                             config->path);
    return conn;
}

struct vhu_conn *
vhu_conn_create_fd(const char *name, int fd)
{
    struct vhu_conn *conn = vhu_conn_create__(name, VHU_CONN_KIND_FD);

    vhu_conn_up(conn, fd);
    return conn;
}

static struct vhu_conn *
vhu_conn_create__(const char *name, enum vhu_conn_kind kind)
{
    struct vhu_conn *conn = xzalloc(sizeof *conn);

    conn->name = xstrdup(name);
    conn->kind = kind;
    conn->rl = (struct vlog_rate_limit) VLOG_RATE_LIMIT_INIT(30, 30);
    conn->fd = -1;
    conn->since = time_msec();
    vhu_msg_init(&conn->in, 0);
    conn->budget = VHU_CONN_BUDGET;
    ovs_list_init(&conn->out);
    conn->backoff = VHU_CONN_MIN_BACKOFF;
    return conn;
}

void
vhu_conn_destroy(struct vhu_conn *conn)
{
    if (conn) {
        if (conn->fd >= 0) {
            vhu_conn_down(conn, xstrdup("closed on our side"));
        }
        vhu_listener_close(conn->listener);
        vhu_watch_destroy(conn->watch);
        free(CONST_CAST(char *, conn->config.path));
        free(conn->status);
        free(conn->last);
        free(conn->logged);
        free(conn->reason);
        free(conn->name);
        free(conn);
    }
}

void
vhu_conn_run(struct vhu_conn *conn)
{
    conn->budget = VHU_CONN_BUDGET;
    switch (conn->kind) {
    case VHU_CONN_KIND_CLIENT:
        vhu_conn_run_client(conn);
        break;
    case VHU_CONN_KIND_SERVER:
        vhu_conn_run_server(conn);
        break;
    case VHU_CONN_KIND_FD:
        break;
    }
    vhu_conn_flush(conn);
    conn->run_seqno = conn->seqno;
}

void
vhu_conn_wait(struct vhu_conn *conn)
{
    if (conn->seqno != conn->run_seqno || !conn->budget) {
        /* The caller has to see the former; the latter left messages. */
        poll_immediate_wake();
    }

    if (conn->fd >= 0) {
        poll_fd_wait(conn->fd, POLLIN | (conn->n_out ? POLLOUT : 0));
        if (conn->in_ofs) {
            poll_timer_wait_until(conn->in_deadline);
        }
        if (conn->n_out) {
            poll_timer_wait_until(conn->out_deadline);
        }
    }

    if (conn->listener) {
        poll_timer_wait_until(conn->next_check);
        vhu_watch_wait(conn->watch);
        if (time_msec() >= conn->not_before) {
            vhu_listener_wait(conn->listener);
        } else {
            poll_timer_wait_until(conn->not_before);
        }
    } else if (conn->watch && (conn->fd < 0
                               || conn->kind == VHU_CONN_KIND_SERVER)) {
        poll_timer_wait_until(vhu_conn_next_attempt(conn));
        vhu_watch_wait(conn->watch);
    }
}

unsigned int
vhu_conn_get_seqno(const struct vhu_conn *conn)
{
    return conn->seqno;
}

bool
vhu_conn_is_connected(const struct vhu_conn *conn)
{
    return conn->fd >= 0;
}

/* The deadline counts only when the socket has been read until it was empty:
 * if the switch was away for long, that is not the peer's fault. */
int
vhu_conn_recv(struct vhu_conn *conn, struct vhu_msg *msg)
{
    if (conn->fd < 0) {
        return ENOTCONN;
    }
    if (!conn->budget) {
        return EAGAIN;
    }

    while (!vhu_conn_in_is_whole(conn)) {
        int error = vhu_conn_read(conn);

        if (error == EAGAIN && conn->in_ofs
            && time_msec() >= conn->in_deadline) {
            vhu_conn_down(conn, xasprintf(
                "deadline missed: peer did not finish a message within %d ms",
                VHU_CONN_MSG_TIMEOUT));
            return ENOTCONN;
        } else if (error) {
            return error;
        }
    }

    *msg = conn->in;
    vhu_msg_init(&conn->in, 0);
    conn->in_ofs = 0;
    conn->n_in++;
    conn->budget--;
    return 0;
}

int
vhu_conn_send(struct vhu_conn *conn, const struct vhu_msg *msg)
{
    size_t ofs = 0;

    if (conn->fd < 0) {
        return ENOTCONN;
    }
    if (!conn->n_out) {
        int error = vhu_conn_write(conn, msg, &ofs);

        if (!error) {
            return 0;
        } else if (error != EAGAIN) {
            vhu_conn_lost(conn, error);
            return ENOTCONN;
        }
    }
    vhu_conn_enqueue(conn, msg, ofs);
    return conn->fd >= 0 ? 0 : ENOTCONN;
}

void
vhu_conn_disconnect(struct vhu_conn *conn, const char *reason)
{
    if (conn->fd >= 0) {
        vhu_conn_down(conn, xstrdup(reason));
        if (!conn->penalty) {
            vhu_conn_raise_penalty(conn);
        }
    }
}

const char *
vhu_conn_get_path(const struct vhu_conn *conn)
{
    return conn->config.path ? conn->config.path : "";
}

const char *
vhu_conn_get_reason(const struct vhu_conn *conn)
{
    return conn->fd < 0 ? conn->reason : NULL;
}

long long int
vhu_conn_get_since(const struct vhu_conn *conn)
{
    return conn->since;
}

unsigned int
vhu_conn_get_n_connects(const struct vhu_conn *conn)
{
    return conn->n_connects;
}

/* Getting a connection.
 *
 * Two times decide when to try: 'next_try', which follows from failed attempts
 * and which an event at the path brings forward, and 'not_before', which
 * follows from connections that were made but did not last and which nothing
 * brings forward. */

static void
vhu_conn_run_client(struct vhu_conn *conn)
{
    char *reason;
    int error;
    int fd;

    if (conn->fd >= 0) {
        return;
    }
    if (vhu_watch_run(conn->watch)) {
        /* A server binds its socket, which is the event, before it listens:
         * the first attempt may come too early. */
        conn->backoff = VHU_CONN_MIN_BACKOFF;
        conn->next_try = conn->last_try + VHU_CONN_MIN_BACKOFF;
    }
    if (time_msec() < vhu_conn_next_attempt(conn)) {
        return;
    }

    vhu_watch_arm(conn->watch);
    conn->last_try = time_msec();
    error = vhu_sock_connect(conn->config.path, &fd, &reason);
    if (error) {
        vhu_conn_attempt_failed(conn, error, reason);
    } else {
        vhu_conn_up(conn, fd);
    }
}

static void
vhu_conn_run_server(struct vhu_conn *conn)
{
    if (vhu_watch_run(conn->watch)) {
        conn->next_check = 0;
        if (!conn->listener) {
            conn->next_try = conn->last_try + VHU_CONN_MIN_BACKOFF;
        }
    }

    if (conn->listener && time_msec() >= conn->next_check) {
        conn->next_check = time_msec() + VHU_CONN_CHECK_INTERVAL;
        if (!vhu_listener_is_there(conn->listener)) {
            VLOG_WARN_RL(&conn->rl, "%s: %s was removed, making it again",
                         conn->name, conn->config.path);
            vhu_listener_close(conn->listener);
            conn->listener = NULL;
        }
    }
    if (!conn->listener && time_msec() >= vhu_conn_next_attempt(conn)) {
        vhu_conn_listen(conn);
    }
    if (conn->listener && time_msec() >= conn->not_before) {
        vhu_conn_accept(conn);
    }
}

static void
vhu_conn_listen(struct vhu_conn *conn)
{
    const struct vhu_conn_config *config = &conn->config;
    char *reason;
    int error;

    vhu_watch_arm(conn->watch);
    conn->last_try = time_msec();
    error = vhu_listener_open(config->path, config->socket_mode, config->uid,
                              config->gid, &conn->listener, &reason);
    if (error) {
        vhu_conn_attempt_failed(conn, error, reason);
    } else {
        conn->backoff = VHU_CONN_MIN_BACKOFF;
        conn->next_check = time_msec() + VHU_CONN_CHECK_INTERVAL;
        vhu_conn_set_waiting(conn);
    }
}

static void
vhu_conn_set_waiting(struct vhu_conn *conn)
{
    vhu_conn_set_status(conn, VLL_INFO,
                        xasprintf("waiting for a front-end at %s",
                                  conn->config.path));
}

/* Takes whoever wants to connect.  While there is a connection, others are
 * accepted only to be closed: they would wait forever otherwise. */
static void
vhu_conn_accept(struct vhu_conn *conn)
{
    for (int i = 0; i < VHU_CONN_MAX_ACCEPTS; i++) {
        int error;
        int fd;

        error = vhu_listener_accept(conn->listener, &fd);
        if (conn->accept_failed && (!error || error == EAGAIN)) {
            conn->accept_failed = false;
            conn->penalty = 0;
            vhu_conn_set_waiting(conn);
        }
        if (error == EAGAIN) {
            return;
        } else if (error) {
            /* Out of file descriptors, most likely.  The connection stays
             * where it is, so without a pause we would be back at once. */
            conn->accept_failed = true;
            vhu_conn_raise_penalty(conn);
            vhu_conn_set_status(conn, VLL_WARN, xasprintf(
                "cannot accept a connection at %s: %s", conn->config.path,
                ovs_strerror(error)));
            return;
        }

        if (conn->fd >= 0 && vhu_conn_is_abandoned(conn)) {
            vhu_conn_down(conn, xstrdup("replaced by another connection"));
        }
        if (conn->fd < 0) {
            vhu_conn_up(conn, fd);
        } else {
            VLOG_WARN_RL(&conn->rl, "%s: closing a further connection to %s, "
                         "which has one already", conn->name,
                         conn->config.path);
            close(fd);
        }
    }

    /* A flood.  Leave time for others. */
    conn->not_before = time_msec() + VHU_CONN_MIN_BACKOFF;
}

/* Returns true if the connection that we have is of no use: the peer has gone,
 * which we have not read yet, or has not said a word in a time in which any
 * front-end does. */
static bool
vhu_conn_is_abandoned(const struct vhu_conn *conn)
{
    struct pollfd pfd = { .fd = conn->fd, .events = POLLRDHUP };

    return ((poll(&pfd, 1, 0) == 1
             && pfd.revents & (POLLRDHUP | POLLHUP | POLLERR))
            || (!conn->n_in
                && time_msec() >= conn->since + VHU_CONN_MSG_TIMEOUT));
}

/* Backs off after an attempt to connect or to listen that failed because of
 * 'reason', which it takes over. */
static void
vhu_conn_attempt_failed(struct vhu_conn *conn, int error, char *reason)
{
    bool is_usual = (error == ENOENT || error == ECONNREFUSED
                     || error == EAGAIN);

    /* Many ports that wait for the same thing should not come at once. */
    conn->next_try = (time_msec() + conn->backoff
                      - random_range(conn->backoff / 4));
    conn->backoff = MIN(2 * conn->backoff, VHU_CONN_MAX_BACKOFF);
    vhu_conn_set_status(conn, is_usual ? VLL_INFO : VLL_WARN, reason);
}

static void
vhu_conn_raise_penalty(struct vhu_conn *conn)
{
    conn->penalty = (!conn->penalty ? VHU_CONN_MIN_BACKOFF
                     : MIN(2 * conn->penalty, VHU_CONN_MAX_BACKOFF));
    conn->not_before = time_msec() + conn->penalty;
}

static long long int
vhu_conn_next_attempt(const struct vhu_conn *conn)
{
    return MAX(conn->next_try, conn->not_before);
}

/* Up and down. */

static void
vhu_conn_up(struct vhu_conn *conn, int fd)
{
    struct ucred peer;
    socklen_t peer_len = sizeof peer;

    conn->fd = fd;
    conn->seqno++;
    conn->n_connects++;
    conn->since = time_msec();
    conn->n_in = 0;
    conn->backoff = VHU_CONN_MIN_BACKOFF;
    free(conn->logged);
    conn->logged = NULL;

    if (conn->kind == VHU_CONN_KIND_FD
        || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len)) {
        VLOG_DBG("%s: connected", conn->name);
    } else {
        VLOG_INFO_RL(&conn->rl, "%s: connected at %s (peer is pid %d, uid %d)",
                     conn->name, conn->config.path, (int) peer.pid,
                     (int) peer.uid);
    }
}

/* Closes the connection because of 'reason', which it takes over.  The caller
 * can only be in the middle of a message if that message is its own. */
static void
vhu_conn_down(struct vhu_conn *conn, char *reason)
{
    long long int now = time_msec();

    close(conn->fd);
    conn->fd = -1;
    conn->seqno++;
    vhu_msg_uninit(&conn->in);
    vhu_msg_init(&conn->in, 0);
    conn->in_ofs = 0;
    while (conn->n_out) {
        vhu_conn_pop_out(conn);
    }

    conn->next_try = now;
    if (now - conn->since < VHU_CONN_STABLE) {
        vhu_conn_raise_penalty(conn);
    } else {
        conn->penalty = 0;
        conn->not_before = now;
    }
    conn->since = now;

    VLOG_INFO_RL(&conn->rl, "%s: disconnected%s%s: %s", conn->name,
                 conn->config.path ? " from " : "",
                 conn->config.path ? conn->config.path : "", reason);
    free(conn->last);
    conn->last = reason;
    if (conn->kind == VHU_CONN_KIND_CLIENT) {
        free(conn->status);
        conn->status = NULL;
    }
    vhu_conn_update_reason(conn);
}

/* Closes the connection because of an 'error' of the socket, or because it has
 * come to its end if that is 0. */
static void
vhu_conn_lost(struct vhu_conn *conn, int error)
{
    long long int ms = time_msec() - conn->since;

    vhu_conn_down(conn, (!error || error == EPIPE || error == ECONNRESET
                         ? xasprintf("peer closed the connection after "
                                     "%lld.%lld s", ms / 1000, ms % 1000 / 100)
                         : xasprintf("connection failed: %s",
                                     ovs_strerror(error))));
}

/* Makes 'status', which it takes over, how the last attempt went.  Logs it
 * unless that was logged before. */
static void
vhu_conn_set_status(struct vhu_conn *conn, enum vlog_level level, char *status)
{
    free(conn->status);
    conn->status = status;
    vhu_conn_update_reason(conn);

    if (!conn->logged || strcmp(conn->logged, status)) {
        VLOG_RL(&conn->rl, level, "%s: %s", conn->name, status);
        free(conn->logged);
        conn->logged = xstrdup(status);
    }
}

static void
vhu_conn_update_reason(struct vhu_conn *conn)
{
    free(conn->reason);
    conn->reason = (!conn->last ? xstrdup(conn->status)
                    : !conn->status ? xstrdup(conn->last)
                    : xasprintf("%s; last connection: %s",
                                conn->status, conn->last));
}

/* Input. */

/* Reads once.  Returns 0 if there was something, EAGAIN if not, or ENOTCONN if
 * that ended the connection. */
static int
vhu_conn_read(struct vhu_conn *conn)
{
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(VHOST_USER_MAX_FDS * sizeof(int))];
    } control;
    uint8_t skipped[512];
    struct iovec iov = vhu_conn_in_iov(conn, skipped, sizeof skipped);
    struct msghdr mh = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof control,
    };
    ssize_t n;

    do {
        n = recvmsg(conn->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return EAGAIN;
    } else if (n <= 0) {
        vhu_conn_lost(conn, n < 0 ? errno : 0);
        return ENOTCONN;
    }

    if (!vhu_conn_read_fds(conn, &mh)) {
        return ENOTCONN;
    }
    if (!conn->in_ofs) {
        conn->in_deadline = time_msec() + VHU_CONN_MSG_TIMEOUT;
    }
    conn->in_ofs += n;
    if (conn->in_ofs == sizeof conn->in.hdr
        && conn->in.hdr.size > VHU_MSG_MAX_SKIP) {
        vhu_conn_down(conn, xasprintf(
            "protocol error: message %"PRIu32" announces %"PRIu32" bytes of "
            "payload", conn->in.hdr.request, conn->in.hdr.size));
        return ENOTCONN;
    }
    return 0;
}

/* Returns where the next bytes belong: into the header, into the payload or,
 * if that is too large, into the 'size' bytes in 'skipped'. */
static struct iovec
vhu_conn_in_iov(struct vhu_conn *conn, void *skipped, size_t size)
{
    const size_t hdr_len = sizeof conn->in.hdr;
    size_t ofs = conn->in_ofs;
    struct iovec iov;

    if (ofs < hdr_len) {
        iov.iov_base = (uint8_t *) &conn->in.hdr + ofs;
        iov.iov_len = hdr_len - ofs;
    } else {
        ofs -= hdr_len;
        iov.iov_len = conn->in.hdr.size - ofs;
        if (conn->in.hdr.size <= VHU_MSG_MAX_PAYLOAD) {
            iov.iov_base = &conn->in.payload.bytes[ofs];
        } else {
            iov.iov_base = skipped;
            iov.iov_len = MIN(iov.iov_len, size);
        }
    }
    return iov;
}

static bool
vhu_conn_in_is_whole(const struct vhu_conn *conn)
{
    return (conn->in_ofs >= sizeof conn->in.hdr
            && conn->in_ofs - sizeof conn->in.hdr == conn->in.hdr.size);
}

/* Puts the file descriptors that came with 'mh' into 'conn->in', or closes
 * them if they came with the payload, where none belong.  Returns false after
 * closing the connection if there were too many.
 *
 * The kernel sets MSG_CTRUNC if there were more than we gave it room for, and
 * also if it could not install as many as there was room for because we have
 * too many open files. */
static bool
vhu_conn_read_fds(struct vhu_conn *conn, struct msghdr *mh)
{
    bool in_hdr = conn->in_ofs < sizeof conn->in.hdr;
    bool too_many = false;
    int n_got = 0;

    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(mh); cmsg;
         cmsg = CMSG_NXTHDR(mh, cmsg)) {
        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        for (size_t ofs = CMSG_LEN(0); ofs + sizeof(int) <= cmsg->cmsg_len;
             ofs += sizeof(int)) {
            int fd;

            memcpy(&fd, (char *) cmsg + ofs, sizeof fd);
            n_got++;
            if (!in_hdr) {
                close(fd);
            } else if (conn->in.n_fds >= VHOST_USER_MAX_FDS) {
                close(fd);
                too_many = true;
            } else {
                conn->in.fds[conn->in.n_fds++] = fd;
            }
        }
    }

    if (mh->msg_flags & MSG_CTRUNC && n_got < VHOST_USER_MAX_FDS) {
        vhu_conn_down(conn, xasprintf("too many open files: could not take "
                                      "the file descriptors of a message"));
        return false;
    } else if (mh->msg_flags & MSG_CTRUNC || too_many) {
        vhu_conn_down(conn, xasprintf("protocol error: more than %d file "
                                      "descriptors in a message",
                                      VHOST_USER_MAX_FDS));
        return false;
    }
    return true;
}

/* Output. */

/* Sends as much as possible of 'msg', of which '*ofs' bytes have been sent,
 * and advances '*ofs'.  Returns 0 if that was all, EAGAIN if something is
 * left, or another positive errno.
 *
 * The file descriptors go with the first byte. */
static int
vhu_conn_write(struct vhu_conn *conn, const struct vhu_msg *msg, size_t *ofs)
{
    const size_t hdr_len = sizeof msg->hdr;
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(VHOST_USER_MAX_FDS * sizeof(int))];
    } control;

    ovs_assert(msg->hdr.size <= VHU_MSG_MAX_PAYLOAD);
    while (*ofs < hdr_len + msg->hdr.size) {
        size_t hdr_ofs = MIN(*ofs, hdr_len);
        size_t payload_ofs = *ofs - hdr_ofs;
        struct iovec iov[] = {
            { .iov_base = CONST_CAST(uint8_t *, (const uint8_t *) &msg->hdr
                                                + hdr_ofs),
              .iov_len = hdr_len - hdr_ofs },
            { .iov_base = CONST_CAST(uint8_t *,
                                     &msg->payload.bytes[payload_ofs]),
              .iov_len = msg->hdr.size - payload_ofs },
        };
        struct msghdr mh = { .msg_iov = iov, .msg_iovlen = ARRAY_SIZE(iov) };
        ssize_t n;

        if (!*ofs && msg->n_fds) {
            size_t len = msg->n_fds * sizeof msg->fds[0];
            struct cmsghdr *cmsg = &control.align;

            memset(&control, 0, sizeof control);
            cmsg->cmsg_level = SOL_SOCKET;
            cmsg->cmsg_type = SCM_RIGHTS;
            cmsg->cmsg_len = CMSG_LEN(len);
            memcpy(CMSG_DATA(cmsg), msg->fds, len);
            mh.msg_control = &control;
            mh.msg_controllen = CMSG_SPACE(len);
        }

        n = sendmsg(conn->fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0) {
            *ofs += n;
        } else if (errno != EINTR) {
            return errno == EWOULDBLOCK ? EAGAIN : errno;
        }
    }
    return 0;
}

/* Puts 'msg', of which 'ofs' bytes have been sent, at the end of the queue.
 * Closes the connection if the queue is full. */
static void
vhu_conn_enqueue(struct vhu_conn *conn, const struct vhu_msg *msg, size_t ofs)
{
    struct vhu_conn_out *out;

    if (conn->n_out >= VHU_CONN_MAX_QUEUE) {
        vhu_conn_down(conn, xasprintf("peer does not read what we send: %d "
                                      "messages wait", VHU_CONN_MAX_QUEUE));
        return;
    }

    out = xmalloc(sizeof *out);
    out->msg = *msg;
    out->ofs = ofs;
    for (int i = 0; i < msg->n_fds; i++) {
        out->msg.fds[i] = fcntl(msg->fds[i], F_DUPFD_CLOEXEC, 0);
    }
    ovs_list_push_back(&conn->out, &out->node);
    if (!conn->n_out++) {
        conn->out_deadline = time_msec() + VHU_CONN_MSG_TIMEOUT;
    }
}

/* Sends what is queued. */
static void
vhu_conn_flush(struct vhu_conn *conn)
{
    while (conn->n_out) {
        struct vhu_conn_out *out
            = CONTAINER_OF(ovs_list_front(&conn->out), struct vhu_conn_out,
                           node);
        int error = vhu_conn_write(conn, &out->msg, &out->ofs);

        if (!error) {
            vhu_conn_pop_out(conn);
            conn->out_deadline = time_msec() + VHU_CONN_MSG_TIMEOUT;
        } else if (error != EAGAIN) {
            vhu_conn_lost(conn, error);
        } else {
            if (time_msec() >= conn->out_deadline) {
                vhu_conn_down(conn, xasprintf(
                    "deadline missed: peer did not take a reply within %d ms",
                    VHU_CONN_MSG_TIMEOUT));
            }
            return;
        }
    }
}

/* Removes the first message from the queue. */
static void
vhu_conn_pop_out(struct vhu_conn *conn)
{
    struct vhu_conn_out *out
        = CONTAINER_OF(ovs_list_pop_front(&conn->out), struct vhu_conn_out,
                       node);

    vhu_msg_uninit(&out->msg);
    free(out);
    conn->n_out--;
}
