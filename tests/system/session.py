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
"""The messages of a front-end, recorded once, sent again and again.

A recording is a text file with a line for each message: the number of the
request, its flags, how many descriptors came with it, and the payload in
hexadecimal.  As a program this makes one, of a front-end that listens at
SOCKET and a back-end that listens at BACKEND, until either closes:

    session.py SOCKET BACKEND > FILE
"""

import os
import select
import socket
import struct
import sys

from frontend import (ADD_MEM_REG, F_PROTOCOL_FEATURES, PF_LOG_SHMFD,
                      SET_BACKEND_REQ_FD, SET_FEATURES, SET_LOG_BASE,
                      SET_MEM_TABLE, SET_PROTOCOL_FEATURES, SET_VRING_CALL,
                      SET_VRING_ERR, SET_VRING_KICK, VERSION, bits)

F_LOG_ALL = 26


class Descriptors:
    """What goes with the messages of one session: memory of the guest, all
    zeros, eventfds, one end of a socket pair."""

    def __init__(self, memory):
        self.memory = os.memfd_create("session", os.MFD_CLOEXEC)
        os.ftruncate(self.memory, memory)
        self.event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.channel = socket.socketpair()

    def of(self, request):
        """The descriptor that goes with this request."""
        if request in (SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR):
            return self.event
        if request == SET_BACKEND_REQ_FD:
            return self.channel[0].fileno()
        return self.memory

    def close(self):
        """Closes all of them."""
        os.close(self.memory)
        os.close(self.event)
        for sock in self.channel:
            sock.close()


class Session:
    """A list of messages: (bytes, request, number of descriptors)."""

    def __init__(self, path, features, protocol_features):
        """Reads a recording and adapts it to a back-end that offers these
        features.  If it can log what it writes, that is switched on at the
        end."""
        self.messages = []
        self.memory = 0
        acked = 0
        with open(path, encoding="ascii") as file:
            for line in file:
                if line.startswith("#"):
                    continue
                request, flags, n_fds, payload = (line.split() + [""])[:4]
                request, payload = int(request), bytes.fromhex(payload)
                if request == SET_FEATURES:
                    acked = struct.unpack("<Q", payload)[0] & features
                    payload = struct.pack("<Q", acked)
                elif request == SET_PROTOCOL_FEATURES:
                    payload = struct.pack("<Q", protocol_features & (
                        struct.unpack("<Q", payload)[0] | bits(PF_LOG_SHMFD)))
                elif request in (SET_MEM_TABLE, ADD_MEM_REG):
                    self.note_memory(request, payload)
                self.add(request, payload, int(n_fds), int(flags, 16))
        assert acked & bits(F_PROTOCOL_FEATURES)
        if protocol_features & bits(PF_LOG_SHMFD):
            self.add(SET_LOG_BASE, struct.pack("<QQ", self.memory, 0), 1)
            self.add(SET_FEATURES, struct.pack("<Q", acked | bits(F_LOG_ALL)))
        self.size = sum(len(data) for data, *_ in self.messages)

    def add(self, request, payload, n_fds=0, flags=VERSION):
        """Adds a message."""
        self.messages.append((struct.pack("<III", request, flags,
                                          len(payload)) + payload,
                              request, n_fds))

    def note_memory(self, request, payload):
        """Learns how long a file must be for all regions of a table."""
        count = (struct.unpack_from("<I", payload)[0]
                 if request == SET_MEM_TABLE else 1)
        for number in range(count):
            _, size, _, offset = struct.unpack_from("<QQQQ", payload,
                                                    8 + 32 * number)
            self.memory = max(self.memory, offset + size)

    def play(self, sock, descriptors, cut):
        """Sends the first 'cut' bytes."""
        for data, request, n_fds in self.messages:
            data = data[:cut]
            cut -= len(data)
            if data and n_fds:
                socket.send_fds(sock, [data],
                                [descriptors.of(request)] * n_fds)
            elif data:
                sock.sendall(data)


def record(front, back):
    """Passes on what comes at two sockets, and prints what comes from the
    first."""
    while True:
        for sock in select.select([front, back], [], [])[0]:
            data, fds, _, _ = socket.recv_fds(sock, 65536, 64)
            if not data:
                return
            socket.send_fds(back if sock == front else front, [data], fds)
            for fd in fds:
                os.close(fd)
            if sock == back:
                continue
            while data:
                # Descriptors end a read: they belong to the last message.
                request, flags, size = struct.unpack_from("<III", data)
                print(request, f"{flags:#x}",
                      len(fds) if len(data) == 12 + size else 0,
                      data[12:12 + size].hex(), flush=True)
                data = data[12 + size:]


def main():
    """The command line."""
    ends = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    for sock, path in zip(ends, sys.argv[1:]):
        sock.connect(path)
    record(*ends)


if __name__ == "__main__":
    main()
