# SPDX-License-Identifier: Apache-2.0
"""Probes: questions to a service over the network, and the evaluation of replies."""
