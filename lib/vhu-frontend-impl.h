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

#ifndef VHU_FRONTEND_IMPL_H
#define VHU_FRONTEND_IMPL_H 1

/* Front-end role, inside
 * ======================
 *
 * For vhu-frontend*.c only:
 *
 *    vhu-frontend.c          the object, its connection, what is wanted
 *    vhu-frontend-ops.c      the operations: when each is due, what it changes
 *    vhu-frontend-steps.c    the requests: what they contain, what a reply
 *                            means, in which order
 *    vhu-frontend-run.c      how steps are advanced: requests out, replies in
 *    vhu-frontend-vring.c    virtqueues, memory, notifications
 *    vhu-frontend-log.c      the dirty log
 *    vhu-frontend-channel.c  the back-end channel */

#include "vhu-frontend.h"

#include "openvswitch/token-bucket.h"

struct seq;
struct vhu_msg;
struct vhu_trace;

/* Most requests that are under way without a sign that the back-end has read
 * them: no socket buffer is too small for that many. */
#define VHU_FE_WINDOW 32

/* How often a step is done. */
enum vhu_fe_scope {
    VHU_FE_ONCE,
    VHU_FE_EACH_VRING,          /* For each vring that is in use. */
    VHU_FE_EACH_VRING_BACK,     /* The same, last one first. */
    VHU_FE_TARGET_VRING,        /* For vring 'target'. */
    VHU_FE_TARGET_PAIR,         /* For both vrings of pair 'target'. */
};

/* One request of an operation, and its reply.  'index' is that of the vring,
 * or 0. */
struct vhu_fe_step {
    uint32_t request;           /* VHOST_USER_*. */
    enum vhu_fe_scope scope;    /* Steps of the same scope that follow each
                                 * other are done in turn for each vring. */
    bool first;                 /* But here another such sequence begins. */
    bool barrier;               /* All replies to earlier requests must be
                                 * there. */
    bool ack;                   /* Asks for an acknowledgement, if that was
                                 * negotiated and there is no other reply. */

    /* Returns true if the request has to be sent at all.  Null: always. */
    bool (*applies)(const struct vhu_frontend *, unsigned int index);

    /* Fills in 'msg'.  Null: no payload.  Descriptors stay where they came
     * from, unless 'gives_fds'.  Returns 0 or a positive errno. */
    int (*build)(struct vhu_frontend *, unsigned int index, struct vhu_msg *);
    bool gives_fds;

    /* Takes in a reply, whose form is right.  Null: nothing to do.  Returns
     * true, or false with a newly allocated phrase in '*error'. */
    bool (*handle)(struct vhu_frontend *, unsigned int index, struct vhu_msg *,
                   char **error);

    /* If not null, it does not matter if the request is refused, because of
     * 'reason'. */
    void (*refused)(struct vhu_frontend *, const char *reason);
};

/* The steps of an operation. */
struct vhu_fe_steps {
    const struct vhu_fe_step *steps;
    size_t n;
};

/* What else belongs to an operation. */
struct vhu_fe_program {
    bool optional;              /* The connection goes on if it is refused. */

    /* Called before the first step.  Null: nothing to do.  Returns 0, or a
     * positive errno with a newly allocated phrase in '*error'. */
    int (*prepare)(struct vhu_frontend *, char **error);

    /* Called after the last reply.  Null: nothing to do.  Returns as
     * 'prepare'. */
    int (*finish)(struct vhu_frontend *, char **error);

    /* Called if it was refused or could not be prepared, because of 'reason',
     * and is optional.  May be null. */
    void (*give_up)(struct vhu_frontend *, const char *reason);
};

/* Indexed by enum vhu_fe_op; the one behind the last unwinds a start. */
#define VHU_FE_OP_UNWIND VHU_FE_N_OPS
extern const struct vhu_fe_steps vhu_fe_steps[VHU_FE_N_OPS + 1];
extern const struct vhu_fe_program vhu_fe_programs[VHU_FE_N_OPS + 1];

/* A request that waits for its reply. */
struct vhu_fe_pending {
    struct vhost_user_hdr hdr;
    const struct vhu_fe_step *step; /* Null for a request that only finds out
                                     * that the others have been read. */
    unsigned int index;
    bool ack;
    uint64_t no;                /* How many requests were sent up to it. */
    long long int deadline;
};

/* An operation under way. */
struct vhu_fe_run {
    int op;                     /* enum vhu_fe_op or VHU_FE_OP_UNWIND; -1 if
                                 * none is. */
    size_t step;                /* The next one. */
    unsigned int pos;           /* Which of the vrings in its scope. */
    unsigned int target;        /* For VHU_FE_TARGET_*. */
    char *problem;              /* Why it was refused, or null. */

    uint64_t n_sent;            /* Requests on this connection. */
    uint64_t n_read;            /* That the back-end has read for sure. */
    struct vhu_fe_pending pending[2 * VHU_FE_WINDOW];
    size_t n_pending;
};

struct vhu_fe_log {
    struct vhu_shm *shm;        /* The log in use, or null. */
    struct vhu_shm *next;       /* The one that will replace it, or null. */
    uint64_t want_size;         /* Wanted for 'next': bytes of guest
                                 * addresses. */
    bool wanted;
    bool on;                    /* What the back-end is told next. */
    bool told;                  /* What it has been told. */
};

struct vhu_fe_inflight {
    int fd;                     /* -1 for none. */
    struct vhost_user_inflight desc;
};

struct vhu_fe_channel {
    struct vhu_conn *conn;      /* Our end, or null. */
    struct token_bucket tokens;
    unsigned int debt;          /* Tokens to pay before the next message. */
};

struct vhu_frontend {
    char *name;                 /* Of the port, for the log. */
    const struct vhu_frontend_ops *ops;
    void *aux;
    struct vhu_frontend_config config;
    struct vhu_conn *conn;
    unsigned int seqno;         /* Of 'conn', when last looked at. */
    struct vhu_trace *trace;
    struct seq *wakeup;         /* vhu_frontend_kick_control(). */
    uint64_t wakeup_seqno;
    bool changed;               /* Call ops->changed() at the next chance. */

    /* What is wanted. */
    bool want_started;
    bool want_enabled[VHOST_USER_MAX_QUEUE_PAIRS];
    uint16_t want_mtu;
    bool want_status;
    bool want_config;           /* Read it. */
    bool tell_config;           /* ... and call ops->config_changed(). */
    bool want_device_reset;
    bool want_announce;
    uint8_t announce_mac[8];
    bool want_config_write;
    struct vhost_user_config config_write;

    /* What the back-end has been told, and said. */
    struct vhu_frontend_info info;
    bool negotiated;
    bool acks;                  /* VHOST_USER_PROTOCOL_F_REPLY_ACK. */
    bool started;
    bool mem_told;              /* ADD_MEM_REG on this connection. */
    bool told_enabled[VHOST_USER_MAX_QUEUE_PAIRS];
    uint16_t told_mtu;          /* Also if it was refused. */
    char *mtu_error;

    /* What survives a connection. */
    uint64_t acked;             /* Features of the first start, or 0. */
    unsigned int mem_pairs;     /* Queue pairs for which there is memory. */
    struct vhu_shm *shm;
    struct vhu_fe_vring *vrings[VHOST_USER_MAX_VRINGS];
    int err_fd;                 /* For SET_VRING_ERR of all vrings, or -1. */
    uint64_t n_errors;          /* Read from it. */
    long long int next_error;   /* When to look at it again. */
    struct vhu_fe_inflight inflight;
    struct vhu_fe_log log;
    unsigned int n_failures;    /* Failed attempts since the last start. */

    struct vhu_fe_run run;
    struct vhu_fe_channel channel;

    char *fault;                /* Why we closed the last connection, or
                                 * null. */
    char *reason;               /* For vhu_frontend_get_reason(). */
};

/* vhu-frontend.c */
unsigned int vhu_fe_n_vrings(const struct vhu_frontend *);
bool vhu_fe_has_protocol(const struct vhu_frontend *, int bit);
bool vhu_fe_has_feature(const struct vhu_frontend *, int bit);
bool vhu_fe_knows_mtu(const struct vhu_frontend *);
void vhu_fe_fail(struct vhu_frontend *, const char *fault);
void vhu_fe_hold(struct vhu_frontend *);
void vhu_fe_done(struct vhu_frontend *, int op, int error, const char *reason);

/* vhu-frontend-ops.c */
int vhu_fe_next_op(const struct vhu_frontend *, unsigned int *target);
void vhu_fe_mtu_failed(struct vhu_frontend *, int error, const char *reason);

/* vhu-frontend-run.c */
void vhu_fe_run_replies(struct vhu_frontend *);
void vhu_fe_run_steps(struct vhu_frontend *);
void vhu_fe_run_wait(const struct vhu_frontend *);
void vhu_fe_run_abort(struct vhu_frontend *, int error, const char *reason);

/* vhu-frontend-vring.c */
struct vhu_fe_vring *vhu_fe_vring_create(unsigned int index);
void vhu_fe_vring_destroy(struct vhu_fe_vring *);
int vhu_fe_vrings_prepare(struct vhu_frontend *, char **error);
void vhu_fe_vrings_update(struct vhu_frontend *);
void vhu_fe_vrings_forget(struct vhu_frontend *);
void vhu_fe_vrings_lost(struct vhu_frontend *);
void vhu_fe_inflight_forget(struct vhu_frontend *);
void vhu_fe_vring_kick(struct vhu_fe_vring *);
void vhu_fe_vring_fresh(struct vhu_frontend *, struct vhu_fe_vring *);
void vhu_fe_vring_stopped(struct vhu_frontend *, struct vhu_fe_vring *,
                          uint32_t base);
char *vhu_fe_vrings_check(struct vhu_frontend *);
int vhu_fe_make_eventfd(int *fdp);
uint64_t vhu_fe_read_eventfd(int fd);

/* vhu-frontend-log.c */
int vhu_fe_log_prepare(struct vhu_frontend *, char **error);
void vhu_fe_log_swap(struct vhu_frontend *);
void vhu_fe_log_drop_next(struct vhu_frontend *);
void vhu_fe_log_uninit(struct vhu_frontend *);
bool vhu_fe_log_is_offered(const struct vhu_frontend *);

/* vhu-frontend-channel.c */
int vhu_fe_channel_open(struct vhu_frontend *, int *fdp);
void vhu_fe_channel_close(struct vhu_frontend *);
void vhu_fe_channel_run(struct vhu_frontend *);
void vhu_fe_channel_wait(struct vhu_frontend *);

#endif /* vhu-frontend-impl.h */
