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
"""What is measured, and with what: cases and systems.

A system joins two guests.  It is a context manager, entered before the guests
start, and tells what it did: "busy", the cycles a packet when polls that find
nothing do not count, and "load", the share of its time that was not idle, in
percent.
"""

import json
import os
import re
import signal
import subprocess
import tempfile

from dataclasses import dataclass, field

from peers import Pinned, Peers
from switch import Switch, SwitchError, build_directory, wait_for

SYSTEM_CORE = 0                 # What is measured has this to itself,
PEERS_CORE = 1                  # its peers this one.


@dataclass
class Case:
    """What the two guests do.  'devargs' are those of virtio-user."""
    name: str
    size: int = 64
    devargs: dict = field(default_factory=dict)
    queues: int = 1
    flows: int = 1
    forward: str = "io"
    commands: tuple = ()
    # Of the switch: output, NORMAL, vlan or drop; with "ring" there is one
    # guest, and what it sends goes to a DPDK port and comes back from there.
    action: str = "output"

    @property
    def packed(self):
        """True if it needs a back-end with packed rings."""
        return bool(self.devargs.get("packed_vq"))

    @property
    def vectorized(self):
        """True if it needs a CPU with AVX-512."""
        return self.packed and bool(self.devargs.get("vectorized"))


CASES = [
    Case("64 split"),
    Case("64 split, not mergeable", devargs={"mrg_rxbuf": 0, "in_order": 0}),
    Case("64 packed", devargs={"packed_vq": 1, "in_order": 0}),
    Case("64 packed, in-order, vectorized",
         devargs={"packed_vq": 1, "mrg_rxbuf": 0, "in_order": 1,
                  "vectorized": 1}),
    # Packets of one segment are never indirect here, so the guests copy them
    # into two, which makes them slow: compare busy cycles.
    Case("64 split, indirect", devargs={"in_order": 0}, forward="csum",
         commands=("set txpkts 32,32", "set txsplit on")),
    Case("512 split", size=512),
    Case("1518 split", size=1518),
    Case("9000 split", size=9000),
    Case("64 split, 1000 flows", flows=1000, forward="flowgen"),
    Case("64 split, 2 queues", queues=2),
    Case("64 split, NORMAL", action="NORMAL"),
    Case("64 split, VLAN push and pop", action="vlan"),
    # What is received into does not come back to the port, as if the packets
    # went to a port of another type.
    Case("64 split, dropped", forward="txonly", action="drop"),
    # The mbufs of a net_ring come back to the port as they were sent.
    Case("64 split, DPDK port", action="ring"),
    Case("1518 split, DPDK port", size=1518, action="ring"),
]
QUICK = CASES[:1]


def has_avx512():
    """True if DPDK's vectorized packed rings work on this CPU."""
    with open("/proc/cpuinfo", encoding="ascii") as file:
        return "avx512bw" in file.read()


class System:
    """Base class."""

    name = ""
    switch = False              # Or else an engine alone.

    def __init__(self, case, paths):
        self.case = case
        self.paths = paths

    def command_lines(self):
        """How it was started, for the report."""
        return []

    def peers(self):
        """The guests for this system."""
        return Peers(self.paths, self.case, PEERS_CORE)

    def pid(self):
        """The process that is measured."""
        return 0

    def peers_prefix(self):
        """The command that the guests are started with, if any."""
        return []

    def ready(self):
        """What is to do when the guests are there."""

    def begin_measuring(self):
        """Forgets what was before."""

    def result(self):
        """{"busy": cycles a packet, "load": percent} since then; at the
        end."""
        return {}


class SwitchSystem(System):
    """A switch with two ports."""

    switch = True
    kind = "ours"

    def __init__(self, case, paths):
        super().__init__(case, paths)
        self.ovs = Switch(kind=self.kind,
                          pmd_mask=hex(1 << SYSTEM_CORE))
        self.configure()

    def configure(self):
        """PMD threads never sleep here; OVS-DPDK has hugepages."""
        settings = [item for item in self.ovs.other_config
                    if "sleep" not in item and "dpdk-extra" not in item]
        if self.kind != "ours":
            settings += ["dpdk-socket-mem=1024",
                         "dpdk-extra=--no-pci --in-memory"]
        self.ovs.other_config = settings

    def command_lines(self):
        lines = [" ".join(self.ovs.daemon.args)] if self.ovs.daemon else []
        return lines + [f"other_config:{item}"
                        for item in self.ovs.other_config]

    def add_ports(self):
        """Adds the two ports."""
        mtu = {512: None, 64: None}.get(self.case.size, self.case.size + 100)
        for i, path in enumerate(self.paths):
            if i and self.case.action == "ring":
                self.ovs.vsctl("add-port", "br0", "vm1", "--", "set",
                               "Interface", "vm1", "type=dpdk",
                               "options:dpdk-devargs=net_ring0",
                               "options:n_rxq=2")
            else:
                self.ovs.add_port(f"vm{i}", path=path, mtu=mtu)

    def add_flows(self):
        """Makes the switch forward as the case says."""
        numbers = [int(self.ovs.get(f"vm{i}", "ofport")) for i in (0, 1)]
        self.ovs.ofctl("del-flows")
        if self.case.action in ("NORMAL", "drop"):
            self.ovs.ofctl("add-flow", f"actions={self.case.action}")
            return
        for source, target in (numbers, numbers[::-1]):
            match = f"in_port={source}"
            if self.case.flows > 1:
                match += ",udp"
            self.ovs.ofctl("add-flow", f"{match},actions=output:{target}")
            if self.case.action == "vlan":
                # A packet goes round for ever: tag it, then untag it.
                self.ovs.ofctl(
                    "add-flow", f"priority=40000,{match},"
                    "vlan_tci=0x0000/0x1000,"
                    f"actions=mod_vlan_vid:100,output:{target}")
                self.ovs.ofctl(
                    "add-flow", f"priority=40000,{match},dl_vlan=100,"
                    f"actions=strip_vlan,output:{target}")

    def __enter__(self):
        self.ovs.__enter__()
        try:
            self.add_ports()
        except BaseException:
            self.ovs.close()
            raise
        return self

    def ready(self):
        for i in (0, 1):
            self.ovs.wait_link(f"vm{i}")
        self.add_flows()

    def __exit__(self, *_):
        self.ovs.check_alive()
        self.ovs.close()

    def pid(self):
        return self.ovs.daemon.pid

    def begin_measuring(self):
        self.ovs.appctl("dpif-netdev/pmd-stats-clear")

    def result(self):
        text = self.ovs.appctl("dpif-netdev/pmd-stats-show")
        text = text[text.index("pmd thread"):]

        def number(what):
            match = re.search(rf"{what}: (\d+)", text)
            return int(match[1]) if match else 0
        packets = number("packets received")
        idle, busy = number("idle cycles"), number("processing cycles")
        if not packets:
            raise SwitchError("no packets: " + text)
        return {"busy": busy / packets, "load": 100 * busy / (busy + idle),
                "received": packets}


class Ours(SwitchSystem):
    """Our port in our daemon."""
    name = "ours"


class OursDpdk(SwitchSystem):
    """Our port in our daemon for a switch with DPDK."""
    name = "ours-dpdk"
    kind = "ours-dpdk"


class OvsDpdk(SwitchSystem):
    """dpdkvhostuserclient in Debian's daemon with DPDK."""
    name = "ovs-dpdk"
    kind = "dpdk"


class Tap(SwitchSystem):
    """Two tap devices of the guests in the same switch, as system ports:
    what there is without DPDK.  Their peer is testpmd's net_tap, which holds
    the tap devices as QEMU does; there are no rings, and no PMD thread."""
    name = "tap"

    def peers(self):
        devices = [f"net_tap{i},iface=vhutap{i},mac={mac}"
                   for i, mac in enumerate(("02:11:00:00:00:01",
                                            "02:11:00:00:00:02"))]
        return Peers([], self.case, PEERS_CORE, devices)

    def peers_prefix(self):
        # The tap devices have to be in the network namespace of the daemon.
        return ["nsenter", f"--net=/proc/{self.ovs.daemon.pid}/ns/net"]

    def add_ports(self):
        """The tap devices are not there yet."""

    def ready(self):
        for i in (0, 1):
            self.ovs.vsctl("add-port", "br0", f"vhutap{i}", "--", "set",
                           "Interface", f"vhutap{i}", "type=system")
            subprocess.run([*self.peers_prefix(), "ip", "link", "set",
                            f"vhutap{i}", "up"], check=True)
        self.ovs.ofctl("del-flows")
        numbers = [int(self.ovs.get(f"vhutap{i}", "ofport")) for i in (0, 1)]
        for source, target in (numbers, numbers[::-1]):
            self.ovs.ofctl("add-flow",
                           f"in_port={source},actions=output:{target}")

    def result(self):
        return {}


class Program(System):
    """A program of ours that is a back-end for two sockets."""

    program = ()

    def __init__(self, case, paths):
        super().__init__(case, paths)
        self.process = None
        self.args = [
            "taskset", "-c", str(SYSTEM_CORE),
            os.path.join(build_directory(), self.program[0]),
            *self.program[1:], "--json", *paths]

    def command_lines(self):
        return [" ".join(self.args)]

    def __enter__(self):
        self.process = subprocess.Popen(
            self.args, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL, text=True)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def pid(self):
        return self.process.pid

    def begin_measuring(self):
        self.process.send_signal(signal.SIGUSR1)

    def result(self):
        self.process.send_signal(signal.SIGTERM)
        output, errors = self.process.communicate(timeout=10)
        if self.process.returncode or not output:
            raise SwitchError(f"{self.name}: {errors}")
        value = json.loads(output)
        return {"busy": value["busy_per_packet"],
                "load": value["busy_percent"],
                "idle poll": value["idle_per_poll"],
                "packets a burst": value["packets_per_burst"],
                "dropped": value["dropped"]}


class Bounce(Program):
    """Our engine alone."""
    name = "bounce"
    program = ("utilities/ovs-vhost", "bounce")


class Limit(Program):
    """The bare ring loop."""
    name = "limit"
    program = ("tests/bench/limit",)


class DpdkVhost(System):
    """DPDK's vhost library alone: testpmd with two net_vhost ports."""
    name = "dpdk-vhost"

    def __init__(self, case, paths):
        super().__init__(case, paths)
        devices = [f"net_vhost{i},iface={path},queues={case.queues},client=1"
                   for i, path in enumerate(paths)]
        options = [f"--rxq={case.queues}", f"--txq={case.queues}",
                   "--record-core-cycles"]
        if case.size > 2000:
            options += ["--mbuf-size=9728", f"--max-pkt-len={case.size}"]
        self.testpmd = Pinned("vhost", SYSTEM_CORE, devices, options)

    def command_lines(self):
        return [" ".join(self.testpmd.args)]

    def __enter__(self):
        try:
            self.testpmd.start()
        except BaseException:
            self.testpmd.kill()
            raise
        return self

    def ready(self):
        def up():
            text = self.testpmd.command("show port summary all")
            return len(re.findall(r"\bup\b", text)) >= 2
        wait_for(up, 20, "net_vhost ports are up")
        self.testpmd.command("set fwd io", "start")

    def __exit__(self, *_):
        self.testpmd.kill()

    def pid(self):
        return self.testpmd.process.pid

    def begin_measuring(self):
        self.testpmd.command("clear fwd stats all")

    def result(self):
        text = self.testpmd.command("show fwd stats all")
        match = re.search(r"CPU cycles/packet=([\d.]+)", text)
        if not match:
            raise SwitchError("no busy cycles: " + text[-600:])
        return {"busy": float(match[1])}


SYSTEMS = [Ours, OursDpdk, OvsDpdk, Tap, Bounce, DpdkVhost, Limit]


def make_directory():
    """A directory for the sockets of one measurement: short paths."""
    return tempfile.mkdtemp(prefix="vhub.")
