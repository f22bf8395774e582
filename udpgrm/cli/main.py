# SPDX-License-Identifier: Apache-2.0
"""Entry point of the udpgrm command."""

from __future__ import annotations

import importlib
import os
import sys

from udpgrm.cli import options
from udpgrm.cli.errors import EXIT_ERROR, EXIT_HELP, CommandError

_MODULES = {
    "list": "listing",
    "flows": "flows",
    "metrics": "metrics",
    "delete": "delete",
    "working-gen": "working_gen",
    "probe": "probe",
    "preflight": "preflight",
    "build": "build",
}


def main(argv: list[str]) -> int:
    """Run one command line; returns the exit status."""
    try:
        arguments = options.parse(argv)
        if arguments.flag("--help"):
            sys.stdout.write(options.USAGE)
            return EXIT_HELP
        # each command imports what it needs: scripts call them in a row
        name = _MODULES[arguments.command] if arguments.command else "daemon"
        status = importlib.import_module(f"udpgrm.cli.{name}").run(arguments)
        sys.stdout.flush()
        return int(status)
    except CommandError as error:
        print(f"udpgrm: {error}", file=sys.stderr)
    except PermissionError as error:
        reason = error.strerror or error
        print(f"udpgrm: {reason}: udpgrm needs root", file=sys.stderr)
    except BrokenPipeError:
        # the reader has seen enough; keep the interpreter from flushing again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return EXIT_ERROR


def run() -> None:
    """Console script."""
    sys.exit(main(sys.argv[1:]))
