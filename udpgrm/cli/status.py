# SPDX-License-Identifier: Apache-2.0
"""udpgrm status."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Optional

from udpgrm.cli import common
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.kernel import bpffs, netns
from udpgrm.restart import journal as journals
from udpgrm.restart import lock, statedir
from udpgrm.restart.groups import Groups
from udpgrm.restart.plan import Refused
from udpgrm.restart.strays import Stray
from udpgrm.services import loader, validate
from udpgrm.services.definition import Service
from udpgrm.state import address
from udpgrm.state import maps as state
from udpgrm.state.view import GroupView, Viewer
from udpgrm.version import __version__
from udpgrm.views import services


def run(arguments: Arguments) -> int:
    """Show services, their groups and instances, and the last restart of each."""
    common.want_operands(arguments, 0, 1)
    only = arguments.operands[0] if arguments.operands else None
    try:
        document = _document(arguments, only)
    except (validate.MissingLibrary, statedir.JournalError) as error:
        raise CommandError(str(error)) from error
    if arguments.flag("--json"):
        common.print_json(document)
        return 0
    daemon = document["daemon"]
    if daemon["running"]:
        print(f"daemon: pid {daemon['pid']}")
    else:
        why = bpffs.unmounted(common.pin_dir(arguments))
        print(f"daemon: not running{', and ' if why else ''}{why}")
    for item in document["services"]:
        print(services.text(item), end="")
    for problem in document["problems"]:
        print(f"not read: {problem}")
    if document["others"]:
        print(f"groups of no service: {', '.join(document['others'])}")
    return 0


def _document(arguments: Arguments, only: Optional[str]) -> dict[str, Any]:
    directory = common.services_dir()
    found = _definitions(directory, only)
    views, daemon = _kernel_state(arguments)
    described = []
    problems = [str(problem) for problem in found.problems]
    for _, definition in found.services:
        if only not in (None, definition.name):
            continue
        try:
            described.append(describe(arguments, definition, views))
        except statedir.JournalError as error:
            if only is not None:
                raise
            problems.append(str(error))  # the others are not to go without for this one
    if only is not None and not described:
        try:
            loader.load(only, directory)
        except loader.DefinitionError as error:
            raise CommandError(str(error)) from error
    # groups have no device in their address
    managed = {
        address.read(group.address).plain for _, item in found.services for group in item.groups
    }
    return {
        "version": __version__,
        "daemon": daemon,
        "services": described,
        "problems": problems,
        "others": sorted({view.address for view in views} - managed),
    }


def describe(
    arguments: Arguments, definition: Service, views: list[GroupView]
) -> services.Document:
    """Return the document of a service; views: the live groups. Raises JournalError."""
    journal = journals.load(definition.name)
    running = lock.is_locked(definition.name)
    earlier = journals.superseded(definition.name)
    strays = _strays(arguments, definition)
    # as restarts do, skip groups at this address in another network namespace
    here = [view for view in views if view.netns == netns.own_cookie()]
    return services.service(definition, journal, running, here, earlier, strays)


def document_of(arguments: Arguments, name: str) -> services.Document:
    """Return the document of a service by name. Raises DefinitionError, JournalError."""
    definition = loader.load(name, common.services_dir())
    views, _ = _kernel_state(arguments)
    return describe(arguments, definition, views)


def _strays(arguments: Arguments, definition: Service) -> list[Stray]:
    """Return the sockets at a service's addresses in no generation; without state, none."""
    with contextlib.suppress(FileNotFoundError, Refused, state.StateError):
        return Groups(common.pin_dir(arguments), definition.groups).strays()
    return []


def _definitions(directory: Path, only: Optional[str]) -> loader.Found:
    try:
        return loader.read_directory(directory)
    except FileNotFoundError as error:
        if only is not None:
            raise CommandError(loader.unknown(only, directory)) from error
        return loader.Found()


def _kernel_state(arguments: Arguments) -> tuple[list[GroupView], dict[str, Any]]:
    """Return the live groups, and the daemon; without state neither."""
    maps = common.state_if_any(arguments)
    if maps is None:
        return [], {"running": False, "pid": None}
    pid = common.daemon_pid(arguments, maps)
    return Viewer(maps).groups(), {"running": pid is not None, "pid": pid}
