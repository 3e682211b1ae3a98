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

#include <string.h>

#include "dp-packet.h"
#include "ovs-compat.h"
#include "ovs-thread.h"
#include "packets.h"
#include "util.h"
#include "vhu-pool.h"

/* Packets that are kept to be used again come in two sizes, for the common
 * MTUs and for jumbo frames.  Others are allocated to measure and not kept.
 * Each has room for the data, the headroom, and what it takes to begin the
 * data with a cache line. */
enum {
    PACKET_PAD = VHU_PACKET_HEADROOM + CACHE_LINE_SIZE,
    ORDINARY_ALLOCATED = 2048 + PACKET_PAD,
    JUMBO_ALLOCATED = 10240 + PACKET_PAD,

    MAX_ORDINARY = 256,         /* Most that a thread keeps. */
    MAX_JUMBO = 64,
};

/* Packets that wait to be received into again.  One a thread, and only in
 * threads that receive. */
struct packet_cache {
    size_t n_ordinary;
    size_t n_jumbo;

    /* Last in, first out: the last one is still in the CPU's cache. */
    struct dp_packet *ordinary[MAX_ORDINARY];
    struct dp_packet *jumbo[MAX_JUMBO];
};
DEFINE_STATIC_PER_THREAD_DATA(struct packet_cache *, packet_cache, NULL);

static struct packet_cache *packet_cache_create(void);

/* Copies up to 'n' bytes, from byte 'ofs' of the buffers of 'chain' on, to
 * 'dst'.  Stops at the end of the chain.  Returns the number of bytes
 * copied. */
static size_t
chain_read(const struct virtq_chain *chain, size_t ofs, void *dst, size_t n)
{
    size_t done = 0;

    for (size_t i = 0; i < chain->n_segs && done < n; i++) {
        const struct virtq_seg *seg = &chain->segs[i];

        if (ofs < seg->len) {
            size_t len = MIN(seg->len - ofs, n - done);

            memcpy((uint8_t *) dst + done, seg->va + ofs, len);
            done += len;
            ofs = 0;
        } else {
            ofs -= seg->len;
        }
    }
    return done;
}

/* The same in the other direction: copies from 'src' to 'chain'. */
static size_t
chain_write(const struct virtq_chain *chain, size_t ofs, const void *src,
            size_t n)
{
    size_t done = 0;

    for (size_t i = 0; i < chain->n_segs && done < n; i++) {
        const struct virtq_seg *seg = &chain->segs[i];

        if (ofs < seg->len) {
            size_t len = MIN(seg->len - ofs, n - done);

            memcpy(seg->va + ofs, (const uint8_t *) src + done, len);
            done += len;
            ofs = 0;
        } else {
            ofs -= seg->len;
        }
    }
    return done;
}

/* Makes 'packet' one of 'size' bytes, with nothing left of what it was before.
 * (Its metadata is set by the datapath, as for packets from DPDK.) */
static inline ALWAYS_INLINE void
packet_reset(struct dp_packet *packet, size_t size)
{
    uint8_t *base = dp_packet_base(packet);
    uint8_t *data = (uint8_t *) ROUND_UP((uintptr_t) base
                                         + VHU_PACKET_HEADROOM,
                                         CACHE_LINE_SIZE);
    size_t allocated = dp_packet_get_allocated(packet);

    /* The longest packets must do without the alignment. */
    if (OVS_UNLIKELY(data - base + size > allocated)) {
        data = base + (allocated - size);
    }
    dp_packet_set_data(packet, data);
    dp_packet_set_size(packet, size);
    dp_packet_reset_offsets(packet);
    dp_packet_reset_cutlen(packet);
    ovs_packet_reset_offload(packet);
    dp_packet_init_specific(packet);
    packet->packet_type = htonl(PT_ETH);
}

/* Returns a packet of 'size' <= VHU_MAX_PACKET_LEN bytes from 'cache', or a
 * new one. */
static inline ALWAYS_INLINE struct dp_packet *
packet_get(struct packet_cache *cache, size_t size)
{
    struct dp_packet *packet;

    if (OVS_LIKELY(size <= ORDINARY_ALLOCATED - PACKET_PAD)) {
        packet = (cache->n_ordinary
                  ? cache->ordinary[--cache->n_ordinary]
                  : ovs_packet_create(ORDINARY_ALLOCATED));
    } else if (size <= JUMBO_ALLOCATED - PACKET_PAD) {
        packet = (cache->n_jumbo
                  ? cache->jumbo[--cache->n_jumbo]
                  : ovs_packet_create(JUMBO_ALLOCATED));
    } else {
        packet = ovs_packet_create(MIN(size + PACKET_PAD, UINT16_MAX));
    }
    packet_reset(packet, size);
    return packet;
}

/* Keeps 'packet' in 'cache' if it is of a kind that can be used again and
 * there is room, otherwise deletes it. */
static inline ALWAYS_INLINE void
packet_put(struct packet_cache *cache, struct dp_packet *packet)
{
    if (OVS_LIKELY(ovs_packet_is_whole(packet))) {
        size_t allocated = dp_packet_get_allocated(packet);

        if (allocated == ORDINARY_ALLOCATED
            && cache->n_ordinary < MAX_ORDINARY) {
            cache->ordinary[cache->n_ordinary++] = packet;
            return;
        } else if (allocated == JUMBO_ALLOCATED
                   && cache->n_jumbo < MAX_JUMBO) {
            cache->jumbo[cache->n_jumbo++] = packet;
            return;
        }
    }
    dp_packet_delete(packet);
}

/* Returns the cache of this thread. */
static inline ALWAYS_INLINE struct packet_cache *
packet_cache_get_or_create(void)
{
    struct packet_cache *cache = *packet_cache_get();

    return OVS_LIKELY(cache) ? cache : packet_cache_create();
}

/* Returns a packet of 'size' <= VHU_MAX_PACKET_LEN bytes that the caller must
 * fill in. */
struct dp_packet *
vhu_packet_new(size_t size)
{
    return packet_get(packet_cache_get_or_create(), size);
}

/* Returns true if 'packet' is from a pool of DPDK, ours or not. */
static inline ALWAYS_INLINE bool
packet_is_pooled(const struct dp_packet *packet OVS_UNUSED)
{
#ifdef DPDK_NETDEV
    return packet->source == DPBUF_DPDK;
#else
    return false;
#endif
}

/* Deletes all packets of 'batch', or keeps them to be used again: those from a
 * pool there, others here. */
void
vhu_packets_recycle(struct dp_packet_batch *batch)
{
    struct packet_cache *cache = *packet_cache_get();
    struct dp_packet *packet;
    size_t n_pooled = 0;

    DP_PACKET_BATCH_FOR_EACH (i, packet, batch) {
        if (packet_is_pooled(packet)) {
            batch->packets[n_pooled++] = packet;
        } else if (OVS_LIKELY(cache)) {
            packet_put(cache, packet);
        } else {
            dp_packet_delete(packet);
        }
    }
    if (n_pooled) {
        vhu_pool_give_back(batch->packets, n_pooled);
    }
    batch->count = 0;
}

/* Starts loading what there is of 'chain' behind the two cache lines that
 * virtq_take_avail() has asked for, up to 'size' bytes, to write it.  To be
 * called a packet ahead.
 *
 * (To load what is to be read next has been tried: it made no difference.) */
static inline ALWAYS_INLINE void
prefetch_rest(const struct virtq_chain *chain, size_t size)
{
    const struct virtq_seg *seg = chain->segs;

    if (OVS_LIKELY(chain->n_segs)) {
        size = MIN(size, seg->len);
        for (size_t i = 2 * CACHE_LINE_SIZE; i < size; i += CACHE_LINE_SIZE) {
            virtq_prefetch_write(seg->va + i);
        }
    }
}

/* Takes as many packets as there are 'chains' out of 'pool', which may be
 * null, if each is long enough for what is in any of them. */
static inline ALWAYS_INLINE bool
take_from_pool(struct vhu_pool *pool, const struct virtq_chain chains[],
               size_t n, size_t hdr_len, struct dp_packet *packets[])
{
    size_t max_size;

    if (!pool || !n) {
        return false;
    }
    max_size = hdr_len + vhu_pool_get_room(pool);
    for (size_t i = 0; i < n; i++) {
        if (OVS_UNLIKELY(chains[i].size > max_size)) {
            return false;
        }
    }
    return vhu_pool_take(pool, packets, n);
}

/* Makes 'packet', just taken out of a pool, one of 'size' bytes. */
static inline ALWAYS_INLINE void
pooled_packet_init(struct dp_packet *packet, size_t size)
{
    dp_packet_set_size(packet, size);
    dp_packet_reset_offsets(packet);
    dp_packet_reset_cutlen(packet);
    ovs_packet_reset_offload(packet);
    packet->packet_type = htonl(PT_ETH);
}

/* Copies the packets in 'chains' into new packets at the end of 'batch',
 * which must have room for 'n' more.  A header of 'hdr_len' bytes precedes
 * each packet; however the driver spread it over its descriptors, it is
 * skipped.
 *
 * All of the new packets come from 'pool' or, if it is null or that is not
 * possible, none.
 *
 * Returns the number of chains that hold no packet that a switch could
 * forward, because they are unusable, too short or too long; these are left
 * out. */
size_t
vhu_packets_from_chains(const struct virtq_chain chains[], size_t n,
                        size_t hdr_len, struct vhu_pool *pool,
                        struct dp_packet_batch *batch)
{
    struct packet_cache *cache = packet_cache_get_or_create();
    struct dp_packet *pooled[VIRTQ_MAX_BURST];
    bool use_pool = take_from_pool(pool, chains, n, hdr_len, pooled);
    size_t n_bad = 0;

    for (size_t i = 0; i < n; i++) {
        const struct virtq_chain *chain = &chains[i];
        size_t len = chain->size - hdr_len;
        struct dp_packet *packet;

        if (OVS_UNLIKELY(!chain->n_segs
                         || chain->size < hdr_len + ETH_HEADER_LEN
                         || len > VHU_MAX_PACKET_LEN)) {
            n_bad++;
            continue;
        }

        if (use_pool) {
            packet = pooled[i - n_bad];
            pooled_packet_init(packet, len);
        } else {
            packet = packet_get(cache, len);
        }
        if (OVS_LIKELY(chain->segs[0].len == chain->size)) {
            memcpy(dp_packet_data(packet), chain->segs[0].va + hdr_len, len);
        } else if (chain->n_segs == 2 && chain->segs[0].len == hdr_len) {
            memcpy(dp_packet_data(packet), chain->segs[1].va, len);
        } else {
            chain_read(chain, hdr_len, dp_packet_data(packet), len);
        }
        batch->packets[batch->count++] = packet;
    }
    if (OVS_UNLIKELY(use_pool && n_bad)) {
        vhu_pool_give_back(&pooled[n - n_bad], n_bad);
    }
    return n_bad;
}

/* OVS takes a packet in several pieces for one in a single piece: when it
 * pushes or pops a header, it makes the length of the first piece that of the
 * packet.  As a driver fills all pieces but the last, we know what it must be.
 * A packet that has been cut short cannot be mended. */
bool
vhu_packet_mend(struct dp_packet *packet OVS_UNUSED)
{
#ifdef DPDK_NETDEV
    struct rte_mbuf *first = &packet->mbuf;
    uint32_t rest = 0;

    for (const struct rte_mbuf *piece = first->next; piece;
         piece = piece->next) {
        rest += piece->data_len;
    }
    if (first->pkt_len == first->data_len + rest) {
        return true;
    } else if (first->data_len == (uint16_t) first->pkt_len
               && first->pkt_len == first->buf_len - first->data_off + rest) {
        first->data_len = first->pkt_len - rest;
        return true;
    }
#endif
    return false;
}

void
vhu_packet_copy(const struct dp_packet *packet, size_t ofs, void *dst,
                size_t n)
{
#ifdef DPDK_NETDEV
    for (const struct rte_mbuf *piece = &packet->mbuf; piece && n;
         piece = piece->next) {
        if (ofs < piece->data_len) {
            size_t len = MIN(piece->data_len - ofs, n);

            memcpy(dst, rte_pktmbuf_mtod_offset(piece, uint8_t *, ofs), len);
            dst = (uint8_t *) dst + len;
            n -= len;
            ofs = 0;
        } else {
            ofs -= piece->data_len;
        }
    }
#else
    memcpy(dst, (const uint8_t *) dp_packet_data(packet) + ofs, n);
#endif
}

/* Writes the header of a packet that takes 'n_chains' into the first of
 * them. */
static inline ALWAYS_INLINE void
put_net_hdr(const struct virtq_chain *chain, const struct vhu_net_hdr *hdr,
            size_t n_chains)
{
    /* "Device Operation: Processing of Incoming Packets": 'num_buffers' is 1
     * if VIRTIO_NET_F_MRG_RXBUF was not negotiated. */
    struct virtio_net_hdr header = {
        .num_buffers = virtio_cpu_to_le16(n_chains),
    };

    if (OVS_LIKELY(hdr->len == sizeof header
                   && chain->segs[0].len >= sizeof header)) {
        memcpy(chain->segs[0].va, &header, sizeof header);
    } else {
        chain_write(chain, 0, &header, hdr->len);
    }
}

/* Copies 'n' bytes of 'packet', from byte 'skip' on, to byte 'ofs' of the
 * buffers of 'chain', which has room for them. */
static void
chain_write_packet(const struct virtq_chain *chain, size_t ofs,
                   const struct dp_packet *packet, size_t skip, size_t n)
{
    if (OVS_LIKELY(!vhu_packet_is_split(packet))) {
        chain_write(chain, ofs,
                    (const uint8_t *) dp_packet_data(packet) + skip, n);
        return;
    }
    for (size_t i = 0; i < chain->n_segs && n; i++) {
        const struct virtq_seg *seg = &chain->segs[i];

        if (ofs < seg->len) {
            size_t len = MIN(seg->len - ofs, n);

            vhu_packet_copy(packet, skip, seg->va + ofs, len);
            skip += len;
            n -= len;
            ofs = 0;
        } else {
            ofs -= seg->len;
        }
    }
}

/* Writes 'packet', of 'n' bytes, behind the header in 'chain', which has room
 * for it. */
static inline ALWAYS_INLINE void
put_data(const struct virtq_chain *chain, size_t hdr_len,
         const struct dp_packet *packet, size_t n)
{
    const struct virtq_seg *segs = chain->segs;
    const void *data = dp_packet_data(packet);

    if (OVS_UNLIKELY(vhu_packet_is_split(packet))) {
        chain_write_packet(chain, hdr_len, packet, 0, n);
    } else if (OVS_LIKELY(segs[0].len >= hdr_len
                          && segs[0].len - hdr_len >= n)) {
        memcpy(segs[0].va + hdr_len, data, n);
    } else if (chain->n_segs == 2 && segs[0].len == hdr_len) {
        memcpy(segs[1].va, data, n);
    } else {
        chain_write(chain, hdr_len, data, n);
    }
}

/* Returns true if a packet may begin in 'chain'.  "Setting Up Receive Buffers"
 * requires room for at least the header in each buffer. */
static inline ALWAYS_INLINE bool
chain_can_begin(const struct virtq_chain *chain, size_t hdr_len)
{
    return chain->n_segs && chain->size >= hdr_len;
}

/* Distributes 'packet', which does not fit into the first of the 'n'
 * 'chains', over as many as it needs.  Returns how many these are, with their
 * used lengths in 'used_len', or 0 if there are too few.
 *
 * If one of those that it needs is unusable, returns the number of chains up
 * to that one, with used lengths of 0: the driver gets them back empty, and
 * the packet must begin after them.  '*sent' says which it was. */
static size_t
packet_to_several_chains(const struct dp_packet *packet,
                         const struct virtq_chain chains[], size_t n,
                         const struct vhu_net_hdr *hdr, uint32_t used_len[],
                         bool *sent)
{
    size_t left = hdr->len + dp_packet_size(packet);
    size_t done, n_used;

    *sent = false;
    for (n_used = 0; left; n_used++) {
        if (n_used >= n) {
            return 0;
        } else if (!chain_can_begin(&chains[n_used], hdr->len)) {
            memset(used_len, 0, (n_used + 1) * sizeof *used_len);
            return n_used + 1;
        }
        used_len[n_used] = MIN(left, chains[n_used].size);
        left -= used_len[n_used];
    }

    put_net_hdr(&chains[0], hdr, n_used);
    done = used_len[0] - hdr->len;
    chain_write_packet(&chains[0], hdr->len, packet, 0, done);
    for (size_t i = 1; i < n_used; i++) {
        chain_write_packet(&chains[i], 0, packet, done, used_len[i]);
        done += used_len[i];
    }
    *sent = true;
    return n_used;
}

/* Copies as many of the 'n_packets' <= 64 'packets' as fit, in order, into the
 * 'n_chains' <= VIRTQ_MAX_BURST 'chains', with headers laid out as in 'hdr'.
 * Never writes beyond a buffer.
 *
 * Stores in '*fill' how far that went: with how many packets and chains it is
 * done, the length that each chain was used with, and which of these packets
 * fit nowhere, so that trying again is of no use: because, without mergeable
 * buffers, the next chain is too small, because 'n_chains' is as many as there
 * can be and they are too few, or because it is in pieces that make no sense.
 *
 * A chain that no packet can begin in is used with length 0. */
void
vhu_packets_to_chains(struct dp_packet *const packets[], size_t n_packets,
                      const struct virtq_chain chains[], size_t n_chains,
                      const struct vhu_net_hdr *hdr, struct vhu_fill *fill)
{
    size_t i = 0;
    size_t c = 0;

    fill->unfit = 0;
    while (i < n_packets && c < n_chains) {
        const struct virtq_chain *chain = &chains[c];
        size_t size = dp_packet_size(packets[i]);

        if (i + 1 < n_packets && c + 1 < n_chains) {
            prefetch_rest(&chains[c + 1],
                          hdr->len + dp_packet_size(packets[i + 1]));
        }
        if (OVS_UNLIKELY(!chain_can_begin(chain, hdr->len))) {
            fill->used_len[c++] = 0;
        } else if (OVS_UNLIKELY(vhu_packet_is_split(packets[i]))
                   && !vhu_packet_mend(packets[i])) {
            fill->unfit |= UINT64_C(1) << i++;
        } else if (OVS_LIKELY(size <= chain->size - hdr->len)) {
            put_net_hdr(chain, hdr, 1);
            put_data(chain, hdr->len, packets[i], size);
            fill->used_len[c++] = hdr->len + size;
            i++;
        } else {
            size_t n_used = 0;
            bool sent = false;

            if (hdr->mergeable) {
                n_used = packet_to_several_chains(packets[i], chain,
                                                  n_chains - c, hdr,
                                                  &fill->used_len[c], &sent);
                if (!n_used && (c || n_chains < VIRTQ_MAX_BURST)) {
                    break;
                }
            }
            if (!n_used) {
                fill->unfit |= UINT64_C(1) << i;
            }
            c += n_used;
            i += sent || !n_used;
        }
    }
    fill->n_packets = i;
    fill->n_chains = c;
}

static void
packet_cache_destroy(void *cache_)
{
    struct packet_cache *cache = cache_;

    for (size_t i = 0; i < cache->n_ordinary; i++) {
        dp_packet_delete(cache->ordinary[i]);
    }
    for (size_t i = 0; i < cache->n_jumbo; i++) {
        dp_packet_delete(cache->jumbo[i]);
    }
    free(cache);
}

/* Creates the cache of this thread, which lasts until the thread exits. */
static struct packet_cache *
packet_cache_create(void)
{
    static struct ovsthread_once once = OVSTHREAD_ONCE_INITIALIZER;
    static ovsthread_key_t key;
    struct packet_cache *cache = xzalloc(sizeof *cache);

    if (ovsthread_once_start(&once)) {
        ovsthread_key_create(&key, packet_cache_destroy);
        ovsthread_once_done(&once);
    }
    ovsthread_setspecific(key, cache);
    *packet_cache_get() = cache;
    return cache;
}
