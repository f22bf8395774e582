# SPDX-License-Identifier: Apache-2.0
"""A restart as one transaction: state machine, journal, steps, drain, adoption."""
