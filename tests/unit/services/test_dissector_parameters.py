# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Parameters of a definition's dissector: what they become, and mistakes in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.services.support import one_group, text
from udpgrm.abi import Dissector, DissectorType
from udpgrm.dissectors import kinds
from udpgrm.services import loader


def value(name: str, parameters: dict[str, Any]) -> Dissector:
    content = one_group(dissector={"name": name, "parameters": parameters})
    service, problems = loader.parse("edge", content)
    assert service is not None, problems
    assert service.groups[0].dissector is not None
    dissector = service.groups[0].dissector
    return kinds.find(dissector.name).encode(dissector.parameters)


def test_whole_numbers_may_be_spelt_with_a_point() -> None:
    """Take 2.0 for an integer, as draft 7 does everywhere in a definition."""
    assert value("flow", {"flow_timeout": 125.0}).flow_timeout_s == 125
    cbpf = value("cbpf", {"filter": [[6.0, 0, 0.0, 4294967295.0]], "max_apps": 2.0})
    assert (cbpf.max_apps, cbpf.filter[0].code, cbpf.filter[0].k) == (2, 6, 0xFFFFFFFF)
    bespoke = value("bespoke", {"sni": {"a.example": 1.0}, "max_apps": 2.0})
    assert (bespoke.max_apps, bespoke.sni[0].app) == (2, 1)
    named = value("quic", {"cid_length": 8.0})
    assert (named.type, named.parameters) == (
        DissectorType.NAMED,
        b'{"cid_length":8}',
    )


@pytest.mark.parametrize("most", ["x", "2", [], {}, None, True, 0.5, 1e300])
def test_max_apps_is_no_number(most: object) -> None:
    """Refuse max_apps of any type for a library's dissector, whose schema has no such parameter."""
    dissector = {"name": "quic", "parameters": {"cid_length": 8, "max_apps": most}}
    content = one_group(application=1, dissector=dissector)
    reason = "unknown parameter 'max_apps' (cid_length, offset)"
    service, problems = loader.parse("edge", content)
    assert service is None
    assert ("groups.0.dissector", reason) in problems


@pytest.mark.parametrize("length", ["x", [], None, 8.5, 1e300])
def test_a_parameter_of_the_library_is_no_number(length: object) -> None:
    content = one_group(dissector={"name": "quic", "parameters": {"cid_length": length}})
    service, [(key, _)] = loader.parse("edge", content)
    assert (service, key) == (None, "groups.0.dissector")


def test_what_another_service_writes_is_its_own_matter(tmp_path: Path) -> None:
    (tmp_path / "edge.yaml").write_bytes(text())
    wrong = {"name": "quic", "parameters": {"cid_length": 8, "max_apps": "x"}}
    odd = {"name": "flow", "parameters": {"flow_timeout": 1.0}}
    for number, dissector in enumerate((wrong, odd)):
        content = text(groups=[{"address": f"0.0.0.0:{number + 1}", "dissector": dissector}])
        (tmp_path / f"other{number}.yaml").write_bytes(content)
    assert loader.load("edge", tmp_path).name == "edge"
    [problem] = loader.read_directory(tmp_path).problems
    assert str(problem).startswith(f"{tmp_path}/other0.yaml: groups.0.dissector: unknown")
