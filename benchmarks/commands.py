# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The time of commands that load no compiler: process, interpreter and imports included."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import udpgrm.client as grm
from benchmarks.report import Row
from benchmarks.stats import summary
from testing.host import ROOT, Host

_SECTION = "Commands"
_RUNS = 21
_ADDRESS = "127.0.0.1:4433"
_BAR_MS = 60.0
#: Commands that scripts call in a row, and commands of operators.
_COMMANDS = (
    *("--help", "list", "flows", "metrics"),
    *("list --json", "status", "status --json", "check", "hooks list", "dissector list"),
    *(f"doctor {_ADDRESS}", f"working-gen {_ADDRESS} 1"),
)
_DEFINITION = f"""\
groups: [{{address: "{_ADDRESS}", sockets: 2}}]
instances: {{unit: edge@.service}}
probes: [{{type: echo}}]
"""


def measure(host: Host) -> Iterator[Row]:
    """Time each command on a host with a service of one group of two sockets. All take turns."""
    sockets = grm.bind(_ADDRESS, 2)
    with tempfile.TemporaryDirectory(prefix="udpgrm-bench-") as directory:
        command = _installed(Path(directory))
        os.environ["UDPGRM_SERVICES_DIR"] = directory
        try:
            grm.enroll(sockets, 1)
            grm.promote(sockets[0], 1)
            times: dict[str, list[float]] = {line: [] for line in _COMMANDS}
            for _ in range(_RUNS):
                for line, took in times.items():
                    took.append(_took(command, host, line.split()))
            for line, took in times.items():
                yield Row(
                    _SECTION, line.replace(f" {_ADDRESS}", ""), "ms", summary(took), bar=_BAR_MS
                )
            deletions = []
            for _ in range(_RUNS):
                deletions.append(_took(command, host, ["delete", _ADDRESS]))
                grm.enroll(sockets, 1)  # the next one has a group to delete
            yield Row(_SECTION, "delete", "ms", summary(deletions), reference=6, bar=_BAR_MS)
        finally:
            del os.environ["UDPGRM_SERVICES_DIR"]
            for sock in sockets:
                sock.close()


def _installed(directory: Path) -> Path:
    """Return the command of a copy of the package, compiled to byte code as installations are."""
    for name in ("bin", "udpgrm"):
        shutil.copytree(ROOT / name, directory / name)
    (directory / "bpf").symlink_to(ROOT / "bpf")
    (directory / "edge.yaml").write_text(_DEFINITION)
    subprocess.run(["/usr/bin/python3", "-m", "compileall", "-q", directory / "udpgrm"], check=True)
    return directory / "bin/udpgrm"


def _took(command: Path, host: Host, arguments: list[str]) -> float:
    """Milliseconds, with the interpreter that the command itself names."""
    before = time.perf_counter()
    subprocess.run(
        [command, f"--pin-dir={host.directory}", *arguments],
        stdout=subprocess.DEVNULL,
        check=arguments != ["--help"],
    )
    return (time.perf_counter() - before) * 1e3
