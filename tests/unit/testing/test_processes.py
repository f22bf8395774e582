# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test the exit status of a command that does its work, fails, or is interrupted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("work", "status", "message"),
    [
        ("return True", 0, ""),
        ("return False", 1, ""),
        ("raise RuntimeError('no answer')", 1, "FAILED: no answer"),
        ("raise subprocess.TimeoutExpired('x', 3)", 1, "FAILED: Command 'x' timed out after 3"),
        ("os.kill(os.getpid(), signal.SIGTERM)", 130, "interrupted by SIGTERM"),
    ],
)
def test_exit_status(work: str, status: int, message: str) -> None:
    code = f"""
import os, signal, subprocess, sys
from testing.processes import exit_status
def work():
    {work}
sys.exit(exit_status(work))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.startswith(message)) == (status, True), done.stderr
    assert bool(done.stderr) == bool(message)
