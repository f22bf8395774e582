# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The name of testing.host in scripts outside of this repository."""

from testing.host import COMMAND, ROOT, Host, remove_cgroup, remove_pins

__all__ = ["COMMAND", "ROOT", "Host", "remove_cgroup", "remove_pins"]
