# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The release of an instance: the operator's name for it, or a fingerprint of what it is started from.

A host records, beside the journal of a restart, the release of that restart. A restart
that was begun otherwise, by hand for example, is of an unknown release.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shlex
import typing as t

from ansible_collections.udpgrm.fleet.plugins.module_utils._host import HostError, JsonObject

DEFAULT_DIRECTORY = "/var/lib/udpgrm/restarts"
# A note is written just before a restart begins; how long that may take.
_BEGIN_S = 60.0
_NAMES_FILES = re.compile(r"(ExecStart|ExecStartPre|Environment|EnvironmentFile)\s*=(.*)")


def state_directory() -> pathlib.Path:
    """Return the directory of journals, by the environment variable of the host's command."""
    return pathlib.Path(os.environ.get("UDPGRM_STATE_DIR", DEFAULT_DIRECTORY))


@dataclasses.dataclass(frozen=True)
class Note:
    """A note that a restart to a release is about to begin; C(at) is seconds since the epoch."""

    release: str
    at: float

    def of(self, journal: JsonObject) -> bool:
        """Return whether a journal is that restart's."""
        began: float = journal["started"]
        return self.at <= began <= self.at + _BEGIN_S


def _path(service: str) -> pathlib.Path:
    return state_directory() / f"{service}.release"


@contextlib.contextmanager
def locked(service: str) -> t.Iterator[None]:
    """Hold the lock for the begin of a restart of the service. Raises HostError."""
    path = _path(service).with_suffix(".release.lock")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        lock = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}") from error
    with open(lock, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def noted(service: str, note: Note) -> t.Iterator[None]:
    """Record the release of a restart that begins in the with block, if it does. Raises HostError."""
    path = _path(service)
    draft, last = path.with_suffix(".release.new"), path.with_suffix(".release.last")
    try:
        draft.unlink(missing_ok=True)  # of a module that was killed; "x" follows no link
        with draft.open("x", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(note), file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise HostError(f"{draft}: {error.strerror}") from error
    last.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.link(path, last)
    draft.replace(path)
    try:
        yield
    except HostError:
        path.unlink()
        with contextlib.suppress(FileNotFoundError):
            last.replace(path)
        raise
    last.unlink(missing_ok=True)


def recorded(service: str, journal: JsonObject | None) -> str | None:
    """Return the release of a restart; None: unknown."""
    if journal is None:
        return None
    try:
        value = json.loads(_path(service).read_text(encoding="utf-8"))
        note = Note(str(value["release"]), float(value["at"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return note.release if note.of(journal) else None


def fingerprint(service: str, unit_text: str) -> str:
    """Return a hash of what an instance is started from: unit, definition, and the files its command names.

    What those files load themselves is not seen.
    """
    seen = hashlib.sha256(unit_text.encode())
    definitions = os.environ.get("UDPGRM_SERVICES_DIR", "/etc/udpgrm/services.d")
    definition = f"{definitions}/{service}.yaml"
    for path in sorted({definition, *_named_files(unit_text)}):
        seen.update(f"\0{path}\0{os.path.realpath(path)}\0".encode())
        if pathlib.Path(path).is_file():
            seen.update(hashlib.sha256(pathlib.Path(path).read_bytes()).digest())
    return f"sha256:{seen.hexdigest()[:16]}"


def _named_files(unit_text: str) -> t.Iterator[str]:
    for line in unit_text.replace("\\\n", " ").splitlines():
        found = _NAMES_FILES.fullmatch(line.strip())
        if not found:
            continue
        try:
            arguments = shlex.split(found[2])
        except ValueError:
            arguments = found[2].split()
        for argument in arguments:
            # an option's or a variable's value, or systemd's prefixes of a command
            value = argument.rpartition("=")[2].lstrip("@-:+!")
            if value.startswith("/") and "%" not in value:
                yield value
