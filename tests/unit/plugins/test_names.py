# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A service's name is the same to host, collection and role (interface: test_schemas.py)."""

from __future__ import annotations

import json
from pathlib import Path

from ansible_collections.udpgrm.fleet.plugins.module_utils._host import SERVICE_NAME

from udpgrm import names

ROOT = Path(__file__).resolve().parents[3]


def test_service_names() -> None:
    assert SERVICE_NAME.pattern == names.SERVICE.pattern
    role = (ROOT / "roles/udpgrm/tasks/preflight.yml").read_text()
    assert f"- item is match('{names.SERVICE.pattern}\\Z')" in role


def test_dissector_names() -> None:
    schema = json.loads((ROOT / "udpgrm/services/schema.json").read_text())
    patterns = {item["pattern"] for item in _patterns(schema)}
    assert f"^{names.DISSECTOR.pattern}$(?!\\n)" in patterns


def _patterns(value: object) -> list[dict[str, str]]:
    """Return all objects of a document that have a pattern."""
    if isinstance(value, dict):
        own = [value] if isinstance(value.get("pattern"), str) else []
        return own + [found for item in value.values() for found in _patterns(item)]
    if isinstance(value, list):
        return [found for item in value for found in _patterns(item)]
    return []
