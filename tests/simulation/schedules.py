# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Schedules: what goes wrong at which call, and what operators do until all is well again."""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass, field
from random import Random
from signal import SIGTERM

from tests.simulation.invariants import head
from tests.simulation.units import Server
from tests.simulation.world import At, Config, World, standing_in
from udpgrm.cli.errors import EXIT_ERROR

#: What may go wrong at a call.
FAULTS = (
    "kill",
    "reboot",
    "clock",
    "full disk",
    "silent systemd",
    "slow systemd",
    "operator restarts",
    "operator rolls back",
    "operator resumes",
    "operator promotes old",
    "operator promotes new",
    "operator partly promotes old",
    "operator partly promotes new",
    "operator stops old",
    "operator stops new",
    "crash of old",
    "crash of new",
    "signal",
)
#: Steps that fail for ever if the new instance is no good and the old one is dead.
_HOPELESS = ("start", "enroll", "canary", "promote", "verify", "stop_new")
#: Why a restart is refused: an operator has divided the addresses.
_SPLIT = "the groups have different working generations"
#: Calls that wait for the disk, so that a process which is killed in them does not end at once. A
#: lock file's text is never synced: its process is killed before or after that write, not in it.
_ON_DISK = ("create", "delete", "fsync", "rename", "sync")
_COMMANDS = {
    "operator restarts": ["restart", "edge"],
    "operator rolls back": ["rollback", "edge"],
    "operator resumes": ["restart", "edge", "--resume"],
}


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong just before a call."""

    kind: str
    at: At


@dataclass(frozen=True)
class Schedule:
    """A restart and its faults; the seed decides how long faults last and what they leave.

    again: whether the service is restarted once more after all was resumed.
    """

    config: Config = field(default_factory=Config)
    faults: tuple[Fault, ...] = ()
    seed: int = 0
    again: bool = True


@dataclass
class Report:
    """The end of a schedule. reached: the faults that came. steps: with their results."""

    violations: list[str]
    reached: list[Fault]
    outcome: str
    trace: list[tuple[str, str, int]]
    steps: list[tuple[str, str]]
    output: list[str]


class _Run:
    """The run of a schedule in its world."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.random = Random(schedule.seed)
        faults: dict[tuple[str, str, int], Fault] = {fault.at: fault for fault in schedule.faults}
        self.world = World(schedule.config, self.random, faults, self._strike)
        self.reached: list[Fault] = []
        self.output: list[str] = []

    def _strike(self, fault: Fault) -> None:
        """Let a fault come, in the process that makes the call."""
        world, kind = self.world, fault.kind
        self.reached.append(fault)
        me = world.scheduler.current
        if kind == "kill":
            # drawn from a generator of its own, so that all other draws stay as they are
            lasts = Random(f"{self.schedule.seed} {fault.at}").choice((0.0, 0.0, 0.3, 13.0))
            if lasts and fault.at.call in _ON_DISK:
                world.scheduler.linger(me, lasts)
            world.scheduler.kill(me)
        elif kind == "reboot":
            world.reboot()
        elif kind == "clock":
            world.wall_offset += self.random.choice((-86_400.0, -5.0, -0.3, 0.3, 5.0, 86_400.0))
        elif kind == "full disk":
            world.disk.is_full = True
            lasts = self.random.choice((0.05, 1.0, 20.0))
            world.scheduler.at(lasts, lambda: setattr(world.disk, "is_full", False))
        elif kind == "silent systemd":
            lasts = self.random.choice((0.05, 1.0, 2.9, 8.0, 40.0))
            world.units.silent_until = world.scheduler.now + lasts
        elif kind == "slow systemd":
            world.units.slow_until = world.scheduler.now + self.random.choice((1.0, 8.0, 20.0))
        elif kind == "signal":
            if me.on_signal is not None:
                me.on_signal(SIGTERM, None)
            else:
                world.scheduler.kill(me)
        elif kind in _COMMANDS and world.is_booting:
            pass  # NAME-first.service knows of no other command
        elif kind in _COMMANDS:
            world.begin(_COMMANDS[kind])
            world.scheduler.wait(self.random.choice((0.0, 0.0, 0.01, 0.3)))
        else:
            self._meddle(kind)

    def _meddle(self, kind: str) -> None:
        """Crash an instance, or do what an operator does past udpgrm restart."""
        world = self.world
        what, _, which = kind.rpartition(" ")
        file = world.disk.files.get("edge.json")
        saved = None if file is None else head(file.text)
        number = 1 if saved is None else saved.old if which == "old" else saved.new
        if number is None:
            return
        unit = world.units.get(number)
        world.invariants.meddled()
        if what == "crash of":
            world.units.crash(number)
        elif what == "operator stops":
            world.units.stop(number)
        elif unit.sockets and unit.state != "deactivating":
            world.promote_by_hand(number, 1 if "partly" in kind else None)

    def run(self) -> Report:
        """Run it to its end, and check what is left."""
        with standing_in(self.world):
            self._command("restart", "edge")
            self._settle()
            report = Report(
                self.world.invariants.violations,
                self.reached,
                self._outcome(),
                list(self.world.trace),
                self._steps(),
                self.output,
            )
            self.world.invariants.all_serve("after all was resumed")
            if self.schedule.again:
                self._restart_again()
        return report

    def _outcome(self) -> str:
        file = self.world.disk.files.get("edge.json")
        saved = None if file is None else head(file.text)
        return "none" if saved is None else f"{saved.outcome} in {saved.step}"

    def _steps(self) -> list[tuple[str, str]]:
        file = self.world.disk.files.get("edge.json")
        if file is None or head(file.text) is None:
            return []
        return [(step["step"], step["result"]) for step in json.loads(file.text)["steps"]]

    def _command(self, *arguments: str) -> int:
        """Run a command; after a reboot, first what the host starts."""
        if not self.world.has_state:
            self._boot()
        done = self.world.run(list(arguments))
        self.output += done.output
        if done.error is not None:
            trace = "".join(traceback.format_exception(done.error))
            self.world.invariants.violate(f"{done.name!r} failed: {trace}")
        return EXIT_KILLED if done.status is None else done.status

    def _boot(self) -> None:
        """Start the daemon, the first instance and udpgrm-resume.service, in some order."""
        self.world.scheduler.wait(0.5)
        self.world.has_state = self.world.is_booting = True
        if self.random.random() < 0.5:
            self.world.start_first()
            self._resume()
        else:
            self._resume()
            if self.world.has_state:
                self.world.start_first()
        self.world.is_booting = False

    def _resume(self) -> int:
        return self._command("restart", "--resume")

    def _unfinished(self) -> list[str]:
        found = []
        for name, file in self.world.disk.files.items():
            if name.endswith(".json"):
                saved = head(file.text)
                if saved is None or not saved.outcome:
                    found.append(name)
        return found

    def _failed(self) -> list[str]:
        saved = {name: head(file.text) for name, file in self.world.disk.files.items()}
        return [name[:-5] for name, one in saved.items() if one and one.outcome == "failed"]

    def _settle(self) -> None:
        """Resume until nothing is unfinished, as the daemon's start and operators do."""
        world = self.world
        for attempt in range(12):
            world.await_all()
            failed = self._failed()
            if not world.has_state:
                self._boot()
            elif self._unfinished():
                world.scheduler.wait(10.0)
                self._resume()
            elif not failed:
                return
            for name in failed if world.has_state else ():
                self._decide(name, attempt)
        world.invariants.violate(f"{self._unfinished() + self._failed()} cannot be ended")

    def _decide(self, name: str, attempt: int) -> None:
        """Do what an operator does about a failed restart."""
        world = self.world
        file = world.disk.files.get(f"{name}.json")
        saved = None if file is None else head(file.text)
        if saved is None:
            return  # another operator was faster
        world.scheduler.wait(5.0)
        new = None if saved.new is None else world.units.get(saved.new)
        if attempt > 2 and new is not None and saved.step in _HOPELESS:
            world.invariants.meddled()
            world.units.stop(new.generation)  # it is no good, and the old one is dead
            world.scheduler.wait(3.0)
        if saved.step == "stop" and not world.units.alive():
            # as the failure says; the new one may be no good
            generation = saved.new if attempt < 3 else saved.old
            if generation is not None:
                world.units.start(generation)
                world.scheduler.wait(3.0)
        is_stale = saved.boot_id != f"boot-{world.boot}"
        is_active = saved.old in world.working.values() and not is_stale
        # an old one that is active as its drain ends was made so by an operator, who now
        # decides for either: no command rolls a superseded restart back
        stays = saved.step == "drain" and is_active and ("@" in name or self.random.random() < 0.5)
        if (saved.step == "stop" or stays) and new is not None and new.sockets:
            world.promote_by_hand(new.generation)
            is_active = False
        if saved.step == "stop_new" and saved.old in world.units.alive():
            world.promote_by_hand(saved.old)
        # one to a dead instance is refused
        goes_back = saved.step == "drain" and is_active and "@" not in name
        if not goes_back or self._command("rollback", name) == EXIT_ERROR:
            self._command("restart", name, "--resume")

    def _restart_again(self) -> None:
        """Check what is left: one instance serves, and can be restarted."""
        world = self.world
        world.mend()
        world.scheduler.wait(5.0)  # until what an operator stops has stopped
        split = {number for number in map(world.routed, world.working) if number is not None}
        if len(split) > 1 and world.invariants.set_by_hand:
            begin = len(self.output)
            status = self._command("restart", "edge")
            if status != EXIT_ERROR or _SPLIT not in "".join(self.output[begin:]):
                world.invariants.violate(f"it is not refused: {''.join(self.output)[-160:]}")
            world.promote_by_hand(max(split))  # as the refusal says
        self._command("restart", "edge")
        self._settle()
        if self._steps()[-1:] not in ([("stop", "done")], [("drain", "kept")]):
            world.invariants.violate(f"it cannot be restarted: {''.join(self.output)[-160:]}")
        world.invariants.all_serve("after the next restart")


EXIT_KILLED = -9


def run(schedule: Schedule) -> Report:
    """Run a schedule."""
    return _Run(schedule).run()


__all__ = ["FAULTS", "At", "Config", "Fault", "Report", "Schedule", "Server", "run"]
