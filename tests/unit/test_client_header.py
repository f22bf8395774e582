# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""include/udpgrm.h and udpgrm/abi.py say the same: what a compiler makes of one, against the other.

The header is not bpf/abi.h because applications need another licence and no types of the kernel.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

from tests.unit.bpf.support import ROOT, evaluate
from udpgrm import abi

INCLUDE = f'#include "{ROOT}/include/udpgrm.h"'
#: Members whose paths differ, since C99 has no anonymous ones.
OFFSETS = {
    "type": "type",
    "flow_timeout_s": "flow_timeout_s",
    "max_apps": "max_apps",
    "digest": "digest",
    "label": "label",
    "filter_len": "of.cbpf.count",
    "filter": "of.cbpf.filter",
    "sni_count": "of.bespoke.count",
    "sni": "of.bespoke.sni",
    "name": "of.named.name",
    "parameters": "of.named.parameters",
}


def test_structs(tmp_path: Path) -> None:
    expected = {
        "sizeof(struct udpgrm_dissector)": ctypes.sizeof(abi.Dissector),
        "sizeof(struct udpgrm_instruction)": ctypes.sizeof(abi.CbpfInstruction),
        "sizeof(struct udpgrm_server_name)": ctypes.sizeof(abi.SniEntry),
        "sizeof(struct udpgrm_socket_generation)": ctypes.sizeof(abi.SocketGen),
    }
    for name, path in OFFSETS.items():
        offset = getattr(abi.Dissector, name).offset
        expected[f"offsetof(struct udpgrm_dissector, {path})"] = offset
    for structure, item in (
        ("instruction", abi.CbpfInstruction),
        ("server_name", abi.SniEntry),
        ("socket_generation", abi.SocketGen),
    ):
        for name, *_ in item._fields_:
            expected[f"offsetof(struct udpgrm_{structure}, {name})"] = getattr(item, name).offset
    assert evaluate(tmp_path, INCLUDE, expected) == expected


def test_numbers(tmp_path: Path) -> None:
    expected = {f"UDP_GRM_{item.name}": item.value for item in abi.Option}
    expected |= {f"UDPGRM_{item.name}": item.value for item in abi.DissectorType}
    expected |= {"UDPGRM_VERBOSE": abi.DISSECTOR_VERBOSE, "UDPGRM_NONE": abi.GENERATION_NONE}
    assert evaluate(tmp_path, INCLUDE, expected) == expected
