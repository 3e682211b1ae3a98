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
"""What the benchmark loads its systems with: two guests without a VM.

One dpdk-testpmd has both, as two virtio-user ports that forward to each other
on one core.  With 256 packets put into either direction at the start, that
and the system between the sockets make a closed loop.
"""

import os
import pty
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))), "system"))

# pylint: disable=wrong-import-position
from testpmd import Testpmd, TestpmdError                       # noqa: E402

MACS = "02:11:00:00:00:01", "02:11:00:00:00:02"
IN_FLIGHT = 256                 # Packets in either direction.
HUGEPAGES = 1280                # Of 2 MiB, for everything that runs at once.


class Hugepages:
    """While entered, there are hugepages for testpmd and OVS-DPDK."""

    path = "/proc/sys/vm/nr_hugepages"

    def __init__(self):
        self.before = self.read()

    def read(self):
        """How many there are."""
        with open(self.path, encoding="ascii") as file:
            return int(file.read())

    def write(self, number):
        """Asks for so many."""
        with open(self.path, "w", encoding="ascii") as file:
            file.write(str(number))

    def __enter__(self):
        if self.before < HUGEPAGES:
            self.write(HUGEPAGES)
        found = self.read()
        if found < HUGEPAGES:
            self.write(self.before)
            raise TestpmdError(f"only {found} hugepages of 2 MiB, and not "
                               f"{HUGEPAGES}: reserve them soon after boot")
        return self

    def __exit__(self, *_):
        self.write(self.before)


class Pinned(Testpmd):
    """A testpmd with any ports, on hugepages and on one core."""

    def __init__(self, name, core, devices, options=()):
        super().__init__(name, "")
        self.core = core
        self.args = [
            "dpdk-testpmd", "--no-pci", "--in-memory",
            "--single-file-segments", "-m", "512", "--no-telemetry",
            f"--lcores=0@{core},1@{core}",
            *(f"--vdev={device}" for device in devices),
            "--", "-i", "--nb-cores=1", "--disable-link-check",
            "--rxd=1024", "--txd=1024", "--total-num-mbufs=16384",
            *options]

    def start(self, *options, timeout=30, prefix=()):
        """Starts testpmd.  'prefix' is a command that starts it."""
        self.terminal, theirs = pty.openpty()
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(
            [*prefix, *self.args, *options], stdin=theirs, stdout=theirs,
            stderr=theirs, start_new_session=True)
        os.close(theirs)
        self.read_prompt(timeout)
        return self

    def command(self, *lines, timeout=10):
        """Executes commands; returns what the last one printed."""
        text = ""
        for line in lines:
            os.write(self.terminal, line.encode() + b"\n")
            # The echo of a long line has line breaks in it: its first word
            # is enough to tell it from an old prompt.
            text = self.read_prompt(timeout, line.split()[0])
        return text


class Peers(Pinned):
    """The guests of a case."""

    def __init__(self, paths, case, core=1, devices=None):
        if devices is None:
            guests = (0,) if case.action == "ring" else (0, 1)
            devices = [self.virtio_user(i, paths[i], case) for i in guests]
        options = [f"--rxq={case.queues}", f"--txq={case.queues}",
                   f"--eth-peer=0,{MACS[1]}",
                   f"--txpkts={min(case.size, 2000)}"]
        if case.action == "ring":
            options.append("--port-topology=loop")
        else:
            options.append(f"--eth-peer=1,{MACS[0]}")
        if case.size > 2000:
            options += ["--mbuf-size=9728", f"--max-pkt-len={case.size}"]
        if case.flows > 1:
            options.append(f"--flowgen-flows={case.flows}")
        super().__init__("peers", core, devices, options)
        self.case = case
        self.paths = paths

    @staticmethod
    def virtio_user(index, path, case):
        """The device of one guest."""
        options = {"path": path, "server": 1, "queues": case.queues,
                   "queue_size": 1024, "mac": MACS[index], **case.devargs}
        return f"net_virtio_user{index}," + ",".join(
            f"{key}={value}" for key, value in options.items())

    def begin(self):
        """Starts the traffic."""
        case = self.case
        if case.size > 2000:
            # Not as an option: that comes before --mbuf-size.
            self.command(f"set txpkts {case.size}")
        self.command(*case.commands, f"set fwd {case.forward}")
        if case.forward in ("flowgen", "txonly"):
            self.command("start")       # An open loop: generates for ever.
            return
        bursts = IN_FLIGHT // 32 // case.queues
        self.command("set burst 32", f"start tx_first {bursts}")

    def received(self):
        """Packets and bytes that both ports have received, and when that
        was."""
        text = self.command("show port stats all")
        packets, size = (
            sum(int(n) for n in re.findall(rf"RX-{what}: +(\d+)", text))
            for what in ("packets", "bytes"))
        return packets, size, time.monotonic()

    def rate(self, seconds):
        """Measures for so long; returns Mpps of both directions."""
        packets, size, start = self.received()
        time.sleep(seconds)
        more, more_size, end = self.received()
        more -= packets
        # A tag counts, a checksum does not, and the network stack of a tap
        # device says a few things of its own.
        if more and abs((more_size - size) / more - self.case.size) > 5:
            raise TestpmdError(f"packets of {(more_size - size) / more} "
                               f"bytes, not {self.case.size}")
        return more / (end - start) / 1e6

    def kill(self):
        """Ends testpmd, and removes its sockets."""
        super().kill()
        for path in self.paths:
            if os.path.exists(path):
                os.unlink(path)
