#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A UDP echo server that can be restarted without losing a packet.

It shows what a server does for that: it puts its sockets into a generation,
notifies systemd when they are enrolled, and on SIGTERM drains: it keeps answering
the flows it has and exits when none has sent for a while. Which
generation is the working one is decided elsewhere.

A reply is ``NAME GENERATION PID `` and then the payload, so that a client sees
which instance answered.
"""

from __future__ import annotations

import argparse
import os
import selectors
import signal
import socket
import sys
import time

import udpgrm.client as grm

DATAGRAM = 65535
# packets answered per socket before the clock and the other sockets get a turn
BATCH = 64
# more packets than a receive queue holds
QUEUE = 16384


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="UDP echo server for udpgrm")
    parser.add_argument("--address", action="append", required=True, metavar="ADDR:PORT")
    parser.add_argument("--generation", type=int, required=True)
    parser.add_argument("--sockets", type=int, default=1, help="sockets per address")
    parser.add_argument("--flow-timeout", type=int, default=125, metavar="SECONDS")
    parser.add_argument("--name", default=socket.gethostname(), help="name in the replies")
    parser.add_argument(
        "--idle",
        type=float,
        metavar="SECONDS",
        help="after SIGTERM, exit after so long without a packet (default: the flow timeout)",
    )
    parser.add_argument(
        "--drain-limit",
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="after SIGTERM, exit at the latest after so long",
    )
    arguments = parser.parse_args()
    if arguments.idle is None:
        arguments.idle = float(arguments.flow_timeout)
    return arguments


def notify(state: str) -> None:
    """Notify systemd of a state; without systemd do nothing."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    if path.startswith("@"):
        path = "\0" + path[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(state.encode(), path)


class EchoServer:
    """Answers on sockets until it is to drain, and then until no flow remains.

    Args:
        sockets: bound and enrolled UDP sockets; closed by `close`.
        prefix: what a reply starts with.
        idle: seconds of silence that end a drain.
        drain_limit: seconds a drain takes at most.
    """

    def __init__(
        self, sockets: list[socket.socket], prefix: bytes, idle: float, drain_limit: float
    ) -> None:
        self._sockets = sockets
        self._prefix = prefix
        self._idle = idle
        self._drain_limit = drain_limit
        self._heard = time.monotonic()
        self._drain_until: float | None = None
        self._selector = selectors.DefaultSelector()
        for sock in sockets:
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ)
        self._wake_on_signals()

    def _wake_on_signals(self) -> None:
        # The handler alone does not end a select() (PEP 475); its wakeup byte does.
        self._wake, wake_up = socket.socketpair()
        self._wake.setblocking(False)
        wake_up.setblocking(False)
        self._wake_up = wake_up
        signal.set_wakeup_fd(wake_up.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.drain())
        self._selector.register(self._wake, selectors.EVENT_READ)

    def drain(self) -> None:
        """Begin to drain; a second call changes nothing."""
        if self._drain_until is None:
            self._drain_until = time.monotonic() + self._drain_limit
            notify("STOPPING=1")

    def _seconds_left(self) -> float | None:
        """Seconds until the drain ends; None while not draining."""
        if self._drain_until is None:
            return None
        return min(self._heard + self._idle, self._drain_until) - time.monotonic()

    def serve(self) -> None:
        """Answer packets until a drain ends."""
        while (left := self._seconds_left()) is None or left > 0:
            for key, _ in self._selector.select(left):
                if key.fileobj is self._wake:
                    self._wake.recv(64)
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._answer(key.fileobj, BATCH)

    def _answer(self, sock: socket.socket, most: int) -> None:
        """Answer up to so many packets."""
        for _ in range(most):
            try:
                payload, peer = sock.recvfrom(DATAGRAM)
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # an ICMP error of an earlier reply
            self._heard = time.monotonic()
            try:
                sock.sendto(self._prefix + payload, peer)
            except OSError as error:
                print(f"no reply to {peer}: {error}", file=sys.stderr)

    def close(self) -> None:
        """Answer what is still queued and close the sockets."""
        for sock in self._sockets:
            self._answer(sock, QUEUE)
            sock.close()
        self._selector.close()


def main() -> int:
    """Serve until SIGTERM and the drain after it."""
    arguments = parse_arguments()
    try:
        sockets = [
            sock
            for address in arguments.address
            for sock in grm.bind(
                address, count=arguments.sockets, flow_timeout=arguments.flow_timeout
            )
        ]
        grm.enroll(sockets, arguments.generation)
    except (OSError, ValueError) as error:  # NotHooked and TimeoutError are OSErrors
        print(f"echo_server: {error}", file=sys.stderr)
        return 1
    prefix = f"{arguments.name} {arguments.generation} {os.getpid()} ".encode()
    server = EchoServer(sockets, prefix, arguments.idle, arguments.drain_limit)
    notify("READY=1")
    server.serve()
    server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
