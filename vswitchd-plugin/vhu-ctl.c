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

#include "vhu-ctl.h"

#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

#include "openvswitch/poll-loop.h"
#include "ovs-atomic.h"
#include "ovs-thread.h"
#include "random.h"
#include "seq.h"
#include "util.h"
#include "vhu-mem.h"
#include "vhu-notify.h"
#include "vhu-sigbus.h"
#include "vhu-startup.h"

static struct ovs_mutex list_mutex = OVS_MUTEX_INITIALIZER;
static struct ovs_list clients OVS_GUARDED_BY(list_mutex)
    = OVS_LIST_INITIALIZER(&clients);

/* The client whose callback the control thread is in, which stays in the list
 * as long.  'current_done' is signaled when it changes. */
static struct vhu_ctl_client *current OVS_GUARDED_BY(list_mutex);
static pthread_cond_t current_done = PTHREAD_COND_INITIALIZER;

/* Of the two threads, while there are clients.  Used by vhu_ctl_add() and
 * vhu_ctl_remove() only. */
static pthread_t control_thread;
static pthread_t notify_thread;

static struct seq *control_seq; /* Changes when there is something to do. */
static atomic_bool control_exit;

static int start_threads(void);
static void stop_threads(void);

int
vhu_ctl_add(struct vhu_ctl_client *client)
{
    bool first;
    int error;

    ovs_mutex_lock(&list_mutex);
    first = ovs_list_is_empty(&clients);
    ovs_mutex_unlock(&list_mutex);

    error = first ? start_threads() : 0;
    if (!error) {
        ovs_mutex_lock(&list_mutex);
        ovs_list_push_back(&clients, &client->list_node);
        ovs_mutex_unlock(&list_mutex);
        vhu_ctl_kick();
    }
    return error;
}

void
vhu_ctl_remove(struct vhu_ctl_client *client)
{
    bool last;

    ovs_mutex_lock(&list_mutex);
    while (current == client) {
        ovs_mutex_cond_wait(&current_done, &list_mutex);
    }
    ovs_list_remove(&client->list_node);
    last = ovs_list_is_empty(&clients);
    ovs_mutex_unlock(&list_mutex);

    if (last) {
        stop_threads();
    }
}

bool
vhu_ctl_kick(void)
{
    bool any;

    ovs_mutex_lock(&list_mutex);
    any = !ovs_list_is_empty(&clients);
    ovs_mutex_unlock(&list_mutex);
    if (any) {
        seq_change(control_seq);
    }
    return any;
}

/* Calls 'run' of each client, or 'wait' if 'wait' is true, with the mutex
 * free, so that clients may come and go meanwhile. */
static void
call_clients(bool wait)
    OVS_EXCLUDED(list_mutex)
{
    struct vhu_ctl_client *client;

    ovs_mutex_lock(&list_mutex);
    LIST_FOR_EACH (client, list_node, &clients) {
        current = client;
        ovs_mutex_unlock(&list_mutex);

        if (wait) {
            client->wait(client);
        } else {
            client->run(client);
        }

        ovs_mutex_lock(&list_mutex);
        current = NULL;
        xpthread_cond_signal(&current_done);
    }
    ovs_mutex_unlock(&list_mutex);
}

/* Open descriptors that the control thread needs in a moment.  OVS gives a
 * pipe to each thread that waits for a "struct seq", and reads a file for each
 * that wants random numbers; it aborts if there are none left. */
static int spare_pipe[2];

static void *
control_main(void *arg OVS_UNUSED)
{
    close(spare_pipe[0]);
    close(spare_pipe[1]);
    random_init();
    seq_wait(control_seq, seq_read(control_seq));
    poll_immediate_wake();
    poll_block();

    for (;;) {
        uint64_t seqno = seq_read(control_seq);
        bool exiting;

        atomic_read_explicit(&control_exit, &exiting, memory_order_acquire);
        if (exiting) {
            return NULL;
        }

        /* What vanishes from here on wakes us again. */
        vhu_mem_clear_dead();
        call_clients(false);
        call_clients(true);
        vhu_startup_run();
        vhu_mem_wait_dead();
        seq_wait(control_seq, seqno);
        poll_block();
    }
}

static void *
notify_main(void *arg OVS_UNUSED)
{
    while (vhu_notify_watch()) {
        continue;
    }
    return NULL;
}

/* Returns 0 or a positive errno. */
static int
start_threads(void)
{
    int error = vhu_notify_init();

    if (!error) {
        error = vhu_sigbus_init();
    }
    if (!error && pipe(spare_pipe)) {
        error = errno;
    }
    if (error) {
        return error;
    }

    if (!control_seq) {
        control_seq = seq_create();
    }
    atomic_store_explicit(&control_exit, false, memory_order_release);
    control_thread = ovs_thread_create("vhostuser", control_main, NULL);
    notify_thread = ovs_thread_create("vhu_notify", notify_main, NULL);
    return 0;
}

/* Neither thread waits for anything that its caller, destroying a port, may
 * hold. */
static void
stop_threads(void)
{
    atomic_store_explicit(&control_exit, true, memory_order_release);
    seq_change(control_seq);
    xpthread_join(control_thread, NULL);

    vhu_notify_watch_stop();
    xpthread_join(notify_thread, NULL);
}
