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

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "openvswitch/dynamic-string.h"
#include "openvswitch/json.h"
#include "util.h"
#include "vhost-hist.h"
#include "vhost-util.h"

static const double percents[] = { 50, 90, 99, 99.9 };

/* What became of the packets of one way. */
struct result {
    const struct vhost_perf_way *way;
    struct vhost_stream_sum sum;
    uint64_t pending;           /* Never transmitted by the back-end. */
    uint64_t lost;
    double percent;             /* Lost of those that were transmitted. */
};

static struct result
get_result(const struct vhost_perf_way *way)
{
    uint64_t sent = way->stream->counters.sent;
    struct result r = { .way = way };

    vhost_stream_sum(way->stream, &r.sum);
    r.pending = MIN(vhost_port_count_pending(way->src),
                    sent - r.sum.unique);
    r.lost = sent - r.sum.unique - r.pending;
    r.percent = 100.0 * r.lost / MAX(sent - r.pending, 1);
    return r;
}

/* How many of the packets that were under way when the back-end went neither
 * came nor are still under way, or were when it went the next time. */
static uint64_t
get_lost(const struct vhost_perf_loss *loss)
{
    uint64_t n = loss->in_ring + loss->in_switch;

    return n - MIN(n, loss->recovered + loss->waiting);
}

/* Text. */

static void
put_count(struct ds *s, const char *what, uint64_t n, uint64_t bytes,
          double seconds)
{
    char rate[16], bits[16];

    ds_put_format(s, "  %-11s %12"PRIu64"  %spps, %sbit/s\n", what, n,
                  vhost_format_rate(n / seconds, rate, sizeof rate),
                  vhost_format_rate(8.0 * bytes / seconds, bits,
                                    sizeof bits));
}

static void
put_latency(struct ds *s, const struct vhost_hist *hist)
{
    if (!hist->n) {
        return;
    }
    ds_put_cstr(s, "  latency     ");
    for (size_t i = 0; i < ARRAY_SIZE(percents); i++) {
        ds_put_format(s, "p%g ", percents[i]);
        vhost_format_ns(s, vhost_hist_percentile(hist, percents[i]));
        ds_put_cstr(s, ", ");
    }
    ds_put_cstr(s, "max ");
    vhost_format_ns(s, hist->max);
    ds_put_cstr(s, ", min ");
    vhost_format_ns(s, hist->min);
    ds_put_char(s, '\n');
    vhost_hist_format(hist, s);
}

static void
put_queues(struct ds *s, const struct vhost_perf_way *way)
{
    const struct vhost_stream_counters *c = &way->stream->counters;
    unsigned int n = MAX(way->src->n_pairs, way->dst->n_pairs);

    for (unsigned int i = 0; n > 1 && i < n; i++) {
        ds_put_format(s, "  queue %-5u %12"PRIu64" sent, %"PRIu64" of them "
                      "missing, %"PRIu64" received\n", i, c->queue_sent[i],
                      (i < way->src->n_pairs
                       ? vhost_stream_lost_on(way->stream, i,
                                              way->src->n_pairs) : 0),
                      c->queue_received[i]);
    }
}

static void
put_outages(struct ds *s, const struct vhost_perf *perf, size_t way)
{
    for (size_t i = 0; i < perf->n_outages; i++) {
        const struct vhost_perf_outage *outage = &perf->outages[i];
        const struct vhost_perf_loss *loss = &outage->ways[way];

        ds_put_format(s, "  back-end gone at %.3f s, ",
                      (outage->start - perf->start) / 1e9);
        if (outage->end) {
            ds_put_format(s, "back in %.3f s",
                          (outage->end - outage->start) / 1e9);
        } else {
            ds_put_cstr(s, "not back");
        }
        ds_put_format(s, ": %"PRIu64" in the ring, %"PRIu64" in the switch, "
                      "%"PRIu64" of them lost, %"PRIu64" duplicates, %"PRIu64
                      " reordered\n", loss->in_ring, loss->in_switch,
                      get_lost(loss), loss->duplicates, loss->reordered);
    }
}

static void
put_way(struct ds *s, const struct vhost_perf *perf, const struct result *r)
{
    const struct vhost_stream *stream = r->way->stream;
    const struct vhost_stream_counters *c = &stream->counters;

    ds_put_format(s, "%s -> %s: %.1f s, %"PRIu32"-byte frames, %u flows, "
                  "%u queue%s, %s rings\n", r->way->src->path,
                  r->way->dst->path, perf->seconds, stream->config.size,
                  stream->config.n_flows, r->way->src->n_pairs,
                  r->way->src->n_pairs == 1 ? "" : "s",
                  perf->config.packed ? "packed" : "split");
    put_count(s, "sent", c->sent, c->sent * stream->config.size,
              perf->seconds);
    if (perf->send_only) {
        return;
    }
    put_count(s, "received", c->received, c->bytes, perf->seconds);
    ds_put_format(s, "  %-11s %12"PRIu64"  %.4f %%\n", "lost", r->lost,
                  r->percent);
    if (r->pending) {
        ds_put_format(s, "  %-11s %12"PRIu64"  in the ring, never "
                      "transmitted\n", "pending", r->pending);
    }
    ds_put_format(s, "  %-11s %12"PRIu64"\n  %-11s %12"PRIu64"\n",
                  "reordered", r->sum.reordered, "duplicates",
                  r->sum.duplicates);
    if (r->sum.stale || c->bad) {
        ds_put_format(s, "  %-11s %12"PRIu64"  too late to say whether twice\n"
                      "  %-11s %12"PRIu64"  of another length than sent\n",
                      "stale", r->sum.stale, "malformed", c->bad);
    }
    put_outages(s, perf, r->way - perf->ways);
    put_queues(s, r->way);
    put_latency(s, &stream->latency);
}

static void
print_text(const struct vhost_perf *perf, const struct result results[])
{
    struct ds s = DS_EMPTY_INITIALIZER;

    for (size_t i = 0; i < perf->n_ways; i++) {
        put_way(&s, perf, &results[i]);
    }
    for (size_t i = 0; i < perf->n_ports; i++) {
        const struct vhost_port *port = &perf->ports[i];

        if (perf->receive_only) {
            ds_put_format(&s, "%s: %.1f s\n", port->path, perf->seconds);
            put_count(&s, "received", perf->others[i].packets,
                      perf->others[i].bytes, perf->seconds);
        } else if (perf->others[i].packets && !perf->send_only) {
            ds_put_format(&s, "%s: %"PRIu64" packets that are not ours\n",
                          port->path, perf->others[i].packets);
        }
        if (port->n_ups > 1) {
            ds_put_format(&s, "%s: came up %u times\n", port->path,
                          port->n_ups);
        }
    }
    fputs(ds_cstr(&s), stdout);
    fflush(stdout);
    ds_destroy(&s);
}

/* JSON. */

static void
put_number(struct json *object, const char *name, uint64_t value)
{
    json_object_put(object, name, json_integer_create(value));
}

static struct json *
latency_to_json(const struct vhost_hist *hist)
{
    struct json *object = json_object_create();

    for (size_t i = 0; i < ARRAY_SIZE(percents); i++) {
        char name[16];

        snprintf(name, sizeof name, "p%g", percents[i]);
        put_number(object, name, vhost_hist_percentile(hist, percents[i]));
    }
    put_number(object, "min", hist->min);
    put_number(object, "max", hist->max);
    put_number(object, "count", hist->n);
    return object;
}

static struct json *
queues_to_json(const struct vhost_perf_way *way)
{
    const struct vhost_stream_counters *c = &way->stream->counters;
    struct json *array = json_array_create_empty();

    for (unsigned int i = 0; i < MAX(way->src->n_pairs, way->dst->n_pairs);
         i++) {
        struct json *object = json_object_create();

        put_number(object, "sent", c->queue_sent[i]);
        put_number(object, "received", c->queue_received[i]);
        put_number(object, "missing",
                   (i < way->src->n_pairs
                    ? vhost_stream_lost_on(way->stream, i, way->src->n_pairs)
                    : 0));
        json_array_add(array, object);
    }
    return array;
}

static struct json *
outages_to_json(const struct vhost_perf *perf, size_t way)
{
    struct json *array = json_array_create_empty();

    for (size_t i = 0; i < perf->n_outages; i++) {
        const struct vhost_perf_outage *outage = &perf->outages[i];
        const struct vhost_perf_loss *loss = &outage->ways[way];
        struct json *object = json_object_create();

        put_number(object, "start_ns", outage->start - perf->start);
        if (outage->end) {
            put_number(object, "duration_ns", outage->end - outage->start);
        }
        put_number(object, "in_ring", loss->in_ring);
        put_number(object, "in_switch", loss->in_switch);
        put_number(object, "lost", get_lost(loss));
        put_number(object, "duplicates", loss->duplicates);
        put_number(object, "reordered", loss->reordered);
        json_array_add(array, object);
    }
    return array;
}

static struct json *
way_to_json(const struct vhost_perf *perf, const struct result *r)
{
    const struct vhost_stream *stream = r->way->stream;
    const struct vhost_stream_counters *c = &stream->counters;
    struct json *object = json_object_create();

    json_object_put_string(object, "from", r->way->src->path);
    json_object_put_string(object, "to", r->way->dst->path);
    put_number(object, "sent", c->sent);
    put_number(object, "full", c->full);
    json_object_put(object, "sent_per_second",
                    json_real_create(c->sent / perf->seconds));
    if (perf->send_only) {
        return object;
    }
    put_number(object, "received", c->received);
    json_object_put(object, "received_per_second",
                    json_real_create(c->received / perf->seconds));
    put_number(object, "lost", r->lost);
    put_number(object, "pending", r->pending);
    put_number(object, "reordered", r->sum.reordered);
    put_number(object, "duplicates", r->sum.duplicates);
    put_number(object, "stale", r->sum.stale);
    put_number(object, "malformed", c->bad);
    json_object_put(object, "outages",
                    outages_to_json(perf, r->way - perf->ways));
    json_object_put(object, "queues", queues_to_json(r->way));
    if (stream->latency.n) {
        json_object_put(object, "latency_ns",
                        latency_to_json(&stream->latency));
    }
    return object;
}

static void
print_json(const struct vhost_perf *perf, const struct result results[])
{
    struct json *object = json_object_create();
    struct json *ways = json_array_create_empty();
    struct json *ports = json_array_create_empty();

    for (size_t i = 0; i < perf->n_ways; i++) {
        json_array_add(ways, way_to_json(perf, &results[i]));
    }
    for (size_t i = 0; i < perf->n_ports; i++) {
        struct json *port = json_object_create();

        json_object_put_string(port, "socket", perf->ports[i].path);
        put_number(port, "times_up", perf->ports[i].n_ups);
        put_number(port, "queue_pairs", perf->ports[i].n_pairs);
        put_number(port, "other_packets", perf->others[i].packets);
        put_number(port, "other_bytes", perf->others[i].bytes);
        json_array_add(ports, port);
    }
    json_object_put(object, "seconds", json_real_create(perf->seconds));
    put_number(object, "size", perf->size);
    put_number(object, "flows", perf->n_flows);
    json_object_put(object, "directions", ways);
    json_object_put(object, "ports", ports);
    vhost_print_json(object, false);
}

void
vhost_perf_progress(struct vhost_perf *perf, uint64_t now)
{
    struct vhost_perf_sample sample = { .when = now };
    uint64_t gaps = 0, reordered = 0, duplicates = 0;
    char sent[16], received[16];
    double seconds;

    if (perf->json) {
        return;
    }
    for (size_t i = 0; i < perf->n_ways; i++) {
        const struct vhost_stream *stream = perf->ways[i].stream;
        struct vhost_stream_sum sum;

        vhost_stream_sum(stream, &sum);
        sample.sent += stream->counters.sent;
        sample.received += stream->counters.received;
        gaps += sum.gaps;
        reordered += sum.reordered;
        duplicates += sum.duplicates;
    }
    for (size_t i = 0; i < perf->n_ports; i++) {
        sample.others += perf->others[i].packets;
    }

    seconds = (now - (perf->last.when ? perf->last.when : perf->start)) / 1e9;
    vhost_format_rate((sample.sent - perf->last.sent) / seconds, sent,
                      sizeof sent);
    vhost_format_rate(((perf->receive_only
                        ? sample.others - perf->last.others
                        : sample.received - perf->last.received) / seconds),
                      received, sizeof received);
    printf("%3.0f s: ", (now - perf->start) / 1e9);
    if (perf->receive_only) {
        printf("%spps\n", received);
    } else if (perf->send_only) {
        printf("sent %spps\n", sent);
    } else {
        printf("sent %spps, received %spps, missing %"PRIu64", reordered "
               "%"PRIu64", duplicates %"PRIu64"\n", sent, received, gaps,
               reordered, duplicates);
    }
    fflush(stdout);
    perf->last = sample;
}

bool
vhost_perf_report(struct vhost_perf *perf)
{
    struct result results[2];
    char *error;

    for (size_t i = 0; i < perf->n_ways; i++) {
        results[i] = get_result(&perf->ways[i]);
    }
    if (perf->json) {
        print_json(perf, results);
    } else {
        print_text(perf, results);
    }
    if (perf->png) {
        struct vhost_hist *hist = xmalloc(sizeof *hist);
        int retval;

        vhost_hist_init(hist);
        for (size_t i = 0; i < perf->n_ways; i++) {
            vhost_hist_merge(hist, &perf->ways[i].stream->latency);
        }
        retval = vhost_hist_write_png(hist, perf->png, &error);
        free(hist);
        if (retval) {
            fprintf(stderr, "ovs-vhost perf: %s\n", error);
            free(error);
            return false;
        }
    }
    return true;
}
