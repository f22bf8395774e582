# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""FLOW: a packet belongs to the socket that last sent to its peer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from udpgrm import abi
from udpgrm.dissectors.kind import Kind, Parameters

if TYPE_CHECKING:
    from udpgrm.dissectors.parameters import Schema


class Flow(Kind):
    """The kind of a group whose sockets ask for none."""

    type = abi.DissectorType.FLOW
    name = "flow"
    has_flow_table = True
    reads_payload = False
    has_applications = False

    def schema(self) -> Schema:
        """Return the one parameter, flow_timeout."""
        from udpgrm.dissectors.parameters import Parameter, Schema

        timeout = Parameter(
            "flow_timeout",
            "integer",
            "how long a flow lasts after the last packet that was sent",
            unit="seconds",
            default=abi.DEFAULT_FLOW_TIMEOUT_S,
            minimum=1,
        )
        return Schema("a packet belongs to the socket that last sent to its peer", (timeout,))

    def encode(self, parameters: Parameters) -> abi.Dissector:
        """Return the value of UDP_GRM_DISSECTOR.

        A timeout that is not given is 0, as applications have it: values are compared with theirs.
        """
        value = super().encode(parameters)
        value.flow_timeout_s = parameters.get("flow_timeout", 0)
        return value

    def describe(self, value: abi.Dissector) -> dict[str, Any]:
        """Return the timeout that is in effect."""
        return {"flow_timeout": value.flow_timeout_s or abi.DEFAULT_FLOW_TIMEOUT_S}
