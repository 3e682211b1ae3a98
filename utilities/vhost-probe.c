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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openvswitch/dynamic-string.h"
#include "openvswitch/json.h"
#include "timeval.h"
#include "util.h"
#include "vhost-port.h"
#include "vhost-util.h"
#include "vhu-names.h"

static const char command[] = "ovs-vhost probe";

struct options {
    struct vhost_port_config config;
    const char *path;
    double wait;                /* In seconds. */
    bool json;
};

/* What a net driver of a guest gets from a back-end with these features, if it
 * wants it.  One line each; 'bits' are those that it is about. */
static const struct offload {
    const char *name;
    uint64_t bits;
} offloads[] = {
    { "checksums of transmitted packets", VIRTIO_BIT(VIRTIO_NET_F_CSUM) },
    { "checksums of received packets", VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) },
    { "segmentation of transmitted packets",
      (VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6)
       | VIRTIO_BIT(VIRTIO_NET_F_HOST_ECN)
       | VIRTIO_BIT(VIRTIO_NET_F_HOST_UFO)) },
    { "large received packets",
      (VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4)
       | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6)
       | VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN)
       | VIRTIO_BIT(VIRTIO_NET_F_GUEST_UFO)) },
};

static void OVS_NO_RETURN
usage(void)
{
    printf("%s: what a vhost-user back-end offers\n"
           "usage: %s [OPTION...] SOCKET\n\n"
           "Connects as a front-end, negotiates, starts nothing, and "
           "disconnects.\n\n"
           "options:\n"
           "  --listen             wait for the back-end at the socket "
           "(default: connect)\n"
           "  --wait=S             seconds to wait for it (default: 5)\n"
           "  --json               print JSON\n"
           "  -h, --help           print this\n", command, command);
    exit(EXIT_SUCCESS);
}

static void
parse_options(int argc, char *argv[], struct options *o)
{
    enum { OPT_LISTEN = 256, OPT_WAIT, OPT_JSON };
    static const struct option options[] = {
        { "listen", no_argument, NULL, OPT_LISTEN },
        { "wait", required_argument, NULL, OPT_WAIT },
        { "json", no_argument, NULL, OPT_JSON },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case OPT_LISTEN:
            o->config.listen = true;
            break;
        case OPT_WAIT:
            o->wait = vhost_parse_real(command, "--wait", optarg, 0.001, 1e6);
            break;
        case OPT_JSON:
            o->json = true;
            break;
        case 'h':
            usage();
        default:
            vhost_bad_usage(command, "bad option");
        }
    }
    if (argc - optind != 1) {
        vhost_bad_usage(command, "needs one socket");
    }
    o->path = argv[optind];
}

/* What a driver would get. */

static bool
has_feature(const struct vhu_frontend_info *info, enum virtio_feature feature)
{
    return info->offered & VIRTIO_BIT(feature);
}

static bool
has_protocol(const struct vhu_frontend_info *info,
             enum vhost_user_protocol_feature feature)
{
    return info->offered_protocol & VIRTIO_BIT(feature);
}

/* Appends 'name' to the list in 's' if 'offered'. */
static void
put_if(struct ds *s, const char *name, bool offered)
{
    if (offered) {
        ds_put_format(s, "%s%s", s->length ? ", " : "", name);
    }
}

/* Calls 'cb' for each thing that a driver would get: its title and what it
 * is. */
static void
for_each_gain(const struct vhu_frontend_info *info,
              void (*cb)(const char *title, const char *text, void *aux),
              void *aux)
{
    bool modern = has_feature(info, VIRTIO_F_VERSION_1);
    struct ds s = DS_EMPTY_INITIALIZER;

    put_if(&s, "virtio 1", modern);
    put_if(&s, "legacy", true);
    cb("device", ds_cstr(&s), aux);

    ds_clear(&s);
    put_if(&s, "split", true);
    put_if(&s, "packed", has_feature(info, VIRTIO_F_RING_PACKED));
    put_if(&s, "indirect descriptors",
           has_feature(info, VIRTIO_F_INDIRECT_DESC));
    put_if(&s, "event index", has_feature(info, VIRTIO_F_EVENT_IDX));
    put_if(&s, "in order", has_feature(info, VIRTIO_F_IN_ORDER));
    put_if(&s, "mergeable receive buffers",
           has_feature(info, VIRTIO_NET_F_MRG_RXBUF));
    cb("rings", ds_cstr(&s), aux);

    ds_clear(&s);
    for (size_t i = 0; i < ARRAY_SIZE(offloads); i++) {
        put_if(&s, offloads[i].name, info->offered & offloads[i].bits);
    }
    cb("offloads", s.length ? ds_cstr(&s) : "none", aux);

    ds_clear(&s);
    if (info->has_config && has_feature(info, VIRTIO_NET_F_MTU)) {
        ds_put_format(&s, "%"PRIu16, virtio_le16_to_cpu(info->config.mtu));
    }
    cb("MTU", (s.length ? ds_cstr(&s)
               : has_protocol(info, VHOST_USER_PROTOCOL_F_NET_MTU)
               ? "as the front-end sets it" : "not known to the back-end"),
       aux);

    ds_clear(&s);
    put_if(&s, "dirty log",
           has_feature(info, VHOST_F_LOG_ALL)
           && has_protocol(info, VHOST_USER_PROTOCOL_F_LOG_SHMFD));
    put_if(&s, "announcement by the driver",
           has_feature(info, VIRTIO_NET_F_GUEST_ANNOUNCE));
    put_if(&s, "announcement by the back-end",
           has_protocol(info, VHOST_USER_PROTOCOL_F_RARP));
    cb("live migration", s.length ? ds_cstr(&s) : "none", aux);

    cb("in-flight buffers",
       (has_protocol(info, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD)
        ? "kept over a crash of the back-end"
        : "as the ring says after a crash of the back-end"), aux);
    ds_destroy(&s);
}

/* Output. */

static void
put_bits(struct ds *s, const char *title, uint64_t word,
         vhu_bit_name_func *name)
{
    size_t start = s->length;

    ds_put_format(s, "%-18s 0x%"PRIx64" ", title, word);
    vhu_bits_format_wrapped(s, word, name, s->length - start, 19, 79);
    ds_put_char(s, '\n');
}

/* Breaks 'text' at blanks where the line would get too long. */
static void
put_gain_text(const char *title, const char *text, void *s)
{
    size_t column = 21;

    ds_put_format(s, "  %-18s", title);
    while (*text) {
        size_t len = strcspn(text, " ");

        if (column + len >= 79) {
            ds_put_format(s, "\n%20s", "");
            column = 21;
        }
        ds_put_format(s, " %.*s", (int) len, text);
        column += 1 + len;
        text += len + (text[len] == ' ');
    }
    ds_put_char(s, '\n');
}

static void
print_text(const char *path, const struct vhu_frontend_info *info)
{
    struct ds s = DS_EMPTY_INITIALIZER;

    ds_put_format(&s, "%s: a vhost-user back-end\n", path);
    put_bits(&s, "features", info->offered, vhu_feature_name);
    put_bits(&s, "protocol features", info->offered_protocol,
             vhu_protocol_feature_name);
    ds_put_format(&s, "%-18s %"PRIu64"\n", "queue pairs", info->queue_num);
    if (has_protocol(info, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)) {
        ds_put_format(&s, "%-18s %"PRIu64"\n", "memory slots",
                      info->mem_slots);
    } else {
        ds_put_format(&s, "%-18s %d (in one table)\n", "memory regions",
                      VHOST_USER_MAX_REGIONS);
    }
    if (info->has_status) {
        ds_put_format(&s, "%-18s 0x%"PRIx8"\n", "device status",
                      info->status);
    }
    ds_put_cstr(&s, "a net driver would get\n");
    for_each_gain(info, put_gain_text, &s);
    fputs(ds_cstr(&s), stdout);
    ds_destroy(&s);
}

static void
put_gain_json(const char *title, const char *text, void *object)
{
    json_object_put_string(object, title, text);
}

static void
put_bits_json(struct json *object, const char *name, uint64_t word,
              vhu_bit_name_func *bit_name)
{
    char *hex = xasprintf("%s_bits", name);

    json_object_put(object, name, vhu_bits_to_json(word, bit_name));
    json_object_put_format(object, hex, "0x%"PRIx64, word);
    free(hex);
}

static void
print_json(const char *path, const struct vhu_frontend_info *info)
{
    struct json *object = json_object_create();
    struct json *driver = json_object_create();

    json_object_put_string(object, "socket", path);
    put_bits_json(object, "features", info->offered, vhu_feature_name);
    put_bits_json(object, "protocol_features", info->offered_protocol,
                  vhu_protocol_feature_name);
    json_object_put(object, "queue_pairs",
                    json_integer_create(info->queue_num));
    if (has_protocol(info, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)) {
        json_object_put(object, "memory_slots",
                        json_integer_create(info->mem_slots));
    }
    if (info->has_status) {
        json_object_put(object, "status", json_integer_create(info->status));
    }
    for_each_gain(info, put_gain_json, driver);
    json_object_put(object, "driver", driver);
    vhost_print_json(object, true);
}

int
vhost_probe_main(int argc, char *argv[])
{
    struct options o = { .wait = 5 };
    struct vhost_port port;
    long long int deadline;
    bool done;

    vhost_port_config_init(&o.config);
    o.config.look_only = true;
    parse_options(argc, argv, &o);
    vhost_catch_signals();
    vhost_port_open(&port, NULL, o.path, &o.config);
    deadline = time_msec() + o.wait * 1000;
    for (;;) {
        vhost_ports_run(&port, 1);
        done = vhu_frontend_is_negotiated(port.fe);
        if (done || vhost_is_ending() || time_msec() >= deadline) {
            break;
        }
        vhost_ports_block(&port, 1, deadline);
    }

    if (done && o.json) {
        print_json(o.path, vhu_frontend_get_info(port.fe));
    } else if (done) {
        print_text(o.path, vhu_frontend_get_info(port.fe));
    } else {
        fprintf(stderr, "%s: %s\n", command,
                port.problem ? port.problem : "no answer");
    }
    vhost_port_close(&port);
    return done ? EXIT_SUCCESS : EXIT_FAILURE;
}
