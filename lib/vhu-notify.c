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

#include "vhu-notify.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "openvswitch/list.h"
#include "openvswitch/util.h"
#include "ovs-atomic.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "util.h"

/* Ticks without any notification after which the watchdog goes to sleep. */
#define IDLE_TICKS 64

/* What one thread announces to the watchdog. */
struct slot {
    /* Odd while the thread is in a write.  Written by the thread. */
    ATOMIC(uint32_t) seq;

    /* The write, by its 'seq', that the watchdog last interrupted. */
    ATOMIC(uint32_t) interrupted;

    /* Watchdog only: 'seq' one tick ago. */
    uint32_t last_seq;

    struct ovs_list node;       /* In 'slots'. */
    pthread_t thread;
};

/* All slots.  A thread leaves before it ends, so that pthread_kill() on a
 * listed one is safe. */
static struct ovs_mutex mutex = OVS_MUTEX_INITIALIZER;
static struct ovs_list slots OVS_GUARDED_BY(mutex)
    = OVS_LIST_INITIALIZER(&slots);

/* This thread's slot, and what removes it at the end of the thread. */
DEFINE_STATIC_PER_THREAD_DATA(struct slot *, my_slot, NULL);
static pthread_key_t slot_key;

static atomic_bool sleeping = true;
static atomic_bool stopping = false;

/* Wakes the watchdog.  Ours alone.  Set once, by vhu_notify_init(). */
static int wake_fd = -1;

static void
slot_destroy(void *slot_)
{
    struct slot *slot = slot_;

    ovs_mutex_lock(&mutex);
    ovs_list_remove(&slot->node);
    ovs_mutex_unlock(&mutex);
    *my_slot_get() = NULL;
    free_cacheline(slot);
}

/* There is nothing to do on the signal: that it interrupts a system call is
 * all. */
static void
handle_sigurg(int signr OVS_UNUSED)
{
}

static int
notify_init(void)
    OVS_REQUIRES(mutex)
{
    struct sigaction sa;

    wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wake_fd < 0) {
        return errno;
    }
    xpthread_key_create(&slot_key, slot_destroy);

    /* No SA_RESTART: the write must fail. */
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = handle_sigurg;
    sigemptyset(&sa.sa_mask);
    sigaction(SIGURG, &sa, NULL);
    return 0;
}

int
vhu_notify_init(void)
{
    int error;

    ovs_mutex_lock(&mutex);
    error = wake_fd < 0 ? notify_init() : 0;
    ovs_mutex_unlock(&mutex);
    return error;
}

/* Makes this thread's slot.  Returns 0 or a positive errno. */
static int
slot_create(void)
{
    int error = vhu_notify_init();
    struct slot *slot;
    sigset_t sigurg;

    if (error) {
        return error;
    }
    slot = xzalloc_cacheline(sizeof *slot);
    slot->thread = pthread_self();
    ovs_mutex_lock(&mutex);
    ovs_list_push_back(&slots, &slot->node);
    ovs_mutex_unlock(&mutex);

    sigemptyset(&sigurg);
    sigaddset(&sigurg, SIGURG);
    pthread_sigmask(SIG_UNBLOCK, &sigurg, NULL);

    *my_slot_get() = slot;
    xpthread_setspecific(slot_key, slot);
    return 0;
}

static void
wake_watchdog(void)
{
    eventfd_write(wake_fd, 1);
}

/* Returns true if the write of 'slot' number 'seq', which failed with EINTR,
 * was interrupted by the watchdog and not by another signal. */
static bool
was_interrupted(struct slot *slot, uint32_t seq)
{
    uint32_t interrupted;

    atomic_read_relaxed(&slot->interrupted, &interrupted);
    return interrupted == seq;
}

int
vhu_notify(int fd)
{
    struct slot *slot = *my_slot_get();
    uint64_t one = 1;
    uint32_t seq;
    bool asleep;
    int error;

    if (OVS_UNLIKELY(!slot)) {
        error = slot_create();
        if (error) {
            return error;
        }
        slot = *my_slot_get();
    }

    atomic_read_relaxed(&slot->seq, &seq);
    seq++;
    atomic_store_relaxed(&slot->seq, seq);

    /* Pairs with the fence in vhu_notify_watch(): either we see that the
     * watchdog sleeps or it sees our 'seq'. */
    atomic_thread_fence(memory_order_seq_cst);
    atomic_read_relaxed(&sleeping, &asleep);
    if (OVS_UNLIKELY(asleep)) {
        atomic_store_relaxed(&sleeping, false);
        wake_watchdog();
    }

    do {
        error = write(fd, &one, sizeof one) < 0 ? errno : 0;
    } while (error == EINTR && !was_interrupted(slot, seq));

    atomic_store_explicit(&slot->seq, seq + 1, memory_order_release);
    return error == EAGAIN ? 0 : error;
}

int
vhu_notify_check_fd(int fd)
{
    char path[64], target[64];
    ssize_t n;
    int flags;

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    n = readlink(path, target, sizeof target - 1);
    if (n < 0) {
        return EBADF;
    }
    target[n] = '\0';
    if (strcmp(target, "anon_inode:[eventfd]")) {
        return EBADF;
    }

    flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        return EBADF;
    }
    return 0;
}

/* Interrupts the threads that are in the same write as at the last call.
 * Returns true if any thread is in a write or was since then. */
static bool
check_slots(void)
{
    bool active = false;
    struct slot *slot;

    ovs_mutex_lock(&mutex);
    LIST_FOR_EACH (slot, node, &slots) {
        uint32_t seq;

        atomic_read_explicit(&slot->seq, &seq, memory_order_acquire);
        if (seq & 1 && seq == slot->last_seq) {
            /* A write that was about to begin is not interrupted by this
             * signal, but by the one of the next tick. */
            atomic_store_relaxed(&slot->interrupted, seq);
            pthread_kill(slot->thread, SIGURG);
        }
        active = active || seq & 1 || seq != slot->last_seq;
        slot->last_seq = seq;
    }
    ovs_mutex_unlock(&mutex);
    return active;
}

/* Waits for 'timeout' ms (-1: for ever), or until someone wants the watchdog
 * awake. */
static void
watchdog_wait(int timeout)
{
    struct pollfd pfd = { .fd = wake_fd, .events = POLLIN };
    eventfd_t n;

    ovsrcu_quiesce_start();
    if (poll(&pfd, 1, timeout) > 0) {
        eventfd_read(wake_fd, &n);
    }
    ovsrcu_quiesce_end();
}

bool
vhu_notify_watch(void)
{
    static int n_idle = 0;
    bool stop;

    /* If there is no descriptor, nobody can wake us: do not sleep for long. */
    n_idle = vhu_notify_init() || check_slots() ? 0 : n_idle + 1;
    if (n_idle < IDLE_TICKS) {
        atomic_store_relaxed(&sleeping, false);
        watchdog_wait(VHU_NOTIFY_TICK);
    } else {
        atomic_store_relaxed(&sleeping, true);

        /* Pairs with the fence in vhu_notify(). */
        atomic_thread_fence(memory_order_seq_cst);
        if (!check_slots()) {
            watchdog_wait(-1);
        }
        atomic_store_relaxed(&sleeping, false);
        n_idle = 0;
    }

    atomic_read_relaxed(&stopping, &stop);
    if (stop) {
        atomic_store_relaxed(&sleeping, true);
        atomic_store_relaxed(&stopping, false);
    }
    return !stop;
}

void
vhu_notify_watch_stop(void)
{
    atomic_store_relaxed(&stopping, true);
    if (!vhu_notify_init()) {
        wake_watchdog();
    }
}
