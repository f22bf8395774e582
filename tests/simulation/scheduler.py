# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Processes and events in virtual time. One runs at a time, so a schedule is always the same.

A process is a thread that holds the baton until it waits. The first one of a schedule runs in the
caller's thread, so that a schedule without a second operator switches none.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from typing import Optional, Union


class Killed(BaseException):
    """The process is gone: each call that it makes while the stack unwinds raises this again."""


class Process:
    """A process of the simulated host."""

    def __init__(self, name: str, pid: int, gate: Optional[threading.Lock] = None) -> None:
        self.name, self.pid = name, pid
        self.gate = threading.Lock() if gate is None else gate
        if gate is None:
            self.gate.acquire()
        self.dead = self.finished = False
        self.lingers = False  # killed, with its locks until a write to the disk is done
        self.on_signal: Optional[Callable[[int, object], None]] = None
        self.unit = ""
        self.status: Optional[int] = None
        self.output: list[str] = []
        self.error: Optional[Exception] = None


class Scheduler:
    """The clock, and the processes and events that wait for it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, Union[Process, Callable[[], None]]]] = []
        self._order = itertools.count()
        self._pids = itertools.count(100)
        self._driver = Process("driver", 1)
        self.current = self._driver
        self.processes: list[Process] = []
        self.lingering: set[int] = set()

    def at(self, seconds: float, do: Callable[[], None]) -> None:
        """Do something in so many seconds."""
        heapq.heappush(self._queue, (self.now + seconds, next(self._order), do))

    def wait(self, seconds: float) -> None:
        """Let the current process wait. Raises Killed."""
        me = self.current
        heapq.heappush(self._queue, (self.now + seconds, next(self._order), me))
        self._pass_on(me)
        if me.dead:
            raise Killed

    def _pass_on(self, me: Optional[Process]) -> None:
        """Run what is due next, until that is this process."""
        while True:
            due, _, what = heapq.heappop(self._queue)
            self.now = max(self.now, due)
            if not isinstance(what, Process):
                what()
            elif what is me:
                self.current = what
                return
            elif not what.finished:
                self.current = what
                what.gate.release()
                if me is not None:
                    me.gate.acquire()
                return

    def call(self, name: str, do: Callable[[], int]) -> Process:
        """Run a process to its end, in the caller's place."""
        process = Process(name, next(self._pids), self._driver.gate)
        self.processes.append(process)
        self.current = process
        self._run(process, do)
        self.current = self._driver
        return process

    def spawn(self, name: str, do: Callable[[], int]) -> Process:
        """Start a process beside those that run."""
        process = Process(name, next(self._pids))
        self.processes.append(process)

        def body() -> None:
            process.gate.acquire()
            self._run(process, do)
            self._pass_on(None)

        threading.Thread(target=body, name=name, daemon=True).start()
        heapq.heappush(self._queue, (self.now, next(self._order), process))
        return process

    def _run(self, process: Process, do: Callable[[], int]) -> None:
        try:
            if not process.dead:
                process.status = do()
        except Killed:
            process.status = -9
        except Exception as error:  # a fault in what is simulated, which the schedule reports
            process.error = error
        process.finished = True

    def kill(self, process: Process) -> None:
        """Let a process make no further call."""
        if not process.finished and not process.dead:
            process.dead = True
            if process is not self.current:  # else the call that it makes now raises Killed
                heapq.heappush(self._queue, (self.now, next(self._order), process))

    def linger(self, process: Process, seconds: float) -> None:
        """Let a process that is killed keep its locks, as while it waits for a disk."""

        def ends() -> None:
            process.lingers = False
            self.lingering.discard(process.pid)

        process.lingers = True
        self.lingering.add(process.pid)
        self.at(seconds, ends)

    def living(self) -> list[Process]:
        """Return the processes that run, without the driver."""
        self.processes = [process for process in self.processes if not process.finished]
        return self.processes

    @property
    def is_driving(self) -> bool:
        """Return whether no process makes the current call, but the schedule itself."""
        return self.current is self._driver

    def end(self) -> None:
        """Kill what still runs, so that no thread remains."""
        for process in self.living():
            self.kill(process)
        while self.living():
            self.wait(0)
