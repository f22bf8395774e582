# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Completions of shells."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from distribution import completions
from testing.waiting import PATIENCE_S
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


def offered_by_fish(directory: Path, line: str) -> list[str]:
    """Return what fish would complete the line with."""
    script = directory / "udpgrm.fish"
    script.write_text(completions.completions()[script.name])
    done = subprocess.run(
        ["fish", "--command", f"source {script}; complete -C '{line}'"],
        env={**os.environ, "HOME": str(directory)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [offer.partition("\t")[0] for offer in done.stdout.splitlines()]


def test_fish(tmp_path: Path) -> None:
    assert offered_by_fish(tmp_path, "udpgrm ") == sorted([*commands.COMMANDS, *commands.HELPERS])
    assert offered_by_fish(tmp_path, "udpgrm restart --f") == ["--follow", "--foreground"]


#: Types into a zsh at a terminal of its own, and waits for what it shows.
ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "fpath=($1 \$fpath); autoload -U compinit; compinit -u -d $1/dump"
zpty -w -n shell $'udpgrm roll\t'
zpty -r -m shell shown '*back*'
zpty -w -n shell $'\C-uudpgrm restart --f\t\t'
zpty -r -m shell shown '*--follow*--foreground*'
zpty -d shell
"""


def test_zsh(tmp_path: Path) -> None:
    (tmp_path / "_udpgrm").write_text(completions.completions()["_udpgrm"])
    command = ["zsh", "-f", "-c", ZSH, "zsh", str(tmp_path)]
    subprocess.run(command, check=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL)
