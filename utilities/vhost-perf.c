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

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ovs-rcu.h"
#include "ovs-vhost.h"
#include "random.h"
#include "timeval.h"
#include "util.h"
#include "vhost-port.h"
#include "vhost-stream.h"
#include "vhost-util.h"
#include "vhu-dev.h"

static const char command[] = "ovs-vhost perf";

/* Between two looks at the sockets, in ns. */
#define CONTROL_INTERVAL 1000000

/* For packets that are still under way when we have sent the last one: until
 * none has come for QUIET, LAST at most, in ns. */
#define QUIET 300000000
#define LAST UINT64_C(3000000000)

static void OVS_NO_RETURN
usage(void)
{
    printf("%s: load and measure vhost-user back-ends\n"
           "usage: %s [OPTION...] SOCKET [SOCKET]\n\n"
           "Sends numbered packets to the back-end at the first socket and "
           "receives them from\nthe second or, if there is one only, from "
           "the same.  A back-end that goes away\nis waited for.  One thread "
           "polls; give it a core of its own (taskset -c).\n\n"
           "options:\n"
           "  --size=N             bytes of a frame without its checksum, "
           "from %d\n                       (default: %d)\n"
           "  --rate=N             packets a second, each way; N may end in "
           "k or M\n                       (default: as many as possible)\n"
           "  --flows=N            flows, which differ in their UDP source "
           "port (default: 16)\n"
           "  --burst=N            packets sent at once, 1 to %d "
           "(default: 32)\n"
           "  --window=N           packets under way at most, each way "
           "(default: no limit)\n"
           "  --duration=S         seconds from when all are up (default: "
           "10; 0: no end)\n"
           "  --wait=S             seconds to wait for that (default: 10; 0: "
           "no end)\n"
           "  --settle=S           seconds to wait then, since a switch may "
           "reconfigure\n                       itself (default: 0.5)\n"
           "  --bidirectional      from the second socket to the first, "
           "too\n"
           "  --send-only          do not wait for what was sent\n"
           "  --receive-only       send nothing, count any packet\n"
           "%s"
           "  --png=FILE           draw the latencies with gnuplot\n"
           "  --json               print the result as JSON, and nothing "
           "else\n"
           "  -h, --help           print this\n\n"
           "Exit status: 0 if something was measured, also if packets were "
           "lost.\n", command, command, VHOST_STREAM_MIN_SIZE,
           VHOST_STREAM_MIN_SIZE, VIRTQ_MAX_BURST, vhost_port_help);
    exit(EXIT_SUCCESS);
}

enum {
    OPT_SIZE = 256, OPT_RATE, OPT_FLOWS, OPT_BURST, OPT_DURATION, OPT_WAIT,
    OPT_SETTLE, OPT_BIDIRECTIONAL, OPT_SEND_ONLY, OPT_RECEIVE_ONLY, OPT_PNG,
    OPT_JSON, OPT_WINDOW,
};

static void
parse_option(int c, struct vhost_perf *perf)
{
    switch (c) {
    case OPT_SIZE:
        perf->size = vhost_parse_number(command, "--size", optarg,
                                        VHOST_STREAM_MIN_SIZE,
                                        VHOST_STREAM_MAX_SIZE);
        break;
    case OPT_RATE:
        perf->rate = vhost_parse_real(command, "--rate", optarg, 1e-3, 1e9);
        break;
    case OPT_FLOWS:
        perf->n_flows = vhost_parse_number(command, "--flows", optarg, 1,
                                           VHOST_STREAM_MAX_FLOWS);
        break;
    case OPT_BURST:
        perf->burst = vhost_parse_number(command, "--burst", optarg, 1,
                                         VIRTQ_MAX_BURST);
        break;
    case OPT_WINDOW:
        perf->window = vhost_parse_number(command, "--window", optarg, 1,
                                          INT_MAX);
        break;
    case OPT_DURATION:
        perf->duration = vhost_parse_real(command, "--duration", optarg, 0,
                                          1e9);
        break;
    case OPT_WAIT:
        perf->wait = vhost_parse_real(command, "--wait", optarg, 0, 1e9);
        break;
    case OPT_SETTLE:
        perf->settle = vhost_parse_real(command, "--settle", optarg, 0, 1e9);
        break;
    case OPT_BIDIRECTIONAL:
        perf->bidirectional = true;
        break;
    case OPT_SEND_ONLY:
        perf->send_only = true;
        break;
    case OPT_RECEIVE_ONLY:
        perf->receive_only = true;
        break;
    case OPT_PNG:
        perf->png = optarg;
        break;
    case OPT_JSON:
        perf->json = true;
        break;
    case 'h':
        usage();
    default:
        if (!vhost_port_parse_option(command, c, &perf->config)) {
            vhost_bad_usage(command, "bad option");
        }
        break;
    }
}

static void
parse_options(int argc, char *argv[], struct vhost_perf *perf)
{
    static const struct option options[] = {
        VHOST_PORT_OPTIONS,
        { "size", required_argument, NULL, OPT_SIZE },
        { "rate", required_argument, NULL, OPT_RATE },
        { "flows", required_argument, NULL, OPT_FLOWS },
        { "burst", required_argument, NULL, OPT_BURST },
        { "window", required_argument, NULL, OPT_WINDOW },
        { "duration", required_argument, NULL, OPT_DURATION },
        { "wait", required_argument, NULL, OPT_WAIT },
        { "settle", required_argument, NULL, OPT_SETTLE },
        { "bidirectional", no_argument, NULL, OPT_BIDIRECTIONAL },
        { "send-only", no_argument, NULL, OPT_SEND_ONLY },
        { "receive-only", no_argument, NULL, OPT_RECEIVE_ONLY },
        { "png", required_argument, NULL, OPT_PNG },
        { "json", no_argument, NULL, OPT_JSON },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        parse_option(c, perf);
    }
    perf->n_ports = argc - optind;
    if (perf->n_ports < 1 || perf->n_ports > 2) {
        vhost_bad_usage(command, "needs one or two sockets");
    } else if (perf->bidirectional && perf->n_ports != 2) {
        vhost_bad_usage(command, "--bidirectional needs two sockets");
    } else if (perf->receive_only && (perf->send_only || perf->bidirectional
                                      || perf->rate || perf->png)) {
        vhost_bad_usage(command, "--receive-only sends nothing");
    } else if (perf->send_only && perf->window) {
        vhost_bad_usage(command, "--window needs to receive");
    }
    perf->n_flows = MAX(perf->n_flows, perf->config.n_pairs);
    perf->config.max_packet = MAX(perf->config.max_packet, perf->size);
    for (size_t i = 0; i < perf->n_ports; i++) {
        perf->paths[i] = argv[optind + i];
    }
}

/* Packets. */

/* Gives the frame of 'len' bytes that came from queue pair 'pair' of 'port' to
 * the stream that it belongs to. */
static void
receive_frame(struct vhost_perf *perf, size_t port, unsigned int pair,
              const uint8_t *head, uint32_t len, uint64_t now)
{
    for (size_t i = 0; i < perf->n_ways; i++) {
        const struct vhost_perf_way *way = &perf->ways[i];

        if (way->dst == &perf->ports[port] && !perf->send_only
            && vhost_stream_receive(way->stream, head, len, pair, now)) {
            return;
        }
    }
    perf->others[port].packets++;
    perf->others[port].bytes += len;
}

/* Receives what there is on one receiveq, one burst at most.  Returns how many
 * packets that were. */
static size_t
receive_burst(struct vhost_perf *perf, size_t port, unsigned int pair)
{
    struct vhu_fe_vring *vring = vhu_frontend_get_vring(
        perf->ports[port].fe, vhu_receiveq_vring(pair));
    struct virtq_chain packets[VIRTQ_MAX_BURST];
    struct virtq_drv *vq;
    uint32_t hdr_len;
    uint64_t now;
    size_t n;

    vq = (vhost_port_has_used(vring)
          ? vhost_port_lock(&perf->ports[port], vring) : NULL);
    if (!vq) {
        return 0;
    }
    hdr_len = virtq_drv_get_hdr_len(vq);
    now = vhost_now();
    n = virtq_drv_take_used(vq, packets, perf->burst);
    for (size_t i = 0; i < n; i++) {
        uint8_t head[VHOST_STREAM_MIN_SIZE] = { 0 };

        vhost_get_packet(&packets[i], hdr_len, head, sizeof head);
        receive_frame(perf, port, pair, head, packets[i].size - hdr_len, now);
    }
    virtq_drv_refill(vq);
    virtq_drv_publish_avail(vq);
    virtq_drv_kick(vq);
    virtq_drv_prefetch_next(vq);
    vhost_port_check(&perf->ports[port], vq);
    vhu_fe_vring_unlock(vring);
    return n;
}

static size_t
receive_all(struct vhost_perf *perf)
{
    size_t n = 0;

    for (size_t i = 0; i < perf->n_ports; i++) {
        for (unsigned int j = 0; j < perf->ports[i].n_pairs; j++) {
            n += receive_burst(perf, i, j);
        }
    }
    return n;
}

/* Sends what is due on 'way', one burst at most.  Packets that were due while
 * the ring or the window was full or the port down are not made up for. */
static size_t
send_due(const struct vhost_perf *perf, struct vhost_perf_way *way,
         uint64_t now)
{
    size_t n = perf->burst;
    unsigned int pair;

    if (perf->rate) {
        uint64_t due = (now - perf->start) / 1e9 * perf->rate;

        n = MIN(due - way->n_done, n);
        if (!vhost_port_takes_packets(way->src)) {
            way->n_done = due;
        }
    }
    if (!n || !vhost_port_takes_packets(way->src)) {
        return 0;
    }
    way->n_done += n;
    if (perf->window) {
        const struct vhost_stream_counters *c = &way->stream->counters;

        n = MIN(n, perf->window - MIN(perf->window, c->sent - c->passed));
    }
    pair = way->turn++ % way->src->n_pairs;
    return vhost_stream_send(way->stream, way->src, pair, n);
}

/* Runs. */

/* Returns true if no more packets are to be sent. */
static bool
is_over(const struct vhost_perf *perf, uint64_t now)
{
    return (vhost_is_ending()
            || (perf->duration
                && now - perf->start >= perf->duration * 1e9));
}

static bool
all_received(const struct vhost_perf *perf)
{
    for (size_t i = 0; i < perf->n_ways; i++) {
        struct vhost_stream_sum sum;

        vhost_stream_sum(perf->ways[i].stream, &sum);
        if (sum.unique < perf->ways[i].stream->counters.sent) {
            return false;
        }
    }
    return true;
}

/* Receives what is still under way. */
static void
drain(struct vhost_perf *perf)
{
    uint64_t start = vhost_now();
    uint64_t last = start;
    uint64_t now = start;

    while (!perf->send_only && !perf->receive_only && now - start < LAST
           && (now - last < QUIET
               || !vhost_ports_are_up(perf->ports, perf->n_ports))
           && !all_received(perf)) {
        vhost_ports_run(perf->ports, perf->n_ports);
        for (int i = 0; i < 100; i++) {
            if (receive_all(perf)) {
                last = vhost_now();
            }
        }
        sched_yield();
        now = vhost_now();
    }
}

/* Waits until all ports are up.  Returns false if that takes too long, or if
 * the end is asked for. */
static bool
wait_up(struct vhost_perf *perf)
{
    long long int deadline = (perf->wait ? time_msec() + perf->wait * 1000
                              : LLONG_MAX);

    for (;;) {
        vhost_ports_run(perf->ports, perf->n_ports);
        if (vhost_ports_are_up(perf->ports, perf->n_ports)) {
            return true;
        } else if (vhost_is_ending() || time_msec() >= deadline) {
            return false;
        }
        vhost_ports_block(perf->ports, perf->n_ports, deadline);
    }
}

/* Lets the switch behind the ports come to rest.  What it sends meanwhile,
 * announcements of its own perhaps, counts as not ours. */
static void
settle(struct vhost_perf *perf)
{
    long long int end = time_msec() + perf->settle * 1000;

    while (time_msec() < end && !vhost_is_ending()) {
        vhost_ports_run(perf->ports, perf->n_ports);
        receive_all(perf);
        vhost_ports_block(perf->ports, perf->n_ports,
                          MIN(end, time_msec() + 1));
    }
}

/* Looks at the sockets. */
static void
control(struct vhost_perf *perf)
{
    vhost_ports_run(perf->ports, perf->n_ports);
    if (vhost_perf_outage_look(perf, vhost_now())) {
        while (receive_all(perf)) {
            continue;
        }
        vhost_perf_outage_begin(perf, vhost_now());
    }
    if (!perf->ports[0].up && !perf->ports[perf->n_ports - 1].up) {
        vhost_ports_block(perf->ports, perf->n_ports,
                          time_msec() + (perf->config.keep_rings ? 1 : 10));
    }
}

static void
measure(struct vhost_perf *perf)
{
    uint64_t now = vhost_now();
    uint64_t next_control = now;
    uint64_t next_report = now + 1000000000;
    unsigned int n_idle = 0;

    perf->start = now;
    perf->all_up = true;
    while (!is_over(perf, now)) {
        size_t n = receive_all(perf);

        for (size_t i = 0; i < perf->n_ways; i++) {
            n += send_due(perf, &perf->ways[i], now);
        }
        n_idle = n ? 0 : n_idle + 1;
        if (n_idle > 100) {
            /* Whoever we wait for may need this core. */
            sched_yield();
        }
        now = vhost_now();
        if (now >= next_control) {
            control(perf);
            now = vhost_now();
            next_control = now + CONTROL_INTERVAL;
        }
        if (now >= next_report) {
            vhost_perf_progress(perf, now);
            next_report += 1000000000;
        }
    }
    perf->seconds = (now - perf->start) / 1e9;
}

static void
add_way(struct vhost_perf *perf, size_t src, size_t dst)
{
    struct vhost_stream_config config = {
        .id = random_uint32(),
        .size = perf->size,
        .n_flows = perf->n_flows,
        .src_mac = { 0x02, 0x76, 0x68, 0x75, 0, 1 + src },
        .dst_mac = { 0x02, 0x76, 0x68, 0x75, 0, 2 - src },
    };

    perf->ways[perf->n_ways++] = (struct vhost_perf_way) {
        .src = &perf->ports[src],
        .dst = &perf->ports[dst],
        .stream = vhost_stream_create(&config),
    };
}

int
vhost_perf_main(int argc, char *argv[])
{
    struct vhost_perf perf = {
        .size = VHOST_STREAM_MIN_SIZE,
        .n_flows = 16,
        .burst = 32,
        .duration = 10,
        .wait = 10,
        .settle = 0.5,
    };
    bool done;

    vhost_port_config_init(&perf.config);
    parse_options(argc, argv, &perf);
    vhost_catch_signals();
    for (size_t i = 0; i < perf.n_ports; i++) {
        vhost_port_open(&perf.ports[i], command, perf.paths[i],
                        &perf.config);
        vhu_frontend_start(perf.ports[i].fe);
    }
    if (!perf.receive_only) {
        add_way(&perf, 0, perf.n_ports - 1);
        if (perf.bidirectional) {
            add_way(&perf, 1, 0);
        }
    }

    done = wait_up(&perf);
    if (done) {
        settle(&perf);
        measure(&perf);
        drain(&perf);
        vhost_perf_outage_finish(&perf);
        done = vhost_perf_report(&perf);
    }
    for (size_t i = 0; i < perf.n_ports; i++) {
        vhost_port_close(&perf.ports[i]);
    }
    for (size_t i = 0; i < perf.n_ways; i++) {
        vhost_stream_destroy(perf.ways[i].stream);
    }
    free(perf.outages);
    return done ? EXIT_SUCCESS : EXIT_FAILURE;
}
