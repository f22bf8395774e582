# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _batches


@pytest.mark.parametrize(
    "given, sizes",
    [
        (3, [3]),
        ("3", [3]),
        ("25%", ["25%"]),
        ("[1, 10%, '100%']", [1, "10%", "100%"]),
        ([1, "2", "50%"], [1, 2, "50%"]),
    ],
)
def test_sizes(given: t.Any, sizes: list[int | str]) -> None:
    assert _batches.parse(given) == sizes


@pytest.mark.parametrize(
    "given",
    [0, "0", -1, "0%", "101%", "", None, [], "[]", "[1", "1,2", "x", 1.5, [[1]], {"a": 1}, True],
)
def test_what_is_none(given: t.Any) -> None:
    with pytest.raises(AnsibleFilterError, match="not sizes of batches"):
        _batches.parse(given)
