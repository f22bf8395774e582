# SPDX-License-Identifier: Apache-2.0
"""Errors of commands."""

from __future__ import annotations

import os

EXIT_ERROR = 255
EXIT_HELP = 254
EXIT_INTERRUPTED = 130  # as a shell has it, 128 + SIGINT


class CommandError(Exception):
    """Raised to fail a command: one line for stderr, and exit status 255."""


def refused(error: PermissionError) -> str:
    """Return what was refused, and which right is missing."""
    where = f"{error.filename}: " if error.filename else ""
    needed = "root itself may not: capabilities are missing, or a security module forbids it"
    if os.geteuid():
        needed = "udpgrm needs root"
    return f"{where}{error.strerror or error}: {needed}"
