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
"""HZ-14: front-ends that vanish in the middle of a session of QEMU.

It is sent again and again with real descriptors, and ends after any byte.  At
the end the switch holds what it held before.
"""

import os
import random
import socket
import threading
import time

import pytest
from frontend import GET_FEATURES, GET_PROTOCOL_FEATURES, Frontend
from numbered import LONG, Numbered, complaints
from session import Descriptors, Session
from switch import TOP, wait_for
from test_ports import exchange

pytestmark = pytest.mark.ours

RECORDING = os.path.join(TOP, "tests", "system", "qemu.session")

# A connection that does not last is followed by a pause, so many ports share
# the work: as many of either mode.
PORTS = 100

VHU_TRACE_SIZE = 256            # As in lib/vhu-trace.h.

# What the memory of the daemon may vary by from the first round to any other,
# in kB: 1 kB for each session of the short form.  The heap gets pieces of all
# sizes.  In 16 rounds, one after the other, it grew by 420, 480, 132, 104, 72,
# 72, 36, 8, 172, 20, 80, 28, 32, 120, 28 and 28.
SLACK = 2048


class Victim(threading.Thread):
    """One port, and who connects to it."""

    def __init__(self, switch, number, session, cuts):
        super().__init__(daemon=True)
        self.name = f"v{number}"
        self.server = bool(number % 2)
        self.path = switch.path(f"{self.name}.sock")
        self.session = session
        self.cuts = cuts
        self.error = None
        self.listener = None
        if not self.server:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(self.path)
            self.listener.listen(8)
            self.listener.settimeout(30)

    def columns(self):
        """What ovs-vsctl must be told to add the port."""
        key = "path" if self.server else "vhost-server-path"
        return ["--", "add-port", "br0", self.name, "--", "set", "Interface",
                self.name, "type=vhostuser", f"options:{key}={self.path}"]

    def connect(self):
        """A new connection, whoever makes it."""
        if self.listener:
            return self.listener.accept()[0]
        deadline = time.monotonic() + 30
        while True:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(30)
            try:
                sock.connect(self.path)
                return sock
            except OSError:
                # The port may not be there at the moment.
                sock.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def run(self):
        try:
            for cut in self.cuts:
                self.cycle(cut)
        except Exception as error:      # pylint: disable=broad-except
            self.error = error

    def cycle(self, cut):
        """Connects, sends 'cut' bytes, and goes away: at once, or after the
        switch has read everything."""
        descriptors = Descriptors(self.session.memory)
        sock = self.connect()
        try:
            sock.settimeout(30)
            self.session.play(sock, descriptors, cut)
            if cut % 3:
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass
            elif cut >= 12:
                sock.recv(1)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            sock.close()
            descriptors.close()


def memory(switch):
    """The memory that is the daemon's own, in kB, and its mappings."""
    with open(f"/proc/{switch.daemon.pid}/status", encoding="ascii") as file:
        values = dict(line.split(":", 1) for line in file)
    with open(f"/proc/{switch.daemon.pid}/maps", encoding="ascii") as file:
        return int(values["RssAnon"].split()[0]), len(file.readlines())


def read_session(switch):
    """The recording, for what our back-end offers."""
    with Frontend(switch.path("probe.sock")) as guest:
        switch.add_port("probe", path=guest.path)
        guest.connect()
        session = Session(RECORDING, guest.ask(GET_FEATURES),
                          guest.ask(GET_PROTOCOL_FEATURES))
    switch.del_port("probe")
    return session


def attack(switch, session, cuts, expected=None):
    """Makes a connection for each of 'cuts', on all ports at once, which are
    added if they are not there; returns how long that took, and what the
    switch holds then.  Insists that this is what is 'expected'."""
    victims = [Victim(switch, number, session, cuts[number::PORTS])
               for number in range(PORTS)]
    if not expected:
        switch.vsctl(*(column for victim in victims
                       for column in victim.columns()))
    start = time.monotonic()
    for victim in victims:
        victim.start()
    for victim in victims:
        victim.join(200)
    seconds = time.monotonic() - start
    assert not [v.error for v in victims if v.error or v.is_alive()]
    assert switch.answer_time() < 5
    for victim in victims:
        if victim.listener:
            victim.listener.close()
            os.unlink(victim.path)
    if expected:
        wait_for(lambda: switch.resources() == expected, 10,
                 f"{expected}, not {switch.resources()}")
    else:
        time.sleep(1)
    return seconds, (switch.resources(), memory(switch))


def test_whole_session(switch):
    """The recording is what it is meant to be: a session that ends with both
    vrings of a pair running, and without a complaint."""
    session = read_session(switch)
    victim = Victim(switch, 0, session, [])
    switch.vsctl(*victim.columns())
    sock = victim.connect()
    descriptors = Descriptors(session.memory)
    session.play(sock, descriptors, session.size)
    switch.wait_status(victim.name, "vring_0_size", "256")
    assert not complaints(switch)
    sock.close()
    victim.listener.close()
    descriptors.close()


def test_sessions_cut(switch, frontends):
    """HZ-14: 1000 sessions in both socket modes, cut at a random byte; in the
    long form one for each byte in either mode, several times."""
    session = read_session(switch)
    with Numbered(switch) as flow:
        if LONG:
            # Every other port listens.
            every = range(session.size + 1)
            cuts = [cut for pair in zip(*(random.sample(every, len(every))
                                          for _ in range(2)))
                    for cut in pair]
        else:
            cuts = random.choices(range(session.size + 1), k=1000)
        # So that each port has had all that it ever needs: a port keeps its
        # last messages, and has room for those that it has had so far.
        whole = 1 + VHU_TRACE_SIZE // len(session.messages)
        _, (resources, before) = attack(
            switch, session, [session.size] * (whole * PORTS) + cuts)
        for _ in range(4 if LONG else 2):
            seconds, (_, after) = attack(switch, session, cuts, resources)
            print(f"{len(cuts)} cycles in {seconds:.1f} s: kB, mappings "
                  f"{before} before, {after} after")
            assert after[0] <= before[0] + SLACK
            assert after[1] <= before[1] + 10
        assert not complaints(switch, 0, "the front-end closes each")
        print(flow.check())
        switch.vsctl(*(word for number in range(PORTS)
                       for word in ("--", "del-port", f"v{number}")))
    exchange(frontends("vm0"), frontends("vm1"))


def test_ports_removed_meanwhile(switch, frontends):
    """C-01: ports are removed and added at any moment of a session, while
    they connect, and while their peer goes away."""
    session = read_session(switch)
    before = switch.resources()
    with Numbered(switch) as flow:
        # More often the whole session than one that breaks off.
        victims = [Victim(switch, number, session,
                          [random.randrange(2 * session.size)
                           for _ in range(200 if LONG else 12)])
                   for number in range(12)]
        switch.vsctl(*(word for victim in victims
                       for word in victim.columns()))
        for victim in victims:
            victim.start()
        count = 0
        while any(victim.is_alive() for victim in victims):
            victim = random.choice(victims)
            switch.vsctl("del-port", victim.name)
            time.sleep(random.choice([0, 0.02]))
            switch.vsctl(*victim.columns())
            count += 1
        assert count > 5 and not [v.error for v in victims if v.error]
        for victim in victims:
            if victim.listener:
                victim.listener.close()
                os.unlink(victim.path)
        switch.vsctl(*(word for v in victims
                       for word in ("--", "del-port", v.name)))
        print(f"{count} times", flow.check())
    for name in flow.names:
        switch.del_port(name)
    wait_for(lambda: switch.resources() == before, 10,
             f"{before} again, not {switch.resources()}")
    exchange(frontends("vm0"), frontends("vm1"))
