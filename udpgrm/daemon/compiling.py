# SPDX-License-Identifier: Apache-2.0
"""Compilation of dissectors without a template, one at a time, beside the daemon's other work.

The operator chooses which dissectors exist: clients can only name them.
"""

from __future__ import annotations

import os
import select
import time
from typing import Optional

from udpgrm import log
from udpgrm.build import cache
from udpgrm.build.sources import Program, parts
from udpgrm.kernel import limits, pidfd

#: Seconds until a compiler is started again that the machine could not run.
_TRY_AGAIN_AFTER = 1.0
_TRY_AGAIN_AT_LEAST_EVERY = 30.0


class Compiler:
    """A queue of programs, and the compiler at work on the first."""

    def __init__(self, poll: select.epoll) -> None:
        """Start with an empty queue; the poll reports when a compiler has ended."""
        self._poll = poll
        self._queue: list[Program] = []
        self._failed: dict[Program, str] = {}
        self._renewed: set[Program] = set()
        self._running: Optional[cache.Compilation] = None
        self._not_before = 0.0
        self._patience = _TRY_AGAIN_AFTER
        #: Readable when the compiler has ended; None: none is at work.
        self.watch: Optional[int] = None

    def ready(self, program: Program) -> bool:
        """Return whether a steering program's templates exist; the others are queued.

        Raises BuildError if compiling them has failed.
        """
        if program in self._failed:
            raise cache.BuildError(self._failed[program])
        if not cache.missing(parts(program)):
            return True
        if program not in self._queue:
            self._queue.append(program)
        return False

    def renew(self, program: Program) -> bool:
        """Discard templates that do not load, to be compiled again; return False if they were."""
        if program in self._renewed or not cache.discard(parts(program)):
            return False
        self._renewed.add(program)
        return True

    @property
    def due(self) -> Optional[float]:
        """Return when (monotonic seconds) `start` has something to do; None: it has not."""
        if not self._queue or self._running is not None:
            return None
        return self._not_before

    def start(self) -> bool:
        """Begin with the next program if it is due; return whether it is settled already."""
        due = self.due
        if due is None or time.monotonic() < due:
            return False
        try:
            self._running = cache.Compilation(cache.missing(parts(self._queue[0])))
        except cache.Unavailable as error:
            self._try_again(error)
            return False
        except cache.BuildError as error:
            self._failed[self._queue.pop(0)] = str(error)
            return True
        self.watch = pidfd.watch(self._running.pid)
        if self.watch is not None:
            try:
                self._poll.register(self.watch, select.EPOLLIN)
                return False
            except OSError:
                os.close(self.watch)
                self.watch = None
        self.finish()  # there is no descriptor for it: wait here
        return True

    def finish(self) -> None:
        """Read the result of a compiler that has ended."""
        assert self._running is not None
        running, self._running = self._running, None
        if self.watch is not None:
            self._poll.unregister(self.watch)
            os.close(self.watch)
            self.watch = None
        try:
            running.finish()
        except cache.Unavailable as error:
            self._try_again(error)
            return
        except cache.BuildError as error:
            self._failed[self._queue.pop(0)] = str(error)
        else:
            self._queue.pop(0)
            self._patience = _TRY_AGAIN_AFTER

    def _try_again(self, error: cache.Unavailable) -> None:
        """Leave the program in the queue: the machine has failed, not the program."""
        log.problem(f"{limits.explain(error)}: to be tried again")
        self._not_before = time.monotonic() + self._patience
        self._patience = min(2 * self._patience, _TRY_AGAIN_AT_LEAST_EVERY)
