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

#ifndef VHU_CTL_H
#define VHU_CTL_H 1

/* The control thread
 * ==================
 *
 * One thread runs the protocol of all ports: it calls 'run' and 'wait' of
 * each of its clients in turn and then sleeps in poll_block().  A second one
 * is the watchdog of vhu-notify.h.
 *
 * Both threads exist only while there is a client, so that a switch without
 * our ports has no thread of ours, and nothing is started before the daemon
 * has forked.
 *
 *
 * Locks
 * -----
 *
 * 'run' and 'wait' are called without a lock of ours.  vhu_ctl_remove() waits
 * until they have returned, for that client only, so it must not be called
 * with a lock that they take. */

#include <stdbool.h>

#include "openvswitch/list.h"

struct vhu_ctl_client {
    /* Set by the owner before vhu_ctl_add(). */
    void (*run)(struct vhu_ctl_client *);
    void (*wait)(struct vhu_ctl_client *);

    struct ovs_list list_node;
};

/* Adds 'client', and starts the threads if it is the first one.  Returns 0, or
 * a positive errno if there are no descriptors left for these. */
int vhu_ctl_add(struct vhu_ctl_client *client);

/* Removes 'client' and waits until its callbacks have returned.  Stops the
 * threads if it was the last one.
 *
 * vhu_ctl_add() and this function must not be called at the same time. */
void vhu_ctl_remove(struct vhu_ctl_client *client);

/* Makes the control thread run all clients.  Returns false if there are none.
 * Any thread. */
bool vhu_ctl_kick(void);

#endif /* vhu-ctl.h */
