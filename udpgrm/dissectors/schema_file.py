# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""parameters.json: the schema of a named dissector's parameters.

It is a JSON Schema (draft 7) of the object of parameters: its description says in a line what the
dissector does, its properties are the parameters, in the order of their constants, it has
additionalProperties: false, and required lists what has no default. It is read here: the daemon
and most commands do without the library for JSON Schema. Properties, and the 64-bit constants that
C sees:

    type: integer, minimum, maximum             the number
    type: boolean                               1, 0
    enum: strings                               the position there
    type: string, pattern ^[0-9a-fA-F]{N}$      hex: big-endian numbers of 8 bytes each, of the
                                                rest the last
    type: string, format aes128_decryption_key, pattern ^([0-9a-fA-F]{32})?$
                                                1 or 0 ("": none), then 22 words (dissectors/aes.py)

Each has a description, and may have a default and a unit. Keywords of our own, which validators
ignore, all optional:

    rules       conditions between parameters: {"sum": [TERM...], "at_most" | "equals": TERM,
                "when": NAME}. A term is a number or the name of an integer; with `when` it holds
                only if that parameter is given (not "" and not false)
    keeps_flows false where no packet belongs to the flow of an earlier one (default: true)
    reads_quic  true where QUIC connections are recognised by their connection IDs (default: false)
    keyed_by    what of a packet its flow is keyed by, where flows are entries of tables that
                sockets make by sending
"""

from __future__ import annotations

import json
import re
from typing import Any

from udpgrm import abi, names
from udpgrm.dissectors import aes
from udpgrm.dissectors.parameters import (
    AES,
    DissectorError,
    Parameter,
    Rule,
    Schema,
    json_object,
)

_MAX_HEX_BYTES = 64
#: type -> keywords that its properties need
TYPES: dict[str, frozenset[str]] = {
    "integer": frozenset({"minimum", "maximum"}),
    "boolean": frozenset(),
    "enum": frozenset({"enum"}),
    "hex": frozenset({"pattern"}),
    AES: frozenset({"pattern", "format"}),
}
_COMMON = frozenset({"type", "description", "unit", "default"})
_HEX = re.compile(r"\^\[0-9a-fA-F\]\{([1-9][0-9]{0,2})\}\$")
_AES_PATTERN = f"^([0-9a-fA-F]{{{2 * aes.KEY_BYTES}}})?$"
#: Keywords that describe a dissector to restarts.
_TRAITS = ("keeps_flows", "reads_quic")
_KEYWORDS = frozenset(
    {"$schema", "type", "description", "properties", "required", "additionalProperties"}
    | {"rules", "keyed_by", *_TRAITS}
)
#: Values of keyed_by.
_KEYS = {key.name.lower(): key for key in abi.KeyedBy if key}


def read(text: str) -> Schema:
    """Return the schema of a parameters.json. Raises DissectorError."""
    document = {"type": "object", "required": [], "rules": [], **json_object(text, _KEYWORDS)}
    properties, rules = document.get("properties"), document["rules"]
    if (
        not isinstance(document.get("description"), str)
        or not isinstance(properties, dict)
        or not isinstance(rules, list)
    ):
        raise DissectorError(
            "it needs a description (text) and properties, and may have rules (a list)"
        )
    if document["type"] != "object" or document.get("additionalProperties") is not False:
        raise DissectorError("it is of type object, and additionalProperties is false")
    traits = {name: document[name] for name in _TRAITS if name in document}
    for name, value in traits.items():
        if not isinstance(value, bool):
            raise DissectorError(f"{name} is true or false")
    if "keyed_by" in document:
        if not isinstance(document["keyed_by"], str) or document["keyed_by"] not in _KEYS:
            raise DissectorError(f"keyed_by is {' or '.join(_KEYS)}")
        traits["keyed_by"] = _KEYS[document["keyed_by"]]
    parameters = tuple(_parameter(name, fields) for name, fields in properties.items())
    required = [item.name for item in parameters if item.default is None]
    if document["required"] != required:
        raise DissectorError(f"required is what has no default: {json.dumps(required)}")
    integers = {item.name for item in parameters if item.type == "integer"}
    known = tuple(_rule(item, integers, set(properties)) for item in rules)
    return Schema(document["description"], parameters, known, **traits)


def _parameter(name: str, fields: Any) -> Parameter:
    if not names.DISSECTOR.fullmatch(name):
        raise DissectorError(f"parameter name {name!r} (lower case, digits and _, 31 at most)")
    kind = _type_of(fields) if isinstance(fields, dict) else ""
    if not kind:
        raise DissectorError(f"parameter {name} is none of {', '.join(TYPES)}")
    missing = (TYPES[kind] | {"description"}) - set(fields)
    if missing:
        raise DissectorError(f"parameter {name}: {min(missing)} is missing")
    surplus = set(fields) - TYPES[kind] - _COMMON
    if surplus:
        raise DissectorError(f"parameter {name}: unknown key {min(surplus)!r}")
    if not _is_sound(kind, fields):
        raise DissectorError(f"parameter {name}: no value could be one ({', '.join(TYPES[kind])})")
    own = {key: fields[key] for key in ("minimum", "maximum", "unit", "default") if key in fields}
    item = Parameter(
        name,
        kind,
        fields["description"],
        values=tuple(fields.get("enum", ())),
        bytes=_hex_bytes(fields["pattern"]) if kind == "hex" else 0,
        **own,
    )
    if item.default is not None and not item.holds(item.default):
        raise DissectorError(f"parameter {name}: its default is not {item.range}")
    return item


def _type_of(fields: dict[str, Any]) -> str:
    """Return the type of a property; "": it is none of ours."""
    if "enum" in fields:
        return "enum" if fields.get("type", "string") == "string" else ""
    if fields.get("type") == "string":
        return AES if fields.get("format") == AES else "hex"
    return next((kind for kind in ("integer", "boolean") if fields.get("type") == kind), "")


def _hex_bytes(pattern: object) -> int:
    """Return how many bytes a pattern of hexadecimal digits is for; 0: it is another pattern."""
    match = _HEX.fullmatch(pattern) if isinstance(pattern, str) else None
    digits = int(match[1]) if match else 0
    return 0 if digits % 2 else digits // 2


def _is_sound(kind: str, fields: dict[str, Any]) -> bool:
    """Return whether the keywords of a type are valid: numbers in order, strings, patterns."""
    if kind == "integer":
        low, high = fields["minimum"], fields["maximum"]
        return type(low) is int and type(high) is int and 0 <= low <= high < 2**64
    if kind == "enum":
        values = fields["enum"]
        is_list = isinstance(values, list) and bool(values)
        return is_list and all(isinstance(item, str) for item in values)
    if kind == "hex":
        return 1 <= _hex_bytes(fields["pattern"]) <= _MAX_HEX_BYTES
    return kind != AES or fields["pattern"] == _AES_PATTERN


def _rule(fields: Any, integers: set[str], names: set[str]) -> Rule:
    relations = {"at_most", "equals"} & set(fields) if isinstance(fields, dict) else set()
    if len(relations) != 1 or set(fields) - relations - {"sum", "when"}:
        raise DissectorError("a rule has sum, at_most or equals, and may have when")
    (relation,) = relations
    terms, when = fields.get("sum", []), fields.get("when", "")
    if not isinstance(terms, list) or not isinstance(when, str):
        raise DissectorError("a rule's sum is a list, its when the name of a parameter")
    rule = Rule(tuple(terms), relation, fields[relation], when)
    for term in (*rule.sum, rule.bound):
        if type(term) is not int and not (isinstance(term, str) and term in integers):
            raise DissectorError(f"a rule's {term!r} is neither a number nor an integer parameter")
    if rule.when and rule.when not in names:
        raise DissectorError(f"a rule's {rule.when!r} is not a parameter")
    return rule
