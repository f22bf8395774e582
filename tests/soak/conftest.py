# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""A host and a service as the kernel tests have them."""

from __future__ import annotations

from tests.kernel.conftest import bare_host, cache, cgroup, host, own_host, own_network
from tests.kernel.restart_fixtures import edge

__all__ = ["bare_host", "cache", "cgroup", "edge", "host", "own_host", "own_network"]
