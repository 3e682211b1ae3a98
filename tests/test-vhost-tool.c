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

#undef NDEBUG

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "byte-order.h"
#include "openvswitch/dynamic-string.h"
#include "random.h"
#include "util.h"
#include "vhost-hist.h"
#include "vhost-pcap.h"
#include "vhost-seq.h"
#include "vhutest.h"

/* Parts of ovs-vhost that need no socket. */

/* Histograms. */

static int
compare_u64(const void *a_, const void *b_)
{
    const uint64_t *a = a_;
    const uint64_t *b = b_;

    return *a < *b ? -1 : *a > *b;
}

/* Compares the percentiles of 'n' values with what sorting says. */
static void
check_percentiles(uint64_t values[], size_t n)
{
    static const double percents[] = { 0, 1, 50, 90, 99, 99.9, 100 };
    struct vhost_hist *hist = xmalloc(sizeof *hist);

    vhost_hist_init(hist);
    for (size_t i = 0; i < n; i++) {
        vhost_hist_add(hist, values[i], 1);
    }
    qsort(values, n, sizeof *values, compare_u64);
    assert(hist->n == n);
    assert(hist->min == values[0] && hist->max == values[n - 1]);
    for (size_t i = 0; i < ARRAY_SIZE(percents); i++) {
        uint64_t got = vhost_hist_percentile(hist, percents[i]);
        size_t rank = 0;

        while (rank + 1 < n && rank + 1 < percents[i] / 100 * n) {
            rank++;
        }
        assert(got >= values[rank] && got - values[rank] <= values[rank] / 64);
    }
    assert(vhost_hist_percentile(hist, 100) == values[n - 1]);
    free(hist);
}

static void
test_hist(void)
{
    struct vhost_hist *a = xmalloc(sizeof *a);
    struct vhost_hist *b = xmalloc(sizeof *b);
    struct ds s = DS_EMPTY_INITIALIZER;
    uint64_t values[5000];

    /* Each bin begins right behind the one before. */
    assert(vhost_hist_bin(0) == 0);
    assert(vhost_hist_bin(UINT64_MAX) == VHOST_HIST_BINS - 1);
    for (unsigned int power = 0; power < 64; power++) {
        uint64_t x = UINT64_C(1) << power;

        assert(vhost_hist_bin(x) <= vhost_hist_bin(x - 1) + 1 || power == 0);
        for (int i = 0; i < 1000; i++) {
            uint64_t y = x + (random_uint64() & (x - 1));
            unsigned int step = vhost_hist_bin(y) - vhost_hist_bin(y - 1);

            assert(step <= 1);
        }
    }

    random_set_seed(1);
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
            values[i] = random_uint64() >> random_range(64);
        }
        check_percentiles(values, round ? 1 + random_range(5000) : 1);
    }

    vhost_hist_init(a);
    vhost_hist_init(b);
    assert(vhost_hist_percentile(a, 50) == 0);
    vhost_hist_format(a, &s);
    assert(!s.length);
    vhost_hist_add(a, 0, 1);
    vhost_hist_add(a, 1500, 20);
    vhost_hist_merge(a, b);
    vhost_hist_add(b, 40000, 5);
    vhost_hist_merge(a, b);
    vhost_hist_merge(b, a);
    assert(a->n == 26 && a->min == 0 && a->max == 40000 && b->n == 31);
    vhost_hist_format(a, &s);
    fputs(ds_cstr(&s), stdout);
    ds_clear(&s);
    for (uint64_t ns = 7; ns < UINT64_C(1) << 50; ns *= 7) {
        ds_put_char(&s, ' ');
        vhost_format_ns(&s, ns);
    }
    puts(ds_cstr(&s));
    ds_destroy(&s);
    free(a);
    free(b);
}

/* Numbered packets. */

/* Prints what becomes of the numbers, which end with UINT64_MAX. */
static void
print_seq(const char *what, const uint64_t numbers[])
{
    struct vhost_seq seq;

    vhost_seq_init(&seq);
    for (size_t i = 0; numbers[i] != UINT64_MAX; i++) {
        vhost_seq_add(&seq, numbers[i]);
    }
    printf("%s: next %"PRIu64", unique %"PRIu64", reordered %"PRIu64", "
           "duplicates %"PRIu64", stale %"PRIu64"\n", what, seq.next,
           seq.unique, seq.reordered, seq.duplicates, seq.stale);
}

/* Compares with what remembering everything says. */
static void
check_seq_random(void)
{
    enum { N = 100000 };
    uint8_t *seen = xzalloc(N);
    uint64_t next = 0, unique = 0, reordered = 0, duplicates = 0, stale = 0;
    struct vhost_seq seq;

    vhost_seq_init(&seq);
    for (int i = 0; i < 3 * N; i++) {
        uint64_t back = random_range(8) ? 0 : random_range(20000);
        uint64_t x = i / 4 + random_range(50);

        x = x > back ? x - back : 0;
        vhost_seq_add(&seq, x);
        if (x < next && next - x > VHOST_SEQ_WINDOW) {
            stale++;
        } else if (seen[x]) {
            duplicates++;
        } else {
            unique++;
            reordered += x < next;
        }
        seen[x] = true;
        next = MAX(next, x + 1);
    }
    assert(stale && duplicates && reordered);
    assert(seq.next == next && seq.unique == unique && seq.stale == stale);
    assert(seq.reordered == reordered && seq.duplicates == duplicates);
    free(seen);
}

static void
test_seq(void)
{
    static const uint64_t w = VHOST_SEQ_WINDOW;
    static const uint64_t far = UINT64_C(1) << 40;
    static const uint64_t end = UINT64_MAX;

    print_seq("none", (uint64_t[]) { end });
    print_seq("in order", (uint64_t[]) { 0, 1, 2, 3, end });
    print_seq("first lost", (uint64_t[]) { 2, 3, end });
    print_seq("gap", (uint64_t[]) { 0, 1, 5, 6, end });
    print_seq("gap filled", (uint64_t[]) { 0, 1, 5, 3, 2, 4, 6, end });
    print_seq("twice", (uint64_t[]) { 0, 1, 1, 0, 2, 2, 2, end });
    print_seq("twice, late", (uint64_t[]) { 0, 1, 5, 3, 3, 6, end });
    print_seq("edge of window", (uint64_t[]) { w, 1, 0, end });
    print_seq("jump of a window", (uint64_t[]) { 0, w, w + 1, w, end });
    print_seq("far jump", (uint64_t[]) { 0, 1, far, far - 1, 1, end });
    print_seq("old bits", (uint64_t[]) { 0, 1, w + 3, 2, 3, w + 2, end });
    random_set_seed(1);
    for (int i = 0; i < 10; i++) {
        check_seq_random();
    }
}

/* Captures. */

static void
write_file(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");

    assert(file && fwrite(data, 1, size, file) == size && !fclose(file));
}

/* Reads all of 'path' and prints that, or why not, if 'verbose'. */
static void
read_file(const char *path, bool verbose)
{
    struct vhost_pcap_reader *reader;
    struct vhost_pcap_packet packet;
    char *error;
    int retval = vhost_pcap_open(path, &reader, &error);

    while (!retval) {
        retval = vhost_pcap_read(reader, &packet, &error);
        if (!retval) {
            uint32_t sum = 0;

            for (uint32_t i = 0; i < packet.len; i++) {
                sum += packet.data[i];
            }
            if (verbose) {
                printf("%"PRIu64" %"PRIu32" of %"PRIu32", sum %"PRIu32"\n",
                       packet.ns, packet.len, packet.orig_len, sum);
            }
        }
    }
    vhost_pcap_close(reader);
    assert(retval == ENODATA ? !error : error != NULL);
    if (verbose) {
        printf("%s\n", error ? error : "end");
    }
    free(error);
}

/* A file with one packet of 5 bytes, in the other byte order if 'swap'. */
OVS_PACKED(
struct small_file {
    uint32_t words[10];
    uint8_t data[5];
});

static struct small_file
make_file(bool swap, uint32_t magic, uint32_t link, uint32_t fraction,
          uint32_t len, uint32_t orig_len)
{
    struct small_file file = {
        .words = { magic, 0, 0, 0, 65535, link, 1700000000, fraction, len,
                   orig_len },
        .data = { 1, 2, 3, 4, 5 },
    };

    for (size_t i = 0; swap && i < ARRAY_SIZE(file.words); i++) {
        file.words[i] = uint32_byteswap(file.words[i]);
    }
    return file;
}

static void
test_pcap_formats(void)
{
    static const struct {
        const char *what;
        bool swap;
        uint32_t magic, link, fraction, len, orig_len;
    } rows[] = {
        { "us", false, 0xa1b2c3d4, 1, 999999, 5, 5 },
        { "us, swapped", true, 0xa1b2c3d4, 1, 1, 5, 60 },
        { "ns", false, 0xa1b23c4d, 1, 999999999, 5, 5 },
        { "ns, swapped", true, 0xa1b23c4d, 1, 123, 5, 5 },
        { "with FCS", false, 0xa1b2c3d4, 0x24000001, 0, 5, 5 },
        { "bad us", false, 0xa1b2c3d4, 1, 1000000, 5, 5 },
        { "bad ns", false, 0xa1b23c4d, 1, 1000000000, 5, 5 },
        { "raw IP", false, 0xa1b2c3d4, 101, 0, 5, 5 },
        { "pcapng", false, 0x0a0d0d0a, 1, 0, 5, 5 },
        { "other magic", false, 0xa1b2cd34, 1, 0, 5, 5 },
        { "too long", false, 0xa1b2c3d4, 1, 0, 262145, 262145 },
        { "as long as possible", false, 0xa1b2c3d4, 1, 0, 262144, 262144 },
        { "much too long", false, 0xa1b2c3d4, 1, 0, UINT32_MAX, UINT32_MAX },
        { "more than there was", false, 0xa1b2c3d4, 1, 0, 5, 4 },
        { "incomplete", false, 0xa1b2c3d4, 1, 0, 6, 6 },
        { "more behind", false, 0xa1b2c3d4, 1, 0, 3, 3 },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct small_file file = make_file(rows[i].swap, rows[i].magic,
                                           rows[i].link, rows[i].fraction,
                                           rows[i].len, rows[i].orig_len);

        printf("%s: ", rows[i].what);
        write_file("x.pcap", &file, sizeof file);
        read_file("x.pcap", true);
    }
    printf("missing: ");
    read_file("none.pcap", true);
}

/* No input makes the reader read outside of its buffers: for the
 * sanitizers. */
static void
test_pcap_hostile(void)
{
    struct small_file good = make_file(false, 0xa1b2c3d4, 1, 0, 5, 5);

    for (size_t size = 0; size < sizeof good; size++) {
        write_file("x.pcap", &good, size);
        read_file("x.pcap", false);
    }
    random_set_seed(1);
    for (int i = 0; i < 5000; i++) {
        struct small_file bad = good;

        for (int j = 0; j < 3; j++) {
            size_t ofs = random_range(sizeof bad);

            ((uint8_t *) &bad)[ofs] = random_uint32();
        }
        write_file("x.pcap", &bad, sizeof bad);
        read_file("x.pcap", false);
    }
    puts("ok");
}

static void
test_pcap_write(void)
{
    struct vhost_pcap_writer *writer;
    uint8_t data[2000];
    char *error;

    memset(data, 1, sizeof data);
    assert(!vhost_pcap_create("x.pcap", &writer, &error));
    vhost_pcap_write(writer, 1, data, 0);
    vhost_pcap_write(writer, UINT64_C(1700000000123456789), data, 60);
    vhost_pcap_flush(writer);
    read_file("x.pcap", true);
    vhost_pcap_write(writer, UINT64_C(4000000000000000000), data, 2000);
    assert(!vhost_pcap_finish(writer, &error) && !error);
    read_file("x.pcap", true);

    assert(vhost_pcap_create("no/such/file", &writer, &error) == ENOENT);
    puts(error);
    free(error);

    assert(!vhost_pcap_create("/dev/full", &writer, &error));
    for (int i = 0; i < 100; i++) {
        vhost_pcap_write(writer, 0, data, 2000);
    }
    assert(vhost_pcap_finish(writer, &error) == ENOSPC);
    puts(error);
    free(error);
}

static void
test_vhost_tool_main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*function)(void);
    } tests[] = {
        { "hist", test_hist },
        { "seq", test_seq },
        { "pcap-formats", test_pcap_formats },
        { "pcap-hostile", test_pcap_hostile },
        { "pcap-write", test_pcap_write },
    };

    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc > 1 && !strcmp(argv[1], tests[i].name)) {
            tests[i].function();
            return;
        }
    }
    ovs_fatal(0, "usage: vhutest tool TEST");
}

VHUTEST_REGISTER("tool", test_vhost_tool_main);
