# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A packet that needs no answer, for services without probes: only the kernel's evidence counts."""

from __future__ import annotations

import time

from udpgrm.probes import reach, runner

_PAYLOAD = b"udpgrm probe"
#: An address of this host is reached in microseconds.
_DELIVERY_S = 0.01


class Silent:
    """Packets without an answer: for services without probes."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._socket, target = reach.open_socket(where, None)
        try:
            self._socket.connect(target)
        except OSError:
            self._socket.close()
            raise
        name, port = self._socket.getsockname()[:2]
        self.source: tuple[str, int] = name.partition("%")[0], port

    def ask(self) -> runner.ProbeResult:
        """Send one packet, and give the kernel time to deliver it."""
        self._socket.send(_PAYLOAD)
        time.sleep(_DELIVERY_S)
        return runner.ProbeResult(
            type="silent",
            address=self._where,
            passed=True,
            reason="packets of this kind have no answer",
            sent=_PAYLOAD.hex(),
            received=None,
            source=self.source,
            elapsed_s=_DELIVERY_S,
            attempts=1,
        )

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
