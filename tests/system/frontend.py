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
"""A small vhost-user front-end with split rings, from the specifications.

It shares no code with the back-end under test.  Tests use it where a VM or
testpmd would be too slow, too big or too well-behaved: each message can be
sent by itself, whole, in part, or wrong.
"""

import mmap
import os
import select
import socket
import struct
import time

# Requests of the front-end.
GET_FEATURES, SET_FEATURES, SET_OWNER, RESET_OWNER, SET_MEM_TABLE, \
    SET_LOG_BASE, SET_LOG_FD, SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, \
    GET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR, \
    GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM, \
    SET_VRING_ENABLE, SEND_RARP, NET_SET_MTU, SET_BACKEND_REQ_FD = \
    range(1, 22)
GET_INFLIGHT_FD = 31
RESET_DEVICE = 34
GET_MAX_MEM_SLOTS, ADD_MEM_REG, REM_MEM_REG, SET_STATUS, GET_STATUS = \
    range(36, 41)

# Header flags.
VERSION, REPLY, NEED_REPLY = 1, 4, 8

# Feature bits.
F_MTU, F_MRG_RXBUF, F_GUEST_ANNOUNCE, F_MQ = 3, 15, 21, 22
F_INDIRECT_DESC, F_EVENT_IDX, F_PROTOCOL_FEATURES, F_VERSION_1 = 28, 29, 30, 32

# Protocol feature bits.
PF_MQ, PF_LOG_SHMFD, PF_RARP, PF_REPLY_ACK, PF_NET_MTU, PF_BACKEND_REQ = \
    range(6)
PF_INFLIGHT_SHMFD, PF_RESET_DEVICE, PF_CONFIGURE_MEM_SLOTS, PF_STATUS = \
    12, 13, 15, 16

DESC_NEXT, DESC_WRITE = 1, 2
USER_BASE = 0x7f0000000000      # Where our memory is, in user addresses.
GUEST_BASE = 0x100000           # The same, in guest addresses.


def bits(*numbers):
    """A mask with these bits."""
    return sum(1 << number for number in numbers)


class FrontendError(Exception):
    """The back-end did not do what the specification says."""


class Vring:
    """One split ring, the driver's side of it."""

    def __init__(self, index, size, offset, buffer_size):
        self.index = index
        self.size = size
        self.desc = offset
        self.avail = offset + 16 * size
        self.used = (self.avail + 6 + 2 * size + 3) & ~3
        self.buffers = (self.used + 6 + 8 * size + 4095) & ~4095
        self.buffer_size = buffer_size
        self.end = (self.buffers + size * buffer_size + 4095) & ~4095
        self.kick = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.call = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.free = list(range(size))
        self.next_avail = 0
        self.last_used = 0

    def close(self):
        """Closes the eventfds."""
        os.close(self.kick)
        os.close(self.call)


class Frontend:
    """A front-end on one socket.

    'features' and 'protocol_features' are masks of what is wanted of what
    the back-end offers; None is a sensible default.  By default the device
    of virtio 1 with one queue pair and mergeable receive buffers."""

    def __init__(self, path, server=True, queues=1, size=64, features=None,
                 protocol_features=None, buffer_size=2048, memory=None,
                 sealable=True):
        self.path = path
        self.server = server
        self.wanted = features if features is not None else bits(
            F_MRG_RXBUF, F_MQ, F_INDIRECT_DESC, F_PROTOCOL_FEATURES,
            F_VERSION_1)
        self.wanted_protocol = protocol_features \
            if protocol_features is not None else bits(
                PF_MQ, PF_REPLY_ACK, PF_RARP, PF_NET_MTU, PF_RESET_DEVICE)
        self.features = 0
        self.protocol_features = 0
        self.sock = None
        self.listener = None
        self.vrings = []
        offset = 0
        for index in range(2 * queues):
            vring = Vring(index, size, offset, buffer_size)
            self.vrings.append(vring)
            offset = vring.end
        self.memory = max(memory or 0, offset)
        self.memfd = os.memfd_create(
            "guest", os.MFD_CLOEXEC | (os.MFD_ALLOW_SEALING if sealable
                                       else 0))
        os.ftruncate(self.memfd, self.memory)
        self.ram = mmap.mmap(self.memfd, self.memory)
        # For the indexes: struct.pack_into() writes a zero first, and that
        # the other side might see.
        self.words = memoryview(self.ram).cast("H")
        if server:
            self.listen()

    # Socket.

    def listen(self):
        """Starts to listen, as a server."""
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(8)

    def connect(self, timeout=10):
        """Waits for the connection, in either socket mode."""
        self.disconnect()
        deadline = time.monotonic() + timeout
        if self.server:
            self.listener.settimeout(timeout)
            self.sock, _ = self.listener.accept()
        while self.sock is None:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(self.path)
                self.sock = sock
            except OSError:
                sock.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self.sock.settimeout(timeout)
        return self

    def disconnect(self):
        """Closes the connection; a server goes on listening."""
        if self.sock:
            self.sock.close()
            self.sock = None

    def close(self):
        """Ends everything, as the end of the process would."""
        self.disconnect()
        if self.listener:
            self.listener.close()
            self.listener = None
            if os.path.exists(self.path):
                os.unlink(self.path)
        for vring in self.vrings:
            vring.close()
        self.vrings = []
        if self.memfd >= 0:
            self.words.release()
            self.ram.close()
            os.close(self.memfd)
            self.memfd = -1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # Messages.

    @staticmethod
    def message(request, payload=b"", flags=VERSION):
        """The bytes of a message."""
        return struct.pack("<III", request, flags, len(payload)) + payload

    def send(self, request, payload=b"", fds=(), flags=VERSION):
        """Sends one message."""
        data = self.message(request, payload, flags)
        if fds:
            socket.send_fds(self.sock, [data], list(fds))
        else:
            self.sock.sendall(data)

    def receive_exactly(self, size):
        """Reads 'size' bytes."""
        data = b""
        while len(data) < size:
            more = self.sock.recv(size - len(data))
            if not more:
                raise FrontendError("the back-end closed the connection")
            data += more
        return data

    def reply(self, request):
        """Reads the reply to 'request' and returns its payload."""
        number, flags, size = struct.unpack("<III", self.receive_exactly(12))
        payload = self.receive_exactly(size)
        if number != request or flags != VERSION | REPLY:
            raise FrontendError(f"reply {number} with flags {flags:#x} "
                                f"to request {request}")
        return payload

    def ask(self, request, payload=b"", fds=()):
        """Sends a request that has a reply; returns that, one u64."""
        self.send(request, payload, fds)
        return struct.unpack("<Q", self.reply(request))[0]

    def set(self, request, payload=b"", fds=()):
        """Sends a request that has none, and makes sure that it was taken.

        Returns the value of the ack, 0 if there was none."""
        if self.protocol_features & bits(PF_REPLY_ACK):
            self.send(request, payload, fds, VERSION | NEED_REPLY)
            return struct.unpack("<Q", self.reply(request))[0]
        self.send(request, payload, fds)
        return 0

    def must_set(self, request, payload=b"", fds=()):
        """As set(), and insists on success."""
        if self.set(request, payload, fds):
            raise FrontendError(f"the back-end refuses request {request}")

    def closed(self, timeout=5):
        """True if the back-end closes the connection in time."""
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                return False
            try:
                if not self.sock.recv(4096):
                    return True
            except ConnectionResetError:
                return True

    # Bring-up.

    def negotiate(self):
        """Everything up to the features."""
        offered = self.ask(GET_FEATURES)
        if offered & bits(F_PROTOCOL_FEATURES):
            self.protocol_features = (self.ask(GET_PROTOCOL_FEATURES)
                                      & self.wanted_protocol)
            self.send(SET_PROTOCOL_FEATURES,
                      struct.pack("<Q", self.protocol_features))
        self.must_set(SET_OWNER)
        self.features = offered & self.wanted
        self.must_set(SET_FEATURES, struct.pack("<Q", self.features))
        return offered

    def region(self, offset=0, size=None):
        """The description of a part of our memory, as one region."""
        return struct.pack("<QQQQ", GUEST_BASE + offset,
                           size or self.memory - offset, USER_BASE + offset,
                           offset)

    def set_memory(self):
        """Shares our memory, as one region."""
        if self.protocol_features & bits(PF_CONFIGURE_MEM_SLOTS):
            self.must_set(ADD_MEM_REG, bytes(8) + self.region(), [self.memfd])
        else:
            self.must_set(SET_MEM_TABLE, struct.pack("<II", 1, 0)
                          + self.region(), [self.memfd])

    def set_vring(self, vring, base=0):
        """Configures a vring and so starts it."""
        state = struct.pack("<II", vring.index, vring.size)
        self.must_set(SET_VRING_NUM, state)
        self.must_set(SET_VRING_BASE, struct.pack("<II", vring.index, base))
        self.must_set(SET_VRING_ADDR, struct.pack(
            "<IIQQQQ", vring.index, 0, USER_BASE + vring.desc,
            USER_BASE + vring.used, USER_BASE + vring.avail, 0))
        index = struct.pack("<Q", vring.index)
        self.must_set(SET_VRING_CALL, index, [vring.call])
        self.must_set(SET_VRING_KICK, index, [vring.kick])

    def enable(self, index, on=True):
        """Enables or disables a vring."""
        self.must_set(SET_VRING_ENABLE, struct.pack("<II", index, int(on)))

    def start(self, enable=True):
        """The whole bring-up on a new connection."""
        self.negotiate()
        self.set_memory()
        for vring in self.vrings:
            self.reset(vring)
            self.set_vring(vring)
            if vring.index % 2 == 0:
                self.fill(vring)
        if enable and self.features & bits(F_PROTOCOL_FEATURES):
            for vring in self.vrings:
                self.enable(vring.index)
        for vring in self.vrings:
            os.eventfd_write(vring.kick, 1)
        return self

    def stop(self, index):
        """Stops a vring and returns its base."""
        self.send(GET_VRING_BASE, struct.pack("<II", index, 0))
        number, base = struct.unpack("<II", self.reply(GET_VRING_BASE))
        if number != index:
            raise FrontendError(f"base of vring {number}, asked {index}")
        return base

    # Rings.

    def u16(self, offset):
        """Reads an index from our memory."""
        return self.words[offset // 2]

    def put_u16(self, offset, value):
        """Writes an index into our memory."""
        self.words[offset // 2] = value & 0xffff

    def reset(self, vring):
        """Makes an empty ring."""
        self.ram[vring.desc:vring.buffers] = bytes(vring.buffers - vring.desc)
        vring.free = list(range(vring.size))
        vring.next_avail = vring.last_used = 0

    def header_size(self):
        """The size of struct virtio_net_hdr, as negotiated."""
        modern = self.features & bits(F_VERSION_1, F_MRG_RXBUF)
        return 12 if modern else 10

    def buffer(self, vring, head):
        """Where the buffer of descriptor 'head' is."""
        return vring.buffers + head * vring.buffer_size

    def put_desc(self, vring, head, address, length, flags, following=0):
        """Writes a descriptor; 'address' is a guest address."""
        struct.pack_into("<QIHH", self.ram, vring.desc + 16 * head, address,
                         length, flags, following)

    def make_available(self, vring, heads, kick=True):
        """Makes descriptor chains available."""
        for head in heads:
            slot = vring.next_avail % vring.size
            self.put_u16(vring.avail + 4 + 2 * slot, head)
            vring.next_avail = (vring.next_avail + 1) & 0xffff
        self.put_u16(vring.avail + 2, vring.next_avail)
        if kick:
            try:
                os.eventfd_write(vring.kick, 1)
            except BlockingIOError:
                pass

    def fill(self, vring):
        """Gives all free buffers to the device, to receive into."""
        heads, vring.free = vring.free, []
        for head in heads:
            self.put_desc(vring, head,
                          GUEST_BASE + self.buffer(vring, head),
                          vring.buffer_size, DESC_WRITE)
        self.make_available(vring, heads)

    def take_used(self, vring):
        """Returns the used buffers: [(head, length)]."""
        result = []
        index = self.u16(vring.used + 2)
        while vring.last_used != index:
            slot = vring.last_used % vring.size
            result.append(struct.unpack_from(
                "<II", self.ram, vring.used + 4 + 8 * slot))
            vring.last_used = (vring.last_used + 1) & 0xffff
        return result

    # Packets.

    def transmit(self, *packets, pair=0, timeout=5):
        """Transmits packets, and waits for room if there is none."""
        vring = self.vrings[2 * pair + 1]
        deadline = time.monotonic() + timeout
        heads = []
        for packet in packets:
            while not self.reap(vring):
                self.make_available(vring, heads)
                heads = []
                if time.monotonic() > deadline:
                    raise FrontendError("the transmitq does not move")
                time.sleep(0.001)
            head = vring.free.pop()
            data = bytes(self.header_size()) + packet
            start = self.buffer(vring, head)
            self.ram[start:start + len(data)] = data
            self.put_desc(vring, head, GUEST_BASE + start, len(data), 0)
            heads.append(head)
        self.make_available(vring, heads)

    def reap(self, vring):
        """Takes back what was transmitted; returns the free descriptors."""
        vring.free += [head for head, _ in self.take_used(vring)]
        return vring.free

    def flush(self, pair=0, timeout=5):
        """Waits until the device has used all that was transmitted."""
        vring = self.vrings[2 * pair + 1]
        deadline = time.monotonic() + timeout
        while len(self.reap(vring)) < vring.size:
            if time.monotonic() > deadline:
                raise FrontendError("the transmitq does not move")
            time.sleep(0.001)

    def take_received(self, pair=0):
        """Returns the packets that came and gives the buffers back."""
        vring = self.vrings[2 * pair]
        header = self.header_size()
        packets = []
        used = self.take_used(vring)
        while used:
            head, length = used.pop(0)
            start = self.buffer(vring, head)
            count = self.u16(start + 10) if header == 12 else 1
            data = self.ram[start + header:start + length]
            vring.free.append(head)
            for _ in range(count - 1):
                head, length = used.pop(0)
                start = self.buffer(vring, head)
                data += self.ram[start:start + length]
                vring.free.append(head)
            packets.append(data)
        self.fill(vring)
        return packets

    def receive(self, count=1, pair=0, timeout=5, accept=None):
        """Waits for 'count' packets that 'accept' accepts."""
        deadline = time.monotonic() + timeout
        packets = []
        while len(packets) < count and time.monotonic() < deadline:
            new = self.take_received(pair)
            packets += [p for p in new if accept is None or accept(p)]
            if not new:
                time.sleep(0.001)
        return packets


def frame(source, destination, size=64, payload=b"", ethertype=0x88b5):
    """An Ethernet frame for experiments; addresses are small numbers."""
    head = (struct.pack(">HI", 0x0200, destination)
            + struct.pack(">HIH", 0x0200, source, ethertype))
    return (head + payload).ljust(size, b"\0")
