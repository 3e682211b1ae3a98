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
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "openvswitch/dynamic-string.h"
#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "random.h"
#include "timeval.h"
#include "util.h"
#include "vhu-sock.h"
#include "vhu-stream.h"
#include "vhu-watch.h"

VLOG_DEFINE_THIS_MODULE(vhu_conn);

/* A connection that ends sooner than this counts as a failed attempt. */
#define VHU_CONN_STABLE 2000            /* ms */

/* The longest pause after one that worked until the peer closed it, which may
 * have been restarted. */
#define VHU_CONN_MAX_WORKED 100         /* ms */

/* How often a server looks whether its socket still exists. */
#define VHU_CONN_CHECK_INTERVAL 1000    /* ms */

/* Later attempts take place at multiples of this time, so that many ports
 * share one wake-up of the thread.  The checks above do as well. */
#define VHU_CONN_TRY_TICK 100           /* ms */

/* Connections that a server accepts at most in one run, most of them to be
 * closed at once. */
#define VHU_CONN_MAX_ACCEPTS 16

enum vhu_conn_kind {
    VHU_CONN_KIND_CLIENT,
    VHU_CONN_KIND_SERVER,
    VHU_CONN_KIND_FD,           /* vhu_conn_create_fd(). */
};

struct vhu_conn {
    char *name;                 /* Of the port, for the log. */
    enum vhu_conn_kind kind;
    struct vhu_conn_config config; /* With a copy of 'path'. */
    struct vlog_rate_limit rl;  /* One a connection, so that a port that comes
                                 * and goes does not silence the others. */

    struct vhu_stream *stream;  /* The connection, or null. */
    unsigned int seqno;         /* vhu_conn_get_seqno(). */
    unsigned int run_seqno;     /* Value at the end of vhu_conn_run(). */
    unsigned int n_connects;
    long long int since;        /* vhu_conn_get_since(). */
    bool works;                 /* vhu_conn_set_works(). */
    unsigned int n_failed;      /* Connections in a row that the peer closed
                                 * soon and over which nothing worked. */

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
static long long int vhu_conn_next_check(void);
static void vhu_conn_listen(struct vhu_conn *);
static void vhu_conn_set_waiting(struct vhu_conn *);
static void vhu_conn_accept(struct vhu_conn *);
static void vhu_conn_attempt_failed(struct vhu_conn *, int error,
                                    char *reason);
static void vhu_conn_raise_penalty(struct vhu_conn *, int max);
static long long int vhu_conn_next_attempt(const struct vhu_conn *);

static const char *vhu_conn_peer(const struct vhu_conn *);
static enum vlog_level vhu_conn_level(const struct vhu_conn *);
static void vhu_conn_up(struct vhu_conn *, int fd);
static void vhu_conn_lost(struct vhu_conn *, char *reason);
static void vhu_conn_down(struct vhu_conn *, char *reason);
static void vhu_conn_down__(struct vhu_conn *, char *reason, bool restarts);
static void vhu_conn_set_status(struct vhu_conn *, enum vlog_level,
                                char *status);
static void vhu_conn_update_reason(struct vhu_conn *);

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
    conn->since = time_msec();
    conn->backoff = VHU_CONN_MIN_BACKOFF;
    return conn;
}

void
vhu_conn_destroy(struct vhu_conn *conn)
{
    if (conn) {
        if (conn->stream) {
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
vhu_conn_set_owner(struct vhu_conn *conn, mode_t socket_mode, uid_t uid,
                   gid_t gid)
{
    conn->config.socket_mode = socket_mode;
    conn->config.uid = uid;
    conn->config.gid = gid;
    if (conn->listener) {
        char *reason;
        int error;

        error = vhu_listener_set_owner(conn->listener, socket_mode, uid, gid,
                                       &reason);
        if (error) {
            vhu_listener_close(conn->listener);
            conn->listener = NULL;
            vhu_conn_attempt_failed(conn, error, reason);
        }
    }
}

void
vhu_conn_run(struct vhu_conn *conn)
{
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
    if (conn->stream) {
        char *reason;

        if (vhu_stream_run(conn->stream, &reason)) {
            vhu_conn_lost(conn, reason);
        }
    }
    conn->run_seqno = conn->seqno;
}

void
vhu_conn_wait(struct vhu_conn *conn)
{
    if (conn->seqno != conn->run_seqno) {
        /* The caller has to see that. */
        poll_immediate_wake();
    }
    if (conn->stream) {
        vhu_stream_wait(conn->stream);
    }
    if (conn->listener) {
        poll_timer_wait_until(conn->next_check);
        vhu_watch_wait(conn->watch);
        if (time_msec() >= conn->not_before) {
            vhu_listener_wait(conn->listener);
        } else {
            poll_timer_wait_until(conn->not_before);
        }
    } else if (conn->watch && (!conn->stream
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
    return conn->stream != NULL;
}

int
vhu_conn_recv(struct vhu_conn *conn, struct vhu_msg *msg)
{
    char *reason;
    int error;

    if (!conn->stream) {
        return ENOTCONN;
    }
    error = vhu_stream_recv(conn->stream, msg, &reason);
    if (!error || error == EAGAIN) {
        return error;
    }
    vhu_conn_lost(conn, reason);
    return ENOTCONN;
}

int
vhu_conn_send(struct vhu_conn *conn, const struct vhu_msg *msg)
{
    char *reason;

    if (!conn->stream) {
        return ENOTCONN;
    }
    if (vhu_stream_send(conn->stream, msg, &reason)) {
        vhu_conn_lost(conn, reason);
        return ENOTCONN;
    }
    return 0;
}

void
vhu_conn_disconnect(struct vhu_conn *conn, const char *reason)
{
    if (conn->stream) {
        vhu_conn_down(conn, xstrdup(reason));
        if (!conn->penalty) {
            vhu_conn_raise_penalty(conn, VHU_CONN_MAX_BACKOFF);
        }
    }
}

void
vhu_conn_set_works(struct vhu_conn *conn)
{
    if (conn->stream && !conn->works) {
        conn->works = true;
        if (conn->n_failed >= VHU_CONN_MAX_FAILED) {
            VLOG_INFO_RL(&conn->rl, "%s: the %s has stayed this time",
                         conn->name, vhu_conn_peer(conn));
        }
        conn->n_failed = 0;
    }
}

void
vhu_conn_hold(struct vhu_conn *conn, int ms)
{
    conn->not_before = MAX(conn->not_before, time_msec() + ms);
}

const char *
vhu_conn_get_path(const struct vhu_conn *conn)
{
    return conn->config.path ? conn->config.path : "";
}

const char *
vhu_conn_get_reason(const struct vhu_conn *conn)
{
    return conn->stream ? NULL : conn->reason;
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

    if (conn->stream) {
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
        conn->next_check = vhu_conn_next_check();
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

static long long int
vhu_conn_next_check(void)
{
    long long int now = time_msec();

    return now - now % VHU_CONN_CHECK_INTERVAL + VHU_CONN_CHECK_INTERVAL;
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
        conn->next_check = vhu_conn_next_check();
        vhu_conn_set_waiting(conn);
    }
}

static void
vhu_conn_set_waiting(struct vhu_conn *conn)
{
    vhu_conn_set_status(conn, VLL_INFO,
                        xasprintf("waiting for a %s at %s",
                                  vhu_conn_peer(conn), conn->config.path));
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
            vhu_conn_raise_penalty(conn, VHU_CONN_MAX_BACKOFF);
            vhu_conn_set_status(conn, VLL_WARN, xasprintf(
                "cannot accept a connection at %s: %s", conn->config.path,
                ovs_strerror(error)));
            return;
        }

        if (conn->stream && vhu_stream_is_abandoned(conn->stream)) {
            vhu_conn_down(conn, xstrdup("replaced by another connection"));
        }
        if (!conn->stream) {
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

/* Backs off after an attempt to connect or to listen that failed because of
 * 'reason', which it takes over. */
static void
vhu_conn_attempt_failed(struct vhu_conn *conn, int error, char *reason)
{
    bool is_usual = (error == ENOENT || error == ECONNREFUSED
                     || error == EAGAIN);

    /* Many ports that wait for the same thing should not come at once, but
     * neither should each of them wake us at a time of its own. */
    conn->next_try = (time_msec() + conn->backoff
                      - random_range(conn->backoff / 4));
    if (conn->backoff >= 4 * VHU_CONN_TRY_TICK) {
        conn->next_try -= conn->next_try % VHU_CONN_TRY_TICK;
    }
    conn->backoff = MIN(2 * conn->backoff, VHU_CONN_MAX_BACKOFF);
    vhu_conn_set_status(conn, is_usual ? VLL_INFO : VLL_WARN, reason);
}

static void
vhu_conn_raise_penalty(struct vhu_conn *conn, int max)
{
    conn->penalty = (!conn->penalty ? VHU_CONN_MIN_BACKOFF
                     : MIN(2 * conn->penalty, max));
    conn->not_before = MAX(conn->not_before, time_msec() + conn->penalty);
}

static long long int
vhu_conn_next_attempt(const struct vhu_conn *conn)
{
    return MAX(conn->next_try, conn->not_before);
}

/* Up and down. */

static const char *
vhu_conn_peer(const struct vhu_conn *conn)
{
    return conn->config.peer ? conn->config.peer : "front-end";
}

/* Returns the level for the log that a connection came up or went down: it is
 * no news of a peer that always goes away. */
static enum vlog_level
vhu_conn_level(const struct vhu_conn *conn)
{
    return conn->n_failed < VHU_CONN_MAX_FAILED ? VLL_INFO : VLL_DBG;
}

static void
vhu_conn_up(struct vhu_conn *conn, int fd)
{
    struct ucred peer;
    socklen_t peer_len = sizeof peer;

    conn->stream = vhu_stream_create(fd);
    conn->seqno++;
    conn->n_connects++;
    conn->since = time_msec();
    conn->backoff = VHU_CONN_MIN_BACKOFF;
    conn->works = false;
    if (conn->n_failed < VHU_CONN_MAX_FAILED) {
        free(conn->logged);
        conn->logged = NULL;
    }

    if (conn->kind == VHU_CONN_KIND_FD
        || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len)) {
        VLOG_DBG("%s: connected", conn->name);
    } else {
        VLOG_RL(&conn->rl, vhu_conn_level(conn),
                "%s: connected at %s (peer is pid %d, uid %d)",
                conn->name, conn->config.path, (int) peer.pid,
                (int) peer.uid);
    }
}

/* The peer has closed the connection, or made us do so, because of 'reason',
 * which it takes over. */
static void
vhu_conn_lost(struct vhu_conn *conn, char *reason)
{
    if (!conn->works && time_msec() - conn->since < VHU_CONN_STABLE) {
        conn->n_failed++;
    } else {
        conn->n_failed = 0;
    }
    vhu_conn_down__(conn, reason, conn->works);
    if (conn->n_failed == VHU_CONN_MAX_FAILED) {
        VLOG_WARN_RL(&conn->rl, "%s: %s", conn->name, conn->reason);
    }
}

/* Closes the connection because of 'reason', which it takes over. */
static void
vhu_conn_down(struct vhu_conn *conn, char *reason)
{
    vhu_conn_down__(conn, reason, false);
}

/* The same; 'restarts' says that the peer is welcome to come back soon. */
static void
vhu_conn_down__(struct vhu_conn *conn, char *reason, bool restarts)
{
    long long int now = time_msec();

    vhu_stream_destroy(conn->stream);
    conn->stream = NULL;
    conn->seqno++;
    conn->next_try = now;
    if (now - conn->since < VHU_CONN_STABLE) {
        vhu_conn_raise_penalty(conn, (restarts ? VHU_CONN_MAX_WORKED
                                      : VHU_CONN_MAX_BACKOFF));
    } else {
        conn->penalty = 0;
    }
    conn->since = now;

    VLOG_RL(&conn->rl, vhu_conn_level(conn), "%s: disconnected%s%s: %s",
            conn->name, conn->config.path ? " from " : "",
            conn->config.path ? conn->config.path : "", reason);
    free(conn->last);
    conn->last = reason;
    if (conn->kind == VHU_CONN_KIND_CLIENT) {
        free(conn->status);
        conn->status = NULL;
    }
    vhu_conn_update_reason(conn);
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
    struct ds s = DS_EMPTY_INITIALIZER;

    if (conn->n_failed >= VHU_CONN_MAX_FAILED) {
        ds_put_format(&s, "the %s closes each connection before anything "
                      "starts (does it need a feature that we do not offer? "
                      "its log may say so); ", vhu_conn_peer(conn));
    }
    if (conn->status) {
        ds_put_cstr(&s, conn->status);
    }
    if (conn->last) {
        ds_put_format(&s, "%s%s", conn->status ? "; last connection: " : "",
                      conn->last);
    }
    free(conn->reason);
    conn->reason = ds_steal_cstr(&s);
}
