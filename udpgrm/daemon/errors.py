# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The log of errors that must not end the daemon."""

from __future__ import annotations

import time

from udpgrm import log
from udpgrm.kernel import limits
from udpgrm.loader import failures

#: The same error of the machine is logged again after so long (seconds).
_PAUSE_S = 60.0
#: So many different ones are remembered.
_MOST = 64


class Errors:
    """Logs errors. Those of the machine come with each attempt of each socket: once a minute."""

    def __init__(self) -> None:
        """Start without any."""
        self._logged: dict[str, tuple[float, int]] = {}  # when (monotonic), how often since

    def report(self, error: Exception, what: str = "") -> None:
        """Log an error; what: what failed, instead of the error's type."""
        text = f"{what or type(error).__name__}: {limits.explain(error)}"
        if not failures.is_machines(error):
            log.problem(text)
            return
        now = time.monotonic()
        last, since = self._logged.get(text, (now - _PAUSE_S, 0))
        if now < last + _PAUSE_S:
            self._logged[text] = last, since + 1
            return
        if len(self._logged) >= _MOST:
            self._logged.clear()
        self._logged[text] = now, 0
        again = f", {since} times since this was logged" if since else ""
        log.problem(f"{text} (what waits for it is tried again{again})")
