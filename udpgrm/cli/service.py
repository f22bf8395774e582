# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm service: definitions of services, the units of instances, and the first instance."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Optional

from udpgrm import names
from udpgrm.cli import common, service_instances, service_unit, status
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.numbers import number_of
from udpgrm.restart import ending
from udpgrm.restart.migration import Migration
from udpgrm.restart.statedir import JournalError
from udpgrm.services import define, document, loader, profiles, unit_from
from udpgrm.services.define import Change
from udpgrm.services.document import Problem
from udpgrm.services.unit_files import UnitError
from udpgrm.services.validate import MissingLibrary

_MAX_FLOW_TIMEOUT_S = (1 << 32) - 1
#: The actions that take each option.
_OPTIONS = {
    "--adopt": ("start",),
    "--flow-timeout": ("new",),
    "--lose-flows": ("remove", "stop"),
    "--write": ("unit",),
}


def run(arguments: Arguments) -> int:
    """Run one of the actions."""
    actions = {
        "define": _define,
        "new": _new,
        "remove": _remove,
        "unit": service_unit.unit,
        "render": service_unit.render,
        "start": service_instances.start,
        "stop": service_instances.stop,
    }
    count = 3 if arguments.operands[:1] == ["render"] else 2
    common.want_operands(arguments, count, count)
    action, name, *_ = arguments.operands
    if action not in actions:
        raise CommandError(f"service: {action!r} is none of {', '.join(actions)}")
    for option in ("--profile", "--address"):
        if (option in arguments.given) != (action == "new"):
            verb = "needs" if action == "new" else "takes no"
            raise CommandError(f"service {action} {verb} {option}")
    for option, takers in _OPTIONS.items():
        if arguments.flag(option) and action not in takers:
            raise CommandError(f"{option} does not go with service {action}")
    if not names.SERVICE.fullmatch(name):
        raise CommandError(f"not a service's name: {name!r} ({names.SERVICE_RULE})")
    try:
        return actions[action](arguments, name)
    except (loader.DefinitionError, JournalError, MissingLibrary, UnitError) as error:
        raise CommandError(str(error)) from error


def _define(arguments: Arguments, name: str) -> int:
    """Write the definition that stdin has, if it is valid."""
    given = sys.stdin.buffer.read(document.MAX_BYTES + 1)
    content = define.as_yaml(given)
    return _put(arguments, name, define.change(name, content, common.services_dir()), content)


def _new(arguments: Arguments, name: str) -> int:
    """Define a service by a profile, write its unit, and adopt the package's if that serves."""
    addresses = arguments.given["--address"].split(",")
    seconds = arguments.given.get("--flow-timeout")
    try:
        timeout = None
        if seconds is not None:
            timeout = number_of("--flow-timeout", seconds, 1, _MAX_FLOW_TIMEOUT_S)
        content = profiles.new(arguments.given["--profile"], name, addresses, timeout).encode()
    except (profiles.ProfileError, ValueError) as error:
        raise CommandError(str(error)) from error

    change = define.change(name, content, common.services_dir())
    if change.before is not None and change.before.content != content:
        raise CommandError(
            f"{name} is defined already, and not as this profile makes it: edit {change.path}, or "
            f"remove it first (udpgrm service remove {name})"
        )
    service, _ = loader.parse(name, content)
    if service is not None:
        unit_from.make(service)  # without the package there is nothing to define

    def set_up() -> Optional[Migration]:
        service_unit.write(name)
        return service_instances.adopt_package(arguments, name)

    return _put(arguments, name, change, content, set_up)


def _put(
    arguments: Arguments,
    name: str,
    change: Change,
    content: bytes,
    set_up: Callable[[], Optional[Migration]] = lambda: None,
) -> int:
    """Write a definition, and have set_up done if it is valid."""
    problems = define.problems(name, content, common.services_dir()) if change.changed else []
    adopted = None
    if not problems and not arguments.flag("--check"):
        if change.changed:
            change.apply()
        adopted = set_up()
    _report(arguments, name, change, problems, adopted)
    return 1 if problems else 0


def _remove(arguments: Arguments, name: str) -> int:
    """Delete a definition, unless the service has flows, and do not start it at boot."""
    change = define.change(name, None, common.services_dir())
    if change.changed:
        if not arguments.flag("--lose-flows"):
            reason = _loss(arguments, name)
            if reason is not None:
                raise CommandError(f"{name}: {reason} (or remove it with --lose-flows)")
        if not arguments.flag("--check"):
            change.apply()
            service_instances.disable(name)
    _report(arguments, name, change, [], None)
    return 0


def _loss(arguments: Arguments, name: str) -> Optional[str]:
    try:
        described = status.document_of(arguments, name)
    except loader.DefinitionError as error:
        return f"its flows are not known without a valid definition: {error}"
    return ending.loss(described)


def _report(
    arguments: Arguments,
    name: str,
    change: Change,
    problems: list[Problem],
    adopted: Optional[Migration],
) -> None:
    if arguments.flag("--json"):
        common.print_json(
            {
                "service": name,
                "path": str(change.path),
                "changed": change.changed and not problems,
                "before": None if change.before is None else change.before.to_json(),
                "after": None if change.after is None else change.after.to_json(),
                "problems": [vars(problem) for problem in problems],
                "adopted": None if adopted is None else adopted.unit,
                "notes": [] if adopted is None else adopted.notes,
            }
        )
        return
    for problem in problems:
        print(problem)
    if not problems:
        word = "removed" if change.after is None else "defined"
        print(f"{name}: {word}{common.ending(arguments, change.changed)}")
    if adopted is not None:
        print(f"{name}: {adopted.unit} is its first generation: udpgrm restart {name} replaces it")
        for note in adopted.notes:
            print(f"  {note}")
