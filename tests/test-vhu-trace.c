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

#undef NDEBUG

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openvswitch/json.h"
#include "ovs-compat.h"
#include "random.h"
#include "timeval.h"
#include "util.h"
#include "vhu-msg.h"
#include "vhutest.h"
#include "virtio-spec.h"

/* Prints what 'trace' has from 'since' on, but for the time. */
static void
print_trace(const struct vhu_trace *trace, uint64_t since)
{
    struct json *object = vhu_trace_to_json(trace, since);
    const struct json *records = shash_find_data(json_object(object),
                                                 "records");

    for (size_t i = 0; i < json_array_size(records); i++) {
        const struct json *record = json_array_at(records, i);
        struct json *usec = shash_find_and_delete(json_object(record),
                                                  "usec");
        char *text;

        assert(llabs(json_integer(usec) - time_wall_usec()) < 60000000);
        json_destroy(usec);
        text = json_to_string(record, JSSF_SORT);
        puts(text);
        free(text);
    }
    json_destroy(object);
}

static uint64_t
get_next(const struct vhu_trace *trace)
{
    struct json *object = vhu_trace_to_json(trace, UINT64_MAX);
    uint64_t next = json_integer(shash_find_data(json_object(object),
                                                 "next"));

    assert(!json_array_size(shash_find_data(json_object(object), "records")));
    json_destroy(object);
    return next;
}

/* Each payload that has a description, one message each. */
static void
test_payloads(void)
{
    static const struct {
        uint32_t request;
        bool reply;
        uint32_t size;
        union vhu_payload payload;
    } rows[] = {
        { VHOST_USER_GET_FEATURES, false, 0, { .u64 = 0 } },
        { VHOST_USER_GET_FEATURES, true, 8, { .u64 = 0x140008000 } },
        { VHOST_USER_SET_FEATURES, false, 8, { .u64 = 0x1000000000000 } },
        { VHOST_USER_GET_PROTOCOL_FEATURES, true, 8, { .u64 = 0x9 } },
        { VHOST_USER_SET_MEM_TABLE, false, 72, {
            .mem_table = { .n_regions = 2, .regions[0] = {
                .guest_addr = 0x100000000, .size = 0x4000,
                .user_addr = UINT64_MAX, .mmap_offset = 0x1000 } } } },
        { VHOST_USER_SET_MEM_TABLE, true, 8, { .u64 = 0 } },
        { VHOST_USER_SET_MEM_TABLE, true, 8, { .u64 = 1 } },
        { VHOST_USER_SET_VRING_NUM, false, 8, {
            .vring_state = { .index = 3, .num = 256 } } },
        { VHOST_USER_SET_VRING_NUM, false, 7, {
            .vring_state = { .index = 3, .num = 256 } } },
        { VHOST_USER_SET_VRING_ADDR, false, 40, {
            .vring_addr = { .index = 1, .flags = 1, .desc = 0x1000,
                            .used = 0x3000, .avail = 0x2000,
                            .log = 0x4000 } } },
        { VHOST_USER_SET_VRING_BASE, false, 8, {
            .vring_state = { .index = 2, .num = 65535 } } },
        { VHOST_USER_GET_VRING_BASE, false, 8, {
            .vring_state = { .index = 2 } } },
        { VHOST_USER_GET_VRING_BASE, true, 8, {
            .vring_state = { .index = 2, .num = 0x80028001 } } },
        { VHOST_USER_SET_VRING_KICK, false, 8, { .u64 = 0x1ff } },
        { VHOST_USER_SET_VRING_CALL, false, 8, { .u64 = 0x10007 } },
        { VHOST_USER_SET_VRING_ENABLE, false, 8, {
            .vring_state = { .index = 5, .num = 1 } } },
        { VHOST_USER_GET_QUEUE_NUM, true, 8, { .u64 = 128 } },
        { VHOST_USER_SEND_RARP, false, 8, {
            .bytes = { 2, 0, 0, 0, 0xab, 1 } } },
        { VHOST_USER_NET_SET_MTU, false, 8, { .u64 = 9000 } },
        { VHOST_USER_SET_STATUS, false, 8, { .u64 = 0xf } },
        { VHOST_USER_GET_STATUS, true, 8, { .u64 = 0 } },
        { VHOST_USER_GET_MAX_MEM_SLOTS, true, 8, { .u64 = 8 } },
        { VHOST_USER_REM_MEM_REG, false, 40, {
            .mem_region = { .region = { .size = 4096 } } } },
        { VHOST_USER_IOTLB_MSG, false, 3, { .bytes = { 1, 2, 3 } } },
        { 4711, false, 4000, { .bytes = { 0xff } } },
    };
    struct vhu_trace *trace = vhu_trace_create();

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct vhu_msg msg;

        vhu_msg_init(&msg, rows[i].request);
        if (rows[i].reply) {
            msg.hdr.flags |= VHOST_USER_FLAG_REPLY;
        }
        msg.hdr.size = rows[i].size;
        msg.payload = rows[i].payload;
        vhu_trace_msg(trace, rows[i].reply ? VHU_TRACE_OUT : VHU_TRACE_IN,
                      &msg, 0, NULL);
    }
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct json *object = vhu_trace_to_json(trace, i);
        const struct json *records = shash_find_data(json_object(object),
                                                     "records");
        const struct json *first = json_array_at(records, 0);
        const struct shash *record = json_object(first);
        const struct json *text = shash_find_data(record, "text");

        printf("%s: %s\n", json_string(shash_find_data(record, "name")),
               text ? json_string(text) : "-");
        json_destroy(object);
    }
    vhu_trace_destroy(trace);
}

/* Whatever a peer sends can be described: for the sanitizers. */
static void
test_random(void)
{
    struct vhu_trace *trace = vhu_trace_create();
    size_t n_texts = 0;

    random_set_seed(1);
    for (int i = 0; i < 20000; i++) {
        struct vhu_msg msg;

        vhu_msg_init(&msg, random_range(50));
        msg.hdr.flags = random_uint32();
        msg.hdr.size = (random_range(2) ? random_range(60)
                        : random_uint32());
        random_bytes(&msg.payload, sizeof msg.payload);
        msg.n_fds = random_range(VHOST_USER_MAX_FDS + 1);
        if (random_range(4)) {
            vhu_trace_msg(trace, random_range(2), &msg, random_range(3),
                          NULL);
        } else {
            vhu_trace_channel_msg(trace, random_range(2), &msg, 0, NULL);
        }
        if (i % 100 == 0) {
            struct json *object = vhu_trace_to_json(trace, 0);
            char *text = json_to_string(object, 0);

            n_texts += strlen(text) > 100;
            free(text);
            json_destroy(object);
        }
    }
    assert(n_texts == 200);
    puts("ok");
    vhu_trace_destroy(trace);
}

/* The rest of a record. */
static void
test_records(void)
{
    struct vhu_trace *trace = vhu_trace_create();
    struct vhu_msg msg;
    char *text = xmalloc(1000);

    memset(text, 'x', 999);
    text[999] = '\0';
    vhu_trace_connection(trace, true, NULL);
    vhu_msg_init(&msg, VHOST_USER_SET_VRING_ENABLE);
    msg.hdr.flags |= VHOST_USER_FLAG_NEED_REPLY;
    msg.hdr.size = 8;
    msg.payload.vring_state = (struct vhost_user_vring_state) { 1, 1 };
    vhu_trace_msg(trace, VHU_TRACE_IN, &msg, 0, "is not shown");
    vhu_trace_msg(trace, VHU_TRACE_IN, &msg, EINVAL, "no such vring");
    vhu_trace_msg(trace, VHU_TRACE_IN, &msg, ENOMEM, NULL);
    vhu_msg_init(&msg, 2);
    msg.n_fds = 3;
    vhu_trace_channel_msg(trace, VHU_TRACE_OUT, &msg, 0, NULL);
    vhu_trace_connection(trace, false, text);
    print_trace(trace, 0);
    vhu_trace_destroy(trace);
    vhu_trace_destroy(NULL);
    free(text);
}

/* Which records there are, and whether one takes the place of the oldest. */
static void
test_ring(void)
{
    struct vhu_trace *trace = vhu_trace_create();

    print_trace(trace, 0);
    for (uint64_t i = 0; i < 3 * VHU_TRACE_SIZE + 5; i++) {
        struct json *object;
        const struct json *records, *first;
        uint64_t oldest;

        assert(get_next(trace) == i);
        vhu_trace_connection(trace, true, i % 3 ? "text" : NULL);
        assert(get_next(trace) == i + 1);

        object = vhu_trace_to_json(trace, 0);
        records = shash_find_data(json_object(object), "records");
        oldest = i < VHU_TRACE_SIZE ? 0 : i + 1 - VHU_TRACE_SIZE;
        assert(json_array_size(records) == i + 1 - oldest);
        first = json_array_at(records, 0);
        assert(json_integer(shash_find_data(json_object(first), "seqno"))
               == oldest);
        assert(!shash_find_data(json_object(first), "text") == !(oldest % 3));
        json_destroy(object);
    }
    print_trace(trace, 3 * VHU_TRACE_SIZE + 3);
    vhu_trace_destroy(trace);
}

static void
test_vhu_trace_main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*function)(void);
    } tests[] = {
        { "payloads", test_payloads },
        { "random", test_random },
        { "records", test_records },
        { "ring", test_ring },
    };

    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc > 1 && !strcmp(argv[1], tests[i].name)) {
            tests[i].function();
            return;
        }
    }
    ovs_fatal(0, "usage: vhutest trace payloads|random|records|ring");
}

VHUTEST_REGISTER("trace", test_vhu_trace_main);
