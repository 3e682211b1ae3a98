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

#ifndef OVS_COMPAT_H
#define OVS_COMPAT_H 1

/* Differences between versions of Open vSwitch
 * ============================================
 *
 * Every difference between the versions that we build with sits here, so that
 * everything else reads as if there were one.  The macros HAVE_OVS_... are
 * from configure, see m4/ovs.m4, which looks at the headers of Open vSwitch.
 *
 * Where a function of Open vSwitch has changed its form, ours has the new
 * form, and where possible its name.  lib/ does without this file: it uses
 * nothing that differs. */

#include "dp-packet.h"
#include "openvswitch/json.h"
#include "unixctl.h"
#include "util.h"

/* Packets. */

/* Makes 'packet' one without offloads.  Versions after 3.1 also store the size
 * of its TCP segments, which marks it as one that is to be cut up. */
static inline void
ovs_packet_reset_offload(struct dp_packet *packet)
{
    dp_packet_reset_offload(packet);
#ifdef HAVE_OVS_TSO_SEGSZ
    dp_packet_set_tso_segsz(packet, 0);
#endif
}

/* The "source" of a packet that ovs_packet_create() makes. */
#ifdef HAVE_OVS_IPF_KEEPS
#define OVS_PACKET_SOURCE DPBUF_MALLOC
#else
#define OVS_PACKET_SOURCE DPBUF_STUB
#endif

/* Returns a new packet with a buffer of 'allocated' bytes, for which
 * ovs_packet_is_whole() is true.
 *
 * It is one block: whoever takes a packet apart frees the buffer of a "stub"
 * packet no more than if it were on the stack, and the block with the packet.
 * Versions after 3.1, though, do not copy fragments that wait in the
 * connection tracker, and may exchange one of them with another "stub" packet,
 * buffer by buffer; so there it has to be two. */
static inline struct dp_packet *
ovs_packet_create(size_t allocated)
{
#ifdef HAVE_OVS_IPF_KEEPS
    return dp_packet_new(allocated);
#else
    struct dp_packet *packet = xmalloc(sizeof *packet + allocated);

    dp_packet_use_stub(packet, packet + 1, allocated);
    return packet;
#endif
}

/* Returns true if 'packet' is as ovs_packet_create() made it, and may be used
 * again. */
static inline bool
ovs_packet_is_whole(const struct dp_packet *packet)
{
    return (packet->source == OVS_PACKET_SOURCE
            && (OVS_PACKET_SOURCE == DPBUF_MALLOC
                || dp_packet_base(packet) == (const void *) (packet + 1)));
}

/* JSON. */

/* Since 4.0 short arrays are stored inside the "struct json", and only these
 * two functions know where. */
#ifndef HAVE_OVS_JSON_ARRAY_AT
static inline size_t
json_array_size(const struct json *json)
{
    return json_array(json)->n;
}

static inline const struct json *
json_array_at(const struct json *json, size_t index)
{
    return index < json_array_size(json) ? json_array(json)->elems[index]
                                         : NULL;
}
#endif

/* ovs-appctl. */

#ifdef HAVE_OVS_UNIXCTL_JSON
/* Returns the text that 'json' stands for, newly allocated, and destroys
 * 'json'.  Both may be null. */
static inline char *
ovs_json_to_text(struct json *json)
{
    char *text = (!json ? NULL
                  : json->type == JSON_STRING ? xstrdup(json_string(json))
                  : json_to_string(json, 0));

    json_destroy(json);
    return text;
}
#endif

/* Calls 'command' of the process at the other end of 'client', and waits for
 * its answer.  Returns 0, with the answer in '*result' or a refusal in
 * '*error', which the caller must free and of which the other is null; or
 * what went wrong in between, as unixctl_client_transact(), with null in both.
 *
 * Since 3.5 answers can be JSON. */
static inline int
ovs_unixctl_transact(struct jsonrpc *client, const char *command,
                     int argc, char *argv[], char **result, char **error)
{
#ifdef HAVE_OVS_UNIXCTL_JSON
    struct json *json_result = NULL;
    struct json *json_error = NULL;
    int retval = unixctl_client_transact(client, command, argc, argv,
                                         &json_result, &json_error);

    *result = ovs_json_to_text(json_result);
    *error = ovs_json_to_text(json_error);
    return retval;
#else
    return unixctl_client_transact(client, command, argc, argv, result, error);
#endif
}

#endif /* ovs-compat.h */
