# SPDX-License-Identifier: Apache-2.0
"""udpgrm rollback."""

from __future__ import annotations

from udpgrm.cli import common, restart
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.restart import foreground, host, lock
from udpgrm.restart import journal as journals
from udpgrm.restart.machine import Outcome
from udpgrm.restart.transaction import rollback_path

#: Here a rolled back restart is a success.
_EXIT_STATUS = {Outcome.FINISHED: 255, Outcome.ROLLED_BACK: 0, Outcome.FAILED: 2}


def run(arguments: Arguments) -> int:
    """Roll back to the instance that served before, as long as it drains."""
    name = restart.service_name(arguments)
    restart.want_until(arguments)
    with restart.explained():
        journal = journals.load(name)
        if journal is None:
            raise CommandError(f"{name}: there was no restart")
        foreground.refuse_rollback(journal)
        if lock.is_locked(name):
            host.current.touch(rollback_path(name))
            if arguments.flag("--no-follow"):
                return restart.report_begun(arguments, name, None)
            status = restart.follow_other(arguments, name, True, _EXIT_STATUS)
            if status == _EXIT_STATUS[Outcome.FINISHED]:
                raise CommandError(f"{name}: too late: the restart has finished")
            return status
        if restart.is_here(arguments):
            return restart.here(
                arguments,
                lambda progress: foreground.roll_back(name, common.pin_dir(arguments), progress),
                _EXIT_STATUS,
            )
        return restart.elsewhere(arguments, name, [], _EXIT_STATUS)
