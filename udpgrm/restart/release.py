# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The release of an instance: the operator's name for it, or a fingerprint of its files.

Documents are of the form of `udpgrm status`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Optional

from udpgrm.restart.machine import Outcome, Step

#: Stands for the fingerprint in place of a name.
AUTO = "auto"
#: Begins every fingerprint.
FINGERPRINT = "sha256:"
_NAMES_FILES = re.compile(r"(ExecStart|ExecStartPre|Environment|EnvironmentFile)\s*=(.*)")
_VERIFIED = (Step.DRAIN.value, Step.STOP.value)

Document = dict[str, Any]


class Action(str, Enum):
    """The action that makes a release the one that serves."""

    NONE = "none"
    WAIT = "wait"
    RESUME = "resume"
    RESTART = "restart"


def fingerprint(definition: Path, unit_text: str) -> str:
    """Return a hash of what an instance is started from: unit, definition, and the files it names.

    Files which those load themselves are not seen.
    """
    import hashlib

    seen = hashlib.sha256(unit_text.encode())
    for path in sorted({str(definition), *_named_files(unit_text)}):
        seen.update(f"\0{path}\0{os.path.realpath(path)}\0".encode())
        if Path(path).is_file():
            seen.update(hashlib.sha256(Path(path).read_bytes()).digest())
    return f"{FINGERPRINT}{seen.hexdigest()[:16]}"


def _named_files(unit_text: str) -> Iterator[str]:
    for line in unit_text.replace("\\\n", " ").splitlines():
        found = _NAMES_FILES.fullmatch(line.strip())
        if not found:
            continue
        import shlex

        try:
            arguments = shlex.split(found[2])
        except ValueError:
            arguments = found[2].split()
        for argument in arguments:
            # an option's or a variable's value, or systemd's prefixes of a command
            value = argument.rpartition("=")[2].lstrip("@-:+!")
            if value.startswith("/") and "%" not in value:
                yield value


def is_verified(restart: Document) -> bool:
    """Return whether new flows go to the new instance, and that was verified."""
    return restart["outcome"] == Outcome.FINISHED.value or (
        restart["outcome"] is None and restart["step"] in _VERIFIED
    )


def serving(restarts: Iterable[Document], working: Collection[Optional[int]]) -> Optional[str]:
    """Return the release that has all new flows; None: unknown.

    restarts: of this boot, newest first. working: the generations that serve.
    """
    for restart in restarts:
        if set(working) == {restart["to_generation"]} and is_verified(restart):
            return _text(restart["release"])
        if set(working) == {restart["from_generation"]}:
            return _text(restart["from_release"])
    return None


def is_unfinished(restart: Optional[Document]) -> bool:
    """Return whether something remains to be done; None: there was no restart."""
    ended = (Outcome.FINISHED.value, Outcome.ROLLED_BACK.value)
    return restart is not None and restart["outcome"] not in ended


def is_pending(restart: Document) -> bool:
    """Return whether a restart has neither ended nor begun to drain: the next must not begin."""
    drains = restart["outcome"] is None and restart["step"] == Step.DRAIN.value
    return is_unfinished(restart) and not drains


def _text(value: Any) -> Optional[str]:
    return None if value is None else str(value)
