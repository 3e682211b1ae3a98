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

#ifndef VHOST_PORT_H
#define VHOST_PORT_H 1

/* A front-end without a guest
 * ===========================
 *
 * What probe, perf, send and receive have in common: one socket, the front-end
 * role on it, and the options for both.  Everything runs in one thread, which
 * polls the rings and now and then the socket. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vhu-frontend.h"

struct ds;
struct json;
struct option;

/* Options for the front-end, with which a command's own array begins.  Their
 * values in 'val' begin at VHOST_PORT_OPTION_MIN. */
enum {
    VHOST_PORT_OPTION_MIN = 1024,
    VHOST_PORT_OPTION_LISTEN,
    VHOST_PORT_OPTION_QUEUES,
    VHOST_PORT_OPTION_QUEUE_SIZE,
    VHOST_PORT_OPTION_PACKED,
    VHOST_PORT_OPTION_NO_MERGEABLE,
    VHOST_PORT_OPTION_NO_INDIRECT,
    VHOST_PORT_OPTION_NO_IN_ORDER,
    VHOST_PORT_OPTION_BUFFER_SIZE,
    VHOST_PORT_OPTION_KEEP_RINGS,
    VHOST_PORT_OPTION_HUGEPAGES,
    VHOST_PORT_OPTION_MAX,
};
#define VHOST_PORT_OPTIONS                                                  \
    { "listen", no_argument, NULL, VHOST_PORT_OPTION_LISTEN },              \
    { "queues", required_argument, NULL, VHOST_PORT_OPTION_QUEUES },        \
    { "queue-size", required_argument, NULL, VHOST_PORT_OPTION_QUEUE_SIZE }, \
    { "packed", no_argument, NULL, VHOST_PORT_OPTION_PACKED },              \
    { "no-mergeable", no_argument, NULL, VHOST_PORT_OPTION_NO_MERGEABLE },  \
    { "no-indirect", no_argument, NULL, VHOST_PORT_OPTION_NO_INDIRECT },    \
    { "no-in-order", no_argument, NULL, VHOST_PORT_OPTION_NO_IN_ORDER },    \
    { "buffer-size", required_argument, NULL,                               \
      VHOST_PORT_OPTION_BUFFER_SIZE },                                      \
    { "keep-rings", no_argument, NULL, VHOST_PORT_OPTION_KEEP_RINGS },      \
    { "hugepages", no_argument, NULL, VHOST_PORT_OPTION_HUGEPAGES }

/* The lines of --help for them. */
extern const char vhost_port_help[];

struct vhost_port_config {
    bool listen;
    bool packed;
    bool no_mergeable;
    bool no_indirect;
    bool no_in_order;
    bool keep_rings;
    bool hugepages;
    bool look_only;             /* Only negotiate, with any back-end. */
    unsigned int n_pairs;
    uint32_t queue_size;
    uint32_t buf_size;          /* 0: one for each packet. */
    uint32_t max_packet;        /* Longest packet, without its header. */
};

/* The defaults. */
void vhost_port_config_init(struct vhost_port_config *config);

/* Takes option 'c' with 'optarg' into 'config'.  Returns false if it is none
 * of VHOST_PORT_OPTIONS; exits if its argument is bad. */
bool vhost_port_parse_option(const char *command, int c,
                             struct vhost_port_config *config);

struct vhost_port {
    char *path;
    struct vhu_frontend *fe;
    const char *command;        /* For messages, or null for none. */
    char *problem;              /* Why it is not up, or null. */
    bool reported;              /* 'problem' was. */
    long long int report;       /* When to report it (ms). */
    bool keep_rings;            /* As configured. */
    bool complained;            /* Some problem was reported since it was last
                                 * up. */
    bool up;                    /* When last looked at. */
    unsigned int n_ups;         /* Times that it came up. */
    unsigned int n_pairs;       /* Of the last time. */
};

/* Initializes '*port', which connects and negotiates, but does not start.
 * 'command' prefixes a line on the standard error when it is not up for a
 * reason that lasts, and when it is up again; null for none. */
void vhost_port_open(struct vhost_port *port, const char *command,
                     const char *path,
                     const struct vhost_port_config *config);
void vhost_port_close(struct vhost_port *port);

/* Does what is due for the 'n' 'ports', without blocking. */
void vhost_ports_run(struct vhost_port ports[], size_t n);

/* Blocks until one of the ports has something to do that is not packets, the
 * end is asked for, or 'deadline' (ms) has come. */
void vhost_ports_block(struct vhost_port ports[], size_t n,
                       long long int deadline);

/* Returns true if all of them are up. */
bool vhost_ports_are_up(const struct vhost_port ports[], size_t n);

/* Packets that wait in the transmitqs of 'port' to be transmitted. */
uint64_t vhost_port_count_pending(struct vhost_port *port);

/* Takes the lock of 'vring' of 'port' for a burst and returns its virtqueue,
 * or returns null if packets cannot be sent or received there.
 *
 * While the back-end is away one can receive what it left behind, and with
 * 'keep_rings' send what fits into the ring. */
struct virtq_drv *vhost_port_lock(const struct vhost_port *port,
                                  struct vhu_fe_vring *vring);

/* Returns true if there may be something to receive from 'vring'. */
bool vhost_port_has_used(const struct vhu_fe_vring *vring);

/* Returns true if 'port' can take packets to send. */
bool vhost_port_takes_packets(const struct vhost_port *port);

/* To be called after each burst on 'vq' of 'port': if that has become broken,
 * the connection is made anew. */
static inline void
vhost_port_check(const struct vhost_port *port, const struct virtq_drv *vq)
{
    if (virtq_drv_get_error(vq, NULL, NULL) != VIRTQ_DRV_ERROR_NONE) {
        vhu_frontend_kick_control(port->fe);
    }
}

/* Fills the buffers of 'packet', of a header of 'hdr_len' bytes and the 'len'
 * bytes at 'data'. */
void vhost_put_packet(const struct virtq_chain *packet, uint32_t hdr_len,
                      const void *data, uint32_t len);

/* Copies what follows the header of 'hdr_len' bytes in 'packet', 'max' bytes
 * at most, to 'data'.  Returns how many bytes these are. */
uint32_t vhost_get_packet(const struct virtq_chain *packet, uint32_t hdr_len,
                          void *data, uint32_t max);

#endif /* vhost-port.h */
