# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Defaults of a role against its argument_specs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.check_argument_specs import differences, main


def test_the_same() -> None:
    options = {"a": {"default": 1}, "b": {"default": []}, "c": {"required": True}}
    assert list(differences(options, {"a": 1, "b": []})) == []


def test_each_kind_of_difference() -> None:
    options = {"a": {"default": 1}, "b": {"default": 2}, "c": {"type": "int"}}
    assert list(differences(options, {"a": 3, "c": 4})) == [
        "a is 3, but 1 in its option",
        "b is an option with a default that defaults/main.yml lacks",
        "c has a default, but its option has none",
    ]


@pytest.mark.parametrize("value, status", [(1, 0), (2, 1)])
def test_exit_status(tmp_path: Path, value: int, status: int) -> None:
    for name, text in {
        "meta/argument_specs.yml": "argument_specs: {main: {options: {a: {default: 1}}}}",
        "defaults/main.yml": f"a: {value}",
    }.items():
        file = tmp_path / "role" / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
    assert main(tmp_path) == status
