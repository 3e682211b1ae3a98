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

#include "vhu-watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "openvswitch/list.h"
#include "openvswitch/poll-loop.h"
#include "openvswitch/thread.h"
#include "openvswitch/vlog.h"
#include "ovs-thread.h"
#include "seq.h"
#include "util.h"

VLOG_DEFINE_THIS_MODULE(vhu_watch);

struct vhu_watch {
    struct ovs_list node;       /* In 'watches'. */
    char *path;

    /* Under 'mutex'. */
    int wd;                     /* Watch descriptor, or -1. */
    char *name;                 /* The file in the directory that 'wd' is on
                                 * that we care for. */
    bool changed;

    /* The thread that the watch belongs to. */
    uint64_t last_seq;          /* Value of 'changes' last seen. */
};

/* What may happen to a file in a directory, or to the directory itself, that
 * can make a difference to somebody who wants that file. */
#define VHU_WATCH_EVENTS                                                \
    (IN_ONLYDIR | IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM   \
     | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)

static struct ovs_mutex mutex = OVS_MUTEX_INITIALIZER;
static struct ovs_list watches OVS_GUARDED_BY(mutex)
    = OVS_LIST_INITIALIZER(&watches);
static int inotify_fd OVS_GUARDED_BY(mutex) = -1;

/* Changes whenever 'changed' of some watch becomes true: the thread that
 * reads an event may not be the one that waits for it. */
static struct seq *changes;

static void vhu_watch_init(void);
static void vhu_watch_open(void) OVS_REQUIRES(mutex);
static void vhu_watch_close(void) OVS_REQUIRES(mutex);
static void vhu_watch_set__(struct vhu_watch *, int wd, const char *name)
    OVS_REQUIRES(mutex);
static int vhu_watch_find_dir(const char *path, char **namep)
    OVS_REQUIRES(mutex);
static void vhu_watch_read_events(void) OVS_REQUIRES(mutex);
static void vhu_watch_dispatch(const struct inotify_event *)
    OVS_REQUIRES(mutex);

struct vhu_watch *
vhu_watch_create(const char *path)
{
    struct vhu_watch *watch = xzalloc(sizeof *watch);

    vhu_watch_init();
    watch->path = xstrdup(path);
    watch->wd = -1;
    watch->last_seq = seq_read(changes);

    ovs_mutex_lock(&mutex);
    vhu_watch_open();
    ovs_list_push_back(&watches, &watch->node);
    ovs_mutex_unlock(&mutex);
    return watch;
}

void
vhu_watch_destroy(struct vhu_watch *watch)
{
    if (watch) {
        ovs_mutex_lock(&mutex);
        ovs_list_remove(&watch->node);
        vhu_watch_set__(watch, -1, NULL);
        if (ovs_list_is_empty(&watches)) {
            vhu_watch_close();
        }
        ovs_mutex_unlock(&mutex);

        free(watch->path);
        free(watch);
    }
}

/* The directory can come into being, or go away, while we look for it.  So
 * look until the answer is twice the same.  A path that changes faster than
 * that is left to the user's looks from time to time. */
void
vhu_watch_arm(struct vhu_watch *watch)
{
    ovs_mutex_lock(&mutex);
    for (int i = 0; i < 3; i++) {
        int old_wd = watch->wd;
        char *name = NULL;
        int wd = vhu_watch_find_dir(watch->path, &name);

        vhu_watch_set__(watch, wd, name);
        free(name);
        if (wd == old_wd) {
            break;
        }
    }
    ovs_mutex_unlock(&mutex);
}

bool
vhu_watch_run(struct vhu_watch *watch)
{
    bool changed;

    ovs_mutex_lock(&mutex);
    watch->last_seq = seq_read(changes);
    vhu_watch_read_events();
    changed = watch->changed;
    watch->changed = false;
    ovs_mutex_unlock(&mutex);

    return changed;
}

void
vhu_watch_wait(struct vhu_watch *watch)
{
    ovs_mutex_lock(&mutex);
    if (watch->changed) {
        poll_immediate_wake();
    } else if (inotify_fd >= 0) {
        poll_fd_wait(inotify_fd, POLLIN);
        seq_wait(changes, watch->last_seq);
    }
    ovs_mutex_unlock(&mutex);
}

static void
vhu_watch_init(void)
{
    static struct ovsthread_once once = OVSTHREAD_ONCE_INITIALIZER;

    if (ovsthread_once_start(&once)) {
        changes = seq_create();
        ovsthread_once_done(&once);
    }
}

/* Opens the inotify instance, if it is not, for the first watch. */
static void
vhu_watch_open(void)
{
    static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(1, 1);

    if (inotify_fd < 0) {
        inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (inotify_fd < 0) {
            VLOG_WARN_RL(&rl, "cannot watch for sockets that appear, will "
                         "look once a second instead (%s)",
                         ovs_strerror(errno));
        }
    }
}

/* Closes it after the last one. */
static void
vhu_watch_close(void)
{
    if (inotify_fd >= 0) {
        close(inotify_fd);
        inotify_fd = -1;
    }
}

/* Makes 'watch' stand on 'wd', which may be -1, for file 'name' there. */
static void
vhu_watch_set__(struct vhu_watch *watch, int wd, const char *name)
{
    int old_wd = watch->wd;

    watch->wd = wd;
    free(watch->name);
    watch->name = nullable_xstrdup(name);

    if (old_wd >= 0 && old_wd != wd) {
        const struct vhu_watch *w;

        LIST_FOR_EACH (w, node, &watches) {
            if (w->wd == old_wd) {
                return;
            }
        }
        inotify_rm_watch(inotify_fd, old_wd);
    }
}

/* Adds the kernel's watch on the directory of 'path' or, if it is not there or
 * may not be read, on the next one above.  Returns the watch descriptor and
 * stores in '*namep' what comes after that directory in 'path', which the
 * caller must free.  Returns -1 if no directory can be watched. */
static int
vhu_watch_find_dir(const char *path, char **namep)
{
    char *file = xstrdup(path);
    int wd = -1;

    while (inotify_fd >= 0) {
        char *dir = dir_name(file);

        free(*namep);
        *namep = base_name(file);
        wd = inotify_add_watch(inotify_fd, dir, VHU_WATCH_EVENTS);
        if (wd >= 0 || !strcmp(dir, file) || !strcmp(dir, ".")) {
            free(dir);
            break;
        }
        free(file);
        file = dir;
    }
    free(file);
    return wd;
}

static void
vhu_watch_read_events(void)
{
    char buf[16 * (sizeof(struct inotify_event) + NAME_MAX + 1)]
        __attribute__((aligned(__alignof__(struct inotify_event))));

    while (inotify_fd >= 0) {
        ssize_t n = read(inotify_fd, buf, sizeof buf);
        const struct inotify_event *event;

        if (n <= 0) {
            break;
        }
        for (const char *p = buf; p < buf + n;
             p += sizeof *event + event->len) {
            event = ALIGNED_CAST(const struct inotify_event *, p);
            vhu_watch_dispatch(event);
        }
    }
}

/* Marks the watches that 'event' concerns.  Without a name it is about the
 * directory itself, and without a watch descriptor about everything: the
 * kernel had to drop events. */
static void
vhu_watch_dispatch(const struct inotify_event *event)
{
    struct vhu_watch *watch;
    bool changed = false;

    LIST_FOR_EACH (watch, node, &watches) {
        if (!(event->mask & IN_Q_OVERFLOW)
            && (watch->wd != event->wd
                || (event->len && strcmp(watch->name, event->name)))) {
            continue;
        }
        watch->changed = changed = true;
        if (event->mask & IN_IGNORED) {
            watch->wd = -1;
        }
    }
    if (changed) {
        seq_change(changes);
    }
}
