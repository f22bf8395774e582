# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The memory that is left for one more instance: of the host, and of the slices above it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from udpgrm.kernel import cgroups
from udpgrm.restart import systemd
from udpgrm.restart.instances import Instances
from udpgrm.restart.plan import Refused
from udpgrm.restart.systemd import SystemdError
from udpgrm.services.definition import Service

_PROC = Path("/proc")
_MIB = 1 << 20


def refuse_too_little(service: Service, instances: Instances, old: int) -> None:
    """Raise Refused if less is left than the definition wants for one more instance."""
    factor = service.drain.min_memory
    if factor is None:
        return
    used = in_use(instances.processes(old))
    left, where = min(available(_slice_of(service)))
    if left < factor * used:
        raise Refused(
            f"{where} has {left / _MIB:.0f} MiB left, but {instances.name(old)} uses "
            f"{used / _MIB:.0f} MiB, and drain.min_memory is {factor:g}: free some, or wait until "
            "an instance has drained (udpgrm status)"
        )


def in_use(pids: Iterable[int]) -> int:
    """Return the bytes of memory that processes use, with their share of what they share."""
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the process has ended
            total += _number(_PROC / f"{pid}/smaps_rollup", r"^Pss:\s+(\d+) kB")
    return total << 10


def available(above: Path) -> Iterator[tuple[int, str]]:
    """Yield how many bytes are left, and where: on the host, and in each cgroup with a limit."""
    yield _number(_PROC / "meminfo", r"^MemAvailable:\s+(\d+) kB") << 10, "the host"
    for directory in (above, *above.parents):
        with contextlib.suppress(FileNotFoundError, ValueError):  # no controller, "max"
            limit = int((directory / "memory.max").read_text())
            held = int((directory / "memory.current").read_text())
            # caches of files that the kernel drops for processes
            held -= _number(directory / "memory.stat", r"^inactive_file (\d+)")
            yield limit - held, directory.name


def _number(path: Path, pattern: str) -> int:
    found = re.search(pattern, path.read_text(), re.MULTILINE)
    return 0 if found is None else int(found[1])


def _slice_of(service: Service) -> Path:
    """Return the cgroup that the new instance's is going to be in, the root if that is unknown."""
    with contextlib.suppress(SystemdError):
        name = systemd.property_of(service.instances.unit_of(0), "Slice")
        return systemd.cgroup_of(name)
    return cgroups.default_root()
