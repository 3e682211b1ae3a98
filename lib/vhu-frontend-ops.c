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

#include "vhu-frontend-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "openvswitch/vlog.h"
#include "util.h"
#include "vhu-notify.h"

VLOG_DEFINE_THIS_MODULE(vhu_frontend_ops);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(60, 60);

/* The operations: when each is due, what is to be done before its first
 * request, and what has changed after its last reply.  What an operation tells
 * the back-end is taken down before it begins ("told_*"): what is wanted may
 * change meanwhile. */

/* Returns the operation that is due, or -1, and for one vring or queue pair
 * which one that is. */
int
vhu_fe_next_op(const struct vhu_frontend *fe, unsigned int *target)
{
    *target = 0;
    if (!fe->negotiated) {
        return VHU_FE_OP_CONNECT;
    } else if (fe->want_device_reset) {
        return VHU_FE_OP_RESET_DEVICE;
    } else if (fe->want_started != fe->started) {
        return fe->started ? VHU_FE_OP_STOP : VHU_FE_OP_START;
    }

    for (unsigned int i = 0; fe->started && i < vhu_fe_n_vrings(fe); i++) {
        const struct vhu_fe_vring *vring = fe->vrings[i];

        *target = i;
        if (vring->want_reset) {
            return VHU_FE_OP_RESET_VRING;
        } else if (vring->call != vring->told_call) {
            return VHU_FE_OP_SET_CALL;
        }
        *target = i / 2;
        if (fe->want_enabled[i / 2] != fe->told_enabled[i / 2]) {
            return VHU_FE_OP_ENABLE;
        }
    }
    if (fe->started && fe->want_mtu != fe->told_mtu) {
        return VHU_FE_OP_SET_MTU;
    } else if (fe->started && fe->log.wanted != fe->log.told) {
        return fe->log.told ? VHU_FE_OP_LOG_STOP : VHU_FE_OP_LOG_START;
    } else if (fe->log.told && fe->log.want_size > vhu_frontend_log_size(fe)) {
        return VHU_FE_OP_LOG_RESIZE;
    }
    return (fe->want_announce ? VHU_FE_OP_ANNOUNCE
            : fe->want_config_write ? VHU_FE_OP_SET_CONFIG
            : fe->want_config ? VHU_FE_OP_GET_CONFIG
            : fe->want_status ? VHU_FE_OP_GET_STATUS
            : -1);
}

static int
prepare_connect(struct vhu_frontend *fe, char **error OVS_UNUSED)
{
    memset(&fe->info, 0, sizeof fe->info);
    fe->info.queue_num = 1;
    return 0;
}

/* What we use of what the back-end has.  Vrings without a bit of their own in
 * the features of virtio come in pairs, of which there is one unless both
 * sides know of several. */
static int
finish_connect(struct vhu_frontend *fe, char **error)
{
    unsigned int n = fe->config.n_pairs;

    if (vhu_fe_has_protocol(fe, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)
        && !fe->info.mem_slots) {
        *error = xstrdup("back-end has no memory slot");
        return EPROTO;
    }
    fe->info.n_pairs = (vhu_fe_has_feature(fe, VIRTIO_NET_F_MQ)
                        ? MIN(n, fe->info.queue_num) : 1);
    if (fe->info.n_pairs < n) {
        VLOG_INFO_RL(&rl, "%s: back-end has %"PRIu64" queue pairs, using %u "
                     "of %u", fe->name, fe->info.queue_num, fe->info.n_pairs,
                     n);
    }
    fe->negotiated = true;
    fe->changed = true;
    VLOG_INFO_RL(&rl, "%s: front-end: negotiated features 0x%"PRIx64
                 ", protocol features 0x%"PRIx64, fe->name, fe->info.features,
                 fe->info.protocol_features);
    return 0;
}

static int
prepare_start(struct vhu_frontend *fe, char **error)
{
    int retval = vhu_fe_vrings_prepare(fe, error);

    if (retval) {
        return retval;
    }
    memcpy(fe->told_enabled, fe->want_enabled, sizeof fe->told_enabled);
    fe->told_mtu = fe->want_mtu;
    free(fe->mtu_error);
    fe->mtu_error = NULL;
    fe->info.mtu = 0;

    fe->log.on = fe->log.wanted && vhu_fe_log_is_offered(fe);
    return fe->log.on ? vhu_fe_log_prepare(fe, error) : 0;
}

static int
finish_start(struct vhu_frontend *fe, char **error OVS_UNUSED)
{
    fe->started = true;
    fe->changed = true;
    fe->acked = fe->info.features;
    fe->n_failures = 0;
    free(fe->fault);
    fe->fault = NULL;
    for (unsigned int i = 0; i < vhu_fe_n_vrings(fe); i++) {
        vhu_fe_vring_kick(fe->vrings[i]);
    }
    vhu_fe_vrings_update(fe);
    VLOG_INFO_RL(&rl, "%s: front-end: started, %u queue pairs", fe->name,
                 fe->info.n_pairs);

    fe->log.told = fe->log.on;
    if (fe->log.wanted && !fe->log.on) {
        fe->log.wanted = false;
        vhu_fe_done(fe, VHU_FE_OP_LOG_START, EOPNOTSUPP,
                    "back-end has no dirty log");
    }
    if (fe->told_mtu && !fe->mtu_error) {
        if (vhu_fe_knows_mtu(fe)) {
            fe->info.mtu = fe->told_mtu;
        } else {
            vhu_fe_mtu_failed(fe, EOPNOTSUPP, "back-end knows no MTU");
        }
    }
    return 0;
}

static int
prepare_stop(struct vhu_frontend *fe, char **error OVS_UNUSED)
{
    fe->started = false;
    fe->log.told = false;
    fe->changed = true;
    vhu_fe_vrings_update(fe);
    return 0;
}

static int
prepare_reset_vring(struct vhu_frontend *fe, char **error OVS_UNUSED)
{
    struct vhu_fe_vring *vring = fe->vrings[fe->run.target];

    vring->want_reset = false;
    vring->reset = true;
    vhu_fe_vrings_update(fe);
    return 0;
}

static int
finish_reset_vring(struct vhu_frontend *fe, char **error OVS_UNUSED)
{
    struct vhu_fe_vring *vring = fe->vrings[fe->run.target];

    vring->reset = false;
    vhu_fe_vring_kick(vring);
    vhu_fe_vrings_update(fe);
    return 0;
}

static int
prepare_set_call(struct vhu_frontend *fe, char **error)
{
    struct vhu_fe_vring *vring = fe->vrings[fe->run.target];
    int retval = 0;

    if (vring->call == VHU_FE_CALL_MASKED) {
        retval = vhu_fe_make_eventfd(&vring->masked_fd);
    } else if (vring->call == VHU_FE_CALL_UNMASKED) {
        retval = vhu_fe_make_eventfd(&vring->call_fd);
    }
    if (retval) {
        *error = xasprintf("cannot create an eventfd: %s",
                           ovs_strerror(retval));
    }
    return retval;
}

/* From now on the back-end notifies the new descriptor.  What it said to the
 * one that nobody listens to is passed on. */
static int
finish_set_call(struct vhu_frontend *fe, char **error OVS_UNUSED)
{
    struct vhu_fe_vring *vring = fe->vrings[fe->run.target];

    if (vring->told_call == VHU_FE_CALL_UNMASKED
        && vhu_fe_read_eventfd(vring->masked_fd)) {
        vhu_notify(vring->call_fd);
    }
    return 0;
}

/* A pair that is to be disabled is taken away from the PMD threads first, one
 * that is to be enabled is given to them last. */
static int
prepare_enable(struct vhu_frontend *fe, char **error OVS_UNUSED)
{
    unsigned int pair = fe->run.target;

    fe->told_enabled[pair] = fe->want_enabled[pair];
    if (!fe->told_enabled[pair]) {
        vhu_fe_vrings_update(fe);
    }
    return 0;
}

static int
finish_enable(struct vhu_frontend *fe, char **error OVS_UNUSED)
{
    vhu_fe_vrings_update(fe);
    return 0;
}

/* Takes down that the back-end does not have the MTU that is wanted, because
 * of 'reason'. */
static void
set_mtu_error(struct vhu_frontend *fe, const char *reason)
{
    free(fe->mtu_error);
    fe->mtu_error = xasprintf("MTU %"PRIu16": %s", fe->told_mtu, reason);
    fe->info.mtu = 0;
    fe->changed = true;
}

void
vhu_fe_mtu_failed(struct vhu_frontend *fe, int error, const char *reason)
{
    set_mtu_error(fe, reason);
    vhu_fe_done(fe, VHU_FE_OP_SET_MTU, error, reason);
}

static int
prepare_set_mtu(struct vhu_frontend *fe, char **error)
{
    fe->told_mtu = fe->want_mtu;
    free(fe->mtu_error);
    fe->mtu_error = NULL;
    fe->info.mtu = 0;
    fe->changed = true;
    if (fe->told_mtu && !vhu_fe_knows_mtu(fe)) {
        *error = xstrdup("back-end knows no MTU");
        return EOPNOTSUPP;
    }
    return 0;
}

static int
finish_set_mtu(struct vhu_frontend *fe, char **error OVS_UNUSED)
{
    fe->info.mtu = fe->told_mtu;
    return 0;
}

static int
prepare_get_status(struct vhu_frontend *fe, char **error OVS_UNUSED)
{
    fe->want_status = false;
    return 0;
}

static int
prepare_get_config(struct vhu_frontend *fe, char **error OVS_UNUSED)
{
    fe->want_config = false;
    return 0;
}

static int
finish_get_config(struct vhu_frontend *fe, char **error)
{
    if (!fe->info.has_config) {
        *error = xstrdup("back-end cannot read its configuration space");
        return EPROTO;
    }
    if (fe->tell_config) {
        fe->tell_config = false;
        if (fe->ops->config_changed) {
            fe->ops->config_changed(fe->aux);
        }
    }
    return 0;
}

static int
prepare_set_config(struct vhu_frontend *fe, char **error OVS_UNUSED)
{
    fe->want_config_write = false;
    return 0;
}

static int
prepare_reset_device(struct vhu_frontend *fe, char **error)
{
    fe->want_device_reset = false;
    return prepare_stop(fe, error);
}

/* All vrings are stopped and disabled, and what they held is lost. */
static int
finish_reset_device(struct vhu_frontend *fe, char **error OVS_UNUSED)
{
    for (unsigned int i = 0; i < VHOST_USER_MAX_VRINGS; i++) {
        fe->vrings[i]->started = false;
        fe->vrings[i]->resume = false;
    }
    vhu_fe_inflight_forget(fe);
    return 0;
}

static int
prepare_log_start(struct vhu_frontend *fe, char **error)
{
    if (!vhu_fe_log_is_offered(fe)) {
        *error = xstrdup("back-end has no dirty log");
        return EOPNOTSUPP;
    }
    fe->log.on = !vhu_fe_log_prepare(fe, error);
    return fe->log.on ? 0 : ENOMEM;
}

static int
finish_log_start(struct vhu_frontend *fe, char **error OVS_UNUSED)
{
    fe->log.told = true;
    return 0;
}

/* What the back-end did not refuse is taken back by VHU_FE_OP_LOG_STOP. */
static void
give_up_log(struct vhu_frontend *fe, const char *reason OVS_UNUSED)
{
    vhu_fe_log_drop_next(fe);
    fe->log.told = fe->log.on;
    fe->log.wanted = false;
}

static int
prepare_log_resize(struct vhu_frontend *fe, char **error)
{
    return vhu_fe_log_prepare(fe, error);
}

static void
give_up_log_resize(struct vhu_frontend *fe, const char *reason OVS_UNUSED)
{
    vhu_fe_log_drop_next(fe);
    fe->log.want_size = 0;
}

static int
prepare_log_stop(struct vhu_frontend *fe, char **error OVS_UNUSED)
{
    fe->log.on = false;
    fe->log.told = false;
    return 0;
}

static int
prepare_announce(struct vhu_frontend *fe, char **error OVS_UNUSED)
{
    fe->want_announce = false;
    return 0;
}

const struct vhu_fe_program vhu_fe_programs[VHU_FE_N_OPS + 1] = {
    [VHU_FE_OP_CONNECT] = {
        .prepare = prepare_connect,
        .finish = finish_connect,
    },
    [VHU_FE_OP_START] = {
        .prepare = prepare_start,
        .finish = finish_start,
    },
    [VHU_FE_OP_STOP] = {
        .prepare = prepare_stop,
    },
    [VHU_FE_OP_RESET_VRING] = {
        .prepare = prepare_reset_vring,
        .finish = finish_reset_vring,
    },
    [VHU_FE_OP_SET_CALL] = {
        .prepare = prepare_set_call,
        .finish = finish_set_call,
    },
    [VHU_FE_OP_ENABLE] = {
        .prepare = prepare_enable,
        .finish = finish_enable,
    },
    [VHU_FE_OP_SET_MTU] = {
        .optional = true,
        .prepare = prepare_set_mtu,
        .finish = finish_set_mtu,
        .give_up = set_mtu_error,
    },
    [VHU_FE_OP_GET_STATUS] = {
        .prepare = prepare_get_status,
    },
    [VHU_FE_OP_GET_CONFIG] = {
        .optional = true,
        .prepare = prepare_get_config,
        .finish = finish_get_config,
    },
    [VHU_FE_OP_SET_CONFIG] = {
        .optional = true,
        .prepare = prepare_set_config,
    },
    [VHU_FE_OP_RESET_DEVICE] = {
        .prepare = prepare_reset_device,
        .finish = finish_reset_device,
    },
    [VHU_FE_OP_LOG_START] = {
        .optional = true,
        .prepare = prepare_log_start,
        .finish = finish_log_start,
        .give_up = give_up_log,
    },
    [VHU_FE_OP_LOG_RESIZE] = {
        .optional = true,
        .prepare = prepare_log_resize,
        .give_up = give_up_log_resize,
    },
    [VHU_FE_OP_LOG_STOP] = {
        .optional = true,
        .prepare = prepare_log_stop,
    },
    [VHU_FE_OP_ANNOUNCE] = {
        .optional = true,
        .prepare = prepare_announce,
    },
};
