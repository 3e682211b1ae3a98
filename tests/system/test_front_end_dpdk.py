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
"""Ports in the front-end role with DPDK's vhost library as the back-end."""

import os
import time

import pytest
from frontend import Frontend, frame
from switch import wait_for
from testpmd import Testpmd

pytestmark = pytest.mark.ours

SIZES = (60, 64, 65, 127, 128, 1000, 1500, 1514)


class Backend(Testpmd):
    """A testpmd process with one net_vhost port."""

    __test__ = False

    def __init__(self, path, server=True, queues=1, **kwargs):
        super().__init__("backend", path, server=False, queues=queues,
                         eal=["--log-level=lib.vhost.*:error"], **kwargs)
        self.device = f"net_vhost0,iface={path},queues={queues}," \
            f"client={0 if server else 1}"
        self.listens = server

    def kill(self):
        super().kill()
        if self.listens and os.path.exists(self.path):
            os.unlink(self.path)


@pytest.fixture(name="backends")
def fixture_backends():
    """Makes back-ends: backends(path, **arguments of Backend)."""
    if not Backend.available():
        pytest.skip("no dpdk-testpmd")
    made = []

    def make(*args, **kwargs):
        made.append(Backend(*args, **kwargs))
        return made[-1]
    yield make
    for backend in made:
        backend.kill()


def join(switch, backends, server=True, queues=1, start=(), **options):
    """A port "fe0" and its back-end, which listens if 'server'."""
    path = switch.path("cable.sock")
    backend = backends(path, server=server, queues=queues)
    if server:
        backend.start(*start)
    switch.add_port("fe0", server=not server, path=path, role="front-end",
                    **options)
    if not server:
        wait_for(lambda: os.path.exists(path), what="the port listens")
        backend.start(*start)
    switch.wait_link("fe0")
    return backend


def echo(guest, sizes=SIZES, count=4):
    """The back-end swaps addresses of what the guest sends, in order, and
    sends it back unharmed."""
    for number in range(count):
        packets = [frame(2, 1, size, bytes([number, size & 0xff]) * 9)
                   for size in sizes]
        guest.transmit(*packets)
        want = [p[6:12] + p[:6] + p[12:] for p in packets]
        got = guest.receive(len(want), accept=lambda p, want=want: p in want)
        assert got == want


@pytest.mark.parametrize("server", [True, False], ids=["connects", "listens"])
@pytest.mark.parametrize("options", [
    {}, {"packed": "true"}, {"mergeable": "false"},
    {"packed": "true", "mergeable": "false"}],
    ids=["split", "packed", "split plain", "packed plain"])
def test_echo(switch, backends, frontends, server, options):
    """Packets of all sizes go there and come back."""
    backend = join(switch, backends, server, **options)
    features = int(switch.status("fe0")["features"], 16)
    assert bool(features >> 34 & 1) == ("packed" in options)
    assert bool(features >> 15 & 1) == ("mergeable" not in options)
    guest = frontends("vm0")
    backend.forward("macswap")
    echo(guest, count=100)
    stats = switch.statistics("fe0")
    assert stats["tx_packets"] >= 100 * len(SIZES)
    assert stats["rx_errors"] == stats["tx_dropped"] == 0


@pytest.mark.parametrize("options", [
    {}, {"packed": "true"}, {"mergeable": "false"}, {"queue_size": 64}],
    ids=["split", "packed", "plain", "small"])
def test_flood(switch, backends, options):
    """Of what the back-end sends as fast as it can, each packet that it
    counts arrives."""
    backend = join(switch, backends, **options)
    for size in (64, 1500):
        backend.command("stop", f"set txpkts {size}")
        backend.forward("txonly")
        time.sleep(1)
        backend.command("stop")
        sent = backend.statistics()["TX-packets"]
        assert sent > 1000
        wait_for(lambda sent=sent: switch.statistics("fe0")["rx_packets"]
                 == sent, what=f"{sent} packets")
    assert switch.statistics("fe0")["rx_errors"] == 0


@pytest.mark.parametrize("packed", ["false", "true"], ids=["split", "packed"])
def test_queues(switch, backends, packed):
    """Four queue pairs, all of which carry packets both ways."""
    backend = join(switch, backends, queues=4, n_rxq=4, packed=packed)
    wait_for(lambda: switch.rxqs().get("fe0") ==
             {queue: True for queue in range(4)}, what="4 rxqs")
    backend.forward("txonly")
    wait_for(lambda: all(
        switch.statistics("fe0")[f"rx_q{queue}_good_packets"] > 100
        for queue in range(4)), 20, "packets in all queues")
    backend.command("stop")
    assert backend.alive()


@pytest.mark.parametrize("mergeable", ["true", "false"])
def test_jumbo(switch, backends, mergeable):
    """Packets of up to 9000 bytes, there and back."""
    backend = join(switch, backends, mtu=9000, mergeable=mergeable,
                   start=["--max-pkt-len=9018", "--mbuf-size=10240"])
    with Frontend(switch.path("vm0.sock"), buffer_size=10240) as guest:
        switch.add_port("vm0", path=guest.path, mtu=9000)
        guest.connect().start()
        switch.wait_link("vm0")
        backend.forward("macswap")
        echo(guest, (60, 1514, 2036, 2037, 4000, 8999, 9014))
    assert switch.status("fe0")["mtu"] == "9000"


@pytest.mark.parametrize("packed", ["false", "true"], ids=["split", "packed"])
def test_killed(switch, backends, frontends, packed):
    """The back-end dies under load and comes back, several times."""
    backend = join(switch, backends, packed=packed)
    guest = frontends("vm0", size=256)
    for _ in range(3):
        backend.forward("txonly")
        wait_for(lambda n=switch.statistics("fe0")["rx_packets"]:
                 switch.statistics("fe0")["rx_packets"] > n + 1000,
                 what="traffic")
        backend.kill()
        switch.wait_link("fe0", up=False)
        assert switch.status("fe0")["reason"]
        backend.start()
        switch.wait_link("fe0")
    guest.take_received()
    backend.forward("macswap")
    echo(guest)


def test_quit(switch, backends, frontends):
    """The back-end ends in good order, also one that connects."""
    backend = join(switch, backends, server=False)
    guest = frontends("vm0")
    for _ in range(2):
        backend.forward("macswap")
        echo(guest)
        backend.quit()
        switch.wait_link("fe0", up=False)
        backend.start()
        switch.wait_link("fe0")
    backend.forward("macswap")
    echo(guest)


def test_switch_restarts(switch, backends):
    """The switch dies and comes back; the back-end stays."""
    backend = join(switch, backends, packed="true")
    for _ in range(2):
        backend.forward("txonly")
        wait_for(lambda: switch.statistics("fe0")["rx_packets"] > 1000,
                 what="traffic")
        switch.kill_daemon()
        switch.start_daemon()
        switch.wait_link("fe0")
    assert backend.alive()
    backend.forward("txonly")
    wait_for(lambda: switch.statistics("fe0")["rx_packets"] > 1000,
             what="traffic")
