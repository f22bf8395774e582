# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm service unit and render: what is printed, and what is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from testing import contract
from tests.unit.services.support import text
from udpgrm.cli import main
from udpgrm.restart import systemd
from udpgrm.services import unit_files, unit_from

UNIT = "[Service]\nExecStart=/bin/a\nRuntimeDirectory=a\n"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a host with the unit a.service and the service `edge`."""
    services = tmp_path / "services.d"
    services.mkdir()
    (tmp_path / "a.service").write_text(UNIT)
    (tmp_path / "a.conf").write_text("a\n")
    files = {str(tmp_path / "a.conf"): "{{ original }}{{ generation }}\n"}
    (services / "edge.yaml").write_bytes(text(unit_from="a.service", instance_files=files))
    (services / "plain.yaml").write_bytes(text(groups=[{"address": "0.0.0.0:1"}]))
    monkeypatch.setenv("UDPGRM_SERVICES_DIR", str(services))
    monkeypatch.setattr(unit_from, "WHERE", tmp_path / "system")
    monkeypatch.setattr(unit_from, "FILES", tmp_path / "instances")
    monkeypatch.setattr(unit_files, "DIRECTORIES", (tmp_path,))
    monkeypatch.setattr(systemd, "runs", lambda: False)
    (tmp_path / "system").mkdir()
    return tmp_path


def test_it_is_printed(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["service", "unit", "edge"]) == 0
    assert "RuntimeDirectory=edge-%i-a\n" in capsys.readouterr().out
    assert list((host / "system").iterdir()) == []


def test_it_is_written_once(
    host: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reloads: list[str] = []
    monkeypatch.setattr(systemd, "runs", lambda: True)
    monkeypatch.setattr(systemd, "reload", lambda: reloads.append("reload"))
    assert main.main(["service", "unit", "edge", "--write", "--check"]) == 0
    assert not (host / "system/edge@.service").exists()
    assert main.main(["service", "unit", "edge", "--write"]) == 0
    printed = capsys.readouterr().out
    assert f"{host}/system/edge@.service: written\n" in printed
    assert "  RuntimeDirectory=edge-%i-a instead of a: one for each instance." in printed
    written = host / "system/edge@.service"
    assert written.stat().st_mode & 0o777 == 0o644
    assert reloads == ["reload"]
    assert main.main(["service", "unit", "edge", "--write", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert contract.misfits("service-unit", answer) == []
    assert (answer["changed"], answer["text"]) == (False, written.read_text())
    assert reloads == ["reload"]


def test_a_unit_that_is_no_text_is_replaced(host: Path) -> None:
    written = host / "system/edge@.service"
    written.write_bytes(b"\xff")
    assert main.main(["service", "unit", "edge", "--write"]) == 0
    assert "RuntimeDirectory=edge-%i-a\n" in written.read_text()


def test_files_are_rendered(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["service", "render", "edge", "7", "--check"]) == 0
    assert capsys.readouterr().out == f"==> {host}/a.conf <==\na\n7\n\n"
    assert not (host / "instances").exists()
    assert main.main(["service", "render", "edge", "7", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert contract.misfits("service-render", answer) == []
    assert Path(f"{answer['directory']}{host}/a.conf").read_text() == "a\n7\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("unit plain", "plain: its definition has neither unit_from nor unit_settings"),
        ("render plain 1", "plain: its definition has neither unit_from nor unit_settings"),
        ("unit nothing", "no service 'nothing'"),
        ("unit edge 3", "unexpected '3'"),
        ("render edge", "an operand is missing"),
        ("render edge x", "not a generation: 'x'"),
        ("remove edge --write", "--write does not go with service remove"),
    ],
)
def test_misuse(
    host: Path, capsys: pytest.CaptureFixture[str], arguments: str, reason: str
) -> None:
    assert main.main(["service", *arguments.split()]) == 255
    assert reason in capsys.readouterr().err


def test_a_unit_that_cannot_be_taken_over(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "a.service").write_text(f"{UNIT}Frobnicate=1\n")
    assert main.main(["service", "unit", "edge"]) == 255
    assert f"udpgrm: {host}/a.service:4: Frobnicate= is" in capsys.readouterr().err


def test_a_service_by_a_profile(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "coturn.service").write_text(UNIT)
    arguments = ["service", "new", "turn", "--profile=coturn", "--address=192.0.2.1:1,[::1]:1"]
    assert main.main([*arguments, "--check", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert contract.misfits("service-define", answer) == []
    assert answer["after"]["text"].startswith("# STUN and TURN: keys that are not")
    assert not (host / "services.d/turn.yaml").exists()
    assert main.main(arguments) == 0
    assert capsys.readouterr().out == "turn: defined\n"
    assert "/etc/turnserver.conf" in (host / "system/turn@.service").read_text()
    assert [path.name for path in (host / "system").iterdir()] == ["turn@.service"]
    for wrong, reason in (
        ([*arguments[:3], "--profile=coturn"], "service new needs --address"),
        (["service", "unit", "turn", "--address=[::1]:1"], "service unit takes no --address"),
        ([*arguments[:3], "--profile=x", "--address=[::1]:1"], "no profile 'x'"),
        (["service", "new", "b", "--profile=coturn", "--address=nowhere"], "groups.0.address"),
    ):
        assert main.main(wrong) != 0
        printed = capsys.readouterr()
        assert reason in printed.err + printed.out
