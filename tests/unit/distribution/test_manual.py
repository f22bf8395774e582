# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Manual pages."""

from __future__ import annotations

import subprocess

import pytest

from distribution import manual
from udpgrm.cli import commands

PAGES = manual.pages()


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


def test_optional_value_is_shown_as_one() -> None:
    assert ".B \\-\\-install[=CGROUP]" in PAGES["udpgrm.8"]


@pytest.mark.parametrize(
    ("text", "escaped"), [("a-b", "a\\-b"), (".a", "\\&.a"), ("'a", "\\&'a"), ("a\\b", "a\\eb")]
)
def test_text_is_no_roff_request(text: str, escaped: str) -> None:
    assert manual.escape(text) == escaped
