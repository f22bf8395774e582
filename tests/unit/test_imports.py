# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Packages import in one direction only, and modules in no circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import udpgrm

PACKAGE = Path(udpgrm.__file__).parent
#: Each imports from itself and from those before it. What is in one line knows nothing of another.
LAYERS = (
    ("journald",),
    (
        "abi",
        "atomic_write",
        "files",
        "log",
        "names",
        "numbers",
        "sd_notify",
        "version",
        "interface",
    ),
    ("kernel",),
    ("dissectors",),
    ("build",),
    ("state",),
    ("client", "config", "loader", "metrics", "probes"),
    ("daemon", "services"),
    ("doctor",),
    ("restart",),
    ("views",),
    ("cli",),
    ("activate", "decoy"),
    ("__main__",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
#: The command that starts the daemon.
STARTS_IT = "udpgrm.cli.daemon"


def modules() -> dict[str, ast.Module]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text())
    return found


def imported(tree: ast.AST, names: set[str]) -> Iterator[str]:
    """Yield the modules of the package that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in names or node.module in names:
                    yield full if full in names else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)


def layer(module: str) -> str:
    return module.split(".")[1] if "." in module else "version"


def test_direction() -> None:
    trees = modules()
    wrong = [
        (module, other)
        for module, tree in trees.items()
        for other in imported(tree, set(trees))
        if layer(module) != layer(other) and RANK[layer(other)] >= RANK[layer(module)]
    ]
    assert wrong == []


def test_only_one_command_knows_the_daemon() -> None:
    trees = modules()
    assert {
        module
        for module, tree in trees.items()
        for other in imported(tree, set(trees))
        if layer(other) == "daemon" != layer(module)
    } == {STARTS_IT}


def test_no_circle() -> None:
    trees = modules()
    left = {module: set(imported(tree, set(trees))) - {module} for module, tree in trees.items()}
    while left:
        ends = {module for module, others in left.items() if not others & left.keys()}
        assert ends, f"in a circle, or import from one: {sorted(left)}"
        for module in ends:
            del left[module]
