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
"""Live migration of Linux guests under traffic, from port to port.

In each of them a TCP connection lives on and gets every byte back as it was
sent, and nothing in the guest's memory is lost (L-02, L-05, L-06, L-07, P-02,
P-06, P-07, P-10): see migration.py.  "make check-migration" does many more."""

import pytest
from migration import Place, Traveller, cable
from outside import Outside
from switch import Switch

pytestmark = pytest.mark.ours


@pytest.fixture(name="travel")
def fixture_travel(switch, image, tmp_path_factory):
    """Boots a guest: travel(other switch or None, **Traveller's)."""
    made = []

    def make(other=None, **kwargs):
        places = [Place(switch, "vma", switch.add_port("vma"))]
        via = cable(switch, other) if other else ""
        other = other or switch
        places.append(Place(other, "vmb", other.add_port("vmb"), via=via))
        outside = Outside(switch)
        made.append(outside)
        traveller = Traveller(tmp_path_factory.mktemp("vm"), image, places,
                              outside, **kwargs)
        made.append(traveller)
        traveller.boot()
        traveller.begin_traffic()
        return traveller
    yield make
    for one in reversed(made):
        one.close()


def test_split(travel):
    """From one port of a switch to another, while the guest writes memory.
    Its driver announces itself (A-03)."""
    traveller = travel(device="guest_announce=on,rx_queue_size=1024")
    traveller.dirty()
    result = traveller.migrate(1, hold=True)
    traveller.stop_dirty()
    traveller.end_traffic()
    print(result)
    assert result.pages > 0 and result.differing == 0
    assert result.held > 0
    assert result.duplicates == 0
    assert "guest" in [kind for kind, _ in result.announced]


def test_packed_two_switches(travel):
    """To another switch, with packed rings.  The switch announces a guest
    that does not (A-01, A-02)."""
    with Switch(pmd_mask="0x2") as other:
        traveller = travel(other, device="packed=on,guest_announce=off")
        result = traveller.migrate(1, hold=True)
        traveller.end_traffic()
        print(result)
        assert result.pages > 0 and result.differing == 0
        assert result.held > 0
        assert result.duplicates == 0
        assert {kind for kind, _ in result.announced} == {"RARP"}
        other.check_alive()


def test_failures(travel):
    """Cancelled, and failed since the destination died: the source goes on,
    without a log (P-13).  Then it succeeds."""
    traveller = travel(device="mrg_rxbuf=off", queues=2)
    for how in ("cancel", "kill"):
        traveller.fail(1, how)
    result = traveller.migrate(1)
    traveller.end_traffic()
    print(result)
    assert result.held > 0
    assert result.duplicates == 0
