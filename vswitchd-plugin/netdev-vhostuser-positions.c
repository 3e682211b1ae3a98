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

#include "netdev-vhostuser.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "dirs.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/poll-loop.h"
#include "sset.h"
#include "util.h"
#include "vhu-dev.h"
#include "vhu-positions.h"

/* Where packed virtqueues of a port are, in a file below the run directory
 * ========================================================================
 *
 * The file is for the next ovs-vswitchd, so it must still be there when this
 * one is gone, however that happens.  It is removed when the port is deleted.
 * But ovs-vswitchd also destroys the netdevs of all ports when it exits, and
 * does not say why: a port was deleted if the main thread afterwards comes
 * round once more. */

static struct ovs_mutex deleted_mutex = OVS_MUTEX_INITIALIZER;
static struct sset deleted OVS_GUARDED_BY(deleted_mutex)
    = SSET_INITIALIZER(&deleted);

/* Returns the name of the file for port 'name', which may have characters in
 * it that no file name has. */
static char *
positions_path(const char *name)
{
    struct ds path = DS_EMPTY_INITIALIZER;

    ds_put_format(&path, "%s/vhostuser.positions/", ovs_rundir());
    for (const char *p = name; *p; p++) {
        unsigned char c = *p;

        if (isalnum(c) || strchr("-_:@", c) || (c == '.' && p != name)) {
            ds_put_char(&path, c);
        } else {
            ds_put_format(&path, "%%%02x", c);
        }
    }
    return ds_steal_cstr(&path);
}

void
netdev_vhostuser_keep_positions(struct netdev_vhostuser *netdev)
{
    char *path = positions_path(netdev_get_name(&netdev->up));

    vhu_dev_keep_positions(netdev->dev, path);
    free(path);
}

void
netdev_vhostuser_drop_positions(const struct netdev_vhostuser *netdev)
{
    ovs_mutex_lock(&deleted_mutex);
    sset_add(&deleted, netdev_get_name(&netdev->up));
    ovs_mutex_unlock(&deleted_mutex);
    poll_immediate_wake();
}

static bool
port_exists(const char *name)
{
    struct netdev_vhostuser *netdev;
    bool found = false;

    ovs_mutex_lock(&netdev_vhostuser_list_mutex);
    LIST_FOR_EACH (netdev, list_node, &netdev_vhostuser_list) {
        found |= !strcmp(netdev_get_name(&netdev->up), name);
    }
    ovs_mutex_unlock(&netdev_vhostuser_list_mutex);
    return found;
}

void
netdev_vhostuser_run_positions(void)
{
    struct sset names;
    const char *name;

    ovs_mutex_lock(&deleted_mutex);
    sset_clone(&names, &deleted);
    sset_clear(&deleted);
    ovs_mutex_unlock(&deleted_mutex);

    SSET_FOR_EACH (name, &names) {
        if (!port_exists(name)) {
            char *path = positions_path(name);

            vhu_positions_remove(path);
            free(path);
        }
    }
    sset_destroy(&names);
}
