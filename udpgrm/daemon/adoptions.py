# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Renewal of adoptions: systemd starts a unit again in a new cgroup of the same path."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import Optional

from udpgrm import abi, log
from udpgrm.abi import GroupState, MessageFlag
from udpgrm.daemon import fields
from udpgrm.daemon.messages import MessageHandler
from udpgrm.kernel import cgroups, limits, pidfd, sockopt
from udpgrm.kernel.descriptors import Unreachable
from udpgrm.kernel.inotify import Directories
from udpgrm.loader import hooks
from udpgrm.state import address, adoptions, enrolling, records
from udpgrm.state.adoptions import Adoption
from udpgrm.state.entries import GroupEntries
from udpgrm.state.maps import Maps

#: Seconds that a group without sockets waits for its unit to be started again.
_PATIENCE_S = 300.0
_AFTER_MESSAGES_S = 1.0


class Adoptions:
    """Renews adoptions when their cgroups come back under another id.

    cgroupfs reports new directories (inotify), so that is known before the unit's process has
    bound a socket; sockets that it has bound nevertheless are enrolled then.
    """

    def __init__(
        self, maps: Maps, messages: MessageHandler, pin_directory: Path, with_sendmsg: bool
    ) -> None:
        """Renew the adoptions in these maps."""
        self._maps = maps
        self._messages = messages
        self._pins = pin_directory
        self._with_sendmsg = with_sendmsg
        self._created = Directories()
        self._missing: dict[Adoption, float] = {}  # since when (monotonic seconds)
        self._awaited: set[tuple[int, int]] = set()  # (group id, epoch)
        #: When (monotonic seconds) `reconcile` has something to do; None: it has not.
        self.due: Optional[float] = None

    def fileno(self) -> int:
        """Return the descriptor that is readable when an adopted cgroup may exist again."""
        return self._created.fileno()

    def expect(self) -> None:
        """Schedule a check soon: a command that registered sockets may have noted an adoption."""
        self.due = self.due or time.monotonic() + _AFTER_MESSAGES_S

    def holds(self, group_id: int, epoch: int) -> bool:
        """Return whether a group is kept for a unit that is being started."""
        return (group_id, epoch) in self._awaited

    def reconcile(self) -> None:
        """Renew adoptions whose cgroups exist again, drop ended ones, and watch for the rest."""
        self.due = None
        self._created.clear()
        watched: set[Path] = set()
        missing: dict[Adoption, float] = {}
        awaited: set[tuple[int, int]] = set()
        for adoption in adoptions.all_of(self._maps):
            try:
                kept = self._look_at(adoption)
            except OSError as error:  # the others are not to go without for this one
                log.problem(f"{_named(adoption)} is not adopted again yet: {limits.explain(error)}")
                awaited.add((adoption.group_id, adoption.epoch))
                continue
            if kept is None:
                adoptions.remove(self._maps, adoption)
                continue
            directory, is_there = kept
            if not is_there:
                missing[adoption] = self._missing.get(adoption, time.monotonic())
            if is_there or time.monotonic() - missing[adoption] < _PATIENCE_S:
                awaited.add((adoption.group_id, adoption.epoch))
            watched.add(_nearest(directory.parent))
        self._missing, self._awaited = missing, awaited
        self._created.watch(watched)

    def _look_at(self, adoption: Adoption) -> Optional[tuple[Path, bool]]:
        """Return the cgroup's directory, and whether it exists; None: the adoption has ended."""
        group = self._maps.group(adoption.group_id)
        if group.state != GroupState.LIVE or group.epoch != adoption.epoch:
            return None
        if adoption.directory is None:
            # without a path it ends with its cgroup
            [*found] = cgroups.paths_of({adoption.cgroup})
            return (Path(found[0]), True) if found else None
        if self._is_taken(group, adoption):
            return None
        with contextlib.suppress(FileNotFoundError):
            identity = cgroups.identity(adoption.directory)
            if identity != adoption.cgroup:
                self._renew(adoption, identity)
            return adoption.directory, True
        return adoption.directory, False

    def _is_taken(self, group: abi.Group, adoption: Adoption) -> bool:
        """Return whether another generation has the slot by now."""
        number = abi.slot_of(group.max_apps, adoption.application, adoption.generation)
        with (
            contextlib.suppress(LookupError),
            GroupEntries(self._maps, adoption.group_id) as entries,
        ):
            return bool(entries.slot(number).generation != adoption.generation)
        return False

    def _renew(self, adoption: Adoption, identity: int) -> None:
        assert adoption.directory is not None
        hooked = {Path(path) for path in hooks.hooked_cgroups(self._pins)}
        if not hooked.intersection((adoption.directory, *adoption.directory.parents)):
            hooks.install(self._pins, adoption.directory, self._with_sendmsg)
        renewed = adoptions.renew(self._maps, adoption, identity)
        log.step(
            f"{adoption.directory} was started again: its sockets are of generation "
            f"{adoption.generation}",
            {
                **fields.of_group(self._maps.group(adoption.group_id)),
                "application": adoption.application,
                "generation": adoption.generation,
            },
        )
        for pid in cgroups.processes(adoption.directory):
            try:
                for cookie, fd in pidfd.sockets_of(pid):
                    with socket.socket(fileno=fd) as sock:
                        self._enroll(renewed, cookie, sock)
            except Unreachable as error:
                log.problem(str(error.strerror))

    def _enroll(self, adoption: Adoption, cookie: int, sock: socket.socket) -> None:
        """Enroll a socket that was bound before the hooks knew its cgroup."""
        group = self._maps.group(adoption.group_id)
        if not pidfd.is_unconnected(sock) or address.bound(sock) != address.of_key(group.key):
            return
        request = enrolling.request_of(self._maps, cookie, sock)
        if (
            request.group
            or request.uid != group.uid
            or request.ifindex != group.key.ifindex
            or sockopt.netns_cookie(sock) != group.key.netns
        ):
            return
        request.group, request.epoch = adoption.group_id + 1, adoption.epoch
        request.generation, request.app = adoption.generation, adoption.application
        request.registered = 1
        records.write_request(self._maps, sock.fileno(), request)
        self._messages.handle(
            abi.Message(
                flags=MessageFlag.JOIN | MessageFlag.REGISTER,
                group_id=adoption.group_id,
                epoch=adoption.epoch,
                generation=adoption.generation,
                app=adoption.application,
                cookie=cookie,
                uid=request.uid,
                ns_pid=os.getpid(),
                fd=sock.fileno(),
            )
        )


def _named(adoption: Adoption) -> str:
    return str(adoption.directory or f"cgroup {adoption.cgroup}")


def _nearest(directory: Path) -> Path:
    """Return the directory, or the nearest parent that exists."""
    return next(path for path in (directory, *directory.parents) if path.is_dir())
