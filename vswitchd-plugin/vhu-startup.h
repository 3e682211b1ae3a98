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
#ifndef VHU_STARTUP_H
#define VHU_STARTUP_H 1

/* The first moments of the switch, and its last
 * =============================================
 *
 * When the switch starts under running guests, their ports come up one after
 * the other, within some milliseconds.  What the first guest has in its ring
 * would meet a port that is not up yet, and be lost.  A guest does not mind
 * that its packets wait a moment longer.  So no port receives before all that
 * are about to come up have done so.
 *
 * To be about to come up means to have a connection, and not for longer than
 * VHU_STARTUP_PORT_MS: the guest behind it may have no driver.  To have come
 * up means that packets can be sent to it, too.  All of it takes
 * VHU_STARTUP_MAX_MS at most, from when the switch has made its ports and has
 * all its flows (other_config:flow-restore-wait): without these it would drop
 * what it receives.
 *
 * When the switch is asked to exit it removes one port after the other, which
 * is the same from the other end: from then on no port receives.  What the
 * guests send waits in their rings for the next switch.
 *
 * Nothing is held back in between, or in a program that does not call
 * vhu_startup_begin(). */

#include <stdbool.h>

#define VHU_STARTUP_PORT_MS 500
#define VHU_STARTUP_MAX_MS 1000

/* Holds back what comes from the ports.  Main thread, before there are any. */
void vhu_startup_begin(void);

/* Says whether the flows of the switch are complete.  Main thread. */
void vhu_startup_set_flows(bool complete);

/* The switch has made the ports that it has at first.  Main thread, in each
 * turn of its loop; all but the first with complete flows do nothing. */
void vhu_startup_ports_made(void);

/* The switch is about to remove its ports and exit.  Main thread. */
void vhu_startup_end(void);

/* Returns true while no port is to receive.  Any thread. */
bool vhu_startup_is_held(void);

/* Control thread, for a port that has a connection and is not up after its
 * turn: it is worth waiting for until 'when' (ms) at most. */
void vhu_startup_expect(long long int when);

/* Control thread, after all ports have had a turn, before it sleeps. */
void vhu_startup_run(void);

#endif /* vhu-startup.h */
