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
"""A switch as a service: started by ovs-ctl, as the units of Debian and Fedora
do it, for a user of its own, with memory locked; and users for it and for
those that connect to it.
"""

import contextlib
import grp
import os
import pwd
import shutil
import signal
import subprocess
import tempfile

from switch import (Switch, SwitchError, daemon_path, find_schema, find_tool,
                    ovs_directories, wait_for)

SCRIPTS = ("ovs-ctl", "ovs-kmod-ctl", "ovs-lib", "ovs-save")
PROGRAMS = ("ovs-appctl", "ovs-ofctl", "ovs-vsctl", "ovsdb-client",
            "ovsdb-server")

# Of those in the units, the options that matter outside of systemd.
OPTIONS = ("--no-monitor", "--system-id=vhu", "--no-record-hostname")


def find_script(name):
    """The path of one of the scripts around ovs-ctl: as built, else as
    installed."""
    for place in ovs_directories() + ["/usr/share/openvswitch"]:
        for folder in ("utilities", "scripts"):
            path = os.path.join(place, folder, name)
            if os.path.exists(path):
                return path
    raise SwitchError(f"{name} not found: set VHU_BUILDDIR")


class Accounts:
    """Users and groups of the system that go away again."""

    def __init__(self):
        self.users = []
        self.groups = []

    def group(self, name):
        """Makes a group; returns what it is called."""
        name = f"vhu{os.getpid()}g{name}"
        subprocess.run(["groupadd", "--system", name], check=True)
        self.groups.append(name)
        return name

    def user(self, name, group=None, others=()):
        """Makes a user in 'group', or one of its own, and in 'others'."""
        group = group or self.group(name)
        name = f"vhu{os.getpid()}u{name}"
        subprocess.run(
            ["useradd", "--system", "--no-create-home", "--home-dir=/",
             "--shell=/usr/sbin/nologin", f"--gid={group}",
             *([f"--groups={','.join(others)}"] if others else []), name],
            check=True)
        self.users.append(name)
        return name

    def close(self):
        """Removes all of them."""
        for user in self.users:
            subprocess.run(["userdel", user], check=True)
        for group in self.groups:
            subprocess.run(["groupdel", group], check=True)


@contextlib.contextmanager
def being(user, umask=0o022):
    """What is done inside, is done with the rights of 'user' and its
    groups."""
    entry = pwd.getpwnam(user)
    groups = os.getgroups()
    umask = os.umask(umask)
    os.setgroups(os.getgrouplist(user, entry.pw_gid))
    os.setegid(entry.pw_gid)
    os.seteuid(entry.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
        os.umask(umask)


def owner(path):
    """Who has a file, and its permissions: ("user", "group", 0o644)."""
    st = os.lstat(path)
    return (pwd.getpwuid(st.st_uid).pw_name, grp.getgrgid(st.st_gid).gr_name,
            st.st_mode & 0o7777)


class Service(Switch):
    """A switch that ovs-ctl starts and stops.

    Its directory is all at once: run directory, logs, database.  It is not in
    /tmp, which may be another one for the switch.  ovs-ctl is in a network
    namespace and, if there is a 'setup', a shell command, in a mount
    namespace, after that command; 'wrapper' is a command to start it with."""

    def __init__(self, user="", setup="", wrapper=()):
        super().__init__(tempfile.mkdtemp(prefix="vhu.", dir="/var/tmp"),
                         kind="ours", wrapper=wrapper)
        self.own_directory = True
        self.user = user
        self.setup = setup
        self.holder = None      # Keeps the namespaces.
        self.expected_pid = None
        self.env.update(OVS_BINDIR=self.path("bin"),
                        OVS_SBINDIR=self.path("bin"),
                        OVS_PKGDATADIR=self.path("share"))

    def start(self):
        """Starts everything, with an empty bridge br0."""
        self.make_tree()
        self.make_namespaces()
        self.ctl("--no-ovs-vswitchd", "start")
        return self.start_switch()

    def make_tree(self):
        """Makes an installation out of what has been built."""
        os.makedirs(self.path("bin"))
        os.makedirs(self.path("share/scripts"))
        for name in PROGRAMS:
            os.symlink(find_tool(name), self.path(f"bin/{name}"))
        os.symlink(daemon_path("ours"), self.path("bin/ovs-vswitchd"))
        # No test loads a kernel module.
        os.symlink("/bin/true", self.path("bin/modprobe"))
        for name in SCRIPTS:
            os.symlink(find_script(name), self.path(f"share/scripts/{name}"))
        # What ovs-ctl runs or reads as the user.
        shutil.copy(find_tool("ovsdb-tool"), self.path("bin"))
        shutil.copy(find_schema(), self.path("share"))
        os.chmod(self.directory, 0o755)
        if self.user:
            # As the units of Fedora do it, and systemd for RuntimeDirectory.
            shutil.chown(self.directory, *self.user.split(":"))

    def make_namespaces(self):
        """Makes the namespaces; a process keeps them."""
        # pylint: disable=consider-using-with
        self.holder = subprocess.Popen(
            ["unshare", "--net", *(["--mount"] if self.setup else []), "sh",
             "-ec", f"{self.setup or ':'}; echo ready; exec sleep 1000"],
            cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            env=dict(os.environ, DIR=self.directory))
        if self.holder.stdout.readline() != b"ready\n":
            raise SwitchError(f"no namespaces: {self.setup}")

    def ctl(self, *args, check=True):
        """Runs ovs-ctl with the options of the units; returns what it
        printed."""
        user = [f"--ovs-user={self.user}"] if self.user else []
        result = subprocess.run(
            ["nsenter", f"--target={self.holder.pid}", "--net",
             *(["--mount", "--root", "--wd"] if self.setup else []), "--",
             *self.wrapper, self.path("share/scripts/ovs-ctl"), *OPTIONS,
             *user, *args],
            env=self.env, cwd="/", stdin=subprocess.DEVNULL, timeout=60,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False)
        if check and (result.returncode or "failed" in result.stdout):
            raise SwitchError(f"ovs-ctl {args}: {result.returncode}: "
                              f"{result.stdout}{self.log()[-3000:]}")
        return result.stdout

    def start_daemon(self, wait=True, daemon=None):
        """Starts ovs-vswitchd."""
        assert wait and not daemon
        self.ctl("--no-ovsdb-server", "start")
        self.expected_pid = self.pid()

    def restart(self):
        """Restarts ovs-vswitchd, as ExecReload of the units does; returns
        what ovs-ctl printed."""
        text = self.ctl("--no-ovsdb-server", "restart")
        self.expected_pid = self.pid()
        return text

    def pid(self, name="ovs-vswitchd"):
        """The number of a daemon's process, or None."""
        try:
            with open(self.path(f"{name}.pid"), encoding="ascii") as file:
                pid = int(file.read())
        except FileNotFoundError:
            return None
        return pid if os.path.exists(f"/proc/{pid}") else None

    def proc(self, name, daemon="ovs-vswitchd"):
        """A field of a daemon's /proc/PID/status."""
        with open(f"/proc/{self.pid(daemon)}/status",
                  encoding="ascii") as file:
            return dict(line.rstrip("\n").split(":\t", 1)
                        for line in file if ":\t" in line)[name].strip()

    def appctl(self, *args, timeout=20):
        """ovs-appctl to the daemon."""
        return self.command("ovs-appctl", *args, timeout=timeout)

    def check_alive(self):
        """Raises SwitchError if the daemon is not the one that was started
        last."""
        if self.pid() != self.expected_pid or not self.pid():
            raise SwitchError("ovs-vswitchd ended: " + self.log()[-3000:])

    def close(self):
        """Ends everything and removes the directory."""
        for name in ("ovs-vswitchd", "ovsdb-server"):
            pid = self.pid(name)
            if pid:
                os.kill(pid, signal.SIGTERM)
                wait_for(lambda pid=pid: not os.path.exists(f"/proc/{pid}"),
                         20, f"{name} ends")
        if self.holder:
            self.holder.kill()
            self.holder.communicate()
        super().close()
