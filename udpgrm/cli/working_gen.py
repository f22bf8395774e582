# SPDX-License-Identifier: Apache-2.0
"""udpgrm working-gen."""

from __future__ import annotations

import socket

import udpgrm.client as grm
from udpgrm import abi
from udpgrm.cli import common
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.state import holders
from udpgrm.state.maps import Maps
from udpgrm.state.newest import newest
from udpgrm.state.view import GroupView, Viewer


def run(arguments: Arguments) -> int:
    """Steer new flows of an address to another generation."""
    common.want_operands(arguments, 2, 2)
    where = common.operand_address(arguments)
    application = arguments.number("--app", 0, 0, abi.MAX_APPS - 1)
    maps = common.open_state(arguments)
    view = common.one_group(Viewer(maps), where)
    common.want_application(view, where, application)
    after = _wanted(view, application, arguments.operands[1])
    before = view.working[application]
    if after != before and not arguments.flag("--check"):
        _promote(maps, view, application, after)
    if arguments.flag("--json"):
        common.print_json(
            {
                "address": where,
                "application": application,
                "changed": after != before,
                "before": before,
                "after": after,
            }
        )
    else:
        end = common.ending(arguments, True) if after != before else ""
        print(f"{where} app {application} gen {before} -> {after}{end}")
    return 0


def _promote(maps: Maps, view: GroupView, application: int, generation: int) -> None:
    """Set the option on a socket of the generation, as its server would.

    So the flows of the generation before are counted on, and tubular is notified.
    """
    members = {
        sock.so_cookie
        for item in view.generations
        if item.application == application and item.generation == generation
        for sock in item.sockets
    }
    taken = holders.duplicates(maps, members).values()
    found = [socket.socket(fileno=fd) for _, fd in taken]
    try:
        if not found:
            raise CommandError(f"no process here has a socket of generation {generation}")
        grm.promote(found[0], generation)
    finally:
        for sock in found:
            sock.close()


def _wanted(view: GroupView, application: int, text: str) -> int:
    if text == "newest":
        found = newest(view, application)
        if found is None:
            raise CommandError(f"no generation of {view.address} has a living socket")
        return found
    number = common.generation(text, "newest")
    for item in view.generations:
        if item.application == application and item.generation == number and item.alive:
            return number
    raise CommandError(f"generation {text} of {view.address} has no living socket")
