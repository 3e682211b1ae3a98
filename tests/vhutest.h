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

#ifndef VHUTEST_H
#define VHUTEST_H 1

/* One program for all tests
 * =========================
 *
 * Each test file defines a function with the prototype of main() and ends
 * with
 *
 *     VHUTEST_REGISTER("virtq-split", test_virtq_split_main);
 *
 * "vhutest virtq-split ARGS..." then calls it with argv[0] "virtq-split".  A
 * test returns to pass, and exits with a nonzero status or aborts to fail. */

#include "compiler.h"

typedef void vhutest_function(int argc, char *argv[]);

void vhutest_register(const char *name, vhutest_function *);

#define VHUTEST_REGISTER(NAME, FUNCTION)            \
    OVS_CONSTRUCTOR(vhutest_register_##FUNCTION)    \
    {                                               \
        vhutest_register(NAME, FUNCTION);           \
    }                                               \
    BUILD_ASSERT_DECL(true)

#endif /* vhutest.h */
