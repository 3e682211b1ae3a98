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

#ifndef VHU_BACKEND_H
#define VHU_BACKEND_H 1

/* Back-end role
 * =============
 *
 * A device, a connection, and the requests that come over it: one handler
 * each, in the order of the specification.  A handler records what the
 * front-end wants and returns 0 or a positive errno, at once;
 * vhu_dev_update() acts; vhu_backend_reply(), alone, answers.
 *
 *
 * What goes wrong
 * ---------------
 *
 * A request that fails is refused: with a negative acknowledgement if the
 * front-end asked for one, otherwise by closing the connection, since the
 * front-end would go on as if it had worked.  Either way one rate-limited
 * warning says what came and what was expected.  A request that has a reply of
 * its own cannot be refused with an acknowledgement: the connection is closed.
 * The vrings of a connection that is gone are stopped; the device starts from
 * a blank state when the next connection comes.
 *
 *
 * Floods
 * ------
 *
 * Each message costs tokens, those that replace the memory table more.  When a
 * port has none left its messages wait in the socket until it has; a
 * front-end that starts 128 queue pairs does not get there.
 *
 *
 * Threads
 * -------
 *
 * Control thread, see vhu-dev.h. */

#include <stdbool.h>
#include <stdint.h>

#include "vhu-dev.h"

struct ds;
struct vhu_conn;
struct vhu_conn_config;
struct vhu_trace;

/* Virtio features and protocol features of this implementation.  The offered
 * set of a port never shrinks between versions: a VM that negotiated a feature
 * could not reconnect. */
#define VHU_BACKEND_FEATURES                                    \
    (VIRTIO_BIT(VIRTIO_NET_F_MTU)                               \
     | VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF)                       \
     | VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ)                         \
     | VIRTIO_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE)                  \
     | VIRTIO_BIT(VIRTIO_NET_F_MQ)                              \
     | VIRTIO_BIT(VIRTIO_F_NOTIFY_ON_EMPTY)                     \
     | VIRTIO_BIT(VHOST_F_LOG_ALL)                              \
     | VIRTIO_BIT(VIRTIO_F_ANY_LAYOUT)                          \
     | VIRTIO_BIT(VIRTIO_F_INDIRECT_DESC)                       \
     | VIRTIO_BIT(VIRTIO_F_EVENT_IDX)                           \
     | VIRTIO_BIT(VHOST_USER_F_PROTOCOL_FEATURES)               \
     | VIRTIO_BIT(VIRTIO_F_VERSION_1)                           \
     | VIRTIO_BIT(VIRTIO_F_RING_PACKED)                         \
     | VIRTIO_BIT(VIRTIO_F_IN_ORDER))

#define VHU_BACKEND_PROTOCOL_FEATURES                           \
    (VIRTIO_BIT(VHOST_USER_PROTOCOL_F_MQ)                       \
     | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_LOG_SHMFD)              \
     | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_RARP)                   \
     | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK)              \
     | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_NET_MTU)                \
     | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ)            \
     | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_RESET_DEVICE)           \
     | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)    \
     | VIRTIO_BIT(VHOST_USER_PROTOCOL_F_STATUS))

struct vhu_backend;

/* Returns a new back-end for port 'name' that owns 'conn', offers the features
 * above and 'n_pairs' queue pairs, and calls 'ops' with 'aux'.  'conn' may be
 * null: no path is configured yet. */
struct vhu_backend *vhu_backend_create(const char *name,
                                       struct vhu_conn *conn,
                                       unsigned int n_pairs,
                                       const struct vhu_dev_ops *ops,
                                       void *aux);

/* Closes the connection, stops the vrings and frees 'backend', which may be
 * null.  No PMD thread may know its device any more. */
void vhu_backend_destroy(struct vhu_backend *backend);

/* Replaces the connection by 'conn' (may be null), which it takes over; what
 * ran over the old one is stopped. */
void vhu_backend_set_conn(struct vhu_backend *backend, struct vhu_conn *conn);

/* Handles what has come in, at most VHU_BACKEND_BURST messages so that other
 * ports get their turn, and whatever else is due. */
void vhu_backend_run(struct vhu_backend *backend);
void vhu_backend_wait(struct vhu_backend *backend);
#define VHU_BACKEND_BURST 64

/* Returns the device, which lives as long as 'backend'. */
struct vhu_dev *vhu_backend_get_dev(const struct vhu_backend *backend);

/* Returns the connection, valid until vhu_backend_set_conn(). */
struct vhu_conn *vhu_backend_get_conn(const struct vhu_backend *backend);

/* Returns the trace of the messages, which lives as long as 'backend'. */
const struct vhu_trace *vhu_backend_get_trace(const struct vhu_backend *);

/* Returns true if a front-end is connected and at least one queue pair
 * runs. */
bool vhu_backend_is_up(const struct vhu_backend *backend);

/* Returns why the port is not up, in words for an operator, or null if it is
 * up: that of the connection or of the device, with the protocol error that
 * made us close the last connection.  Valid until the next call. */
const char *vhu_backend_get_reason(struct vhu_backend *backend);

/* Closes the connection; a client connects again. */
void vhu_backend_disconnect(struct vhu_backend *backend, const char *reason);

#endif /* vhu-backend.h */
