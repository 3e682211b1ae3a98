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

#ifndef VHOST_PERF_H
#define VHOST_PERF_H 1

/* One run of "ovs-vhost perf"
 * ===========================
 *
 * vhost-perf.c runs it, vhost-perf-report.c tells of it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vhost-port.h"
#include "vhost-stream.h"

/* One direction. */
struct vhost_perf_way {
    struct vhost_port *src, *dst; /* May be the same. */
    struct vhost_stream *stream;
    uint64_t n_done;            /* Packets that were due. */
    unsigned int turn;          /* Next queue pair to send on. */
};

/* Counters at a time. */
struct vhost_perf_sample {
    uint64_t when;              /* vhost_now() */
    uint64_t sent, received, others;
};

struct vhost_perf {
    /* What is wanted. */
    const char *paths[2];
    size_t n_ports;
    struct vhost_port_config config;
    uint32_t size;
    double rate;                /* Packets a second, each way; 0 for no
                                 * limit. */
    unsigned int n_flows;
    size_t burst;
    double duration, wait;      /* In seconds, 0 for no end. */
    double settle;              /* In seconds. */
    bool bidirectional, send_only, receive_only, json;
    const char *png;            /* File to draw, or null. */

    /* What happens. */
    struct vhost_port ports[2];
    struct vhost_perf_way ways[2];
    size_t n_ways;
    struct {
        uint64_t packets;
        uint64_t bytes;
    } others[2];                /* That came from a port and are not ours. */
    uint64_t start;             /* vhost_now() */
    double seconds;             /* That packets were sent. */
    struct vhost_perf_sample last; /* For vhost_perf_progress(). */
};

/* Prints what happened since the last time, unless JSON is wanted. */
void vhost_perf_progress(struct vhost_perf *perf, uint64_t now);

/* Prints, and draws, the result.  Returns false if that fails, having said
 * why. */
bool vhost_perf_report(struct vhost_perf *perf);

#endif /* vhost-perf.h */
