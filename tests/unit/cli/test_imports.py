# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Keep imports out of commands, each of which is a process that answers and ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
#: Compilers, what draws, and slow parts of Python itself.
SLOW = {
    *("bcc", "jinja2", "rich", "cryptography"),
    *("asyncio", "concurrent.futures", "http", "importlib.metadata", "logging"),
    *("secrets", "ssl", "subprocess", "udpgrm.build.cache", "udpgrm.daemon"),
}
#: Modules that commands do not need which scripts call hundreds of times in a row.
NEEDLESS = {
    *("argparse", "dataclasses", "inspect", "json", "jsonschema", "threading", "tokenize", "yaml"),
    *("udpgrm.build", "udpgrm.probes", "udpgrm.restart", "udpgrm.services"),
}
DEFINITION = """\
groups: [{address: "0.0.0.0:4433", sockets: 2}]
instances: {unit: edge@.service}
probes: [{type: echo}, {type: dns}, {type: radius, secret: x}]
drain: {until: {flows: 0}, max_s: 300, on_timeout: stop}
"""


def imported(directory: Path, *arguments: str) -> set[str]:
    """Return what a command imports, which finds a definition but no state.

    Isolated, or what the environment's own start-up files import would count.
    """
    code = (
        "import sys; sys.path[:0] = sys.argv.pop(1).split(':'); before = set(sys.modules)\n"
        "from udpgrm.cli.main import main\n"
        "main(sys.argv[1:])\n"
        "print('imported', *(set(sys.modules) - before), file=sys.stderr)\n"
    )
    services = directory / "services"
    services.mkdir()
    (services / "edge.yaml").write_text(DEFINITION)
    yaml = next(path for path in sys.path if (Path(path) / "yaml").is_dir())
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            code,
            f"{ROOT}:{yaml}",
            f"--pin-dir={directory}",
            *arguments,
        ],
        env={**os.environ, "UDPGRM_SERVICES_DIR": str(services)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    [line] = [line for line in done.stderr.splitlines() if line.startswith("imported ")]
    found = set(line.split())
    assert "udpgrm.cli.commands" in found
    return found


@pytest.mark.parametrize("command", ["list", "flows", "metrics", "delete", "--help"])
def test_in_a_row(command: str, tmp_path: Path) -> None:
    operands = ["192.0.2.1:443"] if command == "delete" else []
    assert imported(tmp_path, command, *operands) & (SLOW | NEEDLESS) == set()


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "status edge --json",
        "check",
        "list --json",
        "hooks list",
        "working-gen 192.0.2.1:443 1",
        "drain 192.0.2.1:443 1",
        "enroll 192.0.2.1:443 --unit=edge.service",
        "probe 192.0.2.1:443",
        "doctor",
        "dissector list",
        "dissector show quic",
        "metrics --prometheus",
        "service define edge",
        "restart --help",
        "rollback edge",
    ],
)
def test_once(command: str, tmp_path: Path) -> None:
    assert imported(tmp_path, *command.split()) & SLOW == set()
