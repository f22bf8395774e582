# SPDX-License-Identifier: Apache-2.0
"""udpgrm enroll."""

from __future__ import annotations

from pathlib import Path

from udpgrm import abi
from udpgrm.cli import common
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.kernel import cgroups
from udpgrm.restart import adoption, systemd
from udpgrm.restart.systemd import SystemdError
from udpgrm.state.maps import Maps
from udpgrm.state.view import Viewer


def run(arguments: Arguments) -> int:
    """Enroll the sockets of a running server in a generation, from outside."""
    common.want_operands(arguments, 1, 1)
    where = common.operand_address(arguments)
    application = arguments.number("--app", 0, 0, abi.MAX_APPS - 1)
    count = arguments.number("--count", 1, 1, abi.SLOT_SOCKETS)
    timeout = arguments.number("--timeout", 10, 0, 3600)
    maps = common.open_state(arguments)
    generation = _generation(arguments, maps, where, application)
    try:
        done = adoption.adopt(
            maps,
            _cgroup(arguments),
            where,
            generation,
            count,
            timeout,
            application,
            lambda: _may_come(arguments),
        )
    except (adoption.AdoptionError, SystemdError) as error:
        raise CommandError(str(error)) from error
    if arguments.flag("--json"):
        common.print_json(
            {
                "address": where,
                "application": application,
                "generation": generation,
                "sockets": [
                    {"socket_cookie": cookie, "index": index}
                    for cookie, index in zip(done.cookies, done.indices)
                ],
            }
        )
    else:
        print(f"{where} app {application} gen {generation}: {len(done.cookies)} sockets")
    return 0


def _cgroup(arguments: Arguments) -> Path:
    unit, path = arguments.given.get("--unit"), arguments.given.get("--cgroup")
    if (unit is None) == (path is None):
        raise CommandError("enroll: name the server with --unit=UNIT or --cgroup=DIR")
    if unit is not None:
        return systemd.cgroup_of(unit)
    directory = Path(path or "")
    if not cgroups.is_directory(directory):
        raise CommandError(f"--cgroup: {directory} is not a cgroup2 directory")
    return directory


def _may_come(arguments: Arguments) -> bool:
    """Return whether a process of the server may still start, by the state of its unit."""
    unit = arguments.given.get("--unit")
    return unit is not None and systemd.is_active(unit)


def _generation(arguments: Arguments, maps: Maps, where: str, application: int) -> int:
    text = arguments.given.get("--gen", "next")
    view = None
    if common.groups_at(Viewer(maps), where):
        view = common.one_group(Viewer(maps), where)
        common.want_application(view, where, application)
    if text != "next":
        return common.generation(text, "next")
    return 0 if view is None else (view.working[application] + 1) % 2**32
