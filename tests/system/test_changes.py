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
"""What changes under traffic loses only what the change implies.

Two ports exchange numbered packets all the time.  Where a change implies
nothing, or no more than that Open vSwitch reconfigures its datapath, as it
does for any type of port, only what that counts as dropped may be missing.
Where it implies a new connection, only what the port counts as dropped because
nobody was there, and what was in rings that are given up with it.  In either
case all is well again afterwards.
"""

import json
import re

import pytest
from numbered import LONG, OURS, Numbered, complaints, datapath_drops
from switch import Switch, wait_for

pytestmark = pytest.mark.ours

RING = 1024                     # Packets that a ring holds.


class Traffic:
    """Numbered packets that pass 'ports', on the bridges that are the values
    there."""

    def __init__(self, switch, flow, ports):
        self.switch = switch
        self.flow = flow
        self.ports = ports

    def state(self):
        """How many packets are missing, how many of them Open vSwitch has
        dropped, and how many our ports; once packets flow."""
        return (self.flow.missing(), datapath_drops(self.switch),
                sum(self.switch.statistics(name, bridge)["tx_dropped"]
                    for name, bridge in self.ports.items()))

    def change(self, *changes, allowed=None):
        """Makes changes under traffic.  Returns what is missing and dropped,
        as in state(), and the new lines of the log that are ours."""
        before = self.state()
        begin = len(self.switch.log())
        for do in changes:
            do(self.switch)
        after = self.state()
        assert not complaints(self.switch, begin, allowed)
        lines = [line for line in self.switch.log()[begin:].splitlines()
                 if re.search(OURS, line)]
        return [new - old for new, old in zip(after, before)] + [lines]


@pytest.fixture(scope="module", name="everything")
def fixture_everything():
    """Two ports of a switch with two PMD threads, for all tests."""
    with Switch(pmd_mask="0x3") as switch, Numbered(switch) as flow:
        yield Traffic(switch, flow, {"left": "br0", "right": "br0"})
        counts = flow.stop()
        assert not counts["reordered"] and not counts["duplicates"]
        assert not counts["pending"] and not counts["stale"]


@pytest.fixture(name="traffic")
def fixture_traffic(everything):
    """The same, still alive."""
    everything.switch.check_alive()
    everything.flow.check_alive()
    return everything


# The changes, as what is to be told ovs-vsctl, or another program.

def interface(*columns):
    """Sets columns of the Interface "right"."""
    return lambda switch: switch.set_interface("right", *columns)


def remove(column, *keys):
    """Removes keys from a column of the Interface "right"."""
    return lambda switch: switch.vsctl("remove", "Interface", "right",
                                       column, *keys)


def vsctl(*args):
    """Any command of ovs-vsctl."""
    return lambda switch: switch.vsctl(*args)


def appctl(*args):
    """Any command of ovs-appctl."""
    return lambda switch: switch.appctl(*args)


def other_config(key, value):
    """Sets a key of the table Open_vSwitch."""
    return vsctl("set", "Open_vSwitch", ".",
                 f"other_config:{key}={json.dumps(value)}")


POLICER = ("--", "--id=@q", "create", "QoS", "type=egress-policer",
           "other_config:cir=460000000", "other_config:cbs=20480000")

NOTHING = {
    "tx-retries-max": [interface("options:tx-retries-max=3"),
                       remove("options", "tx-retries-max")],
    "ignored": [interface("options:n_rxq=3", "options:n_rxq_desc=512"),
                remove("options", "n_rxq", "n_rxq_desc")],
    "refused": [interface("options:nonsense=1"),
                remove("options", "nonsense")],
    "refused value": [interface("options:role=middle"),
                      remove("options", "role")],
    "ingress_policing": [
        interface("ingress_policing_rate=1000000",
                  "ingress_policing_burst=100000"),
        interface("ingress_policing_rate=0", "ingress_policing_burst=0")],
    "qos": [vsctl("set", "Port", "right", "qos=@q", *POLICER),
            vsctl("clear", "Port", "right", "qos", "--", "--all", "destroy",
                  "QoS")],
    "mac": [interface('mac="02:00:00:00:00:77"'), interface("mac=[]")],
    "external_ids": [interface("external_ids:vm-id=1"),
                     remove("external_ids", "vm-id")],
    "mod-port": [lambda switch: switch.ofctl("mod-port", "right", "no-flood"),
                 lambda switch: switch.ofctl("mod-port", "right", "flood")],
}

# What makes Open vSwitch reconfigure its datapath, with "internal port" and
# "bridge", which do not concern us at all, for comparison.
PAUSE = {
    "mtu_request": [interface("mtu_request=2000"),
                    interface("mtu_request=1500")],
    "pmd-rxq-affinity": [interface('other_config:pmd-rxq-affinity="0:0"'),
                         remove("other_config", "pmd-rxq-affinity")],
    "pmd-cpu-mask": [other_config("pmd-cpu-mask", "0x1"),
                     other_config("pmd-cpu-mask", "0x2"),
                     other_config("pmd-cpu-mask", "0x3")],
    "pmd-rxq-assign": [other_config("pmd-rxq-assign", "roundrobin"),
                       other_config("pmd-rxq-assign", "cycles")],
    "rebalance": [appctl("dpif-netdev/pmd-rxq-rebalance")] * 3,
    "port": [lambda switch: switch.add_port("x"),
             lambda switch: switch.del_port("x")] * 2,
    "internal port": [vsctl("add-port", "br0", "i", "--", "set", "Interface",
                            "i", "type=internal"),
                      vsctl("del-port", "br0", "i")] * 2,
    "bridge": [lambda switch: switch.add_bridge("br7"),
               vsctl("del-br", "br7")],
}


def reasons(lines, port="right"):
    """Why connections of a port were closed, from lines of the log."""
    return [match[1] for line in lines for match in
            [re.search(rf"\|INFO\|{port}: disconnected from [^:]+: (.*)",
                       line)] if match]


def stopped(lines):
    """The lines that say that a connection ended or a vring stopped."""
    return [line for line in lines
            if re.search("disconnect|stopped|link down", line)]


def pieces(changes, apart=False):
    """Each change by itself, or all of them one after the other."""
    return [[do] for do in changes * (3 if LONG else 1)] \
        if LONG or apart else [changes]


# These replace PMD threads, which take with them what they have counted as
# dropped in the last second.
NEW_THREADS = ["pmd-cpu-mask"]


def groups(changes):
    """The names of 'changes', each by itself, or most of them together."""
    if LONG:
        return [[name] for name in changes]
    return [[name for name in changes if name not in NEW_THREADS],
            [name for name in changes if name in NEW_THREADS]]


@pytest.mark.parametrize("names", filter(None, groups(NOTHING)),
                         ids=" ".join)
def test_nothing_implied(traffic, names):
    """These options are taken over and no packet notices."""
    for changes in pieces([do for name in names for do in NOTHING[name]]):
        missing, datapath, dropped, lines = traffic.change(
            *changes, allowed="new options have no effect")
        assert (missing, datapath, dropped) == (0, 0, 0)
        assert not stopped(lines)


@pytest.mark.parametrize("names", groups(PAUSE), ids=" ".join)
def test_only_a_pause(traffic, names):
    """The datapath is reconfigured, and the connection stays.

    Packets wait in the rings; what is lost is what Open vSwitch drops on the
    way to a port that its PMD threads do not know at that moment."""
    text = ""
    for changes in pieces([do for name in names for do in PAUSE[name]],
                          names == NEW_THREADS):
        missing, datapath, dropped, lines = traffic.change(*changes)
        assert missing == datapath and not dropped
        assert not stopped(lines)
        text += "".join(lines)
    assert ("|right: MTU set to 1500" in text) == ("mtu_request" in names)


def test_path_under_traffic(traffic):
    """A new path is a new connection, and the log says why."""
    path = traffic.switch.path("right.sock")
    for new in (traffic.switch.path("./right.sock"), path):
        missing, datapath, dropped, lines = traffic.change(
            interface(f"options:vhost-server-path={new}"))
        assert 0 <= missing - datapath - dropped <= RING
        assert reasons(lines) == ["options:vhost-server-path changed"]


def test_role_under_traffic(traffic):
    """Both ends cannot be the front-end; after that all is well again."""
    missing, datapath, dropped, lines = traffic.change(
        interface("options:role=front-end"),
        lambda switch: wait_for(lambda: not switch.link("right")),
        remove("options", "role"), allowed=".")
    assert 0 <= missing - datapath - dropped <= RING
    assert reasons(lines)[0] == "options:role changed"


def test_disconnect_under_traffic(traffic):
    """What an operator does with vhostuser/disconnect."""
    missing, datapath, dropped, lines = traffic.change(
        appctl("vhostuser/disconnect", "right"))
    assert 0 <= missing - datapath - dropped <= RING
    assert reasons(lines) == ["vhostuser/disconnect"]


def test_port_again_under_traffic(traffic):
    """A port that is removed is unknown to the switch, so that its counters
    do not tell what is lost; but it ends."""
    _, _, _, lines = traffic.change(
        lambda switch: switch.del_port("right"),
        lambda switch: switch.add_port("right", path=traffic.flow.paths[1]))
    assert reasons(lines) == ["port removed"]


def test_server_under_traffic():
    """Ports that listen: another owner or mode of the socket means nothing,
    another path a new connection."""
    with Switch() as switch, Numbered(switch, server=True) as flow:
        traffic = Traffic(switch, flow, {"left": "br0", "right": "br0"})
        missing, datapath, dropped, lines = traffic.change(
            interface("options:socket-mode=0640"),
            interface("options:socket-owner=root:"),
            remove("options", "socket-mode", "socket-owner"))
        assert (missing, datapath, dropped) == (0, 0, 0)
        assert not stopped(lines)
        missing, datapath, dropped, lines = traffic.change(
            interface(f"options:path={switch.path('other.sock')}"),
            lambda _: wait_for(lambda: not switch.link("right")),
            interface(f"options:path={flow.paths[1]}"))
        assert 0 <= missing - datapath - dropped <= RING
        assert reasons(lines) == ["options:path changed"]
        counts = flow.stop()
        assert not counts["reordered"] and not counts["duplicates"]


# The front-end role: a cable between two bridges.

DEVICE = {
    "n_rxq": "options:n_rxq=2",
    "packed": "options:packed=true",
    "queue-size": "options:queue-size=512",
    "mergeable": "options:mergeable=false",
}


def test_front_end_under_traffic():
    """Options that concern the virtqueues mean a new device, and what was in
    them is lost; others mean nothing, or a pause."""
    def on_cable(*columns):
        return lambda switch: switch.set_interface("cable", *columns)

    with Switch(pmd_mask="0x3") as switch:
        switch.add_bridge("br1")
        switch.add_port("end", server=True, path=switch.path("cable.sock"),
                        bridge="br1")
        switch.add_port("cable", path=switch.path("cable.sock"),
                        role="front-end")
        with Numbered(switch, bridge=("br0", "br1"), rate=2000) as flow:
            traffic = Traffic(switch, flow, {
                "left": "br0", "cable": "br0", "end": "br1", "right": "br1"})
            missing, datapath, dropped, lines = traffic.change(
                on_cable("options:tx-retries-max=1"),
                on_cable("mtu_request=1600"), on_cable("mtu_request=1500"))
            assert missing == datapath and not dropped
            assert not stopped(lines)
            for name, option in list(DEVICE.items())[:None if LONG else 2]:
                missing, datapath, dropped, lines = traffic.change(
                    on_cable(option))
                assert reasons(lines, "cable") == [f"options:{name} changed"]
                assert 0 <= missing - datapath - dropped <= 4 * RING
            missing, datapath, dropped, lines = traffic.change(
                on_cable("mtu_request=9000"))
            assert reasons(lines, "cable") == ["mtu_request changed"]
            assert 0 <= missing - datapath - dropped <= 4 * RING
