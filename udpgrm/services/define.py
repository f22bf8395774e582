# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The file of a service's definition: compare, validate beside the others, replace in one step."""

from __future__ import annotations

import itertools
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import yaml

from udpgrm import atomic_write
from udpgrm.services import crosscheck, instance_files, loader
from udpgrm.services.document import Problem

MODE = 0o644
_DIRECTORY_MODE = 0o755


@dataclass(frozen=True)
class File:
    """A file's content, owner and permissions."""

    content: bytes
    uid: int
    mode: int = MODE

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of docs/host-interface.md."""
        text = self.content.decode("utf-8", errors="replace")
        return {"text": text, "uid": self.uid, "mode": f"{self.mode:04o}"}


@dataclass(frozen=True)
class Change:
    """A definition's file as it is and as it is to be; None: there is none."""

    path: Path
    before: Optional[File]
    after: Optional[File]

    @property
    def changed(self) -> bool:
        """Return whether there is something to do."""
        return self.before != self.after

    def apply(self) -> None:
        """Replace or remove the file. Raises OSError."""
        if self.after is None:
            self.path.unlink()
            return
        if not self.path.parent.is_dir():
            self.path.parent.mkdir(parents=True)
            self.path.parent.chmod(_DIRECTORY_MODE)  # the umask cuts mkdir's mode
        atomic_write.replace(self.path, self.after.content, self.after.mode)


def change(name: str, content: Optional[bytes], directory: Path) -> Change:
    """Compare a service's file with the one it is to have; content None: none.

    Raises DefinitionError if what has its name is no file, and OSError.
    """
    path = directory / f"{name}{loader.SUFFIX}"
    after = None if content is None else File(content, os.geteuid())
    if not os.path.lexists(path):
        return Change(path, None, after)
    if not path.is_file():  # a pipe would be waited for
        raise loader.DefinitionError(f"{path} is not a file that can be read: remove it")
    with open(path, "rb") as file:
        found = os.fstat(file.fileno())
        before = File(file.read(), found.st_uid, stat.S_IMODE(found.st_mode))
    return Change(path, before, after)


def problems(name: str, content: bytes, directory: Path) -> list[Problem]:
    """Return what is wrong with a definition, in it and beside the others of its directory.

    Problems that the others have without it do not count. Raises OSError, MissingLibrary.
    """
    file = str(directory / f"{name}{loader.SUFFIX}")
    service, own = loader.parse(name, content)
    if service is None:
        return [Problem(file, key, reason) for key, reason in own]
    broken = [Problem(file, *item) for item in instance_files.problems(service)]
    there = loader.read_directory(directory) if directory.is_dir() else loader.Found()
    others = [(path, other) for path, other in there.services if path != file]
    # two definitions that claim the same: the later one has the problem
    together = sorted([*others, (file, service)], key=lambda item: item[0])
    found = (Problem(*item) for item in crosscheck.between(together))
    return broken + [item for item in found if item.file == file or item not in there.problems]


def as_yaml(content: bytes) -> bytes:
    """Return a definition as YAML: JSON is written out, below the comments that it begins with.

    Anything else is returned as it is, also what is neither.
    """
    comments = b""
    for line in itertools.takewhile(_is_comment, content.splitlines(keepends=True)):
        comments += line
    try:
        data = json.loads(content[len(comments) :], object_pairs_hook=_without_repetition)
        text = yaml.safe_dump(data, sort_keys=False)
    except (ValueError, RecursionError):
        return content
    return comments + b"---\n" + text.encode()


def _is_comment(line: bytes) -> bool:
    return line.startswith(b"#")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given again")
    return found
