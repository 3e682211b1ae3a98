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
#include "unixctl.h"
#include "util.h"
#include "vhost-user-spec.h"
#include "vhu-backend.h"
#include "vhu-conn.h"
#include "vhu-dev.h"
#include "vhu-frontend.h"
#include "vhu-mem.h"
#include "vhu-names.h"
#include "vhu-pool.h"
#include "vhu-trace.h"
#include "virtio-spec.h"
#include "virtq.h"

/* ovs-appctl vhostuser/...
 * ========================
 *
 * "vhostuser/show" describes ports, for people or as JSON.  Both forms come
 * from the same collection of facts where it takes more than a line to find
 * them out ("struct vring_facts"). */

void
vhu_unixctl_put_bits(struct ds *s, const char *title, uint64_t word,
                     vhu_bit_name_func *name)
{
    size_t start = s->length;

    ds_put_format(s, "  %-18s 0x%"PRIx64" ", title, word);
    vhu_bits_format_wrapped(s, word, name, s->length - start, 21, 79);
    ds_put_char(s, '\n');
}

/* What there is to say of one vring. */
struct vring_facts {
    unsigned int index;
    char queue[24];             /* "receiveq 1": the guest's name. */
    const char *format;         /* "split", "packed" or "-". */
    uint32_t size;
    char state[48];
    bool running;
    struct virtq_state virtq;   /* Only while running. */
    struct vhu_queue_stats stats;
    uint64_t drops;             /* The sum of 'stats.drops'. */
    const struct vhu_vring *vring;
};

static void
describe_state(const struct vhu_vring *vring, char *state, size_t size)
{
    struct ds s = DS_EMPTY_INITIALIZER;
    enum virtq_error error = (vring->running
                              ? virtq_get_error(vring->running, NULL, NULL)
                              : VIRTQ_ERROR_NONE);

    ds_put_cstr(&s, vring->started ? "started" : "stopped");
    ds_put_format(&s, ",%s", vring->enabled ? "enabled" : "disabled");
    ds_put_cstr(&s, (error != VIRTQ_ERROR_NONE ? ",broken"
                     : vring->running ? ",running"
                     : vring->refused ? ",refused" : ""));
    ovs_strlcpy(state, ds_cstr(&s), size);
    ds_destroy(&s);
}

uint64_t
vhu_unixctl_copy_stats(const struct vhu_queue_stats *src,
                       struct vhu_queue_stats *dst)
{
    uint64_t n_drops = 0;

    memset(dst, 0, sizeof *dst);
    if (src) {
        dst->packets = vhu_counter_read(&src->packets);
        dst->bytes = vhu_counter_read(&src->bytes);
        dst->bursts = vhu_counter_read(&src->bursts);
        dst->retries = vhu_counter_read(&src->retries);
        for (size_t i = 0; i < VHU_N_DROPS; i++) {
            dst->drops[i] = vhu_counter_read(&src->drops[i]);
            n_drops += dst->drops[i];
        }
    }
    return n_drops;
}

static void
collect_vring(const struct netdev_vhostuser *netdev, unsigned int index,
              struct vring_facts *facts)
    OVS_REQUIRES(netdev->mutex)
{
    struct vhu_vring *vring = netdev->dev->vrings[index];

    memset(facts, 0, sizeof *facts);
    facts->vring = vring;
    facts->index = index;
    snprintf(facts->queue, sizeof facts->queue, "%s %u",
             vhu_vring_is_transmitq(index) ? "transmitq" : "receiveq",
             index / 2 + 1);
    facts->format = "-";
    facts->size = vring->size;
    describe_state(vring, facts->state, sizeof facts->state);
    if (vring->running) {
        ovs_spin_lock(&vring->lock);
        virtq_get_state(vring->running, &facts->virtq);
        ovs_spin_unlock(&vring->lock);
        facts->running = true;
        facts->format = (facts->virtq.format == VIRTQ_PACKED
                         ? "packed" : "split");
    }
    facts->drops = vhu_unixctl_copy_stats(netdev->stats[index],
                                          &facts->stats);
}

/* For people. */

static void
put_log(struct ds *s, const struct vhu_dev *dev)
{
    if (vhu_dev_wants_log(dev)) {
        ds_put_format(s, "  %-18s %s\n", "dirty log",
                      dev->log ? "on, the guest migrates" : "missing");
    }
}

static void
put_memory(struct ds *s, const struct vhu_mem *mem)
{
    if (!mem) {
        return;
    }
    ds_put_format(s, "  %-18s %d region%s, %"PRIu64" KiB%s\n", "memory",
                  mem->n_regions, mem->n_regions == 1 ? "" : "s",
                  vhu_mem_size(mem) >> 10,
                  vhu_mem_is_dead(mem) ? ", vanished" : "");
    ds_put_format(s, "    %18s %15s %18s\n", "guest address", "size",
                  "user address");
    for (int i = 0; i < mem->n_regions; i++) {
        const struct vhu_mem_region *r = &mem->regions[i];

        ds_put_format(s, "    %#18"PRIx64" %11"PRIu64" KiB %#18"PRIx64"\n",
                      r->guest_addr, r->size >> 10, r->user_addr);
    }
}

/* Returns the index and wrap counter of 'pos', "17/1". */
static char *
pos_to_string(struct virtq_pos pos)
{
    return xasprintf("%"PRIu16"/%d", pos.idx, pos.wrap);
}

static void
put_vring(struct ds *s, const struct vring_facts *f)
{
    const struct virtq_counters *c = &f->vring->counters;

    ds_put_format(s, "    %3u %-13s %-6s %5"PRIu32" %-24s", f->index,
                  f->queue, f->format, f->size, f->state);
    if (f->running && f->virtq.format == VIRTQ_PACKED) {
        char *avail = pos_to_string(f->virtq.avail);
        char *used = pos_to_string(f->virtq.used);

        ds_put_format(s, " %6s %7s %7s", "-", avail, used);
        free(avail);
        free(used);
    } else if (f->running) {
        ds_put_format(s, " %6"PRIu16" %7"PRIu16" %7"PRIu16,
                      f->virtq.driver_idx, f->virtq.avail.idx,
                      f->virtq.used.idx);
    } else {
        ds_put_format(s, " %6s %7s %7s", "-", "-", "-");
    }
    ds_put_format(s, " %10"PRIu64" %12"PRIu64" %7"PRIu64" %8"PRIu64
                  " %10"PRIu64" %5"PRIu64"\n",
                  f->stats.packets, f->stats.bytes, f->drops,
                  vhu_counter_read(&c->calls),
                  vhu_counter_read(&c->calls_suppressed),
                  vhu_counter_read(&f->vring->kicks));
    if (f->vring->problem) {
        ds_put_format(s, "        %s\n", f->vring->problem);
    }
}

static void
put_vrings(struct ds *s, const struct netdev_vhostuser *netdev)
    OVS_REQUIRES(netdev->mutex)
{
    unsigned int n = netdev_vhostuser_n_vrings(netdev);

    if (!n) {
        return;
    }
    ds_put_format(s, "  vrings\n      # %-13s %-6s %5s %-24s %6s %7s %7s %10s "
                  "%12s %7s %8s %10s %5s\n",
                  "queue", "format", "size", "state", "driver", "avail",
                  "used", "packets", "bytes", "drops", "calls", "suppressed",
                  "kicks");
    for (unsigned int i = 0; i < n; i++) {
        struct vring_facts facts;

        collect_vring(netdev, i, &facts);
        put_vring(s, &facts);
    }
}

static void
put_pool(struct ds *s, struct vhu_pool *pool)
{
    struct vhu_pool_state state;

    if (!pool) {
        return;
    }
    vhu_pool_get_state(pool, &state);
    ds_put_format(s, "  %-18s %s: %u packets of up to %"PRIuSIZE" bytes on "
                  "NUMA node %d, %u in use", "pool", state.name, state.size,
                  state.room, state.numa_id, state.in_use);
    if (state.n_empty) {
        ds_put_format(s, ", %u bursts from the heap while it was empty",
                      state.n_empty);
    }
    ds_put_char(s, '\n');
}

static void
put_connection(struct ds *s, const struct netdev_vhostuser *netdev)
    OVS_REQUIRES(netdev->mutex)
{
    const struct vhu_conn *conn = netdev_vhostuser_conn(netdev);
    const char *reason = netdev_vhostuser_reason(netdev);

    if (conn) {
        char *since = netdev_vhostuser_since(netdev);
        unsigned int n_connects = vhu_conn_get_n_connects(conn);

        ds_put_format(s, "  %-18s %s since %s, %u connection%s in all\n",
                      "state", (vhu_conn_is_connected(conn)
                                ? "connected" : "disconnected"),
                      since, n_connects, n_connects == 1 ? "" : "s");
        free(since);
    }
    ds_put_format(s, "  %-18s %s%s%s\n", "link",
                  netdev->carrier ? "up" : "down", reason ? ": " : "",
                  reason ? reason : "");
    ds_put_format(s, "  %-18s %d rx, %d tx, MTU %d\n", "queues",
                  netdev->up.n_rxq, netdev->up.n_txq, netdev->mtu);
    put_pool(s, netdev->pool);
    if (netdev->options_error) {
        ds_put_format(s, "  %-18s not in effect: %s\n", "new options",
                      netdev->options_error);
    }
}

/* Appends why packets of all queues were dropped, if any were. */
static void
put_drops(struct ds *s, const struct netdev_vhostuser *netdev)
    OVS_REQUIRES(netdev->mutex)
{
    static const char *const names[] = {
#define VHU_DROP(NAME) #NAME,
        VHU_DROPS
#undef VHU_DROP
    };
    const char *title = "drops";

    for (size_t i = 0; i < VHU_N_DROPS; i++) {
        uint64_t n = vhu_counter_read(&netdev->no_queue.drops[i]);

        for (size_t j = 0; j < ARRAY_SIZE(netdev->stats); j++) {
            if (netdev->stats[j]) {
                n += vhu_counter_read(&netdev->stats[j]->drops[i]);
            }
        }
        if (n) {
            ds_put_format(s, "  %-18s %"PRIu64" %s\n", title, n, names[i]);
            title = "";
        }
    }
}

static void
show_text(const struct netdev_vhostuser *netdev, struct ds *s)
    OVS_REQUIRES(netdev->mutex)
{
    const struct vhu_frontend *frontend = netdev_vhostuser_frontend(netdev);
    const struct vhu_dev *dev = netdev->dev;
    const char *path = netdev->options.path;

    ds_put_format(s, "%s: %s, %s%s%s\n",
                  netdev_get_name(&netdev->up),
                  vhu_role_to_string(netdev->options.role),
                  netdev_vhostuser_mode(netdev), path ? " " : "",
                  path ? path : "");
    put_connection(s, netdev);
    if (frontend) {
        put_drops(s, netdev);
        vhu_unixctl_put_frontend(s, netdev, frontend);
        return;
    }
    if (dev->features_set) {
        vhu_unixctl_put_bits(s, "features", dev->features, vhu_feature_name);
        vhu_unixctl_put_bits(s, "protocol features", dev->protocol_features,
                 vhu_protocol_feature_name);
    }
    put_drops(s, netdev);
    put_memory(s, dev->mem);
    put_log(s, dev);
    put_vrings(s, netdev);
}

/* For programs. */

void
vhu_unixctl_put_number(struct json *object, const char *name, uint64_t value)
{
    json_object_put(object, name, json_integer_create(value));
}

void
vhu_unixctl_put_stats(struct json *object, const struct vhu_queue_stats *stats)
{
    vhu_unixctl_put_number(object, "packets", stats->packets);
    vhu_unixctl_put_number(object, "bytes", stats->bytes);
    vhu_unixctl_put_number(object, "bursts", stats->bursts);
    vhu_unixctl_put_number(object, "retries", stats->retries);
#define VHU_DROP(NAME)                                  \
    vhu_unixctl_put_number(object, #NAME "_drops",      \
                           stats->drops[VHU_DROP_##NAME]);
    VHU_DROPS
#undef VHU_DROP
}

static struct json *
vring_to_json(const struct vring_facts *f)
{
    const struct virtq_counters *c = &f->vring->counters;
    struct json *object = json_object_create();

    vhu_unixctl_put_number(object, "index", f->index);
    json_object_put_string(object, "queue", f->queue);
    vhu_unixctl_put_number(object, "size", f->size);
    json_object_put(object, "started", json_boolean_create(f->vring->started));
    json_object_put(object, "enabled", json_boolean_create(f->vring->enabled));
    json_object_put(object, "running", json_boolean_create(f->running));
    if (f->running) {
        enum virtq_error error = virtq_get_error(f->vring->running, NULL,
                                                 NULL);

        json_object_put_string(object, "format", f->format);
        vhu_unixctl_put_number(object, "fill", f->virtq.fill);
        vhu_unixctl_put_number(object, "avail_idx", f->virtq.avail.idx);
        vhu_unixctl_put_number(object, "used_idx", f->virtq.used.idx);
        if (f->virtq.format == VIRTQ_PACKED) {
            vhu_unixctl_put_number(object, "avail_wrap",
                                   f->virtq.avail.wrap);
            vhu_unixctl_put_number(object, "used_wrap", f->virtq.used.wrap);
        } else {
            vhu_unixctl_put_number(object, "driver_idx", f->virtq.driver_idx);
        }
        if (error != VIRTQ_ERROR_NONE) {
            json_object_put_string(object, "broken",
                                   virtq_error_to_string(error));
        }
    }
    vhu_unixctl_put_stats(object, &f->stats);
    vhu_unixctl_put_number(object, "calls", vhu_counter_read(&c->calls));
    vhu_unixctl_put_number(object, "calls_suppressed",
               vhu_counter_read(&c->calls_suppressed));
    vhu_unixctl_put_number(object, "bad_chains",
                           vhu_counter_read(&c->bad_chains));
    vhu_unixctl_put_number(object, "times_broken",
                           vhu_counter_read(&c->broken));
    vhu_unixctl_put_number(object, "kicks", f->vring->kicks);
    vhu_unixctl_put_number(object, "discarded", f->vring->discarded);
    if (f->vring->problem) {
        json_object_put_string(object, "problem", f->vring->problem);
    }
    return object;
}

static struct json *
mem_to_json(const struct vhu_mem *mem)
{
    struct json *array = json_array_create_empty();

    for (int i = 0; mem && i < mem->n_regions; i++) {
        const struct vhu_mem_region *r = &mem->regions[i];
        struct json *object = json_object_create();

        json_object_put_format(object, "guest_addr", "0x%"PRIx64,
                               r->guest_addr);
        json_object_put_format(object, "user_addr", "0x%"PRIx64,
                               r->user_addr);
        vhu_unixctl_put_number(object, "size", r->size);
        json_array_add(array, object);
    }
    return array;
}

static struct json *
pool_to_json(struct vhu_pool *pool)
{
    struct json *object = json_object_create();
    struct vhu_pool_state state;

    vhu_pool_get_state(pool, &state);
    json_object_put_string(object, "name", state.name);
    vhu_unixctl_put_number(object, "numa_id", state.numa_id);
    vhu_unixctl_put_number(object, "room", state.room);
    vhu_unixctl_put_number(object, "size", state.size);
    vhu_unixctl_put_number(object, "in_use", state.in_use);
    vhu_unixctl_put_number(object, "times_empty", state.n_empty);
    return object;
}

static void
connection_to_json(const struct netdev_vhostuser *netdev, struct json *object)
    OVS_REQUIRES(netdev->mutex)
{
    const struct vhu_conn *conn = netdev_vhostuser_conn(netdev);
    const char *reason = netdev_vhostuser_reason(netdev);

    json_object_put(object, "connected",
                    json_boolean_create(conn && vhu_conn_is_connected(conn)));
    if (conn) {
        json_object_put_string(object, "socket", netdev->options.path);
        json_object_put_nocopy(object, xstrdup("since"),
                               json_string_create_nocopy(
                                   netdev_vhostuser_since(netdev)));
        vhu_unixctl_put_number(object, "connections",
                               vhu_conn_get_n_connects(conn));
    }
    json_object_put(object, "link", json_boolean_create(netdev->carrier));
    if (reason) {
        json_object_put_string(object, "reason", reason);
    }
    if (netdev->options_error) {
        json_object_put_string(object, "options_error",
                               netdev->options_error);
    }
}

static void
backend_to_json(const struct netdev_vhostuser *netdev, struct json *object)
    OVS_REQUIRES(netdev->mutex)
{
    const struct vhu_dev *dev = netdev->dev;
    unsigned int n = netdev_vhostuser_n_vrings(netdev);
    struct json *vrings = json_array_create_empty();

    json_object_put(object, "features",
                    vhu_bits_to_json(dev->features, vhu_feature_name));
    json_object_put(object, "protocol_features",
                    vhu_bits_to_json(dev->protocol_features,
                                     vhu_protocol_feature_name));
    json_object_put(object, "memory", mem_to_json(dev->mem));
    json_object_put(object, "dirty_log",
                    json_boolean_create(dev->log && vhu_dev_wants_log(dev)));
    for (unsigned int i = 0; i < n; i++) {
        struct vring_facts facts;

        collect_vring(netdev, i, &facts);
        json_array_add(vrings, vring_to_json(&facts));
    }
    json_object_put(object, "vrings", vrings);
}

static struct json *
show_json(const struct netdev_vhostuser *netdev)
    OVS_REQUIRES(netdev->mutex)
{
    const struct vhu_frontend *frontend = netdev_vhostuser_frontend(netdev);
    struct json *object = json_object_create();

    json_object_put_string(object, "name", netdev_get_name(&netdev->up));
    json_object_put_string(object, "role",
                           vhu_role_to_string(netdev->options.role));
    json_object_put_string(object, "mode", netdev_vhostuser_mode(netdev));
    connection_to_json(netdev, object);
    vhu_unixctl_put_number(object, "n_rxq", netdev->up.n_rxq);
    vhu_unixctl_put_number(object, "n_txq", netdev->up.n_txq);
    vhu_unixctl_put_number(object, "mtu", netdev->mtu);
    if (netdev->pool) {
        json_object_put(object, "pool", pool_to_json(netdev->pool));
    }
    if (frontend) {
        vhu_unixctl_frontend_to_json(object, netdev, frontend);
    } else {
        backend_to_json(netdev, object);
    }
    return object;
}

/* The commands. */

static int
compare_names(const void *a_, const void *b_)
{
    const struct netdev_vhostuser *const *a = a_;
    const struct netdev_vhostuser *const *b = b_;

    return strcmp(netdev_get_name(&(*a)->up), netdev_get_name(&(*b)->up));
}

/* Calls 'show' for the port named 'name', or for all by the alphabet if that
 * is null.  Returns how many there were. */
static size_t
for_each_port(const char *name,
              void (*show)(struct netdev_vhostuser *, void *aux), void *aux)
{
    struct netdev_vhostuser **ports, *netdev;
    size_t n = 0;

    ovs_mutex_lock(&netdev_vhostuser_list_mutex);
    ports = xmalloc((ovs_list_size(&netdev_vhostuser_list) + 1)
                    * sizeof *ports);
    LIST_FOR_EACH (netdev, list_node, &netdev_vhostuser_list) {
        if (!name || !strcmp(name, netdev_get_name(&netdev->up))) {
            ports[n++] = netdev;
        }
    }
    qsort(ports, n, sizeof *ports, compare_names);
    for (size_t i = 0; i < n; i++) {
        ovs_mutex_lock(&ports[i]->mutex);
        show(ports[i], aux);
        ovs_mutex_unlock(&ports[i]->mutex);
    }
    ovs_mutex_unlock(&netdev_vhostuser_list_mutex);
    free(ports);
    return n;
}

static void
show_text_cb(struct netdev_vhostuser *netdev, void *s)
    OVS_REQUIRES(netdev->mutex)
{
    show_text(netdev, s);
}

static void
show_json_cb(struct netdev_vhostuser *netdev, void *array)
    OVS_REQUIRES(netdev->mutex)
{
    json_array_add(array, show_json(netdev));
}

static void
disconnect_cb(struct netdev_vhostuser *netdev, void *aux OVS_UNUSED)
    OVS_REQUIRES(netdev->mutex)
{
    netdev_vhostuser_disconnect(netdev, "vhostuser/disconnect");
}

static void
reply_no_port(struct unixctl_conn *conn, const char *name)
{
    char *error = xasprintf("%s: no such vhostuser port", name);

    unixctl_command_reply_error(conn, error);
    free(error);
}

static void
unixctl_show(struct unixctl_conn *conn, int argc, const char *argv[],
             void *aux OVS_UNUSED)
{
    bool as_json = argc > 1 && !strcmp(argv[1], "--json");
    const char *name = argc > 1 + as_json ? argv[1 + as_json] : NULL;
    struct ds s = DS_EMPTY_INITIALIZER;
    size_t n;

    if (as_json) {
        struct json *array = json_array_create_empty();

        n = for_each_port(name, show_json_cb, array);
        json_to_ds(array, JSSF_PRETTY | JSSF_SORT, &s);
        ds_put_char(&s, '\n');
        json_destroy(array);
    } else {
        n = for_each_port(name, show_text_cb, &s);
    }

    if (name && !n) {
        reply_no_port(conn, name);
    } else {
        unixctl_command_reply(conn, ds_cstr(&s));
    }
    ds_destroy(&s);
}

static void
unixctl_disconnect(struct unixctl_conn *conn, int argc OVS_UNUSED,
                   const char *argv[], void *aux OVS_UNUSED)
{
    if (for_each_port(argv[1], disconnect_cb, NULL)) {
        vhu_ctl_kick();
        unixctl_command_reply(conn, NULL);
    } else {
        reply_no_port(conn, argv[1]);
    }
}

struct trace_request {
    unsigned long long int since;
    struct json *trace;
};

static void
trace_cb(struct netdev_vhostuser *netdev, void *request_)
    OVS_REQUIRES(netdev->mutex)
{
    struct trace_request *request = request_;
    struct vhu_frontend *frontend = netdev_vhostuser_frontend(netdev);

    request->trace = vhu_trace_to_json(
        frontend ? vhu_frontend_get_trace(frontend)
                 : vhu_backend_get_trace(netdev->backend), request->since);
}

static void
unixctl_trace(struct unixctl_conn *conn, int argc, const char *argv[],
              void *aux OVS_UNUSED)
{
    struct trace_request request = { .since = 0 };

    if (argc > 2 && !str_to_ullong(argv[2], 10, &request.since)) {
        unixctl_command_reply_error(conn, "bad sequence number");
    } else if (for_each_port(argv[1], trace_cb, &request)) {
        char *text = json_to_string(request.trace, JSSF_SORT);

        unixctl_command_reply(conn, text);
        free(text);
        json_destroy(request.trace);
    } else {
        reply_no_port(conn, argv[1]);
    }
}

struct announce_request {
    struct eth_addr mac;
    char *error;
};

static void
announce_cb(struct netdev_vhostuser *netdev, void *request_)
    OVS_REQUIRES(netdev->mutex)
{
    struct announce_request *request = request_;

    request->error = netdev_vhostuser_announce(netdev, request->mac);
}

static void
unixctl_announce(struct unixctl_conn *conn, int argc, const char *argv[],
                 void *aux OVS_UNUSED)
{
    struct announce_request request = { .error = NULL };

    if (argc > 2 && (!eth_addr_from_string(argv[2], &request.mac)
                     || eth_addr_is_zero(request.mac))) {
        unixctl_command_reply_error(conn, "bad MAC address");
    } else if (!for_each_port(argv[1], announce_cb, &request)) {
        reply_no_port(conn, argv[1]);
    } else if (request.error) {
        char *error = xasprintf("%s: %s", argv[1], request.error);

        unixctl_command_reply_error(conn, error);
        free(error);
        free(request.error);
    } else {
        vhu_ctl_kick();
        unixctl_command_reply(conn, NULL);
    }
}

void
vhu_unixctl_init(void)
{
    unixctl_command_register("vhostuser/announce", "PORT [MAC]", 1, 2,
                             unixctl_announce, NULL);
    unixctl_command_register("vhostuser/show", "[--json] [PORT]", 0, 2,
                             unixctl_show, NULL);
    unixctl_command_register("vhostuser/disconnect", "PORT", 1, 1,
                             unixctl_disconnect, NULL);
    unixctl_command_register("vhostuser/trace", "PORT [SINCE]", 1, 2,
                             unixctl_trace, NULL);
}
