# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Units as systemd finds and reads them: drop-ins, aliases, masks, and what is no unit."""

from __future__ import annotations

from pathlib import Path

import pytest

from udpgrm.services import unit_files
from udpgrm.services.unit_files import Setting, UnitError


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """Make two directories of units; the operator's comes before the packages'."""
    etc, lib = tmp_path / "etc", tmp_path / "lib"
    for directory in (etc, lib):
        directory.mkdir()
    return etc, lib


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def values(unit: str, places: tuple[Path, Path]) -> list[str]:
    return [f"{one.key}={one.value}" for one in unit_files.read(unit, places)]


def test_comments_continuations_and_numbers_of_lines(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.service",
        "# one\n; two\n\n[Unit]\nDescription = A  server \n[Service]\n"
        "ExecStart=/bin/a \\\n# inside\n   -b \\\n\\\n  -c\nX-Note=other\n"
        '[X-Other]\nKey=1\n[Service]\nEnvironment=A=1 "B=2"\nLast=\\',
    )
    assert list(unit_files.parse(file)) == [
        Setting("Unit", "Description", "A  server", f"{file}:5"),
        Setting("Service", "ExecStart", "/bin/a -b  -c", f"{file}:7"),
        Setting("Service", "Environment", 'A=1 "B=2"', f"{file}:16"),
        Setting("Service", "Last", "", f"{file}:17"),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[Service]\nExecStart\n", "a.service:2: is no directive: 'ExecStart'"),
        ("[Service]\nExec Start=/bin/a\n", "a.service:2: is no directive"),
        ("User=a\n", "a.service:1: User= is in no section"),
        ("[Service]\nUser=\0\n", "a.service:2: has a NUL"),
        ("[Service\nUser=a\n", "a.service:1: is no directive"),
    ],
)
def test_what_systemd_would_ignore_is_an_error(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(UnitError) as error:
        list(unit_files.parse(write(tmp_path / "a.service", text)))
    assert reason in str(error.value)


def test_text_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.service").write_bytes(b"[Service]\nUser=\xe9\n")
    with pytest.raises(UnitError, match="no text in UTF-8"):
        list(unit_files.parse(tmp_path / "a.service"))


def test_drop_ins(places: tuple[Path, Path]) -> None:
    etc, lib = places
    write(lib / "a-b.service", "[Service]\nUser=0\n")
    write(lib / "a-b.service.d/20.conf", "[Service]\nUser=20-of-lib\n")
    write(etc / "a-b.service.d/20.conf", "[Service]\nUser=20\n")
    write(lib / "a-.service.d/10.conf", "[Service]\nUser=10\n")
    write(etc / "a-.service.d/20.conf", "[Service]\nUser=20-of-the-prefix\n")
    write(etc / "service.d/30.conf", "[Service]\nUser=30\n")
    write(etc / "service.d/15.conf", "")
    write(etc / "b.service.d/40.conf", "[Service]\nUser=of-another\n")
    write(etc / "a-b.service.d/50.txt", "[Service]\nUser=no-drop-in\n")
    assert values("a-b.service", places) == ["User=0", "User=10", "User=20", "User=30"]


def test_the_operators_file_is_before_the_packages(places: tuple[Path, Path]) -> None:
    etc, lib = places
    write(lib / "a.service", "[Service]\nUser=lib\n")
    write(etc / "a.service", "[Service]\nUser=etc\n")
    assert values("a.service", places) == ["User=etc"]


def test_instances_of_a_template(places: tuple[Path, Path]) -> None:
    etc, lib = places
    write(lib / "a@.service", "[Service]\nUser=template\n")
    write(lib / "a@.service.d/1.conf", "[Service]\nUser=all\n")
    write(etc / "a@x.service.d/2.conf", "[Service]\nUser=one\n")
    assert values("a@x.service", places) == ["User=template", "User=all", "User=one"]
    write(etc / "a@x.service", "[Service]\nUser=own\n")
    assert values("a@x.service", places)[0] == "User=own"


def test_an_alias(places: tuple[Path, Path]) -> None:
    etc, lib = places
    write(lib / "a.service", "[Service]\nUser=a\n")
    (etc / "alias.service").symlink_to(lib / "a.service")
    write(etc / "a.service.d/1.conf", "[Service]\nGroup=a\n")
    assert values("alias.service", places) == ["User=a", "Group=a"]


def test_no_unit_and_a_masked_one(places: tuple[Path, Path]) -> None:
    etc, lib = places
    with pytest.raises(UnitError, match=r"no unit a\.service: is its package installed"):
        unit_files.read("a.service", places)
    write(lib / "a.service", "[Service]\nUser=a\n")
    (etc / "a.service").symlink_to("/dev/null")
    with pytest.raises(UnitError, match=r"a\.service is masked"):
        unit_files.read("a.service", places)
