# SPDX-License-Identifier: Apache-2.0
"""udpgrm delete."""

from __future__ import annotations

from udpgrm.cli import common
from udpgrm.cli.options import Arguments
from udpgrm.state import maps as state
from udpgrm.state.view import Viewer


def run(arguments: Arguments) -> int:
    """Delete the state of the groups at an address."""
    common.want_operands(arguments, 1, 1)
    where = common.operand_address(arguments)
    maps = common.open_state(arguments)
    for group in common.groups_here(Viewer(maps), where):
        state.delete(maps, group.group_id)
    if arguments.flag("--json"):
        common.print_json({"address": where, "changed": True})
    return 0
