# SPDX-License-Identifier: Apache-2.0
"""udpgrm top."""

from __future__ import annotations

import contextlib
import sys
import time

from udpgrm.cli import common
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.state.maps import Maps
from udpgrm.state.view import Viewer
from udpgrm.views.history import History, key_of

_PIPE_COLUMNS = 132


def run(arguments: Arguments) -> int:
    """Show groups and generations as they change, until interrupted."""
    only = common.optional_filter(arguments)
    interval = arguments.number("--interval", 1, 1, 3600)
    frames = arguments.number("--count", 0, 1, 1_000_000)
    try:
        from rich.console import Console
        from rich.live import Live
        from rich.table import Table

        from udpgrm.views import screen
    except ImportError as error:
        raise CommandError("top needs rich: install python3-rich") from error
    maps = common.open_state(arguments)
    history = History()

    def frame() -> Table:
        groups = Viewer(maps).groups(only)
        now = time.monotonic()
        rows = [(group, history.rows(now, group)) for group in groups]
        seen = {key_of(group, item) for group in groups for item in group.generations}
        history.drop_all_but(seen)
        return screen.table(rows, _title(arguments, maps))

    with contextlib.suppress(KeyboardInterrupt):
        console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _PIPE_COLUMNS)
        live = Live(frame(), console=console, auto_refresh=False, screen=console.is_terminal)
        with live:
            live.refresh()
            shown = 1
            while shown != frames:
                time.sleep(interval)
                live.update(frame(), refresh=True)
                shown += 1
    return 0


def _title(arguments: Arguments, maps: Maps) -> str:
    pid = common.daemon_pid(arguments, maps)
    daemon = "no daemon runs" if pid is None else f"daemon {pid}"
    return f"udpgrm top  {time.strftime('%H:%M:%S')}  {daemon}"
