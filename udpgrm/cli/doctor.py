# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm doctor."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Optional

from udpgrm.cli import common
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.doctor import gather
from udpgrm.doctor.evaluate import evaluate, is_waiting
from udpgrm.doctor.facts import Diagnosis, Finding, Host, Socket
from udpgrm.doctor.host import about_host, concerns
from udpgrm.doctor.services import about_services
from udpgrm.kernel import cgroups, netns
from udpgrm.loader import hooks
from udpgrm.restart import systemd
from udpgrm.restart.systemd import SystemdError
from udpgrm.services import loader
from udpgrm.services.definition import Service
from udpgrm.services.validate import MissingLibrary
from udpgrm.state.maps import Maps

#: A registration takes milliseconds; one that is under way is checked once more.
_SECOND_LOOK_S = 0.3
_MOST_PIDS = 1 << 22


def run(arguments: Arguments) -> int:
    """Print for each socket whether it is steered, or why not and what to do."""
    where = common.optional_filter(arguments)
    maps = common.state_if_any(arguments)
    host, sockets = _look(arguments, maps, where)
    diagnoses = evaluate(host, sockets)
    if host.daemon is not None and is_waiting(diagnoses):
        time.sleep(_SECOND_LOOK_S)
        host, sockets = _look(arguments, maps, where)
        diagnoses = evaluate(host, sockets)
    general = about_host(host, _asked(arguments, where), sockets)
    general += about_services(_services(), sockets)
    found = general + [finding for item in diagnoses for finding in item.findings]
    fine = not any(finding.problem for finding in found)
    if arguments.flag("--json"):
        common.print_json(
            {
                "ok": fine,
                "daemon": {"running": host.daemon is not None, "pid": host.daemon},
                "cgroups": list(host.cgroups),
                "findings": [_finding(item) for item in general],
                "sockets": [_diagnosis(item) for item in diagnoses],
            }
        )
    else:
        for finding in general:
            print(_line(finding))
        for item in diagnoses:
            for line in text(item):
                print(line)
    return 0 if fine else 1


def _services() -> list[Service]:
    """Return the services whose definitions can be read; udpgrm check says what is wrong."""
    try:
        found = loader.read_directory(common.services_dir())
    except (OSError, MissingLibrary):
        return []
    return [service for _, service in found.services]


def _look(
    arguments: Arguments, maps: Optional[Maps], where: Optional[str]
) -> tuple[Host, list[Socket]]:
    directory = common.pin_dir(arguments)
    hooked = hooks.hooked_cgroups(directory)
    daemon = common.daemon_pid(arguments, maps) if maps is not None else None
    pids, named = _processes(arguments, where, hooked)
    # sockets first: then a socket's group that the host does not have is a deleted one
    sockets, unreachable = gather.sockets_of(pids, maps, where, bound=not named)
    host = gather.host_of(directory, maps, daemon, hooked, unreachable)
    if not named:
        here = netns.own_cookie()
        sockets = [sock for sock in sockets if concerns(host, sock, here)]
    return host, sockets


def _processes(
    arguments: Arguments, where: Optional[str], hooked: Iterable[str]
) -> tuple[Iterable[int], bool]:
    """Return the processes to check, and whether they were named."""
    unit = arguments.given.get("--unit")
    if arguments.flag("--pid"):
        if unit is not None:
            raise CommandError("doctor: --pid and --unit exclude each other")
        pid = arguments.number("--pid", 0, 1, _MOST_PIDS)
        if not Path(f"/proc/{pid}").exists():
            raise CommandError(f"--pid: there is no process {pid}")
        return [pid], True
    if unit is not None:
        try:
            return cgroups.processes(systemd.cgroup_of(unit)), True
        except SystemdError as error:
            raise CommandError(str(error)) from error
    if where is not None:
        return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()], False
    return [pid for path in hooked for pid in cgroups.processes(Path(path))], False


def _asked(arguments: Arguments, where: Optional[str]) -> str:
    parts = []
    if arguments.flag("--pid"):
        parts.append(f"in process {arguments.given['--pid']}")
    elif arguments.flag("--unit"):
        parts.append(f"in unit {arguments.given['--unit']}")
    if where is not None:
        parts.append(f"at {where}")
    return " ".join(parts)


def text(diagnosis: Diagnosis) -> list[str]:
    """Return a line for each finding, or a line that all is well."""
    sock = diagnosis.socket
    name = f"pid {sock.pid} fd {sock.fd} {sock.address or 'no address'}"
    if diagnosis.steered:
        name += f": steered, generation {sock.generation} index {sock.index}"
    else:
        name += ": NOT steered"
    return [f"{name}: {_line(finding)}" for finding in diagnosis.findings] or [name]


def _line(finding: Finding) -> str:
    return f"{finding.what}: {finding.why}; {finding.do}"


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code.value,
        "problem": finding.problem,
        "what": finding.what,
        "why": finding.why,
        "do": finding.do,
    }


def _diagnosis(diagnosis: Diagnosis) -> dict[str, Any]:
    sock = diagnosis.socket
    return {
        "pid": sock.pid,
        "fd": sock.fd,
        "socket_cookie": sock.cookie,
        "address": sock.address,
        "netns_cookie": sock.netns,
        "cgroup": sock.cgroup,
        "steered": diagnosis.steered,
        "application": sock.application,
        "generation": sock.generation,
        "index": sock.index,
        "findings": [_finding(item) for item in diagnosis.findings],
    }
