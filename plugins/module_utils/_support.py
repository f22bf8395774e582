# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The state and logs of a host's services, as texts without secrets."""

from __future__ import annotations

import pathlib
import re
import shlex
import typing as t

from ansible_collections.udpgrm.fleet.plugins.module_utils._host import (
    service_name,
    state_directory,
)

# Runs a command; returns (exit status, stdout, stderr).
Command = t.Callable[[list[str]], tuple[int, str, str]]
#: The length that is kept of each text, from its end.
MOST_CHARACTERS = 500_000
_LINES = "2000"
#: Shorter values are words that occur anywhere.
_SHORTEST_SECRET = 4
_FILE = re.compile(r"^-?(\S+)")


def collect(
    run: Command, read: t.Callable[[str], str], services: t.Sequence[str]
) -> dict[str, str]:
    """Return texts by name of file. Raises HostError for a wrong name of a service."""
    names = [service_name(service) for service in services]
    commands = {
        "status.json": ["udpgrm", "status", "--json"],
        "doctor.txt": ["udpgrm", "doctor"],
        "metrics.txt": ["udpgrm", "metrics"],
        "kernel.txt": ["uname", "-a"],
        "log-udpgrm.txt": _log("udpgrm.service", "udpgrm-*"),
    }
    for name in names:
        units = (f"{name}@*", f"{name}-first.service", f"udpgrm-first@{name}.service")
        commands[f"log-{name}.txt"] = _log(*units)
        commands[f"units-{name}.txt"] = [
            *("systemctl", "list-units", "--all", "--no-pager", "--plain"),
            *units,
        ]
    texts = {file: _output(run, command) for file, command in commands.items()}
    for name in names:
        path = str(state_directory() / f"{name}.json")
        texts[f"restart-{name}.json"] = _contents(read, path)
    secrets = _secrets(run, read, names)
    return {file: redact(text, secrets)[-MOST_CHARACTERS:] for file, text in texts.items()}


def _log(*units: str) -> list[str]:
    chosen = [f"--unit={unit}" for unit in units]
    return [
        "journalctl",
        "--quiet",
        "--no-pager",
        f"--lines={_LINES}",
        "--output=short-iso",
        *chosen,
    ]


def _output(run: Command, command: list[str]) -> str:
    """Return what a command has printed; one that fails is part of what is collected."""
    status, out, err = run(command)
    return out if status == 0 else f"{out}{' '.join(command)}: exit status {status}: {err}"


def _contents(read: t.Callable[[str], str], path: str) -> str:
    try:
        return read(path)
    except OSError as error:
        return f"{path}: {error.strerror}\n"


def _secrets(run: Command, read: t.Callable[[str], str], names: t.Sequence[str]) -> dict[str, str]:
    """Return the values that units' environments have, and the names of their variables."""
    found: dict[str, str] = {}
    for name in names:
        _status, text, _err = run(["systemctl", "cat", f"{name}@.service"])
        for line in text.replace("\\\n", " ").splitlines():
            key, _equals, value = line.strip().partition("=")
            if key == "Environment":
                for assignment in _words(value):
                    found.update(_assignments(assignment))
            elif key == "EnvironmentFile" and (path := _FILE.match(value)):
                for assignment in _all_lines(read, path[1]):
                    found.update(_assignments(assignment))
    return found


def _words(value: str) -> list[str]:
    """Return the assignments of a directive, which may have several: systemd.exec(5)."""
    try:
        return shlex.split(value)
    except ValueError:  # a quote is not closed
        return [value.strip("\"'")]


def _all_lines(read: t.Callable[[str], str], path: str) -> t.Iterator[str]:
    """Yield the lines of all files that instances may read; a specifier stands for any text."""
    pattern = re.sub("%.", "*", path).lstrip("/") or "*"
    for file in list(pathlib.Path("/").glob(pattern)) or [pathlib.Path(path)]:
        yield from _contents(read, str(file)).splitlines()


def _assignments(text: str) -> dict[str, str]:
    name, equals, value = text.strip().partition("=")
    value = value.strip("\"'")
    return {value: name} if equals and len(value) >= _SHORTEST_SECRET else {}


def redact(text: str, secrets: t.Mapping[str, str]) -> str:
    """Return a text with the names of variables in place of their values."""
    for value in sorted(secrets, key=len, reverse=True):
        text = text.replace(value, f"[{secrets[value]}]")
    return text
