# SPDX-License-Identifier: Apache-2.0
"""The maps that hold all state: made and pinned once, opened by every other process.

What belongs to one group (its sockets, slots and counters) and to one
generation (its flow table) are maps inside of arrays of maps, under the
group's id and the table's. Such an inner map lives as long as the array holds
it, so no map is lost with a daemon that is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import mmap
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional

from udpgrm import abi
from udpgrm.kernel import bpffs, libbpf
from udpgrm.kernel.clock import Jiffies
from udpgrm.state import layout
from udpgrm.state.layout import BY_GROUP, MAX_TABLES, Config, Limits

#: Where the iterators over sockets are pinned, in the pin directory.
ITERATORS = "iterators"


class StateError(Exception):
    """Raised when the pinned state cannot be used; the message says why, and what to do."""


def index(number: int) -> bytes:
    """Return the key of an array's element."""
    return number.to_bytes(4, sys.byteorder)


class Maps:
    """Open file descriptors of the pinned maps, by name."""

    def __init__(self, fds: dict[str, int]) -> None:
        """Take over the descriptors; `close` closes them."""
        self.fds = fds
        #: Links of the iterators over sockets, by name; maps without a pin have none.
        self.iterators: dict[str, int] = {}
        self._mapped: dict[str, mmap.mmap] = {}

    def __getitem__(self, name: str) -> int:
        """Return the fd of a map."""
        return self.fds[name]

    @functools.cached_property
    def clock(self) -> Jiffies:
        """Return the clock of flows and packets: its programs are loaded once, when it is asked."""
        return Jiffies()

    def close(self) -> None:
        """Close every descriptor."""
        loaded = self.__dict__.pop("clock", None)
        if loaded is not None:
            loaded.close()
        for fd in self.fds.values():
            os.close(fd)
        self.fds = {}
        self.close_iterators()

    def close_iterators(self) -> None:
        """Close the links of the iterators."""
        for fd in self.iterators.values():
            os.close(fd)
        self.iterators = {}

    @property
    def config(self) -> Config:
        """Return a copy of the configuration record."""
        data = libbpf.map_lookup(self["config"], index(0), ctypes.sizeof(Config))
        assert data is not None
        return Config.from_buffer_copy(data)

    @property
    def line_bits(self) -> int:
        """Return how many bits of a hash choose a line."""
        lines: int = libbpf.map_info(self["lines"]).max_entries
        return lines.bit_length() - 1

    def write_config(self, config: Config) -> None:
        """Replace the configuration record."""
        libbpf.map_update(self["config"], index(0), bytes(config))

    def group(self, group_id: int) -> abi.Group:
        """Return the group record itself: reads and writes go to the kernel's memory."""
        memory = self._memory("groups", self.group_count * ctypes.sizeof(abi.Group))
        return abi.Group.from_buffer(memory, group_id * ctypes.sizeof(abi.Group))

    def live_group(self, group_id: int) -> Optional[abi.Group]:
        """Return a copy of a live group's record; None: the daemon may be resetting it."""
        group = abi.Group.from_buffer_copy(self.group(group_id))
        return group if group.state == abi.GroupState.LIVE else None

    def live_groups(self) -> Iterator[tuple[int, abi.Group]]:
        """Yield the ids of the live groups with copies of their records."""
        for group_id in self.groups_in(abi.GroupState.LIVE):
            group = self.live_group(group_id)
            if group is not None:
                yield group_id, group

    def groups_in(self, *states: abi.GroupState) -> list[int]:
        """Return the ids of the groups in these states; only the state of each group is read."""
        size, start = ctypes.sizeof(abi.Group), abi.Group.state.offset
        memory = self._memory("groups", self.group_count * size)
        if sys.byteorder == "big":
            start += abi.Group.state.size - 1
        found = memory[start : self.group_count * size : size]
        return [group_id for group_id, state in enumerate(found) if state in states]

    def tables_of(self, *states: abi.GroupState) -> set[int]:
        """Return the flow tables of the groups in these states; only their tables are read."""
        group_ids = self.groups_in(*states)
        memory = self._memory("groups", self.group_count * ctypes.sizeof(abi.Group))
        field, width = abi.Group.table, ctypes.sizeof(ctypes.c_uint16)
        found: set[int] = set()
        with memoryview(memory) as raw, raw.cast("H") as words:
            for group_id in group_ids:
                start = (group_id * ctypes.sizeof(abi.Group) + field.offset) // width
                found.update(words[start : start + field.size // width])
        found.discard(0)
        return found

    def user(self, number: int) -> abi.User:
        """Return the record of a user's resources: the record itself."""
        memory = self._memory("users", abi.USERS * ctypes.sizeof(abi.User))
        return abi.User.from_buffer(memory, number * ctypes.sizeof(abi.User))

    def enrolled_count(self, number: int) -> abi.EnrolledCount:
        """Return how many records of `enrolled` a user has: the record itself."""
        size = ctypes.sizeof(abi.EnrolledCount)
        memory = self._memory("enrolled_counts", abi.USERS * size)
        return abi.EnrolledCount.from_buffer(memory, number * size)

    def socket_map(self, group_id: int) -> str:
        """Return the name of the map of maps that holds a group's sockets."""
        return "sockmaps" if self.has_inner("sockmaps", group_id) else "sockets"

    @functools.cached_property
    def group_count(self) -> int:
        """Return how many groups there can be."""
        return int(self.config.groups)

    def _memory(self, name: str, length: int) -> mmap.mmap:
        """Map an array's elements in the kernel's memory, and return them."""
        if name not in self._mapped:
            page = mmap.PAGESIZE
            self._mapped[name] = mmap.mmap(self[name], (length + page - 1) // page * page)
        return self._mapped[name]

    def dissector(self, group_id: int) -> abi.Dissector:
        """Return a copy of a group's dissector."""
        data = libbpf.map_lookup(self["dissectors"], index(group_id), ctypes.sizeof(abi.Dissector))
        assert data is not None
        return abi.Dissector.from_buffer_copy(data)

    def _inner_id(self, outer: str, number: int) -> ctypes.c_uint32:
        """Return the record of an inner map's id; 0: there is none.

        Recorded because a look-up in a map of maps waits for all running programs, for
        milliseconds, on kernel 6.1 (not on 6.18).
        """
        position = number
        if outer != "flow_tables":
            position += MAX_TABLES + BY_GROUP.index(outer) * self.group_count
        memory = self._memory("inner_ids", 4 * (MAX_TABLES + len(BY_GROUP) * self.group_count))
        return ctypes.c_uint32.from_buffer(memory, 4 * position)

    def has_inner(self, outer: str, number: int) -> bool:
        """Return whether a map of maps has a map there."""
        return self._inner_id(outer, number).value != 0

    def put_inner(self, outer: str, fds: Mapping[int, int]) -> None:
        """Put maps, by their fds, into a map of maps, replacing earlier ones."""
        libbpf.map_update_batch(self[outer], fds)
        for number, fd in fds.items():
            self._inner_id(outer, number).value = libbpf.map_id(fd)

    def disown_inner(self, outer: str, number: int) -> None:
        """Record that a map of maps has no map there; what it has stays until it is replaced.

        To remove it would wait for all running programs.
        """
        self._inner_id(outer, number).value = 0

    def drop_inner(self, outer: str, number: int) -> None:
        """Remove a map from a map of maps; it is freed once no process or program uses it."""
        self._inner_id(outer, number).value = 0
        libbpf.map_delete(self[outer], index(number))

    @contextlib.contextmanager
    def inner(self, outer: str, number: int) -> Iterator[Optional[int]]:
        """Yield an fd of an inner map for the length of a with block; None: empty."""
        identity = self._inner_id(outer, number).value
        fd = None
        if identity:
            with contextlib.suppress(FileNotFoundError):  # replaced just now
                fd = libbpf.map_by_id(identity)
        try:
            yield fd
        finally:
            if fd is not None:
                os.close(fd)


def make(limits: Limits, hz: int, groups_map: str = "udpgrm_groups") -> Maps:
    """Make every map, all or none. `hz` is the kernel's jiffies per second."""
    fds: dict[str, int] = {}
    maps = Maps(fds)
    try:
        for name, entry in layout.MAPS.items():
            fds[name] = entry.make(limits, groups_map)
        maps.write_config(Config(layout=abi.LAYOUT, groups=limits.groups, hz=hz))
    except OSError:
        maps.close()
        raise
    return maps


def create(directory: Path, limits: Limits, hz: int) -> Maps:
    """Make and pin every map, all or none."""
    maps = make(limits, hz, layout.groups_name(directory))
    try:
        for name in reversed(layout.MAPS):  # config last: with it the state is whole
            libbpf.pin(maps[name], str(directory / name))
    except OSError:
        unpin(directory)
        maps.close()
        raise
    return maps


def add_missing(directory: Path, limits: Limits) -> None:
    """Make and pin the maps that an earlier version of the same layout did not have."""
    with contextlib.closing(Maps({"config": libbpf.pinned(str(directory / "config"))})) as maps:
        if maps.config.layout != abi.LAYOUT:
            return
        limits = limits._replace(groups=maps.config.groups)
    for name, entry in layout.MAPS.items():
        if not (directory / name).exists():
            fd = entry.make(limits, layout.groups_name(directory))
            try:
                libbpf.pin(fd, str(directory / name))
            finally:
                os.close(fd)


def open_pinned(directory: Path) -> Maps:
    """Open the maps of a running or earlier daemon.

    Raises FileNotFoundError if there are none, StateError if they are another
    version's, or a user other than root could have pinned them.
    """
    reason = bpffs.distrusted(directory)
    if reason is not None:
        raise StateError(reason)
    fds = {"config": libbpf.pinned(str(directory / "config"))}
    maps = Maps(fds)
    try:
        found = maps.config.layout
        if found != abi.LAYOUT:
            raise StateError(
                f"the maps in {directory} have layout {found}, this version knows {abi.LAYOUT}: "
                "run the version that made them, or remove the directory (flows will move)"
            )
        for name in layout.MAPS.keys() - fds.keys():
            fds[name] = libbpf.pinned(str(directory / name))
        _open_iterators(maps, directory)
    except FileNotFoundError as error:
        maps.close()
        raise StateError(f"{directory} lacks a map: {error}; remove the directory") from error
    except (OSError, StateError):
        maps.close()
        raise
    return maps


def _open_iterators(maps: Maps, directory: Path) -> None:
    """Open the iterators that the daemon has pinned; a daemon that starts has none yet."""
    with contextlib.suppress(FileNotFoundError):
        for path in (directory / ITERATORS).iterdir():
            maps.iterators[path.name] = libbpf.pinned(str(path))


def unpin(directory: Path) -> None:
    """Remove the pins of all maps; programs that use the maps keep them."""
    for name in layout.MAPS:
        with contextlib.suppress(FileNotFoundError):
            (directory / name).unlink()


def flows_in(table: int) -> Iterator[abi.Flow]:
    """Yield the entries of a flow table, by its fd."""
    for _, value in libbpf.map_items(table, ctypes.sizeof(abi.FlowKey), ctypes.sizeof(abi.Flow)):
        yield abi.Flow.from_buffer_copy(value)


def delete(maps: Maps, group_id: int) -> None:
    """Delete a group: its sockets are in none until they register again.

    The daemon releases its maps at the next garbage collection.
    """
    group = maps.group(group_id)
    key = bytes(group.key)
    # a hook may have deleted it first, for another user's group at the address
    if libbpf.map_lookup(maps["group_index"], key, 4) == index(group_id):
        libbpf.map_delete(maps["group_index"], key)
    group.state = abi.GroupState.DELETED
    with maps.inner(maps.socket_map(group_id), group_id) as fd:
        # a socket that is still here could not get an array entry in its next group
        if fd is not None:
            for array_entry in range(min(group.next_entry, abi.GROUP_ENTRIES)):
                libbpf.map_delete(fd, index(array_entry))


def restore(maps: Maps, group_id: int) -> None:
    """Undo the deletion of a group without sockets, unless another one has its address by now."""
    group = maps.group(group_id)
    with contextlib.suppress(FileExistsError):
        libbpf.map_update(maps["group_index"], bytes(group.key), index(group_id), libbpf.NOEXIST)
        group.state = abi.GroupState.LIVE


def lock(directory: Path, shared: bool = False) -> Optional[int]:
    """Take the daemon's lock on its pin directory; None: another daemon has it.

    Held as long as the returned fd is open, so it ends with its process.
    `shared` is for commands that only check whether a daemon runs.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise
    return fd
