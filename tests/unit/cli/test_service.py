# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""udpgrm service: definitions are validated, replaced in one step, and deleted."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.services.support import text
from udpgrm.cli import main, status
from udpgrm.services import document, loader, unit_files

Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UDPGRM_SERVICES_DIR", str(tmp_path / "services.d"))
    monkeypatch.setenv("UDPGRM_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "services.d"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str, stdin: bytes = b"") -> tuple[int, dict[str, Any]]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main.main(["service", *arguments, "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else {"error": err}

    return call


def test_what_is_defined_is_there(there: Path, run: Run) -> None:
    file = there / "edge.yaml"
    code, planned = run("define", "edge", "--check", stdin=text())
    assert (code, planned["changed"], there.exists()) == (0, True, False)
    before = os.umask(0o077)
    try:
        code, done = run("define", "edge", stdin=text())
    finally:
        os.umask(before)
    assert (code, done) == (0, planned)
    assert (done["path"], done["before"], done["after"]["mode"]) == (str(file), None, "0644")
    assert file.read_bytes() == text()
    assert (file.stat().st_mode & 0o777, there.stat().st_mode & 0o777) == (0o644, 0o755)
    assert run("define", "edge", stdin=text())[1]["changed"] is False
    assert loader.load("edge", there).name == "edge"
    assert [path.name for path in there.iterdir()] == ["edge.yaml"]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
@pytest.mark.parametrize(
    "spoil", [lambda file: file.chmod(0o600), lambda file: os.chown(file, 1, 1)]
)
def test_owner_and_mode_are_repaired(there: Path, run: Run, spoil: Callable[[Path], None]) -> None:
    run("define", "edge", stdin=text())
    spoil(there / "edge.yaml")
    assert run("define", "edge", stdin=text())[1]["changed"] is True
    found = (there / "edge.yaml").stat()
    assert (found.st_uid, found.st_mode & 0o777) == (0, 0o644)


def test_json_is_written_as_yaml_below_its_comments(there: Path, run: Run) -> None:
    data = {"groups": [{"address": "0.0.0.0:4433"}], "instances": {"unit": "edge@.service"}}
    run("define", "edge", stdin=b"# by hand\n# and more\n" + json.dumps(data).encode())
    assert (there / "edge.yaml").read_text() == (
        "# by hand\n# and more\n---\n"
        "groups:\n- address: 0.0.0.0:4433\ninstances:\n  unit: edge@.service\n"
    )


@pytest.mark.parametrize(
    ("content", "key", "reason"),
    [
        (b"", "", "empty"),
        (b"{", "line 1", "expected the node content, but found '<stream end>'"),
        (b'{"a": 1, "a": 2}', "a", "given again in line 1"),
        (b"[" * 4000, "", "nested deeper than 16"),
        (b" " * (document.MAX_BYTES + 1), "", f"longer than {document.MAX_BYTES} bytes"),
        (
            text(unit_from="a.service", instance_files={"/etc/a.conf": "{% for a in b %}"}),
            "instance_files./etc/a.conf",
            "line 1: Unexpected end of template. Jinja was looking for the following tags: "
            "'endfor' or 'else'. The innermost block that needs to be closed is 'for'.",
        ),
    ],
)
def test_what_is_wrong_replaces_nothing(
    there: Path, run: Run, content: bytes, key: str, reason: str
) -> None:
    run("define", "edge", stdin=text())
    for options in ((), ("--check",)):
        code, answer = run("define", "edge", *options, stdin=content)
        assert (code, answer["changed"]) == (1, False)
        assert {"file": str(there / "edge.yaml"), "key": key, "reason": reason} in answer[
            "problems"
        ]
    assert (there / "edge.yaml").read_bytes() == text()


def test_problems_between_definitions_count_if_they_are_new(there: Path, run: Run) -> None:
    there.mkdir()
    (there / "broken.yaml").write_bytes(b"[]")
    (there / "directory.yaml").mkdir()
    assert run("define", "edge", stdin=text())[0] == 0
    # two files claim an address: the later one has the problem, whichever is new
    for name, file in (("zone", "zone.yaml"), ("all", "edge.yaml")):
        code, answer = run("define", name, stdin=text())
        assert code == 1
        [problem] = answer["problems"]
        assert problem["file"] == str(there / file)
        assert "already" in problem["reason"]
        assert not (there / f"{name}.yaml").exists()
    # its own address is not another's
    assert run("define", "edge", stdin=b"# new\n" + text())[1]["changed"] is True


def test_what_is_no_file_is_not_replaced(there: Path, run: Run) -> None:
    there.mkdir()
    os.mkfifo(there / "edge.yaml")
    for action in ("define", "remove"):
        code, answer = run(action, "edge", stdin=text())
        assert (code, "is not a file that can be read" in answer["error"]) == (255, True)


def test_a_line_says_that_check_does_nothing(
    there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, end in ((["--check"], " (not done: --check)"), ([], ""), ([], " already")):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text())))
        assert main.main(["service", "define", "edge", *options]) == 0
        assert capsys.readouterr().out == f"edge: defined{end}\n"


def test_remove(there: Path, run: Run) -> None:
    assert run("remove", "edge")[1]["changed"] is False
    run("define", "edge", stdin=text())
    assert run("remove", "edge", "--check")[1]["changed"] is True
    assert (there / "edge.yaml").exists()
    code, answer = run("remove", "edge")
    assert (code, answer["changed"], answer["after"]) == (0, True, None)
    assert answer["before"]["text"] == text().decode()
    assert not (there / "edge.yaml").exists()


def test_a_service_that_may_have_flows_is_not_removed(
    there: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("define", "edge", stdin=text())
    described: dict[str, Any] = {"restart": None, "draining": []}
    generation = {"sockets": 1, "flows": 3}
    group = {"address": "0.0.0.0:4433", "generations": [generation]}
    monkeypatch.setattr(status, "describe", lambda *_: {**described, "groups": [group]})
    code, answer = run("remove", "edge")
    assert (code, "edge: 3 flows would be lost" in answer["error"]) == (255, True)
    assert (there / "edge.yaml").exists()
    assert run("remove", "edge", "--lose-flows")[1]["changed"] is True
    there.joinpath("edge.yaml").write_bytes(b"[]")
    assert "not known without a valid definition" in run("remove", "edge")[1]["error"]
    assert run("remove", "edge", "--lose-flows")[0] == 0


@pytest.mark.parametrize("name", ["../edge", "Edge", "e" * 65, "edge@1"])
def test_names(there: Path, run: Run, name: str) -> None:
    for action in ("define", "remove"):
        code, answer = run(action, name, stdin=text())
        assert (code, "not a service's name" in answer["error"]) == (255, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("list", "edge"), "'list' is none of define, new, remove, unit, render"),
        (("define",), "an operand is missing"),
        (("define", "edge", "more"), "unexpected 'more'"),
        (("define", "edge", "--lose-flows"), "--lose-flows does not go with service define"),
    ],
)
def test_misuse(there: Path, run: Run, arguments: tuple[str, ...], message: str) -> None:
    code, answer = run(*arguments)
    assert (code, message in answer["error"]) == (255, True)


def test_a_profile_whose_package_is_missing_defines_nothing(
    there: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_files, "DIRECTORIES", [there / "units"])
    code, answer = run("new", "edge", "--profile=knot", "--address=192.0.2.1:53")
    assert (code, "there is no unit knot.service" in answer["error"]) == (255, True)
    assert not there.exists()


def test_a_profile_replaces_no_edited_definition(
    there: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = there.parent / "units"
    units.mkdir()
    (units / "knot.service").write_text("[Service]\nExecStart=/usr/sbin/knotd\n")
    monkeypatch.setattr(unit_files, "DIRECTORIES", [units])
    new = ("new", "edge", "--profile=knot", "--address=192.0.2.1:53", "--check")
    made = run(*new)[1]["after"]["text"]
    there.mkdir()
    (there / "edge.yaml").write_text(made)
    assert run(*new)[0] == 0
    (there / "edge.yaml").write_text(f"{made}# edited\n")
    code, answer = run(*new)
    assert (code, "edge is defined already" in answer["error"]) == (255, True)


def test_lines_for_people(
    there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for content, expected in (
        (text(), "edge: defined\n"),
        (text(), "edge: defined already\n"),
        (b"[]", f"{there}/edge.yaml: [] is not of type object\n"),
    ):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        main.main(["service", "define", "edge"])
        assert capsys.readouterr().out == expected
    main.main(["service", "remove", "edge"])
    assert capsys.readouterr().out == "edge: removed\n"
