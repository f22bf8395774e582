# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

from __future__ import annotations

import pathlib

import pytest
from ansible_collections.udpgrm.fleet.plugins.module_utils import _release
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import HostError

UNIT = """[Service]
Environment="LIBRARY={here}/library" SPEED=1
EnvironmentFile=-{here}/environment
ExecStart=@{here}/server --generation %i \\
  --config={here}/configuration {here}/absent %h/x 'a b
"""


@pytest.fixture
def here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("UDPGRM_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("UDPGRM_SERVICES_DIR", str(tmp_path / "services.d"))
    (tmp_path / "services.d").mkdir()
    for name in ("environment", "server", "configuration", "services.d/echo.yaml"):
        (tmp_path / name).write_text(name)
    (tmp_path / "library").symlink_to("library-1")
    return tmp_path


def fingerprint(here: pathlib.Path, more: str = "") -> str:
    return _release.fingerprint("echo", UNIT.format(here=here) + more)


@pytest.mark.parametrize(
    "name", ["environment", "server", "configuration", "services.d/echo.yaml", "absent"]
)
def test_fingerprint_sees_files(here: pathlib.Path, name: str) -> None:
    before = fingerprint(here)
    assert fingerprint(here) == before
    (here / name).write_text("new")
    assert fingerprint(here) != before


def test_fingerprint_sees_links_and_the_unit(here: pathlib.Path) -> None:
    before = fingerprint(here)
    assert fingerprint(here, "# a drop-in\n") != before
    (here / "library").unlink()
    (here / "library").symlink_to("library-2")
    assert fingerprint(here) != before


def test_fingerprint_does_not_see_other_files(here: pathlib.Path) -> None:
    before = fingerprint(here)
    (here / "services.d" / "other.yaml").write_text("new")
    (here / "unnamed").write_text("new")
    assert fingerprint(here) == before


@pytest.mark.usefixtures("here")
def test_a_note_is_of_the_restart_that_follows_it() -> None:
    journal = {"started": 1000.5}
    assert _release.recorded("echo", journal) is None
    with _release.locked("echo"), _release.noted("echo", _release.Note("2", 1000.0)):
        pass
    assert _release.recorded("echo", journal) == "2"
    for started in (999.0, 1100.0):  # the restart before, and one begun by hand much later
        assert _release.recorded("echo", {"started": started}) is None
    assert _release.recorded("echo", None) is None
    assert _release.recorded("other", journal) is None


@pytest.mark.parametrize("earlier", [None, "1"])
def test_a_restart_that_does_not_begin_leaves_no_note(
    here: pathlib.Path, earlier: str | None
) -> None:
    with _release.locked("echo"):
        if earlier is not None:
            with _release.noted("echo", _release.Note(earlier, 1000.0)):
                pass
        with (
            pytest.raises(HostError, match="runs already"),
            _release.noted("echo", _release.Note("2", 1001.0)),
        ):
            raise HostError("a restart runs already")
    assert _release.recorded("echo", {"started": 1002.0}) == earlier
    left = {path.name for path in (here / "state").iterdir()} - {"echo.release.lock"}
    assert left == (set() if earlier is None else {"echo.release"})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"release": "2", "at": "soon"}'])
def test_a_broken_note_is_none(here: pathlib.Path, text: str) -> None:
    (here / "state").mkdir()
    (here / "state" / "echo.release").write_text(text)
    assert _release.recorded("echo", {"started": 1.0}) is None
