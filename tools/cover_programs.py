#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Print what the verifier followed of each program, and which lines of bpf/ it followed in none.

    tools/cover_programs.py

Loads every program that a host may need; steering programs of named dissectors with the parameters
of their tests. A line that has instructions but is never followed cannot run: what the verifier
knows rules it out in every program. Needs root, a minute and up to 1 GB of memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from testing.dissectors import cases
from udpgrm.build import cache, compiler, sources
from udpgrm.build.sources import Program
from udpgrm.dissectors import kinds
from udpgrm.files import BPF_DIR
from udpgrm.kernel import btf, clock, libbpf, libbpf_types
from udpgrm.kernel.libbpf_types import ProgLoadOpts
from udpgrm.loader import programs
from udpgrm.loader.pool import Pool
from udpgrm.state import layout
from udpgrm.state import maps as state
from udpgrm.state.layout import Limits

LOG_BYTES = (1 << 30) - 1  # the kernel takes no more
WITH_INSTRUCTIONS = 2 | 4  # levels of the log: each instruction, and statistics
DEBUG_SOURCE = 8  # bcc's flag: print each instruction below its line
STEERING = sources.steering("flow").function
LIMITS = Limits(1, 64, 1, 1)

#: A file below bpf/ and a line of it.
Line = tuple[str, int]


class Compiled(NamedTuple):
    """A program compiled from one text, and the line of each instruction."""

    code: bytes
    lines: dict[int, Line]


class Loads:
    """Takes the place of libbpf.prog_load, to read the verifier's log of each program."""

    def __init__(self) -> None:
        self.compiled: dict[Program, Compiled] = {}
        self.followed: set[Line] = set()
        self.left_out: set[Program] = set()
        self._steering: Program | None = None
        self._linked: Program | None = None
        self._prog_load = libbpf.prog_load
        # takes memory where a log was written only
        self._log = mmap.mmap(-1, LOG_BYTES)

    def template(self, program: Program) -> bytes:
        """Compile it; a steering program comes before the stages that it calls."""
        if program.function == STEERING:
            self._steering = program
        self._linked = program
        if program not in self.compiled:
            self.compiled[program] = compile_with_lines(program)
        return self.compiled[program].code

    def prog_load(
        self, kind: int, name: str, code: bytes, attach_type: int = 0, attach_btf_id: int = 0
    ) -> int:
        """Load a program and note the lines that the verifier follows."""
        options = ProgLoadOpts(sz=ctypes.sizeof(ProgLoadOpts), expected_attach_type=attach_type)
        options.attach_btf_id = attach_btf_id
        options.log_level, options.log_size = WITH_INSTRUCTIONS, LOG_BYTES
        options.log_buf = ctypes.addressof(ctypes.c_char.from_buffer(self._log))
        is_steering = kind == libbpf.PROG_SK_REUSEPORT and name.startswith(layout.STEERING_PREFIX)
        program = self._steering if is_steering else self._linked
        assert program is not None
        arguments = (kind, name.encode()[:15], b"GPL", code, len(code) // 8)
        fd: int = libbpf_types.lib.bpf_prog_load(*arguments, ctypes.byref(options))
        if fd == -errno.ENOSPC:
            self.left_out.add(program)
            return self._prog_load(kind, name, code, attach_type, attach_btf_id)
        if fd < 0:
            raise OSError(-fd, f"cannot load {name}")
        self._read_log(program, libbpf.verified_instructions(fd))
        return fd

    def _read_log(self, program: Program, processed: int) -> None:
        end = self._log.find(b"\0")
        stack = re.search(rb"^stack depth (\S+)", self._log[max(0, end - 1000) : end], re.MULTILINE)
        assert stack, f"{program.name}: the log has no end"
        numbers = re.compile(rb"^(\d+): \(", re.MULTILINE).finditer(self._log, 0, end)
        followed = {int(found[1]) for found in numbers}
        code, lines = self.compiled[program]
        self.followed |= {lines[number] for number in followed if number in lines}
        print(
            f"{program.name:18}{len(code) // 8:13}{len(followed):10}{processed:11}"
            f"  {stack[1].decode()}",
            flush=True,
        )


def load_all(loads: Loads) -> None:
    """Load all programs with maps of their own; nothing is pinned."""
    with contextlib.closing(clock.Jiffies()) as jiffies:
        maps = state.make(LIMITS, jiffies.rate())
    Pool(maps, LIMITS).refill()
    linker = programs.Linker(maps, Limits())
    with (
        mock.patch.object(libbpf, "prog_load", loads.prog_load),
        mock.patch.object(cache, "template", loads.template),
    ):
        load_with(linker, maps)
    maps.close()


def load_with(linker: programs.Linker, maps: state.Maps) -> None:
    """Load all programs with a linker."""
    for hook in (*sources.HOOKS, sources.EGRESS):
        os.close(linker.hook(hook))
    linker.stages()
    with btf.KernelTypes() as types:
        iterators = {name: types.function(at) for name, (at, _) in sources.ITERATORS.items()}
        tracepoints = {name: types.tracepoint(name) for name in sources.TRACEPOINTS}
    for name, (_, program) in sources.ITERATORS.items():
        os.close(linker.iterator(name, program, iterators[name]))
    for name, program in sources.TRACEPOINTS.items():
        os.close(linker.tracepoint(name, program, tracepoints[name]))
    for value in examples():
        libbpf.map_update(maps["dissectors"], state.index(0), value)
        os.close(linker.steering(0))


def examples() -> Iterator[bytes]:
    """Yield a value of each dissector, of named ones also those of their tests."""
    shipped = [kinds.find(program.dissector) for program in sources.shipped_named()]
    for kind in (*kinds.BUILT_IN, *shipped):
        yield bytes(kind.example())
    for case in cases().values():
        yield bytes(kinds.find(case.dissector).encode(case.parameters))


@contextlib.contextmanager
def stderr_in(file: int) -> Iterator[None]:
    """Let the compiler, which is no Python, write into a file."""
    before = os.dup(2)
    os.dup2(file, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def expanded(name: str, text: str, seen: set[str]) -> Iterator[tuple[Line, str]]:
    """Yield the lines of a text with the headers of bpf/ in place, each header once."""
    for number, line in enumerate(text.split("\n"), 1):
        include = re.match(r'#include "(.*)"', line)
        if not include:
            yield (name, number), line
            continue
        here, top = BPF_DIR / Path(name).parent / include[1], BPF_DIR / include[1]
        path = here if here.is_file() else top
        header = str(path.resolve().relative_to(BPF_DIR))
        if header not in seen:
            seen.add(header)
            yield from expanded(header, path.read_text(), seen)


def compile_with_lines(program: Program) -> Compiled:
    """Compile a program as one text, because the compiler tells lines of its main file only."""
    from bcc import BPF  # type: ignore[import-not-found, import-untyped, unused-ignore]

    parts = list(expanded(program.source, sources.render(program), set()))
    with tempfile.TemporaryFile() as file:
        with stderr_in(file.fileno()):
            text = "\n".join(line for _, line in parts)
            module = BPF(text=text, cflags=[f"-I{BPF_DIR}"], debug=DEBUG_SOURCE)
        code = module.dump_func(program.function.encode())
        module.cleanup()
        file.seek(0)
        printed = file.read().decode(errors="replace")
    places: dict[str, list[int]] = defaultdict(list)
    for at, (_, line) in enumerate(parts):
        places[line.strip()].append(at)
    lines: dict[int, Line] = {}
    current: Line | None = None
    for row in printed.splitlines():
        if head := re.fullmatch(r"; (.*) // Line *(\d+)", row):
            # bcc has inserted lines before it
            before = [at for at in places[head[1].strip()] if at < int(head[2])]
            current = parts[before[-1]][0] if before else None
        elif (found := re.match(r" *(\d+):\t", row)) and current:
            lines[int(found[1])] = current
    return Compiled(code, lines)


def main() -> int:
    """Run the command line."""
    loads = Loads()
    with tempfile.TemporaryDirectory(prefix="udpgrm-build-") as scratch:
        os.environ["BCC_KERNEL_SOURCE"] = str(compiler._header_tree(Path(scratch)))
        print(f"{'program':18}{'instructions':>13}{'followed':>10}{'processed':>11}  stack")
        load_all(loads)
    for program in loads.left_out:
        print(f"{program.name}: left out, its log has more than {LOG_BYTES >> 20} MB")
    seen = (item for key, item in loads.compiled.items() if key not in loads.left_out)
    report({line for item in seen for line in item.lines.values()}, loads.followed)
    return 0


def report(compiled: set[Line], followed: set[Line]) -> None:
    """Print the share of each file, and the lines that no program follows."""
    print(f"\n{'file':40}{'lines':>7}{'followed':>10}")
    for name in sorted({name for name, _ in compiled}):
        all_lines = sorted(number for file, number in compiled if file == name)
        missed = [number for number in all_lines if (name, number) not in followed]
        print(f"{name:40}{len(all_lines):7}{len(all_lines) - len(missed):10}")
        text = (BPF_DIR / name).read_text().splitlines()
        for number in missed:
            print(f"    {number:4} {text[number - 1].strip()}")
    print(f"{'':40}{len(compiled):7}{len(compiled & followed):10}")


if __name__ == "__main__":
    sys.exit(main())
