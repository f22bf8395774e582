# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test the progress of a restart, for people and for programs."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from udpgrm import log
from udpgrm.journald import MessageId, Priority
from udpgrm.restart.journal import Journal
from udpgrm.restart.machine import Outcome, Position, Result, Step
from udpgrm.restart.progress import BestEffort
from udpgrm.views.progress import DrainLine, Entries, Lines, Terminal, drain_line

SAMPLE: dict[str, Any] = {
    "elapsed_s": 10.2,
    "max_s": 60.0,
    "sockets": 2,
    "flows": 25,
    "flows_at_start": 100,
    "packets_per_s": 99.6,
    "quiet_s": 0.3,
    "trend": -2.5,
    "estimate_s": 10.0,
}


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "edge.json", "edge", "", 1.0, from_generation=4, to_generation=5)


def ended(journal: Journal, step: Step, result: Result, reason: str, to: Position) -> None:
    record = journal.begin(step)
    journal.end(record, result, reason, to)
    record.started, record.ended = 1.0, 1.25


def test_lines_say_everything_once(journal: Journal) -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.show(journal.to_json())
    ended(journal, Step.PREPARE, Result.DONE, "", Position(Step.DRAIN))
    lines.show(journal.to_json())
    record = journal.begin(Step.DRAIN)
    lines.show(journal.to_json())
    journal.progress = SAMPLE
    lines.show(journal.to_json())
    lines.show(journal.to_json())
    journal.end(record, Result.KEPT, "", Position(Step.DRAIN, Outcome.FINISHED))
    lines.show(journal.to_json())
    printed = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line.get("step")) for line in printed] == [
        ("begun", "prepare"),
        ("ended", "prepare"),
        ("begun", "drain"),
        ("progress", "drain"),
        ("ended", "drain"),
        ("outcome", None),
    ]
    assert all(line["schema"] == 1 and line["service"] == "edge" for line in printed)
    assert printed[3]["flows"] == 25
    assert printed[-1]["outcome"] == "finished"


@pytest.mark.parametrize(
    ("result", "position", "message"),
    [
        (
            Result.DONE,
            Position(Step.STOP, Outcome.FINISHED),
            "edge: finished: generation 5 is active, switched in 120 ms",
        ),
        (
            Result.KEPT,
            Position(Step.DRAIN, Outcome.FINISHED),
            "edge: finished: generation 5 is active, 4 was kept running",
        ),
        (
            Result.FAILED,
            Position(Step.STOP_NEW, Outcome.ROLLED_BACK),
            "edge: rolled back: generation 4 is active: no reply",
        ),
        (
            Result.FAILED,
            Position(Step.STOP, Outcome.FAILED),
            "edge: failed in stop: no reply",
        ),
    ],
)
def test_the_last_line(journal: Journal, result: Result, position: Position, message: str) -> None:
    stream = io.StringIO()
    journal.promotion_window_s = 0.12
    reason = "no reply" if result is Result.FAILED else ""
    ended(journal, position.step, result, reason, position)
    Terminal(stream).show(journal.to_json())
    step, last, _ = stream.getvalue().split("\n")
    assert last.endswith(message)
    assert step.endswith(
        f"{position.step.value:<10} {result.value:<9}    0.250 s"
        + (f": {reason}" if reason else "")
    )


def test_a_step_that_continues(journal: Journal) -> None:
    stream = io.StringIO()
    journal.begin(Step.ENROLL)
    Terminal(stream).show(journal.to_json())
    assert stream.getvalue() == "\r\x1b[Kenroll ..."


def test_the_bar() -> None:
    assert drain_line("drain", SAMPLE) == (
        "drain [##################......]  25 flows left  -2.5/s  100 packets/s  quiet 0 s  "
        "about 10 s more  10 of 60 s"
    )
    uncounted = {**SAMPLE, "flows": None, "flows_at_start": None, "trend": None}
    uncounted = {**uncounted, "estimate_s": None, "quiet_s": None, "packets_per_s": None}
    assert drain_line("drain", uncounted) == (
        "drain [####....................]  flows not counted  10 of 60 s"
    )
    more = {**SAMPLE, "flows": 150, "flows_at_start": 100, "max_s": 0.0}
    assert drain_line("drain", more).startswith("drain [........................]  150 flows")


def test_a_drain_alone_in_lines() -> None:
    stream = io.StringIO()
    DrainLine(stream).show(SAMPLE, "wait")
    assert json.loads(stream.getvalue()) == {"schema": 1, "event": "wait", **SAMPLE}


class Counted:
    """Counts how often something is shown."""

    def __init__(self, shown: Lines) -> None:
        self.times = 0
        self._shown = shown

    def show(self, journal: dict[str, Any]) -> None:
        self.times += 1
        self._shown.show(journal)


def test_a_reader_that_goes_away() -> None:
    """Raise nothing and show nothing more; the rest of the restart is done unseen."""
    document = {"schema": 1, "service": "edge", "steps": [], "progress": None, "outcome": "x"}
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        counted = Counted(Lines(stream))
        shown = BestEffort(counted)
        shown.show(document)
        assert json.loads(os.read(reader, 1000))["outcome"] == "x"
        os.close(reader)
        for _ in range(3):
            shown.show(document)
        assert counted.times == 2
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # for what was not written
    counted = Counted(Lines(stream))
    shown = BestEffort(counted)
    for _ in range(3):
        shown.show(document)  # the stream is closed
    assert counted.times == 1


def test_entries(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[Any, ...]] = []
    monkeypatch.setattr(log, "event", lambda *entry, **more: logged.append((*entry, more)))
    ended(journal, Step.PREPARE, Result.DONE, "", Position(Step.DRAIN))
    earlier = journal.to_json()
    entries = Entries(earlier)  # it was interrupted, and is resumed
    journal.begin(Step.DRAIN)
    entries.show(journal.to_json())
    assert logged == []
    journal.progress = SAMPLE
    for _ in range(2):
        entries.show(journal.to_json())
    journal.progress = None
    ended(journal, Step.STOP, Result.FAILED, "no reply", Position(Step.STOP, Outcome.FAILED))
    entries.show(journal.to_json())
    named = {"service": "edge", "from_generation": 4, "generation": 5}
    drain, stop, outcome = logged
    assert drain[1:] == (
        {**named, "step": "drain", "flows": 25},
        {"priority": Priority.DEBUG},
    )
    assert stop[0].startswith("edge: stop") and stop[0].endswith("no reply")
    assert stop[1:] == ({**named, "step": "stop", "result": "failed"}, {})
    assert outcome == (
        "edge: failed in stop: no reply",
        {**named, "step": "stop", "outcome": "failed"},
        MessageId.RESTART_FAILED,
        Priority.WARNING,
        {},
    )


def test_entries_of_another_restart(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(log, "event", lambda text, *_, **__: logged.append(text))
    ended(journal, Step.PREPARE, Result.DONE, "", Position(Step.START))
    entries = Entries({**journal.to_json(), "started": 0.5})
    entries.show(journal.to_json())
    assert [line.split()[:2] for line in logged] == [["edge:", "prepare"]]


def test_what_is_active_after_a_rollback(journal: Journal) -> None:
    """Name the earlier generation that is active again, as both instances were dead."""
    working = {"192.0.2.1:4433": 3}
    demote = journal.begin(Step.DEMOTE)
    demote.evidence["working"] = working
    journal.end(demote, Result.DONE, "", Position(Step.DRAIN_NEW))
    ended(journal, Step.STOP_NEW, Result.DONE, "", Position(Step.STOP_NEW, Outcome.ROLLED_BACK))
    stream = io.StringIO()
    Terminal(stream).show(journal.to_json())
    assert "edge: rolled back: generation 3 is active" in stream.getvalue()
