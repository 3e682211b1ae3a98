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

#include "vhu-log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "openvswitch/util.h"

int
vhu_log_create(int fd, uint64_t offset, uint64_t size, struct vhu_log **logp,
               char **error)
{
    struct vhu_map_health *health;
    struct vhu_mapping *mapping;
    struct vhu_log *log;
    uint8_t *va;
    int retval;

    *logp = NULL;
    *error = NULL;
    if (!size || size > VHU_LOG_MAX_SIZE) {
        *error = xasprintf("bad size %"PRIu64" (expected 1 to %"PRIu64
                           " bytes)", size, VHU_LOG_MAX_SIZE);
        return EINVAL;
    }
    health = vhu_map_health_create();
    retval = vhu_map_create(fd, offset, size, health, &mapping, error);
    if (retval) {
        char *phrase = *error;

        *error = xasprintf("%"PRIu64" bytes at offset %"PRIu64": %s",
                           size, offset, phrase);
        free(phrase);
        vhu_map_health_unref(health);
        return retval;
    }

    /* A page is a multiple of a word, so whole words are mapped. */
    log = xmalloc(sizeof *log);
    va = vhu_map_va(mapping);
    log->first_bit = (uintptr_t) va % sizeof *log->words * 8;
    log->words = ALIGNED_CAST(uint64_t *, va - log->first_bit / 8);
    log->n_pages = size * 8;
    log->health = health;
    log->mapping = mapping;
    *logp = log;
    return 0;
}

void
vhu_log_destroy(struct vhu_log *log)
{
    if (log) {
        vhu_map_unref(log->mapping);
        vhu_map_health_unref(log->health);
        free(log);
    }
}

bool
vhu_log_covers(const struct vhu_log *log, uint64_t gpa, uint64_t size)
{
    uint64_t extent = vhu_log_extent(log);

    return gpa < extent && size <= extent - gpa;
}

uint64_t
vhu_log_extent(const struct vhu_log *log)
{
    return log->n_pages * VHOST_LOG_PAGE;
}
