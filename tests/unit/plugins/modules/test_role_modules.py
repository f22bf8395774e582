# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Test the modules of the role: write files, run instances, end services."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest

from ..fake_services import service
from .machine import Machine

SYSTEMCTL = """#!/bin/sh
[ "$1" != --no-ask-password ] || {{ verb=$2; shift 3; set -- "$verb" "$@"; }}
echo "$@" >>{here}/systemctl-calls
case "$1" in
list-units) cat {here}/live ;;
is-enabled) exit 1 ;;
start) [ ! -e {here}/broken ] || {{ echo "Job for $2 failed." >&2; exit 1; }} ;;
show) echo Result=exit-code; echo ExecMainCode=1; echo ExecMainStatus=42 ;;
esac
"""
READING = ("cat", "is-enabled", "list-units", "show")
JOURNALCTL = """#!/bin/sh
echo "ModuleNotFoundError: No module named 'udpgrm.client'"
"""


@pytest.fixture
def systemd(machine: Machine) -> Machine:
    """Return a machine with a systemctl that logs its calls, and runs the units in its file."""
    for name, text in (("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)):
        (machine.path / name).write_text(text.format(here=machine.path))
        (machine.path / name).chmod(0o755)
    (machine.path / "cat").symlink_to("/bin/cat")
    (machine.path / "live").touch()
    return machine


def systemctl_calls(machine: Machine) -> list[str]:
    calls = (machine.path / "systemctl-calls").read_text().splitlines()
    return [call for call in calls if call.split()[0] not in READING]


def test_first_instances(systemd: Machine) -> None:
    task = {"services": ["dns", "echo"]}
    planned = systemd.run("udpgrm_instances", task, check=True)
    assert planned["units"] == ["dns-first.service", "echo-first.service"]
    assert systemctl_calls(systemd) == []
    assert systemd.run("udpgrm_instances", task)["changed"] is True
    assert systemctl_calls(systemd) == [
        "enable dns-first.service",
        "start dns-first.service",
        "enable echo-first.service",
        "start echo-first.service",
    ]


def test_an_instance_that_does_not_start_says_why(systemd: Machine) -> None:
    (systemd.path / "broken").touch()
    result = systemd.run("udpgrm_instances", {"services": ["dns"]})
    assert "Job for dns-first.service failed." in result["msg"]
    assert "dns@1.service: exit-code, exit code 42" in result["msg"]
    assert "No module named 'udpgrm.client'" in result["msg"]


def test_a_service_that_has_flows_does_not_end(systemd: Machine) -> None:
    (systemd.path / "live").write_text("echo@1.service loaded active running Echo\n")
    task = {"services": ["echo"], "state": "ended"}
    for check in (True, False):
        result = systemd.run("udpgrm_instances", task, check=check)
        assert result["msg"] == (
            "udpgrm service: echo: 3 flows would be lost; "
            "try again when its clients have gone, or stop it first"
        )
    assert systemctl_calls(systemd) == []
    (systemd.path / "live").write_text("")
    assert systemd.run("udpgrm_instances", task)["changed"] is False


def test_a_service_that_drains_does_not_end(systemd: Machine) -> None:
    (systemd.path / "live").write_text("echo@1.service loaded active running Echo\n")
    earlier = {
        "started": 1767225600.125,
        "step": "drain",
        "outcome": None,
        "from_generation": 1,
        "to_generation": 2,
        "progress": None,
    }
    systemd.set_services(service(draining=[earlier]))
    result = systemd.run("udpgrm_instances", {"services": ["echo"], "state": "ended"})
    assert result["msg"] == "udpgrm service: echo: a restart runs; wait for its end"
    assert systemctl_calls(systemd) == []


def test_the_end_of_a_service_leaves_no_state(systemd: Machine) -> None:
    state = systemd.path / "state"
    state.mkdir()
    names = ["echo.adopted", "echo.json", "echo.lock", "echo.release", "echo@1.json"]
    for name in [*names, "echo-2.json", "dns.json"]:
        (state / name).touch()
    task = {"services": ["echo"], "state": "ended"}
    expected = [str(state / name) for name in names]
    assert systemd.run("udpgrm_instances", task, check=True)["units"] == expected
    assert (state / "echo.json").exists()
    assert systemd.run("udpgrm_instances", task)["units"] == expected
    assert sorted(path.name for path in state.iterdir()) == ["dns.json", "echo-2.json"]
    assert systemd.run("udpgrm_instances", task)["changed"] is False


@pytest.mark.parametrize("umask", [0o022, 0o077])
@pytest.mark.parametrize("mode", ["0644", "0600"])
def test_files_have_their_modes_whatever_the_umask(
    machine: Machine, tmp_path: pathlib.Path, umask: int, mode: str
) -> None:
    place = tmp_path / "made"
    files = [{"path": str(place / name), "content": f"{name}\n"} for name in ("a", "b")]
    task: dict[str, t.Any] = {"directories": [str(place)], "files": files, "mode": mode}
    before = os.umask(umask)
    try:
        planned = machine.run("udpgrm_files", {**task, "files": []}, check=True)
        assert (planned["changed"], place.exists()) == (True, False)
        done = machine.run("udpgrm_files", task)
    finally:
        os.umask(before)
    assert done["paths"] == [str(place), str(place / "a"), str(place / "b")]
    assert place.stat().st_mode & 0o777 == 0o755
    assert (place / "a").stat().st_mode & 0o777 == int(mode, 8)
    assert machine.run("udpgrm_files", task)["changed"] is False
    (place / "a").chmod(0o640)
    (place / "b").write_text("c\n")
    repaired = machine.run("udpgrm_files", task)
    assert repaired["paths"] == [str(place / "a"), str(place / "b")]
    assert "# mode 0640" in repaired["diff"][0]["before"]
    assert machine.run("udpgrm_files", task)["changed"] is False


MODULES = "ansible_collections.udpgrm.fleet.plugins.modules"
#: Runs a module, and prints the modes that a file had while it had its new content.
WATCH = """
import os, runpy, sys
_, path, module = sys.argv
del sys.argv[1:]
modes = set()
def look(event, _):
    if event.startswith("os."):
        try:
            with os.fdopen(os.open(path, os.O_RDONLY)) as file:
                if file.read() == "secret":
                    modes.add(oct(os.fstat(file.fileno()).st_mode & 0o777))
        except FileNotFoundError:
            pass
sys.addaudithook(look)
try:
    runpy.run_module(module, run_name="__main__")
finally:
    look("os.end", ())
    print(*modes, file=sys.stderr)
"""


@pytest.mark.parametrize("existing", [None, 0o644])
def test_a_secret_is_readable_at_no_moment(
    machine: Machine, tmp_path: pathlib.Path, existing: int | None
) -> None:
    path = tmp_path / "environment" / "dns"
    path.parent.mkdir()
    if existing is not None:
        path.write_text("earlier")
        path.chmod(existing)
    task = {"files": [{"path": str(path), "content": "secret"}], "mode": "0600"}
    done = subprocess.run(
        [sys.executable, "-c", WATCH, str(path), f"{MODULES}.udpgrm_files"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": task}),
        text=True,
        capture_output=True,
        env=machine.environment,
        check=True,
    )
    assert json.loads(done.stdout)["changed"] is True
    assert done.stderr == "0o600\n"
    assert list(path.parent.iterdir()) == [path]


DPKG = """#!/bin/sh
echo "installed libbpf1"; echo "config-files udpgrm"; exit 1
"""
SHOW = """#!/bin/sh
[ "$*" = "show --property=UnitFileState,ActiveState -- a.service b.service c.service" ] || exit 1
printf 'ActiveState=active\nUnitFileState=enabled\n\n'
printf 'ActiveState=inactive\nUnitFileState=enabled\n\n'
printf 'ActiveState=inactive\nUnitFileState=\n'
"""


def test_what_is_there_of_an_installation(machine: Machine, tmp_path: pathlib.Path) -> None:
    for name, text in (("dpkg-query", DPKG), ("systemctl", SHOW)):
        (machine.path / name).write_text(text)
        (machine.path / name).chmod(0o755)
    tree = tmp_path / "lib"
    task: dict[str, t.Any] = {
        "packages": ["libbpf1", "python3-yaml", "udpgrm"],
        "links": [str(tree / "current"), str(tree / "no")],
        "units": ["a.service", "b.service", "c.service"],
        "tree": str(tree),
        "metrics_unit": str(tmp_path / "unit"),
    }
    result = machine.run("udpgrm_host_info", task)
    assert (result["readable"], result["links"], result["metrics_directory"]) == (False, {}, None)
    assert result["packages"] == ["libbpf1"]
    assert result["units"] == {"enabled": ["a.service", "b.service"], "active": ["a.service"]}
    mounts = pathlib.Path("/proc/self/mounts").read_text()
    assert result["bpffs"] == (" /sys/fs/bpf bpf " in mounts)
    (tree / "1").mkdir(parents=True)
    (tree / "1" / "file").touch()
    (tree / "1" / "program").touch()
    (tree / "current").symlink_to("1")
    (tmp_path / "unit").write_text("[Service]\nReadWritePaths=/var/metrics\n")
    for path, mode in ((tree, 0o755), (tree / "1", 0o755), (tree / "1" / "program", 0o755)):
        path.chmod(mode)
    for mode, readable in ((0o644, True), (0o640, False), (0o666, False), (0o644, True)):
        (tree / "1" / "file").chmod(mode)
        result = machine.run("udpgrm_host_info", task)
        assert result["readable"] is readable
    (tree / "1").chmod(0o750)
    result = machine.run("udpgrm_host_info", task)
    assert (result["readable"], result["links"]) == (False, {str(tree / "current"): "1"})
    assert result["metrics_directory"] == "/var/metrics"


def test_files_that_cannot_be_written(machine: Machine, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    task = {"directories": [str(tmp_path / "file" / "a")]}
    result = machine.run("udpgrm_files", task)
    assert result["msg"] == f"{tmp_path}/file/a: Not a directory"
