# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Profiles: what definitions of known servers have in common, udpgrm/servers/NAME.yaml.

A definition that names a profile has its keys, and those below them, but for those that it has
itself.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Optional

import yaml

DIRECTORY = Path(__file__).parents[1] / "servers"


class ProfileError(Exception):
    """Raised when there is no such profile; the message names those that there are."""


@dataclass(frozen=True)
class Losses:
    """The losses that clients may have in a restart: what with its bound, why, what to do."""

    what: str
    why: str
    do: str


@dataclass(frozen=True)
class Profile:
    """A profile. unit: the package's. port: usual one. limits: what does not work with it.

    losses: None if a restart loses nothing.

    tcp: it serves TCP at the same address, so that a new definition has a group of it, too.

    definition: without the name of the unit; its one group, without address, is every group's.
    """

    name: str
    about: str
    package: str
    unit: str
    port: int
    limits: tuple[str, ...]
    definition: dict[str, Any]
    tcp: bool = False
    losses: Optional[Losses] = None


def names() -> list[str]:
    """Return the names of all profiles."""
    return sorted(path.stem for path in DIRECTORY.glob("*.yaml"))


@cache
def load(name: str) -> Profile:
    """Return a profile. Raises ProfileError."""
    if name not in names():
        raise ProfileError(f"no profile {name!r} (there are {', '.join(names())})")
    content = yaml.safe_load((DIRECTORY / f"{name}.yaml").read_text(encoding="utf-8"))
    limits = tuple(" ".join(limit.split()) for limit in content.pop("limits"))
    losses = content.pop("losses", None)
    return Profile(name=name, limits=limits, losses=losses and Losses(**losses), **content)


def completed(data: Any) -> Any:
    """Return a definition with the keys of the profile that it names. Raises ProfileError."""
    if not isinstance(data, dict) or not isinstance(data.get("profile"), str):
        return data
    profile = load(data["profile"]).definition
    groups = data.get("groups")
    if isinstance(groups, list):
        [common] = profile["groups"]
        groups = [_group(common, one) if isinstance(one, dict) else one for one in groups]
        data = {**data, "groups": groups}
    found = {**{key: value for key, value in profile.items() if key != "groups"}, **data}
    for key, value in profile.items():
        if isinstance(value, dict) and isinstance(found[key], dict):
            found[key] = {**value, **found[key]}
    return found


def _group(common: dict[str, Any], group: dict[str, Any]) -> dict[str, Any]:
    """Return a group with the profile's keys; listeners of TCP have no dissector."""
    if group.get("protocol") == "tcp":
        common = {key: value for key, value in common.items() if key != "dissector"}
    return {**common, **group}


def new(
    name: str, service: str, addresses: Sequence[str], flow_timeout: Optional[int] = None
) -> str:
    """Return the text of a definition by a profile. Raises ProfileError.

    flow_timeout: another than the profile's, in seconds.
    """
    profile = load(name)
    keys: dict[str, Any] = {}
    if flow_timeout is not None:
        [group] = profile.definition["groups"]
        dissector = group["dissector"]
        if "flow_timeout" not in dissector.get("parameters", {}):
            raise ProfileError(f"the profile {name} has no flow_timeout: it knows no flows by time")
        parameters = {**dissector["parameters"], "flow_timeout": flow_timeout}
        keys["dissector"] = {**dissector, "parameters": parameters}
    # TCP first: it may bring the keys for what comes by UDP
    groups = [{"address": address, "protocol": "tcp"} for address in addresses if profile.tcp]
    # a copy for each, which YAML would refer to otherwise
    groups += [{"address": address, **copy.deepcopy(keys)} for address in addresses]
    content = {
        "profile": name,
        "groups": groups,
        "instances": {"unit": f"{service}@.service"},
    }
    head = [f"# {profile.about}: keys that are not here are those of {DIRECTORY}/{name}.yaml."]
    head += [f"# - {limit}" for limit in profile.limits]
    return "\n".join([*head, yaml.safe_dump(content, sort_keys=False)])
