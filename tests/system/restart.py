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
"""What a restart of the switch means for packets and ports.

A Traffic is ovs-vhost perf in the place of two guests: it listens at their
sockets, keeps its rings when the switch goes away, and numbers each packet.
So it knows of each packet in the end whether it was lost, and what the switch
had in its hands when it died.
"""

import datetime
import json
import re
import signal

import vhost_tool
from switch import wait_for

BURST = 32                      # Packets that a PMD thread takes at once.
BACK = "ports receive from now on"


class Traffic:
    """Packets between two ports, both ways."""

    def __init__(self, switch, *options, names=("vm0", "vm1"), mtu=None,
                 rate=5000, keep=True):
        self.switch = switch
        self.names = names
        self.result = None
        paths = [switch.add_port(name, mtu=mtu) for name in names]
        keep = ["--keep-rings"] if keep else []
        self.process = vhost_tool.start(
            "perf", "--json", "--listen", "--bidirectional", "--duration=0",
            f"--rate={rate}", "--queue-size=1024", "--window=256", *keep,
            *options, *paths)

    def __enter__(self):
        try:
            for name in self.names:
                self.switch.wait_link(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def stop(self):
        """Ends it; returns what happened: one entry for each direction."""
        self.process.send_signal(signal.SIGINT)
        output, errors = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, errors
        self.result = json.loads(output)
        return self.result["directions"]

    def stop_and_check(self, kills, hand=BURST):
        """The same, and insists on what the switch promises for 'kills'
        crashes: what is lost was in its hands, which hold one burst; it sends
        no more than one burst twice; it changes no order."""
        ways = self.stop()
        for way in ways:
            outages = way["outages"]
            assert way["received"] > 0, way
            assert 0 < len(outages) <= kills, way
            assert way["reordered"] == 0, way
            assert way["malformed"] == way["stale"] == 0, way
            # A switch may have died before it was seen to be back.
            spare = kills - len(outages)
            unseen = way["lost"] - sum(o["lost"] for o in outages)
            assert 0 <= unseen <= BURST * spare, way
            for outage in outages:
                assert outage["in_switch"] <= hand * (1 + spare), way
                assert outage["lost"] <= outage["in_switch"] \
                    + BURST * spare, way
                assert outage["duplicates"] <= BURST * (1 + spare), way
        return ways


def n_starts(switch):
    """How often the switch has got all its ports."""
    return switch.log().count(BACK)


def wait_back(switch, count, timeout=30):
    """Waits until it has got them so often."""
    wait_for(lambda: n_starts(switch) >= count, timeout,
             f"{count} times \"{BACK}\"", interval=0.005)


def reconnect_times(switch):
    """The times, in ms, from when a daemon has a port to when that is up, of
    each port in each life of the daemon but the first, in which the guests
    may have come later."""
    begun, times = {}, {}
    for line in switch.log().splitlines():
        match = re.match(r"(\S+)Z\|\d+\|[^|]*\|INFO\|(\S+): (back-end, client "
                         r"|back-end, server |link up)", line)
        if not match:
            continue
        when = datetime.datetime.fromisoformat(match[1])
        if match[3] == "link up":
            if match[2] in begun:
                times.setdefault(match[2], []).append(
                    (when - begun.pop(match[2])).total_seconds() * 1000)
        else:
            begun[match[2]] = when
    return [time for port_times in times.values() for time in port_times[1:]]


def summary(numbers):
    """For people."""
    numbers = sorted(numbers)
    return (f"{len(numbers)}: median {numbers[len(numbers) // 2]:.0f}, "
            f"90 % {numbers[len(numbers) * 9 // 10]:.0f}, "
            f"max {numbers[-1]:.0f}")
