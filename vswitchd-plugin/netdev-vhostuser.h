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

#ifndef NETDEV_VHOSTUSER_H
#define NETDEV_VHOSTUSER_H 1

/* The netdev class "vhostuser"
 * ============================
 *
 * A "struct netdev_vhostuser" is what the operator configured: it stays while
 * peers come and go.  The back-end that it owns is the state of the protocol.
 *
 *
 * Two roles
 * ---------
 *
 * With options:role=front-end the port is the other end of the protocol: it
 * owns a front-end, in a "struct netdev_vhostuser_driver", which exists only
 * then; the back-end has no connection, and its virtqueues do not run.  Then
 * PMD threads do the same with the other of the two vrings of a queue pair:
 *
 *                  back-end        front-end
 *    rxq n         transmitq n+1   receiveq n+1
 *    txq n         receiveq n+1    transmitq n+1
 *
 * What is kept for each queue, 'stats' and 'txq_map', has the number of the
 * vring in the back-end role, so that it survives a change of the role, and
 * netdev_vhostuser_driver_vring() translates.
 *
 *
 * Threads
 * -------
 *
 * The main thread runs the netdev callbacks, the control thread (vhu-ctl.h)
 * runs the back-end or front-end, and both do so under 'mutex'.  PMD threads
 * run the functions in netdev-vhostuser-io.c and netdev-vhostuser-drv.c; they
 * never take 'mutex', and use only the members in the first group below.
 *
 * Lock order: 'mutex' is taken before the lock of a vring. */

#include <stdbool.h>
#include <stdint.h>

#include "netdev-provider.h"
#include "openvswitch/list.h"
#include "openvswitch/token-bucket.h"
#include "ovs-atomic.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "packets.h"
#include "smap.h"
#include "vhost-user-spec.h"
#include "vhu-ctl.h"
#include "vhu-options.h"
#include "vhu-packet.h"

struct netdev_vhostuser_policer;
struct netdev_vhostuser_qos;
struct vhu_backend;
struct vhu_conn;
struct vhu_dev;
struct vhu_dev_ops;
struct vhu_fe_vring;
struct vhu_frontend;
struct vhu_pool;

/* Size bins of the statistics, upper limits inclusive. */
#define VHU_SIZE_BINS                       \
    VHU_SIZE_BIN(undersize, 63)             \
    VHU_SIZE_BIN(size_64, 64)               \
    VHU_SIZE_BIN(size_65_127, 127)          \
    VHU_SIZE_BIN(size_128_255, 255)         \
    VHU_SIZE_BIN(size_256_511, 511)         \
    VHU_SIZE_BIN(size_512_1023, 1023)       \
    VHU_SIZE_BIN(size_1024_1518, 1518)      \
    VHU_SIZE_BIN(size_1519_max, UINT32_MAX)
enum vhu_size_bin {
#define VHU_SIZE_BIN(NAME, MAX) VHU_BIN_##NAME,
    VHU_SIZE_BINS
#undef VHU_SIZE_BIN
    VHU_N_SIZE_BINS
};

/* Why a packet was dropped. */
#define VHU_DROPS                                                       \
    /* Switch to guest: no free buffers in the guest's receiveq. */     \
    VHU_DROP(tx_failure)                                                \
    /* Switch to guest: longer than the MTU permits. */                 \
    VHU_DROP(tx_mtu_exceeded)                                           \
    /* Switch to guest: no enabled queue, link down or port down. */    \
    VHU_DROP(tx_not_ready)                                              \
    /* Switch to guest: the egress policer. */                          \
    VHU_DROP(tx_qos)                                                    \
    /* Guest to switch: the ingress policer. */                         \
    VHU_DROP(rx_qos)                                                    \
    /* Guest to switch: a buffer that holds no valid packet. */         \
    VHU_DROP(rx_malformed)
enum vhu_drop {
#define VHU_DROP(NAME) VHU_DROP_##NAME,
    VHU_DROPS
#undef VHU_DROP
    VHU_N_DROPS
};

/* Counters of one queue of the switch, rxq or txq.  Written under the lock of
 * its vring, or in 'no_queue' below as atomics; read by anyone as relaxed
 * atomics (see vhu_counter_add() and vhu_counter_read()). */
struct vhu_queue_stats {
    uint64_t packets;
    uint64_t bytes;
    uint64_t multicast;
    uint64_t broadcast;
    uint64_t sizes[VHU_N_SIZE_BINS];
    uint64_t drops[VHU_N_DROPS];
    uint64_t bursts;            /* That had a packet at least. */
    uint64_t retries;           /* txq only: as netdev-dpdk's tx retries. */
};

/* Adds 'n' to a counter that no other thread writes at the same time. */
static inline void
vhu_counter_add(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static inline uint64_t
vhu_counter_read(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* Which receiveqs of the guest the switch's txqs send to: those that run and
 * are enabled.  Immutable, RCU. */
struct vhu_txq_map {
    unsigned int n;             /* 0 if there is none: packets are dropped. */
    uint8_t vrings[VHOST_USER_MAX_QUEUE_PAIRS]; /* Vring indices, of the
                                                 * back-end role. */
};

/* What a port has only in the front-end role.  Constant, RCU. */
struct netdev_vhostuser_driver {
    struct vhu_frontend *frontend;
    struct vhu_fe_vring *vrings[VHOST_USER_MAX_VRINGS]; /* Of 'frontend'. */
};

/* Returns the index of the vring that is in the front-end role what vring
 * 'index' is in the back-end role. */
static inline unsigned int
netdev_vhostuser_driver_vring(unsigned int index)
{
    return index ^ 1;
}

/* The longest packet that a dp_packet holds limits the MTU that can be set. */
#define VHU_MTU_OVERHEAD (ETH_HEADER_LEN + VLAN_HEADER_LEN)
#define VHU_MAX_MTU (VHU_MAX_PACKET_LEN - VHU_MTU_OVERHEAD)

/* How often a guest can have the switch reconfigure its datapath, which stops
 * all PMD threads for a moment and writes a lot into the log: once a second,
 * and a few times at once. */
#define VHU_RECONF_RATE 1       /* Tokens a millisecond. */
#define VHU_RECONF_COST 1000
#define VHU_RECONF_BURST (8 * VHU_RECONF_COST)

struct netdev_vhostuser_rxq {
    struct netdev_rxq up;
    struct vhu_vring *vring;    /* In the back-end role. */
};

struct netdev_vhostuser {
    struct netdev up;

    /* Read by PMD threads. */
    struct vhu_dev *dev;        /* Constant from construct to destruct. */
    OVSRCU_TYPE(struct netdev_vhostuser_driver *) driver; /* Null in the
                                                           * back-end role. */
    OVSRCU_TYPE(struct vhu_txq_map *) txq_map;
    OVSRCU_TYPE(struct netdev_vhostuser_policer *) policer; /* Ingress, or
                                                             * null. */
    OVSRCU_TYPE(struct netdev_vhostuser_qos *) qos; /* Egress, or null. */
    struct vhu_pool *pool;      /* To receive into, or null.  Changes only in
                                 * reconfigure, when no PMD thread has the
                                 * port. */
    atomic_bool up_flag;        /* NETDEV_UP. */
    atomic_bool rx_flag;        /* The same, and not 'rx_held'. */
    atomic_uint max_packet_len; /* MTU + Ethernet header + VLAN tag. */
    atomic_uint tx_retries_max;
    atomic_bool rarp_pending;   /* The rxq 0 is to deliver 'rarp_mac'. */
    atomic_uint64_t rarp_mac;   /* 6 bytes in memory order. */
    atomic_bool learn_mac;      /* Set 'guest_mac' with the next packet. */
    atomic_uint64_t guest_mac;  /* The same, of the guest, or 0. */

    /* Written by PMD threads, each under the lock of its vring.  Index is the
     * vring; allocated by reconfigure as far as needed and never freed before
     * the netdev. */
    struct vhu_queue_stats *stats[VHOST_USER_MAX_VRINGS];
    struct vhu_queue_stats no_queue; /* Drops without a queue.  Atomic. */

    struct ovs_mutex mutex;

    /* Under 'mutex': configuration. */
    struct vhu_options options; /* In effect. */
    bool configured;            /* 'options' were set at least once. */
    struct smap last_args;      /* Of the last set_config, to log once. */
    char *options_error;        /* Why 'last_args' are not in effect, or
                                 * null. */
    struct eth_addr hwaddr;
    enum netdev_flags flags;
    bool rx_held;               /* See vhu-startup.h. */
    int mtu;                    /* In effect, like n_rxq and n_txq in 'up'. */
    int requested_mtu;          /* From the next reconfigure on. */
    int requested_pairs;
    int wanted_pairs;           /* What the peer has started, but see: */
    struct token_bucket reconf_tokens; /* For requests of a guest. */
    int numa_id;                /* Node of the guest's memory, as far as we
                                 * know: of the last guest, at first 0. */
    int requested_numa_id;
    bool requested_pool;        /* There was a guest, and DPDK works. */

    /* Under 'mutex': the back-end, and what was last seen of it. */
    struct vhu_backend *backend;
    char *reason;               /* Why the port is not up, null if it is. */
    char *mtu_error;            /* Why the back-end that we are the front-end
                                 * of does not have our MTU, or null. */
    bool carrier;
    long long int carrier_resets;
    long long int next_announce; /* See announce_change() (ms). */
    unsigned int announce_delay; /* Before 'next_announce' (ms). */
    bool rxqs_enabled[VHOST_USER_MAX_QUEUE_PAIRS];

    struct vhu_ctl_client ctl_client;

    /* In the list of all, under its mutex. */
    struct ovs_list list_node;
};

static inline struct netdev_vhostuser *
netdev_vhostuser_cast(const struct netdev *netdev)
{
    return CONTAINER_OF(netdev, struct netdev_vhostuser, up);
}

/* Registers the class "vhostuser" and the unixctl commands.  May be called
 * before main().  Returns 0 or a positive errno. */
int netdev_vhostuser_register(void);

/* Registers the classes "dpdkvhostuser" (server) and "dpdkvhostuserclient"
 * (client), other names of the same thing. */
int netdev_vhostuser_register_aliases(void);

/* Undoes that, as far as no port uses them; says so if one does. */
void netdev_vhostuser_unregister_aliases(void);

/* All ports of this class, each a 'list_node' of netdev_vhostuser_list, under
 * netdev_vhostuser_list_mutex, which is taken before the mutex of a port. */
extern struct ovs_mutex netdev_vhostuser_list_mutex;
extern struct ovs_list netdev_vhostuser_list
    OVS_GUARDED_BY(netdev_vhostuser_list_mutex);

/* Returns why the last options that the operator gave to the port named 'name'
 * are not in effect, as a newly allocated string, or null.  Any thread. */
char *netdev_vhostuser_get_options_error(const char *name);

/* What the control thread does for a port, netdev-vhostuser-ctl.c.
 * netdev_vhostuser_changed() works out what a change of the back-end or
 * front-end means for the switch; 'netdev' is a struct netdev_vhostuser, under
 * 'mutex'.  netdev_vhostuser_update_up() tells the PMD threads what 'flags'
 * and 'rx_held' mean for them.  The last one makes room for the statistics of
 * the first 'n_pairs' queue pairs, before a PMD thread hears of them. */
extern const struct vhu_dev_ops netdev_vhostuser_dev_ops;
void netdev_vhostuser_run(struct vhu_ctl_client *);
void netdev_vhostuser_wait(struct vhu_ctl_client *);
void netdev_vhostuser_changed(void *netdev);
void netdev_vhostuser_update_up(struct netdev_vhostuser *netdev)
    OVS_REQUIRES(netdev->mutex);
void netdev_vhostuser_alloc_stats(struct netdev_vhostuser *netdev,
                                  unsigned int n_pairs)
    OVS_REQUIRES(netdev->mutex);

/* Roles, netdev-vhostuser-role.c; all under 'mutex', by the main or control
 * thread. */

/* Returns the front-end, or null in the back-end role. */
struct vhu_frontend *netdev_vhostuser_frontend(
    const struct netdev_vhostuser *);

/* Returns the connection of the back-end or front-end, or null. */
struct vhu_conn *netdev_vhostuser_conn(const struct netdev_vhostuser *);

/* Gives the port the role in its options, without a connection. */
void netdev_vhostuser_set_role(struct netdev_vhostuser *netdev)
    OVS_REQUIRES(netdev->mutex);

/* Has the back-end or front-end use 'conn' (may be null) and take it over. */
void netdev_vhostuser_set_conn(struct netdev_vhostuser *netdev,
                               struct vhu_conn *conn)
    OVS_REQUIRES(netdev->mutex);

/* Tells the front-end, if there is one, what the options and the MTU are now;
 * if it needs other virtqueues, it connects again because of 'reason'. */
void netdev_vhostuser_update_frontend(struct netdev_vhostuser *netdev,
                                      const char *reason)
    OVS_REQUIRES(netdev->mutex);

/* Closes the connection because of 'reason'. */
void netdev_vhostuser_disconnect(struct netdev_vhostuser *netdev,
                                 const char *reason)
    OVS_REQUIRES(netdev->mutex);

/* Returns the features that were negotiated. */
uint64_t netdev_vhostuser_features(const struct netdev_vhostuser *);

/* Returns true if packets can flow. */
bool netdev_vhostuser_is_up(const struct netdev_vhostuser *);

/* Returns the number of queue pairs that the peer has, as far as is known, and
 * 0 if the back-end role waits for the guest to start any. */
unsigned int netdev_vhostuser_n_pairs(const struct netdev_vhostuser *);

/* Returns true if PMD threads can use the vring whose index in the back-end
 * role is 'index'. */
bool netdev_vhostuser_is_published(const struct netdev_vhostuser *,
                                   unsigned int index);

/* Returns a byte of the memory that is shared with the peer, or null. */
void *netdev_vhostuser_some_memory(const struct netdev_vhostuser *);

/* Returns why the back-end does not have the MTU of a front-end, or null if it
 * has, or has not been asked for another one than the usual. */
const char *netdev_vhostuser_mtu_error(const struct netdev_vhostuser *);

/* Announces where 'mac' is: in the front-end role to what is behind the
 * back-end (SEND_RARP), in the back-end role to the switch, with a RARP packet
 * from the guest.  If 'mac' is zero, it is that of the device: in the
 * back-end role the last that was announced or the first that sent a packet,
 * in the front-end role what the configuration space says.
 *
 * Returns null, or why that is not possible, newly allocated. */
char *netdev_vhostuser_announce(struct netdev_vhostuser *netdev,
                                struct eth_addr mac)
    OVS_REQUIRES(netdev->mutex);

/* The file in which packed virtqueues keep their positions for the next
 * process, netdev-vhostuser-positions.c.  The first names it, the second takes
 * note that the port may have been deleted, and the last, to be called by the
 * main thread as long as it runs, removes the files of ports that were. */
void netdev_vhostuser_keep_positions(struct netdev_vhostuser *netdev);
void netdev_vhostuser_drop_positions(const struct netdev_vhostuser *netdev);
void netdev_vhostuser_run_positions(void);

/* Parts of the class, netdev-vhostuser-stats.c. */
int netdev_vhostuser_get_stats(const struct netdev *, struct netdev_stats *);
int netdev_vhostuser_get_custom_stats(const struct netdev *,
                                      struct netdev_custom_stats *);
int netdev_vhostuser_get_status(const struct netdev *, struct smap *);

/* What vhostuser/show has in common with them; under 'mutex': "client" or
 * "server"; why the port is not up, or null if it is; since when it is
 * connected, or not, newly allocated (there must be a connection object); how
 * many vrings the front-end has configured, the highest index plus 1. */
const char *netdev_vhostuser_mode(const struct netdev_vhostuser *);
const char *netdev_vhostuser_reason(const struct netdev_vhostuser *);
char *netdev_vhostuser_since(const struct netdev_vhostuser *);
unsigned int netdev_vhostuser_n_vrings(const struct netdev_vhostuser *);

/* The commands, vhu-unixctl.c. */
void vhu_unixctl_init(void);

/* Takes note of other_config of the Open_vSwitch table: 'vhost-sock-dir'.
 * Main thread. */
void netdev_vhostuser_set_other_config(const struct smap *other_config);

/* The switch is about to exit: no port receives any more.  Main thread. */
void netdev_vhostuser_end(void);

/* Hot path, netdev-vhostuser-io.c. */
int netdev_vhostuser_rxq_recv(struct netdev_rxq *, struct dp_packet_batch *,
                              int *qfill);
int netdev_vhostuser_send(struct netdev *, int qid, struct dp_packet_batch *,
                          bool concurrent_txq);

/* The same in the front-end role, netdev-vhostuser-drv.c; these are called by
 * the former. */
bool netdev_vhostuser_driver_rxq_enabled(
    const struct netdev_vhostuser_driver *, struct netdev_rxq *);
int netdev_vhostuser_driver_rxq_recv(const struct netdev_vhostuser_driver *,
                                     struct netdev_rxq *,
                                     struct dp_packet_batch *, int *qfill);
int netdev_vhostuser_driver_send(const struct netdev_vhostuser_driver *,
                                 struct netdev_vhostuser *, int qid,
                                 struct dp_packet_batch *);

/* QoS and policing, netdev-vhostuser-qos.c.  The callbacks of the class take
 * 'mutex' themselves; the two "run" functions are for the hot path: they
 * delete the packets that do not conform from 'batch' and return how many. */
int netdev_vhostuser_set_policing(struct netdev *, uint32_t kbits_rate,
                                  uint32_t kbits_burst, uint32_t kpkts_rate,
                                  uint32_t kpkts_burst);
int netdev_vhostuser_get_qos_types(const struct netdev *, struct sset *);
int netdev_vhostuser_get_qos(const struct netdev *, const char **typep,
                             struct smap *details);
int netdev_vhostuser_set_qos(struct netdev *, const char *type,
                             const struct smap *details);
int netdev_vhostuser_get_queue(const struct netdev *, unsigned int queue_id,
                               struct smap *details);
int netdev_vhostuser_set_queue(struct netdev *, unsigned int queue_id,
                               const struct smap *details);
int netdev_vhostuser_delete_queue(struct netdev *, unsigned int queue_id);
int netdev_vhostuser_get_queue_stats(const struct netdev *,
                                     unsigned int queue_id,
                                     struct netdev_queue_stats *);
int netdev_vhostuser_queue_dump_start(const struct netdev *, void **statep);
int netdev_vhostuser_queue_dump_next(const struct netdev *, void *state,
                                     unsigned int *queue_idp,
                                     struct smap *details);
int netdev_vhostuser_queue_dump_done(const struct netdev *, void *state);
void netdev_vhostuser_qos_destroy(struct netdev_vhostuser *);
size_t netdev_vhostuser_policer_run(struct netdev_vhostuser_policer *,
                                    struct dp_packet_batch *);
size_t netdev_vhostuser_qos_run(struct netdev_vhostuser_qos *,
                                struct dp_packet_batch *);

#endif /* netdev-vhostuser.h */
