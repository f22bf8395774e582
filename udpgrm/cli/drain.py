# SPDX-License-Identifier: Apache-2.0
"""udpgrm drain."""

from __future__ import annotations

import sys
import time
from typing import Any, Optional

from udpgrm import abi
from udpgrm.cli import common
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.restart.drain import Decision, Watcher
from udpgrm.restart.groups import Groups
from udpgrm.restart.plan import Refused
from udpgrm.services.definition import Drain, DrainUntil, Group
from udpgrm.views.progress import DrainLine

_SAMPLE_S = 0.25
_MAX_FLOWS = 1 << 24
_MAX_S = 30 * 24 * 3600


def run(arguments: Arguments) -> int:
    """Wait until a generation has drained; return 1 if it has not in time. Stops nothing."""
    common.want_operands(arguments, 2, 2)
    where = common.operand_address(arguments)
    generation = common.generation(arguments.operands[1])
    application = arguments.number("--app", 0, 0, abi.MAX_APPS - 1)
    most = arguments.number("--max", int(Drain.max_s), 0, _MAX_S)
    until = DrainUntil(
        flows=_condition(arguments, "--flows", _MAX_FLOWS, DrainUntil.flows),
        quiet_s=_condition(arguments, "--quiet", _MAX_S, DrainUntil.quiet_s),
    )
    common.open_state(arguments).close()  # reports what is missing
    group = Group(where, application=application)
    groups = Groups(common.pin_dir(arguments), [group])
    line = None if arguments.flag("--json") else DrainLine(sys.stdout)
    try:
        _refuse_what_cannot_drain(groups, group, generation)
        watcher = Watcher(until, most)
        decision, report = _wait(groups, generation, watcher, line)
    except Refused as error:
        raise CommandError(str(error)) from error
    if decision is Decision.DRAINED and (doubt := watcher.doubt()):
        with common.ignore_epipe():
            print(f"udpgrm: {doubt}", file=sys.stderr)
    if arguments.flag("--json"):
        with common.ignore_epipe():
            common.print_json(
                {
                    "address": where,
                    "application": application,
                    "generation": generation,
                    "drained": decision is Decision.DRAINED,
                    **report,
                }
            )
    return 0 if decision is Decision.DRAINED else 1


def _refuse_what_cannot_drain(groups: Groups, group: Group, generation: int) -> None:
    """Raise CommandError for a generation that cannot drain, or never existed. Raises Refused.

    A generation before the working one may have ended long ago, and counts as drained.
    """
    working = groups.working()[group.address]
    if working is None:
        raise CommandError(f"no group at {group.address} (udpgrm list shows all groups)")
    name = f"generation {generation} of {group.address}"
    if working == generation:
        raise CommandError(f"{name} is the working one: it gets flows")
    if abi.is_from(working, generation) and not groups.has_had(group, generation):
        raise CommandError(f"{name} never had a socket ({working} is active)")


def _condition(arguments: Arguments, name: str, most: int, default: Optional[float]) -> Any:
    """Return the value of a condition's option, else the default if no condition is given."""
    if arguments.flag(name):
        return arguments.number(name, 0, 0, most)
    others = arguments.flag("--flows") or arguments.flag("--quiet")
    return None if others else default


def _wait(
    groups: Groups, generation: int, watcher: Watcher, line: Optional[DrainLine]
) -> tuple[Decision, dict[str, Any]]:
    while True:
        decision = watcher.decide(groups.sample(generation))
        report = watcher.report()
        if line is not None:
            with common.ignore_epipe():
                line.show(report, decision.value)
        if decision is not Decision.WAIT:
            return decision, report
        time.sleep(_SAMPLE_S)
