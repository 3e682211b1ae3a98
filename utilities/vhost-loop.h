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

#ifndef VHOST_LOOP_H
#define VHOST_LOOP_H 1

/* Two back-ends without a switch
 * ==============================
 *
 * What one guest transmits, the other receives.  A control thread takes care
 * of the two connections and prints what happens; one thread polls all queue
 * pairs that run and calls a function of the user's for each, in each
 * direction.
 *
 * Of the polling thread the busy cycles are counted: those of polls that found
 * something.  They tell what a packet costs however much the two guests are
 * able to send. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vhu-conn.h"

struct vhu_dev;
struct vhu_vring;

/* One direction of one queue pair. */
struct vhost_path {
    struct vhu_dev *src_dev;    /* Whose guest transmits. */
    struct vhu_dev *dst_dev;    /* Whose guest receives. */
    struct vhu_vring *src;      /* Transmitq. */
    struct vhu_vring *dst;      /* Receiveq. */
};

/* What happened in one direction.  Written by the polling thread, read by
 * the control thread, as relaxed atomics. */
struct vhost_counters {
    uint64_t packets;
    uint64_t bytes;
    uint64_t drops;             /* No room, or not a packet. */
    uint64_t bursts;
};

/* Moves up to 'burst' packets along 'path' and counts them in 'counters'.
 * Returns how many packets were taken, dropped ones included.  'aux' is a
 * "private" pointer for each path, initially null.
 *
 * Polling thread. */
typedef size_t vhost_move_func(const struct vhost_path *path, size_t burst,
                               struct vhost_counters *counters, void **aux);

struct vhost_loop_config {
    const char *paths[2];       /* Sockets. */
    enum vhu_conn_mode mode;
    size_t burst;               /* 1 to VIRTQ_MAX_BURST. */
    unsigned int duration;      /* In seconds, or 0 for no end. */
    bool json;                  /* Print JSON at the end instead of text. */
    vhost_move_func *move;
};

/* Parses the command line of a program that runs such a loop: two sockets and
 * the options that vhost_loop_usage() explains.  If there is anything wrong
 * with it, or --help is there, prints that and exits. */
void vhost_loop_parse_options(int argc, char *argv[], const char *command,
                              const char *purpose,
                              struct vhost_loop_config *config);

/* Runs until the duration is over or a signal asks to end.  Returns 0, or a
 * positive errno if the loop never ran. */
int vhost_loop_run(const struct vhost_loop_config *config);

/* Adds 'n' to '*counter', which the control thread may be reading. */
static inline void
vhost_count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

#endif /* vhost-loop.h */
