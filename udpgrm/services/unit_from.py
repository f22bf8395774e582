# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The template unit of a service's instances, made of its package's unit or of settings alone.

The template takes over most settings. Each instance gets its own of what two cannot share (PID
file, runtime, state and cache directory), bind-mounted where the package has the shared one, so
that commands and configuration stay the same. Files of `instance_files` are
mounted in the same way.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from udpgrm.services import unit_commands, unit_directives, unit_files
from udpgrm.services.definition import Service
from udpgrm.services.unit_files import Setting, UnitError

#: Where udpgrm renders the files of instances: a directory that only root writes to.
FILES = Path("/run/udpgrm/instances")
WHERE = Path("/etc/systemd/system")
_SLICE = "udpgrm.slice"
_UDPGRM = "/usr/bin/udpgrm"
_ROOTS = {
    "RuntimeDirectory": "/run",
    "StateDirectory": "/var/lib",
    "CacheDirectory": "/var/cache",
}
_TYPES = ("simple", "exec", "forking", "notify", "notify-reload", "idle")
#: Directives of [Unit] whose units run before and as long.
_NEEDS = frozenset(("Requires", "Requisite", "BindsTo"))
#: Specifiers that mean the same in every unit: systemd.unit(5).
_COMMON = frozenset("%aAbBCdDEgGhHlLmMoqsStTuUvVwW")
_PLAIN = re.compile(r"[A-Za-z0-9_./@:-]+")


@dataclass(frozen=True)
class Change:
    """A directive that is not as in the package's unit. where: file and line; "" for a new one."""

    directive: str
    where: str
    before: str
    after: str
    reason: str

    def __str__(self) -> str:
        before = f" instead of {self.before}" if self.before else ""
        return f"{self.directive}={self.after}{before}: {self.reason}"


@dataclass
class Unit:
    """A template unit. changes: how it differs from the package's."""

    path: Path
    text: str
    changes: list[Change]


@dataclass
class _Draft:
    """The lines of a template unit. binds: path on the host -> path that the instance sees."""

    name: str
    origin: str
    shared: frozenset[str]
    unit: list[str] = field(default_factory=list)
    service: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    binds: dict[str, str] = field(default_factory=dict)

    def change(self, setting: Setting, after: str, reason: str) -> None:
        """Record a change of a directive."""
        self.changes.append(Change(setting.key, setting.where, setting.value, after, reason))

    def own(self, directory: str) -> str:
        """Return the name of an instance's own directory."""
        return f"{self.name}-%i-{directory.strip('/').replace('/', '-')}"


def make(service: Service, directories: Optional[Sequence[Path]] = None) -> Unit:
    """Return the template unit of a service that has one made. Raises UnitError, OSError."""
    name = service.instances.unit.partition("@")[0]
    origin = service.unit_from or f"{name}.service"
    draft = _Draft(name, origin, frozenset(service.instance_shares))
    places = unit_files.DIRECTORIES if directories is None else directories
    found = unit_files.read(origin, places) if service.unit_from else []
    settings = _with_own_settings(service, found)
    if not any(one.key == "ExecStart" and one.value for one in settings):
        raise UnitError(f"{service.unit_from or name}: has no ExecStart=: set it in unit_settings")
    titles = [one for one in settings if one.key == "Description" and one.section == "Unit"]
    untitled = service.unit_from or name
    title = _specifiers(titles[-1].value, draft, titles[-1]) if titles else untitled
    draft.unit.append(f"Description={title} (udpgrm: {name}, generation %i)")
    # the directory of a PID file is known when every directory is
    for setting in sorted(settings, key=lambda one: one.key == "PIDFile"):
        _check(setting)
        # settings of the definition are written for instances: their %i is the generation
        is_own = setting.where == _where(setting.key)
        value = setting.value if is_own else _specifiers(setting.value, draft, setting)
        _take_over(setting, value, draft)
    _check_commands(settings, draft)
    _finish(service, draft)
    return Unit(WHERE / service.instances.unit, _text(service, draft), draft.changes)


def _with_own_settings(service: Service, settings: list[Setting]) -> list[Setting]:
    """Return the directives with those of the definition in the place of the package's."""
    replaced = dict(service.unit_settings)
    kept = [one for one in settings if one.section != "Service" or one.key not in replaced]
    # a directive that an init script's unit has says that it has no command
    if "ExecStart" in replaced:
        kept = [one for one in kept if one.key != "SourcePath"]
    resets = [n for n, one in enumerate(kept) if one.key == "ExecStartPre" and not one.value]
    last = resets[-1] if resets else -1  # a reset would delete the command that is put before
    kept = [one for n, one in enumerate(kept) if one.key != "ExecStartPre" or n > last]
    for key, values in replaced.items():
        for value in values:
            kept.append(Setting("Service", key, value, _where(key)))
    return kept


def _where(key: str) -> str:
    """Return where the definition has a directive."""
    return f"unit_settings.{key}"


def _check(setting: Setting) -> None:
    """Raise UnitError for a directive that no unit of instances may have."""
    section, key, where = setting.section, setting.key, setting.where
    refused = unit_directives.REFUSED.get(section, {}).get(key)
    if refused is not None and setting.value.lower() not in unit_directives.OFF:
        raise UnitError(f"{where}: {key}={setting.value}: {refused}")
    known = (unit_directives.KEPT.get(section), unit_directives.CHANGED.get(section, frozenset()))
    if known[0] is None:
        raise UnitError(f"{where}: [{section}] is a section that udpgrm does not know")
    if refused is None and key not in known[0] | known[1]:
        remedy = "Remove it" if where == _where(key) else "Remove it in a drop-in"
        raise UnitError(
            f"{where}: {key}= is a directive that udpgrm does not know: it may not fit two "
            f"instances. {remedy}, or report it"
        )
    if key in _NEEDS and any(name.endswith(".socket") for name in setting.value.split()):
        raise UnitError(
            f"{where}: {key}={setting.value}: systemd gives its sockets to the package's unit "
            "alone, and starts that again when they are used. Write a unit without it, whose "
            "server does without them, and name that unit in unit_from"
        )
    if key == "Type" and setting.value not in _TYPES:
        raise UnitError(f"{where}: Type={setting.value}: instances are one of {', '.join(_TYPES)}")


def _check_commands(settings: list[Setting], draft: _Draft) -> None:
    """Raise UnitError for a command of the package that may harm another instance."""
    for key in unit_commands.EXAMINED:
        commands = [one for one in settings if one.key == key]
        resets = [n for n, one in enumerate(commands) if not one.value]
        for one in commands[resets[-1] + 1 if resets else 0 :]:
            if one.where == _where(key):
                continue
            reason = unit_commands.harm(key, one.value, draft.binds.values())
            if reason is not None:
                without = ' ("": systemd sends SIGTERM)' if key == "ExecStop" else ""
                raise UnitError(
                    f"{one.where}: {key}={one.value}: {reason}. Set {key} in unit_settings{without}"
                )


def _unescaped(name: str) -> str:
    """Return a part of a unit's name as systemd unescapes it: systemd.unit(5)."""

    def byte(match: re.Match[bytes]) -> bytes:
        return bytes.fromhex(match[1].decode())

    escaped = name.replace("-", "/").encode()
    return re.sub(rb"\\x([0-9a-fA-F]{2})", byte, escaped).decode(errors="replace")


def _specifiers(value: str, draft: _Draft, setting: Setting) -> str:
    """Return a value in which what names the package's unit is written out."""
    stem = draft.origin.removesuffix(".service")
    prefix, _, instance = stem.partition("@")
    last = prefix.rpartition("-")[2]
    own = {"n": draft.origin, "N": stem, "p": prefix, "P": prefix, "i": instance, "I": instance}
    own |= {"j": last, "J": last}

    def replace(match: re.Match[str]) -> str:
        letter = match[1]
        if letter in _COMMON:
            return match[0]
        if letter not in own:
            raise UnitError(f"{setting.where}: {setting.key}=: udpgrm does not know %{letter}")
        text = _unescaped(own[letter]) if letter in "IJP" else own[letter]
        if text and not _PLAIN.fullmatch(text):
            raise UnitError(
                f"{setting.where}: {setting.key}=: %{letter} of {draft.origin} is {text!r}, "
                "which would have to be quoted"
            )
        return text

    return re.sub(r"%(.|$)", replace, value)


def _take_over(setting: Setting, value: str, draft: _Draft) -> None:
    """Add a directive to the draft."""
    key = setting.key
    if setting.section == "Install":
        draft.change(setting, "", "left out: udpgrm starts instances")
        return
    if (setting.section, key) == ("Unit", "Description"):
        return
    lines = draft.unit if setting.section == "Unit" else draft.service
    if key in _ROOTS:
        lines.append(f"{key}={_directories(setting, value, draft)}")
    elif key == "PIDFile" and value:
        lines.append(f"{key}={_pid_file(setting, value, draft)}")
    elif key == "Slice":
        draft.change(setting, _SLICE, "the slice whose processes are hooked")
    elif key not in unit_directives.REFUSED.get(setting.section, {}):
        lines.append(f"{key}={value}")
        if value != setting.value:
            draft.change(setting, value, f"written out: it named {draft.origin}")


def _directories(setting: Setting, value: str, draft: _Draft) -> str:
    """Return the instance's own directories in the place of the package's."""
    root = _ROOTS[setting.key]
    if not value:  # takes back what was set before
        draft.binds = {own: seen for own, seen in draft.binds.items() if not own.startswith(root)}
    if not value or setting.key.removesuffix("Directory").lower() in draft.shared:
        return value
    found = []
    for name in value.split():
        if not _PLAIN.fullmatch(name) or ":" in name:
            raise UnitError(f"{setting.where}: {setting.key}={value}: {name} is no plain path")
        own = draft.own(name)
        draft.binds[f"{root}/{own}"] = f"{root}/{name}"
        found.append(own)
    state = " It begins empty." if setting.key == "StateDirectory" else ""
    draft.change(setting, " ".join(found), f"one for each instance.{state}")
    return " ".join(found)


def _pid_file(setting: Setting, value: str, draft: _Draft) -> str:
    """Return the PID file as the host sees it: in a directory of the instance."""
    path = value.replace("%t", "/run")
    path = posixpath.normpath(path if path.startswith("/") else f"/run/{path}")
    path = re.sub(r"^/var/run/", "/run/", path)
    directory, name = posixpath.split(path)
    if not directory.startswith("/run/"):
        raise UnitError(
            f"{setting.where}: PIDFile={value}: other programs use {directory}, so an instance "
            "cannot have its own. Set PIDFile= and the command's option in unit_settings"
        )
    found = [bind for bind in draft.binds.items() if f"{directory}/".startswith(f"{bind[1]}/")]
    if found:
        own, seen = found[0]
    else:
        own, seen = f"/run/{draft.own(directory.removeprefix('/run/'))}", directory
        draft.binds[own] = seen
        draft.service.append(f"RuntimeDirectory={own.removeprefix('/run/')}")
    after = f"{own}{directory.removeprefix(seen)}/{name}"
    draft.change(setting, after, "one for each instance")
    return after


def _finish(service: Service, draft: _Draft) -> None:
    """Add what instances need: the daemon, the hooked slice, mounts, rendered files."""
    draft.unit += ["Wants=udpgrm.service", "After=udpgrm.service"]
    draft.service.append(f"Slice={_SLICE}")
    for own, seen in draft.binds.items():
        draft.service.append(f"BindPaths={own}:{seen}")
        reason = "the instance finds its own directory there"
        draft.changes.append(Change("BindPaths", "", "", f"{own}:{seen}", reason))
    if not service.instance_files:
        return
    directory = f"{FILES}/{draft.name}-%i"
    render = f"+{_UDPGRM} service render {service.name} %i"
    draft.service.insert(0, f"ExecStartPre={render}")
    draft.service.append(f"ExecStopPost=+/usr/bin/rm -rf -- {directory}")
    draft.changes.append(Change("ExecStartPre", "", "", render, "renders instance_files"))
    for path, _ in service.instance_files:
        # "-": systemd makes the mounts for the command, too, that renders the files
        draft.service.append(f"BindReadOnlyPaths=-{directory}{path}:{path}")
        reason = "the instance reads the rendered file there"
        draft.changes.append(Change("BindReadOnlyPaths", "", "", f"{directory}{path}", reason))


def _text(service: Service, draft: _Draft) -> str:
    """Return the unit's text, with its changes as comments."""
    head = [
        f"# Made by `udpgrm service unit {service.name}` of "
        f"{service.unit_from or 'its definition'}: do not edit it, add a",
        f"# drop-in to {service.instances.unit}, or change the definition and make it again.",
    ]
    head += [f"# {change}" for change in draft.changes]
    return "\n".join([*head, "", "[Unit]", *draft.unit, "", "[Service]", *draft.service, ""])
