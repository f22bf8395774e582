# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Shared by tests, the demo, benchmarks and scenarios: traffic, hosts, daemons, waiting."""
