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

#ifndef VIRTQ_DRV_H
#define VIRTQ_DRV_H 1

/* Virtqueues, driver side
 * =======================
 *
 * The other side of virtq.h: here we are the driver, which makes buffers
 * available, and the back-end is the device, which uses them.  Two formats
 * exist, split and packed; this header is the same for both.
 *
 * A virtqueue owns a piece of shared memory (vhu-shm.h) with its rings and a
 * pool of as many buffers of one size as it has descriptors.  Packets are
 * copied out of and into these buffers.  A packet begins with its struct
 * virtio_net_hdr: virtq_drv_get_hdr_len() bytes.
 *
 *
 * Use, receiveq
 * -------------
 *
 *    n = virtq_drv_take_used(vq, packets, VIRTQ_MAX_BURST);
 *    for (i = 0; i < n; i++) {
 *        ...copy packets[i].segs...
 *    }
 *    virtq_drv_refill(vq);
 *    virtq_drv_publish_avail(vq);
 *    virtq_drv_kick(vq);
 *
 * With VIRTIO_NET_F_MRG_RXBUF one packet may have many segments.  After
 * virtq_drv_refill() the packets belong to the device again.
 *
 *
 * Use, transmitq
 * --------------
 *
 *    n = virtq_drv_reserve(vq, sizes, packets, n_wanted);
 *    for (i = 0; i < n; i++) {
 *        ...fill all of packets[i].segs...
 *    }
 *    virtq_drv_publish_avail(vq);
 *    virtq_drv_kick(vq);
 *
 * Fewer than 'n_wanted' means that the ring is full: drop the rest, or try
 * again later.  virtq_drv_reserve() reclaims what has been transmitted.
 *
 * In both cases the device sees nothing before virtq_drv_publish_avail(), with
 * one store-release, and there is one kick for a burst at most.
 *
 *
 * Life cycle
 * ----------
 *
 * virtq_drv_create() makes a virtqueue with a fresh ring, where the device
 * starts at virtq_drv_get_base().  A receiveq has all of its buffers available
 * from the beginning.  The device owns the ring from when the protocol code
 * starts the vring (SET_VRING_NUM, BASE, ADDR, KICK, CALL, ENABLE) to when it
 * stops (GET_VRING_BASE, or the end of the connection).  What follows is one
 * of
 *
 *    - virtq_drv_resume(), with the ring as it is: on the same connection; or
 *      on a new one, if the back-end keeps an inflight region;
 *
 *    - virtq_drv_restart(), with a fresh ring, in which packets that have not
 *      been transmitted are available again, in their order: on a new
 *      connection otherwise.  Repairs a broken virtqueue, too;
 *
 *    - virtq_drv_destroy().
 *
 *
 * Threads
 * -------
 *
 * All functions but virtq_drv_has_used() and virtq_drv_n_used() require the
 * lock of the vring, which the caller takes for one burst.
 *
 *
 * Trust
 * -----
 *
 * The back-end may write anything, at any time, into the memory that it shares
 * with us, and that includes descriptors and the packets themselves.  What has
 * been made available is therefore also written down in private memory, and
 * that is what counts: from shared memory come only the used index or flags,
 * buffer IDs and lengths, 'num_buffers' and the other side's wish to be
 * notified; each is read once and checked.  If the ring makes no sense the
 * virtqueue is broken; from then on it looks empty and full, and nothing of it
 * is read or written.  A packet that makes no sense is dropped and counted.
 *
 * A segment of a packet is always inside a buffer of ours.  But what is in it
 * may change while it is being read: copy first, then look. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtq.h"

struct vhu_shm;

/* What made a virtqueue broken. */
#define VIRTQ_DRV_ERRORS                                                \
    /* The virtqueue works. */                                          \
    VIRTQ_DRV_ERROR(NONE, "none")                                       \
    /* The used index moved by 'value', more than 'limit' are available. */ \
    VIRTQ_DRV_ERROR(USED_INDEX, "used index moved too far")             \
    /* Buffer ID 'value' is not below 'limit'. */                       \
    VIRTQ_DRV_ERROR(ID_RANGE, "buffer ID out of range")                 \
    /* Buffer ID 'value' is not that of an available buffer. */         \
    VIRTQ_DRV_ERROR(ID_UNKNOWN, "buffer ID not in flight")              \
    /* A batch used in order has 'value' buffers, but 'limit' are used. */ \
    VIRTQ_DRV_ERROR(BATCH, "batch larger than what is used")            \
    /* The kick eventfd blocked a write. */                             \
    VIRTQ_DRV_ERROR(KICK_BLOCKED, "kick eventfd blocks")                \
    /* See vhu_shm_is_dead(). */                                        \
    VIRTQ_DRV_ERROR(MEMORY, "shared memory has vanished")

enum virtq_drv_error {
#define VIRTQ_DRV_ERROR(NAME, TEXT) VIRTQ_DRV_ERROR_##NAME,
    VIRTQ_DRV_ERRORS
#undef VIRTQ_DRV_ERROR
};

/* Returns "used index moved too far" for VIRTQ_DRV_ERROR_USED_INDEX. */
const char *virtq_drv_error_to_string(enum virtq_drv_error);

/* Counters of one vring, which outlive its virtqueue.  Written under the lock
 * of the vring; read by others without it (as relaxed atomics). */
struct virtq_drv_counters {
    uint64_t kicks;             /* Available buffer notifications sent. */
    uint64_t kicks_suppressed;  /* Not sent: the device did not want them. */
    uint64_t bad_packets;       /* Received packets dropped: bad used length or
                                 * 'num_buffers', buffers missing. */
    uint64_t broken;            /* Times that the virtqueue became broken. */
};

/* What virtq_drv_create() needs to know. */
struct virtq_drv_config {
    enum virtq_format format;
    enum virtq_access access;
    uint32_t size;              /* Descriptors, and buffers. */
    uint32_t buf_size;          /* Bytes in a buffer, header included. */
    uint64_t features;          /* Negotiated. */
    struct vhu_shm *shm;        /* Must outlive the virtqueue. */
    uint64_t ofs;               /* Place of the virtqueue in 'shm', aligned to
                                 * VIRTQ_DRV_ALIGN. */
    int kick_fd;                /* -1 for none.  Stays the caller's. */
    struct virtq_drv_counters *counters;
};

/* Alignment of the shared memory of a virtqueue. */
#define VIRTQ_DRV_ALIGN 4096

/* Smallest and largest 'buf_size'.  The largest packet and its header fit into
 * one buffer of the largest size. */
#define VIRTQ_DRV_MIN_BUF_SIZE 16
#define VIRTQ_DRV_MAX_BUF_SIZE (65536 + 64)

/* A running virtqueue. */
struct virtq_drv;

/* Returns how many bytes of shared memory a virtqueue needs that is configured
 * as 'config', of which 'format', 'access', 'size', 'buf_size' and 'features'
 * are looked at.  They need to be carved out with VIRTQ_DRV_ALIGN. */
uint64_t virtq_drv_shm_size(const struct virtq_drv_config *config);

/* Returns, in '*vqp', a running virtqueue with a fresh ring.
 *
 * Returns 0, or EINVAL with a newly allocated phrase in '*error' if the size
 * does not fit the format (virtio, "Split Virtqueues", "Packed Virtqueues": 1
 * to VIRTQ_MAX_SIZE, for the split format a power of 2), the buffer size is
 * not in the range above, or the place is not inside the shared memory.
 * Control thread. */
int virtq_drv_create(const struct virtq_drv_config *config,
                     struct virtq_drv **vqp, char **error);

/* Frees 'vq', which may be NULL.  Touches no shared memory. */
void virtq_drv_destroy(struct virtq_drv *vq);

/* Makes the ring of 'vq' fresh, as virtq_drv_create() does.
 *
 * Packets of a transmitq that had been published but were not used yet are
 * published again in their order; a device that had taken one of them without
 * using it may transmit it twice.  Packets that were reserved and not
 * published are gone.  All buffers of a receiveq are available again; packets
 * that were used, but not taken, are gone.
 *
 * To be called when no device uses the ring.  'vq' is not broken afterwards,
 * unless the shared memory has vanished. */
void virtq_drv_restart(struct virtq_drv *vq);

/* Prepares 'vq' for a device that continues with the ring as it is, at
 * virtq_drv_get_base(): the next virtq_drv_kick() notifies it in any case.
 * Returns false if 'vq' is broken: only virtq_drv_restart() helps. */
bool virtq_drv_resume(struct virtq_drv *vq);

/* Returns where a device starts with the ring as it is: what SET_VRING_BASE
 * must say.  Split: the used index, 'used' is the same; packed: behind the
 * last used buffer, both are the same.
 *
 * For the same connection the answer of the back-end to GET_VRING_BASE is as
 * good, if it passes virtq_drv_check_base(), and better if the back-end does
 * not use buffers in order. */
void virtq_drv_get_base(const struct virtq_drv *vq, struct virtq_pos *avail,
                        struct virtq_pos *used);

/* Returns true if the back-end's answer to GET_VRING_BASE, 'avail' and, for
 * the packed format, 'used', makes sense: it is not before the last buffer
 * that was seen used nor behind the last one that was made available.  If not,
 * virtq_drv_restart() is due. */
bool virtq_drv_check_base(const struct virtq_drv *vq, struct virtq_pos avail,
                          struct virtq_pos used);

/* The three areas of a virtqueue, for SET_VRING_ADDR (vhost-user, "A vring
 * address description", which has user addresses, and the guest address of the
 * used ring for the dirty log). */
struct virtq_drv_areas {
    uint64_t desc_uva, driver_uva, device_uva;
    uint64_t desc_gpa, driver_gpa, device_gpa;
};
void virtq_drv_get_areas(const struct virtq_drv *vq,
                         struct virtq_drv_areas *areas);

/* Returns the features that were negotiated for 'vq'. */
uint64_t virtq_drv_get_features(const struct virtq_drv *vq);

/* Returns the length of the header of each packet, which follows from the
 * features (virtio, "Network Device: Device Operation", "Legacy Interface:
 * Device Operation"). */
uint32_t virtq_drv_get_hdr_len(const struct virtq_drv *vq);

/* Returns how many bytes a packet may have, header included, in a transmitq:
 * what all buffers together hold, VIRTQ_DRV_MAX_BUF_SIZE at most; in a
 * receiveq: the same with VIRTIO_NET_F_MRG_RXBUF, else one buffer. */
uint32_t virtq_drv_get_max_packet(const struct virtq_drv *vq);

/* Receiveq: takes up to 'max' <= VIRTQ_MAX_BURST received packets.  Each has
 * at least the header and one byte, maybe in several segments, of which none
 * is empty.  'id' and 'n_descs' mean nothing.  The packets and their segments
 * are valid until virtq_drv_refill(), which must be called before the next
 * virtq_drv_take_used(). */
size_t virtq_drv_take_used(struct virtq_drv *vq, struct virtq_chain packets[],
                           size_t max);

/* Receiveq: makes all buffers available that are not, at the next
 * virtq_drv_publish_avail(). */
void virtq_drv_refill(struct virtq_drv *vq);

/* Transmitq: reserves buffers for up to 'n' <= VIRTQ_MAX_BURST packets, of
 * 'sizes[i]' bytes each, header included, in the range 1 to
 * virtq_drv_get_max_packet(), and returns for how many that was possible.
 * 'packets' gets the segments, which are valid until the next
 * virtq_drv_publish_avail(); until then all of them must be filled.  May be
 * called several times before that. */
size_t virtq_drv_reserve(struct virtq_drv *vq, const uint32_t sizes[],
                         struct virtq_chain packets[], size_t n);

/* Transmitq: takes back the buffers of packets that have been transmitted, and
 * returns how many packets that were.  virtq_drv_reserve() does this when it
 * needs buffers. */
size_t virtq_drv_reclaim(struct virtq_drv *vq);

/* Makes the buffers of virtq_drv_refill() or virtq_drv_reserve() visible to
 * the device. */
void virtq_drv_publish_avail(struct virtq_drv *vq);

/* Sends an available buffer notification if buffers were published since the
 * last call of this function and the device wants to be notified of them; the
 * first time after virtq_drv_create(), virtq_drv_restart() or
 * virtq_drv_resume() in any case, since that starts the vring (vhost-user,
 * "Ring states").  Never blocks: if the kick eventfd does, 'vq' becomes
 * broken. */
void virtq_drv_kick(struct virtq_drv *vq);

/* Starts loading what the next virtq_drv_take_used() or virtq_drv_reserve()
 * will read. */
void virtq_drv_prefetch_next(struct virtq_drv *vq);

/* Returns true if a buffer has been used.  Reads one shared cache line, writes
 * nothing.  Any thread that may use 'vq' (RCU). */
bool virtq_drv_has_used(const struct virtq_drv *vq);

/* Returns how many buffers have been used (split) or at least whether any has
 * (packed), at most the size of the ring.  For statistics.  Any thread. */
uint32_t virtq_drv_n_used(const struct virtq_drv *vq);

/* Returns how many packets (transmitq) or buffers (receiveq) the device has,
 * as far as we know. */
uint32_t virtq_drv_n_in_flight(const struct virtq_drv *vq);

/* Asks the device for used buffer notifications, or, as is the state after
 * virtq_drv_create(), asks for none.  To be called with 'enable' true each
 * time that nothing is used any more, since with event index it asks for the
 * next notification only; after that check virtq_drv_has_used() once more. */
void virtq_drv_enable_calls(struct virtq_drv *vq, bool enable);

/* Replaces the kick eventfd (-1 for none); the next virtq_drv_kick() notifies
 * the new one in any case.  The old one stays the caller's. */
void virtq_drv_set_kick_fd(struct virtq_drv *vq, int kick_fd);

/* Returns why 'vq' is broken, VIRTQ_DRV_ERROR_NONE if it is not.  'value' and
 * 'limit' (either may be NULL) get the numbers that belong to it: what came
 * and what was expected. */
enum virtq_drv_error virtq_drv_get_error(const struct virtq_drv *vq,
                                         uint64_t *value, uint64_t *limit);

/* State of 'vq' for people. */
struct virtq_drv_state {
    enum virtq_format format;
    uint32_t size;
    struct virtq_pos avail;     /* Next to make available. */
    struct virtq_pos used;      /* Next to see used. */
    uint32_t n_in_flight;       /* As virtq_drv_n_in_flight(). */
    uint32_t n_free_bufs;       /* Buffers that the device does not have. */
    bool calls_enabled;
};
void virtq_drv_get_state(const struct virtq_drv *vq,
                         struct virtq_drv_state *state);

#endif /* virtq-drv.h */
