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

#include "vhu-frontend-impl.h"

#include <errno.h>
#include <sys/socket.h>

#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "util.h"
#include "vhu-conn.h"
#include "vhu-msg.h"
#include "vhu-trace.h"

VLOG_DEFINE_THIS_MODULE(vhu_frontend_channel);

/* Back-end channel
 * ================
 *
 * A pair of sockets of which the back-end gets one, to send requests of its
 * own.  We implement one of them; the others belong to protocol features that
 * we never negotiate, and are refused.  File descriptors that come with any
 * are closed with the message. */

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(5, 20);

/* Requests: tokens a millisecond, what one costs, and how many may come at
 * once.  Beyond that they wait in the socket. */
#define TOKEN_RATE 1
#define TOKEN_COST 20
#define TOKEN_BURST (32 * TOKEN_COST)

static void handle(struct vhu_frontend *, struct vhu_msg *);

/* Makes a new channel and stores the back-end's end of it in '*fdp', for the
 * caller to close.  Returns 0 or a positive errno. */
int
vhu_fe_channel_open(struct vhu_frontend *fe, int *fdp)
{
    char *name;
    int fds[2];

    vhu_fe_channel_close(fe);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)) {
        return errno;
    }
    name = xasprintf("%s: back-end channel", fe->name);
    fe->channel.conn = vhu_conn_create_fd(name, fds[0]);
    free(name);
    token_bucket_init(&fe->channel.tokens, TOKEN_RATE, TOKEN_BURST);
    fe->channel.debt = 0;
    *fdp = fds[1];
    return 0;
}

void
vhu_fe_channel_close(struct vhu_frontend *fe)
{
    vhu_conn_destroy(fe->channel.conn);
    fe->channel.conn = NULL;
}

void
vhu_fe_channel_run(struct vhu_frontend *fe)
{
    struct vhu_fe_channel *channel = &fe->channel;

    if (!channel->conn) {
        return;
    }
    vhu_conn_run(channel->conn);
    while (!channel->debt
           || token_bucket_withdraw(&channel->tokens, channel->debt)) {
        struct vhu_msg msg;

        channel->debt = 0;
        if (vhu_conn_recv(channel->conn, &msg)) {
            break;
        }
        channel->debt = TOKEN_COST;
        handle(fe, &msg);
        vhu_msg_uninit(&msg);
    }
    if (!vhu_conn_is_connected(channel->conn)) {
        vhu_fe_channel_close(fe);
    }
}

void
vhu_fe_channel_wait(struct vhu_frontend *fe)
{
    struct vhu_fe_channel *channel = &fe->channel;

    if (channel->conn && channel->debt) {
        token_bucket_wait(&channel->tokens, channel->debt);
    } else if (channel->conn) {
        vhu_conn_wait(channel->conn);
    }
}

static void
handle(struct vhu_frontend *fe, struct vhu_msg *msg)
{
    int error = vhu_msg_be_check(msg, fe->info.protocol_features, fe->name);
    struct vhu_msg reply;

    vhu_trace_channel_msg(fe->trace, VHU_TRACE_IN, msg, error, NULL);
    if (!error) {
        VLOG_DBG_RL(&rl, "%s: %s", fe->name,
                    vhu_msg_be_name(msg->hdr.request));
        fe->want_config = true;
        fe->tell_config = true;
    }
    if (msg->hdr.flags & VHOST_USER_FLAG_NEED_REPLY && fe->acks) {
        vhu_msg_init_reply(&reply, msg);
        vhu_msg_put_u64(&reply, error != 0);
        vhu_trace_channel_msg(fe->trace, VHU_TRACE_OUT, &reply, 0, NULL);
        vhu_conn_send(fe->channel.conn, &reply);
    }
}
