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

#include "vhu-meter.h"

#include "util.h"

#define TOKENS_PER_BYTE UINT64_C(1000000)

/* Returns the tokens for 'n_bytes', or as many as can be counted. */
static uint64_t
bytes_to_tokens(uint64_t n_bytes)
{
    return (n_bytes <= UINT64_MAX / TOKENS_PER_BYTE
            ? n_bytes * TOKENS_PER_BYTE : UINT64_MAX);
}

void
vhu_bucket_init(struct vhu_bucket *bucket, uint64_t rate, uint64_t burst_bytes,
                long long int now)
{
    bucket->rate = rate;
    bucket->burst = bytes_to_tokens(burst_bytes);
    bucket->tokens = bucket->burst;
    bucket->last_fill = now;
}

/* Adds to 'bucket' what has come together since the last time. */
static void
bucket_fill(struct vhu_bucket *bucket, long long int now)
{
    if (now > bucket->last_fill) {
        uint64_t elapsed = now - bucket->last_fill;
        uint64_t missing = bucket->burst - bucket->tokens;

        /* That the product is less than 'missing' also means that it does not
         * overflow. */
        if (bucket->rate && elapsed > missing / bucket->rate) {
            bucket->tokens = bucket->burst;
        } else {
            bucket->tokens += elapsed * bucket->rate;
        }
        bucket->last_fill = now;
    }
}

/* Takes the tokens for 'n_bytes' out of 'bucket'.  Returns true if successful,
 * false, with nothing taken, if there are too few. */
static bool
bucket_withdraw(struct vhu_bucket *bucket, uint32_t n_bytes,
                long long int now)
{
    uint64_t n = n_bytes * TOKENS_PER_BYTE;

    if (bucket->tokens < n) {
        bucket_fill(bucket, now);
        if (bucket->tokens < n) {
            return false;
        }
    }
    bucket->tokens -= n;
    return true;
}

void
vhu_meter_init(struct vhu_meter *meter, const struct vhu_meter_params *params,
               long long int now)
{
    vhu_bucket_init(&meter->committed, params->cir, params->cbs, now);
    vhu_bucket_init(&meter->excess, params->eir, params->ebs, now);
}

enum vhu_color
vhu_meter_run(struct vhu_meter *meter, uint32_t n_bytes, enum vhu_color color,
              long long int now)
{
    if (color == VHU_GREEN
        && bucket_withdraw(&meter->committed, n_bytes, now)) {
        return VHU_GREEN;
    } else if (color != VHU_RED
               && bucket_withdraw(&meter->excess, n_bytes, now)) {
        return VHU_YELLOW;
    } else {
        return VHU_RED;
    }
}
