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

#include "vhu-unixctl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "netdev-vhostuser.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/json.h"
#include "util.h"
#include "vhu-dev.h"
#include "vhu-frontend.h"
#include "vhu-names.h"
#include "vhu-shm.h"
#include "virtio-spec.h"
#include "virtq-drv.h"

/* What there is to say of one vring. */
struct vring_facts {
    unsigned int index;
    char queue[24];             /* "receiveq 1". */
    uint32_t size;
    bool running;
    struct virtq_drv_state virtq; /* Only while running, as the next two. */
    uint32_t n_used;            /* Buffers that we have not seen yet. */
    enum virtq_drv_error error;
    struct vhu_queue_stats stats;
    uint64_t drops;             /* The sum of 'stats.drops'. */
    const struct vhu_fe_vring *vring;
};

static void
collect_vring(const struct netdev_vhostuser *netdev,
              const struct vhu_frontend *frontend, unsigned int index,
              struct vring_facts *facts)
    OVS_REQUIRES(netdev->mutex)
{
    struct vhu_fe_vring *vring = vhu_frontend_get_vring(frontend, index);

    memset(facts, 0, sizeof *facts);
    facts->vring = vring;
    facts->index = index;
    snprintf(facts->queue, sizeof facts->queue, "%s %u",
             vhu_vring_is_transmitq(index) ? "transmitq" : "receiveq",
             index / 2 + 1);
    facts->size = vhu_frontend_get_config(frontend)->queue_size;
    if (vring->published) {
        ovs_spin_lock(&vring->lock);
        virtq_drv_get_state(vring->drv, &facts->virtq);
        facts->n_used = virtq_drv_n_used(vring->drv);
        facts->error = virtq_drv_get_error(vring->drv, NULL, NULL);
        ovs_spin_unlock(&vring->lock);
        facts->running = true;
    }
    facts->drops = vhu_unixctl_copy_stats(
        netdev->stats[netdev_vhostuser_driver_vring(index)], &facts->stats);
}

static const char *
format_name(const struct vring_facts *f)
{
    return (!f->running ? "-"
            : f->virtq.format == VIRTQ_PACKED ? "packed" : "split");
}

static const char *
state_name(const struct vring_facts *f)
{
    return (f->error != VIRTQ_DRV_ERROR_NONE ? "broken"
            : f->running ? "running"
            : f->vring->started ? "started,disabled" : "stopped");
}

/* Appends 'pos', with its wrap counter if there is one: "17/1". */
static void
put_pos(struct ds *s, const struct vring_facts *f, struct virtq_pos pos)
{
    char text[16];

    if (!f->running) {
        ovs_strlcpy(text, "-", sizeof text);
    } else if (f->virtq.format == VIRTQ_PACKED) {
        snprintf(text, sizeof text, "%"PRIu16"/%d", pos.idx, pos.wrap);
    } else {
        snprintf(text, sizeof text, "%"PRIu16, pos.idx);
    }
    ds_put_format(s, " %7s", text);
}

static void
put_vring(struct ds *s, const struct vring_facts *f)
{
    const struct virtq_drv_counters *c = &f->vring->counters;

    ds_put_format(s, "    %3u %-13s %-6s %5"PRIu32" %-16s", f->index,
                  f->queue, format_name(f), f->size, state_name(f));
    put_pos(s, f, f->virtq.avail);
    put_pos(s, f, f->virtq.used);
    ds_put_format(s, " %9"PRIu32" %10"PRIu64" %12"PRIu64" %7"PRIu64
                  " %8"PRIu64" %10"PRIu64"\n",
                  f->virtq.n_in_flight, f->stats.packets, f->stats.bytes,
                  f->drops, vhu_counter_read(&c->kicks),
                  vhu_counter_read(&c->kicks_suppressed));
    if (f->error != VIRTQ_DRV_ERROR_NONE) {
        ds_put_format(s, "        %s\n", virtq_drv_error_to_string(f->error));
    }
}

void
vhu_unixctl_put_frontend(struct ds *s, const struct netdev_vhostuser *netdev,
                         const struct vhu_frontend *frontend)
    OVS_NO_THREAD_SAFETY_ANALYSIS
{
    const struct vhu_frontend_info *info = vhu_frontend_get_info(frontend);
    const struct vhu_shm *shm = vhu_frontend_get_shm(frontend);
    const char *mtu_error = netdev_vhostuser_mtu_error(netdev);

    if (mtu_error) {
        ds_put_format(s, "  %-18s %s\n", "", mtu_error);
    }
    if (vhu_frontend_is_negotiated(frontend)) {
        ds_put_format(s, "  %-18s %u of %u wanted, the back-end has "
                      "%"PRIu64"\n", "queue pairs", info->n_pairs,
                      vhu_options_n_pairs(&netdev->options), info->queue_num);
        vhu_unixctl_put_bits(s, "offered", info->offered, vhu_feature_name);
        vhu_unixctl_put_bits(s, "features", info->features, vhu_feature_name);
        vhu_unixctl_put_bits(s, "protocol features", info->protocol_features,
                             vhu_protocol_feature_name);
    }
    if (shm) {
        ds_put_format(s, "  %-18s %"PRIu64" KiB in pages of %"PRIu64" KiB%s\n",
                      "memory", shm->size >> 10, shm->page_size >> 10,
                      vhu_shm_is_dead(shm) ? ", vanished" : "");
    }
    if (!info->n_pairs) {
        return;
    }
    ds_put_format(s, "  vrings\n      # %-13s %-6s %5s %-16s %7s %7s %9s %10s "
                  "%12s %7s %8s %10s\n",
                  "queue", "format", "size", "state", "avail", "used",
                  "in flight", "packets", "bytes", "drops", "kicks",
                  "suppressed");
    for (unsigned int i = 0; i < 2 * info->n_pairs; i++) {
        struct vring_facts facts;

        collect_vring(netdev, frontend, i, &facts);
        put_vring(s, &facts);
    }
}

/* For programs: what means the same has the same names as in the back-end
 * role. */

static struct json *
vring_to_json(const struct vring_facts *f)
{
    const struct virtq_drv_counters *c = &f->vring->counters;
    struct json *object = json_object_create();

    vhu_unixctl_put_number(object, "index", f->index);
    json_object_put_string(object, "queue", f->queue);
    json_object_put(object, "started", json_boolean_create(f->vring->started));
    json_object_put(object, "running", json_boolean_create(f->running));
    vhu_unixctl_put_number(object, "size", f->size);
    if (f->running) {
        json_object_put_string(object, "format", format_name(f));
        vhu_unixctl_put_number(object, "fill",
                               vhu_vring_is_transmitq(f->index)
                               ? f->virtq.n_in_flight : f->n_used);
        vhu_unixctl_put_number(object, "in_flight", f->virtq.n_in_flight);
        vhu_unixctl_put_number(object, "avail_idx", f->virtq.avail.idx);
        vhu_unixctl_put_number(object, "used_idx", f->virtq.used.idx);
        if (f->virtq.format == VIRTQ_PACKED) {
            vhu_unixctl_put_number(object, "avail_wrap", f->virtq.avail.wrap);
            vhu_unixctl_put_number(object, "used_wrap", f->virtq.used.wrap);
        }
        if (f->error != VIRTQ_DRV_ERROR_NONE) {
            json_object_put_string(object, "broken",
                                   virtq_drv_error_to_string(f->error));
        }
    }
    vhu_unixctl_put_stats(object, &f->stats);
    vhu_unixctl_put_number(object, "kicks", vhu_counter_read(&c->kicks));
    vhu_unixctl_put_number(object, "kicks_suppressed",
                           vhu_counter_read(&c->kicks_suppressed));
    vhu_unixctl_put_number(object, "bad_packets",
                           vhu_counter_read(&c->bad_packets));
    vhu_unixctl_put_number(object, "times_broken",
                           vhu_counter_read(&c->broken));
    return object;
}

void
vhu_unixctl_frontend_to_json(struct json *object,
                             const struct netdev_vhostuser *netdev,
                             const struct vhu_frontend *frontend)
    OVS_NO_THREAD_SAFETY_ANALYSIS
{
    const struct vhu_frontend_info *info = vhu_frontend_get_info(frontend);
    const struct vhu_shm *shm = vhu_frontend_get_shm(frontend);
    const char *mtu_error = netdev_vhostuser_mtu_error(netdev);
    struct json *vrings = json_array_create_empty();

    json_object_put(object, "offered_features",
                    vhu_bits_to_json(info->offered, vhu_feature_name));
    json_object_put(object, "features",
                    vhu_bits_to_json(info->features, vhu_feature_name));
    json_object_put(object, "protocol_features",
                    vhu_bits_to_json(info->protocol_features,
                                     vhu_protocol_feature_name));
    vhu_unixctl_put_number(object, "queue_pairs", info->n_pairs);
    vhu_unixctl_put_number(object, "wanted_queue_pairs",
                           vhu_options_n_pairs(&netdev->options));
    vhu_unixctl_put_number(object, "offered_queue_pairs", info->queue_num);
    vhu_unixctl_put_number(object, "reported_errors",
                           vhu_frontend_get_n_errors(frontend));
    if (mtu_error) {
        json_object_put_string(object, "mtu_error", mtu_error);
    }
    if (shm) {
        vhu_unixctl_put_number(object, "memory_size", shm->size);
        vhu_unixctl_put_number(object, "page_size", shm->page_size);
    }
    for (unsigned int i = 0; i < 2 * info->n_pairs; i++) {
        struct vring_facts facts;

        collect_vring(netdev, frontend, i, &facts);
        json_array_add(vrings, vring_to_json(&facts));
    }
    json_object_put(object, "vrings", vrings);
}
