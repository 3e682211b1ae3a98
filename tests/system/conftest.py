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
"""Fixtures of the system tests.

Everything that a test starts ends with it, by process id.  When a test fails,
the end of the switch's log is part of the report.  VHU_SWITCH=dpdk runs those
tests that make sense there on OVS-DPDK's own vhost ports, for comparison;
VHU_SWITCH=ours-dpdk runs all with our daemon for a switch with DPDK.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

# pylint: disable=wrong-import-position
import flow                                                     # noqa: E402
from frontend import Frontend                                   # noqa: E402
from guest import TOP, Guest                                    # noqa: E402
from switch import Switch, build_directory                      # noqa: E402
from testpmd import Testpmd                                     # noqa: E402

TIMEOUT = 300                   # Seconds for one test, on a busy machine.


def pytest_configure(config):
    """Declares our markers."""
    config.addinivalue_line(
        "markers", "ours: about what OVS-DPDK's vhost ports do not have")
    config.addinivalue_line(
        "markers", "switch(**kwargs): arguments of the switch fixture")
    config.addinivalue_line(
        "markers", "expect_log(regex): warnings that this test provokes")


def pytest_collection_modifyitems(items):
    """Leaves out what makes no sense on OVS-DPDK's own ports."""
    if os.environ.get("VHU_SWITCH", "ours") != "dpdk":
        return
    for item in items:
        if item.get_closest_marker("ours"):
            item.add_marker(pytest.mark.skip(reason="not on OVS-DPDK"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Adds the log of the switch to the report of a failure."""
    del call
    report = (yield).get_result()
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            found = getattr(value, "switch", value)
            if isinstance(found, Switch):
                report.sections.append(("switch log", found.log()[-6000:]))
                break


@pytest.fixture(autouse=True)
def time_limit():
    """No test lasts for ever."""
    def expired(*_):
        raise TimeoutError(f"test takes more than {TIMEOUT} s")
    previous = signal.signal(signal.SIGALRM, expired)
    signal.alarm(TIMEOUT)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


@pytest.fixture(scope="session", name="image")
def fixture_image():
    """The kernel and initramfs of the guests."""
    if not shutil.which("qemu-system-x86_64"):
        pytest.skip("no qemu-system-x86_64")
    directory = os.environ.get("VHU_GUEST_IMAGE") or os.path.join(
        build_directory(), "guest")
    subprocess.run([os.path.join(TOP, "utilities", "guest-image"), directory],
                   check=True, timeout=300)
    return directory


@pytest.fixture(name="switch")
def fixture_switch(request):
    """A switch of its own for the test."""
    marker = request.node.get_closest_marker("switch")
    with Switch(**(marker.kwargs if marker else {})) as switch:
        yield switch
        # A crash is a failure, also one that the test did not look for.
        switch.check_alive()


@pytest.fixture(name="guests")
def fixture_guests(image):
    """Makes guests: guests(**arguments of Guest)."""
    made = []
    directory = tempfile.mkdtemp(prefix="vhu.guest.")

    def make(**kwargs):
        guest = Guest(os.path.join(directory, str(len(made))), image,
                      **kwargs)
        made.append(guest)
        return guest
    yield make
    for guest in made:
        guest.kill()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(name="testpmds")
def fixture_testpmds():
    """Makes testpmds: testpmds(name, path, **arguments of Testpmd)."""
    if not Testpmd.available():
        pytest.skip("no dpdk-testpmd")
    made = []

    def make(name, path, **kwargs):
        testpmd = Testpmd(name, path, **kwargs)
        made.append(testpmd)
        return testpmd
    yield make
    for testpmd in made:
        testpmd.kill()


@pytest.fixture(name="frontends")
def fixture_frontends(switch):
    """Makes front-ends with their ports: frontends(name, **arguments).

    'port' has arguments of Switch.add_port().  The front-end is connected
    and runs, unless 'start' is false."""
    made = []

    def make(name, start=True, port=None, server=True, **kwargs):
        # The socket mode is that of the front-end: the port has the other.
        path = switch.path(f"{name}.sock")
        if server:
            frontend = Frontend(path, **kwargs)
            switch.add_port(name, path=path, **(port or {}))
        else:
            path = switch.add_port(name, server=True, **(port or {}))
            frontend = Frontend(path, server=False, **kwargs)
        made.append(frontend)
        frontend.name = name
        if start:
            frontend.connect().start()
            switch.wait_link(name)
        return frontend
    yield make
    for frontend in made:
        frontend.close()


@pytest.fixture(name="neighbours")
def fixture_neighbours(frontends):
    """Two more ports that exchange packets all the time, see flow.Flow."""
    # The receiver has room for all that the sender can have under way.
    running = flow.Flow(frontends("left", size=64),
                        frontends("right", size=512))
    running.start()
    yield running
    running.stop()
