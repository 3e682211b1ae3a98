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

#include "vhost-port.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "timeval.h"
#include "util.h"
#include "vhost-util.h"
#include "vhu-conn.h"
#include "vhu-dev.h"
#include "vhu-mem.h"
#include "vhu-notify.h"

/* Room in a buffer for the header and for a packet of usual length. */
#define MIN_BUF_SIZE 2048

/* How long a problem must last to be worth a line, in ms. */
#define REPORT_DELAY 500

const char vhost_port_help[] =
    "  --listen             wait for the back-end at the socket (default: "
    "connect)\n"
    "  --queues=N           queue pairs (default: 1)\n"
    "  --queue-size=N       descriptors in a ring (default: 256, receive: "
    "1024)\n"
    "  --packed             packed rings (default: split)\n"
    "  --no-mergeable       no receive buffers that are merged\n"
    "  --no-in-order        buffers may be used in any order\n"
    "  --no-indirect        no tables of descriptors, which need "
    "--no-in-order\n"
    "  --buffer-size=N      bytes of a buffer (default: a packet fits)\n"
    "  --keep-rings         go on with the same rings when the back-end is "
    "back\n"
    "  --hugepages          memory on huge pages\n";

void
vhost_port_config_init(struct vhost_port_config *config)
{
    memset(config, 0, sizeof *config);
    config->n_pairs = 1;
    config->queue_size = 256;
    config->max_packet = 1518;
}

bool
vhost_port_parse_option(const char *command, int c,
                        struct vhost_port_config *config)
{
    switch (c) {
    case VHOST_PORT_OPTION_LISTEN:
        config->listen = true;
        return true;
    case VHOST_PORT_OPTION_QUEUES:
        config->n_pairs = vhost_parse_number(command, "--queues", optarg, 1,
                                             VHOST_USER_MAX_QUEUE_PAIRS);
        return true;
    case VHOST_PORT_OPTION_QUEUE_SIZE:
        config->queue_size = vhost_parse_number(command, "--queue-size",
                                                optarg, 2, VIRTQ_MAX_SIZE);
        return true;
    case VHOST_PORT_OPTION_PACKED:
        config->packed = true;
        return true;
    case VHOST_PORT_OPTION_NO_MERGEABLE:
        config->no_mergeable = true;
        return true;
    case VHOST_PORT_OPTION_NO_INDIRECT:
        config->no_indirect = true;
        return true;
    case VHOST_PORT_OPTION_NO_IN_ORDER:
        config->no_in_order = true;
        return true;
    case VHOST_PORT_OPTION_BUFFER_SIZE:
        config->buf_size = vhost_parse_number(command, "--buffer-size",
                                              optarg, VIRTQ_DRV_MIN_BUF_SIZE,
                                              VIRTQ_DRV_MAX_BUF_SIZE);
        return true;
    case VHOST_PORT_OPTION_KEEP_RINGS:
        config->keep_rings = true;
        return true;
    case VHOST_PORT_OPTION_HUGEPAGES:
        config->hugepages = true;
        return true;
    default:
        return false;
    }
}

/* Interrupts writes to an eventfd that blocks. */
static void *
notify_main(void *arg OVS_UNUSED)
{
    while (vhu_notify_watch()) {
        continue;
    }
    return NULL;
}

static void
start_notify_thread(void)
{
    static struct ovsthread_once once = OVSTHREAD_ONCE_INITIALIZER;

    if (ovsthread_once_start(&once)) {
        ovs_thread_create("notify", notify_main, NULL);
        ovsthread_once_done(&once);
    }
}

void
vhost_port_open(struct vhost_port *port, const char *command,
                const char *path, const struct vhost_port_config *config)
{
    static const struct vhu_frontend_ops ops = { .changed = NULL };
    struct vhu_conn_config conn_config = {
        .mode = config->listen ? VHU_CONN_SERVER : VHU_CONN_CLIENT,
        .path = path,
        .uid = (uid_t) -1,
        .gid = (gid_t) -1,
    };
    struct vhu_frontend_config fe_config = {
        .features = VHU_FRONTEND_FEATURES,
        .protocol_features = VHU_FRONTEND_PROTOCOL_FEATURES,
        .n_pairs = config->n_pairs,
        .queue_size = config->queue_size,
        .buf_size = (config->buf_size ? config->buf_size
                     : MAX(MIN_BUF_SIZE, ROUND_UP(config->max_packet
                                                  + VIRTIO_NET_HDR_LEN, 64))),
        .hugepages = config->hugepages,
        .keep_rings = config->keep_rings,
        .look_only = config->look_only,
    };

    if (config->packed) {
        fe_config.needed_features |= VIRTIO_BIT(VIRTIO_F_RING_PACKED);
    } else {
        fe_config.features &= ~VIRTIO_BIT(VIRTIO_F_RING_PACKED);
    }
    if (config->no_mergeable) {
        fe_config.features &= ~VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF);
    }
    if (config->no_indirect) {
        fe_config.features &= ~VIRTIO_BIT(VIRTIO_F_INDIRECT_DESC);
    }
    if (config->no_in_order) {
        fe_config.features &= ~VIRTIO_BIT(VIRTIO_F_IN_ORDER);
    }

    /* While packets flow nothing blocks, which it warns of. */
    vlog_set_levels(vlog_module_from_name("timeval"), VLF_ANY_DESTINATION,
                    VLL_ERR);
    start_notify_thread();
    memset(port, 0, sizeof *port);
    port->path = xstrdup(path);
    port->command = command;
    port->keep_rings = config->keep_rings;
    port->fe = vhu_frontend_create(path, vhu_conn_create(path, &conn_config),
                                   &fe_config, &ops, port);
}

static void
print_problem(struct vhost_port *port)
{
    fprintf(stderr, "%s: %s: %s\n", port->command, port->path,
            port->problem);
    port->reported = true;
    port->complained = true;
}

void
vhost_port_close(struct vhost_port *port)
{
    if (port->command && port->problem && !port->reported && !port->n_ups) {
        /* All was over before it seemed worth a line. */
        print_problem(port);
    }
    vhu_frontend_destroy(port->fe);
    free(port->problem);
    free(port->path);
}

/* Says on the standard error what has changed. */
static void
port_report(struct vhost_port *port)
{
    const char *reason = vhu_frontend_get_reason(port->fe);
    bool up = vhu_frontend_is_up(port->fe);

    if (up && !port->up) {
        port->n_ups++;
        port->n_pairs = vhu_frontend_get_info(port->fe)->n_pairs;
        if (port->complained) {
            fprintf(stderr, "%s: %s: up\n", port->command, port->path);
            port->complained = false;
        }
        reason = NULL;
    }
    if (!nullable_string_is_equal(reason, port->problem)) {
        free(port->problem);
        port->problem = nullable_xstrdup(reason);
        port->reported = false;
        port->report = time_msec() + REPORT_DELAY;
    }
    if (port->command && port->problem && !port->reported
        && time_msec() >= port->report) {
        print_problem(port);
    }
    port->up = up;
}

void
vhost_ports_run(struct vhost_port ports[], size_t n)
{
    vhu_mem_clear_dead();
    for (size_t i = 0; i < n; i++) {
        vhu_frontend_run(ports[i].fe);
        port_report(&ports[i]);
    }
    ovsrcu_quiesce();
}

void
vhost_ports_block(struct vhost_port ports[], size_t n, long long int deadline)
{
    for (size_t i = 0; i < n; i++) {
        vhu_frontend_wait(ports[i].fe);
        if (ports[i].command && ports[i].problem && !ports[i].reported) {
            poll_timer_wait_until(ports[i].report);
        }
    }
    vhu_mem_wait_dead();
    vhost_wait_end();
    poll_timer_wait_until(deadline);
    poll_block();
}

bool
vhost_ports_are_up(const struct vhost_port ports[], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!ports[i].up) {
            return false;
        }
    }
    return true;
}

uint64_t
vhost_port_count_pending(struct vhost_port *port)
{
    uint64_t n = 0;

    for (unsigned int i = 0; i < port->n_pairs; i++) {
        struct vhu_fe_vring *vring = vhu_frontend_get_vring(
            port->fe, vhu_transmitq_vring(i));

        ovs_spin_lock(&vring->lock);
        if (vring->drv) {
            virtq_drv_reclaim(vring->drv);
            n += virtq_drv_n_in_flight(vring->drv);
        }
        ovs_spin_unlock(&vring->lock);
    }
    return n;
}

/* Virtqueues.  Only the one thread that we are looks at 'drv'. */

struct virtq_drv *
vhost_port_lock(const struct vhost_port *port, struct vhu_fe_vring *vring)
    OVS_NO_THREAD_SAFETY_ANALYSIS
{
    struct virtq_drv *vq = vhu_fe_vring_trylock(vring);

    if (!vq && !port->up && vring->drv
        && (port->keep_rings || !vhu_vring_is_transmitq(vring->index))) {
        ovs_spin_lock(&vring->lock);
        vq = vring->drv;
    }
    return vq;
}

bool
vhost_port_has_used(const struct vhu_fe_vring *vring)
{
    return vring->drv && virtq_drv_has_used(vring->drv);
}

bool
vhost_port_takes_packets(const struct vhost_port *port)
{
    return port->up || (port->keep_rings && port->n_ups);
}

/* Packets. */

/* Copies between 'data' and the bytes from 'ofs' on in 'packet', 'len' at
 * most.  Returns how many. */
static uint32_t
copy_bytes(const struct virtq_chain *packet, uint32_t ofs, uint8_t *data,
           uint32_t len, bool to_packet)
{
    uint32_t done = 0;

    for (uint16_t i = 0; i < packet->n_segs && done < len; i++) {
        const struct virtq_seg *seg = &packet->segs[i];

        if (ofs < seg->len) {
            uint32_t part = MIN(seg->len - ofs, len - done);

            if (to_packet) {
                memcpy(seg->va + ofs, data + done, part);
            } else {
                memcpy(data + done, seg->va + ofs, part);
            }
            done += part;
            ofs = 0;
        } else {
            ofs -= seg->len;
        }
    }
    return done;
}

void
vhost_put_packet(const struct virtq_chain *packet, uint32_t hdr_len,
                 const void *data, uint32_t len)
{
    struct virtio_net_hdr hdr = { .flags = 0 };

    if (OVS_LIKELY(packet->n_segs == 1)) {
        memcpy(packet->segs[0].va, &hdr, hdr_len);
        memcpy(packet->segs[0].va + hdr_len, data, len);
        return;
    }
    copy_bytes(packet, 0, (uint8_t *) &hdr, hdr_len, true);
    copy_bytes(packet, hdr_len, CONST_CAST(uint8_t *, data), len, true);
}

uint32_t
vhost_get_packet(const struct virtq_chain *packet, uint32_t hdr_len,
                 void *data, uint32_t max)
{
    return copy_bytes(packet, hdr_len, data, max, false);
}
