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

#ifndef VHU_OPTIONS_H
#define VHU_OPTIONS_H 1

/* The options of a port
 * =====================
 *
 * What the column 'options' of an Interface says, checked and in the form in
 * which the rest of the provider wants it.
 *
 * The type "vhostuser" is strict: an option that it does not know, or that
 * makes no sense, is an error.  The two names that it has for users of DPDK's
 * ports are as lenient as those are: such an option is ignored, with a
 * warning. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "util.h"
#include "vhu-conn.h"

struct smap;

enum vhu_port_kind {
    VHU_PORT_ANY,               /* "vhostuser": client or server, strict. */
    VHU_PORT_SERVER,            /* "dpdkvhostuser". */
    VHU_PORT_CLIENT,            /* "dpdkvhostuserclient". */
};

#define VHU_TX_RETRIES_DEFAULT 8
#define VHU_TX_RETRIES_MAX 32

/* Descriptors in each virtqueue, in the front-end role. */
#define VHU_QUEUE_SIZE_DEFAULT 512
#define VHU_QUEUE_SIZE_MIN 64
#define VHU_QUEUE_SIZE_MAX 32768

/* Which end of the protocol a port is. */
enum vhu_role {
    VHU_ROLE_BACK_END,          /* Of a guest; the default. */
    VHU_ROLE_FRONT_END,         /* Of another switch, say. */
};

struct vhu_options {
    enum vhu_role role;
    enum vhu_conn_mode mode;
    char *path;                 /* Of the socket, null if there is none. */
    bool default_path;          /* 'path' was not given. */
    mode_t socket_mode;         /* 0 for the default. */
    char *socket_owner;         /* "USER:GROUP" as given, or null. */
    uid_t uid;                  /* (uid_t) -1 to leave it. */
    gid_t gid;                  /* (gid_t) -1 to leave it. */
    unsigned int tx_retries_max;

    /* Front-end role only. */
    unsigned int n_rxq;         /* 0 if not given. */
    unsigned int n_txq;         /* 0 if not given. */
    uint32_t queue_size;
    bool packed;
    bool mergeable;
    bool hugepages;
};

/* Returns the number of queue pairs that 'options' ask for. */
static inline unsigned int
vhu_options_n_pairs(const struct vhu_options *options)
{
    return MAX(MAX(options->n_rxq, options->n_txq), 1);
}

/* Returns "back-end" or "front-end". */
const char *vhu_role_to_string(enum vhu_role);

/* Stores in '*options' what 'args' say of the port named 'name', whose socket
 * is in 'sock_dir' if they do not say otherwise.  'verbose' tells whether to
 * log which of 'args' are ignored.
 *
 * Returns null, or the reason why 'args' are refused, newly allocated; then
 * '*options' is not to be used. */
char *vhu_options_parse(struct vhu_options *options, enum vhu_port_kind kind,
                        const char *name, const char *sock_dir,
                        const struct smap *args, bool verbose);

/* Frees what is in 'options', but not 'options'. */
void vhu_options_uninit(struct vhu_options *options);

/* Whether 'a' and 'b' ask for the same socket, and whether they ask for the
 * same owner and permissions of it. */
bool vhu_options_same_socket(const struct vhu_options *a,
                             const struct vhu_options *b);
bool vhu_options_same_owner(const struct vhu_options *a,
                            const struct vhu_options *b);

/* Returns which options differ between 'old' and 'new', in words, such as
 * "options:n_rxq changed", to be freed by the caller. */
char *vhu_options_describe_change(const struct vhu_options *old,
                                  const struct vhu_options *new);

/* Adds to 'args' what of 'options' is not the default. */
void vhu_options_format(const struct vhu_options *options, struct smap *args);

#endif /* vhu-options.h */
