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

#include "netdev-vhostuser.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "openvswitch/vlog.h"
#include "util.h"
#include "vhu-backend.h"
#include "vhu-conn.h"
#include "vhu-ctl.h"
#include "vhu-dev.h"
#include "vhu-frontend.h"
#include "vhu-mem.h"
#include "vhu-shm.h"
#include "virtio-spec.h"

VLOG_DEFINE_THIS_MODULE(netdev_vhostuser_role);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(20, 60);

/* The two roles of a port
 * =======================
 *
 * All that the rest of the provider, but for the hot path, needs to know of
 * the state of a back-end or front-end goes through here, so that it need not
 * ask which of the two it is.
 *
 * Both a vhu_backend and a vhu_frontend are one connection's state and what
 * has to survive it.  The back-end is always there: it costs little as long as
 * it has no connection.  The front-end, whose memory is ours, exists only in
 * its role. */

/* Buffers in the front-end role are large enough for a whole packet, also
 * where the back-end cannot spread one over several; but not smaller than
 * this, so that common MTUs can be changed without a new connection. */
enum { MIN_BUF_SIZE = 2048 };

static void frontend_done(enum vhu_fe_op, int error, const char *reason,
                          void *netdev);

static const struct vhu_frontend_ops frontend_ops = {
    .changed = netdev_vhostuser_changed,
    .done = frontend_done,
};

static struct netdev_vhostuser_driver *
get_driver(const struct netdev_vhostuser *netdev)
{
    return ovsrcu_get_protected(struct netdev_vhostuser_driver *,
                                &netdev->driver);
}

struct vhu_frontend *
netdev_vhostuser_frontend(const struct netdev_vhostuser *netdev)
{
    struct netdev_vhostuser_driver *driver = get_driver(netdev);

    return driver ? driver->frontend : NULL;
}

struct vhu_conn *
netdev_vhostuser_conn(const struct netdev_vhostuser *netdev)
{
    struct vhu_frontend *frontend = netdev_vhostuser_frontend(netdev);

    return (frontend
            ? vhu_frontend_get_conn(frontend)
            : vhu_backend_get_conn(netdev->backend));
}

/* Changing the role. */

static struct vhu_frontend_config
frontend_config(const struct netdev_vhostuser *netdev)
    OVS_REQUIRES(netdev->mutex)
{
    const struct vhu_options *options = &netdev->options;
    uint64_t packed = VIRTIO_BIT(VIRTIO_F_RING_PACKED);
    uint64_t mergeable = VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF);
    uint32_t packet_size = (VIRTIO_NET_HDR_LEN + netdev->mtu
                            + VHU_MTU_OVERHEAD);

    return (struct vhu_frontend_config) {
        .features = (VHU_FRONTEND_FEATURES
                     & ~((options->packed ? 0 : packed)
                         | (options->mergeable ? 0 : mergeable))),
        .needed_features = options->packed ? packed : 0,
        .protocol_features = VHU_FRONTEND_PROTOCOL_FEATURES,
        .n_pairs = vhu_options_n_pairs(options),
        .queue_size = options->queue_size,
        .buf_size = MAX(ROUND_UP(packet_size, CACHE_LINE_SIZE), MIN_BUF_SIZE),
        .hugepages = options->hugepages,
    };
}

static struct netdev_vhostuser_driver *
driver_create(struct netdev_vhostuser *netdev)
    OVS_REQUIRES(netdev->mutex)
{
    struct netdev_vhostuser_driver *driver = xzalloc(sizeof *driver);
    struct vhu_frontend_config config = frontend_config(netdev);

    driver->frontend = vhu_frontend_create(netdev_get_name(&netdev->up), NULL,
                                           &config, &frontend_ops, netdev);
    for (unsigned int i = 0; i < VHOST_USER_MAX_VRINGS; i++) {
        driver->vrings[i] = vhu_frontend_get_vring(driver->frontend, i);
    }
    vhu_frontend_set_mtu(driver->frontend, netdev->mtu);
    vhu_frontend_start(driver->frontend);
    return driver;
}

static void
driver_destroy(struct netdev_vhostuser_driver *driver)
{
    vhu_frontend_destroy(driver->frontend);
    free(driver);
}

void
netdev_vhostuser_set_role(struct netdev_vhostuser *netdev)
{
    struct netdev_vhostuser_driver *old = get_driver(netdev);
    bool front_end = netdev->options.role == VHU_ROLE_FRONT_END;

    if (front_end == (old != NULL)) {
        return;
    }
    netdev_vhostuser_set_conn(netdev, NULL);
    ovsrcu_set(&netdev->driver, front_end ? driver_create(netdev) : NULL);
    if (old) {
        ovsrcu_postpone(driver_destroy, old);
    }
}

void
netdev_vhostuser_set_conn(struct netdev_vhostuser *netdev,
                          struct vhu_conn *conn)
{
    struct vhu_frontend *frontend = netdev_vhostuser_frontend(netdev);

    if (frontend) {
        vhu_frontend_set_conn(frontend, conn);
    } else {
        vhu_backend_set_conn(netdev->backend, conn);
    }
}

void
netdev_vhostuser_update_frontend(struct netdev_vhostuser *netdev,
                                 const char *reason)
{
    struct vhu_frontend *frontend = netdev_vhostuser_frontend(netdev);

    if (frontend) {
        struct vhu_frontend_config config = frontend_config(netdev);

        vhu_frontend_set_config(frontend, &config, reason);
        vhu_frontend_set_mtu(frontend, netdev->mtu);
        vhu_ctl_kick();
    }
}

void
netdev_vhostuser_disconnect(struct netdev_vhostuser *netdev,
                            const char *reason)
{
    struct vhu_frontend *frontend = netdev_vhostuser_frontend(netdev);

    if (frontend) {
        vhu_frontend_disconnect(frontend, reason);
    } else {
        vhu_backend_disconnect(netdev->backend, reason);
    }
}

/* State. */

uint64_t
netdev_vhostuser_features(const struct netdev_vhostuser *netdev)
{
    struct vhu_frontend *frontend = netdev_vhostuser_frontend(netdev);

    return (frontend
            ? vhu_frontend_get_info(frontend)->features
            : netdev->dev->features);
}

bool
netdev_vhostuser_is_up(const struct netdev_vhostuser *netdev)
{
    struct vhu_frontend *frontend = netdev_vhostuser_frontend(netdev);

    return (frontend
            ? vhu_frontend_is_up(frontend)
            : vhu_backend_is_up(netdev->backend));
}

/* As long as we do not know what the back-end has, we hope that it is what the
 * options want: each correction costs the datapath a reconfiguration. */
unsigned int
netdev_vhostuser_n_pairs(const struct netdev_vhostuser *netdev)
{
    struct vhu_frontend *frontend = netdev_vhostuser_frontend(netdev);
    const struct vhu_frontend_info *info;

    if (!frontend) {
        return vhu_dev_n_started_pairs(netdev->dev);
    }
    info = vhu_frontend_get_info(frontend);
    return (info->n_pairs
            ? info->n_pairs
            : vhu_options_n_pairs(&netdev->options));
}

bool
netdev_vhostuser_is_published(const struct netdev_vhostuser *netdev,
                              unsigned int index)
{
    struct netdev_vhostuser_driver *driver = get_driver(netdev);

    return (driver
            ? driver->vrings[netdev_vhostuser_driver_vring(index)]->published
            : netdev->dev->vrings[index]->published);
}

void *
netdev_vhostuser_some_memory(const struct netdev_vhostuser *netdev)
{
    struct vhu_frontend *frontend = netdev_vhostuser_frontend(netdev);
    const struct vhu_dev *dev = netdev->dev;

    if (frontend) {
        const struct vhu_shm *shm = vhu_frontend_get_shm(frontend);

        return shm ? shm->va : NULL;
    }
    return (dev->mem
            ? vhu_mem_uva_to_va(dev->mem, dev->vrings[0]->addr.used, 1)
            : NULL);
}

const char *
netdev_vhostuser_mtu_error(const struct netdev_vhostuser *netdev)
{
    struct vhu_frontend *frontend = netdev_vhostuser_frontend(netdev);
    const struct vhu_frontend_info *info;

    if (!frontend) {
        return NULL;
    }
    info = vhu_frontend_get_info(frontend);
    return (netdev->mtu != ETH_PAYLOAD_MAX
            || info->features & VIRTIO_BIT(VIRTIO_NET_F_MTU)
            ? vhu_frontend_get_mtu_error(frontend)
            : NULL);
}

/* Announcements. */

/* An announcement has no one to report to but the log: the command that asked
 * for it has returned. */
static void
frontend_done(enum vhu_fe_op op, int error, const char *reason,
              void *netdev_)
{
    struct netdev_vhostuser *netdev = netdev_;

    if (op == VHU_FE_OP_ANNOUNCE && error) {
        VLOG_WARN_RL(&rl, "%s: announcement failed: %s",
                     netdev_get_name(&netdev->up), reason ? reason : "");
    }
}

static char *
frontend_announce(struct vhu_frontend *frontend, struct eth_addr mac)
{
    const struct vhu_frontend_info *info = vhu_frontend_get_info(frontend);

    if (eth_addr_is_zero(mac) && info->has_config) {
        memcpy(&mac, info->config.mac, sizeof mac);
    }
    if (!vhu_frontend_is_up(frontend)) {
        return xasprintf("the port is not up: %s",
                         vhu_frontend_get_reason(frontend));
    } else if (eth_addr_is_zero(mac) || eth_addr_is_multicast(mac)) {
        return xstrdup("which address is unknown: give a MAC address");
    }

    switch (vhu_frontend_announce(frontend, mac.ea)) {
    case 0:
        return NULL;
    case EOPNOTSUPP:
        return xstrdup("the back-end has no VHOST_USER_PROTOCOL_F_RARP");
    default:
        return xstrdup("no back-end is there");
    }
}

static char *
backend_announce(struct netdev_vhostuser *netdev, struct eth_addr mac)
    OVS_REQUIRES(netdev->mutex)
{
    if (!vhu_backend_is_up(netdev->backend)) {
        return xasprintf("the port is not up: %s",
                         netdev_vhostuser_reason(netdev));
    }
    if (eth_addr_is_zero(mac)) {
        uint64_t mac_and_zeros;

        atomic_read_relaxed(&netdev->guest_mac, &mac_and_zeros);
        memcpy(&mac, &mac_and_zeros, sizeof mac);
    }
    if (eth_addr_is_multicast(mac)) {
        return xasprintf(ETH_ADDR_FMT" is not the address of a guest",
                         ETH_ADDR_ARGS(mac));
    } else if (eth_addr_is_zero(mac)) {
        return xstrdup("the guest's address is unknown, since it has sent "
                       "nothing yet: give a MAC address");
    }
    netdev_vhostuser_dev_ops.send_rarp(mac.ea, netdev);
    return NULL;
}

char *
netdev_vhostuser_announce(struct netdev_vhostuser *netdev,
                          struct eth_addr mac)
{
    struct vhu_frontend *frontend = netdev_vhostuser_frontend(netdev);

    return (frontend
            ? frontend_announce(frontend, mac)
            : backend_announce(netdev, mac));
}
