# SPDX-License-Identifier: Apache-2.0
"""The reader of YAML text to plain data: mappings, lists, strings, numbers, booleans, null.

Bounded, whatever the text holds: aliases may multiply or contain themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Union

import yaml

MAX_BYTES = 1 << 16  # a second of parsing
_MAX_NODES = 20000
_MAX_DEPTH = 16
_MERGE = "tag:yaml.org,2002:merge"
_STRING = "tag:yaml.org,2002:str"
_FLOAT = "tag:yaml.org,2002:float"
_INTEGER = "tag:yaml.org,2002:int"
_MAPPING = "tag:yaml.org,2002:map"
_SEQUENCE = "tag:yaml.org,2002:seq"
_SCALARS = {
    *(_STRING, _FLOAT, _INTEGER),
    *("tag:yaml.org,2002:bool", "tag:yaml.org,2002:null"),
}
_READER: Any = yaml.constructor.SafeConstructor()  # float() knows more spellings of nan
_MAX_DIGITS = 64  # int() and str() refuse some thousands

Path = tuple[Union[str, int], ...]


@dataclass(frozen=True)
class Problem:
    """A problem: in which file, at which key (dotted, "" = the whole file), and why."""

    file: str
    key: str
    reason: str

    def __str__(self) -> str:
        line = ": ".join(part for part in (self.file, self.key, self.reason) if part)
        # names of files and keys may hold anything
        return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)


def dotted(path: Path) -> str:
    """Return a key's path as problems name it, as in groups.0.address."""
    return ".".join(map(str, path))


class DocumentError(Exception):
    """Raised when the text cannot be used; has (key, reason) of every problem."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        super().__init__("; ".join(": ".join(filter(None, problem)) for problem in problems))
        self.problems = problems


def read(content: bytes) -> Any:
    """Read one YAML document. Raises DocumentError, and nothing else."""
    if len(content) > MAX_BYTES:
        raise DocumentError(("", f"longer than {MAX_BYTES} bytes"))
    try:
        loader = yaml.SafeLoader(content.decode("utf-8"))
        try:
            root = loader.get_single_node()
            if root is None:
                raise DocumentError(("", "empty"))
            problems = tuple(_problems_of(root))
            if problems:
                raise DocumentError(*problems)
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        raise DocumentError(("", f"not UTF-8 at byte {error.start}")) from error
    except yaml.YAMLError as error:
        raise DocumentError(_place_and_reason(error)) from error
    except RecursionError as error:
        raise DocumentError(("", f"nested deeper than {_MAX_DEPTH}")) from error
    except (ValueError, LookupError, OverflowError) as error:
        # tags that were written out may claim what their text is not
        raise DocumentError(("", f"a value does not fit its tag: {error}")) from error


def _place_and_reason(error: yaml.YAMLError) -> tuple[str, str]:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}", error.problem or "not YAML"
    return "", " ".join(str(error).split())


def _problems_of(root: yaml.Node) -> Iterator[tuple[str, str]]:
    """Yield the problems of the tree as it would be constructed, aliases written out.

    Raises ValueError, LookupError, OverflowError, as the construction does.
    """
    stack: list[tuple[Path, yaml.Node]] = [((), root)]
    count = 0
    while stack:
        path, node = stack.pop()
        count += 1
        if len(path) > _MAX_DEPTH:
            yield "", f"nested deeper than {_MAX_DEPTH}"
            return
        if count > _MAX_NODES:
            yield "", f"more than {_MAX_NODES} values"
            return
        children: list[tuple[Path, yaml.Node]] = []
        if isinstance(node, yaml.MappingNode) and node.tag == _MAPPING:
            seen: set[str] = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.tag not in (_STRING, _MERGE):
                    yield dotted(path), f"a key in line {_line(key)} is not a string"
                    continue
                if key.value in seen:
                    yield dotted((*path, key.value)), f"given again in line {_line(key)}"
                seen.add(key.value)
                children.append(((*path, key.value), value))
        elif isinstance(node, yaml.SequenceNode) and node.tag == _SEQUENCE:
            children.extend(((*path, number), value) for number, value in enumerate(node.value))
        elif not isinstance(node, yaml.ScalarNode) or node.tag not in _SCALARS:
            kind = node.tag.replace("tag:yaml.org,2002:", "")
            yield dotted(path), f"a {kind} is not a value here: put it in quotes if it is text"
        elif node.tag == _FLOAT and not math.isfinite(_READER.construct_yaml_float(node)):
            yield dotted(path), f"{node.value} is not a value here"
        elif node.tag == _INTEGER and len(node.value) > _MAX_DIGITS:
            yield dotted(path), f"a number of more than {_MAX_DIGITS} digits"
        stack.extend(reversed(children))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
