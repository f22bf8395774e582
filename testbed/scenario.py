# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The command line of a scenario's script, which runs playbooks on the fleet's hosts.

SCRIPT --inventory FILE --report FILE -- ansible-playbook OPTIONS...
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from testing import hosts
from testing.processes import ROOT, exit_status


@dataclass(frozen=True)
class Scenario:
    """places: addresses by host. report: of the playbook. command: ansible-playbook's."""

    places: dict[str, str]
    report: Path
    command: list[str]


@contextlib.contextmanager
def begun(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Begin a run of a playbook, whose output is to be read; it has ended after the block."""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def run(description: str, work: Callable[[Scenario], bool]) -> int:
    """Do a script's work, which returns whether all was well, and return the exit status."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--inventory", required=True, type=Path)
    parser.add_argument("--report", required=True, type=Path)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    places = hosts.addresses(arguments.inventory)
    return exit_status(lambda: work(Scenario(places, arguments.report, arguments.command)))
