# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Wait until every address given answers on port 22.

    wait_ssh.py SECONDS ADDRESS..

Exit status 1 after so many seconds.
"""

from __future__ import annotations

import socket
import sys
import time


def answers(address: str) -> bool:
    """Return whether an SSH server greets at the address within a second."""
    try:
        with socket.create_connection((address, 22), 1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def main() -> int:
    """Poll the addresses of the command line."""
    limit, addresses = float(sys.argv[1]), sys.argv[2:]
    started = time.monotonic()
    silent = addresses
    while silent and time.monotonic() - started < limit:
        silent = [address for address in silent if not answers(address)]
        if silent:
            time.sleep(0.05)
    if silent:
        print(f"fleet: no answer on port 22: {' '.join(silent)}", file=sys.stderr)
        return 1
    print(f"fleet: {len(addresses)} hosts up after {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
