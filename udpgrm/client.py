# SPDX-License-Identifier: Apache-2.0
"""The library for servers in Python that take part in graceful restarts.

    import udpgrm.client as grm

    sockets = grm.bind("0.0.0.0:4433", count=2)
    grm.enroll(sockets, generation)
    ...  # serve; when ready for new flows:
    grm.promote(sockets[0], generation)

Nothing here needs privileges, only hooks on the process's cgroup. Options and
errnos are those of the reference's socket API.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional, Union

from udpgrm import abi
from udpgrm.abi import Option
from udpgrm.state import address

_POLL_S = 0.001
#: A registration of a few hundred microseconds is not to take a millisecond.
_FIRST_POLL_S = 0.0001


class NotHooked(OSError):
    """Raised when this process's cgroup has no hooks, or the socket was bound before them."""


@dataclass(frozen=True)
class SocketGeneration:
    """A socket's generation, index and udpgrm cookie; index None: not registered yet."""

    generation: int
    index: Optional[int]
    cookie: int


@contextlib.contextmanager
def _explained(sock: socket.socket) -> Iterator[None]:
    """Raise NotHooked for errors that mean there are no hooks."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOPROTOOPT:
            raise NotHooked(
                error.errno,
                "no udpgrm hooks on this process's cgroup: start it in a hooked one "
                "(Slice=udpgrm.slice of a unit, or udpgrm hooks add)",
            ) from error
        if error.errno in (errno.EBADF, errno.EBADFD) and sock.fileno() >= 0:
            raise NotHooked(
                error.errno,
                "the socket was bound before the hooks came or without SO_REUSEPORT, its address "
                "is another user's, or no group is left for it (udpgrm doctor; limits.groups)",
            ) from error
        raise


def level_of(sock: socket.socket) -> int:
    """Return the level of udpgrm's options of a socket: that of its protocol."""
    return socket.IPPROTO_TCP if sock.type == socket.SOCK_STREAM else socket.IPPROTO_UDP


def set_option(sock: socket.socket, option: Option, value: bytes) -> None:
    """Set one of udpgrm's options. Raises NotHooked and OSError."""
    with _explained(sock):
        sock.setsockopt(level_of(sock), option, value)


def _get(sock: socket.socket, option: Option, size: int) -> bytes:
    with _explained(sock):
        return sock.getsockopt(level_of(sock), option, size)


def _u32(value: int) -> bytes:
    if not isinstance(value, int) or not 0 <= value <= abi.GENERATION_NONE:
        raise ValueError(f"not an unsigned 32-bit number: {value!r}")
    return value.to_bytes(4, sys.byteorder)


def probe() -> bool:
    """Return whether this process's cgroup has udpgrm's hooks, which a daemon installs.

    Raises OSError.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            working_generation(sock)
        except NotHooked:
            return False
    return True


def named_dissector(name: str, **parameters: Union[int, str, bool]) -> abi.Dissector:
    """Return the dissector of this name, such as "quic" with cid_length=8.

    All sockets of a group need the same parameters in the same order. Raises ValueError.
    """
    import json  # here, as enrolling needs no JSON

    text = json.dumps(parameters)
    if not 0 < len(name.encode()) < abi.NAME_BYTES or len(text) >= abi.PARAMETERS_BYTES:
        raise ValueError(f"too long, or no name: {name!r} {text}")
    return abi.Dissector(type=abi.DissectorType.NAMED, name=name.encode(), parameters=text.encode())


def bind(
    where: str, count: int = 1, flow_timeout: int = 0, dissector: Optional[abi.Dissector] = None
) -> list[socket.socket]:
    """Make `count` UDP sockets of one reuseport group.

    `where` is ADDRESS:PORT, or ADDRESS%DEVICE:PORT to bind to a device. Without a dissector it is
    FLOW, with `flow_timeout` in whole seconds, 0 meaning 125. Raises NotHooked, PermissionError
    when the group has another dissector, ValueError, OSError. On an error all sockets are closed.
    """
    bind_to = address.read_udp(where)
    if dissector is None:
        _u32(flow_timeout)  # ctypes would cut it
        dissector = abi.Dissector(type=abi.DissectorType.FLOW, flow_timeout_s=flow_timeout)
    elif flow_timeout:
        raise ValueError("flow_timeout goes without a dissector: it is a parameter of FLOW")
    made: list[socket.socket] = []
    try:
        for _ in range(count):
            sock = socket.socket(bind_to.family, socket.SOCK_DGRAM)
            made.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bind_to.bind(sock)
            try:
                set_option(sock, Option.DISSECTOR, bytes(dissector))
            except PermissionError as error:
                message = f"{where} has a dissector with other parameters (udpgrm list)"
                raise PermissionError(errno.EPERM, message) from error
    except BaseException:
        for sock in made:
            sock.close()
        raise
    return made


def enroll(sockets: Sequence[socket.socket], generation: int, timeout: float = 5.0) -> list[int]:
    """Enroll sockets in a generation and wait until the daemon has registered them.

    Returns their indices. Raises TimeoutError once no further one has been registered for
    `timeout` seconds (no daemon runs, or the generation has 256 sockets), NotHooked, OSError.
    """
    for sock in sockets:
        deadline = time.monotonic() + timeout
        while True:
            try:
                set_option(sock, Option.SOCKET_GEN, _u32(generation))
                break
            except BlockingIOError as error:  # the daemon is busy: its queue is full
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        errno.ETIMEDOUT, f"the daemon's queue is full after {timeout} s"
                    ) from error
                time.sleep(_POLL_S)
    return wait_registered(sockets, timeout)


def wait_registered(sockets: Sequence[socket.socket], timeout: float = 5.0) -> list[int]:
    """Wait until the daemon has registered sockets that are in a generation.

    Returns their indices. Raises TimeoutError once no further one has been registered for
    `timeout` seconds (none was enrolled, no daemon runs, or the generation has 256 sockets),
    NotHooked, OSError.
    """
    indices = []
    for sock in sockets:
        deadline, pause = time.monotonic() + timeout, _FIRST_POLL_S
        while (index := socket_generation(sock).index) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    errno.ETIMEDOUT,
                    f"socket {sock.fileno()} got no index in {timeout:.3g} s: it was not enrolled, "
                    "no daemon runs, or it could not register the socket (udpgrm doctor)",
                )
            time.sleep(pause)
            pause = min(2 * pause, _POLL_S)
        indices.append(index)
    return indices


def promote(sock: socket.socket, generation: int) -> None:
    """Make a generation the working one of the socket's group."""
    set_option(sock, Option.WORKING_GEN, _u32(generation))


def working_generation(sock: socket.socket) -> Optional[int]:
    """Return the working generation; None while there is no group."""
    value = int.from_bytes(_get(sock, Option.WORKING_GEN, 4), sys.byteorder)
    return None if value == abi.GENERATION_NONE else value


def socket_generation(sock: socket.socket) -> SocketGeneration:
    """Return the socket's generation, index and udpgrm cookie."""
    raw = _get(sock, Option.SOCKET_GEN, ctypes.sizeof(abi.SocketGen))
    value = abi.SocketGen.from_buffer_copy(raw)
    is_placed = value.index != abi.GENERATION_NONE and not value.pending
    index = value.index if is_placed else None
    return SocketGeneration(value.generation, index, value.cookie)


def assure_flow(sock: socket.socket, peer: tuple[str, int]) -> None:
    """Make or refresh the flow of a peer, as if the socket had sent to it.

    Raises FileExistsError if another socket has the flow, PermissionError if
    the group's dissector has no flow table, or packets of this address family do not reach the
    socket.
    """
    # recvfrom(2) names the device of a link-local peer, which is no part of its flow, and a
    # dual-stack socket an IPv4 peer as ::ffff:192.0.2.1
    host, port = peer[0].partition("%")[0], peer[1]
    if host.startswith("::ffff:") and "." in host:
        host = host[len("::ffff:") :]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    head = int(family).to_bytes(2, sys.byteorder) + port.to_bytes(2, "big")
    packed = socket.inet_pton(family, host)
    if family == socket.AF_INET:
        value = head + packed + bytes(8)
    else:
        value = head + bytes(4) + packed + bytes(4)
    set_option(sock, Option.FLOW_ASSURE, value)
