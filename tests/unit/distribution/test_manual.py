# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Manual pages."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from distribution import manual
from udpgrm.cli import commands
from udpgrm.cli.usage import form_of, usage

PAGES = manual.pages()
ROOT = Path(__file__).resolve().parents[3]


def test_every_command_has_a_page() -> None:
    assert set(PAGES) == {
        "udpgrm.8",
        *(f"udpgrm-{word}.8" for word in (*commands.COMMANDS, *commands.HELPERS)),
    }


def test_prose_belongs_to_a_page() -> None:
    assert {f"{path.stem}.8" for path in manual.PROSE.iterdir()} <= set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_page_formats_without_a_warning(name: str) -> None:
    formatted = subprocess.run(
        ["groff", "-man", "-Tutf8", "-P-cbou", "-ww", "-rLL=100n"],
        input=PAGES[name],
        capture_output=True,
        text=True,
        check=True,
    )
    assert formatted.stderr == ""
    assert "NAME" in formatted.stdout


def test_page_of_a_command_names_its_options_and_statuses() -> None:
    page = PAGES["udpgrm-restart.8"]
    for text in (
        ".B \\-\\-resume",
        ".B \\-p, \\-\\-pin\\-dir=DIR",
        ".B 254",
        ".B 1\nThe restart was",
    ):
        assert text in page


def returned(node: ast.expr | None) -> Iterator[int]:
    """Yield the numbers that an expression may be."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from returned(node.body)
        yield from returned(node.orelse)


@pytest.mark.parametrize("word", commands.COMMANDS)
def test_page_of_a_command_names_each_status_that_it_returns(word: str) -> None:
    source = (ROOT / f"udpgrm/cli/{commands.COMMANDS[word].module}.py").read_text()
    statuses = {
        status
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Return)
        for status in returned(node.value)
    }
    page = PAGES[f"udpgrm-{word}.8"]
    assert [status for status in statuses if f".TP\n.B {status}\n" not in page] == []


@pytest.mark.parametrize("word", ["hooks", "dissector", "service"])
def test_page_and_help_describe_each_action(word: str) -> None:
    for action in form_of(word).actions:
        assert (
            f".B {manual.escape(action.form)}\n{manual.escape(action.text)}\n"
            in PAGES[f"udpgrm-{word}.8"]
        )
        assert f"\n  {action.form}" in usage(word) and f" {action.text}\n" in usage(word)


def test_optional_value_is_shown_as_one() -> None:
    assert ".B \\-\\-install[=CGROUP]" in PAGES["udpgrm.8"]


@pytest.mark.parametrize(
    ("text", "escaped"), [("a-b", "a\\-b"), (".a", "\\&.a"), ("'a", "\\&'a"), ("a\\b", "a\\eb")]
)
def test_text_is_no_roff_request(text: str, escaped: str) -> None:
    assert manual.escape(text) == escaped
