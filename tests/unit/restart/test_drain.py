# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Drain policies against samples."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpgrm.restart.drain import Decision, Sample, Watcher
from udpgrm.services.definition import DrainUntil


def sample(
    at: float = 0.0,
    flows: Optional[int] = 5,
    quiet_s: Optional[float] = 0.0,
    sockets: int = 2,
    packets: int = 0,
    connected: int = 0,
) -> Sample:
    return Sample(at, sockets, flows, packets, quiet_s, connected)


@pytest.mark.parametrize(
    ("until", "looked", "decision"),
    [
        (DrainUntil(0, None), sample(flows=0), Decision.DRAINED),
        (DrainUntil(0, None), sample(flows=1), Decision.WAIT),
        (DrainUntil(3, None), sample(flows=3), Decision.DRAINED),
        (DrainUntil(0, 5), sample(flows=0, quiet_s=4.9), Decision.WAIT),
        (DrainUntil(0, 5), sample(flows=1, quiet_s=9), Decision.WAIT),
        (DrainUntil(0, 5), sample(flows=0, quiet_s=5), Decision.DRAINED),
        (DrainUntil(None, 5), sample(flows=7, quiet_s=5), Decision.DRAINED),
        (DrainUntil(None, 5), sample(flows=7, quiet_s=None), Decision.DRAINED),
        # nothing counts flows
        (DrainUntil(0, None), sample(flows=None, quiet_s=99), Decision.WAIT),
        (DrainUntil(0, 5), sample(flows=None, quiet_s=5), Decision.DRAINED),
        # no condition at all: wait for max_s
        (DrainUntil(None, None), sample(flows=0, quiet_s=99), Decision.WAIT),
        # it has ended by itself
        (DrainUntil(0, 5), sample(sockets=0), Decision.DRAINED),
        # what it has left is connected: flows of which no packet is seen
        (DrainUntil(0, None), sample(sockets=0, flows=1, connected=1), Decision.WAIT),
        (DrainUntil(None, 5), sample(quiet_s=9, connected=1), Decision.WAIT),
        (DrainUntil(3, 5), sample(flows=3, quiet_s=None, connected=1), Decision.WAIT),
        (DrainUntil(3, None), sample(flows=3, connected=3), Decision.DRAINED),
    ],
)
def test_policy(until: DrainUntil, looked: Sample, decision: Decision) -> None:
    assert Watcher(until, 300).decide(looked) == decision


@pytest.mark.parametrize(
    ("looked", "shortfall"),
    [
        (sample(flows=None), "it was not quiet after 10 s"),
        (sample(flows=3), "3 flows remained after 10 s"),
        (replace(sample(flows=3), flow_timeout=9), "3 flows remained after 10 s"),
        (
            replace(sample(flows=3), flow_timeout=125),
            "3 flows remained after 10 s: each lasts 125 s beyond its last packet (choose a longer "
            "drain.max_s, or a shorter flow_timeout)",
        ),
    ],
)
def test_what_the_time_was_too_short_for(looked: Sample, shortfall: str) -> None:
    drain = Watcher(DrainUntil(0, 5), 10)
    drain.decide(looked)
    assert drain.decide(replace(looked, at=10)) == Decision.TIMEOUT
    assert drain.shortfall() == shortfall


@pytest.mark.parametrize(
    ("until", "flows", "unseen", "doubts"),
    [
        (DrainUntil(0, None), 0, True, True),
        (DrainUntil(0, None), 0, False, False),
        (DrainUntil(3, None), 2, True, False),
        (DrainUntil(0, 5), 0, True, False),
    ],
)
def test_no_flows_of_a_server_that_no_hook_sees_send(
    until: DrainUntil, flows: int, unseen: bool, doubts: bool
) -> None:
    drain = Watcher(until, 10)
    assert drain.decide(replace(sample(flows=flows, quiet_s=9), unseen=unseen)) == Decision.DRAINED
    assert drain.doubt().startswith("no hook has seen it send" if doubts else "")
    assert bool(drain.doubt()) == doubts


def test_timeout_counts_from_the_first_look() -> None:
    drain = Watcher(DrainUntil(0, None), 10)
    assert drain.decide(sample(at=100)) == Decision.WAIT
    assert drain.decide(sample(at=109.9)) == Decision.WAIT
    assert drain.decide(sample(at=110)) == Decision.TIMEOUT
    assert drain.decide(sample(at=111, flows=0)) == Decision.DRAINED


def test_no_time_at_all() -> None:
    assert Watcher(DrainUntil(0, None), 0).decide(sample()) == Decision.TIMEOUT


def test_report() -> None:
    drain = Watcher(DrainUntil(10, None), 60)
    drain.decide(sample(at=50, flows=110, packets=1000))
    assert drain.report()["trend"] is None
    drain.decide(sample(at=60, flows=60, packets=3000, quiet_s=0.25))
    assert drain.report() == {
        "elapsed_s": 10,
        "max_s": 60,
        "sockets": 2,
        "flows": 60,
        "connected": 0,
        "connected_unknown": 0,
        "flows_at_start": 110,
        "flows_most": 110,
        "packets_per_s": 200,
        "quiet_s": 0.25,
        "trend": -5,
        "estimate_s": 10,
    }


def test_no_estimate_while_flows_grow() -> None:
    drain = Watcher(DrainUntil(0, None), 300)
    drain.decide(sample(at=0, flows=5))
    drain.decide(sample(at=2, flows=9))
    assert (drain.report()["trend"], drain.report()["estimate_s"]) == (2, None)
    drain.decide(sample(at=3, flows=7))
    assert (drain.report()["flows_at_start"], drain.report()["flows_most"]) == (5, 9)


def test_the_trend_drops_old_samples() -> None:
    drain = Watcher(DrainUntil(0, None), 300)
    drain.decide(sample(at=0, flows=1000))
    for at in range(1, 100):
        drain.decide(sample(at=at, flows=10))
    assert drain.report()["trend"] == 0


@given(
    st.lists(
        st.tuples(st.floats(0, 5), st.none() | st.integers(0, 9), st.none() | st.floats(0, 9)),
        min_size=1,
    ),
    st.none() | st.integers(0, 5),
    st.none() | st.floats(0, 5),
)
def test_every_drain_ends_by_max_s(
    steps: list[tuple[float, Optional[int], Optional[float]]],
    flows: Optional[int],
    quiet_s: Optional[float],
) -> None:
    drain = Watcher(DrainUntil(flows, quiet_s), 20)
    at = 0.0
    for pause, count, quiet in steps:
        decision = drain.decide(sample(at=at, flows=count, quiet_s=quiet))
        assert (decision is Decision.WAIT) <= (at < 20)
        drain.report()
        at += pause
