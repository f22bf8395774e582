# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""A unit that served before udpgrm came is adopted, and in the end no longer started at boot."""

from __future__ import annotations

import json
import pathlib
import sys
import typing as t

import pytest

from ..fake_services import FOREVER, service
from .machine import Machine

OLD = "old-echo.service"
TASK: dict[str, t.Any] = {"services": ["echo"], "adopt": {"echo": OLD}}
# Its units are lines of a file: name, whether it runs, how it is enabled.
SYSTEMCTL = """#!{python}
import fnmatch, json, pathlib, sys
place = pathlib.Path({here!r}, "units")
units = json.loads(place.read_text())
verb, *_, unit = [word for word in sys.argv[1:] if word != "--no-ask-password"]
status = 0
if verb == "list-units":
    for name in fnmatch.filter(units, unit):
        if units[name]["live"]:
            print(name, "loaded active running")
elif verb == "is-enabled":
    word = units.get(unit, {{"boot": "not-found"}})["boot"]
    print("" if "--quiet" in sys.argv else word)
    status = 0 if word in ("enabled", "static") else 1
elif verb == "cat":
    print("[Service]")
else:
    with pathlib.Path({here!r}, "changes").open("a") as file:
        print(verb, unit, file=file)
    if verb in ("enable", "disable"):
        units.setdefault(unit, {{"live": False}})["boot"] = verb + "d"
    if verb == "start":
        units["echo@1.service"] = {{"live": True, "boot": "disabled"}}
    place.write_text(json.dumps(units))
sys.exit(status)
"""


class Host(Machine):
    """Has units, and notes what systemctl changes."""

    def __init__(self, directory: pathlib.Path, **behaviour: t.Any) -> None:
        super().__init__(directory, services=[service(**behaviour)])
        program = self.path / "systemctl"
        program.write_text(SYSTEMCTL.format(python=sys.executable, here=str(self.path)))
        (self.path / "state").mkdir()
        self.units = {OLD: {"live": True, "boot": "enabled"}}

    @property
    def units(self) -> dict[str, dict[str, t.Any]]:
        units: dict[str, dict[str, t.Any]] = json.loads((self.path / "units").read_text())
        return units

    @units.setter
    def units(self, units: dict[str, dict[str, t.Any]]) -> None:
        (self.path / "units").write_text(json.dumps(units))

    def set_unit(self, name: str, live: bool, boot: str = "disabled") -> None:
        self.units = {**self.units, name: {"live": live, "boot": boot}}

    @property
    def changes(self) -> list[str]:
        return self._lines("changes")

    @property
    def note(self) -> pathlib.Path:
        return self.path / "state" / "echo.adopted"

    def take_over(self) -> None:
        """Do what a finished first restart does."""
        self.set_unit(OLD, False, self.units[OLD]["boot"])
        self.set_unit("echo@1.service", True)


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path)


def test_what_serves_is_adopted(host: Host) -> None:
    planned = host.run("udpgrm_instances", TASK, check=True)
    assert (planned["changed"], planned["units"]) == (True, [OLD])
    assert (host.services["echo"]["working"], host.note.exists()) == (1, False)
    done = host.run("udpgrm_instances", TASK)
    assert (done["changed"], done["units"]) == (True, [OLD])
    assert done["notes"] == ["0.0.0.0:4433: a client's flow is known once"]
    assert done["notes"][0] in str(done["warnings"])
    assert host.services["echo"]["former"] == OLD
    assert host.note.read_text() == f"{OLD}\n"
    for check in (True, False):
        again = host.run("udpgrm_instances", TASK, check=check)
        assert (again["changed"], again["notes"]) == (False, [])
    # until its first restart has finished the host starts what it started before
    assert host.changes == []


def test_check_mode_before_there_is_a_command(host: Host) -> None:
    (host.path / "udpgrm").unlink()
    planned = host.run("udpgrm_instances", {**TASK, "planned": True}, check=True)
    assert (planned["changed"], planned["units"]) == (True, [OLD])
    assert host.run("udpgrm_instances", TASK)["msg"].startswith("udpgrm is not installed")


@pytest.mark.parametrize("boot", ["enabled", "static"])
def test_the_role_hands_over(host: Host, boot: str) -> None:
    host.set_unit(OLD, True, boot)
    host.run("udpgrm_instances", TASK)
    host.run("udpgrm_restart", {"service": "echo", "release": "2"})
    host.take_over()
    expected = ["echo-first.service", *([OLD] if boot == "enabled" else [])]
    # the restart's own module has not seen the end: an operator has restarted it by hand
    host.note.write_text(f"{OLD}\n")
    (host.path / "changes").write_text("")
    host.set_unit("echo-first.service", False)
    host.set_unit(OLD, False, boot)
    assert host.run("udpgrm_instances", TASK, check=True)["units"] == expected
    assert host.run("udpgrm_instances", TASK)["units"] == expected
    assert (host.note.exists(), host.run("udpgrm_instances", TASK)["changed"]) == (False, False)
    units = host.units
    del units[OLD]
    host.units = units
    assert host.run("udpgrm_instances", TASK)["changed"] is False


@pytest.mark.parametrize("module", ["udpgrm_restart", "udpgrm_drain"])
def test_who_sees_the_end_hands_over(tmp_path: pathlib.Path, module: str) -> None:
    host = Host(tmp_path, polls=FOREVER)
    host.run("udpgrm_instances", TASK)
    begun = host.run("udpgrm_restart", {"service": "echo", "release": "2"})
    assert (begun["changed"], begun["units"], host.changes) == (True, [], [])
    waited = host.run("udpgrm_drain", {"service": "echo", "timeout": 0})
    assert (waited["drained"], waited["changed"], host.changes) == (False, False, [])
    host.set_unit("echo@1.service", True)
    # the role must not hand over either while there may be a way back
    assert host.run("udpgrm_instances", TASK)["changed"] is False
    ended = host.services
    ended["echo"]["journal"]["polls"] = 0
    host.set_services(ended["echo"])
    host.take_over()
    task: dict[str, t.Any] = {"service": "echo"}
    task.update({"timeout": 9} if module == "udpgrm_drain" else {"release": "2"})
    host.run(module, task, check=True)
    planned = host.run("udpgrm_drain", {"service": "echo"}, check=True)
    assert host.changes == []
    done = host.run(module, task)
    assert (done["changed"], done["units"]) == (True, ["echo-first.service", OLD])
    assert (planned["changed"], planned["units"]) == (True, done["units"])
    assert host.changes == ["enable echo-first.service", f"disable {OLD}"]
    assert host.run(module, task)["changed"] is False


def test_a_restart_that_was_rolled_back(tmp_path: pathlib.Path) -> None:
    host = Host(tmp_path, rolls_back="dead")
    host.run("udpgrm_instances", TASK)
    assert host.run("udpgrm_restart", {"service": "echo", "release": "2"})["failed"]
    for name, task in (("udpgrm_drain", {"service": "echo"}), ("udpgrm_instances", TASK)):
        assert host.run(name, task)["changed"] is False
    assert (host.changes, host.note.exists()) == ([], True)


def test_a_unit_that_does_not_run(host: Host) -> None:
    host.set_unit(OLD, False, "enabled")
    assert host.run("udpgrm_instances", TASK)["units"] == ["echo-first.service", OLD]
    assert host.changes[:2] == ["enable echo-first.service", "start echo-first.service"]
    assert host.services["echo"]["former"] is None


def test_a_unit_that_serves_something_else(tmp_path: pathlib.Path) -> None:
    host = Host(tmp_path, no_socket=True)
    result = host.run("udpgrm_instances", TASK)
    assert result["msg"] == (
        f"udpgrm service: {OLD} has no socket at 0.0.0.0:4433: it has no UDP socket"
    )
    assert (host.changes, host.note.exists()) == ([], False)
