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
"""Guests that are killed, paused, rebooted and reset under load.

Two other ports exchange numbered packets all the time and lose nothing; the
switch complains only of what deserves it; and the guest's packets flow again
afterwards.
"""

import contextlib
import os
import random
import re
import signal
import subprocess
import threading
import time

import pytest
from frontend import Frontend, frame
from guest import Guest, Nic
from numbered import LONG, Numbered, complaints, datapath_drops
from switch import Switch, wait_for

pytestmark = pytest.mark.ours

GUEST, HOST = "10.0.0.1", "10.0.0.254"


class Flood(threading.Thread):
    """A port that sends packets to a MAC address, as fast as Python can."""

    def __init__(self, switch, name, destination):
        super().__init__(daemon=True)
        self.frontend = Frontend(switch.path(f"{name}.sock"), size=256)
        switch.add_port(name, path=self.frontend.path)
        self.frontend.connect().start()
        switch.wait_link(name)
        self.packet = (bytes.fromhex(destination.replace(":", ""))
                       + frame(0, 0xf0)[6:])
        self.ending = False
        self.start()

    def run(self):
        while not self.ending:
            self.frontend.transmit(*[self.packet] * 16, timeout=60)
            self.frontend.take_received()
            time.sleep(0.005)

    def close(self):
        """Ends it."""
        self.ending = True
        self.join(60)
        self.frontend.close()


class World:
    """A switch with a guest that is flooded with packets and sends as many,
    and with two ports on another bridge that have nothing to do with it."""

    def __init__(self, switch, guest, others):
        self.switch = switch
        self.guest = guest
        self.others = others
        self.nic = Nic(switch.add_port("vm0"), queues=4)
        namespace = ["nsenter", f"--target={switch.daemon.pid}", "--net",
                     "ip"]
        subprocess.run([*namespace, "address", "add", f"{HOST}/24", "dev",
                        "br0"], check=True)
        subprocess.run([*namespace, "link", "set", "br0", "up"], check=True)
        self.begin = 0
        self.guest.start([self.nic])
        self.load()

    def load(self):
        """Once the guest has booted: has it send all the time."""
        self.guest.configure(f"{GUEST}/24")
        self.guest.wait_ping(HOST)
        self.guest.run(f"ping -A {HOST} > /dev/null &")

    def repair(self):
        """Starts the guest again if a test has left it broken."""
        try:
            self.works()
        except Exception:               # pylint: disable=broad-except
            self.guest.kill()
            self.guest.start([self.nic])
            self.load()

    def works(self):
        """Insists that packets reach the guest and come from it."""
        self.guest.wait_ping(HOST)
        before = self.switch.statistics("vm0")
        self.guest.wait_ping(HOST)

        def flows():
            now = self.switch.statistics("vm0")
            return all(now[key] > before[key] + 50
                       for key in ("rx_packets", "tx_packets"))
        wait_for(flows, 30, "packets of the guest")
        assert self.switch.link("vm0")

    def state(self):
        """What the others miss, and what was dropped that accounts for it:
        by Open vSwitch, or since they did not get the processor."""
        return (self.others.missing(), datapath_drops(self.switch) + sum(
            self.switch.statistics(name, "br1")["ovs_tx_failure_drops"]
            for name in self.others.names))

    def log(self):
        """Our lines of the log about the guest's port, in this test."""
        return [line for line in self.switch.log()[self.begin:].splitlines()
                if "|vm0: " in line]

    def stats(self, key):
        """A counter of the guest's port."""
        return self.switch.statistics("vm0")[key]


@pytest.fixture(scope="module", name="one")
def fixture_one(image, tmp_path_factory):
    """One guest for all tests, since to boot takes its time."""
    guest = Guest(tmp_path_factory.mktemp("guest") / "vm0", image)
    try:
        with Switch() as switch:
            switch.add_bridge("br1")
            with Numbered(switch, bridge="br1", rate=2000) as others:
                world = World(switch, guest, others)
                flood = Flood(switch, "flood", world.nic.mac)
                yield world
                flood.close()
                others.check()
    finally:
        guest.kill()


@contextlib.contextmanager
def unharmed(world, allowed=None):
    """Nobody else notices what happens in this context, and the log has
    nothing to complain of but 'allowed'.  The guest works afterwards."""
    world.repair()
    missing, accounted = world.state()
    world.begin = len(world.switch.log())
    yield world
    world.works()
    missing_now, accounted_now = world.state()
    world.switch.check_alive()
    assert missing_now - missing <= accounted_now - accounted
    assert not complaints(world.switch, world.begin, allowed)


@pytest.fixture(name="world")
def fixture_world(one):
    """The guest, and the others, who must not notice."""
    with unharmed(one):
        yield one


# A pause.

PAUSE = 60 if LONG else 3


def test_paused(world):
    """HZ-25: QEMU stops the guest, and its rings, and continues later."""
    world.guest.qmp("stop")
    world.switch.wait_link("vm0", up=False)
    time.sleep(PAUSE)
    assert world.switch.status("vm0")["status"] == "connected"
    world.guest.qmp("cont")
    world.switch.wait_link("vm0")
    assert not any("connected" in line for line in world.log())


def test_frozen(world):
    """HZ-25: QEMU does not run at all.  The port stays up, what does not fit
    into the receiveq is dropped and counted, and that is all."""
    os.kill(world.guest.process.pid, signal.SIGSTOP)
    try:
        # Packets that it has seen already may be on their way out.
        time.sleep(1)
        dropped, received = world.stats("tx_dropped"), world.stats(
            "rx_packets")
        time.sleep(PAUSE)
        assert world.switch.link("vm0")
        assert world.stats("tx_dropped") > dropped + 50 * PAUSE
        assert world.stats("rx_packets") == received
        assert world.switch.answer_time() < 5
    finally:
        os.kill(world.guest.process.pid, signal.SIGCONT)
    world.works()
    assert not world.log()


# Ends and beginnings.

def test_killed(world):
    """QEMU is killed under load; the next one starts over."""
    for _ in range(5 if LONG else 1):
        world.guest.kill()
        world.switch.wait_link("vm0", up=False)
        world.guest.start([world.nic])
        world.load()
        world.works()
        time.sleep(random.random())
    assert any("disconnected from" in line for line in world.log())


if LONG:
    # Without load: test_reboot() in test_guests.py.
    def test_rebooted(world):
        """The guest reboots itself under load."""
        for _ in range(3):
            world.guest.reboot()
            world.load()


def test_reset_in_burst(world):
    """HZ-13: the machine is reset again and again, at any moment of a burst
    and of its next start."""
    for _ in range(30 if LONG else 4):
        world.guest.qmp("system_reset")
        time.sleep(random.choice([0, 0.1, 1, 5]) * random.random())
    world.guest.qmp("system_reset")
    world.guest.wait_ready()
    world.load()


def test_driver_reset_in_burst(world):
    """HZ-13: the driver writes 0 to the status in the middle of a burst, and
    starts again."""
    guest = world.guest
    device = guest.run("basename $(readlink /sys/class/net/eth0/device)")
    driver = "/sys/bus/virtio/drivers/virtio_net"
    for _ in range(50 if LONG else 4):
        guest.run("killall ping; true")
        guest.run(f"echo {device} > {driver}/unbind; "
                  f"echo {device} > {driver}/bind")
        guest.configure(f"{GUEST}/24")
        guest.run(f"ping -A {HOST} > /dev/null &")
        time.sleep(random.random())
    guest.wait_ping(HOST)


def test_queue_count(world):
    """The guest changes the number of its queues under load.  Of what it asks
    meanwhile, hardly anything stays without an answer."""
    guest = world.guest
    counts = [2, 4, 3, 1] * (10 if LONG else 1)
    guest.run("ping -i 0.02 -c 100000 " + HOST + " > /tmp/ping & "
              "echo $! > /tmp/pid")
    for count in counts:
        guest.run(f"ethtool -L eth0 combined {count}")
        wait_for(lambda n=count: sum(world.switch.rxqs().get(
            "vm0", {}).values()) == n, 20, f"{count} queues")
        time.sleep(0.2)
    guest.run("kill -INT $(cat /tmp/pid); sleep 1")
    sent, received = map(int, re.search(
        r"(\d+) packets transmitted, (\d+) packets received",
        guest.run("cat /tmp/ping")).groups())
    print(f"{sent - received} of {sent} pings lost in {len(counts)} changes")
    assert received > 0 and sent - received <= 2 * len(counts)
