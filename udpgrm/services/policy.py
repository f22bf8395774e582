# SPDX-License-Identifier: Apache-2.0
"""The policy of a definition's group: its dissector as the kernel takes it."""

from __future__ import annotations

import json
from typing import Optional

from udpgrm import abi
from udpgrm.abi import DissectorType
from udpgrm.build import library, sources
from udpgrm.build.parameters import DissectorError
from udpgrm.services.definition import Dissector, Group, Service


def of_group(service: Service, group: Group) -> Optional[abi.Policy]:
    """Return the policy of a group's address; None: applications decide. Raises DissectorError."""
    if group.dissector is None:
        return None
    dissector = value(group.dissector)
    # other sizes than the daemon's default are the daemon's to make
    is_default = service.flows_per_generation == Service.flows_per_generation
    own = dissector.type == DissectorType.FLOW and not is_default
    return abi.Policy(dissector=dissector, flows=service.flows_per_generation if own else 0)


def value(dissector: Dissector) -> abi.Dissector:
    """Return the value of UDP_GRM_DISSECTOR. Raises DissectorError."""
    kinds = {"flow": _flow, "noop": _noop, "cbpf": _cbpf, "bespoke": _bespoke}
    if dissector.name in kinds:
        return kinds[dissector.name](dissector)
    library.find(dissector.name, sources.shipped_dissectors()).schema.values(dissector.parameters)
    return named(dissector.name, dissector.parameters)  # as given: groups are compared by it


def named(name: str, parameters: dict[str, object]) -> abi.Dissector:
    """Return a dissector of the library with valid parameters. Raises DissectorError."""
    text = json.dumps(parameters, separators=(",", ":"), sort_keys=True).encode()
    if len(text) >= abi.PARAMETERS_BYTES:
        raise DissectorError(
            f"parameters of {len(text)} bytes ({abi.PARAMETERS_BYTES - 1} at most)"
        )
    return abi.Dissector(type=DissectorType.NAMED, name=name.encode(), parameters=text)


def _flow(dissector: Dissector) -> abi.Dissector:
    timeout = dissector.parameters.get("flow_timeout", 0)
    return abi.Dissector(type=DissectorType.FLOW, flow_timeout_s=timeout)


def _noop(_: Dissector) -> abi.Dissector:
    return abi.Dissector(type=DissectorType.NOOP)


def _cbpf(dissector: Dissector) -> abi.Dissector:
    program = dissector.parameters["filter"]
    found = abi.Dissector(
        type=DissectorType.CBPF,
        max_apps=dissector.parameters.get("max_apps", 0),
        filter_len=len(program),
    )
    for position, instruction in enumerate(program):
        found.filter[position] = abi.CbpfInstruction(*instruction)
    return found


def _bespoke(dissector: Dissector) -> abi.Dissector:
    names = dissector.parameters["sni"]
    found = abi.Dissector(
        type=DissectorType.BESPOKE,
        digest=abi.DIGEST_QUIC_SNI,
        max_apps=dissector.parameters.get("max_apps", 0),
        sni_count=len(names),
    )
    for position, (host, application) in enumerate(names.items()):
        found.sni[position] = abi.SniEntry(app=application, hostname=host.encode())
    return found
