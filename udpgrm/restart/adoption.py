# SPDX-License-Identifier: Apache-2.0
"""Enrolling the sockets of servers without udpgrm support, from outside of the server.

Its sockets are duplicated
(pidfd_getfd(2)) and put into a generation through the same socket options that
a server would use itself. Sockets that it makes later, as a worker that is
started again does, are enrolled by the hooks: the generation is noted for the
process's cgroup, and for the one that systemd makes when it starts the unit again.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from udpgrm import abi
from udpgrm.abi import Option
from udpgrm.client import NotHooked, enroll, promote, set_option, working_generation
from udpgrm.kernel import cgroups, pidfd, sockopt
from udpgrm.kernel.descriptors import Unreachable
from udpgrm.services.definition import Group
from udpgrm.state import address, adoptions, enrolling, kernel_order
from udpgrm.state.adoptions import Adoption
from udpgrm.state.finding import find_groups
from udpgrm.state.maps import Maps
from udpgrm.state.view import Viewer

_POLL_S = 0.01


class AdoptionError(Exception):
    """Raised when sockets cannot be enrolled; the message says which, and what to do."""


class TakenOver(AdoptionError):
    """Raised when sockets of the instance before are those of the new one, too."""


@dataclass(frozen=True)
class Enrolled:
    """Sockets of an address in a generation: their SO_COOKIEs and indices."""

    address: str
    generation: int
    cookies: list[int]
    indices: list[int]


def bound_sockets(
    pids: Iterable[int], where: str, deadline: float = 0
) -> list[tuple[int, socket.socket]]:
    """Return (SO_COOKIE, duplicate) of the sockets that these processes serve an address with.

    Each once, however many processes share it. The caller closes them. deadline: until when a
    process in execve(2) is waited for (time.monotonic).
    """
    wanted = address.read(where)
    found: dict[int, socket.socket] = {}
    for pid in pids:
        for cookie, fd in _sockets_of(pid, deadline):
            sock = socket.socket(fileno=fd)
            if cookie not in found and pidfd.is_server(sock) and wanted.selects_socket(sock):
                found[cookie] = sock
            else:
                sock.close()
    return sorted(found.items())


def _sockets_of(pid: int, deadline: float) -> Iterator[tuple[int, int]]:
    """Yield (SO_COOKIE, duplicate) of a process's sockets. Raises Unreachable.

    A process in execve(2) is waited for until the deadline: on a busy host that takes its time.
    Sockets may come again then.
    """
    while True:
        try:
            yield from pidfd.sockets_of(pid)
            return
        except Unreachable as error:
            if error.errno != errno.EAGAIN or time.monotonic() > deadline:
                raise
        time.sleep(_POLL_S)


def describe_bound(pids: Iterable[int]) -> str:
    """Return the addresses that processes serve, for messages."""
    found = set()
    for pid in pids:
        for _, fd in pidfd.sockets_of(pid):
            with socket.socket(fileno=fd) as sock:
                where = address.bound(sock) if pidfd.is_server(sock) else None
                found |= set() if where is None else {where}
    return ", ".join(sorted(found)) or "no socket"


def adopt(
    maps: Maps,
    cgroup: Path,
    where: str,
    generation: int,
    count: int,
    timeout: float,
    application: int = 0,
    is_alive: Callable[[], bool] = lambda: False,
    earlier: Collection[int] = (),
) -> Enrolled:
    """Put the sockets of a cgroup's processes into a generation of their group.

    Waits at most `timeout` seconds until there are `count` of them and the daemon has entered
    them. is_alive: returns whether a process may still start in a cgroup that has none. earlier:
    the SO_COOKIEs of sockets that it may not have. Raises AdoptionError; nothing is promoted.
    """
    deadline = time.monotonic() + timeout
    held: list[tuple[int, socket.socket]] = []
    try:
        while True:
            pids = cgroups.processes(cgroup)
            held = bound_sockets(pids, where, deadline)
            if len(held) >= count:
                break
            if not pids and not is_alive():
                raise AdoptionError(f"no process runs in {cgroup}: has the server failed?")
            if time.monotonic() > deadline:
                raise AdoptionError(
                    f"{len(held)} of {count} sockets are bound to {where} in {cgroup} "
                    f"after {timeout:g} s: its processes have {describe_bound(pids)}"
                )
            _close(held)
            time.sleep(_POLL_S)
        refuse_taken_over(earlier, (cookie for cookie, _ in held), f"{cgroup.name} at {where}")
        for cookie, sock in held:
            _prepare(maps, cookie, sock, where, application)
        # the steering program selects by the same hash: clients stay at the sockets they have
        order = kernel_order.indices(maps, sockopt.netns_cookie(held[0][1]))
        _refuse_outside(maps, where, held, order)
        held.sort(key=lambda item: order.get(item[0], abi.SLOT_SOCKETS))
        sockets = [sock for _, sock in held]
        left = max(deadline - time.monotonic(), 1.0)
        with _unsteered(maps, where, sockets[0], left):
            indices = enroll(sockets, generation, left)
        requests = [enrolling.request_of(maps, cookie, sock) for cookie, sock in held]
        groups = {(request.group - 1, request.epoch) for request in requests}
        _note(maps, cgroup, groups, generation, application)
        _note_connected(maps, cgroup, groups, generation, application, deadline)
        return Enrolled(where, generation, [cookie for cookie, _ in held], indices)
    except NotHooked as error:
        if error.errno == errno.ENOPROTOOPT:
            reason = f"no hooks on {cgroup} or a cgroup above it (udpgrm hooks add {cgroup})"
        else:
            reason = f"{where} is another user's, or no group is left for it (udpgrm list)"
        raise AdoptionError(reason) from error
    except (TimeoutError, PermissionError) as error:
        raise AdoptionError(f"{where}: {error.strerror or error}") from error
    finally:
        _close(held)


def refuse_taken_over(earlier: Collection[int], cookies: Iterable[int], where: str) -> None:
    """Raise TakenOver if sockets of the instance before are among an instance's."""
    if taken := set(earlier).intersection(cookies):
        raise TakenOver(
            f"{len(taken)} sockets of {where} are those of the instance before, passed on or "
            "inherited: nothing keeps the flows of the two apart. Both are left running: let the "
            "server bind sockets of its own (docs/limits.md)"
        )


def adopt_all(
    maps: Maps,
    cgroup: Path,
    groups: Iterable[Group],
    generation: int,
    deadline: float,
    is_alive: Callable[[], bool],
    earlier: Collection[int],
) -> None:
    """Adopt the sockets of each of a service's groups, as adopt() does; deadline: monotonic."""
    for group in groups:
        left = max(0.0, deadline - time.monotonic())
        adopt(
            maps,
            cgroup,
            group.address,
            generation,
            group.sockets,
            left,
            group.application,
            is_alive,
            earlier,
        )


def _refuse_outside(
    maps: Maps, where: str, held: list[tuple[int, socket.socket]], order: dict[int, int]
) -> None:
    """Raise AdoptionError for sockets that share their address, but are in no group of the kernel.

    They may get users' packets, and could never be registered. order: of the kernel's groups;
    empty: it could not be read.
    """

    def is_outside(cookie: int, sock: socket.socket) -> bool:
        is_udp = sock.type == socket.SOCK_DGRAM
        # one of the server's other sockets may be connected meanwhile
        return is_udp and cookie not in order and pidfd.is_server(sock)

    if order and any(is_outside(*one) for one in held):
        # one reading of all sockets may pass over some
        order |= kernel_order.indices(maps, sockopt.netns_cookie(held[0][1]))
        count = sum(is_outside(*one) for one in held)
        if count:
            raise AdoptionError(
                f"{count} of {len(held)} sockets at {where} are in no reuseport group of the "
                "kernel: SO_BINDTODEVICE after bind(2), and connect(2), take a socket out of it. "
                "Let the server set the device before bind(2), or leave it alone"
            )


@contextlib.contextmanager
def _unsteered(maps: Maps, where: str, sock: socket.socket, seconds: float) -> Iterator[None]:
    """Let the kernel's hash select among sockets that are the first of their group.

    Their server may have clients, whose packets would go to the sockets that are entered first.
    """
    if working_generation(sock) is None:
        promote(sock, 0)  # makes the group, and changes nothing
    found = find_groups(Viewer(maps), where, sockopt.netns_cookie(sock))
    held = [
        maps.group(view.group_id)
        for view in found
        if not any(item.has_sockets for item in view.generations)
    ]
    if held:
        until = maps.clock.now() + int(seconds * maps.config.hz)
        for group in held:
            group.held_until = until
    try:
        yield
    finally:
        for group in held:
            group.held_until = 0


def _close(held: list[tuple[int, socket.socket]]) -> None:
    for _, sock in held:
        sock.close()
    held.clear()


def _prepare(maps: Maps, cookie: int, sock: socket.socket, where: str, application: int) -> None:
    """Give a socket that was bound before the hooks the state that the bind hook gives."""
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
        raise AdoptionError(
            f"a socket at {where} is bound without SO_REUSEPORT: start the instance again after "
            "udpgrm dissector apply SERVICE, or turn the server's reuseport on"
        )
    enrolling.note_bound(maps, cookie, sock)
    if application:
        set_option(sock, Option.SOCKET_APP, application.to_bytes(4, sys.byteorder))


def _note(
    maps: Maps,
    cgroup: Path,
    groups: set[tuple[int, int]],
    generation: int,
    application: int,
) -> None:
    """Let the hooks enroll sockets that this cgroup binds later, in each group (id, epoch)."""
    for directory in (cgroup, *(path.parent for path in cgroup.rglob("*/cgroup.procs"))):
        identity = cgroups.identity(directory)
        for group_id, epoch in groups:
            adoptions.note(
                maps, Adoption(identity, group_id, epoch, generation, application, directory)
            )


def _note_connected(
    maps: Maps,
    cgroup: Path,
    groups: set[tuple[int, int]],
    generation: int,
    application: int,
    deadline: float,
) -> None:
    """Count the sockets that its processes connected before the hooks were loaded."""
    for pid in cgroups.processes(cgroup):
        for cookie, fd in _sockets_of(pid, deadline):
            with socket.socket(fileno=fd) as sock:
                for group_id, _ in groups:
                    enrolling.note_connected(
                        maps, group_id, generation, application, (cookie, sock)
                    )
