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

#ifdef DPDK_NETDEV

#include <errno.h>
#include <stdint.h>
#include <stdio.h>

#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include "coverage.h"
#include "dp-packet.h"
#include "openvswitch/list.h"
#include "openvswitch/vlog.h"
#include "ovs-atomic.h"
#include "ovs-thread.h"
#include "packets.h"
#include "util.h"
#include "vhu-packet.h"

VLOG_DEFINE_THIS_MODULE(vhu_pool);

/* A burst was received into the heap because its pool was empty. */
COVERAGE_DEFINE(vhostuser_pool_empty);

/* Size of an mbuf: as netdev-dpdk, room for what drivers may count as part of
 * a packet of the MTU, rounded up, so that few sizes exist. */
enum {
    MBUF_OVERHEAD = ETH_HEADER_LEN + 2 * VLAN_HEADER_LEN + 4 /* FCS */,
    MBUF_ALIGN = 1024,
    MAX_ROOM = ROUND_DOWN(UINT16_MAX - RTE_PKTMBUF_HEADROOM, MBUF_ALIGN),
};
BUILD_ASSERT_DECL(RTE_PKTMBUF_HEADROOM >= VHU_PACKET_HEADROOM);

/* Number of mbufs in a pool.  No receive queue of a device holds any, only
 * packets on their way and the transmit queues of DPDK ports, a few thousand
 * each at most; and should they all be in use, then there is the heap.  So a
 * fraction of what netdev-dpdk has is plenty, and less will do where memory is
 * scarce. */
enum {
    MAX_MBUFS = 32768,
    MIN_MBUFS = 4096,
    MAX_POOL_BYTES = 256 * 1024 * 1024,
};

struct vhu_pool {
    struct ovs_list node;       /* In 'pools'. */
    struct rte_mempool *mp;
    int numa_id;
    size_t room;                /* For the data in each mbuf. */
    unsigned int n_users;
    atomic_count n_empty;       /* Bursts that it could not serve. */
};

static struct ovs_mutex pools_mutex = OVS_MUTEX_INITIALIZER;
static struct ovs_list pools OVS_GUARDED_BY(pools_mutex)
    = OVS_LIST_INITIALIZER(&pools);

static size_t
mtu_to_room(int mtu)
{
    return MIN(ROUND_UP(mtu + MBUF_OVERHEAD, MBUF_ALIGN), MAX_ROOM);
}

static void
init_packet(struct rte_mempool *mp OVS_UNUSED, void *aux OVS_UNUSED,
            void *packet, unsigned int index OVS_UNUSED)
{
    dp_packet_init_dpdk(packet);
}

/* Creates a mempool of mbufs with 'room' bytes each on 'numa_id', of as many
 * as there is memory for, within limits.  Returns null, with 'rte_errno' set,
 * if there is not enough. */
static struct rte_mempool *
create_mempool(size_t room, int numa_id)
{
    static unsigned int serial;

    /* The part of "struct dp_packet" behind the mbuf is the private area of
     * the mbuf.  Rounded up, the data is aligned like the mbuf. */
    size_t header = ROUND_UP(sizeof(struct dp_packet), RTE_CACHE_LINE_SIZE);
    size_t size = header + RTE_PKTMBUF_HEADROOM + room;
    char name[RTE_MEMPOOL_NAMESIZE];

    snprintf(name, sizeof name, "vhostuser_%u", serial++);
    for (unsigned int n = MAX_MBUFS; n >= MIN_MBUFS; n /= 2) {
        struct rte_mempool *mp;

        if (n * size > MAX_POOL_BYTES && n > MIN_MBUFS) {
            continue;
        }
        mp = rte_pktmbuf_pool_create(name, n, RTE_MEMPOOL_CACHE_MAX_SIZE,
                                     header - sizeof(struct rte_mbuf),
                                     RTE_PKTMBUF_HEADROOM + room, numa_id);
        if (mp) {
            rte_mempool_obj_iter(mp, init_packet, NULL);
            return mp;
        } else if (rte_errno != ENOMEM && rte_errno != ENOBUFS) {
            break;
        }
    }
    return NULL;
}

/* Frees what can be freed. */
static void
sweep(void)
    OVS_REQUIRES(pools_mutex)
{
    struct vhu_pool *pool;

    LIST_FOR_EACH_SAFE (pool, node, &pools) {
        /* Nothing is taken out of it any more, so that the count, which is
         * not atomic, is not too high. */
        if (!pool->n_users && rte_mempool_full(pool->mp)) {
            VLOG_DBG("freed %s", pool->mp->name);
            ovs_list_remove(&pool->node);
            rte_mempool_free(pool->mp);
            free(pool);
        }
    }
}

static struct vhu_pool *
find_pool(size_t room, int numa_id)
    OVS_REQUIRES(pools_mutex)
{
    struct vhu_pool *pool;

    LIST_FOR_EACH (pool, node, &pools) {
        if (pool->room == room && pool->numa_id == numa_id) {
            return pool;
        }
    }
    return NULL;
}

struct vhu_pool *
vhu_pool_get(const char *port, int mtu, int numa_id)
{
    size_t room = mtu_to_room(mtu);
    struct vhu_pool *pool;

    ovs_mutex_lock(&pools_mutex);
    pool = find_pool(room, numa_id);
    if (!pool) {
        struct rte_mempool *mp;

        sweep();
        mp = create_mempool(room, numa_id);
        if (mp) {
            pool = xzalloc(sizeof *pool);
            pool->mp = mp;
            pool->numa_id = numa_id;
            pool->room = room;
            ovs_list_push_back(&pools, &pool->node);
            VLOG_INFO("%s: new pool of %u packets of up to %"PRIuSIZE" bytes "
                      "on NUMA node %d", port, mp->size, room, numa_id);
        } else {
            VLOG_WARN("%s: no DPDK memory on NUMA node %d for %d packets of "
                      "up to %"PRIuSIZE" bytes (%s): packets come from the "
                      "heap, and DPDK ports copy them", port, numa_id,
                      MIN_MBUFS, room, rte_strerror(rte_errno));
        }
    }
    if (pool) {
        pool->n_users++;
    }
    ovs_mutex_unlock(&pools_mutex);
    return pool;
}

void
vhu_pool_put(struct vhu_pool *pool)
{
    if (pool) {
        ovs_mutex_lock(&pools_mutex);
        pool->n_users--;
        sweep();
        ovs_mutex_unlock(&pools_mutex);
    }
}

void
vhu_pool_sweep(void)
{
    ovs_mutex_lock(&pools_mutex);
    sweep();
    ovs_mutex_unlock(&pools_mutex);
}

void
vhu_pool_get_state(struct vhu_pool *pool, struct vhu_pool_state *state)
{
    state->name = pool->mp->name;
    state->numa_id = pool->numa_id;
    state->room = pool->room;
    state->size = pool->mp->size;
    state->in_use = rte_mempool_in_use_count(pool->mp);
    state->n_empty = atomic_count_get(&pool->n_empty);
}

size_t
vhu_pool_get_room(const struct vhu_pool *pool)
{
    return pool->room;
}

bool
vhu_pool_take(struct vhu_pool *pool, struct dp_packet *packets[], size_t n)
{
    struct rte_mbuf **mbufs = (struct rte_mbuf **) packets;

    if (OVS_UNLIKELY(rte_pktmbuf_alloc_bulk(pool->mp, mbufs, n))) {
        COVERAGE_INC(vhostuser_pool_empty);
        atomic_count_inc(&pool->n_empty);
        return false;
    }
    return true;
}

void
vhu_pool_give_back(struct dp_packet *packets[], size_t n)
{
    rte_pktmbuf_free_bulk((struct rte_mbuf **) packets, n);
}

#endif /* DPDK_NETDEV */
