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
"""Packed rings: dpdk-testpmd and Linux guests that use them.

What is tested is in the modules for split rings; here is what to test it
with."""

import json
import os
import struct
import time

import frontend as vhu
import pytest
from frontend import bits
from guest import Nic
from restart import Traffic, wait_back
from switch import Switch, wait_for
from test_guests import (                                       # noqa: F401
    Pair, test_driver_rebind, test_file, test_kill_qemu, test_multiqueue,
    test_pause, test_ping, test_ping_fragments, test_port_again, test_reboot,
    test_statistics, test_switch_killed, test_switch_restart,
    test_system_reset)
from test_testpmd import COUNT, pair as pmd_pair, send_all

F_RING_PACKED = 34


@pytest.fixture(scope="module", name="pair")
def fixture_pair(image, tmp_path_factory):
    """Two guests with four queues each and packed rings."""
    # pylint: disable=import-outside-toplevel
    from guest import Guest
    directory = tmp_path_factory.mktemp("pair")
    guests = [Guest(directory / name, image) for name in "ab"]
    try:
        with Switch() as switch:
            yield Pair(switch, guests, queues=4, device="packed=on")
    finally:
        for guest in guests:
            guest.kill()


def is_packed(switch, name="vm0"):
    """True if the rings of a port that run are packed."""
    text = switch.appctl("vhostuser/show", "--json", name)
    vrings = [vring for port in json.loads(text) for vring in port["vrings"]
              if vring["running"]]
    return bool(vrings) and all(vring["format"] == "packed"
                                for vring in vrings)


@pytest.mark.ours
def test_format(pair):
    """The guests really use packed rings."""
    for name in ("vm0", "vm1"):
        assert is_packed(pair.switch, name)


@pytest.mark.parametrize("indirect, size", [
    ("on", 256), ("off", 256), ("on", 1024)])
def test_guest_rings(switch, guests, indirect, size):
    """Other rings of Linux guests, also when the switch crashes."""
    paths = [switch.add_port(name) for name in ("vm0", "vm1")]
    machines = [guests(), guests()]
    device = f"packed=on,indirect_desc={indirect},rx_queue_size={size}," \
             f"tx_queue_size={size}"
    for machine, path in zip(machines, paths):
        machine.start([Nic(path, device=device)], wait=False)
    for number, machine in enumerate(machines):
        machine.wait_ready()
        machine.configure(f"10.0.0.{number + 1}/24")
    machines[0].wait_ping("10.0.0.2")
    assert machines[0].ping("10.0.0.2", size=20000) == 3
    switch.kill_daemon()
    switch.start_daemon()
    machines[0].wait_ping("10.0.0.2")
    assert machines[0].ping("10.0.0.2", size=20000) == 3


PATHS = {
    "mergeable": {"mrg_rxbuf": 1, "in_order": 0},
    "plain": {"mrg_rxbuf": 0, "in_order": 0},
    "in-order": {"mrg_rxbuf": 1, "in_order": 1},
    "plain in-order": {"mrg_rxbuf": 0, "in_order": 1},
    "vectorized": {"mrg_rxbuf": 0, "in_order": 1, "vectorized": 1},
}


@pytest.mark.parametrize("name", PATHS)
def test_paths(switch, testpmds, name):
    """The receive and transmit paths that virtio-user has for packed rings.

    Which one it takes for "vectorized" depends on the processor."""
    options = ["--force-max-simd-bitwidth=512"] if name == "vectorized" else []
    sender, receiver = pmd_pair(
        switch, testpmds, packed_vq=1, eal=options, **PATHS[name])
    assert is_packed(switch)
    for size in (64, 128, 1518 - 4):
        send_all(switch, sender, receiver, size=size)


@pytest.mark.parametrize("in_order", [0, 1])
def test_segments(switch, testpmds, in_order):
    """Packets in several pieces: indirect tables, or chains."""
    sender, receiver = pmd_pair(
        switch, testpmds, packed_vq=1, in_order=in_order,
        options=["--tx-offloads=0x8000"])
    for sizes in ("64,64", "100,200,300", "64,64,64,64,64,64,64,64"):
        send_all(switch, sender, receiver, count=500, size=sizes)


@pytest.mark.parametrize("size", [256, 1000, 1024, 32768])
def test_queue_size(switch, testpmds, size):
    """Large rings, and some whose size is no power of two."""
    sender, receiver = pmd_pair(switch, testpmds, queue_size=size,
                                    packed_vq=1)
    assert switch.status("vm0")["vring_0_size"] == str(size)
    send_all(switch, sender, receiver)
    send_all(switch, sender, receiver)


def test_jumbo(switch, testpmds):
    """Packets up to 9000 bytes, in mergeable buffers of 2 kB."""
    sender, receiver = pmd_pair(
        switch, testpmds, mtu=9000, packed_vq=1, options=[
            "--max-pkt-len=9018", "--mbuf-size=10240",
            "--tx-offloads=0x8000"])
    for size in (1600, 4000, 9000):
        send_all(switch, sender, receiver, count=500, size=size)


def test_stop_and_start(switch, testpmds):
    """The port of testpmd stops and starts in the middle of traffic."""
    sender, receiver = pmd_pair(switch, testpmds, packed_vq=1, queues=2)
    for _ in range(3):
        send_all(switch, sender, receiver, count=500)
        for machine in (sender, receiver):
            machine.command("port stop 0")
            machine.command("port start 0", timeout=20)
        switch.wait_link("vm0")
        switch.wait_link("vm1")


def test_restart(switch, testpmds):
    """The switch is stopped, or killed, under testpmd."""
    sender, receiver = pmd_pair(switch, testpmds, packed_vq=1)
    for stop in (switch.stop_daemon, switch.kill_daemon):
        send_all(switch, sender, receiver, count=COUNT)
        stop()
        # It notices what happens when it looks at its link.
        for machine in (sender, receiver):
            wait_for(lambda m=machine: not m.link(), 10, "no link")
        switch.start_daemon()
        for machine in (sender, receiver):
            wait_for(machine.link, 20, "link")
        for name in ("vm0", "vm1"):
            switch.wait_link(name)
        wait_for(lambda: is_packed(switch), what="packed rings")
    send_all(switch, sender, receiver, count=COUNT)


@pytest.mark.ours
def test_record(switch):
    """R-06: where the rings go on is recorded, in a file that a port loses
    when it is deleted and not when the switch ends in whatever way."""
    def has_file(name):
        return os.path.exists(switch.path(f"vhostuser.positions/{name}"))

    def clean_up():
        switch.appctl("exit", "--cleanup")
        switch.daemon.wait(20)

    ends = (switch.kill_daemon, switch.stop_daemon, clean_up)
    with Traffic(switch, "--packed", "--no-indirect", "--no-in-order",
                 "--size=4000", "--buffer-size=2048", mtu=9000,
                 rate=2000) as traffic:
        assert "as recorded" not in switch.log()
        for number, end in enumerate(ends):
            time.sleep(0.3)
            end()
            assert has_file("vm0") and has_file("vm1")
            switch.start_daemon(wait=False)
            wait_back(switch, number + 1)
            assert switch.log().count("as recorded") == 4 * (number + 1)
        traffic.stop_and_check(len(ends))
    assert "record does not fit" not in switch.log()

    switch.del_port("vm0")
    wait_for(lambda: not has_file("vm0"), what="no file of vm0")
    assert has_file("vm1")
    switch.del_port("vm1")
    wait_for(lambda: not has_file("vm1"), what="no file of vm1")


def test_messages(frontends):
    """Q-06: addresses and bases of packed vrings."""
    guest = frontends("vm0", start=False, features=bits(
        vhu.F_PROTOCOL_FEATURES, vhu.F_VERSION_1, F_RING_PACKED))
    guest.connect()
    guest.negotiate()
    assert guest.features & bits(F_RING_PACKED)
    guest.set_memory()
    vring = guest.vrings[1]
    guest.reset(vring)
    guest.must_set(vhu.SET_VRING_NUM, struct.pack("<II", vring.index, 5))
    areas = [vhu.USER_BASE + offset
             for offset in (vring.desc, vring.desc + 80, vring.desc + 84)]

    def set_addr(desc, driver, device):
        return guest.set(vhu.SET_VRING_ADDR, struct.pack(
            "<IIQQQQ", vring.index, 0, desc, device, driver, 0))

    end = vhu.USER_BASE + guest.memory
    for number, bad in ((0, 8), (0, end - areas[0] - 64), (1, 2),
                        (1, end - areas[1]), (2, 2), (2, end - areas[2])):
        wrong = list(areas)
        wrong[number] += bad
        assert set_addr(*wrong), (number, bad)

    # A new ring, of which we say one position, then both; then one that
    # goes on, after a stop and after a crash.
    for used, base, expected in (
            (0, 0x8000, 0x80008000), (0, 0x80008000, 0x80008000),
            (3, 0x80038003, 0x80038003), (4, 0x80008000, 0x80048004)):
        guest.ram[vring.desc:vring.desc + 88] = bytes(88)
        for slot in range(used):
            guest.put_u16(vring.desc + 16 * slot + 14, 0x8080)
        assert not set_addr(*areas)
        guest.must_set(vhu.SET_VRING_BASE,
                       struct.pack("<II", vring.index, base))
        guest.must_set(vhu.SET_VRING_KICK, struct.pack("<Q", vring.index),
                       [vring.kick])
        os.eventfd_write(vring.kick, 1)
        assert guest.stop(vring.index) == expected
