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

#ifndef VHU_SIGBUS_H
#define VHU_SIGBUS_H 1

/* Memory that can vanish
 * ======================
 *
 * A file that a peer shares with us can lose its pages at any time: the peer
 * truncates it, its huge pages run out, the hardware reports an error.  The
 * next access raises SIGBUS.
 *
 * A process-wide handler looks up the faulting address.  If it is inside a
 * mapping that is registered here, the handler sets the mapping's flag, puts
 * zero pages over the whole mapping in one step, so that no thread ever finds
 * a hole there, and wakes vhu_sigbus_wait().  The access that faulted then
 * goes on and reads zeros.  All other faults go to the handler that was there
 * before.
 *
 *
 * Threads
 * -------
 *
 * All functions may be called by any thread, except that only one thread
 * should wait.  The handler takes no lock and allocates nothing. */

#include <stddef.h>
#include <sys/types.h>

#include "ovs-atomic.h"

struct vhu_sigbus_slot;

/* Like mmap() at any address, readable and writable, except that what it maps
 * is neither allocated nor locked now, also if mlockall(MCL_FUTURE) is in
 * effect and RLIMIT_MEMLOCK has no room for it.  Safe in a signal handler. */
void *vhu_mmap_unlocked(size_t size, int flags, int fd, off_t offset);

/* Installs the handler, if it is not yet.  Returns 0, or a positive errno if
 * there is no descriptor left for it.  To be called before vhu_sigbus_add(),
 * whose caller may have to undo more. */
int vhu_sigbus_init(void);

/* Registers the mapping of 'size' bytes at 'base', which consists of pages of
 * 'page_size' bytes, so that '*vanished' becomes true when its memory does.
 * Returns a slot for vhu_sigbus_remove(). */
struct vhu_sigbus_slot *vhu_sigbus_add(void *base, size_t size,
                                       size_t page_size,
                                       atomic_bool *vanished);

/* Forgets the mapping in 'slot'.  To be called before it is unmapped, when no
 * thread uses it any more. */
void vhu_sigbus_remove(struct vhu_sigbus_slot *slot);

/* Arranges for poll_block() to wake up if any registered mapping has vanished
 * since the last call of vhu_sigbus_clear(). */
void vhu_sigbus_wait(void);
void vhu_sigbus_clear(void);

#endif /* vhu-sigbus.h */
