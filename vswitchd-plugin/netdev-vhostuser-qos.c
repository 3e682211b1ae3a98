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
#include <stdio.h>

#include "dp-packet.h"
#include "hash.h"
#include "openvswitch/hmap.h"
#include "openvswitch/vlog.h"
#include "smap.h"
#include "sset.h"
#include "timeval.h"
#include "util.h"
#include "vhu-meter.h"
#include "vhu-packet.h"

VLOG_DEFINE_THIS_MODULE(netdev_vhostuser_qos);

/* Quality of service and policing
 * ===============================
 *
 * Types, 'other_config' keys and their meaning are those of the vhost ports of
 * netdev-dpdk, so that a configuration works for either.  As there, a packet
 * counts without its Ethernet header.
 *
 * Several PMD threads may send through one port, or receive from its rxqs, so
 * the meters have a spin lock, held for one batch.  Everything is replaced
 * by RCU when the configuration changes, but for the queues of a QoS, which
 * change under its lock. */

/* Ingress policing: packets from the guest. */
struct netdev_vhostuser_policer {
    struct ovs_spin lock;
    struct vhu_meter meter;     /* Under 'lock'. */
    uint32_t kbits_rate;
    uint32_t kbits_burst;
};

/* A type of QoS: what "ovs-vsctl create qos type=NAME" takes. */
struct qos_type {
    const char *name;

    /* Returns 0 if a meter of this type can have 'params', otherwise a
     * positive errno. */
    int (*check)(const struct vhu_meter_params *params);

    /* Returns true if 'packet' conforms.  Called with the lock of 'qos'. */
    bool (*run)(struct netdev_vhostuser_qos *qos,
                const struct dp_packet *packet, long long int now);

    bool two_rates;             /* Has 'eir' and 'ebs', and queues. */
};

/* Egress: packets to the guest. */
struct netdev_vhostuser_qos {
    const struct qos_type *type;
    struct vhu_meter_params params;
    struct ovs_spin lock;

    /* Under 'lock'. */
    struct vhu_meter meter;
    struct hmap queues;         /* Contains "struct qos_queue"s. */
};

/* A queue of a QoS: a class of packets with a meter of its own. */
struct qos_queue {
    struct hmap_node hmap_node; /* In 'queues' of the QoS. */
    unsigned int queue_id;
    struct vhu_meter_params params;
    struct vhu_meter meter;
    struct netdev_queue_stats stats;
};

/* Queue IDs of a dump in progress. */
struct queue_dump {
    unsigned int *queue_ids;
    size_t n_queues;
    size_t next;
};

static void policer_destroy(struct netdev_vhostuser_policer *);
static const struct qos_type *qos_type_lookup(const char *name);
static struct netdev_vhostuser_qos *
qos_create(const struct qos_type *, const struct vhu_meter_params *);
static void qos_destroy(struct netdev_vhostuser_qos *);
static struct qos_queue *qos_find_queue(const struct netdev_vhostuser_qos *,
                                        unsigned int queue_id);
static int qos_set_queue(struct netdev_vhostuser_qos *, unsigned int queue_id,
                         const struct smap *details);

/* Reads the parameters of a meter from 'details'. */
static struct vhu_meter_params
params_from_details(const struct smap *details, const struct qos_type *type)
{
    struct vhu_meter_params params = {
        .cir = smap_get_ullong(details, "cir", 0),
        .cbs = smap_get_ullong(details, "cbs", 0),
    };

    if (type->two_rates) {
        params.eir = smap_get_ullong(details, "eir", 0);
        params.ebs = smap_get_ullong(details, "ebs", 0);
    }
    return params;
}

static void
params_to_details(const struct vhu_meter_params *params,
                  const struct qos_type *type, struct smap *details)
{
    smap_add_format(details, "cir", "%"PRIu64, params->cir);
    smap_add_format(details, "cbs", "%"PRIu64, params->cbs);
    if (type->two_rates) {
        smap_add_format(details, "eir", "%"PRIu64, params->eir);
        smap_add_format(details, "ebs", "%"PRIu64, params->ebs);
    }
}

static bool
params_equal(const struct vhu_meter_params *a,
             const struct vhu_meter_params *b)
{
    return (a->cir == b->cir && a->cbs == b->cbs
            && a->eir == b->eir && a->ebs == b->ebs);
}

/* Returns the bytes of 'packet' that count. */
static uint32_t
policed_size(const struct dp_packet *packet)
{
    return dp_packet_size(packet) - MIN(dp_packet_size(packet),
                                        ETH_HEADER_LEN);
}

/* Configures the ingress policer, or removes it if 'kbits_rate' is 0.  The
 * limits on packets are for other providers. */
int
netdev_vhostuser_set_policing(struct netdev *netdev_, uint32_t kbits_rate,
                              uint32_t kbits_burst,
                              uint32_t kpkts_rate OVS_UNUSED,
                              uint32_t kpkts_burst OVS_UNUSED)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);
    struct netdev_vhostuser_policer *old, *new = NULL;

    if (!kbits_burst) {
        kbits_burst = 8000;     /* As vswitch.xml documents. */
    }

    ovs_mutex_lock(&netdev->mutex);
    old = ovsrcu_get_protected(struct netdev_vhostuser_policer *,
                               &netdev->policer);
    if (old ? (kbits_rate != old->kbits_rate
               || kbits_burst != old->kbits_burst) : kbits_rate) {
        if (kbits_rate) {
            new = xzalloc(sizeof *new);
            ovs_spin_init(&new->lock);
            new->kbits_rate = kbits_rate;
            new->kbits_burst = kbits_burst;
            vhu_bucket_init(&new->meter.committed,
                            kbits_rate * UINT64_C(1000) / 8,
                            kbits_burst * UINT64_C(1000) / 8, time_usec());
        }
        ovsrcu_set(&netdev->policer, new);
        if (old) {
            ovsrcu_postpone(policer_destroy, old);
        }
    }
    ovs_mutex_unlock(&netdev->mutex);
    return 0;
}

int
netdev_vhostuser_get_qos(const struct netdev *netdev_, const char **typep,
                         struct smap *details)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);
    struct netdev_vhostuser_qos *qos;

    ovs_mutex_lock(&netdev->mutex);
    qos = ovsrcu_get_protected(struct netdev_vhostuser_qos *, &netdev->qos);
    if (qos) {
        *typep = qos->type->name;
        params_to_details(&qos->params, qos->type, details);
    } else {
        *typep = "";
    }
    ovs_mutex_unlock(&netdev->mutex);
    return 0;
}

/* Stores in '*qosp' a new QoS of type 'name' with 'details', or null if 'name'
 * is empty.  Returns 0 or a positive errno. */
static int
qos_from_details(const char *name, const struct smap *details,
                 struct netdev_vhostuser_qos **qosp)
{
    const struct qos_type *type;
    struct vhu_meter_params params;
    int error;

    *qosp = NULL;
    if (!name || !name[0]) {
        return 0;
    }
    type = qos_type_lookup(name);
    if (!type) {
        return EOPNOTSUPP;
    }
    params = params_from_details(details, type);
    error = type->check(&params);
    if (!error) {
        *qosp = qos_create(type, &params);
    }
    return error;
}

/* Replaces the QoS of the port.  If the new one is impossible there is none
 * afterwards, as in netdev-dpdk.  If it is the one that we have, that stays,
 * with its queues. */
int
netdev_vhostuser_set_qos(struct netdev *netdev_, const char *name,
                         const struct smap *details)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);
    struct netdev_vhostuser_qos *old, *new;
    int error;

    error = qos_from_details(name, details, &new);
    if (error) {
        VLOG_ERR("Failed to set QoS type %s on port %s: %s",
                 name, netdev_get_name(netdev_), ovs_strerror(error));
    }

    ovs_mutex_lock(&netdev->mutex);
    old = ovsrcu_get_protected(struct netdev_vhostuser_qos *, &netdev->qos);
    if (old && new && old->type == new->type
        && params_equal(&old->params, &new->params)) {
        qos_destroy(new);
    } else {
        ovsrcu_set(&netdev->qos, new);
        if (old) {
            ovsrcu_postpone(qos_destroy, old);
        }
    }
    ovs_mutex_unlock(&netdev->mutex);
    return error;
}

/* Returns the QoS of 'netdev' if it has one with queues, otherwise null. */
static struct netdev_vhostuser_qos *
qos_with_queues(const struct netdev_vhostuser *netdev)
{
    struct netdev_vhostuser_qos *qos
        = ovsrcu_get_protected(struct netdev_vhostuser_qos *, &netdev->qos);

    return qos && qos->type->two_rates ? qos : NULL;
}

int
netdev_vhostuser_get_queue(const struct netdev *netdev_,
                           unsigned int queue_id, struct smap *details)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);
    struct netdev_vhostuser_qos *qos;
    int error = EOPNOTSUPP;

    ovs_mutex_lock(&netdev->mutex);
    qos = qos_with_queues(netdev);
    if (qos) {
        struct qos_queue *queue = qos_find_queue(qos, queue_id);

        error = EINVAL;
        if (queue) {
            params_to_details(&queue->params, qos->type, details);
            error = 0;
        }
    }
    ovs_mutex_unlock(&netdev->mutex);
    return error;
}

int
netdev_vhostuser_set_queue(struct netdev *netdev_, unsigned int queue_id,
                           const struct smap *details)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);
    struct netdev_vhostuser_qos *qos;
    int error = EOPNOTSUPP;

    ovs_mutex_lock(&netdev->mutex);
    qos = qos_with_queues(netdev);
    if (qos) {
        error = qos_set_queue(qos, queue_id, details);
        if (error) {
            VLOG_ERR("Failed to set QoS queue %u on port %s: %s",
                     queue_id, netdev_get_name(netdev_), ovs_strerror(error));
        }
    }
    ovs_mutex_unlock(&netdev->mutex);
    return error;
}

int
netdev_vhostuser_delete_queue(struct netdev *netdev_, unsigned int queue_id)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);
    struct netdev_vhostuser_qos *qos;
    int error = EOPNOTSUPP;

    ovs_mutex_lock(&netdev->mutex);
    qos = qos_with_queues(netdev);
    if (qos) {
        struct qos_queue *queue = qos_find_queue(qos, queue_id);

        if (queue) {
            ovs_spin_lock(&qos->lock);
            hmap_remove(&qos->queues, &queue->hmap_node);
            ovs_spin_unlock(&qos->lock);
            free(queue);
        }
        error = 0;
    }
    ovs_mutex_unlock(&netdev->mutex);
    return error;
}

int
netdev_vhostuser_get_queue_stats(const struct netdev *netdev_,
                                 unsigned int queue_id,
                                 struct netdev_queue_stats *stats)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);
    struct netdev_vhostuser_qos *qos;
    int error = EOPNOTSUPP;

    ovs_mutex_lock(&netdev->mutex);
    qos = qos_with_queues(netdev);
    if (qos) {
        struct qos_queue *queue = qos_find_queue(qos, queue_id);

        error = EINVAL;
        if (queue) {
            ovs_spin_lock(&qos->lock);
            *stats = queue->stats;
            ovs_spin_unlock(&qos->lock);
            error = 0;
        }
    }
    ovs_mutex_unlock(&netdev->mutex);
    return error;
}

int
netdev_vhostuser_queue_dump_start(const struct netdev *netdev_, void **statep)
{
    struct netdev_vhostuser *netdev = netdev_vhostuser_cast(netdev_);
    struct netdev_vhostuser_qos *qos;
    int error = EOPNOTSUPP;

    ovs_mutex_lock(&netdev->mutex);
    qos = qos_with_queues(netdev);
    if (qos) {
        struct queue_dump *dump = xzalloc(sizeof *dump);
        struct qos_queue *queue;

        dump->queue_ids = xmalloc(hmap_count(&qos->queues)
                                  * sizeof *dump->queue_ids);
        HMAP_FOR_EACH (queue, hmap_node, &qos->queues) {
            dump->queue_ids[dump->n_queues++] = queue->queue_id;
        }
        *statep = dump;
        error = 0;
    }
    ovs_mutex_unlock(&netdev->mutex);
    return error;
}

int
netdev_vhostuser_queue_dump_next(const struct netdev *netdev, void *dump_,
                                 unsigned int *queue_idp,
                                 struct smap *details)
{
    struct queue_dump *dump = dump_;

    while (dump->next < dump->n_queues) {
        *queue_idp = dump->queue_ids[dump->next++];
        if (!netdev_vhostuser_get_queue(netdev, *queue_idp, details)) {
            return 0;
        }
    }
    return EOF;
}

int
netdev_vhostuser_queue_dump_done(const struct netdev *netdev OVS_UNUSED,
                                 void *dump_)
{
    struct queue_dump *dump = dump_;

    free(dump->queue_ids);
    free(dump);
    return 0;
}

/* Frees the QoS and the policer of 'netdev'.  No PMD thread may use them any
 * more. */
void
netdev_vhostuser_qos_destroy(struct netdev_vhostuser *netdev)
{
    policer_destroy(ovsrcu_get_protected(struct netdev_vhostuser_policer *,
                                         &netdev->policer));
    ovsrcu_set_hidden(&netdev->policer, NULL);
    qos_destroy(ovsrcu_get_protected(struct netdev_vhostuser_qos *,
                                     &netdev->qos));
    ovsrcu_set_hidden(&netdev->qos, NULL);
}

size_t
netdev_vhostuser_policer_run(struct netdev_vhostuser_policer *policer,
                             struct dp_packet_batch *batch)
{
    size_t n = dp_packet_batch_size(batch);
    long long int now = time_usec();
    struct dp_packet_batch dropped;
    size_t n_kept = 0;

    dp_packet_batch_init(&dropped);
    ovs_spin_lock(&policer->lock);
    for (size_t i = 0; i < n; i++) {
        struct dp_packet *packet = batch->packets[i];

        if (vhu_meter_run(&policer->meter, policed_size(packet), VHU_GREEN,
                          now) == VHU_GREEN) {
            batch->packets[n_kept++] = packet;
        } else {
            dp_packet_batch_add(&dropped, packet);
        }
    }
    ovs_spin_unlock(&policer->lock);

    batch->count = n_kept;
    vhu_packets_recycle(&dropped);
    return n - n_kept;
}

size_t
netdev_vhostuser_qos_run(struct netdev_vhostuser_qos *qos,
                         struct dp_packet_batch *batch)
{
    size_t n = dp_packet_batch_size(batch);
    long long int now = time_usec();
    struct dp_packet_batch dropped;
    size_t n_kept = 0;

    dp_packet_batch_init(&dropped);
    ovs_spin_lock(&qos->lock);
    for (size_t i = 0; i < n; i++) {
        struct dp_packet *packet = batch->packets[i];

        if (qos->type->run(qos, packet, now)) {
            batch->packets[n_kept++] = packet;
        } else {
            dp_packet_batch_add(&dropped, packet);
        }
    }
    ovs_spin_unlock(&qos->lock);

    batch->count = n_kept;
    vhu_packets_recycle(&dropped);
    return n - n_kept;
}

static void
policer_destroy(struct netdev_vhostuser_policer *policer)
{
    if (policer) {
        ovs_spin_destroy(&policer->lock);
        free(policer);
    }
}

/* A QoS and its queues. */

static struct netdev_vhostuser_qos *
qos_create(const struct qos_type *type, const struct vhu_meter_params *params)
{
    struct netdev_vhostuser_qos *qos = xzalloc(sizeof *qos);

    qos->type = type;
    qos->params = *params;
    ovs_spin_init(&qos->lock);
    vhu_meter_init(&qos->meter, params, time_usec());
    hmap_init(&qos->queues);
    return qos;
}

static void
qos_destroy(struct netdev_vhostuser_qos *qos)
{
    if (qos) {
        struct qos_queue *queue;

        HMAP_FOR_EACH_POP (queue, hmap_node, &qos->queues) {
            free(queue);
        }
        hmap_destroy(&qos->queues);
        ovs_spin_destroy(&qos->lock);
        free(qos);
    }
}

/* Needs the lock of 'qos', or the mutex of the port under which queues come
 * and go. */
static struct qos_queue *
qos_find_queue(const struct netdev_vhostuser_qos *qos, unsigned int queue_id)
{
    struct qos_queue *queue;

    HMAP_FOR_EACH_WITH_HASH (queue, hmap_node, hash_int(queue_id, 0),
                             &qos->queues) {
        if (queue->queue_id == queue_id) {
            return queue;
        }
    }
    return NULL;
}

/* Adds queue 'queue_id' to 'qos', or changes it.  Returns 0 or a positive
 * errno, with the queue as it was. */
static int
qos_set_queue(struct netdev_vhostuser_qos *qos, unsigned int queue_id,
              const struct smap *details)
{
    struct qos_queue *queue = qos_find_queue(qos, queue_id);
    struct vhu_meter_params params;
    int error;

    /* The default queue need not be configured: it may have all that the port
     * has. */
    params = (queue_id || !smap_is_empty(details)
              ? params_from_details(details, qos->type) : qos->params);
    error = qos->type->check(&params);
    if (error || (queue && params_equal(&queue->params, &params))) {
        return error;
    }

    if (!queue) {
        queue = xzalloc(sizeof *queue);
        queue->queue_id = queue_id;
        queue->stats.created = time_msec();
        vhu_meter_init(&queue->meter, &params, time_usec());
        queue->params = params;
        ovs_spin_lock(&qos->lock);
        hmap_insert(&qos->queues, &queue->hmap_node, hash_int(queue_id, 0));
    } else {
        ovs_spin_lock(&qos->lock);
        vhu_meter_init(&queue->meter, &params, time_usec());
        queue->params = params;
    }
    ovs_spin_unlock(&qos->lock);
    return 0;
}

/* The types of QoS. */

/* "egress-policer": the port has one committed rate. */
static int
egress_policer_check(const struct vhu_meter_params *params)
{
    return params->cir && params->cbs ? 0 : EINVAL;
}

static bool
egress_policer_run(struct netdev_vhostuser_qos *qos,
                   const struct dp_packet *packet, long long int now)
{
    return vhu_meter_run(&qos->meter, policed_size(packet), VHU_GREEN,
                         now) == VHU_GREEN;
}

/* "trtcm-policer": the port and each of its queues have a committed and an
 * excess rate.  Each may be 0, but where there is a rate there must be a
 * burst. */
static int
trtcm_policer_check(const struct vhu_meter_params *params)
{
    return ((!params->cir || params->cbs)
            && (!params->eir || params->ebs) ? 0 : EINVAL);
}

/* A packet passes the meter of its queue, and then, with the color from there,
 * that of the port. */
static bool
trtcm_policer_run(struct netdev_vhostuser_qos *qos,
                  const struct dp_packet *packet, long long int now)
{
    uint32_t size = policed_size(packet);
    struct qos_queue *queue;
    enum vhu_color color;

    queue = qos_find_queue(qos, packet->md.skb_priority);
    if (!queue) {
        queue = qos_find_queue(qos, 0);
        if (!queue) {
            return false;
        }
    }

    color = vhu_meter_run(&queue->meter, size, VHU_GREEN, now);
    if (color == VHU_RED) {
        queue->stats.tx_errors++;
    } else {
        queue->stats.tx_packets++;
        queue->stats.tx_bytes += size;
    }
    return vhu_meter_run(&qos->meter, size, color, now) != VHU_RED;
}

static const struct qos_type qos_types[] = {
    {
        .name = "egress-policer",
        .check = egress_policer_check,
        .run = egress_policer_run,
    },
    {
        .name = "trtcm-policer",
        .check = trtcm_policer_check,
        .run = trtcm_policer_run,
        .two_rates = true,
    },
};

int
netdev_vhostuser_get_qos_types(const struct netdev *netdev OVS_UNUSED,
                               struct sset *types)
{
    for (size_t i = 0; i < ARRAY_SIZE(qos_types); i++) {
        sset_add(types, qos_types[i].name);
    }
    return 0;
}

static const struct qos_type *
qos_type_lookup(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(qos_types); i++) {
        if (!strcmp(name, qos_types[i].name)) {
            return &qos_types[i];
        }
    }
    return NULL;
}
