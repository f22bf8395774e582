# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The schemas of answers: well formed, closed, described, and equal to the enums of the code."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from testing import contract
from udpgrm import abi, interface, names
from udpgrm.abi import DissectorType, ProbePath
from udpgrm.cli import commands, common, options
from udpgrm.dissectors import schema_file
from udpgrm.doctor.facts import Code
from udpgrm.probes import specs
from udpgrm.restart import groups
from udpgrm.restart.drain import Decision
from udpgrm.restart.machine import FORWARD, UNDO, Outcome, Result, Step
from udpgrm.state import counters
from udpgrm.views import history, services

ROOT = Path(__file__).resolve().parents[3]
ALL = [interface.COMMON, *interface.names()]
SHARED = interface.load(interface.COMMON)["$defs"]


def parts(schema: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each schema inside a schema, with its path."""
    if isinstance(schema, list):
        for position, item in enumerate(schema):
            yield from parts(item, f"{where}/{position}")
    elif isinstance(schema, dict):
        yield where, schema
        for key in ("properties", "$defs"):
            for name, item in schema.get(key, {}).items():
                yield from parts(item, f"{where}/{key}/{name}")
        for key in ("items", "prefixItems", "anyOf", "oneOf", "additionalProperties"):
            yield from parts(schema.get(key), f"{where}/{key}")


@pytest.mark.parametrize("name", ALL)
def test_it_is_a_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(interface.load(name))


@pytest.mark.parametrize("name", interface.names())
def test_samples_are_valid(name: str) -> None:
    samples = interface.load(name)["examples"]
    assert samples
    assert [text for sample in samples for text in contract.misfits(name, sample)] == []


@pytest.mark.parametrize("name", ALL)
def test_objects_are_closed(name: str) -> None:
    """Close all objects but those that others extend, whose users close them."""
    for where, part in parts(interface.load(name), name):
        if "_fields" in part.get("$ref", ""):
            is_closed = part.get("unevaluatedProperties") is False
            assert is_closed or where.endswith("_fields"), where
        elif "required" in part and not where.endswith("_fields"):
            assert "additionalProperties" in part, where
        if "additionalProperties" in part and "properties" in part:
            assert part["additionalProperties"] is False, where


@pytest.mark.parametrize("name", ALL)
def test_every_field_is_described(name: str) -> None:
    for where, part in parts(interface.load(name), name):
        if where.rpartition("/")[0].endswith("/properties"):
            shared = SHARED.get(part.get("$ref", "").rpartition("/")[2], {})
            own = interface.load(name).get("$defs", {}).get(where.rpartition("/")[2], {})
            assert part.get("description", shared.get("description", own.get("description"))), where


@pytest.mark.parametrize("name", ALL)
def test_every_field_is_always_there(name: str) -> None:
    """Require every field but the evidence, which depends on the step."""
    for where, part in parts(interface.load(name), name):
        if "properties" in part and not where.endswith("/evidence"):
            assert list(part["properties"]) == part.get("required"), where


def test_units_of_seconds() -> None:
    """A field in seconds says so in its name, or in its description."""
    for name in ALL:
        for where, part in parts(interface.load(name), name):
            key = where.rpartition("/")[2]
            if where.rpartition("/")[0].endswith("/properties") and part.get("type") == "number":
                text = part["description"].lower()
                assert key.endswith("_s") or "second" in text, where


def answers(arguments: str) -> str:
    return contract.answer_of(options.parse(arguments.split()))


def test_every_command_has_its_answer() -> None:
    forms = {
        "hooks": ["hooks list", "hooks add X", "hooks remove X"],
        "dissector": [
            *("dissector list", "dissector show X", "dissector check X"),
            *("dissector set X", "dissector unset X", "dissector apply X"),
        ],
        "probe": ["probe X", "probe X --type=echo"],
        "service": [
            *("service define X", "service remove X", "service new X"),
            *("service unit X", "service render X 1"),
            *("service start X", "service stop X"),
        ],
        "restart": ["restart X", "restart X --check", "restart X --no-follow"],
        "rollback": ["rollback X", "rollback X --no-follow"],
    }
    found = {
        answers(form)
        for word in commands.COMMANDS.keys() - contract.WITHOUT
        for form in forms.get(word, [word])
    }
    assert found | {"restart-event", "drain-event"} == set(interface.names())


def values(members: Iterable[Any]) -> list[Any]:
    return [member.value for member in members]


def part_of(name: str, *path: str) -> Any:
    schema: Any = interface.load(name)
    for key in path:
        schema = schema[key]
    return schema


SERVICES = ("properties", "services", "items", "properties")
GENERATION = ("groups", "items", "properties", "generations", "items", "properties", "state")
KINDS = [kind.name.lower() for kind in DissectorType]


@pytest.mark.parametrize(
    ("listed", "known"),
    [
        (SHARED["schema"]["const"], common.SCHEMA),
        (SHARED["step"]["enum"], values(Step)),
        (SHARED["step"]["enum"], values((*FORWARD, *UNDO))),
        (SHARED["result"]["enum"], values(Result)),
        (SHARED["outcome"]["enum"], values(Outcome)),
        (SHARED["restart_state"]["enum"], values((*Step, *Outcome))),
        (SHARED["dissector_type"]["enum"], KINDS),
        (SHARED["probe_type"]["enum"], list(specs.TYPES)),
        (SHARED["question_fields"]["properties"]["probe"]["enum"], ["silent", *specs.TYPES]),
        (SHARED["metrics"]["required"], list(counters.NAMES)),
        (SHARED["metrics"]["propertyNames"]["enum"], list(counters.NAMES)),
        (SHARED["spent"]["required"], list(groups.SPENT)),
        (SHARED["spent"]["propertyNames"]["enum"], list(groups.SPENT)),
        (SHARED["generation"]["maximum"], 2**32 - 1),
        (SHARED["application"]["maximum"], abi.MAX_APPS - 1),
        (SHARED["service"]["pattern"], f"^{names.SERVICE.pattern}$"),
        (part_of("doctor", "$defs", "code", "enum"), values(Code)),
        (part_of("status", *SERVICES, "state", "enum"), values((*services.State, *Step))),
        (part_of("status", *SERVICES, *GENERATION, "enum"), values(history.State)),
        (part_of("drain-event", "properties", "event", "enum"), values(Decision)),
        (
            part_of("dissector-show", "properties", "parameters", "items", "properties", "type")[
                "enum"
            ],
            list(schema_file.TYPES),
        ),
    ],
)
def test_words_are_those_of_the_code(listed: Any, known: Any) -> None:
    assert listed == known


def test_ways_of_a_packet_are_those_of_the_code() -> None:
    listed = SHARED["probe_evidence_fields"]["properties"]["path"]["enum"]
    ways = [path.name.lower() for path in ProbePath if path is not ProbePath.NONE]
    assert listed == [*ways, None]


def test_evidence_is_what_steps_record() -> None:
    """Compare the schema with the code: some evidence is too rare for any other test's answers."""
    recorded = {
        node.slice.value
        for path in (ROOT / "udpgrm/restart").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Subscript)
        and isinstance(node.ctx, ast.Store)
        and ast.unparse(node.value) == "evidence"
        and isinstance(node.slice, ast.Constant)
    }
    assert recorded == set(SHARED["evidence"]["properties"])
