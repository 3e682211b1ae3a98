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
"""Results as Markdown, JSON and a plot."""

import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile

NOISY = 10                      # Percent between best and worst round.


def first_line(*command):
    """The first line that a command prints, or "?"."""
    try:
        result = subprocess.run(command, capture_output=True, text=True,
                                check=False, timeout=20)
        return (result.stdout + result.stderr).splitlines()[0].strip()
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return "?"


def package_version(name):
    """The version of a Debian package."""
    return first_line("dpkg-query", "-W", "-f", "${Version}", name)


def environment(ours, dpdk):
    """What a reader has to know about this machine."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"model name\s*: (.*)|CPU part\s*: (.*)",
                          file.read())
    top = os.path.dirname(os.path.dirname(os.path.dirname(
        os.path.abspath(__file__))))
    return {
        "date": datetime.datetime.now().astimezone().isoformat(
            timespec="seconds"),
        "machine": f"{model[0] if model else '?'}, {os.cpu_count()} CPUs, "
        f"Linux {platform.release()} {platform.machine()}",
        "load": os.getloadavg()[0],
        "versions": {
            "ours": first_line("git", "-C", top, "describe", "--always",
                               "--dirty") + ", " + first_line(ours,
                                                              "--version"),
            "ovs-dpdk": "openvswitch-switch-dpdk "
            + package_version("openvswitch-switch-dpdk") + ", "
            + first_line(dpdk, "--version"),
            "dpdk": package_version("dpdk"),
        },
    }


def values(result, key):
    """What all rounds found for 'key'."""
    return [run[key] for run in result.get("runs", []) if key in run]


def best(case, system, key):
    """The best round: the most packets, or the least cycles."""
    found = values(case.get(system, {}), key)
    if not found:
        return None
    return max(found) if key == "mpps" else min(found)


def spread(case, system, key):
    """Percent between the best and the worst round."""
    found = values(case.get(system, {}), key)
    return 100 * (max(found) - min(found)) / max(found) if found else 0


def cell(case, system, key):
    """A figure as text, "~" before it if it is noisy."""
    value = best(case, system, key)
    if value is None:
        return "–"
    noisy = "~" if spread(case, system, key) > NOISY else ""
    return noisy + (f"{value:.2f}" if key == "mpps" else f"{value:.0f}")


def ratio(case, above, below, key):
    """A ratio as text."""
    values_ = best(case, above, key), best(case, below, key)
    return f"**{values_[0] / values_[1]:.2f}**" if all(values_) else "–"


def table(heads, rows):
    """A Markdown table; all columns but the first are numbers."""
    lines = [heads, ["---"] + ["--:"] * (len(heads) - 1), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def switch_table(cases, ours="ours"):
    """Through the switch, with one of our systems."""
    rows = []
    for name, case in cases.items():
        if not any(values(case.get(system, {}), "mpps")
                   for system in (ours, "ovs-dpdk", "tap")):
            continue
        rows.append([name, ratio(case, ours, "ovs-dpdk", "mpps"),
                     ratio(case, "ovs-dpdk", ours, "busy"),
                     cell(case, ours, "mpps"),
                     cell(case, "ovs-dpdk", "mpps"),
                     cell(case, "tap", "mpps"),
                     cell(case, ours, "busy"),
                     cell(case, "ovs-dpdk", "busy"),
                     cell(case, ours, "load"),
                     cell(case, "ovs-dpdk", "load")])
    return table(["case", f"{ours} : ovs-dpdk, Mpps",
                  f"ovs-dpdk : {ours}, busy cycles", f"{ours}, Mpps",
                  "ovs-dpdk, Mpps", "tap, Mpps", f"{ours}, busy cycles",
                  "ovs-dpdk, busy cycles", f"{ours}, PMD busy %",
                  "ovs-dpdk, PMD busy %"], rows)


def engine_table(cases):
    """The engines alone."""
    rows = []
    for name, case in cases.items():
        if not any(values(case.get(system, {}), "mpps")
                   for system in ("bounce", "dpdk-vhost", "limit")):
            continue
        rows.append([name, ratio(case, "dpdk-vhost", "bounce", "busy"),
                     ratio(case, "bounce", "limit", "busy"),
                     cell(case, "bounce", "busy"),
                     cell(case, "dpdk-vhost", "busy"),
                     cell(case, "limit", "busy"),
                     cell(case, "bounce", "idle poll"),
                     cell(case, "bounce", "mpps"),
                     cell(case, "dpdk-vhost", "mpps"),
                     cell(case, "limit", "mpps")])
    return table(["case", "dpdk-vhost : bounce, busy cycles",
                  "bounce : limit, busy cycles", "bounce, busy cycles",
                  "dpdk-vhost, busy cycles", "limit, busy cycles",
                  "bounce, cycles an idle poll", "bounce, Mpps",
                  "dpdk-vhost, Mpps", "limit, Mpps"], rows)


def idle_table(results):
    """What idle ports cost."""
    counts = sorted({int(n) for found in results.values() for n in found})
    rows = []
    for system, found in results.items():
        found = {int(n): value for n, value in found.items()}
        row = [system] + [f"{found[n]:.0f}" if n in found else "–"
                          for n in counts]
        some = sorted(found)
        # What the thread does besides polling is in both, so leave it out.
        if len(some) > 1:
            first, last = some[0], some[-1]
            row.append(f"{(found[last] - found[first]) / (last - first):.1f}")
        else:
            row.append("–")
        rows.append(row)
    return table(["cycles an iteration", *(f"{n} ports" for n in counts),
                  "for each port more"], rows)


def notes(cases):
    """What was left out, failed or is noisy."""
    lines = []
    for name, case in cases.items():
        for system, result in case.items():
            if result.get("skipped"):
                lines.append(f"- {name}: not with {system}: "
                             f"{result['skipped']}.")
            if result.get("errors"):
                last = result["errors"][-1].strip().splitlines() or ["?"]
                lines.append(f"- {name}: {system}: {len(result['errors'])} "
                             f"rounds failed; {last[-1][-200:]}")
            for key in ("mpps", "busy"):
                percent = spread(case, system, key)
                if percent > NOISY:
                    lines.append(f"- {name}: {system}: {key} is noisy: "
                                 f"rounds differ by {percent:.0f} %.")
    return "\n".join(lines)


def command_lines(cases):
    """The exact command lines of the last round of each."""
    lines = []
    for name, case in cases.items():
        for system, result in case.items():
            if result.get("commands"):
                lines.append(f"{name}: {system}:\n\n```\n"
                             + "\n".join(result["commands"]) + "\n```\n")
    return "\n".join(lines)


def resumed(data):
    """The runs before that some of the cases are from."""
    return "".join(
        f"- Cases of this run and of one before: {old['date']}, "
        f"{old['runs']} rounds of {old['seconds']} s, `{old['command']}`, "
        + ", ".join(old["versions"].values()) + "\n"
        for old in data.get("resumed", []))


def markdown(data):
    """The whole report."""
    cases = data["cases"]
    parts = [
        "# Benchmark\n",
        f"{data['date']}, {data['machine']}, load before it "
        f"{data['load']:.1f}.  Best of {data['runs']} rounds of "
        f"{data['seconds']} s, systems in turn.  "
        "Mpps are those of both directions together; busy cycles are those "
        "a packet takes when polls that find nothing do not count.  "
        f"\"~\" is a figure of which the rounds differ by more than {NOISY} "
        "%.\n",
        "\n".join(f"- {name}: {version}"
                  for name, version in data["versions"].items()) + "\n"
        + resumed(data),
        "## Through the switch\n\n" + switch_table(cases),
        "## Through the switch with DPDK\n\n"
        + switch_table(cases, "ours-dpdk"),
        "## The engine alone\n\nWithout a switch the guests are the limit: "
        "compare busy cycles.\n\n" + engine_table(cases)]
    if data.get("idle"):
        parts.append("## Idle ports\n\n" + idle_table(data["idle"])
                     + "\nAn empty poll of our port, and a notification, "
                     "without a switch:\n\n"
                     + "```\n" + data.get("parts", "Not measured.\n")
                     + "```\n")
    parts.append("## Notes\n\n" + (notes(cases) or "None.") + "\n")
    parts.append(f"## Command lines\n\nAll of it: `{data['command']}`\n\n"
                 + command_lines(cases))
    return "\n".join(parts)


def plot(data, path):
    """Draws bars into the PNG file 'path'.  Returns false without gnuplot."""
    if not shutil.which("gnuplot"):
        return False
    script = ["set terminal pngcairo size 1500,1300 font 'Sans,11'",
              f"set output '{path}'", "set multiplot layout 2,1",
              "set style data histograms", "set style fill solid 0.8",
              "set boxwidth 0.9", "set grid ytics", "set yrange [0:*]",
              "set key outside right", "set xtics rotate by -25"]
    with tempfile.TemporaryDirectory() as directory:
        for title, key, names in (
                ("Through the switch: Mpps, more is better", "mpps",
                 ("ours", "ovs-dpdk", "tap")),
                ("Engine alone: busy cycles a packet, less is better", "busy",
                 ("bounce", "dpdk-vhost", "limit"))):
            table_path = os.path.join(directory, key)
            with open(table_path, "w", encoding="utf-8") as file:
                for name, case in data["cases"].items():
                    figures = [best(case, system, key) for system in names]
                    if any(figures):
                        file.write(f'"{name}" ' + " ".join(
                            "0" if figure is None else str(figure)
                            for figure in figures) + "\n")
            if os.path.getsize(table_path):
                columns = ", ".join(
                    f"'{table_path}' using {i + 2}:xtic(1) title '{system}'"
                    for i, system in enumerate(names))
                script += [f"set title '{title}'", f"plot {columns}"]
        subprocess.run(["gnuplot"], input="\n".join(script) + "\n", text=True,
                       check=False)
    return True


def write(data, directory):
    """Writes everything; returns the Markdown."""
    text = markdown(data)
    with open(os.path.join(directory, "result.json"), "w",
              encoding="utf-8") as file:
        json.dump(data, file, indent=1)
    if plot(data, os.path.join(directory, "result.png")):
        text += "\nPlot: result.png\n"
    else:
        text += "\nNo plot: gnuplot is not installed (gnuplot-nox).\n"
    with open(os.path.join(directory, "result.md"), "w",
              encoding="utf-8") as file:
        file.write(text)
    return text
