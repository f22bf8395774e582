# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A drain's progress is there for other commands, and costs no sync."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.restart.fakes import service
from tests.unit.restart.test_transaction import World
from udpgrm.restart import journal as journals
from udpgrm.restart import published, statedir, steps
from udpgrm.restart.journal import Journal, Record
from udpgrm.restart.machine import Outcome, Position, Result, Step


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UDPGRM_STATE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def draining() -> tuple[Journal, Record]:
    """Return the journal of a restart that drains, which has published a sample."""
    journal = Journal(statedir.path_of("edge"), "edge", "groups: []\n", 1.5)
    journal.from_generation = 1
    record = journal.begin(Step.DRAIN)
    record.evidence["budget"] = {"dropped": 3}
    journal.progress = {"flows": 7}
    journal.publish()
    return journal, record


def test_others_see_it(draining: tuple[Journal, Record]) -> None:
    assert journals.load("edge") == draining[0]


def test_the_journal_has_it_when_the_step_ends(
    draining: tuple[Journal, Record], directory: Path
) -> None:
    journal, record = draining
    journal.end(record, Result.KEPT, "", Position(Step.DRAIN, Outcome.FINISHED))
    assert journals.load("edge") == journal and journal.progress == {"flows": 7}
    assert [path.name for path in directory.iterdir()] == ["edge.json"]


def test_it_is_not_of_the_next_attempt(draining: tuple[Journal, Record]) -> None:
    draining[0].begin(Step.DRAIN)
    read = journals.load("edge")
    assert read is not None
    assert (read.progress, read.steps[-1].evidence) == (None, {})


def test_it_is_not_of_another_restart(draining: tuple[Journal, Record]) -> None:
    other = Journal(draining[0].path, "edge", "groups: []\n", 2.5)
    other.begin(Step.DRAIN)
    read = journals.load("edge")
    assert read is not None and read.progress is None


def test_the_next_restart_does_not_find_it(
    draining: tuple[Journal, Record], directory: Path
) -> None:
    draining[0].supersede()
    assert [path.name for path in directory.iterdir()] == ["edge@1.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "[1.5, 1, 3, {}]", "[" * 100_000])
def test_a_damaged_one_means_nothing(draining: tuple[Journal, Record], text: str) -> None:
    path = draining[0].path.with_suffix(published.SUFFIX)
    assert path.exists()
    path.write_text(text)
    read = journals.load("edge")
    assert read is not None and read.progress is None


def test_a_full_disk_does_not_end_a_drain(
    draining: tuple[Journal, Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", replace)
    draining[0].progress = {"flows": 6}
    draining[0].publish()
    read = journals.load("edge")
    assert read is not None and read.progress == {"flows": 7}


def test_a_drain_of_many_samples_syncs_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_SAMPLE_S", 0.0)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    counts = []
    for samples in (1, 40):
        world = World(service())
        world.groups.flows = [samples - left for left in range(samples)]
        synced.clear()
        assert world.run().outcome is Outcome.FINISHED
        assert len([saved for saved in world.saved if saved["progress"]]) >= samples
        counts.append(len(synced))
    assert counts[0] == counts[1]
