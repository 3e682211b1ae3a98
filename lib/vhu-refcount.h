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

#ifndef VHU_REFCOUNT_H
#define VHU_REFCOUNT_H 1

#include <stdbool.h>

#include "ovs-atomic.h"
#include "virtio-barrier.h"

/* Gives up a reference to what 'refcount' counts.  Returns true if it was the
 * last one: then the caller frees it.  Any thread.
 *
 * ThreadSanitizer does not know the fence that orders this in
 * ovs_refcount_unref(), but it knows a load. */
static inline bool
vhu_refcount_unref(struct ovs_refcount *refcount)
{
    unsigned int count = ovs_refcount_unref(refcount) - 1;

    if (VIRTIO_TSAN && !count) {
        atomic_read_explicit(&refcount->count, &count, memory_order_acquire);
    }
    return !count;
}

#endif /* vhu-refcount.h */
