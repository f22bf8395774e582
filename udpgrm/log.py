# SPDX-License-Identifier: Apache-2.0
"""The daemon's two streams: events on stdout, steps and troubles on stderr.

Lines begin with the words that other people's scripts look for.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TextIO


def event(text: str) -> None:
    """One thing that happened to a group or socket."""
    _say(text, sys.stdout)


def step(text: str) -> None:
    """One step of the daemon's own life, or a trouble."""
    _say(text, sys.stderr)


def _say(text: str, stream: TextIO) -> None:
    # nobody may be reading any more: no reason to leave a registration undone
    with contextlib.suppress(OSError):
        print(text, file=stream, flush=True)
