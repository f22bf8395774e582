# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The published schema is a schema, and says what the dataclasses say."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from udpgrm.probes import specs
from udpgrm.services import definition, validate

SCHEMA = json.loads(validate.SCHEMA_FILE.read_text())
PROPERTIES = SCHEMA["properties"]
PARTS: list[tuple[type[Any], dict[str, Any], set[str]]] = [
    (definition.Service, PROPERTIES, {"name"}),
    (definition.Group, PROPERTIES["groups"]["items"]["properties"], set()),
    (definition.Dissector, SCHEMA["definitions"]["dissector"]["properties"], set()),
    (definition.Drain, PROPERTIES["drain"]["properties"], set()),
    (definition.DrainUntil, PROPERTIES["drain"]["properties"]["until"]["properties"], set()),
    (definition.Budget, PROPERTIES["budget"]["properties"], set()),
    (definition.Timeouts, PROPERTIES["timeouts"]["properties"], set()),
]
for name, spec in specs.TYPES.items():
    of_probe = dict(SCHEMA["definitions"][f"{name}_probe"]["properties"])
    of_probe["from_host"] = of_probe.pop("from")  # Python has its own use of the word
    PARTS.append((spec, of_probe, set()))


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in part:
        found: dict[str, Any] = SCHEMA["definitions"][part["$ref"].rpartition("/")[2]]
        return found
    return part


def test_it_is_a_schema_of_draft_7() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(("kind", "properties", "apart"), PARTS, ids=lambda part: str(part)[:60])
def test_keys_and_defaults(kind: type[Any], properties: dict[str, Any], apart: set[str]) -> None:
    fields = {item.name: item for item in dataclasses.fields(kind) if item.name not in apart}
    assert set(properties) - {"type"} == set(fields)
    for key, part in properties.items():
        if "default" in resolved(part):
            default = resolved(part)["default"]
            given = fields[key].default
            assert given == (tuple(default) if isinstance(default, list) else default), key


def test_all_types_of_probes() -> None:
    assert SCHEMA["definitions"]["probe"]["properties"]["type"]["enum"] == list(specs.TYPES)


def test_every_pattern_has_words_for_people() -> None:
    stack: list[Any] = [SCHEMA]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            assert ("pattern" not in item) or isinstance(item.get("description"), str), item
            stack += item.values()
        elif isinstance(item, list):
            stack += item
