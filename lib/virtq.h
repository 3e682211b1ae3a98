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

#ifndef VIRTQ_H
#define VIRTQ_H 1

/* Virtqueues, device side
 * =======================
 *
 * A virtqueue carries buffers between a driver, usually in a guest, and a
 * device, which is us.  The driver makes buffers available, we use them and
 * give them back.  Two formats exist, split and packed; this header is the
 * same for both.
 *
 *
 * Life cycle
 * ----------
 *
 * The protocol code collects the configuration of a virtqueue in a "struct
 * vhu_vring".  When it is complete, virtq_create() checks it as a whole and
 * returns a running virtqueue, or an error.  A "struct virtq" therefore never
 * has a part that is not set yet.
 *
 *
 * Use
 * ---
 *
 *    n = virtq_take_avail(vq, chains, VIRTQ_MAX_BURST);
 *    for (i = 0; i < n; i++) {
 *        ...read or write chains[i].segs...
 *        virtq_add_used(vq, &chains[i], n_bytes_written);
 *    }
 *    virtq_publish_used(vq);
 *    virtq_call(vq);
 *    virtq_prefetch_next(vq);
 *
 * Nothing is visible to the driver before virtq_publish_used().  Chains that
 * turn out not to be needed go back with virtq_put_back(), last taken first.
 * Each chain that is taken is either given to virtq_add_used(), in the order
 * in which it was taken, or put back, before the next virtq_take_avail().
 *
 *
 * Dirty log
 * ---------
 *
 * While a guest migrates, its front-end must be told of each page that we
 * write to.  What is written into a chain is the first 'len' bytes of it, of
 * which virtq_add_used() is told, and everything else is written by these
 * functions; so the users of a virtqueue need not know of the log, as long as
 * they write into no chain but those they are going to use, and have done so
 * before virtq_add_used().  The bits are in the log before
 * virtq_publish_used() shows anything to the driver.
 *
 *
 * Threads
 * -------
 *
 * All functions but virtq_has_avail() and virtq_n_avail() require the lock of
 * the vring, which the caller takes for one burst.
 *
 *
 * Trust
 * -----
 *
 * The driver may write anything, at any time, into the memory it shares with
 * us.  These functions read each field once and check what they read.  If the
 * ring makes no sense they mark the virtqueue broken; from then on it looks
 * empty, and nothing of it is read or written.  A single chain that cannot be
 * used (one with a buffer of the wrong direction, one without a byte, or one
 * that is longer than any packet) has no segments: it is taken all the same,
 * so that it can be given back with length 0.  Of a device-writable chain that
 * is longer than any packet, only the beginning is returned. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "openvswitch/compiler.h"
#include "virtio-barrier.h"
#include "virtio-spec.h"

struct vhu_log;
struct vhu_mem;

/* Most chains that one virtq_take_avail() returns. */
#define VIRTQ_MAX_BURST 64

enum virtq_format {
    VIRTQ_SPLIT,
    VIRTQ_PACKED,
};

/* Which buffers a virtqueue carries: a descriptor of the other direction makes
 * its chain unusable. */
enum virtq_access {
    VIRTQ_DEVICE_READS,         /* Device-readable: transmitq. */
    VIRTQ_DEVICE_WRITES,        /* Device-writable: receiveq. */
};

/* A contiguous piece of a buffer, in our address space. */
struct virtq_seg {
    uint8_t *va;
    uint32_t len;               /* Bytes, not 0. */
};

/* A descriptor chain. */
struct virtq_chain {
    struct virtq_seg *segs;     /* Valid until the next virtq_take_avail(). */
    uint32_t size;              /* Bytes in all the segments. */
    uint16_t n_segs;            /* 0 if the chain is unusable. */
    uint16_t id;                /* Head index (split) or buffer ID (packed). */
    uint16_t n_descs;           /* Ring slots that it takes (packed). */
};

/* What made a virtqueue broken. */
#define VIRTQ_ERRORS                                                    \
    /* The virtqueue works. */                                          \
    VIRTQ_ERROR(NONE, "none")                                           \
    /* The available index moved by 'value', more than 'limit'. */      \
    VIRTQ_ERROR(AVAIL_INDEX, "available index moved too far")           \
    /* Descriptor index 'value' is not below 'limit'. */                \
    VIRTQ_ERROR(DESC_INDEX, "descriptor index out of range")            \
    /* A chain is longer than 'limit', or loops. */                     \
    VIRTQ_ERROR(CHAIN_LENGTH, "descriptor chain too long or a loop")    \
    /* An indirect table has a bad size of 'value' bytes. */            \
    VIRTQ_ERROR(INDIRECT, "bad indirect descriptor")                    \
    /* A buffer at guest address 'value' is outside memory. */          \
    VIRTQ_ERROR(ADDRESS, "buffer address outside guest memory")         \
    /* The call eventfd blocked a write. */                             \
    VIRTQ_ERROR(CALL_BLOCKED, "call eventfd blocks")

enum virtq_error {
#define VIRTQ_ERROR(NAME, TEXT) VIRTQ_ERROR_##NAME,
    VIRTQ_ERRORS
#undef VIRTQ_ERROR
};

/* Returns "available index moved too far" for VIRTQ_ERROR_AVAIL_INDEX. */
const char *virtq_error_to_string(enum virtq_error);

/* Counters of one vring, which outlive its virtqueue.  Written under the lock
 * of the vring; read by others without it (as relaxed atomics). */
struct virtq_counters {
    uint64_t calls;             /* Used buffer notifications sent. */
    uint64_t calls_suppressed;  /* Not sent: the driver did not want them. */
    uint64_t bad_chains;        /* Unusable chains, given back unused. */
    uint64_t broken;            /* Times that the virtqueue became broken. */
};

/* A place in a packed ring: an index and the wrap counter that goes with it.
 * In a split ring 'idx' runs free from 0 to 65535 and 'wrap' is unused. */
struct virtq_pos {
    uint16_t idx;
    bool wrap;
};

/* What of the memory that a virtqueue writes goes into a dirty log: the
 * buffers (vhost-user: VHOST_F_LOG_ALL), its own areas (VHOST_VRING_F_LOG), or
 * both. */
struct virtq_log {
    const struct vhu_log *log;  /* Null if nothing is logged.  Must outlive
                                 * its use. */
    bool buffers;
    bool areas;
    uint64_t used_gpa;          /* Split: guest address under which the used
                                 * ring is logged.  The areas of a packed
                                 * virtqueue are logged where the memory table
                                 * has them. */
};

/* What virtq_create() needs to know. */
struct virtq_config {
    enum virtq_format format;
    enum virtq_access access;
    uint32_t size;              /* Descriptors. */
    uint64_t features;          /* Negotiated. */
    const struct vhu_mem *mem;  /* Must outlive the virtqueue. */
    uint64_t desc_uva;          /* User address of the descriptor area, */
    uint64_t driver_uva;        /* the driver area */
    uint64_t device_uva;        /* and the device area. */
    struct virtq_pos avail;     /* Next available buffer to take. */
    struct virtq_pos used;      /* Packed: next place to write a used one.
                                 * Split: read from the used ring instead. */
    int call_fd;                /* -1 for none.  Stays the caller's. */
    virtio_le64 *record;        /* Packed: keeps the position for whoever takes
                                 * over if we die.  NULL for none; must outlive
                                 * the virtqueue. */
    bool recorded;              /* 'record' is about this very ring. */
    struct virtq_counters *counters;
    struct virtq_log log;
};

/* How to see whether a buffer is available: whether 'mask' of the two bytes at
 * 'where' equals 'value', or, unless 'equal', differs from it.  For
 * virtq_has_avail(). */
struct virtq_poll {
    const virtio_le16 *where;   /* Available index, or flags of the next
                                 * descriptor. */
    uint16_t mask;
    uint16_t value;
    bool equal;
};

/* A running virtqueue.  Its first member is a struct virtq_poll; the others
 * are the engine's own. */
struct virtq;

/* Returns true if a buffer is available.  Reads one shared cache line and one
 * of 'vq', writes nothing.  Any thread that may use 'vq' (RCU); one that does
 * not have the lock of the vring may see the past. */
static inline bool
virtq_has_avail(const struct virtq *vq)
{
    const struct virtq_poll *poll = (const void *) vq;
    const virtio_le16 *where = __atomic_load_n(&poll->where, __ATOMIC_RELAXED);
    uint16_t mask = __atomic_load_n(&poll->mask, __ATOMIC_RELAXED);
    uint16_t value = __atomic_load_n(&poll->value, __ATOMIC_RELAXED);
    bool equal = __atomic_load_n(&poll->equal, __ATOMIC_RELAXED);

    return ((virtio_load_le16(where) & mask) == value) == equal;
}

/* Returns, in '*vqp', a running virtqueue that continues at the positions in
 * 'config'.  Every area is checked for its alignment and for being wholly
 * inside one region of memory, the size against the format
 * (virtio, "Split Virtqueues", "Packed Virtqueues": 1 to VIRTQ_MAX_SIZE, for
 * the split format a power of 2).
 *
 * A split virtqueue publishes from the used index in memory on, and takes from
 * 'avail' on unless that makes no sense (it is behind the used index, or
 * further from it or from the driver's index than the size of the ring): then
 * from the used index on, too.  A packed virtqueue takes from 'avail' on and
 * publishes from 'used' on unless the record or the descriptors say that this
 * makes no sense, see virtq-packed.h.  virtq_get_base() tells.
 *
 * Sends one notification, in case an earlier device did not get to it.  The
 * first used buffers are notified of regardless of the driver's event index,
 * because what it saw of an earlier device is not known.
 *
 * Returns 0, or a positive errno with a newly allocated phrase in '*error'.
 * Control thread. */
int virtq_create(const struct virtq_config *config, struct virtq **vqp,
                 char **error);

/* Checks the areas in 'config', and nothing else, as virtq_create() does.
 * Returns 0, or EINVAL with a newly allocated phrase in '*error'. */
int virtq_check_areas(const struct virtq_config *config, char **error);

/* Checks whether the log in 'config' has a bit for each page of the areas that
 * are to be logged, which virtq_create() does, too.  Returns true if so, and
 * also if there is no log. */
bool virtq_check_log(const struct virtq_config *config);

/* Frees 'vq', which may be NULL.  Touches no shared memory. */
void virtq_destroy(struct virtq *vq);

/* Returns where 'vq' continues: what a virtq_create() needs to go on, and what
 * GET_VRING_BASE answers.  The vring's lock is required. */
void virtq_get_base(const struct virtq *vq, struct virtq_pos *avail,
                    struct virtq_pos *used);

/* Returns true if 'vq' started where 'config->record' said. */
bool virtq_is_from_record(const struct virtq *vq);

/* Returns the features that were negotiated for 'vq'. */
uint64_t virtq_get_features(const struct virtq *vq);

/* Takes up to 'max' <= VIRTQ_MAX_BURST available chains. */
size_t virtq_take_avail(struct virtq *vq, struct virtq_chain chains[],
                        size_t max);

/* Puts the last 'n' of the taken chains back, so that they are the next to be
 * taken; 'chains' points to the first of these 'n'. */
void virtq_put_back(struct virtq *vq, const struct virtq_chain chains[],
                    size_t n);

/* Makes 'chain' used with 'len' bytes written into it, at the next
 * virtq_publish_used(). */
void virtq_add_used(struct virtq *vq, const struct virtq_chain *chain,
                    uint32_t len);

/* The same for the 'n' 'chains', with the lengths 'lens', or all 0 if that is
 * NULL. */
void virtq_add_used_burst(struct virtq *vq, const struct virtq_chain chains[],
                          const uint32_t lens[], size_t n);

/* Makes the chains of virtq_add_used() visible to the driver, with one
 * store-release. */
void virtq_publish_used(struct virtq *vq);

/* Sends a used buffer notification if chains were published since the last
 * call of this function and the driver wants to be notified of them.  If the
 * call eventfd blocks, 'vq' becomes broken. */
void virtq_call(struct virtq *vq);

/* Starts loading what the next virtq_take_avail() will read. */
void virtq_prefetch_next(struct virtq *vq);

/* Returns how many chains are available (split) or at least whether any is
 * (packed), at most the size of the ring.  For statistics.  Any thread. */
uint32_t virtq_n_avail(const struct virtq *vq);

/* Asks the driver for available buffer notifications, or, as is the state
 * after virtq_create(), asks for none.  To be called with 'enable' true each
 * time that nothing is available any more, since with event index it asks for
 * the next notification only; after that check virtq_has_avail() once
 * more. */
void virtq_enable_kicks(struct virtq *vq, bool enable);

/* Replaces the call eventfd (-1 for none), and notifies the new one once.  The
 * old one stays the caller's. */
void virtq_set_call_fd(struct virtq *vq, int call_fd);

/* Starts, changes or ends dirty logging: when this returns, whatever 'vq' is
 * going to write is logged as 'log' says, which has passed virtq_check_log(),
 * and what it has written, as it was before. */
void virtq_set_log(struct virtq *vq, const struct virtq_log *log);

/* Returns why 'vq' is broken, VIRTQ_ERROR_NONE if it is not.  'value' and
 * 'limit' (either may be NULL) get the numbers that belong to it: what came
 * and what was expected. */
enum virtq_error virtq_get_error(const struct virtq *vq, uint64_t *value,
                                 uint64_t *limit);

/* State of 'vq' for people: indices as the driver and we see them. */
struct virtq_state {
    enum virtq_format format;
    uint32_t size;
    struct virtq_pos avail;     /* Next to take. */
    struct virtq_pos used;      /* Next to publish. */
    uint16_t driver_idx;        /* Split: the driver's available index. */
    uint32_t fill;              /* Available buffers (split) or descriptors
                                 * (packed). */
    bool kicks_enabled;
};
void virtq_get_state(const struct virtq *vq, struct virtq_state *state);

/* Starts loading the cache line of 'p', to write it.
 *
 * The compiler's own makes that a line to read, unless it may assume that the
 * CPU has this instruction.  Where a CPU has not, it does nothing. */
static inline void
virtq_prefetch_write(const void *p)
{
#if defined __x86_64__
    asm volatile("prefetchw %0" : : "m" (*(const char *) p));
#else
    OVS_PREFETCH_WRITE(p);
#endif
}

#endif /* virtq.h */
