# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Schemas of parameters, values, constants."""

from __future__ import annotations

import json
from typing import Any

import pytest

from udpgrm.dissectors import aes
from udpgrm.dissectors.parameters import DissectorError, Schema

KEY = "8f95f09245765f80256934e50c66207f"


def item(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "description": "for a test", **more}


def schema(*parameters: dict[str, Any], rules: Any = ()) -> Schema:
    document = {"about": "for a test", "parameters": parameters, "rules": list(rules)}
    return Schema.of(json.dumps(document))


ALL = schema(
    item("length", "integer", minimum=2, maximum=20),
    item("strict", "boolean", default=False),
    item("mode", "enum", values=["fast", "slow"], default="slow"),
    item("mark", "hex", bytes=10, default="00" * 10),
    item("key", "aes128_decryption_key", default=""),
    item("last", "integer", minimum=0, maximum=2**64 - 1, default=0),
)


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


@pytest.mark.parametrize("text", ["{", "[]", "8", '"x"', "{}{}", "\x00"])
def test_what_is_no_object(text: str) -> None:
    with pytest.raises(DissectorError, match=r"not (JSON|a JSON object)"):
        ALL.of_json(text)


def test_no_text_is_no_parameters() -> None:
    assert schema().of_json("") == {}
    with pytest.raises(DissectorError, match="unknown parameter 'x' \\(it has none\\)"):
        schema().of_json('{"x": 1}')


def test_traits_may_be_left_out() -> None:
    for given in ({}, {"keeps_flows": False}, {"reads_quic": True}):
        found = Schema.of(json.dumps({"about": "x", "parameters": [], **given}))
        wanted = {"keeps_flows": True, "reads_quic": False, **given}
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
        item("key", "aes128_decryption_key", default=""),
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
    [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "it needs about"),
        ('{"about": "x", "parameters": 7}', "it needs about"),
        ('{"about": 1, "parameters": []}', "it needs about"),
        ('{"about": "x", "parameters": [], "rules": null}', "it needs about"),
        ('{"about": "x", "parameters": [], "rules": [7]}', "a rule has sum"),
        ('{"about": "x", "parameters": [], "rules": [{"sum": 7, "equals": 1}]}', "is a list"),
        (
            '{"about": "x", "parameters": [], "rules": [{"sum": [], "equals": []}]}',
            "neither a number",
        ),
        (
            '{"about": "x", "parameters": [], "rules": [{"sum": [], "equals": 1, "when": []}]}',
            "its when",
        ),
        ("[" * 100000, "not JSON"),
        ('{"about": "x", "parameters": [], "more": 1}', "unknown key 'more'"),
        ('{"about": "x", "parameters": [], "reads_quic": 1}', "reads_quic is true or false"),
        ('{"about": "x", "parameters": [], "keeps_flows": null}', "keeps_flows is true or false"),
        (
            '{"about": "x", "parameters": [], "keyed_by": "peer"}',
            "keyed_by is call_id or state",
        ),
        ('{"about": "x", "parameters": [7]}', "a parameter without a name"),
        ('{"about": "x", "parameters": [{"type": "boolean"}]}', "a parameter without a name"),
    ],
)
def test_wrong_documents(text: str, message: str) -> None:
    with pytest.raises(DissectorError, match=message):
        Schema.of(text)


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (item("Length", "boolean"), "parameter name 'Length'"),
        (item("a b", "boolean"), "parameter name 'a b'"),
        (item("x", "float"), "has no type of integer, boolean"),
        ({**item("x", ""), "type": []}, "has no type of integer, boolean"),
        (item("x", "boolean", minimum=1), "unknown key 'minimum'"),
        (item("x", "integer", minimum=1), "maximum is missing"),
        (item("x", "integer", minimum=3, maximum=2), "no value could be one"),
        (item("x", "integer", minimum=-1, maximum=2), "no value could be one"),
        (item("x", "integer", minimum=0, maximum=2**64), "no value could be one"),
        (item("x", "integer", minimum="0", maximum=2), "no value could be one"),
        (item("x", "integer", minimum=0, maximum=2, default=3), "its default is not 0..2"),
        (item("x", "enum", values=[]), "no value could be one"),
        (item("x", "enum", values=[1]), "no value could be one"),
        (item("x", "enum", values="ab"), "no value could be one"),
        (item("x", "hex", bytes=0), "no value could be one"),
        (item("x", "hex", bytes=65), "no value could be one"),
        ({"name": "x", "type": "boolean"}, "description is missing"),
    ],
)
def test_wrong_parameters(parameter: dict[str, Any], message: str) -> None:
    with pytest.raises(DissectorError) as error:
        schema(parameter)
    assert message in str(error.value)


def test_two_of_one_name() -> None:
    with pytest.raises(DissectorError, match="two parameters have one name"):
        schema(item("x", "boolean"), item("x", "boolean"))


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
