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

#include "openvswitch/vlog.h"
#include "ovs-thread.h"
#include "util.h"
#include "virtio-spec.h"

VLOG_DEFINE_THIS_MODULE(vhu_msg_fe);

/* What comes to a front-end: replies to its requests, and the requests of the
 * back-end. */

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(20, 60);

/* For the name of a request that the specification does not have. */
enum { NAME_BUF_SIZE = 32 };
struct be_name_buf {
    char s[NAME_BUF_SIZE];
};
DEFINE_STATIC_PER_THREAD_DATA(struct be_name_buf, be_name_buf, { "" });

/* What we do about a request from the back-end. */
struct vhu_msg_be_policy {
    bool accepted;              /* We implement it, with no descriptors. */
    size_t size;                /* Bytes of payload. */
    uint64_t protocol_feature;  /* Must be negotiated. */
};

/* The form of a reply. */
struct vhu_reply_policy {
    bool exists;                /* The request has a reply. */
    size_t size;                /* Bytes of payload. */
    size_t other_size;          /* Or that many bytes, if 'has_other'. */
    bool has_other;
    int max_fds;
};

/* The requests with a reply that we send, in the order of their numbers. */
static const struct vhu_reply_policy replies[VHOST_USER_FE_REQ_MAX] = {
    [VHOST_USER_GET_FEATURES] = {
        .exists = true,
        .size = sizeof(uint64_t),
    },

    /* The specification does not say what the reply contains: QEMU expects
     * nothing, libvhost-user sends a number. */
    [VHOST_USER_SET_LOG_BASE] = {
        .exists = true,
        .size = 0,
        .other_size = sizeof(uint64_t),
        .has_other = true,
    },
    [VHOST_USER_GET_VRING_BASE] = {
        .exists = true,
        .size = sizeof(struct vhost_user_vring_state),
    },
    [VHOST_USER_GET_PROTOCOL_FEATURES] = {
        .exists = true,
        .size = sizeof(uint64_t),
    },
    [VHOST_USER_GET_QUEUE_NUM] = {
        .exists = true,
        .size = sizeof(uint64_t),
    },

    /* No payload at all means that the back-end could not do it. */
    [VHOST_USER_GET_CONFIG] = {
        .exists = true,
        .size = (offsetof(struct vhost_user_config, payload)
                 + sizeof(struct virtio_net_config)),
        .other_size = 0,
        .has_other = true,
    },
    [VHOST_USER_GET_INFLIGHT_FD] = {
        .exists = true,
        .size = sizeof(struct vhost_user_inflight),
        .other_size = VHOST_USER_INFLIGHT_MIN_SIZE,
        .has_other = true,
        .max_fds = 1,
    },
    [VHOST_USER_GET_MAX_MEM_SLOTS] = {
        .exists = true,
        .size = sizeof(uint64_t),
    },
    [VHOST_USER_GET_STATUS] = {
        .exists = true,
        .size = sizeof(uint64_t),
    },
};

static const struct vhu_reply_policy ack_policy = {
    .exists = true,
    .size = sizeof(uint64_t),
};

/* Every request in the specification. */
static const char *const be_names[VHOST_USER_BE_REQ_MAX] = {
#define VHOST_USER_BE_REQ(NAME, NUMBER) [NUMBER] = "BACKEND_" #NAME,
    VHOST_USER_BE_REQS
#undef VHOST_USER_BE_REQ
};

/* The requests that we implement.  We have no IOMMU, ask for no host notifiers
 * and share no objects: these protocol features are never negotiated, and
 * their requests are refused. */
static const struct vhu_msg_be_policy be_policies[VHOST_USER_BE_REQ_MAX] = {
    [VHOST_USER_BACKEND_CONFIG_CHANGE_MSG] = {
        .accepted = true,
        .size = 0,
        .protocol_feature = VIRTIO_BIT(VHOST_USER_PROTOCOL_F_CONFIG),
    },
};

bool
vhu_msg_has_reply(uint32_t request)
{
    return request < VHOST_USER_FE_REQ_MAX && replies[request].exists;
}

int
vhu_msg_check_reply(const struct vhu_msg *reply,
                    const struct vhost_user_hdr *request, bool ack,
                    char **error)
{
    const struct vhu_reply_policy *policy
        = ack ? &ack_policy : &replies[request->request];
    uint32_t flags = VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY;
    uint32_t size = reply->hdr.size;

    if (reply->hdr.request != request->request) {
        *error = xasprintf("bad reply: request %"PRIu32" (expected %"PRIu32
                           ")", reply->hdr.request, request->request);
    } else if (reply->hdr.flags != flags) {
        *error = xasprintf("bad reply: flags 0x%"PRIx32" (expected "
                           "0x%"PRIx32")", reply->hdr.flags, flags);
    } else if (size != policy->size
               && !(policy->has_other && size == policy->other_size)) {
        *error = xasprintf("bad reply: %"PRIu32" bytes (expected %"PRIuSIZE
                           ")", size, policy->size);
    } else if (reply->n_fds > policy->max_fds) {
        *error = xasprintf("bad reply: %d file descriptors (expected %d)",
                           reply->n_fds, policy->max_fds);
    } else {
        return 0;
    }
    return EPROTO;
}

const char *
vhu_msg_be_name(uint32_t request)
{
    char *s;

    if (request < VHOST_USER_BE_REQ_MAX && be_names[request]) {
        return be_names[request];
    }

    s = be_name_buf_get()->s;
    snprintf(s, NAME_BUF_SIZE, "back-end request %"PRIu32, request);
    return s;
}

int
vhu_msg_be_check(const struct vhu_msg *msg, uint64_t protocol_features,
                 const char *port)
{
    const struct vhu_msg_be_policy *policy
        = (msg->hdr.request < VHOST_USER_BE_REQ_MAX
           ? &be_policies[msg->hdr.request]
           : NULL);
    const char *name = vhu_msg_be_name(msg->hdr.request);

    if ((msg->hdr.flags & ~VHOST_USER_FLAG_NEED_REPLY) != VHOST_USER_VERSION) {
        VLOG_WARN_RL(&rl, "%s: %s: bad flags 0x%"PRIx32" (expected 0x%x or "
                     "0x%x)", port, name, msg->hdr.flags, VHOST_USER_VERSION,
                     VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY);
        return EPROTO;
    }
    if (!policy || !policy->accepted) {
        VLOG_WARN_RL(&rl, "%s: %s: not implemented", port, name);
        return EOPNOTSUPP;
    }
    if (policy->protocol_feature & ~protocol_features) {
        VLOG_WARN_RL(&rl, "%s: %s: needs protocol feature 0x%"PRIx64", but "
                     "only 0x%"PRIx64" were negotiated", port, name,
                     policy->protocol_feature, protocol_features);
        return EOPNOTSUPP;
    }
    if (msg->hdr.size != policy->size || msg->n_fds) {
        VLOG_WARN_RL(&rl, "%s: %s: %"PRIu32" bytes and %d file descriptors "
                     "(expected %"PRIuSIZE" and 0)", port, name,
                     msg->hdr.size, msg->n_fds, policy->size);
        return EPROTO;
    }
    return 0;
}
