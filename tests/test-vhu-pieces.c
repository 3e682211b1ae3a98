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

#include "vhu-packet.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_mbuf.h>

#include "dp-packet.h"
#include "packets.h"
#include "random.h"
#include "test-eal.h"
#include "util.h"
#include "vhu-pool.h"
#include "vhutest.h"

/* Packets in several pieces, as DPDK's drivers receive them when a packet is
 * longer than an mbuf. */

enum { MAX_PIECES = 8, MAX_SIZE = MAX_PIECES * 2048 };

/* Returns a packet made of 'n' pieces with the lengths 'lens', whose content
 * is that of 'data'.  All but the last end where their mbuf does. */
static struct dp_packet *
make_packet(struct vhu_pool *pool, const size_t lens[], size_t n,
            const uint8_t *data)
{
    struct dp_packet *pieces[MAX_PIECES];

    assert(n <= MAX_PIECES && vhu_pool_take(pool, pieces, n));
    for (size_t i = 0; i < n; i++) {
        struct rte_mbuf *mbuf = &pieces[i]->mbuf;

        mbuf->data_len = mbuf->pkt_len = lens[i];
        if (i < n - 1) {
            mbuf->data_off = mbuf->buf_len - lens[i];
        }
        memcpy(rte_pktmbuf_mtod(mbuf, void *), data, lens[i]);
        data += lens[i];
        if (i) {
            assert(!rte_pktmbuf_chain(&pieces[0]->mbuf, mbuf));
        }
    }
    return pieces[0];
}

/* Copies what is behind the header in 'chains' to 'data'. */
static void
read_chains(const struct virtq_chain chains[], const struct vhu_fill *fill,
            size_t hdr_len, uint8_t *data)
{
    for (size_t c = 0; c < fill->n_chains; c++) {
        size_t left = fill->used_len[c];

        for (size_t i = 0; left; i++) {
            size_t len = MIN(chains[c].segs[i].len, left);
            size_t skip = MIN(hdr_len, len);

            memcpy(data, chains[c].segs[i].va + skip, len - skip);
            data += len - skip;
            hdr_len -= skip;
            left -= len;
        }
    }
}

/* Any pieces into any chains.  Returns true if these were enough. */
static bool
check_random(struct vhu_pool *pool, bool mergeable)
{
    static uint8_t data[MAX_SIZE], copy[MAX_SIZE], memory[64][4096];
    struct vhu_net_hdr hdr = { .len = 12, .mergeable = mergeable };
    size_t n = random_range(MAX_PIECES) + 1;
    struct virtq_seg segs[64][4];
    struct virtq_chain chains[64];
    size_t lens[MAX_PIECES];
    struct dp_packet *packet;
    struct vhu_fill fill;
    size_t size = 0;

    for (size_t i = 0; i < n; i++) {
        lens[i] = random_range(3) ? random_range(2048) : random_range(20);
        lens[0] = MAX(lens[0], 14);
        size += lens[i];
    }
    random_bytes(data, size);
    packet = make_packet(pool, lens, n, data);

    for (size_t c = 0; c < ARRAY_SIZE(chains); c++) {
        size_t ofs = 0;

        memset(&chains[c], 0, sizeof chains[c]);
        chains[c].segs = segs[c];
        for (size_t i = random_range(4); i < 4; i++) {
            struct virtq_seg *seg = &segs[c][chains[c].n_segs++];

            seg->va = memory[c] + ofs;
            seg->len = (random_range(3) ? random_range(1024)
                        : random_range(20)) + 1;
            ofs += seg->len;
        }
        chains[c].size = ofs;
    }

    vhu_packets_to_chains(&packet, 1, chains, ARRAY_SIZE(chains), &hdr, &fill);
    if (fill.n_packets && !fill.unfit) {
        read_chains(chains, &fill, hdr.len, copy);
        assert(!memcmp(copy, data, size));
    }
    dp_packet_delete(packet);
    return fill.n_packets && !fill.unfit;
}

static void
test_random(struct vhu_pool *pool)
{
    size_t n_sent = 0;

    random_set_seed(1);
    for (size_t i = 0; i < 5000; i++) {
        n_sent += check_random(pool, i % 4);
    }
    assert(n_sent > 2000);
}

/* Checks that 'packet', if 'ok', can be sent and is 'n' bytes at 'data', or
 * else that it cannot.  Frees it. */
static void
check_mend(struct dp_packet *packet, bool ok, const uint8_t *data, size_t n)
{
    struct vhu_net_hdr hdr = { .len = 12 };
    static uint8_t memory[12 + 65536];
    struct virtq_seg seg = { .va = memory, .len = sizeof memory };
    struct virtq_chain chain = {
        .segs = &seg, .n_segs = 1, .size = sizeof memory
    };
    struct vhu_fill fill;

    vhu_packets_to_chains(&packet, 1, &chain, 1, &hdr, &fill);
    assert(fill.n_packets == 1 && fill.unfit == !ok);
    assert(fill.n_chains == ok);
    if (ok) {
        assert(fill.used_len[0] == 12 + n);
        assert(!memcmp(memory + 12, data, n));
    }
    dp_packet_delete(packet);
}

/* What OVS makes of a packet in pieces when it changes its headers. */
static void
test_mend(struct vhu_pool *pool)
{
    static const size_t lens[] = { 2000, 2048, 100 };
    static uint8_t data[4 + 4148];
    struct dp_packet *packet;

    random_bytes(data, sizeof data);
    packet = make_packet(pool, lens, 3, data + 4);
    check_mend(packet, true, data + 4, 4148);

    packet = make_packet(pool, lens, 3, data + 4);
    dp_packet_push(packet, data, 4);
    check_mend(packet, true, data, 4152);

    packet = make_packet(pool, lens, 3, data + 4);
    dp_packet_pull(packet, 14);
    check_mend(packet, true, data + 18, 4134);

    packet = make_packet(pool, lens, 3, data + 4);
    dp_packet_pull(packet, 50);
    dp_packet_push(packet, data, 4);
    memcpy(data + 50, data, 4);
    check_mend(packet, true, data + 50, 4102);

    /* Cut short: what was in the first piece is not known any more.  Never is
     * anything outside the pieces read. */
    for (size_t size = 14; size < 4148; size += 7) {
        packet = make_packet(pool, lens, 3, data + 4);
        dp_packet_set_size(packet, size);
        check_mend(packet, false, NULL, 0);
    }

    /* A first piece that does not end with its mbuf. */
    packet = make_packet(pool, lens, 3, data + 4);
    packet->mbuf.data_off -= 8;
    dp_packet_push(packet, data, 4);
    check_mend(packet, false, NULL, 0);
}

/* A packet in pieces among others that are not. */
static void
test_batch(struct vhu_pool *pool)
{
    struct vhu_net_hdr hdr = { .len = 12, .mergeable = true };
    static uint8_t data[4000], copy[4000], memory[8][1000];
    struct dp_packet *packets[3];
    struct virtq_chain chains[8];
    struct dp_packet_batch batch;
    struct virtq_seg segs[8];
    struct vhu_fill fill;

    random_bytes(data, sizeof data);
    for (size_t i = 0; i < 8; i++) {
        segs[i] = (struct virtq_seg) { .va = memory[i], .len = 1000 };
        chains[i] = (struct virtq_chain) {
            .segs = &segs[i], .n_segs = 1, .size = 1000
        };
    }
    packets[0] = make_packet(pool, (size_t[]) { 60 }, 1, data);
    packets[1] = make_packet(pool, (size_t[]) { 2048, 952 }, 2, data + 60);
    packets[2] = vhu_packet_new(100);
    memcpy(dp_packet_data(packets[2]), data + 3060, 100);

    vhu_packets_to_chains(packets, 3, chains, 8, &hdr, &fill);
    assert(fill.n_packets == 3 && !fill.unfit && fill.n_chains == 6);
    assert(fill.used_len[0] == 72 && fill.used_len[5] == 112);
    assert(memory[1][10] == 4);
    memcpy(copy, memory[1] + 12, 988);
    memcpy(copy + 988, memory[2], 1000);
    memcpy(copy + 1988, memory[3], 1000);
    memcpy(copy + 2988, memory[4], 12);
    assert(!memcmp(memory[0] + 12, data, 60));
    assert(!memcmp(copy, data + 60, 3000));
    assert(!memcmp(memory[5] + 12, data + 3060, 100));

    dp_packet_batch_init(&batch);
    for (size_t i = 0; i < 3; i++) {
        dp_packet_batch_add(&batch, packets[i]);
    }
    vhu_packets_recycle(&batch);
}

static void
test_vhu_pieces_main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*run)(struct vhu_pool *);
    } tests[] = {
        { "random", test_random },
        { "mend", test_mend },
        { "batch", test_batch },
    };

    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc == 2 && !strcmp(argv[1], tests[i].name)) {
            struct vhu_pool *pool;

            test_eal_start("256");
            pool = vhu_pool_get("vm0", 1500, 0);
            tests[i].run(pool);
            test_eal_check_pools(1, 0);
            vhu_pool_put(pool);
            return;
        }
    }
    ovs_fatal(0, "usage: vhutest pieces TEST");
}

VHUTEST_REGISTER("pieces", test_vhu_pieces_main);
