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

#ifndef VHU_NAMES_H
#define VHU_NAMES_H 1

/* Names of feature bits
 * =====================
 *
 * For whoever shows a feature word to people or programs.  The names are those
 * of the specifications without what all of a kind begin with: "MRG_RXBUF",
 * not "VIRTIO_NET_F_MRG_RXBUF".
 *
 * No function here keeps state: each may be called in any thread. */

#include <stddef.h>
#include <stdint.h>

struct ds;
struct json;

/* Returns the name of 'bit' (0 to 63), or null if it has none. */
typedef const char *vhu_bit_name_func(unsigned int bit);

/* The virtio feature bits of a network device, with the two that vhost-user
 * puts among them, and the bits of the protocol features. */
vhu_bit_name_func vhu_feature_name;
vhu_bit_name_func vhu_protocol_feature_name;

/* Appends the names of the bits in 'word' to 's', with a blank between them; a
 * bit without a name as its number. */
void vhu_bits_format(struct ds *s, uint64_t word, vhu_bit_name_func *name);

/* The same, with line feeds where it would get wider than 'width' columns,
 * each followed by 'indent' blanks.  'column' is where 's' is at the
 * beginning. */
void vhu_bits_format_wrapped(struct ds *s, uint64_t word,
                             vhu_bit_name_func *name, size_t column,
                             size_t indent, size_t width);

/* Returns the names of the bits in 'word' as a new array of strings, a bit
 * without a name as its number. */
struct json *vhu_bits_to_json(uint64_t word, vhu_bit_name_func *name);

#endif /* vhu-names.h */
