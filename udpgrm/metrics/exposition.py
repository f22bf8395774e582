# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Prometheus' text form, version 0.0.4.

Source: prometheus.io/docs/instrumenting/exposition_formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Union

Value = Union[int, float]


@dataclass
class Family:
    """A family: all series of one name.

    kind is counter or gauge; a counter's name ends in _total. Every sample has
    its labels and its value.
    """

    name: str
    kind: str
    help: str
    samples: list[tuple[dict[str, str], Value]] = field(default_factory=list)

    def add(self, labels: Mapping[str, str], value: Value) -> None:
        """Add a series."""
        self.samples.append((dict(labels), value))


def render(families: Iterable[Family]) -> str:
    """Return the text of all families that have a series."""
    lines: list[str] = []
    for family in families:
        if family.samples:
            lines.append(f"# HELP {family.name} {_escape(family.help)}")
            lines.append(f"# TYPE {family.name} {family.kind}")
            lines += [f"{family.name}{_labels(labels)} {value}" for labels, value in family.samples]
    return "".join(line + "\n" for line in lines)


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_escape(value, quotes=True)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escape(text: str, quotes: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quotes else text
