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

#undef NDEBUG

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"
#include "util.h"
#include "vhost-perf.h"
#include "vhutest.h"

/* What ovs-vhost perf says of outages, compared with what really happens to
 * the packets of one flow between two ports that do not exist. */

/* Packets are numbered from 0 on, and each number is
 *
 *   - below 'arrived': has arrived, or is lost,
 *   - below 'taken': is in the hands of a back-end,
 *   - below the number of those sent: waits in the ring. */
static uint64_t taken, arrived;

/* What we expect of an outage. */
struct truth {
    uint64_t in_ring, in_switch, lost, duplicates;
};

/* In place of vhost-port.c. */

uint64_t
vhost_port_count_pending(struct vhost_port *port)
{
    const struct vhost_perf *perf = CONTAINER_OF(port, struct vhost_perf,
                                                 ports[0]);

    return perf->ways[0].stream->counters.sent - taken;
}

bool
vhost_ports_are_up(const struct vhost_port ports[], size_t n OVS_UNUSED)
{
    return ports[0].up;
}

struct virtq_drv *
vhost_port_lock(const struct vhost_port *port OVS_UNUSED,
                struct vhu_fe_vring *vring OVS_UNUSED)
{
    OVS_NOT_REACHED();
}

void
vhost_put_packet(const struct virtq_chain *packet OVS_UNUSED,
                 uint32_t hdr_len OVS_UNUSED, const void *data OVS_UNUSED,
                 uint32_t len OVS_UNUSED)
{
    OVS_NOT_REACHED();
}

static void
send_packets(struct vhost_stream *stream, uint64_t n)
{
    stream->flows[0].sent += n;
    stream->counters.sent += n;
}

static void
receive_packet(struct vhost_stream *stream, uint64_t number)
{
    static const uint8_t src_port[2] = { 1024 / 256, 0 };

    /* The source port is the flow, and behind UDP's header is the number. */
    memcpy(stream->frame + 14 + 20, src_port, sizeof src_port);
    memcpy(stream->frame + 14 + 20 + 8, &number, sizeof number);
    assert(vhost_stream_receive(stream, stream->frame, VHOST_STREAM_MIN_SIZE,
                                0, 0));
}

/* Returns a number up to 'max', which often is 0 or 'max'. */
static uint64_t
some(uint64_t max)
{
    switch (random_range(4)) {
    case 0: return 0;
    case 1: return max;
    default: return random_range(max + 1);
    }
}

/* The back-end works for a while; after an outage it may as well do nothing
 * before the next. */
static void
work(struct vhost_stream *stream, struct truth *last)
{
    for (uint32_t i = random_range(4); i > 0; i--) {
        uint64_t until;

        send_packets(stream, some(20));
        taken += some(stream->counters.sent - taken);
        until = arrived + some(taken - arrived);
        while (arrived < until) {
            receive_packet(stream, arrived++);
            if (last && !random_range(10)) {
                receive_packet(stream, arrived - 1);
                last->duplicates++;
            }
        }
    }
}

/* The back-end dies with what it has taken, of which the first packets were in
 * the other's ring already. */
static void
die(struct vhost_perf *perf, uint64_t now, struct truth *truth)
{
    struct vhost_stream *stream = perf->ways[0].stream;
    uint64_t n_in_other_ring = some(taken - arrived);

    perf->ports[0].up = false;
    assert(vhost_perf_outage_look(perf, now));
    vhost_perf_outage_begin(perf, now);
    assert(!vhost_perf_outage_look(perf, now));

    *truth = (struct truth) {
        .in_ring = stream->counters.sent - taken,
        .in_switch = taken - arrived,
        .lost = taken - arrived - n_in_other_ring,
    };
    for (uint64_t i = 0; i < n_in_other_ring; i++) {
        receive_packet(stream, arrived + i);
    }
    arrived = taken;

    perf->ports[0].up = true;
    assert(!vhost_perf_outage_look(perf, now + 1));
}

static void
test_outages(uint32_t seed)
{
    static const struct vhost_stream_config config = {
        .size = VHOST_STREAM_MIN_SIZE, .n_flows = 1,
    };
    struct vhost_stream *stream = vhost_stream_create(&config);
    struct vhost_perf perf = {
        .ports = { { .up = true } },
        .n_ports = 1,
        .ways = { { .src = &perf.ports[0], .stream = stream } },
        .n_ways = 1,
        .all_up = true,
    };
    struct truth truths[50];

    random_set_seed(seed);
    taken = arrived = 0;
    for (size_t i = 0; i < ARRAY_SIZE(truths); i++) {
        work(stream, i ? &truths[i - 1] : NULL);
        die(&perf, 100 + i, &truths[i]);
    }
    work(stream, &truths[ARRAY_SIZE(truths) - 1]);
    while (arrived < taken) {
        receive_packet(stream, arrived++);
    }
    vhost_perf_outage_finish(&perf);

    assert(perf.n_outages == ARRAY_SIZE(truths));
    for (size_t i = 0; i < perf.n_outages; i++) {
        const struct vhost_perf_outage *outage = &perf.outages[i];
        const struct vhost_perf_loss *loss = &outage->ways[0];
        const struct truth *truth = &truths[i];

        assert(outage->start == 100 + i && outage->end == 101 + i);
        assert(loss->in_ring == truth->in_ring);
        assert(loss->in_switch == truth->in_switch);
        assert(loss->in_ring + loss->in_switch - loss->recovered
               - loss->waiting == truth->lost);
        assert(loss->duplicates == truth->duplicates && !loss->reordered);
    }
    free(perf.outages);
    vhost_stream_destroy(stream);
}

static void
test_vhost_perf_main(int argc OVS_UNUSED, char *argv[] OVS_UNUSED)
{
    for (uint32_t seed = 1; seed <= 200; seed++) {
        test_outages(seed);
    }
}

VHUTEST_REGISTER("perf", test_vhost_perf_main);
