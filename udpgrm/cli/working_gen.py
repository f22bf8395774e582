# SPDX-License-Identifier: Apache-2.0
"""udpgrm working-gen."""

from __future__ import annotations

from udpgrm import abi
from udpgrm.cli import common
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.numbers import whole_number
from udpgrm.state.view import GroupView, Viewer, newest


def run(arguments: Arguments) -> int:
    """Send new flows of an address to another generation."""
    common.want_operands(arguments, 2, 2)
    where = common.operand_address(arguments)
    application = arguments.number("--app", 0, 0, abi.MAX_APPS - 1)
    maps = common.open_state(arguments)
    view = common.one_group(Viewer(maps), where)
    if application >= len(view.working):
        raise CommandError(f"{where} has no application {application}, only {len(view.working)}")
    after = _wanted(view, application, arguments.operands[1])
    before = view.working[application]
    if after != before and not arguments.flag("--check"):
        group = maps.group(view.number)
        group.working_slot[application] = abi.slot_of(group.max_apps, application, after)
        group.working[application] = after
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
        print(f"{where} app {application} gen {before} -> {after}")
    return 0


def _wanted(view: GroupView, application: int, text: str) -> int:
    if text == "newest":
        found = newest(view, application)
        if found is None:
            raise CommandError(f"no generation of {view.address} has a living socket")
        return found
    number = whole_number(text, 0, abi.GENERATION_NONE)
    if number is None:
        raise CommandError(f"not a generation: {text!r} (a number of 0..4294967295, or newest)")
    for item in view.generations:
        if item.application == application and item.generation == number and item.alive:
            return number
    raise CommandError(f"generation {text} of {view.address} has no registered socket")
