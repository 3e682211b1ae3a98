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

#ifndef VHU_STREAM_H
#define VHU_STREAM_H 1

/* vhost-user messages over a socket
 * =================================
 *
 * A stream takes whole messages from a connected socket, however they were
 * cut, and gives whole messages to it, however little it takes at once.  It
 * never blocks and holds one message of input and a short queue of output.
 *
 *
 * Deadlines and floods
 * --------------------
 *
 * A peer has VHU_STREAM_TIMEOUT milliseconds to finish a message that it has
 * begun and to take one that we have queued.  One that sends without a pause
 * gets VHU_STREAM_BUDGET messages between two calls of vhu_stream_run(), so
 * that a thread that serves many streams comes round to all of them.  File
 * descriptors that the kernel had to drop are an error.
 *
 *
 * Errors
 * ------
 *
 * A function that fails with anything but EAGAIN stores a phrase for an
 * operator in '*reasonp', which the caller must free.  After that the stream
 * can only be destroyed.
 *
 *
 * Threads
 * -------
 *
 * A stream belongs to one thread. */

#include <stdbool.h>

struct vhu_msg;
struct vhu_stream;

#define VHU_STREAM_TIMEOUT 1000         /* ms */
#define VHU_STREAM_BUDGET 64            /* Messages. */
#define VHU_STREAM_MAX_QUEUE 64         /* Messages. */

/* Returns a new stream on socket 'fd', which it takes over.  Flags of the
 * socket are left alone: others may share it. */
struct vhu_stream *vhu_stream_create(int fd);

/* Closes the socket.  'stream' may be NULL. */
void vhu_stream_destroy(struct vhu_stream *stream);

/* Sends what is queued and opens a new budget.  Returns 0 or a positive
 * errno. */
int vhu_stream_run(struct vhu_stream *stream, char **reasonp);

/* Arranges for poll_block() to wake up when vhu_stream_run() or
 * vhu_stream_recv() has something to do. */
void vhu_stream_wait(struct vhu_stream *stream);

/* Takes the next message into '*msg', which the caller must give to
 * vhu_msg_uninit().  A payload above VHU_MSG_MAX_PAYLOAD bytes has been thrown
 * away, one above VHU_MSG_MAX_SKIP is an error.
 *
 * Returns 0, EAGAIN if no message is complete yet or the budget is used up, or
 * another positive errno.  '*msg' is initialized only when 0 is returned. */
int vhu_stream_recv(struct vhu_stream *stream, struct vhu_msg *msg,
                    char **reasonp);

/* Sends 'msg' with its file descriptors, now or later and in order.  'msg'
 * stays the caller's.  Returns 0 or a positive errno. */
int vhu_stream_send(struct vhu_stream *stream, const struct vhu_msg *msg,
                    char **reasonp);

/* Returns true if 'stream' is of no use: the peer has gone, which may not have
 * been read yet, or has not sent one message in VHU_STREAM_TIMEOUT
 * milliseconds. */
bool vhu_stream_is_abandoned(const struct vhu_stream *stream);

#endif /* vhu-stream.h */
