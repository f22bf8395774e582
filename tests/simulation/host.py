# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The simulated operating system, behind the interface of the real one."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Optional

from tests.simulation.units import TEMPLATE, Job
from udpgrm.restart.host import Host, LockFile, Program

if TYPE_CHECKING:
    from tests.simulation.world import World

#: Main processes of instances are these and the generation.
_PIDS = 1000
_BUS = "Failed to connect to bus: Connection refused"
_UNIT_TEXT = "[Service]\nType=notify\nExecStart=/usr/sbin/edge %i\n"


class _Program:
    """systemctl start or stop: the job continues if it is killed."""

    def __init__(self, world: World, job: Job) -> None:
        self._world, self._job = world, job

    def poll(self) -> Optional[int]:
        self._world.called("poll")
        return self._job.status

    def kill(self) -> None:
        self._world.called("kill")

    def communicate(self) -> tuple[str, str]:
        return "", self._job.message


class _LockFile:
    def __init__(self, world: World, path: Path) -> None:
        self._world, self._path = world, path

    def try_lock(self, shared: bool = False) -> bool:
        self._world.called("flock")
        return self._world.disk.lock(self._path, self, self._world.scheduler.current, shared)

    def write(self, text: str) -> None:
        self._world.called("write")
        self._world.disk.need_room()
        self._world.disk.get(self._path).text = text


class SimulatedHost(Host):
    """A simulated host: each call may be the last one of its process, or meet a fault."""

    def __init__(self, world: World) -> None:
        self._world = world

    def time(self) -> float:
        return self._world.wall_clock()

    def monotonic(self) -> float:
        return self._world.scheduler.now

    def sleep(self, seconds: float) -> None:
        self._world.called("sleep")
        self._world.scheduler.wait(seconds)

    def boot_id(self) -> str:
        return f"boot-{self._world.boot}"

    def read(self, path: Path) -> str:
        self._world.called("read")
        return self._world.disk.get(path).text

    def create(self, path: Path, text: str, durable: bool = True) -> None:
        self._world.called("create")
        file = self._world.disk.add(path)
        self._world.called("write")
        file.text = text[: len(text) // 2]
        self._world.disk.need_room()
        file.text = text
        if durable:
            self._world.called("fsync")
            file.is_safe = True

    def replace(self, source: Path, target: Path) -> None:
        self._world.called("rename")
        text = self._world.disk.get(source).text
        self._world.disk.replace(source, target)
        self._world.invariants.saved(target, text)

    def sync(self, directory: Path) -> None:
        self._world.called("sync")
        self._world.disk.sync()

    def touch(self, path: Path) -> None:
        self._world.called("touch")
        with contextlib.suppress(FileExistsError):
            self._world.disk.add(path)

    def exists(self, path: Path) -> bool:
        self._world.called("exists")
        return path.name in self._world.disk.files

    def delete(self, path: Path) -> None:
        self._world.called("delete")
        self._world.disk.delete(path)

    def find(self, directory: Path, pattern: str) -> list[Path]:
        self._world.called("find")
        return [directory / name for name in self._world.disk.names(pattern)]

    def make_directory(self, path: Path) -> None:
        """Do nothing: the directory exists."""

    def reserve(self, directory: Path, size: int) -> None:
        self._world.called("reserve")
        self._world.disk.need_room()

    @contextlib.contextmanager
    def lock_file(self, path: Path, create: bool) -> Iterator[LockFile]:
        self._world.called("open")
        if create and path.name not in self._world.disk.files:
            self._world.disk.add(path)
        self._world.disk.get(path)
        opened = _LockFile(self._world, path)
        try:
            yield opened
        finally:  # the kernel closes what a killed process had open
            self._world.disk.close(path, opened)

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self._world.called("systemctl")
        self._world.scheduler.wait(0.01)
        while self._world.units.is_slow:
            self._world.called("systemctl waits")
            self._world.scheduler.wait(1.0)
        status, printed, complaint = self._systemctl(list(command))
        return subprocess.CompletedProcess(command, status, printed, complaint)

    def _systemctl(self, command: list[str]) -> tuple[int, str, str]:
        arguments = [
            word for word in command[1:] if word not in ("--", "--no-ask-password", "--value")
        ]
        verb, *options, unit = arguments
        if self._world.units.is_silent:
            return 1, "", _BUS
        if verb == "cat":
            return (0, _UNIT_TEXT, "") if unit == TEMPLATE else (1, "", f"No files for {unit}.")
        if verb == "reset-failed":
            return 0, "", ""
        if command[0] == "journalctl" or "ExecMain" in options[0]:  # how a unit has failed
            return 0, "", ""
        assert verb == "show", command
        found = self._world.units.get(_generation(unit))
        values = {
            "--property=ActiveState": found.state,
            "--property=ControlGroup": f"/edge.slice/{unit}" if found.runs else "",
            "--property=MainPID": str(_PIDS + _generation(unit) if found.runs else 0),
        }
        return 0, values[options[0]], ""

    def start(self, command: Sequence[str]) -> Program:
        self._world.called(f"systemctl {command[2]}")
        if self._world.units.is_silent:
            return _Program(self._world, Job(1, _BUS))
        generation = _generation(command[-1])
        if command[2] == "stop":
            self._world.invariants.stops(generation)
            return _Program(self._world, self._world.units.stop(generation))
        assert command[2] == "start", command
        return _Program(self._world, self._world.units.start(generation))

    def spawn(self, command: Sequence[str]) -> None:
        self._world.called("spawn")
        arguments = list(command)
        self._world.begin(arguments[arguments.index("restart") :])

    def processes(self, cgroup: Path) -> list[int]:
        self._world.called("processes")
        generation = _generation(cgroup.name)
        return [_PIDS + generation] if self._world.units.get(generation).runs else []

    def send(self, pid: int, number: Signals) -> None:
        self._world.called("send")
        generation = pid - _PIDS
        if not self._world.units.get(generation).runs:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        self._world.invariants.notified(generation)
        self._world.clients.leave(generation)

    def pid(self) -> int:
        return self._world.scheduler.current.pid

    def was_killed(self, pid: int) -> bool:
        self._world.called("was_killed")
        return pid in self._world.scheduler.lingering

    def runs_systemd(self) -> bool:
        return False

    @contextlib.contextmanager
    def signals(
        self, numbers: Sequence[Signals], handler: Callable[[int, object], None]
    ) -> Iterator[None]:
        process = self._world.scheduler.current
        process.on_signal = handler
        try:
            yield
        finally:
            process.on_signal = None


def _generation(unit: str) -> int:
    return int(unit.partition("@")[2].partition(".")[0])
