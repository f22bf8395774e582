# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The reader of a unit: its file and drop-ins, as systemd.unit(5) finds and reads them.

Strict: what systemd would warn of and ignore is an error here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Directories in which systemd looks for units; an earlier one wins.
DIRECTORIES = tuple(
    Path(name)
    for name in (
        "/etc/systemd/system.control",
        "/run/systemd/system.control",
        "/run/systemd/transient",
        "/run/systemd/generator.early",
        "/etc/systemd/system",
        "/run/systemd/system",
        "/run/systemd/generator",
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
        "/run/systemd/generator.late",
    )
)
_SECTION = re.compile(r"\[([^\[\]]+)\]")
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9-]*")


class UnitError(Exception):
    """Raised when a unit cannot be taken over; the message names file, line and directive."""


@dataclass(frozen=True)
class Setting:
    """A directive of a unit. where: its file and line, for people."""

    section: str
    key: str
    value: str
    where: str


def read(unit: str, directories: Sequence[Path] = DIRECTORIES) -> list[Setting]:
    """Return the directives of a unit and its drop-ins, in the order that systemd applies them.

    Raises UnitError, OSError.
    """
    file = _fragment(unit, directories)
    names = list(dict.fromkeys(name for one in (unit, file.name) for name in _names(one)))
    settings = list(parse(file))
    for drop_in in _drop_ins(names, directories):
        settings += parse(drop_in)
    return settings


def _fragment(unit: str, directories: Sequence[Path]) -> Path:
    """Return the unit's file; for an alias, the file that it is an alias of."""
    for name in dict.fromkeys((unit, _template(unit))):
        for directory in directories:
            path = directory / name
            if not (path.is_symlink() or path.exists()):
                continue
            target = path.resolve()
            if _is_mask(target):
                raise UnitError(f"{unit} is masked ({path})")
            return target
    raise UnitError(f"there is no unit {unit}: is its package installed?")


def _is_mask(path: Path) -> bool:
    return path == Path("/dev/null") or (path.exists() and path.stat().st_size == 0)


def _template(unit: str) -> str:
    """Return the template of an instance; another unit is returned unchanged."""
    stem, at, rest = unit.partition("@")
    return f"{stem}@.{rest.rpartition('.')[2]}" if at else unit


def _names(unit: str) -> Iterator[str]:
    """Yield the names under which a unit has drop-ins, the most specific first."""
    yield from dict.fromkeys((unit, _template(unit)))
    stem, _, suffix = unit.rpartition(".")
    for end in reversed([match.end() for match in re.finditer("-", stem)]):
        if end < len(stem):
            yield f"{stem[:end]}.{suffix}"
    yield suffix


def _drop_ins(names: Sequence[str], directories: Sequence[Path]) -> list[Path]:
    """Return the drop-ins, sorted by their file names; of equal names the most specific."""
    found: dict[str, Path] = {}
    # "service.d" is for every unit, and the least specific
    for name in sorted(names, key=lambda name: "." not in name):
        for directory in directories:
            for path in sorted((directory / f"{name}.d").glob("*.conf")):
                found.setdefault(path.name, path)
    return [found[name] for name in sorted(found) if not _is_mask(found[name].resolve())]


def parse(file: Path) -> Iterator[Setting]:
    """Yield the directives of one file. Raises UnitError, OSError."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UnitError(f"{file}: is no text in UTF-8") from error
    section = ""
    for number, line in _joined(lines):
        where = f"{file}:{number}"
        if "\0" in line:
            raise UnitError(f"{where}: has a NUL")
        heading = _SECTION.fullmatch(line)
        if heading:
            section = heading[1]
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not _KEY.fullmatch(key):
            raise UnitError(f"{where}: is no directive: {line[:60]!r}")
        if not section:
            raise UnitError(f"{where}: {key}= is in no section")
        if section.startswith("X-") or key.startswith("X-"):
            continue  # read by other programs, not by systemd
        yield Setting(section, key, value, where)


def _joined(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield (number, line): without comments and empty lines, continued ones in one."""
    begun: list[str] = []
    first = 0
    for number, text in enumerate(lines, 1):
        line = text.strip()
        if line.startswith(("#", ";")) or (not line and not begun):
            continue
        first = first if begun else number
        begun.append(line[:-1].rstrip() if line.endswith("\\") else line)
        if not line.endswith("\\"):
            yield first, " ".join(begun).strip()
            begun = []
    if begun:
        yield first, " ".join(begun).strip()
