# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Values of variables, as an inventory has them and as -e makes strings of them."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _variables


def read(name: str, value: t.Any) -> t.Any:
    """Return what a variable of a rollout means."""
    given = {"udpgrm_service": "dns", f"udpgrm_{name}": value}
    return _variables.settings(given, lambda found: found)[name]


@pytest.fixture(autouse=True)
def here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Return the directory that Ansible was started in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


PATHS = ("brake", "approval", "report", "support_bundle", "before_host")


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("value", ["false", "no", "No", "0", "off", "none", "", None, False, 0])
def test_no_file(name: str, value: t.Any) -> None:
    assert read(name, value) == ""


@pytest.mark.parametrize("value", ["true", "yes", "1", "on", True, 1])
def test_a_file_that_true_does_not_name(here: pathlib.Path, value: t.Any) -> None:
    for name in ("brake", "approval", "before_host"):
        with pytest.raises(ValueError, match=f"udpgrm_{name}: it is the path of a file"):
            read(name, value)
    assert read("report", value) == str(here / "udpgrm-report.html")
    assert read("support_bundle", value).startswith(str(here))


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("value", [["a"], {"a": 1}, 3, 1.5])
def test_what_is_no_path(name: str, value: t.Any) -> None:
    with pytest.raises(ValueError, match="it is the path of a file"):
        read(name, value)


@pytest.mark.parametrize(
    "name, value, meaning",
    [
        ("batches", "3", [3]),
        ("batches", " 3 ", [3]),
        ("batches", "10%", ["10%"]),
        ("batches", "[1, 10%]", [1, "10%"]),
        ("max_failures", "3", 3),
        ("max_failures", "0", 0),
        ("max_domains", "", None),
        ("max_domains", "0", 0),
        ("max_error_share", "1", 1.0),
        ("expedite", "false", False),
        ("expedite", "no", False),
        ("expedite", "0", False),
        ("expedite", "yes", True),
        ("release", 2, "2"),
        ("release", "1.10", "1.10"),
        ("release", "", None),
        ("gates", "[{command: [uptime]}]", ["uptime"]),
        ("gates", "false", []),
        ("windows", "Mon-Fri 22:00-04:00", ["Mon-Fri 22:00-04:00"]),
        ("webhook_headers", "{X: y}", {"X": "y"}),
    ],
)
def test_strings_are_understood(name: str, value: t.Any, meaning: t.Any) -> None:
    found = read(name, value)
    if name == "gates":
        found = [gate.name for gate in found]
    if name == "windows":
        found = [window.text for window in found]
    assert (found, type(found)) == (meaning, type(meaning))


@pytest.mark.parametrize(
    "name, value",
    [
        # YAML has other numbers than people
        ("batches", "010"),
        ("batches", "1:30"),
        ("batches", "1_0"),
        ("batches", "a,b"),
        ("batches", "false"),
        ("max_failures", " 3 "),
        ("max_failures", "10%"),
        ("max_failures", "false"),
        ("max_failures", ""),
        ("bake", None),
        ("bake", True),
        # per cent, of which nothing would be too much
        ("max_error_share", "5"),
        ("max_error_share", "10%"),
        ("expedite", ""),
        ("expedite", None),
        ("expedite", " 3 "),
        ("expedite", "[a, b]"),
        ("expedite", []),
        # another release than the one that was written
        ("release", 1.10),
        ("release", True),
        ("release", ["2"]),
        ("gates", "true"),
        ("gates", "a,b"),
        ("windows", "true"),
        ("windows", "3"),
        ("on_stop", "false"),
        ("on_stop", None),
        ("webhook", True),
        ("webhook", "false"),
        ("webhook_headers", "a,b"),
    ],
)
def test_what_is_wrong_is_refused(name: str, value: t.Any) -> None:
    with pytest.raises(ValueError, match=f"udpgrm_{name}: "):
        read(name, value)


@pytest.mark.parametrize("value", ["a,b", "false", "0", "[a, 3]", " 3 ", True, 0])
def test_wrong_names_of_services(value: t.Any) -> None:
    with pytest.raises(ValueError, match="udpgrm_services_to_restart: it is a list of names"):
        _variables.settings({"udpgrm_services_to_restart": value}, lambda found: found)
