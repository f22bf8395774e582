# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm check: one line for each problem, and a status."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.services.support import text
from udpgrm.cli import main
from udpgrm.services import document, loader


def test_a_good_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "edge.yaml"
    file.write_bytes(text())
    assert main.main(["check", str(file)]) == 0
    assert capsys.readouterr() == ("", "")
    assert main.main(["check", "--json", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "schema": 1,
        "ok": True,
        "problems": [],
        "services": [
            {
                "name": "edge",
                "file": str(file),
                "groups": ["0.0.0.0:4433"],
                "reuseport_set": [],
            }
        ],
    }


def test_where_hooks_set_reuseport(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = {"address": "0.0.0.0:53", "reuseport": "server", "dissector": {"name": "noop"}}
    groups = [own, {**own, "address": "[::]:53", "reuseport": "set"}]
    (tmp_path / "edge.yaml").write_bytes(text(groups=groups, enrollment="adopted"))
    assert main.main(["check", "--json", str(tmp_path)]) == 0
    [service] = json.loads(capsys.readouterr().out)["services"]
    assert service["reuseport_set"] == ["[::]:53"]


def test_each_problem_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_bytes(text(**{"odd\nkey": 1}))
    (tmp_path / "b.yaml").write_bytes(b"a: 1\na: 2\n")
    assert main.main(["check", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(rf"{tmp_path}/a.yaml: odd\nkey: no such key")
    assert lines[1] == f"{tmp_path}/b.yaml: a: given again in line 2"
    assert main.main(["check", "--json", str(tmp_path)]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert not answer["ok"]
    assert answer["problems"][1] == {
        "file": f"{tmp_path}/b.yaml",
        "key": "a",
        "reason": "given again in line 2",
    }


def test_a_template_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"/etc/a.conf": "{{ original", "/etc/b.conf": "{{ original }}"}
    (tmp_path / "a.yaml").write_bytes(text(unit_from="a.service", instance_files=files))
    assert main.main(["check", "--json", str(tmp_path)]) == 1
    answer = json.loads(capsys.readouterr().out)
    [problem] = answer["problems"]
    assert problem["key"] == "instance_files./etc/a.conf"
    assert problem["reason"].startswith("line 1: unexpected end of template")
    assert answer["services"] == []


def test_a_file_under_any_name(tmp_path: Path) -> None:
    # what a template is rendered to before it is put in place
    (tmp_path / ".Source").write_bytes(text())
    assert main.main(["check", str(tmp_path / ".Source")]) == 0


@pytest.mark.parametrize("name", ["nothing.yaml", "nothing/edge.yaml", "x" * 300])
def test_unreadable(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["check", str(tmp_path / name)]) == 255
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert name in err


def test_an_empty_operand_is_not_this_directory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["check", ""]) == 255
    assert capsys.readouterr() == ("", "udpgrm: check: an operand is empty\n")


def test_what_is_no_file_in_a_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Report links, directories and pipes without waiting for a writer; read the other files."""
    (tmp_path / "a.yaml").symlink_to("nowhere")
    (tmp_path / "b.yaml").mkdir()
    os.mkfifo(tmp_path / "c.yaml")
    (tmp_path / "d.yaml").symlink_to("d.yaml")
    (tmp_path / "edge.yaml").write_bytes(text())
    assert main.main(["check", "--json", str(tmp_path)]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert [item["name"] for item in answer["services"]] == ["edge"]
    assert answer["problems"] == [
        {"file": f"{tmp_path}/{name}.yaml", "key": "", "reason": "is not a file that can be read"}
        for name in "abcd"
    ]
    assert loader.load("edge", tmp_path).name == "edge"


def test_a_file_that_the_disk_has_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("edge", "lost"):
        (tmp_path / f"{name}.yaml").write_bytes(text())
    really = loader.read_file

    def read_file(file: Path) -> loader.Found:
        if file.stem == "lost":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(file))
        return really(file)

    monkeypatch.setattr(loader, "read_file", read_file)
    assert main.main(["check", str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"{tmp_path}/lost.yaml: Input/output error\n"


def test_the_default_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UDPGRM_SERVICES_DIR", str(tmp_path))
    (tmp_path / "edge.yaml").write_bytes(b"[]")
    assert main.main(["check"]) == 1
    assert capsys.readouterr().out == f"{tmp_path}/edge.yaml: [] is not of type object\n"


def test_without_jsonschema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from udpgrm.services import validate

    validate._validator.cache_clear()
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    (tmp_path / "edge.yaml").write_bytes(text())
    assert main.main(["check", str(tmp_path)]) == 255
    assert "install python3-jsonschema" in capsys.readouterr().err


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")))
def test_whatever_the_file_holds(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "edge.yaml").write_bytes(content)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main.main(["check", str(tmp_path)])
    # a random text is no service
    assert status == 1
    assert out.getvalue()
    for line in out.getvalue().splitlines():
        assert line.startswith(f"{tmp_path}/edge.yaml: ")


def test_a_file_without_end(capsys: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.write(writing, b"#" * 65536)
    try:
        file = f"/proc/self/fd/{reading}"
        os.close(writing)
        assert main.main(["check", file]) == 1
        assert capsys.readouterr().out == f"{file}: empty\n"
    finally:
        os.close(reading)
    assert document.MAX_BYTES == 65536
    assert main.main(["check", "/dev/zero"]) == 1
    assert capsys.readouterr().out == "/dev/zero: longer than 65536 bytes\n"
