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

#include "plugin.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef DPDK_NETDEV
#include <rte_version.h>
#endif

#include "coverage.h"
#include "dpdk.h"
#include "if-notifier.h"
#include "openvswitch/util.h"
#include "openvswitch/vlog.h"
#include "vswitch-idl.h"

/* The plugin, vhostuser.so or vhostuser-dpdk.so: may this process use it?
 * =====================================================================
 *
 * LD_PRELOAD puts the plugin into every program that a script starts.  Only
 * in ovs-vswitchd has it anything to do, and only in one that shares its
 * library with us, is of the version that we were built with, and has the same
 * kind of "struct dp_packet".  Everywhere else it must do nothing: the object
 * is linked so that a missing symbol is no error, see automake.mk, and the
 * constructors with which OVS's macros register log modules and counters come
 * here first.
 *
 * Until plugin_usable() has said yes, no function of OVS is called but by
 * dlsym(). */

void __real_vlog_insert_module(struct ovs_list *);
void __wrap_vlog_insert_module(struct ovs_list *);
void __real_coverage_counter_register(struct coverage_counter *);
void __wrap_coverage_counter_register(struct coverage_counter *);

/* Finds out the version of the library that this process uses, as a string.
 * Returns null if it has no such library.
 *
 * The library knows its version, but has no function that tells it.  It names
 * it, however, to a program whose own version is different.  main() sets the
 * right name later. */
static const char *
library_version(void)
{
    static char version[64];
    void (*set_name)(const char *, const char *);
    const char *(*get_version)(void);
    const char *s;

    set_name = dlsym(RTLD_DEFAULT, "ovs_set_program_name");
    get_version = dlsym(RTLD_DEFAULT, "ovs_get_program_version");
    if (!set_name || !get_version) {
        return NULL;
    }
    set_name("ovs-vswitchd", "vhostuser.so");
    s = strstr(get_version(), "Open vSwitch Library ");
    if (!s || sscanf(s, "Open vSwitch Library %63s", version) != 1) {
        return "unknown";
    }
    return version;
}

/* Only a library with DPDK has this function other than inline. */
static bool
library_has_dpdk(void)
{
    return dlsym(RTLD_DEFAULT, "free_dpdk_buf") != NULL;
}

#ifdef DPDK_NETDEV
#define PLUGIN "vhostuser-dpdk.so"
#define BUILT_WITH_DPDK true

/* The version of DPDK's binary interface: a new one comes with the release of
 * each November. */
#define DPDK_ABI(YEAR, MONTH) ((YEAR) + ((MONTH) >= 11))

/* Returns true if the DPDK of this process is compatible with ours. */
static bool
check_dpdk(void)
{
    const char *(*get_version)(void) = dlsym(RTLD_DEFAULT, "rte_version");
    const char *version = get_version ? get_version() : "no DPDK";
    unsigned int year, month;

    if (sscanf(version, "DPDK %u.%u", &year, &month) != 2
        || (DPDK_ABI(year, month)
            != DPDK_ABI(RTE_VER_YEAR, RTE_VER_MONTH))) {
        fprintf(stderr, PLUGIN": not used: built for DPDK %d.%02d, this is "
                "%s\n", RTE_VER_YEAR, RTE_VER_MONTH, version);
        return false;
    }
    return true;
}
#else
#define PLUGIN "vhostuser.so"
#define BUILT_WITH_DPDK false

static bool
check_dpdk(void)
{
    return true;
}
#endif

static bool
check_process(void)
{
    const char *version;

    if (!strstr(program_invocation_short_name, "ovs-vswitchd")) {
        return false;
    }
    version = library_version();
    if (!version) {
        fprintf(stderr, PLUGIN": not used: this ovs-vswitchd does not "
                "share its library (take the ovs-vswitchd that comes with "
                PLUGIN")\n");
        return false;
    }
    if (strcmp(version, VERSION)) {
        fprintf(stderr, PLUGIN": not used: built for Open vSwitch %s, "
                "this is %s\n", VERSION, version);
        return false;
    }
    if (library_has_dpdk() != BUILT_WITH_DPDK) {
        fprintf(stderr, PLUGIN": not used: built for an Open vSwitch "
                "%s DPDK, this is one %s\n",
                BUILT_WITH_DPDK ? "with" : "without",
                BUILT_WITH_DPDK ? "without" : "with");
        return false;
    }
    return check_dpdk();
}

/* Whether this process may use the plugin.  If it is an ovs-vswitchd and may
 * not, the first call says why, in one line. */
static bool
plugin_usable(void)
{
    static enum { UNKNOWN, YES, NO } usable = UNKNOWN;

    if (usable == UNKNOWN) {
        usable = check_process() ? YES : NO;
    }
    return usable == YES;
}

void
__wrap_vlog_insert_module(struct ovs_list *module)
{
    if (plugin_usable()) {
        __real_vlog_insert_module(module);
    }
}

void
__wrap_coverage_counter_register(struct coverage_counter *counter)
{
    if (plugin_usable()) {
        __real_coverage_counter_register(counter);
    }
}

/* Takes the place of OVS's function of this name. */
__attribute__((visibility("default"))) void
dpdk_init(const struct smap *other_config)
{
    void (*real)(const struct smap *) = dlsym(RTLD_NEXT, "dpdk_init");

    if (plugin_usable()) {
        plugin_before_dpdk(other_config);
    }
    if (real) {
        real(other_config);
    }
    if (plugin_usable()) {
        plugin_run(other_config);
    }
}

/* Takes the place of OVS's function of this name. */
__attribute__((visibility("default"))) void
ovsrec_interface_set_error(const struct ovsrec_interface *iface,
                           const char *error)
{
    void (*real)(const struct ovsrec_interface *, const char *error)
        = dlsym(RTLD_NEXT, "ovsrec_interface_set_error");
    char *ours = (!error && plugin_usable()
                  ? plugin_interface_error(iface)
                  : NULL);

    if (real) {
        real(iface, ours ? ours : error);
    }
    free(ours);
}

/* Takes the place of OVS's function of this name. */
__attribute__((visibility("default"))) void
if_notifier_destroy(struct if_notifier *notifier)
{
    void (*real)(struct if_notifier *) = dlsym(RTLD_NEXT,
                                               "if_notifier_destroy");

    if (plugin_usable()) {
        plugin_end();
    }
    if (real) {
        real(notifier);
    }
}
