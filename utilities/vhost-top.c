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

#include "ovs-vhost.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "openvswitch/dynamic-string.h"
#include "openvswitch/json.h"
#include "openvswitch/poll-loop.h"
#include "ovs-compat.h"
#include "timeval.h"
#include "util.h"
#include "vhost-util.h"

static const char command[] = "ovs-vhost top";

struct options {
    const char *target;
    char *port;                 /* Null for all. */
    unsigned int interval;      /* Between two tables, in ms. */
    uint64_t count;             /* Tables to print, 0 for no end. */
    bool json;
};

/* What the switch said, and when. */
struct sample {
    long long int usec;         /* Monotonic. */
    struct json *ports;         /* Of vhostuser/show --json. */
};

/* What happened on a vring between two samples.  All but 'fill' are a
 * second. */
struct rates {
    double packets;
    double bits;
    double drops;
    double calls;
    double quiet;               /* Notifications that the other side did not
                                 * want. */
    double kicks;
    double burst;               /* Packets in one. */
};

static void OVS_NO_RETURN
usage(void)
{
    printf("%s: ports and queues of a running switch\n"
           "usage: %s [OPTION...] [PORT]\n\n"
           "Shows all vhostuser ports, or PORT, anew each second.  \"q\" "
           "ends it.\n\n"
           "options:\n"
           "  -t, --target=TARGET  pidfile or socket of the switch, as for "
           "ovs-appctl\n"
           "                       (default: ovs-vswitchd)\n"
           "  -i, --interval=S     seconds between two tables (default: 1)\n"
           "  -n, --count=N        end after N tables; do not clear the "
           "screen\n"
           "  --once               the same as --count=1\n"
           "  --json               one JSON object a table\n"
           "  -h, --help           print this\n\n"
           "columns, all rates a second:\n"
           "  fill    buffers (split) or descriptors (packed) that wait for "
           "the switch\n"
           "  pkt/s   packets; Mbit/s without Ethernet's own overhead\n"
           "  drop/s  packets that the switch could not deliver or accept\n"
           "  burst   packets in one poll or send\n"
           "  call/s  notifications sent to the guest; quiet/s: it did not "
           "want them\n"
           "  kick/s  notifications of the guest that the switch read; of a "
           "front-end\n          port, those that it sent\n",
           command, command);
    exit(EXIT_SUCCESS);
}

static void
parse_options(int argc, char *argv[], struct options *o)
{
    enum { OPT_ONCE = 256, OPT_JSON };
    static const struct option options[] = {
        { "target", required_argument, NULL, 't' },
        { "interval", required_argument, NULL, 'i' },
        { "count", required_argument, NULL, 'n' },
        { "once", no_argument, NULL, OPT_ONCE },
        { "json", no_argument, NULL, OPT_JSON },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    int c;

    while ((c = getopt_long(argc, argv, "t:i:n:h", options, NULL)) != -1) {
        switch (c) {
        case 't':
            o->target = optarg;
            break;
        case 'i':
            o->interval = 1000 * vhost_parse_real(command, "--interval",
                                                  optarg, 0.1, 3600);
            break;
        case 'n':
            o->count = vhost_parse_number(command, "--count", optarg, 1,
                                          UINT32_MAX);
            break;
        case OPT_ONCE:
            o->count = 1;
            break;
        case OPT_JSON:
            o->json = true;
            break;
        case 'h':
            usage();
        default:
            vhost_bad_usage(command, "bad option");
        }
    }
    if (argc - optind > 1) {
        vhost_bad_usage(command, "at most one port");
    }
    o->port = argv[optind];
}

/* Samples. */

/* Asks the switch.  Returns 0, or a positive errno with a phrase in
 * '*error'. */
static int
take_sample(const struct options *o, struct sample *sample, char **error)
{
    char json_option[] = "--json";
    char *args[] = { json_option, o->port };
    int retval;

    sample->usec = time_usec();
    retval = vhost_call_json(o->target, "vhostuser/show", o->port ? 2 : 1,
                             args, &sample->ports, error);
    if (!retval && sample->ports->type != JSON_ARRAY) {
        json_destroy(sample->ports);
        *error = xstrdup("vhostuser/show: unexpected answer");
        return EPROTO;
    }
    return retval;
}

/* Returns the port 'name' in 'array', or null. */
static const struct json *
find_port(const struct json *array, const char *name)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        const struct json *port = json_array_at(array, i);
        const char *text = vhost_json_string(port, "name");

        if (text && name && !strcmp(text, name)) {
            return port;
        }
    }
    return NULL;
}

static uint64_t
count_drops(const struct json *vring)
{
    const struct shash_node *node;
    uint64_t n = 0;

    if (vring->type != JSON_OBJECT) {
        return 0;
    }
    SHASH_FOR_EACH (node, json_object(vring)) {
        size_t len = strlen(node->name);

        if (len > 6 && !strcmp(&node->name[len - 6], "_drops")) {
            n += vhost_json_integer(vring, node->name);
        }
    }
    return n;
}

/* Returns by how much counter 'name' grew a second; 0 if it began anew. */
static double
rate_of(const struct json *old, const struct json *new, const char *name,
        double seconds)
{
    int64_t n = vhost_json_integer(new, name) - vhost_json_integer(old, name);

    return n > 0 ? n / seconds : 0;
}

static struct rates
calc_rates(const struct json *old, const struct json *new, double seconds)
{
    struct rates r = { .packets = 0 };
    uint64_t n_drops;
    double bursts;

    if (!old) {
        return r;
    }
    n_drops = count_drops(new) - count_drops(old);
    r.packets = rate_of(old, new, "packets", seconds);
    r.bits = 8 * rate_of(old, new, "bytes", seconds);
    r.drops = n_drops <= INT64_MAX ? n_drops / seconds : 0;
    r.calls = rate_of(old, new, "calls", seconds);
    r.quiet = (rate_of(old, new, "calls_suppressed", seconds)
               + rate_of(old, new, "kicks_suppressed", seconds));
    r.kicks = rate_of(old, new, "kicks", seconds);
    bursts = rate_of(old, new, "bursts", seconds);
    r.burst = bursts ? r.packets / bursts : 0;
    return r;
}

/* A table. */

static void
put_rate(struct ds *s, double rate, int width)
{
    char buf[16];

    ds_put_format(s, " %*s", width,
                  rate ? vhost_format_rate(rate, buf, sizeof buf) : ".");
}

static void
put_vring(struct ds *s, const struct json *vring, const struct rates *r)
{
    const char *queue = vhost_json_string(vring, "queue");
    const char *format = vhost_json_string(vring, "format");
    int64_t size = vhost_json_integer(vring, "size");

    ds_put_format(s, "%-13s %-6s", queue ? queue : "?",
                  vhost_json_string(vring, "broken") ? "broken"
                  : format ? format : "-");
    if (format) {
        ds_put_format(s, " %5"PRId64"/%-5"PRId64,
                      vhost_json_integer(vring, "fill"), size);
    } else {
        ds_put_format(s, " %5s/%-5"PRId64, "-", size);
    }
    put_rate(s, r->packets, 7);
    if (r->bits) {
        ds_put_format(s, " %8.1f", r->bits / 1e6);
    } else {
        ds_put_format(s, " %8s", ".");
    }
    put_rate(s, r->drops, 7);
    if (r->burst) {
        ds_put_format(s, " %6.1f", r->burst);
    } else {
        ds_put_format(s, " %6s", ".");
    }
    put_rate(s, r->calls, 7);
    put_rate(s, r->quiet, 7);
    put_rate(s, r->kicks, 6);
}

/* Appends the lines of 'port', as it was before and as it is now. */
static void
put_port(struct ds *s, const struct json *old, const struct json *new,
         double seconds)
{
    const char *name = vhost_json_string(new, "name");
    const char *reason = vhost_json_string(new, "reason");
    const struct json *vrings, *old_vrings;
    size_t n_old = vhost_json_array(old, "vrings", &old_vrings);
    size_t n = vhost_json_array(new, "vrings", &vrings);

    ds_put_format(s, "%-15s %-4s ", name ? name : "?",
                  vhost_json_bool(new, "link") ? "up" : "down");
    if (reason) {
        ds_put_format(s, "%s\n", reason);
    }
    for (size_t i = 0; i < n; i++) {
        const struct json *vring = json_array_at(vrings, i);
        struct rates r = calc_rates(i < n_old ? json_array_at(old_vrings, i)
                                              : NULL,
                                    vring, seconds);

        if (reason || i) {
            ds_put_format(s, "%21s", "");
        }
        put_vring(s, vring, &r);
        ds_put_char(s, '\n');
    }
    if (!reason && !n) {
        ds_put_cstr(s, "no vrings\n");
    }
}

static void
put_table(struct ds *s, const struct sample *old, const struct sample *new)
{
    double seconds = MAX(new->usec - old->usec, 1) / 1e6;
    size_t n = json_array_size(new->ports);
    size_t n_up = 0;

    for (size_t i = 0; i < n; i++) {
        n_up += vhost_json_bool(json_array_at(new->ports, i), "link");
    }
    ds_put_strftime_msec(s, "%H:%M:%S", time_wall_msec(), false);
    ds_put_format(s, "  %"PRIuSIZE" port%s, %"PRIuSIZE" up\n", n,
                  n == 1 ? "" : "s", n_up);
    ds_put_format(s, "%-15s %-4s %-13s %-6s %11s %7s %8s %7s %6s %7s %7s "
                  "%6s\n", "port", "link", "queue", "ring", "fill/size  ",
                  "pkt/s", "Mbit/s", "drop/s", "burst", "call/s", "quiet/s",
                  "kick/s");
    for (size_t i = 0; i < n; i++) {
        const struct json *port = json_array_at(new->ports, i);

        put_port(s, find_port(old->ports, vhost_json_string(port, "name")),
                 port, seconds);
    }
}

/* JSON. */

static struct json *
vring_to_json(const struct json *vring, const struct rates *r)
{
    static const char *const copied[] = {
        "index", "queue", "format", "size", "fill", "running", "enabled",
        "broken", "packets", "bytes",
    };
    const struct {
        const char *name;
        double value;
    } values[] = {
        { "packets_per_second", r->packets },
        { "bits_per_second", r->bits },
        { "drops_per_second", r->drops },
        { "calls_per_second", r->calls },
        { "suppressed_per_second", r->quiet },
        { "kicks_per_second", r->kicks },
        { "packets_per_burst", r->burst },
    };
    struct json *object = json_object_create();

    for (size_t i = 0; vring->type == JSON_OBJECT
         && i < ARRAY_SIZE(copied); i++) {
        const struct json *value = shash_find_data(json_object(vring),
                                                   copied[i]);

        if (value) {
            json_object_put(object, copied[i], json_deep_clone(value));
        }
    }
    json_object_put(object, "drops", json_integer_create(count_drops(vring)));
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        json_object_put(object, values[i].name,
                        json_real_create(values[i].value));
    }
    return object;
}

static struct json *
port_to_json(const struct json *old, const struct json *new, double seconds)
{
    const char *name = vhost_json_string(new, "name");
    const char *reason = vhost_json_string(new, "reason");
    const struct json *vrings, *old_vrings;
    size_t n_old = vhost_json_array(old, "vrings", &old_vrings);
    size_t n = vhost_json_array(new, "vrings", &vrings);
    struct json *object = json_object_create();
    struct json *queues = json_array_create_empty();

    json_object_put_string(object, "name", name ? name : "");
    json_object_put(object, "link",
                    json_boolean_create(vhost_json_bool(new, "link")));
    if (reason) {
        json_object_put_string(object, "reason", reason);
    }
    for (size_t i = 0; i < n; i++) {
        const struct json *vring = json_array_at(vrings, i);
        struct rates r = calc_rates(i < n_old ? json_array_at(old_vrings, i)
                                              : NULL,
                                    vring, seconds);

        json_array_add(queues, vring_to_json(vring, &r));
    }
    json_object_put(object, "queues", queues);
    return object;
}

static void
print_json(const struct sample *old, const struct sample *new)
{
    double seconds = MAX(new->usec - old->usec, 1) / 1e6;
    struct json *object = json_object_create();
    struct json *ports = json_array_create_empty();

    for (size_t i = 0; i < json_array_size(new->ports); i++) {
        const struct json *port = json_array_at(new->ports, i);

        json_array_add(ports, port_to_json(
                           find_port(old->ports,
                                     vhost_json_string(port, "name")),
                           port, seconds));
    }
    json_object_put(object, "usec", json_integer_create(time_wall_usec()));
    json_object_put(object, "seconds", json_real_create(seconds));
    json_object_put(object, "ports", ports);
    vhost_print_json(object, false);
}

/* A terminal. */

static struct termios saved_termios;
static int terminal_fd;         /* Standard input, but never 0, which
                                 * poll_fd_wait() does not take. */

/* Takes the screen, and the keys one by one. */
static void
terminal_start(void)
{
    struct termios raw;

    terminal_fd = dup(STDIN_FILENO);
    fputs("\033[?1049h\033[?25l", stdout);
    if (!tcgetattr(STDIN_FILENO, &saved_termios)) {
        raw = saved_termios;
        raw.c_lflag &= ~(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
}

static void
terminal_stop(void)
{
    fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    tcsetattr(STDIN_FILENO, TCSANOW, &saved_termios);
}

/* Shows the lines of 'text', as many and as long as fit on the screen. */
static void
terminal_show(const char *text)
{
    struct winsize size = { .ws_row = 0 };

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || !size.ws_row) {
        size.ws_row = 24;
        size.ws_col = 80;
    }
    fputs("\033[H", stdout);
    for (int row = 1; *text && row < size.ws_row; row++) {
        size_t len = strcspn(text, "\n");

        printf("%.*s\033[K\n", (int) MIN(len, size.ws_col), text);
        text += len + (text[len] == '\n');
    }
    fputs("\033[J", stdout);
    fflush(stdout);
}

/* Sleeps for 'ms' milliseconds, or until the end is asked for: a signal, or
 * the key "q". */
static void
terminal_sleep(unsigned int ms)
{
    struct pollfd pfd = { .fd = terminal_fd, .events = POLLIN };

    poll_fd_wait(terminal_fd, POLLIN);
    vhost_sleep(ms);
    if (poll(&pfd, 1, 0) == 1) {
        char key = '\0';

        if (read(terminal_fd, &key, 1) <= 0 || key == 'q') {
            vhost_end();
        }
    }
}

static void
show(const struct options *o, const struct sample *old,
     const struct sample *new, bool screen)
{
    struct ds s = DS_EMPTY_INITIALIZER;

    if (o->json) {
        print_json(old, new);
        return;
    }
    put_table(&s, old, new);
    if (screen) {
        terminal_show(ds_cstr(&s));
    } else {
        fputs(ds_cstr(&s), stdout);
        fflush(stdout);
    }
    ds_destroy(&s);
}

int
vhost_top_main(int argc, char *argv[])
{
    struct options o = { .target = "ovs-vswitchd", .interval = 1000 };
    struct sample old, new;
    char *error = NULL;
    bool screen;

    parse_options(argc, argv, &o);
    vhost_catch_signals();
    if (take_sample(&o, &old, &error)) {
        fprintf(stderr, "%s: %s\n", command, error);
        free(error);
        return EXIT_FAILURE;
    }

    screen = (!o.json && !o.count && isatty(STDIN_FILENO)
              && isatty(STDOUT_FILENO));
    if (screen) {
        terminal_start();
        show(&o, &old, &old, screen);
    }
    for (uint64_t i = 0; !o.count || i < o.count; i++) {
        (screen ? terminal_sleep : vhost_sleep)(o.interval);
        if (vhost_is_ending() || take_sample(&o, &new, &error)) {
            break;
        }
        show(&o, &old, &new, screen);
        json_destroy(old.ports);
        old = new;
    }
    json_destroy(old.ports);
    if (screen) {
        terminal_stop();
    }
    if (error) {
        fprintf(stderr, "%s: %s\n", command, error);
        free(error);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
