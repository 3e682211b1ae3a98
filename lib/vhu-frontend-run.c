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
#include <inttypes.h>
#include <stdlib.h>

#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "timeval.h"
#include "util.h"
#include "vhu-conn.h"
#include "vhu-msg.h"
#include "vhu-trace.h"

VLOG_DEFINE_THIS_MODULE(vhu_frontend_run);

/* How steps are advanced: requests out, replies in. */

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(20, 60);

/* Replies that are taken in one run. */
#define BURST 64

static void take_reply(struct vhu_frontend *, struct vhu_msg *);
static void take_answer(struct vhu_frontend *, const struct vhu_fe_pending *,
                        struct vhu_msg *);
static bool begin(struct vhu_frontend *);
static bool advance(struct vhu_frontend *);
static bool end(struct vhu_frontend *);
static bool step_back(struct vhu_frontend *);
static void next_step(struct vhu_frontend *);
static bool has_room(struct vhu_frontend *);
static void send_step(struct vhu_frontend *, const struct vhu_fe_step *,
                      unsigned int index);
static void send_probe(struct vhu_frontend *);
static void send_request(struct vhu_frontend *, struct vhu_msg *,
                         const struct vhu_fe_step *, unsigned int index);

static bool
is_connected(const struct vhu_frontend *fe)
{
    return fe->conn && vhu_conn_is_connected(fe->conn);
}

/* Takes in what the back-end has answered, and ends the connection if it has
 * not answered in time. */
void
vhu_fe_run_replies(struct vhu_frontend *fe)
{
    struct vhu_fe_run *run = &fe->run;

    for (int i = 0; i < BURST && is_connected(fe); i++) {
        struct vhu_msg msg;
        int error = vhu_conn_recv(fe->conn, &msg);

        if (!error) {
            take_reply(fe, &msg);
            vhu_msg_uninit(&msg);
            continue;
        }
        if (error == EAGAIN && run->n_pending
            && time_msec() >= run->pending[0].deadline) {
            char *fault = xasprintf("back-end did not answer %s in time",
                                    vhu_msg_name(run->pending[0].hdr.request));

            vhu_fe_fail(fe, fault);
            free(fault);
        }
        return;
    }
}

/* Goes on with what is under way and, when that has ended, with what is
 * due. */
void
vhu_fe_run_steps(struct vhu_frontend *fe)
{
    while (is_connected(fe)) {
        bool go_on = fe->run.op < 0 ? begin(fe) : advance(fe);

        if (!go_on) {
            return;
        }
    }
}

void
vhu_fe_run_wait(const struct vhu_frontend *fe)
{
    const struct vhu_fe_run *run = &fe->run;
    unsigned int target;

    if (run->n_pending) {
        poll_timer_wait_until(run->pending[0].deadline);
    } else if (is_connected(fe) && vhu_fe_next_op(fe, &target) >= 0) {
        poll_immediate_wake();
    }
}

/* Forgets what is under way, because of 'error' and 'reason', and all of the
 * connection. */
void
vhu_fe_run_abort(struct vhu_frontend *fe, int error, const char *reason)
{
    struct vhu_fe_run *run = &fe->run;
    int op = run->op;

    run->op = -1;
    run->n_sent = 0;
    run->n_read = 0;
    run->n_pending = 0;
    free(run->problem);
    run->problem = NULL;
    if (op >= 0 && op != VHU_FE_OP_UNWIND) {
        vhu_fe_done(fe, op, error, reason);
    }
}

/* Replies. */

static void
take_reply(struct vhu_frontend *fe, struct vhu_msg *msg)
{
    struct vhu_fe_run *run = &fe->run;
    struct vhu_fe_pending pending = run->pending[0];
    char *phrase = NULL;
    char *fault;
    int error;

    if (!run->n_pending) {
        error = EPROTO;
        phrase = xstrdup("nothing was asked");
    } else {
        error = vhu_msg_check_reply(msg, &pending.hdr, pending.ack, &phrase);
    }
    vhu_trace_msg(fe->trace, VHU_TRACE_IN, msg, error, phrase);
    if (error) {
        fault = xasprintf("protocol error: %s: %s",
                          vhu_msg_name(run->n_pending ? pending.hdr.request
                                       : msg->hdr.request), phrase);
        vhu_fe_fail(fe, fault);
        free(fault);
        free(phrase);
        return;
    }

    run->n_pending--;
    memmove(&run->pending[0], &run->pending[1],
            run->n_pending * sizeof run->pending[0]);
    run->n_read = pending.no;
    if (pending.step) {
        take_answer(fe, &pending, msg);
    }
}

/* Takes in 'msg', which answers 'pending' and has the right form. */
static void
take_answer(struct vhu_frontend *fe, const struct vhu_fe_pending *pending,
            struct vhu_msg *msg)
{
    const struct vhu_fe_step *step = pending->step;
    char *phrase = NULL;

    if (pending->ack && msg->payload.u64) {
        const char *name = vhu_msg_name(pending->hdr.request);

        phrase = (step->scope == VHU_FE_ONCE
                  ? xasprintf("back-end refused %s", name)
                  : xasprintf("back-end refused %s of vring %u", name,
                              pending->index));
    } else if (!pending->ack && step->handle) {
        step->handle(fe, pending->index, msg, &phrase);
    }
    if (!phrase) {
        return;
    }

    VLOG_WARN_RL(&rl, "%s: %s", fe->name, phrase);
    if (step->refused) {
        step->refused(fe, phrase);
    } else if (!fe->run.problem) {
        fe->run.problem = phrase;
        return;
    }
    free(phrase);
}

/* Requests. */

/* Begins what is due.  Returns false if nothing is.  What cannot be prepared
 * ends at once. */
static bool
begin(struct vhu_frontend *fe)
{
    struct vhu_fe_run *run = &fe->run;
    const struct vhu_fe_program *program;
    char *phrase = NULL;
    int error;

    run->op = vhu_fe_next_op(fe, &run->target);
    run->step = 0;
    run->pos = 0;
    if (run->op < 0) {
        return false;
    }

    VLOG_DBG("%s: %s begins", fe->name, vhu_fe_op_to_string(run->op));
    program = &vhu_fe_programs[run->op];
    error = program->prepare ? program->prepare(fe, &phrase) : 0;
    if (!error) {
        return true;
    }
    if (program->optional) {
        int op = run->op;

        run->op = -1;
        if (program->give_up) {
            program->give_up(fe, phrase);
        }
        vhu_fe_done(fe, op, error, phrase);
    } else {
        vhu_fe_fail(fe, phrase);
    }
    free(phrase);
    return true;
}

static unsigned int
count(const struct vhu_frontend *fe, enum vhu_fe_scope scope)
{
    return (scope == VHU_FE_EACH_VRING || scope == VHU_FE_EACH_VRING_BACK
            ? vhu_fe_n_vrings(fe)
            : scope == VHU_FE_TARGET_PAIR ? 2 : 1);
}

static unsigned int
index_of(const struct vhu_frontend *fe, enum vhu_fe_scope scope)
{
    unsigned int pos = fe->run.pos;

    switch (scope) {
    case VHU_FE_ONCE:
        return 0;
    case VHU_FE_EACH_VRING:
        return pos;
    case VHU_FE_EACH_VRING_BACK:
        return vhu_fe_n_vrings(fe) - 1 - pos;
    case VHU_FE_TARGET_VRING:
        return fe->run.target;
    case VHU_FE_TARGET_PAIR:
        return 2 * fe->run.target + pos;
    }
    OVS_NOT_REACHED();
}

/* Sends as many requests as is possible now.  Returns true if the operation
 * has ended and the connection is still there. */
static bool
advance(struct vhu_frontend *fe)
{
    struct vhu_fe_run *run = &fe->run;
    const struct vhu_fe_steps *steps = &vhu_fe_steps[run->op];

    while (run->step < steps->n && !run->problem) {
        const struct vhu_fe_step *step = &steps->steps[run->step];
        unsigned int index = index_of(fe, step->scope);

        if (step->barrier && !run->pos && run->n_pending) {
            return false;
        }
        if (!step->applies || step->applies(fe, index)) {
            if (!has_room(fe)) {
                return false;
            }
            send_step(fe, step, index);
            if (run->op < 0 || !is_connected(fe)) {
                return false;
            }
        }
        next_step(fe);
    }

    if (run->n_pending) {
        return false;
    } else if (run->n_read != run->n_sent) {
        send_probe(fe);
        return false;
    }
    return end(fe);
}

/* Moves on to the next step, or to the same steps for the next vring. */
static void
next_step(struct vhu_frontend *fe)
{
    struct vhu_fe_run *run = &fe->run;
    const struct vhu_fe_steps *steps = &vhu_fe_steps[run->op];
    enum vhu_fe_scope scope = steps->steps[run->step].scope;
    size_t next = run->step + 1;

    if (next < steps->n && scope != VHU_FE_ONCE
        && steps->steps[next].scope == scope && !steps->steps[next].first) {
        run->step = next;
    } else if (run->pos + 1 < count(fe, scope)) {
        run->pos++;
        while (step_back(fe)) {
            continue;
        }
    } else {
        run->pos = 0;
        run->step = next;
    }
}

/* Goes one step back, unless this is the first of the steps that are done in
 * turn. */
static bool
step_back(struct vhu_frontend *fe)
{
    const struct vhu_fe_step *steps = vhu_fe_steps[fe->run.op].steps;
    size_t i = fe->run.step;

    if (!i || steps[i].first || steps[i - 1].scope != steps[i].scope) {
        return false;
    }
    fe->run.step--;
    return true;
}

/* Ends the operation, all of whose replies are there.  Returns true if the
 * connection goes on. */
static bool
end(struct vhu_frontend *fe)
{
    struct vhu_fe_run *run = &fe->run;
    const struct vhu_fe_program *program = &vhu_fe_programs[run->op];
    char *problem = run->problem;
    int error = problem ? EPROTO : 0;
    int op = run->op;

    run->problem = NULL;
    if (!error && program->finish) {
        error = program->finish(fe, &problem);
    }
    run->op = -1;
    if (op == VHU_FE_OP_UNWIND) {
        vhu_conn_disconnect(fe->conn, fe->fault);
    } else if (!error) {
        VLOG_DBG("%s: %s done", fe->name, vhu_fe_op_to_string(op));
        vhu_fe_done(fe, op, 0, NULL);
    } else if (program->optional) {
        if (program->give_up) {
            program->give_up(fe, problem);
        }
        vhu_fe_done(fe, op, error, problem);
    } else if (!fe->negotiated) {
        run->op = op;
        vhu_fe_fail(fe, problem);
    } else {
        free(fe->fault);
        fe->fault = xstrdup(problem);
        vhu_fe_hold(fe);
        run->op = VHU_FE_OP_UNWIND;
        run->step = 0;
        run->pos = 0;
        vhu_fe_done(fe, op, error, problem);
    }
    free(problem);
    return is_connected(fe);
}

/* Returns true if another request may be sent. */
static bool
has_room(struct vhu_frontend *fe)
{
    struct vhu_fe_run *run = &fe->run;

    if (run->n_sent - run->n_read < VHU_FE_WINDOW) {
        return true;
    }
    if (!run->n_pending) {
        send_probe(fe);
    }
    return false;
}

static void
send_step(struct vhu_frontend *fe, const struct vhu_fe_step *step,
          unsigned int index)
{
    struct vhu_msg msg;
    int error;

    vhu_msg_init(&msg, step->request);
    error = step->build ? step->build(fe, index, &msg) : 0;
    if (error) {
        char *fault = xasprintf("cannot send %s: %s",
                                vhu_msg_name(step->request),
                                ovs_strerror(error));

        vhu_fe_fail(fe, fault);
        free(fault);
        return;
    }
    if (step->ack && fe->acks) {
        msg.hdr.flags |= VHOST_USER_FLAG_NEED_REPLY;
    }
    send_request(fe, &msg, step, index);
    if (step->gives_fds) {
        vhu_msg_uninit(&msg);
    }
}

/* Sends a request whose only purpose is its reply: when that is there the
 * back-end has read what came before. */
static void
send_probe(struct vhu_frontend *fe)
{
    struct vhu_msg msg;

    vhu_msg_init(&msg, VHOST_USER_GET_FEATURES);
    send_request(fe, &msg, NULL, 0);
}

static void
send_request(struct vhu_frontend *fe, struct vhu_msg *msg,
             const struct vhu_fe_step *step, unsigned int index)
{
    struct vhu_fe_run *run = &fe->run;
    bool ack = msg->hdr.flags & VHOST_USER_FLAG_NEED_REPLY;

    run->n_sent++;
    if (ack || vhu_msg_has_reply(msg->hdr.request)) {
        struct vhu_fe_pending *pending = &run->pending[run->n_pending++];
        int timeout = (fe->config.timeout ? fe->config.timeout
                       : VHU_FRONTEND_TIMEOUT);

        pending->hdr = msg->hdr;
        pending->step = step;
        pending->index = index;
        pending->ack = ack;
        pending->no = run->n_sent;
        pending->deadline = time_msec() + timeout;
    }
    vhu_trace_msg(fe->trace, VHU_TRACE_OUT, msg, 0, NULL);
    vhu_conn_send(fe->conn, msg);
}
