# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The demo's traffic to many hosts: fewer flows for each, and old ones that stay for long.

python3 -m benchmarks.fleet.traffic --hold SECONDS (and the options of testing.traffic)
"""

from __future__ import annotations

import argparse
import sys

from testing import traffic

LONG_FLOWS = 4
SHORT_FLOWS_PER_SECOND = 1
INTERVAL = 1.0


def main() -> int:
    """Run the traffic of the command line."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--hold", type=float, required=True)
    arguments, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    traffic.HOLD = arguments.hold
    traffic.LONG_FLOWS = LONG_FLOWS
    traffic.SHORT_FLOWS_PER_SECOND = SHORT_FLOWS_PER_SECOND
    traffic.INTERVAL = INTERVAL
    return traffic.main()


if __name__ == "__main__":
    sys.exit(main())
