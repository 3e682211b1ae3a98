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

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ovs-thread.h"
#include "timeval.h"
#include "util.h"
#include "vhu-notify.h"
#include "vhu-peer.h"
#include "vhutest.h"

/* How long a blocked write may take here.  The bound is 10 ms on a machine
 * that does nothing else, which a machine that runs tests is not. */
#define MAX_MS 200

static void *
watchdog_main(void *aux OVS_UNUSED)
{
    while (vhu_notify_watch()) {
        /* Nothing. */
    }
    return NULL;
}

/* Returns an eventfd at its maximum, where the next write blocks. */
static int
full_eventfd(void)
{
    uint64_t max = UINT64_MAX - 1;
    int fd = eventfd(0, 0);

    ovs_assert(write(fd, &max, sizeof max) == sizeof max);
    return fd;
}

static void
set_nonblock(int fd, bool nonblock)
{
    int flags = fcntl(fd, F_GETFL);

    ovs_assert(!fcntl(fd, F_SETFL, (nonblock
                                ? flags | O_NONBLOCK
                                : flags & ~O_NONBLOCK)));
}

/* What counts as an eventfd. */
static void
test_check_fd(void)
{
    char name[] = "/tmp/vhutest-notify.XXXXXX";
    int fds[2], fd;

    fd = eventfd(0, 0);
    ovs_assert(!vhu_notify_check_fd(fd));
    ovs_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
    ovs_assert(!vhu_notify_check_fd(fd));
    close(fd);
    ovs_assert(vhu_notify_check_fd(fd) == EBADF);
    ovs_assert(vhu_notify_check_fd(-1) == EBADF);

    ovs_assert(!pipe(fds));
    ovs_assert(vhu_notify_check_fd(fds[1]) == EBADF);
    close(fds[0]);
    close(fds[1]);

    fd = mkstemp(name);
    ovs_assert(vhu_notify_check_fd(fd) == EBADF);
    close(fd);
    unlink(name);

    fd = open("/dev/null", O_RDWR);
    ovs_assert(vhu_notify_check_fd(fd) == EBADF);
    close(fd);
}

static void
test_plain(void)
{
    uint64_t n;
    int fd = eventfd(0, 0);

    ovs_assert(!vhu_notify(fd));
    ovs_assert(!vhu_notify(fd));
    ovs_assert(read(fd, &n, sizeof n) == sizeof n && n == 2);
    close(fd);
    ovs_assert(vhu_notify(fd) == EBADF);

    /* A counter at its maximum wakes whoever waits for it. */
    fd = full_eventfd();
    set_nonblock(fd, true);
    ovs_assert(!vhu_notify(fd));
    close(fd);
}

/* Writes that block, also from several threads, do not block for long, and
 * hold up no one else. */
static void *
blocked_main(void *aux OVS_UNUSED)
{
    int full = full_eventfd();
    int good = eventfd(0, EFD_NONBLOCK);

    for (int i = 0; i < 5; i++) {
        long long int start = time_msec();

        ovs_assert(vhu_notify(full) == EINTR);
        ovs_assert(time_msec() - start < MAX_MS);
        ovs_assert(!vhu_notify(good));
    }
    close(full);
    close(good);
    return NULL;
}

static void
test_blocked(void)
{
    pthread_t watchdog = ovs_thread_create("watchdog", watchdog_main, NULL);
    pthread_t threads[3];

    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3; i++) {
            threads[i] = ovs_thread_create("blocked", blocked_main, NULL);
        }
        for (int i = 0; i < 3; i++) {
            xpthread_join(threads[i], NULL);
        }

        /* Once more when the watchdog has gone to sleep. */
        poll(NULL, 0, 600);
    }
    vhu_notify_watch_stop();
    xpthread_join(watchdog, NULL);
}

/* A peer that clears O_NONBLOCK again and again while we notify. */

static atomic_bool toggling;

static void *
toggle_main(void *fdp)
{
    int fd = *(int *) fdp;
    bool go_on;

    do {
        set_nonblock(fd, false);
        set_nonblock(fd, true);
        atomic_read(&toggling, &go_on);
    } while (go_on);
    return NULL;
}

static void
test_toggle(void)
{
    pthread_t watchdog = ovs_thread_create("watchdog", watchdog_main, NULL);
    long long int end = time_msec() + 500;
    int full = full_eventfd();
    pthread_t toggler;
    int n = 0;

    atomic_store(&toggling, true);
    toggler = ovs_thread_create("toggle", toggle_main, &full);
    for (; time_msec() < end; n++) {
        long long int start = time_msec();
        int error = vhu_notify(full);

        ovs_assert(!error || error == EINTR);
        ovs_assert(time_msec() - start < MAX_MS);
    }
    ovs_assert(n > 1);
    atomic_store(&toggling, false);
    xpthread_join(toggler, NULL);
    vhu_notify_watch_stop();
    xpthread_join(watchdog, NULL);
    close(full);
}

/* A signal that is not the watchdog's does not end the write. */

static void
handle_sigusr1(int signr OVS_UNUSED)
{
}

struct writer {
    pthread_t thread;
    int fd;
};

static void *
reader_main(void *writer_)
{
    const struct writer *writer = writer_;
    uint64_t n;

    /* By now the writer is in its write, most likely. */
    poll(NULL, 0, 50);
    pthread_kill(writer->thread, SIGUSR1);
    poll(NULL, 0, 50);
    eventfd_read(writer->fd, &n);
    return NULL;
}

static void
test_signal(void)
{
    struct writer writer = { pthread_self(), full_eventfd() };
    struct sigaction sa;
    pthread_t reader;

    memset(&sa, 0, sizeof sa);
    sa.sa_handler = handle_sigusr1;
    sigaction(SIGUSR1, &sa, NULL);

    reader = ovs_thread_create("reader", reader_main, &writer);
    ovs_assert(!vhu_notify(writer.fd));
    xpthread_join(reader, NULL);
    close(writer.fd);
}

/* Without a descriptor for the watchdog nothing is written that nobody
 * watches. */
static void
test_no_fds(void)
{
    int fd = full_eventfd();
    pthread_t watchdog;

    limit_fds(0);
    ovs_assert(vhu_notify(fd) == EMFILE);
    ovs_assert(vhu_notify_init() == EMFILE);
    unlimit_fds();

    watchdog = ovs_thread_create("watchdog", watchdog_main, NULL);
    ovs_assert(vhu_notify(fd) == EINTR);
    vhu_notify_watch_stop();
    xpthread_join(watchdog, NULL);
    close(fd);
}

/* Measuring. */

static int
plain_write(int fd)
{
    const uint64_t one = 1;

    return write(fd, &one, sizeof one) == sizeof one ? 0 : errno;
}

/* Returns how long 'notify' takes, in ns, best of some runs. */
static double
measure_one(int (*notify)(int fd), int fd)
{
    enum { N = 200000, N_RUNS = 5 };
    double best = 0;

    for (int run = 0; run < N_RUNS; run++) {
        struct timespec start, end;
        double elapsed;

        xclock_gettime(CLOCK_MONOTONIC, &start);
        for (int i = 0; i < N; i++) {
            ovs_assert(!notify(fd));
        }
        xclock_gettime(CLOCK_MONOTONIC, &end);
        elapsed = ((end.tv_sec - start.tv_sec) * 1e9
                   + (end.tv_nsec - start.tv_nsec));
        best = run ? MIN(best, elapsed) : elapsed;
    }
    return best / N;
}

static void *
waiter_main(void *fd_)
{
    const int *fd = fd_;
    uint64_t value;

    /* The value above any sum of ours is the end. */
    do {
        ovs_assert(read(*fd, &value, sizeof value) == sizeof value);
    } while (value < UINT32_MAX);
    return NULL;
}

/* Not a test: prints what a notification costs.  For tests/bench. */
static void
measure(void)
{
    const uint64_t end = UINT32_MAX;
    int fd = eventfd(0, 0);
    pthread_t waiter;

    printf("write(2) to an eventfd: %.0f ns\n", measure_one(plain_write, fd));
    printf("notification: %.0f ns\n", measure_one(vhu_notify, fd));
    waiter = ovs_thread_create("waiter", waiter_main, &fd);
    printf("notification that may wake a thread: %.0f ns\n",
           measure_one(vhu_notify, fd));
    ovs_assert(write(fd, &end, sizeof end) == sizeof end);
    xpthread_join(waiter, NULL);
    close(fd);
}

static void
test_vhu_notify_main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*function)(void);
    } tests[] = {
        { "no-fds", test_no_fds }, /* First, while it has none. */
        { "check-fd", test_check_fd },
        { "plain", test_plain },
        { "blocked", test_blocked },
        { "toggle", test_toggle },
        { "signal", test_signal },
    };

    if (argc == 2 && !strcmp(argv[1], "measure")) {
        measure();
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc < 2 || !strcmp(argv[1], tests[i].name)) {
            tests[i].function();
        }
    }
}

VHUTEST_REGISTER("vhu-notify", test_vhu_notify_main);
