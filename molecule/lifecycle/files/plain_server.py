#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A UDP echo server that knows nothing of udpgrm: one socket, without SO_REUSEPORT.

    plain_server.py GENERATION PORT

Answers ``NAME GENERATION PID `` and the payload, so that a client sees which instance
answered. The number is only a word to it.
"""

from __future__ import annotations

import os
import socket
import sys


def main() -> None:
    """Answer until it is killed."""
    prefix = f"{socket.gethostname()} {sys.argv[1]} {os.getpid()} ".encode()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", int(sys.argv[2])))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
    while True:
        payload, peer = sock.recvfrom(65535)
        sock.sendto(prefix + payload, peer)


if __name__ == "__main__":
    main()
