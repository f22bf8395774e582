# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Messages of the hooks: each names a group, and most of them a socket to be registered."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Iterator
from typing import Optional

from udpgrm import abi, log
from udpgrm.abi import GroupState, MessageFlag
from udpgrm.daemon import fields, trains
from udpgrm.daemon.deferred import Deferred, key_of
from udpgrm.daemon.entering import Entrance
from udpgrm.daemon.registration import Registrar
from udpgrm.daemon.searching import Search
from udpgrm.daemon.steering import Steering, count_failure
from udpgrm.daemon.tubular import Tubular
from udpgrm.journald import Fields, MessageId
from udpgrm.kernel import pidfd
from udpgrm.kernel.descriptors import Unreachable
from udpgrm.state import address, connected, connecting, holders
from udpgrm.state.maps import Maps

#: Reasons of the kernel's refusals to attach a program to a socket.
_REFUSED = {
    errno.EINVAL: "it is in no reuseport group (connect(2) takes a socket out of it, and so does "
    "SO_BINDTODEVICE after bind(2))",
    errno.EBUSY: "it still belongs to a group of another daemon",
    errno.EPERM: "its filters are locked (SO_LOCK_FILTER), or another program on its cgroup "
    "refuses SO_ATTACH_REUSEPORT_EBPF: see udpgrm doctor",
}
_CLOSED = "was closed before it could be registered"
#: The reason that a living socket is in no process's table of descriptors.
_ELSEWHERE = "it is passed on by SCM_RIGHTS, or only an io_uring or a single thread has it"


class MessageHandler:
    """Serves messages, and defers messages whose program or socket is not there yet."""

    def __init__(
        self, maps: Maps, steering: Steering, registrar: Registrar, tubular: Optional[Tubular]
    ) -> None:
        """Take over the messages that an earlier daemon has deferred."""
        self._maps = maps
        self._steering = steering
        self._registrar = registrar
        self._tubular = tubular
        #: Groups that were logged, but not those made while no daemon ran: id -> epoch
        self._known = {
            group_id: group.epoch
            for group_id in maps.groups_in(GroupState.LIVE)
            if (group := maps.group(group_id)).program or group.next_entry
        }
        #: A socket was gone, or its quota is used up: garbage is to be collected soon
        self.missed_one = False
        self.deferred = Deferred(maps)
        self._search = Search(functools.partial(holders.find, maps))
        self.entrance = Entrance(maps)
        #: Within a round: by network namespace, the sockets that have asked for a generation
        self._present: dict[int, set[int]] = {}

    def begin_round(self) -> None:
        """Begin a round of messages: sockets and programs may have changed since the last one."""
        self._registrar.begin_round()
        self._steering.begin_round()
        self._present.clear()

    def _group_of(self, message: abi.Message) -> Optional[abi.Group]:
        """Return the message's group; None: it was deleted."""
        if message.group_id >= self._maps.group_count:
            return None
        group = self._maps.group(message.group_id)
        return group if group.state == GroupState.LIVE and group.epoch == message.epoch else None

    def _named(self, message: abi.Message) -> Fields:
        group = self._group_of(message)
        return {} if group is None else fields.of_message(group, message)

    def announce(self, group_id: int, group: abi.Group) -> None:
        """Log a group that is new."""
        if self._known.get(group_id) != group.epoch:
            self._known[group_id] = group.epoch
            log.event(
                f"socket group created {address.of_key(group.key)}",
                fields.of_group(group),
            )

    def drop_group(self, group_id: int) -> None:
        """Drop the state of a deleted group."""
        self._steering.drop(group_id)
        self._known.pop(group_id, None)

    def handle(self, message: abi.Message) -> None:
        """Serve one message, or defer it."""
        group_id, group = message.group_id, self._group_of(message)
        if group is None:
            return
        self.announce(group_id, group)
        if not message.flags:  # another user's service is refused because of it
            self.missed_one = True
            if group.awaited:
                self.entrance.hasten(group_id)
            return
        if message.flags & MessageFlag.PROGRAM:
            self._steering.foreign.refused(message, group)
            return
        if message.flags == MessageFlag.RECHECK:
            self.entrance.expect()
            self.entrance.hasten(group_id)
            return
        if message.flags & MessageFlag.CONNECT:
            self._look_at_connect(message)
            return
        if message.flags & MessageFlag.WORKING_GEN and self._waits_for_sockets(group_id, group):
            self.deferred.await_program(message)
            return
        if message.flags & (MessageFlag.JOIN | MessageFlag.REGISTER):
            self._serve_at_once(message)
        if message.flags & MessageFlag.WORKING_GEN:
            where = address.of_key(group.key)
            named = fields.of_message(group, message)
            log.event(
                f"Working gen app={message.app} {message.generation} {where}",
                named,
                MessageId.WORKING_GENERATION,
            )
            log.event("setting working gen", named)
            group.critical_gauge = 0
            self._register_with_tubular(group_id, group, message)

    def _serve_at_once(self, message: abi.Message) -> None:
        """Serve a message whose socket is where it says; else search for it."""
        fd = None
        try:
            fd = pidfd.socket_at(message.ns_pid, message.fd, message.cookie)
        except Unreachable as error:
            if error.errno == errno.EPERM:
                # no scan of all processes would find it; a daemon with more rights may
                self.deferred.await_program(message)
                if message.flags & MessageFlag.REGISTER:
                    log.problem(
                        f"socket {message.cookie:#x} cannot be registered: {error.strerror}",
                        self._named(message),
                        MessageId.NOT_REGISTERED,
                    )
                return
        except OSError:  # there is no descriptor for it
            pass
        if fd is None:  # handed on, or its process lives in another pid namespace
            self.deferred.add(message)
            self._search.add(message)
            return
        try:
            for earlier in self._search.drop(message.cookie):
                self.settle(earlier)
            self.serve(message, (message.ns_pid, fd))
        finally:
            os.close(fd)

    def serve(self, message: abi.Message, found: Optional[tuple[int, int]]) -> None:
        """Register a socket, or undo what was done to it to connect.

        found: a pid that has it, and a duplicate; None: no process has it.
        """
        if message.flags & MessageFlag.CONNECT:
            if found is not None:
                self._after_connect(message, found[1])
            return
        reason = self._search.why_unreachable(message.cookie)
        if found is None and self._lives(message):
            if self._search.retry(message):
                reason = reason or f"no process has a descriptor of it ({_ELSEWHERE})"
                log.problem(
                    f"socket {message.cookie:#x} cannot be registered yet: {reason}",
                    self._named(message),
                    MessageId.NOT_REGISTERED,
                )
            return
        self._search.end_pauses(message.cookie)
        if found is None:
            what = f"cannot be registered: {reason}" if reason else _CLOSED
            log.problem(
                f"socket {message.cookie:#x} {what}",
                self._named(message),
                MessageId.NOT_REGISTERED,
            )
            self.missed_one = True
            return
        group = self._group_of(message)
        if group is None:
            return
        # once the socket is found: any user can ask for a program and close the socket
        if not self._steering.ensure(message.group_id, group):
            self.deferred.await_program(message)
            return
        try:
            self._register(group, message, found[1])
        except LookupError:
            self.missed_one = True  # closed sockets hold entries until garbage is collected
            raise
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            log.problem(
                f"socket {message.cookie:#x} of {address.of_key(group.key)} cannot be registered: "
                f"{_REFUSED[error.errno]}",
                fields.of_message(group, message),
                MessageId.NOT_REGISTERED,
            )

    def _lives(self, message: abi.Message) -> bool:
        """Return whether a socket that no process has still lives, in a generation."""
        group = self._group_of(message)
        if group is None:
            return False
        namespace = group.key.netns
        if namespace not in self._present:
            records = connected.records(self._maps, namespace)
            self._present[namespace] = {record.cookie for record in records or ()}
        return message.cookie in self._present[namespace]

    def _register(self, group: abi.Group, message: abi.Message, fd: int) -> None:
        where = address.of_key(group.key)
        log.event(
            f"socket found {where} so_cookie {message.cookie:#x}",
            fields.of_message(group, message),
        )
        with self._registrar.entries(message.group_id) as group_entries:
            if connecting.is_connected(fd):
                connecting.give_back(self._maps, group_entries, message, fd)
                self._registrar.begin_round()
                return
            if group.key.protocol and not _is_listening(fd):
                self.deferred.await_room(message)  # the kernel enters it from listen(2) on
                return
            self._steering.attach(message.group_id, fd)
            connecting.take_lent(self._maps, fd)
            trains.turn_off(group, fd, f"socket {message.cookie:#x} of {where}")
            self._registrar.register(group, group_entries, message, fd)

    def _look_at_connect(self, message: abi.Message) -> None:
        """Check the result of a connect(2); the kernel calls its hook before."""
        fd = None
        with contextlib.suppress(OSError):
            fd = pidfd.socket_at(message.ns_pid, message.fd, message.cookie)
        if fd is None:
            self.missed_one = True  # what the kernel took from the array is seen then
            if message.flags & MessageFlag.RECHECK:
                self._search.add(message)
            return
        try:
            self._after_connect(message, fd)
        finally:
            os.close(fd)

    def _after_connect(self, message: abi.Message, fd: int) -> None:
        with self._registrar.entries(message.group_id) as group_entries:
            if connecting.is_connected(fd):
                connecting.give_back(self._maps, group_entries, message, fd)
                self._registrar.begin_round()
            elif message.flags & MessageFlag.RECHECK:
                connecting.undo(self._maps, group_entries, message, fd)
            else:
                self.entrance.expect(message)

    def _waits_for_sockets(self, group_id: int, group: abi.Group) -> bool:
        """Return whether tubular would not get sockets that wait for a program."""
        if self._tubular is None or not self._label(group_id):
            return False
        return self.awaits(group_id, group.epoch) and not self._steering.ensure(group_id, group)

    def _register_with_tubular(self, group_id: int, group: abi.Group, message: abi.Message) -> None:
        label = self._label(group_id)
        if self._tubular is None or not label:
            return
        slot_id = abi.slot_of(group.max_apps, message.app, message.generation)
        if not self._tubular.register(group_id, group.epoch, slot_id, label):
            count_failure(group)

    def count_tubulars_failures(self) -> None:
        """Count the sockets that tubular has not accepted since the last call."""
        if self._tubular is not None:
            for group_id, epoch in self._tubular.failed():
                group = self._maps.group(group_id)
                if group.state == GroupState.LIVE and group.epoch == epoch:
                    count_failure(group)

    def _label(self, group_id: int) -> str:
        label: bytes = self._maps.dissector(group_id).label
        return label.decode(errors="replace")

    def try_again(self, message: abi.Message) -> None:
        """Defer a message that the machine had no room for."""
        group = self._group_of(message)
        if group is not None and self.deferred.await_room(message):
            group.critical += 1

    def awaits(self, group_id: int, epoch: int) -> bool:
        """Return whether sockets of a group wait for its program, or to be found."""
        return self.deferred.concerns(group_id, epoch)

    def settle(self, message: abi.Message) -> None:
        """Delete a message that was deferred, unless it was deferred again."""
        key = key_of(message)
        if not self.deferred.is_waiting(key) and not self._search.has(message):
            self.deferred.delete(key)

    @property
    def search_due(self) -> Optional[float]:
        """Return when (monotonic seconds) `search` has something to do; None: it has not."""
        return self._search.due

    def search(self) -> Iterator[tuple[abi.Message, Optional[tuple[int, int]]]]:
        """Yield messages whose sockets were missing, to be served with what was found."""
        return self._search.resume()


def _is_listening(fd: int) -> bool:
    with pidfd.borrowed(fd) as sock:
        return pidfd.is_listening(sock)
