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

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openvswitch/json.h"
#include "timeval.h"
#include "util.h"
#include "vhost-pcap.h"
#include "vhost-port.h"
#include "vhost-stream.h"
#include "vhost-util.h"
#include "vhu-dev.h"

static const char command[] = "ovs-vhost send";

struct sender {
    struct vhost_port_config config;
    const char *path;
    const char *file;
    double rate;                /* Packets a second, or 0. */
    bool timed;                 /* With the pauses in the file. */
    double wait;                /* In seconds. */
    bool json;

    struct vhost_port port;
    uint64_t sent, bytes;
    uint64_t too_long;          /* Longer than the ring takes, or empty. */
    uint64_t start;             /* vhost_now() of the first packet. */
    uint64_t first_ns;          /* Its time in the file. */
};

static void OVS_NO_RETURN
usage(void)
{
    printf("%s: send the packets of a file to a vhost-user back-end\n"
           "usage: %s [OPTION...] SOCKET FILE\n\n"
           "FILE is a pcap file with Ethernet frames, \"-\" for the standard "
           "input.  Ends when\nthe back-end has taken all packets.\n\n"
           "options:\n"
           "  --rate=N             packets a second (default: as many as "
           "possible)\n"
           "  --timed              with the pauses between the packets in "
           "the file\n"
           "  --wait=S             seconds to wait for the back-end "
           "(default: 10)\n"
           "%s"
           "  --json               print the result as JSON\n"
           "  -h, --help           print this\n", command, command,
           vhost_port_help);
    exit(EXIT_SUCCESS);
}

static void
parse_options(int argc, char *argv[], struct sender *sender)
{
    enum { OPT_RATE = 256, OPT_TIMED, OPT_WAIT, OPT_JSON };
    static const struct option options[] = {
        VHOST_PORT_OPTIONS,
        { "rate", required_argument, NULL, OPT_RATE },
        { "timed", no_argument, NULL, OPT_TIMED },
        { "wait", required_argument, NULL, OPT_WAIT },
        { "json", no_argument, NULL, OPT_JSON },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case OPT_RATE:
            sender->rate = vhost_parse_real(command, "--rate", optarg, 1e-3,
                                            1e9);
            break;
        case OPT_TIMED:
            sender->timed = true;
            break;
        case OPT_WAIT:
            sender->wait = vhost_parse_real(command, "--wait", optarg, 0.001,
                                            1e6);
            break;
        case OPT_JSON:
            sender->json = true;
            break;
        case 'h':
            usage();
        default:
            if (!vhost_port_parse_option(command, c, &sender->config)) {
                vhost_bad_usage(command, "bad option");
            }
        }
    }
    if (argc - optind != 2) {
        vhost_bad_usage(command, "needs a socket and a file");
    } else if (sender->timed && sender->rate) {
        vhost_bad_usage(command, "--timed and --rate exclude each other");
    }
    sender->path = argv[optind];
    sender->file = argv[optind + 1];
}

/* Runs the port until it is up, or 'wait' is over. */
static bool
wait_up(struct sender *sender)
{
    long long int deadline = time_msec() + sender->wait * 1000;

    for (;;) {
        vhost_ports_run(&sender->port, 1);
        if (sender->port.up || vhost_is_ending()
            || time_msec() >= deadline) {
            return sender->port.up;
        }
        vhost_ports_block(&sender->port, 1, deadline);
    }
}

/* Puts one packet into a transmitq.  Returns 0, EAGAIN if there is no room, or
 * EMSGSIZE if it is too long. */
static int
send_packet(struct sender *sender, const struct vhost_pcap_packet *packet)
{
    unsigned int pair = sender->sent % sender->port.n_pairs;
    struct vhu_fe_vring *vring = vhu_frontend_get_vring(
        sender->port.fe, vhu_transmitq_vring(pair));
    struct virtq_drv *vq = vhu_fe_vring_lock(vring);
    struct virtq_chain chain;
    int error = EAGAIN;
    uint32_t size;

    if (!vq) {
        return EAGAIN;
    }
    size = virtq_drv_get_hdr_len(vq) + packet->len;
    if (!packet->len || size > virtq_drv_get_max_packet(vq)) {
        error = EMSGSIZE;
    } else if (virtq_drv_reserve(vq, &size, &chain, 1)) {
        vhost_put_packet(&chain, virtq_drv_get_hdr_len(vq), packet->data,
                         packet->len);
        virtq_drv_publish_avail(vq);
        virtq_drv_kick(vq);
        error = 0;
    }
    vhost_port_check(&sender->port, vq);
    vhu_fe_vring_unlock(vring);
    return error;
}

/* Waits until it is time for 'packet'. */
static void
wait_due(struct sender *sender, const struct vhost_pcap_packet *packet)
{
    uint64_t due = sender->start;

    if (sender->timed && packet->ns > sender->first_ns) {
        due += packet->ns - sender->first_ns;
    } else if (sender->rate) {
        due += (sender->sent + sender->too_long) * 1e9 / sender->rate;
    }
    while (vhost_now() < due && !vhost_is_ending()) {
        uint64_t left = due - vhost_now();

        vhost_ports_run(&sender->port, 1);
        if (left > 1500000) {
            vhost_ports_block(&sender->port, 1,
                              time_msec() + MIN(left / 1000000, 100));
        }
    }
}

/* Sends 'packet' when there is room for it, however long that takes.  Returns
 * false if the end is asked for before. */
static bool
send_when_possible(struct sender *sender,
                   const struct vhost_pcap_packet *packet)
{
    for (unsigned int i = 0; !vhost_is_ending(); i++) {
        int error = send_packet(sender, packet);

        if (!error) {
            sender->sent++;
            sender->bytes += packet->len;
            return true;
        } else if (error == EMSGSIZE) {
            sender->too_long++;
            return true;
        }
        if (i % 100 == 0) {
            vhost_ports_run(&sender->port, 1);
            vhost_ports_block(&sender->port, 1, time_msec() + 1);
        }
    }
    return false;
}

/* Waits until the back-end has taken all packets.  Returns how many are
 * left. */
static uint64_t
wait_taken(struct sender *sender)
{
    long long int deadline = time_msec() + sender->wait * 1000;
    uint64_t n = vhost_port_count_pending(&sender->port);

    while (n && !vhost_is_ending() && time_msec() < deadline) {
        vhost_ports_run(&sender->port, 1);
        vhost_ports_block(&sender->port, 1, time_msec() + 1);
        n = vhost_port_count_pending(&sender->port);
    }
    return n;
}

static void
print_result(const struct sender *sender, uint64_t pending)
{
    if (sender->json) {
        struct json *object = json_object_create();

        json_object_put(object, "sent",
                        json_integer_create(sender->sent - pending));
        json_object_put(object, "bytes", json_integer_create(sender->bytes));
        json_object_put(object, "pending", json_integer_create(pending));
        json_object_put(object, "too_long",
                        json_integer_create(sender->too_long));
        vhost_print_json(object, false);
        return;
    }
    printf("%"PRIu64" packets sent\n", sender->sent - pending);
    if (pending) {
        printf("%"PRIu64" packets not taken by the back-end\n", pending);
    }
    if (sender->too_long) {
        printf("%"PRIu64" packets too long for the ring, or empty\n",
               sender->too_long);
    }
}

/* Sends the file.  Returns true if all of it was sent. */
static bool
send_file(struct sender *sender, struct vhost_pcap_reader *reader)
{
    struct vhost_pcap_packet packet;
    uint64_t next_control = 0;
    uint64_t pending;
    char *error;
    int retval;

    sender->start = vhost_now();
    while (!(retval = vhost_pcap_read(reader, &packet, &error))) {
        if (!sender->sent) {
            sender->first_ns = packet.ns;
        }
        wait_due(sender, &packet);
        if (!send_when_possible(sender, &packet)) {
            break;
        }
        if (vhost_now() >= next_control) {
            vhost_ports_run(&sender->port, 1);
            next_control = vhost_now() + 1000000;
        }
    }
    if (error) {
        fprintf(stderr, "%s: %s\n", command, error);
        free(error);
    }
    pending = wait_taken(sender);
    print_result(sender, pending);
    return retval == ENODATA && !pending && !sender->too_long;
}

int
vhost_send_main(int argc, char *argv[])
{
    struct sender sender = { .wait = 10 };
    struct vhost_pcap_reader *reader;
    char *error;
    bool ok;

    vhost_port_config_init(&sender.config);
    parse_options(argc, argv, &sender);
    vhost_catch_signals();
    if (vhost_pcap_open(sender.file, &reader, &error)) {
        fprintf(stderr, "%s: %s\n", command, error);
        free(error);
        return EXIT_FAILURE;
    }
    vhost_port_open(&sender.port, command, sender.path, &sender.config);
    vhu_frontend_start(sender.port.fe);
    ok = wait_up(&sender) && send_file(&sender, reader);
    vhost_port_close(&sender.port);
    vhost_pcap_close(reader);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
