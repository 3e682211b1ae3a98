#
# Copyright (c) 2026 The ovs-vhostuser Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at:
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""The switch is restarted under guests, which notice a pause at most.

VHU_RESTARTS says how often the switch is killed in test_random_kills; "make
check-restart" has 200.
"""

import os
import random
import re
import select
import shutil
import struct
import time

import frontend as vhu
import pytest
from frontend import (F_EVENT_IDX, F_PROTOCOL_FEATURES, F_VERSION_1, PF_MQ,
                      Frontend, bits, frame)
from guest import Nic
from restart import (BACK, Traffic, n_starts, reconnect_times, summary,
                     wait_back)
from switch import daemon_path, wait_for

pytestmark = pytest.mark.ours

KILLS = int(os.environ.get("VHU_RESTARTS", "20"))

# Rings of guests: options of ovs-vhost perf.
PIECES = ["--no-in-order", "--size=4000", "--buffer-size=2048"]
RINGS = {
    "split": [],
    "packed": ["--packed"],
    "split indirect": PIECES,
    "packed indirect": ["--packed", *PIECES],
    "split chains": ["--no-indirect", *PIECES],
    "packed chains": ["--packed", "--no-indirect", *PIECES],
}


def kill_at_random(switch, rng):
    """Kills and starts the daemon.  Now and then it does not live long enough
    to get its ports."""
    count = n_starts(switch)
    if rng.random() < 0.2:
        switch.kill_daemon()
        switch.start_daemon(wait=False)
        time.sleep(rng.uniform(0.02, 0.3))
        early = n_starts(switch) == count
        switch.kill_daemon()
        kills = 2
        count += not early
    else:
        switch.kill_daemon()
        kills = 1
    switch.start_daemon(wait=False)
    wait_back(switch, count + 1)
    return kills


def run_kills(switch, number, *options, rate):
    """Kills the daemon 'number' times at random under traffic."""
    rng = random.Random()
    with Traffic(switch, *options, mtu=9000, rate=rate) as traffic:
        time.sleep(0.7)
        kills = 0
        while kills < number:
            kills += kill_at_random(switch, rng)
            time.sleep(rng.uniform(0.05, 0.3))
        return traffic.stop_and_check(kills)


@pytest.mark.parametrize("ring", RINGS)
def test_random_kills(switch, ring):
    """R-04, R-05, R-06, R-07: the switch dies at any time.  Nothing is lost
    but what it had in its hands, little comes twice, nothing out of order."""
    ways = run_kills(switch, -(-KILLS // len(RINGS)), *RINGS[ring],
                     rate=2000 if "--size=4000" in RINGS[ring] else 5000)
    outages = [outage for way in ways for outage in way["outages"]]
    times = reconnect_times(switch)
    print(f"\n{ring}: {len(outages)} outages, "
          f"lost {sum(o['lost'] for o in outages)}, "
          f"duplicates {sum(o['duplicates'] for o in outages)}, "
          f"under way {summary([o['in_ring'] for o in outages])}; ms from "
          f"port to up {summary(times)}; ms without a switch "
          f"{summary([o['duration_ns'] / 1e6 for o in outages])}")
    assert max(times) < 10000


def test_exit(switch):
    """R-12: the switch is asked to exit; nothing at all is lost."""
    with Traffic(switch) as traffic:
        time.sleep(0.7)
        for number in range(3):
            assert switch.stop_daemon() == 0
            switch.start_daemon()
            wait_back(switch, number + 1)
            time.sleep(0.2)
        ways = traffic.stop_and_check(3)
    assert sum(way["lost"] for way in ways) == 0
    print([(o["in_ring"], o["in_switch"], o["lost"])
           for way in ways for o in way["outages"]])


@pytest.mark.parametrize("ring", ["split", "packed"])
def test_fresh_rings(switch, ring):
    """Front-ends that make new rings, as virtio-user does: what was not
    transmitted is sent again, and the same holds."""
    with Traffic(switch, *RINGS[ring], keep=False) as traffic:
        time.sleep(0.7)
        for number in range(3):
            switch.kill_daemon()
            switch.start_daemon(wait=False)
            wait_back(switch, number + 1)
            time.sleep(0.2)
        traffic.stop_and_check(3)


def test_other_build(switch, tmp_path):
    """R-12: another build of the daemon takes over, with the database as it
    is and, as "ovs-ctl restart" does it, without flows at first.  Nothing is
    lost, also by a switch that has no flows yet."""
    other = shutil.copy(daemon_path("ours"), tmp_path / "ovs-vswitchd.new")
    switch.vsctl("set", "Bridge", "br0", "fail-mode=secure")

    def add_flows():
        wait_for(lambda: switch.try_command(
            "ovs-ofctl", "show", switch.path("br0.mgmt")), what="br0")
        switch.ofctl("add-flow", "actions=normal")

    add_flows()
    with Traffic(switch) as traffic:
        time.sleep(0.7)
        for number, daemon in enumerate((other, None)):
            before = switch.status("vm0"), switch.get("vm0", "options")
            switch.vsctl("--no-wait", "set", "Open_vSwitch", ".",
                         "other_config:flow-restore-wait=true")
            assert switch.stop_daemon() == 0
            switch.start_daemon(daemon=daemon)
            for name in ("vm0", "vm1"):
                switch.wait_link(name)
            add_flows()
            assert n_starts(switch) == number
            switch.vsctl("remove", "Open_vSwitch", ".", "other_config",
                         "flow-restore-wait")
            wait_back(switch, number + 1)
            after = switch.status("vm0"), switch.get("vm0", "options")
            assert before[1] == after[1]
            assert before[0]["features"] == after[0]["features"]
            time.sleep(0.3)
        ways = traffic.stop_and_check(2)
    assert sum(way["lost"] for way in ways) == 0


def test_guest_without_driver(switch, frontends):
    """A guest that is connected and does not come up holds nobody up for
    long."""
    with Traffic(switch) as traffic:
        silent = frontends("vm2", start=False)
        silent.connect()
        time.sleep(0.5)
        silent.disconnect()
        switch.kill_daemon()
        switch.start_daemon(wait=False)
        silent.connect()
        wait_back(switch, 1)
        waited, missing = re.search(
            BACK + r", (\d+) ms after .* \((\d+) are connected and not up",
            switch.log()).groups()
        assert int(missing) == 1 and 200 <= int(waited) < 5000
        time.sleep(0.2)
        traffic.stop_and_check(1)


def come_back(guest, pause=0):
    """Connects as QEMU does after a crash of the switch, with the rings as
    they are: each base is the used index (R-04)."""
    guest.connect()
    guest.negotiate()
    guest.set_memory()
    for vring in guest.vrings:
        guest.set_vring(vring, base=guest.u16(vring.used + 2))
    time.sleep(pause)
    for vring in guest.vrings:
        guest.enable(vring.index)
    return guest


def is_called(vring):
    """True if the switch has notified the driver since the last call."""
    try:
        return os.eventfd_read(vring.call) > 0
    except BlockingIOError:
        return False


def test_calls_after_restart(switch, frontends):
    """R-08: the first used buffer is notified, whatever the event index says.
    R-09: a driver that waits for a notification that the last switch did not
    live to send gets one."""
    features = bits(F_EVENT_IDX, F_PROTOCOL_FEATURES, F_VERSION_1)
    guests = [frontends(name, features=features) for name in ("vm0", "vm1")]
    vrings = guests[0].vrings[1], guests[1].vrings[0]
    for number in range(1, 4):
        guests[0].transmit(frame(1, 2))
        guests[0].flush()
        assert len(guests[1].receive(1)) == 1
        switch.kill_daemon()
        for guest in guests:
            for vring in guest.vrings:
                is_called(vring)
                # The driver wants no notification in the next time.
                guest.put_u16(vring.avail + 4 + 2 * vring.size,
                              guest.u16(vring.used + 2) + 20000)
        switch.start_daemon(wait=False)
        for guest in guests:
            come_back(guest)
        for guest in guests:
            for vring in guest.vrings:
                wait_for(lambda v=vring: is_called(v), what="R-09")
        wait_back(switch, number)
        for called in (True, False):
            guests[0].transmit(frame(1, 2))
            guests[0].flush()
            assert len(guests[1].receive(1)) == 1
            time.sleep(0.02)
            assert [is_called(vring) for vring in vrings] == [called, called]


def test_rings_go_on(switch, frontends):
    """R-04, R-05: what a guest sends while there is no switch arrives, once
    and in order; what had arrived is not sent again.  R-07: a ring that makes
    no sense is not used, and the next start repairs it."""
    guests = [frontends(name) for name in ("vm0", "vm1")]
    sent = 0
    for number in range(1, 4):
        for dead in (False, True):
            if dead:
                switch.kill_daemon()
            guests[0].transmit(*[
                frame(1, 2, payload=struct.pack(">I", sent + n))
                for n in range(20)])
            if dead:
                switch.start_daemon(wait=False)
                # QEMU enables its vrings a moment after it has started them.
                for guest in guests:
                    come_back(guest, pause=0.05)
                wait_back(switch, number)
            got = guests[1].receive(20)
            assert [struct.unpack(">I", packet[14:18])[0]
                    for packet in got] == list(range(sent, sent + 20))
            guests[0].flush()
            sent += 20

    vring = guests[0].vrings[1]
    good = guests[0].u16(vring.avail + 2)
    switch.kill_daemon()
    guests[0].put_u16(vring.avail + 2, good + vring.size + 1)
    switch.start_daemon(wait=False)
    for guest in guests:
        come_back(guest)
    wait_for(lambda: "vm0: vring 1 is broken" in switch.log(), what="R-07")
    assert guests[0].u16(vring.used + 2) == good
    guests[0].disconnect()
    guests[0].put_u16(vring.avail + 2, good)
    come_back(guests[0])
    guests[0].transmit(frame(1, 2))
    assert len(guests[1].receive(1)) == 1


# Many ports.

def test_hundred_ports(switch):
    """R-01: 100 guests come back at once, each in time."""
    paths = [switch.path(f"p{i}.sock") for i in range(100)]
    guests = [Frontend(path, size=64, protocol_features=bits(PF_MQ))
              for path in paths]
    by_socket = {guest.listener: guest for guest in guests}

    def serve():
        """Starts the rings of all guests again."""
        waiting = dict(by_socket)
        while waiting:
            ready, _, _ = select.select(list(waiting), [], [], 60)
            assert ready
            for listener in ready:
                waiting.pop(listener).connect().start()

    def is_up():
        return switch.log().count("link up") >= 100 * n_lives
    try:
        args = []
        for number, path in enumerate(paths):
            args += ["--", "add-port", "br0", f"p{number}", "--", "set",
                     "Interface", f"p{number}", "type=vhostuser",
                     f"options:vhost-server-path={path}"]
        switch.vsctl("--no-wait", *args)
        for n_lives in (1, 2):
            serve()
            wait_for(is_up, 60, "100 ports up")
            if n_lives == 1:
                switch.kill_daemon()
                switch.start_daemon(wait=False)
        times = reconnect_times(switch)
        assert len(times) == 100
        print(f"\n100 ports: ms from port to up {summary(times)}")
        assert max(times) < 20000
    finally:
        for guest in guests:
            guest.close()


# Features.

# Everything that a version of ours has ever offered.
FEATURES = bits(3, 15, 17, 21, 22, 24, 27, 28, 29, 30, 32, 34, 35)
PROTOCOL_FEATURES = bits(0, 2, 3, 4, 5, 13, 15, 16)
QUEUE_PAIRS = 128
MEM_SLOTS = 128


@pytest.mark.parametrize("options", [
    {}, {"n_rxq": 4}, {"mtu": 9000}, {"tx_retries_max": 0}])
def test_features_never_shrink(frontends, options):
    """R-03: a guest has what an earlier version of ours offered it, and QEMU
    does not connect to a back-end that has less."""
    guest = frontends("vm0", start=False, port=options)
    guest.connect()
    assert guest.ask(vhu.GET_FEATURES) & FEATURES == FEATURES
    offered = guest.ask(vhu.GET_PROTOCOL_FEATURES)
    assert offered & PROTOCOL_FEATURES == PROTOCOL_FEATURES
    guest.send(vhu.SET_PROTOCOL_FEATURES, struct.pack("<Q", offered))
    assert guest.ask(vhu.GET_QUEUE_NUM) >= QUEUE_PAIRS
    assert guest.ask(vhu.GET_MAX_MEM_SLOTS) >= MEM_SLOTS


@pytest.mark.expect_log("does it need a feature")
def test_guest_misses_a_feature(switch, neighbours, frontends):
    """R-03, R-13: a front-end goes away as soon as it knows our features,
    again and again.  It is told why, asked seldom, and harms nobody."""
    guest = frontends("vm0", start=False)
    n_connections = 0
    end = time.monotonic() + 5
    while time.monotonic() < end:
        guest.connect()
        guest.ask(vhu.GET_FEATURES)
        guest.ask(vhu.GET_PROTOCOL_FEATURES)
        guest.disconnect()
        n_connections += 1
    assert 3 < n_connections < 14
    switch.wait_status("vm0", "reason", "^the front-end closes each "
                       "connection before anything starts .*need a feature")
    assert switch.log().count("does it need a feature") == 1
    assert switch.log().count("vm0: connected at") == 3
    neighbours.check()
    guest.connect().start()
    switch.wait_link("vm0")
    assert "reason" not in switch.status("vm0")
    assert "vm0: the front-end has stayed this time" in switch.log()


# Guests with QEMU.

@pytest.mark.parametrize("server, device", [
    (True, ""), (True, "packed=on"), (False, "")],
    ids=["listens", "listens, packed", "connects"])
def test_tcp_survives(switch, guests, server, device):
    """A TCP connection between two guests, and a ping, outlive three
    restarts, one of them after a crash that leaves the sockets behind."""
    paths = [switch.add_port(name, server=not server)
             for name in ("vm0", "vm1")]
    machines = [guests(), guests()]
    for machine, path in zip(machines, paths):
        machine.start([Nic(path, server=server, device=device)], wait=False)
    for number, machine in enumerate(machines):
        machine.wait_ready()
        machine.configure(f"10.0.0.{number + 1}/24")
    machines[0].wait_ping("10.0.0.2")

    # The sender writes a line each 50 ms for as long as its file exists.  (If
    # the receiver had nothing to send, the sender would hang up.)
    machines[1].run("sleep 1000 | nc -l -p 5000 > /tmp/got 2> /dev/null &")
    machines[0].run("touch /tmp/go; (n=0; while [ -e /tmp/go ]; do "
                    "n=$((n + 1)); echo line $n; usleep 50000; done; "
                    "echo end $n) | nc 10.0.0.2 5000 > /dev/null 2>&1 &")
    machines[0].run("ping -i 0.1 10.0.0.2 > /tmp/ping 2>&1 &")

    def count():
        return int(machines[1].run("wc -l < /tmp/got"))
    for stop in (switch.stop_daemon, switch.kill_daemon, switch.kill_daemon):
        before = count()
        wait_for(lambda n=before: count() > n + 5, 30, "lines")
        stop()
        if not server and stop == switch.kill_daemon:
            assert all(os.path.exists(path) for path in paths)
        switch.start_daemon()
        for name in ("vm0", "vm1"):
            switch.wait_link(name)
    before = count()
    wait_for(lambda: count() > before + 5, 60, "lines again")
    machines[0].run("rm /tmp/go; killall -INT ping")
    wait_for(lambda: "end" in machines[1].run("tail -n 1 /tmp/got"), 60, "end")
    lines = machines[1].run("cat /tmp/got").splitlines()
    total = int(lines.pop().split()[1])
    assert lines == [f"line {n + 1}" for n in range(total)]
    print("\n" + machines[0].run("tail -n 2 /tmp/ping"))
    print(f"ms from port to up {summary(reconnect_times(switch))}")


@pytest.mark.parametrize("packed", [0, 1])
def test_testpmd_stays(switch, testpmds, packed):
    """DPDK's virtio-user, which makes packed rings anew, outlives restarts
    under load."""
    pmds = []
    for name in ("vm0", "vm1"):
        pmd = testpmds(name, switch.add_port(name), packed_vq=packed)
        pmds.append(pmd.start())
    for name in ("vm0", "vm1"):
        switch.wait_link(name)
    pmds[1].forward("rxonly")
    pmds[0].forward("txonly")
    for how in ("exit", "kill", "kill"):
        seen = pmds[1].statistics()["RX-packets"]
        wait_for(lambda n=seen: pmds[1].statistics()["RX-packets"] > n + 100,
                 20, "traffic")
        if how == "exit":
            switch.stop_daemon()
        else:
            switch.kill_daemon()
        # It notices what happened when it looks at its link.
        for pmd in pmds:
            wait_for(lambda p=pmd: not p.link(), 10, "no link")
        switch.start_daemon()
        for pmd in pmds:
            wait_for(pmd.link, 20, "link")
    seen = pmds[1].statistics()["RX-packets"]
    wait_for(lambda: pmds[1].statistics()["RX-packets"] > seen + 100, 20,
             "traffic")
    print(f"\nms from port to up {summary(reconnect_times(switch))}")
