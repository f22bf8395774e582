# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The former unit: it served before udpgrm was installed, and runs a generation.

NAME.unit, beside the journal. It is valid for this boot, until the unit is stopped. NAME.adopted
has the unit, too, until an instance of the service has replaced it for good: the predecessor.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from udpgrm.restart import host, statedir, stored
from udpgrm.restart import journal as journals
from udpgrm.services.definition import Service


@dataclass(frozen=True)
class Former:
    """A generation and the unit that runs it. adopted: when, by the monotonic clock, if known."""

    generation: int
    unit: str
    adopted: Optional[float] = None


def load(service: str) -> Optional[Former]:
    """Return a service's former unit; None: there is none, or it was stopped."""
    path = statedir.path_of(service, ".unit")
    with contextlib.suppress(FileNotFoundError, LookupError, TypeError, ValueError):
        value = stored.mapping(json.loads(host.current.read(path)))
        generation = stored.generation(value["generation"])
        if value["boot_id"] == journals.boot_id() and generation is not None:
            adopted = stored.optional_number(value.get("adopted"))
            return Former(generation, stored.text(value["unit"]), adopted)
    return None


def is_adopted(service: Service, generation: int) -> bool:
    """Return whether udpgrm enrolls its sockets; systemd may start it again meanwhile."""
    before = load(service.name)
    return service.enrollment == "adopted" or (
        before is not None and before.generation == generation
    )


def save(service: str, former: Former) -> None:
    """Save a service's former unit. Raises OSError."""
    content = {
        "generation": former.generation,
        "unit": former.unit,
        "adopted": former.adopted,
        "boot_id": journals.boot_id(),
    }
    host.rewrite(statedir.path_of(service, ".unit"), f"{json.dumps(content)}\n")


def predecessor(service: str) -> Optional[str]:
    """Return the unit that a service replaces for good; None: there is none."""
    with contextlib.suppress(FileNotFoundError):
        return host.current.read(_predecessor_path(service)).strip() or None
    return None


def save_predecessor(service: str, unit: str) -> None:
    """Save the unit that a service replaces, beyond this boot. Raises OSError."""
    host.rewrite(_predecessor_path(service), f"{unit}\n")


def discard_predecessor(service: str) -> None:
    """Delete the predecessor: it was replaced."""
    host.current.delete(_predecessor_path(service))


def _predecessor_path(service: str) -> Path:
    return statedir.path_of(service, ".adopted")


def discard(service: str, generation: int) -> None:
    """Delete the former unit of that generation: it is stopped, or the generation used again."""
    former = load(service)
    if former is not None and former.generation == generation:
        host.current.delete(statedir.path_of(service, ".unit"))


def unit_of(service: Service, generation: int) -> str:
    """Return the unit that runs a generation of a service."""
    former = load(service.name)
    if former is not None and former.generation == generation:
        return former.unit
    return service.instances.unit_of(generation)
