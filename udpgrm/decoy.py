# SPDX-License-Identifier: Apache-2.0
"""The command `udpgrm decoy`, `mmdecoy` for compatibility with the reference.

Runs a command as its child. When the child sends it SIGURG it ends, and the
child continues: with KillMode=process the service is stopped to systemd,
and starts the next instance while this one drains. Until then it passes every
signal on, and ends as the child ends.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from typing import Optional

from udpgrm.cli.errors import EXIT_ERROR, EXIT_HELP

USAGE = """\
Usage: udpgrm decoy -- COMMAND...
       mmdecoy -- COMMAND...

Runs COMMAND, passes every signal on to it and exits as it does. When COMMAND
sends SIGURG to this process, it exits with status 0 and COMMAND continues.
"""

_SI_KERNEL = 0x80  # a terminal's, say: the whole process group has got it
#: Signals that systemd sends to one process by its pid: the server, not the decoy.
_ADDRESSED = ("LISTEN_PID", "WATCHDOG_PID", "SYSTEMD_EXEC_PID")
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # as sh(1) has it


def main(arguments: list[str]) -> int:
    """Run one command line, and return the exit status."""
    if arguments and arguments[0] in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return EXIT_HELP
    command = arguments[1:] if arguments and arguments[0] == "--" else arguments
    if not command or command[0].startswith("-"):
        print("udpgrm decoy: the command is missing (udpgrm decoy -- COMMAND...)", file=sys.stderr)
        return EXIT_ERROR
    # blocked before there is a child: every signal finds one of both in charge
    everything = signal.valid_signals()
    before = {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, everything)}
    # if it is ignored, the ends of children are not reported
    on_end = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    decoy = os.getpid()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGCHLD, on_end)
        _become(command, decoy, before)
    status = _stand_in(child, everything)
    return 0 if status is None else _end_as(status)


def _become(command: list[str], decoy: int, mask: set[int]) -> None:
    """Execute the command in the child, as if there were no decoy."""
    # Python ignores both, and hides how they were: systemd ignores SIGPIPE
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if os.environ.get("SYSTEMD_EXEC_PID") != str(decoy):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for name in _ADDRESSED:
        if os.environ.get(name) == str(decoy):
            os.environ[name] = str(os.getpid())
            if name == "LISTEN_PID":  # systemd 258's identity of the same process
                os.environ.pop("LISTEN_PIDFDID", None)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"udpgrm decoy: {command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE)


def _stand_in(child: int, everything: set[signal.Signals]) -> Optional[int]:
    """Wait for the child's end, and return its status; None: it continues alone."""
    while True:
        info = signal.sigwaitinfo(everything)
        if info.si_signo == signal.SIGCHLD:
            status = _reap(child)
            if status is not None:
                return status
        elif info.si_signo == signal.SIGURG and info.si_pid == child:
            return None
        elif info.si_code != _SI_KERNEL or os.getpgid(child) != os.getpgrp():
            # it may run as another user by now
            with contextlib.suppress(PermissionError):
                os.kill(child, info.si_signo)


def _reap(child: int) -> Optional[int]:
    """Return the child's status if it has ended; process 1 has further children, too."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in (0, child):
            return status if pid else None


def _end_as(status: int) -> int:
    """Exit with the child's status, or die by the signal that it died by."""
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    number = os.WTERMSIG(status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the child has dumped core, if any
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    return 128 + number  # process 1 of a container is not killed by its own signal


def run() -> None:
    """Run the command of the console script."""
    sys.exit(main(sys.argv[1:]))
