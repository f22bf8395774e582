# SPDX-License-Identifier: Apache-2.0
"""udpgrm restart."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from udpgrm.cli import common
from udpgrm.cli.errors import EXIT_ERROR, CommandError
from udpgrm.cli.options import Arguments
from udpgrm.restart import follow, foreground, lock, statedir, systemd
from udpgrm.restart import journal as journals
from udpgrm.restart.follow import LaunchError
from udpgrm.restart.journal import Journal
from udpgrm.restart.machine import Outcome
from udpgrm.restart.plan import Refused
from udpgrm.restart.progress import BestEffort, Lines, Nothing, Progress, Terminal
from udpgrm.restart.systemd import SystemdError
from udpgrm.restart.transaction import Detached, Superseded
from udpgrm.services import loader, validate
from udpgrm.state import maps as state

#: The restart has not ended, and this command has.
EXIT_SUSPENDED = 3
EXIT_STATUS = {Outcome.FINISHED: 0, Outcome.ROLLED_BACK: 1, Outcome.FAILED: 2}
_MODES = ("--follow", "--no-follow", "--foreground", "--check")


def run(arguments: Arguments) -> int:
    """Replace the instance of a service that serves by a new one."""
    if arguments.flag("--resume") and not arguments.operands:
        return _resume_all(arguments)
    name = service_name(arguments)
    modes = [mode for mode in _MODES if arguments.flag(mode)]
    if len(modes) > 1:
        raise CommandError(f"{modes[0]} and {modes[1]} do not combine")
    with_resume = arguments.flag("--resume")
    if with_resume and modes and modes[0] in ("--follow", "--check"):
        raise CommandError(f"{modes[0]} and --resume do not combine")
    with explained():
        if arguments.flag("--follow"):
            return attend(arguments, name)
        if arguments.flag("--check"):
            return _check(arguments, name)
        if not with_resume:
            _hand_over(arguments, name)
        if is_here(arguments) or (with_resume and not _is_suspended(name)):
            return here(arguments, functools.partial(_work, arguments, name))
        if not with_resume:
            _plan(arguments, name)  # so that most refusals come from here
        return elsewhere(arguments, name, ["--resume"] if with_resume else [])


def _is_suspended(name: str) -> bool:
    """Return whether a restart waits to be resumed, which is worth a unit."""
    last = journals.load(name)
    return last is not None and last.position.outcome in (None, Outcome.FAILED)


def _resume_all(arguments: Arguments) -> int:
    """Resume every restart that was interrupted, as at boot; return the worst exit status."""
    status = 0
    for name in journals.unfinished():
        one = Arguments("restart", [name], {**arguments.given, "--no-follow": ""})
        try:
            with explained():
                if is_here(arguments):
                    status = max(status, here(one, functools.partial(_work, one, name)))
                else:
                    status = max(status, elsewhere(one, name, ["--resume"]))
        except CommandError as error:  # the others are not to wait for this one
            _note(str(error))
            status = EXIT_ERROR
    return status


def service_name(arguments: Arguments) -> str:
    """Return the operand. Raises CommandError if it is no service's name."""
    common.want_operands(arguments, 1, 1)
    name = arguments.operands[0]
    try:
        statedir.path_of(name)
    except statedir.JournalError as error:
        raise CommandError(str(error)) from error
    return name


_ERRORS = (
    foreground.NotPossible,
    SystemdError,
    LaunchError,
    Refused,
    lock.Busy,
    statedir.JournalError,
    loader.DefinitionError,
    validate.MissingLibrary,
    state.StateError,
)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Raise CommandError for errors of a restart."""
    try:
        yield
    except _ERRORS as error:
        raise CommandError(str(error)) from error


def _hand_over(arguments: Arguments, name: str) -> None:
    """Hand an earlier restart that drains over to a process of its own."""
    last = journals.load(name)
    if last is None or not last.may_be_superseded:
        return

    def continue_drain(earlier: str) -> None:
        command = [*_globals(arguments), "restart", earlier, "--resume", "--foreground"]
        if systemd.runs():
            follow.launch(earlier, command)
        else:
            follow.spawn(command)

    service = loader.load(name, common.services_dir())
    foreground.hand_over(service, common.pin_dir(arguments), continue_drain)


def _plan(arguments: Arguments, name: str) -> dict[str, Any]:
    last = journals.load(name)
    drains = last is not None and last.may_be_superseded
    if lock.is_locked(name) and not drains:
        raise CommandError(f"{name}: a restart runs already: {lock.holder(name)}")
    try:
        return foreground.plan(loader.load(name, common.services_dir()), common.pin_dir(arguments))
    except FileNotFoundError as error:
        common.open_state(arguments)  # a better message for a missing state
        raise CommandError(str(error)) from error


def _check(arguments: Arguments, name: str) -> int:
    plan = _plan(arguments, name)
    if arguments.flag("--json"):
        common.print_json(plan)
    else:
        print(f"{name}: generation {plan['from_generation']} -> {plan['to_generation']}")
        print(f"start {plan['instance']}, stop {plan['stops']}")
        for group in plan["groups"]:
            print("\t{address} app {application}: {sockets} sockets".format(**group))
    return 0


def _work(arguments: Arguments, name: str, progress: Progress) -> Journal:
    if arguments.flag("--resume"):
        return foreground.resume(name, common.pin_dir(arguments), progress)
    service = loader.load(name, common.services_dir())
    text = (common.services_dir() / f"{name}{loader.SUFFIX}").read_text(encoding="utf-8")
    return foreground.begin(service, text, common.pin_dir(arguments), progress)


def is_here(arguments: Arguments) -> bool:
    """Return whether this process runs the restart; else a unit of systemd's does."""
    return arguments.flag("--foreground") or not systemd.runs()


def here(
    arguments: Arguments,
    work: Callable[[Progress], Journal],
    exit_status: dict[Outcome, int] = EXIT_STATUS,
) -> int:
    """Run a restart in this process."""
    try:
        journal = work(_progress(arguments))
    except Superseded:
        _note(f"{arguments.operands[0]}: drains on by itself, as the next restart begins")
        return EXIT_SUSPENDED
    except Detached:
        name = arguments.operands[0]
        # a restart in a terminal continues by itself, but a unit that is stopped must stop
        if systemd.runs() and "INVOCATION_ID" not in os.environ:
            follow.launch(name, [*_globals(arguments), "restart", name, "--resume", "--foreground"])
            _note(f"{name}: drains on in the background (udpgrm restart {name} --follow)")
        else:
            _note(f"{name}: suspended in its drain (udpgrm restart {name} --resume continues)")
        return EXIT_SUSPENDED
    except journals.Suspended as error:
        name = arguments.operands[0]
        _note(f"{name}: suspended: {error} (udpgrm restart {name} --resume continues)")
        return EXIT_SUSPENDED
    return _end(arguments, journal, exit_status)


def elsewhere(
    arguments: Arguments,
    name: str,
    options: list[str],
    exit_status: dict[Outcome, int] = EXIT_STATUS,
) -> int:
    """Run a restart in a unit, and follow it."""
    before = journals.load(name)
    command = str(arguments.command)
    unit = follow.launch(name, [*_globals(arguments), command, name, *options, "--foreground"])
    follow.await_begin(name, unit, before)
    if arguments.flag("--no-follow"):
        if arguments.flag("--json"):
            common.print_json({"service": name, "unit": unit})
        return 0
    return attend(arguments, name, exit_status)


def attend(arguments: Arguments, name: str, exit_status: dict[Outcome, int] = EXIT_STATUS) -> int:
    """Follow a restart that another process runs."""
    try:
        journal = follow.follow(name, BestEffort(_progress(arguments)))
    except KeyboardInterrupt:
        _note(f"{name}: continues without being watched (udpgrm restart {name} --follow)")
        return EXIT_SUSPENDED
    if journal is None:
        raise CommandError(f"{name}: there was no restart")
    return _end(arguments, journal, exit_status)


def _end(arguments: Arguments, journal: Journal, exit_status: dict[Outcome, int]) -> int:
    if arguments.flag("--json"):
        with common.unread():
            common.print_json(journal.to_json())
    outcome = journal.position.outcome
    if outcome is not None:
        return exit_status[outcome]
    name, step = journal.name, journal.position.step.value
    how = "was suspended" if journal.detached else "was interrupted"
    _note(f"{name}: the restart {how} in {step} (udpgrm restart {name} --resume continues)")
    return EXIT_SUSPENDED


def _progress(arguments: Arguments) -> Progress:
    if arguments.flag("--json"):
        return Nothing()
    return Terminal(sys.stdout) if sys.stdout.isatty() else Lines(sys.stdout)


def _globals(arguments: Arguments) -> list[str]:
    return [f"--pin-dir={common.pin_dir(arguments)}"]


def _note(text: str) -> None:
    with contextlib.suppress(OSError):  # the exit status reports that too
        print(f"udpgrm: {text}", file=sys.stderr, flush=True)
