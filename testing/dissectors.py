# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Packets of the named dissectors, from packets.py in their folders."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any, Callable

from udpgrm.files import DISSECTORS_DIR


@dataclass(frozen=True)
class Case:
    """A dissector with its packets.

    named: packets that carry a cookie. fresh: new flows. short: what ends too soon.
    """

    dissector: str
    parameters: dict[str, Any]
    named: list[Callable[[bytes], bytes]]
    fresh: list[bytes] = field(default_factory=list)
    short: list[bytes] = field(default_factory=list)


def cases() -> dict[str, Case]:
    """Return the cases of all folders; keyed dissectors have none, but tests of their own."""
    found: dict[str, Case] = {}
    for path in sorted(DISSECTORS_DIR.glob("*/packets.py")):
        module = importlib.import_module(f"bpf.dissectors.{path.parent.name}.packets")
        found |= getattr(module, "CASES", {})
    return found
