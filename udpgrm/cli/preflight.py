# SPDX-License-Identifier: Apache-2.0
"""udpgrm preflight."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
from typing import Callable, Optional

from udpgrm.build import cache, sources
from udpgrm.cli import common
from udpgrm.cli.errors import refused
from udpgrm.cli.options import Arguments
from udpgrm.dissectors import kinds
from udpgrm.dissectors.kind import Kind
from udpgrm.kernel import cgroups, clock, descriptors, libbpf, limits
from udpgrm.loader.pool import Pool
from udpgrm.loader.programs import Linker
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
        except PermissionError as error:
            reason = refused(error)
        except (OSError, LookupError, cache.BuildError) as error:
            reason = limits.explain(error)
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
    check("program steering, stages", linker.stages)
    named = (kinds.find(program.dissector) for program in sources.shipped_named())
    for kind in (*kinds.BUILT_IN, *named):
        attempt = functools.partial(_steering, maps, linker, kind)
        check(f"program steering {kind.name}", attempt)


def _steering(maps: Maps, linker: Linker, kind: Kind) -> None:
    cache.compile_missing(sources.parts(sources.steering_of(kind)))
    libbpf.map_update(maps["dissectors"], index(0), bytes(kind.example()))
    linker.steering(0)
