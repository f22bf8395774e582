# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A check if data conforms to a schema: yes or no, for the keywords that our schema has.

Almost every definition conforms, and the import of jsonschema, which explains why one does not,
takes longer than the rest of a command.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

#: Values of JSON's types. Like draft 7, 2.0 is an integer, and true is no number.
_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "integer": lambda value: (
        _TYPES["number"](value) and (isinstance(value, int) or value.is_integer())
    ),
}
#: Keywords that say nothing of the data.
_WORDS = {"$schema", "$comment", "title", "description", "default", "definitions"}


class Conformance:
    """A schema whose conforming data are recognised."""

    def __init__(self, schema: dict[str, Any]) -> None:
        """Take a schema. Its $ref are of its own definitions."""
        self._schema = schema

    def of(self, value: Any) -> bool:
        """Return whether data conforms. Raises KeyError for a keyword that is not known here."""
        return self._holds(self._schema, value)

    def _holds(self, schema: Any, value: Any) -> bool:
        if isinstance(schema, bool):
            return schema
        if "$ref" in schema:  # the keywords beside it do not count
            name = schema["$ref"].rpartition("/")[2]
            return self._holds(self._schema["definitions"][name], value)
        return all(
            _RULES[keyword](self, schema[keyword], value, schema)
            for keyword in schema
            if keyword not in _WORDS
        )

    def _type(self, wanted: Any, value: Any, _: Any) -> bool:
        return any(_TYPES[name](value) for name in ([wanted] if type(wanted) is str else wanted))

    def _enum(self, wanted: list[str], value: Any, _: Any) -> bool:
        return type(value) is str and value in wanted

    def _const(self, wanted: str, value: Any, _: Any) -> bool:
        return type(value) is str and value == wanted

    def _minimum(self, wanted: float, value: Any, _: Any) -> bool:
        return not _TYPES["number"](value) or value >= wanted

    def _maximum(self, wanted: float, value: Any, _: Any) -> bool:
        return not _TYPES["number"](value) or value <= wanted

    def _pattern(self, wanted: str, value: Any, _: Any) -> bool:
        return type(value) is not str or re.search(wanted, value) is not None

    def _max_length(self, wanted: int, value: Any, _: Any) -> bool:
        return type(value) is not str or len(value) <= wanted

    def _min_items(self, wanted: int, value: Any, _: Any) -> bool:
        return type(value) is not list or len(value) >= wanted

    def _max_items(self, wanted: int, value: Any, _: Any) -> bool:
        return type(value) is not list or len(value) <= wanted

    def _min_properties(self, wanted: int, value: Any, _: Any) -> bool:
        return type(value) is not dict or len(value) >= wanted

    def _max_properties(self, wanted: int, value: Any, _: Any) -> bool:
        return type(value) is not dict or len(value) <= wanted

    def _items(self, wanted: Any, value: Any, schema: Any) -> bool:
        if type(value) is not list:
            return True
        if type(wanted) is not list:
            return all(self._holds(wanted, item) for item in value)
        further = schema.get("additionalItems", True)
        return all(map(self._holds, wanted, value)) and all(
            self._holds(further, item) for item in value[len(wanted) :]
        )

    def _properties(self, wanted: dict[str, Any], value: Any, _: Any) -> bool:
        return type(value) is not dict or all(
            self._holds(schema, value[key]) for key, schema in wanted.items() if key in value
        )

    def _additional_properties(self, wanted: Any, value: Any, schema: Any) -> bool:
        known = schema.get("properties", ())
        return type(value) is not dict or all(
            self._holds(wanted, item) for key, item in value.items() if key not in known
        )

    def _property_names(self, wanted: Any, value: Any, _: Any) -> bool:
        return type(value) is not dict or all(self._holds(wanted, key) for key in value)

    def _required(self, wanted: list[str], value: Any, _: Any) -> bool:
        return type(value) is not dict or all(key in value for key in wanted)

    def _all_of(self, wanted: list[Any], value: Any, _: Any) -> bool:
        return all(self._holds(schema, value) for schema in wanted)

    def _if(self, wanted: Any, value: Any, schema: Any) -> bool:
        return not self._holds(wanted, value) or self._holds(schema["then"], value)


def _elsewhere(*_: Any) -> bool:
    """Hold: another keyword's rule reads this one."""
    return True


_RULES: dict[str, Callable[[Conformance, Any, Any, Any], bool]] = {
    "type": Conformance._type,
    "enum": Conformance._enum,
    "const": Conformance._const,
    "minimum": Conformance._minimum,
    "maximum": Conformance._maximum,
    "pattern": Conformance._pattern,
    "maxLength": Conformance._max_length,
    "minItems": Conformance._min_items,
    "maxItems": Conformance._max_items,
    "minProperties": Conformance._min_properties,
    "maxProperties": Conformance._max_properties,
    "items": Conformance._items,
    "additionalItems": _elsewhere,
    "properties": Conformance._properties,
    "additionalProperties": Conformance._additional_properties,
    "propertyNames": Conformance._property_names,
    "required": Conformance._required,
    "allOf": Conformance._all_of,
    "if": Conformance._if,
    "then": _elsewhere,
}
