# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Arguments of the client library in Python that no socket is made for."""

from __future__ import annotations

from typing import Any

import pytest

import udpgrm.client as grm


@pytest.mark.parametrize(
    "arguments",
    [
        {"flow_timeout": -1},
        {"flow_timeout": 0.5},
        {"flow_timeout": 2**32},
        {"flow_timeout": 5, "dissector": grm.named_dissector("dns")},
    ],
)
def test_a_flow_timeout_that_would_be_changed(arguments: dict[str, Any]) -> None:
    """Refuse a timeout rather than cut it to 32 bits or ignore it."""
    with pytest.raises(ValueError, match=r"flow_timeout|32-bit"):
        grm.bind("127.0.0.1:4433", **arguments)
