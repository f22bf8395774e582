# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Fragments tell what is new since the last release: no entry is released twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

CHANGELOGS = Path(__file__).resolve().parents[3] / "changelogs"


def entries(changes: dict[str, Any]) -> set[str]:
    """Return the entries of all sections, each in one line."""
    found = [
        text for part in changes.values() for text in ([part] if isinstance(part, str) else part)
    ]
    return {" ".join(text.split()) for text in found}


def released() -> set[str]:
    """Return the entries of all releases."""
    releases = yaml.safe_load((CHANGELOGS / "changelog.yaml").read_text())["releases"]
    return set().union(*(entries(release.get("changes", {})) for release in releases.values()))


def fragments() -> dict[str, set[str]]:
    """Return the entries of each fragment."""
    found = (CHANGELOGS / "fragments").glob("[!.]*")
    return {path.name: entries(yaml.safe_load(path.read_text())) for path in found}


def test_an_entry_is_released_once() -> None:
    assert released()
    assert {
        name: there & released() for name, there in fragments().items() if there & released()
    } == {}
