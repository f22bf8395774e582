# SPDX-License-Identifier: Apache-2.0
"""The command `udpgrm activate`, `udpgrm_activate` for compatibility with the reference."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence

import udpgrm.client as grm
from udpgrm import sd_notify
from udpgrm.activate import options, sockets
from udpgrm.activate.options import Settings
from udpgrm.cli.errors import EXIT_ERROR, EXIT_HELP

_FIRST_FD = 3  # SD_LISTEN_FDS_START
_TIMEOUT_S = 5.0


def main(arguments: list[str]) -> int:
    """Run one command line; return the exit status, or become the command."""
    try:
        settings = options.parse(arguments)
        if settings is None:
            sys.stdout.write(options.USAGE)
            return EXIT_HELP
        return _activate(settings)
    except (ValueError, OSError) as error:
        # an OSError's own text begins with its errno, which means nothing here
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, OSError) and error.filename is not None:
            reason = f"{error.filename}: {reason}"
        print("udpgrm activate:", " ".join(str(reason).split()), file=sys.stderr)
        return EXIT_ERROR


def _activate(settings: Settings) -> int:
    manager = sd_notify.address()
    if not manager and not settings.command:
        raise ValueError(
            "no process would keep the sockets: run it in a unit with NotifyAccess=all and "
            "FileDescriptorStoreMax=, or give a command after --"
        )
    made = sockets.make(settings, sockets.dissector(settings))
    if manager:
        sd_notify.store(manager, settings.name, made)
    if settings.register:
        generation = settings.generation
        if generation is None:
            working = grm.working_generation(made[0])
            generation = ((0 if working is None else working) + 1) % 2**32
        grm.enroll(made, generation, _TIMEOUT_S)
        if settings.advance:
            grm.promote(made[0], generation)
    if settings.command:
        _become(settings, made)
    return 0


def _become(settings: Settings, made: Sequence[socket.socket]) -> None:
    """Execute the command with the sockets at the descriptors of sd_listen_fds(3)."""
    # moved away first: their descriptors may be among the wanted ones
    high = [os.dup(sock.fileno()) for sock in made]
    beyond = _FIRST_FD + len(made)
    while any(fd < beyond for fd in high):
        high = [os.dup(fd) if fd < beyond else fd for fd in high]
    for position, fd in enumerate(high):
        os.dup2(fd, _FIRST_FD + position, inheritable=True)
    os.environ["LISTEN_FDS"] = str(len(made))
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ.pop("LISTEN_PIDFDID", None)  # perhaps of another process (systemd 258)
    os.environ["LISTEN_FDNAMES"] = ":".join([settings.name] * len(made))
    try:
        os.execvp(settings.command[0], settings.command)
    except OSError as error:
        raise ValueError(f"{settings.command[0]}: {error.strerror}") from error


def run() -> None:
    """Run the command of the console script."""
    sys.exit(main(sys.argv[1:]))
