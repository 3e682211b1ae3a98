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

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "openvswitch/list.h"
#include "openvswitch/poll-loop.h"
#include "timeval.h"
#include "util.h"
#include "vhu-msg.h"

/* A message, or the rest of one, that the socket did not take yet. */
struct vhu_stream_out {
    struct ovs_list node;       /* In 'out' of struct vhu_stream. */
    struct vhu_msg msg;         /* Owns copies of the file descriptors. */
    size_t ofs;                 /* Bytes sent. */
};

struct vhu_stream {
    int fd;
    long long int since;        /* When it was created. */

    /* Input.  'in' owns the file descriptors that have come so far. */
    struct vhu_msg in;
    size_t in_ofs;              /* Bytes of header and payload that have come.
                                 */
    long long int in_deadline;  /* For the rest, if 'in_ofs' is nonzero. */
    uint64_t n_in;              /* Whole messages so far. */
    int budget;                 /* Messages to deliver until the next run. */

    /* Output. */
    struct ovs_list out;        /* Contains "struct vhu_stream_out"s. */
    size_t n_out;
    long long int out_deadline; /* For the first one in 'out'. */
};

static char *vhu_stream_explain(const struct vhu_stream *, int error);

static int vhu_stream_read(struct vhu_stream *, char **reasonp);
static int vhu_stream_read_fds(struct vhu_stream *, struct msghdr *,
                               char **reasonp);
static bool vhu_stream_in_is_whole(const struct vhu_stream *);
static struct iovec vhu_stream_in_iov(struct vhu_stream *, void *skipped,
                                      size_t size);

static int vhu_stream_write(struct vhu_stream *, const struct vhu_msg *,
                            size_t *ofs);
static int vhu_stream_enqueue(struct vhu_stream *, const struct vhu_msg *,
                              size_t ofs, char **reasonp);
static void vhu_stream_pop_out(struct vhu_stream *);

struct vhu_stream *
vhu_stream_create(int fd)
{
    struct vhu_stream *stream = xzalloc(sizeof *stream);

    stream->fd = fd;
    stream->since = time_msec();
    vhu_msg_init(&stream->in, 0);
    stream->budget = VHU_STREAM_BUDGET;
    ovs_list_init(&stream->out);
    return stream;
}

void
vhu_stream_destroy(struct vhu_stream *stream)
{
    if (stream) {
        close(stream->fd);
        vhu_msg_uninit(&stream->in);
        while (stream->n_out) {
            vhu_stream_pop_out(stream);
        }
        free(stream);
    }
}

int
vhu_stream_run(struct vhu_stream *stream, char **reasonp)
{
    stream->budget = VHU_STREAM_BUDGET;
    while (stream->n_out) {
        struct vhu_stream_out *out
            = CONTAINER_OF(ovs_list_front(&stream->out),
                           struct vhu_stream_out, node);
        int error = vhu_stream_write(stream, &out->msg, &out->ofs);

        if (!error) {
            vhu_stream_pop_out(stream);
            stream->out_deadline = time_msec() + VHU_STREAM_TIMEOUT;
        } else if (error != EAGAIN) {
            *reasonp = vhu_stream_explain(stream, error);
            return error;
        } else if (time_msec() >= stream->out_deadline) {
            *reasonp = xasprintf("deadline missed: peer did not take a reply "
                                 "within %d ms", VHU_STREAM_TIMEOUT);
            return ETIMEDOUT;
        } else {
            break;
        }
    }
    return 0;
}

void
vhu_stream_wait(struct vhu_stream *stream)
{
    if (!stream->budget) {
        poll_immediate_wake();
    }
    poll_fd_wait(stream->fd, POLLIN | (stream->n_out ? POLLOUT : 0));
    if (stream->in_ofs) {
        poll_timer_wait_until(stream->in_deadline);
    }
    if (stream->n_out) {
        poll_timer_wait_until(stream->out_deadline);
    }
}

/* The deadline counts only when the socket has been read until it was empty:
 * if we were away for long, that is not the peer's fault. */
int
vhu_stream_recv(struct vhu_stream *stream, struct vhu_msg *msg,
                char **reasonp)
{
    if (!stream->budget) {
        return EAGAIN;
    }

    while (!vhu_stream_in_is_whole(stream)) {
        int error = vhu_stream_read(stream, reasonp);

        if (error == EAGAIN && stream->in_ofs
            && time_msec() >= stream->in_deadline) {
            *reasonp = xasprintf("deadline missed: peer did not finish a "
                                 "message within %d ms", VHU_STREAM_TIMEOUT);
            return ETIMEDOUT;
        } else if (error) {
            return error;
        }
    }

    *msg = stream->in;
    vhu_msg_init(&stream->in, 0);
    stream->in_ofs = 0;
    stream->n_in++;
    stream->budget--;
    return 0;
}

int
vhu_stream_send(struct vhu_stream *stream, const struct vhu_msg *msg,
                char **reasonp)
{
    size_t ofs = 0;

    if (!stream->n_out) {
        int error = vhu_stream_write(stream, msg, &ofs);

        if (!error) {
            return 0;
        } else if (error != EAGAIN) {
            *reasonp = vhu_stream_explain(stream, error);
            return error;
        }
    }
    return vhu_stream_enqueue(stream, msg, ofs, reasonp);
}

bool
vhu_stream_is_abandoned(const struct vhu_stream *stream)
{
    struct pollfd pfd = { .fd = stream->fd, .events = POLLRDHUP };

    return ((poll(&pfd, 1, 0) == 1
             && pfd.revents & (POLLRDHUP | POLLHUP | POLLERR))
            || (!stream->n_in
                && time_msec() >= stream->since + VHU_STREAM_TIMEOUT));
}

/* Returns why an 'error' of the socket, or its end if that is 0, ends the
 * connection. */
static char *
vhu_stream_explain(const struct vhu_stream *stream, int error)
{
    long long int ms = time_msec() - stream->since;

    return (!error || error == EPIPE || error == ECONNRESET
            ? xasprintf("peer closed the connection after %lld.%lld s",
                        ms / 1000, ms % 1000 / 100)
            : xasprintf("connection failed: %s", ovs_strerror(error)));
}

/* Input. */

/* Reads once.  Returns 0 if there was something, EAGAIN if not, or another
 * positive errno with the reason in '*reasonp'. */
static int
vhu_stream_read(struct vhu_stream *stream, char **reasonp)
{
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(VHOST_USER_MAX_FDS * sizeof(int))];
    } control;
    uint8_t skipped[512];
    struct iovec iov = vhu_stream_in_iov(stream, skipped, sizeof skipped);
    struct msghdr mh = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof control,
    };
    int error;
    ssize_t n;

    do {
        n = recvmsg(stream->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return EAGAIN;
    } else if (n <= 0) {
        error = n < 0 ? errno : 0;
        *reasonp = vhu_stream_explain(stream, error);
        return error ? error : ECONNRESET;
    }

    error = vhu_stream_read_fds(stream, &mh, reasonp);
    if (error) {
        return error;
    }
    if (!stream->in_ofs) {
        stream->in_deadline = time_msec() + VHU_STREAM_TIMEOUT;
    }
    stream->in_ofs += n;
    if (stream->in_ofs == sizeof stream->in.hdr
        && stream->in.hdr.size > VHU_MSG_MAX_SKIP) {
        *reasonp = xasprintf("protocol error: message %"PRIu32" announces "
                             "%"PRIu32" bytes of payload",
                             stream->in.hdr.request, stream->in.hdr.size);
        return EPROTO;
    }
    return 0;
}

/* Returns where the next bytes belong: into the header, into the payload or,
 * if that is too large, into the 'size' bytes in 'skipped'. */
static struct iovec
vhu_stream_in_iov(struct vhu_stream *stream, void *skipped, size_t size)
{
    const size_t hdr_len = sizeof stream->in.hdr;
    size_t ofs = stream->in_ofs;
    struct iovec iov;

    if (ofs < hdr_len) {
        iov.iov_base = (uint8_t *) &stream->in.hdr + ofs;
        iov.iov_len = hdr_len - ofs;
    } else {
        ofs -= hdr_len;
        iov.iov_len = stream->in.hdr.size - ofs;
        if (stream->in.hdr.size <= VHU_MSG_MAX_PAYLOAD) {
            iov.iov_base = &stream->in.payload.bytes[ofs];
        } else {
            iov.iov_base = skipped;
            iov.iov_len = MIN(iov.iov_len, size);
        }
    }
    return iov;
}

static bool
vhu_stream_in_is_whole(const struct vhu_stream *stream)
{
    return (stream->in_ofs >= sizeof stream->in.hdr
            && stream->in_ofs - sizeof stream->in.hdr == stream->in.hdr.size);
}

/* Puts the file descriptors that came with 'mh' into 'stream->in', or closes
 * them if they came with the payload, where none belong.  Returns 0, or a
 * positive errno if there were too many.
 *
 * The kernel sets MSG_CTRUNC if there were more than we gave it room for, and
 * also if it could not install as many as there was room for because we have
 * too many open files. */
static int
vhu_stream_read_fds(struct vhu_stream *stream, struct msghdr *mh,
                    char **reasonp)
{
    bool in_hdr = stream->in_ofs < sizeof stream->in.hdr;
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
            } else if (stream->in.n_fds >= VHOST_USER_MAX_FDS) {
                close(fd);
                too_many = true;
            } else {
                stream->in.fds[stream->in.n_fds++] = fd;
            }
        }
    }

    if (mh->msg_flags & MSG_CTRUNC && n_got < VHOST_USER_MAX_FDS) {
        *reasonp = xstrdup("too many open files: could not take the file "
                           "descriptors of a message");
        return EMFILE;
    } else if (mh->msg_flags & MSG_CTRUNC || too_many) {
        *reasonp = xasprintf("protocol error: more than %d file descriptors "
                             "in a message", VHOST_USER_MAX_FDS);
        return EPROTO;
    }
    return 0;
}

/* Output. */

/* Sends as much as possible of 'msg', of which '*ofs' bytes have been sent,
 * and advances '*ofs'.  Returns 0 if that was all, EAGAIN if something is
 * left, or another positive errno.
 *
 * The file descriptors go with the first byte. */
static int
vhu_stream_write(struct vhu_stream *stream, const struct vhu_msg *msg,
                 size_t *ofs)
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

        n = sendmsg(stream->fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0) {
            *ofs += n;
        } else if (errno != EINTR) {
            return errno == EWOULDBLOCK ? EAGAIN : errno;
        }
    }
    return 0;
}

/* Puts 'msg', of which 'ofs' bytes have been sent, at the end of the queue.
 * Returns 0, or a positive errno if the queue is full. */
static int
vhu_stream_enqueue(struct vhu_stream *stream, const struct vhu_msg *msg,
                   size_t ofs, char **reasonp)
{
    struct vhu_stream_out *out;

    if (stream->n_out >= VHU_STREAM_MAX_QUEUE) {
        *reasonp = xasprintf("peer does not read what we send: %d messages "
                             "wait", VHU_STREAM_MAX_QUEUE);
        return ENOBUFS;
    }

    out = xmalloc(sizeof *out);
    out->msg = *msg;
    out->ofs = ofs;
    for (int i = 0; i < msg->n_fds; i++) {
        out->msg.fds[i] = fcntl(msg->fds[i], F_DUPFD_CLOEXEC, 0);
    }
    ovs_list_push_back(&stream->out, &out->node);
    if (!stream->n_out++) {
        stream->out_deadline = time_msec() + VHU_STREAM_TIMEOUT;
    }
    return 0;
}

/* Removes the first message from the queue. */
static void
vhu_stream_pop_out(struct vhu_stream *stream)
{
    struct vhu_stream_out *out
        = CONTAINER_OF(ovs_list_pop_front(&stream->out), struct vhu_stream_out,
                       node);

    vhu_msg_uninit(&out->msg);
    free(out);
    stream->n_out--;
}
