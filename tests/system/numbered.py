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
"""Numbered packets between two ports of a switch, sent by ovs-vhost perf.

It receives before it sends and its rings are long, so that hardly anything is
lost because somebody does not get the processor.
"""

import os
import re
import signal
import threading

import vhost_tool
from switch import wait_for

# Longer forms of the tests, "make check-peers".
LONG = bool(os.environ.get("VHU_LONG"))

# What our modules of the log are called.
OURS = (r"\|(?:vhu_\w+|virtq\w*|netdev_vhostuser\w*)"
        r"(?:\(\w+\))?\|")


def datapath_drops(switch):
    """Packets that Open vSwitch itself has dropped, since a port was being
    reconfigured, or the flow table was.  All of its ports have that."""
    return sum(int(count) for count in re.findall(
        r"^datapath_drop_(?:invalid_port|lock_error) .* total: (\d+)",
        switch.appctl("coverage/show"), re.MULTILINE))


def complaints(switch, since=0, allowed=None):
    """The warnings and errors of our modules in the log from 'since' on,
    without those that match 'allowed', and without the sums of what was not
    logged, which may have been of any level."""
    return [line for line in switch.log()[since:].splitlines()
            if re.search(OURS + r"(WARN|ERR|EMER)\|(?!Dropped \d+ log )", line)
            and not (allowed and re.search(allowed, line))]


class Numbered(threading.Thread):
    """Two ports that exchange numbered packets, both ways.

    They are on 'bridge', which exists; two pairs need two bridges, since all
    have the same MAC addresses; or 'bridge' is a pair of bridges, joined
    somehow.  'args' has more options of ovs-vhost perf.  The ports connect to
    it, or listen if 'server' is true."""

    def __init__(self, switch, names=("left", "right"), bridge="br0",
                 rate=4000, args=(), server=False):
        super().__init__(daemon=True)
        self.switch = switch
        self.names = names
        self.bridges = [bridge] * 2 if isinstance(bridge, str) else bridge
        self.rate = rate
        self.paths = [switch.path(f"{name}.sock") for name in names]
        self.lines = []
        self.begun = datapath_drops(switch)
        self.process = vhost_tool.start(
            "perf", *([] if server else ["--listen"]), "--duration=0",
            "--wait=60", "--settle=1", f"--rate={rate}", "--bidirectional",
            "--queue-size=1024", *args, *self.paths)
        self.start()
        try:
            for name, path, where in zip(names, self.paths, self.bridges):
                switch.add_port(name, server=server, path=path, bridge=where)
            self.missing(60)
        except BaseException:
            self.kill()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def run(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def progress(self):
        """What was printed each second: (received per second, missing)."""
        units = {"": 1, "k": 1e3, "M": 1e6}
        return [(float(number) * units[unit], int(missing))
                for line in list(self.lines)
                for number, unit, missing in re.findall(
                    r"received ([\d.]+) ?([kM]?)pps, missing (\d+)", line)]

    def missing(self, timeout=30):
        """Waits until packets flow and no more get lost than before.  Returns
        how many are missing up to now."""
        begin = len(self.progress())

        def steady():
            lines = self.progress()[begin:]
            return (len(lines) > 1 and lines[-1][1] == lines[-2][1]
                    and min(lines[-1][0], lines[-2][0]) > self.rate / 2
                    and lines[-1:])
        return wait_for(steady, timeout, "steady flow of packets: "
                        + "".join(self.lines))[0][1]

    def stop(self):
        """Ends it; returns what became of the packets, as {"lost": 0}."""
        self.process.send_signal(signal.SIGINT)
        errors = self.process.stderr.read()
        self.process.wait(30)
        self.join(10)
        assert self.process.returncode == 0, errors
        counts = dict.fromkeys(("sent", "received", "lost", "pending",
                                "reordered", "duplicates", "stale",
                                "malformed"), 0)
        for line in self.lines:
            match = re.match(r"  (\w+) +(\d+)", line)
            if match and match[1] in counts:
                counts[match[1]] += int(match[2])
        return counts

    def check_alive(self):
        """Raises AssertionError if it has ended by itself."""
        assert self.process.poll() is None, self.process.stderr.read()

    def kill(self):
        """Ends it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    def check(self):
        """Ends it and insists that no packet was lost, except by Open vSwitch
        itself, or came twice or in another order.

        What was dropped because its own ring was full, when it did not get the
        processor, is its own fault, but must be little."""
        full = sum(self.switch.statistics(name, bridge)["ovs_tx_failure_drops"]
                   for name, bridge in zip(self.names, self.bridges))
        counts = self.stop()
        drops = datapath_drops(self.switch) - self.begun
        assert counts["sent"] > 0
        assert counts["lost"] <= drops + full, (counts, drops, full)
        assert full <= counts["sent"] / 100, (counts, full)
        for key in ("pending", "reordered", "duplicates", "stale"):
            assert not counts[key], counts
        return counts
