# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

from __future__ import annotations

import dataclasses
import time

import pytest
from ansible_collections.udpgrm.fleet.plugins.module_utils._group import (
    Outcome,
    Wanted,
    apply,
    parse_generation,
)
from ansible_collections.udpgrm.fleet.plugins.module_utils._host import Host, HostError

from ..fake_host import FLOW, FakeHost, group

ADDRESS = "0.0.0.0:4433"
PRESENT = Wanted(ADDRESS, present=True, application=0, dissector={}, working_gen=None)
ABSENT = dataclasses.replace(PRESENT, present=False)


def run(fake: FakeHost, wanted: Wanted, check: bool = False) -> Outcome:
    return apply(Host(fake), wanted, check)


def state(working_gen: int) -> dict[str, object]:
    return {"state": "present", "application": 0, "dissector": FLOW, "working_gen": working_gen}


@pytest.mark.parametrize("wanted", ["2", "newest"])
def test_working_generation(wanted: str) -> None:
    fake = FakeHost(group(ADDRESS, 1, [1, 2]))
    task = dataclasses.replace(PRESENT, working_gen=wanted)
    start = time.time()
    predicted = run(fake, task, check=True)
    assert fake.changes == []
    done = run(fake, task)
    for outcome in predicted, done:
        assert (outcome.changed, outcome.before, outcome.after) == (True, state(1), state(2))
        assert outcome.started_at is not None and outcome.finished_at is not None
        assert start <= outcome.started_at <= outcome.finished_at <= time.time()
    assert fake.changes == [["working-gen", ADDRESS, wanted, "--app", "0", "--json"]]
    again = run(fake, task)
    assert (again.changed, again.before, again.after) == (False, state(2), state(2))


@pytest.mark.parametrize("task", [dataclasses.replace(PRESENT, working_gen="2"), ABSENT])
def test_address_is_the_hosts_however_it_is_written(task: Wanted) -> None:
    fake = FakeHost(group("192.0.2.1:53", 1, [1, 2]))
    outcome = run(fake, dataclasses.replace(task, address="[::FFFF:192.0.2.1]:053"))
    assert (outcome.changed, outcome.address) == (True, "192.0.2.1:53")


@pytest.mark.parametrize("check", [False, True])
def test_dead_generation_is_refused(check: bool) -> None:
    fake = FakeHost(group(ADDRESS, 1, [1]))
    with pytest.raises(HostError, match=r"generation 2 of 0\.0\.0\.0:4433 has no living socket"):
        run(fake, dataclasses.replace(PRESENT, working_gen="2"), check)
    assert fake.groups[0]["applications"][0]["working_generation"] == 1


def test_present_alone_changes_nothing() -> None:
    fake = FakeHost(group(ADDRESS, 1, [1, 2]))
    outcome = run(fake, PRESENT)
    assert outcome == Outcome(ADDRESS, False, state(1), state(1))
    assert fake.calls == [["list", ADDRESS, "--json"]]


@pytest.mark.parametrize("check", [False, True])
def test_present_without_a_group(check: bool) -> None:
    fake = FakeHost(group("0.0.0.0:4434", 1, [1]))
    with pytest.raises(HostError, match=r"^no group at 0\.0\.0\.0:4433: ") as caught:
        run(fake, dataclasses.replace(PRESENT, working_gen="newest"), check)
    assert "\n" not in str(caught.value)
    assert fake.changes == []


@pytest.mark.parametrize("check", [False, True])
def test_absent(check: bool) -> None:
    fake = FakeHost(group(ADDRESS, 1, [1]))
    assert run(fake, ABSENT, check) == Outcome(ADDRESS, True, state(1), {"state": "absent"})
    assert fake.changes == ([] if check else [["delete", ADDRESS, "--json"]])


def test_absent_again() -> None:
    fake = FakeHost()
    assert run(fake, ABSENT) == Outcome(ADDRESS, False, {"state": "absent"}, {"state": "absent"})
    assert fake.changes == []


def test_dissector_that_fits() -> None:
    fake = FakeHost(group(ADDRESS, 1, [1]))
    assert not run(
        fake, dataclasses.replace(PRESENT, dissector={"type": "flow", "flow_timeout": 125})
    ).changed


def test_dissector_mismatch_names_fields_and_changes_nothing() -> None:
    fake = FakeHost(group(ADDRESS, 1, [1, 2]))
    task = dataclasses.replace(
        PRESENT, dissector={"type": "noop", "flow_timeout": 5, "label": ""}, working_gen="2"
    )
    with pytest.raises(HostError) as caught:
        run(fake, task)
    assert str(caught.value) == (
        "the group at 0.0.0.0:4433 has another dissector: "
        "flow_timeout: expected 5, found 125; type: expected 'noop', found 'flow'"
    )
    assert fake.changes == []


@pytest.mark.parametrize("task", [dataclasses.replace(PRESENT, working_gen="1"), ABSENT])
def test_ambiguous_address(task: Wanted) -> None:
    fake = FakeHost(group(ADDRESS, 0, [1]), group(ADDRESS, 0, [1], ifindex=2))
    with pytest.raises(HostError, match="2 groups have the address"):
        run(fake, task)
    assert fake.changes == []


@pytest.mark.parametrize("task", [dataclasses.replace(PRESENT, working_gen="1"), ABSENT])
def test_unknown_application(task: Wanted) -> None:
    fake = FakeHost(group(ADDRESS, 0, [1]))
    with pytest.raises(HostError, match=r"the group at 0\.0\.0\.0:4433 has no application 3"):
        run(fake, dataclasses.replace(task, application=3))
    assert fake.changes == []


@pytest.mark.parametrize(
    "text, plain", [("newest", "newest"), ("0", "0"), ("007", "7"), ("4294967294", "4294967294")]
)
def test_generation(text: str, plain: str) -> None:
    assert parse_generation(text) == plain


@pytest.mark.parametrize(
    "text", ["", "-1", "1.0", "4294967295", "Newest", "oldest", " 1", "٣", "--force"]
)
def test_not_a_generation(text: str) -> None:
    with pytest.raises(ValueError, match="not a generation: "):
        parse_generation(text)
