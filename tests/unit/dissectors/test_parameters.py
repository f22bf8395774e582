# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Schemas of parameters, values, constants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpgrm.dissectors import aes, schema_file
from udpgrm.dissectors.parameters import DissectorError, Schema
from udpgrm.files import DISSECTORS_DIR

KEY = "8f95f09245765f80256934e50c66207f"


Property = tuple[str, dict[str, Any]]


def item(name: str, kind: object, **more: Any) -> Property:
    return name, {"type": kind, "description": "for a test", **more}


def chosen(name: str, values: object, **more: Any) -> Property:
    return name, {"enum": values, "description": "for a test", **more}


def digits(name: str, count: object, **more: Any) -> Property:
    return item(name, "string", pattern=f"^[0-9a-fA-F]{{{count}}}$", **more)


def key(name: str, pattern: str = "^([0-9a-fA-F]{32})?$") -> Property:
    return item(name, "string", format="aes128_decryption_key", pattern=pattern, default="")


def document(*parameters: Property, rules: Any = ()) -> dict[str, Any]:
    return {
        "description": "for a test",
        "type": "object",
        "properties": dict(parameters),
        "required": [name for name, fields in parameters if "default" not in fields],
        "additionalProperties": False,
        "rules": list(rules),
    }


def schema(*parameters: Property, rules: Any = ()) -> Schema:
    return schema_file.read(json.dumps(document(*parameters, rules=rules)))


SOME = (
    item("length", "integer", minimum=2, maximum=20),
    item("strict", "boolean", default=False),
    chosen("mode", ["fast", "slow"], default="slow"),
    digits("mark", 20, default="00" * 10),
    key("key"),
    item("last", "integer", minimum=0, maximum=2**64 - 1, default=0),
)
ALL = schema(*SOME)


def test_positions_and_constants() -> None:
    assert dict(ALL.positions) == {
        "length": 0,
        "strict": 1,
        "mode": 2,
        "mark": 3,
        "key": 5,
        "last": 6 + aes.KEY_WORDS,
    }
    given = {"length": 20, "strict": True, "mode": "fast", "mark": "0102030405060708090A"}
    constants = ALL.constants(ALL.values({**given, "last": 2**64 - 1}))
    assert constants[:5] == [20, 1, 0, 0x0102030405060708, 0x090A]
    assert constants[5:] == [0] * (1 + aes.KEY_WORDS) + [2**64 - 1]
    keyed = ALL.constants(ALL.values({"length": 2, "key": KEY}))
    assert keyed[:5] == [2, 0, 1, 0, 0]
    assert keyed[5:-1] == [1, *aes.decryption_words(bytes.fromhex(KEY))]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "parameter length is missing (2..20)"),
        ({"length": 1}, "length: 1 is not 2..20"),
        ({"length": 21}, "length: 21 is not 2..20"),
        ({"length": "8"}, "length: '8' is not 2..20"),
        ({"length": 8.0}, "length: 8.0 is not 2..20"),
        ({"length": True}, "length: True is not 2..20"),
        ({"length": None}, "parameter length is missing"),
        ({"length": 8, "lenght": 8}, "unknown parameter 'lenght' (key, last, length, mark, mode"),
        ({"length": 8, "strict": 1}, "strict: 1 is not true or false"),
        ({"length": 8, "mode": "medium"}, "mode: 'medium' is not fast or slow"),
        ({"length": 8, "mode": ["fast"]}, "mode: ['fast'] is not fast or slow"),
        ({"length": 8, "mark": "00"}, "mark: '00' is not 20 hexadecimal digits"),
        ({"length": 8, "mark": "g" * 20}, "is not 20 hexadecimal digits"),
        ({"length": 8, "mark": ""}, "mark: '' is not 20 hexadecimal digits"),
        ({"length": 8, "mark": " 1" * 10}, "is not 20 hexadecimal digits"),
        ({"length": 8, "key": KEY[1:]}, "is not 32 hexadecimal digits, or none"),
    ],
)
def test_wrong_values(given: dict[str, Any], message: str) -> None:
    with pytest.raises(DissectorError) as error:
        ALL.of_json(json.dumps(given))
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


VALUES = st.sampled_from(
    ["", "fast", "slow", "00" * 10, "0g" * 10, KEY, KEY[1:], 0, 2, 20, 21, -1, 2**64, True, None]
)


@given(st.dictionaries(st.sampled_from(["more", *(name for name, _ in SOME)]), VALUES))
def test_values_are_those_of_json_schema(values: dict[str, Any]) -> None:
    """Refuse the values that a JSON Schema validator refuses, rules aside."""
    validator = jsonschema.Draft7Validator(document(*SOME))
    try:
        ALL.values(values)
    except DissectorError:
        assert not validator.is_valid(values)
    else:
        assert validator.is_valid(values)


@pytest.mark.parametrize("path", sorted(DISSECTORS_DIR.glob("*/parameters.json")), ids=str)
def test_shipped_files_are_json_schemas(path: Path) -> None:
    jsonschema.Draft7Validator.check_schema(json.loads(path.read_text()))


@pytest.mark.parametrize("text", ["{", "[]", "8", '"x"', "{}{}", "\x00"])
def test_what_is_no_object(text: str) -> None:
    with pytest.raises(DissectorError, match=r"not (JSON|a JSON object)"):
        ALL.of_json(text)


def test_no_text_is_no_parameters() -> None:
    assert schema().of_json("") == {}
    with pytest.raises(DissectorError, match="unknown parameter 'x' \\(it has none\\)"):
        schema().of_json('{"x": 1}')


def test_traits_may_be_left_out() -> None:
    for traits in ({}, {"keeps_flows": False}, {"reads_quic": True}):
        found = schema_file.read(json.dumps({**document(), **traits}))
        wanted = {"keeps_flows": True, "reads_quic": False, **traits}
        assert {"keeps_flows": found.keeps_flows, "reads_quic": found.reads_quic} == wanted


def test_words_of_a_command_line() -> None:
    arguments = ["length=8", "strict=true", "mode=fast", f"key={KEY}", "mark=" + "0f" * 10]
    given = {"length": 8, "strict": True, "mode": "fast", "key": KEY, "mark": "0f" * 10}
    assert ALL.of_arguments(arguments) == given
    assert ALL.of_arguments(["length=8"]) == {"length": 8}
    for wrong, reason in (
        ("length", "not a parameter: 'length'"),
        ("length=", "length: '' is not 2..20"),
        ("length=08x", "length: '08x' is not 2..20"),
        ("length=-8", "length: '-8' is not"),
        ("strict=1", "parameter length is missing"),
        ("other=1", "unknown parameter 'other'"),
    ):
        with pytest.raises(DissectorError, match=reason):
            ALL.of_arguments([wrong])
    with pytest.raises(DissectorError, match="strict: 'yes' is not true or false"):
        ALL.of_arguments(["length=8", "strict=yes"])
    with pytest.raises(DissectorError, match="parameter length is given twice"):
        ALL.of_arguments(["length=8", "length=8"])


def test_rules() -> None:
    some = schema(
        item("offset", "integer", minimum=0, maximum=18, default=0),
        item("length", "integer", minimum=2, maximum=20),
        key("key"),
        rules=[
            {"sum": ["offset", 2], "at_most": "length"},
            {"sum": ["offset", "length"], "equals": 16, "when": "key"},
        ],
    )
    assert some.values({"length": 4, "offset": 2})["offset"] == 2
    with pytest.raises(DissectorError, match=r"offset \+ 2 is 5, but has to be at most length \(4"):
        some.values({"length": 4, "offset": 3})
    assert some.values({"length": 14, "offset": 2, "key": KEY})["key"] == KEY
    with pytest.raises(DissectorError, match=r"is 15, but has to be exactly 16 with key"):
        some.values({"length": 14, "offset": 1, "key": KEY})


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "not JSON"), ("[]", "not a JSON object"), ("[" * 100000, "not JSON")],
)
def test_no_documents(text: str, message: str) -> None:
    with pytest.raises(DissectorError, match=message):
        schema_file.read(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"properties": 7}, "it needs a description"),
        ({"description": 1}, "it needs a description"),
        ({"rules": None}, "it needs a description"),
        ({"type": "array"}, "it is of type object"),
        ({"additionalProperties": True}, "additionalProperties is false"),
        ({"additionalProperties": 0}, "additionalProperties is false"),
        ({"required": ["x"]}, r"required is what has no default: \[\]"),
        ({"required": 7}, "required is what has no default"),
        ({"rules": [7]}, "a rule has sum"),
        ({"rules": [{"sum": 7, "equals": 1}]}, "is a list"),
        ({"rules": [{"sum": [], "equals": []}]}, "neither a number"),
        ({"rules": [{"sum": [], "equals": 1, "when": []}]}, "its when"),
        ({"more": 1}, "unknown key 'more'"),
        ({"reads_quic": 1}, "reads_quic is true or false"),
        ({"keeps_flows": None}, "keeps_flows is true or false"),
        ({"keyed_by": "peer"}, "keyed_by is call_id or state"),
        ({"properties": {"x": 7}}, "parameter x is none of integer, boolean"),
        ({"properties": {"x": {"type": "boolean"}}}, "parameter x: description is missing"),
    ],
)
def test_wrong_documents(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DissectorError, match=message):
        schema_file.read(json.dumps({**document(), **changes}))


def test_what_every_document_needs() -> None:
    for keyword in ("description", "properties", "additionalProperties"):
        with pytest.raises(DissectorError, match=keyword):
            schema_file.read(json.dumps({**document(), keyword: None}))


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (item("Length", "boolean"), "parameter name 'Length'"),
        (item("a b", "boolean"), "parameter name 'a b'"),
        (item("x", "number"), "is none of integer, boolean"),
        (item("x", []), "is none of integer, boolean"),
        (chosen("x", ["a"], type="integer"), "is none of integer, boolean"),
        (item("x", "boolean", minimum=1), "unknown key 'minimum'"),
        (item("x", "integer", minimum=1), "maximum is missing"),
        (item("x", "integer", minimum=3, maximum=2), "no value could be one"),
        (item("x", "integer", minimum=-1, maximum=2), "no value could be one"),
        (item("x", "integer", minimum=0, maximum=2**64), "no value could be one"),
        (item("x", "integer", minimum="0", maximum=2), "no value could be one"),
        (item("x", "integer", minimum=0, maximum=2, default=3), "its default is not 0..2"),
        (chosen("x", []), "no value could be one"),
        (chosen("x", [1]), "no value could be one"),
        (chosen("x", "ab"), "no value could be one"),
        (item("x", "string"), "pattern is missing"),
        (item("x", "string", pattern=7), "no value could be one"),
        (item("x", "string", pattern="^[0-9]{4}$"), "no value could be one"),
        (digits("x", 0), "no value could be one"),
        (digits("x", 3), "no value could be one"),
        (digits("x", 130), "no value could be one"),
        (key("x", "^[0-9a-fA-F]{32}$"), "no value could be one"),
    ],
)
def test_wrong_parameters(parameter: Property, message: str) -> None:
    with pytest.raises(DissectorError) as error:
        schema(parameter)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "rule",
    [
        7,
        {},
        {"sum": ["x"]},
        {"sum": ["x"], "at_most": 1, "equals": 1},
        {"sum": ["x"], "at_most": 1, "more": 1},
        {"sum": ["y"], "at_most": 1},
        {"sum": ["flag"], "at_most": 1},
        {"sum": ["x"], "at_most": True},
        {"sum": ["x"], "at_most": 1, "when": "y"},
    ],
)
def test_wrong_rules(rule: Any) -> None:
    with pytest.raises(DissectorError, match="a rule"):
        schema(item("x", "integer", minimum=0, maximum=9), item("flag", "boolean"), rules=[rule])
