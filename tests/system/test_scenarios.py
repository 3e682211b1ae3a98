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
"""What Open vSwitch tests its own vhost-user ports for, on ours.

One function for each test of tests/system-dpdk.at that has such a port, with
the name that it has there.  Where those wait for a line of DPDK's log, these
look at the status of the port."""

import pytest
from numbered import complaints
from outside import Namespace
from switch import wait_for

ADDRESSES = ("172.31.110.11", "172.31.110.12")
VPORT = "dpdkvhostuserclient0"


class Tap:
    """A testpmd that joins a vhost-user port to a tap, both in a network
    namespace of their own."""

    def __init__(self, testpmds, path, queues=1, **kwargs):
        self.pmd = testpmds(
            "tap", path, queues=queues, cores=queues,
            eal=["--vdev=net_tap0,iface=tap0"],
            wrapper=["unshare", "--net", "--"], **kwargs)
        self.pmd.start("--auto-start")
        self.namespace = Namespace(self.pmd.process.pid)
        self.namespace.run("ip", "link", "set", "tap0", "up")
        self.namespace.run("ip", "address", "add", ADDRESSES[0] + "/24",
                           "dev", "tap0")

    def ping(self, switch, count):
        """Pings br0, the device of the switch; each ping is answered."""
        outside = Namespace(switch.daemon.pid)
        outside.run("ip", "link", "set", "br0", "up")
        outside.run("ip", "address", "add", ADDRESSES[1] + "/24", "dev",
                    "br0")
        text = self.namespace.run("busybox", "ping", "-c", str(count),
                                  ADDRESSES[1])
        assert f"{count} packets received, 0% packet loss" in text

    def quit(self):
        """Ends it."""
        self.pmd.quit()


@pytest.fixture(name="vport")
def fixture_vport(switch, testpmds):
    """A client port with a guest: dpdkvhostuserclient0."""
    path = switch.add_port(VPORT)
    testpmds("vport", path).start()
    switch.wait_link(VPORT)
    return VPORT


def stop(switch, *allowed):
    """The switch ends in good order, and had nothing to complain about but
    what is 'allowed'."""
    assert switch.stop_daemon() == 0
    assert not complaints(switch, 0, "|".join(allowed) or None)


def test_add_vhost_user_client_port(switch):
    """add vhost-user-client port"""
    path = switch.add_port(VPORT)
    assert not switch.get(VPORT, "error")
    status = switch.status(VPORT)
    assert status["mode"] == "client" and status["socket"] == path
    assert path in switch.wait_status(VPORT, "reason", "no such file")
    assert "pool" not in switch.appctl("vhostuser/show", VPORT)
    switch.del_port(VPORT)
    stop(switch)


def test_ping_vhost_user_ports(switch, testpmds):
    """ping vhost-user ports"""
    path = switch.add_port("dpdkvhostuser0", server=True)
    tap = Tap(testpmds, path, server=False)
    switch.wait_link("dpdkvhostuser0")
    tap.ping(switch, 4)
    tap.quit()
    switch.wait_link("dpdkvhostuser0", up=False)
    switch.wait_status("dpdkvhostuser0", "status", "^disconnected$")
    switch.del_port("dpdkvhostuser0")
    stop(switch)


@pytest.mark.switch(other_config=["stats-update-interval=1000"])
def test_ping_vhost_user_client_ports(switch, testpmds):
    """ping vhost-user-client ports"""
    tap = Tap(testpmds, switch.add_port(VPORT), queues=2)
    switch.wait_link(VPORT)
    tap.ping(switch, 10)
    tap.namespace.run("ip", "link", "set", "tap0", "down")

    # In the database, where they are updated from time to time.
    def sums_agree():
        found = switch.get(VPORT, "statistics")
        return all(
            found.get(f"{way}_{what}", 0) > 0
            and found[f"{way}_{what}"]
            == sum(found.get(f"{way}_q{queue}_good_{what}", 0)
                   for queue in range(2))
            for way in ("rx", "tx") for what in ("packets", "bytes"))
    wait_for(sums_agree, 10, "statistics that agree")
    assert switch.get(VPORT, "statistics")["rx_packets"] >= 10
    tap.quit()
    switch.del_port(VPORT)
    stop(switch)


def policing(switch):
    """Rate and burst in the database."""
    return [switch.get(VPORT, f"ingress_policing_{what}")
            for what in ("rate", "burst")]


def test_ingress_policing_create_delete_vport_port(switch, vport):
    """Ingress policing create delete vport port"""
    for rate, burst in ((10000, 1000), (0, 0)):
        switch.set_interface(vport, f"ingress_policing_rate={rate}",
                             f"ingress_policing_burst={burst}")
        assert policing(switch) == [rate, burst]
    switch.del_port(vport)
    assert "Could not create rte meter" not in switch.log()
    stop(switch)


@pytest.mark.parametrize("what, found", [("burst", [0, 1000]),
                                         ("rate", [10000, 0])])
def test_ingress_policing_incomplete(switch, vport, what, found):
    """Ingress policing no policing rate, no policing burst"""
    switch.set_interface(vport, f"ingress_policing_{what}={max(found)}")
    assert policing(switch) == found
    switch.del_port(vport)
    stop(switch)


def set_qos(switch, *config):
    """Makes the vport's QoS an egress policer."""
    switch.vsctl("set", "Port", VPORT, "qos=@q", "--", "--id=@q", "create",
                 "QoS", "type=egress-policer", *config)


def test_qos_create_delete_vport_port(switch, vport):
    """QoS create delete vport port"""
    set_qos(switch, "other-config:cir=1250000", "other-config:cbs=2048")
    text = switch.appctl("qos/show", vport)
    assert "egress-policer" in text
    assert "cir: 1250000" in text and "cbs: 2048" in text
    switch.vsctl("destroy", "QoS", vport, "--", "clear", "Port", vport, "qos")
    wait_for(lambda: f"QoS not configured on {vport}"
             in switch.appctl("qos/show", vport), what="QoS gone")
    switch.del_port(vport)
    stop(switch)


@pytest.mark.parametrize("config", ["other-config:cbs=2048",
                                    "other-config:cir=1250000"])
def test_qos_incomplete(switch, vport, config):
    """QoS no cir, QoS no cbs"""
    set_qos(switch, config)
    wait_for(lambda: f"Failed to set QoS type egress-policer on port {vport}: "
             "Invalid argument" in switch.log(), what="a complaint")
    assert f"QoS not configured on {vport}" in switch.appctl("qos/show", vport)
    switch.del_port(vport)
    stop(switch, "egress-policer")


def set_mtu(switch, mtu):
    """Changes the MTU."""
    switch.set_interface(VPORT, f"mtu_request={mtu}")
    wait_for(lambda: switch.get(VPORT, "mtu") == mtu, what=f"MTU {mtu}")


@pytest.mark.parametrize("mtus", [(1500, 9000), (9000, 2000)],
                         ids=["increase", "decrease"])
def test_mtu_vport_port(switch, vport, mtus):
    """MTU increase vport port, MTU decrease vport port"""
    for mtu in mtus:
        set_mtu(switch, mtu)
        assert switch.link(vport)
    switch.del_port(vport)
    stop(switch)


@pytest.mark.parametrize("good, bad", [(65389, 65390), (68, 67)],
                         ids=["upper", "lower"])
def test_mtu_bound_vport_port(switch, vport, good, bad):
    """MTU upper bound vport port, MTU lower bound vport port

    The upper bound of DPDK's ports is 9702."""
    if good > 9702:
        set_mtu(switch, 9702)
    set_mtu(switch, good)
    switch.set_interface(vport, f"mtu_request={bad}")
    wait_for(lambda: f"unsupported MTU {bad}" in switch.log(),
             what="a complaint")
    assert switch.get(vport, "mtu") == good
    assert switch.link(vport)
    switch.del_port(vport)
    stop(switch, f"unsupported MTU {bad}")
