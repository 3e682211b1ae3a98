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
"""The same port in a switch with DPDK: where its packets come from, and what
it exchanges with ports of DPDK.

No test here uses a device of the machine."""

import contextlib
import ctypes
import json
import os
import re
import socket
import struct
import time

import pytest
from frontend import Frontend, frame
from switch import Switch, daemon_path, wait_for

# The pools of netdev-dpdk need little memory then.
SWITCH = {"kind": "ours-dpdk", "other_config": ["per-port-memory=true"]}

pytestmark = [
    pytest.mark.switch(**SWITCH),
    pytest.mark.skipif(not os.access(daemon_path("ours-dpdk"), os.X_OK),
                       reason="built without DPDK")]


def pools(switch):
    """Our pools, as {name: (mbufs, of these not in the pool)}."""
    text = switch.appctl("netdev-dpdk/get-mempool-info")
    found = {}
    for name, part in re.findall(r"mempool <(vhostuser_\d+)>(.*?)"
                                 r"common_pool_count=\d+", text + "\n",
                                 re.DOTALL):
        size = int(re.search(r"\bsize=(\d+)", part)[1])
        cached = int(re.search(r"total_cache_count=(\d+)", part)[1])
        rest = text[text.index(f"<{name}>"):]
        common = int(re.search(r"common_pool_count=(\d+)", rest)[1])
        found[name] = (size, size - cached - common)
    return found


def settled(switch, count):
    """Waits until there are 'count' pools, and all mbufs are in them."""
    wait_for(lambda: [used for _, used in pools(switch).values()]
             == [0] * count, 10, f"{count} full pools")


def join(switch, first, second):
    """What comes in by one of two ports goes out by the other."""
    switch.ofctl("del-flows")
    for source, target in ((first, second), (second, first)):
        switch.ofctl("add-flow", f"in_port={source},actions=output:{target}")


def add_vdev(switch, name, device, number=10, mtu=None, queues=1):
    """Adds a port with a virtual device of DPDK.

    It is polled when it is there, and not earlier: what comes before is lost,
    and a capture file is not read twice."""
    # The one PMD thread has only this rxq while it is pinned.
    switch.set_interface("vm0", "other_config:pmd-rxq-affinity=0:0")
    switch.vsctl("add-port", "br0", name, "--", "set", "Interface", name,
                 "type=dpdk", f"options:dpdk-devargs={device}",
                 f"options:n_rxq={queues}", f"ofport_request={number}",
                 *([f"mtu_request={mtu}"] if mtu else []))
    wait_for(lambda: switch.get(name, "ofport") == number
             or switch.get(name, "error"), 10, f"port {name}")
    assert not switch.get(name, "error"), switch.get(name, "error")
    switch.vsctl("remove", "Interface", "vm0", "other_config",
                 "pmd-rxq-affinity")


def exchange(first, second, count=50, sizes=(60, 1514)):
    """Each sends to the other; all that was sent comes, unharmed."""
    for source, target in ((first, second), (second, first)):
        for size in sizes:
            packets = [frame(7, 8, size, bytes([i])) for i in range(count)]
            source.transmit(*packets)
            got = target.receive(count, accept=lambda p: p in packets)
            assert got == packets


@contextlib.contextmanager
def namespace(switch):
    """While entered, sockets of this thread are made in the network namespace
    of the switch."""
    libc = ctypes.CDLL(None, use_errno=True)
    ours = os.open("/proc/self/ns/net", os.O_RDONLY)
    theirs = os.open(f"/proc/{switch.daemon.pid}/ns/net", os.O_RDONLY)
    try:
        assert libc.setns(theirs, 0) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        libc.setns(ours, 0)
        os.close(ours)
        os.close(theirs)


class Device:
    """A network device in the namespace of the switch, as transmit() and
    receive() of a Frontend."""

    def __init__(self, switch, name):
        with namespace(switch):
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW,
                                      socket.htons(3))
            self.sock.bind((name, 0))
        self.sock.settimeout(0.1)

    def transmit(self, *packets):
        """Sends packets."""
        for packet in packets:
            self.sock.send(packet)

    def receive(self, count, timeout=10, accept=None):
        """Waits for 'count' packets that 'accept' accepts."""
        deadline = time.monotonic() + timeout
        packets = []
        while len(packets) < count and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                packet, address = self.sock.recvfrom(65536)
                # Not those that we have sent ourselves.
                if address[2] != socket.PACKET_OUTGOING and accept(packet):
                    packets.append(packet)
        return packets


def ip_link(switch, *args):
    """Executes "ip link" in the namespace of the switch."""
    os.spawnlp(os.P_WAIT, "nsenter", "nsenter",
               f"--net=/proc/{switch.daemon.pid}/ns/net", "ip", "link", *args)


# Where packets come from.

def test_pool_life(switch, frontends):
    """A pool comes with the first guest and goes with the last port."""
    switch.add_port("idle")
    assert pools(switch) == {}
    first, second = frontends("vm0"), frontends("vm1")
    wait_for(lambda: len(pools(switch)) == 1, what="a pool")
    join(switch, "vm0", "vm1")
    exchange(first, second)
    settled(switch, 1)
    assert "2048 bytes on NUMA node 0" in switch.appctl("vhostuser/show",
                                                        "vm0")
    port, = json.loads(switch.appctl("vhostuser/show", "--json", "vm0"))
    pool = port["pool"]
    assert pool.pop("name") in pools(switch)
    assert pool.pop("size") >= 4096
    assert pool == {"numa_id": 0, "room": 2048, "in_use": 0, "times_empty": 0}

    # It stays while the guest is away, and follows the MTU.
    first.disconnect()
    switch.wait_link("vm0", up=False)
    settled(switch, 1)
    switch.set_interface("vm1", "mtu_request=9000")
    settled(switch, 2)
    assert "9216 bytes" in switch.appctl("vhostuser/show", "vm1")
    switch.set_interface("vm1", "mtu_request=1500")
    settled(switch, 1)
    first.connect().start()
    switch.wait_link("vm0")
    exchange(first, second)

    switch.del_port("vm0")
    settled(switch, 1)
    switch.del_port("vm1")
    wait_for(lambda: not pools(switch), what="no pool any more")


@pytest.mark.switch(kind="ours-dpdk", pmd_mask="0x3",
                    other_config=["dpdk-init=false"])
def test_without_eal(switch, frontends):
    """With dpdk-init=false packets come from the heap."""
    first, second = frontends("vm0"), frontends("vm1")
    join(switch, "vm0", "vm1")
    exchange(first, second)
    assert "pool" not in switch.appctl("vhostuser/show", "vm0")


@pytest.mark.switch(kind="ours-dpdk", other_config=[
    "dpdk-extra=--no-pci --no-huge --legacy-mem -m 10 --file-prefix=vhusmall"])
def test_no_memory_for_a_pool(switch, frontends):
    """Then the heap serves, and one warning says so."""
    first, second = frontends("vm0"), frontends("vm1")
    join(switch, "vm0", "vm1")
    exchange(first, second)
    assert pools(switch) == {}
    assert "vm0: no DPDK memory on NUMA node 0" in switch.log()


@contextlib.contextmanager
def hugepages(count):
    """While entered, there are so many hugepages of 2 MiB."""
    path = "/proc/sys/vm/nr_hugepages"
    with open(path, encoding="ascii") as file:
        before = int(file.read())

    def write(number):
        with open(path, "w", encoding="ascii") as file:
            file.write(str(number))
    try:
        write(before + count)
        with open("/proc/meminfo", encoding="ascii") as file:
            free = int(re.search(r"HugePages_Free: +(\d+)", file.read())[1])
        if free < count:
            pytest.skip(f"only {free} hugepages, and not {count}")
        yield
    except OSError as err:
        pytest.skip(f"{path}: {err}")
    finally:
        write(before)


@pytest.fixture(name="huge")
def fixture_huge():
    """128 MiB of hugepages."""
    with hugepages(64):
        yield


# Not at the same time: they share what the machine has.
@pytest.mark.xdist_group("hugepages")
@pytest.mark.parametrize("mode", ["in-memory", "files"])
def test_hugepages(huge, mode, tmp_path):
    """EAL with hugepages: packets come from there."""
    del huge
    extra = "--no-pci --in-memory"
    wrapper = ()
    if mode == "files":
        # A mount that nobody else sees.
        wrapper = ["unshare", "--mount", "sh", "-c", "mount -t hugetlbfs none "
                   f"{tmp_path} && exec \"$0\" \"$@\""]
        extra = (f"--no-pci --legacy-mem -m 110 --huge-dir={tmp_path} "
                 f"--huge-unlink=always --file-prefix=vhu{os.getpid()}")
    with Switch(kind="ours-dpdk", other_config=[f"dpdk-extra={extra}"],
                wrapper=wrapper) as switch, \
            Frontend(switch.path("0")) as first, \
            Frontend(switch.path("1")) as second:
        for name, guest in (("vm0", first), ("vm1", second)):
            switch.add_port(name, path=guest.path)
            guest.connect().start()
            switch.wait_link(name)
        join(switch, "vm0", "vm1")
        wait_for(lambda: len(pools(switch)) == 1, what="a pool")
        with open("/proc/meminfo", encoding="ascii") as file:
            assert int(re.search(r"HugePages_Free: +(\d+)",
                                 file.read())[1]) < 60
        exchange(first, second)
        settled(switch, 1)
        switch.check_alive()


# Ports of DPDK.

def test_ring(switch, frontends):
    """What a net_ring gets comes back: our mbufs go out and in again, what is
    longer than those is copied, and all return to the pool."""
    guest = frontends("vm0", size=256, buffer_size=4096)
    switch.set_interface("vm0", "mtu_request=4000")
    wait_for(lambda: any("9216" not in str(pool) for pool in pools(switch)),
             what="a pool")
    add_vdev(switch, "ring", "net_ring0", mtu=4000, queues=2)
    join(switch, "vm0", "ring")
    for size in (60, 1514, 1900, 3000):
        packets = [frame(1, 2, size, bytes([i])) for i in range(100)]
        guest.transmit(*packets)
        assert guest.receive(100, accept=lambda p: p in packets) == packets
    switch.set_interface("vm0", "mtu_request=1500")
    guest.transmit(frame(1, 2, 3000))
    wait_for(lambda: switch.statistics("ring")["rx_packets"] == 401,
             what="a long packet")
    switch.vsctl("del-port", "ring")
    settled(switch, 1)


def test_tap(switch, frontends):
    """A net_tap, in both directions."""
    guest = frontends("vm0")
    add_vdev(switch, "tap", "net_tap0,iface=dtap0", queues=2)
    ip_link(switch, "set", "dtap0", "up")
    join(switch, "vm0", "tap")
    exchange(guest, Device(switch, "dtap0"), count=20)


def test_af_packet(switch, frontends):
    """A net_af_packet on a veth pair, in both directions."""
    guest = frontends("vm0")
    ip_link(switch, "add", "veth0", "type", "veth", "peer", "name", "veth1")
    for name in ("veth0", "veth1"):
        ip_link(switch, "set", name, "up")
    add_vdev(switch, "packet", "net_af_packet0,iface=veth0")
    join(switch, "vm0", "packet")
    exchange(guest, Device(switch, "veth1"), count=20)


def test_null(switch, frontends):
    """A net_null transmits and receives for ever; no mbuf is lost."""
    guest = frontends("vm0")
    add_vdev(switch, "null", "net_null0,size=100")
    join(switch, "vm0", "null")
    for _ in range(20):
        guest.transmit(*[frame(1, 2)] * 32)
        assert guest.receive(32, accept=lambda p: len(p) == 100)
    guest.flush()
    switch.vsctl("del-port", "null")
    settled(switch, 1)


def write_pcap(path, packets):
    """Writes a capture file."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        for packet in packets:
            file.write(struct.pack("<IIII", 0, 0, len(packet), len(packet))
                       + packet)


def read_pcap(path):
    """The packets of a capture file."""
    with open(path, "rb") as file:
        data = file.read()
    packets, offset = [], 24
    while offset + 16 <= len(data):
        size = struct.unpack_from("<I", data, offset + 8)[0]
        packets.append(data[offset + 16:offset + 16 + size])
        offset += 16 + size
    return packets


@pytest.mark.parametrize("action", ["output", "push", "strip"])
@pytest.mark.parametrize("role", ["back-end", "front-end"])
def test_pcap_in_pieces(switch, frontends, role, action):
    """Packets longer than an mbuf of the port that they come from are in
    several pieces there.  Guests get them whole, also with another header, and
    so does the other role."""
    if role == "front-end" and action != "output":
        pytest.skip("one is enough")
    tag = struct.pack(">HH", 0x8100, 100) if action == "strip" else b""
    sizes = (60, 2047, 2048, 2049, 4096, 5000, 8996)
    packets = [frame(1, 2, size, os.urandom(size - 18)) for size in sizes]
    write_pcap(switch.path("in.pcap"),
               [p[:12] + tag + p[12:] for p in packets])
    guest = frontends("vm0", port={"mtu": 9000}, size=256)
    target = "vm0"
    if role == "front-end":
        # Through a cable to a second bridge, where the guest is.
        switch.vsctl("del-port", "vm0")
        switch.add_bridge("br1")
        switch.add_port("vm0", path=guest.path, mtu=9000, bridge="br1")
        guest.connect().start()
        path = switch.add_port("cable1", server=True, mtu=9000, bridge="br1")
        switch.add_port("cable0", path=path, mtu=9000, role="front-end")
        for name in ("vm0", "cable0", "cable1"):
            switch.wait_link(name)
        target = "cable0"
    switch.ofctl("del-flows")
    actions = {"output": "", "push": "mod_vlan_vid:7,",
               "strip": "strip_vlan,"}[action]
    switch.ofctl("add-flow", f"in_port=10,actions={actions}output:{target}")
    add_vdev(switch, "pcap", f"net_pcap0,rx_pcap={switch.path('in.pcap')},"
             f"tx_pcap={switch.path('out.pcap')}")
    if action == "push":
        tag = struct.pack(">HH", 0x8100, 7)
        packets = [p[:12] + tag + p[12:] for p in packets]
    got = guest.receive(len(packets), accept=lambda p: p in packets)
    assert got == packets

    if role == "back-end":
        switch.ofctl("add-flow", "in_port=vm0,actions=output:10")
        guest.transmit(*packets[:3])
        wait_for(lambda: switch.statistics("pcap")["tx_packets"] >= 1,
                 what="packets sent")
        switch.vsctl("del-port", "pcap")
        settled(switch, 1)


# dpdkvhostuserclient.

KINDS = {"split": {"mrg_rxbuf": 0, "in_order": 0},
         "mergeable": {"mrg_rxbuf": 1},
         "packed": {"packed_vq": 1, "in_order": 0}}


def test_beside_dpdkvhostuserclient(switch, testpmds):
    """Each kind of virtqueue with each, between our ports and those of DPDK:
    packets go round in both directions."""
    names, devices = [], []
    for owner, kind in [(owner, kind) for owner in ("our", "dpdk")
                        for kind in KINDS]:
        name = f"{owner}-{kind}"
        if owner == "our":
            path = switch.add_port(name)
        else:
            path = switch.path(f"{name}.sock")
            switch.vsctl("add-port", "br0", name, "--", "set", "Interface",
                         name, "type=dpdkvhostuserclient",
                         f"options:vhost-server-path={path}")
        names.append(name)
        devices.append(",".join([
            f"--vdev=net_virtio_user{len(devices)}", f"path={path}",
            "server=1", "queues=1", "queue_size=256",
            *(f"{key}={value}" for key, value in KINDS[kind].items())]))
    first = devices.pop(0)
    machine = testpmds("all", switch.path("our-split.sock"))
    machine.device = first.split("=", 1)[1]
    machine.eal = devices
    machine.start("--auto-start", "--nb-cores=1")
    machine.command("stop")
    for name in names:
        switch.wait_link(name)
    assert "packed" in switch.appctl("vhostuser/show", "our-packed")

    def received(port):
        text = machine.command(f"show port stats {port}")
        return int(re.search(r"RX-packets: +(\d+)", text)[1])
    for ours in range(3):
        for theirs in range(3, 6):
            join(switch, names[ours], names[theirs])
            before = received(ours), received(theirs)
            machine.command(f"set portlist {ours},{theirs}", "set fwd io",
                            "start tx_first")
            wait_for(lambda b=before, o=ours, t=theirs:
                     received(o) > b[0] + 1000 and received(t) > b[1] + 1000,
                     20, f"traffic between {names[ours]} and {names[theirs]}")
            machine.command("stop")
    machine.quit()
    for name in names:
        switch.vsctl("del-port", name)
    wait_for(lambda: not pools(switch), what="no pool any more")
