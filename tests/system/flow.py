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
"""A steady flow of packets between two front-ends.

It shows whether ports that have nothing to do with a fault feel it.
"""

import struct
import threading
import time

from frontend import frame


class Flow(threading.Thread):
    """Sends numbered packets from one front-end to another."""

    ADDRESSES = 0xa1, 0xa2

    def __init__(self, sender, receiver, interval=0.002, burst=4):
        super().__init__(daemon=True)
        self.sender = sender
        self.receiver = receiver
        self.interval = interval
        self.burst = burst
        self.sent = 0
        self.received = 0
        self.longest = 0.0      # Seconds that nothing came.
        self.error = None
        self.ending = False
        # The switch must have learned where the receiver is.
        receiver.transmit(frame(self.ADDRESSES[1], self.ADDRESSES[0]))
        sender.receive(1)

    def run(self):
        last = time.monotonic()
        try:
            while not self.ending:
                packets = []
                for _ in range(self.burst):
                    packets.append(frame(*self.ADDRESSES, payload=struct.pack(
                        ">I", self.sent + len(packets))))
                self.sender.transmit(*packets)
                self.sent += len(packets)
                time.sleep(self.interval)
                if self.take():
                    last = time.monotonic()
                else:
                    self.longest = max(self.longest, time.monotonic() - last)
        except Exception as error:      # pylint: disable=broad-except
            self.error = error

    def take(self):
        """Counts what came; returns how many."""
        mine = [packet for packet in self.receiver.take_received()
                if packet[:12] == frame(*self.ADDRESSES)[:12]]
        self.received += len(mine)
        return len(mine)

    def stop(self):
        """Ends the flow and collects what is still under way."""
        if self.ending:
            return
        self.ending = True
        if self.ident is not None:
            self.join(20)
        deadline = time.monotonic() + 2
        while self.received < self.sent and time.monotonic() < deadline:
            if not self.take():
                time.sleep(0.01)

    def check(self, gap=1.0):
        """Ends the flow and insists that nothing was lost or late.

        'gap' is generous because a machine with two cores is busy with the
        test itself; a peer that could stop us would do so for good."""
        self.stop()
        if self.error:
            raise self.error
        assert self.sent > 0
        assert self.received == self.sent, \
            f"{self.sent - self.received} of {self.sent} packets lost"
        assert self.longest < gap, f"nothing came for {self.longest:.3f} s"
