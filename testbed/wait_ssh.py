# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Wait until every address given answers on port 22; exit status 1 after 60 s."""

from __future__ import annotations

import socket
import sys
import time

LIMIT = 60.0


def answers(address: str) -> bool:
    """Tell whether an SSH server greets at the address within a second."""
    try:
        with socket.create_connection((address, 22), 1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def main() -> int:
    """Poll the addresses of the command line."""
    started = time.monotonic()
    left = list(sys.argv[1:])
    while left and time.monotonic() - started < LIMIT:
        left = [address for address in left if not answers(address)]
        if left:
            time.sleep(0.05)
    if left:
        print(f"fleet: no answer on port 22: {' '.join(left)}", file=sys.stderr)
        return 1
    print(f"fleet: {len(sys.argv) - 1} hosts up after {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
