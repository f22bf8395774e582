# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""NAMED: the dissectors of the library, described by their parameters.json."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Optional

from udpgrm import abi
from udpgrm.dissectors.kind import Kind, Parameters

if TYPE_CHECKING:
    from udpgrm.dissectors.library import Dissector
    from udpgrm.dissectors.parameters import Schema


class Named(Kind):
    """A dissector of the library by its name, which an application may have invented."""

    type = abi.DissectorType.NAMED
    in_library = True

    def __init__(self, name: str) -> None:
        """Take any name; `source` checks that the dissector exists."""
        self.name = name

    @property
    def keeps_flows(self) -> bool:  # type: ignore[override]
        """Return what its schema has; True if it does not exist."""
        schema = self._schema_if_any()
        return schema is None or schema.keeps_flows

    @property
    def reads_quic(self) -> bool:  # type: ignore[override]
        """Return what its schema has; False if it does not exist."""
        schema = self._schema_if_any()
        return schema is not None and schema.reads_quic

    @property
    def has_flow_table(self) -> bool:  # type: ignore[override]
        """Return whether its flows are keyed by what packets have."""
        return self.keyed_by != abi.KeyedBy.PEER

    @property
    def keyed_by(self) -> abi.KeyedBy:  # type: ignore[override]
        """Return what its schema has; the peer if it does not exist."""
        schema = self._schema_if_any()
        return abi.KeyedBy.PEER if schema is None else schema.keyed_by

    def _schema_if_any(self) -> Optional[Schema]:
        from udpgrm.dissectors.parameters import DissectorError

        with contextlib.suppress(DissectorError):
            return self.schema()
        return None

    def source(self) -> Dissector:
        """Find it in the library. Raises DissectorError."""
        from udpgrm.dissectors import library

        return library.find(self.name)

    def schema(self) -> Schema:
        """Read its parameters.json. Raises DissectorError."""
        return self.source().schema

    def encode(self, parameters: Parameters) -> abi.Dissector:
        """Return the value of UDP_GRM_DISSECTOR, parameters as given: groups are compared by it.

        Raises DissectorError for parameters that the schema does not allow.
        """
        import json

        from udpgrm.dissectors.parameters import DissectorError

        self.schema().values(parameters)
        text = json.dumps(parameters, separators=(",", ":"), sort_keys=True).encode()
        if len(text) >= abi.PARAMETERS_BYTES:
            raise DissectorError(
                f"parameters of {len(text)} bytes ({abi.PARAMETERS_BYTES - 1} at most)"
            )
        return abi.Dissector(type=self.type, name=self.name.encode(), parameters=text)

    def describe(self, value: abi.Dissector) -> dict[str, Any]:
        """Return the parameters as given; text that is no JSON object as its only entry."""
        import json

        parameters: Any = {}
        with contextlib.suppress(ValueError):
            parameters = json.loads(value.parameters or b"{}")
        if not isinstance(parameters, dict):  # an application's, refused by the daemon
            return {"": value.parameters.decode(errors="replace")}
        return parameters

    def example(self) -> abi.Dissector:
        """Return it with the least of each parameter that has to be given."""
        required = [item for item in self.schema().parameters if item.default is None]
        return self.encode({item.name: item.minimum for item in required})

    def max_apps(self, parameters: Parameters) -> Optional[int]:
        """Return the parameter of that name, if it has one; its schema checks the type."""
        given = parameters.get("max_apps")
        return given if type(given) is int else None

    def constants(self, value: abi.Dissector) -> list[int]:
        """Return the constants of its parameters. Raises DissectorError."""
        from udpgrm.dissectors.parameters import DissectorError

        schema = self.schema()
        try:
            values = schema.of_json(value.parameters.decode(errors="replace"))
        except DissectorError as error:
            raise DissectorError(f"dissector {self.name}: {error}") from error
        return schema.constants(values)

    def flow_timeout_s(self, value: abi.Dissector) -> Optional[int]:
        """Return the parameter of that name, if it has one. Raises DissectorError."""
        values = self.schema().of_json(value.parameters.decode(errors="replace"))
        return values.get("flow_timeout")

    def parameters_text(self, value: abi.Dissector) -> bytes:
        """Return the JSON text of its parameters."""
        return bytes(value.parameters)
