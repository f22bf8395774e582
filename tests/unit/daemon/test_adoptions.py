# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Adoptions are renewed each by itself: one that cannot be leaves the others alone."""

from __future__ import annotations

import errno
from pathlib import Path
from unittest import mock

import pytest

from udpgrm.daemon.adoptions import Adoptions
from udpgrm.kernel.descriptors import Unreachable
from udpgrm.state.adoptions import Adoption

FIRST, SECOND = (
    Adoption(cgroup, cgroup, 1, generation=1, application=0, directory=Path(f"/sys/{cgroup}"))
    for cgroup in (1, 2)
)


@pytest.fixture
def adoptions(monkeypatch: pytest.MonkeyPatch) -> Adoptions:
    """Return two adoptions, in the maps of a daemon."""
    monkeypatch.setattr("udpgrm.state.adoptions.all_of", lambda _: [FIRST, SECOND])
    return Adoptions(mock.Mock(), mock.Mock(), Path("/nowhere"), with_sendmsg=True)


def test_one_that_cannot_be_renewed(adoptions: Adoptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep its group from collection, and renew the next adoption."""
    seen = []

    def look(_: Adoptions, adoption: Adoption) -> tuple[Path, bool]:
        seen.append(adoption)
        if adoption == FIRST:
            raise Unreachable(errno.EAGAIN, "process 7 hangs in execve(2)")
        assert adoption.directory is not None
        return adoption.directory, True

    logged = mock.Mock()
    monkeypatch.setattr("udpgrm.log.problem", logged)
    monkeypatch.setattr(Adoptions, "_look_at", look)
    adoptions.reconcile()
    assert seen == [FIRST, SECOND]
    assert adoptions.holds(1, 1)
    assert adoptions.holds(2, 1)
    assert "/sys/1 is not adopted again yet: process 7 hangs" in logged.call_args.args[0]
