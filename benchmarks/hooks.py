# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The cost of hooks to sends, and to socket options that are not udpgrm's."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from itertools import islice, product, repeat
from pathlib import Path
from typing import Callable

from benchmarks.measure import Case, program_times, wall_times
from benchmarks.place import Place, inside
from benchmarks.programs import empty
from benchmarks.report import Row
from benchmarks.stats import marginal, summary
from benchmarks.traffic import PAYLOAD, SOURCES, Groups, plain, run
from testing.host import Host
from udpgrm.build.sources import HOOKS, Hook
from udpgrm.kernel import libbpf

SENDS = "sendmsg hook, ns per send over that of a socket in no group"
SEND_CALLS = "sendto as the caller sees it, ns per call over one without hooks"
OPTIONS = "sockopt hooks at SO_RCVBUF, ns per call over an empty one"
OPTION_CALLS = "SO_RCVBUF as the caller sees it, ns per call over one without hooks"
#: A create fills the table: these stay below its 65,536 entries.
_ROUNDS, _PASSES = 9, 4
_NO_GROUP, _EMPTY, _NO_HOOK = "socket of no group", "empty program", "no hook"
_SEND_BARS = {"flow refreshed": (192.0, 110.0), "flow created": (549.0, 250.0)}
#: (the least the reference adds, the most).
_PASS_THROUGH = (100.0, 200.0)
_Addresses = list[tuple[str, int]]


def fresh_peers(port: int) -> Iterator[_Addresses]:
    """Yield lists of `SOURCES` addresses of this machine without earlier packets."""
    hosts = product(range(16, 256), range(256), range(1, 255))
    while True:
        yield [(f"127.{a}.{b}.{c}", port) for a, b, c in islice(hosts, SOURCES)]


@contextlib.contextmanager
def attached(cgroup: Path, name: str, program: int) -> Iterator[None]:
    """Attach a program to a hook of a cgroup, beside others."""
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    link = -1
    try:
        link = libbpf.link_create(program, directory, _hook(name).attach_type)
        yield
    finally:
        for fd in (link, directory):
            if fd >= 0:
                os.close(fd)


def _hook(name: str) -> Hook:
    return next(hook for hook in HOOKS if hook.name == name)


def nothing_for(name: str, groups: Groups) -> int:
    """Load an empty program for a hook. Returns an fd."""
    return groups.keep_fd(empty(_hook(name).prog_type, _hook(name).attach_type))


def _made_in(cgroup: Path, where: Place) -> socket.socket:
    with inside(cgroup, where.hooked):
        return plain()


def _send_cases(
    host: Host, where: Place, groups: Groups, peers: Iterator[_Addresses], nothing: int
) -> list[Case]:
    ours = groups.keep_fd(libbpf.pinned(str(host.directory / "programs/sendmsg4")))
    known, fresh = next(peers), next(peers)

    def to_known(sock: socket.socket) -> Callable[[], object]:
        return lambda: run(map(sock.sendto, repeat(PAYLOAD), known))

    updating, creating = groups.make().working[0], groups.make().working[0]
    to_known(updating)()

    def to_fresh() -> None:
        run(map(creating.sendto, repeat(PAYLOAD), fresh))
        fresh[:] = next(peers)

    keep = groups.keep
    return [
        Case(_NO_HOOK, [], SOURCES, to_known(keep(_made_in(where.bare, where)))),
        Case(_EMPTY, [nothing], SOURCES, to_known(keep(_made_in(where.empty, where)))),
        Case(_NO_GROUP, [ours], SOURCES, to_known(keep(plain()))),
        Case("flow refreshed", [ours], SOURCES, to_known(updating)),
        Case("flow created", [ours], SOURCES, to_fresh),
    ]


def _rows(
    section: str,
    times: dict[str, list[float]],
    base: str,
    bars: dict[str, tuple[float, float]],
) -> Iterator[Row]:
    for name, values in times.items():
        reference, bar = bars.get(name, (None, None))
        value = values if name == base else marginal(values, times[base])
        total = summary(values).median
        yield Row(section, name, "ns", summary(value), total, reference, bar)


def sends(host: Host, where: Place, groups: Groups) -> Iterator[Row]:
    """Measure sendto(2) to 1,000 addresses on loopback, from sockets of several kinds."""
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sink.bind(("0.0.0.0", 0))
        nothing = nothing_for("sendmsg4", groups)
        stack.enter_context(attached(where.empty, "sendmsg4", nothing))
        peers = fresh_peers(sink.getsockname()[1])
        cases = _send_cases(host, where, groups, peers, nothing)
        program = program_times(cases[1:], _ROUNDS, _PASSES)
        calls = wall_times(cases[:-1], _ROUNDS, _PASSES)
    yield from _rows(SENDS, program, _NO_GROUP, _SEND_BARS)
    yield from _rows(SEND_CALLS, calls, _NO_HOOK, {})


def _option_cases(
    cgroup: Path, where: Place, groups: Groups, name: str, programs: dict[str, int]
) -> list[Case]:
    """Return the cases of reading and setting SO_RCVBUF of a socket made in a cgroup."""
    sock = groups.keep(_made_in(cgroup, where))
    level, option = socket.SOL_SOCKET, socket.SO_RCVBUF

    def reads() -> None:
        run(map(sock.getsockopt, repeat(level, SOURCES), repeat(option)))

    def writes() -> None:
        run(map(sock.setsockopt, repeat(level, SOURCES), repeat(option), repeat(1 << 16)))

    return [
        Case(f"{call}, {name}", [programs[call]] if programs else [], SOURCES, burst)
        for call, burst in (("getsockopt", reads), ("setsockopt", writes))
    ]


def options(host: Host, where: Place, groups: Groups) -> Iterator[Row]:
    """Measure reading and setting SO_RCVBUF, on sockets with and without hooks."""
    names = ("getsockopt", "setsockopt")
    ours = {
        name: groups.keep_fd(libbpf.pinned(str(host.directory / "programs" / name)))
        for name in names
    }
    with contextlib.ExitStack() as stack:
        nothing = {name: nothing_for(name, groups) for name in names}
        for name, program in nothing.items():
            stack.enter_context(attached(where.empty, name, program))
        bare = _option_cases(where.bare, where, groups, _NO_HOOK, {})
        idle = _option_cases(where.empty, where, groups, _EMPTY, nothing)
        hooked = _option_cases(where.hooked, where, groups, "ours", ours)
        times = program_times([*idle, *hooked])
        calls = wall_times([*bare, *idle, *hooked])
    for name in names:
        mine = {key: values for key, values in times.items() if key.startswith(name)}
        bars = {f"{name}, ours": _PASS_THROUGH}
        yield from _rows(OPTIONS, mine, f"{name}, {_EMPTY}", bars)
    for name in names:
        mine = {key: values for key, values in calls.items() if key.startswith(name)}
        yield from _rows(OPTION_CALLS, mine, f"{name}, {_NO_HOOK}", {})


def measure(host: Host, where: Place, groups: Groups) -> Sequence[Row]:
    """Measure sends and options."""
    return [*sends(host, where, groups), *options(host, where, groups)]
