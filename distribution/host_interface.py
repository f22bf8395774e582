# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Write docs/host-interface.md: samples and fields of answers from their schemas.

    python3 -m distribution.host_interface

The schemas are in udpgrm/interface; what they cannot say is in distribution/host-interface.md,
where a line `<!-- answer NAME -->` stands for an answer and `<!-- shared -->` for what they share.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from udpgrm import interface
from udpgrm.interface import Schema

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = Path(__file__).with_name("host-interface.md")
PAGE = ROOT / "docs" / "host-interface.md"
DIRECTIVE = re.compile(r"^<!-- (?:answer (?P<answer>\S+)|(?P<shared>shared)) -->$", re.MULTILINE)
NOTE = (
    "<!-- Made by python3 -m distribution.host_interface: change its template, or the schemas. -->"
)
#: A definition that others extend: it is shown with what closes it.
FIELDS = "_fields"
#: The heading of what is no object.
VALUES = "Values"
_WIDTH = 92


def laid_out(value: Any, indent: int = 0, before: int = 0) -> str:
    """Return JSON that has a line for each object or list that fits in one."""
    flat = json.dumps(value)
    if not isinstance(value, (dict, list)) or not value or indent + before + len(flat) <= _WIDTH:
        return flat
    inner = indent + 2
    if isinstance(value, list):
        items = [laid_out(item, inner) for item in value]
        opening, closing = "[", "]"
    else:
        keys = [f"{json.dumps(key)}: " for key in value]
        items = [key + laid_out(item, inner, len(key)) for key, item in zip(keys, value.values())]
        opening, closing = "{", "}"
    lines = [items[0]]
    for item in items[1:]:
        joined = f"{lines[-1]}, {item}"
        if "\n" not in joined and inner + len(joined) <= _WIDTH:
            lines[-1] = joined
        else:
            lines[-1] += ","
            lines.append(item)
    body = "\n".join(" " * inner + line for line in lines)
    return f"{opening}\n{body}\n{' ' * indent}{closing}"


class Page:
    """The page; `shared` are the definitions that answers share."""

    def __init__(self) -> None:
        """Read them."""
        self._shared: dict[str, Schema] = interface.load(interface.COMMON)["$defs"]

    def text(self) -> str:
        """Return the whole page."""

        def replacement(found: re.Match[str]) -> str:
            return self._common() if found["shared"] else self._answer(found["answer"])

        head, _, rest = TEMPLATE.read_text(encoding="utf-8").partition("\n")
        return f"{head}\n{NOTE}\n{DIRECTIVE.sub(replacement, rest)}"

    def _answer(self, name: str) -> str:
        schema = interface.load(name)
        samples = "\n".join(laid_out(sample) for sample in schema["examples"])
        forms = schema.get("oneOf", [schema])
        tables = []
        for form in forms:
            about = form.get("properties", {}).get("event", {})
            title = f"`event` is `{about['const']}`:\n\n" if "const" in about else ""
            tables.append(title + _table(self._rows(form, schema.get("$defs", {}))))
        source = f"[{name}.schema.json](../udpgrm/interface/{name}.schema.json)"
        return "\n".join([f"```json\n{samples}\n```\n", "\n\n".join(tables), f"\n{source}"])

    def _common(self) -> str:
        """Return what answers share: plain values in one table, a table for each object."""
        plain = []
        sections = []
        for name, part in self._shared.items():
            if name.endswith(FIELDS) or name == "schema":
                continue
            if part.get("type") == "object":
                rows = list(self._rows(part, {}))
                body = _table(rows) if rows else self._names(part)
                sections.append(f"### {name}\n\n{part['description']}\n\n{body}")
            else:
                plain.append((name, self._kind(part, {}), part["description"]))
        return "\n\n".join([f"### {VALUES}", _table(plain, "value"), *sections])

    @staticmethod
    def _names(part: Schema) -> str:
        names = ", ".join(f"`{name}`" for name in part["propertyNames"]["enum"])
        return f"Keys: {names}. Values: {part['additionalProperties']['type']}."

    def _rows(
        self, schema: Schema, local: dict[str, Schema], prefix: str = ""
    ) -> Iterator[tuple[str, str, str]]:
        """Yield path, kind and meaning of each field; objects that have a section are linked."""
        if "$ref" in schema:
            name = _name(schema)
            if name.endswith(FIELDS):
                yield from self._rows(self._shared[name], local, prefix)
        for key, field in schema.get("properties", {}).items():
            if key == "schema":
                continue
            path = f"{prefix}{key}"
            yield f"`{path}`", self._kind(field, local), self._meaning(field, local)
            inner, suffix = _inside(field)
            if _name(inner) in local:
                inner = local[_name(inner)]
            yield from self._rows(inner, local, f"{path}{suffix}.")

    def _meaning(self, field: Schema, local: dict[str, Schema]) -> str:
        definition = local.get(_name(field)) or self._shared.get(_name(field), {})
        return str(field.get("description") or definition["description"])

    def _kind(self, field: Schema, local: dict[str, Schema]) -> str:
        if "anyOf" in field:
            return " or ".join(self._kind(item, local) for item in field["anyOf"])
        name = _name(field)
        if name in local:
            return self._kind(local[name], local)
        if name:
            if name.endswith(FIELDS):
                return "object"
            is_object = self._shared[name].get("type") == "object"
            return f"[{name}](#{name if is_object else VALUES.lower()})"
        if "enum" in field:
            return ", ".join("null" if word is None else f"`{word}`" for word in field["enum"])
        if "const" in field:
            return f"`{field['const']}`"
        kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
        if "array" in kinds and isinstance(field.get("items"), dict):
            inner = self._kind(field["items"], local)
            return f"list of {inner}{'' if inner.startswith('[') else 's'}"
        if "propertyNames" in field:
            return f"{self._kind(field['additionalProperties'], local)} by key"
        return " or ".join(kinds)


def _name(field: Schema) -> str:
    """Return the name of the definition that a field refers to, or ""."""
    return str(field.get("$ref", "")).rpartition("/")[2]


def _inside(field: Schema) -> tuple[Schema, str]:
    """Return the schema of what is inside a field, and what its path gets."""
    for item in field.get("anyOf", ()):
        if item != {"type": "null"}:
            return _inside(item)
    if isinstance(field.get("items"), dict):
        return field["items"], "[]"
    return field, ""


def _table(rows: Any, head: str = "field") -> str:
    lines = [f"| {head} | form | meaning |", "|---|---|---|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def main() -> int:
    """Write the page."""
    PAGE.write_text(Page().text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
