# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm prober: the command that `from` of a probe runs on another host, over ssh."""

from __future__ import annotations

import os
import sys

from udpgrm.cli import common
from udpgrm.cli.errors import CommandError
from udpgrm.cli.options import Arguments
from udpgrm.probes import remote
from udpgrm.services import loader, validate


def run(arguments: Arguments) -> int:
    """Hold flows of probes and send questions on them, as lines on stdin request, until EOF."""
    common.want_operands(arguments, 0, 0)
    came_from = os.environ.get("SSH_CONNECTION", "").partition(" ")[0] or None
    try:
        remote.serve(sys.stdin, lambda line: print(line, flush=True), loader.parse_probe, came_from)
    except validate.MissingLibrary as error:
        raise CommandError(str(error)) from error
    return 0
