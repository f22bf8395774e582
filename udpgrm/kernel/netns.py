# SPDX-License-Identifier: Apache-2.0
"""Network namespaces by cookie: SO_NETNS_COOKIE of socket(7), Linux 5.14."""

from __future__ import annotations

import socket
import sys

_SO_NETNS_COOKIE = 71


def own_cookie() -> int:
    """The cookie of this process's network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    return int.from_bytes(raw, sys.byteorder)
