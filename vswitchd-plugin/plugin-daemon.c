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

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "dpdk.h"
#include "if-notifier.h"
#include "util.h"
#include "vswitch-idl.h"

/* The relinked daemon: the linker, with --wrap, sends OVS's calls of these
 * functions to us. */

void __real_dpdk_init(const struct smap *other_config);
void __wrap_dpdk_init(const struct smap *other_config);
void __real_ovsrec_interface_set_error(const struct ovsrec_interface *,
                                       const char *error);
void __wrap_ovsrec_interface_set_error(const struct ovsrec_interface *,
                                       const char *error);
void __real_if_notifier_destroy(struct if_notifier *);
void __wrap_if_notifier_destroy(struct if_notifier *);
void __real_ovs_print_version(uint8_t min_ofp, uint8_t max_ofp);
void __wrap_ovs_print_version(uint8_t min_ofp, uint8_t max_ofp);

void
__wrap_dpdk_init(const struct smap *other_config)
{
    plugin_before_dpdk(other_config);
    __real_dpdk_init(other_config);
    plugin_run(other_config);
}

void
__wrap_ovsrec_interface_set_error(const struct ovsrec_interface *iface,
                                  const char *error)
{
    char *ours = error ? NULL : plugin_interface_error(iface);

    __real_ovsrec_interface_set_error(iface, ours ? ours : error);
    free(ours);
}

void
__wrap_if_notifier_destroy(struct if_notifier *notifier)
{
    plugin_end();
    __real_if_notifier_destroy(notifier);
}

/* One line more for --version.  The first is OVS's, which scripts parse. */
void
__wrap_ovs_print_version(uint8_t min_ofp, uint8_t max_ofp)
{
    __real_ovs_print_version(min_ofp, max_ofp);
    puts(PLUGIN_VERSION);
}
