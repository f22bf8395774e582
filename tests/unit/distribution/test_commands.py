# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The commands of packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distribution import commands

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = commands.scripts()


def test_they_are_those_of_a_checkout() -> None:
    assert set(SCRIPTS) == {path.name for path in (ROOT / "bin").iterdir()}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_they_run(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPTS[name], "--help"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("Usage: ")
