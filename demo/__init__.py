# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The demo: three hosts, real traffic, a restart, and a count of what was lost."""
