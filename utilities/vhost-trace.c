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

#include "ovs-vhost.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openvswitch/dynamic-string.h"
#include "openvswitch/json.h"
#include "ovs-compat.h"
#include "timeval.h"
#include "util.h"
#include "vhost-util.h"

static const char command[] = "ovs-vhost trace";

/* How often we ask the switch for what is new, in ms. */
#define INTERVAL 200

struct trace {
    const char *target;
    char *port;
    bool follow;
    bool json;

    int64_t id;                 /* Of the trace in the switch. */
    int64_t next;               /* Record to ask for. */
    bool begun;                 /* There was an answer. */
    bool absent;                /* There was none the last time. */
};

static void OVS_NO_RETURN
usage(void)
{
    printf("%s: the vhost-user messages of a port of a running switch\n"
           "usage: %s [OPTION...] PORT\n\n"
           "Prints the last 256 messages, and then what comes, until it is "
           "interrupted.\n\n"
           "options:\n"
           "  -t, --target=TARGET  pidfile or socket of the switch, as for "
           "ovs-appctl\n"
           "                       (default: ovs-vswitchd)\n"
           "  --no-follow          end after the messages that are there\n"
           "  --json               one JSON object a line\n"
           "  -h, --help           print this\n\n"
           "\"in\" is what the peer of the switch sent, \"out\" what the "
           "switch sent.\n", command, command);
    exit(EXIT_SUCCESS);
}

static void
parse_options(int argc, char *argv[], struct trace *trace)
{
    enum { OPT_NO_FOLLOW = 256, OPT_JSON };
    static const struct option options[] = {
        { "target", required_argument, NULL, 't' },
        { "no-follow", no_argument, NULL, OPT_NO_FOLLOW },
        { "json", no_argument, NULL, OPT_JSON },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    int c;

    while ((c = getopt_long(argc, argv, "t:h", options, NULL)) != -1) {
        switch (c) {
        case 't':
            trace->target = optarg;
            break;
        case OPT_NO_FOLLOW:
            trace->follow = false;
            break;
        case OPT_JSON:
            trace->json = true;
            break;
        case 'h':
            usage();
        default:
            vhost_bad_usage(command, "bad option");
        }
    }
    if (argc - optind != 1) {
        vhost_bad_usage(command, "needs one port");
    }
    trace->port = argv[optind];
}

/* Prints 'record' in words, with the time as in the log of the switch. */
static void
print_record(const struct json *record)
{
    const char *type = vhost_json_string(record, "type");
    const char *name = vhost_json_string(record, "name");
    const char *text = vhost_json_string(record, "text");
    const char *error = vhost_json_string(record, "error");
    int64_t fds = vhost_json_integer(record, "fds");
    char *when = xastrftime_msec("%Y-%m-%dT%H:%M:%S.###Z",
                                 vhost_json_integer(record, "usec") / 1000,
                                 true);

    printf("%s ", when);
    free(when);
    if (!name) {
        printf(" --  %s%s%s", type ? type : "?", text ? ": " : "",
               text ? text : "");
    } else {
        const char *direction = vhost_json_string(record, "direction");

        printf(" %-3s %s%s", direction ? direction : "?", name,
               type && !strcmp(type, "reply") ? " reply" : "");
        if (text) {
            printf(": %s", text);
        }
        if (fds) {
            printf(" (%"PRId64" fd%s)", fds, fds == 1 ? "" : "s");
        }
        if (error) {
            printf(" -- refused: %s", error);
        }
    }
    putchar('\n');
}

/* Prints what has come, given the 'answer' of the switch. */
static void
print_answer(struct trace *trace, const struct json *answer)
{
    int64_t id = vhost_json_integer(answer, "id");
    const struct json *records;
    size_t n = vhost_json_array(answer, "records", &records);

    if (trace->begun && id != trace->id) {
        /* Another switch, or another port of that name: from the start. */
        trace->begun = false;
        trace->next = 0;
        return;
    }
    if (n && trace->begun
        && vhost_json_integer(json_array_at(records, 0), "seqno")
           > trace->next) {
        fprintf(stderr, "%s: some messages are missing here\n", command);
    }
    for (size_t i = 0; i < n; i++) {
        const struct json *record = json_array_at(records, i);

        if (trace->json) {
            vhost_print_json(json_clone(record), false);
        } else {
            print_record(record);
        }
    }
    fflush(stdout);
    trace->id = id;
    trace->next = vhost_json_integer(answer, "next");
    trace->begun = true;
}

/* Asks once.  Returns 0 or a positive errno, with a phrase in '*error'. */
static int
ask(struct trace *trace, char **error)
{
    char since[24];
    char *args[] = { trace->port, since };
    struct json *answer;
    int retval;

    snprintf(since, sizeof since, "%"PRId64, trace->next);
    retval = vhost_call_json(trace->target, "vhostuser/trace",
                             ARRAY_SIZE(args), args, &answer, error);
    if (!retval) {
        print_answer(trace, answer);
        json_destroy(answer);
    }
    return retval;
}

int
vhost_trace_main(int argc, char *argv[])
{
    struct trace trace = { .target = "ovs-vswitchd", .follow = true };

    parse_options(argc, argv, &trace);
    vhost_catch_signals();
    do {
        char *error;

        if (!ask(&trace, &error)) {
            trace.absent = false;
        } else if (!trace.id) {
            fprintf(stderr, "%s: %s\n", command, error);
            free(error);
            return EXIT_FAILURE;
        } else {
            if (!trace.absent) {
                fprintf(stderr, "%s: %s; waiting\n", command, error);
            }
            free(error);
            trace.absent = true;
        }
        if (trace.follow) {
            vhost_sleep(INTERVAL);
        }
    } while (trace.follow && !vhost_is_ending());
    return EXIT_SUCCESS;
}
