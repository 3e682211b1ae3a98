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

#include "vhu-options.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "dirs.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/vlog.h"
#include "smap.h"
#include "util.h"
#include "vhost-user-spec.h"

VLOG_DEFINE_THIS_MODULE(vhu_options);

/* One option.  'parse' stores 'value' in '*options' and returns null, or
 * returns what is wrong with it, newly allocated, and stores nothing. */
struct vhu_option {
    const char *key;
    unsigned int kinds;         /* Bit map of the kinds that know it. */
    bool front_end;             /* Only in the front-end role. */
    char *(*parse)(struct vhu_options *options, const char *value);
                                /* Null: accepted and ignored. */
};

#define KIND(NAME) (1u << VHU_PORT_##NAME)
#define ALL_KINDS (KIND(ANY) | KIND(SERVER) | KIND(CLIENT))

static char *parse_hugepages(struct vhu_options *, const char *);
static char *parse_mergeable(struct vhu_options *, const char *);
static char *parse_n_rxq(struct vhu_options *, const char *);
static char *parse_n_txq(struct vhu_options *, const char *);
static char *parse_packed(struct vhu_options *, const char *);
static char *parse_path(struct vhu_options *, const char *);
static char *parse_queue_size(struct vhu_options *, const char *);
static char *parse_role(struct vhu_options *, const char *);
static char *parse_server_path(struct vhu_options *, const char *);
static char *parse_socket_mode(struct vhu_options *, const char *);
static char *parse_socket_owner(struct vhu_options *, const char *);
static char *parse_tx_retries_max(struct vhu_options *, const char *);

static const struct vhu_option known[] = {
    { "hugepages", KIND(ANY), true, parse_hugepages },
    { "mergeable", KIND(ANY), true, parse_mergeable },
    { "n_rxq", KIND(ANY), true, parse_n_rxq },
    { "n_txq", KIND(ANY), true, parse_n_txq },
    { "packed", KIND(ANY), true, parse_packed },
    { "path", KIND(ANY) | KIND(SERVER), false, parse_path },
    { "queue-size", KIND(ANY), true, parse_queue_size },
    { "role", KIND(ANY), false, parse_role },
    { "socket-mode", KIND(ANY) | KIND(SERVER), false, parse_socket_mode },
    { "socket-owner", KIND(ANY) | KIND(SERVER), false, parse_socket_owner },
    { "tx-retries-max", ALL_KINDS, false, parse_tx_retries_max },
    { "vhost-server-path", KIND(ANY) | KIND(CLIENT), false,
      parse_server_path },

    /* What users of DPDK's ports have in their databases.  In the back-end
     * role the queues are up to the guest. */
    { "n_rxq", ALL_KINDS, false, NULL },
    { "n_rxq_desc", ALL_KINDS, false, NULL },
    { "n_txq", ALL_KINDS, false, NULL },
    { "n_txq_desc", ALL_KINDS, false, NULL },
    { "vhost-max-queue-pairs", ALL_KINDS, false, NULL },
};

static const struct vhu_option *find_option(enum vhu_port_kind,
                                            enum vhu_role, const char *key);
static char *unknown_option(enum vhu_port_kind, enum vhu_role,
                            const char *key);
static char *check_combination(const struct vhu_options *,
                               const struct smap *args);
static char *set_default_path(struct vhu_options *, const char *name,
                              const char *sock_dir);

/* Parses the one option 'key', to which 'args' gives 'value'. */
static char *
parse_option(struct vhu_options *options, enum vhu_port_kind kind,
             const char *name, const char *key, const char *value,
             bool verbose)
{
    const struct vhu_option *option = find_option(kind, options->role, key);

    if (!option) {
        return unknown_option(kind, options->role, key);
    } else if (!option->parse) {
        if (verbose) {
            VLOG_INFO("%s: options:%s has no effect on this type of port",
                      name, key);
        }
        return NULL;
    }
    return option->parse(options, value);
}

char *
vhu_options_parse(struct vhu_options *options, enum vhu_port_kind kind,
                  const char *name, const char *sock_dir,
                  const struct smap *args, bool verbose)
{
    const struct smap_node **nodes = smap_sort(args);
    size_t n = smap_count(args);
    char *error = NULL;

    *options = (struct vhu_options) {
        .mode = kind == VHU_PORT_CLIENT ? VHU_CONN_CLIENT : VHU_CONN_SERVER,
        .uid = (uid_t) -1,
        .gid = (gid_t) -1,
        .tx_retries_max = VHU_TX_RETRIES_DEFAULT,
        .queue_size = VHU_QUEUE_SIZE_DEFAULT,
        .mergeable = true,
    };
    if (kind == VHU_PORT_ANY && smap_get(args, "role")) {
        /* It decides which of the others there are. */
        error = parse_role(options, smap_get(args, "role"));
    }
    for (size_t i = 0; i < n && !error; i++) {
        error = parse_option(options, kind, name, nodes[i]->key,
                             nodes[i]->value, verbose);
        if (error && kind != VHU_PORT_ANY) {
            if (verbose) {
                VLOG_WARN("%s: ignored: %s", name, error);
            }
            free(error);
            error = NULL;
        }
    }
    free(nodes);

    if (!error && kind == VHU_PORT_ANY) {
        error = check_combination(options, args);
    }
    if (!error && !options->path && options->mode == VHU_CONN_SERVER) {
        error = set_default_path(options, name, sock_dir);
    }
    if (error) {
        vhu_options_uninit(options);
    }
    return error;
}

void
vhu_options_uninit(struct vhu_options *options)
{
    free(options->path);
    free(options->socket_owner);
    options->path = options->socket_owner = NULL;
}

bool
vhu_options_same_socket(const struct vhu_options *a,
                        const struct vhu_options *b)
{
    return (a->mode == b->mode
            && nullable_string_is_equal(a->path, b->path));
}

bool
vhu_options_same_owner(const struct vhu_options *a,
                       const struct vhu_options *b)
{
    return (a->socket_mode == b->socket_mode
            && a->uid == b->uid
            && a->gid == b->gid);
}

const char *
vhu_role_to_string(enum vhu_role role)
{
    return role == VHU_ROLE_FRONT_END ? "front-end" : "back-end";
}

/* Adds what is only known in the front-end role. */
static void
format_front_end(const struct vhu_options *options, struct smap *args)
{
    smap_add(args, "role", vhu_role_to_string(options->role));
    if (options->n_rxq) {
        smap_add_format(args, "n_rxq", "%u", options->n_rxq);
    }
    if (options->n_txq) {
        smap_add_format(args, "n_txq", "%u", options->n_txq);
    }
    if (options->queue_size != VHU_QUEUE_SIZE_DEFAULT) {
        smap_add_format(args, "queue-size", "%"PRIu32, options->queue_size);
    }
    if (options->packed) {
        smap_add(args, "packed", "true");
    }
    if (!options->mergeable) {
        smap_add(args, "mergeable", "false");
    }
    if (options->hugepages) {
        smap_add(args, "hugepages", "true");
    }
}

void
vhu_options_format(const struct vhu_options *options, struct smap *args)
{
    if (options->role == VHU_ROLE_FRONT_END) {
        format_front_end(options, args);
    }
    if (options->path && !options->default_path) {
        smap_add(args, (options->mode == VHU_CONN_CLIENT
                        ? "vhost-server-path" : "path"), options->path);
    }
    if (options->socket_mode) {
        smap_add_format(args, "socket-mode", "%04o",
                        (unsigned int) options->socket_mode);
    }
    if (options->socket_owner) {
        smap_add(args, "socket-owner", options->socket_owner);
    }
    if (options->tx_retries_max != VHU_TX_RETRIES_DEFAULT) {
        smap_add_format(args, "tx-retries-max", "%u",
                        options->tx_retries_max);
    }
}

/* Appends to 's' the keys of 'a' that are not in 'b' with the same value and,
 * unless 'missing_only', those with another value. */
static void
put_changes(struct ds *s, const struct smap *a, const struct smap *b,
            bool missing_only)
{
    const struct smap_node **nodes = smap_sort(a);

    for (size_t i = 0; i < smap_count(a); i++) {
        const char *value = smap_get(b, nodes[i]->key);

        if (!value || (!missing_only && strcmp(value, nodes[i]->value))) {
            ds_put_format(s, "%soptions:%s", s->length ? ", " : "",
                          nodes[i]->key);
        }
    }
    free(nodes);
}

char *
vhu_options_describe_change(const struct vhu_options *old,
                            const struct vhu_options *new)
{
    struct smap old_args = SMAP_INITIALIZER(&old_args);
    struct smap new_args = SMAP_INITIALIZER(&new_args);
    struct ds s = DS_EMPTY_INITIALIZER;

    vhu_options_format(old, &old_args);
    vhu_options_format(new, &new_args);
    put_changes(&s, &new_args, &old_args, false);
    put_changes(&s, &old_args, &new_args, true);
    if (!s.length) {
        /* What moves the socket of a port without options:path. */
        ds_put_cstr(&s, "other_config:vhost-sock-dir");
    }
    ds_put_cstr(&s, " changed");
    smap_destroy(&old_args);
    smap_destroy(&new_args);
    return ds_steal_cstr(&s);
}

/* Returns the option named 'key' if ports of 'kind' know it in 'role', or
 * null. */
static const struct vhu_option *
find_option(enum vhu_port_kind kind, enum vhu_role role, const char *key)
{
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (known[i].kinds & (1u << kind) && !strcmp(known[i].key, key)
            && (!known[i].front_end || role == VHU_ROLE_FRONT_END)) {
            return &known[i];
        }
    }
    return NULL;
}

/* Returns the message for an unknown option, which lists those that have an
 * effect. */
static char *
unknown_option(enum vhu_port_kind kind, enum vhu_role role, const char *key)
{
    struct ds s = DS_EMPTY_INITIALIZER;
    const char *separator = "";

    if (find_option(kind, VHU_ROLE_FRONT_END, key)) {
        return xasprintf("option %s is only for role=front-end", key);
    }
    ds_put_format(&s, "unknown option \"%s\" (expected one of ", key);
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (known[i].parse
            && find_option(kind, role, known[i].key) == &known[i]) {
            ds_put_format(&s, "%s%s", separator, known[i].key);
            separator = ", ";
        }
    }
    ds_put_char(&s, ')');
    return ds_steal_cstr(&s);
}

/* Returns why the options, each fine by itself, do not go together. */
static char *
check_combination(const struct vhu_options *options, const struct smap *args)
{
    static const char *const server_only[] = {
        "path", "socket-mode", "socket-owner"
    };

    if (!options->packed && !IS_POW2(options->queue_size)) {
        return xasprintf("queue-size is %"PRIu32" (expected a power of 2, "
                         "unless packed=true)", options->queue_size);
    }
    if (!smap_get(args, "vhost-server-path")) {
        return NULL;
    }
    for (size_t i = 0; i < ARRAY_SIZE(server_only); i++) {
        if (smap_get(args, server_only[i])) {
            return xasprintf("options vhost-server-path and %s exclude each "
                             "other: the first makes the port the client of "
                             "a socket, the second is for a server",
                             server_only[i]);
        }
    }
    return NULL;
}

static char *
set_default_path(struct vhu_options *options, const char *name,
                 const char *sock_dir)
{
    if (strchr(name, '/') || strchr(name, '\\')) {
        return xasprintf("\"%s\" cannot be the name of a socket because of "
                         "the '%c' in it: set options:path", name,
                         strchr(name, '/') ? '/' : '\\');
    }
    options->path = xasprintf("%s/%s", sock_dir, name);
    options->default_path = true;
    return NULL;
}

/* Stores 'value', the path of a socket, in '*pathp'.  It is relative to the
 * run directory. */
static char *
parse_path__(char **pathp, const char *key, const char *value)
{
    char *path;

    if (!value[0]) {
        return xasprintf("%s is empty", key);
    }
    path = abs_file_name(ovs_rundir(), value);
    if (strlen(path) >= PATH_MAX) {
        free(path);
        return xasprintf("%s is longer than %d bytes", key, PATH_MAX - 1);
    }
    free(*pathp);
    *pathp = path;
    return NULL;
}

static char *
parse_path(struct vhu_options *options, const char *value)
{
    return parse_path__(&options->path, "path", value);
}

static char *
parse_server_path(struct vhu_options *options, const char *value)
{
    char *error = parse_path__(&options->path, "vhost-server-path", value);

    if (!error) {
        options->mode = VHU_CONN_CLIENT;
    }
    return error;
}

static char *
parse_role(struct vhu_options *options, const char *value)
{
    if (!strcmp(value, "back-end")) {
        options->role = VHU_ROLE_BACK_END;
    } else if (!strcmp(value, "front-end")) {
        options->role = VHU_ROLE_FRONT_END;
    } else {
        return xasprintf("role is \"%s\" (expected back-end or front-end)",
                         value);
    }
    return NULL;
}

/* Stores 'value', a number from 'min' to 'max', in '*n'. */
static char *
parse_number(const char *key, const char *value, unsigned int min,
             unsigned int max, unsigned int *n)
{
    unsigned int number;

    if (!str_to_uint(value, 10, &number) || number < min || number > max) {
        return xasprintf("%s is \"%s\" (expected %u to %u)", key, value, min,
                         max);
    }
    *n = number;
    return NULL;
}

static char *
parse_n_rxq(struct vhu_options *options, const char *value)
{
    return parse_number("n_rxq", value, 1, VHOST_USER_MAX_QUEUE_PAIRS,
                        &options->n_rxq);
}

static char *
parse_n_txq(struct vhu_options *options, const char *value)
{
    return parse_number("n_txq", value, 1, VHOST_USER_MAX_QUEUE_PAIRS,
                        &options->n_txq);
}

static char *
parse_queue_size(struct vhu_options *options, const char *value)
{
    return parse_number("queue-size", value, VHU_QUEUE_SIZE_MIN,
                        VHU_QUEUE_SIZE_MAX, &options->queue_size);
}

static char *
parse_bool(const char *key, const char *value, bool *result)
{
    if (strcmp(value, "true") && strcmp(value, "false")) {
        return xasprintf("%s is \"%s\" (expected true or false)", key,
                         value);
    }
    *result = !strcmp(value, "true");
    return NULL;
}

static char *
parse_packed(struct vhu_options *options, const char *value)
{
    return parse_bool("packed", value, &options->packed);
}

static char *
parse_mergeable(struct vhu_options *options, const char *value)
{
    return parse_bool("mergeable", value, &options->mergeable);
}

static char *
parse_hugepages(struct vhu_options *options, const char *value)
{
    return parse_bool("hugepages", value, &options->hugepages);
}

static char *
parse_socket_mode(struct vhu_options *options, const char *value)
{
    unsigned long int mode;
    char *tail;

    errno = 0;
    mode = strtoul(value, &tail, 8);
    if (value[0] < '0' || value[0] > '7' || *tail || errno || !mode
        || mode > 0777) {
        return xasprintf("socket-mode is \"%s\" (expected an octal number "
                         "from 1 to 0777)", value);
    }
    options->socket_mode = mode;
    return NULL;
}

/* Returns the id of a user or group, or -1 if 'name' is neither the name of
 * one nor a number. */
typedef long long int lookup_id_func(const char *name);

static long long int
lookup_number(const char *name)
{
    long long int id;

    return str_to_llong(name, 10, &id) && id >= 0 && id < UINT32_MAX ? id : -1;
}

static long long int
lookup_user(const char *name)
{
    struct passwd pwd, *result;
    char buf[16384];

    if (!getpwnam_r(name, &pwd, buf, sizeof buf, &result) && result) {
        return pwd.pw_uid;
    }
    return lookup_number(name);
}

static long long int
lookup_group(const char *name)
{
    struct group grp, *result;
    char buf[16384];

    if (!getgrnam_r(name, &grp, buf, sizeof buf, &result) && result) {
        return grp.gr_gid;
    }
    return lookup_number(name);
}

/* Stores in '*idp' the id of 'name', unless that is empty. */
static char *
parse_id(const char *what, const char *name, lookup_id_func *lookup,
         long long int *idp)
{
    if (name[0]) {
        *idp = lookup(name);
        if (*idp < 0) {
            return xasprintf("socket-owner: there is no %s \"%s\"",
                             what, name);
        }
    }
    return NULL;
}

static char *
parse_socket_owner(struct vhu_options *options, const char *value)
{
    char *user = xstrdup(value);
    char *colon = strchr(user, ':');
    const char *group = "";
    long long int uid = -1;
    long long int gid = -1;
    char *error;

    if (colon) {
        *colon = '\0';
        group = colon + 1;
    }
    if (!user[0] && !group[0]) {
        error = xasprintf("socket-owner is \"%s\" (expected USER, "
                          "USER:GROUP or :GROUP)", value);
    } else {
        error = parse_id("user", user, lookup_user, &uid);
        if (!error) {
            error = parse_id("group", group, lookup_group, &gid);
        }
    }
    free(user);
    if (!error) {
        options->uid = uid;
        options->gid = gid;
        options->socket_owner = xstrdup(value);
    }
    return error;
}

static char *
parse_tx_retries_max(struct vhu_options *options, const char *value)
{
    int n;

    if (!str_to_int(value, 10, &n) || n < 0 || n > VHU_TX_RETRIES_MAX) {
        return xasprintf("tx-retries-max is \"%s\" (expected 0 to %d)",
                         value, VHU_TX_RETRIES_MAX);
    }
    options->tx_retries_max = n;
    return NULL;
}
