# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A directory on a disk that may be full, and that loses what is not synced in a power cut."""

from __future__ import annotations

import errno
import fnmatch
import os
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Optional

from tests.simulation.scheduler import Process


@dataclass
class File:
    """A file's text; is_safe: it is on the disk, not only in memory."""

    text: str = ""
    is_safe: bool = False


class Disk:
    """Names in one directory. A power cut keeps some first changes of names since the last sync."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self._safe: dict[str, File] = {}
        self._changes: list[tuple[str, Optional[File]]] = []
        self.locks: dict[str, dict[object, tuple[Process, bool]]] = {}
        self.is_full = False

    def need_room(self) -> None:
        """Raise OSError if there is none."""
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def get(self, path: Path) -> File:
        """Return a file. Raises FileNotFoundError."""
        try:
            return self.files[path.name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None

    def add(self, path: Path) -> File:
        """Create a file. Raises OSError."""
        if path.name in self.files:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        self.need_room()
        made = self.files[path.name] = File()
        self._changes.append((path.name, made))
        return made

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file: both names change at once."""
        moved = self.get(source)
        del self.files[source.name]
        self.files[target.name] = moved
        self._changes += [(target.name, moved), (source.name, None)]

    def delete(self, path: Path) -> None:
        """Delete a file, if it exists."""
        if self.files.pop(path.name, None) is not None:
            self._changes.append((path.name, None))

    def names(self, pattern: str) -> list[str]:
        """Return the names of files by a pattern, sorted."""
        return sorted(fnmatch.filter(self.files, pattern))

    def sync(self) -> None:
        """Put all names on the disk."""
        self._safe = dict(self.files)
        self._changes.clear()

    def cut_power(self, random: Random) -> None:
        """Lose what was in memory only: names from some change on, text that was not synced."""
        names = dict(self._safe)
        for name, file in self._changes[: random.randint(0, len(self._changes))]:
            if file is None:
                names.pop(name, None)
            else:
                names[name] = file
        for file in names.values():
            if not file.is_safe:
                file.text = file.text[: random.choice([0, len(file.text) // 2, len(file.text)])]
                file.is_safe = True
        self.files = names
        self.locks.clear()
        self.sync()

    def lock(self, path: Path, opened: object, process: Process, shared: bool) -> bool:
        """Lock a file that a process has opened; return False if another lock excludes that."""
        held = self.locks.setdefault(path.name, {})
        for other, (owner, is_shared) in held.items():
            is_held = owner.lingers or not owner.dead
            if other is not opened and is_held and not (shared and is_shared):
                return False
        held[opened] = process, shared
        return True

    def close(self, path: Path, opened: object) -> None:
        """Unlock what was opened, once its process has ended."""
        held = self.locks.get(path.name, {})
        owner, _ = held.get(opened, (None, False))
        if owner is not None and not owner.lingers:
            del held[opened]
