# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The units of packages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from distribution import units
from udpgrm import config
from udpgrm.state.layout import Limits

TEXTS = units.rendered()


def test_the_configuration_names_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "udpgrm.conf"
    path.write_text(TEXTS["udpgrm.conf"])
    assert config.load(str(path), required=True) == Limits()


def test_an_upgrade_replaces_no_file_of_the_operator() -> None:
    control = (units.HERE / "debian/rules").read_text()
    assert "etc/udpgrm/udpgrm.conf" not in control


@pytest.mark.parametrize("name", units.UNITS)
def test_units_say_how_to_change_them(name: str) -> None:
    assert "systemctl edit" in TEXTS[name]
    assert "{{" not in TEXTS[name]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", [name for name in units.UNITS if name.endswith(".service")])
def test_no_unit_is_open(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(TEXTS[name])
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=35", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1:] or done.stderr
