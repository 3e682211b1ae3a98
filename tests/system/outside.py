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
"""The network around a guest: a host behind the local port of a switch, that
pings, keeps TCP connections and listens to who announces itself.

It is this process, with sockets in the network namespace of the switch."""

import collections
import ctypes
import hashlib
import random
import select
import socket
import struct
import subprocess
import threading
import time

CLONE_NEWNET = 0x40000000
ETH_P_ALL = 3
RARP, ARP, IPV6 = 0x8035, 0x806, 0x86dd


class OutsideError(Exception):
    """What came from the guest is not what should have come."""


class Namespace:
    """The network namespace of another process."""

    def __init__(self, pid):
        self.pid = pid

    def run(self, *command):
        """Executes a command there and returns what it printed."""
        return subprocess.run(
            ["nsenter", "-t", str(self.pid), "-n", *command], check=True,
            timeout=20, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE).stdout

    def socket(self, *args):
        """A socket that is in that namespace, for whatever thread."""
        made = []

        def make():
            libc = ctypes.CDLL(None, use_errno=True)
            with open(f"/proc/{self.pid}/ns/net", "rb") as file:
                if libc.setns(file.fileno(), CLONE_NEWNET):
                    made.append(OSError(ctypes.get_errno(), "setns"))
                    return
            made.append(socket.socket(*args))
        # Only the thread that asks for it changes its namespace.
        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        return made[0]


class Worker(threading.Thread):
    """A thread that ends when told, and whose error is not lost."""

    def __init__(self):
        super().__init__(daemon=True)
        self.ending = False
        self.error = None

    def run(self):
        try:
            while not self.ending:
                self.step()
        except Exception as error:      # pylint: disable=broad-except
            self.error = error

    def step(self):
        """Does a little, within a fraction of a second."""
        raise NotImplementedError

    def stop(self):
        """Ends the thread."""
        self.ending = True
        if self.ident is not None:
            self.join(20)

    def check(self):
        """Raises the error of the thread, if it had one."""
        if self.error:
            raise self.error


class Pings(Worker):
    """Numbered echo requests, one every 'interval' seconds."""

    def __init__(self, namespace, address, interval=0.01):
        super().__init__()
        self.sock = namespace.socket(socket.AF_INET, socket.SOCK_RAW,
                                     socket.IPPROTO_ICMP)
        self.sock.connect((address, 0))
        self.interval = interval
        self.ident16 = random.randrange(1, 65536)
        self.sent = []          # When each was sent.
        self.answers = []       # How many answers each has.
        self.when = []          # When answers came.
        self.next = time.monotonic()
        self.start()

    def step(self):
        now = time.monotonic()
        if now >= self.next:
            self.send(now)
            # After a pause of this machine there is nothing to catch up on.
            self.next = max(self.next + self.interval, now)
        left = max(self.next - now, 0)
        if select.select([self.sock], [], [], left)[0]:
            self.receive()

    def send(self, now):
        """Sends the next request."""
        number = len(self.sent)
        body = struct.pack(">HHI", self.ident16, number & 0xffff, number)
        body = body.ljust(56, b"\xa5")
        total = sum(struct.unpack(f">{len(body) // 2}H", body)) + 0x0800
        total = (total & 0xffff) + (total >> 16)
        total = (total & 0xffff) + (total >> 16)
        self.sent.append(now)
        self.answers.append(0)
        try:
            self.sock.send(struct.pack(">BBH", 8, 0, ~total & 0xffff) + body)
        except OSError:
            pass                # Then there is no answer, either.

    def receive(self):
        """Takes an answer."""
        packet = self.sock.recv(2048)[20:]
        kind, _, _, ident, _, number = struct.unpack_from(">BBHHHI", packet)
        if kind == 0 and ident == self.ident16 and number < len(self.sent):
            self.answers[number] += 1
            self.when.append(time.monotonic())

    def between(self, first, last):
        """Lost and duplicate answers to requests 'first' to 'last' - 1, and
        the longest time in seconds in which no answer came."""
        answers = self.answers[first:last]
        start, end = self.sent[first], self.sent[last - 1]
        times = [start] + [t for t in self.when if start < t < end] + [end]
        return (sum(not n for n in answers), sum(n > 1 for n in answers),
                max(b - a for a, b in zip(times, times[1:])))

    def wait_answered(self, timeout=20):
        """Waits until a request that is sent from now on is answered."""
        first = len(self.sent)
        deadline = time.monotonic() + timeout
        while not any(self.answers[first:]):
            self.check()
            if time.monotonic() > deadline:
                raise OutsideError(f"no answer to a ping in {timeout} s")
            time.sleep(0.01)


class Echo(Worker):
    """A TCP connection to a guest's echo server.  What comes back must be
    what was sent, to the byte."""

    CHUNK = 8192

    def __init__(self, namespace, address, port=7, rate=1 << 20,
                 window=128 * 1024, seed=1):
        super().__init__()
        self.sock = connect(namespace, address, port)
        self.sock.setblocking(False)
        self.rate = rate        # Bytes per second.
        self.window = window    # Bytes that may be under way.
        self.random = random.Random(seed)
        self.unsent = b""
        self.expected = collections.deque()
        self.under_way = 0
        self.sent = 0
        self.received = 0
        self.next = time.monotonic()
        self.start()

    def step(self):
        now = time.monotonic()
        if (not self.unsent and now >= self.next
                and self.under_way + self.CHUNK <= self.window):
            self.unsent = self.random.randbytes(self.CHUNK)
            self.next = max(self.next + self.CHUNK / self.rate, now - 0.1)
        readable, writable, _ = select.select(
            [self.sock], [self.sock] if self.unsent else [], [],
            min(max(self.next - now, 0.001), 0.05))
        if writable:
            count = self.sock.send(self.unsent)
            self.expected.append(self.unsent[:count])
            self.unsent = self.unsent[count:]
            self.under_way += count
            self.sent += count
        if readable:
            self.receive(self.sock.recv(65536))

    def receive(self, data):
        """Compares what came with what must come."""
        if not data:
            raise OutsideError("the guest closed the connection")
        while data:
            if not self.expected:
                raise OutsideError("more came back than was sent")
            want = self.expected.popleft()
            part, data = data[:len(want)], data[len(want):]
            if part != want[:len(part)]:
                raise OutsideError(f"not what was sent, near byte "
                                   f"{self.received} of the connection")
            if len(part) < len(want):
                self.expected.appendleft(want[len(part):])
            self.received += len(part)
            self.under_way -= len(part)

    def wait_progress(self, count=65536, timeout=40):
        """Waits until 'count' more bytes came back."""
        goal = self.received + count
        deadline = time.monotonic() + timeout
        while self.received < goal:
            self.check()
            if time.monotonic() > deadline:
                raise OutsideError(
                    f"the connection stands still: in {timeout} s "
                    f"{count - goal + self.received} bytes came back, "
                    f"{self.under_way} are under way")
            time.sleep(0.01)


class Pour(Worker):
    """A TCP connection into which as much goes as the guest takes; of what
    there is in it, there is a checksum.  A guest that does not read has it in
    buffers into which nobody but the switch has written."""

    def __init__(self, namespace, address, port=9, seed=1):
        super().__init__()
        self.sock = connect(namespace, address, port)
        self.sock.setblocking(False)
        self.random = random.Random(seed)
        self.unsent = b""
        self.sent = 0
        self.sum = hashlib.sha256()
        self.start()

    def step(self):
        if not self.unsent:
            self.unsent = self.random.randbytes(65536)
        if select.select([], [self.sock], [], 0.05)[1]:
            count = self.sock.send(self.unsent)
            self.sum.update(self.unsent[:count])
            self.unsent = self.unsent[count:]
            self.sent += count

    def finish(self):
        """Ends the stream; returns the checksum of all of it."""
        self.stop()
        self.check()
        self.sock.shutdown(socket.SHUT_WR)
        return self.sum.hexdigest()


class Fetch(Worker):
    """Gets a file from a guest's web server, again and again, and insists
    that it is the same each time."""

    def __init__(self, namespace, address, name="known", port=80):
        super().__init__()
        self.namespace = namespace
        self.address = address
        self.port = port
        self.request = f"GET /{name} HTTP/1.0\r\n\r\n".encode()
        self.sum = None
        self.times = 0
        self.sock = None
        self.start()

    def step(self):
        total = hashlib.sha256()
        size = 0
        with connect(self.namespace, self.address, self.port,
                     timeout=40) as self.sock:
            self.sock.sendall(self.request)
            with self.sock.makefile("rb") as stream:
                while stream.readline().strip():
                    pass
                while data := stream.read(65536):
                    if self.ending:
                        return
                    total.update(data)
                    size += len(data)
        if not size or total.digest() != (self.sum or total.digest()):
            raise OutsideError(f"file of {size} bytes is not what it was")
        self.sum = total.digest()
        self.times += 1


def connect(namespace, address, port, timeout=20):
    """A TCP connection to a guest, as soon as somebody listens there."""
    deadline = time.monotonic() + timeout
    while True:
        sock = namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        try:
            sock.connect((address, port))
            return sock
        except OSError as err:
            sock.close()
            if time.monotonic() > deadline:
                raise OutsideError(f"{address}:{port}: {err}") from err
            time.sleep(0.05)


class Announcements(Worker):
    """Who announces itself: what comes out of an internal port."""

    def __init__(self, namespace, device):
        super().__init__()
        self.sock = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW,
                                     socket.htons(ETH_P_ALL))
        self.sock.bind((device, 0))
        self.sock.settimeout(0.05)
        self.seen = []          # (when, "RARP" or "guest", address).
        self.start()

    def step(self):
        try:
            packet, address = self.sock.recvfrom(2048)
        except TimeoutError:
            return
        if address[2] == socket.PACKET_OUTGOING or len(packet) < 42:
            return
        kind = int.from_bytes(packet[12:14], "big")
        if kind == RARP:
            name = "RARP"
        elif kind == ARP and packet[28:32] == packet[38:42]:
            name = "guest"
        else:
            return
        self.seen.append((time.monotonic(), name, packet[6:12].hex(":")))

    def since(self, when, mac):
        """Kinds of announcements of 'mac' since then, and when they came."""
        return [(kind, time_ - when) for time_, kind, who in self.seen
                if time_ >= when and who == mac]


class Outside:
    """All that there is around the guests of one switch."""

    ADDRESS = "10.0.0.254"

    def __init__(self, switch):
        self.switch = switch
        self.namespace = Namespace(switch.daemon.pid)
        self.namespace.run("ip", "addr", "add", self.ADDRESS + "/24",
                           "dev", "br0")
        self.namespace.run("ip", "link", "set", "br0", "up")
        switch.vsctl("add-port", "br0", "ear", "--", "set", "Interface",
                     "ear", "type=internal")
        self.namespace.run("ip", "link", "set", "ear", "up")
        self.ear = Announcements(self.namespace, "ear")
        self.workers = [self.ear]

    def ping(self, address, **kwargs):
        """Starts to ping."""
        return self.add(Pings(self.namespace, address, **kwargs))

    def echo(self, address, **kwargs):
        """Starts a connection to an echo server."""
        return self.add(Echo(self.namespace, address, **kwargs))

    def pour(self, address, **kwargs):
        """Starts a connection to a server that listens, and perhaps reads."""
        return self.add(Pour(self.namespace, address, **kwargs))

    def fetch(self, address, **kwargs):
        """Starts to get a file again and again."""
        return self.add(Fetch(self.namespace, address, **kwargs))

    def add(self, worker):
        """Remembers what runs."""
        self.workers.append(worker)
        return worker

    def remove(self, worker):
        """Ends one of them."""
        worker.stop()
        if worker.sock:
            worker.sock.close()
        self.workers.remove(worker)

    def close(self):
        """Ends everything."""
        for worker in list(self.workers):
            self.remove(worker)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
