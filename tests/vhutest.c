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

#include "vhutest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openvswitch/vlog.h"
#include "util.h"

struct vhutest {
    const char *name;
    vhutest_function *function;
};

static struct vhutest *tests;
static size_t n_tests;
static size_t allocated_tests;

/* Makes 'function' what "vhutest 'name'" runs.  For VHUTEST_REGISTER. */
void
vhutest_register(const char *name, vhutest_function *function)
{
    if (n_tests >= allocated_tests) {
        tests = x2nrealloc(tests, &allocated_tests, sizeof *tests);
    }
    tests[n_tests].name = name;
    tests[n_tests].function = function;
    n_tests++;
}

static void
usage(void)
{
    printf("usage: %s TEST [ARG]...\nwhere TEST is one of:\n", program_name);
    for (size_t i = 0; i < n_tests; i++) {
        printf("  %s\n", tests[i].name);
    }
}

/* Turns off the log of a module of OVS that complains on a busy machine, and
 * says much while it does. */
static void
silence(const char *name)
{
    struct vlog_module *module = vlog_module_from_name(name);

    if (module) {
        vlog_set_levels(module, VLF_ANY_DESTINATION, VLL_OFF);
    }
}

int
main(int argc, char *argv[])
{
    set_program_name(argv[0]);
    vlog_set_levels(NULL, VLF_SYSLOG, VLL_OFF);

    silence("coverage");
    silence("ovs_rcu");
    silence("poll_loop");
    silence("timeval");

    if (argc < 2 || !strcmp(argv[1], "--help")) {
        usage();
        exit(argc < 2 ? EXIT_FAILURE : EXIT_SUCCESS);
    }
    for (size_t i = 0; i < n_tests; i++) {
        if (!strcmp(argv[1], tests[i].name)) {
            tests[i].function(argc - 1, argv + 1);
            return EXIT_SUCCESS;
        }
    }
    ovs_fatal(0, "%s: no such test (use --help for a list)", argv[1]);
}
