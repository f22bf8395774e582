# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""Keep secrets out of what a host gives to a support bundle."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible_collections.udpgrm.fleet.plugins.module_utils import _support
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import HostError

UNIT = """[Service]
Environment="TOKEN=a \\"long\\" secret"
Environment=SHORT=1
EnvironmentFile=-/etc/udpgrm/environment/dns
ExecStart=/usr/bin/dns
"""
FILE = """# comment
PASSWORD="hunter22"
EMPTY=
"""


def run(command: list[str]) -> tuple[int, str, str]:
    if command[:2] == ["systemctl", "cat"]:
        return 0, UNIT, ""
    if command[0] == "journalctl":
        return 0, 'login with hunter22 and a "long" secret, 1 try\n', ""
    if command == ["udpgrm", "doctor"]:
        return 1, "a socket is not steered\n", ""
    if command == ["udpgrm", "metrics"]:
        return 0, "x" * 600_000, ""
    return 0, f"{' '.join(command)}\n", ""


def read(path: str) -> str:
    if path.endswith("/environment/dns"):
        return FILE
    raise FileNotFoundError(2, "No such file or directory")


def test_texts_without_secrets() -> None:
    texts = _support.collect(run, read, ["dns"])
    assert texts["log-dns.txt"] == "login with [PASSWORD] and [TOKEN], 1 try\n"
    assert texts["log-udpgrm.txt"] == texts["log-dns.txt"]
    assert texts["doctor.txt"].startswith("a socket is not steered\nudpgrm doctor: exit status 1")
    assert texts["restart-dns.json"].endswith("No such file or directory\n")
    assert len(texts["metrics.txt"]) == _support.MOST_CHARACTERS
    assert not any("hunter22" in text for text in texts.values())


@pytest.mark.parametrize("name", ["../etc", "--all"])
def test_wrong_names(name: str) -> None:
    def refuse(command: list[str]) -> t.NoReturn:
        raise AssertionError(command)

    with pytest.raises(HostError):
        _support.collect(refuse, read, [name])


@pytest.mark.parametrize(
    "directive",
    [
        'Environment="USER=grace" "PASSWORD=hunter22"',
        "Environment=USER=grace PASSWORD=hunter22",
        "Environment='PASSWORD=hunter22' 'OTHER=say \\\n it'",
        'Environment=USER=grace \\\n  "PASSWORD=hunter22"',
        'Environment="PASSWORD=hunter22',
        "EnvironmentFile={directory}/dns-%i.env",
        "EnvironmentFile=-{directory}/*.env",
    ],
)
def test_environments_as_systemd_reads_them(directive: str, tmp_path: pathlib.Path) -> None:
    """Find secrets in several assignments, continued lines and files of instances."""
    (tmp_path / "dns-7.env").write_text("PASSWORD=hunter22\n")
    unit = f"[Service]\n{directive.format(directory=tmp_path)}\n"

    def run(command: list[str]) -> tuple[int, str, str]:
        return 0, unit if command[:2] == ["systemctl", "cat"] else "login with hunter22\n", ""

    texts = _support.collect(run, lambda path: pathlib.Path(path).read_text(), ["dns"])
    assert texts["log-dns.txt"] == "login with [PASSWORD]\n"
