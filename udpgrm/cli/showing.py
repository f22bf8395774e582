# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The display of a restart: for people, for programs, in systemd's journal."""

from __future__ import annotations

import sys

from udpgrm import journald
from udpgrm.cli.options import Arguments
from udpgrm.restart import journal as journals
from udpgrm.restart.progress import Nothing, Progress
from udpgrm.views.progress import Entries, Lines, Terminal


def own(arguments: Arguments) -> Progress:
    """Return the progress of a restart in this process."""
    if arguments.flag("--json") or not journald.reads(sys.stdout):
        return others(arguments)
    last = journals.load(arguments.operands[0])
    return Entries(None if last is None else last.to_json())


def others(arguments: Arguments) -> Progress:
    """Return the progress of a restart in another process, which logs it to the journal itself."""
    if arguments.flag("--json"):
        return Nothing()
    return Terminal(sys.stdout) if sys.stdout.isatty() else Lines(sys.stdout)
