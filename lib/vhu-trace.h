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

#ifndef VHU_TRACE_H
#define VHU_TRACE_H 1

/* The last messages of a connection
 * =================================
 *
 * A "struct vhu_trace" remembers the last VHU_TRACE_SIZE messages that a port
 * received or sent, and when its connection came up and went down, so that an
 * operator can see how a port came to be as it is.  Both roles use it.
 *
 * It takes no memory before the first record, and at most about 96 KiB: of a
 * message only the first bytes of the payload are kept, of a reason the first
 * VHU_TRACE_MAX_TEXT bytes.
 *
 * Records are numbered from 0 on, so that a reader can ask for what is new.  A
 * trace that begins anew, in another process say, has another "id".
 *
 *
 * Threads
 * -------
 *
 * Control thread, in the switch: under the mutex of the port. */

#include <stdbool.h>
#include <stdint.h>

#include "vhost-user-spec.h"

struct json;
struct vhu_msg;
struct vhu_trace;

#define VHU_TRACE_SIZE 256
#define VHU_TRACE_MAX_TEXT 250

/* Who sent a message. */
enum vhu_trace_dir {
    VHU_TRACE_IN,               /* The peer. */
    VHU_TRACE_OUT,              /* We. */
};

/* Returns a new trace without records. */
struct vhu_trace *vhu_trace_create(void);

/* Frees 'trace', which may be null. */
void vhu_trace_destroy(struct vhu_trace *trace);

/* Records 'msg', which is a reply or acknowledgement if VHOST_USER_FLAG_REPLY
 * is set in it and a request otherwise.
 *
 * 'error' is 0 or a positive errno: why the request, or what a reply brought,
 * was refused on our side.  'why' says it in words, or is null.  Descriptors
 * that have been taken out of 'msg' count all the same. */
void vhu_trace_msg(struct vhu_trace *trace, enum vhu_trace_dir dir,
                   const struct vhu_msg *msg, int error, const char *why);

/* The same for a message on the back-end channel. */
void vhu_trace_channel_msg(struct vhu_trace *trace, enum vhu_trace_dir dir,
                           const struct vhu_msg *msg, int error,
                           const char *why);

/* Records that the connection came up or went down.  'text' says where or why,
 * or is null. */
void vhu_trace_connection(struct vhu_trace *trace, bool connected,
                          const char *text);

/* Returns the records from number 'since' on, as far as they are still there,
 * as a new object:
 *
 *   id        number, see above
 *   next      number of the next record
 *   records   array of objects:
 *
 *     seqno       number of the record
 *     usec        wall-clock time, in microseconds since 1970
 *     type        "request", "reply", "connected" or "disconnected"
 *     text        what is in it, in words; or where or why (may be missing)
 *
 *   and of messages:
 *
 *     direction   "in" from the peer, or "out"
 *     name        as in the specification, "SET_VRING_NUM"
 *     channel     "back-end" on the back-end channel, else missing
 *     values      object with what is in it
 *     size        bytes of payload
 *     fds         number of file descriptors
 *     need_reply  true if it asks for an acknowledgement
 *     errno       number, 0 for success
 *     error       the same in words (missing if 0)
 *
 * A 'since' above the next number gives no records. */
struct json *vhu_trace_to_json(const struct vhu_trace *trace, uint64_t since);

#endif /* vhu-trace.h */
