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

#ifndef BE_SCRIPT_H
#define BE_SCRIPT_H 1

/* A back-end with a script, for tests of the front-end
 * ====================================================
 *
 * It runs in the same thread as the front-end, over a pair of sockets.  It
 * uses plain system calls and no code of ours, answers every request as the
 * specification has it, and writes down what came; a test says at which
 * request it does something else.  What must not fail is asserted. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "openvswitch/dynamic-string.h"
#include "vhost-user-spec.h"
#include "vhu-frontend.h"

/* What the back-end does instead of answering. */
#define BE_FAULTS                                       \
    BE_FAULT(NONE)                                      \
    BE_FAULT(NACK)              /* Refuses. */          \
    BE_FAULT(SILENT)            /* No reply. */         \
    BE_FAULT(HALF)              /* Half a reply. */     \
    BE_FAULT(WRONG_ID)                                  \
    BE_FAULT(WRONG_FLAGS)                               \
    BE_FAULT(NEED_REPLY)        /* In a reply. */       \
    BE_FAULT(SHORT)             /* A byte is missing. */ \
    BE_FAULT(LONG)              /* One too many. */     \
    BE_FAULT(HUGE_SIZE)         /* 2^32-1 bytes. */     \
    BE_FAULT(FDS)               /* Three descriptors. */ \
    BE_FAULT(TWICE)             /* Two replies. */      \
    BE_FAULT(CLOSE)             /* Hangs up. */         \
    BE_FAULT(PAYLOAD)           /* About something else. */

enum be_fault {
#define BE_FAULT(NAME) BE_##NAME,
    BE_FAULTS
#undef BE_FAULT
};
const char *be_fault_name(enum be_fault);

struct be_msg {
    struct vhost_user_hdr hdr;
    union {
        uint64_t u64;
        struct vhost_user_vring_state state;
        struct vhost_user_vring_addr addr;
        struct vhost_user_mem_table table;
        struct vhost_user_single_mem_region region;
        struct vhost_user_log log;
        struct vhost_user_config config;
        struct vhost_user_inflight inflight;
        uint8_t bytes[4096];
    };
    int fds[8];
    int n_fds;
};

struct be_vring {
    uint32_t size, base, enabled;
    struct vhost_user_vring_addr addr;
    int kick, call, err;        /* -1: none. */
    bool nofd_kick, nofd_call;
    bool started;
};

struct be {
    struct vhu_frontend *fe;
    int sock;                   /* -1 if closed. */
    int channel;                /* The back-end channel, or -1. */

    /* What it has. */
    uint64_t features, protocol_features, queue_num, mem_slots;
    uint8_t config[VHOST_USER_MAX_CONFIG_SIZE];
    uint32_t config_size;       /* Of replies, 0 to refuse. */
    bool log_payload;           /* SET_LOG_BASE is answered with a number. */
    bool half_base;             /* GET_VRING_BASE says half of it. */
    uint64_t status_mask;       /* Bits that are kept. */

    /* What it does wrong, the 'nth' time that 'request' comes. */
    uint32_t request;
    int nth;
    enum be_fault fault;
    int die_after;              /* Hang up after that many messages, or -1. */

    /* What came. */
    struct ds log;
    bool quiet;                 /* Do not write it down. */
    int n_msgs;
    uint64_t acked, protocol_acked, status;
    struct be_vring vrings[VHOST_USER_MAX_VRINGS];
    uint8_t *mem;
    struct vhost_user_mem_region region;
    int mem_fd;
    uint8_t *dirty;
    uint64_t dirty_size;
    int inflight_fd;
    uint64_t mtu;
    uint8_t mac[6];
    uint32_t config_offset, config_flags;

    /* What the front-end told its user. */
    int n_changed, n_config_changed;
    int n_done[VHU_FE_N_OPS];
    int done_error[VHU_FE_N_OPS];
    char *done_reason[VHU_FE_N_OPS];
};

/* Features that the front-end can use all of. */
#define BE_FEATURES (VHU_FRONTEND_FEATURES                      \
                     | VIRTIO_BIT(VHOST_F_LOG_ALL)              \
                     | VIRTIO_BIT(VIRTIO_NET_F_CSUM))

struct vhu_frontend_config be_config(unsigned int n_pairs);
void be_init(struct be *, const struct vhu_frontend_config *);
void be_uninit(struct be *);
void be_connect(struct be *);
void be_hang_up(struct be *);

/* Lets both sides do what they have to do, until nothing happens any more or
 * for 'ms' milliseconds. */
void be_turn(struct be *);
void be_loop(struct be *, int ms);
void be_forget_log(struct be *);

/* Brings the device up, or tries to. */
void be_start(struct be *);
void be_up(struct be *);

/* Print why the device is not up, how operation 'op' has ended, and what came
 * since this was last printed. */
void be_print_reason(struct be *, const char *what);
void be_print_done(struct be *, enum vhu_fe_op op);
void be_print_log(struct be *);

/* Returns how many vrings PMD threads have. */
int be_n_published(const struct be *);

/* Makes 'n' <= 16 packets available in the transmitq of 'pair'. */
void be_transmit(struct be *, unsigned int pair, unsigned int n);

/* The back-end channel. */
enum { BE_NO_REPLY = -1, BE_CLOSED = -2 };
void be_channel_send(struct be *, uint32_t request, uint32_t flags,
                     const void *payload, size_t size, int n_fds);
int be_channel_recv(struct be *, uint32_t request);

#endif /* be-script.h */
