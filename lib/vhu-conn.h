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

#ifndef VHU_CONN_H
#define VHU_CONN_H 1

/* vhost-user connection
 * =====================
 *
 * One Unix domain socket of one port: it listens or connects, reconnects for
 * ever, takes whole messages in and sends whole messages out, and never
 * blocks.  It knows nothing of what the messages mean.
 *
 * Either end of the protocol may be the client or the server of the socket
 * ("Introduction"); a client retries as soon as something appears at the path
 * (inotify) and with a back-off of VHU_CONN_MIN_BACKOFF to
 * VHU_CONN_MAX_BACKOFF milliseconds otherwise.  A server has one live
 * connection at most: a further one is accepted and closed at once.
 *
 *
 * Use
 * ---
 *
 *    vhu_conn_run(conn);
 *    if (vhu_conn_get_seqno(conn) != last_seqno) {
 *        ...connected or disconnected since: reset the state of the role...
 *    }
 *    while (!vhu_conn_recv(conn, &msg)) {
 *        ...
 *        vhu_msg_uninit(&msg);
 *    }
 *    vhu_conn_wait(conn);
 *
 *
 * Deadlines and floods
 * --------------------
 *
 * A peer that does not finish a message, does not take its replies, or sends
 * more file descriptors than a message may carry is disconnected, and one that
 * sends without a pause gets no more than its share: see vhu-stream.h.  A
 * connection that failed soon after it came up is backed off like one that
 * could not be made, or for 100 ms at most if it worked until the peer closed
 * it.
 *
 * A connection whose peer has gone, or has not sent one message in
 * VHU_STREAM_TIMEOUT milliseconds, gives way to a new one: whoever connects
 * to a server and says nothing cannot keep the front-end out.
 *
 *
 * Threads
 * -------
 *
 * A connection belongs to one thread, the control thread in the switch.  The
 * functions that return strings return them for that thread only. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct vhu_conn;
struct vhu_msg;

#define VHU_CONN_MIN_BACKOFF 10         /* ms */
#define VHU_CONN_MAX_BACKOFF 1000       /* ms */

enum vhu_conn_mode {
    VHU_CONN_CLIENT,            /* We connect. */
    VHU_CONN_SERVER,            /* We listen. */
};

struct vhu_conn_config {
    enum vhu_conn_mode mode;
    const char *path;           /* Of any length that the file system takes,
                                 * also above sizeof sun_path. */
    const char *peer;           /* Who is to be at the other end, for people:
                                 * "back-end"; null for "front-end".  A
                                 * constant. */

    /* Server mode only.  The socket appears at 'path' with these set: it is
     * made under a temporary name in the same directory and renamed.  An
     * existing file at 'path' is replaced only if it is a socket at which
     * nobody listens and that belongs to our user or to 'uid'; anything else
     * is an error that is retried. */
    mode_t socket_mode;         /* Permission bits, or 0 for the default given
                                 * by the umask. */
    uid_t uid;                  /* (uid_t) -1 to leave it. */
    gid_t gid;                  /* (gid_t) -1 to leave it. */
};

/* Returns a new connection for the port named 'name' (copied, for the log and
 * nothing else), with a copy of '*config'.  Nothing happens before
 * vhu_conn_run(). */
struct vhu_conn *vhu_conn_create(const char *name,
                                 const struct vhu_conn_config *config);

/* Returns a connection for the port named 'name' that is already there on
 * socket 'fd', which it takes over, and does not come back when it is lost.
 * For tests and for the back-end channel. */
struct vhu_conn *vhu_conn_create_fd(const char *name, int fd);

/* Closes everything.  A server removes its socket from the file system if it
 * is still the one that it made (same device and inode).  'conn' may be
 * NULL. */
void vhu_conn_destroy(struct vhu_conn *conn);

/* Gives the socket of server 'conn' other permissions and another owner, with
 * arguments as in "struct vhu_conn_config".  The current connection stays. */
void vhu_conn_set_owner(struct vhu_conn *conn, mode_t socket_mode, uid_t uid,
                        gid_t gid);

/* Does what is due: connects, accepts, sends queued replies, watches the
 * deadlines. */
void vhu_conn_run(struct vhu_conn *conn);

/* Arranges for poll_block() to wake up when vhu_conn_run() or vhu_conn_recv()
 * has something to do. */
void vhu_conn_wait(struct vhu_conn *conn);

/* Returns a number that changes whenever the connection comes up or goes
 * down.  Odd while it is up. */
unsigned int vhu_conn_get_seqno(const struct vhu_conn *conn);

bool vhu_conn_is_connected(const struct vhu_conn *conn);

/* Takes the next message into '*msg', which the caller must give to
 * vhu_msg_uninit().  Its payload is complete: 'hdr.size' bytes, but if that
 * is above VHU_MSG_MAX_PAYLOAD the payload has been read and thrown away
 * (vhu_msg_check() will refuse it); above VHU_MSG_MAX_SKIP the connection is
 * closed instead.
 *
 * Returns 0, EAGAIN if no message is complete yet or the peer has had its
 * share, or ENOTCONN if there is no connection (any more).  '*msg' is
 * initialized only when 0 is returned. */
int vhu_conn_recv(struct vhu_conn *conn, struct vhu_msg *msg);

/* Sends 'msg' with its file descriptors, now or, if the socket is full, later
 * and in order.  'msg' stays the caller's.
 *
 * Returns 0 or ENOTCONN.  If the peer leaves more than VHU_STREAM_MAX_QUEUE
 * messages waiting the connection is closed. */
int vhu_conn_send(struct vhu_conn *conn, const struct vhu_msg *msg);

/* Closes the current connection, if any, because of 'reason', a phrase like
 * "protocol error: bad SET_VRING_NUM" that is kept for
 * vhu_conn_get_reason().  The next attempt is backed off. */
void vhu_conn_disconnect(struct vhu_conn *conn, const char *reason);

/* Says that something works over the current connection, so that its end is
 * no failure.  Without that, VHU_CONN_MAX_FAILED connections in a row that the
 * peer closes soon are one warning, and a part of vhu_conn_get_reason(): QEMU
 * does so when it misses a feature that its guest has. */
void vhu_conn_set_works(struct vhu_conn *conn);
#define VHU_CONN_MAX_FAILED 3

/* Makes no attempt to connect, and takes no connection, in the next 'ms'
 * milliseconds, whatever appears at the path: for a peer with which more went
 * wrong than the connection. */
void vhu_conn_hold(struct vhu_conn *conn, int ms);

/* Returns the path, or "" for a connection made by vhu_conn_create_fd(). */
const char *vhu_conn_get_path(const struct vhu_conn *conn);

/* Returns why there is no connection, in words for an operator, with path,
 * owner and mode where permission was refused:
 *
 *    "nobody listens at /run/vm0.sock (no such file)"
 *    "connect to /run/vm0.sock: permission denied (socket is 0755 qemu:qemu,
 *     we are openvswitch:openvswitch)"
 *    "waiting for a front-end at /run/openvswitch/vm0"
 *
 * followed by how the last connection ended, if there was one:
 *
 *    "waiting for a front-end at /run/openvswitch/vm0; last connection:
 *     protocol error: bad SET_VRING_NUM"
 *
 * NULL while connected. */
const char *vhu_conn_get_reason(const struct vhu_conn *conn);

/* Returns the monotonic time, in ms as time_msec() has it, of the last change
 * between connected and not connected. */
long long int vhu_conn_get_since(const struct vhu_conn *conn);

/* Returns the number of connections made so far. */
unsigned int vhu_conn_get_n_connects(const struct vhu_conn *conn);

#endif /* vhu-conn.h */
