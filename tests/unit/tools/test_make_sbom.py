# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The software bill of materials."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tools import make_sbom

CONTROL = """\
Source: udpgrm
Build-Depends: gcc

Package: udpgrm
Depends:
 libbpf1,
 python3-yaml (>= 6),
 ${misc:Depends},
Recommends: python3-rich
Description: text, with commas
"""


def test_dependencies_of_the_binary_package() -> None:
    assert make_sbom.dependencies(CONTROL) == [
        ("libbpf1", "required"),
        ("python3-yaml", "required"),
        ("python3-rich", "optional"),
    ]


def test_dependencies_are_those_of_the_package() -> None:
    names = dict(make_sbom.dependencies(make_sbom.CONTROL.read_text()))
    assert names["libbpf1"] == "required"
    assert names["python3-bpfcc"] == "optional"
    assert "debhelper-compat" not in names


@pytest.fixture
def artifacts(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / name for name in ("b.whl", "a.tar.gz")]
    for path in paths:
        path.write_text(path.name)
    return paths


def test_artifacts(artifacts: list[Path]) -> None:
    bill = make_sbom.bill(artifacts, 0)
    found = {item["name"]: item for item in bill["components"] if item["type"] == "file"}
    assert list(found) == ["a.tar.gz", "b.whl"]
    digest = hashlib.sha256(b"b.whl").hexdigest()
    assert found["b.whl"]["hashes"] == [{"alg": "SHA-256", "content": digest}]
    assert "GPL-3.0" in found["a.tar.gz"]["licenses"][0]["expression"]
    assert bill["metadata"]["timestamp"] == "1970-01-01T00:00:00Z"
    references = {item["bom-ref"] for item in bill["components"]} | {"udpgrm"}
    assert {item["ref"] for item in bill["dependencies"]} <= references


def test_the_same_artifacts_give_the_same_bill(artifacts: list[Path]) -> None:
    first = make_sbom.bill(artifacts, 1)
    assert make_sbom.bill(artifacts[::-1], 1) == first
    artifacts[0].write_text("changed")
    assert make_sbom.bill(artifacts, 1)["serialNumber"] != first["serialNumber"]


def test_version_is_the_one_place() -> None:
    from udpgrm.version import __version__

    assert make_sbom.version() == __version__
    galaxy = (make_sbom.ROOT / "galaxy.yml").read_text()
    assert f"\nversion: {__version__}\n" in galaxy
