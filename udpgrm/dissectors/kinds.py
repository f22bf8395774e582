# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The registry of kinds: the one place that lists them. A kind is found by type or by name."""

from __future__ import annotations

from udpgrm import abi
from udpgrm.dissectors.bespoke import Bespoke
from udpgrm.dissectors.cbpf import Cbpf
from udpgrm.dissectors.flow import Flow
from udpgrm.dissectors.kind import Kind
from udpgrm.dissectors.named import Named
from udpgrm.dissectors.noop import Noop

#: The kinds with a type of their own, in the order of their types.
BUILT_IN: tuple[Kind, ...] = (Flow(), Cbpf(), Bespoke(), Noop())
#: The kind of a group whose sockets ask for none.
DEFAULT = BUILT_IN[0]
_BY_NAME = {kind.name: kind for kind in BUILT_IN}
_BY_TYPE = {kind.type: kind for kind in BUILT_IN}


def find(name: str) -> Kind:
    """Return the kind that operators call so; any other name is one of the library."""
    return _BY_NAME.get(name) or Named(name)


def of_type(number: int, name: bytes = b"") -> Kind:
    """Return the kind of a type, verbose or not; `name` is read for named ones only."""
    kind = abi.DissectorType(number & ~abi.DISSECTOR_VERBOSE)
    return _BY_TYPE.get(kind) or Named(name.decode(errors="replace"))


def has_flow_table(group: abi.Group) -> bool:
    """Return whether flows of a group are entries of tables that sockets make by sending."""
    return bool(group.keyed_by) or of_type(group.type).has_flow_table


def of_value(value: abi.Dissector) -> Kind:
    """Return the kind of a value of UDP_GRM_DISSECTOR."""
    return of_type(value.type, value.name)
