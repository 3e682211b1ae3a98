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
"""Peers that misbehave.  Two neighbours that exchange packets all the time
must not notice, and the switch must answer as fast as ever."""

import os
import random
import socket
import struct
import threading
import time

import frontend as vhu
import pytest
from frontend import Frontend, FrontendError, bits, frame
from switch import wait_for
from test_ports import exchange

pytestmark = pytest.mark.ours


@pytest.fixture(autouse=True)
def others_unharmed(switch, neighbours):
    """After whatever happens in a test, all is well for everybody else."""
    yield
    assert switch.answer_time() < 0.1
    switch.check_alive()
    neighbours.check()


def recovers(switch, name, path, server=True):
    """A good front-end can use the port that a bad one used."""
    with Frontend(path, server=server) as good:
        good.connect().start()
        switch.wait_link(name)
        good.transmit(*[frame(7, 8)] * 3)
        good.flush()


def attacks(switch, count, ports=8):
    """Yields 'count' connected front-ends for one attack each.

    They take turns at several ports, since a port whose connections do not
    last is slower and slower to take the next one."""
    paths = [switch.add_port(f"victim{i}") for i in range(ports)]
    for number in range(count):
        with Frontend(paths[number % ports], sealable=False) as guest:
            yield guest.connect()
    for number, path in enumerate(paths):
        recovers(switch, f"victim{number}", path)


# Memory.

@pytest.mark.parametrize("sealable", [False, True])
@pytest.mark.parametrize("size", [0, 4096])
def test_memory_truncated(switch, frontends, sealable, size):
    """H-01: the file behind the guest's memory is truncated in use."""
    victim = frontends("victim", sealable=sealable)
    other = frontends("friend")
    exchange(victim, other)
    stop = threading.Event()

    def keep_sending():
        while not stop.is_set():
            other.transmit(*[frame(2, 1)] * 8)
            time.sleep(0.001)
    thread = threading.Thread(target=keep_sending)
    thread.start()
    try:
        os.ftruncate(victim.memfd, size)
    except PermissionError:
        assert sealable         # We were faster, and sealed it.
    else:
        switch.wait_status("victim", "reason", "memory")
        assert not switch.link("victim")
    time.sleep(0.3)
    stop.set()
    thread.join()
    victim.disconnect()
    victim.listener.close()
    recovers(switch, "victim", victim.path)


def test_memory_truncated_often(switch, frontends):
    """The same again and again, at any time."""
    other = frontends("friend")
    for victim in attacks(switch, 16):
        victim.start()
        other.transmit(*[frame(2, 1)] * 16)
        time.sleep(random.random() / 50)
        os.ftruncate(victim.memfd, 0)
        other.transmit(*[frame(2, 1)] * 16)
        time.sleep(random.random() / 50)


def test_memory_hole(frontends):
    """A hole in the memory is legal: it reads as zeros."""
    victim = frontends("victim", memory=4 << 20)
    other = frontends("friend")
    exchange(victim, other)
    os.posix_fallocate(victim.memfd, 0, 4096)
    exchange(victim, other)


@pytest.mark.parametrize("what", [
    "past the end", "empty", "wraps", "overlaps", "no descriptor",
    "too many descriptors", "a pipe", "/dev/zero", "a directory", "a socket",
    "no regions", "nine regions"])
def test_memory_table_bad(frontends, what):
    """H-02 and HZ-02: memory tables that cannot be right are refused."""
    guest = frontends("victim", start=False)
    guest.connect().negotiate()
    good = guest.region()
    fds = [guest.memfd]
    count, regions = 1, good
    extra = []
    if what == "past the end":
        regions = guest.region(0, guest.memory + 4096)
    elif what == "empty":
        regions = struct.pack("<QQQQ", vhu.GUEST_BASE, 0, vhu.USER_BASE, 0)
    elif what == "wraps":
        regions = struct.pack("<QQQQ", (1 << 64) - 4096, 8192,
                              vhu.USER_BASE, 0)
    elif what == "overlaps":
        count, regions, fds = 2, good + good, fds * 2
    elif what == "no descriptor":
        fds = []
    elif what == "too many descriptors":
        fds = fds * 3
    elif what == "a pipe":
        extra = list(os.pipe())
        fds = extra[:1]
    elif what in ("/dev/zero", "a directory"):
        extra = [os.open("/" if what == "a directory" else what, os.O_RDONLY)]
        fds = extra
    elif what == "a socket":
        fds = [guest.sock.fileno()]
    elif what == "no regions":
        count, regions, fds = 0, b"", []
    elif what == "nine regions":
        size = 4096
        count, fds = 9, fds * 9
        regions = b"".join(guest.region(i * size, size) for i in range(9))
    try:
        assert guest.set(vhu.SET_MEM_TABLE, struct.pack("<II", count, 0)
                         + regions, fds) != 0
    except (FrontendError, ConnectionError):
        pass                    # Closing the connection is an answer, too.
    for fd in extra:
        os.close(fd)


# Notifications.

def blocking_eventfd():
    """An eventfd that blocks whoever writes to it."""
    fd = os.eventfd(0, os.EFD_CLOEXEC)
    os.eventfd_write(fd, (1 << 64) - 2)
    return fd


@pytest.mark.parametrize("when", ["at start", "later", "race"])
def test_call_blocks(switch, frontends, when):
    """H-03: a call descriptor that blocks the writer."""
    victim = frontends("victim")
    other = frontends("friend")
    exchange(victim, other)
    fd = blocking_eventfd()
    for index in (0, 1):
        victim.set(vhu.SET_VRING_CALL, struct.pack("<Q", index), [fd])
    stop = threading.Event()

    def clear_nonblock():
        while not stop.is_set():
            os.set_blocking(fd, True)
            time.sleep(0 if when == "race" else 0.01)
    thread = threading.Thread(target=clear_nonblock)
    if when != "at start":
        thread.start()
    for _ in range(50):
        other.transmit(frame(2, 1))
        victim.transmit(frame(1, 2))
        time.sleep(0.01)
        victim.take_received()
    assert switch.answer_time() < 0.1
    stop.set()
    if thread.ident:
        thread.join()
    os.close(fd)
    victim.disconnect()
    victim.connect().start()
    switch.wait_link("victim")


@pytest.mark.parametrize("kind", ["pipe", "full pipe", "tty", "socket",
                                  "file", "/dev/zero"])
@pytest.mark.parametrize("request_name", ["CALL", "KICK", "ERR"])
def test_wrong_descriptor(switch, frontends, kind, request_name):
    """HZ-04: call, kick and error descriptors that are no eventfds."""
    victim = frontends("victim")
    if "pipe" in kind:
        fds = list(os.pipe())
        if kind == "full pipe":
            os.set_blocking(fds[1], False)
            try:
                while True:
                    os.write(fds[1], bytes(4096))
            except BlockingIOError:
                os.set_blocking(fds[1], True)
    elif kind == "tty":
        fds = list(os.openpty())
    elif kind == "socket":
        fds = [sock.detach() for sock in socket.socketpair()]
    elif kind == "file":
        fds = [os.memfd_create("x")]
    else:
        fds = [os.open(kind, os.O_RDWR)]
    try:
        victim.set(getattr(vhu, f"SET_VRING_{request_name}"),
                   struct.pack("<Q", 0), fds[-1:])
    except (FrontendError, ConnectionError):
        pass
    time.sleep(0.1)
    for fd in fds:
        os.close(fd)
    assert switch.answer_time() < 0.1


def test_kick_flood(switch, frontends):
    """Kicks without end."""
    victim = frontends("victim")
    end = time.monotonic() + 1
    while time.monotonic() < end:
        for vring in victim.vrings:
            try:
                os.eventfd_write(vring.kick, 1)
            except BlockingIOError:
                pass
    assert switch.answer_time() < 0.1


# Messages.

def test_half_messages(switch, frontends):
    """H-04 and H-05: a message that begins and never ends."""
    path = switch.add_port("victim")
    for data in (b"\1", Frontend.message(vhu.SET_FEATURES, bytes(8))[:12],
                 Frontend.message(vhu.SET_FEATURES, bytes(8))[:14],
                 Frontend.message(vhu.SET_MEM_TABLE, bytes(40))[:51]):
        with Frontend(path) as victim:
            victim.connect()
            victim.sock.sendall(data)
            assert switch.answer_time() < 0.1
            # It is not for ever, and the next one has its chance.
            assert victim.closed(timeout=15)
    recovers(switch, "victim", path)


def test_cut_anywhere(switch):
    """HZ-14: the connection ends after any byte of a bring-up."""
    record = []

    class Recorder:
        """A socket that remembers what is sent."""

        def __init__(self, sock):
            self.sock = sock

        def __getattr__(self, name):
            return getattr(self.sock, name)

        def sendall(self, data):
            """As socket.sendall()."""
            record.append((data, []))
            self.sock.sendall(data)

        def sendmsg(self, buffers, *rest):
            """As socket.sendmsg(), which send_fds() uses."""
            record.append((b"".join(buffers), list(rest)))
            return self.sock.sendmsg(buffers, *rest)

    for number, guest in enumerate(attacks(switch, 60)):
        if number == 0:
            guest.sock = Recorder(guest.sock)
            guest.start()
            cuts = random.sample(range(sum(len(d) for d, _ in record)), 60)
            continue
        cut = cuts[number]
        for data, rest in record:
            data = data[:cut]
            cut -= len(data)
            if not data:
                break
            try:
                guest.sock.sendmsg([data])
            except OSError:
                break


def test_many_connections(switch, frontends):
    """H-06: 1500 connections to one server socket."""
    before = switch.resources()
    path = switch.add_port("victim", server=True)
    held = []
    for _ in range(1500):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(0.01)
        try:
            sock.connect(path)
        except OSError:
            pass
        held.append(sock)
    assert switch.answer_time() < 0.1
    sockets = switch.resources().get("socket", 0) - before.get("socket", 0)
    assert sockets < 10
    other = frontends("friend", server=False)
    assert other.sock
    for sock in held:
        sock.close()
    recovers(switch, "victim", path, server=False)


def test_many_fds(switch, frontends):
    """HZ-03: messages full of descriptors."""
    before = switch.resources().get("socket", 0)
    paths = []
    for guest in attacks(switch, 16):
        paths.append(guest.path)
        held = socket.socketpair()
        fds = [os.dup(held[0].fileno()) for _ in range(250)]
        try:
            guest.send(vhu.SET_VRING_CALL, struct.pack("<Q", 0), fds)
            guest.send(vhu.SET_OWNER, b"", fds)
            guest.send(99, b"", fds)
        except OSError:
            pass
        for fd in fds:
            os.close(fd)
        held[0].close()
        # Nobody else has the other end any more.
        held[1].settimeout(10)
        assert held[1].recv(1) == b""
        held[1].close()
    for number in range(8):
        switch.del_port(f"victim{number}")
    wait_for(lambda: switch.resources().get("socket", 0) <= before,
             what="sockets closed")
    exchange(frontends("one"), frontends("two"))


def test_not_negotiated(switch):
    """H-07: requests whose feature was never negotiated."""
    inflight = struct.pack("<QQHHI", 0, 0, 256, 32768, 0)
    requests = [
        (vhu.GET_INFLIGHT_FD, inflight), (vhu.SEND_RARP, bytes(8)),
        (vhu.GET_QUEUE_NUM, b""), (vhu.GET_STATUS, b""),
        (vhu.NET_SET_MTU, struct.pack("<Q", 1500)),
        (vhu.ADD_MEM_REG, bytes(40)), (vhu.SET_LOG_BASE, bytes(16)),
        (22, bytes(32)), (24, bytes(268)), (28, b""), (44, b"")]
    for guest, request in zip(attacks(switch, 99), requests):
        guest.send(*request)
        assert guest.closed(), request


def test_malformed(switch):
    """HZ-28: wrong versions, flags and sizes."""
    messages = [
        Frontend.message(1, b"", 0), Frontend.message(1, b"", 5),
        Frontend.message(1, b"", 2), Frontend.message(1, b"x"),
        Frontend.message(0), Frontend.message(2, bytes(7)),
        Frontend.message(2, bytes(9)), Frontend.message(9, bytes(39)),
        struct.pack("<III", 2, 1, 0xffffffff),
        struct.pack("<III", 0xffffffff, 1, 8)]
    for guest, data in zip(attacks(switch, 99), messages):
        guest.sock.sendall(data)
        assert guest.closed(timeout=15), data


def test_random_messages(switch):
    """Noise, before and after the features are negotiated."""
    generator = random.Random(1)
    for number, guest in enumerate(attacks(switch, 48)):
        try:
            if number % 2:
                guest.negotiate()
            for _ in range(100):
                size = generator.choice([0, 8, 8, 16, 24, 40, 72])
                small = struct.pack("<QQ", generator.randrange(4),
                                    generator.randrange(1 << 16))
                guest.send(generator.randrange(45),
                           (small + generator.randbytes(72))[:size],
                           [guest.memfd] * generator.choice([0, 0, 1]),
                           vhu.VERSION | vhu.NEED_REPLY)
                guest.sock.settimeout(0.01)
                try:
                    guest.sock.recv(65536)
                except TimeoutError:
                    pass
        except (OSError, FrontendError):
            pass


@pytest.mark.parametrize("request_number, payload", [
    (vhu.SET_VRING_ENABLE, struct.pack("<II", 0, 1)),
    (vhu.SEND_RARP, bytes(8)),
    (vhu.SET_OWNER, b"")])
def test_message_flood(switch, frontends, request_number, payload):
    """HZ-15: messages without end."""
    victim = frontends("victim")
    data = Frontend.message(request_number, payload) * 500
    victim.sock.settimeout(0.2)
    end = time.monotonic() + 2
    times = []
    while time.monotonic() < end:
        try:
            victim.sock.sendall(data)
        except (TimeoutError, OSError):
            break
        if not times or time.monotonic() - times[-1] > 0.5:
            assert switch.answer_time() < 0.1
            times.append(time.monotonic())


def test_queue_flood(switch, frontends):
    """HZ-15, Q-12: a guest starts and stops its second queue pair all the
    time.

    Each change of their number stops all PMD threads."""
    victim = frontends("victim", queues=2)
    other = frontends("friend")
    before = switch.log().count("pmd to rx queue assignment")
    end = time.monotonic() + 3
    count = 0
    while time.monotonic() < end:
        for vring in victim.vrings[2:]:
            victim.stop(vring.index)
        for vring in victim.vrings[2:]:
            victim.reset(vring)
            victim.set_vring(vring)
        count += 1
    assert count > 50
    changes = switch.log().count("pmd to rx queue assignment") - before
    assert changes < 20, f"{changes} times"
    wait_for(lambda: switch.rxqs()["victim"] == {0: True, 1: True},
             what="two queues")
    victim.enable(2, False)
    switch.answer_time()        # After the switch has taken note.
    exchange(victim, other)


def test_replies_not_read(switch, frontends):
    """HZ-05: a peer that asks and never listens."""
    victim = frontends("victim")
    victim.sock.settimeout(0.2)
    data = Frontend.message(vhu.GET_FEATURES) * 100
    try:
        for _ in range(1000):
            victim.sock.sendall(data)
    except OSError:
        pass
    assert switch.answer_time() < 0.1
    victim.connect().start()
    switch.wait_link("victim")


def test_connect_flood(switch):
    """A peer that comes and goes as fast as it can."""
    path = switch.add_port("victim", server=True)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(0.1)
            try:
                sock.connect(path)
            except OSError:
                pass
    assert switch.answer_time() < 0.1
    recovers(switch, "victim", path, server=False)


# Rings.

def bad_rings():
    """Names and functions that spoil the transmitq of a front-end."""
    def put(guest, *descriptors, heads=(0,)):
        vring = guest.vrings[1]
        for number, descriptor in enumerate(descriptors):
            guest.put_desc(vring, number, *descriptor)
        guest.make_available(vring, list(heads))

    def index_jump(guest):
        vring = guest.vrings[1]
        guest.put_u16(vring.avail + 2, vring.next_avail + 1000)

    def indirect(guest, table_flags, size=16, length=64):
        vring = guest.vrings[1]
        table = guest.buffer(vring, 5)
        struct.pack_into("<QIHH", guest.ram, table, vhu.GUEST_BASE + table,
                         length, table_flags, 0)
        put(guest, (vhu.GUEST_BASE + table, size, 4))

    inside = vhu.GUEST_BASE
    return {
        "loop": lambda g: put(g, (inside, 64, vhu.DESC_NEXT, 1),
                              (inside, 64, vhu.DESC_NEXT, 0)),
        "loop to itself": lambda g: put(g, (inside, 64, vhu.DESC_NEXT, 0)),
        "next out of range": lambda g: put(g, (inside, 64, vhu.DESC_NEXT,
                                               9999)),
        "head out of range": lambda g: put(g, heads=(9999,)),
        "outside memory": lambda g: put(g, (1 << 50, 64, 0)),
        "across the end": lambda g: put(
            g, (inside + g.memory - 10, 64, 0)),
        "wraps": lambda g: put(g, ((1 << 64) - 10, 64, 0)),
        "4 GiB": lambda g: put(g, (inside, 0xffffffff, 0)),
        "empty": lambda g: put(g, (inside, 0, 0)),
        "shorter than the header": lambda g: put(g, (inside, 5, 0)),
        "header only": lambda g: put(g, (inside, 12, 0)),
        "13 bytes of packet": lambda g: put(g, (inside, 25, 0)),
        "writable": lambda g: put(g, (inside, 64, vhu.DESC_WRITE)),
        "64 KiB packet": lambda g: put(g, (inside, 65550, 0)),
        "index jump": index_jump,
        "indirect in indirect": lambda g: indirect(g, 4),
        "indirect odd size": lambda g: indirect(g, 0, size=17),
        "indirect empty": lambda g: indirect(g, 0, size=0),
        "indirect huge": lambda g: indirect(g, 0, size=0xfffffff0),
        "indirect loop": lambda g: indirect(g, vhu.DESC_NEXT),
        "ring as data": lambda g: put(
            g, (inside + g.vrings[1].desc, 128, 0)),
    }


@pytest.mark.parametrize("name", bad_rings())
def test_bad_ring(switch, frontends, name):
    """HZ-06 to HZ-10: rings that make no sense."""
    victim = frontends("victim", memory=1 << 20)
    for _ in range(3):
        bad_rings()[name](victim)
    time.sleep(0.1)
    assert switch.answer_time() < 0.1
    # A fresh start makes all well again.
    victim.connect().start()
    switch.wait_link("victim")
    other = frontends("friend")
    exchange(victim, other)


def test_ring_changes_while_used(switch, frontends):
    """HZ-11 and HZ-13: ring memory that changes all the time."""
    victim = frontends("victim")
    other = frontends("friend")
    exchange(victim, other)
    generator = random.Random(2)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        vring = victim.vrings[generator.randrange(2)]
        what = generator.randrange(3)
        if what == 0:
            victim.ram[vring.desc:vring.avail] = generator.randbytes(
                vring.avail - vring.desc)
        elif what == 1:
            victim.ram[vring.desc:vring.buffers] = bytes(
                vring.buffers - vring.desc)
        else:
            victim.put_u16(vring.avail + 2, generator.randrange(1 << 16))
        other.transmit(frame(2, 1))
        if generator.randrange(100) == 0:
            victim.connect().start()
    victim.connect().start()
    switch.wait_link("victim")
    exchange(victim, other)


def test_ring_areas_bad(switch):
    """Ring addresses that are outside memory or not aligned."""
    cases = [(field, value) for field in (2, 3, 4) for value in (
        0, vhu.USER_BASE - 4096, 1 << 63, (1 << 64) - 16, "end",
        vhu.USER_BASE + 1)]
    for guest, (field, value) in zip(attacks(switch, 99), cases):
        guest.negotiate()
        guest.set_memory()
        vring = guest.vrings[0]
        address = [0, 0, vhu.USER_BASE + vring.desc,
                   vhu.USER_BASE + vring.used,
                   vhu.USER_BASE + vring.avail, 0]
        address[field] = (vhu.USER_BASE + guest.memory - 8 if value == "end"
                          else value)
        guest.must_set(vhu.SET_VRING_NUM, struct.pack("<II", 0, 64))
        try:
            guest.set(vhu.SET_VRING_BASE, bytes(8))
            guest.set(vhu.SET_VRING_ADDR, struct.pack("<IIQQQQ", *address))
            guest.set(vhu.SET_VRING_KICK, struct.pack("<Q", 0), [vring.kick])
            guest.enable(0)
        except (FrontendError, ConnectionError):
            pass


@pytest.mark.parametrize("size", [0, 3, 100, 65536, 0xffffffff])
def test_ring_size_bad(frontends, size):
    """Ring sizes that the specification forbids."""
    guest = frontends("victim", start=False)
    guest.connect().negotiate()
    try:
        assert guest.set(vhu.SET_VRING_NUM, struct.pack("<II", 0, size))
    except (FrontendError, ConnectionError):
        pass


@pytest.mark.parametrize("index", [256, 1000, 0xffffffff])
def test_ring_index_bad(frontends, index):
    """Vrings that do not exist."""
    guest = frontends("victim", start=False, protocol_features=bits(
        vhu.PF_REPLY_ACK, vhu.PF_MQ))
    for request in (vhu.SET_VRING_NUM, vhu.SET_VRING_BASE,
                    vhu.SET_VRING_ENABLE, vhu.SET_VRING_ADDR,
                    vhu.GET_VRING_BASE):
        guest.connect().negotiate()
        payload = struct.pack("<II", index, 1)
        if request == vhu.SET_VRING_ADDR:
            payload += bytes(32)
        try:
            assert guest.set(request, payload)
        except (FrontendError, ConnectionError):
            pass


def test_many_bad_peers(switch, frontends):
    """HZ-29: everything at once."""
    paths = [switch.add_port(f"bad{i}") for i in range(4)]
    stop = threading.Event()

    def misbehave(path, seed):
        generator = random.Random(seed)
        with Frontend(path, sealable=False) as guest:
            while not stop.is_set():
                try:
                    guest.connect(timeout=2)
                    if generator.randrange(2):
                        guest.start()
                        generator.choice(list(bad_rings().values()))(guest)
                    for _ in range(generator.randrange(50)):
                        guest.send(generator.randrange(45),
                                   generator.randbytes(8))
                except (OSError, FrontendError, struct.error):
                    pass
    threads = [threading.Thread(target=misbehave, args=(path, seed))
               for seed, path in enumerate(paths)]
    for thread in threads:
        thread.start()
    for _ in range(6):
        time.sleep(0.5)
        assert switch.answer_time() < 0.1
    stop.set()
    for thread in threads:
        thread.join()
    exchange(frontends("one"), frontends("two"))
