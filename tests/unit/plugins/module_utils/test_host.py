# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import Host, HostError

from ..fake_host import FakeHost, group


def test_read_asks_for_json() -> None:
    fake = FakeHost(group("0.0.0.0:4433", 1, [1]))
    assert [g["address"] for g in Host(fake).read()["groups"]] == ["0.0.0.0:4433"]
    assert fake.calls == [["list", "--json"]]


def test_error_is_the_hosts_line() -> None:
    with pytest.raises(HostError, match=r"^udpgrm delete: no group at 192\.0\.2\.1:443$"):
        Host(FakeHost()).delete("192.0.2.1:443")


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
        Host(lambda *_: answer).read()


@pytest.mark.parametrize(
    "call",
    [
        lambda host, text: host.read(text),
        lambda host, text: host.delete(text),
        lambda host, text: host.probe(text, 1, 1),
        lambda host, text: host.set_working_gen(text, "newest", 0, False),
        lambda host, text: host.drain(text, 1, 0, {}, 1),
    ],
)
def test_no_address_is_taken_for_an_option(call: t.Callable[[Host, str], object]) -> None:
    fake = FakeHost()
    with pytest.raises(HostError, match=r"^not an address: '--force:1'$"):
        call(Host(fake), "--force:1")
    assert fake.calls == []
