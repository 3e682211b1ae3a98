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

#ifndef VHOST_HIST_H
#define VHOST_HIST_H 1

/* Histograms of latencies
 * =======================
 *
 * Of any number of values from 0 to 2^64 - 1, nanoseconds say, each is known
 * to 1/64 of itself: 64 bins for each power of 2.  The largest and smallest
 * ones are exact.  30 KiB. */

#include <stdint.h>

struct ds;

#define VHOST_HIST_BINS (64 + 58 * 64)

struct vhost_hist {
    uint64_t n;
    uint64_t min, max;          /* Meaningless if 'n' is 0. */
    uint64_t bins[VHOST_HIST_BINS];
};

void vhost_hist_init(struct vhost_hist *hist);

/* Counts 'value' 'times' times. */
static inline void vhost_hist_add(struct vhost_hist *hist, uint64_t value,
                                  uint64_t times);

/* Adds what 'src' has counted to 'dst'. */
void vhost_hist_merge(struct vhost_hist *dst, const struct vhost_hist *src);

/* Returns a value that 'percent' (0 to 100) of the values do not exceed, and
 * that is at most 1/64 above the smallest such value; 0 if there are none. */
uint64_t vhost_hist_percentile(const struct vhost_hist *hist, double percent);

/* Appends a line for each power of 2 between the smallest and the largest
 * value, which are taken as nanoseconds; "..." where there are no values. */
void vhost_hist_format(const struct vhost_hist *hist, struct ds *s);

/* Appends 'ns' nanoseconds with three digits: "1.23 us". */
void vhost_format_ns(struct ds *s, uint64_t ns);

/* Draws 'hist' into the PNG file 'path' with gnuplot.  Returns 0, or a
 * positive errno with a newly allocated phrase in '*error'; ENOENT if gnuplot
 * is not installed. */
int vhost_hist_write_png(const struct vhost_hist *hist, const char *path,
                         char **error);

/* For inline use: which bin 'value' is counted in. */
static inline unsigned int
vhost_hist_bin(uint64_t value)
{
    unsigned int shift;

    if (value < 64) {
        return value;
    }
    shift = 63 - __builtin_clzll(value) - 6;
    return 64 * shift + (value >> shift);
}

static inline void
vhost_hist_add(struct vhost_hist *hist, uint64_t value, uint64_t times)
{
    if (!hist->n || value < hist->min) {
        hist->min = value;
    }
    if (value > hist->max) {
        hist->max = value;
    }
    hist->n += times;
    hist->bins[vhost_hist_bin(value)] += times;
}

#endif /* vhost-hist.h */
