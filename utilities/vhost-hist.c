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

#include "vhost-hist.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "openvswitch/dynamic-string.h"
#include "util.h"

/* Width of the longest bar, in characters. */
#define BAR 40

/* Returns the smallest value in 'bin'; of the bin after the last one, 0. */
static uint64_t
bin_start(unsigned int bin)
{
    unsigned int shift = bin < 128 ? 0 : bin / 64 - 1;

    return bin < 128 ? bin : (uint64_t) (bin - 64 * shift) << shift;
}

void
vhost_hist_init(struct vhost_hist *hist)
{
    memset(hist, 0, sizeof *hist);
}

void
vhost_hist_merge(struct vhost_hist *dst, const struct vhost_hist *src)
{
    if (!src->n) {
        return;
    }
    dst->min = dst->n ? MIN(dst->min, src->min) : src->min;
    dst->max = MAX(dst->max, src->max);
    dst->n += src->n;
    for (unsigned int i = 0; i < VHOST_HIST_BINS; i++) {
        dst->bins[i] += src->bins[i];
    }
}

uint64_t
vhost_hist_percentile(const struct vhost_hist *hist, double percent)
{
    double rank = ceil(percent / 100 * hist->n);
    uint64_t n = 0;

    for (unsigned int i = 0; i < VHOST_HIST_BINS; i++) {
        n += hist->bins[i];
        if (n && n >= rank) {
            uint64_t last = bin_start(i + 1) - 1;

            return MAX(MIN(last, hist->max), hist->min);
        }
    }
    return 0;
}

void
vhost_format_ns(struct ds *s, uint64_t ns)
{
    static const char *const units[] = { "ns", "us", "ms", "s" };
    double value = ns;
    size_t i = 0;

    while (value >= 999.5 && i < ARRAY_SIZE(units) - 1) {
        value /= 1000;
        i++;
    }
    ds_put_format(s, "%.*f %s",
                  !i || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2,
                  value, units[i]);
}

/* Returns how many values have their highest bit at 'power' (for 0: values 0
 * and 1). */
static uint64_t
count_power(const struct vhost_hist *hist, unsigned int power)
{
    unsigned int start = power ? vhost_hist_bin(UINT64_C(1) << power) : 0;
    unsigned int end = (power == 63 ? VHOST_HIST_BINS
                        : vhost_hist_bin(UINT64_C(2) << power));
    uint64_t n = 0;

    for (unsigned int i = start; i < end; i++) {
        n += hist->bins[i];
    }
    return n;
}

void
vhost_hist_format(const struct vhost_hist *hist, struct ds *s)
{
    uint64_t largest = 0;
    uint64_t so_far = 0;
    bool gap = false;

    if (!hist->n) {
        return;
    }
    for (unsigned int power = 0; power < 64; power++) {
        largest = MAX(largest, count_power(hist, power));
    }
    for (unsigned int power = log_2_floor(hist->min | 1);
         power <= log_2_floor(hist->max | 1); power++) {
        uint64_t n = count_power(hist, power);
        struct ds start = DS_EMPTY_INITIALIZER;

        so_far += n;
        if (!n) {
            if (!gap) {
                ds_put_cstr(s, "  ...\n");
            }
            gap = true;
            continue;
        }
        vhost_format_ns(&start, power ? UINT64_C(1) << power : 0);
        ds_put_format(s, "  from %8s %12"PRIu64" %8.4f %% ",
                      ds_cstr(&start), n, 100.0 * so_far / hist->n);
        ds_put_char_multiple(s, '#', ceil((double) n * BAR / largest));
        ds_put_char(s, '\n');
        ds_destroy(&start);
        gap = false;
    }
}

/* Writes 'path' as a string of gnuplot. */
static void
put_quoted(FILE *file, const char *path)
{
    putc('\'', file);
    for (; *path; path++) {
        if (*path == '\'') {
            putc('\'', file);
        }
        putc(*path, file);
    }
    putc('\'', file);
}

/* The curve shows the latency in the middle of each bin, and how many values
 * are in it. */
static void
put_plot(FILE *file, const struct vhost_hist *hist, const char *path)
{
    fputs("set terminal png size 900,500\nset output ", file);
    put_quoted(file, path);
    fputs("\nset logscale xy\nset grid\n"
          "set xlabel 'latency in microseconds'\n"
          "set ylabel 'packets'\n"
          "set style fill solid 0.6\n"
          "$data << END\n", file);
    for (unsigned int i = 0; i < VHOST_HIST_BINS; i++) {
        if (hist->bins[i]) {
            double start = bin_start(i) / 1e3;
            double end = start + (bin_start(i + 1) - bin_start(i)) / 1e3;

            fprintf(file, "%g %"PRIu64" %g\n", MAX((start + end) / 2, 1e-4),
                    hist->bins[i], end - start);
        }
    }
    fprintf(file, "END\nplot $data using 1:2:3 with boxes title "
            "'%"PRIu64" packets'\n", hist->n);
}

int
vhost_hist_write_png(const struct vhost_hist *hist, const char *path,
                     char **error)
{
    struct sigaction ignore = { .sa_handler = SIG_IGN };
    struct sigaction old;
    FILE *file;
    int status;

    /* The shell may be gone before we have written all. */
    sigaction(SIGPIPE, &ignore, &old);
    file = popen("command -v gnuplot > /dev/null || exit 127; exec gnuplot",
                 "w");
    if (!file) {
        *error = xasprintf("cannot start gnuplot: %s", ovs_strerror(errno));
        return errno;
    }
    if (hist->n) {
        put_plot(file, hist, path);
    }
    status = pclose(file);
    sigaction(SIGPIPE, &old, NULL);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
        *error = xstrdup("gnuplot is not installed");
        return ENOENT;
    } else if (status) {
        *error = xasprintf("gnuplot could not write %s", path);
        return EIO;
    } else if (!hist->n) {
        *error = xstrdup("no latency was measured, nothing to draw");
        return ENODATA;
    }
    return 0;
}
