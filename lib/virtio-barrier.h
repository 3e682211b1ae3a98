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

#ifndef VIRTIO_BARRIER_H
#define VIRTIO_BARRIER_H 1

/* Access to memory that the other side writes at the same time
 * ============================================================
 *
 * Rules, the same for every ring format:
 *
 *    - Each field is loaded once, with one of these functions, into a local
 *      variable.  What is checked and what is used is that variable.
 *
 *    - The index or flags that make a buffer available or used are loaded
 *      with acquire semantics and stored with release semantics: whoever sees
 *      the new index also sees what was written before it.
 *
 *    - Between making buffers used and reading whether the other side wants
 *      to be told of it stands virtio_fence_full(): a store followed by a
 *      load of another location is the one case that acquire and release do
 *      not order.  Without the fence both sides can read the other's old
 *      value and a notification is lost.
 *
 * A 16-, 32- or 64-bit access is one machine access because vring addresses
 * are checked for their alignment when a virtqueue is created. */

#include <stddef.h>
#include <string.h>

#include "virtio-endian.h"

/* Tests define VIRTIO_LOAD_HOOK as a function that changes the memory just
 * before each load from it, as a hostile driver would. */
#ifndef VIRTIO_LOAD_HOOK
#define VIRTIO_LOAD_HOOK(P, SIZE) ((void) 0)
#endif

/* The same for a function that is called just after each store, which may be
 * the last thing that this device did. */
#ifndef VIRTIO_STORE_HOOK
#define VIRTIO_STORE_HOOK() ((void) 0)
#endif

/* ThreadSanitizer pairs a release with an acquire only if both access the same
 * number of bytes.  Where that is not so, and right nevertheless, code may do
 * something for its sake. */
#if defined __SANITIZE_THREAD__
#define VIRTIO_TSAN 1
#elif defined __has_feature
#if __has_feature(thread_sanitizer)
#define VIRTIO_TSAN 1
#endif
#endif
#ifndef VIRTIO_TSAN
#define VIRTIO_TSAN 0
#endif

static inline uint16_t
virtio_load_le16(const virtio_le16 *p)
{
    VIRTIO_LOAD_HOOK(p, sizeof *p);
    return virtio_le16_to_cpu((OVS_FORCE virtio_le16) __atomic_load_n(
        (const OVS_FORCE uint16_t *) p, __ATOMIC_RELAXED));
}

static inline uint32_t
virtio_load_le32(const virtio_le32 *p)
{
    VIRTIO_LOAD_HOOK(p, sizeof *p);
    return virtio_le32_to_cpu((OVS_FORCE virtio_le32) __atomic_load_n(
        (const OVS_FORCE uint32_t *) p, __ATOMIC_RELAXED));
}

static inline uint64_t
virtio_load_le64(const virtio_le64 *p)
{
    VIRTIO_LOAD_HOOK(p, sizeof *p);
    return virtio_le64_to_cpu((OVS_FORCE virtio_le64) __atomic_load_n(
        (const OVS_FORCE uint64_t *) p, __ATOMIC_RELAXED));
}

static inline uint16_t
virtio_load_acquire_le16(const virtio_le16 *p)
{
    VIRTIO_LOAD_HOOK(p, sizeof *p);
    return virtio_le16_to_cpu((OVS_FORCE virtio_le16) __atomic_load_n(
        (const OVS_FORCE uint16_t *) p, __ATOMIC_ACQUIRE));
}

static inline uint64_t
virtio_load_acquire_le64(const virtio_le64 *p)
{
    VIRTIO_LOAD_HOOK(p, sizeof *p);
    return virtio_le64_to_cpu((OVS_FORCE virtio_le64) __atomic_load_n(
        (const OVS_FORCE uint64_t *) p, __ATOMIC_ACQUIRE));
}

/* Copies 'size' bytes from shared memory at 'src', which need not be aligned,
 * to 'dst'.  The copy is what counts afterwards: the compiler may not go back
 * to 'src' for any part of it. */
static inline void
virtio_load_copy(void *dst, const void *src, size_t size)
{
    VIRTIO_LOAD_HOOK(src, size);
    memcpy(dst, src, size);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void
virtio_store_le16(virtio_le16 *p, uint16_t x)
{
    __atomic_store_n((OVS_FORCE uint16_t *) p,
                     (OVS_FORCE uint16_t) virtio_cpu_to_le16(x),
                     __ATOMIC_RELAXED);
    VIRTIO_STORE_HOOK();
}

static inline void
virtio_store_le32(virtio_le32 *p, uint32_t x)
{
    __atomic_store_n((OVS_FORCE uint32_t *) p,
                     (OVS_FORCE uint32_t) virtio_cpu_to_le32(x),
                     __ATOMIC_RELAXED);
    VIRTIO_STORE_HOOK();
}

static inline void
virtio_store_le64(virtio_le64 *p, uint64_t x)
{
    __atomic_store_n((OVS_FORCE uint64_t *) p,
                     (OVS_FORCE uint64_t) virtio_cpu_to_le64(x),
                     __ATOMIC_RELAXED);
    VIRTIO_STORE_HOOK();
}

static inline void
virtio_store_release_le16(virtio_le16 *p, uint16_t x)
{
    __atomic_store_n((OVS_FORCE uint16_t *) p,
                     (OVS_FORCE uint16_t) virtio_cpu_to_le16(x),
                     __ATOMIC_RELEASE);
    VIRTIO_STORE_HOOK();
}

static inline void
virtio_store_release_le64(virtio_le64 *p, uint64_t x)
{
    __atomic_store_n((OVS_FORCE uint64_t *) p,
                     (OVS_FORCE uint64_t) virtio_cpu_to_le64(x),
                     __ATOMIC_RELEASE);
    VIRTIO_STORE_HOOK();
}

/* Replaces '*p' by 'new' if it is 'old'. */
static inline void
virtio_replace_le64(virtio_le64 *p, uint64_t old, uint64_t new)
{
    uint64_t expected = (OVS_FORCE uint64_t) virtio_cpu_to_le64(old);

    __atomic_compare_exchange_n((OVS_FORCE uint64_t *) p, &expected,
                                (OVS_FORCE uint64_t) virtio_cpu_to_le64(new),
                                false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
    VIRTIO_STORE_HOOK();
}

/* Keeps the compiler from moving a store from one side of this to the other.
 * For stores that are read after our death, when no CPU has any of them to
 * itself any more. */
static inline void
virtio_order_stores(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void
virtio_fence_full(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#endif /* virtio-barrier.h */
