# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The short check decides as jsonschema does: on definitions, and on each with one change."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from udpgrm.probes import specs
from udpgrm.services import validate
from udpgrm.services.conformance import Conformance

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = json.loads(validate.SCHEMA_FILE.read_text())
ORACLE = jsonschema.Draft7Validator(SCHEMA)
CHECK = Conformance(SCHEMA)
DEFINITIONS = [
    yaml.safe_load(example)
    for name in ("services.md", "probes.md")
    for example in re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / name).read_text(), re.DOTALL)
]
#: What the examples have not.
DEFINITIONS += [
    {
        "groups": [{"address": "[::]:443", "protocol": "tcp", "reuseport": "set"}],
        "instances": {"decoy": "edge.service"},
        "unit_settings": {"User": "edge", "ExecStartPre": ["/bin/true", ""]},
        "instance_shares": ["state"],
        "instance_files": {"/etc/edge/edge.conf": "a\n"},
        "budget": {"dropped": 3},
        "drain": {
            "until": {"flows": None, "quiet_s": 0.5},
            "begin": {"command": ["/bin/true", "a", "b"]},
            "min_memory": 2,
        },
    },
    {
        "groups": [
            {"address": "0.0.0.0:1", "dissector": {"name": name, "parameters": parameters}}
            for name, parameters in {
                "flow": {"flow_timeout": 9},
                "noop": {},
                "cbpf": {"filter": [[6, 0, 0, 1], [6, 0, 0, 2]], "max_apps": 2},
                "bespoke": {"sni": {"a.example": 1, "b.example": 0}},
                "quic": {"anything": [True]},
            }.items()
        ],
        "instances": {"unit": "edge@.service"},
        "probes": [{"type": name} for name in specs.TYPES],
    },
]
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2.0, 2.5, 1e300, 257, 2**32),
    *("", "flow", "echo", "tcp", "edge@.service", "/a/b", "/a/../b", "User", "a\n", "x" * 5000),
    *([], [1], ["state", "cache", "state"], [[6, 0, 0, 1]], {}, {"name": "cbpf"}, {"a": 1}),
)
Where = tuple[Union[str, int], ...]


def places(value: Any, where: Where = ()) -> Iterator[Where]:
    """Yield where each value of a document is."""
    yield where
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*where, key))


def changed(document: Any) -> Iterator[Any]:
    """Yield the document with each value replaced, removed, and with one more beside it.

    Each place gets a third of the values: its neighbours get the others.
    """
    for number, where in enumerate(places(document)):
        if not where:
            yield from VALUES
            continue
        for value in (*VALUES[number % 3 :: 3], places):  # the last stands for none
            other = copy.deepcopy(document)
            holder = other
            for key in where[:-1]:
                holder = holder[key]
            if value is places:
                del holder[where[-1]]
            else:
                holder[where[-1]] = value
            yield other
        holder = other = copy.deepcopy(document)
        for key in where[:-1]:
            holder = holder[key]
        if isinstance(holder, dict):
            holder["another"] = 1
        else:
            holder.append(holder[-1])
        yield other


@pytest.mark.parametrize("document", DEFINITIONS, ids=range(len(DEFINITIONS)))
def test_decides_as_jsonschema_does(document: Any) -> None:
    assert CHECK.of(document) == ORACLE.is_valid(document)
    results = set()
    for other in changed(document):
        conforms = CHECK.of(other)
        assert conforms == ORACLE.is_valid(other), other
        results.add(conforms)
    assert results == {True, False}


def test_knows_all_keywords_of_the_schema() -> None:
    """Or a keyword that is reached for some data only would raise KeyError for a user."""
    from udpgrm.services import conformance

    found: set[str] = set()
    types: set[str] = set()

    def read(schema: Any) -> None:
        if not isinstance(schema, dict):
            return
        found.update(schema)
        kinds = schema.get("type", [])
        types.update([kinds] if isinstance(kinds, str) else kinds)
        for keyword in ("properties", "definitions"):
            for part in schema.get(keyword, {}).values():
                read(part)
        for keyword in ("additionalProperties", "propertyNames", "additionalItems", "if", "then"):
            read(schema.get(keyword))
        for keyword in ("items", "allOf"):
            parts = schema.get(keyword, [])
            for part in parts if isinstance(parts, list) else [parts]:
                read(part)

    read(SCHEMA)
    assert found - conformance._WORDS - {"$ref"} == set(conformance._RULES)
    assert types == set(conformance._TYPES)
