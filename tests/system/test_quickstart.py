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
"""utilities/quickstart, on a machine that has run it before.

What it does on a fresh machine takes minutes and changes packages, so that
tests/run, which installs and builds the same way, stands for it here.
"""

import os
import subprocess
import sys

import pytest
from guest import TOP
from switch import build_directory

QUICKSTART = os.path.join(TOP, "utilities", "quickstart")

pytestmark = pytest.mark.ours


@pytest.fixture(name="quickstart")
def fixture_quickstart(image, tmp_path):
    """Runs quickstart in a directory of its own."""
    del image                   # It must be there, for the second run.
    env = dict(os.environ, VHU_RUNDIR=str(tmp_path / "q"),
               VHU_BUILDDIR=build_directory())

    def run(*args):
        return subprocess.run([QUICKSTART, *args], env=env, text=True,
                              stdin=subprocess.DEVNULL, check=False,
                              capture_output=True, timeout=100)
    yield run, tmp_path / "q"
    run("--clean")


def test_quickstart(quickstart):
    """It ends well, with a table, and leaves nothing."""
    run, directory = quickstart
    result = run()
    assert result.returncode == 0, result.stdout + result.stderr
    for text in ("round trip", "same SHA-256", "MRG_RXBUF", "VERSION_1",
                 "type=vhostuser", "memory-backend-memfd",
                 "<access mode='shared'/>"):
        assert text in result.stdout
    assert not directory.exists()


def test_keep_and_clean(quickstart):
    """--keep leaves two guests that answer, --clean ends them."""
    run, directory = quickstart
    result = run("--keep")
    assert result.returncode == 0, result.stdout + result.stderr
    answer = subprocess.run(
        [sys.executable, os.path.join(TOP, "tests", "system", "guest.py"),
         "run", str(directory / "guest-vm0"), "ping -c 2 10.0.0.2"],
        text=True, check=False, capture_output=True, timeout=60)
    assert " 0% packet loss" in answer.stdout
    pids = []
    for name in ("guest-vm0/pid", "guest-vm1/pid", "ovs-vswitchd.pid",
                 "ovsdb-server.pid"):
        pids.append(int((directory / name).read_text(encoding="ascii")))
    assert run("--clean").returncode == 0
    assert not directory.exists()
    for pid in pids:
        # What remains of a guest may be waiting for its parent, at most.
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                assert file.read().rsplit(")", 1)[1].split()[0] == "Z"
        except FileNotFoundError:
            pass


@pytest.mark.parametrize("args, status", [(["--help"], 0), (["--what"], 2)])
def test_usage(quickstart, args, status):
    """It says how it is used."""
    run, _ = quickstart
    result = run(*args)
    assert result.returncode == status
    assert "usage: utilities/quickstart" in result.stdout + result.stderr
