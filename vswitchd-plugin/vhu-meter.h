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

#ifndef VHU_METER_H
#define VHU_METER_H 1

/* Meters
 * ======
 *
 * Token buckets that count bytes, and the two kinds of meter made of them:
 * "single rate three color" (RFC 2697, here without an excess burst) and "two
 * rate three color" (RFC 4115).
 *
 * They are like OVS's token-bucket.h, but with 64 bits and microseconds where
 * that has "unsigned int" and milliseconds.  With milliseconds a bucket
 * passes at most its burst each, so that the example of OVS's manual,
 * 46000000 bytes per second in bursts of 2048, would be cut down to a 20th;
 * and 32 bits do not hold both a rate of 400 Gbps and one of 8 kbps without
 * rounding.  Here, one token is the millionth part of a byte.  A rate in
 * bytes per second then is the same number of tokens per microsecond, and
 * nothing is rounded.
 *
 * The caller tells the time, and provides for the exclusion of threads. */

#include <stdbool.h>
#include <stdint.h>

struct vhu_bucket {
    uint64_t rate;              /* Bytes per second. */
    uint64_t burst;             /* Most tokens. */
    uint64_t tokens;
    long long int last_fill;    /* Time of the last refill (us). */
};

/* Makes 'bucket' a full one. */
void vhu_bucket_init(struct vhu_bucket *bucket, uint64_t rate,
                     uint64_t burst_bytes, long long int now);

/* Colors of a packet, as in the RFCs. */
enum vhu_color {
    VHU_GREEN,                  /* Within the committed rate. */
    VHU_YELLOW,                 /* Within the excess rate. */
    VHU_RED,                    /* In neither. */
};

/* Configuration of a meter, in bytes per second and bytes. */
struct vhu_meter_params {
    uint64_t cir;               /* Committed information rate. */
    uint64_t cbs;               /* Committed burst size. */
    uint64_t eir;               /* Excess information rate. */
    uint64_t ebs;               /* Excess burst size. */
};

struct vhu_meter {
    struct vhu_bucket committed;
    struct vhu_bucket excess;
};

/* Makes 'meter' one with full buckets. */
void vhu_meter_init(struct vhu_meter *meter,
                    const struct vhu_meter_params *params, long long int now);

/* Returns the color of a packet of 'n_bytes' that has 'color' from another
 * meter, or VHU_GREEN (color-blind mode), and takes its bytes out of the
 * bucket that it belongs to.  'now' is in microseconds. */
enum vhu_color vhu_meter_run(struct vhu_meter *meter, uint32_t n_bytes,
                             enum vhu_color color, long long int now);

#endif /* vhu-meter.h */
