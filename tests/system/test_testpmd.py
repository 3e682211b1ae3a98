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
"""dpdk-testpmd with virtio-user as the guest."""

import time

import pytest
from frontend import frame
from switch import wait_for

COUNT = 2000


def pair(switch, testpmds, mtu=None, queue_size=256, options=(), **devargs):
    """Two testpmds on two ports, which have learned of each other."""
    machines = []
    for name in ("vm0", "vm1"):
        path = switch.add_port(name, mtu=mtu)
        machines.append(testpmds(name, path, queue_size=queue_size,
                                 **devargs))
    sender, receiver = machines
    receiver.start(*options)
    sender.start(f"--eth-peer=0,{receiver.mac()}", *options)
    for name in ("vm0", "vm1"):
        switch.wait_link(name)
    return sender, receiver


def send_all(switch, sender, receiver, count=COUNT, size=64):
    """Sends 'count' packets or some more, and accounts for each of them.

    'size' may be those of several segments, "64,64"."""
    before = [switch.statistics(name) for name in ("vm0", "vm1")]
    old = receiver.statistics()["RX-packets"]
    sent_before = sender.statistics()["TX-packets"]
    sender.command("stop", f"set txpkts {size}")
    receiver.forward("rxonly")
    sender.forward("txonly")
    wait_for(lambda: sender.statistics()["TX-packets"] - sent_before >= count,
             20, f"{count} packets sent")
    sender.command("stop")
    sent = sender.statistics()["TX-packets"] - sent_before

    def settled():
        now = [switch.statistics(name) for name in ("vm0", "vm1")]
        rx = now[0]["rx_packets"] - before[0]["rx_packets"]
        tx = now[1]["tx_packets"] - before[1]["tx_packets"]
        dropped = now[1]["tx_dropped"] - before[1]["tx_dropped"]
        got = receiver.statistics()["RX-packets"] - old
        return rx == sent and tx + dropped == sent and got == tx and [tx, now]
    tx, now = wait_for(settled, 10, "every packet accounted for")
    assert tx > 0
    assert now[0]["rx_bytes"] - before[0]["rx_bytes"] \
        == sent * sum(int(part) for part in str(size).split(","))
    receiver.command("stop")
    return tx


@pytest.mark.parametrize("devargs", [
    {"mrg_rxbuf": 1, "in_order": 0}, {"mrg_rxbuf": 0, "in_order": 0},
    {"mrg_rxbuf": 1, "in_order": 1}, {"mrg_rxbuf": 0, "in_order": 1}],
    ids=["mergeable", "plain", "in-order", "plain in-order"])
def test_paths(switch, testpmds, devargs):
    """The receive and transmit paths that virtio-user has for split rings."""
    sender, receiver = pair(switch, testpmds, **devargs)
    for size in (64, 128, 1518 - 4):
        send_all(switch, sender, receiver, size=size)


def test_jumbo(switch, testpmds):
    """Packets up to 9000 bytes, in mergeable buffers of 2 kB."""
    sender, receiver = pair(
        switch, testpmds, mtu=9000, options=[
            "--max-pkt-len=9018", "--mbuf-size=10240",
            "--tx-offloads=0x8000"])
    for size in (1600, 4000, 9000):
        send_all(switch, sender, receiver, count=500, size=size)


@pytest.mark.parametrize("queues", [1, 4])
def test_queues(switch, testpmds, queues):
    """As many rxqs as testpmd has queues, all of them used."""
    sender, receiver = pair(switch, testpmds, queues=queues)
    wait_for(lambda: len(switch.rxqs().get("vm0", {})) == queues,
             what=f"{queues} rxqs")
    send_all(switch, sender, receiver)
    stats = switch.statistics("vm0")
    for queue in range(queues):
        assert stats[f"rx_q{queue}_good_packets"] > 0


def test_queue_size(switch, testpmds):
    """Large rings."""
    sender, receiver = pair(switch, testpmds, queue_size=1024)
    assert switch.status("vm0")["vring_0_size"] == "1024"
    send_all(switch, sender, receiver)


def test_round_trip(switch, testpmds):
    """Packets go to and fro between two that swap addresses."""
    first, second = pair(switch, testpmds)
    second.forward("macswap")
    first.forward("macswap", "tx_first")
    time.sleep(1)
    first.command("stop")
    second.command("stop")
    for machine in (first, second):
        counters = machine.statistics()
        assert counters["RX-packets"] > 100
        assert counters["RX-errors"] == 0


def test_stop_and_start(switch, testpmds):
    """The port of testpmd stops and starts in the middle of traffic."""
    sender, receiver = pair(switch, testpmds)
    for _ in range(3):
        send_all(switch, sender, receiver, count=500)
        for machine in (sender, receiver):
            machine.command("port stop 0")
            machine.command("port start 0", timeout=20)
        switch.wait_link("vm0")
        switch.wait_link("vm1")


def test_quit_and_come_back(switch, testpmds):
    """testpmd ends in good order, or is killed, and comes back."""
    sender, receiver = pair(switch, testpmds)
    send_all(switch, sender, receiver, count=500)
    receiver.quit()
    switch.wait_link("vm1", up=False)
    receiver.start()
    sender.kill()
    switch.wait_link("vm0", up=False)
    sender.start(f"--eth-peer=0,{receiver.mac()}")
    switch.wait_link("vm0")
    switch.wait_link("vm1")
    send_all(switch, sender, receiver, count=500)


def test_client(switch, testpmds):
    """testpmd connects to a port that listens."""
    path = switch.add_port("vm0", server=True)
    machine = testpmds("vm0", path, server=False)
    machine.start()
    switch.wait_link("vm0")
    machine.forward("txonly")
    wait_for(lambda: switch.appctl("dpctl/dump-flows"), what="traffic")
    machine.quit()
    switch.wait_link("vm0", up=False)


def test_with_front_end(switch, testpmds, frontends):
    """testpmd returns what a front-end sends, unharmed."""
    path = switch.add_port("vm0")
    machine = testpmds("vm0", path)
    machine.start()
    guest = frontends("vm1")
    switch.wait_link("vm0")
    machine.forward("macswap")
    packets = [frame(2, 1, 60 + i, bytes([i])) for i in range(50)]
    guest.transmit(*packets)
    swapped = [p[6:12] + p[:6] + p[12:] for p in packets]
    got = guest.receive(len(packets), accept=lambda p: p in swapped)
    assert sorted(got) == sorted(swapped)


def test_switch_restart(switch, testpmds):
    """ovs-vswitchd stops and starts; testpmd goes on."""
    sender, receiver = pair(switch, testpmds)
    send_all(switch, sender, receiver, count=500)
    switch.stop_daemon()
    # It notices what happens when it looks at its link.
    for machine in (sender, receiver):
        wait_for(lambda m=machine: not m.link(), 10, "no link")
    switch.start_daemon()
    for machine in (sender, receiver):
        wait_for(lambda m=machine: m.link() and switch.link(m.name), 20,
                 f"link of {machine.name}", interval=0.3)
    send_all(switch, sender, receiver, count=500)
