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
"""The switch as a service: the relinked daemon under ovs-ctl, as a user other
than root, under what a unit may confine it by, with its log rotated, and what
it tells in a bug report.
"""

import contextlib
import os
import re
import subprocess
import tarfile
import tempfile

import pytest
from frontend import Frontend, frame
from guest import Nic
from restart import Traffic, wait_back
from service import Accounts, Service, being, owner
from switch import TOP, Switch, daemon_path, wait_for

pytestmark = pytest.mark.ours

# What Open vSwitch leaves its daemon: CAP_NET_BIND_SERVICE, CAP_NET_BROADCAST,
# CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK.
CAPABILITIES = sum(1 << number for number in (10, 11, 12, 13, 14))


@pytest.fixture(name="accounts")
def fixture_accounts():
    """Makes users and groups, see Accounts."""
    accounts = Accounts()
    yield accounts
    accounts.close()


@pytest.fixture(name="services")
def fixture_services(accounts):
    """Makes switches that run as "user:group", their 'account', unless 'root'
    is true: services(group, **arguments of Service).  The user is a new one,
    in 'others', too, and so is the group unless given."""
    with contextlib.ExitStack() as running:
        def make(group=None, others=(), root=False, **kwargs):
            group = group or accounts.group("ovs")
            user = accounts.user("ovs", group, others)
            account = f"{user}:{group}"
            service = Service(user="" if root else account, **kwargs)
            service.account = account
            running.enter_context(service)
            running.callback(service.check_alive)
            return service
        yield make


@pytest.fixture(name="public")
def fixture_public():
    """A directory in /tmp for everybody."""
    with tempfile.TemporaryDirectory(prefix="vhu.", dir="/tmp") as directory:
        os.chmod(directory, 0o1777)
        yield directory


@contextlib.contextmanager
def guest(switch, name, memory=None, **options):
    """A front-end, with so much 'memory', that is connected to a new port,
    which is up."""
    path = switch.add_port(name, server=True, **options)
    with Frontend(path, server=False, memory=memory) as frontend:
        frontend.connect().start()
        switch.wait_link(name)
        yield frontend


def exchange(left, right):
    """Sends packets both ways between two front-ends."""
    for sender, receiver, number in ((left, right, 1), (right, left, 2)):
        packet = frame(number, 3 - number, payload=os.urandom(20))
        sender.transmit(packet)
        assert receiver.receive(1, accept=packet.__eq__), f"from {number}"


def test_identity(services):
    """The daemon is of the user and group that ovs-ctl is told, without other
    groups; it keeps Open vSwitch's five capabilities and has its memory
    locked; the database has its version."""
    service = services()
    user, group = service.user.split(":")
    ids = {"Uid": subprocess.check_output(["id", "-u", user], text=True),
           "Gid": subprocess.check_output(["id", "-g", user], text=True)}
    for key, value in ids.items():
        assert service.proc(key).split() == 4 * [value.strip()]
    assert service.proc("Groups") == ""
    assert int(service.proc("CapEff"), 16) == CAPABILITIES
    assert int(service.proc("CapPrm"), 16) == CAPABILITIES
    assert int(service.proc("CapBnd"), 16) == 0
    # Not merely the part of it that there was at the start.
    assert int(service.proc("VmLck").split()[0]) > 10000
    assert "mlockall failed" not in service.log()
    assert owner(service.path("ovs-vswitchd.log"))[:2] == (user, group)
    version = service.command("ovs-vsctl", "--version").split("\n")[0].split()
    assert service.vsctl("get", "Open_vSwitch", ".", "ovs_version").strip() \
        == f'"{version[-1]}"'


def test_traffic(services, accounts):
    """QEMU and the switch are users that have no more than a group in common.
    They meet at a socket of either; packets go both ways, also after "ovs-ctl
    restart"."""
    kvm = accounts.group("kvm")
    qemu = accounts.user("qemu", kvm)
    service = services(kvm)
    user = service.user.split(":")[0]
    os.mkdir(service.path("qemu"))
    os.chown(service.path("qemu"), *pwd_ids(qemu))

    path = service.add_port("vm0", server=True, socket_mode="0660",
                            socket_owner=f":{kvm}")
    wait_for(lambda: os.path.exists(path), what=path)
    assert owner(path) == (user, kvm, 0o660)
    with being(qemu):
        left = Frontend(path, server=False)
    # This is the umask that libvirt gives QEMU.
    with being(qemu, umask=0o002):
        right = Frontend(service.path("qemu/vm1.sock"))
    assert owner(right.path) == (qemu, kvm, 0o775)
    service.add_port("vm1", path=right.path)
    with left, right:
        for _ in range(2):
            with being(qemu):
                left.connect()
            left.start()
            right.connect().start()
            service.wait_link("vm0")
            service.wait_link("vm1")
            exchange(left, right)
            service.restart()
    assert not os.path.exists(path) or owner(path) == (user, kvm, 0o660)


@pytest.mark.parametrize("server", [True, False], ids=["server", "client"])
def test_qemu(services, accounts, server):
    """QEMU itself, as a user with the group of the switch: it connects to our
    socket, which has the group and mode 0660; with the umask 0002, which
    libvirt gives it, it makes one that the switch may connect to."""
    kvm = accounts.group("kvm")
    qemu = accounts.user("qemu", kvm)
    service = services(kvm)
    if server:
        path = service.add_port("vm0", server=True, socket_mode="0660")
        wait_for(lambda: os.path.exists(path), what=path)
    else:
        os.mkdir(service.path("qemu"))
        os.chown(service.path("qemu"), *pwd_ids(qemu))
        path = service.add_port("vm0", path=service.path("qemu/vm0.sock"))
    uid, gid = pwd_ids(qemu)
    with subprocess.Popen(
            ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-S",
             "-display", "none", "-m", "64M",
             "-object", "memory-backend-memfd,id=mem,size=64M,share=on",
             "-machine", "q35,accel=tcg,memory-backend=mem",
             *Nic(path, server=not server).arguments(0, "tcg")],
            user=uid, group=gid, extra_groups=[], umask=0o002) as process:
        try:
            service.wait_status("vm0", "status", "^connected")
            if not server:
                assert owner(path) == (qemu, kvm, 0o775)
        finally:
            process.kill()


def pwd_ids(user):
    """The ids of a user and of its group."""
    return [int(subprocess.check_output(["id", option, user]))
            for option in ("-u", "-g")]


def test_testpmd(services, testpmds):
    """testpmd as the guest of a daemon that is not root."""
    service = services()
    paths = [service.add_port(name, server=True) for name in ("vm0", "vm1")]
    sender, receiver = [testpmds(name, path, server=False)
                        for name, path in zip(("vm0", "vm1"), paths)]
    receiver.start()
    sender.start(f"--eth-peer=0,{receiver.mac()}")
    for name in ("vm0", "vm1"):
        service.wait_link(name)
    receiver.forward("rxonly")
    sender.forward("txonly")
    wait_for(lambda: receiver.statistics()["RX-packets"] > 1000, 20,
             "1000 packets")


def test_socket_owner(services, accounts):
    """A daemon that is not root can give its sockets to the one group that it
    has, and to none that its user is in besides, since Open vSwitch drops
    these; status:reason says so, and the next value of the option counts."""
    other = accounts.group("other")
    service = services(others=[other])
    user, group = service.user.split(":")
    path = service.add_port("vm0", server=True, socket_owner=f"{user}:{other}")
    service.wait_status(
        "vm0", "reason", rf"cannot give {path} to {user}:{other}: Operation "
        rf"not permitted \(we are {user}:{group}, not root: only a group that "
        r"we are in is possible\)")
    assert not os.path.exists(path)
    for value in ("root", ":root", "root:root"):
        service.set_interface("vm0", f'options:socket-owner="{value}"')
        service.wait_status("vm0", "reason", f"to {value}: Operation not")

    service.set_interface("vm0", f'options:socket-owner="{user}:{group}"')
    wait_for(lambda: os.path.exists(path), what=path)
    assert owner(path)[:2] == (user, group)
    # On a socket that is there.
    service.set_interface("vm0", f'options:socket-owner=":{other}"')
    service.wait_status("vm0", "reason", f"to :{other}: Operation not")


def test_socket_default(services, accounts):
    """Without options, a socket belongs to the daemon's user and group and has
    mode 0755: nobody else may connect, and with socket-mode=0660 the group
    may."""
    kvm = accounts.group("kvm")
    qemu = accounts.user("qemu", kvm)
    service = services(kvm)
    path = service.add_port("vm0", server=True)
    wait_for(lambda: os.path.exists(path), what=path)
    assert owner(path) == (*service.user.split(":"), 0o755)
    with Frontend(path, server=False) as frontend:
        with being(qemu), pytest.raises(PermissionError):
            frontend.connect(0.1)
        service.set_interface("vm0", "options:socket-mode=0660")
        wait_for(lambda: owner(path)[2] == 0o660, what="mode 0660")
        with being(qemu):
            frontend.connect().start()
        service.wait_link("vm0")


def test_root_gives_sockets(services, accounts):
    """A daemon that is root gives a socket to any user and group, and connects
    to anybody's."""
    qemu = accounts.user("qemu")
    service = services(root=True)
    path = service.add_port("vm0", server=True, socket_owner=f"{qemu}:root",
                            socket_mode="0600")
    wait_for(lambda: os.path.exists(path), what=path)
    assert owner(path) == (qemu, "root", 0o600)
    os.mkdir(service.path("qemu"), 0o700)
    os.chown(service.path("qemu"), *pwd_ids(qemu))
    with being(qemu, umask=0o077):
        right = Frontend(service.path("qemu/vm1.sock"))
    service.add_port("vm1", path=right.path)
    with right, Frontend(path, server=False) as left:
        with being(qemu):
            left.connect()
        left.start()
        right.connect().start()
        service.wait_link("vm0")
        service.wait_link("vm1")
        exchange(left, right)


def test_refused_connection(services, accounts):
    """A client that lacks the right to write to QEMU's socket, or to reach it,
    says what file is in the way and who it is itself; and connects as soon as
    it may."""
    qemu = accounts.user("qemu")
    service = services()
    directory = service.path("qemu")
    os.mkdir(directory, 0o700)
    os.chown(directory, *pwd_ids(qemu))
    with being(qemu):
        frontend = Frontend(f"{directory}/vm0.sock")
    qemu_group = owner(frontend.path)[1]
    with frontend:
        service.add_port("vm0", path=frontend.path)
        service.wait_status(
            "vm0", "reason", rf"connect to {frontend.path}: permission denied "
            rf"\(directory {directory} is 0700 {qemu}:{qemu_group}, "
            rf"we are {service.user}\)")
        os.chmod(directory, 0o755)
        service.wait_status(
            "vm0", "reason", rf"\(socket is 0755 {qemu}:{qemu_group}, "
            rf"we are {service.user}\)")
        os.chmod(frontend.path, 0o777)
        frontend.connect().start()
        service.wait_link("vm0")


def test_restart(services):
    """"ovs-ctl restart" under traffic through packed virtqueues: nothing is
    lost, and the files with their positions belong to the daemon's user, for
    nobody else to read."""
    service = services()
    user, group = service.user.split(":")
    # Their sockets are for everybody.
    umask = os.umask(0)
    try:
        traffic = Traffic(service, "--packed")
    finally:
        os.umask(umask)
    text = ""
    with traffic:
        for number in range(2):
            wait_for(lambda: service.statistics("vm1")["tx_packets"] > 100,
                     what="packets")
            text += service.restart()
            wait_back(service, number + 1)
        positions = service.path("vhostuser.positions")
        assert owner(positions) == (user, group, 0o700)
        for name in ("vm0", "vm1"):
            assert owner(f"{positions}/{name}") == (user, group, 0o600)
        wait_for(lambda: service.statistics("vm1")["tx_packets"] > 100,
                 what="packets")
        ways = traffic.stop_and_check(2)
    # On a busy machine ovs-ctl may lose patience.
    assert sum(way["lost"] for way in ways) == 0 or "Killing" in text


# Memory.

GUEST_MEMORY = 1 << 30


def allocated(frontend):
    """How much of a guest's memory there is, in bytes."""
    return os.fstat(frontend.memfd).st_blocks * 512


def test_locked_memory(services):
    """With its memory locked, as ovs-ctl has it, the daemon does not allocate
    the memory of guests by mapping it."""
    service = services()
    with guest(service, "vm0", memory=GUEST_MEMORY) as frontend:
        assert int(service.proc("VmLck").split()[0]) > 10000
        assert allocated(frontend) < 16 << 20


def test_lock_limit(accounts):
    """As a user without CAP_IPC_LOCK and with little room in RLIMIT_MEMLOCK,
    the daemon says that it cannot lock its memory, and the port works."""
    uid, gid = pwd_ids(accounts.user("ovs"))

    class Limited(Switch):
        """Its database is for this user."""

        def start_daemon(self, wait=True, daemon=None):
            os.chown(self.path("db.sock"), uid, gid)
            super().start_daemon(wait, daemon)

    switch = Limited(
        wrapper=["prlimit", "--memlock=65536", "setpriv", f"--reuid={uid}",
                 f"--regid={gid}", "--clear-groups",
                 "--inh-caps=-all,+net_admin", "--ambient-caps=+net_admin",
                 "--bounding-set=-all,+net_admin"],
        options=["--mlockall"], kind="ours")
    os.chown(switch.directory, uid, gid)
    with switch:
        assert "mlockall failed" in switch.log()
        with guest(switch, "vm0", memory=GUEST_MEMORY) as frontend:
            assert allocated(frontend) < 16 << 20


# What a unit may confine the service by, as systemd does it.

def test_no_new_privileges(services):
    """NoNewPrivileges= and a CapabilityBoundingSet= of what ovs-ctl itself
    needs leave everything as it is."""
    wanted = documented("CapabilityBoundingSet")
    names = ",".join("+" + name.lower()[4:] for name in wanted.split())
    service = services(wrapper=[
        "setpriv", "--no-new-privs", f"--bounding-set=-all,{names}"])
    assert service.proc("NoNewPrivs") == "1"
    assert int(service.proc("CapEff"), 16) == CAPABILITIES
    with guest(service, "vm0", socket_mode="0660"):
        pass
    service.restart()


def documented(key):
    """The value of a setting in the example of Documentation/packages.rst."""
    with open(os.path.join(TOP, "Documentation", "packages.rst"),
              encoding="utf-8") as file:
        text = file.read().replace("\\\n", "")
    return re.search(rf"^ +{key}=(.*)$", text, re.MULTILINE)[1]


def test_change_of_user(services):
    """A switch that ran as root goes on as a user, after the command in the
    documentation."""
    service = services(root=True)
    path = service.add_port("vm0", server=True)
    wait_for(lambda: os.path.exists(path), what=path)
    service.ctl("stop")
    command = documented("ExecStartPre").replace("USER:GROUP",
                                                 service.account)
    command, count = re.subn(r"/\S+/openvswitch\b", service.directory, command)
    assert count == 4
    subprocess.run(command.split(), check=True)
    service.user = service.account
    service.ctl("--no-ovs-vswitchd", "start")
    service.start_daemon()
    wait_for(lambda: os.path.exists(path), what=path)
    assert owner(path) == (*service.account.split(":"), 0o755)


def test_private_tmp(services, public):
    """PrivateTmp=: a socket in /tmp is another one for the switch than for
    QEMU; one in the run directory is not."""
    assert public.startswith("/tmp/")
    service = services(setup="mount -t tmpfs -o mode=1777 private /tmp")
    with Frontend(f"{public}/vm0.sock") as frontend:
        service.add_port("vm0", path=frontend.path)
        service.wait_status("vm0", "reason",
                            f"nobody listens at {frontend.path}")
    path = service.add_port("vm1", server=True, path="/tmp/vm1")
    service.wait_status("vm1", "reason", f"waiting for a front-end at {path}")
    assert not os.path.exists(path)
    with guest(service, "vm2"):
        pass


def test_protect_home(services):
    """ProtectHome=: what is in /home cannot be reached, and the reason names
    the directory that is in the way."""
    service = services(setup="mount -t tmpfs -o mode=0 inaccessible /home")
    service.add_port("vm0", path="/home/user/vm0.sock")
    service.wait_status("vm0", "reason",
                        r"\(directory /home is 0000 root:root, we are")
    service.add_port("vm1", server=True, path="/home/user/vm1.sock")
    service.wait_status("vm1", "reason",
                        r"\(directory /home is 0000 root:root, we are")


def test_protect_system(services):
    """ProtectSystem=strict, with PrivateTmp= and with the run directory, the
    logs and the database writable: the switch listens nowhere else, but
    connects anywhere."""
    with tempfile.TemporaryDirectory(prefix="vhu.", dir="/var/tmp") as public:
        os.chmod(public, 0o1777)
        service = services(setup='mount --bind "$DIR" "$DIR"; '
                                 f'mount --bind {public} {public}; '
                                 f'mount -o remount,bind,ro {public}; '
                                 'mount -o remount,bind,ro /; '
                                 'mount -t tmpfs private /tmp')
        service.add_port("vm0", server=True, path=f"{public}/vm0")
        service.wait_status("vm0", "reason", "Read-only file system")
        with Frontend(f"{public}/vm1.sock") as frontend:
            os.chmod(frontend.path, 0o777)
            service.add_port("vm1", path=frontend.path)
            frontend.connect().start()
            service.wait_link("vm1")
        with guest(service, "vm2"):
            pass


def test_private_devices(services):
    """PrivateDevices= takes /dev/net/tun away, without which Open vSwitch
    makes no bridge in the userspace datapath."""
    service = services(setup="""
        mkdir "$DIR/dev"
        mount -t tmpfs private "$DIR/dev"
        mkdir -m 1777 "$DIR/dev/shm"
        for node in null zero full random urandom tty; do
            touch "$DIR/dev/$node"
            mount --bind "/dev/$node" "$DIR/dev/$node"
        done
        mount --move "$DIR/dev" /dev""")
    for text in ('opening "/dev/net/tun" failed', "failed to create bridge"):
        assert text in service.log()


# Logs.

ROTATED = {
    # As Debian's package openvswitch-common has it.
    "debian": "create 640 root adm",
    # As Fedora's, whose package puts the user there.
    "fedora": "su {user} {group}",
}


@pytest.mark.parametrize("user, style", [
    ("root", "debian"), ("user", "debian"), ("user", "fedora")])
def test_logrotate(services, tmp_path, user, style):
    """logrotate and "ovs-appctl vlog/reopen": what the plugin logs after that
    is in the new file.  Debian's own settings leave that to root; for another
    user there must be an "su" line, as in those of Fedora."""
    service = services(root=user == "root")
    fields = dict(zip(("user", "group"), service.user.split(":")))
    line = ROTATED[style].format(**fields) if fields or style == "debian" \
        else ROTATED[style]
    directory = service.directory
    conf = tmp_path / "logrotate.conf"
    conf.write_text(f"""
{directory}/*.log {{
    daily
    sharedscripts
    {line}
    missingok
    rotate 30
    postrotate
        for pidfile in `cd {directory} && echo *.pid`; do
            {directory}/bin/ovs-appctl -t "${{pidfile%%.pid}}" vlog/reopen \\
                2>> {tmp_path}/errors || :
        done
    endscript
}}
""")
    conf.chmod(0o644)
    service.add_port("before", server=True)
    subprocess.run(["logrotate", "--force", "--state", str(tmp_path / "state"),
                    str(conf)], check=True, env=service.env)
    service.add_port("after", server=True)
    with open(service.path("ovs-vswitchd.log.1"), encoding="utf-8") as file:
        old = file.read()
    assert "before: back-end, server" in old
    if (user, style) == ("user", "debian"):
        assert "after: back-end" not in service.log()
        return
    assert "after: back-end, server" not in old
    wait_for(lambda: "after: back-end, server" in service.log(),
             what="new log")


# Bug reports.

def test_version(services):
    """What runs, what is installed and what ovs-ctl asks tell the same plugin
    and build."""
    service = services()
    installed = subprocess.check_output([daemon_path("ours"), "--version"],
                                        text=True).splitlines()
    ours = [line for line in installed if line.startswith("ovs-vhostuser ")]
    assert len(ours) == 1
    assert service.appctl("vhostuser/version").splitlines() == ours
    assert ours[0] in service.ctl("version")


def test_bugtool(services, tmp_path):
    """ovs-bugtool, with our file beside those of Open vSwitch, has a report
    that tells plugin, ports and messages."""
    service = services()
    with guest(service, "vm0") as frontend:
        files = report(service, tmp_path)
    ours = service.appctl("vhostuser/version").strip()
    assert files["vhostuser-version"].strip() == ours
    # Of the program that is installed here.
    assert files["ovs-vswitchd-version"].startswith("ovs-vswitchd (")
    assert re.search(rf"^vm0: .*{frontend.path}", files["vhostuser-show"],
                     re.MULTILINE)
    assert "SET_VRING_NUM" in files["vhostuser-trace"]


def report(service, directory):
    """Runs ovs-bugtool; returns what our commands gave it."""
    plugins = directory / "bugtool-plugins" / "network-status"
    plugins.mkdir(parents=True)
    plugin = os.path.join(TOP, "utilities", "bugtool", "vhostuser.xml")
    (plugins / "vhostuser.xml").symlink_to(plugin)
    # The directory is built in.
    with open("/usr/sbin/ovs-bugtool", encoding="utf-8") as file:
        program = file.read()
    old = 'PLUGIN_DIR = "/usr/share/openvswitch/bugtool-plugins"'
    assert old in program
    program = program.replace(old, f'PLUGIN_DIR = "{plugins.parent}"')
    (directory / "bugtool").write_text(program, encoding="utf-8")
    env = dict(service.env, PATH=f"{service.path('bin')}:{os.environ['PATH']}")
    subprocess.run(
        ["/usr/bin/python3", str(directory / "bugtool"), "--yestoall",
         "--silent", "--ovs", "--entries=network-status", "--output=tar",
         f"--outfile={directory}/report.tar"], check=True, timeout=60,
        env=env, stdin=subprocess.DEVNULL)
    with tarfile.open(directory / "report.tar") as tar:
        return {os.path.basename(member.name).removesuffix(".out"):
                tar.extractfile(member).read().decode()
                for member in tar if member.isfile()}
