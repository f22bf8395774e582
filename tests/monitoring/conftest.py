# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The host of tests/kernel, for what watches it."""

from tests.kernel.conftest import bare_host, cache, cgroup, host, own_host, own_network

__all__ = ["bare_host", "cache", "cgroup", "host", "own_host", "own_network"]
