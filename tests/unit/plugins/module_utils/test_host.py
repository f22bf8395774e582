# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

from __future__ import annotations

import pytest
from ansible_collections.udpgrm.fleet.plugins.module_utils._address import parse_address
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import Host, HostError, groups_at

from ..fake_host import FakeHost, group


def test_read_asks_for_json() -> None:
    fake = FakeHost(group("0.0.0.0:4433", 1, [1]))
    assert [g["address"] for g in Host(fake).read()["groups"]] == ["0.0.0.0:4433"]
    assert fake.calls == [["list", "--json"]]


def test_error_is_the_hosts_line() -> None:
    with pytest.raises(HostError, match=r"^udpgrm delete: no group at 192\.0\.2\.1:443$"):
        Host(FakeHost()).delete(parse_address("192.0.2.1:443"))


@pytest.mark.parametrize(
    "answer, message",
    [
        ((255, "", ""), "exit status 255"),
        ((0, "", ""), "did not print a JSON object"),
        ((0, "Traceback", ""), "did not print a JSON object: 'Traceback'"),
        ((0, "[]", ""), "did not print a JSON object"),
        ((0, '{"schema": 2}', ""), "speaks schema 2, this collection needs 1"),
        ((0, "{}", ""), "speaks schema None"),
    ],
)
def test_other_answers_are_errors(answer: tuple[int, str, str], message: str) -> None:
    with pytest.raises(HostError, match=message):
        Host(lambda arguments: answer).read()


def test_groups_at_compares_addresses_not_text() -> None:
    one, two, other = (
        group("[2001:db8::1]:53", 0, []),
        group("192.0.2.1:53", 0, []),
        group("192.0.2.1:54", 0, []),
    )
    wanted = [parse_address("192.0.2.1:53"), parse_address("[2001:db8:0:0::1]:53")]
    assert groups_at({"groups": [one, other, two]}, wanted) == [one, two]
    assert groups_at({"groups": [one]}, []) == []
