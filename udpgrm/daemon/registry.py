# SPDX-License-Identifier: Apache-2.0
"""Messages to registrations: sockets get their entries, indices and programs."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from collections.abc import Iterator
from typing import Optional

from udpgrm import abi, log
from udpgrm.abi import GroupState, MessageFlag
from udpgrm.build.cache import BuildError
from udpgrm.daemon import connecting, failures, renewing, trains
from udpgrm.daemon.compiling import Compiler
from udpgrm.daemon.deferred import Deferred, key_of
from udpgrm.daemon.entering import Entrance
from udpgrm.daemon.foreign import Foreign
from udpgrm.daemon.pool import Pool
from udpgrm.daemon.programs import Linker, digest_of, faults_of, steering_of
from udpgrm.daemon.searching import Search
from udpgrm.daemon.tubular import Tubular
from udpgrm.kernel import libbpf, pidfd
from udpgrm.kernel.descriptors import Unreachable
from udpgrm.state import address, counters, entries
from udpgrm.state.entries import GroupEntries
from udpgrm.state.maps import Maps

#: What the kernel does not do with a socket, and why.
_REFUSED = {
    errno.EINVAL: "it is in no reuseport group (connect(2) takes a socket out of it)",
    errno.EBUSY: "it still belongs to a group of another daemon",
    errno.EPERM: "its filters are locked (SO_LOCK_FILTER), or another udpgrm's hooks guard it",
}


class Registry:
    """Everything the daemon does to one group at a time."""

    def __init__(
        self,
        maps: Maps,
        pool: Pool,
        compiler: Compiler,
        linker: Linker,
        tubular: Optional[Tubular],
    ) -> None:
        """Work on these maps; adopts whatever groups are live in them."""
        self._maps = maps
        self._pool = pool
        self._compiler = compiler
        self._linker = linker
        self._tubular = tubular
        #: Group id -> program id: sockets hold the program, so that no descriptor has to
        self._programs: dict[int, int] = {}
        #: Group id -> fd of a program that no socket has yet, within a round
        self._unattached: dict[int, int] = {}
        self._rejected: dict[int, int] = {}  # group id -> epoch
        self._known: dict[int, int] = {}  # group id -> epoch
        self._outdated: set[int] = set()
        #: A socket was gone before it was served: its group may have none.
        self.missed_one = False
        #: (group id, slot) -> first index not known to be taken, within a round
        self._taken_until: dict[tuple[int, int], int] = {}
        for number in maps.groups_in(GroupState.LIVE):
            self._known[number] = maps.group(number).epoch
            self._outdated.add(number)
        #: Groups whose program was found to be missing, within a round
        self._unready: set[int] = set()
        #: Messages to be handled again and then settled
        self.deferred = Deferred(maps)
        self._search = Search()
        self._foreign = Foreign()
        self.entrance = Entrance(maps)

    def begin_round(self) -> None:
        """Before some messages: sockets and programs may have changed since the last ones."""
        self._taken_until.clear()
        self._unready.clear()
        while self._unattached:
            os.close(self._unattached.popitem()[1])

    def _group_of(self, message: abi.Message) -> Optional[abi.Group]:
        """The message's group; None: it is no more."""
        if message.group >= self._maps.config.groups:
            return None
        group = self._maps.group(message.group)
        return group if group.state == GroupState.LIVE and group.epoch == message.epoch else None

    def handle(self, message: abi.Message) -> None:
        """Serve one message, or put it off: its group's program or its socket is not there yet."""
        number, group = message.group, self._group_of(message)
        if group is None:
            return
        self.announce(number, group)
        if not message.flags:  # another user's service is refused because of it
            self.missed_one = True
            return
        if message.flags & MessageFlag.PROGRAM:
            self._foreign.refused(message, address.of_key(group.key))
            return
        if message.flags == MessageFlag.LOOK:
            self.entrance.expect()
            return
        if message.flags & MessageFlag.CONNECT:
            self._look_at_connect(message)
            return
        if message.flags & MessageFlag.WORKING_GEN and self._waits_for_sockets(number, group):
            self.deferred.await_program(message)
            return
        if message.flags & (MessageFlag.JOIN | MessageFlag.REGISTER):
            self._serve_at_once(message)
        if message.flags & MessageFlag.WORKING_GEN:
            where = address.of_key(group.key)
            log.event(f"Working gen app={message.app} {message.generation} {where}")
            log.event("setting working gen")
            group.critical_gauge = 0
            self._hand_on(number, group, message)

    def _waits_for_sockets(self, number: int, group: abi.Group) -> bool:
        """Whether tubular would not get sockets that wait for a program."""
        if self._tubular is None or not self._label(number):
            return False
        return self.awaits(number, group.epoch) and not self._has_program(number, group)

    def try_again(self, message: abi.Message) -> None:
        """Defer a message that the machine had no room for."""
        group = self._group_of(message)
        if group is not None and self.deferred.await_room(message):
            group.critical += 1

    def _hand_on(self, number: int, group: abi.Group, message: abi.Message) -> None:
        label = self._label(number)
        if self._tubular is None or not label:
            return
        slot = abi.slot_of(group.max_apps, message.app, message.generation)
        if not self._tubular.register(number, group.epoch, slot, label):
            _count_failure(group)

    def count_tubulars_failures(self) -> None:
        """Count what tubular has not taken since."""
        if self._tubular is not None:
            for number, epoch in self._tubular.failed():
                group = self._maps.group(number)
                if group.state == GroupState.LIVE and group.epoch == epoch:
                    _count_failure(group)

    def _label(self, number: int) -> str:
        label: bytes = self._maps.dissector(number).label
        return label.decode(errors="replace")

    def replace_outdated(self) -> None:
        """Put this version's programs in the place of an earlier daemon's.

        The kernel swaps a group's program atomically, under traffic; any socket
        of the group will do to say so. Some may have to wait for a compiler.
        """
        wanted: dict[int, int] = {}  # socket cookie -> group
        for number in sorted(self._outdated):
            group = self._maps.group(number)
            if group.state != GroupState.LIVE or number in self._programs:
                self._outdated.discard(number)
                continue
            with contextlib.suppress(BuildError):
                dissector = self._maps.dissector(number)
                if not self._compiler.ready(steering_of(dissector)):
                    continue
                if group.program != digest_of(dissector):
                    wanted.update(self._sockets_of(number))
            self._outdated.discard(number)
        for cookie, (_, fd) in pidfd.find_sockets(set(wanted)).items():
            number = wanted[cookie]
            group = self._maps.group(number)
            try:
                if self._has_program(number, group):
                    self._attach(number, fd)
            finally:
                os.close(fd)

    def put_back_programs(self) -> None:
        """Steer groups by their own program again where another one has taken its place."""

        def attach(number: int, fd: int) -> bool:
            if not self._has_program(number, self._maps.group(number)):
                return False
            if number not in self._programs:
                return False
            self._attach(number, fd)
            return True

        self._foreign.put_back(self._maps, attach)

    def _sockets_of(self, number: int) -> dict[int, int]:
        """One living socket's cookie, with the group's id."""
        with contextlib.suppress(LookupError), GroupEntries(self._maps, number) as group_entries:
            for array_entry in range(min(self._maps.group(number).next_entry, abi.GROUP_ENTRIES)):
                cookie = group_entries.cookie_at(array_entry)
                if cookie is not None:
                    return {cookie: number}
        return {}

    def awaits(self, number: int, epoch: int) -> bool:
        """Whether sockets of a group wait for its program, or to be found."""
        return self.deferred.concerns(number, epoch)

    def settle(self, message: abi.Message) -> None:
        """Forget a message that was deferred, unless it was again."""
        key = key_of(message)
        if not self.deferred.is_waiting(key) and not self._search.has(message):
            self.deferred.delete(key)

    @property
    def search_due(self) -> Optional[float]:
        """When (monotonic seconds) `search` has something to do; None: it has not."""
        return self._search.due

    def search(self) -> Iterator[tuple[abi.Message, Optional[tuple[int, int]]]]:
        """Messages whose sockets were missing, to be served with what was found, then settled."""
        return self._search.go_on()

    def _has_program(self, number: int, group: abi.Group) -> bool:
        """Whether the group's program is loaded, or never will be; else it is made."""
        if number in self._programs or self._rejected.get(number) == group.epoch:
            return True
        if number in self._unready:
            return False
        try:
            dissector = self._maps.dissector(number)
            program = steering_of(dissector)
            if not self._compiler.ready(program):
                self._unready.add(number)
                return False
            if self._tubular is not None and self._label(number) and not group.next_entry:
                self._pool.ensure_sockmap(number)
            try:
                self._load(number)
            except renewing.BROKEN as error:
                if failures.is_machines(error) or not self._compiler.renew(program):
                    raise
                log.step(f"a template does not load and is compiled once more: {error}")
                self._compiler.ready(program)
                self._unready.add(number)
                return False
            group.program = digest_of(dissector)
            for fault in faults_of(dissector):
                log.step(f"filter of {address.of_key(group.key)}: {fault}")
        except (BuildError, FileNotFoundError, *renewing.BROKEN) as error:
            if failures.is_machines(error):
                raise
            # it still delivers: without a program the kernel's own hash chooses
            self._rejected[number] = group.epoch
            _count_failure(group)
            log.step(f"no steering for {address.of_key(group.key)}: {error}")
        return True

    def _load(self, number: int) -> None:
        fd = self._linker.steering(number)
        self._programs[number] = libbpf.prog_id(fd)
        self._unattached[number] = fd

    def _attach(self, number: int, fd: int) -> None:
        """Make the group's program that of a socket's reuseport group, unless there is none."""
        if number not in self._programs:
            return
        if number not in self._unattached:
            try:
                self._unattached[number] = libbpf.prog_by_id(self._programs[number])
            except FileNotFoundError:  # all sockets that had it are closed
                self._load(number)
        program = self._unattached.pop(number)
        try:
            self._linker.attach(fd, program)
        finally:
            os.close(program)

    def announce(self, number: int, group: abi.Group) -> None:
        """Log a group that is new."""
        if self._known.get(number) != group.epoch:
            self._known[number] = group.epoch
            log.event(f"socket group created {address.of_key(group.key)}")

    def _serve_at_once(self, message: abi.Message) -> None:
        """Serve a message whose socket is where it says; else it is looked for."""
        fd = None
        try:
            fd = pidfd.socket_at(message.ns_pid, message.fd, message.cookie)
        except Unreachable as error:
            if error.errno == errno.EPERM:
                # no look at all processes would find it; a daemon with more rights may
                self.deferred.await_program(message)
                if message.flags & MessageFlag.REGISTER:
                    log.step(f"socket {message.cookie:#x} cannot be registered: {error.strerror}")
                return
        except OSError:  # no descriptor is left
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

    def _look_at_connect(self, message: abi.Message) -> None:
        """See what became of a connect(2); the kernel calls its hook before."""
        fd = None
        with contextlib.suppress(OSError):
            fd = pidfd.socket_at(message.ns_pid, message.fd, message.cookie)
        if fd is None:
            self.missed_one = True  # what the kernel took from the array is seen then
            return
        try:
            with GroupEntries(self._maps, message.group) as group_entries:
                if connecting.is_connected(fd):
                    connecting.give_back(self._maps, group_entries, message, fd)
                    self._taken_until.clear()
                elif message.flags & MessageFlag.LOOK:
                    connecting.undo(self._maps, group_entries, message, fd)
                else:
                    self.entrance.expect(message)
        finally:
            os.close(fd)

    def serve(self, message: abi.Message, found: Optional[tuple[int, int]]) -> None:
        """Register a socket; found: a pid that has it, and a duplicate."""
        if found is None:
            excuse = self._search.excuse
            log.step(
                f"socket {message.cookie:#x} was closed before it could be registered"
                + (f", unless one has it that cannot be asked: {excuse}" if excuse else "")
            )
            self.missed_one = True
            return
        group = self._group_of(message)
        if group is None:
            return
        # not before its socket is found: anybody can ask for a program and close it
        if not self._has_program(message.group, group):
            self.deferred.await_program(message)
            return
        self._place(group, message, found[1])

    def _place(self, group: abi.Group, message: abi.Message, fd: int) -> None:
        number, where = message.group, address.of_key(group.key)
        try:
            log.event(f"socket found {where} so_cookie {message.cookie:#x}")
            with GroupEntries(self._maps, number) as group_entries:
                if connecting.is_connected(fd):
                    connecting.give_back(self._maps, group_entries, message, fd)
                    self._taken_until.clear()
                    return
                self._attach(number, fd)
                connecting.take_lent(self._maps, fd)
                trains.turn_off(group, fd, f"socket {message.cookie:#x} of {where}")
                registration = self._enter(number, group, group_entries, message.cookie, fd)
                if message.flags & MessageFlag.REGISTER:
                    self._register(number, group, group_entries, message, registration, fd)
                libbpf.map_update(
                    self._maps["registrations"], fd.to_bytes(4, sys.byteorder), bytes(registration)
                )
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            log.step(
                f"socket {message.cookie:#x} of {where} cannot be registered: "
                f"{_REFUSED[error.errno]}"
            )

    def _enter(
        self, number: int, group: abi.Group, group_entries: GroupEntries, cookie: int, fd: int
    ) -> abi.Registration:
        """Return the socket's registration record, or a new one outside any generation."""
        data = libbpf.map_lookup(
            self._maps["registrations"],
            fd.to_bytes(4, sys.byteorder),
            ctypes.sizeof(abi.Registration),
        )
        if data is not None:
            registration = abi.Registration.from_buffer_copy(data)
            here = registration.group == number + 1 and registration.epoch == group.epoch
            if here and registration.array_entry != abi.ENTRY_NONE:
                return registration
        registration = abi.Registration(
            cookie=cookie,
            group=number + 1,
            epoch=group.epoch,
            generation=abi.GENERATION_NONE,
            slot=abi.INDEX_NONE,
            index=abi.INDEX_NONE,
        )
        key = cookie.to_bytes(8, sys.byteorder)
        data = libbpf.map_lookup(self._maps["entries"], key, ctypes.sizeof(abi.EntryRef))
        if data is not None:
            # a daemon was killed between entering it and telling it so
            ref = abi.EntryRef.from_buffer_copy(data)
            if ref.group == number:
                registration.array_entry = ref.array_entry
                if group_entries.cookie_at(ref.array_entry) != cookie:
                    group_entries.enter(ref.array_entry, fd)
                return registration
        try:
            self._pool.take_entry(group)
        except LookupError:
            self.missed_one = True  # closed ones hold entries until they are seen
            raise
        registration.array_entry = self._new_entry(group, group_entries)
        ref = abi.EntryRef(array_entry=registration.array_entry, group=number)
        libbpf.map_update(self._maps["entries"], key, bytes(ref))
        group_entries.enter(registration.array_entry, fd)
        return registration

    def _new_entry(self, group: abi.Group, group_entries: GroupEntries) -> int:
        for _ in range(abi.GROUP_ENTRIES):
            turn: int = group.next_entry
            group.next_entry = turn + 1
            array_entry = turn % abi.GROUP_ENTRIES
            if group_entries.cookie_at(array_entry) is not None:
                continue
            if turn >= abi.GROUP_ENTRIES:
                for number, slot in group_entries.used_slots():
                    if array_entry in slot.array_entry[:]:
                        entries.drop_entries(slot, {array_entry})
                        group_entries.write_slot(number, slot)
                for table, key in list(entries.flows_of_entry(self._maps, group, array_entry)):
                    with self._maps.inner("flow_tables", table) as fd:
                        if fd is not None:
                            libbpf.map_delete(fd, key)
            return array_entry
        raise LookupError(f"all {abi.GROUP_ENTRIES} entries of the group are taken")

    def _register(
        self,
        number: int,
        group: abi.Group,
        group_entries: GroupEntries,
        message: abi.Message,
        registration: abi.Registration,
        fd: int,
    ) -> None:
        where = address.of_key(group.key)
        generation, array_entry = self._generation_asked_for(message, fd), registration.array_entry
        log.event(
            f"registering socket {where} app {message.app} gen {generation} "
            f"so_cookie {message.cookie:#x}"
        )
        if registration.generation == generation and registration.index != abi.INDEX_NONE:
            log.event("registering socket again is legal but weird")
            return
        number_of_slot = abi.slot_of(group.max_apps, message.app, generation)
        if _has_flows(group):  # takes memory: before anything of the socket has changed
            self._pool.ensure_table(number, group, number_of_slot)
        slot = group_entries.slot(number_of_slot)
        if registration.slot == number_of_slot and registration.index != abi.INDEX_NONE:
            entries.drop_entries(slot, {array_entry})
            self._taken_until.pop((number, number_of_slot), None)
        position = self._free_index(number, number_of_slot, slot, array_entry, group_entries)
        if position is None:
            log.event("too many sockets in the gen!")
            if registration.index == abi.INDEX_NONE:  # else it stays where it is
                registration.generation, registration.slot = generation, number_of_slot
            return
        if registration.slot < abi.GENERATION_SLOTS and registration.slot != number_of_slot:
            self._leave_slot(number, registration, group_entries)
        registration.generation, registration.slot = generation, number_of_slot
        if _has_flows(group):
            group.table_mask |= 1 << number_of_slot
        if not slot.live or slot.generation != generation:
            slot.generation, slot.app = generation, message.app
            if not slot.live:
                slot.base_in, slot.base_out = self._packets(number, number_of_slot)
        entries.set_entry(slot, position, array_entry)
        group_entries.write_slot(number_of_slot, slot)
        registration.index = position
        if self._tubular is not None and self._label(number):
            self._tubular.hold(number, number_of_slot, fd)

    def _generation_asked_for(self, message: abi.Message, fd: int) -> int:
        """The generation that a socket has asked for last: messages come in any order."""
        size = ctypes.sizeof(abi.SocketRequest)
        key = fd.to_bytes(4, sys.byteorder)
        data = libbpf.map_lookup(self._maps["socket_request"], key, size)
        if data is not None:
            request = abi.SocketRequest.from_buffer_copy(data)
            here = request.group == message.group + 1 and request.epoch == message.epoch
            if here and request.registered:
                return int(request.generation)
        return int(message.generation)

    def _free_index(
        self,
        number: int,
        slot_number: int,
        slot: abi.Slot,
        array_entry: int,
        group_entries: GroupEntries,
    ) -> Optional[int]:
        """Return the lowest index of a generation that a socket can have; None: it is full."""
        position = _index_of(slot, array_entry)
        if position is None:
            start = self._taken_until.get((number, slot_number), 0)
            position = group_entries.first_free_index(slot, start)
            taken = abi.SLOT_SOCKETS if position is None else position + 1
            self._taken_until[number, slot_number] = taken
        return position

    def _leave_slot(
        self, number: int, registration: abi.Registration, group_entries: GroupEntries
    ) -> None:
        """Take a socket out of the generation that it moves from."""
        slot = group_entries.slot(registration.slot)
        entries.drop_entries(slot, {registration.array_entry})
        group_entries.write_slot(registration.slot, slot)
        self._taken_until.pop((number, registration.slot), None)

    def _packets(self, number: int, slot: int) -> tuple[int, int]:
        reading = counters.read(self._maps, number)
        return reading.packets_in[slot], reading.packets_out[slot]

    def drop_program(self, number: int) -> None:
        """Forget a group's program: the group is gone."""
        self._programs.pop(number, None)
        unattached = self._unattached.pop(number, None)
        if unattached is not None:
            os.close(unattached)
        self._known.pop(number, None)


def _count_failure(group: abi.Group) -> None:
    group.critical += 1
    group.critical_gauge = 1


def _index_of(slot: abi.Slot, array_entry: int) -> Optional[int]:
    found = list(slot.array_entry)
    return found.index(array_entry) if array_entry in found else None


def _has_flows(group: abi.Group) -> bool:
    return bool(group.type & ~abi.DISSECTOR_VERBOSE == abi.DissectorType.FLOW)
