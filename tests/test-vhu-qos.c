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

#include "netdev-vhostuser.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "dp-packet.h"
#include "openvswitch/vlog.h"
#include "smap.h"
#include "sset.h"
#include "util.h"
#include "vhu-meter.h"
#include "vhu-packet.h"
#include "vhutest.h"

/* Meters, over simulated time. */

/* Offers packets of 'size' bytes to a meter with 'params' for 'duration' us,
 * at about 'factor' times the sum of its rates, in bursts at random times.
 * Returns the ratio of what got each color to what should have, in
 * 'green' and 'yellow'. */
static void
offer(const struct vhu_meter_params *params, uint32_t size, double factor,
      long long int duration, double *green, double *yellow)
{
    long long int start = 1234567890123;
    uint64_t bytes[3] = { 0, 0, 0 };
    double offered = (params->cir + params->eir) * factor / 1e6;
    struct vhu_meter meter;
    double sent = 0;

    vhu_meter_init(&meter, params, start);
    for (long long int t = 0; t <= duration; t += 1 + 64 * size / offered) {
        while (sent < t * offered) {
            bytes[vhu_meter_run(&meter, size, VHU_GREEN, start + t)] += size;
            sent += size;
        }
    }
    *green = bytes[VHU_GREEN] / (params->cbs + params->cir / 1e6 * duration);
    *yellow = (params->ebs ? bytes[VHU_YELLOW]
                             / (params->ebs + params->eir / 1e6 * duration)
               : bytes[VHU_YELLOW]);
}

/* Rates from 8 kbps to 400 Gbps. */
static void
test_rates(void)
{
    static const uint64_t rates[] = {
        1000, 1500, 125000, 46000000, 1250000000, UINT64_C(4300000000),
        UINT64_C(12500000000), UINT64_C(50000000000),
    };

    for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
        /* Ten thousand packets, or more. */
        long long int duration = MAX(UINT64_C(100000),
                                     UINT64_C(15000000000000) / rates[i]);
        struct vhu_meter_params params = { .cir = rates[i] };
        double green, yellow, half, all;

        params.cbs = MAX(100 * 1500, rates[i] / 1000);
        all = rates[i] / 1e6 * duration;
        offer(&params, 1500, 3, duration, &green, &yellow);
        assert(!yellow);
        offer(&params, 1500, 0.5, duration, &half, &yellow);
        printf("%"PRIu64" bytes/s: %s, half of that: %s\n", rates[i],
               green > 0.95 && green <= 1 ? "ok" : "wrong",
               half * (params.cbs + all) > 0.98 * 0.5 * all ? "ok" : "wrong");
    }
}

/* The example of the manual: a burst that is far less than a millisecond of
 * the rate. */
static void
test_small_burst(void)
{
    struct vhu_meter_params params = { .cir = 46000000, .cbs = 2048 };
    struct vhu_bucket *bucket;
    struct vhu_meter meter;
    uint64_t bytes = 0;

    vhu_meter_init(&meter, &params, 0);
    for (long long int t = 0; t < 1000000; t++) {
        bytes += vhu_meter_run(&meter, 1000, VHU_GREEN, t) == VHU_GREEN
                 ? 1000 : 0;
    }
    assert(bytes > 46000000 * 0.99 && bytes <= 46000000 + 2048);

    /* The limits of what can be configured are not exceeded. */
    params.cir = params.cbs = UINT64_MAX;
    vhu_meter_init(&meter, &params, 0);
    bucket = &meter.committed;
    for (long long int t = 0; t < 100; t++) {
        for (int i = 0; i < 1000; i++) {
            assert(vhu_meter_run(&meter, UINT32_MAX, VHU_GREEN, t * t * t * t)
                   == VHU_GREEN);
            assert(bucket->tokens <= bucket->burst);
        }
    }

    /* Neither is a burst after a long time, nor a time that goes back. */
    params.cir = 1000;
    params.cbs = 3000;
    vhu_meter_init(&meter, &params, 1000000);
    assert(vhu_meter_run(&meter, 3000, VHU_GREEN, 1000000) == VHU_GREEN);
    assert(vhu_meter_run(&meter, 1, VHU_GREEN, 1000999) == VHU_RED);
    assert(vhu_meter_run(&meter, 1, VHU_GREEN, 1001000) == VHU_GREEN);
    assert(vhu_meter_run(&meter, 1, VHU_GREEN, 0) == VHU_RED);
    assert(vhu_meter_run(&meter, 3001, VHU_GREEN, LLONG_MAX) == VHU_RED);
    assert(vhu_meter_run(&meter, 3000, VHU_GREEN, LLONG_MAX) == VHU_GREEN);
    assert(vhu_meter_run(&meter, 1, VHU_GREEN, LLONG_MAX) == VHU_RED);
    printf("ok\n");
}

/* RFC 4115: two rates, and a color from another meter. */
static void
test_colors(void)
{
    struct vhu_meter_params params = {
        .cir = 1000000, .cbs = 20000, .eir = 500000, .ebs = 10000,
    };
    struct vhu_meter meter;
    double green, yellow;

    offer(&params, 1000, 3, 10000000, &green, &yellow);
    assert(green > 0.95 && green <= 1);
    assert(yellow > 0.95 && yellow <= 1);

    vhu_meter_init(&meter, &params, 0);
    assert(vhu_meter_run(&meter, 20000, VHU_RED, 0) == VHU_RED);
    assert(vhu_meter_run(&meter, 5000, VHU_YELLOW, 0) == VHU_YELLOW);
    assert(vhu_meter_run(&meter, 20000, VHU_GREEN, 0) == VHU_GREEN);
    assert(vhu_meter_run(&meter, 5001, VHU_GREEN, 0) == VHU_RED);
    assert(vhu_meter_run(&meter, 5000, VHU_GREEN, 0) == VHU_YELLOW);
    assert(vhu_meter_run(&meter, 1, VHU_GREEN, 0) == VHU_RED);
    printf("ok\n");
}

/* The class, as the bridge calls it. */

static void
netdev_init(struct netdev_vhostuser *netdev)
{
    memset(netdev, 0, sizeof *netdev);
    ovs_mutex_init(&netdev->mutex);
    netdev->up.name = xstrdup("vm0");
    ovsrcu_init(&netdev->policer, NULL);
    ovsrcu_init(&netdev->qos, NULL);
    vlog_set_levels(NULL, VLF_CONSOLE, VLL_OFF);
}

static void
netdev_uninit(struct netdev_vhostuser *netdev)
{
    netdev_vhostuser_qos_destroy(netdev);
    ovs_mutex_destroy(&netdev->mutex);
    free(netdev->up.name);
}

/* Calls set_qos() with the details "KEY=VALUE,..." */
static int
set_qos(struct netdev_vhostuser *netdev, const char *type,
        const char *details_)
{
    struct smap details = SMAP_INITIALIZER(&details);
    char *copy = xstrdup(details_);
    char *save = NULL;
    int error;

    for (char *s = strtok_r(copy, ",", &save); s;
         s = strtok_r(NULL, ",", &save)) {
        char *value = strchr(s, '=');

        *value++ = '\0';
        smap_add(&details, s, value);
    }
    error = netdev_vhostuser_set_qos(&netdev->up, type, &details);
    smap_destroy(&details);
    free(copy);
    return error;
}

static int
set_queue(struct netdev_vhostuser *netdev, unsigned int queue_id,
          unsigned int cir, unsigned int cbs)
{
    struct smap details = SMAP_INITIALIZER(&details);
    int error;

    if (cir) {
        smap_add_format(&details, "cir", "%u", cir);
        smap_add_format(&details, "cbs", "%u", cbs);
    }
    error = netdev_vhostuser_set_queue(&netdev->up, queue_id, &details);
    smap_destroy(&details);
    return error;
}

static void
print_qos(const struct netdev_vhostuser *netdev)
{
    struct smap details = SMAP_INITIALIZER(&details);
    const char *type;

    assert(!netdev_vhostuser_get_qos(&netdev->up, &type, &details));
    printf("  type '%s'", type);
    if (type[0]) {
        static const char *keys[] = { "cir", "cbs", "eir", "ebs" };

        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
            const char *value = smap_get(&details, keys[i]);

            if (value) {
                printf(" %s=%s", keys[i], value);
            }
        }
    }
    printf("\n");
    smap_destroy(&details);
}

/* Errors are those of netdev-dpdk and of DPDK's meters. */
static void
test_errors(void)
{
    static const struct {
        const char *type, *details;
    } cases[] = {
        { "egress-policer", "cir=1000,cbs=2000" },
        { "egress-policer", "cir=1000,cbs=2000,eir=7,ebs=7" },
        { "egress-policer", "cir=1000" },
        { "egress-policer", "cbs=1000" },
        { "egress-policer", "" },
        { "egress-policer", "cir=0,cbs=2000" },
        { "egress-policer", "cir=x,cbs=2000" },
        { "trtcm-policer", "cir=1,cbs=2,eir=3,ebs=4" },
        { "trtcm-policer", "cir=1,cbs=2" },
        { "trtcm-policer", "eir=3,ebs=4" },
        { "trtcm-policer", "cir=1,eir=3,ebs=4" },
        { "trtcm-policer", "cir=1,cbs=2,eir=3" },
        { "trtcm-policer", "" },
        { "linux-htb", "max-rate=1000" },
        { "", "" },
    };
    struct netdev_vhostuser netdev;
    struct sset types;

    netdev_init(&netdev);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int error = set_qos(&netdev, cases[i].type, cases[i].details);

        printf("%s %s: %s\n", cases[i].type, cases[i].details,
               error ? ovs_strerror(error) : "ok");
        print_qos(&netdev);
    }

    sset_init(&types);
    netdev_vhostuser_get_qos_types(&netdev.up, &types);
    assert(sset_count(&types) == 2);
    sset_destroy(&types);
    netdev_uninit(&netdev);
}

/* Runs a batch of 'n' packets of 'size' bytes and 'priority' through QoS or,
 * if that is null, the policer, and returns how many pass. */
static size_t
run_batch(struct netdev_vhostuser *netdev, struct netdev_vhostuser_qos *qos,
          size_t n, size_t size, uint32_t priority)
{
    struct dp_packet_batch batch;
    size_t n_dropped, n_passed;

    dp_packet_batch_init(&batch);
    for (size_t i = 0; i < n; i++) {
        struct dp_packet *packet = vhu_packet_new(size);

        memset(dp_packet_data(packet), i, size);
        packet->md.skb_priority = priority;
        dp_packet_batch_add(&batch, packet);
    }
    n_dropped = (qos ? netdev_vhostuser_qos_run(qos, &batch)
                 : netdev_vhostuser_policer_run(
                     ovsrcu_get(struct netdev_vhostuser_policer *,
                                &netdev->policer), &batch));
    n_passed = dp_packet_batch_size(&batch);
    assert(n_passed + n_dropped == n);

    /* Those that pass stay in order. */
    for (size_t i = 1; i < n_passed; i++) {
        assert(*(uint8_t *) dp_packet_data(batch.packets[i - 1])
               < *(uint8_t *) dp_packet_data(batch.packets[i]));
    }
    vhu_packets_recycle(&batch);
    return n_passed;
}

/* Packets count without their Ethernet header. */
static void
test_policers(void)
{
    struct netdev_vhostuser netdev;
    struct netdev_vhostuser_policer *policer;
    struct netdev_vhostuser_qos *qos;

    netdev_init(&netdev);
    assert(!set_qos(&netdev, "egress-policer", "cir=1,cbs=10000"));
    qos = ovsrcu_get(struct netdev_vhostuser_qos *, &netdev.qos);
    assert(run_batch(&netdev, qos, 32, 1014, 0) == 10);
    assert(run_batch(&netdev, qos, 32, 1014, 0) == 0);
    assert(run_batch(&netdev, qos, 32, 14, 0) == 32);

    /* The same configuration once more changes nothing, another one does. */
    assert(!set_qos(&netdev, "egress-policer", "cir=1,cbs=10000"));
    assert(ovsrcu_get(struct netdev_vhostuser_qos *, &netdev.qos) == qos);
    assert(!set_qos(&netdev, "egress-policer", "cir=1,cbs=20000"));
    qos = ovsrcu_get(struct netdev_vhostuser_qos *, &netdev.qos);
    assert(run_batch(&netdev, qos, 32, 1014, 0) == 20);

    assert(!netdev_vhostuser_set_policing(&netdev.up, 0, 0, 0, 0));
    assert(!ovsrcu_get(struct netdev_vhostuser_policer *, &netdev.policer));
    assert(!netdev_vhostuser_set_policing(&netdev.up, 8, 80, 0, 0));
    policer = ovsrcu_get(struct netdev_vhostuser_policer *, &netdev.policer);
    assert(run_batch(&netdev, NULL, 32, 1014, 0) == 10);
    assert(!netdev_vhostuser_set_policing(&netdev.up, 8, 80, 0, 0));
    assert(policer == ovsrcu_get(struct netdev_vhostuser_policer *,
                                 &netdev.policer));
    assert(run_batch(&netdev, NULL, 32, 1014, 0) <= 1);

    /* A burst of 8000 kbit, if none is given. */
    assert(!netdev_vhostuser_set_policing(&netdev.up, 8, 0, 0, 0));
    for (size_t i = 0; i < 31; i++) {
        assert(run_batch(&netdev, NULL, 32, 1014, 0) == 32);
    }
    assert(run_batch(&netdev, NULL, 32, 1014, 0) <= 9);
    assert(!netdev_vhostuser_set_policing(&netdev.up, 0, 8000, 0, 0));
    assert(!ovsrcu_get(struct netdev_vhostuser_policer *, &netdev.policer));
    netdev_uninit(&netdev);
    printf("ok\n");
}

/* Queues of trtcm-policer. */
static void
test_queues(void)
{
    struct smap details = SMAP_INITIALIZER(&details);
    struct netdev_vhostuser netdev;
    struct netdev_queue_stats stats;
    struct netdev_vhostuser_qos *qos;
    unsigned int ids = 0, id;
    void *dump;

    netdev_init(&netdev);

    /* There are none without it, nor with the other type. */
    assert(set_queue(&netdev, 0, 1, 1) == EOPNOTSUPP);
    assert(!set_qos(&netdev, "egress-policer", "cir=1,cbs=10000"));
    assert(set_queue(&netdev, 0, 1, 1) == EOPNOTSUPP);
    assert(netdev_vhostuser_delete_queue(&netdev.up, 0) == EOPNOTSUPP);
    assert(netdev_vhostuser_get_queue(&netdev.up, 0, &details) == EOPNOTSUPP);
    assert(netdev_vhostuser_get_queue_stats(&netdev.up, 0, &stats)
           == EOPNOTSUPP);
    assert(netdev_vhostuser_queue_dump_start(&netdev.up, &dump)
           == EOPNOTSUPP);

    /* Without a default queue everything is dropped. */
    assert(!set_qos(&netdev, "trtcm-policer",
                    "cir=1,cbs=10000,eir=1,ebs=5000"));
    qos = ovsrcu_get(struct netdev_vhostuser_qos *, &netdev.qos);
    assert(run_batch(&netdev, qos, 32, 1014, 0) == 0);

    /* A queue's green packets first use the committed rate of the port; its
     * yellow ones, and those that exceed that, use the excess rate. */
    assert(!set_queue(&netdev, 0, 0, 0));
    assert(!set_queue(&netdev, 1, 1, 12000));
    assert(set_queue(&netdev, 2, 1, 0) == EINVAL);
    assert(run_batch(&netdev, qos, 32, 1014, 1) == 12);
    assert(run_batch(&netdev, qos, 32, 1014, 7) == 3);
    assert(!netdev_vhostuser_get_queue_stats(&netdev.up, 1, &stats));
    assert(stats.tx_packets == 12 && stats.tx_bytes == 12000
           && stats.tx_errors == 20 && stats.created > 0);
    assert(!netdev_vhostuser_get_queue_stats(&netdev.up, 0, &stats));
    assert(stats.tx_packets == 15 && stats.tx_errors == 17);
    assert(netdev_vhostuser_get_queue_stats(&netdev.up, 2, &stats) == EINVAL);

    /* A change that is refused leaves the queue as it was. */
    assert(set_queue(&netdev, 1, 7, 0) == EINVAL);
    assert(!netdev_vhostuser_get_queue(&netdev.up, 1, &details));
    assert(!strcmp(smap_get(&details, "cbs"), "12000"));
    smap_clear(&details);

    assert(!netdev_vhostuser_queue_dump_start(&netdev.up, &dump));
    while (!netdev_vhostuser_queue_dump_next(&netdev.up, dump, &id,
                                             &details)) {
        ids |= 1 << id;
        smap_clear(&details);
    }
    assert(!netdev_vhostuser_queue_dump_done(&netdev.up, dump));
    assert(ids == 3);

    assert(!netdev_vhostuser_delete_queue(&netdev.up, 1));
    assert(!netdev_vhostuser_delete_queue(&netdev.up, 1));
    assert(netdev_vhostuser_get_queue(&netdev.up, 1, &details) == EINVAL);
    smap_destroy(&details);
    netdev_uninit(&netdev);
    printf("ok\n");
}

static void
test_vhu_qos_main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {
        { "rates", test_rates },
        { "small-burst", test_small_burst },
        { "colors", test_colors },
        { "errors", test_errors },
        { "policers", test_policers },
        { "queues", test_queues },
    };

    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (argc == 2 && !strcmp(argv[1], tests[i].name)) {
            tests[i].run();
            return;
        }
    }
    ovs_fatal(0, "usage: vhutest qos TEST");
}

VHUTEST_REGISTER("qos", test_vhu_qos_main);
