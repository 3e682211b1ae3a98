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
"""ovs-vhost probe, perf, send and receive: front-ends without a guest."""

import json
import os
import shutil
import signal
import struct
import time

import pytest

import vhost_tool
from backend import Backend
from frontend import F_MRG_RXBUF, bits, frame
from switch import wait_for

pytestmark = pytest.mark.ours

PCAP_HEADER = struct.pack("<IHHiIII", 0xa1b23c4d, 2, 4, 0, 0, 65535, 1)


def write_pcap(path, packets, step=1000):
    """Writes a capture, with 'step' ns between packets."""
    with open(path, "wb") as file:
        file.write(PCAP_HEADER)
        for i, packet in enumerate(packets):
            file.write(struct.pack("<IIII", 1700000000, i * step, len(packet),
                                   len(packet)) + packet)
    return str(path)


def read_pcap(path):
    """The packets of a capture."""
    with open(path, "rb") as file:
        data = file.read()
    magic, _, _, _, _, _, link = struct.unpack_from("<IHHiIII", data)
    assert (magic, link) == (0xa1b23c4d, 1)
    packets = []
    at = len(PCAP_HEADER)
    while at < len(data):
        seconds, fraction, size, original = struct.unpack_from("<IIII", data,
                                                               at)
        assert abs(seconds - time.time()) < 60 and fraction < 10 ** 9
        assert size == original
        packets.append(data[at + 16:at + 16 + size])
        at += 16 + size
    assert at == len(data)
    return packets


@pytest.fixture(name="ports")
def fixture_ports(switch):
    """Sockets of two ports that are servers."""
    return [switch.add_port(name, server=True) for name in ("vm0", "vm1")]


def perf(*args, **kwargs):
    """The result of ovs-vhost perf: that of the first direction."""
    result, = vhost_tool.run_json("perf", *args, **kwargs)
    return dict(result["directions"][0], all=result)


# Probe.

def test_probe(switch, ports):
    """What the port offers, and that nothing is left of it."""
    text = vhost_tool.run("probe", ports[0])
    assert "queue pairs        128\n" in text
    assert "RING_PACKED" in text and "REPLY_ACK" in text
    assert max(map(len, text.splitlines()[1:])) < 80
    result = json.loads(vhost_tool.run("probe", "--json", ports[0]))
    assert result["queue_pairs"] == 128 and result["memory_slots"] == 128
    assert "MRG_RXBUF" in result["features"]
    assert "packed" in result["driver"]["rings"]
    show, = json.loads(switch.appctl("vhostuser/show", "--json", "vm0"))
    assert not show["connected"] and not show["vrings"]
    assert not show["memory"] and not show["link"]


def test_probe_waits_for_a_client(switch):
    """With --listen for a back-end that connects."""
    path = switch.add_port("vm0")
    result = json.loads(vhost_tool.run("probe", "--listen", "--json", path))
    assert result["queue_pairs"] == 128
    assert not os.path.exists(path)


def test_probe_legacy(tmp_path):
    """A back-end that we could not use can be questioned all the same."""
    path = tmp_path / "b.sock"
    with Backend(str(path), features=bits(F_MRG_RXBUF)) as backend:
        output = vhost_tool.run("probe", path)
        assert " device             legacy\n" in output
        assert backend.connections == 1


def test_probe_says_why_not(switch, ports, tmp_path):
    """Nobody there, no permission to be second."""
    assert "no such file" in vhost_tool.run(
        "probe", "--wait=0.3", tmp_path / "nothing", status=1)
    process = vhost_tool.start("receive", ports[0], tmp_path / "x.pcap")
    try:
        switch.wait_link("vm0")
        assert vhost_tool.run("probe", "--wait=0.5", ports[0], status=1)
        switch.wait_link("vm0")
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture(name="net_vhost")
def fixture_net_vhost(testpmds, tmp_path):
    """A testpmd with DPDK's own back-end: net_vhost(listen, queues)."""
    def make(server=True, queues=1, **options):
        path = str(tmp_path / "dpdk.sock")
        testpmd = testpmds("vhost", path, queues=queues)
        devargs = dict(options, iface=path, queues=queues)
        if not server:
            devargs["client"] = 1
        testpmd.device = "net_vhost0," + ",".join(
            f"{key}={value}" for key, value in devargs.items())
        testpmd.start()
        return testpmd, path
    return make


@pytest.mark.parametrize("server", [True, False],
                         ids=["connects", "listens"])
def test_probe_dpdk(net_vhost, server):
    """Any back-end will do: DPDK's."""
    testpmd, path = net_vhost(server=server, queues=2)
    args = [] if server else ["--listen"]
    result = json.loads(vhost_tool.run("probe", "--json", *args, path))
    assert result["queue_pairs"] >= 2
    assert {"MRG_RXBUF", "VERSION_1", "MQ"} <= set(result["features"])
    assert "REPLY_ACK" in result["protocol_features"]
    assert testpmd.alive() and not testpmd.link()


# Perf.

@pytest.mark.parametrize("ring", [[], ["--packed"], ["--no-mergeable"]],
                         ids=["split", "packed", "not-mergeable"])
def test_perf_loses_nothing(ports, ring):
    """At a low rate all packets arrive, once and in order."""
    result = perf("--duration=2", "--rate=2k", "--queues=2",
                  "--queue-size=1024", "--bidirectional", "--size=1000",
                  *ring, *ports)
    for way in result["all"]["directions"]:
        assert 2000 < way["sent"] <= 4000
        assert way["received"] == way["sent"]
        assert way["lost"] == way["pending"] == way["stale"] == 0
        assert way["reordered"] == way["duplicates"] == way["malformed"] == 0
        latency = way["latency_ns"]
        assert latency["count"] == way["received"]
        assert 0 < latency["min"] <= latency["p50"] <= latency["p99"] \
            <= latency["p99.9"] <= latency["max"]
        assert sum(q["sent"] for q in way["queues"]) == way["sent"]
        assert all(q["sent"] > 900 for q in way["queues"])
    assert [p["times_up"] for p in result["all"]["ports"]] == [1, 1]


def test_perf_one_socket(switch, ports):
    """A switch that bounces."""
    switch.ofctl("del-flows")
    switch.ofctl("add-flow", "in_port=vm0,actions=in_port")
    result = perf("--duration=1", "--rate=5k", ports[0])
    assert result["from"] == result["to"]
    assert result["received"] == result["sent"] > 2000
    assert result["lost"] == 0


def test_perf_finds_what_is_lost(switch, ports):
    """One flow of four is dropped, one comes twice."""
    switch.ofctl("del-flows")
    switch.ofctl("add-flow", "priority=2,udp,tp_src=1025,actions=drop")
    switch.ofctl("add-flow", "priority=2,udp,tp_src=1026,in_port=vm0,"
                 "actions=output:vm1,output:vm1")
    switch.ofctl("add-flow", "priority=1,in_port=vm0,actions=output:vm1")
    result = perf("--duration=2", "--rate=2k", "--flows=4", *ports)
    quarter = result["sent"] / 4
    assert quarter > 400
    assert abs(result["lost"] - quarter) <= 1
    assert abs(result["duplicates"] - quarter) <= 1
    assert result["received"] == (result["sent"] - result["lost"]
                                  + result["duplicates"])
    assert result["reordered"] == 0
    assert result["queues"][0]["missing"] == result["lost"]


def test_perf_as_fast_as_possible(ports):
    """Whatever is lost then is counted, and every packet is accounted for."""
    output = vhost_tool.run("perf", "--duration=2", *ports)
    assert "1 s: sent " in output and "latency     p50 " in output
    result = perf("--duration=1", *ports)
    assert result["sent"] > 20000
    assert (result["received"] + result["lost"] + result["pending"]
            == result["sent"])
    assert result["duplicates"] == 0


def test_perf_send_and_receive_only(switch, ports):
    """Two of them, as one generator and one sink."""
    sink = vhost_tool.start("perf", "--receive-only", "--json",
                            "--duration=4", ports[1])
    try:
        switch.wait_link("vm1")
        result = perf("--send-only", "--duration=1", "--rate=2k", ports[0])
        assert result["sent"] > 1000 and "received" not in result
        output, _ = sink.communicate(timeout=20)
        port, = json.loads(output)["ports"]
        # What was in the ring when the generator left is lost.
        assert result["sent"] - 300 < port["other_packets"] \
            < result["sent"] + 20
    finally:
        sink.kill()
        sink.wait()


def test_perf_outlives_the_switch(switch, ports):
    """A restart is seen, survived and its loss counted."""
    process = vhost_tool.start("perf", "--json", "--duration=8", "--rate=1k",
                               *ports)
    try:
        for name in ("vm0", "vm1"):
            switch.wait_link(name)
        time.sleep(1)
        switch.kill_daemon(signal.SIGKILL)
        time.sleep(0.7)
        switch.start_daemon()
        for name in ("vm0", "vm1"):
            switch.wait_link(name)
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert "vm0: up" in errors
    result = json.loads(output)
    way, = result["directions"]
    assert [port["times_up"] for port in result["ports"]] == [2, 2]
    assert 2000 < way["sent"] < 8000
    # At most what the rings held, and those under way in the switch.
    assert way["lost"] <= 600
    outage, = way["outages"]
    assert outage["duration_ns"] > 7e8
    assert outage["lost"] <= outage["in_ring"] + outage["in_switch"]
    assert way["received"] >= way["sent"] - 600
    assert way["malformed"] == 0


@pytest.mark.parametrize("ring", [[], ["--packed"]], ids=["split", "packed"])
@pytest.mark.parametrize("listen", [False, True], ids=["connect", "listen"])
def test_perf_through_bounce(tmp_path, ring, listen):
    """Our two ends of the protocol without a switch, also interrupted."""
    paths = [tmp_path / "a", tmp_path / "b"]
    bounce = vhost_tool.start("bounce", "--json",
                              *([] if listen else ["--server"]), *paths)
    process = vhost_tool.start("perf", "--json", "--rate=2k", "--queues=4",
                               "--duration=0", "--queue-size=1024", *ring,
                               *(["--listen"] if listen else []), *paths)
    try:
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
        bounce.terminate()
        bounced, _ = bounce.communicate(timeout=20)
    finally:
        for each in (process, bounce):
            each.kill()
            each.wait()
    assert process.returncode == 0, errors
    way, = json.loads(output)["directions"]
    assert way["sent"] > 1000
    assert way["received"] == way["sent"]
    assert way["lost"] == way["duplicates"] == way["reordered"] == 0
    assert [q["sent"] > 200 for q in way["queues"]] == [True] * 4
    assert json.loads(bounced)["directions"][0]["packets"] == way["sent"]


def test_perf_png(ports, tmp_path):
    """gnuplot draws, and its absence is said."""
    args = ["--duration=0.5", "--rate=1k", *ports]
    png = tmp_path / "it's.png"
    if shutil.which("gnuplot"):
        vhost_tool.run("perf", f"--png={png}", *args)
        assert png.read_bytes().startswith(b"\x89PNG")
    assert "gnuplot is not installed" in vhost_tool.run(
        "perf", f"--png={png}", *args, status=1,
        env=dict(os.environ, PATH=str(tmp_path)))


def test_perf_without_a_back_end(tmp_path):
    """It waits, but not for ever."""
    assert "no such file" in vhost_tool.run(
        "perf", "--wait=0.8", tmp_path / "nothing", status=1)


@pytest.mark.parametrize("command", ["perf", "send", "receive"])
def test_short_wait_has_a_reason(tmp_path, command):
    """Also if it is over before a problem is worth a line."""
    args = {"perf": ["--wait=0.2"], "receive": ["--duration=0.2"],
            "send": ["--wait=0.2"]}[command]
    if command != "perf":
        args.append(write_pcap(tmp_path / "x.pcap", []))
        args.insert(1, tmp_path / "nothing")
    else:
        args.append(tmp_path / "nothing")
    assert "no such file" in vhost_tool.run(command, *args, status=1)


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_perf_dpdk(net_vhost, packed):
    """Through testpmd, which sends back what it gets."""
    testpmd, path = net_vhost(queues=2)
    testpmd.forward("io")
    result = perf("--duration=2", "--rate=2k", "--queues=2",
                  *(["--packed"] if packed else []), path)
    assert result["sent"] > 2000 and result["lost"] == 0
    assert result["duplicates"] == result["reordered"] == 0
    assert testpmd.alive()


# Captures.

def capture(count):
    """Frames of many sizes that all differ."""
    return [frame(1, 2, 60 + i * 37 % 1455, struct.pack(">I", i))
            for i in range(count)]


@pytest.mark.parametrize("ring", [[], ["--packed", "--queue-size=600"]],
                         ids=["split", "packed"])
def test_send_and_receive(switch, ports, tmp_path, ring):
    """What is in one file comes into the other, byte by byte."""
    packets = capture(500)
    out = tmp_path / "out.pcap"
    receiver = vhost_tool.start("receive", "--count=500", "--json", *ring,
                                ports[1], out)
    try:
        switch.wait_link("vm1")
        result, = vhost_tool.run_json(
            "send", "--rate=1k", *ring, ports[0],
            write_pcap(tmp_path / "in.pcap", packets))
        assert result["sent"] == 500 and result["pending"] == 0
        assert result["bytes"] == sum(map(len, packets))
        output, errors = receiver.communicate(timeout=20)
    finally:
        receiver.kill()
        receiver.wait()
    assert receiver.returncode == 0, errors
    assert json.loads(output)["received"] == 500
    assert read_pcap(out) == packets


def test_send_timed(ports, tmp_path):
    """With the pauses of the file."""
    path = write_pcap(tmp_path / "in.pcap", capture(6), step=150000000)
    start = time.monotonic()
    assert vhost_tool.run("send", "--timed", ports[0], path) \
        == "6 packets sent\n"
    assert 0.7 < time.monotonic() - start < 5


def test_receive_is_interrupted(switch, ports, tmp_path):
    """Whatever has come until then is in the file."""
    out = tmp_path / "out.pcap"
    receiver = vhost_tool.start("receive", ports[1], out)
    try:
        switch.wait_link("vm1")
        vhost_tool.run("send", ports[0],
                       write_pcap(tmp_path / "in.pcap", capture(3)))
        wait_for(lambda: len(out.read_bytes()) > 200)
        receiver.send_signal(signal.SIGINT)
        output, _ = receiver.communicate(timeout=10)
    finally:
        receiver.kill()
        receiver.wait()
    assert receiver.returncode == 0
    assert output == "3 packets received\n"
    assert read_pcap(out) == capture(3)


def test_send_bad_files(ports, tmp_path):
    """A file that makes no sense is refused; the good part is sent."""
    path = tmp_path / "bad.pcap"
    path.write_bytes(b"no capture at all, but long enough")
    assert "is no pcap file" in vhost_tool.run("send", ports[0], path,
                                               status=1)
    path.write_bytes(PCAP_HEADER + struct.pack("<IIII", 0, 0, 60, 60)
                     + bytes(60) + struct.pack("<IIII", 0, 0, 1 << 31, 60))
    process = vhost_tool.start("send", ports[0], path)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert output == "1 packets sent\n"
    assert "packet 1 has a bad header" in errors
    assert "No such file" in vhost_tool.run("send", ports[0],
                                            tmp_path / "none", status=1)
    assert "No such file" in vhost_tool.run(
        "receive", ports[0], tmp_path / "none" / "x", status=1)


@pytest.mark.parametrize("args", [
    ("probe",), ("probe", "a", "b"), ("probe", "--wait=x", "a"),
    ("perf",), ("perf", "a", "b", "c"), ("perf", "--size=59", "a"),
    ("perf", "--size=65536", "a"), ("perf", "--queues=129", "a"),
    ("perf", "--queue-size=1", "a"), ("perf", "--rate=1x", "a"),
    ("perf", "--bidirectional", "a"), ("perf", "--flows=0", "a"),
    ("perf", "--receive-only", "--rate=1", "a"),
    ("send", "a"), ("send", "--rate=1", "--timed", "a", "b"),
    ("receive", "a"), ("receive", "--count=0", "a", "b")])
def test_usage_errors(args):
    """What it does not understand it says, with exit status 2."""
    assert "--help" in vhost_tool.run(*args, status=2)
