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

#ifndef VHOST_STREAM_H
#define VHOST_STREAM_H 1

/* Numbered packets, generated and recognized
 * ==========================================
 *
 * A stream is a number of flows of UDP packets that differ in their source
 * port.  Each packet carries its number in its flow and the time when it was
 * sent, so that whoever receives it knows what got lost, was reordered or came
 * twice, and how long it took.  As the order matters only within a flow, each
 * flow keeps to one queue.
 *
 * The smallest frame, 60 bytes without its checksum, has room for this. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vhost-hist.h"
#include "vhost-user-spec.h"

struct vhost_port;
struct vhost_seq;

#define VHOST_STREAM_MIN_SIZE 60
#define VHOST_STREAM_MAX_SIZE 65535
#define VHOST_STREAM_MAX_FLOWS 16384

struct vhost_stream_config {
    uint16_t id;                /* To tell streams from each other. */
    uint32_t size;              /* Of a frame, without its checksum. */
    unsigned int n_flows;
    uint8_t src_mac[6], dst_mac[6];
};

/* What has happened. */
struct vhost_stream_counters {
    uint64_t sent;
    uint64_t full;              /* Not sent, because the ring was full. */
    uint64_t received;          /* Any packet of the stream. */
    uint64_t bytes;             /* In these. */
    uint64_t bad;               /* Not as long as they were sent. */
    uint64_t passed;            /* That arrived, or a later one of their flow
                                 * did. */
    uint64_t recovered;         /* That were under way when the last mark was
                                 * made, and arrived. */
    uint64_t queue_sent[VHOST_USER_MAX_QUEUE_PAIRS];
    uint64_t queue_received[VHOST_USER_MAX_QUEUE_PAIRS];
};

struct vhost_stream_flow {
    uint64_t sent;
    struct vhost_seq *seq;      /* Null before the first packet comes. */
    uint64_t marked_first, marked_end; /* Under way at the last mark: from the
                                        * first number to below the second. */
};

struct vhost_stream {
    struct vhost_stream_config config;
    struct vhost_stream_counters counters;
    struct vhost_hist latency;  /* In ns. */
    struct vhost_stream_flow *flows;
    uint64_t turns[VHOST_USER_MAX_QUEUE_PAIRS]; /* Of the flows of a queue. */
    uint8_t *frame;             /* To copy. */
};

/* What the flows together say. */
struct vhost_stream_sum {
    uint64_t unique;            /* Packets that arrived at least once. */
    uint64_t gaps;              /* That did not, but a later one did. */
    uint64_t reordered, duplicates, stale; /* See vhost-seq.h. */
};

struct vhost_stream *vhost_stream_create(const struct vhost_stream_config *);
void vhost_stream_destroy(struct vhost_stream *stream);

/* Sends up to 'n' packets of the flows that belong to queue pair 'pair' of
 * 'port', over its transmitq.  Returns how many were sent. */
size_t vhost_stream_send(struct vhost_stream *stream,
                         const struct vhost_port *port, unsigned int pair,
                         size_t n);

/* Counts the frame of 'len' bytes that came at time 'now' (vhost_now()) from
 * receiveq 'pair', of which the first VHOST_STREAM_MIN_SIZE bytes are at
 * 'head'.  Returns false if it does not belong to 'stream'. */
bool vhost_stream_receive(struct vhost_stream *stream, const uint8_t *head,
                          uint32_t len, unsigned int pair, uint64_t now);

void vhost_stream_sum(const struct vhost_stream *stream,
                      struct vhost_stream_sum *sum);

/* Makes a mark: returns how many packets were sent after the last one of their
 * flow that arrived.  From now on 'counters.recovered' says how many of these
 * arrived in the end. */
uint64_t vhost_stream_mark(struct vhost_stream *stream);

/* Returns how many packets of the flows that belong to queue pair 'pair' of
 * 'n_pairs' were sent and did not arrive. */
uint64_t vhost_stream_lost_on(const struct vhost_stream *stream,
                              unsigned int pair, unsigned int n_pairs);

/* Returns the monotonic time in ns. */
uint64_t vhost_now(void);

#endif /* vhost-stream.h */
