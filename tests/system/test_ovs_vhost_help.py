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
"""ovs-vhost: its help, manual page and completion agree."""

import os
import re
import subprocess

import pytest

import vhost_tool
from switch import TOP, build_directory, find_tool

pytestmark = pytest.mark.ours

COMMANDS = ["probe", "perf", "send", "receive", "bounce", "trace", "top"]
COMPLETION = os.path.join(TOP, "utilities", "ovs-vhost-completion.bash")


def options(command):
    """The long options of a command, as its help says."""
    text = vhost_tool.run(command, "--help").split("\noptions:\n", 1)[1]
    return set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", text, re.MULTILINE))


def manual():
    """The source of the manual page, a dictionary by headings."""
    with open(os.path.join(TOP, "utilities", "ovs-vhost.8.rst"),
              encoding="utf-8") as file:
        parts = re.split(r"^(.+)\n[-=]{3,}\n", file.read(),
                         flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def test_commands_are_everywhere():
    """In the help and in the manual page."""
    text = vhost_tool.run("--help")
    assert re.findall(r"^  (\w+) ", text, re.MULTILINE) == COMMANDS
    for command in COMMANDS:
        assert command in manual()


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_in_the_manual(command):
    """Each option of the help, and no other."""
    parts = manual()
    where = parts[command]
    if "--queue-size" in options(command):
        where += parts["FRONT-END OPTIONS"]
    documented = set(re.findall(r"``(--[a-z-]+)", re.sub(
        r"^ .*", "", where, flags=re.MULTILINE)))
    common = {"--help", "--json"}
    assert documented - common == options(command) - common
    assert "--help" in options(command)


def complete(*words, env=None):
    """What bash offers after these words, of which the last is begun."""
    program = os.path.join(build_directory(), "utilities", "ovs-vhost")
    script = (f"source {COMPLETION}\nCOMP_WORDS=(\"$@\")\n"
              "COMP_CWORD=$(($# - 1))\n_ovs_vhost\n"
              "printf '%s\\n' \"${COMPREPLY[@]}\"\n")
    output = subprocess.run(
        ["bash", "-c", script, "bash", program, *words], check=True,
        stdout=subprocess.PIPE, text=True, env=env, timeout=20).stdout
    return set(output.split())


def test_completion(tmp_path):
    """Commands, options and files."""
    assert complete("") == set(COMMANDS) | {"--help", "--version"}
    assert complete("p") == {"probe", "perf"}
    assert complete("perf", "--queue") == {"--queues=", "--queue-size="}
    assert complete("trace", "--no") == {"--no-follow"}
    assert complete("trace", "--ta") == {"--target="}
    for name in ("a.sock", "b.sock"):
        (tmp_path / name).touch()
    files = {str(tmp_path / "a.sock"), str(tmp_path / "b.sock")}
    assert complete("probe", str(tmp_path) + "/") == files
    assert complete("perf", "--png", "=", str(tmp_path) + "/") == files
    assert complete("perf", "--rate", "=", "") == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_completion_has_all_options(command):
    """Those of the help."""
    offered = {word.rstrip("=") for word in complete(command, "--")}
    assert offered == options(command)


def test_completion_of_ports(switch):
    """Those of the switch."""
    for name in ("vm0", "vm1", "other"):
        switch.add_port(name)
    tools = os.path.dirname(find_tool("ovs-appctl"))
    env = dict(switch.env, PATH=f"{tools}:{os.environ['PATH']}")
    target = switch.path("ctl")
    assert complete("top", "-t", target, "vm", env=env) == {"vm0", "vm1"}
    assert complete("trace", "--target", "=", target, "o",
                    env=env) == {"other"}
