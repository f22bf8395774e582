# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The sum of several pytest runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools import count_tests

MIXED = """
import pytest

def test_passes(): pass

def test_fails(): assert False

@pytest.mark.skip
def test_skipped(): pass

@pytest.fixture
def broken(): raise OSError

def test_error(broken): pass
"""


def run_pytest(directory: Path, name: str, tests: str) -> None:
    """Leave the JUnit file of a real run in the directory."""
    file = directory / f"test_{name}.py"
    file.write_text(tests)
    junit = f"--junit-xml={directory / name}.xml"
    options = ["-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(directory)]
    command = [sys.executable, "-m", "pytest", *options, junit, str(file)]
    subprocess.run(command, stdout=subprocess.DEVNULL)


def test_adds_up_what_pytest_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_pytest(tmp_path, "mixed", MIXED)
    run_pytest(tmp_path, "good", "def test_one(): pass\n")
    assert count_tests.main(str(tmp_path)) == 1
    assert capsys.readouterr().out == "2 passed, 2 failed, 1 skipped\n"


def test_passes_when_all_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_pytest(tmp_path, "good", "def test_one(): pass\n")
    assert count_tests.main(str(tmp_path)) == 0
    assert capsys.readouterr().out == "1 passed, 0 failed, 0 skipped\n"


def test_no_test_is_no_success(tmp_path: Path) -> None:
    assert count_tests.main(str(tmp_path)) == 1
