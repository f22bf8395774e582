# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The command: which sections there are, and in which order they run."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

from benchmarks import (
    addresses,
    breakdown,
    commands,
    connecting,
    footprint,
    growth,
    hooks,
    layouts,
    many,
    server_name,
    steering,
    turns,
)
from benchmarks.measure import PASSES, ROUNDS
from benchmarks.place import Place, daemon, place, templates
from benchmarks.report import Row, document, table
from benchmarks.traffic import Groups

OUTPUT = Path(__file__).resolve().parents[1] / "build/benchmarks.json"


def _steering(where: Place) -> Iterator[Row]:
    with daemon(where) as host, Groups(host.directory) as groups:
        yield from steering.measure(groups)


def _server_name(where: Place) -> Iterator[Row]:
    with daemon(where) as host, Groups(host.directory) as groups:
        yield from server_name.measure(groups)


def _hooks(where: Place) -> Iterator[Row]:
    with daemon(where) as host, Groups(host.directory) as groups:
        yield from hooks.measure(host, where, groups)


def _connecting(where: Place) -> Iterator[Row]:
    with daemon(where) as host, Groups(host.directory) as groups:
        yield from connecting.measure(host, where, groups)


def _breakdown(where: Place) -> Iterator[Row]:
    with daemon(where) as host, Groups(host.directory) as groups:
        yield from breakdown.measure(groups, where)


def _growth(where: Place) -> Iterator[Row]:
    yield from growth.generations(where)
    yield from growth.groups(where)
    yield from growth.flows(where)


def _footprint(where: Place) -> Iterator[Row]:
    yield from footprint.start_up(where)
    with daemon(where) as host, Groups(host.directory) as groups:
        yield from footprint.registration()
        yield footprint.resident(host)
        yield from footprint.map_memory(groups)


def _many(where: Place) -> Iterator[Row]:
    with daemon(where) as host:
        yield from many.measure(host)


def _layouts(_: Place) -> Iterator[Row]:
    yield from layouts.measure()


def _addresses(where: Place) -> Iterator[Row]:
    with daemon(where) as host:
        yield from addresses.measure(host)


def _turns(where: Place) -> Iterator[Row]:
    with daemon(where):
        yield from turns.measure()


def _commands(where: Place) -> Iterator[Row]:
    with daemon(where) as host:
        yield from commands.measure(host)


SECTIONS: dict[str, Callable[[Place], Iterator[Row]]] = {
    "steering": _steering,
    "server_name": _server_name,
    "hooks": _hooks,
    "connecting": _connecting,
    "breakdown": _breakdown,
    "growth": _growth,
    "footprint": _footprint,
    "layouts": _layouts,
    "many": _many,
    "addresses": _addresses,
    "turns": _turns,
    "commands": _commands,
}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _machine() -> dict[str, Any]:
    return {
        "kernel": platform.release(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "rounds": ROUNDS,
        "passes": PASSES,
    }


def main() -> int:
    """Run the sections asked for, all by default."""
    parser = argparse.ArgumentParser(prog="benchmarks/run", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON (%(default)s)")
    arguments = parser.parse_args()
    names = arguments.sections or list(SECTIONS)
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        parser.error(f"no section {unknown[0]}: there are {', '.join(SECTIONS)}")
    machine = _machine()
    rows: list[Row] = []
    with place() as where, templates():
        for name in names:
            started = time.monotonic()
            rows += SECTIONS[name](where)
            print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    print(table(rows), end="")
    bars = [row.holds for row in rows if row.holds is not None]
    print(f"\n{bars.count(True)} of {len(bars)} bars hold")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(document(rows, machine), indent=1) + "\n")
    return 0
