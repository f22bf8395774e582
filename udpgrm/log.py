# SPDX-License-Identifier: Apache-2.0
"""The daemon's two streams: events on stdout, steps and troubles on stderr.

Lines begin with the words that other people's scripts look for.
"""

from __future__ import annotations

import sys


def event(text: str) -> None:
    """One thing that happened to a group or socket."""
    print(text, flush=True)


def step(text: str) -> None:
    """One step of the daemon's own life, or a trouble."""
    print(text, file=sys.stderr, flush=True)
