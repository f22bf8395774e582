# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Addresses whose sockets the kernel chooses between for one packet."""

from __future__ import annotations

import pytest

from udpgrm.restart import omitted


@pytest.mark.parametrize(
    ("where", "also"),
    [
        ("192.0.2.1:4500", {"0.0.0.0:4500", "[::]:4500"}),
        ("0.0.0.0:4500", {"[::]:4500"}),
        ("[2001:db8::1]:4500", {"[::]:4500"}),
        ("[::]:4500", {"0.0.0.0:4500"}),
    ],
)
def test_overlapping(where: str, also: set[str]) -> None:
    assert omitted.overlapping(where) == {where, *also}
