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

#include "vhu-trace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "openvswitch/dynamic-string.h"
#include "openvswitch/json.h"
#include "timeval.h"
#include "util.h"
#include "vhu-msg.h"
#include "vhu-names.h"
#include "virtio-spec.h"

/* The beginning of a payload: all of it, but for tables of more than one
 * memory region and of the configuration space. */
union payload {
    uint64_t u64;
    uint64_t u64s[5];
    struct vhost_user_vring_state vring_state;
    struct vhost_user_vring_addr vring_addr;
    struct vhost_user_single_mem_region mem_region;
    struct {
        uint32_t n_regions;
        uint32_t padding;
        struct vhost_user_mem_region first;
    } mem_table;
    struct {
        uint32_t offset;
        uint32_t size;
        uint32_t flags;
    } config;
    struct {
        uint64_t mmap_size;
        uint64_t mmap_offset;
        uint16_t n_queues;
        uint16_t queue_size;
    } inflight;
    uint8_t bytes[40];
};
BUILD_ASSERT_DECL(sizeof(union payload) == 40);

enum kind {
    KIND_MSG,
    KIND_CONNECTED,
    KIND_DISCONNECTED,
};

struct record {
    long long int when;         /* Wall-clock time in microseconds. */
    struct vhost_user_hdr hdr;  /* KIND_MSG only, like 'payload'. */
    uint8_t kind;               /* enum kind. */
    uint8_t dir;                /* enum vhu_trace_dir. */
    bool channel;               /* On the back-end channel. */
    uint8_t n_fds;
    int error;
    union payload payload;
    char *text;                 /* Why refused or disconnected, or null. */
};

/* Record number N is records[N % VHU_TRACE_SIZE]. */
struct vhu_trace {
    struct record *records;
    size_t n_allocated;         /* At most VHU_TRACE_SIZE. */
    uint64_t next;              /* Number of the next record. */
    uint64_t id;
};

/* How a record is described: the same in words and as an object. */
struct description {
    struct ds text;
    struct json *values;
};

/* Describes the payload of a message, which has all its bytes. */
typedef void describe_func(struct description *, const union payload *);

static struct record *vhu_trace_add(struct vhu_trace *, enum kind,
                                    const char *text);
static struct json *record_to_json(const struct record *, uint64_t seqno);

struct vhu_trace *
vhu_trace_create(void)
{
    struct vhu_trace *trace = xzalloc(sizeof *trace);

    trace->id = time_wall_usec();
    return trace;
}

void
vhu_trace_destroy(struct vhu_trace *trace)
{
    if (trace) {
        for (size_t i = 0; i < MIN(trace->next, trace->n_allocated); i++) {
            free(trace->records[i].text);
        }
        free(trace->records);
        free(trace);
    }
}

void
vhu_trace_msg(struct vhu_trace *trace, enum vhu_trace_dir dir,
              const struct vhu_msg *msg, int error, const char *why)
{
    struct record *r = vhu_trace_add(trace, KIND_MSG, error ? why : NULL);

    r->dir = dir;
    r->hdr = msg->hdr;
    r->n_fds = msg->n_fds;
    r->error = error;
    memcpy(&r->payload, &msg->payload, sizeof r->payload);
}

void
vhu_trace_channel_msg(struct vhu_trace *trace, enum vhu_trace_dir dir,
                      const struct vhu_msg *msg, int error, const char *why)
{
    vhu_trace_msg(trace, dir, msg, error, why);
    trace->records[(trace->next - 1) % VHU_TRACE_SIZE].channel = true;
}

void
vhu_trace_connection(struct vhu_trace *trace, bool connected,
                     const char *text)
{
    vhu_trace_add(trace, connected ? KIND_CONNECTED : KIND_DISCONNECTED,
                  text);
}

struct json *
vhu_trace_to_json(const struct vhu_trace *trace, uint64_t since)
{
    uint64_t oldest = (trace->next > VHU_TRACE_SIZE
                       ? trace->next - VHU_TRACE_SIZE : 0);
    struct json *object = json_object_create();
    struct json *records = json_array_create_empty();

    for (uint64_t i = MAX(oldest, since); i < trace->next; i++) {
        json_array_add(records, record_to_json(
                           &trace->records[i % VHU_TRACE_SIZE], i));
    }
    json_object_put(object, "id", json_integer_create(trace->id));
    json_object_put(object, "next", json_integer_create(trace->next));
    json_object_put(object, "records", records);
    return object;
}

/* Returns a new record in the place of the oldest one, with everything zero
 * but the time, 'kind' and a copy of 'text'. */
static struct record *
vhu_trace_add(struct vhu_trace *trace, enum kind kind, const char *text)
{
    struct record *r;

    if (trace->next == trace->n_allocated
        && trace->n_allocated < VHU_TRACE_SIZE) {
        trace->n_allocated = MAX(16, 2 * trace->n_allocated);
        trace->records = xrealloc(trace->records, (trace->n_allocated
                                                   * sizeof *trace->records));
    }
    r = &trace->records[trace->next % VHU_TRACE_SIZE];
    if (trace->next >= VHU_TRACE_SIZE) {
        free(r->text);
    }
    trace->next++;

    memset(r, 0, sizeof *r);
    r->when = time_wall_usec();
    r->kind = kind;
    r->text = text ? xmemdup0(text, strnlen(text, VHU_TRACE_MAX_TEXT)) : NULL;
    return r;
}

/* Values. */

static void
put_name(struct description *d, const char *name)
{
    char last = d->text.length ? ds_last(&d->text) : '\0';

    ds_put_format(&d->text, "%s%s ", (last == ':' ? " " : last ? ", " : ""),
                  name);
}

static void
put_number(struct description *d, const char *name, uint64_t value)
{
    put_name(d, name);
    ds_put_format(&d->text, "%"PRIu64, value);
    json_object_put(d->values, name, json_integer_create(value));
}

/* Addresses and the like, which JSON's numbers are too small for. */
static void
put_hex(struct description *d, const char *name, uint64_t value)
{
    put_name(d, name);
    ds_put_format(&d->text, "0x%"PRIx64, value);
    json_object_put_format(d->values, name, "0x%"PRIx64, value);
}

static void
put_string(struct description *d, const char *name, const char *value)
{
    put_name(d, name);
    ds_put_cstr(&d->text, value);
    json_object_put_string(d->values, name, value);
}

static void
put_bits(struct description *d, const union payload *p,
         vhu_bit_name_func *name)
{
    ds_put_format(&d->text, "0x%"PRIx64" ", p->u64);
    vhu_bits_format(&d->text, p->u64, name);
    json_object_put_format(d->values, "bits", "0x%"PRIx64, p->u64);
    json_object_put(d->values, "names", vhu_bits_to_json(p->u64, name));
}

/* Payloads. */

static void
describe_features(struct description *d, const union payload *p)
{
    put_bits(d, p, vhu_feature_name);
}

static void
describe_protocol_features(struct description *d, const union payload *p)
{
    put_bits(d, p, vhu_protocol_feature_name);
}

static void
describe_vring(struct description *d, const union payload *p)
{
    put_number(d, "vring", p->vring_state.index);
}

static void
describe_vring_num(struct description *d, const union payload *p)
{
    describe_vring(d, p);
    put_number(d, "num", p->vring_state.num);
}

/* Of a packed virtqueue this is two positions of 15 bits with a wrap counter
 * each. */
static void
describe_vring_base(struct description *d, const union payload *p)
{
    describe_vring(d, p);
    if (p->vring_state.num > UINT16_MAX) {
        put_hex(d, "base", p->vring_state.num);
    } else {
        put_number(d, "base", p->vring_state.num);
    }
}

static void
describe_vring_enable(struct description *d, const union payload *p)
{
    describe_vring(d, p);
    put_number(d, "enable", p->vring_state.num);
}

static void
describe_vring_addr(struct description *d, const union payload *p)
{
    const struct vhost_user_vring_addr *addr = &p->vring_addr;

    put_number(d, "vring", addr->index);
    put_hex(d, "flags", addr->flags);
    put_hex(d, "desc", addr->desc);
    put_hex(d, "driver", addr->avail);
    put_hex(d, "device", addr->used);
    put_hex(d, "log", addr->log);
}

static void
describe_vring_fd(struct description *d, const union payload *p)
{
    put_number(d, "vring", p->u64 & VHOST_USER_VRING_INDEX_MASK);
    if (p->u64 & VHOST_USER_VRING_NOFD) {
        put_string(d, "fd", "none");
    }
    if (p->u64 & ~(uint64_t) (VHOST_USER_VRING_INDEX_MASK
                              | VHOST_USER_VRING_NOFD)) {
        put_hex(d, "u64", p->u64);
    }
}

static void
put_region(struct description *d, const struct vhost_user_mem_region *r)
{
    put_hex(d, "guest_addr", r->guest_addr);
    put_hex(d, "size", r->size);
    put_hex(d, "user_addr", r->user_addr);
    put_hex(d, "mmap_offset", r->mmap_offset);
}

static void
describe_mem_table(struct description *d, const union payload *p)
{
    put_number(d, "regions", p->mem_table.n_regions);
    if (p->mem_table.n_regions > 1) {
        ds_put_cstr(&d->text, ", first:");
    }
    if (p->mem_table.n_regions) {
        put_region(d, &p->mem_table.first);
    }
}

static void
describe_mem_region(struct description *d, const union payload *p)
{
    put_region(d, &p->mem_region.region);
}

static void
describe_pairs(struct description *d, const union payload *p)
{
    put_number(d, "queue_pairs", p->u64);
}

static void
describe_slots(struct description *d, const union payload *p)
{
    put_number(d, "slots", p->u64);
}

static void
describe_mtu(struct description *d, const union payload *p)
{
    put_number(d, "mtu", p->u64);
}

static void
describe_rarp(struct description *d, const union payload *p)
{
    char mac[24];

    snprintf(mac, sizeof mac, "%02x:%02x:%02x:%02x:%02x:%02x", p->bytes[0],
             p->bytes[1], p->bytes[2], p->bytes[3], p->bytes[4], p->bytes[5]);
    put_string(d, "mac", mac);
}

static void
describe_status(struct description *d, const union payload *p)
{
    static const struct {
        uint64_t bit;
        const char *name;
    } names[] = {
        { VIRTIO_STATUS_ACKNOWLEDGE, "ACKNOWLEDGE" },
        { VIRTIO_STATUS_DRIVER, "DRIVER" },
        { VIRTIO_STATUS_DRIVER_OK, "DRIVER_OK" },
        { VIRTIO_STATUS_FEATURES_OK, "FEATURES_OK" },
        { VIRTIO_STATUS_NEEDS_RESET, "NEEDS_RESET" },
        { VIRTIO_STATUS_FAILED, "FAILED" },
    };

    put_hex(d, "status", p->u64);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (p->u64 & names[i].bit) {
            ds_put_format(&d->text, " %s", names[i].name);
        }
    }
}

static void
describe_log(struct description *d, const union payload *p)
{
    put_hex(d, "size", p->u64s[0]);
    put_hex(d, "offset", p->u64s[1]);
}

static void
describe_config(struct description *d, const union payload *p)
{
    put_number(d, "offset", p->config.offset);
    put_number(d, "size", p->config.size);
    put_hex(d, "flags", p->config.flags);
}

static void
describe_inflight(struct description *d, const union payload *p)
{
    put_number(d, "mmap_size", p->inflight.mmap_size);
    put_number(d, "mmap_offset", p->inflight.mmap_offset);
    put_number(d, "queues", p->inflight.n_queues);
    put_number(d, "queue_size", p->inflight.queue_size);
}

static void
describe_u64(struct description *d, const union payload *p)
{
    put_hex(d, "u64", p->u64);
}

/* What else we have no name for. */
static void
describe_bytes(struct description *d, const union payload *p, size_t size)
{
    struct ds bytes = DS_EMPTY_INITIALIZER;

    for (size_t i = 0; i < MIN(size, sizeof p->bytes); i++) {
        ds_put_format(&bytes, "%02x", p->bytes[i]);
    }
    put_string(d, "payload", ds_cstr(&bytes));
    ds_destroy(&bytes);
}

/* An acknowledgement says only whether the request was accepted. */
static void
describe_ack(struct description *d, const union payload *p)
{
    put_string(d, "ack", p->u64 ? "refused" : "ok");
}

/* What a request and its reply bring.  A request that is not here, or whose
 * payload is too small, is shown as bytes; a reply that is not here is an
 * acknowledgement. */
static const struct layout {
    describe_func *request, *reply;
    size_t size;                /* Of the smallest payload, either way. */
} layouts[VHOST_USER_FE_REQ_MAX] = {
#define U64 sizeof(uint64_t)
#define STATE sizeof(struct vhost_user_vring_state)
#define REGION sizeof(struct vhost_user_single_mem_region)
    [VHOST_USER_GET_FEATURES] = { NULL, describe_features, U64 },
    [VHOST_USER_SET_FEATURES] = { describe_features, NULL, U64 },
    [VHOST_USER_SET_MEM_TABLE] = { describe_mem_table, NULL, U64 },
    [VHOST_USER_SET_LOG_BASE] = { describe_log, NULL, 2 * U64 },
    [VHOST_USER_SET_VRING_NUM] = { describe_vring_num, NULL, STATE },
    [VHOST_USER_SET_VRING_ADDR] = {
        describe_vring_addr, NULL, sizeof(struct vhost_user_vring_addr)
    },
    [VHOST_USER_SET_VRING_BASE] = { describe_vring_base, NULL, STATE },
    [VHOST_USER_GET_VRING_BASE] = {
        describe_vring, describe_vring_base, STATE
    },
    [VHOST_USER_SET_VRING_KICK] = { describe_vring_fd, NULL, U64 },
    [VHOST_USER_SET_VRING_CALL] = { describe_vring_fd, NULL, U64 },
    [VHOST_USER_SET_VRING_ERR] = { describe_vring_fd, NULL, U64 },
    [VHOST_USER_GET_PROTOCOL_FEATURES] = {
        NULL, describe_protocol_features, U64
    },
    [VHOST_USER_SET_PROTOCOL_FEATURES] = {
        describe_protocol_features, NULL, U64
    },
    [VHOST_USER_GET_QUEUE_NUM] = { NULL, describe_pairs, U64 },
    [VHOST_USER_SET_VRING_ENABLE] = { describe_vring_enable, NULL, STATE },
    [VHOST_USER_SEND_RARP] = { describe_rarp, NULL, U64 },
    [VHOST_USER_NET_SET_MTU] = { describe_mtu, NULL, U64 },
    [VHOST_USER_GET_CONFIG] = { describe_config, describe_config, 12 },
    [VHOST_USER_SET_CONFIG] = { describe_config, NULL, 12 },
    [VHOST_USER_GET_INFLIGHT_FD] = {
        describe_inflight, describe_inflight, 20
    },
    [VHOST_USER_SET_INFLIGHT_FD] = { describe_inflight, NULL, 20 },
    [VHOST_USER_VRING_KICK] = { describe_vring, NULL, STATE },
    [VHOST_USER_GET_MAX_MEM_SLOTS] = { NULL, describe_slots, U64 },
    [VHOST_USER_ADD_MEM_REG] = { describe_mem_region, NULL, REGION },
    [VHOST_USER_REM_MEM_REG] = { describe_mem_region, NULL, REGION },
    [VHOST_USER_SET_STATUS] = { describe_status, NULL, U64 },
    [VHOST_USER_GET_STATUS] = { NULL, describe_status, U64 },
    [VHOST_USER_CHECK_DEVICE_STATE] = { NULL, describe_u64, U64 },
#undef U64
#undef STATE
#undef REGION
};

static void
describe_payload(struct description *d, const struct record *r)
{
    bool is_reply = r->hdr.flags & VHOST_USER_FLAG_REPLY;
    const struct layout *layout = NULL;
    describe_func *function = NULL;

    if (!r->channel && r->hdr.request < ARRAY_SIZE(layouts)) {
        layout = &layouts[r->hdr.request];
        function = is_reply ? layout->reply : layout->request;
        if (function && r->hdr.size < layout->size) {
            function = NULL;
        }
    }
    if (function) {
        function(d, &r->payload);
    } else if (is_reply && r->hdr.size == sizeof r->payload.u64) {
        describe_ack(d, &r->payload);
    } else if (r->hdr.size) {
        describe_bytes(d, &r->payload, r->hdr.size);
    }
}

/* Records. */

static void
msg_to_json(const struct record *r, struct json *object)
{
    struct description d = {
        .text = DS_EMPTY_INITIALIZER,
        .values = json_object_create(),
    };
    bool is_reply = r->hdr.flags & VHOST_USER_FLAG_REPLY;

    json_object_put_string(object, "type", is_reply ? "reply" : "request");
    json_object_put_string(object, "direction",
                           r->dir == VHU_TRACE_IN ? "in" : "out");
    if (r->channel) {
        json_object_put_string(object, "channel", "back-end");
        json_object_put_string(object, "name",
                               vhu_msg_be_name(r->hdr.request));
    } else {
        json_object_put_string(object, "name", vhu_msg_name(r->hdr.request));
    }
    json_object_put(object, "size", json_integer_create(r->hdr.size));
    json_object_put(object, "fds", json_integer_create(r->n_fds));
    json_object_put(object, "need_reply", json_boolean_create(
                        r->hdr.flags & VHOST_USER_FLAG_NEED_REPLY));
    json_object_put(object, "errno", json_integer_create(r->error));
    if (r->error) {
        json_object_put_string(object, "error",
                               r->text ? r->text : ovs_strerror(r->error));
    }

    describe_payload(&d, r);
    if (d.text.length) {
        json_object_put_string(object, "text", ds_cstr(&d.text));
    }
    json_object_put(object, "values", d.values);
    ds_destroy(&d.text);
}

static struct json *
record_to_json(const struct record *r, uint64_t seqno)
{
    struct json *object = json_object_create();

    json_object_put(object, "seqno", json_integer_create(seqno));
    json_object_put(object, "usec", json_integer_create(r->when));
    if (r->kind == KIND_MSG) {
        msg_to_json(r, object);
        return object;
    }
    json_object_put_string(object, "type", (r->kind == KIND_CONNECTED
                                            ? "connected" : "disconnected"));
    if (r->text) {
        json_object_put_string(object, "text", r->text);
    }
    return object;
}
