# SPDX-License-Identifier: Apache-2.0
"""The interface of what shows a restart while it runs; udpgrm/views/progress.py draws it."""

from __future__ import annotations

from typing import Any, Protocol

Document = dict[str, Any]


class Progress(Protocol):
    """Shows the journal, as docs/host-interface.md has it, whenever it has changed."""

    def show(self, journal: Document) -> None:
        """Print what is new."""
        ...


class Nothing:
    """Shows nothing: for commands that print the outcome only."""

    def show(self, journal: Document) -> None:
        """Print nothing."""


class BestEffort:
    """Shows a restart and ignores errors of the output, which must not fail the restart."""

    def __init__(self, progress: Progress) -> None:
        """Show with this progress."""
        self._progress = progress

    def show(self, journal: Document) -> None:
        """Print what is new, until the first error."""
        try:
            self._progress.show(journal)
        except (OSError, ValueError):  # the reader is gone, or the stream is closed
            self._progress = Nothing()
