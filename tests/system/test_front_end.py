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
"""Ports in the front-end role, joined to back-end ports as by a cable."""

import itertools
import json
import struct
import time

import pytest
from backend import Backend
from flow import Flow
from frontend import (F_MQ, F_PROTOCOL_FEATURES, F_VERSION_1, GET_FEATURES,
                      NET_SET_MTU, PF_MQ, SET_MEM_TABLE, Frontend, bits,
                      frame)
from switch import Switch, SwitchError, wait_for

pytestmark = pytest.mark.ours

SIZES = (14, 15, 59, 60, 64, 65, 127, 128, 1000, 1500, 1514)


def cable(front, back, server=True, bridge="br0", **options):
    """Joins port "fe0" of switch 'front', with these options, and port "be0"
    on 'bridge' of switch 'back'; 'server' tells whether "fe0" listens."""
    path = front.path("cable.sock")
    ports = [("fe0", front, "br0", server, dict(options, role="front-end")),
             ("be0", back, bridge, not server, {})]
    for name, switch, where, listens, more in ports:
        switch.add_port(name, server=listens, path=path, bridge=where, **more)
    for name, switch, *_ in ports:
        switch.wait_link(name)


def guest(switch, name, bridge="br0", **kwargs):
    """A front-end in this process, connected to a port of its own."""
    frontend = Frontend(switch.path(f"{name}.sock"), **kwargs)
    switch.add_port(name, path=frontend.path, bridge=bridge)
    frontend.name = name
    frontend.connect().start()
    switch.wait_link(name)
    return frontend


@pytest.fixture(name="guests2")
def fixture_guests2(switch):
    """Guests a and b, on br0 and on another bridge br1 of the same switch."""
    switch.add_bridge("br1")
    with guest(switch, "vma", size=256) as a, \
            guest(switch, "vmb", "br1", size=256) as b:
        yield a, b


def exchange(first, second, sizes=SIZES):
    """Packets of these sizes both ways, which arrive unharmed and in order.

    The first one makes the switches learn."""
    second.transmit(frame(2, 1))
    assert first.receive(1, accept=lambda p: p == frame(2, 1))
    for source, target, macs in ((first, second, (1, 2)),
                                 (second, first, (2, 1))):
        packets = [frame(*macs, size=size, payload=bytes([size & 0xff]) * 20)
                   for size in sizes]
        source.transmit(*packets)
        got = target.receive(len(packets), accept=lambda p, want=packets:
                             p in want)
        assert got == packets


def udp(source, destination, port):
    """A UDP packet from this port."""
    ip = struct.pack(">BBHHHBBHII", 0x45, 0, 46, 0, 0, 64, 17, 0, source,
                     destination)
    return frame(source, destination, ethertype=0x800,
                 payload=ip + struct.pack(">HHHH", port, 9, 26, 0))


# Two bridges of one switch.

@pytest.mark.parametrize("server", [True, False], ids=["listens", "connects"])
@pytest.mark.parametrize("options", [
    {}, {"packed": "true"}, {"mergeable": "false"}, {"queue_size": 64},
    {"packed": "true", "queue_size": 77, "mergeable": "false"}],
    ids=["split", "packed", "plain", "small", "packed plain small"])
def test_cable(switch, guests2, server, options):
    """Packets of all sizes pass in both directions, more than once around
    the ring."""
    cable(switch, switch, server, "br1", **options)
    for _ in range(40):
        exchange(*guests2)
    stats = {name: switch.statistics(name, bridge)
             for name, bridge in (("fe0", "br0"), ("be0", "br1"))}
    for name, other in (("fe0", "be0"), ("be0", "fe0")):
        assert stats[name]["rx_packets"] == stats[other]["tx_packets"]
        assert stats[name]["rx_bytes"] == stats[other]["tx_bytes"]
        assert stats[name]["tx_dropped"] == 0
        assert stats[name]["rx_errors"] == 0
    assert stats["fe0"]["rx_packets"] >= 40 * (len(SIZES) + 1)


def test_order_and_loss(switch, guests2):
    """A steady flow loses nothing."""
    cable(switch, switch, True, "br1")
    flow = Flow(*guests2)
    flow.start()
    time.sleep(3)
    flow.check()


@pytest.mark.switch(pmd_mask="0x3")
@pytest.mark.parametrize("options", [{}, {"packed": "true"}],
                         ids=["split", "packed"])
def test_queues(switch, guests2, options):
    """Four queue pairs, all of which carry packets, and two PMD threads."""
    cable(switch, switch, True, "br1", n_rxq=4, **options)
    for name in ("fe0", "be0"):
        wait_for(lambda name=name: switch.rxqs().get(name) ==
                 {queue: True for queue in range(4)}, what=f"rxqs of {name}")
        switch.set_interface(name, "other_config:tx-steering=hash")
    exchange(*guests2)

    def spread():
        for port in range(32):
            guests2[0].transmit(udp(1, 2, port))
            guests2[1].transmit(udp(2, 1, port))
        for one in guests2:
            one.take_received()
        stats = [switch.statistics("fe0"), switch.statistics("be0", "br1")]
        return all(port[f"rx_q{queue}_good_packets"]
                   for port in stats for queue in range(4))
    wait_for(spread, 20, "packets in all queues")


def test_jumbo(switch):
    """Packets of 9000 bytes and more, with either kind of buffers."""
    switch.add_bridge("br1")
    with guest(switch, "vma", buffer_size=10240) as a, \
            guest(switch, "vmb", "br1", buffer_size=10240) as b:
        cable(switch, switch, True, "br1", mtu=9000)
        for name in ("vma", "vmb", "be0"):
            switch.set_interface(name, "mtu_request=9000")
            wait_for(lambda name=name: switch.get(name, "mtu") == 9000)
        switch.wait_status("be0", "mtu", "9000")
        for mergeable in ("true", "false"):
            switch.set_interface("fe0", f"options:mergeable={mergeable}")
            for name in ("fe0", "be0"):
                wait_for(lambda name=name: switch.link(name)
                         and mergeable == ("true" if int(
                             switch.status(name)["features"], 16) >> 15 & 1
                             else "false"), what="new features")
            exchange(a, b, [60, 1514, 2036, 2037, 4000, 8999, 9014])
        # Longer ones are dropped where they are sent.
        a.transmit(frame(1, 2, 9019))
        wait_for(lambda: switch.statistics("fe0")[
            "ovs_tx_mtu_exceeded_drops"] == 1, what="a drop")


def test_reconnect(switch, guests2):
    """Either side closes the connection; packets flow again soon."""
    cable(switch, switch, True, "br1")
    for name in ("fe0", "be0") * 3:
        exchange(*guests2)
        switch.appctl("vhostuser/disconnect", name)

        def again(name=name):
            text = switch.appctl("vhostuser/show", name)
            return "state              connected" in text
        wait_for(again, what="connected again")
        for other in ("fe0", "be0"):
            switch.wait_link(other)
    exchange(*guests2)


def test_loaded_reconnect(switch, guests2):
    """Traffic goes on while the connection is lost, again and again."""
    cable(switch, switch, True, "br1", packed="true")
    flow = Flow(*guests2)
    flow.start()
    for name in itertools.islice(itertools.cycle(("fe0", "be0")), 10):
        before = flow.received
        switch.appctl("vhostuser/disconnect", name)
        wait_for(lambda before=before: flow.received > before + 100,
                 what="traffic")
    flow.stop()
    assert flow.error is None


def test_role_changes(switch, guests2):
    """Both ends change their roles under traffic, and nothing leaks."""
    cable(switch, switch, True, "br1")
    switch.wait_link("fe0")
    flow = Flow(*guests2)
    flow.start()

    def swap(fe_role, be_role):
        before = flow.received
        switch.vsctl("set", "Interface", "fe0", f"options:role={fe_role}",
                     "--", "set", "Interface", "be0",
                     f"options:role={be_role}")
        wait_for(lambda: flow.received > before + 50, 20, "traffic")

    resources = []
    for _ in range(5):
        swap("back-end", "front-end")
        swap("front-end", "back-end")
        switch.wait_link("fe0")
        resources.append(switch.resources())
    flow.stop()
    assert flow.error is None
    for kind, number in resources[-1].items():
        assert number <= resources[0].get(kind, 0) + 2, kind


def test_policing(switch, guests2):
    """Ingress policing and QoS apply."""
    cable(switch, switch, True, "br1")
    exchange(*guests2)
    switch.set_interface("fe0", "ingress_policing_rate=8",
                         "ingress_policing_burst=8")
    for _ in range(20):
        guests2[1].transmit(*[frame(2, 1, 1000)] * 10)
    wait_for(lambda: switch.statistics("fe0")["rx_dropped"] > 100,
             what="drops")
    switch.set_interface("fe0", "ingress_policing_rate=0",
                         "ingress_policing_burst=0")
    switch.vsctl("--", "--id=@q", "create", "QoS", "type=egress-policer",
                 "other_config:cir=1000", "other_config:cbs=2000", "--",
                 "set", "Port", "fe0", "qos=@q")

    def policed():
        guests2[0].transmit(*[frame(1, 2, 1000)] * 10)
        return switch.statistics("fe0")["ovs_tx_qos_drops"] > 10
    wait_for(policed, what="drops")


def test_announce(switch, guests2):
    """SEND_RARP through the cable: the guest behind it sees the packet."""
    cable(switch, switch, True, "br1")
    switch.appctl("vhostuser/announce", "fe0", "02:00:00:00:00:05")
    got = guests2[1].receive(1, accept=lambda p: p[12:14] == b"\x80\x35")
    assert got[0][6:12] == bytes.fromhex("020000000005")
    with pytest.raises(SwitchError, match="which address is unknown"):
        switch.appctl("vhostuser/announce", "fe0")


def test_show(switch, guests2):
    """vhostuser/show is JSON as well, for both ends."""
    cable(switch, switch, True, "br1", packed="true")
    exchange(*guests2)
    ports = {port["name"]: port for port in json.loads(
        switch.appctl("vhostuser/show", "--json"))}
    assert ports["fe0"]["role"] == "front-end"
    assert ports["be0"]["role"] == "back-end"
    mine, theirs = (ports[name]["vrings"] for name in ("fe0", "be0"))
    for vring, other in zip(mine, theirs):
        assert vring["format"] == other["format"] == "packed"
        assert vring["packets"] == other["packets"]
        assert vring["size"] == other["size"] == 512


# Two switches.

def reflect(switch, port):
    """Has the switch send back what comes from 'port'."""
    switch.ofctl("del-flows")
    switch.ofctl("add-flow", f"in_port={port},actions=IN_PORT")


@pytest.mark.parametrize("server", [True, False], ids=["listens", "connects"])
@pytest.mark.parametrize("packed", ["false", "true"], ids=["split", "packed"])
@pytest.mark.parametrize("dies", ["back-end", "front-end"])
def test_two_switches(switch, server, packed, dies):
    """R-10: one of two switches dies, or exits, and comes back, under load."""
    with Switch() as other, guest(switch, "vma", size=256) as a, \
            guest(switch, "vmb", size=256) as b:
        # The guests are on the switch that survives; the other one reflects.
        if dies == "back-end":
            near, far = "fe0", "be0"
            cable(switch, other, server, packed=packed)
        else:
            near, far = "be0", "fe0"
            cable(other, switch, server, packed=packed)
        flow = Flow(a, b)
        switch.ofctl("del-flows")
        switch.ofctl("add-flow", f"in_port=vma,actions={near}")
        switch.ofctl("add-flow", f"in_port={near},actions=vmb")
        reflect(other, far)
        flow.start()
        for how in ("kill", "exit", "kill"):
            wait_for(lambda n=flow.received: flow.received > n + 100, 20,
                     "traffic")
            if how == "kill":
                other.kill_daemon()
            else:
                other.stop_daemon()
            switch.wait_link(near, up=False)
            other.start_daemon()
            wait_for(lambda: other.try_command(
                "ovs-ofctl", "show", other.path("br0.mgmt")), what="br0")
            reflect(other, far)
            switch.wait_link(near)
            other.wait_link(far)
        wait_for(lambda n=flow.received: flow.received > n + 100, 20,
                 "traffic")
        flow.stop()
        assert flow.error is None
        switch.check_alive()


# Back-ends that are not ours.

def attach(switch, backend, **options):
    """Adds "fe0", which connects to 'backend'."""
    switch.add_port("fe0", path=backend.path, role="front-end", **options)


def test_fewer_queues(switch):
    """The back-end has two queue pairs, the port wants four."""
    with Backend(switch.path("b.sock"), pairs=2,
                 features=bits(F_MQ, F_PROTOCOL_FEATURES,
                               F_VERSION_1)) as backend:
        attach(switch, backend, n_rxq=3, n_txq=4)
        switch.wait_link("fe0")
        assert switch.wait_status("fe0", "queues", "2 of 4") \
            == "2 of 4: the back-end has no more queue pairs"
        wait_for(lambda: switch.rxqs().get("fe0") == {0: True, 1: True},
                 what="2 rxqs")


def test_lacks_packed(switch):
    """What the operator asks for and the back-end lacks is a reason."""
    with Backend(switch.path("b.sock")) as backend:
        attach(switch, backend, packed="true")
        switch.wait_status("fe0", "reason", "RING_PACKED")
        assert not switch.link("fe0")
        switch.set_interface("fe0", "options:packed=false")
        switch.wait_link("fe0")
        wait_for(lambda: "reason" not in switch.status("fe0"))


def test_mtu_refused(switch):
    """A back-end that refuses our MTU works, and status says so."""
    with Backend(switch.path("b.sock"), refuse=[NET_SET_MTU]) as backend:
        attach(switch, backend, mtu=9000)
        switch.wait_link("fe0")
        switch.wait_status("fe0", "mtu_error", "9000.*refused")
        assert "mtu" not in switch.status("fe0")
        backend.refuse.clear()
        switch.set_interface("fe0", "mtu_request=8000")
        switch.wait_status("fe0", "mtu", "8000")
        wait_for(lambda: "mtu_error" not in switch.status("fe0"))


def test_mtu_unknown(switch):
    """So does one that knows no MTU."""
    with Backend(switch.path("b.sock"),
                 features=bits(F_PROTOCOL_FEATURES, F_VERSION_1)) as backend:
        attach(switch, backend)
        switch.wait_link("fe0")
        assert "mtu_error" not in switch.status("fe0")
        switch.set_interface("fe0", "mtu_request=2000")
        switch.wait_status("fe0", "mtu_error", "2000.*no MTU")
        assert switch.link("fe0")
        assert NET_SET_MTU not in [r for r, _ in backend.requests]


def test_no_rarp(switch):
    """A back-end without SEND_RARP."""
    with Backend(switch.path("b.sock"),
                 protocol_features=bits(PF_MQ)) as backend:
        attach(switch, backend)
        switch.wait_link("fe0")
        with pytest.raises(SwitchError, match="no VHOST_USER_PROTOCOL_F_RARP"):
            switch.appctl("vhostuser/announce", "fe0", "02:00:00:00:00:05")


@pytest.mark.parametrize("trick, reason", [
    ({"silent": [GET_FEATURES]}, "waiting for the back-end to answer|GET_FEA"),
    ({"refuse": [SET_MEM_TABLE]}, "refused SET_MEM_TABLE"),
    ({"features": 1 << 30}, "VERSION_1"),
    ({"replies": {GET_FEATURES: b"\xff" * 4096}}, "protocol error"),
    ({"replies": {GET_FEATURES: b""}}, "waiting for the back-end to answer"),
    ({"pairs": 0}, "queue"),
], ids=["silent", "refuses", "legacy", "garbage", "nothing", "no queues"])
def test_bad_backend(switch, neighbours, trick, reason):
    """It keeps its port down, with a reason, and nothing else."""
    with Backend(switch.path("b.sock"), **trick) as backend:
        attach(switch, backend)
        switch.wait_status("fe0", "reason", reason)
        time.sleep(1)
        assert not switch.link("fe0")
    neighbours.check()


def test_hostile_ring(switch, neighbours):
    """Impossible indices in all rings, again and again."""
    with Backend(switch.path("b.sock")) as backend:
        attach(switch, backend)
        for number in range(3):
            switch.wait_link("fe0")
            before = backend.connections
            for index in (0, 1):
                backend.put_used_index(index, 40000 + number)
            wait_for(lambda before=before: backend.connections > before, 20,
                     "a new connection")
        switch.wait_link("fe0")
    neighbours.check()
