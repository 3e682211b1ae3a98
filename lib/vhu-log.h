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

#ifndef VHU_LOG_H
#define VHU_LOG_H 1

/* Dirty log
 * =========
 *
 * A bitmap in a file that a front-end shares with us while it migrates the
 * guest: a bit for each page of guest memory that we write to (vhost-user,
 * "Migration").  The front-end takes the bits out with an atomic exchange and
 * then copies the pages.
 *
 *
 * Order
 * -----
 *
 * Page first, then bit: were the bit first, the front-end could take it, copy
 * the old page, and never come back.
 *
 * Most writes find the bit of their page set already.  To see that, and leave
 * the cache line alone, is only right if the front-end has yet to take that
 * bit when the page has been written; so there must be a full fence between
 * the write to the page and vhu_log_write(), which pairs with the front-end's
 * exchange.  One fence serves any number of writes.
 *
 * What is published to the driver must have its bits before that.
 *
 *
 * Trust
 * -----
 *
 * Size and offset come from the peer, see vhu_log_create().  A write outside
 * the log sets no bit; nothing that we write is there, because
 * vhu_log_covers() was asked of all memory before.
 *
 *
 * Threads
 * -------
 *
 * Any thread may set bits at any time.  All else belongs to the thread that
 * owns the device. */

#include <stdbool.h>
#include <stdint.h>

#include "openvswitch/compiler.h"
#include "util.h"
#include "vhost-user-spec.h"
#include "vhu-map.h"
#include "virtio-barrier.h"

/* Most bytes in a log: there are no guest addresses of more than 52 bits. */
#define VHU_LOG_MAX_SIZE ((UINT64_C(1) << 52) / VHOST_LOG_PAGE / 8)

/* Constant, but for the bits. */
struct vhu_log {
    uint64_t *words;            /* Little-endian, aligned. */
    uint64_t first_bit;         /* Of page 0, in '*words': the log may begin in
                                 * the middle of a word. */
    uint64_t n_pages;           /* Pages that have a bit. */
    struct vhu_map_health *health;
    struct vhu_mapping *mapping;
};

/* Maps the log of 'size' bytes at 'offset' of file 'fd', which stays the
 * caller's, and stores it in '*logp'.
 *
 * Returns 0, or a positive errno with a newly allocated phrase in '*error'.
 * EINVAL: the size is 0 or absurd, or the file smaller than that; EBADF: it is
 * not a file that can be mapped. */
int vhu_log_create(int fd, uint64_t offset, uint64_t size,
                   struct vhu_log **logp, char **error);

/* Unmaps and frees 'log', which may be NULL.  No thread may be using it. */
void vhu_log_destroy(struct vhu_log *log);

/* Returns true if all pages of the 'size' > 0 bytes at guest address 'gpa'
 * have a bit. */
bool vhu_log_covers(const struct vhu_log *log, uint64_t gpa, uint64_t size);

/* Returns the number of bytes of guest memory that 'log' is for. */
uint64_t vhu_log_extent(const struct vhu_log *log);

/* Returns true if the memory of 'log' has vanished: the front-end does not see
 * what we write into it. */
static inline bool
vhu_log_is_dead(const struct vhu_log *log)
{
    return vhu_map_is_dead(log->health);
}

/* Sets the bits of all pages of the 'len' bytes at guest address 'gpa', which
 * have been written, with a full fence since.  If 'len' is 0, does nothing. */
static inline void
vhu_log_write(const struct vhu_log *log, uint64_t gpa, uint64_t len)
{
    uint64_t page = gpa / VHOST_LOG_PAGE;
    uint64_t end = (len
                    ? MIN((gpa + len - 1) / VHOST_LOG_PAGE + 1, log->n_pages)
                    : 0);

    while (page < end) {
        uint64_t bit = page + log->first_bit;
        uint64_t n = MIN(64 - bit % 64, end - page);
        uint64_t mask = (UINT64_MAX >> (64 - n)) << bit % 64;
        uint64_t *word = &log->words[bit / 64];

        mask = (OVS_FORCE uint64_t) virtio_cpu_to_le64(mask);

        /* ThreadSanitizer does not know what the fence is for.  (Nor is it a
         * place to get SIGBUS in; the load is.) */
        if (mask & ~__atomic_load_n(word, __ATOMIC_RELAXED) || VIRTIO_TSAN) {
            /* Pairs with the front-end's exchange: whoever sees the bit sees
             * the page. */
            __atomic_fetch_or(word, mask, __ATOMIC_RELEASE);
        }
        page += n;
    }
}

#endif /* vhu-log.h */
