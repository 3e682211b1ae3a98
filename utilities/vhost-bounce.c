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

#include "ovs-vhost.h"

#include <stdlib.h>
#include <string.h>

#include "util.h"
#include "vhost-loop.h"
#include "vhu-dev.h"
#include "virtq.h"

/* Layout of the header in the buffers of one device ("Network Device: Device
 * Operation"). */
struct header {
    uint32_t len;
    bool mergeable;
};

static inline struct header
header_of(const struct virtq *vq)
{
    uint64_t features = virtq_get_features(vq);
    struct header hdr;

    hdr.mergeable = features & VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF);
    hdr.len = (hdr.mergeable || features & VIRTIO_BIT(VIRTIO_F_VERSION_1)
               ? VIRTIO_NET_HDR_LEN : VIRTIO_NET_HDR_LEN_LEGACY);
    return hdr;
}

/* A place in the segments of a chain. */
struct cursor {
    const struct virtq_seg *seg; /* The current one, */
    const struct virtq_seg *end; /* the one after the last, */
    uint32_t ofs;                /* and the place in the current one. */
};

static void
cursor_init(struct cursor *cursor, const struct virtq_chain *chain)
{
    cursor->seg = chain->segs;
    cursor->end = chain->segs + chain->n_segs;
    cursor->ofs = 0;
}

static inline size_t
cursor_left(const struct cursor *cursor)
{
    return cursor->seg == cursor->end ? 0 : cursor->seg->len - cursor->ofs;
}

static void
cursor_advance(struct cursor *cursor, uint32_t n)
{
    cursor->ofs += n;
    if (cursor->ofs == cursor->seg->len) {
        cursor->seg++;
        cursor->ofs = 0;
    }
}

/* Moves 'cursor' on by 'n' bytes, which it has. */
static void
cursor_skip(struct cursor *cursor, uint32_t n)
{
    while (n) {
        uint32_t part = MIN(n, cursor_left(cursor));

        cursor_advance(cursor, part);
        n -= part;
    }
}

/* Copies up to 'n' bytes, as many as both have.  Returns how many. */
static uint32_t
cursor_copy(struct cursor *dst, struct cursor *src, uint32_t n)
{
    uint32_t done = 0;

    while (done < n) {
        uint32_t part = MIN(cursor_left(dst), cursor_left(src));

        part = MIN(part, n - done);
        if (!part) {
            break;
        }
        memcpy(dst->seg->va + dst->ofs, src->seg->va + src->ofs, part);
        cursor_advance(dst, part);
        cursor_advance(src, part);
        done += part;
    }
    return done;
}

/* Writes the first 'len' bytes of 'hdr' at the beginning of 'chain'. */
static void
write_header(const struct virtq_chain *chain, struct virtio_net_hdr *hdr,
             uint32_t len)
{
    struct virtq_seg seg = { .va = (uint8_t *) hdr, .len = len };
    struct cursor src = { .seg = &seg, .end = &seg + 1 };
    struct cursor dst;

    cursor_init(&dst, chain);
    cursor_copy(&dst, &src, len);
}

/* Copies the packet in 'in' into as many of the 'n_out' chains 'out' as it
 * takes, whatever their layout, and stores in 'lens' how many bytes went into
 * each.  Returns the number of chains, or 0 if these are not enough. */
static size_t
copy_chains(const struct virtq_chain *in, uint32_t in_hdr_len,
            const struct virtq_chain out[], size_t n_out,
            const struct header *out_hdr, uint32_t lens[])
{
    struct virtio_net_hdr hdr = { .flags = 0 };
    uint32_t left = in->size - in_hdr_len;
    struct cursor src;
    size_t n = 0;

    cursor_init(&src, in);
    cursor_skip(&src, in_hdr_len);
    while (left || !n) {
        uint32_t ofs = n ? 0 : out_hdr->len;
        struct cursor dst;

        if (n == (out_hdr->mergeable ? n_out : 1) || out[n].size <= ofs) {
            return 0;
        }
        cursor_init(&dst, &out[n]);
        cursor_skip(&dst, ofs);
        lens[n] = ofs + cursor_copy(&dst, &src, left);
        left -= lens[n] - ofs;
        n++;
    }
    hdr.num_buffers = virtio_cpu_to_le16(n);
    write_header(&out[0], &hdr, out_hdr->len);
    return n;
}

/* The same for the common case: header and packet are in one piece on either
 * side. */
static ALWAYS_INLINE inline size_t
copy_packet(const struct virtq_chain *in, uint32_t in_hdr_len,
            const struct virtq_chain out[], size_t n_out,
            const struct header *out_hdr, uint32_t lens[])
{
    uint32_t len = in->size - in_hdr_len;

    if (OVS_LIKELY(in->n_segs == 1 && n_out && out[0].n_segs == 1
                   && out[0].size >= VIRTIO_NET_HDR_LEN
                   && len <= out[0].size - out_hdr->len)) {
        struct virtio_net_hdr hdr = {
            .num_buffers = virtio_cpu_to_le16(1),
        };
        uint8_t *dst = out[0].segs[0].va;

        /* A header that is shorter is overwritten at its end. */
        memcpy(dst, &hdr, VIRTIO_NET_HDR_LEN);
        memcpy(dst + out_hdr->len, in->segs[0].va + in_hdr_len, len);
        lens[0] = out_hdr->len + len;
        return 1;
    }
    return copy_chains(in, in_hdr_len, out, n_out, out_hdr, lens);
}

/* Puts the packets in the 'n' chains 'in' into 'vq', as many as it has room
 * for at once: at most 'want' chains.  Returns how many packets that were,
 * those included that are not packets or do not fit into any chain; '*n_sent'
 * and '*n_bytes' increase by what was really sent. */
static size_t
send_some(struct virtq *vq, const struct virtq_chain in[], size_t n,
          uint32_t in_hdr_len, size_t want, uint64_t *n_sent,
          uint64_t *n_bytes)
{
    struct virtq_chain out[VIRTQ_MAX_BURST];
    uint32_t lens[VIRTQ_MAX_BURST];
    struct header out_hdr = header_of(vq);
    size_t n_out = virtq_take_avail(vq, out, want);
    size_t used = 0;
    size_t done;

    for (done = 0; done < n; done++) {
        size_t k;

        if (OVS_UNLIKELY(in[done].size <= in_hdr_len)) {
            continue;
        }
        k = copy_packet(&in[done], in_hdr_len, &out[used], n_out - used,
                        &out_hdr, &lens[used]);
        if (OVS_UNLIKELY(!k)) {
            if (used == n_out || (out_hdr.mergeable
                                  && out[used].size > out_hdr.len)) {
                break;
            }
            /* However often we try, this chain will be the next one. */
            lens[used++] = 0;
            continue;
        }
        used += k;
        *n_sent += 1;
        *n_bytes += in[done].size - in_hdr_len;
    }
    virtq_add_used_burst(vq, out, lens, used);
    if (OVS_UNLIKELY(used < n_out)) {
        virtq_put_back(vq, &out[used], n_out - used);
    }
    return done;
}

/* Sends what is in the 'n' chains 'in' to 'vq'.  What there is no room for is
 * dropped, like testpmd does when it forwards. */
static void
send_burst(struct virtq *vq, const struct virtq_chain in[], size_t n,
           uint32_t in_hdr_len, struct vhost_counters *counters)
{
    uint64_t n_sent = 0;
    uint64_t n_bytes = 0;
    size_t n_new, done;

    done = n_new = send_some(vq, in, n, in_hdr_len, n, &n_sent, &n_bytes);
    while (OVS_UNLIKELY(done < n && n_new)) {
        /* Packets may take more than one chain each. */
        n_new = send_some(vq, &in[done], n - done, in_hdr_len,
                          VIRTQ_MAX_BURST, &n_sent, &n_bytes);
        done += n_new;
    }
    virtq_publish_used(vq);
    virtq_call(vq);
    virtq_prefetch_next(vq);

    vhost_count(&counters->packets, n_sent);
    vhost_count(&counters->bytes, n_bytes);
    vhost_count(&counters->bursts, 1);
    if (OVS_UNLIKELY(n_sent < n)) {
        vhost_count(&counters->drops, n - n_sent);
    }
}

static size_t
bounce_move(const struct vhost_path *path, size_t burst,
            struct vhost_counters *counters, void **aux OVS_UNUSED)
{
    struct virtq *src = ovsrcu_get(struct virtq *, &path->src->vq);
    struct virtq_chain in[VIRTQ_MAX_BURST];
    struct virtq *dst;
    size_t n;

    if (!src || !virtq_has_avail(src)) {
        return 0;
    }
    src = vhu_vring_trylock(path->src);
    if (!src) {
        return 0;
    }

    n = virtq_take_avail(src, in, burst);
    dst = vhu_vring_trylock(path->dst);
    if (OVS_LIKELY(dst)) {
        send_burst(dst, in, n, header_of(src).len, counters);
        if (OVS_UNLIKELY(virtq_get_error(dst, NULL, NULL))) {
            vhu_dev_kick_control(path->dst_dev);
        }
        vhu_vring_unlock(path->dst);
    } else {
        vhost_count(&counters->drops, n);
    }
    virtq_add_used_burst(src, in, NULL, n);
    virtq_publish_used(src);
    virtq_call(src);
    virtq_prefetch_next(src);
    if (OVS_UNLIKELY(virtq_get_error(src, NULL, NULL))) {
        vhu_dev_kick_control(path->src_dev);
    }
    vhu_vring_unlock(path->src);
    return n;
}

int
vhost_bounce_main(int argc, char *argv[])
{
    struct vhost_loop_config config = { .move = bounce_move };

    vhost_loop_parse_options(argc, argv, "ovs-vhost bounce",
                             "a back-end that joins two guests, without a "
                             "switch", &config);
    return vhost_loop_run(&config) ? EXIT_FAILURE : EXIT_SUCCESS;
}
