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
"""ovs-vhost, our command."""

import json
import os
import signal
import subprocess

import pytest

from frontend import (F_MQ, F_MRG_RXBUF, F_PROTOCOL_FEATURES, F_VERSION_1,
                      Frontend, bits, frame)
from switch import build_directory

pytestmark = pytest.mark.ours

MODERN = bits(F_PROTOCOL_FEATURES, F_MQ, F_VERSION_1)
LEGACY = bits(F_PROTOCOL_FEATURES)
MERGEABLE = MODERN | bits(F_MRG_RXBUF)


def ovs_vhost(*args):
    """Starts the command."""
    # pylint: disable=consider-using-with
    return subprocess.Popen(
        [os.path.join(build_directory(), "utilities", "ovs-vhost"), *args],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)


@pytest.fixture(name="bounce")
def fixture_bounce(tmp_path):
    """Joins two front-ends: bounce(*features of each, **arguments)."""
    made = []

    def make(*features, server=True, **kwargs):
        paths = [str(tmp_path / name) for name in ("a", "b")]
        pair = [Frontend(path, features=wanted, server=server, **kwargs)
                for path, wanted in zip(paths, features)]
        process = ovs_vhost("bounce", "--json",
                            *([] if server else ["--server"]), *paths)
        made.extend([*pair, process])
        for frontend in pair:
            frontend.connect().start()
        return (*pair, process)
    yield make
    for item in made:
        if isinstance(item, Frontend):
            item.close()
        elif item.poll() is None:
            item.kill()
            item.communicate()


def packets(count, size):
    """Frames that all differ."""
    return [frame(1, 2, size, bytes([i, 255 - i])) for i in range(count)]


@pytest.mark.parametrize("first", [MODERN, LEGACY, MERGEABLE],
                         ids=["modern", "legacy", "mergeable"])
@pytest.mark.parametrize("second", [MODERN, LEGACY, MERGEABLE],
                         ids=["modern", "legacy", "mergeable"])
def test_bounce_copies_whatever_the_headers(bounce, first, second):
    """What one guest transmits is what the other receives."""
    left, right, _ = bounce(first, second)
    for source, target in ((left, right), (right, left)):
        for size in (60, 64, 1514):
            sent = packets(40, size)
            source.transmit(*sent)
            assert target.receive(40) == sent


def test_bounce_spreads_long_packets_over_buffers(bounce):
    """A mergeable packet takes as many buffers as it needs."""
    left, right, _ = bounce(MERGEABLE, MERGEABLE, size=256, buffer_size=256)
    right.vrings[0].buffer_size = 96
    right.reset(right.vrings[0])
    right.stop(0)
    right.set_vring(right.vrings[0])
    right.fill(right.vrings[0])
    sent = packets(40, 240)
    left.transmit(*sent)
    assert right.receive(40) == sent


def test_bounce_drops_what_does_not_fit(bounce):
    """A packet longer than the buffers is dropped, and counted."""
    left, right, process = bounce(MODERN, MODERN, buffer_size=2048)
    right.vrings[0].buffer_size = 128
    right.reset(right.vrings[0])
    right.stop(0)
    right.set_vring(right.vrings[0])
    right.fill(right.vrings[0])
    short = frame(1, 2, 64)
    left.transmit(short, frame(1, 2, 1000), short)
    left.flush()
    assert [p for p in right.receive(2) if p] == [short, short]
    process.send_signal(signal.SIGTERM)
    result = json.loads(process.communicate(timeout=10)[0])
    assert result["packets"] == 2 and result["dropped"] == 1


def test_bounce_serves_queues_and_listens(bounce):
    """All queue pairs are joined, also if it is the server."""
    left, right, process = bounce(MERGEABLE, MERGEABLE, server=False,
                                  queues=3)
    for pair in range(3):
        sent = packets(5, 100)
        left.transmit(*sent, pair=pair)
        assert right.receive(5, pair=pair) == sent
    process.send_signal(signal.SIGTERM)
    result = json.loads(process.communicate(timeout=10)[0])
    assert process.returncode == 0
    assert [d["packets"] for d in result["directions"]] == [15, 0]


def test_bounce_ends_without_guests(tmp_path):
    """With a duration it ends, and says why there is no result."""
    process = ovs_vhost("bounce", "--duration=1", str(tmp_path / "a"),
                        str(tmp_path / "b"))
    output, errors = process.communicate(timeout=10)
    assert process.returncode == 1
    assert output == ""
    assert "nobody listens at" in errors


@pytest.mark.parametrize("args", [(), ("nonsense",), ("bounce",),
                                  ("bounce", "a"),
                                  ("bounce", "--burst=0", "a", "b"),
                                  ("bounce", "--burst=65", "a", "b")])
def test_usage_errors(args):
    """What it does not understand it says, with exit status 2."""
    process = ovs_vhost(*args)
    output, errors = process.communicate(timeout=10)
    assert process.returncode == 2
    assert output == "" and errors


@pytest.mark.parametrize("args", [("--help",), ("bounce", "--help"),
                                  ("--version",)])
def test_help(args):
    """Help goes to the standard output."""
    process = ovs_vhost(*args)
    output, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "ovs-vhost" in output and not errors
