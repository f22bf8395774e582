# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The former unit: it served before udpgrm was installed, and runs a generation.

NAME.unit, beside the journal. It is valid for this boot, until the unit is stopped.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Optional

from udpgrm.restart import journal as journals
from udpgrm.restart import statedir, stored
from udpgrm.services.definition import Service


@dataclass(frozen=True)
class Former:
    """A generation and the unit that runs it."""

    generation: int
    unit: str


def load(service: str) -> Optional[Former]:
    """Return a service's former unit; None: there is none, or it was stopped."""
    path = statedir.path_of(service, ".unit")
    with contextlib.suppress(FileNotFoundError, LookupError, TypeError, ValueError):
        value = stored.mapping(json.loads(path.read_text(encoding="utf-8")))
        generation = stored.generation(value["generation"])
        if value["boot_id"] == journals.boot_id() and generation is not None:
            return Former(generation, stored.text(value["unit"]))
    return None


def save(service: str, former: Former) -> None:
    """Save a service's former unit. Raises OSError."""
    path = statedir.path_of(service, ".unit")
    content = {
        "generation": former.generation,
        "unit": former.unit,
        "boot_id": journals.boot_id(),
    }
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)  # of a command that was killed; "x" follows no link
    with new.open("x", encoding="utf-8") as file:
        file.write(json.dumps(content) + "\n")
    new.replace(path)


def discard(service: str, generation: int) -> None:
    """Delete the former unit of that generation: it is stopped, or the generation used again."""
    former = load(service)
    if former is not None and former.generation == generation:
        statedir.path_of(service, ".unit").unlink(missing_ok=True)


def unit_of(service: Service, generation: int) -> str:
    """Return the unit that runs a generation of a service."""
    former = load(service.name)
    if former is not None and former.generation == generation:
        return former.unit
    return service.instances.unit_of(generation)
