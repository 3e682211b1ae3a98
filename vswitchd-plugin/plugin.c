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

#include <string.h>

#include "dpdk.h"
#include "netdev.h"
#include "netdev-vhostuser.h"
#include "openvswitch/vlog.h"
#include "smap.h"
#include "sset.h"
#include "unixctl.h"
#include "util.h"
#include "vhu-pool.h"
#include "vhu-startup.h"
#include "vswitch-idl.h"

VLOG_DEFINE_THIS_MODULE(vhostuser);

static bool
has_netdev_type(const char *type)
{
    struct sset types = SSET_INITIALIZER(&types);
    bool found;

    netdev_enumerate_types(&types);
    found = sset_contains(&types, type);
    sset_destroy(&types);
    return found;
}

/* The names of DPDK's port types are ours, and were ours until DPDK was about
 * to start. */
static bool aliases_registered;
static bool aliases_given_back;

/* Registers the names of DPDK's port types, as far as 'other_config' wants
 * them and the switch has no such types of its own. */
static void
register_aliases(const struct smap *other_config)
{
    const char *value = smap_get_def(other_config, "vhostuser-dpdk-aliases",
                                     "auto");
    int error;

    if (!strcmp(value, "false")) {
        return;
    }
    if (strcmp(value, "auto") && strcmp(value, "true")) {
        VLOG_WARN("other_config:vhostuser-dpdk-aliases is \"%s\" (expected "
                  "auto, true or false): using auto", value);
        value = "auto";
    }
    if (!strcmp(value, "auto") && has_netdev_type("dpdkvhostuserclient")) {
        return;
    }
    aliases_registered = true;
    error = netdev_vhostuser_register_aliases();
    if (error) {
        VLOG_WARN("types dpdkvhostuser and dpdkvhostuserclient not "
                  "registered (%s)", ovs_strerror(error));
    }
}

/* If DPDK is about to start, later than the switch did, gives the names of its
 * port types back; to be called before dpdk_init().  Main thread only. */
void
plugin_before_dpdk(const struct smap *other_config OVS_UNUSED)
{
#ifdef DPDK_NETDEV
    const char *init = smap_get_def(other_config, "dpdk-init", "false");
    static bool tried;          /* DPDK tries once only. */

    if (tried || (strcasecmp(init, "true") && strcasecmp(init, "try"))) {
        return;
    }
    tried = true;
    if (aliases_registered) {
        netdev_vhostuser_unregister_aliases();
        aliases_registered = false;
        aliases_given_back = true;
    }
#endif
}

/* The relinked daemon also says this for --version. */
static void
plugin_unixctl_version(struct unixctl_conn *conn, int argc OVS_UNUSED,
                       const char *argv[] OVS_UNUSED, void *aux OVS_UNUSED)
{
    unixctl_command_reply(conn, PLUGIN_VERSION);
}

/* Registers the provider on the first call; tells it at each call what
 * 'other_config' of the switch says.  Main thread only. */
void
plugin_run(const struct smap *other_config)
{
    static bool registered;

    if (!registered) {
        int error = netdev_vhostuser_register();

        registered = true;
        if (error) {
            VLOG_ERR("port type vhostuser not registered (%s)",
                     ovs_strerror(error));
            return;
        }
        vhu_startup_begin();
        register_aliases(other_config);
        /* Not INFO: OVS's own tests compare what the daemon says. */
        VLOG_DBG("%s", PLUGIN_VERSION);
        unixctl_command_register("vhostuser/version", "", 0, 0,
                                 plugin_unixctl_version, NULL);
    } else if (aliases_given_back && !dpdk_available()) {
        /* It did not start.  A port may still have one of the names. */
        aliases_given_back = false;
        netdev_vhostuser_register_aliases();
    }
    vhu_startup_set_flows(!smap_get_bool(other_config, "flow-restore-wait",
                                         false));
    netdev_vhostuser_set_other_config(other_config);
    netdev_vhostuser_run_positions();
    vhu_pool_sweep();
}

/* The daemon is about to exit.  Main thread only. */
void
plugin_end(void)
{
    netdev_vhostuser_end();
}

/* Returns what is wrong with the options of 'iface', newly allocated, or null.
 * Main thread only. */
char *
plugin_interface_error(const struct ovsrec_interface *iface)
{
    return netdev_vhostuser_get_options_error(iface->name);
}
