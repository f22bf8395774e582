# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Compare docs/host-interface.md with the schemas."""

from __future__ import annotations

import json
import re

import pytest

from distribution import host_interface
from distribution.host_interface import laid_out
from udpgrm import interface


def test_page_is_up_to_date() -> None:
    made = host_interface.Page().text()
    # not compared by pytest, whose difference of two long texts takes minutes
    is_same = host_interface.PAGE.read_text() == made
    assert is_same, "run python3 -m distribution.host_interface"


def test_every_answer_is_on_the_page_once() -> None:
    shown = re.findall(r"^<!-- answer (\S+) -->$", host_interface.TEMPLATE.read_text(), re.M)
    assert sorted(shown) == interface.names()


def test_links_lead_to_headings() -> None:
    text = host_interface.PAGE.read_text()
    headings = {found.lower() for found in re.findall(r"^### (\w+)$", text, re.M)}
    linked = set(re.findall(r"\]\(#(\w+)\)", text))
    assert "values" in linked
    assert linked <= headings


@pytest.mark.parametrize("name", interface.names())
def test_samples_stay_what_they_are(name: str) -> None:
    for sample in interface.load(name)["examples"]:
        text = laid_out(sample)
        assert json.loads(text) == sample
        assert max(len(line) for line in text.splitlines()) <= 100


def test_what_fits_in_a_line_is_one() -> None:
    assert laid_out({"a": [1, {"b": None}]}) == '{"a": [1, {"b": null}]}'
    long = {"a": "x" * 60, "b": "y" * 60, "c": {"d": 1}}
    assert laid_out(long).splitlines() == [
        "{",
        f'  "a": "{"x" * 60}",',
        f'  "b": "{"y" * 60}", "c": {{"d": 1}}',
        "}",
    ]
