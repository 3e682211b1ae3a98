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
"""QoS and policing, which behave as on dpdkvhostuserclient."""

import pytest
from frontend import frame
from switch import wait_for
from test_ports import exchange

SIZE = 1000                     # Bytes of a packet.
BURST = 100                     # Packets sent at once.


def send(first, second):
    """Sends a burst; returns how many packets came through."""
    first.transmit(*[frame(1, 2, SIZE)] * BURST)
    first.flush()
    return len(second.receive(BURST, timeout=0.5,
                              accept=lambda p: len(p) == SIZE))


@pytest.fixture(name="ports")
def fixture_ports(frontends):
    """Two ports that have learned of each other."""
    first, second = (frontends(name, size=256) for name in ("vm0", "vm1"))
    exchange(first, second)
    assert send(first, second) == BURST
    return first, second


def set_qos(switch, name, kind, **config):
    """Sets a port's QoS."""
    switch.vsctl("set", "Port", name, "qos=@q", "--", "--id=@q", "create",
                 "QoS", f"type={kind}",
                 *[f"other-config:{key}={value}"
                   for key, value in config.items()])


def drops(switch, name, key):
    """A counter of drops."""
    return switch.statistics(name)[key]


def test_egress_policer(switch, ports):
    """A burst larger than cbs loses its end, and the rest is counted."""
    set_qos(switch, "vm1", "egress-policer", cir=1000, cbs=20 * SIZE)
    wait_for(lambda: "egress-policer" in switch.appctl("qos/show", "vm1"),
             what="QoS in force")
    got = send(*ports)
    assert 18 <= got <= 23
    wait_for(lambda: drops(switch, "vm1", "ovs_tx_qos_drops") == BURST - got,
             what="drops counted")
    text = switch.appctl("qos/show", "vm1")
    assert "cir: 1000" in text and f"cbs: {20 * SIZE}" in text

    switch.vsctl("clear", "Port", "vm1", "qos")
    wait_for(lambda: "egress-policer" not in switch.appctl("qos/show", "vm1"),
             what="QoS gone")
    assert send(*ports) == BURST


@pytest.mark.parametrize("config", [{}, {"cir": 1000}, {"cbs": 2048}])
def test_egress_policer_incomplete(switch, ports, config):
    """Without cir or cbs there is no policer, and traffic flows."""
    set_qos(switch, "vm1", "egress-policer", **config)
    wait_for(lambda: "Failed to set QoS type egress-policer on port vm1"
             in switch.log(), what="a complaint")
    assert send(*ports) == BURST


def test_trtcm_policer(switch, ports):
    """The two rates together limit a burst."""
    set_qos(switch, "vm1", "trtcm-policer", cir=1000, cbs=10 * SIZE,
            eir=1000, ebs=20 * SIZE)
    wait_for(lambda: "trtcm-policer" in switch.appctl("qos/show", "vm1"),
             what="QoS in force")
    got = send(*ports)
    assert 28 <= got <= 33
    wait_for(lambda: drops(switch, "vm1", "ovs_tx_qos_drops") == BURST - got,
             what="drops counted")


def test_trtcm_queues(switch, ports):
    """A queue has rates of its own."""
    switch.vsctl(
        "set", "Port", "vm1", "qos=@q",
        "--", "--id=@q", "create", "QoS", "type=trtcm-policer",
        "other-config:cir=52000000", "other-config:cbs=10000000",
        "other-config:eir=52000000", "other-config:ebs=10000000",
        "queues:7=@seven",
        "--", "--id=@seven", "create", "Queue", "other-config:cir=1000",
        f"other-config:cbs={10 * SIZE}", "other-config:eir=1000",
        f"other-config:ebs={5 * SIZE}")
    wait_for(lambda: "trtcm-policer" in switch.appctl("qos/show", "vm1"),
             what="QoS in force")
    assert send(*ports) == BURST
    switch.ofctl("add-flow", "in_port=vm0,actions=set_queue:7,normal")
    # Those that are cached do not have the queue.
    switch.appctl("revalidator/purge")
    got = send(*ports)
    assert 13 <= got <= 18
    text = switch.ofctl("queue-stats", "vm1", "7")
    assert "queue 7" in text


def test_ingress_policing(switch, ports):
    """What a guest sends beyond rate and burst is dropped and counted."""
    before = drops(switch, "vm0", "ovs_rx_qos_drops")
    # In kbit/s and kbit.
    switch.set_interface("vm0", "ingress_policing_rate=8",
                         "ingress_policing_burst=160")
    wait_for(lambda: send(*ports) < 30, what="policing in force")
    wait_for(lambda: drops(switch, "vm0", "ovs_rx_qos_drops") - before
             >= BURST - 30, what="drops counted")
    switch.set_interface("vm0", "ingress_policing_rate=0",
                         "ingress_policing_burst=0")
    wait_for(lambda: send(*ports) == BURST, what="no policing any more")


def test_ingress_policing_burst_only(switch, ports):
    """Without a rate there is no policing."""
    switch.set_interface("vm0", "ingress_policing_burst=8")
    assert send(*ports) == BURST
