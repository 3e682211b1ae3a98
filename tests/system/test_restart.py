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
"""The switch is restarted under guests, which notice a pause at most.

VHU_RESTARTS says how often the switch is killed in test_random_kills; "make
check-restart" has 200.
"""

import os
import random
import time

import pytest

from restart import (BURST, Traffic, n_starts, reconnect_times, summary,
                     wait_back)

pytestmark = pytest.mark.ours

KILLS = int(os.environ.get("VHU_RESTARTS", "20"))

# Rings of guests: options of ovs-vhost perf.
PIECES = ["--no-in-order", "--size=4000", "--buffer-size=2048"]
RINGS = {
    "split": [],
    "packed": ["--packed"],
    "split indirect": PIECES,
    "packed indirect": ["--packed", *PIECES],
    "split chains": ["--no-indirect", *PIECES],
    "packed chains": ["--packed", "--no-indirect", *PIECES],
}


def kill_at_random(switch, rng):
    """Kills and starts the daemon.  Now and then it does not live long enough
    to get its ports."""
    count = n_starts(switch)
    if rng.random() < 0.2:
        switch.kill_daemon()
        switch.start_daemon(wait=False)
        time.sleep(rng.uniform(0.02, 0.3))
        early = n_starts(switch) == count
        switch.kill_daemon()
        kills = 2
        count += not early
    else:
        switch.kill_daemon()
        kills = 1
    switch.start_daemon(wait=False)
    wait_back(switch, count + 1)
    return kills


def run_kills(switch, number, *options, rate):
    """Kills the daemon 'number' times at random under traffic."""
    rng = random.Random()
    with Traffic(switch, *options, mtu=9000, rate=rate) as traffic:
        time.sleep(0.7)
        kills = 0
        while kills < number:
            kills += kill_at_random(switch, rng)
            time.sleep(rng.uniform(0.05, 0.3))
        return traffic.stop_and_check(kills)


@pytest.mark.parametrize("ring", RINGS)
def test_random_kills(switch, ring):
    """R-04, R-05, R-06, R-07: the switch dies at any time.  Nothing is lost
    but what it had in its hands, little comes twice, nothing out of order."""
    ways = run_kills(switch, -(-KILLS // len(RINGS)), *RINGS[ring],
                     rate=2000 if "--size=4000" in RINGS[ring] else 5000)
    outages = [outage for way in ways for outage in way["outages"]]
    times = reconnect_times(switch)
    print(f"\n{ring}: {len(outages)} outages, "
          f"lost {sum(o['lost'] for o in outages)}, "
          f"duplicates {sum(o['duplicates'] for o in outages)}, "
          f"under way {summary([o['in_ring'] for o in outages])}; ms from "
          f"port to up {summary(times)}; ms without a switch "
          f"{summary([o['duration_ns'] / 1e6 for o in outages])}")
    assert max(times) < 10000


def test_exit(switch):
    """The switch is asked to exit; nothing at all is lost."""
    with Traffic(switch) as traffic:
        time.sleep(0.7)
        for number in range(3):
            assert switch.stop_daemon() == 0
            switch.start_daemon()
            wait_back(switch, number + 1)
            time.sleep(0.2)
        ways = traffic.stop_and_check(3)
    print([(o["in_ring"], o["in_switch"], o["lost"])
           for way in ways for o in way["outages"]])
