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
#include <string.h>

#include "openvswitch/dynamic-string.h"
#include "util.h"
#include "vhu-msg.h"
#include "vhu-names.h"
#include "vhu-shm.h"

/* The requests that a front-end sends: what is in each, what its reply means,
 * and, at the end, which of them make up an operation.  The functions are in
 * the order of the specification. */

/* What a network driver does with the status, step by step. */
#define STATUS_DRIVER (VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER)
#define STATUS_FEATURES_OK (STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK)
#define STATUS_DRIVER_OK (STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK)

/* Returns "0x3 (RARP LOG_SHMFD)" for the bits in 'word'. */
static char *
format_bits(uint64_t word, vhu_bit_name_func *name)
{
    struct ds s = DS_EMPTY_INITIALIZER;

    ds_put_format(&s, "0x%"PRIx64" (", word);
    vhu_bits_format(&s, word, name);
    ds_put_char(&s, ')');
    return ds_steal_cstr(&s);
}

static bool
fail_bits(char **error, const char *what, uint64_t word)
{
    char *bits = format_bits(word, vhu_feature_name);

    *error = xasprintf("%s %s", what, bits);
    free(bits);
    return false;
}

/* When a request applies. */

static bool
has_protocol_features(const struct vhu_frontend *fe,
                      unsigned int index OVS_UNUSED)
{
    return fe->info.offered & VIRTIO_BIT(VHOST_USER_F_PROTOCOL_FEATURES);
}

static bool
has_mq(const struct vhu_frontend *fe, unsigned int index OVS_UNUSED)
{
    return vhu_fe_has_protocol(fe, VHOST_USER_PROTOCOL_F_MQ);
}

static bool
has_slots(const struct vhu_frontend *fe, unsigned int index OVS_UNUSED)
{
    return vhu_fe_has_protocol(fe, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS);
}

static bool
needs_table(const struct vhu_frontend *fe, unsigned int index)
{
    return !has_slots(fe, index);
}

static bool
needs_region(const struct vhu_frontend *fe, unsigned int index)
{
    return has_slots(fe, index) && !fe->mem_told;
}

static bool
has_region(const struct vhu_frontend *fe, unsigned int index)
{
    return has_slots(fe, index) && fe->mem_told;
}

static bool
has_config(const struct vhu_frontend *fe, unsigned int index OVS_UNUSED)
{
    return vhu_fe_has_protocol(fe, VHOST_USER_PROTOCOL_F_CONFIG);
}

static bool
has_channel(const struct vhu_frontend *fe, unsigned int index OVS_UNUSED)
{
    return vhu_fe_has_protocol(fe, VHOST_USER_PROTOCOL_F_BACKEND_REQ);
}

static bool
has_status(const struct vhu_frontend *fe, unsigned int index OVS_UNUSED)
{
    return vhu_fe_has_protocol(fe, VHOST_USER_PROTOCOL_F_STATUS);
}

static bool
has_mtu(const struct vhu_frontend *fe, unsigned int index OVS_UNUSED)
{
    return fe->told_mtu && vhu_fe_knows_mtu(fe);
}

static bool
needs_inflight(const struct vhu_frontend *fe, unsigned int index OVS_UNUSED)
{
    return (vhu_fe_has_protocol(fe, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD)
            && fe->inflight.fd < 0);
}

static bool
has_inflight(const struct vhu_frontend *fe, unsigned int index OVS_UNUSED)
{
    return (vhu_fe_has_protocol(fe, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD)
            && fe->inflight.fd >= 0);
}

static bool
is_logging(const struct vhu_frontend *fe, unsigned int index OVS_UNUSED)
{
    return fe->log.on;
}

static bool
is_started(const struct vhu_frontend *fe, unsigned int index)
{
    return fe->vrings[index]->started;
}

/* "Ring states": without this feature all vrings are always enabled. */
static bool
can_enable(const struct vhu_frontend *fe, unsigned int index OVS_UNUSED)
{
    return vhu_fe_has_feature(fe, VHOST_USER_F_PROTOCOL_FEATURES);
}

/* Payloads that several requests have. */

static int
put_vring_state(struct vhu_msg *msg, unsigned int index, uint32_t num)
{
    msg->payload.vring_state.index = index;
    msg->payload.vring_state.num = num;
    msg->hdr.size = sizeof msg->payload.vring_state;
    return 0;
}

/* The payload of SET_VRING_KICK, CALL and ERR: 'fd', or none if it is -1. */
static int
put_vring_fd(struct vhu_msg *msg, unsigned int index, int fd)
{
    vhu_msg_put_u64(msg, index | (fd < 0 ? VHOST_USER_VRING_NOFD : 0));
    if (fd >= 0) {
        msg->fds[0] = fd;
        msg->n_fds = 1;
    }
    return 0;
}

/* Features. */

/* Which of the features that the back-end offers we negotiate: those that are
 * wanted, but the second time those of the first time. */
static bool
handle_get_features(struct vhu_frontend *fe, unsigned int index OVS_UNUSED,
                    struct vhu_msg *reply, char **error)
{
    uint64_t offered = reply->payload.u64;
    uint64_t always = VIRTIO_BIT(VIRTIO_F_VERSION_1);
    uint64_t needed = (fe->config.look_only ? 0
                       : always | fe->config.needed_features);
    uint64_t wanted = (needed | fe->config.features
                       | VIRTIO_BIT(VHOST_USER_F_PROTOCOL_FEATURES));

    fe->info.offered = offered;
    fe->info.features = 0;
    if (~offered & needed) {
        return fail_bits(error, "back-end lacks features that we need:",
                         ~offered & needed);
    } else if (fe->acked & ~offered) {
        return fail_bits(error, "back-end no longer offers features that were "
                         "negotiated before:", fe->acked & ~offered);
    }
    fe->info.features = fe->acked ? fe->acked : wanted & offered;
    return true;
}

static int
build_set_features(struct vhu_frontend *fe, unsigned int index OVS_UNUSED,
                   struct vhu_msg *msg)
{
    vhu_msg_put_u64(msg, (fe->info.features
                          | (fe->log.on ? VIRTIO_BIT(VHOST_F_LOG_ALL) : 0)));
    return 0;
}

static bool
handle_get_protocol_features(struct vhu_frontend *fe,
                             unsigned int index OVS_UNUSED,
                             struct vhu_msg *reply, char **error OVS_UNUSED)
{
    fe->info.offered_protocol = reply->payload.u64;
    fe->info.protocol_features = (fe->info.offered_protocol
                                  & fe->config.protocol_features
                                  & VHU_FRONTEND_PROTOCOL_FEATURES);
    return true;
}

static int
build_set_protocol_features(struct vhu_frontend *fe,
                            unsigned int index OVS_UNUSED,
                            struct vhu_msg *msg)
{
    vhu_msg_put_u64(msg, fe->info.protocol_features);
    fe->acks = vhu_fe_has_protocol(fe, VHOST_USER_PROTOCOL_F_REPLY_ACK);
    return 0;
}

static bool
handle_get_queue_num(struct vhu_frontend *fe, unsigned int index OVS_UNUSED,
                     struct vhu_msg *reply, char **error)
{
    fe->info.queue_num = reply->payload.u64;
    if (!fe->info.queue_num) {
        *error = xstrdup("back-end has no queue pair (expected at least 1)");
        return false;
    }
    return true;
}

/* Memory. */

static int
build_set_mem_table(struct vhu_frontend *fe, unsigned int index OVS_UNUSED,
                    struct vhu_msg *msg)
{
    struct vhost_user_mem_table *table = &msg->payload.mem_table;

    table->n_regions = 1;
    vhu_shm_get_region(fe->shm, &table->regions[0]);
    msg->hdr.size = offsetof(struct vhost_user_mem_table, regions[1]);
    msg->fds[0] = fe->shm->fd;
    msg->n_fds = 1;
    return 0;
}

static bool
handle_get_max_mem_slots(struct vhu_frontend *fe,
                         unsigned int index OVS_UNUSED,
                         struct vhu_msg *reply, char **error)
{
    fe->info.mem_slots = reply->payload.u64;
    if (!fe->info.mem_slots) {
        *error = xstrdup("back-end has no memory slot (expected at least 1)");
        return false;
    }
    return true;
}

static void
put_mem_region(struct vhu_frontend *fe, struct vhu_msg *msg)
{
    vhu_shm_get_region(fe->shm, &msg->payload.mem_region.region);
    msg->hdr.size = sizeof msg->payload.mem_region;
}

static int
build_add_mem_reg(struct vhu_frontend *fe, unsigned int index OVS_UNUSED,
                  struct vhu_msg *msg)
{
    put_mem_region(fe, msg);
    msg->fds[0] = fe->shm->fd;
    msg->n_fds = 1;
    fe->mem_told = true;
    return 0;
}

static int
build_rem_mem_reg(struct vhu_frontend *fe, unsigned int index OVS_UNUSED,
                  struct vhu_msg *msg)
{
    put_mem_region(fe, msg);
    fe->mem_told = false;
    return 0;
}

/* Dirty log. */

static int
build_set_log_base(struct vhu_frontend *fe, unsigned int index OVS_UNUSED,
                   struct vhu_msg *msg)
{
    const struct vhu_shm *shm = fe->log.next ? fe->log.next : fe->log.shm;

    msg->payload.log.size = shm->size;
    msg->payload.log.offset = 0;
    msg->hdr.size = sizeof msg->payload.log;
    msg->fds[0] = shm->fd;
    msg->n_fds = 1;
    return 0;
}

/* A back-end that sends a payload may mean with it that it failed. */
static bool
handle_set_log_base(struct vhu_frontend *fe, unsigned int index OVS_UNUSED,
                    struct vhu_msg *reply, char **error)
{
    if (reply->hdr.size && reply->payload.u64) {
        *error = xstrdup("back-end refused SET_LOG_BASE");
        return false;
    }
    vhu_fe_log_swap(fe);
    return true;
}

/* Vrings. */

static int
build_set_vring_num(struct vhu_frontend *fe, unsigned int index,
                    struct vhu_msg *msg)
{
    return put_vring_state(msg, index, fe->config.queue_size);
}

static int
build_set_vring_base(struct vhu_frontend *fe, unsigned int index,
                     struct vhu_msg *msg)
{
    return put_vring_state(msg, index, fe->vrings[index]->base);
}

static int
build_set_vring_addr(struct vhu_frontend *fe, unsigned int index,
                     struct vhu_msg *msg)
{
    struct vhost_user_vring_addr *addr = &msg->payload.vring_addr;
    struct virtq_drv_areas areas;

    virtq_drv_get_areas(fe->vrings[index]->drv, &areas);
    addr->index = index;
    addr->flags = fe->log.on ? VHOST_VRING_F_LOG : 0;
    addr->desc = areas.desc_uva;
    addr->avail = areas.driver_uva;
    addr->used = areas.device_uva;
    addr->log = areas.device_gpa;
    msg->hdr.size = sizeof *addr;
    return 0;
}

static int
build_set_vring_kick(struct vhu_frontend *fe, unsigned int index,
                     struct vhu_msg *msg)
{
    struct vhu_fe_vring *vring = fe->vrings[index];

    vring->started = true;
    vring->lost = false;
    return put_vring_fd(msg, index,
                        fe->config.poll_kick ? -1 : vring->kick_fd);
}

/* The same as last time. */
static int
build_same_vring_call(struct vhu_frontend *fe, unsigned int index,
                      struct vhu_msg *msg)
{
    struct vhu_fe_vring *vring = fe->vrings[index];
    enum vhu_fe_call call = vring->told_call;

    return put_vring_fd(msg, index,
                        (call == VHU_FE_CALL_MASKED ? vring->masked_fd
                         : call == VHU_FE_CALL_UNMASKED ? vring->call_fd
                         : -1));
}

static int
build_set_vring_call(struct vhu_frontend *fe, unsigned int index,
                     struct vhu_msg *msg)
{
    fe->vrings[index]->told_call = fe->vrings[index]->call;
    return build_same_vring_call(fe, index, msg);
}

static int
build_set_vring_err(struct vhu_frontend *fe, unsigned int index,
                    struct vhu_msg *msg)
{
    return put_vring_fd(msg, index, fe->err_fd);
}

static int
build_get_vring_base(struct vhu_frontend *fe OVS_UNUSED, unsigned int index,
                     struct vhu_msg *msg)
{
    return put_vring_state(msg, index, 0);
}

static bool
handle_get_vring_base(struct vhu_frontend *fe, unsigned int index,
                      struct vhu_msg *reply, char **error)
{
    const struct vhost_user_vring_state *state = &reply->payload.vring_state;
    struct vhu_fe_vring *vring = fe->vrings[index];

    if (state->index != index) {
        *error = xasprintf("bad reply to GET_VRING_BASE: vring %"PRIu32
                           " (expected %u)", state->index, index);
        return false;
    }
    vhu_fe_vring_stopped(fe, vring, state->num);
    if (vring->reset) {
        vhu_fe_vring_fresh(fe, vring);
    }
    return true;
}

static int
build_set_vring_enable(struct vhu_frontend *fe, unsigned int index,
                       struct vhu_msg *msg)
{
    return put_vring_state(msg, index, fe->told_enabled[index / 2]);
}

/* Network device. */

static int
build_send_rarp(struct vhu_frontend *fe, unsigned int index OVS_UNUSED,
                struct vhu_msg *msg)
{
    memcpy(msg->payload.bytes, fe->announce_mac, sizeof fe->announce_mac);
    msg->hdr.size = sizeof fe->announce_mac;
    return 0;
}

static int
build_net_set_mtu(struct vhu_frontend *fe, unsigned int index OVS_UNUSED,
                  struct vhu_msg *msg)
{
    vhu_msg_put_u64(msg, fe->told_mtu);
    return 0;
}

static void
refused_net_set_mtu(struct vhu_frontend *fe, const char *reason)
{
    vhu_fe_mtu_failed(fe, EPROTO, reason);
}

/* Configuration space and status. */

static int
build_get_config(struct vhu_frontend *fe OVS_UNUSED,
                 unsigned int index OVS_UNUSED, struct vhu_msg *msg)
{
    msg->payload.config.size = sizeof fe->info.config;
    msg->hdr.size = (offsetof(struct vhost_user_config, payload)
                     + sizeof fe->info.config);
    return 0;
}

/* No payload means that the back-end has no configuration space after all. */
static bool
handle_get_config(struct vhu_frontend *fe, unsigned int index OVS_UNUSED,
                  struct vhu_msg *reply, char **error)
{
    const struct vhost_user_config *config = &reply->payload.config;

    if (!reply->hdr.size) {
        fe->info.has_config = false;
        return true;
    }
    if (config->offset || config->size != sizeof fe->info.config) {
        *error = xasprintf("bad reply to GET_CONFIG: %"PRIu32" bytes at "
                           "%"PRIu32" (expected %"PRIuSIZE" at 0)",
                           config->size, config->offset,
                           sizeof fe->info.config);
        return false;
    }
    memcpy(&fe->info.config, config->payload, sizeof fe->info.config);
    fe->info.has_config = true;
    return true;
}

static int
build_set_config(struct vhu_frontend *fe, unsigned int index OVS_UNUSED,
                 struct vhu_msg *msg)
{
    msg->payload.config = fe->config_write;
    msg->hdr.size = (offsetof(struct vhost_user_config, payload)
                     + fe->config_write.size);
    return 0;
}

static int
build_set_backend_req_fd(struct vhu_frontend *fe,
                         unsigned int index OVS_UNUSED, struct vhu_msg *msg)
{
    int error = vhu_fe_channel_open(fe, &msg->fds[0]);

    msg->n_fds = error ? 0 : 1;
    return error;
}

static int
build_status_driver(struct vhu_frontend *fe OVS_UNUSED,
                    unsigned int index OVS_UNUSED, struct vhu_msg *msg)
{
    vhu_msg_put_u64(msg, STATUS_DRIVER);
    return 0;
}

static int
build_status_features_ok(struct vhu_frontend *fe OVS_UNUSED,
                         unsigned int index OVS_UNUSED, struct vhu_msg *msg)
{
    vhu_msg_put_u64(msg, STATUS_FEATURES_OK);
    return 0;
}

static int
build_status_driver_ok(struct vhu_frontend *fe OVS_UNUSED,
                       unsigned int index OVS_UNUSED, struct vhu_msg *msg)
{
    vhu_msg_put_u64(msg, STATUS_DRIVER_OK);
    return 0;
}

static int
build_status_reset(struct vhu_frontend *fe OVS_UNUSED,
                   unsigned int index OVS_UNUSED, struct vhu_msg *msg)
{
    vhu_msg_put_u64(msg, 0);
    return 0;
}

static bool
handle_get_status(struct vhu_frontend *fe, unsigned int index OVS_UNUSED,
                  struct vhu_msg *reply, char **error)
{
    if (reply->payload.u64 > UINT8_MAX) {
        *error = xasprintf("bad status 0x%"PRIx64" (expected 8 bits)",
                           reply->payload.u64);
        return false;
    }
    fe->info.status = reply->payload.u64;
    fe->info.has_status = true;
    return true;
}

/* virtio, "Device Initialization", step 6. */
static bool
handle_features_ok(struct vhu_frontend *fe, unsigned int index,
                   struct vhu_msg *reply, char **error)
{
    if (!handle_get_status(fe, index, reply, error)) {
        return false;
    }
    return (fe->info.status & VIRTIO_STATUS_FEATURES_OK
            ? true
            : fail_bits(error, "back-end does not accept the features",
                        fe->info.features));
}

/* Inflight region. */

static int
build_get_inflight_fd(struct vhu_frontend *fe, unsigned int index OVS_UNUSED,
                      struct vhu_msg *msg)
{
    msg->payload.inflight.num_queues = vhu_fe_n_vrings(fe);
    msg->payload.inflight.queue_size = fe->config.queue_size;
    msg->hdr.size = sizeof msg->payload.inflight;
    return 0;
}

/* The region is the back-end's own: we keep it, and never look into it. */
static bool
handle_get_inflight_fd(struct vhu_frontend *fe, unsigned int index OVS_UNUSED,
                       struct vhu_msg *reply, char **error)
{
    const struct vhost_user_inflight *inflight = &reply->payload.inflight;

    if (!inflight->mmap_size || !reply->n_fds) {
        return true;            /* It has nothing to remember. */
    }
    if (inflight->num_queues != vhu_fe_n_vrings(fe)
        || inflight->queue_size != fe->config.queue_size) {
        *error = xasprintf("bad reply to GET_INFLIGHT_FD: %"PRIu16" queues of "
                           "%"PRIu16" (expected %u of %"PRIu32")",
                           inflight->num_queues, inflight->queue_size,
                           vhu_fe_n_vrings(fe), fe->config.queue_size);
        return false;
    }
    fe->inflight.desc = *inflight;
    fe->inflight.fd = vhu_msg_take_fd(reply, 0);
    return true;
}

static int
build_set_inflight_fd(struct vhu_frontend *fe, unsigned int index OVS_UNUSED,
                      struct vhu_msg *msg)
{
    msg->payload.inflight = fe->inflight.desc;
    msg->hdr.size = sizeof msg->payload.inflight;
    msg->fds[0] = fe->inflight.fd;
    msg->n_fds = 1;
    return 0;
}

/* The operations. */

static const struct vhu_fe_step connect_steps[] = {
    { .request = VHOST_USER_SET_OWNER },
    { .request = VHOST_USER_GET_FEATURES, .handle = handle_get_features },
    { .request = VHOST_USER_GET_PROTOCOL_FEATURES, .barrier = true,
      .applies = has_protocol_features,
      .handle = handle_get_protocol_features },
    { .request = VHOST_USER_SET_PROTOCOL_FEATURES, .barrier = true,
      .applies = has_protocol_features,
      .build = build_set_protocol_features },
    { .request = VHOST_USER_GET_QUEUE_NUM, .applies = has_mq,
      .handle = handle_get_queue_num },
    { .request = VHOST_USER_GET_MAX_MEM_SLOTS, .applies = has_slots,
      .handle = handle_get_max_mem_slots },
    { .request = VHOST_USER_GET_CONFIG, .applies = has_config,
      .build = build_get_config, .handle = handle_get_config },
    { .request = VHOST_USER_SET_BACKEND_REQ_FD, .applies = has_channel,
      .ack = true, .build = build_set_backend_req_fd, .gives_fds = true },
};

/* What makes a vring run comes in three passes.  A back-end may count the
 * vrings that it has heard of when the first pair runs, so all of them are
 * named before one does.  And they are enabled before they are started, since
 * what is transmitted by one that is started and disabled is discarded ("Ring
 * states"). */
#define VRING_STEPS(SCOPE)                                              \
    { .request = VHOST_USER_SET_VRING_NUM, .scope = SCOPE, .first = true, \
      .barrier = true, .ack = true, .build = build_set_vring_num },     \
    { .request = VHOST_USER_SET_VRING_BASE, .scope = SCOPE,             \
      .ack = true, .build = build_set_vring_base },                     \
    { .request = VHOST_USER_SET_VRING_ADDR, .scope = SCOPE,             \
      .ack = true, .build = build_set_vring_addr },                     \
    { .request = VHOST_USER_SET_VRING_CALL, .scope = SCOPE,             \
      .ack = true, .build = build_set_vring_call },                     \
    { .request = VHOST_USER_SET_VRING_ERR, .scope = SCOPE,              \
      .ack = true, .build = build_set_vring_err },                      \
    { .request = VHOST_USER_SET_VRING_ENABLE, .scope = SCOPE,           \
      .first = true, .applies = can_enable, .ack = true,                \
      .build = build_set_vring_enable },                                \
    { .request = VHOST_USER_SET_VRING_KICK, .scope = SCOPE,             \
      .first = true, .barrier = true, .ack = true,                      \
      .build = build_set_vring_kick }

static const struct vhu_fe_step start_steps[] = {
    { .request = VHOST_USER_SET_STATUS, .applies = has_status,
      .build = build_status_driver },
    { .request = VHOST_USER_SET_FEATURES, .ack = true,
      .build = build_set_features },
    { .request = VHOST_USER_SET_STATUS, .applies = has_status,
      .build = build_status_features_ok },
    { .request = VHOST_USER_GET_STATUS, .applies = has_status,
      .handle = handle_features_ok },
    { .request = VHOST_USER_NET_SET_MTU, .applies = has_mtu, .ack = true,
      .build = build_net_set_mtu, .refused = refused_net_set_mtu },
    { .request = VHOST_USER_SET_MEM_TABLE, .applies = needs_table,
      .ack = true, .build = build_set_mem_table },
    { .request = VHOST_USER_ADD_MEM_REG, .applies = needs_region,
      .ack = true, .build = build_add_mem_reg },
    { .request = VHOST_USER_GET_INFLIGHT_FD, .applies = needs_inflight,
      .build = build_get_inflight_fd, .handle = handle_get_inflight_fd },
    { .request = VHOST_USER_SET_INFLIGHT_FD, .barrier = true,
      .applies = has_inflight, .ack = true, .build = build_set_inflight_fd },
    { .request = VHOST_USER_SET_LOG_BASE, .applies = is_logging,
      .build = build_set_log_base, .handle = handle_set_log_base },
    VRING_STEPS(VHU_FE_EACH_VRING),
    { .request = VHOST_USER_SET_STATUS, .barrier = true,
      .applies = has_status, .build = build_status_driver_ok },
};

static const struct vhu_fe_step stop_steps[] = {
    { .request = VHOST_USER_GET_VRING_BASE, .scope = VHU_FE_EACH_VRING,
      .applies = is_started, .build = build_get_vring_base,
      .handle = handle_get_vring_base },
    { .request = VHOST_USER_SET_STATUS, .barrier = true,
      .applies = has_status, .build = build_status_reset },
};

static const struct vhu_fe_step unwind_steps[] = {
    { .request = VHOST_USER_GET_VRING_BASE, .scope = VHU_FE_EACH_VRING_BACK,
      .applies = is_started, .build = build_get_vring_base,
      .handle = handle_get_vring_base },
    { .request = VHOST_USER_REM_MEM_REG, .barrier = true,
      .applies = has_region, .ack = true, .build = build_rem_mem_reg },
    { .request = VHOST_USER_SET_STATUS, .applies = has_status,
      .build = build_status_reset },
};

/* When one vring stops, DPDK's vhost driver forgets of all the others that
 * they are ready, and notices it again only if something about them changes:
 * SET_VRING_CALL does no harm. */
static const struct vhu_fe_step reset_vring_steps[] = {
    { .request = VHOST_USER_GET_VRING_BASE, .scope = VHU_FE_TARGET_VRING,
      .build = build_get_vring_base, .handle = handle_get_vring_base },
    VRING_STEPS(VHU_FE_TARGET_VRING),
    { .request = VHOST_USER_SET_VRING_CALL, .scope = VHU_FE_EACH_VRING,
      .ack = true, .build = build_same_vring_call },
};

static const struct vhu_fe_step set_call_steps[] = {
    { .request = VHOST_USER_SET_VRING_CALL, .scope = VHU_FE_TARGET_VRING,
      .ack = true, .build = build_set_vring_call },
};

static const struct vhu_fe_step enable_steps[] = {
    { .request = VHOST_USER_SET_VRING_ENABLE, .scope = VHU_FE_TARGET_PAIR,
      .applies = can_enable, .ack = true, .build = build_set_vring_enable },
};

static const struct vhu_fe_step set_mtu_steps[] = {
    { .request = VHOST_USER_NET_SET_MTU, .applies = has_mtu, .ack = true,
      .build = build_net_set_mtu },
};

static const struct vhu_fe_step get_status_steps[] = {
    { .request = VHOST_USER_GET_STATUS, .handle = handle_get_status },
};

static const struct vhu_fe_step get_config_steps[] = {
    { .request = VHOST_USER_GET_CONFIG, .build = build_get_config,
      .handle = handle_get_config },
};

static const struct vhu_fe_step set_config_steps[] = {
    { .request = VHOST_USER_SET_CONFIG, .ack = true,
      .build = build_set_config },
};

static const struct vhu_fe_step reset_device_steps[] = {
    { .request = VHOST_USER_RESET_DEVICE, .ack = true },
};

/* The order is QEMU's.  The log is in use when the last reply is there. */
static const struct vhu_fe_step log_steps[] = {
    { .request = VHOST_USER_SET_LOG_BASE, .applies = is_logging,
      .build = build_set_log_base, .handle = handle_set_log_base },
    { .request = VHOST_USER_SET_FEATURES, .barrier = true, .ack = true,
      .build = build_set_features },
    { .request = VHOST_USER_SET_VRING_ADDR, .scope = VHU_FE_EACH_VRING,
      .ack = true, .build = build_set_vring_addr },
};

static const struct vhu_fe_step log_resize_steps[] = {
    { .request = VHOST_USER_SET_LOG_BASE, .build = build_set_log_base,
      .handle = handle_set_log_base },
};

static const struct vhu_fe_step announce_steps[] = {
    { .request = VHOST_USER_SEND_RARP, .ack = true,
      .build = build_send_rarp },
};

#define STEPS(NAME) { NAME, ARRAY_SIZE(NAME) }

const struct vhu_fe_steps vhu_fe_steps[VHU_FE_N_OPS + 1] = {
    [VHU_FE_OP_CONNECT] = STEPS(connect_steps),
    [VHU_FE_OP_START] = STEPS(start_steps),
    [VHU_FE_OP_STOP] = STEPS(stop_steps),
    [VHU_FE_OP_RESET_VRING] = STEPS(reset_vring_steps),
    [VHU_FE_OP_SET_CALL] = STEPS(set_call_steps),
    [VHU_FE_OP_ENABLE] = STEPS(enable_steps),
    [VHU_FE_OP_SET_MTU] = STEPS(set_mtu_steps),
    [VHU_FE_OP_GET_STATUS] = STEPS(get_status_steps),
    [VHU_FE_OP_GET_CONFIG] = STEPS(get_config_steps),
    [VHU_FE_OP_SET_CONFIG] = STEPS(set_config_steps),
    [VHU_FE_OP_RESET_DEVICE] = STEPS(reset_device_steps),
    [VHU_FE_OP_LOG_START] = STEPS(log_steps),
    [VHU_FE_OP_LOG_RESIZE] = STEPS(log_resize_steps),
    [VHU_FE_OP_LOG_STOP] = STEPS(log_steps),
    [VHU_FE_OP_ANNOUNCE] = STEPS(announce_steps),
    [VHU_FE_OP_UNWIND] = STEPS(unwind_steps),
};
