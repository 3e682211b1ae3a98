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

#ifndef VHU_PEER_H
#define VHU_PEER_H 1

/* Both sides of a connection, for tests
 * =====================================
 *
 * The peer uses plain system calls and no code of ours.  Our side is driven as
 * the control thread of the switch does it.  What must not fail is
 * asserted. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vhost-user-spec.h"

struct vhu_conn;
struct vhu_msg;

/* All tests run in a directory of their own, so paths are relative and the
 * reasons that are printed are always the same. */
#define SOCK "vm0.sock"

/* File descriptors. */
int count_fds(void);
int open_file(void);
void limit_fds(int n);
void unlimit_fds(void);

/* A message as it is on the wire, with a payload that check_msg() knows. */
struct wire {
    struct vhost_user_hdr hdr;
    uint8_t payload[8192];
};
size_t make_wire(struct wire *, uint32_t request, uint32_t size);
void check_msg(const struct vhu_msg *, uint32_t request, uint32_t size,
               int n_fds);

/* The peer. */
int peer_bind(int type, const char *path);
int peer_listen(const char *path);
int peer_connect(const char *path);
void peer_send(int fd, const void *, size_t len, int n_fds);
void peer_send_msg(int fd, uint32_t request, uint32_t size, int n_fds);
bool peer_is_closed(int fd);

/* Our side. */

/* What happened while a connection was driven. */
struct tally {
    int n_msgs;
    int n_wakeups;
    long long int elapsed;      /* ms */
};
struct tally drive(struct vhu_conn *, int ms,
                   bool (*until)(struct vhu_conn *));
bool is_up(struct vhu_conn *);
bool is_down(struct vhu_conn *);

struct vhu_conn *make_client(const char *path);
struct vhu_conn *make_server(const char *path);
struct vhu_conn *make_pair(int *our_fd, int *peer);

void print_reason(const struct vhu_conn *);
void expect_msg(struct vhu_conn *, uint32_t request, uint32_t size,
                int n_fds);
void expect_error(struct vhu_conn *, int error);

/* A program of tests. */
struct vhu_test {
    const char *name;
    void (*run)(void);
};
void run_vhu_test(const struct vhu_test[], size_t n, int argc, char *argv[]);

#endif /* vhu-peer.h */
