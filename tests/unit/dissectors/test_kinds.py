# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Every kind is one entry of the registry, and has a body, a page, a schema and a test."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from testing.dissectors import cases
from tests.unit.bpf.support import ROOT
from udpgrm import abi
from udpgrm.abi import Dissector, DissectorType, KeyedBy
from udpgrm.build import sources
from udpgrm.dissectors import kinds, library
from udpgrm.dissectors.kind import Kind
from udpgrm.dissectors.named import Named
from udpgrm.dissectors.parameters import DissectorError
from udpgrm.services import validate

BODIES = ROOT / "bpf" / "dissectors"
INDEX = ROOT / "docs" / "dissectors.md"
KINDS = [*kinds.BUILT_IN, *(kinds.find(name) for name in library.names(BODIES))]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)

max_apps = st.integers(0, abi.MAX_APPS)
instructions = st.tuples(
    *(st.integers(0, most) for most in (2**16 - 1, 2**8 - 1, 2**8 - 1, 2**32 - 1))
).map(list)
hosts = st.from_regex(r"[a-z]{1,61}", fullmatch=True)
PARAMETERS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "flow": st.fixed_dictionaries({"flow_timeout": st.integers(1, 2**32 - 1)}),
    "noop": st.just({}),
    "cbpf": st.fixed_dictionaries(
        {
            "filter": st.lists(instructions, min_size=1, max_size=abi.MAX_FILTER),
            "max_apps": max_apps,
        }
    ),
    "bespoke": st.fixed_dictionaries(
        {
            "sni": st.dictionaries(hosts, st.integers(0, 3), max_size=abi.MAX_SNI),
            "max_apps": max_apps,
        }
    ),
}


def test_every_type_is_one_entry() -> None:
    types = [kind.type for kind in kinds.BUILT_IN]
    assert sorted([*types, Named.type]) == sorted(DissectorType)
    names = [kind.name for kind in kinds.BUILT_IN]
    assert names == [kind.name.lower() for kind in types]


def test_every_body_is_a_kind() -> None:
    """A folder without parameters.json is a type's, one with it is the library's."""
    folders = {path.name for path in BODIES.iterdir() if path.is_dir()}
    assert {kind.name for kind in KINDS} == folders
    for kind in KINDS:
        assert (BODIES / kind.name / "body.h").is_file()
        assert (BODIES / kind.name / "parameters.json").is_file() == kind.in_library


@every_kind
def test_its_page_is_in_the_index(kind: Kind) -> None:
    assert (BODIES / kind.name / "README.md").is_file()
    link = f"../bpf/dissectors/{kind.name}/README.md"
    assert f"| [{kind.name}]({link}) |" in INDEX.read_text()


@pytest.mark.parametrize("name", library.names(BODIES))
def test_the_kernel_tests_have_its_packets(name: str) -> None:
    """Find packets of each dissector in the kernel tests, or in test_keyed.py."""
    keyed = (ROOT / "tests/kernel/dissectors/test_keyed.py").read_text()
    assert (BODIES / name / "packets.py").is_file()
    assert name in {case.dissector for case in cases().values()} or f'"{name}"' in keyed


@every_kind
def test_its_example_is_of_its_kind(kind: Kind) -> None:
    value = kind.example()
    value.type |= abi.DISSECTOR_VERBOSE
    assert kinds.of_value(value).name == kind.name
    kind.constants(value)
    assert kind.faults(value) == []


@pytest.mark.parametrize("kind", kinds.BUILT_IN, ids=lambda kind: kind.name)
@given(data=st.data())
def test_what_is_encoded_is_described(kind: Kind, data: st.DataObject) -> None:
    parameters = data.draw(PARAMETERS[kind.name])
    described = kind.describe(kind.encode(parameters))
    if not parameters.get("max_apps", 1):
        parameters.pop("max_apps")  # 0 is as if it were not given
    assert described == parameters


@every_kind
def test_the_kernel_has_the_same_properties(kind: Kind, functions: ctypes.CDLL) -> None:
    for flags in (0, abi.DISSECTOR_VERBOSE):
        group = ctypes.byref(abi.Group(type=kind.type | flags))
        by_peer = kind.has_flow_table and not kind.keyed_by
        assert functions.test_has_flow_table(group) == by_peer
        assert functions.test_reads_payload(group) == kind.reads_payload


@every_kind
def test_only_kinds_with_a_schema_are_given_in_words(kind: Kind) -> None:
    if kind.name in ("cbpf", "bespoke"):  # whose values are lists
        with pytest.raises(DissectorError, match=f"dissector {kind.name} is a type of its own"):
            kind.source()
    else:
        assert kind.source().folder == BODIES / kind.name
        assert kind.schema().about


@every_kind
def test_programs_that_it_calls(kind: Kind) -> None:
    program, *stages = sources.parts(sources.steering_of(kind))
    assert program == sources.steering(kind.name)
    for stage in stages:
        assert (ROOT / "bpf" / stage.source).is_file()
    at_start, late = set(sources.all_programs()), set(sources.shipped_named())
    expected = at_start if kind in kinds.BUILT_IN else late
    assert {program, *stages} <= expected


def test_traits_of_shipped_ones() -> None:
    assert [kind.name for kind in KINDS if not kind.keeps_flows] == ["noop", "dns"]
    assert [kind.name for kind in KINDS if kind.reads_quic] == ["bespoke", "quic", "quic_lb"]


def test_what_shipped_ones_are_keyed_by() -> None:
    keyed = {kind.name: kind.keyed_by for kind in KINDS if kind.keyed_by}
    assert keyed == {"sip": KeyedBy.CALL_ID, "radius": KeyedBy.STATE}
    for kind in KINDS:
        by_peer = kind is kinds.DEFAULT
        assert kind.has_flow_table == (by_peer or kind.name in keyed)
        group = abi.Group(type=kind.type, keyed_by=kind.keyed_by)
        assert kinds.has_flow_table(group) == kind.has_flow_table


def test_the_timeout_is_a_parameter_of_those() -> None:
    sip, radius = kinds.find("sip"), kinds.find("radius")
    assert sip.flow_timeout_s(sip.encode({"flow_timeout": 7200})) == 7200
    assert (sip.flow_timeout_s(sip.encode({})), radius.flow_timeout_s(radius.encode({}))) == (
        125,
        60,
    )
    assert kinds.DEFAULT.flow_timeout_s(kinds.DEFAULT.encode({"flow_timeout": 7})) is None


def test_traits_of_one_that_there_is_not() -> None:
    """Return traits for any name, as an application chooses a group's, and views ask for them."""
    kind = kinds.of_type(DissectorType.NAMED, b"no/such\xff")
    assert (kind.keeps_flows, kind.reads_quic) == (True, False)


def test_a_type_of_its_own_is_not_found_as_a_named_one() -> None:
    kind = kinds.of_value(Dissector(type=DissectorType.NAMED, name=b"noop"))
    with pytest.raises(DissectorError, match="dissector noop is a type of its own"):
        kind.source()


def test_definitions_have_a_schema_for_each_type() -> None:
    schema = json.loads(validate.SCHEMA_FILE.read_text())["definitions"]["dissector"]
    names = [case["if"]["properties"]["name"]["const"] for case in schema["allOf"]]
    assert sorted(names) == sorted(kind.name for kind in kinds.BUILT_IN)


def test_the_group_module_offers_each_type() -> None:
    text = (ROOT / "plugins" / "modules" / "udpgrm_group.py").read_text()
    documentation = text.partition('DOCUMENTATION = r"""')[2].partition('"""')[0]
    options = yaml.safe_load(documentation)["options"]["dissector"]["suboptions"]
    names = {kind.name for kind in kinds.BUILT_IN} | {"named"}
    assert options["type"]["choices"] == sorted(names)


def test_properties_are_cheap() -> None:
    """Import nothing that reads schemas and files for the properties, which every command reads."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "from udpgrm.dissectors import kinds\n"
        "assert kinds.of_type(16, b'quic').reads_payload\n"
        "print(*(name for name in set(sys.modules) - before if name.startswith('udpgrm.')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = {"kind", "kinds", "named", *(kind.name for kind in kinds.BUILT_IN)}
    loaded = {f"udpgrm.dissectors.{name}" for name in names}
    assert set(done.stdout.split()) == loaded | {"udpgrm.abi", "udpgrm.dissectors"}
