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
"""The protocol as a whole switch speaks it, with a scripted front-end."""

import os
import socket
import struct
import time

import pytest
import frontend as vhu
from frontend import Frontend, bits, frame
from switch import wait_for
from test_ports import exchange


# Ring states.

@pytest.mark.ours
def test_disabled_discards(switch, frontends):
    """Q-04: a ring that is started but disabled: what the guest transmits is
    discarded, and nothing is put into its receiveq."""
    other = frontends("vm1")
    guest = frontends("vm0", start=False)
    guest.connect().start(enable=False)
    other.transmit(frame(2, 1))
    guest.transmit(*[frame(1, 2)] * 10)
    guest.flush()
    assert not other.receive(1, timeout=0.3,
                             accept=lambda p: p[:12] == frame(1, 2)[:12])
    assert not guest.take_received()

    for index in (0, 1):
        guest.enable(index)
    switch.wait_link("vm0")
    exchange(guest, other)


def test_stop_and_start(frontends):
    """Q-05: GET_VRING_BASE tells where the ring stopped; it goes on there."""
    first, second = frontends("vm0"), frontends("vm1")
    exchange(first, second)
    for turn in range(3):
        first.transmit(*[frame(1, 2)] * 5)
        first.flush()
        second.receive(5)
        bases = [first.stop(index) for index in (0, 1)]
        assert bases[1] == first.vrings[1].next_avail
        assert bases[0] == first.u16(first.vrings[0].used + 2)
        # Nobody touches a stopped ring.
        second.transmit(frame(2, 1))
        time.sleep(0.2)
        assert bases[0] == first.u16(first.vrings[0].used + 2), turn
        for vring, base in zip(first.vrings, bases):
            first.set_vring(vring, base)
            first.enable(vring.index)
            os.eventfd_write(vring.kick, 1)
        time.sleep(0.3)
        first.take_received()
        exchange(first, second)


def test_base_twice(frontends):
    """Q-08: a second GET_VRING_BASE gives the same answer."""
    first, second = frontends("vm0"), frontends("vm1")
    exchange(first, second)
    assert first.stop(1) == first.stop(1) == first.vrings[1].next_avail


def test_base_wraps(frontends):
    """A ring may start anywhere, also just before the index wraps."""
    second = frontends("vm1")
    first = frontends("vm0", start=False)
    first.connect()
    first.negotiate()
    first.set_memory()
    for vring in first.vrings:
        first.reset(vring)
        base = 0xfffe
        vring.next_avail = vring.last_used = base
        for offset in (vring.avail + 2, vring.used + 2):
            first.put_u16(offset, base)
        first.set_vring(vring, base)
        first.enable(vring.index)
    first.fill(first.vrings[0])
    os.eventfd_write(first.vrings[1].kick, 1)
    time.sleep(1)
    for _ in range(5):
        exchange(first, second)


def test_without_protocol_features(switch, frontends):
    """Q-03: without VHOST_USER_F_PROTOCOL_FEATURES rings are enabled."""
    first = frontends("vm0", start=False, features=bits(vhu.F_VERSION_1))
    # Without the feature there are no protocol features either.
    first.connect()
    offered = first.ask(vhu.GET_FEATURES)
    first.send(vhu.SET_OWNER)
    first.features = offered & first.wanted
    first.send(vhu.SET_FEATURES, struct.pack("<Q", first.features))
    first.set_memory()
    for vring in first.vrings:
        first.reset(vring)
        first.set_vring(vring)
    first.fill(first.vrings[0])
    os.eventfd_write(first.vrings[1].kick, 1)
    switch.wait_link("vm0")
    exchange(first, frontends("vm1"))


def test_legacy_header(frontends):
    """A guest without virtio 1 and mergeable buffers has a short header."""
    first = frontends("vm0", features=bits(vhu.F_PROTOCOL_FEATURES))
    assert first.header_size() == 10
    second = frontends("vm1")
    for size in (60, 1000, 1514):
        exchange(first, second, size)


@pytest.mark.parametrize("size", [2, 4, 256, 1024, 32768])
def test_ring_sizes(frontends, size):
    """Rings of all sizes, used until they have wrapped."""
    first = frontends("vm0", size=size, buffer_size=2048)
    second = frontends("vm1", size=256)
    exchange(first, second)
    burst = min(size, 32)
    for _ in range(3 * max(size, 64) // burst if size <= 1024 else 10):
        first.transmit(*[frame(1, 2)] * burst)
        assert len(second.receive(burst)) == burst
    for _ in range(2 * size if size < 64 else 10):
        second.transmit(frame(2, 1))
        assert len(first.receive(1)) == 1


@pytest.mark.parametrize("size", [1514, 4014, 9014])
def test_mergeable(frontends, size):
    """A packet larger than a buffer takes as many as it needs."""
    first = frontends("vm0", port={"mtu": 9000}, buffer_size=9216)
    second = frontends("vm1", port={"mtu": 9000}, buffer_size=256, size=256)
    second.transmit(frame(2, 1))
    first.receive(1)
    packet = frame(1, 2, payload=os.urandom(size - 14))
    for _ in range(5):
        first.transmit(packet)
        assert second.receive(1) == [packet]


def test_not_mergeable_too_large(switch, frontends):
    """Without mergeable buffers a packet that does not fit is dropped."""
    first = frontends("vm0", port={"mtu": 9000}, buffer_size=9216)
    second = frontends("vm1", port={"mtu": 9000}, features=bits(
        vhu.F_VERSION_1, vhu.F_PROTOCOL_FEATURES))
    exchange(first, second)
    before = switch.statistics("vm1")["tx_dropped"]
    first.transmit(frame(1, 2, 5000))
    first.flush()
    wait_for(lambda: switch.statistics("vm1")["tx_dropped"] == before + 1,
             what="one drop")
    assert not second.receive(1, timeout=0.1)
    exchange(first, second)


@pytest.mark.ours
def test_chains(frontends):
    """Chained and indirect descriptors, and headers of their own."""
    first, second = frontends("vm0"), frontends("vm1")
    exchange(first, second)
    vring = first.vrings[1]
    packet = frame(1, 2, payload=os.urandom(200))
    start = first.buffer(vring, vring.size - 1)
    first.ram[start:start + 12 + len(packet)] = bytes(12) + packet
    place = vhu.GUEST_BASE + start
    cuts = {"header apart": [12], "in the header": [5], "many": [1, 11, 12,
            13, 50, 51], "whole": []}
    first.reap(vring)
    for cut in cuts.values():
        edges = [0, *cut, 12 + len(packet)]
        parts = list(zip(edges, edges[1:]))
        # Direct, descriptors 0, 1, ...: all are free.
        assert len(first.reap(vring)) == vring.size
        for i, (low, high) in enumerate(parts):
            last = i == len(parts) - 1
            first.put_desc(vring, i, place + low, high - low,
                           0 if last else vhu.DESC_NEXT, 0 if last else i + 1)
        vring.free.remove(0)
        first.make_available(vring, [0])
        assert second.receive(1) == [packet]
        first.flush()
        # The same in an indirect table, at the place of another buffer.
        table = first.buffer(vring, vring.size - 2)
        for i, (low, high) in enumerate(parts):
            last = i == len(parts) - 1
            struct.pack_into("<QIHH", first.ram, table + 16 * i, place + low,
                             high - low, 0 if last else vhu.DESC_NEXT,
                             0 if last else i + 1)
        first.put_desc(vring, 0, vhu.GUEST_BASE + table, 16 * len(parts), 4)
        vring.free.remove(0)
        first.make_available(vring, [0])
        assert second.receive(1) == [packet]
        first.flush()


# Requests.

def test_rarp(switch, frontends):
    """SEND_RARP: the switch learns the address, others see the RARP."""
    first, second = frontends("vm0"), frontends("vm1")
    mac = bytes.fromhex("020000001234")
    first.must_set(vhu.SEND_RARP, mac + bytes(2))
    got = second.receive(1, accept=lambda p: p[12:14] == b"\x80\x35")
    assert got and got[0][:6] == b"\xff" * 6 and got[0][6:12] == mac
    assert got[0][14:22] == bytes.fromhex("0001080006040003")
    assert got[0][22:28] == got[0][32:38] == mac
    port = switch.vsctl("get", "Interface", "vm0", "ofport").strip()
    wait_for(lambda: any(
        line.split()[0] == port and mac.hex(":") in line
        for line in switch.appctl("fdb/show", "br0").splitlines()[1:]),
        what="the address in fdb/show")


@pytest.mark.ours
@pytest.mark.parametrize("mtu, good", [
    (67, False), (68, True), (1500, True), (65536, False), (1 << 40, False)])
def test_set_mtu(frontends, mtu, good):
    """A-04: NET_SET_MTU is acknowledged or refused."""
    first = frontends("vm0", start=False, features=bits(
        vhu.F_MTU, vhu.F_VERSION_1, vhu.F_PROTOCOL_FEATURES))
    first.connect().negotiate()
    assert first.features & bits(vhu.F_MTU)
    assert (first.set(vhu.NET_SET_MTU, struct.pack("<Q", mtu)) == 0) == good


@pytest.mark.ours
def test_split_at_any_byte(switch, frontends):
    """Messages may arrive one byte at a time."""
    first = frontends("vm0", start=False)
    first.connect()

    class Slow:
        """A socket that sends byte by byte; descriptors go with the first."""

        def __init__(self, sock):
            self.sock = sock

        def __getattr__(self, name):
            return getattr(self.sock, name)

        def sendall(self, data):
            """As socket.sendall()."""
            for i in range(len(data)):
                self.sock.sendall(data[i:i + 1])

        def sendmsg(self, buffers, *rest):
            """As socket.sendmsg(), which send_fds() uses."""
            data = b"".join(buffers)
            sent = self.sock.sendmsg([data[:1]], *rest)
            self.sendall(data[sent:])
            return len(data)

    first.sock = Slow(first.sock)
    first.start()
    switch.wait_link("vm0")
    exchange(first, frontends("vm1"))


@pytest.mark.ours
def test_memory_slots(frontends):
    """32 regions and more, added one by one, also twice, and removed."""
    wanted = bits(vhu.PF_MQ, vhu.PF_REPLY_ACK, vhu.PF_CONFIGURE_MEM_SLOTS)
    first = frontends("vm0", start=False, protocol_features=wanted,
                      memory=4 << 20)
    second = frontends("vm1")
    first.connect().negotiate()
    slots = first.ask(vhu.GET_MAX_MEM_SLOTS)
    assert slots >= 32
    size = first.memory // 32
    regions = [bytes(8) + first.region(i * size, size) for i in range(32)]
    for region in regions:
        # QEMU 7.2 says everything once for each queue pair.
        for _ in range(2):
            first.must_set(vhu.ADD_MEM_REG, region, [first.memfd])
    for vring in first.vrings:
        first.reset(vring)
        first.set_vring(vring)
        first.enable(vring.index)
    first.fill(first.vrings[0])
    os.eventfd_write(first.vrings[1].kick, 1)
    time.sleep(0.5)
    exchange(first, second)
    # Memory that no ring is in goes while the rings run.
    for region in regions[16:]:
        for _ in range(2):
            first.must_set(vhu.REM_MEM_REG, region)
    exchange(first, second)


def test_new_memory_table(frontends):
    """A new memory table takes over while the rings run."""
    first, second = frontends("vm0"), frontends("vm1")
    for _ in range(3):
        exchange(first, second)
        first.set_memory()
    exchange(first, second)


@pytest.mark.ours
def test_reset_device(switch, frontends):
    """Q-10: RESET_DEVICE stops everything; the front-end can start anew."""
    first, second = frontends("vm0"), frontends("vm1")
    exchange(first, second)
    first.must_set(vhu.RESET_DEVICE)
    switch.wait_link("vm0", up=False)
    first.start()
    switch.wait_link("vm0")
    exchange(first, second)


@pytest.mark.ours
def test_status_messages(frontends):
    """GET_STATUS returns what SET_STATUS said."""
    first = frontends("vm0", start=False, protocol_features=bits(
        vhu.PF_REPLY_ACK, vhu.PF_STATUS))
    first.connect().negotiate()
    first.must_set(vhu.SET_STATUS, struct.pack("<Q", 11))
    assert first.ask(vhu.GET_STATUS) == 11


@pytest.mark.ours
def test_order_does_not_matter(switch, frontends):
    """Memory may come last, after the rings are configured."""
    first = frontends("vm0", start=False)
    first.connect().negotiate()
    for vring in first.vrings:
        first.reset(vring)
        first.set_vring(vring)
        first.enable(vring.index)
    first.set_memory()
    first.fill(first.vrings[0])
    os.eventfd_write(first.vrings[1].kick, 1)
    switch.wait_link("vm0")
    exchange(first, frontends("vm1"))


def test_call_changes(frontends):
    """Q-11: the call descriptor may change while the ring runs."""
    first, second = frontends("vm0"), frontends("vm1")
    exchange(first, second)
    vring = first.vrings[0]
    new = os.eventfd(0, os.EFD_NONBLOCK)
    first.must_set(vhu.SET_VRING_CALL, struct.pack("<Q", 0), [new])
    os.eventfd_write(vring.call, 1)
    os.eventfd_read(vring.call)
    second.transmit(frame(2, 1))
    assert first.receive(1)
    assert os.eventfd_read(new) >= 1
    with pytest.raises(BlockingIOError):
        os.eventfd_read(vring.call)
    os.close(new)


def test_offered_features_stay(frontends):
    """What is offered is the same at each connection (R-03)."""
    first = frontends("vm0", start=False)
    offers = set()
    for _ in range(3):
        first.connect()
        offers.add((first.ask(vhu.GET_FEATURES),
                    first.ask(vhu.GET_PROTOCOL_FEATURES)))
    assert len(offers) == 1


def test_offered_everything(frontends):
    """What the README promises is offered."""
    first = frontends("vm0", start=False)
    first.connect()
    features = first.ask(vhu.GET_FEATURES)
    for number in (vhu.F_MTU, vhu.F_MRG_RXBUF, vhu.F_GUEST_ANNOUNCE, vhu.F_MQ,
                   vhu.F_INDIRECT_DESC, vhu.F_EVENT_IDX,
                   vhu.F_PROTOCOL_FEATURES, vhu.F_VERSION_1):
        assert features & bits(number), number
    protocol = first.ask(vhu.GET_PROTOCOL_FEATURES)
    for number in (vhu.PF_MQ, vhu.PF_RARP, vhu.PF_REPLY_ACK, vhu.PF_NET_MTU,
                   vhu.PF_BACKEND_REQ, vhu.PF_STATUS):
        assert protocol & bits(number), number
    first.send(vhu.SET_PROTOCOL_FEATURES, struct.pack("<Q", protocol))
    assert first.ask(vhu.GET_QUEUE_NUM) == 128


def test_descriptors_returned(switch, frontends):
    """Descriptors that came with messages are closed with the connection."""
    first = frontends("vm0")
    pair = socket.socketpair()
    # Whether it takes a socket for an error descriptor or not.
    first.set(vhu.SET_VRING_ERR, struct.pack("<Q", 0), [pair[1].fileno()])
    pair[1].close()
    first.disconnect()
    pair[0].settimeout(5)
    assert pair[0].recv(1) == b""
    pair[0].close()
    switch.wait_link("vm0", up=False)


def test_front_end_restarts(frontends):
    """A front-end that died in the middle goes on where its rings are."""
    first, second = frontends("vm0"), frontends("vm1")
    exchange(first, second)
    first.disconnect()
    first.connect()
    first.negotiate()
    first.set_memory()
    for vring in first.vrings:
        first.set_vring(vring, first.u16(vring.used + 2))
        first.enable(vring.index)
    time.sleep(1)
    first.make_available(first.vrings[0], [])
    exchange(first, second)


def test_second_front_end_fresh(switch):
    """R-02: what one front-end negotiated is forgotten for the next."""
    path = switch.path("vm0.sock")
    switch.add_port("vm0", path=path)
    for queues in (4, 1, 2):
        with Frontend(path, queues=queues) as guest:
            guest.connect().start()
            wait_for(lambda: switch.status("vm0").get("num_of_vrings")
                     == str(2 * queues), what=f"{queues} pairs")
        switch.wait_link("vm0", up=False)
