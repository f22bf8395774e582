# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import pytest

from udpgrm.restart import release

UNIT = """[Service]
Environment="LIBRARY={here}/library" SPEED=1
EnvironmentFile=-{here}/environment
ExecStart=@{here}/server --generation %i \\
  --config={here}/configuration {here}/absent %h/x 'a b
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "services.d").mkdir()
    for name in ("environment", "server", "configuration", "services.d/echo.yaml"):
        (tmp_path / name).write_text(name)
    (tmp_path / "library").symlink_to("library-1")
    return tmp_path


def fingerprint(here: Path, more: str = "") -> str:
    return release.fingerprint(here / "services.d" / "echo.yaml", UNIT.format(here=here) + more)


@pytest.mark.parametrize(
    "name", ["environment", "server", "configuration", "services.d/echo.yaml", "absent"]
)
def test_fingerprint_sees_files(here: Path, name: str) -> None:
    before = fingerprint(here)
    assert fingerprint(here) == before
    (here / name).write_text("new")
    assert fingerprint(here) != before


def test_fingerprint_sees_links_and_the_unit(here: Path) -> None:
    before = fingerprint(here)
    assert fingerprint(here, "# a drop-in\n") != before
    (here / "library").unlink()
    (here / "library").symlink_to("library-2")
    assert fingerprint(here) != before


def test_fingerprint_does_not_see_other_files(here: Path) -> None:
    before = fingerprint(here)
    (here / "services.d" / "other.yaml").write_text("new")
    (here / "unnamed").write_text("new")
    assert fingerprint(here) == before


PATHS = ("from_generation", "to_generation", "from_release", "release", "outcome", "step")


def restart(*values: Any) -> dict[str, Any]:
    return dict(zip(PATHS, values))


@pytest.mark.parametrize(
    ("restarts", "working", "serves"),
    [
        ([], [1], None),
        ([restart(1, 2, "a", "b", "finished", "stop")], [2], "b"),
        ([restart(1, 2, "a", "b", None, "drain")], [2, 2], "b"),
        # promoted, but not verified
        ([restart(1, 2, "a", "b", None, "verify")], [2], None),
        ([restart(1, 2, "a", "b", None, "verify")], [1, 2], None),
        ([restart(1, 2, "a", "b", None, "canary")], [1], "a"),
        ([restart(1, 2, "a", "b", "rolled_back", "stop_new")], [1], "a"),
        ([restart(1, 2, "a", "b", "finished", "stop")], [7], None),
        # the last one has just begun, the one before drains
        (
            [
                restart(None, None, "b", "c", None, "prepare"),
                restart(1, 2, "a", "b", None, "drain"),
            ],
            [2],
            "b",
        ),
    ],
)
def test_release_that_serves(
    restarts: list[dict[str, Any]], working: list[int], serves: Optional[str]
) -> None:
    assert release.serving(restarts, working) == serves


@pytest.mark.parametrize(
    ("outcome", "step", "is_pending"),
    [
        ("finished", "stop", False),
        ("rolled_back", "stop_new", False),
        ("failed", "drain", True),
        (None, "canary", True),
        (None, "drain", False),
        (None, "drain_new", True),
    ],
)
def test_pending(outcome: Optional[str], step: str, is_pending: bool) -> None:
    assert release.is_pending(restart(1, 2, None, None, outcome, step)) is is_pending
