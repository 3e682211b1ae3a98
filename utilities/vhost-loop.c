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

#include "vhost-loop.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "latch.h"
#include "openvswitch/json.h"
#include "openvswitch/poll-loop.h"
#include "ovs-atomic.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "timeval.h"
#include "util.h"
#include "vhu-backend.h"
#include "vhu-dev.h"
#include "vhu-mem.h"
#include "vhu-notify.h"

/* Queue pairs that we offer. */
#define MAX_PAIRS 128

/* Polls of all paths between two quiescent states. */
#define POLLS_PER_QUIESCE 256

/* Both directions of one queue pair. */
struct pair {
    struct vhost_path paths[2]; /* From the first to the second guest, and
                                 * back. */
    void *aux[2];
};

/* What the control thread knows at one time. */
struct sample {
    long long int when;         /* ms */
    uint64_t tsc;
    struct vhost_counters dirs[2];
    uint64_t busy;              /* Cycles. */
    uint64_t idle;              /* Cycles. */
    uint64_t idle_polls;
};

struct loop {
    const struct vhost_loop_config *config;
    struct vhu_backend *backends[2];
    struct pair pairs[MAX_PAIRS];

    atomic_uint n_pairs;        /* That run on both sides. */
    atomic_bool exiting;

    /* Written by the polling thread. */
    PADDED_MEMBERS(CACHE_LINE_SIZE,
        struct vhost_counters counters[2];
        uint64_t busy;          /* Cycles of polls that found something, */
        uint64_t idle;          /* and of those that did not. */
        uint64_t idle_polls;    /* Polls that did not. */
        uint64_t last_poll;     /* When the last one ended. */
    );
};

/* Set when a signal asks us to end, or to start counting anew. */
static struct latch end_latch;
static struct latch restart_latch;

/* Time in cycles, or, where no counter of these is at hand, in ns. */
static inline uint64_t
cycles(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t now, hz;

    asm volatile("mrs %0, cntvct_el0" : "=r" (now));
    asm volatile("mrs %0, cntfrq_el0" : "=r" (hz));
    return (double) now * 1e9 / hz;
#else
    return time_usec() * 1000;
#endif
}

static const char *
cycles_unit(void)
{
#if defined(__x86_64__)
    return "cycles";
#else
    return "ns";
#endif
}

/* Polling. */

static void
poll_pair(struct loop *loop, struct pair *pair)
{
    for (int d = 0; d < 2; d++) {
        bool found = loop->config->move(&pair->paths[d], loop->config->burst,
                                        &loop->counters[d], &pair->aux[d]);
        uint64_t now = cycles();

        if (found) {
            vhost_count(&loop->busy, now - loop->last_poll);
        } else {
            vhost_count(&loop->idle, now - loop->last_poll);
            vhost_count(&loop->idle_polls, 1);
        }
        loop->last_poll = now;
    }
}

static void *
poll_main(void *loop_)
{
    struct loop *loop = loop_;
    bool exiting;

    loop->last_poll = cycles();
    do {
        unsigned int n_pairs;

        atomic_read_relaxed(&loop->n_pairs, &n_pairs);
        for (int i = 0; i < POLLS_PER_QUIESCE; i++) {
            for (unsigned int j = 0; j < n_pairs; j++) {
                poll_pair(loop, &loop->pairs[j]);
            }
        }
        ovsrcu_quiesce();
        loop->last_poll = cycles();
        atomic_read_relaxed(&loop->exiting, &exiting);
    } while (!exiting);
    return NULL;
}

/* Control. */

static void
loop_changed(void *loop_)
{
    struct loop *loop = loop_;
    unsigned int n = MAX_PAIRS;

    for (int i = 0; i < 2; i++) {
        if (!loop->backends[i]) {
            return;
        }
        n = MIN(n, vhu_dev_n_started_pairs(
                       vhu_backend_get_dev(loop->backends[i])));
    }
    atomic_store_relaxed(&loop->n_pairs, n);
}

static int
loop_set_mtu(uint16_t mtu OVS_UNUSED, void *loop OVS_UNUSED)
{
    return 0;
}

static void
loop_send_rarp(const uint8_t mac[6] OVS_UNUSED, void *loop OVS_UNUSED)
{
}

static const struct vhu_dev_ops loop_ops = {
    .changed = loop_changed,
    .set_mtu = loop_set_mtu,
    .send_rarp = loop_send_rarp,
};

static void
loop_init(struct loop *loop, const struct vhost_loop_config *config)
{
    struct vhu_dev *devs[2];

    memset(loop, 0, sizeof *loop);
    loop->config = config;
    for (int i = 0; i < 2; i++) {
        struct vhu_conn_config conn_config = {
            .mode = config->mode,
            .path = config->paths[i],
            .uid = (uid_t) -1,
            .gid = (gid_t) -1,
        };
        const char *name = config->paths[i];
        struct vhu_conn *conn = vhu_conn_create(name, &conn_config);

        loop->backends[i] = vhu_backend_create(name, conn, MAX_PAIRS,
                                               &loop_ops, loop);
        devs[i] = vhu_backend_get_dev(loop->backends[i]);
    }
    for (unsigned int i = 0; i < MAX_PAIRS; i++) {
        for (int d = 0; d < 2; d++) {
            loop->pairs[i].paths[d] = (struct vhost_path) {
                .src_dev = devs[d],
                .dst_dev = devs[!d],
                .src = devs[d]->vrings[vhu_transmitq_vring(i)],
                .dst = devs[!d]->vrings[vhu_receiveq_vring(i)],
            };
        }
    }
}

static void
loop_uninit(struct loop *loop)
{
    for (int i = 0; i < 2; i++) {
        vhu_backend_destroy(loop->backends[i]);
    }
    for (unsigned int i = 0; i < MAX_PAIRS; i++) {
        free(loop->pairs[i].aux[0]);
        free(loop->pairs[i].aux[1]);
    }
}

/* Reports. */

static void
take_sample(const struct loop *loop, struct sample *sample)
{
    sample->when = time_msec();
    sample->tsc = cycles();
    for (int d = 0; d < 2; d++) {
        const struct vhost_counters *c = &loop->counters[d];

        sample->dirs[d] = (struct vhost_counters) {
            .packets = __atomic_load_n(&c->packets, __ATOMIC_RELAXED),
            .bytes = __atomic_load_n(&c->bytes, __ATOMIC_RELAXED),
            .drops = __atomic_load_n(&c->drops, __ATOMIC_RELAXED),
            .bursts = __atomic_load_n(&c->bursts, __ATOMIC_RELAXED),
        };
    }
    sample->busy = __atomic_load_n(&loop->busy, __ATOMIC_RELAXED);
    sample->idle = __atomic_load_n(&loop->idle, __ATOMIC_RELAXED);
    sample->idle_polls = __atomic_load_n(&loop->idle_polls, __ATOMIC_RELAXED);
}

/* What happened between two samples. */
struct report {
    double seconds;
    uint64_t packets;           /* Both directions. */
    uint64_t drops;
    double mpps;
    double busy_per_packet;     /* Cycles. */
    double busy_percent;        /* Of the time. */
    double idle_per_poll;       /* Cycles of one that found nothing. */
    double packets_per_burst;
    double cycles_per_second;
};

static struct report
make_report(const struct sample *a, const struct sample *b)
{
    uint64_t bursts = 0;
    struct report r = { .seconds = MAX(b->when - a->when, 1) / 1000.0 };

    for (int d = 0; d < 2; d++) {
        r.packets += b->dirs[d].packets - a->dirs[d].packets;
        r.drops += b->dirs[d].drops - a->dirs[d].drops;
        bursts += b->dirs[d].bursts - a->dirs[d].bursts;
    }
    r.mpps = r.packets / r.seconds / 1e6;
    r.cycles_per_second = (b->tsc - a->tsc) / r.seconds;
    r.busy_percent = 100.0 * (b->busy - a->busy) / MAX(b->tsc - a->tsc, 1);
    r.idle_per_poll = ((double) (b->idle - a->idle)
                       / MAX(b->idle_polls - a->idle_polls, 1));
    if (r.packets + r.drops) {
        r.busy_per_packet = ((double) (b->busy - a->busy)
                             / (r.packets + r.drops));
        r.packets_per_burst = (double) (r.packets + r.drops) / MAX(bursts, 1);
    }
    return r;
}

static void
print_text(const struct report *r, const char *what)
{
    printf("%s: %.3f Mpps, %"PRIu64" packets, %"PRIu64" dropped, "
           "%.1f busy %s a packet, busy %.0f %%, %.1f packets a burst, "
           "%.1f %s an idle poll\n",
           what, r->mpps, r->packets, r->drops, r->busy_per_packet,
           cycles_unit(), r->busy_percent, r->packets_per_burst,
           r->idle_per_poll, cycles_unit());
    fflush(stdout);
}

static void
print_json(const struct report *r, const struct sample *a,
           const struct sample *b)
{
    struct json *root = json_object_create();
    struct json *dirs = json_array_create_empty();
    char *text;

    json_object_put(root, "seconds", json_real_create(r->seconds));
    json_object_put(root, "packets", json_integer_create(r->packets));
    json_object_put(root, "dropped", json_integer_create(r->drops));
    json_object_put(root, "mpps", json_real_create(r->mpps));
    json_object_put(root, "busy_per_packet",
                    json_real_create(r->busy_per_packet));
    json_object_put(root, "idle_per_poll",
                    json_real_create(r->idle_per_poll));
    json_object_put_string(root, "busy_unit", cycles_unit());
    json_object_put(root, "busy_percent", json_real_create(r->busy_percent));
    json_object_put(root, "packets_per_burst",
                    json_real_create(r->packets_per_burst));
    json_object_put(root, "cycles_per_second",
                    json_real_create(r->cycles_per_second));
    for (int d = 0; d < 2; d++) {
        struct json *dir = json_object_create();

        json_object_put(dir, "packets", json_integer_create(
                            b->dirs[d].packets - a->dirs[d].packets));
        json_object_put(dir, "bytes", json_integer_create(
                            b->dirs[d].bytes - a->dirs[d].bytes));
        json_object_put(dir, "dropped", json_integer_create(
                            b->dirs[d].drops - a->dirs[d].drops));
        json_array_add(dirs, dir);
    }
    json_object_put(root, "directions", dirs);

    text = json_to_string(root, JSSF_SORT);
    puts(text);
    free(text);
    json_destroy(root);
}

/* Running. */

static void
handle_signal(int sig)
{
    latch_set(sig == SIGUSR1 ? &restart_latch : &end_latch);
}

static void *
notify_main(void *arg OVS_UNUSED)
{
    while (vhu_notify_watch()) {
        continue;
    }
    return NULL;
}

static bool
is_up(const struct loop *loop)
{
    return (vhu_backend_is_up(loop->backends[0])
            && vhu_backend_is_up(loop->backends[1]));
}

/* One turn of the control thread. */
static void
control_run(struct loop *loop, long long int deadline)
{
    vhu_mem_clear_dead();
    for (int i = 0; i < 2; i++) {
        vhu_backend_run(loop->backends[i]);
    }
    for (int i = 0; i < 2; i++) {
        vhu_backend_wait(loop->backends[i]);
    }
    vhu_mem_wait_dead();
    latch_wait(&end_latch);
    latch_wait(&restart_latch);
    poll_timer_wait_until(deadline);
    poll_block();
}

static void
print_reasons(const struct loop *loop)
{
    for (int i = 0; i < 2; i++) {
        const char *reason = vhu_backend_get_reason(loop->backends[i]);

        if (reason) {
            fprintf(stderr, "%s: %s\n", loop->config->paths[i], reason);
        }
    }
}

/* Controls 'loop' until its end, and reports.  Returns false if it was never
 * up.  The duration starts when both guests are there, and so does what is
 * reported at the end. */
static bool
control_main(struct loop *loop)
{
    unsigned int duration = loop->config->duration;
    struct sample first, last, now;
    long long int next;
    bool up = false;

    take_sample(loop, &last);
    first = last;
    next = last.when + 1000;
    while (!latch_is_set(&end_latch)) {
        struct report report;

        control_run(loop, next);
        take_sample(loop, &now);
        if (latch_poll(&restart_latch) || (!up && is_up(loop))) {
            up = is_up(loop);
            first = last = now;
            next = now.when + 1000;
        }
        if (now.when >= next) {
            report = make_report(&last, &now);
            if (!up) {
                print_reasons(loop);
            } else if (!loop->config->json) {
                print_text(&report, "last second");
            }
            last = now;
            next = now.when + 1000;
            if (duration && now.when - first.when >= duration * 1000 - 500) {
                /* Also if no guest has come in that time. */
                break;
            }
        }
    }

    if (up) {
        struct report report;

        take_sample(loop, &now);
        report = make_report(&first, &now);
        if (loop->config->json) {
            print_json(&report, &first, &now);
        } else {
            print_text(&report, "total");
        }
    }
    return up;
}

int
vhost_loop_run(const struct vhost_loop_config *config)
{
    struct sigaction action = { .sa_handler = handle_signal };
    struct loop *loop = xmalloc_cacheline(sizeof *loop);
    pthread_t poller, notifier;
    bool up;

    latch_init(&end_latch);
    latch_init(&restart_latch);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    loop_init(loop, config);
    notifier = ovs_thread_create("notify", notify_main, NULL);
    poller = ovs_thread_create("poll", poll_main, loop);

    up = control_main(loop);

    atomic_store_relaxed(&loop->exiting, true);
    ovsrcu_quiesce_start();
    xpthread_join(poller, NULL);
    vhu_notify_watch_stop();
    xpthread_join(notifier, NULL);
    ovsrcu_quiesce_end();
    loop_uninit(loop);
    free_cacheline(loop);
    latch_destroy(&restart_latch);
    latch_destroy(&end_latch);
    return up ? 0 : ETIMEDOUT;
}

/* Options. */

static void OVS_NO_RETURN
usage(const char *command, const char *purpose)
{
    printf("%s: %s\n"
           "usage: %s [OPTION...] SOCKET SOCKET\n\n"
           "One thread polls; give it a core of its own (taskset -c).\n\n"
           "options:\n"
           "  --server        listen at the sockets (default: connect)\n"
           "  --burst=N       packets taken at once, 1 to %d (default: 32)\n"
           "  --duration=S    end S seconds after both guests are there\n"
           "  --json          print the result as JSON, and nothing else\n"
           "  --help          print this\n\n"
           "Busy cycles are those of polls that found packets.  The totals "
           "are printed at\nthe end, or upon SIGINT or SIGTERM; SIGUSR1 "
           "starts them anew.\n",
           command, purpose, command, VIRTQ_MAX_BURST);
    exit(0);
}

static void OVS_NO_RETURN
bad_usage(const char *command)
{
    fprintf(stderr, "%s: bad usage (use --help for help)\n", command);
    exit(2);
}

static unsigned int
parse_number(const char *command, unsigned int max)
{
    int value;

    if (!str_to_int(optarg, 10, &value) || value < 1 || value > max) {
        fprintf(stderr, "%s: \"%s\" is not a number from 1 to %u\n", command,
                optarg, max);
        exit(2);
    }
    return value;
}

void
vhost_loop_parse_options(int argc, char *argv[], const char *command,
                         const char *purpose,
                         struct vhost_loop_config *config)
{
    enum { OPT_SERVER = 256, OPT_BURST, OPT_DURATION, OPT_JSON };
    static const struct option options[] = {
        { "server", no_argument, NULL, OPT_SERVER },
        { "burst", required_argument, NULL, OPT_BURST },
        { "duration", required_argument, NULL, OPT_DURATION },
        { "json", no_argument, NULL, OPT_JSON },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    int c;

    config->mode = VHU_CONN_CLIENT;
    config->burst = 32;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case OPT_SERVER:
            config->mode = VHU_CONN_SERVER;
            break;
        case OPT_BURST:
            config->burst = parse_number(command, VIRTQ_MAX_BURST);
            break;
        case OPT_DURATION:
            config->duration = parse_number(command, 1000000);
            break;
        case OPT_JSON:
            config->json = true;
            break;
        case 'h':
            usage(command, purpose);
        default:
            bad_usage(command);
        }
    }
    if (argc - optind != 2) {
        bad_usage(command);
    }
    config->paths[0] = argv[optind];
    config->paths[1] = argv[optind + 1];
}
