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

#ifndef TEST_EAL_H
#define TEST_EAL_H 1

/* EAL in a test
 * ============= */

/* Starts EAL with so many megabytes of memory, without hugepages, devices and
 * files. */
void test_eal_start(const char *megabytes);

/* Fails unless there are 'n_pools' pools, from which 'n_in_use' mbufs
 * altogether have been taken. */
void test_eal_check_pools(int n_pools, int n_in_use);

#endif /* test-eal.h */
