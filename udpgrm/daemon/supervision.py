# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The service manager: its signals to the daemon, and notifications to it (sd_notify(3))."""

from __future__ import annotations

import select
import signal
import socket

from udpgrm import log, sd_notify


def notify(text: str) -> None:
    """Notify the service manager, if there is one: sd_notify(3)."""
    where = sd_notify.address()
    if where is None:
        return
    try:
        sd_notify.send(where, text)
    except OSError as error:
        log.problem(f"cannot notify the service manager ({text}): {error.strerror}")


class StopSignals:
    """SIGINT and SIGTERM, as bytes on a socket."""

    def __init__(self) -> None:
        """Install handlers for the signals."""
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        # a mask is inherited
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))

    def fileno(self) -> int:
        """Return the descriptor that is readable once a signal has come; others have no handler."""
        return self._reader.fileno()

    def wait(self, seconds: float) -> bool:
        """Wait for a signal, and return whether one has come."""
        return bool(select.select([self._reader], [], [], seconds)[0])

    @property
    def have_come(self) -> bool:
        """Return whether a signal has come."""
        return self.wait(0)
