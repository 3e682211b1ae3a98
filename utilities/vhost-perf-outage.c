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

#include "vhost-perf.h"

#include "util.h"

/* What the loss of a back-end means for the packets.
 *
 * When it is gone nothing moves any more.  Of the packets that were sent and
 * have not come then, those that are still in a transmitq wait for the next
 * back-end, and the others were in the hands of the last one. */

/* Completes what the last outage meant for 'way', if there was one, with what
 * has happened since: 'recovered' of its packets came, and 'n' packets are
 * under way now.  Returns how many of these were lost then. */
static uint64_t
complete_last(struct vhost_perf *perf, size_t way, uint64_t recovered,
              uint64_t n)
{
    const struct vhost_stream *stream = perf->ways[way].stream;
    struct vhost_stream_sum sum;
    struct vhost_perf_loss *loss;
    uint64_t n_old;

    if (!perf->n_outages) {
        return 0;
    }
    loss = &perf->outages[perf->n_outages - 1].ways[way];
    vhost_stream_sum(stream, &sum);
    loss->recovered = recovered;
    loss->duplicates = sum.duplicates + sum.stale - loss->duplicates;
    loss->reordered = sum.reordered - loss->reordered;

    /* A ring is emptied in order. */
    n_old = n - MIN(n, stream->counters.sent - loss->sent);
    loss->waiting = MIN(n_old, loss->in_ring);
    return n_old - loss->waiting;
}

bool
vhost_perf_outage_look(struct vhost_perf *perf, uint64_t now)
{
    bool was_up = perf->all_up;

    perf->all_up = vhost_ports_are_up(perf->ports, perf->n_ports);
    if (perf->all_up && !was_up && perf->n_outages) {
        perf->outages[perf->n_outages - 1].end = now;
    }
    return was_up && !perf->all_up;
}

void
vhost_perf_outage_begin(struct vhost_perf *perf, uint64_t now)
{
    struct vhost_perf_outage *outage;

    if (perf->n_outages >= perf->allocated_outages) {
        perf->outages = x2nrealloc(perf->outages, &perf->allocated_outages,
                                   sizeof *perf->outages);
    }
    outage = &perf->outages[perf->n_outages];
    *outage = (struct vhost_perf_outage) { .start = now };
    for (size_t i = 0; i < perf->n_ways; i++) {
        struct vhost_perf_way *way = &perf->ways[i];
        struct vhost_perf_loss *loss = &outage->ways[i];
        uint64_t recovered = way->stream->counters.recovered;
        uint64_t n = vhost_stream_mark(way->stream);
        struct vhost_stream_sum sum;

        n -= complete_last(perf, i, recovered, n);

        /* These hold the sums of now until complete_last(). */
        vhost_stream_sum(way->stream, &sum);
        loss->duplicates = sum.duplicates + sum.stale;
        loss->reordered = sum.reordered;

        loss->in_ring = MIN(vhost_port_count_pending(way->src), n);
        loss->in_switch = n - loss->in_ring;
        loss->sent = way->stream->counters.sent;
    }
    perf->n_outages++;
}

void
vhost_perf_outage_finish(struct vhost_perf *perf)
{
    for (size_t i = 0; i < perf->n_ways; i++) {
        const struct vhost_perf_way *way = &perf->ways[i];

        complete_last(perf, i, way->stream->counters.recovered,
                      vhost_port_count_pending(way->src));
    }
}
