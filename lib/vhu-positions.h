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

#ifndef VHU_POSITIONS_H
#define VHU_POSITIONS_H 1

/* Positions that outlive us
 * =========================
 *
 * A small file for each device, in which its packed virtqueues keep where they
 * are, for the process that takes over when this one has died.  It has one
 * record for each vring, on a cache line of its own: a key, which says what
 * ring of what guest the record is about, and a number, which only the
 * virtqueue understands.  Key 0 says that there is no record.
 *
 * The file is mapped, so that a record is a plain store; it is in the page
 * cache, and survives everything but a reboot, which no guest does either.  It
 * is meant for a file system in memory.
 *
 *
 * Trust
 * -----
 *
 * The directory is ours alone.  Still, what is found there may be of another
 * version, or not of us at all, or cut short: then it is replaced.  All of the
 * file is allocated before it is mapped.  If it loses its pages all the same,
 * vhu-sigbus.h puts zeros in their place, and nothing is recorded any more.
 *
 *
 * Threads
 * -------
 *
 * One thread at a time, but for the numbers, which belong to whoever has the
 * virtqueue. */

#include <stdbool.h>
#include <stdint.h>

#include "virtio-endian.h"

struct vhu_positions;

/* Opens the file at 'path' with records for 'n' vrings, and makes it and its
 * directory (but not what is above that) if they are not there, for us alone.
 *
 * Returns 0 with the file in '*positionsp', or a positive errno with NULL
 * there and a newly allocated phrase in '*error'.  If there was something else
 * at 'path' it returns 0 and a phrase that says what, otherwise NULL. */
int vhu_positions_open(const char *path, unsigned int n,
                       struct vhu_positions **positionsp, char **error);

/* Closes the file, which may be NULL.  The records stay.  No virtqueue may be
 * using one. */
void vhu_positions_close(struct vhu_positions *);

/* Returns the number in record 'i', valid until vhu_positions_close(), and
 * whether it was there for 'key', which must not be 0, in '*found'.  If it was
 * not it is now, and 0. */
virtio_le64 *vhu_positions_claim(struct vhu_positions *, unsigned int i,
                                 uint64_t key, bool *found);

/* Erases record 'i'. */
void vhu_positions_forget(struct vhu_positions *, unsigned int i);

/* Removes the file at 'path'.  The directory stays, since another thread may
 * be about to create a file there. */
void vhu_positions_remove(const char *path);

#endif /* vhu-positions.h */
