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
"""Linux guests under QEMU."""

import time

import pytest
from guest import Guest, GuestError, Nic
from switch import Switch, wait_for

A, B = "10.0.0.1", "10.0.0.2"


class Pair:
    """Two guests on one switch."""

    def __init__(self, switch, guests, queues=2, device=""):
        self.switch = switch
        self.paths = [switch.add_port("vm0"), switch.add_port("vm1")]
        self.nics = [Nic(path, queues=queues, device=device)
                     for path in self.paths]
        self.guests = guests
        self.start()

    def start(self):
        """Boots the guests, whatever they were before."""
        for guest, nic in zip(self.guests, self.nics):
            guest.kill()
            guest.start([nic], wait=False)
        for guest in self.guests:
            guest.wait_ready()
        self.configure()

    def healthy(self):
        """True if the guests see each other."""
        try:
            self.guests[0].wait_ping(B, timeout=10)
            return True
        except (GuestError, OSError):
            return False

    def configure(self, *guests):
        """Gives addresses to the guests, or to those given."""
        for guest, address in zip(self.guests, (A, B)):
            if not guests or guest in guests:
                guest.configure(f"{address}/24")
        self.guests[0].wait_ping(B)


@pytest.fixture(scope="module", name="machines")
def fixture_machines(image, tmp_path_factory):
    """Two guests with four queues each, since to boot takes its time."""
    directory = tmp_path_factory.mktemp("pair")
    guests = [Guest(directory / name, image) for name in "ab"]
    try:
        with Switch() as switch:
            yield Pair(switch, guests, queues=4)
    finally:
        for guest in guests:
            guest.kill()


@pytest.fixture(name="pair")
def fixture_pair(machines):
    """The same two guests for all tests that leave them as they were.

    If one did not, because it failed, the next one gets new ones."""
    if not machines.healthy():
        if machines.switch.daemon.poll() is not None:
            machines.switch.start_daemon()
        machines.start()
    return machines


def transfer(source, target, mbytes=4):
    """Moves a file of random bytes; checks that it is the same then."""
    source.run(f"dd if=/dev/urandom of=/tmp/file bs=1M count={mbytes} "
               "2>/dev/null; pidof httpd > /dev/null || httpd -h /tmp")
    address = source.run("ip -4 -o addr show eth0").split()[3].split("/")[0]
    target.run(f"wget -q -O /tmp/got http://{address}/file", timeout=60)
    sums = [guest.run(f"sha256sum < /tmp/{name}")
            for guest, name in ((source, "file"), (target, "got"))]
    assert sums[0] == sums[1]


# Traffic.

def test_ping(pair):
    """Two guests ping each other, all sizes that fit."""
    for size in (0, 1, 56, 1000, 1472):
        assert pair.guests[0].ping(B, count=3, size=size) == 3
        assert pair.guests[1].ping(A, count=3, size=size) == 3


def test_ping_fragments(pair):
    """Packets that the guest must cut in pieces arrive whole."""
    assert pair.guests[0].ping(B, count=3, size=20000) == 3


def test_file(pair):
    """A file moves between guests, both ways, with the same checksum."""
    transfer(pair.guests[0], pair.guests[1])
    transfer(pair.guests[1], pair.guests[0])


def test_statistics(pair):
    """The switch counts what the guests sent and received."""
    guest, switch = pair.guests[0], pair.switch

    def counters():
        """The guest's counters and the switch's."""
        values = guest.run("cd /sys/class/net/eth0/statistics; "
                           "cat tx_packets tx_bytes rx_packets rx_bytes")
        stats = switch.statistics("vm0")
        return ([int(value) for value in values.split()],
                [stats[key] for key in ("rx_packets", "rx_bytes",
                                        "tx_packets", "tx_bytes")])

    def steady():
        """The same, once nothing is under way."""
        first = counters()
        time.sleep(0.3)
        return first if counters() == first else None

    before = wait_for(steady)
    assert guest.ping(B, count=20, interval=0.05) == 20
    after = wait_for(steady)
    mine = [b - a for a, b in zip(before[0], after[0])]
    theirs = [b - a for a, b in zip(before[1], after[1])]
    assert mine[0] >= 20
    assert mine == theirs


# Queues.

@pytest.mark.parametrize("queues", [2, 4, 1, 3])
def test_multiqueue(pair, queues):
    """The switch polls the queues that the guest enables, as many as are."""
    pair.guests[0].run(f"ethtool -L eth0 combined {queues}")

    def follows():
        enabled = pair.switch.rxqs().get("vm0", {})
        return [queue for queue, on in enabled.items() if on] \
            == list(range(queues))
    wait_for(follows, 10, f"{queues} rxqs of vm0")
    assert pair.guests[0].ping(B, count=5) == 5
    transfer(pair.guests[1], pair.guests[0], mbytes=1)


def test_multiqueue_spread(pair):
    """Flows of a guest with four queues come in over several of them."""
    for guest in pair.guests:
        guest.run("ethtool -L eth0 combined 4")
    before = pair.switch.statistics("vm0")
    pair.guests[0].run(
        "for p in $(seq 6001 6024); do echo x | nc -w 1 -p $p "
        f"{B} 7000 2>/dev/null; done; true", timeout=60)

    def used():
        after = pair.switch.statistics("vm0")
        count = 0
        for queue in range(4):
            key = f"rx_q{queue}_good_packets"
            if after.get(key, 0) > before.get(key, 0):
                count += 1
        return count >= 2
    wait_for(used, 10, "packets on several queues")


# The life of a guest.

def test_driver_rebind(pair):
    """The driver leaves the device and comes back."""
    guest = pair.guests[0]
    device = guest.run("basename $(readlink /sys/class/net/eth0/device)")
    driver = "/sys/bus/virtio/drivers/virtio_net"
    for _ in range(2):
        guest.run(f"echo {device} > {driver}/unbind")
        guest.run(f"echo {device} > {driver}/bind")
        pair.configure(guest)
        assert guest.ping(B) == 3


def test_module_reload(pair):
    """The driver is loaded anew."""
    guest = pair.guests[1]
    guest.run("rmmod virtio_net && insmod /modules/virtio_net.ko")
    pair.configure(guest)
    assert guest.ping(A) == 3


def test_reboot(pair):
    """A guest reboots; its QEMU stays."""
    pair.guests[0].reboot()
    pair.configure(pair.guests[0])
    assert pair.guests[0].ping(B) == 3
    pair.switch.wait_link("vm0")


def test_system_reset(pair):
    """A guest is reset without any warning, while it transmits."""
    guest = pair.guests[0]
    guest.run(f"ping -A {B} > /dev/null &")
    guest.qmp("system_reset")
    guest.wait_ready()
    pair.configure(guest)
    assert guest.ping(B) == 3


def test_pause(pair):
    """A guest that stands still for a while goes on."""
    guest = pair.guests[0]
    guest.qmp("stop")
    time.sleep(1)
    guest.qmp("cont")
    guest.wait_ping(B)
    assert guest.ping(B) == 3


def test_kill_qemu(pair):
    """QEMU is killed; the link goes down; a new one starts over."""
    guest = pair.guests[0]
    guest.kill()
    pair.switch.wait_link("vm0", up=False)
    guest.start([pair.nics[0]])
    pair.configure(guest)
    assert guest.ping(B) == 3
    assert pair.switch.link("vm0")


def test_switch_restart(pair):
    """ovs-vswitchd stops and starts under running guests."""
    switch = pair.switch
    assert switch.stop_daemon() == 0
    switch.start_daemon()
    pair.guests[0].wait_ping(B)
    assert pair.guests[0].ping(B) == 3
    transfer(pair.guests[0], pair.guests[1])


def test_switch_killed(pair):
    """ovs-vswitchd crashes in the middle of traffic and comes back."""
    switch = pair.switch
    pair.guests[0].run(f"ping -A {B} > /dev/null &")
    switch.kill_daemon()
    switch.start_daemon()
    pair.guests[0].run("killall ping; true")
    pair.guests[0].wait_ping(B)
    assert pair.guests[0].ping(B) == 3


def test_port_again(pair):
    """A port is removed and added again under a running guest."""
    switch = pair.switch
    switch.del_port("vm0")
    switch.add_port("vm0", path=pair.paths[0])
    pair.guests[0].wait_ping(B)
    assert pair.guests[0].ping(B) == 3


# Guests of their own.

@pytest.mark.parametrize("server", [False, True])
def test_socket_modes(switch, guests, server):
    """QEMU connects or listens; each survives a restart of the switch."""
    names = ("vm0", "vm1")
    paths = [switch.add_port(name, server=not server) for name in names]
    machines = [guests() for _ in names]
    for machine, path in zip(machines, paths):
        machine.start([Nic(path, server=server)], wait=False)
    for machine, address in zip(machines, (A, B)):
        machine.wait_ready()
        machine.configure(f"{address}/24")
    machines[0].wait_ping(B)
    for name in names:
        status = switch.wait_status(name, "mode", ".")
        # The mode is the port's, and so the other one than QEMU's.
        assert status == ("client" if server else "server")
        switch.wait_link(name)
    switch.stop_daemon()
    switch.start_daemon()
    machines[0].wait_ping(B)


def test_host_mtu(switch, guests):
    """The guest takes the MTU that QEMU tells it, and large packets pass."""
    paths = [switch.add_port(name, mtu=9000) for name in ("vm0", "vm1")]
    machines = [guests(), guests()]
    for machine, path in zip(machines, paths):
        machine.start([Nic(path, host_mtu=9000)], wait=False)
    for machine, address in zip(machines, (A, B)):
        machine.wait_ready()
        machine.configure(f"{address}/24")
        assert machine.run("cat /sys/class/net/eth0/mtu") == "9000"
    machines[0].wait_ping(B)
    assert machines[0].ping(B, size=8972) == 3
    assert switch.get("vm0", "mtu") == 9000
    switch.wait_status("vm0", "mtu", "^9000$")

    # A port with a smaller MTU does not pass such packets on.
    switch.set_interface("vm1", "mtu_request=1500")
    wait_for(lambda: switch.get("vm1", "mtu") == 1500, what="MTU of vm1")
    assert machines[0].ping(B, size=8972) == 0
    assert machines[0].ping(B, size=1472) == 3
    wait_for(lambda: switch.statistics("vm1").get(
        "ovs_tx_mtu_exceeded_drops", 0) >= 3, what="drops counted")


@pytest.mark.ours
def test_memory_private(switch, guests):
    """A guest with share=off: status:reason says what is wrong."""
    path = switch.add_port("vm0")
    guest = guests(share=False)
    guest.start([Nic(path)])
    guest.configure(f"{A}/24")
    guest.run(f"ping -c 5 -W 1 {B}", check=False)
    reason = switch.wait_status("vm0", "reason", "not shared")
    assert "share=on" in reason
    assert not switch.link("vm0")


@pytest.mark.ours
def test_memory_without_fd(switch, guests):
    """A guest with plain memory: status:reason says what is wrong."""
    path = switch.add_port("vm0")
    guest = guests(backend="")
    guest.start([Nic(path)])
    guest.configure(f"{A}/24")
    reason = switch.wait_status("vm0", "reason", "memory")
    assert "share=on" in reason
    assert not switch.link("vm0")


@pytest.mark.parametrize("backend", ["file", "memfd"])
def test_memory_backends(switch, guests, backend):
    """Shared memory of either kind works."""
    path = switch.add_port("vm0")
    guest = guests(backend=backend, cpus=1)
    guest.start([Nic(path)])
    guest.configure(f"{A}/24")
    switch.wait_link("vm0")
    guest.run(f"ping -c 2 -W 1 {B}", check=False)
    wait_for(lambda: switch.statistics("vm0").get("rx_packets", 0) > 0,
             what="packets from the guest")


def test_link_follows_guest(switch, guests):
    """The link is up while a guest with a driver is there."""
    path = switch.add_port("vm0")
    assert not switch.link("vm0")
    guest = guests()
    guest.start([Nic(path)])
    switch.wait_link("vm0")
    assert switch.status("vm0")["status"] == "connected"
    guest.kill()
    switch.wait_link("vm0", up=False)
    assert switch.status("vm0")["status"] == "disconnected"
