# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Values of units' environments, which are not for messages: those go into logs and reports."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

#: Shorter values are words that occur anywhere.
_SHORTEST = 4
#: systemctl(1) prints a file as PATH (ignore_errors=yes).
_FILE = re.compile(r"/(.+) \(ignore_errors=(?:yes|no)\)")


def of_unit(environments: Iterable[str], files: Iterable[str]) -> dict[str, str]:
    """Return the names of variables by their values.

    environments, files: the properties Environment and EnvironmentFiles, as systemctl(1) shows
    them. A file that cannot be read has no values.
    """
    found: dict[str, str] = {}
    for text in environments:
        try:
            found.update(_named(shlex.split(text)))
        except ValueError:  # a quote is not closed
            found.update(_named([text]))
    for shown in files:
        match = _FILE.fullmatch(shown)
        for path in Path("/").glob(match[1]) if match else ():
            with contextlib.suppress(OSError):
                found.update(_named(path.read_text("utf-8", "replace").splitlines()))
    return found


def _named(assignments: Iterable[str]) -> Iterator[tuple[str, str]]:
    for assignment in assignments:
        name, _, value = assignment.strip().partition("=")
        value = value.strip(" \"'")
        if len(value) >= _SHORTEST:
            yield value, name.strip(" \"'")


def redact(text: str, secrets: Mapping[str, str]) -> str:
    """Return a text with the names of variables in place of their values; secrets: from of_unit."""
    for value in sorted(secrets, key=len, reverse=True):
        text = text.replace(value, f"[{secrets[value]}]")
    return text
