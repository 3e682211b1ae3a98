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

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openvswitch/vlog.h"
#include "util.h"

/* One row, one sub-command. */
static const struct vhost_command {
    const char *name;
    const char *usage;
    const char *purpose;
    vhost_command_func *main;
} commands[] = {
    { "probe", "SOCKET",
      "show what a back-end offers",
      vhost_probe_main },
    { "perf", "SOCKET [SOCKET]",
      "load back-ends and measure them",
      vhost_perf_main },
    { "send", "SOCKET FILE",
      "send the packets of a pcap file to a back-end",
      vhost_send_main },
    { "receive", "SOCKET FILE",
      "write the packets from a back-end to a pcap file",
      vhost_receive_main },
    { "bounce", "SOCKET SOCKET",
      "be a back-end that joins two guests, without a switch",
      vhost_bounce_main },
    { "trace", "PORT",
      "show the messages of a port of the running switch",
      vhost_trace_main },
    { "top", "[PORT]",
      "watch the ports and queues of the running switch",
      vhost_top_main },
};

static void
usage(void)
{
    printf("%s: vhost-user from the command line\n"
           "usage: %s [-v[LEVEL]] COMMAND [ARG...]\n\n"
           "commands:\n", program_name, program_name);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        printf("  %-8s %-16s %s\n", commands[i].name, commands[i].usage,
               commands[i].purpose);
    }
    printf("\n\"%s COMMAND --help\" tells more.  Exit status: 0 success, "
           "1 failure,\n2 bad usage.\n", program_name);
}

int
main(int argc, char *argv[])
{
    int i = 1;

    set_program_name(argv[0]);
    vlog_set_levels(NULL, VLF_ANY_DESTINATION, VLL_WARN);
    vlog_set_levels(NULL, VLF_SYSLOG, VLL_OFF);
    for (; i < argc && !strncmp(argv[i], "-v", 2); i++) {
        vlog_set_verbosity(argv[i][2] ? &argv[i][2] : NULL);
    }
    if (i < argc && (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))) {
        usage();
        return 0;
    }
    if (i < argc && (!strcmp(argv[i], "--version")
                     || !strcmp(argv[i], "-V"))) {
        printf("ovs-vhost %s\n", VHU_VERSION);
        return 0;
    }
    for (size_t j = 0; i < argc && j < ARRAY_SIZE(commands); j++) {
        if (!strcmp(argv[i], commands[j].name)) {
            return commands[j].main(argc - i, argv + i);
        }
    }

    if (i < argc) {
        fprintf(stderr, "%s: unknown command \"%s\"", program_name, argv[i]);
    } else {
        fprintf(stderr, "%s: missing command", program_name);
    }
    fprintf(stderr, " (use --help for help)\n");
    return 2;
}
