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

#include "vhu-msg.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "openvswitch/vlog.h"
#include "ovs-thread.h"
#include "util.h"
#include "virtio-spec.h"

VLOG_DEFINE_THIS_MODULE(vhu_msg);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(20, 60);

/* Every request in the specification, implemented or not. */
static const char *const names[VHOST_USER_FE_REQ_MAX] = {
#define VHOST_USER_FE_REQ(NAME, NUMBER) [NUMBER] = #NAME,
    VHOST_USER_FE_REQS
#undef VHOST_USER_FE_REQ
};

/* For the name of a request that the specification does not have. */
enum { NAME_BUF_SIZE = 32 };
struct name_buf {
    char s[NAME_BUF_SIZE];
};
DEFINE_STATIC_PER_THREAD_DATA(struct name_buf, name_buf, { "" });

/* For requests whose payload has one fixed layout. */
#define VHU_PAYLOAD(TYPE) .min_size = sizeof(TYPE), .max_size = sizeof(TYPE)

/* For requests that a protocol feature permits. */
#define VHU_GATE(FEATURE) \
    .protocol_feature = VIRTIO_BIT(VHOST_USER_PROTOCOL_F_##FEATURE)

/* The requests that we implement, in the order of their numbers.
 *
 * GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES and SET_VRING_ENABLE belong to
 * feature bit 30, which we always offer.  The specification has the first two
 * before the bit is negotiated, and front-ends send the third before, too. */
static const struct vhu_msg_policy policies[VHOST_USER_FE_REQ_MAX] = {
    [VHOST_USER_GET_FEATURES] = {
        .name = "GET_FEATURES",
        .reply = VHU_MSG_REPLY_PAYLOAD,
    },
    [VHOST_USER_SET_FEATURES] = {
        .name = "SET_FEATURES",
        VHU_PAYLOAD(uint64_t),
    },
    [VHOST_USER_SET_OWNER] = {
        .name = "SET_OWNER",
    },
    [VHOST_USER_RESET_OWNER] = {
        .name = "RESET_OWNER",
    },

    /* One file descriptor a region, but the handler can say better than the
     * policy what it means if there is none. */
    [VHOST_USER_SET_MEM_TABLE] = {
        .name = "SET_MEM_TABLE",
        .min_size = offsetof(struct vhost_user_mem_table, regions),
        .max_size = sizeof(struct vhost_user_mem_table),
        .size_step = sizeof(struct vhost_user_mem_region),
        .max_fds = VHOST_USER_MAX_REGIONS,
    },
    [VHOST_USER_SET_LOG_BASE] = {
        .name = "SET_LOG_BASE",
        VHU_PAYLOAD(struct vhost_user_log),
        .min_fds = 1,
        .max_fds = 1,
        .protocol_feature = VIRTIO_BIT(VHOST_USER_PROTOCOL_F_LOG_SHMFD),
        .reply = VHU_MSG_REPLY_PAYLOAD,
    },
    [VHOST_USER_SET_LOG_FD] = {
        .name = "SET_LOG_FD",
        .min_fds = 1,
        .max_fds = 1,
    },
    [VHOST_USER_SET_VRING_NUM] = {
        .name = "SET_VRING_NUM",
        VHU_PAYLOAD(struct vhost_user_vring_state),
        .vring_stopped = true,
    },
    [VHOST_USER_SET_VRING_ADDR] = {
        .name = "SET_VRING_ADDR",
        VHU_PAYLOAD(struct vhost_user_vring_addr),
    },
    [VHOST_USER_SET_VRING_BASE] = {
        .name = "SET_VRING_BASE",
        VHU_PAYLOAD(struct vhost_user_vring_state),
        .vring_stopped = true,
    },
    [VHOST_USER_GET_VRING_BASE] = {
        .name = "GET_VRING_BASE",
        VHU_PAYLOAD(struct vhost_user_vring_state),
        .reply = VHU_MSG_REPLY_PAYLOAD,
    },

    /* No file descriptor if VHOST_USER_VRING_NOFD is set in the payload. */
    [VHOST_USER_SET_VRING_KICK] = {
        .name = "SET_VRING_KICK",
        VHU_PAYLOAD(uint64_t),
        .max_fds = 1,
    },
    [VHOST_USER_SET_VRING_CALL] = {
        .name = "SET_VRING_CALL",
        VHU_PAYLOAD(uint64_t),
        .max_fds = 1,
    },
    [VHOST_USER_SET_VRING_ERR] = {
        .name = "SET_VRING_ERR",
        VHU_PAYLOAD(uint64_t),
        .max_fds = 1,
    },
    [VHOST_USER_GET_PROTOCOL_FEATURES] = {
        .name = "GET_PROTOCOL_FEATURES",
        .reply = VHU_MSG_REPLY_PAYLOAD,
    },
    [VHOST_USER_SET_PROTOCOL_FEATURES] = {
        .name = "SET_PROTOCOL_FEATURES",
        VHU_PAYLOAD(uint64_t),
    },
    [VHOST_USER_GET_QUEUE_NUM] = {
        .name = "GET_QUEUE_NUM",
        VHU_GATE(MQ),
        .reply = VHU_MSG_REPLY_PAYLOAD,
    },
    [VHOST_USER_SET_VRING_ENABLE] = {
        .name = "SET_VRING_ENABLE",
        VHU_PAYLOAD(struct vhost_user_vring_state),
    },
    [VHOST_USER_SEND_RARP] = {
        .name = "SEND_RARP",
        VHU_PAYLOAD(uint64_t),
        VHU_GATE(RARP),
    },
    [VHOST_USER_NET_SET_MTU] = {
        .name = "NET_SET_MTU",
        VHU_PAYLOAD(uint64_t),
        VHU_GATE(NET_MTU),
    },
    [VHOST_USER_SET_BACKEND_REQ_FD] = {
        .name = "SET_BACKEND_REQ_FD",
        .min_fds = 1,
        .max_fds = 1,
        VHU_GATE(BACKEND_REQ),
    },
    [VHOST_USER_RESET_DEVICE] = {
        .name = "RESET_DEVICE",
        VHU_GATE(RESET_DEVICE),
    },
    [VHOST_USER_GET_MAX_MEM_SLOTS] = {
        .name = "GET_MAX_MEM_SLOTS",
        VHU_GATE(CONFIGURE_MEM_SLOTS),
        .reply = VHU_MSG_REPLY_PAYLOAD,
    },
    [VHOST_USER_ADD_MEM_REG] = {
        .name = "ADD_MEM_REG",
        VHU_PAYLOAD(struct vhost_user_single_mem_region),
        .max_fds = 1,
        VHU_GATE(CONFIGURE_MEM_SLOTS),
    },

    /* "The back-end MAY accept a file descriptor": old front-ends send one. */
    [VHOST_USER_REM_MEM_REG] = {
        .name = "REM_MEM_REG",
        VHU_PAYLOAD(struct vhost_user_single_mem_region),
        .max_fds = 1,
        VHU_GATE(CONFIGURE_MEM_SLOTS),
    },
    [VHOST_USER_SET_STATUS] = {
        .name = "SET_STATUS",
        VHU_PAYLOAD(uint64_t),
        VHU_GATE(STATUS),
    },
    [VHOST_USER_GET_STATUS] = {
        .name = "GET_STATUS",
        VHU_GATE(STATUS),
        .reply = VHU_MSG_REPLY_PAYLOAD,
    },
};

static bool vhu_msg_size_is_ok(const struct vhu_msg_policy *, uint32_t size);
static void vhu_msg_format_range(size_t min, size_t max, size_t step,
                                 char *buf, size_t buf_size);

const struct vhu_msg_policy *
vhu_msg_policy(uint32_t request)
{
    return (request < VHOST_USER_FE_REQ_MAX && policies[request].name
            ? &policies[request]
            : NULL);
}

const char *
vhu_msg_name(uint32_t request)
{
    char *s;

    if (request < VHOST_USER_FE_REQ_MAX && names[request]) {
        return names[request];
    }

    s = name_buf_get()->s;
    snprintf(s, NAME_BUF_SIZE, "request %"PRIu32, request);
    return s;
}

void
vhu_msg_init(struct vhu_msg *msg, uint32_t request)
{
    memset(msg, 0, sizeof *msg);
    msg->hdr.request = request;
    msg->hdr.flags = VHOST_USER_VERSION;
    for (int i = 0; i < VHOST_USER_MAX_FDS; i++) {
        msg->fds[i] = -1;
    }
}

void
vhu_msg_init_reply(struct vhu_msg *reply, const struct vhu_msg *request)
{
    vhu_msg_init(reply, request->hdr.request);
    reply->hdr.flags |= VHOST_USER_FLAG_REPLY;
}

void
vhu_msg_put_u64(struct vhu_msg *msg, uint64_t x)
{
    msg->payload.u64 = x;
    msg->hdr.size = sizeof x;
}

void
vhu_msg_uninit(struct vhu_msg *msg)
{
    for (int i = 0; i < msg->n_fds; i++) {
        if (msg->fds[i] >= 0) {
            close(msg->fds[i]);
            msg->fds[i] = -1;
        }
    }
    msg->n_fds = 0;
}

int
vhu_msg_take_fd(struct vhu_msg *msg, int i)
{
    int fd = -1;

    if (i >= 0 && i < msg->n_fds) {
        fd = msg->fds[i];
        msg->fds[i] = -1;
    }
    return fd;
}

bool
vhu_msg_needs_ack(const struct vhu_msg *msg, uint64_t protocol_features)
{
    const struct vhu_msg_policy *policy = vhu_msg_policy(msg->hdr.request);

    return (msg->hdr.flags & VHOST_USER_FLAG_NEED_REPLY
            && protocol_features & VIRTIO_BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK)
            && (!policy || policy->reply == VHU_MSG_REPLY_ACK
                || msg->hdr.request == VHOST_USER_SET_LOG_BASE));
}

int
vhu_msg_check(const struct vhu_msg *msg, uint64_t protocol_features,
              const char *port)
{
    const struct vhu_msg_policy *policy = vhu_msg_policy(msg->hdr.request);
    const char *name = vhu_msg_name(msg->hdr.request);
    char range[64];

    if ((msg->hdr.flags & ~VHOST_USER_FLAG_NEED_REPLY) != VHOST_USER_VERSION) {
        VLOG_WARN_RL(&rl, "%s: %s: bad flags 0x%"PRIx32" (expected 0x%x or "
                     "0x%x)", port, name, msg->hdr.flags, VHOST_USER_VERSION,
                     VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY);
        return EPROTO;
    }
    if (!policy) {
        VLOG_WARN_RL(&rl, "%s: %s: not implemented", port, name);
        return EOPNOTSUPP;
    }
    if (policy->protocol_feature & ~protocol_features) {
        VLOG_WARN_RL(&rl, "%s: %s: needs protocol feature 0x%"PRIx64", but "
                     "only 0x%"PRIx64" were negotiated", port, name,
                     policy->protocol_feature, protocol_features);
        return EOPNOTSUPP;
    }
    if (!vhu_msg_size_is_ok(policy, msg->hdr.size)) {
        vhu_msg_format_range(policy->min_size, policy->max_size,
                             policy->size_step, range, sizeof range);
        VLOG_WARN_RL(&rl, "%s: %s: bad payload size %"PRIu32" (expected %s)",
                     port, name, msg->hdr.size, range);
        return EPROTO;
    }
    if (msg->n_fds < policy->min_fds || msg->n_fds > policy->max_fds) {
        vhu_msg_format_range(policy->min_fds, policy->max_fds, 0,
                             range, sizeof range);
        VLOG_WARN_RL(&rl, "%s: %s: came with %d file descriptors (expected "
                     "%s)", port, name, msg->n_fds, range);
        return EPROTO;
    }
    return 0;
}

static bool
vhu_msg_size_is_ok(const struct vhu_msg_policy *policy, uint32_t size)
{
    return (size >= policy->min_size
            && size <= policy->max_size
            && (!policy->size_step
                || (size - policy->min_size) % policy->size_step == 0));
}

/* Writes "MIN", "MIN..MAX" or "MIN..MAX in steps of STEP" into the 'buf_size'
 * bytes in 'buf'. */
static void
vhu_msg_format_range(size_t min, size_t max, size_t step,
                     char *buf, size_t buf_size)
{
    if (min == max) {
        snprintf(buf, buf_size, "%"PRIuSIZE, min);
    } else if (!step) {
        snprintf(buf, buf_size, "%"PRIuSIZE"..%"PRIuSIZE, min, max);
    } else {
        snprintf(buf, buf_size, "%"PRIuSIZE"..%"PRIuSIZE" in steps of "
                 "%"PRIuSIZE, min, max, step);
    }
}
