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

#ifndef VHU_NOTIFY_H
#define VHU_NOTIFY_H 1

/* Writing to a peer's eventfd
 * ===========================
 *
 * A used buffer notification is a write() to an eventfd that belongs to the
 * peer.  The write blocks if the counter is at its maximum and O_NONBLOCK is
 * clear, and the peer controls both at any time, because it shares the file
 * description.  No kernel interface writes to an eventfd without blocking
 * regardless of that flag.
 *
 * So each thread that writes announces it in a slot of its own, with two plain
 * stores, and a watchdog thread looks at the slots every VHU_NOTIFY_TICK
 * milliseconds: a thread that is in the same write as one tick ago is
 * interrupted by a signal, the write fails with EINTR, and vhu_notify()
 * says so.  A thread is held up by at most two ticks.
 *
 * The watchdog sleeps for as long as nobody notifies anything. */

#include <stdbool.h>

#define VHU_NOTIFY_TICK 4       /* ms; 2 * tick is below the bound of 10. */

/* Opens what the watchdog needs, if it is not open yet.  Returns 0, or a
 * positive errno if there is no descriptor left for it.  vhu_notify() and
 * vhu_notify_watch() do this, too; whoever does it first learns of a failure
 * in time. */
int vhu_notify_init(void);

/* Adds 1 to eventfd 'fd'.  Any thread.
 *
 * Returns 0 if the peer was or will be woken, which includes a counter that
 * is at its maximum already, or a positive errno, EINTR if the write blocked
 * and was interrupted: the caller must not use 'fd' again. */
int vhu_notify(int fd);

/* Checks that 'fd' is an eventfd and makes it non-blocking.  Returns 0, or
 * EBADF if it is anything else. */
int vhu_notify_check_fd(int fd);

/* Body of the watchdog: one tick.  Interrupts what is stuck, then sleeps until
 * the next tick is due, or, if nobody has notified for a while, until somebody
 * does or vhu_notify_watch_stop() is called.  Call it in a loop in a thread of
 * its own; returns false when it is to stop. */
bool vhu_notify_watch(void);
void vhu_notify_watch_stop(void);

#endif /* vhu-notify.h */
