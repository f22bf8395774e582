# SPDX-License-Identifier: Apache-2.0
"""The entry point of the udpgrm command."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
from typing import NoReturn

from udpgrm.cli import commands, options
from udpgrm.cli.errors import EXIT_ERROR, EXIT_HELP, EXIT_INTERRUPTED, CommandError, refused
from udpgrm.kernel import limits


def main(argv: list[str]) -> int:
    """Run one command line, and return the exit status."""
    if argv and argv[0] in commands.HELPERS:
        helper = importlib.import_module(commands.HELPERS[argv[0]][0])
        _keep_imports()
        return int(helper.main(argv[1:]))
    try:
        arguments = options.parse(argv)
        if arguments.flag("--help"):
            from udpgrm.cli.usage import usage

            sys.stdout.write(usage(arguments.command or ""))
            return EXIT_HELP
        # each command imports what it needs: scripts call them in a row
        command = arguments.command
        name = commands.COMMANDS[command].module if command else "daemon"
        module = importlib.import_module(f"udpgrm.cli.{name}")
        _keep_imports()
        status = module.run(arguments)
        sys.stdout.flush()
        return int(status)
    except BrokenPipeError:
        # the reader has seen enough; keep the interpreter from flushing again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except PermissionError as error:
        _complain(refused(error))
    except (CommandError, OSError) as error:
        _complain(limits.explain(error))
    except KeyboardInterrupt:
        _complain("interrupted")
        return EXIT_INTERRUPTED
    return EXIT_ERROR


def _complain(text: str) -> None:
    """Print an error in one line, whatever text of other programs is in it."""
    with contextlib.suppress(OSError):  # the exit status reports the error too
        print("udpgrm:", " ".join(text.split()), file=sys.stderr, flush=True)


def _open_streams() -> None:
    """Replace streams that the parent has closed: other files would get their descriptors."""
    fd = 0
    while fd <= 2:
        fd = os.open(os.devnull, os.O_RDWR)
    os.close(fd)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def _keep_imports() -> None:
    """Collect garbage again, but never among what was imported: it stays."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def run() -> NoReturn:
    """Run the command of the console script.

    Garbage collections during imports, and taking modules apart at the end, would be a quarter
    of a short command's time.
    """
    gc.disable()
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _open_streams()
    status = main(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # the reader has gone
            stream.flush()
    os._exit(status)
