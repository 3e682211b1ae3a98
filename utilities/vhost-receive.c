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

#include "ovs-vhost.h"

#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openvswitch/json.h"
#include "timeval.h"
#include "util.h"
#include "vhost-pcap.h"
#include "vhost-port.h"
#include "vhost-util.h"
#include "vhu-dev.h"

static const char command[] = "ovs-vhost receive";

/* Longest packet that is written to the file. */
#define MAX_PACKET VIRTQ_DRV_MAX_BUF_SIZE

/* More than the default: a file may take long to write. */
#define QUEUE_SIZE 1024

/* Polls without a packet before we sleep. */
#define MAX_IDLE 1000

struct receiver {
    struct vhost_port_config config;
    const char *path;
    const char *file;
    uint64_t count;             /* Packets to end after, 0 for no end. */
    double duration;            /* In seconds, 0 for no end. */
    bool json;

    struct vhost_port port;
    struct vhost_pcap_writer *writer;
    uint64_t received, bytes;
};

static void OVS_NO_RETURN
usage(void)
{
    printf("%s: write the packets from a vhost-user back-end to a file\n"
           "usage: %s [OPTION...] SOCKET FILE\n\n"
           "FILE becomes a pcap file, with \"-\" on the standard output.  "
           "Ends when it is\ninterrupted.\n\n"
           "options:\n"
           "  --count=N            end after N packets\n"
           "  --duration=S         end after S seconds\n"
           "%s"
           "  --json               print the result as JSON\n"
           "  -h, --help           print this\n", command, command,
           vhost_port_help);
    exit(EXIT_SUCCESS);
}

static void
parse_options(int argc, char *argv[], struct receiver *receiver)
{
    enum { OPT_COUNT = 256, OPT_DURATION, OPT_JSON };
    static const struct option options[] = {
        VHOST_PORT_OPTIONS,
        { "count", required_argument, NULL, OPT_COUNT },
        { "duration", required_argument, NULL, OPT_DURATION },
        { "json", no_argument, NULL, OPT_JSON },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case OPT_COUNT:
            receiver->count = vhost_parse_number(command, "--count", optarg,
                                                 1, INT64_MAX);
            break;
        case OPT_DURATION:
            receiver->duration = vhost_parse_real(command, "--duration",
                                                  optarg, 0.001, 1e9);
            break;
        case OPT_JSON:
            receiver->json = true;
            break;
        case 'h':
            usage();
        default:
            if (!vhost_port_parse_option(command, c, &receiver->config)) {
                vhost_bad_usage(command, "bad option");
            }
        }
    }
    if (argc - optind != 2) {
        vhost_bad_usage(command, "needs a socket and a file");
    }
    receiver->path = argv[optind];
    receiver->file = argv[optind + 1];
}

static bool
is_over(const struct receiver *receiver)
{
    return (vhost_is_ending()
            || (receiver->count && receiver->received >= receiver->count));
}

/* Writes what has come on queue pair 'pair' to the file.  Returns how many
 * packets that were. */
static size_t
receive_burst(struct receiver *receiver, unsigned int pair)
{
    struct vhu_fe_vring *vring = vhu_frontend_get_vring(
        receiver->port.fe, vhu_receiveq_vring(pair));
    struct virtq_drv *vq = vhu_fe_vring_lock(vring);
    struct virtq_chain packets[VIRTQ_MAX_BURST];
    static uint8_t data[MAX_PACKET];
    uint64_t now = time_wall_usec() * UINT64_C(1000);
    size_t n;

    if (!vq) {
        return 0;
    }
    n = virtq_drv_take_used(vq, packets, ARRAY_SIZE(packets));
    for (size_t i = 0; i < n && !is_over(receiver); i++) {
        uint32_t len = vhost_get_packet(&packets[i],
                                        virtq_drv_get_hdr_len(vq), data,
                                        sizeof data);

        vhost_pcap_write(receiver->writer, now, data, len);
        receiver->received++;
        receiver->bytes += len;
    }
    virtq_drv_refill(vq);
    virtq_drv_publish_avail(vq);
    virtq_drv_kick(vq);
    vhost_port_check(&receiver->port, vq);
    vhu_fe_vring_unlock(vring);
    return n;
}

static void
receive(struct receiver *receiver)
{
    long long int deadline = (receiver->duration
                              ? time_msec() + receiver->duration * 1000
                              : LLONG_MAX);

    unsigned int n_idle = 0;

    while (!is_over(receiver) && time_msec() < deadline) {
        size_t n = 0;

        for (unsigned int i = 0; i < receiver->port.n_pairs; i++) {
            n += receive_burst(receiver, i);
        }
        n_idle = n ? 0 : n_idle + 1;
        if (n_idle == 1) {
            vhost_pcap_flush(receiver->writer);
        }
        if (n_idle % 64 == 0) {
            vhost_ports_run(&receiver->port, 1);
            sched_yield();
        }
        if (n_idle > MAX_IDLE || !receiver->port.up) {
            long long int pause = receiver->port.up ? 1 : 1000;

            vhost_ports_block(&receiver->port, 1,
                              MIN(deadline, time_msec() + pause));
        }
    }
}

static void
print_result(const struct receiver *receiver)
{
    /* The standard output may be the file. */
    FILE *stream = strcmp(receiver->file, "-") ? stdout : stderr;

    if (receiver->json && stream == stdout) {
        struct json *object = json_object_create();

        json_object_put(object, "received",
                        json_integer_create(receiver->received));
        json_object_put(object, "bytes",
                        json_integer_create(receiver->bytes));
        vhost_print_json(object, false);
    } else {
        fprintf(stream, "%"PRIu64" packets received\n", receiver->received);
    }
}

int
vhost_receive_main(int argc, char *argv[])
{
    struct receiver receiver = { .count = 0 };
    char *error;
    bool ok;

    vhost_port_config_init(&receiver.config);
    receiver.config.queue_size = QUEUE_SIZE;
    parse_options(argc, argv, &receiver);
    vhost_catch_signals();
    if (vhost_pcap_create(receiver.file, &receiver.writer, &error)) {
        fprintf(stderr, "%s: %s\n", command, error);
        free(error);
        return EXIT_FAILURE;
    }
    vhost_port_open(&receiver.port, command, receiver.path,
                    &receiver.config);
    vhu_frontend_start(receiver.port.fe);
    receive(&receiver);
    ok = receiver.port.n_ups > 0;
    vhost_port_close(&receiver.port);
    if (vhost_pcap_finish(receiver.writer, &error)) {
        fprintf(stderr, "%s: %s\n", command, error);
        free(error);
        ok = false;
    }
    print_result(&receiver);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
