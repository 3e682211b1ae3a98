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
"""Runs ovs-vhost, our command."""

import json
import os
import subprocess

from switch import build_directory


def start(*args, **kwargs):
    """Starts the command."""
    # pylint: disable=consider-using-with
    return subprocess.Popen(
        [os.path.join(build_directory(), "utilities", "ovs-vhost"),
         *map(str, args)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, **kwargs)


def run(*args, status=0, timeout=60, **kwargs):
    """Runs the command, which must exit with 'status'.  Returns what it
    printed: the standard output, or the errors if 'status' is not 0."""
    process = start(*args, **kwargs)
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        raise AssertionError(f"{args} does not end: "
                             f"{output}{errors}") from None
    assert process.returncode == status, (args, output, errors)
    return errors if status else output


def run_json(*args, **kwargs):
    """The same with --json: a list of what is on the lines."""
    return [json.loads(line)
            for line in run(*args, "--json", **kwargs).splitlines()]
