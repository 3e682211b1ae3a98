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

#include "vhu-names.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "openvswitch/dynamic-string.h"
#include "openvswitch/json.h"
#include "util.h"
#include "vhost-user-spec.h"
#include "virtio-spec.h"

static const char *const features[64] = {
#define VIRTIO_FEATURE(NAME, BIT) [BIT] = #NAME,
    VIRTIO_FEATURES
#undef VIRTIO_FEATURE
};

static const char *const protocol_features[64] = {
#define VHOST_USER_PROTOCOL_FEATURE(NAME, BIT) [BIT] = #NAME,
    VHOST_USER_PROTOCOL_FEATURES
#undef VHOST_USER_PROTOCOL_FEATURE
};

/* Returns 'name' without what all names of its kind begin with: "MRG_RXBUF"
 * for "NET_F_MRG_RXBUF". */
static const char *
short_name(const char *name)
{
    const char *f = name ? strstr(name, "_F_") : NULL;

    return (f ? f + 3
            : name && !strncmp(name, "F_", 2) ? name + 2
            : name);
}

const char *
vhu_feature_name(unsigned int bit)
{
    return bit < ARRAY_SIZE(features) ? short_name(features[bit]) : NULL;
}

const char *
vhu_protocol_feature_name(unsigned int bit)
{
    return (bit < ARRAY_SIZE(protocol_features) ? protocol_features[bit]
            : NULL);
}

void
vhu_bits_format(struct ds *s, uint64_t word, vhu_bit_name_func *name)
{
    vhu_bits_format_wrapped(s, word, name, 0, 0, SIZE_MAX);
}

void
vhu_bits_format_wrapped(struct ds *s, uint64_t word, vhu_bit_name_func *name,
                        size_t column, size_t indent, size_t width)
{
    bool first = true;

    for (unsigned int bit = 0; bit < 64; bit++) {
        char number[16];
        const char *text = name(bit);

        if (!(word & VIRTIO_BIT(bit))) {
            continue;
        }
        if (!text) {
            snprintf(number, sizeof number, "%u", bit);
            text = number;
        }
        if (!first && width - column < 1 + strlen(text)) {
            ds_put_char(s, '\n');
            ds_put_char_multiple(s, ' ', indent);
            column = indent;
        } else if (!first) {
            ds_put_char(s, ' ');
            column++;
        }
        ds_put_cstr(s, text);
        column = MIN(column + strlen(text), width);
        first = false;
    }
}

struct json *
vhu_bits_to_json(uint64_t word, vhu_bit_name_func *name)
{
    struct json *array = json_array_create_empty();

    for (unsigned int bit = 0; bit < 64; bit++) {
        if (word & VIRTIO_BIT(bit)) {
            const char *text = name(bit);

            json_array_add(array, text
                           ? json_string_create(text)
                           : json_string_create_nocopy(xasprintf("%u", bit)));
        }
    }
    return array;
}
