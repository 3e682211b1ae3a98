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
"""Options that change while a front-end is connected."""

import os
import stat

import pytest

from frontend import Frontend
from switch import wait_for


@pytest.mark.ours
def test_socket_mode_keeps_connection(switch):
    """Other permissions of the socket do not cost the guest its link."""
    path = switch.add_port("vm0", server=True)
    with Frontend(path, server=False) as frontend:
        frontend.connect().start()
        switch.wait_link("vm0")
        switch.set_interface("vm0", "options:socket-mode=0640")
        wait_for(lambda: os.path.exists(path)
                 and stat.S_IMODE(os.stat(path).st_mode) == 0o640,
                 what="mode 0640")
        assert not frontend.closed(1)
        assert switch.get("vm0", "link_state") == "up"
    switch.wait_link("vm0", up=False)

    # The new socket is the one to connect to.
    with Frontend(path, server=False) as frontend:
        frontend.connect().start()
        switch.wait_link("vm0")


@pytest.mark.ours
def test_retries_keep_connection(switch):
    """An option that has nothing to do with the socket leaves it alone."""
    path = switch.add_port("vm0", server=True)
    inode = os.stat(path).st_ino
    with Frontend(path, server=False) as frontend:
        frontend.connect().start()
        switch.wait_link("vm0")
        switch.set_interface("vm0", "options:tx-retries-max=1")
        wait_for(lambda: "tx-retries-max=1" in switch.appctl("dpctl/show"),
                 what="1 retry")
        assert not frontend.closed(1)
        assert os.stat(path).st_ino == inode
