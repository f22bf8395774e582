# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Init scripts of packages: which processes their stop ends."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

DIRECTORY = Path("/etc/init.d")
_COMMAND = re.compile(r"\b(?:start-stop-daemon|killproc|killall|pkill)\b[^;&|]*")
_STOPS = re.compile(r"\s(?:--stop|-K)(?:\s|$)")
#: Options of start-stop-daemon, killproc and pkill that name a process by its PID file.
_BY_PID = re.compile(r"[\s+]-(?:-p?pid|[pF]\s)")
#: A reload, a question whether it runs.
_ENDS_NOTHING = re.compile(r"\s(?:--signal|-s|--test|-t)\b")


def broad_stop(script: str) -> Optional[str]:
    """Return the first command that ends processes by name, whichever unit's they are.

    None: there is none, as in scripts that know their process by its PID file.
    """
    for line in re.sub(r"\\\n\s*", "", script).splitlines():
        found = None if line.lstrip().startswith("#") else _COMMAND.search(line)
        if found is None or _ENDS_NOTHING.search(found[0]) or _BY_PID.search(found[0]):
            continue
        if _STOPS.search(found[0]) or not found[0].startswith("start-stop-daemon"):
            return " ".join(found[0].split())
    return None
