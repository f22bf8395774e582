# SPDX-License-Identifier: Apache-2.0
"""Probes: ask a service over the network, and evaluate what comes back."""
