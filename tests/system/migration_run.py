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
"""Migrates guests many times, under random load and with random devices, and
reports what that cost them.  Ends with status 1 if anything was lost that must
not be.  "make check-migration" runs it."""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict

from guest import TOP
from migration import ADDRESS, Place, Traveller, cable
from outside import Outside
from switch import Switch, build_directory

LOADS = ("idle", "echo", "dirty", "receive", "send", "all")


class World:
    """Two switches, joined by a cable, and the network around the first.
    Or one with OVS-DPDK's ports, to compare ours with (VHU_SWITCH=dpdk)."""

    def __init__(self):
        self.switches = [Switch(pmd_mask=mask) for mask in ("0x1", "0x2")]
        if self.switches[0].kind == "dpdk":
            self.switches.pop()
        self.via = ""
        self.outside = None
        self.guests = 0
        self.failed = []        # Pings lost by migrations that failed.
        self.restarts = 0
        self.resources = []

    def start(self):
        """Starts everything."""
        for switch in self.switches:
            switch.start()
        if len(self.switches) > 1:
            self.via = cable(*self.switches)
        self.outside = Outside(self.switches[0])
        time.sleep(0.5)
        self.resources = [switch.resources() for switch in self.switches]
        return self

    def places(self, topology, server, mtu):
        """Two new ports to migrate between."""
        self.guests += 1
        other = self.switches[0 if topology == "one switch" else 1]
        places = []
        for letter, switch in (("a", self.switches[0]), ("b", other)):
            name = f"vm{self.guests}{letter}"
            path = switch.add_port(name, server=not server, mtu=mtu or None)
            places.append(Place(switch, name, path, server=server,
                                via=name if switch is self.switches[0]
                                else self.via))
        return places

    def restart(self, switch):
        """The second switch crashes and comes back."""
        switch.kill_daemon()
        switch.start_daemon()
        self.switches[0].wait_link(self.via)

    def check_leaks(self):
        """Insists that the daemons hold no more than at the beginning."""
        time.sleep(0.5)
        for switch, before in zip(self.switches, self.resources):
            switch.check_alive()
            for kind, number in switch.resources().items():
                if "memfd" in kind or "mapping" in kind:
                    assert number <= before.get(kind, 0), \
                        f"{number} {kind}, {before.get(kind, 0)} at first"

    def close(self):
        """Ends everything."""
        if self.outside:
            self.outside.close()
        for switch in self.switches:
            switch.close()


def random_device(rng, packed):
    """Random properties of a network card: the text for QEMU, and Traveller's
    arguments."""
    onoff = {True: "on", False: "off"}
    device = [f"packed={onoff[packed]}"]
    for name, chance in (("mrg_rxbuf", 0.7), ("guest_announce", 0.5),
                         ("indirect_desc", 0.7), ("event_idx", 0.7)):
        device.append(f"{name}={onoff[rng.random() < chance]}")
    device.append(f"rx_queue_size={rng.choice((256, 256, 1024))}")
    return {"device": ",".join(device),
            "queues": rng.choice((1, 1, 2, 4)),
            "host_mtu": rng.choice((0, 0, 9000))}


class Load:
    """What keeps a guest busy during one migration."""

    def __init__(self, traveller, kind):
        outside = traveller.outside
        self.traveller = traveller
        self.kind = kind
        self.workers = []
        traveller.echo.rate = (16 << 20 if kind in ("echo", "all")
                               else 256 << 10)
        if kind in ("receive", "all"):
            self.workers.append(outside.pour(ADDRESS, port=10))
        if kind in ("send", "all"):
            self.workers.append(outside.fetch(ADDRESS))
        if kind in ("dirty", "all"):
            traveller.dirty()

    def end(self):
        """Ends it."""
        for worker in self.workers:
            worker.check()
            self.traveller.outside.remove(worker)
        if self.kind in ("dirty", "all"):
            self.traveller.stop_dirty()


def one_guest(world, rng, image, topology, packed, count, say):
    """Boots one guest and has it migrate 'count' times; yields Results."""
    options = random_device(rng, packed)
    server = rng.random() < 0.7
    directory = tempfile.mkdtemp(prefix="vhu.vm.")
    places = world.places(topology, server, options["host_mtu"])
    say(f"guest: {topology}, {options}, QEMU "
        f"{'listens' if server else 'connects'}")
    try:
        with Traveller(directory, image, places, world.outside,
                       **options) as traveller:
            traveller.boot()
            traveller.begin_traffic()
            for _ in range(count):
                target = 1 - traveller.at
                if rng.random() < 0.2:
                    how = rng.choice(("cancel", "kill"))
                    lost = traveller.fail(target, how)
                    world.failed.append(lost)
                    say(f"  {how}: goes on, {lost} pings lost")
                load = Load(traveller, rng.choice(LOADS))
                hold = rng.random() < 0.5
                result = traveller.migrate(
                    target, name=load.kind, hold=hold,
                    bandwidth=rng.choice((16, 32, 64, 128)),
                    downtime=rng.choice((50, 100, 300)))
                load.end()
                say(f"  {result}")
                yield hold, result
                switch = places[target].switch
                if switch in world.switches[1:] and rng.random() < 0.5:
                    world.restart(switch)
                    world.restarts += 1
                    traveller.check_traffic()
                    say("  switch killed and restarted: goes on")
            traveller.end_traffic()
    finally:
        for place in places:
            place.switch.try_command(
                "ovs-vsctl", "--timeout=15",
                f"--db=unix:{place.switch.path('db.sock')}", "del-port",
                place.port)
        shutil.rmtree(directory, ignore_errors=True)


def table(rows):
    """A table as in our documentation."""
    widths = [max(len(str(row[i])) for row in rows)
              for i in range(len(rows[0]))]
    rule = "  ".join("=" * width for width in widths)
    lines = ["  ".join(str(cell).ljust(width) for cell, width
                       in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def spread(values, form="{:.0f}"):
    """Median and maximum."""
    values = list(values)
    if not values:
        return "-"
    return (form.format(statistics.median(values)) + " / "
            + form.format(max(values)))


def report(results):
    """The table of all that was measured.

    A guest that was held for a comparison was away for longer than it had to
    be, so that its pings say nothing.  There are 100 of them in a second; with
    a load on the network, some find the guest's queue full."""
    keys = list(dict.fromkeys(key for key, _, _ in results))
    keys += ["all"] if len(keys) > 1 else []
    columns = []
    for key in keys:
        mine = [(hold, r) for k, hold, r in results if key in (k, "all")]
        live = [r for hold, r in mine if not hold]
        every = [r for _, r in mine]
        columns.append([
            key, len(every), spread(r.downtime for r in every),
            spread(r.total for r in every), spread(r.rounds for r in every),
            spread(1000 * r.gap for r in live),
            spread(r.lost for r in live if r.name in ("idle", "dirty")),
            spread(r.lost for r in live),
            sum(r.duplicates for r in every),
            spread(1000 * r.moved for r in live),
            sum(any(kind == "guest" for kind, _ in r.announced)
                for r in every),
            sum(any(kind == "RARP" for kind, _ in r.announced)
                for r in every),
            sum(r.pages for r in every), sum(r.differing for r in every),
            f"{sum(r.held for r in every) / 1e6:.1f}"])
    names = ["median / maximum", "migrations", "downtime, ms", "duration, ms",
             "rounds", "no ping for, ms", "pings lost, quiet",
             "pings lost, any load", "pings twice", "MAC moved after, ms",
             "announced by guest", "by RARP", "pages compared",
             "pages different", "MB held in buffers"]
    return table([[name, *(column[i] for column in columns)]
                  for i, name in enumerate(names)])


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description="Many migrations.")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--format", choices=("split", "packed"))
    parser.add_argument("--topology", choices=("one switch", "two switches"))
    parser.add_argument("--output", help="write all results, as JSON")
    parser.add_argument("--image", default=os.environ.get("VHU_GUEST_IMAGE")
                        or os.path.join(build_directory(), "guest"))
    args = parser.parse_args()
    # Whoever ends us wants the switches and guests to end as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    subprocess.run([os.path.join(TOP, "utilities", "guest-image"),
                    args.image], check=True)
    seed = args.seed if args.seed is not None else random.randrange(10000)
    rng = random.Random(seed)
    print(f"seed {seed}")

    def say(text):
        print(text, flush=True)
    kinds = [(topology, name) for topology in ("one switch", "two switches")
             for name in ("split", "packed")
             if args.topology in (None, topology)
             and args.format in (None, name)]
    results = []
    failed = []
    restarts = errors = 0
    world = World()
    if len(world.switches) < 2:
        kinds = [kind for kind in kinds if kind[0] == "one switch"]
    try:
        world.start()
        number = 0
        while len(results) < args.count and errors < 5:
            topology, name = kinds[number % len(kinds)]
            number += 1
            count = min(rng.randint(2, 5), args.count - len(results))
            try:
                for hold, result in one_guest(
                        world, rng, args.image, topology, name == "packed",
                        count, say):
                    results.append((f"{name}, {topology}", hold, result))
                world.check_leaks()
                failed += world.failed
                restarts += world.restarts
                world.failed, world.restarts = [], 0
            except Exception:           # pylint: disable=broad-except
                errors += 1
                traceback.print_exc(file=sys.stdout)
                for switch in world.switches:
                    say(switch.log()[-4000:])
                world.close()
                world = World().start()
    finally:
        world.close()
    if results:
        print(report(results))
    print(f"{len(failed)} cancelled or failed in between, pings lost: "
          f"{spread(failed)} (median / maximum)")
    print(f"{restarts} times the switch was killed right after")
    print(f"{len(results)} migrations, {errors} errors, seed {seed}")
    if args.output:
        with open(args.output, "w", encoding="utf-8") as file:
            json.dump([dict(asdict(result), kind=kind, hold=hold)
                       for kind, hold, result in results], file, indent=1)
    sys.exit(1 if errors or any(r.differing or r.duplicates
                                for _, _, r in results) else 0)


if __name__ == "__main__":
    main()
