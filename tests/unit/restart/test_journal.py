# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Journals survive what they must, and only one process restarts a service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from testing.waiting import PATIENCE_S
from tests.unit.restart import fakes
from udpgrm.cli.errors import EXIT_ERROR
from udpgrm.cli.main import main
from udpgrm.restart import foreground, journal, lock, statedir
from udpgrm.restart.journal import Journal
from udpgrm.restart.machine import Outcome, Position, Result, Step
from udpgrm.restart.progress import Progress


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "state" / "restarts"
    monkeypatch.setenv("UDPGRM_STATE_DIR", str(path))
    return path


def make() -> Journal:
    return Journal(statedir.path_of("edge"), "edge", "groups: []\n", 1.5)


def test_there_and_back() -> None:
    made = make()
    made.from_generation, made.to_generation = 1, 2
    made.plan = {"groups": [1]}
    record = made.begin(Step.PREPARE)
    record.evidence["slots"] = 3
    made.end(record, Result.DONE, "", Position(Step.START))
    made.begin(Step.START)
    made.promotion_window_s = 0.1
    made.progress = {"flows": 3}
    made.note()
    assert journal.load("edge") == made


def test_an_ended_one() -> None:
    made = make()
    made.end(made.begin(Step.STOP), Result.DONE, "", Position(Step.STOP, Outcome.FINISHED))
    read = journal.load("edge")
    assert read is not None and read.position == Position(Step.STOP, Outcome.FINISHED)
    document = json.loads(made.path.read_text())
    assert (document["state"], document["step"], document["outcome"]) == (
        "finished",
        "stop",
        "finished",
    )


def test_it_is_on_the_disk_before_a_step_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []

    def fsync(fd: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))

    monkeypatch.setattr(os, "fsync", fsync)
    made = make()
    made.begin(Step.START)
    assert synced == [f"{made.path}.new", str(made.path.parent)]
    made.note()
    assert synced[2:] == [f"{made.path}.new"]


def test_the_newest_try_counts() -> None:
    made = make()
    first = made.begin(Step.START)
    second = made.begin(Step.START)
    assert made.last(Step.START) is second is not first
    assert made.last(Step.STOP) is None


def test_none_yet() -> None:
    assert journal.load("edge") is None
    assert not lock.is_locked("edge")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "cannot be read"),
        (b"[]", "cannot be read"),
        (b'{"schema": 2}', "schema 2, this version knows 1"),
        (b'{"schema": 1}', "cannot be read"),
        (b"\xff", "can't decode byte 0xff"),
        (b"\0" * 4096, "cannot be read"),
        (b"[" * 100000, "recursion"),
        (b'{"a":' * 100000, "recursion"),
    ],
)
def test_unreadable(directory: Path, text: bytes, message: str) -> None:
    directory.mkdir(parents=True)
    (directory / "edge.json").write_bytes(text)
    with pytest.raises(statedir.JournalError, match=message) as caught:
        journal.load("edge")
    assert str(directory / "edge.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_instead_of_the_file(directory: Path) -> None:
    (directory / "edge.json").mkdir(parents=True)
    with pytest.raises(statedir.JournalError, match=r"edge\.json cannot be read \(.*directory"):
        journal.load("edge")


def test_the_others_are_resumed_if_one_cannot_be_read(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Resume the others, as no operator is there at boot to remove the file."""
    make().save()
    for name, content in (("a", b"\xff"), ("b", b"[" * 100000)):
        (directory / f"{name}.json").write_bytes(content)
    (directory / "c.json").mkdir()
    assert journal.unfinished() == ["a", "b", "c", "edge"]
    resumed = []

    def resume(name: str, pin_dir: Path, progress: Progress) -> Journal:
        found = journal.load(name)
        assert found is not None
        found.position = Position(Step.STOP, Outcome.FINISHED)
        resumed.append(name)
        return found

    monkeypatch.setattr(foreground, "resume", resume)
    assert main(["restart", "--resume", "--foreground"]) == EXIT_ERROR
    assert resumed == ["edge"]
    errors = capsys.readouterr().err.splitlines()
    assert [line.partition(" cannot be read")[0] for line in errors] == [
        f"udpgrm: {directory}/{name}.json" for name in "abc"
    ]


@pytest.mark.parametrize("name", ["", "../edge", "a/b", "Edge", "-edge", "edge\n"])
def test_names(name: str) -> None:
    with pytest.raises(statedir.JournalError, match="no service name"):
        journal.load(name)


def test_the_second_process_is_refused_with_the_first(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "alice")
    code = (
        "from udpgrm.restart import lock\n"
        "try:\n  lock.locked('edge').__enter__()\n"
        "except lock.Busy as error: print(error)\n"
    )
    root = Path(__file__).resolve().parents[3]
    with lock.locked("edge"):
        assert lock.is_locked("edge")
        output = subprocess.run(
            [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
        ).stdout
    assert output.startswith(f"edge: a restart runs already: pid {os.getpid()} of alice, since 2")
    assert not lock.is_locked("edge")
    with lock.locked("edge"):
        pass


def test_which_may_be_superseded() -> None:
    made = make()
    made.from_generation = 1
    positions = [Position(step, outcome) for step in Step for outcome in (None, *Outcome)]
    may = []
    for made.position in positions:
        if made.may_be_superseded:
            may.append(made.position)
    assert may == [Position(Step.DRAIN)]
    made.position, made.from_generation = Position(Step.DRAIN), None
    assert not made.may_be_superseded  # there is nothing to drain


def test_succession(directory: Path) -> None:
    made = make()
    made.from_generation, made.position = 1, Position(Step.DRAIN)
    made.save()
    made.supersede()
    assert (made.name, made.superseded, made.may_be_superseded) == ("edge@1", True, False)
    assert journal.load("edge") is None
    assert journal.unfinished() == ["edge@1"]
    assert [item.name for item in journal.superseded("edge")] == ["edge@1"]
    made.position = Position(Step.STOP, Outcome.FINISHED)
    made.save()
    second = make()
    second.from_generation = 2
    second.save()
    second.supersede()
    assert sorted(path.name for path in directory.glob("*.json")) == ["edge@2.json"]


def test_an_earlier_one_that_has_failed_is_kept() -> None:
    made = make()
    made.from_generation, made.position = 1, Position(Step.DRAIN)
    made.save()
    made.supersede()
    made.position = Position(Step.DRAIN, Outcome.FAILED)
    made.save()
    second = make()
    second.from_generation = 2
    second.save()
    second.supersede()
    assert [item.name for item in journal.superseded("edge")] == ["edge@1", "edge@2"]
    assert set(journal.waiting_for_their_stop("edge")) == {1, 2}


def test_a_journal_of_another_boot() -> None:
    made = make()
    made.from_generation, made.position = 1, Position(Step.DRAIN)
    assert (made.boot_id, made.stale) == (journal.boot_id(), False)
    made.boot_id = "0f2e5a8c-3b1d-4c66-9a57-0d6f0e1b2c3d"
    assert (made.stale, made.may_be_superseded) == (True, False)
    made.path = statedir.path_of("edge@1")
    made.save()
    read = journal.load("edge@1")
    assert read is not None and read.stale
    assert journal.unfinished() == ["edge@1"]
    assert not journal.waiting_for_their_stop("edge")


def test_a_lock_that_is_held_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report a restart as unfinished once a killed process, or a drain, lets go of its lock."""
    make().save()
    held, looked_at = threading.Event(), threading.Event()

    def look(service: str, is_locked: Callable[[str], bool] = lock.is_locked) -> bool:
        found = is_locked(service)
        looked_at.set()
        return found

    def hold() -> None:
        with lock.locked("edge"):
            held.set()
            looked_at.wait(PATIENCE_S)

    monkeypatch.setattr(lock, "is_locked", look)
    monkeypatch.setattr(lock, "_LOOK_S", PATIENCE_S)
    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(PATIENCE_S)
    assert journal.unfinished() == ["edge"]
    holder.join()


def test_is_locked_does_not_prevent_the_lock() -> None:
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            lock.is_locked("edge")

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(100):
            with lock.locked("edge"):
                pass
    finally:
        stop.set()
        for looker in lookers:
            looker.join()


@pytest.mark.parametrize("ends_meanwhile", [False, True])
def test_only_what_drains_is_handed_over(
    monkeypatch: pytest.MonkeyPatch, ends_meanwhile: bool
) -> None:
    made = make()
    made.from_generation, made.to_generation = 1, 2
    made.plan = {"working": {}, "reading": {}}
    made.position = Position(Step.DRAIN)
    made.save()
    monkeypatch.setattr(foreground, "plan", lambda *_: None)

    def is_locked(_: str) -> bool:
        if ends_meanwhile:
            made.end(made.begin(Step.STOP), Result.DONE, "", Position(Step.STOP, Outcome.FINISHED))
        return False

    monkeypatch.setattr(lock, "is_locked", is_locked)
    handed: list[str] = []
    foreground.hand_over(fakes.service(), Path("/pins"), handed.append)
    assert handed == ([] if ends_meanwhile else ["edge@1"])
