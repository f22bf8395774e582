# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Answers of the udpgrm command against the schemas in udpgrm/interface."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from udpgrm import interface
from udpgrm.cli import commands, options
from udpgrm.cli.options import Arguments

try:
    import jsonschema  # type: ignore[import-untyped]
    from referencing import Registry, Resource
except ModuleNotFoundError:  # scripts of others run with the machine's own Python
    READS_SCHEMAS = False
else:
    READS_SCHEMAS = True

#: Commands whose operand says what is answered.
_ACTIONS = {
    "dissector": {"unset": "dissector-set"},
    "hooks": {"add": "hooks", "remove": "hooks"},
    "service": {"remove": "service-define", "new": "service-define", "stop": "service-start"},
}
#: Commands that print no answer: a screen, and a protocol of its own.
WITHOUT = {"top", "prober"}


def answer_of(arguments: Arguments) -> str:
    """Return the name of the schema that a command's --json answer has."""
    command = str(arguments.command)
    if command in _ACTIONS:
        action = arguments.operands[0]
        return _ACTIONS[command].get(action, f"{command}-{action}")
    if command in ("restart", "rollback"):
        if arguments.flag("--no-follow"):
            return "restart-begun"
        return "restart-check" if arguments.flag("--check") else "restart"
    return "probe-type" if command == "probe" and arguments.flag("--type") else command


@cache
def _registry() -> Any:
    resources = [
        (f"{name}.schema.json", Resource.from_contents(interface.load(name)))
        for name in (interface.COMMON, *interface.names())
    ]
    return Registry().with_resources(resources)


@cache
def _validator(name: str, pointer: str) -> Any:
    whole = {"$ref": f"{name}.schema.json#{pointer}"}
    return jsonschema.Draft202012Validator(whole, registry=_registry())


def _is_of_missing_keys(error: Any) -> bool:
    """Return whether a document fits, or one of its alternatives, once keys are added."""
    branches: dict[Any, list[Any]] = {}
    for inner in error.context or ():
        branches.setdefault(inner.schema_path[0], []).append(inner)
    return error.validator == "required" or any(
        all(map(_is_of_missing_keys, branch)) for branch in branches.values()
    )


def misfits(name: str, document: Any, pointer: str = "", shortened: bool = False) -> list[str]:
    """Say where a document is not what the schema of an answer allows.

    pointer: to the part of the schema that is meant. shortened: keys may be left out.
    """
    found = []
    for error in _validator(name, pointer).iter_errors(document):
        # the error in the alternative that comes nearest
        nearest = jsonschema.exceptions.best_match(error.context) if error.context else error
        if not (shortened and _is_of_missing_keys(error)):
            found.append(f"{name} {nearest.json_path}: {nearest.message:.400}")
    return sorted(found)


def check(argv: Sequence[str], printed: str) -> None:
    """See that what a command printed is its documented answer, if it was asked for JSON.

    Without --json, restart, rollback and drain print events where stdout is no terminal.
    """
    if not READS_SCHEMAS or not printed or argv[0] in commands.HELPERS:
        return
    arguments = options.parse(list(argv))
    command = arguments.command
    if arguments.flag("--help") or command is None or command in WITHOUT:
        return
    wrong: list[str] = []
    if arguments.flag("--json"):
        wrong = misfits(answer_of(arguments), json.loads(printed))
    elif command in ("restart", "rollback", "drain") and not arguments.flag("--check"):
        name = "drain-event" if command == "drain" else "restart-event"
        for line in printed.splitlines():
            wrong += misfits(name, json.loads(line))
    assert not wrong, "\n".join([f"udpgrm {' '.join(argv)}", *wrong])
