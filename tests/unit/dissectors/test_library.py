# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test the library of dissectors: names, folders to trust, programs of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.unit.bpf.support import ROOT
from udpgrm import abi
from udpgrm.abi import DissectorType, Relocation
from udpgrm.build import cache, sources
from udpgrm.dissectors import library
from udpgrm.dissectors.parameters import DissectorError
from udpgrm.loader import programs

SHIPPED = ["dns", "dtls_cid", "quic", "quic_lb", "radius", "sip", "stun", "wireguard"]
SCHEMA = {"description": "for a test", "properties": {}, "additionalProperties": False}


@pytest.fixture
def shipped() -> Path:
    """Return the folder of the dissectors that come with the package."""
    return ROOT / "bpf" / "dissectors"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an operator's folder of dissectors."""
    directory = tmp_path / "dissectors"
    directory.mkdir()
    directory.chmod(0o755)
    monkeypatch.setenv("UDPGRM_DISSECTORS_DIR", str(directory))
    monkeypatch.setattr(library, "_OWNER", os.getuid())
    return directory


def write(own: Path, name: str) -> Path:
    folder = own / name
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "body.h").write_text("/* nothing */\n")
    (folder / "parameters.json").write_text(json.dumps(SCHEMA))
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


def test_default_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UDPGRM_DISSECTORS_DIR", raising=False)
    assert library.operators_dir() == Path("/etc/udpgrm/dissectors")


def test_names(shipped: Path, own: Path) -> None:
    assert library.names(shipped) == SHIPPED
    write(own, "mine")
    write(own, "quic")
    write(own, "Not_a_name")
    (own / "empty").mkdir()
    assert library.names(shipped) == sorted([*SHIPPED, "mine"])
    own.rename(own.with_name("gone"))
    assert library.names(shipped) == SHIPPED


def test_shipped_names_win(shipped: Path, own: Path) -> None:
    write(own, "quic")
    found = library.find("quic", shipped)
    assert (found.folder, found.digest) == (shipped / "quic", "")


@pytest.mark.parametrize(
    "name", ["", "Quic", "quic/", "..", "../quic", "a" * 32, "9p", "a-b", "a\n", "flow", "nosuch"]
)
def test_names_that_find_nothing(shipped: Path, own: Path, name: str) -> None:
    with pytest.raises(DissectorError) as error:
        library.find(name, shipped)
    assert len(str(error.value).splitlines()) == 1


def test_an_operators(shipped: Path, own: Path) -> None:
    folder = write(own, "mine")
    first = library.find("mine", shipped)
    assert first.folder == folder
    assert sources.named(first).folder == str(folder)
    deep = folder / "deep"
    deep.mkdir()
    (deep / "part.h").write_text("/* more */\n")
    deep.chmod(0o755)
    (deep / "part.h").chmod(0o644)
    second = library.find("mine", shipped)
    # a changed folder has another template
    assert sources.named(second).name != sources.named(first).name
    assert sources.named(second).name.startswith("steer_mine_")


@pytest.mark.parametrize("what", ["", "mine", "mine/body.h", "mine/deep", "mine/deep/part.h"])
@pytest.mark.parametrize("who", ["group", "others"])
def test_folders_that_others_can_change(shipped: Path, own: Path, what: str, who: str) -> None:
    folder = write(own, "mine")
    deep = folder / "deep"
    deep.mkdir()
    (deep / "part.h").write_text("/* more */\n")
    deep.chmod(0o755)
    (deep / "part.h").chmod(0o644)
    library.find("mine", shipped)
    path = own / what
    path.chmod(path.stat().st_mode | (0o020 if who == "group" else 0o002))
    with pytest.raises(DissectorError, match=f"dissector mine: {path} is writable by others"):
        library.find("mine", shipped)


def test_folders_of_others(shipped: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(own, "mine")
    library.find("mine", shipped)
    monkeypatch.setattr(library, "_OWNER", os.getuid() + 1)
    with pytest.raises(DissectorError, match=f"dissector mine: {own} does not belong to root"):
        library.find("mine", shipped)


def test_folders_that_lack_something(shipped: Path, own: Path) -> None:
    folder = write(own, "mine")
    (folder / "parameters.json").write_text("{")
    with pytest.raises(DissectorError, match=r"mine/parameters\.json: not JSON"):
        library.find("mine", shipped)
    (folder / "parameters.json").write_bytes(b"\xff")
    with pytest.raises(DissectorError, match=r"cannot read .*mine/parameters\.json"):
        library.find("mine", shipped)
    (folder / "parameters.json").unlink()
    with pytest.raises(DissectorError, match=r"cannot read .*mine/parameters\.json"):
        library.find("mine", shipped)
    (folder / "body.h").unlink()
    with pytest.raises(DissectorError, match=r"mine has no body\.h"):
        library.find("mine", shipped)


def test_a_link_that_leads_nowhere(shipped: Path, own: Path) -> None:
    (write(own, "mine") / "part.h").symlink_to("nowhere")
    with pytest.raises(DissectorError, match=r"dissector mine: .*part\.h"):
        library.find("mine", shipped)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_one_has_a_page_with_its_parameters(shipped: Path, name: str) -> None:
    page = (shipped / name / "README.md").read_text()
    schema = library.find(name, shipped).schema
    for item in schema.parameters:
        assert f"| `{item.name}` |" in page
        is_the_daemons = schema.keyed_by and item.name == "flow_timeout"
        assert is_the_daemons or item.name in (shipped / name / "body.h").read_text()


def test_parameters_become_constants() -> None:
    value = abi.Dissector(
        type=DissectorType.NAMED, name=b"quic", parameters=b'{"cid_length": 9, "offset": 4}'
    )
    first = int(Relocation.PARAMETERS)
    assert programs.parameters_of(value) == {first: 9, first + 1: 4}
    assert programs.steering_of(value) == sources.steering("quic")
    value.type |= abi.DISSECTOR_VERBOSE
    assert programs.parameters_of(value) == {first: 9, first + 1: 4}
    assert programs.parameters_of(abi.Dissector(type=DissectorType.NOOP)) == {}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (b"nosuch", b"", "no dissector 'nosuch'"),
        (b"\xff", b"", "not a dissector's name"),
        (b"quic", b"\xff", "dissector quic: not JSON"),
        (b"quic", b"{}", "dissector quic: parameter cid_length is missing"),
    ],
)
def test_what_an_application_may_send(name: bytes, text: bytes, message: str) -> None:
    """Raise BuildError, the only exception that the daemon catches."""
    value = abi.Dissector(type=DissectorType.NAMED, name=name, parameters=text)
    with pytest.raises(cache.BuildError, match=message):
        programs.parameters_of(value)


def test_programs_to_prebuild() -> None:
    assert [item.name for item in sources.shipped_named()] == [f"steer_{name}" for name in SHIPPED]


def test_macros_of_a_rendered_program() -> None:
    text = sources.render(sources.steering("quic_lb"))
    assert "#define POSITION_config_rotation 0\n" in text
    assert "#define POSITION_key 4\n" in text
    assert text.index("POSITION_key 4") < text.index('#include "dissectors/quic_lb/body.h"')
    assert "PARAMETER" not in sources.render(sources.steering("dns"))
