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

#include "vhu-startup.h"

#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "ovs-atomic.h"
#include "timeval.h"
#include "util.h"
#include "vhu-ctl.h"

VLOG_DEFINE_THIS_MODULE(vhu_startup);

static atomic_bool held = false;

static atomic_bool ended = false;

/* When the switch was complete but for its guests (ms), or 0. */
static atomic_llong complete_since = 0;

/* Main thread only. */
static bool flows_complete = true;

/* Control thread only. */
static long long int turn_since; /* 'complete_since' when the turn began. */
static long long int turn_until; /* Until when to wait for some port. */
static unsigned int n_missing;  /* Ports that are connected and not up. */

static long long int
get_complete_since(void)
{
    long long int since;

    atomic_read_explicit(&complete_since, &since, memory_order_acquire);
    return since;
}

void
vhu_startup_begin(void)
{
    atomic_store_relaxed(&held, true);
}

void
vhu_startup_set_flows(bool complete)
{
    flows_complete = complete;
}

void
vhu_startup_ports_made(void)
{
    if (flows_complete && !get_complete_since()) {
        atomic_store_explicit(&complete_since, time_msec(),
                              memory_order_release);
        if (!vhu_ctl_kick()) {
            /* There are none. */
            atomic_store_relaxed(&held, false);
        }
    }
}

void
vhu_startup_end(void)
{
    atomic_store_relaxed(&ended, true);
    atomic_store_relaxed(&held, true);
}

bool
vhu_startup_is_held(void)
{
    bool value;

    atomic_read_relaxed(&held, &value);
    return value;
}

void
vhu_startup_expect(long long int when)
{
    n_missing++;
    turn_until = MAX(turn_until, when);
}

void
vhu_startup_run(void)
{
    long long int now = time_msec();
    bool over;

    atomic_read_relaxed(&ended, &over);
    if (over || !vhu_startup_is_held()) {
        return;
    }
    if (turn_since
        && now >= MIN(turn_until, turn_since + VHU_STARTUP_MAX_MS)) {
        VLOG_INFO("ports receive from now on, %lld ms after they were "
                  "configured (%u are connected and not up)",
                  now - turn_since, n_missing);
        atomic_store_relaxed(&held, false);
        poll_immediate_wake();
    } else {
        long long int since = get_complete_since();

        if (since != turn_since) {
            poll_immediate_wake();
        } else if (since) {
            poll_timer_wait_until(MIN(turn_until,
                                      since + VHU_STARTUP_MAX_MS));
        }
        turn_since = since;
    }
    turn_until = 0;
    n_missing = 0;
}
