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

#ifndef OVS_VHOST_H
#define OVS_VHOST_H 1

/* Sub-commands of ovs-vhost
 * =========================
 *
 * Each has a file of its own, with its options and its help: it is called with
 * the arguments from its name on, and returns the exit status. */

typedef int vhost_command_func(int argc, char *argv[]);

vhost_command_func vhost_bounce_main;
vhost_command_func vhost_perf_main;
vhost_command_func vhost_probe_main;
vhost_command_func vhost_receive_main;
vhost_command_func vhost_send_main;
vhost_command_func vhost_top_main;
vhost_command_func vhost_trace_main;

#endif /* ovs-vhost.h */
