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
"""ovs-vhost trace and top: a look into a running switch."""

import json
import os
import pty
import re
import signal
import struct
import subprocess
import threading
import time

import pytest

import vhost_tool
from frontend import F_MQ, F_PROTOCOL_FEATURES, F_VERSION_1, bits, frame
from switch import build_directory, wait_for

pytestmark = pytest.mark.ours

SET_VRING_NUM = 8


def trace(switch, *args, **kwargs):
    """The records of ovs-vhost trace."""
    return vhost_tool.run_json("trace", "-t", switch.path("ctl"), *args,
                               **kwargs)


class Lines(threading.Thread):
    """Collects what a process prints."""

    def __init__(self, process):
        super().__init__(daemon=True)
        self.process = process
        self.lines = []
        self.start()

    def run(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait(self, pattern, timeout=10):
        """Waits for a line that matches, and returns it."""
        return wait_for(lambda: next((line for line in self.lines
                                      if re.search(pattern, line)), None),
                        timeout, f"{pattern} in {self.lines}")


def test_trace_shows_how_a_port_came_up(switch, frontends):
    """Each message from the first on, in words and as values."""
    frontends("vm0", server=False, features=bits(F_PROTOCOL_FEATURES, F_MQ,
                                                 F_VERSION_1))
    records = trace(switch, "--no-follow", "vm0")
    assert records[0]["type"] == "connected"
    assert [record["seqno"] for record in records] == list(range(len(records)))
    times = [record["usec"] / 1e6 for record in records]
    assert times == sorted(times) and abs(times[-1] - time.time()) < 60

    requests = [(r["name"], r["values"]) for r in records
                if r["type"] == "request"]
    assert ("SET_FEATURES",
            {"bits": "0x140400000",
             "names": ["MQ", "PROTOCOL_FEATURES", "VERSION_1"]}) in requests
    assert ("SET_VRING_NUM", {"vring": 1, "num": 64}) in requests
    memory = next(r for r in records if r.get("name") == "SET_MEM_TABLE")
    assert memory["fds"] == 1 and memory["values"]["regions"] == 1
    offer = next(r for r in records if r.get("name") == "GET_FEATURES"
                 and r["type"] == "reply")
    assert "RING_PACKED" in offer["values"]["names"]

    text = vhost_tool.run("trace", "-t", switch.path("ctl"), "--no-follow",
                          "vm0")
    assert len(text.splitlines()) == len(records)
    assert re.search(r"^\d{4}-\d\d-\d\dT[\d:.]{12}Z  in  SET_VRING_NUM: "
                     r"vring 1, num 64$", text, re.MULTILINE)


@pytest.mark.expect_log("SET_VRING_NUM")
def test_trace_says_what_was_refused(switch, frontends):
    """With the reason, and what became of the connection."""
    vm0 = frontends("vm0", server=False)
    vm0.send(SET_VRING_NUM, struct.pack("<II", 4711, 64))
    assert vm0.closed()
    wait_for(lambda: trace(switch, "--no-follow", "vm0")[-1]["type"]
             == "disconnected")
    refused, gone = trace(switch, "--no-follow", "vm0")[-2:]
    assert refused["name"] == "SET_VRING_NUM" and refused["errno"]
    assert "4711" in refused["error"]
    assert "bad vring index 4711" in gone["text"]


def test_trace_keeps_the_last(switch, frontends):
    """256 records, the newest ones."""
    vm0 = frontends("vm0", server=False, queues=32)
    for _ in range(3):
        vm0.disconnect()
        vm0.connect().start()
    switch.wait_link("vm0")
    records = trace(switch, "--no-follow", "vm0")
    assert len(records) == 256
    assert records[0]["seqno"] == records[-1]["seqno"] - 255 > 256
    assert records[-1]["name"] == "SET_VRING_ENABLE"


def test_trace_follows(switch, frontends):
    """Also over a restart of the switch, until it is interrupted."""
    vm0 = frontends("vm0")
    process = vhost_tool.start("trace", "-t", switch.path("ctl"), "vm0")
    try:
        output = Lines(process)
        output.wait("SET_VRING_ENABLE: vring 1, enable 1$")
        vm0.stop(0)
        output.wait("GET_VRING_BASE: vring 0$")
        vm0.disconnect()
        output.wait(" disconnected")
        vm0.connect()
        switch.kill_daemon()
        vm0.disconnect()
        time.sleep(0.5)
        n_lines = len(output.lines)
        switch.start_daemon()
        vm0.connect().start()
        wait_for(lambda: any("SET_VRING_ENABLE: vring 1, enable 1" in line
                             for line in output.lines[n_lines:]))
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stderr.read().count("; waiting") == 1
    finally:
        process.kill()
        process.wait()


def test_both_roles(switch):
    """A port in the front-end role has a trace and a row, too: here the two
    ends of one connection."""
    path = switch.add_port("be", server=True)
    switch.vsctl("add-br", "br1", "--", "set", "Bridge", "br1",
                 "datapath_type=netdev")
    switch.vsctl("add-port", "br1", "fe", "--", "set", "Interface", "fe",
                 "type=vhostuser", "options:role=front-end",
                 f"options:vhost-server-path={path}")
    switch.wait_link("fe")
    switch.wait_link("be")

    def messages(port, direction):
        return [(record["type"], record["name"], record["values"])
                for record in trace(switch, "--no-follow", port)
                if record.get("direction") == direction]
    wait_for(lambda: messages("fe", "in") == messages("be", "out"))
    assert messages("fe", "out") == messages("be", "in")
    assert any(name == "SET_VRING_KICK"
               for _, name, _ in messages("fe", "out"))

    table, = vhost_tool.run_json("top", "-t", switch.path("ctl"), "--once",
                                 "--interval=0.2")
    rows = {port["name"]: port["queues"] for port in table["ports"]}
    assert [q["queue"] for q in rows["fe"]] == ["receiveq 1", "transmitq 1"]
    assert [q["queue"] for q in rows["be"]] == ["receiveq 1", "transmitq 1"]
    assert rows["be"][0]["fill"] > 200 and rows["fe"][0]["fill"] == 0


def test_trace_failures(switch):
    """What is not there is said, with exit status 1."""
    assert "vm9: no such vhostuser port" in vhost_tool.run(
        "trace", "-t", switch.path("ctl"), "vm9", status=1)
    assert "cannot connect to" in vhost_tool.run(
        "trace", "-t", switch.path("nothing"), "vm9", status=1)
    assert "ovs-vswitchd does not run" in vhost_tool.run(
        "trace", "vm9", status=1,
        env=dict(os.environ, OVS_RUNDIR=switch.path("none")))


def test_target_is_found_as_by_appctl(switch, frontends):
    """By default it is the switch in the directory of Open vSwitch."""
    frontends("vm0")
    pid = switch.daemon.pid
    os.symlink(switch.path("ctl"), switch.path(f"ovs-vswitchd.{pid}.ctl"))
    ports = vhost_tool.run_json("top", "--once", "--interval=0.1",
                                env=switch.env)[0]["ports"]
    assert [port["name"] for port in ports] == ["vm0"]


def test_top_counts(switch, frontends):
    """Rates, fill, burst size and drops of each queue."""
    features = bits(F_PROTOCOL_FEATURES, F_VERSION_1)
    vm0 = frontends("vm0", features=features)
    frontends("vm1", features=features)
    process = vhost_tool.start("top", "-t", switch.path("ctl"), "--once",
                               "--interval=2", "--json")
    time.sleep(0.5)
    for _ in range(10):
        vm0.transmit(*[frame(1, 2, 100) for _ in range(20)])
        vm0.flush()
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 0 and not errors
    table = json.loads(output)
    seconds = table["seconds"]
    assert 1.9 < seconds < 20
    queues = {(port["name"], queue["queue"]): queue
              for port in table["ports"] for queue in port["queues"]}
    sent = queues["vm0", "transmitq 1"]
    assert round(sent["packets_per_second"] * seconds) == 200
    assert round(sent["bits_per_second"] * seconds) == 200 * 100 * 8
    assert 1 <= sent["packets_per_burst"] <= 20
    assert sent["fill"] == 0 and sent["size"] == 64
    # The receiver does not look at what it gets: 64 buffers are filled.
    received = queues["vm1", "receiveq 1"]
    assert round(received["packets_per_second"] * seconds) == 64
    assert round(received["drops_per_second"] * seconds) == 136
    assert received["fill"] == 0
    assert queues["vm0", "receiveq 1"]["fill"] == 64


def test_top_table(switch, frontends):
    """Text for scripts, and why a port is down."""
    frontends("vm0")
    switch.add_port("vm1")
    text = vhost_tool.run("top", "-t", switch.path("ctl"), "-n2", "-i0.2")
    assert text.count("2 ports, 1 up\n") == 2
    assert re.search(r"^vm0 +up +receiveq 1 +split +64/64 ", text,
                     re.MULTILINE)
    assert re.search(r"^vm1 +down nobody listens at ", text, re.MULTILINE)
    text = vhost_tool.run("top", "-t", switch.path("ctl"), "--once", "-i0.2",
                          "vm1")
    assert "vm0" not in text and "vm1" in text
    assert "no such vhostuser port" in vhost_tool.run(
        "top", "-t", switch.path("ctl"), "vm9", status=1)


def test_top_on_a_terminal(switch, frontends):
    """It takes the screen and gives it back; "q" ends it."""
    frontends("vm0")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
            [os.path.join(build_directory(), "utilities", "ovs-vhost"),
             "top", "-t", switch.path("ctl")],
            stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        screen = b""
        try:
            while b"transmitq 1" not in screen:
                screen += os.read(ours, 65536)
            os.write(ours, b"q")
            assert process.wait(10) == 0
            screen += os.read(ours, 65536)
        finally:
            process.kill()
            os.close(ours)
    assert screen.startswith(b"\x1b[?1049h")
    assert screen.rstrip().endswith(b"\x1b[?1049l")


@pytest.mark.parametrize("args", [
    ("trace",), ("trace", "a", "b"), ("trace", "--nonsense", "a"),
    ("top", "a", "b"), ("top", "--count=0"), ("top", "--count=x"),
    ("top", "--interval=0"), ("top", "--interval=1y")])
def test_usage_errors(args):
    """What it does not understand it says, with exit status 2."""
    assert "--help" in vhost_tool.run(*args, status=2)
