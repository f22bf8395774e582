# SPDX-License-Identifier: Apache-2.0
"""Validation of data by the published schema (draft 7, which Debian 12 and RHEL 9 have)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from udpgrm.services.document import dotted

SCHEMA_FILE = Path(__file__).with_name("schema.json")
_SHOWN = 60


class MissingLibrary(Exception):
    """Raised when jsonschema is not installed; the message says how to install it."""


def problems(data: Any) -> list[tuple[str, str]]:
    """Return (key, reason) of everything in the data that the schema does not allow."""
    found = []
    for error in _validator().iter_errors(data):
        path = tuple(error.absolute_path)
        if error.validator == "additionalProperties":
            known = error.schema.get("properties", {})
            hint = f"no such key (there are {', '.join(known)})" if known else "no such key"
            found += [(dotted((*path, key)), hint) for key in error.instance if key not in known]
        elif error.validator == "required":
            # the error names missing keys only in its message
            missing = [key for key in error.validator_value if key not in error.instance]
            found += [(dotted((*path, key)), "missing") for key in missing]
        else:
            found.append((dotted(path), _reason(error)))
    return list(dict.fromkeys(found))


@cache
def _validator() -> Any:
    try:
        import jsonschema  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingLibrary(
            "the Python module jsonschema is missing: install python3-jsonschema"
        ) from error
    return jsonschema.Draft7Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


def _reason(error: Any) -> str:
    """Return what is wrong with a value, in terms of the file rather than of the schema."""
    rule, wanted, value = error.validator, error.validator_value, error.instance
    if rule == "type":
        kinds = " or ".join([wanted] if isinstance(wanted, str) else wanted)
        return f"{_shown(value)} is not of type {kinds}"
    if rule == "pattern":
        return f"{_shown(value)} is not {error.schema['description']}"
    if rule == "enum":
        return f"{_shown(value)} is not one of {', '.join(wanted)}"
    if rule in ("minimum", "maximum"):
        bounds = error.schema
        return f"{_shown(value)} is not a number of {bounds['minimum']}..{bounds['maximum']}"
    if rule == "maxLength":
        return f"longer than {wanted} characters"
    if rule in ("minItems", "maxItems", "minProperties", "maxProperties"):
        least = rule.startswith("min")
        return f"has {len(value)} entries, {'at least' if least else 'at most'} {wanted} are wanted"
    return str(error.message)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
