# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Reboots two machines with their own kernels, one after the other, under traffic.

    reboots.py --inventory FILE --report FILE -- ansible-playbook OPTIONS...

Clients use the machine that is not taken out. Each is probed by the other before it is back.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from testbed import scenario, steady
from testbed.reboots import Reboots, boots

PORT = 4433
# seconds, as the machines may be emulated
LIMIT_S = 2400


def work(given: scenario.Scenario) -> bool:
    """Reboot the machines under traffic."""
    with tempfile.TemporaryDirectory(prefix="udpgrm-reboots-") as directory:
        reboot = Reboots(given, Path(directory), LIMIT_S)
        before = boots(given.places)
        with steady.traffic(given.places, PORT, reboot.out_of_service) as seen:
            message = "all 2 hosts rebooted and serving"
            reboot.run("one after the other", 0, Counter(rebooted=2), message)
        after = boots(given.places)
        reboot.expect("each has booted", all(after[name] != before[name] for name in before))
    return steady.all_well(seen, lambda count: count > 0) and reboot.well


if __name__ == "__main__":
    sys.exit(scenario.run("reboots of machines that are out of service", work))
