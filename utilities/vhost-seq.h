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

#ifndef VHOST_SEQ_H
#define VHOST_SEQ_H 1

/* What becomes of numbered packets
 * ================================
 *
 * The packets of a flow are numbered from 0 on.  A "struct vhost_seq" is told
 * of each that arrives, and knows which arrived twice or behind a later one.
 * How many were lost follows from how many were sent.
 *
 * It remembers the last VHOST_SEQ_WINDOW numbers.  Of a packet that comes even
 * later nobody can say whether it is a duplicate: it is counted as stale. */

#include <stdbool.h>
#include <stdint.h>

#define VHOST_SEQ_WINDOW 16384

struct vhost_seq {
    uint64_t next;              /* The highest number so far, plus 1. */
    uint64_t unique;            /* Packets that arrived, each counted once. */
    uint64_t reordered;         /* Of these, behind a later one. */
    uint64_t duplicates;
    uint64_t stale;
    uint64_t window[VHOST_SEQ_WINDOW / 64]; /* Bit N % VHOST_SEQ_WINDOW: number
                                             * N arrived. */
};

void vhost_seq_init(struct vhost_seq *seq);

/* Packet number 'number' has arrived. */
static inline void vhost_seq_add(struct vhost_seq *seq, uint64_t number);

/* The same for one that is not the next. */
void vhost_seq_add_slow(struct vhost_seq *seq, uint64_t number);

static inline void
vhost_seq_add(struct vhost_seq *seq, uint64_t number)
{
    if (number == seq->next) {
        uint64_t *word = &seq->window[number % VHOST_SEQ_WINDOW / 64];

        *word |= UINT64_C(1) << number % 64;
        seq->next++;
        seq->unique++;
    } else {
        vhost_seq_add_slow(seq, number);
    }
}

#endif /* vhost-seq.h */
