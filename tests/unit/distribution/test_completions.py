# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Completions of shells."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from distribution import completions
from udpgrm.cli import commands

_ASK = """
source "$1"; shift
COMP_WORDS=(udpgrm "$@"); COMP_CWORD=$#
_udpgrm 2>/dev/null  # compopt works in a completion only
printf '%s\\n' "${COMPREPLY[@]}"
"""


def offered(script: Path, *arguments: str) -> list[str]:
    """Return what bash offers for the last word."""
    asked = ["bash", "-c", _ASK, "bash", str(script), *arguments]
    return subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True).stdout.split()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "udpgrm"
    path.write_text(completions.bash())
    return path


def test_bash_offers_commands(script: Path) -> None:
    assert offered(script, "") == [*commands.COMMANDS, *commands.HELPERS]
    assert offered(script, "roll") == ["rollback"]


def test_bash_offers_the_options_of_the_command(script: Path) -> None:
    assert offered(script, "restart", "--f") == ["--follow", "--foreground"]
    assert offered(script, "--fo") == ["--force"]
    assert offered(script, "restart", "edge", "--check") == ["--check"]


def test_value_is_asked_for_where_there_has_to_be_one() -> None:
    by_name = {option.name: option for option in commands.DAEMON}
    assert completions.spelled(by_name["--tubular"]) == "--tubular="
    assert completions.spelled(by_name["--install"]) == "--install"


@pytest.mark.parametrize(("shell", "name"), [("zsh", "_udpgrm"), ("fish", "udpgrm.fish")])
def test_other_shells_read_theirs(shell: str, name: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / name).write_text(completions.completions()[name])
    subprocess.run([shell, "-n", tmp_path / name], check=True)
