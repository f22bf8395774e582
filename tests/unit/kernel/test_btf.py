# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Parsing of the kernel's types."""

from __future__ import annotations

import pytest

from udpgrm.kernel import btf


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the results of all parses in this test."""
    found: list[int] = []
    parse = btf._parse

    def counted() -> int:
        found.append(parse())
        return found[-1]

    monkeypatch.setattr(btf, "_parse", counted)
    return found


def test_nested_blocks_parse_once(parsed: list[int]) -> None:
    for _ in range(2):
        with btf.KernelTypes() as outer:
            with btf.KernelTypes() as inner:
                assert inner.offset("sock_common", "skc_family") > 0
            assert outer.offset("sock_common", "skc_family") > 0
    assert len(parsed) == 2


def test_types_are_freed_after_an_error(parsed: list[int]) -> None:
    for _ in range(2):
        with pytest.raises(FileNotFoundError), btf.KernelTypes() as types:
            types.function("no_such_function_of_a_kernel")
    assert len(parsed) == 2
