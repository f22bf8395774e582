# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The library of named dissectors: the shipped ones, then the operator's.

A named dissector is a folder of body.h and parameters.json; the name of the
folder is its name. One program is compiled per folder: parameters are constants
that are bound when it is linked.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from udpgrm.dissectors import schema_file
from udpgrm.dissectors.parameters import DissectorError, Schema
from udpgrm.files import DISSECTORS_DIR
from udpgrm.names import DISSECTOR

DEFAULT_DIR = "/etc/udpgrm/dissectors"
_OWNER = 0
_BODY, _SCHEMA = "body.h", "parameters.json"


def operators_dir() -> Path:
    """Return the directory of the operator's: UDPGRM_DISSECTORS_DIR or /etc/udpgrm/dissectors."""
    return Path(os.environ.get("UDPGRM_DISSECTORS_DIR", DEFAULT_DIR))


@dataclass(frozen=True)
class Dissector:
    """A named dissector. digest: of the operator's files, "" of a shipped one."""

    name: str
    folder: Path
    schema: Schema
    digest: str = ""


def names(shipped: Path = DISSECTORS_DIR) -> list[str]:
    """Return the names of all dissectors in both directories, each once; they may be unusable."""
    found = set()
    for place in (shipped, operators_dir()):
        if place.is_dir():
            found |= {path.parent.name for path in place.glob(f"*/{_SCHEMA}")}
    return sorted(name for name in found if DISSECTOR.fullmatch(name))


def find(name: str, shipped: Path = DISSECTORS_DIR) -> Dissector:
    """Return a dissector by name; `shipped` is bpf/dissectors. Raises DissectorError."""
    if not DISSECTOR.fullmatch(name):
        raise DissectorError(f"not a dissector's name: {name!r} (lower case, digits and _)")
    folder = shipped / name
    if folder.is_dir():
        if not (folder / _SCHEMA).exists():
            raise DissectorError(f"dissector {name} is a type of its own, not a named one")
        return Dissector(name, folder, read_schema(folder))
    folder = operators_dir() / name
    if not folder.is_dir():
        raise DissectorError(f"no dissector {name!r} in {shipped} or {operators_dir()}")
    try:
        distrusted, digest = _distrusted(folder), _digest(folder)
    except OSError as error:
        raise DissectorError(f"dissector {name}: {error}") from error
    if distrusted:
        raise DissectorError(f"dissector {name}: {distrusted}")
    return Dissector(name, folder, read_schema(folder), digest)


def read_schema(folder: Path) -> Schema:
    """Return the schema of a folder. Raises DissectorError."""
    if not (folder / _BODY).is_file():
        raise DissectorError(f"{folder} has no {_BODY}")
    path = folder / _SCHEMA
    try:
        return schema_file.read(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise DissectorError(f"cannot read {path}: {error}") from error
    except DissectorError as error:
        raise DissectorError(f"{path}: {error}") from error


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def _distrusted(folder: Path) -> Optional[str]:
    """Return why a folder's programs are not loaded: a user other than root could change them."""
    for path in (folder.parent, folder, *sorted(folder.rglob("*"))):
        about = path.stat()
        if about.st_uid != _OWNER:
            return f"{path} does not belong to root (chown -R root {folder.parent})"
        if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"{path} is writable by others than root (chmod -R go-w {folder.parent})"
    return None


def _digest(folder: Path) -> str:
    import hashlib

    digest = hashlib.sha256()
    for path in _files(folder):
        digest.update(str(path.relative_to(folder)).encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()
