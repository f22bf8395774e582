# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The progress of a drain, published to other commands: NAME.progress, beside the journal.

Four samples a second need not survive a power cut, so they are not synced as journals are, which
would keep a disk busy for as long as the drain lasts. A file that is damaged or absent, or of
another attempt than the journal has recorded last, means nothing.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, NamedTuple, Optional

from udpgrm.restart import host, stored

SUFFIX = ".progress"


class Published(NamedTuple):
    """A sample, its step's evidence, and which restart and step that is."""

    started: float  # of the restart
    steps: int  # that it has recorded
    progress: dict[str, Any]
    evidence: dict[str, Any]


def write(journal: Path, value: Published) -> None:
    """Publish a sample without an error: losing it would not matter."""
    with contextlib.suppress(OSError):
        host.rewrite(journal.with_suffix(SUFFIX), json.dumps(value), durable=False)


def read(journal: Path) -> Optional[Published]:
    """Return what was published last; None: nothing that can be read."""
    with contextlib.suppress(OSError, TypeError, ValueError, RecursionError):
        text = host.current.read(journal.with_suffix(SUFFIX))
        started, steps, progress, evidence = json.loads(text)
        return Published(started, steps, stored.mapping(progress), stored.mapping(evidence))
    return None


def discard(journal: Path) -> None:
    """Delete the file: its step has ended."""
    with contextlib.suppress(OSError):
        host.current.delete(journal.with_suffix(SUFFIX))
