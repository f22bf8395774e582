# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""What commands must not import that scripts call hundreds of times in a row."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
#: Compilers, what reads and checks definitions, what draws, and the slow parts of Python itself.
SLOW = {
    *("bcc", "jinja2", "jsonschema", "yaml", "rich", "cryptography"),
    *("asyncio", "concurrent.futures", "email", "hashlib", "http", "importlib.metadata", "logging"),
    *("dataclasses", "inspect", "json", "shutil", "ssl", "subprocess", "tempfile", "tokenize"),
    *("udpgrm.build", "udpgrm.daemon", "udpgrm.probes", "udpgrm.restart", "udpgrm.services"),
}


@pytest.mark.parametrize("command", ["list", "flows", "metrics", "delete", "--help"])
def test_no_slow_module(command: str, tmp_path: Path) -> None:
    """Isolated, or what the environment's own start-up files import would count."""
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); before = set(sys.modules)\n"
        "from udpgrm.cli.main import main\n"
        "main(sys.argv[1:])\n"
        "print(*(set(sys.modules) - before), sep='\\n', file=sys.stderr)\n"
    )
    arguments = [
        f"--pin-dir={tmp_path}",
        command,
        *(["192.0.2.1:443"] if command == "delete" else []),
    ]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(ROOT), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(done.stderr.split())
    assert "udpgrm.cli.commands" in imported
    assert imported & SLOW == set()
