# SPDX-License-Identifier: Apache-2.0
"""The loader of service definitions: YAML, schema, cross checks, dataclasses."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Optional, TypeVar, cast

import yaml

from udpgrm import names
from udpgrm.probes import specs
from udpgrm.services import crosscheck, document, profiles, validate
from udpgrm.services.definition import (
    Budget,
    Dissector,
    Drain,
    DrainUntil,
    Group,
    Instances,
    Notice,
    Service,
    Timeouts,
)
from udpgrm.services.document import Problem
from udpgrm.state import address

_BROADCAST = ipaddress.IPv4Address("255.255.255.255")
SUFFIX = ".yaml"
#: The most names that a message lists.
_SHOWN = 5


_Part = TypeVar("_Part")


class DefinitionError(Exception):
    """Raised when a service cannot be used; one line that names file, key and reason."""


@dataclass
class Found:
    """The services of a file or directory, (file, service), and all problems."""

    services: list[tuple[str, Service]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def load(name: str, directory: Path) -> Service:
    """Return a service by name.

    Raises DefinitionError if there is none, if its file is wrong, or if another
    service of the directory claims the same; OSError if the file
    cannot be read; validate.MissingLibrary. Other services may be broken.
    """
    file = directory / f"{name}{SUFFIX}"
    if not names.SERVICE.fullmatch(name) or not file.is_file():
        raise DefinitionError(unknown(name, directory))
    found = read_directory(directory)
    problems = [problem for problem in found.problems if problem.file == str(file)]
    if problems:
        more = f" (and {len(problems) - 1} more: udpgrm check)" if len(problems) > 1 else ""
        raise DefinitionError(f"{problems[0]}{more}")
    return next(service for _, service in found.services if service.name == name)


def unknown(name: str, directory: Path) -> str:
    """Return the message for a name that no service has, with some of the names there are."""
    import difflib  # only where a command fails anyway: it takes milliseconds

    there = sorted(file.stem for file in directory.glob(f"*{SUFFIX}"))
    near = difflib.get_close_matches(name, there, n=_SHOWN) or there[:_SHOWN]
    hint = f"did you mean {' or '.join(near)}?" if near else "it has none"
    return f"no service {name!r} in {directory}; {hint}"


def read_directory(directory: Path) -> Found:
    """Return all services of a directory. Raises OSError, validate.MissingLibrary."""
    found = Found()
    for file in sorted(directory.iterdir()):
        if file.name.startswith(".") or file.suffix not in (SUFFIX, ".yml"):
            continue
        if file.suffix != SUFFIX:
            found.problems.append(Problem(str(file), "", f"is not read: name it {SUFFIX}"))
        elif not names.SERVICE.fullmatch(file.stem):
            reason = f"a service's name is {names.SERVICE_RULE}"
            found.problems.append(Problem(str(file), "", reason))
        else:
            one = _read_entry(file)
            found.services += one.services
            found.problems += one.problems
    for path, key, reason in crosscheck.between(found.services):
        found.problems.append(Problem(path, key, reason))
    found.problems.sort(key=lambda problem: problem.file)
    return found


def _read_entry(file: Path) -> Found:
    """Return the services of one file of a directory; its problems do not affect other files.

    Raises PermissionError, which would be the same for all, and validate.MissingLibrary.
    """
    if not file.is_file():  # a pipe would be waited for
        return Found(problems=[Problem(str(file), "", "is not a file that can be read")])
    try:
        return read_file(file)
    except PermissionError:
        raise
    except OSError as error:
        return Found(problems=[Problem(str(file), "", error.strerror or str(error))])


def read_file(file: Path) -> Found:
    """Return the service of one file, which may have any name: it may not be installed yet.

    Raises OSError, validate.MissingLibrary.
    """
    with open(file, "rb") as opened:
        content = opened.read(document.MAX_BYTES + 1)
    service, problems = parse(file.stem, content)
    return Found(
        [] if service is None else [(str(file), service)],
        [Problem(str(file), key, reason) for key, reason in problems],
    )


def parse(name: str, content: bytes) -> tuple[Optional[Service], list[tuple[str, str]]]:
    """Return the service of a file's bytes, or (key, reason) of every problem."""
    try:
        data = document.read(content)
        data = profiles.completed(data)
    except document.DocumentError as error:
        return None, list(error.problems)
    except profiles.ProfileError as error:
        return None, [("profile", str(error))]
    problems = validate.problems(data)
    if not problems:
        problems = list(_spell_addresses(data))
    if problems:
        return None, problems
    service = _service(name, data)
    problems = list(crosscheck.within(service))
    return (None, problems) if problems else (service, [])


def parse_probe(keys: dict[str, Any], where: str) -> specs.ProbeSpec:
    """Return a probe of one address, from the keys of a definition.

    Raises ValueError, which names the key, and MissingLibrary.
    """
    udp = where.removesuffix(address.TCP)
    group = {"address": udp} if where == udp else {"address": udp, "protocol": "tcp"}
    definition = {
        "groups": [group],
        "instances": {"unit": "probed@.service"},
        "probes": [keys],
    }
    service, problems = parse("probed", yaml.safe_dump(definition).encode())
    if service is None:
        key, reason = problems[0]
        raise ValueError(f"{key.removeprefix('probes.0.').removeprefix('groups.0.')}: {reason}")
    return service.probes[0]


def _spell_addresses(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Write addresses as `udpgrm list` does; yield (key, reason) of invalid ones."""
    problems = []
    for part in ("groups", "probes"):
        for number, item in enumerate(data.get(part, [])):
            if "address" not in item:
                continue
            try:
                where = address.read(item["address"])
                where.want_device()
            except ValueError as error:
                problems.append((f"{part}.{number}.address", str(error)))
                continue
            if part == "groups":
                if where.tcp:
                    reason = f"write {where._replace(tcp=False)} here, and protocol: tcp beside it"
                    problems.append((f"{part}.{number}.address", reason))
                where = where._replace(tcp=item.get("protocol") == "tcp")
            if where.ip.is_multicast or where.ip == _BROADCAST:
                reason = "the kernel copies such packets to every socket (docs/limits.md)"
                problems.append((f"{part}.{number}.address", f"{where}: {reason}"))
            item["address"] = str(where)
    return problems


def _service(name: str, data: dict[str, Any]) -> Service:
    """Return the dataclasses of data that the schema allows; they have the defaults."""
    [(kind, unit)] = data["instances"].items()
    drain = dict(data.get("drain", {}))
    if "until" in drain:
        drain["until"] = _make(DrainUntil, drain["until"])
    if "begin" in drain:
        begin = drain["begin"]
        drain["begin"] = Notice(begin.get("signal"), tuple(begin.get("command", ())) or None)
    parts: dict[str, Any] = {
        "name": name,
        "groups": tuple(map(_group, data["groups"])),
        "instances": Instances("template" if kind == "unit" else "decoy", unit),
        "probes": tuple(map(_probe, data.get("probes", []))),
        "drain": _make(Drain, drain),
        "budget": _make(Budget, data.get("budget", {})),
        "timeouts": _make(Timeouts, data.get("timeouts", {})),
        "unit_settings": tuple(
            (key, (value,) if isinstance(value, str) else tuple(value))
            for key, value in data.get("unit_settings", {}).items()
        ),
        "instance_shares": tuple(data.get("instance_shares", ())),
        "instance_files": tuple(data.get("instance_files", {}).items()),
    }
    return _make(Service, {**data, **parts})


def _group(data: dict[str, Any]) -> Group:
    if "dissector" in data:
        dissector = _make(Dissector, data["dissector"])
        parameters = _whole(dissector.parameters)
        data = {**data, "dissector": replace(dissector, parameters=parameters)}
    return _make(Group, data)


def _whole(value: Any) -> Any:
    """Return a dissector's parameters with integers: the schema takes 2.0 for 2."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _probe(data: dict[str, Any]) -> specs.ProbeSpec:
    given = {key: value for key, value in data.items() if key != "type"}
    if "from" in given:
        given["from_host"] = given.pop("from")
    if "alpn" in given:
        given["alpn"] = tuple(given["alpn"])
    return _make(specs.TYPES[data["type"]], given)


#: A field's declaration -> its exact type: the schema takes 2.0 for 2, and 5 for 5.0.
_EXACT = {"int": int, "float": float, "Optional[int]": int, "Optional[float]": float}


def _make(kind: type[_Part], values: dict[str, Any]) -> _Part:
    """Return an instance of a dataclass, with numbers of the exact types that it declares."""
    declared = {item.name: str(item.type) for item in fields(cast(Any, kind))}
    exact: dict[str, Any] = {}
    for name, value in values.items():
        convert = _EXACT.get(declared[name])
        exact[name] = value if convert is None or value is None else convert(value)
    return kind(**exact)
