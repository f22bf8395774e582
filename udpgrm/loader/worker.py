# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A thread for work that nobody waits for: calls of the kernel that take milliseconds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Optional


class Worker(threading.Thread):
    """Runs actions, one after the other. Calls of the kernel hold no lock of the interpreter."""

    def __init__(self) -> None:
        """Start the thread. Raises RuntimeError where the limit of processes is reached."""
        super().__init__(daemon=True, name="udpgrm-pool")
        self._actions: deque[Callable[[], None]] = deque()
        self._wake = threading.Semaphore(0)
        self._errors: deque[Exception] = deque(maxlen=1)
        self.start()

    def add(self, action: Callable[[], None]) -> None:
        """Have an action run."""
        self._actions.append(action)
        self._wake.release()

    def error(self) -> Optional[Exception]:
        """Return the last error of an action, once; None: there was none."""
        return self._errors.popleft() if self._errors else None

    def run(self) -> None:
        """Run actions until the process ends."""
        while True:
            self._wake.acquire()
            try:
                self._actions.popleft()()
            except Exception as error:  # the next ones may succeed
                self._errors.append(error)
