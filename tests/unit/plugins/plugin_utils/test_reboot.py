# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

"""The drains of a host before its reboot, the return of its services, and their probes."""

from __future__ import annotations

import types
import typing as t

import pytest
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _reboot

from ..fake_host import sample


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sleeping be all that takes time."""
    now = [1000.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    fake = types.SimpleNamespace(monotonic=lambda: now[0], time=lambda: now[0], sleep=sleep)
    monkeypatch.setattr(_reboot, "time", fake)


POLICY = sample("status")["services"][0]["drain"]


def service(
    name: str = "dns",
    flows: int | None = 0,
    quiet: float | None = 60.0,
    policy: dict[str, t.Any] = POLICY,
    **more: t.Any,
) -> dict[str, t.Any]:
    generation = {
        "generation": 2,
        "sockets": 2,
        "expected_sockets": 2,
        "flows": flows,
        "quiet_s": quiet,
        **more,
    }
    group = {"working_generation": 2, "generations": [generation]}
    return {"name": name, "restart": None, "drain": policy, "groups": [group]}


def reader(*answers: t.Sequence[dict[str, t.Any]]) -> t.Callable[[], dict[str, t.Any]]:
    """Return a host that has these services, one answer after the other."""
    left = list(answers)
    return lambda: {"services": left.pop(0) if len(left) > 1 else left[0]}


@pytest.mark.parametrize(
    ("seen", "until", "drained"),
    [
        (service(), {}, True),
        (service(flows=1), {}, False),
        (service(flows=1), {"flows": 1}, True),
        (service(flows=9), {"flows": None}, True),
        (service(quiet=4.9), {}, False),
        (service(quiet=4.9), {"quiet_s": None}, True),
        # never a packet
        (service(quiet=None), {}, True),
        # of a dissector that counts none, only the packets tell
        (service(flows=None), {}, True),
        (service(flows=None, quiet=1.0), {}, False),
        (service(flows=None), {"quiet_s": None}, False),
        (service(flows=None), {"flows": None}, True),
        # an instance that has ended
        (service(flows=7, sockets=0), {}, True),
    ],
)
def test_a_service_has_drained_by_its_own_policy(
    seen: dict[str, t.Any], until: dict[str, t.Any], drained: bool
) -> None:
    seen["drain"] = {**POLICY, "until": {**POLICY["until"], **until}}
    assert _reboot.has_drained(seen) is drained


def test_a_drain_lasts_until_the_last_service_has_drained() -> None:
    answers = [[service("dns", 3), service("quic", 8)], [service("dns", 0), service("quic", 1)]]
    read = reader(*answers, [service("dns", 0), service("quic", 0)])
    found = _reboot.drain(read, "fl1", check=False)
    assert found["figures"] == {"drain_s": 10.0, "flows_carried": 11, "flows_lost": 0}


def test_losses_of_uncounted_flows_are_unknown() -> None:
    read = reader([service("dns", 3)], [service("dns", 0), service("quic", None)])
    found = _reboot.drain(read, "fl1", check=False)
    assert found["figures"] == {"drain_s": 5.0, "flows_carried": None, "flows_lost": None}


def test_a_drain_whose_time_is_over_cuts_off_or_fails() -> None:
    for how, expected in (("stop", None), ("fail", "dns: not drained in 20 s"), ("keep", "dns")):
        policy = {**POLICY, "max_s": 20.0, "on_timeout": how}
        read = reader([service(flows=3, policy=policy)])
        found = _reboot.drain(read, "fl1", check=False)
        if expected is None:
            assert found["figures"] == {"drain_s": 20.0, "flows_carried": 0, "flows_lost": 3}
        else:
            assert found["failed"] and expected in found["msg"]
    assert _reboot.drain(read, "fl1", check=True)["figures"]["drain_s"] == 0


def test_a_drain_that_cannot_be_seen_fails() -> None:
    found = _reboot.drain(lambda: {"unreachable": True, "msg": "no route"}, "fl1", False)
    assert found == {"failed": True, "msg": "no route"}


def test_services_are_waited_for_after_the_reboot() -> None:
    drained = {"ended": 980.0, "figures": {"drain_s": 1.0, "flows_carried": 2, "flows_lost": 0}}
    # one socket of two, then both; "other" did not serve before
    read = reader([service(sockets=1), service("other", sockets=0)], [service()])
    found = _reboot.serve(read, ["dns"], drained)
    assert (found["rebooted"], found["figures"]["switch_s"]) == (True, 25.0)
    found = _reboot.serve(reader([service(sockets=0)]), ["dns"], drained)
    assert found == {"failed": True, "msg": "dns: not serving, 300 s later"}
    found = _reboot.serve(lambda: {"failed": True, "msg": "no daemon"}, ["dns"], drained)
    assert found == {"failed": True, "msg": "dns: no daemon, 300 s later"}


def test_probes_of_services_that_served() -> None:
    services = [
        {
            "name": "dns",
            "groups": [
                {"address": "0.0.0.0:53"},
                {"address": "192.0.2.1:53", "protocol": "tcp"},
                {"address": "[::1%eth0]:53"},
            ],
            "probes": [{"type": "dns", "name": "a.example."}, {"type": "quic", "from": "other"}],
        },
        {"name": "gone", "groups": [{"address": "0.0.0.0:1"}], "probes": [{"type": "echo"}]},
        {
            "name": "game",
            "groups": [{"address": "0.0.0.0:7"}, {"address": "0.0.0.0:7", "protocol": "tcp"}],
            "probes": [{"type": "raw", "payload": "0016"}, {"type": "connect"}],
        },
    ]
    at = "--at=192.0.2.9"
    found = _reboot.probes(services, ["dns", "game"], "192.0.2.9")
    assert [(name, arguments[2:-1]) for name, arguments in found] == [
        ("dns", ["--type=dns", "0.0.0.0:53", at, 'name="a.example."']),
        ("dns", ["--type=dns", "192.0.2.1:53/tcp", at, 'name="a.example."']),
        ("dns", ["--type=dns", "[::1%eth0]:53", at, 'name="a.example."']),
        ("game", ["--type=raw", "0.0.0.0:7", at, 'payload="0016"']),
        ("game", ["--type=connect", "0.0.0.0:7/tcp", at]),
    ]
