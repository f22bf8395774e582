# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The notice that a drain begins, and how many instances may live, without a kernel."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from testing.waiting import PATIENCE_S
from tests.unit.restart.fakes import FakeGroups, FakeInstances, service
from tests.unit.restart.test_transaction import NEW, OLD, Killed, World, rolled_back
from udpgrm.restart import notice, prepare
from udpgrm.restart.machine import Outcome, Position, Step
from udpgrm.restart.plan import Generations, Refused
from udpgrm.restart.transaction import Requests, rollback_path
from udpgrm.services.definition import Drain, DrainUntil, Notice


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UDPGRM_STATE_DIR", str(tmp_path))


def world_with(begin: Notice) -> World:
    world = World(service(drain=Drain(DrainUntil(0, None), PATIENCE_S, begin=begin)))
    world.groups.flows = [2, 1, 0]
    return world


def command(tmp_path: Path, end: str = "") -> Notice:
    """Return a command that notes its arguments."""
    arguments = ("/bin/sh", "-c", f'echo "$@" >>{tmp_path}/given; {end}', "-", "%i", "100%%")
    return Notice(command=arguments)


@pytest.fixture
def caught() -> Iterator[list[int]]:
    """Yield the signals that this process got."""
    got: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, _: got.append(number))
    yield got
    signal.signal(signal.SIGUSR2, before)


def drain_of(world: World) -> dict[str, Any]:
    record = world.journal.last(Step.DRAIN)
    assert record is not None
    return record.evidence


def test_a_command_when_the_new_instance_is_verified(tmp_path: Path) -> None:
    world = world_with(command(tmp_path))
    verify = world.prober.verify

    def not_yet(old: Optional[int], new: int, evidence: dict[str, Any]) -> None:
        assert not (tmp_path / "given").exists()
        verify(old, new, evidence)

    world.prober.verify = not_yet  # type: ignore[method-assign]
    assert world.run() == Position(Step.STOP, Outcome.FINISHED)
    assert (tmp_path / "given").read_text() == f"{OLD} 100%\n"
    given = drain_of(world)["notice"]
    assert (given["instance"], given["error"]) == ("edge@4.service", None)
    assert given["command"][-2:] == ["4", "100%"]


def test_a_signal(caught: list[int]) -> None:
    world = world_with(Notice(signal="SIGUSR2"))
    assert world.run().outcome is Outcome.FINISHED
    assert caught == [signal.SIGUSR2]
    assert drain_of(world)["notice"]["signal"] == "SIGUSR2"


def test_a_signal_that_would_end_the_server_is_not_sent() -> None:
    before = signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    try:
        world = world_with(Notice(signal="SIGUSR2"))
        assert world.run().outcome is Outcome.FINISHED
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert world.journal.last(Step.DRAIN).reason == (  # type: ignore[union-attr]
        f"edge@4.service got no notice of its drain: pid {os.getpid()} neither catches nor "
        "ignores SIGUSR2, which would end it: not sent"
    )


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ("echo one >&2; echo two >&2; exit 3", "/bin/sh: two"),
        ("exit 3", "/bin/sh: exit status 3"),
        ("sleep 60", "/bin/sh: killed after 0.2 s"),
    ],
)
def test_a_command_that_fails_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, why: str
) -> None:
    if "sleep" in end:
        monkeypatch.setattr(notice, "_COMMAND_S", 0.2)
    world = world_with(command(tmp_path, end))
    assert world.run().outcome is Outcome.FINISHED
    assert drain_of(world)["notice"]["error"] == why
    assert drain_of(world)["reason"] == f"edge@4.service got no notice of its drain: {why}"


def test_no_such_program_and_time_is_up() -> None:
    world = world_with(Notice(command=("/nowhere",)))
    world.service = service(
        drain=Drain(DrainUntil(0, None), 0.3, begin=Notice(command=("/nowhere",)))
    )
    world.groups.flows = [9] * 99
    assert world.run().outcome is Outcome.FINISHED
    assert drain_of(world)["reason"] == (
        "edge@4.service got no notice of its drain: /nowhere: No such file or directory; "
        "9 flows remained after 0.3 s"
    )


def test_systemd_is_silent(tmp_path: Path) -> None:
    world = world_with(Notice(signal="SIGUSR2"))
    sample = world.groups.sample
    alive = world.instances.is_alive

    def falls_silent(generation: int) -> bool:
        world.instances.silent = world.journal.position.step is Step.DRAIN
        return alive(generation)

    def answers(generation: int) -> Any:
        world.instances.is_alive = alive  # type: ignore[method-assign]
        world.instances.silent = False
        return sample(generation)

    world.instances.is_alive = falls_silent  # type: ignore[method-assign]
    world.groups.sample = answers  # type: ignore[method-assign]
    assert world.run().outcome is Outcome.FINISHED
    assert drain_of(world)["notice"]["error"] == "no answer"


def test_it_is_given_once(tmp_path: Path) -> None:
    """Do not repeat the notice in a resumed drain, and report what is known of it."""
    world = world_with(command(tmp_path))
    sample = world.groups.sample

    def dies(generation: int) -> Any:
        raise Killed

    world.groups.sample = dies  # type: ignore[method-assign]
    with pytest.raises(Killed):
        world.run()
    world.kill()
    world.groups.sample = sample  # type: ignore[method-assign]
    assert world.run().outcome is Outcome.FINISHED
    assert (tmp_path / "given").read_text() == f"{OLD} 100%\n"
    assert drain_of(world)["notice"]["error"] is None


def test_killed_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_with(command(tmp_path))

    def dies(arguments: list[str]) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(notice, "_run", dies)
        with pytest.raises(Killed):
            world.run()
    world.kill()
    assert world.run().outcome is Outcome.FINISHED
    assert not (tmp_path / "given").exists()
    assert "may not have been given" in drain_of(world)["reason"]


def test_back_to_an_instance_that_knows_of_its_drain(tmp_path: Path) -> None:
    """Give both instances the notice, and report in the rollback that the old one got it."""
    world = world_with(command(tmp_path))
    requests = Requests(world.journal)

    def rolls_back() -> None:
        if world.journal.position.step is Step.DRAIN and (tmp_path / "given").exists():
            rollback_path("edge").touch()
        requests.check_cancelled()

    world.check_cancelled = rolls_back
    world.run()
    requests.delete()
    assert rolled_back(world)
    assert (tmp_path / "given").read_text() == f"{OLD} 100%\n{NEW} 100%\n"
    demote = world.journal.last(Step.DEMOTE)
    assert demote is not None
    assert demote.reason == (
        "edge@4.service got the notice of its drain: does it take new sessions?"
    )


def test_without_a_notice_nothing_is_reported(tmp_path: Path) -> None:
    world = World(service())
    assert world.run().outcome is Outcome.FINISHED
    assert "notice" not in drain_of(world)
    assert "notices" not in world.journal.plan


@pytest.mark.parametrize(("most", "running"), [(2, {OLD, 3}), (3, {OLD, 3, 2})])
def test_more_instances_than_may_live(most: int, running: set[int]) -> None:
    what = service(drain=Drain(max_instances=most))
    instances = FakeInstances(set(running))
    groups = FakeGroups(what.groups, instances, OLD)
    with pytest.raises(Refused, match=rf"edge@3.service, .*drain.max_instances is {most}: wait"):
        prepare.check(what, groups, instances)  # type: ignore[arg-type]
    instances.running.discard(3)
    assert prepare.check(what, groups, instances) == Generations(OLD, NEW)  # type: ignore[arg-type]
