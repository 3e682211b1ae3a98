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
"""HZ-13: memory that is zeroed under the switch's hands, as an application of
DPDK in a guest does when it starts anew, and what comes then.

Two other ports exchange numbered packets all the time and lose nothing.
"""

import glob
import mmap
import os
import random
import struct
import threading
import time

import pytest
import vhost_tool
from frontend import frame
from numbered import LONG, Numbered, complaints
from switch import wait_for
from test_ports import exchange
from test_testpmd import pair, send_all

pytestmark = pytest.mark.ours


@pytest.fixture(name="others")
def fixture_others(switch):
    """Two ports on another bridge that must not notice anything."""
    switch.add_bridge("br1")
    with Numbered(switch, bridge="br1", rate=2000) as others:
        yield others
        switch.check_alive()
        others.check()


class Sender(threading.Thread):
    """Sends to another front-end all the time."""

    def __init__(self, sender):
        super().__init__(daemon=True)
        self.sender = sender
        self.ending = False
        self.start()

    def run(self):
        while not self.ending:
            self.sender.transmit(*[frame(2, 1)] * 16)
            time.sleep(0.0005)

    def stop(self):
        """Ends it."""
        self.ending = True
        self.join(10)


def start_over(victim):
    """What a front-end does when its driver resets the device: it stops the
    vrings, and starts them where a new driver does."""
    for vring in victim.vrings:
        victim.stop(vring.index)
    for vring in victim.vrings:
        victim.enable(vring.index, False)
        victim.reset(vring)
        victim.set_vring(vring)
        if vring.index % 2 == 0:
            victim.fill(vring)
        victim.enable(vring.index)


@pytest.mark.usefixtures("others")
def test_memory_zeroed(switch, frontends):
    """All memory becomes zero at any moment of a burst; then the driver starts
    over, on the same connection."""
    victim, other = frontends("victim", size=256), frontends("other")
    exchange(victim, other)
    begin = len(switch.log())
    times = 300 if LONG else 30
    for number in range(times):
        sender = Sender(other)
        try:
            victim.transmit(*[frame(1, 2)] * random.randrange(200))
            time.sleep(random.random() / 200)
            if number % 2:
                victim.ram[:] = bytes(len(victim.ram))
            else:
                vring = victim.vrings[random.randrange(2)]
                victim.ram[vring.desc:vring.buffers] = bytes(
                    vring.buffers - vring.desc)
            time.sleep(random.random() / 200)
        finally:
            sender.stop()
        start_over(victim)
        other.take_received()
        want = frame(2, 1, payload=struct.pack(">I", number))

        def arrives(want=want):
            # The first ones may come before the port knows its queues again.
            other.transmit(want)
            return victim.receive(1, timeout=0.2,
                                  accept=lambda p: p == want)
        wait_for(arrives, 10, "packets to the victim")
    exchange(victim, other)
    # One line for each start at most, if the ring makes no sense then.
    lines = complaints(switch, begin)
    assert not [line for line in lines if "|victim: vring " not in line]
    assert len(lines) <= 2 * times


def zero_memory(process):
    """Zeroes the memory that a process shares."""
    for path in glob.glob(f"/proc/{process.pid}/fd/*"):
        if "memfd:" not in os.readlink(path):
            continue
        fd = os.open(path, os.O_RDWR)
        with mmap.mmap(fd, os.fstat(fd).st_size) as memory:
            memory[:] = bytes(len(memory))
        os.close(fd)


@pytest.mark.parametrize("format_args", [[], ["--packed"]],
                         ids=["split", "packed"])
@pytest.mark.usefixtures("others")
def test_rings_zeroed(switch, format_args):
    """The same with both ring formats, and a driver that must find out itself
    that nothing is as it was."""
    paths = [switch.add_port(name) for name in ("vm0", "vm1")]
    begin = len(switch.log())
    for _ in range(20 if LONG else 3):
        process = vhost_tool.start("perf", "--listen", "--duration=0",
                                   "--rate=20k", *format_args, *paths)
        try:
            for name in ("vm0", "vm1"):
                switch.wait_link(name)
            before = switch.statistics("vm1")["tx_packets"]
            wait_for(lambda: switch.statistics("vm1")["tx_packets"]
                     > before + 1000, 20, "packets to vm1")
            zero_memory(process)
            time.sleep(random.random())
            assert switch.answer_time() < 5
        finally:
            process.kill()
            process.communicate()
        for name in ("vm0", "vm1"):
            switch.wait_link(name, up=False)
    assert all(f"|{name}: vring " in line
               for line in complaints(switch, begin) for name in [
                   "vm0" if "|vm0:" in line else "vm1"])


@pytest.mark.parametrize("packed", [0, 1], ids=["split", "packed"])
@pytest.mark.usefixtures("others")
def test_application_killed(switch, testpmds, packed):
    """An application of DPDK is killed in mid-burst and starts again."""
    sender, receiver = pair(switch, testpmds, packed_vq=packed)
    send_all(switch, sender, receiver, count=500)
    begin = len(switch.log())
    for number in range(10 if LONG else 2):
        sender.forward("txonly")
        receiver.forward("rxonly")
        time.sleep(random.random() / 10)
        victim = (receiver, sender)[number % 2]
        victim.kill()
        switch.wait_link(victim.name, up=False)
        victim.start(*([f"--eth-peer=0,{receiver.mac()}"]
                       if victim is sender else []))
        switch.wait_link(victim.name)
        sender.command("stop")
        receiver.command("stop")
    send_all(switch, sender, receiver, count=500)
    assert not complaints(switch, begin)
