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
#include <limits.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "connectivity.h"
#include "dpdk.h"
#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "seq.h"
#include "timeval.h"
#include "util.h"
#include "vhu-backend.h"
#include "vhu-conn.h"
#include "vhu-dev.h"
#include "vhu-frontend.h"
#include "vhu-startup.h"
#include "virtio-spec.h"

VLOG_DEFINE_THIS_MODULE(netdev_vhostuser_ctl);

/* When a change is announced again: see announce_change(). */
enum { ANNOUNCE_MIN_MS = 500, ANNOUNCE_MAX_MS = 4000 };

/* Changes of the link, which a guest can cause without end. */
static struct vlog_rate_limit link_rl = VLOG_RATE_LIMIT_INIT(600, 600);

/* A port, as the control thread runs it
 * =====================================
 *
 * The back-end or front-end tells when something has changed, and we work out
 * from its state what that means for the switch: queues, carrier, the reason
 * why there is none.  Nothing of that is a queue of events: however often a
 * peer changes its mind, the switch looks at the result.
 *
 * All of this is under the mutex of the port. */

void
netdev_vhostuser_alloc_stats(struct netdev_vhostuser *netdev,
                             unsigned int n_pairs)
{
    for (unsigned int i = 0; i < 2 * n_pairs; i++) {
        if (!netdev->stats[i]) {
            netdev->stats[i] = xzalloc_cacheline(sizeof *netdev->stats[i]);
        }
    }
}

/* Has the main thread write the state of the port to the database, now and,
 * if 'delay' is not 0, after so many ms once more.
 *
 * Once is not enough, for two reasons.  netdev_change_seq_changed() wakes the
 * main thread before it changes what that looks at: when called by another
 * thread, the main thread may find nothing new, and go back to sleep for ever.
 * And a change is not written if the database as far as the main thread has
 * seen it says the same: when the switch restarts, the port is "up" from the
 * previous run, then the initial "down" is on its way to the database, and our
 * "up", which arrives within milliseconds, makes no difference to the former
 * and is lost. */
static void
announce_change(struct netdev_vhostuser *netdev, unsigned int delay)
    OVS_REQUIRES(netdev->mutex)
{
    netdev_change_seq_changed(&netdev->up);
    seq_change(connectivity_seq_get());
    netdev->announce_delay = delay;
    netdev->next_announce = delay ? time_msec() + delay : LLONG_MAX;
}

/* Publishes which receiveqs the switch sends to. */
static void
update_txq_map(struct netdev_vhostuser *netdev, unsigned int n_pairs)
    OVS_REQUIRES(netdev->mutex)
{
    struct vhu_txq_map *old = ovsrcu_get_protected(struct vhu_txq_map *,
                                                   &netdev->txq_map);
    struct vhu_txq_map *new = xzalloc(sizeof *new);

    for (unsigned int i = 0; i < n_pairs; i++) {
        unsigned int vring = vhu_receiveq_vring(i);

        if (netdev_vhostuser_is_published(netdev, vring)) {
            new->vrings[new->n++] = vring;
        }
    }
    if (old && !memcmp(old, new, sizeof *old)) {
        free(new);
        return;
    }
    ovsrcu_set(&netdev->txq_map, new);
    if (old) {
        ovsrcu_postpone(free, old);
    }
}

/* Takes note of which rxqs are enabled.  Returns true if that has changed. */
static bool
update_rxqs(struct netdev_vhostuser *netdev, unsigned int n_pairs)
    OVS_REQUIRES(netdev->mutex)
{
    bool changed = false;

    for (unsigned int i = 0; i < VHOST_USER_MAX_QUEUE_PAIRS; i++) {
        unsigned int vring = vhu_transmitq_vring(i);
        bool enabled = (i < n_pairs
                        && netdev_vhostuser_is_published(netdev, vring));

        changed |= enabled != netdev->rxqs_enabled[i];
        netdev->rxqs_enabled[i] = enabled;
    }
    return changed;
}

/* Requests 'wanted_pairs', now or, if the guest has had its share of requests,
 * when netdev_vhostuser_run() calls again. */
static void
request_queues(struct netdev_vhostuser *netdev)
    OVS_REQUIRES(netdev->mutex)
{
    if (netdev->wanted_pairs != netdev->requested_pairs
        && token_bucket_withdraw(&netdev->reconf_tokens, VHU_RECONF_COST)) {
        netdev->requested_pairs = netdev->wanted_pairs;
        netdev_request_reconfigure(&netdev->up);
    }
}

/* Has the switch give the port as many queues as the guest has started.  As
 * long as a guest is there that has none, because it reboots, the number
 * stays. */
static void
update_n_queues(struct netdev_vhostuser *netdev, unsigned int n_pairs)
    OVS_REQUIRES(netdev->mutex)
{
    struct vhu_conn *conn = netdev_vhostuser_conn(netdev);

    if (!n_pairs && conn && vhu_conn_is_connected(conn)) {
        return;
    }
    netdev->wanted_pairs = MAX(n_pairs, 1);
    request_queues(netdev);
}

/* Returns the NUMA node of the memory that we share with the peer, or -1 if we
 * cannot find out.  We look at a page that has been used already: the kernel
 * does not know where the others are.  It looks up the page without an access,
 * so it does not matter what the front-end does to it. */
static int
find_numa_id(const struct netdev_vhostuser *netdev)
{
    void *page = netdev_vhostuser_some_memory(netdev);
    int node = -1;

#ifdef SYS_move_pages
    if (page && syscall(SYS_move_pages, 0, 1UL, &page, NULL, &node, 0)) {
        node = -1;
    }
#endif
    return node;
}

/* Has the switch poll the port on the NUMA node of the guest, and receive into
 * a pool there if DPDK works. */
static void
update_numa_id(struct netdev_vhostuser *netdev)
    OVS_REQUIRES(netdev->mutex)
{
    int numa_id = find_numa_id(netdev);

    if (numa_id >= 0 && numa_id != netdev->requested_numa_id) {
        netdev->requested_numa_id = numa_id;
        netdev_request_reconfigure(&netdev->up);
    }
    if (!netdev->requested_pool && dpdk_available()) {
        netdev->requested_pool = true;
        netdev_request_reconfigure(&netdev->up);
    }
}

/* Returns true if the carrier has changed. */
static bool
update_carrier(struct netdev_vhostuser *netdev)
    OVS_REQUIRES(netdev->mutex)
{
    bool carrier = netdev_vhostuser_is_up(netdev);

    if (carrier == netdev->carrier) {
        return false;
    }
    netdev->carrier = carrier;
    netdev->carrier_resets++;
    if (carrier) {
        update_numa_id(netdev);
        VLOG_INFO_RL(&link_rl, "%s: link up, features 0x%"PRIx64,
                     netdev_get_name(&netdev->up),
                     netdev_vhostuser_features(netdev));
        atomic_store_relaxed(&netdev->learn_mac, true);
    } else {
        const char *reason = netdev_vhostuser_reason(netdev);

        VLOG_INFO_RL(&link_rl, "%s: link down: %s",
                     netdev_get_name(&netdev->up),
                     reason ? reason : "unknown");
    }
    return true;
}

void
netdev_vhostuser_changed(void *netdev_)
    OVS_NO_THREAD_SAFETY_ANALYSIS
{
    struct netdev_vhostuser *netdev = netdev_;
    unsigned int n_pairs = netdev_vhostuser_n_pairs(netdev);
    bool changed;

    netdev_vhostuser_alloc_stats(netdev, n_pairs);
    update_txq_map(netdev, n_pairs);
    update_n_queues(netdev, n_pairs);
    changed = update_rxqs(netdev, n_pairs);
    changed |= update_carrier(netdev);
    if (changed) {
        announce_change(netdev, ANNOUNCE_MIN_MS);
    }
}

/* NET_SET_MTU says what the guest thinks.  As for DPDK's ports, it changes
 * nothing in the switch. */
static int
netdev_vhostuser_set_guest_mtu(uint16_t mtu, void *netdev OVS_UNUSED)
{
    return mtu >= VIRTIO_NET_MIN_MTU && mtu <= VHU_MAX_MTU ? 0 : EINVAL;
}

static void
netdev_vhostuser_send_rarp(const uint8_t mac[6], void *netdev_)
{
    struct netdev_vhostuser *netdev = netdev_;
    uint64_t rarp_mac = 0;

    memcpy(&rarp_mac, mac, 6);
    atomic_store_relaxed(&netdev->rarp_mac, rarp_mac);
    atomic_store_relaxed(&netdev->guest_mac, rarp_mac);
    atomic_store_relaxed(&netdev->learn_mac, false);
    atomic_store_explicit(&netdev->rarp_pending, true, memory_order_release);
}

const struct vhu_dev_ops netdev_vhostuser_dev_ops = {
    .changed = netdev_vhostuser_changed,
    .set_mtu = netdev_vhostuser_set_guest_mtu,
    .send_rarp = netdev_vhostuser_send_rarp,
};

const char *
netdev_vhostuser_reason(const struct netdev_vhostuser *netdev)
{
    struct vhu_frontend *frontend = netdev_vhostuser_frontend(netdev);

    if (!netdev->options.path) {
        return "options:vhost-server-path is not set";
    }
    return (frontend
            ? vhu_frontend_get_reason(frontend)
            : vhu_backend_get_reason(netdev->backend));
}

/* Keeps a copy of 'text' in '*copy' and, as it is in the database, tells the
 * main thread when it changes. */
static void
update_text(struct netdev_vhostuser *netdev, char **copy, const char *text)
    OVS_REQUIRES(netdev->mutex)
{
    if (!nullable_string_is_equal(text, *copy)) {
        free(*copy);
        *copy = nullable_xstrdup(text);
        announce_change(netdev, ANNOUNCE_MIN_MS);
    }
}

void
netdev_vhostuser_update_up(struct netdev_vhostuser *netdev)
{
    bool up = netdev->flags & NETDEV_UP;

    atomic_store_relaxed(&netdev->up_flag, up);
    atomic_store_relaxed(&netdev->rx_flag, up && !netdev->rx_held);
}

/* The switch has just started: says how long to wait for this port, or lets
 * it receive.  A port that is up and cannot send yet, because its front-end
 * starts vrings before it enables them, is waited for, too. */
static void
run_startup(struct netdev_vhostuser *netdev)
    OVS_REQUIRES(netdev->mutex)
{
    struct vhu_conn *conn = netdev_vhostuser_conn(netdev);

    if (!vhu_startup_is_held()) {
        netdev->rx_held = false;
        netdev_vhostuser_update_up(netdev);
    } else if (conn && vhu_conn_is_connected(conn)
               && !(netdev_vhostuser_is_up(netdev)
                    && netdev_vhostuser_is_published(netdev,
                                                     vhu_receiveq_vring(0)))) {
        vhu_startup_expect(vhu_conn_get_since(conn) + VHU_STARTUP_PORT_MS);
    }
}

void
netdev_vhostuser_run(struct vhu_ctl_client *client)
{
    struct netdev_vhostuser *netdev
        = CONTAINER_OF(client, struct netdev_vhostuser, ctl_client);

    struct vhu_frontend *frontend;

    ovs_mutex_lock(&netdev->mutex);
    vhu_backend_run(netdev->backend);
    frontend = netdev_vhostuser_frontend(netdev);
    if (frontend) {
        vhu_frontend_run(frontend);
    }
    update_text(netdev, &netdev->reason, netdev_vhostuser_reason(netdev));
    update_text(netdev, &netdev->mtu_error,
                netdev_vhostuser_mtu_error(netdev));
    request_queues(netdev);
    if (netdev->rx_held) {
        run_startup(netdev);
    }
    if (time_msec() >= netdev->next_announce) {
        announce_change(netdev, (netdev->announce_delay < ANNOUNCE_MAX_MS
                                 ? netdev->announce_delay * 2 : 0));
    }
    ovs_mutex_unlock(&netdev->mutex);
}

void
netdev_vhostuser_wait(struct vhu_ctl_client *client)
{
    struct netdev_vhostuser *netdev
        = CONTAINER_OF(client, struct netdev_vhostuser, ctl_client);

    struct vhu_frontend *frontend;

    ovs_mutex_lock(&netdev->mutex);
    vhu_backend_wait(netdev->backend);
    frontend = netdev_vhostuser_frontend(netdev);
    if (frontend) {
        vhu_frontend_wait(frontend);
    }
    poll_timer_wait_until(netdev->next_announce);
    if (netdev->wanted_pairs != netdev->requested_pairs) {
        token_bucket_wait(&netdev->reconf_tokens, VHU_RECONF_COST);
    }
    ovs_mutex_unlock(&netdev->mutex);
}
