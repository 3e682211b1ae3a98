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

#ifndef PLUGIN_H
#define PLUGIN_H 1

/* How the provider gets into the switch
 * =====================================
 *
 * OVS has no plugin loader.  Its daemon calls dpdk_init() with 'other_config'
 * of the database at each turn of its main loop, before it configures bridges
 * and before it writes 'iface_types'.  We take the place of that function,
 * call the real one, and then have plugin_run() do what it does:
 *
 *    - In the plugin, vhostuser.so, ours is found first because the object is
 *      preloaded (plugin-preload.c).
 *
 *    - In the relinked daemon the linker exchanges the two
 *      (plugin-daemon.c).
 *
 * Nothing of ours runs before that, so that no thread exists yet when the
 * daemon forks.
 *
 * In the same way we take the place of ovsrec_interface_set_error().  OVS
 * deletes a port whose new options are refused; ours stays as it was, and
 * where the daemon is about to clear the error of an Interface we put the
 * reason there.  And in that of if_notifier_destroy(), which is the first
 * thing that the daemon calls when it begins to dismantle itself. */

/* Which plugin this is, and what it was built for: what --version, the log and
 * "ovs-appctl vhostuser/version" say.
 *
 * ovs-ctl takes the version of Open vSwitch from all lines of --version that
 * have its full name. */
#define PLUGIN_VERSION \
    "ovs-vhostuser " VHU_VERSION " for OVS " VERSION VHU_BUILD_INFO

struct if_notifier;
struct ovsrec_interface;
struct smap;

void plugin_before_dpdk(const struct smap *other_config);
void plugin_run(const struct smap *other_config);
void plugin_end(void);
char *plugin_interface_error(const struct ovsrec_interface *);

#endif /* plugin.h */
