# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Programs of an earlier daemon are replaced, each group by itself."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from udpgrm import abi
from udpgrm.abi import GroupState
from udpgrm.daemon.steering import Steering

GROUPS = [1, 2, 3]


@pytest.fixture
def duplicates() -> Iterator[dict[int, tuple[int, int]]]:
    """Yield a duplicate of each group's socket, as it is found in a process."""
    found = {1000 + group_id: (1, os.open(os.devnull, os.O_RDONLY)) for group_id in GROUPS}
    yield found
    for _, fd in found.values():
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.close(fd)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, duplicates: dict[int, tuple[int, int]]) -> mock.Mock:
    """Return the search for these sockets."""
    search = mock.Mock(return_value=duplicates)
    monkeypatch.setattr("udpgrm.state.holders.duplicates", search)
    monkeypatch.setattr("udpgrm.daemon.steering.digest_of", lambda _: 1)
    monkeypatch.setattr(Steering, "_socket_of", lambda _, group_id: 1000 + group_id)
    return search


def outdated() -> Steering:
    """Three live groups of another daemon."""
    maps: Any = SimpleNamespace(
        groups_in=lambda *_: GROUPS,
        group=lambda _: abi.Group(state=GroupState.LIVE),
        dissector=lambda _: abi.Dissector(),
    )
    return Steering(maps, mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock(), shared=False)


@pytest.mark.parametrize(("number", "asked_again"), [(errno.ENOMEM, [2]), (errno.EPERM, [])])
def test_one_that_cannot_be_replaced(
    monkeypatch: pytest.MonkeyPatch, found: mock.Mock, number: int, asked_again: list[int]
) -> None:
    """Replace the other groups' programs, and this one's once the machine has room."""

    def ensure(_: Steering, group_id: int, group: abi.Group) -> bool:
        if group_id == 2:
            raise OSError(number, os.strerror(number))
        return True

    attached = mock.Mock()
    monkeypatch.setattr(Steering, "ensure", ensure)
    monkeypatch.setattr(Steering, "attach", attached)
    daemon = outdated()
    daemon.replace_outdated()
    assert [call.args[0] for call in attached.call_args_list] == [1, 3]
    found.return_value = {}
    daemon.replace_outdated()
    assert found.call_args.args[1] == {1000 + group_id for group_id in asked_again}


def test_no_descriptor_for_the_search(
    monkeypatch: pytest.MonkeyPatch, duplicates: dict[int, tuple[int, int]], found: mock.Mock
) -> None:
    """Search again after a search that had no descriptor."""
    found.side_effect = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    daemon = outdated()
    with pytest.raises(OSError, match="Too many open files"):
        daemon.replace_outdated()
    found.side_effect = None
    monkeypatch.setattr(Steering, "ensure", lambda *_: True)
    attached = mock.Mock()
    monkeypatch.setattr(Steering, "attach", attached)
    daemon.replace_outdated()
    assert [call.args[0] for call in attached.call_args_list] == GROUPS
