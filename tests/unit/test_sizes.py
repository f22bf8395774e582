# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Check sizes of modules and functions, words of the old dialect, and docstrings."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE, FUNCTION = 350, 60
#: Characters of a line in plugins, which ruff does not check; ansible-test sanity refuses more.
PLUGIN_LINE = 160
#: Test files are one case after another.
TEST_MODULE = 500
#: One declaration after another, in C and in Python.
ABI = {"bpf/abi.h", "udpgrm/abi.py"}
#: In these senses there is always another word (docs/glossary.md).
DIALECT = re.compile(  # between other letters they are parts of other words, not beside "_"
    r"(?<![A-Za-z])(seats?|seated|socket_place|may_be_succeeded|outlived|turn(ed|s)? round"
    r"|make way|look_up|Doer|Patient|put off|crowded|goes on|anew|no more of them|wishes|said"
    r"|strangers?|judged?|forgotten|forgives?)(?![a-z])"
)


#: A docstring begins with none of these, but names its object. D401 checks functions' verbs.
RELATIVE = re.compile(
    r"(What|Whatever|Whether|Who|Whoever|Whose|Where|Which|How|However|When|While|Until|Why|If"
    r"|The same|It|Its|They|Them|Their|This|That|These|Those|Some|None|Only|Also|Not|Nor|Neither"
    r"|As|Of|By|For|To|(Each|Both|One|All|Another) (is|are|was|were|has|have|of|that|which))\b"
)


def tracked(*patterns: str) -> Iterator[tuple[str, str]]:
    """Yield path and text of the repository's files."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            yield name, (ROOT / name).read_text()


def test_modules_have_one_subject() -> None:
    long = {
        name: lines
        for name, text in tracked("*.py", "*.c", "*.h", "*.j2", "*.go", "*.rs")
        if (lines := text.count("\n")) > (TEST_MODULE if name.startswith("tests/") else MODULE)
    }
    assert set(long) - ABI == set(), long


def test_functions_have_one_subject() -> None:
    long = [
        (name, node.name)
        for name, text in tracked("*.py")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (node.end_lineno or 0) - node.lineno >= FUNCTION
    ]
    assert long == []


def test_lines_of_plugins_pass_sanity() -> None:
    long = [
        (name, number)
        for name, text in tracked("plugins/*.py", "tests/unit/plugins/*.py")
        for number, line in enumerate(text.splitlines(), start=1)
        if len(line) > PLUGIN_LINE
    ]
    assert long == []


def test_plugins_assert_nothing() -> None:
    """Find no assertion, which ansible-test refuses, as Python may be told to skip it."""
    found = [
        (name, node.lineno)
        for name, text in tracked("plugins/*.py")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_words_of_the_field() -> None:
    found = [
        (name, match.group())
        for name, text in tracked("*.py", "*.c", "*.h", "*.j2", "*.yml", "*.md", "*.json")
        if not name.startswith(("changelogs/", "tests/unit/test_sizes.py"))
        for match in DIALECT.finditer(text)
    ]
    assert found == []


def test_docstrings_name_their_object() -> None:
    found = [
        (name, text)
        for name, source in tracked("*.py", "tools/build_collection", "bin/*")
        if not name.startswith("clients/")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if (text := ast.get_docstring(node)) and RELATIVE.match(text)
    ]
    assert found == []
