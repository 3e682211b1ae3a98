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
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "dirs.h"
#include "hash.h"
#include "openvswitch/vlog.h"
#include "ovs-compat.h"
#include "smap.h"
#include "util.h"
#include "vhu-backend.h"
#include "vhu-conn.h"
#include "vhu-ctl.h"
#include "vhu-dev.h"
#include "vhu-options.h"
#include "vhu-pool.h"
#include "vhu-startup.h"
#include "virtio-spec.h"

VLOG_DEFINE_THIS_MODULE(netdev_vhostuser);

struct ovs_mutex netdev_vhostuser_list_mutex = OVS_MUTEX_INITIALIZER;
struct ovs_list netdev_vhostuser_list
    OVS_GUARDED_BY(netdev_vhostuser_list_mutex)
    = OVS_LIST_INITIALIZER(&netdev_vhostuser_list);

/* Where sockets without options:path are, below the run directory, from
 * other_config:vhost-sock-dir.  Main thread only. */
static char *sock_subdir;

static const struct netdev_class vhostuser_class;
static const struct netdev_class dpdkvhostuser_class;
static const struct netdev_class dpdkvhostuserclient_class;

static struct netdev_vhostuser_rxq *
netdev_vhostuser_rxq_cast(const struct netdev_rxq *rxq)
{
    return CONTAINER_OF(rxq, struct netdev_vhostuser_rxq, up);
}

static enum vhu_port_kind
port_kind(const struct netdev_vhostuser *netdev)
{
    const struct netdev_class *class = netdev->up.netdev_class;

    return (class == &dpdkvhostuser_class ? VHU_PORT_SERVER
            : class == &dpdkvhostuserclient_class ? VHU_PORT_CLIENT
            : VHU_PORT_ANY);
}

/* Life of a port. */

static struct netdev *
netdev_vhostuser_alloc(void)
{
    struct netdev_vhostuser *netdev = xzalloc_cacheline(sizeof *netdev);

    return &netdev->up;
}

static void
netdev_vhostuser_dealloc(struct netdev *netdev_)
{
    free_cacheline(netdev_vhostuser_cast(netdev_));
}

/* Frees what netdev_vhostuser_construct() has made, but for the place in the
 * list of ports. */
static void
uninit(struct netdev_vhostuser *netdev)
    OVS_EXCLUDED(netdev->mutex)
{
    ovs_mutex_lock(&netdev->mutex);
    netdev_vhostuser_disconnect(netdev, "port removed");
    netdev->options.role = VHU_ROLE_BACK_END;
    netdev_vhostuser_set_role(netdev);
    vhu_backend_destroy(netdev->backend);

    /* A peer does not see that we have closed its socket as long as the
     * control thread waits for it in poll(). */
    vhu_ctl_kick();

    vhu_pool_put(netdev->pool);
    netdev_vhostuser_qos_destroy(netdev);
    free(ovsrcu_get_protected(struct vhu_txq_map *, &netdev->txq_map));
    for (size_t i = 0; i < ARRAY_SIZE(netdev->stats); i++) {
        free_cacheline(netdev->stats[i]);
    }
    vhu_options_uninit(&netdev->options);
    smap_destroy(&netdev->last_args);
    free(netdev->options_error);
    free(netdev->reason);
    free(netdev->mtu_error);
    ovs_mutex_unlock(&netdev->mutex);
    ovs_mutex_destroy(&netdev->mutex);
}

static int
netdev_vhostuser_construct(struct netdev *netdev_)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);
    const char *name = netdev_get_name(netdev_);
    int error;

    if (port_kind(netdev) == VHU_PORT_SERVER && strpbrk(name, "/\\")) {
        VLOG_ERR("\"%s\" is not a valid name for a port of type "
                 "dpdkvhostuser, because it cannot be the name of a socket",
                 name);
        return EINVAL;
    }

    ovs_mutex_init(&netdev->mutex);
    ovs_mutex_lock(&netdev->mutex);
    netdev_->n_rxq = 0;
    netdev_->n_txq = 0;
    netdev->requested_pairs = netdev->wanted_pairs = 1;
    token_bucket_init(&netdev->reconf_tokens, VHU_RECONF_RATE,
                      VHU_RECONF_BURST);
    netdev->next_announce = LLONG_MAX;
    netdev->mtu = netdev->requested_mtu = ETH_PAYLOAD_MAX;
    netdev->flags = NETDEV_UP | NETDEV_PROMISC;
    netdev->rx_held = vhu_startup_is_held();
    atomic_init(&netdev->up_flag, true);
    atomic_init(&netdev->rx_flag, !netdev->rx_held);
    atomic_init(&netdev->max_packet_len, ETH_PAYLOAD_MAX + VHU_MTU_OVERHEAD);
    atomic_init(&netdev->tx_retries_max, VHU_TX_RETRIES_DEFAULT);
    atomic_init(&netdev->rarp_pending, false);
    atomic_init(&netdev->rarp_mac, 0);
    atomic_init(&netdev->learn_mac, false);
    atomic_init(&netdev->guest_mac, 0);
    ovsrcu_init(&netdev->driver, NULL);
    ovsrcu_init(&netdev->policer, NULL);
    ovsrcu_init(&netdev->qos, NULL);
    ovsrcu_init(&netdev->txq_map, xzalloc(sizeof(struct vhu_txq_map)));
    smap_init(&netdev->last_args);
    netdev->backend = vhu_backend_create(name, NULL,
                                         VHOST_USER_MAX_QUEUE_PAIRS,
                                         &netdev_vhostuser_dev_ops, netdev);
    netdev->dev = vhu_backend_get_dev(netdev->backend);
    netdev_vhostuser_keep_positions(netdev);
    netdev_vhostuser_alloc_stats(netdev, 1);
    ovs_mutex_unlock(&netdev->mutex);

    netdev->ctl_client.run = netdev_vhostuser_run;
    netdev->ctl_client.wait = netdev_vhostuser_wait;
    error = vhu_ctl_add(&netdev->ctl_client);
    if (error) {
        VLOG_ERR("%s: failed to start the control thread (%s)", name,
                 ovs_strerror(error));
        uninit(netdev);
        return error;
    }

    ovs_mutex_lock(&netdev_vhostuser_list_mutex);
    ovs_list_push_back(&netdev_vhostuser_list, &netdev->list_node);
    ovs_mutex_unlock(&netdev_vhostuser_list_mutex);
    return 0;
}

/* No PMD thread knows the port any more. */
static void
netdev_vhostuser_destruct(struct netdev *netdev_)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);

    ovs_mutex_lock(&netdev_vhostuser_list_mutex);
    ovs_list_remove(&netdev->list_node);
    ovs_mutex_unlock(&netdev_vhostuser_list_mutex);

    vhu_ctl_remove(&netdev->ctl_client);
    uninit(netdev);
    netdev_vhostuser_drop_positions(netdev);
}

/* Configuration. */

/* Returns a connection for the options of 'netdev', or null if they name no
 * socket. */
static struct vhu_conn *
connect_port(const struct netdev_vhostuser *netdev)
    OVS_REQUIRES(netdev->mutex)
{
    const struct vhu_options *options = &netdev->options;
    const char *name = netdev_get_name(&netdev->up);
    struct vhu_conn_config config = {
        .mode = options->mode,
        .path = options->path,
        .peer = (options->role == VHU_ROLE_FRONT_END
                 ? vhu_role_to_string(VHU_ROLE_BACK_END)
                 : vhu_role_to_string(VHU_ROLE_FRONT_END)),
        .socket_mode = options->socket_mode,
        .uid = options->uid,
        .gid = options->gid,
    };

    if (!options->path) {
        return NULL;
    }
    VLOG_INFO("%s: %s, %s of socket %s", name,
              vhu_role_to_string(options->role),
              netdev_vhostuser_mode(netdev), options->path);
    return vhu_conn_create(name, &config);
}

/* Makes 'new' the options of 'netdev' and takes them over. */
static void
apply_options(struct netdev_vhostuser *netdev, struct vhu_options *new)
    OVS_REQUIRES(netdev->mutex)
{
    const char *name = netdev_get_name(&netdev->up);
    bool same_socket = (netdev->configured
                        && netdev->options.role == new->role
                        && vhu_options_same_socket(&netdev->options, new));
    bool same_owner = vhu_options_same_owner(&netdev->options, new);
    char *change = vhu_options_describe_change(&netdev->options, new);

    if (new->tx_retries_max != (netdev->configured
                                ? netdev->options.tx_retries_max
                                : VHU_TX_RETRIES_DEFAULT)) {
        VLOG_INFO("%s: tx-retries-max set to %u", name, new->tx_retries_max);
    }
    if (!same_socket) {
        netdev_vhostuser_disconnect(netdev, change);
    }
    vhu_options_uninit(&netdev->options);
    netdev->options = *new;
    netdev->configured = true;
    atomic_store_relaxed(&netdev->tx_retries_max, new->tx_retries_max);
    netdev_vhostuser_set_role(netdev);
    netdev_vhostuser_update_frontend(netdev, change);
    free(change);
    if (!same_socket) {
        netdev_vhostuser_set_conn(netdev, connect_port(netdev));
        vhu_ctl_kick();
    } else if (!same_owner && new->mode == VHU_CONN_SERVER) {
        vhu_conn_set_owner(netdev_vhostuser_conn(netdev), new->socket_mode,
                           new->uid, new->gid);
        vhu_ctl_kick();
    }
}

/* A port that has options, and perhaps a guest, keeps them when it is given
 * new ones that are wrong: if we returned an error then OVS would
 * delete it.  Then the only ways to tell are the log and
 * netdev_vhostuser_get_options_error(). */
static int
netdev_vhostuser_set_config(struct netdev *netdev_, const struct smap *args,
                            char **errp)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);
    const char *name = netdev_get_name(netdev_);
    bool verbose = !smap_equal(args, &netdev->last_args);
    struct vhu_options options;
    char *sock_dir, *error;
    int retval = 0;

    /* May take long, to look up the owner: not under the mutex. */
    sock_dir = (sock_subdir
                ? xasprintf("%s/%s", ovs_rundir(), sock_subdir)
                : xstrdup(ovs_rundir()));
    error = vhu_options_parse(&options, port_kind(netdev), name, sock_dir,
                              args, verbose);
    free(sock_dir);

    ovs_mutex_lock(&netdev->mutex);
    if (!error) {
        apply_options(netdev, &options);
    } else if (!netdev->configured) {
        VLOG_WARN("%s: %s", name, error);
        *errp = xstrdup(error);
        retval = EINVAL;
    } else if (verbose) {
        VLOG_WARN("%s: new options have no effect: %s", name, error);
    }
    free(netdev->options_error);
    netdev->options_error = error;
    smap_destroy(&netdev->last_args);
    smap_clone(&netdev->last_args, args);
    ovs_mutex_unlock(&netdev->mutex);
    return retval;
}

static int
netdev_vhostuser_get_config(const struct netdev *netdev_, struct smap *args)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);

    ovs_mutex_lock(&netdev->mutex);
    vhu_options_format(&netdev->options, args);
    ovs_mutex_unlock(&netdev->mutex);
    return 0;
}

char *
netdev_vhostuser_get_options_error(const char *name)
{
    struct netdev_vhostuser *netdev;
    char *error = NULL;

    ovs_mutex_lock(&netdev_vhostuser_list_mutex);
    LIST_FOR_EACH (netdev, list_node, &netdev_vhostuser_list) {
        if (!strcmp(netdev_get_name(&netdev->up), name)) {
            ovs_mutex_lock(&netdev->mutex);
            error = nullable_xstrdup(netdev->options_error);
            ovs_mutex_unlock(&netdev->mutex);
            break;
        }
    }
    ovs_mutex_unlock(&netdev_vhostuser_list_mutex);
    return error;
}

void
netdev_vhostuser_set_other_config(const struct smap *other_config)
{
    const char *subdir = smap_get(other_config, "vhost-sock-dir");
    struct stat s;
    char *dir;

    if (nullable_string_is_equal(subdir, sock_subdir)) {
        return;
    }
    if (subdir && strstr(subdir, "..")) {
        static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(1, 1);

        VLOG_ERR_RL(&rl, "other_config:vhost-sock-dir is \"%s\" (expected a "
                    "directory below %s, without \"..\"): ignored",
                    subdir, ovs_rundir());
        return;
    }

    free(sock_subdir);
    sock_subdir = nullable_xstrdup(subdir);
    dir = xasprintf("%s/%s", ovs_rundir(), sock_subdir ? sock_subdir : "");
    if (stat(dir, &s)) {
        VLOG_ERR("%s, the directory for vhost-user sockets: %s", dir,
                 ovs_strerror(errno));
    }
    free(dir);
}

/* The pool is held from the first guest on, like that of a vhost port of
 * netdev-dpdk, and follows MTU and NUMA node.  To make one takes long, so not
 * under the mutex. */
static void
update_pool(struct netdev_vhostuser *netdev, int mtu, int numa_id)
    OVS_EXCLUDED(netdev->mutex)
{
    struct vhu_pool *old = netdev->pool;

    netdev->pool = vhu_pool_get(netdev_get_name(&netdev->up), mtu, numa_id);
    vhu_pool_put(old);
}

static int
netdev_vhostuser_reconfigure(struct netdev *netdev_)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);
    int mtu, numa_id;
    bool wants_pool;

    ovs_mutex_lock(&netdev->mutex);
    mtu = netdev->requested_mtu;
    numa_id = netdev->requested_numa_id;
    wants_pool = netdev->requested_pool;
    ovs_mutex_unlock(&netdev->mutex);
    if (wants_pool) {
        update_pool(netdev, mtu, numa_id);
    }

    ovs_mutex_lock(&netdev->mutex);
    if (netdev_->n_rxq != netdev->requested_pairs || netdev->mtu != mtu
        || netdev->numa_id != numa_id) {
        netdev_vhostuser_alloc_stats(netdev, netdev->requested_pairs);
        netdev_->n_rxq = netdev->requested_pairs;
        netdev_->n_txq = netdev->requested_pairs;
        if (netdev->mtu != mtu) {
            netdev->mtu = mtu;
            VLOG_INFO("%s: MTU set to %d", netdev_get_name(netdev_),
                      netdev->mtu);
        }
        netdev->numa_id = numa_id;
        atomic_store_relaxed(&netdev->max_packet_len,
                             netdev->mtu + VHU_MTU_OVERHEAD);
        netdev_vhostuser_update_frontend(netdev, "mtu_request changed");
        netdev_change_seq_changed(netdev_);
    }
    ovs_mutex_unlock(&netdev->mutex);
    return 0;
}

/* Properties. */

/* OVS uses it to choose the PMD threads of the rxqs, and wants a valid node.
 * It changes only in netdev_vhostuser_reconfigure(). */
static int
netdev_vhostuser_get_numa_id(const struct netdev *netdev)
{
    return netdev_vhostuser_cast(netdev)->numa_id;
}

static int
netdev_vhostuser_set_etheraddr(struct netdev *netdev_,
                               const struct eth_addr mac)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);

    ovs_mutex_lock(&netdev->mutex);
    if (!eth_addr_equals(netdev->hwaddr, mac)) {
        netdev->hwaddr = mac;
        netdev_change_seq_changed(netdev_);
    }
    ovs_mutex_unlock(&netdev->mutex);
    return 0;
}

static int
netdev_vhostuser_get_etheraddr(const struct netdev *netdev_,
                               struct eth_addr *mac)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);

    ovs_mutex_lock(&netdev->mutex);
    *mac = netdev->hwaddr;
    ovs_mutex_unlock(&netdev->mutex);
    return 0;
}

static int
netdev_vhostuser_get_mtu(const struct netdev *netdev_, int *mtup)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);

    ovs_mutex_lock(&netdev->mutex);
    *mtup = netdev->mtu;
    ovs_mutex_unlock(&netdev->mutex);
    return 0;
}

static int
netdev_vhostuser_set_mtu(struct netdev *netdev_, int mtu)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);

    if (mtu < VIRTIO_NET_MIN_MTU || mtu > VHU_MAX_MTU) {
        VLOG_WARN("%s: unsupported MTU %d (expected %d to %d)",
                  netdev_get_name(netdev_), mtu, VIRTIO_NET_MIN_MTU,
                  VHU_MAX_MTU);
        return EINVAL;
    }

    ovs_mutex_lock(&netdev->mutex);
    if (mtu != netdev->requested_mtu) {
        netdev->requested_mtu = mtu;
        netdev_request_reconfigure(netdev_);
    }
    ovs_mutex_unlock(&netdev->mutex);
    return 0;
}

/* There is no network device of this number.  24 bits, like those that DPDK's
 * ports have. */
static int
netdev_vhostuser_get_ifindex(const struct netdev *netdev)
{
    return hash_string(netdev_get_name(netdev), 0) % 0xfffffe + 1;
}

static int
netdev_vhostuser_get_carrier(const struct netdev *netdev_, bool *carrier)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);

    ovs_mutex_lock(&netdev->mutex);
    *carrier = netdev->carrier;
    ovs_mutex_unlock(&netdev->mutex);
    return 0;
}

static long long int
netdev_vhostuser_get_carrier_resets(const struct netdev *netdev_)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);
    long long int carrier_resets;

    ovs_mutex_lock(&netdev->mutex);
    carrier_resets = netdev->carrier_resets;
    ovs_mutex_unlock(&netdev->mutex);
    return carrier_resets;
}

static int
netdev_vhostuser_update_flags(struct netdev *netdev_, enum netdev_flags off,
                              enum netdev_flags on,
                              enum netdev_flags *old_flagsp)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);

    if ((off | on) & ~(NETDEV_UP | NETDEV_PROMISC)) {
        return EINVAL;
    }

    ovs_mutex_lock(&netdev->mutex);
    *old_flagsp = netdev->flags;
    netdev->flags = (netdev->flags & ~off) | on;
    if (netdev->flags != *old_flagsp) {
        netdev_vhostuser_update_up(netdev);
        netdev_change_seq_changed(netdev_);
    }
    ovs_mutex_unlock(&netdev->mutex);
    return 0;
}

/* Receive queues.  The hot path is in netdev-vhostuser-io.c. */

static struct netdev_rxq *
netdev_vhostuser_rxq_alloc(void)
{
    struct netdev_vhostuser_rxq *rxq = xzalloc_cacheline(sizeof *rxq);

    return &rxq->up;
}

static int
netdev_vhostuser_rxq_construct(struct netdev_rxq *rxq_)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(rxq_->netdev);
    struct netdev_vhostuser_rxq *rxq = netdev_vhostuser_rxq_cast(rxq_);

    rxq->vring = netdev->dev->vrings[vhu_transmitq_vring(rxq_->queue_id)];
    return 0;
}

static void
netdev_vhostuser_rxq_destruct(struct netdev_rxq *rxq OVS_UNUSED)
{
}

static void
netdev_vhostuser_rxq_dealloc(struct netdev_rxq *rxq)
{
    free_cacheline(netdev_vhostuser_rxq_cast(rxq));
}

/* The rxq 0 is always polled, because it also delivers SEND_RARP.  Called by
 * PMD threads. */
static bool
netdev_vhostuser_rxq_enabled(struct netdev_rxq *rxq)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(rxq->netdev);
    const struct netdev_vhostuser_driver *driver
        = ovsrcu_get(struct netdev_vhostuser_driver *, &netdev->driver);
    struct vhu_vring *vring;

    if (!rxq->queue_id) {
        return true;
    } else if (driver) {
        return netdev_vhostuser_driver_rxq_enabled(driver, rxq);
    }
    vring = netdev->dev->vrings[vhu_transmitq_vring(rxq->queue_id)];
    return ovsrcu_get(struct virtq *, &vring->vq) != NULL;
}

#define VHOSTUSER_CLASS_COMMON                                  \
    .is_pmd = true,                                             \
    .alloc = netdev_vhostuser_alloc,                            \
    .construct = netdev_vhostuser_construct,                    \
    .destruct = netdev_vhostuser_destruct,                      \
    .dealloc = netdev_vhostuser_dealloc,                        \
    .get_config = netdev_vhostuser_get_config,                  \
    .set_config = netdev_vhostuser_set_config,                  \
    .get_numa_id = netdev_vhostuser_get_numa_id,                \
    .send = netdev_vhostuser_send,                              \
    .set_etheraddr = netdev_vhostuser_set_etheraddr,            \
    .get_etheraddr = netdev_vhostuser_get_etheraddr,            \
    .get_mtu = netdev_vhostuser_get_mtu,                        \
    .set_mtu = netdev_vhostuser_set_mtu,                        \
    .get_ifindex = netdev_vhostuser_get_ifindex,                \
    .get_carrier = netdev_vhostuser_get_carrier,                \
    .get_carrier_resets = netdev_vhostuser_get_carrier_resets,  \
    .get_stats = netdev_vhostuser_get_stats,                    \
    .get_custom_stats = netdev_vhostuser_get_custom_stats,      \
    .set_policing = netdev_vhostuser_set_policing,              \
    .get_qos_types = netdev_vhostuser_get_qos_types,            \
    .get_qos = netdev_vhostuser_get_qos,                        \
    .set_qos = netdev_vhostuser_set_qos,                        \
    .get_queue = netdev_vhostuser_get_queue,                    \
    .set_queue = netdev_vhostuser_set_queue,                    \
    .delete_queue = netdev_vhostuser_delete_queue,              \
    .get_queue_stats = netdev_vhostuser_get_queue_stats,        \
    .queue_dump_start = netdev_vhostuser_queue_dump_start,      \
    .queue_dump_next = netdev_vhostuser_queue_dump_next,        \
    .queue_dump_done = netdev_vhostuser_queue_dump_done,        \
    .get_status = netdev_vhostuser_get_status,                  \
    .update_flags = netdev_vhostuser_update_flags,              \
    .reconfigure = netdev_vhostuser_reconfigure,                \
    .rxq_alloc = netdev_vhostuser_rxq_alloc,                    \
    .rxq_construct = netdev_vhostuser_rxq_construct,            \
    .rxq_destruct = netdev_vhostuser_rxq_destruct,              \
    .rxq_dealloc = netdev_vhostuser_rxq_dealloc,                \
    .rxq_enabled = netdev_vhostuser_rxq_enabled,                \
    .rxq_recv = netdev_vhostuser_rxq_recv

void
netdev_vhostuser_end(void)
{
    struct netdev_vhostuser *netdev;

    vhu_startup_end();
    ovs_mutex_lock(&netdev_vhostuser_list_mutex);
    LIST_FOR_EACH (netdev, list_node, &netdev_vhostuser_list) {
        ovs_mutex_lock(&netdev->mutex);
        netdev->rx_held = true;
        netdev_vhostuser_update_up(netdev);
        ovs_mutex_unlock(&netdev->mutex);
    }
    ovs_mutex_unlock(&netdev_vhostuser_list_mutex);
}

/* The main thread calls this in each turn of its loop, after it has brought
 * its ports in line with the database. */
static void
netdev_vhostuser_main_run(const struct netdev_class *class OVS_UNUSED)
{
    vhu_startup_ports_made();
}

static const struct netdev_class vhostuser_class = {
    .type = "vhostuser",
    .run = netdev_vhostuser_main_run,
    VHOSTUSER_CLASS_COMMON
};

static const struct netdev_class dpdkvhostuser_class = {
    .type = "dpdkvhostuser",
    VHOSTUSER_CLASS_COMMON
};

static const struct netdev_class dpdkvhostuserclient_class = {
    .type = "dpdkvhostuserclient",
    VHOSTUSER_CLASS_COMMON
};

int
netdev_vhostuser_register(void)
{
    vhu_unixctl_init();
    return netdev_register_provider(&vhostuser_class);
}

int
netdev_vhostuser_register_aliases(void)
{
    int error = netdev_register_provider(&dpdkvhostuser_class);
    int error2 = netdev_register_provider(&dpdkvhostuserclient_class);

    return error ? error : error2;
}

static void
unregister_alias(const struct netdev_class *class)
{
    if (netdev_unregister_provider(class->type) == EBUSY) {
        VLOG_WARN("%s stays a name of vhostuser: ports use it; restart the "
                  "switch to have DPDK's ports under that name", class->type);
    }
}

void
netdev_vhostuser_unregister_aliases(void)
{
    unregister_alias(&dpdkvhostuser_class);
    unregister_alias(&dpdkvhostuserclient_class);
}
