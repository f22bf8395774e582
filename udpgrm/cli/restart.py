# SPDX-License-Identifier: Apache-2.0
"""udpgrm restart."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Optional

from udpgrm.cli import common, planning, showing
from udpgrm.cli.errors import EXIT_ERROR, CommandError
from udpgrm.cli.options import Arguments
from udpgrm.cli.planning import Plan
from udpgrm.restart import follow, foreground, lock, statedir, systemd
from udpgrm.restart import journal as journals
from udpgrm.restart.follow import Followed, LaunchError, is_decided
from udpgrm.restart.journal import Journal
from udpgrm.restart.machine import Outcome
from udpgrm.restart.plan import Refused
from udpgrm.restart.progress import BestEffort, Progress
from udpgrm.restart.release import AUTO, Action, is_verified
from udpgrm.restart.systemd import SystemdError
from udpgrm.restart.transaction import Detached, Superseded
from udpgrm.services import loader, validate
from udpgrm.state import maps as state

#: The restart has not ended, and this command has.
EXIT_SUSPENDED = 3
EXIT_STATUS = {Outcome.FINISHED: 0, Outcome.ROLLED_BACK: 1, Outcome.FAILED: 2}
_MODES = ("--follow", "--no-follow", "--foreground", "--check")
_EXCLUSIVE = (
    *((mode, "--resume") for mode in ("--follow", "--check", "--release")),
    ("--follow", "--release"),
    *((mode, "--until") for mode in ("--no-follow", "--foreground", "--check")),
)
_VERIFIED, _FINISHED = "verified", "finished"
_MAX_S = 1 << 31


def run(arguments: Arguments) -> int:
    """Replace the instance of a service that serves by a new one."""
    if arguments.flag("--resume") and not arguments.operands:
        return _resume_all(arguments)
    name = service_name(arguments)
    _refuse_combinations(arguments)
    with_resume = arguments.flag("--resume")
    with explained():
        if arguments.flag("--follow"):
            return follow_other(arguments, name, changed=False)
        if arguments.flag("--check"):
            return planning.check(arguments, name)
        if arguments.flag("--release"):
            return _ensure(arguments, name)
        if not with_resume:
            _hand_over(arguments, name)
        if is_here(arguments) or (with_resume and not _is_suspended(name)):
            return here(arguments, functools.partial(_work, arguments, name))
        if not with_resume:
            plan = planning.make(arguments, name)  # so that most refusals come from here
            _print_notes(name, plan.document["notes"])
        return elsewhere(arguments, name, ["--resume"] if with_resume else [])


def _print_notes(name: str, notes: Sequence[str]) -> None:
    for note in notes:
        _note(f"{name}: {note}")


def _refuse_combinations(arguments: Arguments) -> None:
    modes = [mode for mode in _MODES if arguments.flag(mode)]
    for one, other in (*itertools.combinations(modes, 2), *_EXCLUSIVE):
        if arguments.flag(one) and arguments.flag(other):
            raise CommandError(f"{one} and {other} do not combine")
    if arguments.flag("--timeout") and not arguments.flag("--follow"):
        raise CommandError("--timeout goes with --follow")
    if not arguments.given.get("--release", AUTO):
        raise CommandError("--release: the name is missing")
    want_until(arguments)


def want_until(arguments: Arguments) -> None:
    """Raise CommandError for an --until that there is not."""
    until = arguments.given.get("--until", _FINISHED)
    if until not in (_VERIFIED, _FINISHED):
        raise CommandError(f"--until: {until!r} is not one of {_VERIFIED}, {_FINISHED}")


def _ensure(arguments: Arguments, name: str) -> int:
    """Restart a service unless the release serves; resume or follow a restart to it."""
    changed = False
    while True:
        # two commands at once: the second finds the restart that the first has begun
        with contextlib.nullcontext() if is_here(arguments) else lock.beginning(name):
            plan = planning.make(arguments, name)
            changed |= plan.changes
            if plan.action is Action.RESTART:
                if not is_here(arguments):
                    _print_notes(name, plan.document["notes"])
                _hand_over(arguments, name)
            if plan.changes and is_here(arguments):
                return _ensure_here(arguments, name, plan)
            unit = _launch(arguments, name, _options(plan)) if plan.changes else None
        if plan.action is not Action.NONE and not plan.suffices:
            # once that one is verified, it does not prevent the next one
            last = follow.follow(name, BestEffort(showing.others(arguments)), is_decided)
            if last.journal is None or not is_verified(last.journal.to_json()):
                return _end(arguments, last, changed)
        elif arguments.flag("--no-follow"):
            return report_begun(arguments, name, unit)
        elif plan.action is Action.NONE:
            return _report_serving(arguments, name, plan)
        else:
            return follow_other(arguments, name, changed)


def _ensure_here(arguments: Arguments, name: str, plan: Plan) -> int:
    if not plan.suffices:
        raise CommandError(
            f"{name}: a restart to another release ({plan.release}) is unfinished: "
            f"udpgrm restart {name} --resume"
        )
    given = {**arguments.given, "--release": str(plan.release)}
    if plan.action is Action.RESUME:
        given["--resume"] = ""
    asked = arguments._replace(given=given)
    return here(asked, functools.partial(_work, asked, name))


def _options(plan: Plan) -> list[str]:
    """Return the options of the command that does what a plan says."""
    return ["--resume"] if plan.action is Action.RESUME else [f"--release={plan.release}"]


def _report_serving(arguments: Arguments, name: str, plan: Plan) -> int:
    if arguments.flag("--json"):
        common.print_json({**journals.recent(name)[0], "running": False, "changed": False})
    else:
        _note(f"{name}: release {plan.release} serves already")
    return 0


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
        follow.continue_drain(earlier, command)

    service = loader.load(name, common.services_dir())
    foreground.hand_over(service, common.pin_dir(arguments), continue_drain)


def _work(arguments: Arguments, name: str, progress: Progress) -> Journal:
    if arguments.flag("--resume"):
        return foreground.resume(name, common.pin_dir(arguments), progress)
    service = loader.load(name, common.services_dir())
    text = (common.services_dir() / f"{name}{loader.SUFFIX}").read_text(encoding="utf-8")
    to_release = planning.release_of(service, arguments.given.get("--release"))
    pin_dir, on_note = common.pin_dir(arguments), lambda note: _print_notes(name, [note])
    return foreground.begin(service, text, to_release, pin_dir, progress, on_note)


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
        journal = work(showing.own(arguments))
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
    return _end(arguments, Followed(journal, False), True, exit_status)


def elsewhere(
    arguments: Arguments,
    name: str,
    options: list[str],
    exit_status: dict[Outcome, int] = EXIT_STATUS,
) -> int:
    """Run a restart in a unit, and follow it."""
    unit = _launch(arguments, name, options)
    if arguments.flag("--no-follow"):
        return report_begun(arguments, name, unit)
    return follow_other(arguments, name, True, exit_status)


def _launch(arguments: Arguments, name: str, options: list[str]) -> str:
    before = journals.load(name)
    command = str(arguments.command)
    unit = follow.launch(name, [*_globals(arguments), command, name, *options, "--foreground"])
    follow.await_begin(name, unit, before)
    return unit


def report_begun(arguments: Arguments, name: str, unit: Optional[str]) -> int:
    """Answer a command that does not follow what it has begun; unit None: another one runs it."""
    if arguments.flag("--json"):
        common.print_json({"service": name, "unit": unit})
    return 0


def follow_other(
    arguments: Arguments,
    name: str,
    changed: bool,
    exit_status: dict[Outcome, int] = EXIT_STATUS,
) -> int:
    """Follow a restart that another process runs. changed: this command has begun or resumed it."""
    limit = arguments.number("--timeout", _MAX_S, 0, _MAX_S)
    progress = BestEffort(showing.others(arguments))
    try:
        last = follow.follow(name, progress, functools.partial(_is_enough, arguments), limit)
    except KeyboardInterrupt:
        _note(f"{name}: continues without being watched (udpgrm restart {name} --follow)")
        return EXIT_SUSPENDED
    return _end(arguments, last, changed, exit_status)


def _is_enough(arguments: Arguments, journal: Journal) -> bool:
    if arguments.given.get("--until", _FINISHED) == _FINISHED:
        return follow.has_ended(journal)
    # a rollback is waited for from before it has begun
    return is_decided(journal) and (
        arguments.command != "rollback" or not is_verified(journal.to_json())
    )


def _end(
    arguments: Arguments,
    last: Followed,
    changed: bool,
    exit_status: dict[Outcome, int] = EXIT_STATUS,
) -> int:
    """Report a restart that was followed, and return the exit status."""
    journal = last.journal
    if journal is None:
        raise CommandError(f"{arguments.operands[0]}: there was no restart")
    with common.ignore_epipe():  # also when buffered output of before is flushed
        if arguments.flag("--json"):
            answer = {**journal.to_json(), "running": last.running, "changed": changed}
            common.print_json(answer)
    outcome = journal.position.outcome
    if outcome is None and arguments.flag("--until") and _is_enough(arguments, journal):
        is_back = not is_verified(journal.to_json())
        outcome = Outcome.ROLLED_BACK if is_back else Outcome.FINISHED
    if outcome is not None:
        return exit_status[outcome]
    name, step = journal.name, journal.position.step.value
    if last.running:
        _note(f"{name}: the restart continues in {step} (udpgrm restart {name} --follow)")
        return EXIT_SUSPENDED
    how = "was suspended" if journal.detached else "was interrupted"
    _note(f"{name}: the restart {how} in {step} (udpgrm restart {name} --resume continues)")
    return EXIT_SUSPENDED


def _globals(arguments: Arguments) -> list[str]:
    return [f"--pin-dir={common.pin_dir(arguments)}"]


def _note(text: str) -> None:
    with contextlib.suppress(OSError):  # the exit status reports that too
        print(f"udpgrm: {text}", file=sys.stderr, flush=True)
