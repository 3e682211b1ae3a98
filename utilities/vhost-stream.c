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

#include "vhost-stream.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "byte-order.h"
#include "csum.h"
#include "openvswitch/compiler.h"
#include "util.h"
#include "vhost-port.h"
#include "vhost-seq.h"
#include "vhu-dev.h"

/* The first source port, and the destination port ("discard"). */
#define FIRST_PORT 1024
#define DST_PORT 9

/* What a frame begins with, in the byte order of the network but for the last
 * three members, which only we read. */
OVS_PACKED(
struct frame {
    uint8_t dst_mac[6];
    uint8_t src_mac[6];
    ovs_be16 ethertype;
    uint8_t version_ihl;
    uint8_t tos;
    ovs_be16 total_len;
    ovs_be16 id;
    ovs_be16 fragment;
    uint8_t ttl;
    uint8_t protocol;
    ovs_be16 checksum;
    ovs_be32 src_ip;
    ovs_be32 dst_ip;
    ovs_be16 src_port;
    ovs_be16 dst_port;
    ovs_be16 udp_len;
    ovs_be16 udp_checksum;      /* 0: none. */
    uint64_t number;            /* In its flow. */
    uint64_t when;              /* vhost_now() */
    uint16_t stream;
});
BUILD_ASSERT_DECL(sizeof(struct frame) == VHOST_STREAM_MIN_SIZE);

/* The network that is reserved for such things (RFC 2544). */
#define SRC_IP 0xc6120001
#define DST_IP 0xc6120002

#define ETHERNET_LEN offsetof(struct frame, version_ihl)
#define IP_LEN (offsetof(struct frame, src_port) - ETHERNET_LEN)

uint64_t
vhost_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * UINT64_C(1000000000) + ts.tv_nsec;
}

static void
make_frame(struct vhost_stream *stream)
{
    const struct vhost_stream_config *config = &stream->config;
    struct frame frame = {
        .ethertype = htons(0x0800),
        .version_ihl = 0x45,
        .total_len = htons(config->size - ETHERNET_LEN),
        .fragment = htons(0x4000),
        .ttl = 64,
        .protocol = 17,
        .src_ip = htonl(SRC_IP),
        .dst_ip = htonl(DST_IP),
        .dst_port = htons(DST_PORT),
        .udp_len = htons(config->size - ETHERNET_LEN - IP_LEN),
        .stream = config->id,
    };

    memcpy(frame.dst_mac, config->dst_mac, sizeof frame.dst_mac);
    memcpy(frame.src_mac, config->src_mac, sizeof frame.src_mac);
    frame.checksum = csum((uint8_t *) &frame + ETHERNET_LEN, IP_LEN);
    stream->frame = xzalloc(config->size);
    memcpy(stream->frame, &frame, sizeof frame);
}

struct vhost_stream *
vhost_stream_create(const struct vhost_stream_config *config)
{
    struct vhost_stream *stream = xzalloc(sizeof *stream);

    stream->config = *config;
    stream->flows = xcalloc(config->n_flows, sizeof *stream->flows);
    make_frame(stream);
    return stream;
}

void
vhost_stream_destroy(struct vhost_stream *stream)
{
    if (stream) {
        for (unsigned int i = 0; i < stream->config.n_flows; i++) {
            free(stream->flows[i].seq);
        }
        free(stream->flows);
        free(stream->frame);
        free(stream);
    }
}

/* Returns how many of the flows belong to queue pair 'pair' of 'n_pairs':
 * 'pair', 'pair' + 'n_pairs', ... */
static unsigned int
flows_on(const struct vhost_stream *stream, unsigned int pair,
         unsigned int n_pairs)
{
    unsigned int n_flows = stream->config.n_flows;

    return n_flows / n_pairs + (pair < n_flows % n_pairs);
}

size_t
vhost_stream_send(struct vhost_stream *stream, const struct vhost_port *port,
                  unsigned int pair, size_t n)
{
    struct vhu_fe_vring *vring = vhu_frontend_get_vring(
        port->fe, vhu_transmitq_vring(pair));
    unsigned int n_flows = flows_on(stream, pair, port->n_pairs);
    struct frame *frame = (struct frame *) stream->frame;
    struct virtq_chain packets[VIRTQ_MAX_BURST];
    uint32_t sizes[VIRTQ_MAX_BURST];
    struct virtq_drv *vq;
    uint32_t hdr_len;
    size_t n_sent;

    vq = n_flows ? vhost_port_lock(port, vring) : NULL;
    if (!vq) {
        return 0;
    }
    hdr_len = virtq_drv_get_hdr_len(vq);
    n = MIN(n, VIRTQ_MAX_BURST);
    for (size_t i = 0; i < n; i++) {
        sizes[i] = hdr_len + stream->config.size;
    }
    n_sent = (sizes[0] > virtq_drv_get_max_packet(vq) ? 0
              : virtq_drv_reserve(vq, sizes, packets, n));
    frame->when = vhost_now();
    for (size_t i = 0; i < n_sent; i++) {
        unsigned int turn = stream->turns[pair]++ % n_flows;
        unsigned int flow = pair + turn * port->n_pairs;

        frame->src_port = htons(FIRST_PORT + flow);
        frame->number = stream->flows[flow].sent++;
        vhost_put_packet(&packets[i], hdr_len, frame, stream->config.size);
    }
    virtq_drv_publish_avail(vq);
    virtq_drv_kick(vq);
    virtq_drv_prefetch_next(vq);
    vhost_port_check(port, vq);
    vhu_fe_vring_unlock(vring);

    stream->counters.sent += n_sent;
    stream->counters.full += n - n_sent;
    stream->counters.queue_sent[pair] += n_sent;
    return n_sent;
}

bool
vhost_stream_receive(struct vhost_stream *stream, const uint8_t *head,
                     uint32_t len, unsigned int pair, uint64_t now)
{
    struct vhost_stream_flow *flow;
    struct frame frame;
    unsigned int port;
    uint64_t unique, next;

    memcpy(&frame, head, sizeof frame);
    port = ntohs(frame.src_port);
    if (len < sizeof frame
        || frame.ethertype != htons(0x0800) || frame.protocol != 17
        || frame.src_ip != htonl(SRC_IP) || frame.dst_ip != htonl(DST_IP)
        || frame.dst_port != htons(DST_PORT)
        || frame.stream != stream->config.id
        || port < FIRST_PORT
        || port - FIRST_PORT >= stream->config.n_flows) {
        return false;
    }
    flow = &stream->flows[port - FIRST_PORT];
    if (frame.number >= flow->sent) {
        /* Of an earlier run, or not ours after all. */
        return false;
    }

    if (!flow->seq) {
        flow->seq = xmalloc(sizeof *flow->seq);
        vhost_seq_init(flow->seq);
    }
    unique = flow->seq->unique;
    next = flow->seq->next;
    vhost_seq_add(flow->seq, frame.number);
    stream->counters.passed += flow->seq->next - next;
    stream->counters.recovered += (frame.number >= flow->marked_first
                                   && frame.number < flow->marked_end
                                   && flow->seq->unique > unique);
    vhost_hist_add(&stream->latency, now > frame.when ? now - frame.when : 0,
                   1);
    stream->counters.received++;
    stream->counters.bytes += len;
    stream->counters.bad += len != stream->config.size;
    stream->counters.queue_received[pair]++;
    return true;
}

void
vhost_stream_sum(const struct vhost_stream *stream,
                 struct vhost_stream_sum *sum)
{
    memset(sum, 0, sizeof *sum);
    for (unsigned int i = 0; i < stream->config.n_flows; i++) {
        const struct vhost_seq *seq = stream->flows[i].seq;

        if (seq) {
            sum->unique += seq->unique;
            sum->gaps += seq->next - seq->unique;
            sum->reordered += seq->reordered;
            sum->duplicates += seq->duplicates;
            sum->stale += seq->stale;
        }
    }
}

uint64_t
vhost_stream_mark(struct vhost_stream *stream)
{
    uint64_t n = 0;

    for (unsigned int i = 0; i < stream->config.n_flows; i++) {
        struct vhost_stream_flow *flow = &stream->flows[i];

        flow->marked_first = flow->seq ? flow->seq->next : 0;
        flow->marked_end = flow->sent;
        n += flow->marked_end - flow->marked_first;
    }
    stream->counters.recovered = 0;
    return n;
}

uint64_t
vhost_stream_lost_on(const struct vhost_stream *stream, unsigned int pair,
                     unsigned int n_pairs)
{
    uint64_t lost = 0;

    for (unsigned int i = pair; i < stream->config.n_flows; i += n_pairs) {
        const struct vhost_stream_flow *flow = &stream->flows[i];

        lost += flow->sent - (flow->seq ? flow->seq->unique : 0);
    }
    return lost;
}
