# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Parameters of a named dissector: a schema, its values, their constants."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from udpgrm import abi
from udpgrm.dissectors import aes
from udpgrm.numbers import whole_number

_MAX_U32 = 2**32 - 1
_WORD_BYTES = 8
AES = "aes128_decryption_key"
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
        return 1 + aes.KEY_WORDS if self.type == AES else 1

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
    """A condition between parameters; see schema_file."""

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
    positions: Mapping[str, int] = field(init=False)  # of each parameter's first constant

    def __post_init__(self) -> None:
        """Lay the constants out."""
        positions: dict[str, int] = {}
        first = 0
        for item in self.parameters:
            positions[item.name] = first
            first += item.words
        object.__setattr__(self, "positions", positions)

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
        return self.values(json_object(text) if text else {})

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


def json_object(text: str, known: Iterable[str] = ()) -> dict[str, Any]:
    """Return a JSON object, whose keys are all known. Raises DissectorError."""
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
