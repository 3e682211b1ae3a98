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

#undef NDEBUG

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util.h"
#include "vhu-shm.h"
#include "virtio-spec.h"
#include "virtq-drv.h"

/* Fuzz target: the shared memory of a virtqueue that we drive
 * ===========================================================
 *
 * The first byte of the input says what kind of virtqueue it is.  The rest is
 * a list of actions of four bytes, of the device, which may write what it
 * likes, and of us, who must stay inside our buffers:
 *
 *     action, three arguments
 *
 * Built by "make fuzz-virtq-drv" for libFuzzer.  Without it, main() below
 * takes the names of inputs, or how many random ones to try. */

enum { SIZE = 8, BUF_SIZE = 80 };

enum action {
    DRIVE,                      /* A burst of ours. */
    USE,                        /* A used element, maybe a good one. */
    INDEX,                      /* The used index moves on. */
    HEADER,                     /* A buffer gets a 'num_buffers'. */
    SCRIBBLE,                   /* Any byte. */
    SUPPRESS,                   /* Event suppression of the device. */
    LIFE,                       /* Restart, resume, and the like. */
    N_ACTIONS
};

struct target {
    struct vhu_shm *shm;
    struct virtq_drv_config config;
    struct virtq_drv_counters counters;
    struct virtq_drv *vq;

    /* Our addresses of what the device writes. */
    uint8_t *desc, *device;
    uint16_t used_idx;          /* Split. */
    struct virtq_pos used;      /* Packed. */
};

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

/* Reads and writes all of 'packet', as the data path would. */
static void
touch(const struct target *t, const struct virtq_chain *packet)
{
    uint32_t size = 0;

    assert(packet->n_segs > 0 && packet->n_segs <= SIZE);
    for (int i = 0; i < packet->n_segs; i++) {
        const struct virtq_seg *seg = &packet->segs[i];

        assert(seg->len > 0 && seg->len <= BUF_SIZE);
        assert(seg->va >= t->shm->va + t->config.ofs + 16 * SIZE);
        assert(seg->va + seg->len <= t->shm->va + t->shm->size);
        for (uint32_t j = 0; j < seg->len; j++) {
            seg->va[j] ^= j;
        }
        size += seg->len;
    }
    assert(packet->size == size);
}

static void
drive(struct target *t, const uint8_t in[4])
{
    struct virtq_chain packets[VIRTQ_MAX_BURST];
    size_t max = 1 + in[1] % VIRTQ_MAX_BURST;
    uint32_t sizes[VIRTQ_MAX_BURST];
    size_t n;

    if (t->config.access == VIRTQ_DEVICE_WRITES) {
        n = virtq_drv_take_used(t->vq, packets, max);
    } else {
        for (size_t i = 0; i < max; i++) {
            sizes[i] = in[2] + i * in[3];
        }
        n = virtq_drv_reserve(t->vq, sizes, packets, max);
    }
    for (size_t i = 0; i < n; i++) {
        touch(t, &packets[i]);
    }
    if (t->config.access == VIRTQ_DEVICE_WRITES) {
        virtq_drv_refill(t->vq);
    }
    virtq_drv_publish_avail(t->vq);
    virtq_drv_kick(t->vq);
    virtq_drv_prefetch_next(t->vq);
    assert(virtq_drv_n_used(t->vq) <= SIZE);
    assert(virtq_drv_n_in_flight(t->vq) <= SIZE);
}

/* A used element with an ID, a length, and what belongs to it. */
static void
use(struct target *t, const uint8_t in[4])
{
    uint32_t id = in[1] & 0x80 ? in[1] * 0x1010101u : in[1] % SIZE;
    uint32_t len = in[2] & 0x80 ? in[2] * 0x1010101u : in[2];

    if (t->config.format == VIRTQ_SPLIT) {
        uint8_t *elem = t->device + 4 + 8 * (t->used_idx % SIZE);

        memcpy(elem, &id, 4);
        memcpy(elem + 4, &len, 4);
        t->used_idx++;
        if (in[3] & 1) {
            memcpy(t->device + 2, &t->used_idx, 2);
        }
    } else {
        uint8_t *desc = t->desc + 16 * t->used.idx;
        uint16_t flags = t->used.wrap ? 0x8080 : 0;

        memcpy(desc + 8, &len, 4);
        memcpy(desc + 12, &id, 2);
        memcpy(desc + 14, &flags, 2);
        t->used.idx += 1 + (in[3] & 3);
        if (t->used.idx >= SIZE) {
            t->used.idx -= SIZE;
            t->used.wrap = !t->used.wrap;
        }
    }
}

/* The device begins where the ring is. */
static void
start_device(struct target *t)
{
    struct virtq_pos avail;

    virtq_drv_get_base(t->vq, &avail, &t->used);
    t->used_idx = t->used.idx;
    assert(t->config.format == VIRTQ_SPLIT || t->used.idx < SIZE);
    assert(virtq_drv_check_base(t->vq, avail, t->used));
}

static void
live(struct target *t, const uint8_t in[4])
{
    const struct virtq_pos pos = { in[2] | (in[3] & 0x7f) << 8, in[3] >> 7 };
    struct virtq_drv_state state;

    switch (in[1] % 6) {
    case 0:
        virtq_drv_restart(t->vq);
        assert(!virtq_drv_get_error(t->vq, NULL, NULL));
        start_device(t);
        break;
    case 1:
        if (virtq_drv_resume(t->vq)) {
            start_device(t);
        }
        break;
    case 2:
        virtq_drv_enable_calls(t->vq, in[2] & 1);
        break;
    case 3:
        virtq_drv_check_base(t->vq, pos, pos);
        break;
    case 4:
        virtq_drv_get_state(t->vq, &state);
        assert(state.n_free_bufs <= SIZE);
        break;
    default:
        if (t->config.access == VIRTQ_DEVICE_READS) {
            virtq_drv_reclaim(t->vq);
        }
        break;
    }
}

static void
act(struct target *t, const uint8_t in[4])
{
    uint64_t ofs;

    switch (in[0] % N_ACTIONS) {
    case DRIVE:
        drive(t, in);
        break;
    case USE:
        use(t, in);
        break;
    case INDEX:
        t->used_idx += in[1] & 0x80 ? in[1] << 8 | in[2] : in[1] & 3;
        memcpy(t->device + 2, &t->used_idx, 2);
        break;
    case HEADER:
        /* Where the buffers are, is not told: they are at the end. */
        ofs = (uint64_t) (1 + in[1] % SIZE) * 192 - in[3] % 64;
        memcpy(t->shm->va + t->shm->size - ofs, &in[2], 1);
        break;
    case SCRIBBLE:
        ofs = (in[1] | in[2] << 8) % (t->shm->size - t->config.ofs);
        t->shm->va[t->config.ofs + ofs] = in[3];
        break;
    case SUPPRESS:
        memcpy(t->device + (t->config.format == VIRTQ_SPLIT && in[1] & 1
                            ? 4 + 8 * SIZE : 0), &in[2], 2);
        t->device[2] = (t->config.format == VIRTQ_SPLIT
                        ? t->device[2] : in[1] & 3);
        break;
    default:
        live(t, in);
        break;
    }
}

/* Makes the virtqueue that 'kind' says. */
static void
init(struct target *t, uint8_t kind)
{
    struct vhu_shm_config shm_config = { .name = "fuzz" };
    struct virtq_drv_areas areas;
    char *error;

    memset(t, 0, sizeof *t);
    t->config = (struct virtq_drv_config) {
        .format = kind & 1 ? VIRTQ_PACKED : VIRTQ_SPLIT,
        .access = kind & 2 ? VIRTQ_DEVICE_WRITES : VIRTQ_DEVICE_READS,
        .size = SIZE,
        .buf_size = BUF_SIZE,
        .features = (VIRTIO_BIT(VIRTIO_F_VERSION_1)
                     | (kind & 4 ? VIRTIO_BIT(VIRTIO_F_IN_ORDER) : 0)
                     | (kind & 8 ? VIRTIO_BIT(VIRTIO_F_EVENT_IDX) : 0)
                     | (kind & 16 ? VIRTIO_BIT(VIRTIO_F_INDIRECT_DESC) : 0)
                     | (kind & 32 ? VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF) : 0)),
        .kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
        .counters = &t->counters,
        .ofs = VIRTQ_DRV_ALIGN,
    };
    shm_config.size = t->config.ofs + virtq_drv_shm_size(&t->config);
    assert(!vhu_shm_create(&shm_config, &t->shm, &error));
    t->config.shm = t->shm;
    memset(t->shm->va, 0x55, t->config.ofs);
    assert(!virtq_drv_create(&t->config, &t->vq, &error));

    virtq_drv_get_areas(t->vq, &areas);
    t->desc = t->shm->va + (areas.desc_gpa - t->shm->guest_addr);
    t->device = t->shm->va + (areas.device_gpa - t->shm->guest_addr);
    start_device(t);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct target t;

    if (!size) {
        return 0;
    }
    init(&t, data[0]);
    for (size_t i = 1; i + 4 <= size && i < 4 * 256; i += 4) {
        act(&t, &data[i]);
    }

    /* Nothing outside the virtqueue has changed. */
    for (uint64_t i = 0; i < t.config.ofs; i++) {
        assert(t.shm->va[i] == 0x55);
    }
    virtq_drv_destroy(t.vq);
    vhu_shm_destroy(t.shm);
    close(t.config.kick_fd);
    return 0;
}

#ifndef VHU_LIBFUZZER
int
main(int argc, char *argv[])
{
    static uint8_t data[1024];
    size_t n;

    for (int i = 1; i < argc; i++) {
        FILE *stream = fopen(argv[i], "r");

        if (stream) {
            n = fread(data, 1, sizeof data, stream);
            fclose(stream);
            LLVMFuzzerTestOneInput(data, n);
            continue;
        }
        for (int seed = 0; seed < atoi(argv[i]); seed++) {
            srand(seed);
            n = 1 + rand() % sizeof data;
            for (size_t j = 0; j < n; j++) {
                data[j] = rand() >> 8;
            }
            LLVMFuzzerTestOneInput(data, n);
        }
    }
    return 0;
}
#endif
