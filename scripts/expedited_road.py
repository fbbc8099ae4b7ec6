#!/usr/bin/env python3
"""Where the microseconds of an expedited wait go: medians of each step, by the kernel's own trace.

    cargo build --release -p barrierd-daemon -p barrierctl
    scripts/expedited_road.py [ROUNDS] [LOAD...]      as root; LOAD: threads that spin, default 0 1 2

Starts this tree's daemon on a file of its own and `barrierctl compare` beside it, and traces both, in an
instance of tracefs of its own. Each traced event costs some 0.3 us, so the sum is above an untraced wait;
what barrierctl measured stands below.
"""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

EVENTS = ["sched/sched_waking", "csd/csd_function_entry"] + [
    f"syscalls/sys_{half}_{call}"
    for half in ("enter", "exit")
    for call in ("sendto", "recvfrom", "ppoll", "futex", "read", "nanosleep")
]
LINE = re.compile(r"\s*.*?-(\d+)\s+\[\d+\]\s+\S+\s+(\d+\.\d+): (\w+)(.*)")
STEPS = [
    "the request is sent, until the daemon is called",
    "the daemon's wake-up",
    "the requests are read",
    "arming, and whom to kick",
    "kick: until the interrupt is taken",
    "kick: back",
    "scan and publication, first call of sleepers",
    "the client is woken, until it rests again",
]


def events(text, client, daemon):
    """(time in us, "client", "daemon" or "other", what) of each event."""
    for line in text.splitlines():
        match = LINE.match(line)
        if match:
            pid, seconds, name, rest = match.groups()
            who = {client: "client", daemon: "daemon"}.get(int(pid), "other")
            if name == "sched_waking":
                what = "waking " + ("daemon" if f"pid={daemon} " in rest else "other")
            elif name == "csd_function_entry":
                what = "kicked" if "perf_event" in rest else "other"
            else:
                what = name[4:] + (" exit" if rest.startswith(" ->") else " enter")
            yield float(seconds) * 1e6, who, what


def waits(trace):
    """The times of each wait's steps, in the order of STEPS; None for a step that did not happen."""
    marks = None
    for at, who, what in trace:
        if (who, what) == ("client", "sendto enter"):
            marks = {"sent": at}
        elif marks is None:
            continue
        elif what == "waking daemon":
            marks.setdefault("called", at)
        elif who == "daemon" and what == "ppoll exit":
            marks.setdefault("awake", at)
        elif who == "daemon" and what == "recvfrom exit":
            marks["read"] = at
        elif who == "daemon" and what == "read enter":
            marks.setdefault("kick", at)
        elif what == "kicked":
            marks["kicked"] = at
        elif who == "daemon" and what == "read exit":
            marks["back"] = at
        elif who == "daemon" and what == "futex enter":
            marks.setdefault("published", at)
        elif (who, what) == ("client", "nanosleep enter"):
            marks["noticed"] = at
            names = ["sent", "called", "awake", "read", "kick", "kicked", "back", "published", "noticed"]
            if all(name in marks for name in ("called", "awake", "read", "published")):
                row, before = [], marks["sent"]
                for name in names[1:]:
                    row.append(marks[name] - before if name in marks else None)
                    before = marks.get(name, before)
                yield row, at - marks["sent"]
            marks = None


def traced(tracefs, daemon, command):
    instance = f"{tracefs}/instances/barrierd-road-{os.getpid()}"
    os.mkdir(instance)

    def write(name, value):
        with open(f"{instance}/{name}", "w") as file:
            file.write(value)

    try:
        write("trace_clock", "mono")
        write("buffer_size_kb", "16384")
        for event in EVENTS:
            write(f"events/{event}/enable", "1")
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        output, _ = child.communicate()
        write("tracing_on", "0")
        with open(f"{instance}/trace") as file:
            trace = file.read()
    finally:
        os.rmdir(instance)
    return list(waits(events(trace, child.pid, daemon))), output


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    loads = [int(load) for load in sys.argv[2:]] or [0, 1, 2]
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(os.path.dirname(__file__), "../target"))
    with tempfile.TemporaryDirectory(prefix="barrierd-road.", dir="/run") as top:
        os.chmod(top, 0o755)
        tracefs, file = "/sys/kernel/tracing", f"{top}/barrier"
        mounted = not os.path.exists(f"{tracefs}/instances")
        if mounted:
            tracefs = f"{top}/trace"
            os.mkdir(tracefs)
            subprocess.run(["mount", "-t", "tracefs", "tracefs", tracefs], check=True)
        with open(f"{top}/log", "w") as log:
            daemon = subprocess.Popen([f"{target}/release/barrierd", file], stderr=log)
        try:
            while "Setup complete" not in open(f"{top}/log").read():
                if daemon.poll() is not None:
                    sys.exit(open(f"{top}/log").read())
                time.sleep(0.05)
            columns, below = [], []
            for load in loads:
                compare = [f"{target}/release/barrierctl", "--file", file, "compare", "--quiet", "--json"]
                compare += ["--count", str(rounds), "--load", str(load)]
                found, output = traced(tracefs, daemon.pid, compare)
                columns.append(found)
                ways = [json.loads(line) for line in output.splitlines()]
                us = {way["summary"]: (way["p50_ns"] / 1e3, way["p99_ns"] / 1e3) for way in ways}
                below.append([us["expedited"], us["membarrier_private"]])
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait()
            if mounted:
                subprocess.run(["umount", tracefs], check=True)
    print("| us, median (share of waits) | " + " | ".join(f"{load} spin" for load in loads) + " |")
    print("|---|" + "---|" * len(loads))
    for step, name in enumerate(STEPS):
        cells = []
        for found in columns:
            times = [row[step] for row, _ in found if row[step] is not None]
            share = len(times) / max(len(found), 1)
            cell = f"{statistics.median(times):.1f}" if times else "-"
            cells.append(cell + (f" ({share:.0%})" if times and share < 0.995 else ""))
        print(f"| {name} | " + " | ".join(cells) + " |")
    whole = [f"{statistics.median(at for _, at in found):.1f}" if found else "-" for found in columns]
    print("| whole, traced | " + " | ".join(whole) + " |")
    for row, name in enumerate(["expedited", "membarrier"]):
        cells = [f"{load[row][0]:.1f}, {load[row][1]:.1f}" for load in below]
        print(f"| {name}, by barrierctl: p50, p99 | " + " | ".join(cells) + " |")


main()
