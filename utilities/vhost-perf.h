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

/* What a time without a back-end meant for one direction. */
struct vhost_perf_loss {
    /* When the back-end went away: */
    uint64_t in_ring;           /* Packets that it had not transmitted, */
    uint64_t in_switch;         /* and that it had, but that did not come. */
    uint64_t sent;              /* All packets so far. */

    /* From then on to the next time: */
    uint64_t recovered;         /* Of all those, that came after all, */
    uint64_t waiting;           /* and that are under way still. */
    uint64_t duplicates, reordered;
};

/* From when one of the back-ends was gone until all were back. */
struct vhost_perf_outage {
    uint64_t start;             /* vhost_now() */
    uint64_t end;               /* The same, or 0 if they are not back. */
    struct vhost_perf_loss ways[2];
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
    uint64_t window;            /* Packets under way, or 0 for no limit. */
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
    bool all_up;                /* When last looked at. */
    struct vhost_perf_outage *outages;
    size_t n_outages, allocated_outages;
};

/* To be called after vhost_ports_run(): takes note if a back-end has gone, or
 * all are back.  Returns true if one has just gone; whoever calls that then
 * receives all that there is and calls vhost_perf_outage_begin(). */
bool vhost_perf_outage_look(struct vhost_perf *perf, uint64_t now);
void vhost_perf_outage_begin(struct vhost_perf *perf, uint64_t now);

/* To be called at the end: completes what is known of the last outage. */
void vhost_perf_outage_finish(struct vhost_perf *perf);

/* Prints what happened since the last time, unless JSON is wanted. */
void vhost_perf_progress(struct vhost_perf *perf, uint64_t now);

/* Prints, and draws, the result.  Returns false if that fails, having said
 * why. */
bool vhost_perf_report(struct vhost_perf *perf);

#endif /* vhost-perf.h */
