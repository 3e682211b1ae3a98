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
"""What an operator does with ports and sees of them."""

import grp
import json
import os
import re
import socket
import stat
import subprocess
import time

import pytest
from frontend import Frontend, FrontendError, frame
from switch import Switch, SwitchError, wait_for

pytestmark = pytest.mark.usefixtures("switch")


def exchange(first, second, size=64):
    """One packet each way; the first makes the switch learn."""
    second.transmit(frame(2, 1))
    assert len(first.receive(1)) == 1
    for source, target, packet in ((first, second, frame(1, 2, size)),
                                   (second, first, frame(2, 1, size))):
        source.transmit(packet)
        got = target.receive(1, accept=lambda p, want=packet: p == want)
        assert packet in got


# Sockets.

@pytest.mark.parametrize("server", [True, False])
def test_forward(frontends, server):
    """Packets of all sizes pass, whichever side listens."""
    first = frontends("vm0", server=server)
    second = frontends("vm1", server=not server)
    for size in (14, 15, 59, 60, 64, 65, 127, 128, 1000, 1500, 1514):
        exchange(first, second, size)


@pytest.mark.ours
def test_connect_at_once(switch):
    """A client connects as soon as somebody listens."""
    path = switch.add_port("vm0")
    time.sleep(1.5)
    with Frontend(path) as frontend:
        start = time.monotonic()
        frontend.connect()
        assert time.monotonic() - start < 0.3


@pytest.mark.ours
def test_connect_directory_later(switch):
    """A client connects even if its directory did not exist at first."""
    folder = switch.path("later")
    path = switch.add_port("vm0", path=f"{folder}/vm0.sock")
    time.sleep(0.5)
    os.mkdir(folder)
    with Frontend(path) as frontend:
        frontend.connect(timeout=3)


@pytest.mark.ours
def test_reconnect_at_once(switch, frontends):
    """A client comes back when its peer does."""
    frontend = frontends("vm0")
    for _ in range(5):
        frontend.disconnect()
        start = time.monotonic()
        frontend.connect().start()
        assert time.monotonic() - start < 1.5
    switch.wait_link("vm0")


def test_server_default_path(switch):
    """A server's socket is in the run directory, with the port's name."""
    switch.add_port("vm0", server=True)
    assert stat.S_ISSOCK(os.stat(switch.path("vm0")).st_mode)


@pytest.mark.ours
@pytest.mark.parametrize("server", [True, False])
def test_long_path(switch, server):
    """A path may be longer than a socket address can hold."""
    folder = switch.path("a-rather-long-name/" * 8)
    os.makedirs(folder)
    here = os.getcwd()
    os.chdir(folder)
    try:
        frontend = Frontend("vm0.sock", server=server)
        switch.add_port("vm0", server=not server, path=f"{folder}vm0.sock")
        with frontend:
            frontend.connect().start()
            switch.wait_link("vm0")
    finally:
        os.chdir(here)


@pytest.mark.ours
def test_socket_mode_owner(switch):
    """options:socket-mode and socket-owner are those of the socket."""
    group = grp.getgrnam("daemon")
    path = switch.add_port("vm0", server=True, socket_mode="0640",
                           socket_owner="nobody:daemon")
    info = os.stat(path)
    assert stat.S_IMODE(info.st_mode) == 0o640
    assert info.st_gid == group.gr_gid
    switch.set_interface("vm0", "options:socket-mode=0666")
    wait_for(lambda: stat.S_IMODE(os.stat(path).st_mode) == 0o666,
             what="mode 0666")


@pytest.mark.ours
def test_stale_socket(switch):
    """A socket that nobody listens at is replaced."""
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(switch.path("vm0"))
        old.listen(1)
    switch.add_port("vm0", server=True)
    with Frontend(switch.path("vm0"), server=False) as frontend:
        frontend.connect().start()
        switch.wait_link("vm0")


@pytest.mark.ours
def test_foreign_file(switch):
    """A file that is not a socket is left alone, and the port says so."""
    with open(switch.path("vm0"), "w", encoding="ascii") as file:
        file.write("precious")
    switch.add_port("vm0", server=True)
    switch.wait_status("vm0", "reason", "vm0")
    switch.del_port("vm0")
    with open(switch.path("vm0"), encoding="ascii") as file:
        assert file.read() == "precious"


@pytest.mark.ours
def test_foreign_listener(switch):
    """A socket that somebody else listens at is not taken over."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(switch.path("vm0"))
        other.listen(1)
        inode = os.stat(switch.path("vm0")).st_ino
        switch.add_port("vm0", server=True)
        switch.wait_status("vm0", "reason", "use|listen")
        assert os.stat(switch.path("vm0")).st_ino == inode


@pytest.mark.ours
def test_one_connection(switch, frontends):
    """While a front-end is connected a second one has no effect on it."""
    first = frontends("vm0", server=False)
    second = frontends("vm1")
    with Frontend(first.path, server=False) as intruder:
        try:
            intruder.connect(timeout=1).negotiate()
        except (FrontendError, OSError):
            pass
        exchange(first, second)
    exchange(first, second)
    assert switch.link("vm0")


def test_server_restart_of_peer(switch, frontends):
    """A server takes the next front-end when the first has gone."""
    frontend = frontends("vm0", server=False)
    for _ in range(3):
        frontend.disconnect()
        switch.wait_link("vm0", up=False)
        frontend.connect().start()
        switch.wait_link("vm0")


# Reasons.

@pytest.mark.ours
def test_reason_nobody_listens(switch):
    """Nobody listens, with and without a socket."""
    path = switch.add_port("vm0")
    assert path in switch.wait_status("vm0", "reason", "no|not")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    assert path in switch.wait_status("vm0", "reason", "listen|refused")


@pytest.mark.ours
@pytest.mark.switch(wrapper=["setpriv", "--bounding-set",
                             "-dac_override,-dac_read_search",
                             "--inh-caps", "-dac_override,-dac_read_search"])
def test_reason_permission(switch):
    """Permission refused: which file, whose, and its mode."""
    path = switch.path("vm0.sock")
    with Frontend(path) as frontend:
        os.chmod(path, 0)
        switch.add_port("vm0", path=path)
        reason = switch.wait_status("vm0", "reason", "ermission")
        assert path in reason
        assert "root" in reason or "0000" in reason
        os.chmod(path, 0o600)
        frontend.connect(timeout=5).start()
        switch.wait_link("vm0")


@pytest.mark.ours
def test_reason_memory_missing(switch):
    """A front-end that is connected but shows no memory."""
    path = switch.path("vm0.sock")
    with Frontend(path) as frontend:
        switch.add_port("vm0", path=path)
        frontend.connect().negotiate()
        switch.wait_status("vm0", "reason", "memory")


@pytest.mark.ours
def test_reason_protocol_error(switch):
    """A front-end that violates the protocol."""
    path = switch.add_port("vm0", server=True)
    with Frontend(path, server=False) as frontend:
        frontend.connect()
        frontend.send(9999)
        switch.wait_status("vm0", "reason", "request 9999")


@pytest.mark.ours
def test_reason_protocol_error_client(switch):
    """The same in client mode, where the port connects again at once."""
    path = switch.path("vm0.sock")
    with Frontend(path) as frontend:
        switch.add_port("vm0", path=path)
        frontend.connect()
        frontend.send(9999)
        switch.wait_status("vm0", "reason", "request 9999")
        frontend.connect().negotiate()
        switch.wait_status("vm0", "reason", "no memory table yet")
        assert "request 9999" in switch.status("vm0")["reason"]


@pytest.mark.ours
def test_reason_goes_away(switch, frontends):
    """A port that is up has no reason not to be."""
    frontends("vm0")
    wait_for(lambda: "reason" not in switch.status("vm0"),
             what="no status:reason")


# Options.

@pytest.mark.ours
@pytest.mark.parametrize("option", [
    "no-such-option=1",
    "socket-mode=banana",
    "socket-mode=07777777",
    "socket-owner=no-such-user:",
    "role=middle",
])
def test_bad_option(switch, frontends, option):
    """A bad option is reported and changes nothing."""
    frontend = frontends("vm0", server=False)
    other = frontends("vm1")
    key, value = option.split("=")
    switch.set_interface("vm0", f"options:{key}={json.dumps(value)}")
    error = wait_for(lambda: switch.get("vm0", "error"), what="an error")
    assert key in error
    exchange(frontend, other)
    switch.vsctl("remove", "Interface", "vm0", "options", key)
    wait_for(lambda: not switch.get("vm0", "error"), what="no error")
    exchange(frontend, other)


@pytest.mark.ours
def test_change_path(switch):
    """A client follows a new path at run time."""
    with Frontend(switch.path("a.sock")) as first, \
            Frontend(switch.path("b.sock")) as second:
        switch.add_port("vm0", path=first.path)
        first.connect().start()
        switch.wait_link("vm0")
        switch.set_interface(
            "vm0", f"options:vhost-server-path={second.path}")
        second.connect().start()
        assert first.closed()
        switch.wait_link("vm0")


@pytest.mark.ours
def test_change_mode(switch, frontends):
    """A client becomes a server at run time, and a client again."""
    frontend = frontends("vm0")
    switch.vsctl("remove", "Interface", "vm0", "options", "vhost-server-path")
    path = switch.path("vm0")
    wait_for(lambda: os.path.exists(path), what="the server's socket")
    with Frontend(path, server=False) as client:
        client.connect().start()
        switch.wait_link("vm0")
        assert switch.status("vm0")["mode"] == "server"
    switch.set_interface("vm0", f"options:vhost-server-path={frontend.path}")
    frontend.connect().start()
    switch.wait_link("vm0")
    assert switch.status("vm0")["mode"] == "client"
    assert not os.path.exists(path)


@pytest.mark.ours
def test_tx_retries_max(switch, frontends):
    """options:tx-retries-max is taken at run time, within its limits."""
    frontends("vm0", port={"tx_retries_max": 0})
    assert "tx-retries-max=0" in switch.appctl("dpctl/show")
    switch.set_interface("vm0", "options:tx-retries-max=32")
    wait_for(lambda: "tx-retries-max=32" in switch.appctl("dpctl/show"),
             what="32 retries")
    switch.set_interface("vm0", "options:tx-retries-max=33")
    wait_for(lambda: switch.get("vm0", "error"), what="an error")


@pytest.mark.ours
def test_aliases(switch, frontends):
    """The names that other software knows are the same thing."""
    types = switch.vsctl("get", "Open_vSwitch", ".", "iface_types")
    for name in ("vhostuser", "dpdkvhostuser", "dpdkvhostuserclient"):
        assert name in types.replace(",", "").strip("[]\n").split()
    other = frontends("vm1")
    path = switch.path("alias.sock")
    with Frontend(path) as frontend:
        switch.vsctl("add-port", "br0", "client0", "--", "set", "Interface",
                     "client0", "type=dpdkvhostuserclient",
                     f"options:vhost-server-path={path}")
        frontend.connect().start()
        switch.wait_link("client0")
        exchange(frontend, other)
    switch.del_port("client0")
    switch.vsctl("add-port", "br0", "server0", "--", "set", "Interface",
                 "server0", "type=dpdkvhostuser")
    with Frontend(switch.path("server0"), server=False) as frontend:
        frontend.connect().start()
        switch.wait_link("server0")
        exchange(frontend, other)


# What one sees.

def test_status(switch, frontends):
    """The keys that netdev-dpdk has, with the same values."""
    frontend = frontends("vm0", size=128)
    status = switch.status("vm0")
    assert status["mode"] == "client"
    assert status["status"] == "connected"
    assert status["socket"] == frontend.path
    assert status["features"] == f"0x{frontend.features:016x}"
    assert status["num_of_vrings"] == "2"
    assert status["vring_0_size"] == status["vring_1_size"] == "128"


def test_statistics(switch, frontends):
    """Sizes, kinds, and each queue: as many as were sent."""
    first, second = frontends("vm0"), frontends("vm1")
    exchange(first, second)
    before = [switch.statistics(name) for name in ("vm0", "vm1")]
    sizes = [60, 64, 65, 127, 128, 255, 256, 511, 512, 1023, 1024, 1514]
    for size in sizes:
        first.transmit(frame(1, 2, size))
    assert len(second.receive(len(sizes))) == len(sizes)
    after = [switch.statistics(name) for name in ("vm0", "vm1")]

    def delta(port, key):
        return after[port][key] - before[port].get(key, 0)
    for port, way in ((0, "rx"), (1, "tx")):
        assert delta(port, f"{way}_packets") == len(sizes)
        assert delta(port, f"{way}_bytes") == sum(sizes)
        assert delta(port, f"{way}_q0_good_packets") == len(sizes)
        assert delta(port, f"{way}_q0_good_bytes") == sum(sizes)
        assert delta(port, f"{way}_1_to_64_packets") == 2
        for span in ("65_to_127", "128_to_255", "256_to_511", "512_to_1023",
                     "1024_to_1522"):
            assert delta(port, f"{way}_{span}_packets") == 2
    # The column says the same, in its own time.
    wait_for(lambda: switch.get("vm0", "statistics").get("rx_bytes")
             == after[0]["rx_bytes"], 12, "statistics column")


def test_statistics_kinds(switch, frontends):
    """Broadcasts and multicasts are counted as such."""
    first, second = frontends("vm0"), frontends("vm1")
    exchange(first, second)
    before = [switch.statistics(name) for name in ("vm0", "vm1")]
    first.transmit(b"\xff" * 6 + frame(1, 2)[6:],
                   b"\x01\x00\x5e\x00\x00\x01" + frame(1, 2)[6:])
    assert len(second.receive(2)) == 2
    after = [switch.statistics(name) for name in ("vm0", "vm1")]
    for port, way in ((0, "rx"), (1, "tx")):
        for kind in ("broadcast", "multicast"):
            key = f"{way}_q0_{kind}_packets"
            assert after[port][key] - before[port][key] == 1


def test_drops_counted(switch, frontends):
    """What a guest does not take in time is counted as dropped."""
    first = frontends("vm0", size=256)
    second = frontends("vm1", size=16)
    exchange(first, second)
    before = switch.statistics("vm1")
    sent = 200
    first.transmit(*[frame(1, 2)] * sent)
    first.flush()
    wait_for(lambda: switch.statistics("vm1")["tx_packets"]
             + switch.statistics("vm1")["tx_dropped"]
             - before["tx_packets"] - before["tx_dropped"] == sent,
             what="every packet counted")
    after = switch.statistics("vm1")
    got = len(second.receive(sent, timeout=0.5))
    assert got == after["tx_packets"] - before["tx_packets"]
    assert after["ovs_tx_failure_drops"] - before["ovs_tx_failure_drops"] \
        == sent - got


@pytest.mark.ours
def test_show(switch, frontends):
    """vhostuser/show tells the whole state, for people and programs."""
    frontend = frontends("vm0", size=32)
    switch.add_port("idle")
    text = switch.appctl("vhostuser/show")
    for word in ("vm0", "idle", frontend.path, "VIRTIO_NET_F_MRG_RXBUF"):
        assert word in text or word.replace("VIRTIO_NET_F_", "") in text
    assert "idle" not in switch.appctl("vhostuser/show", "vm0").split()
    ports = json.loads(switch.appctl("vhostuser/show", "--json"))
    assert "vm0" in json.dumps(ports)
    with pytest.raises(SwitchError):
        switch.appctl("vhostuser/show", "no-such-port")


@pytest.mark.parametrize("mtu, good", [
    (68, True), (67, False), (9000, True), (9702, True), (65535, False)])
def test_mtu_request(switch, frontends, mtu, good):
    """The limits of mtu_request."""
    frontends("vm0")
    switch.set_interface("vm0", f"mtu_request={mtu}")
    if good:
        wait_for(lambda: switch.get("vm0", "mtu") == mtu, what=f"MTU {mtu}")
    else:
        wait_for(lambda: "MTU" in switch.log(), what="a complaint")
        assert switch.get("vm0", "mtu") == 1500


def test_mtu_drops(switch, frontends):
    """A packet that is longer than the port's MTU permits is dropped."""
    first = frontends("vm0", port={"mtu": 9000}, buffer_size=16384)
    second = frontends("vm1", port={"mtu": 2000})
    exchange(first, second)
    exchange(first, second, 2014)
    first.transmit(frame(1, 2, 2100))
    wait_for(lambda: switch.statistics("vm1")["ovs_tx_mtu_exceeded_drops"]
             == 1, what="drop counted")


def test_admin_down(switch, frontends):
    """A port that is taken down passes nothing, and passes again later."""
    first, second = frontends("vm0"), frontends("vm1")
    exchange(first, second)
    switch.ofctl("mod-port", "vm0", "down")
    second.transmit(frame(2, 1))
    assert not first.receive(1, timeout=0.3)
    switch.ofctl("mod-port", "vm0", "up")
    exchange(first, second)


# Queues.

@pytest.mark.ours
@pytest.mark.parametrize("pairs", [2, 16, 128])
def test_many_queues(switch, frontends, pairs):
    """The rxqs follow what the front-end enables, up to 128 pairs."""
    frontend = frontends("vm0", queues=pairs, size=16)
    other = frontends("vm1", size=256)
    queues = wait_for(lambda: len(switch.rxqs()["vm0"]) == pairs
                      and switch.rxqs()["vm0"], what=f"{pairs} rxqs")
    assert all(queues.values())
    other.transmit(frame(2, 1))
    for pair in range(pairs):
        frontend.transmit(frame(1, 2, payload=bytes([pair])), pair=pair)
    assert len(other.receive(pairs)) == pairs
    frontend.enable(2 * pairs - 1, False)
    wait_for(lambda: not switch.rxqs()["vm0"][pairs - 1],
             what="a disabled rxq")


def test_txq_spread(switch, frontends):
    """With only one receiveq enabled, that one gets the packets."""
    first = frontends("vm0")
    second = frontends("vm1", queues=2)
    second.enable(0, False)
    time.sleep(0.5)
    second.transmit(frame(2, 1))
    first.receive(1)
    first.transmit(*[frame(1, 2)] * 10)
    assert len(second.receive(10, pair=1)) == 10
    assert not second.receive(1, pair=0, timeout=0.2)
    assert switch.statistics("vm1")["tx_packets"] >= 10


def test_rxq_affinity(switch, frontends):
    """pmd-rxq-affinity works as for other PMD ports."""
    frontends("vm0", queues=2)
    wait_for(lambda: len(switch.rxqs().get("vm0", {})) == 2, what="2 rxqs")
    switch.set_interface("vm0", 'other_config:pmd-rxq-affinity="0:0,1:0"')
    wait_for(lambda: "isolated : true"
             in switch.appctl("dpif-netdev/pmd-rxq-show"), what="isolation")
    assert len(switch.rxqs()["vm0"]) == 2


# Stands between the daemon and the kernel: all memory is on the NUMA node that
# is written in a file.
NODE_OF_MEMORY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/syscall.h>

long
syscall(long number, ...)
{
    long (*next)(long, ...) = (long (*)(long, ...)) dlsym(RTLD_NEXT,
                                                          "syscall");
    long arg[6];
    va_list args;

    va_start(args, number);
    for (int i = 0; i < 6; i++) {
        arg[i] = va_arg(args, long);
    }
    va_end(args);
    if (number == SYS_move_pages) {
        FILE *file = fopen("NODE", "r");
        long retval = file && fscanf(file, "%d", (int *) arg[4]) == 1 ? 0 : -1;

        if (file) {
            fclose(file);
        }
        return retval;
    }
    return next(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}
"""


@pytest.mark.ours
def test_numa(tmp_path):
    """The port is polled on the NUMA node of its guest's memory: of two, one
    core each."""
    node = tmp_path / "node"
    source = tmp_path / "node.c"
    source.write_text(NODE_OF_MEMORY.replace("NODE", str(node)))
    library = tmp_path / "node.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source],
                   check=True)

    def polled_on(switch):
        """The node of the PMD thread that has vm0."""
        text = switch.appctl("dpif-netdev/pmd-rxq-show")
        return re.search(r"numa_id (\d+) core_id \d+:(?:(?!numa_id).)*vm0",
                         text, re.DOTALL)[1]

    with Switch(pmd_mask="0x3", wrapper=["env", f"LD_PRELOAD={library}"],
                options=["--dummy-numa=0,1"]) as switch, \
            Frontend(switch.path("0")) as guest:
        switch.add_port("vm0", path=guest.path)
        for number in ("1", "0", "1"):
            node.write_text(number)
            guest.connect().start()
            switch.wait_link("vm0")
            switch.wait_status("vm0", "numa", f"^{number}$")
            assert polled_on(switch) == number
        switch.check_alive()


# Coming and going.

@pytest.mark.ours
def test_nothing_left(switch):
    """Ports that come and go leave no descriptor, mapping or thread."""
    def cycle(server):
        path = switch.path("x.sock")
        if not server:
            with Frontend(path) as frontend:
                switch.add_port("x", path=path)
                frontend.connect().start()
                switch.wait_link("x")
                switch.del_port("x")
                assert frontend.closed()
        else:
            switch.add_port("x", server=True, path=path)
            with Frontend(path, server=False) as frontend:
                frontend.connect().start()
                switch.wait_link("x")
                switch.del_port("x")
                assert frontend.closed()
            assert not os.path.exists(path)

    for server in (False, True):
        cycle(server)           # Whatever exists once from now on.
    before = switch.resources()
    for server in (False, True) * 3:
        cycle(server)
    wait_for(lambda: switch.resources() == before, 10,
             f"{before} again, not {switch.resources()}")


@pytest.mark.ours
@pytest.mark.parametrize("graceful", [True, False])
def test_exit_leaves_no_socket(switch, frontends, graceful):
    """The daemon removes its sockets when it ends, also by a signal."""
    frontend = frontends("vm0", server=False)
    assert os.path.exists(frontend.path)
    if graceful:
        switch.stop_daemon()
    else:
        switch.daemon.terminate()
        switch.daemon.wait(10)
        switch.daemon.returncode = 0
    assert not os.path.exists(frontend.path)


def test_reconnect_often(switch, frontends):
    """A front-end that comes and goes leaves nothing behind."""
    frontend = frontends("vm0", server=False)
    frontend.disconnect()
    switch.wait_link("vm0", up=False)
    before = switch.resources()
    for _ in range(12):
        frontend.connect().start()
        frontend.disconnect()
    wait_for(lambda: switch.resources() == before, 10,
             f"{before} again, not {switch.resources()}")
    frontend.connect().start()
    switch.wait_link("vm0")


def test_ports_change_under_traffic(switch, neighbours, frontends):
    """Other ports come and go while a pair forwards."""
    for number in range(6):
        frontends(f"p{number}", queues=1 + number % 3)
    for number in range(6):
        switch.del_port(f"p{number}")
    # To reconfigure the datapath pauses its threads for a moment; what is
    # in the rings then waits there.
    neighbours.check(gap=3)


def test_own_port_again_under_traffic(switch, frontends):
    """A port is removed under its own traffic and added again."""
    first, second = frontends("vm0"), frontends("vm1")
    exchange(first, second)
    for _ in range(3):
        first.transmit(*[frame(1, 2)] * 32)
        switch.del_port("vm0")
        switch.add_port("vm0", path=first.path)
        first.connect().start()
        switch.wait_link("vm0")
        exchange(first, second)


def test_two_switches(switch):
    """Two switches on one machine do not disturb each other."""
    with Switch() as other:
        for which in (switch, other):
            with Frontend(which.path("vm0.sock")) as frontend:
                which.add_port("vm0", path=frontend.path)
                frontend.connect().start()
                which.wait_link("vm0")


@pytest.mark.ours
@pytest.mark.switch(options=["--mlockall"])
def test_mlockall(switch, frontends):
    """Guest memory is not allocated by being mapped into a locked process."""
    first = frontends("vm0", memory=512 << 20)
    second = frontends("vm1")
    exchange(first, second)
    resident = os.fstat(first.memfd).st_blocks * 512
    assert resident < 8 << 20
    assert switch.link("vm0")
