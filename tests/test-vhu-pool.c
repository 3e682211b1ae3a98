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

#include "vhu-pool.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include "dp-packet.h"
#include "ovs-compat.h"
#include "ovs-thread.h"
#include "packets.h"
#include "random.h"
#include "test-eal.h"
#include "util.h"
#include "vhu-packet.h"
#include "vhutest.h"

/* Pools of mbufs, without a switch, on EAL without hugepages and devices. */

enum { MTU = 1500, ROOM = 2048, HDR_LEN = VIRTIO_NET_HDR_LEN };

void
test_eal_start(const char *megabytes)
{
    const char *args[] = {
        "vhutest", "--no-huge", "--no-pci", "--no-telemetry", "--no-shconf",
        "-m", megabytes, "-l", "0", "--log-level=1",
    };
    char *argv[ARRAY_SIZE(args)];

    /* EAL changes the order. */
    for (size_t i = 0; i < ARRAY_SIZE(args); i++) {
        argv[i] = xstrdup(args[i]);
    }
    if (rte_eal_init(ARRAY_SIZE(args), argv) < 0) {
        ovs_fatal(0, "EAL does not start");
    }
}

/* Of all pools: how many there are, and how many mbufs are not in them. */
static int n_pools, n_in_use;

static void
count_pool(struct rte_mempool *mp, void *aux OVS_UNUSED)
{
    n_pools++;
    n_in_use += rte_mempool_in_use_count(mp);
}

void
test_eal_check_pools(int pools, int in_use)
{
    n_pools = n_in_use = 0;
    rte_mempool_walk(count_pool, NULL);
    if (n_pools != pools || n_in_use != in_use) {
        ovs_fatal(0, "%d pools with %d mbufs in use (expected %d, %d)",
                  n_pools, n_in_use, pools, in_use);
    }
}

/* What DPDK and OVS expect of an mbuf that is a packet. */
static void
test_layout(void)
{
    struct vhu_pool *pool = vhu_pool_get("vm0", MTU, 0);
    struct dp_packet *packets[32];

    assert(pool && vhu_pool_get_room(pool) == ROOM);
    assert(vhu_pool_take(pool, packets, ARRAY_SIZE(packets)));
    test_eal_check_pools(1, 32);
    for (size_t i = 0; i < ARRAY_SIZE(packets); i++) {
        struct rte_mbuf *mbuf = &packets[i]->mbuf;
        const uint8_t *data = dp_packet_data(packets[i]);

        assert(packets[i]->source == DPBUF_DPDK);
        assert(!dp_packet_size(packets[i]));
        assert(dp_packet_headroom(packets[i]) >= VHU_PACKET_HEADROOM);
        assert(dp_packet_tailroom(packets[i]) == ROOM);
        assert(!((uintptr_t) data % CACHE_LINE_SIZE));
        assert((char *) mbuf->buf_addr >= (char *) (packets[i] + 1));
        assert(rte_mbuf_check(mbuf, 1, &(const char *) { NULL }) == 0);
        memset(packets[i] + 1, 0xff, (char *) dp_packet_end(packets[i])
                                     - (char *) (packets[i] + 1));
    }

    /* Nothing of one reached into the next. */
    for (size_t i = 0; i < ARRAY_SIZE(packets); i++) {
        assert(rte_mbuf_check(&packets[i]->mbuf, 1,
                              &(const char *) { NULL }) == 0);
        assert(packets[i]->source == DPBUF_DPDK);
        dp_packet_delete(packets[i]);
    }
    test_eal_check_pools(1, 0);
    vhu_pool_put(pool);
    test_eal_check_pools(0, 0);
}

/* Ports with the same size of mbuf and NUMA node share a pool; it is freed
 * with the last user, but not before all mbufs are back. */
static void
test_share(void)
{
    struct vhu_pool *pool = vhu_pool_get("vm0", 1500, 0);
    struct vhu_pool_state state;
    struct dp_packet *packet;

    assert(pool);
    assert(vhu_pool_get("vm1", 2022, 0) == pool);
    test_eal_check_pools(1, 0);
    vhu_pool_put(pool);

    assert(vhu_pool_take(pool, &packet, 1));
    vhu_pool_get_state(pool, &state);
    assert(state.room == 2048 && state.numa_id == 0 && state.in_use == 1);
    assert(state.size >= 4096 && !state.n_empty);

    vhu_pool_put(pool);
    vhu_pool_sweep();
    test_eal_check_pools(1, 1);

    /* It is not too late. */
    assert(vhu_pool_get("vm2", 1280, 0) == pool);
    vhu_pool_put(pool);
    dp_packet_delete(packet);
    test_eal_check_pools(1, 0);
    vhu_pool_sweep();
    test_eal_check_pools(0, 0);
    vhu_pool_put(NULL);
}

static void
test_mtus(void)
{
    static const struct {
        int mtu;
        size_t room;
    } cases[] = {
        { 68, 1024 }, { 998, 1024 }, { 999, 2048 }, { 1500, 2048 },
        { 9000, 9216 }, { 9702, 10240 }, { 65389, 64512 },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct vhu_pool *pool = vhu_pool_get("vm0", cases[i].mtu, 0);

        if (!pool || vhu_pool_get_room(pool) != cases[i].room) {
            ovs_fatal(0, "MTU %d: %"PRIuSIZE" (expected %"PRIuSIZE")",
                      cases[i].mtu, pool ? vhu_pool_get_room(pool) : 0,
                      cases[i].room);
        }
        vhu_pool_put(pool);
        test_eal_check_pools(0, 0);
    }
}

/* Less memory makes a smaller pool; too little, or none on that NUMA node, one
 * warning and none. */
static void
test_refused(void)
{
    struct vhu_pool *pool = vhu_pool_get("vm0", MTU, 0);
    struct vhu_pool *more[64];
    size_t n = 0;

    assert(pool);
    assert(!vhu_pool_get("vm1", MTU, RTE_MAX_NUMA_NODES - 1));
    test_eal_check_pools(1, 0);
    while (n < ARRAY_SIZE(more)) {
        more[n] = vhu_pool_get("vm2", 3000 + 1024 * n, 0);
        if (!more[n]) {
            break;
        }
        n++;
    }
    assert(n < ARRAY_SIZE(more));
    test_eal_check_pools(n + 1, 0);
    while (n) {
        vhu_pool_put(more[--n]);
    }
    vhu_pool_put(pool);
    test_eal_check_pools(0, 0);
}

/* A chain of one segment with a header and 'size' bytes. */
static void
chain_init(struct virtq_chain *chain, struct virtq_seg *seg, uint8_t *data,
           size_t size)
{
    seg->va = data;
    seg->len = HDR_LEN + size;
    chain->segs = seg;
    chain->n_segs = 1;
    chain->size = seg->len;
}

/* Receives a burst of 4 packets with the given sizes, and checks that all
 * that are good have 'source' and the right data. */
static void
check_burst(struct vhu_pool *pool, const size_t sizes[4], size_t n_bad,
            enum dp_packet_source source)
{
    static uint8_t data[4][HDR_LEN + 70000];
    struct virtq_chain chains[4];
    struct virtq_seg segs[4];
    struct dp_packet_batch batch;
    struct dp_packet *packet;
    size_t next = 0;

    for (size_t i = 0; i < 4; i++) {
        random_bytes(data[i], sizeof data[i]);
        chain_init(&chains[i], &segs[i], data[i], sizes[i]);
    }
    dp_packet_batch_init(&batch);
    assert(vhu_packets_from_chains(chains, 4, HDR_LEN, pool, &batch)
           == n_bad);
    assert(dp_packet_batch_size(&batch) == 4 - n_bad);
    DP_PACKET_BATCH_FOR_EACH (i, packet, &batch) {
        while (sizes[next] < ETH_HEADER_LEN
               || sizes[next] > VHU_MAX_PACKET_LEN) {
            next++;
        }
        assert(packet->source == source);
        assert(dp_packet_is_eth(packet) && !dp_packet_l3(packet));
        assert(!dp_packet_get_cutlen(packet));
        assert(dp_packet_size(packet) == sizes[next]);
        assert(!memcmp(dp_packet_data(packet), data[next] + HDR_LEN,
                       sizes[next]));
        packet->cutlen = 7;
        packet->packet_type = htonl(PT_NSH);
        dp_packet_set_l3(packet, dp_packet_data(packet));
        next++;
    }
    vhu_packets_recycle(&batch);
}

/* All packets of a burst are from the pool or none is, and all come back. */
static void
test_bursts(void)
{
    struct vhu_pool *pool = vhu_pool_get("vm0", MTU, 0);
    struct dp_packet *all[32768];
    struct vhu_pool_state state;
    unsigned int n_empty;
    size_t n = 0;

    for (size_t i = 0; i < 3; i++) {
        check_burst(pool, (size_t[]) { 60, 14, 1514, ROOM }, 0, DPBUF_DPDK);
        check_burst(pool, (size_t[]) { 60, 13, 0, 61 }, 2, DPBUF_DPDK);
        check_burst(pool, (size_t[]) { 60, 61, 62, ROOM + 1 }, 0,
                    OVS_PACKET_SOURCE);
        check_burst(pool, (size_t[]) { 60, 61, 9000, 66000 }, 1,
                    OVS_PACKET_SOURCE);
        check_burst(NULL, (size_t[]) { 60, 61, 62, 63 }, 0, OVS_PACKET_SOURCE);
        test_eal_check_pools(1, 0);
    }

    /* With 3 mbufs left in the pool, and then again with 4. */
    while (n < ARRAY_SIZE(all) && vhu_pool_take(pool, &all[n], 1)) {
        n++;
    }
    vhu_pool_give_back(&all[n -= 3], 3);
    vhu_pool_get_state(pool, &state);
    n_empty = state.n_empty;
    check_burst(pool, (size_t[]) { 60, 61, 62, 63 }, 0, OVS_PACKET_SOURCE);
    vhu_pool_give_back(&all[--n], 1);
    check_burst(pool, (size_t[]) { 60, 61, 62, 63 }, 0, DPBUF_DPDK);

    /* The one is counted, for an operator. */
    vhu_pool_get_state(pool, &state);
    assert(state.n_empty == n_empty + 1 && state.in_use == n);
    test_eal_check_pools(1, n);
    vhu_pool_give_back(all, n);
    vhu_pool_put(pool);
    test_eal_check_pools(0, 0);
}

/* Threads that EAL does not know, and a batch of all kinds of packets.  Not
 * many: whoever uses DPDK's ring waits for one that was before it and may not
 * be running, which takes long on a busy machine. */
static void *
recycle(void *pool)
{
    for (size_t i = 0; i < 50; i++) {
        struct dp_packet_batch batch;

        dp_packet_batch_init(&batch);
        for (size_t j = 0; j < 30; j++) {
            struct dp_packet *packet;

            if (j % 3) {
                assert(vhu_pool_take(pool, &packet, 1));
                dp_packet_set_size(packet, 100);
            } else {
                packet = vhu_packet_new(100);
            }
            dp_packet_batch_add(&batch, (j % 5 || packet->source == DPBUF_DPDK
                                         ? packet
                                         : dp_packet_clone(packet)));
            if (!(j % 5) && packet->source != DPBUF_DPDK) {
                dp_packet_delete(packet);
            }
        }
        vhu_packets_recycle(&batch);
        assert(dp_packet_batch_is_empty(&batch));
    }
    return NULL;
}

static void
test_threads(void)
{
    struct vhu_pool *pool = vhu_pool_get("vm0", MTU, 0);
    pthread_t threads[4];

    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        threads[i] = ovs_thread_create("recycle", recycle, pool);
    }
    recycle(pool);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        xpthread_join(threads[i], NULL);
    }
    test_eal_check_pools(1, 0);
    vhu_pool_put(pool);
    test_eal_check_pools(0, 0);
}

static void
test_vhu_pool_main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*run)(void);
        const char *megabytes;
    } tests[] = {
        { "layout", test_layout, "256" },
        { "share", test_share, "256" },
        { "mtus", test_mtus, "512" },
        { "refused", test_refused, "128" },
        { "bursts", test_bursts, "256" },
        { "threads", test_threads, "256" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc == 2 && !strcmp(argv[1], tests[i].name)) {
            test_eal_start(tests[i].megabytes);
            tests[i].run();
            return;
        }
    }
    ovs_fatal(0, "usage: vhutest pool TEST");
}

VHUTEST_REGISTER("pool", test_vhu_pool_main);
