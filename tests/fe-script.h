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

#ifndef FE_SCRIPT_H
#define FE_SCRIPT_H 1

/* A front-end with a script, for tests of the back-end
 * ====================================================
 *
 * It runs in the same thread as the back-end, over a pair of sockets: after
 * each request it gives the back-end a turn.
 *
 * The guest's memory is one region, in which vring 'i' has a slot with its
 * three areas and one buffer.  What must not fail is asserted. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vhost-user-spec.h"
#include "vhu-backend.h"

struct vhu_vring;

#define GPA UINT64_C(0x40000000)
#define UVA UINT64_C(0x7f0000000000)
#define SLOT 0x4000
#define MEM_SIZE (VHOST_USER_MAX_VRINGS * SLOT)
#define DESC_OFS 0x0
#define AVAIL_OFS 0x1000
#define USED_OFS 0x2000
#define BUF_OFS 0x3000
#define RING_SIZE 16

#define FEATURES (VHU_BACKEND_FEATURES                                  \
                  & ~(VIRTIO_BIT(VIRTIO_F_EVENT_IDX)                    \
                      | VIRTIO_BIT(VHOST_F_LOG_ALL)                     \
                      | VIRTIO_BIT(VIRTIO_F_RING_PACKED)))

struct fe {
    struct vhu_backend *backend;
    struct vhu_dev *dev;
    unsigned int n_pairs;
    int sock;
    int memfd;
    uint8_t *mem;
    int kick[VHOST_USER_MAX_VRINGS], call[VHOST_USER_MAX_VRINGS];
    uint16_t avail_idx[VHOST_USER_MAX_VRINGS];

    /* What the back-end told its user. */
    int n_changed;
    int mtu_error;
    uint16_t mtu;
    int n_rarps;
    uint8_t mac[6];
};

/* "vhutest backend NAME" runs 'function'.  The last test of an array has no
 * name. */
struct fe_test {
    const char *name;
    void (*function)(struct fe *);
    unsigned int n_pairs;
};
extern const struct fe_test backend_ring_tests[];
extern const struct fe_test backend_load_tests[];
extern const struct fe_test backend_log_tests[];

void fe_init(struct fe *, unsigned int n_pairs);
void fe_uninit(struct fe *);
void fe_reconnect(struct fe *);
void fe_disconnect(struct fe *);

/* The back-end's turn. */
void fe_turn(struct fe *);
int fe_loop(struct fe *, int ms);

/* Any message. */
enum { NO_REPLY = -1, CLOSED = -2 };

void fe_send(struct fe *, uint32_t request, uint32_t flags,
             const void *payload, size_t size, const int *fds, int n_fds);
int fe_recv(struct fe *, uint32_t request, void *payload, size_t max);
int fe_wait(struct fe *, uint32_t request, void *payload, size_t max);

/* Requests that may be refused. */
int fe_ask(struct fe *, uint32_t request, const void *payload, size_t size,
           const int *fds, int n_fds);
int fe_ask_u64(struct fe *, uint32_t request, uint64_t);
int fe_ask_state(struct fe *, uint32_t request, uint32_t index, uint32_t num);

/* Requests that must be accepted. */
void fe_do(struct fe *, uint32_t request, const void *payload, size_t size,
           const int *fds, int n_fds);
void fe_do_u64(struct fe *, uint32_t request, uint64_t);
void fe_do_state(struct fe *, uint32_t request, uint32_t index, uint32_t num);
void fe_do_fd(struct fe *, uint32_t request, uint64_t index, int fd);
void fe_do_mem_table(struct fe *);
void fe_do_addr(struct fe *, uint32_t index);

/* Requests that must be refused. */
void check_bad(struct fe *, const char *what, uint32_t request,
               const void *payload, size_t size, const int *fds, int n_fds);
void check_bad_u64(struct fe *, const char *what, uint32_t request, uint64_t);
void check_bad_state(struct fe *, const char *what, uint32_t request,
                     uint32_t index, uint32_t num);
void check_bad_indices(struct fe *, uint32_t request, uint32_t num);

/* Requests that have a reply. */
uint64_t fe_get_u64(struct fe *, uint32_t request);
uint32_t fe_get_base(struct fe *, uint32_t index);

/* Payloads. */
#define MEM_TABLE_SIZE(N) offsetof(struct vhost_user_mem_table, regions[N])

struct vhost_user_mem_table mem_table(void);
struct vhost_user_vring_addr vring_addr(uint32_t index);

/* Sequences. */
void fe_negotiate(struct fe *, uint64_t features);
void fe_start(struct fe *, uint32_t index, uint32_t base);
void fe_enable(struct fe *, uint32_t index, bool enable);
void fe_up(struct fe *);

/* What the guest does. */
uint16_t *guest_u16(struct fe *, uint32_t index, size_t ofs);
uint16_t guest_used_idx(struct fe *, uint32_t index);
void guest_add(struct fe *, uint32_t index, int n);
void guest_reset_ring(struct fe *, uint32_t index);
void guest_kick(struct fe *, uint32_t index);
bool guest_was_called(struct fe *, uint32_t index);

/* Our side. */
size_t poll_vring(struct vhu_vring *, bool wait);
const char *vring_state(const struct fe *, uint32_t index);
int count_maps(void);

#endif /* fe-script.h */
