# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Find the cgroup that the hooks are attached to by default."""

from __future__ import annotations

from pathlib import Path

import pytest

from udpgrm.kernel import cgroups


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Stand-ins of the usual mount points, in their order."""
    assert cgroups.ROOTS == ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
    made = [tmp_path / "unified", tmp_path / "cgroup"]
    monkeypatch.setattr(cgroups, "ROOTS", [str(path) for path in made])
    return made


@pytest.mark.parametrize(("mounted", "expected"), [((0, 1), 0), ((0,), 0), ((1,), 1)])
def test_the_first_that_is_version_2(
    roots: list[Path], mounted: tuple[int, ...], expected: int
) -> None:
    for number in mounted:
        roots[number].mkdir()
        (roots[number] / "cgroup.controllers").touch()
    assert cgroups.default_root() == roots[expected]


def test_version_1_is_none(roots: list[Path]) -> None:
    for path in roots:
        path.mkdir()
    with pytest.raises(FileNotFoundError, match="no cgroup2 at"):
        cgroups.default_root()
