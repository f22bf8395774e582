# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""One version in every file that has one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools.set_version import PLACES, RELEASED, ROOT, set_version, version_of
from udpgrm.version import __version__

MODULE = "plugins/modules/udpgrm_info.py"
DOCUMENTED = (MODULE, "plugins/filter/misspelt.yml")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in (*PLACES, *DOCUMENTED, "changelogs/config.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", PLACES)
def test_here(name: str) -> None:
    assert version_of(ROOT, name) == __version__


def test_a_version_that_was_not_released(checkout: Path) -> None:
    set_version(checkout, "7.8.9")
    assert {version_of(checkout, name) for name in PLACES} == {"7.8.9"}
    for name in DOCUMENTED:
        text = (checkout / name).read_text()
        assert "version_added: 7.8.9\n" in text
        assert f"version_added: {__version__}\n" not in text


def test_a_version_that_was_released(checkout: Path) -> None:
    (checkout / RELEASED).write_text(f"ancestor: null\nreleases:\n  {__version__}:\n    changes:\n")
    set_version(checkout, "7.8.9")
    assert (checkout / MODULE).read_text() == (ROOT / MODULE).read_text()
    assert version_of(checkout, "galaxy.yml") == "7.8.9"
