# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The notice to an instance that its drain begins: a signal, or a command.

It is given once, by the journal, and what goes wrong with it fails no restart.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

from udpgrm.restart import host
from udpgrm.restart.instances import Instances
from udpgrm.restart.journal import Journal, warn
from udpgrm.restart.prober import Evidence
from udpgrm.restart.systemd import SystemdError
from udpgrm.services.definition import Notice

#: A notice is an order to begin something; a command that waits for its end belongs elsewhere.
_COMMAND_S = 10.0
#: Signals that end no process which knows nothing of them: signal(7).
_HARMLESS = (signal.SIGURG, signal.SIGWINCH)
#: The lines of proc(5) with signals that a process catches, ignores, or waits for by signalfd(2).
_PREPARED = ("SigCgt:", "SigIgn:", "SigBlk:")
_CUT = "the restart was interrupted meanwhile: it may not have been given"


class _Failed(Exception):
    """Raised when the notice could not be given; the message says why."""


def give(notice: Notice, instances: Instances, generation: int, journal: Journal) -> dict[str, Any]:
    """Notify an instance unless the journal says that it was, and return the evidence.

    Raises Suspended.
    """
    given: dict[str, Any] = journal.plan.setdefault("notices", {})
    if str(generation) not in given:
        entry = given[str(generation)] = {
            "instance": instances.name(generation),
            "signal": notice.signal,
            "command": None if notice.command is None else _arguments(notice.command, generation),
            "given": host.current.time(),
            "error": _CUT,
        }
        journal.save()  # before it is given: a resume must not repeat it
        entry["error"] = None
        try:
            if entry["command"] is not None:
                _run(entry["command"])
            else:
                _send(signal.Signals[str(notice.signal)], instances.main_process(generation))
        except (_Failed, SystemdError) as error:
            entry["error"] = str(error)
        journal.note()
    evidence: dict[str, Any] = given[str(generation)]
    return evidence


def report(
    notice: Notice, instances: Instances, generation: int, journal: Journal, evidence: Evidence
) -> None:
    """Notify an instance that its drain begins, and add that to the evidence. Raises Suspended."""
    given = evidence["notice"] = give(notice, instances, generation, journal)
    if given["error"] is not None:
        warn(evidence, f"{given['instance']} got no notice of its drain: {given['error']}")


def was_given(generation: int, journal: Journal) -> bool:
    """Return whether an instance may know that it drained."""
    return str(generation) in journal.plan.get("notices", {})


def _arguments(command: tuple[str, ...], generation: int) -> list[str]:
    """Return a command with %i replaced as systemd does; %% is one %."""
    return [
        "%".join(part.replace("%i", str(generation)) for part in word.split("%%"))
        for word in command
    ]


def _send(number: signal.Signals, pid: int) -> None:
    """Send a signal to a process that is prepared for it."""
    if number not in _HARMLESS and not _is_prepared(pid, number):
        raise _Failed(
            f"pid {pid} neither catches nor ignores {number.name}, which would end it: not sent"
        )
    try:
        host.current.send(pid, number)
    except OSError as error:
        raise _Failed(f"pid {pid}: {error.strerror}") from error


def _is_prepared(pid: int, number: signal.Signals) -> bool:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
            if line.startswith(_PREPARED) and int(line.split()[1], 16) >> (number - 1) & 1:
                return True
    return False


def _run(command: list[str]) -> None:
    import subprocess

    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # a Ctrl-C is for us
        )
    except OSError as error:
        raise _Failed(f"{command[0]}: {error.strerror}") from error
    with process:
        try:
            _, printed = process.communicate(timeout=_COMMAND_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise _Failed(f"{command[0]}: killed after {_COMMAND_S:g} s") from None
    if process.returncode:
        last = (printed.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
        raise _Failed(f"{command[0]}: {last}")
