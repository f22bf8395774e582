# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Reboots hosts, one domain after the other, while clients use those that are not taken out.

    reboots.py --inventory FILE --report FILE -- ansible-playbook OPTIONS...

First nothing is done, in check mode; then three hosts are rebooted; then one whose client never
leaves is not.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from testbed import scenario, steady
from testbed.reboots import Reboots, boots

PORT = 4433
LIMIT_S = 600
HOSTS = ["fl1", "fl2", "fl3"]
DOMAINS = {"fl1": "a", "fl2": "a", "fl3": "b"}
STAYS = "fl5"


def reboots(reboot: Reboots, places: dict[str, str]) -> None:
    """Run the playbook three times."""
    before = boots([*HOSTS, STAYS])
    given = {"udpgrm_hosts": HOSTS, "udpgrm_batches": ["100%"], "udpgrm_max_domains": 1}
    options = [reboot.domains(DOMAINS)]
    message = "all 3 hosts would be rebooted"
    reboot.run("check mode", 0, Counter(planned=3), message, "--check", *options, **given)
    reboot.expect("it has rebooted no host", boots([*HOSTS, STAYS]) == before)
    message = "all 3 hosts rebooted and serving"
    reboot.run("three hosts, two domains", 0, Counter(rebooted=3), message, *options, **given)
    after = boots([*HOSTS, STAYS])
    reboot.expect("each has booted", all(after[name] != before[name] for name in HOSTS))
    with steady.client_that_stays(places[STAYS], PORT):
        message = f"{STAYS}: Wait until the clients have left: echo: not drained in "
        expected = Counter(failed=1, untouched=1)
        reboot.run("a client stays", 2, expected, message, udpgrm_hosts=[STAYS, "fl6"])
        reboot.expect("its host has not booted", boots([STAYS])[STAYS] == before[STAYS])
        reboot.expect("and is out of service", (reboot.out_of_service / STAYS).exists())
    (reboot.out_of_service / STAYS).unlink(missing_ok=True)


def work(given: scenario.Scenario) -> bool:
    """Reboot hosts under traffic."""
    with tempfile.TemporaryDirectory(prefix="udpgrm-reboots-") as directory:
        reboot = Reboots(given, Path(directory), LIMIT_S)
        with steady.traffic(given.places, PORT, reboot.out_of_service) as seen:
            reboots(reboot, given.places)
    # an instance of generation 0 or 1 comes with the boot; the others are those of before
    return steady.all_well(seen, lambda count: count > 0) and reboot.well


if __name__ == "__main__":
    sys.exit(scenario.run("reboots of hosts that are out of service", work))
