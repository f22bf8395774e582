# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Base of the kinds of dissector. Cheap to import, as every command reads their properties.

A kind's body is bpf/dissectors/NAME/body.h; udpgrm/dissectors/kinds.py lists the kinds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Optional, Protocol

from udpgrm import abi

if TYPE_CHECKING:
    from udpgrm.dissectors.library import Dissector
    from udpgrm.dissectors.parameters import Schema

Parameters = Mapping[str, Any]


class Options(Protocol):
    """The options of udpgrm activate that parameters are made of."""

    @property
    def bpf(self) -> Optional[str]:
        """Return the path of a filter's text."""

    @property
    def digest(self) -> Optional[int]:
        """Return the number of a built-in of the reference."""

    @property
    def sni(self) -> tuple[tuple[str, int], ...]:
        """Return (host name, application) pairs."""


class Kind:
    """A kind of dissector; the defaults are those of one that reads payloads."""

    #: The type in a value of UDP_GRM_DISSECTOR.
    type: abi.DissectorType
    #: The name that operators write, and that of the folder of its body.
    name: str
    #: Whether it is found by its name in the library, not by its type.
    in_library = False
    #: Whether flows are entries of tables that sockets make by sending.
    has_flow_table = False
    #: What these are keyed by.
    keyed_by = abi.KeyedBy.PEER
    #: Whether the payloads of packets distinguish flows.
    reads_payload = True
    #: Whether a packet may belong to the flow of an earlier one.
    keeps_flows = True
    #: Whether QUIC connections are recognised by their connection IDs.
    reads_quic = False
    #: Whether applications share a group: parameter max_apps.
    has_applications = True
    #: Programs of its folder that its steering program calls.
    stages: tuple[str, ...] = ()
    #: The option of udpgrm activate that asks for it; "" for none.
    option = ""

    def schema(self) -> Schema:
        """Return the parameters that words of a command line may give.

        Raises DissectorError when they cannot be given in words.
        """
        from udpgrm.dissectors.parameters import DissectorError

        raise DissectorError(f"dissector {self.name} is a type of its own, not a named one")

    def source(self) -> Dissector:
        """Return the folder of its body, with its schema. Raises DissectorError."""
        from udpgrm.dissectors.library import Dissector
        from udpgrm.files import DISSECTORS_DIR

        return Dissector(self.name, DISSECTORS_DIR / self.name, self.schema())

    def parse_options(self, options: Options) -> dict[str, Any]:
        """Return the parameters that options of udpgrm activate give.

        Raises ValueError and OSError for files they name.
        """
        return {}

    def encode(self, parameters: Parameters) -> abi.Dissector:
        """Return the value of UDP_GRM_DISSECTOR. Raises DissectorError."""
        value = abi.Dissector(type=self.type)
        if self.has_applications:
            value.max_apps = parameters.get("max_apps", 0)
        return value

    def describe(self, value: abi.Dissector) -> dict[str, Any]:
        """Return the parameters of a value, for JSON."""
        if self.has_applications and value.max_apps:
            return {"max_apps": int(value.max_apps)}
        return {}

    def example(self) -> abi.Dissector:
        """Return a value whose program loads, to try it."""
        return self.encode({})

    def flow_timeout_s(self, value: abi.Dissector) -> Optional[int]:
        """Return the flow timeout that its parameters give; None: the value's field does."""
        return None

    def max_apps(self, parameters: Parameters) -> Optional[int]:
        """Return the number of applications asked for; None: the parameters do not have it."""
        return int(parameters.get("max_apps", 0))

    def applications(self, parameters: Parameters) -> Iterator[tuple[str, int]]:
        """Yield (key, application) of each application that the parameters name."""
        return iter(())

    def problems(self, parameters: Parameters) -> Iterator[tuple[str, str]]:
        """Yield (key, reason) of what the kernel accepts but a steering program cannot do."""
        return iter(())

    def constants(self, value: abi.Dissector) -> list[int]:
        """Return the 64-bit parameters to link with its program. Raises DissectorError."""
        return []

    def functions(self, value: abi.Dissector) -> dict[int, bytes]:
        """Return the functions to link with its program."""
        return {}

    def faults(self, value: abi.Dissector) -> list[str]:
        """Return the faults of a value that is accepted but cannot be run."""
        return []

    def failing_loads(self, value: abi.Dissector) -> tuple[int, ...]:
        """Return the positions of loads that fail in a steering program."""
        return ()

    def filter_length(self, value: abi.Dissector) -> int:
        """Return how many instructions its filter has; 0 without one."""
        return 0

    def parameters_text(self, value: abi.Dissector) -> bytes:
        """Return the parameters as an application has written them; b"" where they are fields."""
        return b""
