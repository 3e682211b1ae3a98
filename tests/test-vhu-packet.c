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

#include "dp-packet.h"
#include "ovs-thread.h"
#include "packets.h"
#include "random.h"
#include "util.h"
#include "vhutest.h"

/* Copying between packets and descriptor chains, without rings.
 *
 * The segments of a test chain lie one after the other in one block, with
 * GUARD bytes of PATTERN before, between and after them, which must never
 * change. */

enum { GUARD = 16, PATTERN = 0xa5, MAX_SEGS = 64 };

struct test_chain {
    struct virtq_chain up;
    struct virtq_seg segs[MAX_SEGS];
    uint8_t *block;
    size_t block_size;
};

/* Initializes 'chain' as one of 'n' segments with the lengths 'lens', of which
 * those that are 0 are left out. */
static void
chain_init(struct test_chain *chain, const size_t lens[], size_t n)
{
    size_t ofs = GUARD;

    memset(chain, 0, sizeof *chain);
    chain->block_size = GUARD;
    for (size_t i = 0; i < n; i++) {
        chain->block_size += lens[i] + GUARD;
    }
    chain->block = xmalloc(chain->block_size);
    memset(chain->block, PATTERN, chain->block_size);
    chain->up.segs = chain->segs;
    for (size_t i = 0; i < n; i++) {
        if (lens[i]) {
            chain->segs[chain->up.n_segs].va = chain->block + ofs;
            chain->segs[chain->up.n_segs++].len = lens[i];
            chain->up.size += lens[i];
            ofs += lens[i] + GUARD;
        }
    }
}

/* Frees 'chain' after it has checked that nothing was written outside its
 * segments. */
static void
chain_uninit(struct test_chain *chain)
{
    const uint8_t *p = chain->block;

    for (size_t i = 0; i <= chain->up.n_segs; i++) {
        const uint8_t *end = (i < chain->up.n_segs ? chain->segs[i].va
                              : chain->block + chain->block_size);

        for (; p < end; p++) {
            assert(*p == PATTERN);
        }
        p = i < chain->up.n_segs ? end + chain->segs[i].len : end;
    }
    free(chain->block);
}

/* Copies the 'n' bytes at 'data' into the segments of 'chain'. */
static void
chain_fill(struct test_chain *chain, const uint8_t *data, size_t n)
{
    for (size_t i = 0; n; i++) {
        size_t len = MIN(n, chain->segs[i].len);

        memcpy(chain->segs[i].va, data, len);
        data += len;
        n -= len;
    }
}

/* Copies what the segments of 'chain' hold to 'data'. */
static void
chain_dump(const struct test_chain *chain, uint8_t *data)
{
    for (size_t i = 0; i < chain->up.n_segs; i++) {
        memcpy(data, chain->segs[i].va, chain->segs[i].len);
        data += chain->segs[i].len;
    }
}

static void
random_fill(uint8_t *data, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        data[i] = random_uint8();
    }
}

/* Receives 'chain' and checks that the result is the 'n' bytes at 'data', or
 * no packet if 'data' is null. */
static void
check_recv(const struct test_chain *chain, size_t hdr_len,
           const uint8_t *data, size_t n)
{
    struct dp_packet_batch batch;
    size_t n_bad;

    dp_packet_batch_init(&batch);
    n_bad = vhu_packets_from_chains(&chain->up, 1, hdr_len, NULL, &batch);
    if (data) {
        assert(!n_bad && batch.count == 1);
        assert(dp_packet_size(batch.packets[0]) == n);
        assert(!memcmp(dp_packet_data(batch.packets[0]), data, n));
        assert(dp_packet_headroom(batch.packets[0]) >= VHU_PACKET_HEADROOM);
        assert(dp_packet_is_eth(batch.packets[0]));
    } else {
        assert(n_bad == 1 && !batch.count);
    }
    vhu_packets_recycle(&batch);
}

/* Receives header and packet split in every way that is possible within the
 * header, its end included; the packet, too, in 1 or 3 pieces. */
static size_t
check_header_splits(size_t hdr_len, size_t size)
{
    uint8_t data[VIRTIO_NET_HDR_LEN + 100];
    size_t n_splits = 0;

    for (unsigned int mask = 0; mask < 1u << hdr_len; mask++) {
        size_t lens[VIRTIO_NET_HDR_LEN + 3] = { 0 };
        struct test_chain chain;
        size_t n = 0;

        for (size_t i = 0; i < hdr_len; i++) {
            lens[n]++;
            n += mask >> i & 1;
        }
        if (mask & 2) {
            lens[n++] += 5;
            lens[n++] = 1;
            lens[n] = size - 6;
        } else {
            lens[n] += size;
        }
        chain_init(&chain, lens, n + 1);
        random_fill(data, hdr_len + size);
        chain_fill(&chain, data, hdr_len + size);
        check_recv(&chain, hdr_len, data + hdr_len, size);
        chain_uninit(&chain);
        n_splits++;
    }
    return n_splits;
}

static void
test_header_splits(void)
{
    printf("12 bytes: %"PRIuSIZE" splits\n",
           check_header_splits(VIRTIO_NET_HDR_LEN, 60));
    printf("10 bytes: %"PRIuSIZE" splits\n",
           check_header_splits(VIRTIO_NET_HDR_LEN_LEGACY, 73));
}

/* Chains that hold no packet, and the shortest and longest that do. */
static void
test_recv_sizes(void)
{
    static const struct {
        size_t size;            /* Of the chain, header included. */
        bool ok;
    } cases[] = {
        { 0, false },           /* Unusable. */
        { 1, false },
        { VIRTIO_NET_HDR_LEN - 1, false },
        { VIRTIO_NET_HDR_LEN, false },
        { VIRTIO_NET_HDR_LEN + 1, false },
        { VIRTIO_NET_HDR_LEN + ETH_HEADER_LEN - 1, false },
        { VIRTIO_NET_HDR_LEN + ETH_HEADER_LEN, true },
        { VIRTIO_NET_HDR_LEN + 1514, true },
        { VIRTIO_NET_HDR_LEN + 2048, true },
        { VIRTIO_NET_HDR_LEN + 2049, true },
        { VIRTIO_NET_HDR_LEN + 10240, true },
        { VIRTIO_NET_HDR_LEN + 10241, true },
        { VIRTIO_NET_HDR_LEN + VHU_MAX_PACKET_LEN - 64, true },
        { VIRTIO_NET_HDR_LEN + VHU_MAX_PACKET_LEN - 1, true },
        { VIRTIO_NET_HDR_LEN + VHU_MAX_PACKET_LEN, true },
        { VIRTIO_NET_HDR_LEN + VHU_MAX_PACKET_LEN + 1, false },
        { 65535, false },
        { 65536, false },
        { 65536 + VIRTIO_NET_HDR_LEN + 60, false },
    };
    uint8_t *data = xmalloc(1 << 17);

    random_fill(data, 1 << 17);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        size_t lens[2] = { cases[i].size / 2, cases[i].size
                                              - cases[i].size / 2 };

        for (size_t split = 0; split < 2; split++) {
            struct test_chain chain;

            chain_init(&chain, split ? lens : &cases[i].size, 1 + split);
            chain_fill(&chain, data, cases[i].size);
            check_recv(&chain, VIRTIO_NET_HDR_LEN,
                       cases[i].ok ? data + VIRTIO_NET_HDR_LEN : NULL,
                       cases[i].size - VIRTIO_NET_HDR_LEN);
            chain_uninit(&chain);
        }
    }

    /* The size of a chain may be anything: nothing is read. */
    check_recv(&(struct test_chain) {
                   .up = { .n_segs = 1, .size = UINT32_MAX },
               }, VIRTIO_NET_HDR_LEN, NULL, 0);
    free(data);
    printf("ok\n");
}

/* Returns a packet of 'size' random bytes. */
static struct dp_packet *
random_packet(size_t size)
{
    struct dp_packet *packet = vhu_packet_new(size);

    random_fill(dp_packet_data(packet), size);
    return packet;
}

/* Checks that the 'n' chains, used with 'used_len', hold 'packet' behind a
 * correct header. */
static void
check_sent(const struct dp_packet *packet, const struct test_chain chains[],
           const uint32_t used_len[], size_t n, const struct vhu_net_hdr *hdr)
{
    static const uint8_t zeros[VIRTIO_NET_HDR_LEN];
    size_t size = dp_packet_size(packet);
    uint8_t *data = xmalloc(size + hdr->len + (1 << 17));
    size_t total = 0;

    for (size_t i = 0; i < n; i++) {
        chain_dump(&chains[i], data + total);
        total += used_len[i];
        assert(used_len[i]);
        assert(used_len[i] == chains[i].up.size || i == n - 1);
    }
    assert(total == hdr->len + size);
    assert(!memcmp(data, zeros, 10));
    if (hdr->len == VIRTIO_NET_HDR_LEN) {
        assert(data[10] == n && data[11] == 0);
    }
    assert(!memcmp(data + hdr->len, dp_packet_data(packet), size));
    free(data);
}

/* Sends one packet of 'size' bytes into 'n_chains' chains, each of two
 * segments with the lengths 'len1' and 'len2'.  Returns 'fill'. */
static struct vhu_fill
send_one(size_t size, uint64_t features, size_t n_chains, size_t len1,
         size_t len2)
{
    struct vhu_net_hdr hdr = vhu_net_hdr_from_features(features);
    struct dp_packet *packet = random_packet(size);
    struct virtq_chain chains[VIRTQ_MAX_BURST];
    struct test_chain tests[VIRTQ_MAX_BURST];
    struct vhu_fill fill;

    for (size_t i = 0; i < n_chains; i++) {
        chain_init(&tests[i], (size_t[]) { len1, len2 }, 2);
        chains[i] = tests[i].up;
    }
    vhu_packets_to_chains(&packet, 1, chains, n_chains, &hdr, &fill);
    if (fill.n_packets && !fill.unfit) {
        check_sent(packet, tests, fill.used_len, fill.n_chains, &hdr);
    }
    for (size_t i = 0; i < n_chains; i++) {
        chain_uninit(&tests[i]);
    }
    dp_packet_delete(packet);
    return fill;
}

/* One packet into chains of one size, with and without mergeable buffers. */
static void
test_send(void)
{
    enum {
        LEGACY = 0,
        MERGE = 1 << VIRTIO_NET_F_MRG_RXBUF,
    };
    const uint64_t modern = VIRTIO_BIT(VIRTIO_F_VERSION_1);
    const struct {
        const char *name;
        uint64_t features;
        size_t size, n_chains, len1, len2;
        size_t n_packets, n_used;
        bool unfit;
    } cases[] = {
        /* Name            Features        Size  Chains      Result */
        { "fits",          LEGACY,          60, 1, 1524, 0,    1, 1, false },
        { "exact legacy",  LEGACY,        1514, 1, 1524, 0,    1, 1, false },
        { "1 too long",    LEGACY,        1515, 2, 1524, 0,    1, 0, true },
        { "exact modern",  modern,        1514, 1, 1526, 0,    1, 1, false },
        { "1 too long",    modern,        1515, 2, 1526, 0,    1, 0, true },
        { "own header",    modern,        1514, 1, 12, 1514,   1, 1, false },
        { "own, legacy",   LEGACY,        1514, 1, 10, 1514,   1, 1, false },
        { "split header",  modern,        1514, 1, 5, 1521,    1, 1, false },
        { "split packet",  modern,        1514, 1, 20, 1506,   1, 1, false },
        { "no chain",      modern,          60, 0, 0, 0,       0, 0, false },
        { "no header",     modern,          60, 2, 11, 0,      0, 2, false },
        { "only header",   modern,          60, 2, 12, 0,      1, 0, true },
        { "unusable",      modern,          60, 2, 0, 0,       0, 2, false },
        { "mergeable",     MERGE,           60, 2, 1524, 0,    1, 1, false },
        { "exact",         MERGE,         1512, 2, 1524, 0,    1, 1, false },
        { "two",           MERGE,         1513, 2, 1524, 0,    1, 2, false },
        { "exact two",     MERGE,         3036, 2, 1524, 0,    1, 2, false },
        { "too few",       MERGE,         3037, 2, 1524, 0,    0, 0, false },
        { "own header",    MERGE,         9000, 6, 12, 1524,   1, 6, false },
        { "many",          MERGE | modern, 9000, 64, 141, 0,   1, 64, false },
        { "never",         MERGE | modern, 9013, 64, 141, 0,   1, 0, true },
        { "header each",   MERGE,           60, 6, 12, 0,      1, 6, false },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct vhu_fill fill = send_one(cases[i].size, cases[i].features,
                                        cases[i].n_chains, cases[i].len1,
                                        cases[i].len2);

        if (fill.n_packets != cases[i].n_packets
            || fill.n_chains != cases[i].n_used
            || fill.unfit != cases[i].unfit) {
            printf("%s: packets %"PRIuSIZE", chains %"PRIuSIZE", unfit "
                   "%"PRIu64"\n", cases[i].name, fill.n_packets,
                   fill.n_chains, fill.unfit);
        }
        if (!fill.n_packets) {
            for (size_t j = 0; j < fill.n_chains; j++) {
                assert(!fill.used_len[j]);
            }
        }
    }
    printf("ok\n");
}

/* Chains that no packet can begin in are given back empty, also in the middle
 * of several for one packet. */
static void
test_send_unusable(void)
{
    static const size_t sizes[] = { 1000, 0, 1000, 11, 5, 1000, 1000, 0 };
    static const uint32_t used[] = { 0, 0, 0, 0, 0, 1000, 512, 0 };
    struct vhu_net_hdr hdr = { .len = 12, .mergeable = true };
    struct dp_packet *packet = random_packet(1500);
    struct virtq_chain chains[ARRAY_SIZE(sizes)];
    struct test_chain tests[ARRAY_SIZE(sizes)];
    struct vhu_fill fill;

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        chain_init(&tests[i], &sizes[i], 1);
        chains[i] = tests[i].up;
    }
    vhu_packets_to_chains(&packet, 1, chains, ARRAY_SIZE(chains), &hdr, &fill);
    assert(fill.n_packets == 1 && !fill.unfit && fill.n_chains == 7);
    assert(!memcmp(fill.used_len, used, 7 * sizeof *used));
    check_sent(packet, &tests[5], &fill.used_len[5], 2, &hdr);

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        chain_uninit(&tests[i]);
    }
    dp_packet_delete(packet);
    printf("ok\n");
}

/* Without mergeable buffers, a packet that is too long does not hold up those
 * behind it. */
static void
test_send_unfit(void)
{
    static const size_t sizes[] = { 100, 2000, 60, 1489, 1488 };
    struct vhu_net_hdr hdr = { .len = 12 };
    struct dp_packet *packets[ARRAY_SIZE(sizes)];
    struct virtq_chain chains[ARRAY_SIZE(sizes)];
    struct test_chain tests[ARRAY_SIZE(sizes)];
    struct vhu_fill fill;
    size_t size = 1500;

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        packets[i] = random_packet(sizes[i]);
        chain_init(&tests[i], &size, 1);
        chains[i] = tests[i].up;
    }
    vhu_packets_to_chains(packets, ARRAY_SIZE(packets), chains,
                          ARRAY_SIZE(chains), &hdr, &fill);
    assert(fill.n_packets == 5 && fill.unfit == 0xa && fill.n_chains == 3);
    check_sent(packets[0], &tests[0], &fill.used_len[0], 1, &hdr);
    check_sent(packets[2], &tests[1], &fill.used_len[1], 1, &hdr);
    check_sent(packets[4], &tests[2], &fill.used_len[2], 1, &hdr);

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        chain_uninit(&tests[i]);
        dp_packet_delete(packets[i]);
    }
    printf("ok\n");
}

/* Random packets into random chains, mergeable or not, and back out of them if
 * each took one chain. */
static void
check_random(const struct vhu_net_hdr *hdr)
{
    size_t n_packets = random_range(64) + 1;
    size_t n_chains = random_range(VIRTQ_MAX_BURST) + 1;
    struct dp_packet *packets[64];
    struct virtq_chain chains[VIRTQ_MAX_BURST];
    struct test_chain tests[VIRTQ_MAX_BURST];
    struct vhu_fill fill;
    size_t c = 0;

    for (size_t i = 0; i < n_packets; i++) {
        packets[i] = random_packet(14 + random_range(3000));
    }
    for (size_t i = 0; i < n_chains; i++) {
        size_t lens[8];
        size_t n = random_range(8) + 1;

        for (size_t j = 0; j < n; j++) {
            lens[j] = random_range(3) ? random_range(1500) : random_range(14);
        }
        chain_init(&tests[i], lens, n);
        chains[i] = tests[i].up;
    }

    vhu_packets_to_chains(packets, n_packets, chains, n_chains, hdr, &fill);
    assert(fill.n_packets <= n_packets && fill.n_chains <= n_chains);
    for (size_t i = 0; i < fill.n_packets; i++) {
        size_t total = hdr->len + dp_packet_size(packets[i]);
        size_t n = 0;

        if (fill.unfit >> i & 1) {
            assert(!hdr->mergeable || n_chains == VIRTQ_MAX_BURST);
            continue;
        }
        while (!fill.used_len[c]) {
            c++;
        }
        for (size_t left = total; left; n++) {
            left -= fill.used_len[c + n];
        }
        assert(hdr->mergeable || n == 1);
        check_sent(packets[i], &tests[c], &fill.used_len[c], n, hdr);
        c += n;
    }
    while (c < fill.n_chains && !fill.used_len[c]) {
        c++;
    }
    assert(c == fill.n_chains);

    for (size_t i = 0; i < n_chains; i++) {
        chain_uninit(&tests[i]);
    }
    for (size_t i = 0; i < n_packets; i++) {
        dp_packet_delete(packets[i]);
    }
}

static void
test_random(void)
{
    random_set_seed(1);
    for (size_t i = 0; i < 3000; i++) {
        struct vhu_net_hdr hdr = {
            .len = i % 3 ? VIRTIO_NET_HDR_LEN : VIRTIO_NET_HDR_LEN_LEGACY,
            .mergeable = i % 3 == 1,
        };

        check_random(&hdr);
    }
    printf("ok\n");
}

/* A packet that comes back is received into again, and nothing is left of what
 * it was. */
static void
test_recycle(void)
{
    static const size_t sizes[] = { 60, 9000, 20000 };

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct dp_packet *packet = vhu_packet_new(sizes[i]);
        struct dp_packet_batch batch;
        struct dp_packet *again;
        const void *data = dp_packet_data(packet);

        assert(!((uintptr_t) data % CACHE_LINE_SIZE));
        dp_packet_set_rss_hash(packet, 42);
        dp_packet_set_flow_mark(packet, 43);
        dp_packet_set_cutlen(packet, 20);
        dp_packet_push_zeros(packet, 14);
        dp_packet_set_l3(packet, dp_packet_data(packet));
        packet->packet_type = htonl(PT_NSH);

        dp_packet_batch_init_packet(&batch, packet);
        vhu_packets_recycle(&batch);
        assert(dp_packet_batch_is_empty(&batch));

        again = vhu_packet_new(sizes[i] + 1);
        if (sizes[i] < 10000) {
            assert(again == packet);
        }
        assert(dp_packet_size(again) == sizes[i] + 1);
        assert(dp_packet_headroom(again) >= VHU_PACKET_HEADROOM);
        assert(!dp_packet_rss_valid(again));
        assert(!dp_packet_has_flow_mark(again, &(uint32_t) { 0 }));
        assert(!dp_packet_get_cutlen(again));
        assert(!dp_packet_l3(again));
        assert(dp_packet_is_eth(again));
        dp_packet_delete(again);
    }
    printf("ok\n");
}

/* A packet whose buffer was replaced, because it got a long header, is not
 * kept, and its buffers are freed; the data is what it was. */
static void
test_reallocated(void)
{
    for (size_t size = 60; size < 30000; size += 9000) {
        struct dp_packet *packet = vhu_packet_new(size);
        size_t allocated = dp_packet_get_allocated(packet);
        struct dp_packet *clone;
        struct dp_packet_batch batch;

        memset(dp_packet_data(packet), 'a', size);
        clone = dp_packet_clone(packet);
        memset(dp_packet_push_uninit(packet, 512), 'b', 512);
        assert(dp_packet_size(packet) == size + 512);
        assert(!memcmp((char *) dp_packet_data(packet) + 512,
                       dp_packet_data(clone), size));
        assert(dp_packet_headroom(packet) + 512 >= VHU_PACKET_HEADROOM);

        dp_packet_batch_init_packet(&batch, packet);
        dp_packet_batch_add(&batch, clone);
        vhu_packets_recycle(&batch);
        clone = vhu_packet_new(size);
        assert(dp_packet_get_allocated(clone) == allocated);
        dp_packet_delete(clone);
    }
    printf("ok\n");
}

/* Packets from elsewhere, and more of them than a thread keeps, are freed. */
static void *
recycle_many(void *aux OVS_UNUSED)
{
    for (size_t round = 0; round < 3; round++) {
        struct dp_packet *packets[1000];
        struct dp_packet_batch batch;

        for (size_t i = 0; i < ARRAY_SIZE(packets); i++) {
            packets[i] = (i % 4 == 0 ? dp_packet_new(2048 + 100 * (i % 5))
                          : i % 4 == 1 ? dp_packet_clone(packets[i - 1])
                          : i % 4 == 2 ? random_packet(10000)
                          : random_packet(100));
            if (i % 16 == 3) {
                dp_packet_prealloc_headroom(packets[i], 300);
            }
        }
        for (size_t i = 0; i < ARRAY_SIZE(packets); i++) {
            dp_packet_batch_init_packet(&batch, packets[i]);
            vhu_packets_recycle(&batch);
        }
    }
    return NULL;
}

static void
test_recycle_many(void)
{
    pthread_t threads[4];

    /* What a thread has kept is freed when it exits. */
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        threads[i] = ovs_thread_create("recycle", recycle_many, NULL);
    }
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        xpthread_join(threads[i], NULL);
    }
    recycle_many(NULL);
    printf("ok\n");
}

static void
test_vhu_packet_main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {
        { "header-splits", test_header_splits },
        { "recv-sizes", test_recv_sizes },
        { "send", test_send },
        { "send-unusable", test_send_unusable },
        { "send-unfit", test_send_unfit },
        { "random", test_random },
        { "recycle", test_recycle },
        { "reallocated", test_reallocated },
        { "recycle-many", test_recycle_many },
    };

    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc == 2 && !strcmp(argv[1], tests[i].name)) {
            tests[i].run();
            return;
        }
    }
    ovs_fatal(0, "usage: vhutest packet TEST");
}

VHUTEST_REGISTER("packet", test_vhu_packet_main);
