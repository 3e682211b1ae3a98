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

#include "vhu-dev.h"

#include <stdlib.h>

#include "openvswitch/vlog.h"
#include "util.h"
#include "vhu-mem.h"
#include "vhu-positions.h"

VLOG_DEFINE_THIS_MODULE(vhu_dev_positions);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(20, 60);

/* Where packed virtqueues were: the records of a device. */

void
vhu_dev_keep_positions(struct vhu_dev *dev, const char *path)
{
    free(dev->positions_path);
    dev->positions_path = xstrdup(path);
}

/* Opens the file.  If that fails, virtqueues do without. */
static void
open_positions(struct vhu_dev *dev)
{
    char *phrase;
    int error;

    if (!dev->positions_path || dev->positions || dev->positions_failed) {
        return;
    }
    error = vhu_positions_open(dev->positions_path, 2 * dev->n_pairs,
                               &dev->positions, &phrase);
    if (phrase) {
        VLOG_WARN_RL(&rl, "%s: %s%s", dev->name, phrase,
                     error ? ": positions of packed vrings are not recorded"
                     : "");
    }
    dev->positions_failed = error;
    free(phrase);
}

/* The key is made of all that tells one ring, of one guest, from another. */
void
vhu_dev_claim_record(struct vhu_dev *dev, unsigned int index,
                     struct virtq_config *config)
{
    uint64_t event_size = sizeof(struct pvirtq_event_suppress);
    uint64_t key = config->size;

    if (config->format != VIRTQ_PACKED) {
        return;
    }
    open_positions(dev);
    if (dev->positions) {
        key = vhu_mem_hash(dev->mem, config->desc_uva,
                           config->size * sizeof(struct pvirtq_desc), key);
        key = vhu_mem_hash(dev->mem, config->driver_uva, event_size, key);
        key = vhu_mem_hash(dev->mem, config->device_uva, event_size, key);
        config->record = vhu_positions_claim(dev->positions, index,
                                             key ? key : 1,
                                             &config->recorded);
    }
}

void
vhu_dev_forget_record(struct vhu_dev *dev, unsigned int index)
{
    if (dev->positions) {
        vhu_positions_forget(dev->positions, index);
    }
}

void
vhu_dev_close_positions(struct vhu_dev *dev)
{
    vhu_positions_close(dev->positions);
    free(dev->positions_path);
}
