# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Test the findings that doctor makes of facts."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpgrm.cli.doctor import text
from udpgrm.doctor.evaluate import evaluate, is_waiting
from udpgrm.doctor.facts import Diagnosis, Group, Host, Socket, Unreachable
from udpgrm.doctor.host import about_host, concerns, hooked_ancestor

ADDRESS = "192.0.2.1:443"
GROUP = Group(
    group_id=3,
    address=ADDRESS,
    family=socket.AF_INET,
    netns=1,
    ifindex=0,
    uid=0,
    has_program=True,
    max_apps=1,
    working=(2,),
    alive={2: 1, 1: 1},
)
HOST = Host("/sys/fs/bpf/udpgrm", True, 412, ("/sys/fs/cgroup/udpgrm.slice",), (GROUP,))
STEERED = Socket(
    pid=7,
    fd=5,
    cookie=11,
    family=socket.AF_INET,
    address=ADDRESS,
    reuseport=True,
    netns=1,
    cgroup="/sys/fs/cgroup/udpgrm.slice/echo@2.service",
    hooked=True,
    known=True,
    group_id=3,
    generation=2,
    index=0,
)
UNREGISTERED = replace(STEERED, group_id=None, generation=None, index=None)
PENDING = replace(STEERED, index=None)


def diagnose(sock: Socket, host: Host = HOST, *others: Socket) -> Diagnosis:
    return evaluate(host, [sock, *others])[0]


def code(found: Diagnosis) -> Optional[str]:
    assert len(found.findings) <= 1
    return found.findings[0].code if found.findings else None


def host_with(**values: Any) -> Host:
    """Return the host with these changes of a group."""
    return replace(HOST, groups=(replace(GROUP, **values),))


def test_steered() -> None:
    found = diagnose(STEERED)
    assert (found.steered, found.findings) == (True, [])
    assert text(found) == [f"pid 7 fd 5 {ADDRESS}: steered, generation 2 index 0"]


@pytest.mark.parametrize(
    "sock, host, expected",
    [
        (replace(UNREGISTERED, address=None, reuseport=False), HOST, "not_bound"),
        (replace(UNREGISTERED, reuseport=False, known=False), HOST, "no_reuseport"),
        (UNREGISTERED, Host("/x", False), "no_state"),
        (replace(UNREGISTERED, hooked=False), replace(HOST, cgroups=()), "no_hooks"),
        (replace(UNREGISTERED, hooked=False, cgroup="/sys/fs/cgroup/a"), HOST, "no_hooks"),
        (replace(UNREGISTERED, hooked=False), HOST, "made_outside"),
        (replace(UNREGISTERED, known=False), HOST, "bound_before_hooks"),
        (replace(UNREGISTERED, deleted=True), HOST, "group_deleted"),
        (replace(UNREGISTERED, netns=9), HOST, "other_namespace"),
        (replace(UNREGISTERED, uid=1000), host_with(uid=1001), "other_owner"),
        (replace(UNREGISTERED, uid=1000), host_with(uid=1000), "not_registered"),
        (replace(UNREGISTERED, uid=1000), host_with(uid=1, ifindex=4), "not_registered"),
        (STEERED, replace(HOST, groups=()), "group_deleted"),
        (UNREGISTERED, HOST, "not_registered"),
        (UNREGISTERED, replace(HOST, groups=()), "not_registered"),
        (replace(STEERED, generation=None, index=None), HOST, "not_registered"),
        (PENDING, HOST, "waiting"),
        (PENDING, replace(HOST, daemon=None), "daemon_down"),
        (replace(PENDING, full=True), HOST, "generation_full"),
        (replace(PENDING, full=True), replace(HOST, daemon=None), "generation_full"),
        (STEERED, host_with(has_program=False), "no_program"),
        (STEERED, host_with(foreign_program="program 7 (x)"), "foreign_program"),
        (PENDING, replace(HOST, daemon_lacks="EPERM: a right"), "daemon_lacks_right"),
        (replace(PENDING, locked=True), HOST, "filter_locked"),
        (replace(STEERED, entered=False), HOST, "not_in_group"),
        (replace(STEERED, entered=False), replace(HOST, daemon=None), "not_in_group"),
    ],
)
def test_not_steered(sock: Socket, host: Host, expected: str) -> None:
    found = diagnose(sock, host)
    assert (found.steered, code(found)) == (False, expected)
    assert found.findings[0].problem


@pytest.mark.parametrize(
    "sock, host, expected, problem",
    [
        (replace(STEERED, generation=1), HOST, "draining", False),
        (replace(STEERED, generation=3), HOST, "not_promoted", False),
        # the numbers wrap around
        (replace(STEERED, generation=2**32 - 1), HOST, "draining", False),
        (
            replace(STEERED, generation=1),
            host_with(working=(2**32 - 2,), alive={30: 1}),
            "not_promoted",
            False,
        ),
        (STEERED, host_with(working=(9,)), "working_generation_empty", True),
        (
            replace(STEERED, generation=1),
            host_with(alive={1: 1, 2: 0}),
            "working_generation_empty",
            True,
        ),
        # they share a slot
        (replace(STEERED, generation=34), HOST, None, None),
        (STEERED, replace(HOST, daemon=None), None, None),
        (replace(STEERED, hooked=False), HOST, "hooks_removed", True),
        *(
            (replace(STEERED, limits=frozenset({name})), HOST, f"limit_{name}", False)
            for name in ("gro", "errors", "transparent", "broadcast", "multicast", "tunnel")
        ),
        (STEERED, host_with(failing_loads=(0, 3)), "limit_filter", True),
        (replace(STEERED, send_programs=("x",)), HOST, None, None),
        (replace(STEERED, send_programs=("x",)), host_with(has_flows=True), "limit_sends", False),
        # made in the hooked cgroup, and its process has moved on
        (replace(STEERED, cgroup="/elsewhere"), HOST, None, None),
    ],
)
def test_steered_and_more(
    sock: Socket, host: Host, expected: Optional[str], problem: Optional[bool]
) -> None:
    found = diagnose(sock, host)
    assert (found.steered, code(found)) == (True, expected)
    assert [finding.problem for finding in found.findings] == ([] if problem is None else [problem])


def test_applications_have_working_generations_of_their_own() -> None:
    # 4 applications, 8 slots each: generation 2 of application 1 is slot 10
    host = host_with(max_apps=4, working=(0, 2, 0, 0), alive={10: 1})
    assert code(diagnose(replace(STEERED, application=1), host)) is None
    found = diagnose(replace(STEERED, application=0), host)
    assert code(found) == "working_generation_empty"
    assert f"udpgrm working-gen {ADDRESS} 2 --app=0" in found.findings[0].do


def test_other_groups_at_the_address() -> None:
    other = replace(GROUP, group_id=4, ifindex=7)
    elsewhere = replace(GROUP, group_id=5, netns=9)
    found = diagnose(STEERED, replace(HOST, groups=(GROUP, other, elsewhere)))
    assert (found.steered, code(found)) == (True, "two_groups")
    assert not found.findings[0].problem
    assert "of device 7" in found.findings[0].why
    assert code(diagnose(STEERED, replace(HOST, groups=(GROUP, elsewhere)))) is None


def test_two_groups_of_the_kernel() -> None:
    mapped = replace(STEERED, fd=6, cookie=12, family=10)
    assert [code(found) for found in evaluate(HOST, [STEERED, mapped])] == ["two_kernel_groups"] * 2
    other = replace(STEERED, fd=6, cookie=12, v6only=True)
    assert [code(found) for found in evaluate(HOST, [STEERED, other])] == ["two_kernel_groups"] * 2
    two = replace(HOST, groups=(GROUP, replace(GROUP, group_id=4, address="192.0.2.2:443")))
    assert code(diagnose(STEERED, two, replace(other, group_id=4))) is None
    assert code(diagnose(STEERED, HOST, replace(other, v6only=False))) is None


@pytest.mark.parametrize(
    "mine, other, problem",
    [
        ("[::]:443", "0.0.0.0:443", True),
        ("[::]:443", "192.0.2.1:443", False),
        ("[::]:443", "[2001:db8::1]:443", False),
        ("0.0.0.0:443", "192.0.2.1:443", False),
        ("0.0.0.0:443", "[::]:443", None),
        ("0.0.0.0:443", "192.0.2.1:444", None),
        ("192.0.2.1:443", "0.0.0.0:443", None),
    ],
)
def test_another_group_takes_packets(mine: str, other: str, problem: Optional[bool]) -> None:
    family = socket.AF_INET6 if mine.startswith("[") else socket.AF_INET
    sock = replace(STEERED, address=mine, family=family)
    groups = replace(GROUP, address=mine), replace(GROUP, group_id=4, address=other)
    found = diagnose(sock, replace(HOST, groups=groups)).findings
    assert [(item.code, item.problem) for item in found] == (
        [] if problem is None else [("shadowed", problem)]
    )
    elsewhere = groups[0], replace(groups[1], netns=9)
    assert diagnose(sock, replace(HOST, groups=elsewhere)).findings == []


def test_a_socket_of_ipv6_alone_loses_no_packet_of_ipv4() -> None:
    groups = replace(GROUP, address="[::]:443"), replace(GROUP, group_id=4, address="0.0.0.0:443")
    sock = replace(STEERED, address="[::]:443", family=socket.AF_INET6, v6only=True)
    assert diagnose(sock, replace(HOST, groups=groups)).findings == []


def test_advice_can_be_pasted() -> None:
    found = diagnose(replace(UNREGISTERED, known=False))
    assert found.findings[0].do.endswith(f"udpgrm enroll {ADDRESS} --cgroup={STEERED.cgroup}")


@pytest.mark.parametrize(
    "hooked, cgroup, expected",
    [
        (("/c/a",), "/c/a", "/c/a"),
        (("/c/a",), "/c/a/b", "/c/a"),
        (("/c/a", "/c/a/b"), "/c/a/b/d", "/c/a/b"),
        (("/c/a",), "/c/ab", None),
        (("/c/a/b",), "/c/a", None),
        (("/",), "/c/a", "/"),
        ((), "/c/a", None),
    ],
)
def test_ancestors(hooked: tuple[str, ...], cgroup: str, expected: Optional[str]) -> None:
    assert hooked_ancestor(replace(HOST, cgroups=hooked), cgroup) == expected


def test_servers_of_other_containers_do_not_matter() -> None:
    assert concerns(HOST, replace(STEERED, cgroup="/elsewhere"), netns=1)
    assert concerns(HOST, replace(STEERED, netns=9), netns=1)
    assert not concerns(HOST, replace(STEERED, netns=9, cgroup="/elsewhere"), netns=1)


def test_of_the_host() -> None:
    assert about_host(HOST, f"at {ADDRESS}", [STEERED]) == []
    assert [item.code for item in about_host(Host("/x", False), "", [])] == ["no_state"]
    assert about_host(Host("/x", False), "", [UNREGISTERED]) == []
    found = about_host(replace(HOST, cgroups=(), daemon=None), f"at {ADDRESS}", [])
    assert [(item.code, item.problem) for item in found] == [
        ("no_hooked_cgroup", True),
        ("daemon_down", False),
        ("no_sockets", True),
    ]
    [item] = about_host(replace(HOST, daemon=None), "", [PENDING])
    assert (item.code, item.problem) == ("daemon_down", True)
    [item] = about_host(HOST, "", [])
    assert (item.code, item.problem) == ("no_sockets", False)


def test_what_could_not_be_looked_at() -> None:
    hung = Unreachable("process 5 hangs", "/sys/fs/cgroup/user.slice")
    host = replace(HOST, daemon_lacks="EPERM: a right", unreachable=(hung,))
    found = about_host(host, f"at {ADDRESS}", [])
    # whether there is a socket is unknown
    assert [item.code for item in found] == ["unreachable", "daemon_lacks_right"]
    assert all(item.problem for item in found)


@pytest.mark.parametrize(
    ("cgroup", "problem"),
    [
        ("/sys/fs/cgroup/user.slice", False),
        ("/sys/fs/cgroup/udpgrm.slice/a.service", True),
        (None, True),  # it was asked for, or none can be read
    ],
)
def test_a_process_that_hangs_elsewhere_is_a_note(cgroup: Optional[str], problem: bool) -> None:
    host = replace(HOST, unreachable=(Unreachable("process 5 hangs", cgroup),))
    [item] = about_host(host, f"at {ADDRESS}", [STEERED])
    assert (item.code, item.problem) == ("unreachable", problem)


def test_only_a_registration_under_way_is_worth_a_second_look() -> None:
    assert is_waiting(evaluate(HOST, [STEERED, PENDING]))
    assert not is_waiting(evaluate(HOST, [STEERED, UNREGISTERED]))
    assert not is_waiting(evaluate(replace(HOST, daemon=None), [PENDING]))


flags = st.booleans()
sockets = st.builds(
    Socket,
    pid=st.just(7),
    fd=st.just(5),
    cookie=st.integers(1, 3),
    family=st.sampled_from([socket.AF_INET, socket.AF_INET6]),
    address=st.sampled_from([None, ADDRESS, "192.0.2.2:443"]),
    reuseport=flags,
    netns=st.integers(1, 2),
    cgroup=st.sampled_from([STEERED.cgroup, "/sys/fs/cgroup/other"]),
    ifindex=st.integers(0, 1),
    v6only=flags,
    hooked=flags,
    known=flags,
    uid=st.integers(0, 2),
    deleted=flags,
    group_id=st.sampled_from([None, 3]),
    generation=st.sampled_from([None, 0, 1, 2, 3, 2**32 - 2]),
    index=st.sampled_from([None, 0, 255]),
    full=flags,
    entered=flags,
    limits=st.frozensets(st.sampled_from(["gro", "errors"])),
)
hosts = st.builds(
    replace,
    st.just(HOST),
    has_state=flags,
    daemon=st.sampled_from([None, 412]),
    cgroups=st.sampled_from([(), HOST.cgroups]),
    daemon_lacks=st.sampled_from(["", "EPERM: a right"]),
    groups=st.builds(
        lambda **values: (replace(GROUP, **values),),
        has_program=flags,
        uid=st.integers(0, 2),
        netns=st.integers(1, 2),
        alive=st.sampled_from([{}, {1: 1}, {2: 1}]),
    ),
)


@given(hosts, st.lists(sockets, max_size=3))
def test_every_socket_is_steered_or_there_is_a_reason(host: Host, socks: list[Socket]) -> None:
    diagnoses = evaluate(host, socks)
    assert [found.socket for found in diagnoses] == socks
    for found in diagnoses:
        assert found.steered or any(item.problem for item in found.findings)
        if found.steered:
            assert found.socket.index is not None and found.socket.generation is not None
        for line in text(found):
            assert line == " ".join(line.split()), "not one line, or a stray blank"
        for item in found.findings:
            assert item.what and item.why and item.do
