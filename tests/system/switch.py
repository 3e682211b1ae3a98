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
"""A private Open vSwitch: its own database, daemon, directory and network
namespace.  Nothing of it is shared with a switch that runs on this machine.

Three kinds exist, of which VHU_SWITCH names one: "ours" is ovs-vswitchd with
this project's provider, from the build directory that VHU_BUILDDIR names;
"ours-dpdk" is the same with DPDK; "dpdk" is Debian's daemon with DPDK, whose
ports ours are compared with.
"""

import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
DPDK_DAEMON = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"


class SwitchError(Exception):
    """A command failed, or something did not happen in time."""


def build_directory():
    """The build directory with our daemon."""
    return os.path.abspath(os.environ.get("VHU_BUILDDIR", TOP))


def daemon_path(kind):
    """The path of the daemon of this kind."""
    if kind == "dpdk":
        return DPDK_DAEMON
    name = "ovs-vswitchd-dpdk" if kind == "ours-dpdk" else "ovs-vswitchd"
    return os.environ.get("VHU_DAEMON") or os.path.join(
        build_directory(), "vswitchd-plugin", name)


def ovs_directories():
    """Where OVS's build and source trees may be, best first."""
    build = build_directory()
    places = [os.environ.get("VHU_OVS_BUILD", "")]
    for name in ("Makefile", "config.status"):
        try:
            with open(os.path.join(build, name), encoding="utf-8") as file:
                places += re.findall(r"^OVS_\w*DIR *= *(/\S+)", file.read(),
                                     re.MULTILINE)
        except FileNotFoundError:
            pass
    places += [os.path.join(build, "ovs")] + glob.glob(f"{build}/ovs/*/")
    return [place for place in places if place]


def find_tool(name):
    """The path of one of OVS's programs: as built, else as installed."""
    for place in ovs_directories():
        for folder in ("ovsdb", "utilities"):
            path = os.path.join(place, folder, name)
            if os.access(path, os.X_OK) and not os.path.isdir(path):
                return path
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not path:
        raise SwitchError(f"{name} not found: set VHU_BUILDDIR")
    return path


def find_schema():
    """The path of the schema of OVS's database."""
    for place in ovs_directories() + ["/usr/share/openvswitch"]:
        for path in (f"{place}/vswitchd/vswitch.ovsschema",
                     f"{place}/vswitch.ovsschema"):
            if os.path.exists(path):
                return path
    raise SwitchError("vswitch.ovsschema not found")


def wait_for(condition, timeout=10, what="", interval=0.05):
    """Waits until 'condition' returns something true, and returns that."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise SwitchError(f"not in {timeout} s: "
                              f"{what or condition.__doc__ or condition}")
        time.sleep(interval)


class Switch:
    """A database server and a switch daemon."""

    def __init__(self, directory=None, kind=None, pmd_mask="0x1",
                 other_config=(), wrapper=(), options=()):
        """'other_config' has further settings as "key=value", 'options' more
        options of the daemon, 'wrapper' a command to start it with."""
        self.own_directory = directory is None
        self.directory = str(directory or tempfile.mkdtemp(prefix="vhu."))
        self.kind = kind or os.environ.get("VHU_SWITCH", "ours")
        self.wrapper = list(wrapper)
        self.options = list(options)
        self.daemon = None
        self.database = None
        self.env = dict(os.environ, OVS_RUNDIR=self.directory,
                        OVS_LOGDIR=self.directory, OVS_DBDIR=self.directory,
                        OVS_SYSCONFDIR=self.directory)
        # Idle PMD threads sleep for moments: the guests need the CPU, too.
        self.other_config = ["pmd-maxsleep=100", "pmd-sleep-max=100",
                             f"pmd-cpu-mask={pmd_mask}", *other_config]
        if self.kind != "ours":
            if not any("dpdk-extra=" in item for item in other_config):
                self.dpdk_extra("--no-huge --legacy-mem -m "
                                + ("2048" if self.kind == "dpdk" else "1024"))
            if "dpdk-init=false" not in other_config:
                self.other_config.append("dpdk-init=true")

    def dpdk_extra(self, options):
        """Has EAL run with 'options', and without the machine's devices."""
        self.other_config.append(
            f"dpdk-extra=--no-pci {options} "
            f"--file-prefix={os.path.basename(self.directory)}")

    # Files.

    def path(self, name):
        """The path of a file of this switch."""
        return os.path.join(self.directory, name)

    def log(self):
        """What the daemon has logged, in all its lives."""
        try:
            with open(self.path("ovs-vswitchd.log"), errors="replace",
                      encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    # Life.

    def start(self):
        """Starts everything, with an empty bridge br0."""
        os.makedirs(self.directory, exist_ok=True)
        self.command("ovsdb-tool", "create", self.path("conf.db"),
                     find_schema())
        self.database = self.spawn(
            [find_tool("ovsdb-server"), self.path("conf.db"),
             f"--remote=punix:{self.path('db.sock')}",
             f"--unixctl={self.path('db.ctl')}",
             f"--log-file={self.path('ovsdb-server.log')}", "-vconsole:off"])
        wait_for(lambda: os.path.exists(self.path("db.sock")), what="ovsdb")
        self.vsctl("--no-wait", "init")
        return self.start_switch()

    def start_switch(self):
        """Starts ovs-vswitchd, with an empty bridge br0."""
        for setting in self.other_config:
            key, value = setting.split("=", 1)
            self.vsctl("--no-wait", "set", "Open_vSwitch", ".",
                       f"other_config:{key}={json.dumps(value)}")
        self.start_daemon()
        self.vsctl("--", "add-br", "br0", "--", "set", "Bridge", "br0",
                   "datapath_type=netdev", "fail-mode=standalone")
        return self

    def spawn(self, args, **kwargs):
        """Starts a process that ends with us at the latest."""
        with open(self.path("output"), "ab") as output:
            return subprocess.Popen(args, env=self.env, stdout=output,
                                    stdin=subprocess.DEVNULL, stderr=output,
                                    cwd=self.directory, **kwargs)

    def start_daemon(self, wait=True, daemon=None):
        """Starts ovs-vswitchd and, if 'wait', waits until it answers.

        'daemon' is the path of another build of it.  unshare gives it a
        network namespace of its own, for br0 is a network device of its
        namespace, and then becomes the daemon."""
        daemon = daemon or daemon_path(self.kind)
        if not os.access(daemon, os.X_OK):
            raise SwitchError(f"{daemon} not found: set VHU_BUILDDIR")
        control = self.path("ctl")
        if os.path.exists(control):
            os.unlink(control)
        self.daemon = self.spawn(
            ["unshare", "--net", "--", *self.wrapper, daemon,
             f"unix:{self.path('db.sock')}", f"--unixctl={control}",
             f"--pidfile={self.path('ovs-vswitchd.pid')}",
             f"--log-file={self.path('ovs-vswitchd.log')}",
             "-vconsole:off", *self.options])

        def answers():
            if self.daemon.poll() is not None:
                raise SwitchError("ovs-vswitchd ended: " + self.log()[-3000:]
                                  + self.output())
            return (os.path.exists(control)
                    and self.try_command("ovs-appctl", "-t", control,
                                         "version"))
        if wait:
            wait_for(answers, 30, "ovs-vswitchd answers")

    def check_alive(self):
        """Raises SwitchError if the daemon has ended without being asked."""
        status = self.daemon.poll()
        if status not in (None, 0, -signal.SIGKILL):
            raise SwitchError(f"ovs-vswitchd ended with {status}: "
                              + self.log()[-3000:] + self.output())

    def output(self):
        """What the processes printed."""
        with open(self.path("output"), errors="replace",
                  encoding="utf-8") as file:
            return file.read()[-3000:]

    def stop_daemon(self, timeout=20):
        """Asks ovs-vswitchd to exit and waits for it; returns its status."""
        self.appctl("exit")
        try:
            return self.daemon.wait(timeout)
        except subprocess.TimeoutExpired as err:
            raise SwitchError("ovs-vswitchd does not exit") from err

    def kill_daemon(self, how=signal.SIGKILL):
        """Ends ovs-vswitchd as a crash would."""
        self.daemon.send_signal(how)
        self.daemon.wait(20)

    def close(self):
        """Ends everything and removes the directory, if it is ours."""
        for process in (self.daemon, self.database):
            if process is not None and process.poll() is None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        if self.own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()

    def resources(self):
        """What the daemon holds: descriptors by kind, guest mappings, and
        the number of its threads."""
        proc = f"/proc/{self.daemon.pid}"
        found = {"threads": len(os.listdir(f"{proc}/task"))}
        for number in os.listdir(f"{proc}/fd"):
            try:
                target = os.readlink(f"{proc}/fd/{number}")
            except FileNotFoundError:
                continue
            kind = re.sub(r":\[\d+\]$", "", target)
            found[kind] = found.get(kind, 0) + 1
        with open(f"{proc}/maps", encoding="utf-8") as file:
            found["guest mappings"] = sum("memfd:" in line for line in file)
        return found

    # Commands.

    def command(self, tool, *args, timeout=20):
        """Executes one of OVS's programs and returns what it printed."""
        result = subprocess.run(
            [find_tool(tool), *args], env=self.env, text=True, check=False,
            timeout=timeout, stdin=subprocess.DEVNULL, capture_output=True)
        if result.returncode:
            raise SwitchError(f"{tool} {' '.join(args)}: "
                              f"{result.stdout}{result.stderr}")
        return result.stdout

    def try_command(self, tool, *args):
        """As command(), but returns None on failure."""
        try:
            return self.command(tool, *args)
        except (SwitchError, subprocess.TimeoutExpired):
            return None

    def vsctl(self, *args):
        """ovs-vsctl."""
        return self.command("ovs-vsctl", "--timeout=15",
                            f"--db=unix:{self.path('db.sock')}", *args)

    def appctl(self, *args, timeout=20):
        """ovs-appctl to the daemon."""
        return self.command("ovs-appctl", "-t", self.path("ctl"), *args,
                            timeout=timeout)

    def answer_time(self, method="vhostuser/show"):
        """How long the daemon takes to answer, in seconds: the median of
        five times, since this machine has other things to do, too."""
        times = []
        for _ in range(5):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(20)
                sock.connect(self.path("ctl"))
                start = time.monotonic()
                sock.sendall(json.dumps({"id": 0, "method": method,
                                         "params": []}).encode())
                answer = b""
                while True:
                    answer += sock.recv(1 << 20)
                    try:
                        json.loads(answer)
                        break
                    except ValueError:
                        pass
                times.append(time.monotonic() - start)
        return sorted(times)[2]

    def ofctl(self, command, *args):
        """ovs-ofctl on br0, with what 'command' needs after it."""
        return self.command("ovs-ofctl", command,
                            self.path("br0.mgmt"), *args)

    # Ports.

    def types(self, server):
        """The interface type for a socket mode."""
        if self.kind == "dpdk":
            return "dpdkvhostuser" if server else "dpdkvhostuserclient"
        return os.environ.get("VHU_TYPE", "vhostuser")

    def add_bridge(self, name):
        """Adds another bridge."""
        self.vsctl("--", "add-br", name, "--", "set", "Bridge", name,
                   "datapath_type=netdev", "fail-mode=standalone")

    def add_port(self, name, server=False, path=None, mtu=None, bridge="br0",
                 **options):
        """Adds a port and returns the path of its socket.

        In an option's name write "_" for "-", except n_rxq and n_txq.  Client
        mode is the default: the guest listens."""
        if not server:
            path = path or self.path(f"{name}.sock")
            options["vhost_server_path"] = path
        elif path:
            options["path"] = path
        columns = []
        for key, value in options.items():
            if key not in ("n_rxq", "n_txq"):
                key = key.replace("_", "-")
            columns.append(f"options:{key}={json.dumps(str(value))}")
        if mtu:
            columns.append(f"mtu_request={mtu}")
        self.vsctl("add-port", bridge, name, "--", "set", "Interface", name,
                   f"type={self.types(server)}", *columns)
        return path or self.path(name)

    def del_port(self, name):
        """Removes a port."""
        self.vsctl("del-port", "br0", name)

    def set_interface(self, name, *columns):
        """Sets columns of an Interface, as "column=value"."""
        self.vsctl("set", "Interface", name, *columns)

    def get(self, name, column):
        """A column of an Interface, as a Python value."""
        text = self.vsctl("--format=json", f"--columns={column}", "list",
                          "Interface", name)
        return plain(json.loads(text)["data"][0][0])

    def status(self, name):
        """The status column."""
        return self.get(name, "status")

    def statistics(self, name, bridge="br0"):
        """What the statistics column will have, but as it is now.

        The column itself is updated every few seconds."""
        text = self.command("ovs-ofctl", "-OOpenFlow14", "dump-ports",
                            self.path(f"{bridge}.mgmt"), name)
        values = {}
        prefix = ""
        for line in text.splitlines():
            match = re.match(r" *(?:port +\S+: )?([rt]x) (.*)", line)
            if match:
                prefix, line = match[1] + "_", match[2]
            elif "CUSTOM" in line:
                prefix = ""
            for key, value in re.findall(r"(\w+)=(\d+)", line):
                if key in ("xid", "duration"):
                    continue
                key = {"pkts": "packets", "drop": "dropped",
                       "errs": "errors"}.get(key, key)
                values[prefix + key] = int(value)
        return values

    def link(self, name):
        """True if the port's link is up."""
        return self.get(name, "link_state") == "up"

    def wait_link(self, name, up=True, timeout=20):
        """Waits until the port's link is up, or down."""
        wait_for(lambda: self.link(name) == up, timeout,
                 f"link of {name} {'up' if up else 'down'}, status "
                 f"{self.status(name)}")

    def wait_status(self, name, key, pattern, timeout=10):
        """Waits until a status value matches; returns it."""
        def matches():
            value = self.status(name).get(key, "")
            return value if re.search(pattern, value) else None
        try:
            return wait_for(matches, timeout, "")
        except SwitchError as err:
            raise SwitchError(f"status:{key} of {name} is not {pattern}: "
                              f"{self.status(name)}") from err

    def rxqs(self):
        """Which queues PMD threads poll: {port: {queue: enabled}}."""
        ports = {}
        for line in self.appctl("dpif-netdev/pmd-rxq-show").splitlines():
            match = re.match(r" *port: (\S+) +queue-id: +(\d+) \((\w+)\)",
                             line)
            if match:
                queues = ports.setdefault(match[1], {})
                queues[int(match[2])] = match[3] == "enabled"
        return ports


def plain(value):
    """Makes a Python value of what OVSDB writes as JSON."""
    if isinstance(value, list) and len(value) == 2:
        kind, content = value
        if kind == "map":
            return {plain(key): plain(item) for key, item in content}
        if kind == "set":
            items = [plain(item) for item in content]
            return items[0] if len(items) == 1 else items
        if kind == "uuid":
            return content
    return value
