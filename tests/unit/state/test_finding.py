# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The group at an address is the one in a network namespace, and ambiguous on several devices."""

from __future__ import annotations

from typing import cast

import pytest

from tests.unit.state.test_newest import group
from udpgrm.state import finding
from udpgrm.state.view import GroupView, Viewer

WHERE = "192.0.2.1:443"
HERE, ELSEWHERE = 1, 9


class FakeViewer:
    """Has the groups at one address."""

    def __init__(self, *groups: GroupView) -> None:
        self._groups = groups

    def groups(self, only: str, with_flows: bool) -> list[GroupView]:
        """Return them all, as the address is theirs."""
        assert only == WHERE
        return list(self._groups)


def viewer(*groups: GroupView) -> Viewer:
    return cast(Viewer, FakeViewer(*groups))


def at(namespace: int, ifindex: int = 0) -> GroupView:
    return group([0], [])._replace(netns=namespace, ifindex=ifindex)


def test_only_the_namespaces_own() -> None:
    mine, other = at(HERE), at(ELSEWHERE)
    assert finding.find_group(viewer(other, mine), WHERE, HERE) is mine
    assert finding.find_groups(viewer(other, mine), WHERE, ELSEWHERE) == [other]
    assert finding.find_group(viewer(other), WHERE, HERE) is None


def test_several_on_different_devices() -> None:
    groups = at(HERE), at(HERE, ifindex=999_999)
    assert finding.find_groups(viewer(*groups), WHERE, HERE) == list(groups)
    with pytest.raises(finding.SeveralGroups) as caught:
        finding.find_group(viewer(*groups), WHERE, HERE)
    assert str(caught.value) == (
        "several groups at 192.0.2.1:443, on different devices: 192.0.2.1%999999:443, 192.0.2.1:443"
    )
