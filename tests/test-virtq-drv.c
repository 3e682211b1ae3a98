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

/* Driver side of virtqueues: packets in both directions, against a device that
 * does what the specification says, in each combination of features. */

#include <config.h>

#include "virtq-drv-fixture.h"
#include "vhutest.h"

static const struct variant {
    const char *name;
    uint64_t features;
} variants[] = {
    { "split legacy", 0 },
    { "split", V1 },
    { "split event index", V1 | EVENT_IDX },
    { "split indirect", V1 | INDIRECT },
    { "split mergeable", V1 | MERGEABLE },
    { "split in order", V1 | IN_ORDER },
    { "split in order, all",
      V1 | IN_ORDER | EVENT_IDX | INDIRECT | MERGEABLE },
    { "split all", V1 | EVENT_IDX | INDIRECT | MERGEABLE },
    { "packed", PACKED },
    { "packed event index", PACKED | EVENT_IDX },
    { "packed indirect", PACKED | INDIRECT },
    { "packed mergeable", PACKED | MERGEABLE },
    { "packed in order", PACKED | IN_ORDER },
    { "packed in order, all",
      PACKED | IN_ORDER | EVENT_IDX | INDIRECT | MERGEABLE },
    { "packed all", PACKED | EVENT_IDX | INDIRECT | MERGEABLE },
};

/* Sizes of the ring and of the buffers.  The odd ones are for the packed
 * format. */
static const struct {
    uint32_t size;
    uint32_t buf_size;
} sizes[] = {
    { 1, 300 }, { 2, 64 }, { 3, 64 }, { 4, 16 }, { 5, 100 }, { 8, 64 },
    { 7, 1500 }, { 16, 33 }, { 64, 100 }, { 100, 64 }, { 256, 1526 },
};

static uint32_t seed = 1;

/* Chains that the device has taken and not used, and what is in them. */
struct held {
    struct mock_avail avail;
};

struct run {
    struct drv_fixture f;
    struct held *held;          /* 'size' of them. */
    uint32_t n_held;
    uint32_t *packet_sizes;     /* By number, modulo LOG. */
    uint32_t n_sent;            /* Packets. */
    uint32_t n_received;
};

#define LOG 65536

static void
run_init(struct run *r, uint64_t features, enum virtq_access access,
         uint32_t size, uint32_t buf_size)
{
    memset(r, 0, sizeof *r);
    drv_fixture_init(&r->f, size, features, access, buf_size);
    r->held = xcalloc(size, sizeof *r->held);
    r->packet_sizes = xcalloc(LOG, sizeof *r->packet_sizes);
}

static void
run_uninit(struct run *r)
{
    for (uint32_t i = 0; i < r->n_held; i++) {
        free(r->held[i].avail.bufs);
    }
    free(r->held);
    free(r->packet_sizes);
    CHECK_EQ(virtq_drv_get_error(r->f.vq, NULL, NULL), VIRTQ_DRV_ERROR_NONE);
    CHECK_EQ(r->f.counters.bad_packets, 0);
    drv_fixture_uninit(&r->f);
}

/* Returns the size of a packet: short ones, those around the size of a buffer,
 * and long ones. */
static uint32_t
random_size(const struct run *r, uint32_t min, uint32_t max)
{
    uint32_t edge = r->f.config.buf_size + 2 - mock_random(&seed, 4);
    uint32_t long_size = min + mock_random(&seed, max - min + 1);
    uint32_t short_size = min + mock_random(&seed, 64);
    uint32_t choice = mock_random(&seed, 4);
    uint32_t size = (choice == 0 ? edge
                     : choice == 1 && long_size < 20000 ? long_size
                     : short_size);

    return MAX(min, MIN(size, max));
}

/* Forgets the first 'n' of the held chains. */
static void
release(struct run *r, uint32_t first, uint32_t n)
{
    for (uint32_t i = first; i < first + n; i++) {
        free(r->held[i].avail.bufs);
    }
    r->n_held -= n;
    memmove(&r->held[first], &r->held[first + n],
            (r->n_held - first) * sizeof *r->held);
}

/* The device takes up to 'n' chains. */
static uint32_t
take(struct run *r, uint32_t n)
{
    uint32_t i;

    for (i = 0; i < n; i++) {
        struct mock_avail avail;

        if (!mock_device_take(&r->f.dev, &avail)) {
            break;
        }
        CHECK(r->n_held < r->f.config.size);
        r->held[r->n_held++].avail = avail;
    }
    return i;
}

/* Transmitq. */

static void
transmit_some(struct run *r)
{
    uint32_t max = virtq_drv_get_max_packet(r->f.vq);
    uint32_t n = mock_random(&seed, 5);

    for (uint32_t i = 0; i < n; i++) {
        uint32_t size = random_size(r, 1, max);

        if (!drv_fixture_add(&r->f, r->n_sent, size)) {
            break;
        }
        r->packet_sizes[r->n_sent++ % LOG] = size;
    }
    virtq_drv_publish_avail(r->f.vq);
    virtq_drv_kick(r->f.vq);
}

/* The device takes packets, which must come in order, and uses some. */
static void
device_transmits(struct run *r)
{
    uint32_t before = r->n_held;
    uint32_t n = take(r, mock_random(&seed, 8));

    for (uint32_t i = before; i < before + n; i++) {
        drv_fixture_check_avail(&r->f, &r->held[i].avail, r->n_received,
                                r->packet_sizes[r->n_received % LOG]);
        r->n_received++;
    }

    n = mock_random(&seed, r->n_held + 1);
    if (r->f.dev.in_order) {
        /* In batches. */
        while (n) {
            struct mock_avail avails[256];
            uint32_t n_batch = 1 + mock_random(&seed, n);

            for (uint32_t i = 0; i < n_batch; i++) {
                avails[i] = r->held[i].avail;
            }
            mock_device_use_batch(&r->f.dev, avails, n_batch,
                                  mock_random(&seed, 2));
            release(r, 0, n_batch);
            n -= n_batch;
        }
    } else {
        while (n--) {
            uint32_t i = mock_random(&seed, r->n_held);

            mock_device_use(&r->f.dev, &r->held[i].avail,
                            mock_random(&seed, 2));
            release(r, i, 1);
        }
    }
    mock_device_publish(&r->f.dev);
}

static void
transmit(const struct variant *v, uint32_t size, uint32_t buf_size,
         uint32_t n_packets)
{
    struct run r;

    run_init(&r, v->features, VIRTQ_DEVICE_READS, size, buf_size);
    while (r.n_received < n_packets) {
        transmit_some(&r);
        device_transmits(&r);
        if (!mock_random(&seed, 4)) {
            virtq_drv_reclaim(r.f.vq);
        }
        CHECK(virtq_drv_n_in_flight(r.f.vq)
              >= r.n_held + (r.n_sent - r.n_received));
    }

    /* Everything comes back. */
    while (r.n_received < r.n_sent || r.n_held) {
        device_transmits(&r);
    }
    virtq_drv_reclaim(r.f.vq);
    CHECK_EQ(virtq_drv_n_in_flight(r.f.vq), 0);
    CHECK(!virtq_drv_has_used(r.f.vq));

    if (v->features & INDIRECT && !(v->features & IN_ORDER)
        && virtq_drv_get_max_packet(r.f.vq) > buf_size) {
        CHECK(r.f.dev.n_tables > 0);
    }
    run_uninit(&r);
}

/* Receiveq. */

/* Writes the bytes of packet number 'seq', of 'size' bytes, into 'data'. */
static void
make_packet(const struct run *r, uint8_t *data, uint32_t seq, uint32_t size,
            uint16_t num_buffers)
{
    for (uint32_t i = 0; i < size; i++) {
        data[i] = drv_fixture_byte(seq, i);
    }
    if (r->f.config.features & MERGEABLE) {
        data[10] = num_buffers & 0xff;
        data[11] = num_buffers >> 8;
    }
}

/* The device uses a packet's buffers: with VIRTIO_F_IN_ORDER as one batch at
 * times, since all but the last are full. */
static void
use_packet(struct run *r, const uint8_t *data, uint32_t size, uint32_t n_bufs)
{
    bool batch = r->f.dev.in_order && mock_random(&seed, 2);
    uint32_t buf_size = r->f.config.buf_size;
    struct mock_avail avails[256];

    for (uint32_t i = 0; i < n_bufs; i++) {
        uint32_t len = MIN(size, buf_size);
        uint32_t j = r->f.dev.in_order ? 0 : mock_random(&seed, r->n_held);

        avails[i] = r->held[j].avail;
        CHECK_EQ(avails[i].size, buf_size);
        mock_device_write(&r->f.dev, &avails[i], data + i * buf_size, len);
        if (!batch) {
            mock_device_use(&r->f.dev, &avails[i], len);
        } else if (i == n_bufs - 1) {
            mock_device_use_batch(&r->f.dev, avails, n_bufs, len);
        }
        avails[i].bufs = NULL;
        release(r, j, 1);
        size -= len;
    }
}

static void
device_receives(struct run *r)
{
    uint32_t n = mock_random(&seed, 8);

    take(r, r->f.config.size);
    while (n-- && r->n_held) {
        uint32_t hdr_len = virtq_drv_get_hdr_len(r->f.vq);
        uint32_t size = random_size(r, hdr_len + 1,
                                    virtq_drv_get_max_packet(r->f.vq));
        uint32_t n_bufs = DIV_ROUND_UP(size, r->f.config.buf_size);
        uint8_t *data;

        if (n_bufs > r->n_held) {
            break;
        }
        data = xmalloc(size);
        make_packet(r, data, r->n_sent, size, n_bufs);
        use_packet(r, data, size, n_bufs);
        r->packet_sizes[r->n_sent++ % LOG] = size;
        free(data);
    }
    mock_device_publish(&r->f.dev);
}

static void
check_received(struct run *r, const struct virtq_chain *packet)
{
    uint32_t size = r->packet_sizes[r->n_received % LOG];
    uint32_t buf_size = r->f.config.buf_size;
    uint8_t *data = xmalloc(size);
    uint32_t ofs = 0;

    drv_fixture_check_packet(&r->f, packet);
    CHECK_EQ(packet->size, size);
    CHECK_EQ(packet->n_segs, DIV_ROUND_UP(size, buf_size));
    make_packet(r, data, r->n_received, size, packet->n_segs);
    for (int i = 0; i < packet->n_segs; i++) {
        CHECK(!memcmp(packet->segs[i].va, data + ofs, packet->segs[i].len));
        ofs += packet->segs[i].len;
    }
    r->n_received++;
    free(data);
}

static void
receive_some(struct run *r)
{
    struct virtq_chain packets[VIRTQ_MAX_BURST];
    size_t n = virtq_drv_take_used(r->f.vq, packets,
                                   1 + mock_random(&seed, VIRTQ_MAX_BURST));

    for (size_t i = 0; i < n; i++) {
        check_received(r, &packets[i]);
    }
    virtq_drv_refill(r->f.vq);
    virtq_drv_publish_avail(r->f.vq);
    virtq_drv_kick(r->f.vq);
}

static void
receive(const struct variant *v, uint32_t size, uint32_t buf_size,
        uint32_t n_packets)
{
    struct run r;

    run_init(&r, v->features, VIRTQ_DEVICE_WRITES, size, buf_size);
    while (r.n_received < n_packets) {
        device_receives(&r);
        CHECK_EQ(virtq_drv_has_used(r.f.vq), r.n_received < r.n_sent);
        receive_some(&r);
    }
    while (r.n_received < r.n_sent) {
        receive_some(&r);
    }
    CHECK_EQ(virtq_drv_n_in_flight(r.f.vq), size);
    run_uninit(&r);
}

static void
for_each_variant(void (*function)(const struct variant *, uint32_t size,
                                  uint32_t buf_size, uint32_t n_packets))
{
    for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
        bool packed = variants[i].features & VIRTIO_BIT(VIRTIO_F_RING_PACKED);

        check_name = variants[i].name;
        for (size_t j = 0; j < ARRAY_SIZE(sizes); j++) {
            if (packed || is_pow2(sizes[j].size)) {
                function(&variants[i], sizes[j].size, sizes[j].buf_size,
                         sizes[j].buf_size < 1000 ? 3000 : 1000);
            }
        }

        /* The indices of a split ring wrap around. */
        function(&variants[i], 4, 40, 70000);
    }
}

/* The largest and smallest rings: all buffers at once, twice. */
static void
test_extremes(void)
{
    static const struct {
        const char *name;
        uint64_t features;
        uint32_t size;
    } cases[] = {
        { "split 32768", V1, 32768 },
        { "split 32768 in order", V1 | IN_ORDER, 32768 },
        { "split 1", V1, 1 },
        { "packed 32768", PACKED, 32768 },
        { "packed 32767", PACKED, 32767 },
        { "packed 32768 in order", PACKED | IN_ORDER, 32768 },
        { "packed 1", PACKED, 1 },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct run r;

        check_name = cases[i].name;
        run_init(&r, cases[i].features, VIRTQ_DEVICE_READS, cases[i].size, 16);
        for (int round = 0; round < 5; round++) {
            while (drv_fixture_add(&r.f, r.n_sent, 13)) {
                r.n_sent++;
            }
            CHECK_EQ(r.n_sent, cases[i].size * (round + 1));
            virtq_drv_publish_avail(r.f.vq);
            CHECK_EQ(take(&r, UINT16_MAX), cases[i].size);
            for (uint32_t j = 0; j < r.n_held; j++) {
                drv_fixture_check_avail(&r.f, &r.held[j].avail,
                                        r.n_received++, 13);
                mock_device_use(&r.f.dev, &r.held[j].avail, 0);
            }
            release(&r, 0, r.n_held);
            mock_device_publish(&r.f.dev);
        }
        CHECK_EQ(virtq_drv_reclaim(r.f.vq), cases[i].size);
        run_uninit(&r);
    }
}

static void
test_virtq_drv_main(int argc, char *argv[])
{
    const char *name = argc > 1 ? argv[1] : "";

    if (!strcmp(name, "transmit")) {
        for_each_variant(transmit);
    } else if (!strcmp(name, "receive")) {
        for_each_variant(receive);
    } else if (!strcmp(name, "extremes")) {
        test_extremes();
    } else {
        ovs_fatal(0, "no test \"%s\"", name);
    }
}

VHUTEST_REGISTER("virtq-drv", test_virtq_drv_main);
