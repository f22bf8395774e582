# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm service start, stop: by a systemctl that knows the units in a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.services.support import text
from udpgrm.cli import main, status
from udpgrm.restart import systemd

SYSTEMCTL = """#!/bin/sh
[ "$1" != --no-ask-password ] || { verb=$2; shift 3; set -- "$verb" "$@"; }
case "$1" in
list-units) grep -s "^${5%%\\**}" "$HERE/live" ;;
is-enabled) grep -sqx "$2" "$HERE/enabled" && echo enabled ;;
enable) echo "$2" >>"$HERE/enabled" ;;
start) [ ! -e "$HERE/broken" ] || exit 1; echo edge@1.service >>"$HERE/live" ;;
stop) : >"$HERE/live" ;;
disable) sed -i "/^$2\\$/d" "$HERE/enabled" ;;
cat) [ ! -e "$HERE/no-unit" ] || { echo "No files found for $2." >&2; exit 1; } ;;
esac
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "systemctl"
    program.write_text(SYSTEMCTL)
    program.chmod(0o755)
    for name, value in (
        ("HERE", str(tmp_path)),
        ("PATH", f"{tmp_path}:{os.environ['PATH']}"),
        ("UDPGRM_SERVICES_DIR", str(tmp_path / "services.d")),
        ("UDPGRM_STATE_DIR", str(tmp_path / "state")),
    ):
        monkeypatch.setenv(name, value)
    (tmp_path / "services.d").mkdir()
    (tmp_path / "state").mkdir()
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main.main(["service", *arguments, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {"error": err}


def define(here: Path, **changes: object) -> Path:
    """Write the definition of edge."""
    path = here / "services.d" / "edge.yaml"
    path.write_bytes(text(**changes))
    return path


def test_the_first_instance_is_started_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    define(here)
    for options, changed in ((["--check"], True), ([], True), ([], False)):
        code, answer = run(capsys, "start", "edge", *options)
        expected = ["edge-first.service"] if changed else []
        assert (code, answer["changed"], answer["units"]) == (0, changed, expected)
        assert (here / "live").exists() == (not options)


def test_an_instance_that_does_not_start(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    define(here)
    (here / "broken").touch()
    code, answer = run(capsys, "start", "edge")
    assert code == 255
    assert "systemctl start edge-first.service: failed; edge@1.service: " in answer["error"]


def test_what_cannot_be_started_is_not_enabled(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = run(capsys, "start", "edge")
    assert (code, "no service 'edge' in " in answer["error"]) == (255, True)
    define(here)
    (here / "no-unit").touch()
    code, answer = run(capsys, "start", "edge")
    assert (code, "systemd has no unit edge@.service: write it" in answer["error"]) == (255, True)
    define(here, unit_from="edge-old.service")
    code, answer = run(capsys, "start", "edge")
    assert code == 255
    assert "no unit edge@.service: make it by udpgrm service unit edge --write" in answer["error"]
    assert not (here / "enabled").exists()


def test_stop(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = define(here)
    run(capsys, "start", "edge")
    definition.unlink()
    journal = here / "state" / "edge@1.json"
    journal.touch()
    assert "are unknown without a definition" in run(capsys, "stop", "edge")[1]["error"]
    define(here)
    group = {"address": "0.0.0.0:4433", "generations": [{"sockets": 1, "flows": 2}]}
    document = {"restart": None, "draining": [], "groups": [group]}
    monkeypatch.setattr(status, "describe", lambda *_: document)
    code, answer = run(capsys, "stop", "edge")
    assert (code, "edge: 2 flows would be lost" in answer["error"]) == (255, True)
    planned = run(capsys, "stop", "edge", "--lose-flows", "--check")
    assert journal.exists()
    assert run(capsys, "stop", "edge", "--lose-flows") == planned
    assert planned[1]["units"] == ["edge-first.service", "edge@1.service", str(journal)]
    assert [*(here / "state").iterdir(), (here / "live").read_text()] == [""]
    assert run(capsys, "stop", "edge")[1]["changed"] is False


def test_both_units_that_may_start_a_service_are_disabled(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    define(here)
    units = ["edge-first.service", "udpgrm-first@edge.service"]
    (here / "enabled").write_text("\n".join([*units, "udpgrm-first@edge2.service", ""]))
    code, answer = run(capsys, "stop", "edge")
    assert (code, answer["units"]) == (0, units)
    assert (here / "enabled").read_text() == "udpgrm-first@edge2.service\n"


def test_a_removed_service_is_not_started_at_boot(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    define(here)
    monkeypatch.setattr(systemd, "runs", lambda: True)
    enabled = here / "enabled"
    enabled.write_text("udpgrm-first@edge.service\nudpgrm-first@edge2.service\n")
    before = enabled.read_text()
    main.main(["service", "remove", "edge", "--lose-flows", "--check"])
    assert enabled.read_text() == before
    assert main.main(["service", "remove", "edge", "--lose-flows"]) == 0
    assert enabled.read_text() == "udpgrm-first@edge2.service\n"
    capsys.readouterr()


def test_misuse(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("stop", "edge", "--adopt=x.service"), ("start", "edge", "--lose-flows")):
        code, answer = run(capsys, *arguments)
        assert (code, "does not go with service" in answer["error"]) == (255, True)
