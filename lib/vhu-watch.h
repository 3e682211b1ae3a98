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

#ifndef VHU_WATCH_H
#define VHU_WATCH_H 1

/* Watches on paths
 * ================
 *
 * A watch tells that something may have changed at a path, whether or not
 * anything exists there: a file appeared, disappeared or got other
 * permissions.  While directories on the way to it are missing, the watch is
 * on the last one that exists.
 *
 * All watches share one inotify instance, because the kernel grants a user
 * only a few of them.  Where there is none to be had, or a directory may not
 * be watched, a watch just never tells anything: users must look from time to
 * time anyway.
 *
 *
 * Use
 * ---
 *
 *    if (vhu_watch_run(watch) || time_msec() >= next_look) {
 *        vhu_watch_arm(watch);
 *        ...look at the path...
 *    }
 *    vhu_watch_wait(watch);
 *
 * Arming comes before looking, so that what happens in between is not lost.
 *
 *
 * Threads
 * -------
 *
 * A watch belongs to one thread at a time.  Different watches may be used in
 * different threads. */

#include <stdbool.h>

struct vhu_watch;

/* Returns a new watch on 'path', which is copied.  It is not armed. */
struct vhu_watch *vhu_watch_create(const char *path);

/* Destroys 'watch', which may be NULL. */
void vhu_watch_destroy(struct vhu_watch *watch);

/* Puts 'watch' on the directory of its path, or on the last directory on the
 * way there that exists. */
void vhu_watch_arm(struct vhu_watch *watch);

/* Returns true if something may have changed at the path since 'watch' was
 * armed or the last call. */
bool vhu_watch_run(struct vhu_watch *watch);

/* Arranges for poll_block() to wake up when vhu_watch_run() would return
 * true. */
void vhu_watch_wait(struct vhu_watch *watch);

#endif /* vhu-watch.h */
