# SPDX-License-Identifier: Apache-2.0
"""Metrics of groups, generations and the daemon, for Prometheus."""
