# SPDX-License-Identifier: Apache-2.0
"""udpgrm preflight."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
from typing import Callable, Optional

from udpgrm import abi
from udpgrm.build import cache, library, sources
from udpgrm.cli import common
from udpgrm.cli.options import Arguments
from udpgrm.kernel import cgroups, clock, descriptors, libbpf
from udpgrm.loader.pool import Pool
from udpgrm.loader.programs import DISSECTOR_NAMES, Linker, steering_of
from udpgrm.services import policy
from udpgrm.state import maps as state
from udpgrm.state.layout import Limits
from udpgrm.state.maps import Maps, index

_NOBODY = 65534


def run(arguments: Arguments) -> int:
    """Load every program with maps of its own, without attaching or pinning it."""
    common.want_operands(arguments, 0, 0)
    checks: list[tuple[str, str]] = []

    def check(name: str, attempt: Callable[[], object]) -> bool:
        reason = ""
        try:
            attempt()
        except (OSError, LookupError, cache.BuildError) as error:
            reason = str(error)
        checks.append((name, reason))
        return not reason

    maps: Optional[Maps] = None
    check("cgroup2", cgroups.default_root)
    check("right to take sockets of servers", _take_sockets)
    check("templates", lambda: cache.compile_missing(sources.all_programs()))

    def make_maps() -> None:
        nonlocal maps
        maps = state.make(Limits(1, 64, 1, 1), _clock_rate())

    if check("maps and clock", make_maps) and maps is not None:
        _check_programs(maps, check)
        maps.close()
    missing = [name for name, reason in checks if reason]
    if arguments.flag("--json"):
        common.print_json(
            {
                "ok": not missing,
                "missing": missing,
                "checks": [
                    {"name": name, "ok": not reason, "reason": reason} for name, reason in checks
                ],
            }
        )
    else:
        for name, reason in checks:
            print(f"{'FAILED' if reason else 'ok':7} {name}{': ' if reason else ''}{reason}")
    return 1 if missing else 0


def _take_sockets() -> None:
    """Duplicate sockets of another user's process, as the daemon does. Raises OSError."""
    here, there = socket.socketpair()
    with here, there:
        child = os.fork()
        if not child:
            with contextlib.suppress(OSError):  # without that right it stays root's
                os.setresuid(_NOBODY, _NOBODY, _NOBODY)
            there.send(b"!")
            signal.pause()
            os._exit(0)
        try:
            here.recv(1)
            with descriptors.Process(child) as process:
                for taken in process.take(process.numbers(), None):
                    os.close(taken.fd)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _clock_rate() -> int:
    with contextlib.closing(clock.Jiffies()) as jiffies:
        return jiffies.rate()


def _check_programs(maps: Maps, check: Callable[[str, Callable[[], object]], bool]) -> None:
    linker: Optional[Linker] = None

    def prepare() -> None:
        nonlocal linker
        Pool(maps, Limits(1, 64, 1, 1)).refill()
        linker = Linker(maps, Limits())

    if not check("prepared maps and kernel BTF", prepare) or linker is None:
        return
    for hook in sources.HOOKS:
        check(f"program hook {hook.name}", functools.partial(linker.hook, hook))
    values = {
        name: abi.Dissector(type=kind)
        for kind, name in DISSECTOR_NAMES.items()
        if name in (*sources.PLAIN_DISSECTORS, "bespoke")
    }
    values["cbpf"].filter_len = 1
    values["cbpf"].filter[0] = abi.CbpfInstruction(0x06, 0, 0, abi.GENERATION_NONE)  # ret #-1
    for program in sources.shipped_named():
        values[program.dissector] = _with_required(program.dissector)
    for name, value in values.items():
        check(f"program steering {name}", functools.partial(_steering, maps, linker, value))


def _with_required(name: str) -> abi.Dissector:
    schema = library.find(name, sources.shipped_dissectors()).schema
    required: dict[str, object] = {
        item.name: item.minimum for item in schema.parameters if item.default is None
    }
    return policy.named(name, required)


def _steering(maps: Maps, linker: Linker, dissector: abi.Dissector) -> None:
    cache.compile_missing(sources.parts(steering_of(dissector)))
    libbpf.map_update(maps["dissectors"], index(0), bytes(dissector))
    linker.steering(0)
