# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""How long commands take that scripts call in a row: process, interpreter and imports included."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import udpgrm.client as grm
from benchmarks.report import Row
from benchmarks.stats import summary
from testing.host import ROOT, Host

_SECTION = "Commands"
_RUNS = 21
_ADDRESS = "127.0.0.1:4433"
_BAR_MS = 60.0


def measure(host: Host) -> Iterator[Row]:
    """Time each command on a host with one group of two sockets."""
    sockets = grm.bind(_ADDRESS, 2)
    try:
        grm.enroll(sockets, 1)
        grm.promote(sockets[0], 1)
        for arguments in (["--help"], ["list"], ["flows"], ["metrics"]):
            times = [_took(host, arguments) for _ in range(_RUNS)]
            yield Row(_SECTION, arguments[0], "ms", summary(times), bar=_BAR_MS)
        times = []
        for _ in range(_RUNS):
            times.append(_took(host, ["delete", _ADDRESS]))
            grm.enroll(sockets, 1)  # the next one has a group to delete
        yield Row(_SECTION, "delete", "ms", summary(times), reference=6, bar=_BAR_MS)
    finally:
        for sock in sockets:
            sock.close()


def _took(host: Host, arguments: list[str]) -> float:
    """Milliseconds, with the interpreter that the command itself names."""
    before = time.perf_counter()
    subprocess.run(
        [ROOT / "bin/udpgrm", f"--pin-dir={host.directory}", *arguments],
        stdout=subprocess.DEVNULL,
        check=arguments != ["--help"],
    )
    return (time.perf_counter() - before) * 1e3
