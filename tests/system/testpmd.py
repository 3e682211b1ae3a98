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
"""dpdk-testpmd with virtio-user: a guest without a VM.

It is driven through its interactive prompt.  No hugepages are needed.
"""

import os
import pty
import re
import select
import shutil
import subprocess
import time


class TestpmdError(Exception):
    """testpmd did not do what was asked."""


class Testpmd:
    """One testpmd process with one virtio-user port."""

    __test__ = False            # Not a test class, whatever pytest thinks.

    def __init__(self, name, path, server=True, queues=1, queue_size=256,
                 cores=1, eal=(), wrapper=(), **devargs):
        """'devargs' has further options of virtio-user, mrg_rxbuf=0 say;
        'eal' has further options of DPDK, 'wrapper' a command to start it
        with."""
        self.name = name
        self.path = path
        self.queues = queues
        self.cores = cores
        self.eal = eal
        self.wrapper = wrapper
        options = dict(path=path, queues=queues, queue_size=queue_size,
                       **devargs)
        if server:
            options["server"] = 1
        self.device = "net_virtio_user0," + ",".join(
            f"{key}={value}" for key, value in options.items())
        self.process = None
        self.terminal = -1
        self.text = ""

    @staticmethod
    def available():
        """True if there is a testpmd here."""
        return shutil.which("dpdk-testpmd") is not None

    def start(self, *options, timeout=30):
        """Starts testpmd; it waits for the switch if it is the server.

        'options' are testpmd's own, such as "--txpkts=64"."""
        # Core 0 reads the prompt, the others forward; all run anywhere.
        lcores = ",".join(f"{core}@0-{os.cpu_count() - 1}"
                          for core in range(self.cores + 1))
        prefix = f"vhu{os.getpid()}{self.name}"
        # On a terminal it writes at once what it has to say.
        self.terminal, theirs = pty.openpty()
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(
            [*self.wrapper,
             "dpdk-testpmd", "--no-pci", "--no-huge", "-m", "192",
             "--single-file-segments", "--no-telemetry",
             f"--file-prefix={prefix}", f"--lcores={lcores}",
             f"--vdev={self.device}", *self.eal, "--",
             "-i", "--total-num-mbufs=8192",
             f"--nb-cores={self.cores}", f"--rxq={self.queues}",
             f"--txq={self.queues}", "--disable-link-check",
             "--no-lsc-interrupt", *options],
            stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True)
        os.close(theirs)
        self.read_prompt(timeout)
        return self

    def read(self, timeout):
        """Reads what testpmd prints: "" at its end, None if nothing came."""
        if not select.select([self.terminal], [], [], timeout)[0]:
            return None
        try:
            return os.read(self.terminal, 65536).decode(errors="replace")
        except OSError:
            return ""

    def read_prompt(self, timeout=10, echo=""):
        """Reads up to the next prompt and returns that text.

        With 'echo', only what comes after that counts."""
        deadline = time.monotonic() + timeout
        text = ""
        while not (text.endswith("testpmd> ")
                   and echo in text[:-len("testpmd> ")]):
            data = self.read(1)
            if data is None and time.monotonic() < deadline:
                # Another message may have torn the prompt.
                if echo or "testpmd> " in text:
                    os.write(self.terminal, b"\n")
                continue
            if data is None:
                raise TestpmdError(f"{self.name}: no prompt: "
                                   + self.text[-2000:] + text)
            if not data:
                raise TestpmdError(f"{self.name} ended, "
                                   f"{self.process.wait()}: "
                                   + self.text[-2000:] + text)
            text += data
        self.text += text
        return text.split(echo, 1)[1] if echo else text

    def command(self, *lines, timeout=10):
        """Executes commands; returns what the last one printed."""
        text = ""
        for line in lines:
            os.write(self.terminal, line.encode() + b"\n")
            text = self.read_prompt(timeout, line)
        return text

    def forward(self, mode, *start):
        """Starts forwarding: "rxonly", "txonly", "mac", "macswap", "io"."""
        self.command("stop", f"set fwd {mode}", " ".join(("start", *start)))

    def statistics(self):
        """The port's counters, as {"RX-packets": 3, ...}."""
        text = self.command("show port stats 0")
        return {key: int(value)
                for key, value in re.findall(r"([RT]X-\w+): +(\d+)", text)}

    def mac(self):
        """The port's MAC address."""
        return re.search(r"MAC address: (\S+)",
                         self.command("show port info 0"))[1].lower()

    def link(self):
        """True if the port's link is up."""
        return "Link status: up" in self.command("show port info 0")

    def alive(self):
        """True while testpmd runs."""
        return self.process is not None and self.process.poll() is None

    def quit(self, timeout=20):
        """Lets testpmd end in good order."""
        if self.alive():
            os.write(self.terminal, b"stop\nquit\n")
            # Read what it prints, so that it never waits for us.
            while self.read(timeout):
                pass
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired as err:
                raise TestpmdError(f"{self.name} does not quit") from err
            finally:
                self.kill()
        self.kill()

    def kill(self):
        """Ends testpmd at once, as a crash would."""
        if self.process:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
            self.process = None
            os.close(self.terminal)
        # In server mode it would find its own socket in the way.
        if os.path.exists(self.path) and "server=1" in self.device:
            os.unlink(self.path)
