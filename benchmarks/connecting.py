# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The cost of hooks in connect(2) and close(2), and of connected sockets in others' packets."""

from __future__ import annotations

import contextlib
import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import udpgrm.client as grm
from benchmarks.hooks import attached, nothing_for
from benchmarks.measure import Case, program_times
from benchmarks.place import Place, inside, quiet
from benchmarks.programs import run_statistics, run_time
from benchmarks.report import Row
from benchmarks.stats import marginal, summary
from benchmarks.traffic import SOURCES, Groups, Sources, run
from testing.host import Host
from udpgrm import abi
from udpgrm.kernel import libbpf

CALLS = "{} of a UDP socket as the caller sees it, ns per call over one without hooks"
#: As servers do it for a new peer; and when the memory of the socket's state is cold.
_AT_ONCE, _LATER = "connect, once bound,", "connect, after 500 others were bound,"
PROGRAMS = "connect and release hooks, ns per run over empty ones"
PACKETS = "Packets of a group beside connected sockets of another, ns over those without"
_HOOKS = ("connect4", "release")
_BAR_NS, _PACKETS_BAR_NS = 150.0, 2.0
_SOCKETS, _ROUNDS = 500, 31
_PEER = ("127.0.0.1", 9)
_NO_GROUP = "of no group"
#: Address by name: what a server binds that makes a connected socket for each peer.
_ADDRESSES = {
    _NO_GROUP: "127.0.0.1",
    "of a group, wildcard address": "0.0.0.0",
    "of a group, one IPv4 address": "127.0.0.1",
}


@dataclass(frozen=True)
class _Kind:
    """Sockets that are made in a cgroup, and connected and closed there."""

    name: str
    hooks: str
    cgroup: Path
    where: tuple[str, int]

    def make(self, home: Path) -> list[socket.socket]:
        """Bind new sockets, as a server does for new peers."""
        with inside(self.cgroup, home):
            return [self._one() for _ in range(_SOCKETS)]

    def make_connected(self, home: Path) -> tuple[list[socket.socket], int]:
        """Connect each socket as soon as it is bound; return them, and the nanoseconds of that."""
        made, took, clock = [], 0, time.perf_counter_ns
        with inside(self.cgroup, home), quiet():
            for _ in range(_SOCKETS):
                sock = self._one()
                connect = sock.connect
                begun = clock()
                connect(_PEER)
                took += clock() - begun
                made.append(sock)
        return made, took

    def _one(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if self.name != _NO_GROUP:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(self.where)
        return sock


def _kinds(place: Place, groups: Groups) -> Iterator[_Kind]:
    cgroups = {"no hooks": place.bare, "empty programs": place.empty, "ours": place.hooked}
    port = 4433
    for name, address in _ADDRESSES.items():
        for hooks, cgroup in cgroups.items():
            port += 1
            where = (address, 0 if name == _NO_GROUP else port)
            if hooks == "ours" and name != _NO_GROUP:
                [first] = grm.bind(f"{address}:{port}")
                grm.enroll([groups.keep(first)], 1, timeout=20)
            yield _Kind(name, hooks, cgroup, where)


def _times(kinds: Sequence[_Kind], home: Path) -> dict[str, dict[_Kind, list[float]]]:
    """Nanoseconds per call, by call and kind; all kinds in turn. The first round is not counted."""
    result: dict[str, dict[_Kind, list[float]]] = {
        call: {kind: [] for kind in kinds} for call in (_AT_ONCE, _LATER, "close")
    }
    clock = time.perf_counter_ns
    for number in range(_ROUNDS + 1):
        for kind in kinds:
            made = kind.make(home)
            with quiet():
                begun = clock()
                run(map(socket.socket.connect, made, repeat(_PEER)))
                connected = clock()
                run(map(socket.socket.close, made))
                ended = clock()
            if number:
                result[_LATER][kind].append((connected - begun) / _SOCKETS)
                result["close"][kind].append((ended - connected) / _SOCKETS)
            made, took = kind.make_connected(home)
            run(map(socket.socket.close, made))
            if number:
                result[_AT_ONCE][kind].append(took / _SOCKETS)
    return result


def _run_times(
    kinds: Sequence[_Kind], home: Path, programs: dict[str, dict[str, int]]
) -> dict[str, dict[_Kind, list[float]]]:
    """Nanoseconds per run, by hook and kind; all kinds in turn."""
    result: dict[str, dict[_Kind, list[float]]] = {
        hook: {kind: [] for kind in kinds} for hook in _HOOKS
    }
    for number in range(_ROUNDS + 1):
        for kind in kinds:
            made = kind.make(home)
            before = {hook: run_time(programs[kind.hooks][hook]) for hook in _HOOKS}
            with quiet(), run_statistics():
                run(map(socket.socket.connect, made, repeat(_PEER)))
                run(map(socket.socket.close, made))
            for hook in _HOOKS:
                after = run_time(programs[kind.hooks][hook])
                runs = after[1] - before[hook][1]
                # the daemon may hold one for a moment, which is closed later then
                if abs(runs - _SOCKETS) > 0.1 * _SOCKETS:
                    raise RuntimeError(f"{kind.name}: {hook} ran {runs} times, not {_SOCKETS}")
                if number:
                    result[hook][kind].append((after[0] - before[hook][0]) / runs)
    return result


def _program_rows(
    kinds: Sequence[_Kind], home: Path, programs: dict[str, dict[str, int]]
) -> Iterator[Row]:
    kinds = [kind for kind in kinds if kind.hooks in programs]
    for hook, by_kind in _run_times(kinds, home, programs).items():
        for kind in kinds:
            if kind.hooks == "ours":
                [base] = [one for one in kinds if one.name == kind.name and one is not kind]
                over = summary(marginal(by_kind[kind], by_kind[base]))
                total = statistics.median(by_kind[kind])
                yield Row(PROGRAMS, f"{hook}, socket {kind.name}", "ns", over, total)


def calls(host: Host, place: Place, groups: Groups) -> Iterator[Row]:
    """Measure connect(2) and close(2) of new sockets."""
    programs = {
        "empty programs": {hook: nothing_for(hook, groups) for hook in _HOOKS},
        "ours": {
            hook: groups.keep_fd(libbpf.pinned(str(host.directory / "programs" / hook)))
            for hook in _HOOKS
        },
    }
    with contextlib.ExitStack() as stack:
        for hook, program in programs["empty programs"].items():
            stack.enter_context(attached(place.empty, hook, program))
        kinds = list(_kinds(place, groups))
        times = _times(kinds, place.hooked)
        yield from _program_rows(kinds, place.hooked, programs)
    for call, by_kind in times.items():
        for kind, values in by_kind.items():
            [base] = [base for base in kinds if (base.name, base.hooks) == (kind.name, "no hooks")]
            over = values if kind is base else marginal(values, by_kind[base])
            yield Row(
                CALLS.format(call),
                f"{kind.name}, {kind.hooks}",
                "ns",
                summary(over),
                statistics.median(values),
                None,
                _BAR_NS if kind.hooks == "ours" else None,
            )


def packets(groups: Groups) -> Iterator[Row]:
    """Measure packets of a group without connected sockets, with and without some elsewhere."""
    group = groups.make(abi.Dissector(type=abi.DissectorType.NOOP))
    other = groups.make()
    sessions: list[socket.socket] = []

    def close() -> None:
        while sessions:
            sessions.pop().close()

    def connect() -> None:
        while len(sessions) < SOURCES:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(("127.0.0.1", other.port))
            sock.connect(_PEER)
            sessions.append(sock)

    without, beside = "NOOP", f"NOOP, {SOURCES:,} connected sockets of another group"
    with Sources() as sources:
        sources.aim([group])
        cases = [
            Case(without, [group.program], SOURCES, sources.send, close),
            Case(beside, [group.program], SOURCES, sources.send, connect),
        ]
        times = program_times(cases)
    close()
    yield Row(PACKETS, without, "ns", summary(times[without]), statistics.median(times[without]))
    over = summary(marginal(times[beside], times[without]))
    total = statistics.median(times[beside])
    yield Row(PACKETS, beside, "ns", over, total, None, _PACKETS_BAR_NS)


def measure(host: Host, place: Place, groups: Groups) -> Iterator[Row]:
    """Measure both."""
    yield from calls(host, place, groups)
    yield from packets(groups)
