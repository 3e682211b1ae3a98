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
"""A small vhost-user back-end, from the specifications, that does as it is
told: answer, refuse, say nothing, or write nonsense into the rings."""

import array
import mmap
import os
import socket
import struct
import threading

from frontend import (ADD_MEM_REG, F_MRG_RXBUF, F_MTU, F_PROTOCOL_FEATURES,
                      F_VERSION_1, GET_FEATURES, GET_MAX_MEM_SLOTS,
                      GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, GET_STATUS,
                      GET_VRING_BASE, NEED_REPLY, PF_MQ, PF_NET_MTU, PF_RARP,
                      PF_REPLY_ACK, REPLY, SET_MEM_TABLE, SET_VRING_ADDR,
                      VERSION, bits)


class Backend(threading.Thread):
    """Listens at 'path' and serves one connection after the other.

    'values' has what the GET_* requests are answered with, 'refuse' the
    requests that are acknowledged with an error, 'silent' those to which there
    is no answer at all.  'replies' has whole messages, as bytes, to send
    instead of an answer."""

    def __init__(self, path, features=None, protocol_features=None, pairs=1,
                 refuse=(), silent=(), replies=None):
        super().__init__(daemon=True)
        self.values = {
            GET_FEATURES: features if features is not None else bits(
                F_MTU, F_MRG_RXBUF, F_PROTOCOL_FEATURES, F_VERSION_1),
            GET_PROTOCOL_FEATURES: protocol_features
            if protocol_features is not None else bits(
                PF_MQ, PF_RARP, PF_REPLY_ACK, PF_NET_MTU),
            GET_QUEUE_NUM: pairs, GET_MAX_MEM_SLOTS: 8, GET_STATUS: 0}
        self.refuse = set(refuse)
        self.silent = set(silent)
        self.replies = replies or {}
        self.requests = []      # All that came: (request, payload).
        self.connections = 0
        self.memory = []        # (guest address, user address, mapping).
        self.rings = {}         # Index -> payload of SET_VRING_ADDR.
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(1)
        self.sock = None
        self.start()

    def close(self):
        """Ends it."""
        self.listener.close()
        for sock in (self.listener, self.sock):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except (AttributeError, OSError):
                pass
        # accept() does not notice that.
        with socket.socket(socket.AF_UNIX) as waker:
            try:
                waker.connect(self.path)
            except OSError:
                pass
        os.unlink(self.path)
        self.join(5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def run(self):
        while True:
            try:
                self.sock = self.listener.accept()[0]
            except OSError:
                return
            self.connections += 1
            self.rings.clear()
            try:
                while self.serve():
                    pass
            except OSError:
                pass
            self.sock.close()

    def serve(self):
        """Handles one message.  Returns False at the end."""
        head, ancillary, *_ = self.sock.recvmsg(12, 4096)
        fds = array.array("i")
        for _, _, data in ancillary:
            fds.frombytes(data[:len(data) // 4 * 4])
        if len(head) < 12:
            return False
        request, flags, size = struct.unpack("=III", head)
        payload = b""
        while len(payload) < size:
            payload += self.sock.recv(size - len(payload))
        self.requests.append((request, payload))
        self.take_note(request, payload, fds)
        for number in fds:
            os.close(number)
        self.answer(request, flags, payload)
        return True

    def take_note(self, request, payload, fds):
        """Looks at what later tricks need."""
        regions = []
        if request == SET_MEM_TABLE:
            regions = [payload[8 + 32 * i:40 + 32 * i]
                       for i in range(len(fds))]
            self.memory = []
        elif request == ADD_MEM_REG:
            regions = [payload[8:40]]
        for region, number in zip(regions, fds):
            guest, length, user, offset = struct.unpack("=QQQQ", region)
            self.memory.append((guest, user, mmap.mmap(number, length,
                                                       offset=offset)))
        if request == SET_VRING_ADDR:
            self.rings[struct.unpack_from("=I", payload)[0]] = payload

    def answer(self, request, flags, payload):
        """Sends the reply or the acknowledgement."""
        if request in self.silent:
            return
        if request in self.replies:
            self.sock.sendall(self.replies[request])
        elif request in self.values:
            self.reply(request, struct.pack("=Q", self.values[request]))
        elif request == GET_VRING_BASE:
            self.reply(request, payload)
        elif flags & NEED_REPLY:
            self.reply(request,
                       struct.pack("=Q", 1 if request in self.refuse else 0))

    def reply(self, request, payload):
        """Sends one message."""
        self.sock.sendall(struct.pack("=III", request, VERSION | REPLY,
                                      len(payload)) + payload)

    def put_used_index(self, index, value):
        """Writes the used index of split vring 'index'."""
        used = struct.unpack_from("=IIQQQQ", self.rings[index])[3]
        for _, user, memory in self.memory:
            if user <= used < user + len(memory):
                struct.pack_into("<H", memory, used - user + 2,
                                 value & 0xffff)
