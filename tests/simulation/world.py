# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A host with one service, on which the real code of restarts runs."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Callable, NamedTuple, Optional

from tests.simulation.disk import Disk
from tests.simulation.host import SimulatedHost
from tests.simulation.invariants import Invariants
from tests.simulation.kernel import Clients, SimulatedGroups, SimulatedProber
from tests.simulation.scheduler import Killed, Process, Scheduler
from tests.simulation.units import TEMPLATE, Server, Units
from udpgrm.cli import restart, rollback
from udpgrm.cli.errors import EXIT_ERROR, CommandError
from udpgrm.cli.options import Arguments
from udpgrm.kernel import trust
from udpgrm.restart import foreground, host
from udpgrm.services import loader

WHERE = ("192.0.2.1:4433", "[2001:db8::1]:4433")
_STATE = "/simulated/restarts"
#: More calls than the longest schedule makes.
_MANY = 60_000


@dataclass(frozen=True)
class Config:
    """The service, its servers and users. servers: by generation, as of the first restart.

    connects: long flows have a socket of their own. notifies: instances are told of their
    drain, and then have their clients leave.
    """

    on_timeout: str = "stop"
    flows: int = 0
    max_s: float = 3.0
    hold_s: float = 0.0
    groups: int = 2
    servers: tuple[Server, ...] = (Server.GOOD, Server.GOOD)
    restarts: bool = False
    every_s: float = 0.4
    is_first: bool = False
    quiet_s: Optional[float] = None
    connects: bool = False
    notifies: bool = False

    def definition(self) -> str:
        """Return the file below services.d (JSON is YAML)."""
        return json.dumps(
            {
                "groups": [{"address": where, "sockets": 2} for where in WHERE[: self.groups]],
                "instances": {"unit": TEMPLATE},
                "drain": {
                    "until": {"flows": self.flows, "quiet_s": self.quiet_s},
                    **({"begin": {"signal": "SIGWINCH"}} if self.notifies else {}),
                    "max_s": self.max_s,
                    "on_timeout": self.on_timeout,
                    "hold_s": self.hold_s,
                },
                "timeouts": {"start_s": 2, "enroll_s": 1, "canary_s": 2, "verify_s": 2},
            }
        )


class At(NamedTuple):
    """A call: the nth of this name in a step of the last restart ("": before any)."""

    step: str
    call: str
    number: int


@dataclass
class World:
    """Everything that a restart sees and changes.

    do: called with the fault that is due at a call, before the call is done.
    """

    config: Config
    random: Random
    faults: dict[tuple[str, str, int], Any] = field(default_factory=dict)
    do: Callable[[Any], None] = print
    boot: int = 1
    wall_offset: float = 1_800_000_000.0
    has_state: bool = True
    is_mended: bool = False
    is_booting: bool = False
    step: str = ""
    calls: int = 0
    trace: list[tuple[str, str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler()
        self.disk = Disk()
        self.units = Units(self.scheduler, self.server_of, self.config.restarts)
        self.clients = Clients(self, self.config.every_s)
        self.working: dict[str, int] = {}
        self.invariants = Invariants(self)
        self._counts: Counter[tuple[str, str]] = Counter()
        if not self.config.is_first:
            self.start_first()

    def server_of(self, generation: int) -> Server:
        """Return how the servers of a generation behave."""
        servers = self.config.servers
        is_as_before = self.boot == 1 and not self.is_mended
        return servers[generation] if is_as_before and generation < len(servers) else Server.GOOD

    def start_first(self) -> None:
        """Start generation 1, as NAME-first.service does."""
        if not self.units.alive():
            self.units.start(1)
            self.scheduler.wait(3.0)
        for where in WHERE[: self.config.groups]:
            if self.routed(where) is None and self.units.get(1).sockets:
                self.promote(where, 1)

    def wall_clock(self) -> float:
        """Return the seconds since 1970."""
        return self.wall_offset + self.scheduler.now

    def called(self, name: str) -> None:
        """Do what is due before a call of a process. Raises Killed."""
        process = self.scheduler.current
        if process.dead:
            raise Killed
        self.clients.arrive()
        if self.scheduler.is_driving:
            return
        self.calls += 1
        self._counts[self.step, name] += 1
        if self.calls > _MANY:
            self.invariants.violate("it does not end")
            self.scheduler.kill(process)
        at = (self.step, name, self._counts[self.step, name])
        self.trace.append(at)
        if self.faults:
            fault = self.faults.pop(at, None)
            if fault is not None:
                self.do(fault)
        if process.dead:
            raise Killed

    @property
    def is_minded(self) -> bool:
        """Return whether a command runs that can do something about what goes wrong."""
        is_idle = self.is_booting or all(process.dead for process in self.scheduler.living())
        return not (is_idle or self.disk.is_full or self.units.is_silent or self.units.is_slow)

    def routed(self, where: str) -> Optional[int]:
        """Return the generation that new flows of an address reach; None: its instance is dead."""
        number = self.working.get(where)
        return number if number is not None and self.units.get(number).sockets else None

    def promote(self, where: str, generation: int) -> None:
        """Change the working generation of an address."""
        self.clients.arrive()
        before = self.working.get(where)
        self.working[where] = generation
        self.invariants.promoted(where, before, generation)

    def promote_by_hand(self, generation: int, addresses: Optional[int] = None) -> None:
        """Do what an operator does for each address, or the first ones: udpgrm working-gen."""
        self.invariants.promotes_by_hand(generation)
        for where in list(self.working)[:addresses]:
            self.promote(where, generation)
            self.invariants.set_by_hand.add(where)

    def mend(self) -> None:
        """Make room on the disk, let systemd answer again, and give the servers a good version."""
        self.is_mended = True
        self.disk.is_full = False
        self.units.silent_until = self.units.slow_until = -1.0

    def run(self, argv: list[str]) -> Process:
        """Run a command to its end, in place of the schedule."""
        self.invariants.minded()
        return self.scheduler.call(" ".join(argv), functools.partial(_command, argv))

    def begin(self, argv: list[str]) -> Process:
        """Begin a command beside those that run."""
        self.invariants.minded()
        return self.scheduler.spawn(" ".join(argv), functools.partial(_command, argv))

    def await_all(self, limit: float = 300.0) -> None:
        """Wait for the end of all commands."""
        deadline = self.scheduler.now + limit
        while self.scheduler.living() and self.scheduler.now < deadline:
            self.scheduler.wait(0.5)
        if self.scheduler.living():
            self.invariants.violate("a command does not end")

    def reboot(self) -> None:
        """Lose processes, instances, kernel state, and what was not on the disk."""
        self.clients.arrive()
        self.boot += 1
        for process in self.scheduler.living():
            self.scheduler.kill(process)
        self.units.lose_all()
        self.working.clear()
        self.disk.cut_power(self.random)
        self.disk.is_full = self.has_state = False
        self.step = ""
        self.invariants.rebooted()


def _command(argv: list[str]) -> int:
    """Run a command as udpgrm's main does, and return the exit status."""
    command, *rest = argv
    given = {word: "" for word in rest if word.startswith("--")}
    operands = [word for word in rest if not word.startswith("--")]
    arguments = Arguments(command, operands, {**given, "--json": ""})
    try:
        run = restart.run if command == "restart" else rollback.run
        return run(arguments)
    except (CommandError, OSError) as error:
        print(error, file=sys.stderr)
        return EXIT_ERROR


class _Output:
    """Standard output of all processes: each has its own."""

    def __init__(self, of: Callable[[], Process]) -> None:
        self._of = of

    def write(self, text: str) -> int:
        self._of().output.append(text)
        return len(text)

    def flush(self) -> None:
        """There is no buffer."""

    def isatty(self) -> bool:
        return False


@functools.cache
def _services_dir(definition: str) -> tempfile.TemporaryDirectory[str]:
    """Return a directory with the definition, which is removed when the process ends."""
    directory = tempfile.TemporaryDirectory(prefix="udpgrm-simulation-")
    (Path(directory.name) / f"edge{loader.SUFFIX}").write_text(definition)
    return directory


def _trusted(directory: Path) -> None:
    """Return no reason to distrust a directory."""


_parse = functools.cache(loader.parse)


@contextlib.contextmanager
def standing_in(world: World) -> Iterator[None]:
    """Let restarts run in this world while the with block lasts."""
    before = host.current, foreground.kernel, loader.parse, trust.distrusted, sys.stdout, sys.stderr
    environment = {
        "UDPGRM_STATE_DIR": _STATE,
        "UDPGRM_SERVICES_DIR": _services_dir(world.config.definition()).name,
    }
    kept = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    host.current = SimulatedHost(world)
    foreground.kernel = foreground.Kernel(
        lambda _, groups: SimulatedGroups(world, groups),
        lambda *_: SimulatedProber(world),
    )
    trust.distrusted = _trusted  # the simulated directory is nowhere on this machine
    loader.parse = _parse  # always the same text: its schema is checked once
    output: Any = _Output(lambda: world.scheduler.current)
    sys.stdout = sys.stderr = output
    try:
        yield
    finally:
        world.scheduler.end()
        host.current, foreground.kernel, loader.parse, trust.distrusted = before[:4]
        sys.stdout, sys.stderr = before[4:]
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
