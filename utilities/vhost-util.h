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

#ifndef VHOST_UTIL_H
#define VHOST_UTIL_H 1

/* What the sub-commands of ovs-vhost have in common
 * =================================================
 *
 * Command lines, signals, output, and calls to a running switch. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "openvswitch/compiler.h"

struct json;
struct latch;

/* Exit statuses: EXIT_SUCCESS, EXIT_FAILURE and this. */
#define VHOST_EXIT_USAGE 2

/* Command lines. */

/* Says what is wrong with the command line of 'command', and exits. */
void vhost_bad_usage(const char *command, const char *format, ...)
    OVS_PRINTF_FORMAT(2, 3) OVS_NO_RETURN;

/* Returns the number 'text', an argument of 'option'.  If it is none, or not
 * from 'min' to 'max', says so and exits. */
uint64_t vhost_parse_number(const char *command, const char *option,
                            const char *text, uint64_t min, uint64_t max);

/* The same for a number with a fraction, and for one that may end in k, M or
 * G (powers of 1000). */
double vhost_parse_real(const char *command, const char *option,
                        const char *text, double min, double max);

/* Signals. */

/* Has SIGINT and SIGTERM ask for the end instead of killing the process; the
 * second one does that. */
void vhost_catch_signals(void);

/* Returns true if the end was asked for. */
bool vhost_is_ending(void);

/* Asks for the end, as a signal does. */
void vhost_end(void);

/* Arranges for poll_block() to wake up then. */
void vhost_wait_end(void);

/* Sleeps for 'ms' milliseconds, or until the end is asked for. */
void vhost_sleep(unsigned int ms);

/* Output. */

/* Prints 'json', which it frees, as one line, or, if 'pretty', as several. */
void vhost_print_json(struct json *json, bool pretty);

/* Returns 'value' with three digits and k, M or G, "1.23M", in 'buf'. */
const char *vhost_format_rate(double value, char *buf, size_t size);

/* A switch. */

/* Calls 'method' of the daemon 'target', "ovs-vswitchd" or the path of a
 * control socket as for ovs-appctl(8).  'args' has 'n_args' arguments.
 *
 * Returns 0 with the answer in '*answer', or a positive errno with a phrase in
 * '*error': EREMOTEIO if the daemon refused, otherwise it could not be
 * reached.  Both strings are newly allocated. */
int vhost_call(const char *target, const char *method, size_t n_args,
               char *args[], char **answer, char **error);

/* The same for a method that answers with JSON.  An answer that is none is
 * EPROTO. */
int vhost_call_json(const char *target, const char *method, size_t n_args,
                    char *args[], struct json **answer, char **error);

/* Members of JSON objects that came from elsewhere: what is missing, or of
 * another type, is 0, null, false or the empty array. */
int64_t vhost_json_integer(const struct json *object, const char *name);
const char *vhost_json_string(const struct json *object, const char *name);
bool vhost_json_bool(const struct json *object, const char *name);
size_t vhost_json_array(const struct json *object, const char *name,
                        const struct json **array);

#endif /* vhost-util.h */
