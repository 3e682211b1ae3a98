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
"""Many ports, and ports that come and go."""

import os
import time

import pytest

pytestmark = pytest.mark.ours


def cpu_time(switch, thread):
    """Seconds of CPU time that the threads of this name have used."""
    proc = f"/proc/{switch.daemon.pid}/task"
    ticks = 0
    for task in os.listdir(proc):
        with open(f"{proc}/{task}/stat", encoding="utf-8") as file:
            name, _, rest = file.read().partition("(")[2].rpartition(")")
        if name.startswith(thread):
            ticks += sum(int(word) for word in rest.split()[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def add_ports(switch, numbers):
    """Adds ports with these numbers, of both modes, that nobody uses."""
    args = []
    for i in numbers:
        args += ["--", "add-port", "br0", f"p{i}", "--", "set", "Interface",
                 f"p{i}", "type=vhostuser"]
        if i % 2:
            path = switch.path(f"p{i}.sock")
            args.append(f"options:vhost-server-path={path}")
    switch.vsctl(*args)


def test_idle_ports(switch):
    """Ports that nobody uses cost next to nothing."""
    for first in range(0, 120, 20):
        add_ports(switch, range(first, first + 20))
    time.sleep(3)
    before = cpu_time(switch, "vhostuser")
    time.sleep(4)
    used = cpu_time(switch, "vhostuser") - before
    assert used < 0.2, f"{used / 4:.0%} of a CPU"
