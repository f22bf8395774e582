# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors

from __future__ import annotations

from ansible_collections.udpgrm.fleet.plugins.module_utils._service import Restart, measure

from ..fake_services import GROUP, METRICS

CONFLICTS = 20


def test_an_answer_by_another_socket_of_the_generation_has_not_moved() -> None:
    group = {**GROUP, "metrics": {**METRICS, "tx_flow_update_conflict": CONFLICTS}}
    later = {**GROUP, "metrics": None, "crossed": None}  # an address without a group yet
    for crossed in (0, 3):
        found = measure(Restart("edge", None, [{**group, "crossed": crossed}, later]))
        assert (found["moved"], found["processed"]) == (crossed, METRICS["rx_processed_total"])
