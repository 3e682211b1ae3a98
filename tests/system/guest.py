#!/usr/bin/env python3
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
"""A small Linux guest under QEMU, with vhost-user network cards.

The guest executes shell commands that come in at its second serial port, see
utilities/guest-image.  The first one is its kernel's console, kept in the
file "console" of the guest's directory.

Tests use the class Guest.  As a program, this module serves utilities/
quickstart and people: "guest.py run DIR COMMAND" executes a command in the
guest that was started in DIR.
"""

import argparse
import base64
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass

TOP = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))


class GuestError(Exception):
    """The guest, or QEMU, did not do what was asked."""


@dataclass
class Nic:
    """A network card: one vhost-user socket."""
    path: str
    server: bool = True         # QEMU listens; else it connects to us.
    queues: int = 1
    mac: str = ""               # By default made from the path.
    host_mtu: int = 0
    device: str = ""            # More properties of virtio-net-pci.

    def __post_init__(self):
        if not self.mac:
            number = zlib.crc32(self.path.encode()) & 0xffffff
            self.mac = "52:54:00:" + number.to_bytes(3, "big").hex(":")

    def arguments(self, number, accel):
        """QEMU's options for this card."""
        mode = "server=on" if self.server else "reconnect=1"
        device = f"virtio-net-pci,id=nic{number},netdev=net{number}"
        if accel == "tcg":
            # Without KVM, QEMU 7.2 cannot route MSI-X to a vhost-user card.
            device += ",vectors=0"
        if self.queues > 1:
            device += ",mq=on"
            if accel != "tcg":
                device += f",vectors={2 * self.queues + 2}"
        device += f",mac={self.mac}"
        if self.host_mtu:
            device += f",host_mtu={self.host_mtu}"
        if self.device:
            device += f",{self.device}"
        return ["-chardev", f"socket,id=chr{number},path={self.path},{mode}",
                "-netdev", f"vhost-user,id=net{number},chardev=chr{number},"
                           f"queues={self.queues}",
                "-device", device]


class Guest:
    """One QEMU process and the Linux in it."""

    def __init__(self, directory, image, memory=192, backend="memfd",
                 share=True, cpus=1, accel=None):
        """'backend' is "memfd", "file" or "" for memory without any fd."""
        self.directory = str(directory)
        self.image = str(image)
        self.memory = memory
        self.backend = backend
        self.share = share
        self.cpus = cpus
        self.accel = accel or os.environ.get("VHU_ACCEL", "tcg")
        self.process = None
        self.console = None
        self.input = b""
        self.tag = 0
        os.makedirs(self.directory, exist_ok=True)

    def path(self, name):
        """The path of a file of this guest."""
        return os.path.join(self.directory, name)

    # Life of the process.

    def memory_arguments(self):
        """QEMU's options for the guest's memory."""
        machine = f"q35,accel={self.accel}"
        if not self.backend:
            return ["-machine", machine, "-m", f"{self.memory}M"]
        share = "on" if self.share else "off"
        backend = f"memory-backend-{self.backend},id=mem," \
                  f"size={self.memory}M,share={share}"
        if self.backend == "file":
            backend += f",mem-path={self.path('memory')}"
        return ["-machine", f"{machine},memory-backend=mem",
                "-m", f"{self.memory}M", "-object", backend]

    def arguments(self, nics):
        """The whole command line of QEMU."""
        args = ["qemu-system-x86_64", "-nodefaults", "-no-user-config",
                "-display", "none", "-cpu", "max", "-smp", str(self.cpus)]
        args += self.memory_arguments()
        # It trusts the timers rather than to try them, which goes wrong when
        # QEMU does not get the processor.
        args += ["-kernel", os.path.join(self.image, "vmlinuz"),
                 "-initrd", os.path.join(self.image, "initramfs.gz"),
                 "-append", "console=ttyS0 quiet panic=-1 mitigations=off "
                            "nokaslr no_timer_check tsc=reliable "
                            "random.trust_cpu=on net.ifnames=0",
                 "-serial", f"file:{self.path('console')}",
                 "-serial", f"unix:{self.path('shell')},server=on,wait=off",
                 "-qmp", f"unix:{self.path('qmp')},server=on,wait=off"]
        for number, nic in enumerate(nics):
            args += nic.arguments(number, self.accel)
        return args

    def start(self, nics=(), wait=True, timeout=120, options=()):
        """Starts QEMU, and by default waits until the guest is up.

        With a card in server mode QEMU itself waits for the switch.
        'options' are more options of QEMU."""
        for name in ("shell", "qmp"):
            if os.path.exists(self.path(name)):
                os.unlink(self.path(name))
        with open(self.path("qemu.log"), "ab") as log:
            # pylint: disable=consider-using-with
            self.process = subprocess.Popen(
                self.arguments(nics) + list(options),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True)
        with open(self.path("pid"), "w", encoding="ascii") as file:
            print(self.process.pid, file=file)
        # At once: what is printed while nobody listens is lost.
        self.attach()
        if wait:
            self.wait_ready(timeout)
        return self

    def alive(self):
        """True while QEMU runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """Ends QEMU at once, as a crash would."""
        if self.console:
            self.console.close()
            self.console = None
        if self.process:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
            self.process = None

    def shutdown(self, timeout=20):
        """Lets the guest switch itself off; then QEMU ends."""
        self.send_line("- " + base64.b64encode(b"poweroff -f").decode())
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired as err:
            raise GuestError("guest does not power off") from err
        finally:
            self.kill()

    def reboot(self, timeout=120):
        """Reboots the guest's kernel; QEMU and its sockets stay."""
        self.send_line("- " + base64.b64encode(b"reboot -f").decode())
        self.wait_ready(timeout)

    # The guest's shell.

    def attach(self, timeout=10):
        """Connects to the guest's shell."""
        deadline = time.monotonic() + timeout
        while self.console is None:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(self.path("shell"))
            except (FileNotFoundError, ConnectionRefusedError) as err:
                sock.close()
                if self.process and self.process.poll() is not None:
                    raise GuestError("QEMU ended: " + self.log()) from err
                if time.monotonic() > deadline:
                    raise GuestError("no shell: " + self.log()) from err
                time.sleep(0.02)
            else:
                self.console = sock
                self.input = b""

    def log(self):
        """The ends of what QEMU and the guest's kernel said."""
        text = ""
        for name in ("qemu.log", "console"):
            try:
                with open(self.path(name), errors="replace",
                          encoding="utf-8") as file:
                    text += file.read()[-2000:]
            except FileNotFoundError:
                pass
        return text

    def send_line(self, line):
        """Sends one line to the guest's shell."""
        self.attach()
        self.console.sendall(line.encode() + b"\n")

    def read_line(self, deadline):
        """Returns the next line that the guest's shell printed."""
        while b"\n" not in self.input:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.console], [], [], left)[0]:
                raise GuestError("no answer in time: " + self.log())
            data = self.console.recv(65536)
            if not data:
                raise GuestError("QEMU is gone: " + self.log())
            self.input += data
        line, self.input = self.input.split(b"\n", 1)
        return line.decode(errors="replace").rstrip("\r")

    def wait_ready(self, timeout=120):
        """Waits until the guest has booted."""
        deadline = time.monotonic() + timeout
        self.attach(timeout)
        while self.read_line(deadline) != "+ready":
            pass

    def run(self, command, timeout=60, check=True):
        """Executes 'command' in the guest and returns what it printed.

        A status other than 0 raises GuestError, unless 'check' is false."""
        output, status = self.run_status(command, timeout)
        if check and status:
            raise GuestError(f"{command}: status {status}: {output}")
        return output

    def run_status(self, command, timeout=60):
        """Executes 'command' in the guest; returns its output and status."""
        deadline = time.monotonic() + timeout
        self.tag += 1
        tag = f"{os.getpid()}.{self.tag}"
        self.send_line(tag + " " + base64.b64encode(command.encode()).decode())
        while self.read_line(deadline) != "<" + tag:
            pass
        lines = []
        while True:
            line = self.read_line(deadline)
            if line.startswith(f">{tag} "):
                # The empty line is there in case the output ends without one.
                if lines and not lines[-1]:
                    lines.pop()
                return "\n".join(lines), int(line.split()[1])
            lines.append(line)

    def qmp(self, command, **arguments):
        """Executes a QMP command; returns its result."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(self.path("qmp"))
            stream = sock.makefile("rw", encoding="utf-8")
            stream.readline()
            for request in ({"execute": "qmp_capabilities"},
                            {"execute": command, "arguments": arguments}):
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                answer = {}
                while "return" not in answer and "error" not in answer:
                    line = stream.readline()
                    if not line:
                        return None
                    answer = json.loads(line)
            if "error" in answer:
                raise GuestError(f"{command}: {answer['error']['desc']}")
            return answer["return"]

    # What most tests do in a guest.

    def configure(self, address, device="eth0", mtu=None, queues=None):
        """Gives a network card an address ("10.0.0.1/24") and takes it up."""
        if queues:
            self.run(f"ethtool -L {device} combined {queues}")
        if mtu:
            self.run(f"ip link set {device} mtu {mtu}")
        self.run(f"ip addr add {address} dev {device} && "
                 f"ip link set {device} up")

    def ping(self, address, count=3, size=56, interval=0.2, timeout=30):
        """Pings; returns how many answers came."""
        text, _ = self.run_status(
            f"ping -c {count} -i {interval} -W 2 -s {size} {address}",
            timeout)
        for line in text.splitlines():
            if "packets received" in line:
                return int(line.split(", ")[1].split()[0])
        raise GuestError("ping: " + text)

    def wait_ping(self, address, timeout=40):
        """Pings until an answer comes."""
        deadline = time.monotonic() + timeout
        while self.run_status(f"ping -c 1 -W 1 {address}")[1]:
            if time.monotonic() > deadline:
                raise GuestError(f"no answer from {address} in {timeout} s")
            time.sleep(0.1)


def parse_nic(text):
    """Reads "PATH[,server=off][,queues=N][,mac=M][,host_mtu=N]"."""
    path, *options = text.split(",")
    values = dict(option.split("=", 1) for option in options)
    return Nic(path, server=values.get("server", "on") == "on",
               queues=int(values.get("queues", "1")),
               mac=values.get("mac", ""),
               host_mtu=int(values.get("host_mtu", "0")))


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description="A small guest.")
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="start a guest in DIR")
    start.add_argument("directory", metavar="DIR")
    start.add_argument("image", metavar="IMAGE",
                       help="what utilities/guest-image wrote")
    start.add_argument("--nic", action="append", default=[], type=parse_nic,
                       metavar="PATH[,queues=N][,server=off]...")
    start.add_argument("--memory", type=int, default=192, metavar="MiB")
    ready = commands.add_parser("wait", help="wait until it is up")
    ready.add_argument("directory", metavar="DIR")
    run = commands.add_parser("run", help="execute a command in the guest")
    run.add_argument("directory", metavar="DIR")
    run.add_argument("text", nargs="+", metavar="COMMAND")
    run.add_argument("--timeout", type=int, default=60)
    stop = commands.add_parser("stop", help="end the guest")
    stop.add_argument("directory", metavar="DIR")
    args = parser.parse_args()

    guest = Guest(args.directory, getattr(args, "image", ""),
                  memory=getattr(args, "memory", 0))
    if args.command == "start":
        guest.start(args.nic)
    elif args.command == "run":
        output, status = guest.run_status(" ".join(args.text), args.timeout)
        print(output)
        sys.exit(status)
    elif args.command == "stop":
        with open(guest.path("pid"), encoding="ascii") as file:
            os.kill(int(file.read()), signal.SIGKILL)


if __name__ == "__main__":
    try:
        main()
    except GuestError as error:
        sys.exit(str(error))
