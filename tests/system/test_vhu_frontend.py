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
"""Ports in the front-end role with DPDK's vhost library as the back-end."""
"""The front-end role of the library, step by step, with DPDK's back-end."""

import os
import subprocess

import pytest
from switch import build_directory
from test_front_end_dpdk import Backend

pytestmark = pytest.mark.ours

VHUTEST = os.path.join(build_directory(), "tests", "vhutest")


@pytest.fixture(name="backend")
def fixture_backend(tmp_path):
    """A testpmd that sends back what it receives."""
    if not Backend.available():
        pytest.skip("no dpdk-testpmd")
    if not os.path.exists(VHUTEST):
        pytest.skip("no vhutest: make check")
    backend = Backend(str(tmp_path / "dpdk.sock"), queues=2)
    backend.start()
    backend.forward("macswap")
    yield backend
    backend.kill()


@pytest.mark.parametrize("ring", ["split", "packed"])
def test_operations(backend, ring):
    """Start, restart, reset of each virtqueue, disabled queues,
    notifications, dirty log, announcement and reconnection."""
    run = subprocess.run([VHUTEST, "frontend-live", backend.path, ring],
                         capture_output=True, text=True, timeout=120,
                         check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    pairs = [[what + ": ok", what + ", second pair: ok"]
             for what in ("restarted", "each vring reset",
                          "connected again", "connected again",
                          "connected again")]
    assert run.stdout.splitlines() == [
        "2 pairs", "started, first pair: ok", "started, second pair: ok",
        *pairs[0], *pairs[1], "disabled and enabled: ok",
        "other notifications: ok", "with a dirty log: ok", "and again: ok",
        "with a larger one: ok", "without: ok", "announced",
        *pairs[2], *pairs[3], *pairs[4]]
    assert backend.alive()
