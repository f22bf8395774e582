# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A service without a kernel: instances, groups and a prober that tests set."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

from testing.waiting import PATIENCE_S
from udpgrm import abi
from udpgrm.restart.drain import Sample
from udpgrm.restart.groups import MISDIRECTED
from udpgrm.restart.plan import GroupFacts
from udpgrm.restart.prober import StepFailed
from udpgrm.restart.strays import Stray
from udpgrm.restart.systemd import NotRunning, SystemdError
from udpgrm.services.definition import (
    Budget,
    Drain,
    DrainUntil,
    Group,
    Instances,
    Service,
    Timeouts,
)

WHERE = "192.0.2.1:4433"
ALSO = "[2001:db8::1]:4433"


def service(**changes: Any) -> Service:
    """Return a service with two groups of two sockets, and quick limits."""
    given: dict[str, Any] = {
        "groups": (Group(WHERE, 2), Group(ALSO, 2)),
        "instances": Instances("template", "edge@.service"),
        "drain": Drain(DrainUntil(0, None), max_s=PATIENCE_S),
        "timeouts": Timeouts(0.2, 0.2, 0.2, 0.2),
        **changes,
    }
    return Service(name="edge", **given)


class FakeInstances:
    """Instances that are up at once and have their sockets then."""

    def __init__(self, running: set[int]) -> None:
        self.running = running
        self.calls: list[tuple[str, int]] = []
        self.broken: Optional[str] = None
        self.silent = False

    def name(self, generation: int) -> str:
        return f"edge@{generation}.service"

    def check(self) -> None:
        pass

    def start(self, generation: int, check_cancelled: Callable[[], None]) -> None:
        self.calls.append(("start", generation))
        check_cancelled()
        if self.broken == "start":
            raise SystemdError("no such program")
        self.running.add(generation)
        if self.broken == "restarting":  # Restart=: systemd has it between two starts
            raise SystemdError("exit code 1")

    def stop(self, generation: int) -> None:
        self.calls.append(("stop", generation))
        if self.broken == "stop":
            raise SystemdError("it hangs")
        self.running.discard(generation)

    def is_alive(self, generation: int) -> bool:
        if self.silent:
            raise SystemdError("no answer")
        return generation in self.running

    def cgroup(self, generation: int) -> Path:
        if self.broken == "restarting":
            raise NotRunning("it has no cgroup")
        return Path("/nowhere")

    def processes(self, generation: int) -> list[int]:
        return []

    def failure(self, generation: int) -> str:
        return f"{self.name(generation)}: exit code 1"

    def main_process(self, generation: int) -> int:
        if self.silent:
            raise SystemdError("no answer")
        return os.getpid()


class FakeGroups:
    """The service's groups; an instance that runs has all its sockets in them."""

    def __init__(self, groups: Sequence[Group], instances: FakeInstances, working: int) -> None:
        self.groups = groups
        self.instances = instances
        self.by_address: dict[str, Optional[int]] = {group.address: working for group in groups}
        self.history: list[int] = []
        self.sockets = 2
        self.flows: list[int] = []
        self.wrong = dict.fromkeys((*MISDIRECTED, "dropped", "packets"), 0)

    def facts(self) -> list[GroupFacts]:
        living = dict.fromkeys(self.instances.running, self.sockets)
        return [
            GroupFacts(where, 0, working, abi.GENERATION_SLOTS, living)
            for where, working in self.by_address.items()
        ]

    def check_dissectors(self, service: Service) -> None:
        pass

    def refuse_second_groups(self) -> None:
        """There are none."""

    def set_dissectors(self, service: Service) -> None:
        self.dissectors_of = service

    def share_addresses(self, service: Service, reserved: Sequence[str] = ()) -> None:
        self.shared_by = service

    def omitted(self, pids: Iterable[int]) -> list[str]:
        return []

    def tried(self, service: Service) -> list[str]:
        return []

    def release(self, service: Service) -> None:
        """Nothing is reserved."""

    def peers_elsewhere(self, pids: Sequence[int]) -> set[tuple[str, int]]:
        return set()

    def strays(self) -> list[Stray]:
        return []

    def living(self, generation: int) -> dict[str, int]:
        count = self.sockets if generation in self.instances.running else 0
        return dict.fromkeys(self.by_address, count)

    def cookies(self, generation: Optional[int]) -> set[int]:
        return set()

    def working(self) -> dict[str, Optional[int]]:
        return dict(self.by_address)

    @contextlib.contextmanager
    def held(self, generation: int, pids: Sequence[int]) -> Iterator[dict[str, Any]]:
        yield {where: _FakeSocket(self, where) for where in self.by_address}

    def sample(self, generation: int) -> Sample:
        left = self.flows.pop(0) if self.flows else 0
        alive = self.sockets if generation in self.instances.running else 0
        return Sample(at=_clock(), sockets=alive, flows=left, packets=0, quiet_s=None)

    def reading(self) -> dict[str, Any]:
        return {"then": dict(self.wrong)}

    def spent(self, before: dict[str, Any]) -> dict[str, int]:
        return {name: count - before["then"][name] for name, count in self.wrong.items()}


def _clock() -> float:
    import time

    return time.monotonic()


class _FakeSocket:
    type = socket.SOCK_DGRAM

    def __init__(self, groups: FakeGroups, where: str) -> None:
        self._groups, self._where = groups, where

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        assert option == abi.Option.WORKING_GEN
        number = int.from_bytes(value, "little")
        self._groups.by_address[self._where] = number
        self._groups.history.append(number)

    def fileno(self) -> int:
        return 99


class FakeProber:
    """Passes, or fails at one of its jobs."""

    def __init__(self) -> None:
        self.fails: Optional[str] = None
        self.calls: list[str] = []

    def _do(self, name: str) -> None:
        self.calls.append(name)
        if self.fails == name:
            raise StepFailed(f"{name}: no reply")

    def canary(self, new: int, evidence: dict[str, Any]) -> None:
        self._do("canary")

    def hold(self, old: int, evidence: dict[str, Any]) -> None:
        self._do("hold")

    def verify(self, old: Optional[int], new: int, evidence: dict[str, Any]) -> None:
        self._do("verify")


__all__ = ["ALSO", "WHERE", "Budget", "FakeGroups", "FakeInstances", "FakeProber", "service"]
