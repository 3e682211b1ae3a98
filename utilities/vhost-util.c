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

#include "vhost-util.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "dirs.h"
#include "jsonrpc.h"
#include "latch.h"
#include "openvswitch/json.h"
#include "openvswitch/poll-loop.h"
#include "ovs-compat.h"
#include "unixctl.h"
#include "util.h"

static struct latch end_latch;
static volatile sig_atomic_t ending;

/* Command lines. */

void
vhost_bad_usage(const char *command, const char *format, ...)
{
    va_list args;

    fprintf(stderr, "%s: ", command);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, " (use --help for help)\n");
    exit(VHOST_EXIT_USAGE);
}

uint64_t
vhost_parse_number(const char *command, const char *option, const char *text,
                   uint64_t min, uint64_t max)
{
    unsigned long long int value;

    if (!str_to_ullong(text, 10, &value) || value < min || value > max
        || strchr(text, '-')) {
        vhost_bad_usage(command, "%s: \"%s\" is not a number from %"PRIu64
                        " to %"PRIu64, option, text, min, max);
    }
    return value;
}

double
vhost_parse_real(const char *command, const char *option, const char *text,
                 double min, double max)
{
    double value;
    char *end;

    errno = 0;
    value = strtod(text, &end);
    if (end != text && *end) {
        value *= (*end == 'k' ? 1e3 : *end == 'M' ? 1e6 : *end == 'G' ? 1e9
                  : NAN);
        end++;
    }
    if (errno || end == text || *end || !(value >= min && value <= max)) {
        vhost_bad_usage(command, "%s: \"%s\" is not a number from %g to %g",
                        option, text, min, max);
    }
    return value;
}

/* Signals. */

static void
handle_signal(int sig OVS_UNUSED)
{
    if (ending) {
        /* Somebody has lost patience. */
        _exit(EXIT_FAILURE);
    }
    vhost_end();
}

void
vhost_catch_signals(void)
{
    struct sigaction action = { .sa_handler = handle_signal };

    latch_init(&end_latch);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool
vhost_is_ending(void)
{
    return ending;
}

void
vhost_end(void)
{
    ending = true;
    latch_set(&end_latch);
}

void
vhost_wait_end(void)
{
    latch_wait(&end_latch);
}

void
vhost_sleep(unsigned int ms)
{
    poll_timer_wait(ms);
    vhost_wait_end();
    poll_block();
}

/* Output. */

void
vhost_print_json(struct json *json, bool pretty)
{
    char *text = json_to_string(json, JSSF_SORT | (pretty ? JSSF_PRETTY : 0));

    puts(text);
    fflush(stdout);
    free(text);
    json_destroy(json);
}

const char *
vhost_format_rate(double value, char *buf, size_t size)
{
    static const char units[] = { '\0', 'k', 'M', 'G', 'T' };
    size_t i = 0;

    while (value >= 999.5 && i < sizeof units - 1) {
        value /= 1000;
        i++;
    }
    snprintf(buf, size, "%.*f%c",
             !i || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2, value,
             units[i]);
    return buf;
}

/* A switch. */

/* Returns the path of the control socket of 'target' in '*path', or a positive
 * errno with a phrase in '*error'. */
static int
find_control_socket(const char *target, char **path, char **error)
{
    char *pidfile;
    pid_t pid;

    if (target[0] == '/') {
        *path = xstrdup(target);
        return 0;
    }

    pidfile = xasprintf("%s/%s.pid", ovs_rundir(), target);
    pid = access(pidfile, R_OK) ? -errno : read_pidfile(pidfile);
    if (pid > 0) {
        *path = xasprintf("%s/%s.%ld.ctl", ovs_rundir(), target,
                          (long int) pid);
    } else {
        *error = xasprintf("%s does not run (cannot read %s: %s)", target,
                           pidfile, ovs_strerror(-pid));
    }
    free(pidfile);
    return pid > 0 ? 0 : pid ? -pid : ENOENT;
}

int
vhost_call(const char *target, const char *method, size_t n_args,
           char *args[], char **answer, char **error)
{
    struct jsonrpc *client;
    char *refusal = NULL;
    int retval;
    char *path;

    *answer = *error = NULL;
    retval = find_control_socket(target, &path, error);
    if (retval) {
        return retval;
    }
    retval = unixctl_client_create(path, &client);
    if (retval) {
        *error = xasprintf("cannot connect to %s: %s", path,
                           ovs_strerror(retval));
        free(path);
        return retval;
    }

    retval = ovs_unixctl_transact(client, method, n_args, args, answer,
                                  &refusal);
    if (retval) {
        *error = xasprintf("no answer from %s: %s", path,
                           ovs_retval_to_string(retval));
        retval = retval < 0 ? ECONNRESET : retval;
    } else if (refusal) {
        size_t len = strlen(refusal);

        if (len && refusal[len - 1] == '\n') {
            refusal[len - 1] = '\0';
        }
        *error = refusal;
        retval = EREMOTEIO;
    }
    jsonrpc_close(client);
    free(path);
    return retval;
}

int
vhost_call_json(const char *target, const char *method, size_t n_args,
                char *args[], struct json **answer, char **error)
{
    char *text;
    int retval = vhost_call(target, method, n_args, args, &text, error);

    *answer = NULL;
    if (!retval) {
        *answer = json_from_string(text);
        if ((*answer)->type == JSON_STRING) {
            *error = xasprintf("%s: unexpected answer: %s", method,
                               json_string(*answer));
            json_destroy(*answer);
            *answer = NULL;
            retval = EPROTO;
        }
    }
    free(text);
    return retval;
}

/* Returns member 'name' of 'object' if it is there and has 'type', else
 * null. */
static const struct json *
find_member(const struct json *object, const char *name, enum json_type type)
{
    const struct json *member = (object && object->type == JSON_OBJECT
                                 ? shash_find_data(json_object(object), name)
                                 : NULL);

    return member && member->type == type ? member : NULL;
}

int64_t
vhost_json_integer(const struct json *object, const char *name)
{
    const struct json *member = find_member(object, name, JSON_INTEGER);

    return member ? json_integer(member) : 0;
}

const char *
vhost_json_string(const struct json *object, const char *name)
{
    const struct json *member = find_member(object, name, JSON_STRING);

    return member ? json_string(member) : NULL;
}

bool
vhost_json_bool(const struct json *object, const char *name)
{
    return find_member(object, name, JSON_TRUE);
}

size_t
vhost_json_array(const struct json *object, const char *name,
                 const struct json **array)
{
    *array = find_member(object, name, JSON_ARRAY);
    return *array ? json_array_size(*array) : 0;
}
