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
"""What ports cost that have nothing to do."""

import os
import re
import shutil
import subprocess
import time

import systems
from frontend import Frontend
from switch import SwitchError, build_directory, wait_for

PORTS = 1, 16, 64, 256
SECONDS = 2


def cycles_per_iteration(ovs):
    """How long a PMD thread takes to look at all its ports, in cycles."""
    ovs.appctl("dpif-netdev/pmd-stats-clear")
    time.sleep(SECONDS)
    text = ovs.appctl("dpif-netdev/pmd-perf-show")
    text = text[text.index("pmd thread"):]
    match = re.search(r"Iterations: +(\d+)", text)
    cycles = re.search(r"Used TSC cycles: +(\d+)", text)
    if not match or not cycles:
        raise SwitchError("pmd-perf-show: " + text[:400])
    return int(cycles[1]) / max(1, int(match[1]))


def measure(kind, prefer, progress):
    """Returns {number of ports: cycles an iteration}."""
    found = {}
    frontends = []
    directory = systems.make_directory()
    # Not entered as usual: it gets other ports than those two.
    system = kind(systems.Case("idle"), [])
    try:
        with system.ovs as ovs:
            prefer(system.pid())
            for n in PORTS:
                while len(frontends) < n:
                    name = f"vm{len(frontends)}"
                    path = os.path.join(directory, name)
                    frontends.append(Frontend(path, size=64,
                                              buffer_size=64))
                    ovs.add_port(name, path=path)
                    frontends[-1].connect().start()
                wait_for(lambda: len(ovs.rxqs()) == len(frontends), 20,
                         "all ports are polled")
                ovs.wait_link(f"vm{n - 1}")
                time.sleep(1)
                found[n] = cycles_per_iteration(ovs)
                progress(f"idle: {kind.name}: {n} ports: {found[n]:.0f} "
                         "cycles an iteration")
    finally:
        for frontend in frontends:
            frontend.close()
        shutil.rmtree(directory, ignore_errors=True)
    return found


def measure_parts():
    """What our port does without a switch costs, as text: an empty poll, and
    a notification."""
    text = ""
    for prefix, words in (
            (["taskset", "-c", str(systems.SYSTEM_CORE)],
             ["io", "measure-polls"]),
            ([], ["vhu-notify", "measure"])):
        text += subprocess.run(
            [*prefix, os.path.join(build_directory(), "tests/vhutest"),
             *words], check=True, stdout=subprocess.PIPE, text=True).stdout
    return text


def run(kinds, prefer, progress):
    """Measures all 'kinds' of switches."""
    results = {}
    for kind in kinds:
        try:
            results[kind.name] = measure(kind, prefer, progress)
        except (SwitchError, OSError) as err:
            results[kind.name] = {}
            progress(f"idle: {kind.name}: failed: {str(err)[-600:]}")
    return results
