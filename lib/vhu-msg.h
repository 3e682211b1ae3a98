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

#ifndef VHU_MSG_H
#define VHU_MSG_H 1

/* vhost-user messages
 * ===================
 *
 * A "struct vhu_msg" is one whole message of the protocol, with the file
 * descriptors that came with it or go with it.
 *
 *
 * Form and meaning
 * ----------------
 *
 * What the specification says of the form of a request (size of the payload,
 * number of file descriptors, the protocol feature that permits it, whether
 * the vring that it names must be stopped, what kind of reply it has) is in
 * one table, the policy.  vhu_msg_check() compares a message with it before
 * any handler runs, so that a handler may trust the size and the descriptors
 * that it gets.  What the values mean is the business of the handlers.
 *
 *
 * Ownership
 * ---------
 *
 * The file descriptors belong to the message until vhu_msg_take_fd() moves
 * one out.  vhu_msg_uninit() closes the rest, so that no error path needs to.
 *
 *
 * Threads
 * -------
 *
 * No function here keeps state: each may be called in any thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vhost-user-spec.h"

/* Largest payload of a request or reply that we implement. */
#define VHU_MSG_MAX_PAYLOAD sizeof(struct vhost_user_config)

/* Largest payload that is read and thrown away, so that a request that we do
 * not implement, or one of the wrong size, can be refused without closing
 * the connection.  Twice the largest payload in the specification. */
#define VHU_MSG_MAX_SKIP 4096

union vhu_payload {
    uint64_t u64;
    struct vhost_user_vring_state vring_state;
    struct vhost_user_vring_addr vring_addr;
    struct vhost_user_mem_table mem_table;
    struct vhost_user_single_mem_region mem_region;
    struct vhost_user_log log;
    struct vhost_user_config config;
    struct vhost_user_inflight inflight;
    uint8_t bytes[VHU_MSG_MAX_PAYLOAD];
};

struct vhu_msg {
    struct vhost_user_hdr hdr;
    union vhu_payload payload;  /* The first 'hdr.size' bytes count, at most
                                 * VHU_MSG_MAX_PAYLOAD; the rest is zero. */
    int fds[VHOST_USER_MAX_FDS]; /* -1 where taken. */
    int n_fds;
};

/* What answers a request. */
enum vhu_msg_reply {
    VHU_MSG_REPLY_ACK,          /* Only REPLY_ACK, if it was asked for. */
    VHU_MSG_REPLY_PAYLOAD,      /* A defined payload, always. */
};

/* What the specification says of the form of one request. */
struct vhu_msg_policy {
    const char *name;           /* Null if we do not implement it. */
    size_t min_size, max_size;  /* Bytes of payload. */
    size_t size_step;           /* If nonzero, the size must be 'min_size' plus
                                 * a multiple of this. */
    int min_fds, max_fds;
    uint64_t protocol_feature;  /* Must be negotiated, if nonzero: a mask of
                                 * one VIRTIO_BIT(VHOST_USER_PROTOCOL_F_*). */
    bool vring_stopped;         /* The vring that the payload names must be
                                 * stopped.  Checked by the role. */
    enum vhu_msg_reply reply;
};

/* Returns the policy of front-end request 'request', or NULL if we do not
 * implement it or no such request exists. */
const struct vhu_msg_policy *vhu_msg_policy(uint32_t request);

/* Returns the name of front-end request 'request' in the specification, for
 * example "SET_MEM_TABLE"; for one that the specification does not have, a
 * string like "request 77" (in a buffer private to the calling thread, valid
 * until its next call of this function). */
const char *vhu_msg_name(uint32_t request);

/* Initializes '*msg' as an empty message 'request' of the right version, with
 * all bytes zero, no payload and no file descriptors. */
void vhu_msg_init(struct vhu_msg *msg, uint32_t request);

/* Initializes 'reply' as a reply to 'request' without payload: same request,
 * VHOST_USER_FLAG_REPLY set, VHOST_USER_FLAG_NEED_REPLY clear. */
void vhu_msg_init_reply(struct vhu_msg *reply, const struct vhu_msg *request);

/* Sets the payload of 'msg' to 'x' and its size to 8. */
void vhu_msg_put_u64(struct vhu_msg *msg, uint64_t x);

/* Closes the file descriptors that 'msg' still owns. */
void vhu_msg_uninit(struct vhu_msg *msg);

/* Moves file descriptor 'i' out of 'msg' to the caller, who must close it.
 * Returns -1 if 'msg' has none at 'i' or it was taken before. */
int vhu_msg_take_fd(struct vhu_msg *msg, int i);

/* Returns true if the sender of request 'msg' wants an acknowledgement, and
 * 'protocol_features', those negotiated, permit it to.  That includes
 * requests that do not exist or that we do not implement, but none that has
 * a reply of its own: that reply is the only one.  The exception is
 * SET_LOG_BASE, whose own reply is empty: who asks for an acknowledgement of
 * it waits for its 8 bytes. */
bool vhu_msg_needs_ack(const struct vhu_msg *msg, uint64_t protocol_features);

/* Checks the form of request 'msg' against its policy, given the negotiated
 * 'protocol_features'.  'port' is the name of the port, for the log.
 *
 * Returns 0, EOPNOTSUPP if we do not implement the request or its protocol
 * feature was not negotiated, or EPROTO if its flags, size or number of file
 * descriptors is wrong.  An error has been logged, rate limited. */
int vhu_msg_check(const struct vhu_msg *msg, uint64_t protocol_features,
                  const char *port);

/* Front-end role: replies and requests from the back-end. */

/* Checks the form of 'reply', the next message that came after request
 * 'request' was sent: that it answers this request, its flags, its size and
 * its file descriptors.  'ack' says that the answer is an acknowledgement that
 * was asked for and not a reply that the request always has.
 *
 * Returns 0, or EPROTO with a newly allocated phrase in '*error'. */
int vhu_msg_check_reply(const struct vhu_msg *reply,
                        const struct vhost_user_hdr *request, bool ack,
                        char **error);

/* Returns true if front-end request 'request' always has a reply that
 * vhu_msg_check_reply() knows. */
bool vhu_msg_has_reply(uint32_t request);

/* Like vhu_msg_name(), for back-end requests. */
const char *vhu_msg_be_name(uint32_t request);

/* Like vhu_msg_check(), for back-end requests. */
int vhu_msg_be_check(const struct vhu_msg *msg, uint64_t protocol_features,
                     const char *port);

#endif /* vhu-msg.h */
