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

#include "vhu-backend-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "openvswitch/vlog.h"
#include "util.h"
#include "vhu-log.h"
#include "vhu-mem.h"

VLOG_DEFINE_THIS_MODULE(vhu_backend_mem);

/* Handlers of the messages about memory
 * ===================================== */

#define MEM_COST 4              /* Tokens of a message that replaces the memory
                                 * table. */

static const char no_fd_reason[] =
    "guest memory is not shared: the memory table came without a file "
    "descriptor (QEMU: memory-backend-memfd,share=on; "
    "libvirt: <access mode='shared'/>)";

int
vhu_backend_check_log(struct vhu_request *req, const struct vhu_mem *mem)
{
    struct vhu_dev *dev = req->backend->dev;
    char *phrase;

    if (!dev->log || !vhu_dev_check_log(dev, dev->log, mem, &phrase)) {
        return 0;
    }
    if (vhu_dev_find_running(dev)) {
        vhu_refuse(req, EINVAL, "%s", phrase);
        free(phrase);
        return EINVAL;
    }
    free(phrase);
    vhu_dev_set_log(dev, NULL);
    return 0;
}

/* Puts 'mem' in the place of the memory table, and takes it over.  If 'error'
 * is not 0 it could not be made because of 'phrase', which is freed. */
static int
vhu_backend_replace_mem(struct vhu_request *req, int error,
                        struct vhu_mem *mem, char *phrase)
{
    struct vhu_dev *dev = req->backend->dev;

    if (error) {
        error = vhu_refuse(req, error, "%s", phrase);
        free(phrase);
    } else if (vhu_dev_wants_log(dev) && vhu_backend_check_log(req, mem)) {
        if (mem != dev->mem) {
            vhu_mem_destroy(mem);
        }
        error = EINVAL;
    } else if (mem != dev->mem) {
        vhu_dev_set_mem(dev, mem);
        req->mem_changed = true;
        req->backend->debt += MEM_COST;
    }
    return error;
}

/* Refuses 'req', which has memory without a file descriptor for it. */
static int
vhu_backend_refuse_no_fd(struct vhu_request *req)
{
    struct vhu_dev *dev = req->backend->dev;

    free(dev->mem_error);
    dev->mem_error = xstrdup(no_fd_reason);
    return vhu_refuse(req, EINVAL, "%s", no_fd_reason);
}

int
vhu_backend_set_mem_table(struct vhu_dev *dev OVS_UNUSED,
                          struct vhu_request *req)
{
    const struct vhost_user_mem_table *table = &req->msg->payload.mem_table;
    int n = ((req->msg->hdr.size - offsetof(struct vhost_user_mem_table,
                                            regions))
             / sizeof table->regions[0]);
    int n_fds = req->msg->n_fds;
    struct vhu_mem *mem = NULL;
    char *phrase = NULL;
    int error;

    if (table->n_regions != n) {
        return vhu_refuse(req, EINVAL, "says %"PRIu32" regions but has %d",
                          table->n_regions, n);
    } else if (!n_fds) {
        return vhu_backend_refuse_no_fd(req);
    } else if (n_fds != n) {
        return vhu_refuse(req, EINVAL, "%d file descriptors for %d regions",
                          n_fds, n);
    }

    error = vhu_mem_create(table->regions, req->msg->fds, n, &mem, &phrase);
    return vhu_backend_replace_mem(req, error, mem, phrase);
}

int
vhu_backend_get_max_mem_slots(struct vhu_dev *dev OVS_UNUSED,
                              struct vhu_request *req)
{
    vhu_msg_put_u64(&req->reply, VHU_MEM_MAX_REGIONS);
    return 0;
}

int
vhu_backend_add_mem_reg(struct vhu_dev *dev, struct vhu_request *req)
{
    struct vhu_mem *mem = NULL;
    char *phrase = NULL;
    int error;

    if (!req->msg->n_fds) {
        return vhu_backend_refuse_no_fd(req);
    }
    error = vhu_mem_add_region(dev->mem, &req->msg->payload.mem_region.region,
                               req->msg->fds[0], &mem, &phrase);
    return vhu_backend_replace_mem(req, error, mem, phrase);
}

/* A region that is not there is gone already, which is what the front-end
 * wants: QEMU up to 7.2 removes each region once per queue pair. */
int
vhu_backend_rem_mem_reg(struct vhu_dev *dev, struct vhu_request *req)
{
    const struct vhost_user_mem_region *region =
        &req->msg->payload.mem_region.region;
    struct vhu_mem *mem = NULL;
    char *phrase = NULL;
    int error;

    if (!dev->mem) {
        return 0;
    }
    error = vhu_mem_remove_region(dev->mem, region, &mem, &phrase);
    if (error == ENOENT) {
        VLOG_DBG("%s: %s: %s", dev->name, req->name, phrase);
        free(phrase);
        return 0;
    }
    return vhu_backend_replace_mem(req, error, mem, phrase);
}

/* The reply has no payload: that is what QEMU expects, and since it takes any
 * reply for a success, a log that is of no use must not have one.  QEMU up to
 * 7.2 sends the log once per queue pair, and all send a larger one when memory
 * is added. */
int
vhu_backend_set_log_base(struct vhu_dev *dev, struct vhu_request *req)
{
    const struct vhost_user_log *spec = &req->msg->payload.log;
    struct vhu_log *log;
    char *phrase;
    int error;

    error = vhu_log_create(req->msg->fds[0], spec->offset, spec->size,
                           &log, &phrase);
    if (!error) {
        error = vhu_dev_check_log(dev, log, dev->mem, &phrase);
    }
    if (error) {
        vhu_log_destroy(log);
        vhu_refuse(req, error, "%s", phrase);
        free(phrase);
        return error;
    }
    vhu_dev_set_log(dev, log);
    req->backend->debt += MEM_COST;
    return 0;
}
