# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""bpf/abi.h and udpgrm/abi.py say the same: what a compiler makes of one, against the other.

Lists of structs, fields and constants come from both sides, so whatever is added to one
alone is noticed.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import pytest

from tests.unit.bpf.support import BPF, evaluate
from udpgrm import abi

TEXT = re.sub(r"/\*.*?\*/", "", (BPF / "abi.h").read_text(), flags=re.DOTALL)
#: Only programs know these.
KERNEL_ONLY_CONSTANTS = {"FLOW_ORPHAN"}
ENUMS: list[tuple[type[IntEnum], str]] = [
    (abi.Option, "UDP_GRM_"),
    (abi.DissectorType, "DISSECTOR_"),
    (abi.GroupState, "GROUP_"),
    (abi.ProbePath, "PATH_"),
    (abi.Parted, "PARTED_"),
    (abi.AnyAddress, "ANY_"),
    (abi.AddressUse, "ADDRESS_"),
    (abi.SteerStage, "STAGE_"),
    (abi.KeyedBy, "KEYED_BY_"),
    (abi.LinkedFunction, "FUNCTION_"),
]
#: Relocations from this one on are constants, those below are maps.
FIRST_CONSTANT = 64


def c_name(structure: type[ctypes.Structure]) -> str:
    if structure is abi.CbpfInstruction:
        return "cbpf_insn"
    return re.sub(r"(?<!^)([A-Z])", r"_\1", structure.__name__).lower()


def fields_of(kind: Any) -> list[tuple[str, Any]]:
    """Return a structure's fields, those of anonymous members among them."""
    found: list[tuple[str, Any]] = []
    for name, member, *_ in kind._fields_:
        if name in getattr(kind, "_anonymous_", ()):
            found += fields_of(member)
        else:
            found.append((name, member))
    return found


STRUCTS: dict[str, type[ctypes.Structure]] = {
    c_name(item): item
    for name, item in vars(abi).items()
    if isinstance(item, type) and issubclass(item, ctypes.Structure) and not name.startswith("_")
}
FIELDS = [(name, *field) for name, structure in STRUCTS.items() for field in fields_of(structure)]


def python_constants() -> dict[str, int]:
    """Return every number of the mirror by its name in the header."""
    constants = {
        name: value
        for name, value in vars(abi).items()
        if isinstance(value, int) and name.isupper() and name != "LAYOUT"
    }
    constants["UDPGRM_LAYOUT"] = abi.LAYOUT
    constants["NR_COUNTERS"] = len(abi.COUNTERS)
    for kind, prefix in ENUMS:
        constants.update({prefix + item.name: item.value for item in kind})
    for flag in abi.MessageFlag:
        constants[f"MESSAGE_{flag.name}"] = flag.value
    for item in abi.Relocation:
        prefix = "CONST_" if item >= FIRST_CONSTANT else "MAP_"
        constants[prefix + item.name] = item.value
    for position, name in enumerate(abi.COUNTERS):
        constants[name.upper()] = position
    return constants


def enumerators(body: str) -> Iterator[str]:
    for part in body.split(","):
        if part.strip():
            yield part.split("=")[0].strip()


def header_constants() -> list[str]:
    names = re.findall(r"^#define (\w+) ", TEXT, re.MULTILINE)
    for body in re.findall(r"\benum\b[^{;]*\{(.*?)\}", TEXT, re.DOTALL):
        names += enumerators(body)
    return names


def header_structs() -> dict[str, set[str]]:
    """Names of the named structs, and of their fields (those of anonymous members too)."""
    found = {}
    for name, body in re.findall(r"^struct (\w+) \{(.*?)^\}", TEXT, re.DOTALL | re.MULTILINE):
        fields = set()
        for statement in re.split(r"[;{}]", body):
            declared = re.match(r"\s*(?:struct\s+)?\w+\s+(\w.*)", statement, re.DOTALL)
            if declared:
                fields |= {part.split("[")[0].strip() for part in declared[1].split(",")}
        found[name] = fields
    return found


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Return the compiler's value of every expression that this file asks about."""
    asked = [*header_constants()]
    for name, structure in STRUCTS.items():
        asked.append(f"sizeof(struct {name})")
        for field, kind in fields_of(structure):
            member = f"((struct {name} *)0)->{field}"
            asked += [f"__builtin_offsetof(struct {name}, {field})", f"sizeof({member})"]
            if issubclass(kind, ctypes._SimpleCData):
                asked.append(f"(__typeof__({member}))-1 < 0")
    return evaluate(tmp_path_factory.mktemp("abi"), '#include "abi.h"', asked)


def test_both_have_the_same_structs() -> None:
    assert set(header_structs()) == set(STRUCTS)


@pytest.mark.parametrize("name", STRUCTS)
def test_both_have_the_same_fields(name: str) -> None:
    mirrored = {field for field, _ in fields_of(STRUCTS[name])}
    assert header_structs()[name] == mirrored


@pytest.mark.parametrize("name", STRUCTS)
def test_sizes(compiled: dict[str, int], name: str) -> None:
    assert compiled[f"sizeof(struct {name})"] == ctypes.sizeof(STRUCTS[name])


@pytest.mark.parametrize("struct, field, kind", FIELDS)
def test_fields(compiled: dict[str, int], struct: str, field: str, kind: type) -> None:
    mine = getattr(STRUCTS[struct], field)
    member = f"((struct {struct} *)0)->{field}"
    offset = compiled[f"__builtin_offsetof(struct {struct}, {field})"]
    assert (offset, compiled[f"sizeof({member})"]) == (mine.offset, mine.size)
    if issubclass(kind, ctypes._SimpleCData):
        negative = bool(compiled[f"(__typeof__({member}))-1 < 0"])
        assert negative == (kind(-1).value < 0)


def test_both_have_the_same_constants() -> None:
    names = header_constants()
    assert len(names) == len(set(names))
    assert set(names) - KERNEL_ONLY_CONSTANTS == set(python_constants())


@pytest.mark.parametrize("name, value", python_constants().items())
def test_constants(compiled: dict[str, int], name: str, value: int) -> None:
    assert compiled[name] == value


def test_counters_are_in_order(compiled: dict[str, int]) -> None:
    body = re.search(r"\benum counter \{(.*?)\}", TEXT, re.DOTALL)
    assert body is not None
    *names, last = enumerators(body[1])
    assert tuple(name.lower() for name in names) == abi.COUNTERS
    assert (last, compiled[last]) == ("NR_COUNTERS", len(abi.COUNTERS))


def test_counters_have_the_names_of_the_reference() -> None:
    # other people's scripts read them
    stages = ["processed_total", "packet_too_short_error", "cbpf_prog_error"]
    stages += ["internal_state_error", "dissected_ok_total", "flow_ok", "flow_rg_conflict"]
    stages += ["flow_other_error", "flow_new_unseen", "flow_new_had_expired"]
    stages += ["flow_new_bad_cookie", "new_flow_total", "new_flow_working_gen_dispatch_ok"]
    stages += ["new_flow_working_gen_dispatch_error"]
    sends = ["total", "flow_create_ok", "flow_create_from_expired_ok", "flow_create_error"]
    sends += ["flow_update_ok", "flow_update_conflict"]
    names = {f"rx_{name}" for name in stages} | {f"tx_{name}" for name in sends}
    assert set(abi.COUNTERS) == names


def test_relocations_are_unique() -> None:
    numbers = [item.value for item in abi.Relocation.__members__.values()]
    assert len(numbers) == len(set(numbers))
