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

#ifndef VHU_BACKEND_IMPL_H
#define VHU_BACKEND_IMPL_H 1

/* Inside the back-end role
 * ========================
 *
 * What vhu-backend.c, which has the connection, most handlers and the replies,
 * and vhu-backend-mem.c, which has the handlers of the messages about memory,
 * share. */

#include <stdbool.h>

#include "openvswitch/compiler.h"
#include "openvswitch/token-bucket.h"
#include "vhu-backend.h"
#include "vhu-msg.h"

struct vhu_backend {
    struct vhu_dev *dev;
    struct vhu_conn *conn;
    unsigned int seqno;         /* Of 'conn', when last looked at. */
    struct token_bucket tokens;
    unsigned int debt;          /* Tokens to pay before the next message. */
    struct vhu_trace *trace;    /* The last messages. */

    char *fault;                /* Why we closed the last connection, until
                                 * the port is up again, or null. */
    char *reason;               /* For vhu_backend_get_reason(). */

    /* State of the connection. */
    int channel_fd;             /* SET_BACKEND_REQ_FD, or -1.  We have nothing
                                 * to say yet. */
};

/* A request while it is being handled. */
struct vhu_request {
    struct vhu_backend *backend;
    struct vhu_msg *msg;        /* Its form is right. */
    const char *name;
    struct vhu_vring *vring;    /* The one that it names. */
    struct vhu_msg reply;       /* A handler puts the payload in. */
    bool mem_changed;           /* The memory table was replaced. */
    char *problem;              /* Why it is refused, for an operator, or
                                 * null. */
};

/* Handles a request.  Returns 0, or a positive errno to refuse it. */
typedef int vhu_backend_handler(struct vhu_dev *, struct vhu_request *);

/* The handlers, in the order of the specification, and where each request has
 * the index of the vring that it names: see "enum vhu_vring_ref". */
#define VHU_BACKEND_HANDLERS                                        \
    HANDLER(GET_FEATURES, get_features, NO_VRING)                   \
    HANDLER(SET_FEATURES, set_features, NO_VRING)                   \
    HANDLER(SET_OWNER, ignore, NO_VRING)                            \
    HANDLER(RESET_OWNER, ignore, NO_VRING)                          \
    HANDLER(SET_MEM_TABLE, set_mem_table, NO_VRING)                 \
    HANDLER(SET_LOG_BASE, set_log_base, NO_VRING)                   \
    HANDLER(SET_LOG_FD, ignore, NO_VRING)                           \
    HANDLER(SET_VRING_NUM, set_vring_num, VRING_STATE)              \
    HANDLER(SET_VRING_ADDR, set_vring_addr, VRING_ADDR)             \
    HANDLER(SET_VRING_BASE, set_vring_base, VRING_STATE)            \
    HANDLER(GET_VRING_BASE, get_vring_base, VRING_STATE)            \
    HANDLER(SET_VRING_KICK, set_vring_kick, VRING_FD)               \
    HANDLER(SET_VRING_CALL, set_vring_call, VRING_FD)               \
    HANDLER(SET_VRING_ERR, set_vring_err, VRING_FD)                 \
    HANDLER(GET_PROTOCOL_FEATURES, get_protocol_features, NO_VRING) \
    HANDLER(SET_PROTOCOL_FEATURES, set_protocol_features, NO_VRING) \
    HANDLER(GET_QUEUE_NUM, get_queue_num, NO_VRING)                 \
    HANDLER(SET_VRING_ENABLE, set_vring_enable, VRING_STATE)        \
    HANDLER(SEND_RARP, send_rarp, NO_VRING)                         \
    HANDLER(NET_SET_MTU, net_set_mtu, NO_VRING)                     \
    HANDLER(SET_BACKEND_REQ_FD, set_backend_req_fd, NO_VRING)       \
    HANDLER(RESET_DEVICE, reset_device, NO_VRING)                   \
    HANDLER(GET_MAX_MEM_SLOTS, get_max_mem_slots, NO_VRING)         \
    HANDLER(ADD_MEM_REG, add_mem_reg, NO_VRING)                     \
    HANDLER(REM_MEM_REG, rem_mem_reg, NO_VRING)                     \
    HANDLER(SET_STATUS, set_status, NO_VRING)                       \
    HANDLER(GET_STATUS, get_status, NO_VRING)

#define HANDLER(NAME, FUNCTION, REF) \
    vhu_backend_handler vhu_backend_##FUNCTION;
VHU_BACKEND_HANDLERS
#undef HANDLER

/* Logs why 'req' is refused, with the phrase that 'format' makes, and keeps
 * that for the reply.  Returns 'error'. */
int vhu_refuse(struct vhu_request *req, int error, const char *format, ...)
    OVS_PRINTF_FORMAT(3, 4);

/* Checks whether the dirty log, if there is one, is large enough for 'mem',
 * which may be null, and the used rings, before it is written to.  Returns 0
 * if so.  Otherwise refuses 'req' with EINVAL if a vring runs; if none does it
 * forgets the log, which may be that of an earlier migration, and returns
 * 0. */
int vhu_backend_check_log(struct vhu_request *req, const struct vhu_mem *mem);

#endif /* vhu-backend-impl.h */
