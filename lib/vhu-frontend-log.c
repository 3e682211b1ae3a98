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

#include "vhu-frontend-impl.h"

#include <errno.h>

#include "util.h"
#include "vhu-shm.h"

/* Dirty log
 * =========
 *
 * A bitmap that the back-end shares with us: it sets the bit of each page of
 * guest memory that it writes to, with an atomic operation, after it has
 * written to the page; we take the bits with an atomic exchange, before the
 * page is read.  Which bits are in which byte follows from the addresses of
 * pages ("Migration"): that is a little-endian bitmap. */

/* Bytes of guest memory that a byte, and a word, of the log stands for. */
#define BYTE_COVERS (UINT64_C(8) * VHOST_LOG_PAGE)

static uint64_t *
words(const struct vhu_shm *shm)
{
    return ALIGNED_CAST(uint64_t *, shm->va);
}

static uint64_t
covered(const struct vhu_shm *shm)
{
    return shm ? shm->size * BYTE_COVERS : 0;
}

bool
vhu_fe_log_is_offered(const struct vhu_frontend *fe)
{
    return (vhu_fe_has_protocol(fe, VHOST_USER_PROTOCOL_F_LOG_SHMFD)
            && fe->info.offered & VIRTIO_BIT(VHOST_F_LOG_ALL));
}

/* Makes sure that there is a log that covers all of memory and as much as is
 * wanted: the one in use, or the one that will replace it.  Returns 0, or a
 * positive errno with a phrase in '*error'. */
int
vhu_fe_log_prepare(struct vhu_frontend *fe, char **error)
{
    uint64_t end = fe->shm ? fe->shm->guest_addr + fe->shm->size : 0;
    uint64_t size = MAX(end, fe->log.want_size);
    struct vhu_shm_config config = {
        .name = "dirty-log",
        .size = DIV_ROUND_UP(size, BYTE_COVERS),
    };

    vhu_fe_log_drop_next(fe);
    fe->log.want_size = size;
    return (covered(fe->log.shm) >= size
            ? 0
            : vhu_shm_create(&config, &fe->log.next, error));
}

/* The back-end uses the next log, if there is one.  What the old one says is
 * copied into it. */
void
vhu_fe_log_swap(struct vhu_frontend *fe)
{
    struct vhu_shm *old = fe->log.shm;

    if (!fe->log.next) {
        return;
    }
    for (uint64_t i = 0; old && i < MIN(old->size, fe->log.next->size) / 8;
         i++) {
        uint64_t bits = __atomic_load_n(&words(old)[i], __ATOMIC_ACQUIRE);

        if (bits) {
            __atomic_fetch_or(&words(fe->log.next)[i], bits,
                              __ATOMIC_RELAXED);
        }
    }
    vhu_shm_destroy(old);
    fe->log.shm = fe->log.next;
    fe->log.next = NULL;
}

void
vhu_fe_log_drop_next(struct vhu_frontend *fe)
{
    vhu_shm_destroy(fe->log.next);
    fe->log.next = NULL;
}

void
vhu_fe_log_uninit(struct vhu_frontend *fe)
{
    vhu_fe_log_drop_next(fe);
    vhu_shm_destroy(fe->log.shm);
    fe->log.shm = NULL;
}

int
vhu_frontend_log_start(struct vhu_frontend *fe, uint64_t size)
{
    if (fe->negotiated && !vhu_fe_log_is_offered(fe)) {
        return EOPNOTSUPP;
    }
    if (!fe->log.wanted && !fe->log.told) {
        vhu_fe_log_uninit(fe);
        fe->log.want_size = 0;
    }
    fe->log.wanted = true;
    fe->log.want_size = MAX(fe->log.want_size, size);
    return 0;
}

void
vhu_frontend_log_stop(struct vhu_frontend *fe)
{
    fe->log.wanted = false;
}

uint64_t
vhu_frontend_log_size(const struct vhu_frontend *fe)
{
    return covered(fe->log.shm);
}

/* Pairs with the back-end's atomic operation on the word: what it wrote to the
 * page before it set the bit is seen by whoever reads the page afterwards. */
size_t
vhu_frontend_log_harvest(struct vhu_frontend *fe,
                         void (*cb)(uint64_t guest_addr, void *aux),
                         void *aux)
{
    const struct vhu_shm *shm = fe->log.shm;
    size_t n = 0;

    for (uint64_t i = 0; shm && i < shm->size / 8; i++) {
        uint64_t *word = &words(shm)[i];
        uint64_t bits;

        if (!__atomic_load_n(word, __ATOMIC_RELAXED)) {
            continue;           /* Do not make the cache line ours. */
        }
        bits = __atomic_exchange_n(word, 0, __ATOMIC_ACQ_REL);
        bits = virtio_le64_to_cpu((OVS_FORCE virtio_le64) bits);
        for (; bits; bits = zero_rightmost_1bit(bits)) {
            uint64_t page = i * 64 + raw_ctz(bits);

            cb(page * VHOST_LOG_PAGE, aux);
            n++;
        }
    }
    return n;
}
