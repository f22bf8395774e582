# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Configuration files of an instance: rendered, and written where only root may."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.services.support import text
from udpgrm.services import instance_files, loader, unit_from
from udpgrm.services.definition import Service
from udpgrm.services.unit_files import UnitError


def service(files: dict[str, str]) -> Service:
    groups = [{"address": "192.0.2.1:53", "sockets": 2}, {"address": "[2001:db8::1]:53"}]
    content = text(unit_from="a.service", instance_files=files, groups=groups)
    found, problems = loader.parse("edge", content)
    assert found is not None, problems
    return found


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "a.conf"
    path.write_text("user = a\n")
    path.chmod(0o640)
    return path


def test_what_a_template_knows(conf: Path) -> None:
    template = (
        "{{ original }}{{ service }} {{ generation }} {{ ip }} {{ port }} {{ sockets }}\n"
        "{% for group in groups %}\nlisten {{ group.address }}\n{% endfor %}\n"
    )
    assert instance_files.render(service({str(conf): template}), 7) == {
        str(conf): "user = a\nedge 7 192.0.2.1 53 2\nlisten 192.0.2.1:53\nlisten [2001:db8::1]:53\n"
    }


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ nothing }}", "'nothing' is undefined"),
        ("\n{% if %}", "line 2: "),
        ("{{ port / 0 }}", "division by zero"),
        ("{{ port + service }}", "unsupported operand"),
    ],
)
def test_a_template_that_is_wrong(conf: Path, template: str, reason: str) -> None:
    with pytest.raises(UnitError) as error:
        instance_files.render(service({str(conf): template}), 7)
    assert f"instance_files: {conf}" in str(error.value) and reason in str(error.value)


@pytest.mark.parametrize(
    ("template", "reasons"),
    [
        ("{{ nothing }} {{ port / 0 }}", []),  # known once it is rendered
        ("{{ original }}", []),
        ("\n{% if %}", ["line 2: Expected an expression, got 'end of statement block'"]),
        ("{% for a in b %}", ["line 1: Unexpected end of template."]),
        ("{{ " + "(" * 20000, ["maximum recursion depth exceeded"]),
        ("{{ " + "1" * 5000 + " }}", ["Exceeds the limit (4300 digits)"]),
    ],
)
def test_problems_that_a_check_finds(conf: Path, template: str, reasons: list[str]) -> None:
    """Find the problems before an instance is started."""
    found = list(instance_files.problems(service({str(conf): template})))
    assert [key for key, _ in found] == [f"instance_files.{conf}"] * len(reasons)
    for (_, reason), expected in zip(found, reasons):
        assert reason.startswith(expected)


def test_a_file_that_is_not_there(conf: Path) -> None:
    with pytest.raises(UnitError, match=f"there is no {conf}x"):
        instance_files.render(service({f"{conf}x": "a"}), 7)


def test_they_have_owner_and_mode_of_what_they_replace(
    conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_from, "FILES", tmp_path / "run/instances")
    if os.geteuid() == 0:
        os.chown(conf, 0, 7)
    what = service({str(conf): "{{ generation }}"})
    before = os.umask(0)
    try:
        for generation in (3, 3, 4):  # again after a crash, when files of it are there
            directory = instance_files.directory_of(what, generation)
            instance_files.write(directory, instance_files.render(what, generation))
    finally:
        os.umask(before)
    written = tmp_path / f"run/instances/edge-3{conf}"
    assert written.read_text() == "3"
    found, like = written.stat(), conf.stat()
    assert (found.st_mode, found.st_uid, found.st_gid) == (like.st_mode, like.st_uid, like.st_gid)
    assert (tmp_path / "run/instances/edge-3").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / f"run/instances/edge-4{conf}").read_text() == "4"
