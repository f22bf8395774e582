# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Child processes that never outlive the work they are part of."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLEET = str(ROOT / "testbed" / "fleet")
GRACE = 10.0


class Interrupted(BaseException):
    """A signal asked to stop; like KeyboardInterrupt no error to be handled on the way."""


def interrupt_on_signals() -> None:
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted`."""

    def interrupt(number: int, _frame: object) -> None:
        ignore_signals()  # once is enough: what follows is the cleaning up
        raise Interrupted(signal.Signals(number).name)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


def exit_status(work: Callable[[], bool]) -> int:
    """Do what signals may interrupt, and return a command's exit status; 0: all was well."""
    interrupt_on_signals()
    try:
        return 0 if work() else 1
    except Interrupted as reason:
        print(f"interrupted by {reason}", file=sys.stderr)
        return 130
    except (RuntimeError, subprocess.SubprocessError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1


def ignore_signals() -> None:
    """Let nothing interrupt the cleaning up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _reset_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _end(process: subprocess.Popen[str]) -> None:
    """End the process and its group, gently first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
            return


@contextlib.contextmanager
def started(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    piped: bool = False,
) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a group of its own; it has ended when the block is left.

    Args:
        command: program and arguments; the working directory is the project's.
        environment: variables to add.
        piped: give it pipes as standard input and output instead of /dev/null and ours.
    """
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
        stdout=subprocess.PIPE if piped else None,
        text=True,
        # Ctrl-C in the terminal is for us alone: we end the others in order
        start_new_session=True,
        preexec_fn=_reset_signals,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            _end(process)
        if process.stdin and process.stdout:
            process.stdin.close()
            process.stdout.close()


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Run a command to its end and return its exit status."""
    with started(command, environment=environment) as process:
        return process.wait()


def check(command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Run a command that must succeed.

    Raises:
        subprocess.CalledProcessError: it did not.
    """
    status = run(command, environment)
    if status:
        raise subprocess.CalledProcessError(status, command)


def output(command: Sequence[str]) -> str:
    """Run a command that must succeed and return what it printed."""
    with started(command, piped=True) as process:
        text, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return text
