# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""``make bench-fleet``: what a rolling restart of many hosts takes, and of what.

Needs root, the packages of testbed/apt.txt, and Ansible on PATH. Leaves nothing behind
but the hosts' root tree, and Ansible's logs in build/bench-fleet.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.fleet import bare, systemd_hosts
from benchmarks.fleet.ansible import Ansible
from testing.processes import exit_status


def main() -> int:
    """Run both parts, or the one with hosts."""
    parser = argparse.ArgumentParser(prog="make bench-fleet", description=__doc__)
    parser.add_argument("--hosts", type=int, default=30, help="with systemd (%(default)s); 0: none")
    parser.add_argument("--bare", type=int, default=100, help="without it (%(default)s); 0: none")
    parser.add_argument(
        "--parts", type=int, default=12, help="of them with all parts (%(default)s)"
    )
    parser.add_argument("--drain", type=float, default=60.0, help="seconds a drain takes, about")
    arguments = parser.parse_args()
    begun = time.monotonic()

    def measure() -> bool:
        with tempfile.TemporaryDirectory(prefix="udpgrm-bench-fleet-") as directory:
            work = Path(directory)
            ansible = Ansible(work)
            ansible.install()
            if arguments.hosts:
                lines = systemd_hosts.measure(
                    ansible, work, arguments.hosts, arguments.drain, arguments.parts
                )
                print("\n".join(lines), end="\n\n", flush=True)
            if arguments.bare:
                print("\n".join(bare.measure(ansible, work, arguments.bare)), end="\n\n")
        print(f"{time.monotonic() - begun:.0f} s in all")
        return True

    return exit_status(measure)


if __name__ == "__main__":
    sys.exit(main())
