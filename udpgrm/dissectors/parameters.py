# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Parameters of a named dissector: schema, values, constants.

A schema (parameters.json) is an object of

    about       what the dissector does, one line
    parameters  a list of parameters, in the order of their constants
    rules       a list of conditions between them (may be left out)
    keeps_flows false where no packet belongs to the flow of an earlier one
                (may be left out: true)
    reads_quic  true where QUIC connections are recognised by their connection
                IDs (may be left out: false)
    keyed_by    what of a packet its flow is keyed by, where flows are entries
                of tables that sockets make by sending (may be left out)

A parameter has a name, a type, a description, and may have a unit and a
default; without a default it has to be given. Types, their values in JSON, and
the 64-bit constants that C sees:

    integer   minimum..maximum                           the number
    boolean   true, false                                1, 0
    enum      one of the strings in `values`             its position there
    hex       a string of 2 * `bytes` digits             big-endian numbers of 8 bytes
                                                         each, of the rest the last
    aes128_decryption_key   32 digits, or "" for none    1 or 0, then 22 words
                                                         (dissectors/aes.py)

A rule is {"sum": [TERM...], "at_most" | "equals": TERM, "when": NAME}: a term is
a number or the name of an integer; with `when` it holds only if that parameter
is given (not "" and not false).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from udpgrm import abi, names
from udpgrm.dissectors import aes
from udpgrm.numbers import whole_number

_MAX_U32 = 2**32 - 1
_WORD_BYTES = 8
_MAX_HEX_BYTES = 64
#: type -> keys of its own
TYPES: dict[str, frozenset[str]] = {
    "integer": frozenset({"minimum", "maximum"}),
    "boolean": frozenset(),
    "enum": frozenset({"values"}),
    "hex": frozenset({"bytes"}),
    "aes128_decryption_key": frozenset(),
}
_COMMON = frozenset({"name", "type", "description", "unit", "default"})
#: Keys that say what a dissector does, for those who test and replace its servers.
_TRAITS = ("keeps_flows", "reads_quic")
#: Values of keyed_by.
_KEYS = {key.name.lower(): key for key in abi.KeyedBy if key}
Values = dict[str, Any]


class DissectorError(Exception):
    """Raised when a dissector, its schema or its parameters cannot be used; one line."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a schema; `default` None: it has to be given."""

    name: str
    type: str
    description: str
    unit: str = ""
    default: Any = None
    minimum: int = 0
    maximum: int = _MAX_U32
    values: tuple[str, ...] = ()
    bytes: int = 0

    @property
    def words(self) -> int:
        """Return how many 64-bit constants the parameter has."""
        if self.type == "hex":
            return -(-self.bytes // _WORD_BYTES)
        return 1 + aes.KEY_WORDS if self.type == "aes128_decryption_key" else 1

    @property
    def range(self) -> str:
        """Return the parameter's values, for people."""
        if self.type == "integer":
            return f"{self.minimum}..{self.maximum}"
        if self.type == "boolean":
            return "true or false"
        if self.type == "enum":
            return " or ".join(self.values)
        if self.type == "hex":
            return f"{2 * self.bytes} hexadecimal digits"
        return f"{2 * aes.KEY_BYTES} hexadecimal digits, or none"

    def holds(self, value: object) -> bool:
        """Return whether a JSON value is a value of this parameter."""
        if self.type == "boolean":
            return isinstance(value, bool)
        if self.type == "integer":
            whole = isinstance(value, int) and not isinstance(value, bool)
            return whole and self.minimum <= value <= self.maximum  # type: ignore[operator]
        if not isinstance(value, str):
            return False
        if self.type == "enum":
            return value in self.values
        if self.type == "hex":
            return _is_hex(value, self.bytes)
        return not value or _is_hex(value, aes.KEY_BYTES)

    def constants(self, value: Any) -> list[int]:
        """Return the 64-bit constants of a value."""
        if self.type in ("integer", "boolean"):
            return [int(value)]
        if self.type == "enum":
            return [self.values.index(value)]
        raw = bytes.fromhex(value)
        if self.type == "hex":
            pieces = range(0, self.bytes, _WORD_BYTES)
            return [int.from_bytes(raw[at : at + _WORD_BYTES], "big") for at in pieces]
        return [1, *aes.decryption_words(raw)] if raw else [0] * self.words

    def of_text(self, text: str) -> object:
        """Return the JSON value of a command line's argument; the argument itself if it is none."""
        if self.type == "integer":
            number = whole_number(text, self.minimum, self.maximum)
            return text if number is None else number
        if self.type == "boolean":
            return {"true": True, "false": False}.get(text, text)
        return text


def _is_hex(text: str, length: int) -> bool:
    return len(text) == 2 * length and re.fullmatch(r"[0-9a-fA-F]*", text) is not None


@dataclass(frozen=True)
class Rule:
    """A condition between parameters; see the module."""

    sum: tuple[Union[int, str], ...]
    relation: str
    bound: Union[int, str]
    when: str = ""

    def broken(self, values: Values) -> str:
        """Return what is wrong with the values; "" if they keep the rule."""
        if self.when and not values[self.when]:
            return ""
        total = sum(_term(item, values) for item in self.sum)
        bound = _term(self.bound, values)
        if total <= bound if self.relation == "at_most" else total == bound:
            return ""
        relation = "at most" if self.relation == "at_most" else "exactly"
        terms = " + ".join(map(str, self.sum))
        limit = str(self.bound) if self.bound == bound else f"{self.bound} ({bound})"
        condition = f" with {self.when}" if self.when else ""
        return f"{terms} is {total}, but has to be {relation} {limit}{condition}"


def _term(item: Union[int, str], values: Values) -> int:
    return int(values[item]) if isinstance(item, str) else item


@dataclass(frozen=True)
class Schema:
    """The schema of a dissector's parameters."""

    about: str = ""
    parameters: tuple[Parameter, ...] = ()
    rules: tuple[Rule, ...] = ()
    keeps_flows: bool = True
    reads_quic: bool = False
    keyed_by: abi.KeyedBy = abi.KeyedBy.PEER
    positions: Mapping[str, int] = field(init=False)  # of a parameter's first constant

    def __post_init__(self) -> None:
        """Lay the constants out."""
        positions: dict[str, int] = {}
        first = 0
        for item in self.parameters:
            positions[item.name] = first
            first += item.words
        object.__setattr__(self, "positions", positions)

    @classmethod
    def of(cls, text: str) -> Schema:
        """Return the schema of a parameters.json. Raises DissectorError."""
        known = {"about", "parameters", "rules", "keyed_by", *_TRAITS}
        document = {"rules": [], **_json_object(text, known)}
        lists = [document.get(key) for key in ("parameters", "rules")]
        if not isinstance(document.get("about"), str) or not all(
            isinstance(item, list) for item in lists
        ):
            raise DissectorError("it needs about (text), parameters and may have rules (lists)")
        about = document["about"]
        traits = {name: document[name] for name in _TRAITS if name in document}
        for name, value in traits.items():
            if not isinstance(value, bool):
                raise DissectorError(f"{name} is true or false")
        if "keyed_by" in document:
            if not isinstance(document["keyed_by"], str) or document["keyed_by"] not in _KEYS:
                raise DissectorError(f"keyed_by is {' or '.join(_KEYS)}")
            traits["keyed_by"] = _KEYS[document["keyed_by"]]
        parameters = tuple(_parameter(item) for item in document["parameters"])
        names = [item.name for item in parameters]
        if len(set(names)) < len(names):
            raise DissectorError("two parameters have one name")
        integers = {item.name for item in parameters if item.type == "integer"}
        rules = tuple(_rule(item, integers, set(names)) for item in document["rules"])
        return cls(about, parameters, rules, **traits)

    def values(self, given: Mapping[str, object]) -> Values:
        """Return all values, defaults included. Raises DissectorError for the first wrong one."""
        known = {item.name for item in self.parameters}
        for name in given:
            if name not in known:
                there = ", ".join(sorted(known)) or "it has none"
                raise DissectorError(f"unknown parameter {name!r} ({there})")
        values: Values = {}
        for item in self.parameters:
            value = given.get(item.name, item.default)
            if value is None:
                raise DissectorError(f"parameter {item.name} is missing ({item.range})")
            if not item.holds(value):
                raise DissectorError(f"{item.name}: {value!r} is not {item.range}")
            values[item.name] = value
        for rule in self.rules:
            broken = rule.broken(values)
            if broken:
                raise DissectorError(broken)
        return values

    def of_json(self, text: str) -> Values:
        """Return all values of a JSON text, as struct dissector has it; "" is an empty object."""
        return self.values(_json_object(text) if text else {})

    def of_arguments(self, arguments: Iterable[str]) -> Values:
        """Return the values of a command line's NAME=VALUE arguments, without defaults."""
        parameters = {item.name: item for item in self.parameters}
        given: Values = {}
        for argument in arguments:
            name, equals, text = argument.partition("=")
            if not equals:
                raise DissectorError(f"not a parameter: {argument!r} (as NAME=VALUE)")
            if name in given:
                raise DissectorError(f"parameter {name} is given twice")
            given[name] = parameters[name].of_text(text) if name in parameters else text
        self.values(given)
        return given

    def constants(self, values: Values) -> list[int]:
        """Return the constants of checked values, in the order of the schema."""
        return [word for item in self.parameters for word in item.constants(values[item.name])]


def _json_object(text: str, known: Iterable[str] = ()) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DissectorError(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise DissectorError("not a JSON object")
    surplus = set(document) - set(known)
    if known and surplus:
        raise DissectorError(f"unknown key {min(surplus)!r}")
    return document


def _parameter(fields: Any) -> Parameter:
    if not isinstance(fields, dict) or not isinstance(fields.get("name"), str):
        raise DissectorError("a parameter without a name")
    name = fields["name"]
    if not names.DISSECTOR.fullmatch(name):
        raise DissectorError(f"parameter name {name!r} (lower case, digits and _, 31 at most)")
    own = TYPES.get(str(fields.get("type")))
    if own is None:
        raise DissectorError(f"parameter {name} has no type of {', '.join(TYPES)}")
    missing = (own | {"description"}) - set(fields)
    if missing:
        raise DissectorError(f"parameter {name}: {min(missing)} is missing")
    surplus = set(fields) - own - _COMMON
    if surplus:
        raise DissectorError(f"parameter {name}: unknown key {min(surplus)!r}")
    if not _is_sound(fields):
        raise DissectorError(f"parameter {name}: no value could be one ({', '.join(own)})")
    item = Parameter(**{**fields, "values": tuple(fields.get("values", ()))})
    if item.default is not None and not item.holds(item.default):
        raise DissectorError(f"parameter {name}: its default is not {item.range}")
    return item


def _is_sound(fields: dict[str, Any]) -> bool:
    """Return whether the keys of a type are valid: numbers in order, strings."""
    low, high = fields.get("minimum", 0), fields.get("maximum", 0)
    length, values = fields.get("bytes", 1), fields.get("values", [""])
    numbers = all(type(item) is int for item in (low, high, length))
    return (
        numbers
        and 0 <= low <= high < 2**64
        and 1 <= length <= _MAX_HEX_BYTES
        and isinstance(values, list)
        and bool(values)
        and all(isinstance(item, str) for item in values)
    )


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
