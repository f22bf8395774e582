# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Waits of tests: for a condition, and no shorter than a busy machine may need.

Bars of time and speed are those of `make bench`, which has the machine to itself.
"""

from __future__ import annotations

import os
import time
from typing import Any

#: The most that anything may take that has to come. Reached by what hangs, and by nothing else.
#: An emulated machine (testbed/kernel) needs more.
PATIENCE_S = float(os.environ.get("UDPGRM_PATIENCE_S", "120"))


def wait_for(condition: Any, what: str, timeout: float = PATIENCE_S, pause: float = 0.005) -> Any:
    """Poll until a condition holds; return its value."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(pause)
