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

#ifndef VHU_POOL_H
#define VHU_POOL_H 1

/* Packets from the memory pools of DPDK
 * =====================================
 *
 * In a switch with DPDK whose EAL runs, ports receive into mbufs of pools of
 * ours, laid out as those of netdev-dpdk, so that a DPDK port sends them as
 * they are.  (It copies packets from the heap.)  A pool belongs to a NUMA node
 * and a size of mbuf, which follows from the MTU; ports that agree in both
 * share it.
 *
 * There are always packets on the heap to fall back on: before a port has a
 * guest, if there is no memory for a pool, if a pool is empty for the moment,
 * and for a packet that is longer than the mbufs.  But all packets of a burst
 * have one source, because OVS looks at the first of a batch only.
 *
 * In a switch without DPDK there are no pools, and what is here is empty.
 *
 *
 * Life
 * ----
 *
 * A pool is in use from vhu_pool_get() until each vhu_pool_put() for it.  Its
 * mbufs may be on their way through the switch and its DPDK ports for longer,
 * so that its memory is freed by one of the next vhu_pool_sweep().
 *
 *
 * Threads
 * -------
 *
 * All functions may be called by any thread, but the first three not by PMD
 * threads, as they take a mutex.  A PMD thread is an EAL lcore and keeps some
 * mbufs in DPDK's cache for that; a thread that is none works without. */

#include <stdbool.h>
#include <stddef.h>

#include "compiler.h"

struct dp_packet;
struct vhu_pool;

/* A pool, for an operator. */
struct vhu_pool_state {
    const char *name;           /* As in netdev-dpdk/get-mempool-info. */
    int numa_id;
    size_t room;                /* For the data in each mbuf. */
    unsigned int size;          /* Number of mbufs. */
    unsigned int in_use;        /* Of these, not in the pool. */
    unsigned int n_empty;       /* Bursts that it could not serve. */
};

#ifdef DPDK_NETDEV

/* Returns a pool with mbufs for packets of a port with 'mtu', on NUMA node
 * 'numa_id'.  If there is no memory for one, says so in the log, with the name
 * of the port, and returns null.  May take long.  EAL must run. */
struct vhu_pool *vhu_pool_get(const char *port, int mtu, int numa_id);

/* Gives 'pool', which may be null, back. */
void vhu_pool_put(struct vhu_pool *pool);

/* Frees the pools that nobody uses and whose mbufs are all back.  To be called
 * from time to time. */
void vhu_pool_sweep(void);

/* Stores in '*state' what there is to say of 'pool'. */
void vhu_pool_get_state(struct vhu_pool *pool, struct vhu_pool_state *state);

/* Returns the length of the longest packet for an mbuf of 'pool'. */
size_t vhu_pool_get_room(const struct vhu_pool *pool);

/* Takes 'n' packets out of 'pool' and stores them in 'packets'.  Each is empty
 * but has DPDK's headroom.  Returns false, and takes none, if there are fewer
 * than 'n'. */
bool vhu_pool_take(struct vhu_pool *pool, struct dp_packet *packets[],
                   size_t n);

/* Gives the 'n' 'packets', of any pools of DPDK, back to them. */
void vhu_pool_give_back(struct dp_packet *packets[], size_t n);

#else /* !DPDK_NETDEV */

static inline struct vhu_pool *
vhu_pool_get(const char *port OVS_UNUSED, int mtu OVS_UNUSED,
             int numa_id OVS_UNUSED)
{
    return NULL;
}

static inline void
vhu_pool_put(struct vhu_pool *pool OVS_UNUSED)
{
}

static inline void
vhu_pool_sweep(void)
{
}

static inline void
vhu_pool_get_state(struct vhu_pool *pool OVS_UNUSED,
                   struct vhu_pool_state *state)
{
    *state = (struct vhu_pool_state) { .name = "" };
}

static inline size_t
vhu_pool_get_room(const struct vhu_pool *pool OVS_UNUSED)
{
    return 0;
}

static inline bool
vhu_pool_take(struct vhu_pool *pool OVS_UNUSED,
              struct dp_packet *packets[] OVS_UNUSED, size_t n OVS_UNUSED)
{
    return false;
}

static inline void
vhu_pool_give_back(struct dp_packet *packets[] OVS_UNUSED,
                   size_t n OVS_UNUSED)
{
}

#endif /* !DPDK_NETDEV */

#endif /* vhu-pool.h */
