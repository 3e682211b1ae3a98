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

#include "vhost-seq.h"

#include <string.h>

#include "util.h"

void
vhost_seq_init(struct vhost_seq *seq)
{
    memset(seq, 0, sizeof *seq);
}

/* Sets the bit of 'number' to 'value' and returns what it was. */
static bool
change_bit(struct vhost_seq *seq, uint64_t number, bool value)
{
    uint64_t *word = &seq->window[number % VHOST_SEQ_WINDOW / 64];
    uint64_t bit = UINT64_C(1) << number % 64;
    bool old = *word & bit;

    *word = value ? *word | bit : *word & ~bit;
    return old;
}

void
vhost_seq_add_slow(struct vhost_seq *seq, uint64_t number)
{
    if (number >= seq->next) {
        /* The numbers in between have not arrived yet. */
        if (number - seq->next >= VHOST_SEQ_WINDOW) {
            memset(seq->window, 0, sizeof seq->window);
        } else {
            for (uint64_t i = seq->next; i < number; i++) {
                change_bit(seq, i, false);
            }
        }
        change_bit(seq, number, true);
        seq->next = number + 1;
        seq->unique++;
    } else if (seq->next - number > VHOST_SEQ_WINDOW) {
        seq->stale++;
    } else if (change_bit(seq, number, true)) {
        seq->duplicates++;
    } else {
        seq->unique++;
        seq->reordered++;
    }
}
