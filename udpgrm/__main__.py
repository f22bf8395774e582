# SPDX-License-Identifier: Apache-2.0
"""python3 -m udpgrm."""

from udpgrm.cli.main import run

run()
