# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Journals of the right form with wrong values: named, before anything is done by them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.services.support import text
from udpgrm.cli.errors import EXIT_ERROR
from udpgrm.cli.main import main
from udpgrm.restart import journal, statedir
from udpgrm.restart.journal import Journal
from udpgrm.restart.machine import Outcome, Position, Step


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UDPGRM_STATE_DIR", str(tmp_path))
    return tmp_path


def cut_in(step: Step, **changes: Any) -> None:
    """Leave the journal of a restart that was cut in a step."""
    made = Journal(statedir.path_of("edge"), "edge", text().decode(), time.time())
    made.position = Position(step)
    if step is not Step.PREPARE:
        made.from_generation, made.to_generation = 1, 2
        made.plan = {"instance": "edge@2.service", "working": {}, "reading": {}}
    if step in (Step.VERIFY, Step.DRAIN, Step.STOP):
        made.plan["promotion"] = {"reading": {}}
    made.path.write_text(json.dumps({**made.to_json(), **changes}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("from_generation", "1"),
        ("from_generation", 1.0),
        ("from_generation", True),
        ("to_generation", -1),
        ("to_generation", 2**32),
        ("to_generation", []),
        ("plan", []),
        ("plan", None),
        ("progress", "x"),
        ("progress", []),
        ("steps", None),
        ("steps", [1]),
        ("started", None),
        ("started", float("nan")),
        ("started", 10**400),
        ("promotion_window_s", "0.1"),
        ("promotion_window_s", float("inf")),
        ("definition", None),
        ("definition", "\ud800"),
        ("service", 5),
        ("boot_id", None),
    ],
)
def test_wrong_types(key: str, value: object, directory: Path) -> None:
    cut_in(Step.DRAIN, **{key: value})
    with pytest.raises(statedir.JournalError, match=r"edge\.json cannot be read \(") as caught:
        journal.load("edge")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("command", [["restart", "edge", "--resume"], ["rollback", "edge"]])
@pytest.mark.parametrize(
    ("step", "changes", "lacks"),
    [
        *((step, {"to_generation": None}, "to_generation") for step in Step if step != "prepare"),
        (Step.CANARY, {"plan": {}}, "plan"),
        (Step.VERIFY, {"plan": {"working": {}, "reading": {}}}, "plan"),
        (Step.VERIFY, {"plan": {"working": {}, "promotion": {"reading": {}}}}, "plan"),
        (Step.VERIFY, {"plan": {"working": [], "reading": {}}}, "plan"),
        (Step.DEMOTE, {"plan": {"reading": {}}}, "plan"),
        (Step.DRAIN, {"plan": {"working": {}, "reading": {}, "hold": {"begun": 1.0}}}, "plan"),
    ],
)
def test_what_is_needed_later(
    command: list[str],
    step: Step,
    changes: dict[str, Any],
    lacks: str,
    directory: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Begin nothing that would have to be undone."""
    if command[0] == "rollback" and step in (Step.STOP, Step.DEMOTE, Step.DRAIN_NEW, Step.STOP_NEW):
        return  # that is refused earlier
    cut_in(step, **changes)
    before = (directory / "edge.json").read_bytes()
    assert main([*command, "--foreground"]) == EXIT_ERROR
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"udpgrm: {directory}/edge.json cannot be used ({lacks} is ")
    assert line.endswith("then remove the file")
    assert (directory / "edge.json").read_bytes() == before


def test_what_is_complete() -> None:
    for step in Step:
        cut_in(step)
        read = journal.load("edge")
        assert read is not None
        journal.want_complete(read)
    cut_in(Step.PREPARE, to_generation=None)
    read = journal.load("edge")
    assert read is not None
    journal.want_complete(read)
    read.position = Position(Step.STOP, Outcome.FINISHED)
    journal.want_complete(read)


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        ("", "empty"),
        ("groups: 5\n", "instances: missing"),
    ],
)
def test_a_definition_that_is_none_any_more(
    definition: str, reason: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_in(Step.DRAIN, definition=definition)
    for command in (["restart", "edge", "--resume"], ["rollback", "edge"]):
        assert main([*command, "--foreground"]) == EXIT_ERROR
        [line] = capsys.readouterr().err.splitlines()
        assert line == (
            f"udpgrm: {directory}/edge.json cannot be used (definition: {reason}): check which "
            "generation is active (udpgrm list), then remove the file"
        )
