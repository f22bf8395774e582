# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Check the count of connected sockets in random schedules; a thousand of them in the soak."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings

from testing.host import Host
from tests.kernel.connections import schedules


@settings(
    max_examples=20,
    deadline=None,
    # a landing is evaluated by its change, with the same examples each time
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(acts=schedules.ACTS)
def test_the_count_is_what_ss_lists(host: Host, acts: list[schedules.Act]) -> None:
    schedules.run(host, acts)
