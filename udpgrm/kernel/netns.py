# SPDX-License-Identifier: Apache-2.0
"""Network namespaces by cookie: SO_NETNS_COOKIE of socket(7), Linux 5.14."""

from __future__ import annotations

import socket

from udpgrm.kernel import sockopt


def own_cookie() -> int:
    """Return the cookie of this thread's network namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        return sockopt.netns_cookie(sock)
