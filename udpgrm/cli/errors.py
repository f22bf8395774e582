# SPDX-License-Identifier: Apache-2.0
"""Errors of commands."""

from __future__ import annotations

EXIT_ERROR = 255
EXIT_HELP = 254
EXIT_INTERRUPTED = 130  # as a shell has it, 128 + SIGINT


class CommandError(Exception):
    """Raised to fail a command: one line for stderr, and exit status 255."""
