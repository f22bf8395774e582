# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm metrics --prometheus, and --listen."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from pathlib import Path

from udpgrm import atomic_write, log
from udpgrm.cli import common
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.metrics import families, process
from udpgrm.metrics.exposition import Family, render
from udpgrm.state import address
from udpgrm.state.view import Viewer
from udpgrm.version import __version__


def run(arguments: Arguments) -> int:
    """Print the metrics, or write them to a file."""
    output = arguments.given.get("--output")
    if output is None:
        sys.stdout.write(text(arguments))
    else:
        write(Path(output), text(arguments))
    return 0


def text(arguments: Arguments) -> str:
    """Return the metrics in Prometheus' text form."""
    return render(families.of_build(__version__) + _state(arguments))


def listen(arguments: Arguments) -> int:
    """Serve the metrics over HTTP until SIGINT or SIGTERM."""
    # http.server takes longer to import than the other forms take to answer
    from udpgrm.metrics.http import Exporter

    where = arguments.given["--listen"]
    try:
        listen_at = address.read(where)
        listen_at.want_device()
    except ValueError as error:
        raise CommandError(f"metrics: --listen: {error}") from error
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        exporter = Exporter(listen_at.sockaddr, listen_at.family, lambda: text(arguments))
    except OSError as error:
        raise CommandError(f"metrics: cannot listen at {where}: {error.strerror}") from error
    with exporter:
        log.step(f"Serving metrics at http://{listen_at}/metrics")
        with contextlib.suppress(KeyboardInterrupt):
            exporter.serve_forever()
    return 0


def _state(arguments: Arguments) -> list[Family]:
    """Return the metrics; without any state, only that the daemon is down."""
    maps = common.state_if_any(arguments)
    if maps is None:
        return families.of_daemon(False, None)
    with contextlib.closing(maps):
        pid = common.daemon_pid(arguments, maps)
        health = process.read(pid, common.pin_dir(arguments)) if pid else None
        viewer, now = Viewer(maps), time.time()
        return [
            *families.of_daemon(pid is not None, health),
            *families.of_groups(viewer.groups(), int(maps.config.groups), now),
        ]


def write(path: Path, content: str) -> None:
    """Replace a file that all users may read (in a collector's textfile directory)."""
    if not path.name or (path.exists() and not path.is_file()):
        raise CommandError(f"metrics: --output={path} is not the name of a file")
    atomic_write.replace(path, content.encode())
