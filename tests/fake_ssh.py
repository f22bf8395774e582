# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Stands in for ssh: the "other host" is a command that runs what it is given."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def install(
    directory: Path, environment: pytest.MonkeyPatch, *, came_from: str, enter: Sequence[str] = ()
) -> None:
    """Put `ssh` and `udpgrm` first in PATH.

    The host `nowhere` cannot be reached. enter: a command that runs the rest as the
    other host does. came_from: our address as it sees it.
    """
    (directory / "udpgrm").write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(ROOT))}/bin/udpgrm "$@"\n'
    )
    (directory / "ssh").write_text(
        "#!/bin/sh\n"
        'while [ "$1" != -- ]; do shift; done\n'
        'if [ "$2" = nowhere ]; then\n'
        '\techo "ssh: connect to host nowhere port 22: No route to host" >&2\n'
        "\texit 255\n"
        "fi\n"
        f"SSH_CONNECTION='{came_from} 50000 198.51.100.1 22'\n"
        "export SSH_CONNECTION\n"
        f'exec {shlex.join(enter)} sh -c "$3"\n'
    )
    for name in ("ssh", "udpgrm"):
        (directory / name).chmod(0o755)
    environment.setenv("PATH", f"{directory}:{os.environ['PATH']}")
