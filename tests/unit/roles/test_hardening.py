# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test the hardening of the role's units, as systemd rates it, and how an entry loosens it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

ROLE = Path(__file__).resolve().parents[3] / "roles" / "udpgrm"
DEFAULTS: dict[str, Any] = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
SERVICE = {
    "name": "edge",
    "exec_start": "/bin/true",
    "groups": [{"address": "0.0.0.0:53"}],
}


def render(template: str, **entry: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROLE / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["combine"] = lambda one, other: {**one, **other}
    return environment.get_template(template).render(
        **DEFAULTS, ansible_managed="", _udpgrm_service={**SERVICE, **entry}
    )


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize(
    ("template", "name", "most"),
    [
        ("udpgrm-resume.service.j2", "udpgrm-resume.service", 3.5),
        ("first.service.j2", "edge-first.service", 3.5),
        ("instance.service.j2", "edge@.service", 4.5),
    ],
)
def test_no_unit_is_open(tmp_path: Path, template: str, name: str, most: float) -> None:
    """Rate each unit: 0 is closed, 10 is open; without any directive each would have 9.6."""
    path = tmp_path / name
    path.write_text(render(template))
    command = [
        "systemd-analyze",
        "security",
        "--offline=true",
        f"--threshold={most * 10:.0f}",
        str(path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1:] or done.stderr


def test_an_entry_opens_what_its_server_needs() -> None:
    closed = render("instance.service.j2").splitlines()
    assert "ProtectHome=read-only" in closed
    assert "NoNewPrivileges=true" in closed
    opened = render(
        "instance.service.j2",
        hardening={"ProtectHome": False, "NoNewPrivileges": "", "MemoryDenyWriteExecute": True},
    ).splitlines()
    assert "ProtectHome=false" in opened
    assert "MemoryDenyWriteExecute=true" in opened
    assert not [line for line in opened if line.startswith("NoNewPrivileges")]


@pytest.mark.parametrize("name", ["udpgrm-resume.service.j2", "first.service.j2"])
def test_commands_are_closed_like_the_daemon(name: str) -> None:
    """Give units of commands all the daemon's directives but PrivateNetwork=true."""
    daemon = {line for line in render("udpgrm.service.j2").splitlines() if "=true" in line}
    assert daemon - set(render(name).splitlines()) == {"PrivateNetwork=true"}
