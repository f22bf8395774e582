# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Every program loads, and the verifier follows no more instructions of it than it did."""

from __future__ import annotations

import pytest

from tools.measure_programs import measured
from udpgrm.build import sources
from udpgrm.dissectors import kinds

#: A quarter more than Linux 6.18 follows. What a group loads itself is to stay far below 6,000,
#: except a search through text.
MOST = {
    "bind4": 330,
    "bind6": 360,
    "post_bind4": 960,
    "post_bind6": 980,
    "connect4": 63_000,
    "connect6": 63_000,
    "release": 57_000,
    "getsockopt": 6_900,
    "setsockopt": 170_000,
    "sendmsg4": 29_000,
    "sendmsg6": 29_000,
    "egress": 165_000,
    "steer_search": 11_500,
    "steer_another": 2_600,
    "steer_flow": 1_400,
    "steer_cbpf": 1_100,
    "steer_bespoke": 1_400,
    "steer_noop": 700,
    "steer_radius": 8_700,
    "steer_sip": 50_000,
    "quic_keys": 112_000,
    "quic_decrypt": 242_000,
    "quic_name": 251_000,
    "quic_choose": 2_800,
}


@pytest.mark.usefixtures("cache")
def test_verified_instructions() -> None:
    costs = {cost.name: cost.verified for cost in measured()}
    assert costs.keys() == MOST.keys()
    assert {name: count for name, count in costs.items() if count > MOST[name]} == {}
    assert {kind.name for kind in kinds.BUILT_IN} <= {name.removeprefix("steer_") for name in costs}
    assert {hook.name for hook in sources.HOOKS} <= costs.keys()
