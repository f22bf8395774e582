# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The breakdown of the time: the programs cut off after each step (bpf/parts.c)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.hooks import attached, fresh_peers, nothing_for
from benchmarks.measure import Case, program_times
from benchmarks.place import Place, inside
from benchmarks.report import Row
from benchmarks.steering import EMPTY, rows_of
from benchmarks.traffic import PAYLOAD, SOURCES, Group, Groups, Sources, attach, plain, run
from udpgrm import abi
from udpgrm.abi import Relocation
from udpgrm.build import cache
from udpgrm.build.link import link
from udpgrm.build.sources import Program
from udpgrm.kernel import libbpf
from udpgrm.state import layout

_PARTS = Path(__file__).parent / "bpf/parts.c"
_FLOW: tuple[str, ...] = (
    "group record and counters",
    "+ flow key",
    "+ the flow's line",
    "+ its socket",
)
_NOOP: tuple[str, ...] = ("group record", "+ the generation's sockets", "+ the socket")
_SEND = ("registration record", "only: a new entry in a table")
_CREATE_ROUNDS, _CREATE_PASSES = 9, 4


class _Parts:
    """Compiles and loads the steps."""

    def __init__(self, groups: Groups, directory: Path) -> None:
        self._groups = groups
        self._directory = directory

    def compile(self, function: str, parts: range) -> list[Program]:
        """Compile one program for each part."""
        made = []
        for part in parts:
            source = self._directory / f"{function}_{part}.c"
            source.write_text(f"#define PART {part}\n{_PARTS.read_text()}")
            made.append(Program(f"bench_{function}_{part}", str(source), function))
        cache.compile_missing(made)
        return made

    def steering(self, program: Program, group: Group) -> int:
        """Load a part as the program of a group. Returns an fd."""
        maps = self._groups.maps
        bound: dict[int, int] = {key: maps[name] for key, name in layout.RELOCATIONS.items()}
        own = {
            Relocation.OWN_SLOTS: "slots",
            Relocation.OWN_SOCKETS: "sockets",
            Relocation.OWN_COUNTERS: "counters",
        }
        epoch: int = maps.group(group.group_id).epoch
        constants: dict[int, int] = {
            Relocation.GROUP: group.group_id,
            Relocation.EPOCH: epoch,
            Relocation.LINE_BITS: maps.line_bits,
        }
        with contextlib.ExitStack() as stack:
            for key, outer in own.items():
                fd = stack.enter_context(maps.inner(outer, group.group_id))
                assert fd is not None
                bound[key] = fd
            code = link(cache.template(program), bound, constants)
            kind, attach_type = libbpf.PROG_SK_REUSEPORT, libbpf.SK_REUSEPORT_SELECT
            fd = libbpf.prog_load(kind, "udpgrm_part", code, attach_type)
        return self._groups.keep_fd(fd)

    def send(self, program: Program, table: int) -> int:
        """Load a part of a send hook. Returns an fd."""
        bound: dict[int, int] = {
            Relocation.REGISTRATIONS: self._groups.maps["registrations"],
            Relocation.FLOW_TABLES: table,
        }
        code = link(cache.template(program), bound, {})
        kind, attach_type = libbpf.PROG_CGROUP_SOCK_ADDR, libbpf.CGROUP_UDP4_SENDMSG
        return self._groups.keep_fd(libbpf.prog_load(kind, "udpgrm_part", code, attach_type))


def _steer(
    section: str, parts: _Parts, groups: Groups, sources: Sources, where: Place
) -> Iterator[Row]:
    flow = groups.make()
    flow.assure(sources.names)
    noop = groups.make(abi.Dissector(type=abi.DissectorType.NOOP))
    nothing = groups.without_steering()
    programs = parts.compile("part_steer", range(1, 7))
    steps = [(noop, "NOOP", [programs[0], *programs[4:]], _NOOP)]
    steps.append((flow, "FLOW", programs[:4], _FLOW))
    for group, name, parts_of, texts in steps:
        cases = [_case(EMPTY, nothing, nothing.working[0], nothing.program, sources)]
        by = _without_hooks(group, groups, where)
        for part, text in zip(parts_of, texts):
            cases.append(_case(text, group, by, parts.steering(part, group), sources))
        cases.append(_case("the program as it is", group, by, group.program, sources))
        yield from rows_of(f"{section} {name}, ns", program_times(cases), {})


def _without_hooks(group: Group, groups: Groups, where: Place) -> socket.socket:
    """Return a further socket of a group, by which a program may be attached."""
    with inside(where.bare, where.hooked):
        return groups.keep(plain(group.port, reuse=True))


def _case(name: str, group: Group, by: socket.socket, program: int, sources: Sources) -> Case:
    def ready() -> None:
        attach(by, program)
        sources.aim([group])

    return Case(name, [program], SOURCES, sources.send, ready)


def _sends(section: str, parts: _Parts, groups: Groups, where: Place) -> Iterator[Row]:
    table = groups.keep_fd(layout.make_flow_table(layout.Limits().flows))
    loaded = [parts.send(item, table) for item in parts.compile("part_send", range(1, 3))]
    sender = groups.make().working[0]
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sink.bind(("0.0.0.0", 0))
        for program in loaded:
            stack.enter_context(attached(where.hooked, "sendmsg4", program))
        peers = fresh_peers(sink.getsockname()[1])

        def send() -> None:
            run(map(sender.sendto, repeat(PAYLOAD), next(peers)))

        cases = [Case(text, [fd], SOURCES, send) for text, fd in zip(_SEND, loaded)]
        nothing = nothing_for("sendmsg4", groups)
        stack.enter_context(attached(where.hooked, "sendmsg4", nothing))
        cases.insert(0, Case(EMPTY, [nothing], SOURCES, send))
        times = program_times(cases, _CREATE_ROUNDS, _CREATE_PASSES)
    yield from rows_of(f"{section} a send that creates a flow, ns", times, {})


def measure(groups: Groups, where: Place) -> Iterator[Row]:
    """Measure the steps, which add up from the first to the whole."""
    section = "Where the time goes:"
    with TemporaryDirectory(prefix="udpgrm-bench-") as directory, Sources() as sources:
        parts = _Parts(groups, Path(directory))
        yield from _steer(section, parts, groups, sources, where)
        yield from _sends(section, parts, groups, where)
