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
"""A guest that migrates from one port to another, of the same switch or of
two, and what must not happen to it on the way.

QEMU tells the back-end to log which pages it writes (VHOST_F_LOG_ALL).  If
the log lacks a page, then the destination has an old copy of it.  So when the
source has ended and the destination has not begun (hold=True), the memories
of both are compared, page by page.  That proves more than any checksum that
the guest computes; but that, too, is done, over what came from the network
and was written by nobody but the switch."""

import mmap
import os
import time
from dataclasses import dataclass, field

from guest import Guest, Nic
from switch import wait_for

ADDRESS = "10.0.0.1"
MAC = "52:54:00:12:34:56"
PAGE = 4096

# MB of memory.  The translator (tcg) of QEMU 7.2 misses pages that the
# guest writes right after the log was looked at, which kills guests now and
# then.  It does not if the memory is no multiple of 64 pages, since it then
# takes another way to look.
MEMORY = 128 + 8 / 1024


class MigrationError(Exception):
    """The migration, or what came of it, is not what it must be."""


@dataclass
class Place:
    """A port where the guest can be."""
    switch: object
    port: str
    path: str
    server: bool = True         # QEMU listens.
    via: str = ""               # The port of outside's switch that leads here.

    def __post_init__(self):
        self.via = self.via or self.port


@dataclass
class Result:
    """What there is to say about one migration."""
    name: str = ""
    downtime: int = 0           # ms, as QEMU says.
    total: int = 0              # ms.
    rounds: int = 0             # How often the dirty log was looked at.
    mbytes: float = 0.0         # What went over, of memory.
    pages: int = 0              # Compared.
    differing: int = 0          # Of those.
    held: int = 0               # Bytes in buffers, read at the destination.
    lost: int = 0               # Pings without an answer.
    duplicates: int = 0         # Pings with more than one.
    gap: float = 0.0            # Longest time without an answer, s.
    announced: list = field(default_factory=list)
    moved: float = 0.0          # When the MAC table had the new port, s.


def cable(switch, other, **options):
    """Joins two switches, by a port of "switch" in the front-end role and one
    of 'other' in the back-end role; returns the former."""
    path = switch.path("cable.sock")
    switch.add_port("fe0", server=True, path=path, role="front-end",
                    **options)
    other.add_port("be0", path=path)
    for one, port in ((switch, "fe0"), (other, "be0")):
        one.wait_link(port)
    return "fe0"


class Memory:
    """The memory of a guest, from outside."""

    def __init__(self, guest):
        pid = guest.process.pid
        found = []
        for number in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{number}"
            try:
                if "memfd:memory-backend" in os.readlink(path):
                    found.append(path)
            except FileNotFoundError:
                pass
        if not found:
            raise MigrationError(f"QEMU {pid} has no memfd")
        with open(found[0], "rb") as file:
            self.size = os.fstat(file.fileno()).st_size
            self.map = mmap.mmap(file.fileno(), self.size,
                                 prot=mmap.PROT_READ)

    def close(self):
        """Lets go of it."""
        self.map.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def differing(self, other):
        """The numbers of the pages that are not the same."""
        if self.size != other.size:
            raise MigrationError(f"memory of {self.size} and {other.size}")
        pages = []
        slab = 256 * PAGE
        for start in range(0, self.size, slab):
            end = min(start + slab, self.size)
            if self.map[start:end] == other.map[start:end]:
                continue
            pages += [at // PAGE for at in range(start, end, PAGE)
                      if self.map[at:at + PAGE] != other.map[at:at + PAGE]]
        return pages


class Traveller:
    """A guest that migrates, with what runs in it."""

    def __init__(self, directory, image, places, outside, device="",
                 queues=1, host_mtu=0, memory=MEMORY):
        """'outside' is the network of the switch of places[0]."""
        self.directory = str(directory)
        self.image = image
        self.places = places
        self.outside = outside
        self.options = {"device": device, "queues": queues,
                        "host_mtu": host_mtu}
        self.memory = memory
        self.at = 0
        self.made = 0
        self.guest = None
        self.next = None        # The QEMU that takes the guest over.
        self.pings = None
        self.echo = None

    # QEMU.

    def nic(self, place):
        """The network card, at a place."""
        return Nic(place.path, server=place.server, mac=MAC, **self.options)

    def make(self, place, wait, options=()):
        """Starts a QEMU at 'place'."""
        guest = Guest(os.path.join(self.directory, f"qemu{self.made}"),
                      self.image, memory=self.memory)
        self.made += 1
        try:
            guest.start([self.nic(place)], wait=wait, options=options)
        except BaseException:
            guest.kill()
            raise
        return guest

    def boot(self, place=0):
        """Boots the guest at one of the places."""
        self.close()
        self.at = place
        self.guest = self.make(self.places[place], wait=True)
        mtu = self.options["host_mtu"] or None
        self.guest.configure(ADDRESS + "/24", mtu=mtu,
                             queues=self.options["queues"])
        # Room for what nobody reads, see hold_data(), and more, since TCP
        # resets connections when it is short of memory.
        self.guest.run(
            "echo '4096 8388608 8388608' > /proc/sys/net/ipv4/tcp_rmem; "
            "echo '10000 15000 20000' > /proc/sys/net/ipv4/tcp_mem; "
            "dd if=/dev/urandom of=/tmp/known bs=64k count=128 2> /dev/null; "
            "(nc -ll -p 7 -e cat < /dev/null > /dev/null 2>&1 &); "
            "(nc -ll -p 10 -e dd of=/dev/null bs=64k < /dev/null > /dev/null "
            "2>&1 &); "
            "httpd -h /tmp")
        self.guest.wait_ping(self.outside.ADDRESS)
        return self

    def close(self):
        """Ends everything."""
        for guest in (self.guest, self.next):
            if guest:
                guest.kill()
        self.guest = self.next = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def prepare(self, place, stopped):
        """Starts the QEMU to which the guest will go."""
        socket = os.path.join(self.directory, f"migrate{self.made}")
        options = ["-incoming", f"unix:{socket}"] + (["-S"] * stopped)
        self.next = self.make(self.places[place], wait=False, options=options)
        wait_for(lambda: os.path.exists(socket), 20, "QEMU waits for a guest")
        # Its commands must not be mistaken for those of the one before.
        self.next.tag = self.guest.tag + 1000
        return "unix:" + socket

    # What the switches say.

    def log(self):
        """The dirty log that the back-end has mapped, or an empty one."""
        pid = self.places[self.at].switch.daemon.pid
        content = b""
        with open(f"/proc/{pid}/maps", encoding="utf-8") as maps, \
                open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for line in maps:
                if "memfd:vhost-log" in line:
                    start, end = [int(word, 16)
                                  for word in line.split()[0].split("-")]
                    memory.seek(start)
                    content += memory.read(end - start)
        return content

    def logging(self):
        """True if the back-end was told to log."""
        place = self.places[self.at]
        if place.switch.kind == "dpdk":
            return bool(self.log())
        return "LOG_ALL" in place.switch.appctl("vhostuser/show", place.port)

    def wait_moved(self, when, timeout=20):
        """Waits until the outside's switch sends what is for the guest to
        where it is; returns how long that took, since 'when'."""
        switch = self.outside.switch
        port = str(switch.get(self.places[self.at].via, "ofport"))

        def moved():
            return any(words[2:3] == [MAC] and words[0] == port
                       for words in map(str.split, switch.appctl(
                           "fdb/show", "br0").splitlines()))
        wait_for(moved, timeout, f"{MAC} at port {port}", interval=0.02)
        return time.monotonic() - when

    # Traffic.

    def begin_traffic(self, interval=0.01, rate=1 << 20):
        """Starts to ping the guest and to talk to its echo server."""
        self.pings = self.outside.ping(ADDRESS, interval=interval)
        self.echo = self.outside.echo(ADDRESS, rate=rate)
        self.pings.wait_answered()
        self.echo.wait_progress()

    def end_traffic(self):
        """Ends both."""
        for worker in (self.pings, self.echo):
            if worker:
                worker.check()
                self.outside.remove(worker)
        self.pings = self.echo = None

    def check_traffic(self):
        """Insists that both work."""
        self.pings.wait_answered()
        self.echo.wait_progress()
        for worker in self.outside.workers:
            worker.check()

    def hold_data(self):
        """Has a process of the guest listen that will not read, until
        release_data(): what it gets stays in buffers that only the switch
        has written."""
        self.guest.run("nc -l -p 9 > /tmp/held < /dev/null 2> /dev/null & "
                       "echo $! > /tmp/held.pid; "
                       "while ! netstat -ltn | grep -q ':9 '; "
                       "do sleep 0.1; done; kill -STOP $(cat /tmp/held.pid)")

    def release_data(self, pour):
        """Has the guest read what it holds; returns how much that was."""
        want = pour.finish()
        got = self.guest.run(
            "pid=$(cat /tmp/held.pid); kill -CONT $pid; "
            "while [ -d /proc/$pid ]; do sleep 0.1; done; "
            "sha256sum < /tmp/held; rm /tmp/held", timeout=150).split()[0]
        self.outside.remove(pour)
        if got != want:
            raise MigrationError("what the guest held is not what was sent")
        return pour.sent

    def known(self):
        """The checksum of a file in the guest."""
        return self.guest.run("sha256sum < /tmp/known",
                              timeout=150).split()[0]

    def dirty(self, mbytes=1, pause="0.05"):
        """Has the guest write memory, until stop_dirty()."""
        self.guest.run(
            "echo 'while :; do dd if=/dev/urandom of=/tmp/dirty bs=64k "
            f"count={16 * mbytes} conv=notrunc 2> /dev/null; sleep {pause}; "
            "done' > /tmp/dirty.sh; "
            "sh /tmp/dirty.sh < /dev/null > /dev/null 2>&1 & "
            "echo $! > /tmp/dirty.pid")

    def stop_dirty(self):
        """Ends that."""
        self.guest.run("kill $(cat /tmp/dirty.pid)", check=False)

    # Migration.

    def status(self):
        """What QEMU says of the migration that it does."""
        return self.guest.qmp("query-migrate")

    def start_migration(self, place, bandwidth=64, downtime=100,
                        stopped=False):
        """Begins to migrate; 'bandwidth' is in MB/s, 'downtime' in ms."""
        uri = self.prepare(place, stopped)
        self.guest.qmp("migrate-set-parameters", **{
            "max-bandwidth": bandwidth << 20, "downtime-limit": downtime})
        self.guest.qmp("migrate", uri=uri)

    def wait_status(self, *wanted, timeout=60):
        """Waits until the migration has one of these states."""
        def reached():
            status = self.status()
            state = status.get("status")
            if state in wanted:
                return status
            if state in ("failed", "completed", "cancelled"):
                raise MigrationError(f"migration {state}: {status} "
                                     f"{self.guest.log()} {self.next.log()}")
            return None
        return wait_for(reached, timeout, f"migration {wanted}",
                        interval=0.02)

    def wait_logging(self):
        """Waits until the migration is under way and the back-end logs."""
        self.wait_status("active", "device", "completed")
        wait_for(self.logging, what="logging")

    def migrate(self, place, name="", hold=False, data=True, bandwidth=64,
                downtime=100):
        """Migrates the guest; returns a Result.  With 'hold' the memories
        are compared before the guest goes on."""
        result = Result(name or f"{self.at} to {place}")
        first = len(self.pings.sent)
        known = self.known()
        if data:
            self.hold_data()
        self.start_migration(place, bandwidth, downtime, stopped=hold)
        self.wait_logging()
        pour = self.outside.pour(ADDRESS, seed=self.made) if data else None
        status = self.wait_status("completed")
        when = time.monotonic()
        if hold:
            self.compare(result)
            when = time.monotonic()
            self.next.qmp("cont")
        source, self.guest, self.next = self.guest, self.next, None
        self.at = place
        try:
            result.moved = self.wait_moved(when)
            self.check_traffic()
        finally:
            source.kill()
        self.fill_in(result, status, first)
        result.announced = self.outside.ear.since(
            when - result.downtime / 1e3 - 0.2, MAC)
        if pour:
            result.held = self.release_data(pour)
        if self.known() != known:
            raise MigrationError("a file in the guest has changed")
        return result

    def compare(self, result):
        """Compares the memories of the source, which has ended, and of the
        destination, which has not begun."""
        wait_for(lambda: self.next.qmp("query-status")["status"]
                 == "paused", what="the destination is ready")
        with Memory(self.guest) as old, Memory(self.next) as new:
            result.pages = old.size // PAGE
            pages = old.differing(new)
            # Nor may anybody write into either of them now.
            time.sleep(0.1)
            pages += old.differing(new)
        result.differing = len(set(pages))
        if pages:
            raise MigrationError(
                f"{result.differing} pages differ: "
                + " ".join(f"{n * PAGE:#x}" for n in sorted(set(pages))[:20]))

    def fill_in(self, result, status, first):
        """Completes a Result."""
        result.downtime = status["downtime"]
        result.total = status["total-time"]
        result.rounds = status["ram"]["dirty-sync-count"]
        result.mbytes = status["ram"]["transferred"] / 1e6
        # The last ones may still be answered.
        result.lost, result.duplicates, result.gap = self.pings.between(
            first, len(self.pings.sent) - 20)

    def fail(self, place, how, bandwidth=4):
        """Begins to migrate and does not get to the end: "cancel" it, or
        "kill" the destination.  The guest goes on where it was, and what the
        switch writes then goes into no log (P-13).  Returns the number of
        pings lost."""
        first = len(self.pings.sent)
        self.start_migration(place, bandwidth)
        self.wait_logging()
        self.check_traffic()
        if how == "cancel":
            self.guest.qmp("migrate_cancel")
            self.wait_status("cancelled")
        else:
            self.next.kill()
            self.wait_status("failed")
        self.next.kill()
        self.next = None
        if self.guest.qmp("query-status")["status"] != "running":
            raise MigrationError("the source does not go on")
        wait_for(lambda: not self.logging(), what="an end of logging")
        before = self.log()
        self.check_traffic()
        if self.log() != before:
            raise MigrationError("the back-end still writes into the log")
        return self.pings.between(first, len(self.pings.sent) - 20)[0]
