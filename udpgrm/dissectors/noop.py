# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""NOOP: every packet is a new flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from udpgrm import abi
from udpgrm.dissectors.kind import Kind

if TYPE_CHECKING:
    from udpgrm.dissectors.parameters import Schema


class Noop(Kind):
    """The kind without flows and without parameters."""

    type = abi.DissectorType.NOOP
    name = "noop"
    reads_payload = False
    keeps_flows = False
    has_applications = False
    option = "--noop"

    def schema(self) -> Schema:
        """Return the empty schema."""
        from udpgrm.dissectors.parameters import Schema

        return Schema("every packet is a new flow")
